package draft

import (
	"strings"
	"testing"
	"testing/fstest"

	"quorate.dev/lockfile/definition"
)

var options = Options{Name: "app", Epoch: "commit", Platform: "linux/amd64"}

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
			[]string{"toolchain: go1.22.0", "-o $OUT/usr/bin/ ./cmd/a ./cmd/b\n", "entrypoint: [/usr/bin/a]"}, "it has the programs a, b; image.config.entrypoint begins a"},
		{"a library in Go from before toolchains", tree("go.mod=module example.org/x\ngo 1.18\nrequire example.org/y v1.0.0\n", "x.go=package x\n", "main_test.go=package main\n"), "a Go module",
			[]string{"toolchain: go1.26.0"}, "no package main was found|there is no go.sum; run: go mod tidy"},
		{"programs elsewhere, and what is none", tree("go.mod=module example.org/x\ngo 1.26.0\n", "cli/b/b.go=package main\n", "cli/x/x.go=package main\n", "examples/e/e.go=package main\n", "vendor/v/v.go=package main\n", "gen.go=//go:build ignore\n\npackage main\n", "w_windows.go=package main\nimport \"C\"\n", "sub/go.mod=module y\n", "sub/s.go=package main\n", "Dockerfile=FROM golang AS b\nEXPOSE 1\nFROM scratch\nEXPOSE 8080 $PORT\n"), "a Go module",
			[]string{"-o $OUT/usr/bin/ ./cli/b ./cli/x\n", "entrypoint: [/usr/bin/x]\n    ports: [8080/tcp]", `CGO_ENABLED: "0"`}, "it has the programs b, x; image.config.entrypoint begins x"},
		{"the program of the Dockerfile", tree("go.mod=module example.org/x\ngo 1.26.0\n", "cmd/a/a.go=package main\n", "cmd/b/b.go=package main\n", "Dockerfile=FROM golang AS first\nENTRYPOINT [\"/bin/b\"]\nFROM --platform=x first\nCMD [\"-v\"]\n"), "a Go module",
			[]string{"entrypoint: [/usr/bin/b]"}, "it has the programs a, b; image.config.entrypoint begins b"},
		{"a program with C", tree("go.mod=module example.org/x\ngo 1.26.0\n", "main.go=package main\n\nimport (\n\t_ \"github.com/mattn/go-sqlite3\"\n)\n"), "a Go module",
			[]string{"packages: [gcc, libc6-dev]", `CGO_ENABLED: "1"`, "packages: [libc6, ca-certificates, tzdata]"}, ""},
		{"a Go workspace", tree("go.work=go 1.25.0\ntoolchain go1.25.3\nuse (\n\t./tool\n\t./lib\n)\n", "tool/go.mod=module a\n", "tool/main.go=package main\n", "tool/cmd/b/b.go=package main\n", "other/go.mod=module o\n", "other/main.go=package main\n", "Makefile=all:\n"), "a Go workspace",
			[]string{"toolchain: go1.25.3", "-o $OUT/usr/bin/ ./tool ./tool/cmd/b\n"}, "it has the programs tool, b; "},
		{"a program with a front end", tree("go.mod=module example.org/x\ngo 1.26.0\n", "main.go=package main\n", `ui/package.json={"scripts": {"build": "vite"}}`, "ui/package-lock.json={}"), "a Go module with a front end in Node",
			[]string{"npm: {packages: {from: source, path: ui}}", "  - name: frontend ", "cd $OUT/ui\n", "inputs: [frontend, modules]", "cd /inputs/frontend\n"}, ""},
		{"a front end that cannot be locked", tree("go.mod=module example.org/x\ngo 1.26.0\n", "main.go=package main\n", `ui/package.json={"scripts": {"build": "vite"}}`, "ui/yarn.lock="), "a Go module",
			[]string{"inputs: [source, modules]"}, "ui/package.json has a front end that is not built here: there is no package-lock.json, and yarn.lock is not read; run in ui: npm install"},
		{"a crate for a newer Rust", tree("Cargo.toml=[package]\nname = \"tool\"\nedition = \"2024\"\n", "Cargo.lock="), "a Rust crate", []string{"suite: trixie"}, "packages come from trixie: Cargo wants Rust 1.85.0, and bookworm has 1.63.0"},
		{"a crate for Rust that no suite has", tree("Cargo.toml=[package]\nname = \"tool\"\nrust-version = \"1.99\"\n", "Cargo.lock=version = 4\n"), "a Rust crate", []string{"suite: trixie"}, "Cargo wants Rust 1.99, and trixie has 1.85.0"},
		{"a crate", tree("Cargo.toml=[package]\nname = \"tool\"\n", "Cargo.lock="), "a Rust crate", []string{"install -D --strip /build/target/release/tool $OUT/usr/bin/tool", "entrypoint: [/usr/bin/tool]"}, ""},
		{"a workspace of crates", tree("Cargo.toml=[workspace]\nmembers = []\n"), "a Rust crate", nil, "Cargo.toml names no package|there is no Cargo.lock"},
		{"a service in Node", tree(`package.json={"main": "./lib/server.js"}`, "lib/server.js=", "package-lock.json={}"), "a Node package", []string{"npm ci --offline --omit=dev", "/srv/app/lib/server.js]"}, ""},
		{"Node that is built", tree(`package.json={"scripts": {"build": "tsc", "start": "node dist/main.js"}}`), "a Node package",
			[]string{"npm ci --offline --no-audit", "npm run build\n      npm prune --omit=dev", "/srv/app/dist/main.js]"}, "there is no package-lock.json"},
		{"Node whose start runs another script", tree(`package.json={"scripts": {"start": "npm run serve", "serve": "node server/main.js --quiet"}}`, "server/main.js=", "package-lock.json={}"), "a Node package", []string{`entrypoint: [/usr/bin/node, /srv/app/server/main.js, "--quiet"]`}, ""},
		{"Node whose scripts run each other", tree(`package.json={"scripts": {"start": "npm run serve", "serve": "npm run start"}}`, "index.js=", "package-lock.json={}"), "a Node package", []string{"/srv/app/index.js]"}, ""},
		{"Node that begins with a shell", tree(`package.json={"main": "x; rm -rf /"}`, "package-lock.json={}"), "a Node package", []string{"entrypoint: [/usr/bin/node, index.js]"}, "which file the program begins with is not said"},
		{"Node whose main file is a library's", tree(`package.json={"main": "./lib/web", "bin": {"web": "./bin/web"}, "scripts": {"start": "NODE_ENV=production node --no-warnings ./bin/web --port 80"}}`, "lib/web.js=", "bin/web=", "package-lock.json={}"), "a Node package",
			[]string{`entrypoint: [/usr/bin/node, "--no-warnings", /srv/app/bin/web, "--port", "80"]`}, ""},
		{"a command in Node", tree(`package.json={"name": "@a/tool", "main": "lib.js", "bin": {"other": "o.js", "tool": "cli.js"}}`, "lib.js=", "o.js=", "cli.js=", "package-lock.json={}"), "a Node package", []string{"/srv/app/cli.js]"}, ""},
		{"a service beside a command", tree(`package.json={"main": "serve.js", "bin": "make.js", "scripts": {"start": "pm2 start all"}}`, "serve.js=", "make.js=", "package-lock.json={}"), "a Node package", []string{"/srv/app/serve.js]"}, ""},
		{"Node whose own scripts need what only developers have", tree(`package.json={"scripts": {"prepare": "husky install"}}`, "index.js=", "package-lock.json={}"), "a Node package", []string{"npm ci --offline --no-audit", "npm prune --omit=dev --offline"}, ""},
		{"Node locked by another tool", tree(`package.json={}`, "index.js=", "yarn.lock="), "a Node package", nil, "there is no package-lock.json, and yarn.lock is not read; run: npm install"},
		{"Node with packages that are compiled", tree(`package.json={}`, "index.js=", `package-lock.json={"packages": {"node_modules/x": {"hasInstallScript": true}, "node_modules/x/node_modules/node-addon-api": {}}}`), "a Node package",
			[]string{"packages: [npm, g++, libnode-dev, make]", "npm_config_nodedir: /usr/include/nodejs"}, "when they are installed, scripts run of x; "},
		{"Node newer than the oldest suite's", tree(`package.json={}`, "index.js=", `package-lock.json={"packages": {"node_modules/x": {"engines": {"node": ">=20.1 <23"}}, "node_modules/y": {"dev": true, "engines": {"node": ">=99"}}}}`), "a Node package",
			[]string{"debian: {suite: trixie}"}, "packages come from trixie: x wants node >=20.1 <23, and bookworm has 18."},
		{"Node newer than any suite's", tree(`package.json={"engines": {"node": ">=22"}}`, "index.js=", "package-lock.json={}"), "a Node package", []string{"debian: {suite: trixie}"}, "package.json wants node >=22, and trixie has 20."},
		{"Python with hashes", tree("app.py=", "requirements.txt=a==1 --hash=sha256:00\n"), "a Python project", []string{`python: {wheels: {from: source, path: requirements.txt, python: "3.11"}}`, "--require-hashes", "entrypoint: [/usr/bin/python3, app.py]", "packages: [python3, ca-certificates]"}, ""},
		{"Python without", tree("app.py=", "requirements.txt=a\n"), "a Python project", []string{"-r /inputs/source/requirements-locked.txt"}, "requirements.txt is no list with hashes that pip reads; requirements-locked.txt is to be one; run: pip-compile --generate-hashes --output-file requirements-locked.txt requirements.txt"},
		{"Python that was given hashes", tree("app.py=", "requirements.txt=a\n", "requirements-locked.txt=a==1 --hash=sha256:00\n"), "a Python project", []string{"-r /inputs/source/requirements-locked.txt"}, ""},
		{"Python locked by uv", tree("pyproject.toml=[project]\n[project.scripts]\nx = \"p.cli:main\"\n", "uv.lock=version = 1\n", "src/p/cli.py="), "a Python project",
			[]string{`"import sys; from p.cli import main; sys.exit(main())"`, `PYTHONPATH: "/srv/app/src:/srv/app:/srv/lib"`}, "uv.lock is no list with hashes that pip reads; requirements-locked.txt is to be one; run: uv export"},
		{"Python on Debian's packages", tree("pyproject.toml=[project]\nrequires-python = \">=3.12\"\ndependencies = [\"Flask>=3\", \"PyYAML\", \"zope.x; sys_platform == 'win32'\", \"ruamel.yaml[a] (>1)\"]\n", "p/__main__.py="), "a Python project",
			[]string{"packages: [python3, ca-certificates, python3-flask, python3-ruamel-yaml, python3-yaml]", "suite: trixie", `entrypoint: [/usr/bin/python3, "-m", p]`}, "no list with hashes says what to install|packages come from trixie: pyproject.toml wants Python >=3.12, and bookworm has 3.11."},
		{"Python with setup.py", tree("setup.py=setup(\n  install_requires=[\n    'Flask', 'raven[flask]',\n    \"gevent>=1\"\n  ],\n)\n", "Procfile=worker: x\nweb: migrate; gunicorn p:app -k gevent\n"), "a Python project",
			[]string{"python3-flask, python3-gevent, python3-raven]", `entrypoint: [/usr/bin/python3, "-m", gunicorn, "p:app", "-k", gevent]`}, "no list with hashes"},
		{"Django", tree("manage.py=", "requirements.txt=a==1 --hash=sha256:00\n"), "a Python project", []string{`manage.py, runserver, "--noreload", "0.0.0.0:8000"]`, "ports: [8000/tcp]"}, ""},
		{"pylock.toml", tree("main.py=", "pylock.toml="), "a Python project", []string{"path: pylock.toml", "/inputs/wheels/*"}, ""},
		{"Python that names nothing", tree("pyproject.toml="), "a Python project", []string{"from: source, path: /, to: /srv/app"}, "nothing was found that says what the project needs|what begins the program was not found"},
		{"Meson", tree("meson.build="), "a project with Meson", []string{"meson setup"}, "which program it installs"},
		{"Meson that installs a program", tree("meson.build=executable('t', 't.c')\nexecutable(\n  'prog', 'a.c',\n  install : true)\n"), "a project with Meson", []string{"entrypoint: [/usr/bin/prog]"}, ""},
		{"CMake", tree("CMakeLists.txt=", "Makefile="), "a project with CMake", []string{"cmake --build"}, "which program it installs"},
		{"CMake that installs a program", tree("CMakeLists.txt=add_executable(test t.c)\nadd_executable (prog a.c)\ninstall(TARGETS lib prog RUNTIME)\n"), "a project with CMake", []string{"entrypoint: [/usr/bin/prog]"}, ""},
		{"autotools", tree("configure.ac=", "Makefile.am="), "a project with autotools", []string{"autoreconf --install\n      ./configure"}, "which program it installs"},
		{"autotools whose version is git's", tree("configure.ac=m4_include([version.m4])\nm4_include(m4/there.m4)\n", "m4/there.m4=", "Makefile.am=SUBDIRS = src\n", "src/Makefile.am=sbin_PROGRAMS = d\nbin_PROGRAMS += c $(X)\n", "tests/Makefile.am=bin_PROGRAMS = t\n", "Dockerfile=FROM x\nEXPOSE 53/udp 80\nENTRYPOINT [\"/usr/sbin/d\"]\n"), "a project with autotools",
			[]string{"entrypoint: [/usr/sbin/d]\n    ports: [53/udp, 80/tcp]"}, "configure.ac includes version.m4, which is not there"},
		{"a release with configure", tree("configure=#!/bin/sh\n"), "a project with autotools", []string{"packages: [gcc, libc6-dev, make]"}, "which program it installs"},
		{"make", tree("Makefile=all:\n\ninstall: all\n"), "a project with a Makefile", []string{"make install DESTDIR=$OUT"}, "which program it installs"},
		{"make that installs a program", tree("Makefile=PROG = x\nall: $(PROG)\n$(PROG): a.o\ninstall: all\n"), "a project with a Makefile", []string{"entrypoint: [/usr/bin/x]"}, ""},
		{"make that only builds a program", tree("Makefile=all: x\nx: x.c\n"), "a project with a Makefile", []string{"install -D -s -t $OUT/usr/bin x ", "entrypoint: [/usr/bin/x]"}, "Makefile has no target install"},
		{"make with one rule to install and to remove", tree("Makefile=.PHONY: all lib tests\nall: lib tests x\nlib tests x:\n\ttrue\ninstall uninstall:\n\ttrue\n"), "a project with a Makefile", []string{"make install DESTDIR=$OUT"}, "which program it installs"},
		{"make of what is no file", tree("Makefile=.PHONY: lib tests\nall: lib tests x\nlib:\ntests:\nx: x.c\ninstall := y\n"), "a project with a Makefile", []string{"install -D -s -t $OUT/usr/bin x ", "entrypoint: [/usr/bin/x]"}, "Makefile has no target install"},
		{"make without install", tree("makefile=all:\n"), "a project with a makefile", []string{"mkdir -p $OUT/usr/bin"}, "makefile has no target install|which program it installs"},
		{"files", tree("a.txt=<p>"), "files that are shipped as they are", []string{"{from: source, path: /, to: /srv}"}, "no build system was recognised"},
		{"pages", tree("index.html=<p>"), "a site of files", []string{"httpd", "ports: [8080/tcp]"}, ""},
		{"nothing", tree(), "an empty folder", nil, "there is nothing to ship yet"},
		{"a Dockerfile alone", tree("Dockerfile=FROM debian\nRUN apt-get update && apt-get install -y --no-install-recommends \\\n  # why\n  nginx curl && rm -rf /x\n"), "files that are shipped as they are", nil, "there is a Dockerfile, and no build system|Dockerfile installs curl, nginx; "},
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

