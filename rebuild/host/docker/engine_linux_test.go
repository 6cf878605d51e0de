package docker

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/docker/dockertest"
	"quorate.dev/rebuild/host/hosttest"
)

// The test binary is the fake worker of hosttest, inside containers, and what
// answers a host's small commands there.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "worker" {
		switch os.Args[2] {
		case "--inputs":
			if err := ReceiveInputs(context.Background(), os.Args[3], os.Stdin, os.Stdout); err != nil {
				fmt.Fprintln(os.Stderr, "quorate: "+err.Error())
				os.Exit(2)
			}
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
	code := m.Run()
	if err := os.RemoveAll(workers); err != nil {
		fmt.Fprintln(os.Stderr, "left behind:", err)
		code = max(code, 1)
	}
	os.Exit(code)
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

// testEngine is a Docker Engine of the test's own, and what its workers are made
// of: this test binary, linked statically.
type testEngine struct {
	*dockertest.Engine
	program string
}

func newEngine(t *testing.T, flags ...string) *testEngine {
	t.Helper()
	return newEngineIn(t, nil, flags...)
}

func newEngineIn(t *testing.T, network *dockertest.Network, flags ...string) *testEngine {
	t.Helper()
	program, err := workerProgram()
	if err != nil {
		t.Fatal(err)
	}
	return &testEngine{program: program, Engine: dockertest.StartIn(t, network, flags...)}
}

// workers is the folder of the program that workerProgram built, if it did; TestMain removes it.
var workers string

// workerProgram is this test binary, linked statically, built once for all tests of the process.
var workerProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "quorate-worker-")
	if err != nil {
		return "", err
	}
	workers = dir
	program := filepath.Join(dir, "worker")
	build := exec.Command("go", "test", "-c", "-trimpath", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build the worker: %w\n%s", err, out)
	}
	return program, nil
})

func (e *testEngine) docker(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(e.Docker(t, args...))
}

func (e *testEngine) host() *Host {
	return &Host{Endpoint: Endpoint{Address: e.Socket}, Executable: e.program}
}

// left are the containers and volumes that are there, those of keys and inputs aside, and mounts and
// processes of containers.
func (e *testEngine) left(t *testing.T) []string {
	var left []string
	for _, c := range strings.Fields(e.docker(t, "ps", "--all", "--quiet")) {
		left = append(left, "container "+c)
	}
	for _, v := range strings.Fields(e.docker(t, "volume", "ls", "--quiet")) {
		if !strings.HasPrefix(v, "quorate-key-") && !strings.HasPrefix(v, "quorate-inputs-") {
			left = append(left, "volume "+v)
		}
	}
	return append(left, e.Used()...)
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
