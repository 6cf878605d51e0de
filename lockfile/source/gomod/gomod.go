// Package gomod locks the Go modules of a project: every module zip and go.mod
// that its go.sum vouches for.
//
// # What is locked
//
// go.sum has a line for each module that a build of the project may need, and
// the go command reads nothing that has none (go help mod, -mod=readonly). So
// all that go.sum names is locked, for every platform and every package of the
// project alike, and no build list is computed: the answer cannot differ from
// what the go command would want, and it is the same whoever asks. Workspaces
// (go.work) add the lines of go.work.sum and of each module used.
//
// A module with a zip is one pin; its go.mod is taken from the zip. One that
// only takes part in choosing versions is one pin of its go.mod. Pins' paths
// are those of the GOPROXY protocol (go help goproxy), so any proxy has them.
//
// # What is checked
//
// Each zip and go.mod against go.sum (h1:), each zip by the rules for module
// zips (golang.org/x/mod/zip: no hostile or case-colliding path, no zip bomb), and
// each line of go.sum against the checksum database where the machine's
// configuration has one (sumdb.go): a go.sum that was written by somebody whom
// a proxy deceived is noticed. A module that go.mod requires and go.sum lacks, a
// replacement that lies outside of the input, and versions that their author
// retracted are refused, with the line in go.mod.
//
// # Where from
//
// As the go command: GOPROXY, GOPRIVATE, GONOPROXY, GOSUMDB, GONOSUMDB (config.go).
// Modules that would be brought from their repositories ("direct") are refused.
package gomod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
)

// toolchainModule is the module whose versions are Go's own toolchains
// (go.dev/doc/toolchain, "Downloading toolchains").
const (
	toolchainModule = "golang.org/toolchain"
	toolchainPrefix = "v0.0.1-"
)

// Kind implements source.Kind.
type Kind struct {
	config func() (*Config, error)
}

// New returns how modules are locked with a configuration, which is asked for
// when it is first needed.
func New(config func() (*Config, error)) *Kind { return &Kind{config} }

// LineError is a fault of the project's own files.
type LineError struct {
	File    string // in the input
	Line    int    // 0 for the whole file
	Message string
}

func (e *LineError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Message)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
}

// project is what the project's files say.
type project struct {
	tree     *source.Tree
	modules  []*modfile.File
	replaced []replacements // those of go.work first
	sums     sums
	requires []require // of all its modules
}

// require is a module version that a go.mod asks for, after replacements.
type require struct {
	module.Version
	direct bool
	file   string
	line   int
}

// Resolve pins what go.sum names.
func (k *Kind) Resolve(ctx context.Context, q source.Query) (*source.Answer, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p, err := readProject(q.Tree, q.Request.Ask["path"])
	if err != nil {
		return nil, err
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	b := &bringing{q: q, project: p, before: map[string]lockfile.Pin{}}
	for _, pin := range q.Pins {
		b.before[pin.Platform+" "+pin.Path] = pin
	}
	pins, err := b.keepOrBring(ctx, k)
	if err != nil {
		return nil, err
	}
	if version := q.Request.Ask["toolchain"]; version != "" {
		more, err := b.toolchains(ctx, k, version)
		if err != nil {
			return nil, err
		}
		pins = append(pins, more...)
	}
	return &source.Answer{Pins: pins}, nil
}

// readProject reads a module, or a workspace, and everything of the tree that
// it is made of.
func readProject(tree *source.Tree, dir string) (*project, error) {
	p := &project{tree: tree, sums: sums{}}
	work := path.Join(dir, "go.work")
	text, err := tree.ReadFile(work)
	if errors.Is(err, fs.ErrNotExist) {
		if err := p.module(dir, "is not there, and neither is go.work"); err != nil {
			return nil, err
		}
		return p, p.collect()
	}
	if err != nil {
		return nil, err
	}
	f, err := modfile.ParseWork(work, text, nil)
	if err != nil {
		return nil, err
	}
	if err := p.readSums(path.Join(dir, "go.work.sum")); err != nil {
		return nil, err
	}
	p.replaced = append(p.replaced, replacements{work, dir, f.Replace})
	for _, use := range f.Use {
		folder, err := inside(dir, use.Path)
		if err != nil {
			return nil, &LineError{work, use.Syntax.Start.Line, fmt.Sprintf("uses %q, which lies outside of input %q", use.Path, tree.Name)}
		}
		if err := p.module(folder, "is not there, although go.work uses its folder"); err != nil {
			return nil, err
		}
	}
	return p, p.collect()
}

// module reads the go.mod and go.sum of a folder; missing says what it means
// when there is none.
func (p *project) module(dir, missing string) error {
	name := path.Join(dir, "go.mod")
	text, err := p.tree.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &LineError{name, 0, fmt.Sprintf("%s; input %q holds %s", missing, p.tree.Name, p.contents(dir))}
	}
	if err != nil {
		return err
	}
	f, err := modfile.Parse(name, text, nil)
	if err != nil {
		return err // with file and line
	}
	p.modules = append(p.modules, f)
	p.replaced = append(p.replaced, replacements{name, dir, f.Replace})
	return p.readSums(path.Join(dir, "go.sum"))
}

