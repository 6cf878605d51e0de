package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "quorate.dev/"
	source = "../.." // the checkout, seen from this package
)

// layers says which packages must never be reached, through however many
// imports, and why. A name ending in "/..." stands for a folder and all below
// it. Ours are written without the module's path; std ones have no dot in it.
var layers = []struct {
	from   []string
	except []string
	never  []string
	reason string
}{
	{
		from:   []string{"lockfile", "lockfile/definition", "lockfile/digest", "lockfile/strictyaml"},
		never:  []string{"net/http", "os/exec", "lockfile/source/...", "lockfile/resolve", "lockfile/fetch"},
		reason: "they are read by machines that never build and never fetch",
	},
	{
		from:   []string{"lockfile/digest"},
		never:  []string{"lockfile", "lockfile/definition", "lockfile/strictyaml"},
		reason: "everything may speak of digests, so they may speak of nothing",
	},
	{
		from:   []string{"lockfile/..."},
		never:  []string{"builder/...", "rebuild/...", "diff/...", "cmd/..."},
		reason: "folders are an order: lockfile, builder, rebuild, cmd",
	},
	{
		from:   []string{"lockfile/fetch"},
		never:  []string{"lockfile/source/...", "lockfile/resolve"},
		reason: "fetching may not choose; openers are handed in",
	},
	{
		from:   []string{"lockfile/source/..."},
		never:  []string{"lockfile/resolve"},
		reason: "a source answers what it is asked; resolve asks all of them",
	},
	{
		from:   []string{"builder/..."},
		never:  []string{"lockfile/source/...", "lockfile/resolve", "rebuild/...", "diff/...", "cmd/..."},
		reason: "a build chooses nothing and does not know who else builds",
	},
	{
		from:   []string{"builder/..."},
		except: []string{"builder/registry"},
		never:  []string{"net/http"},
		reason: "a build has no network; all registry traffic is builder/registry's",
	},
	{
		from:   []string{"builder/unpack/...", "builder/tree", "builder/layer", "builder/image", "builder/sbom", "builder/installed"},
		never:  []string{"net/http", "os/exec", "builder/sandbox", "builder/store"},
		reason: "they decide the output bytes, and take bytes only",
	},
	{
		from:   []string{"diff/..."},
		never:  []string{"lockfile/...", "builder/...", "rebuild/...", "cmd/...", "net/http"},
		reason: "it works on images that we did not make",
	},
	{
		from:   []string{"lockfile/...", "builder/...", "rebuild/..."},
		never:  []string{"diff/..."},
		reason: "comparing stands alone; only the command line joins it to the rest",
	},
	{
		from:   []string{"rebuild/agreement", "rebuild/attestation", "rebuild/keyfile"},
		never:  []string{"builder/...", "lockfile/source/...", "lockfile/resolve", "lockfile/fetch", "rebuild/host/..."},
		reason: "the judge is pure, and a verifier links no ecosystem",
	},
	{
		from:   []string{"rebuild/agreement", "rebuild/attestation"},
		never:  []string{"net/http"},
		reason: "verifying needs files only",
	},
	{
		from:   []string{"rebuild/agreement", "rebuild/attestation", "rebuild/keyfile"},
		never:  []string{"rebuild/keyfile/external", "os/exec"},
		reason: "verifying runs no program; only who signs may, with a key that one keeps",
	},
	{
		from:   []string{"lockfile/...", "builder/...", "rebuild/...", "diff/..."},
		except: []string{"rebuild/host/docker"},
		never:  []string{"github.com/docker/docker/...", "github.com/moby/profiles/..."},
		reason: "a Docker Engine is one host among others; only its own package knows the client",
	},
	{
		from:   []string{"rebuild/host/remote", "rebuild/serve"},
		never:  []string{"rebuild/host/local", "rebuild/host/docker", "lockfile/source/...", "lockfile/resolve", "lockfile/fetch", "rebuild/attestation"},
		reason: "a line and a service start nothing, fetch nothing and sign nothing themselves; where workers run is handed in",
	},
	{
		from:   []string{"rebuild", "rebuild/host/..."},
		never:  []string{"rebuild/serve"},
		reason: "who asks does not know who answers; they share the protocol, which is rebuild/host/remote's",
	},
	{
		from:   []string{"rebuild/..."},
		never:  []string{"cmd/..."},
		reason: "folders are an order: lockfile, builder, rebuild, cmd",
	},
}

// listed is what we ask `go list` of a package.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	Imports    []string
	Deps       []string
}

// goList lists our packages and everything they reach, in one call.
func goList(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,Imports,Deps", "./...")
	cmd.Dir = source
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	all := map[string]listed{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	return all
}

// ours turns an import path into the name that the table uses.
func ours(importPath string) string { return strings.TrimPrefix(importPath, module) }

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if folder, ok := strings.CutSuffix(p, "/..."); ok {
			return name == folder || strings.HasPrefix(name, folder+"/")
		}
		return name == p
	})
}

func TestLayering(t *testing.T) {
	all := goList(t)
	for _, why := range brokenLayers(all) {
		t.Error(why)
	}
	if _, ok := all[module+"lockfile/digest"]; !ok {
		t.Error("go list does not list lockfile/digest: the test looks at nothing")
	}
}

