package npm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/sourcetest"
)

// registry serves tarballs by name@version, made of text.
type registry struct {
	*httptest.Server
	spoiled atomic.Bool
}

func newRegistry(t *testing.T) *registry {
	r := &registry{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name, file, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/-/")
		version := strings.TrimSuffix(strings.TrimPrefix(file, path.Base(name)+"-"), ".tgz")
		if !ok || file != path.Base(name)+"-"+version+".tgz" || name == "gone" {
			http.NotFound(w, req)
			return
		}
		text := "exports.name = '" + name + "'\n"
		if r.spoiled.Load() {
			text = "steal()\n"
		}
		w.Write(pack(name, version, text))
	}))
	t.Cleanup(r.Close)
	return r
}

// pack makes a tarball as npm pack does.
func pack(name, version, text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range [][2]string{{"package/package.json", fmt.Sprintf(`{"name":%q,"version":%q}`, name, version)}, {"package/index.js", text}} {
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f[0], Size: int64(len(f[1])), Mode: 0o644})
		_, _ = w.Write([]byte(f[1]))
	}
	_ = w.Close()
	_ = z.Close()
	return b.Bytes()
}

func integrity(name, version string) string {
	sum := sha512.Sum512(pack(name, version, "exports.name = '"+name+"'\n"))
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

// lockText is a lock file of entries that are already JSON.
func lockText(entries ...string) string {
	return "{\n \"lockfileVersion\": 3,\n \"packages\": {\n  " + strings.Join(entries, ",\n  ") + "\n }\n}\n"
}

func plain(name, version, more string) string {
	return fmt.Sprintf(`"node_modules/%s": {"version": %q, "integrity": %q%s}`, name, version, integrity(name, version), more)
}

const root = `"": {"name": "app", "dependencies": {"left": "^1.0.0", "@scope/right": "2"}}`

func TestContract(t *testing.T) {
	sourcetest.Test(t, func(t *testing.T) *sourcetest.World {
		r := newRegistry(t)
		with := func(entries ...string) map[string]string {
			return map[string]string{"web/" + FileName: lockText(append([]string{root}, entries...)...)}
		}
		return &sourcetest.World{
			Kind:    New(Options{Config: &Config{Registries: Registries{"": r.URL}}}),
			Request: lockfile.InputRequest{Name: "packages", Kind: lockfile.KindNpm, Ask: lockfile.Facts{"from": "app", "path": "web"}},
			Tree: map[string]string{"web/" + FileName: lockText(root,
				plain("left", "1.2.3", `, "dependencies": {"deep": "1"}`),
				plain("@scope/right", "2.0.0", ""),
				plain("deep", "1.0.0", ""),
				plain("for-windows", "1.0.0", `, "os": ["win32"], "optional": true`),
				`"node_modules/mine": {"resolved": "packages/mine", "link": true}`,
				`"packages/mine": {"version": "0.0.1"}`,
				`"node_modules/left/node_modules/bundled": {"version": "9.0.0", "inBundle": true}`,
			)},
			Spoil: func() { r.spoiled.Store(true) },
			Down:  r.Close,
			Refused: []sourcetest.Refused{
				{Summary: "no lock", Tree: map[string]string{"web/" + FileName: ""}, Error: `there is no web/package-lock.json in input "app"; npm writes one with: npm install --package-lock-only`},
				{Summary: "another tool's lock", Tree: map[string]string{"web/" + FileName: "", "web/yarn.lock": "# yarn lockfile v1\n"}, Error: `there is no web/package-lock.json in input "app", only yarn.lock, which is not read; npm takes over what it says with: npm install --package-lock-only`},
				{Summary: "npm's lock under another name", Tree: map[string]string{"web/" + FileName: "", "web/npm-shrinkwrap.json": "{}"}, Error: `only npm-shrinkwrap.json, which is not read; it has the same form; rename it`},
				{Summary: "version 4", Tree: map[string]string{"web/" + FileName: `{"lockfileVersion": 4, "packages": {"": {}}}`}, Error: "web/package-lock.json:1: lockfileVersion is 4, expected 2 or 3; run: npm install --package-lock-only --lockfile-version 3"},
				{Summary: "gone from the registry", Tree: with(plain("gone", "1.0.0", "")), Error: "web/package-lock.json:5: cannot lock gone 1.0.0:\n"},
				{Summary: "version 1", Tree: map[string]string{"web/" + FileName: `{"lockfileVersion": 1, "dependencies": {}}`}, Error: "web/package-lock.json:1: lockfileVersion is 1, expected 2 or 3; run: npm install --package-lock-only --lockfile-version 3"},
				{Summary: "not JSON", Tree: map[string]string{"web/" + FileName: "{\n<<<<<<< HEAD\n"}, Error: "web/package-lock.json:2: it is not JSON as npm writes it: invalid character '<'"},
				{Summary: "cut off", Tree: map[string]string{"web/" + FileName: "{\n\"packages\": {\n\"\": {}"}, Error: "web/package-lock.json:3: it is not JSON as npm writes it: "},
				{Summary: "no project", Tree: map[string]string{"web/" + FileName: lockText()}, Error: `web/package-lock.json:1: it has no entry "" in "packages"`},
				{Summary: "no integrity", Tree: with(`"node_modules/a": {"version": "1.0.0"}`), Error: `web/package-lock.json:5: package "a" has no integrity, so nothing says which bytes are meant`},
				{Summary: "weak integrity", Tree: with(`"node_modules/a": {"version": "1.0.0", "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}`), Error: `web/package-lock.json:5: package "a" has the integrity "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", expected one by sha512; npm asks the registry for it again after: sed -i '/"integrity": "sha1-/d' package-lock.json && npm install --package-lock-only`},
				{Summary: "weak integrities", Tree: with(`"node_modules/a": {"version": "1.0.0", "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}`, `"node_modules/b": {"version": "1.0.0", "integrity": "sha1-3jmj7l5rSw0yVb/vlWAYkK/YBwk="}`), Error: `package "a" has the integrity "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", as have 1 more, expected one by sha512`},
				{Summary: "no integrity at all", Tree: with(`"node_modules/a": {"version": "1.0.0", "integrity": "x'; rm -rf /"}`), Error: `package "a" has the integrity "x'; rm -rf /", expected one by sha512; delete its entry, then run: npm install`},
				{Summary: "git", Tree: with(`"node_modules/a": {"version": "1.0.0", "resolved": "git+ssh://git@example.org/a.git#0123456789012345678901234567890123456789"}`), Error: `web/package-lock.json:5: package "a" comes from a git repository (git+ssh://git@example.org/a.git#0123456789012345678901234567890123456789)`},
				{Summary: "a link that leads out", Tree: with(`"node_modules/a": {"resolved": "../other", "link": true}`), Error: `web/package-lock.json:5: "node_modules/a" is a link to "../other", which is outside of the project's folder`},
				{Summary: "a hostile place", Tree: with(`"node_modules/../../a": {"version": "1.0.0"}`), Error: `web/package-lock.json:5: "node_modules/../../a" is no place in a project`},
				{Summary: "a hostile name", Tree: with(`"node_modules/a": {"name": "../a", "version": "1.0.0"}`), Error: `web/package-lock.json:5: "../a" is not the name of a package`},
				{Summary: "a hostile version", Tree: with(`"node_modules/a": {"version": "1/../../x"}`), Error: `web/package-lock.json:5: package "a" has the version "1/../../x", which is none`},
				{Summary: "a secret", Tree: with(`"node_modules/a": {"version": "1.0.0", "resolved": "https://me:secret@example.org/a/-/a-1.0.0.tgz"}`), Error: `web/package-lock.json:5: the URL of package "a" holds a user name or password`},
				{Summary: "twice", Tree: with(plain("a", "1.0.0", ""), plain("a", "1.0.0", "")), Error: `web/package-lock.json:6: "node_modules/a" stands twice`},
				{Summary: "two integrities", Tree: with(plain("a", "1.0.0", ""), fmt.Sprintf(`"node_modules/b/node_modules/a": {"version": "1.0.0", "integrity": %q}`, integrity("b", "1.0.0"))), Error: "a/-/a-1.0.0.tgz is to be sha512-"},
				{Summary: "other bytes", Tree: with(fmt.Sprintf(`"node_modules/a": {"version": "1.0.0", "integrity": %q}`, integrity("b", "1.0.0"))), Error: "web/package-lock.json:5: a 1.0.0 is " + integrity("a", "1.0.0") + " there, and should be " + integrity("b", "1.0.0")},
			},
		}
	})
}

var platforms = []definition.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}

