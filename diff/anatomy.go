package diff

import (
	"bytes"
	"fmt"
	"io"
	"sort"
)

// anatomy is one side of a container or structured file taken apart: groups of
// cuts that together cover every byte once. Formats only say where their parts
// lie and what they are called; pairing, comparing and the account are done
// here, once for all of them.
type anatomy struct {
	groups []group
	issue  string                                 // what is wrong with the file, "" for nothing
	after  func(c *comparer, n *Node, b *anatomy) // looks at both sides once more, when set
	data   any                                    // what after needs
	image  bool                                   // a squashfs image, whose files are compared, too
}

// group is a stretch of a file that belongs together: a header, a member.
// Groups may stand in another order on the other side.
type group struct {
	key    string // pairs groups; equal keys pair by occurrence
	member string // with a name, findings go to a child node of that name; "" is the container itself
	kind   Kind   // of that child
	meta   *Meta
	cuts   []cut
	loose  bool // may pair with a group of another key when contents are alike: a renamed member
	// A group of one member among thousands is cut up only while it is compared: whole is where it
	// lies, and open cuts it. Both are empty when cuts says all.
	whole Range
	open  func() []cut
}

// all are the group's cuts, in order and without gaps.
func (g *group) all() []cut {
	if g.open != nil {
		return g.open()
	}
	return g.cuts
}

func (g *group) start() int64 {
	if g.open != nil {
		return g.whole.Offset
	}
	return g.cuts[0].off
}

func (g *group) end() int64 {
	if g.open != nil {
		return g.whole.End()
	}
	c := g.cuts[len(g.cuts)-1]
	return c.off + c.size
}

// mode is how a cut is compared.
type mode byte

const (
	modeField   mode = iota // differs as a whole
	modeBytes               // aligned bytes
	modeStrings             // NUL-terminated strings, else bytes
	modeText                // lines
	modeAuto                // a file of its own: a child's bytes
	modePacked              // unpacks to a file of its own
)

// cut is a stretch of bytes with one meaning.
type cut struct {
	off, size   int64
	key         string // pairs cuts of a group; "" takes what+where
	what, where string
	value       string // for people; "" shows the bytes
	mode        mode
	effect      bool
	fold        bool // of modeBytes: one finding for all runs
	inside      bool // its bytes are those of the member's node
	way         *way // nil for the usual one
}

// way is what few cuts need. It lies beside them, for there are many cuts.
type way struct {
	split  func([]byte) []int            // of modeStrings: offsets behind each token; nil for NUL-terminated ones
	say    func([]byte) string           // of modeStrings: tokens for people; nil joins strings by lines. Of fields without a value: what they say
	hint   string                        // of modeAuto and modePacked: file name
	unpack func() (io.Reader, error)     // of modePacked
	method string                        // of modePacked: "deflate", "gzip", "xz", "zstd", "bzip2"
	raw    func() (b []byte, whole bool) // of modePacked: the bare compressed bytes from their beginning
	inner  *cut                          // of modePacked: how to compare what it unpacks to; nil for a file of its own
}

func (k *cut) how() *way {
	if k.way == nil {
		return &way{}
	}
	return k.way
}

func (c *cut) id() string {
	if c.key != "" {
		return c.key
	}
	return c.what + "\x00" + c.where
}

const (
	// maxCuts bounds the cuts of one side of a file: some 100 bytes of memory each. The largest
	// JSON documents have as many; a jar's are made while they are compared.
	maxCuts = 300_000
	// maxNesting bounds files within files: a .deb in a layer nests three deep.
	maxNesting = 10
)

// taking builds an anatomy from the beginning of a file to its end.
type taking struct {
	anatomy
	s    source
	at   int64
	cuts int
}

// group begins a new group.
func (t *taking) group(key, member string, kind Kind) *group {
	t.groups = append(t.groups, group{key: key, member: member, kind: kind})
	return &t.groups[len(t.groups)-1]
}

// add appends a cut to the last group; its offset is where the last one ended.
// One that leaves the file is cut short.
func (t *taking) add(size int64, c cut) {
	if len(t.groups) == 0 {
		t.group("", "", "")
	}
	c.off, c.size = t.at, min(max(size, 0), t.s.size-t.at)
	t.at += c.size
	if c.size == 0 {
		return
	}
	g := &t.groups[len(t.groups)-1]
	g.cuts = append(g.cuts, c)
	t.cuts++
}

