package diff

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Write writes the comparison as plain text, the same bytes for the same
// comparison. Names from the images are quoted when they hold anything that a
// terminal might obey.
func (c *OldComparison) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "A  %s\n", Quote(c.A.Path))
	for _, d := range c.A.Manifests {
		fmt.Fprintf(b, "   %s\n", d)
	}
	fmt.Fprintf(b, "B  %s\n", Quote(c.B.Path))
	for _, d := range c.B.Manifests {
		fmt.Fprintf(b, "   %s\n", d)
	}
	if c.Same() {
		fmt.Fprintln(b, "\nno difference")
		return b.Flush()
	}
	paths := len(c.Paths())
	fmt.Fprintf(b, "\n%s in %s\n", plural(len(c.Findings), "difference"), plural(paths, "path"))
	last := ""
	for _, f := range c.Findings {
		if where := f.where(); where != last {
			fmt.Fprintf(b, "\n%s\n", where)
			last = where
		}
		fmt.Fprintf(b, "  %s", f.What)
		if f.Offset >= 0 {
			fmt.Fprintf(b, " from byte %d", f.Offset)
		}
		fmt.Fprintf(b, "\n    A %s\n    B %s\n", value(f.A), value(f.B))
	}
	return b.Flush()
}

// where is the heading that a finding stands under.
func (f OldFinding) where() string {
	var parts []string
	if f.Path != "" {
		parts = append(parts, Quote(f.Path))
	}
	switch {
	case f.Layer >= 0:
		parts = append(parts, "layer "+strconv.Itoa(f.Layer))
	case f.Platform == "":
		parts = append(parts, "index")
	default:
		parts = append(parts, "image")
	}
	if f.Platform != "" {
		parts = append(parts, Quote(f.Platform))
	}
	return strings.Join(parts, ", ")
}

func value(s string) string {
	if s == "" {
		return "-"
	}
	return Quote(s)
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

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
