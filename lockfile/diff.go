package lockfile

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"quorate.dev/lockfile/digest"
)

// Kinds of Change.
const (
	ChangeEpoch     = "epoch"
	ChangeAssembler = "assembler"
	ChangeResolver  = "resolver"
	ChangeArchive   = "archive"
	ChangeFile      = "file"
	ChangePlatform  = "platform"
	ChangePackage   = "package"
	ChangeSets      = "sets"   // the same package, in other sets than before
	ChangeWaiver    = "waiver" // a dependency left unfulfilled
	ChangeHeld      = "held"   // a package asked for that the base image holds itself
	ChangeInput     = "input"  // a fact of an input, named INPUT.FACT
	ChangeRead      = "read"   // a file that an input was locked from, when nothing else of the input changed
)

// Changes of what inputs are made of have the input's kind. A commit, a base
// image and a version of a source package are one change each, named as the
// input; of all other kinds every pin is.

// Change is one difference between two locks.
type Change struct {
	Kind     string `json:"kind"`
	Name     string `json:"name,omitempty"`     // of the package ("libc6", foreign ones "libc6:i386"), file, archive …
	Platform string `json:"platform,omitempty"` // of packages, waivers, and pins that only one platform needs
	Old      string `json:"old,omitempty"`      // version, date, digest; "" when it is new
	New      string `json:"new,omitempty"`      // "" when it is gone
	Why      string `json:"why,omitempty"`      // of packages: sets and what needs it there, "image: nginx-common; step/compile: requested"; of pins, with the input for the set
}

// Diff returns what changed from one lock to another, in the order of the
// file; nil when nothing that matters to a build did. A nil lock has nothing.
func Diff(old, new *Lock) []Change {
	old, new = orNothing(old), orNothing(new)
	d := difference{old: old, new: new, whole: map[string]bool{}, told: map[string]bool{}}
	d.value(ChangeEpoch, rfc3339(old.Epoch), rfc3339(new.Epoch))
	d.value(ChangeAssembler, number(old.Assembler), number(new.Assembler))
	d.value(ChangeResolver, strings.TrimSpace(old.Resolver.Name+" "+old.Resolver.Version), strings.TrimSpace(new.Resolver.Name+" "+new.Resolver.Version))
	pairs(old.Archives, new.Archives, func(a, b Archive) int { return cmp.Compare(a.Name, b.Name) }, d.archive)
	pairs(old.Files, new.Files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) }, d.file)
	pairs(old.Inputs, new.Inputs, func(a, b Input) int { return cmp.Compare(a.Name, b.Name) }, d.input)
	d.pins()
	pairs(old.Inputs, new.Inputs, func(a, b Input) int { return cmp.Compare(a.Name, b.Name) }, d.reads)
	pairs(old.Platforms, new.Platforms, func(a, b Platform) int { return cmp.Compare(a.Platform.String(), b.Platform.String()) }, d.platform)
	return d.changes
}

func orNothing(l *Lock) *Lock {
	if l == nil {
		return &Lock{}
	}
	return Sorted(l)
}

func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// pairs walks two sorted lists and hands over what belongs together; what only
// one has comes with nil.
func pairs[T any](old, new []T, compare func(a, b T) int, visit func(old, new *T)) {
	for len(old) > 0 || len(new) > 0 {
		side := 0
		switch {
		case len(old) == 0:
			side = 1
		case len(new) == 0:
			side = -1
		default:
			side = compare(old[0], new[0])
		}
		var o, n *T
		if side <= 0 {
			o, old = &old[0], old[1:]
		}
		if side >= 0 {
			n, new = &new[0], new[1:]
		}
		visit(o, n)
	}
}

type difference struct {
	old, new     *Lock
	platformName string
	whole        map[string]bool // inputs whose pins need not be told: what they are pins of is
	told         map[string]bool // inputs of which something was told
	changes      []Change
}

func (d *difference) add(c Change) {
	c.Platform = cmp.Or(c.Platform, d.platformName)
	d.changes = append(d.changes, c)
}

func (d *difference) value(kind, old, new string) {
	if old != new {
		d.add(Change{Kind: kind, Old: old, New: new})
	}
}

