// Package sourcetest is the contract of package source as a suite of tests,
// which every kind of input passes:
//
//	func TestContract(t *testing.T) {
//		sourcetest.Test(t, func(t *testing.T) *sourcetest.World {
//			server := …                          // in this process, fed by text
//			return &sourcetest.World{Kind: gomod.New(…), Request: …, Tree: …, Spoil: server.spoil, Down: server.Close}
//		})
//	}
package sourcetest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
)

// World is a small ecosystem with one input that can be locked in it. Every
// test of the suite gets one of its own.
type World struct {
	Kind    source.Kind
	Request lockfile.InputRequest
	Tree    map[string]string // files of the project by path; nil for kinds that read none

	Spoil func() // from now on other bytes are served under the same names
	Down  func() // from now on nobody answers

	// Refused are projects that cannot be locked, each with the beginning of the error.
	Refused []Refused
}

// Refused is a change of World.Tree that has to fail.
type Refused struct {
	Summary string
	Tree    map[string]string // laid over the world's; "" removes a file
	Error   string            // what the message holds
}

var platform = definition.Platform{OS: "linux", Architecture: "amd64"}

// Patience of tests: a server in this process that fails once has failed.
var patience = fetch.Options{Tries: 1, Pause: time.Millisecond}

// Test runs the suite. make is called for each test.
func Test(t *testing.T, make func(t *testing.T) *World) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, w *World)
	}{
		{"a lock can be written and read again", lockIsCanonical},
		{"the same world gives the same answer", sameAnswer},
		{"nothing is brought when nothing changed", nothingBrought},
		{"what is locked can be fetched into an empty store", canBeFetched},
		{"other bytes under the same name are refused", spoiled},
		{"a world that is down is an error that ends", down},
		{"a caller that gives up is obeyed", cancelled},
		{"what was read is written down", readsAreNoted},
		{"bad projects are refused", refused},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) { test.run(t, make(t)) })
	}
}

// Resolve asks the world's kind, as `quorate lock` would, and returns the lock.
func (w *World) Resolve(t *testing.T, blobs source.Blobs, previous *lockfile.Lock) (*lockfile.Lock, error) {
	t.Helper()
	return w.resolve(t.Context(), t, w.Tree, blobs, previous)
}

func (w *World) resolve(ctx context.Context, t *testing.T, files map[string]string, blobs source.Blobs, previous *lockfile.Lock) (*lockfile.Lock, error) {
	t.Helper()
	q := source.Query{Request: w.Request, Platforms: []definition.Platform{platform}, Blobs: blobs, Fetch: patience}
	if files != nil {
		q.Tree = Tree(t, w.Request.Ask["from"], files)
	}
	if previous != nil {
		in, _ := previous.Input(w.Request.Name)
		q.Previous, q.Pins = &in, previous.Pins
	}
	answer, err := w.Kind.Resolve(ctx, q)
	if err != nil {
		if answer != nil {
			t.Error("an answer came with the error")
		}
		return nil, err
	}
	in := lockfile.Input{Name: w.Request.Name, Kind: w.Request.Kind, Facts: answer.Facts}
	if q.Tree != nil {
		in.Reads = q.Tree.Reads()
	}
	lock := &lockfile.Lock{
		Format: lockfile.FormatVersion, Assembler: 1, Epoch: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		Requests: lockfile.Requests{Inputs: []lockfile.InputRequest{w.Request}},
		Inputs:   []lockfile.Input{in}, Platforms: []lockfile.Platform{{Platform: platform}},
	}
	for _, p := range answer.Pins {
		p.Input = w.Request.Name
		lock.Pins = append(lock.Pins, p)
	}
	return lockfile.Sorted(lock), nil
}