func (t *taking) field(size int64, what, where, value string) {
	t.add(size, cut{what: what, where: where, value: value})
}

func (t *taking) effect(size int64, what, where, value string) {
	t.add(size, cut{what: what, where: where, value: value, effect: true})
}

// read returns the next n bytes without going on; shorter at the end of the file.
func (t *taking) peek(n int64) []byte {
	b, _ := t.s.slice(t.at, min(n, t.s.size-t.at))
	return b
}

func (t *taking) left() int64 { return t.s.size - t.at }

// full reports whether there are too many cuts to go on.
func (t *taking) full() bool { return t.cuts > maxCuts }

// done closes the anatomy: what is left of the file is a group of its own.
func (t *taking) done(issue string) *anatomy {
	if t.full() && issue == "" {
		issue = fmt.Sprintf("more than %d parts", maxCuts)
	}
	t.issue = issue
	if t.left() > 0 {
		t.group("trailing", "", "")
		rest := cut{what: WhatBytes, where: "trailing", mode: modeBytes}
		if looksPacked(t.peek(8)) { // initramfs images are several archives in a row
			rest.mode = modeAuto
		}
		t.add(t.left(), rest)
	}
	return t.tidy()
}

// looksPacked knows the beginnings of packed streams. (The list of packers would
// make the readers depend on themselves.)
func looksPacked(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "\xfd7zXZ\x00", "BZh"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
}

// tidy drops groups without bytes.
func (t *taking) tidy() *anatomy {
	kept := t.groups[:0]
	for _, g := range t.groups {
		if len(g.cuts) > 0 || g.open != nil && g.whole.Length > 0 {
			kept = append(kept, g)
		}
	}
	t.groups = kept
	return &t.anatomy
}

// scattered builds an anatomy from cuts in any order; those that overlap an
// earlier one or leave the file are dropped, and gaps become padding.
type scattered struct {
	s      source
	pieces []piece
	about  map[string]about // by key
	issue  string
}

// about is what is known of a group besides its cuts.
type about struct {
	meta  *Meta
	loose bool
}

type piece struct {
	key, member string
	kind        Kind
	cut         cut
	turn        int
	open        func() []cut // of a whole group, whose place is the cut's
}

// whole adds a group that is cut up when it is compared; open's cuts must fill off to off+size.
func (t *scattered) whole(key, member string, kind Kind, off, size int64, open func() []cut) {
	if off < 0 || size <= 0 || off > t.s.size || size > t.s.size-off || len(t.pieces) > maxCuts {
		return
	}
	t.pieces = append(t.pieces, piece{key: key, member: member, kind: kind, cut: cut{off: off, size: size}, turn: len(t.pieces), open: open})
}

func (t *scattered) add(key, member string, kind Kind, off, size int64, c cut) {
	if off < 0 || size <= 0 || off >= t.s.size || len(t.pieces) > maxCuts {
		return
	}
	c.off, c.size = off, min(size, t.s.size-off)
	t.pieces = append(t.pieces, piece{key: key, member: member, kind: kind, cut: c, turn: len(t.pieces)})
}

func (t *scattered) done() *anatomy {
	sort.SliceStable(t.pieces, func(i, j int) bool {
		if x, y := t.pieces[i], t.pieces[j]; x.cut.off != y.cut.off {
			return x.cut.off < y.cut.off
		}
		return t.pieces[i].turn < t.pieces[j].turn
	})
	out := taking{s: t.s}
	key, open := "", false
	gaps := 0
	for _, p := range t.pieces {
		if p.cut.off < out.at {
			continue // lies within an earlier one
		}
		if p.cut.off > out.at {
			if !open || key != p.key {
				gaps++
				out.group("gap before "+p.key, "", "")
				key, open = "", false
			}
			out.add(p.cut.off-out.at, cut{what: WhatPadding, key: "gap before " + p.cut.id(), where: "before " + p.key, mode: modeBytes})
		}
		if !open || key != p.key {
			g := out.group(p.key, p.member, p.kind)
			about := t.about[p.key]
			g.meta, g.loose = about.meta, about.loose
			key, open = p.key, true
		}
		if p.open != nil {
			g := &out.groups[len(out.groups)-1]
			g.whole, g.open = Range{p.cut.off, p.cut.size}, p.open
			out.at += p.cut.size
			key, open = "", false
			continue
		}
		out.add(p.cut.size, p.cut)
	}
	return out.done(t.issue)
}

