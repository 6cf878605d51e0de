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
// (Debian policy, 7.5). It is linear in the relations.
func Unmet(pkgs []*Package) []Need {
	u := unmet{versions: map[string][]string{}, provided: map[string][]relation{}}
	for _, p := range pkgs {
		u.versions[p.Name()] = append(u.versions[p.Name()], p.Version())
		for _, group := range parseRelations(p.Control.Get("Provides")) {
			for _, r := range group {
				u.provided[r.name] = append(u.provided[r.name], r)
			}
		}
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
