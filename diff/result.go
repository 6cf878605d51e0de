package diff

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Result is the answer of [Compare]. Close gives up the scratch file that
// [Node.Read] reads from.
type Result struct {
	Sides   []Side        `json:"sides"`   // as given, at least two
	Classes [][]int       `json:"classes"` // numbers of sides with equal bytes, by first member; one class: all are the same
	Pairs   []*Comparison `json:"pairs"`   // the first side of the first class against the first of every other class
	closers []closer
}

type closer interface{ close() error }

// Same reports whether all sides are equal.
func (r *Result) Same() bool { return len(r.Classes) == 1 }

// Close removes the scratch file. Nodes stay, their bytes go.
func (r *Result) Close() error {
	var all error
	for _, c := range r.closers {
		all = errors.Join(all, c.close())
	}
	r.closers = nil
	return all
}

// Side is one of the things compared.
type Side struct {
	Name   string   `json:"name"`             // as given; a caller may give it a nicer one
	Kind   SideKind `json:"kind"`             //
	Size   int64    `json:"size"`             // bytes read of it
	Digest string   `json:"digest"`           // sides with equal digests are equal: of the index for images, of a listing for folders, of the bytes for files
	Images []string `json:"images,omitempty"` // digests of the manifests of an image, in order
}

// SideKind is what a side turned out to be.
type SideKind string

const (
	KindLayout  SideKind = "OCI layout"
	KindArchive SideKind = "OCI archive"
	KindDocker  SideKind = "docker archive"
	KindTar     SideKind = "tar archive"
	KindFolder  SideKind = "folder"
	KindFile    SideKind = "file"
)

// Comparison is what differs between two sides.
type Comparison struct {
	A     int    `json:"a"` // number of the side
	B     int    `json:"b"`
	Root  *Node  `json:"root"`
	Total Totals `json:"total"`
	names *names
}

// Totals sums a comparison up.
type Totals struct {
	Files       int   `json:"files"`       // files (and folders, links …) of both sides, a pair counted once
	Differing   int   `json:"differing"`   // those of them with a finding of their own or inside
	Findings    int   `json:"findings"`    // all
	Bytes       int64 `json:"bytes"`       // differing bytes of the files that differ, both sides
	Unexplained int64 `json:"unexplained"` // those of them that WhatUnexplained owns
}

// Node is one pair of things that were compared: the image, a layer, a file, a
// member of an archive, a section of a program. Nodes without any difference
// are left out, except those on the way to one.
//
// A node's bytes are those of A and B, numbered from 0. Findings own stretches
// of them, so that whatever no finding owns is equal on both sides and in the
// same order (see [Node.Check]).
type Node struct {
	Name     string    `json:"name"`             // its step of the path: "layer 2", "usr/bin/x", ".debug_str"
	Kind     Kind      `json:"kind"`             //
	Format   string    `json:"format,omitempty"` // what its bytes were read as: "gzip", "elf", "text", "bytes" …; "" for none
	A        *Part     `json:"a,omitempty"`      // nil: only on B
	B        *Part     `json:"b,omitempty"`      // nil: only on A
	Findings []Finding `json:"findings,omitempty"`
	Children []*Node   `json:"children,omitempty"`
	Account  Account   `json:"account"`
	Beyond   int       `json:"beyond,omitempty"` // so many entries differ that have no node of their own: see Finding.Entries
	Parent   *Node     `json:"-"`
}

// Kind is what a node stands for.
type Kind string

const (
	KindRoot     Kind = "root"
	KindDocument Kind = "document" // OCI JSON: Name is "index", "manifest" or "config"
	KindImage    Kind = "image"    // Name is its platform
	KindLayer    Kind = "layer"    // Name is "layer N", N being A's number (B's when A has none); the bytes are the unpacked tar's
	KindEntry    Kind = "entry"    // a path of a layer, tar, folder; a file given as a side
	KindMember   Kind = "member"   // of a zip, ar, cpio, tar inside a file
	KindStream   Kind = "stream"   // what a compressed file unpacks to
	KindSection  Kind = "section"  // a named stretch of a file: ELF section, PNG chunk, sqlite page or table
)

