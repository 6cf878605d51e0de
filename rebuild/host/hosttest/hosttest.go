// Package hosttest is the suite that every host passes.
//
// The test binary itself is the worker: TestMain calls [Main], which does what
// the job's definition names when the binary is started with the verb "worker",
// and [Run] starts such workers on the host under test.
//
//	func TestMain(m *testing.M) { hosttest.Main(); os.Exit(m.Run()) }
//
//	func TestHost(t *testing.T) {
//		hosttest.Run(t, func(t *testing.T) hosttest.Place { … })
//	}
package hosttest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
)

// Place is a host under test.
type Place struct {
	Host host.Host
	// Left names processes and folders of workers that are still there.
	Left func() []string
}

// grandchild is the argument that makes the test binary sleep as a process that a worker left.
const grandchild = "hosttest-grandchild"

// Main is the fake worker; it returns when the process is not one.
func Main() {
	if len(os.Args) == 2 && os.Args[1] == grandchild {
		time.Sleep(time.Minute)
		os.Exit(0)
	}
	if len(os.Args) != 2 || os.Args[1] != "worker" {
		return
	}
	in := bufio.NewReader(os.Stdin)
	job, err := host.ReadJob(in)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(work(job, in, host.NewSpeaker(os.Stdout)))
}

// The things that a fake worker does, as the job's definition.
const (
	doOK         = "ok"
	doError      = "error"
	doCrash      = "crash"      // killed by SIGKILL in the middle
	doExit       = "exit"       // exit code 3, a word in the log
	doHang       = "hang"       // for ever, deaf to SIGTERM
	doGarbage    = "garbage"    // then goes on
	doHuge       = "huge"       // one endless line
	doSilent     = "silent"     // exit code 0, no result
	doFamily     = "family"     // leaves processes, then ends well
	doHangFamily = "hangfamily" // leaves processes, then hangs
	doFlood      = "flood"      // a log without end
	doBlurt      = "blurt"      // its result without a commitment
	doHasty      = "hasty"      // its result before it is asked for it
	doTwice      = "twice"      // commits twice
	doNoLists    = "nolists"    // a worker of an older version
	doBadLists   = "badlists"   // among a good list things that are none
	doLargeList  = "largelist"  // and one larger than any may be
	doManyLists  = "manylists"  // more than any worker has
	doLinkLists  = "linklists"  // a link in the place of the folder
)

func work(job host.Job, in *bufio.Reader, say *host.Speaker) int {
	_ = os.WriteFile(filepath.Join(job.WorkDir, "junk"), []byte("junk"), 0o400)
	_ = os.MkdirAll(filepath.Join(job.WorkDir, "deep", "er"), 0o755)
	_ = os.Chmod(filepath.Join(job.WorkDir, "deep"), 0o555)
	output := filepath.Join(job.WorkDir, "output")
	fmt.Fprintf(os.Stderr, "log of %s\n%s\n", job.Rebuilder, job.WorkDir)
	_ = say.Event(host.Event{Kind: host.KindPhase, Phase: "step", Name: "compile"})
	switch string(job.Definition) {
	case doError:
		_ = say.Event(host.Event{Kind: host.KindError, Message: "no such package"})
		return 2
	case doCrash:
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		deaf()
	case doExit:
		fmt.Fprintln(os.Stderr, "last words")
		return 3
	case doHang:
		deaf()
	case doGarbage:
		fmt.Println("panic: what now")
		deaf()
	case doHuge:
		for chunk := strings.Repeat("x", 1<<20); ; {
			if _, err := fmt.Print(chunk); err != nil {
				return 1
			}
		}
	case doSilent:
		return 0
	case doFlood:
		for chunk := bytes.Repeat([]byte("x"), 1<<20); ; {
			if _, err := os.Stderr.Write(chunk); err != nil {
				return 1
			}
		}
	case doFamily:
		leave()
	case doHangFamily:
		leave()
		deaf()
	}
	if err := os.Mkdir(output, 0o755); err != nil {
		return 1
	}
	if err := os.WriteFile(filepath.Join(output, "index.json"), []byte("{}"), 0o644); err != nil {
		return 1
	}
	if err := writeLists(job); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if do := string(job.Definition); do != doBlurt {
		_ = say.Commit(committed)
		switch do {
		case doTwice:
			_ = say.Commit(committed)
			deaf()
		case doHasty:
		default:
			if err := host.AwaitReveal(context.Background(), in); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 2
			}
		}
	}
	_ = say.Result(host.Result{ReportEnvelope: []byte(job.Nonce), Salt: []byte("salt"), OutputDir: "/etc",
		Subjects: []host.Subject{{Platform: "linux/amd64", Digest: digest.Of([]byte("x"))}}})
	return 0
}

