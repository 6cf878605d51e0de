package report

import (
	"crypto/sha256"
	_ "embed" // for the page's parts
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"

	"quorate.dev/diff/cause"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

// firstEvidence is how many pairs of values are open at once; the rest unfolds.
const firstEvidence = 3

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"place":     func(e cause.Evidence) string { return visible(place(e), 400) },
	"visible":   func(s string) string { return visible(s, 600) },
	"sure":      sure,
	"proven":    func(k *cause.Cause) bool { return k.Proof == cause.Proven },
	"plural":    plural,
	"short":     short,
	"letter":    letter,
	"folded":    folded,
	"made":      made,
	"hue":       hue,
	"group":     group,
	"hex":       func(n int64) string { return fmt.Sprintf("0x%x", n) },
	"pairs":     pairs,
	"marks":     func(e cause.Evidence) [2][]piece { return mark(visible(e.A, 600), visible(e.B, 600)) },
	"name":      func(r *cause.Report, i int, l string) string { return sideName(r, i, l) },
	"limit":     func(n int, s []string) []string { return s[:min(n, len(s))] },
	"more":      func(n int, s []string) int { return max(0, len(s)-n) },
	"none":      orNone,
	"factLines": factLines,
	"stepHead":  func(r *cause.Report, p cause.StepPair) string { return visible(stepHead(r, p), 400) },
	"stepWhat": func(r *cause.Report, p cause.StepPair, one cause.StepPath) string {
		return visible(stepWhat(r, p, one), 400)
	},
	"stepPaths": func(p cause.StepPair, open bool) []cause.StepPath { return stepPaths(p, open) },
	"stepRest":  func(p cause.StepPair) string { return stepRest(p, len(p.Paths)) },
	"dict":      func(r *cause.Report, e cause.Evidence) map[string]any { return map[string]any{"R": r, "E": e} },
}).Parse(pageHTML))

// HTML writes one file that needs nothing else: no network, no fonts, no frame.
// Its policy allows the one script by digest and forbids all loading.
func HTML(w io.Writer, r *cause.Report) error {
	broad, err := treemap(r.Areas, wideMap)
	if err != nil {
		return err
	}
	tall, err := treemap(r.Areas, tallMap)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(pageJS))
	return page.Execute(w, map[string]any{
		"R": r, "Headline": headline(r), "Built": built(r), "Account": account(r), "Inputs": inputsLine(r), "Predicted": predicted(r),
		"Map": broad + tall, "Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		"CSS": template.CSS(pageCSS), "JS": template.JS(pageJS), //nolint:gosec // our own files
	})
}

// pairs divides evidence into what is open at once and the rest.
func pairs(k *cause.Cause, open bool) []cause.Evidence {
	n := min(firstEvidence, len(k.Evidence))
	if open {
		return k.Evidence[:n]
	}
	return k.Evidence[n:]
}

// openPaths is how many paths of the first step are shown at once; the rest unfolds.
const openPaths = 20

// stepPaths divides what differs after the first step into what is open at once and the rest.
func stepPaths(p cause.StepPair, open bool) []cause.StepPath {
	n := min(openPaths, len(p.Paths))
	if open {
		return p.Paths[:n]
	}
	return p.Paths[n:]
}

// piece is a stretch of a value; changed ones are marked.
type piece struct {
	Text    string
	Changed bool
}

// mark finds what changed between two values: words kept in order are equal, the rest is changed.
func mark(a, b string) [2][]piece {
	x, y := words(a), words(b)
	best := make([][]int16, len(x)+1)
	for i := range best {
		best[i] = make([]int16, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				best[i][j] = best[i+1][j+1] + 1
			} else {
				best[i][j] = max(best[i+1][j], best[i][j+1])
			}
		}
	}
	var out [2][]piece
	add := func(side int, text string, changed bool) {
		list := out[side]
		if n := len(list); n > 0 && list[n-1].Changed == changed {
			list[n-1].Text += text
			return
		}
		out[side] = append(list, piece{text, changed})
	}
	i, j := 0, 0
	for i < len(x) || j < len(y) {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			add(0, x[i], false)
			add(1, y[j], false)
			i, j = i+1, j+1
		case j == len(y) || i < len(x) && best[i+1][j] >= best[i][j+1]:
			add(0, x[i], true)
			i++
		default:
			add(1, y[j], true)
			j++
		}
	}
	return out
}

// words cuts a text at every change between letters or digits and other characters.
func words(s string) []string {
	var out []string
	start := 0
	kind := func(r rune) int {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
			return 1
		}
		return 0
	}
	last := -1
	for i, r := range s {
		if k := kind(r); i > 0 && (k != last || k == 0) {
			out = append(out, s[start:i])
			start = i
		}
		last = kind(r)
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}

// factLine is one fact of the hosts, side by side.
type factLine struct {
	Name   string
	Values []string
	Same   bool
}

// factLines are the hosts' facts as a table, differing ones first.
func factLines(r *cause.Report) []factLine {
	var differ, same []factLine
	for _, name := range factNames(r) {
		l := factLine{Name: name, Same: true}
		for i, s := range r.Sides {
			l.Values = append(l.Values, visible(s.Facts[name], 120))
			l.Same = l.Same && (i == 0 || s.Facts[name] == r.Sides[0].Facts[name])
		}
		if l.Same {
			same = append(same, l)
		} else {
			differ = append(differ, l)
		}
	}
	return append(differ, same...)
}

func factNames(r *cause.Report) []string {
	seen := map[string]bool{}
	var names []string
	for _, s := range r.Sides {
		for name := range s.Facts {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}
