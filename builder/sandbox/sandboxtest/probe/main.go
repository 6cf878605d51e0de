//go:build linux

// Probe is the only program in the roots of package sandboxtest. It looks around
// in a sandbox, tries to break out of it, and misbehaves on demand.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(2)
	}
	verb, ok := verbs()[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such verb")
		os.Exit(2)
	}
	if err := verb(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// verbs is a function, since a variable that names functions which use it would need an init.
func verbs() map[string]func([]string) error {
	return map[string]func([]string) error{
		"facts": facts, "try": try, "exit": exit, "signal": signalSelf, "spew": spew, "sleep": sleep, "daemon": daemon, "bomb": bomb,
		"hog": hog, "fill": fill, "write": write, "read": read, "chown": chown, "leave": leave, "list": list, "stack": stack, "become": become,
		"remove": remove,
	}
}

func text(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

func status(field string) string {
	for _, line := range strings.Split(text("/proc/self/status"), "\n") {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return ""
}

// facts prints what a build can see of its surroundings, as JSON.
func facts([]string) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	dir, _ := os.Getwd()
	f := map[string]string{
		"host":         unix.ByteSliceToString(u.Nodename[:]),
		"domain":       unix.ByteSliceToString(u.Domainname[:]),
		"release":      unix.ByteSliceToString(u.Release[:]),
		"ids":          fmt.Sprint(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid()),
		"groups":       status("Groups"),
		"dir":          dir,
		"umask":        status("Umask"),
		"env":          strings.Join(os.Environ(), " "),
		"capabilities": status("CapEff") + " " + status("CapPrm") + " " + status("CapBnd") + " " + status("CapInh") + " " + status("CapAmb"),
		"privileges":   "no_new_privs " + status("NoNewPrivs") + ", seccomp " + status("Seccomp"),
		"pid":          strconv.Itoa(os.Getpid()),
		"cpus":         status("Cpus_allowed_list"),
		"zone":         time.Unix(0, 0).Format("-0700"),
		"cgroups":      cgroups(),
		"terminal":     fmt.Sprint(openError("/dev/tty")),
		"top":          entries("/"),
		"dev":          entries("/dev"),
		"tmp":          entries("/tmp"),
		"shm":          entries("/dev/shm"),
	}
	sid, _ := unix.Getsid(0)
	f["session"] = fmt.Sprint(sid == os.Getpid())
	f["processes"] = processes()
	f["descriptors"] = descriptors()
	f["network"] = network()
	f["ignored signals"] = status("SigIgn")
	var limits []string
	for _, r := range []int{unix.RLIMIT_CORE, unix.RLIMIT_NOFILE, unix.RLIMIT_STACK, unix.RLIMIT_MEMLOCK, unix.RLIMIT_SIGPENDING} {
		var l unix.Rlimit
		_ = unix.Getrlimit(r, &l)
		if r == unix.RLIMIT_NOFILE {
			l.Cur = 0 // Go raises it to the hard limit at its start
		}
		limits = append(limits, fmt.Sprint(int64(l.Cur)))
	}
	f["limits"] = strings.Join(limits, " ")
	return json.NewEncoder(os.Stdout).Encode(f)
}

// cgroups is every different path of a control group.
func cgroups() string {
	paths := map[string]bool{}
	for _, line := range strings.Split(text("/proc/self/cgroup"), "\n") {
		if f := strings.SplitN(line, ":", 3); len(f) == 3 {
			paths[f[2]] = true
		}
	}
	var list []string
	for p := range paths {
		list = append(list, p)
	}
	sort.Strings(list)
	return strings.Join(list, " ")
}

func entries(dir string) string {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func openError(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

func processes() string {
	var list []string
	for _, name := range strings.Fields(entries("/proc")) {
		if name[0] >= '0' && name[0] <= '9' {
			list = append(list, name)
		}
	}
	sort.Strings(list)
	return strings.Join(list, " ")
}

// descriptors lists the inherited ones: Go itself opens more, none of them below 3.
func descriptors() string {
	var list []string
	for fd := 0; fd < 1024; fd++ {
		to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil || strings.HasPrefix(to, "anon_inode:") {
			continue
		}
		if strings.HasPrefix(to, "pipe:") {
			to = "pipe"
		}
		list = append(list, fmt.Sprint(fd, " ", to))
	}
	return strings.Join(list, ", ")
}

// network lists interfaces with their flags, as /proc shows them.
func network() string {
	var list []string
	for _, line := range strings.Split(text("/proc/net/dev"), "\n") {
		if name, _, ok := strings.Cut(line, ":"); ok {
			list = append(list, strings.TrimSpace(name))
		}
	}
	return strings.Join(list, " ") + "; routes " + strconv.Itoa(strings.Count(text("/proc/net/route"), "\n"))
}

// try attempts, one after the other, what a sandbox must forbid, and prints
// "what: answer" lines. The arguments name a read-only input and a path of the host.
func try(args []string) error {
	input, secret := args[0], args[1]
	attempts := []struct {
		name string
		do   func() error
	}{
		{"read a file of the host", func() error { return openError(secret) }},
		{"write an input", func() error { return os.WriteFile(input+"/new", nil, 0o644) }},
		{"change an input", func() error { return os.WriteFile(input+"/given", []byte("x"), 0o644) }},
		{"chmod an input", func() error { return os.Chmod(input+"/given", 0o777) }},
		{"remove an input", func() error { return os.Remove(input + "/given") }},
		{"remount an input", func() error { return unix.Mount("", input, "", unix.MS_REMOUNT|unix.MS_BIND, "") }},
		{"unmount an input", func() error { return unix.Unmount(input, unix.MNT_DETACH) }},
		{"mount", func() error { return unix.Mount("x", "/tmp", "tmpfs", 0, "") }},
		{"mount the new way", func() error { _, err := unix.Fsopen("tmpfs", 0); return err }},
		{"clone a mount", func() error { _, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE); return err }},
		{"chroot", func() error { return unix.Chroot("/tmp") }},
		{"pivot_root", func() error { return unix.PivotRoot("/", "/") }},
		{"unshare a user namespace", func() error { return unix.Unshare(unix.CLONE_NEWUSER) }},
		{"unshare a mount namespace", func() error { return unix.Unshare(unix.CLONE_NEWNS) }},
		{"unshare a network", func() error { return unix.Unshare(unix.CLONE_NEWNET) }},
		{"clone a user namespace", cloneUser},
		{"clone3", func() error { return call(unix.SYS_CLONE3, 0, 0, 0) }},
		{"setns", func() error { return unix.Setns(0, 0) }},
		{"ptrace pid 1", func() error { return unix.PtraceAttach(1) }},
		{"open the memory of pid 1", func() error { return openError("/proc/1/mem") }},
		{"open the memory of a thread of pid 1", threadMemory},
		{"enter the root of pid 1", func() error { _, err := os.ReadDir("/proc/1/root/"); return errors.Unwrap(err) }},
		{"read the memory of pid 1", func() error { return call(unix.SYS_PROCESS_VM_READV, 1, 0, 0) }},
		{"write a sysctl", sysctl},
		{"write the next pid", func() error { return openError("/proc/sys/kernel/ns_last_pid") }},
		{"write sysrq-trigger", sysrq},
		{"read the kernel's log", func() error { _, err := unix.Klogctl(3, make([]byte, 10)); return err }},
		{"make a device", func() error { return unix.Mknod("/tmp/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
		{"make a disk", func() error { return unix.Mknod("/tmp/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(8, 0))) }},
		{"set the host name", func() error { return unix.Sethostname([]byte("x")) }},
		{"set the clock", func() error { return unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: 1}) }},
		{"reboot", func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) }},
		{"load a module", func() error { return unix.FinitModule(0, "", 0) }},
		{"bpf", func() error { return call(unix.SYS_BPF, 0, 0, 0) }},
		{"perf", func() error { return call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0) }},
		{"keys", func() error { return call(unix.SYS_KEYCTL, 0, 0, 0) }},
		{"userfaultfd", func() error { return call(unix.SYS_USERFAULTFD, 0, 0, 0) }},
		{"io_uring", func() error { return call(unix.SYS_IO_URING_SETUP, 1, 0, 0) }},
		{"open by handle", func() error { return call(unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0) }},
		{"a call of the future", func() error { return call(unix.SYS_FILE_SETATTR+100, 0, 0, 0) }},
		{"type into the terminal", func() error { return call(unix.SYS_IOCTL, 0, unix.TIOCSTI, 0) }},
		{"internet socket", func() error { return socket(unix.AF_INET) }},
		{"IPv6 socket", func() error { return socket(unix.AF_INET6) }},
		{"netlink socket", func() error { return socket(unix.AF_NETLINK) }},
		{"packet socket", func() error { return socket(unix.AF_PACKET) }},
		{"vsock socket", func() error { return socket(unix.AF_VSOCK) }},
		{"unix socket", func() error { return socket(unix.AF_UNIX) }},
		{"raise a limit", func() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}) }},
		{"raise the priority", func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) }},
		{"gain by a set-user-ID program", setuid},
		{"signal pid 1", func() error { return unix.Kill(1, unix.SIGTERM) }},
		{"kill pid 1", func() error { return unix.Kill(1, unix.SIGKILL) }},
	}
	for _, a := range attempts {
		err := a.do()
		var e syscall.Errno
		if errors.As(err, &e) {
			err = errors.New(unix.ErrnoName(e))
		}
		if err == nil {
			err = errors.New("allowed")
		}
		fmt.Printf("%s: %v\n", a.name, err)
	}
	return nil
}

