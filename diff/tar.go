package diff

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
)

const (
	tarBlock = 512
	// tarBuffer is the bytes of a tar that one call brings: headers and small files are many to a buffer.
	tarBuffer = 256 << 10
	// maxTarHead bounds the header blocks of one entry: names and extended attributes, the
	// kernel allows 64 kB for each of these.
	maxTarHead = 1 << 20
	// maxEntries bounds the entries of one archive or folder: 200 bytes of memory each, and names.
	maxEntries = 1_000_000
	// maxTail bounds what is kept of the bytes behind the last entry.
	maxTail = 1 << 20
)

// entry is what is kept of one entry of an archive or folder.
type entry struct {
	path       string // cleaned
	occurrence int32  // 0 for the first entry of this path, 1 for the second …
	kind       byte   // tar's type flag; '0' for old-style '\x00'
	start      int64  // of the header, in the tar
	head       int64  // bytes of all header blocks
	size       int64  // bytes of contents
	headAt     int64  // where the header waits in the spool of heads, followed by the padding
	headSum    hash128
	dataSum    hash128 // of the contents, with the holes of a sparse file filled in
	sparse     *sparse // nil for what is stored as it is
	meta       *Meta   // of a folder's entries; those of a tar are read from the header again
}

// stored is of the contents as they stand in the tar.
func (e *entry) stored() hash128 {
	if e.sparse != nil {
		return e.sparse.stored
	}
	return e.dataSum
}

// sameContents reports whether two entries hold the same, however that is stored.
func (e *entry) sameContents(f *entry) bool { return e.dataSum == f.dataSum }

// sameStored reports whether the contents of two entries are the same bytes.
func (e *entry) sameStored(f *entry) bool { return e.size == f.size && e.stored() == f.stored() }

func (e *entry) data() int64    { return e.start + e.head }
func (e *entry) padding() int64 { return -e.size & (tarBlock - 1) }
func (e *entry) end() int64     { return e.data() + e.size + e.padding() }

// key names an entry across the sides: a tar may hold one path several times.
func (e *entry) key() string {
	if e.occurrence == 0 {
		return e.path
	}
	return e.path + "\x00" + strconv.Itoa(int(e.occurrence))
}

// tarListing is a tar after the first reading.
type tarListing struct {
	entries []entry
	size    int64
	sum     hash128 // of all that follows from the bytes and that they follow from: equal for equal tars only
	tail    int64   // where the bytes behind the last entry begin
	tailAt  int64   // where they wait in the spool of heads, at most maxTail of them
	tailSum hash128
	issue   string
	bytes   int64 // of names, for the bound
}

// tarReader goes through a tar once.
type tarReader struct {
	r      io.Reader
	lend   lender // r, when it lends its memory
	at     int64
	heads  *spool     // nil: headers can be read again
	wait   []byte     // what will be written there
	all    io.Writer  // takes every byte, when set
	behind func()     // is called behind each entry, when set
	raw    []byte     // header blocks of the entry at hand
	sparse *sparseMap // of it; nil for what has no holes
	buf    []byte
	list   *tarListing
	count  map[string]int32
}

func newTarReader(r io.Reader, heads *spool) *tarReader {
	t := &tarReader{r: r, heads: heads, buf: make([]byte, blockSize), list: &tarListing{}, count: map[string]int32{}}
	t.lend, _ = r.(lender)
	return t
}

// lender is a reader that hands out its own memory: at most n bytes and at least one, good until the next reading.
type lender interface {
	Next(n int) ([]byte, error)
}

// goOn makes the reader one that has read these entries already.
func (t *tarReader) goOn(entries []entry, at int64) {
	t.at, t.list.entries = at, entries
	for i := range entries {
		t.count[entries[i].path]++
		t.list.bytes += int64(len(entries[i].path))
	}
}

// keepHead writes header bytes to where they wait, those of many entries at once, and returns their place there.
func (t *tarReader) keepHead(p []byte) (at int64, err error) {
	if t.heads == nil {
		return 0, nil
	}
	at = t.heads.size + int64(len(t.wait))
	if t.wait = append(t.wait, p...); len(t.wait) >= blockSize {
		err = t.flush()
	}
	return at, err
}

func (t *tarReader) flush() error {
	if len(t.wait) == 0 {
		return nil
	}
	_, err := t.heads.Write(t.wait)
	t.wait = t.wait[:0]
	return err
}