// Part is one side of a node.
type Part struct {
	Name   string `json:"name,omitempty"`   // when it is called otherwise than Node.Name: renamed or moved
	Offset int64  `json:"offset"`           // where it lies in the parent's bytes; -1 when it does not lie there as it is (unpacked, or no bytes)
	Size   int64  `json:"size"`             // bytes
	Digest string `json:"digest,omitempty"` // "sha256:…", where it was computed
	Meta   *Meta  `json:"meta,omitempty"`   // of entries and members
	src    source
}

// Meta is what an archive or file system says about an entry, in effect (PAX
// records and long names applied).
type Meta struct {
	Type    string            `json:"type"` // "file", "folder", "symlink", "hard link", "char device", "block device", "fifo", "whiteout", "opaque"
	Mode    uint32            `json:"mode"` // permission bits with setuid, setgid, sticky (0o7777)
	UID     int64             `json:"uid"`
	GID     int64             `json:"gid"`
	User    string            `json:"user,omitempty"`
	Group   string            `json:"group,omitempty"`
	ModTime Time              `json:"mtime"`
	Link    string            `json:"link,omitempty"`
	Device  string            `json:"device,omitempty"` // "major:minor" of a device; an overlay's whiteout is the char device 0:0
	Xattrs  map[string]string `json:"xattrs,omitempty"` // raw bytes
	PAX     map[string]string `json:"pax,omitempty"`    // all other records, raw
	Format  string            `json:"format,omitempty"` // "v7", "ustar", "pax", "gnu"
}

// Time is a time of a header: seconds and nanoseconds since 1970 UTC; Set is
// false where there is none. ZIP's DOS times, which have no zone, are taken as UTC.
type Time struct {
	Seconds int64 `json:"seconds"`
	Nanos   int64 `json:"nanos,omitempty"`
	Set     bool  `json:"set"`
}

// Finding is one difference.
type Finding struct {
	What   string `json:"what"`             // stable key, see the constants; detectors match on it
	Where  string `json:"where,omitempty"`  // finer place in the node: JSON path, key of a line, "string 17", "row 3"
	A      string `json:"a"`                // value for people, at most maxValue bytes; "" where A has none
	B      string `json:"b"`                //
	Line   [2]int `json:"line"`             // of text and documents: number of the first changed line on each side, from 1; 0 for all else
	Column [2]int `json:"column,omitzero"`  // of values in documents: their column in bytes, from 1
	Runs   []Run  `json:"runs,omitempty"`   // the bytes it owns; none when it lies in no byte (a folder's metadata)
	Outer  bool   `json:"outer,omitempty"`  // Runs count in the parent's bytes, for a header field of this member lies there
	Effect bool   `json:"effect,omitempty"` // follows from other findings: sizes, offsets, checksums, digests, packed forms of children
	// So many entries that have no node of their own differ in this; A and B are those of the first.
	Entries int    `json:"entries,omitempty"`
	More    int    `json:"more,omitempty"` // so many further differences of this kind are folded in; their bytes are in Runs
	Note    string `json:"note,omitempty"` // what else is known: "gzip: A is zlib level 6, B is klauspost level 1"
}

// Run is a stretch of A that stands where a stretch of B does; either may be
// empty. Offsets are in bytes of the node (of its parent with Finding.Outer).
type Run struct {
	A Range `json:"a"`
	B Range `json:"b"`
}

// Range is a stretch of bytes.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// End is the offset behind the last byte.
func (r Range) End() int64 { return r.Offset + r.Length }

// Account says how many bytes differ and who owns them.
type Account struct {
	A Count `json:"a"`
	B Count `json:"b"`
}

