package local

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supervise starts cmd, waits for its end, kills what it left, and returns what
// cmd.Wait does. Told to end, it gets SIGTERM first and SIGKILL after cmd.WaitDelay.
func supervise(cmd *exec.Cmd, mark string) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	ended := make(chan error, 1)
	go func() {
		// The kernel sends Pdeathsig when the thread that started the process ends, so it must not.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ended <- lead(cmd, mark)
	}()
	return <-ended
}

func lead(cmd *exec.Cmd, mark string) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	// Until Wait reaps the leader its number cannot belong to anybody else, so the
	// group that is killed is certainly its own.
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	_ = unix.Kill(-pid, unix.SIGKILL) // fails when nobody is left, which is what we want
	killMarked(mark)
	return cmd.Wait()
}

// killMarked kills every process whose environment holds the mark. Processes
// that begin while we look are found by looking again.
func killMarked(mark string) {
	// Two seconds: a process that forks as fast as we look needs another remedy.
	for range 200 {
		found := marked(mark)
		if len(found) == 0 {
			return
		}
		for _, pid := range found {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond) // for them to end
	}
}

// marked returns the live processes that carry the mark, without zombies, whose
// environment reads as empty.
func marked(mark string) []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		env, err := os.ReadFile(f)
		if err != nil {
			continue // gone, or of another user
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if string(v) == mark {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
				if pid > 0 {
					pids = append(pids, pid)
				}
				break
			}
		}
	}
	return pids
}
