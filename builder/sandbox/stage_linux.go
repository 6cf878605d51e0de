//go:build amd64 || arm64

package sandbox

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stageName is argv[0] of a re-executed process; argv[1] is its part.
const stageName = "quorate-sandbox"

// The parts that a re-executed process plays.
const (
	partMapped = "mapped" // wait until somebody else wrote our id map, then exec argv[2:] with the powers of id 0
	partInit   = "init"   // make the sandbox, be its pid 1
	partTask   = "task"   // run the task argv[2]
	partSweep  = "sweep"  // wait for the end of process argv[2], then remove its control groups
)

// Descriptors that a stage inherits beside the standard ones.
const (
	specFD    = 3 // pipe: the spec as gob (JSON would change names that are not UTF-8); a byte before it once the map is written
	controlFD = 4 // SOCK_SEQPACKET: messages to the parent
)

// spec is what the parent asks of pid 1.
type spec struct {
	Command  command
	Limits   Limits
	Owners   uint32 // the filter's action for owners that the mapping lacks
	Beyond   uint32 // the same for those that every mapping lacks
	MapGroup bool   // setgroups is allowed: drop the host's supplementary groups
	Probe    bool   // make the sandbox, report, run nothing
}

// command is the part of Command that crosses to pid 1.
type command struct {
	Root         Root
	Args, Env    []string
	Dir          string
	Binds        []Bind
	Surroundings Surroundings
	Emulator     Emulator
}

// message is what pid 1 tells the parent. Ready carries descriptors: the
// sandbox's /proc, its tmpfs, and the listener of owner calls when there is one.
type message struct {
	Ready  bool
	Made   []string // of Ready and Failed: the mount points that were made in Upper, parents first
	Failed *failure
	Ended  bool // the command ran and ended
	Status int  // its wait status
}

// failure is a SetupError on its way to the parent.
type failure struct {
	Step  string
	Text  string
	Errno syscall.Errno
}

var tasks map[string]TaskFunc

// Main must be the first call of main and of TestMain. In a process that was
// re-executed as a part of a sandbox it plays that part and never returns; in
// every other it remembers the file tasks and returns at once.
func Main(t map[string]TaskFunc) {
	tasks = t
	if len(os.Args) < 2 || os.Args[0] != stageName {
		return
	}
	// The thread stays ours: its parent-death signal lasts as long as it does.
	runtime.LockOSThread()
	if os.Args[1] == partSweep {
		sweepStage() // survives its parent
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		os.Exit(1)
	}
	switch os.Args[1] {
	case partMapped:
		mapped() // passes its descriptors on
	case partInit:
		initStage()
	case partTask:
		taskStage()
	}
	os.Exit(1)
}

// mapped waits for the id map and execs once more: the first exec happened with
// no id at all, and so without capabilities.
func mapped() {
	var b [1]byte
	if _, err := io.ReadFull(os.NewFile(specFD, "map"), b[:]); err != nil {
		os.Exit(1)
	}
	_, _, e1 := unix.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0)
	_, _, e2 := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
	if e1 != 0 || e2 != 0 {
		os.Exit(1)
	}
	_ = syscall.Exec("/proc/self/exe", append([]string{stageName}, os.Args[2:]...), os.Environ())
	os.Exit(1)
}

// taskStage runs one file task.
func taskStage() {
	unix.Umask(0o022)
	name := os.Args[2]
	if name == "" {
		os.Exit(0) // the probe of a mapping
	}
	run := tasks[name]
	if run == nil {
		fmt.Fprintf(os.Stderr, "no file task is called %q", name)
		os.Exit(1)
	}
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprint(os.Stderr, err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// stageError is a failed step of the setup.
type stageError struct {
	step string
	err  error
}

func (e *stageError) Error() string { return e.step + ": " + e.err.Error() }

// initStage is pid 1 of the sandbox.
func initStage() {
	// Not dumpable: the command, which runs as the same user, may not look into
	// this process and use its powers.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		os.Exit(1)
	}
	// What our caller's caller left open for its children is none of the command's.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		os.Exit(1)
	}
	debug.SetGCPercent(-1) // a process of milliseconds that should start no threads late
	var s spec
	pipe := os.NewFile(specFD, "spec")
	if err := gob.NewDecoder(pipe).Decode(&s); err != nil {
		os.Exit(1) // the parent died while it wrote
	}
	pipe.Close()
	var r root
	status, err := runInit(&s, &r)
	if err != nil {
		report(message{Failed: asFailure(err), Made: r.made})
		os.Exit(1)
	}
	report(message{Ended: true, Status: status})
	os.Exit(0)
}

