package docker

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/hosttest"
)

// The test binary is the fake worker of hosttest, inside containers, and what
// answers a host's small commands there.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "worker" {
		switch os.Args[2] {
		case "--check":
			fmt.Println("identity")
		case "--make-key":
			if err := makeKey(os.Args[3]); err != nil {
				fmt.Fprintln(os.Stderr, "quorate: "+err.Error())
				os.Exit(2)
			}
		}
		os.Exit(0)
	}
	hosttest.Main()
	// One test of the suite at a time: each looks for anything left in an engine that
	// all of them share. "several at once" is where workers run beside each other.
	flag.Parse()
	if err := flag.Set("test.parallel", "1"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func makeKey(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		fmt.Println("there already")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println("made")
	return f.Close()
}

// real skips a test that needs a Docker Engine unless the slow suite runs.
func real(t *testing.T) {
	t.Helper()
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("QUORATE_REAL is not set")
	}
}

// testEngine is a Docker Engine of the test's own, with workers made of this
// test binary, linked statically.
type testEngine struct {
	dir     string
	socket  string
	program string
	daemon  *exec.Cmd
}

// daemonArgs are the flags of an engine whose everything lies in dir. No bridge
// and no iptables: the machine's own network stays as it is.
func daemonArgs(dir string) []string {
	return []string{"--host", "unix://" + filepath.Join(dir, "docker.sock"), "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--containerd-namespace", "quorate-" + filepath.Base(dir)}
}

func newEngine(t *testing.T, extra ...string) *testEngine {
	t.Helper()
	// Not t.TempDir, whose name is long: a socket's path has 107 bytes at most.
	dir, err := os.MkdirTemp("", "qdocker")
	if err != nil {
		t.Fatal(err)
	}
	e := &testEngine{dir: dir, socket: "unix://" + filepath.Join(dir, "docker.sock"), program: filepath.Join(dir, "worker")}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	build := exec.Command("go", "test", "-c", "-o", e.program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	e.start(t, extra...)
	t.Cleanup(func() { e.stop(t) })
	return e
}

func (e *testEngine) start(t *testing.T, extra ...string) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e.daemon = exec.Command("dockerd", append(daemonArgs(e.dir), extra...)...)
	e.daemon.Stdout, e.daemon.Stderr = log, log
	if err := e.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if exec.Command("docker", "--host", e.socket, "version").Run() == nil {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("dockerd does not answer:\n%s", text)
		}
	}
}

// halt ends the engine.
func (e *testEngine) halt(t *testing.T) {
	if e.daemon.ProcessState != nil {
		return
	}
	_ = e.daemon.Process.Signal(os.Interrupt)
	killer := time.AfterFunc(30*time.Second, func() { _ = e.daemon.Process.Kill() })
	defer killer.Stop()
	if err := e.daemon.Wait(); err != nil {
		t.Errorf("dockerd ended with %v", err)
	}
}

// crash kills the engine, and its containerd, which dies with it.
func (e *testEngine) crash(t *testing.T) {
	_ = e.daemon.Process.Kill()
	_ = e.daemon.Wait()
	// Where no first process buries orphans, the next engine would take it for alive.
	if err := os.Remove(filepath.Join(e.dir, "exec", "containerd", "containerd.pid")); err != nil {
		t.Error(err)
	}
	// It mounts its data folder upon itself, and the next one does so again.
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", filepath.Join(e.dir, "data")).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// stop ends the engine and checks that it left no mount.
func (e *testEngine) stop(t *testing.T) {
	e.halt(t)
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, e.dir) {
			t.Errorf("the engine left a mount: %s", line)
		}
	}
}

func (e *testEngine) docker(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("docker", append([]string{"--host", e.socket}, args...)...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %q: %v\n%s", args, err, complaint.String())
	}
	return strings.TrimSpace(string(out))
}

func (e *testEngine) host() *Host {
	return &Host{Endpoint: Endpoint{Address: e.socket}, Executable: e.program}
}

// left are the containers and volumes that are there, key volumes aside, and mounts and
// processes of containers.
func (e *testEngine) left(t *testing.T) []string {
	var left []string
	for _, c := range strings.Fields(e.docker(t, "ps", "--all", "--quiet")) {
		left = append(left, "container "+c)
	}
	for _, v := range strings.Fields(e.docker(t, "volume", "ls", "--quiet")) {
		if !strings.HasPrefix(v, "quorate-key-") {
			left = append(left, "volume "+v)
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, filepath.Join(e.dir, "data", "overlay2")) {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, p := range processes {
		// The root of a container is an overlay of this engine's.
		if text, _ := os.ReadFile(p); strings.Contains(string(text), "lowerdir="+filepath.Join(e.dir, "data")) {
			left = append(left, "process "+p)
		}
	}
	return left
}

// images are the ids of all images.
func (e *testEngine) images(t *testing.T) []string {
	return strings.Fields(e.docker(t, "images", "--all", "--quiet", "--no-trunc"))
}

func TestRealHost(t *testing.T) {
	real(t)
	e := newEngine(t)
	t.Run("suite", func(t *testing.T) {
		hosttest.Run(t, func(t *testing.T) hosttest.Place {
			return hosttest.Place{Host: e.host(), Left: func() []string { return e.left(t) }}
		})
	})
	if images := e.images(t); len(images) != 1 {
		t.Errorf("images %q, want one, loaded once", images)
	}
}

func job(t *testing.T, do string) host.Job {
	return host.Job{Nonce: "n", Attempt: 1, Rebuilder: "osl", KeyFile: "k", Definition: []byte(do), Results: t.TempDir(), Timeout: time.Minute}
}