// pairing says which groups (or cuts) of two sides belong together.
type pairing struct {
	a     []int  // for each of a: its partner in b, -1 for none
	b     []int  // and back
	moved []bool // for each of a: its partner stands in another order
}

// pair pairs by key, equal keys by occurrence, and finds what stands in another order.
func pair(na, nb int, keyA, keyB func(int) string) pairing {
	p := pairing{a: make([]int, na), b: make([]int, nb)}
	for i := range p.a {
		p.a[i] = -1
	}
	if na == nb && identical(na, keyA, keyB) {
		for i := range p.a {
			p.a[i], p.b[i] = i, i
		}
		p.moved = make([]bool, na)
		return p
	}
	type place struct{ next, last int }
	first := make(map[string]place, nb)
	following := make([]int, nb)
	for j := range nb {
		p.b[j], following[j] = -1, -1
		k := keyB(j)
		if f, ok := first[k]; ok {
			following[f.last] = j
			first[k] = place{f.next, j}
		} else {
			first[k] = place{j, j}
		}
	}
	for i := range na {
		k := keyA(i)
		f, ok := first[k]
		if !ok || f.next < 0 {
			continue
		}
		p.a[i], p.b[f.next] = f.next, i
		first[k] = place{following[f.next], f.last}
	}
	p.order()
	return p
}

func identical(n int, keyA, keyB func(int) string) bool {
	for i := range n {
		if keyA(i) != keyB(i) {
			return false
		}
	}
	return true
}

// order fills in moved: what is not in a longest run of pairs that keeps its order.
func (p *pairing) order() {
	var who, where []int
	for i, j := range p.a {
		if j >= 0 {
			who, where = append(who, i), append(where, j)
		}
	}
	p.moved = make([]bool, len(p.a))
	for i, keep := range increasing(where) {
		p.moved[who[i]] = !keep
	}
}

// anatomies compares two files that were taken apart.
func (c *comparer) anatomies(n *Node, a, b source, x, y *anatomy) error {
	outer := c.moves // of the file that this one lies in
	c.moves = moves{}
	defer func() { c.moves = outer }()
	p := pair(len(x.groups), len(y.groups), func(i int) string { return x.groups[i].key }, func(j int) string { return y.groups[j].key })
	c.renames(a, b, x, y, &p)
	c.names.members(x, KindMember)
	c.names.members(y, KindMember)
	members := map[string]*Node{}
	var order []*Node
	node := func(g, h *group) *Node {
		some := g
		if g == nil {
			some = h
		}
		if some.member == "" {
			return n
		}
		m := members[some.member]
		if m == nil {
			m = &Node{Name: some.member, Kind: some.kind, Parent: n}
			members[some.member] = m
			order = append(order, m)
		}
		if g != nil && m.A == nil {
			m.A = &Part{Offset: -1, Meta: g.meta}
		}
		if h != nil && m.B == nil {
			m.B = &Part{Offset: -1, Meta: h.meta}
			if h.member != m.Name {
				m.B.Name = h.member
			}
		}
		for _, side := range []struct {
			p *Part
			g *group
		}{{m.A, g}, {m.B, h}} {
			if side.g != nil && side.p.Meta == nil {
				side.p.Meta = side.g.meta
			}
		}
		return m
	}
	// A's order first, then what only B has.
	for i := range x.groups {
		g := &x.groups[i]
		if err := c.stopped(); err != nil {
			return err
		}
		if j := p.a[i]; j >= 0 {
			h := &y.groups[j]
			if err := c.groups(n, node(g, h), a, b, g, h); err != nil {
				return err
			}
		} else {
			c.alone(n, node(g, nil), a, A, g)
		}
	}
	for j := range y.groups {
		if p.b[j] < 0 {
			c.alone(n, node(nil, &y.groups[j]), b, B, &y.groups[j])
		}
	}
	for _, m := range order {
		if len(m.Findings) > 0 || len(m.Children) > 0 {
			n.Children = append(n.Children, m)
		}
	}
	c.reordered(n, x, y, &p)
	return nil
}

