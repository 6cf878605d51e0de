package builder

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

// maxLog bounds what is kept of one command's output; steps that print more
// than this print for no one, and a runaway loop must not fill the disk.
const maxLog = 16 << 20

// tailLines is how much of a failed command's output an error shows: a screen.
const tailLines = 20

// buildLog gathers the output of steps and scripts, in the order of commands.
type buildLog struct {
	mu       sync.Mutex
	sections []*logWriter
	event    func(Event)
}

// writer begins a section. Lines are passed on as events while they come.
func (l *buildLog) writer(phase, name string) *logWriter {
	w := &logWriter{phase: phase, name: name, event: l.event}
	l.mu.Lock()
	l.sections = append(l.sections, w)
	l.mu.Unlock()
	return w
}

// WriteTo writes all sections, sorted by title so that goroutines' order does not show.
func (l *buildLog) WriteTo(w io.Writer) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sortStable(l.sections, func(a, b *logWriter) bool { return a.title() < b.title() })
	var n int64
	for _, s := range l.sections {
		k, err := fmt.Fprintf(w, "== %s\n%s", s.title(), s.text())
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

type logWriter struct {
	phase, name string
	event       func(Event)

	mu      sync.Mutex
	buf     bytes.Buffer
	line    []byte
	dropped bool
}

func (w *logWriter) title() string { return strings.TrimSpace(w.phase + " " + w.name) }

// Write keeps p, up to maxLog, and passes whole lines on.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if room := maxLog - w.buf.Len(); len(p) <= room {
		w.buf.Write(p)
	} else {
		w.buf.Write(p[:room])
		w.dropped = true
	}
	if w.event == nil {
		return len(p), nil
	}
	w.line = append(w.line, p...)
	for {
		i := bytes.IndexByte(w.line, '\n')
		if i < 0 {
			break
		}
		w.event(Event{Phase: w.phase, Name: w.name, Line: string(w.line[:i])})
		w.line = w.line[i+1:]
	}
	if len(w.line) > 4096 { // no terminal shows a longer line well
		w.event(Event{Phase: w.phase, Name: w.name, Line: string(w.line)})
		w.line = nil
	}
	return len(p), nil
}

// Close passes on a last line without newline.
func (w *logWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.line) > 0 && w.event != nil {
		w.event(Event{Phase: w.phase, Name: w.name, Line: string(w.line)})
	}
	w.line = nil
	return nil
}

func (w *logWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.buf.String()
	if w.dropped {
		s += "\n[output beyond 16 MiB was dropped]\n"
	}
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return s
}

// tail returns the last lines, for an error.
func (w *logWriter) tail() string {
	lines := strings.Split(strings.TrimRight(w.text(), "\n"), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return strings.Join(lines, "\n")
}
