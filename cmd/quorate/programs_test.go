package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// Programs that tests start are built once for all tests of the process. Two stories
// that build the same one at once would compile all of it twice, since the go command's
// cache knows only what is finished; and linking is never cached.

// shared is a folder of this process that every user may enter; TestMain removes it.
var shared = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "quorate-test-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
})

// tidied runs the tests, and removes what they shared.
type tidied struct{ *testing.M }

func (m tidied) Run() int {
	code := m.M.Run()
	dir, err := shared()
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "left behind:", err)
		return max(code, 1)
	}
	return code
}

var (
	programsMu sync.Mutex
	programs   = map[string]func() (string, error){}
)

// builtOnce is the path of a program, alone in its folder. build writes it there the
// first time that somebody asks; who asks meanwhile waits.
func builtOnce(name string, build func(path string) error) (string, error) {
	programsMu.Lock()
	once := programs[name]
	if once == nil {
		once = sync.OnceValues(func() (string, error) {
			dir, err := shared()
			if err != nil {
				return "", err
			}
			dir = filepath.Join(dir, "programs", name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return "", err
			}
			return filepath.Join(dir, name), build(filepath.Join(dir, name))
		})
		programs[name] = once
	}
	programsMu.Unlock()
	return once()
}

// released is the program as `make build` makes it.
func released(tb testing.TB) string {
	tb.Helper()
	program, err := builtQuorate()
	if err != nil {
		tb.Fatal(err)
	}
	return program
}

func builtQuorate() (string, error) {
	return builtOnce("quorate", func(path string) error {
		return goBuild(".", path, "-ldflags", "-s -w -buildid=", ".")
	})
}

// hasty are flags for programs of others that run for a moment: not optimised, which
// saves a third of the compiler's time. The standard library is, since the cache has it so.
var hasty = []string{"-ldflags", "-s -w", "-gcflags", "all=-N -l", "-gcflags", "std="}

// goBuild builds the package in dir that the last argument names, with the settings that
// the Makefile builds everything with, so that the cache has what they share.
func goBuild(dir, path string, args ...string) error {
	return goCommand(dir, path, append([]string{"build", "-trimpath", "-buildvcs=false", "-o", path}, args...)...)
}

// goInstall installs a package by its version, outside of our module.
func goInstall(path, module string) error {
	return goCommand(os.TempDir(), path, slices.Concat([]string{"install", "-trimpath"}, hasty, []string{module})...)
}

func goCommand(dir, path string, args ...string) error {
	build := exec.Command("go", args...)
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOBIN="+filepath.Dir(path))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", args[len(args)-1], err, out)
	}
	return nil
}
