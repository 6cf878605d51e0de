package deb

import (
	"fmt"
	"slices"
	"strings"

	"quorate.dev/lockfile"
)

// world is a set of packages that are installed together.
type world struct {
	ix       *Index
	members  []int32 // sorted by name, then architecture
	byName   map[string][]int32
	provides map[string][]provision
}

// provision is one name that a member provides.
type provision struct {
	by      int32
	version string // "" when it says none
}

// newWorld reads the members' Provides.
func newWorld(ix *Index, members []int32) (*world, error) {
	w := &world{ix: ix, members: slices.Clone(members), byName: map[string][]int32{}, provides: map[string][]provision{}}
	slices.SortFunc(w.members, func(a, b int32) int {
		x, y := &ix.stanzas[a], &ix.stanzas[b]
		if c := strings.Compare(x.Package, y.Package); c != 0 {
			return c
		}
		return strings.Compare(x.Architecture, y.Architecture)
	})
	for _, i := range w.members {
		s := &ix.stanzas[i]
		w.byName[s.Package] = append(w.byName[s.Package], i)
		clauses, err := ix.relations(i, "Provides")
		if err != nil {
			return nil, err
		}
		for _, c := range clauses {
			w.provides[c[0].Name] = append(w.provides[c[0].Name], provision{i, c[0].Version})
		}
	}
	return w, nil
}

// relations reads one relation field of a package.
func (ix *Index) relations(i int32, field string) ([]Clause, error) {
	s := &ix.stanzas[i]
	text := map[string]string{
		"Depends": s.Depends, "Pre-Depends": s.PreDepends, "Conflicts": s.Conflicts,
		"Breaks": s.Breaks, "Provides": s.Provides,
	}[field]
	clauses, err := ParseRelations(text)
	if err != nil {
		return nil, &IndexError{URL: ix.archives[ix.archive[i]].url, Err: fmt.Errorf("package %q, field %s: %w", s.Package, field, err)}
	}
	return clauses, nil
}

// needs lists what a package depends on: Pre-Depends, then Depends.
func (ix *Index) needs(i int32) ([]Clause, error) {
	pre, err := ix.relations(i, "Pre-Depends")
	if err != nil {
		return nil, err
	}
	deps, err := ix.relations(i, "Depends")
	return append(pre, deps...), err
}

// satisfiers lists the members that satisfy a relation of package of: packages
// of the name itself first, then those that provide it. Rules of architecture
// are those of dpkg (its spec "multiarch"): an unqualified name means the
// architecture of the package that needs it, unless the other is Multi-Arch:
// foreign; ":any" needs Multi-Arch: allowed.
func (w *world) satisfiers(of int32, r Relation) []int32 {
	var out []int32
	for _, i := range w.byName[r.Name] {
		if w.archServes(of, r, i) && r.Allows(w.ix.stanzas[i].Version) {
			out = append(out, i)
		}
	}
	for _, p := range w.provides[r.Name] {
		if r.Op != "" && (p.version == "" || !r.Allows(p.version)) {
			continue // an unversioned Provides satisfies only unversioned needs (Policy 7.5)
		}
		if w.archServes(of, r, p.by) && !slices.Contains(out, p.by) {
			out = append(out, p.by)
		}
	}
	return out
}

func (w *world) archServes(of int32, r Relation, target int32) bool {
	t := &w.ix.stanzas[target]
	if t.MultiArch == "foreign" || r.Arch == "any" && t.MultiArch == "allowed" {
		return true
	}
	want := r.Arch
	switch want {
	case "any", "":
		want = w.ix.arch(&w.ix.stanzas[of])
	case "native":
		want = w.ix.Arch
	}
	return w.ix.arch(t) == want
}

// hits lists the members that a Conflicts or Breaks of package of is about.
// Without a qualifier it concerns every architecture; packages of the same
// name never conflict with each other through what they provide.
func (w *world) hits(of int32, r Relation) []int32 {
	var out []int32
	self := w.ix.stanzas[of].Package
	about := func(i int32) bool {
		return w.ix.stanzas[i].Package != self &&
			(r.Arch == "" || r.Arch == "any" || w.ix.arch(&w.ix.stanzas[i]) == r.Arch)
	}
	for _, i := range w.byName[r.Name] {
		if about(i) && r.Allows(w.ix.stanzas[i].Version) {
			out = append(out, i)
		}
	}
	for _, p := range w.provides[r.Name] {
		if about(p.by) && (r.Op == "" || p.version != "" && r.Allows(p.version)) {
			out = append(out, p.by)
		}
	}
	return out
}

// Problem is one reason why packages cannot be installed together.
type Problem struct {
	Package string // "name" of the package whose field does not hold
	Field   string // "Depends", "Conflicts", "version" …
	Wants   string // the clause
	Found   string // the member in the way, or "" when one is missing
}

