// Package remote starts workers on somebody else's machine: it asks a service
// that an operator runs there (`quorate serve`, package rebuild/serve).
//
//	h := &remote.Host{Endpoint: "https://osl.example:7443", TLS: "osl/"}
//	result, err := h.Start(ctx, job, events)
//
// # Why a service
//
// Whoever has the socket of a Docker Engine owns its machine, and the key that
// its workers sign with. So an operator who lends an engine lends their name.
// A service is the other way round: its operator decides who may ask, and for
// what, the key stays there, the inputs of the lock are fetched there from
// mirrors of their own, and what comes back is a signed report that says so.
//
// # The line
//
// HTTPS with TLS 1.3 and certificates on both sides; TLS is a folder with
//
//	ca.pem      what the service's certificate is checked against: its own, or its CA's
//	cert.pem    ours, which the service's operator has enrolled
//	key.pem     its private key
//
// Bodies are JSON or bytes of a file. Every answer that is an error is a [Refusal].
//
//	GET    /v1/about                                  who is there ([About])
//	GET    /v1/jobs                                   our own jobs (a list of [Status])
//	PUT    /v1/jobs/ID                                a [Request]; the answer is a [Status]
//	GET    /v1/jobs/ID                                its [Status]; with ?lists=1 its files have the lists of what steps left
//	PUT    /v1/jobs/ID/inputs/DIGEST?offset=N         an archive that the status says is missing, from byte N
//	GET    /v1/jobs/ID/events?stream=S&after=N        one [Message] a line, until the job has ended
//	POST   /v1/jobs/ID/reveal                         every other rebuilder has committed to its answer
//	GET    /v1/jobs/ID/files/DIGEST                   a file of the results; ranges work
//	DELETE /v1/jobs/ID                                stops it, and forgets what it made
//
// Lists (host.ListsDir) are told of only to those who ask for them so, because older clients refuse
// files that they do not know. An older service has none, which is no error.
//
// ID is 128 random bits that we choose, so that a submission whose answer was
// lost can be sent again and is the same one. A nonce is good for one job of
// each attempt; the service refuses it ever after.
//
// Events are numbered within a stream, which is one run of the service. After a
// cut we ask for those after the last one we have; if the service was started
// anew, it says another stream and begins at the beginning. A line comes at least
// every [Heartbeat], so that a dead connection is noticed.
//
// A job is told who asked for it ([host.Owner]). The first Start of a process ends those
// of processes that were killed, as no container of theirs stays either.
//
// # What is believed
//
// Nothing. Lines, lists and files have limits; every file is held against its
// digest while it arrives, and only files that the results folder lacks are asked
// for; names stay inside the folder. A report says nothing until it was opened
// with the key that was enrolled before (package attestation).
//
// # When the line is cut
//
// Everything is tried again until nothing was heard for Host.Patience, and goes
// on where it stopped. What is tried again is harmless twice. A service that was
// killed says "lost" of the jobs that it was running, which is a host.LostError:
// the orchestrator asks again, as another attempt.
package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"quorate.dev/builder/store"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
)

const (
	// Heartbeat is how often a service says something on a line of events.
	Heartbeat = 10 * time.Second
	// defaultPatience outlasts a restart of the service or of a router.
	defaultPatience = 3 * time.Minute
	// connectTime is for the first contact: a service that is just being started anew. Who
	// orchestrates asks again.
	connectTime = 5 * time.Second
	// defaultQueueTime is how long we stand before a full queue.
	defaultQueueTime = 30 * time.Minute
	// leaveTime is for saying that a job is not wanted any more, which waits until its worker has ended.
	leaveTime = 45 * time.Second
	// spareTime is what a service may take, beyond a job's timeout, to end its worker and say so.
	spareTime = 2 * time.Minute
)

