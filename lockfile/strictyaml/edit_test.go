package strictyaml

import (
	"strings"
	"testing"
)

const edited = `# who
version: 7   # raised by hand

people:
  - name: "a"      # first
    key: keys/a.pub # hers

    valid:
      from: 2026-01-01
      # until when?
      until: 2027-01-01
    note: 'it''s'
  - {name: b, key: "k\"}.pub", valid: {until: 2027-01-01}, more: [x, "]"]}
  - {name: ü, key: c.pub}
flow: [1, 2]
none: []
`

func TestEdit(t *testing.T) {
	for _, test := range []struct {
		summary  string
		change   func(e *Edit) error
		old, new string // of the whole file
	}{
		{"a number", func(e *Edit) error { return e.Set("version", "8", "") }, "version: 7 ", "version: 8 "},
		{"a plain text in a block", func(e *Edit) error { return e.Set("key", "new.pub", "", "people", 0) }, "keys/a.pub #", "new.pub #"},
		{"a quoted text in brackets", func(e *Edit) error { return e.Set("key", "new.pub", "", "people", 1) }, `"k\"}.pub"`, "new.pub"},
		{"after what is not ASCII", func(e *Edit) error { return e.Set("key", "new.pub", "", "people", 2) }, "key: c.pub", "key: new.pub"},
		{"a mapping in a block", func(e *Edit) error { return e.Set("valid", "{from: 2020-01-01}", "", "people", 0) },
			"from: 2026-01-01\n      # until when?\n      until: 2027-01-01\n", "{from: 2020-01-01}\n"},
		{"a new field in a block", func(e *Edit) error { return e.Set("revoked", "{at: 2026-01-01}", "key", "people", 0) },
			"# hers\n", "# hers\n    revoked: {at: 2026-01-01}\n"},
		{"a new field behind a block", func(e *Edit) error { return e.Set("x", "1", "valid", "people", 0) }, "until: 2027-01-01\n    note", "until: 2027-01-01\n    x: 1\n    note"},
		{"a new field in brackets", func(e *Edit) error { return e.Set("x", "1", "key", "people", 1) }, `.pub", valid`, `.pub", x: 1, valid`},
		{"a new field at the top", func(e *Edit) error { return e.Set("x", "1", "version") }, "by hand\n", "by hand\nx: 1\n"},
		{"a field less in brackets", func(e *Edit) error { return e.Remove("valid", "people", 1) }, `, valid: {until: 2027-01-01}`, ""},
		{"the last field less in brackets", func(e *Edit) error { return e.Remove("more", "people", 1) }, `, more: [x, "]"]`, ""},
		{"a field less in a block", func(e *Edit) error { return e.Remove("note", "people", 0) }, "    note: 'it''s'\n", ""},
		{"a mapping less in a block", func(e *Edit) error { return e.Remove("valid", "people", 0) },
			"    valid:\n      from: 2026-01-01\n      # until when?\n      until: 2027-01-01\n", ""},
		{"nothing to take out", func(e *Edit) error { return e.Remove("x", "people", 0) }, "", ""},
		{"an item more", func(e *Edit) error { return e.Append("people", "{name: d}") }, "c.pub}\n", "c.pub}\n  - {name: d}\n"},
		{"an item more in brackets", func(e *Edit) error { return e.Append("flow", "3") }, "1, 2", "1, 2, 3"},
		{"the first item", func(e *Edit) error { return e.Append("none", "3") }, "[]", "[3]"},
		{"a list more", func(e *Edit) error { return e.Append("others", "{name: d}") }, "none: []\n", "none: []\nothers:\n  - {name: d}\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			e, err := NewEdit("f", []byte(edited), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if err := test.change(e); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(edited, test.old) {
				t.Fatalf("%q is not in the file", test.old)
			}
			want := edited
			switch {
			case strings.Contains(test.summary, "mapping in a block") && test.new != "":
				want = strings.Replace(edited, "valid:\n      "+test.old, "valid:\n      "+test.new, 1)
			case test.old != "":
				want = strings.Replace(edited, test.old, test.new, 1)
			}
			if got := string(e.Bytes()); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestEditText(t *testing.T) {
	e, err := NewEdit("f", []byte(edited), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for want, path := range map[string][]any{
		`"k\"}.pub"`: {"people", 1, "key"}, "{until: 2027-01-01}": {"people", 1, "valid"}, "'it''s'": {"people", 0, "note"}, "": {"people", 2, "valid"},
		"c.pub": {"people", 2, "key"},
	} {
		if got, err := e.Text(path...); err != nil || got != want {
			t.Errorf("%v: got %q, %v, want %q", path, got, err, want)
		}
	}
}

func TestEditRefuses(t *testing.T) {
	e, err := NewEdit("f", []byte("a:\n  b: |\n    text\n  c: 1\n"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func() error{
		`cannot edit "f": line 2 has text of several lines`:             func() error { return e.Set("b", "x", "", "a") },
		`cannot edit "f": there is no mapping to set "x" in`:            func() error { return e.Set("x", "1", "", "z") },
		`cannot edit "f": there is no field "y" to put "x" after`:       func() error { return e.Set("x", "1", "y", "a") },
		`cannot edit "f": "b" is the first field, and is not taken out`: func() error { return e.Remove("b", "a") },
		`cannot edit "f": "a" is not a list`:                            func() error { return e.Append("a", "1") },
	} {
		if err := change(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := e.Set("c", "{", "", "a"); err == nil || !strings.HasPrefix(err.Error(), `cannot edit "f": after the change it would not be YAML any more: `) {
		t.Errorf("what breaks the file is written: %v", err)
	}
}

// Whatever the file, an edit ends, and leaves YAML.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(edited))
	f.Add([]byte("{people: [{name: a, key: 'b'}], version: 1}"))
	f.Add([]byte("people:\n- name: a\n  key: b # c\nversion: 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := NewEdit("f", data, Limits{Bytes: 1 << 16, Depth: 20, Nodes: 1000})
		if err != nil {
			return
		}
		for _, change := range []func() error{
			func() error { return e.Set("version", "8", "people") },
			func() error { return e.Set("key", "x", "name", "people", 0) },
			func() error { return e.Remove("key", "people", 0) },
			func() error { return e.Append("people", "{name: z}") },
		} {
			if change() != nil {
				continue
			}
			if _, err := Open("f", e.Bytes(), e.limits); err != nil {
				t.Fatalf("%v\n%s", err, e.Bytes())
			}
		}
	})
}
