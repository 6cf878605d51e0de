package diff

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	// Of a value the text shows so many lines and bytes: both sides of a finding stay on one screen.
	shownLines, shownBytes = 6, 400
	// maxShown bounds the findings that the text shows for one path, maxListed the bytes of all of them:
	// nobody reads more, and programs read JSON.
	maxShown, maxListed = 40, 90 << 10
)

// WriteText writes the result as plain text, the same bytes for the same result.
// Names from the images are quoted when they hold anything that a terminal might obey.
// show chooses what is shown (nil: all); the counts are of everything.
func (r *Result) WriteText(w io.Writer, show func(*Node, *Finding) bool) error {
	b := &listing{Writer: bufio.NewWriter(w)}
	for i, s := range r.Sides {
		fmt.Fprintf(b, "%s  %s  (%s)  %s\n", r.label(i), Quote(s.Name), s.Kind, s.Digest)
		for _, d := range s.Images {
			fmt.Fprintf(b, "   image %s\n", d)
		}
	}
	if r.Same() {
		fmt.Fprintln(b, "\nno difference")
		return b.Flush()
	}
	if len(r.Sides) > 2 {
		fmt.Fprintf(b, "\n%s of equal outputs:\n", plural(len(r.Classes), "class", "classes"))
		for _, c := range r.Classes {
			var names []string
			for _, i := range c {
				names = append(names, r.label(i))
			}
			fmt.Fprintf(b, "   %s\n", strings.Join(names, " = "))
		}
	}
	for _, c := range r.Pairs {
		c.write(b, r.label(c.A), r.label(c.B), show)
	}
	return b.Flush()
}

// listing counts what was written.
type listing struct {
	*bufio.Writer
	bytes int
}

func (l *listing) Write(p []byte) (int, error) {
	l.bytes += len(p)
	return l.Writer.Write(p)
}

// label names a side: A, B, C … and numbers beyond.
func (r *Result) label(i int) string {
	if i < 26 {
		return string(rune('A' + i))
	}
	return strconv.Itoa(i + 1)
}

func (c *Comparison) write(b *listing, x, y string, show func(*Node, *Finding) bool) {
	t := c.Total
	fmt.Fprintf(b, "\n%s and %s: %s in %s of %d; %s\n", x, y, plural(t.Findings, "difference", "differences"),
		plural(t.Differing, "path", "paths"), t.Files, plural(int(t.Bytes), "differing byte", "differing bytes"))
	hidden, effects, beyond := 0, 0, 0
	c.Root.Walk(func(n *Node) bool {
		shown := 0
		for i := range n.Findings {
			f := &n.Findings[i]
			if show != nil && !show(n, f) {
				hidden++
				continue
			}
			if f.Effect {
				effects++
				continue
			}
			if b.bytes > maxListed {
				beyond++
				continue
			}
			if shown == 0 {
				fmt.Fprintf(b, "\n%s%s\n", heading(n), n.size())
			}
			if shown++; shown <= maxShown {
				f.write(b, x, y)
			}
		}
		if shown > maxShown {
			fmt.Fprintf(b, "  … and %d more\n", shown-maxShown)
		}
		return true
	})
	if beyond > 0 {
		fmt.Fprintf(b, "\n%s not listed, for there are so many\n", plural(beyond, "further difference is", "further differences are"))
	}
	if effects > 0 {
		fmt.Fprintf(b, "\n%s: sizes, offsets, checksums, digests, packed forms\n", plural(effects, "further difference follows from these", "further differences follow from these"))
	}
	if hidden > 0 {
		fmt.Fprintf(b, "\n%s not shown\n", plural(hidden, "difference is", "differences are"))
	}
}

func heading(n *Node) string {
	s := Quote(n.Path())
	if s == "" {
		s = "image"
	}
	if n.B != nil && n.B.Name != "" {
		s += " | " + Quote(n.B.Name)
	}
	return s
}

// size says how much of a node differs.
func (n *Node) size() string {
	a, b := n.Account.A, n.Account.B
	if a.Differing+b.Differing == 0 {
		return ""
	}
	return fmt.Sprintf("   %d of %d | %d of %d bytes", a.Differing, a.Size, b.Differing, b.Size)
}

func (f *Finding) write(b io.Writer, x, y string) {
	f.head(b)
	value(b, x, f.A)
	value(b, y, f.B)
}

// head says what differs and where, and what is known besides.
func (f *Finding) head(b io.Writer) {
	fmt.Fprintf(b, "  %s", f.What)
	if f.Where != "" {
		fmt.Fprintf(b, " %s", Quote(f.Where))
	}
	switch {
	case f.Line != [2]int{}:
		fmt.Fprintf(b, " line %s | %s", position(f, A), position(f, B))
	case len(f.Runs) > 0 && !f.Outer:
		fmt.Fprintf(b, " at %#x | %#x", f.Runs[0].A.Offset, f.Runs[0].B.Offset)
	}
	if f.More > 0 {
		fmt.Fprintf(b, ", and %d more", f.More)
	}
	fmt.Fprintln(b)
	if f.Note != "" {
		fmt.Fprintf(b, "    %s\n", Quote(f.Note))
	}
}

// position is a line, with its column where that is known; "-" where the side has none.
func position(f *Finding, w Which) string {
	switch {
	case f.Line[w] == 0:
		return "-"
	case f.Column[w] == 0:
		return strconv.Itoa(f.Line[w])
	}
	return fmt.Sprintf("%d:%d", f.Line[w], f.Column[w])
}

// value writes one side's value, one line of it a line.
func value(b io.Writer, label, v string) {
	if v == "" {
		fmt.Fprintf(b, "    %s -\n", label)
		return
	}
	cut := len(v) > shownBytes
	if cut {
		v = strings.ToValidUTF8(v[:shownBytes], "")
	}
	lines := strings.Split(strings.TrimSuffix(v, "\n"), "\n")
	if len(lines) > shownLines {
		lines, cut = lines[:shownLines], true
	}
	for i, l := range lines {
		if i == len(lines)-1 && cut {
			l += " …"
		}
		fmt.Fprintf(b, "    %s %s\n", label, Quote(l))
	}
}

// Quote returns a name or value as it is when every character of it prints, and in
// Go's quotes otherwise, so that no image can move the cursor of who reads about it.
func Quote(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == '\uFFFD' {
			return strconv.Quote(s)
		}
	}
	return s
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
