package cause_test

import (
	"fmt"
	"strings"
	"testing"

	"quorate.dev/diff/cause"
)

// A log with a time in each line is one cause, however long it is, and one
// line that differs otherwise leaves it unexplained.
func TestLongLog(t *testing.T) {
	log := func(day, odd int, word string) string {
		var b strings.Builder
		for i := range 100_000 {
			what := "did"
			if i == odd {
				what = word
			}
			fmt.Fprintf(&b, "2026-01-%02dT08:%02d:%02d.%06dZ step %d %s something\n", day, i/6000%60, i/100%60, i*7919%1_000_000, i, what)
		}
		return b.String()
	}
	got := cause.Find(sidesOf(t, log(1, -1, ""), log(2, -1, "")), nil)
	if len(got.Causes) != 1 || got.Causes[0].ID != "1-build-time" || got.Causes[0].Sites != 100_000 || len(got.Causes[0].Evidence) > 60 || len(got.Unexplained) > 0 {
		t.Errorf("got %+v, unexplained %+v", got.Causes, got.Unexplained)
	}
	got = cause.Find(sidesOf(t, log(1, 77_777, "made"), log(2, 77_777, "lost")), nil)
	if len(got.Unexplained) != 1 {
		t.Errorf("a line that differs otherwise is explained: %+v", got.Causes)
	}
}
