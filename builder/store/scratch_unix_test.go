//go:build unix

package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// What is left to another process is that process's own: its lock keeps the
// folder from everybody else, and without it the next Open removes the folder.
func TestScratchIsLeft(t *testing.T) {
	var dir string
	var lock *os.File
	refuse := false
	s := open(t, Options{Leave: func(d string, l *os.File) error {
		if refuse {
			return errors.New("no process can be started")
		}
		fd, err := syscall.Dup(int(l.Fd())) // as a child has it
		if err != nil {
			return err
		}
		dir, lock = d, os.NewFile(uintptr(fd), l.Name())
		return nil
	}})
	giveUp := func(entries int) (was string) {
		t.Helper()
		was, done, err := s.Scratch(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			if err := os.Mkdir(filepath.Join(was, strconv.Itoa(i)), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		done()
		if _, err := os.Stat(was); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of %d entries, done left the folder where it was: %v", entries, err)
		}
		return was
	}
	giveUp(manyFiles / 2)
	if dir != "" {
		t.Errorf("a folder of %d entries was left to another process", manyFiles/2)
	}
	refuse = true
	giveUp(manyFiles)
	if left := files(t, s, "scratch"); len(left) != 1 {
		t.Errorf("without another process, scratch has %q; expected the store's own folder", left)
	}
	refuse = false
	giveUp(manyFiles)
	if dir == "" || filepath.Dir(dir) != s.path("scratch") {
		t.Fatalf("left to another process: %q; expected a folder in %q", dir, s.path("scratch"))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	reopen := func() {
		t.Helper()
		other, err := Open(s.Dir(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the other process's folder was taken from it: %v", err)
	}
	lock.Close() // it is killed
	reopen()
	if left := files(t, s, "scratch"); len(left) > 0 {
		t.Errorf("after the other process died, scratch has %q", left)
	}
	if left := files(t, s, "locks"); strings.Contains(strings.Join(left, " "), scratchLock) {
		t.Errorf("after the other process died, locks has %q", left)
	}
}
