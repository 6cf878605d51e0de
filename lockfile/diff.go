package lockfile

import (
	"cmp"
	"fmt"
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
)

// Change is one difference between two locks.
type Change struct {
	Kind     string `json:"kind"`
	Name     string `json:"name,omitempty"`     // of the package ("libc6", foreign ones "libc6:i386"), file, archive …
	Platform string `json:"platform,omitempty"` // of packages and waivers
	Old      string `json:"old,omitempty"`      // version, date, digest; "" when it is new
	New      string `json:"new,omitempty"`      // "" when it is gone
	Why      string `json:"why,omitempty"`      // of packages: sets and what needs it there, "image: nginx-common; step/compile: requested"
}

// Diff returns what changed from one lock to another, in the order of the
// file; nil when nothing that matters to a build did. A nil lock has nothing.
func Diff(old, new *Lock) []Change {
	var d difference
	old, new = orNothing(old), orNothing(new)
	d.value(ChangeEpoch, rfc3339(old.Epoch), rfc3339(new.Epoch))
	d.value(ChangeAssembler, number(old.Assembler), number(new.Assembler))
	d.value(ChangeResolver, strings.TrimSpace(old.Resolver.Name+" "+old.Resolver.Version), strings.TrimSpace(new.Resolver.Name+" "+new.Resolver.Version))
	pairs(old.Archives, new.Archives, func(a, b Archive) int { return cmp.Compare(a.Name, b.Name) }, d.archive)
	pairs(old.Files, new.Files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) }, d.file)
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
	platformName string
	changes      []Change
}

func (d *difference) add(c Change) {
	c.Platform = d.platformName
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

// Table writes changes for people, one a line below a heading, in columns; ""
// for none. An absent side is "-".
func Table(changes []Change) string {
	if len(changes) == 0 {
		return ""
	}
	platforms := false
	for _, c := range changes {
		platforms = platforms || c.Platform != "" && c.Platform != changes[len(changes)-1].Platform
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(kind, name, platform, old, new, why string) {
		cells := []string{kind, name, old, new, why}
		if platforms { // one platform alone needs no column
			cells = slices.Insert(cells, 2, platform)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	row("KIND", "NAME", "PLATFORM", "OLD", "NEW", "WHY")
	for _, c := range changes {
		row(c.Kind, cmp.Or(c.Name, "-"), cmp.Or(c.Platform, "-"), cmp.Or(c.Old, "-"), cmp.Or(c.New, "-"), c.Why)
	}
	w.Flush() // to a strings.Builder, which cannot fail
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
