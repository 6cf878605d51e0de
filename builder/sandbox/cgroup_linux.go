//go:build amd64 || arm64

package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// groups makes a control group for each command, where we are root and may. The
// kernel then counts memory exactly and never lets it pass the limit. Everywhere
// else the watcher alone keeps the limits.
//
// A group's folder outlives a process that is killed with SIGKILL. So a small
// process of ours, the sweeper, waits for our end and removes them; and should
// that have been killed too, the next Open does.
type groups struct {
	memory string // folder that groups are made in, of the memory controller
	pids   string // of the pids controller
	v2     bool   // both are the same folder of the unified hierarchy

	sweeper sync.Once
	hold    *os.File // the sweeper's end of this pipe sees ours close
}

var groupNumber atomic.Int64

// groupPrefix starts the name of every group; our pid and a number follow.
const groupPrefix = "quorate-"

// findGroups finds where this process may make groups; nil when nowhere.
func findGroups() *groups {
	if os.Geteuid() != 0 {
		return nil
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	at := controllerFolders(string(own), string(mounts))
	g := &groups{memory: at["memory"], pids: at["pids"]}
	if g.memory == "" && g.pids == "" {
		g.memory, g.pids, g.v2 = delegated(at[""]), delegated(at[""]), true
	}
	if g.memory == "" || g.pids == "" {
		return nil
	}
	for _, dir := range []string{g.memory, g.pids} {
		if unix.Access(dir, unix.W_OK) != nil {
			return nil
		}
		sweep(dir, 0)
	}
	return g
}

// controllerFolders finds the folder of our own group for each controller of
// cgroup v1, and under "" for v2, from the texts of /proc/self/cgroup and
// /proc/self/mountinfo.
func controllerFolders(own, mounts string) map[string]string {
	paths := map[string]string{}
	for line := range strings.Lines(own) {
		// "4:memory:/path", "0::/path"
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(f) == 3 {
			for _, controller := range strings.Split(f[1], ",") {
				paths[controller] = f[2]
			}
		}
	}
	at := map[string]string{}
	for line := range strings.Lines(mounts) {
		// "36 35 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
		before, after, ok := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(kind) < 3 {
			continue
		}
		controllers := []string{""}
		switch kind[0] {
		case "cgroup":
			controllers = strings.Split(kind[2], ",")
		case "cgroup2":
		default:
			continue
		}
		for _, c := range controllers {
			if p, ok := paths[c]; ok {
				// A container may show only a part of the hierarchy, from f[3] on.
				if rest, err := filepath.Rel(f[3], p); err == nil && !strings.HasPrefix(rest, "..") {
					at[c] = filepath.Join(f[4], rest)
				}
			}
		}
	}
	return at
}

// delegated finds the folder of the unified hierarchy, own or the one above,
// whose groups have both controllers. A group with processes of its own cannot
// hand controllers on, and ours usually has.
func delegated(own string) string {
	for _, dir := range []string{own, filepath.Dir(own)} {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		if err != nil {
			continue
		}
		f := bytes.Fields(b)
		has := func(name string) bool {
			for _, c := range f {
				if string(c) == name {
					return true
				}
			}
			return false
		}
		if has("memory") && has("pids") {
			return dir
		}
	}
	return ""
}

// group is the control group of one command; nil does nothing.
type group struct {
	parent       *groups
	memory, pids string
}

// ownMemory is what pid 1, which is counted with the command, needs at most.
const ownMemory = 16 << 20

// add makes a group with limits and moves process pid there. It answers nil when
// that did not work: then the watcher keeps the limits.
func (g *groups) add(pid int, l Limits) *group {
	if g == nil {
		return nil
	}
	g.sweeper.Do(g.startSweeper)
	name := fmt.Sprintf("%s%d-%d", groupPrefix, os.Getpid(), groupNumber.Add(1))
	made := &group{parent: g, memory: filepath.Join(g.memory, name), pids: filepath.Join(g.pids, name)}
	memory, processes := strconv.FormatInt(l.Memory+ownMemory, 10), strconv.Itoa(l.Processes+spareProcesses)
	files := [][2]string{{made.memory + "/memory.limit_in_bytes", memory}}
	if g.v2 {
		files = [][2]string{{made.memory + "/memory.max", memory}}
	}
	files = append(files, [2]string{made.pids + "/pids.max", processes}, [2]string{made.memory + "/cgroup.procs", strconv.Itoa(pid)})
	if !g.v2 {
		files = append(files, [2]string{made.pids + "/cgroup.procs", strconv.Itoa(pid)})
	}
	for _, dir := range made.folders() {
		if err := os.Mkdir(dir, 0o755); err != nil {
			made.remove()
			return nil
		}
	}
	for _, f := range files {
		if err := os.WriteFile(f[0], []byte(f[1]), 0); err != nil {
			made.remove()
			return nil
		}
	}
	// Swapping would only put the limit off. Not every kernel counts it.
	for _, f := range [][2]string{{"memory.memsw.limit_in_bytes", memory}, {"memory.swap.max", "0"}} {
		if fd, err := unix.Open(filepath.Join(made.memory, f[0]), unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
			_, _ = unix.Write(fd, []byte(f[1]))
			unix.Close(fd)
		}
	}
	return made
}

func (g *group) folders() []string {
	if g.parent.v2 {
		return []string{g.memory}
	}
	return []string{g.memory, g.pids}
}

// exceeded answers which limit the kernel had to enforce.
func (g *group) exceeded(l Limits) error {
	if g == nil {
		return nil
	}
	events := "memory.oom_control"
	if g.parent.v2 {
		events = "memory.events"
	}
	if counter(filepath.Join(g.memory, events), "oom_kill") > 0 {
		return &LimitError{What: "memory", Limit: formatBytes(l.Memory)}
	}
	if counter(filepath.Join(g.pids, "pids.events"), "max") > 0 {
		return &LimitError{What: "processes", Limit: strconv.Itoa(l.Processes)}
	}
	return nil
}

// counter reads the number after name in a file of "name number" lines.
func counter(file, name string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}

// remove removes the group, whose processes are gone.
func (g *group) remove() {
	if g == nil {
		return
	}
	for _, dir := range g.folders() {
		removeGroup(dir, 200*time.Millisecond) // its last process was waited for
	}
}

// removeGroup removes a group, which the kernel allows from a moment after its
// last process is gone.
func removeGroup(dir string, patience time.Duration) {
	for end, pause := time.Now().Add(patience), time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if err := unix.Rmdir(dir); err != unix.EBUSY || time.Now().After(end) {
			return
		}
		time.Sleep(pause)
	}
}

