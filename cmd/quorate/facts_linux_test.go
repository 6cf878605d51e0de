package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMachineID holds the hashed id against the same sum made by Python's hmac, and
// against systemd's own tool where there is one.
func TestMachineID(t *testing.T) {
	file := filepath.Join(t.TempDir(), "machine-id")
	for text, want := range map[string]string{
		"3d1219c7c4c5404aaa1f6d2a48adfda4\n": "f6fbc41a2a5f4b28879876fc2354c252",
		"uninitialized\n":                    "",
		"":                                   "",
		"3d12":                               "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := machineID(file); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := machineID(filepath.Join(t.TempDir(), "none")); got != "" {
		t.Errorf("without a file: %q", got)
	}
	if tool, err := exec.LookPath("systemd-id128"); err == nil {
		if out, err := exec.Command(tool, "machine-id", "--app-specific="+applicationID).Output(); err == nil {
			if got, want := machineID("/etc/machine-id"), strings.TrimSpace(string(out)); got != want {
				t.Errorf("got %q, systemd says %q", got, want)
			}
		}
	}
}
