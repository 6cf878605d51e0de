package deb_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/source/deb"
	"quorate.dev/lockfile/source/deb/debtest"
)

// world is a small distribution: an Essential set of two, a service with a
// helper that only its scripts need, a virtual package, a library with a
// security update, and an opt-out.
const world = `
-- base/control --
Package: base
Version: 1
Essential: yes
Depends: shell
-- shell/control --
Package: shell
Version: 1
-- usr-is-merged/control --
Package: usr-is-merged
Version: 37
-- libssl/control --
Package: libssl
Version: 3.0-1
Multi-Arch: same
Architecture: amd64
-- libssl@security/control --
Package: libssl
Version: 3.0-1+deb12u1
Multi-Arch: same
Architecture: amd64
-- server/control --
Package: server
Version: 2:1.0-1
Architecture: amd64
Depends: libssl (>= 3.0), server-common (= 2:1.0-1)
Pre-Depends: setup | setup-tiny
-- server-common/control --
Package: server-common
Version: 2:1.0-1
Depends: setup
-- setup/control --
Package: setup
Version: 1.5
Depends: perl
-- setup-tiny/control --
Package: setup-tiny
Version: 1.5
-- perl/control --
Package: perl
Version: 5.36
Provides: perlapi (= 5.36)
-- postmaster/control --
Package: postmaster
Provides: mta
Conflicts: mta
-- exim/control --
Package: exim
Provides: mta
Conflicts: mta
-- editor/control --
Package: editor-real
Provides: editor
-- broken/control --
Package: broken
Depends: perl (>= 6)
`

var amd64 = definition.Platform{OS: "linux", Architecture: "amd64"}

func query(a *debtest.Archive, sets ...lockfile.SetRequest) deb.Query {
	return deb.Query{
		Suite: a.Suite, Components: []string{"main"}, Pockets: []string{"updates", "security"},
		SignedBy: [][]byte{a.Key}, Platforms: []definition.Platform{amd64}, Sets: sets,
	}
}

func step(packages ...string) lockfile.SetRequest {
	return lockfile.SetRequest{Name: "step/s", Packages: packages}
}

func source(t *testing.T, a *debtest.Archive) *deb.Source {
	t.Helper()
	return sourceWith(t, a, debtest.Apt{})
}

// apts is the stand-in, and where there is one, the real apt: the same sets
// must come out of both.
func apts(t *testing.T) map[string]deb.Apt {
	m := map[string]deb.Apt{"stand-in": debtest.Apt{}}
	if _, err := os.Stat("/usr/bin/apt-get"); err == nil {
		m["apt"] = deb.MachineApt{}
	} else {
		t.Logf("not held against apt: %v", err)
	}
	return m
}

func sourceWith(t *testing.T, a *debtest.Archive, apt deb.Apt) *deb.Source {
	t.Helper()
	m, err := deb.ParseMirror("test", a.URL)
	if err != nil {
		t.Fatal(err)
	}
	return deb.New(deb.Options{Mirrors: []deb.Mirror{m}, Cache: t.TempDir(), Scratch: t.TempDir(), Apt: apt})
}

// describe writes a platform as lines "name version archive set:by …".
func describe(p lockfile.Platform) string {
	var b strings.Builder
	for _, k := range p.Packages {
		fmt.Fprintf(&b, "%s %s %s", k.Name, k.Version, k.Archive)
		for _, m := range k.In {
			fmt.Fprintf(&b, " %s:%s", m.Set, m.By)
		}
		b.WriteString("\n")
	}
	for _, w := range p.Waived {
		fmt.Fprintf(&b, "%s waives %s\n", w.Package, w.Needs)
	}
	return b.String()
}

func TestSets(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	for name, apt := range apts(t) {
		t.Run(name, func(t *testing.T) { testSets(t, a, sourceWith(t, a, apt)) })
	}
}

