package definition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// node is a JSON Schema as far as Schema uses it. Decoding refuses keywords
// that violations would not check.
type node struct {
	Schema, ID, Title, Description string
	Type, Pattern                  string
	AnyOf                          []*node
	Enum                           []any
	MinLength, MaxLength           *int
	Minimum, Maximum               *float64
	Items                          *node
	MinItems                       int
	UniqueItems                    bool
	Properties                     map[string]*node
	Required                       []string
	PropertyNames                  *node
	AdditionalProperties           json.RawMessage
	Default                        any
	Examples                       []any
}

func parsedSchema(t *testing.T) *node {
	// The two keywords that are no Go names.
	text := strings.NewReader(strings.NewReplacer(`"$schema"`, `"schema"`, `"$id"`, `"id"`).Replace(string(Schema())))
	d := json.NewDecoder(text)
	d.DisallowUnknownFields()
	n := new(node)
	if err := d.Decode(n); err != nil {
		t.Fatal(err)
	}
	return n
}

// violations is a tiny checker of JSON Schema: what v breaks, with places.
func violations(s *node, at string, v any) []string {
	bad := func(format string, args ...any) []string {
		return []string{at + ": " + fmt.Sprintf(format, args...)}
	}
	if len(s.AnyOf) > 0 {
		for _, one := range s.AnyOf {
			if violations(one, at, v) == nil {
				return nil
			}
		}
		return bad("%v is none of what it may be", v)
	}
	switch v := v.(type) {
	case string:
		if s.Type != "string" || s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) ||
			s.Enum != nil && !slices.Contains(s.Enum, any(v)) || s.MaxLength != nil && len([]rune(v)) > *s.MaxLength || s.MinLength != nil && v == "" {
			return bad("%q is not %s %s %v", v, s.Type, s.Pattern, s.Enum)
		}
	case bool:
		if s.Type != "boolean" {
			return bad("%v is not %s", v, s.Type)
		}
	case int:
		if s.Type != "integer" || s.Minimum != nil && float64(v) < *s.Minimum || s.Maximum != nil && float64(v) > *s.Maximum {
			return bad("%v is not %s", v, s.Type)
		}
	case []any:
		return listViolations(s, at, v)
	case map[string]any:
		return mappingViolations(s, at, v)
	default:
		return bad("%v (%T) is not %s", v, v, s.Type)
	}
	return nil
}

func listViolations(s *node, at string, v []any) (all []string) {
	if s.Type != "array" || len(v) < s.MinItems {
		return []string{at + ": is not " + s.Type}
	}
	for i, item := range v {
		all = append(all, violations(s.Items, fmt.Sprintf("%s[%d]", at, i), item)...)
	}
	return all
}

func mappingViolations(s *node, at string, v map[string]any) (all []string) {
	if s.Type != "object" {
		return []string{at + ": is not " + s.Type}
	}
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			all = append(all, at+": lacks "+name)
		}
	}
	for name, value := range v {
		below := at + "." + name
		property := s.Properties[name]
		if property == nil {
			if string(s.AdditionalProperties) == "false" {
				all = append(all, below+": unknown")
				continue
			}
			property = new(node)
			if err := json.Unmarshal(s.AdditionalProperties, property); err != nil {
				panic(err)
			}
			all = append(all, violations(s.PropertyNames, below, name)...)
		}
		all = append(all, violations(property, below, value)...)
	}
	return all
}

// asJSON reads YAML as an editor does, who sees text where we see a time.
func asJSON(t *testing.T, text string) any {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	var plainTimes func(*yaml.Node)
	plainTimes = func(n *yaml.Node) {
		if n.Tag == "!!timestamp" {
			n.Tag = "!!str"
		}
		for _, c := range n.Content {
			plainTimes(c)
		}
	}
	plainTimes(&n)
	var v any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSchemaAcceptsWhatParseAccepts(t *testing.T) {
	schema := parsedSchema(t)
	texts := []string{
		base, everyInput, withSources, minimal + "image: {}\n",
		minimal + "inputs: {debian: {suite: trixie, pockets: []}}\nimage: {packages: [a.b+c]}\n",
		minimal + "image: {config: {stop-signal: SIGRTMIN+3, ports: [1/sctp]}}\n",
		minimal + "inputs: {local: {all: {path: .}}}\nimage: {copy: [{from: all, to: /, mode: 0755}]}\n",
	}
	examples, err := filepath.Glob("../../examples/*/" + FileName)
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range examples {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	for _, text := range texts {
		if _, err := Parse("quorate.yaml", []byte(text)); err != nil {
			t.Errorf("%v", err)
		}
		if all := violations(schema, "", asJSON(t, text)); all != nil {
			t.Errorf("the schema refuses what Parse accepts: %v\n%s", all, text)
		}
	}
}

// Both must know the same fields: base, everyInput and withSources use every field of the schema, and a
// field that is too much in any mapping of base is unknown to both.
func TestSchemaAndParseKnowTheSameFields(t *testing.T) {
	schema := parsedSchema(t)
	want, got := map[string]bool{}, map[string]bool{}
	schemaFields(schema, "", want)
	valueFields(schema, asJSON(t, base), "", got)
	valueFields(schema, asJSON(t, everyInput), "", got)
	valueFields(schema, asJSON(t, withSources), "", got)
	if a, b := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)); !slices.Equal(a, b) {
		t.Errorf("the schema has fields\n%v\nthe texts use\n%v", a, b)
	}

	var root yaml.Node
	if err := yaml.Unmarshal([]byte(base), &root); err != nil {
		t.Fatal(err)
	}
	mappings := 0
	eachMapping(&root, func(n *yaml.Node) {
		mappings++
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "x-Unknown"}, &yaml.Node{Kind: yaml.MappingNode})
		defer func() { n.Content = n.Content[:len(n.Content)-2] }()
		text, err := yaml.Marshal(&root)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("quorate.yaml", text); err == nil {
			t.Errorf("Parse accepts a field too much:\n%s", text)
		}
		if violations(schema, "", asJSON(t, string(text))) == nil {
			t.Errorf("the schema accepts a field too much:\n%s", text)
		}
	})
	if mappings < 20 {
		t.Errorf("base has only %d mappings", mappings)
	}
}

