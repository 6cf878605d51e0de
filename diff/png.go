package diff

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// takePng cuts a PNG into its chunks: length, type, data, checksum.
func takePng(s source) *anatomy {
	t := &taking{s: s}
	t.group("magic", "", "")
	t.field(8, WhatPngChunk, "signature", "")
	count := map[string]int{}
	for t.left() >= 12 && !t.full() {
		h := t.peek(8)
		size, kind := int64(binary.BigEndian.Uint32(h)), string(h[4:8])
		if size > t.left()-12 {
			return t.done(fmt.Sprintf("chunk %q claims %d bytes", kind, size))
		}
		data, _ := s.slice(t.at+8, min(size, 200))
		where := kind
		switch kind {
		case "tEXt", "zTXt", "iTXt":
			if k, _, ok := bytes.Cut(data, []byte{0}); ok {
				where += " " + show(k)
			}
		}
		count[where]++
		t.group(fmt.Sprintf("%s %d", where, count[where]), "", "")
		id := fmt.Sprintf(" %d", count[where])
		t.add(4, cut{what: WhatSize, where: where, key: "size" + id, effect: true})
		t.add(4, cut{what: WhatPngChunk, where: where + " type", key: "type" + id})
		c := cut{what: WhatPngChunk, where: where, key: "data" + id, value: pngValue(kind, data)}
		if size > 4096 {
			c.mode = modeBytes
		}
		t.add(size, c)
		t.add(4, cut{what: WhatSum, where: where, key: "sum" + id, effect: true})
		if kind == "IEND" {
			break
		}
	}
	return t.done("")
}

func pngValue(kind string, data []byte) string {
	switch {
	case kind == "tIME" && len(data) == 7:
		return fmt.Sprintf("%04d-%02d-%02d %02d:%02d:%02d", binary.BigEndian.Uint16(data), data[2], data[3], data[4], data[5], data[6])
	case kind == "tEXt":
		_, v, _ := bytes.Cut(data, []byte{0})
		return show(v)
	}
	return ""
}