func brokenLayers(all map[string]listed) []string {
	var broken []string
	for _, importPath := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(importPath, module) {
			continue
		}
		for _, rule := range layers {
			if !matches(rule.from, ours(importPath)) || matches(rule.except, ours(importPath)) {
				continue
			}
			for _, dep := range all[importPath].Deps {
				if matches(rule.never, ours(dep)) {
					broken = append(broken, fmt.Sprintf("%s reaches %s: %s\n\tthrough %s",
						ours(importPath), ours(dep), rule.reason, chain(all, importPath, dep)))
				}
			}
		}
	}
	return broken
}

// chain is a shortest way of imports from one package to another.
func chain(all map[string]listed, from, to string) string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == to {
			break
		}
		for _, next := range all[queue[0]].Imports {
			if _, seen := before[next]; !seen {
				before[next] = queue[0]
				queue = append(queue, next)
			}
		}
	}
	var way []string
	for p := to; p != ""; p = before[p] {
		way = append(way, ours(p))
	}
	slices.Reverse(way)
	return strings.Join(way, " → ")
}

// The rules themselves are tested: a made-up graph that breaks one is noticed,
// also through a package that is not ours.
func TestLayeringNotices(t *testing.T) {
	graph := func(edges ...string) map[string]listed {
		all := map[string]listed{}
		for _, e := range edges {
			from, to, _ := strings.Cut(e, " ")
			p := all[from]
			p.ImportPath, p.Imports = from, append(p.Imports, to)
			all[from] = p
		}
		for from, p := range all { // Deps, as go list closes them
			seen := map[string]bool{}
			for queue := slices.Clone(p.Imports); len(queue) > 0; queue = queue[1:] {
				if !seen[queue[0]] {
					seen[queue[0]] = true
					p.Deps = append(p.Deps, queue[0])
					queue = append(queue, all[queue[0]].Imports...)
				}
			}
			all[from] = p
		}
		return all
	}
	for _, test := range []struct {
		summary string
		all     map[string]listed
		want    []string
	}{
		{"allowed", graph(module+"builder "+module+"lockfile", module+"rebuild "+module+"builder"), nil},
		{
			"through a foreign package",
			graph(module+"diff/cause example.org/x", "example.org/x net/http"),
			[]string{"diff/cause reaches net/http: it works on images that we did not make\n\tthrough diff/cause → example.org/x → net/http"},
		},
		{
			"the registry may, its neighbour may not",
			graph(module+"builder/registry net/http", module+"builder/layer net/http"),
			[]string{
				"builder/layer reaches net/http: a build has no network; all registry traffic is builder/registry's\n\tthrough builder/layer → net/http",
				"builder/layer reaches net/http: they decide the output bytes, and take bytes only\n\tthrough builder/layer → net/http",
			},
		},
		{"a name that only begins alike", graph(module + "lockfile/fetch " + module + "lockfile/sourcery"), nil},
	} {
		t.Run(test.summary, func(t *testing.T) {
			if got := brokenLayers(test.all); !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// topLevel is all that may lie in the root of the repository, besides
// dot-folders and what .gitignore names.
var topLevel = []string{
	"LICENSE", "Makefile", "README.md", "builder", "cmd", "diff", "examples", "go.mod", "go.sum", "lockfile", "rebuild", "testdata",
}

// vagueNames are folders whose code has an owner that was not named.
var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "internal", "pkg", "misc", "shared", "lib"}

func TestFolders(t *testing.T) {
	ignored, err := os.ReadFile(filepath.Join(source, ".gitignore"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || strings.Contains(string(ignored), "/"+name+"/\n") {
			continue
		}
		if !slices.Contains(topLevel, name) {
			t.Errorf("%q lies at the top of the repository; what may is fixed: %q", name, topLevel)
		}
	}
	walkSource(t, func(name string, d fs.DirEntry) {
		if d.IsDir() && slices.Contains(vagueNames, path.Base(name)) {
			t.Errorf("folder %q: its code has an owner that was not named", name)
		}
	})
}

// walkSource calls f for every file and folder of the checkout, by
// slash-separated path, without .git and what is built.
func walkSource(t *testing.T, f func(name string, d fs.DirEntry)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(source), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if name != "." {
				return nil // a temporary file that has gone meanwhile
			}
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "bin", "results"}, name) {
			return fs.SkipDir
		}
		f(name, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// forbiddenCalls are what packages that decide output bytes may not look at:
// neither clock, environment, machine nor chance.
var forbiddenCalls = map[string][]string{
	"time":    {"Now", "Since", "Until", "Local", "LoadLocation"},
	"os":      {"Getenv", "LookupEnv", "Environ", "Hostname", "Getpid", "Getuid", "Getgid", "Getwd", "TempDir", "UserHomeDir"},
	"runtime": {"NumCPU", "GOMAXPROCS", "GOOS", "GOARCH"},
}

// forbiddenImports are chance itself. (Through a compressor every package
// reaches them, so TestLayering cannot say this.)
var forbiddenImports = []string{"math/rand", "math/rand/v2", "crypto/rand"}

// pureFolders are where forbiddenCalls holds.
var pureFolders = []string{"builder/unpack/...", "builder/tree", "builder/layer", "builder/image", "builder/sbom", "builder/installed"}

func TestSource(t *testing.T) {
	files := 0
	walkSource(t, func(name string, d fs.DirEntry) {
		if d.IsDir() || path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			return
		}
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		files++
		for _, why := range badSource(t, name, text) {
			t.Error(why)
		}
	})
	if files < 10 {
		t.Errorf("looked at %d files only", files)
	}
}

// badSource says what a file of ours may not do.
func badSource(t *testing.T, name string, text []byte) []string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var bad []string
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			bad = append(bad, fmt.Sprintf("%s: func init: lists are explicit here, nothing registers itself", fset.Position(f.Pos())))
		}
	}
	if strings.HasSuffix(name, "_test.go") {
		bad = append(bad, misnamedSlowTests(fset, file)...)
	}
	if strings.HasSuffix(name, "_test.go") || !matches(pureFolders, path.Dir(name)) {
		return bad
	}
	imported := map[string]string{} // local name → path
	for _, spec := range file.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		local := path.Base(p)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		imported[local] = p
		if slices.Contains(forbiddenImports, p) {
			bad = append(bad, fmt.Sprintf("%s: import of %q in a package that decides output bytes", fset.Position(spec.Pos()), p))
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(forbiddenCalls[imported[x.Name]], sel.Sel.Name) {
			bad = append(bad, fmt.Sprintf("%s: %s.%s in a package that decides output bytes", fset.Position(n.Pos()), x.Name, sel.Sel.Name))
		}
		return true
	})
	return bad
}