// alone owns a group that only one side has.
func (c *comparer) alone(n, m *Node, s source, w Which, g *group) {
	whole := Range{g.start(), g.end() - g.start()}
	run := Run{A: whole}
	if w == B {
		run = Run{B: whole}
	}
	if m == n {
		cuts := g.all()
		for i := range cuts {
			c.alonecut(n, s, w, &cuts[i], false)
		}
		return
	}
	if k := len(m.Findings); k > 0 && m.Findings[k-1].What == WhatPresence {
		m.Findings[k-1].Runs = append(m.Findings[k-1].Runs, run)
		return
	}
	f := Finding{What: WhatPresence, Outer: true, Runs: []Run{run}}
	says := fmt.Sprintf("%d bytes", whole.Length)
	if g.meta != nil {
		says = g.meta.describe(c.contentSize(g))
	}
	if m.A != nil && m.B != nil { // the other side has another part of this member, a directory entry say
		f.Where = g.key
	}
	if w == A {
		f.A = says
	} else {
		f.B = says
	}
	c.add(m, f)
}

func (c *comparer) contentSize(g *group) int64 {
	for _, k := range g.all() {
		if k.mode == modeAuto || k.mode == modePacked {
			return k.size
		}
	}
	return 0
}

// alonecut owns a cut that only one side has.
func (c *comparer) alonecut(m *Node, s source, w Which, k *cut, outer bool) {
	f := Finding{What: k.what, Where: k.where, Effect: k.effect, Outer: outer}
	if k.mode == modeAuto || k.mode == modePacked {
		f.What = WhatPresence
	}
	if f.What == "" {
		f.What = WhatBytes
	}
	r := Range{k.off, k.size}
	if w == A {
		f.A, f.Runs = k.shown(s), []Run{{A: r}}
	} else {
		f.B, f.Runs = k.shown(s), []Run{{B: r}}
	}
	if k.what == WhatPadding && zeros(s.sub(k.off, k.size)) {
		f.Effect = true // alignment follows from what stands before
	}
	c.merge(m, f)
}

func (k *cut) shown(s source) string {
	if k.value != "" {
		return k.value
	}
	b, err := s.slice(k.off, min(k.size, maxValue))
	if err != nil {
		return ""
	}
	if say := k.how().say; say != nil {
		return say(b)
	}
	if int64(len(b)) < k.size {
		return clip(show(b) + fmt.Sprintf(" … (%d bytes)", k.size))
	}
	return show(b)
}

// groups compares two paired groups.
func (c *comparer) groups(n, m *Node, a, b source, g, h *group) error {
	if m != n {
		p := m.B
		if h.member != m.Name && p.Name == "" {
			p.Name = h.member
		}
	}
	if g.open != nil && h.open != nil && g.member == h.member {
		x, y := a.sub(g.whole.Offset, g.whole.Length), b.sub(h.whole.Offset, h.whole.Length)
		if equal, err := same(x, y); equal || err != nil {
			return err
		}
	}
	left, right := g.all(), h.all()
	p := pair(len(left), len(right), func(i int) string { return left[i].id() }, func(j int) string { return right[j].id() })
	for i := range left {
		k := &left[i]
		if p.a[i] < 0 {
			c.alonecut(m, a, A, k, m != n)
			continue
		}
		if err := c.cuts(n, m, a, b, k, &right[p.a[i]]); err != nil {
			return err
		}
		if p.moved[i] {
			l := &right[p.a[i]]
			c.moves.add(Range{k.off, k.size}, Range{l.off, l.size}, k.label(), l.label())
		}
	}
	for j := range right {
		if p.b[j] < 0 {
			c.alonecut(m, b, B, &right[j], m != n)
		}
	}
	if g.member != h.member {
		for i := range m.Findings {
			if f := &m.Findings[i]; f.What == WhatName {
				f.What, f.A, f.B = WhatRenamed, clip(g.member), clip(h.member)
			}
		}
	}
	return nil
}

func (k *cut) label() string {
	if k.where != "" {
		return k.where
	}
	return k.what
}

