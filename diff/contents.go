package diff

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
)

const (
	// maxStream and maxSpool bound what packed streams may unpack to, one and all together, so
	// that a bomb of some kilobytes fills no disk. The largest single packed
	// file of Debian's usual images is some 200 MB.
	maxStream = 512 << 20
	maxSpool  = 8 << 30
	// maxByteFindings bounds the findings of one stretch of unknown bytes; further runs are folded into the last.
	maxByteFindings = 64
	// maxFindings bounds the findings of one comparison, at some 300 bytes each; further ones are
	// folded into one for each node.
	maxFindings = 100_000
)

// comparer is one comparison of two sides while it runs.
type comparer struct {
	o         Options
	spool     *spool                        // unpacked contents
	sides     [2]*spool                     // files of layers, which both sides fetch at once
	heads     [2]*spool                     // tar headers
	equal     func() (io.ReadCloser, error) // the packed streams at hand are known to unpack to this
	closers   *[]closer                     // what the result keeps open
	toRead    int64
	read      atomic.Int64
	looseForm bool // how layers are packed does not matter
	depth     int
	moves     moves
	found     int
	nodes     int // entries that became nodes
	total     Totals
	names     names // of all entries and members, differing or not
}

// stopped returns ErrStopped when nobody waits any longer.
func (c *comparer) stopped() error { return ended(c.o.Done) }

// add adds a finding to a node.
func (c *comparer) add(n *Node, f Finding) {
	f.A, f.B, f.Where = clip(f.A), clip(f.B), clip(f.Where)
	if c.found++; c.found > maxFindings {
		// Presence and the account are never left out, words are.
		if k := len(n.Findings); k > 0 && n.Findings[k-1].What == WhatFolded && n.Findings[k-1].Outer == f.Outer {
			last := &n.Findings[k-1]
			last.More += 1 + f.More
			last.Runs = append(last.Runs, f.Runs...)
			return
		}
		f = Finding{What: WhatFolded, Where: f.What, Runs: f.Runs, Outer: f.Outer, Effect: f.Effect, More: f.More}
	}
	n.Findings = append(n.Findings, f)
}

// merge adds a finding, joined with a neighbour that says the same of the same
// member: a time that stands in two headers differs once.
func (c *comparer) merge(n *Node, f Finding) {
	if f.Outer {
		for i := range n.Findings {
			g := &n.Findings[i]
			if g.What == f.What && g.Where == f.Where && g.Outer && g.Effect == f.Effect && g.What != WhatPresence {
				g.Runs = append(g.Runs, f.Runs...)
				if g.A == "" {
					g.A = clip(f.A)
				}
				if g.B == "" {
					g.B = clip(f.B)
				}
				return
			}
		}
	}
	c.add(n, f)
}

// contents compares the bytes of a node, which differ, by their format.
func (c *comparer) contents(n *Node, a, b source, name string) error {
	if err := c.stopped(); err != nil {
		return err
	}
	if n.A.src.r == nil {
		n.A.Size, n.A.src = a.size, a.dropped()
	}
	if n.B.src.r == nil {
		n.B.Size, n.B.src = b.size, b.dropped()
	}
	c.depth++
	defer func() { c.depth-- }()
	limit := max(1<<20, int64(maxLoad)>>(c.depth-1)) // files within files share the memory
	a, err := a.held(limit)
	if err != nil {
		return err
	}
	if b, err = b.held(limit); err != nil {
		return err
	}
	if c.depth > maxNesting {
		c.add(n, Finding{What: WhatMalformed, A: "nested too deep", B: "nested too deep"})
		return c.plain(n, a, b)
	}
	f, g := sniff(a, name), sniff(b, name)
	switch {
	case f == nil && g == nil:
	case f != g:
		n.Format = "bytes"
		c.add(n, Finding{What: WhatFormat, A: formatName(f, a), B: formatName(g, b)})
	case f.tar:
		n.Format = "tar"
		return c.tarFiles(n, a, b)
	default:
		x, y := c.take(f, a), c.take(f, b)
		if x == nil || y == nil {
			if (x == nil) != (y == nil) && !keyed[f.name] {
				says := func(x *anatomy) string {
					if x == nil {
						return "cannot be read as " + f.name
					}
					return ""
				}
				c.add(n, Finding{What: WhatMalformed, A: says(x), B: says(y)})
			}
			break
		}
		n.Format = f.name
		if x.issue != "" || y.issue != "" {
			c.add(n, Finding{What: WhatMalformed, A: x.issue, B: y.issue})
		}
		if err := c.anatomies(n, a, b, x, y); err != nil {
			return err
		}
		if x.after != nil {
			x.after(c, n, y)
		}
		if keyed[f.name] {
			c.number(n)
		}
		if x.image {
			return c.squashFiles(n)
		}
		return nil
	}
	return c.plain(n, a, b)
}

