//go:build !linux

package local

import "os/exec"

// supervise starts cmd and waits for its end. Builds have no sandbox here, so
// that workers start nothing that would outlive them.
func supervise(cmd *exec.Cmd, _ string) error { return cmd.Run() }