func (d *difference) archive(old, new *Archive) {
	text := func(a *Archive) (string, digest.Digest) {
		if a == nil {
			return "", digest.Digest{}
		}
		return rfc3339(a.Date), a.InRelease
	}
	o, oldDigest := text(old)
	n, newDigest := text(new)
	if o, n, differ := apartBytes(o, n, oldDigest, newDigest); differ {
		d.add(Change{Kind: ChangeArchive, Name: nameOf(old, new, func(a *Archive) string { return a.Name }), Old: o, New: n})
	}
}

func (d *difference) file(old, new *File) {
	text := func(f *File) (string, digest.Digest) {
		if f == nil {
			return "", digest.Digest{}
		}
		return f.URL, f.SHA256
	}
	o, oldDigest := text(old)
	n, newDigest := text(new)
	if o, n, differ := apartBytes(o, n, oldDigest, newDigest); differ {
		d.add(Change{Kind: ChangeFile, Name: nameOf(old, new, func(f *File) string { return f.Name }), Old: o, New: n})
	}
}

// factsOf are those that say what an input of a kind is; the others follow from the first.
var factsOf = map[string][]string{
	KindGit:    {"commit", "time", "tree", "tag"},
	KindImage:  {"digest"},
	KindSource: {"version", "archive", "format", "unpack"},
}

func (d *difference) input(old, new *Input) {
	var o, n Input
	if old != nil {
		o = *old
	}
	if new != nil {
		n = *new
	}
	name, kind := cmp.Or(n.Name, o.Name), cmp.Or(n.Kind, o.Kind)
	follow := factsOf[kind]
	if len(follow) > 0 && o.Facts[follow[0]] != n.Facts[follow[0]] && (old == nil || new == nil || o.Kind == n.Kind) {
		d.whole[name], d.told[name] = true, true
		d.add(Change{Kind: kind, Name: name, Old: whatItIs(o), New: whatItIs(n), Why: d.asked(name)})
	} else {
		follow = nil
	}
	for _, k := range factNames(o.Facts, n.Facts) {
		if o.Facts[k] != n.Facts[k] && !slices.Contains(follow, k) {
			d.told[name] = true
			d.add(Change{Kind: ChangeInput, Name: name + "." + k, Old: o.Facts[k], New: n.Facts[k]})
		}
	}
}

// whatItIs is the digest of a base image, the version of a source package, or a
// commit with its time.
func whatItIs(in Input) string {
	if t := in.Facts["time"]; t != "" {
		return in.Facts["commit"] + " (" + t + ")"
	}
	return cmp.Or(in.Facts["digest"], in.Facts["version"])
}

// asked says what was asked of a git, image or source input.
func (d *difference) asked(name string) string {
	r := d.new.RequestOf(name)
	if r.Name == "" {
		r = d.old.RequestOf(name)
	}
	return ByRequest + " as " + cmp.Or(r.Ask["ref"], r.Ask["image"], r.Ask["package"])
}

// pins compares what inputs are made of. Of one name there may be several
// versions, so what both have is left out first, and the rest goes in pairs.
func (d *difference) pins() {
	names := func(l *Lock) [][]Pin {
		var groups [][]Pin
		for i, p := range l.Pins {
			if i == 0 || comparePinNames(l.Pins[i-1], p) != 0 {
				groups = append(groups, nil)
			}
			groups[len(groups)-1] = append(groups[len(groups)-1], p)
		}
		return groups
	}
	pairs(names(d.old), names(d.new), func(a, b []Pin) int { return comparePinNames(a[0], b[0]) }, func(a, b *[]Pin) {
		var o, n []Pin
		if a != nil {
			o = *a
		}
		if b != nil {
			n = *b
		}
		gone, come := alike(withoutPins(o, n), withoutPins(n, o))
		if in, ok := d.new.Input(cmp.Or(slices.Concat(o, n)...).Input); ok && in.Kind == KindSource {
			gone, come = inBoth(gone, come), inBoth(come, gone)
		}
		for i := range max(len(gone), len(come)) {
			var from, to *Pin
			if i < len(gone) {
				from = &gone[i]
			}
			if i < len(come) {
				to = &come[i]
			}
			d.inputPin(from, to)
		}
	})
}

