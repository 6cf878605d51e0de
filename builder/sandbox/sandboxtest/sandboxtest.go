//go:build linux

// Package sandboxtest is the suite that every way of isolating passes: it proves
// what a step of a build cannot see, cannot do, always finds the same, and what
// happens to it when it misbehaves.
//
// A package with a Runner hands the suite's tasks to sandbox.Main and runs it:
//
//	func TestMain(m *testing.M) {
//		sandbox.Main(sandboxtest.Tasks())
//		os.Exit(m.Run())
//	}
//
//	func TestRunner(t *testing.T) { sandboxtest.Run(t, runner) }
//
// The roots of the suite hold one static program, probe, so that it needs no
// packages and no network. Its folders are under t.TempDir.
package sandboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"quorate.dev/builder/sandbox"
)

// ProbeVariable names an environment variable with the path of a probe that is
// built already, for test processes that cannot build.
const ProbeVariable = "QUORATE_TEST_PROBE"

// built is the folder of the probe that this process built, if it did.
var built string

var buildProbe = sync.OnceValues(func() (string, error) {
	if p := os.Getenv(ProbeVariable); p != "" {
		return p, nil
	}
	dir, err := os.MkdirTemp("", "quorate-probe-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	built = dir
	out := filepath.Join(dir, "probe")
	c := exec.Command("go", "build", "-trimpath", "-o", out, "quorate.dev/builder/sandbox/sandboxtest/probe")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build the probe: %w\n%s", err, text)
	}
	return out, nil
})

// Probe is the path of the probe program, built once per test process.
func Probe(t testing.TB) string {
	t.Helper()
	p, err := buildProbe()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Cleanup removes what Probe built; TestMain calls it at the end.
func Cleanup() {
	if built != "" {
		os.RemoveAll(built)
	}
}

// Tasks are the file tasks that the suite uses.
func Tasks() map[string]sandbox.TaskFunc {
	return map[string]sandbox.TaskFunc{"sandboxtest.remove": removeTask, "sandboxtest.owner": ownerTask, "sandboxtest.fail": failTask,
		"sandboxtest.echo": func(in io.Reader, out io.Writer) error { _, err := io.Copy(out, in); return err }}
}

func removeTask(in io.Reader, _ io.Writer) error {
	name, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	return os.RemoveAll(string(name))
}

func ownerTask(in io.Reader, out io.Writer) error {
	name, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(string(name), &st); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d:%d", st.Uid, st.Gid)
	return err
}

func failTask(in io.Reader, _ io.Writer) error {
	return errors.New("cannot do \"it\":\nfor a reason")
}

// suite is one run of the tests.
type suite struct {
	runner sandbox.Runner
	lower  string
	mark   string // the last argument of commands that are looked for afterwards
}

// Run runs the suite.
func Run(t *testing.T, r sandbox.Runner) {
	s := &suite{runner: r, lower: Lower(t)}
	s.mark = s.lower // other suites may run at the same time
	for _, test := range []struct {
		summary string
		run     func(*testing.T, *suite)
	}{
		{"sees constant facts", seesConstantFacts},
		{"is denied what it must not do", isDenied},
		{"finds no leftovers", findsNoLeftovers},
		{"leaves only its changes in upper", leavesOnlyChanges},
		{"sees binds", seesBinds},
		{"keeps owners or says so", keepsOwners},
		{"pretends owners that no mapping has", pretendsOwners},
		{"stops at the time limit", stopsAtTime},
		{"stops a memory hog", stopsHog},
		{"stops a fork bomb", stopsBomb},
		{"stops a writer to a throw-away root", stopsWriterThrowAway},
		{"stops a writer to upper", stopsWriterUpper},
		{"stops one large file", stopsLargeFile},
		{"ends when cancelled", endsWhenCancelled},
		{"ends background processes", endsBackground},
		{"passes on large outputs", passesLargeOutputs},
		{"reports how a command ended", reportsEnd},
		{"reports an output that fails", reportsOutput},
		{"refuses what it cannot run", refuses},
		{"varies its surroundings", variesSurroundings},
		{"runs file tasks", runsTasks},
		{"runs side by side", runsSideBySide},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "_"), func(t *testing.T) { test.run(t, s) })
	}
}

