package cause

import (
	"path"
	"strings"

	"gopkg.in/yaml.v3"
)

// definition is what is needed of a quorate.yaml: its steps, and which of them a
// path of the image comes from. It is read leniently, for package diff stands
// alone; whoever built the image has held it to the rules.
type definition struct {
	root  *yaml.Node
	steps []step
	copy  []copied
}

type step struct {
	name string
	node *yaml.Node // the mapping
	run  *yaml.Node
	env  *yaml.Node // nil when there is none
}

type copied struct{ from, path, to string }

// maxDefinition bounds what is parsed: a definition is a page, not a book.
const maxDefinition = 1 << 20

func readDefinition(b []byte) *definition {
	if len(b) == 0 || len(b) > maxDefinition {
		return nil
	}
	var doc yaml.Node
	if yaml.Unmarshal(b, &doc) != nil || len(doc.Content) != 1 {
		return nil
	}
	d := &definition{root: doc.Content[0]}
	for _, n := range items(child(d.root, "steps")) {
		s := step{node: n, run: child(n, "run"), env: child(n, "env")}
		if name := child(n, "name"); name != nil {
			s.name = name.Value
		}
		d.steps = append(d.steps, s)
	}
	for _, n := range items(child(child(d.root, "image"), "copy")) {
		c := copied{from: value(child(n, "from")), path: value(child(n, "path")), to: value(child(n, "to"))}
		d.copy = append(d.copy, c)
	}
	return d
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

func value(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	return n.Value
}

// origin returns the step that a path of the image comes from, and the path within its output.
func (d *definition) origin(file string) (*step, string) {
	if d == nil {
		return nil, ""
	}
	file = path.Clean("/" + file)
	var best *copied
	for i := range d.copy {
		c := &d.copy[i]
		to := path.Clean("/" + c.to)
		if (file == to || strings.HasPrefix(file, strings.TrimSuffix(to, "/")+"/")) && (best == nil || len(to) > len(path.Clean("/"+best.to))) {
			best = c
		}
	}
	if best == nil {
		return nil, ""
	}
	if st := d.step(best.from); st != nil {
		rest := strings.TrimPrefix(file, strings.TrimSuffix(path.Clean("/"+best.to), "/"))
		return st, path.Join("/", best.path, rest)
	}
	return nil, ""
}

// step returns the step of that name; nil when there is none.
func (d *definition) step(name string) *step {
	if d == nil {
		return nil
	}
	for i := range d.steps {
		if d.steps[i].name == name {
			return &d.steps[i]
		}
	}
	return nil
}

// inputs are the names of what a step reads.
func (s *step) inputs() []string {
	var names []string
	for _, n := range items(child(s.node, "inputs")) {
		names = append(names, n.Value)
	}
	return names
}

// line returns the line of a step's run that names the file, longest name first; "" when none does.
func (s *step) line(file string) string {
	if s == nil || s.run == nil {
		return ""
	}
	lines := strings.Split(s.run.Value, "\n")
	for _, name := range []string{file, strings.TrimPrefix(file, "/"), path.Base(file)} {
		if len(name) < 2 {
			continue
		}
		for _, l := range lines {
			if at := strings.Index(l, name); at >= 0 && !wordAt(l, at+len(name)) && !strings.HasPrefix(strings.TrimSpace(l), "#") {
				return strings.TrimSpace(l)
			}
		}
	}
	return ""
}