func testSets(t *testing.T, a *debtest.Archive, s *deb.Source) {
	for _, test := range []struct {
		summary string
		set     lockfile.SetRequest
		want    string
	}{{
		summary: "a step has the Essential set and what it asks for",
		set:     step("libssl"),
		want: `
base 1 bookworm step/s:essential
libssl 3.0-1+deb12u1 bookworm-security step/s:requested
shell 1 bookworm step/s:base
usr-is-merged 37 bookworm step/s:essential
`,
	}, {
		summary: "a step that asks for nothing has the Essential set",
		set:     step(),
		want: `
base 1 bookworm step/s:essential
shell 1 bookworm step/s:base
usr-is-merged 37 bookworm step/s:essential
`,
	}, {
		summary: "an image without the Essential set ships its closure and configures in the whole",
		set:     lockfile.SetRequest{Name: "image", Packages: []string{"server"}, Scripts: "dpkg"},
		want: `
base 1 bookworm configure:essential
libssl 3.0-1+deb12u1 bookworm-security image:server
perl 5.36 bookworm image:setup
server 2:1.0-1 bookworm image:requested
server-common 2:1.0-1 bookworm image:server
setup 1.5 bookworm image:server
shell 1 bookworm configure:base
usr-is-merged 37 bookworm configure:essential
`,
	}, {
		summary: "what is left out takes along what only it needs, and is waived",
		set:     lockfile.SetRequest{Name: "image", Packages: []string{"server"}, Scripts: "dpkg", Without: []string{"setup"}},
		want: `
base 1 bookworm configure:essential
libssl 3.0-1+deb12u1 bookworm-security image:server
perl 5.36 bookworm configure:setup
server 2:1.0-1 bookworm image:requested
server-common 2:1.0-1 bookworm image:server
setup 1.5 bookworm configure:server
shell 1 bookworm configure:base
usr-is-merged 37 bookworm configure:essential
server waives setup
server-common waives setup
`,
	}, {
		summary: "an image with the Essential set ships everything",
		set:     lockfile.SetRequest{Name: "image", Packages: []string{"perl"}, Scripts: "dpkg", Essential: true},
		want: `
base 1 bookworm image:essential
perl 5.36 bookworm image:requested
shell 1 bookworm image:base
usr-is-merged 37 bookworm image:essential
`,
	}, {
		summary: "without scripts there is only the image, and what is left out is dropped",
		set:     lockfile.SetRequest{Name: "image", Packages: []string{"server"}, Scripts: "none", Without: []string{"setup"}},
		want: `
libssl 3.0-1+deb12u1 bookworm-security image:server
server 2:1.0-1 bookworm image:requested
server-common 2:1.0-1 bookworm image:server
server waives setup
server-common waives setup
`,
	}, {
		summary: "an image of files only needs no package",
		set:     lockfile.SetRequest{Name: "image", Scripts: "dpkg"},
		want:    "\n",
	}, {
		summary: "a version can be asked for",
		set:     lockfile.SetRequest{Name: "image", Packages: []string{"libssl=3.0-1"}, Scripts: "none"},
		want:    "\nlibssl 3.0-1 bookworm image:requested\n",
	}, {
		summary: "a virtual package of one provider is that provider",
		set:     lockfile.SetRequest{Name: "image", Packages: []string{"editor"}, Scripts: "none"},
		want:    "\neditor-real 1.0 bookworm image:requested\n",
	}} {
		t.Run(test.summary, func(t *testing.T) {
			answer, err := s.Resolve(context.Background(), query(a, test.set))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimPrefix(test.want, "\n"), describe(answer.Platforms[0])); diff != "" {
				t.Error(diff)
			}
			if want := (lockfile.Resolver{Name: "apt", Version: "2.6.1"}); answer.Resolver != want {
				t.Errorf("resolver is %v, expected %v", answer.Resolver, want)
			}
		})
	}
}

