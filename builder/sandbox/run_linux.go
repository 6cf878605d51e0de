//go:build amd64 || arm64

package sandbox

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Native is the sandbox of the machine itself: our own re-exec into namespaces.
// It is safe for concurrent use.
type Native struct {
	mapping Mapping
	maps    idMaps
	groups  *groups

	emulatorsIn string
	emulators   sync.Mutex // guards emulatorOf
	emulatorOf  map[string]Emulator
}

var _ Runner = (*Native)(nil)

// Mapping says which owners a command can set.
func (n *Native) Mapping() Mapping { return n.mapping }

// namespaces of a command, beside the user namespace. The view of control groups
// follows later, from inside.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// Run implements Runner.
func (n *Native) Run(ctx context.Context, c Command) error {
	if err := check(c); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Root.Work != "" {
		// Somebody killed with SIGKILL may have left overlayfs's mark that this
		// folder is in use.
		if err := emptyWork(c.Root.Work); err != nil {
			return &SetupError{Step: fmt.Sprintf("empty %q", c.Root.Work), Err: err}
		}
	}
	r := &run{native: n, spec: n.spec(c), stdout: c.Stdout, stderr: c.Stderr}
	err := r.run(ctx)
	if c.Root.Work != "" {
		if emptyErr := emptyWork(c.Root.Work); err == nil && emptyErr != nil {
			err = &SetupError{Step: fmt.Sprintf("empty %q", c.Root.Work), Err: emptyErr}
		}
	}
	if err == nil && c.RefuseLostOwners && r.owners != nil {
		err = r.owners.err()
	}
	return err
}

// maxLower is the kernel's OVL_MAX_STACK.
const maxLower = 500

// check refuses a command that makes no sense before anything is started.
func check(c Command) error {
	bad := func(format string, a ...any) error {
		return &SetupError{Step: "run the command", Err: fmt.Errorf(format, a...)}
	}
	switch {
	case len(c.Args) == 0:
		return bad("it has no arguments")
	case !filepath.IsAbs(c.Args[0]):
		return bad("%q is not an absolute path", c.Args[0])
	case c.Dir != "" && !filepath.IsAbs(c.Dir):
		return bad("working folder %q is not an absolute path", c.Dir)
	case len(c.Root.Lower) == 0:
		return bad("its root has no folders")
	case len(c.Root.Lower) > maxLower:
		return bad("its root is made of %d folders; the kernel stacks at most %d", len(c.Root.Lower), maxLower)
	case (c.Root.Upper == "") != (c.Root.Work == ""):
		return bad("upper folder %q and work folder %q must be given together", c.Root.Upper, c.Root.Work)
	}
	paths := append([]string{}, c.Root.Lower...)
	if c.Root.Upper != "" {
		paths = append(paths, c.Root.Upper, c.Root.Work)
	}
	for _, b := range c.Binds {
		paths = append(paths, b.Source, b.Target)
	}
	for _, p := range paths {
		if !filepath.IsAbs(p) {
			return bad("%q is not an absolute path", p)
		}
	}
	return nil
}

func (n *Native) spec(c Command) spec {
	s := spec{
		Command: command{Root: c.Root, Args: c.Args, Env: c.Env, Dir: c.Dir, Binds: c.Binds, Surroundings: c.Surroundings, Emulator: c.Emulator},
		Limits:  c.Limits.withDefaults(),
		Owners:  unix.SECCOMP_RET_ALLOW,
		Beyond:  unix.SECCOMP_RET_ALLOW,
	}
	if s.Command.Dir == "" {
		s.Command.Dir = "/"
	}
	if n.mapping == Single {
		s.Owners = errno(0)
		if c.RefuseLostOwners {
			s.Owners = unix.SECCOMP_RET_USER_NOTIF
		}
	} else {
		s.MapGroup = true
		if !c.RefuseLostOwners {
			s.Beyond = errno(0)
		}
	}
	return s
}