// collect lists what the modules require, once all are known: they may replace
// what others require, and require each other.
func (p *project) collect() error {
	own := map[string]bool{}
	for _, f := range p.modules {
		if f.Module != nil {
			own[f.Module.Mod.Path] = true
		}
	}
	for _, r := range p.replaced {
		if err := p.checkReplacements(r); err != nil {
			return err
		}
	}
	for _, f := range p.modules {
		excluded := map[module.Version]bool{}
		for _, e := range f.Exclude {
			excluded[e.Mod] = true
		}
		for _, r := range f.Require {
			v, isModule := replace(p.replaced, r.Mod)
			if isModule && !excluded[r.Mod] && !own[r.Mod.Path] {
				p.requires = append(p.requires, require{v, !r.Indirect, f.Syntax.Name, r.Syntax.Start.Line})
			}
		}
	}
	return nil
}

// replacements are the replace lines of one file.
type replacements struct {
	file string
	dir  string
	list []*modfile.Replace
}

// find returns the line that replaces a module, nil for none. One for a version
// goes before one for all.
func (r replacements) find(v module.Version) *modfile.Replace {
	var all *modfile.Replace
	for _, line := range r.list {
		if line.Old.Path != v.Path {
			continue
		}
		if line.Old.Version == v.Version {
			return line
		}
		if line.Old.Version == "" {
			all = line
		}
	}
	return all
}

// replace returns what stands for a required module; false for a folder of the project.
func replace(all []replacements, v module.Version) (module.Version, bool) {
	for _, r := range all {
		if line := r.find(v); line != nil {
			return line.New, line.New.Version != ""
		}
	}
	return v, true
}

// checkReplacements refuses folders that the input does not hold.
func (p *project) checkReplacements(r replacements) error {
	for _, line := range r.list {
		if line.New.Version != "" {
			continue
		}
		at := line.Syntax.Start.Line
		folder, err := inside(r.dir, line.New.Path)
		if err != nil {
			return &LineError{r.file, at, fmt.Sprintf("%s is replaced by %q, which lies outside of input %q; a build would not have it", line.Old.Path, line.New.Path, p.tree.Name)}
		}
		if _, err := p.tree.ReadFile(path.Join(folder, "go.mod")); err != nil {
			return &LineError{r.file, at, fmt.Sprintf("%s is replaced by %q, and there is no go.mod in it", line.Old.Path, line.New.Path)}
		}
	}
	return nil
}

// contents names what a folder of the tree holds, for somebody who looks for a file.
func (p *project) contents(dir string) string {
	names, err := p.tree.Folder(dir)
	if err != nil {
		return fmt.Sprintf("no folder %q", dir)
	}
	if len(names) > 8 {
		names = append(names[:8], "…")
	}
	return strings.Join(names, ", ")
}

var errOutside = errors.New("outside")

