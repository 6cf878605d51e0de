// Package report shows a cause.Report: as text for a terminal, as JSON for
// programs, as Markdown for a pull request, as one HTML file for a browser.
//
// All four say the same in the same order: the verdict, what it depends on, the
// inputs, the causes by rank with their proof, evidence and mend, and then what nobody
// could explain. IDs and numbers are those of the report. The same report gives the
// same bytes.
//
// Values come from files that somebody else made: every writer makes control
// characters visible, so that none reaches a terminal, and escapes what its format
// would take for its own.
//
//	text.go      at most firstScreen lines
//	markdown.go  at most maxComment bytes
//	html.go      page.html, page.css and page.js in one file; treemap.go draws the map
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"quorate.dev/diff/cause"
)

// Formats are the names that Write takes.
var Formats = []string{"text", "json", "markdown", "html"}

// Write writes the report in a format. Errors: a format that is not one of Formats, and those of w.
func Write(w io.Writer, format string, r *cause.Report) error {
	switch format {
	case "text":
		return Text(w, r)
	case "json":
		return JSON(w, r)
	case "markdown":
		return Markdown(w, r)
	case "html":
		return HTML(w, r)
	}
	return fmt.Errorf("no report format %q: expected one of %s", format, strings.Join(Formats, ", "))
}

// JSON writes the report as it is, indented by two spaces.
func JSON(w io.Writer, r *cause.Report) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// visible makes control and other unprintable characters visible and cuts at most
// limit characters, with an ellipsis.
func visible(s string, limit int) string {
	var b strings.Builder
	n := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if n >= limit-1 && i+size < len(s) {
			b.WriteRune('…')
			break
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\t':
			b.WriteRune('⇥')
		case r == '\n':
			b.WriteRune('⏎')
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case !unicode.IsPrint(r): // other spaces, directions, controls
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += size
		n++
	}
	return b.String()
}

// place is where a piece of evidence lies, for people.
func place(e cause.Evidence) string {
	s := e.Path
	if e.Inside != "" {
		s += " → " + e.Inside
	}
	switch {
	case e.Where == "":
	case strings.HasPrefix(e.Where, "line "):
		s += ":" + strings.TrimPrefix(e.Where, "line ")
	case strings.HasPrefix(e.Where, "+"):
		s += e.Where
	default:
		s += "  " + e.Where
	}
	return s
}

func sure(k *cause.Cause) string {
	if k.Proof == cause.Proven {
		return "proven"
	}
	return fmt.Sprintf("likely (%.2g)", k.Confidence)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return group(int64(n)) + " " + noun + "s"
}

