package definition

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// everyInput uses every field that base, which cannot have all at once, does not.
const everyInput = `apiVersion: quorate/v1
name: greeter
platforms: [linux/amd64]
epoch: commit:src
inputs:
  local: {app: {path: app}}
  git:
    src: {url: "https://example.org/src.git", ref: v1.2.0, signed-by: [keys/alice.pub]}
    tip: {url: "ssh://git@example.org/tip.git", submodules: true}
  images:
    os: {image: "registry.example.org/os:12", policy: os.yaml}
    layout: {image: "oci:images/os"}
  go: {modules: {from: app, path: cmd, toolchain: go1.26.0, retracted: ["example.org/m@v1.2.0"]}}
  npm: {packages: {from: src, path: web/, signatures: required, signed-by: [npm-keys.json]}}
  python: {wheels: {from: app, python: "3.11"}, locked: {from: src, path: pylock.toml}}
  cargo: {crates: {from: app, path: .}}
steps:
  - {name: compile, root: os, inputs: [app, modules], run: "true"}
image:
  base: layout
  copy: [{from: compile, to: /}]
`

func TestEveryInput(t *testing.T) {
	d, err := Parse("quorate.yaml", []byte(everyInput))
	if err != nil {
		t.Fatal(err)
	}
	want := Inputs{
		Local: []Local{{Name: "app", Path: "app"}},
		Git: []Git{
			{Name: "src", URL: "https://example.org/src.git", Ref: "v1.2.0", SignedBy: []string{"keys/alice.pub"}},
			{Name: "tip", URL: "ssh://git@example.org/tip.git", Ref: "HEAD", Submodules: true},
		},
		Images: []BaseImage{{Name: "layout", Image: "oci:images/os"}, {Name: "os", Image: "registry.example.org/os:12", Policy: "os.yaml"}},
		Go:     []Project{{Name: "modules", From: "app", Path: "cmd", Toolchain: "go1.26.0", Retracted: []string{"example.org/m@v1.2.0"}}},
		Npm:    []Project{{Name: "packages", From: "src", Path: "web", Signatures: "required", SignedBy: []string{"npm-keys.json"}}},
		Python: []Project{{Name: "locked", From: "src", Path: "pylock.toml"}, {Name: "wheels", From: "app", Path: "requirements.txt", Python: "3.11"}},
		Cargo:  []Project{{Name: "crates", From: "app", Path: "."}},
	}
	if !reflect.DeepEqual(d.Inputs, want) {
		t.Errorf("got\n%+v\nwant\n%+v", d.Inputs, want)
	}
	if d.Epoch != (Epoch{FromCommit: true, CommitOf: "src"}) || d.Image.Base != "layout" || d.Image.Essential || d.Steps[0].Root != "os" {
		t.Errorf("got epoch %+v, base %q, essential %t, root %q", d.Epoch, d.Image.Base, d.Image.Essential, d.Steps[0].Root)
	}
}

