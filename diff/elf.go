package diff

import (
	"bytes"
	"debug/buildinfo"
	"encoding/binary"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/klauspost/compress/zlib"
)

const (
	// maxElfSections bounds the section headers that are read; -ffunction-sections makes some ten thousand.
	maxElfSections = 60_000
	// maxElfNames bounds the table of section names.
	maxElfNames = 4 << 20
)

// elfTaking is an ELF file while it is taken apart.
type elfTaking struct {
	scattered
	order    binary.ByteOrder
	wide     bool // 64 bits
	sections []elfSection
	goInfo   bool
}

type elfSection struct {
	name            string
	kind            uint32
	flags           uint64
	off, size       int64
	header, nameOff int64
}

// elfFields are the fields of the file header behind e_ident; 0 is an address of the file's width.
var elfFields = []struct {
	size   int64
	name   string
	effect bool
}{
	{2, "type", false}, {2, "machine", false}, {4, "version", false}, {0, "entry", true}, {0, "segments offset", true}, {0, "sections offset", true},
	{4, "flags", false}, {2, "header size", true}, {2, "segment size", true}, {2, "segments", true}, {2, "section size", true}, {2, "sections", true}, {2, "names", true},
}

// takeElf cuts an ELF file along its sections. Headers that lie leave gaps, which are compared as bytes.
func takeElf(s source) *anatomy {
	t := &elfTaking{scattered: scattered{s: s, about: map[string]about{}}}
	b := s.head(64)
	if len(b) < 64 {
		return nil
	}
	switch b[5] {
	case 1:
		t.order = binary.LittleEndian
	case 2:
		t.order = binary.BigEndian
	default:
		return nil
	}
	t.wide = b[4] == 2
	word := int64(4)
	if t.wide {
		word = 8
	}
	t.add("header", "", "", 0, 16, cut{what: WhatElfHeader, where: "ident"})
	at := int64(16)
	values := map[string]int64{}
	for _, f := range elfFields {
		size := f.size
		if size == 0 {
			size = word
		}
		values[f.name] = int64(t.number(b[at : at+size]))
		t.add("header", "", "", at, size, cut{what: WhatElfHeader, where: f.name, value: fmt.Sprintf("%#x", values[f.name]), effect: f.effect})
		at += size
	}
	for i := range values["segments"] {
		t.add("segments", "", "", values["segments offset"]+i*values["segment size"], values["segment size"],
			cut{what: WhatElfSegments, where: fmt.Sprint(i), effect: true})
	}
	t.readSections(values["sections offset"], values["section size"], values["sections"], values["names"])
	for i := range t.sections {
		t.section(&t.sections[i])
	}
	a := t.done()
	a.data = t
	a.after = func(c *comparer, n *Node, b *anatomy) {
		if t.goInfo {
			goBuildInfo(c, n)
		}
		if u, ok := b.data.(*elfTaking); ok {
			elfSymbols(c, n, t, u)
			debugInfo(c, n)
		}
	}
	return a
}

func (t *elfTaking) number(b []byte) uint64 {
	switch len(b) {
	case 2:
		return uint64(t.order.Uint16(b))
	case 4:
		return uint64(t.order.Uint32(b))
	}
	return t.order.Uint64(b)
}

func (t *elfTaking) readSections(off, size, n, names int64) {
	least := int64(40)
	if t.wide {
		least = 64
	}
	if size < least || n > maxElfSections || off <= 0 {
		return
	}
	for i := range n {
		h, err := t.s.slice(off+i*size, size)
		if err != nil {
			t.issue = "ends within the section headers"
			return
		}
		x := elfSection{header: off + i*size, nameOff: int64(t.number(h[:4])), kind: uint32(t.number(h[4:8]))}
		if t.wide {
			x.flags, x.off, x.size = t.number(h[8:16]), int64(t.number(h[24:32])), int64(t.number(h[32:40]))
		} else {
			x.flags, x.off, x.size = t.number(h[8:12]), int64(t.number(h[16:20])), int64(t.number(h[20:24]))
		}
		t.sections = append(t.sections, x)
	}
	if names < 0 || names >= n {
		return
	}
	table, err := t.s.slice(t.sections[names].off, min(t.sections[names].size, maxElfNames))
	if err != nil {
		return
	}
	seen := map[string]int{}
	for i := range t.sections {
		x := &t.sections[i]
		if x.nameOff < int64(len(table)) {
			x.name = tarString(table[x.nameOff:])
		}
		if x.name == "" {
			x.name = fmt.Sprintf("section %d", i)
		}
		if seen[x.name]++; seen[x.name] > 1 {
			x.name = fmt.Sprintf("%s (%d)", x.name, seen[x.name])
		}
		t.sectionHeader(x, size)
	}
}

