package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/lockfile/digest"
)

// Other processes are this test binary, started again with a role.
const roleVar, dirVar = "QUORATE_STORE_TEST_ROLE", "QUORATE_STORE_TEST_DIR"

func TestMain(m *testing.M) {
	role := roles[os.Getenv(roleVar)]
	if role == nil {
		os.Exit(m.Run())
	}
	s, err := Open(os.Getenv(dirVar), Options{})
	if err == nil {
		err = role(s)
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var roles = map[string]func(*Store) error{
	"crowd":       crowd,
	"put forever": func(s *Store) error { return s.Put(endless{}, digest.Of(nil), -1) },
	"write forever": func(s *Store) error {
		w, err := s.Create()
		if err != nil {
			return err
		}
		_, err = io.Copy(w, endless{})
		return err
	},
	"derive forever": func(s *Store) error {
		_, err := s.Derived(context.Background(), "k", "a", func(dir string) error {
			os.WriteFile(filepath.Join(dir, "half"), []byte("half"), 0o644)
			return ready()
		})
		return err
	},
	"fetch forever": func(s *Store) error {
		p, err := s.Partial(context.Background(), digest.Of([]byte("hello world")))
		if err != nil {
			return err
		}
		io.WriteString(p, "hello ")
		return ready()
	},
	"hold": func(*Store) error { return ready() },
}

// ready says so and waits until standard input ends, or for ever.
func ready() error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

type endless struct{}

var said bool

func (endless) Read(p []byte) (int, error) {
	if !said {
		said = true
		fmt.Println("ready")
	}
	time.Sleep(time.Millisecond)
	return len(p), nil
}

const crowdBlobs = 20

func crowdText(i int) string { return strings.Repeat(fmt.Sprint("blob ", i, " "), 5000) }

// crowd does everything at once to what the other members of the crowd do it to.
func crowd(s *Store) error {
	for _, i := range rand.Perm(crowdBlobs) {
		text := crowdText(i)
		d := digest.Of([]byte(text))
		var err error
		switch i % 3 {
		case 0:
			err = s.Put(strings.NewReader(text), d, int64(len(text)))
		case 1:
			var w *Writer
			if w, err = s.Create(); err == nil {
				io.WriteString(w, text)
				_, _, err = w.Commit()
			}
		case 2:
			err = crowdFetch(s, d, text)
		}
		if err != nil {
			return err
		}
		if got, err := read(s, d); err != nil || got != text {
			return fmt.Errorf("blob %d: %d bytes, %v", i, len(got), err)
		}
		_, err = s.Derived(context.Background(), "k", fmt.Sprint(i), func(dir string) error {
			f, err := os.OpenFile(s.path("made-"+fmt.Sprint(i)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString("x")
			return err
		})
		if err != nil {
			return err
		}
		if err := s.PutNote("k", "n", []byte(text)); err != nil {
			return err
		}
		if b, ok := s.Note("k", "n"); !ok || !bytes.HasPrefix(b, []byte("blob ")) {
			return errors.New("a note is not whole")
		}
	}
	return nil
}

func crowdFetch(s *Store, d digest.Digest, text string) error {
	p, err := s.Partial(context.Background(), d)
	if err != nil {
		return err
	}
	defer p.Close()
	if s.Has(d, int64(len(text))) {
		return nil
	}
	io.WriteString(p, text[p.Size():])
	return p.Finish()
}

func process(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleVar+"="+role, dirVar+"="+dir)
	return cmd
}

// started starts a process and waits until it says that it is ready.
func started(t *testing.T, role, dir string) (cmd *exec.Cmd, stdin io.Closer) {
	t.Helper()
	cmd = process(t, role, dir)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%s said %q: %v", role, line, err)
	}
	return cmd, in
}

func TestManyProcesses(t *testing.T) {
	dir := t.TempDir()
	var all []*exec.Cmd
	for range 6 {
		cmd := process(t, "crowd", dir)
		var b bytes.Buffer
		cmd.Stderr = &b
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, cmd.Stderr)
		}
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Verify(t.Context(), nil)
	if err != nil || r.Blobs != crowdBlobs || len(r.Damaged)+len(r.Strange) > 0 {
		t.Errorf("got %+v %v", r, err)
	}
	for i := range crowdBlobs {
		if b, err := os.ReadFile(s.path("made-" + fmt.Sprint(i))); string(b) != "x" {
			t.Errorf("derived %d: made %d times, %v", i, len(b), err)
		}
	}
	for _, in := range []string{"partial", "scratch", "damaged"} {
		if left := files(t, s, in); len(left) > 0 {
			t.Errorf("left in %s: %q", in, left)
		}
	}
	for _, name := range files(t, s, "locks") {
		if name != "use" && name != "boot" {
			t.Errorf("left lock %q", name)
		}
	}
}

func TestKilledProcessLeavesNothingHalf(t *testing.T) {
	for _, role := range []string{"put forever", "write forever", "derive forever"} {
		t.Run(role, func(t *testing.T) {
			dir := t.TempDir()
			cmd, _ := started(t, role, dir)
			time.Sleep(20 * time.Millisecond)
			cmd.Process.Kill()
			cmd.Wait()
			if left, _ := os.ReadDir(filepath.Join(dir, "scratch")); len(left) == 0 {
				t.Error("was not killed at work")
			}
			s, err := Open(dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, in := range []string{"scratch", "blobs/sha256", "damaged"} {
				if left := files(t, s, in); len(left) > 0 {
					t.Errorf("left in %s: %q", in, left)
				}
			}
			got, err := s.Derived(t.Context(), "k", "a", func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o644)
			})
			if err != nil {
				t.Fatal(err)
			}
			if entries, _ := os.ReadDir(got); len(entries) != 1 || entries[0].Name() != "whole" {
				t.Errorf("derived holds %v", entries)
			}
		})
	}
}

func TestKilledFetchIsResumed(t *testing.T) {
	dir := t.TempDir()
	cmd, _ := started(t, "fetch forever", dir)
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := digest.Of([]byte("hello world"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := s.Partial(ctx, d); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("taken from a live process: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	p, err := s.Partial(t.Context(), d)
	if err != nil || p.Size() != 6 {
		t.Fatalf("%d bytes, %v", p.Size(), err)
	}
	io.WriteString(p, "world")
	if err := p.Finish(); err != nil || get(t, s, d) != "hello world" {
		t.Errorf("got %v", err)
	}
}

func TestGCRespectsOtherProcesses(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := put(t, s, "needed")
	cmd, in := started(t, "hold", dir)
	var busy *InUseError
	if _, err := s.GC(t.Context(), GCOptions{MaxBytes: 1}); !errors.As(err, &busy) || !s.Has(d, -1) {
		t.Errorf("got %v", err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(t.Context(), GCOptions{MaxBytes: 1}); err != nil || s.Has(d, -1) {
		t.Errorf("got %v", err)
	}
}
