package sbom

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
	"sync"

	"github.com/BurntSushi/toml"
)

// Declared is what a package of an ecosystem says of itself in the file that its
// installer reads.
type Declared struct {
	Licence  Licence
	Supplier string // "Name <address>"
	Homepage string
	Summary  string
}

// MaxManifest is the largest such file that is read; the largest of the 800
// packages of npm's own dependencies has 30 kB, a README in Python's METADATA up to 1 MB.
const MaxManifest = 8 << 20

// DeclaredLicence is an SPDX licence expression that file holds, or why there is none.
func DeclaredLicence(file, expression string) Licence {
	expression = strings.TrimSpace(expression)
	switch {
	case expression == "":
		return Licence{Comment: file + " declares no licence"}
	case !ValidExpression(expression):
		return Licence{Comment: fmt.Sprintf("%s says %q, which is no SPDX licence expression", file, text(clip(expression)))}
	}
	return Licence{Expression: expression, Comment: "declared in " + file}
}

// clip bounds what is quoted: some put a whole licence where its name belongs.
func clip(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return s
}

// NPM reads a package.json (docs.npmjs.com, "package.json"). Its license is an
// SPDX expression; old packages have an object, or a list of them.
func NPM(manifest []byte) (Declared, error) {
	var p struct {
		Description string          `json:"description"`
		Homepage    json.RawMessage `json:"homepage"`
		License     json.RawMessage `json:"license"`
		Licenses    json.RawMessage `json:"licenses"`
		Author      json.RawMessage `json:"author"`
	}
	if err := json.Unmarshal(manifest, &p); err != nil {
		return Declared{}, fmt.Errorf("cannot read package.json: %w", err)
	}
	d := Declared{Summary: p.Description, Homepage: word(p.Homepage), Supplier: author(p.Author)}
	licence := word(p.License)
	if licence == "" {
		licence = ofType(p.License)
	}
	if licence == "" {
		var list []json.RawMessage
		if json.Unmarshal(p.Licenses, &list) == nil && len(list) == 1 { // of several nobody says whether all or any
			if licence = word(list[0]); licence == "" {
				licence = ofType(list[0])
			}
		}
	}
	d.Licence = DeclaredLicence("package.json", licence)
	return d, nil
}

// word is a JSON string; anything else is "".
func word(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func ofType(raw json.RawMessage) string {
	var o struct {
		Type json.RawMessage `json:"type"`
	}
	if json.Unmarshal(raw, &o) != nil {
		return ""
	}
	return word(o.Type)
}

// author is "Name <address> (page)" as one string or in three fields.
func author(raw json.RawMessage) string {
	s := word(raw)
	if s == "" {
		var o struct {
			Name  json.RawMessage `json:"name"`
			Email json.RawMessage `json:"email"`
		}
		if json.Unmarshal(raw, &o) == nil {
			if s = word(o.Name); s != "" && word(o.Email) != "" {
				s += " <" + word(o.Email) + ">"
			}
		}
	}
	s, _, _ = strings.Cut(s, "(")
	return strings.TrimSpace(s)
}

// Python reads the METADATA of a wheel or the PKG-INFO of a source distribution
// (packaging.python.org, "Core metadata"). Only License-Expression is one (PEP
// 639); License and classifiers are words for people.
func Python(metadata []byte) (Declared, error) {
	h, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(metadata))).ReadMIMEHeader()
	if len(h) == 0 && err != nil {
		return Declared{}, fmt.Errorf("cannot read METADATA: %w", err)
	}
	known := func(field string) string {
		if v := strings.TrimSpace(h.Get(field)); v != "UNKNOWN" { // what setuptools writes for nothing
			return v
		}
		return ""
	}
	d := Declared{Summary: known("Summary"), Homepage: known("Home-Page"), Supplier: known("Author")}
	if d.Supplier != "" && known("Author-Email") != "" && !strings.Contains(known("Author-Email"), "<") {
		d.Supplier += " <" + known("Author-Email") + ">"
	} else if d.Supplier == "" && strings.Count(known("Author-Email"), "<") == 1 {
		d.Supplier = known("Author-Email")
	}
	d.Licence = DeclaredLicence("METADATA", known("License-Expression"))
	if d.Licence.Expression == "" && known("License-Expression") == "" {
		d.Licence = DeclaredLicence("METADATA", known("License"))
	}
	return d, nil
}

// Crate reads the Cargo.toml of a crate (doc.rust-lang.org/cargo, "The Manifest
// Format"). Its license is an SPDX expression; a slash once stood for OR.
func Crate(manifest []byte) (Declared, error) {
	var c struct {
		Package struct {
			Description any `toml:"description"`
			Homepage    any `toml:"homepage"`
			License     any `toml:"license"`
			Authors     any `toml:"authors"`
		} `toml:"package"`
	}
	if _, err := toml.Decode(string(manifest), &c); err != nil {
		return Declared{}, fmt.Errorf("cannot read Cargo.toml: %w", err)
	}
	said := func(v any) string { // published manifests hold no table of a workspace here
		s, _ := v.(string)
		return s
	}
	d := Declared{Summary: said(c.Package.Description), Homepage: said(c.Package.Homepage)}
	if list, ok := c.Package.Authors.([]any); ok && len(list) == 1 {
		d.Supplier = said(list[0])
	}
	d.Licence = DeclaredLicence("Cargo.toml", strings.Join(strings.Split(said(c.Package.License), "/"), " OR "))
	return d, nil
}

//go:embed spdx-ids.txt
var spdxIDs string

// spdxNames are the licences and the exceptions of SPDX's lists.
var spdxNames = sync.OnceValues(func() (licences, exceptions map[string]bool) {
	licences, exceptions = map[string]bool{}, map[string]bool{}
	into := licences
	for line := range strings.Lines(spdxIDs) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "#"):
		case line == "WITH":
			into = exceptions
		default:
			into[line] = true
		}
	}
	return licences, exceptions
})

// ValidExpression reports whether s is a licence expression (SPDX 2.3, annex D)
// of names that SPDX knows. References to texts are none: a package has no way
// to bring the text along.
func ValidExpression(s string) bool {
	p := expressionParser{words: strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(s))}
	return p.compound(0) && len(p.words) == 0
}

type expressionParser struct{ words []string }

func (p *expressionParser) take(words ...string) (string, bool) {
	if len(p.words) == 0 || len(words) > 0 && !slices.Contains(words, p.words[0]) {
		return "", false
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w, true
}

// maxNesting bounds parentheses: real expressions have two levels.
const maxNesting = 20

func (p *expressionParser) compound(depth int) bool {
	if !p.simple(depth) {
		return false
	}
	for {
		if _, more := p.take("AND", "OR"); !more {
			return true
		}
		if !p.simple(depth) {
			return false
		}
	}
}

func (p *expressionParser) simple(depth int) bool {
	if _, open := p.take("("); open {
		if depth == maxNesting || !p.compound(depth+1) {
			return false
		}
		_, closed := p.take(")")
		return closed
	}
	licences, exceptions := spdxNames()
	name, ok := p.take()
	if !ok || !licences[strings.TrimSuffix(name, "+")] {
		return false
	}
	if _, with := p.take("WITH"); with {
		exception, ok := p.take()
		return ok && exceptions[exception]
	}
	return true
}