// sectionHeader cuts one header: names, addresses, offsets and sizes follow from contents.
func (t *elfTaking) sectionHeader(x *elfSection, size int64) {
	sizes := []int64{4, 4, 4, 4, 4, 4, 4, 4, 4, 4}
	if t.wide {
		sizes = []int64{4, 4, 8, 8, 8, 8, 4, 4, 8, 8}
	}
	names := []string{"name", "type", "flags", "address", "offset", "size", "link", "info", "alignment", "entry size"}
	at := x.header
	for i, n := range sizes {
		effect := i != 1 && i != 2 && i != 9
		t.add("header of "+x.name, "", "", at, n, cut{what: WhatElfSections, where: x.name + " " + names[i], effect: effect})
		at += n
	}
	t.add("header of "+x.name, "", "", at, size-(at-x.header), cut{what: WhatElfSections, where: x.name + " rest"})
}

// section cuts the contents of one section by what is known of its name.
func (t *elfTaking) section(x *elfSection) {
	const (
		noBits     = 8
		compressed = 0x800
	)
	if x.kind == noBits || x.size <= 0 {
		return
	}
	add := func(off, size int64, c cut) { t.add("section "+x.name, x.name, KindSection, x.off+off, size, c) }
	whole := cut{what: WhatBytes, mode: modeBytes, inside: true}
	switch {
	case x.size > t.s.size-x.off:
	case x.flags&compressed != 0 && x.size > 24:
		head := int64(12) // Elf32_Chdr; Elf64_Chdr has 24 bytes
		if t.wide {
			head = 24
		}
		b, _ := t.s.slice(x.off, head)
		packed := "zlib"
		if len(b) > 4 && t.number(b[:4]) == 2 { // ELFCOMPRESS_ZSTD
			packed = "zstd"
		}
		t.packedSection(x, head, packed, add)
		return
	case strings.HasPrefix(x.name, ".zdebug_") && x.size > 12: // before ELF had a flag for it: "ZLIB", then the size
		t.packedSection(x, 12, "zlib", add)
		return
	}
	switch {
	case x.name == ".note.gnu.build-id" || x.name == ".note.go.buildid":
		b, _ := t.s.slice(x.off, min(x.size, 256))
		value := hexPlain(b[min(16, len(b)):])
		if x.name == ".note.go.buildid" && len(b) > 16 {
			value = show(bytes.TrimRight(b[16:], "\x00"))
		}
		add(0, x.size, cut{what: WhatElfBuildID, value: value, effect: true, inside: true})
		return
	case x.name == ".gnu_debuglink" && x.size > 4:
		add(0, x.size-4, cut{what: WhatElfDebug, where: "file"})
		add(x.size-4, 4, cut{what: WhatElfDebug, where: "crc", effect: true})
		return
	case x.name == ".gnu_debugdata":
		whole = cut{what: WhatContent, mode: modeAuto}
	case x.name == ".go.buildinfo":
		t.goInfo = true
	default:
		x.told(&whole)
	}
	add(0, x.size, whole)
}

// packedSection cuts a compressed section; what it unpacks to is compared as the section would be.
func (t *elfTaking) packedSection(x *elfSection, head int64, packed string, add func(off, size int64, c cut)) {
	data := t.s.sub(x.off+head, x.size-head)
	inner := cut{what: WhatBytes, mode: modeBytes}
	plain := *x
	plain.name = strings.Replace(x.name, ".zdebug_", ".debug_", 1)
	plain.told(&inner)
	add(0, head, cut{what: WhatElfSections, where: "compression header", effect: true})
	add(head, x.size-head, cut{what: WhatPacked, mode: modePacked, way: &way{method: packed, inner: &inner,
		unpack: func() (io.Reader, error) {
			if packed == "zstd" {
				return openZstd(data.reader())
			}
			return zlib.NewReader(data.reader())
		}}})
}

// told says how the contents of a section are compared, by what is known of its name and type.
func (x *elfSection) told(whole *cut) {
	const (
		note     = 7
		strings_ = 0x20
	)
	switch {
	case x.name == ".comment":
		whole.what, whole.mode = WhatElfComment, modeStrings
	case x.name == ".shstrtab", x.name == ".gnu.hash", x.name == ".hash", x.name == ".eh_frame_hdr":
		whole.effect, whole.fold = true, true
	case x.kind == 3, x.flags&strings_ != 0, strings.HasPrefix(x.name, ".debug_str") && x.name != ".debug_str_offsets", x.name == ".debug_line_str":
		whole.what, whole.mode = WhatString, modeStrings
	case x.kind == note:
		whole.what = WhatElfNote
	case x.name == ".symtab", x.name == ".dynsym":
		whole.what, whole.fold = WhatElfSymbol, true
	case elfTables[x.name], strings.HasPrefix(x.name, ".rel"), strings.HasPrefix(x.name, ".debug_"):
		whole.what, whole.fold = WhatElfAddress, true
	}
}

