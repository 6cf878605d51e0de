package image

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAside leaves what a killed writer would, and what a living one has.
func TestAside(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "out")
	dead := filepath.Join(dir, ".out.quorate-1")
	if err := os.MkdirAll(filepath.Join(dead, "blobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, ".outer.quorate-1")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	living, err := makeAside(target, false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := makeAside(target, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		path  string
		there bool
	}{{dead, false}, {other, true}, {living.Name(), true}, {second.Name(), true}} {
		if got := lstat(want.path) != nil; got != want.there {
			t.Errorf("%s is there: %v, expected %v", want.path, got, want.there)
		}
	}
	living.Close()
	second.Close()
	sweepAside(target)
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}
