package store

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// freeBytes asks how much an ordinary user may still write; -1 if that cannot be told.
func freeBytes(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return -1
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// bootID names this run of the kernel (random(4)); "" if that cannot be told.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
