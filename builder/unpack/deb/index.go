package deb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"quorate.dev/builder/tree"
)

// indexMagic begins the binary form of a Package; the last byte is its
// version and changes with anything below.
const indexMagic = "quorate-deb\x01"

// MarshalBinary returns the form in which the builder keeps a Package beside
// its decoded data: lengths and numbers as varints, all in a fixed order. It is
// some ten times faster to read than JSON, and the same package always has the
// same bytes. Contents of entries are not part of it.
func (p *Package) MarshalBinary() ([]byte, error) {
	w := writer(make([]byte, 0, 256+128*len(p.Entries)))
	w = append(w, indexMagic...)
	w.number(uint64(len(p.Control)))
	for _, f := range p.Control {
		w.text(f.Name)
		w.text(f.Value)
	}
	w.number(uint64(len(p.ControlFiles)))
	for _, f := range p.ControlFiles {
		w.text(f.Name)
		w.number(uint64(f.Mode))
		w.text(string(f.Data))
	}
	w.number(uint64(len(p.Conffiles)))
	for _, c := range p.Conffiles {
		w.text(c.Path)
		w.text(c.MD5)
	}
	w.signed(p.ModTime)
	w.signed(p.DataSize)
	w.number(uint64(len(p.Entries)))
	for i := range p.Entries {
		w.entry(&p.Entries[i])
	}
	return w, nil
}

type writer []byte

func (w *writer) number(n uint64) { *w = binary.AppendUvarint(*w, n) }
func (w *writer) signed(n int64)  { *w = binary.AppendVarint(*w, n) }
func (w *writer) text(s string) {
	w.number(uint64(len(s)))
	*w = append(*w, s...)
}

func (w *writer) entry(e *Entry) {
	*w = append(*w, byte(e.Kind))
	w.text(e.Path)
	w.text(e.Shipped)
	w.number(uint64(e.Mode))
	w.signed(int64(e.UID))
	w.signed(int64(e.GID))
	w.signed(e.ModTime)
	w.text(e.Link)
	names := make([]string, 0, len(e.Xattrs))
	for name := range e.Xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	w.number(uint64(len(names)))
	for _, name := range names {
		w.text(name)
		w.text(e.Xattrs[name])
	}
	w.signed(e.Size)
	w.signed(e.Offset)
	if e.Kind == tree.File {
		*w = append(*w, e.Digest[:]...)
	}
}

// UnmarshalBinary reads what MarshalBinary wrote and nothing else: other
// versions, damage, and bytes that would be written otherwise are refused.
func (p *Package) UnmarshalBinary(b []byte) error {
	if len(b) < len(indexMagic) || string(b[:len(indexMagic)]) != indexMagic {
		return errors.New("cannot read decoded package: not of this version")
	}
	// One string for the whole: what is read below shares its memory.
	r := &reader{b: string(b[len(indexMagic):])}
	*p = Package{}
	for range r.count(2) {
		p.Control = append(p.Control, Field{r.text(), r.text()})
	}
	for range r.count(3) {
		p.ControlFiles = append(p.ControlFiles, ControlFile{r.text(), r.small(), []byte(r.text())})
	}
	for range r.count(2) {
		p.Conffiles = append(p.Conffiles, Conffile{r.text(), r.text()})
	}
	p.ModTime, p.DataSize = r.signed(), r.signed()
	n := r.count(11)
	if n > 0 {
		p.Entries = make([]Entry, 0, n)
	}
	for range n {
		p.Entries = append(p.Entries, r.entry(p.DataSize))
		if r.err != nil {
			break
		}
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes after its end", len(r.b))
	}
	if r.err != nil {
		*p = Package{}
		return fmt.Errorf("cannot read decoded package: %w", r.err)
	}
	return nil
}

// reader takes values from the front of b; after the first error all are zero.
type reader struct {
	b   string
	err error
}

func (r *reader) fail(reason string) {
	if r.err == nil {
		r.err, r.b = errors.New(reason), ""
	}
}

func (r *reader) number() uint64 {
	var n uint64
	for i := 0; i < len(r.b) && i < binary.MaxVarintLen64; i++ {
		c := r.b[i]
		if i == binary.MaxVarintLen64-1 && c > 1 {
			break // more than 64 bits
		}
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				break // a longer form of the same number
			}
			r.b = r.b[i+1:]
			return n
		}
	}
	r.fail("damaged number")
	return 0
}

func (r *reader) signed() int64 {
	n := r.number()
	return int64(n>>1) ^ -int64(n&1)
}

func (r *reader) small() uint32 {
	n := r.number()
	if n > 1<<32-1 {
		r.fail("number out of range")
	}
	return uint32(n)
}

// count reads how many values of at least size bytes follow, so that damage
// cannot ask for more memory than the input has.
func (r *reader) count(size int) int {
	n := r.number()
	if n > uint64(len(r.b)/size) {
		r.fail("count larger than what is left")
		return 0
	}
	return int(n)
}

func (r *reader) text() string { return r.take(r.number()) }

func (r *reader) take(n uint64) string {
	if n > uint64(len(r.b)) {
		r.fail("truncated")
		return ""
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) entry(dataSize int64) (e Entry) {
	if kind := r.take(1); kind != "" {
		e.Kind = tree.Kind(kind[0])
	}
	e.Path = r.text()
	if e.Shipped = r.text(); e.Shipped == e.Path {
		e.Shipped = e.Path // one string for both
	}
	e.Mode = r.small()
	e.UID, e.GID = int(r.signed()), int(r.signed())
	e.ModTime = r.signed()
	e.Link = r.text()
	e.Xattrs = r.xattrs()
	e.Size, e.Offset = r.signed(), r.signed()
	if e.Size < 0 || e.Offset < 0 || e.Size > dataSize || e.Offset > dataSize-e.Size {
		r.fail("file outside of the data")
	}
	switch e.Kind {
	case tree.File:
		copy(e.Digest[:], r.take(32))
	case tree.Dir, tree.Symlink, tree.Hardlink, tree.Fifo:
	default:
		r.fail("unknown kind of entry")
	}
	return e
}

func (r *reader) xattrs() map[string]string {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	m := make(map[string]string, n)
	last := ""
	for i := range n {
		name := r.text()
		if i > 0 && name <= last {
			r.fail("attributes out of order")
		}
		m[name], last = r.text(), name
	}
	return m
}