func TestRequestsThatCannotBe(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	s := source(t, a)
	for _, test := range []struct {
		summary string
		set     lockfile.SetRequest
		want    string
	}{{
		summary: "a misspelt name",
		set:     step("sevrer"),
		want:    `cannot find package "sevrer" in bookworm (amd64); nearest: server`,
	}, {
		summary: "a name like no other",
		set:     step("zzzzzzzzzzzz"),
		want:    `cannot find package "zzzzzzzzzzzz" in bookworm (amd64)`,
	}, {
		summary: "a virtual package of several",
		set:     step("mta"),
		want:    `cannot choose a package for "mta" in bookworm (amd64): it is a virtual package; name one of its providers: exim, postmaster`,
	}, {
		summary: "a version that is not there",
		set:     step("libssl=2"),
		want:    `cannot find version "2" of package "libssl" in bookworm (amd64); there is: 3.0-1+deb12u1, 3.0-1`,
	}, {
		summary: "a name to leave out that is not there",
		set:     lockfile.SetRequest{Name: "image", Packages: []string{"perl"}, Scripts: "dpkg", Without: []string{"shel"}},
		want:    `cannot find package "shel" in bookworm (amd64); nearest: shell`,
	}, {
		summary: "a package asked for and left out",
		set:     lockfile.SetRequest{Name: "image", Packages: []string{"perl"}, Scripts: "dpkg", Without: []string{"perl"}},
		want:    `cannot read package request "perl": "without" leaves the same package out`,
	}, {
		summary: "an option instead of a name",
		set:     step("--reinstall"),
		want:    `cannot read package request "--reinstall": "--reinstall" is not a package name: lower-case letters, digits, "+", "-" and ".", at least two`,
	}, {
		summary: "a need that nothing meets",
		set:     step("broken"),
		want:    "cannot choose packages for \"step/s\" (amd64): broken\n\tbroken : Depends: perl (>= 6) but it is not installable",
	}, {
		summary: "two that exclude each other",
		set:     step("exim", "postmaster"),
		want:    "cannot choose packages for \"step/s\" (amd64): exim postmaster\n\texim : Conflicts: mta",
	}} {
		t.Run(test.summary, func(t *testing.T) {
			_, err := s.Resolve(context.Background(), query(a, test.set))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTwoVersionsOfOnePackage(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	_, err := source(t, a).Resolve(context.Background(), query(a,
		lockfile.SetRequest{Name: "image", Packages: []string{"libssl=3.0-1"}, Scripts: "none"}, step("libssl")))
	want := `cannot lock two versions of package "libssl:amd64": 3.0-1 for "image" and 3.0-1+deb12u1 for "step/s"; ask for the same version in both`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// plain makes URLs, times and keys of an error message comparable.
func plain(err error, a *debtest.Archive) string {
	s := strings.ReplaceAll(err.Error(), strings.TrimSuffix(a.URL, "/debian"), "URL")
	s = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`).ReplaceAllString(s, "TIME")
	s = regexp.MustCompile(`sha256:[0-9a-f]{64}`).ReplaceAllString(s, "DIGEST")
	s = regexp.MustCompile(`by-hash/SHA256/[0-9a-f]{64}`).ReplaceAllString(s, "by-hash/HASH")
	return regexp.MustCompile(`[0-9A-F]{16}`).ReplaceAllString(s, "KEY")
}

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		fault debtest.Fault
		want  string
		as    any
	}{
		{debtest.Expired, `URL/debian/dists/bookworm/InRelease was valid until TIME, and it is TIME`, new(*deb.ExpiredError)},
		{debtest.Future, `URL/debian/dists/bookworm/InRelease is dated TIME, but it is TIME here`, new(*deb.ExpiredError)},
		{debtest.WrongKey, `cannot trust URL/debian/dists/bookworm/InRelease: none of its signatures is by a known key (signed by KEY)`, new(*deb.SignatureError)},
		{debtest.Unsigned, `cannot trust URL/debian/dists/bookworm/InRelease: it does not begin with a signed message`, new(*deb.SignatureError)},
		{debtest.Tampered, `cannot trust URL/debian/dists/bookworm/InRelease: the signature by KEY does not hold: openpgp: invalid signature: EdDSA verification failure (signed by KEY)`, new(*deb.SignatureError)},
		{debtest.Truncated, `cannot trust URL/debian/dists/bookworm/InRelease: it is cut off, or does not hold exactly one signature block`, new(*deb.SignatureError)},
		{debtest.Trailing, `cannot trust URL/debian/dists/bookworm/InRelease: there is text after the signature`, new(*deb.SignatureError)},
		{debtest.WrongSuite, `URL/debian/dists/bookworm/InRelease: it is of suite "sarge", codename "sarge", expected "bookworm"`, new(*deb.IndexError)},
		{debtest.WrongHash, `URL/debian/dists/bookworm/main/binary-amd64/by-hash/HASH: bytes have digest DIGEST, expected DIGEST`, new(*deb.IndexError)},
		{debtest.TruncatedPackages, `URL/debian/dists/bookworm/main/binary-amd64/by-hash/HASH: ended after N bytes, expected N`, new(*deb.IndexError)},
		{debtest.BadPackages, `URL/debian/dists/bookworm/main/binary-amd64/Packages:1: line is neither a field nor a continuation: "this is no index"`, new(*deb.IndexError)},
	} {
		t.Run(string(test.fault), func(t *testing.T) {
			a := debtest.New(t, world, debtest.Options{Faults: []debtest.Fault{test.fault}})
			_, err := source(t, a).Resolve(context.Background(), query(a, step()))
			if err == nil {
				t.Fatal("no error")
			}
			got := regexp.MustCompile(`\d+ bytes`).ReplaceAllString(plain(err, a), "N bytes")
			got = regexp.MustCompile(`expected \d+$`).ReplaceAllString(got, "expected N")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if !errors.As(err, test.as) {
				t.Errorf("error is a %T, expected a %T", err, test.as)
			}
		})
	}
}

func TestNoRollback(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	a, err := debtest.Build(dir, world, debtest.Options{Date: now.Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	s := source(t, a)
	answer, err := s.Resolve(context.Background(), query(a, step()))
	if err != nil {
		t.Fatal(err)
	}
	if a, err = debtest.Build(dir, world, debtest.Options{Date: now.Add(-48 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	q := query(a, step())
	q.Previous = deb.Previous{Archives: answer.Archives}
	_, err = s.Resolve(context.Background(), q)
	var rollback *deb.RollbackError
	if !errors.As(err, &rollback) {
		t.Fatalf("got %v, expected a RollbackError", err)
	}
	q.AllowOlder = true
	if _, err := s.Resolve(context.Background(), q); err != nil {
		t.Errorf("with AllowOlder: %v", err)
	}
}

func TestUnknownSuite(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	q := query(a, step())
	q.Suite = "bokworm"
	_, err := source(t, a).Resolve(context.Background(), q)
	want := `cannot get the signed index of suite "bokworm"; URL/debian/dists/bokworm/InRelease answered 404`
	if err == nil || plain(err, a) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestUnsupported(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	for _, test := range []struct {
		summary string
		change  func(*deb.Query)
		want    string
	}{
		{"architecture", func(q *deb.Query) { q.Platforms[0] = definition.Platform{OS: "linux", Architecture: "riscv64"} },
			`suite "bookworm" has no architecture "riscv64"; it has: all, amd64, arm64`},
		{"component", func(q *deb.Query) { q.Components = []string{"main", "nonfree"} },
			`suite "bookworm" has no component "nonfree"; it has: main`},
		{"pocket twice", func(q *deb.Query) { q.Pockets = []string{"updates", "updates"} },
			`cannot use pocket "updates": it is named twice`},
		{"pocket that climbs", func(q *deb.Query) { q.Pockets = []string{"../x"} },
			`cannot use pocket "../x": it is not a pocket's name`},
		{"suite that climbs", func(q *deb.Query) { q.Suite = "../x" },
			`cannot use suite "../x": it is not a suite's name`},
		{"platform", func(q *deb.Query) { q.Platforms[0] = definition.Platform{OS: "plan9", Architecture: "amd64"} },
			`cannot use platform "plan9/amd64": Debian has no architecture for it`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			q := query(a, step())
			test.change(&q)
			_, err := source(t, a).Resolve(context.Background(), q)
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestOtherArchitecture(t *testing.T) {
	const text = world + `
-- tool/control --
Package: tool
Version: 7
Architecture: arm64
-- libssl-arm/control --
Package: libssl
Version: 3.0-1+deb12u1
Multi-Arch: same
Architecture: arm64
`
	a := debtest.New(t, text, debtest.Options{})
	q := query(a, lockfile.SetRequest{Name: "image", Packages: []string{"tool"}, Scripts: "none"})
	q.Platforms = []definition.Platform{{OS: "linux", Architecture: "arm64"}}
	answer, err := source(t, a).Resolve(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("tool 7 bookworm image:requested\n", describe(answer.Platforms[0])); diff != "" {
		t.Error(diff)
	}
}

func TestUpdateKeepsTheRest(t *testing.T) {
	const before = `
-- base/control --
Package: base
Version: 1
Essential: yes
-- app/control --
Package: app
Version: 1
Depends: lib (>= 1), app-data (= 1), other
-- app-data/control --
Package: app-data
Version: 1
-- lib/control --
Package: lib
Version: 1
-- other/control --
Package: other
Version: 1
-- gone/control --
Package: gone
Version: 1
`
	// The pocket holds new versions beside the old ones, but for "gone".
	after := strings.Replace(before, "-- gone/control --\nPackage: gone\nVersion: 1\n", "", 1) + `
-- app@updates/control --
Package: app
Version: 2
Depends: lib (>= 2), app-data (= 2), other
-- app-data@updates/control --
Package: app-data
Version: 2
-- lib@updates/control --
Package: lib
Version: 2
-- other@updates/control --
Package: other
Version: 2
-- gone@updates/control --
Package: gone
Version: 2
`
	for name, apt := range apts(t) {
		t.Run(name, func(t *testing.T) { testUpdate(t, before, after, apt) })
	}
}

func testUpdate(t *testing.T, before, after string, apt deb.Apt) {
	dir := t.TempDir()
	a, err := debtest.Build(dir, before, debtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := sourceWith(t, a, apt)
	old, err := s.Resolve(context.Background(), query(a, step("app", "gone")))
	if err != nil {
		t.Fatal(err)
	}
	if a, err = debtest.Build(dir, after, debtest.Options{}); err != nil {
		t.Fatal(err)
	}
	q := query(a, step("app", "gone"))
	q.Previous = deb.Previous{Archives: old.Archives, Platforms: old.Platforms}
	q.Keep, q.Update = true, []string{"app-data"}
	answer, err := s.Resolve(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	const want = `app 2 bookworm-updates step/s:requested
app-data 2 bookworm-updates step/s:app
base 1 bookworm step/s:essential
gone 2 bookworm-updates step/s:requested
lib 2 bookworm-updates step/s:app
other 1 bookworm step/s:app
`
	if diff := cmp.Diff(want, describe(answer.Platforms[0])); diff != "" {
		t.Error(diff)
	}
	var moved []string
	for _, m := range answer.Moved {
		moved = append(moved, m.String())
	}
	wantMoved := []string{
		`app moves from 1 to 2: it needs app-data (= 1)`,
		`gone moves from 1 to 2: the archive no longer has that version`,
		`lib moves from 1 to 2: app needs lib (>= 2)`,
	}
	if diff := cmp.Diff(wantMoved, moved); diff != "" {
		t.Error(diff)
	}
	q.Update = []string{"ap-data"}
	_, err = s.Resolve(context.Background(), q)
	if want := `cannot find package "ap-data" in the lock (linux/amd64); nearest: app-data`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCacheIsVerified(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	m, err := deb.ParseMirror("test", a.URL)
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	read := 0
	s := deb.New(deb.Options{Mirrors: []deb.Mirror{m}, Cache: cache, Apt: debtest.Apt{}, Events: func(e deb.Event) {
		if strings.Contains(e.Text, "by-hash") {
			read++
		}
	}})
	resolve := func(wantRead int) {
		t.Helper()
		read = 0
		if _, err := s.Resolve(context.Background(), query(a, step("libssl"))); err != nil {
			t.Fatal(err)
		}
		if read != wantRead {
			t.Errorf("read %d lists of packages, expected %d", read, wantRead)
		}
	}
	resolve(3)
	resolve(0)
	files, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("cache holds %v, %v", files, err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte("damaged"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	resolve(3)
}

func TestNetworkErrorsAreRetried(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	var asked atomic.Int32
	files := http.FileServer(http.Dir(a.Dir))
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/bookworm/InRelease") && asked.Add(1) == 1:
			w.WriteHeader(http.StatusBadGateway)
		case strings.HasSuffix(r.URL.Path, "/bookworm/InRelease") && asked.Load() == 2:
			w.Header().Set("Content-Length", "1000") // and then the connection breaks
			fmt.Fprint(w, "-----BEGIN PGP")
		default:
			files.ServeHTTP(w, r)
		}
	}))
	defer flaky.Close()
	a.URL = flaky.URL + "/debian"
	if _, err := source(t, a).Resolve(context.Background(), query(a, step())); err != nil {
		t.Fatal(err)
	}
	if asked.Load() != 3 {
		t.Errorf("asked %d times, expected 3", asked.Load())
	}
}

func TestFileMirror(t *testing.T) {
	a, err := debtest.Build(t.TempDir(), world, debtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := source(t, a).Resolve(context.Background(), query(a, step("server")))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range answer.Platforms[0].Packages {
		root := "debian"
		if p.Archive == "bookworm-security" {
			root = "debian-security"
		}
		info, err := os.Stat(filepath.Join(a.Dir, root, p.Path))
		if err != nil || info.Size() != p.Size {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	m, err := deb.ParseMirror("test", a.URL)
	if err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	s := deb.New(deb.Options{Mirrors: []deb.Mirror{m}, Scratch: scratch, Apt: debtest.Apt{}})
	for _, name := range []string{"libssl", "nosuch", "broken"} {
		_, _ = s.Resolve(context.Background(), query(a, step(name)))
		if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
			t.Errorf("after %q, left behind: %v, %v", name, left, err)
		}
	}
}

func TestLocations(t *testing.T) {
	s := deb.New(deb.Options{
		Mirrors:  []deb.Mirror{{Main: "https://one.example/debian", Security: "https://one.example/sec"}, {Main: "file:///two"}},
		Snapshot: deb.SnapshotService,
	})
	archives := []lockfile.Archive{
		{Name: "bookworm", Date: time.Date(2026, 7, 11, 10, 16, 37, 0, time.UTC)},
		{Name: "bookworm-security", Date: time.Date(2026, 11, 20, 0, 12, 41, 0, time.UTC)},
	}
	for _, test := range []struct {
		pkg  lockfile.Package
		want []string
	}{{
		lockfile.Package{Archive: "bookworm", Path: "pool/main/g/g++/g++_4%3a12~1_amd64.deb"},
		[]string{
			"https://one.example/debian/pool/main/g/g%2B%2B/g%2B%2B_4%253a12~1_amd64.deb",
			"file:///two/pool/main/g/g%2B%2B/g%2B%2B_4%253a12~1_amd64.deb",
			"https://snapshot.debian.org/archive/debian/20260711T101637Z/pool/main/g/g%2B%2B/g%2B%2B_4%253a12~1_amd64.deb",
		},
	}, {
		lockfile.Package{Archive: "bookworm-security", Path: "pool/x.deb"},
		[]string{
			"https://one.example/sec/pool/x.deb",
			"https://snapshot.debian.org/archive/debian-security/20261120T001241Z/pool/x.deb",
		},
	}} {
		if diff := cmp.Diff(test.want, s.Locations(test.pkg, archives)); diff != "" {
			t.Error(diff)
		}
	}
}

// failing is an apt that cannot run, or whose answer cannot be believed.
type failing struct {
	code   int
	stdout string
}

func (f failing) Run(_ context.Context, r deb.AptRun) error {
	fmt.Fprint(r.Stdout, f.stdout)
	fmt.Fprintln(r.Stderr, "E: something about libraries")
	if f.code != 0 {
		return exitCode(f.code)
	}
	return nil
}

type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }
func (e exitCode) ExitCode() int { return int(e) }

func TestAptThatFails(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	m, err := deb.ParseMirror("test", a.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		apt  failing
		want string
	}{
		{failing{code: 127}, "cannot run apt: exit status 127; it said: E: something about libraries"},
		{failing{code: 100}, "cannot choose packages for \"step/s\" (amd64): perl\n\tsomething about libraries"},
		{failing{stdout: "hello\n"}, `cannot believe apt's answer for "step/s": it holds the line "hello"`},
		{failing{}, `cannot believe apt's answer for "step/s": it lacks "perl", which was asked for`},
	} {
		_, err := deb.New(deb.Options{Mirrors: []deb.Mirror{m}, Apt: test.apt}).Resolve(context.Background(), query(a, step("perl")))
		if fmt.Sprint(err) != test.want {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
	}
}

// The archives that tests are made of are held against dpkg, where there is one.
func TestDebtestPackagesAreReal(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg-deb")
	if err != nil {
		t.Logf("not held against dpkg-deb: %v", err)
		return
	}
	a, err := debtest.Build(t.TempDir(), `
-- hello/control --
Package: hello
Version: 1:2-3
-- hello/data/usr/bin/hello --
#!/bin/sh
-- hello/link/usr/bin/hi --
hello
`, debtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(a.Dir, "debian/pool/main/h/hello/hello_2-3_all.deb")
	out, err := exec.Command(dpkg, "-c", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		names = append(names, f[0]+" "+strings.Join(f[5:], " "))
	}
	want := []string{"drwxr-xr-x ./", "drwxr-xr-x ./usr/", "drwxr-xr-x ./usr/bin/", "-rwxr-xr-x ./usr/bin/hello", "lrwxrwxrwx ./usr/bin/hi -> hello"}
	if !slices.Equal(names, want) {
		t.Errorf("got %q\nwant %q", names, want)
	}
}
