//go:build amd64 || arm64

package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxLost is how many lost owners are kept. A script that changes the owner of a
// whole tree is understood from far fewer.
const maxLost = 1000

// notification and response are struct seccomp_notif and seccomp_notif_resp of
// linux/seccomp.h.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// ownerLog answers the calls that ask for owners which a single mapping lacks,
// and remembers them. The arguments are read while the program waits for its
// answer; another thread of it could change them, so this is a record of honest
// programs and not a defence against others.
type ownerLog struct {
	listener int
	lost     []LostOwner
	more     int
}

// err is what Run answers in the end.
func (o *ownerLog) err() error {
	if len(o.lost) == 0 {
		return nil
	}
	return &OwnerError{Lost: o.lost, More: o.more}
}

// serve answers calls until the sandbox has ended.
func (o *ownerLog) serve(ctx context.Context) {
	defer unix.Close(o.listener)
	for {
		// The listener hangs up when the last process with the filter is gone;
		// the time is for a sandbox that was given up.
		p := []unix.PollFd{{Fd: int32(o.listener), Events: unix.POLLIN}}
		_, err := unix.Poll(p, 200)
		if err != nil && err != unix.EINTR || p[0].Revents&unix.POLLIN == 0 && (p[0].Revents != 0 || ctx.Err() != nil) {
			return
		}
		if p[0].Revents&unix.POLLIN == 0 {
			continue
		}
		var n notification
		if err := ioctl(o.listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err != nil {
			continue // the caller was killed meanwhile
		}
		o.record(&n)
		answer := response{id: n.id}
		_ = ioctl(o.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&answer))
		runtime.KeepAlive(&n)
	}
}

func ioctl(fd int, request uint, p unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(p)); e != 0 {
		return e
	}
	return nil
}

func (o *ownerLog) record(n *notification) {
	if len(o.lost) >= maxLost {
		o.more++
		return
	}
	for _, c := range ownerCalls {
		if int32(c.nr) == n.nr {
			o.lost = append(o.lost, LostOwner{Call: c.name, Path: c.named(n), UID: asked(n, c.uid, c.n), GID: asked(n, c.gid, c.n)})
			return
		}
	}
}

// asked is the first id among n arguments that is neither 0 nor left alone, else
// the first one; -1 when the call has none.
func asked(n *notification, first, count int) int {
	if first < 0 {
		return -1
	}
	for i := first; i < first+count; i++ {
		if id := int32(n.args[i]); id != 0 && id != -1 {
			return int(uint32(id))
		}
	}
	return int(int32(n.args[first]))
}

// named is the file that a call names, as the program does.
func (c ownerCall) named(n *notification) string {
	if c.path >= 0 {
		if p := readString(n.pid, n.args[c.path]); p != "" {
			return p
		}
	}
	if c.fd < 0 {
		return ""
	}
	p, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(n.args[c.fd])))
	if err != nil {
		return fmt.Sprintf("descriptor %d", int32(n.args[c.fd]))
	}
	return p
}

// readString reads a path from the memory of a process.
func readString(pid uint32, address uint64) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return ""
	}
	defer f.Close()
	var path []byte
	for len(path) < unix.PathMax {
		// Up to the end of the page: the next one need not be there.
		page := uint64(os.Getpagesize())
		b := make([]byte, page-address%page)
		n, err := f.ReadAt(b, int64(address))
		if i := bytes.IndexByte(b[:n], 0); i >= 0 {
			return string(append(path, b[:i]...))
		}
		if err != nil || n == 0 {
			return ""
		}
		path = append(path, b[:n]...)
		address += uint64(n)
	}
	return ""
}
