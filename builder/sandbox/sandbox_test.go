//go:build linux && (amd64 || arm64)

package sandbox_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/sandbox/sandboxtest"
)

// The parts that this test program plays when it starts itself.
const (
	roleVariable    = "QUORATE_TEST_ROLE"
	becomeOrdinary  = "become an ordinary user" // show other account files, become testID, start again
	runUntilKilled  = "run until killed"        // run the probe's verb of verbVariable in a sandbox
	mappingVariable = "QUORATE_TEST_MAPPING"
	verbVariable    = "QUORATE_TEST_VERB"
	filesVariable   = "QUORATE_TEST_FILES" // folder with passwd, subuid, subgid
)

// testID is a user and group that Debian gives to nobody (policy 9.2.2).
const testID = 64321

func TestMain(m *testing.M) {
	sandbox.Main(sandboxtest.Tasks())
	var err error
	switch os.Getenv(roleVariable) {
	case becomeOrdinary:
		err = ordinary()
	case runUntilKilled:
		err = untilKilled()
	default:
		code := m.Run()
		sandboxtest.Cleanup()
		os.Exit(code)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// ordinary becomes an ordinary user with subordinate ids, in a mount namespace
// where the account files say so. The machine's own files stay as they are.
func ordinary() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, name := range []string{"passwd", "subuid", "subgid"} {
		if err := unix.Mount(filepath.Join(os.Getenv(filesVariable), name), "/etc/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("/etc/%s: %w", name, err)
		}
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(testID), syscall.Setuid(testID)); err != nil {
		return err
	}
	os.Unsetenv(roleVariable)
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// untilKilled runs a command that never ends.
func untilKilled() error {
	s, err := sandbox.Open(sandbox.Options{})
	if err != nil {
		return err
	}
	return s.Run(context.Background(), sandbox.Command{
		Root:   sandbox.Root{Lower: []string{os.Getenv(filesVariable)}},
		Args:   []string{"/bin/probe", os.Getenv(verbVariable), os.Getenv(filesVariable)},
		Stdout: os.Stdout,
	})
}

// TestNative runs the suite with the mapping that the environment names, else
// with the best one of the user who tests.
func TestNative(t *testing.T) {
	mapping := sandbox.Mapping(os.Getenv(mappingVariable))
	s, err := sandbox.Open(sandbox.Options{Mapping: mapping})
	if err != nil {
		t.Fatal(err)
	}
	if mapping != "" && s.Mapping() != mapping {
		t.Fatalf("mapping is %s, want %s", s.Mapping(), mapping)
	}
	if os.Geteuid() == 0 && s.Mapping() == sandbox.Single {
		t.Logf("root has only one id here")
	}
	sandboxtest.Run(t, s)
}

// TestOrdinaryUser runs the suite again as an ordinary user.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else; TestNative ran as an ordinary user")
	}
	for _, mapping := range []sandbox.Mapping{sandbox.Range, sandbox.Single} {
		t.Run(string(mapping), func(t *testing.T) {
			if _, err := exec.LookPath("newuidmap"); err != nil && mapping == sandbox.Range {
				t.Skip("the package uidmap is not installed")
			}
			out, err := asOrdinary(t, mapping).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// asOrdinary starts this program's TestNative as an ordinary user.
func asOrdinary(t *testing.T, mapping sandbox.Mapping) *exec.Cmd {
	dir, err := os.MkdirTemp("", "quorate-ordinary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(dir+"/tmp", 0o700), os.Chown(dir+"/tmp", testID, testID)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"passwd": fmt.Sprintf("root:x:0:0::/root:/bin/sh\nquorate-test:x:%d:%d::/:/bin/sh\n", testID, testID),
		"subuid": "other:100000:65536\nquorate-test:1000000:1000\nquorate-test:2000000:65536\n",
		"subgid": fmt.Sprintf("%d:3000000:65536\n", testID),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The program's own folder is closed to others.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/test", self, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(dir+"/test", "-test.run=^TestNative$", "-test.v=true")
	c.Dir = "/"
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir + "/tmp", roleVariable + "=" + becomeOrdinary, filesVariable + "=" + dir,
		mappingVariable + "=" + string(mapping), sandboxtest.ProbeVariable + "=" + sandboxtest.Probe(t)}
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return c
}

// TestKilled kills a process with running sandboxes in the way that it cannot
// tidy up after, and looks for what is left.
func TestKilled(t *testing.T) {
	for _, verb := range []string{"sleep", "daemon", "bomb", "hog"} {
		t.Run(verb, func(t *testing.T) {
			lower := sandboxtest.Lower(t)
			c := exec.Command("/proc/self/exe")
			c.Env = append(os.Environ(), roleVariable+"="+runUntilKilled, verbVariable+"="+verb, filesVariable+"="+lower)
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			if verb == "sleep" {
				if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it runs
					t.Fatal(err)
				}
				if remains(t, c.Process.Pid, lower, nil) == "" {
					t.Error("found nothing while it runs")
				}
			} else {
				time.Sleep(50 * time.Millisecond) // any moment
			}
			children := descendants(c.Process.Pid)
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait()
			left := remains(t, c.Process.Pid, lower, children)
			for i := 0; left != "" && i < 500; i++ { // the kernel needs a moment to end them all
				time.Sleep(20 * time.Millisecond)
				left = remains(t, c.Process.Pid, lower, children)
			}
			if left != "" {
				t.Errorf("left:\n%s", left)
			}
		})
	}
}

// descendants are the processes below pid.
func descendants(pid int) []int {
	var list []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range tasks {
		b, _ := os.ReadFile(name)
		for _, field := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(field); err == nil {
				list = append(append(list, child), descendants(child)...)
			}
		}
	}
	return list
}

// remains lists what there is of process pid, which ran a probe with the mark:
// processes, the given ones among them, control groups and mounts.
func remains(t *testing.T, pid int, mark string, children []int) string {
	t.Helper()
	var list []string
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range commands {
		b, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(b), mark) {
			list = append(list, fmt.Sprintf("%s: %q", name, b))
		}
	}
	for _, child := range children {
		// A number may be somebody else's by now.
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child)); err == nil &&
			(strings.HasPrefix(string(b), "quorate-sandbox") || strings.Contains(string(b), "probe")) {
			list = append(list, fmt.Sprintf("%d: %q", child, b))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, mark) {
			list = append(list, line)
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(name string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), fmt.Sprintf("quorate-%d-", pid)) {
			list = append(list, name)
		}
		return nil
	})
	return strings.Join(list, "\n")
}

