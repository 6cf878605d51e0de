package draft

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
	"golang.org/x/mod/modfile"
)

var packageMain = regexp.MustCompile(`(?m)^package main\b`)

// goModule is built with the toolchain that its go.mod names, from the lock.
func goModule(p project) (*recipe, error) {
	text := p.read("go.mod")
	if text == "" {
		return nil, nil
	}
	mod, err := modfile.Parse("go.mod", []byte(text), nil)
	if err != nil {
		return nil, err
	}
	if mod.Module == nil {
		return nil, fmt.Errorf("go.mod has no module line; go mod init writes one")
	}
	programs := p.mains()
	r := &recipe{kind: "a Go module"}
	chain := toolchain(mod)
	if name := program(mod.Module.Mod.Path, "."); !plainWord.MatchString(name) || !goVersion.MatchString(chain) {
		return nil, fmt.Errorf("go.mod names the program %q and the toolchain %q; one of them is none", name, chain)
	}
	if len(programs) == 0 {
		r.notes = append(r.notes, "no package main was found in the module's top folder or in cmd/; name it in the step's go build")
		programs = []string{"."}
	}
	r.inputs = fmt.Sprintf("  go: {modules: {from: source, toolchain: %s}}   # what go.sum vouches for\n", chain)
	r.step = fmt.Sprintf(`    inputs: [source, modules]
    env:
      PATH: /inputs/modules/goroot/bin:/usr/bin:/bin
      GOPROXY: file:///inputs/modules
      GOSUMDB: "off"   # the lock was checked against it
      GOTOOLCHAIN: local
      CGO_ENABLED: "0"
    run: |
      cd /inputs/source
      mkdir -p $OUT/usr/bin
      go build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o $OUT/usr/bin/ %s
`, strings.Join(programs, " "))
	r.image = "  packages: [ca-certificates, tzdata]\n" + onlyShipped + "  without: [debconf, openssl]\n" + service
	r.copy = fromBuild
	r.config = fmt.Sprintf("    entrypoint: [/usr/bin/%s]\n", program(mod.Module.Mod.Path, programs[0]))
	if !p.has("go.sum") && len(mod.Require) > 0 {
		r.notes = append(r.notes, "there is no go.sum; run: go mod tidy")
	}
	return r, nil
}

// toolchain is the version that go.mod wants: the line toolchain, else the line go (go.dev/doc/toolchain).
func toolchain(mod *modfile.File) string {
	if mod.Toolchain != nil && mod.Toolchain.Name != "default" {
		return mod.Toolchain.Name
	}
	version := "1.24.0" // go.mod without a version is from before there were toolchains to choose
	if mod.Go != nil {
		version = mod.Go.Version
	}
	parts := strings.Split(version, ".")
	if len(parts) == 2 && !strings.ContainsAny(parts[1], "rb") {
		version += ".0"
	}
	if len(parts) >= 2 && parts[0] == "1" && len(strings.TrimLeft(parts[1], "0123456789")) == 0 && number(parts[1]) < 21 {
		return "go1.24.0" // versions before 1.21 are no modules that could be locked
	}
	return "go" + version
}

func number(s string) int {
	n := 0
	_, _ = fmt.Sscanf(s, "%d", &n)
	return n
}

// mains are the module's programs where they usually are: on top, or in cmd/.
func (p project) mains() []string {
	var found []string
	for _, dir := range append([]string{"."}, p.folders("cmd")...) {
		files, _ := fs.Glob(p.dir, path.Join(dir, "*.go"))
		for _, f := range files {
			if !strings.HasSuffix(f, "_test.go") && plainPath.MatchString(f) && packageMain.MatchString(p.read(f)) {
				found = append(found, relative(dir))
				break
			}
		}
	}
	return found
}

func relative(dir string) string {
	if dir == "." {
		return "."
	}
	return "./" + dir
}

func (p project) folders(dir string) []string {
	entries, _ := fs.ReadDir(p.dir, dir)
	var all []string
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, path.Join(dir, e.Name()))
		}
	}
	return all
}

// goVersion is what the go command takes as a toolchain (go.dev/doc/toolchain).
var goVersion = regexp.MustCompile(`^go1\.[0-9]+(\.[0-9]+|rc[0-9]+|beta[0-9]+)$`)

var majorSuffix = regexp.MustCompile(`/v[0-9]+$`)

// program is the name that go build gives.
func program(module, dir string) string {
	if dir == "." {
		return path.Base(majorSuffix.ReplaceAllString(module, ""))
	}
	return path.Base(dir)
}

const cargoFile = "Cargo.toml"

// cargoCrate is built by Debian's cargo from vendored crates.
func cargoCrate(p project) (*recipe, error) {
	text := p.read(cargoFile)
	if text == "" {
		return nil, nil
	}
	var manifest struct {
		Package struct {
			Name string `toml:"name"`
		} `toml:"package"`
		Bin []struct {
			Name string `toml:"name"`
		} `toml:"bin"`
	}
	if _, err := toml.Decode(text, &manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", cargoFile, err)
	}
	name := manifest.Package.Name
	if len(manifest.Bin) > 0 {
		name = manifest.Bin[0].Name
	}
	r := &recipe{kind: "a Rust crate"}
	if name == "" {
		name = p.Name
		r.notes = append(r.notes, "Cargo.toml names no package; say in the step which program of the workspace to install")
	}
	if !plainWord.MatchString(name) {
		return nil, fmt.Errorf("%s names the program %q, which is none", cargoFile, name)
	}
	r.inputs = "  cargo: {crates: {from: source}}   # what Cargo.lock names\n"
	r.step = fmt.Sprintf(`    packages: [cargo, libc6-dev]
    inputs: [source, crates]
    env: {RUSTFLAGS: "--remap-path-prefix=/inputs/source=. -C link-arg=-Wl,--build-id=none"}
    run: |
      cd /inputs/source
      cargo --config /inputs/crates/config.toml build --release --offline --locked --target-dir /build/target
      install -D --strip /build/target/release/%[1]s $OUT/usr/bin/%[1]s
`, name)
	r.image = "  packages: [libc6, libgcc-s1, ca-certificates]\n" + onlyShipped + "  without: [debconf, openssl]\n"
	r.copy, r.config = fromBuild, fmt.Sprintf("    entrypoint: [/usr/bin/%s]\n", name)
	if !p.has("Cargo.lock") {
		r.notes = append(r.notes, "there is no Cargo.lock; run: cargo generate-lockfile")
	}
	return r, nil
}

