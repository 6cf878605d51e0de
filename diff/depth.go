package diff

import (
	"bufio"
	"bytes"
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

// WriteDepth writes all that is known of one path: every finding with both values and,
// of texts, the lines around, the differing bytes in hexadecimal with what stands around them,
// and what follows from these in one line for each node. found
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
	shown := 0
	var effects []string
	for i := range n.Findings {
		f := &n.Findings[i]
		if f.Effect && f.What != WhatString { // strings are what people look for in programs
			effects = append(effects, Quote(strings.TrimSuffix(f.What+" "+f.Where, " ")))
			continue
		}
		if shown++; shown > deepFindings {
			continue
		}
		f.head(b)
		n.context(b, f, false)
		value(b, x, f.A)
		value(b, y, f.B)
		n.context(b, f, true)
		if f.What != WhatText || shown <= dumpedLines {
			n.dump(b, f, x, y)
		}
	}
	if shown > deepFindings {
		fmt.Fprintf(b, "  … and %d more\n", shown-deepFindings)
	}
	if len(effects) > 0 {
		fmt.Fprintf(b, "  what follows: %s\n", list(effects))
	}
}

// contextLines and contextBytes bound what is shown around changed lines, before and after.
const contextLines, contextBytes = 2, 400

// context shows the lines around a changed one, from the side that has it.
func (n *Node) context(b *bufio.Writer, f *Finding, after bool) {
	if f.What != WhatText || len(f.Runs) == 0 || f.Outer || len(f.A)+len(f.B) > maxValue {
		return
	}
	w, text := A, f.A
	if text == "" {
		w, text = B, f.B
	}
	at := f.Runs[0].On(w).Offset
	head, err := n.Slice(w, Range{max(0, at-contextBytes), min(at, contextBytes)}, contextBytes)
	if err != nil {
		return
	}
	begin := at - int64(len(head)) + int64(bytes.LastIndexByte(head, '\n')+1) // of the line
	from, size := max(0, begin-contextBytes), min(begin, contextBytes)
	if after {
		from = begin + int64(len(text))
		size = min(contextBytes, max(0, n.Part(w).Size-from))
	}
	around, err := n.Slice(w, Range{from, size}, contextBytes)
	if err != nil || len(around) == 0 {
		return
	}
	lines := strings.Split(strings.TrimSuffix(string(around), "\n"), "\n")
	if after {
		lines = lines[:min(len(lines), contextLines)]
	} else {
		lines = lines[max(0, len(lines)-contextLines):]
	}
	for _, l := range lines {
		fmt.Fprintf(b, "      %s\n", Quote(l))
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
	raw, err := p.src.slice(from, max(0, to-from))
	if err != nil {
		return
	}
	for at := 0; at < len(raw); at += 16 {
		line := raw[at:min(at+16, len(raw))]
		fmt.Fprintf(b, "    %s %08x ", label, from+int64(at))
		for i, c := range line {
			off := from + int64(at+i)
			mark := byte(' ')
			switch {
			case off == r.Offset && r.Length > 0:
				mark = '['
			case off == r.End() && r.Length > 0 && i > 0: // else it stands behind the line above
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