// list is one that the fake worker makes. A host does not look into it.
var list = []byte("a list")

// writeLists makes the lists of what steps left, and what a hostile worker may put among them.
func writeLists(job host.Job) error {
	dir := filepath.Join(job.WorkDir, host.ListsDir)
	do := string(job.Definition)
	if do == doLinkLists {
		return os.Symlink(filepath.Join(job.WorkDir, "output"), dir)
	}
	if do == doNoLists {
		return nil
	}
	write := func(name string) error { return os.WriteFile(filepath.Join(dir, name), list, 0o644) }
	err := errors.Join(os.Mkdir(dir, 0o755), write(host.ListName(digest.Of(list))))
	name := func(i int) string { return host.ListName(digest.Of(fmt.Append(nil, i))) }
	switch do {
	case doBadLists:
		err = errors.Join(err, write("report"), write(strings.ToUpper(name(1))), os.Mkdir(filepath.Join(dir, "deep"), 0o755), write("deep/"+name(2)),
			os.Symlink("/etc/passwd", filepath.Join(dir, name(3))), os.Symlink(host.ListName(digest.Of(list)), filepath.Join(dir, name(4))))
	case doLargeList:
		err = errors.Join(err, write(name(1)), os.Truncate(filepath.Join(dir, name(1)), host.MaxList+1))
	case doManyLists:
		for i := range host.MaxLists + 10 {
			err = errors.Join(err, write(name(i)))
		}
	}
	return err
}

// committed is the fake worker's commitment. A host passes on whatever it is.
var committed = digest.Of([]byte("commitment"))

