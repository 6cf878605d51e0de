//go:build linux && (amd64 || arm64)

package sandbox

import (
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestSubordinate(t *testing.T) {
	for _, test := range []struct {
		summary, content string
		want             []syscall.SysProcIDMap
	}{
		{"nothing", "", nil},
		{"by name", "a:100000:65536\n", []syscall.SysProcIDMap{{ContainerID: 1, HostID: 100000, Size: 65535}}},
		{"by number", "1000:100000:10\n", []syscall.SysProcIDMap{{ContainerID: 1, HostID: 100000, Size: 10}}},
		{"several, of others too", "a:5:2\nb:7:9\na:20:3", []syscall.SysProcIDMap{{ContainerID: 1, HostID: 5, Size: 2}, {ContainerID: 3, HostID: 20, Size: 3}}},
		{"larger than all ids", "a:1:4000000\na:9000000:5\n", []syscall.SysProcIDMap{{ContainerID: 1, HostID: 1, Size: 65535}}},
		{"nonsense", "a\na:b:c\na:-1:5\na:1:0\na:1:99999999999999999999\n:1:1\na:1:2:3\n", nil},
	} {
		if d := cmp.Diff(test.want, subordinate([]byte(test.content), []string{"1000", "a"})); d != "" {
			t.Errorf("%s (-want +got)\n%s", test.summary, d)
		}
	}
}

func FuzzSubordinate(f *testing.F) {
	f.Add([]byte("a:100000:65536\n1000:5:6\n"))
	f.Add([]byte("a:2147483647:2147483647\na:::"))
	f.Fuzz(func(t *testing.T, content []byte) {
		next := 1
		for _, m := range subordinate(content, []string{"1000", "a"}) {
			if m.ContainerID != next || m.Size <= 0 || m.HostID < 0 {
				t.Fatalf("%+v", m)
			}
			next += m.Size
		}
		if next > ids {
			t.Fatalf("%d ids", next)
		}
	})
}

func TestControllerFolders(t *testing.T) {
	for _, test := range []struct {
		summary, own, mounts string
		want                 map[string]string
	}{
		{"v2", "0::/user.slice/a\n", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", map[string]string{"": "/sys/fs/cgroup/user.slice/a"}},
		{"v1 and v2", "4:memory:/x/y\n3:cpu,cpuacct:/\n8:pids:/\n0::/\n",
			"1 1 0:1 / /c/memory rw - cgroup cgroup rw,memory\n1 1 0:1 / /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n1 1 0:1 / /c/pids rw - cgroup cgroup rw,pids\n1 1 0:1 / /c/unified rw - cgroup2 cgroup2 rw\n",
			map[string]string{"memory": "/c/memory/x/y", "pids": "/c/pids", "cpu": "/c/cpu,cpuacct", "cpuacct": "/c/cpu,cpuacct", "": "/c/unified"}},
		{"in a container", "4:memory:/docker/id/sub\n", "1 1 0:1 /docker/id /sys/fs/cgroup/memory ro master:9 - cgroup cgroup rw,memory\n",
			map[string]string{"memory": "/sys/fs/cgroup/memory/sub"}},
		{"outside of what is shown", "4:memory:/elsewhere\n", "1 1 0:1 /docker/id /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", map[string]string{}},
		{"nonsense", "a\nb:c\n", "x - y\n - cgroup\n1 1 0:1 / /p rw - ext4 /dev/x rw\n", map[string]string{}},
	} {
		if d := cmp.Diff(test.want, controllerFolders(test.own, test.mounts)); d != "" {
			t.Errorf("%s (-want +got)\n%s", test.summary, d)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1: "1 bytes", 1023: "1023 bytes", 1024: "1 KiB", 100 << 10: "100 KiB", 64 << 20: "64 MiB", 8 << 30: "8 GiB",
		100000000: "95.4 MiB", 1500 << 20: "1500 MiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestOwnerErrorText(t *testing.T) {
	e := &OwnerError{More: 7}
	for range 6 {
		e.Lost = append(e.Lost, LostOwner{Call: "chown", Path: "/a", UID: 33, GID: -1})
	}
	want := `the command asked for 13 owners that do not exist in a sandbox with a single id: chown "/a" to 33:-1, chown "/a" to 33:-1, chown "/a" to 33:-1, chown "/a" to 33:-1, chown "/a" to 33:-1 and 8 more`
	if e.Error() != want {
		t.Errorf("got %s", e)
	}
	if d := cmp.Diff([]string{"/a"}, e.Paths()); d != "" {
		t.Error(d)
	}
}

// simulate runs the filter as the kernel does (the part of classic BPF that it uses).
func simulate(t *testing.T, p []unix.SockFilter, arch, nr uint32, args ...uint64) uint32 {
	t.Helper()
	var a uint32
	for pc, steps := 0, 0; pc < len(p) && steps < len(p); pc, steps = pc+1, steps+1 {
		i := p[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch {
			case i.K == dataNr:
				a = nr
			case i.K == dataArch:
				a = arch
			default:
				a = 0
				if n := int(i.K-dataArgs) / 8; n < len(args) {
					a = uint32(args[n])
				}
			}
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= i.K
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ:
			jump(a == i.K)
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JGE:
			jump(a >= i.K)
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JGT:
			jump(a > i.K)
		default:
			t.Fatalf("instruction %d is %+v", pc, i)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

func TestFilter(t *testing.T) {
	const allow, kill, eperm, enosys = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	const ask, zero = unix.SECCOMP_RET_USER_NOTIF, unix.SECCOMP_RET_ERRNO
	const nobody = 0xffffffff
	for _, test := range []struct {
		summary string
		owners  uint32
		beyond  uint32
		arch    uint32
		nr      uint32
		args    []uint64
		want    uint32
	}{
		{"an ordinary call", allow, allow, auditArch, unix.SYS_READ, nil, allow},
		{"another architecture", allow, allow, unix.AUDIT_ARCH_I386, unix.SYS_READ, nil, kill},
		{"x32", allow, allow, auditArch, 0x40000000 | unix.SYS_READ, nil, kill},
		{"negative", allow, allow, auditArch, 0xffffffff, nil, kill},
		{"the last one we know", allow, allow, auditArch, lastSyscall, nil, allow},
		{"after the last one we know", allow, allow, auditArch, lastSyscall + 1, nil, enosys},
		{"first of the denied", allow, allow, auditArch, denied[0], nil, eperm},
		{"last of the denied", allow, allow, auditArch, denied[len(denied)-1], nil, eperm},
		{"clone3", allow, allow, auditArch, unix.SYS_CLONE3, nil, enosys},
		{"fork", allow, allow, auditArch, unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, allow},
		{"a namespace", allow, allow, auditArch, unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, eperm},
		{"a signal like a time namespace's flag", allow, allow, auditArch, unix.SYS_CLONE, []uint64{unix.CLONE_NEWTIME}, allow},
		{"a time namespace", allow, allow, auditArch, unix.SYS_UNSHARE, []uint64{unix.CLONE_NEWTIME}, eperm},
		{"unshare files", allow, allow, auditArch, unix.SYS_UNSHARE, []uint64{unix.CLONE_FILES}, allow},
		{"the high word does not hide flags", allow, allow, auditArch, unix.SYS_UNSHARE, []uint64{1<<32 | unix.CLONE_NEWNS}, eperm},
		{"TIOCSTI with a high word", allow, allow, auditArch, unix.SYS_IOCTL, []uint64{0, 1<<32 | unix.TIOCSTI}, eperm},
		{"another ioctl", allow, allow, auditArch, unix.SYS_IOCTL, []uint64{0, unix.TCGETS}, allow},
		{"unix socket", allow, allow, auditArch, unix.SYS_SOCKET, []uint64{unix.AF_UNIX}, allow},
		{"internet socket", allow, allow, auditArch, unix.SYS_SOCKET, []uint64{unix.AF_INET}, unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{"chown in a real mapping", allow, allow, auditArch, unix.SYS_FCHOWN, []uint64{3, 5, 6}, allow},
		{"chown to an id too large", allow, zero, auditArch, unix.SYS_FCHOWN, []uint64{3, 65536, 6}, zero},
		{"chown to a group too large", allow, zero, auditArch, unix.SYS_FCHOWNAT, []uint64{3, 0, nobody, 1838273}, zero},
		{"chown to the largest id", allow, zero, auditArch, unix.SYS_FCHOWN, []uint64{3, 65535, 65535}, allow},
		{"chown to nobody", allow, zero, auditArch, unix.SYS_FCHOWN, []uint64{3, nobody, nobody}, allow},
		{"chown to an id too large, refused by the kernel", allow, allow, auditArch, unix.SYS_FCHOWN, []uint64{3, 65536, 6}, allow},
		{"setuid to an id too large", allow, zero, auditArch, unix.SYS_SETUID, []uint64{65536}, allow},
		{"chown to root", ask, allow, auditArch, unix.SYS_FCHOWN, []uint64{3, 0, nobody}, zero},
		{"chown of the user", ask, allow, auditArch, unix.SYS_FCHOWN, []uint64{3, 5, nobody}, ask},
		{"chown of the group", ask, allow, auditArch, unix.SYS_FCHOWN, []uint64{3, 0, 6}, ask},
		{"chown, answered", zero, allow, auditArch, unix.SYS_FCHOWN, []uint64{3, 5, 6}, zero},
		{"setresuid, the last one", ask, allow, auditArch, unix.SYS_SETRESUID, []uint64{0, nobody, 7}, ask},
		{"setresuid, nobody", ask, allow, auditArch, unix.SYS_SETRESUID, []uint64{0, nobody, 0, 7}, zero},
		{"setgroups", ask, allow, auditArch, unix.SYS_SETGROUPS, []uint64{1}, zero},
	} {
		if got := simulate(t, filter(test.owners, test.beyond), test.arch, test.nr, test.args...); got != test.want {
			t.Errorf("%s: got %#x, want %#x", test.summary, got, test.want)
		}
	}
}
