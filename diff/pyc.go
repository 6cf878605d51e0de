package diff

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// isPyc knows CPython's magic: a number that grows with each version, then "\r\n". The
// second half of the header's flags is zero in all versions that have flags (PEP 552).
func isPyc(head []byte, name string) bool {
	return len(head) > 16 && head[2] == '\r' && head[3] == '\n' && (strings.HasSuffix(name, ".pyc") || head[4] < 4 && head[5]|head[6]|head[7] == 0 && head[16]&0x7f == 'c')
}

// takePyc cuts the header of 3.7 and later (PEP 552); older ones differ in where the time stands.
func takePyc(s source) *anatomy {
	b := s.head(16)
	if len(b) < 16 {
		return nil
	}
	t := &taking{s: s}
	magic := binary.LittleEndian.Uint16(b)
	t.field(4, WhatPycMagic, "", fmt.Sprint(magic))
	// 3390 is the first magic number of 3.7; those of Python 2 lie above 20000.
	if magic < 3390 || magic > 20000 {
		t.field(4, WhatPycTime, "", stampUnix(int64(binary.LittleEndian.Uint32(b[4:]))))
		if magic >= 3200 && magic <= 20000 {
			t.field(4, WhatPycSize, "", fmt.Sprint(binary.LittleEndian.Uint32(b[8:])))
		}
	} else {
		flags := binary.LittleEndian.Uint32(b[4:])
		t.field(4, WhatPycFlags, "", map[uint32]string{0: "timestamp", 1: "unchecked hash", 3: "checked hash"}[flags])
		if flags&1 == 0 {
			t.field(4, WhatPycTime, "", stampUnix(int64(binary.LittleEndian.Uint32(b[8:]))))
			t.field(4, WhatPycSize, "", fmt.Sprint(binary.LittleEndian.Uint32(b[12:])))
		} else {
			t.field(8, WhatPycHash, "", hexPlain(b[8:16]))
		}
	}
	body := t.at
	t.add(t.left(), cut{what: WhatPycValue, mode: modeBytes})
	a := t.done("")
	a.data = body
	a.after = func(c *comparer, n *Node, other *anatomy) {
		from, ok := other.data.(int64)
		if !ok || !onlyRefs(n, body, from) {
			return
		}
		for i := range n.Findings {
			if n.Findings[i].What == WhatPycValue {
				n.Findings[i].What = WhatPycRef
			}
		}
	}
	return a
}

// onlyRefs reports whether two bodies differ in nothing but FLAG_REF, the high bit of
// a marshal type byte, which depends on reference counts at the time of writing.
func onlyRefs(n *Node, fromA, fromB int64) bool {
	if n.A.Size-fromA != n.B.Size-fromB || n.A.Size-fromA > maxLoad {
		return false
	}
	a, err := n.A.src.slice(fromA, n.A.Size-fromA)
	if err != nil {
		return false
	}
	b, err := n.B.src.slice(fromB, n.B.Size-fromB)
	if err != nil {
		return false
	}
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 && x != 0x80 {
			return false
		}
	}
	return true
}
