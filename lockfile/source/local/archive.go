package local

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"quorate.dev/lockfile/digest"
)

// Pack reads the tree under root once and writes its archive to w. The
// archive's own digest is for w to know. After an error what was written is
// to be thrown away.
func Pack(root string, w io.Writer, o Options) (*Tree, error) {
	t, dir, err := list(root, o)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	err = t.archive(w, dir, func(e *Entry, got digest.Digest) error {
		e.Digest = got
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.Digest = digest.Of(t.Text())
	return t, nil
}

// Archive writes the archive of a scanned tree to w. It reads the files again,
// and if any has changed since, the error is a *ChangedError and what was
// written is to be thrown away.
func (t *Tree) Archive(w io.Writer) error {
	dir, err := os.OpenRoot(t.root)
	if err != nil {
		return fmt.Errorf("cannot read local tree %q: %w", t.root, err)
	}
	defer dir.Close()
	return t.archive(w, dir, func(e *Entry, got digest.Digest) error {
		if got != e.Digest {
			return &ChangedError{Root: t.root, Path: e.Path}
		}
		return nil
	})
}

// archive writes all entries and tells see each file's digest.
func (t *Tree) archive(w io.Writer, dir *os.Root, see func(*Entry, digest.Digest) error) error {
	buffered := bufio.NewWriterSize(w, 256<<10)
	tw := tar.NewWriter(buffered)
	h := digest.NewHash()
	for i := range t.Entries {
		e := &t.Entries[i]
		if err := tw.WriteHeader(e.Header()); err != nil {
			return fmt.Errorf("cannot write archive of %q at %q: %w", t.root, e.Path, err)
		}
		if e.Kind != File {
			continue
		}
		h.Reset()
		if err := t.copyFile(both{tw, h}, dir, e); err != nil {
			return err
		}
		if err := see(e, digest.Sum(h)); err != nil {
			return err
		}
	}
	if err := errors.Join(tw.Close(), buffered.Flush()); err != nil {
		return fmt.Errorf("cannot write archive of %q: %w", t.root, err)
	}
	return nil
}

// both writes to an archive and a hash.
type both struct {
	w io.Writer
	h hash.Hash
}

func (b both) Write(p []byte) (int, error) {
	b.h.Write(p)
	return b.w.Write(p)
}

// Header is the entry's in an archive.
func (e *Entry) Header() *tar.Header {
	h := &tar.Header{Name: e.Path, Mode: int64(e.Mode), ModTime: time.Unix(0, 0)}
	switch e.Kind {
	case Dir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case File:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case Symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	}
	return h
}

// copyFile writes a file's bytes to w and makes sure that they are those of
// one moment: the file is the one that was listed, and neither its size nor
// its time changed until the end.
func (t *Tree) copyFile(w io.Writer, dir *os.Root, e *Entry) error {
	f, err := dir.Open(e.Path)
	if errors.Is(err, os.ErrNotExist) {
		return &ChangedError{Root: t.root, Path: e.Path}
	}
	if err != nil {
		return fmt.Errorf("cannot read local tree %q: %w", t.root, err)
	}
	defer f.Close()
	if !e.same(f) {
		return &ChangedError{Root: t.root, Path: e.Path}
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(f, e.Size+1), make([]byte, copySize(e.Size)))
	grew := n > e.Size || errors.Is(err, tar.ErrWriteTooLong)
	if grew || err == nil && (n < e.Size || !e.same(f)) {
		return &ChangedError{Root: t.root, Path: e.Path}
	}
	if err != nil {
		return fmt.Errorf("cannot read local tree %q: file %q: %w", t.root, e.Path, err)
	}
	return nil
}

// copySize is the file's size and one byte to notice that it grew, at most 256 KiB.
func copySize(size int64) int { return int(min(size+1, 256<<10)) }

// same reports whether an open file still is what was listed.
func (e *Entry) same(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && os.SameFile(fi, e.info) && fi.Size() == e.Size && fi.ModTime().Equal(e.info.ModTime())
}
