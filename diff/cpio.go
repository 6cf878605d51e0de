package diff

import (
	"fmt"
	"strconv"
	"strings"
)

func isCpio(head []byte, _ string) bool {
	return len(head) >= 76 && (strings.HasPrefix(string(head[:6]), "07070"))
}

// cpioFields are the fields of the two text forms of cpio headers, as the kernel's
// buffer-format.rst and POSIX.1-1988 (odc) have them, behind the magic number.
var cpioFields = map[string][]struct {
	size int64
	what string
	name string
}{
	"newc": {{8, WhatCpioHeader, "inode"}, {8, WhatMode, ""}, {8, WhatOwner, "uid"}, {8, WhatOwner, "gid"}, {8, WhatCpioHeader, "nlink"},
		{8, WhatModTime, ""}, {8, WhatSize, ""}, {8, WhatDevice, "fs major"}, {8, WhatDevice, "fs minor"}, {8, WhatDevice, "major"}, {8, WhatDevice, "minor"},
		{8, WhatSize, "name"}, {8, WhatSum, ""}},
	"odc": {{6, WhatDevice, "fs"}, {6, WhatCpioHeader, "inode"}, {6, WhatMode, ""}, {6, WhatOwner, "uid"}, {6, WhatOwner, "gid"}, {6, WhatCpioHeader, "nlink"},
		{6, WhatDevice, ""}, {11, WhatModTime, ""}, {6, WhatSize, "name"}, {11, WhatSize, ""}},
}

// takeCpio reads cpio archives (initramfs, rpm payloads): header, name, contents,
// padded to four bytes in the new form.
func takeCpio(s source) *anatomy {
	t := &taking{s: s}
	for t.left() >= 76 && !t.full() {
		form, base, pad := "newc", 16, int64(4)
		switch string(t.peek(6)) {
		case "070701", "070702":
		case "070707":
			form, base, pad = "odc", 8, 1
		default:
			return t.done("")
		}
		start := t.at
		values := map[string]int64{}
		at := start + 6
		for _, f := range cpioFields[form] {
			b, err := s.slice(at, f.size)
			if err != nil {
				return t.done("ends within a header")
			}
			n, err := strconv.ParseInt(string(b), base, 64)
			if err != nil {
				return t.done(fmt.Sprintf("broken header at offset %d", start))
			}
			values[f.what+f.name] = n
			at += f.size
		}
		nameLen, size := values[WhatSize+"name"], values[WhatSize]
		if nameLen <= 0 || nameLen > 4096 || size > s.size-at-nameLen {
			return t.done(fmt.Sprintf("broken header at offset %d", start))
		}
		raw, _ := s.slice(at, nameLen)
		name := strings.TrimRight(string(raw), "\x00")
		t.cpioMember(form, name, values)
		t.field(nameLen, WhatName, "", name)
		t.align(pad)
		t.add(size, cut{what: WhatContent, mode: modeAuto, way: &way{hint: name}})
		t.align(pad)
		if name == "TRAILER!!!" {
			return t.done("")
		}
	}
	return t.done("")
}

func (t *taking) cpioMember(form, name string, v map[string]int64) {
	g := t.group("member "+name, name, KindMember)
	g.meta = &Meta{Type: "file", Mode: uint32(v[WhatMode] & 0o7777), UID: v[WhatOwner+"uid"], GID: v[WhatOwner+"gid"],
		ModTime: Time{Seconds: v[WhatModTime], Set: true}, Format: "cpio " + form}
	g.loose = true
	t.field(6, WhatCpioHeader, "magic", "")
	for _, f := range cpioFields[form] {
		n := v[f.what+f.name]
		value := strconv.FormatInt(n, 10)
		switch f.what {
		case WhatMode:
			value = strconv.FormatInt(n, 8)
		case WhatModTime:
			value = stampUnix(n)
		}
		t.add(f.size, cut{what: f.what, where: f.name, value: value, effect: f.what == WhatSize || f.what == WhatSum})
	}
}

// align adds padding up to a multiple of n, counted from the file's beginning.
func (t *taking) align(n int64) { t.add(-t.at&(n-1), cut{what: WhatPadding, effect: true}) }
