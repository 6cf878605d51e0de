package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"quorate.dev/lockfile/digest"
)

func TestGC(t *testing.T) {
	ctx := context.Background()
	const day = 24 * time.Hour
	var (
		old    = digest.Of([]byte("old blob"))
		recent = digest.Of([]byte("new blob"))
		used   = digest.Of([]byte("used blob"))
	)
	setup := func(t *testing.T) *Store {
		s := open(t, Options{})
		for text, ago := range map[string]time.Duration{"old blob": 40 * day, "new blob": 2 * day, "used blob": 50 * day} {
			p, _ := s.Path(put(t, s, text))
			age(t, p, ago)
		}
		if !s.Has(used, -1) { // marks it as used
			t.Fatal("gone")
		}
		s.PutNote("k", "n", []byte("note"))
		age(t, s.path("notes", "k", "n"), 35*day)
		dir, err := s.Derived(ctx, "k", "d", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "f"), []byte("0123456789"), 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
		age(t, filepath.Join(filepath.Dir(dir), usedName), 36*day)
		os.WriteFile(s.path("damaged", "x"), []byte("xx"), 0o644)
		os.WriteFile(s.path("partial", "y"), []byte("yyy"), 0o644)
		age(t, s.path("partial", "y"), 31*day)
		return s
	}
	const folder = 10 + 1 // the file and the count of files
	note := int64(len(formatNote("k", "n", []byte("note"))))
	everything := []string{"blobs/sha256/" + old.Hex(), "derived/k/d", "notes/k/n", "partial/y", "blobs/sha256/" + recent.Hex(), "blobs/sha256/" + used.Hex()}
	tests := []struct {
		summary string
		o       GCOptions
		removed []string
		left    int64
	}{
		{"nothing asked", GCOptions{}, []string{"damaged/x"}, 8 + folder + note + 3 + 8 + 9},
		{"by age", GCOptions{OlderThan: 30 * day}, append(slices.Clone(everything[:4]), "damaged/x"), 17},
		{"by size", GCOptions{MaxBytes: 20}, append(slices.Clone(everything[:3]), "damaged/x"), 20},
		{"by both", GCOptions{OlderThan: 38 * day, MaxBytes: 1 << 40}, []string{everything[0], "damaged/x"}, folder + note + 3 + 8 + 9},
		{"all of it", GCOptions{MaxBytes: 1}, append(slices.Clone(everything), "damaged/x"), 0},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			s := setup(t)
			for _, dry := range []bool{true, false} {
				test.o.DryRun = dry
				r, err := s.GC(ctx, test.o)
				if err != nil {
					t.Fatal(err)
				}
				got := []string{}
				for _, e := range r.Removed {
					got = append(got, e.Path)
				}
				slices.Sort(got)
				want := slices.Sorted(slices.Values(test.removed))
				if !slices.Equal(got, want) {
					t.Errorf("dry %v: removed\n%s\nexpected\n%s", dry, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				if r.Left != test.left || r.Kept != 7-len(want) {
					t.Errorf("dry %v: %d bytes in %d things left, expected %d", dry, r.Left, r.Kept, test.left)
				}
				for _, p := range test.removed {
					if _, err := os.Lstat(s.path(p)); (err == nil) != dry {
						t.Errorf("dry %v: %s: %v", dry, p, err)
					}
				}
			}
			put(t, s, "after") // the store still works
		})
	}
}

func TestGCWhileInUse(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{})
	other, err := Open(s.Dir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var busy *InUseError
	if _, err := s.GC(ctx, GCOptions{MaxBytes: 1}); !errors.As(err, &busy) {
		t.Errorf("got %v", err)
	}
	if _, err := other.GC(ctx, GCOptions{MaxBytes: 1}); !errors.As(err, &busy) {
		t.Errorf("the first no longer counts as a user after its own attempt: %v", err)
	}
	other.Close()
	if _, err := s.GC(ctx, GCOptions{MaxBytes: 1}); err != nil {
		t.Error(err)
	}
}
