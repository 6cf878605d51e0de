package strictyaml

import (
	"fmt"
	"strings"
)

// AppendText appends text as a YAML scalar that stands anywhere, in flow lists
// and mappings too, and that every YAML reader takes for that text. It is
// plain when a simple rule of our own says so and double-quoted otherwise, so
// that no change of a YAML library changes our files.
func AppendText(b []byte, text string) []byte {
	if plain(text) {
		return append(b, text...)
	}
	b = append(b, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20 || r == 0x7f:
			b = fmt.Appendf(b, `\x%02X`, r)
		case r < 0x7f:
			b = append(b, byte(r))
		case r <= 0xffff:
			b = fmt.Appendf(b, `\u%04X`, r)
		default:
			b = fmt.Appendf(b, `\U%08X`, r)
		}
	}
	return append(b, '"')
}

// plain reports whether text may stand without quotes. Safe letters only, and
// nothing that YAML 1.1 or 1.2 resolves to a boolean, null, number or date:
// numbers and dates begin with a digit (signs and dots do not begin a plain
// text here) and have no letter but those of exponents and bases.
func plain(text string) bool {
	if text == "" || !isLetter(text[0]) && !isDigit(text[0]) && text[0] != '/' {
		return false
	}
	for i := 0; i < len(text); i++ {
		if c := text[i]; !isLetter(c) && !isDigit(c) && strings.IndexByte("._+~/-", c) < 0 {
			return false
		}
	}
	if isDigit(text[0]) {
		return !looksLikeNumber(text)
	}
	switch strings.ToLower(text) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	}
	return true
}

// looksLikeNumber knows more numbers than YAML does; those are then quoted
// without need, which harms nobody.
func looksLikeNumber(text string) bool {
	if len(text) > 1 && text[0] == '0' && strings.IndexByte("xXoObB", text[1]) >= 0 {
		return true
	}
	for i := 0; i < len(text); i++ {
		if isLetter(text[i]) && strings.IndexByte("eETZtz", text[i]) < 0 || text[i] == '/' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
