package cause

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"

	"quorate.dev/diff"
)

// Bounds of texts that are too large to hold, such as logs with a time in every line.
const (
	maxStream = 2 << 30 // bytes that are read line by line
	maxFull   = 20_000  // lines that are explained from nothing, some 50 µs each; the rest must be like one of them
	columns   = 8       // places in a line that differ alike and are remembered
)

// column is where lines were found to differ, and by which claim.
type column struct {
	start int    // of the value, the same on both sides
	a, b  string // shapes of the two values, see shapeOf
	claim claim
}

// stream explains two large texts line by line in little memory. Most lines of a
// log differ in the same column by values of the same shape, so that only the first
// of them is explained from nothing.
func (s *search) stream(n *diff.Node) ([]claim, bool) {
	ra, err1 := n.Open(diff.A)
	rb, err2 := n.Open(diff.B)
	if err1 != nil || err2 != nil || ra.Size() > maxStream || rb.Size() > maxStream || !textualHead(n) {
		return nil, false
	}
	a, b := bufio.NewReaderSize(ra, 2*maxLine), bufio.NewReaderSize(rb, 2*maxLine)
	t := &streamed{pair: s.pair}
	for number := 1; ; number++ {
		x, errA := line(a)
		y, errB := line(b)
		switch {
		case errA == io.EOF && errB == io.EOF:
			return s.inContext(n, t.out), len(t.out) > 0
		case errA != nil || errB != nil:
			return nil, false
		case bytes.Equal(x, y):
		case !t.explain(number, x, y):
			return nil, false
		}
	}
}

func textualHead(n *diff.Node) bool {
	for _, w := range []diff.Which{diff.A, diff.B} {
		b, err := n.Slice(w, diff.Range{Length: min(64<<10, n.Part(w).Size)}, 64<<10)
		if err != nil || !textual(b) {
			return false
		}
	}
	return true
}

// line reads one line without its end; a longer one than a buffer holds is an error.
func line(r *bufio.Reader) ([]byte, error) {
	b, err := r.ReadSlice('\n')
	if err == io.EOF && len(b) > 0 {
		err = nil
	}
	return b, err
}

type streamed struct {
	pair  *pair
	known []column
	full  int
	out   []claim
}

func (t *streamed) explain(number int, x, y []byte) bool {
	for i := range t.known {
		if t.known[i].fits(x, y) {
			t.add(t.known[i].claim)
			return true
		}
	}
	if t.full++; t.full > maxFull {
		return false
	}
	list, ok := t.pair.line(strings.TrimRight(string(x), "\r\n"), strings.TrimRight(string(y), "\r\n"))
	if !ok || bytes.HasSuffix(x, []byte("\r\n")) != bytes.HasSuffix(y, []byte("\r\n")) || bytes.HasSuffix(x, []byte("\n")) != bytes.HasSuffix(y, []byte("\n")) {
		return false
	}
	for _, c := range list {
		c.where = fmt.Sprintf("line %d", number)
		if len(x)+len(y) < 2*maxValue && c.effect == "" {
			c.a, c.b = string(x), string(y)
		}
		t.add(c)
	}
	if len(list) == 1 && len(t.known) < columns {
		t.known = append(t.known, columnOf(x, y, list[0]))
	}
	return true
}

// add keeps a claim, or counts it with the last of its cause once there are enough.
func (t *streamed) add(c claim) {
	if len(t.out) >= maxEvidence {
		for i := len(t.out) - 1; i >= 0; i-- {
			if o := &t.out[i]; o.entry == c.entry && o.effect == c.effect {
				o.more++
				o.confidence = min(o.confidence, c.confidence)
				return
			}
		}
	}
	t.out = append(t.out, c)
}

// columnOf is the stretch in which two lines differ, widened to whole values.
func columnOf(x, y []byte, c claim) column {
	start, ex, ey := difference(x, y)
	for start > 0 && valueByte(x[start-1]) {
		start--
	}
	for ex < len(x) && valueByte(x[ex]) {
		ex++
	}
	for ey < len(y) && valueByte(y[ey]) {
		ey++
	}
	return column{start: start, a: shapeOf(x[start:ex]), b: shapeOf(y[start:ey]), claim: c}
}

// difference is where two texts begin to differ and where that ends in each.
func difference(x, y []byte) (start, ex, ey int) {
	for start < len(x) && start < len(y) && x[start] == y[start] {
		start++
	}
	ex, ey = len(x), len(y)
	for ex > start && ey > start && x[ex-1] == y[ey-1] {
		ex, ey = ex-1, ey-1
	}
	return start, ex, ey
}

func valueByte(c byte) bool {
	return word(c) && c < 0x80 || c == ':' || c == '.' || c == '-' || c == '+' || c == ','
}

// shapeOf writes every digit as 9, and keeps the rest.
func shapeOf(b []byte) string {
	out := bytes.Clone(b)
	for i, c := range out {
		if c >= '0' && c <= '9' {
			out[i] = '9'
		}
	}
	return string(out)
}

// fits reports whether two lines differ within the column only, by values of its shapes.
func (k *column) fits(x, y []byte) bool {
	ex, ey := k.start+len(k.a), k.start+len(k.b)
	return ex <= len(x) && ey <= len(y) && bytes.Equal(x[:k.start], y[:k.start]) && bytes.Equal(x[ex:], y[ey:]) &&
		likeShape(x[k.start:ex], k.a) && likeShape(y[k.start:ey], k.b)
}

func likeShape(b []byte, shape string) bool {
	for i, c := range b {
		if c >= '0' && c <= '9' {
			c = '9'
		}
		if c != shape[i] {
			return false
		}
	}
	return true
}
