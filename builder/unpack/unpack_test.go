package unpack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

func blob(t *testing.T, b []byte) Blob {
	t.Helper()
	file := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return Blob{Pin: lockfile.Pin{Name: "b", Size: int64(len(b)), SHA256: digest.Of(b)}, File: file, ReaderAt: bytes.NewReader(b)}
}

func zipped(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range names {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, "text of "+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFiles(t *testing.T) {
	stream, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var links bytes.Buffer
	w := tar.NewWriter(&links)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "top/run", Mode: 0o4711, Size: 2},
		{Typeflag: tar.TypeLink, Name: "top/again", Linkname: "top/run"},
		{Typeflag: tar.TypeSymlink, Name: "top/link", Linkname: "../x"},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = io.WriteString(w, "hi")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f := NewFiles(stream, stream.Name())
	whole := blob(t, []byte("whole"))
	strip := func(p string) (string, bool) { return strings.CutPrefix(p, "top/") }
	for _, err := range []error{
		f.Add("z/made", 0o755, strings.NewReader("made")),
		f.AddBlob("a/blob", whole),
		f.AddArchive("zip", blob(t, zipped(t, "one", "dir/two")), nil),
		f.AddArchive("tar", blob(t, links.Bytes()), strip),
		f.AddDir("empty", 0o755),
		f.Add("z/nothing", 0o644, strings.NewReader("")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	entries := f.Entries()
	if _, err := tree.New(entries); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, e := range entries {
		got.WriteString(string(e.Kind) + " " + e.Path)
		if e.Kind == tree.File {
			r, err := tree.Open(e)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			got.WriteString(" " + map[uint32]string{0o644: "", 0o755: "x"}[e.Mode] + string(text))
		}
		got.WriteString(" " + e.Link + "\n")
	}
	const want = "f a/blob whole \nd empty \nf tar/again xhi \nl tar/link ../x\nf tar/run xhi \nf z/made xmade \nf z/nothing  \nf zip/dir/two text of dir/two \nf zip/one text of one \n"
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestFilesRefuses(t *testing.T) {
	for _, test := range []struct {
		summary string
		add     func(f *Files) error
		want    string
	}{
		{"out of the root", func(f *Files) error { return f.Add("../x", 0o644, strings.NewReader("")) }, `file "../x" has ".." in its name`},
		{"absolute", func(f *Files) error { return f.AddDir("/x", 0o755) }, `file "/x" has an absolute name`},
		{"not shortest", func(f *Files) error { return f.AddDir("x//y", 0o755) }, `file "x//y" is not written in its shortest form`},
		{"twice", func(f *Files) error { return f.AddSymlink("there", "x") }, `file "there" is there twice`},
		{"below a file", func(f *Files) error { return f.AddSymlink("there/x", "x") }, `file "there/x" lies below "there", which is not a folder`},
		{"below a link", func(f *Files) error { return f.AddSymlink("link/x", "x") }, `file "link/x" lies below "link", which is not a folder`},
		{"a file in place of a folder", func(f *Files) error { return f.AddSymlink("dir", "x") }, `file "dir" is there twice`},
		{"a link to nothing", func(f *Files) error { return f.AddSymlink("x", "") }, `file "x" is a symbolic link to nothing that could be`},
		{"a hostile archive", func(f *Files) error { return f.AddArchive("x", blob(t, zipped(t, "../../etc/passwd")), nil) }, `cannot unpack archive: member "../../etc/passwd" has ".." in its name`},
		{"a rename that leaves", func(f *Files) error {
			return f.AddArchive("", blob(t, zipped(t, "one")), func(string) (string, bool) { return "../one", true })
		}, `file "../one" has ".." in its name`},
	} {
		f := NewFiles(io.Discard, "stream")
		for _, err := range []error{f.Add("there", 0o644, strings.NewReader("")), f.AddSymlink("link", "/"), f.Add("dir/file", 0o644, strings.NewReader(""))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := test.add(f); err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.summary, err, test.want)
		}
	}
}

// Paths tell of folders: a deep one of two thousand, in the 4 KiB that it may have.
func TestFoldersAreBounded(t *testing.T) {
	for max, want := range map[int]string{100: "it has more than 100 files and folders", 10*51 + 1: ""} {
		f := NewFiles(io.Discard, "stream")
		f.max = max
		var err error
		for i := 0; i < 10 && err == nil; i++ {
			err = f.Add(string(rune('a'+i))+strings.Repeat("/d", 50), 0o644, strings.NewReader(""))
		}
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("at most %d: got %v, want %s", max, err, want)
		}
		if len(f.paths) > max {
			t.Errorf("at most %d: %d are kept", max, len(f.paths))
		}
	}
}