func comparePinNames(a, b Pin) int {
	return cmp.Or(cmp.Compare(a.Input, b.Input), cmp.Compare(a.Name, b.Name))
}

func withoutPins(pins, others []Pin) []Pin {
	var out []Pin
	for _, p := range pins {
		if !slices.ContainsFunc(others, func(o Pin) bool {
			return o.Version == p.Version && o.SHA256 == p.SHA256 && o.Path == p.Path && o.Platform == p.Platform
		}) {
			out = append(out, p)
		}
	}
	return out
}

// alike brings two lists into an order in which those for the same platform
// come first and stand side by side.
func alike(gone, come []Pin) (a, b []Pin) {
	for _, p := range gone {
		if i := slices.IndexFunc(come, func(c Pin) bool { return c.Platform == p.Platform }); i >= 0 {
			b, come = append(b, come[i]), slices.Delete(slices.Clone(come), i, i+1)
			a = append(a, p)
		}
	}
	return append(a, withoutPins(gone, a)...), append(b, come...)
}

// inBoth leaves the pins that the others have, too, with other bytes: of a
// source package, another way to show it has other files, which is no change of
// the package.
func inBoth(pins, others []Pin) []Pin {
	return slices.DeleteFunc(slices.Clone(pins), func(p Pin) bool {
		return !slices.ContainsFunc(others, func(o Pin) bool { return o.Path == p.Path })
	})
}

func (d *difference) inputPin(old, new *Pin) {
	text := func(p *Pin) (string, digest.Digest) {
		if p == nil {
			return "", digest.Digest{}
		}
		return cmp.Or(p.Version, p.SHA256.Short()), p.SHA256
	}
	o, oldDigest := text(old)
	n, newDigest := text(new)
	o, n, _ = apartBytes(o, n, oldDigest, newDigest)
	input := nameOf(old, new, func(p *Pin) string { return p.Input })
	if d.whole[input] {
		return
	}
	d.told[input] = true
	in, ok := d.new.Input(input)
	if !ok {
		in, _ = d.old.Input(input)
	}
	why := input
	if by := nameOf(old, new, func(p *Pin) string { return p.By }); by != "" {
		why += ": " + by
	}
	platform := nameOf(old, new, func(p *Pin) string { return p.Platform })
	d.add(Change{Kind: in.Kind, Name: nameOf(old, new, func(p *Pin) string { return p.Name }), Platform: platform, Old: o, New: n, Why: why})
}

// reads tells of the files that an input was locked from when nothing else
// does: the lock has changed with them.
func (d *difference) reads(old, new *Input) {
	var o, n Input
	if old != nil {
		o = *old
	}
	if new != nil {
		n = *new
	}
	name := cmp.Or(n.Name, o.Name)
	if d.told[name] {
		return
	}
	for _, file := range factNames(o.Reads, n.Reads) {
		if o.Reads[file] != n.Reads[file] {
			d.add(Change{Kind: ChangeRead, Name: file, Old: o.Reads[file], New: n.Reads[file], Why: name})
		}
	}
}

// apartBytes adds digests to two descriptions that are equal although the
// bytes are not: somebody changed what stands behind a name.
func apartBytes(old, new string, oldDigest, newDigest digest.Digest) (o, n string, differ bool) {
	if old != new || oldDigest == newDigest {
		return old, new, old != new
	}
	return fmt.Sprintf("%s (%s)", old, oldDigest.Short()), fmt.Sprintf("%s (%s)", new, newDigest.Short()), true
}

func nameOf[T any](old, new *T, name func(*T) string) string {
	if new != nil {
		return name(new)
	}
	return name(old)
}

