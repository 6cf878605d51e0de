package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/lockfile"
)

// The suite "real" builds the examples from Debian's own archive and holds
// them against programs that we did not write. It needs root (users of its
// own, chroot, a Docker Engine of its own), the network for what the store
// lacks, and the tools of `make tools`:
//
//	QUORATE_REAL=1 go test ./cmd/quorate -run TestReal -count=1 -timeout 20m -v
//
// Packages are kept in $QUORATE_TEST_STORE, else in quorate-test/store in the
// user's cache folder; everything else is temporary.

// TestRealSuite shares one binary, one store and one build of each example
// among its parts, in the order in which a reader would ask.
func TestRealSuite(t *testing.T) {
	w := theWorld(t)
	t.Run("skopeo", w.testSkopeo)
	t.Run("crane", w.testCrane)
	t.Run("umoci", w.testUmoci)
	t.Run("docker", w.testDocker)
	t.Run("mmdebstrap", w.testMmdebstrap)
	t.Run("base", w.testBase)
	t.Run("surroundings", w.testSurroundings)
	t.Run("flaky", w.testFlaky)
	t.Run("distroless", w.testDistroless)
	t.Run("sets", w.testSets)
	t.Run("sbom", w.testSBOM)
}

// TestRealExamples rebuilds whole projects and starts what came of them.
func TestRealExamples(t *testing.T) {
	w := theWorld(t)
	w.testExamples(t)
	t.Run("init", w.testInit)
}

// real guards the suite.
func real(t *testing.T) {
	t.Helper()
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("the slow suite, with the real archive and other people's tools: set QUORATE_REAL=1")
	}
	if os.Geteuid() != 0 {
		t.Skip("the suite makes users, chroots and a Docker Engine of its own: run it as root")
	}
}

// world is what the suite's parts share.
type world struct {
	quorate string // the program as it is released
	dir     string // all may enter it
	store   string

	building sync.Mutex // guards examples
	examples map[string]*example
}

// example is one built example: the project's copy and the image in every form.
type example struct {
	project string
	lock    *lockfile.Lock
	digest  string
	layout  string // an OCI layout
	archive string // the same as a tar
	docker  string // for `docker load`
}

// theWorld is the same for all tests of the process, so that each example is built
// once. They run side by side.
func theWorld(t *testing.T) *world {
	t.Helper()
	real(t)
	t.Parallel()
	w, err := newWorld()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var newWorld = sync.OnceValues(func() (*world, error) {
	dir, err := shared()
	if err != nil {
		return nil, err
	}
	quorate, err := builtQuorate()
	if err != nil {
		return nil, err
	}
	w := &world{quorate: quorate, dir: filepath.Join(dir, "world"), store: os.Getenv("QUORATE_TEST_STORE"), examples: map[string]*example{}}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return nil, err
	}
	if w.store == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		w.store = filepath.Join(cache, "quorate-test", "store")
	}
	// What an earlier version of quorate derived must not stand in for this one's.
	for _, derived := range []string{"derived", "notes"} {
		if err := os.RemoveAll(filepath.Join(w.store, derived)); err != nil {
			return nil, err
		}
	}
	return w, nil
})

// enterable is a temporary folder that other users can reach, which
// t.TempDir is not under every umask.
func enterable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "quorate-real-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func removeAll(t *testing.T, dir string) {
	if err := os.RemoveAll(dir); err != nil {
		t.Errorf("left behind: %v", err)
	}
}

// tool finds a program that the suite is held against.
func tool(t *testing.T, name string) string {
	t.Helper()
	path := os.Getenv("PATH") + ":/usr/sbin:/sbin:" + repositoryDir(t, "bin")
	for _, dir := range filepath.SplitList(path) {
		if p := filepath.Join(dir, name); exec.Command("test", "-x", p).Run() == nil {
			return p
		}
	}
	t.Fatalf("there is no %s here; run: make tools", name)
	return ""
}

func repositoryDir(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// command is a program with what it printed and how it ended.
type command struct {
	stdout, stderr string
	code           int
}

// run runs a program; toolTime bounds it.
func run(t *testing.T, cmd *exec.Cmd) command {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run %q: %v", cmd.Args, err)
	}
	return command{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// toolTime is far above what any tool of the suite takes (two workers who
// compile Quorate: 3 min on two idle cores).
const toolTime = 15 * time.Minute

// must runs a program that has to succeed and returns its stdout.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), toolTime)
	defer cancel()
	c := run(t, exec.CommandContext(ctx, name, args...))
	if c.code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s%s", name, strings.Join(args, " "), c.code, c.stdout, c.stderr)
	}
	return c.stdout
}

