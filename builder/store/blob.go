package store

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"

	"quorate.dev/lockfile/digest"
)

// DamagedError says that a blob's bytes are not those that its name promises.
// Nothing read from it may be used. The blob has been set aside, so fetching
// or making it again mends the store.
type DamagedError struct {
	Digest digest.Digest
	Path   string // where the blob was
	Err    error  // *digest.MismatchError, or an error of the disk itself
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("blob %s in the store is damaged (file %q: %v); the disk may be failing, or another program wrote there", e.Digest, e.Path, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

func (s *Store) blobPath(d digest.Digest) string { return s.path("blobs", "sha256", d.Hex()) }

// find looks for a blob in s, then in the shared inputs.
func (s *Store) find(d digest.Digest) (in *Store, path string, fi fs.FileInfo, err error) {
	if d.IsZero() {
		return nil, "", nil, fmt.Errorf("cannot look up a blob without a digest: %w", fs.ErrNotExist)
	}
	path = s.blobPath(d)
	fi, err = os.Lstat(path)
	switch {
	case err == nil && fi.Mode().IsRegular():
		if !s.o.ReadOnly {
			touch(path, fi)
		}
		return s, path, fi, nil
	case err == nil:
		err = fmt.Errorf("blob %q is not a regular file", path)
	case errors.Is(err, fs.ErrNotExist) && s.o.Inputs != nil:
		return s.o.Inputs.find(d)
	}
	return nil, "", nil, err
}

// Has reports whether the blob is there, and has size bytes; -1 accepts any
// size. It reads no byte of it: damage is noticed by Open.
func (s *Store) Has(d digest.Digest, size int64) bool {
	_, _, fi, err := s.find(d)
	return err == nil && (size < 0 || fi.Size() == size)
}

// Path returns the blob's file, for programs that need a name or random
// access. Its bytes are not checked, and the file must not be changed.
func (s *Store) Path(d digest.Digest) (string, bool) {
	_, path, _, err := s.find(d)
	return path, err == nil
}

// Open returns the blob's bytes, to be read in order. The digest is checked
// at the end: the read that would return io.EOF returns a *DamagedError
// instead if the bytes are not the promised ones, and the blob is set aside.
// Until io.EOF came, treat what was read as unchecked. A missing blob is
// fs.ErrNotExist.
func (s *Store) Open(d digest.Digest) (io.ReadCloser, error) {
	in, path, _, err := s.find(d)
	if err != nil {
		return nil, fmt.Errorf("cannot open blob %s: %w", d, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open blob %s: %w", d, err)
	}
	return &reader{s: in, f: f, d: d, h: digest.NewHash()}, nil
}

type reader struct {
	s   *Store
	f   *os.File
	d   digest.Digest
	h   hash.Hash
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.f.Read(p)
	r.h.Write(p[:n])
	switch got := (digest.Digest{}); {
	case err == io.EOF:
		if got = digest.Sum(r.h); got != r.d {
			err = r.damaged(&digest.MismatchError{Want: r.d, Got: got})
		}
	case err != nil && !errors.Is(err, fs.ErrClosed):
		err = r.damaged(err) // EIO: the disk cannot give the bytes back
	}
	r.err = err
	return n, err
}

func (r *reader) Close() error { return r.f.Close() }

// damaged sets the blob aside, but only if the name still leads to the file
// that was read: another process may have mended it meanwhile.
func (r *reader) damaged(cause error) error {
	path := r.s.blobPath(r.d)
	mine, err1 := r.f.Stat()
	now, err2 := os.Lstat(path)
	if err1 == nil && err2 == nil && os.SameFile(mine, now) {
		_ = r.s.setAside(r.d) // if it cannot be moved, the error below still says it all
	}
	return &DamagedError{Digest: r.d, Path: path, Err: cause}
}

// SetAside takes a blob out of use, wherever Open finds it; a missing blob is
// no error. The file stays in damaged/ until the next garbage collection.
func (s *Store) SetAside(d digest.Digest) error {
	in, _, _, err := s.find(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		in = s
	}
	return in.setAside(d)
}

func (s *Store) setAside(d digest.Digest) error {
	if s.o.ReadOnly {
		return fmt.Errorf("cannot set blob %s aside: %w", d, ErrReadOnly)
	}
	err := os.Rename(s.blobPath(d), s.path("damaged", d.Hex()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot set blob %s aside: %w", d, err)
	}
	return nil
}

// Put stores exactly the bytes that have the wanted digest, and size bytes
// unless size is negative; otherwise nothing is stored and the error is r's,
// a *digest.SizeError, a *digest.MismatchError or a *SpaceError. A blob that
// is already there (in s itself, not in its Inputs) is left alone and r is not read.
// When Put returns, the blob survives a power failure.
func (s *Store) Put(r io.Reader, want digest.Digest, size int64) error {
	if want.IsZero() {
		return errors.New("cannot store a blob without a digest")
	}
	if fi, err := os.Lstat(s.blobPath(want)); err == nil && fi.Mode().IsRegular() && (size < 0 || fi.Size() == size) {
		touch(s.blobPath(want), fi)
		return nil
	}
	if err := s.put(r, want, size); err != nil {
		return fmt.Errorf("cannot store blob %s: %w", want, err)
	}
	return nil
}

func (s *Store) put(r io.Reader, want digest.Digest, size int64) error {
	t, err := s.createTemp()
	if err != nil {
		return err
	}
	defer t.discard()
	w := &spaceWriter{s: s, w: t.f, size: size}
	if err := copyAll(w, digest.NewReader(r, want, size)); err != nil {
		return err
	}
	return t.rename(s.blobPath(want), true)
}

// spaceWriter names the full file system in the errors of w.
type spaceWriter struct {
	s       *Store
	w       io.Writer
	size    int64 // of the whole, or negative
	written int64
}

func (w *spaceWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.written += int64(n)
	if err != nil {
		err = w.s.space(err, max(w.size-w.written, int64(len(p)-n)))
	}
	return n, err
}

// 256 KiB: fewer system calls than io.Copy's 32 KiB; larger ones gained nothing more.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// copyAll is io.Copy with a pooled buffer.
func copyAll(w io.Writer, r io.Reader) error {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *b)
	return err
}

// Writer takes bytes whose digest is not known before. End it with Commit, or
// with Close to throw them away; Close after Commit does nothing.
type Writer struct {
	s *Store
	t *temp
	w spaceWriter
	h hash.Hash
}

// Create begins a blob of unknown digest.
func (s *Store) Create() (*Writer, error) {
	t, err := s.createTemp()
	if err != nil {
		return nil, fmt.Errorf("cannot begin a blob in store %q: %w", s.dir, err)
	}
	return &Writer{s: s, t: t, w: spaceWriter{s: s, w: t.f, size: -1}, h: digest.NewHash()}, nil
}

func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.h.Write(p[:n])
	return n, err
}

// Reopen opens what was written for reading, as long as it is neither committed
// nor thrown away: whoever judges bytes can do so before they become a blob.
func (w *Writer) Reopen() (*os.File, error) {
	if w.t.f == nil {
		return nil, errors.New("cannot read a blob before it is stored: its writer is closed")
	}
	return os.Open(w.t.f.Name())
}

// Commit stores what was written and returns its digest and size in bytes. It
// does not wait for the disk: after a power failure the blob may be missing,
// or damaged, which reading it notices.
func (w *Writer) Commit() (digest.Digest, int64, error) {
	if w.t.f == nil {
		return digest.Digest{}, 0, errors.New("cannot commit a blob: its writer is closed")
	}
	defer w.t.discard()
	d := digest.Sum(w.h)
	if err := w.t.rename(w.s.blobPath(d), false); err != nil {
		return digest.Digest{}, 0, fmt.Errorf("cannot store blob %s: %w", d, err)
	}
	return d, w.w.written, nil
}

// Close throws away what was not committed.
func (w *Writer) Close() error {
	w.t.discard()
	return nil
}
