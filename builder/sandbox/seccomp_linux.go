//go:build amd64 || arm64

package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (linux/seccomp.h). The machines we support are
// little-endian, so an argument's low word comes first.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16
)

// namespaceFlags are the CLONE_NEW* bits that clone(2) knows. CLONE_NEWTIME
// shares its bit with clone's exit signal and means a namespace only to unshare.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// lastSyscall is the newest call that the filter has an opinion on. Everything
// after it answers ENOSYS, so that a newer kernel shows a build nothing new.
const lastSyscall = unix.SYS_FILE_SETATTR

// denied are the calls that answer EPERM whatever their arguments. Most need a
// capability that is dropped anyway: the filter is the second wall, and keeps a
// build away from code of the kernel that it has no business in.
var denied = append([]uint32{
	// what is mounted where
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_STATMOUNT, unix.SYS_LISTMOUNT,
	unix.SYS_SETNS, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_PROCESS_MADVISE,
	// files past their paths
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_FANOTIFY_INIT,
	// parts of the kernel that are not namespaced
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_USERFAULTFD, unix.SYS_SYSLOG,
	unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_VHANGUP, unix.SYS_MOVE_PAGES, unix.SYS_MIGRATE_PAGES,
	// the machine
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
}, deniedHere...)

// absent are the calls whose callers have a fallback when they are not there.
var absent = []uint32{unix.SYS_CLONE3, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER}

// ownerCall is a call that asks for an owner or an identity.
type ownerCall struct {
	nr   uint32
	name string
	path int // argument with the path, -1 for none
	fd   int // argument with the descriptor, or the folder that path starts at
	uid  int // first argument with a user id
	gid  int // first argument with a group id
	n    int // how many ids of each kind follow one another
}

// ownerCalls answer 0 in a single mapping. setgroups is not among those that are
// recorded: it never decides the owner of a file.
var ownerCalls = append([]ownerCall{
	{unix.SYS_FCHOWN, "fchown", -1, 0, 1, 2, 1},
	{unix.SYS_FCHOWNAT, "fchownat", 1, 0, 2, 3, 1},
	{unix.SYS_SETUID, "setuid", -1, -1, 0, -1, 1},
	{unix.SYS_SETGID, "setgid", -1, -1, -1, 0, 1},
	{unix.SYS_SETREUID, "setreuid", -1, -1, 0, -1, 2},
	{unix.SYS_SETREGID, "setregid", -1, -1, -1, 0, 2},
	{unix.SYS_SETRESUID, "setresuid", -1, -1, 0, -1, 3},
	{unix.SYS_SETRESGID, "setresgid", -1, -1, -1, 0, 3},
	{unix.SYS_SETFSUID, "setfsuid", -1, -1, 0, -1, 1},
	{unix.SYS_SETFSGID, "setfsgid", -1, -1, -1, 0, 1},
}, ownerCallsHere...)

// ids are the numbers of the arguments that hold ids.
func (o ownerCall) ids() []int {
	var ids []int
	for _, first := range []int{o.uid, o.gid} {
		for i := 0; first >= 0 && i < o.n; i++ {
			ids = append(ids, first+i)
		}
	}
	return ids
}

// program is a classic BPF program under construction.
type program []unix.SockFilter

func (p *program) load(offset uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
}

func (p *program) loadArg(n int) { p.load(dataArgs + 8*uint32(n)) }

func (p *program) and(mask uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask})
}

func (p *program) ret(action uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action})
}

// skip jumps over the next n instructions when the accumulator compares to k as
// code says, and falls through otherwise.
func (p *program) skip(code uint16, k uint32, n int) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | code, K: k, Jt: uint8(n)})
}

// call runs body only for system call nr; body must end in a return.
func (p *program) call(nr uint32, body func(*program)) {
	var b program
	body(&b)
	*p = append(*p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, K: nr, Jf: uint8(len(b))})
	*p = append(*p, b...)
}

func errno(e uint32) uint32 { return unix.SECCOMP_RET_ERRNO | e }

