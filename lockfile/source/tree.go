package source

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// maxTreeFile bounds a file of the project that is read into memory; the
// largest lock files of ecosystems that we know of have 5 MB.
const maxTreeFile = 64 << 20

// Tree is a local or git input, as its packed archive has it. It remembers what
// was read of it, and what was looked for in vain.
type Tree struct {
	Name    string // of the input
	r       io.ReaderAt
	entries map[string]treeEntry
	folders map[string][]string // names in each folder, sorted; those of folders end in "/"

	mu    sync.Mutex
	reads lockfile.Facts
}

type treeEntry struct {
	kind   byte
	offset int64
	size   int64
	link   string
}

// NewTree lists an archive that package local wrote: an uncompressed tar.
func NewTree(name string, r io.ReaderAt, size int64) (*Tree, error) {
	t := &Tree{Name: name, r: r, entries: map[string]treeEntry{}, folders: map[string][]string{}, reads: lockfile.Facts{}}
	section := io.NewSectionReader(r, 0, size)
	for archive := tar.NewReader(section); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list input %q: %w", name, err)
		}
		at, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		p := strings.TrimSuffix(h.Name, "/")
		t.entries[p] = treeEntry{h.Typeflag, at, h.Size, h.Linkname}
		base := path.Base(p)
		if h.Typeflag == tar.TypeDir {
			base += "/"
		}
		t.folders[path.Dir(p)] = append(t.folders[path.Dir(p)], base)
	}
	for _, names := range t.folders {
		slices.Sort(names)
	}
	return t, nil
}

// ReadFile returns a file's bytes. An error that is fs.ErrNotExist says that
// there is none; a link is not followed, since what it leads to was not read.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	name = path.Clean(name)
	e, ok := t.entries[name]
	if !ok {
		t.note(name, lockfile.Absent)
		return nil, &fs.PathError{Op: "read", Path: t.Name + ":" + name, Err: fs.ErrNotExist}
	}
	switch {
	case e.kind == tar.TypeSymlink:
		return nil, fmt.Errorf("%q in input %q is a symbolic link to %q; only a regular file is read", name, t.Name, e.link)
	case e.kind != tar.TypeReg:
		return nil, fmt.Errorf("%q in input %q is a folder, not a file", name, t.Name)
	case e.size > maxTreeFile:
		return nil, fmt.Errorf("%q in input %q has %d bytes; at most %d are read", name, t.Name, e.size, maxTreeFile)
	}
	b := make([]byte, e.size)
	if _, err := t.r.ReadAt(b, e.offset); err != nil && !(err == io.EOF && e.size == 0) {
		return nil, fmt.Errorf("%q in input %q: %w", name, t.Name, err)
	}
	t.note(name, digest.Of(b).Hex())
	return b, nil
}

// Folder lists the names in a folder, "." for the top; those of folders end in
// "/". The error is fs.ErrNotExist where there is none.
func (t *Tree) Folder(name string) ([]string, error) {
	name = path.Clean(name)
	names, ok := t.folders[name]
	if !ok {
		t.note(name, lockfile.Absent)
		return nil, &fs.PathError{Op: "list", Path: t.Name + ":" + name, Err: fs.ErrNotExist}
	}
	t.note(name, lockfile.FolderDigest(names).Hex())
	return slices.Clone(names), nil
}

func (t *Tree) note(name, sum string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads[name] = sum
}

// Still reports whether reads, of an earlier lock, would be the same today.
func (t *Tree) Still(reads lockfile.Facts) bool {
	defer t.Reads() // what is looked at here decides nothing that is written down
	for name, sum := range reads {
		now := lockfile.Absent
		if names, ok := t.folders[name]; ok {
			now = lockfile.FolderDigest(names).Hex()
		} else if b, err := t.ReadFile(name); err == nil {
			now = digest.Of(b).Hex()
		}
		if now != sum {
			return false
		}
	}
	return true
}

// Reads returns what was read since the last call.
func (t *Tree) Reads() lockfile.Facts {
	t.mu.Lock()
	defer t.mu.Unlock()
	reads := t.reads
	t.reads = lockfile.Facts{}
	return reads
}