func (d *difference) platform(old, new *Platform) {
	name := nameOf(old, new, func(p *Platform) string { return p.Platform.String() })
	var o, n Platform
	switch {
	case old == nil:
		n = *new
		d.add(Change{Kind: ChangePlatform, Name: name, New: name})
	case new == nil:
		o = *old
		d.add(Change{Kind: ChangePlatform, Name: name, Old: name})
	default:
		o, n = *old, *new
	}
	d.platformName = name
	// A package that moves from amd64 to all is the same one to people.
	key := func(p Package) string {
		return packageLabel(p, nameOf(old, new, func(p *Platform) string { return p.Platform.DebianArchitecture() }))
	}
	compare := func(a, b Package) int { return cmp.Compare(key(a), key(b)) }
	slices.SortStableFunc(o.Packages, compare)
	slices.SortStableFunc(n.Packages, compare)
	pairs(o.Packages, n.Packages, compare, func(a, b *Package) {
		d.pin(nameOf(a, b, func(p *Package) string { return key(*p) }), a, b)
	})
	pairs(o.Waived, n.Waived, compareWaivers, d.waiver)
	pairs(o.Held, n.Held, compareHeld, d.held)
	d.platformName = ""
}

// packageLabel names a package as apt does: with the architecture only if it is foreign.
func packageLabel(p Package, native string) string {
	if p.Arch == native || p.Arch == "all" {
		return p.Name
	}
	return p.Name + ":" + p.Arch
}

func (d *difference) pin(name string, old, new *Package) {
	text := func(p *Package) (version string, sum digest.Digest, sets, why string) {
		if p == nil {
			return "", digest.Digest{}, "", ""
		}
		var in, by []string
		for _, m := range p.In {
			in, by = append(in, m.Set), append(by, m.Set+": "+m.By)
		}
		return p.Version, p.SHA256, strings.Join(in, ", "), strings.Join(by, "; ")
	}
	oldVersion, oldDigest, oldSets, why := text(old)
	newVersion, newDigest, newSets, newWhy := text(new)
	if new != nil {
		why = newWhy
	}
	if o, n, differ := apartBytes(oldVersion, newVersion, oldDigest, newDigest); differ {
		d.add(Change{Kind: ChangePackage, Name: name, Old: o, New: n, Why: why})
	} else if oldSets != newSets {
		d.add(Change{Kind: ChangeSets, Name: name, Old: oldSets, New: newSets, Why: why})
	}
}

func (d *difference) waiver(old, new *Waiver) {
	text := func(w *Waiver) string {
		if w == nil {
			return ""
		}
		return "without " + w.Needs
	}
	if o, n := text(old), text(new); o != n {
		d.add(Change{Kind: ChangeWaiver, Name: nameOf(old, new, func(w *Waiver) string { return w.Package }), Old: o, New: n})
	}
}

func (d *difference) held(old, new *Held) {
	version := func(h *Held) string {
		if h == nil {
			return ""
		}
		return h.Version
	}
	if o, n := version(old), version(new); o != n {
		set := nameOf(old, new, func(h *Held) string { return h.Set })
		base := cmp.Or(d.new.Requests.BaseOf(set), d.old.Requests.BaseOf(set))
		d.add(Change{Kind: ChangeHeld, Name: nameOf(old, new, func(h *Held) string { return h.Package }), Old: o, New: n, Why: set + ": in " + base})
	}
}

// long is a commit or digest at the beginning of a text.
var long = regexp.MustCompile(`^(?:sha256:)?([0-9a-f]{12})[0-9a-f]{28,52}\b`)

// short leaves of a commit or digest what people compare.
func short(s string) string { return long.ReplaceAllString(s, "$1") }

// Table writes changes for people, one a line below a heading, in columns; ""
// for none. An absent side is "-". platforms is how many the new lock has.
func Table(changes []Change, platforms int) string {
	if len(changes) == 0 {
		return ""
	}
	columns := platforms > 1 && slices.ContainsFunc(changes, func(c Change) bool { return c.Platform != "" })
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(kind, name, platform, old, new, why string) {
		cells := []string{kind, name, old, new, why}
		if columns { // one platform alone needs none
			cells = slices.Insert(cells, 2, platform)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	row("KIND", "NAME", "PLATFORM", "OLD", "NEW", "WHY")
	for _, c := range changes {
		row(c.Kind, cmp.Or(c.Name, "-"), cmp.Or(c.Platform, "-"), cmp.Or(short(c.Old), "-"), cmp.Or(short(c.New), "-"), c.Why)
	}
	w.Flush() // to a strings.Builder, which cannot fail
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
