package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// diffMost is the memory that a comparison may take, whatever is compared: 150 MB, in KiB.
const diffMost = 150_000_000 / 1024

// wideSides are pairs of sides that differ in very many places, by name; each writes its side, false being A.
var wideSides = map[string]func(w io.Writer, second bool) error{
	"members.tar": func(w io.Writer, second bool) error { // 8,000 files with two bytes and a time each
		t := tar.NewWriter(w)
		for i := range 8000 {
			body := make([]byte, 1200)
			rand.New(rand.NewSource(int64(i))).Read(body)
			at := time.Unix(1700000000, 0)
			if second {
				body[i%1200], body[(i*7+13)%1200] = 'x', 'y'
				at = at.Add(time.Duration(i) * time.Second)
			}
			h := &tar.Header{Name: fmt.Sprintf("usr/lib/some/module/number/%d/file%d.bin", i/100, i), Mode: 0o644, Size: int64(len(body)), ModTime: at}
			if err := t.WriteHeader(h); err != nil {
				return err
			}
			if _, err := t.Write(body); err != nil {
				return err
			}
		}
		return t.Close()
	},
	"members.jar": func(w io.Writer, second bool) error { // 8,000 classes, each with a date in header and contents
		z := zip.NewWriter(w)
		at := time.Date(2026, 1, 1, 3, 4, 6, 0, time.UTC)
		if second {
			at = at.AddDate(0, 0, 1)
		}
		for i := range 8000 {
			m, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("com/example/deep/package/name/number%d/Class%d.txt", i/100, i), Modified: at, Method: zip.Deflate})
			if err != nil {
				return err
			}
			fmt.Fprintf(m, "class %d built on %s\n", i, at.Format(time.DateOnly))
			for j := range 60 {
				fmt.Fprintf(m, "line %d\n", i*j)
			}
		}
		return z.Close()
	},
	"entries.tar": func(w io.Writer, second bool) error { // 120,000 files with other times
		t := tar.NewWriter(w)
		at := time.Unix(1700000000, 0)
		if second {
			at = at.Add(time.Second)
		}
		for i := range 120_000 {
			if err := t.WriteHeader(&tar.Header{Name: fmt.Sprintf("usr/share/folder/of/files/%d/file-number-%d.txt", i/1000, i), Mode: 0o644, Size: 20, ModTime: at}); err != nil {
				return err
			}
			if _, err := io.WriteString(t, "twenty bytes of text"); err != nil {
				return err
			}
		}
		return t.Close()
	},
	"document.json": func(w io.Writer, second bool) error { // 7 MB of lock file, every third version another
		packages := map[string]any{}
		for i := range 26_000 {
			version := fmt.Sprintf("1.%d.3", i)
			if second && i%3 == 0 {
				version += "-x"
			}
			packages[fmt.Sprintf("node_modules/@scope/some-package-name-%d", i)] = map[string]any{
				"version": version, "resolved": fmt.Sprintf("https://registry.example/pkg-%d.tgz", i),
				"dependencies": map[string]string{"dep-0": "^0.0.1", "dep-1": "^1.0.1", "dep-2": "^2.0.1", "dep-3": "^3.0.1"},
			}
		}
		b, err := json.MarshalIndent(map[string]any{"packages": packages}, "", " ")
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	},
}

// wideCost compares a pair and returns what the command took.
func wideCost(tb testing.TB, dir, name string, flags ...string) cost {
	tb.Helper()
	sides := []string{filepath.Join(dir, "a-"+name), filepath.Join(dir, "b-"+name)}
	for i, side := range sides {
		if _, err := os.Stat(side); err == nil {
			continue
		}
		f, err := os.Create(side)
		if err == nil {
			err = errors.Join(wideSides[name](f, i == 1), f.Close())
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	cmd := exec.Command(released(tb), append(append([]string{"diff"}, sides...), flags...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	peak := make(chan int64)
	go func() { peak <- mostMemory(cmd.Process.Pid) }()
	err := cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitDifferent {
		tb.Fatalf("exit code %d (%v), expected %d\n%s", code, err, exitDifferent, &said)
	}
	c := cost{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), wall: time.Since(start), peak: <-peak}
	if c.peak == 0 {
		tb.Fatal("nothing was seen of the process")
	}
	return c
}

// mostMemory watches a process until it has ended and returns the most memory, in KiB,
// that it had. What wait4(2) says is no less than this test's own memory: a child
// shares it until it runs the other program, and the kernel counts that.
func mostMemory(pid int) (peak int64) {
	self, _ := os.Readlink("/proc/self/exe")
	for {
		// Gone, a zombie, or not yet the other program.
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil {
			return peak
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return peak
		}
		if _, after, ok := bytes.Cut(status, []byte("VmHWM:")); ok && program != self {
			var now int64
			fmt.Sscanf(string(after), "%d", &now)
			peak = max(peak, now)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestRealDiffMemory holds comparisons to their memory where it was broken before.
func TestRealDiffMemory(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("QUORATE_REAL is not set")
	}
	t.Parallel()
	dir := t.TempDir()
	for name := range wideSides {
		for _, flags := range [][]string{nil, {"--findings", "--format", "json"}} {
			if c := wideCost(t, dir, name, flags...); c.peak > diffMost {
				t.Errorf("%s %v took %d KiB, expected at most %d", name, flags, c.peak, diffMost)
			}
		}
	}
}

// BenchmarkRealDiff: comparisons that differ in very many places (budget: 150 MB).
func BenchmarkRealDiff(b *testing.B) {
	w := newBench(b)
	for b.Loop() {
		for name := range wideSides {
			report(b, name, wideCost(b, w.dir, name), cost{})
		}
	}
}