func asFailure(err error) *failure {
	f := &failure{Step: "make the sandbox", Text: err.Error()}
	var step *stageError
	if errors.As(err, &step) {
		f.Step, f.Text = step.step, step.err.Error()
	}
	errors.As(err, &f.Errno)
	return f
}

// report sends m and descriptors to the parent, and ends everything when there
// is no parent any more.
func report(m message, fds ...int) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(m)
	if err == nil {
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		err = unix.Sendmsg(controlFD, b.Bytes(), rights, nil, unix.MSG_NOSIGNAL)
	}
	if err != nil {
		os.Exit(1)
	}
}

// defaultInternalSignals undoes what glibc's posix_spawn does to whatever make(1)
// and others start: it ignores the signals that glibc keeps to itself, 32 and
// 33. Go leaves those alone, and a command would see who started us.
func defaultInternalSignals() {
	var action [4]uint64 // a kernel's struct sigaction: SIG_DFL, no flags, an empty mask
	for sig := uintptr(32); sig <= 34; sig++ {
		// A signal that the kernel does not know stays as it is, which is the default.
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0) //nolint:gosec // the kernel's own interface
	}
}

// runInit makes the sandbox, runs the command in it, and answers its wait status
// once every other process is gone.
func runInit(s *spec, r *root) (int, error) {
	// Signals that the caller's caller ignores would stay ignored across exec;
	// caught ones do not.
	signal.Notify(make(chan os.Signal, 1))
	defaultInternalSignals()
	unix.Umask(0o022)
	if s.MapGroup {
		if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
			return 0, &stageError{"leave the host's groups", e}
		}
	}
	if err := r.make(s); err != nil {
		return 0, err
	}
	if err := setNames(); err != nil {
		return 0, err
	}
	if err := setLimits(s.Limits); err != nil {
		return 0, err
	}
	// In a thread of its own, so that pid 1 itself is never under the filter, and
	// no thread that Go starts later is: it starts none from a locked one.
	type started struct {
		pid int
		err error
	}
	c := make(chan started)
	go func() {
		runtime.LockOSThread()
		pid, err := launch(s, r)
		c <- started{pid, err}
		select {} // the listener of owner calls lives as long as a thread that has the filter
	}()
	child := <-c
	if child.err != nil || s.Probe {
		return 0, child.err
	}
	status := reap(child.pid)
	// The background processes of a command end with it.
	_ = unix.Kill(-1, unix.SIGKILL)
	reap(-1)
	return status, nil
}

// setNames gives the constant names of every sandbox.
func setNames() error {
	if err := unix.Sethostname([]byte("quorate")); err != nil {
		return &stageError{"set the host name", err}
	}
	if err := unix.Setdomainname([]byte("(none)")); err != nil { // the kernel's own default
		return &stageError{"set the domain name", err}
	}
	return nil
}

// setLimits sets constant resource limits: a build sees the same ones on every
// host. A hard limit that the host keeps below ours stays, for want of power.
func setLimits(l Limits) error {
	const infinity = unix.RLIM_INFINITY
	for _, r := range []struct {
		resource   int
		soft, hard uint64
	}{
		{unix.RLIMIT_CORE, 0, 0},
		{unix.RLIMIT_NOFILE, 1024, 4096}, // what a login gets; programs that close every descriptor stay fast
		{unix.RLIMIT_STACK, 8 << 20, infinity},
		{unix.RLIMIT_MEMLOCK, 64 << 10, 64 << 10},
		{unix.RLIMIT_SIGPENDING, 4096, 4096}, // the kernel's default follows the size of the memory
		{unix.RLIMIT_MSGQUEUE, 819200, 819200},
		{unix.RLIMIT_NICE, 0, 0},
		{unix.RLIMIT_RTPRIO, 0, 0},
		{unix.RLIMIT_FSIZE, uint64(l.Disk), uint64(l.Disk)},
		// Not for a build by root, whom the kernel exempts. The extra is for our
		// own threads, so that the watcher sees the limit passed.
		{unix.RLIMIT_NPROC, uint64(l.Processes) + spareProcesses, uint64(l.Processes) + spareProcesses},
	} {
		var old syscall.Rlimit
		if err := syscall.Getrlimit(r.resource, &old); err != nil {
			return &stageError{"read the resource limits", err}
		}
		want := syscall.Rlimit{Cur: min(r.soft, old.Max), Max: min(r.hard, old.Max)}
		if err := syscall.Setrlimit(r.resource, &want); err != nil {
			return &stageError{fmt.Sprintf("set resource limit %d", r.resource), err}
		}
	}
	return nil
}

