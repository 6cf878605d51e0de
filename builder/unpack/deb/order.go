package deb

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// CycleError says that packages pre-depend on each other in a circle.
type CycleError struct {
	Packages []string
}

func (e *CycleError) Error() string {
	return "packages pre-depend on each other: " + strings.Join(e.Packages, " → ")
}

// Order returns the packages in the order in which their preinst scripts run:
// base-passwd first, whose preinst makes the passwd and group files that all
// others need; then each after what it pre-depends on, by name otherwise.
func Order(pkgs []*Package) ([]*Package, error) {
	o := &orderer{state: map[*Package]int{}, byName: map[string][]*Package{}, out: make([]*Package, 0, len(pkgs))}
	sorted := slices.Clone(pkgs)
	sort.SliceStable(sorted, func(i, j int) bool { return orderKey(sorted[i]) < orderKey(sorted[j]) })
	for i, p := range sorted {
		if i > 0 && orderKey(sorted[i-1]) == orderKey(p) {
			return nil, fmt.Errorf("package %q is there twice for %q (%s and %s)", p.Name(), p.Arch(), sorted[i-1].Version(), p.Version())
		}
		o.byName[p.Name()] = append(o.byName[p.Name()], p)
	}
	for _, p := range sorted {
		o.provide(p)
	}
	for _, p := range o.byName["base-passwd"] {
		if err := o.visit(p); err != nil {
			return nil, err
		}
	}
	for _, p := range sorted {
		if err := o.visit(p); err != nil {
			return nil, err
		}
	}
	return o.out, nil
}

// Essential returns the packages that every installation begins with, sorted by
// name: those that say "Essential: yes" and what they depend on within the set,
// every alternative of it. Other packages need not name them, and rely on them
// being configured (Debian policy, 3.8), so they are configured first.
func Essential(pkgs []*Package) []*Package {
	return reach(pkgs, func(*orderer) (queue []*Package) {
		for _, p := range pkgs {
			if p.Control.Get("Essential") == "yes" {
				queue = append(queue, p)
			}
		}
		return queue
	})
}

// PreDepended returns the packages that must be configured before other
// packages' preinst scripts run, sorted by name: what a package with such a
// script pre-depends on (Debian policy, 7.2), and what those depend on within
// the set, every alternative of it.
func PreDepended(pkgs []*Package) []*Package {
	return reach(pkgs, func(o *orderer) (queue []*Package) {
		for _, p := range pkgs {
			if p.ControlFile("preinst") != nil {
				queue = append(queue, o.named(p.Control.Get("Pre-Depends"))...)
			}
		}
		return queue
	})
}

// reach returns what start gives and all that it depends on, sorted by name.
func reach(pkgs []*Package, start func(*orderer) []*Package) []*Package {
	o := &orderer{byName: map[string][]*Package{}}
	for _, p := range byName(pkgs) {
		o.byName[p.Name()] = append(o.byName[p.Name()], p)
	}
	for _, p := range pkgs {
		o.provide(p)
	}
	in := map[*Package]bool{}
	for queue := start(o); len(queue) > 0; queue = queue[1:] {
		p := queue[0]
		if in[p] {
			continue
		}
		in[p] = true
		queue = append(queue, o.named(p.Control.Get("Pre-Depends"))...)
		queue = append(queue, o.named(p.Control.Get("Depends"))...)
	}
	var out []*Package
	for _, p := range byName(pkgs) {
		if in[p] {
			out = append(out, p)
		}
	}
	return out
}

// named returns every package of the set that a relation field names.
func (o *orderer) named(field string) []*Package {
	var out []*Package
	for _, group := range parseRelations(field) {
		for _, r := range group {
			out = append(out, o.byName[r.name]...)
		}
	}
	return out
}

func orderKey(p *Package) string { return p.Name() + "\x00" + p.Arch() }

type orderer struct {
	byName map[string][]*Package // by name and by what is provided, real ones first
	state  map[*Package]int      // 0 new, 1 on the path, 2 done
	path   []string
	out    []*Package
}

func (o *orderer) provide(p *Package) {
	for _, group := range parseRelations(p.Control.Get("Provides")) {
		for _, r := range group {
			if r.name != p.Name() {
				o.byName[r.name] = append(o.byName[r.name], p)
			}
		}
	}
}

// visit is a depth-first walk; its depth is at most the number of packages.
func (o *orderer) visit(p *Package) error {
	switch o.state[p] {
	case 2:
		return nil
	case 1:
		start := max(0, slices.Index(o.path, p.Name()))
		return &CycleError{Packages: append(slices.Clone(o.path[start:]), p.Name())}
	}
	o.state[p] = 1
	o.path = append(o.path, p.Name())
	for _, group := range parseRelations(p.Control.Get("Pre-Depends")) {
		if q := o.first(group, p); q != nil && q != p {
			if err := o.visit(q); err != nil {
				return err
			}
		}
	}
	o.path = o.path[:len(o.path)-1]
	o.state[p] = 2
	o.out = append(o.out, p)
	return nil
}

// first returns the first alternative that the set holds, of p's architecture if it can; nil when none.
func (o *orderer) first(group []relation, p *Package) *Package {
	for _, r := range group {
		candidates := o.byName[r.name]
		for _, q := range candidates {
			if q.Arch() == p.Arch() || q.Arch() == "all" {
				return q
			}
		}
		if len(candidates) > 0 {
			return candidates[0]
		}
	}
	return nil
}