func (w *World) mustResolve(t *testing.T, blobs source.Blobs, previous *lockfile.Lock) *lockfile.Lock {
	t.Helper()
	lock, err := w.Resolve(t, blobs, previous)
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

func lockIsCanonical(t *testing.T, w *World) {
	blobs := NewBlobs(t)
	lock := w.mustResolve(t, blobs, nil)
	if err := lock.Validate(); err != nil {
		t.Fatal(err)
	}
	text := lockfile.Format(lock)
	again, err := lockfile.Parse(lockfile.FileName, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !reflect.DeepEqual(again, lock) {
		t.Errorf("read again:\n%+v\nwritten:\n%+v", again, lock)
	}
	if len(lock.Pins) == 0 {
		t.Fatal("the answer has no pin: the suite looks at nothing")
	}
	for _, p := range lock.Pins {
		if !blobs.Has(p.SHA256, p.Size) {
			t.Errorf("pin %s %s is not in the store with its size and digest", p.Name, p.Version)
		}
	}
}

func sameAnswer(t *testing.T, w *World) {
	a := w.mustResolve(t, NewBlobs(t), nil)
	b := w.mustResolve(t, NewBlobs(t), nil)
	if x, y := lockfile.Format(a), lockfile.Format(b); !bytes.Equal(x, y) {
		t.Errorf("two answers:\n%s\n%s", x, y)
	}
}

func nothingBrought(t *testing.T, w *World) {
	first := w.mustResolve(t, NewBlobs(t), nil)
	empty := NewBlobs(t)
	second := w.mustResolve(t, empty, first)
	if x, y := lockfile.Format(first), lockfile.Format(second); !bytes.Equal(x, y) {
		t.Errorf("locked anew:\n%s\nbefore:\n%s", y, x)
	}
	if n := empty.Created(); n > 0 {
		t.Errorf("%d blobs were brought although nothing changed", n)
	}
}

func canBeFetched(t *testing.T, w *World) {
	lock := w.mustResolve(t, NewBlobs(t), nil)
	empty := NewBlobs(t)
	if err := w.fetch(t, lock, empty); err != nil {
		t.Fatal(err)
	}
	for _, p := range lock.Pins {
		r, err := empty.Open(p.SHA256)
		if err != nil {
			t.Errorf("pin %s %s was not fetched: %v", p.Name, p.Version, err)
			continue
		}
		r.Close()
	}
}

func (w *World) fetch(t *testing.T, lock *lockfile.Lock, blobs *Blobs) error {
	t.Helper()
	var items []fetch.Item
	for _, p := range lock.Pins {
		sources, err := w.Kind.Open(w.Request, p)
		if err != nil {
			t.Fatal(err)
		}
		if len(sources) == 0 {
			t.Errorf("pin %s %s can be had nowhere", p.Name, p.Version)
		}
		items = append(items, fetch.Item{Name: p.Name, Size: p.Size, Digest: p.SHA256, Sources: sources})
	}
	return fetch.Fetch(t.Context(), items, blobs, patience)
}

func spoiled(t *testing.T, w *World) {
	if w.Spoil == nil {
		t.Fatal("World.Spoil is not set")
	}
	lock := w.mustResolve(t, NewBlobs(t), nil)
	w.Spoil()
	if err := w.fetch(t, lock, NewBlobs(t)); err == nil {
		t.Error("a fetch took other bytes than are locked")
	}
	fresh, err := w.Resolve(t, NewBlobs(t), nil)
	if err == nil && bytes.Equal(lockfile.Format(fresh), lockfile.Format(lock)) {
		t.Error("the lock says that nothing changed")
	}
	if err == nil && w.Tree != nil {
		t.Error("the project's own lock file vouches for other bytes, and nobody noticed")
	}
}

func down(t *testing.T, w *World) {
	if w.Down == nil {
		t.Fatal("World.Down is not set")
	}
	lock := w.mustResolve(t, NewBlobs(t), nil)
	w.Down()
	start := time.Now()
	if _, err := w.Resolve(t, NewBlobs(t), nil); err == nil {
		t.Error("a lock was made of nothing")
	}
	if err := w.fetch(t, lock, NewBlobs(t)); err == nil {
		t.Error("a fetch brought something from nowhere")
	}
	// Far above what a refused connection takes, and far below any patience of a person.
	if spent := time.Since(start); spent > 20*time.Second {
		t.Errorf("it took %s to notice that nobody answers", spent)
	}
}

func cancelled(t *testing.T, w *World) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.resolve(ctx, t, w.Tree, NewBlobs(t), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after the caller gave up", err)
	}
}

// readsAreNoted changes each file that decided the answer: the lock has to know.
func readsAreNoted(t *testing.T, w *World) {
	if w.Tree == nil {
		return
	}
	lock := w.mustResolve(t, NewBlobs(t), nil)
	reads := lock.Inputs[0].Reads
	if len(reads) == 0 {
		t.Fatal("nothing was read")
	}
	if err := lock.CoversTree(w.Request.Ask["from"], reads); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	for file := range reads {
		changed := maps.Clone(reads)
		changed[file] = digest.Of([]byte("changed")).Hex()
		if err := lock.CoversTree(w.Request.Ask["from"], changed); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s was changed, and the lock says %v", file, err)
		}
	}
}

func refused(t *testing.T, w *World) {
	for _, r := range w.Refused {
		t.Run(strings.ReplaceAll(r.Summary, " ", "-"), func(t *testing.T) {
			files := maps.Clone(w.Tree)
			for name, text := range r.Tree {
				if files[name] = text; text == "" {
					delete(files, name)
				}
			}
			blobs := NewBlobs(t)
			_, err := w.resolve(t.Context(), t, files, blobs, nil)
			if err == nil {
				t.Fatal("it was locked")
			}
			if !strings.Contains(err.Error(), r.Error) {
				t.Errorf("got  %v\nwant %s", err, r.Error)
			}
		})
	}
}

