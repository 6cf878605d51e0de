package cause

import (
	"crypto/md5"  //nolint:gosec // digests that builds write are of any kind
	"crypto/sha1" //nolint:gosec // likewise
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"

	"quorate.dev/diff"
)

// Find says why the sides of a comparison differ. It reads the result's bytes, so
// the result must not be closed yet. A nil context is an empty one.
func Find(r *diff.Result, c *Context) *Report {
	if c == nil {
		c = &Context{}
	}
	s := &search{context: c, causes: map[string]*Cause{}, definition: readDefinition(c.Definition)}
	s.report = &Report{Title: c.Title, Same: r.Same(), Classes: r.Classes, InputsKnown: c.Locked, InputCount: c.Inputs}
	s.sides(r)
	s.report.First = s.firstStep()
	s.roots = newRoots(s.report.First)
	for _, cmp := range r.Pairs {
		s.compare(cmp)
	}
	s.finish()
	return s.report
}

type search struct {
	context    *Context
	report     *Report
	causes     map[string]*Cause
	definition *definition
	roots      *roots
	// Of the comparison at hand:
	pair    *pair
	sideNo  [2]int
	files   map[string]*fileState
	handled map[*diff.Finding]bool // claimed or folded together with others
}

// fileState is what became of one path.
type fileState struct {
	path, layer string
	bytes       int64
	claims      map[string]float64 // entry → least confidence
	left        []leftover
	effects     map[string]int
	node        *diff.Node
	entries     int // that have no node of their own
}

type leftover struct {
	node    *diff.Node
	finding *diff.Finding
}

func (s *search) facts(side int) Facts {
	if side < len(s.context.Sides) {
		return s.context.Sides[side]
	}
	return Facts{}
}

func (s *search) sides(r *diff.Result) {
	class := map[int]int{}
	for k, members := range r.Classes {
		for _, m := range members {
			class[m] = k
		}
	}
	for i, side := range r.Sides {
		f := s.facts(i)
		name := f.Name
		if name == "" {
			name = side.Name
		}
		sr := SideReport{Name: name, Digest: side.Digest, Class: class[i], Facts: maps.Clone(f.Values)}
		if len(side.Images) == 1 {
			sr.Digest = side.Images[0]
		}
		if !f.Started.IsZero() {
			if sr.Facts == nil {
				sr.Facts = map[string]string{}
			}
			sr.Facts["started"] = f.Started.UTC().Format("2006-01-02T15:04:05Z")
		}
		s.report.Sides = append(s.report.Sides, sr)
	}
	label(s.report.Sides)
}

// label cuts off the folders that all names begin or end with.
func label(sides []SideReport) {
	var names [][]string
	for _, s := range sides {
		names = append(names, strings.Split(s.Name, "/"))
	}
	common := func(at func([]string) string) bool {
		for _, n := range names {
			if len(n) < 2 || at(n) != at(names[0]) {
				return false
			}
		}
		return true
	}
	for common(func(n []string) string { return n[0] }) {
		for i := range names {
			names[i] = names[i][1:]
		}
	}
	for common(func(n []string) string { return n[len(n)-1] }) {
		for i := range names {
			names[i] = names[i][:len(names[i])-1]
		}
	}
	for i := range sides {
		sides[i].Label = strings.Join(names[i], "/")
	}
}

func (s *search) compare(cmp *diff.Comparison) {
	s.pair = newPair(s.facts(cmp.A), s.facts(cmp.B))
	s.pair.held = cmp
	s.pair.learn(cmp.Root)
	s.sideNo = [2]int{cmp.A, cmp.B}
	s.files = map[string]*fileState{}
	s.report.Inputs = append(s.report.Inputs, inputs(cmp.Root)...)
	s.index(cmp.Root)
	s.roots.find(cmp.Root)
	s.handled = map[*diff.Finding]bool{}
	s.whiteouts(cmp.Root)
	s.cutShort(cmp.Root)
	cmp.Root.Walk(func(n *diff.Node) bool {
		if s.place(n) != nil {
			return true
		}
		switch n.Format {
		case "elf":
			s.elfFile(n)
		case "pyc":
			s.pycFile(n)
		}
		return true
	})
	cmp.Root.Walk(func(n *diff.Node) bool {
		s.node(n)
		return true
	})
	s.settle(cmp)
}

