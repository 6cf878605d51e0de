package cause

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// whole judges two texts as wholes, where that says more than their lines do:
// permuted lines, permuted keys, keys and certificates, half a file.
func (p *pair) whole(name string, a, b []byte) ([]claim, bool) {
	lines, permuted := p.sameLines(a, b)
	if permuted && lines.entry == "16-locale" {
		return []claim{lines}, true
	}
	if keys, lists, ok := sameJSON(a, b); ok {
		c := claim{entry: "7-hash-order", confidence: 1, fact: "the same keys and values in another order", a: clip(firstDiff(a, b)), b: clip(firstDiff(b, a))}
		if !keys && p.areFiles(lists) {
			c.entry, c.fact = "6-file-order", "lists of the same names in another order; "+inTree
		}
		return []claim{c}, true
	}
	if permuted {
		return []claim{lines}, true
	}
	if list, ok := p.listing(splitLines(a), splitLines(b)); ok {
		return list, true
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

// maxJSON bounds the texts that are parsed twice to compare their meaning.
const maxJSON = 2 << 20

// sameJSON reports whether two documents say the same, keys and lists of strings in any order; whether keys are in
// another order, and which strings of lists are.
func sameJSON(a, b []byte) (keys bool, lists []string, ok bool) {
	trim := bytes.TrimSpace(a)
	if len(a) > maxJSON || len(b) > maxJSON || len(trim) == 0 || trim[0] != '{' && trim[0] != '[' || nested(a) || nested(b) {
		return false, nil, false
	}
	x, ok1 := decoded(a)
	y, ok2 := decoded(b)
	if !ok1 || !ok2 {
		return false, nil, false
	}
	lists = movedStrings(x, y)
	u, err1 := json.Marshal(sortSets(x)) // objects come sorted by key
	v, err2 := json.Marshal(sortSets(y))
	return !slices.Equal(keysIn(a), keysIn(b)), lists, err1 == nil && err2 == nil && bytes.Equal(u, v)
}

// movedStrings are strings in lists of x that stand at another place in the same list of y.
func movedStrings(x, y any) (out []string) {
	switch x := x.(type) {
	case map[string]any:
		if y, ok := y.(map[string]any); ok {
			for _, k := range slices.Sorted(maps.Keys(x)) {
				out = append(out, movedStrings(x[k], y[k])...)
			}
		}
	case []any:
		y, ok := y.([]any)
		for i := range x {
			if !ok || i >= len(y) {
				break
			}
			if s, ok := x[i].(string); ok && x[i] != y[i] {
				out = append(out, s)
			}
			out = append(out, movedStrings(x[i], y[i])...)
		}
	}
	return out
}

// keysIn are the keys of a document, as they stand.
func keysIn(b []byte) (out []string) {
	d := json.NewDecoder(bytes.NewReader(b))
	type open struct{ object, value bool } // value: a key was read, what it stands for comes next
	var stack []open
	for {
		t, err := d.Token()
		if err != nil {
			return out
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			stack = append(stack, open{object: t == json.Delim('{')})
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		}
		if len(stack) == 0 {
			continue
		}
		top := &stack[len(stack)-1]
		if key, ok := t.(string); ok && top.object && !top.value {
			out = append(out, key)
			top.value = true
			continue
		}
		top.value = false
	}
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

func decoded(b []byte) (any, bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err == nil
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
