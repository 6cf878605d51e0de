package draft

import (
	"fmt"
	"go/build/constraint"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

const (
	goModFile  = "go.mod"
	goWorkFile = "go.work"

	// plainGo is the toolchain of modules that name none, or one from before toolchains could be locked (1.21).
	plainGo = "go1.26.0"
)

// goModule is built with the toolchain that its go.mod or go.work names, from the lock.
func goModule(p project) (*recipe, error) {
	m, err := p.module()
	if m == nil || err != nil {
		return nil, err
	}
	r := &recipe{kind: m.kind}
	h := p.hints()
	c := p.goCode(m)
	programs := c.chosen(m.used)
	first := entry(programs, h.program(), m.name, p.Name)
	if len(programs) == 0 {
		first = program{".", m.name}
		programs = []program{first}
		r.notes = append(r.notes, "no package main was found; name the one to build in the step's go build, and in image.config.entrypoint")
	} else if len(programs) > 1 {
		r.notes = append(r.notes, fmt.Sprintf("it has the programs %s; image.config.entrypoint begins %s", strings.Join(names(programs), ", "), first.name))
	}
	folder, front := "source", p.frontEnd(r)
	if front != "" {
		folder = "frontend"
	}
	r.inputs = fmt.Sprintf("  go: {modules: {from: source, toolchain: %s}}   # what go.sum vouches for, with the oldest Go that is accepted\n", m.toolchain) + r.inputs
	cgo, packages := "0", ""
	if c.cgo {
		cgo, packages = "1", "    packages: [gcc, libc6-dev]   # for cgo, and the -dev packages of what it links\n"
	}
	var dirs []string
	for _, prog := range programs {
		dirs = append(dirs, prog.dir)
	}
	r.before = front
	r.step = packages + fmt.Sprintf(`    inputs: [%s, modules]
    env:
      PATH: /inputs/modules/goroot/bin:/usr/bin:/bin
      GOPROXY: file:///inputs/modules
      GOSUMDB: "off"   # the lock was checked against it
      GOTOOLCHAIN: local
      CGO_ENABLED: %q
    run: |
      cd /inputs/%s
      mkdir -p $OUT/usr/bin
      go build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o $OUT/usr/bin/ %s
`, folder, cgo, folder, strings.Join(dirs, " "))
	image := "ca-certificates, tzdata"
	if c.cgo {
		image = "libc6, " + image
	}
	r.image = "  packages: [" + image + "]\n" + onlyShipped + "  without: [debconf, openssl]\n" + service
	r.copy = fromBuild
	r.config = fmt.Sprintf("    entrypoint: [/usr/bin/%s]\n", first.name)
	if !p.has("go.sum") && m.requires {
		r.notes = append(r.notes, "there is no go.sum; run: go mod tidy")
	}
	h.apply(r)
	return r, nil
}

// goProject is what go.mod or go.work says.
type goProject struct {
	kind      string
	name      string   // that go build gives to a program in the top folder
	toolchain string   // "go1.26.0"
	used      []string // folders of the workspace's modules; "." of a module
	requires  bool     // a module that needs others
}

// module reads go.work, else go.mod, in the order of the go command; nil for neither.
func (p project) module() (*goProject, error) {
	m, err := p.goMod()
	if err != nil {
		return nil, err
	}
	if text := p.read(goWorkFile); text != "" {
		work, err := modfile.ParseWork(goWorkFile, []byte(text), nil)
		if err != nil {
			return nil, err
		}
		w := &goProject{kind: "a Go workspace", name: p.Name, toolchain: toolchain(work.Go, work.Toolchain)}
		if m != nil {
			w.name = m.name
		}
		for _, use := range work.Use {
			if dir := path.Clean(use.Path); fs.ValidPath(dir) {
				w.used = append(w.used, dir)
			}
		}
		m = w
	}
	if m != nil && (!plainWord.MatchString(m.name) || !goVersion.MatchString(m.toolchain)) {
		return nil, fmt.Errorf("go.mod names the program %q and the toolchain %q; one of them is none", m.name, m.toolchain)
	}
	return m, nil
}

func (p project) goMod() (*goProject, error) {
	text := p.read(goModFile)
	if text == "" {
		return nil, nil
	}
	mod, err := modfile.Parse(goModFile, []byte(text), nil)
	if err != nil {
		return nil, err
	}
	if mod.Module == nil {
		return nil, fmt.Errorf("go.mod has no module line; go mod init writes one")
	}
	name := path.Base(majorSuffix.ReplaceAllString(mod.Module.Mod.Path, ""))
	return &goProject{"a Go module", name, toolchain(mod.Go, mod.Toolchain), []string{"."}, len(mod.Require) > 0}, nil
}

// toolchain is the version that go.mod wants: the line toolchain, else the line go (go.dev/doc/toolchain).
func toolchain(line *modfile.Go, chain *modfile.Toolchain) string {
	if chain != nil && chain.Name != "default" {
		return chain.Name
	}
	if line == nil {
		return plainGo
	}
	version := line.Version
	parts := strings.Split(version, ".")
	if len(parts) == 2 && !strings.ContainsAny(parts[1], "rb") {
		version += ".0"
	}
	if len(parts) >= 2 && parts[0] == "1" && len(strings.TrimLeft(parts[1], "0123456789")) == 0 && number(parts[1]) < 21 {
		return plainGo
	}
	return "go" + version
}

func number(s string) int {
	n := 0
	_, _ = fmt.Sscanf(s, "%d", &n)
	return n
}

// goVersion is what the go command takes as a toolchain (go.dev/doc/toolchain).
var goVersion = regexp.MustCompile(`^go1\.[0-9]+(\.[0-9]+|rc[0-9]+|beta[0-9]+)$`)

var majorSuffix = regexp.MustCompile(`/v[0-9]+$`)

// program is a package main: where it is, as go build takes it, and how what is built is called.
type program struct{ dir, name string }

func names(programs []program) []string {
	var all []string
	for _, p := range programs {
		all = append(all, p.name)
	}
	return all
}

// entry is the program that an image begins: the first of these names that is one, else the first program.
func entry(programs []program, wanted ...string) program {
	for _, name := range wanted {
		if i := slices.IndexFunc(programs, func(p program) bool { return p.name == name }); i >= 0 {
			return programs[i]
		}
	}
	if len(programs) == 0 {
		return program{}
	}
	return programs[0]
}

// goCode is what the Go files of a project tell.
type goCode struct {
	mains []string // folders of programs, sorted
	cgo   bool     // a C compiler is needed
	top   string   // what a program in the top folder is called
}

// maxFiles bounds how many files of a project are looked at: kubernetes has 26,000.
const maxFiles = 50_000

var (
	packageMain = regexp.MustCompile(`(?m)^package main\b`)

	// needsC is an import of C, or of a module that works only with cgo and brings its C along.
	needsC = regexp.MustCompile(`(?m)^(?:import\s+|\s+)(?:[\w.]+\s+)?"(?:C|github\.com/mattn/go-sqlite3|gorm\.io/driver/sqlite|github\.com/confluentinc/confluent-kafka-go[^"]*|github\.com/marcboeker/go-duckdb[^"]*)"`)
)

// goCode reads the Go files that a build of the module, or of the modules of the workspace, could take.
func (p project) goCode(m *goProject) goCode {
	c := goCode{top: m.name}
	seen := 0
	_ = fs.WalkDir(p.dir, ".", func(name string, e fs.DirEntry, err error) error {
		if seen++; seen > maxFiles {
			return fs.SkipAll
		}
		if err != nil {
			return nil // what cannot be read is not looked into; the lock will say so
		}
		if e.IsDir() {
			if name != "." && (outside(e.Name()) || p.has(path.Join(name, goModFile)) && !slices.Contains(m.used, name)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text := p.read(name)
		if !builtByName(name, p.Platform) || !built(text, p.Platform) {
			return nil
		}
		c.cgo = c.cgo || needsC.MatchString(text)
		if dir := path.Dir(name); packageMain.MatchString(text) && !slices.Contains(c.mains, dir) && plainPath.MatchString(name) {
			c.mains = append(c.mains, dir)
		}
		return nil
	})
	slices.Sort(c.mains)
	return c
}

// outside reports whether the go command leaves out a folder (go help packages).
func outside(folder string) bool {
	return folder == "vendor" || folder == "testdata" || folder == "node_modules" || strings.HasPrefix(folder, "_") || strings.HasPrefix(folder, ".")
}

// built reports whether a file's //go:build line holds for a platform and no tags.
func built(text, platform string) bool {
	head, _, _ := strings.Cut(text, "\npackage ")
	for line := range strings.Lines(head) {
		if line = strings.TrimSpace(line); !constraint.IsGoBuild(line) {
			continue
		}
		expr, err := constraint.Parse(line)
		return err == nil && expr.Eval(func(tag string) bool {
			return tag == "linux" || tag == "unix" || tag == "gc" || tag == "cgo" || tag == path.Base(platform) || strings.HasPrefix(tag, "go1.")
		})
	}
	return true
}

// Systems and architectures of file names, beside Linux and those of Debian (go help buildconstraint).
var (
	otherSystems = strings.Fields("aix android darwin dragonfly freebsd illumos ios js netbsd openbsd plan9 solaris wasip1 windows")
	otherArchs   = strings.Fields("386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm")
)

// builtByName reports whether a file's name is that of a file for the platform: not x_windows.go.
func builtByName(name, platform string) bool {
	words := strings.Split(strings.TrimSuffix(path.Base(name), ".go"), "_")
	return !slices.ContainsFunc(words[max(1, len(words)-2):], func(w string) bool {
		return slices.Contains(otherSystems, w) || slices.Contains(otherArchs, w) && w != path.Base(platform)
	})
}

// aside is where programs lie that help the project and are not what it is for.
var aside = []string{"example", "examples", "test", "tests", "e2e", "tools", "hack", "scripts", "internal", "docs", "generators", "plugin", "plugins"}

// chosen are the programs to build: those on top of a module and in its cmd/; where
// there are none, those elsewhere that do not lie aside. Of two with one name the first counts.
func (c goCode) chosen(modules []string) []program {
	var usual, other []program
	add := func(list *[]program, dir string) {
		prog := program{"./" + dir, path.Base(dir)}
		if dir == "." {
			prog = program{".", c.top}
		}
		if entry(*list, prog.name).name != prog.name {
			*list = append(*list, prog)
		}
	}
	for _, dir := range c.mains {
		if slices.ContainsFunc(strings.Split(dir, "/"), func(f string) bool { return slices.Contains(aside, f) }) {
			continue
		}
		if slices.ContainsFunc(modules, func(m string) bool { return dir == m || path.Dir(dir) == path.Join(m, "cmd") }) {
			add(&usual, dir)
		} else {
			add(&other, dir)
		}
	}
	if len(usual) > 0 {
		return usual
	}
	return other
}

// frontEnd returns the step that builds the pages that a program embeds; "" when there is none, or when it cannot be locked.
func (p project) frontEnd(r *recipe) string {
	for _, dir := range append([]string{"."}, p.folders(".")...) {
		n, err := p.node(dir)
		if n == nil || err != nil || n.Scripts["build"] == "" || !plainPath.MatchString(path.Join(dir, "package.json")) {
			continue
		}
		if !p.has(path.Join(dir, packageLock)) {
			r.notes = append(r.notes, fmt.Sprintf("%s has a front end that is not built here: %s", path.Join(dir, "package.json"), p.noLock(dir)))
			return ""
		}
		where := "{from: source}}   # what package-lock.json names\n"
		if dir != "." {
			where = "{from: source, path: " + dir + "}}\n"
		}
		r.inputs = "  npm: {packages: " + where
		r.kind += " with a front end in Node"
		return "  - name: frontend   # a copy of the sources, with what npm run build makes\n" + p.nodeTools(dir) + fmt.Sprintf(`    run: |
      cp -r /inputs/packages/. ~/.npm
      cp -r /inputs/source/. $OUT
      cd %s
      npm ci --offline --no-audit --no-fund --no-update-notifier
      npm run build
      rm -rf node_modules
`, path.Join("$OUT", dir))
	}
	return ""
}

func (p project) folders(dir string) []string {
	entries, _ := fs.ReadDir(p.dir, dir)
	var all []string
	for _, e := range entries {
		if e.IsDir() && !outside(e.Name()) {
			all = append(all, path.Join(dir, e.Name()))
		}
	}
	return all
}
