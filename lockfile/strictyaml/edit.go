package strictyaml

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Edit changes a few fields of a file that a person wrote and leaves every
// other byte as it is: comments, order, blank lines, quotes. Values are handed
// in as YAML on one line ("7", `{until: 2027-01-01}`).
//
// It knows the plain YAML that Open accepts, less scalars of several lines, and
// refuses what it does not know. Whoever edits reads the result again and holds
// it against what was meant.
type Edit struct {
	file   string
	data   []byte
	limits Limits
}

// NewEdit begins to edit data, which Open has to accept.
func NewEdit(file string, data []byte, limits Limits) (*Edit, error) {
	if _, err := Open(file, data, limits); err != nil {
		return nil, err
	}
	return &Edit{file: file, data: slices.Clone(data), limits: limits}, nil
}

// Bytes returns the file as it is now.
func (e *Edit) Bytes() []byte { return e.data }

// Text returns a value as it is written, quotes and all; "" when it is not there.
func (e *Edit) Text(path ...any) (string, error) {
	s, n, err := e.find(path)
	if err != nil || n == nil {
		return "", err
	}
	end, err := s.end(n)
	if err != nil {
		return "", err
	}
	return string(e.data[s.start(n):end]), nil
}

// Set gives a field of the mapping at path a value. A field that is not there
// yet is put after the one called after, which is.
func (e *Edit) Set(field, value, after string, path ...any) error {
	s, n, err := e.find(path)
	if err != nil {
		return err
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return e.refuse("there is no mapping to set %q in", field)
	}
	if _, old := entry(n, field); old != nil {
		end, err := s.end(old)
		if err != nil {
			return err
		}
		return e.splice(s.start(old), end, value)
	}
	key, previous := entry(n, after)
	if previous == nil {
		return e.refuse("there is no field %q to put %q after", after, field)
	}
	end, err := s.end(previous)
	if err != nil {
		return err
	}
	if n.Style&yaml.FlowStyle != 0 {
		return e.splice(end, end, fmt.Sprintf(", %s: %s", field, value))
	}
	end = s.lineEnd(end)
	return e.splice(end, end, fmt.Sprintf("\n%s%s: %s", strings.Repeat(" ", key.Column-1), field, value))
}

// Remove takes a field out of the mapping at path, if it is there. It may not
// be the first one.
func (e *Edit) Remove(field string, path ...any) error {
	s, n, err := e.find(path)
	if err != nil || n == nil {
		return err
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != field {
			continue
		}
		if i == 0 {
			return e.refuse("%q is the first field, and is not taken out", field)
		}
		end, err := s.end(n.Content[i+1])
		if err != nil {
			return err
		}
		before, err := s.end(n.Content[i-1])
		if err != nil {
			return err
		}
		if n.Style&yaml.FlowStyle == 0 {
			before, end = s.lineBegin(s.start(n.Content[i]))-1, s.lineEnd(end)
		}
		return e.splice(before, end, "")
	}
	return nil
}

// Append adds an item to the list that a field of the mapping at path holds. In
// the top mapping the field is added at the end of the file when it is not there.
func (e *Edit) Append(field, item string, path ...any) error {
	s, root, err := e.find(path)
	if err != nil {
		return err
	}
	if root == nil || root.Kind != yaml.MappingNode {
		return e.refuse("there is no mapping to add to %q in", field)
	}
	_, list := entry(root, field)
	switch {
	case list == nil && (len(path) > 0 || root.Style&yaml.FlowStyle != 0):
		return e.refuse("there is no list %q", field)
	case list == nil:
		text := strings.TrimRight(string(e.data), "\n")
		e.data = []byte(text)
		return e.splice(len(e.data), len(e.data), fmt.Sprintf("\n%s:\n  - %s\n", field, item))
	case list.Kind != yaml.SequenceNode:
		return e.refuse("%q is not a list", field)
	case len(list.Content) == 0:
		end, err := s.end(list)
		if err != nil {
			return err
		}
		return e.splice(s.start(list), end, "["+item+"]")
	}
	end, err := s.end(list.Content[len(list.Content)-1])
	if err != nil {
		return err
	}
	if list.Style&yaml.FlowStyle != 0 {
		return e.splice(end, end, ", "+item)
	}
	end = s.lineEnd(end)
	return e.splice(end, end, fmt.Sprintf("\n%s- %s", strings.Repeat(" ", list.Column-1), item))
}