// leave starts processes that outlive the worker, in its session and in one of their own.
func leave() {
	for _, detached := range []bool{false, true} {
		c := exec.Command(os.Args[0], grandchild)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr // they hold the worker's pipes open
		if detached {
			detach(c)
		}
		if err := c.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// job is one for the fake worker.
func job(t *testing.T, do string) host.Job {
	dir := t.TempDir()
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // it never fails
	return host.Job{Nonce: hex.EncodeToString(nonce), Attempt: 1, Rebuilder: "osl", Operator: "umbra",
		Definition: []byte(do), KeyFile: filepath.Join(dir, "key"), Results: dir, Timeout: time.Minute}
}

// Run runs the suite.
func Run(t *testing.T, place func(t *testing.T) Place) {
	tests := []struct {
		summary string
		do      string
		timeout time.Duration
		output  bool              // the output is kept
		check   func(error) error // nil: must be well
		hold    bool              // nobody asks it for its answer
	}{
		{summary: "ok", do: doOK, output: true},
		{summary: "worker says no", do: doError, check: func(err error) error {
			if e := (*host.WorkerError)(nil); !errors.As(err, &e) || e.Message != "no such package" {
				return errors.New("want its *WorkerError")
			}
			return nil
		}},
		{summary: "killed", do: doCrash, check: isLost("signal: killed")},
		{summary: "ends without a word", do: doExit, check: isLost("last words")},
		{summary: "hangs", do: doHang, timeout: 500 * time.Millisecond, check: isTimeout},
		{summary: "speaks garbage", do: doGarbage, check: isProtocol},
		{summary: "speaks an endless line", do: doHuge, check: isProtocol},
		{summary: "ends without a result", do: doSilent, check: isProtocol},
		{summary: "logs without end", do: doFlood, check: isProtocol},
		{summary: "tells without a commitment", do: doBlurt, check: isProtocol},
		{summary: "tells before it is asked", do: doHasty, check: isProtocol, hold: true},
		{summary: "commits twice", do: doTwice, check: isProtocol},
		{summary: "leaves processes", do: doFamily, output: true},
		{summary: "leaves processes and hangs", do: doHangFamily, timeout: 500 * time.Millisecond, check: isTimeout},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			t.Parallel() // several workers of one host at once is the usual case
			p := place(t)
			j := job(t, test.do)
			if test.timeout != 0 {
				j.Timeout = test.timeout
			}
			if test.hold {
				j.Reveal = func(ctx context.Context, _ digest.Digest) error {
					<-ctx.Done()
					return ctx.Err()
				}
			}
			result, err := p.Host.Start(t.Context(), j, nil)
			switch {
			case test.check == nil && err != nil:
				t.Fatalf("got error %v", err)
			case test.check != nil && err == nil:
				t.Fatal("got no error")
			case test.check != nil:
				if wrong := test.check(err); wrong != nil {
					t.Errorf("got %T %v: %v", err, err, wrong)
				}
			case string(result.ReportEnvelope) != j.Nonce:
				t.Errorf("got report %q", result.ReportEnvelope)
			case result.OutputDir != filepath.Join(j.Results, "image"):
				t.Errorf("got output in %q", result.OutputDir)
			}
			if _, err := os.Stat(filepath.Join(j.Results, "image", "index.json")); (err == nil) != test.output {
				t.Errorf("output kept: %v, want %v", err == nil, test.output)
			}
			if log, _ := os.ReadFile(filepath.Join(j.Results, "log")); !strings.HasPrefix(string(log), "log of osl\n") {
				t.Errorf("log is %.200q", log)
			}
			noneLeft(t, p)
		})
	}
	t.Run("cancelled", func(t *testing.T) { cancelled(t, place(t)) })
	t.Run("cancelled before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p := place(t)
		if _, err := p.Host.Start(ctx, job(t, doOK), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		noneLeft(t, p)
	})
	for _, test := range []struct {
		do          string
		least, most int    // lists that are kept
		warning     string // a part of it; "" for none
	}{
		{doOK, 1, 1, ""},
		{doNoLists, 0, 0, ""},
		{doBadLists, 1, 1, " lists of what its steps left are not kept; the first: "},
		{doLargeList, 0, 1, "a list of what its steps left is not kept: "}, // it may come first
		{doManyLists, host.MaxLists, host.MaxLists, "a list of what its steps left is not kept: there are more than 1000 of them"},
		{doLinkLists, 0, 0, "a list of what its steps left is not kept: "},
	} {
		t.Run("lists of "+test.do, func(t *testing.T) {
			t.Parallel()
			lists(t, place(t), test.do, test.least, test.most, test.warning)
		})
	}
	t.Run("reveal", func(t *testing.T) { reveal(t, place(t)) })
	t.Run("reveal refused", func(t *testing.T) { revealRefused(t, place(t)) })
	t.Run("several at once", func(t *testing.T) { several(t, place(t)) })
}

