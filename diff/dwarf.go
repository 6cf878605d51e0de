package diff

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode"

	"github.com/klauspost/compress/zlib"
)

const (
	// maxDwarf bounds the debug sections that are read of one side, unpacked: both sides are in memory at
	// once. Those of most programs of a distribution are smaller; larger ones are compared by their tables of strings.
	maxDwarf = 16 << 20
	// maxDwarfFindings bounds the attributes that are said one by one.
	maxDwarfFindings = 200
	// maxDwarfUnits bounds the compile units that are paired; a large C++ program has some thousand.
	maxDwarfUnits = 20_000
	// maxDwarfFiles bounds the file list of one unit that is compared.
	maxDwarfFiles = 5_000
)

// debugInfo compares what two programs say about their sources: units, entries and
// their attributes, and the files of line tables. These findings own no bytes. What the
// sections differ in follows from them, and from code that moved, and is marked so.
func debugInfo(c *comparer, n *Node) {
	w := &dwarfWork{c: c, n: n}
	if !w.open() || !w.units() {
		return
	}
	if w.more > 0 {
		n.Findings[len(n.Findings)-1].More += w.more
	}
	w.follow()
}

// dwarfWork is one pair of programs while their debug information is compared.
type dwarfWork struct {
	c     *comparer
	n     *Node
	data  [2]*dwarf.Data
	at    [2][]dwarf.Offset // of the first entry of each unit
	dirs  [2]string         // DW_AT_comp_dir of the units at hand
	said  int
	more  int
	words [2]map[string]bool // values that were said, or follow from one that was
	whole bool               // every entry of every unit was compared
}

// open reads the sections. It is false when there is nothing to read, or too much, or it is broken:
// then the sections alone are compared.
func (w *dwarfWork) open() bool {
	for _, side := range []Which{A, B} {
		w.words[side] = map[string]bool{}
		var err error
		if w.data[side], w.at[side], err = dwarfOf(w.n.Part(side).src); err != nil {
			return false
		}
	}
	return true
}

var errNoDwarf = fmt.Errorf("no debug information to compare")

// dwarfOf reads debug information, also from compressed sections. Package debug/dwarf is not made for
// hostile files: what it panics on is an error here.
func dwarfOf(s source) (d *dwarf.Data, units []dwarf.Offset, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%v", v)
		}
	}()
	f, err := elf.NewFile(s)
	if err != nil {
		return nil, nil, err
	}
	total := uint64(0)
	var info *elf.Section
	for _, x := range f.Sections {
		if !strings.HasPrefix(x.Name, ".debug_") && !strings.HasPrefix(x.Name, ".zdebug_") && !strings.HasPrefix(x.Name, ".rel") {
			continue
		}
		if info == nil && (x.Name == ".debug_info" || x.Name == ".zdebug_info") {
			info = x
		}
		size := x.Size // of compressed sections what their header claims
		if strings.HasPrefix(x.Name, ".zdebug_") {
			head := make([]byte, 12)
			if _, err := x.ReadAt(head, 0); err == nil && string(head[:4]) == "ZLIB" {
				size = max(size, binary.BigEndian.Uint64(head[4:]))
			}
		}
		if total += min(size, maxDwarf+1); total > maxDwarf {
			return nil, nil, errNoDwarf
		}
	}
	if info == nil {
		return nil, nil, errNoDwarf
	}
	if d, err = f.DWARF(); err != nil {
		return nil, nil, err
	}
	b, err := info.Data()
	if err == nil && info.Name == ".zdebug_info" && len(b) > 12 {
		b, err = unzlib(b[12:])
	}
	if err != nil {
		return nil, nil, err
	}
	return d, unitOffsets(b, f.ByteOrder), nil
}

func unzlib(b []byte) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxDwarf))
}

// unitOffsets finds where the first entry of each unit lies, by the lengths in the headers (DWARF 5, section
// 7.5.1). Going from one to the next by DW_AT_sibling would never end in a file that lies.
func unitOffsets(b []byte, order binary.ByteOrder) []dwarf.Offset {
	var out []dwarf.Offset
	for at := 0; at+12 <= len(b) && len(out) < maxDwarfUnits; {
		length, head, word := uint64(order.Uint32(b[at:])), 4, 4
		if length == 0xffffffff { // 64-bit DWARF
			length, head, word = order.Uint64(b[at+4:]), 12, 8
		}
		if length < 8 || length > uint64(len(b)-at-head) || head+2+1 > len(b)-at {
			break
		}
		first := at + head + 2 + word + 1
		if version := order.Uint16(b[at+head:]); version >= 5 {
			first = at + head + 2 + 1 + 1 + word
			switch b[at+head+2] { // unit type
			case 2, 6: // DW_UT_type, DW_UT_split_type
				first += 8 + word
			case 4, 5: // DW_UT_skeleton, DW_UT_split_compile
				first += 8
			}
		}
		out = append(out, dwarf.Offset(first))
		at += head + int(length)
	}
	return out
}