// take runs a format's reader. Readers are fuzzed and bound; should one fail all
// the same, the file is compared as plain bytes and the rest of the comparison lives on.
func (c *comparer) take(f *format, s source) (x *anatomy) {
	defer func() {
		if recover() != nil {
			x = nil
		}
	}()
	return f.take(s)
}

// plain compares text or bytes.
func (c *comparer) plain(n *Node, a, b source) error {
	mode, name := modeBytes, "bytes"
	if a.mem != nil && b.mem != nil {
		if x, y := textual(a.mem), textual(b.mem); x && y || x && b.size == 0 || y && a.size == 0 {
			mode, name = modeText, "text"
		}
	}
	n.Format = name
	list, err := c.leaf(a, b, &cut{mode: mode})
	for _, f := range list {
		if f.What == "" {
			f.What = WhatBytes
		}
		c.add(n, f)
	}
	return err
}

func textual(b []byte) bool { return len(b) > 0 && (isText(b) || isLatin(b)) }

// leaf compares two stretches and returns findings in their own coordinates.
func (c *comparer) leaf(x, y source, k *cut) ([]Finding, error) {
	if k.mode != modeBytes && x.size <= maxLoad && y.size <= maxLoad {
		a, err := x.load()
		if err != nil {
			return nil, err
		}
		b, err := y.load()
		if err != nil {
			return nil, err
		}
		if k.mode == modeText {
			return text(a, b), nil
		}
		split := k.how().split
		if split == nil {
			split = terminated
		}
		say := k.how().say
		if say == nil {
			say = joined
		}
		return stringsOf(a, b, split, say), nil
	}
	runs, err := alignSources(x, y, c.o.Done)
	if err != nil {
		return nil, err
	}
	return byteFindings(x, y, runs), nil
}

// byteFindings says each run, as many as the budget has. A run within printable text
// is shown with the text around it, and runs within one such text are one finding.
func byteFindings(x, y source, runs []Run) []Finding {
	var out []Finding
	var end [2]int64 // of the text that the last finding shows
	for _, r := range runs {
		if len(out) > 0 {
			last := &out[len(out)-1]
			if r.A.Offset < end[A] && r.B.Offset < end[B] {
				last.Runs = append(last.Runs, r)
				continue
			}
			if len(out) == maxByteFindings {
				last.More++
				last.Runs = append(last.Runs, r)
				continue
			}
		}
		a, b := r.A, r.B
		if u, v, ok := textAround(x, y, r); ok {
			a, b = u, v
		}
		end = [2]int64{a.End(), b.End()}
		f := Finding{A: showRange(x, a), B: showRange(y, b), Runs: []Run{r}}
		if a == r.A && b == r.B { // not within text: a printable byte or two say nothing
			f.A, f.B = hexRange(x, a, f.A), hexRange(y, b, f.B)
		}
		out = append(out, f)
	}
	return out
}

// hexRange shows a short range in hexadecimal; text of some length stays as it is.
func hexRange(s source, r Range, shown string) string {
	if r.Length >= 8 {
		return shown
	}
	b, err := s.slice(r.Offset, r.Length)
	if err != nil {
		return ""
	}
	return hexOf(b)
}

// aroundMost is how far the text around a differing byte is looked for: a path's length, mostly.
const aroundMost = 120

// textAround widens a run to the printable ASCII that it stands in, when there
// are at least four characters of it.
func textAround(x, y source, r Run) (a, b Range, ok bool) {
	if r.A.Length > maxValue || r.B.Length > maxValue {
		return a, b, false
	}
	widen := func(s source, r Range) (Range, bool) {
		from := max(0, r.Offset-aroundMost)
		p, err := s.slice(from, min(r.End()+aroundMost, s.size)-from)
		if err != nil {
			return r, false
		}
		lo, hi := int(r.Offset-from), int(r.End()-from)
		for _, c := range p[lo:hi] {
			if !printableByte(c) {
				return r, false
			}
		}
		for lo > 0 && printableByte(p[lo-1]) {
			lo--
		}
		for hi < len(p) && printableByte(p[hi]) {
			hi++
		}
		return Range{from + int64(lo), int64(hi - lo)}, hi-lo >= 4
	}
	a, okA := widen(x, r.A)
	b, okB := widen(y, r.B)
	return a, b, okA && okB
}

func printableByte(c byte) bool { return ' ' <= c && c < 0x7f }

func showRange(s source, r Range) string {
	b, err := s.slice(r.Offset, min(r.Length, maxValue+4))
	if err != nil {
		return ""
	}
	v := show(b)
	if int64(len(b)) < r.Length && !strings.Contains(v, "…") {
		v = clip(v)
	}
	return v
}

