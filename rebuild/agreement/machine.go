package agreement

import (
	"cmp"
	"fmt"
	"slices"
)

// MachineFacts are the facts of a report's environment that name the machine it
// was built on. Rebuilders with one of them in common are one machine, whatever
// they are called: the machine's id (hashed, so that it is no secret told), the
// running kernel's boot id, which every container of the machine sees, and the
// Docker Engine's id.
var MachineFacts = []string{"machine-id", "boot-id", "engine-id"}

// sharedFact is the first fact that says that two reports come from one machine, or "".
func sharedFact(a, b *Report) string {
	for _, fact := range MachineFacts {
		if v := a.Environment[fact]; v != "" && v == b.Environment[fact] {
			return fact
		}
	}
	return ""
}

// namesMachine says whether a report tells anything of where it was built.
func namesMachine(r *Report) bool {
	return slices.ContainsFunc(MachineFacts, func(fact string) bool { return r.Environment[fact] != "" })
}

// sets joins names that are the same in some respect. A set is known by its least name.
type sets map[string]string

func (s sets) find(name string) string {
	for s[name] != "" && s[name] != name {
		name = s[name]
	}
	return name
}

func (s sets) join(a, b string) {
	a, b = s.find(a), s.find(b)
	if a == b {
		return
	}
	s[max(a, b)] = min(a, b)
}

// joined returns the sets of what name gives for members, where members of one
// machine are in one set.
func joined(members []*statement, name func(*statement) string) sets {
	all := sets{}
	for i, a := range members {
		for _, b := range members[:i] {
			if sharedFact(a.report, b.report) != "" {
				all.join(name(a), name(b))
			}
		}
	}
	return all
}

func (h *statement) operator() string { return h.rebuilder.Operator }
func (h *statement) name() string     { return h.rebuilder.Name }

// operators are the independent ones among members: those that turn out to share a machine are one.
func operators(members []*statement) map[string]bool {
	all, set := joined(members, (*statement).operator), map[string]bool{}
	for _, m := range members {
		set[all.find(m.operator())] = true
	}
	return set
}

// machines are the different ones among members that say where they are.
func machines(members []*statement) map[string]bool {
	all, set := joined(members, (*statement).name), map[string]bool{}
	for _, m := range members {
		if namesMachine(m.report) {
			set[all.find(m.name())] = true
		}
	}
	return set
}

// posing says which rebuilders of different operators are one machine.
func posing(heard []statement) []string {
	var warnings []string
	for i := range heard {
		for j := range heard[:i] {
			a, b := &heard[j], &heard[i]
			if a.report == nil || b.report == nil || a.operator() == b.operator() {
				continue
			}
			if fact := sharedFact(a.report, b.report); fact != "" {
				warnings = append(warnings, fmt.Sprintf("%q of %s and %q of %s are one machine: both have the %s %.16s…; their operators count as one",
					a.name(), a.operator(), b.name(), b.operator(), fact, a.report.Environment[fact]))
			}
		}
	}
	slices.SortFunc(warnings, cmp.Compare)
	return warnings
}