// group writes a number with commas: "16,571".
func group(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// share is a part in percent, never rounded up to all or down to none.
func share(part, of int64) string {
	if of <= 0 {
		return "0 %"
	}
	switch p := 100 * float64(part) / float64(of); {
	case part == of:
		return "100 %"
	case p > 99.999:
		return "99.999 %"
	case p > 99:
		return fmt.Sprintf("%.3f %%", p)
	case p < 0.1 && part > 0:
		return "under 0.1 %"
	default:
		return fmt.Sprintf("%.1f %%", p)
	}
}

func short(digest string) string {
	if algorithm, h, ok := strings.Cut(digest, ":"); ok && len(h) > 12 {
		return algorithm + ":" + h[:12]
	}
	return digest
}

// headline is the verdict in two words.
func headline(r *cause.Report) string {
	switch {
	case r.Same:
		return "IDENTICAL"
	case len(r.Inputs) > 0:
		return "INPUTS DIFFER"
	}
	return "NOT REPRODUCIBLE"
}

// built says what there was: "3 sides, 2 different images".
func built(r *cause.Report) string {
	return fmt.Sprintf("%s, %d different outputs", plural(len(r.Sides), "build"), len(r.Classes))
}

// account is the line of totals.
func account(r *cause.Report) string {
	t := r.Total
	s := fmt.Sprintf("%s of %s differ", plural(t.Differing, "file"), group(int64(t.Files)))
	if t.Differing == 1 {
		s += "s"
	}
	if len(r.Causes) > 0 {
		verb := "explain"
		if len(r.Causes) == 1 {
			verb = "explains"
		}
		s += fmt.Sprintf(". %s %s %s, %s of differing bytes", plural(len(r.Causes), "cause"), verb, plural(t.Explained, "file"), share(t.ExplainedBytes, t.Bytes))
	}
	switch n := t.Differing - t.Explained; {
	case n > 0:
		s += fmt.Sprintf(". %s unexplained", plural(n, "file"))
	case t.Differing > 0:
		s += ". Nothing is unexplained"
	}
	return s + "."
}

// inputsLine says what is known of inputs and tools.
func inputsLine(r *cause.Report) string {
	var parts []string
	switch {
	case len(r.Inputs) > 0:
		parts = append(parts, fmt.Sprintf("inputs: %s DIFFER", plural(len(r.Inputs), "package")))
	case r.InputsKnown && r.InputCount > 0:
		parts = append(parts, fmt.Sprintf("inputs: identical (%s locked)", group(int64(r.InputCount))))
	case r.InputsKnown:
		parts = append(parts, "inputs: identical (one lock)")
	default:
		parts = append(parts, "inputs: no list of packages differs")
	}
	if r.Toolchain != "" {
		parts = append(parts, "toolchain: "+r.Toolchain)
	}
	if f := r.First; f != nil {
		parts = append(parts, "first step that differs: "+visible(f.Says(), 200))
	}
	return strings.Join(parts, "   ")
}

// folded is the line of effects.
func folded(k *cause.Cause) string {
	var parts []string
	for _, f := range k.Folded {
		name, ok := effectNames[f.What]
		if !ok {
			name = visible(f.What, 40)
		}
		parts = append(parts, fmt.Sprintf("%s %s", group(int64(f.Count)), name))
	}
	return strings.Join(parts, ", ")
}

// effectNames are kinds of findings as people call what follows from others.
var effectNames = map[string]string{
	"checksum": "checksum(s)", "size": "size(s)", "padding": "padding", "bytes": "stretch(es) of code or data", "packed": "packed form(s)",
	"content": "content(s)", "elf.header": "program header field(s)", "elf.sections": "section offset(s) and size(s)", "elf.segments": "segment offset(s) and size(s)",
	"elf.address": "table(s) of addresses", "elf.symbol": "symbol(s)", "elf.buildid": "build-id(s)", "elf.debuglink": "debug link(s)", "string": "string(s)",
	"ar.symbols": "symbol index(es)", "zip.offset": "zip offset(s)", "oci.manifest": "manifest digest(s)", "oci.config": "config digest(s)", "oci.index": "index digest(s)",
}

// made says which step and line made a cause's files.
func made(k *cause.Cause) string {
	if k.Step == "" {
		return ""
	}
	s := "step " + visible(k.Step, 60)
	if k.Line != "" {
		s += " (run: " + visible(k.Line, 60) + ")"
	}
	if k.After != "" {
		s += ", which reads what " + visible(k.After, 60) + " left"
	}
	return s
}

// stepHead says of how many paths a pair knows that they differ after the first step, or why none is known.
func stepHead(r *cause.Report, p cause.StepPair) string {
	who := ""
	if len(r.First.Pairs) > 1 {
		who = fmt.Sprintf(" (%s | %s)", sideName(r, p.Sides[0], "A"), sideName(r, p.Sides[1], "B"))
	}
	switch {
	case p.Unknown != "":
		return fmt.Sprintf("which of its files differ is not known%s: %s", who, p.Unknown)
	case p.Differ == 1:
		return fmt.Sprintf("1 path of what it left differs%s:", who)
	}
	return fmt.Sprintf("%s of what it left differ%s:", plural(p.Differ, "path"), who)
}

// stepWhat says what differs at a path: "content, 17 | 18 bytes", "only local-1 has it, file of 17 bytes".
func stepWhat(r *cause.Report, pair cause.StepPair, p cause.StepPath) string {
	if p.A == nil || p.B == nil {
		side, letter, has := pair.Sides[0], "A", p.A
		if has == nil {
			side, letter, has = pair.Sides[1], "B", p.B
		}
		if has == nil {
			return ""
		}
		return fmt.Sprintf("only %s has it, %s", sideName(r, side, letter), stepEntry(has))
	}
	var parts []string
	for _, what := range p.What {
		switch what {
		case "type":
			parts = append(parts, fmt.Sprintf("%s | %s", stepEntry(p.A), stepEntry(p.B)))
		case "content":
			parts = append(parts, fmt.Sprintf("content, %s | %s bytes", group(p.A.Size), group(p.B.Size)))
		case "link":
			parts = append(parts, fmt.Sprintf("link to %s | %s", orNone(p.A.Link), orNone(p.B.Link)))
		case "mode":
			parts = append(parts, fmt.Sprintf("mode %s | %s", orNone(p.A.Mode), orNone(p.B.Mode)))
		case "owner":
			parts = append(parts, fmt.Sprintf("owner %s | %s", orNone(p.A.Owner), orNone(p.B.Owner)))
		default:
			parts = append(parts, what)
		}
	}
	return strings.Join(parts, "; ")
}

func stepEntry(e *cause.StepEntry) string {
	switch {
	case e.Type == "file":
		return fmt.Sprintf("file of %s bytes", group(e.Size))
	case e.Link != "":
		return fmt.Sprintf("%s to %s", e.Type, visible(e.Link, 40))
	}
	return e.Type
}

// stepRest says how many further paths differ after the first n.
func stepRest(p cause.StepPair, n int) string {
	if p.Differ <= n {
		return ""
	}
	return fmt.Sprintf("… and %s more", group(int64(p.Differ-n)))
}

// predicted is what remains when all is mended.
func predicted(r *cause.Report) string {
	n := len(r.Causes)
	if n == 0 {
		return ""
	}
	what := "1"
	if n > 1 {
		what = fmt.Sprintf("1-%d", n)
	}
	if len(r.Predicted) == 0 {
		return fmt.Sprintf("If you mend %s, no difference is predicted to remain.", what)
	}
	if len(r.Predicted) == 1 {
		return fmt.Sprintf("If you mend %s, the predicted remaining difference is %s only.", what, visible(r.Predicted[0], 80))
	}
	return fmt.Sprintf("If you mend %s, %s are predicted to differ still.", what, plural(len(r.Predicted), "file"))
}
