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

// maxLast is what is kept of the end of longer output, where it says why a
// command failed: some hundred lines.
const maxLast = 64 << 10

// maxLine is how much of one line people are shown: five lines of a terminal,
// and the longest commands that compilers are called with in part. The log has it whole.
const maxLine = 400

// tailLines is how much of a failed command's output an error shows: a screen.
const tailLines = 20

// buildLog gathers the output of steps and scripts, in the order of commands.
type buildLog struct {
	mu       sync.Mutex
	sections []*logWriter
}

// writer begins a section. Lines are passed on as events while they come.
func (l *buildLog) writer(phase, name string, event func(Event)) *logWriter {
	w := &logWriter{phase: phase, name: name, event: event}
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
	buf     bytes.Buffer // the first maxLog bytes
	last    []byte       // what came after them, from its end
	dropped int64        // bytes between the two
	line    []byte       // begun and not passed on
	skip    bool         // the rest of a line that is too long
	shown   int64        // bytes of lines passed on
}

func (w *logWriter) title() string { return strings.TrimSpace(w.phase + " " + w.name) }

// Write keeps p, up to maxLog and the very end, and passes whole lines on.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	room := min(maxLog-w.buf.Len(), len(p))
	w.buf.Write(p[:room])
	w.keepLast(p[room:])
	w.show(p)
	return len(p), nil
}

func (w *logWriter) keepLast(p []byte) {
	w.last = append(w.last, p...)
	if over := len(w.last) - maxLast; over > maxLast { // now and then, not with every line
		w.dropped += int64(over)
		w.last = append(w.last[:0], w.last[over:]...)
	}
}

// show passes on the lines that p completes.
func (w *logWriter) show(p []byte) {
	for len(p) > 0 {
		piece, rest, whole := bytes.Cut(p, []byte{'\n'})
		p = rest
		if !w.skip {
			w.line = append(w.line, piece[:min(len(piece), maxLine+1-len(w.line))]...)
		}
		if whole || len(w.line) > maxLine {
			w.flush(whole)
		}
	}
}

// flush passes the line on, once, cut to what a terminal shows well.
func (w *logWriter) flush(whole bool) {
	if !w.skip {
		w.pass(cutLine(string(w.line)))
	}
	w.line, w.skip = w.line[:0], !whole
}

func (w *logWriter) pass(line string) {
	if w.shown > maxLog {
		return
	}
	if w.shown += int64(len(line)) + 1; w.shown > maxLog {
		line = "… what follows is not shown"
	}
	w.event(Event{Phase: w.phase, Name: w.name, Line: line})
}

// Close passes on a last line without newline.
func (w *logWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.line) > 0 {
		w.flush(true)
	}
	return nil
}

func (w *logWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.buf.String()
	if w.dropped > 0 {
		s += fmt.Sprintf("\n[%d bytes of output were dropped here]\n", w.dropped)
	}
	s += string(w.last)
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return s
}

// tail returns the last lines, for an error.
func (w *logWriter) tail() string {
	w.mu.Lock()
	end := w.last
	if len(end) < maxLast { // not enough came after the first maxLog bytes
		first := w.buf.Bytes()
		end = append(append([]byte(nil), first[max(0, len(first)-maxLast):]...), end...)
	}
	text := string(end)
	w.mu.Unlock()
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	for i, line := range lines {
		lines[i] = cutLine(line)
	}
	return strings.Join(lines, "\n")
}

func cutLine(line string) string {
	if len(line) <= maxLine {
		return line
	}
	return strings.ToValidUTF8(line[:maxLine], "") + "…"
}
