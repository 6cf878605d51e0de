package deb

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
)

// Base is an image that packages are added to, as its own dpkg database has it.
type Base struct {
	Input    string // name of the image input
	Platform definition.Platform
	Status   []byte // paragraphs of dpkg's status file, all of installed packages
	Release  string // code name of the suite that it is a system of; "" when it does not say
}

// BaseError says why packages cannot be added to an image.
type BaseError struct {
	Set, Base, Arch string
	Problem         string       // of the image as a whole; "" when it is Changes
	Changes         []BaseChange // what would have to change in the image, at least one
	Suite, Release  string       // of inputs.debian, and of the image when it says another one
}

// BaseChange is a package of an image that would have to be another one.
type BaseChange struct {
	Package string
	Have    string // version in the image
	Need    string // version; "" when the package would have to go, or the archive has none that does
	Because string // "libssl-dev depends on libssl3 (= 3.0.17-1)"
}

func (c BaseChange) String() string {
	if c.Need == "" {
		return fmt.Sprintf("%s: the image has %s; %s", c.Package, c.Have, c.Because)
	}
	return fmt.Sprintf("%s: the image has %s, and %s is needed: %s", c.Package, c.Have, c.Need, c.Because)
}

func (e *BaseError) Error() string {
	s := fmt.Sprintf("cannot add the packages of %q to image %q (%s): ", e.Set, e.Base, e.Arch)
	if e.Problem != "" {
		return s + e.Problem
	}
	s += "packages are only added to what an image has, and these would have to change in it"
	const most = 10 // as many as a person reads
	for i, c := range e.Changes {
		if i == most {
			return fmt.Sprintf("%s\n\tand %d more", s, len(e.Changes)-most)
		}
		s += "\n\t" + c.String()
	}
	return s
}

// Hint says what to do.
func (e *BaseError) Hint() string {
	switch {
	case e.Release != "":
		return fmt.Sprintf("name an image of %s under inputs.images.%s, or packages of %s under inputs.debian.suite", e.Suite, e.Base, e.Release)
	case len(e.Changes) > 0:
		return fmt.Sprintf("name a newer image of %s under inputs.images.%s; if its tag has moved since it was locked, run: quorate lock --update %[2]s", e.Suite, e.Base)
	}
	return ""
}

// ParseInstalled reads the paragraphs of Base.Status, sorted by name and
// architecture. Errors: *IndexError with a line number, or one that names a
// package that is there twice.
func ParseInstalled(status []byte) ([]Stanza, error) {
	p := &installedParser{}
	p.each = func(s Stanza) error {
		p.found = append(p.found, s)
		return nil
	}
	if err := readParagraphs(bytes.NewReader(status), p); err != nil {
		return nil, err
	}
	slices.SortStableFunc(p.found, func(a, b Stanza) int {
		return cmp.Or(strings.Compare(a.Package, b.Package), strings.Compare(a.Architecture, b.Architecture))
	})
	for i, s := range p.found {
		if i > 0 && s.Package == p.found[i-1].Package && s.Architecture == p.found[i-1].Architecture {
			return nil, fmt.Errorf("package %q is there twice", s.Package)
		}
	}
	return p.found, nil
}

// installedParser reads paragraphs that have no Filename, Size and SHA256:
// those of packages that are installed.
type installedParser struct {
	packagesParser
	found []Stanza
}

func (p *installedParser) field(name, value []byte) error {
	switch string(name) {
	case "Filename", "Size", "SHA256": // an archive's fields, which a database does not have
		p.last = nil
		return nil
	}
	return p.packagesParser.field(name, value)
}

func (p *installedParser) end() error {
	s := p.cur
	p.cur, p.seen, p.last = Stanza{}, 0, nil
	if err := s.checkInstalled(); err != nil {
		return err
	}
	return p.each(s)
}

