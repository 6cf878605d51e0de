package store

import (
	"errors"

	"golang.org/x/sys/windows"
)

func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func fileSystem(dir string) (string, int64) { return dir, freeBytes(dir) }

// syncDir does nothing: Windows has no such call, and NTFS logs renames.
func syncDir(string) error { return nil }
