package deb

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMirror(t *testing.T) {
	for _, test := range []struct {
		text, main, security string
	}{
		{"https://example.org/debian", "https://example.org/debian", "https://example.org/debian-security"},
		{"https://example.org/debian/", "https://example.org/debian", "https://example.org/debian-security"},
		{"http://example.org/deb", "http://example.org/deb", "http://example.org/deb"},
		{"main=https://a.org/x,security=https://b.org/y/", "https://a.org/x", "https://b.org/y"},
		{"security=https://b.org/y, https://a.org/x", "https://a.org/x", "https://b.org/y"},
		{"file:///srv/debian/", "file:///srv/debian", "file:///srv/debian-security"},
	} {
		m, err := ParseMirror("test", test.text)
		if want := (Mirror{"test", test.main, test.security}); err != nil || m != want {
			t.Errorf("ParseMirror(%q) = %v, %v; expected %v", test.text, m, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                          `cannot read mirror "" (test): "" is not an http, https or file URL`,
		"example.org/debian":        `cannot read mirror "example.org/debian" (test): "example.org/debian" is not an http, https or file URL`,
		"ftp://example.org":         `cannot read mirror "ftp://example.org" (test): "ftp://example.org" is not an http, https or file URL`,
		"http:///debian":            `cannot read mirror "http:///debian" (test): "http:///debian" names no host`,
		"file://debian/x":           `cannot read mirror "file://debian/x" (test): "file://debian/x" does not name an absolute path; write file:///PATH`,
		"http://a/d?x=1":            `cannot read mirror "http://a/d?x=1" (test): "http://a/d?x=1" has a query or a fragment`,
		"http://a/d,http://b/d":     `cannot read mirror "http://a/d,http://b/d" (test): one archive is named twice`,
		"security=http://a/debian":  `cannot read mirror "security=http://a/debian" (test): the main archive is not named`,
		"http://a/%zz":              `cannot read mirror "http://a/%zz" (test): parse "http://a/%zz": invalid URL escape "%zz"`,
		"http://a/debian,security=": `cannot read mirror "http://a/debian,security=" (test): "" is not an http, https or file URL`,
	} {
		if _, err := ParseMirror("test", text); fmt.Sprint(err) != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

const deb822 = `# a comment
Types: deb deb-src
# in the middle
URIs: http://m.example/debian http://n.example/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 x

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm

Types: deb
URIs: http://m.example/debian-security/
Suites: bookworm-security
Components: main
`

func TestParseSources(t *testing.T) {
	for _, test := range []struct {
		summary, name, text string
		want                []SourceEntry
		err                 string
	}{{
		summary: "one line an entry", name: "a.list",
		text: "# comment\n\ndeb [arch=amd64 signed-by=/k] http://m.example/debian bookworm main contrib # more\ndeb-src http://m.example/debian bookworm main\ndeb cdrom:[x]/ bookworm main",
		want: []SourceEntry{{"http://m.example/debian", "bookworm", []string{"main", "contrib"}}, {"cdrom:[x]/", "bookworm", []string{"main"}}},
	}, {
		summary: "deb822", name: "a.sources", text: deb822,
		want: []SourceEntry{
			{"http://m.example/debian", "bookworm", []string{"main"}}, {"http://m.example/debian", "bookworm-updates", []string{"main"}},
			{"http://n.example/debian", "bookworm", []string{"main"}}, {"http://n.example/debian", "bookworm-updates", []string{"main"}},
			{"http://m.example/debian-security/", "bookworm-security", []string{"main"}},
		},
	},
		{summary: "another word", name: "a.list", text: "rpm http://x y", err: `a.list:1: entry begins with "rpm", expected "deb"`},
		{summary: "open options", name: "a.list", text: "\ndeb [arch=amd64 http://x y", err: `a.list:2: options have no closing "]"`},
		{summary: "too short", name: "a.list", text: "deb http://x", err: `a.list:1: entry names no URI and suite`},
		{summary: "no colon", name: "a.sources", text: "Types: deb\nhello", err: `a.sources:2: line is neither a field nor a continuation`},
		{summary: "continuation first", name: "a.sources", text: " x", err: `a.sources:1: entry begins with a continuation line`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			got, err := ParseSources(test.name, test.text)
			if test.err != "" {
				if fmt.Sprint(err) != test.err {
					t.Errorf("got  %v\nwant %s", err, test.err)
				}
				return
			}
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

func FuzzParseSources(f *testing.F) {
	f.Add("a.list", "deb [a=b] http://m.example/debian bookworm main")
	f.Add("a.sources", deb822)
	f.Fuzz(func(t *testing.T, name, text string) {
		entries, err := ParseSources(name, text)
		for _, e := range entries {
			if err == nil && (e.URI == "" || e.Suite == "") {
				t.Errorf("an entry without URI or suite: %+v", e)
			}
		}
	})
}

func TestMirrorsOfThisMachine(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"sources.list":                "deb http://old.example/debian bullseye main\ndeb cdrom:[x]/ bookworm main\n",
		"sources.list.d/a.sources":    deb822,
		"sources.list.d/bad.list":     "what is this",
		"sources.list.d/other.list":   "deb http://other.example/apt stable main\n",
		"sources.list.d/ignored.save": "deb http://ignored.example/debian bookworm main\n",
	} {
		file := filepath.Join(root, "etc/apt", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sources := filepath.Join(root, "etc/apt/sources.list.d/a.sources")
	exact := []Mirror{
		{sources, "http://m.example/debian", "http://m.example/debian-security"},
		{sources, "http://n.example/debian", "http://m.example/debian-security"},
	}
	any := append([]Mirror{{filepath.Join(root, "etc/apt/sources.list"), "http://old.example/debian", "http://m.example/debian-security"}}, exact...)
	flag := []Mirror{{"--mirror", "http://f.example/debian", "http://f.example/debian-security"}}
	for _, test := range []struct {
		summary string
		config  MirrorConfig
		want    []Mirror
	}{
		{"entries of the suite", MirrorConfig{AptRoot: root, Suite: "bookworm"}, exact},
		{"a suite that has no entry uses those of Debian", MirrorConfig{AptRoot: root, Suite: "trixie"}, any},
		{"the flag wins", MirrorConfig{Flag: "http://f.example/debian", Env: "http://e.example", User: "http://u.example", AptRoot: root, Suite: "bookworm"}, flag},
		{"then the environment", MirrorConfig{Env: "http://e.example", User: "http://u.example"}, []Mirror{{"QUORATE_DEBIAN_MIRROR", "http://e.example", "http://e.example"}}},
		{"then the user's configuration", MirrorConfig{User: "http://u.example", AptRoot: root}, []Mirror{{"user configuration", "http://u.example", "http://u.example"}}},
		{"a machine without apt", MirrorConfig{AptRoot: t.TempDir(), Suite: "bookworm"}, nil},
		{"nothing at all", MirrorConfig{}, nil},
	} {
		t.Run(test.summary, func(t *testing.T) {
			got, err := Mirrors(test.config)
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}
