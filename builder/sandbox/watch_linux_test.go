//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDiskUsed holds the sum against du's, for folders side by side and one in
// another, links of both kinds, holes, and a folder with more names than one
// reading of it gives.
func TestDiskUsed(t *testing.T) {
	dir := t.TempDir()
	var errs []error
	file := func(name string, size int) {
		errs = append(errs, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o644))
	}
	for i := range 3000 {
		file(fmt.Sprintf("many/with-a-rather-long-name-%d", i), i%3)
	}
	for i := range 40 {
		file(fmt.Sprintf("side/%d/by/side/file", i), 5000)
		file(strings.Repeat("deep/", i)+"file", 1)
	}
	file("linked", 100_000)
	errs = append(errs, os.Link(filepath.Join(dir, "linked"), filepath.Join(dir, "side", "again")),
		os.Link(filepath.Join(dir, "linked"), filepath.Join(dir, "many", "again")),
		os.Symlink("/", filepath.Join(dir, "everything")), os.Symlink("side", filepath.Join(dir, "round")))
	file("holes", 0)
	errs = append(errs, os.Truncate(filepath.Join(dir, "holes"), 1<<30))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("du", "-s", "-B1", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	want, _, _ := strings.Cut(string(out), "\t")
	if got := fmt.Sprint(diskUsed(dir)); got != want {
		t.Errorf("got %s bytes, du says %s", got, want)
	}
	if got := diskUsed(filepath.Join(dir, "nothing")); got != 0 {
		t.Errorf("got %d bytes of a folder that is not there", got)
	}
}
