package draft

import (
	"strings"
	"testing"
	"testing/fstest"

	"quorate.dev/lockfile/definition"
)

var options = Options{Name: "app", Suite: "bookworm", Epoch: "commit", Platform: "linux/amd64"}

func tree(files ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestWrite(t *testing.T) {
	for _, test := range []struct {
		summary string
		files   fstest.MapFS
		kind    string
		has     []string
		notes   string // the beginnings, joined by "|"
	}{
		{"a program in Go", tree("go.mod=module example.org/hello/v2\ngo 1.26\ntoolchain go1.26.3\n", "go.sum=", "main.go=package main\n", "Makefile=all:\n"), "a Go module",
			[]string{"go: {modules: {from: source, toolchain: go1.26.3}}", "-o $OUT/usr/bin/ .\n", "entrypoint: [/usr/bin/hello]"}, ""},
		{"programs in cmd", tree("go.mod=module example.org/x\ngo 1.22\n", "cmd/b/b.go=// b\npackage main\n", "cmd/a/a.go=package main\n", "x.go=package x\n"), "a Go module",
			[]string{"toolchain: go1.22.0", "-o $OUT/usr/bin/ ./cmd/a ./cmd/b\n", "entrypoint: [/usr/bin/a]"}, ""},
		{"a library in Go from before toolchains", tree("go.mod=module example.org/x\ngo 1.18\nrequire example.org/y v1.0.0\n", "x.go=package x\n", "main_test.go=package main\n"), "a Go module",
			[]string{"toolchain: go1.24.0"}, "no package main was found|there is no go.sum; run: go mod tidy"},
		{"a crate", tree("Cargo.toml=[package]\nname = \"tool\"\n", "Cargo.lock="), "a Rust crate", []string{"install -D --strip /build/target/release/tool $OUT/usr/bin/tool", "entrypoint: [/usr/bin/tool]"}, ""},
		{"a workspace of crates", tree("Cargo.toml=[workspace]\nmembers = []\n"), "a Rust crate", nil, "Cargo.toml names no package|there is no Cargo.lock"},
		{"a service in Node", tree(`package.json={"main": "./lib/server.js"}`, "package-lock.json={}"), "a Node package", []string{"npm ci --offline --omit=dev", "/srv/app/lib/server.js]"}, ""},
		{"Node that is built", tree(`package.json={"scripts": {"build": "tsc", "start": "node dist/main.js"}}`), "a Node package",
			[]string{"npm ci --offline --no-audit", "npm run build\n      npm prune --omit=dev", "/srv/app/dist/main.js]"}, "there is no package-lock.json"},
		{"Node that begins with a shell", tree(`package.json={"main": "x; rm -rf /"}`, "package-lock.json={}"), "a Node package", []string{"/srv/app/index.js]"}, ""},
		{"Python with hashes", tree("requirements.txt=a==1 --hash=sha256:00\n"), "a Python project", []string{`python: {wheels: {from: source, path: requirements.txt, python: "3.11"}}`, "--require-hashes"}, ""},
		{"Python without", tree("requirements.txt=a\n"), "a Python project", nil, "requirements.txt has no hashes"},
		{"pylock.toml", tree("pylock.toml="), "a Python project", []string{"path: pylock.toml", "/inputs/wheels/*"}, ""},
		{"Python that names nothing", tree("pyproject.toml="), "a Python project", []string{"from: source, path: /, to: /srv/app"}, "neither requirements.txt nor pylock.toml"},
		{"Meson", tree("meson.build="), "a project with Meson", []string{"meson setup"}, ""},
		{"CMake", tree("CMakeLists.txt=", "Makefile="), "a project with CMake", []string{"cmake --build"}, ""},
		{"autotools", tree("configure.ac=", "Makefile.am="), "a project with autotools", []string{"autoreconf --install\n      ./configure"}, ""},
		{"a release with configure", tree("configure=#!/bin/sh\n"), "a project with autotools", []string{"packages: [gcc, libc6-dev, make]"}, ""},
		{"make", tree("Makefile=all:\n\ninstall: all\n"), "a project with a Makefile", []string{"make install DESTDIR=$OUT"}, ""},
		{"make without install", tree("makefile=all:\n"), "a project with a makefile", []string{"mkdir -p $OUT/usr/bin"}, "makefile has no target install"},
		{"pages", tree("index.html=<p>"), "files that are shipped as they are", []string{"{from: source, path: /, to: /srv}"}, "no build system was recognised"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			d, err := Write(test.files, options)
			if err != nil {
				t.Fatal(err)
			}
			if d.Kind != test.kind {
				t.Errorf("taken for %q, expected %q", d.Kind, test.kind)
			}
			if _, err := definition.Parse("quorate.yaml", d.Text); err != nil {
				t.Errorf("it is no definition: %v\n%s", err, d.Text)
			}
			for _, want := range test.has {
				if !strings.Contains(string(d.Text), want) {
					t.Errorf("no %q in\n%s", want, d.Text)
				}
			}
			wanted := strings.Split(test.notes, "|")
			if test.notes == "" {
				wanted = nil
			}
			if len(d.Notes) != len(wanted) {
				t.Fatalf("notes %q, expected %q", d.Notes, wanted)
			}
			for i := range wanted {
				if !strings.HasPrefix(d.Notes[i], wanted[i]) {
					t.Errorf("note %q, expected %q", d.Notes[i], wanted[i])
				}
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, test := range []struct{ file, want string }{
		{"go.mod=modul x\n", "go.mod:1: "},
		{"go.mod=go 1.22\n", "go.mod has no module line; go mod init writes one"},
		{"Cargo.toml=[package\n", "Cargo.toml: "},
		{"Cargo.toml=[package]\nname = \"a b\"\n", `Cargo.toml names the program "a b", which is none`},
		{"package.json={", "package.json: "},
	} {
		if _, err := Write(tree(test.file), options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %s", test.file, err, test.want)
		}
	}
}

func TestImageName(t *testing.T) {
	for words, want := range map[string]string{"My Project": "my-project", "x_1.2": "x-1-2", "日本": "image", "..": "image", strings.Repeat("a", 99): strings.Repeat("a", 60)} {
		if got := ImageName(words); got != want {
			t.Errorf("%q: got %q, want %q", words, got, want)
		}
	}
}

// Whatever lies in a project, a draft is a definition or an error.
func FuzzWrite(f *testing.F) {
	f.Add("go.mod", "module example.org/x\ngo 1.22\n")
	f.Add("package.json", `{"main": "a", "scripts": {"build": "x"}}`)
	f.Add("Cargo.toml", "[package]\nname = \"a\"\n")
	f.Fuzz(func(t *testing.T, name, text string) {
		switch name {
		case "go.mod", "package.json", "Cargo.toml", "Makefile":
		default:
			return
		}
		d, err := Write(fstest.MapFS{name: &fstest.MapFile{Data: []byte(text)}}, options)
		if err != nil {
			return
		}
		if _, err := definition.Parse("quorate.yaml", d.Text); err != nil {
			t.Errorf("%v\n%s", err, d.Text)
		}
	})
}
