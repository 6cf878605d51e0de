package image

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Writers to one place do not take each other's beginnings for abandoned.
func TestAsideAtOnce(t *testing.T) {
	for _, folder := range []bool{true, false} {
		target := filepath.Join(t.TempDir(), "out")
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 100 {
					f, err := makeAside(target, folder)
					if err != nil {
						t.Errorf("folder %v: %v", folder, err)
						return
					}
					if _, err := os.Lstat(f.Name()); err != nil {
						t.Errorf("folder %v: swept away: %v", folder, err)
					}
					if err := os.Remove(f.Name()); err != nil {
						t.Error(err)
					}
					f.Close()
				}
			})
		}
		all.Wait()
		if left, err := os.ReadDir(filepath.Dir(target)); err != nil || len(left) > 0 {
			t.Errorf("folder %v: %v, %v", folder, left, err)
		}
	}
}
