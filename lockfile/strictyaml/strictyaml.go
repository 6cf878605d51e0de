// Package strictyaml reads the small YAML files that people and Quorate write,
// refuses everything in YAML that surprises, and says where.
//
// It works in three moves. [Open] turns bytes into a [Document], a tree of
// YAML nodes that is known to be plain: one document, UTF-8, no anchors,
// aliases, merge keys or tags, not deep, not large. A [Shape] says what the
// tree must look like; it is put together from [Text], [Integer], [Boolean],
// [List], [Dict] and [Object]. [Read] walks the tree by the shape and fills
// the Go value. One table of fields therefore decides what is read, what the
// JSON Schema says (Shape.Schema), and what "did you mean" suggests.
//
//	type pet struct{ Name string; Legs int }
//	shape := strictyaml.Object(
//		strictyaml.Required("name", "what to call it", strictyaml.Text(), func(p *pet, v string) { p.Name = v }),
//		strictyaml.Default("legs", "how many it has", strictyaml.Integer(0, 1000), "4", func(p *pet, v int64) { p.Legs = int(v) }),
//	)
//	doc, err := strictyaml.Open("pet.yaml", data, strictyaml.Limits{Bytes: 1 << 20, Depth: 50, Nodes: 10000})
//	if err != nil {
//		return err
//	}
//	p := strictyaml.Read(doc, shape)
//	return doc.Err() // every mistake of the file at once, as *Errors
//
// Strict means: no unknown or repeated field; text that YAML would take for a
// number, a date, null or (in YAML 1.1) a boolean must be quoted; booleans are
// exactly true and false.
//
// [AppendText] is the way back for files that Quorate writes itself: text,
// quoted only where some YAML reader would take it for something else.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Limits bound what is read; zero means unlimited.
type Limits struct {
	Bytes int // of the file
	Depth int // of nested lists and mappings
	Nodes int // keys and values together
}

// Document is one YAML file as a tree, and the mistakes found in it so far.
type Document struct {
	Root *yaml.Node // the top value

	file  string
	lines []string
	errs  Errors
}

// Open reads one YAML document. The error is an *Errors. The file's name is
// only used in messages.
func Open(file string, data []byte, limits Limits) (*Document, error) {
	d, err := begin(file, data, limits)
	if err != nil {
		return nil, err
	}
	nodes, err := decode(data)
	switch {
	case err != nil:
		d.malformed(data, err)
	case len(nodes) == 0 || isEmpty(nodes[0]):
		d.ErrorAt(1, 1, "the file is empty")
	case len(nodes) > 1:
		d.Errorf(nodes[1], "a second YAML document begins here; one file holds one document")
	default:
		d.Root = nodes[0].Content[0]
		v := vetting{d: d, limits: limits}
		v.vet(d.Root, 1)
	}
	return d, d.Err()
}

// begin makes the checks that need no parser.
func begin(file string, data []byte, limits Limits) (*Document, error) {
	d := &Document{file: file}
	if limits.Bytes > 0 && len(data) > limits.Bytes {
		d.ErrorAt(1, 1, "the file has %d bytes; at most %d are read", len(data), limits.Bytes)
		return nil, d.Err()
	}
	d.lines = splitLines(string(data))
	if !utf8.Valid(data) {
		line, column := invalidAt(d.lines)
		d.ErrorAt(line, column, "the file is not UTF-8 text")
		return nil, d.Err()
	}
	return d, nil
}

// invalidAt finds the first byte that is not UTF-8.
func invalidAt(lines []string) (line, column int) {
	for i, l := range lines {
		column := 1
		for len(l) > 0 {
			r, size := utf8.DecodeRuneInString(l)
			if r == utf8.RuneError && size == 1 {
				return i + 1, column
			}
			l = l[size:]
			column++
		}
	}
	return 1, 1
}