// Digests of at most so many bytes of differing files are made in all kinds
// that lists of digests use: RECORD, md5sums, SHA512SUMS.
const (
	maxDigested = 4 << 20
	allDigested = 64 << 20
)

// index notes the digests of all differing files, by which lists of digests are known as effects.
func (s *search) index(root *diff.Node) {
	budget := int64(allDigested)
	root.Walk(func(n *diff.Node) bool {
		if n.Kind == diff.KindEntry || n.Kind == diff.KindMember {
			s.pair.changed[path.Base(n.Name)] = true
		}
		for _, w := range []diff.Which{diff.A, diff.B} {
			part := n.Part(w)
			if part == nil {
				continue
			}
			if hexed, ok := strings.CutPrefix(part.Digest, "sha256:"); ok {
				s.pair.digests[hexed] = n.Name
			}
			if (n.Kind != diff.KindEntry && n.Kind != diff.KindMember) || part.Size == 0 || part.Size > maxDigested || part.Size > budget {
				continue
			}
			b, err := n.Bytes(w, maxDigested)
			if err != nil {
				continue
			}
			budget -= part.Size
			m, h, l := md5.Sum(b), sha1.Sum(b), sha512.Sum512(b) //nolint:gosec // see above
			for _, sum := range [][]byte{m[:], h[:], l[:]} {
				s.pair.digests[hex.EncodeToString(sum)] = n.Name
			}
		}
		return true
	})
}

// wholeArchive stands for a tar itself, in place of a path in it.
const wholeArchive = "(archive)"

func (s *search) file(n *diff.Node) *fileState {
	name, layer := "", ""
	for m := n; m != nil; m = m.Parent {
		switch {
		case m.Kind == diff.KindEntry:
			name = m.Name // the outermost: entries do not hold entries, but a file given as a side is one
		case m.Kind == diff.KindLayer:
			layer = m.Name
		case m.Kind == diff.KindDocument && name == "":
			name = "image " + m.Name
		}
	}
	if name == "" {
		name = "image"
		switch layer {
		case "":
		case "archive": // a tar that is a side
			name = wholeArchive
		default:
			name = "image " + layer
		}
	}
	key := layer + "\x00" + name
	f := s.files[key]
	if f == nil {
		f = &fileState{path: name, layer: layer, claims: map[string]float64{}, effects: map[string]int{}, node: n.File()}
		s.files[key] = f
	}
	return f
}

// node offers a node's findings to the detectors.
func (s *search) node(n *diff.Node) {
	if len(n.Findings) == 0 {
		return
	}
	file := s.file(n)
	if n.Kind == diff.KindLayer {
		file.entries = n.Beyond
	}
	var rest []*diff.Finding
	for _, f := range formatLast(n.Findings) {
		if s.handled[f] {
			continue
		}
		if f.Effect {
			file.effects[f.What] += 1 + f.More
			continue
		}
		if !f.Outer {
			if pl := s.place(n); pl != nil {
				s.claim(n, f, claim{entry: pl.entry, a: f.A, b: f.B, where: fieldLabel(f), fact: pl.fact, confidence: 1})
				continue
			}
		}
		if c, ok := s.byField(n, f); ok {
			s.claim(n, f, c)
			continue
		}
		rest = append(rest, f)
	}
	if len(rest) > 0 {
		s.contents(n, rest)
	}
}

// formatLast puts the format of an archive's entry behind what that format is needed for: evidence is kept in this order.
func formatLast(list []diff.Finding) []*diff.Finding {
	out := make([]*diff.Finding, 0, len(list))
	for _, last := range []bool{false, true} {
		for i := range list {
			if (list[i].What == diff.WhatTar) == last {
				out = append(out, &list[i])
			}
		}
	}
	return out
}

func (s *search) place(n *diff.Node) *place {
	if e := n.File(); e != nil {
		return placeOf(e.Name)
	}
	return nil
}

