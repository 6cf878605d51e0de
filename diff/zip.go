package diff

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/flate"
)

func isZip(head []byte, _ string) bool {
	return bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte("PK\x05\x06"))
}

const (
	zipLocal   = 0x04034b50 // signatures of APPNOTE.TXT 6.3.10, section 4.3
	zipCentral = 0x02014b50
	zipEnd     = 0x06054b50
	zipEnd64   = 0x06064b50
	// maxZipDirectory bounds the central directory that is read: some 100 bytes for each member.
	maxZipDirectory = 32 << 20
)

// zipTaking is a zip (jar, wheel, …) while it is taken apart.
type zipTaking struct {
	scattered
	count map[string]int
}

// takeZip follows the central directory, as every reader of the format does, and
// finds the local headers through it.
func takeZip(s source) *anatomy {
	t := &zipTaking{scattered: scattered{s: s, about: map[string]about{}}, count: map[string]int{}}
	end, ok := zipFindEnd(s)
	if !ok {
		return nil
	}
	b, err := s.slice(end, 22)
	if err != nil {
		return nil
	}
	size, off := int64(binary.LittleEndian.Uint32(b[12:])), int64(binary.LittleEndian.Uint32(b[16:]))
	if off == 0xffffffff || size == 0xffffffff {
		if off, size, ok = t.end64(end); !ok {
			return nil
		}
	}
	t.end(end, b)
	// Something may stand before the archive (a launcher); offsets then count from the archive's beginning.
	base := int64(0)
	if real := end - size; off+size != end && real >= 0 && real > off {
		if sig, err := s.slice(real, 4); err == nil && binary.LittleEndian.Uint32(sig) == zipCentral {
			base = real - off
		}
	}
	if off < 0 || size < 0 || size > maxZipDirectory {
		return nil
	}
	dir, err := s.slice(off+base, size)
	if err != nil {
		return nil
	}
	for at := int64(0); len(dir)-int(at) >= 46; {
		n, ok := t.central(dir[at:], off+base+at, base)
		if !ok {
			t.issue = fmt.Sprintf("broken directory at offset %d", off+base+at)
			break
		}
		at += n
	}
	return t.done()
}

// zipFindEnd finds the last end record whose comment ends with the file.
func zipFindEnd(s source) (int64, bool) {
	n := min(s.size, 22+65535)
	b, err := s.slice(s.size-n, n)
	if err != nil {
		return 0, false
	}
	for i := len(b) - 22; i >= 0; i-- {
		if binary.LittleEndian.Uint32(b[i:]) == zipEnd && i+22+int(binary.LittleEndian.Uint16(b[i+20:])) <= len(b) {
			return s.size - n + int64(i), true
		}
	}
	return 0, false
}

func (t *zipTaking) end(off int64, b []byte) {
	key := "end"
	add := func(at, size int64, c cut) { t.add(key, "", "", off+at, size, c) }
	add(0, 8, cut{what: WhatZipVersion, where: "end of directory"})
	add(8, 4, cut{what: WhatSize, where: "members", effect: true})
	add(12, 4, cut{what: WhatSize, where: "directory", effect: true})
	add(16, 4, cut{what: WhatZipOffset, where: "directory", effect: true})
	add(20, 2, cut{what: WhatSize, where: "comment", effect: true})
	add(22, int64(binary.LittleEndian.Uint16(b[20:])), cut{what: WhatZipComment, where: "archive"})
}

// end64 reads the ZIP64 end record through its locator.
func (t *zipTaking) end64(end int64) (off, size int64, ok bool) {
	loc, err := t.s.slice(end-20, 20)
	if err != nil || binary.LittleEndian.Uint32(loc) != 0x07064b50 {
		return 0, 0, false
	}
	at := int64(binary.LittleEndian.Uint64(loc[8:]))
	b, err := t.s.slice(at, 56)
	if err != nil || binary.LittleEndian.Uint32(b) != zipEnd64 {
		return 0, 0, false
	}
	t.add("end64", "", "", at, 56, cut{what: WhatZipOffset, where: "end64", effect: true})
	t.add("locator64", "", "", end-20, 20, cut{what: WhatZipOffset, where: "locator64", effect: true})
	return int64(binary.LittleEndian.Uint64(b[48:])), int64(binary.LittleEndian.Uint64(b[40:])), true
}

