package deb

import (
	"fmt"
	"path"
	"sort"
	"strings"

	debversion "github.com/knqyf263/go-deb-version"

	"quorate.dev/builder/tree"
)

// Source is a package with ways to open its files.
type Source struct {
	Package *Package
	Entries []tree.Entry // one for each of Package.Entries, in that order, with Content
}

// ConflictError says that two packages ship one path and dpkg would not install both.
type ConflictError struct {
	Path          string
	First, Second string // package names
	Reason        string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("packages %q and %q both ship %q: %s", e.First, e.Second, e.Path, e.Reason)
}

// Merge returns the files of several packages as one root, sorted by path, the
// way dpkg would lay them down in this order:
//
//   - a directory of several packages has the mode and owner that the first gave it;
//   - a file of several packages must be the same everywhere, or one package
//     must say that it replaces the other, and then its file stands;
//   - what is shipped below another package's symbolic link goes where the link
//     leads, and a directory in place of such a link leaves the link alone.
//
// All else is a *ConflictError. Hard links are made again so that the first
// path, as a tree sorts them, is the file. Parents are not added.
func Merge(sources []Source) ([]tree.Entry, error) {
	m, err := merge(sources)
	if err != nil {
		return nil, err
	}
	return m.result(), nil
}

// Replaced returns, for each package that lost some to another's Replaces, the
// files (names as shipped) that are no longer its own: dpkg drops them from its .list.
func Replaced(sources []Source) (map[*Package]map[string]bool, error) {
	m, err := merge(sources)
	if err != nil {
		return nil, err
	}
	return m.replaced, nil
}

// place is a path of the merged root.
type place struct {
	entry  tree.Entry
	source int // index of the package
	index  int // of the entry in it
	inode  int // for files and hard links: index of the file in its package's entries
}

type merger struct {
	sources  []Source
	places   map[string]*place
	replaced map[*Package]map[string]bool
}