// plainWord is a name that may stand in a shell's line and in YAML as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// plainPath is the same for a file of the project.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/-]*$`)

// nodePackage is installed by npm from the locked cache.
func nodePackage(p project) (*recipe, error) {
	text := p.read("package.json")
	if text == "" {
		return nil, nil
	}
	var manifest struct {
		Main    string            `json:"main"`
		Scripts map[string]string `json:"scripts"`
	}
	if err := json.Unmarshal([]byte(text), &manifest); err != nil {
		return nil, fmt.Errorf("package.json: %w", err)
	}
	r := &recipe{kind: "a Node package"}
	main := strings.TrimPrefix(manifest.Main, "./")
	if start, ok := strings.CutPrefix(manifest.Scripts["start"], "node "); ok && main == "" {
		main = strings.TrimPrefix(strings.TrimSpace(start), "./")
	}
	if main == "" || !plainPath.MatchString(main) || strings.Contains(main, "..") {
		main = "index.js"
	}
	build := ""
	if manifest.Scripts["build"] != "" {
		build = "      npm run build\n      npm prune --omit=dev --offline --no-audit --no-fund\n"
	}
	omit := " --omit=dev"
	if build != "" {
		omit = ""
	}
	r.inputs = "  npm: {packages: {from: source}}   # what package-lock.json names\n"
	r.step = fmt.Sprintf(`    packages: [npm]
    inputs: [source, packages]
    env: {npm_config_registry: "http://registry.invalid/"}   # what the locked cache answers for
    run: |
      cp -r /inputs/packages/. ~/.npm
      mkdir -p $OUT/srv
      cp -r /inputs/source $OUT/srv/app
      cd $OUT/srv/app
      npm ci --offline%s --no-audit --no-fund --no-update-notifier
%s      rm node_modules/.package-lock.json   # npm's note of when it looked
`, omit, build)
	r.image = "  packages: [nodejs]\n" + onlyShipped + service
	r.copy = fromBuild
	r.config = fmt.Sprintf("    entrypoint: [/usr/bin/node, /srv/app/%s]\n    working-dir: /srv/app\n", main)
	if !p.has("package-lock.json") {
		r.notes = append(r.notes, "there is no package-lock.json; run: npm install --package-lock-only")
	}
	return r, nil
}

// pythonProject installs what requirements.txt or pylock.toml names beside the sources.
func pythonProject(p project) (*recipe, error) {
	if !p.has("requirements.txt", "pylock.toml", "pyproject.toml", "setup.py") {
		return nil, nil
	}
	r := &recipe{kind: "a Python project"}
	r.image = "  packages: [python3]\n" + onlyShipped + service
	r.config = "    entrypoint: [/usr/bin/python3]   # name the module or the file: [/usr/bin/python3, -m, …]\n    working-dir: /srv/app\n"
	lock := ""
	switch {
	case p.has("requirements.txt"):
		lock = "requirements.txt"
		if !strings.Contains(p.read(lock), "--hash=") && strings.TrimSpace(p.read(lock)) != "" {
			r.notes = append(r.notes, "requirements.txt has no hashes; run: pip-compile --generate-hashes (of pip-tools)")
		}
	case p.has("pylock.toml"):
		lock = "pylock.toml"
	default:
		r.copy = "{from: source, path: /, to: /srv/app}"
		r.notes = append(r.notes, "neither requirements.txt nor pylock.toml says what the project needs; name Debian's packages under image.packages")
		return r, nil
	}
	version := map[string]string{"bookworm": "3.11", "trixie": "3.13"}[p.Suite]
	r.inputs = fmt.Sprintf("  python: {wheels: {from: source, path: %s, python: %q}}\n", lock, version)
	install := "--require-hashes -r /inputs/source/requirements.txt"
	if lock == "pylock.toml" {
		install = "/inputs/wheels/*" // pip of this suite does not read pylock.toml; the lock was made of it
	}
	r.step = fmt.Sprintf(`    packages: [python3-pip]
    inputs: [source, wheels]
    run: |
      mkdir -p $OUT/srv
      cp -r /inputs/source $OUT/srv/app
      pip install --no-index --find-links /inputs/wheels --no-deps --no-compile --target $OUT/srv/lib %s
      rm -rf $OUT/srv/lib/bin
`, install)
	r.copy = fromBuild
	r.config = "    entrypoint: [/usr/bin/python3]   # name the module or the file: [/usr/bin/python3, -m, …]\n" +
		"    env: {PYTHONPATH: \"/srv/app:/srv/lib\", PYTHONDONTWRITEBYTECODE: \"1\"}\n    working-dir: /srv/app\n"
	return r, nil
}
