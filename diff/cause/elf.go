package cause

import (
	"bytes"
	"debug/elf"
	"fmt"
	"maps"
	"slices"
	"strings"

	"quorate.dev/diff"
)

// In a program one difference makes many: a longer path moves every string behind
// it, and with them offsets, sizes and the build-id. So a program is judged as a
// whole: the roots are looked for in its strings, flags and symbols, and what
// follows from them is folded.

// program is an ELF file with its findings, those that follow from others aside.
type program struct {
	node  *diff.Node
	own   []leftover // of the file and its sections
	bytes int64      // of debug sections, that attributes follow from or are said of
	names map[string][]leftover
}

// elfFile judges one program. It claims findings through s.handled, and leaves
// those alone that it does not understand.
func (s *search) elfFile(n *diff.Node) {
	p := &program{node: n, names: map[string][]leftover{}}
	var links []leftover
	n.Walk(func(m *diff.Node) bool {
		for i := range m.Findings {
			f := &m.Findings[i]
			if f.Effect || m == n && f.Outer {
				if f.What == diff.WhatString {
					p.bytes += owned(f)
				}
				continue
			}
			if f.What == diff.WhatElfDebug { // named after the build-id, with a checksum of what it names
				links = append(links, leftover{m, f})
				continue
			}
			p.own = append(p.own, leftover{m, f})
			section := ""
			if m != n {
				section = m.Name
			}
			p.names[section] = append(p.names[section], leftover{m, f})
		}
		return true
	})
	if len(p.own) == 0 && !s.buildIDDiffers(n) {
		return // a link alone is left to be unexplained
	}
	for _, l := range links {
		s.handled[l.finding] = true
		s.file(n).effects[l.finding.What]++
	}
	switch {
	case len(p.own) == 0:
	case s.goInfo(p), s.buildIDOnly(p), s.emptiedRpath(p), s.strings(p), s.linkOrder(p), s.profiled(p):
	}
}

// goInfo claims Go's build information: what it says, key by key, and the section that holds it.
// It goes on to the rest of the program when more differs.
func (s *search) goInfo(p *program) bool {
	said := false
	for _, l := range p.own {
		if l.finding.What != diff.WhatGoBuildInfo {
			continue
		}
		if c, ok := s.byField(l.node, l.finding); ok {
			s.take(l, c)
			said = true
		}
	}
	if !said {
		return false
	}
	rest := 0
	for _, name := range slices.Sorted(maps.Keys(p.names)) {
		for _, l := range p.names[name] {
			switch {
			case name == ".go.buildinfo" && !s.handled[l.finding]:
				s.handled[l.finding] = true
				s.claim(l.node, l.finding)
			case !s.handled[l.finding] && !strings.HasPrefix(name, ".note") && l.finding.What != diff.WhatPadding:
				rest++
			}
		}
	}
	if rest > 0 {
		return false
	}
	s.follow(p)
	return true
}

func (s *search) buildIDDiffers(n *diff.Node) bool {
	found := false
	n.Walk(func(m *diff.Node) bool {
		found = found || slices.ContainsFunc(m.Findings, func(f diff.Finding) bool { return f.What == diff.WhatElfBuildID })
		return !found
	})
	return found
}

// take claims a finding and marks it as done.
func (s *search) take(l leftover, c claim) {
	s.handled[l.finding] = true
	s.claim(l.node, l.finding, c)
}

// follow folds everything of the program that is not claimed yet.
func (s *search) follow(p *program) {
	file := s.file(p.node)
	if ids := slices.Sorted(maps.Keys(file.claims)); len(ids) > 0 {
		s.causes[ids[0]].Bytes += p.bytes
	}
	for _, l := range p.own {
		if !s.handled[l.finding] {
			s.handled[l.finding] = true
			file.effects[l.finding.What] += 1 + l.finding.More
			if ids := slices.Sorted(maps.Keys(file.claims)); len(ids) > 0 {
				s.causes[ids[0]].Bytes += owned(l.finding)
			}
		}
	}
}

