// Package python locks the distributions that a project's requirements.txt
// (with hashes) or pylock.toml names, and says where they may be had.
//
//	inputs:
//	  local:  {app: {path: ./app}}
//	  python: {wheels: {from: app, path: requirements.txt, python: "3.11"}}
//	steps:
//	  - name: install
//	    packages: [python3-pip]
//	    inputs: [app, wheels]
//	    run: pip install --no-index --find-links /inputs/wheels --require-hashes -r /inputs/app/requirements.txt --target $OUT …
//
// Both files name each distribution by sha256, but mostly several for one
// version: a wheel for each system and Python, and the source. Pinned is what
// may be installed on the definition's platforms, and with the Python version that the
// input names, if it does; the source (sdist) only where no wheel may. pip then
// takes the best of what it finds.
//
// Requirements without a hash or without an exact version, and those from
// version control, folders and URLs are refused by name and line. Options of
// requirements.txt that say where to look (--index-url and the like) are passed over:
// that is each machine's configuration.
//
// # Where distributions are
//
// The simple index of this machine's pip (PEP 503 and 691): $PIP_INDEX_URL, else
// pip's configuration files, else the public one. It is asked for the file of a
// name, and then for its bytes. pylock.toml names URLs too, which are asked after it.
package python

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/httpfile"
)

// maxDistribution is five times the largest wheels that we know of (PyTorch with CUDA).
const maxDistribution = 4 << 30

// Source is the indexes of Python as a machine is configured for them.
type Source struct {
	indexes []string
}

// New returns a source that asks these simple indexes, one after the other.
func New(indexes ...string) *Source { return &Source{indexes} }

// requirement is one version of a project, and which files of it may be installed.
type requirement struct {
	Name    string // normalised
	Version string
	Hashes  []digest.Digest
	Files   []file // with hashes and places, where the lock file lists them
	Marked  bool   // it is only needed somewhere, perhaps not here
	By      string
	File    string // that asks for it, and its line
	Line    int
}

// file is one distribution.
type file struct {
	Name   string
	SHA256 digest.Digest
	URL    string // "" where only an index knows
}

// Resolve implements source.Kind.
func (s *Source) Resolve(ctx context.Context, q source.Query) (*source.Answer, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	name := q.Request.Ask["path"]
	text, err := q.Tree.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(q.Tree, name)
	}
	if err != nil {
		return nil, err
	}
	var wants []requirement
	if pylockName(name) {
		wants, err = parsePylock(name, text)
	} else {
		wants, err = parseRequirements(name, text, q.Tree.ReadFile)
	}
	if err != nil {
		return nil, err
	}
	return s.choose(ctx, q, wants)
}

// missing says how to come by a lock file, from another's where there is one.
func missing(tree *source.Tree, file string) error {
	names, _ := tree.Folder(path.Dir(file)) // where there is no folder, there is no other lock file
	for _, other := range []struct{ name, way string }{
		{"uv.lock", "uv export --format requirements-txt --output-file requirements.txt"},
		{"poetry.lock", "poetry export --output requirements.txt"},
		{"pdm.lock", "pdm export --format requirements --output requirements.txt"},
		{"Pipfile.lock", "pipenv requirements --hash >requirements.txt"},
	} {
		if slices.Contains(names, other.name) {
			return fmt.Errorf("there is no %s in input %q, only %s, which is not read; make one of it with: %s", file, tree.Name, other.name, other.way)
		}
	}
	return fmt.Errorf("there is no %s in input %q; pip-tools writes one with: pip-compile --generate-hashes", file, tree.Name)
}

// pylockName is PEP 751's rule for the names of its files.
func pylockName(name string) bool {
	base := path.Base(name)
	return base == "pylock.toml" || strings.HasPrefix(base, "pylock.") && strings.HasSuffix(base, ".toml")
}

// choose takes the files that fit, of versions locked before without asking anybody.
func (s *Source) choose(ctx context.Context, q source.Query, wants []requirement) (*source.Answer, error) {
	python := q.Request.Ask["python"]
	old := map[digest.Digest]lockfile.Pin{}
	for _, p := range q.Pins {
		old[p.SHA256] = p
	}
	answer := &source.Answer{}
	var wanted []source.Wanted
	var at []int
	for _, r := range wants {
		pins, err := s.files(ctx, q, r, old, python)
		if err != nil {
			return nil, err
		}
		for _, pin := range pins {
			pin.By = r.By
			if was, ok := old[pin.SHA256]; ok && was.Path == pin.Path {
				pin.Size = was.Size
			} else {
				places, err := s.Open(q.Request, pin)
				if err != nil {
					return nil, err
				}
				at = append(at, len(answer.Pins))
				wanted = append(wanted, source.Wanted{Name: path.Base(pin.Path), File: r.File, Line: r.Line, Key: "python " + pin.SHA256.Hex(), Sources: places, Limit: maxDistribution, Verify: verify(pin, r.File, r.Line)})
			}
			answer.Pins = append(answer.Pins, pin)
		}
	}
	got, err := source.Bring(ctx, wanted, q.Blobs, q.Fetch)
	if err != nil {
		return nil, err
	}
	for j, i := range at {
		answer.Pins[i].Size = got[j].Size
	}
	slices.SortFunc(answer.Pins, func(a, b lockfile.Pin) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Platform, b.Platform))
	})
	return answer, nil
}

