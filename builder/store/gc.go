package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"quorate.dev/builder/filelock"
)

// GCOptions says what may go. With the zero value only what is of no use to
// anybody goes: damaged blobs.
type GCOptions struct {
	OlderThan time.Duration // remove what was not used for so long; 0 = age does not matter
	MaxBytes  int64         // then remove the least recently used until no more is left; 0 = no limit
	DryRun    bool          // only say what would go
}

// GCEntry is one thing in the store.
type GCEntry struct {
	Path    string    // relative to the store, slash-separated: "blobs/sha256/…", "derived/KIND/KEY"
	Size    int64     // bytes of all its files
	LastUse time.Time // to about an hour
}

func (e GCEntry) damaged() bool { return strings.HasPrefix(e.Path, "damaged/") }

// GCReport says what went and what is left.
type GCReport struct {
	Removed []GCEntry // damaged blobs, then least recently used first
	Freed   int64     // bytes
	Kept    int       // things left
	Left    int64     // their bytes
}

// InUseError says that other processes (or other open stores of this one)
// use the store, so that nothing can be collected now.
type InUseError struct {
	Store string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("cannot collect garbage in store %q: another process is using it; try again when builds have ended", e.Store)
}

// GC removes what was not used for long. It never removes what a live process
// uses, by the simplest rule there is: it works only while nobody else has the
// store open, and whoever opens it meanwhile waits. Otherwise the error is an
// *InUseError. s itself must not be used while GC runs.
func (s *Store) GC(ctx context.Context, o GCOptions) (GCReport, error) {
	if s.o.ReadOnly || s.use == nil {
		return GCReport{}, fmt.Errorf("cannot collect garbage in store %q: %w", s.dir, ErrReadOnly)
	}
	if err := s.use.upgrade(); err != nil {
		if errors.Is(err, filelock.ErrLocked) {
			return GCReport{}, &InUseError{Store: s.dir}
		}
		return GCReport{}, fmt.Errorf("cannot collect garbage in store %q: %w", s.dir, err)
	}
	report, err := s.collect(ctx, o)
	if err2 := s.use.downgrade(); err == nil {
		err = err2
	}
	if err != nil {
		return report, fmt.Errorf("cannot collect garbage in store %q: %w", s.dir, err)
	}
	return report, nil
}

func (s *Store) collect(ctx context.Context, o GCOptions) (GCReport, error) {
	var r GCReport
	entries, err := s.entries(ctx)
	if err != nil {
		return r, err
	}
	slices.SortFunc(entries, func(a, b GCEntry) int {
		if a.damaged() != b.damaged() { // these make room first
			if a.damaged() {
				return -1
			}
			return 1
		}
		if c := a.LastUse.Compare(b.LastUse); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path)
	})
	for _, e := range entries {
		r.Left += e.Size
	}
	now := time.Now()
	for _, e := range entries {
		old := o.OlderThan > 0 && now.Sub(e.LastUse) > o.OlderThan
		many := o.MaxBytes > 0 && r.Left > o.MaxBytes
		if !old && !many && !e.damaged() {
			r.Kept++
			continue
		}
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if !o.DryRun {
			if err := s.removeEntry(e.Path); err != nil {
				return r, err
			}
		}
		r.Removed = append(r.Removed, e)
		r.Freed += e.Size
		r.Left -= e.Size
	}
	return r, nil
}

func (s *Store) removeEntry(rel string) error {
	path := s.path(filepath.FromSlash(rel))
	if strings.HasPrefix(rel, "derived/") {
		return s.dropFolder(path)
	}
	return os.Remove(path)
}

// entries lists everything that can be removed.
func (s *Store) entries(ctx context.Context) ([]GCEntry, error) {
	var list []GCEntry
	files := s.twoDeep("notes")
	for _, in := range []string{"blobs/sha256", "partial", "damaged"} {
		entries, err := os.ReadDir(s.path(filepath.FromSlash(in)))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			files = append(files, s.path(filepath.FromSlash(in), e.Name()))
		}
	}
	for _, f := range files {
		if fi, err := os.Lstat(f); err == nil && fi.Mode().IsRegular() {
			list = append(list, GCEntry{Path: s.rel(f), Size: fi.Size(), LastUse: fi.ModTime()})
		}
	}
	for f, used := range s.derivedFolders(usedName) {
		size, err := treeSize(ctx, f)
		if err != nil {
			return nil, err
		}
		list = append(list, GCEntry{Path: s.rel(f), Size: size, LastUse: used})
	}
	return list, nil
}

func (s *Store) rel(path string) string {
	rel, _ := filepath.Rel(s.dir, path) // path was joined to s.dir
	return filepath.ToSlash(rel)
}

// treeSize adds up what it may see: a folder of another owner may be closed to us.
func treeSize(ctx context.Context, dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if fi, err := d.Info(); err == nil && fi.Mode().IsRegular() {
			n += fi.Size()
		}
		return ctx.Err()
	})
	return n, err
}