// checkInstalled is check, of what a database has.
func (s *Stanza) checkInstalled() error {
	switch {
	case !validName(s.Package):
		return fmt.Errorf("package name %q is not one", clip([]byte(s.Package)))
	case len(s.Version) > maxName:
		return fmt.Errorf("package %q: version is longer than %d bytes", s.Package, maxName)
	case !validArch(s.Architecture):
		return fmt.Errorf("package %q: architecture %q is not one", s.Package, clip([]byte(s.Architecture)))
	case s.MultiArch != "" && s.MultiArch != "no" && s.MultiArch != "same" && s.MultiArch != "foreign" && s.MultiArch != "allowed":
		return fmt.Errorf("package %q: Multi-Arch is %q", s.Package, clip([]byte(s.MultiArch)))
	}
	if err := checkVersion(s.Version); err != nil {
		return fmt.Errorf("package %q: %w", s.Package, err)
	}
	for field, text := range map[string]string{"Depends": s.Depends, "Pre-Depends": s.PreDepends, "Conflicts": s.Conflicts, "Breaks": s.Breaks, "Provides": s.Provides} {
		if _, err := ParseRelations(text); err != nil {
			return fmt.Errorf("package %q, field %s: %w", s.Package, field, err)
		}
	}
	return nil
}

// ground is a base beside the index that packages are chosen from.
type ground struct {
	*Base
	ix      *Index // the packages of the archive, and behind them those of the base
	members []int32
	is      map[int32]bool
	world   *world // of members
	status  []byte // for apt
}

// newGround puts the packages of a base behind those of an index.
func newGround(ix *Index, base *Base, set string) (*ground, error) {
	refuse := func(problem string) error {
		return &BaseError{Set: set, Base: base.Input, Arch: ix.Arch, Problem: problem, Suite: ix.Suite}
	}
	if base.Release != "" && base.Release != ix.Suite {
		return nil, &BaseError{Set: set, Base: base.Input, Arch: ix.Arch, Suite: ix.Suite, Release: base.Release,
			Problem: fmt.Sprintf("it is a system of %s, and the packages are of %s", base.Release, ix.Suite)}
	}
	installed, err := ParseInstalled(base.Status)
	if err != nil {
		return nil, refuse("its dpkg database cannot be read: " + err.Error())
	}
	own := *ix
	g := &ground{Base: base, ix: &own, is: map[int32]bool{}}
	own.stanzas = append(slices.Clip(ix.stanzas), installed...)
	own.archive = append(slices.Clip(ix.archive), make([]uint8, len(installed))...)
	native := len(installed) == 0
	for k, s := range installed {
		i := int32(len(ix.stanzas) + k)
		g.members, g.is[i] = append(g.members, i), true
		native = native || s.Architecture == "all" || s.Architecture == ix.Arch
	}
	if !native {
		return nil, refuse(fmt.Sprintf("its packages are of architecture %s", installed[0].Architecture))
	}
	return g, g.write()
}

// write makes the status file that apt is shown: every package as installed,
// without the needs that nothing in the image meets. Whoever made the image left
// those out on purpose, and apt would mend them before anything else.
func (g *ground) write() error {
	w, err := newWorld(g.ix, g.members)
	if err != nil {
		return err
	}
	g.world = w
	var b bytes.Buffer
	for _, i := range g.members {
		s := &g.ix.stanzas[i]
		fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nArchitecture: %s\nVersion: %s\n", s.Package, s.Architecture, s.Version)
		if s.MultiArch != "" {
			fmt.Fprintf(&b, "Multi-Arch: %s\n", s.MultiArch)
		}
		if s.Essential {
			b.WriteString("Essential: yes\n")
		}
		for _, field := range []string{"Pre-Depends", "Depends", "Conflicts", "Breaks", "Provides"} {
			clauses, err := g.ix.relations(i, field)
			if err != nil {
				return err
			}
			clauses = slices.DeleteFunc(clauses, func(c Clause) bool {
				switch field {
				case "Pre-Depends", "Depends":
					return !w.met(i, c)
				case "Conflicts", "Breaks":
					return len(w.hits(i, c[0])) > 0
				}
				return false
			})
			if len(clauses) > 0 {
				fmt.Fprintf(&b, "%s: %s\n", field, FormatRelations(clauses))
			}
		}
		b.WriteByte('\n')
	}
	g.status = b.Bytes()
	return nil
}

