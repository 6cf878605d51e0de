package sbom

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const format = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n\n"

func stanzas(licences ...string) string {
	var b strings.Builder
	b.WriteString(format)
	for _, l := range licences {
		b.WriteString("Files: *\nCopyright: 2026 Ann\nLicense: " + l + "\n\n")
	}
	return b.String()
}

// What names are turned into is on SPDX's own list.
func TestDebianNames(t *testing.T) {
	for name, expression := range debianNames {
		if !ValidExpression(expression) || strings.ToLower(name) != name {
			t.Errorf("%q is %q, which SPDX does not know", name, expression)
		}
	}
}

func TestDebianLicence(t *testing.T) {
	const at = "usr/share/doc/x/copyright"
	declared := func(expression string, texts ...LicenceText) Licence {
		return Licence{Expression: expression, Comment: "declared in " + at, Texts: texts}
	}
	odd := func(id, name string) LicenceText {
		return LicenceText{ID: id, Name: name, Text: `Called "` + name + `" in ` + at + ", without a text of its own."}
	}
	for _, test := range []struct {
		summary, text string
		want          Licence
	}{
		{"one", stanzas("GPL-2+"), declared("GPL-2.0-or-later")},
		{"all of several, each once, sorted", stanzas("Expat", "GPL-3", "Expat", "BSD-3-clause"), declared("BSD-3-Clause AND MIT AND GPL-3.0-only")},
		{"a choice", stanzas("GPL-2+ or Artistic"), declared("GPL-2.0-or-later OR Artistic-1.0-Perl")},
		{"a documentation licence without invariant sections", stanzas("GFDL-NIV-1.3+"), declared("GFDL-1.3-no-invariants-or-later")},
		{"the same terms as Perl, among others", stanzas("Expat", "Perl"), declared("MIT AND (Artistic-1.0-Perl OR GPL-1.0-or-later)")},
		{"a choice among others", stanzas("Expat", "GPL-2+ or Artistic"), declared("MIT AND (GPL-2.0-or-later OR Artistic-1.0-Perl)")},
		{"and binds stronger", stanzas("GPL-1 or Expat and Zlib"), declared("GPL-1.0-only OR MIT AND Zlib")},
		{"unless a comma stands before it", stanzas("GPL-1 or Expat, and Zlib"), declared("(GPL-1.0-only OR MIT) AND Zlib")},
		{"what SPDX has no name for", stanzas("public-domain"), declared("LicenseRef-x-public-domain", odd("LicenseRef-x-public-domain", "public-domain"))},
		{"an exception is the package's own", stanzas("GPL-3+ with GCC exception"),
			declared("LicenseRef-x-GPL-3.plus-with-GCC-exception", odd("LicenseRef-x-GPL-3.plus-with-GCC-exception", "GPL-3+ with GCC exception"))},
		{"the text that stands by itself", stanzas("odd") + "License: odd\n Do\n .\n as you like.\n",
			declared("LicenseRef-x-odd", LicenceText{"LicenseRef-x-odd", "odd", "Do\n\nas you like."})},
		{"the text where it is named", format + "Files: *\nCopyright: me\nLicense: odd\n Do as you like.\n",
			declared("LicenseRef-x-odd", LicenceText{"LicenseRef-x-odd", "odd", "Do as you like."})},
		{"an old address of the form", strings.Replace(stanzas("ISC"), "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/", "http://dep.debian.net/deps/dep5", 1), declared("ISC")},
		{"prose", "This package was debianized by Ann.\n\nCopyright: GPL-2\n", Licence{Comment: at + " is not in the machine-readable form (DEP-5)"}},
		{"nothing", "", Licence{Comment: at + " is not in the machine-readable form (DEP-5)"}},
		{"a form without files", format + "License: GPL-2\n text\n", Licence{Comment: at + " names no licence of files"}},
		{"broken in the middle", stanzas("GPL-2") + "what is this\n", Licence{Comment: at + " is not in the machine-readable form (DEP-5)"}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			if diff := cmp.Diff(test.want, DebianLicence("x", at, []byte(test.text))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever a copyright file holds, what comes of it is an expression made of
// words that SPDX's documents can hold, and its texts are those it names.
func FuzzDebianLicence(f *testing.F) {
	f.Add(stanzas("GPL-2+ or Artistic, and Expat", "odd with x exception"))
	f.Add(format + "Files: a\nLicense: or\n\nFiles: b\nLicense: , and \n")
	f.Add(format + "License: \xff\nFiles: *\n")
	f.Fuzz(func(t *testing.T, copyright string) {
		l := DebianLicence("pkg+1", "copyright", []byte(copyright))
		if l.Expression == "" && l.Comment == "" {
			t.Fatal("says nothing at all")
		}
		named := map[string]bool{}
		for _, word := range strings.Fields(strings.NewReplacer("(", "", ")", "").Replace(l.Expression)) {
			if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != "" {
				t.Fatalf("bad word %q in %q", word, l.Expression)
			}
			if strings.HasPrefix(word, "LicenseRef-") {
				named[word] = true
			}
		}
		if len(named) != len(l.Texts) {
			t.Fatalf("%d references, %d texts: %q", len(named), len(l.Texts), l.Expression)
		}
		for _, text := range l.Texts {
			if !named[text.ID] {
				t.Fatalf("text of %q, which is not in %q", text.ID, l.Expression)
			}
		}
	})
}