func call(nr, a, b, c uintptr) error {
	if _, _, e := unix.Syscall(nr, a, b, c); e != 0 {
		return e
	}
	return nil
}

func socket(family int) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func cloneUser() error {
	c := exec.Command("/proc/self/exe", "exit", "0")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	return c.Run()
}

// threadMemory tries every thread of pid 1: they have different powers.
func threadMemory() error {
	for _, tid := range strings.Fields(entries("/proc/1/task")) {
		for _, name := range []string{"mem", "environ", "maps"} {
			f, err := os.OpenFile(filepath.Join("/proc/1/task", tid, name), os.O_RDONLY, 0)
			if err != nil {
				continue
			}
			if _, err := f.Read(make([]byte, 1)); err == nil {
				return nil
			}
		}
	}
	return unix.EACCES
}

// sysctl is refused by the owner of the file where that is not our user, and by
// the mount where it is.
func sysctl() error {
	err := openError("/proc/sys/kernel/panic")
	if errors.Is(err, unix.EACCES) {
		return unix.EROFS
	}
	return err
}

func sysrq() error {
	err := openError("/proc/sysrq-trigger")
	if errors.Is(err, unix.ENOENT) {
		return unix.EACCES // the kernel has none
	}
	return err
}

// setuid runs a copy of this program that is set-user-ID root as another user.
// Where only one id exists, that user is still root, with nothing to gain.
func setuid() error {
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile("/setuid", b, 0o755); err != nil {
		return err
	}
	if err := os.Chmod("/setuid", 0o4755); err != nil {
		return err
	}
	defer os.Remove("/setuid")
	c := exec.Command("/setuid", "become", "1234")
	out, err := c.Output()
	if err != nil {
		return err
	}
	return errors.New(strings.TrimSpace(string(out)))
}

