package lockfile

import (
	"fmt"
	"slices"
	"strings"

	"quorate.dev/lockfile/strictyaml"
)

// Chain is one way by which a package came into a set of a platform, or the
// request of a file.
type Chain struct {
	Platform string   `json:"platform,omitempty"` // of packages
	Set      string   `json:"set"`                // "image", "configure" or "step/NAME"; "files" of files; "KIND/NAME" of what other inputs are made of, "inputs.KIND" of the inputs themselves
	Reason   string   `json:"reason"`             // why the first package is there: "requested" or "essential"; "" if the lock does not say
	Packages []string `json:"packages"`           // from the one asked for to the one in question
	Base     string   `json:"base,omitempty"`     // image input that the set is added to
	Held     string   `json:"held,omitempty"`     // version that Base has of the package, of which the lock has none then
}

// String writes "image: nginx (requested) → nginx-common → iproute2", or
// "image on os: …" where packages are added to an image.
func (c Chain) String() string {
	var b strings.Builder
	b.WriteString(c.Set)
	if c.Base != "" {
		fmt.Fprintf(&b, " on %s", c.Base)
	}
	for i, p := range c.Packages {
		switch i {
		case 0:
			fmt.Fprintf(&b, ": %s", p)
			if c.Reason != "" {
				fmt.Fprintf(&b, " (%s)", c.Reason)
			}
		default:
			fmt.Fprintf(&b, " → %s", p)
		}
	}
	if c.Held != "" {
		fmt.Fprintf(&b, ", which %s has in version %s", c.Base, c.Held)
	}
	return b.String()
}

// UnknownPackageError says that a lock has no package or file of a name.
type UnknownPackageError struct {
	Name    string
	Nearest []string // names that the lock does have, best first
}

func (e *UnknownPackageError) Error() string {
	if len(e.Nearest) == 0 {
		return fmt.Sprintf("the lock has no input %q", e.Name)
	}
	return fmt.Sprintf("the lock has no input %q; did you mean %s?", e.Name, strictyaml.Alternatives(e.Nearest))
}

// Why returns, for every platform and set that has the package, the chain of
// needs from the request to it; for a file or another input, its request. name may carry an architecture ("libc6:i386").
// The error is an *UnknownPackageError.
func Why(l *Lock, name string) ([]Chain, error) {
	base, arch, _ := strings.Cut(name, ":")
	var chains []Chain
	var known []string
	for _, p := range l.Platforms {
		byName := index(p.Packages)
		for _, pkg := range p.Packages {
			known = append(known, pkg.Name)
			if pkg.Name != base || arch != "" && pkg.Arch != arch {
				continue
			}
			for _, m := range pkg.In {
				c := follow(byName, pkg, m)
				c.Platform, c.Base = p.Platform.String(), l.Requests.BaseOf(m.Set)
				if !slices.ContainsFunc(chains, func(o Chain) bool { return o.Platform == c.Platform && o.String() == c.String() }) {
					chains = append(chains, c)
				}
			}
		}
		for _, h := range p.Held {
			known = append(known, h.Package)
			if h.Package == base {
				chains = append(chains, Chain{Platform: p.Platform.String(), Set: h.Set, Base: l.Requests.BaseOf(h.Set), Reason: ByRequest, Packages: []string{base}, Held: h.Version})
			}
		}
	}
	for _, f := range l.Files {
		known = append(known, f.Name)
		if f.Name == name {
			chains = append(chains, Chain{Set: "files", Reason: ByRequest, Packages: []string{name}})
		}
	}
	for _, in := range l.Inputs {
		known = append(known, in.Name)
		what := l.RequestOf(in.Name).Ask["package"] // of a source package
		switch name {
		case in.Name:
			chains = append(chains, Chain{Set: section(in.Kind), Reason: ByRequest, Packages: []string{name}})
		case what:
			chains = append(chains, Chain{Set: section(in.Kind), Reason: ByRequest, Packages: []string{in.Name, what}})
		}
	}
	chains = append(chains, whyPin(l, name)...)
	for _, p := range l.Pins {
		known = append(known, p.Name)
	}
	if len(chains) == 0 {
		return nil, &UnknownPackageError{Name: name, Nearest: strictyaml.Nearest(base, known)}
	}
	return chains, nil
}

// BaseOf is the image input that a set's packages are added to, or "".
func (r Requests) BaseOf(set string) string {
	if set == SetConfigure {
		set = SetImage
	}
	i := slices.IndexFunc(r.Sets, func(s SetRequest) bool { return s.Name == set })
	if i < 0 {
		return ""
	}
	return r.Sets[i].Base
}

// section is where the definition asks for inputs of a kind.
func section(kind string) string {
	switch kind {
	case KindImage:
		return "inputs.images"
	case KindSource:
		return "inputs.sources"
	}
	return "inputs." + kind
}

// whyPin returns, for every input that is made of a pin of that name, the chain
// of needs as far as the ecosystem's lock file told it.
func whyPin(l *Lock, name string) []Chain {
	var chains []Chain
	for _, in := range l.Inputs {
		by, there := map[string]string{}, false
		for _, p := range l.Pins {
			if p.Input == in.Name && by[p.Name] == "" {
				by[p.Name] = p.By
				there = there || p.Name == name
			}
		}
		if !there || in.Kind == KindSource {
			continue
		}
		c := Chain{Set: in.Kind + "/" + in.Name, Packages: []string{name}}
		next := by[name]
		for next != "" && next != ByRequest && !slices.Contains(c.Packages, next) {
			c.Packages = append(c.Packages, next)
			next = by[next]
		}
		if next == ByRequest {
			c.Reason = next
		}
		slices.Reverse(c.Packages)
		chains = append(chains, c)
	}
	return chains
}

func index(packages []Package) map[string][]Package {
	byName := make(map[string][]Package, len(packages))
	for _, p := range packages {
		byName[p.Name] = append(byName[p.Name], p)
	}
	return byName
}

// follow goes from a package to the request that brought it. It ends early, and
// gives no Reason, where the lock does not say more.
func follow(byName map[string][]Package, p Package, m Member) Chain {
	c := Chain{Set: m.Set, Packages: []string{p.Name}}
	by := m.By
	for by != ByRequest && by != ByEssential && by != "" && !slices.Contains(c.Packages, by) {
		c.Packages = append(c.Packages, by)
		by = reason(byName[by], m.Set)
	}
	if by == ByRequest || by == ByEssential {
		c.Reason = by
	}
	slices.Reverse(c.Packages)
	return c
}

// reason returns why one of the packages of a name is in a set, or "". What
// runs the image's scripts may be there because of a shipped package, so the
// reasons of the configure set go on in the image's.
func reason(packages []Package, set string) string {
	for _, p := range packages {
		if by, ok := p.InSet(set); ok {
			return by
		}
	}
	if set == SetConfigure {
		return reason(packages, SetImage)
	}
	return ""
}
