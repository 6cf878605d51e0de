//go:build !unix

package hosttest

import (
	"os/exec"
	"time"
)

func detach(*exec.Cmd) {}

func deaf() { time.Sleep(time.Hour) }
