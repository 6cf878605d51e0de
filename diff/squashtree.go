package diff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/klauspost/compress/zlib"
	"github.com/ulikunitz/xz/lzma"
)

// The files within a squashfs 4.0 image, read as the kernel's fs/squashfs reads them: an
// inode table and a directory table of metadata blocks, file data in blocks, and the ends of
// files together in fragments. The libraries there are read images that one made oneself (and link a decoder
// under the GPL for lzo); this reader takes images from anyone, bounds everything, and follows no
// cycle. Images packed with lzo are compared by their sections alone.

const (
	squashMeta = 8192 // bytes of a metadata block, unpacked
	// maxSquashEntries bounds the entries that are listed, maxSquashDepth the folders within folders.
	maxSquashEntries = 200_000
	maxSquashDepth   = 200
	// maxSquashBlock is the largest block of data that the format has.
	maxSquashBlock = 1 << 20
	// squashCached bounds the metadata blocks kept unpacked: folders and inodes that are near one another share them.
	squashCached = 64
)

// squash reads one image.
type squash struct {
	s              source
	block          int64
	unpack         func(b []byte, limit int64) ([]byte, error)
	inodes, dirs   int64
	fragments, ids int64
	fragmentCount  int64
	idCount        int64
	xattrs         int64
	root           uint64
	meta           map[int64]squashBlock
	fragment       []byte // the last one that was unpacked
	fragmentAt     int64
}

type squashBlock struct {
	data []byte
	next int64
}

var (
	errSquashPacking = errors.New("packed in a way that is not read here")
	errSquash        = errors.New("broken file system")
)

func openSquash(s source) (*squash, error) {
	b, err := s.slice(0, 96)
	if err != nil {
		return nil, errSquash
	}
	le32 := func(i int) int64 { return int64(binary.LittleEndian.Uint32(b[i:])) }
	le64 := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[i:])) }
	q := &squash{s: s, block: le32(12), root: uint64(le64(32)), ids: le64(48), xattrs: le64(56), inodes: le64(64), dirs: le64(72),
		fragments: le64(80), fragmentCount: le32(16), idCount: int64(binary.LittleEndian.Uint16(b[26:])), meta: map[int64]squashBlock{}, fragmentAt: -1}
	if major := binary.LittleEndian.Uint16(b[28:]); major != 4 || q.block < 4096 || q.block > maxSquashBlock {
		return nil, errSquash
	}
	switch binary.LittleEndian.Uint16(b[20:]) {
	case 1:
		q.unpack = func(b []byte, limit int64) ([]byte, error) { return unpackBlock(b, limit, readZlib) }
	case 2:
		q.unpack = func(b []byte, limit int64) ([]byte, error) { return unpackBlock(b, limit, readLzma) }
	case 4:
		q.unpack = func(b []byte, limit int64) ([]byte, error) { return unpackBlock(b, limit, openXz) }
	case 5:
		q.unpack = unpackLz4
	case 6:
		q.unpack = func(b []byte, limit int64) ([]byte, error) { return unpackBlock(b, limit, openZstd) }
	default:
		return nil, errSquashPacking
	}
	return q, nil
}

func readZlib(r io.Reader) (io.ReadCloser, error) { return zlib.NewReader(r) }

// readLzma takes dictionaries no larger than the largest block: the library allocates what the header claims.
func readLzma(r io.Reader) (io.ReadCloser, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil || binary.LittleEndian.Uint32(head[1:]) > maxSquashBlock {
		return nil, errSquash
	}
	z, err := lzma.NewReader(io.MultiReader(bytes.NewReader(head), r))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(z), nil
}

