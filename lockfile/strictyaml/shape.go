package strictyaml

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxText bounds one piece of text, in bytes: far above any name, path, URL or
// label that is meant, far below what could hurt.
const maxText = 64 << 10

// Shape says what a YAML value must look like to be read as a T, and what
// JSON Schema says about it.
type Shape[T any] struct {
	read   func(d *Document, at *place, n *yaml.Node) (T, bool) // false: a mistake was recorded
	schema *Schema
}

// Schema returns the shape's JSON Schema. It is shared: copy it to change it.
func (s Shape[T]) Schema() *Schema { return s.schema }

// With returns the shape with a changed schema, for what T's reader checks and
// the schema can say too.
func (s Shape[T]) With(change func(*Schema)) Shape[T] {
	c := *s.schema
	change(&c)
	s.schema = &c
	return s
}

// Read fills a T from the whole document. Mistakes go to the document's Err;
// the T is as complete as they allow.
func Read[T any](d *Document, s Shape[T]) T {
	v, _ := s.read(d, nil, d.Root)
	return v
}

// place is the way from the top to a value, for messages. It is a list so that
// nothing is put together before a message needs it.
type place struct {
	up    *place
	name  string
	index int // -1 for a field
}

// String returns "image.copy[0].from", or "" for the top.
func (p *place) String() string {
	switch {
	case p == nil:
		return ""
	case p.index >= 0:
		return p.up.String() + "[" + strconv.Itoa(p.index) + "]"
	case p.up == nil:
		return p.name
	}
	return p.up.String() + "." + p.name
}

// subject names the value at p at the start of a sentence.
func (p *place) subject() string {
	if p == nil {
		return "the file"
	}
	return p.String()
}

// within is " in image.copy[0]", or "" at the top.
func (p *place) within() string {
	if p == nil {
		return ""
	}
	return " in " + p.String()
}

// Text is any text of at most 64 KiB without NUL.
func Text() Shape[string] { return text(maxText) }

// LongText is text as long as the file may be, for scripts.
func LongText() Shape[string] { return text(0) }

func text(most int) Shape[string] {
	return Shape[string]{
		schema: &Schema{Type: "string"},
		read: func(d *Document, at *place, n *yaml.Node) (string, bool) {
			if n.Kind != yaml.ScalarNode || describe(n) == "nothing" {
				d.Errorf(n, "%s must be text, not %s", at.subject(), describe(n))
				return "", false
			}
			return n.Value, d.checkText(at.subject(), n, most)
		},
	}
}

// checkText refuses a scalar that some YAML reader takes for something else
// than text, and text that no name, path or command can hold.
func (d *Document) checkText(subject string, n *yaml.Node, most int) bool {
	plain := n.Style&^yaml.FlowStyle == 0
	switch {
	case n.Tag == "!!bool", plain && isYAML11Boolean(n.Value):
		d.Errorf(n, "%s is text, but YAML reads %s as true or false; quote it: %q", subject, n.Value, n.Value)
	case n.Tag == "!!int", n.Tag == "!!float":
		d.Errorf(n, "%s is text, but YAML reads %s as a number; quote it: %q", subject, clip(n.Value), clip(n.Value))
	case n.Tag == "!!timestamp":
		d.Errorf(n, "%s is text, but YAML reads %s as a date; quote it: %q", subject, n.Value, n.Value)
	case n.Tag == "!!null":
		d.Errorf(n, "%s is text, but YAML reads %s as nothing; quote it: %q", subject, n.Value, n.Value)
	case most > 0 && len(n.Value) > most:
		d.Errorf(n, "%s has %d bytes; at most %d are allowed", subject, len(n.Value), most)
	case strings.IndexByte(n.Value, 0) >= 0:
		d.Errorf(n, "%s contains a NUL character", subject)
	default:
		return true
	}
	return false
}

// isYAML11Boolean knows the words that YAML 1.1 readers (PyYAML, Ruby) take
// for booleans and YAML 1.2 readers for text (yaml.org/type/bool.html).
func isYAML11Boolean(s string) bool {
	if len(s) > 3 {
		return false
	}
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off":
		return true
	}
	return false
}

