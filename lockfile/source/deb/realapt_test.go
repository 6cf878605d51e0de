package deb

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
)

// realRequests are compared with what this machine's own apt says.
var realRequests = [][]string{
	{}, {"nginx"}, {"python3"}, {"gcc"}, {"default-jre-headless"}, {"postgresql"}, {"ffmpeg"}, {"texlive-base"},
	{"g++", "make", "libc6-dev"}, {"build-essential"}, {"ca-certificates"}, {"tzdata"}, {"curl"}, {"git"},
	{"openssh-server"}, {"mariadb-server"}, {"apache2"}, {"php-fpm", "nginx"}, {"ruby"},
	{"nodejs"}, {"golang"}, {"rustc", "cargo"}, {"perl"}, {"vim"}, {"emacs-nox"},
	{"systemd-sysv"}, {"man-db"}, {"exim4"}, {"postfix"},
	{"ghostscript"}, {"libreoffice-writer-nogui"}, {"r-base-core"},
	{"openjdk-17-jdk"}, {"ansible"}, {"docker.io"}, {"qemu-system-x86"}, {"linux-image-amd64"},
	{"xserver-xorg-core"}, {"firefox-esr"}, {"gimp"}, {"sqlite3", "jq"}, {"usrmerge"}, {"apt", "gpg", "debootstrap"},
	{"python3-numpy", "python3-pandas"}, {"debconf", "cdebconf"}, {"gawk"}, {"init"}, {"sysvinit-core"},
}

// TestRealApt holds our sets against `apt-get install --simulate` of this
// machine for an empty root, over the archive of its apt configuration. The
// two share nothing but the archive: apt reads the indexes that apt itself
// downloaded and verified.
func TestRealApt(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("the slow suite, with the real archive: set QUORATE_REAL=1")
	}
	mirrors, err := AptMirrors("/", "bookworm")
	if err != nil || len(mirrors) == 0 {
		t.Fatalf("this machine's apt configuration names no mirror: %v", err)
	}
	theirs := newOwnApt(t, mirrors[0])
	q := Query{
		Suite: "bookworm", Components: []string{"main"}, Pockets: []string{"updates", "security"},
		Platforms: []definition.Platform{{OS: "linux", Architecture: "amd64"}},
	}
	for i, r := range realRequests {
		q.Sets = append(q.Sets, lockfile.SetRequest{Name: fmt.Sprintf("step/%d", i), Packages: r})
	}
	start := time.Now()
	answer, err := New(Options{Mirrors: mirrors, Cache: t.TempDir(), Apt: machineApt{}}).Resolve(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d sets in %v", len(q.Sets), time.Since(start).Round(time.Millisecond))
	// Simulating costs twice our own time: every set is a test of its own.
	for _, set := range q.Sets {
		t.Run(strings.Join(set.Packages, "_"), func(t *testing.T) {
			t.Parallel()
			compareWith(t, theirs, set, answer.Platforms[0].Packages)
		})
	}
}

func compareWith(t *testing.T, theirs *ownApt, set lockfile.SetRequest, packages []lockfile.Package) {
	var ours []string
	for _, p := range packages {
		if by, ok := p.InSet(set.Name); ok {
			ours = append(ours, p.Name+" "+p.Version)
			if by == lockfile.ByRequest && !slices.Contains(set.Packages, p.Name) {
				t.Errorf("nothing needs %s", p.Name)
			}
		}
	}
	slices.Sort(ours)
	if diff := cmp.Diff(theirs.simulate(t, set.Packages), ours); diff != "" {
		t.Errorf("(-apt +ours)\n%s", diff)
	}
	t.Logf("%d packages", len(ours))
}

// ownApt is this machine's apt over private folders, filled by its own update.
type ownApt struct {
	dir       string
	essential []string
}

func newOwnApt(t *testing.T, m Mirror) *ownApt {
	t.Helper()
	a := &ownApt{dir: t.TempDir()}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const keys = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
	sources := fmt.Sprintf("deb %[1]s %[2]s bookworm main\ndeb %[1]s %[2]s bookworm-updates main\ndeb %[1]s %[3]s bookworm-security main\n", keys, m.Main, m.Security)
	for name, text := range map[string]string{
		"etc/sources.list": sources, "state/status": "",
		"apt.conf": fmt.Sprintf("Dir \"%s\"; Dir::State \"state/\"; Dir::State::status \"%[1]s/state/status\"; Dir::Cache \"cache/\"; Dir::Etc \"etc/\"; APT::Sandbox::User \"root\"; Acquire::Languages \"none\";\n", a.dir),
	} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a.run(t, "apt-get", "update")
	for stanza := range strings.SplitSeq(a.run(t, "apt-cache", "dumpavail"), "\n\n") {
		if strings.Contains(stanza, "\nEssential: yes\n") {
			name, _, _ := strings.Cut(strings.TrimPrefix(stanza, "Package: "), "\n")
			a.essential = append(a.essential, name)
		}
	}
	if len(a.essential) < 20 {
		t.Fatalf("apt knows %d essential packages", len(a.essential))
	}
	return a
}

