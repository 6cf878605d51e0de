package cause

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// whole judges two texts as wholes, where that says more than their lines do:
// permuted lines, permuted keys, keys and certificates, half a file.
func (p *pair) whole(name string, a, b []byte) ([]claim, bool) {
	if list, ok := sameLines(a, b); ok {
		return []claim{list}, true
	}
	if sameJSON(a, b) {
		return []claim{{entry: "7-hash-order", confidence: 1, fact: "the same keys and values in another order", a: clip(firstDiff(a, b)), b: clip(firstDiff(b, a))}}, true
	}
	if pem.Match(a) && pem.Match(b) && !bytes.Equal(a, b) {
		return []claim{{entry: "22-random", confidence: 0.9, fact: "keys or certificates", a: "a key or certificate", b: "another",
			why: "made anew by each build; a locked input could also have changed", confirm: "quorate rebuild --rebuilders 3"}}, true
	}
	return nil, false
}

var pem = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*(?:PRIVATE KEY|CERTIFICATE|PUBLIC KEY|DH PARAMETERS)-----|^(?:ssh-(?:ed25519|rsa|dss)|ecdsa-sha2-\S+) AAAA`)

func splitLines(b []byte) []string {
	s := strings.TrimSuffix(string(b), "\n")
	return strings.Split(s, "\n")
}

var (
	fileLine = regexp.MustCompile(`^(?:[0-9a-f]{32,128}  ?\*?)?[^\s=:]*(?:/|\.[A-Za-z0-9]{1,8}$|\.so\.)[^\s=]*$|^[^\s=:]+$`)
	pathLine = regexp.MustCompile(`/|\.[A-Za-z0-9]{1,8}$`)
	keyLine  = regexp.MustCompile(`^\s*["']?[\w.-]+["']?\s*[=:]`)
)

// sameLines judges two texts of equal lines in another order.
func sameLines(a, b []byte) (claim, bool) {
	x, y := splitLines(a), splitLines(b)
	if len(x) != len(y) || len(x) < 2 || slices.Equal(x, y) {
		return claim{}, false
	}
	sx, sy := slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	if !slices.Equal(sx, sy) {
		return claim{}, false
	}
	c := claim{confidence: 1, a: firstLines(x, y), b: firstLines(y, x)}
	files, paths, keys := 0, 0, 0
	for _, l := range x {
		switch {
		case keyLine.MatchString(l):
			keys++
		case fileLine.MatchString(l):
			files++
			if pathLine.MatchString(l) {
				paths++
			}
		}
	}
	byLocale := slices.Equal(x, sx) && slices.IsSortedFunc(y, collate) || slices.Equal(y, sx) && slices.IsSortedFunc(x, collate)
	switch {
	case byLocale:
		c.entry, c.fact = "16-locale", "the same lines, sorted by bytes on one side and by a locale's rules on the other"
	case files*10 >= len(x)*9 && paths*2 >= len(x):
		c.entry, c.fact = "6-file-order", "the same names in another order"
		if !slices.Equal(x, sx) && !slices.Equal(y, sx) {
			c.fact += ", sorted on neither side"
		}
	case keys*10 >= len(x)*9:
		c.entry, c.fact = "7-hash-order", "the same keys and values in another order"
	default:
		c.entry, c.fact, c.confidence = "7-hash-order", "the same lines in another order", 0.7
		c.why = "the lines are no names of files, so a hash or set is likelier than the file system; jobs run in parallel could do it too"
		c.confirm = "run the step twice on one host with one CPU"
	}
	return c, true
}

// collate compares as locales do in the first place: letters without case,
// punctuation not at all, lower case first among equals.
func collate(a, b string) int {
	strip := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < 0x80 && !word(byte(r)) {
				return -1
			}
			return r
		}, strings.ToLower(s))
	}
	return strings.Compare(strip(a), strip(b))
}

func firstLines(x, y []string) string {
	for i := range x {
		if x[i] != y[i] {
			return clip(strings.Join(x[i:min(i+3, len(x))], " ⏎ "))
		}
	}
	return ""
}

// maxJSON bounds the texts that are parsed twice to compare their meaning.
const maxJSON = 2 << 20

func sameJSON(a, b []byte) bool {
	trim := bytes.TrimSpace(a)
	if len(a) > maxJSON || len(b) > maxJSON || len(trim) == 0 || trim[0] != '{' && trim[0] != '[' || nested(a) || nested(b) {
		return false
	}
	x, ok1 := canonical(a)
	y, ok2 := canonical(b)
	return ok1 && ok2 && bytes.Equal(x, y)
}

// maxDepth of JSON: no configuration is deeper, and each level costs a stack frame.
const maxDepth = 200

func nested(b []byte) bool {
	depth := 0
	for _, c := range b {
		switch c {
		case '{', '[':
			if depth++; depth > maxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

func canonical(b []byte) ([]byte, bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, false
	}
	out, err := json.Marshal(sortSets(v)) // objects come sorted by key
	return out, err == nil
}

// sortSets sorts lists of plain strings, which sets become.
func sortSets(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = sortSets(v[k])
		}
	case []any:
		plain := true
		for i := range v {
			v[i] = sortSets(v[i])
			_, s := v[i].(string)
			plain = plain && s
		}
		if plain {
			slices.SortFunc(v, func(x, y any) int { return strings.Compare(x.(string), y.(string)) })
		}
	}
	return v
}

func firstDiff(a, b []byte) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	i = max(0, i-8)
	return string(a[i:min(len(a), i+80)])
}

// beginning judges a text that is the first part of the other.
func beginning(a, b []byte) (claim, bool) {
	short, long := a, b
	if len(short) > len(long) {
		short, long = b, a
	}
	if len(short) == len(long) || !bytes.HasPrefix(long, short) {
		return claim{}, false
	}
	return claim{entry: "36-race", confidence: 0.6, fact: "one side is the beginning of the other",
		why:     "a file cut short looks like a step that did not wait for another; a list with more entries could too",
		confirm: "make -j1 in the step"}, true
}

// clip shortens a value for people and makes it one line.
func clip(s string) string {
	s = strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", " ⏎ ")
	if len(s) > maxValue {
		cut := maxValue
		for cut > 0 && s[cut]&0xC0 == 0x80 {
			cut--
		}
		s = s[:cut] + "…"
	}
	return s
}