// stringsOf compares two tables of strings, which split tells apart and say says.
func stringsOf(a, b []byte, split func([]byte) []int, say func([]byte) string) []Finding {
	la, lb := split(a), split(b)
	ids := map[string]int32{}
	number := func(s []byte, ends []int) []int32 {
		out, from := make([]int32, len(ends)), 0
		for i, end := range ends {
			id, ok := ids[string(s[from:end])]
			if !ok {
				id = int32(len(ids))
				ids[string(s[from:end])] = id
			}
			out[i], from = id, end
		}
		return out
	}
	var out []Finding
	for _, h := range byLine(sequences(number(a, la), number(b, lb))) {
		x, y := span(la, h.a0, h.a1), span(lb, h.b0, h.b1)
		u, v := a[x.Offset:x.End()], b[y.Offset:y.End()]
		var runs []Run
		if len(u) > 0 && len(v) > 0 {
			runs = shift(align(u, v), x.Offset, y.Offset)
		} else {
			runs = []Run{{x, y}}
		}
		if len(out) == maxHunks {
			last := &out[len(out)-1]
			last.More++
			last.Runs = append(last.Runs, runs...)
			continue
		}
		out = append(out, Finding{What: WhatString, A: say(u), B: say(v), Runs: runs})
	}
	if len(out) > 0 {
		last := &out[len(out)-1]
		last.Runs = coalesce(last.Runs, maxRuns)
	}
	return out
}

// terminated are the offsets behind each NUL.
func terminated(s []byte) []int {
	ends := make([]int, 0, bytes.Count(s, []byte{0})+1)
	for at := 0; at < len(s); {
		i := bytes.IndexByte(s[at:], 0)
		if i < 0 {
			return append(ends, len(s))
		}
		at += i + 1
		ends = append(ends, at)
	}
	return ends
}

// joined shows strings of a table, one a line.
func joined(b []byte) string {
	b = bytes.TrimRight(b[:min(len(b), maxValue)], "\x00")
	return show(bytes.ReplaceAll(b, []byte{0}, []byte{'\n'}))
}

// errTooLarge says that a stream unpacks beyond the limits.
var errTooLarge = errors.New("too large")

// unpack brings a packed cut's contents into the spool.
func (c *comparer) unpack(k *cut) (source, error) {
	open := k.how().unpack
	if open == nil {
		return source{}, errors.New("unknown method")
	}
	r, err := open()
	if err != nil {
		return source{}, err
	}
	if r, ok := r.(io.Closer); ok {
		defer r.Close()
	}
	return c.keep(r)
}

// keep copies a stream into the spool.
func (c *comparer) keep(r io.Reader) (source, error) {
	mark := c.spool.size
	limit := min(maxStream, maxSpool-mark)
	n, err := io.Copy(c.spool, io.LimitReader(&watched{r: r, done: c.o.Done}, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("%w: more than %d MiB", errTooLarge, limit>>20)
	}
	if err != nil {
		c.spool.size = mark
		return source{}, err
	}
	return c.spool.since(mark), nil
}

// renames pairs loose groups that found no partner by name: first by equal contents,
// then by alike ones.
func (c *comparer) renames(a, b source, x, y *anatomy, p *pairing) {
	var left, right []int
	for i, j := range p.a {
		if j < 0 && x.groups[i].loose {
			left = append(left, i)
		}
	}
	for j, i := range p.b {
		if i < 0 && y.groups[j].loose {
			right = append(right, j)
		}
	}
	if len(left) == 0 || len(right) == 0 || len(left) > maxAlike || len(right) > maxAlike {
		return
	}
	look := func(s source, g *group) likeness {
		for _, k := range g.all() {
			switch k.mode {
			case modeAuto:
				return likenessOf(g.member, s.sub(k.off, k.size))
			case modePacked:
				if t, err := c.unpack(&k); err == nil {
					return likenessOf(g.member, t)
				}
			}
		}
		return likeness{}
	}
	var la, lb []likeness
	for _, i := range left {
		la = append(la, look(a, &x.groups[i]))
	}
	for _, j := range right {
		lb = append(lb, look(b, &y.groups[j]))
	}
	renamed := map[string]string{}
	for _, m := range marry(la, lb) {
		i, j := left[m[0]], right[m[1]]
		p.a[i], p.b[j] = j, i
		renamed[x.groups[i].member] = y.groups[j].member
	}
	// Other groups of the same members (a zip's directory) follow.
	for i, j := range p.a {
		if to, ok := renamed[x.groups[i].member]; ok && j < 0 {
			for k := range y.groups {
				if p.b[k] < 0 && y.groups[k].member == to && y.groups[k].kind == x.groups[i].kind && !y.groups[k].loose {
					p.a[i], p.b[k] = k, i
					break
				}
			}
		}
	}
	p.order()
}
