package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/lockfile"
)

// surroundings are facts of a host and of a user that must not matter.
type surroundings struct {
	name    string
	user    *account // whose files they are; wrap changes to it. Nil for root
	under   string   // where everything lies; a temporary folder when empty
	env     []string // the whole environment, in this order; what a plain root shell has when nil
	wrap    []string // what the program is started through
	inside  bool     // started in the project's folder, named by a relative path
	mapping string   // QUORATE_MAPPING
}

// account is a user of the suite's own.
type account struct {
	name     string
	uid, gid int
}

var accounts sync.Mutex

// newAccount makes a user with a range of subordinate ids, for the test's time.
func newAccount(t *testing.T, name string) *account {
	t.Helper()
	accounts.Lock() // useradd and userdel wait for each other only for some seconds
	defer accounts.Unlock()
	if _, err := user.Lookup(name); err == nil {
		must(t, tool(t, "userdel"), name) // left by a run that was killed
	}
	must(t, tool(t, "useradd"), "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/sh", "--add-subids-for-system", name)
	t.Cleanup(func() {
		accounts.Lock()
		defer accounts.Unlock()
		// A build leaves the removal of many files to a process of its own, which may go on.
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
			out, err := exec.Command(tool(t, "userdel"), name).CombinedOutput()
			if err == nil {
				return
			}
			if !strings.Contains(string(out), "currently used by process") || time.Now().After(deadline) {
				t.Errorf("userdel %s: %v\n%s", name, err, out)
				return
			}
		}
	})
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return &account{name, uid, gid}
}

// builtIn is what a build in other surroundings gave.
type builtIn struct {
	command
	digest, archive string
	dir             string
}

// buildIn builds a locked project with a store of its own, which holds the
// locked packages and nothing else, in the given surroundings.
func (w *world) buildIn(t *testing.T, e *example, s surroundings, args ...string) builtIn {
	t.Helper()
	b := w.tryIn(t, e, s, args...)
	if b.code != 0 {
		t.Fatalf("%s: quorate build: exit code %d\n%s", s.name, b.code, b.stderr)
	}
	b.digest = lastDigest(t, b.command)
	return b
}

func (w *world) tryIn(t *testing.T, e *example, s surroundings, args ...string) builtIn {
	t.Helper()
	b := w.settleIn(t, e, s)
	b.command = w.buildAgain(t, b, s, args...)
	return b
}

