package diff

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

const (
	// maxJSONDepth bounds the nesting of a document; image configurations nest five deep, source maps some more.
	maxJSONDepth = 200
	// maxJSON bounds the documents that are taken apart; larger ones are compared as text.
	maxJSON = 8 << 20
	// maxJSONPaths bounds the bytes of all paths: deep documents with long keys have more of them than of bytes.
	maxJSONPaths = 32 << 20
)

func isJSON(head []byte, _ string) bool {
	for _, c := range head {
		switch c {
		case ' ', '\t', '\n', '\r':
		case '{', '[':
			return isText(head)
		default:
			return false
		}
	}
	return false
}

// takeJSON cuts a document into its leaves, by path, and what stands between
// them. What is not JSON gives nil.
func takeJSON(s source) *anatomy {
	if s.size > maxJSON {
		return nil
	}
	b, err := s.load()
	if err != nil || !utf8.Valid(b) {
		return nil
	}
	t := &taking{s: s}
	t.group("", "", "")
	r := jsonReader{b: b, t: t}
	if r.blank(); !r.value("", 0) {
		return nil
	}
	if r.blank(); r.at != len(b) || t.full() {
		return nil
	}
	r.flush(len(b), "end")
	a := t.done("")
	return a
}

type jsonReader struct {
	b  []byte
	at int
	t  *taking

	paths int
}

// flush makes what lies before end, and is no leaf, a cut that goes with the next leaf.
func (r *jsonReader) flush(end int, path string) {
	r.t.add(int64(end)-r.t.at, cut{what: WhatSpacing, where: path, effect: true})
}

func (r *jsonReader) blank() {
	for r.at < len(r.b) && (r.b[r.at] == ' ' || r.b[r.at] == '\n' || r.b[r.at] == '\t' || r.b[r.at] == '\r') {
		r.at++
	}
}

func (r *jsonReader) leaf(from int, path string) {
	r.flush(from, path)
	r.t.add(int64(r.at-from), cut{what: WhatValue, where: path, way: &jsonLeaf})
}

// jsonLeaf says what a leaf means, when it differs: most do not.
var jsonLeaf = way{say: func(b []byte) string {
	var v string
	if b[0] != '"' || json.Unmarshal(b, &v) != nil {
		return string(b)
	}
	if v == "" {
		return `""`
	}
	return clip(v)
}}

func (r *jsonReader) value(path string, depth int) bool {
	if depth > maxJSONDepth || r.at >= len(r.b) || r.t.full() {
		return false
	}
	from := r.at
	switch c := r.b[r.at]; c {
	case '{':
		return r.list(path, depth, '}', true)
	case '[':
		return r.list(path, depth, ']', false)
	case '"':
		if _, ok := r.str(); !ok {
			return false
		}
		r.leaf(from, path)
		return true
	}
	for r.at < len(r.b) {
		c := r.b[r.at]
		if c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != 'E' {
			break
		}
		r.at++
	}
	if !json.Valid(r.b[from:r.at]) {
		return false
	}
	r.leaf(from, path)
	return true
}

func (r *jsonReader) list(path string, depth int, end byte, object bool) bool {
	from := r.at
	r.at++
	for i := 0; ; i++ {
		r.blank()
		if r.at >= len(r.b) {
			return false
		}
		if r.b[r.at] == end {
			if i == 0 {
				r.at++
				r.leaf(from, path)
				return true
			}
			r.at++
			return true
		}
		if i > 0 {
			if r.b[r.at] != ',' {
				return false
			}
			r.at++
			r.blank()
		}
		sub := path + "[" + strconv.Itoa(i) + "]"
		if object {
			k, ok := r.str()
			if !ok {
				return false
			}
			if r.blank(); r.at >= len(r.b) || r.b[r.at] != ':' {
				return false
			}
			r.at++
			r.blank()
			if sub = k; path != "" {
				sub = path + "." + k
			}
		}
		if r.paths += len(sub); len(sub) > maxValue || r.paths > maxJSONPaths || !r.value(sub, depth+1) {
			return false
		}
		r.blank()
		if r.at < len(r.b) && r.b[r.at] == end {
			r.at++
			return true
		}
	}
}

// str reads a string and returns what it means.
func (r *jsonReader) str() (string, bool) {
	if r.at >= len(r.b) || r.b[r.at] != '"' {
		return "", false
	}
	from := r.at
	for r.at++; r.at < len(r.b); r.at++ {
		switch c := r.b[r.at]; {
		case c == '\\':
			r.at++
		case c == '"':
			r.at++
			var v string
			err := json.Unmarshal(r.b[from:r.at], &v)
			return v, err == nil
		case c < ' ':
			return "", false
		}
	}
	return "", false
}
