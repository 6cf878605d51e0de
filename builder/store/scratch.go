package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"quorate.dev/builder/filelock"
)

// session is the scratch folder of one open Store, locked for as long as it
// lives, so that others can tell its files from those of the dead.
type session struct {
	dir  string // scratch/ID
	lock *fileLock
}

// sessionDir returns the session's folder, made when first needed.
func (s *Store) sessionDir() (string, error) {
	if s.o.ReadOnly {
		return "", ErrReadOnly
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sess != nil {
		return s.sess.dir, nil
	}
	id := strings.ToLower(rand.Text())
	// The lock comes first: a folder without a locked file is a dead one's.
	lock, err := tryLock(s.path("locks", scratchLock+id), filelock.Exclusive)
	if err != nil {
		return "", s.space(err, 0)
	}
	dir := s.path("scratch", id)
	if err := makeDir(dir); err != nil {
		lock.remove()
		return "", s.space(err, 0)
	}
	s.sess = &session{dir: dir, lock: lock}
	return dir, nil
}

const scratchLock = "scratch-"

// endSession removes the scratch folder; s.mu is held.
func (s *Store) endSession() error {
	if s.sess == nil {
		return nil
	}
	err := s.o.Remove(s.sess.dir)
	if err != nil {
		s.sess.lock.unlock() // the next Open tries again
		err = fmt.Errorf("cannot remove temporary folder %q: %w", s.sess.dir, err)
	} else {
		s.sess.lock.remove()
	}
	s.sess = nil
	return err
}

// reap removes the scratch folders of dead processes. What cannot be removed
// (files of other owners, and no Options.Remove that can) stays for another try.
func (s *Store) reap() {
	entries, err := os.ReadDir(s.path("scratch"))
	if err != nil {
		return
	}
	for _, e := range entries {
		lock, err := tryLock(s.path("locks", scratchLock+e.Name()), filelock.Exclusive)
		if err != nil {
			continue
		}
		if s.o.Remove(s.path("scratch", e.Name())) == nil {
			lock.remove()
		} else {
			lock.unlock()
		}
	}
}

// Scratch makes an empty folder (0755) on the store's own file system for the
// caller alone; done removes it, or has it removed where it is crowded
// (Options.Leave). Folders that a killed process left are removed by a later Open.
func (s *Store) Scratch(ctx context.Context) (dir string, done func(), err error) {
	if err := ctx.Err(); err != nil {
		return "", nil, err
	}
	sess, err := s.sessionDir()
	if err != nil {
		return "", nil, fmt.Errorf("cannot make a temporary folder in store %q: %w", s.dir, err)
	}
	dir, err = makeTemp(sess)
	if err != nil {
		return "", nil, fmt.Errorf("cannot make a temporary folder in store %q: %w", s.dir, s.space(err, 0))
	}
	return dir, func() { s.giveUp(dir) }, nil
}

// giveUp removes a scratch folder, or leaves that to another process.
func (s *Store) giveUp(dir string) {
	if s.o.Leave != nil && crowded(dir) && s.leave(dir) == nil {
		return
	}
	_ = s.o.Remove(dir)
}

// leave makes dir the scratch folder of the process that is to remove it. Like
// that of any process it has a lock, so the next Open removes what is left of
// it if that process is killed.
func (s *Store) leave(dir string) error {
	id := strings.ToLower(rand.Text())
	lock, err := tryLock(s.path("locks", scratchLock+id), filelock.Exclusive)
	if err != nil {
		return err
	}
	to := s.path("scratch", id)
	if err := os.Rename(dir, to); err != nil {
		lock.remove()
		return err
	}
	if err := s.o.Leave(to, lock.f); err != nil {
		if back := os.Rename(to, dir); back != nil {
			lock.unlock() // the next Open removes it
			return nil
		}
		lock.remove()
		return err
	}
	lock.unlock() // the other process holds it now
	return nil
}

// manyFiles is from how many files on removing a folder is not worth waiting for:
// a file takes about 30 µs (ext4).
const manyFiles = 5000

// crowded reports whether so many files are in dir, as far as it can be read.
func crowded(dir string) bool {
	n := 0
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if n++; n >= manyFiles {
			return fs.SkipAll
		}
		if err != nil && d != nil && d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return n >= manyFiles
}

func makeTemp(in string) (string, error) {
	dir, err := os.MkdirTemp(in, "d")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, dirMode)
}

// temp is a file in the scratch folder that is to be renamed.
type temp struct {
	s *Store
	f *os.File // nil when renamed or discarded
}

func (s *Store) createTemp() (*temp, error) {
	dir, err := s.sessionDir()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "f")
	if err != nil {
		return nil, s.space(err, 0)
	}
	return &temp{s: s, f: f}, nil
}

// rename gives the file fileMode and its final name, replacing what has it;
// durable also syncs file and folder.
func (t *temp) rename(path string, durable bool) error {
	f := t.f
	if err := f.Chmod(fileMode); err != nil {
		return err
	}
	if durable {
		if err := f.Sync(); err != nil {
			return t.s.space(err, 0)
		}
	}
	if err := f.Close(); err != nil {
		return t.s.space(err, 0)
	}
	if err := replace(f.Name(), path); err != nil {
		return t.s.space(err, 0)
	}
	t.f = nil
	if durable {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

// replace renames a file over another. Where the system refuses that because
// somebody reads the other (Windows), the other is as good: it has the same name.
func replace(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrPermission) {
		if _, statErr := os.Stat(to); statErr == nil && os.PathSeparator == '\\' {
			return os.Remove(from)
		}
	}
	return err
}

func (t *temp) discard() {
	if t.f != nil {
		t.f.Close()
		os.Remove(t.f.Name())
		t.f = nil
	}
}
