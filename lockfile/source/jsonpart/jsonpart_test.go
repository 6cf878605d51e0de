package jsonpart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// told is what the visits of a document tell: names, and what an array "list" has.
func told(text string) (string, error) {
	r := New(strings.NewReader(text), 4<<10)
	var got []string
	err := r.Object(func(name string) error {
		got = append(got, name)
		if name != "list" {
			return r.Skip()
		}
		return r.Array(func() error {
			var v any
			err := r.Decode(&v)
			got = append(got, fmt.Sprint(v))
			return err
		})
	})
	return strings.Join(got, " | "), err
}

func TestRead(t *testing.T) {
	for _, test := range []struct{ summary, text, want, err string }{
		{"nothing in it", ` { } `, "", "<nil>"},
		{"null", `null`, "", "<nil>"},
		{"names and values", `{"a":1, "b" : [[],{"c":"]}"}], "d":null}`, "a | b | d", "<nil>"},
		{"what is decoded", `{"list": [ 1.5e+3,{"x":"\""},[], "]" ,true]}`, `list | 1.5e+3 | map[x:"] | [] | ] | true`, "<nil>"},
		{"an empty list", `{"list":[]}`, "list", "<nil>"},
		{"no list", `{"list":null}`, "list", "<nil>"},
		{"names that are escaped", `{"l\u0069st":[0],"\\":1}`, `list | 0 | \`, "<nil>"},
		{"more behind it", `{"a":1}}}`, "a", "<nil>"},
		{"an array where an object is wanted", `[]`, "", `"[" is where an object should be`},
		{"an object where an array is wanted", `{"list":{}}`, "list", `"{" is where an array should be`},
		{"a text where an array is wanted", `{"list":"` + strings.Repeat("x", 1000) + `"}`, "list", `"` + strings.Repeat("x", 100) + `" is where an array should be`},
		{"no comma", `{"a":1 "b":2}`, "a", "invalid character '\"' after object key:value pair"},
		{"no name", `{1:2}`, "", "invalid character '1'"},
		{"nothing", ``, "", "unexpected EOF"},
		{"the end too early", `{"a":`, "a", "unexpected EOF"},
		{"the end too early in a list", `{"list":[1`, "list | 1", "unexpected EOF"},
		{"an end for nothing", `{"a":]`, "a", "invalid character ']' looking for beginning of value"},
		{"many long values", `{"list":[` + strings.Repeat(`"`+strings.Repeat("x", 1000)+`",`, 1000) + `0]}`, "list" + strings.Repeat(" | "+strings.Repeat("x", 1000), 1000) + " | 0", "<nil>"},
		{"a long value", `{"list":["` + strings.Repeat("x", 64<<10), "list | <nil>", "one value in it has more than 4096 bytes"},
		{"a long value that nobody wants", `{"a":"` + strings.Repeat("x", 64<<10), "a", "one value in it has more than 4096 bytes"},
		{"a long name", `{"` + strings.Repeat("x", 64<<10), "", "one value in it has more than 4096 bytes"},
		{"deep", `{"a":` + strings.Repeat("[", 10_001), "a", "it is nested deeper than 10000"},
	} {
		got, err := told(test.text)
		if got != test.want || fmt.Sprint(err) != test.err {
			t.Errorf("%s: got  %.200q, %v\nwant %.200q, %s", test.summary, got, err, test.want, test.err)
		}
	}
}

// What the underlying reader says is told as it is.
func TestBrokenLine(t *testing.T) {
	gone := errors.New("the line is gone")
	r := New(io.MultiReader(strings.NewReader(`{"a": [1, 2`), &failing{gone}), 100)
	if err := r.Object(func(string) error { return r.Skip() }); err != gone {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// Whatever encoding/json reads whole can be passed over, visited and decoded.
func FuzzRead(f *testing.F) {
	for _, text := range []string{`{}`, ` [1,2.5e-3,"\"\\",null,{"a":[true,false]}] `, `"x"`, `{"a":{"b":[]}}`, `{"a":1,}`, `[`, "\x00"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		read := func() *Reader { return New(bytes.NewReader(text), len(text)+1) }
		n := 0
		skipped, visited := read().Skip(), error(nil)
		for _, visit := range []func(r *Reader) error{
			func(r *Reader) error { return r.Object(func(string) error { n++; return r.Skip() }) },
			func(r *Reader) error { return r.Array(func() error { n++; return r.Decode(new(any)) }) },
		} {
			visited = errors.Join(visited, visit(read()))
		}
		if !json.Valid(text) {
			return
		}
		if skipped != nil {
			t.Fatalf("%q: %v", text, skipped)
		}
		var object map[string]any
		var array []any
		if json.Unmarshal(text, &object) != nil && json.Unmarshal(text, &array) != nil {
			return
		}
		if n < len(object)+len(array) || visited == nil && string(bytes.TrimSpace(text)) != "null" {
			t.Fatalf("%q: %d visits, %v", text, n, visited)
		}
	})
}
