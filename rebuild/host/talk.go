package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"quorate.dev/lockfile/digest"
)

// RevealTime is how long a worker may take to hand over its answer once it was
// asked for: one line, over whatever lies between.
const RevealTime = 5 * time.Minute

// Talk is a host's side of the talk with one worker: what goes to its standard
// input, what comes from its standard output and error, and how long it has.
//
//	talk, err := host.NewTalk(ctx, job, events)
//	// start a worker with talk.Input() as standard input, talk as standard output and
//	// talk.Log as standard error; kill it when talk.Context() is done
//	talk.Begin()
//	// wait for its end
//	result, err := talk.End(how)
//
// The job's timeout runs from Begin to the worker's commitment; waiting for
// others is not its fault. Then RevealTime runs from the moment it is asked.
type Talk struct {
	Log io.Writer // takes the worker's standard error

	job      Job
	listener *Listener
	log      *Log
	parent   context.Context
	ctx      context.Context
	cancel   context.CancelCauseFunc
	in       io.Reader
	words    *io.PipeWriter // what follows the job on standard input

	mu     sync.Mutex
	timer  *time.Timer
	asking sync.WaitGroup
}

// NewTalk begins a talk, and the log in the job's Results folder.
func NewTalk(ctx context.Context, job Job, events func(Event)) (*Talk, error) {
	in, err := json.Marshal(job)
	if err != nil {
		return nil, fmt.Errorf("cannot write the job: %w", err)
	}
	t := &Talk{job: job, parent: ctx, listener: NewListener(events)}
	if t.log, err = NewLog(filepath.Join(job.Results, "log")); err != nil {
		return nil, err
	}
	t.Log = &boundedLog{talk: t}
	t.listener.commit = t.committed
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	var more *io.PipeReader
	more, t.words = io.Pipe()
	t.in = io.MultiReader(bytes.NewReader(append(in, '\n')), more)
	context.AfterFunc(t.ctx, func() { t.words.Close() }) // a worker that waits for a word ends by itself
	return t, nil
}

// Input is what the worker's standard input is to be. It ends with End.
func (t *Talk) Input() io.Reader { return t.in }

// Context is done when the worker must end.
func (t *Talk) Context() context.Context { return t.ctx }

// Begin says that the worker runs.
func (t *Talk) Begin() { t.within(t.job.Timeout) }

// within gives the worker so long from now; 0 for as long as it likes.
func (t *Talk) within(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	if d > 0 {
		t.timer = time.AfterFunc(d, func() { t.cancel(&TimeoutError{After: d}) })
	}
}

// Write takes what the worker says. It never fails, so that what it says after a
// mistake does not hold up its end.
func (t *Talk) Write(b []byte) (int, error) {
	if _, err := t.listener.Write(b); err != nil {
		t.cancel(err)
	}
	return len(b), nil
}

// committed asks whoever wants the answer, and then the worker for it.
func (t *Talk) committed(d digest.Digest) {
	t.within(0)
	t.asking.Go(func() {
		if t.job.Reveal != nil {
			if err := t.job.Reveal(t.ctx, d); err != nil {
				t.cancel(err)
				return
			}
		}
		t.listener.revealed.Store(true)
		t.within(RevealTime)
		_, _ = io.WriteString(t.words, revealWord+"\n") // a worker that reads no more says why itself
	})
}

// End ends the talk after the worker has ended: how is "" if it ended by itself
// with exit code 0, and otherwise says how. The error is one of Host's.
func (t *Talk) End(how string) (Result, error) {
	cause := context.Cause(t.ctx) // before we end it
	t.within(0)
	t.cancel(errEnded)
	t.asking.Wait()
	if err := t.log.Close(); err != nil {
		return Result{}, err
	}
	switch {
	case t.listener.Broken() != nil: // it was ended because of that
		return Result{}, t.listener.Broken()
	case t.parent.Err() != nil:
		return Result{}, context.Cause(t.parent)
	case cause != nil:
		return Result{}, cause
	}
	return t.listener.End(how, t.log.Tail())
}

// errEnded ends what still goes on for a worker that has ended.
var errEnded = errors.New("the worker has ended")

// Tail is the end of the worker's log.
func (t *Talk) Tail() string { return t.log.Tail() }

// maxLogged bounds what a worker may write to its standard error at all, kept or
// not: many times what is kept. One that writes without end is ended.
const maxLogged = 16 * maxLog

// boundedLog keeps the log, and ends a worker that never stops writing it.
type boundedLog struct {
	talk  *Talk
	total int64
}

func (b *boundedLog) Write(p []byte) (int, error) {
	if b.total += int64(len(p)); b.total > maxLogged {
		b.talk.cancel(&ProtocolError{Reason: fmt.Sprintf("more than %d bytes of log", int64(maxLogged))})
		return len(p), nil
	}
	return b.talk.log.Write(p)
}
