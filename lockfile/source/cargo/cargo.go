// Package cargo locks the crates that a project's Cargo.lock names, and says
// where they may be had.
//
//	inputs:
//	  local: {app: {path: ./app}}
//	  cargo: {crates: {from: app}}
//	steps:
//	  - name: compile
//	    packages: [cargo]
//	    inputs: [app, crates]
//	    run: cargo --config /inputs/crates/config.toml build --offline --locked …
//
// Cargo.lock has chosen already and vouches for each crate by its sha256, so
// what is left is to bring the crates and to know their sizes. Crates without a
// source are part of the project. Those from git repositories, and lock files
// before version 2, which keep checksums elsewhere, are refused by name and line.
//
// # Where crates are
//
// An index tells, in its config.json (The Cargo Book, "Registry Index"). That
// of the default registry is this machine's configuration: $QUORATE_CARGO_INDEX,
// else what Cargo's own configuration puts in the place of crates-io, when that
// is a sparse index, else the public one. The index of any other registry is named
// in Cargo.lock itself; it has to be sparse.
package cargo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/httpfile"
)

// FileName is Cargo's own lock file.
const FileName = "Cargo.lock"

const (
	// maxCrate is 50 times what the public registry takes (10 MB).
	maxCrate = 512 << 20
	// maxConfig is far above the size of any index's config.json, which has three fields.
	maxConfig = 64 << 10
)

// Source is the registries of crates as a machine is configured for them.
type Source struct {
	index string   // URL of the default registry's sparse index
	read  sync.Map // what config.json of an index says, by the index's URL
}

// New returns a source; index is the default registry's, a URL without "sparse+".
func New(index string) *Source { return &Source{index: strings.TrimSuffix(index, "/") + "/"} }

// Resolve implements source.Kind.
func (s *Source) Resolve(ctx context.Context, q source.Query) (*source.Answer, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	file := path.Join(q.Request.Ask["path"], FileName)
	text, err := q.Tree.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s in input %q; cargo writes one with: cargo generate-lockfile", file, q.Tree.Name)
	}
	if err != nil {
		return nil, err
	}
	crates, err := parse(file, text)
	if err != nil {
		return nil, err
	}
	return s.bring(ctx, q, file, crates)
}

// bring fills in sizes, of crates locked before without asking anybody.
func (s *Source) bring(ctx context.Context, q source.Query, file string, crates []crate) (*source.Answer, error) {
	old := map[string]lockfile.Pin{}
	for _, p := range q.Pins {
		old[p.Path] = p
	}
	answer := &source.Answer{Facts: lockfile.Facts{}}
	var others []string
	var wanted []source.Wanted
	var at []int
	for i, c := range crates {
		pin := c.pin
		if c.registry != "" {
			others = append(others, c.registry)
		}
		if was, ok := old[pin.Path]; ok && was.SHA256 == pin.SHA256 && (was.URL == "") == (c.registry == "") {
			pin.Size, pin.URL = was.Size, was.URL
			answer.Pins = append(answer.Pins, pin)
			continue
		}
		if c.registry != "" {
			url, err := s.download(ctx, strings.TrimPrefix(c.registry, "sparse+"), pin, q.Fetch)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: crate %q: %w", file, c.line, pin.Name, err)
			}
			pin.URL = url
		}
		places, err := s.Open(q.Request, pin)
		if err != nil {
			return nil, err
		}
		name := pin.Name + " " + pin.Version
		wanted = append(wanted, source.Wanted{Name: name, File: file, Line: c.line, Key: "cargo " + pin.SHA256.Hex(), Sources: places, Limit: maxCrate, Verify: verify(name, pin.SHA256, file, c.line)})
		at = append(at, i)
		answer.Pins = append(answer.Pins, pin)
	}
	got, err := source.Bring(ctx, wanted, q.Blobs, q.Fetch)
	if err != nil {
		return nil, forAll(file, err)
	}
	for j, i := range at {
		answer.Pins[i].Size = got[j].Size
	}
	slices.Sort(others)
	if others = slices.Compact(others); len(others) > 0 {
		answer.Facts["registries"] = strings.Join(others, " ")
	}
	return answer, nil
}

