package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"quorate.dev/builder/filelock"
)

// An image is written beside its place, under a name that nobody else uses,
// and renamed when it is whole. Who writes holds a lock on what stands there,
// so that the next writer to the same place can tell what a killed one left
// and remove it.

// asidePrefix begins the names of what is written for a target.
func asidePrefix(target string) string { return "." + filepath.Base(target) + ".quorate-" }

// makeAside makes a folder, or else a file, beside target. Closing it gives the lock up.
func makeAside(target string, folder bool) (*os.File, error) {
	sweepAside(target)
	for {
		// Until it is locked, another writer may take it for abandoned and sweep it away:
		// before it is opened, while it is locked, or after that writer's lock has ended.
		f, err := makeTemp(target, folder)
		if errors.Is(err, errSwept) {
			continue
		}
		if err != nil {
			return nil, err
		}
		switch err := filelock.Try(f, filelock.Exclusive); {
		case err == nil:
			if mine, now := stat(f), lstat(f.Name()); mine != nil && now != nil && os.SameFile(mine, now) {
				return f, nil
			}
		case !errors.Is(err, filelock.ErrLocked):
			return f, nil // a file system without locks: nobody will take it for abandoned either
		}
		_ = f.Close()
	}
}

// errSwept says that what was made is gone again.
var errSwept = errors.New("swept away")

func makeTemp(target string, folder bool) (*os.File, error) {
	in, pattern := filepath.Dir(target), asidePrefix(target)+"*"
	if !folder {
		return os.CreateTemp(in, pattern)
	}
	dir, err := os.MkdirTemp(in, pattern)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errSwept
	}
	return f, err
}

// sweepAside removes what writers to target left that are no more.
func sweepAside(target string) {
	list, err := os.ReadDir(filepath.Dir(target))
	if err != nil {
		return // making something there will say why
	}
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), asidePrefix(target)) {
			continue
		}
		path := filepath.Join(filepath.Dir(target), e.Name())
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if filelock.Try(f, filelock.Exclusive) == nil {
			_ = os.RemoveAll(path) // what cannot be removed is in nobody's way
		}
		_ = f.Close()
	}
}

func stat(f *os.File) fs.FileInfo {
	fi, err := f.Stat()
	if err != nil {
		return nil
	}
	return fi
}

func lstat(path string) fs.FileInfo {
	fi, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	return fi
}
