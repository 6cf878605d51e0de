package deb

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Get returns the value of a field, whose name is compared without case, or "".
func (p Paragraph) Get(name string) string {
	for _, f := range p {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// append writes the paragraph as a control file holds it, without the empty line behind.
func (p Paragraph) append(b []byte) []byte {
	for _, f := range p {
		b = append(b, f.Name...)
		b = append(b, ':')
		if f.Value != "" && f.Value[0] != '\n' {
			b = append(b, ' ')
		}
		b = append(b, f.Value...)
		b = append(b, '\n')
	}
	return b
}

// ParseParagraph reads one paragraph; line is the number of its first line, for errors.
func ParseParagraph(text []byte, line int) (Paragraph, error) {
	var p Paragraph
	for raw := range bytes.Lines(text) {
		s := strings.TrimRight(string(raw), " \t\r\n")
		switch {
		case s == "":
			return nil, fmt.Errorf("line %d: blank line inside of a paragraph", line)
		case s[0] == ' ' || s[0] == '\t':
			if len(p) == 0 {
				return nil, fmt.Errorf("line %d: continuation line without a field", line)
			}
			p[len(p)-1].Value += "\n" + s
		case s[0] == '#':
			return nil, fmt.Errorf("line %d: comment in a binary package's paragraph", line)
		default:
			name, value, ok := strings.Cut(s, ":")
			if !ok || !validFieldName(name) {
				return nil, fmt.Errorf("line %d: %.40q is not a field", line, s)
			}
			if p.has(name) {
				return nil, fmt.Errorf("line %d: field %q is there twice", line, name)
			}
			p = append(p, Field{name, strings.TrimLeft(value, " \t")})
		}
		if strings.ContainsRune(s, 0) {
			return nil, fmt.Errorf("line %d: NUL byte", line)
		}
		line++
	}
	return p, nil
}

func (p Paragraph) has(name string) bool {
	for _, f := range p {
		if strings.EqualFold(f.Name, name) {
			return true
		}
	}
	return false
}

// validFieldName follows deb822(5): printable ASCII without space and colon, not beginning with "#" or "-".
func validFieldName(s string) bool {
	if s == "" || s[0] == '#' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return true
}

// parseControl reads the control file of a package and checks the fields that everything else relies on.
func parseControl(text []byte) (Paragraph, error) {
	p, err := ParseParagraph(bytes.TrimRight(text, " \t\r\n"), 1)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		field string
		valid func(string) bool
	}{{"Package", validName}, {"Version", validVersion}, {"Architecture", validArch}} {
		switch v := p.Get(c.field); {
		case v == "":
			return nil, fmt.Errorf("field %q is missing", c.field)
		case !c.valid(v):
			return nil, fmt.Errorf("field %q has the invalid value %.60q", c.field, v)
		}
	}
	switch v := p.Get("Multi-Arch"); v {
	case "", "no", "same", "foreign", "allowed":
	default:
		return nil, fmt.Errorf(`field "Multi-Arch" has the invalid value %.60q`, v)
	}
	return p, nil
}

func isAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// validName follows Debian Policy 5.6.1 and, being part of file names, has an end.
func validName(s string) bool {
	if len(s) < 2 || len(s) > 128 || !isAlnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && !strings.ContainsRune("+-.", rune(s[i])) {
			return false
		}
	}
	return true
}

// validVersion follows Debian Policy 5.6.12.
func validVersion(s string) bool {
	rest := s
	if epoch, after, ok := strings.Cut(s, ":"); ok {
		if epoch == "" || strings.Trim(epoch, "0123456789") != "" {
			return false
		}
		rest = after
	}
	if rest == "" || len(s) > 256 || rest[0] < '0' || rest[0] > '9' {
		return false
	}
	for i := range len(rest) {
		c := rest[i]
		if !isAlnum(c) && !(c >= 'A' && c <= 'Z') && !strings.ContainsRune(".+-~:", rune(c)) {
			return false
		}
	}
	return true
}

func validArch(s string) bool {
	if len(s) > 64 || !isAlnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

// ParseStatus reads a dpkg status file: paragraphs with empty lines between them.
func ParseStatus(status []byte) ([]Paragraph, error) {
	var list []Paragraph
	err := eachStanza(status, func(text []byte, line int) error {
		p, err := ParseParagraph(text, line)
		if err == nil && p.Get("Package") == "" {
			err = fmt.Errorf("line %d: paragraph without a Package field", line)
		}
		list = append(list, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot parse dpkg status: %w", err)
	}
	return list, nil
}

// FilterStatus returns the paragraphs that keep wants, byte for byte.
func FilterStatus(status []byte, keep func(name, arch string) bool) ([]byte, error) {
	var out []byte
	err := eachStanza(status, func(text []byte, line int) error {
		p, err := ParseParagraph(text, line)
		if err != nil {
			return err
		}
		name := p.Get("Package")
		if name == "" {
			return fmt.Errorf("line %d: paragraph without a Package field", line)
		}
		if keep(name, p.Get("Architecture")) {
			out = append(append(out, text...), '\n')
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot parse dpkg status: %w", err)
	}
	return out, nil
}

// eachStanza calls f with each run of lines between empty ones, ended by "\n".
func eachStanza(text []byte, f func(text []byte, line int) error) error {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		return errors.New("last line is not ended")
	}
	start, pos, first, line := 0, 0, 1, 1
	for pos <= len(text) {
		end := bytes.IndexByte(text[pos:], '\n')
		if end == 0 || end < 0 {
			if pos > start {
				if err := f(text[start:pos], first); err != nil {
					return err
				}
			}
			start, first = pos+1, line+1
		}
		if end < 0 {
			return nil
		}
		pos += end + 1
		line++
	}
	return nil
}