// startSweeper starts the process that removes our groups after our end. It is a
// session of its own, so that what kills our process group leaves it be.
func (g *groups) startSweeper() {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return
	}
	defer theirs.Close()
	c := exec.Command("/proc/self/exe")
	c.Args = []string{stageName, partSweep, strconv.Itoa(os.Getpid()), g.memory, g.pids}
	c.Env = []string{"GOMAXPROCS=1", "GOGC=off"}
	c.Dir = "/"
	c.Stdin = theirs
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		ours.Close()
		return
	}
	go func() { _ = c.Wait() }()
	g.hold = ours
}

// sweepStage is the sweeper: it waits for the end of its standard input.
func sweepStage() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	pid, err := strconv.Atoi(os.Args[2])
	if err != nil {
		os.Exit(1)
	}
	for _, dir := range os.Args[3:] {
		sweep(dir, pid)
	}
	os.Exit(0)
}

// sweep removes the groups of process pid in dir; with 0, those of every process
// that is gone. A group that is in use cannot be removed.
func sweep(dir string, pid int) {
	names, err := filepath.Glob(filepath.Join(dir, groupPrefix+"*-*"))
	if err != nil {
		return
	}
	for _, name := range names {
		owner, err := strconv.Atoi(strings.SplitN(strings.TrimPrefix(filepath.Base(name), groupPrefix), "-", 2)[0])
		switch {
		case err != nil:
		case pid != 0 && owner == pid:
			removeGroup(name, time.Minute) // thousands of processes may have to die first
		case pid == 0 && errors.Is(unix.Kill(owner, 0), unix.ESRCH):
			_ = unix.Rmdir(name)
		}
	}
}
