package cause

import (
	"encoding/binary"
	"strings"
	"time"

	"quorate.dev/diff"
)

// maxRuns is how many runs of one finding are looked at one by one; a finding
// of more is a table or code, which no detector here can tell.
const maxRuns = 256

// around is how many bytes beside a run are read: room for a word, a path, a pointer.
const around = 192

// runs explains the differing bytes of one finding, each run by itself. It is
// true when every run is claimed.
func (p *pair) runs(n *diff.Node, f *diff.Finding) ([]claim, bool) {
	if len(f.Runs) == 0 || len(f.Runs) > maxRuns || f.Outer || n.A == nil || n.B == nil {
		return nil, false
	}
	var out []claim
	for i := 0; i < len(f.Runs); {
		j := i + 1
		for j < len(f.Runs) && f.Runs[j].A.Offset-f.Runs[j-1].A.End() < 8 {
			j++ // one value may be equal in some of its bytes
		}
		list, ok := p.run(n, f.Runs[i:j])
		if !ok {
			return nil, false
		}
		out = append(out, list...)
		i = j
	}
	return out, true
}

// run explains neighbouring runs.
func (p *pair) run(n *diff.Node, runs []diff.Run) ([]claim, bool) {
	first, last := runs[0], runs[len(runs)-1]
	wa := stretch{n, diff.A, first.A.Offset, last.A.End()}
	wb := stretch{n, diff.B, first.B.Offset, last.B.End()}
	where := "+0x" + hexOf(first.A.Offset)
	at := func(list []claim) []claim {
		for i := range list {
			list[i].where = where
		}
		return list
	}
	if a, b, ok := texts(wa, wb); ok {
		if list, ok := p.line(a, b); ok {
			return at(list), true
		}
	}
	if list, ok := p.pointers(wa, wb); ok {
		return at(list), true
	}
	if list, ok := doubles(wa, wb); ok && !inProgram(n) {
		return at(list), true
	}
	if c, ok := p.binaryTime(wa, wb); ok {
		return at([]claim{c}), true
	}
	if c, ok := randomBytes(wa, wb); ok && !structured(n) {
		return at([]claim{c}), true
	}
	return nil, false
}

func hexOf(n int64) string {
	const digits = "0123456789abcdef"
	if n < 16 {
		return digits[n : n+1]
	}
	return hexOf(n/16) + digits[n%16:n%16+1]
}

// stretch is a part of one side.
type stretch struct {
	n          *diff.Node
	w          diff.Which
	start, end int64
}

// wide reads the stretch and up to before and after bytes beside it; at is where it begins in them.
func (s stretch) wide(before, after int64) (b []byte, at int) {
	start := max(0, s.start-before)
	end := min(s.n.Part(s.w).Size, s.end+after)
	b, err := s.n.Slice(s.w, diff.Range{Offset: start, Length: end - start}, maxLine)
	if err != nil {
		return nil, 0
	}
	return b, int(s.start - start)
}

func (s stretch) length() int64 { return s.end - s.start }

// texts widens both stretches to the printable text that they are in; false when there is none.
func texts(a, b stretch) (string, string, bool) {
	x, okA := a.printable()
	y, okB := b.printable()
	return x, y, okA && okB && (len(x) >= 4 || len(y) >= 4)
}

func (s stretch) printable() (string, bool) {
	if s.length() > maxLine/2 {
		return "", false
	}
	b, at := s.wide(around, around)
	end := at + int(s.length())
	if b == nil || end > len(b) || !printable(b[at:end]) {
		return "", false
	}
	for at > 0 && printable(b[at-1:at]) {
		at--
	}
	for end < len(b) && printable(b[end:end+1]) {
		end++
	}
	return string(b[at:end]), true
}

// pointers judges tables of addresses: eight bytes each, in the half of the
// address space that processes have, apart by whole pages.
func (p *pair) pointers(a, b stretch) ([]claim, bool) {
	if a.length() != b.length() || a.length() > 4096 || a.start%8 != b.start%8 || inProgram(a.n) {
		return nil, false
	}
	lead := a.start % 8
	x, _ := stretch{a.n, a.w, a.start - lead, a.end + (8-a.end%8)%8}.wide(0, 0)
	y, _ := stretch{b.n, b.w, b.start - lead, b.end + (8-b.end%8)%8}.wide(0, 0)
	if len(x) != len(y) || len(x) < 8 || len(x)%8 != 0 {
		return nil, false
	}
	var out []claim
	for i := 0; i < len(x); i += 8 {
		u, v := binary.LittleEndian.Uint64(x[i:]), binary.LittleEndian.Uint64(y[i:])
		if u == v {
			continue
		}
		if !userAddress(u) || !userAddress(v) || u&0xfff != v&0xfff {
			return nil, false
		}
		out = append(out, claim{entry: "24-address", a: "0x" + hexOf(int64(u)), b: "0x" + hexOf(int64(v)), confidence: 1, fact: "addresses of a process, apart by whole pages"})
	}
	return out, len(out) > 0
}