// spareProcesses is how many processes more than the limit the kernel allows:
// the watcher must be able to see that the limit was passed.
const spareProcesses = 64

// keptCapabilities are what maintainer scripts need to give files their owners
// and to become the account that they install. Everything else is dropped.
var keptCapabilities = []uint{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_SETFCAP}

// launch gives up what the command must not have, for the calling thread only,
// and starts the command from it.
func launch(s *spec, r *root) (int, error) {
	// A view of control groups that starts at our own; best effort, since a
	// kernel may be built without.
	_ = unix.Unshare(unix.CLONE_NEWCGROUP)
	if err := surround(s.Command.Surroundings); err != nil {
		return 0, err
	}
	if err := boundCapabilities(); err != nil {
		return 0, &stageError{"drop capabilities", err}
	}
	listener, err := confine(s.Owners, s.Beyond)
	if err != nil {
		return 0, &stageError{"install the system call filter", err}
	}
	fds := []int{r.proc, r.scratch}
	if listener >= 0 {
		fds = append(fds, listener)
	}
	report(message{Ready: true, Made: r.made}, fds...)
	if listener >= 0 {
		unix.Close(listener)
	}
	if s.Probe {
		return 0, nil
	}
	c := s.Command
	if err := r.setFirstPID(s); err != nil { // last, for any new thread of ours would take the number
		return 0, err
	}
	pid, err := syscall.ForkExec(c.Args[0], c.Args, &syscall.ProcAttr{
		Dir:   c.Dir,
		Env:   c.Env,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, &stageError{fmt.Sprintf("start %q in %q", c.Args[0], c.Dir), err}
	}
	return pid, nil
}

// surround sets the surroundings that belong to a thread and that its children inherit.
func surround(s Surroundings) error {
	var flags uintptr
	if s.Uname26 {
		flags |= 0x0020000 // UNAME26
	}
	if s.NoASLR {
		flags |= 0x0040000 // ADDR_NO_RANDOMIZE
	}
	if _, _, e := unix.RawSyscall(unix.SYS_PERSONALITY, flags, 0, 0); int(e) != 0 {
		return &stageError{"set the personality", e}
	}
	if len(s.CPUs) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, cpu := range s.CPUs {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return &stageError{fmt.Sprintf("run on CPUs %v", s.CPUs), err}
	}
	return nil
}

// boundCapabilities leaves whatever the calling thread executes as id 0 with
// keptCapabilities: those of the bounding set, since nothing is inheritable. The
// thread itself keeps its own until then; it has yet to decide the first pid.
func boundCapabilities() error {
	kept := map[uint]bool{}
	for _, c := range keptCapabilities {
		kept[c] = true
	}
	for c := uint(0); c < 64; c++ {
		if kept[c] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err == unix.EINVAL {
			break // past the kernel's last capability
		} else if err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return err
	}
	d[0].Inheritable, d[1].Inheritable = 0, 0
	return unix.Capset(&h, &d[0])
}

// reap waits for children until pid has ended, and answers its wait status; with
// -1, until there are none left. Orphans come to pid 1.
func reap(pid int) int {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0
		case got == pid:
			return int(status)
		}
	}
}

// writeNumber writes n to the file name of folder dir, which must exist.
func writeNumber(dir int, name string, n int) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(strconv.Itoa(n)))
	return err
}
