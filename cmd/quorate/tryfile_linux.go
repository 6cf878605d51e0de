package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// tryFile reports why no file can be made in dir. The file has no name, so that
// nothing is left of it when this process is killed meanwhile.
func tryFile(dir string) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	switch err {
	case nil:
		return unix.Close(fd)
	case unix.EOPNOTSUPP, unix.EISDIR, unix.ENOENT, unix.EINVAL: // a file system or kernel without it
		return makeAndRemove(dir)
	}
	return &os.PathError{Op: "open", Path: dir, Err: err}
}