func (a *ownApt) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8", "APT_CONFIG=" + filepath.Join(a.dir, "apt.conf")}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
	}
	return string(out)
}

var instLine = regexp.MustCompile(`(?m)^Inst (\S+) \((\S+) `)

func (a *ownApt) simulate(t *testing.T, packages []string) []string {
	t.Helper()
	args := slices.Concat([]string{"install", "--simulate", "-y", "--no-install-recommends"}, a.essential, []string{"usr-is-merged"}, packages)
	var out []string
	for _, m := range instLine.FindAllStringSubmatch(a.run(t, "apt-get", args...), -1) {
		out = append(out, m[1]+" "+m[2])
	}
	slices.Sort(out)
	return out
}

// TestRealArchives resolves over every suite and kind of set that people use
// most, and says how long it takes.
func TestRealArchives(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("the slow suite, with the real archive: set QUORATE_REAL=1")
	}
	cache := t.TempDir()
	// The first is cold, the second warm.
	for _, test := range []struct{ suite, arch string }{
		{"bookworm", "amd64"}, {"bookworm", "amd64"}, {"bookworm", "arm64"}, {"trixie", "amd64"}, {"trixie", "arm64"},
	} {
		mirrors, err := AptMirrors("/", test.suite)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		answer, err := New(Options{Mirrors: mirrors, Cache: cache, Apt: machineApt{}}).Resolve(context.Background(), Query{
			Suite: test.suite, Components: []string{"main"}, Pockets: []string{"updates", "security"},
			Platforms: []definition.Platform{{OS: "linux", Architecture: test.arch}},
			Sets: []lockfile.SetRequest{
				{Name: "image", Packages: []string{"nginx"}, Scripts: "dpkg", Without: []string{"perl-base", "debconf"}},
				{Name: "step/compile", Packages: []string{"gcc", "make"}},
			},
		})
		if err != nil {
			t.Errorf("%s %s: %v", test.suite, test.arch, err)
			continue
		}
		t.Logf("%s %s: %d packages in %v; %v; waived %v", test.suite, test.arch, len(answer.Platforms[0].Packages),
			time.Since(start).Round(time.Millisecond), answer.Resolver, answer.Platforms[0].Waived)
	}
}

// TestRealForeign asks for a package of another architecture beside our own.
func TestRealForeign(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("the slow suite, with the real archive: set QUORATE_REAL=1")
	}
	mirrors, err := AptMirrors("/", "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := New(Options{Mirrors: mirrors, Cache: t.TempDir(), Apt: machineApt{}}).Resolve(context.Background(), Query{
		Suite: "bookworm", Components: []string{"main"}, Pockets: []string{"updates", "security"},
		Platforms: []definition.Platform{{OS: "linux", Architecture: "amd64"}},
		Sets:      []lockfile.SetRequest{{Name: "step/cross", Packages: []string{"gcc-aarch64-linux-gnu", "zlib1g-dev:arm64"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var libc []string
	for _, p := range answer.Platforms[0].Packages {
		if p.Name == "libc6" || p.Name == "zlib1g-dev" {
			libc = append(libc, p.Name+":"+p.Arch)
		}
	}
	if want := []string{"libc6:amd64", "libc6:arm64", "zlib1g-dev:arm64"}; !slices.Equal(libc, want) {
		t.Errorf("got %v, expected %v", libc, want)
	}
}

// TestRealExplanation shows that apt's own words reach the person who asked.
func TestRealExplanation(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("the slow suite, with the real archive: set QUORATE_REAL=1")
	}
	mirrors, err := AptMirrors("/", "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(Options{Mirrors: mirrors, Cache: t.TempDir(), Apt: machineApt{}}).Resolve(context.Background(), Query{
		Suite: "bookworm", Components: []string{"main"}, Pockets: []string{"updates", "security"},
		Platforms: []definition.Platform{{OS: "linux", Architecture: "amd64"}},
		Sets:      []lockfile.SetRequest{{Name: "image", Packages: []string{"exim4-base", "postfix"}, Scripts: "none"}},
	})
	want := "cannot choose packages for \"image\" (amd64): exim4-base postfix\n\texim4-config : Conflicts: postfix"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s …", err, want)
	}
}
