package deb

import (
	"slices"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
)

// aptName writes a request as apt-get takes it.
func aptName(r definition.Request) string {
	s := r.Name
	if r.Arch != "" {
		s += ":" + r.Arch
	}
	if r.Version != "" {
		s += "=" + r.Version
	}
	return s
}

func parseRequest(s string) (definition.Request, error) {
	r, err := definition.ParseRequest(s)
	if err != nil {
		return r, &RequestError{Request: s, Problem: err.Error()}
	}
	return r, nil
}

// foreignArches lists the architectures that requests name besides native, sorted.
func foreignArches(sets []lockfile.SetRequest, native string) ([]string, error) {
	var out []string
	for _, set := range sets {
		for _, p := range set.Packages {
			r, err := parseRequest(p)
			if err != nil {
				return nil, err
			}
			if r.Arch != "" && r.Arch != native && r.Arch != "all" {
				out = append(out, r.Arch)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// settle turns a request into one that names a real package of the index; a
// virtual name with a single provider becomes that provider, as apt does it.
// Errors: *RequestError, *NotFoundError.
func (ix *Index) settle(s string) (definition.Request, error) {
	r, err := parseRequest(s)
	if err != nil {
		return definition.Request{}, err
	}
	if r.Arch == "all" || r.Arch == ix.Arch {
		r.Arch = ""
	}
	arch := r.Arch
	if arch == "" {
		arch = ix.Arch
	}
	missing := &NotFoundError{Name: r.Name, Suite: ix.Suite, Arch: arch}
	var versions []string
	for _, i := range ix.byName[r.Name] {
		if s := &ix.stanzas[i]; s.Architecture == arch || s.Architecture == "all" {
			if r.Version == "" || s.Version == r.Version {
				return r, nil
			}
			versions = append(versions, s.Version)
		}
	}
	if len(versions) > 0 {
		missing.Version, missing.Nearest = r.Version, slices.Compact(versions)
		return definition.Request{}, missing
	}
	providers := ix.providers(r.Name, arch)
	if len(providers) == 1 && r.Version == "" {
		r.Name = providers[0]
		return r, nil
	}
	if missing.Providers = providers; len(providers) == 0 {
		missing.Nearest = definition.Nearest(r.Name, ix.names())
	}
	return definition.Request{}, missing
}