// dwarfUnit is the place of one unit in .debug_info.
type dwarfUnit struct {
	name string
	at   dwarf.Offset
}

func (w *dwarfWork) units() (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	x, y := w.named(A), w.named(B)
	w.whole = true
	p := pair(len(x), len(y), func(i int) string { return path.Base(x[i].name) }, func(j int) string { return path.Base(y[j].name) })
	for i, j := range p.a {
		if w.c.stopped() != nil {
			return false
		}
		if j < 0 {
			w.say("unit", x[i].name, "")
			continue
		}
		if err := w.unit(x[i], y[j]); err != nil {
			w.whole = false
		}
	}
	for j, i := range p.b {
		if i < 0 {
			w.say("unit", "", y[j].name)
		}
	}
	return true
}

// named are the units of a side by their names; those that cannot be read have none.
func (w *dwarfWork) named(side Which) []dwarfUnit {
	r := w.data[side].Reader()
	out := make([]dwarfUnit, 0, len(w.at[side]))
	for _, at := range w.at[side] {
		r.Seek(at)
		u := dwarfUnit{at: at}
		if e, err := r.Next(); err == nil && e != nil {
			u.name, _ = e.Val(dwarf.AttrName).(string)
		}
		out = append(out, u)
	}
	return out
}

// unit compares two units entry by entry, for as long as they have the same shape.
func (w *dwarfWork) unit(u, v dwarfUnit) error {
	x, y := w.data[A].Reader(), w.data[B].Reader()
	x.Seek(u.at)
	y.Seek(v.at)
	unit, depth := path.Base(u.name), 0
	for {
		e, err := x.Next()
		if err != nil {
			return err
		}
		f, err := y.Next()
		if err != nil {
			return err
		}
		if e == nil || f == nil {
			return nil
		}
		if e.Tag != f.Tag || e.Children != f.Children {
			w.say("shape of unit "+unit, entryName(e), entryName(f))
			return errNoDwarf
		}
		if depth == 0 {
			w.dirs[A], _ = e.Val(dwarf.AttrCompDir).(string)
			w.dirs[B], _ = f.Val(dwarf.AttrCompDir).(string)
		}
		w.attributes(unit, depth == 0, e, f)
		if depth == 0 {
			w.files(unit, e, f)
		}
		switch {
		case e.Tag == 0:
			depth--
		case e.Children:
			depth++
		}
		if depth <= 0 {
			return nil
		}
	}
}

func entryName(e *dwarf.Entry) string {
	if e.Tag == 0 {
		return "end of a list"
	}
	s := "DW_TAG_" + snake(e.Tag.String())
	if name, ok := e.Val(dwarf.AttrName).(string); ok {
		s += " " + name
	}
	return s
}

// shifting are attributes whose values follow from where code and tables lie, or number the files of the line table.
var shifting = map[dwarf.Attr]bool{dwarf.AttrSibling: true, dwarf.AttrHighpc: true, dwarf.AttrDeclFile: true, dwarf.AttrCallFile: true,
	dwarf.AttrEntrypc: true, dwarf.AttrStmtList: true, dwarf.AttrRanges: true, dwarf.AttrStrOffsetsBase: true, dwarf.AttrAddrBase: true,
	dwarf.AttrRnglistsBase: true, dwarf.AttrLoclistsBase: true, 0x2131 /* DW_AT_GNU_dwo_id */ : true}

// attributes compares strings, numbers and flags; addresses, references and expressions shift with code.
func (w *dwarfWork) attributes(unit string, top bool, e, f *dwarf.Entry) {
	where := func(a dwarf.Attr) string {
		if top {
			return "DW_AT_" + snake(a.String()) + " of unit " + unit
		}
		return "DW_AT_" + snake(a.String()) + " of " + entryName(e) + " in " + unit
	}
	for _, x := range e.Field {
		if told(x) && !shifting[x.Attr] {
			if u, v := fmt.Sprint(x.Val), f.Val(x.Attr); v == nil {
				w.say(where(x.Attr), u, "")
			} else if u != fmt.Sprint(v) {
				w.say(where(x.Attr), u, fmt.Sprint(v))
			}
		}
	}
	for _, y := range f.Field {
		if told(y) && !shifting[y.Attr] && e.Val(y.Attr) == nil {
			w.say(where(y.Attr), "", fmt.Sprint(y.Val))
		}
	}
}

