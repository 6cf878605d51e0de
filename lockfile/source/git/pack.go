package git

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/source/local"
)

// lfsPointer begins the files that Git LFS leaves in place of large ones, which
// have under 1024 bytes (git-lfs, docs/spec.md).
const (
	lfsPointer = "version https://git-lfs.github.com/spec/"
	lfsLargest = 1024
)

// packed is a commit whose tree was written as an archive.
type packed struct {
	commit     *commit
	tree       local.Tree
	submodules []submodule
}

// pack writes the archive of a commit's tree, as package local would of a
// folder with its files.
func (r *repository) pack(ctx context.Context, id string, w io.Writer) (*packed, error) {
	p, err := r.packTree(ctx, id, w)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("commit %s of %s: %w", id, redacted(r.url), err)
	}
	return p, nil
}

func (r *repository) packTree(ctx context.Context, id string, w io.Writer) (*packed, error) {
	c, files, submodules, err := r.tree(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("its tree is empty")
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.Path, b.Path) })
	o, err := r.objects(ctx)
	if err != nil {
		return nil, err
	}
	defer o.close()
	p := &packed{commit: c, submodules: submodules}
	buffered := bufio.NewWriterSize(w, 256<<10)
	a := &archiver{o: o, tar: tar.NewWriter(buffered)}
	for _, f := range files {
		if err := a.add(&f); err != nil {
			return nil, err
		}
		p.tree.Entries = append(p.tree.Entries, f.Entry)
	}
	p.tree.Digest = digest.Of(p.tree.Text())
	return p, errors.Join(a.tar.Close(), buffered.Flush())
}

type archiver struct {
	o     *objects
	tar   *tar.Writer
	bytes int64
}

// add writes one entry, and sets what only its object tells.
func (a *archiver) add(f *file) error {
	if f.Kind == local.Dir {
		return a.tar.WriteHeader(f.Header())
	}
	kind, size, err := a.o.begin(f.id)
	switch {
	case err != nil:
		return err
	case kind != "blob":
		return &DamagedError{f.id, "is a " + kind + " where a file should be"}
	case f.Kind == local.Symlink:
		return a.link(f, size)
	}
	if a.bytes += size; a.bytes > local.MaxBytes {
		return fmt.Errorf("its files have more than %d bytes", int64(local.MaxBytes))
	}
	f.Size = size
	if err := a.tar.WriteHeader(f.Header()); err != nil {
		return err
	}
	h := digest.NewHash()
	if size > lfsLargest {
		err = a.o.copy(io.MultiWriter(a.tar, h), f.id, kind, size)
	} else {
		var small bytes.Buffer
		if err = a.o.copy(io.MultiWriter(&small, h), f.id, kind, size); err == nil && bytes.HasPrefix(small.Bytes(), []byte(lfsPointer)) {
			return &ContentError{f.Path, "is only a pointer to a file in Git LFS; bring the file as an input of its own (inputs.files)"}
		}
		if err == nil {
			_, err = a.tar.Write(small.Bytes())
		}
	}
	f.Digest = digest.Sum(h)
	return err
}

func (a *archiver) link(f *file, size int64) error {
	if size == 0 || size > maxLink {
		return &ContentError{f.Path, fmt.Sprintf("is a symbolic link with a target of %d bytes", size)}
	}
	var target bytes.Buffer
	if err := a.o.copy(&target, f.id, "blob", size); err != nil {
		return err
	}
	f.Link = target.String()
	if strings.ContainsRune(f.Link, 0) {
		return &ContentError{f.Path, "is a symbolic link with a NUL byte in its target"}
	}
	return a.tar.WriteHeader(f.Header())
}
