//go:build !linux || !(amd64 || arm64)

package sandbox

import (
	"context"
	"io"
	"runtime"
)

// Main returns at once: nothing is re-executed on this system.
func Main(map[string]TaskFunc) {}

// Native is the sandbox of the machine itself, which this system does not have.
type Native struct{}

// Open always answers *UnavailableError on this system.
func Open(Options) (*Native, error) { return nil, unavailable() }

func unavailable() error {
	return &UnavailableError{
		What: "steps run in Linux namespaces, and this is " + runtime.GOOS + "/" + runtime.GOARCH,
		Hint: "build on a Docker Engine host instead (any Docker Desktop, or an engine over ssh:// or tcp://)",
	}
}

// Mapping is never asked on this system; it is here so that callers compile.
func (*Native) Mapping() Mapping { return "" }

// Run always answers *UnavailableError on this system.
func (*Native) Run(context.Context, Command) error { return unavailable() }

// Task always answers *UnavailableError on this system.
func (*Native) Task(context.Context, string, io.Reader, io.Writer) error { return unavailable() }

// Emulator implements Runner.
func (*Native) Emulator(context.Context, string) (Emulator, error) { return Emulator{}, unavailable() }

// NoEmulators is the Options.Emulators of those who want none.
const NoEmulators = "none"

var _ Runner = (*Native)(nil)
