package keyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// placing says what becomes of a file that is there already.
type placing int

const (
	createNew placing = iota // refuse, with *ExistsError
	replace
)

// ExistsError says that a key file is there already; a lost key cannot be made again.
type ExistsError struct {
	Path string
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("%q exists already, and a key that is overwritten is lost", e.Path)
}

// Is makes errors.Is(err, fs.ErrExist) hold.
func (e *ExistsError) Is(target error) bool { return target == fs.ErrExist }

// writeFile makes the whole file appear at once: written aside with its final
// mode, synced, then linked (createNew) or renamed (replace) to its name.
func writeFile(path string, data []byte, mode fs.FileMode, place placing) error {
	if place == createNew {
		if _, err := os.Lstat(path); err == nil {
			return &ExistsError{Path: path}
		}
	}
	// os.CreateTemp makes files of mode 0600, so a private key is never readable by others, not even for a moment.
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return err
	}
	aside := f.Name()
	defer os.Remove(aside)
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if place == replace {
		err = os.Rename(aside, path)
	} else {
		err = linkNew(aside, path)
	}
	if err != nil {
		return err
	}
	syncFolder(filepath.Dir(path))
	return nil
}

// linkNew gives aside its final name unless that is taken. link(2) decides it
// without a race; file systems that have no hard links (FAT) get a check and a rename.
func linkNew(aside, path string) error {
	err := os.Link(aside, path)
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrExist) {
		return &ExistsError{Path: path}
	}
	if _, statErr := os.Lstat(path); statErr == nil {
		return &ExistsError{Path: path}
	}
	return os.Rename(aside, path)
}

// syncFolder makes the new name survive a power cut. Platforms that cannot sync a folder say so, which is no failure.
func syncFolder(path string) {
	if d, err := os.Open(path); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}
