//go:build unix

package serve

import (
	"os"

	"golang.org/x/sys/unix"
)

// tryLock claims the file for as long as it is open, unless another process has.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}
