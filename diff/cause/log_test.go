package cause

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestLog(t *testing.T) {
	begin := [2]time.Time{time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC), time.Date(2026, 1, 2, 2, 3, 4, 0, time.UTC)}
	known := func(side int) Facts { return Facts{Started: begin[side], Finished: begin[side].Add(time.Minute)} }
	// text makes a log of n lines; line gets the time and the number.
	text := func(side, n int, line func(time.Time, int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(line(begin[side].Add(time.Duration(i)*time.Second), i) + "\n")
		}
		return b.String()
	}
	iso := func(at time.Time, i int) string {
		return fmt.Sprintf("[server] - %s - request %d", at.Format("2006-01-02T15:04:05.000Z"), i)
	}
	for _, test := range []struct {
		summary string
		name    string // "" for one that says nothing
		line    func(time.Time, int) string
		n       int
		facts   bool
		want    float64 // confidence; 0 for no log
	}{
		{"of two builds", "", iso, 6, true, 0.9},
		{"of builds whose times are not known", "", iso, 6, false, 0.8},
		{"in another form", "", func(at time.Time, i int) string { return at.Format("Jan  2 15:04:05 2006") + " started" }, 6, true, 0.9},
		{"with seconds since 1970", "", func(at time.Time, i int) string { return fmt.Sprintf("%d open %d", at.Unix(), i) }, 6, true, 0.9},
		{"with other times further on", "", func(at time.Time, i int) string {
			return at.Format("15:04:05 ") + strings.Repeat("word ", 16) + at.AddDate(-3, 0, 0).Format("2006-01-02 15:04:05")
		}, 6, true, 0.9},
		{"with lines that go on", "", func(at time.Time, i int) string {
			if i%8 == 7 {
				return "    at main.js:7"
			}
			return iso(at, i)
		}, 16, true, 0.9},
		{"too short", "", iso, 3, true, 0},
		{"few of whose lines have a time", "", func(at time.Time, i int) string { return []string{iso(at, i), "x"}[i%2] }, 20, true, 0},
		{"that is called so, and begins with a time", "d/daemon.log", func(at time.Time, i int) string { return []string{iso(at, i), "x", "y"}[i%3] }, 20, true, 0.9},
		{"that is called so, and has times later", "d/daemon.log", func(at time.Time, i int) string { return []string{"x", iso(at, i), "y"}[i%3] }, 20, true, 0},
		{"that is called so and has no times", "run.log", func(at time.Time, i int) string { return fmt.Sprint("x ", i, at.Weekday()) }, 20, true, 0},
		{"of another year", "", func(at time.Time, i int) string { return iso(at.AddDate(-2, 0, 0), i) }, 6, true, 0},
		{"of dates alone", "", func(at time.Time, i int) string { return at.Format("2006-01-02") + " release" }, 6, true, 0},
		{"that runs backwards", "", func(at time.Time, i int) string { return iso(at.Add(time.Duration(-2*i)*time.Second), i) }, 6, true, 0},
		{"whose times stand at the end", "", func(at time.Time, i int) string { return strings.Repeat("word ", 20) + iso(at, i) }, 6, true, 0},
	} {
		t.Run(test.summary, func(t *testing.T) {
			p := newPair(Facts{}, Facts{})
			if test.facts {
				p = newPair(known(0), known(1))
			}
			a, b := text(0, test.n, test.line), text(1, test.n+1, test.line)
			c, ok := p.log(test.name, a, b)
			if ok != (test.want > 0) || c.confidence != test.want {
				t.Errorf("got %v, confidence %v, %q; expected %v", ok, c.confidence, c.fact, test.want)
			}
			if _, ok := p.log(test.name, a, a+"more\n"); ok {
				t.Error("two logs of one run are told apart by their times")
			}
		})
	}
}
