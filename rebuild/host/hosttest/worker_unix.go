//go:build unix

package hosttest

import (
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// detach gives a process a session of its own.
func detach(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// deaf hangs and does not end when told to.
func deaf() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	time.Sleep(time.Hour)
}
