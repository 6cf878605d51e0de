package deb

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// Index is one view of all packages that a suite and its pockets offer for one
// architecture, and for those that requests name besides it.
type Index struct {
	Suite    string
	Arch     string   // what "all" and unqualified names mean
	Foreign  []string // further architectures, sorted
	stanzas  []Stanza
	archive  []uint8 // of each stanza: which of archives lists it
	archives []*archive
	byName   map[string][]int32 // newest first
	byPath   map[archivePath]int32
}

type archivePath struct {
	archive uint8
	path    string
}

func newIndex(suite, arch string, foreign []string, archives []*archive) *Index {
	return &Index{
		Suite: suite, Arch: arch, Foreign: foreign, archives: archives,
		byName: map[string][]int32{}, byPath: map[archivePath]int32{},
	}
}

// indexFile is one verified Packages or Sources file in the cache.
type indexFile struct {
	archive   int
	component string
	arch      string // "" of Sources
	path      string
	want      fileRef
}

// indexFiles brings the Packages files of a query's components for the
// architectures, the first of which the suite itself must have.
func (s *Source) indexFiles(ctx context.Context, q Query, archives []*archive, arches []string) ([]indexFile, error) {
	main := archives[0]
	for _, arch := range arches {
		if !slices.Contains(main.rel.Architectures, arch) {
			return nil, &UnsupportedError{Suite: main.Name, Kind: "architecture", Name: arch, Has: main.rel.Architectures}
		}
	}
	for _, c := range q.Components {
		if !slices.Contains(main.rel.Components, c) {
			return nil, &UnsupportedError{Suite: main.Name, Kind: "component", Name: c, Has: main.rel.Components}
		}
	}
	var all []indexFile
	for i := range archives {
		for _, c := range q.Components {
			for _, arch := range arches {
				all = append(all, indexFile{archive: i, component: c, arch: arch})
			}
		}
	}
	err := atOnce(len(all), func(i int) error {
		f := &all[i]
		path, want, ok, err := s.packages(ctx, archives[f.archive], f.component, f.arch)
		if ok {
			f.path, f.want = path, want
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(f indexFile) bool { return f.path == "" }), nil
}

// atOnce brings several indexes, all of them before it gives up.
func atOnce(n int, bring func(i int) error) error {
	errs := make([]error, n)
	var g errgroup.Group
	g.SetLimit(4) // files of a few megabytes from one server
	for i := range n {
		g.Go(func() error {
			errs[i] = bring(i)
			return nil
		})
	}
	_ = g.Wait()
	return firstError(errs)
}

// loadIndex reads the files into one view.
func loadIndex(q Query, arch string, foreign []string, archives []*archive, files []indexFile) (*Index, error) {
	ix := newIndex(q.Suite, arch, foreign, archives)
	for _, f := range files {
		if err := ix.readFile(f); err != nil {
			return nil, atURL(err, archives[f.archive].base+"/dists/"+archives[f.archive].Name+"/"+f.component+"/binary-"+f.arch+"/Packages")
		}
	}
	ix.finish()
	return ix, nil
}

func (ix *Index) readFile(f indexFile) error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	r := digest.NewReader(file, f.want.SHA256, f.want.Size)
	return ParsePackages(r, func(s Stanza) error {
		if s.Architecture != "all" && s.Architecture != f.arch {
			return &IndexError{Err: fmt.Errorf("package %q is of architecture %q, expected %q", s.Package, s.Architecture, f.arch)}
		}
		return ix.add(f.archive, s)
	})
}

func (ix *Index) add(archive int, s Stanza) error {
	key := archivePath{uint8(archive), s.Filename}
	if i, ok := ix.byPath[key]; ok {
		if ix.stanzas[i] == s {
			return nil // "all" packages stand in the index of every architecture
		}
		return &IndexError{Err: fmt.Errorf("path %q stands twice, for different packages", s.Filename)}
	}
	i := int32(len(ix.stanzas))
	ix.byPath[key] = i
	ix.stanzas = append(ix.stanzas, s)
	ix.archive = append(ix.archive, uint8(archive))
	ix.byName[s.Package] = append(ix.byName[s.Package], i)
	return nil
}

func (ix *Index) finish() {
	for _, list := range ix.byName {
		if len(list) > 1 {
			slices.SortStableFunc(list, func(a, b int32) int {
				return CompareVersions(ix.stanzas[b].Version, ix.stanzas[a].Version)
			})
		}
	}
}

// arch returns the architecture that a package runs as.
func (ix *Index) arch(s *Stanza) string {
	if s.Architecture == "all" {
		return ix.Arch
	}
	return s.Architecture
}

// newest returns the package that apt would take for a name if nothing else
// spoke: the newest version in archives that are not opt-in.
func (ix *Index) newest(name string) (int32, bool) {
	for _, i := range ix.byName[name] {
		s := &ix.stanzas[i]
		if ix.arch(s) == ix.Arch && !ix.archives[ix.archive[i]].rel.Manual {
			return i, true
		}
	}
	return 0, false
}

// find returns the stanza of an exact package.
func (ix *Index) find(name, version, arch string) (int32, bool) {
	for _, i := range ix.byName[name] {
		if s := &ix.stanzas[i]; s.Version == version && s.Architecture == arch {
			return i, true
		}
	}
	return 0, false
}

// essential lists the names of the packages that every Debian system has,
// and usr-is-merged, which keeps apt from choosing usrmerge and all of perl
// instead, sorted.
func (ix *Index) essential() []string {
	var names []string
	for i := range ix.stanzas {
		if s := &ix.stanzas[i]; s.Essential && ix.arch(s) == ix.Arch {
			names = append(names, s.Package)
		}
	}
	if _, ok := ix.newest("usr-is-merged"); ok {
		names = append(names, "usr-is-merged")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// providers lists the names of packages that provide a name, sorted.
func (ix *Index) providers(name, arch string) []string {
	var names []string
	for i := range ix.stanzas {
		s := &ix.stanzas[i]
		if !strings.Contains(s.Provides, name) || ix.arch(s) != arch {
			continue
		}
		clauses, err := ParseRelations(s.Provides)
		if err == nil && slices.ContainsFunc(clauses, func(c Clause) bool { return c[0].Name == name }) {
			names = append(names, s.Package)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (ix *Index) names() []string {
	names := make([]string, 0, len(ix.byName))
	for n := range ix.byName {
		names = append(names, n)
	}
	return names
}

// pin makes what the lock says of a package.
func (ix *Index) pin(i int32) lockfile.Package {
	s := &ix.stanzas[i]
	return lockfile.Package{
		Name: s.Package, Version: s.Version, Arch: s.Architecture,
		Size: s.Size, SHA256: s.SHA256, Path: s.Filename,
		Archive: ix.archives[ix.archive[i]].Name,
	}
}

// copyVerified copies an index for apt to read.
func copyVerified(f indexFile, to string) error {
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, digest.NewReader(in, f.want.SHA256, f.want.Size)); err != nil {
		return err
	}
	return out.Close()
}
