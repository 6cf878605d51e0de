package deb

// Need is a dependency that a set of packages does not fulfil.
type Need struct {
	Package string   // whose
	Needs   []string // its alternatives, as the package writes them
	Names   []string // their names alone
}

// Unmet returns what packages of the set pre-depend or depend on and none of
// the set is or provides, in the order of the packages. A relation with a
// version is fulfilled by what is provided only in a version that fits
// (Debian policy, 7.5). It is linear in the relations. What packages are added
// to counts too; what those need is not asked.
func Unmet(pkgs []*Package, installed ...Paragraph) []Need {
	u := unmet{versions: map[string][]string{}, provided: map[string][]relation{}}
	for _, p := range pkgs {
		u.add(p.Control)
	}
	for _, p := range installed {
		u.add(p)
	}
	var out []Need
	for _, p := range pkgs {
		for _, field := range []string{"Pre-Depends", "Depends"} {
			for _, group := range parseRelations(p.Control.Get(field)) {
				if u.fulfils(group) {
					continue
				}
				need := Need{Package: p.Name()}
				for _, r := range group {
					need.Needs = append(need.Needs, r.String())
					need.Names = append(need.Names, r.name)
				}
				out = append(out, need)
			}
		}
	}
	return out
}

type unmet struct {
	versions map[string][]string   // of the packages, by name
	provided map[string][]relation // by what is provided
}

func (u unmet) add(p Paragraph) {
	name := p.Get("Package")
	u.versions[name] = append(u.versions[name], p.Get("Version"))
	for _, group := range parseRelations(p.Get("Provides")) {
		for _, r := range group {
			u.provided[r.name] = append(u.provided[r.name], r)
		}
	}
}

// Clash says which of the packages conflicts with, or breaks, one that is
// installed, or the other way round; "" for none.
func Clash(pkgs []*Package, installed []Paragraph) string {
	for _, p := range pkgs {
		for _, have := range installed {
			for _, pair := range [][2]Paragraph{{p.Control, have}, {have, p.Control}} {
				for _, field := range []string{"Conflicts", "Breaks"} {
					if hits(pair[0].Get(field), pair[1]) {
						return pair[0].Get("Package") + " " + pair[0].Get("Version") + " has " + field + " with " + pair[1].Get("Package") + " " + pair[1].Get("Version")
					}
				}
			}
		}
	}
	return ""
}

// hits reports whether a field of conflicts is about a package, by its name or
// by what it provides.
func hits(field string, p Paragraph) bool {
	if field == "" {
		return false
	}
	u := unmet{versions: map[string][]string{}, provided: map[string][]relation{}}
	u.add(p)
	for _, group := range parseRelations(field) {
		if (group[0].arch == "" || group[0].arch == "any" || group[0].arch == p.Get("Architecture")) && u.fulfils(group) {
			return true
		}
	}
	return false
}

func (u unmet) fulfils(group []relation) bool {
	for _, r := range group {
		for _, version := range u.versions[r.name] {
			if r.holds(version) {
				return true
			}
		}
		for _, p := range u.provided[r.name] {
			if r.op == "" || p.version != "" && r.holds(p.version) {
				return true
			}
		}
	}
	return false
}