// named returns the base's package of a name and architecture, "" for the native one.
func (g *ground) named(name, arch string) (*Stanza, bool) {
	for _, i := range g.members {
		s := &g.ix.stanzas[i]
		if s.Package == name && (s.Architecture == "all" || s.Architecture == cmp.Or(arch, g.ix.Arch)) {
			return s, true
		}
	}
	return nil, false
}

// meets divides a set's requests into those that the base meets by itself, and
// those that packages are needed for. A version that the base does not have is
// refused.
func (g *ground) meets(set lockfile.SetRequest) (held []lockfile.Held, rest []string, err error) {
	refused := &BaseError{Set: set.Name, Base: g.Input, Arch: g.ix.Arch, Suite: g.ix.Suite}
	for _, text := range set.Packages {
		r, err := parseRequest(text)
		if err != nil {
			return nil, nil, err
		}
		s, ok := g.named(r.Name, r.Arch)
		switch {
		case !ok:
			rest = append(rest, text)
		case r.Version != "" && r.Version != s.Version:
			refused.Changes = append(refused.Changes, BaseChange{r.Name, s.Version, r.Version, "it was asked for as " + text})
		case !slices.ContainsFunc(held, func(h lockfile.Held) bool { return h.Package == r.Name }): // once for several architectures
			held = append(held, lockfile.Held{Set: set.Name, Package: r.Name, Version: s.Version})
		}
	}
	for _, name := range set.Without {
		if s, ok := g.named(name, ""); ok {
			return nil, nil, &BaseError{Set: set.Name, Base: g.Input, Arch: g.ix.Arch,
				Problem: fmt.Sprintf("%q leaves out package %q, which the image has (%s), and its layers are shipped as they are", "without", name, s.Version)}
		}
	}
	if len(refused.Changes) > 0 {
		return nil, nil, refused
	}
	return held, rest, nil
}

// runs refuses a base in which no scripts can run, for a set whose scripts will.
func (g *ground) runs(set lockfile.SetRequest) error {
	if _, ok := g.named("dpkg", ""); ok || set.Name == lockfile.SetImage && set.Scripts != "dpkg" {
		return nil
	}
	instead := "write scripts: none, which only unpacks"
	if set.Name != lockfile.SetImage {
		instead = "leave out root, or packages"
	}
	return &BaseError{Set: set.Name, Base: g.Input, Arch: g.ix.Arch,
		Problem: "it has no package dpkg, which runs the packages' maintainer scripts; " + instead}
}

// changes says what of the base the members, which are an answer of apt or an
// attempt at one, would change: other versions of what is there, and conflicts.
func (g *ground) changes(members []int32) ([]BaseChange, error) {
	added, other := g.divide(members)
	w, err := newWorld(g.ix, slices.Concat(g.members, added))
	if err != nil {
		return nil, err
	}
	told := map[string]bool{}
	var out []BaseChange
	tell := func(c BaseChange) {
		if !told[c.Package] {
			told[c.Package] = true
			out = append(out, c)
		}
	}
	for _, i := range slices.Concat(added, other) {
		if err := g.unmet(w, i, other, tell); err != nil {
			return nil, err
		}
	}
	for _, i := range other { // apt would move it, and nothing says why
		s := &g.ix.stanzas[i]
		if have, ok := g.named(s.Package, g.ix.arch(s)); ok {
			tell(BaseChange{s.Package, have.Version, s.Version, "apt would take it"})
		}
	}
	return out, g.clashes(w, added, tell)
}