// central notes one entry of the directory, and the member it points to. Both are cut up when they are compared.
func (t *zipTaking) central(b []byte, off, base int64) (int64, bool) {
	le16 := func(i int) int64 { return int64(binary.LittleEndian.Uint16(b[i:])) }
	le32 := func(i int) int64 { return int64(binary.LittleEndian.Uint32(b[i:])) }
	nameLen, extraLen, commentLen := le16(28), le16(30), le16(32)
	total := 46 + nameLen + extraLen + commentLen
	if binary.LittleEndian.Uint32(b) != zipCentral || total > int64(len(b)) {
		return 0, false
	}
	name := string(b[46 : 46+nameLen])
	t.count[name]++
	key := fmt.Sprintf("central %s %d", name, t.count[name])
	meta := &Meta{Type: "file", ModTime: dosTime(uint32(le32(12))), Format: "zip"}
	if b[5] == 3 { // made by Unix
		meta.Mode = uint32(le32(38)) >> 16 & 0o7777
	}
	t.about[key] = about{meta: meta}
	s := t.s
	t.whole(key, name, KindMember, off, total, func() []cut {
		b, err := s.slice(off, total)
		if err != nil {
			return nil
		}
		return zipCentralCuts(b, off)
	})
	packed, unpacked, local := le32(20), le32(24), le32(42)
	zipExtras(b[46+nameLen:46+nameLen+extraLen], func(id uint16, _ int, data []byte) {
		if id == 1 {
			zip64(data, &unpacked, &packed, &local)
		}
	})
	t.member(name, fmt.Sprintf("local %s %d", name, t.count[name]), base+local, packed, le16(10), le16(8), meta)
	return total, true
}

// zipCentralCuts cuts the bytes of one entry of the directory, which lie at off.
func zipCentralCuts(b []byte, off int64) []cut {
	le16 := func(i int) int64 { return int64(binary.LittleEndian.Uint16(b[i:])) }
	le32 := func(i int) int64 { return int64(binary.LittleEndian.Uint32(b[i:])) }
	nameLen, extraLen, commentLen := le16(28), le16(30), le16(32)
	attrs := uint32(le32(38))
	t := cutting{at: off}
	t.add(4, cut{what: WhatZipVersion, where: "signature"})
	t.add(2, cut{what: WhatZipVersion, where: "made by", value: fmt.Sprintf("%d.%d, system %d", b[4]/10, b[4]%10, b[5])})
	t.add(2, cut{what: WhatZipVersion, where: "needed", value: fmt.Sprint(le16(6))})
	t.add(2, cut{what: WhatZipFlags, value: fmt.Sprintf("%#04x", le16(8))})
	t.add(2, cut{what: WhatZipMethod, value: zipMethod(le16(10))})
	t.add(4, cut{what: WhatZipTime, value: stamp(dosTime(uint32(le32(12))))})
	t.add(4, cut{what: WhatSum, where: "crc32", effect: true})
	t.add(4, cut{what: WhatSize, where: "packed", value: fmt.Sprint(le32(20)), effect: true})
	t.add(4, cut{what: WhatSize, where: "unpacked", value: fmt.Sprint(le32(24)), effect: true})
	t.add(6, cut{what: WhatSize, where: "names", effect: true})
	t.add(2, cut{what: WhatZipOffset, where: "disk"})
	t.add(2, cut{what: WhatZipAttrs, where: "internal", value: fmt.Sprint(le16(36))})
	t.add(4, cut{what: WhatZipAttrs, value: fmt.Sprintf("%#08x (unix mode %04o)", attrs, attrs>>16)})
	t.add(4, cut{what: WhatZipOffset, where: "member", value: fmt.Sprint(le32(42)), effect: true})
	t.add(nameLen, cut{what: WhatName})
	t.extras(b[46+nameLen : 46+nameLen+extraLen])
	t.add(commentLen, cut{what: WhatZipComment})
	return t.cuts
}

// cutting makes cuts one behind the other.
type cutting struct {
	at   int64
	cuts []cut
}

func (t *cutting) add(size int64, c cut) {
	if size <= 0 {
		return
	}
	c.off, c.size = t.at, size
	t.at += size
	t.cuts = append(t.cuts, c)
}

// extras cuts extra fields, and what is left of their room.
func (t *cutting) extras(b []byte) {
	end := t.at + int64(len(b))
	zipExtras(b, func(id uint16, n int, data []byte) { t.add(int64(n), zipExtra(id, data)) })
	t.add(end-t.at, cut{what: WhatPadding, where: "extra fields", mode: modeBytes})
}

// zip64 replaces sizes that do not fit into 32 bits (APPNOTE 4.5.3).
func zip64(data []byte, fields ...*int64) {
	for _, f := range fields {
		if *f == 0xffffffff && len(data) >= 8 {
			*f = int64(binary.LittleEndian.Uint64(data))
			data = data[8:]
		}
	}
}