// Tree packs files as a local input is packed, and opens it. A name that ends in
// "@" is a symbolic link to its text.
func Tree(t *testing.T, name string, files map[string]string) *source.Tree {
	t.Helper()
	folders := map[string]bool{}
	for file := range files {
		for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	write := func(h *tar.Header, text string) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		write(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, "")
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if link, ok := strings.CutSuffix(file, "@"); ok {
			write(&tar.Header{Typeflag: tar.TypeSymlink, Name: link, Linkname: files[file], Mode: 0o777}, "")
			continue
		}
		write(&tar.Header{Typeflag: tar.TypeReg, Name: file, Size: int64(len(files[file])), Mode: 0o644}, files[file])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tree, err := source.NewTree(name, bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// Flood repeats a text up to so many bytes, and looks at the memory meanwhile: at
// how much more is in use than when it began to be read.
type Flood struct {
	Text  string
	Left  int64 // bytes
	Looks int   // how often it looked
	Most  int64 // bytes

	before uint64
	next   int64 // what is left when it looks again
}

// Read implements io.Reader.
func (f *Flood) Read(b []byte) (int, error) {
	if f.Left <= 0 {
		return 0, io.EOF
	}
	if f.Looks == 0 || f.Left <= f.next {
		runtime.GC() // what is garbage does not count
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		if f.Looks == 0 {
			f.before = s.HeapAlloc
		}
		f.Looks, f.next = f.Looks+1, f.Left-512<<10
		f.Most = max(f.Most, int64(s.HeapAlloc)-int64(f.before))
	}
	n := 0
	for n+len(f.Text) <= len(b) {
		n += copy(b[n:], f.Text)
	}
	if n == 0 {
		return 0, io.ErrShortBuffer
	}
	f.Left -= int64(n)
	return n, nil
}

// Blobs is a store in a folder of a test: source.Blobs, and what fetch needs.
type Blobs struct {
	dir     string
	mu      sync.Mutex
	created int
	notes   map[string][]byte
}

// NewBlobs returns an empty store.
func NewBlobs(t *testing.T) *Blobs {
	return &Blobs{dir: t.TempDir(), notes: map[string][]byte{}}
}

// Dir is where the blobs are.
func (b *Blobs) Dir() string { return b.dir }

// Created says how many blobs were begun.
func (b *Blobs) Created() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.created
}

func (b *Blobs) file(d digest.Digest) string { return filepath.Join(b.dir, d.Hex()) }

// Create implements source.Blobs.
func (b *Blobs) Create() (source.Writer, error) {
	b.mu.Lock()
	b.created++
	b.mu.Unlock()
	return &writer{b: b}, nil
}

// Has implements source.Blobs.
func (b *Blobs) Has(d digest.Digest, size int64) bool {
	info, err := os.Stat(b.file(d))
	return err == nil && (size < 0 || info.Size() == size)
}

// Open implements source.Blobs.
func (b *Blobs) Open(d digest.Digest) (io.ReadCloser, error) { return os.Open(b.file(d)) }

// Path implements source.Blobs.
func (b *Blobs) Path(d digest.Digest) (string, bool) { return b.file(d), b.Has(d, -1) }

// Note implements source.Blobs.
func (b *Blobs) Note(kind, key string) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	note, ok := b.notes[kind+"/"+key]
	return note, ok
}

// PutNote implements source.Blobs.
func (b *Blobs) PutNote(kind, key string, note []byte) error {
	if !json.Valid(note) {
		return errors.New("a note that is not JSON")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notes[kind+"/"+key] = note
	return nil
}

// Partial implements fetch.Store.
func (b *Blobs) Partial(_ context.Context, d digest.Digest) (*Partial, error) {
	return &Partial{b: b, want: d}, nil
}

// SetAside implements fetch.Store.
func (b *Blobs) SetAside(d digest.Digest) error { return os.Remove(b.file(d)) }

type writer struct {
	b *Blobs
	bytes.Buffer
	aside string // what Reopen made
}

func (w *writer) Reopen() (*os.File, error) {
	f, err := os.CreateTemp("", "sourcetest")
	if err != nil {
		return nil, err
	}
	w.aside = f.Name()
	if _, err := f.Write(w.Bytes()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (w *writer) Commit() (digest.Digest, int64, error) {
	d := digest.Of(w.Bytes())
	return d, int64(w.Len()), os.WriteFile(w.b.file(d), w.Bytes(), 0o600)
}

func (w *writer) Close() error {
	if w.aside != "" {
		return os.Remove(w.aside)
	}
	return nil
}

// Partial is the beginning of a blob.
type Partial struct {
	b    *Blobs
	want digest.Digest
	buf  bytes.Buffer
}

func (p *Partial) Write(b []byte) (int, error) { return p.buf.Write(b) }

// Size implements fetch.Sink.
func (p *Partial) Size() int64 { return int64(p.buf.Len()) }

// Reset implements fetch.Sink.
func (p *Partial) Reset() error {
	p.buf.Reset()
	return nil
}

// Finish implements fetch.Partial.
func (p *Partial) Finish() error {
	if got := digest.Of(p.buf.Bytes()); got != p.want {
		p.buf.Reset()
		return &digest.MismatchError{Want: p.want, Got: got}
	}
	return os.WriteFile(p.b.file(p.want), p.buf.Bytes(), 0o600)
}

// Close implements fetch.Partial.
func (p *Partial) Close() error { return nil }