func (s *search) byField(n *diff.Node, f *diff.Finding) (claim, bool) {
	for i := range catalogue {
		e := &catalogue[i]
		if e.Field == nil {
			continue
		}
		if c, ok := e.Field(s.pair, n, f); ok {
			if c.entry == "" {
				c.entry = e.ID
			}
			return c, true
		}
	}
	return claim{}, false
}

// contents explains what no field detector took: text and bytes.
func (s *search) contents(n *diff.Node, rest []*diff.Finding) {
	if documents[n.Format] && s.values(n, rest) {
		return
	}
	if list, ok := s.wholeNode(n, rest); ok {
		for _, f := range rest {
			s.claim(n, f, list...)
			list = nil // evidence once; the other findings are of the same causes
		}
		return
	}
	var left []*diff.Finding
	for _, f := range rest {
		list, ok := s.one(n, f)
		if !ok {
			list, ok = s.byCommand(n, f)
		}
		if !ok {
			left = append(left, f)
			continue
		}
		s.claim(n, f, list...)
	}
	if len(left) == 0 {
		return
	}
	log, ok := s.log(n)
	for _, f := range left {
		if ok {
			s.claim(n, f, log...)
			log = nil // evidence once
			continue
		}
		file := s.file(n)
		file.left = append(file.left, leftover{n, f})
	}
}

// log judges a node whose text is not explained line by line; false when it is no log.
func (s *search) log(n *diff.Node) ([]claim, bool) {
	if n.A == nil || n.B == nil || max(n.A.Size, n.B.Size) > maxText {
		return nil, false
	}
	a, err1 := n.Bytes(diff.A, maxText)
	b, err2 := n.Bytes(diff.B, maxText)
	if err1 != nil || err2 != nil || !textual(a) || !textual(b) {
		return nil, false
	}
	c, ok := s.pair.log(n.Name, string(a), string(b))
	return []claim{c}, ok
}

// values explains a document value by value: a key and its line say more than the line alone. It
// claims nothing when one of them is not explained so.
func (s *search) values(n *diff.Node, rest []*diff.Finding) bool {
	lists := make([][]claim, len(rest))
	for i, f := range rest {
		var ok bool
		if lists[i], ok = s.one(n, f); !ok || f.Outer {
			return false
		}
	}
	for i, f := range rest {
		s.claim(n, f, lists[i]...)
	}
	return true
}

// wholeNode judges the node's bytes as one, when all that is left are findings in its contents.
func (s *search) wholeNode(n *diff.Node, rest []*diff.Finding) ([]claim, bool) {
	for _, f := range rest {
		if f.Outer || is(f, diff.WhatPresence, diff.WhatType, diff.WhatRenamed, diff.WhatMalformed) {
			return nil, false
		}
	}
	if n.A != nil && n.B != nil && max(n.A.Size, n.B.Size) > maxText {
		return s.stream(n)
	}
	a, err1 := n.Bytes(diff.A, maxText)
	b, err2 := n.Bytes(diff.B, maxText)
	if err1 != nil || err2 != nil {
		return nil, false
	}
	if c, ok := measuredFile(a, b); ok {
		return []claim{c}, true
	}
	if fileSystemImage(n) {
		return []claim{{entry: "32-file-system", a: "ext2/3/4 image", b: "another", fact: "UUID, hash seed and times of the superblock", confidence: 0.8,
			why: "the file systems' trees were not compared", confirm: "debugfs -R 'ls -l' FILE"}}, true
	}
	if list, ok := s.known(a, b); ok {
		return list, true
	}
	if !textual(a) || !textual(b) {
		return nil, false
	}
	if list, ok := s.pair.whole(n.Name, a, b); ok {
		return s.inContext(n, list), true
	}
	if list, ok := s.stream(n); ok {
		return list, true
	}
	if list, ok := beginning(a, b); ok {
		return []claim{list}, true
	}
	return nil, false
}

func (s *search) inContext(n *diff.Node, list []claim) []claim {
	for i := range list {
		s.pair.context(n, &list[i])
	}
	return list
}