// describe says what a node is, for "must be …, not …".
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if n.Tag == "!!null" && n.Value == "" {
			return "nothing"
		}
		if n.Tag == "!!str" {
			return "text " + Quote(n.Value)
		}
		return clip(n.Value)
	}
	return "an alias"
}

// Word is one of a few words.
func Word[T ~string](words ...T) Shape[T] {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	s := Shape[T]{schema: &Schema{Type: "string", Enum: names}}
	s.read = func(d *Document, at *place, n *yaml.Node) (T, bool) {
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			for _, w := range words {
				if n.Value == string(w) {
					return w, true
				}
			}
			d.Errorf(n, "%s cannot be %s, only %s%s", at.subject(), Quote(n.Value), Alternatives(names), DidYouMean(n.Value, names))
			return "", false
		}
		d.Errorf(n, "%s must be %s, not %s", at.subject(), Alternatives(names), describe(n))
		return "", false
	}
	return s
}

// Boolean is exactly true or false.
func Boolean() Shape[bool] {
	return Shape[bool]{
		schema: &Schema{Type: "boolean"},
		read: func(d *Document, at *place, n *yaml.Node) (bool, bool) {
			if n.Kind == yaml.ScalarNode && n.Tag == "!!bool" && (n.Value == "true" || n.Value == "false") {
				return n.Value == "true", true
			}
			d.Errorf(n, "%s must be true or false, not %s", at.subject(), describe(n))
			return false, false
		},
	}
}

// Integer is a decimal number from least to most.
func Integer(least, most int64) Shape[int64] {
	return Shape[int64]{
		schema: &Schema{Type: "integer", Minimum: &least, Maximum: &most},
		read: func(d *Document, at *place, n *yaml.Node) (int64, bool) {
			if n.Kind != yaml.ScalarNode || n.Tag != "!!int" {
				d.Errorf(n, "%s must be a number, not %s", at.subject(), describe(n))
				return 0, false
			}
			v, err := strconv.ParseInt(n.Value, 10, 64)
			if err != nil || strconv.FormatInt(v, 10) != n.Value {
				d.Errorf(n, "%s must be a plain decimal number, not %s", at.subject(), clip(n.Value))
				return 0, false
			}
			if v < least || v > most {
				d.Errorf(n, "%s must be from %d to %d, not %d", at.subject(), least, most, v)
				return 0, false
			}
			return v, true
		},
	}
}

// Scalar is a scalar of which the reader wants the text as it stands in the
// file, whatever YAML thinks it is: dates, octal modes, ports. quoted tells
// whether it was quoted.
func Scalar[T any](schema *Schema, parse func(text string, quoted bool) (T, error)) Shape[T] {
	return Shape[T]{schema: schema, read: func(d *Document, at *place, n *yaml.Node) (T, bool) {
		var zero T
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Tag == "!!bool" {
			d.Errorf(n, "%s cannot be %s", at.subject(), describe(n))
			return zero, false
		}
		v, err := parse(n.Value, n.Style != 0)
		if err != nil {
			d.Errorf(n, "%v", err)
			return zero, false
		}
		return v, true
	}}
}

// Convert makes a shape of what another reads. The error of convert becomes
// the message, so it should name what it refuses.
func Convert[A, B any](s Shape[A], convert func(A) (B, error)) Shape[B] {
	return Shape[B]{schema: s.schema, read: func(d *Document, at *place, n *yaml.Node) (B, bool) {
		var zero B
		a, ok := s.read(d, at, n)
		if !ok {
			return zero, false
		}
		b, err := convert(a)
		if err != nil {
			d.Errorf(n, "%v", err)
			return zero, false
		}
		return b, true
	}}
}

// Rearrange makes a shape of what another reads, where nothing can go wrong:
// unlike Convert it also passes on what was understood of a value with mistakes.
func Rearrange[A, B any](s Shape[A], rearrange func(A) B) Shape[B] {
	return Shape[B]{schema: s.schema, read: func(d *Document, at *place, n *yaml.Node) (B, bool) {
		a, ok := s.read(d, at, n)
		return rearrange(a), ok
	}}
}