// inside joins a folder of the tree and a path of a go.mod or go.work.
func inside(dir, p string) (string, error) {
	if path.IsAbs(p) || strings.Contains(p, `\`) || len(p) > 1 && p[1] == ':' {
		return "", errOutside
	}
	joined := path.Join(dir, p)
	if joined == ".." || strings.HasPrefix(joined, "../") {
		return "", errOutside
	}
	return joined, nil
}

// complete checks that go.sum knows every module that go.mod requires.
func (p *project) complete() error {
	var missing []error
	for _, r := range p.requires {
		if _, ok := p.sums[r.Version]; !ok {
			missing = append(missing, &LineError{r.file, r.line, fmt.Sprintf("%s %s has no line in go.sum; to add it: go mod tidy", r.Path, r.Version.Version)})
		}
	}
	return errors.Join(missing...)
}

// direct reports whether the project itself asks for a module.
func (p *project) direct(v module.Version) bool {
	return slices.ContainsFunc(p.requires, func(r require) bool { return r.direct && r.Version == v })
}

// bringing is one answer as it is made.
type bringing struct {
	q       source.Query
	project *project
	before  map[string]lockfile.Pin // by platform and path
}

// pinPath is where a proxy has a file of a module (go help goproxy).
func pinPath(v module.Version, suffix string) (string, error) {
	p, err := module.EscapePath(v.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(v.Version)
	if err != nil {
		return "", err
	}
	return p + "/@v/" + version + suffix, nil
}

// wish is a pin that is still to be brought.
type wish struct {
	sum    sum
	v      module.Version
	suffix string // ".zip" or ".mod"
	hash   string
}

// keepOrBring keeps the pins that go.sum says the same of as before, and brings
// the others.
func (b *bringing) keepOrBring(ctx context.Context, k *Kind) ([]lockfile.Pin, error) {
	var pins []lockfile.Pin
	var wishes []wish
	for _, v := range b.project.sums.sorted() {
		s := b.project.sums[v]
		w := wish{s, v, ".mod", s.mod}
		if s.zip != "" {
			w.suffix, w.hash = ".zip", s.zip
		}
		kept, err := b.kept(w)
		if err != nil {
			return nil, err
		}
		if kept == nil {
			wishes = append(wishes, w)
		}
		pins = append(pins, kept...)
	}
	if len(wishes) == 0 {
		return pins, nil
	}
	config, err := k.config()
	if err != nil {
		return nil, err
	}
	if err := b.checkDatabase(ctx, config, wishes); err != nil {
		return nil, err
	}
	if err := b.checkRetracted(ctx, config, wishes); err != nil {
		return nil, err
	}
	brought, err := b.bring(ctx, config, wishes)
	return append(pins, brought...), err
}

// kept returns the pins of a module as they were locked before.
func (b *bringing) kept(w wish) ([]lockfile.Pin, error) {
	p, err := pinPath(w.v, w.suffix)
	if err != nil {
		return nil, &LineError{w.sum.file, w.sum.line, err.Error()}
	}
	pin, ok := b.before[" "+p]
	if !ok || pin.Integrity != w.hash {
		return nil, nil
	}
	pin.By = b.by(w.v)
	pins := []lockfile.Pin{pin}
	if mod, ok := b.before[" "+strings.TrimSuffix(p, ".zip")+".mod"]; ok && w.suffix == ".zip" && mod.Integrity == w.sum.mod {
		mod.By = pin.By
		pins = append(pins, mod)
	}
	return pins, nil
}

func (b *bringing) by(v module.Version) string {
	if b.project.direct(v) {
		return lockfile.ByRequest
	}
	return "" // go.sum does not say
}

// bring brings zips and go.mod files. Where the go.mod in a zip is not the one
// that go.sum means (zips of before modules), it becomes a pin of its own.
func (b *bringing) bring(ctx context.Context, config *Config, wishes []wish) ([]lockfile.Pin, error) {
	apart := make([]bool, len(wishes))
	wanted := make([]source.Wanted, len(wishes))
	for i, w := range wishes {
		one, err := w.wanted(config, &apart[i])
		if err != nil {
			return nil, err
		}
		wanted[i] = one
	}
	got, err := source.Bring(ctx, wanted, b.q.Blobs, b.q.Fetch)
	if err != nil {
		return nil, err
	}
	var pins []lockfile.Pin
	var mods []wish
	for i, w := range wishes {
		p, _ := pinPath(w.v, w.suffix)
		pins = append(pins, lockfile.Pin{
			Name: w.v.Path, Version: w.v.Version, Size: got[i].Size, SHA256: got[i].SHA256, Integrity: w.hash, Path: p, By: b.by(w.v),
		})
		if apart[i] {
			mods = append(mods, wish{w.sum, w.v, ".mod", w.sum.mod})
		}
	}
	if len(mods) == 0 {
		return pins, nil
	}
	more, err := b.bring(ctx, config, mods)
	return append(pins, more...), err
}

// wanted describes a zip or a go.mod for source.Bring.
func (w wish) wanted(config *Config, apart *bool) (source.Wanted, error) {
	name := w.v.Path + " " + w.v.Version
	limit := int64(modzip.MaxZipFile)
	if w.suffix == ".mod" {
		name += " (go.mod)"
		limit = modzip.MaxGoMod
	}
	p, err := pinPath(w.v, w.suffix)
	if err != nil {
		return source.Wanted{}, err
	}
	sources, err := config.sources(w.v.Path, p)
	if err != nil {
		return source.Wanted{}, fmt.Errorf("%s:%d: %w", w.sum.file, w.sum.line, err)
	}
	return source.Wanted{
		File: w.sum.file, Line: w.sum.line,
		Name: name, Key: "go " + w.v.String() + w.suffix + " " + w.hash, Sources: sources, Limit: limit, Verify: w.verify(apart),
	}, nil
}

// toolchains pins Go's own toolchain for each platform.
func (b *bringing) toolchains(ctx context.Context, k *Kind, version string) ([]lockfile.Pin, error) {
	var pins []lockfile.Pin
	for _, platform := range b.q.Platforms {
		v := module.Version{Path: toolchainModule, Version: toolchainPrefix + version + "." + platform.OS + "-" + goArchitecture(platform.Architecture, platform.Variant)}
		p, err := pinPath(v, ".zip")
		if err != nil {
			return nil, err
		}
		if old, ok := b.before[platform.String()+" "+p]; ok {
			pins = append(pins, old)
			continue
		}
		config, err := k.config()
		if err != nil {
			return nil, err
		}
		pin, err := b.toolchain(ctx, config, v, p)
		if err != nil {
			return nil, fmt.Errorf("toolchain %s for %s: %w", version, platform, err)
		}
		pin.Platform = platform.String()
		pins = append(pins, pin)
	}
	return pins, nil
}

// goArchitecture is an architecture as the names of toolchains have it.
func goArchitecture(arch, variant string) string {
	if arch == "arm" {
		return "armv6l" // the one toolchain for all 32-bit arm (go.dev/dl)
	}
	return arch
}

// toolchain brings one toolchain. Nothing of the project vouches for it, so the
// checksum database does, where there is one.
func (b *bringing) toolchain(ctx context.Context, config *Config, v module.Version, p string) (lockfile.Pin, error) {
	sources, err := config.sources(v.Path, p)
	if err != nil {
		return lockfile.Pin{}, err
	}
	want, err := b.databaseSum(ctx, config, v)
	if err != nil {
		return lockfile.Pin{}, err
	}
	w := wish{v: v, suffix: ".zip", hash: want}
	have := ""
	got, err := source.Bring(ctx, []source.Wanted{{
		Name: v.Path + " " + v.Version, Key: "go " + v.String() + ".zip " + want, Sources: sources, Limit: modzip.MaxZipFile, Verify: w.toolchainVerify(&have),
	}}, b.q.Blobs, b.q.Fetch)
	if err != nil {
		return lockfile.Pin{}, err
	}
	return lockfile.Pin{Name: v.Path, Version: v.Version, Size: got[0].Size, SHA256: got[0].SHA256, Integrity: have, Path: p, By: lockfile.ByRequest}, nil
}

// Open returns the proxies that may have a pin.
func (k *Kind) Open(_ lockfile.InputRequest, pin lockfile.Pin) ([]fetch.Source, error) {
	return []fetch.Source{&lazy{k: k, module: pin.Name, path: pin.Path}}, nil
}
