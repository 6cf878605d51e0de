package filelock

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestKinds(t *testing.T) {
	tests := []struct {
		held, asked Kind
		want        error
	}{
		{Shared, Shared, nil},
		{Shared, Exclusive, ErrLocked},
		{Exclusive, Shared, ErrLocked},
		{Exclusive, Exclusive, ErrLocked},
	}
	for _, test := range tests {
		path := filepath.Join(t.TempDir(), "lock")
		holder, other := open(t, path), open(t, path)
		if err := Try(holder, test.held); err != nil {
			t.Fatal(err)
		}
		if err := Try(other, test.asked); !errors.Is(err, test.want) {
			t.Errorf("%d is held: asked for %d: %v, expected %v", test.held, test.asked, err, test.want)
		}
		if err := errors.Join(Unlock(holder), Try(other, test.asked)); err != nil {
			t.Errorf("%d after %d was given up: %v", test.asked, test.held, err)
		}
	}
}

func TestWaitEndsWithTheHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder, other := open(t, path), open(t, path)
	if err := Try(holder, Exclusive); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { got <- Wait(other, Exclusive) }()
	select {
	case err := <-got:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	holder.Close()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
