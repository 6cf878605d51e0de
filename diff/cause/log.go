package cause

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// A log is a text whose lines begin with the times at which they were written. What
// its lines say besides is of the run as well: who asked, how often something was tried.
const (
	minLog    = 4    // lines with a time that make a log
	maxLog    = 1000 // lines that are looked at
	logStart  = 80   // bytes of a line in which its time begins
	logLines  = 0.8  // of all lines have a time; the rest goes on from those before. Of a file that is called a log the first has
	logSorted = 0.95 // of the times are not before the one before them
)

// log claims two texts that are logs of the two runs. Lines that can be paired, with
// nothing but times between them, are explained before.
func (p *pair) log(name, a, b string) (claim, bool) {
	called := logName.MatchString(name)
	x, okA := readLog(a, p.a, called)
	y, okB := readLog(b, p.b, called)
	if !okA || !okB || x.first.Equal(y.first) {
		return claim{}, false
	}
	c := claim{entry: "57-log", confidence: 0.9, a: clip(x.line), b: clip(y.line),
		fact: fmt.Sprintf("%d of %d and %d of %d lines begin with a time of their build, one after the other", x.timed, x.lines, y.timed, y.lines),
		why:  "what its lines say besides is not compared", confirm: "delete it at the end of the step"}
	if p.a.Started.IsZero() || p.b.Started.IsZero() {
		c.confidence = 0.8
		c.fact = strings.Replace(c.fact, "a time of their build", "a time", 1)
	}
	return c, true
}

var logName = regexp.MustCompile(`(?i)[a-z0-9_-]\.log(?:[.-]?[0-9]+)?$|(?:^|/)logs?/[^/]+$`)

// runLog is what is known of one log.
type runLog struct {
	lines, timed int
	first        time.Time
	line         string // the first with a time
}

func readLog(text string, f Facts, called bool) (runLog, bool) {
	var l runLog
	var last time.Time
	sorted, form, begins := 0, -1, 0
	for line := range strings.Lines(text) {
		if l.lines == maxLog {
			break
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		l.lines++
		m, ok := logTime(line[:min(len(line), 2*logStart)])
		if !ok || form >= 0 && m.form != form || !f.Started.IsZero() && !m.inside(f.Started, f.Finished) {
			continue
		}
		if l.timed++; l.timed == 1 {
			form, l.first, l.line, begins = m.form, m.at, line, l.lines
		}
		if l.timed == 1 || !m.at.Before(last) { // a time of day is in no year, and before the zero time
			sorted++
		}
		last = m.at
	}
	most := float64(l.timed) >= logLines*float64(l.lines)
	return l, l.timed >= minLog && (most || called && begins == 1) && float64(sorted) >= logSorted*float64(l.timed)
}

// logTime is the time that a line begins with; a date alone or a year is none.
func logTime(line string) (first moment, ok bool) {
	for _, m := range moments(line) {
		if m.start <= logStart && m.grain == time.Second && (!ok || m.start < first.start) {
			first, ok = m, true
		}
	}
	return first, ok
}