// List is a list of items. An item with mistakes keeps its index.
func List[T any](item Shape[T]) Shape[[]T] { return list(item, nil) }

// Unique is a list in which no two items have the same key; what names an item
// in the message.
func Unique[T any](what string, item Shape[T], key func(T) string) Shape[[]T] {
	return list(item, func(d *Document, n *yaml.Node, v T, seen map[string]int) bool {
		k := key(v)
		if line, twice := seen[k]; twice {
			d.Errorf(n, "%s %s is listed twice; first on line %d", what, Quote(k), line)
			return false
		}
		seen[k] = n.Line
		return true
	})
}

func list[T any](item Shape[T], check func(*Document, *yaml.Node, T, map[string]int) bool) Shape[[]T] {
	return Shape[[]T]{
		schema: &Schema{Type: "array", Items: item.schema},
		read: func(d *Document, at *place, n *yaml.Node) ([]T, bool) {
			if n.Kind != yaml.SequenceNode {
				hint := ""
				if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
					hint = "; write [" + clip(n.Value) + "]"
				}
				d.Errorf(n, "%s must be a list, not %s%s", at.subject(), describe(n), hint)
				return nil, false
			}
			var seen map[string]int
			if check != nil {
				seen = map[string]int{}
			}
			values, good := make([]T, 0, len(n.Content)), true
			for i, c := range n.Content {
				v, ok := item.read(d, &place{up: at, index: i}, c)
				if ok && check != nil {
					ok = check(d, c, v, seen)
				}
				values, good = append(values, v), good && ok
			}
			if len(values) == 0 {
				values = nil
			}
			return values, good
		},
	}
}

// NonEmpty refuses an empty list.
func NonEmpty[T any](s Shape[[]T]) Shape[[]T] {
	return Shape[[]T]{
		schema: s.With(func(c *Schema) { c.MinItems = 1 }).schema,
		read: func(d *Document, at *place, n *yaml.Node) ([]T, bool) {
			v, ok := s.read(d, at, n)
			if ok && len(v) == 0 {
				d.Errorf(n, "%s must not be empty", at.subject())
				return nil, false
			}
			return v, ok
		},
	}
}

// Entry is one name and value of a Dict.
type Entry[T any] struct {
	Key   string
	Value T
}

// Dict is a mapping whose keys the user chooses; what names a key in messages.
// It is read sorted by key.
func Dict[T any](what string, key Shape[string], value Shape[T]) Shape[[]Entry[T]] {
	s := Shape[[]Entry[T]]{schema: &Schema{Type: "object", PropertyNames: key.schema, AdditionalProperties: value.schema}}
	s.read = func(d *Document, at *place, n *yaml.Node) ([]Entry[T], bool) {
		if n.Kind != yaml.MappingNode {
			d.Errorf(n, "%s must be a mapping, not %s", at.subject(), describe(n))
			return nil, false
		}
		seen := map[string]int{}
		var entries []Entry[T]
		good := true
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			name, ok := key.read(d, &place{up: at, name: "(" + what + ")", index: -1}, k)
			if line, twice := seen[name]; ok && twice {
				d.Errorf(k, "duplicate %s %s%s; first on line %d", what, Quote(name), at.within(), line)
				ok = false
			}
			seen[name] = k.Line
			e, fine := value.read(d, &place{up: at, name: clip(k.Value), index: -1}, v)
			entries, good = append(entries, Entry[T]{name, e}), good && ok && fine
		}
		sort.SliceStable(entries, func(i, j int) bool { return entries[i].Key < entries[j].Key })
		return entries, good
	}
	return s
}

// Field is one field of an Object that fills an S.
type Field[S any] struct {
	name     string
	required bool
	fallback *yaml.Node // what an absent field is read as
	schema   *Schema
	read     func(d *Document, at *place, n *yaml.Node, s *S) bool
}

// Required is a field that must be there.
func Required[S, T any](name, doc string, shape Shape[T], set func(*S, T)) Field[S] {
	f := Optional(name, doc, shape, set)
	f.required = true
	return f
}

