package layer

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"quorate.dev/builder/tree"
)

// blockSize of tar.
const blockSize = 512

var zeros [2 * blockSize]byte

// tarWriter is our own, not archive/tar's, whose choice of format and order of
// records may change with Go.
type tarWriter struct {
	w     *bufio.Writer
	epoch int64
	buf   []byte
}

func (t *tarWriter) all(entries []tree.Entry) error {
	for i := range entries {
		if i > 0 && entries[i-1].Path >= entries[i].Path {
			return &OrderError{entries[i-1].Path, entries[i].Path}
		}
		if err := t.entry(&entries[i]); err != nil {
			return err
		}
	}
	_, err := t.w.Write(zeros[:])
	return err
}

// typeflags of ustar.
var typeflags = map[tree.Kind]byte{
	tree.File: '0', tree.Hardlink: '1', tree.Symlink: '2', tree.Dir: '5', tree.Fifo: '6', tree.Whiteout: '0',
}

func (t *tarWriter) entry(e *tree.Entry) error {
	flag, ok := typeflags[e.Kind]
	if !ok {
		return fmt.Errorf("%q is of unknown kind %q", e.Path, e.Kind)
	}
	h := header{name: e.Path, mode: int64(e.Mode), uid: int64(e.UID), gid: int64(e.GID), mtime: e.TimeAt(t.epoch), flag: flag, link: e.Link}
	switch e.Kind {
	case tree.Dir:
		h.name += "/"
	case tree.File:
		h.size = e.Size
	case tree.Symlink:
		h.mode = 0o777 // the only one there is
	case tree.Whiteout:
		h = header{name: path.Join(path.Dir(e.Path), ".wh."+path.Base(e.Path)), mtime: t.epoch, flag: flag}
	}
	if e.Kind != tree.Hardlink && e.Kind != tree.Whiteout {
		for name, value := range e.Xattrs {
			h.record("SCHILY.xattr."+name, value)
		}
	}
	if err := t.header(&h); err != nil || e.Kind != tree.File {
		return err
	}
	return t.contents(e)
}

// contents copies a file's bytes, checked, and fills up the last block.
func (t *tarWriter) contents(e *tree.Entry) error {
	if e.Size == 0 {
		return nil
	}
	r, err := tree.Open(*e)
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{t.w}, struct{ io.Reader }{r}, t.buf)
	if err != nil {
		return err
	}
	if rest := n % blockSize; rest != 0 {
		_, err = t.w.Write(zeros[:blockSize-rest])
	}
	return err
}

// header is one tar header, PAX records included.
type header struct {
	name, link            string
	mode, uid, gid, mtime int64
	size                  int64
	flag                  byte
	records               []record
}

type record struct{ key, value string }

func (h *header) record(key, value string) { h.records = append(h.records, record{key, value}) }

// header writes h, and a PAX header before it when ustar cannot hold all of it.
func (t *tarWriter) header(h *header) error {
	var b [blockSize]byte
	prefix, name, fits := splitName(h.name)
	if !fits {
		h.record("path", h.name)
		name = clip(h.name)
	}
	link := h.link
	if len(link) > 100 {
		h.record("linkpath", link)
		link = clip(link)
	}
	copy(b[0:100], name)
	copy(b[157:257], link)
	copy(b[345:500], prefix)
	h.octal(b[100:108], h.mode, "")
	h.octal(b[108:116], h.uid, "uid")
	h.octal(b[116:124], h.gid, "gid")
	h.octal(b[124:136], h.size, "size")
	h.octal(b[136:148], h.mtime, "mtime")
	b[156] = h.flag
	finishHeader(&b)
	if len(h.records) > 0 {
		if err := t.pax(h.records); err != nil {
			return err
		}
	}
	_, err := t.w.Write(b[:])
	return err
}

// finishHeader sets the magic and the checksum.
func finishHeader(b *[blockSize]byte) {
	copy(b[257:265], "ustar\x0000")
	copy(b[148:156], "        ")
	var sum int64
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// octal writes a number into its field, or as a PAX record when it does not fit.
func (h *header) octal(field []byte, n int64, key string) {
	if s := strconv.FormatInt(n, 8); n >= 0 && len(s) < len(field) {
		copy(field, strings.Repeat("0", len(field)-1-len(s))+s)
		return
	}
	h.record(key, strconv.FormatInt(n, 10))
	copy(field, strings.Repeat("0", len(field)-1))
}

// splitName divides a name that is longer than 100 bytes between ustar's
// prefix (155 bytes) and name, at the last slash that makes both fit.
func splitName(s string) (prefix, name string, ok bool) {
	if len(s) <= 100 {
		return "", s, true
	}
	end := min(len(s)-1, 156) // a slash as last byte belongs to the name
	i := strings.LastIndexByte(s[:end], '/')
	if i <= 0 || len(s)-i-1 > 100 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// clip shortens what a PAX record holds whole, for readers that know no PAX.
func clip(s string) string { return s[:min(len(s), 100)] }

// pax writes a header of type "x" with the records, sorted by key.
func (t *tarWriter) pax(records []record) error {
	slices.SortFunc(records, func(a, b record) int { return strings.Compare(a.key, b.key) })
	var body []byte
	for _, r := range records {
		body = appendRecord(body, r)
	}
	var b [blockSize]byte
	copy(b[0:100], "PaxHeader")
	h := header{mode: 0o644, size: int64(len(body))}
	h.octal(b[100:108], h.mode, "")
	h.octal(b[108:116], 0, "")
	h.octal(b[116:124], 0, "")
	h.octal(b[124:136], h.size, "")
	h.octal(b[136:148], 0, "")
	b[156] = 'x'
	finishHeader(&b)
	t.w.Write(b[:])
	t.w.Write(body)
	var err error
	if rest := len(body) % blockSize; rest != 0 {
		_, err = t.w.Write(zeros[:blockSize-rest])
	}
	return err
}

// appendRecord writes "LENGTH KEY=VALUE\n", whose length counts itself.
func appendRecord(b []byte, r record) []byte {
	n := len(r.key) + len(r.value) + len(" =\n")
	size := n + len(strconv.Itoa(n))
	if n+len(strconv.Itoa(size)) != size {
		size = n + len(strconv.Itoa(size))
	}
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(b, ' ')
	b = append(b, r.key...)
	b = append(b, '=')
	b = append(b, r.value...)
	return append(b, '\n')
}