// buildIDOnly claims a build-id without any other difference: masked, both are equal.
func (s *search) buildIDOnly(p *program) bool {
	for _, l := range p.own {
		if l.finding.What != diff.WhatElfBuildID && l.finding.What != diff.WhatElfDebug {
			return false
		}
	}
	l := p.own[0]
	if notes := p.names[".note.go.buildid"]; len(notes) > 0 {
		s.take(notes[0], claim{entry: "39-go-rust", a: notes[0].finding.A, b: notes[0].finding.B, where: "build id", confidence: 0.9,
			fact: "Go's build id, of what was compiled, and how", why: "only the build id differs: sources that make the same code, or other flags or folders",
			confirm: "go version -m FILE, on both"})
		s.follow(p)
		return true
	}
	c := claim{entry: "5-build-id", a: l.finding.A, b: l.finding.B, where: "build-id", confidence: 1}
	if isUUID4(c.a) && isUUID4(c.b) || len(c.a) == 32 && len(c.b) == 32 {
		c.fact = "16 bytes, as --build-id=uuid makes them up"
	} else {
		c.fact, c.confidence = "nothing else differs: what it was made from was stripped", 0.8
		c.why = "a build-id of a digest differs because something did before stripping, often a path in debug information"
		c.confirm = "build without strip and compare again"
	}
	s.take(l, c)
	s.follow(p)
	return true
}

// emptiedRpath claims programs that differ in the room of an RPATH that install tools emptied.
func (s *search) emptiedRpath(p *program) bool {
	a, b, ok := stringTables(p.node, ".dynstr")
	if !ok || len(p.names[".dynstr"]) == 0 || !slices.Equal(a.names, b.names) {
		return false
	}
	for name := range p.names {
		switch name {
		case "", ".dynstr", ".dynamic", ".note.gnu.build-id", ".gnu_debuglink":
		default:
			return false
		}
	}
	sa, sb := slackOf(p.node, diff.A), slackOf(p.node, diff.B)
	if sa == sb || min(sa, sb) == 0 {
		return false
	}
	l := p.names[".dynstr"][0]
	c := claim{entry: "4-rpath", a: fmt.Sprintf("%d empty bytes", sa), b: fmt.Sprintf("%d empty bytes", sb), where: ".dynstr", confidence: 0.9,
		fact: "where an RPATH was", why: "an RPATH that was emptied left room of its own length; what it said is gone", confirm: "readelf -d before the program is installed"}
	if wa, wb := s.pair.a.Values["workdir"], s.pair.b.Values["workdir"]; wa != "" && wb != "" && sa-sb == len(wa)-len(wb) {
		c.confidence, c.why, c.confirm = 1, "", ""
		c.fact += "; as much longer as the build's folder is"
	}
	s.take(l, c)
	s.follow(p)
	return true
}

// table is a section of NUL-terminated strings.
type table struct {
	names []string // sorted, without empty ones
}

// maxStrings bounds a table of strings that is read whole: that of a large program's debug information.
const maxStrings = 32 << 20

func stringTables(n *diff.Node, section string) (a, b table, ok bool) {
	var found *diff.Node
	for _, c := range n.Children {
		if c.Name == section {
			found = c
		}
	}
	if found == nil {
		return a, b, false
	}
	x, err1 := found.Bytes(diff.A, maxStrings)
	y, err2 := found.Bytes(diff.B, maxStrings)
	if err1 != nil || err2 != nil {
		return a, b, false
	}
	return table{sortedStrings(x)}, table{sortedStrings(y)}, true
}

