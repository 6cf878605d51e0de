package deb

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"quorate.dev/builder/tree"
)

// realPackages are small, large, multi-arch and odd ones; they can all be
// unpacked together with --force-depends.
var realPackages = []string{
	"base-files", "base-passwd", "libc6", "libc-bin", "bash", "coreutils", "dpkg", "perl-base", "tzdata", "debconf",
	"libpam-runtime", "login", "passwd", "sysvinit-utils", "tar", "zlib1g", "util-linux", "man-db", "nginx-common", "iputils-ping",
}

// real fetches packages from the machine's own archive. These tests need the
// network and dpkg, and run where QUORATE_REAL is set.
func real(t *testing.T) (files []string, pkgs []*Package) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("QUORATE_REAL is not set")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("apt-get", append([]string{"download", "-q", "-o", "APT::Sandbox::User=root"}, realPackages...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("apt-get download: %v\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(files) != len(realPackages) {
		t.Fatalf("%d packages downloaded, expected %d (%v)", len(files), len(realPackages), err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.Create(file + ".data")
		if err != nil {
			t.Fatal(err)
		}
		p, err := Decode(bufio.NewReader(f), data, Options{})
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		data.Close()
		pkgs = append(pkgs, p)
	}
	return files, pkgs
}

// TestRealListing holds entries against what tar and dpkg-deb say.
func TestRealListing(t *testing.T) {
	files, pkgs := real(t)
	for i, file := range files {
		want := run(t, "sh", "-c", "dpkg-deb --fsys-tarfile "+file+" | TZ=UTC tar -tv --numeric-owner --full-time -f -")
		var got strings.Builder
		for _, e := range pkgs[i].Entries {
			got.WriteString(line(e) + "\n")
		}
		if w := canonicalListing(want); got.String() != w {
			t.Errorf("%s:\n%s", filepath.Base(file), firstDifference(got.String(), w))
		}
		sum := run(t, "sh", "-c", "dpkg-deb --fsys-tarfile "+file+" | cmp - "+file+".data")
		if sum != "" {
			t.Errorf("%s: data differs: %s", filepath.Base(file), sum)
		}
	}
}

// line writes an entry the way canonicalListing does.
func line(e Entry) string {
	size, name := e.Size, "./"+e.Shipped
	switch e.Kind {
	case tree.Dir:
		name += "/"
	case tree.Symlink:
		name += " -> " + e.Link
	case tree.Hardlink:
		name += " link to"
	}
	return fmt.Sprintf("%s %d/%d %d %s", modeString(e), e.UID, e.GID, size, name)
}

func modeString(e Entry) string {
	b := []byte("?rwxrwxrwx")
	b[0] = map[tree.Kind]byte{tree.File: '-', tree.Dir: 'd', tree.Symlink: 'l', tree.Hardlink: 'h'}[e.Kind]
	for i := range 9 {
		if e.Mode>>(8-i)&1 == 0 {
			b[1+i] = '-'
		}
	}
	for i, bit := range []uint32{0o4000, 0o2000, 0o1000} {
		if e.Mode&bit == 0 {
			continue
		}
		set, unset := byte('s'), byte('S')
		if i == 2 {
			set, unset = 't', 'T'
		}
		if at := &b[3*i+3]; *at == 'x' {
			*at = set
		} else {
			*at = unset
		}
	}
	return string(b)
}

// canonicalListing drops what entries do not have: the root, times, targets of hard links.
func canonicalListing(tarTV string) string {
	var b strings.Builder
	for l := range strings.Lines(tarTV) {
		f := strings.Fields(l)
		name := strings.Join(f[5:], " ")
		if name == "./" {
			continue
		}
		if f[0][0] == 'h' {
			name, _, _ = strings.Cut(name, " link to ")
			name += " link to"
		}
		fmt.Fprintf(&b, "%s %s %s %s\n", f[0], f[1], f[2], name)
	}
	return b.String()
}

// TestRealDatabase holds the dpkg database against what the real dpkg writes
// when it unpacks the same packages.
func TestRealDatabase(t *testing.T) {
	files, pkgs := real(t)
	root := t.TempDir()
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "etc", "usr/bin", "usr/sbin", "usr/lib", "usr/lib32", "usr/lib64"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64"} {
		if err := os.Symlink("usr/"+name, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"status", "available"} {
		if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg", f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Scripts would need a working root: --force-script-chrootless runs them
	// outside of it, so they are taken out and put back into the comparison.
	args := []string{"--root=" + root, "--force-all", "--no-triggers", "--unpack"}
	for _, f := range files {
		args = append(args, withoutPreinst(t, f))
	}
	out, err := exec.Command("dpkg", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("dpkg --unpack: %v\n%s", err, out)
	}
	entries := Database(pkgs, DatabaseOptions{ConffileMD5: func(*Package, string) string { return "newconffile" }})
	compareDatabase(t, root, entries)
}

// withoutPreinst repacks a package without its preinst script.
func withoutPreinst(t *testing.T, file string) string {
	dir := t.TempDir()
	run(t, "dpkg-deb", "-R", file, dir)
	if err := os.Remove(filepath.Join(dir, "DEBIAN/preinst")); err != nil {
		return file
	}
	out := filepath.Join(t.TempDir(), filepath.Base(file))
	run(t, "dpkg-deb", "-Znone", "-b", dir, out)
	return out
}

func compareDatabase(t *testing.T, root string, entries []tree.Entry) {
	base := filepath.Join(root, "var/lib/dpkg")
	want := map[string]string{}
	err := filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		fi, _ := d.Info()
		rel, _ := filepath.Rel(root, p)
		want[rel] = fmt.Sprintf("%04o\n%s", fi.Mode().Perm(), b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"lock", "lock-frontend", "triggers/Lock", "status-old", "diversions", "statoverride"} {
		delete(want, "var/lib/dpkg/"+gone)
	}
	for _, e := range entries {
		if e.Kind != tree.File || strings.HasSuffix(e.Path, ".preinst") || strings.HasSuffix(e.Path, "/diversions") || strings.HasSuffix(e.Path, "/statoverride") {
			continue
		}
		b, _ := e.Content.(tree.Bytes)
		got := fmt.Sprintf("%04o\n%s", e.Mode, b)
		w, ok := want[e.Path]
		delete(want, e.Path)
		if !ok {
			t.Errorf("%s: dpkg has no such file", e.Path)
		} else if strings.Contains(e.Path, "/triggers/") {
			if sortLines(got) != sortLines(w) { // dpkg writes them in the order of its own hash table
				t.Errorf("%s:\n%s", e.Path, firstDifference(sortLines(got), sortLines(w)))
			}
		} else if got != w {
			t.Errorf("%s:\n%s", e.Path, firstDifference(got, w))
		}
	}
	for p := range want {
		if _, shipped := strings.CutPrefix(p, "var/lib/dpkg/info/"); shipped || strings.Count(p, "/") == 3 {
			t.Errorf("%s: only dpkg has it", p)
		}
	}
}

func sortLines(s string) string {
	l := strings.Split(s, "\n")
	sort.Strings(l)
	return strings.Join(l, "\n")
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && name != "sh" {
		t.Fatalf("%s: %v\n%s", name, err, stderr.Bytes())
	}
	return string(out)
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			other := "(end)"
			if i < len(w) {
				other = w[i]
			}
			return fmt.Sprintf("line %d\n  got  %q\n  want %q", i+1, g[i], other)
		}
	}
	return fmt.Sprintf("line %d: missing %q", len(g)+1, w[len(g)])
}
