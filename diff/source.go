package diff

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// source is a run of bytes that can be read anywhere: a file of a side, or a stretch of the spool.
type source struct {
	r    io.ReaderAt
	off  int64
	size int64
	file *os.File // to be closed with it, when the source owns one
	mem  []byte   // all of it, while a comparison works on it
}

// ReadAt implements io.ReaderAt within the source's bounds.
func (s source) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= s.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > s.size-off
	if short {
		p = p[:s.size-off]
	}
	n, err := 0, error(nil)
	if s.mem != nil {
		n = copy(p, s.mem[off:])
	} else {
		n, err = s.r.ReadAt(p, s.off+off)
		if n == len(p) {
			err = nil
		}
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (s source) close() error {
	if s.file != nil {
		return s.file.Close()
	}
	return nil
}

// Close implements io.Closer.
func (s source) Close() error { return s.close() }

// inMemory is a source of bytes at hand.
func inMemory(b []byte) source {
	if b == nil {
		b = []byte{}
	}
	return source{r: bytes.NewReader(b), size: int64(len(b)), mem: b}
}

// sub is a stretch of the source; one that leaves it is cut short.
func (s source) sub(off, size int64) source {
	off = min(max(off, 0), s.size)
	size = min(max(size, 0), s.size-off)
	t := source{r: s.r, off: s.off + off, size: size}
	if s.mem != nil {
		t.mem = s.mem[off : off+size : off+size]
	}
	return t
}

// slice reads a stretch, without a copy when the source is in memory. Errors: io.ErrUnexpectedEOF beyond the end.
func (s source) slice(off, size int64) ([]byte, error) {
	if off < 0 || size < 0 || off > s.size || size > s.size-off {
		return nil, io.ErrUnexpectedEOF
	}
	if s.mem != nil {
		return s.mem[off : off+size : off+size], nil
	}
	b := make([]byte, size)
	n, err := s.r.ReadAt(b, s.off+off)
	if n == len(b) {
		return b, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}

// load reads all of it.
func (s source) load() ([]byte, error) { return s.slice(0, s.size) }

// head reads at most n bytes from the beginning.
func (s source) head(n int64) []byte {
	b, _ := s.slice(0, min(n, s.size))
	return b
}

// held is the source with its bytes in memory when there are at most limit of them.
func (s source) held(limit int64) (source, error) {
	if s.mem != nil || s.size > limit {
		return s, nil
	}
	b, err := s.load()
	if err != nil {
		return s, err
	}
	if b == nil {
		b = []byte{}
	}
	s.mem = b
	return s, nil
}

// dropped is the source without its memory.
func (s source) dropped() source {
	s.mem = nil
	return s
}

// data is the first place at or behind off that may hold other bytes than zeros, as far as the file system knows;
// off itself when it does not.
func (s source) data(off int64) int64 {
	var f *os.File
	switch r := s.r.(type) {
	case *os.File:
		f = r
	case pathReader:
		var err error
		if f, err = os.Open(string(r)); err != nil {
			return off
		}
		defer f.Close()
	default:
		return off
	}
	if s.mem != nil || off < 0 || off >= s.size {
		return off
	}
	at, ok := nextData(f, s.off+off)
	if !ok {
		return off
	}
	return min(max(at-s.off, off), s.size)
}

// broken is the error of a reading that ended before its time.
func broken(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (s source) reader() *io.SectionReader { return io.NewSectionReader(s, 0, s.size) }

// same reports whether two sources hold the same bytes.
func same(a, b source) (bool, error) {
	if a.size != b.size {
		return false, nil
	}
	if a.mem != nil && b.mem != nil {
		return bytes.Equal(a.mem, b.mem), nil
	}
	const window = 256 << 10
	for off := int64(0); off < a.size; off += window {
		n := min(window, a.size-off)
		x, err := a.slice(off, n)
		if err != nil {
			return false, err
		}
		y, err := b.slice(off, n)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(x, y) {
			return false, nil
		}
	}
	return true, nil
}

// spool is the scratch file that unpacked contents wait in. It has no name from
// its first moment on where the system allows that, so that nothing is left behind.
type spool struct {
	f    *os.File
	name string // to be removed at the end; "" when it is gone already
	size int64
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "quorate-diff-*")
	if err != nil {
		return nil, err
	}
	s := &spool{f: f, name: f.Name()}
	if os.Remove(s.name) == nil {
		s.name = ""
	}
	return s, nil
}

func (s *spool) close() error {
	if s == nil || s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	if s.name != "" {
		err = errors.Join(err, os.Remove(s.name))
	}
	return err
}

// Write appends to the spool.
func (s *spool) Write(p []byte) (int, error) {
	n, err := s.f.WriteAt(p, s.size)
	s.size += int64(n)
	return n, err
}

// all is the spool with what will be written to it.
func (s *spool) all() source { return source{r: s.f, size: 1 << 60} }

// since is what was written from an offset on.
func (s *spool) since(mark int64) source { return source{r: s.f, off: mark, size: s.size - mark} }

// watched ends a reading when it is no longer wanted, and counts.
type watched struct {
	r    io.Reader
	done <-chan struct{}
	step func(n int)
}

func (w *watched) Read(p []byte) (int, error) {
	select {
	case <-w.done:
		return 0, ErrStopped
	default:
	}
	n, err := w.r.Read(p)
	if w.step != nil {
		w.step(n)
	}
	return n, err
}
