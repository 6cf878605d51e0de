package diff

import (
	"bytes"
	"errors"
	"io"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxYAML bounds the documents that are taken apart: some 200 bytes of memory for each value. Larger
// ones are compared as text.
const maxYAML = 1 << 20

func isYAML(head []byte, name string) bool {
	return (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")) && textual(head)
}

// takeYAML cuts documents into their values, by path of keys, comments, and what stands between. What is
// not YAML, or holds a value alone, gives nil and is compared as text.
func takeYAML(s source) *anatomy {
	if s.size > maxYAML {
		return nil
	}
	b, err := s.load()
	if err != nil || !utf8.Valid(b) || oddBreaks(b) {
		return nil
	}
	r := &yamlReader{b: b, starts: lineStarts(b)}
	d := yaml.NewDecoder(bytes.NewReader(b))
	for i := 0; ; i++ {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(doc.Content) != 1 {
			return nil
		}
		prefix := ""
		if i > 0 {
			prefix = "document " + strconv.Itoa(i+1) + ": "
		}
		if r.walk(doc.Content[0], prefix, 0); r.broken {
			return nil
		}
	}
	if len(r.marks) < 2 { // one scalar is any text
		return nil
	}
	return r.cuts(s)
}

// oddBreaks reports line breaks that YAML 1.1 knows and few others do: lines would be counted differently.
func oddBreaks(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\ufeff")) || bytes.Contains(b, []byte("\u0085")) || bytes.Contains(b, []byte("\u2028")) ||
		bytes.Contains(b, []byte("\u2029")) || bytes.Count(b, []byte{'\r'}) != bytes.Count(b, []byte("\r\n"))
}

// lineStarts are the offsets at which lines begin.
func lineStarts(b []byte) []int {
	starts := []int{0}
	for i, c := range b {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

type yamlReader struct {
	b      []byte
	starts []int
	marks  []yamlMark
	paths  int
	broken bool
}

// yamlMark is where a key or a value begins.
type yamlMark struct {
	at   int
	path string
	node *yaml.Node // nil for a key
}

// walk marks all scalars below a node.
func (r *yamlReader) walk(n *yaml.Node, path string, depth int) {
	if depth > maxJSONDepth || len(r.marks) > maxCuts/4 {
		r.broken = true
	}
	if r.paths += len(path); r.paths > maxJSONPaths || len(path) > maxValue {
		r.broken = true
	}
	if r.broken {
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind == yaml.ScalarNode {
				r.mark(key, path, true)
			}
			sub := key.Value
			if path != "" && !strings.HasSuffix(path, ": ") {
				sub = "." + sub
			}
			r.walk(n.Content[i+1], path+sub, depth+1)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			r.walk(c, path+"["+strconv.Itoa(i)+"]", depth+1)
		}
	case yaml.ScalarNode, yaml.AliasNode:
		if n.Value != "" || n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
			r.mark(n, path, false)
		}
	}
}

func (r *yamlReader) mark(n *yaml.Node, path string, key bool) {
	if n.Line < 1 || n.Line > len(r.starts) || n.Column < 1 {
		r.broken = true
		return
	}
	at := r.starts[n.Line-1]
	for range n.Column - 1 { // columns count characters
		_, size := utf8.DecodeRune(r.b[at:])
		at += size
	}
	if at >= len(r.b) {
		r.broken = true
		return
	}
	m := yamlMark{at: at, path: path, node: n}
	if key {
		m.node = nil
	}
	r.marks = append(r.marks, m)
}

// cuts makes cuts of the marks: each value, and what stands before it.
func (r *yamlReader) cuts(s source) *anatomy {
	sort.SliceStable(r.marks, func(i, j int) bool { return r.marks[i].at < r.marks[j].at })
	t := &taking{s: s}
	t.group("", "", "")
	for i, m := range r.marks {
		if m.node == nil || int64(m.at) < t.at {
			continue
		}
		next := len(r.b)
		if i+1 < len(r.marks) {
			next = r.marks[i+1].at
		}
		r.between(t, m.at, m.path)
		size := r.length(m, next)
		value := m.node.Value
		if m.node.Kind == yaml.AliasNode {
			value = "*" + value
		}
		t.add(int64(size), cut{what: WhatValue, where: m.path, value: clip(value)})
	}
	r.between(t, len(r.b), "end")
	return t.done("")
}

// between cuts what is no value: comments say something, the rest follows from the values.
func (r *yamlReader) between(t *taking, end int, path string) {
	for int(t.at) < end {
		from := int(t.at)
		line := min(end, from+lineLength(r.b[from:]))
		if comment := commentStart(r.b[from:line], from == 0 || r.b[from-1] == '\n'); comment >= 0 {
			t.add(int64(comment), cut{what: WhatSpacing, where: path, effect: true})
			for line < end && onlyComment(r.b[line:min(end, line+lineLength(r.b[line:]))]) {
				line += min(end-line, lineLength(r.b[line:]))
			}
			t.add(int64(line)-t.at, cut{what: WhatText, where: "comment", mode: modeText})
			continue
		}
		for line < end && commentStart(r.b[line:min(end, line+lineLength(r.b[line:]))], true) < 0 {
			line += min(end-line, lineLength(r.b[line:]))
		}
		t.add(int64(line)-t.at, cut{what: WhatSpacing, where: path, effect: true})
	}
}

// lineLength is the length of the first line with its break.
func lineLength(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

// commentStart is where a comment begins in what is left of a line that holds no value any more; -1 for none.
func commentStart(b []byte, first bool) int {
	for i, c := range b {
		if c == '#' && (i > 0 && (b[i-1] == ' ' || b[i-1] == '\t') || i == 0 && first) {
			return i
		}
	}
	return -1
}

func onlyComment(b []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(b, " \t"), []byte{'#'}) }

// length is how many bytes a value has as written, at most up to the next mark.
func (r *yamlReader) length(m yamlMark, next int) int {
	b := r.b[m.at:next]
	style := m.node.Style
	switch {
	case m.node.Anchor != "" || style&yaml.TaggedStyle != 0 || m.node.Kind == yaml.AliasNode:
	case style&yaml.DoubleQuotedStyle != 0 && b[0] == '"':
		for i := 1; i < len(b); i++ {
			switch b[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
	case style&yaml.SingleQuotedStyle != 0 && b[0] == '\'':
		for i := 1; i < len(b); i++ {
			if b[i] == '\'' {
				if i+1 == len(b) || b[i+1] != '\'' {
					return i + 1
				}
				i++
			}
		}
	case style == 0 && bytes.HasPrefix(b, []byte(m.node.Value)):
		return len(m.node.Value)
	}
	return len(bytes.TrimRight(b, " \t\r\n-,]}")) // blocks, several lines, anchors: all up to what comes next
}
