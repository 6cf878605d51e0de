package diff

import (
	"errors"
	"io"
	"os"
)

// source is a run of bytes that can be read anywhere: a file of a side, or a stretch of the spool.
type source struct {
	r    io.ReaderAt
	off  int64
	size int64
	mem  []byte // all of it, while a comparison works on it
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

// since is what was written from an offset on.
func (s *spool) since(mark int64) source { return source{r: s.f, off: mark, size: s.size - mark} }