// A folder may be called anything, and its name is text.
func TestWriteName(t *testing.T) {
	for _, name := range []string{"2048", "true", "1e3", "on", "0x1f", "1-2", "null"} {
		d, err := Write(tree("index.html=<p>"), Options{Name: name, Epoch: "commit", Platform: "linux/amd64"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := definition.Parse("quorate.yaml", d.Text)
		if err != nil || got.Name != name {
			t.Errorf("%q: %v\n%s", name, err, d.Text)
		}
	}
}

// A suite that the user names is taken, and what the project wants of it is said.
func TestWriteSuite(t *testing.T) {
	for suite, want := range map[string]string{
		"bookworm": "package.json wants node >=20, and bookworm has 18.20.4; what needs that will not build with Debian's packages",
		"trixie":   "",
	} {
		d, err := Write(tree(`package.json={"engines": {"node": ">=20"}}`, "index.js=", "package-lock.json={}", "requirements.txt=a"), Options{Name: "app", Suite: suite, Epoch: "commit", Platform: "linux/amd64"})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(d.Notes, "|"); got != want {
			t.Errorf("%s: notes %q, expected %q", suite, got, want)
		}
		if got, err := definition.Parse("quorate.yaml", d.Text); err != nil || got.Inputs.Debian.Suite != suite {
			t.Errorf("%s: %v\n%s", suite, err, d.Text)
		}
	}
	d, err := Write(tree("requirements.txt=a"), Options{Name: "app", Suite: "sid", Epoch: "commit", Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := definition.Parse("quorate.yaml", d.Text); err == nil || !strings.Contains(err.Error(), `inputs.debian.suite cannot be "sid"`) {
		t.Errorf("a suite that is none: %v", err)
	}
}

func TestAccepts(t *testing.T) {
	for _, test := range []struct {
		wanted, version string
		want            bool
	}{
		{"", "18.20.4", true}, {"*", "18.20.4", true}, {"lts/hydrogen", "18.20.4", true}, {"10 - 20", "18.20.4", true},
		{">=18", "18.20.4", true}, {">= 18", "18.20.4", true}, {">18", "18.20.4", false}, {">18.20.3", "18.20.4", true}, {">=20", "18.20.4", false},
		{"18", "18.20.4", true}, {"18.x", "18.20.4", true}, {"=18.20", "18.20.4", true}, {"18.19.x", "18.20.4", false}, {"v18.20.4", "18.20.4", true}, {"18.20.5", "18.20.4", false},
		{"^18.19.0", "18.20.4", true}, {"^18.21.0", "18.20.4", false}, {"~18.20.1", "18.20.4", true}, {"~18.19.1", "18.20.4", false}, {"^20 || ^18", "18.20.4", true},
		{"^14.17 || >=20", "18.20.4", false}, {">=14 <18", "18.20.4", false}, {">=14 <19", "18.20.4", true}, {"<=18", "18.20.4", true}, {"<=18.20.3", "18.20.4", false},
	} {
		if got := accepts(test.wanted, test.version); got != test.want {
			t.Errorf("%q has %s: got %v", test.wanted, test.version, got)
		}
	}
}

// Whatever lies in a project, a draft is a definition or an error.
func FuzzWrite(f *testing.F) {
	f.Add("go.mod", "module example.org/x\ngo 1.22\n", "FROM a\nEXPOSE 80\nENTRYPOINT [\"/x\", \"-y\"]\n")
	f.Add("go.work", "go 1.22\nuse ./a\n", "")
	f.Add("package.json", `{"main": "a", "bin": {"a": "b"}, "scripts": {"build": "x", "start": "node b"}, "engines": {"node": ">=20"}}`, "CMD node Dockerfile")
	f.Add("Cargo.toml", "[package]\nname = \"a\"\n", "RUN apt-get install -y a")
	f.Add("Makefile", "all: $(X)\nX=a b\ninstall:\n", "ENTRYPOINT b")
	f.Add("CMakeLists.txt", "add_executable(a)\ninstall(TARGETS a)", "")
	f.Add("meson.build", "executable('a', install: true)", "")
	f.Add("configure.ac", "m4_include([x])", "")
	f.Add("setup.py", "install_requires=['a[b]>1']", "CMD gunicorn a:b")
	f.Add("pyproject.toml", "[project]\nrequires-python = \">=3.12\"\n[project.scripts]\na = \"b:c\"\n", "CMD [\"python\", \"-c\", \"1\"]")
	f.Fuzz(func(t *testing.T, name, text, docker string) {
		switch name {
		case "go.mod", "go.work", "package.json", "Cargo.toml", "Makefile", "CMakeLists.txt", "meson.build", "configure.ac", "setup.py", "pyproject.toml":
		default:
			return
		}
		d, err := Write(fstest.MapFS{name: &fstest.MapFile{Data: []byte(text)}, "Dockerfile": &fstest.MapFile{Data: []byte(docker)}}, options)
		if err != nil {
			return
		}
		if _, err := definition.Parse("quorate.yaml", d.Text); err != nil {
			t.Errorf("%v\n%s", err, d.Text)
		}
	})
}
