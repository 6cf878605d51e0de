package diff

import (
	"bytes"
	"strconv"
	"strings"
)

// maxProperties bounds the files of Java properties that are taken apart, as maxJSON does for documents.
const maxProperties = 4 << 20

func isProperties(head []byte, name string) bool {
	return strings.HasSuffix(name, ".properties") && textual(head)
}

// takeProperties cuts a file of Java properties (java.util.Properties, load) into comments and, for
// each property, its key, its value and the end of its line. Lines may go on behind a backslash.
func takeProperties(s source) *anatomy {
	if s.size > maxProperties {
		return nil
	}
	b, err := s.load()
	if err != nil {
		return nil
	}
	t := &taking{s: s}
	t.group("", "", "")
	for t.left() > 0 && !t.full() {
		line := b[t.at:]
		line = line[:lineLength(line)]
		if text := bytes.TrimLeft(line, " \t\f"); len(bytes.TrimSpace(text)) == 0 {
			t.add(int64(len(line)), cut{what: WhatSpacing, where: "blank line", effect: true})
			continue
		} else if text[0] == '#' || text[0] == '!' {
			for rest := b[t.at+int64(len(line)):]; commentLine(rest); rest = b[t.at+int64(len(line)):] {
				line = line[:len(line)+lineLength(rest)]
			}
			t.add(int64(len(line)), cut{what: WhatText, where: "comment", mode: modeText})
			continue
		}
		for rest := b[t.at+int64(len(line)):]; goesOn(line) && len(rest) > 0; rest = b[t.at+int64(len(line)):] {
			line = line[:len(line)+lineLength(rest)]
		}
		end := len(bytes.TrimRight(line, "\r\n"))
		key, value := propertyParts(line[:end])
		name := clip(unescaped(line[:key]))
		t.add(int64(value), cut{what: WhatSpacing, where: name, effect: true})
		t.add(int64(end-value), cut{what: WhatValue, where: name, way: &propertyValue})
		t.add(int64(len(line)-end), cut{what: WhatSpacing, where: name, key: "end of " + name, effect: true})
	}
	if t.cuts == 0 {
		return nil
	}
	return t.done("")
}

var propertyValue = way{say: func(b []byte) string { return clip(unescaped(b)) }}

func commentLine(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\f")
	return len(b) > 0 && (b[0] == '#' || b[0] == '!')
}

// goesOn reports whether a line ends with an odd number of backslashes.
func goesOn(line []byte) bool {
	text := bytes.TrimRight(line, "\r\n")
	n := len(text) - len(bytes.TrimRight(text, "\\"))
	return n%2 == 1 && len(text) < len(line)
}

// propertyParts finds where the key ends and where the value begins.
func propertyParts(line []byte) (key, value int) {
	at := len(line) - len(bytes.TrimLeft(line, " \t\f"))
	for ; at < len(line); at++ {
		if line[at] == '\\' {
			at++
		} else if bytes.IndexByte([]byte(" \t\f=:"), line[at]) >= 0 {
			break
		}
	}
	key = min(at, len(line))
	sign := false
	for at = key; at < len(line); at++ {
		switch c := line[at]; {
		case c == ' ' || c == '\t' || c == '\f':
		case !sign && (c == '=' || c == ':'):
			sign = true
		default:
			return key, at
		}
	}
	return key, len(line)
}

// unescaped is what a key or value means.
func unescaped(b []byte) string {
	var s strings.Builder
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			s.WriteByte(b[i])
			continue
		}
		i++
		switch c := b[i]; c {
		case 't':
			s.WriteByte('\t')
		case 'n':
			s.WriteByte('\n')
		case 'r', 'f':
			s.WriteByte(' ')
		case '\r', '\n': // the next line's beginning does not count
			for i+1 < len(b) && bytes.IndexByte([]byte(" \t\f\r\n"), b[i+1]) >= 0 {
				i++
			}
		case 'u':
			if n, err := strconv.ParseUint(string(b[i+1:min(i+5, len(b))]), 16, 16); err == nil && i+4 < len(b) {
				s.WriteRune(rune(n))
				i += 4
				continue
			}
			fallthrough
		default:
			s.WriteByte(c)
		}
	}
	return strings.TrimLeft(s.String(), " \t\f")
}
