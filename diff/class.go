package diff

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// takeClass cuts a Java class file (JVM specification, chapter 4): version, constant
// pool, and the rest, which is numbers of constants and code.
func takeClass(s source) *anatomy {
	b, err := s.slice(0, min(s.size, 4<<20))
	if err != nil || len(b) < 10 {
		return nil
	}
	t := &taking{s: s}
	t.field(4, WhatClass, "magic", "")
	t.field(2, WhatClass, "minor", fmt.Sprint(binary.BigEndian.Uint16(b[4:])))
	t.field(2, WhatClass, "major", fmt.Sprint(binary.BigEndian.Uint16(b[6:])))
	count := int(binary.BigEndian.Uint16(b[8:]))
	t.effect(2, WhatClassConst, "count", fmt.Sprint(count))
	ends := classConstants(b[10:], count-1)
	if ends == nil {
		return nil
	}
	size := 0
	if len(ends) > 0 {
		size = ends[len(ends)-1]
	}
	t.add(int64(size), cut{what: WhatClassConst, where: "pool", mode: modeStrings, way: &way{split: func(b []byte) []int { return classConstants(b, 1<<16) }, say: classText}})
	t.add(t.left(), cut{what: WhatBytes, where: "code", mode: modeBytes})
	return t.done("")
}

// classConstants are the offsets behind each of at most n constants, all of them when there are that
// many slots; nil when one is broken.
func classConstants(b []byte, n int) []int {
	ends := []int{}
	for at := 0; n > 0 && at < len(b); n-- {
		size := 0
		switch b[at] {
		case 1:
			if at+3 > len(b) {
				return nil
			}
			size = 3 + int(binary.BigEndian.Uint16(b[at+1:]))
		case 3, 4, 9, 10, 11, 12, 17, 18:
			size = 5
		case 5, 6:
			size = 9
			n-- // they take two numbers
		case 7, 8, 16, 19, 20:
			size = 3
		case 15:
			size = 4
		default:
			return nil
		}
		if at += size; at > len(b) {
			return nil
		}
		ends = append(ends, at)
	}
	return ends
}

// classText shows constants: strings as they are, others in hexadecimal.
func classText(b []byte) string {
	var out []string
	from := 0
	for _, end := range classConstants(b, 1<<16) {
		if c := b[from:end]; c[0] == 1 {
			out = append(out, show(c[3:]))
		} else {
			out = append(out, hexOf(c))
		}
		if from = end; len(out) == 64 { // some screens
			break
		}
	}
	return clip(strings.Join(out, "\n"))
}
