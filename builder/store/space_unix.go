//go:build unix

package store

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// fileSystem finds the folder that dir's file system is mounted on, by walking
// up until the device changes, and the bytes free there.
func fileSystem(dir string) (mount string, free int64) {
	free = freeBytes(dir)
	dev, ok := device(dir)
	if !ok {
		return dir, free
	}
	for {
		up := filepath.Dir(dir)
		d, ok := device(up)
		if up == dir || !ok || d != dev {
			return dir, free
		}
		dir = up
	}
}

func device(dir string) (uint64, bool) {
	fi, err := os.Stat(dir)
	if err != nil {
		return 0, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(st.Dev), true
}

// syncDir makes renames in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	// Some file systems cannot sync a folder (EINVAL, fsync(2)); they promise nothing better.
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}