// Lower makes a root that holds only the probe.
func Lower(t testing.TB) string {
	t.Helper()
	lower := t.TempDir()
	for _, dir := range []string{"bin", "etc"} {
		if err := os.Mkdir(filepath.Join(lower, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(Probe(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lower, "bin/probe"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	return lower
}

// command is a run of the probe in a throw-away root.
func (s *suite) command(args ...string) sandbox.Command {
	return sandbox.Command{
		Root: sandbox.Root{Lower: []string{s.lower}},
		Args: append([]string{"/bin/probe"}, args...),
		Env:  []string{"TZ=UTC", "HOME=/nowhere"},
	}
}

// kept gives c a root whose changes stay, and answers its upper folder.
func (s *suite) kept(t *testing.T, c *sandbox.Command) string {
	dir, err := os.MkdirTemp("", "quorate-upper-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.runner.Task(context.Background(), "sandboxtest.remove", strings.NewReader(dir), nil); err != nil {
			t.Error(err)
		}
	})
	c.Root.Upper, c.Root.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{c.Root.Upper, c.Root.Work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return c.Root.Upper
}

// run runs c and answers its standard output.
func (s *suite) run(t *testing.T, c sandbox.Command) (string, error) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	if c.Stdout == nil {
		c.Stdout, c.Stderr = &out, &diagnostics
	}
	err := s.runner.Run(context.Background(), c)
	if diagnostics.Len() > 0 {
		t.Logf("%s", diagnostics.String()[:min(diagnostics.Len(), 2000)])
	}
	return strings.TrimSpace(out.String()), err
}

func (s *suite) mustRun(t *testing.T, c sandbox.Command) string {
	t.Helper()
	out, err := s.run(t, c)
	if err != nil {
		t.Fatalf("%v: %v", c.Args, err)
	}
	return out
}

func seesConstantFacts(t *testing.T, s *suite) {
	c := s.command("facts")
	c.Dir = "/etc"
	// What the caller's process has must not reach the command.
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	t.Setenv("QUORATE_TEST_LEAK", "leaked")
	leak, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	got := map[string]string{}
	if err := json.Unmarshal([]byte(s.mustRun(t, c)), &got); err != nil {
		t.Fatal(err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"host": "quorate", "domain": "(none)", "release": unix.ByteSliceToString(u.Release[:]),
		"ids": "0 0 0 0", "groups": "", "dir": "/etc", "umask": "0022",
		"env":          "TZ=UTC HOME=/nowhere",
		"capabilities": "00000000800000fb 00000000800000fb 00000000800000fb 0000000000000000 0000000000000000",
		"privileges":   "no_new_privs 1, seccomp 2",
		"pid":          "100", "processes": "1 100", "session": "true", "ignored signals": "0000000000000000",
		"zone": "+0000", "cgroups": "/", "terminal": "no such device or address",
		"top": "bin dev etc proc tmp", "dev": "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero", "tmp": "", "shm": "",
		"descriptors": "0 /dev/null, 1 pipe, 2 pipe",
		"network":     "lo; routes 0",
		"limits":      "0 0 8388608 65536 4096",
		"cpus":        got["cpus"], // the machine's
	}
	if s.runner.Mapping() == sandbox.Single {
		want["groups"] = got["groups"] // cannot be given up with one id; shown as nobody's
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// deniedAnswers is what the probe's attempts must come to.
const deniedAnswers = `read a file of the host: ENOENT
write an input: EROFS
change an input: EROFS
chmod an input: EROFS
remove an input: EROFS
remount an input: EPERM
unmount an input: EPERM
mount: EPERM
mount the new way: EPERM
clone a mount: EPERM
chroot: EPERM
pivot_root: EPERM
unshare a user namespace: EPERM
unshare a mount namespace: EPERM
unshare a network: EPERM
clone a user namespace: EPERM
clone3: ENOSYS
setns: EPERM
ptrace pid 1: EPERM
open the memory of pid 1: EACCES
open the memory of a thread of pid 1: EACCES
enter the root of pid 1: EACCES
read the memory of pid 1: EPERM
write a sysctl: EROFS
write the next pid: EROFS
write sysrq-trigger: EACCES
read the kernel's log: EPERM
make a device: EPERM
make a disk: EPERM
set the host name: EPERM
set the clock: EPERM
reboot: EPERM
load a module: EPERM
bpf: EPERM
perf: EPERM
keys: EPERM
userfaultfd: EPERM
io_uring: ENOSYS
open by handle: EPERM
a call of the future: ENOSYS
type into the terminal: EPERM
internet socket: EAFNOSUPPORT
IPv6 socket: EAFNOSUPPORT
netlink socket: EAFNOSUPPORT
packet socket: EAFNOSUPPORT
vsock socket: EAFNOSUPPORT
unix socket: allowed
raise a limit: EPERM
raise the priority: EACCES
gain by a set-user-ID program: no capabilities but 0000000000000000
signal pid 1: allowed
kill pid 1: allowed`

func isDenied(t *testing.T, s *suite) {
	input := t.TempDir()
	given := filepath.Join(input, "given")
	if err := os.WriteFile(given, []byte("as it was"), 0o666); err != nil {
		t.Fatal(err)
	}
	c := s.command("try", "/inputs/app", given)
	c.Binds = []sandbox.Bind{{Source: input, Target: "/inputs/app"}}
	if d := cmp.Diff(strings.Split(deniedAnswers, "\n"), strings.Split(s.mustRun(t, c), "\n")); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if b, err := os.ReadFile(given); err != nil || string(b) != "as it was" {
		t.Errorf("the input is now %q, %v", b, err)
	}
}

func findsNoLeftovers(t *testing.T, s *suite) {
	for range 2 {
		s.mustRun(t, s.command("leave"))
		if out := s.mustRun(t, s.command("list", "/tmp")); out != "" {
			t.Errorf("/tmp has %q", out)
		}
		if out := s.mustRun(t, s.command("list", "/dev/shm")); out != "" {
			t.Errorf("/dev/shm has %q", out)
		}
		if out := s.mustRun(t, s.command("list", "/")); out != "bin dev etc proc tmp" {
			t.Errorf("/ has %q", out)
		}
	}
}

func leavesOnlyChanges(t *testing.T, s *suite) {
	c := s.command("write", "/etc/new", "text")
	c.Binds = []sandbox.Bind{{Source: t.TempDir(), Target: "/inputs/app"}}
	upper := s.kept(t, &c)
	s.mustRun(t, c)
	if d := cmp.Diff([]string{"etc", "etc/new"}, walk(t, upper)); d != "" {
		t.Errorf("upper (-want +got)\n%s", d)
	}
	if d := cmp.Diff([]string(nil), walk(t, c.Root.Work)); d != "" {
		t.Errorf("work (-want +got)\n%s", d)
	}
	// The next command of the same root goes on from there.
	c.Args = []string{"/bin/probe", "read", "/etc/new"}
	if out := s.mustRun(t, c); out != "text" {
		t.Errorf("read %q", out)
	}
	// And a killed one does not get in the way of the one after it.
	c.Args, c.Limits.Time = []string{"/bin/probe", "sleep"}, 50*time.Millisecond
	if _, err := s.run(t, c); !isLimit(err, "time") {
		t.Errorf("error is %v", err)
	}
	c.Args, c.Limits.Time = []string{"/bin/probe", "remove", "/etc"}, 0
	s.mustRun(t, c)
	if d := cmp.Diff([]string{"etc"}, walk(t, upper)); d != "" { // the whiteout
		t.Errorf("upper (-want +got)\n%s", d)
	}
	info, err := os.Stat(upper)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("/ has mode %v, %v", info.Mode(), err)
	}
}

func walk(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if p != dir {
			names = append(names, strings.TrimPrefix(p, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return names
}

func seesBinds(t *testing.T, s *suite) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("shown"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := s.command("write", "/out/made", "by the command")
	c.Binds = []sandbox.Bind{{Source: dir, Target: "/out", Writable: true}, {Source: filepath.Join(dir, "file"), Target: "/etc/deep/er/file"}}
	s.mustRun(t, c)
	if b, err := os.ReadFile(filepath.Join(dir, "made")); err != nil || string(b) != "by the command" {
		t.Errorf("the writable bind has %q, %v", b, err)
	}
	c.Args = []string{"/bin/probe", "read", "/etc/deep/er/file"}
	if out := s.mustRun(t, c); out != "shown" {
		t.Errorf("read %q", out)
	}
	c.Args = []string{"/bin/probe", "write", "/etc/deep/er/file", "x"}
	var exit *sandbox.ExitError
	if _, err := s.run(t, c); !errors.As(err, &exit) {
		t.Errorf("writing a read-only bind: %v", err)
	}
	// A link in the root must not lead a mount point out of it.
	outside := t.TempDir()
	lower := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(lower, "link")); err != nil {
		t.Fatal(err)
	}
	c.Root.Lower = append([]string{lower}, c.Root.Lower...)
	c.Binds = []sandbox.Bind{{Source: dir, Target: "/link/here"}}
	var setup *sandbox.SetupError
	if _, err := s.run(t, c); !errors.As(err, &setup) {
		t.Errorf("a mount point through a dangling link: %v", err)
	}
	if got := walk(t, outside); got != nil {
		t.Errorf("made %q on the host", got)
	}
}

func keepsOwners(t *testing.T, s *suite) {
	c := s.command("chown", "/bin/probe", "33")
	c.RefuseLostOwners = true
	upper := s.kept(t, &c)
	_, err := s.run(t, c)
	if s.runner.Mapping() == sandbox.Single {
		var owner *sandbox.OwnerError
		if !errors.As(err, &owner) {
			t.Fatalf("error is %v", err)
		}
		want := []sandbox.LostOwner{{Call: "fchownat", Path: "/bin/probe", UID: 33, GID: 33}, {Call: "fchown", Path: "/bin/probe", UID: 34, GID: -1}}
		if d := cmp.Diff(want, owner.Lost); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
		c.RefuseLostOwners = false
		s.mustRun(t, c)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := s.runner.Task(context.Background(), "sandboxtest.owner", strings.NewReader(upper+"/bin/probe"), &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "34:33" {
		t.Errorf("owner is %s", &out)
	}
}

// pretendsOwners has a command give a file to an owner that no mapping has, as tar
// does as root with what a maintainer's machine packed.
func pretendsOwners(t *testing.T, s *suite) {
	c := s.command("chown", "/bin/probe", "1838273")
	s.mustRun(t, c)
	c.RefuseLostOwners = true
	if _, err := s.run(t, c); err == nil {
		t.Error("the loss of an owner was not refused")
	}
}

func isLimit(err error, what string) bool {
	var limit *sandbox.LimitError
	return errors.As(err, &limit) && limit.What == what
}

// stops runs c, which must be stopped at a limit within a few seconds and leave
// no process behind.
func (s *suite) stops(t *testing.T, c sandbox.Command, what, text string) {
	t.Helper()
	began := time.Now()
	c.Args = append(c.Args, s.mark)
	c.Stdout, c.Stderr = io.Discard, io.Discard
	_, err := s.run(t, c)
	if !isLimit(err, what) {
		t.Fatalf("error is %v", err)
	}
	if err.Error() != text {
		t.Errorf("error is %q, want %q", err, text)
	}
	if d := time.Since(began); d > 15*time.Second { // generous: a busy machine
		t.Errorf("took %v", d)
	}
	s.nothingRuns(t)
}

// nothingRuns looks for processes of the host that carry the mark.
func (s *suite) nothingRuns(t *testing.T) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), s.mark) {
			t.Errorf("%s: %q is still running", name, b)
		}
	}
}

func stopsAtTime(t *testing.T, s *suite) {
	c := s.command("sleep")
	c.Limits.Time = 100 * time.Millisecond
	s.stops(t, c, "time", "the command was stopped: it ran longer than 100ms")
}

func stopsHog(t *testing.T, s *suite) {
	c := s.command("hog")
	c.Limits.Memory = 64 << 20
	s.stops(t, c, "memory", "the command was stopped: it used more than 64 MiB of memory")
	// Memory that is used through files in memory counts too.
	c = s.command("fill", "/tmp")
	c.Limits.Memory = 64 << 20
	s.stops(t, c, "memory", "the command was stopped: it used more than 64 MiB of memory")
}

func stopsBomb(t *testing.T, s *suite) {
	c := s.command("bomb")
	c.Limits.Processes = 100
	s.stops(t, c, "processes", "the command was stopped: it had more than 100 processes at once")
}

func stopsWriterThrowAway(t *testing.T, s *suite) {
	c := s.command("fill", "/")
	c.Limits.Disk = 32 << 20
	s.stops(t, c, "disk", "the command was stopped: it wrote more than 32 MiB to its root")
}

func stopsWriterUpper(t *testing.T, s *suite) {
	c := s.command("fill", "/")
	c.Limits.Disk = 32 << 20
	s.kept(t, &c)
	s.stops(t, c, "disk", "the command was stopped: it wrote more than 32 MiB to its root")
}

func stopsLargeFile(t *testing.T, s *suite) {
	c := s.command("write", "/large", strings.Repeat("x", 100<<10))
	c.Limits.Disk = 64 << 10
	s.kept(t, &c)
	s.stops(t, c, "disk", "the command was stopped: it wrote more than 64 KiB to its root")
}

func endsWhenCancelled(t *testing.T, s *suite) {
	for _, verb := range []string{"sleep", "bomb"} {
		ctx, cancel := context.WithCancel(context.Background())
		c := s.command(verb, s.mark)
		c.Stdout = writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
		if verb == "bomb" {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
		err := s.runner.Run(ctx, c)
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error is %v", verb, err)
		}
		s.nothingRuns(t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.runner.Run(ctx, s.command("sleep")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if err := s.runner.Run(ctx, s.command("sleep")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error of a context that is over is %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func endsBackground(t *testing.T, s *suite) {
	began := time.Now()
	s.mustRun(t, s.command("daemon", s.mark))
	s.nothingRuns(t)
	if d := time.Since(began); d > time.Minute {
		t.Errorf("waited %v", d)
	}
}

func passesLargeOutputs(t *testing.T, s *suite) {
	var out, diagnostics counter
	c := s.command("spew", "16")
	c.Stdout, c.Stderr = &out, &diagnostics
	s.mustRun(t, c)
	if out != 16<<20 || diagnostics != 16<<20 {
		t.Errorf("got %d and %d bytes", out, diagnostics)
	}
	var both counter // not safe for two writers at once, so it also shows that there is only one
	c.Stdout, c.Stderr = &both, &both
	s.mustRun(t, c)
	if both != 32<<20 {
		t.Errorf("got %d bytes", both)
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

func reportsEnd(t *testing.T, s *suite) {
	for _, test := range []struct {
		args []string
		want *sandbox.ExitError
		text string
	}{
		{[]string{"exit", "3"}, &sandbox.ExitError{Code: 3}, "the command exited with status 3"},
		{[]string{"exit", "255"}, &sandbox.ExitError{Code: 255}, "the command exited with status 255"},
		{[]string{"signal", "9"}, &sandbox.ExitError{Code: 137, Signal: "SIGKILL"}, "the command was killed by SIGKILL"},
		{[]string{"signal", "15"}, &sandbox.ExitError{Code: 143, Signal: "SIGTERM"}, "the command was killed by SIGTERM"},
	} {
		_, err := s.run(t, s.command(test.args...))
		var got *sandbox.ExitError
		if !errors.As(err, &got) || *got != *test.want || err.Error() != test.text {
			t.Errorf("%v: error is %v", test.args, err)
		}
	}
}

func reportsOutput(t *testing.T, s *suite) {
	full := errors.New("disk full")
	c := s.command("spew", "4")
	c.Stdout = writerFunc(func(p []byte) (int, error) { return 0, full })
	if err := s.runner.Run(context.Background(), c); !errors.Is(err, full) {
		t.Errorf("error is %v", err)
	}
}

func refuses(t *testing.T, s *suite) {
	good := s.command("exit", "0")
	for _, test := range []struct {
		summary string
		change  func(*sandbox.Command)
		want    string
	}{
		{"no such program", func(c *sandbox.Command) { c.Args = []string{"/bin/none"} }, `cannot start "/bin/none" in "/": no such file or directory`},
		{"no such folder", func(c *sandbox.Command) { c.Dir = "/none" }, `cannot start "/bin/probe" in "/none": no such file or directory`},
		{"not a program", func(c *sandbox.Command) { c.Args = []string{"/etc"} }, `cannot start "/etc" in "/": permission denied`},
		{"no such input", func(c *sandbox.Command) { c.Binds = []sandbox.Bind{{Source: "/none", Target: "/x"}} }, `cannot open "/none": no such file or directory`},
		{"file over folder", func(c *sandbox.Command) { c.Binds = []sandbox.Bind{{Source: "/dev/null", Target: "/etc"}} }, `cannot show "/dev/null" at "/etc": a file cannot cover a folder`},
		{"no such root", func(c *sandbox.Command) { c.Root.Lower = []string{"/none"} }, `cannot open "/none": no such file or directory`},
		{"a name that is not UTF-8", func(c *sandbox.Command) { c.Args = []string{"/bin/\xff"} }, `cannot start "/bin/\xff" in "/": no such file or directory`},
		{"relative program", func(c *sandbox.Command) { c.Args = []string{"probe"} }, `cannot run the command: "probe" is not an absolute path`},
		{"relative input", func(c *sandbox.Command) { c.Binds = []sandbox.Bind{{Source: "a", Target: "/x"}} }, `cannot run the command: "a" is not an absolute path`},
		{"nothing", func(c *sandbox.Command) { c.Args = nil }, "cannot run the command: it has no arguments"},
		{"no root", func(c *sandbox.Command) { c.Root.Lower = nil }, "cannot run the command: its root has no folders"},
		{"too many folders", func(c *sandbox.Command) { c.Root.Lower = make([]string, 501) }, "cannot run the command: its root is made of 501 folders; the kernel stacks at most 500"},
		{"no work", func(c *sandbox.Command) { c.Root.Upper = "/x" }, `cannot run the command: upper folder "/x" and work folder "" must be given together`},
	} {
		c := good
		test.change(&c)
		_, err := s.run(t, c)
		var setup *sandbox.SetupError
		if !errors.As(err, &setup) || err.Error() != test.want {
			t.Errorf("%s: error is %v, want %s", test.summary, err, test.want)
		}
	}
}

func variesSurroundings(t *testing.T, s *suite) {
	facts := func(change func(*sandbox.Surroundings)) map[string]string {
		c := s.command("facts")
		change(&c.Surroundings)
		got := map[string]string{}
		if err := json.Unmarshal([]byte(s.mustRun(t, c)), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := facts(func(v *sandbox.Surroundings) { v.CPUs = []int{0} })["cpus"]; got != "0" {
		t.Errorf("CPUs are %s", got)
	}
	if got := facts(func(v *sandbox.Surroundings) { v.FirstPID = 3210 })["pid"]; got != "3210" {
		t.Errorf("first pid is %s", got)
	}
	if got := facts(func(v *sandbox.Surroundings) { v.Uname26 = true })["release"]; !strings.HasPrefix(got, "2.6.") {
		t.Errorf("kernel release is %s", got)
	}
	addresses := map[string]bool{}
	for range 5 {
		c := s.command("stack")
		c.Surroundings.NoASLR = true
		addresses[s.mustRun(t, c)] = true
	}
	if len(addresses) != 1 || addresses[""] {
		t.Errorf("without ASLR the stack is at %v", addresses)
	}
}

func runsTasks(t *testing.T, s *suite) {
	ctx := context.Background()
	text := strings.Repeat("some text\n", 50000)
	var out strings.Builder
	if err := s.runner.Task(ctx, "sandboxtest.echo", strings.NewReader(text), &out); err != nil || out.String() != text {
		t.Errorf("echo answered %d bytes, %v", out.Len(), err)
	}
	if err := s.runner.Task(ctx, "sandboxtest.fail", nil, nil); err == nil || err.Error() != "cannot do \"it\":\nfor a reason" {
		t.Errorf("error is %v", err)
	}
	if err := s.runner.Task(ctx, "none", nil, nil); err == nil || err.Error() != `no file task is called "none"` {
		t.Errorf("error is %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.runner.Task(cancelled, "sandboxtest.echo", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	during, cancel := context.WithCancel(ctx)
	endless := readerFunc(func(p []byte) (int, error) { cancel(); time.Sleep(time.Millisecond); return len(p), nil })
	if err := s.runner.Task(during, "sandboxtest.echo", endless, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func runsSideBySide(t *testing.T, s *suite) {
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			var exit *sandbox.ExitError
			err := s.runner.Run(context.Background(), s.command("exit", fmt.Sprint(i+1)))
			if !errors.As(err, &exit) || exit.Code != i+1 {
				t.Errorf("command %d: %v", i+1, err)
			}
		})
	}
	wait.Wait()
}