// Count is one side's part of an Account. Differing is the sum of all ranges
// of the node's own findings, of its children's Outer ones, and of what differs
// within children that lie in its bytes (Part.Offset ≥ 0).
type Count struct {
	Size        int64 `json:"size"`
	Differing   int64 `json:"differing"`
	Effect      int64 `json:"effect"`      // of Differing: owned by findings that follow from others
	Unexplained int64 `json:"unexplained"` // of Differing: owned by WhatUnexplained
}

// Which names a side of a comparison.
type Which int

const (
	A Which = iota
	B
)

func (w Which) String() string { return [...]string{"A", "B"}[w] }

// Part returns one side of the node, nil when that side has none.
func (n *Node) Part(w Which) *Part {
	if w == A {
		return n.A
	}
	return n.B
}

// Value returns the finding's value on one side.
func (f *Finding) Value(w Which) string {
	if w == A {
		return f.A
	}
	return f.B
}

// On returns one side of the run.
func (r Run) On(w Which) Range {
	if w == A {
		return r.A
	}
	return r.B
}

// Path joins the names from the root down with " → ", without the root:
// "linux/amd64 → layer 0 → opt/app.jar → META-INF/MANIFEST.MF".
func (n *Node) Path() string {
	var steps []string
	for ; n != nil && n.Parent != nil; n = n.Parent {
		steps = append(steps, n.Name)
	}
	slices.Reverse(steps)
	return strings.Join(steps, " → ")
}

// File returns the entry that the node lies in (itself, if it is one), nil outside of any.
func (n *Node) File() *Node {
	for ; n != nil; n = n.Parent {
		if n.Kind == KindEntry {
			return n
		}
	}
	return nil
}

// Walk visits the node and all below it, parents first, in the fixed order. When visit
// returns false, the node's children are left out.
func (n *Node) Walk(visit func(*Node) bool) {
	if !visit(n) {
		return
	}
	for _, c := range n.Children {
		c.Walk(visit)
	}
}

// ErrNoBytes says that a node's bytes are not at hand: it is on the other side
// only, is no file, was too large to keep, or the Result is closed.
var ErrNoBytes = errors.New("bytes not at hand")

// ReadAt reads len(p) bytes of one side at an offset, as io.ReaderAt does. Errors:
// ErrNoBytes, io.EOF, those of the scratch file.
func (n *Node) ReadAt(w Which, p []byte, off int64) (int, error) {
	part := n.Part(w)
	if part == nil || part.src.r == nil {
		return 0, ErrNoBytes
	}
	return part.src.ReadAt(p, off)
}

// Open returns one side's bytes from the beginning. Error: ErrNoBytes.
func (n *Node) Open(w Which) (*io.SectionReader, error) {
	part := n.Part(w)
	if part == nil || part.src.r == nil {
		return nil, ErrNoBytes
	}
	return io.NewSectionReader(part.src, 0, part.src.size), nil
}

// Bytes reads one side whole when it has at most limit bytes. Errors: ErrNoBytes, and that it is larger.
func (n *Node) Bytes(w Which, limit int64) ([]byte, error) {
	r, err := n.Open(w)
	if err != nil {
		return nil, err
	}
	if r.Size() > limit {
		return nil, fmt.Errorf("%d bytes are more than %d", r.Size(), limit)
	}
	b := make([]byte, r.Size())
	_, err = io.ReadFull(r, b)
	return b, err
}

// Slice reads the bytes of a range, at most limit of them.
func (n *Node) Slice(w Which, r Range, limit int64) ([]byte, error) {
	b := make([]byte, min(r.Length, limit))
	_, err := n.ReadAt(w, b, r.Offset)
	if err == io.EOF && len(b) > 0 {
		err = io.ErrUnexpectedEOF
	}
	if len(b) == 0 {
		err = nil
	}
	return b, err
}

