package diff

import (
	"encoding/binary"
	"fmt"
)

func isMo(head []byte, _ string) bool {
	return len(head) >= 28 && (binary.LittleEndian.Uint32(head) == 0x950412de || binary.BigEndian.Uint32(head) == 0x950412de)
}

// maxMo bounds the messages of one catalogue; the largest public ones have some 30,000.
const maxMo = 100_000

// takeMo cuts a gettext catalogue (GNU gettext manual, "The Format of GNU MO Files"):
// header, two tables of lengths and offsets, a hash table, and the strings.
func takeMo(s source) *anatomy {
	var order binary.ByteOrder = binary.LittleEndian
	b := s.head(28)
	if binary.BigEndian.Uint32(b) == 0x950412de {
		order = binary.BigEndian
	}
	word := func(i int) int64 { return int64(order.Uint32(b[4*i:])) }
	count, ids, texts, hashes, hashOff := word(2), word(3), word(4), word(5), word(6)
	if count > maxMo || hashes > 4*maxMo {
		return nil
	}
	t := &scattered{s: s}
	t.add("head", "", "", 0, 8, cut{what: WhatMoHeader, where: "magic and revision"})
	t.add("head", "", "", 8, 4, cut{what: WhatMoHeader, where: "messages", value: fmt.Sprint(count), effect: true})
	t.add("head", "", "", 12, 16, cut{what: WhatMoHeader, where: "offsets", effect: true})
	t.add("tables", "", "", ids, 8*count, cut{what: WhatMoHeader, where: "table of messages", effect: true})
	t.add("tables", "", "", texts, 8*count, cut{what: WhatMoHeader, where: "table of translations", effect: true})
	t.add("tables", "", "", hashOff, 4*hashes, cut{what: WhatMoHeader, where: "hash table", effect: true})
	for i := range count {
		a, err := s.slice(ids+8*i, 8)
		if err != nil {
			return nil
		}
		c, err := s.slice(texts+8*i, 8)
		if err != nil {
			return nil
		}
		size, off := int64(order.Uint32(a)), int64(order.Uint32(a[4:]))
		id, err := s.slice(off, min(size, maxValue))
		if err != nil {
			return nil
		}
		where := show(id)
		t.add("ids", "", "", off, size+1, cut{what: WhatMoMessage, where: where, key: "id " + string(id)})
		size, off = int64(order.Uint32(c)), int64(order.Uint32(c[4:]))
		text, _ := s.slice(off, min(size, maxValue))
		k := cut{what: WhatMoMessage, where: where, key: "text " + string(id), value: show(text)}
		if len(id) == 0 {
			k = cut{what: WhatMoHeader, where: "header", key: "header", mode: modeText}
		}
		t.add("texts", "", "", off, size+1, k)
	}
	x := t.done()
	x.after = func(_ *comparer, n *Node, _ *anatomy) {
		for i := range n.Findings {
			if f := &n.Findings[i]; f.What == WhatText {
				f.What = WhatMoHeader
			}
		}
	}
	return x
}
