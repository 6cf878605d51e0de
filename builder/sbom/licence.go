package sbom

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Licence is what a package declares.
type Licence struct {
	Expression string // an SPDX licence expression; "" when nothing is declared that machines read
	Comment    string // where that is from, or why there is none
	Texts      []LicenceText
}

// LicenceText is a licence that SPDX has no name for.
type LicenceText struct {
	ID   string // "LicenseRef-…", in Expression
	Name string // as the package calls it
	Text string
}

// maxCopyright is the largest copyright file that is read; Linux's has 0.6 MB,
// chromium's 2 MB.
const maxCopyright = 16 << 20

// maxLicenceText bounds what is kept of one licence text: the longest that
// people know (GPL-3, 35 kB) twice.
const maxLicenceText = 70_000

// debianNames turns the short names of Debian's copyright files (DEP-5,
// "License specification") into SPDX's, in lower case. A name that is here
// means the same text there; all others become a LicenseRef.
var debianNames = map[string]string{
	"expat": "MIT", "mit": "MIT", "isc": "ISC", "zlib": "Zlib", "mpl-1.1": "MPL-1.1", "mpl-2.0": "MPL-2.0",
	"apache-1.1": "Apache-1.1", "apache-2.0": "Apache-2.0", "apache-2": "Apache-2.0",
	"bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause", "0bsd": "0BSD",
	"gpl-1": "GPL-1.0-only", "gpl-1+": "GPL-1.0-or-later", "gpl-2": "GPL-2.0-only", "gpl-2+": "GPL-2.0-or-later",
	"gpl-2.0": "GPL-2.0-only", "gpl-2.0+": "GPL-2.0-or-later", "gpl-3.0": "GPL-3.0-only", "gpl-3.0+": "GPL-3.0-or-later",
	"gpl-3": "GPL-3.0-only", "gpl-3+": "GPL-3.0-or-later", "agpl-3": "AGPL-3.0-only", "agpl-3+": "AGPL-3.0-or-later",
	"lgpl-2": "LGPL-2.0-only", "lgpl-2+": "LGPL-2.0-or-later", "lgpl-2.0": "LGPL-2.0-only", "lgpl-2.0+": "LGPL-2.0-or-later",
	"lgpl-2.1": "LGPL-2.1-only", "lgpl-2.1+": "LGPL-2.1-or-later", "lgpl-3": "LGPL-3.0-only", "lgpl-3+": "LGPL-3.0-or-later",
	"lgpl-3.0": "LGPL-3.0-only", "lgpl-3.0+": "LGPL-3.0-or-later",
	"gfdl-1.1": "GFDL-1.1-only", "gfdl-1.1+": "GFDL-1.1-or-later", "gfdl-1.2": "GFDL-1.2-only", "gfdl-1.2+": "GFDL-1.2-or-later",
	"gfdl-1.3": "GFDL-1.3-only", "gfdl-1.3+": "GFDL-1.3-or-later",
	"gfdl-niv-1.1": "GFDL-1.1-no-invariants-only", "gfdl-niv-1.1+": "GFDL-1.1-no-invariants-or-later",
	"gfdl-niv-1.2": "GFDL-1.2-no-invariants-only", "gfdl-niv-1.2+": "GFDL-1.2-no-invariants-or-later",
	"gfdl-niv-1.3": "GFDL-1.3-no-invariants-only", "gfdl-niv-1.3+": "GFDL-1.3-no-invariants-or-later",
	"perl":     "Artistic-1.0-Perl OR GPL-1.0-or-later", // DEP-5: "use GPL-1+ or Artistic instead"
	"artistic": "Artistic-1.0-Perl", "artistic-2.0": "Artistic-2.0", "cc0": "CC0-1.0", "cc0-1.0": "CC0-1.0",
	"cc-by-3.0": "CC-BY-3.0", "cc-by-4.0": "CC-BY-4.0", "cc-by-sa-3.0": "CC-BY-SA-3.0", "cc-by-sa-4.0": "CC-BY-SA-4.0",
	"bsl-1.0": "BSL-1.0", "boost-1.0": "BSL-1.0", "ofl-1.1": "OFL-1.1", "curl": "curl", "openssl": "OpenSSL", "psf-2": "PSF-2.0",
	"python-2.0": "Python-2.0", "w3c": "W3C", "zpl-2.1": "ZPL-2.1", "unlicense": "Unlicense", "wtfpl": "WTFPL", "ruby": "Ruby",
	"postgresql": "PostgreSQL", "x11": "X11", "libpng": "Libpng", "ijg": "IJG", "ftl": "FTL", "blessing": "blessing",
}

