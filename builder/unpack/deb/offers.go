package deb

import "strings"

// Offers are names that packages have and provide, for finding who fulfils the
// dependencies of others. Packages are numbered by whoever adds them. Unlike
// [Unmet], it says who, and what nobody fulfils is no matter.
type Offers struct {
	named, provided map[string][]offer
}

type offer struct {
	who     int
	arch    string
	version string // "" for none
}

// maxTries is how many of one name are asked whether their version and
// architecture fit, so that finding them is linear whatever a database says.
// Debian 12 provides no name in more than 5 versions (debhelper-compat).
const maxTries = 16

// Add adds a package with its field Provides. It reports false when that cannot be
// read; what the package provides is unknown then.
func (o *Offers) Add(who int, name, arch, version, provides string) bool {
	if o.named == nil {
		o.named, o.provided = map[string][]offer{}, map[string][]offer{}
	}
	if !validVersion(version) {
		version = ""
	}
	o.named[name] = append(o.named[name], offer{who, arch, version})
	groups := parseRelations(provides)
	for _, group := range groups {
		for _, r := range group {
			o.provided[r.name] = append(o.provided[r.name], offer{who, arch, r.version})
		}
	}
	return groups != nil || strings.TrimSpace(provides) == ""
}

// Meet returns who fulfils the relations of a field, one after the other, for a
// package of an architecture: the first alternative that somebody fulfils, by name
// or else by what is provided. Of several it is one of the package's architecture,
// else who was added first. It reports false when the field cannot be read.
func (o *Offers) Meet(field, arch string) (who []int, ok bool) {
	groups := parseRelations(field)
	for _, group := range groups {
		if one, ok := o.meet(group, arch); ok {
			who = append(who, one)
		}
	}
	return who, groups != nil || strings.TrimSpace(field) == ""
}

func (o *Offers) meet(group []relation, arch string) (who int, ok bool) {
	for _, r := range group {
		for _, offers := range [][]offer{o.named[r.name], o.provided[r.name]} {
			if who, ok = r.first(offers, arch); ok {
				return who, true
			}
		}
	}
	return 0, false
}

// first is the best of the offers that fulfil the relation.
func (r relation) first(offers []offer, arch string) (who int, ok bool) {
	for _, f := range offers[:min(len(offers), maxTries)] {
		asked := r.arch == "" || r.arch == "any" || r.arch == "native" || r.arch == f.arch
		if !asked || r.op != "" && (f.version == "" || !r.holds(f.version)) {
			continue
		}
		if f.arch == arch || f.arch == "all" {
			return f.who, true
		}
		if !ok {
			who, ok = f.who, true
		}
	}
	return who, ok
}
