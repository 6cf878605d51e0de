package lockfile

import (
	"path"
	"reflect"
	"strings"
	"testing"

	"quorate.dev/lockfile/digest"
)

const sourcesYAML = `apiVersion: quorate/v1
name: greeter
platforms: [linux/amd64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
  sources: {hello: {package: hello, unpack: debian}}
image: {scripts: none, copy: [{from: hello, to: /}]}
`

func sourcePin(version, file string) Pin {
	return Pin{
		Input: "hello", Name: "hello", Version: version, Size: int64(len(file)), SHA256: digest.Of([]byte(file)),
		Path: "pool/main/h/hello/" + file, By: ByRequest,
	}
}

// withSource is a lock of sourcesYAML.
func withSource(t *testing.T) *Lock {
	l := sample()
	l.Requests = RequestsOf(defineInputs(t, sourcesYAML))
	l.Files, l.Platforms = nil, []Platform{{Platform: amd64}}
	l.Inputs = []Input{{Name: "hello", Kind: KindSource, Facts: Facts{"version": "2.10-3", "archive": "bookworm", "format": "3.0 (quilt)", "unpack": "debian"}}}
	l.Pins = []Pin{sourcePin("2.10-3", "hello_2.10-3.debian.tar.xz"), sourcePin("2.10-3", "hello_2.10.orig.tar.gz")}
	return Sorted(l)
}

func TestSourceFormat(t *testing.T) {
	l := withSource(t)
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	text := Format(l)
	for _, want := range []string{
		"    - {name: hello, kind: source, ask: {package: hello, unpack: debian}}\n",
		"  - {name: hello, kind: source, facts: {archive: bookworm, format: \"3.0 (quilt)\", unpack: debian, version: \"2.10-3\"}}\n",
		", path: pool/main/h/hello/hello_2.10.orig.tar.gz, by: requested}\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if again, err := Parse("quorate.lock", text); err != nil || !reflect.DeepEqual(again, l) {
		t.Errorf("read again: %v\n%+v\n%+v", err, again, l)
	}
	if chains, err := Why(l, "hello"); err != nil || len(chains) != 1 || chains[0].String() != "inputs.sources: hello (requested)" {
		t.Errorf("got %v, %v", chains, err)
	}
	if got, want := l.Pins[0].URI(l.RequestOf("hello")), "pkg:deb/debian/hello@2.10-3?arch=source"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSourceValidate(t *testing.T) {
	for _, test := range []struct {
		summary string
		change  func(*Lock)
		want    string
	}{
		{"no archive", func(l *Lock) { delete(l.Inputs[0].Facts, "archive") }, `source package "hello" comes from archive "", which the lock does not have`},
		{"another archive", func(l *Lock) { l.Inputs[0].Facts["archive"] = "sid" }, `source package "hello" comes from archive "sid", which the lock does not have`},
		{"unpacked otherwise", func(l *Lock) { l.Inputs[0].Facts["unpack"] = "none" }, `source package "hello" is unpacked as "none", and "debian" was asked for`},
		{"no file", func(l *Lock) { l.Pins = nil }, `source package "hello" has no file`},
		{"another package", func(l *Lock) { l.Pins[0].Name = "hallo" }, `source package "hello" has a file of hallo 2.10-3, which was not asked for`},
		{"two versions", func(l *Lock) { l.Pins[1].Version = "2.11-1" }, `source package "hello" has a file of hello 2.11-1, which was not asked for`},
		{"no version", func(l *Lock) { l.Pins[0].Version, l.Pins[1].Version = "", "" }, `source package "hello" has a file of hello , which was not asked for`},
		{"another version than asked for", func(l *Lock) { l.Requests.Inputs[0].Ask["version"] = "2.10-2" }, `source package "hello" has a file of hello 2.10-3, which was not asked for`},
		{"a path that leaves", func(l *Lock) { l.Pins[0].Path = "../hello.tar.gz" }, `pin "hello" has path "../hello.tar.gz", which is not a clean relative path`},
	} {
		l := withSource(t)
		test.change(l)
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s:\n got %v\nwant %s", test.summary, err, test.want)
		}
	}
}