func (t *tarReader) full(p []byte) (int, error) {
	n, err := io.ReadFull(t.r, p)
	t.at += int64(n)
	if t.all != nil {
		if _, werr := t.all.Write(p[:n]); werr != nil {
			return n, werr
		}
	}
	return n, err
}

// scan lists the tar. What breaks the format ends the list with an issue; the bytes
// from there on are the tail. Errors are those of reading.
func (t *tarReader) scan() (*tarListing, error) {
	content, holes, head, whole := newHasher128(), newHasher128(), newHasher128(), newHasher128()
	l := t.list
	for i := range l.entries {
		whole.sums(l.entries[i].headSum, l.entries[i].stored())
	}
	for {
		e, err := t.next()
		if err != nil {
			if err := t.tail(err); err != nil {
				return nil, err
			}
			break
		}
		if e.headAt, err = t.keepHead(t.raw); err != nil {
			return nil, err
		}
		head.reset()
		head.Write(t.raw)
		content.reset()
		filled := t.holes(holes)
		short, err := t.pass(e.size, content, filled)
		if err != nil {
			return nil, err
		}
		pad := t.buf[:0]
		if !short {
			pad = t.buf[:e.padding()]
			n, err := t.full(pad)
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return nil, err
			}
			pad = pad[:n]
			short = int64(n) < e.padding()
		}
		if short {
			// The entry claims more than there is: it is the tail.
			l.issue = fmt.Sprintf("ends within %q", e.path)
			l.tail, l.tailSum = e.start, hash128{}
			l.tailAt = -1
			whole.sums(head.sum(), content.sum())
			whole.Write(pad)
			break
		}
		if _, err := t.keepHead(pad); err != nil {
			return nil, err
		}
		head.Write(pad)
		e.headSum, e.dataSum = head.sum(), content.sum()
		whole.sums(e.headSum, e.dataSum)
		filled.settle(e)
		e.occurrence = t.count[e.path]
		t.count[e.path]++
		l.entries = append(l.entries, *e)
		if l.bytes += int64(len(e.path)); len(l.entries) > maxEntries || l.bytes > 256<<20 {
			return nil, fmt.Errorf("more than %d entries", maxEntries)
		}
		if t.behind != nil {
			t.behind()
		}
	}
	whole.sums(l.tailSum, hash128{})
	l.size, l.sum = t.at, whole.sum()
	return l, t.flush()
}

