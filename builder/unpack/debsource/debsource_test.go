package debsource

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// tarball packs members: a name that ends in "/" is a folder, "a -> b" a
// symbolic link, "a => b" a hard link, "!a" a program, and "a" a file that says
// its name.
func tarball(t testing.TB, members ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, m := range members {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: m, Size: int64(len(m)), Mode: 0o640, Uid: 1000, Gid: 1000}
		text := m
		if name, ok := strings.CutPrefix(m, "!"); ok {
			h.Name, h.Mode = name, 0o755
		} else if strings.HasSuffix(m, "/") {
			*h, text = tar.Header{Typeflag: tar.TypeDir, Name: m, Mode: 0o700}, ""
		} else if name, to, ok := strings.Cut(m, " -> "); ok {
			*h, text = tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, ""
		} else if name, to, ok := strings.Cut(m, " => "); ok {
			*h, text = tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}, ""
		} else if name, ok := strings.CutPrefix(m, "device:"); ok {
			*h, text = tar.Header{Typeflag: tar.TypeChar, Name: name, Devmajor: 1, Devminor: 3}, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// file is a file of a source package: its name and the members of the tarball.
type file struct {
	name    string
	members []string
}

func (f file) blob(t *testing.T) unpack.Blob {
	return unpacktest.Blob(t, lockfile.Pin{Name: "hello", Version: "1.0-1", Path: "pool/main/h/hello/" + f.name}, tarball(t, f.members...))
}

func input(format, how string) lockfile.Input {
	return lockfile.Input{Name: "hello", Kind: lockfile.KindSource, Facts: lockfile.Facts{"archive": "bookworm", "format": format, "unpack": how}}
}

// list writes entries as lines: "name: text", "name -> target", "name/", with
// "!" before programs.
func list(t *testing.T, entries []tree.Entry) string {
	t.Helper()
	var b strings.Builder
	for _, e := range entries {
		switch e.Kind {
		case tree.Dir:
			fmt.Fprintf(&b, "%s/\n", e.Path)
		case tree.Symlink:
			fmt.Fprintf(&b, "%s -> %s\n", e.Path, e.Link)
		default:
			if e.Mode&0o111 != 0 {
				b.WriteString("!")
			}
			fmt.Fprintf(&b, "%s: %s\n", e.Path, unpacktest.Text(t, e))
		}
	}
	return b.String()
}

const (
	orig   = "hello_1.0.orig.tar.gz"
	data   = "hello_1.0.orig-data.tar.gz"
	debian = "hello_1.0-1.debian.tar.gz"
	quilt  = "3.0 (quilt)"
)

// shapes are source packages, each with what is made of it. Where dpkg-source
// is there, it has to make the same.
var shapes = []struct {
	summary, format, how string
	files                []file
	want                 string
}{
	{"one folder", quilt, "upstream", []file{{orig, []string{"hello-1.0/", "!hello-1.0/configure", "hello-1.0/src/a.c", "hello-1.0/empty/", "hello-1.0/b.c -> src/a.c", "hello-1.0/c.c => hello-1.0/src/a.c"}}},
		"b.c -> src/a.c\nc.c: hello-1.0/src/a.c\n!configure: !hello-1.0/configure\nempty/\nsrc/a.c: hello-1.0/src/a.c\n"},
	{"one folder that is not named", quilt, "upstream", []file{{orig, []string{"./hello-1.0/a", "hello-1.0/b"}}}, "a: ./hello-1.0/a\nb: hello-1.0/b\n"},
	{"no folder", quilt, "upstream", []file{{orig, []string{"./configure", "./src/a.c"}}}, "configure: ./configure\nsrc/a.c: ./src/a.c\n"},
	{"two folders", quilt, "upstream", []file{{orig, []string{"a/x", "b/y"}}}, "a/x: a/x\nb/y: b/y\n"},
	{"one file", quilt, "upstream", []file{{orig, []string{"README"}}}, "README: README\n"},
	{"one link", quilt, "upstream", []file{{orig, []string{"a -> b"}}}, "a -> b\n"},
	{"a folder in the folder", quilt, "upstream", []file{{orig, []string{"a/b/c"}}}, "b/c: a/b/c\n"},
	{"quilt's own", quilt, "upstream", []file{{orig, []string{"h/.pc/applied", "h/a", ".pc/x"}}}, "a: h/a\n"},
	{"a component", quilt, "upstream", []file{{data, []string{"words/list"}}, {orig, []string{"h/data/old", "h/a"}}}, "a: h/a\ndata/\ndata/list: words/list\n"},
	{"a component in the place of a link", quilt, "upstream", []file{{orig, []string{"h/data -> /etc", "h/a"}}, {data, []string{"x", "y"}}}, "a: h/a\ndata/\ndata/x: x\ndata/y: y\n"},
	{"debian/", quilt, "debian", []file{{debian, []string{"debian/", "!debian/rules", "debian/control", "debian/source/format"}}, {orig, []string{"h/debian/theirs", "h/a"}}},
		"a: h/a\ndebian/\ndebian/control: debian/control\n!debian/rules: !debian/rules\ndebian/source/format: debian/source/format\n"},
	{"debian/ and files beside it", quilt, "debian", []file{{debian, []string{"debian/source/format", "a", "logo.png"}}, {orig, []string{"h/a", "h/b"}}},
		"a: a\nb: h/b\ndebian/source/format: debian/source/format\nlogo.png: logo.png\n"},
	{"a native one", "3.0 (native)", "upstream", []file{{"hello_1.0-1.tar.gz", []string{"hello/debian/source/format", "hello/.pc/x"}}}, ".pc/x: hello/.pc/x\ndebian/source/format: hello/debian/source/format\n"},
}

func TestUnpack(t *testing.T) {
	for _, s := range shapes {
		t.Run(strings.ReplaceAll(s.summary, " ", "-"), func(t *testing.T) {
			var blobs []unpack.Blob
			for _, f := range s.files {
				blobs = append(blobs, f.blob(t))
			}
			entries, err := unpacktest.Show(t, Unpack, input(s.format, s.how), blobs...)
			if err != nil {
				t.Fatal(err)
			}
			if got := list(t, entries); got != s.want {
				t.Errorf("got\n%s\nwant\n%s", got, s.want)
			}
		})
	}
}

// TestDpkgSource has dpkg-source unpack the same source packages.
func TestDpkgSource(t *testing.T) {
	if _, err := exec.LookPath("dpkg-source"); err != nil {
		t.Logf("not held against dpkg-source: %v", err)
		return
	}
	for _, s := range shapes {
		t.Run(strings.ReplaceAll(s.summary, " ", "-"), func(t *testing.T) {
			dir := t.TempDir()
			files, has := s.files, map[lockfile.SourcePart]bool{}
			for _, f := range files {
				kind, _ := lockfile.SourcePartOf(f.name)
				has[kind] = true
			}
			if s.format == quilt && !has[lockfile.SourceDebian] { // it wants one, and is told to leave it alone
				files = append([]file{{debian, []string{"debian/control"}}}, files...)
			}
			control := writeControl(t, dir, s.format, files)
			option := "--skip-patches"
			if s.format == quilt && s.how == "upstream" {
				option = "--skip-debianization"
			}
			cmd := exec.Command("dpkg-source", "--no-check", "--no-copy", option, "-x", control, "unpacked")
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if got := listFolder(t, filepath.Join(dir, "unpacked")); got != withFolders(s.want) {
				t.Errorf("dpkg-source made\n%s\nwe make\n%s", got, withFolders(s.want))
			}
		})
	}
}

// writeControl writes the files of a source package and a .dsc that lists them.
func writeControl(t *testing.T, dir, format string, files []file) string {
	t.Helper()
	sums := map[string]string{}
	for _, f := range files {
		b := tarball(t, f.members...)
		if err := os.WriteFile(filepath.Join(dir, f.name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		sums["Files"] += fmt.Sprintf(" %x %d %s\n", md5.Sum(b), len(b), f.name)
		sums["Checksums-Sha256"] += fmt.Sprintf(" %s %d %s\n", digest.Of(b).Hex(), len(b), f.name)
	}
	text := "Format: " + format + "\nSource: hello\nBinary: hello\nArchitecture: any\nVersion: 1.0-1\nMaintainer: T <t@example.org>\nChecksums-Sha256:\n" +
		sums["Checksums-Sha256"] + "Files:\n" + sums["Files"]
	name := filepath.Join(dir, "hello_1.0-1.dsc")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// listFolder is list of what is on disk, with every folder.
func listFolder(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		switch {
		case err != nil || rel == ".":
			return err
		case d.IsDir():
			lines = append(lines, rel+"/")
		case d.Type()&os.ModeSymlink != 0:
			to, err := os.Readlink(p)
			lines = append(lines, rel+" -> "+to)
			return err
		default:
			b, err := os.ReadFile(p)
			info, _ := d.Info()
			lines = append(lines, strings.Repeat("!", int(info.Mode().Perm()>>6&1))+rel+": "+string(b))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sortedLines(lines)
}

// withFolders adds the folders above to a list, which has those alone that a
// tarball names.
func withFolders(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for _, line := range lines {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(line, "/"), "!"), ": ")
		name, _, _ = strings.Cut(name, " -> ")
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			lines = append(lines, d+"/")
		}
	}
	return sortedLines(lines)
}

func sortedLines(lines []string) string {
	seen := map[string]bool{}
	for _, l := range lines {
		seen[l] = true
	}
	return strings.Join(sortedKeys(seen), "\n")
}

func TestUnpackRefuses(t *testing.T) {
	for _, test := range []struct {
		summary, how string
		files        []file
		want         string
	}{
		{"nothing", "upstream", nil, "there is no tarball to unpack"},
		{"no upstream tarball", "debian", []file{{debian, []string{"debian/rules"}}}, "hello_1.0-1.debian.tar.gz is not what can be unpacked here, or not all of it"},
		{"two of them", "upstream", []file{{orig, []string{"a/b"}}, {"hello_1.1.orig.tar.gz", []string{"a/b"}}}, "hello_1.1.orig.tar.gz is not what can be unpacked here, or not all of it"},
		{"a patch", "debian", []file{{orig, []string{"a/b"}}, {"hello_1.0-1.diff.gz", []string{"a"}}}, "hello_1.0-1.diff.gz is not what can be unpacked here, or not all of it"},
		{"a path that climbs", "upstream", []file{{orig, []string{"hello/../../etc/passwd"}}}, `hello_1.0.orig.tar.gz: cannot unpack archive: member "hello/../../etc/passwd"`},
		{"an absolute path", "upstream", []file{{orig, []string{"/etc/passwd"}}}, `hello_1.0.orig.tar.gz: cannot unpack archive: member "/etc/passwd"`},
		{"a device", "upstream", []file{{orig, []string{"h/a", "device:h/null"}}}, `hello_1.0.orig.tar.gz: cannot unpack archive: member "h/null"`},
		{"a file through a link", "upstream", []file{{orig, []string{"h/etc -> /etc", "h/etc/passwd"}}}, `hello_1.0.orig.tar.gz: cannot unpack archive: member "h/etc/passwd"`},
		{"a link to nothing", "upstream", []file{{orig, []string{"h/a => /etc/passwd"}}}, `hello_1.0.orig.tar.gz: cannot unpack archive: member "h/a"`},
		{"a file through a link of another tarball", "debian", []file{{orig, []string{"h/etc -> /etc", "h/a"}}, {debian, []string{"debian/rules", "etc/passwd"}}},
			`file "etc/passwd" lies below "etc", which is not a folder`},
		{"a folder in the place of a file", "debian", []file{{orig, []string{"h/a", "h/b"}}, {debian, []string{"debian/rules", "a/"}}},
			`hello_1.0-1.debian.tar.gz: file "a" is a folder in one tarball and none in another`},
		{"a file in the place of a folder", "debian", []file{{orig, []string{"h/a/", "h/b"}}, {debian, []string{"debian/rules", "a"}}},
			`hello_1.0-1.debian.tar.gz: file "a" is a folder in one tarball and none in another`},
		{"no .dsc", "none", []file{{orig, []string{"h/a"}}}, "the lock has no .dsc of it"},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "-"), func(t *testing.T) {
			var blobs []unpack.Blob
			for _, f := range test.files {
				blobs = append(blobs, f.blob(t))
			}
			entries, err := unpacktest.Show(t, Unpack, input(quilt, test.how), blobs...)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s …\n%v", err, test.want, entries)
			}
		})
	}
	cut := unpacktest.Blob(t, lockfile.Pin{Path: orig}, tarball(t, "h/a", "h/b")[:40])
	if _, err := unpacktest.Show(t, Unpack, input(quilt, "upstream"), cut); err == nil || !strings.HasPrefix(err.Error(), "hello_1.0.orig.tar.gz: cannot unpack archive: ") {
		t.Errorf("of a tarball that is cut off: %v", err)
	}
}

