package image

import "golang.org/x/sys/unix"

// exchange swaps two folders, so that there is one under each name at any moment.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}
