package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/host"
)

// reasonOf runs a team and returns what became of osl, and why.
func reasonOf(t *testing.T, x *team) (agreement.Result, string) {
	t.Helper()
	out, err := Run(t.Context(), x.options)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range out.Verdict.Outcomes {
		if o.Rebuilder == "osl" {
			return o.Result, o.Reason
		}
	}
	t.Fatal("osl has no outcome")
	return "", ""
}

// TestOnlyWhatWasCommittedCounts has osl tell something else than it committed to.
func TestOnlyWhatWasCommittedCounts(t *testing.T) {
	const other = "its report is not the one that it committed to before others told theirs"
	for _, test := range []struct {
		summary string
		change  func(x *team)
		want    string
	}{
		{"no commitment", func(x *team) { x.fakes[1].hasty = true }, "it told its answer without having committed to it before"},
		{"another's answer, signed as its own", func(x *team) {
			// It waits for what the others say, and reports that.
			x.fakes[1].late = func(job host.Job, r *host.Result) error {
				honest := &fake{key: x.fakes[1].key, builds: "same"}
				job.Reveal = func(context.Context, digest.Digest) error { return nil }
				job.Results = t.TempDir()
				copied, err := honest.Start(t.Context(), job, func(host.Event) {})
				r.ReportEnvelope = copied.ReportEnvelope
				return err
			}
			x.fakes[1].builds = "nothing"
		}, other},
		{"another salt", func(x *team) {
			x.fakes[1].late = func(_ host.Job, r *host.Result) error { r.Salt = make([]byte, host.SaltSize); return nil }
		}, other},
		{"no salt", func(x *team) {
			x.fakes[1].after = func(_ host.Job, r *host.Result) { r.Salt = nil }
		}, other},
	} {
		t.Run(test.summary, func(t *testing.T) {
			x := newTeam(t)
			test.change(x)
			if result, reason := reasonOf(t, x); result != agreement.Errs || reason != test.want {
				t.Errorf("osl: %s %q, want %q", result, reason, test.want)
			}
		})
	}
}

// TestNobodyTellsBeforeAllCommitted watches the order of three rebuilders that share
// two places, one of which fails.
func TestNobodyTellsBeforeAllCommitted(t *testing.T) {
	x := newTeam(t)
	var mu sync.Mutex
	var order []string
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, s)
	}
	for i, f := range x.fakes {
		f.before = func(context.Context, host.Job) error {
			time.Sleep(time.Duration(i) * 20 * time.Millisecond)
			return nil
		}
		f.after = func(host.Job, *host.Result) { note("commit") }
		f.late = func(host.Job, *host.Result) error { note("tell"); return nil }
	}
	x.fakes[2].before = func(context.Context, host.Job) error {
		time.Sleep(50 * time.Millisecond)
		note("fail")
		return &host.WorkerError{Message: "no"}
	}
	out, err := Run(t.Context(), x.options)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); len(order) != 5 || !strings.HasSuffix(got, " tell tell") {
		t.Errorf("order is %q", got)
	}
	for _, o := range out.Verdict.Outcomes {
		if (o.Result == agreement.Agrees) == o.Committed.IsZero() {
			t.Errorf("%s committed at %s", o.Rebuilder, o.Committed)
		}
	}
	// What was signed tells when, too.
	bundle, err := os.ReadFile(out.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := attestation.OpenBundle(bundle, x.options.Policy)
	if err != nil {
		t.Fatal(err)
	}
	committed := 0
	for _, r := range opened.Signed.Results {
		if !r.Committed.IsZero() {
			committed++
		}
	}
	if committed != 2 {
		t.Errorf("the agreement tells of %d commitments, want 2", committed)
	}
	raw, err := os.ReadFile(filepath.Join(out.Results, "verdict.json"))
	if err != nil {
		t.Fatal(err)
	}
	var verdict Summary
	if err := json.Unmarshal(raw, &verdict); err != nil || verdict.Rebuilders[0].CommittedAt == "" {
		t.Errorf("verdict.json: %v, %+v", err, verdict.Rebuilders)
	}
}

// TestLostAfterTelling: a worker that is lost when others have told is not asked again.
func TestLostAfterTelling(t *testing.T) {
	x := newTeam(t)
	x.fakes[1].late = func(host.Job, *host.Result) error { return &host.LostError{How: "killed"} }
	result, reason := reasonOf(t, x)
	if result != agreement.Errs || reason != "worker was lost: killed; it is not asked again, since others have told their answers" {
		t.Errorf("osl: %s %q", result, reason)
	}
	if n := len(x.fakes[1].started); n != 1 {
		t.Errorf("osl was asked %d times", n)
	}
}