// DebianLicence reads a Debian copyright file. One in the machine-readable
// form (DEP-5) names a licence for each group of files; a package of them falls
// under all. Any other says what people read, and is declared as nothing.
func DebianLicence(pkg, file string, copyright []byte) Licence {
	paragraphs, ok := copyrightParagraphs(copyright)
	if !ok {
		return Licence{Comment: fmt.Sprintf("%s is not in the machine-readable form (DEP-5)", file)}
	}
	texts := map[string]string{} // by short name, of paragraphs that give the text
	names := map[string]bool{}   // of licences of files
	for _, p := range paragraphs {
		name, body, _ := strings.Cut(p["license"], "\n")
		name = strings.Join(strings.Fields(name), " ")
		if name == "" {
			continue
		}
		if texts[name] == "" {
			texts[name] = strings.TrimSpace(body)
		}
		if _, files := p["files"]; files {
			names[name] = true
		}
	}
	if len(names) == 0 {
		return Licence{Comment: fmt.Sprintf("%s names no licence of files", file)}
	}
	l := Licence{Comment: "declared in " + file}
	r := &references{pkg: pkg, file: file, texts: texts, known: map[string]bool{}, licence: &l}
	var parts []string
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if e := r.expression(name); !seen[e] {
			seen[e] = true
			parts = append(parts, e)
		}
	}
	for i, e := range parts {
		if len(parts) > 1 && strings.Contains(e, " OR ") {
			parts[i] = "(" + e + ")"
		}
	}
	l.Expression = strings.Join(parts, " AND ")
	slices.SortFunc(l.Texts, func(a, b LicenceText) int { return strings.Compare(a.ID, b.ID) })
	return l
}

// references turns names into expressions and keeps the texts of those that
// SPDX does not know.
type references struct {
	pkg, file string
	texts     map[string]string
	known     map[string]bool // identifiers of the licence's texts
	licence   *Licence
}

// expression reads "A or B, and C with X exception" (DEP-5, "Syntax"): "and"
// binds stronger than "or", and a word after a comma weaker than both.
func (r *references) expression(name string) string {
	for _, divide := range []struct{ at, word string }{{", or ", " OR "}, {", and ", " AND "}, {" or ", " OR "}, {" and ", " AND "}} {
		if parts := strings.Split(name, divide.at); len(parts) > 1 && !slices.Contains(parts, "") {
			return r.join(parts, divide.word)
		}
	}
	return r.one(strings.TrimSuffix(name, ","))
}

func (r *references) join(names []string, word string) string {
	var out []string
	seen := map[string]bool{}
	for _, n := range names {
		e := r.expression(n)
		if word == " AND " && strings.Contains(e, " OR ") {
			e = "(" + e + ")"
		}
		if !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	return strings.Join(out, word)
}

// one is one licence; with an exception it is the package's own, for DEP-5 does
// not say which of SPDX's exceptions is meant.
func (r *references) one(name string) string {
	if id, ok := debianNames[strings.ToLower(name)]; ok {
		return id
	}
	id := "LicenseRef-" + plain(r.pkg) + "-" + plain(name)
	if !r.known[id] {
		r.known[id] = true
		body := r.texts[name]
		if body == "" {
			body = fmt.Sprintf("Called %q in %s, without a text of its own.", name, r.file)
		}
		if len(body) > maxLicenceText {
			body = body[:maxLicenceText] + "\n[…]"
		}
		r.licence.Texts = append(r.licence.Texts, LicenceText{ID: id, Name: text(name), Text: text(body)})
	}
	return id
}

// plain keeps the characters that SPDX allows in identifiers, and writes the
// others so that two names stay two.
func plain(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
			b.WriteByte(c)
		case c == '+':
			b.WriteString(".plus")
		case c == ' ':
			b.WriteByte('-')
		default:
			fmt.Fprintf(&b, ".%02x", c)
		}
	}
	return b.String()
}

// copyrightParagraphs reads the paragraphs of a DEP-5 file, fields in lower
// case. ok is false for any other file, and for one that is not well formed.
func copyrightParagraphs(data []byte) (out []map[string]string, ok bool) {
	if len(data) > maxCopyright {
		return nil, false
	}
	p := map[string]string{}
	field := ""
	var lines []string // of the field; nil outside of one
	end := func() {
		if lines != nil {
			p[field] = strings.Join(lines, "\n")
		}
		field, lines = "", nil
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		line = strings.TrimRight(line, " \t\r")
		switch {
		case line == "":
			end()
			if len(p) > 0 {
				out = append(out, p)
				p = map[string]string{}
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if field == "" {
				return nil, false
			}
			body := line[1:]
			if strings.TrimSpace(body) == "." { // stands for an empty line
				body = ""
			}
			lines = append(lines, body)
		default:
			name, value, found := strings.Cut(line, ":")
			if !found || strings.ContainsAny(name, " \t") {
				return nil, false
			}
			end()
			field, lines = strings.ToLower(name), []string{strings.TrimSpace(value)}
		}
	}
	end()
	if len(p) > 0 {
		out = append(out, p)
	}
	if len(out) == 0 || !strings.Contains(out[0]["format"], "copyright-format/1.") && !strings.Contains(strings.ToLower(out[0]["format"]), "dep5") && !strings.Contains(strings.ToLower(out[0]["format"]), "dep-5") {
		return nil, false
	}
	return out, true
}
