//go:build unix

package local

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorate.dev/lockfile/digest"
)

// write makes files from a map: "dir/" is a folder, "-> target" a symlink,
// "+x text" an executable file.
func write(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(root, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		target, link := strings.CutPrefix(text, "-> ")
		body, exec := strings.CutPrefix(text, "+x ")
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		case link:
			err = os.Symlink(target, p)
		case exec:
			err = os.WriteFile(p, []byte(body), 0o755)
		default:
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func sample(t testing.TB) string {
	root := t.TempDir()
	write(t, root, map[string]string{
		"main.c":             "int main;\n",
		"build.sh":           "+x #!/bin/sh\n",
		"a/b/c":              "",
		"a.txt":              "sorts before a/",
		"link":               "-> /etc/passwd",
		"up":                 "-> ../../x",
		"empty/deep/":        "",
		".git/HEAD":          "ref",
		"sub/.git":           "gitdir: elsewhere",
		"sub/ünï\ncode":      "x",
		".quorateignore":     "*.o\nout/\n",
		"x.o":                "object",
		"out/y":              "y",
		"onlyignored/z.o":    "z",
		"sub/.quorateignore": "!keep.o\n",
		"sub/keep.o":         "kept",
	})
	return root
}

func paths(t *Tree) []string {
	list := []string{}
	for _, e := range t.Entries {
		list = append(list, string(e.Kind)+" "+e.Path)
	}
	return list
}

func TestScan(t *testing.T) {
	tree, err := Scan(sample(t), Options{Exclude: []string{"main.c"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"f .quorateignore", "d a", "f a.txt", "d a/b", "f a/b/c", "f build.sh", "l link", "d sub", "f sub/.quorateignore", "f sub/keep.o", "f sub/ünï\ncode", "l up"}
	if got := paths(tree); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, e := range tree.Entries {
		switch e.Path {
		case "link":
			if e.Link != "/etc/passwd" {
				t.Errorf("link leads to %q", e.Link)
			}
		case "build.sh":
			if e.Mode != 0o755 || e.Size != 10 || e.Digest != digest.Of([]byte("#!/bin/sh\n")) {
				t.Errorf("build.sh: %+v", e)
			}
		case "a.txt":
			if e.Mode != 0o644 {
				t.Errorf("a.txt: %+v", e)
			}
		}
	}
}

// The form of text and archive is part of what builds agree on: these digests never change.
func TestGolden(t *testing.T) {
	root := t.TempDir()
	long := strings.Repeat("long/", 60) + "name"
	write(t, root, map[string]string{"f": "text\n", "x": "+x run\n", "d/l": "-> ../f", long: "deep\n"})
	tree, err := Scan(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	text := string(tree.Text())
	head := "quorate-tree 1\n" +
		"d 0755 d\x00" +
		"l d/l\x00../f\x00" +
		"f 0644 5 " + digest.Of([]byte("text\n")).String() + " f\x00" +
		"d 0755 long\x00"
	if !strings.HasPrefix(text, head) || tree.Digest != digest.Of([]byte(text)) {
		t.Errorf("got text %q", text)
	}
	if want := digest.MustParse("sha256:65a610179ddc2de7ea8b1785f705e8d9687f14cfe3ccc7adf3403047cf1b2b7b"); tree.Digest != want {
		t.Errorf("tree digest is %s", tree.Digest)
	}
	var b bytes.Buffer
	if err := tree.Archive(&b); err != nil {
		t.Fatal(err)
	}
	if got, want := digest.Of(b.Bytes()), digest.MustParse("sha256:ed50a3616d8ea7a2e433d80215ab741be7de4b6f6e0c27bac28f57704ac6bab2"); got != want {
		t.Errorf("archive digest is %s", got)
	}
}

// What git does not record must not matter.
func TestSameTreeWhateverTheCheckout(t *testing.T) {
	one, other := sample(t), sample(t)
	old := time.Unix(1e9, 0)
	err := filepath.WalkDir(other, func(p string, d os.DirEntry, err error) error {
		if d.Type()&os.ModeSymlink != 0 {
			return err
		}
		fi, _ := d.Info()
		mode := fi.Mode() & 0o700
		if filepath.Base(p) == "build.sh" {
			mode = 0o700 | os.ModeSetuid
		}
		return errors.Join(err, os.Chmod(p, mode), os.Chtimes(p, old, old))
	})
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(other, "sub/ünï\ncode"))
	os.Link(filepath.Join(other, "main.c"), filepath.Join(other, "hard"))
	os.Remove(filepath.Join(other, "hard"))
	write(t, other, map[string]string{"another/empty/": "", "sub/ünï\ncode": "x", "more.o": "ignored"})
	var archives [2]bytes.Buffer
	var trees [2]*Tree
	for i, root := range []string{one, other} {
		if trees[i], err = Pack(root, &archives[i], Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if trees[0].Digest != trees[1].Digest {
		t.Errorf("tree texts differ:\n%q\n%q", trees[0].Text(), trees[1].Text())
	}
	if !bytes.Equal(archives[0].Bytes(), archives[1].Bytes()) {
		t.Error("archives differ")
	}
	scanned, err := Scan(one, Options{})
	if err != nil || scanned.Digest != trees[0].Digest {
		t.Errorf("Scan and Pack differ: %v", err)
	}
	var b bytes.Buffer
	if err := scanned.Archive(&b); err != nil || !bytes.Equal(b.Bytes(), archives[0].Bytes()) {
		t.Errorf("Archive and Pack differ: %v", err)
	}
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !h.ModTime.Equal(time.Unix(0, 0)) || h.Mode&^0o777 != 0 {
			t.Errorf("header %+v", h)
		}
	}
}

func TestEveryDifferenceCounts(t *testing.T) {
	changes := map[string]func(root string){
		"byte":       func(r string) { os.WriteFile(r+"/main.c", []byte("int maim;\n"), 0o644) },
		"executable": func(r string) { os.Chmod(r+"/main.c", 0o755) },
		"name":       func(r string) { os.Rename(r+"/main.c", r+"/main.d") },
		"link":       func(r string) { os.Remove(r + "/up"); os.Symlink("../x", r+"/up") },
		"kind":       func(r string) { os.Remove(r + "/up"); os.WriteFile(r+"/up", []byte("../../x"), 0o644) },
		"more":       func(r string) { os.WriteFile(r+"/new", nil, 0o644) },
		"less":       func(r string) { os.Remove(r + "/a.txt") },
	}
	before, err := Scan(sample(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range changes {
		root := sample(t)
		change(root)
		after, err := Scan(root, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if after.Digest == before.Digest {
			t.Errorf("%s: same digest", name)
		}
	}
}

func TestRefused(t *testing.T) {
	tests := []struct {
		summary string
		make    func(root string) error
		o       Options
		err     string // after `cannot read local tree "ROOT": `
	}{
		{"named pipe", func(r string) error { return syscall.Mkfifo(r+"/pipe", 0o644) }, Options{},
			`"pipe" is a named pipe; only files, folders and symlinks can be an input (name it in .quorateignore to leave it out)`},
		{"name in Latin-1", func(r string) error { return os.WriteFile(r+"/caf\xe9", nil, 0o644) }, Options{},
			`name "caf\xe9" is not UTF-8`},
		{"target in Latin-1", func(r string) error { return os.Symlink("caf\xe9", r+"/l") }, Options{},
			`symlink "l" has target "caf\xe9", which is not UTF-8`},
		{"too many files", func(r string) error {
			return errors.Join(os.WriteFile(r+"/1", nil, 0o644), os.WriteFile(r+"/2", nil, 0o644))
		}, Options{MaxFiles: 1},
			`it has more than 1 files; name what is not needed in .quorateignore`},
		{"too many bytes", func(r string) error { return os.WriteFile(r+"/1", []byte("1234"), 0o644) }, Options{MaxBytes: 3},
			`its files have more than 3 bytes; name what is not needed in .quorateignore`},
		{"huge sparse file", func(r string) error {
			return errors.Join(os.WriteFile(r+"/1", nil, 0o644), os.Truncate(r+"/1", MaxBytes+1))
		}, Options{}, `its files have more than 17179869184 bytes; name what is not needed in .quorateignore`},
		{"ignore file is a link", func(r string) error { return os.Symlink("/etc/passwd", r+"/.quorateignore") }, Options{},
			`".quorateignore" is not a regular file of at most 1048576 bytes`},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			root := t.TempDir()
			if err := test.make(root); err != nil {
				t.Fatal(err)
			}
			_, err := Scan(root, test.o)
			if want := `cannot read local tree "` + root + `": ` + test.err; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if _, err := Pack(root, io.Discard, test.o); err == nil {
				t.Error("Pack took it")
			}
		})
	}
	if _, err := Scan(filepath.Join(t.TempDir(), "none"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestIgnoredPipeIsNoMatter(t *testing.T) {
	root := t.TempDir()
	syscall.Mkfifo(root+"/pipe", 0o644)
	write(t, root, map[string]string{".quorateignore": "pipe\n"})
	if _, err := Scan(root, Options{}); err != nil {
		t.Error(err)
	}
}

func TestChangedSinceScan(t *testing.T) {
	changes := map[string]func(p string){
		"rewritten": func(p string) {
			os.WriteFile(p, []byte("int maim;\n"), 0o644)
			os.Chtimes(p, time.Now(), time.Now().Add(time.Second))
		},
		"grown":   func(p string) { os.WriteFile(p, []byte("int main; more\n"), 0o644) },
		"removed": func(p string) { os.Remove(p) },
		"replaced": func(p string) {
			os.Rename(p, p+".old")
			os.WriteFile(p, []byte("int main;\n"), 0o644)
		},
		"swapped for a link": func(p string) { os.Remove(p); os.Symlink("a.txt", p) },
		"rewritten, times restored": func(p string) {
			fi, _ := os.Stat(p)
			f, _ := os.OpenFile(p, os.O_WRONLY, 0)
			f.WriteString("INT")
			f.Close()
			os.Chtimes(p, fi.ModTime(), fi.ModTime())
		},
	}
	for summary, change := range changes {
		root := sample(t)
		tree, err := Scan(root, Options{})
		if err != nil {
			t.Fatal(err)
		}
		change(filepath.Join(root, "main.c"))
		var changed *ChangedError
		if err := tree.Archive(io.Discard); !errors.As(err, &changed) || changed.Path != "main.c" {
			t.Errorf("%s: got %v", summary, err)
		}
	}
}

func TestArchiveReportsWriteErrors(t *testing.T) {
	root := sample(t)
	full := errors.New("disk full")
	if _, err := Pack(root, failing{full}, Options{}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

func TestArchiveNoticesGrowth(t *testing.T) {
	root := sample(t)
	write(t, root, map[string]string{"log": strings.Repeat("x", 3*copySize(1<<20))})
	var changed *ChangedError
	if _, err := Pack(root, appending(filepath.Join(root, "log")), Options{}); !errors.As(err, &changed) || changed.Path != "log" {
		t.Errorf("got %v", err)
	}
}

// appending lets a file grow while its contents, not headers, go by.
type appending string

func (a appending) Write(p []byte) (int, error) {
	if len(p) < copySize(1<<20) {
		return len(p), nil
	}
	f, err := os.OpenFile(string(a), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	_, err = f.WriteString("more")
	return len(p), err
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func BenchmarkScan(b *testing.B) {
	root := b.TempDir()
	for i := range 100 {
		write(b, root, map[string]string{"d" + string(rune('a'+i%10)) + "/" + string(rune('a'+i/10)): strings.Repeat("x", 100<<10)})
	}
	b.SetBytes(100 * 100 << 10)
	for b.Loop() {
		if _, err := Scan(root, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
