package report

import (
	"fmt"
	"io"
	"strings"

	"quorate.dev/diff/cause"
)

// maxComment is how many bytes the Markdown may have: GitHub takes comments of 65,536 characters.
const maxComment = 60_000

// evidenceShown is how many pairs of values a comment shows for a cause.
const evidenceShown = 5

// Markdown writes the report as a comment for a pull request.
func Markdown(w io.Writer, r *cause.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s", headline(r))
	if r.Title != "" {
		fmt.Fprintf(&b, ": %s", md(r.Title, 80))
	}
	if r.Same {
		fmt.Fprintf(&b, "\n\n%s gave the same bytes.\n", plural(len(r.Sides), "build"))
		_, err := io.WriteString(w, b.String())
		return err
	}
	fmt.Fprintf(&b, "\n\n**%s**; %s. %s\n\n", md(capital(r.Depends.Says), 200), built(r), md(inputsLine(r), 300))
	b.WriteString("| build | output | |\n|---|---|---|\n")
	for _, s := range r.Sides {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", md(s.Label, 60), code(short(s.Digest), 80), letter(s.Class))
	}
	fmt.Fprintf(&b, "\n%s\n\n", account(r))
	markdownFirst(&b, r)
	for i, c := range r.Inputs {
		if i == 50 {
			fmt.Fprintf(&b, "- … and %d more\n", len(r.Inputs)-50)
			break
		}
		fmt.Fprintf(&b, "- %s %s: %s → %s\n", c.What, code(c.Name, 60), code(orNone(c.A), 60), code(orNone(c.B), 60))
	}
	if len(r.Causes) > 0 {
		b.WriteString("\n| # | cause | files | proof | made by |\n|--:|---|--:|---|---|\n")
		for _, k := range r.Causes {
			fmt.Fprintf(&b, "| %d | %s | %d | %s | %s |\n", k.Number, md(k.Title, 80), k.Count(), sure(k), md(made(k), 130))
		}
		b.WriteString("\n")
	}
	left := 0
	for _, k := range r.Causes {
		section := markdownCause(r, k)
		if b.Len()+len(section) > maxComment-8_000 {
			left++
			continue
		}
		b.WriteString(section)
	}
	if left > 0 {
		fmt.Fprintf(&b, "… and %s in report.html.\n\n", plural(left, "more cause"))
	}
	markdownUnexplained(&b, r)
	if p := predicted(r); p != "" {
		fmt.Fprintf(&b, "\n%s\n", md(p, 200))
	}
	for _, n := range r.Next {
		fmt.Fprintf(&b, "\nNext: %s\n", code(n, 200))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// pathsShown is how many paths of the first step a comment shows for a pair, of two pairs at most.
const pathsShown = 20

func markdownFirst(b *strings.Builder, r *cause.Report) {
	if r.First == nil {
		return
	}
	for i, pair := range r.First.Pairs {
		if i == 2 {
			fmt.Fprintf(b, "… and %s of builds in report.html.\n\n", plural(len(r.First.Pairs)-i, "more pair"))
			break
		}
		fmt.Fprintf(b, "First step that differs, %s: %s\n\n", md(r.First.Says(), 100), md(stepHead(r, pair), 300))
		n := min(pathsShown, len(pair.Paths))
		for _, p := range pair.Paths[:n] {
			fmt.Fprintf(b, "- %s: %s\n", code(p.Path, 160), md(stepWhat(r, pair, p), 200))
		}
		if rest := stepRest(pair, n); rest != "" {
			fmt.Fprintf(b, "- %s\n", rest)
		}
		b.WriteString("\n")
	}
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func markdownCause(r *cause.Report, k *cause.Cause) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<details><summary><b>%d %s</b>, %s, %s</summary>\n\n", k.Number, md(k.Title, 80), plural(k.Count(), "file"), sure(k))
	for i, e := range k.Evidence {
		if i == evidenceShown {
			fmt.Fprintf(&b, "- … and %d more places\n", k.Sites-evidenceShown)
			break
		}
		fmt.Fprintf(&b, "- %s", code(place(e), 160))
		if e.Fact != "" {
			fmt.Fprintf(&b, " (%s)", md(e.Fact, 100))
		}
		fmt.Fprintf(&b, "\n  - %s: %s\n  - %s: %s\n", md(sideName(r, e.Sides[0], "A"), 20), code(e.A, 200), md(sideName(r, e.Sides[1], "B"), 20), code(e.B, 200))
	}
	word := "Proof"
	if k.Proof != cause.Proven {
		word = "Why"
	}
	fmt.Fprintf(&b, "\n%s: %s\n", word, md(k.How, 300))
	if f := folded(k); f != "" {
		fmt.Fprintf(&b, "\nFolded: %s\n", md(f, 300))
	}
	fmt.Fprintf(&b, "\nFix:\n\n```\n%s\n```\n", strings.ReplaceAll(visibleLines(k.Mend.Lines), "```", "'''"))
	if k.Confirm != "" {
		fmt.Fprintf(&b, "\nConfirm: %s\n", code(k.Confirm, 200))
	}
	b.WriteString("\n</details>\n\n")
	return b.String()
}

func visibleLines(lines []string) string {
	var out []string
	for _, l := range lines {
		out = append(out, visible(l, 300))
	}
	return strings.Join(out, "\n")
}

func markdownUnexplained(b *strings.Builder, r *cause.Report) {
	if len(r.Unexplained) == 0 {
		return
	}
	fmt.Fprintf(b, "### Unexplained: %s\n\n", plural(len(r.Unexplained), "file"))
	for i, u := range r.Unexplained {
		if i == 30 || b.Len() > maxComment-1_000 {
			fmt.Fprintf(b, "- … and %d more\n", len(r.Unexplained)-i)
			break
		}
		where := u.Path
		if u.Inside != "" {
			where += " → " + u.Inside
		}
		fmt.Fprintf(b, "- %s: %s", code(where, 160), md(u.What, 60))
		if u.Offset >= 0 {
			fmt.Fprintf(b, ", %s of %s at 0x%x", plural(int(u.Bytes), "byte"), group(u.Of), u.Offset)
		}
		if u.Step != "" {
			fmt.Fprintf(b, ", step %s", md(u.Step, 60))
		}
		b.WriteString("\n")
	}
}

// md escapes what Markdown and HTML would take for their own.
var mdEscapes = strings.NewReplacer("\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "<", "&lt;", ">", "&gt;", "&", "&amp;", "|", "\\|", "#", "\\#", "~", "\\~", "@", "@\u2060")

func md(s string, limit int) string { return mdEscapes.Replace(visible(s, limit)) }

// code is a code span; backquotes within become apostrophes, for spans cannot hold them safely,
// and a bar would end a table's cell.
func code(s string, limit int) string {
	s = strings.ReplaceAll(strings.ReplaceAll(visible(s, limit), "`", "'"), "|", "¦")
	if strings.TrimSpace(s) == "" {
		return "(empty)"
	}
	return "`" + s + "`"
}
