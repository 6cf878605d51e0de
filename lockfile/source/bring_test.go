package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/sourcetest"
)

// endless sends zeros for as long as somebody takes them, and counts.
type endless struct{ sent int64 }

func (e *endless) String() string { return "endless" }
func (e *endless) Open(context.Context, int64) (io.ReadCloser, int64, error) {
	return io.NopCloser(e), 0, nil
}
func (e *endless) Read(b []byte) (int, error) {
	e.sent += int64(len(b))
	return len(b), nil
}

// text sends a few bytes.
type text string

func (s text) String() string { return string(s) }
func (s text) Open(context.Context, int64) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader(string(s))), 0, nil
}

var patience = fetch.Options{Tries: 1, Pause: time.Millisecond}

// A source that does not stop is left at the limit, and the next one asked.
func TestBringLimit(t *testing.T) {
	const limit = 1 << 20
	blobs := sourcetest.NewBlobs(t)
	long := &endless{}
	w := source.Wanted{Name: "left 1.0.0", File: "web/package-lock.json", Line: 7, Key: "left", Sources: []fetch.Source{long}, Limit: limit}
	_, err := source.Bring(t.Context(), []source.Wanted{w}, blobs, patience)
	var unavailable *source.UnavailableError
	if !errors.As(err, &unavailable) || err.Error() != fmt.Sprintf("web/package-lock.json:7: cannot lock left 1.0.0:\n  endless: more than %d bytes", limit) {
		t.Errorf("got %v", err)
	}
	if long.sent > 2*limit {
		t.Errorf("%d bytes were taken", long.sent)
	}
	if _, ok := blobs.Note("brought", "left"); ok {
		t.Error("it is remembered as brought")
	}
	w.Sources = append(w.Sources, text("good"))
	got, err := source.Bring(t.Context(), []source.Wanted{w}, blobs, patience)
	if err != nil || got[0].Size != 4 {
		t.Errorf("got %v, %v", got, err)
	}
}

// One run names all that cannot be had, and what could is not lost.
func TestBringNamesAll(t *testing.T) {
	bad := func(io.ReaderAt, int64) error { return errors.New("it is not what was wanted") }
	blobs := sourcetest.NewBlobs(t)
	wanted := []source.Wanted{
		{Name: "a", File: "lock", Line: 1, Sources: []fetch.Source{text("a")}, Limit: 10, Verify: bad},
		{Name: "b", Key: "b", File: "lock", Line: 2, Sources: []fetch.Source{text("b")}, Limit: 10},
		{Name: "c", Limit: 10},
	}
	_, err := source.Bring(t.Context(), wanted, blobs, patience)
	if err == nil || err.Error() != "lock:1: cannot lock a:\n  a: it is not what was wanted\ncannot lock c: no place is known that has it" {
		t.Errorf("got %v", err)
	}
	if note, ok := blobs.Note("brought", "b"); !ok || !bytes.Contains(note, []byte(`"Size":1`)) {
		t.Errorf("what was brought is forgotten: %s", note)
	}
}

// hanging fails as a host does that is out of reach, and counts.
type hanging struct{ asked *atomic.Int32 }

func (h hanging) String() string { return "hanging" }
func (h hanging) Open(context.Context, int64) (io.ReadCloser, int64, error) {
	h.asked.Add(1)
	return nil, 0, errors.New("no answer")
}

// A registry that is out of reach is not asked for all of thousands of packages,
// unless nobody may be asked at all, which is told of each at once.
func TestBringInVain(t *testing.T) {
	var asked atomic.Int32
	var wanted []source.Wanted
	for i := range 500 {
		wanted = append(wanted, source.Wanted{Name: fmt.Sprintf("p%d 1.0.0", i), Sources: []fetch.Source{hanging{&asked}}})
	}
	_, err := source.Bring(t.Context(), wanted, sourcetest.NewBlobs(t), patience)
	if err == nil || strings.Count(err.Error(), "\n  hanging: no answer\n") != 8 || !strings.HasSuffix(err.Error(), "\n… and 492 more, of 500") || strings.Contains(err.Error(), "not asked") {
		t.Errorf("got %v", err)
	}
	if n := asked.Load(); n > 24+8 {
		t.Errorf("it was asked %d times", n)
	}
	offline := patience
	offline.Offline = true
	_, err = source.Bring(t.Context(), wanted, sourcetest.NewBlobs(t), offline)
	if several, ok := err.(interface{ Unwrap() []error }); !ok || !strings.HasSuffix(several.Unwrap()[499].Error(), "hanging: not asked: offline") {
		t.Errorf("offline: %v", err)
	}
}

// What is refused does not stay: somebody who sends other bytes for each of
// thousands of packages would fill the disk.
func TestBringKeepsNothingRefused(t *testing.T) {
	blobs := sourcetest.NewBlobs(t)
	bad := func(r io.ReaderAt, size int64) error {
		b, err := io.ReadAll(io.NewSectionReader(r, 0, size))
		if err == nil && string(b) != "good" {
			err = fmt.Errorf("it is %q", b)
		}
		return err
	}
	w := source.Wanted{Name: "left", Key: "left", Sources: []fetch.Source{text("evil")}, Limit: 10, Verify: bad}
	if _, err := source.Bring(t.Context(), []source.Wanted{w}, blobs, patience); err == nil || err.Error() != "cannot lock left:\n  evil: it is \"evil\"" {
		t.Errorf("got %v", err)
	}
	if kept, err := os.ReadDir(blobs.Dir()); err != nil || len(kept) != 0 {
		t.Errorf("kept %v, %v", kept, err)
	}
	w.Sources = append(w.Sources, text("good"))
	for range 2 { // the second time it is there
		if got, err := source.Bring(t.Context(), []source.Wanted{w}, blobs, patience); err != nil || got[0].Size != 4 || !blobs.Has(got[0].SHA256, 4) {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if kept, err := os.ReadDir(blobs.Dir()); err != nil || len(kept) != 1 {
		t.Errorf("kept %v, %v", kept, err)
	}
}

// When a registry is out of reach, everything fails for one reason, which is told a few times and not a thousand.
func TestBringNothing(t *testing.T) {
	for _, test := range []struct {
		count int
		last  string
	}{
		{8, "cannot lock p8 1.0.0: no place is known that has it"},
		{9, "… and 1 more, of 10"},
		{200, "… and 192 more, of 201"},
	} {
		wanted := []source.Wanted{{Name: "there 1.0.0", Sources: []fetch.Source{text("good")}, Limit: 1 << 10}}
		for i := range test.count {
			wanted = append(wanted, source.Wanted{Name: fmt.Sprintf("p%d 1.0.0", i+1)})
		}
		_, err := source.Bring(t.Context(), wanted, sourcetest.NewBlobs(t), patience)
		if err == nil {
			t.Fatalf("%d: nothing failed", test.count)
		}
		lines := strings.Split(err.Error(), "\n")
		if lines[0] != "cannot lock p1 1.0.0: no place is known that has it" || lines[len(lines)-1] != test.last || len(lines) != min(test.count, 9) {
			t.Errorf("%d: got %d lines, from %q to %q", test.count, len(lines), lines[0], lines[len(lines)-1])
		}
		var unavailable *source.UnavailableError
		if !errors.As(err, &unavailable) {
			t.Errorf("%d: got %T", test.count, err)
		}
	}
}
