package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"quorate.dev/lockfile/digest"
)

// Open implements Content.
func (b Bytes) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }

// Section is Content that is a range of a file of this machine: of the decoded
// form of a package, say.
type Section struct {
	File   string // absolute path
	Offset int64  // first byte
	Size   int64  // bytes
}

// Open implements Content.
func (s Section) Open() (io.ReadCloser, error) {
	f, err := os.Open(s.File)
	if err != nil {
		return nil, err
	}
	return &sectionReader{Reader: io.NewSectionReader(f, s.Offset, s.Size), f: f}, nil
}

type sectionReader struct {
	io.Reader // not SectionReader itself, whose Seek would pass by the check of contents
	f         *os.File
}

func (r *sectionReader) Close() error { return r.f.Close() }

// ContentError says that the bytes of a file are not those that its entry
// promises: a damaged store, or a defect of ours. Err is a
// *digest.MismatchError, a *digest.SizeError or an error of reading.
type ContentError struct {
	Path string
	Err  error
	File string // of this machine, that holds the bytes; empty when no file does
}

func (e *ContentError) Error() string { return fmt.Sprintf("contents of %q: %v", e.Path, e.Err) }

func (e *ContentError) Unwrap() error { return e.Err }

// Open opens the bytes of a File. Reading ends with a *ContentError instead of
// io.EOF unless exactly the promised bytes went by. Everything that copies
// contents opens them here.
func Open(e Entry) (io.ReadCloser, error) {
	if e.Kind != File {
		return nil, &ContentError{Path: e.Path, Err: errors.New("is not a regular file")}
	}
	if e.Content == nil {
		if e.Size != 0 {
			return nil, &ContentError{Path: e.Path, Err: errNoContent}
		}
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	r, err := e.Content.Open()
	if err != nil {
		return nil, &ContentError{Path: e.Path, Err: err, File: fileOf(e)}
	}
	return &verified{path: e.Path, file: fileOf(e), r: digest.NewReader(r, e.Digest, e.Size), c: r}, nil
}

func fileOf(e Entry) string {
	if s, ok := e.Content.(Section); ok {
		return s.File
	}
	return ""
}

type verified struct {
	path string
	file string
	r    io.Reader
	c    io.Closer
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	if err != nil && err != io.EOF {
		err = &ContentError{Path: v.path, Err: err, File: v.file}
	}
	return n, err
}

func (v *verified) Close() error { return v.c.Close() }
