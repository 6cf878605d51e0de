// Package local starts workers on this machine: processes of their own, each
// with a work folder of its own, and nothing left of either afterwards.
//
// Work folders lie under one scratch folder, and under /dev/shm for workers
// whose surroundings ask for tmpfs:
//
//	SCRATCH/worker-123456789/
//	    alive    locked (flock) by the process that started the worker, as long as it lives
//	    work/    Job.WorkDir
//
// A folder whose lock can be had belongs to a dead run; the next Start removes it.
//
// A worker leads a session of its own. When it ends, or has to, everything that
// it started is killed: its process group, and on Linux also whatever carries
// the worker's mark in its environment. On Linux it dies with us, too.
package local

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"quorate.dev/rebuild/host"
)

const (
	// defaultGrace is for a worker that is told to end: killing the processes of a sandbox
	// and unmounting take some 100 ms on an idle machine.
	defaultGrace = 10 * time.Second
	// markVariable marks a worker and what it starts. Steps do not have it: their environment
	// is constant, and they end with the sandbox's first process.
	markVariable = "QUORATE_WORKER"
)

// Host starts workers on this machine. It may start several at once.
type Host struct {
	// Executable is the program to start; "" for the one that runs.
	Executable string
	// Args are its arguments; nil for the verb "worker".
	Args []string
	// Scratch is the folder for work folders; it is made when missing.
	Scratch string
	// Remove removes a tree as os.RemoveAll does, whoever its files belong to.
	// Nil for files of our own.
	Remove func(path string) error
	// Grace is how long a worker that is told to end may take before it is killed; 0 for 10 s.
	Grace time.Duration
	// Memory is the folder of a memory file system; "" for /dev/shm.
	Memory string
}

// Start runs one worker; see host.Host. A work folder that cannot be removed is
// told as a warning, and the next Start tries again.
func (h *Host) Start(ctx context.Context, job host.Job, events func(host.Event)) (host.Result, error) {
	if events == nil {
		events = func(host.Event) {}
	}
	if err := ctx.Err(); err != nil {
		return host.Result{}, err
	}
	warn := func(format string, args ...any) {
		events(host.Event{Kind: host.KindWarning, Message: fmt.Sprintf(format, args...)})
	}
	root, onMemory := h.root(job.Surroundings.Filesystem)
	if !onMemory {
		job.Surroundings.Filesystem = "" // the report must say what was, not what was wished for
	}
	work, err := h.newWork(root, warn)
	if err != nil {
		return host.Result{}, err
	}
	job.WorkDir = work.dir()
	result, err := h.run(ctx, job, events)
	result.OutputDir = filepath.Join(job.Results, "image")
	if err == nil { // what was not asked for stays untold
		err = moveOutput(filepath.Join(job.WorkDir, "output"), result.OutputDir)
	}
	if err == nil {
		lists := host.NewLists(job.Results)
		lists.TakeFolder(filepath.Join(job.WorkDir, host.ListsDir))
		lists.Warn(events)
	}
	if gone := work.remove(h.remove); gone != nil {
		warn("cannot remove work folder: %v", gone)
	}
	tidy(root)
	if err != nil {
		return host.Result{}, err
	}
	return result, nil
}

// run starts the process, listens, and returns when nothing of it is left.
func (h *Host) run(ctx context.Context, job host.Job, events func(host.Event)) (host.Result, error) {
	talk, err := host.NewTalk(ctx, job, events)
	if err != nil {
		return host.Result{}, err
	}
	how, err := h.process(talk, job)
	result, failure := talk.End(how)
	if err != nil && ctx.Err() == nil {
		return host.Result{}, fmt.Errorf("cannot start worker: %w", err)
	}
	return result, failure
}

// process runs the worker's process to its end, and says how it ended in the
// words that host.LostError wants. The error is that it was never started.
func (h *Host) process(talk *host.Talk, job host.Job) (how string, err error) {
	cmd, err := h.command(talk.Context(), job)
	if err != nil {
		return "", err
	}
	// A pipe of our own making: for another one Wait would wait for the talk to end.
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	go func() {
		_, _ = io.Copy(in, talk.Input()) // a worker that does not read says so itself
		_ = in.Close()
	}()
	cmd.Stdout, cmd.Stderr = talk, talk.Log
	talk.Begin()
	ended := supervise(cmd, mark(cmd))
	if cmd.Process == nil {
		return "", ended
	}
	if cmd.ProcessState != nil && cmd.ProcessState.Success() {
		return "", nil
	}
	return "it ended with " + fmt.Sprint(cmd.ProcessState), nil
}

// command is the worker, ready to be started.
func (h *Host) command(ctx context.Context, job host.Job) (*exec.Cmd, error) {
	program := h.Executable
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		program = self
	}
	args := h.Args
	if args == nil {
		args = []string{"worker"}
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = job.WorkDir
	cmd.Env = environment(os.Environ(), job)
	cmd.WaitDelay = h.Grace
	if h.Grace == 0 {
		cmd.WaitDelay = defaultGrace
	}
	return cmd, nil
}

// kept are the variables that a worker gets from us: where programs and the user's
// folders are, and how the network is reached. Everything else stays outside.
var kept = []string{"PATH", "HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"GOPROXY", "SYSTEMROOT", "GOCOVERDIR"}

// environment is the worker's. Our own settings go with it, secrets of ours (passphrases) do not.
func environment(from []string, job host.Job) []string {
	var env []string
	for _, v := range from {
		name, _, _ := strings.Cut(v, "=")
		keep := strings.HasPrefix(name, "QUORATE_") && !strings.Contains(name, "PASS")
		for _, k := range kept {
			keep = keep || name == k
		}
		if keep && name != markVariable && name != host.IsolationVar && name != host.EngineVar {
			env = append(env, v)
		}
	}
	env = append(env, "TMPDIR="+job.WorkDir, markVariable+"="+rand.Text())
	for k, v := range job.Surroundings.Environment {
		env = append(env, k+"="+v)
	}
	return env
}

// mark is the worker's own mark.
func mark(cmd *exec.Cmd) string {
	for _, v := range cmd.Env {
		if strings.HasPrefix(v, markVariable+"=") {
			return v
		}
	}
	return ""
}

// remove removes a tree with Remove, or as ourselves: folders without write
// permission are given it first.
func (h *Host) remove(path string) error {
	if h.Remove != nil {
		return h.Remove(path)
	}
	if err := os.RemoveAll(path); err == nil {
		return nil
	}
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700) // RemoveAll says what is wrong if this was not enough
		}
		return nil
	})
	return os.RemoveAll(path)
}
