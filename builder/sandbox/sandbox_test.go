//go:build linux

package sandbox_test

import (
	"os"
	"testing"

	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	sandbox.Main(sandboxtest.Tasks())
	code := m.Run()
	sandboxtest.Cleanup()
	os.Exit(code)
}

// TestNative runs the suite with the best mapping of the user who tests.
func TestNative(t *testing.T) {
	s, err := sandbox.Open(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sandboxtest.Run(t, s)
}
