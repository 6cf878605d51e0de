package store

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
)

// text is a source that breaks once, in the middle.
type text struct {
	s      string
	opened int
}

func (t *text) String() string { return "text" }

func (t *text) Open(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
	t.opened++
	var r io.Reader = strings.NewReader(t.s[offset:])
	if t.opened == 1 {
		r = io.LimitReader(r, 4)
	}
	return io.NopCloser(r), offset, nil
}

// A store is what fetch asks for, and together they mend a damaged blob.
func TestFetchIntoStore(t *testing.T) {
	common := open(t, Options{})
	own := open(t, Options{Inputs: common})
	src := &text{s: "hello world"}
	items := []fetch.Item{{Name: "hello", Size: 11, Digest: digest.Of([]byte("hello world")), Sources: []fetch.Source{src}}}
	o := fetch.Options{Pause: time.Microsecond}
	if err := fetch.Fetch(t.Context(), items, own.Inputs(), o); err != nil {
		t.Fatal(err)
	}
	if get(t, own, items[0].Digest) != "hello world" || src.opened != 2 {
		t.Errorf("opened %d times", src.opened)
	}
	path, _ := own.Path(items[0].Digest)
	os.WriteFile(path, []byte("hello w0rld"), 0o644)
	var damaged *DamagedError
	if _, err := read(own, items[0].Digest); !errors.As(err, &damaged) {
		t.Fatalf("got %v", err)
	}
	if err := fetch.Refetch(t.Context(), items, own.Inputs(), o); err != nil {
		t.Fatal(err)
	}
	if get(t, own, items[0].Digest) != "hello world" {
		t.Error("not mended")
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b, Options{})
	buf := make([]byte, 700<<10)
	b.SetBytes(int64(len(buf)))
	for i := 0; b.Loop(); i++ {
		copy(buf, digest.Of([]byte{byte(i), byte(i >> 8), byte(i >> 16)}).Hex())
		if err := s.Put(strings.NewReader(string(buf)), digest.Of(buf), int64(len(buf))); err != nil {
			b.Fatal(err)
		}
	}
}
