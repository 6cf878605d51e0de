package sandbox_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"quorate.dev/builder/sandbox"
)

// Every architecture whose emulator is on this machine (TOOLS in the Makefile
// brings them): the sandbox runs its programs and nobody else's.
func TestEmulator(t *testing.T) {
	s, err := sandbox.Open(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for arch, qemu := range map[string]string{
		"arm64": "aarch64", "arm": "arm", "386": "i386", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x", "amd64": "x86_64",
	} {
		t.Run(arch, func(t *testing.T) {
			if arch == runtime.GOARCH {
				e, err := s.Emulator(context.Background(), arch)
				if err != nil || e.Program != "" {
					t.Errorf("the machine's own programs need %q: %v", e.Program, err)
				}
				return
			}
			if _, err := exec.LookPath("qemu-" + qemu + "-static"); err != nil {
				t.Skipf("there is no qemu-%s-static here; `make tools` brings it", qemu)
			}
			e, err := s.Emulator(context.Background(), arch)
			if err != nil {
				t.Fatal(err)
			}
			if e.Arch != arch || e.Program != "" && !strings.Contains(e.Program, qemu) {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestEmulatorRefused(t *testing.T) {
	foreign := "arm64"
	if runtime.GOARCH == foreign {
		foreign = "amd64"
	}
	broken := t.TempDir()
	name := map[string]string{"arm64": "qemu-aarch64-static", "amd64": "qemu-x86_64-static"}[foreign]
	if err := os.WriteFile(filepath.Join(broken, name), []byte("#!/bin/sh\n"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	for _, test := range []struct {
		summary, in, want, hint string
	}{
		{"none wanted", sandbox.NoEmulators, "emulators are switched off", ""},
		{"none there", t.TempDir(), "there is no " + name, "qemu-user-static"},
		{"one that is none", broken, "does not do: ", ""},
	} {
		t.Run(test.summary, func(t *testing.T) {
			s, err := sandbox.Open(sandbox.Options{Emulators: test.in})
			if err != nil {
				t.Fatal(err)
			}
			e, err := s.Emulator(context.Background(), foreign)
			var none *sandbox.EmulatorError
			if err == nil && e.Program == "" && test.in != sandbox.NoEmulators {
				t.Skip("this machine's kernel has an emulator registered")
			}
			if !errors.As(err, &none) || !strings.Contains(err.Error(), test.want) || !strings.Contains(none.Hint(), test.hint) {
				t.Errorf("got %v", err)
			}
		})
	}
	s, err := sandbox.Open(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Emulator(context.Background(), "pdp11"); err == nil || !strings.Contains(err.Error(), "pdp11") {
		t.Errorf("got %v", err)
	}
}
