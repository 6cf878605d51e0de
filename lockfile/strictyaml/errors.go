package strictyaml

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is one mistake at one place of a file.
type Error struct {
	File    string // as given to Open
	Line    int    // from 1
	Column  int    // in characters, from 1
	Message string
	Source  string // text of the line, without its end
}

// Error shows the place, the message, the line and a caret under the column:
//
//	quorate.yaml:12:3: unknown field "pakages" in image; did you mean "packages"?
//	  12 |   pakages: [nginx]
//	     |   ^
func (e *Error) Error() string {
	head := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
	source, caret := excerpt(e.Source, e.Column)
	if strings.TrimSpace(source) == "" {
		return head
	}
	return fmt.Sprintf("%s\n%4d | %s\n     | %s^", head, e.Line, source, caret)
}

// excerptWidth is how much of a line is shown: two usual terminal widths, so
// that a line of a megabyte does not fill the screen.
const excerptWidth = 160

// excerpt returns the part of a line around the column, made safe for a
// terminal, and the blanks that stand before the caret.
func excerpt(line string, column int) (shown, blanks string) {
	start := 0 // in characters
	if column > excerptWidth {
		start = column - excerptWidth/2
	}
	var s, b strings.Builder
	n := 0
	for _, r := range line {
		n++
		if n <= start {
			continue
		}
		if n > start+excerptWidth {
			s.WriteString("…")
			break
		}
		switch {
		case r == '\t':
		case !unicode.IsPrint(r): // escape sequences of hostile files stay text
			r = '�'
		}
		s.WriteRune(r)
		if n < column {
			if r != '\t' {
				r = ' '
			}
			b.WriteRune(r)
		}
	}
	if start > 0 {
		return "…" + s.String(), " " + b.String()
	}
	return s.String(), b.String()
}

// Errors is every mistake of a file, in the file's order; never empty.
type Errors []*Error

func (e *Errors) Error() string {
	all := make([]string, len(*e))
	for i, one := range *e {
		all[i] = one.Error()
	}
	return strings.Join(all, "\n")
}

// Unwrap lets errors.As find the single mistakes.
func (e *Errors) Unwrap() []error {
	all := make([]error, len(*e))
	for i, one := range *e {
		all[i] = one
	}
	return all
}

// clip shortens text from a file for a message.
func clip(s string) string {
	const most = 80 // one line of a terminal
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// Quote is %q with long text shortened, for messages about what a file says.
func Quote(s string) string { return fmt.Sprintf("%q", clip(s)) }

// splitLines divides text where yaml.v3 counts lines: at LF, CR LF, CR, NEL,
// LS and PS (YAML 1.1, b-char). It always returns at least one line.
func splitLines(text string) []string {
	var lines []string
	start := 0
	for i := 0; i < len(text); {
		if c := text[i]; c != '\n' && c != '\r' && c < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == '\r' && strings.HasPrefix(text[i:], "\r\n") {
			size = 2
		}
		if r == '\n' || r == '\r' || r == '\u0085' || r == '\u2028' || r == '\u2029' {
			lines = append(lines, text[start:i])
			start = i + size
		}
		i += size
	}
	return append(lines, text[start:])
}
