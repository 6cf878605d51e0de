package diff

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A folder that changes while it is read is no side: what was said of it would be of neither state.
func TestChangingFolder(t *testing.T) {
	for _, how := range []struct {
		summary string
		change  func(file string) error
	}{
		{"other bytes", func(f string) error { return os.WriteFile(f, []byte("later, and longer"), 0o644) }},
		{"another time", func(f string) error { return os.Chtimes(f, time.Time{}, time.Unix(5, 0)) }},
		{"gone", os.Remove},
	} {
		t.Run(how.summary, func(t *testing.T) {
			a, b := t.TempDir(), t.TempDir()
			for dir, text := range map[string]string{a: "one\n", b: "two\n"} {
				if err := os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			op := &opener{}
			x, err := op.openInput(a)
			if err != nil {
				t.Fatal(err)
			}
			y, err := op.openInput(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := how.change(filepath.Join(b, "f")); err != nil {
				t.Fatal(err)
			}
			r := &Result{}
			defer r.Close()
			_, err = op.compare(r, x, y)
			var bad *InputError
			if !errors.As(err, &bad) || bad.Side != b || !strings.Contains(err.Error(), `it changed while it was read: "f" is another file now`) {
				t.Errorf("error %v", err)
			}
		})
	}
}
