package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/lockfile/digest"
)

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "st[or]e"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t testing.TB, s *Store, text string) digest.Digest {
	t.Helper()
	d := digest.Of([]byte(text))
	if err := s.Put(strings.NewReader(text), d, int64(len(text))); err != nil {
		t.Fatal(err)
	}
	return d
}

func get(t testing.TB, s *Store, d digest.Digest) string {
	t.Helper()
	b, err := read(s, d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(s *Store, d digest.Digest) (string, error) {
	r, err := s.Open(d)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// files lists a folder of the store, to see that nothing was left.
func files(t testing.TB, s *Store, elem ...string) []string {
	t.Helper()
	entries, err := os.ReadDir(s.path(elem...))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func age(t testing.TB, path string, by time.Duration) {
	t.Helper()
	at := time.Now().Add(-by)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestPutAndOpen(t *testing.T) {
	s := open(t, Options{})
	d := put(t, s, "some bytes")
	if got := get(t, s, d); got != "some bytes" {
		t.Errorf("got %q", got)
	}
	for size, want := range map[int64]bool{-1: true, 10: true, 9: false, 11: false, 0: false} {
		if got := s.Has(d, size); got != want {
			t.Errorf("Has with size %d: got %v", size, got)
		}
	}
	path, ok := s.Path(d)
	if want := filepath.Join(s.Dir(), "blobs", "sha256", d.Hex()); !ok || path != want {
		t.Errorf("got path %q %v, expected %q", path, ok, want)
	}
	other := digest.Of([]byte("other"))
	if _, err := s.Open(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening what is not there: %v", err)
	}
	if _, err := s.Open(digest.Digest{}); !errors.Is(err, fs.ErrNotExist) || s.Has(digest.Digest{}, -1) {
		t.Errorf("opening no digest: %v", err)
	}
	if _, ok := s.Path(other); ok {
		t.Error("a path for what is not there")
	}
	put(t, s, "some bytes") // again
	unread := iotest{}
	if err := s.Put(unread, d, 10); err != nil {
		t.Errorf("putting what is there reads: %v", err)
	}
}

type iotest struct{ err error }

func (r iotest) Read([]byte) (int, error) {
	if r.err == nil {
		return 0, errors.New("was read")
	}
	return 0, r.err
}

func TestPutRefuses(t *testing.T) {
	d := digest.Of([]byte("abc"))
	broken := errors.New("line went dead")
	tests := []struct {
		summary string
		r       io.Reader
		want    digest.Digest
		size    int64
		err     string
	}{
		{"too short", strings.NewReader("ab"), d, 3, "cannot store blob " + d.String() + ": ended after 2 bytes, expected 3"},
		{"too long", strings.NewReader("abcd"), d, 3, "cannot store blob " + d.String() + ": more than the expected 3 bytes"},
		{"wrong bytes", strings.NewReader("abd"), d, 3, "cannot store blob " + d.String() + ": bytes have digest " + digest.Of([]byte("abd")).String() + ", expected " + d.String()},
		{"wrong bytes, any size", strings.NewReader("abcd"), d, -1, "cannot store blob " + d.String() + ": bytes have digest " + digest.Of([]byte("abcd")).String() + ", expected " + d.String()},
		{"broken reader", io.MultiReader(strings.NewReader("ab"), iotest{broken}), d, 3, "cannot store blob " + d.String() + ": line went dead"},
		{"no digest", strings.NewReader(""), digest.Digest{}, 0, "cannot store a blob without a digest"},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			s := open(t, Options{})
			err := s.Put(test.r, test.want, test.size)
			if err == nil || err.Error() != test.err {
				t.Errorf("got error  %v\nexpected   %s", err, test.err)
			}
			if s.Has(test.want, -1) {
				t.Error("a blob was stored")
			}
			if left := files(t, s, "scratch"); len(left) == 1 {
				if left := files(t, s, "scratch", left[0]); len(left) > 0 {
					t.Errorf("left in scratch: %q", left)
				}
			}
		})
	}
}

func TestWriter(t *testing.T) {
	s := open(t, Options{})
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "one ")
	io.WriteString(w, "two")
	f, err := w.Reopen()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != "one two" || s.Has(digest.Of(got), -1) {
		t.Errorf("before it is stored: got %q, %v", got, err)
	}
	f.Close()
	d, n, err := w.Commit()
	if err != nil || n != 7 || d != digest.Of([]byte("one two")) {
		t.Fatalf("got %v %d %v", d, n, err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if got := get(t, s, d); got != "one two" {
		t.Errorf("got %q", got)
	}
	if _, _, err := w.Commit(); err == nil {
		t.Error("committed twice")
	}
	if _, err := w.Reopen(); err == nil {
		t.Error("opened again when it was stored")
	}
	w, _ = s.Create()
	io.WriteString(w, "dropped")
	w.Close()
	if s.Has(digest.Of([]byte("dropped")), -1) {
		t.Error("closed without commit, yet stored")
	}
}

func TestDamagedBlob(t *testing.T) {
	damage := map[string]func(t *testing.T, path string){
		"bit flipped": func(t *testing.T, path string) { os.WriteFile(path, []byte("some bytez"), 0o644) },
		"cut short":   func(t *testing.T, path string) { os.Truncate(path, 3) },
		"emptied":     func(t *testing.T, path string) { os.Truncate(path, 0) },
		"grown":       func(t *testing.T, path string) { os.Truncate(path, 100000) },
	}
	for summary, hurt := range damage {
		t.Run(summary, func(t *testing.T) {
			s := open(t, Options{})
			d := put(t, s, "some bytes")
			path, _ := s.Path(d)
			hurt(t, path)
			_, err := read(s, d)
			var damaged *DamagedError
			if !errors.As(err, &damaged) || damaged.Digest != d || damaged.Path != path {
				t.Fatalf("got %v", err)
			}
			var mismatch *digest.MismatchError
			if !errors.As(err, &mismatch) || mismatch.Want != d {
				t.Errorf("the cause is missing: %v", err)
			}
			if s.Has(d, -1) {
				t.Error("the damaged blob is still in use")
			}
			if got := files(t, s, "damaged"); len(got) != 1 || got[0] != d.Hex() {
				t.Errorf("in damaged: %q", got)
			}
			put(t, s, "some bytes")
			if got := get(t, s, d); got != "some bytes" {
				t.Errorf("after mending: %q", got)
			}
		})
	}
}

// A reader that finds damage must not set aside the good blob that another
// process has put in place meanwhile.
func TestDamagedButMended(t *testing.T) {
	s := open(t, Options{})
	d := put(t, s, "some bytes")
	path, _ := s.Path(d)
	os.WriteFile(path, []byte("some bytez"), 0o644)
	r, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := s.SetAside(d); err != nil {
		t.Fatal(err)
	}
	put(t, s, "some bytes")
	var damaged *DamagedError
	if _, err := io.ReadAll(r); !errors.As(err, &damaged) {
		t.Errorf("got %v", err)
	}
	if got := get(t, s, d); got != "some bytes" {
		t.Errorf("got %q", got)
	}
}

func TestSetAsideMissing(t *testing.T) {
	if err := open(t, Options{}).SetAside(digest.Of(nil)); err != nil {
		t.Error(err)
	}
}

func TestInputs(t *testing.T) {
	ctx := context.Background()
	common := open(t, Options{})
	own := open(t, Options{Inputs: common})
	in := put(t, own.Inputs(), "fetched")
	out := put(t, own, "made")
	if get(t, own, in) != "fetched" || get(t, own, out) != "made" || get(t, common, in) != "fetched" {
		t.Error("wrong bytes")
	}
	if !own.Has(in, 7) || common.Has(out, -1) {
		t.Error("a blob is in the wrong store")
	}
	if p, _ := own.Path(in); p != filepath.Join(common.Dir(), "blobs", "sha256", in.Hex()) {
		t.Errorf("path %q", p)
	}
	if err := common.PutNote("k", "a", []byte("note")); err != nil {
		t.Fatal(err)
	}
	if _, ok := own.Note("k", "a"); ok {
		t.Error("a note is shared")
	}
	for _, s := range []*Store{common, own} {
		made := false
		if _, err := s.Derived(ctx, "k", "a", func(string) error { made = true; return nil }); err != nil || !made {
			t.Errorf("a derived folder is shared: %v %v", made, err)
		}
	}
	path, _ := own.Path(in)
	os.WriteFile(path, []byte("fetchee"), 0o644)
	var damaged *DamagedError
	if _, err := read(own, in); !errors.As(err, &damaged) {
		t.Errorf("damage in the shared store: %v", err)
	}
	if common.Has(in, -1) {
		t.Error("damage in the shared store was not set aside")
	}
}

func TestReadOnly(t *testing.T) {
	ctx := context.Background()
	w := open(t, Options{})
	d := put(t, w, "text")
	r, err := Open(w.Dir(), Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if get(t, r, d) != "text" {
		t.Error("wrong bytes")
	}
	_, errCreate := r.Create()
	_, errDerived := r.Derived(ctx, "k", "a", func(string) error { return nil })
	_, errPartial := r.Partial(ctx, d)
	_, errGC := r.GC(ctx, GCOptions{})
	_, _, errScratch := r.Scratch(ctx)
	errPut := r.Put(strings.NewReader("x"), digest.Of([]byte("x")), 1)
	for i, err := range []error{errCreate, errDerived, errPartial, errGC, errScratch, errPut, r.PutNote("k", "a", nil), r.SetAside(d), r.Drop("k", "a")} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%d: got %v", i, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened what is not there: %v", err)
	}
	own := open(t, Options{Inputs: r})
	if own.Inputs() != own || get(t, own, d) != "text" {
		t.Error("read-only inputs")
	}
}

func TestOpenRefusesOtherLayout(t *testing.T) {
	for text, want := range map[string]string{
		`{"imageLayoutVersion":"2.0.0"}`: `its oci-layout file has imageLayoutVersion "2.0.0", expected "1.0.0"`,
		`{`:                              `its oci-layout file is not JSON: unexpected end of JSON input`,
	} {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(text), 0o644)
		_, err := Open(dir, Options{})
		if want := `cannot open store "` + dir + `": ` + want; err == nil || err.Error() != want {
			t.Errorf("got %v, expected %s", err, want)
		}
	}
}

func TestPartial(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{})
	d := digest.Of([]byte("hello world"))
	p, err := s.Partial(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(p, "hello ")
	p.Close()
	p, err = s.Partial(ctx, d)
	if err != nil || p.Size() != 6 {
		t.Fatalf("after the break: %d bytes, %v", p.Size(), err)
	}
	waiting, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := s.Partial(waiting, d); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("two have it: %v", err)
	}
	io.WriteString(p, "wurld")
	var mismatch *digest.MismatchError
	if err := p.Finish(); !errors.As(err, &mismatch) || p.Size() != 0 {
		t.Errorf("wrong bytes: %v, %d bytes kept", err, p.Size())
	}
	io.WriteString(p, "hello world")
	if err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if get(t, s, d) != "hello world" {
		t.Error("wrong bytes")
	}
	if left := append(files(t, s, "partial"), files(t, s, "locks")...); strings.Contains(strings.Join(left, " "), d.Hex()) {
		t.Errorf("left: %q", left)
	}
	p, _ = s.Partial(ctx, digest.Of([]byte("never came")))
	p.Close()
	if left := files(t, s, "partial"); len(left) > 0 {
		t.Errorf("empty partials left: %q", left)
	}
}

func TestModesWhateverUmask(t *testing.T) {
	old := setUmask(0o077)
	defer setUmask(old)
	s := open(t, Options{})
	d := put(t, s, "x")
	w, _ := s.Create()
	c, _, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	s.PutNote("k", "a", nil)
	dir, err := s.Derived(context.Background(), "k", "a", func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	rel, _ := filepath.Rel(s.Dir(), dir)
	for path, want := range map[string]fs.FileMode{
		".": 0o755, "blobs/sha256": 0o755, rel: 0o755, "notes/k/a": 0o644, "index.json": 0o644, "oci-layout": 0o644,
		"blobs/sha256/" + d.Hex(): 0o644, "blobs/sha256/" + c.Hex(): 0o644,
	} {
		fi, err := os.Stat(s.path(path))
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v %v, expected %v", path, fi.Mode(), err, want)
		}
	}
}

func TestScratchIsReaped(t *testing.T) {
	s := open(t, Options{})
	live, done, err := s.Scratch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	dead := s.path("scratch", "dead", "deep")
	os.MkdirAll(dead, 0o755)
	os.WriteFile(filepath.Join(dead, "file"), nil, 0o444)
	os.Chmod(dead, 0o555)
	other, err := Open(s.Dir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	if _, err := os.Stat(s.path("scratch", "dead")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dead process's scratch is left: %v", err)
	}
	if _, err := os.Stat(live); err != nil {
		t.Errorf("a live one's is gone: %v", err)
	}
	done()
	if _, err := os.Stat(live); !errors.Is(err, fs.ErrNotExist) {
		t.Error("done left the folder")
	}
	s.Close()
	if left := files(t, s, "scratch"); len(left) > 0 {
		t.Errorf("Close left %q", left)
	}
	if left := files(t, s, "locks"); strings.Contains(strings.Join(left, " "), scratchLock) {
		t.Errorf("Close left %q", left)
	}
}

func TestVerify(t *testing.T) {
	s := open(t, Options{})
	good := put(t, s, strings.Repeat("good", 1000))
	bad := put(t, s, "bad")
	path, _ := s.Path(bad)
	os.WriteFile(path, []byte("sad"), 0o644)
	os.WriteFile(s.path("blobs", "sha256", "README"), nil, 0o644)
	var last, total int64
	r, err := s.Verify(context.Background(), func(d, n int64) { last, total = d, n })
	if err != nil || r.Blobs != 2 || r.Bytes != 4003 || len(r.Damaged) != 1 || r.Damaged[0] != bad || len(r.Strange) != 1 {
		t.Errorf("got %+v %v", r, err)
	}
	if last != 4003 || total != 4003 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	if s.Has(bad, -1) || !s.Has(good, -1) {
		t.Error("wrong blob set aside")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNotes(t *testing.T) {
	s := open(t, Options{})
	for _, key := range []string{"plain", "sha256:ABC/..", "_x", strings.Repeat("long", 100)} {
		want := []byte("\x00bytes of\n" + key)
		if err := s.PutNote("kind", key, want); err != nil {
			t.Fatal(err)
		}
		if got, ok := s.Note("kind", key); !ok || !bytes.Equal(got, want) {
			t.Errorf("key %q: got %q %v", key, got, ok)
		}
		if _, ok := s.Note("other", key); ok {
			t.Error("found under another kind")
		}
	}
	if err := s.PutNote("..", "k", nil); err == nil {
		t.Error(`kind ".." taken`)
	}
	if err := s.PutNote("k", "", nil); err == nil {
		t.Error("empty key taken")
	}
	if err := s.Drop("kind", "plain"); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Note("kind", "plain"); ok {
		t.Error("dropped, yet there")
	}
}

// Any change of a note's file makes it absent.
func TestDamagedNoteIsAbsent(t *testing.T) {
	file := formatNote("kind", "key", []byte("payload"))
	for i := range file {
		for _, bit := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(file)
			bad[i] ^= bit
			if _, ok := parseNote("kind", "key", bad); ok {
				t.Errorf("byte %d changed by %#x, yet read", i, bit)
			}
		}
		if _, ok := parseNote("kind", "key", file[:i]); ok {
			t.Errorf("cut to %d bytes, yet read", i)
		}
	}
	if _, ok := parseNote("kind", "other", file); ok {
		t.Error("read under another key")
	}
}

func FuzzNote(f *testing.F) {
	f.Add("kind", "key", formatNote("kind", "key", []byte("payload")))
	f.Add("kind", "key", formatNote("kind", "key", nil))
	f.Add("k", "", []byte("quorate-note sha256:\n"))
	f.Fuzz(func(t *testing.T, kind, key string, file []byte) {
		b, ok := parseNote(kind, key, file)
		if ok && !bytes.Equal(formatNote(kind, key, b), file) {
			t.Errorf("%q is read but written otherwise", file)
		}
		if again, ok := parseNote(kind, key, formatNote(kind, key, file)); !ok || !bytes.Equal(again, file) {
			t.Errorf("%q is written but not read", file)
		}
	})
}
