package strictyaml

import (
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

type pet struct {
	Name  string
	Legs  int64
	Tame  bool
	Kind  string
	Toys  []string
	Notes []Entry[string]
}

var petShape = Object(
	Required("name", "", Text(), func(p *pet, v string) { p.Name = v }),
	Default("legs", "", Integer(0, 1000), "4", func(p *pet, v int64) { p.Legs = v }),
	Optional("tame", "", Boolean(), func(p *pet, v bool) { p.Tame = v }),
	Optional("kind", "", Word("cat", "dog"), func(p *pet, v string) { p.Kind = v }),
	Optional("toys", "", NonEmpty(Unique("toy", Text(), func(s string) string { return s })), func(p *pet, v []string) { p.Toys = v }),
	Optional("notes", "", Dict("note", Text(), Text()), func(p *pet, v []Entry[string]) { p.Notes = v }),
)

func readPet(text string) (pet, error) {
	doc, err := Open("pet.yaml", []byte(text), Limits{Bytes: 4096, Depth: 5, Nodes: 40})
	if err != nil {
		return pet{}, err
	}
	p := Read(doc, petShape)
	return p, doc.Err()
}

func TestRead(t *testing.T) {
	got, err := readPet("name: Tom\ntame: true\nkind: cat\ntoys: [ball]\nnotes: {b: two, a: 'yes'}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := pet{Name: "Tom", Legs: 4, Tame: true, Kind: "cat", Toys: []string{"ball"}, Notes: []Entry[string]{{"a", "yes"}, {"b", "two"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestReadRefuses(t *testing.T) {
	deep := strings.Repeat("[", 6) + strings.Repeat("]", 6)
	tests := []struct{ summary, text, want string }{
		{"nothing", "", "1:1: the file is empty"},
		{"only a comment", "# hello\n", "1:1: the file is empty"},
		{"only a document mark", "---\n", "1:1: the file is empty"},
		{"a list", "- a\n", "1:1: the file must be a mapping with name, not a list"},
		{"too large", strings.Repeat("#", 4097), "1:1: the file has 4097 bytes; at most 4096 are read"},
		{"not text", "name: T\xffm\n", "1:8: the file is not UTF-8 text"},
		{"UTF-16", "\xff\xfen\x00", "1:1: the file is not UTF-8 text"},
		{"too deep", "name: " + deep + "\n", "1:11: nested more than 5 deep"},
		{"too many", "toys: [" + strings.Repeat("a,", 60) + "]\n", "1:82: more than 40 keys and values in one file"},
		{"two documents", "name: a\n---\nname: b\n", "2:1: a second YAML document begins here; one file holds one document"},
		{"anchor", "name: &x Tom\n", "1:7: an anchor (&x) is not allowed; write the value out where it is needed"},
		{"alias to nothing", "legs: 4\nname: *x\n", "2:1: not YAML: unknown anchor 'x' referenced"},
		{"merge key", "name: Tom\n<<: {legs: 3}\n", "2:1: a merge key (<<) is not allowed; write the fields out"},
		{"tag", "name: !!str Tom\n", "1:7: a tag (!!str) is not allowed"},
		{"own tag", "name: !tom Tom\n", "1:7: a tag (!tom) is not allowed"},
		{"tab", "name: Tom\nnotes:\n\ta: b\n", "3:1: not YAML: a tab cannot indent; use spaces"},
		{"open quote further down", "legs: 1\nname: \"Tom\nkind: cat\n", "2:1: not YAML: found unexpected end of stream"},
		{"open bracket", "name: Tom\ntoys: [ball\nkind: cat\n", "2:1: not YAML: did not find expected ',' or ']'"},
		{"open quote", "name: \"Tom\nkind: cat\n", "1:1: not YAML: found unexpected end of stream"},
		{"bad indent", "name: Tom\nnotes:\n  a: b\n c: d\n", "4:2: not YAML: did not find expected key"},
		{"two colons", "name: Tom: cat\n", "1:1: not YAML: mapping values are not allowed in this context"},
		{"boolean word", "name: yes\n", `1:7: name is text, but YAML reads yes as true or false; quote it: "yes"`},
		{"boolean", "name: true\n", `1:7: name is text, but YAML reads true as true or false; quote it: "true"`},
		{"number", "name: 1.0\n", `1:7: name is text, but YAML reads 1.0 as a number; quote it: "1.0"`},
		{"date", "name: 2026-11-01\n", `1:7: name is text, but YAML reads 2026-11-01 as a date; quote it: "2026-11-01"`},
		{"null", "name: ~\n", `1:7: name is text, but YAML reads ~ as nothing; quote it: "~"`},
		{"no value", "name:\n", "1:6: name must be text, not nothing"},
		{"NUL", "name: \"a\\0b\"\n", "1:7: name contains a NUL character"},
		{"list for text", "name: [Tom]\n", "1:7: name must be text, not a list"},
		{"text for number", "name: Tom\nlegs: four\n", `2:7: legs must be a number, not text "four"`},
		{"hexadecimal", "name: Tom\nlegs: 0x4\n", "2:7: legs must be a plain decimal number, not 0x4"},
		{"out of range", "name: Tom\nlegs: 1001\n", "2:7: legs must be from 0 to 1000, not 1001"},
		{"boolean word for boolean", "name: Tom\ntame: on\n", `2:7: tame must be true or false, not text "on"`},
		{"True", "name: Tom\ntame: True\n", "2:7: tame must be true or false, not True"},
		{"unknown word", "name: Tom\nkind: cta\n", `2:7: kind cannot be "cta", only "cat" or "dog"; did you mean "cat"?`},
		{"text for list", "name: Tom\ntoys: ball\n", `2:7: toys must be a list, not text "ball"; write [ball]`},
		{"empty list", "name: Tom\ntoys: []\n", "2:7: toys must not be empty"},
		{"twice in a list", "name: Tom\ntoys: [a, a]\n", `2:11: toy "a" is listed twice; first on line 2`},
		{"unknown field", "nam: Tom\nname: x\n", `1:1: unknown field "nam"; did you mean "name"?`},
		{"field twice", "name: Tom\nname: x\n", `2:1: duplicate field "name"; first on line 1`},
		{"key twice", "name: Tom\nnotes: {a: b, a: c}\n", `2:15: duplicate note "a" in notes; first on line 2`},
		{"boolean key", "name: Tom\nnotes: {on: b}\n", `2:9: notes.(note) is text, but YAML reads on as true or false; quote it: "on"`},
		{"list as key", "name: Tom\n[a]: b\n", "2:1: a field name must be text, not a list"},
		{"missing field", "legs: 3\n", `1:1: missing field "name"`},
	}
	for _, test := range tests {
		_, err := readPet(test.text)
		if err == nil {
			t.Errorf("%s: no error", test.summary)
			continue
		}
		first, _, _ := strings.Cut(err.Error(), "\n")
		if want := "pet.yaml:" + test.want; first != want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, first, want)
		}
	}
}

