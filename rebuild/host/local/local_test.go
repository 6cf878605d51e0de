package local

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/hosttest"
)

func TestMain(m *testing.M) {
	hosttest.Main()
	os.Exit(m.Run())
}

func left(t *testing.T, root string) []string {
	list, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, d := range list {
		if d.Name() != "lock" || len(list) == 1 {
			names = append(names, d.Name())
		}
	}
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		// TMPDIR is the work folder, which names this test's own scratch folder.
		if env, err := os.ReadFile(f); err == nil && strings.Contains(string(env), "TMPDIR="+root) {
			names = append(names, f)
		}
	}
	return names
}

func TestHost(t *testing.T) {
	hosttest.Run(t, func(t *testing.T) hosttest.Place {
		h := &Host{Scratch: t.TempDir(), Grace: 200 * time.Millisecond}
		return hosttest.Place{Host: h, Left: func() []string { return left(t, h.Scratch) }}
	})
}

func TestOutputHoldsNoLinks(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "output"), filepath.Join(t.TempDir(), "image")
	if err := os.MkdirAll(filepath.Join(from, "blobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "blobs", "x"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := copyOutput(from, to); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "blobs", "x")); string(b) != "x" {
		t.Errorf("copy is %q, %v", b, err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(from, "link")); err != nil {
		t.Fatal(err)
	}
	err := copyOutput(from, filepath.Join(t.TempDir(), "image"))
	if want := `"` + from + `/link" is neither a file nor a folder`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := os.Symlink(from, from+"-link"); err != nil {
		t.Fatal(err)
	}
	if err := moveOutput(from+"-link", to+"2"); err == nil {
		t.Error("an output that is a link was moved")
	}
}

// TestReap starts a worker beside the folders of a dead run and of a live one.
func TestReap(t *testing.T) {
	h := &Host{Scratch: t.TempDir()}
	live, err := makeWork(h.Scratch)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := makeWork(h.Scratch)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dead.dir(), "junk"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dead.alive.Close() // as the kernel does for a dead process
	halfMade := filepath.Join(h.Scratch, workPrefix+"half")
	if err := os.Mkdir(halfMade, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Start(t.Context(), job(t, "ok"), nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{filepath.Base(live.path)}, left(t, h.Scratch)); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
}

func job(t *testing.T, do string) host.Job {
	return host.Job{Nonce: "n", Attempt: 1, Rebuilder: "osl", KeyFile: "k", Definition: []byte(do), Results: t.TempDir(), Timeout: time.Minute}
}

// TestOrchestratorKilled kills the process that started a worker: the worker
// must die with it, and the next Start remove its folder.
func TestOrchestratorKilled(t *testing.T) {
	scratch := t.TempDir()
	if os.Getenv("LOCAL_TEST_ORCHESTRATOR") != "" {
		h := &Host{Scratch: os.Getenv("LOCAL_TEST_ORCHESTRATOR")}
		j := job(t, "hang")
		h.Start(t.Context(), j, func(e host.Event) { os.WriteFile(filepath.Join(h.Scratch, "begun"), nil, 0o644) })
		return
	}
	c := exec.Command(os.Args[0], "-test.run=^TestOrchestratorKilled$")
	c.Env = append(os.Environ(), "LOCAL_TEST_ORCHESTRATOR="+scratch)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	begun := filepath.Join(scratch, "begun")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(begun); err == nil {
			break
		}
	}
	if err := os.Remove(begun); err != nil {
		t.Fatal(err)
	}
	c.Process.Kill()
	c.Wait()
	got := left(t, scratch)
	for range 100 { // the kernel's signal to the worker takes a moment
		if len(got) == 1 {
			break
		}
		time.Sleep(20 * time.Millisecond)
		got = left(t, scratch)
	}
	if len(got) != 1 || strings.HasPrefix(got[0], "/proc") {
		t.Errorf("after the kill: %q, want only the folder", got)
	}
	if _, err := (&Host{Scratch: scratch}).Start(t.Context(), job(t, "ok"), nil); err != nil {
		t.Fatal(err)
	}
	if got := left(t, scratch); len(got) != 0 {
		t.Errorf("after the next run: %q", got)
	}
}

func TestRemoveFails(t *testing.T) {
	h := &Host{Scratch: t.TempDir(), Remove: func(string) error { return errors.New("no") }}
	var warnings []string
	_, err := h.Start(t.Context(), job(t, "ok"), func(e host.Event) {
		if e.Kind == host.KindWarning {
			warnings = append(warnings, e.Message)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"cannot remove work folder: no"}, warnings); d != "" {
		t.Errorf("warnings (-want +got):\n%s", d)
	}
}

func TestNoSuchProgram(t *testing.T) {
	h := &Host{Scratch: t.TempDir(), Executable: "/nowhere/quorate"}
	_, err := h.Start(t.Context(), job(t, "ok"), nil)
	if want := "cannot start worker: fork/exec /nowhere/quorate: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if got := left(t, h.Scratch); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestMemoryFileSystem(t *testing.T) {
	h := &Host{Scratch: "/disk", Memory: t.TempDir()} // t.TempDir is not tmpfs here, or too small
	if root, ok := h.root(""); ok || root != "/disk" {
		t.Errorf("root without a wish is %q, %v", root, ok)
	}
	h.Memory = "/proc"
	if root, ok := h.root("tmpfs"); ok || root != "/disk" {
		t.Errorf("root on /proc is %q, %v", root, ok)
	}

	// The real one, or the disk when this machine has too little memory.
	h = &Host{Scratch: t.TempDir()}
	root, onMemory := h.root("tmpfs")
	j := job(t, "ok")
	j.Surroundings.Filesystem = "tmpfs"
	if _, err := h.Start(t.Context(), j, nil); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(j.Results, "log"))
	if err != nil {
		t.Fatal(err)
	}
	work := strings.Split(string(log), "\n")[1]
	if !strings.HasPrefix(work, root+"/"+workPrefix) || strings.HasPrefix(work, "/dev/shm/") != onMemory {
		t.Errorf("work folder is %q, want it in %q", work, root)
	}
	if _, err := os.Stat(work); err == nil {
		t.Errorf("%q is still there", work)
	}
	if _, err := os.Stat(filepath.Join(j.Results, "image", "index.json")); err != nil {
		t.Errorf("output of a worker on another file system: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	j := host.Job{WorkDir: "/w", Surroundings: host.Surroundings{Environment: map[string]string{"TZ": "Z"}}}
	got := environment([]string{"PATH=/bin", "TZ=local", "LANG=de", "QUORATE_STORE=/s", "QUORATE_PASSPHRASE=secret", "QUORATE_WORKER=old", "AWS_SECRET=x"}, j)
	if n := len(got); n != 5 || !strings.HasPrefix(got[3], "QUORATE_WORKER=") || got[3] == "QUORATE_WORKER=old" {
		t.Fatalf("got %q", got)
	}
	got[3] = ""
	if d := cmp.Diff([]string{"PATH=/bin", "QUORATE_STORE=/s", "TMPDIR=/w", "", "TZ=Z"}, got); d != "" {
		t.Errorf("environment (-want +got):\n%s", d)
	}
}

func TestVary(t *testing.T) {
	four := []int{0, 1, 2, 3}
	if s := vary(0, four); len(s.Map()) != 0 || s.String() != "nothing varied" {
		t.Errorf("the first rebuilder varies %v", s)
	}
	want := map[string]string{"cpus": "2,3", "directory-order": "reverse", "kernel-release": "2.6", "address-space": "fixed", "first-pid": "1977",
		"filesystem": "tmpfs", "environment-tz": "America/St_Johns", "environment-lc-all": "fr_CH.UTF-8"}
	if d := cmp.Diff(want, vary(1, four).Map()); d != "" {
		t.Errorf("the second rebuilder (-want +got):\n%s", d)
	}
	seen := map[string]int{}
	for i := range 30 {
		s := vary(i, four).String()
		if first, ok := seen[s]; ok {
			t.Errorf("rebuilders %d and %d have equal surroundings: %s", first, i, s)
		}
		seen[s] = i
		if s != vary(i, four).String() {
			t.Errorf("rebuilder %d is not always the same", i)
		}
		if s := vary(i, []int{5}); len(s.CPUs) != 0 {
			t.Errorf("one CPU was divided: %v", s)
		}
	}
}

func TestJobRoundTrip(t *testing.T) {
	j := job(t, "ok")
	j.WorkDir, j.Results, j.Surroundings = "/w", "", vary(1, []int{0, 1})
	raw, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	got, err := host.ReadJob(bufio.NewReader(strings.NewReader(string(raw))))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(j, got); d != "" {
		t.Errorf("job (-want +got):\n%s", d)
	}
}
