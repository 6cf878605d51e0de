package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"quorate.dev/diff/cause"
)

// firstScreen is how many lines the text may have: what one sees without scrolling on a
// large terminal. What does not fit is counted and left to the other formats.
const firstScreen = 60

// Values of the text's layout: a line of these fits 120 columns.
const (
	valueWidth = 52
	pathWidth  = 72
	shownSides = 8
)

// Text writes at most firstScreen lines for a terminal; nothing at all when all sides are the same.
func Text(w io.Writer, r *cause.Report) error {
	if r.Same {
		return nil
	}
	head, foot := textHead(r), textFoot(r)
	room := firstScreen - len(head) - len(foot)
	lines := append(head, textBody(r, room)...)
	lines = append(lines, foot...)
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

func textHead(r *cause.Report) []string {
	first := headline(r)
	if r.Title != "" {
		first += "   " + visible(r.Title, 60)
	}
	lines := []string{first + "   " + built(r)}
	for i, s := range r.Sides {
		if i == shownSides {
			lines = append(lines, fmt.Sprintf("  … and %d more", len(r.Sides)-shownSides))
			break
		}
		lines = append(lines, fmt.Sprintf("  %-14s %s  %s", visible(s.Label, 60), short(s.Digest), letter(s.Class)))
	}
	lines = append(lines, "  => "+visible(r.Depends.Says, 200), "  "+inputsLine(r))
	lines = append(lines, textFirst(r)...)
	lines = append(lines, "  "+account(r), "")
	for i, c := range r.Inputs {
		if i == 6 {
			lines = append(lines, fmt.Sprintf("  … and %d more packages", len(r.Inputs)-6))
			break
		}
		lines = append(lines, fmt.Sprintf("  %s %s   %s | %s", c.What, visible(c.Name, 40), orNone(c.A), orNone(c.B)))
	}
	return lines
}

// shownPaths is how many paths of the first step a screen shows.
const shownPaths = 5

// textFirst names what the first step left otherwise. A second pair has mostly the same paths.
func textFirst(r *cause.Report) []string {
	if r.First == nil || len(r.First.Pairs) == 0 {
		return nil
	}
	pair := r.First.Pairs[0]
	lines := []string{"  " + visible(stepHead(r, pair), 400)}
	n := min(shownPaths, len(pair.Paths))
	width := 0
	for _, p := range pair.Paths[:n] {
		width = max(width, utf8.RuneCountInString(visible(p.Path, pathWidth)))
	}
	for _, p := range pair.Paths[:n] {
		lines = append(lines, fmt.Sprintf("    %-*s  %s", width, visible(p.Path, pathWidth), visible(stepWhat(r, pair, p), 100)))
	}
	if rest := stepRest(pair, n); rest != "" {
		lines = append(lines, "    "+rest)
	}
	return lines
}

// letter names a class of equal outputs.
func letter(class int) string {
	if class < 26 {
		return "output " + string(rune('A'+class))
	}
	return fmt.Sprintf("output %d", class)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return visible(s, 40)
}

// textBody writes causes as fully as the room allows: the first ones with evidence,
// later ones in one line, the rest counted.
func textBody(r *cause.Report, room int) []string {
	full := make([][]string, 0, len(r.Causes)+len(r.Unexplained))
	brief := make([]string, 0, cap(full))
	for _, k := range r.Causes {
		full, brief = append(full, textCause(r, k)), append(brief, causeLine(k))
	}
	for i := range r.Unexplained {
		full, brief = append(full, textUnexplained(&r.Unexplained[i])), append(brief, textUnexplained(&r.Unexplained[i])[0])
	}
	// All in one line each first; then the first ones grow while there is room.
	used := min(len(brief), room)
	grown := 0
	for grown < len(full) && used+len(full[grown])-1 <= room && len(brief) <= room {
		used += len(full[grown]) - 1
		grown++
	}
	var lines []string
	for i := range brief {
		switch {
		case i < grown:
			lines = append(lines, full[i]...)
		case len(lines) == room-1 && i < len(brief)-1:
			return append(lines, fmt.Sprintf("   … and %d more, in the other formats", len(brief)-i))
		default:
			lines = append(lines, brief[i])
		}
	}
	return lines
}

func causeLine(k *cause.Cause) string {
	line := fmt.Sprintf("%-2d %-44s %-9s %s", k.Number, k.Title, plural(k.Count(), "file"), sure(k))
	if m := made(k); m != "" {
		line += "   " + m
	}
	return line
}

func textCause(r *cause.Report, k *cause.Cause) []string {
	lines := []string{causeLine(k)}
	shown := map[string]bool{}
	for _, e := range k.Evidence {
		if len(shown) == 3 {
			break
		}
		if shown[e.Path] {
			continue // one of each file tells more than three of one
		}
		shown[e.Path] = true
		lines = append(lines, textEvidence(r, e)...)
	}
	if more := k.Count() - len(shown); more > 0 {
		lines = append(lines, fmt.Sprintf("   … and %s", plural(more, "more file")))
	}
	label := "proof: "
	if k.Proof != cause.Proven {
		label = "why:   "
	}
	lines = append(lines, "   "+label+visible(k.How, 110))
	if f := folded(k); f != "" {
		lines = append(lines, "   folded: "+visible(f, 100))
	}
	for i, l := range k.Mend.Lines {
		if i == 2 {
			break
		}
		label := "fix:   "
		if i > 0 {
			label = "       "
		}
		lines = append(lines, "   "+label+visible(l, 130))
	}
	if k.Confirm != "" {
		lines = append(lines, "   confirm: "+visible(k.Confirm, 100))
	}
	return lines
}

func textEvidence(r *cause.Report, e cause.Evidence) []string {
	fact := ""
	if e.Fact != "" {
		fact = "   " + visible(e.Fact, 70)
	}
	if len(e.A)+len(e.B) <= 44 {
		return []string{fmt.Sprintf("   %s   %s | %s%s", visible(place(e), pathWidth), visible(e.A, valueWidth), visible(e.B, valueWidth), fact)}
	}
	return []string{
		"   " + visible(place(e), pathWidth) + fact,
		fmt.Sprintf("     %-8s %s", sideName(r, e.Sides[0], "A"), visible(e.A, 2*valueWidth)),
		fmt.Sprintf("     %-8s %s", sideName(r, e.Sides[1], "B"), visible(e.B, 2*valueWidth)),
	}
}

// sideName is a side's short name, or a letter when its name is a long path.
func sideName(r *cause.Report, i int, letter string) string {
	if i < len(r.Sides) && len(r.Sides[i].Label) <= 12 {
		return visible(r.Sides[i].Label, 12)
	}
	return letter
}

func textUnexplained(u *cause.Unexplained) []string {
	where := u.Path
	if u.Inside != "" {
		where += " → " + u.Inside
	}
	line := fmt.Sprintf("?  UNEXPLAINED   %s   %s", visible(where, pathWidth), visible(u.What, 40))
	if u.Offset >= 0 {
		line += fmt.Sprintf("   %s of %s at 0x%x", plural(int(u.Bytes), "byte"), group(u.Of), u.Offset)
	}
	if u.Step != "" {
		line += "   step " + visible(u.Step, 60)
	}
	lines := []string{line}
	if u.A != "" || u.B != "" {
		lines = append(lines, fmt.Sprintf("     %s | %s", visible(u.A, valueWidth), visible(u.B, valueWidth)))
	}
	return lines
}

func textFoot(r *cause.Report) []string {
	var lines []string
	if p := predicted(r); p != "" {
		lines = append(lines, "", p)
	}
	for i, n := range r.Next {
		label := "next:  "
		if i > 0 {
			label = "       "
		}
		lines = append(lines, label+visible(n, 400))
	}
	return lines
}