// misnamedSlowTests finds tests that wait for QUORATE_REAL and that `make real`
// would not run, because it takes those named TestReal….
func misnamedSlowTests(fset *token.FileSet, file *ast.File) []string {
	var bad []string
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "TestReal") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Value == `"QUORATE_REAL"` {
				bad = append(bad, fmt.Sprintf("%s: %s looks at QUORATE_REAL, so its name must begin with TestReal", fset.Position(n.Pos()), f.Name.Name))
			}
			return true
		})
	}
	return bad
}

func TestSourceNotices(t *testing.T) {
	for _, test := range []struct {
		summary, name, text string
		want                []string
	}{
		{
			"init", "lockfile/x.go", "package x\nfunc init() {}\n",
			[]string{"lockfile/x.go:2:1: func init: lists are explicit here, nothing registers itself"},
		},
		{"a method called init", "lockfile/x.go", "package x\ntype T int\nfunc (T) init() {}\n", nil},
		{
			"the clock, under another name", "builder/layer/x.go", "package layer\nimport clock \"time\"\nvar t = clock.Now()\n",
			[]string{"builder/layer/x.go:3:9: clock.Now in a package that decides output bytes"},
		},
		{
			"chance", "builder/unpack/deb/x.go", "package deb\nimport _ \"math/rand/v2\"\n",
			[]string{"builder/unpack/deb/x.go:2:8: import of \"math/rand/v2\" in a package that decides output bytes"},
		},
		{"the clock in a test", "builder/layer/x_test.go", "package layer\nimport \"time\"\nvar t = time.Now()\n", nil},
		{
			"a slow test that nobody runs", "diff/x_test.go", "package diff\nfunc TestSlow() { os.Getenv(\"QUORATE_REAL\") }\nfunc TestRealSlow() { os.Getenv(\"QUORATE_REAL\") }\n",
			[]string{"diff/x_test.go:2:29: TestSlow looks at QUORATE_REAL, so its name must begin with TestReal"},
		},
		{"the clock elsewhere", "builder/x.go", "package builder\nimport \"time\"\nvar t = time.Now()\n", nil},
	} {
		t.Run(test.summary, func(t *testing.T) {
			if got := badSource(t, test.name, []byte(test.text)); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// machineNames belong to one machine or one service; where bytes come from is
// configuration and never part of the source. They are written in halves, so
// that this file does not hold them.
var machineNames = []string{
	"deb." + "debian.org", "security." + "debian.org", "ftp." + "debian.org", "httpredir." + "debian.org",
	"archive." + "ubuntu.com", "proxy." + "golang.org", "registry." + "npmjs.org", "registry-1." + "docker.io",
	"/work" + "/main", "/work" + "/shared", "/farm" + "/",
}

func TestNoMachineNames(t *testing.T) {
	const largest = 4 << 20 // locks of the examples are well under 1 MiB; archives have no text to find
	walkSource(t, func(name string, d fs.DirEntry) {
		if d.IsDir() || name == "go.sum" || !d.Type().IsRegular() {
			return
		}
		if info, err := d.Info(); err != nil || info.Size() > largest {
			return
		}
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return // a temporary file that has gone meanwhile
		}
		for _, host := range machineNames {
			if i := bytes.Index(text, []byte(host)); i >= 0 {
				t.Errorf("%s:%d names %q, which belongs to one machine", name, 1+bytes.Count(text[:i], []byte("\n")), host)
			}
		}
	})
}