// become changes to a user, runs itself from the same file, and prints what
// powers the result has.
func become(args []string) error {
	if args[0] == "look" {
		caps := status("CapEff")
		if os.Getuid() == 0 { // a single mapping has nobody else to become
			caps = strings.Replace(caps, "800000fb", "00000000", 1)
		}
		fmt.Println("no capabilities but", caps)
		return nil
	}
	id, _ := strconv.Atoi(args[0])
	runtime.LockOSThread()
	if err := syscall.Setgid(id); err != nil {
		return err
	}
	if err := syscall.Setuid(id); err != nil {
		return err
	}
	return syscall.Exec("/setuid", []string{"/setuid", "become", "look"}, nil)
}

func exit(args []string) error {
	n, _ := strconv.Atoi(args[0])
	os.Exit(n)
	return nil
}

func signalSelf(args []string) error {
	n, _ := strconv.Atoi(args[0])
	if err := unix.Kill(os.Getpid(), syscall.Signal(n)); err != nil {
		return err
	}
	time.Sleep(time.Minute)
	return nil
}

// spew writes n MiB to each output.
func spew(args []string) error {
	n, _ := strconv.Atoi(args[0])
	b := []byte(strings.Repeat("0123456789abcdef", 1<<16))
	for range n {
		if _, err := os.Stdout.Write(b); err != nil {
			return err
		}
		if _, err := os.Stderr.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func sleep(args []string) error {
	fmt.Println("sleeping")
	time.Sleep(time.Hour)
	return nil
}

// daemon leaves a process behind that tries to outlive it, and ends.
func daemon(args []string) error {
	c := exec.Command("/proc/self/exe", append([]string{"sleep"}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.Stdout = os.Stdout
	return c.Start()
}

// bomb forks without end.
func bomb(args []string) error {
	for {
		_, _ = syscall.ForkExec("/proc/self/exe", append([]string{"probe", "bomb"}, args...), nil)
	}
}

// hog touches memory without end.
func hog([]string) error {
	for {
		b, err := unix.Mmap(-1, 0, 16<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	}
}

// fill writes many files without end into a folder.
func fill(args []string) error {
	b := make([]byte, 1<<20)
	for i := 0; ; i++ {
		if err := os.WriteFile(filepath.Join(args[0], strconv.Itoa(i)), b, 0o644); err != nil {
			return err
		}
	}
}

func write(args []string) error {
	return os.WriteFile(args[0], []byte(args[1]), 0o644)
}

func read(args []string) error {
	b, err := os.ReadFile(args[0])
	os.Stdout.Write(b)
	return err
}

func remove(args []string) error { return os.RemoveAll(args[0]) }

func list(args []string) error {
	fmt.Println(entries(args[0]))
	return nil
}

func chown(args []string) error {
	id, _ := strconv.Atoi(args[1])
	if err := os.Chown(args[0], id, id); err != nil {
		return err
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	if err := f.Chown(0, -1); err != nil { // asks for nothing that is lost
		return err
	}
	return f.Chown(id+1, -1)
}

// leave puts something everywhere that another run could find it.
func leave([]string) error {
	for _, p := range []string{"/tmp/left", "/dev/shm/left", "/left", "/dev/left"} {
		if err := os.WriteFile(p, nil, 0o666); err != nil {
			return err
		}
	}
	if _, err := unix.SysvShmGet(42, 4096, unix.IPC_CREAT|0o666); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@left"}); err != nil {
		return fmt.Errorf("something is left: %w", err)
	}
	if _, err := unix.SysvShmGet(43, 4096, 0); err == nil {
		return errors.New("shared memory of another run is left")
	}
	return nil
}

// stack prints an address of the program's stack.
func stack([]string) error {
	for _, line := range strings.Split(text("/proc/self/maps"), "\n") {
		if strings.HasSuffix(line, "[stack]") {
			fmt.Println(line[:strings.IndexByte(line, '-')])
		}
	}
	return nil
}
