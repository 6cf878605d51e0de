package deb

import (
	"slices"
	"strings"

	"quorate.dev/lockfile"
)

// needsEssential reports whether a set's packages are chosen together with the
// Essential set: whatever runs scripts or commands needs it. An image that
// packages are added to has its own.
func needsEssential(r lockfile.SetRequest) bool {
	return r.Base == "" && (r.Name != lockfile.SetImage || r.Scripts == "dpkg" || r.Essential)
}

// nothing reports whether a request asks for no package at all: an image of
// files only has no scripts to run, so nothing to run them in.
func nothing(r lockfile.SetRequest) bool {
	return r.Name == lockfile.SetImage && !r.Essential && len(r.Packages) == 0
}

// choice is a set's answer from apt and what follows from it.
type choice struct {
	request   lockfile.SetRequest
	chosen    []int32         // by apt
	base      map[int32]bool  // what chosen is added to; nil for nothing
	held      []lockfile.Held // requests that the base meets
	world     *world          // of chosen and base
	requested map[int32]bool
	essential map[int32]bool
}

// reasons walks from the roots along the needs, breadth first, and says of
// each member reached why it is there. Of every clause only the first
// alternative that a member satisfies is followed, or with all, every one. Members in without are not entered; a need that only they
// meet is returned as a waiver.
func (c *choice) reasons(roots []int32, without map[int32]bool, all bool) (map[int32]string, []lockfile.Waiver, error) {
	why := map[int32]string{}
	var queue []int32
	for _, i := range roots {
		if without[i] {
			continue
		}
		why[i] = lockfile.ByEssential
		if c.requested[i] {
			why[i] = lockfile.ByRequest
		}
		queue = append(queue, i)
	}
	var waivers []lockfile.Waiver
	for ; len(queue) > 0; queue = queue[1:] {
		i := queue[0]
		name := c.world.ix.stanzas[i].Package
		clauses, err := c.world.ix.needs(i)
		if err != nil {
			return nil, nil, err
		}
		for _, clause := range clauses {
			next, absent := c.choose(i, clause, without, all)
			if len(next) == 0 && absent != "" {
				waivers = append(waivers, lockfile.Waiver{Package: name, Needs: absent})
			}
			for _, n := range next {
				if _, ok := why[n]; !ok && !c.base[n] {
					why[n] = name
					queue = append(queue, n)
				}
			}
		}
	}
	return why, sortWaivers(waivers), nil
}

// choose returns the members that meet a clause of package i, the first or
// all, and the name of a left-out one that would.
func (c *choice) choose(i int32, clause Clause, without map[int32]bool, all bool) (next []int32, absent string) {
	for _, r := range clause {
		for _, n := range c.world.satisfiers(i, r) {
			switch {
			case without[n]:
				if absent == "" {
					absent = c.world.ix.stanzas[n].Package
				}
			case all:
				next = append(next, n)
			default:
				return []int32{n}, ""
			}
		}
	}
	return next, absent
}

func sortWaivers(w []lockfile.Waiver) []lockfile.Waiver {
	slices.SortFunc(w, func(a, b lockfile.Waiver) int {
		if c := strings.Compare(a.Package, b.Package); c != 0 {
			return c
		}
		return strings.Compare(a.Needs, b.Needs)
	})
	return slices.Compact(w)
}

// roots lists what was asked for by name, then the Essential set, each in
// order of name.
func (c *choice) roots(essential bool) []int32 {
	var asked, other []int32
	for _, i := range c.world.members {
		switch {
		case c.requested[i]:
			asked = append(asked, i)
		case essential && c.essential[i]:
			other = append(other, i)
		}
	}
	return append(asked, other...)
}

// whole says of every member why it is there. What the first alternatives do
// not reach (apt chose it for a need that another member meets as well) is
// reached by the others.
func (c *choice) whole() (map[int32]string, error) {
	why, _, err := c.reasons(c.roots(true), nil, false)
	if err != nil || len(why) == len(c.chosen) {
		return why, err
	}
	more, _, err := c.reasons(c.roots(true), nil, true)
	if err != nil {
		return nil, err
	}
	for _, i := range c.world.members {
		if why[i] != "" || c.base[i] {
			continue
		}
		if why[i] = more[i]; why[i] == "" {
			why[i] = lockfile.ByRequest // only apt knows: it is part of the answer to the request
		}
	}
	return why, nil
}

// sets divides the answer into sets: who belongs to which, and why.
func (c *choice) sets() (map[string]map[int32]string, []lockfile.Waiver, error) {
	why, err := c.whole()
	if err != nil {
		return nil, nil, err
	}
	if c.request.Name != lockfile.SetImage {
		return map[string]map[int32]string{c.request.Name: why}, nil, nil
	}
	image, waivers := why, []lockfile.Waiver(nil)
	if !c.request.Essential || len(c.request.Without) > 0 {
		without := map[int32]bool{}
		for _, name := range c.request.Without {
			for _, i := range c.world.byName[name] {
				without[i] = !c.base[i]
			}
		}
		if image, waivers, err = c.reasons(c.roots(c.request.Essential), without, false); err != nil {
			return nil, nil, err
		}
	}
	sets := map[string]map[int32]string{lockfile.SetImage: image}
	if c.request.Scripts == "dpkg" {
		rest := map[int32]string{}
		for i, w := range why {
			if _, shipped := image[i]; !shipped {
				rest[i] = w
			}
		}
		sets[lockfile.SetConfigure] = rest
	}
	return sets, waivers, nil
}

// check holds the packages of one set together, and with the base.
func (c *choice) check(set map[int32]string, waived []lockfile.Waiver) error {
	var members []int32
	for _, i := range c.world.members {
		if _, ok := set[i]; ok || c.base[i] {
			members = append(members, i)
		}
	}
	w, err := newWorld(c.world.ix, members)
	if err != nil {
		return err
	}
	return w.check(c.base, waived)
}