// member notes a local header and the data behind it.
func (t *zipTaking) member(name, key string, off, packed, method, flags int64, meta *Meta) {
	b, err := t.s.slice(off, 30)
	if err != nil || binary.LittleEndian.Uint32(b) != zipLocal {
		t.issue = fmt.Sprintf("no member %q at offset %d", clip(name), off)
		return
	}
	head := 30 + int64(binary.LittleEndian.Uint16(b[26:])) + int64(binary.LittleEndian.Uint16(b[28:]))
	left := t.s.size - off - head
	if left < 0 {
		t.issue = fmt.Sprintf("member %q ends within its header", clip(name))
		return
	}
	if packed > left || packed < 0 {
		t.issue = fmt.Sprintf("member %q claims %d bytes", clip(name), packed)
		packed = 0
	}
	after := int64(0)
	if flags&8 != 0 { // a data descriptor follows, with or without a signature
		after = 12
		if sig, err := t.s.slice(off+head+packed, 4); err == nil && binary.LittleEndian.Uint32(sig) == 0x08074b50 {
			after = 16
		}
		after = min(after, left-packed)
	}
	t.about[key] = about{meta: meta, loose: true}
	s := t.s
	t.whole(key, name, KindMember, off, head+packed+after, func() []cut {
		b, err := s.slice(off, head)
		if err != nil {
			return nil
		}
		return zipMemberCuts(s, b, name, off, packed, after, method)
	})
}

// zipMemberCuts cuts a member whose header has the bytes b and lies at off.
func zipMemberCuts(s source, b []byte, name string, off, packed, after, method int64) []cut {
	t := cutting{at: off}
	t.add(4, cut{what: WhatZipVersion, where: "signature"})
	t.add(2, cut{what: WhatZipVersion, where: "needed", value: fmt.Sprint(binary.LittleEndian.Uint16(b[4:]))})
	t.add(2, cut{what: WhatZipFlags, value: fmt.Sprintf("%#04x", binary.LittleEndian.Uint16(b[6:]))})
	t.add(2, cut{what: WhatZipMethod, value: zipMethod(int64(binary.LittleEndian.Uint16(b[8:])))})
	t.add(4, cut{what: WhatZipTime, value: stamp(dosTime(binary.LittleEndian.Uint32(b[10:])))})
	t.add(4, cut{what: WhatSum, where: "crc32", effect: true})
	t.add(4, cut{what: WhatSize, where: "packed", effect: true})
	t.add(4, cut{what: WhatSize, where: "unpacked", effect: true})
	t.add(4, cut{what: WhatSize, where: "names", effect: true})
	nameLen := int64(binary.LittleEndian.Uint16(b[26:]))
	t.add(nameLen, cut{what: WhatName})
	t.extras(b[30+nameLen:])
	data := s.sub(t.at, packed)
	switch method {
	case 0:
		t.add(packed, cut{what: WhatContent, mode: modeAuto, way: &way{hint: name}})
	case 8:
		t.add(packed, cut{what: WhatPacked, mode: modePacked, way: &way{hint: name, method: "deflate", raw: bare(data, 0, packed),
			unpack: func() (io.Reader, error) { return flate.NewReader(data.reader()), nil }}})
	default:
		t.add(packed, cut{what: WhatContent, mode: modeBytes})
	}
	t.add(after, cut{what: WhatSum, where: "descriptor", effect: true})
	return t.cuts
}

func zipMethod(m int64) string {
	switch m {
	case 0:
		return "stored"
	case 8:
		return "deflated"
	}
	return fmt.Sprintf("method %d", m)
}

// zipExtras goes through extra fields; n counts their headers too. What is none is left to the padding.
func zipExtras(b []byte, visit func(id uint16, n int, data []byte)) {
	for len(b) >= 4 {
		n := 4 + int(binary.LittleEndian.Uint16(b[2:]))
		if n > len(b) {
			return
		}
		visit(binary.LittleEndian.Uint16(b), n, b[4:n])
		b = b[n:]
	}
}

func zipExtra(id uint16, data []byte) cut {
	c := cut{what: WhatZipExtra, where: fmt.Sprintf("%04x", id), effect: id == 1}
	if id == 0x5455 && len(data) >= 5 { // "UT": flags and modification time
		c.value = stampUnix(int64(int32(binary.LittleEndian.Uint32(data[1:]))))
	}
	return c
}

// dosTime reads a date and time of MS-DOS: time in the low half, two seconds fine.
func dosTime(v uint32) Time {
	d, t := v>>16, v&0xffff
	when := time.Date(int(d>>9)+1980, time.Month(d>>5&15), int(d&31), int(t>>11), int(t>>5&63), int(t&31)*2, 0, time.UTC)
	return Time{Seconds: when.Unix(), Set: true}
}
