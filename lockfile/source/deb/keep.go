package deb

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
)

// Move is a package that changes although an update did not name it.
type Move struct {
	Platform definition.Platform
	Package  string
	From, To string // versions; To is "" when no archive has the package any more
	Why      string // for people: "the archive has no longer …", "libfoo1 needs another version of it"
}

func (m Move) String() string {
	if m.To == "" {
		return fmt.Sprintf("%s %s is gone: %s", m.Package, m.From, m.Why)
	}
	return fmt.Sprintf("%s moves from %s to %s: %s", m.Package, m.From, m.To, m.Why)
}

// keeper finds which packages of a lock can stay as they are when some are
// updated.
type keeper struct {
	ix     *Index
	locked map[string]lockfile.Package // by name; the lock has one version of each
	free   map[string]bool             // names that may take the archive's newest version
	bases  []*ground                   // that packages are added to, whose own count as they are
	moves  []Move
	p      definition.Platform
}

// keep returns the packages of the earlier lock that apt must take as they
// are. Names to update may move, and so must what the archive dropped; then,
// as long as anything does not fit together, what a moving package needs and
// what needs a moving package moves as well.
func (ix *Index) keep(p definition.Platform, old []lockfile.Package, update []string, bases []*ground) ([]lockfile.Package, []Move, error) {
	k := &keeper{ix: ix, p: p, bases: bases, locked: map[string]lockfile.Package{}, free: map[string]bool{}}
	var names []string
	for _, o := range old {
		k.locked[o.Name] = o
		names = append(names, o.Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, u := range update {
		if _, ok := k.locked[u]; !ok {
			return nil, nil, &NotFoundError{Name: u, Suite: "the lock", Arch: p.String(), Nearest: definition.Nearest(u, names)}
		}
		k.free[u] = true
	}
	for _, n := range names {
		if o := k.locked[n]; !k.free[n] {
			if _, ok := ix.find(o.Name, o.Version, o.Arch); !ok {
				k.release(n, "the archive no longer has that version")
			}
		}
	}
	for k.loosen(names) {
	}
	var pins []lockfile.Package
	for _, n := range names {
		if !k.free[n] {
			pins = append(pins, k.locked[n])
		}
	}
	slices.SortFunc(k.moves, func(a, b Move) int { return strings.Compare(a.Package, b.Package) })
	return pins, k.moves, nil
}

// release lets a package move.
func (k *keeper) release(name, why string) {
	k.free[name] = true
	m := Move{Platform: k.p, Package: name, From: k.locked[name].Version, Why: why}
	if i, ok := k.ix.newest(name); ok {
		m.To = k.ix.stanzas[i].Version
	}
	if m.To != m.From {
		k.moves = append(k.moves, m)
	}
}

// at returns the stanza that a name stands for as things are now.
func (k *keeper) at(name string) (int32, bool) {
	if k.free[name] {
		return k.ix.newest(name)
	}
	o := k.locked[name]
	return k.ix.find(o.Name, o.Version, o.Arch)
}

// loosen lets move what does not fit, and reports whether anything had to.
// Each round frees at least one name, so it ends.
func (k *keeper) loosen(names []string) bool {
	var members []int32
	for _, n := range names {
		if i, ok := k.at(n); ok {
			members = append(members, i)
		}
	}
	w, err := newWorld(k.ix, members)
	if err != nil {
		return false // apt, and then Check, will say what is wrong
	}
	before := len(k.free)
	for _, i := range w.members {
		k.loosenNeeds(w, i)
		k.loosenConflicts(w, i)
	}
	return len(k.free) > before
}

func (k *keeper) loosenNeeds(w *world, i int32) {
	name := k.ix.stanzas[i].Package
	clauses, err := k.ix.needs(i)
	if err != nil {
		return
	}
	for _, c := range clauses {
		if w.met(i, c) || k.metByBase(i, c) {
			continue
		}
		for _, r := range c {
			if _, ok := k.locked[r.Name]; ok && !k.free[r.Name] && k.fits(r) {
				k.release(r.Name, fmt.Sprintf("%s needs %s", name, c))
			}
		}
		if _, ok := k.locked[name]; ok && !k.free[name] {
			k.release(name, fmt.Sprintf("it needs %s", c))
		}
	}
}

// metByBase reports whether what an image has does for a need of package i.
func (k *keeper) metByBase(i int32, c Clause) bool {
	return slices.ContainsFunc(k.bases, func(g *ground) bool { return g.world.met(i, c) })
}

// fits reports whether the archive's newest version would do.
func (k *keeper) fits(r Relation) bool {
	i, ok := k.ix.newest(r.Name)
	return ok && r.Allows(k.ix.stanzas[i].Version)
}

func (k *keeper) loosenConflicts(w *world, i int32) {
	name := k.ix.stanzas[i].Package
	for _, field := range []string{"Conflicts", "Breaks"} {
		clauses, err := k.ix.relations(i, field)
		if err != nil {
			return
		}
		for _, c := range clauses {
			for _, hit := range w.hits(i, c[0]) {
				other := k.ix.stanzas[hit].Package
				mover := cmp.Or(pick(!k.free[other], other), pick(!k.free[name], name))
				if mover != "" {
					k.release(mover, fmt.Sprintf("%s has %s: %s", name, field, c))
				}
			}
		}
	}
}

func pick(ok bool, s string) string {
	if ok {
		return s
	}
	return ""
}
