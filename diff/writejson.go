package diff

import (
	"bufio"
	"encoding/json"
	"io"
)

// WriteJSON writes the result as JSON, indented, a run a line, node by node: the
// findings of two large images have more bytes in JSON than in memory, and no copy of
// them is held. show chooses the findings that are written (nil: all), and nodes without
// any, and without children that have some, are left out; totals and accounts are of everything.
func (r *Result) WriteJSON(w io.Writer, show func(*Node, *Finding) bool) error {
	j := &jsonWriter{Writer: bufio.NewWriterSize(w, 64<<10), show: show, kept: map[*Node]bool{}}
	head := struct {
		Sides   []Side  `json:"sides"`
		Classes [][]int `json:"classes"`
	}{r.Sides, r.Classes}
	j.object("", head, jsonList{"pairs", len(r.Pairs), func(i int) {
		c := r.Pairs[i]
		if show != nil {
			j.keep(c.Root)
		}
		about := struct {
			A     int    `json:"a"`
			B     int    `json:"b"`
			Total Totals `json:"total"`
		}{c.A, c.B, c.Total}
		j.object("    ", about, jsonList{"root", -1, func(int) { j.node("      ", c.Root) }})
	}})
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

// jsonList is a field of n values that each writes, or with n below zero of a single one.
type jsonList struct {
	name string
	n    int
	each func(i int)
}

// object writes the fields of head, which has one at least, and then lists.
func (j *jsonWriter) object(indent string, head any, lists ...jsonList) {
	b, err := json.MarshalIndent(head, indent, "  ")
	if err != nil {
		if j.err == nil {
			j.err = err
		}
		return
	}
	j.text(string(b[:len(b)-len("\n"+indent+"}")]))
	for _, l := range lists {
		if l.n != 0 {
			j.text(",\n" + indent + "  \"" + l.name + "\": ")
		}
		if l.n < 0 {
			l.each(0)
		}
		for i := range max(l.n, 0) {
			j.text([]string{"[", ","}[min(i, 1)] + "\n" + indent + "    ")
			l.each(i)
		}
		if l.n > 0 {
			j.text("\n" + indent + "  ]")
		}
	}
	j.text("\n" + indent + "}")
}

func (j *jsonWriter) node(indent string, n *Node) {
	shallow := *n
	shallow.Findings, shallow.Children = nil, nil
	var findings []*Finding
	for i := range n.Findings {
		if j.show == nil || j.show(n, &n.Findings[i]) {
			findings = append(findings, &n.Findings[i])
		}
	}
	var children []*Node
	for _, c := range n.Children {
		if j.show == nil || j.kept[c] {
			children = append(children, c)
		}
	}
	deeper := indent + "    "
	j.object(indent, shallow,
		jsonList{"findings", len(findings), func(i int) { j.finding(deeper, findings[i]) }},
		jsonList{"children", len(children), func(i int) { j.node(deeper, children[i]) }})
}

// finding writes one finding; its runs may be many.
func (j *jsonWriter) finding(indent string, f *Finding) {
	shallow := *f
	shallow.Runs = nil
	j.object(indent, shallow, jsonList{"runs", len(f.Runs), func(i int) {
		b, _ := json.Marshal(f.Runs[i]) // four numbers
		j.text(string(b))
	}})
}
