package diff

import (
	"bytes"
	"strconv"
	"strings"
)

// sparse is what is kept of a file that a tar stores without its holes.
type sparse struct {
	stored hash128 // of what stands in the tar
	size   int64   // with the holes
	pieces int
}

// sparseMap says where the stored bytes of a sparse file belong. GNU tar writes it in four ways: behind the
// header of a file of type "S", in many PAX records (0.0), in one (0.1), or before the contents (1.0).
type sparseMap struct {
	size   int64
	pieces []Range
	inData bool // the map stands before the contents, in whole blocks
}

// maxPieces bounds a map: 16 bytes of memory for each piece. Real ones have some thousands.
const maxPieces = 1 << 16

func (m *sparseMap) add(offset, length int64) { m.pieces = append(m.pieces, Range{offset, length}) }

// holds reports whether the pieces rise and lie within the file.
func (m *sparseMap) holds() bool {
	at := int64(0)
	for _, r := range m.pieces {
		if r.Offset < at || r.Length < 0 || r.Length > m.size-r.Offset {
			return false
		}
		at = r.End()
	}
	return len(m.pieces) <= maxPieces && m.size <= 1<<50
}

// oldMap reads the map of a file of type "S": four pieces in the header, 21 in each block behind it.
func oldMap(header, more []byte) *sparseMap {
	m := &sparseMap{}
	m.size, _ = tarNumber(header[483:495])
	read := func(p []byte) {
		for ; len(p) >= 24 && p[0] != 0; p = p[24:] {
			offset, ok := tarNumber(p[:12])
			length, ok2 := tarNumber(p[12:24])
			if !ok || !ok2 {
				offset = -1
			}
			m.add(offset, length)
		}
	}
	read(header[386:482])
	for ; len(more) >= tarBlock && len(m.pieces) <= maxPieces; more = more[tarBlock:] {
		read(more[:21*24])
	}
	return m
}

const sparseRecord = "GNU.sparse."

// record takes a PAX record about a sparse file.
func (m *sparseMap) record(k, v string) {
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	switch strings.TrimPrefix(k, sparseRecord) {
	case "size", "realsize":
		m.size = number(v)
	case "major":
		m.inData = v == "1"
	case "offset":
		m.add(number(v), 0)
	case "numbytes":
		if n := len(m.pieces); n > 0 {
			m.pieces[n-1].Length = number(v)
		}
	case "map":
		list := strings.SplitN(v, ",", 2*maxPieces+2)
		for ; len(list) >= 2; list = list[2:] {
			m.add(number(list[0]), number(list[1]))
		}
	}
}

// before reads a map that stands before the contents: lines of numbers, filled up to a block. n is where
// the contents begin, 0 when b is too short to say, -1 when it is no map.
func (m *sparseMap) before(b []byte) (n int64) {
	at := 0
	next := func() (v int64, short bool) {
		end := bytes.IndexByte(b[at:min(len(b), at+21)], '\n')
		if end < 0 {
			return -1, len(b) < at+21
		}
		v, err := strconv.ParseInt(string(b[at:at+end]), 10, 64)
		if err != nil {
			v = -1
		}
		at += end + 1
		return v, false
	}
	count, short := next()
	m.pieces = m.pieces[:0]
	for i := int64(0); !short && i < count && count <= maxPieces; i++ {
		var r Range
		if r.Offset, short = next(); !short {
			r.Length, short = next()
		}
		m.pieces = append(m.pieces, r)
	}
	switch end := (int64(at) + tarBlock - 1) / tarBlock * tarBlock; {
	case count > maxPieces || !short && (count < 0 || !m.holds()):
		return -1
	case short || end > int64(len(b)):
		return 0
	default:
		return end
	}
}

// filling hashes a sparse file with its holes while its stored bytes go by. A nil one does nothing.
type filling struct {
	m    *sparseMap
	h    *hasher128
	head []byte // of a map in the data that is not read to its end
	next int    // piece
	at   int64  // in the file
	left int64  // of the piece at hand
	bad  bool   // the map lies: the file is what is stored
}

// holes begins the contents of the entry at hand.
func (t *tarReader) holes(h *hasher128) *filling {
	if t.sparse == nil {
		return nil
	}
	h.reset()
	return &filling{m: t.sparse, h: h, bad: !t.sparse.holds()}
}

func (f *filling) Write(p []byte) {
	if f == nil || f.bad {
		return
	}
	if f.m.inData {
		f.head = append(f.head, p...)
		n := f.m.before(f.head)
		if f.bad = n < 0 || len(f.head) > 40*maxPieces; n <= 0 {
			return
		}
		p, f.head, f.m.inData = f.head[n:], nil, false
	}
	for len(p) > 0 {
		for f.left == 0 {
			if f.next == len(f.m.pieces) {
				f.bad = true
				return
			}
			r := f.m.pieces[f.next]
			f.h.skip(r.Offset - f.at)
			f.next, f.at, f.left = f.next+1, r.Offset, r.Length
		}
		n := min(int64(len(p)), f.left)
		f.h.Write(p[:n])
		p, f.at, f.left = p[n:], f.at+n, f.left-n
	}
}

// settle gives an entry the sum of its whole contents, when the map was right.
func (f *filling) settle(e *entry) {
	if f == nil || f.bad || f.m.inData || f.left > 0 {
		return
	}
	for _, r := range f.m.pieces[f.next:] {
		if r.Length > 0 {
			return
		}
	}
	f.h.skip(f.m.size - f.at)
	e.sparse = &sparse{stored: e.dataSum, size: f.m.size, pieces: len(f.m.pieces)}
	e.dataSum = f.h.sum()
}