// unpackLz4 unpacks one block of LZ4 (lz4_Block_format.md): runs of literals, and matches in what was
// unpacked before.
func unpackLz4(b []byte, limit int64) ([]byte, error) {
	var out []byte
	length := func(n int) (int, bool) {
		if n < 15 {
			return n, true
		}
		for len(b) > 0 && int64(n) <= limit {
			c := b[0]
			b = b[1:]
			if n += int(c); c != 255 {
				return n, true
			}
		}
		return 0, false
	}
	for len(b) > 0 {
		token := b[0]
		b = b[1:]
		n, ok := length(int(token >> 4))
		if !ok || n > len(b) || int64(len(out)+n) > limit {
			return nil, errSquash
		}
		out = append(out, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return out, nil
		}
		if len(b) < 2 {
			return nil, errSquash
		}
		back := int(binary.LittleEndian.Uint16(b))
		b = b[2:]
		n, ok = length(int(token & 15))
		if n += 4; !ok || back == 0 || back > len(out) || int64(len(out)+n) > limit {
			return nil, errSquash
		}
		for range n { // the match may run into what it makes
			out = append(out, out[len(out)-back])
		}
	}
	return out, nil
}

// unpackBlock unpacks at most limit bytes; a block that holds more is broken.
func unpackBlock(b []byte, limit int64, open func(io.Reader) (io.ReadCloser, error)) ([]byte, error) {
	r, err := open(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(out)) > limit {
		err = errSquash
	}
	return out, err
}

// metadata unpacks the block at an offset and says where the next one lies.
func (q *squash) metadata(at int64) (squashBlock, error) {
	if m, ok := q.meta[at]; ok {
		return m, nil
	}
	h, err := q.s.slice(at, 2)
	if err != nil {
		return squashBlock{}, errSquash
	}
	head := int64(binary.LittleEndian.Uint16(h))
	size := head & 0x7fff
	b, err := q.s.slice(at+2, size)
	if err != nil || size == 0 || size > squashMeta {
		return squashBlock{}, errSquash
	}
	if head&0x8000 == 0 {
		if b, err = q.unpack(b, squashMeta); err != nil {
			return squashBlock{}, fmt.Errorf("%w: %v at offset %d", errSquash, err, at)
		}
	}
	if len(q.meta) >= squashCached {
		clear(q.meta)
	}
	m := squashBlock{b, at + 2 + size}
	q.meta[at] = m
	return m, nil
}

// cursor reads metadata that runs over blocks.
type cursor struct {
	q    *squash
	at   int64 // of the block
	skip int   // within it
}

// ref is a cursor at a reference into a table: block in the upper 48 bits, place within it in the lower 16.
func (q *squash) ref(table int64, ref uint64) (*cursor, error) {
	at := table + int64(ref>>16)
	if at < 96 || at >= q.s.size {
		return nil, errSquash
	}
	return &cursor{q, at, int(ref & 0xffff)}, nil
}

func (c *cursor) read(n int) ([]byte, error) {
	out := make([]byte, 0, min(n, squashMeta))
	for n > 0 {
		m, err := c.q.metadata(c.at)
		if err != nil {
			return nil, err
		}
		if c.skip > len(m.data) {
			return nil, errSquash
		}
		part := m.data[c.skip:min(len(m.data), c.skip+n)]
		out = append(out, part...)
		n -= len(part)
		if c.skip += len(part); c.skip == len(m.data) {
			c.at, c.skip = m.next, 0
		}
		if len(part) == 0 && len(m.data) == 0 {
			return nil, errSquash
		}
	}
	return out, nil
}

// inode is what is needed of one.
type inode struct {
	kind   uint16 // basic types 1 to 7
	number uint32
	meta   Meta
	// Of folders, a reference to their listing and its bytes; of files, where data begins, and the rest of it.
	listing    uint64
	size       int64
	start      int64
	fragment   uint32
	fragmentIn int64
	blocks     *cursor // at their sizes
	xattr      uint32
}

// none is what the format writes for no fragment and no extended attributes.
const none = 0xffffffff