// Owned returns what the node's account is made of: the ranges of one side, in
// the node's own coordinates, of every finding that keep accepts (nil: all),
// sorted. Children's Outer findings and findings of children that lie in the
// node's bytes are included.
func (n *Node) Owned(w Which, keep func(*Node, *Finding) bool) []Range {
	var out []Range
	n.owned(w, 0, keep, &out)
	slices.SortFunc(out, func(x, y Range) int {
		switch {
		case x.Offset < y.Offset:
			return -1
		case x.Offset > y.Offset:
			return 1
		}
		return int(min(max(x.Length-y.Length, -1), 1))
	})
	return out
}

func (n *Node) owned(w Which, base int64, keep func(*Node, *Finding) bool, out *[]Range) {
	take := func(m *Node, f *Finding, base int64) {
		if keep != nil && !keep(m, f) {
			return
		}
		for _, r := range f.Runs {
			if x := r.On(w); x.Length > 0 {
				*out = append(*out, Range{base + x.Offset, x.Length})
			}
		}
	}
	for i := range n.Findings {
		if f := &n.Findings[i]; !f.Outer {
			take(n, f, base)
		}
	}
	for _, c := range n.Children {
		for i := range c.Findings {
			if f := &c.Findings[i]; f.Outer {
				take(c, f, base)
			}
		}
		if p := c.Part(w); p != nil && p.Offset >= 0 {
			c.owned(w, base+p.Offset, keep, out)
		}
	}
}

// Without returns the sha256 of each side's bytes with the ranges of the accepted
// findings cut out (nil: of all). Equal digests prove that these findings are
// the only differences: it is the counterfactual "had these bytes been equal".
// Errors: ErrNoBytes and those of the scratch file.
func (n *Node) Without(keep func(*Node, *Finding) bool) (a, b string, err error) {
	var sums [2]string
	for _, w := range []Which{A, B} {
		r, err := n.Open(w)
		if err != nil {
			return "", "", err
		}
		h, at := sha256.New(), int64(0)
		copyTo := func(end int64) error {
			if end <= at {
				return nil
			}
			_, err := io.Copy(h, io.NewSectionReader(r, at, end-at))
			return err
		}
		for _, x := range n.Owned(w, keep) {
			if err := copyTo(x.Offset); err != nil {
				return "", "", err
			}
			at = max(at, x.End())
		}
		if err := copyTo(r.Size()); err != nil {
			return "", "", err
		}
		sums[w] = "sha256:" + hex.EncodeToString(h.Sum(nil))
	}
	return sums[A], sums[B], nil
}

// Check verifies the account of one node: no two findings own one byte, ranges
// lie within the bytes, their sum is Account's, and what nobody owns is equal
// on both sides. A node on one side only, or without bytes, is right.
func (n *Node) Check() error {
	if n.A == nil || n.B == nil || n.A.src.r == nil || n.B.src.r == nil {
		return nil
	}
	for _, w := range []Which{A, B} {
		at, sum := int64(0), int64(0)
		for _, r := range n.Owned(w, nil) {
			if r.Offset < at || r.End() > n.Part(w).Size {
				return fmt.Errorf("%s, side %s: bytes [%d,%d) are owned twice or beyond the end (%d)", n.Path(), w, r.Offset, r.End(), n.Part(w).Size)
			}
			at, sum = r.End(), sum+r.Length
		}
		if c := n.Account.on(w); c.Differing != sum || c.Size != n.Part(w).Size {
			return fmt.Errorf("%s, side %s: the account says %d of %d bytes, findings own %d of %d", n.Path(), w, c.Differing, c.Size, sum, n.Part(w).Size)
		}
	}
	a, b, err := n.Without(nil)
	if err != nil {
		return err
	}
	if a != b {
		return fmt.Errorf("%s: what no finding owns differs", n.Path())
	}
	return nil
}

func (a *Account) on(w Which) *Count {
	if w == A {
		return &a.A
	}
	return &a.B
}
