package host

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// message is one line of a worker: exactly one of the two.
type message struct {
	Event  *Event  `json:"event,omitempty"`
	Result *Result `json:"result,omitempty"`
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
	events  func(Event)
	pending []byte // the beginning of a line
	result  *Result
	failure *WorkerError
	broken  *ProtocolError
}

// NewListener returns a Listener that hands events on, in order.
func NewListener(events func(Event)) *Listener {
	if events == nil {
		events = func(Event) {}
	}
	return &Listener{events: events}
}

// Write takes the next bytes.
func (l *Listener) Write(b []byte) (int, error) {
	n := len(b)
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
	case (m.Event == nil) == (m.Result == nil):
		l.fail("line %.100q is neither an event nor a result", line)
	case m.Result != nil:
		l.result = m.Result
	default:
		if m.Event.Kind == KindError {
			l.failure = &WorkerError{Message: m.Event.Message}
		}
		l.events(*m.Event)
	}
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