func (q *squash) inode(ref uint64) (*inode, error) {
	c, err := q.ref(q.inodes, ref)
	if err != nil {
		return nil, err
	}
	b, err := c.read(16)
	if err != nil {
		return nil, err
	}
	le16 := func(i int) uint16 { return binary.LittleEndian.Uint16(b[i:]) }
	le32 := func(i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }
	n := &inode{kind: le16(0), number: le32(12), fragment: none, xattr: none}
	n.meta = Meta{Mode: uint32(le16(2)) & 0o7777, ModTime: Time{Seconds: int64(le32(8)), Set: true}, Format: "squashfs"}
	if n.meta.UID, err = q.id(le16(4)); err != nil {
		return nil, err
	}
	if n.meta.GID, err = q.id(le16(6)); err != nil {
		return nil, err
	}
	more := func(n int) bool { b, err = c.read(n); return err == nil }
	wide := n.kind > 7
	if wide {
		n.kind -= 7
	}
	switch {
	case n.kind == 1 && !wide && more(16):
		n.meta.Type, n.size = "folder", int64(le16(8))
		n.listing = uint64(le32(0))<<16 | uint64(le16(10))
	case n.kind == 1 && wide && more(24):
		n.meta.Type, n.size, n.xattr = "folder", int64(le32(4)), le32(20)
		n.listing = uint64(le32(8))<<16 | uint64(le16(18))
	case n.kind == 2 && !wide && more(16):
		n.meta.Type, n.size = "file", int64(le32(12))
		n.start, n.fragment, n.fragmentIn, n.blocks = int64(le32(0)), le32(4), int64(le32(8)), c
	case n.kind == 2 && wide && more(40):
		n.meta.Type, n.size, n.xattr = "file", int64(binary.LittleEndian.Uint64(b[8:])), le32(36)
		n.start, n.fragment, n.fragmentIn, n.blocks = int64(binary.LittleEndian.Uint64(b)), le32(28), int64(le32(32)), c
	case n.kind == 3 && more(8):
		n.meta.Type = "symlink"
		if size := le32(4); size > 65535 || !more(int(size)) {
			return nil, errSquash
		}
		n.meta.Link = string(b)
		if wide && more(4) {
			n.xattr = le32(0)
		}
	case n.kind >= 4 && n.kind <= 7:
		n.meta.Type = [...]string{"block device", "char device", "fifo", "socket"}[n.kind-4]
		if n.kind < 6 && more(8) {
			n.meta.Link = fmt.Sprintf("%d:%d", le32(4)>>8&0xfff, le32(4)&0xff|le32(4)>>12&0xfff00)
		} else if n.kind >= 6 && err == nil {
			more(4)
		}
		if wide && err == nil && more(4) {
			n.xattr = le32(0)
		}
	default:
		return nil, errSquash
	}
	if err == nil && n.xattr != none {
		n.meta.Xattrs, err = q.attributes(n.xattr)
	}
	if err != nil || n.size < 0 {
		return nil, errSquash
	}
	return n, nil
}

// lookup reads entry i of a table that is a list of offsets of metadata blocks.
func (q *squash) lookup(table, i, size int64) ([]byte, error) {
	per := int64(squashMeta) / size
	at, err := q.s.slice(table+i/per*8, 8)
	if err != nil || table < 96 {
		return nil, errSquash
	}
	m, err := q.metadata(int64(binary.LittleEndian.Uint64(at)))
	if err != nil {
		return nil, err
	}
	from := i % per * size
	if from+size > int64(len(m.data)) {
		return nil, errSquash
	}
	return m.data[from : from+size], nil
}

func (q *squash) id(i uint16) (int64, error) {
	if int64(i) >= q.idCount {
		return 0, errSquash
	}
	b, err := q.lookup(q.ids, int64(i), 4)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint32(b)), nil
}

// maxSquashXattrs bounds the extended attributes of one file, as the kernel bounds names and values.
const maxSquashXattrs = 1000

func (q *squash) attributes(i uint32) (map[string]string, error) {
	head, err := q.s.slice(q.xattrs, 16)
	if err != nil || q.xattrs < 96 || i >= binary.LittleEndian.Uint32(head[8:]) {
		return nil, errSquash
	}
	start := int64(binary.LittleEndian.Uint64(head))
	b, err := q.lookup(q.xattrs+16, int64(i), 16)
	if err != nil {
		return nil, err
	}
	count := binary.LittleEndian.Uint32(b[8:])
	c, err := q.ref(start, binary.LittleEndian.Uint64(b))
	if err != nil || count > maxSquashXattrs {
		return nil, errSquash
	}
	out := map[string]string{}
	for range count {
		h, err := c.read(4)
		if err != nil {
			return nil, err
		}
		kind, size := binary.LittleEndian.Uint16(h), int(binary.LittleEndian.Uint16(h[2:]))
		name, err := c.read(size)
		if err != nil {
			return nil, err
		}
		value, err := c.value()
		if err != nil {
			return nil, err
		}
		if kind&0x100 != 0 { // the value lies elsewhere, where it is shared
			if len(value) != 8 {
				return nil, errSquash
			}
			other, err := q.ref(start, binary.LittleEndian.Uint64(value))
			if err != nil {
				return nil, err
			}
			if value, err = other.value(); err != nil {
				return nil, err
			}
		}
		prefix := [...]string{"user.", "trusted.", "security."}[min(kind&0xff, 2)]
		out[prefix+string(name)] = string(value)
	}
	return out, nil
}