// lists holds what is kept against what the fake worker made: only files with the
// names of lists, and warnings for the rest, which cost no answer.
func lists(t *testing.T, p Place, do string, least, most int, warning string) {
	j := job(t, do)
	var warnings []string
	r, err := p.Host.Start(t.Context(), j, func(e host.Event) {
		if e.Kind == host.KindWarning && strings.Contains(e.Message, "of what its steps left") {
			warnings = append(warnings, e.Message)
		}
	})
	if err != nil || string(r.ReportEnvelope) != j.Nonce {
		t.Fatalf("got %q, %v", r.ReportEnvelope, err)
	}
	found, err := os.ReadDir(filepath.Join(j.Results, host.ListsDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, d := range found {
		b, err := os.ReadFile(filepath.Join(j.Results, host.ListsDir, d.Name()))
		if err != nil || !bytes.Equal(b, list) || !host.IsListName(d.Name()) || !d.Type().IsRegular() {
			t.Errorf("kept %q with %.20q, %v", d, b, err)
		}
	}
	if n := len(found); n < least || n > most {
		t.Errorf("kept %d lists, want %d to %d", n, least, most)
	}
	if said := strings.Join(warnings, "\n"); len(warnings) > 1 || (said == "") != (warning == "") || !strings.Contains(said, warning) {
		t.Errorf("warned %q, want %q", said, warning)
	}
	noneLeft(t, p)
}

func cancelled(t *testing.T, p Place) {
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	_, err := p.Host.Start(ctx, job(t, doHangFamily), func(e host.Event) {
		if e.Phase == "step" {
			cancel(why)
		}
	})
	if !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	noneLeft(t, p)
}

// reveal holds a worker that has committed longer than its timeout, which no longer
// runs, and then asks it.
func reveal(t *testing.T, p Place) {
	j := job(t, doOK)
	j.Timeout = 5 * time.Second
	var heard digest.Digest
	var asked time.Time
	j.Reveal = func(ctx context.Context, d digest.Digest) error {
		heard = d
		if _, err := os.Stat(filepath.Join(j.Results, "image")); err == nil {
			t.Error("what was built is here before it was asked for")
		}
		select {
		case <-ctx.Done():
			t.Errorf("the worker did not wait: %v", context.Cause(ctx))
		case <-time.After(j.Timeout + time.Second):
		}
		asked = time.Now()
		return nil
	}
	r, err := p.Host.Start(t.Context(), j, nil)
	switch {
	case err != nil:
		t.Error(err)
	case heard != committed:
		t.Errorf("heard the commitment %s, want %s", heard, committed)
	case asked.IsZero() || string(r.Salt) != "salt":
		t.Errorf("got %+v, asked at %s", r, asked)
	}
	noneLeft(t, p)
}

// revealRefused never asks.
func revealRefused(t *testing.T, p Place) {
	why := errors.New("not to be told")
	j := job(t, doOK)
	j.Reveal = func(context.Context, digest.Digest) error { return why }
	if _, err := p.Host.Start(t.Context(), j, nil); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
	if _, err := os.Stat(filepath.Join(j.Results, "image")); err == nil {
		t.Error("what was built is here although it was not asked for")
	}
	noneLeft(t, p)
}

func several(t *testing.T, p Place) {
	var all sync.WaitGroup
	var events atomic.Int64
	for range 4 {
		j := job(t, doOK)
		all.Go(func() {
			if _, err := p.Host.Start(t.Context(), j, func(e host.Event) {
				if e.Phase == "step" { // a host may have words of its own
					events.Add(1)
				}
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := events.Load(); n != 4 {
		t.Errorf("got %d events, want one of each worker", n)
	}
	noneLeft(t, p)
}

func noneLeft(t *testing.T, p Place) {
	t.Helper()
	if left := p.Left(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func isTimeout(err error) error {
	if e := (*host.TimeoutError)(nil); !errors.As(err, &e) || !errors.Is(err, context.DeadlineExceeded) {
		return errors.New("want a *TimeoutError")
	}
	return nil
}

func isProtocol(err error) error {
	if e := (*host.ProtocolError)(nil); !errors.As(err, &e) {
		return errors.New("want a *ProtocolError")
	}
	return nil
}

func isLost(part string) func(error) error {
	return func(err error) error {
		if e := (*host.LostError)(nil); !errors.As(err, &e) || !strings.Contains(err.Error(), part) {
			return fmt.Errorf("want a *LostError with %q", part)
		}
		return nil
	}
}
