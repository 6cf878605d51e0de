//go:build unix

package image

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock locks f until it is closed, and reports whether that could be done at once.
func lock(f *os.File) bool {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