// settleIn brings a locked project, and a store that holds what is locked and
// nothing else, to the given surroundings.
func (w *world) settleIn(t *testing.T, e *example, s surroundings) builtIn {
	t.Helper()
	if s.under == "" {
		s.under = enterable(t)
	}
	b := builtIn{dir: filepath.Join(s.under, s.name)}
	project := filepath.Join(b.dir, "project")
	if err := os.CopyFS(project, os.DirFS(e.project)); err != nil {
		t.Fatal(err)
	}
	w.seed(t, filepath.Join(b.dir, "store"), readLock(t, e.project))
	for _, d := range []string{"home", "tmp"} {
		if err := os.Mkdir(filepath.Join(b.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if s.user != nil {
		must(t, "chown", "-R", fmt.Sprintf("%d:%d", s.user.uid, s.user.gid), b.dir)
	}
	b.archive = filepath.Join(b.dir, "oci.tar")
	return b
}

// buildAgain builds where buildIn did, with whatever its store holds by now.
func (w *world) buildAgain(t *testing.T, b builtIn, s surroundings, args ...string) command {
	t.Helper()
	return w.runIn(t, b, s, "build", append([]string{"--offline", "--output", "oci-archive=" + b.archive}, args...)...)
}

// runIn runs a verb on the project in its surroundings.
func (w *world) runIn(t *testing.T, b builtIn, s surroundings, verb string, args ...string) command {
	t.Helper()
	project := filepath.Join(b.dir, "project")
	argv := append(append([]string{}, s.wrap...), w.quorate, verb, project)
	if s.inside {
		argv[len(argv)-1] = "../project/."
	}
	ctx, cancel := context.WithTimeout(context.Background(), toolTime)
	defer cancel()
	argv = append(argv, args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = s.env
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(b.dir, "home"), "LC_ALL=C", "TMPDIR=" + filepath.Join(b.dir, "tmp")}
	}
	cmd.Env = append(cmd.Env, "QUORATE_STORE="+filepath.Join(b.dir, "store"), "QUORATE_MAPPING="+s.mapping)
	if s.inside {
		cmd.Dir = project
	} else {
		cmd.Dir = "/"
	}
	return run(t, cmd)
}

// seed makes a store that holds a lock's packages and pins, and nothing derived from them.
func (w *world) seed(t *testing.T, dir string, lock *lockfile.Lock) {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	locked := map[string]bool{}
	for _, p := range lock.Platforms {
		for _, pin := range p.Packages {
			locked[pin.SHA256.Hex()] = true
		}
	}
	for _, pin := range lock.Pins {
		locked[pin.SHA256.Hex()] = true
	}
	for name := range locked {
		if err := copyFile(filepath.Join(blobs, name), filepath.Join(w.store, "blobs", "sha256", name)); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// testSurroundings builds greeter where everything is different at once: user,
// mapping of ids, umask, time zone, locale, home, TMPDIR, file system, CPUs,
// GOMAXPROCS, host name, working folder, path of the project, order of the
// environment, standard input, kernel release, address layout. Then it has
// diffoscope look for what digests might hide.
func (w *world) testSurroundings(t *testing.T) {
	e := w.example(t, "greeter")
	other := w.elsewhere(t, 0)
	plain := surroundings{name: "plain"}
	a := w.buildIn(t, e, plain)
	b := w.buildIn(t, e, other)
	if a.digest != b.digest || a.digest != e.digest {
		t.Errorf("plain %s, elsewhere %s, expected %s", a.digest, b.digest, e.digest)
	}
	if warm := lastDigest(t, w.buildAgain(t, a, plain)); warm != a.digest {
		t.Errorf("from a warm store %s, expected %s", warm, a.digest)
	}
	if err := os.RemoveAll(filepath.Join(a.dir, "store", "notes")); err != nil {
		t.Fatal(err)
	}
	if warm := lastDigest(t, w.buildAgain(t, a, plain)); warm != a.digest {
		t.Errorf("from a store that lost its notes %s, expected %s", warm, a.digest)
	}
	if c := run(t, exec.Command(tool(t, "diffoscope"), "--text", "-", a.archive, b.archive)); c.code != 0 || c.stdout != "" {
		t.Errorf("diffoscope: exit code %d\n%.4000s%s", c.code, c.stdout, c.stderr)
	}
	t.Run("single", w.testSingleMapping)
}

// elsewhere are surroundings as unlike a plain root shell as one machine can make them;
// several, by number, may be in use at once.
func (w *world) elsewhere(t *testing.T, number int) surroundings {
	t.Helper()
	u := newAccount(t, fmt.Sprintf("quorate-real%d", number))
	shm, err := os.MkdirTemp("/dev/shm", "quorate real, ") // a tmpfs, and a path that wants quoting
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, shm) })
	if err := os.Chmod(shm, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(shm, "elsewhere")
	script := `hostname other.example.org; umask 077; exec setpriv --reuid=` + u.name + ` --regid=` + strconv.Itoa(u.gid) + ` --init-groups ` +
		`setarch --addr-no-randomize --uname-2.6 taskset --cpu-list ` + strconv.Itoa(number%runtime.NumCPU()) + ` "$@" </dev/zero`
	return surroundings{
		name: "elsewhere", user: u, under: shm, inside: true,
		wrap: []string{"unshare", "--uts", "sh", "-euc", script, "sh"},
		env: []string{
			"ZZZ=last first", "GOMAXPROCS=1", "LC_TIME=tr_TR.UTF-8", "LANGUAGE=de", "LANG=de_DE.UTF-8", "TZ=Asia/Kolkata",
			"TMPDIR=" + filepath.Join(dir, "tmp"), "HOME=" + filepath.Join(dir, "home"), "USER=somebody", "SOURCE_DATE_EPOCH=1",
			"GOGC=20", "PATH=" + os.Getenv("PATH"), "TAR_OPTIONS=--numeric-owner", "GZIP=-1", "CFLAGS=-O0", "MAKEFLAGS=-j9", "DEBIAN_FRONTEND=readline",
		},
	}
}

// withOneID are surroundings of a user without subordinate ids.
func withOneID(t *testing.T) surroundings {
	t.Helper()
	u := newAccount(t, "quorate-single")
	return surroundings{name: "single", user: u, mapping: "single", wrap: []string{"setpriv", "--reuid=" + u.name, "--regid=" + strconv.Itoa(u.gid), "--clear-groups"}}
}

// testSingleMapping builds with a single id: what runs no maintainer scripts
// in the image has the same digest; what does is the same or refused with a
// reason, never another image.
func (w *world) testSingleMapping(t *testing.T) {
	none := w.define(t, "single", `
apiVersion: quorate/v1
name: single
platforms: [linux/amd64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
steps:
  - name: embed
    run: |
      mkdir -p $OUT/srv
      id >$OUT/srv/id
      cp -a /etc $OUT/srv/etc
      tar -c --sort=name -f $OUT/srv/etc.tar /etc # what scripts left, with its times
      install -o 0 -g 0 -m 4750 /bin/true $OUT/srv/true
      chgrp 8 $OUT/srv/id
image:
  packages: [libc6, ca-certificates, tzdata]
  scripts: none
  copy:
    - {from: embed, to: /}
`)
	want := w.build(t, none.project)
	single := withOneID(t)
	if got := w.buildIn(t, none, single); got.digest != want {
		t.Errorf("without scripts: %s with a single id, expected %s", got.digest, want)
	}
	for _, name := range []string{"greeter", "base"} {
		e := w.example(t, name)
		got := w.tryIn(t, e, single)
		switch {
		case got.code == 0 && lastDigest(t, got.command) != e.digest:
			t.Errorf("%s: %s with a single id, expected %s", name, got.stdout, e.digest)
		case got.code == 0:
			t.Logf("%s: the same digest with a single id", name)
		case got.code != 2 || !strings.Contains(got.stderr, "owner"):
			t.Errorf("%s: exit code %d with a single id\n%s", name, got.code, got.stderr)
		default:
			t.Logf("%s: refused with a single id:\n%s", name, got.stderr)
		}
	}
}