// emptyWork removes what overlayfs leaves in its work folder: folders without
// any permission. Their owner is the sandbox's id 0, which is ourselves. No
// command ever sees this folder.
func emptyWork(work string) error {
	entries, err := os.ReadDir(work)
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := filepath.Join(work, e.Name())
		if e.IsDir() {
			// What a killed copy left of another owner's cannot be opened, and need not.
			if err := os.Chmod(p, 0o700); err == nil {
				if err := emptyWork(p); err != nil {
					return err
				}
			}
		}
		if err := os.Remove(p); err != nil {
			return err
		}
	}
	return nil
}

// run is one command on its way.
type run struct {
	native         *Native
	spec           spec
	stdout, stderr io.Writer

	cmd     *exec.Cmd
	control int // our end of the control socket
	owners  *ownerLog
	group   *group
}

// outcome is what came of pid 1.
type outcome struct {
	message *message // its last message; nil when it died without one
	made    []string // the mount points that it made
	waitErr error
}

// sandboxReady is the descriptors of a sandbox that is ready.
type sandboxReady struct{ fds []int }

// run starts pid 1, watches it, and turns what came of it into an error.
func (r *run) run(ctx context.Context) error {
	// The parent-death signal is sent when the starting thread ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := r.start(); err != nil {
		return err
	}
	ready := make(chan sandboxReady, 1)
	messages := make(chan outcome, 1)
	go r.listen(ready, messages)
	done := make(chan outcome, 1)
	go func() {
		err := r.cmd.Wait()
		o := <-messages
		o.waitErr = err
		done <- o
	}()
	timer := time.NewTimer(r.spec.Limits.Time)
	defer timer.Stop()
	var w watcher
	exceeded := make(chan error, 2) // one for each look of the watcher, so that none waits
	var why error                   // of the kill
	kill := func(err error) {
		if why == nil {
			why = err
		}
		_ = r.cmd.Process.Kill()
	}
	cancelled := ctx.Done()
	for {
		select {
		case at := <-ready:
			ready = nil
			if err := w.start(r, at.fds, exceeded); err != nil {
				kill(err)
			}
		case err := <-exceeded:
			kill(err)
		case <-timer.C:
			kill(&LimitError{What: "time", Limit: r.spec.Limits.Time.String()})
		case <-cancelled:
			cancelled = nil
			kill(ctx.Err())
		case o := <-done:
			select {
			case at := <-ready: // so short that both arrived
				if err := w.start(r, at.fds, exceeded); err != nil && why == nil {
					why = err
				}
			default:
			}
			err := r.judge(o, why, w.stop())
			r.group.remove()
			removeMade(r.spec.Command.Root.Upper, o.made)
			return err
		}
	}
}

// removeMade removes mount points from upper, so that it holds only what the
// command did. Those that are in use or gone stay so: they are the command's.
// The command may have put links anywhere, so nothing is followed out of upper.
func removeMade(upper string, made []string) {
	if upper == "" || len(made) == 0 {
		return
	}
	root, err := os.OpenRoot(upper)
	if err != nil {
		return
	}
	defer root.Close()
	for i := len(made) - 1; i >= 0; i-- {
		if info, err := root.Lstat(made[i]); err == nil && (info.IsDir() || info.Mode().IsRegular() && info.Size() == 0) {
			_ = root.Remove(made[i])
		}
	}
}