// runQuorate runs the program as this user, with the suite's store.
func (w *world) runQuorate(t *testing.T, args ...string) command {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), toolTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.quorate, args...)
	cmd.Env = append(os.Environ(), "QUORATE_STORE="+w.store)
	return run(t, cmd)
}

var digestLine = regexp.MustCompile(`(?m)^sha256:[0-9a-f]{64}$`)

// build builds a project and returns the digest on the last line of stdout.
func (w *world) build(t *testing.T, args ...string) string {
	t.Helper()
	c := w.runQuorate(t, append([]string{"build"}, args...)...)
	if c.code != 0 {
		t.Fatalf("quorate build %s: exit code %d\n%s", strings.Join(args, " "), c.code, c.stderr)
	}
	return lastDigest(t, c)
}

func lastDigest(t *testing.T, c command) string {
	t.Helper()
	all := digestLine.FindAllString(c.stdout, -1)
	if len(all) == 0 || !strings.HasSuffix(c.stdout, all[len(all)-1]+"\n") {
		t.Fatalf("the last line on stdout is no digest: %q", c.stdout)
	}
	return all[len(all)-1]
}

// example builds an example once and keeps it in every form.
func (w *world) example(t *testing.T, name string) *example {
	t.Helper()
	w.building.Lock()
	defer w.building.Unlock()
	if e := w.examples[name]; e != nil {
		return e
	}
	e := &example{project: filepath.Join(w.dir, "examples", name)}
	if err := os.CopyFS(e.project, os.DirFS(repositoryDir(t, filepath.Join("examples", name)))); err != nil {
		t.Fatal(err)
	}
	w.lockedForUse(t, e.project)
	w.finish(t, name, e)
	w.examples[name] = e
	return e
}

// finish builds a locked project in every form.
func (w *world) finish(t *testing.T, name string, e *example) {
	t.Helper()
	out := filepath.Join(w.dir, "out", name)
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	e.layout, e.archive, e.docker = filepath.Join(out, "oci"), filepath.Join(out, "oci.tar"), filepath.Join(out, "docker.tar")
	e.digest = w.build(t, e.project, "--output", "oci="+e.layout, "--output", "oci-archive="+e.archive, "--output", "docker-archive="+e.docker)
	e.lock = readLock(t, e.project)
}

func readLock(t *testing.T, project string) *lockfile.Lock {
	t.Helper()
	name := filepath.Join(project, lockfile.FileName)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := lockfile.Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

// lockedForUse leaves the project with a lock whose bytes are in the store:
// the committed one while its bytes can still be had, else one made afresh.
func (w *world) lockedForUse(t *testing.T, project string) {
	t.Helper()
	name := filepath.Join(project, lockfile.FileName)
	if _, err := os.Stat(name); err == nil {
		c := w.runQuorate(t, "build", project)
		if c.code == 0 {
			return
		}
		if !strings.Contains(c.stderr, "no source gave its bytes") {
			t.Fatalf("quorate build %s: exit code %d\n%s", project, c.code, c.stderr)
		}
		t.Logf("LOCKED AFRESH: the bytes of the committed lock of %s cannot be had any more:\n%s", project, c.stderr)
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	} else {
		t.Logf("LOCKED AFRESH: %s has no lock", project)
	}
	w.lock(t, project)
}

func (w *world) lock(t *testing.T, project string) {
	t.Helper()
	if c := w.runQuorate(t, "lock", project); c.code != 0 {
		t.Fatalf("quorate lock %s: exit code %d\n%s", project, c.code, c.stderr)
	}
}

// define makes a project of a definition's text.
func (w *world) define(t *testing.T, name, text string) *example {
	t.Helper()
	e := &example{project: filepath.Join(w.dir, "defined", name)}
	if err := os.MkdirAll(e.project, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(e.project, "quorate.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	w.lock(t, e.project)
	return e
}

// imagePackages are the names of the packages that the image ships.
func (e *example) imagePackages() []string {
	var names []string
	for _, p := range e.lock.Platforms[0].Packages {
		if _, in := p.InSet("image"); in {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names
}

// decode reads a program's JSON answer.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}
