package diff

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
)

func keysOf(a, b map[string]string) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// tree is one side of a comparison of entries: a tar or a folder.
type tree struct {
	list   *tarListing
	src    source                         // the tar's bytes, when they can be read anywhere
	packed *inflated                      // behind src, when reading there means to unpack
	reopen func() (io.ReadCloser, error)  // without src: reads them from the beginning once more
	heads  source                         // spooled headers, with packed or reopen
	before source                         // those of the entries before fork
	fork   int64                          // an offset, 0 without before
	folder func(e *entry) (source, error) // opens a file of a folder
	near   nearby                         // of the headers
	files  map[string]int                 // of the list, by path, once a hard link was looked up
}

func (t *tree) isFolder() bool { return t.folder != nil }

// raw returns the header blocks of e. They are good until the next reading of the tree.
func (t *tree) raw(e *entry) ([]byte, error) {
	if heads := t.headsOf(e); heads.r != nil {
		return t.near.slice(heads, e.headAt, e.head)
	}
	return t.near.slice(t.src, e.start, e.head)
}

// headsOf is where the header of e waits, followed by the padding; no source when it is read from src.
func (t *tree) headsOf(e *entry) source {
	if e.start < t.fork {
		return t.before
	}
	return t.heads
}

// rest gives up the memory that reading src took.
func (t *tree) rest() {
	if t.packed != nil {
		t.packed.rest()
	}
}

// nearby is what was read last of a source: headers of small files lie close together, and are asked for in order.
type nearby struct {
	r   io.ReaderAt
	at  int64
	buf []byte
}

// nearbySize is a guess between reading for each of many small files and reading too much for each large one.
const nearbySize = 16 << 10

