// Package dockertest starts Docker Engines of a test's own, beside any that the
// machine has.
//
//	e := dockertest.Start(t)                  // root only; ends with the test
//	id := e.Docker(t, "ps", "--quiet")
//
// An engine has its own socket, data and containerd, and touches neither
// bridges nor packet filters. When the test ends it is stopped as its
// documentation says, and a mount or a process that it leaves fails the test.
package dockertest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Engine is one engine. Its Dir holds docker.sock, data, exec, pid and log.
type Engine struct {
	Dir    string
	Socket string // unix://DIR/docker.sock

	network *Network // nil for the machine's own
	daemon  *exec.Cmd
}

// Start starts an engine, with further flags for dockerd.
func Start(t testing.TB, flags ...string) *Engine {
	t.Helper()
	return StartIn(t, nil, flags...)
}

// StartIn starts an engine in a network namespace.
func StartIn(t testing.TB, network *Network, flags ...string) *Engine {
	t.Helper()
	// Not t.TempDir, whose name is long: a socket's path has 107 bytes at most.
	dir, err := os.MkdirTemp("", "qdocker")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("left behind: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	e := &Engine{Dir: dir, network: network, Socket: "unix://" + filepath.Join(dir, "docker.sock")}
	t.Cleanup(func() { e.nothingLeft(t) })
	t.Cleanup(func() { e.Stop(t) })
	e.Again(t, flags...)
	return e
}

// Again starts the engine once more, after Stop or Crash.
func (e *Engine) Again(t testing.TB, flags ...string) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(e.Dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// No bridge and no iptables: the machine's own network stays as it is.
	args := []string{"--host", e.Socket, "--data-root", filepath.Join(e.Dir, "data"),
		"--exec-root", filepath.Join(e.Dir, "exec"), "--pidfile", filepath.Join(e.Dir, "pid"),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--containerd-namespace", filepath.Base(e.Dir)}
	dockerd, err := exec.LookPath("dockerd")
	if err != nil {
		dockerd = "/usr/sbin/dockerd"
	}
	e.daemon = e.network.inside(dockerd, append(args, flags...)...)
	e.daemon.Stdout, e.daemon.Stderr = log, log
	e.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.daemon.Start(); err != nil {
		t.Fatalf("%v; run: make tools", err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if exec.Command("docker", "--host", e.Socket, "version").Run() == nil {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("dockerd does not answer:\n%s", text)
		}
	}
}

// Stop ends dockerd, which ends its containerd.
func (e *Engine) Stop(t testing.TB) {
	t.Helper()
	if e.daemon.Process == nil || e.daemon.ProcessState != nil {
		return
	}
	_ = e.daemon.Process.Signal(syscall.SIGTERM)
	killer := time.AfterFunc(30*time.Second, func() { _ = syscall.Kill(-e.daemon.Process.Pid, syscall.SIGKILL) })
	defer killer.Stop()
	if err := e.daemon.Wait(); err != nil {
		t.Errorf("dockerd ended with %v", err)
	}
	// After a container on the host's network, dockerd leaves its handle of that
	// network namespace mounted, by design: its next start would use it again.
	handle := filepath.Join(e.Dir, "exec", "netns", "default")
	if err := syscall.Unmount(handle, 0); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
		t.Errorf("cannot unmount %s: %v", handle, err)
	}
}

// Crash kills dockerd, and its containerd, which dies with it. Containers go on.
func (e *Engine) Crash(t testing.TB) {
	_ = e.daemon.Process.Kill()
	_ = e.daemon.Wait()
	// Where no first process buries orphans, the next engine would take it for alive.
	if err := os.Remove(filepath.Join(e.Dir, "exec", "containerd", "containerd.pid")); err != nil {
		t.Error(err)
	}
	// It mounts its data folder upon itself, and the next one does so again.
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", filepath.Join(e.Dir, "data")).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// Docker runs the docker command against the engine, and returns what it prints.
func (e *Engine) Docker(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("docker", append([]string{"--host", e.Socket}, args...)...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %q: %v\n%s", args, err, complaint.String())
	}
	return string(out)
}

// Used are the mounts of the engine's containers, and the processes in them.
func (e *Engine) Used() []string {
	var used []string
	data := filepath.Join(e.Dir, "data")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, filepath.Join(data, "overlay2")) {
			used = append(used, "mount "+strings.TrimSpace(line))
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, p := range processes {
		// The root of a container is an overlay of this engine's.
		if text, _ := os.ReadFile(p); strings.Contains(string(text), "lowerdir="+data) {
			used = append(used, "process "+p)
		}
	}
	return used
}

// nothingLeft fails for a mount under the engine's folder, or a process that names it.
func (e *Engine) nothingLeft(t testing.TB) {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, e.Dir) {
			t.Errorf("the engine left a mount: %s", line)
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		if text, _ := os.ReadFile(p); strings.Contains(string(text), e.Dir) {
			t.Errorf("the engine left a process: %q", text)
		}
	}
}
