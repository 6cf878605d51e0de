package lockfile

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

const inputsYAML = `apiVersion: quorate/v1
name: greeter
platforms: [linux/amd64]
epoch: commit:src
inputs:
  local: {app: {path: app}}
  git: {src: {url: "https://example.org/src.git", ref: v1, signed-by: [a.pub, b.pub]}}
  go: {modules: {from: app}}
image: {copy: [{from: src, to: /}]}
`

func defineInputs(t *testing.T, text string) *definition.Definition {
	t.Helper()
	d, err := definition.Parse("quorate.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// module is a pin of the modules input.
func module(name, version, by string) Pin {
	return Pin{
		Input: "modules", Name: name, Version: version, Size: int64(len(name)), SHA256: digest.Of([]byte(name + version)),
		Integrity: "h1:" + name, Path: name + "/@v/" + version + ".zip", By: by,
	}
}

// withInputs is a lock of inputsYAML.
func withInputs(t *testing.T) *Lock {
	return Sorted(&Lock{
		Format: 1, Assembler: 1, Epoch: time.Date(2026, 10, 1, 2, 3, 4, 0, time.UTC),
		Requests: RequestsOf(defineInputs(t, inputsYAML)),
		Inputs: []Input{
			{Name: "src", Kind: KindGit, Facts: Facts{"commit": "aa11", "time": "2026-10-01T02:03:04Z"}},
			{Name: "modules", Kind: KindGo, Reads: Facts{"go.mod": digest.Of([]byte("go.mod")).Hex(), "go.work": Absent}},
		},
		Pins: []Pin{
			{Input: "src", Name: "src", Version: "aa11", Size: 3, SHA256: digest.Of([]byte("src")), Path: "src.tar"},
			module("example.org/b", "v1.2.0", "example.org/a"), module("example.org/a", "v0.1.0", ByRequest),
		},
		Platforms: []Platform{{Platform: amd64}},
	})
}

func TestInputsFormat(t *testing.T) {
	const want = `# Written by "quorate lock". Commit it; do not edit it.
format: 1
assembler: 1
epoch: "2026-10-01T02:03:04Z"
requests:
  inputs:
    - {name: modules, kind: go, ask: {from: app, path: "."}}
    - {name: src, kind: git, ask: {ref: v1, signed-by: "a.pub b.pub", url: "https://example.org/src.git"}}
inputs:
  - {name: modules, kind: go, reads: {go.mod: <go.mod>, go.work: absent}}
  - {name: src, kind: git, facts: {commit: aa11, time: "2026-10-01T02:03:04Z"}}
pins:
  - {input: modules, name: example.org/a, version: v0.1.0, size: 13, sha256: <a>, integrity: "h1:example.org/a", path: "example.org/a/@v/v0.1.0.zip", by: requested}
  - {input: modules, name: example.org/b, version: v1.2.0, size: 13, sha256: <b>, integrity: "h1:example.org/b", path: "example.org/b/@v/v1.2.0.zip", by: example.org/a}
  - {input: src, name: src, version: aa11, size: 3, sha256: <src>, path: src.tar}
platforms:
  linux/amd64: {}
`
	short := strings.NewReplacer(
		digest.Of([]byte("go.mod")).Hex(), "<go.mod>", digest.Of([]byte("src")).Hex(), "<src>",
		digest.Of([]byte("example.org/av0.1.0")).Hex(), "<a>", digest.Of([]byte("example.org/bv1.2.0")).Hex(), "<b>",
	)
	l := withInputs(t)
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	text := Format(l)
	if got := short.Replace(string(text)); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if again, err := Parse("quorate.lock", text); err != nil || !reflect.DeepEqual(again, l) {
		t.Errorf("read again: %v\n%+v\n%+v", err, again, l)
	}
}

// Any pins, in any order: one form, read again as it was written.
func TestInputsRoundTrip(t *testing.T) {
	l := withInputs(t)
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-zA-Z@~"'{}#:,-][a-z0-9/._+-]{0,12}`)
		c := *l
		c.Pins = nil
		for i, name := range rapid.SliceOfNDistinct(word, 1, 8, rapid.ID[string]).Draw(t, "names") {
			p := module("x", word.Draw(t, "version"), "")
			p.Name, p.Integrity, p.URL, p.Size = name, word.Draw(t, "integrity"), word.Draw(t, "url"), int64(i+1)
			p.Path = "p" + string(rune('a'+i))
			p.Signatures = rapid.SampledFrom([]string{"", "SHA256:a+b/c=d", "a=b c=d"}).Draw(t, "signatures")
			p.Platform = rapid.SampledFrom([]string{"", "linux/amd64"}).Draw(t, "platform")
			c.Pins = append(c.Pins, p)
		}
		text := Format(&c)
		again, err := Parse("quorate.lock", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		slices.Reverse(c.Pins)
		if got := Format(again); string(got) != string(text) || string(Format(&c)) != string(text) {
			t.Fatalf("two forms:\n%s\n%s", got, text)
		}
	})
}

func TestInputsValidate(t *testing.T) {
	for _, test := range []struct {
		summary string
		change  func(*Lock)
		want    string
	}{
		{"input gone", func(l *Lock) { l.Inputs = l.Inputs[:1] }, `input "src" was asked for and is not locked`},
		{"input unasked", func(l *Lock) { l.Inputs[0].Kind = KindNpm }, `input "modules" of kind "npm" was not asked for, or is there twice`},
		{"a read of nothing", func(l *Lock) { l.Inputs[0].Reads = Facts{"go.mod": "x"} }, `input "modules" says that it read "go.mod", with digest "x"`},
		{"a read elsewhere", func(l *Lock) { l.Inputs[0].Reads = Facts{"../go.mod": Absent} }, `input "modules" says that it read "../go.mod", with digest "absent"`},
		{"a fact of two lines", func(l *Lock) { l.Inputs[1].Facts = Facts{"commit": "a\nb"} }, `input "src" has the improper fact "commit": "a\nb"`},
		{"a pin of nobody", func(l *Lock) { l.Pins[0].Input = "x" }, `pin "example.org/a" is of input "x", which the lock does not have`},
		{"a pin for nobody", func(l *Lock) { l.Pins[1].By = "example.org/c" }, `pin "example.org/b" is there because of "example.org/c", which is not in the lock`},
		{"a pin that leaves", func(l *Lock) { l.Pins[0].Path = "../a" }, `pin "example.org/a" has path "../a", which is not a clean relative path`},
		{"two pins in one place", func(l *Lock) { l.Pins[0].Path = l.Pins[1].Path }, `pin "example.org/b" has the path of another one, "example.org/b/@v/v1.2.0.zip"`},
		{"a pin for another platform", func(l *Lock) { l.Pins[0].Platform = "linux/arm64" }, `pin "example.org/a" is for platform "linux/arm64", which the lock does not have`},
		{"a pin of no bytes", func(l *Lock) { l.Pins[0].Size = 0 }, `pin "example.org/a" has size 0 or no digest`},
	} {
		l := withInputs(t)
		test.change(l)
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s:\n got %v\nwant %s", test.summary, err, test.want)
		}
	}
}