// known replaces the values of each host by one token in both, whatever the format: equal
// afterwards proves that nothing else differs.
func (s *search) known(a, b []byte) ([]claim, bool) {
	x, y := string(a), string(b)
	var list []claim
	for i := range s.pair.known {
		c := &s.pair.known[i]
		at, bt := occurrences(x, c.a), occurrences(y, c.b)
		if len(at) == 0 || len(at) != len(bt) {
			continue
		}
		x, y = replaceAt(x, at, len(c.a)), replaceAt(y, bt, len(c.b))
		list = append(list, claim{entry: c.entry, a: surroundings(string(a), c.a), b: surroundings(string(b), c.b), fact: c.says(), confidence: 1})
	}
	return list, len(list) > 0 && x == y
}

func replaceAt(s string, at []int, length int) string {
	var b strings.Builder
	from := 0
	for _, i := range at {
		b.WriteString(s[from:i])
		b.WriteByte(0)
		from = i + length
	}
	b.WriteString(s[from:])
	return b.String()
}

// surroundings is the printable text in which value stands first.
func surroundings(s, value string) string {
	i := strings.Index(s, value)
	if i < 0 {
		return clip(value)
	}
	start, end := i, i+len(value)
	for start > 0 && i-start < 60 && s[start-1] >= ' ' && s[start-1] < 0x7f {
		start--
	}
	for end < len(s) && end-i < 160 && s[end] >= ' ' && s[end] < 0x7f {
		end++
	}
	return clip(s[start:end])
}

func textual(b []byte) bool {
	probe := b[:min(len(b), 64<<10)]
	return !slices.Contains(probe, 0)
}

// lines explains two texts line by line. first is the number of the first line, 0 for 1.
func (p *pair) lines(a, b []byte, first int) ([]claim, bool) {
	x, y := splitLines(a), splitLines(b)
	if len(x) != len(y) {
		return nil, false
	}
	var out []claim
	for i := range x {
		if x[i] == y[i] {
			continue
		}
		list, ok := p.line(x[i], y[i])
		if !ok {
			return nil, false
		}
		for _, c := range list {
			c.where = fmt.Sprintf("line %d", max(first, 1)+i)
			if c.effect == "" && len(x[i])+len(y[i]) < 2*maxValue {
				c.a, c.b = x[i], y[i] // a line says more than a word
			}
			out = append(out, c)
		}
	}
	return out, len(out) > 0
}

// one explains a single finding.
func (s *search) one(n *diff.Node, f *diff.Finding) ([]claim, bool) {
	var list []claim
	var ok bool
	switch {
	case f.More > 0: // its values are those of the first place only
		list, ok = s.pair.runs(n, f)
	case f.What == diff.WhatText:
		if list, ok = s.keyed(n, f); !ok {
			list, ok = s.hunk(n, f)
		}
	case f.What == diff.WhatValue && f.A != "" && f.B != "":
		if list, ok = s.keyedValue(n, f); !ok {
			list, ok = s.value(n, f)
		}
	case f.What == diff.WhatPresence: // nothing stands on the other side to tell why
	case is(f, diff.WhatUnexplained, diff.WhatMalformed, diff.WhatFormat, diff.WhatType):
		list, ok = s.pair.runs(n, f)
	default:
		if f.A != "" && f.B != "" && !is(f, diff.WhatBytes, diff.WhatFolded, diff.WhatPadding, diff.WhatContent, diff.WhatElfAddress, diff.WhatElfSymbol, diff.WhatElfSections, diff.WhatElfSegments, diff.WhatElfHeader) && !hexDump.MatchString(f.A) {
			list, ok = s.pair.line(f.A, f.B)
			for i := range list {
				list[i].where = fieldLabel(f)
				if len(f.A)+len(f.B) < 2*maxValue {
					list[i].a, list[i].b = f.A, f.B
				}
			}
		}
		if !ok {
			list, ok = s.pair.runs(n, f)
		}
	}
	if ok {
		list = s.inContext(n, list)
	}
	return list, ok
}