// Optional is a field that may be absent; set is then not called. For a value
// with mistakes set is called with what was understood, perhaps nothing.
func Optional[S, T any](name, doc string, shape Shape[T], set func(*S, T)) Field[S] {
	schema := *shape.schema
	schema.Description = doc
	return Field[S]{name: name, schema: &schema, read: func(d *Document, at *place, n *yaml.Node, s *S) bool {
		// A value with mistakes is set as far as it was understood, so that
		// checks between fields can still find theirs.
		v, ok := shape.read(d, &place{up: at, name: name, index: -1}, n)
		set(s, v)
		return ok
	}}
}

// Default is a field that, when absent, is read as if the file said value,
// which is YAML. It panics when value does not have the shape.
func Default[S, T any](name, doc string, shape Shape[T], value string, set func(*S, T)) Field[S] {
	f := Optional(name, doc, shape, set)
	d, err := Open("default of "+name, []byte(value), Limits{})
	if err != nil {
		panic(err)
	}
	if Read(d, shape); d.Err() != nil {
		panic(d.Err())
	}
	f.fallback = d.Root
	if err := d.Root.Decode(&f.schema.Default); err != nil {
		panic(err)
	}
	return f
}

// Object is a mapping with known fields. At most 64.
func Object[S any](fields ...Field[S]) Shape[S] {
	o := object[S]{fields: fields}
	schema := &Schema{Type: "object", Properties: map[string]*Schema{}, AdditionalProperties: false}
	for _, f := range fields {
		o.names = append(o.names, f.name)
		schema.Properties[f.name] = f.schema
		if f.required {
			schema.Required = append(schema.Required, f.name)
		}
	}
	return Shape[S]{schema: schema, read: o.read}
}

type object[S any] struct {
	fields []Field[S]
	names  []string
}

func (o *object[S]) read(d *Document, at *place, n *yaml.Node) (S, bool) {
	var s S
	if n.Kind != yaml.MappingNode {
		d.Errorf(n, "%s must be a mapping with %s, not %s", at.subject(), o.wanted(), describe(n))
		return s, false
	}
	var lines [64]int // where each field stands
	good := true
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		at, ok := at, false
		switch f := o.index(k.Value); {
		case k.Kind != yaml.ScalarNode:
			d.Errorf(k, "a field name%s must be text, not %s", at.within(), describe(k))
		case f < 0:
			d.Errorf(k, "unknown field %s%s%s", Quote(k.Value), at.within(), DidYouMean(k.Value, o.names))
		case lines[f] != 0:
			d.Errorf(k, "duplicate field %q%s; first on line %d", k.Value, at.within(), lines[f])
		default:
			lines[f] = k.Line
			ok = o.fields[f].read(d, at, v, &s)
		}
		good = good && ok
	}
	for i, f := range o.fields {
		if lines[i] != 0 {
			continue
		}
		if f.required {
			d.Errorf(n, "missing field %q%s", f.name, at.within())
			good = false
		} else if f.fallback != nil {
			f.read(d, at, f.fallback, &s)
		}
	}
	return s, good
}

func (o *object[S]) index(name string) int {
	for i, n := range o.names {
		if n == name {
			return i
		}
	}
	return -1
}

// wanted names the fields that a mapping must or may have, few enough to read.
func (o *object[S]) wanted() string {
	var names []string
	for _, f := range o.fields {
		if f.required {
			names = append(names, f.name)
		}
	}
	if len(names) == 0 {
		names = o.names[:min(len(o.names), 3)]
	}
	return strings.Join(names, ", ")
}

// Matching is text that a check accepts; pattern says the same to editors and
// is not used to read.
func Matching(pattern string, check func(string) error) Shape[string] {
	return Convert(Text(), func(s string) (string, error) {
		if err := check(s); err != nil {
			return "", err
		}
		return s, nil
	}).With(func(c *Schema) { c.Pattern = pattern })
}

// Printable reports whether text holds no control character, as every path,
// name and label must.
func Printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 })
}

// Refuse is fmt.Errorf for checks; it exists so that long quotes are clipped:
// every string among args is shortened to one line.
func Refuse(format string, args ...any) error {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = clip(s)
		}
	}
	return fmt.Errorf(format, args...)
}
