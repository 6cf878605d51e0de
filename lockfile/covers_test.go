package lockfile

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"quorate.dev/lockfile/definition"
)

// asked is the definition that sample locks.
const asked = `apiVersion: quorate/v1
name: web
platforms: [linux/amd64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
  files: {logo: {url: "https://example.org/logo-1.2.tar.gz", unpack: true}}
steps:
  - {name: compile, packages: [nginx=1.22.1-9, gcc], run: make}
image:
  packages: [nginx]
  essential: false
  without: [debconf]
`

func define(t *testing.T, text string) *definition.Definition {
	t.Helper()
	d, err := definition.Parse("quorate.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRequestsOf(t *testing.T) {
	if got, want := RequestsOf(define(t, asked)), sample().Requests; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	d := define(t, "apiVersion: quorate/v1\nname: web\nplatforms: [linux/amd64]\nepoch: commit\nimage: {}\n")
	if got := RequestsOf(d); !reflect.DeepEqual(got, Requests{}) {
		t.Errorf("a definition without inputs asks for %+v", got)
	}
}

func TestCovers(t *testing.T) {
	tests := []struct{ summary, old, new, want string }{
		{"the same", "web", "web", ""},
		{"what no lock holds", "run: make", "run: make all", ""},
		{"the commit's epoch", "2026-11-01T00:00:00Z", "commit", ""},
		{"another order", "[nginx=1.22.1-9, gcc]", "[gcc, nginx=1.22.1-9]", ""},
		{"pockets in another order", "{suite: bookworm}", "{suite: bookworm, pockets: [security, updates]}", ""},
		{"a package more", "[nginx=1.22.1-9, gcc]", "[nginx=1.22.1-9, gcc, make]", `step "compile" asks for package "make", which the lock was not made for`},
		{"a package less", "[nginx=1.22.1-9, gcc]", "[gcc]", `step "compile" no longer asks for package "nginx=1.22.1-9"`},
		{"a package of the image", "  packages: [nginx]", "  packages: [nginx, curl]", `image asks for package "curl", which the lock was not made for`},
		{"suite", "suite: bookworm", "suite: trixie", "suite is trixie, the lock has bookworm"},
		{"pockets", "{suite: bookworm}", "{suite: bookworm, pockets: []}", "pockets are [], the lock has [updates, security]"},
		{"components", "{suite: bookworm}", "{suite: bookworm, components: [main, contrib]}", "components are [main, contrib], the lock has [main]"},
		{"epoch", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "epoch is 2026-12-01T00:00:00Z, the lock has 2026-11-01T00:00:00Z"},
		{"platform more", "[linux/amd64]", "[linux/amd64, linux/arm64]", "platform linux/arm64 is not in the lock"},
		{"platform other", "[linux/amd64]", "[linux/arm64]", "platform linux/amd64 is no longer asked for\nplatform linux/arm64 is not in the lock"},
		{"scripts", "  essential: false", "  scripts: none", "image has scripts: none, the lock has dpkg"},
		{"essential", "  essential: false", "  essential: true", "image has essential: true, the lock has false"},
		{"without less", "  without: [debconf]\n", "", `image no longer leaves out package "debconf"`},
		{"without more", "[debconf]", "[debconf, perl-base]", `image leaves out package "perl-base", which the lock does not`},
		{"step renamed", "name: compile", "name: make", "step \"compile\" is gone\nstep \"make\" is new"},
		{"file from elsewhere", "logo-1.2", "logo-1.3", `file "logo" has url https://example.org/logo-1.3.tar.gz, the lock has https://example.org/logo-1.2.tar.gz`},
		{"file renamed", "{logo:", "{icon:", "file \"logo\" is gone\nfile \"icon\" is new"},
		{"file packed", ", unpack: true", "", `file "logo" has unpack: false, the lock has true`},
	}
	for _, test := range tests {
		if !strings.Contains(asked, test.old) {
			t.Fatalf("%s: no %q", test.summary, test.old)
		}
		err := sample().Covers(define(t, strings.Replace(asked, test.old, test.new, 1)), 1)
		var stale *StaleError
		got := ""
		if errors.As(err, &stale) {
			got = strings.Join(stale.Reasons, "\n")
		} else if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

func TestCoversWithoutDebian(t *testing.T) {
	none := define(t, "apiVersion: quorate/v1\nname: web\nplatforms: [linux/amd64]\nepoch: commit\nimage: {}\n")
	bare := &Lock{Format: 1, Assembler: 1, Epoch: time.Unix(1e9, 0), Platforms: []Platform{{Platform: amd64}}}
	if err := bare.Covers(none, 1); err != nil {
		t.Error(err)
	}
	want := "the lock does not fit the definition:\n  inputs.debian is gone, the lock has packages of bookworm\n  file \"logo\" is gone\nrun: quorate lock"
	if err := sample().Covers(none, 1); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	bare.Epoch = sample().Epoch
	want = "the lock does not fit the definition:\n  inputs.debian is new, the lock has no packages\n  file \"logo\" is new\nrun: quorate lock"
	if err := bare.Covers(define(t, asked), 1); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestCoversAssembler(t *testing.T) {
	d := define(t, asked)
	tests := []struct {
		want    int
		message string
	}{
		{2, "the lock is for assembler version 1 and this Quorate has version 2, which makes other bytes of the same inputs; run: quorate lock"},
		{0, "the lock is for assembler version 1 and this Quorate has version 0: it was written by a newer Quorate"},
	}
	for _, test := range tests {
		err := sample().Covers(d, test.want)
		var other *AssemblerError
		if !errors.As(err, &other) || other.Have != 1 || other.Want != test.want || err.Error() != test.message {
			t.Errorf("got %v, want %s", err, test.message)
		}
	}
}

func TestDiff(t *testing.T) {
	if c := Diff(sample(), sample()); c != nil {
		t.Errorf("a lock differs from itself: %v", c)
	}
	l := sample()
	l.Epoch = l.Epoch.AddDate(0, 1, 0)
	l.Assembler = 2
	l.Archives[0].Date = l.Archives[0].Date.AddDate(0, 0, 1)
	l.Files[0].SHA256 = l.Archives[0].InRelease
	p := &l.Platforms[0]
	p.Packages[1] = pkg("gcc", "4:12.3.0-1", "step/compile", "requested")
	p.Packages[2] = pkg("iproute2", "6.1.0-3", "image", "nginx-common", "step/compile", "gcc")
	p.Packages[3].SHA256 = l.Archives[0].InRelease
	p.Packages[5] = pkg("openssl", "3.0-1", "image", "nginx")
	p.Packages[4].Arch = "i386"
	p.Waived = nil
	got := Table(Diff(sample(), l), 1)
	want := `KIND       NAME          OLD                             NEW                             WHY
epoch      -             2026-11-01T00:00:00Z            2026-12-01T00:00:00Z
assembler  -             1                               2
archive    bookworm      2026-09-05T09:23:17Z            2026-09-06T09:23:17Z
file       logo          https://example.org/logo-1.2.tar.gz (3598ce6f965b)  https://example.org/logo-1.2.tar.gz (5bfc87e96c5f)
package    gcc           4:12.2.0-3                      4:12.3.0-1                      step/compile: requested
sets       iproute2      image                           image, step/compile             image: nginx-common; step/compile: gcc
package    libc6         2.36-9+deb12u10 (405220dc37d3)  2.36-9+deb12u10 (5bfc87e96c5f)  image: nginx; step/compile: gcc
package    nginx         1.22.1-9                        -                               image: requested; step/compile: requested
package    nginx-common  1.22.1-9                        -                               image: nginx
package    nginx:i386    -                               1.22.1-9                        image: requested; step/compile: requested
package    openssl       -                               3.0-1                           image: nginx
waiver     nginx-common  without debconf                 -
`
	if squeeze(got) != squeeze(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if Table(nil, 1) != "" {
		t.Error("nothing is shown as something")
	}
}

// squeeze makes runs of blanks one, as columns are tabwriter's business.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.Join(strings.Fields(l), " ")
	}
	return strings.Join(lines, "\n")
}

func TestDiffOfPlatforms(t *testing.T) {
	l := sample()
	arm := Platform{Platform: definition.Platform{OS: "linux", Architecture: "arm64"}, Packages: []Package{pkg("nginx", "1.22.1-9", "image", "requested")}}
	arm.Packages[0].Arch = "arm64"
	l.Platforms = append(l.Platforms, arm)
	want := []Change{
		{Kind: ChangePlatform, Name: "linux/arm64", New: "linux/arm64"},
		{Kind: ChangePackage, Name: "nginx", Platform: "linux/arm64", New: "1.22.1-9", Why: "image: requested"},
	}
	if got := Diff(sample(), l); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := Diff(l, sample()); len(got) != 2 || got[0].Old != "linux/arm64" || got[1].Old != "1.22.1-9" || got[1].New != "" {
		t.Errorf("backwards got %+v", got)
	}
	if got := Diff(nil, sample()); len(got) < 10 || got[0] != (Change{Kind: ChangeEpoch, New: "2026-11-01T00:00:00Z"}) {
		t.Errorf("from nothing got %+v", got)
	}
}

func TestWhy(t *testing.T) {
	tests := []struct{ name, want string }{
		{"nginx", "linux/amd64 image: nginx (requested)\nlinux/amd64 step/compile: nginx (requested)"},
		{"iproute2", "linux/amd64 image: nginx (requested) → nginx-common → iproute2"},
		{"libc6", "linux/amd64 image: nginx (requested) → libc6\nlinux/amd64 step/compile: gcc (requested) → libc6"},
		{"libc6:amd64", "linux/amd64 image: nginx (requested) → libc6\nlinux/amd64 step/compile: gcc (requested) → libc6"},
		{"perl-base", "linux/amd64 configure: nginx (requested) → nginx-common → iproute2 → perl-base"},
		{"dpkg", "linux/amd64 configure: dpkg (essential)\nlinux/amd64 step/compile: dpkg (essential)"},
	}
	for _, test := range tests {
		chains, err := Why(sample(), test.name)
		var lines []string
		for _, c := range chains {
			lines = append(lines, c.Platform+" "+c.String())
		}
		if got := strings.Join(lines, "\n"); got != test.want || err != nil {
			t.Errorf("%s: got %s, %v\nwant %s", test.name, got, err, test.want)
		}
	}
}

func TestWhyEndsInCircles(t *testing.T) {
	l := sample()
	l.Platforms[0].Packages = []Package{pkg("aa", "1", "image", "bb"), pkg("bb", "1", "image", "aa"), pkg("cc", "1", "image", "dd"), pkg("dd", "1", "step/compile", "requested")}
	for name, want := range map[string]string{"aa": "image: bb → aa", "cc": "image: dd → cc"} {
		if chains, err := Why(l, name); err != nil || len(chains) != 1 || chains[0].String() != want || chains[0].Reason != "" {
			t.Errorf("%s: got %v, %v", name, chains, err)
		}
	}
}

func TestWhyUnknown(t *testing.T) {
	for name, want := range map[string]string{
		"ngnix":      `the lock has no input "ngnix"; did you mean "nginx"?`,
		"xorg":       `the lock has no input "xorg"`,
		"libc6:i386": `the lock has no input "libc6:i386"`,
	} {
		_, err := Why(sample(), name)
		var unknown *UnknownPackageError
		if !errors.As(err, &unknown) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