// The order of pins, owners, modes and times decide nothing.
func TestCanonical(t *testing.T) {
	shown := func(files ...file) string {
		var blobs []unpack.Blob
		for _, f := range files {
			blobs = append(blobs, f.blob(t))
		}
		entries, err := unpacktest.Show(t, Unpack, input(quilt, "debian"), blobs...)
		if err != nil {
			t.Fatal(err)
		}
		made, err := tree.New(tree.WithParents(entries))
		if err != nil {
			t.Fatal(err)
		}
		return made.Digest().String()
	}
	a, b, c := file{orig, []string{"h/a", "!h/b"}}, file{data, []string{"x/y"}}, file{debian, []string{"debian/rules"}}
	if x, y := shown(a, b, c), shown(c, b, a); x != y {
		t.Errorf("the same files make %s and %s", x, y)
	}
	other := file{orig, []string{"!other/b", "other/a"}}
	same := func(f file) string { // content that does not name its folder
		entries, err := unpacktest.Show(t, Unpack, input(quilt, "upstream"), f.blob(t))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, fmt.Sprint(e.Path, e.Mode, e.UID, e.GID, e.ModTime))
		}
		return strings.Join(names, "\n")
	}
	if x, y := same(a), same(other); x != y {
		t.Errorf("the name of the folder or the order of members tells:\n%s\n%s", x, y)
	}
}