// filter writes the seccomp program. owners is what to do about ownerCalls that
// ask for somebody else than 0: allow them (a real mapping), or answer 0, or
// tell the supervisor. beyond is what to do, where they are allowed, about those
// that give a file to an id which no mapping has.
func filter(owners, beyond uint32) []unix.SockFilter {
	var p program
	p.load(dataArch)
	p.skip(unix.BPF_JEQ, auditArch, 1)
	p.ret(unix.SECCOMP_RET_KILL_PROCESS) // 32-bit calls have other numbers: the rest of the filter would misread them
	p.load(dataNr)
	// x32 calls have bit 30 set on amd64, and no call of arm64 is as large.
	p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JGE, K: 0x40000000, Jf: 1})
	p.ret(unix.SECCOMP_RET_KILL_PROCESS)
	p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JGT, K: lastSyscall, Jf: 1})
	p.ret(errno(uint32(unix.ENOSYS)))

	for _, nr := range denied {
		p.call(nr, func(b *program) { b.ret(errno(uint32(unix.EPERM))) })
	}
	for _, nr := range absent {
		p.call(nr, func(b *program) { b.ret(errno(uint32(unix.ENOSYS))) })
	}
	denyFlags := func(mask uint32) func(*program) {
		return func(b *program) {
			b.loadArg(0)
			b.and(mask)
			b.skip(unix.BPF_JEQ, 0, 1)
			b.ret(errno(uint32(unix.EPERM)))
			b.ret(unix.SECCOMP_RET_ALLOW)
		}
	}
	p.call(unix.SYS_CLONE, denyFlags(namespaceFlags))
	p.call(unix.SYS_UNSHARE, denyFlags(namespaceFlags|unix.CLONE_NEWTIME))
	// A kernel without the family answers EAFNOSUPPORT. It must be this number:
	// useradd stops at any other answer to its audit socket.
	p.call(unix.SYS_SOCKET, func(b *program) {
		b.loadArg(0)
		b.skip(unix.BPF_JEQ, unix.AF_UNIX, 1)
		b.ret(errno(uint32(unix.EAFNOSUPPORT)))
		b.ret(unix.SECCOMP_RET_ALLOW)
	})
	// Both push characters into the input queue of a terminal.
	p.call(unix.SYS_IOCTL, func(b *program) {
		b.loadArg(1)
		b.skip(unix.BPF_JEQ, unix.TIOCSTI, 2)
		b.skip(unix.BPF_JEQ, 0x541c, 1) // TIOCLINUX
		b.ret(unix.SECCOMP_RET_ALLOW)
		b.ret(errno(uint32(unix.EPERM)))
	})
	if owners != unix.SECCOMP_RET_ALLOW {
		p.owners(owners)
	} else if beyond != unix.SECCOMP_RET_ALLOW {
		p.beyond(beyond)
	}
	p.ret(unix.SECCOMP_RET_ALLOW)
	return p
}

// owners answers the ownerCalls: 0 when they ask for id 0 or leave the ids alone,
// other when they ask for anybody else.
func (p *program) owners(other uint32) {
	p.call(unix.SYS_SETGROUPS, func(b *program) { b.ret(errno(0)) })
	for _, o := range ownerCalls {
		p.call(o.nr, func(b *program) {
			for _, arg := range o.ids() {
				b.loadArg(arg)
				b.skip(unix.BPF_JEQ, 0, 2)
				b.skip(unix.BPF_JEQ, 0xffffffff, 1) // (uid_t)-1: leave it alone
				b.ret(other)
			}
			b.ret(errno(0))
		})
	}
}

// beyond answers the calls that give a file to an id of ids or more.
func (p *program) beyond(action uint32) {
	for _, o := range ownerCalls {
		if o.path < 0 && o.fd < 0 {
			continue
		}
		p.call(o.nr, func(b *program) {
			for _, arg := range o.ids() {
				b.loadArg(arg)
				b.skip(unix.BPF_JEQ, 0xffffffff, 2) // leave it alone
				*b = append(*b, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JGE, K: ids, Jf: 1})
				b.ret(action)
			}
			b.ret(unix.SECCOMP_RET_ALLOW)
		})
	}
}

// confine installs the filter on the calling thread, which must be locked, and
// answers the descriptor of the supervisor's end (-1 unless record).
func confine(owners, beyond uint32) (listener int, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("no_new_privs: %w", err)
	}
	f := filter(owners, beyond)
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	var flags uintptr
	if owners == unix.SECCOMP_RET_USER_NOTIF {
		flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return -1, e
	}
	if flags == 0 {
		return -1, nil
	}
	return int(fd), nil
}
