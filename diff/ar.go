package diff

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// takeAr reads Unix ar archives (static libraries, .deb) in the GNU and BSD forms:
// a header of 60 bytes of text before each member, members at even offsets.
func takeAr(s source) *anatomy {
	t := &taking{s: s}
	t.group("magic", "", "")
	t.field(8, WhatArHeader, "magic", "")
	var long []byte // GNU's table of long names
	for t.left() >= 60 && !t.full() {
		h := t.peek(60)
		size, err := strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
		if err != nil || size < 0 || size > t.left()-60 || string(h[58:60]) != "`\n" {
			return t.done(fmt.Sprintf("broken member header at offset %d", t.at))
		}
		start := t.at
		name := strings.TrimRight(string(h[:16]), " ")
		inName := int64(0) // bytes of the contents that are BSD's name
		switch {
		case strings.HasPrefix(name, "#1/"):
			if n, err := strconv.ParseInt(name[3:], 10, 64); err == nil && n <= min(size, 4096) && n >= 0 {
				b, _ := s.slice(start+60, n)
				inName, name = n, strings.TrimRight(string(b), "\x00")
			}
		case name == "/" || name == "//" || name == "/SYM64/":
		case strings.HasPrefix(name, "/"):
			if off, err := strconv.Atoi(name[1:]); err == nil && off >= 0 && off < len(long) {
				name, _, _ = strings.Cut(string(long[off:]), "\n")
				name = strings.TrimSuffix(name, "/")
			}
		default:
			name = strings.TrimSuffix(name, "/")
		}
		g := t.group("member "+name, name, KindMember)
		g.meta = arMeta(h)
		g.loose = true
		table := name == "/" || name == "/SYM64/" || strings.HasPrefix(name, "__.SYMDEF")
		t.arHeader(h)
		t.add(inName, cut{what: WhatName, where: "long"})
		switch {
		case table:
			t.add(size-inName, cut{what: WhatArSymbols, mode: modeBytes, effect: true})
		case name == "//":
			long, _ = s.slice(t.at, min(size, 1<<20))
			t.add(size, cut{what: WhatName, where: "long names", mode: modeText, effect: true})
		default:
			t.add(size-inName, cut{what: WhatContent, mode: modeAuto, way: &way{hint: name}})
		}
		if (start+60+size)%2 == 1 {
			t.add(1, cut{what: WhatPadding, effect: true})
		}
	}
	return t.done("")
}

func (t *taking) arHeader(h []byte) {
	t.field(16, WhatName, "", strings.TrimRight(string(h[:16]), " "))
	t.field(12, WhatModTime, "", arTime(h[16:28]))
	t.field(6, WhatOwner, "uid", strings.TrimSpace(string(h[28:34])))
	t.field(6, WhatOwner, "gid", strings.TrimSpace(string(h[34:40])))
	t.field(8, WhatMode, "", strings.TrimSpace(string(h[40:48])))
	t.effect(10, WhatSize, "", strings.TrimSpace(string(h[48:58])))
	t.field(2, WhatArHeader, "end", "")
}

func arTime(b []byte) string {
	s := strings.TrimSpace(string(b))
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return stampUnix(n)
	}
	return show([]byte(s))
}

func arMeta(h []byte) *Meta {
	number := func(b []byte, base int) int64 {
		n, _ := strconv.ParseInt(string(bytes.TrimSpace(b)), base, 64)
		return n
	}
	return &Meta{Type: "file", ModTime: Time{Seconds: number(h[16:28], 10), Set: true}, UID: number(h[28:34], 10), GID: number(h[34:40], 10),
		Mode: uint32(number(h[40:48], 8) & 0o7777), Format: "ar"}
}