func verify(pin lockfile.Pin, file string, line int) func(io.ReaderAt, int64) error {
	return func(r io.ReaderAt, size int64) error {
		h := digest.NewHash()
		if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
			return err
		}
		if have := digest.Sum(h); have != pin.SHA256 {
			return &source.IntegrityError{Name: path.Base(pin.Path), Want: pin.SHA256.String(), Have: have.String(), File: file, Line: line}
		}
		return nil
	}
}

// files says which distributions of a requirement are pinned.
func (s *Source) files(ctx context.Context, q source.Query, r requirement, old map[digest.Digest]lockfile.Pin, python string) ([]lockfile.Pin, error) {
	listed := r.Files
	if listed == nil {
		if pins := before(r, q); pins != nil {
			return pins, nil
		}
		var err error
		if listed, err = s.list(ctx, r, q.Fetch); err != nil {
			return nil, fmt.Errorf("%s:%d: cannot lock %s %s: %w", r.File, r.Line, r.Name, r.Version, err)
		}
		if len(listed) == 0 {
			return nil, fmt.Errorf("%s:%d: none of the %d hashes of %s %s is a file that the index has: the file was deleted, or published anew under the same name", r.File, r.Line, len(r.Hashes), r.Name, r.Version)
		}
	}
	pins, err := fitting(r, listed, q.Platforms, python)
	if err != nil && !r.Marked {
		return nil, fmt.Errorf("%s:%d: %w", r.File, r.Line, err)
	}
	return pins, nil
}

// before returns the pins that a requirement had, when they were chosen from the
// same hashes and for these platforms: index pages need not be read then.
func before(r requirement, q source.Query) []lockfile.Pin {
	if q.Previous == nil {
		return nil
	}
	var mine []lockfile.Pin
	for _, p := range q.Pins {
		if p.Input == q.Previous.Name && p.Name == r.Name && p.Version == r.Version {
			if !slices.Contains(r.Hashes, p.SHA256) {
				return nil
			}
			mine = append(mine, p)
		}
	}
	for _, platform := range q.Platforms {
		if !slices.ContainsFunc(mine, func(p lockfile.Pin) bool { return p.Platform == "" || p.Platform == platform.String() }) {
			return nil
		}
	}
	gone := func(p lockfile.Pin) bool {
		return p.Platform != "" && !slices.ContainsFunc(q.Platforms, func(w definition.Platform) bool { return w.String() == p.Platform })
	}
	if slices.ContainsFunc(mine, gone) {
		return nil
	}
	return mine
}

// fitting chooses among the files of a requirement.
func fitting(r requirement, listed []file, platforms []definition.Platform, python string) ([]lockfile.Pin, error) {
	var pins []lockfile.Pin
	for _, platform := range platforms {
		fit := wheelsFor(listed, platform, python)
		if len(fit) == 0 {
			fit = sdists(listed)
		}
		if len(fit) == 0 {
			return nil, fmt.Errorf("%s %s has no file for %s%s, and no source: it has %s", r.Name, r.Version, platform, ofPython(python), names(listed))
		}
		for _, f := range fit {
			pins = append(pins, lockfile.Pin{Name: r.Name, Version: r.Version, Platform: platform.String(), SHA256: f.SHA256, Path: r.Name + "/" + f.Name, URL: f.URL})
		}
	}
	return everywhere(pins, len(platforms)), nil
}

func ofPython(version string) string {
	if version == "" {
		return ""
	}
	return " and Python " + version
}

func names(files []file) string {
	var all []string
	for _, f := range files {
		all = append(all, f.Name)
	}
	const shown = 3
	if len(all) > shown {
		all = append(all[:shown], fmt.Sprintf("%d more", len(all)-shown))
	}
	return strings.Join(all, ", ")
}

// everywhere makes one pin of those that all platforms have.
func everywhere(pins []lockfile.Pin, platforms int) []lockfile.Pin {
	count := map[string]int{}
	for _, p := range pins {
		count[p.Path]++
	}
	var out []lockfile.Pin
	for _, p := range pins {
		if count[p.Path] == platforms {
			p.Platform = ""
			if slices.ContainsFunc(out, func(o lockfile.Pin) bool { return o.Path == p.Path }) {
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

// Open implements source.Kind.
func (s *Source) Open(_ lockfile.InputRequest, pin lockfile.Pin) ([]fetch.Source, error) {
	name, base := path.Split(pin.Path)
	name = strings.TrimSuffix(name, "/")
	var all []fetch.Source
	for _, index := range s.indexes {
		all = append(all, httpfile.NewLate(httpfile.Redacted(index)+" "+base, func(ctx context.Context) (string, error) {
			return find(ctx, index, name, base)
		}))
	}
	if pin.URL != "" {
		src, err := httpfile.New(pin.URL)
		if err != nil {
			return nil, err
		}
		all = append(all, src)
	}
	return all, nil
}