func TestSourceCovers(t *testing.T) {
	for _, test := range []struct{ summary, old, new, want string }{
		{"same", "", "", ""},
		{"another package", "package: hello", "package: hallo", `source input "hello" has package: hallo, the lock has hello`},
		{"a version", "{package: hello", "{package: hello, version: 2.10-2", `source input "hello" has version: 2.10-2, the lock has none`},
		{"unpacked otherwise", ", unpack: debian", "", `source input "hello" has unpack: upstream, the lock has debian`},
	} {
		got := ""
		if err := withSource(t).Covers(defineInputs(t, strings.Replace(sourcesYAML, test.old, test.new, 1)), 1); err != nil {
			got = strings.Join(err.(*StaleError).Reasons, "\n")
		}
		if got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

// All files of a source package are of one version, which changes once.
func TestSourceDiff(t *testing.T) {
	const heading = "KIND    NAME   OLD     NEW     WHY\n"
	short := func(file string) string { return digest.Of([]byte(file)).Short() }
	for _, test := range []struct {
		summary string
		change  func(l *Lock)
		want    string
	}{
		{"same", func(*Lock) {}, ""},
		{"another revision", func(l *Lock) {
			l.Inputs[0].Facts["version"], l.Inputs[0].Facts["archive"] = "2.10-4", "bookworm-security"
			l.Pins = []Pin{sourcePin("2.10-4", "hello_2.10-4.debian.tar.xz"), sourcePin("2.10-4", "hello_2.10.orig.tar.gz")}
		}, heading + "source  hello  2.10-3  2.10-4  requested as hello\n"},
		{"shown otherwise", func(l *Lock) {
			l.Inputs[0].Facts["unpack"] = "none"
			l.Pins = append(l.Pins, sourcePin("2.10-3", "hello_2.10-3.dsc"))
		}, "KIND   NAME          OLD     NEW   WHY\ninput  hello.unpack  debian  none\n"},
		{"shown with less", func(l *Lock) { l.Inputs[0].Facts["unpack"], l.Pins = "upstream", l.Pins[1:] }, "KIND   NAME          OLD     NEW       WHY\ninput  hello.unpack  debian  upstream\n"},
		{"gone", func(l *Lock) { l.Inputs, l.Pins = nil, nil },
			"KIND    NAME   OLD     NEW  WHY\nsource  hello  2.10-3  -    requested as hello\n"},
		{"other bytes", func(l *Lock) { l.Pins[1].SHA256 = digest.Of([]byte("other")) },
			"KIND    NAME   OLD                    NEW                    WHY\nsource  hello  2.10-3 (" + short("hello_2.10.orig.tar.gz") + ")  2.10-3 (" + short("other") + ")  hello: requested\n"},
	} {
		fresh := withSource(t)
		test.change(fresh)
		if got := Table(Diff(withSource(t), fresh), 1); got != test.want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", test.summary, got, test.want)
		}
	}
}

func TestSourcePartOf(t *testing.T) {
	for name, want := range map[string]string{
		"hello_2.10.orig.tar.gz":                    "upstream",
		"popt_1.19+dfsg.orig.tar.xz":                "upstream",
		"x_1.orig.tar.bz2":                          "upstream",
		"node-gulp_4.0.2+~cs54.orig-types-a.tar.gz": "component types-a",
		"hello_2.10-3.debian.tar.xz":                "debian",
		"debianutils_5.7.tar.xz":                    "native",
		"hello_2.10-3.dsc":                          "control",
		"hello_2.10.orig.tar.gz.asc":                "other",
		"hello_2.10-3.diff.gz":                      "other",
		"hello_2.10.orig.tar.lzma":                  "other",
		"hello.orig.tar.gz":                         "other",
		"":                                          "other",
		"../x_1.orig.tar.gz":                        "other",
		"x_1.orig-../../etc.tar.gz":                 "other",
	} {
		part, component := SourcePartOf(name)
		if got := strings.TrimSpace(string(part) + " " + component); got != want {
			t.Errorf("%q is %s, expected %s", name, got, want)
		}
		if component != "" && path.Base(component) != component {
			t.Errorf("%q makes the folder %q", name, component)
		}
	}
}