func TestInputsCover(t *testing.T) {
	for _, test := range []struct{ summary, old, new, want string }{
		{"same", "ref: v1", "ref: v1", ""},
		{"another ref", "ref: v1", "ref: v2", `git input "src" has ref: v2, the lock has v1`},
		{"unsigned", ", signed-by: [a.pub, b.pub]", "", `git input "src" has signed-by: none, the lock has a.pub b.pub`},
		{"a new one", "go: {modules", "npm: {web: {from: app}}\n  go: {modules", `npm input "web" is new`},
		{"one less", "  go: {modules: {from: app}}\n", "", `go input "modules" is gone`},
		{"another kind", "go: {modules", "cargo: {modules", `input "modules" is of kind cargo, the lock has go`},
		{"elsewhere", "{from: app}", "{from: app, path: cmd}", `go input "modules" has path: cmd, the lock has .`},
	} {
		got := ""
		if err := withInputs(t).Covers(defineInputs(t, strings.Replace(inputsYAML, test.old, test.new, 1)), 1); err != nil {
			got = strings.Join(err.(*StaleError).Reasons, "\n")
		}
		if got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
	l := withInputs(t)
	l.Epoch = l.Epoch.Add(time.Second)
	if err := l.Covers(defineInputs(t, inputsYAML), 1); err == nil || !strings.Contains(err.Error(), `epoch is that of the commit of "src", 2026-10-01T02:03:04Z, the lock has 2026-10-01T02:03:05Z`) {
		t.Errorf("of another epoch: %v", err)
	}
}

func TestCoversTree(t *testing.T) {
	l := withInputs(t)
	same := digest.Of([]byte("go.mod")).Hex()
	for _, test := range []struct {
		summary string
		found   Facts
		want    string
	}{
		{"same", Facts{"go.mod": same}, ""},
		{"changed", Facts{"go.mod": digest.Of(nil).Hex()}, `go.mod of input "app" has changed since input "modules" was locked from it`},
		{"gone", Facts{}, `go.mod of input "app" is gone, from which input "modules" was locked`},
		{"new", Facts{"go.mod": same, "go.work": same}, `go.work of input "app" is new since input "modules" was locked`},
	} {
		got := ""
		if err := l.CoversTree("app", test.found); err != nil {
			got = strings.Join(err.(*StaleError).Reasons, "\n")
		}
		if got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
	if err := l.CoversTree("other", Facts{}); err != nil {
		t.Errorf("of a tree that nothing was locked from: %v", err)
	}
}

func TestInputsDiff(t *testing.T) {
	old, fresh := withInputs(t), withInputs(t)
	fresh.Inputs[1].Facts = Facts{"commit": "bb22", "time": "2026-10-01T02:03:04Z"}
	fresh.Pins = []Pin{
		module("example.org/a", "v0.2.0", ByRequest), module("example.org/b", "v1.2.0", "example.org/a"),
		module("example.org/b", "v2.0.0", "example.org/a"), old.Pins[2],
	}
	const want = `KIND  NAME           OLD                          NEW                          WHY
git   src            aa11 (2026-10-01T02:03:04Z)  bb22 (2026-10-01T02:03:04Z)  requested as v1
go    example.org/a  v0.1.0                       v0.2.0                       modules: requested
go    example.org/b  -                            v2.0.0                       modules: example.org/a
`
	if got := Table(Diff(old, fresh), 1); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	fresh = withInputs(t)
	fresh.Inputs[1].Facts["signed-by"] = "SHA256:x"
	fresh.Inputs[0].Reads["go.mod"] = digest.Of(nil).Hex()
	if got := Table(Diff(old, fresh), 1); got != `KIND   NAME           OLD           NEW           WHY
input  src.signed-by  -             SHA256:x
read   go.mod         `+old.Inputs[0].Reads["go.mod"][:12]+`  e3b0c44298fc  modules
` {
		t.Errorf("a fact and a file that was read:\n%s", got)
	}
	if d := Diff(old, withInputs(t)); d != nil {
		t.Errorf("equal locks differ: %v", d)
	}
}

// Of pins for several platforms those for the same one are compared.
func TestDiffOfPins(t *testing.T) {
	on := func(version, platform string) Pin {
		p := module("a", version, ByRequest)
		p.Platform, p.Path = platform, version+platform
		return p
	}
	old, fresh := withInputs(t), withInputs(t)
	old.Pins = []Pin{on("1", ""), on("3", "linux/amd64"), on("4", "linux/arm64")}
	fresh.Pins = []Pin{on("5", "linux/arm64"), on("6", "linux/amd64")}
	const want = `KIND  NAME  PLATFORM     OLD  NEW  WHY
go    a     linux/amd64  3    6    modules: requested
go    a     linux/arm64  4    5    modules: requested
go    a     -            1    -    modules: requested
`
	if got := Table(Diff(old, fresh), 2); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestWhyPin(t *testing.T) {
	chains, err := Why(withInputs(t), "example.org/b")
	if err != nil || len(chains) != 1 || chains[0].String() != "go/modules: example.org/a (requested) → example.org/b" {
		t.Errorf("got %v, %v", chains, err)
	}
	if chains, err := Why(withInputs(t), "modules"); err != nil || len(chains) != 1 || chains[0].String() != "inputs.go: modules (requested)" {
		t.Errorf("of an input: %v, %v", chains, err)
	}
	if _, err := Why(withInputs(t), "example.org/c"); err == nil || !strings.Contains(err.Error(), "did you mean") {
		t.Errorf("got %v", err)
	}
}

func TestDistributionURI(t *testing.T) {
	debian, alpine := Distribution{ID: "debian", Release: "bookworm"}, Distribution{ID: "Alpine", Release: "3.20.3"}
	for _, test := range []struct {
		of                               Distribution
		typ, name, version, arch, source string
		want                             string
	}{
		{debian, "deb", "libc6", "2.36-9+b1", "amd64", "glibc", "pkg:deb/debian/libc6@2.36-9%2Bb1?arch=amd64&distro=bookworm&upstream=glibc"},
		{debian, "deb", "bash", "1:5.2", "amd64", "bash", "pkg:deb/debian/bash@1:5.2?arch=amd64&distro=bookworm"},
		{alpine, "apk", "musl", "1.2.5-r0", "x86_64", "", "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=3.20.3"},
		{Distribution{}, "deb", "g++", "1", "", "", "pkg:deb/g%2B%2B@1"},
		{Distribution{Release: "a b"}, "deb", "../A?#@", "1/2", "", "x&y", "pkg:deb/..%2Fa%3F%23%40@1%2F2?distro=a+b&upstream=x%26y"},
		{Distribution{}, "deb", "\xff", "\x00", "", "", "pkg:deb/%FF@%00"},
	} {
		if got := test.of.URI(test.typ, test.name, test.version, test.arch, test.source); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
	p := Package{Name: "libc6", Version: "1", Arch: "amd64"}
	if got, want := p.URI("bookworm", "glibc"), "pkg:deb/debian/libc6@1?arch=amd64&distro=bookworm&upstream=glibc"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestURI(t *testing.T) {
	for _, test := range []struct {
		kind, name, version string
		ask                 Facts
		want                string
	}{
		{KindGo, "golang.org/x/text", "v0.14.0+incompatible", nil, "pkg:golang/golang.org/x/text@v0.14.0%2Bincompatible"},
		{KindNpm, "@types/node", "20.1.0", nil, "pkg:npm/%40types/node@20.1.0"},
		{KindPython, "Foo_Bar", "1.0", nil, "pkg:pypi/foo-bar@1.0"},
		{KindCargo, "serde", "1.0.1", nil, "pkg:cargo/serde@1.0.1"},
		{KindGit, "src", "aa11", Facts{"url": "https://example.org/src.git"}, "git+https://example.org/src.git@aa11"},
		{KindImage, "layer", "", Facts{"image": "registry.example.org:5000/os:12"}, "oci://registry.example.org:5000/os@" + digest.Of(nil).String()},
		{KindImage, "layer", "", Facts{"image": "oci:os"}, ""},
	} {
		p := Pin{Name: test.name, Version: test.version, SHA256: digest.Of(nil)}
		if got := p.URI(InputRequest{Kind: test.kind, Ask: test.ask}); got != test.want {
			t.Errorf("%s %s: got %s, want %s", test.kind, test.name, got, test.want)
		}
	}
}