func TestPins(t *testing.T) {
	text := lockText(root,
		plain("left", "1.2.3", `, "resolved": "https://registry.example/left/-/left-1.2.3.tgz", "dependencies": {"deep": "1"}`),
		plain("@scope/right", "2.0.0", `, "resolved": "https://registry.example/npm/@scope/right/-/right-2.0.0.tgz"`),
		plain("deep", "1.0.0", `, "resolved": "https://other.example/deep/-/deep-1.0.0.tgz"`),
		plain("elsewhere", "1.0.0", `, "resolved": "https://files.example/x/elsewhere.tar.gz"`),
		plain("fast-x64", "1.0.0", `, "os": ["linux"], "cpu": ["x64"], "optional": true`),
		plain("fast-mac", "1.0.0", `, "os": "darwin", "optional": true`),
		plain("not-mac", "1.0.0", `, "os": ["!darwin"]`),
		strings.Replace(plain("alias", "3.0.0", `, "name": "real"`), integrity("alias", "3.0.0"), integrity("real", "3.0.0"), 1),
		strings.Replace(plain("deep", "1.0.0", ""), "node_modules/deep", "node_modules/left/node_modules/deep", 1),
		`"node_modules/tar": {"version": "1.0.0", "resolved": "file:vendor/tar.tgz"}`,
	)
	l, err := parse(FileName, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	pins, lines, err := l.pins(platforms)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, p := range pins {
		got = append(got, strings.TrimSpace(strings.Join([]string{fmt.Sprint(lines[i]), p.Name, p.Version, p.Path, p.Platform, p.URL, p.By}, " ")))
	}
	want := []string{
		"6 @scope/right 2.0.0 @scope/right/-/right-2.0.0.tgz   requested",
		"13 deep 1.0.0 deep/-/deep-1.0.0.tgz   left",
		"9 fast-x64 1.0.0 fast-x64/-/fast-x64-1.0.0.tgz linux/amd64",
		"5 left 1.2.3 left/-/left-1.2.3.tgz   requested",
		"11 not-mac 1.0.0 not-mac/-/not-mac-1.0.0.tgz",
		"12 real 3.0.0 real/-/real-3.0.0.tgz",
		"8 elsewhere 1.0.0 url/files.example/x/elsewhere.tar.gz  https://files.example/x/elsewhere.tar.gz",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What needs a package is named as it is locked itself: not by an alias, and not
// when it is left out on the platforms that are asked for.
func TestPinsOfNeeders(t *testing.T) {
	text := lockText(root,
		strings.Replace(plain("alias", "3.0.0", `, "name": "real", "dependencies": {"deep": "1"}`), integrity("alias", "3.0.0"), integrity("real", "3.0.0"), 1),
		plain("deep", "1.0.0", ""),
		plain("fsevents", "1.2.13", `, "os": ["darwin"], "optional": true, "dependencies": {"nan": "2", "bindings": "1"}`),
		plain("nan", "2.0.0", `, "optional": true`),
		plain("bindings", "1.5.0", `, "optional": true`),
		plain("left", "1.2.3", `, "dependencies": {"bindings": "1"}`),
		`"node_modules/left/node_modules/bundled": {"version": "9.0.0", "inBundle": true, "dependencies": {"last": "1"}}`,
		plain("last", "1.0.0", ""),
	)
	l, err := parse(FileName, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	pins, _, err := l.pins(platforms)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range pins {
		got = append(got, p.Name+" by "+p.By)
	}
	if want := []string{"bindings by left", "deep by real", "last by ", "left by requested", "nan by ", "real by "}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlaces(t *testing.T) {
	c := &Config{Registries: Registries{"": "https://mirror.example/", "@corp": "https://corp.example/npm/"}}
	for _, test := range []struct{ summary, name, path, url, want string }{
		{"of the registry", "a", "a/-/a-1.tgz", "", "https://mirror.example/a/-/a-1.tgz"},
		{"of a scope", "@corp/a", "@corp/a/-/a-1.tgz", "", "https://corp.example/npm/@corp/a/-/a-1.tgz"},
		{"with another place", "a", "a/-/a-1.tgz", "https://x.example/a.tgz", "https://mirror.example/a/-/a-1.tgz https://x.example/a.tgz"},
	} {
		sources, err := New(Options{Config: c}).Open(lockfile.InputRequest{}, lockfile.Pin{Name: test.name, Path: test.path, URL: test.url})
		var got []string
		for _, s := range sources {
			got = append(got, s.String())
		}
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%s: got %v, %v; want %s", test.summary, got, err, test.want)
		}
	}
	// npm is asked for its own registry only when something is to be brought.
	asked := 0
	c = &Config{builtIn: func() string {
		asked++
		return "https://built-in.example/"
	}}
	sources, err := New(Options{Config: c}).Open(lockfile.InputRequest{}, lockfile.Pin{Name: "a", Path: "a/-/a-1.tgz", URL: "https://x.example/a.tgz"})
	if err != nil || len(sources) != 2 || sources[0].String() != "npm's own registry" || sources[1].String() != "https://x.example/a.tgz" || asked != 0 {
		t.Errorf("got %v, %v, asked %d times", sources, err, asked)
	}
	if at, err := c.Default(); err != nil || at != "https://built-in.example/" || asked != 1 {
		t.Errorf("got %s, %v, asked %d times", at, err, asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := sources[0].Open(ctx, 0); err == nil || sources[0].String() != "https://built-in.example/a/-/a-1.tgz" {
		t.Errorf("%v is %v, %v", ctx, sources[0], err)
	}
	for _, none := range []*Config{{}, {builtIn: func() string { return "" }}} {
		sources, err := New(Options{Config: none}).Open(lockfile.InputRequest{}, lockfile.Pin{Name: "a", Path: "a/-/a-1.tgz"})
		if err != nil || len(sources) != 1 {
			t.Fatalf("without a registry: %v, %v", sources, err)
		}
		_, _, err = sources[0].Open(t.Context(), 0)
		var permanent interface{ Permanent() bool }
		if !errors.Is(err, errNone) || !errors.As(err, &permanent) || !permanent.Permanent() {
			t.Errorf("without a registry: %v", err)
		}
	}
}

// The same tarball may be needed everywhere in one place and on some systems in another.
func TestEverywhereAndSomewhere(t *testing.T) {
	text := lockText(root, plain("left", "1.2.3", ""), strings.Replace(plain("left", "1.2.3", `, "os": ["linux"], "cpu": ["x64"]`), "node_modules/left", "node_modules/deep/node_modules/left", 1))
	l, err := parse(FileName, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	pins, _, err := l.pins(platforms)
	if err != nil || len(pins) != 1 || pins[0].Platform != "" {
		t.Errorf("got %+v, %v", pins, err)
	}
}

// Where a line stands is not counted from the beginning for each: at the square
// of 50,000 packages this would take minutes.
func TestManyPackages(t *testing.T) {
	const n = 50_000
	all := []string{root}
	one := plain("left", "1.0.0", "") // packing each would take longer than all the rest
	for i := range n {
		all = append(all, strings.ReplaceAll(one, "left", fmt.Sprintf("p%d", i)))
	}
	text := lockText(all...)
	l, err := parse(FileName, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	pins, lines, err := l.pins(platforms)
	if err != nil || len(pins) != n {
		t.Fatalf("%d pins, %v", len(pins), err)
	}
	last := slices.Max(lines)
	if line := strings.Split(text, "\n")[last-1]; !strings.Contains(line, fmt.Sprintf(`"node_modules/p%d"`, n-1)) {
		t.Errorf("line %d is %.60s", last, line)
	}
}

var _ source.Kind = (*Source)(nil)

// An integrity may have words of several algorithms (Subresource Integrity): the
// first sha512 that is one counts, and nothing weaker beside it.
func TestIntegrities(t *testing.T) {
	good, other := integrity("a", "1.0.0"), integrity("b", "1.0.0")
	const weak = "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="
	for _, test := range []struct{ is, want string }{
		{good, good},
		{weak + " " + good, good},
		{good + " " + weak, good},
		{"\t" + good + "\n", good},
		{good + "?signed", good},
		{good + " " + other, good},
		{"sha512-AAAA " + good, good},
		{"sha512-" + strings.Repeat("A", 1<<20) + " " + good, good},
		{strings.ToUpper(good[:6]) + good[6:], `package "a" has the integrity "`},
		{good[:len(good)-4], `package "a" has the integrity "`},
		{good + "AAAA", `package "a" has the integrity "`},
		{strings.Replace(good, "sha512", "sha384", 1), `package "a" has the integrity "sha384-`},
		{"sha512-", `package "a" has the integrity "sha512-", expected one by sha512`},
		{"sha512", `package "a" has the integrity "sha512", expected one by sha512`},
		{" ", `package "a" has the integrity " ", expected one by sha512`},
	} {
		l, err := parse("package-lock.json", []byte(lockText(`"": {}`, fmt.Sprintf(`"node_modules/a": {"version": "1.0.0", "integrity": %q}`, test.is))))
		if err != nil {
			t.Fatal(err)
		}
		pins, _, err := l.pins([]definition.Platform{{OS: "linux", Architecture: "amd64"}})
		switch {
		case err != nil && !strings.Contains(err.Error(), test.want):
			t.Errorf("%.200q: got %v\nwant %s", test.is, err, test.want)
		case err == nil && pins[0].Integrity != test.want:
			t.Errorf("%.200q: got %s\nwant %s", test.is, pins[0].Integrity, test.want)
		}
	}
}

// Where a registry says that a tarball is, and how large, is not asked: it comes
// from where registries have them, and is what the integrity says.
func TestTarballOfAnotherHost(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer evil.Close()
	front := httptest.NewServer(http.HandlerFunc(func(resp http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/left/1.2.3" {
			fmt.Fprintf(resp, `{"name": "left", "version": "1.2.3", "dist": {"tarball": "%s/left.tgz", "fileCount": -1, "unpackedSize": 1e300, "shasum": "x", "integrity": %q, "signatures": [{"keyid": %q, "sig": %q}]}}`,
				evil.URL, w.left.Integrity, w.left.Signatures[0].KeyID, w.left.Signatures[0].Sig)
			return
		}
		w.Config.Handler.ServeHTTP(resp, req)
	}))
	defer front.Close()
	s := New(Options{Config: &Config{Registries: Registries{"": front.URL}}})
	lock, err := lockOf(t, s, w.blobs, nil, nil, w.left.LockEntry())
	if err != nil || lock.Pins[0].URL != "" || asked.Load() > 0 {
		t.Errorf("got %v, and %d requests elsewhere", err, asked.Load())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(lockText(root, plain("left", "1.2.3", `, "os": ["linux"], "dependencies": {"deep": "1"}`), plain("deep", "1.0.0", ""))))
	f.Add([]byte(`{"lockfileVersion": 2, "packages": {"": {}, "node_modules/a": {"version": "1.0.0", "resolved": "git+https://x", "link": true}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parse(FileName, text)
		if err != nil {
			return
		}
		pins, lines, err := l.pins(platforms)
		if err != nil {
			return
		}
		for i, p := range pins {
			if p.Integrity == "" || p.Path == "" || strings.Contains("/"+p.Path+"/", "/../") || lines[i] < 1 {
				t.Errorf("pin %+v in line %d", p, lines[i])
			}
		}
	})
}