// elfTables are sections of addresses and offsets only.
var elfTables = map[string]bool{".got": true, ".got.plt": true, ".plt": true, ".eh_frame": true, ".dynamic": true, ".init_array": true,
	".fini_array": true, ".gnu.version": true, ".gnu.version_r": true, ".gopclntab": true, ".itablink": true, ".data.rel.ro": true}

func hexPlain(b []byte) string { return strings.ReplaceAll(hexOf(b), " ", "") }

// goBuildInfo compares what Go wrote about the build into both files. The bytes are
// owned by the section; these findings say what they mean.
func goBuildInfo(c *comparer, n *Node) {
	a, err := goSettings(n.A.src)
	if err != nil {
		return
	}
	b, err := goSettings(n.B.src)
	if err != nil {
		return
	}
	for _, k := range keysOf(a, b) {
		if a[k] != b[k] {
			c.add(n, Finding{What: WhatGoBuildInfo, Where: k, A: a[k], B: b[k]})
		}
	}
}

func goSettings(s source) (_ map[string]string, err error) {
	defer func() { // debug/elf is not made for hostile files
		if v := recover(); v != nil {
			err = fmt.Errorf("%v", v)
		}
	}()
	info, err := buildinfo.Read(s)
	if err != nil {
		return nil, err
	}
	m := map[string]string{"go": info.GoVersion, "path": info.Path, "mod": module(&info.Main)}
	for _, d := range info.Deps {
		m["dep "+d.Path] = module(d)
	}
	for _, x := range info.Settings {
		m[x.Key] = x.Value
	}
	return m, nil
}

func module(m *debug.Module) string {
	s := strings.TrimSpace(m.Path + " " + m.Version + " " + m.Sum)
	if m.Replace != nil {
		s += " => " + module(m.Replace)
	}
	return s
}

const (
	// maxSymbols bounds the symbols that are compared by name; a browser with debug symbols has some million.
	maxSymbols = 300_000
	// maxSymbolFindings bounds those that are said one by one.
	maxSymbolFindings = 40
)

// elfSymbols compares two symbol tables by name. Addresses shift with every
// change before them and say nothing; names and their order do. These findings own no
// bytes: .symtab does.
func elfSymbols(c *comparer, n *Node, t, u *elfTaking) {
	x, y := t.symbols(n.A.src), u.symbols(n.B.src)
	if len(x) == 0 || len(y) == 0 {
		return
	}
	p := pair(len(x), len(y), func(i int) string { return x[i] }, func(j int) string { return y[j] })
	said := 0
	say := func(f Finding) {
		if said++; said <= maxSymbolFindings {
			c.add(n, f)
		}
	}
	var moved []string
	for i, j := range p.a {
		if j < 0 {
			say(Finding{What: WhatElfSymbol, Where: "presence", A: x[i]})
		} else if p.moved[i] {
			moved = append(moved, x[i])
		}
	}
	for j, i := range p.b {
		if i < 0 {
			say(Finding{What: WhatElfSymbol, Where: "presence", B: y[j]})
		}
	}
	if said > maxSymbolFindings {
		n.Findings[len(n.Findings)-1].More += said - maxSymbolFindings
	}
	if len(moved) > 0 {
		f := Finding{What: WhatElfSymbol, Where: "order", A: list(moved), B: list(moved), More: len(moved) - 1}
		if said == 0 {
			f.Note = "the same symbols in another order"
		}
		c.add(n, f)
	}
}

// symbols are the names of .symtab, or of .dynsym without one, in order.
func (t *elfTaking) symbols(s source) []string {
	var table, names *elfSection
	for _, want := range [][2]string{{".symtab", ".strtab"}, {".dynsym", ".dynstr"}} {
		table, names = nil, nil
		for i := range t.sections {
			switch x := &t.sections[i]; x.name {
			case want[0]:
				table = x
			case want[1]:
				names = x
			}
		}
		if table != nil && names != nil {
			break
		}
	}
	if table == nil || names == nil || table.size > maxSymbols*24 || names.size > maxLoad {
		return nil
	}
	size := int64(16)
	if t.wide {
		size = 24
	}
	b, err := s.slice(table.off, table.size)
	if err != nil {
		return nil
	}
	text, err := s.slice(names.off, names.size)
	if err != nil {
		return nil
	}
	var out []string
	for ; int64(len(b)) >= size; b = b[size:] {
		if at := int64(t.number(b[:4])); at > 0 && at < int64(len(text)) {
			out = append(out, tarString(text[at:min(at+1000, int64(len(text)))]))
		}
	}
	return out
}
