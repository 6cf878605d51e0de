package diff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"unicode/utf8"
)

// field is one value of a JSON document that differs.
type field struct {
	name string // "config.Env[2]"
	a, b string
}

// fields returns where two JSON documents differ, by name. Documents that
// differ in bytes alone (white space, order of keys, repeated keys) give none.
func fields(a, b []byte) ([]field, error) {
	left, err := flatten(a)
	if err != nil {
		return nil, err
	}
	right, err := flatten(b)
	if err != nil {
		return nil, err
	}
	var out []field
	for name, v := range left {
		if w, ok := right[name]; !ok || w != v {
			out = append(out, field{name, v, w})
		}
	}
	for name, w := range right {
		if _, ok := left[name]; !ok {
			out = append(out, field{name, "", w})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out, nil
}

// maxDepth bounds the nesting of a document; an image configuration nests five deep.
const maxDepth = 64

// flatten turns a document into its leaves by name.
func flatten(raw []byte) (map[string]string, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // a float would hide differences of long numbers
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	out := map[string]string{}
	return out, walk(out, "", v, 0)
}

func walk(out map[string]string, name string, v any, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			out[name] = "{}"
		}
		for k, e := range v {
			sub := k
			if name != "" {
				sub = name + "." + k
			}
			if err := walk(out, sub, e, depth+1); err != nil {
				return err
			}
		}
	case []any:
		if len(v) == 0 {
			out[name] = "[]"
		}
		for i, e := range v {
			if err := walk(out, name+"["+strconv.Itoa(i)+"]", e, depth+1); err != nil {
				return err
			}
		}
	case string:
		out[name] = strconv.Quote(v)
	default:
		out[name] = fmt.Sprint(v)
	}
	return nil
}

// maxShown bounds a value in a finding: two of them and their names fit on a few lines.
const maxShown = 200

// clip shortens a value to maxShown bytes, at a rune's border.
func clip(s string) string {
	if len(s) <= maxShown {
		return s
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "… (" + strconv.Itoa(len(s)) + " bytes)"
}
