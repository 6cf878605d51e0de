package diff

import (
	"fmt"
	"strconv"
	"time"
)

// stamp writes a time of a header: seconds since 1970 and, in brackets, for people.
func stamp(t Time) string {
	if !t.Set {
		return ""
	}
	s := strconv.FormatInt(t.Seconds, 10)
	if t.Nanos != 0 {
		s += fmt.Sprintf(".%09d", t.Nanos)
	}
	// Years beyond 9999 have no such form; headers may claim them.
	if t.Seconds < -62135596800 || t.Seconds > 253402300799 {
		return s
	}
	return s + " (" + time.Unix(t.Seconds, 0).UTC().Format("2006-01-02 15:04:05") + ")"
}

func stampUnix(seconds int64) string { return stamp(Time{Seconds: seconds, Set: true}) }

// describe is an entry that only one side has, in a few words.
func (m *Meta) describe(size int64) string {
	s := m.Type
	if s == "" {
		s = "file"
	}
	if m.Device != "" {
		s += " " + m.Device
	}
	s += fmt.Sprintf(" %04o %d:%d", m.Mode, m.UID, m.GID)
	if m.Link != "" {
		return s + " to " + strconv.Quote(m.Link)
	}
	if s := m.Type; s == "file" || s == "" || s == "sparse file" {
		return fmt.Sprintf("%s, %d bytes", m.short(), size)
	}
	return s
}

// whole is the type of a file, which no holes are seen in.
func (m *Meta) whole() string {
	if m.Type == "sparse file" {
		return "file"
	}
	return m.Type
}

func (m *Meta) short() string {
	t := m.Type
	if t == "" {
		t = "file"
	}
	return fmt.Sprintf("%s %04o %d:%d", t, m.Mode, m.UID, m.GID)
}

// metas compares what two file systems (or a file system and an archive) say
// about an entry. The findings own no bytes.
func metas(a, b *Meta) []Finding {
	var out []Finding
	say := func(what, where, x, y string) {
		if x != y {
			out = append(out, Finding{What: what, Where: where, A: x, B: y})
		}
	}
	if x, y := a.whole(), b.whole(); x != y {
		say(WhatType, "", a.Type, b.Type)
	}
	say(WhatMode, "", fmt.Sprintf("%04o", a.Mode), fmt.Sprintf("%04o", b.Mode))
	say(WhatOwner, "", fmt.Sprintf("%d:%d", a.UID, a.GID), fmt.Sprintf("%d:%d", b.UID, b.GID))
	if a.User+a.Group != "" && b.User+b.Group != "" { // folders have no names for owners
		say(WhatUser, "", a.User+":"+a.Group, b.User+":"+b.Group)
	}
	if a.Type != "symlink" || b.Type != "symlink" || a.Format != "" && b.Format != "" {
		say(WhatModTime, "", stamp(a.ModTime), stamp(b.ModTime))
	}
	say(WhatLink, "", a.Link, b.Link)
	say(WhatDevice, "", a.Device, b.Device)
	for _, k := range keysOf(a.Xattrs, b.Xattrs) {
		x, inA := a.Xattrs[k]
		y, inB := b.Xattrs[k]
		if x != y || inA != inB {
			out = append(out, Finding{What: WhatXattr, Where: k, A: show([]byte(x)), B: show([]byte(y))})
		}
	}
	return out
}