func TestErrorsShowAllInOrder(t *testing.T) {
	_, err := readPet("nam: Tom\nlegs: many\n")
	want := `pet.yaml:1:1: unknown field "nam"; did you mean "name"?
   1 | nam: Tom
     | ^
pet.yaml:1:1: missing field "name"
   1 | nam: Tom
     | ^
pet.yaml:2:7: legs must be a number, not text "many"
   2 | legs: many
     |       ^`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestExcerptIsSafe(t *testing.T) {
	e := &Error{File: "f", Line: 7, Column: 6, Message: "m", Source: "\ta\x1b[31m: b"}
	if want := "f:7:6: m\n   7 | \ta�[31m: b\n     | \t    ^"; e.Error() != want {
		t.Errorf("got %q, want %q", e.Error(), want)
	}
	long := &Error{File: "f", Line: 7, Column: 5001, Message: "m", Source: strings.Repeat("é", 10000)}
	if n := len([]rune(long.Error())); n > 400 {
		t.Errorf("a long line is shown with %d characters", n)
	}
	lines := strings.Split(long.Error(), "\n")
	if at := len([]rune(lines[2])); at > len([]rune(lines[1])) || !strings.HasSuffix(lines[2], "^") {
		t.Errorf("the caret stands at %d of\n%s", at, long)
	}
}

func TestSplitLinesCountsAsYAMLDoes(t *testing.T) {
	got := splitLines("a\nb\r\nc\rd\u0085e\u2028f\n")
	if want := []string{"a", "b", "c", "d", "e", "f", ""}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNearest(t *testing.T) {
	tests := []struct {
		summary, word string
		candidates    []string
		want          []string
	}{
		{"a letter too few", "pakages", []string{"packages", "platforms"}, []string{"packages"}},
		{"neighbours swapped", "bookwrom", []string{"trixie", "bookworm"}, []string{"bookworm"}},
		{"other case", "Name", []string{"name", "same"}, []string{"name"}},
		{"equally near", "gc", []string{"gcd", "gcc"}, []string{"gcc", "gcd"}},
		{"misspellings before longer names", "ngnix", []string{"nginx-core", "nginx", "nginx-full"}, []string{"nginx"}},
		{"the beginning of longer names", "default", []string{"default-libmysqlclient-dev", "default-mta", "dash", "default-jre-headless", "default-jre"}, []string{"default-jre", "default-mta", "default-jre-headless"}},
		{"nothing near", "systemd", []string{"nginx", "gcc"}, nil},
		{"itself is no suggestion", "gcc", []string{"gcc"}, nil},
		{"nothing", "", []string{"a"}, nil},
		{"very long", strings.Repeat("x", 200), []string{strings.Repeat("x", 199)}, nil},
		{"each once", "makee", []string{"make", "make"}, []string{"make"}},
	}
	for _, test := range tests {
		if got := Nearest(test.word, test.candidates); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: Nearest(%q) = %q, want %q", test.summary, test.word, got, test.want)
		}
	}
}

func TestAppendText(t *testing.T) {
	tests := []struct{ text, want string }{
		{"nginx-common", "nginx-common"},
		{"pool/main/a/adduser_3.134_all.deb", "pool/main/a/adduser_3.134_all.deb"},
		{"2.36-9+deb12u10", "2.36-9+deb12u10"},
		{"65d8aa", "65d8aa"},
		{"3.134", `"3.134"`},
		{"12e3", `"12e3"`},
		{"0x1f", `"0x1f"`},
		{"0b1", `"0b1"`},
		{"2026-11-01", `"2026-11-01"`},
		{"1:2.3", `"1:2.3"`},
		{"", `""`},
		{"No", `"No"`},
		{"null", `"null"`},
		{".inf", `".inf"`},
		{"-", `"-"`},
		{"a: b", `"a: b"`},
		{"say \"x\\\"", `"say \"x\\\""`},
		{"a\n\x7f\u00e9\U0001F600", `"a\x0A\x7F\u00E9\U0001F600"`},
	}
	for _, test := range tests {
		if got := string(AppendText(nil, test.text)); got != test.want {
			t.Errorf("AppendText(%q) = %s, want %s", test.text, got, test.want)
		}
	}
}

// Whatever text is written, in whatever place, YAML reads that text.
func TestAppendTextIsReadBack(t *testing.T) {
	word := rapid.OneOf(rapid.String(), rapid.StringMatching(`[0-9a-zA-Z.:_+~/-]{0,12}`), rapid.StringMatching(`[0-9.eExob:T-]{1,8}`))
	rapid.Check(t, func(t *rapid.T) {
		text := word.Draw(t, "text")
		quoted := string(AppendText(nil, text))
		for _, place := range []string{"k: " + quoted, "k: [" + quoted + "]", "k: {a: " + quoted + "}", "k: {" + quoted + ": a}"} {
			var n yaml.Node
			if err := yaml.Unmarshal([]byte(place+"\n"), &n); err != nil {
				t.Fatalf("%s: %v", place, err)
			}
			v := n.Content[0].Content[1]
			if v.Kind != yaml.ScalarNode {
				v = v.Content[len(v.Content)-1]
				if strings.HasSuffix(place, ": a}") {
					v = n.Content[0].Content[1].Content[0]
				}
			}
			if v.Value != text || v.Tag != "!!str" {
				t.Fatalf("%s: read %s %q", place, v.Tag, v.Value)
			}
		}
	})
}

func FuzzOpen(f *testing.F) {
	for _, seed := range []string{"", "a: b\n", "- [x, {y: z}]\n", "a: &x b\nc: *x\n", "a:\n\t- b", "\u2028a: |\n  b\r\rc", "? [a]\n: b\n", "%YAML 1.1\n---\na\n...\n", "a: \"\\x", "!!binary x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := Open("f", data, Limits{Bytes: 1 << 16, Depth: 20, Nodes: 1000})
		if err != nil {
			if len(err.Error()) == 0 {
				t.Fatal("an error without words")
			}
			return
		}
		Read(doc, petShape)
		if err := doc.Err(); err != nil {
			for _, e := range *err.(*Errors) {
				if e.Line < 1 || e.Line > len(doc.lines) || e.Column < 1 || e.Column > len([]rune(e.Source))+1 {
					t.Fatalf("the error is outside of the file: %d:%d in %q", e.Line, e.Column, data)
				}
			}
		}
	})
}
