package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"quorate.dev/lockfile/digest"
)

// tiny returns a folder on a file system of 1 MiB.
func tiny(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("quorate-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a full disk needs a small file system, and mounting one needs privileges: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestDiskFull(t *testing.T) {
	mount := tiny(t)
	s, err := Open(filepath.Join(mount, "sub", "store"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	big := bytes.Repeat([]byte("x"), 3<<20)
	d := digest.Of(big)
	attempts := map[string]func() error{
		"put": func() error { return s.Put(bytes.NewReader(big), d, int64(len(big))) },
		"write": func() error {
			w, err := s.Create()
			if err != nil {
				return err
			}
			defer w.Close()
			_, err = w.Write(big)
			return err
		},
		"partial": func() error {
			p, err := s.Partial(t.Context(), d)
			if err != nil {
				return err
			}
			defer p.Close()
			_, err = p.Write(big)
			return errors.Join(err, p.Reset())
		},
		"note": func() error { return s.PutNote("k", "n", big) },
		"derived": func() error {
			_, err := s.Derived(t.Context(), "k", "a", func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "f"), big, 0o644)
			})
			return err
		},
	}
	for name, attempt := range attempts {
		err := attempt()
		var full *SpaceError
		if !errors.As(err, &full) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if full.FileSystem != mount || full.Store != s.Dir() {
			t.Errorf("%s: blames %q and %q", name, full.FileSystem, full.Store)
		}
		if want := fmt.Sprintf("no space left on the file system at %q for the store in %q", mount, s.Dir()); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", name, err)
		}
		if name == "put" && (full.Need < 1<<20 || full.Free < 0) {
			t.Errorf("%s: needs %d, %d free", name, full.Need, full.Free)
		}
	}
	if left := append(files(t, s, "blobs", "sha256"), files(t, s, "partial")...); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	put(t, s, strings.Repeat("y", 600<<10)) // the room is there again
}

// Another file system being full is not the store's fault.
func TestOtherDiskFull(t *testing.T) {
	other := tiny(t)
	s := open(t, Options{})
	_, err := s.Derived(t.Context(), "k", "a", func(string) error {
		return os.WriteFile(filepath.Join(other, "f"), make([]byte, 2<<20), 0o644)
	})
	var full *SpaceError
	if errors.As(err, &full) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

func TestOpenOnFullDisk(t *testing.T) {
	mount := tiny(t)
	os.WriteFile(filepath.Join(mount, "fill"), make([]byte, 2<<20), 0o644)
	_, err := Open(filepath.Join(mount, "store"), Options{})
	var full *SpaceError
	if err != nil && !errors.As(err, &full) {
		t.Errorf("got %v", err)
	}
}