func TestEveryInputRefuses(t *testing.T) {
	tests := []struct{ summary, old, new, want string }{
		{"git over http", "https://example.org/src", "http://example.org/src", `8:16: url "http://example.org/src.git" does not begin with https:// or ssh://`},
		{"a program as a repository", "https://example.org/src.git", "ext::sh -c id", `8:16: "ext::sh -c id" is not a URL`},
		{"a host like an option", "ssh://git@example.org", "ssh://-oProxyCommand=id", `9:16: url "ssh://-oProxyCommand=id/tip.git" names a host that programs would take for an option`},
		{"a password", "https://example.org/src", "https://me:secret@example.org/src", `8:16: the url holds a user name or password, which everyone could read here; ~/.netrc, which git reads, is the place for it`},
		{"a ref like an option", "v1.2.0", `"--upload-pack=id"`, `8:52: "--upload-pack=id" is not the name of a branch, a tag or a commit`},
		{"a range of commits", "v1.2.0", "a..b", `8:52: "a..b" is not the name of a branch, a tag or a commit`},
		{"no key", "[keys/alice.pub]", "[]", `8:71: inputs.git.src.signed-by must not be empty`},
		{"an image of no registry", "registry.example.org/os:12", "debian/os:12", `11:17: image "debian/os:12" does not say which registry; write HOST/debian/os:12`},
		{"an image without tag", "/os:12", "/os", `11:17: image "registry.example.org/os" has neither tag nor digest; write registry.example.org/os:TAG`},
		{"an image of capitals", "/os:12", "/OS:12", `11:17: "registry.example.org/OS:12" is not an image; write HOST/NAME:TAG, HOST/NAME@sha256:… or oci:PATH`},
		{"a layout elsewhere", "oci:images", "oci:../images", `12:21: path "../images/os" leaves the folder of the definition ("..")`},
		{"a Python", `"3.11"`, `"3.11.2"`, `15:40: "3.11.2" is not a version of Python, like 3.11`},
		{"a toolchain", "go1.26.0", "1.26rc", `13:51: "1.26rc" is not a version of Go's toolchain, like go1.26.0`},
		{"a module of no version", "example.org/m@v1.2.0", "example.org/m", `13:73: "example.org/m" is not a version of a Go module, like example.org/m@v1.2.0`},
		{"signatures of a kind", "signatures: required", "signatures: always", `14:55: inputs.npm.packages.signatures cannot be "always", only "when-offered", "required" or "off"`},
		{"keys that need not sign", "signatures: required", "signatures: when-offered", `14:43: input "packages" names keys under signed-by, which must sign all of it; leave out signatures, or write required`},
		{"a project in nothing", "wheels: {from: app", "wheels: {from: apq", `15:27: input "wheels" is in unknown input "apq"; did you mean "app"?`},
		{"a project in an image", "crates: {from: app", "crates: {from: os", `16:26: input "crates" is in "os", which is an image input; its lock file is read from a local or a git input`},
		{"a name twice", "crates: {", "app: {", `16:11: input "app" has the same name as a local input; /inputs/app can be only one`},
		{"an epoch of nothing", "commit:src", "commit:scr", `4:8: epoch names "scr", which is no git input; did you mean "src"?`},
		{"an epoch of no name", "commit:src", `"commit:"`, `4:8: epoch "commit:" names no git input; write commit:NAME`},
		{"a root that is no image", "root: os", "root: app", `18:27: "app" is a local input; only one of inputs.images can stand here`},
		{"an unknown base", "base: layout", "base: layuot", `20:9: unknown image input "layuot"; did you mean "layout"?`},
		{"packages for a root, and no Debian", "root: os", "root: os, packages: [gcc]", `17:1: steps run in a root of Debian packages, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}`},
		{"packages for a base, and no Debian", "base: layout", "base: layout\n  packages: [nginx]", `21:3: packages come from the Debian archive, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}`},
	}
	for _, test := range tests {
		if strings.Count(everyInput, test.old) < 1 {
			t.Errorf("%s: everyInput has no %q", test.summary, test.old)
			continue
		}
		d, err := Parse("quorate.yaml", []byte(strings.Replace(everyInput, test.old, test.new, 1)))
		if got := heads(err); got != test.want || d != nil {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

// Packages are added to an image, and to a step's root that is one.
func TestPackagesOnImage(t *testing.T) {
	const text = `apiVersion: quorate/v1
name: greeter
platforms: [linux/amd64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
  images: {os: {image: "oci:os"}}
steps:
  - {name: compile, root: os, packages: [gcc], run: "true"}
image:
  base: os
  packages: [nginx]
`
	d, err := Parse("quorate.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if d.Image.Essential || d.Image.Base != "os" || d.Steps[0].Root != "os" || len(d.Steps[0].Packages) != 1 {
		t.Errorf("got %+v and %+v", d.Image, d.Steps[0])
	}
	// Without packages too: the set would be locked, and not be used.
	for line, text := range map[int]string{13: text, 12: strings.Replace(text, "  packages: [nginx]\n", "", 1)} {
		_, err = Parse("quorate.yaml", []byte(text+"  essential: true\n"))
		want := fmt.Sprintf(`%d:3: the image is built on "os", which has the Essential set or has not; leave out essential`, line)
		if got := heads(err); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// withSources uses every field of source packages, which everyInput cannot have
// without Debian.
const withSources = `apiVersion: quorate/v1
name: greeter
platforms: [linux/amd64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
  sources:
    jansson: {package: jansson}
    yaml:
      package: libyaml
      version: 0.2.5-1
      unpack: debian
steps:
  - {name: compile, packages: [gcc], inputs: [jansson, yaml], run: "true"}
image:
  copy: [{from: compile, to: /}]
`

func TestSources(t *testing.T) {
	d, err := Parse("quorate.yaml", []byte(withSources))
	if err != nil {
		t.Fatal(err)
	}
	want := []SourcePackage{
		{Name: "jansson", Package: "jansson", Unpack: UnpackUpstream},
		{Name: "yaml", Package: "libyaml", Version: "0.2.5-1", Unpack: UnpackDebian},
	}
	if !reflect.DeepEqual(d.Inputs.Sources, want) {
		t.Errorf("got\n%+v\nwant\n%+v", d.Inputs.Sources, want)
	}
}

func TestSourcesRefuses(t *testing.T) {
	for _, test := range []struct{ summary, old, new, want string }{
		{"no Debian", "  debian: {suite: bookworm}\n", "", `6:3: source packages come from the Debian archive, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}
12:1: steps run in a root of Debian packages, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}`},
		{"no package", "{package: jansson}", "{}", `8:14: missing field "package" in inputs.sources.jansson`},
		{"no fields", "{package: jansson}", "jansson", `8:14: inputs.sources.jansson must be a mapping with package, not text "jansson"`},
		{"a mistyped field", "{package: jansson}", "{pakage: jansson}", `8:14: missing field "package" in inputs.sources.jansson
8:15: unknown field "pakage" in inputs.sources.jansson; did you mean "package"?`},
		{"a mistyped kind", "  sources:", "  source:", `7:3: unknown field "source" in inputs; did you mean "sources"?`},
		{"a package in capitals", "package: libyaml", "package: LibYAML", `10:16: "LibYAML" is not a package name: lower-case letters, digits, "+", "-" and ".", at least two`},
		{"a package with its version", "package: libyaml", "package: libyaml=0.2.5-1", `10:16: "libyaml=0.2.5-1" is not a package name: lower-case letters, digits, "+", "-" and ".", at least two`},
		{"a version that YAML takes for a number", "version: 0.2.5-1", "version: 1.0", `11:16: inputs.sources.yaml.version is text, but YAML reads 1.0 as a number; quote it: "1.0"`},
		{"no version", "version: 0.2.5-1", "version: v0.2.5", `11:16: "v0.2.5" is not a Debian version`},
		{"unpacked somehow", "unpack: debian", "unpack: debain", `12:15: inputs.sources.yaml.unpack cannot be "debain", only "upstream", "debian" or "none"; did you mean "debian"?`},
		{"unpacked or not", "unpack: debian", "unpack: true", `12:15: inputs.sources.yaml.unpack must be "upstream", "debian" or "none", not true`},
		{"a name twice", "  sources:", "  local: {yaml: {path: .}}\n  sources:", `10:5: input "yaml" has the same name as a local input; /inputs/yaml can be only one`},
		{"an unknown one", "inputs: [jansson, yaml]", "inputs: [janson, yaml]", `14:47: step "compile" uses unknown input "janson"; did you mean "jansson"?`},
		{"a project in one", "  sources:", "  cargo: {crates: {from: yaml}}\n  sources:", `7:26: input "crates" is in "yaml", which is a source package; its lock file is read from a local or a git input`},
	} {
		d, err := Parse("quorate.yaml", []byte(strings.Replace(withSources, test.old, test.new, 1)))
		if got := heads(err); got != test.want || d != nil {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

func TestErrorAt(t *testing.T) {
	for _, test := range []struct {
		summary string
		path    []any
		want    string
	}{
		{"a value", []any{"inputs", "sources", "yaml", "package"}, "10:16: cannot find it"},
		{"what is not there", []any{"inputs", "sources", "jansson", "version"}, "8:14: cannot find it"},
		{"in a list", []any{"steps", 0, "inputs", 1}, "14:56: cannot find it"},
	} {
		if got := heads(ErrorAt("quorate.yaml", []byte(withSources), "cannot find it", test.path...)); got != test.want {
			t.Errorf("%s: got %s, want %s", test.summary, got, test.want)
		}
	}
}