// value explains a value by itself, and else with its key, whose words may say what it is.
func (s *search) value(n *diff.Node, f *diff.Finding) ([]claim, bool) {
	list, ok := s.pair.line(f.A, f.B)
	if key := f.Where + ": "; !ok && len(key) < maxValue {
		list, ok = s.pair.line(key+f.A, key+f.B)
	}
	if !ok {
		return s.pair.runs(n, f)
	}
	for i := range list {
		list[i].where = fieldLabel(f)
		if f.Line != [2]int{} {
			list[i].where = fmt.Sprintf("line %d", max(f.Line[0], f.Line[1]))
			list[i].fact = joined(f.Where, list[i].fact)
		}
		if len(f.A)+len(f.B) < 2*maxValue {
			list[i].a, list[i].b = f.A, f.B
		}
	}
	return list, true
}

// joined puts a key before a fact.
func joined(key, fact string) string {
	if fact == "" {
		return key
	}
	return key + ": " + fact
}

// hexDump is how findings show bytes that are no text.
var hexDump = regexp.MustCompile(`^[0-9a-f]{2}(?: [0-9a-f]{2})*$`)

// hunk explains changed lines.
func (s *search) hunk(n *diff.Node, f *diff.Finding) ([]claim, bool) {
	a, b := []byte(f.A), []byte(f.B)
	if len(f.Runs) > 0 && (len(a) >= maxHunk || len(b) >= maxHunk || n.A == nil || n.B == nil) {
		return nil, false
	}
	if list, ok := s.pair.lines(a, b, f.Line[0]); ok {
		return list, true
	}
	if c, ok := s.pair.sameLines(a, b); ok {
		c.where = fmt.Sprintf("line %d", f.Line[0])
		return []claim{c}, true
	}
	if list, ok := s.pair.line(string(a), string(b)); ok {
		for i := range list {
			list[i].where = fmt.Sprintf("line %d", f.Line[0])
		}
		return list, true
	}
	return nil, false
}

// maxHunk is where diff cuts the values of a finding; longer ones are not whole.
const maxHunk = 4096

// claim notes that a finding is of a cause.
func (s *search) claim(n *diff.Node, f *diff.Finding, list ...claim) {
	file := s.file(n)
	for i, c := range list {
		if c.effect != "" {
			file.effects[c.effect] += 1 + c.more
			continue
		}
		s.corroborate(n, &c)
		e := entryOf(c.entry)
		if e == nil {
			panic("cause: no entry " + c.entry) // a detector names a cause that the catalogue lacks
		}
		k := s.causes[c.entry]
		if k == nil {
			k = &Cause{ID: e.ID, Title: e.Title, Kind: e.Kind, entry: e, files: map[string]bool{}, entries: map[string]int{}, least: 1}
			s.causes[c.entry] = k
		}
		if least, ok := file.claims[c.entry]; !ok || c.confidence < least {
			file.claims[c.entry] = c.confidence
		}
		k.files[file.path] = true
		k.Sites += 1 + c.more
		if f.Entries > k.entries[file.path] {
			k.entries[file.path] = f.Entries
		}
		if i == 0 {
			k.Sites += f.More
			k.Bytes += owned(f)
		}
		if c.confidence < k.least {
			k.least, k.How, k.Confirm = c.confidence, c.why, c.confirm
		}
		if len(k.Evidence) < maxEvidence {
			k.Evidence = append(k.Evidence, Evidence{
				Path: file.path, Inside: inside(n), Where: c.where, A: clip(c.a), B: clip(c.b), Fact: c.fact, Sides: s.sideNo,
			})
		}
	}
	if len(list) == 0 { // a further finding of a file that was judged as a whole
		if ids := slices.Sorted(maps.Keys(file.claims)); len(ids) > 0 {
			s.causes[ids[0]].Bytes += owned(f)
		}
	}
	file.bytes += owned(f)
}

func owned(f *diff.Finding) int64 {
	var n int64
	for _, r := range f.Runs {
		n += r.A.Length + r.B.Length
	}
	return n
}