func TestOpenUnavailable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to switch user namespaces off")
	}
	_, err := sandbox.Open(sandbox.Options{Mapping: "none"})
	if err == nil || err.Error() != `there is no mapping "none"` {
		t.Errorf("error is %v", err)
	}
	// A user namespace of our own, without room for another one.
	c := exec.Command("/bin/sh", "-c", `echo 0 >/proc/sys/user/max_user_namespaces && exec "$0" -test.run=^TestNative$`, "/proc/self/exe")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.Args[3] = self
	c.Env = append(os.Environ(), sandboxtest.ProbeVariable+"="+sandboxtest.Probe(t))
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{Size: 65536}},
		GidMappings: []syscall.SysProcIDMap{{Size: 65536}}, GidMappingsEnableSetgroups: true}
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no isolation here: cannot make the namespaces with the single mapping: fork/exec /proc/self/exe: no space left on device") {
		t.Errorf("%v\n%s", err, out)
	}
}

func BenchmarkRun(b *testing.B) {
	s, err := sandbox.Open(sandbox.Options{})
	if err != nil {
		b.Fatal(err)
	}
	lower := sandboxtest.Lower(b)
	b.Run("sandbox", func(b *testing.B) {
		for b.Loop() {
			if err := s.Run(context.Background(), sandbox.Command{Root: sandbox.Root{Lower: []string{lower}}, Args: []string{"/bin/probe", "exit", "0"}}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("plain", func(b *testing.B) { // what the same command costs without
		for b.Loop() {
			if err := exec.Command(lower+"/bin/probe", "exit", "0").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("task", func(b *testing.B) {
		for b.Loop() {
			if err := s.Task(context.Background(), "sandboxtest.echo", strings.NewReader("x"), io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
}