func (c *cursor) value() ([]byte, error) {
	b, err := c.read(4)
	if err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(b)
	if n > 64<<10 { // XATTR_SIZE_MAX
		return nil, errSquash
	}
	return c.read(int(n))
}

// squashWalk lists an image.
type squashWalk struct {
	q     *squash
	list  *tarListing
	files map[uint32]string // inode number → first path, for hard links
	seen  map[uint64]bool   // listings of folders
	room  int64             // bytes of contents that may still be read
	done  <-chan struct{}
}

// tree lists the files of an image, with hashes of their contents. Contents are unpacked into the spool when they are asked for.
func (q *squash) tree(into *spool, done <-chan struct{}) (*tree, error) {
	w := &squashWalk{q: q, list: &tarListing{}, files: map[uint32]string{}, seen: map[uint64]bool{}, room: maxStream, done: done}
	if err := w.entry(".", q.root, 0); err != nil {
		return nil, err
	}
	slices.SortStableFunc(w.list.entries, func(a, b entry) int { return comparePaths(a.path, b.path) })
	return &tree{list: w.list, folder: func(e *entry) (source, error) {
		n, err := q.inode(uint64(e.start))
		if err != nil {
			return source{}, err
		}
		if n.kind != 2 {
			return emptySource, nil
		}
		mark := into.size
		if err := q.contents(n, into, done); err != nil {
			return source{}, err
		}
		return into.since(mark), nil
	}}, nil
}

