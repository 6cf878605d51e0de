package main

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// leaveFolder starts `quorate sweep` in a session of its own, so that the end of
// this process or of its terminal does not end it. It has none of this process's
// output: whoever reads that to its end would wait for the sweeper.
func leaveFolder(dir string, lock *os.File) error {
	cmd := exec.Command("/proc/self/exe", "sweep", dir, lock.Name())
	cmd.Args[0] = os.Args[0] // by which the program may know what it is
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// standBack lets every other process have the processor first. Niceness is each
// thread's own, so the goroutine that removes stays on this one.
func standBack() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19) // 0 is the calling thread
}
