package diff

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
)

// batchBytes bounds the windows held at a time; files beyond it wait for another reading.
const batchBytes = 32 << 20

// contentPair is a file whose bytes differ, between the two readings.
type contentPair struct {
	finding OldFinding
	a, b    *entry
	from    int64 // where to begin looking: the first differing chunk, less some context
	window  int   // how many bytes to look at
	left    []byte
	right   []byte
	lines   int // newlines before from, on side A; B's are the same
}

// newContentPair finds the first differing chunk of two files that were hashed whole.
func newContentPair(f OldFinding, a, b *entry) *contentPair {
	i := 0
	for i < len(a.chunks) && i < len(b.chunks) && a.chunks[i] == b.chunks[i] {
		i++
	}
	return &contentPair{finding: f, a: a, b: b, from: int64(i) * chunkSize}
}

// previews reads both layers again to find the first differing byte of each
// pair, in batches of bounded size.
func (w *work) previews(left, right blob, pairs []*contentPair) error {
	for _, p := range pairs {
		// Context before a difference at the very start of a chunk lies in the chunk before.
		start := max(0, p.from-int64(w.options.Context))
		p.window = int(p.from-start) + chunkSize + w.options.Context
		p.from = start
	}
	for len(pairs) > 0 {
		n, size := 0, 0
		for n < len(pairs) && (n == 0 || size+2*pairs[n].window <= batchBytes) {
			size += 2 * pairs[n].window
			n++
		}
		var both errgroup.Group
		both.Go(func() error {
			return left.windows(pairs[:n], func(p *contentPair, lines int, b []byte) { p.left, p.lines = b, lines },
				func(p *contentPair) *entry { return p.a })
		})
		both.Go(func() error {
			return right.windows(pairs[:n], func(p *contentPair, _ int, b []byte) { p.right = b },
				func(p *contentPair) *entry { return p.b })
		})
		if err := both.Wait(); err != nil {
			return err
		}
		for _, p := range pairs[:n] {
			p.finish(w.options.Context)
		}
		pairs = pairs[n:]
	}
	return nil
}

// windows reads the layer and hands over each pair's window of this side.
func (b blob) windows(pairs []*contentPair, set func(*contentPair, int, []byte), side func(*contentPair) *entry) error {
	want := make(map[key]*contentPair, len(pairs))
	for _, p := range pairs {
		e := side(p)
		want[key{e.path, e.occurrence}] = p
	}
	count := map[string]int{}
	for k := range want {
		count[k.path] = 0
	}
	missing := len(pairs)
	return b.again(func(h *tar.Header, r io.Reader) error {
		if missing == 0 {
			return errEnough
		}
		name := cleanPath(h.Name)
		seen, ok := count[name]
		if !ok {
			return nil
		}
		count[name]++
		p := want[key{name, seen}]
		if p == nil {
			return nil
		}
		lines, err := skipLines(r, p.from)
		if err != nil {
			return err
		}
		buf := make([]byte, p.window)
		n, err := io.ReadFull(r, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		set(p, lines, bytes.Clone(buf[:n]))
		missing--
		return nil
	})
}

// skipLines passes over n bytes and counts the newlines among them.
func skipLines(r io.Reader, n int64) (int, error) {
	buf := make([]byte, 32<<10)
	lines := 0
	for n > 0 {
		m, err := r.Read(buf[:min(n, int64(len(buf)))])
		lines += bytes.Count(buf[:m], []byte{'\n'})
		n -= int64(m)
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
	}
	return lines, nil
}

// finish turns the windows into the finding's words and lets go of them.
func (p *contentPair) finish(context int) {
	at := firstDifference(p.left, p.right)
	p.finding.Offset = p.from + int64(at)
	if isText(p.left) && isText(p.right) {
		line := p.lines + bytes.Count(p.left[:at], []byte{'\n'}) + 1
		prefix := "line " + strconv.Itoa(line) + ": "
		p.finding.A = prefix + textAround(p.left, at, context)
		p.finding.B = prefix + textAround(p.right, at, context)
	} else {
		p.finding.A = hexAround(p.left, at, p.finding.Offset)
		p.finding.B = hexAround(p.right, at, p.finding.Offset)
	}
	p.left, p.right = nil, nil
}

// isText reports whether a window reads as UTF-8 text; its ends may cut a rune.
func isText(b []byte) bool {
	for i := 0; i < utf8.UTFMax && len(b) > 0 && !utf8.RuneStart(b[0]); i++ {
		b = b[1:]
	}
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 {
			return len(b) < utf8.UTFMax && !utf8.FullRune(b)
		}
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' && r != '\r' && r != '\f' {
			return false
		}
		b = b[n:]
	}
	return true
}

// textAround quotes the line around b[at], at most context bytes to each side.
func textAround(b []byte, at, context int) string {
	if at >= len(b) {
		return "end of file"
	}
	start := bytes.LastIndexByte(b[:at], '\n') + 1
	end := len(b)
	if i := bytes.IndexByte(b[at:], '\n'); i >= 0 {
		end = at + i
	}
	start, end = max(start, at-context), min(end, at+context)
	for start < at && !utf8.RuneStart(b[start]) {
		start++
	}
	for end > at && end < len(b) && !utf8.RuneStart(b[end]) {
		end--
	}
	return strconv.Quote(string(b[start:end]))
}

// hexAround shows sixteen bytes from the first differing one on.
func hexAround(b []byte, at int, offset int64) string {
	if at >= len(b) {
		return "end of file"
	}
	return fmt.Sprintf("%#x: % x", offset, b[at:min(len(b), at+16)])
}
