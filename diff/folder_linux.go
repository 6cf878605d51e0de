package diff

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxXattrs bounds the extended attributes of one file; Linux keeps names and each value below 64 kB.
const maxXattrs = 64 << 10

func system(name string, info fs.FileInfo, m *Meta) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m.UID, m.GID = int64(st.Uid), int64(st.Gid)
		if info.Mode()&fs.ModeDevice != 0 {
			m.Device = fmt.Sprintf("%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
		}
	}
	names := make([]byte, maxXattrs)
	n, err := unix.Llistxattr(name, names)
	if err != nil || n == 0 {
		return
	}
	value := make([]byte, maxXattrs)
	for _, k := range strings.Split(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if v, err := unix.Lgetxattr(name, k, value); err == nil {
			if m.Xattrs == nil {
				m.Xattrs = map[string]string{}
			}
			m.Xattrs[k] = string(value[:v])
		}
	}
}

func idOf(info fs.FileInfo) (fileID, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, false
	}
	return fileID{uint64(st.Dev), st.Ino}, st.Nlink > 1
}

// nextData is where a file's next bytes begin that are no hole, behind all of them when there are none. It moves the
// file's own offset, which nobody here reads by.
func nextData(f *os.File, off int64) (int64, bool) {
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return math.MaxInt64, true
	}
	return at, err == nil
}
