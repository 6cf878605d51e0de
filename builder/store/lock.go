package store

import (
	"context"
	"errors"
	"os"
	"time"

	"quorate.dev/builder/filelock"
)

// Locks are filelock's on a file of their own, so they end with the process that
// holds them, however it dies. Each one is taken on a freshly opened file:
// goroutines of one process exclude each other just as processes do.

// errReplaced says that the file under the lock's name is not the one that was locked.
var errReplaced = errors.New("lock file was replaced")

type fileLock struct {
	f    *os.File
	path string
}

// tryLock takes a lock, or returns filelock.ErrLocked at once.
func tryLock(path string, k filelock.Kind) (*fileLock, error) {
	for {
		l, err := openLock(path)
		if err != nil {
			return nil, err
		}
		err = filelock.Try(l.f, k)
		if err == nil {
			err = l.current()
		}
		if err == nil {
			return l, nil
		}
		l.unlock()
		if !errors.Is(err, errReplaced) {
			return nil, err
		}
	}
}

// lockWait takes a lock and waits for it as long as it takes.
func lockWait(path string, k filelock.Kind) (*fileLock, error) {
	return lockContext(context.Background(), path, k)
}

// lockContext takes a lock, waiting until ctx ends. It asks again and again
// because a blocked flock cannot be cancelled; 50 ms is short beside any work
// that is done under these locks.
func lockContext(ctx context.Context, path string, k filelock.Kind) (*fileLock, error) {
	const most = 50 * time.Millisecond
	for wait := time.Millisecond; ; wait = min(2*wait, most) {
		l, err := tryLock(path, k)
		if !errors.Is(err, filelock.ErrLocked) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// lockReadOnly takes a shared lock on a file that must exist, without needing to write.
func lockReadOnly(path string) (*fileLock, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l := &fileLock{f: f, path: path}
	if err := filelock.Wait(f, filelock.Shared); err != nil {
		l.unlock()
		return nil, err
	}
	return l, nil
}

func openLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	return &fileLock{f: f, path: path}, nil
}

// current reports errReplaced if, while we waited, the holder removed the file that we locked.
func (l *fileLock) current() error {
	mine, err := l.f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(l.path)
	if err != nil || !os.SameFile(mine, now) {
		return errReplaced
	}
	return nil
}

// unlock ends the lock; on nil it does nothing.
func (l *fileLock) unlock() {
	if l != nil && l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

// remove ends an exclusive lock and removes its file, so that lock files do
// not pile up. Who waits on the removed file notices through current.
func (l *fileLock) remove() {
	if l != nil && l.f != nil {
		os.Remove(l.path)
		l.unlock()
	}
}

// downgrade turns an exclusive lock into a shared one. Another process may
// get in between, so nothing found out before holds after it.
func (l *fileLock) downgrade() error {
	if err := filelock.Unlock(l.f); err != nil {
		return err
	}
	return filelock.Wait(l.f, filelock.Shared)
}

// upgrade turns a shared lock into an exclusive one, or returns filelock.ErrLocked and
// leaves it shared.
func (l *fileLock) upgrade() error {
	if err := filelock.Unlock(l.f); err != nil {
		return err
	}
	err := filelock.Try(l.f, filelock.Exclusive)
	if err != nil {
		return errors.Join(err, filelock.Wait(l.f, filelock.Shared))
	}
	return nil
}