func eachMapping(n *yaml.Node, visit func(*yaml.Node)) {
	for _, c := range n.Content {
		eachMapping(c, visit)
	}
	if n.Kind == yaml.MappingNode {
		visit(n)
	}
}

// schemaFields collects the paths of all fields, "*" for names of the user's.
func schemaFields(s *node, at string, all map[string]bool) {
	for name, p := range s.Properties {
		all[at+"."+name] = true
		schemaFields(p, at+"."+name, all)
	}
	if s.Items != nil {
		schemaFields(s.Items, at+"[]", all)
	}
	if p := new(node); s.AdditionalProperties != nil && json.Unmarshal(s.AdditionalProperties, p) == nil {
		schemaFields(p, at+".*", all)
	}
}

func valueFields(s *node, v any, at string, all map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			valueFields(s.Items, item, at+"[]", all)
		}
	case map[string]any:
		for name, value := range v {
			if p := s.Properties[name]; p != nil {
				all[at+"."+name] = true
				valueFields(p, value, at+"."+name, all)
			} else if p := new(node); json.Unmarshal(s.AdditionalProperties, p) == nil {
				valueFields(p, value, at+".*", all)
			}
		}
	}
}

// Mistakes that a schema can express are mistakes to the schema too.
func TestSchemaRefuses(t *testing.T) {
	schema := parsedSchema(t)
	for _, test := range []struct{ old, new string }{
		{"quorate/v1", "quorate/v2"}, {"name: greeter", "name: Greeter"}, {"linux/amd64", "linux/amd46"}, {"suite: bookworm", "suite: sid"},
		{"to: /logo", "to: logo"}, {`"10:20"`, `"app:app"`}, {"processes: 100", "processes: 0"}, {"512MiB", "512MB"}, {"[gcc,", "[Gcc,"},
		{"53/udp", "53/dns"}, {"scripts: none", "scripts: dpgk"}, {"unpack: true", `unpack: "true"`}, {"run: echo", `run: ""`}, {", to: /logo", ""},
		{"http://localhost:8080/font", "ftp://localhost/font"}, {"uid: 1000", "uid: 65535"}, {"uid: 1000", "uid: 1.5"}, {"[main, contrib]", "[]"},
	} {
		text := strings.Replace(base, test.old, test.new, 1)
		if _, err := Parse("quorate.yaml", []byte(text)); err == nil || text == base {
			t.Errorf("Parse accepts %q", test.new)
		}
		if violations(schema, "", asJSON(t, text)) == nil {
			t.Errorf("the schema accepts %q", test.new)
		}
	}
}

func TestSchemaIsDescribedAndStable(t *testing.T) {
	if !bytes.Equal(Schema(), Schema()) {
		t.Error("two schemas differ")
	}
	schema := parsedSchema(t)
	if schema.Schema != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("dialect is %q", schema.Schema)
	}
	var check func(n *node, at string)
	check = func(n *node, at string) {
		for name, p := range n.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s is not described", at, name)
			}
			check(p, at+"."+name)
		}
		if n.Items != nil {
			check(n.Items, at+"[]")
		}
	}
	check(schema, "")
	if d := schema.Properties["inputs"].Properties["debian"].Properties["pockets"].Default; fmt.Sprint(d) != "[updates security]" {
		t.Errorf("pockets have default %v", d)
	}
}

// Whatever is accepted is sound: names are names and paths stay inside.
func FuzzParse(f *testing.F) {
	f.Add([]byte(base))
	f.Add([]byte(minimal + "image: {}\n"))
	f.Add([]byte(minimal + "inputs: {local: {a: {path: ../x}}}\nimage: {copy: [{from: a, to: /}]}\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse("f", data)
		if err != nil {
			return
		}
		if !nameExp.MatchString(d.Name) || len(d.Platforms) == 0 || d.Image.Scripts == "" || d.Image.Layers == "" || d.Epoch.FromCommit != d.Epoch.Time.IsZero() {
			t.Fatalf("accepted %+v", d)
		}
		for _, l := range d.Inputs.Local {
			if l.Path == "" || l.Path[0] == '/' || strings.Contains(l.Path, "..") && hasDotDot(l.Path) {
				t.Fatalf("accepted path %q", l.Path)
			}
		}
		for _, c := range d.Image.Copy {
			if !strings.HasPrefix(c.To, "/") || hasDotDot(c.To) || !strings.HasPrefix(c.Path, "/") || c.Mode&^0o777 != 0 || c.Owner == "" {
				t.Fatalf("accepted copy %+v", c)
			}
		}
	})
}
