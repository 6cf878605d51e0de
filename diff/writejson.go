package diff

import (
	"bufio"
	"encoding/json"
	"io"
)

// WriteJSON writes the result as JSON, indented by two spaces, node by node: the
// findings of two large images have more bytes in JSON than in memory, and no copy of
// them is held. show chooses the findings that are written (nil: all), and nodes without
// any, and without children that have some, are left out; totals and accounts are of everything.
func (r *Result) WriteJSON(w io.Writer, show func(*Node, *Finding) bool) error {
	j := &jsonWriter{Writer: bufio.NewWriterSize(w, 64<<10), show: show, kept: map[*Node]bool{}}
	head := struct {
		Sides   []Side  `json:"sides"`
		Classes [][]int `json:"classes"`
	}{r.Sides, r.Classes}
	j.object("", head, "pairs", len(r.Pairs), func(i int) {
		c := r.Pairs[i]
		if show != nil {
			j.keep(c.Root)
		}
		about := struct {
			A     int    `json:"a"`
			B     int    `json:"b"`
			Total Totals `json:"total"`
		}{c.A, c.B, c.Total}
		j.object("    ", about, "root", -1, func(int) { j.node("      ", c.Root) })
	})
	j.text("\n")
	if j.err != nil {
		return j.err
	}
	return j.Flush()
}

type jsonWriter struct {
	*bufio.Writer
	show func(*Node, *Finding) bool
	kept map[*Node]bool // that have findings to show, themselves or below
	err  error
}

// keep notes which nodes are written.
func (j *jsonWriter) keep(n *Node) bool {
	found := false
	for i := range n.Findings {
		found = found || j.show(n, &n.Findings[i])
	}
	for _, c := range n.Children {
		found = j.keep(c) || found
	}
	if found {
		j.kept[n] = true
	}
	return found
}

func (j *jsonWriter) text(s string) {
	if j.err == nil {
		_, j.err = j.WriteString(s)
	}
}

// object writes the fields of head and one more: a list of n values that each writes, or with n
// below zero a single one. Both begin at the indentation of the object.
func (j *jsonWriter) object(indent string, head any, name string, n int, each func(i int)) {
	b, err := json.MarshalIndent(head, indent, "  ")
	if err != nil {
		if j.err == nil {
			j.err = err
		}
		return
	}
	j.text(string(b[:len(b)-len("\n"+indent+"}")]))
	switch {
	case n < 0:
		j.text(",\n" + indent + "  \"" + name + "\": ")
		each(0)
	case n > 0:
		j.text(",\n" + indent + "  \"" + name + "\": [")
		for i := range n {
			if i > 0 {
				j.text(",")
			}
			j.text("\n" + indent + "    ")
			each(i)
		}
		j.text("\n" + indent + "  ]")
	}
	j.text("\n" + indent + "}")
}

func (j *jsonWriter) node(indent string, n *Node) {
	shallow := *n
	shallow.Children = nil
	children := n.Children
	if j.show != nil {
		shallow.Findings, children = nil, nil
		for i := range n.Findings {
			if j.show(n, &n.Findings[i]) {
				shallow.Findings = append(shallow.Findings, n.Findings[i])
			}
		}
		for _, c := range n.Children {
			if j.kept[c] {
				children = append(children, c)
			}
		}
	}
	j.object(indent, shallow, "children", len(children), func(i int) { j.node(indent+"    ", children[i]) })
}
