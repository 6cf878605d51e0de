package cause

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"quorate.dev/diff"
)

// pycFile claims compiled Python files that hold equal objects and differ only in
// which of them marshal marked as shared. The mark (FLAG_REF, 0x80) is set when
// something else held the object while it was written; it also shifts the numbers of later references.
func (s *search) pycFile(n *diff.Node) {
	var own []leftover
	for i := range n.Findings {
		if f := &n.Findings[i]; !f.Effect && !f.Outer && is(f, diff.WhatPycRef, diff.WhatPycValue, diff.WhatBytes) {
			own = append(own, leftover{n, f})
		}
	}
	if len(own) == 0 {
		return
	}
	a, err1 := n.Bytes(diff.A, maxPyc)
	b, err2 := n.Bytes(diff.B, maxPyc)
	if err1 != nil || err2 != nil || len(a) < 16 || len(b) < 16 {
		return
	}
	x, err1 := plainMarshal(a[16:], magicOf(a))
	y, err2 := plainMarshal(b[16:], magicOf(b))
	if err1 != nil || err2 != nil || x != y {
		return
	}
	for i, l := range own {
		if i == 0 {
			s.take(l, claim{entry: "26-pyc-refs", a: l.finding.A, b: l.finding.B, where: "marshal", confidence: 1, fact: "equal objects; only marks of sharing (FLAG_REF, 0x80) and numbers of references differ"})
			continue
		}
		s.handled[l.finding] = true
		s.claim(l.node, l.finding)
	}
}

const (
	maxPyc     = 16 << 20 // the largest module of the standard library compiles to under a megabyte
	maxMarshal = 500      // levels, as marshal.c's own limit is 2000 and code nests far less
	maxPlain   = 64 << 20 // bytes of the plain form; references may repeat large objects
)

var errMarshal = errors.New("no marshal data")

// marshalReader writes marshal data (Python 3.8 and later, marshal.c) in a plain form: no marks, references replaced by what they name.
type marshalReader struct {
	b    []byte
	at   int
	refs []string
	size int
	form string // of code objects
}

func plainMarshal(b []byte, magic int) (string, error) {
	r := &marshalReader{b: b, form: code38}
	if magic >= 3450 {
		r.form = code311
	}
	s, err := r.object(0)
	if err == nil && r.at != len(b) {
		err = errMarshal
	}
	return s, err
}

func (r *marshalReader) take(n int) ([]byte, error) {
	if n < 0 || n > len(r.b)-r.at {
		return nil, errMarshal
	}
	b := r.b[r.at : r.at+n]
	r.at += n
	return b, nil
}

func (r *marshalReader) long() (int, error) {
	b, err := r.take(4)
	if err != nil {
		return 0, err
	}
	return int(int32(binary.LittleEndian.Uint32(b))), nil
}

// What a code object holds, in order: l a number, o an object (marshal.c, r_object, TYPE_CODE).
const (
	code311 = "lllll" + "oooooooo" + "l" + "oo" // since Python 3.11
	code38  = "llllll" + "oooooooo" + "l" + "o" // 3.8 to 3.10
)

// magicOf is the interpreter's number in a header; Python 3.11's first was 3450.
func magicOf(b []byte) int { return int(binary.LittleEndian.Uint16(b)) }

func (r *marshalReader) object(depth int) (string, error) {
	t, err := r.take(1)
	if err != nil || depth > maxMarshal {
		return "", errMarshal
	}
	kind, flag := t[0]&0x7f, t[0]&0x80 != 0
	slot := -1
	if flag {
		slot = len(r.refs)
		r.refs = append(r.refs, "<self>")
	}
	s, err := r.body(kind, depth)
	if err != nil {
		return "", err
	}
	if r.size += len(s); r.size > maxPlain {
		return "", errMarshal
	}
	if slot >= 0 {
		r.refs[slot] = s
	}
	return s, nil
}

func (r *marshalReader) body(kind byte, depth int) (string, error) {
	fixed := map[byte]int{'i': 4, 'g': 8, 'y': 16, 'I': 8}
	switch kind {
	case 'N', 'F', 'T', 'S', '.', '0':
		return string(kind), nil
	case 'i', 'g', 'y', 'I':
		b, err := r.take(fixed[kind])
		return fmt.Sprintf("%c%x", kind, b), err
	case 'l':
		n, err := r.long()
		if err != nil {
			return "", err
		}
		b, err := r.take(2 * max(n, -n))
		return fmt.Sprintf("l%d:%x", n, b), err
	case 's', 'a', 'A', 't', 'u':
		n, err := r.long()
		if err != nil {
			return "", err
		}
		return r.text(kind, n)
	case 'z', 'Z':
		n, err := r.take(1)
		if err != nil {
			return "", err
		}
		return r.text(kind, int(n[0]))
	case ')':
		n, err := r.take(1)
		if err != nil {
			return "", err
		}
		return r.items('(', int(n[0]), depth)
	case '(', '[', '<', '>':
		n, err := r.long()
		if err != nil {
			return "", err
		}
		return r.items(kind, n, depth)
	case '{':
		return r.items(kind, -1, depth)
	case 'r':
		n, err := r.long()
		if err != nil || n < 0 || n >= len(r.refs) {
			return "", errMarshal
		}
		return r.refs[n], nil
	case 'c':
		return r.code(depth)
	}
	return "", errMarshal
}

// text is a string; whether it is interned is one more mark of the process that wrote it.
func (r *marshalReader) text(kind byte, n int) (string, error) {
	b, err := r.take(n)
	if kind == 's' {
		return fmt.Sprintf("s%q", b), err
	}
	return fmt.Sprintf("u%q", b), err
}

func (r *marshalReader) items(kind byte, n, depth int) (string, error) {
	if n > len(r.b)-r.at {
		return "", errMarshal
	}
	var out strings.Builder
	out.WriteByte(kind)
	for i := 0; i != n; i++ {
		s, err := r.object(depth + 1)
		if err != nil {
			return "", err
		}
		out.WriteString(s)
		out.WriteByte(',')
		if n < 0 && s == "0" { // a dictionary ends with NULL
			break
		}
		if r.size+out.Len() > maxPlain {
			return "", errMarshal
		}
	}
	return out.String(), nil
}

func (r *marshalReader) code(depth int) (string, error) {
	var out strings.Builder
	out.WriteString("code(")
	for _, f := range r.form {
		if f == 'l' {
			n, err := r.long()
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&out, "%d,", n)
			continue
		}
		s, err := r.object(depth + 1)
		if err != nil {
			return "", err
		}
		out.WriteString(s)
		out.WriteByte(',')
	}
	out.WriteByte(')')
	return out.String(), nil
}