func merge(sources []Source) (*merger, error) {
	n := 0
	for _, s := range sources {
		n += len(s.Entries)
	}
	m := &merger{sources: sources, places: make(map[string]*place, n), replaced: map[*Package]map[string]bool{}}
	for i, s := range sources {
		if len(s.Entries) != len(s.Package.Entries) {
			return nil, fmt.Errorf("package %q has %d entries, but %d were given to merge", s.Package.Name(), len(s.Package.Entries), len(s.Entries))
		}
		inodes := make(map[string]int, len(s.Entries))
		for j := range s.Entries {
			if err := m.add(i, j, inodes); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// add lays down entry j of package i.
func (m *merger) add(i, j int, inodes map[string]int) error {
	e := m.sources[i].Entries[j]
	p := &place{source: i, index: j, inode: j}
	switch e.Kind {
	case tree.File:
		inodes[e.Path] = j
	case tree.Hardlink:
		p.inode = inodes[e.Link]
		inodes[e.Path] = p.inode
	}
	at, err := m.resolve(e.Path, i)
	if err != nil {
		return err
	}
	e.Path = at
	p.entry = e
	old, ok := m.places[at]
	if !ok {
		m.places[at] = p
		return nil
	}
	return m.again(old, p, j)
}

// linksMax is how many symbolic links Linux follows in one path (MAXSYMLINKS).
const linksMax = 40

// resolve follows symbolic links in the parents of a path, inside the root.
func (m *merger) resolve(p string, source int) (string, error) {
	for range linksMax {
		link := m.linkAbove(p)
		if link == "" {
			return p, nil
		}
		l := m.places[link].entry
		p = path.Join(target(l), strings.TrimPrefix(p, link))
	}
	return "", fmt.Errorf("package %q ships %q below a loop of symbolic links", m.sources[source].Package.Name(), p)
}

// linkAbove returns the topmost parent of p that is a symbolic link, or "".
func (m *merger) linkAbove(p string) string {
	for i := 0; i < len(p); i++ {
		if p[i] != '/' {
			continue
		}
		if at, ok := m.places[p[:i]]; ok && at.entry.Kind == tree.Symlink {
			return p[:i]
		}
	}
	return ""
}

// target returns where a link leads, inside the root: ".." stops at the top.
func target(l tree.Entry) string {
	to := l.Link
	if !strings.HasPrefix(to, "/") {
		to = path.Dir(l.Path) + "/" + to
	}
	return strings.TrimPrefix(path.Clean("/"+to), "/")
}

// again decides between two packages that ship one path.
func (m *merger) again(old, p *place, j int) error {
	a, b := old.entry, p.entry
	switch {
	case a.Kind == tree.Dir && b.Kind == tree.Dir:
		return nil
	case a.Kind == tree.Symlink && b.Kind == tree.Dir && m.isDir(target(a)):
		return nil // dpkg leaves a link to a directory alone
	case a.Kind == tree.Dir && b.Kind == tree.Symlink && target(b) == a.Path:
		return nil
	case a.Kind == tree.Dir || b.Kind == tree.Dir:
		return m.conflict(old, p, "once as a directory, once as something else")
	case m.same(old, p):
		return nil
	}
	switch first, second := m.sources[old.source].Package, m.sources[p.source].Package; {
	case replaces(second, first):
		m.lose(old.source, m.shippedAs(old))
		m.places[b.Path] = p
	case replaces(first, second):
		m.lose(p.source, second.Entries[j].Shipped)
	default:
		return m.conflict(old, p, "with different contents, and neither replaces the other")
	}
	return nil
}

func (m *merger) isDir(p string) bool {
	at, ok := m.places[p]
	return !ok || at.entry.Kind == tree.Dir
}

func (m *merger) conflict(old, p *place, reason string) error {
	return &ConflictError{
		Path: p.entry.Path, Reason: reason,
		First: m.sources[old.source].Package.Name(), Second: m.sources[p.source].Package.Name(),
	}
}

// same reports whether two packages ship one path alike, times aside: files
// shared by the architectures of a Multi-Arch: same package are.
func (m *merger) same(old, p *place) bool {
	a, b := m.resolved(old), m.resolved(p)
	b.ModTime = a.ModTime
	return a.Same(&b)
}

// resolved returns a place's entry, the file itself for a hard link.
func (m *merger) resolved(p *place) tree.Entry {
	if p.entry.Kind != tree.Hardlink {
		return p.entry
	}
	e := m.sources[p.source].Entries[p.inode]
	e.Path = p.entry.Path
	return e
}

func (m *merger) shippedAs(p *place) string {
	for _, e := range m.sources[p.source].Package.Entries {
		if at, err := m.resolve(e.Path, p.source); err == nil && at == p.entry.Path && e.Kind == p.entry.Kind {
			return e.Shipped
		}
	}
	return p.entry.Path
}

func (m *merger) lose(source int, shipped string) {
	p := m.sources[source].Package
	if m.replaced[p] == nil {
		m.replaced[p] = map[string]bool{}
	}
	m.replaced[p][shipped] = true
}

// result sorts the places and makes the hard links again: what was the file in
// the package may have been replaced, or sort behind its links.
func (m *merger) result() []tree.Entry { return m.entries(m.sorted()) }

func (m *merger) sorted() []*place {
	list := make([]*place, 0, len(m.places))
	for _, p := range m.places {
		list = append(list, p)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].entry.Path < list[j].entry.Path })
	return list
}

func (m *merger) entries(list []*place) []tree.Entry {
	type inode struct{ source, file int }
	first := map[inode]string{}
	out := make([]tree.Entry, len(list))
	for i, p := range list {
		out[i] = p.entry
		if p.entry.Kind != tree.File && p.entry.Kind != tree.Hardlink {
			continue
		}
		key := inode{p.source, p.inode}
		out[i] = m.resolved(p)
		if at, ok := first[key]; ok {
			out[i] = out[i].LinkTo(at)
			continue
		}
		first[key] = p.entry.Path
	}
	return out
}

// replaces reports whether a's Replaces names b in its version.
func replaces(a, b *Package) bool {
	for _, group := range parseRelations(a.Control.Get("Replaces")) {
		for _, r := range group {
			if r.name == b.Name() && (r.arch == "" || r.arch == "any" || r.arch == b.Arch()) && r.holds(b.Version()) {
				return true
			}
		}
	}
	return false
}

// holds reports whether a version satisfies the relation; one that cannot be
// compared does not.
func (r relation) holds(version string) bool {
	if r.op == "" {
		return true
	}
	have, err := debversion.NewVersion(version)
	if err != nil {
		return false
	}
	want, err := debversion.NewVersion(r.version)
	if err != nil {
		return false
	}
	switch c := have.Compare(want); r.op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	default:
		return c > 0
	}
}