func (e *Edit) refuse(format string, args ...any) error {
	return fmt.Errorf("cannot edit %q: %s", e.file, fmt.Sprintf(format, args...))
}

// splice replaces a part of the file; the result has to be plain YAML again.
func (e *Edit) splice(from, to int, text string) error {
	changed := slices.Concat(e.data[:from], []byte(text), e.data[to:])
	if _, err := Open(e.file, changed, e.limits); err != nil {
		return e.refuse("after the change it would not be YAML any more: %v", err)
	}
	e.data = changed
	return nil
}

// find opens the file as it is now and returns what is at path, nil for nothing.
func (e *Edit) find(path []any) (*source, *yaml.Node, error) {
	d, err := Open(e.file, e.data, e.limits)
	if err != nil {
		return nil, nil, err
	}
	s := &source{data: e.data, file: e.file}
	for i := 0; i < len(e.data); i++ {
		if i == 0 || e.data[i-1] == '\n' {
			s.lines = append(s.lines, i)
		}
	}
	n, all := d.find(path)
	if !all {
		return s, nil, nil
	}
	return s, n, nil
}

// source finds the bytes of nodes.
type source struct {
	file  string
	data  []byte
	lines []int // offset of each line
}

// start is the offset of a node. yaml.v3 counts columns in characters.
func (s *source) start(n *yaml.Node) int {
	at := s.lines[n.Line-1]
	for range n.Column - 1 {
		at++
		for at < len(s.data) && s.data[at]&0xc0 == 0x80 {
			at++
		}
	}
	return at
}

// lineEnd is the offset of the end of the line that holds the byte before at.
func (s *source) lineEnd(at int) int {
	if i := bytes.IndexByte(s.data[at:], '\n'); i >= 0 {
		return at + i
	}
	return len(s.data)
}

func (s *source) lineBegin(at int) int { return bytes.LastIndexByte(s.data[:at], '\n') + 1 }

// end is the offset behind a node.
func (s *source) end(n *yaml.Node) (int, error) {
	at := s.start(n)
	switch {
	case n.Kind == yaml.ScalarNode:
		return s.scalarEnd(n, at)
	case n.Style&yaml.FlowStyle != 0:
		return s.flowEnd(at)
	case len(n.Content) == 0:
		return at, nil
	}
	return s.end(n.Content[len(n.Content)-1])
}

func (s *source) scalarEnd(n *yaml.Node, at int) (int, error) {
	switch {
	case at < len(s.data) && (s.data[at] == '"' || s.data[at] == '\''):
		return s.quoteEnd(at)
	case n.Style == 0 && !strings.Contains(n.Value, "\n") && bytes.HasPrefix(s.data[at:], []byte(n.Value)):
		return at + len(n.Value), nil
	}
	return 0, fmt.Errorf("cannot edit %q: line %d has text of several lines", s.file, n.Line)
}

// quoteEnd is the offset behind a quoted scalar.
func (s *source) quoteEnd(at int) (int, error) {
	quote := s.data[at]
	for i := at + 1; i < len(s.data); i++ {
		switch {
		case quote == '"' && s.data[i] == '\\':
			i++
		case s.data[i] != quote:
		case quote == '\'' && i+1 < len(s.data) && s.data[i+1] == quote:
			i++
		default:
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("cannot edit %q: a quote has no end", s.file)
}

// flowEnd is the offset behind a mapping or list in brackets.
func (s *source) flowEnd(at int) (int, error) {
	depth := 0
	for i := at; i < len(s.data); i++ {
		switch c := s.data[i]; c {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, nil
			}
		case '#':
			if s.data[i-1] == ' ' || s.data[i-1] == '\t' || s.data[i-1] == '\n' {
				i = s.lineEnd(i)
			}
		case '"', '\'':
			if !bytes.ContainsRune([]byte(" \t\n,:[{"), rune(s.data[i-1])) {
				continue // inside a plain scalar
			}
			end, err := s.quoteEnd(i)
			if err != nil {
				return 0, err
			}
			i = end - 1
		}
	}
	return 0, fmt.Errorf("cannot edit %q: a bracket is not closed", s.file)
}
