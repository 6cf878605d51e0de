package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"quorate.dev/builder/filelock"
)

const workPrefix = "worker-"

// work is one worker's folder and our claim on it.
type work struct {
	path  string
	alive *os.File
}

func (w *work) dir() string { return filepath.Join(w.path, "work") }

// newWork makes a work folder under root and claims it, after removing those of
// dead runs; warn is told when that fails.
func (h *Host) newWork(root string, warn func(format string, args ...any)) (*work, error) {
	lock, err := lockRoot(root)
	if err != nil {
		return nil, fmt.Errorf("cannot make work folder: %w", err)
	}
	defer lock.Close()
	if err := h.reap(root); err != nil {
		warn("cannot remove what an earlier run left: %v", err)
	}
	return makeWork(root)
}

// Reap removes what dead runs left in Scratch, as Start does first of all, for
// who may not start anything for a while.
func (h *Host) Reap() error {
	if _, err := os.Stat(h.Scratch); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := lockRoot(h.Scratch)
	if err != nil {
		return err
	}
	err = errors.Join(h.reap(h.Scratch), lock.Close())
	tidy(h.Scratch)
	return err
}

// lockRoot makes root and locks it, so that what one process is just making or
// removing is not taken for dead by another. The lock lasts until it is closed.
func lockRoot(root string) (*os.File, error) {
	name := filepath.Join(root, "lock")
	for {
		if err := os.MkdirAll(root, 0o755); err != nil {
			return nil, err
		}
		lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // tidy has just removed root
		}
		if err != nil {
			return nil, err
		}
		if err := filelock.Wait(lock, filelock.Exclusive); err != nil {
			lock.Close()
			return nil, err
		}
		// While we waited tidy may have removed the file that we have open.
		ours, err1 := lock.Stat()
		there, err2 := os.Stat(name)
		if err1 == nil && err2 == nil && os.SameFile(ours, there) {
			return lock, nil
		}
		lock.Close()
	}
}

// tidy removes root when nothing is in it any more. It may fail; then it is left.
func tidy(root string) {
	lock, err := lockRoot(root)
	if err != nil {
		return
	}
	defer lock.Close()
	if list, err := os.ReadDir(root); err == nil && len(list) == 1 {
		_ = os.Remove(lock.Name())
		_ = os.Remove(root)
	}
}

func makeWork(root string) (*work, error) {
	path, err := os.MkdirTemp(root, workPrefix)
	if err != nil {
		return nil, fmt.Errorf("cannot make work folder: %w", err)
	}
	w := &work{path: path}
	// Folders for other ids of a user namespace must be reachable through it; what is in it is not secret.
	err = errors.Join(os.Chmod(path, 0o755), os.Mkdir(w.dir(), 0o755))
	if err == nil {
		w.alive, err = os.Create(filepath.Join(path, "alive"))
	}
	if err == nil {
		err = filelock.Try(w.alive, filelock.Exclusive)
	}
	if err != nil {
		if w.alive != nil {
			w.alive.Close()
		}
		return nil, errors.Join(fmt.Errorf("cannot make work folder: %w", err), os.RemoveAll(path))
	}
	return w, nil
}

// remove removes the folder; the claim goes last.
func (w *work) remove(remove func(string) error) error {
	defer w.alive.Close()
	if err := remove(w.dir()); err != nil {
		return err
	}
	return os.RemoveAll(w.path)
}

// reap removes work folders of runs that have died. The lock on root is held.
func (h *Host) reap(root string) error {
	list, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	var failed []error
	for _, d := range list {
		if !d.IsDir() || !strings.HasPrefix(d.Name(), workPrefix) {
			continue
		}
		if err := h.reapOne(filepath.Join(root, d.Name())); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (h *Host) reapOne(path string) error {
	alive, err := os.OpenFile(filepath.Join(path, "alive"), os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Its run died while making or removing it. Somebody else's remove may still
		// be at work, so only what is empty goes.
		_ = os.Remove(filepath.Join(path, "work"))
		_ = os.Remove(path)
		return nil
	case err != nil:
		return err
	}
	defer alive.Close()
	if err := filelock.Try(alive, filelock.Exclusive); errors.Is(err, filelock.ErrLocked) {
		return nil // its run is at work
	} else if err != nil {
		return err
	}
	if err := h.remove(filepath.Join(path, "work")); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// moveOutput moves what the worker made, if anything, to where it is kept.
func moveOutput(from, to string) error {
	info, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%q is not a folder", from)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the worker's output: %w", err)
	}
	if os.Rename(from, to) == nil {
		return nil
	}
	if err := copyOutput(from, to); err != nil {
		return errors.Join(fmt.Errorf("cannot keep the worker's output: %w", err), os.RemoveAll(to))
	}
	return nil
}

// copyOutput copies an OCI layout to another file system: folders and regular files alone,
// so that no link of a worker leads anywhere.
func copyOutput(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type().IsRegular():
			return copyFile(path, target)
		}
		return fmt.Errorf("%q is neither a file nor a folder", path)
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