// inside is the way from the file to the node.
func inside(n *diff.Node) string {
	var steps []string
	for ; n != nil && n.Parent != nil && n.Kind != diff.KindEntry && n.Kind != diff.KindDocument; n = n.Parent {
		steps = append(steps, n.Name)
	}
	if n == nil || n.Parent == nil {
		return ""
	}
	slices.Reverse(steps)
	return strings.Join(steps, " → ")
}

// settle judges files as wholes, once all findings were offered: build-ids alone, what is left, what is proven.
func (s *search) settle(cmp *diff.Comparison) {
	t := &s.report.Total
	documents := 0 // of the image, and its layers as wholes
	t.Bytes += cmp.Total.Bytes
	var unexplained int64
	for _, key := range slices.Sorted(maps.Keys(s.files)) {
		f := s.files[key]
		for _, n := range f.effects {
			t.Effects += n
		}
		if len(f.claims) == 0 && len(f.left) == 0 {
			continue // digests of layers and the like: they follow from files
		}
		s.ending(f)
		if len(f.left) == 0 && len(f.claims) == 0 {
			continue
		}
		many := max(1, f.entries)
		if f.node == nil && f.entries == 0 {
			documents++
		}
		t.Differing += many
		t.Files = max(t.Files, t.Differing) // documents of an image are no entries of it
		if len(f.left) == 0 {
			t.Explained += many
		} else {
			unexplained += s.unexplained(f)
			t.Explained += f.explainedBeyond()
		}
		s.prove(f)
		s.fold(f)
		s.report.Areas = append(s.report.Areas, Area{Layer: f.layer, Path: f.path, Bytes: max(1, areaBytes(f))})
	}
	t.Files = max(t.Files, cmp.Total.Files+documents)
	t.ExplainedBytes += max(0, cmp.Total.Bytes-unexplained)
}

// ending folds the zeros after the last entry of an archive: there are more or fewer of them as its
// entries are longer. When nothing else differs, they are of the program that wrote the archive.
func (s *search) ending(f *fileState) {
	f.left = slices.DeleteFunc(f.left, func(l leftover) bool {
		if l.finding.What != diff.WhatPadding || l.node.Kind == diff.KindSection {
			return false
		}
		if len(s.files) > 1 || len(f.claims) > 0 {
			f.effects[l.finding.What]++
			return true
		}
		s.claim(l.node, l.finding, claim{entry: "34-entry-kind", a: l.finding.A, b: l.finding.B, where: fieldLabel(l.finding), confidence: 1, fact: "zeros between or after the entries"})
		return true
	})
}

// explainedBeyond is how many of the entries without a node are explained although something is left: only what was folded is.
func (f *fileState) explainedBeyond() int {
	left := 0
	for _, l := range f.left {
		if l.finding.What != diff.WhatFolded {
			return 0
		}
		left += l.finding.Entries
	}
	return max(0, f.entries-left)
}

func areaBytes(f *fileState) int64 {
	if f.node != nil {
		return f.node.Account.A.Differing + f.node.Account.B.Differing
	}
	return f.bytes
}

func isUUID4(h string) bool {
	h = strings.ReplaceAll(h, "-", "")
	return len(h) == 32 && hexRun.MatchString(h) && h[12] == '4' && strings.ContainsRune("89ab", rune(h[16]))
}

// prove notes for which causes the counterfactual holds in this file: nothing is left, and what no finding owns
// is equal on both sides (diff.Node.Check), so that without what is claimed both are identical.
func (s *search) prove(f *fileState) {
	for id := range f.claims {
		s.causes[id].clean = s.causes[id].clean || len(f.left) == 0
	}
}

// fold counts a file's effects under its causes: the first in the catalogue's order.
func (s *search) fold(f *fileState) {
	ids := slices.Sorted(maps.Keys(f.claims))
	if len(ids) == 0 {
		return
	}
	k := s.causes[ids[0]]
	for _, what := range slices.Sorted(maps.Keys(f.effects)) {
		i := slices.IndexFunc(k.Folded, func(x Fold) bool { return x.What == what })
		if i < 0 {
			k.Folded = append(k.Folded, Fold{What: what})
			i = len(k.Folded) - 1
		}
		k.Folded[i].Count += f.effects[what]
	}
}

