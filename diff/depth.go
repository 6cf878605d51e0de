package diff

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

const (
	// Of one file in depth so many runs are dumped, with so many bytes before and
	// after, and so many bytes of a long run: some ten screens at most.
	dumpedRuns, dumpedAround, dumpedMost = 24, 16, 128
	// deepFindings bounds the findings of one node that are shown in depth.
	deepFindings = 1000
	// dumpedLines is how many changed lines of a text are shown in hexadecimal too: spaces, tabs and encodings look alike.
	dumpedLines = 8
)

// Holds reports whether a node is, or lies in, what a person calls path: an
// entry's path on either side, or the end of a node's own path ("app.jar → META-INF/MANIFEST.MF").
func (n *Node) Holds(path string) bool {
	path = strings.TrimPrefix(strings.TrimPrefix(path, "./"), "/")
	if path == "" {
		path = "."
	}
	for m := n; m != nil && m.Parent != nil; m = m.Parent {
		if m.Kind == KindRoot || m.Kind == KindImage || m.Kind == KindLayer {
			return false
		}
		if m.Name == path || m.B != nil && m.B.Name == path || strings.Contains(path, " → ") && strings.HasSuffix("→ "+m.Path(), "→ "+path) {
			return true
		}
	}
	return false
}

// WriteDepth writes all that is known of one path: every finding with both values,
// and the differing bytes in hexadecimal with what stands around them. found
// is false when nothing of that path differs.
func (r *Result) WriteDepth(w io.Writer, path string) (found bool, err error) {
	b := bufio.NewWriter(w)
	for _, c := range r.Pairs {
		x, y := r.label(c.A), r.label(c.B)
		c.Root.Walk(func(n *Node) bool {
			if !n.Holds(path) || len(n.Findings) == 0 {
				return true
			}
			if !found {
				for _, i := range []int{c.A, c.B} {
					fmt.Fprintf(b, "%s  %s\n", r.label(i), Quote(r.Sides[i].Name))
				}
			}
			found = true
			n.writeDepth(b, x, y)
			return true
		})
	}
	return found, b.Flush()
}

func (n *Node) writeDepth(b *bufio.Writer, x, y string) {
	fmt.Fprintf(b, "\n%s%s\n", heading(n), n.size())
	for _, w := range []Which{A, B} {
		label := x
		if w == B {
			label = y
		}
		p := n.Part(w)
		if p == nil {
			continue
		}
		fmt.Fprintf(b, "  %s %d bytes", label, p.Size)
		if n.Format != "" {
			fmt.Fprintf(b, ", %s", n.Format)
		}
		if m := p.Meta; m != nil {
			fmt.Fprintf(b, ", %s %s", Quote(m.describe(p.Size)), stamp(m.ModTime))
		}
		fmt.Fprintln(b)
	}
	for i := range n.Findings {
		if i == deepFindings {
			fmt.Fprintf(b, "  … and %d more\n", len(n.Findings)-i)
			return
		}
		f := &n.Findings[i]
		f.write(b, x, y)
		if f.Effect {
			fmt.Fprintln(b, "    follows from other differences")
		}
		if f.What != WhatText || i < dumpedLines {
			n.dump(b, f, x, y)
		}
	}
}

// dump writes the bytes of a finding's runs.
func (n *Node) dump(b *bufio.Writer, f *Finding, x, y string) {
	home := n
	if f.Outer {
		home = n.Parent
	}
	for i, r := range f.Runs {
		if i == dumpedRuns {
			fmt.Fprintf(b, "    … and %d more runs\n", len(f.Runs)-i)
			return
		}
		for _, w := range []Which{A, B} {
			label := x
			if w == B {
				label = y
			}
			home.dumpRange(b, w, label, r.On(w))
		}
	}
}

// dumpRange writes lines of sixteen bytes, the run itself between brackets.
func (n *Node) dumpRange(b *bufio.Writer, w Which, label string, r Range) {
	p := n.Part(w)
	if p == nil || p.src.r == nil || r.Length == 0 && r.Offset == 0 {
		return
	}
	from := max(0, r.Offset-dumpedAround) &^ 15
	to := min(r.Offset+min(r.Length, dumpedMost)+dumpedAround, p.Size)
	to = min((to+15)&^15, p.Size)
	bytes, err := p.src.slice(from, max(0, to-from))
	if err != nil {
		return
	}
	for at := 0; at < len(bytes); at += 16 {
		line := bytes[at:min(at+16, len(bytes))]
		fmt.Fprintf(b, "    %s %08x ", label, from+int64(at))
		for i, c := range line {
			off := from + int64(at+i)
			mark := byte(' ')
			switch {
			case off == r.Offset && r.Length > 0:
				mark = '['
			case off == r.End() && r.Length > 0:
				mark = ']'
			}
			fmt.Fprintf(b, "%c%02x", mark, c)
		}
		end := " "
		if last := from + int64(at+len(line)); last == r.End() && r.Length > 0 {
			end = "]"
		}
		fmt.Fprintf(b, "%s%s  ", end, strings.Repeat("   ", 16-len(line)))
		for _, c := range line {
			if printableByte(c) {
				b.WriteByte(c)
			} else {
				b.WriteByte('.')
			}
		}
		b.WriteByte('\n')
	}
	if r.Length > dumpedMost {
		fmt.Fprintf(b, "    %s … %d bytes in all\n", label, r.Length)
	}
}