// TestLostWhileWaiting: a worker that is lost after its commitment, while others still
// build, is asked again, and everybody waits for the second commitment.
func TestLostWhileWaiting(t *testing.T) {
	x := newTeam(t)
	again := make(chan struct{})
	x.fakes[0].before = func(context.Context, host.Job) error { <-again; return nil }
	osl := &impatient{fake: x.fakes[1], again: again}
	x.options.Rebuilders[1].Host = osl
	if result, reason := reasonOf(t, x); result != agreement.Agrees {
		t.Errorf("osl: %s %q", result, reason)
	}
	if n := len(x.fakes[1].started); n != 2 {
		t.Errorf("osl was asked %d times, want 2", n)
	}
}

// impatient is lost after its first commitment.
type impatient struct {
	*fake
	again chan struct{}
}

func (h *impatient) Start(ctx context.Context, job host.Job, events func(host.Event)) (host.Result, error) {
	if job.Attempt > 1 {
		close(h.again)
		return h.fake.Start(ctx, job, events)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := h.fake.Start(ctx, job, events); !errors.Is(err, context.DeadlineExceeded) {
		return host.Result{}, err
	}
	return host.Result{}, &host.LostError{How: "killed"}
}

// unreachable is an error of a host that is down.
type unreachable struct{ passes bool }

func (e *unreachable) Error() string { return "cannot be reached" }
func (e *unreachable) MayPass() bool { return e.passes }

func TestAttempts(t *testing.T) {
	for _, test := range []struct {
		summary string
		failure error // of the first attempts
		times   int
		want    int // attempts
		result  agreement.Result
	}{
		{"down for a moment", &unreachable{true}, 2, 3, agreement.Agrees},
		{"down", &unreachable{true}, 9, 3, agreement.Errs},
		{"refused", &unreachable{false}, 9, 1, agreement.Errs},
		{"disk full once", &host.WorkerError{Message: "cannot write: no space left on device"}, 1, 2, agreement.Agrees},
		{"disk full", &host.WorkerError{Message: "cannot write: no space left on device"}, 9, 2, agreement.Errs},
		{"killed", &host.LostError{How: "killed"}, 9, 2, agreement.Errs},
		{"no", &host.WorkerError{Message: "no such package"}, 9, 1, agreement.Errs},
		{"nonsense", &host.ProtocolError{Reason: "x"}, 9, 1, agreement.Errs},
		{"slow", &host.TimeoutError{After: time.Second}, 9, 1, agreement.TimesOut},
	} {
		t.Run(test.summary, func(t *testing.T) {
			x := newTeam(t)
			x.fakes[1].before = func(_ context.Context, job host.Job) error {
				if job.Attempt <= test.times {
					return test.failure
				}
				return nil
			}
			if result, reason := reasonOf(t, x); result != test.result {
				t.Errorf("osl: %s %q, want %s", result, reason, test.result)
			}
			if n := len(x.fakes[1].started); n != test.want {
				t.Errorf("osl was asked %d times, want %d", n, test.want)
			}
		})
	}
}

// TestTimes: the build that a report tells of lies within the request, as far as clocks are right.
func TestTimes(t *testing.T) {
	for _, test := range []struct {
		summary string
		off     time.Duration
		want    string // part of the reason; "" for agreement
	}{
		{"four minutes slow", -4 * time.Minute, ""},
		{"four minutes fast", 4 * time.Minute, ""},
		{"a day slow, or an old report", -24 * time.Hour, "its clock is 24h0m0s behind, or the report is an old one; set that machine's clock"},
		{"a day fast", 24 * time.Hour, "its clock is 24h0m0s ahead"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			x := newTeam(t)
			x.fakes[1].spoil = func(r *attestation.BuildRecord) {
				r.Started, r.Finished = r.Started.Add(test.off), r.Finished.Add(test.off)
			}
			result, reason := reasonOf(t, x)
			if (result == agreement.Agrees) != (test.want == "") || !strings.Contains(reason, test.want) {
				t.Errorf("osl: %s %q, want %q", result, reason, test.want)
			}
		})
	}
}

// TestPlacesAreOfMachines: rebuilders on other machines do not wait for those on this one.
func TestPlacesAreOfMachines(t *testing.T) {
	x := newTeam(t)
	x.options.Parallel = 1
	var all sync.WaitGroup
	all.Add(3)
	for i, f := range x.fakes {
		x.options.Rebuilders[i].Machine = []string{"", "ams", "osl"}[i]
		f.before = func(context.Context, host.Job) error { all.Done(); all.Wait(); return nil } // for ever, if one waits
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := Run(ctx, x.options); err != nil {
		t.Fatal(err)
	}
}