// unexplained notes what is left of a file and returns how many bytes that is.
func (s *search) unexplained(f *fileState) int64 {
	first := f.left[0]
	u := Unexplained{Path: f.path, Step: s.stepName(f.path), Inside: inside(first.node), Offset: -1, What: fieldLabel(first.finding), A: clip(first.finding.A), B: clip(first.finding.B), More: len(f.left) - 1, Sides: s.sideNo}
	if len(first.finding.Runs) > 0 {
		u.Offset = first.finding.Runs[0].A.Offset
	}
	var a, b int64
	outer := true // all of it lies in headers, which are not bytes of the file
	for _, l := range f.left {
		outer = outer && l.finding.Outer && l.node == f.node
		for _, r := range l.finding.Runs {
			a, b = a+r.A.Length, b+r.B.Length
		}
		u.More += l.finding.More
	}
	u.Bytes = max(a, b)
	for _, w := range []diff.Which{diff.A, diff.B} {
		if f.node != nil && f.node.Part(w) != nil {
			u.Of = max(u.Of, f.node.Part(w).Size)
		}
		if p := first.node.Part(w); p != nil { // what was unpacked is larger than its file
			u.Of = max(u.Of, p.Size)
		}
	}
	if outer {
		u.Offset, u.Of = -1, 0
	}
	s.report.Unexplained = append(s.report.Unexplained, u)
	return a + b
}

// finish ranks the causes, writes their mends and says what all of it means.
func (s *search) finish() {
	r := s.report
	for _, k := range s.causes {
		k.Files = slices.Sorted(maps.Keys(k.files))
		for _, n := range k.entries {
			k.MoreFiles += n - 1 // the layer that they are said of stands among Files
		}
		if k.least >= 1 && !k.clean {
			k.least = 0.9
			k.How = "other bytes of its files are unexplained, so that nothing becomes identical without it alone"
		}
		k.Confidence = k.least
		k.Proof = Likely
		if k.least >= 1 {
			k.Proof, k.Confirm = Proven, ""
			k.How = fmt.Sprintf("%s → identical", k.entry.How)
		}
		s.locate(k)
		r.Causes = append(r.Causes, k)
	}
	sort.SliceStable(r.Causes, func(i, j int) bool { return s.before(r.Causes[i], r.Causes[j]) })
	for i, k := range r.Causes {
		k.Number = i + 1
		k.entry.Mend(&mender{origin: s.origin, context: s.context}, k)
	}
	s.areas()
	s.toolchain()
	s.verdict()
	s.next()
}

// before ranks: inputs and tools first, then proven, then those of the first step that differs, then by
// files explained.
func (s *search) before(x, y *Cause) bool {
	first := func(k *Cause) int {
		switch k.Kind {
		case "inputs":
			return 0
		case "tools":
			if k.ID == "38-toolchain" {
				return 1
			}
		}
		return 2
	}
	switch {
	case first(x) != first(y):
		return first(x) < first(y)
	case x.Proof != y.Proof:
		return x.Proof == Proven
	case s.report.First != nil && (x.Step == s.report.First.Name) != (y.Step == s.report.First.Name):
		return x.Step == s.report.First.Name
	case x.Count() != y.Count():
		return x.Count() > y.Count()
	case x.Bytes != y.Bytes:
		return x.Bytes > y.Bytes
	}
	return x.ID < y.ID
}

// areas gives the tree map its causes and keeps the largest files.
func (s *search) areas() {
	r := s.report
	for i := range r.Areas {
		for _, k := range r.Causes {
			if k.files[r.Areas[i].Path] {
				r.Areas[i].Causes = append(r.Areas[i].Causes, k.Number)
			}
		}
	}
	sort.SliceStable(r.Areas, func(i, j int) bool {
		x, y := r.Areas[i], r.Areas[j]
		if x.Bytes != y.Bytes {
			return x.Bytes > y.Bytes
		}
		return x.Layer+x.Path < y.Layer+y.Path
	})
	if len(r.Areas) > maxAreas {
		r.Areas = r.Areas[:maxAreas]
	}
}