func sortedStrings(b []byte) []string {
	var out []string
	for _, s := range strings.Split(string(b), "\x00") {
		if s != "" {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// only returns what each side has more than the other.
func only(a, b []string) (x, y []string) {
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case j == len(b) || i < len(a) && a[i] < b[j]:
			x = append(x, a[i])
			i++
		case i == len(a) || b[j] < a[i]:
			y = append(y, b[j])
			j++
		default:
			i, j = i+1, j+1
		}
	}
	return x, y
}

// stringGroups are the beginnings of names of sections in which causes are to be read; a
// string may move from one section of a group to another as its length changes.
var stringGroups = []string{".comment", ".debug_str", ".debug_line_str", ".rodata", ".data", ".gopclntab", ".strtab", ".dynstr", ".GCC.command.line"}

// isStrings reports whether a section is one of a group, or tables that go with them.
func isStrings(name string) bool {
	return slices.ContainsFunc(stringGroups, func(g string) bool { return strings.HasPrefix(name, g) }) || name == ".symtab" || name == ".dynsym"
}

// ownStrings returns the strings of a group's sections that only one side has.
func (p *program) ownStrings(group string) (x, y []string, ok bool) {
	var all [2][]string
	for _, c := range p.node.Children {
		if !strings.HasPrefix(c.Name, group) || strings.HasPrefix(c.Name, ".rodata.cst") { // constants of one size, no strings
			continue
		}
		for _, w := range []diff.Which{diff.A, diff.B} {
			if c.Part(w) == nil {
				continue
			}
			b, err := c.Bytes(w, maxStrings)
			if r := lone(c, w); err != nil && r.Length > 0 && r.Length <= maxStrings { // sections on one side only have no bytes of their own
				b, err = p.node.Slice(w, r, maxStrings)
			}
			if err != nil {
				return nil, nil, false
			}
			all[w] = append(all[w], legible(b)...)
		}
	}
	slices.Sort(all[0])
	slices.Sort(all[1])
	x, y = only(all[0], all[1])
	return x, y, true
}

// lone is where a section that one side lacks lies in the program.
func lone(n *diff.Node, w diff.Which) diff.Range {
	for _, f := range n.Findings {
		if f.What == diff.WhatPresence && f.Outer && len(f.Runs) > 0 {
			return f.Runs[0].On(w)
		}
	}
	return diff.Range{}
}

// legible are the strings of a section that a person could have written: tables
// between them are none.
func legible(b []byte) []string {
	var out []string
	for _, s := range bytes.Split(b, []byte{0}) {
		if len(s) >= 4 && printable(s) {
			out = append(out, string(s))
		}
	}
	return out
}

// sameCodeSize reports whether the sections of code are as long on both sides.
func (p *program) sameCodeSize() bool {
	for _, c := range p.node.Children {
		if c.Name == ".text" && (c.A == nil || c.B == nil || c.A.Size != c.B.Size) {
			return false
		}
	}
	return true
}

// strings explains the strings of a program. When all differing ones are explained, the
// differences of offsets and sizes follow; those of code do when flags or tools differ.
func (s *search) strings(p *program) bool {
	var claims []claim
	seen := map[string]bool{}
	moved := false
	for _, group := range stringGroups {
		x, y, ok := p.ownStrings(group)
		if !ok {
			return false
		}
		if len(x) == 0 && len(y) == 0 {
			continue // the same strings, perhaps in another order
		}
		list, ok := s.pair.stringLists(x, y)
		if !ok && group == ".strtab" && otherTools(seen) {
			continue // another compiler, or another flag, names other labels and clones
		}
		if !ok {
			return false
		}
		for _, c := range list {
			c.where = group
			claims = append(claims, c)
			seen[c.entry] = true
			moved = moved || len(c.a) != len(c.b)
		}
	}
	if len(claims) == 0 {
		return false
	}
	tools := otherTools(seen)
	shifted := false
	if p.code() != "" && !tools {
		// A string of another length moves what stands behind it, and code that points there differs.
		if shifted = moved && p.sameCodeSize(); !shifted {
			return false
		}
	}
	for i, c := range claims {
		if tools && len(p.own) > 1 && c.confidence == 1 && p.code() != "" {
			c.confidence = 0.9
			c.why = "other tools or flags make other code; whether all of the code differs for that alone is not proven"
			c.confirm = "build both with the same tools and flags"
		}
		if shifted && c.confidence > 0.85 {
			c.confidence = 0.85
			c.why = "code differs too, by no byte in length: it points to strings that moved, but that was not followed"
			c.confirm = "mend this and compare again"
		}
		if s.attributes(p, c) {
			continue
		}
		l := p.own[0]
		for _, x := range p.own {
			if strings.HasPrefix(x.node.Name, c.where) && !s.handled[x.finding] {
				l = x
				break
			}
		}
		c.where = ""
		if i == 0 || !s.handled[l.finding] {
			s.take(l, c)
		} else {
			s.claim(l.node, &diff.Finding{What: l.finding.What}, c)
		}
	}
	s.follow(p)
	return true
}

// attributes claims the attributes of debug information whose values a claim has: they say more than
// the table that the value stands in. It is false when there are none.
func (s *search) attributes(p *program, c claim) bool {
	found := false
	for _, l := range p.own {
		if f := l.finding; f.What == diff.WhatDwarf && f.A == c.a && f.B == c.b && !s.handled[f] {
			c.where, found = fieldLabel(f), true
			s.take(l, c)
		}
	}
	return found
}

// otherTools reports whether causes were seen that make other code.
func otherTools(seen map[string]bool) bool {
	return seen["38-toolchain"] || seen["21-cpu-features"] || seen["35-inputs"]
}

// code names the first section in which something other than strings and tables differs; "" for none.
func (p *program) code() string {
	for _, name := range slices.Sorted(maps.Keys(p.names)) {
		list := p.names[name]
		switch {
		case name == "" || strings.HasPrefix(name, ".debug_") || strings.HasPrefix(name, ".rela") || isStrings(name),
			strings.HasPrefix(name, ".note"), name == ".gnu_debuglink", name == ".shstrtab", name == ".go.buildinfo":
			continue
		}
		for _, l := range list {
			if is(l.finding, diff.WhatBytes, diff.WhatUnexplained, diff.WhatFolded) {
				return name + " bytes"
			}
		}
	}
	return ""
}

// stringLists explains the strings that only one side has, by replacing what is
// known and comparing the lists, else one by one.
func (p *pair) stringLists(x, y []string) ([]claim, bool) {
	if len(x) != len(y) || len(x) > 20_000 {
		return nil, false
	}
	var out []claim
	rx, ry := map[string][]string{}, map[string][]string{}
	for i := range x {
		k, l := p.replaced(x[i], true), p.replaced(y[i], false)
		rx[k] = append(rx[k], x[i])
		ry[l] = append(ry[l], y[i])
	}
	var left, right []string
	for _, s := range x {
		k := p.replaced(s, true)
		if mates := ry[k]; k != s && len(mates) > 0 {
			list, ok := p.line(s, mates[0])
			if ok {
				ry[k] = mates[1:]
				for _, c := range list {
					c.a, c.b = s, mates[0]
					out = append(out, c)
				}
				continue
			}
		}
		left = append(left, s)
	}
	for _, list := range ry {
		right = append(right, list...)
	}
	slices.Sort(right)
	if len(left) != len(right) {
		return nil, false
	}
	for i := range left {
		list, ok := p.line(left[i], right[i])
		if !ok {
			return nil, false
		}
		for _, c := range list {
			c.a, c.b = left[i], right[i]
			out = append(out, c)
		}
	}
	buildFolders(out)
	return out, len(out) > 0
}

// buildFolders has a folder with a made-up name, alone in a string, be the build's
// where other strings are paths in it.
func buildFolders(list []claim) {
	for i := range list {
		c := &list[i]
		if c.entry != "22-random" || !strings.HasPrefix(c.a, "/") || !strings.HasPrefix(c.b, "/") {
			continue
		}
		for _, d := range list {
			if d.entry == "3-build-path" && strings.HasPrefix(d.a, c.a+"/") && strings.HasPrefix(d.b, c.b+"/") {
				c.entry, c.confidence, c.fact, c.why, c.confirm = d.entry, d.confidence, d.fact, d.why, d.confirm
				break
			}
		}
	}
}

// replaced puts one token for each known value of a side.
func (p *pair) replaced(s string, first bool) string {
	for _, c := range p.known {
		v := c.a
		if !first {
			v = c.b
		}
		if at := occurrences(s, v); len(at) > 0 {
			s = replaceAt(s, at, len(v))
		}
	}
	return s
}

// linkOrder claims programs of equal symbols that lie in another order.
func (s *search) linkOrder(p *program) bool {
	a, ok1 := symbolsOf(p.node, diff.A)
	b, ok2 := symbolsOf(p.node, diff.B)
	if !ok1 || !ok2 || len(a) < 2 || len(a) != len(b) || len(p.names[".symtab"])+len(p.names[".dynsym"]) == 0 {
		return false
	}
	order := func(list []symbol) []string {
		var out []string
		for _, x := range list {
			out = append(out, x.key)
		}
		return out
	}
	x, y := order(a), order(b)
	if slices.Equal(x, y) {
		return false
	}
	first, second := x[0], y[0]
	for i := range x {
		if x[i] != y[i] {
			first, second = a[i].name, b[i].name
			break
		}
	}
	byKey := func(x, y symbol) int { return strings.Compare(x.key, y.key) }
	slices.SortStableFunc(a, byKey)
	slices.SortStableFunc(b, byKey)
	c := claim{entry: "15-link-order", a: first, b: second, where: "order of symbols", confidence: 1, fact: "the same functions and data, byte for byte, at other addresses"}
	for i := range a {
		if a[i].key != b[i].key || !onlyAddresses(a[i].bytes, b[i].bytes) {
			return false
		}
		if a[i].bytes == "" || a[i].bytes != b[i].bytes {
			c.confidence, c.fact = 0.85, "the same symbols of the same sizes, at other addresses"
			c.why, c.confirm = "calls between them hold other addresses, so that they do not compare byte for byte", "link with sorted objects"
		}
	}
	s.take(p.own[0], c)
	s.follow(p)
	return true
}

// onlyAddresses reports whether two pieces of code or data of one length differ in no more than what
// addresses take: eight bytes in a row, and no more than half of all.
func onlyAddresses(x, y string) bool {
	if len(x) != len(y) {
		return false
	}
	row, all := 0, 0
	for i := range len(x) {
		if x[i] == y[i] {
			row = 0
			continue
		}
		if row, all = row+1, all+1; row > 8 {
			return false
		}
	}
	return all*2 <= len(x)
}

type symbol struct {
	name, key string // key: name and size
	address   uint64
	bytes     string // "" when it has none in the file, or too many
}

// maxSymbols bounds the symbols that are compared one by one.
const maxSymbols = 50_000

// symbolsOf lists functions and data in order of address, with size and contents.
func symbolsOf(n *diff.Node, w diff.Which) (_ []symbol, ok bool) {
	defer func() { // debug/elf is not made for hostile files
		if recover() != nil {
			ok = false
		}
	}()
	r, err := n.Open(w)
	if err != nil {
		return nil, false
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	list, err := f.Symbols()
	if err != nil || len(list) == 0 {
		list, err = f.DynamicSymbols()
	}
	if err != nil || len(list) > maxSymbols {
		return nil, false
	}
	var out []symbol
	for _, x := range list {
		t := elf.ST_TYPE(x.Info)
		if t != elf.STT_FUNC && t != elf.STT_OBJECT || x.Section == elf.SHN_UNDEF || x.Size == 0 || int(x.Section) >= len(f.Sections) {
			continue
		}
		y := symbol{name: x.Name, address: x.Value, key: fmt.Sprintf("%s %d", x.Name, x.Size)}
		sec := f.Sections[x.Section]
		if sec.Type != elf.SHT_NOBITS && x.Size <= 1<<16 && x.Value >= sec.Addr && x.Value-sec.Addr+x.Size <= sec.FileSize {
			b := make([]byte, x.Size)
			if _, err := sec.ReadAt(b, int64(x.Value-sec.Addr)); err == nil {
				y.bytes = string(b)
			}
		}
		out = append(out, y)
	}
	slices.SortStableFunc(out, func(x, y symbol) int {
		switch {
		case x.address < y.address:
			return -1
		case x.address > y.address:
			return 1
		}
		return strings.Compare(x.name, y.name)
	})
	return out, len(out) > 0
}