// cuts compares two paired cuts.
func (c *comparer) cuts(n, m *Node, a, b source, k, l *cut) error {
	x, y := a.sub(k.off, k.size), b.sub(l.off, l.size)
	equal, err := same(x, y)
	if err != nil {
		return err
	}
	outer := m != n
	if (k.mode == modeAuto || k.inside) && outer {
		m.A.Offset, m.A.Size, m.A.src = k.off, k.size, x.dropped()
		m.B.Offset, m.B.Size, m.B.src = l.off, l.size, y.dropped()
	}
	if equal {
		return nil
	}
	whole := []Run{{Range{k.off, k.size}, Range{l.off, l.size}}}
	f := Finding{What: k.what, Where: k.where, Effect: k.effect && l.effect, Outer: outer}
	switch {
	case k.mode == modePacked && l.mode == modePacked:
		return c.packed(m, k, l, outer, whole)
	case k.mode == modeAuto && l.mode == modeAuto:
		if !outer {
			m = c.section(n, k, l, x, y)
		}
		return c.contents(m, x, y, k.how().hint)
	case k.mode == modeBytes || k.mode == modeText || k.mode == modeStrings:
		list, err := c.leaf(x, y, k)
		if err != nil {
			return err
		}
		if k.fold {
			list = folded(list)
		}
		for _, g := range list {
			if g.What == "" || k.mode == modeStrings && k.what != "" {
				g.What = k.what
			}
			if g.Where == "" {
				g.Where = k.where
			}
			g.Effect = g.Effect || f.Effect || k.what == WhatPadding && zeros(x) && zeros(y)
			if !k.inside || !l.inside || !outer {
				g.Outer, g.Runs = outer, shift(g.Runs, k.off, l.off)
			}
			c.add(m, g)
		}
		return nil
	}
	if f.What == "" {
		f.What = WhatContent
	}
	f.A, f.B, f.Runs = k.shown(a), l.shown(b), whole
	if k.inside && l.inside && outer {
		f.Outer, f.Runs = false, []Run{{Range{0, k.size}, Range{0, l.size}}}
	}
	c.merge(m, f)
	return nil
}

// zeros reports whether a stretch, of a page at most, holds nothing but zeros.
func zeros(s source) bool {
	if s.size > 64<<10 {
		return false
	}
	b, err := s.load()
	return err == nil && allZero(b)
}

// section is a new child for a stretch that is a file of its own.
func (c *comparer) section(n *Node, k, l *cut, x, y source) *Node {
	m := &Node{Name: k.label(), Kind: KindSection, Parent: n}
	m.A = &Part{Offset: k.off, Size: k.size, src: x.dropped()}
	m.B = &Part{Offset: l.off, Size: l.size, src: y.dropped()}
	n.Children = append(n.Children, m)
	return m
}

// packed compares what two differing packed stretches unpack to.
func (c *comparer) packed(m *Node, k, l *cut, outer bool, whole []Run) error {
	f := Finding{What: WhatPacked, Effect: true, Outer: outer, Runs: whole,
		A: fmt.Sprintf("%d bytes", k.size), B: fmt.Sprintf("%d bytes", l.size)}
	if c.equal != nil {
		f.What, f.Effect, f.Note = WhatCompression, false, compressors(k, l, c.equal)
		c.add(m, f)
		return nil
	}
	child := m
	if !outer {
		child = &Node{Name: k.label(), Kind: KindStream, Parent: m}
	}
	var parts [2]*Part
	for i, k := range []*cut{k, l} {
		s, err := c.unpack(k)
		if err == ErrStopped {
			return err
		}
		if err != nil {
			if f.What != WhatMalformed {
				f.What, f.Effect, f.A, f.B = WhatMalformed, false, "", ""
			}
			if i == 0 {
				f.A = "cannot be unpacked: " + err.Error()
			} else {
				f.B = "cannot be unpacked: " + err.Error()
			}
			continue
		}
		parts[i] = &Part{Offset: -1, Size: s.size, src: s}
	}
	if f.What == WhatMalformed {
		c.add(m, f)
		return nil
	}
	if outer {
		parts[0].Meta, parts[1].Meta, parts[1].Name = m.A.Meta, m.B.Meta, m.B.Name
	}
	equal, err := same(parts[0].src, parts[1].src)
	if err != nil {
		return err
	}
	if equal {
		f.What, f.Effect = WhatCompression, false
		f.Note = compressors(k, l, func() (io.ReadCloser, error) { return io.NopCloser(parts[0].src.reader()), nil })
		c.add(m, f)
		if outer {
			m.A.Size, m.B.Size = parts[0].Size, parts[1].Size
		}
		return nil
	}
	c.add(m, f)
	child.A, child.B = parts[0], parts[1]
	if in, other := k.how().inner, l.how().inner; in != nil && other != nil {
		err = c.inner(child, in)
	} else {
		err = c.contents(child, parts[0].src, parts[1].src, k.how().hint)
	}
	if !outer {
		m.Children = append(m.Children, child)
	}
	return err
}

