package local

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// freeMemoryFS is what the memory file system must have free: the largest example
	// builds need some 2 GiB of work folder, and steps may need more.
	freeMemoryFS = 4 << 30
	// freeMemory is what the machine must have available: the same, and 2 GiB for
	// the compilers that run meanwhile.
	freeMemory = 6 << 30
)

// root returns where work folders go, and whether that is a memory file system
// as asked. It is not when memory is short, or the file system lacks what builds need.
func (h *Host) root(filesystem string) (string, bool) {
	if filesystem != "tmpfs" {
		return h.Scratch, false
	}
	memory := h.Memory
	if memory == "" {
		memory = "/dev/shm"
	}
	var fs unix.Statfs_t
	switch {
	case unix.Statfs(memory, &fs) != nil,
		int64(fs.Type) != unix.TMPFS_MAGIC,
		fs.Bavail*uint64(fs.Bsize) < freeMemoryFS,
		fs.Flags&unix.ST_NOEXEC != 0,
		available() < freeMemory:
		return h.Scratch, false
	}
	// The folder above is everybody's, so ours must be ours alone. Ids of a user
	// namespace only need to pass.
	dir := filepath.Join(memory, fmt.Sprintf("quorate-%d", os.Getuid()))
	if err := os.Mkdir(dir, 0o711); err != nil && !os.IsExist(err) {
		return h.Scratch, false
	}
	var st unix.Stat_t
	if unix.Lstat(dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() || st.Mode&0o022 != 0 {
		return h.Scratch, false
	}
	// Overlays of a user namespace keep their notes in user xattrs, which tmpfs has since Linux 6.6.
	if unix.Setxattr(dir, "user.quorate", []byte("1"), 0) != nil {
		return h.Scratch, false
	}
	return dir, true
}

// available is the memory that can be used without swapping, in bytes; 0 when that is not known.
func available() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "MemAvailable:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}