// Host has workers started by one service. It may start several at once.
type Host struct {
	Endpoint string // https://HOST:PORT
	TLS      string // folder; see the package comment
	// Patience is how long nothing may be heard of the service; 0 for 3 minutes.
	Patience time.Duration
	// QueueTime is how long a full queue is asked again; 0 for 30 minutes.
	QueueTime time.Duration

	mu     sync.Mutex
	client *http.Client // nil until the first use
	reaped bool         // the jobs of dead runs were ended
}

// Start runs one worker; see host.Host. Errors beside those: *Error. The job's
// timeout counts from the start of the worker, and is the service's to keep.
func (h *Host) Start(ctx context.Context, job host.Job, events func(host.Event)) (host.Result, error) {
	if events == nil {
		events = func(host.Event) {}
	}
	if ctx.Err() != nil {
		return host.Result{}, context.Cause(ctx)
	}
	t, err := h.newTask(job, events)
	if err != nil {
		return host.Result{}, err
	}
	defer t.close()
	h.reap(ctx, t)
	own, cancel := context.WithCancelCause(ctx)
	t.cancel = cancel
	t.waiting, t.hush = context.WithCancel(own)
	result, err := t.run(own)
	if own.Err() != nil {
		err = context.Cause(own)
	}
	cancel(nil)
	t.revealing.Wait()
	t.within(0, 0)
	return result, err
}

// reap ends what processes of this machine asked for that were killed since, once. It may fail:
// then the service forgets them in time.
func (h *Host) reap(ctx context.Context, t *task) {
	h.mu.Lock()
	first := !h.reaped
	h.reaped = true
	h.mu.Unlock()
	var all []Status
	if !first || t.call(ctx, http.MethodGet, "/v1/jobs", nil, &all) != nil {
		return
	}
	me := host.Self()
	for _, s := range all {
		if o, ok := host.ParseOwner(s.Owner); ok && CheckID(s.ID) == nil && o.Gone(me, host.ProcessStart) {
			if err := t.call(ctx, http.MethodDelete, "/v1/jobs/"+s.ID, nil, nil); err != nil {
				t.warn("cannot end the job of an earlier run: %v", err)
			}
		}
	}
}

// over says that the job has ended at the service; nothing can be late, and nobody waits for its answer.
func (t *task) over() {
	t.within(0, 0)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.hush()
}

// fail ends the job, unless it has ended.
func (t *task) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.cancel(err)
	}
}

// within ends the job, as having taken longer than d, when it has not moved on in d
// and what the service may need beside it; 0 for as long as it likes.
func (t *task) within(d, spare time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.late != nil {
		t.late.Stop()
	}
	if d > 0 && !t.ended {
		t.late = time.AfterFunc(d+spare, func() { t.fail(&host.TimeoutError{After: d}) })
	}
}

// task is one job at the service, from its submission until it is forgotten.
type task struct {
	*line
	id        string
	job       host.Job
	events    func(host.Event)
	locals    *store.Store // nil without local inputs
	asked     Request
	submitted bool // the service may know of it
	stream    string
	after     int64 // the last message we have of the stream

	cancel    context.CancelCauseFunc // ends it
	waiting   context.Context         // while its answer may be asked for
	hush      context.CancelFunc      // ends that
	committed *digest.Digest          // nil until the service said so
	revealing sync.WaitGroup

	mu    sync.Mutex
	ended bool        // at the service
	late  *time.Timer // ends a job whose service does not; nil while nothing is to be late
}

func (h *Host) newTask(job host.Job, events func(host.Event)) (*task, error) {
	l, err := h.line(job.Rebuilder)
	if err != nil {
		return nil, err
	}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("cannot make a job id: %w", err)
	}
	t := &task{line: l, id: hex.EncodeToString(random[:]), job: job, events: events}
	t.asked = Request{
		Nonce: job.Nonce, Attempt: job.Attempt, Rebuilder: job.Rebuilder, Operator: job.Operator, BuilderID: job.BuilderID,
		Owner: host.Self().String(), Definition: job.Definition, Lock: job.Lock, Platforms: job.Platforms, Timeout: job.Timeout, Surroundings: portable(job.Surroundings),
	}
	if err := t.openLocals(); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// openLocals finds the archives of local inputs, which the service cannot fetch.