// judge decides what Run answers: what we killed for, then what the command
// itself came to. last is a limit that turned out to be passed at the end.
func (r *run) judge(o outcome, why, last error) error {
	m := o.message
	var exit *exec.ExitError
	switch {
	case m != nil && m.Failed != nil:
		if why != nil {
			return why
		}
		err := error(errors.New(m.Failed.Text))
		if m.Failed.Errno != 0 {
			err = &failedCall{m.Failed.Text, m.Failed.Errno}
		}
		return &SetupError{Step: m.Failed.Step, Err: err}
	case m == nil || !m.Ended:
		switch {
		case why != nil:
			return why
		case last != nil:
			return last
		}
		return &SetupError{Step: "keep the sandbox running", Err: fmt.Errorf("its first process ended: %w", o.waitErr)}
	case o.waitErr != nil && !errors.As(o.waitErr, &exit):
		return fmt.Errorf("cannot pass on what the command wrote: %w", o.waitErr)
	}
	if last != nil { // even when the command did not mind: the next run might
		return last
	}
	err := exitError(unix.WaitStatus(m.Status), r.spec.Limits)
	if err == nil && why != nil {
		var limit *LimitError
		if errors.As(why, &limit) { // passed, and seen before the end
			return why
		}
	}
	return err
}

// failedCall is a failed step whose error number crossed a process boundary.
type failedCall struct {
	text  string
	errno syscall.Errno
}

func (e *failedCall) Error() string { return e.text }
func (e *failedCall) Unwrap() error { return e.errno }

func exitError(status unix.WaitStatus, l Limits) error {
	switch {
	case status.Signaled() && status.Signal() == unix.SIGXFSZ:
		return &LimitError{What: "disk", Limit: formatBytes(l.Disk)}
	case status.Signaled():
		return &ExitError{Code: 128 + int(status.Signal()), Signal: unix.SignalName(status.Signal())}
	case status.ExitStatus() == 128+int(unix.SIGXFSZ): // how a shell says it of its last command
		return &LimitError{What: "disk", Limit: formatBytes(l.Disk)}
	case status.ExitStatus() != 0:
		return &ExitError{Code: status.ExitStatus()}
	}
	return nil
}

// start starts pid 1 and hands it its spec.
func (r *run) start() error {
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return &SetupError{Step: "make a socket", Err: err}
	}
	theirs := os.NewFile(uintptr(sockets[1]), "control")
	defer theirs.Close()
	r.control = sockets[0]
	cmd, err := r.native.stage(partInit, namespaces)
	if err == nil {
		cmd.files = append(cmd.files, theirs)
		cmd.Stdout, cmd.Stderr = piped(r.stdout, r.stderr)
		err = cmd.start(func(pid int, w io.Writer) error {
			if !r.spec.Probe {
				r.group = r.native.groups.add(pid, r.spec.Limits)
			}
			return gob.NewEncoder(w).Encode(&r.spec)
		})
	}
	if err != nil {
		unix.Close(r.control)
		return err
	}
	r.cmd = &cmd.Cmd
	return nil
}

// piped hides that a writer is a file, so that a command never gets a terminal
// or a file of the caller as its output. Two equal writers stay equal: the two
// streams then keep their common order.
func piped(stdout, stderr io.Writer) (io.Writer, io.Writer) {
	hide := func(w io.Writer) io.Writer {
		if w == nil {
			return nil
		}
		return &onlyWriter{w}
	}
	o := hide(stdout)
	if stdout != nil && same(stdout, stderr) {
		return o, o
	}
	return o, hide(stderr)
}

type onlyWriter struct{ io.Writer }

// same says whether a and b are the same; a writer of a type that cannot
// be compared is the same as none.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }()
	return a == b
}

// listen passes on what pid 1 says until its end.
func (r *run) listen(ready chan<- sandboxReady, last chan<- outcome) {
	defer unix.Close(r.control)
	var o outcome
	for {
		// A step's error text with a path in it is the longest message.
		b, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*8))
		n, on, _, _, err := unix.Recvmsg(r.control, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			last <- o
			return
		}
		m := &message{}
		if err := gob.NewDecoder(bytes.NewReader(b[:n])).Decode(m); err != nil {
			continue
		}
		if m.Ready {
			o.made = m.Made
			ready <- sandboxReady{descriptors(oob[:on])}
			continue
		}
		o.message = m
		if m.Failed != nil {
			o.made = m.Made
		}
	}
}

func descriptors(oob []byte) []int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}
