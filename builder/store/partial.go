package store

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"quorate.dev/builder/filelock"
	"quorate.dev/lockfile/digest"
)

// Partial is a blob that arrives in pieces, perhaps over several runs. Bytes
// are appended with Write; Finish makes it a blob; Close keeps what there is
// for another try. One process has it at a time.
type Partial struct {
	s    *Store
	d    digest.Digest
	f    *os.File
	h    hash.Hash
	n    int64
	lock *fileLock
}

// Partial opens the beginning of blob d, empty if there is none, and waits
// while another process has it. After the wait the blob may be there: ask Has
// again. What an earlier run left is hashed again here, so that Finish is sure.
func (s *Store) Partial(ctx context.Context, d digest.Digest) (*Partial, error) {
	p, err := s.openPartial(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("cannot begin to store blob %s: %w", d, s.space(err, 0))
	}
	return p, nil
}

func (s *Store) openPartial(ctx context.Context, d digest.Digest) (*Partial, error) {
	if s.o.ReadOnly {
		return nil, ErrReadOnly
	}
	if d.IsZero() {
		return nil, errors.New("it has no digest")
	}
	lock, err := lockContext(ctx, s.path("locks", "partial-"+d.Hex()), filelock.Exclusive)
	if err != nil {
		return nil, err
	}
	p := &Partial{s: s, d: d, h: digest.NewHash(), lock: lock}
	p.f, err = os.OpenFile(s.path("partial", d.Hex()), os.O_RDWR|os.O_CREATE, fileMode)
	if err == nil {
		p.n, err = io.Copy(p.h, p.f)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Size returns how many bytes there are.
func (p *Partial) Size() int64 { return p.n }

// Write appends.
func (p *Partial) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	p.h.Write(b[:n])
	p.n += int64(n)
	if err != nil {
		err = p.s.space(err, int64(len(b)-n))
	}
	return n, err
}

// Reset throws away what there is and begins anew.
func (p *Partial) Reset() error {
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.h.Reset()
	p.n = 0
	return nil
}

// Finish makes the bytes a blob and closes p. If they are not the promised
// ones the error is a *digest.MismatchError, they are thrown away, and p can
// be written from the beginning.
func (p *Partial) Finish() error {
	if got := digest.Sum(p.h); got != p.d {
		return errors.Join(&digest.MismatchError{Want: p.d, Got: got}, p.Reset())
	}
	if err := p.rename(); err != nil {
		return fmt.Errorf("cannot store blob %s: %w", p.d, p.s.space(err, 0))
	}
	return nil
}

func (p *Partial) rename() error {
	if err := p.f.Chmod(fileMode); err != nil {
		return err
	}
	if err := p.f.Sync(); err != nil {
		return err
	}
	from, to := p.f.Name(), p.s.blobPath(p.d)
	if err := p.f.Close(); err != nil {
		return err
	}
	p.f = nil
	if err := replace(from, to); err != nil {
		return err
	}
	p.lock.remove()
	return syncDir(filepath.Dir(to))
}

// Close lets go of the partial file and keeps it, unless it is empty.
func (p *Partial) Close() error {
	var err error
	if p.f != nil {
		if p.n == 0 {
			os.Remove(p.f.Name())
		}
		err = p.f.Close()
		p.f = nil
	}
	p.lock.remove()
	return err
}
