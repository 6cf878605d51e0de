package attestation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// parseTree reads one JSON value whole. It refuses what two readers may
// understand differently: repeated names (also if they differ only in case,
// which Go's decoder would take for one another), bytes that are not UTF-8, and
// anything after the value; and what nests deeper than maxDepth.
func parseTree(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, refuse("it is not UTF-8 text")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	tree, err := parseValue(dec, 0)
	if err != nil {
		var known *StatementError
		if errors.As(err, &known) {
			return nil, err
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, refuse("it is not JSON: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, refuse("it has more than one JSON value")
	}
	return tree, nil
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, refuse("it nests more than %d deep", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return parseObject(dec, depth)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := parseValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	}
	return token, nil
}

func parseObject(dec *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	folded := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, fmt.Errorf("unexpected %v where a name belongs", token)
		}
		fold := strings.ToLower(name)
		if folded[fold] {
			return nil, refuse("it names %.64q twice", name)
		}
		folded[fold] = true
		if object[name], err = parseValue(dec, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return object, err
}

// canonical writes a tree as RFC 8785 does: no blanks, names sorted by UTF-16
// code units, shortest escapes. Numbers must be integers that a double holds
// exactly, so that every reader has the same ones.
func canonical(tree any) ([]byte, error) {
	return appendCanonical(nil, tree)
}

func appendCanonical(b []byte, tree any) ([]byte, error) {
	switch v := tree.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return appendString(b, v), nil
	case json.Number:
		return appendNumber(b, v)
	case []any:
		return appendList(b, v)
	case map[string]any:
		return appendObject(b, v)
	}
	return nil, fmt.Errorf("%T is no JSON value", tree)
}

func appendList(b []byte, list []any) ([]byte, error) {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendCanonical(b, v); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendObject(b []byte, object map[string]any) ([]byte, error) {
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
	})
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		var err error
		if b, err = appendCanonical(b, object[name]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendNumber(b []byte, n json.Number) ([]byte, error) {
	const most = 1 << 53 // largest integer below which a double has them all
	v, err := n.Int64()
	if err != nil || v >= most || v <= -most || strconv.FormatInt(v, 10) != n.String() {
		return nil, refuse("number %.64s is not a plain integer below 2^53", n)
	}
	return strconv.AppendInt(b, v, 10), nil
}

func appendString(b []byte, s string) []byte {
	const short = "\b\t\n\f\r\"\\"
	const letters = "btnfr\"\\"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch at := strings.IndexByte(short, c); {
		case at >= 0:
			b = append(b, '\\', letters[at])
		case c < 0x20:
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// decode reads JSON into v strictly: v must be able to say everything that
// the JSON says. What is written again from v has to be the same JSON but for
// blanks and order, so that no field is unknown, empty where it may be absent,
// or spelled in another case.
func decode(data []byte, tree any, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return refuse("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	again, err := encode(v)
	if err != nil {
		return err
	}
	was, err := canonical(tree)
	if err != nil {
		return err
	}
	if !bytes.Equal(was, again) {
		return refuse("it has a field that is null, empty or spelled in another case; expected %.64q…", differing(was, again))
	}
	return nil
}

// differing returns what stands in b from a little before the first difference.
func differing(a, b []byte) []byte {
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	return b[max(0, at-24):]
}

// encode writes v as canonical JSON.
func encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot encode: %w", err)
	}
	tree, err := parseTree(data)
	if err != nil {
		return nil, err
	}
	return canonical(tree)
}

// field walks a tree by names; nil when there is none.
func field(tree any, names ...string) any {
	for _, name := range names {
		object, ok := tree.(map[string]any)
		if !ok {
			return nil
		}
		tree = object[name]
	}
	return tree
}
