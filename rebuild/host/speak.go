package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"quorate.dev/lockfile/digest"
)

// message is one line of a worker: exactly one of the three.
type message struct {
	Event  *Event         `json:"event,omitempty"`
	Commit *digest.Digest `json:"commit,omitempty"`
	Result *Result        `json:"result,omitempty"`
}

// revealWord is the line that asks a worker for what it committed to.
const revealWord = "reveal"

// Commitment binds a rebuilder to its answer without telling it:
//
//	sha256("quorate commitment v1\n" NONCE "\n" REBUILDER "\n" sha256(report envelope) in hex "\n" salt in hex "\n")
//
// The salt, SaltSize random bytes that come with the answer, keeps others from trying out
// which answers it may stand for.
func Commitment(nonce, rebuilder string, report, salt []byte) digest.Digest {
	return digest.Of(fmt.Appendf(nil, "quorate commitment v1\n%s\n%s\n%s\n%x\n", nonce, rebuilder, digest.Of(report).Hex(), salt))
}

// SaltSize is the number of a salt's bytes: as many as a digest has.
const SaltSize = 32

// AwaitReveal returns when the worker is asked for its answer, on the reader
// that the job came from. The error is ctx's, or that nobody will ask any more.
func AwaitReveal(ctx context.Context, r *bufio.Reader) error {
	asked := make(chan bool, 1)
	go func() {
		line, err := readLine(r, int64(len(revealWord)+2))
		asked <- err == nil && string(line) == revealWord
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case ok := <-asked:
		if !ok {
			return errors.New("nobody asks for what was built: standard input has ended, or says something else")
		}
		return nil
	}
}

// errLong is a line that is longer than it may be.
var errLong = errors.New("line is too long")

// readLine returns the next line without its end, which may be the end of everything.
func readLine(r *bufio.Reader, most int64) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case int64(len(line)) > most:
			return nil, errLong
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && err != io.EOF:
			return nil, err
		}
		return bytes.TrimSuffix(line, []byte("\n")), nil
	}
}

// Speaker writes a worker's lines. It may be used by several goroutines.
type Speaker struct {
	mu sync.Mutex
	w  io.Writer
}

// NewSpeaker returns a Speaker that writes to w, which is the worker's standard output.
func NewSpeaker(w io.Writer) *Speaker { return &Speaker{w: w} }

// Event says what goes on. The error is that nobody listens any more.
func (s *Speaker) Event(e Event) error { return s.say(message{Event: &e}) }

// Commit says that the worker has its answer, which it gives after AwaitReveal.
func (s *Speaker) Commit(d digest.Digest) error { return s.say(message{Commit: &d}) }

// Result says that the worker is done; nothing may follow.
func (s *Speaker) Result(r Result) error { return s.say(message{Result: &r}) }

func (s *Speaker) say(m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("cannot write what the worker says: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.w.Write(append(b, '\n'))
	return err
}

// Listener takes a worker's standard output, in pieces of any size. Write fails
// with a *ProtocolError at the first thing that no worker says; the host then
// ends the worker.
type Listener struct {
	events    func(Event)
	commit    func(digest.Digest) // asks for the answer, and sets revealed before
	said      int64               // bytes in all
	pending   []byte              // the beginning of a line
	committed bool
	revealed  atomic.Bool // it was asked for its answer
	result    *Result
	failure   *WorkerError
	broken    *ProtocolError
}

// NewListener returns a Listener that hands events on, in order.
func NewListener(events func(Event)) *Listener {
	if events == nil {
		events = func(Event) {}
	}
	l := &Listener{events: events}
	l.commit = func(digest.Digest) { l.revealed.Store(true) }
	return l
}

// Write takes the next bytes.
func (l *Listener) Write(b []byte) (int, error) {
	n := len(b)
	if l.said += int64(n); l.said > maxSaid {
		l.fail("more than %d bytes", int64(maxSaid))
	}
	for l.broken == nil {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		line := b[:i]
		if len(l.pending) > 0 {
			line = append(l.pending, line...)
			l.pending = nil
		}
		b = b[i+1:]
		l.line(line)
	}
	if l.broken == nil {
		if len(l.pending)+len(b) > maxLine {
			l.fail("a line of more than %d bytes", maxLine)
		} else {
			l.pending = append(l.pending, b...)
		}
	}
	if l.broken != nil {
		l.pending = nil
		return 0, l.broken
	}
	return n, nil
}

func (l *Listener) fail(format string, args ...any) {
	if l.broken == nil {
		l.broken = &ProtocolError{Reason: fmt.Sprintf(format, args...)}
	}
}

func (l *Listener) line(line []byte) {
	var m message
	switch err := json.Unmarshal(line, &m); {
	case l.result != nil:
		l.fail("more lines after the result")
	case err != nil:
		l.fail("line %.100q", line)
	case count(m.Event != nil, m.Commit != nil, m.Result != nil) != 1:
		l.fail("line %.100q is not one of an event, a commitment and a result", line)
	case m.Commit != nil && l.committed:
		l.fail("a second commitment")
	case m.Commit != nil:
		l.committed = true
		l.commit(*m.Commit)
	case m.Result != nil && !l.revealed.Load():
		l.fail("a result before it was asked for")
	case m.Result != nil:
		l.result = m.Result
	default:
		if m.Event.Kind == KindError {
			l.failure = &WorkerError{Message: m.Event.Message}
		}
		l.events(*m.Event)
	}
}

func count(all ...bool) int {
	n := 0
	for _, one := range all {
		if one {
			n++
		}
	}
	return n
}

// Broken returns the *ProtocolError that Write failed with, or nil.
func (l *Listener) Broken() error {
	if l.broken == nil {
		return nil
	}
	return l.broken
}

// End judges what was heard once the worker has ended: how is "" if it ended
// by itself with exit code 0, and otherwise says how it ended.
func (l *Listener) End(how, log string) (Result, error) {
	switch {
	case l.broken != nil:
		return Result{}, l.broken
	case l.failure != nil:
		return Result{}, l.failure
	case how != "":
		return Result{}, &LostError{How: how, Log: log}
	case len(l.pending) > 0:
		return Result{}, &ProtocolError{Reason: fmt.Sprintf("its last line %.100q has no end", l.pending)}
	case l.result == nil:
		return Result{}, &ProtocolError{Reason: "it ended well and gave no result"}
	}
	return *l.result, nil
}