func comparePaths(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (w *squashWalk) entry(name string, ref uint64, depth int) error {
	select {
	case <-w.done:
		return ErrStopped
	default:
	}
	n, err := w.q.inode(ref)
	if err != nil {
		return fmt.Errorf("%w: inode of %q", errSquash, clip(name))
	}
	if len(w.list.entries) >= maxSquashEntries || depth > maxSquashDepth {
		return fmt.Errorf("%w: more than %d entries, or %d folders deep", errTooLarge, maxSquashEntries, maxSquashDepth)
	}
	e := entry{path: name, kind: '5', meta: &n.meta, start: int64(ref)}
	sum := newHasher128()
	switch n.kind {
	case 1:
		w.list.entries = append(w.list.entries, withSum(e, sum))
		return w.folder(name, n, depth)
	case 2:
		e.kind, e.size = '0', n.size
		if first, ok := w.files[n.number]; ok {
			e.kind, e.size, n.meta.Type, n.meta.Link = '1', 0, "hard link", first
			break
		}
		w.files[n.number] = name
		if w.room -= n.size; w.room < 0 {
			return fmt.Errorf("%w: more than %d MiB", errTooLarge, maxStream>>20)
		}
		if err := w.q.contents(n, sum, w.done); err != nil {
			return fmt.Errorf("%w: contents of %q", err, clip(name))
		}
	case 3:
		e.kind = '2'
	}
	w.list.entries = append(w.list.entries, withSum(e, sum))
	return nil
}

func withSum(e entry, h *hasher128) entry {
	e.dataSum = h.sum()
	return e
}

// folder goes through a listing: runs of entries whose inodes lie in one block.
func (w *squashWalk) folder(name string, n *inode, depth int) error {
	if n.size <= 3 { // an empty folder claims the size of "." and ".."
		return nil
	}
	if w.seen[n.listing] {
		return fmt.Errorf("%w: folder %q holds itself or another's entries", errSquash, clip(name))
	}
	w.seen[n.listing] = true
	c, err := w.q.ref(w.q.dirs, n.listing)
	if err != nil {
		return err
	}
	for left := n.size - 3; left > 0; {
		h, err := c.read(12)
		if err != nil {
			return err
		}
		left -= 12
		count, block := binary.LittleEndian.Uint32(h), uint64(binary.LittleEndian.Uint32(h[4:]))
		if count >= 256 { // SQUASHFS_DIR_COUNT
			return errSquash
		}
		for range count + 1 {
			b, err := c.read(8)
			if err != nil {
				return err
			}
			size := int(binary.LittleEndian.Uint16(b[6:])) + 1
			if size > 256 { // SQUASHFS_NAME_LEN
				return errSquash
			}
			base, err := c.read(size)
			if err != nil {
				return err
			}
			left -= int64(8 + size)
			if err := w.entry(path.Join(name, string(base)), block<<16|uint64(binary.LittleEndian.Uint16(b)), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// contents writes a file's bytes.
func (q *squash) contents(n *inode, w io.Writer, done <-chan struct{}) error {
	const plain, most = 1 << 24, 1<<24 - 1
	at, left := n.start, n.size
	blocks := *n.blocks
	whole := left / q.block
	if n.fragment == none {
		whole = (left + q.block - 1) / q.block
	}
	for range whole {
		select {
		case <-done:
			return ErrStopped
		default:
		}
		b, err := blocks.read(4)
		if err != nil {
			return err
		}
		word := int64(binary.LittleEndian.Uint32(b))
		size, want := word&most, min(q.block, left)
		var data []byte
		if size == 0 { // a hole
			data = make([]byte, want)
		} else if data, err = q.data(at, size, word&plain != 0); err != nil {
			return err
		}
		if int64(len(data)) != want {
			return errSquash
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		at, left = at+size, left-want
	}
	if left == 0 {
		return nil
	}
	b, err := q.lookup(q.fragments, int64(n.fragment), 16)
	if err != nil || int64(n.fragment) >= q.fragmentCount {
		return errSquash
	}
	start, word := int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint32(b[8:]))
	if q.fragmentAt != start {
		if q.fragment, err = q.data(start, word&most, word&plain != 0); err != nil {
			q.fragmentAt = -1
			return err
		}
		q.fragmentAt = start
	}
	if n.fragmentIn > int64(len(q.fragment)) || left > int64(len(q.fragment))-n.fragmentIn {
		return errSquash
	}
	_, err = w.Write(q.fragment[n.fragmentIn : n.fragmentIn+left])
	return err
}

func (q *squash) data(at, size int64, plain bool) ([]byte, error) {
	b, err := q.s.slice(at, size)
	if err != nil || size > q.block {
		return nil, errSquash
	}
	if plain {
		return b, nil
	}
	return q.unpack(b, q.block)
}

// squashFiles compares the files of two images. They own no bytes: the image's sections do, and
// follow from them when they differ. When they are equal, the sections differ in how they were packed.
func (c *comparer) squashFiles(n *Node) error {
	var trees [2]*tree
	var said [2]string
	for _, side := range []Which{A, B} {
		q, err := openSquash(n.Part(side).src)
		if err == nil {
			trees[side], err = q.tree(c.sides[side], c.o.Done)
		}
		switch {
		case err == ErrStopped || errors.Is(err, errSquashPacking):
			return c.stopped()
		case err != nil:
			said[side] = err.Error()
		}
	}
	if said[A] != "" || said[B] != "" {
		c.add(n, Finding{What: WhatMalformed, A: said[A], B: said[B]})
		return nil
	}
	sections := len(n.Children)
	findings := len(n.Findings)
	if err := c.trees(n, trees[A], trees[B], KindMember); err != nil {
		return err
	}
	differ := len(n.Children) > sections || len(n.Findings) > findings
	for _, m := range n.Children[:sections] {
		for i := range m.Findings {
			switch f := &m.Findings[i]; {
			case differ:
				f.What, f.Effect = WhatPacked, true
			default:
				f.What, f.Note = WhatCompression, "the same files when unpacked"
			}
		}
	}
	return nil
}