// pass reads contents; short says that they end early. filled is nil for what has no holes.
func (t *tarReader) pass(n int64, h *hasher128, filled *filling) (short bool, err error) {
	for n > 0 && t.lend != nil && t.all == nil {
		p, err := t.lend.Next(int(min(n, 1<<20)))
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		h.Write(p)
		filled.Write(p)
		t.at += int64(len(p))
		n -= int64(len(p))
	}
	for n > 0 {
		p := t.buf[:min(n, int64(len(t.buf)))]
		m, err := t.full(p)
		h.Write(p[:m])
		filled.Write(p[:m])
		n -= int64(m)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

var (
	errTarEnd = errors.New("end of archive")
	errTarBad = errors.New("not a tar header")
)

// tail takes all that is left, beginning with the blocks in raw.
func (t *tarReader) tail(why error) error {
	l := t.list
	l.tail = t.at - int64(len(t.raw))
	if why != errTarEnd && why != io.EOF {
		var io *brokenReading
		if errors.As(why, &io) {
			return io.err
		}
		l.issue = fmt.Sprintf("%v at offset %d", why, l.tail)
	}
	h := newHasher128()
	h.Write(t.raw)
	at, err := t.keepHead(t.raw)
	if err == nil {
		err = t.flush()
	}
	if err != nil {
		return err
	}
	l.tailAt = at
	for {
		n, err := t.full(t.buf)
		h.Write(t.buf[:n])
		if room := l.tailAt + maxTail + int64(tarBlock); t.heads != nil && n > 0 && t.heads.size < room {
			if _, err := t.heads.Write(t.buf[:min(int64(n), room-t.heads.size)]); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if l.issue == "" && t.at%tarBlock != 0 {
		l.issue = fmt.Sprintf("ends within a block, at offset %d", t.at)
	}
	l.tailSum = h.sum()
	return nil
}

// brokenReading is an error of the medium, not of the format.
type brokenReading struct{ err error }

func (e *brokenReading) Error() string { return e.err.Error() }

// next reads the header blocks of the next entry into raw.
func (t *tarReader) next() (*entry, error) {
	t.raw = t.raw[:0]
	start := t.at
	block := func() ([]byte, error) {
		t.raw = append(t.raw, make([]byte, tarBlock)...)
		p := t.raw[len(t.raw)-tarBlock:]
		n, err := t.full(p)
		if n < tarBlock {
			t.raw = t.raw[:len(t.raw)-tarBlock+n]
			switch {
			case err != io.EOF && err != io.ErrUnexpectedEOF:
				return nil, &brokenReading{err}
			case len(t.raw) == 0:
				return nil, io.EOF
			}
			return nil, errTarBad
		}
		return p, nil
	}
	for {
		p, err := block()
		if err != nil {
			return nil, err
		}
		if allZero(p) && len(t.raw) == tarBlock {
			return nil, errTarEnd
		}
		if !tarChecksum(p) {
			return nil, errTarBad
		}
		size, ok := tarNumber(p[124:136])
		if !ok || size < 0 {
			return nil, errTarBad
		}
		switch p[156] {
		case 'x', 'g', 'L', 'K', 'X':
			n := int64(len(t.raw)) + size
			if size > maxTarHead || n > maxTarHead {
				return nil, fmt.Errorf("%w: %d bytes of names and records", errTarBad, n)
			}
			for left := (size + tarBlock - 1) / tarBlock; left > 0; left-- {
				if _, err := block(); err != nil {
					return nil, err
				}
			}
			continue
		case 'S':
			more := p[482] != 0
			for more {
				q, err := block()
				if err != nil {
					return nil, err
				}
				if more = q[504] != 0; len(t.raw) > maxTarHead {
					return nil, errTarBad
				}
			}
		}
		h := readTarHead(t.raw, nil, nil)
		if h.size < 0 || h.size > 1<<50 {
			return nil, errTarBad
		}
		t.sparse = h.sparse
		return &entry{path: h.path, kind: h.kind, start: start, head: int64(len(t.raw)), size: h.size}, nil
	}
}

func tarChecksum(p []byte) bool {
	want, ok := tarNumber(p[148:156])
	unsigned, signed := int64(8*' '), int64(8*' ')
	for i, c := range p[:tarBlock] {
		if i < 148 || i >= 156 {
			unsigned += int64(c)
			signed += int64(int8(c))
		}
	}
	return ok && (want == unsigned || want == signed)
}

// tarNumber reads octal text or GNU's base 256.
func tarNumber(p []byte) (int64, bool) {
	if p[0]&0x80 != 0 {
		v := int64(p[0] & 0x3f)
		if p[0]&0x40 != 0 {
			v -= 0x40
		}
		for i, c := range p[1:] {
			if len(p)-1-i > 7 { // beyond 64 bits; only the sign's filling may stand there
				if c != 0 && c != 0xff {
					return 0, false
				}
				if v != 0 && v != -1 {
					return 0, false
				}
				v = -int64(c & 1)
				continue
			}
			v = v<<8 | int64(c)
		}
		return v, true
	}
	if v, ok := plainOctal(p); ok {
		return v, true
	}
	s := strings.Trim(string(p), " \x00")
	if s == "" {
		return 0, true
	}
	if i := strings.IndexAny(s, " \x00"); i >= 0 {
		s = s[:i]
	}
	v, err := strconv.ParseInt(s, 8, 64)
	return v, err == nil
}

// plainOctal reads what nearly all fields hold: digits between spaces and NULs. Fields are too short to overflow.
func plainOctal(p []byte) (v int64, ok bool) {
	i := 0
	for i < len(p) && (p[i] == ' ' || p[i] == 0) {
		i++
	}
	for ; i < len(p) && '0' <= p[i] && p[i] <= '7'; i++ {
		v = v<<3 | int64(p[i]-'0')
	}
	return v, i == len(p) || p[i] == ' ' || p[i] == 0
}

func tarString(p []byte) string {
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i]
	}
	return string(p)
}

// tarHead is a header, taken apart.
type tarHead struct {
	path string
	kind byte
	size int64
	meta Meta
	cuts []cut  // offsets from the header's beginning
	name string // as stored

	device [2]int64 // major, minor
	sparse *sparseMap
}

// tarFields are the fields of a header block (POSIX.1-1988 ustar), in order.
var tarFields = []struct {
	size   int64
	what   string
	where  string
	effect bool
}{
	{100, WhatName, "", false}, {8, WhatMode, "", false}, {8, WhatOwner, "uid", false}, {8, WhatOwner, "gid", false},
	{12, WhatSize, "", true}, {12, WhatModTime, "", false}, {8, WhatSum, "", true}, {1, WhatType, "", false},
	{100, WhatLink, "", false}, {6, WhatTar, "", false}, {2, WhatTar, "", false}, {32, WhatUser, "user", false},
	{32, WhatUser, "group", false}, {8, WhatDevice, "major", false}, {8, WhatDevice, "minor", false}, {155, WhatName, "prefix", false}, {12, WhatPadding, "", false},
}

// tarKeys are the keys of the cuts of those fields: of header blocks that bring names and records, by
// their type, and of the main one, under 0.
var tarKeys = func() map[byte][]string {
	keys := map[byte][]string{}
	for _, kind := range []byte("xgLKX") {
		for _, f := range tarFields {
			keys[kind] = append(keys[kind], string(kind)+" head "+f.what+f.where)
		}
	}
	at := int64(0)
	for _, f := range tarFields {
		keys[0] = append(keys[0], "main "+strconv.FormatInt(at, 10))
		at += f.size
	}
	return keys
}()

// sparseField is the key of the field that is the prefix of a name in ustar, and in GNU times and the map of a sparse file.
const sparseField = "main 345"

// at0 is where some fields stand in a header block.
var at0 = map[string]int{"uid": 108, "gid": 116, "user": 265, "group": 297}

// parseTarHead reads header blocks as next collects them; blocks that are cut short give zero values.
func parseTarHead(raw []byte) *tarHead { return readTarHead(raw, nil, []cut{}) }

// twoTarHeads reads the headers of two entries. Their cuts are those in which they differ, or all
// where the two are made up in different ways. room is for cuts and may be used again.
func twoTarHeads(raw [2][]byte, room *[2][]cut) (a, b *tarHead) {
	if len(raw[A]) == len(raw[B]) {
		for w := range room {
			if room[w] == nil {
				room[w] = make([]cut, 0, 2*len(tarFields))
			}
		}
		a, b = readTarHead(raw[A], raw[B], room[A][:0]), readTarHead(raw[B], raw[A], room[B][:0])
		room[A], room[B] = a.cuts, b.cuts
		if slices.EqualFunc(a.cuts, b.cuts, func(k, l cut) bool { return k.key == l.key && k.off == l.off && k.size == l.size }) {
			equal := func(k cut) bool { return bytes.Equal(raw[A][k.off:k.off+k.size], raw[B][k.off:k.off+k.size]) }
			a.cuts, b.cuts = slices.DeleteFunc(a.cuts, equal), slices.DeleteFunc(b.cuts, equal)
			return a, b
		}
	}
	return parseTarHead(raw[A]), parseTarHead(raw[B])
}

// readTarHead appends cuts to those given, and makes none for nil: most entries never need them. Cuts have
// their values for people only where other, the header of the other side, has other bytes.
func readTarHead(raw, other []byte, into []cut) *tarHead {
	cuts := into != nil
	h := &tarHead{cuts: into}
	var pax map[string]string
	var holes *sparseMap
	var longName, longLink string
	at := int64(0)
	add := func(size int64, c cut) {
		c.off, c.size = at, min(size, int64(len(raw))-at)
		at += c.size
		if c.size > 0 && cuts {
			h.cuts = append(h.cuts, c)
		}
	}
	differs := func(size int64) bool {
		end := min(at+size, int64(len(raw)))
		return cuts && (other == nil || !bytes.Equal(raw[at:end], other[at:end]))
	}
	for at+tarBlock <= int64(len(raw)) {
		p := raw[at : at+tarBlock]
		kind := p[156]
		if kind != 'x' && kind != 'g' && kind != 'L' && kind != 'K' && kind != 'X' {
			break
		}
		size, _ := tarNumber(p[124:136])
		size = min(max(size, 0), int64(len(raw))-at-tarBlock)
		payload := raw[at+tarBlock : at+tarBlock+size]
		id := string(kind)
		fields := tarFields
		if !cuts {
			at += tarBlock
			fields = nil
		}
		for i, f := range fields {
			k := cut{what: WhatPAXName, where: f.what, key: tarKeys[kind][i], effect: f.effect}
			if !differs(f.size) {
				add(f.size, k)
				continue
			}
			switch f.what {
			case WhatName:
				k.value = tarString(p[:100])
			case WhatModTime:
				if v, ok := tarNumber(p[136:148]); ok {
					k.value = stamp(Time{Seconds: v, Set: true})
				}
			case WhatMode:
				k.value = tarString(p[100:108])
			case WhatOwner:
				k.where, k.value = f.where, tarString(p[at0[f.where]:at0[f.where]+8])
			case WhatUser:
				k.where, k.value = f.where, tarString(p[at0[f.where]:at0[f.where]+32])
			}
			add(f.size, k)
		}
		end := at + (size+tarBlock-1)/tarBlock*tarBlock
		switch kind {
		case 'L':
			longName = tarString(payload)
			add(size, cut{what: WhatName, key: "L"})
		case 'K':
			longLink = tarString(payload)
			add(size, cut{what: WhatLink, key: "K"})
		default:
			paxRecords(payload, func(n int, k, v string) {
				if pax == nil {
					pax = map[string]string{}
				}
				pax[k] = v
				if strings.HasPrefix(k, sparseRecord) {
					if holes == nil {
						holes = &sparseMap{size: -1}
						h.sparse = holes
					}
					holes.record(k, v)
				}
				if !cuts {
					at += int64(n)
					return
				}
				add(int64(n), paxCut(id, k, v))
			})
		}
		add(end-at, cut{what: WhatPadding, key: id + " padding", effect: true})
	}
	if at+tarBlock > int64(len(raw)) {
		add(int64(len(raw))-at, cut{what: WhatPadding})
		return h
	}
	p := raw[at : at+tarBlock]
	h.main(p, pax, longName, longLink)
	if h.kind == 'S' {
		h.sparse = oldMap(p, raw[at+tarBlock:])
	}
	if h.sparse != nil {
		h.meta.Type = kindName('S', h.path)
	}
	if !cuts {
		return h
	}
	gnu := string(p[257:265]) == "ustar  \x00"
	for i, f := range tarFields {
		k := cut{what: f.what, where: f.where, key: tarKeys[0][i], effect: f.effect}
		switch f.what {
		case WhatOwner, WhatUser, WhatDevice:
			k.where = ""
		case WhatName:
			if k.where = ""; gnu && f.size == 155 {
				k.what, k.where = WhatPAX, "gnu times"
			}
		case WhatTar:
			k.value = h.meta.Format
		}
		if differs(f.size) {
			k.value = h.value(k.what, k.value)
		}
		add(f.size, k)
	}
	for at < int64(len(raw)) { // of a GNU sparse file
		add(tarBlock, cut{what: WhatSparse, key: "sparse " + strconv.FormatInt(at, 10)})
	}
	return h
}

// value says a field as it is in effect.
func (h *tarHead) value(what, other string) string {
	m := &h.meta
	switch what {
	case WhatName:
		return h.name
	case WhatMode:
		return fmt.Sprintf("%04o", m.Mode)
	case WhatOwner:
		return fmt.Sprintf("%d:%d", m.UID, m.GID)
	case WhatUser:
		return m.User + ":" + m.Group
	case WhatModTime:
		return stamp(m.ModTime)
	case WhatSize:
		return strconv.FormatInt(h.size, 10)
	case WhatType:
		return m.Type
	case WhatLink:
		return m.Link
	case WhatDevice:
		return fmt.Sprintf("%d:%d", h.device[0], h.device[1])
	}
	return other
}

// paxRecords goes through the records of a PAX header; n is the bytes of one. What
// is no record is left to the padding.
func paxRecords(p []byte, visit func(n int, key, value string)) {
	for len(p) > 0 {
		i := bytes.IndexByte(p[:min(len(p), 10)], ' ')
		if i <= 0 {
			return
		}
		n, err := strconv.Atoi(string(p[:i]))
		if err != nil || n <= i+1 || n > len(p) || p[n-1] != '\n' {
			return
		}
		k, v, ok := strings.Cut(string(p[i+1:n-1]), "=")
		if !ok {
			return
		}
		visit(n, k, v)
		p = p[n:]
	}
}

func paxCut(id, k, v string) cut {
	c := cut{key: id + " record " + k, value: show([]byte(v))}
	switch k {
	case "path":
		c.what = WhatName
	case "linkpath":
		c.what = WhatLink
	case "size":
		c.what, c.effect = WhatSize, true
	case "uid", "gid":
		c.what = WhatOwner
	case "uname", "gname":
		c.what = WhatUser
	case "mtime":
		c.what = WhatModTime
	default:
		if name, ok := xattrName(k); ok {
			c.what, c.where = WhatXattr, name
		} else {
			c.what, c.where = WhatPAX, k
			if strings.HasPrefix(k, "GNU.sparse.") {
				c.what = WhatSparse
			}
		}
	}
	return c
}

func xattrName(k string) (string, bool) {
	for _, prefix := range []string{"SCHILY.xattr.", "LIBARCHIVE.xattr.", "SCHILY.acl."} {
		if name, ok := strings.CutPrefix(k, prefix); ok {
			return name, true
		}
	}
	return "", false
}

// main reads the header block that all others are about.
func (h *tarHead) main(p []byte, pax map[string]string, longName, longLink string) {
	m := &h.meta
	number := func(from, to int) int64 { v, _ := tarNumber(p[from:to]); return v }
	h.kind = p[156]
	if h.kind == 0 {
		h.kind = '0'
	}
	name, link := tarString(p[:100]), tarString(p[157:257])
	m.Mode, m.UID, m.GID = uint32(number(100, 108)&0o7777), number(108, 116), number(116, 124)
	m.ModTime = Time{Seconds: number(136, 148), Set: true}
	h.size = number(124, 136)
	switch magic := string(p[257:265]); {
	case magic == "ustar  \x00":
		m.Format = "gnu"
	case strings.HasPrefix(magic, "ustar"):
		m.Format = "ustar"
		if len(pax) > 0 {
			m.Format = "pax"
		}
		if prefix := tarString(p[345:500]); prefix != "" {
			name = prefix + "/" + name
		}
	default:
		m.Format = "v7"
	}
	if m.Format != "v7" {
		h.device = [2]int64{number(329, 337), number(337, 345)}
		m.User, m.Group = tarString(p[265:297]), tarString(p[297:329])
	}
	if longName != "" {
		name = longName
	}
	if longLink != "" {
		link = longLink
	}
	for k, v := range pax {
		h.record(k, v, &name, &link)
	}
	h.name, m.Link = name, link
	if real := pax["GNU.sparse.name"]; real != "" { // name holds a number of tar's process
		name = real
	}
	h.path = cleanPath(name)
	switch h.kind {
	case '1', '2', '3', '4', '5', '6':
		// Some writers give a size to what has no contents; readers skip none for them.
		if h.kind != '1' {
			h.size = 0
		} else if h.size != 0 && m.Format != "pax" {
			h.size = 0
		}
	}
	if h.kind == '3' || h.kind == '4' {
		m.Device = fmt.Sprintf("%d:%d", h.device[0], h.device[1])
	}
	m.Type = kindName(h.kind, h.path)
}

func (h *tarHead) record(k, v string, name, link *string) {
	m := &h.meta
	whole := func(into *int64) {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			*into = n
		}
	}
	switch k {
	case "path":
		*name = v
	case "linkpath":
		*link = v
	case "size":
		whole(&h.size)
	case "uid":
		whole(&m.UID)
	case "gid":
		whole(&m.GID)
	case "uname":
		m.User = v
	case "gname":
		m.Group = v
	case "mtime":
		if t, ok := parseTime(v); ok {
			m.ModTime = t
		}
	default:
		if x, ok := xattrName(k); ok {
			if m.Xattrs == nil {
				m.Xattrs = map[string]string{}
			}
			m.Xattrs[x] = v
			return
		}
		if m.PAX == nil {
			m.PAX = map[string]string{}
		}
		m.PAX[k] = v
	}
}

// parseTime reads "SECONDS[.FRACTION]".
func parseTime(s string) (Time, bool) {
	whole, part, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return Time{}, false
	}
	t := Time{Seconds: n, Set: true}
	part = (part + "000000000")[:9]
	if t.Nanos, err = strconv.ParseInt(part, 10, 64); err != nil {
		return Time{}, false
	}
	return t, true
}

// cleanPath brings "./usr/bin/" and "usr/bin" to one form; paths that climb stay as they are, visibly.
func cleanPath(name string) string {
	p := strings.TrimPrefix(path.Clean(name), "/")
	if p == "" {
		return "."
	}
	return p
}

// kindName is a tar type flag in words, with the two kinds of whiteouts that OCI layers have.
func kindName(k byte, name string) string {
	switch k {
	case '0', '7':
		switch base := path.Base(name); {
		case base == ".wh..wh..opq":
			return "opaque"
		case strings.HasPrefix(base, ".wh."):
			return "whiteout"
		}
		return "file"
	case '1':
		return "hard link"
	case '2':
		return "symlink"
	case '3':
		return "char device"
	case '4':
		return "block device"
	case '5':
		return "folder"
	case '6':
		return "fifo"
	case 'S':
		return "sparse file"
	}
	return fmt.Sprintf("type %q", k)
}
