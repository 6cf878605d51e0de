package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// nothingLeft fails if a process works in the story's folder, a mount lies
// under it, or a temporary file of ours is left there.
func nothingLeft(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: nothing-left")
	}
	work := ts.Getenv("WORK")
	var left []string
	// A killed process is gone from /proc a moment after its parent was told.
	for range 20 {
		if left = leftovers(work); len(left) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("left behind: %s", strings.Join(left, ", "))
}

func leftovers(work string) []string {
	var left []string
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, work+"/") || strings.Contains(line, work+" ") {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if p == "/proc/"+strconv.Itoa(os.Getpid()) {
			continue
		}
		env, _ := os.ReadFile(p + "/environ")
		cwd, _ := os.Readlink(p + "/cwd")
		if cmdline, _ := os.ReadFile(p + "/cmdline"); cwd == work || strings.HasPrefix(cwd, work+"/") || bytes.Contains(env, []byte("WORK="+work+"\x00")) {
			left = append(left, "process "+strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	for _, pattern := range []string{".tmp/*", ".store/scratch/*", ".store/partial/*"} {
		files, _ := filepath.Glob(filepath.Join(work, pattern))
		left = append(left, files...)
	}
	return left
}
