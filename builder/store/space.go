package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
)

// SpaceError says that a file system is full. It wraps the system's error, so
// errors.Is(err, syscall.ENOSPC) (or EDQUOT, where a quota is used up) holds.
type SpaceError struct {
	Store      string // folder of the store
	FileSystem string // folder where that file system is mounted; the store's own where this cannot be told
	Need       int64  // bytes still to be written when it failed; 0 when not known
	Free       int64  // bytes free to this user; -1 when not known
	Err        error
}

func (e *SpaceError) Error() string {
	msg := fmt.Sprintf("no space left on the file system at %q for the store in %q", e.FileSystem, e.Store)
	if e.Need > 0 {
		msg += fmt.Sprintf(": %d more bytes needed", e.Need)
		if e.Free >= 0 {
			msg += fmt.Sprintf(", %d free", e.Free)
		}
	}
	if errors.Is(e.Err, syscall.EDQUOT) {
		msg += " (the user's quota is used up)"
	}
	return msg
}

func (e *SpaceError) Unwrap() error { return e.Err }

// space turns the system's word for a full disk into a *SpaceError and leaves
// other errors alone.
func (s *Store) space(err error, need int64) error {
	var already *SpaceError
	if err == nil || errors.As(err, &already) || !isFull(err) {
		return err
	}
	var at *fs.PathError
	if errors.As(err, &at) && filepath.IsAbs(at.Path) && !strings.HasPrefix(at.Path, s.dir) {
		return err // another file system is full: a maker of derived folders writes elsewhere too
	}
	mount, free := fileSystem(s.dir)
	return &SpaceError{Store: s.dir, FileSystem: mount, Need: max(need, 0), Free: free, Err: err}
}