func (n *nearby) slice(s source, off, size int64) ([]byte, error) {
	if s.mem != nil || size > nearbySize {
		return s.slice(off, size)
	}
	if s.r != n.r || off < n.at || off+size > n.at+int64(len(n.buf)) {
		if n.buf == nil {
			n.buf = make([]byte, nearbySize)
		}
		k, err := s.ReadAt(n.buf[:nearbySize], off)
		n.r, n.at, n.buf = s.r, off, n.buf[:k]
		if int64(k) < size {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return n.buf[off-n.at : off-n.at+size : off-n.at+size], nil
}

func (t *tree) parse(e *entry) (*tarHead, error) {
	raw, err := t.raw(e)
	if err != nil {
		return nil, err
	}
	return parseTarHead(raw), nil
}

func (t *tree) meta(e *entry) (*Meta, error) {
	if e.meta != nil {
		return e.meta, nil
	}
	h, err := t.parse(e)
	if err != nil {
		return nil, err
	}
	meta := h.meta // a copy: the head itself is large
	return &meta, nil
}

// scanSource lists a tar that can be read anywhere.
func scanSource(s source, done <-chan struct{}) (*tree, error) {
	l, err := newTarReader(bufio.NewReaderSize(&watched{r: s.reader(), done: done}, int(min(s.size+1, tarBuffer))), nil).scan()
	if err != nil {
		return nil, err
	}
	return &tree{list: l, src: s}, nil
}

// fetch brings the contents of the wanted entries (numbers, rising) to where they can be read anywhere.
func (t *tree) fetch(wanted []int, into *spool, done <-chan struct{}) (map[int]source, error) {
	if t.packed != nil {
		return t.packed.fetch(t.list.entries, wanted, into)
	}
	out := make(map[int]source, len(wanted))
	if t.folder != nil || t.src.r != nil {
		for _, i := range wanted {
			e := &t.list.entries[i]
			if t.folder == nil {
				out[i] = t.src.sub(e.data(), e.size)
				continue
			}
			s, err := t.folder(e)
			if err != nil {
				return nil, err
			}
			out[i] = s
		}
		return out, nil
	}
	if len(wanted) == 0 {
		return out, nil
	}
	r, err := t.reopen()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	in := &watched{r: r, done: done}
	at := int64(0)
	for _, i := range wanted {
		e := &t.list.entries[i]
		if _, err := io.CopyN(io.Discard, in, e.data()-at); err != nil {
			return nil, err
		}
		at = e.data()
		if e.size > maxSpool-into.size {
			continue // no room: its bytes stay unexplained
		}
		mark := into.size
		if _, err := io.CopyN(into, in, e.size); err != nil {
			return nil, err
		}
		at += e.size
		out[i] = into.since(mark)
	}
	return out, nil
}

// tarFiles compares two tar files within a file.
func (c *comparer) tarFiles(n *Node, a, b source) error {
	x, err := scanSource(a, c.o.Done)
	if err != nil {
		return err
	}
	y, err := scanSource(b, c.o.Done)
	if err != nil {
		return err
	}
	return c.trees(n, x, y, KindMember)
}

// trees compares two lists of entries.
func (c *comparer) trees(n *Node, x, y *tree, kind Kind) error {
	w := &treeWork{c: c, n: n, x: x, y: y, kind: kind}
	ea, eb := x.list.entries, y.list.entries
	w.p = pair(len(ea), len(eb), func(i int) string { return ea[i].key() }, func(j int) string { return eb[j].key() })
	if x.list.issue != "" || y.list.issue != "" {
		c.add(n, Finding{What: WhatMalformed, A: x.list.issue, B: y.list.issue})
	}
	if err := w.moveEqual(); err != nil {
		return err
	}
	if err := w.contents(); err != nil {
		return err
	}
	c.names.tree(x.list, func(int) bool { return false })
	c.names.tree(y.list, func(j int) bool { i := w.p.b[j]; return i >= 0 && ea[i].path == eb[j].path })
	w.p.order()
	return w.say()
}

type treeWork struct {
	c           *comparer
	n           *Node
	x, y        *tree
	kind        Kind
	p           pairing
	left, right map[int]source // contents
	folded      Finding        // entries beyond the budget
	room        [2][]cut       // for the headers at hand
	heads       []Finding      // what differs in headers of such entries, by kind
}

// maxNodes bounds the entries of one comparison that become nodes, at some 1.3 kB each. The
// largest images have some 100,000 entries; when more than these differ, it is in the same way, and ten thousand names are more than anyone reads.
const maxNodes = 10_000

// fold owns what differs in an entry beyond the budget; without heads, only its contents.
func (w *treeWork) fold(e, f *entry, heads bool) {
	g := &w.folded
	if g.What == "" {
		*g = Finding{What: WhatFolded, Where: "entries beyond the budget of nodes", A: e.path, B: f.path, More: -1}
	}
	g.More++
	g.Entries++
	add := func(a, b Range) { g.Runs = append(g.Runs, Run{a, b}) }
	if heads && (e.headSum != f.headSum || e.path != f.path) {
		add(Range{e.start, e.head}, Range{f.start, f.head})
	}
	if !e.sameStored(f) {
		add(Range{e.data(), e.size}, Range{f.data(), f.size})
	}
	if heads && (e.headSum != f.headSum || e.size != f.size) {
		add(Range{e.data() + e.size, e.padding()}, Range{f.data() + f.size, f.padding()})
	}
}

// countBeyond counts an entry that differs and has no node.
func (w *treeWork) countBeyond() {
	w.n.Beyond++
	if w.kind == KindEntry {
		w.c.total.Differing++
	}
}

// foldHeader joins what differs in the header of an entry beyond the budget, kind by kind: that all
// times differ is the commonest difference of large images, and is one thing to say. It is false when more differs.
func (w *treeWork) foldHeader(e, f *entry) (bool, error) {
	m := &Node{Name: e.path, Kind: w.kind, Parent: w.n, A: &Part{Offset: -1, Size: e.size}, B: &Part{Offset: -1, Size: f.size}}
	found := w.c.found
	err := w.headers(m, e, f)
	w.c.found = found
	if err != nil || len(m.Children) > 0 || slices.ContainsFunc(m.Findings, func(g Finding) bool { return !g.Outer || g.What == WhatFolded }) {
		return false, err
	}
	for _, g := range m.Findings {
		g.Outer, g.Entries = false, 1
		i := slices.IndexFunc(w.heads, func(h Finding) bool { return h.What == g.What && h.Where == g.Where && h.Effect == g.Effect })
		if i < 0 {
			w.heads = append(w.heads, g)
			continue
		}
		w.heads[i].Runs = append(w.heads[i].Runs, g.Runs...)
		w.heads[i].Entries++
		w.heads[i].More += 1 + g.More
	}
	return true, nil
}

// lonely are the regular files without a partner.
func lonely(entries []entry, partner []int) []int {
	var out []int
	for i := range entries {
		if partner[i] < 0 && (entries[i].kind == '0' || entries[i].kind == '7') {
			out = append(out, i)
		}
	}
	return out
}

// moveEqual pairs files that have equal contents under another path. The hashes of
// the listing are enough for that.
func (w *treeWork) moveEqual() error {
	la, lb := lonely(w.x.list.entries, w.p.a), lonely(w.y.list.entries, w.p.b)
	if len(la) == 0 || len(lb) == 0 {
		return nil
	}
	type content struct {
		sum  hash128
		size int64
	}
	for _, named := range []bool{true, false} {
		byContent := map[content][]int{}
		for _, j := range lb {
			if e := &w.y.list.entries[j]; w.p.b[j] < 0 && e.size > 0 {
				k := content{e.dataSum, e.size}
				byContent[k] = append(byContent[k], j)
			}
		}
		for _, i := range la {
			e := &w.x.list.entries[i]
			k := content{e.dataSum, e.size}
			list := byContent[k]
			if w.p.a[i] >= 0 {
				continue
			}
			for at, j := range list {
				if !named || baseName(w.y.list.entries[j].path) == baseName(e.path) {
					w.p.a[i], w.p.b[j] = j, i
					byContent[k] = slices.Delete(list, at, at+1)
					break
				}
			}
		}
	}
	return nil
}

// contents fetches what differs, and what may have been renamed and changed.
func (w *treeWork) contents() error {
	var wantA, wantB []int
	for i, j := range w.p.a {
		if j < 0 {
			continue
		}
		e, f := &w.x.list.entries[i], &w.y.list.entries[j]
		if !e.sameContents(f) && !w.copied(i, j) {
			if e.size > 0 || w.x.isFolder() {
				wantA = append(wantA, i)
			}
			if f.size > 0 || w.y.isFolder() {
				wantB = append(wantB, j)
			}
		}
	}
	la, lb := lonely(w.x.list.entries, w.p.a), lonely(w.y.list.entries, w.p.b)
	alike := len(la) > 0 && len(lb) > 0 && len(la) <= maxAlike && len(lb) <= maxAlike
	if alike {
		wantA, wantB = append(wantA, la...), append(wantB, lb...)
	}
	slices.Sort(wantA)
	slices.Sort(wantB)
	if err := w.fetch(wantA, wantB); err != nil {
		return err
	}
	if !alike {
		return nil
	}
	sketch := func(list []int, t *tree, at map[int]source) []likeness {
		var out []likeness
		for _, i := range list {
			out = append(out, likenessOf(t.list.entries[i].path, at[i]))
		}
		return out
	}
	for _, m := range marry(sketch(la, w.x, w.left), sketch(lb, w.y, w.right)) {
		i, j := la[m[0]], lb[m[1]]
		w.p.a[i], w.p.b[j] = j, i
	}
	return nil
}

// fetch reads both sides at once, each into a spool of its own.
func (w *treeWork) fetch(wantA, wantB []int) error {
	var both errgroup.Group
	both.Go(func() (err error) {
		w.left, err = w.x.fetch(wantA, w.c.sides[A], w.c.o.Done)
		return err
	})
	both.Go(func() (err error) {
		w.right, err = w.y.fetch(wantB, w.c.sides[B], w.c.o.Done)
		return err
	})
	return both.Wait()
}

// say compares the entries, in A's order, then those that only B has.
func (w *treeWork) say() error {
	c := w.c
	var moved moves
	for i := range w.x.list.entries {
		if err := c.stopped(); err != nil {
			return err
		}
		e := &w.x.list.entries[i]
		c.total.Files++
		j := w.p.a[i]
		if j < 0 {
			if err := w.alone(A, w.x, e); err != nil {
				return err
			}
			continue
		}
		f := &w.y.list.entries[j]
		if err := w.pair(i, j, e, f); err != nil {
			return err
		}
		if w.p.moved[i] && !w.x.isFolder() && !w.y.isFolder() {
			moved.add(Range{e.start, e.end() - e.start}, Range{f.start, f.end() - f.start}, e.path, f.path)
		}
	}
	for j := range w.y.list.entries {
		if w.p.b[j] < 0 {
			c.total.Files++
			if err := w.alone(B, w.y, &w.y.list.entries[j]); err != nil {
				return err
			}
		}
	}
	if w.x.isFolder() || w.y.isFolder() {
		return nil
	}
	if err := w.tails(); err != nil {
		return err
	}
	for _, f := range w.heads {
		c.add(w.n, f)
	}
	if w.folded.What != "" {
		c.add(w.n, w.folded)
	}
	c.ownOrder(w.n, moved)
	return nil
}

// alone says that only one side has an entry.
func (w *treeWork) alone(side Which, t *tree, e *entry) error {
	if w.c.nodes++; w.c.nodes > maxNodes && !t.isFolder() {
		none := entry{}
		if side == A {
			w.fold(e, &none, true)
		} else {
			w.fold(&none, e, true)
		}
		w.countBeyond()
		return nil
	}
	meta, err := t.meta(e)
	if err != nil {
		return err
	}
	m := &Node{Name: e.path, Kind: w.kind, Parent: w.n}
	f := Finding{What: WhatPresence}
	part := &Part{Offset: -1, Size: e.size, Meta: meta}
	if !t.isFolder() {
		part.Offset = e.data()
		f.Outer = true
	}
	whole := Range{e.start, e.end() - e.start}
	if side == A {
		m.A, f.A = part, meta.describe(e.size)
		f.Runs = []Run{{A: whole}}
	} else {
		m.B, f.B = part, meta.describe(e.size)
		f.Runs = []Run{{B: whole}}
	}
	if t.isFolder() {
		f.Runs = nil
	}
	w.c.add(m, f)
	w.n.Children = append(w.n.Children, m)
	return nil
}

// pair compares two entries.
func (w *treeWork) pair(i, j int, e, f *entry) error {
	folder := w.x.isFolder() || w.y.isFolder()
	equalData := e.sameStored(f)
	if !folder && equalData && e.headSum == f.headSum && e.path == f.path {
		return nil
	}
	if w.c.nodes++; w.c.nodes > maxNodes && !folder {
		w.countBeyond()
		said := false
		if e.path == f.path && len(w.heads) < 1000 { // kinds; some dozens in earnest
			var err error
			if said, err = w.foldHeader(e, f); err != nil {
				return err
			}
		}
		if !said || !equalData {
			w.fold(e, f, !said)
		}
		return nil
	}
	m := &Node{Name: e.path, Kind: w.kind, Parent: w.n}
	m.A, m.B = &Part{Offset: -1, Size: e.size}, &Part{Offset: -1, Size: f.size}
	if e.path != f.path {
		m.B.Name = f.path
	}
	if folder {
		if err := w.metas(m, e, f); err != nil {
			return err
		}
	} else if err := w.headers(m, e, f); err != nil {
		return err
	}
	switch {
	case w.copied(i, j):
		w.otherwise(m, e, f, Finding{What: WhatContent, Effect: true, Note: "the same as what the link leads to"})
	case !e.sameContents(f):
		if err := w.data(m, i, j, e, f); err != nil {
			return err
		}
	case !equalData:
		w.otherwise(m, e, f, Finding{What: WhatSparse, Where: "contents", Note: "the same with its holes filled in"})
	}
	if len(m.Findings) > 0 || len(m.Children) > 0 {
		w.n.Children = append(w.n.Children, m)
	}
	return nil
}

// otherwise owns contents that are equal and stored in another way.
func (w *treeWork) otherwise(m *Node, e, f *entry, g Finding) {
	folder := w.x.isFolder() || w.y.isFolder()
	if folder && g.What == WhatSparse {
		return // how a file is stored is nothing of a folder
	}
	g.A, g.B, g.Outer = e.storedAs(), f.storedAs(), !folder
	if !folder {
		g.Runs = []Run{{Range{e.data(), e.size}, Range{f.data(), f.size}}}
	}
	w.c.add(m, g)
}

func (e *entry) storedAs() string {
	if s := e.sparse; s != nil {
		return fmt.Sprintf("%d bytes in %d pieces of a file of %d", e.size, s.pieces, s.size)
	}
	return fmt.Sprintf("%d bytes", e.size)
}

// copied reports whether a pair is a hard link on one side and a file on the other, and they have the same contents.
func (w *treeWork) copied(i, j int) bool {
	e, f := &w.x.list.entries[i], &w.y.list.entries[j]
	switch {
	case e.kind == '1' && isFile(f.kind):
		e = w.x.target(e)
	case f.kind == '1' && isFile(e.kind):
		f = w.y.target(f)
	default:
		return false
	}
	return e != nil && f != nil && e.sameContents(f)
}

func isFile(kind byte) bool { return kind == '0' || kind == '7' || kind == 'S' }

// target is the file that a hard link leads to, nil for none. Links lead to files: a chain of them is cut short.
func (t *tree) target(e *entry) *entry {
	if t.files == nil {
		t.files = map[string]int{}
		for i := range t.list.entries {
			if f := &t.list.entries[i]; isFile(f.kind) {
				t.files[f.path] = i
			}
		}
	}
	meta, err := t.meta(e)
	if err != nil {
		return nil
	}
	i, ok := t.files[cleanPath(meta.Link)]
	if !ok {
		return nil
	}
	return &t.list.entries[i]
}

func (w *treeWork) metas(m *Node, e, f *entry) error {
	a, err := w.x.meta(e)
	if err != nil {
		return err
	}
	b, err := w.y.meta(f)
	if err != nil {
		return err
	}
	m.A.Meta, m.B.Meta = a, b
	if e.path != f.path {
		w.c.add(m, Finding{What: WhatRenamed, A: e.path, B: f.path})
	}
	for _, g := range metas(a, b) {
		w.c.add(m, g)
	}
	return nil
}

// headers compares the header blocks of two entries.
func (w *treeWork) headers(m *Node, e, f *entry) error {
	var raw [2][]byte
	var err error
	if raw[A], err = w.x.raw(e); err != nil {
		return err
	}
	if raw[B], err = w.y.raw(f); err != nil {
		return err
	}
	a, b := twoTarHeads(raw, &w.room)
	x, y := a.meta, b.meta // copies: the head itself is large
	m.A.Meta, m.B.Meta = &x, &y
	m.A.Offset, m.B.Offset = e.data(), f.data()
	if e.headSum == f.headSum {
		return nil
	}
	retell(a, b, e.path != f.path)
	g, h := &group{member: m.Name, cuts: a.cuts}, &group{member: m.Name, cuts: b.cuts}
	outer := w.c.moves
	w.c.moves = moves{}
	defer func() { w.c.moves = outer }()
	if err := w.c.groups(w.n, m, inMemory(raw[A]), inMemory(raw[B]), g, h); err != nil {
		return err
	}
	for i := range m.Findings {
		within(m.Findings[i].Runs, e.start, f.start)
	}
	for i := range w.c.moves.spans[A] {
		w.c.moves.spans[A][i].Offset += e.start
		w.c.moves.spans[B][i].Offset += f.start
	}
	// Records in another order: the finding is the member's.
	w.ownRecords(m, e, f)
	w.settleValues(m, a, b)
	return w.paddings(m, e, f)
}

// ownRecords adds the order of PAX records of one entry.
func (w *treeWork) ownRecords(m *Node, e, f *entry) {
	if len(w.c.moves.spans[A]) == 0 {
		return
	}
	order := Finding{What: WhatOrder, Outer: true, A: list(w.c.moves.names[A]), B: list(w.c.moves.names[B])}
	for _, side := range []Which{A, B} {
		var taken []Range
		for _, g := range m.Findings {
			for _, r := range g.Runs {
				if x := r.On(side); g.Outer && x.Length > 0 {
					taken = append(taken, x)
				}
			}
		}
		slices.SortFunc(taken, func(x, y Range) int { return int(x.Offset - y.Offset) })
		for _, r := range without(w.c.moves.spans[side], taken) {
			if side == A {
				order.Runs = append(order.Runs, Run{A: r})
			} else {
				order.Runs = append(order.Runs, Run{B: r})
			}
		}
	}
	w.c.add(m, order)
}

// within moves runs of two headers to where these lie.
func within(runs []Run, a, b int64) {
	for i := range runs {
		r := &runs[i]
		if r.A.Length > 0 {
			r.A.Offset += a
		}
		if r.B.Length > 0 {
			r.B.Offset += b
		}
	}
}

// retell names cuts by what they come to: the PAX blocks of one side are its
// format, a name that differs in effect was renamed.
func retell(a, b *tarHead, renamed bool) {
	for _, h := range []*tarHead{a, b} {
		for i := range h.cuts {
			k := &h.cuts[i]
			if k.what == WhatPAXName && a.meta.Format != b.meta.Format {
				k.what, k.where, k.value, k.effect = WhatTar, "", h.meta.Format, false
			}
			if k.what == WhatPAX && k.key == sparseField && (a.kind == 'S' || b.kind == 'S') {
				k.what, k.where = WhatSparse, "map"
			}
			if k.what == WhatName && renamed {
				k.what, k.value = WhatRenamed, h.path
			}
			// Formats write no device as NULs or as zeros.
			if k.what == WhatDevice && a.device == b.device && a.meta.Format != b.meta.Format {
				k.what, k.value = WhatTar, h.meta.Format
			}
		}
	}
}

// settleValues gives both sides of what was merged the value in effect.
func (w *treeWork) settleValues(m *Node, a, b *tarHead) {
	for i := range m.Findings {
		f := &m.Findings[i]
		if !f.Outer {
			continue
		}
		switch f.What {
		case WhatRenamed:
			f.A, f.B = a.path, b.path
		case WhatTar:
			f.A, f.B = a.meta.Format, b.meta.Format
		default:
			if x, y := a.value(f.What, ""), b.value(f.What, ""); x != y {
				f.A, f.B = clip(x), clip(y)
			} else if x != "" && f.What != WhatName {
				f.Note = "in effect both are " + clip(x) + ", stored otherwise"
			}
		}
	}
}

// paddings compares the bytes between the contents and the next entry, which should be zero.
func (w *treeWork) paddings(m *Node, e, f *entry) error {
	x, err := w.x.paddingOf(e)
	if err != nil {
		return err
	}
	y, err := w.y.paddingOf(f)
	if err != nil {
		return err
	}
	if string(x) == string(y) {
		return nil
	}
	effect := allZero(x) && allZero(y)
	w.c.add(m, Finding{What: WhatPadding, Outer: true, Effect: effect, A: fmt.Sprintf("%d bytes", len(x)), B: fmt.Sprintf("%d bytes", len(y)),
		Runs: []Run{{Range{e.data() + e.size, e.padding()}, Range{f.data() + f.size, f.padding()}}}})
	return nil
}

func (t *tree) paddingOf(e *entry) ([]byte, error) {
	if heads := t.headsOf(e); heads.r != nil {
		return t.near.slice(heads, e.headAt+e.head, e.padding())
	}
	return t.near.slice(t.src, e.data()+e.size, e.padding())
}

// data compares the contents of two entries.
func (w *treeWork) data(m *Node, i, j int, e, f *entry) error {
	folder := w.x.isFolder() || w.y.isFolder()
	if !folder && e.headSum == f.headSum {
		m.A.Offset, m.B.Offset = e.data(), f.data()
	}
	if folder {
		m.A.Offset, m.B.Offset = -1, -1
	}
	a, inA := w.left[i]
	b, inB := w.right[j]
	if e.size == 0 {
		a, inA = emptySource, true
	}
	if f.size == 0 {
		b, inB = emptySource, true
	}
	if !inA || !inB {
		w.c.add(m, unexplained(Range{0, e.size}, Range{0, f.size}))
		return nil
	}
	if e.size == 0 || f.size == 0 {
		// Files against links and folders: all contents are of one side.
		m.A.src, m.B.src = a, b
		m.A.Size, m.B.Size = e.size, f.size
		w.c.add(m, Finding{What: WhatContent, A: fmt.Sprintf("%d bytes", e.size), B: fmt.Sprintf("%d bytes", f.size),
			Runs: []Run{{Range{0, e.size}, Range{0, f.size}}}})
		return nil
	}
	return w.c.contents(m, a, b, e.path)
}

// emptySource has no bytes, but can be read.
var emptySource = source{r: emptyReader{}, mem: []byte{}}

type emptyReader struct{}

func (emptyReader) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }

// unexplained owns bytes that nobody could say more about.
func unexplained(a, b Range) Finding {
	return Finding{What: WhatUnexplained, Runs: []Run{{a, b}},
		A: fmt.Sprintf("unexplained: %d bytes at offset %d", a.Length, a.Offset),
		B: fmt.Sprintf("unexplained: %d bytes at offset %d", b.Length, b.Offset)}
}

// tails compares what follows the last entry: zero blocks, or whatever could not be read.
func (w *treeWork) tails() error {
	x, y := w.x.list, w.y.list
	na, nb := x.size-x.tail, y.size-y.tail
	if na == nb && x.tailSum == y.tailSum && x.tailAt >= 0 && y.tailAt >= 0 {
		return nil
	}
	a, b := w.x.tailSource(), w.y.tailSource()
	if a.size != na || b.size != nb {
		w.c.add(w.n, unexplained(Range{x.tail, na}, Range{y.tail, nb}))
		return nil
	}
	if equal, err := same(a, b); equal || err != nil {
		return err
	}
	what := WhatPadding
	if x.issue != "" || y.issue != "" {
		what = WhatBytes
	}
	list, err := w.c.leaf(a, b, &cut{mode: modeBytes})
	for _, f := range list {
		f.What, f.Where, f.Runs = what, "after the last entry", shift(f.Runs, x.tail, y.tail)
		if what == WhatPadding {
			f.A, f.B = fmt.Sprintf("%d bytes", na), fmt.Sprintf("%d bytes", nb)
			f.Effect = zeros(a) && zeros(b) // archives are filled up to a number of blocks
		}
		w.c.add(w.n, f)
	}
	return err
}

func (t *tree) tailSource() source {
	l := t.list
	if t.src.r != nil {
		return t.src.sub(l.tail, l.size-l.tail)
	}
	if l.tailAt < 0 {
		return source{}
	}
	return t.heads.sub(l.tailAt, min(l.size-l.tail, t.heads.size-l.tailAt))
}

func baseName(p string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] == '/' {
			return p[i+1:]
		}
	}
	return p
}
