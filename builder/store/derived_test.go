package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestDerived(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{})
	makes := 0
	long := time.Unix(1e9, 0)
	fill := func(dir string) error {
		makes++
		os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600)
		return os.Chtimes(dir, long, long)
	}
	if _, ok := s.HasDerived("deb", "Key"); ok {
		t.Error("there before it was made")
	}
	first, err := s.Derived(ctx, "deb", "Key", fill)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Derived(ctx, "deb", "Key", fill)
	if err != nil || second != first || makes != 1 {
		t.Errorf("got %q and %q, made %d times, %v", first, second, makes, err)
	}
	if fi, err := os.Stat(first); err != nil || !fi.ModTime().Equal(long) {
		t.Errorf("the folder's own time was changed: %v", fi.ModTime())
	}
	if p, ok := s.HasDerived("deb", "Key"); !ok || p != first {
		t.Errorf("got %q %v", p, ok)
	}
	if err := s.Drop("deb", "Key"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dropped, yet there: %v", err)
	}
}

// TestDerivedHalf takes away what an interrupted "rm -r" may, in any order.
func TestDerivedHalf(t *testing.T) {
	ctx := context.Background()
	for _, gone := range []string{"tree", "tree/a", "tree/folder/b", madeName, usedName} {
		t.Run(gone, func(t *testing.T) {
			s := open(t, Options{})
			makes := 0
			fill := func(dir string) error {
				makes++
				os.Mkdir(filepath.Join(dir, "folder"), 0o755)
				os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o644)
				return os.WriteFile(filepath.Join(dir, "folder", "b"), []byte("x"), 0o644)
			}
			first, err := s.Derived(ctx, "root", "key", fill)
			if err != nil {
				t.Fatal(err)
			}
			os.RemoveAll(filepath.Join(filepath.Dir(first), gone))
			if _, ok := s.HasDerived("root", "key"); ok {
				t.Error("a part is taken for the whole")
			}
			second, err := s.Derived(ctx, "root", "key", fill)
			if err != nil || second != first || makes != 2 {
				t.Errorf("got %q, made %d times, %v", second, makes, err)
			}
			if _, err := os.Stat(filepath.Join(second, "folder", "b")); err != nil {
				t.Error(err)
			}
			if list, _ := os.ReadDir(filepath.Dir(first)); len(list) != 3 {
				t.Errorf("there is %v", list)
			}
		})
	}
}

func TestDerivedFails(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{})
	broken := errors.New("no such member")
	_, err := s.Derived(ctx, "deb", "key", func(dir string) error {
		os.WriteFile(filepath.Join(dir, "half"), nil, 0o644)
		return broken
	})
	if want := "no such member"; err == nil || err.Error() != want || !errors.Is(err, broken) {
		t.Errorf("got %v, expected %s", err, want)
	}
	if got := files(t, s, "derived", "deb"); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
	dir, err := s.Derived(ctx, "deb", "key", func(string) error { return nil })
	if err != nil || len(files(t, s, "derived", "deb", "key", "tree")) > 0 {
		t.Errorf("the next try: %q %v", dir, err)
	}
	for _, bad := range [][2]string{{"", "k"}, {"../x", "k"}, {"Deb", "k"}, {"deb", ""}} {
		if _, err := s.Derived(ctx, bad[0], bad[1], func(string) error { return nil }); err == nil {
			t.Errorf("kind %q key %q taken", bad[0], bad[1])
		}
	}
}

func TestDerivedHasOneMaker(t *testing.T) {
	dir := t.TempDir()
	var made atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(dir, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			_, err = s.Derived(context.Background(), "k", "a", func(string) error {
				made.Add(1)
				time.Sleep(5 * time.Millisecond)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("made %d times", made.Load())
	}
}

func TestDerivedWaitCanBeCancelled(t *testing.T) {
	s := open(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	_, err := s.Derived(context.Background(), "k", "a", func(string) error {
		time.AfterFunc(10*time.Millisecond, cancel)
		_, err := s.Derived(ctx, "k", "a", func(string) error { return nil })
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// After a restart of the machine, folders made in the last minutes before it
// are made again and older ones are kept.
func TestRestartDropsLatestDerived(t *testing.T) {
	if bootID() == "" {
		t.Skip("this kernel does not say when it was started")
	}
	ctx := context.Background()
	s := open(t, Options{})
	made := map[string]time.Duration{"last": 0, "near": tornWindow / 2, "far": 2 * tornWindow}
	for key, ago := range made {
		if _, err := s.Derived(ctx, "k", key, func(string) error { return nil }); err != nil {
			t.Fatal(err)
		}
		age(t, s.path("derived", "k", key, madeName), 24*time.Hour+ago)
	}
	reopen := func() {
		s.Close()
		var err error
		if s, err = Open(s.Dir(), Options{}); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	if got := files(t, s, "derived", "k"); len(got) != 3 {
		t.Errorf("without a restart: %q left", got)
	}
	os.WriteFile(s.path("locks", "boot"), []byte("another"), 0o644)
	reopen()
	if got := files(t, s, "derived", "k"); len(got) != 1 || got[0] != "far" {
		t.Errorf("after a restart: %q left", got)
	}
	reopen()
	if got := files(t, s, "derived", "k"); len(got) != 1 {
		t.Errorf("after another: %q left", got)
	}
	s.Close()
}
