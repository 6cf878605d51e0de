// Package filelock locks open files against other processes, and against other
// openings of the same file within this one.
//
// A lock is flock(2) on Unix and LockFileEx on Windows. It belongs to the open
// file and ends with it, however the process dies, so nothing has to be cleaned
// up after a kill. Locks are advice: they exclude only those who ask.
package filelock

import (
	"errors"
	"os"
)

// Kind says who else may hold the lock at the same time.
type Kind int

const (
	Shared    Kind = iota // others who ask for Shared
	Exclusive             // nobody
)

// ErrLocked says that somebody else holds a lock that excludes the one asked for.
var ErrLocked = errors.New("locked by another process")

// Try locks f until it is closed, or returns ErrLocked at once. Other errors
// are *os.PathError, of a file system without locks for instance.
func Try(f *os.File, k Kind) error { return lock(f, k, false) }

// Wait locks f until it is closed, waiting for as long as somebody else holds a
// lock that excludes it.
func Wait(f *os.File, k Kind) error { return lock(f, k, true) }

// Unlock ends a lock of f before it is closed.
func Unlock(f *os.File) error { return unlock(f) }