// decode reads at most two documents: the second only to refuse it.
// yaml.v3 panics on some malformed input, which is an error like any other here.
func decode(data []byte) (nodes []*yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: the parser gave up: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for len(nodes) < 2 {
		n := new(yaml.Node)
		err := dec.Decode(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// isEmpty reports whether a document holds nothing but comments.
func isEmpty(n *yaml.Node) bool {
	if n.Kind != yaml.DocumentNode || len(n.Content) == 0 {
		return true
	}
	c := n.Content[0]
	return c.Kind == yaml.ScalarNode && c.Tag == "!!null" && c.Value == "" && c.Style == 0 && c.Anchor == ""
}

var yamlErrorLine = regexp.MustCompile(`^line (\d+): `)

// malformed turns yaml.v3's error into one with a place.
func (d *Document) malformed(data []byte, err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if m := yamlErrorLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	// yaml.v3's scanner says where it stumbled, but its parser ("did not
	// find expected …") names the line where the surrounding value began.
	if line == 0 || strings.HasPrefix(message, "did not find expected") {
		line = d.lineOf(data, message, line)
	}
	// Of what begins on the very first line and never ends, it names the end.
	if strings.HasSuffix(message, "unexpected end of stream") && line >= len(d.lines) {
		line = 1
	}
	line = min(max(line, 1), len(d.lines))
	text := d.lines[line-1]
	indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	if strings.Contains(indent, "\t") {
		d.ErrorAt(line, 1+strings.Index(indent, "\t"), "not YAML: a tab cannot indent; use spaces")
		return
	}
	d.ErrorAt(line, 1+len(indent), "not YAML: %s", message)
}

// lineOf finds the first line at whose end the parser has the same complaint.
// It asks the parser again for beginnings of the file, some 16 times.
func (d *Document) lineOf(data []byte, message string, fallback int) int {
	// Larger files are not worth the wait: 64 KiB parse in about 10 ms.
	const most = 64 << 10
	if len(data) > most {
		return fallback
	}
	ends := make([]int, 0, len(d.lines))
	for i, b := range data {
		if b == '\n' {
			ends = append(ends, i+1)
		}
	}
	k := sort.Search(len(ends), func(i int) bool {
		_, err := decode(data[:ends[i]])
		return err != nil && strings.HasSuffix(err.Error(), message)
	})
	if len(ends) == 0 {
		return 1
	}
	if k == len(ends) { // the complaint is about the very end
		k = len(ends) - 1
		if ends[k] < len(data) {
			k++
		}
	}
	return k + 1
}

// vetting refuses what YAML has and we do not want, in one walk.
type vetting struct {
	d      *Document
	limits Limits
	nodes  int
}

func (v *vetting) vet(n *yaml.Node, depth int) bool {
	if v.limits.Depth > 0 && depth > v.limits.Depth {
		v.d.Errorf(n, "nested more than %d deep", v.limits.Depth)
		return false
	}
	v.nodes++
	if v.limits.Nodes > 0 && v.nodes > v.limits.Nodes {
		v.d.Errorf(n, "more than %d keys and values in one file", v.limits.Nodes)
		return false
	}
	switch {
	case n.Kind == yaml.AliasNode:
		v.d.Errorf(n, "an alias (*%s) is not allowed; write the value out", clip(n.Value))
	case n.Anchor != "":
		v.d.Errorf(n, "an anchor (&%s) is not allowed; write the value out where it is needed", clip(n.Anchor))
	case n.Tag == "!!merge":
		v.d.Errorf(n, "a merge key (<<) is not allowed; write the fields out")
	case n.Style&yaml.TaggedStyle != 0:
		v.d.Errorf(n, "a tag (%s) is not allowed", clip(n.Tag))
	}
	for _, c := range n.Content {
		if !v.vet(c, depth+1) {
			return false
		}
	}
	return true
}

// Errorf records a mistake at a node.
func (d *Document) Errorf(n *yaml.Node, format string, args ...any) {
	d.ErrorAt(n.Line, n.Column, format, args...)
}

// ErrorAt records a mistake at a line and column, both from 1.
func (d *Document) ErrorAt(line, column int, format string, args ...any) {
	e := &Error{File: d.file, Line: max(line, 1), Column: max(column, 1), Message: fmt.Sprintf(format, args...)}
	if e.Line <= len(d.lines) {
		e.Source = d.lines[e.Line-1]
	}
	d.errs = append(d.errs, e)
}

// Err returns nil or every mistake so far as an *Errors, in the file's order.
func (d *Document) Err() error {
	if len(d.errs) == 0 {
		return nil
	}
	all := append(Errors(nil), d.errs...)
	sort.SliceStable(all, func(i, j int) bool {
		if all[i].Line != all[j].Line {
			return all[i].Line < all[j].Line
		}
		return all[i].Column < all[j].Column
	})
	return &all
}

// At returns the node at a path of field names (string) and list indexes
// (int), or the deepest one on the way that there is. It is for messages:
// checks across fields find their place with it after everything was read.
func (d *Document) At(path ...any) *yaml.Node {
	n, _ := d.find(path)
	return n
}

// Has reports whether the file says something at the path.
func (d *Document) Has(path ...any) bool {
	_, all := d.find(path)
	return all
}

// Key returns the key node of the mapping entry at a path that ends in a name.
func (d *Document) Key(path ...any) *yaml.Node {
	parent, _ := d.find(path[:len(path)-1])
	if k, _ := entry(parent, path[len(path)-1].(string)); k != nil {
		return k
	}
	return parent
}

func (d *Document) find(path []any) (n *yaml.Node, all bool) {
	n = d.Root
	for _, p := range path {
		var next *yaml.Node
		switch p := p.(type) {
		case string:
			_, next = entry(n, p)
		case int:
			if n.Kind == yaml.SequenceNode && p < len(n.Content) {
				next = n.Content[p]
			}
		}
		if next == nil {
			return n, false
		}
		n = next
	}
	return n, true
}

func entry(n *yaml.Node, name string) (key, value *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}