func verify(name string, want digest.Digest, file string, line int) func(io.ReaderAt, int64) error {
	return func(r io.ReaderAt, size int64) error {
		h := digest.NewHash()
		if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
			return err
		}
		if have := digest.Sum(h); have != want {
			return &source.IntegrityError{Name: name, Want: want.String(), Have: have.String(), File: file, Line: line}
		}
		return nil
	}
}

// Open implements source.Kind.
func (s *Source) Open(_ lockfile.InputRequest, pin lockfile.Pin) ([]fetch.Source, error) {
	if pin.URL != "" {
		src, err := httpfile.New(pin.URL)
		return []fetch.Source{src}, err
	}
	return []fetch.Source{httpfile.NewLate(httpfile.Redacted(s.index)+" "+pin.Name+" "+pin.Version, func(ctx context.Context) (string, error) {
		return s.download(ctx, s.index, pin, fetch.Options{Tries: 1}) // whoever opens the crate tries again
	})}, nil
}

// download is the URL of a crate.
func (s *Source) download(ctx context.Context, index string, pin lockfile.Pin, o fetch.Options) (string, error) {
	dl, err := s.place(ctx, index, o)
	if err != nil {
		return "", err
	}
	if !strings.Contains(dl, "{") {
		return httpfile.Told(index, dl+"/"+pin.Name+"/"+pin.Version+"/download")
	}
	return httpfile.Told(index, strings.NewReplacer(
		"{crate}", pin.Name, "{version}", pin.Version, "{sha256-checksum}", pin.SHA256.Hex(),
		"{prefix}", prefix(pin.Name), "{lowerprefix}", prefix(strings.ToLower(pin.Name)),
	).Replace(dl))
}

// place is where an index's config.json says that crates are (field dl). It is read
// until it says so once.
func (s *Source) place(ctx context.Context, index string, o fetch.Options) (string, error) {
	if dl, ok := s.read.Load(index); ok {
		return dl.(string), nil
	}
	text, err := httpfile.Read(ctx, strings.TrimSuffix(index, "/")+"/config.json", maxConfig, o)
	if err != nil {
		return "", &IndexError{err}
	}
	var config struct {
		DL string `json:"dl"`
	}
	if err := json.Unmarshal(text, &config); err != nil || config.DL == "" {
		return "", fmt.Errorf("config.json of the index %q does not say where crates are (field dl)", httpfile.Redacted(index))
	}
	s.read.Store(index, config.DL)
	return config.DL, nil
}

// IndexError says that an index of crates cannot be read; Err names it.
type IndexError struct{ Err error }

func (e *IndexError) Error() string { return "cannot read the index: " + e.Err.Error() }

func (e *IndexError) Unwrap() error { return e.Err }

// Hint says where else an index may be.
func (e *IndexError) Hint() string {
	return "name an index that can be reached: QUORATE_CARGO_INDEX=URL, or source replacement in cargo's own configuration"
}

// forAll says once what each of several crates lacks, the index that they come from.
func forAll(file string, err error) error {
	several, ok := err.(interface{ Unwrap() []error })
	if !ok || len(several.Unwrap()) == 1 {
		return err
	}
	var index *IndexError
	var skipped *fetch.SkippedError
	for _, one := range several.Unwrap() {
		if !errors.As(one, &index) && !errors.As(one, &skipped) {
			return err
		}
	}
	if index == nil {
		return err
	}
	return fmt.Errorf("%s: none of %d crates is here or can be got: %w", file, len(several.Unwrap()), index)
}

// prefix is how registries spread crates over folders (The Cargo Book, "Index Files").
func prefix(name string) string {
	switch len(name) {
	case 1, 2:
		return fmt.Sprint(len(name))
	case 3:
		return "3/" + name[:1]
	}
	return name[:2] + "/" + name[2:4]
}

// crate is a crate of Cargo.lock that comes from a registry.
type crate struct {
	pin      lockfile.Pin
	registry string // "sparse+https://…" of one that is not the default; "" for that
	line     int
}

func sorted(crates []crate) []crate {
	slices.SortFunc(crates, func(a, b crate) int { return cmp.Compare(a.pin.Path, b.pin.Path) })
	return crates
}