func (p Problem) String() string {
	switch {
	case p.Field == "version" || p.Field == "Multi-Arch":
		return fmt.Sprintf("%q: %s, %s", p.Package, p.Wants, p.Found)
	case p.Found == "":
		return fmt.Sprintf("%q: %s %q is missing", p.Package, p.Field, p.Wants)
	}
	return fmt.Sprintf("%q: %s %q, and %q is there", p.Package, p.Field, p.Wants, p.Found)
}

// CheckError says that a set of packages does not hold together.
type CheckError struct {
	Problems []Problem
}

func (e *CheckError) Error() string {
	const most = 5 // enough to see the pattern
	var lines []string
	for _, p := range e.Problems[:min(most, len(e.Problems))] {
		lines = append(lines, p.String())
	}
	s := "packages do not fit together: " + strings.Join(lines, "; ")
	if n := len(e.Problems) - most; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// Check verifies that packages of an index can be installed together in an
// empty root: every Pre-Depends and Depends is met, no Conflicts or Breaks is,
// each name has one version, and several architectures of a name only where it
// is Multi-Arch: same. A need that is waived may go unmet. It takes time
// linear in the packages and their relations. Errors: *CheckError, *IndexError.
func Check(pkgs []lockfile.Package, ix *Index, waived []lockfile.Waiver) error {
	var members []int32
	var problems []Problem
	for _, p := range pkgs {
		i, ok := ix.find(p.Name, p.Version, p.Arch)
		if !ok {
			problems = append(problems, Problem{p.Name, "version", "version " + p.Version + " is asked for", "the index does not have it"})
			continue
		}
		members = append(members, i)
	}
	w, err := newWorld(ix, members)
	if err != nil {
		return err
	}
	more, err := w.problems(nil, waived)
	if err != nil {
		return err
	}
	if problems = append(problems, more...); len(problems) > 0 {
		return &CheckError{problems}
	}
	return nil
}

// check is Check for a world that is there already. What its members in base
// need, and how they go together, is as whoever made the base left it; only what
// is added to them is judged.
func (w *world) check(base map[int32]bool, waived []lockfile.Waiver) error {
	problems, err := w.problems(base, waived)
	if err == nil && len(problems) > 0 {
		err = &CheckError{problems}
	}
	return err
}

func (w *world) problems(base map[int32]bool, waived []lockfile.Waiver) ([]Problem, error) {
	problems := w.checkNames(base)
	for _, i := range w.members {
		more, err := w.checkMember(i, base, waived)
		if err != nil {
			return nil, err
		}
		problems = append(problems, more...)
	}
	return problems, nil
}

func (w *world) checkNames(base map[int32]bool) []Problem {
	var out []Problem
	for k, i := range w.members[:max(0, len(w.members)-1)] {
		a, b := &w.ix.stanzas[i], &w.ix.stanzas[w.members[k+1]]
		if a.Package != b.Package || base[i] && base[w.members[k+1]] {
			continue
		}
		if a.Version != b.Version || w.ix.arch(a) == w.ix.arch(b) {
			out = append(out, Problem{a.Package, "version", "chosen as " + a.Version, "and as " + b.Version})
		} else if a.MultiArch != "same" || b.MultiArch != "same" {
			out = append(out, Problem{a.Package, "Multi-Arch", "chosen for " + a.Architecture, "and for " + b.Architecture})
		}
	}
	return out
}

func (w *world) checkMember(i int32, base map[int32]bool, waived []lockfile.Waiver) ([]Problem, error) {
	name := w.ix.stanzas[i].Package
	var out []Problem
	for _, field := range []string{"Pre-Depends", "Depends"} {
		if base[i] {
			break
		}
		clauses, err := w.ix.relations(i, field)
		if err != nil {
			return nil, err
		}
		for _, c := range clauses {
			if !w.met(i, c) && !w.isWaived(i, c, waived) {
				out = append(out, Problem{name, field, c.String(), ""})
			}
		}
	}
	for _, field := range []string{"Conflicts", "Breaks"} {
		clauses, err := w.ix.relations(i, field)
		if err != nil {
			return nil, err
		}
		for _, c := range clauses {
			for _, hit := range w.hits(i, c[0]) {
				if base[i] && base[hit] {
					continue
				}
				out = append(out, Problem{name, field, c.String(), w.ix.stanzas[hit].Package})
			}
		}
	}
	return out, nil
}

func (w *world) met(i int32, c Clause) bool {
	return slices.ContainsFunc(c, func(r Relation) bool { return len(w.satisfiers(i, r)) > 0 })
}

// isWaived reports whether a waiver of package i names something that would
// meet the clause.
func (w *world) isWaived(i int32, c Clause, waived []lockfile.Waiver) bool {
	for _, v := range waived {
		if v.Package != w.ix.stanzas[i].Package {
			continue
		}
		absent, err := newWorld(w.ix, w.ix.byName[v.Needs])
		if err == nil && absent.met(i, c) {
			return true
		}
	}
	return false
}