// divide sorts members into those that are new to the base, and those of which
// it has another version.
func (g *ground) divide(members []int32) (added, other []int32) {
	for _, i := range members {
		s := &g.ix.stanzas[i]
		if _, ok := g.named(s.Package, g.ix.arch(s)); ok {
			other = append(other, i)
		} else {
			added = append(added, i)
		}
	}
	return added, other
}

// unmet tells of the needs of member i that the base stands in the way of.
func (g *ground) unmet(w *world, i int32, other []int32, tell func(BaseChange)) error {
	clauses, err := g.ix.needs(i)
	if err != nil {
		return err
	}
	for _, c := range clauses {
		if w.met(i, c) {
			continue
		}
		for _, r := range c {
			have, ok := g.named(r.Name, "")
			if !ok {
				continue
			}
			change := BaseChange{r.Name, have.Version, "", fmt.Sprintf("%s depends on %s", g.ix.stanzas[i].Package, c)}
			if k := slices.IndexFunc(other, func(o int32) bool { return g.ix.stanzas[o].Package == r.Name }); k >= 0 {
				change.Need = g.ix.stanzas[other[k]].Version
			}
			tell(change)
		}
	}
	return nil
}

// clashes tells of Conflicts and Breaks between the base and what is added.
func (g *ground) clashes(w *world, added []int32, tell func(BaseChange)) error {
	about := map[string]string{"Conflicts": "conflicts with", "Breaks": "breaks"}
	for _, i := range w.members {
		s := &g.ix.stanzas[i]
		for _, field := range []string{"Conflicts", "Breaks"} {
			clauses, err := g.ix.relations(i, field)
			if err != nil {
				return err
			}
			for _, c := range clauses {
				for _, hit := range w.hits(i, c[0]) {
					h := &g.ix.stanzas[hit]
					switch {
					case !g.is[i] && g.is[hit]:
						tell(BaseChange{h.Package, h.Version, "", fmt.Sprintf("%s %s %s", s.Package, about[field], c)})
					case g.is[i] && slices.Contains(added, hit):
						tell(BaseChange{s.Package, s.Version, "", fmt.Sprintf("it %s %s, and %s %s would be added", about[field], c, h.Package, h.Version)})
					}
				}
			}
		}
	}
	return nil
}

// attempt is what requests would bring by first alternatives, for telling what
// is in the way when apt refuses: the newest of each name.
func (g *ground) attempt(ix *Index, requests []definition.Request) ([]int32, error) {
	var members []int32
	in := map[int32]bool{}
	add := func(i int32, ok bool) {
		if ok && !in[i] {
			in[i] = true
			members = append(members, i)
		}
	}
	for _, r := range requests {
		add(ix.newest(r.Name))
	}
	for k := 0; k < len(members); k++ {
		clauses, err := ix.needs(members[k])
		if err != nil {
			return nil, err
		}
		w, err := newWorld(g.ix, slices.Concat(g.members, members))
		if err != nil {
			return nil, err
		}
		for _, c := range clauses {
			if !w.met(members[k], c) {
				add(ix.firstAlternative(c))
			}
		}
	}
	return members, nil
}

// refusal is why a set cannot be added to the base, when the members say so.
func (g *ground) refusal(set lockfile.SetRequest, members []int32) error {
	changes, err := g.changes(members)
	if err != nil || len(changes) == 0 {
		return err
	}
	return &BaseError{Set: set.Name, Base: g.Input, Arch: g.ix.Arch, Suite: g.ix.Suite, Changes: changes}
}

// explained puts the reasons that lie in the base before apt's own words.
func (g *ground) explained(ix *Index, set lockfile.SetRequest, requests []definition.Request, refused error) error {
	var u *UnsatisfiableError
	if !errors.As(refused, &u) {
		return refused
	}
	u.Base = g.Input
	members, err := g.attempt(ix, requests)
	if err != nil {
		return refused
	}
	if err := g.refusal(set, members); err != nil {
		return err
	}
	return refused
}