func told(f dwarf.Field) bool {
	switch f.Class {
	case dwarf.ClassString, dwarf.ClassStringAlt, dwarf.ClassConstant, dwarf.ClassFlag:
		return true
	}
	return false
}

// files compares the file lists of two line tables. A name that differs in the unit's own folder
// only follows from DW_AT_comp_dir.
func (w *dwarfWork) files(unit string, e, f *dwarf.Entry) {
	x, y := w.lineFiles(A, e), w.lineFiles(B, f)
	for i := range max(len(x), len(y)) {
		u, v := "", ""
		if i < len(x) {
			u = x[i]
		}
		if i < len(y) {
			v = y[i]
		}
		if u == v {
			continue
		}
		ru, okA := strings.CutPrefix(u, w.dirs[A])
		rv, okB := strings.CutPrefix(v, w.dirs[B])
		if okA && okB && ru == rv && w.words[A][w.dirs[A]] || w.words[A][u] && w.words[B][v] {
			w.know(u, v)
			continue
		}
		w.say(fmt.Sprintf("file %d of the line table of unit %s", i, unit), u, v)
	}
}

func (w *dwarfWork) lineFiles(side Which, e *dwarf.Entry) []string {
	r, err := w.data[side].LineReader(e)
	if err != nil || r == nil {
		return nil
	}
	var out []string
	for _, f := range r.Files() {
		name := ""
		if f != nil {
			name = f.Name
		}
		if out = append(out, name); len(out) == maxDwarfFiles {
			break
		}
	}
	return out
}

// know notes values that need no finding of their own, with the parts that tables of strings have of them.
func (w *dwarfWork) know(a, b string) {
	for side, s := range []string{a, b} {
		w.words[side][s] = true
		w.words[side][path.Dir(s)] = true
	}
}

func (w *dwarfWork) say(where, a, b string) {
	w.know(a, b)
	if w.said++; w.said > maxDwarfFindings {
		w.more++
		return
	}
	w.c.add(w.n, Finding{What: WhatDwarf, Where: where, A: a, B: b})
}

// dwarfTables are sections that say nothing beyond what was compared.
var dwarfTables = map[string]bool{"info": true, "abbrev": true, "aranges": true, "addr": true, "rnglists": true, "ranges": true,
	"str_offsets": true, "names": true, "pubnames": true, "pubtypes": true, "gnu_pubnames": true, "gnu_pubtypes": true}

// follow marks what the sections differ in as effects, where attributes say the same, or where
// sections hold nothing but offsets into others. Rows of line tables and locations follow only when something else differs.
func (w *dwarfWork) follow() {
	code := false
	for _, m := range w.n.Children {
		debug := strings.HasPrefix(m.Name, ".debug_") || strings.HasPrefix(m.Name, ".zdebug_") || strings.HasPrefix(m.Name, ".rel")
		for i := range m.Findings {
			code = code || !debug && !m.Findings[i].Effect
		}
	}
	for _, m := range w.n.Children {
		_, name, ok := strings.Cut(m.Name, "debug_")
		if !ok || !strings.HasPrefix(m.Name, ".debug_") && !strings.HasPrefix(m.Name, ".zdebug_") && !strings.HasPrefix(m.Name, ".rel") {
			continue
		}
		for i := range m.Findings {
			f := &m.Findings[i]
			switch {
			case f.What == WhatString:
				f.Effect = f.Effect || f.More == 0 && w.knows(A, f.A) && w.knows(B, f.B)
			case f.What != WhatElfAddress:
			case strings.HasPrefix(m.Name, ".rel"):
				f.Effect = f.Effect || w.said > 0 || code
			case dwarfTables[name]:
				f.Effect = f.Effect || w.whole || w.said > 0
			case name != "macro" && name != "macinfo":
				f.Effect = f.Effect || w.said > 0 || code
			}
		}
	}
}

// knows reports whether all strings of a finding's value were said.
func (w *dwarfWork) knows(side Which, value string) bool {
	for _, s := range strings.Split(value, "\n") {
		if s != "" && !w.words[side][s] {
			return false
		}
	}
	return true
}

// snake writes a name of package dwarf as the standard does: "CompDir" is comp_dir.
func snake(s string) string {
	switch s {
	case "Lowpc":
		return "low_pc"
	case "LexDwarfBlock":
		return "lexical_block"
	case "Highpc":
		return "high_pc"
	}
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) && i > 0 && !strings.HasPrefix(s, "Attr(") && !strings.HasPrefix(s, "Tag(") {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