// inner compares what both sides unpacked to, as its cut says.
func (c *comparer) inner(n *Node, k *cut) error {
	list, err := c.leaf(n.A.src, n.B.src, k)
	if err != nil {
		return err
	}
	if k.fold {
		list = folded(list)
	}
	for _, f := range list {
		if f.What == "" || k.mode == modeStrings && k.what != "" {
			f.What = k.what
		}
		f.Effect = f.Effect || k.effect
		c.add(n, f)
	}
	return nil
}

// folded makes one finding of several of one kind.
func folded(list []Finding) []Finding {
	if len(list) < 2 {
		return list
	}
	for _, g := range list[1:] {
		list[0].Runs, list[0].More = append(list[0].Runs, g.Runs...), list[0].More+1+g.More
	}
	return list[:1]
}

// moves are the stretches of a file that stand in another order.
type moves struct {
	spans [2][]Range
	names [2][]string
}

func (m *moves) add(a, b Range, nameA, nameB string) {
	m.spans[A], m.spans[B] = append(m.spans[A], a), append(m.spans[B], b)
	// A leaf and the space before it move together.
	if n := len(m.names[A]); n == 0 || m.names[A][n-1] != nameA || m.names[B][n-1] != nameB {
		m.names[A], m.names[B] = append(m.names[A], nameA), append(m.names[B], nameB)
	}
}

// reordered owns what stands in another order and nothing else owns.
func (c *comparer) reordered(n *Node, x, y *anatomy, p *pairing) {
	for i, moved := range p.moved {
		if moved {
			g, h := &x.groups[i], &y.groups[p.a[i]]
			c.moves.add(Range{g.start(), g.end() - g.start()}, Range{h.start(), h.end() - h.start()}, g.label(), h.label())
		}
	}
	c.ownOrder(n, c.moves)
}

func (g *group) label() string {
	if g.member != "" {
		return g.member
	}
	return g.key
}

// ownOrder adds the finding that owns moved stretches, less what others own already.
func (c *comparer) ownOrder(n *Node, m moves) {
	spans, names := m.spans, m.names
	if len(spans[A]) == 0 {
		return
	}
	f := Finding{What: WhatOrder, A: list(names[A]), B: list(names[B]), More: len(names[A]) - 1}
	for _, w := range []Which{A, B} {
		for _, r := range without(spans[w], n.Owned(w, nil)) {
			run := Run{A: r}
			if w == B {
				run = Run{B: r}
			}
			f.Runs = append(f.Runs, run)
		}
	}
	c.add(n, f)
}

// list joins names, as many as fit a line or two.
func list(names []string) string {
	const most = 12
	s := ""
	for i, n := range names {
		if i == most {
			return s + fmt.Sprintf(", and %d more", len(names)-most)
		}
		if i > 0 {
			s += ", "
		}
		s += n
	}
	return s
}

// without is spans, sorted and joined, less the sorted ranges that are taken.
func without(spans, taken []Range) []Range {
	sort.Slice(spans, func(i, j int) bool { return spans[i].Offset < spans[j].Offset })
	var out []Range
	k, done := 0, int64(0)
	for _, s := range spans {
		at := max(s.Offset, done)
		for k < len(taken) && taken[k].End() <= at {
			k++
		}
		for i := k; i < len(taken) && taken[i].Offset < s.End(); i++ {
			if taken[i].Offset > at {
				out = append(out, Range{at, taken[i].Offset - at})
			}
			at = max(at, taken[i].End())
		}
		if at < s.End() {
			out = append(out, Range{at, s.End() - at})
		}
		done = max(done, s.End())
	}
	return out
}