// userAddress reports whether v is where Linux puts programs, libraries and stacks:
// 0x7e and 0x7f, 0x55 and 0x56 on x86-64, 0xaaaa and 0xffff on arm64.
func userAddress(v uint64) bool {
	return v>>40 == 0x7f || v>>40 == 0x7e || v>>40 == 0x55 || v>>40 == 0x56 || v>>32 == 0xffff || v>>32 == 0xaaaa || v>>32 == 0xaaab
}

// inProgram reports whether the bytes are of a linked program, which has addresses
// of its own and none of a process.
func inProgram(n *diff.Node) bool {
	for ; n != nil; n = n.Parent {
		if n.Format == "elf" {
			return true
		}
	}
	return false
}

// binaryTime judges four or eight bytes that are seconds since 1970 within each build.
func (p *pair) binaryTime(a, b stretch) (claim, bool) {
	if p.a.Started.IsZero() || p.b.Started.IsZero() || a.length() > 8 || b.length() > 8 {
		return claim{}, false
	}
	x, at := a.wide(7, 8)
	y, bt := b.wide(7, 8)
	for back := 0; back < 4; back++ {
		i, j := at-back, bt-back
		if i < 0 || j < 0 || i+4 > len(x) || j+4 > len(y) || int64(4-back) < max(a.length(), b.length()) {
			continue
		}
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			u, v := moment{at: time.Unix(int64(order.Uint32(x[i:])), 0).UTC(), form: epochForm}, moment{at: time.Unix(int64(order.Uint32(y[j:])), 0).UTC(), form: epochForm}
			if u.within(p.a, time.Minute) && v.within(p.b, time.Minute) {
				return claim{entry: "1-build-time", a: u.at.Format(time.RFC3339), b: v.at.Format(time.RFC3339), confidence: 0.95,
					fact: "seconds since 1970 in four bytes, within each build", why: "four bytes may have such a value by chance", confirm: "faketime in the step"}, true
			}
		}
	}
	return claim{}, false
}

var epochForm = func() int {
	for i := range forms {
		if strings.HasPrefix(forms[i].name, "seconds since") {
			return i
		}
	}
	return 0
}()

// within reports whether the moment lies in the build, or as near as pad.
func (m moment) within(f Facts, pad time.Duration) bool {
	end := f.Finished
	if end.Before(f.Started) {
		end = f.Started
	}
	return !m.at.Before(f.Started.Add(-pad)) && !m.at.After(end.Add(pad))
}

// randomBytes judges a lone run of as many bytes as keys and identifiers have.
func randomBytes(a, b stretch) (claim, bool) {
	if a.length() != b.length() || a.length() < 12 || a.length() > 64 {
		return claim{}, false
	}
	x, _ := a.wide(0, 0)
	y, _ := b.wide(0, 0)
	if len(x) != len(y) || distinct(x)*4 < len(x)*3 || distinct(y)*4 < len(y)*3 {
		return claim{}, false
	}
	return claim{entry: "22-random", a: hexText(x), b: hexText(y), confidence: 0.6, fact: "bytes without order",
		why: "as long and as mixed as identifiers and keys are; a checksum would look alike", confirm: "quorate rebuild --rebuilders 3"}, true
}

// structured reports whether the bytes are of a format with fields of its own, where
// a checksum is likelier than anything made up: programs, archives, pictures.
func structured(n *diff.Node) bool {
	for m := n; m != nil && m.A != nil && m.Kind != diff.KindLayer; m = m.Parent {
		b, err := m.Slice(diff.A, diff.Range{Length: min(8, m.A.Size)}, 8)
		if err != nil {
			continue
		}
		for _, magic := range magics {
			if strings.HasPrefix(string(b), magic) {
				return true
			}
		}
	}
	return false
}

var magics = []string{"\x7fELF", "PK\x03\x04", "\x1f\x8b", "\xfd7zXZ", "\x28\xb5\x2f\xfd", "BZh", "!<arch>", "\x89PNG", "\xff\xd8\xff", "%PDF", "SQLite f", "\xca\xfe\xba\xbe", "hsqs", "\xde\x12\x04\x95", "GIF8", "OggS", "RIFF", "wOF", "\x00\x01\x00\x00"}

func distinct(b []byte) int {
	var seen [256]bool
	n := 0
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n
}

func hexText(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}
