package builder

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/deb"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// packageSet is one set of the lock's packages; they are decoded when something
// has to be made from them.
type packageSet struct {
	pins     []lockfile.Package // sorted by name and architecture
	packages []*decoded         // in the same order, once loaded
	on       *system            // that they are added to; nil for nothing
}

// key names the set by its packages' bytes, and by the image that they are added to.
func (s *packageSet) key() digest.Digest {
	k := newKey("set")
	if s.on != nil {
		k = newKey("set on").digest(s.on.in.key)
	}
	for _, p := range s.pins {
		k.digest(p.SHA256)
	}
	return digest.Sum(k.h)
}

// load decodes the set's packages.
func (b *build) load(ctx context.Context, s *packageSet) error {
	if len(s.packages) == len(s.pins) {
		return nil
	}
	packages, err := b.decodeAll(ctx, s.pins)
	s.packages = packages
	return err
}

// IncompleteError says that a locked set lacks packages that others of it need:
// a line of the lock was lost, by hand or in a merge.
type IncompleteError struct {
	Set   string // "image", "step/compile"
	Needs []deb.Need
}

func (e *IncompleteError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the lock's packages for %s are not complete:", e.Set)
	for i, n := range e.Needs {
		if i == 10 { // as many as a person reads
			fmt.Fprintf(&b, "\n  and %d more", len(e.Needs)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %s needs %s", n.Package, strings.Join(n.Needs, " or "))
	}
	return b.String()
}

// Hint says what to do.
func (e *IncompleteError) Hint() string {
	return "a line of quorate.lock is missing; run: quorate lock"
}

// complete checks that every dependency of a set is in it, or waived in the lock.
func (b *build) complete(name string, s *packageSet, waived map[lockfile.Waiver]bool) error {
	var needs []deb.Need
	var installed []deb.Paragraph
	if s.on != nil {
		if err := b.addable(name, s); err != nil {
			return err
		}
		installed = s.on.ground.Installed
	}
	for _, n := range deb.Unmet(s.debs(), installed...) {
		if !slices.ContainsFunc(n.Names, func(name string) bool { return waived[lockfile.Waiver{Package: n.Package, Needs: name}] }) {
			needs = append(needs, n)
		}
	}
	if len(needs) > 0 {
		return &IncompleteError{Set: name, Needs: needs}
	}
	return nil
}

// waived is what the lock's platform says that image.without leaves unfulfilled.
func (b *build) waived() map[lockfile.Waiver]bool {
	out := map[lockfile.Waiver]bool{}
	for _, p := range b.job.Lock.Platforms {
		if p.Platform == b.platform {
			for _, w := range p.Waived {
				out[w] = true
			}
		}
	}
	return out
}

// adopt takes the decoded packages from a larger set.
func (s *packageSet) adopt(from *packageSet) {
	at := make(map[digest.Digest]*decoded, len(from.packages))
	for _, p := range from.packages {
		at[p.pin.SHA256] = p
	}
	s.packages = s.packages[:0]
	for _, pin := range s.pins {
		s.packages = append(s.packages, at[pin.SHA256])
	}
}

// without returns the packages of s that are not in other.
func (s *packageSet) without(other *packageSet) []*decoded {
	in := make(map[digest.Digest]bool, len(other.pins))
	for _, pin := range other.pins {
		in[pin.SHA256] = true
	}
	var out []*decoded
	for _, p := range s.packages {
		if !in[p.pin.SHA256] {
			out = append(out, p)
		}
	}
	return out
}

func (s *packageSet) debs() []*deb.Package {
	out := make([]*deb.Package, len(s.packages))
	for i, p := range s.packages {
		out[i] = p.Package
	}
	return out
}

// version returns the version of a package of the set, "" when it has none of that name.
func (s *packageSet) version(name string) string {
	for _, p := range s.pins {
		if p.Name == name {
			return p.Version
		}
	}
	if s.on != nil {
		return s.on.ground.Version(name)
	}
	return ""
}

// merge returns the files of the set's packages as dpkg would lay them down,
// usr-merge links included.
func (s *packageSet) merge() ([]tree.Entry, error) { return deb.Merge(s.sources()) }

// files are merge's, or what the packages bring to the image that they are added to.
func (s *packageSet) files() ([]tree.Entry, error) {
	if s.on == nil {
		return s.merge()
	}
	laid, err := s.lay(false)
	if err != nil {
		return nil, err
	}
	return laid.Entries, nil
}

func (s *packageSet) sources() []deb.Source {
	sources := make([]deb.Source, len(s.packages))
	for i, p := range s.packages {
		sources[i] = deb.Source{Package: p.Package, Entries: p.entries()}
	}
	return sources
}

// unconfigured is a root as dpkg --unpack leaves it: every file, the dpkg
// database with each package "unpacked", and the folders that dpkg and the
// sandbox expect. Conffiles stand aside under the name PATH.dpkg-new until dpkg
// configures their package; hooks in /etc/PROGRAM.d rely on not being there
// before the program that they call is.
func (s *packageSet) unconfigured(arch string, epoch int64) (*tree.Tree, error) {
	options := deb.DatabaseOptions{
		State: deb.Unpacked, Architecture: arch,
		ConffileMD5: func(*deb.Package, string) string { return "newconffile" }, // dpkg's word for "not in place yet"
	}
	if s.on != nil {
		return s.unpackedOver(options, epoch)
	}
	sources := s.sources()
	for i := range sources {
		setAside(sources[i])
	}
	entries, err := deb.Merge(sources)
	if err != nil {
		return nil, err
	}
	if options.Replaced, err = deb.Replaced(sources); err != nil {
		return nil, err
	}
	database := deb.Database(s.debs(), options)
	return newTree(slices.Concat(entries, database, skeleton(epoch), []tree.Entry{mountPoint(epoch)}))
}

// mountPoint is where the sandbox shows its hosts file: one made for each command would date /etc.
func mountPoint(epoch int64) tree.Entry {
	return tree.Entry{Path: hostsPath, Kind: tree.File, Mode: 0o644, ModTime: epoch, Digest: emptyDigest}
}

// setAside gives a package's conffiles the names that dpkg unpacks them under.
func setAside(s deb.Source) {
	aside := map[string]bool{}
	for _, c := range s.Package.Conffiles {
		aside[c.Path] = true
	}
	for i, e := range s.Package.Entries {
		if e.Kind == tree.File && aside["/"+e.Shipped] {
			s.Entries[i].Path += ".dpkg-new"
		}
	}
}

// settle gives the files of t that are as a package ships them the package's
// own times: configuring renames conffiles, which makes them look written.
func (s *packageSet) settle(t *tree.Tree) (*tree.Tree, error) {
	shipped, err := s.files()
	if err != nil {
		return nil, err
	}
	at := make(map[string]tree.Entry, len(shipped))
	for _, e := range shipped {
		at[e.Path] = e
	}
	entries := t.Entries()
	for i, e := range entries {
		if p, ok := at[e.Path]; ok && e.Kind == tree.File && sameButTime(e, p) {
			entries[i] = p
		}
	}
	return tree.New(entries)
}

// skeleton is what every root has even when no package ships it: the usr-merge
// links, without which no program finds its loader, and the folders that
// kernels and container runtimes mount over. Packages' own entries win.
func skeleton(epoch int64) []tree.Entry {
	var out []tree.Entry
	for _, name := range []string{"bin", "lib", "lib64", "sbin"} {
		out = append(out,
			tree.Entry{Path: name, Kind: tree.Symlink, Mode: 0o777, Link: "usr/" + name, ModTime: epoch},
			tree.Entry{Path: "usr/" + name, Kind: tree.Dir, Mode: 0o755})
	}
	for _, d := range []struct {
		path string
		mode uint32
	}{
		{"dev", 0o755}, {"etc", 0o755}, {"proc", 0o755}, {"run", 0o755}, {"sys", 0o755}, {"tmp", 0o1777},
		{"usr", 0o755}, {"var", 0o755}, {"var/lib", 0o755}, {"var/tmp", 0o1777},
	} {
		out = append(out, tree.Entry{Path: d.path, Kind: tree.Dir, Mode: d.mode})
	}
	return out
}

// newTree sorts entries into a tree; of several entries for one path the first
// wins, and missing parents are added by rule.
func newTree(entries []tree.Entry) (*tree.Tree, error) {
	seen := make(map[string]bool, len(entries))
	kept := entries[:0:0]
	for _, e := range entries {
		if !seen[e.Path] {
			seen[e.Path] = true
			kept = append(kept, e)
		}
	}
	kept = tree.WithParents(kept)
	sortStable(kept, func(a, b tree.Entry) bool { return a.Path < b.Path })
	return tree.New(kept)
}

func sortStable[T any](list []T, less func(a, b T) bool) {
	sort.SliceStable(list, func(i, j int) bool { return less(list[i], list[j]) })
}

// essential reports whether dpkg's own rules put a package in every root: its
// files go into the base layer.
func essential(p *deb.Package) bool {
	return p.Control.Get("Essential") == "yes" || p.Control.Get("Priority") == "required"
}

// sourceName is the source package that p was built from; packages of one
// source change together.
func sourceName(p *deb.Package) string {
	if src := p.Control.Get("Source"); src != "" {
		name, _, _ := strings.Cut(src, " ")
		return name
	}
	return p.Control.Get("Package")
}
