package sbom

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDeclared(t *testing.T) {
	mit := func(file string) Licence { return Licence{Expression: "MIT", Comment: "declared in " + file} }
	none := func(comment string) Licence { return Licence{Comment: comment} }
	for _, test := range []struct {
		summary string
		read    func([]byte) (Declared, error)
		text    string
		want    Declared
	}{
		{"npm: all of it", NPM, `{"license":"MIT","author":"Ann Other <ann@example.org> (https://ann.example.org)","homepage":"https://example.org","description":"does"}`,
			Declared{mit("package.json"), "Ann Other <ann@example.org>", "https://example.org", "does"}},
		{"npm: an author in fields", NPM, `{"license":"(MIT OR Apache-2.0)","author":{"name":"Ann","email":"ann@example.org"}}`,
			Declared{Licence: Licence{Expression: "(MIT OR Apache-2.0)", Comment: "declared in package.json"}, Supplier: "Ann <ann@example.org>"}},
		{"npm: an old object", NPM, `{"license":{"type":"MIT","url":"x"}}`, Declared{Licence: mit("package.json")}},
		{"npm: an old list", NPM, `{"licenses":[{"type":"MIT"}]}`, Declared{Licence: mit("package.json")}},
		{"npm: of several nobody says how", NPM, `{"licenses":[{"type":"MIT"},{"type":"ISC"}]}`, Declared{Licence: none("package.json declares no licence")}},
		{"npm: nothing", NPM, `{}`, Declared{Licence: none("package.json declares no licence")}},
		{"npm: words", NPM, `{"license":"SEE LICENSE IN LICENSE.txt"}`, Declared{Licence: none(`package.json says "SEE LICENSE IN LICENSE.txt", which is no SPDX licence expression`)}},
		{"npm: not for others", NPM, `{"license":"UNLICENSED"}`, Declared{Licence: none(`package.json says "UNLICENSED", which is no SPDX licence expression`)}},
		{"npm: fields of other types", NPM, `{"license":7,"author":[1],"homepage":{}}`, Declared{Licence: none("package.json declares no licence")}},
		{"Python: an expression", Python, "Metadata-Version: 2.4\nName: x\nSummary: does\nHome-page: https://example.org\nAuthor: Ann\nAuthor-email: ann@example.org\nLicense-Expression: MIT\n\nLong words: more\n",
			Declared{mit("METADATA"), "Ann <ann@example.org>", "https://example.org", "does"}},
		{"Python: the older field, when it is one", Python, "Name: x\nLicense: MIT\nAuthor-email: Ann <ann@example.org>\n\n", Declared{Licence: mit("METADATA"), Supplier: "Ann <ann@example.org>"}},
		{"Python: the older field in words", Python, "Name: x\nLicense: BSD\nAuthor: UNKNOWN\n\n", Declared{Licence: none(`METADATA says "BSD", which is no SPDX licence expression`)}},
		{"Python: a whole licence", Python, "Name: x\nLicense: Do as you like, and tell others that they may do so too, in the same words as these, which are\n        rather many\n\n",
			Declared{Licence: none(`METADATA says "Do as you like, and tell others that they may do so too, in the same words as these, which are rathe…", which is no SPDX licence expression`)}},
		{"Python: a bad expression", Python, "License-Expression: Whatever\nLicense: MIT\n\n", Declared{Licence: none(`METADATA says "Whatever", which is no SPDX licence expression`)}},
		{"cargo: with a slash", Crate, "[package]\nname = \"x\"\nlicense = \"MIT/Apache-2.0\"\ndescription = \"does\"\nauthors = [\"Ann <ann@example.org>\"]\n",
			Declared{Licence: Licence{Expression: "MIT OR Apache-2.0", Comment: "declared in Cargo.toml"}, Supplier: "Ann <ann@example.org>", Summary: "does"}},
		{"cargo: of a workspace", Crate, "[package]\nlicense.workspace = true\n", Declared{Licence: none("Cargo.toml declares no licence")}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			got, err := test.read([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for name, read := range map[string]func([]byte) (Declared, error){"{": NPM, "": Python, "[": Crate} {
		if _, err := read([]byte(name)); err == nil {
			t.Errorf("%q can be read", name)
		}
	}
}

func TestValidExpression(t *testing.T) {
	for s, want := range map[string]bool{
		"MIT": true, "GPL-2.0+": true, "MIT OR Apache-2.0": true, "(MIT AND (ISC OR Zlib))": true, "GPL-2.0-only WITH Classpath-exception-2.0": true,
		"Apache-2.0 WITH LLVM-exception OR MIT": true, "GPL-3.0": true,
		"": false, "mit": false, "MIT OR": false, "OR": false, "(MIT": false, "MIT)": false, "MIT ISC": false, "MIT or ISC": false, "GPL-2.0-only WITH MIT": false,
		"Classpath-exception-2.0": false, "LicenseRef-x": false, "MIT WITH": false, "WITH": false, "()": false, "#": false,
	} {
		if got := ValidExpression(s); got != want {
			t.Errorf("%q: %t", s, got)
		}
	}
}

// Whatever a package says, what comes of it is a licence expression that SPDX
// knows, or a reason why there is none.
func FuzzDeclared(f *testing.F) {
	for _, s := range []string{`{"license":"MIT"}`, `{"license":{"type":"("}}`, "License-Expression: MIT\n\n", "[package]\nlicense = \"MIT/ISC\"", "\xff: \xff\n", `{"author":{"name":"\u0000"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func([]byte) (Declared, error){NPM, Python, Crate} {
			d, err := read(data)
			if err != nil {
				continue
			}
			if l := d.Licence; l.Comment == "" || l.Expression != "" && !ValidExpression(l.Expression) || len(l.Texts) > 0 {
				t.Fatalf("%+v", l)
			}
		}
	})
}
