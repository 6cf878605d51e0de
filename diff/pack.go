package diff

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// packer is a way to pack one stream.
type packer struct {
	name   string
	magic  string
	open   func(r io.Reader) (io.ReadCloser, error)
	format *format
}

func (p *packer) String() string {
	if p == nil {
		return "not packed"
	}
	return p.name
}

var packers = []*packer{
	{name: "gzip", magic: "\x1f\x8b", open: openGzip, format: &format{name: "gzip", is: begins("\x1f\x8b\x08"), take: takeGzip}},
	{name: "zstd", magic: "\x28\xb5\x2f\xfd", open: openZstd, format: &format{name: "zstd", is: begins("\x28\xb5\x2f\xfd"), take: takeZstd}},
	{name: "xz", magic: "\xfd7zXZ\x00", open: openXz, format: &format{name: "xz", is: begins("\xfd7zXZ\x00"), take: takeXz}},
	{name: "bzip2", magic: "BZh", open: openBzip2, format: &format{name: "bzip2", is: isBzip2, take: takeBzip2}},
}

func begins(magic string) func([]byte, string) bool {
	return func(head []byte, _ string) bool { return bytes.HasPrefix(head, []byte(magic)) }
}

func isBzip2(head []byte, _ string) bool {
	return len(head) > 10 && string(head[:3]) == "BZh" && head[3] >= '1' && head[3] <= '9' &&
		(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90")
}

// packerOf tells how a stream is packed, by its first bytes, because media types of
// real images are wrong now and then; nil for not at all.
func packerOf(head []byte) *packer {
	for _, p := range packers {
		if p.format.is(head, "") {
			return p
		}
	}
	return nil
}

func isGzip(s source) bool { return packerOf(s.head(headSize)) == packers[0] }

func openGzip(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }

// 128 MiB is the largest window that zstd --long makes by default.
func openZstd(r io.Reader) (io.ReadCloser, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}

// The dictionary of xz -9 is 64 MiB; larger ones only stand in hostile or very special files.
func openXz(r io.Reader) (io.ReadCloser, error) {
	z, err := xz.NewReader(r, 64<<20)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(z), nil
}

func openBzip2(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }

// takeGzip cuts the header of the first member (RFC 1952, section 2.3), its data and
// the trailer; further members are part of the data.
func takeGzip(s source) *anatomy {
	t := &taking{s: s}
	b := s.head(64 << 10)
	if len(b) < 18 {
		return nil
	}
	flags := b[3]
	t.group("head", "", "")
	t.field(3, WhatGzipFlags, "magic", "")
	t.field(1, WhatGzipFlags, "flags", fmt.Sprintf("%#02x", flags))
	t.field(4, WhatGzipTime, "", stampUnix(int64(binary.LittleEndian.Uint32(b[4:]))))
	t.field(1, WhatGzipFlags, "extra flags", extraFlags(b[8]))
	t.field(1, WhatGzipOS, "", gzipOS(b[9]))
	rest := func() []byte { return b[min(t.at, int64(len(b))):] }
	text := func(what, where string) {
		i := bytes.IndexByte(rest(), 0)
		if i < 0 {
			i = len(rest()) - 1
		}
		t.field(int64(i+1), what, where, show(bytes.TrimRight(rest()[:i+1], "\x00")))
	}
	if flags&4 != 0 && len(rest()) >= 2 {
		t.field(2+int64(binary.LittleEndian.Uint16(rest())), WhatGzipFlags, "extra", "")
	}
	if flags&8 != 0 {
		text(WhatGzipName, "")
	}
	if flags&16 != 0 {
		text(WhatGzipFlags, "comment")
	}
	if flags&2 != 0 {
		t.effect(2, WhatSum, "header", "")
	}
	if t.left() < 8 {
		return nil
	}
	t.group("data", "", "")
	t.add(t.left()-8, cut{what: WhatPacked, where: "content", mode: modePacked, way: &way{method: "gzip", raw: bare(s, t.at, t.left()-8),
		unpack: func() (io.Reader, error) { return openGzip(s.reader()) }}})
	t.effect(4, WhatSum, "crc32", "")
	t.effect(4, WhatSize, "unpacked", "")
	return t.done("")
}

// bare reads the beginning of a packed stretch.
func bare(s source, off, size int64) func() ([]byte, bool) {
	return func() ([]byte, bool) {
		b, err := s.slice(off, min(size, maxTried))
		if err != nil {
			return nil, false
		}
		return b, size <= maxTried
	}
}

func extraFlags(b byte) string {
	switch b {
	case 2:
		return "2 (best)"
	case 4:
		return "4 (fastest)"
	}
	return fmt.Sprint(b)
}

func gzipOS(b byte) string {
	switch b {
	case 0:
		return "0 (FAT)"
	case 3:
		return "3 (Unix)"
	case 11:
		return "11 (NTFS)"
	case 255:
		return "255 (unknown)"
	}
	return fmt.Sprint(b)
}

// takeXz cuts the stream header (xz file format, section 2.1.1), the blocks and the footer.
func takeXz(s source) *anatomy {
	if s.size < 24 {
		return nil
	}
	t := &taking{s: s}
	b := s.head(16)
	t.group("head", "", "")
	t.field(6, WhatXzHeader, "magic", "")
	t.field(2, WhatXzHeader, "check", map[byte]string{0: "none", 1: "crc32", 4: "crc64", 10: "sha256"}[b[7]&15])
	t.effect(4, WhatSum, "header", "")
	t.group("data", "", "")
	t.add(s.size-12-12, cut{what: WhatPacked, where: "content", mode: modePacked, way: &way{method: "xz",
		unpack: func() (io.Reader, error) { return openXz(s.reader()) }}})
	t.group("footer", "", "")
	t.effect(4, WhatSum, "footer", "")
	t.effect(4, WhatXzHeader, "index size", "")
	t.field(2, WhatXzHeader, "check in footer", "")
	t.field(2, WhatXzHeader, "magic in footer", "")
	return t.done("")
}

func takeZstd(s source) *anatomy {
	t := &taking{s: s}
	t.group("head", "", "")
	t.field(4, WhatZstdHeader, "magic", "")
	t.field(1, WhatZstdHeader, "descriptor", "")
	t.group("data", "", "")
	t.add(t.left(), cut{what: WhatPacked, where: "content", mode: modePacked, way: &way{method: "zstd", raw: bare(s, 0, s.size),
		unpack: func() (io.Reader, error) { return openZstd(s.reader()) }}})
	return t.done("")
}

func takeBzip2(s source) *anatomy {
	t := &taking{s: s}
	t.group("data", "", "")
	t.add(t.left(), cut{what: WhatPacked, where: "content", mode: modePacked, way: &way{method: "bzip2",
		unpack: func() (io.Reader, error) { return openBzip2(s.reader()) }}})
	return t.done("")
}
