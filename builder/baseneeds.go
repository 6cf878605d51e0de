package builder

import (
	"context"
	"fmt"
	"slices"

	"quorate.dev/builder/installed"
	"quorate.dev/builder/sbom"
	"quorate.dev/builder/unpack/deb"
)

// baseNeeds finds which of the packages that an image says are installed in it
// need which others of them. That all needs are met, and no package is in the way of
// another, is taken from dpkg and apk, which installed them; so a need that nobody
// meets (its maker left something out) is passed over.
type baseNeeds struct {
	asked []asked // of the database that is read
	left  int     // bytes of relations that may still be kept

	offers          deb.Offers     // of dpkg's packages
	named, provided map[string]int // places of apk's packages, by name
}

// asked is what a part needs, in its database's words.
type asked struct {
	place int // among the parts
	arch  string
	needs string
}

// maxBaseRelations is how many bytes of relations are kept. All 63,441 packages of
// Debian 12 have 8.3 MB of them, a machine of 798 has 0.06 MB.
const maxBaseRelations = 4 << 20

func newBaseNeeds() baseNeeds {
	return baseNeeds{left: maxBaseRelations, named: map[string]int{}, provided: map[string]int{}}
}

// add takes in what a package says, and returns what is wrong with it; "" for
// nothing.
func (n *baseNeeds) add(place int, p installed.Package) (problem string) {
	if p.Unread != "" {
		problem = p.Unread
	} else if size := len(p.Needs) + len(p.Provides); size > n.left {
		p.Needs, p.Provides, problem = "", "", fmt.Sprintf("at most %d bytes of relations are read", maxBaseRelations)
	} else {
		n.left -= size
	}
	if p.Kind == "apk" {
		n.offer(place, p)
	} else if !n.offers.Add(place, p.Name, p.Arch, p.Version, p.Provides) {
		problem = fmt.Sprintf("what it provides is %.80q", p.Provides)
	}
	if p.Needs != "" {
		n.asked = append(n.asked, asked{place, p.Arch, p.Needs})
	}
	return problem
}

func (n *baseNeeds) offer(place int, p installed.Package) {
	first := func(of map[string]int, name string) {
		if _, there := of[name]; !there {
			of[name] = place
		}
	}
	first(n.named, p.Name)
	for name := range installed.ApkNames(p.Provides) {
		first(n.provided, name)
	}
}

// meet tells the parts of a kind whom they need, once all are added.
func (n *baseNeeds) meet(ctx context.Context, kind string, parts []sbom.Part, problem func(of *sbom.Part, text string)) error {
	for _, a := range n.asked {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		part := &parts[a.place]
		var places []int
		ok := true
		if kind == "apk" {
			places = n.apk(a.needs)
		} else {
			places, ok = n.offers.Meet(a.needs, a.arch)
		}
		if !ok {
			problem(part, fmt.Sprintf("what it depends on is %.80q", a.needs))
		}
		for _, place := range places {
			if place != a.place {
				part.Needs = append(part.Needs, parts[place].Key)
			}
		}
		slices.Sort(part.Needs)
		part.Needs = slices.Compact(part.Needs)
	}
	n.asked = nil
	return nil
}

// apk finds who meets what a package of apk's needs. It has no alternatives, and
// which versions go together apk has seen to.
func (n *baseNeeds) apk(needs string) (places []int) {
	for name := range installed.ApkNames(needs) {
		place, ok := n.named[name]
		if !ok {
			place, ok = n.provided[name]
		}
		if ok {
			places = append(places, place)
		}
	}
	return places
}