func (t *task) openLocals() error {
	if len(t.job.Locals) == 0 {
		return nil
	}
	var err error
	if t.locals, err = store.Open(t.job.InputStore, store.Options{ReadOnly: true}); err != nil {
		return err
	}
	t.asked.Locals = map[string]Local{}
	for name, l := range t.job.Locals {
		path, ok := t.locals.Path(l.Archive)
		if !ok {
			return fmt.Errorf("cannot send input %q: the store does not have it", name)
		}
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("cannot send input %q: %w", name, err)
		}
		t.asked.Locals[name] = Local{Local: l, Size: info.Size()}
	}
	return nil
}

func (t *task) close() error {
	if t.locals == nil {
		return nil
	}
	return t.locals.Close()
}

// run is a job from top to bottom. However it ends, the service is told to forget it.
func (t *task) run(ctx context.Context) (host.Result, error) {
	defer t.leave(ctx)
	status, err := t.submit(ctx)
	if err != nil {
		return host.Result{}, err
	}
	if err := t.send(ctx, status); err != nil {
		return host.Result{}, err
	}
	if status, err = t.follow(ctx); err != nil {
		return host.Result{}, err
	}
	t.over()
	return t.take(ctx, status.Ending)
}

// leave tells the service that the job is not wanted any more, also when ctx has
// ended. It returns when the worker has ended there, or after leaveTime.
func (t *task) leave(ctx context.Context) {
	if !t.submitted {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	if err := t.call(ctx, http.MethodDelete, t.path(), nil, nil); err != nil {
		var refused *refusedError
		if !errors.As(err, &refused) || refused.Code != CodeNotYours {
			t.warn("cannot say that its job is done with; it is forgotten there in time: %v", err)
		}
	}
}

func (t *task) path() string { return "/v1/jobs/" + t.id }

// warn tells what is slow or went wrong on the way.
func (t *task) warn(format string, args ...any) {
	t.events(host.Event{Kind: host.KindWarning, Message: fmt.Sprintf(format, args...)})
}

// take brings the results, the log first, and says how the job ended.
func (t *task) take(ctx context.Context, end *Ending) (host.Result, error) {
	if f, ok := end.file(FileLog); ok {
		if err := t.fetch(ctx, f, filepath.Join(t.job.Results, "log")); err != nil {
			return host.Result{}, err
		}
	}
	if err := end.err(t.job.Timeout); err != nil {
		if end.Kind == EndFailed || end.Kind == EndStopped {
			err = t.failed("build the job", err)
		}
		return host.Result{}, err
	}
	result := host.Result{Salt: end.Salt, PublicKey: end.PublicKey, Subjects: end.Subjects, OutputDir: filepath.Join(t.job.Results, "image")}
	var err error
	if result.ReportEnvelope, err = t.document(ctx, end, FileReport); err != nil {
		return host.Result{}, err
	}
	if result.LinkEnvelope, err = t.document(ctx, end, FileLink); err != nil {
		return host.Result{}, err
	}
	if err := t.takeImage(ctx, end.Files, result.OutputDir); err != nil {
		return host.Result{}, err
	}
	return result, t.takeLists(ctx, end.Files)
}

// Ask asks the service who it is. rebuilder is for messages.
func (h *Host) Ask(ctx context.Context, rebuilder string) (*About, error) {
	l, err := h.line(rebuilder)
	if err != nil {
		return nil, err
	}
	var a About
	err = l.patiently(ctx, connectTime, func(ctx context.Context) error { return l.call(ctx, http.MethodGet, "/v1/about", nil, &a) })
	if err != nil {
		return nil, l.failed("be reached", err)
	}
	if a.Protocol != Version {
		return nil, l.failed("be used", fmt.Errorf("it speaks version %d of the protocol, and this quorate version %d", a.Protocol, Version))
	}
	return &a, nil
}
