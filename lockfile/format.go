package lockfile

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/strictyaml"
)

const header = "# Written by \"quorate lock\". Commit it; do not edit it.\n"

// Format returns the bytes of the lock's file. Everything that has an order is
// written in it, whatever order l has; l is not changed. Check l with Validate
// first: Format writes down whatever it is given.
func Format(l *Lock) []byte {
	l = Sorted(l)
	w := writer{b: make([]byte, 0, len(header)+1024)}
	w.b = append(w.b, header...)
	w.line("format: ").number(int64(l.Format))
	w.line("assembler: ").number(int64(l.Assembler))
	w.line("epoch: ").time(l.Epoch)
	w.requests(l.Requests)
	if l.Resolver != (Resolver{}) {
		w.line("resolver: {name: ").text(l.Resolver.Name).raw(", version: ").text(l.Resolver.Version).raw("}")
	}
	if len(l.Archives) > 0 {
		w.line("archives:")
	}
	for _, a := range l.Archives {
		w.line("  - {name: ").text(a.Name).raw(", suite: ").text(a.Suite).raw(", date: ").time(a.Date)
		w.raw(", in-release: ").digest(a.InRelease).raw(", signed-by: ").words(a.SignedBy).raw("}")
	}
	if len(l.Files) > 0 {
		w.line("files:")
	}
	for _, f := range l.Files {
		w.line("  - {name: ").text(f.Name).raw(", url: ").text(f.URL).raw(", size: ").number(f.Size).raw(", sha256: ").digest(f.SHA256).raw("}")
	}
	w.inputs(l)
	w.line("platforms:")
	for _, p := range l.Platforms {
		w.platform(p)
	}
	return append(w.b, '\n')
}

// writer puts lines together; every method returns the writer to go on with.
type writer struct{ b []byte }

func (w *writer) requests(r Requests) {
	if r.Suite == "" && len(r.Sets) == 0 && len(r.Files) == 0 && len(r.Inputs) == 0 {
		w.line("requests: {}")
		return
	}
	w.line("requests:")
	if r.Suite != "" {
		w.line("  debian: {suite: ").text(r.Suite).list("components", r.Components).list("pockets", r.Pockets).raw("}")
	}
	if len(r.Sets) > 0 {
		w.line("  sets:")
	}
	for _, s := range r.Sets {
		w.line("    - {name: ").text(s.Name).list("packages", s.Packages)
		if s.Scripts != "" {
			w.raw(", scripts: ").text(s.Scripts)
		}
		w.flag("essential", s.Essential).list("without", s.Without).word("base", s.Base).raw("}")
	}
	if len(r.Files) > 0 {
		w.line("  files:")
	}
	for _, f := range r.Files {
		w.line("    - {name: ").text(f.Name).raw(", url: ").text(f.URL).flag("unpack", f.Unpack).raw("}")
	}
	if len(r.Inputs) > 0 {
		w.line("  inputs:")
	}
	for _, in := range r.Inputs {
		w.line("    - {name: ").text(in.Name).raw(", kind: ").text(in.Kind).facts("ask", in.Ask).raw("}")
	}
}

func (w *writer) inputs(l *Lock) {
	if len(l.Inputs) > 0 {
		w.line("inputs:")
	}
	for _, in := range l.Inputs {
		w.line("  - {name: ").text(in.Name).raw(", kind: ").text(in.Kind).facts("facts", in.Facts).facts("reads", in.Reads).raw("}")
	}
	if len(l.Pins) > 0 {
		w.line("pins:")
	}
	for _, p := range l.Pins {
		w.line("  - {input: ").text(p.Input).raw(", name: ").text(p.Name).word("version", p.Version).word("platform", p.Platform)
		w.raw(", size: ").number(p.Size).raw(", sha256: ").digest(p.SHA256).word("integrity", p.Integrity)
		w.raw(", path: ").text(p.Path).word("url", p.URL).word("signatures", p.Signatures).word("by", p.By).raw("}")
	}
}

func (w *writer) platform(p Platform) {
	w.line("  ").text(p.Platform.String())
	if len(p.Packages) == 0 && len(p.Waived) == 0 && len(p.Held) == 0 {
		w.raw(": {}")
		return
	}
	w.raw(":")
	if len(p.Packages) > 0 {
		w.line("    packages:")
	}
	for _, p := range p.Packages {
		w.line("      - {name: ").text(p.Name).raw(", version: ").text(p.Version).raw(", arch: ").text(p.Arch)
		w.raw(", size: ").number(p.Size).raw(", sha256: ").digest(p.SHA256).raw(", path: ").text(p.Path).raw(", from: ").text(p.Archive)
		w.raw(", in: {")
		for i, m := range p.In {
			if i > 0 {
				w.raw(", ")
			}
			w.text(m.Set).raw(": ").text(m.By)
		}
		w.raw("}}")
	}
	if len(p.Waived) > 0 {
		w.line("    waived:")
	}
	for _, v := range p.Waived {
		w.line("      - {package: ").text(v.Package).raw(", needs: ").text(v.Needs).raw("}")
	}
	if len(p.Held) > 0 {
		w.line("    held:")
	}
	for _, h := range p.Held {
		w.line("      - {set: ").text(h.Set).raw(", package: ").text(h.Package).raw(", version: ").text(h.Version).raw("}")
	}
}

// line ends the line before, if it is not the header, and begins one.
func (w *writer) line(s string) *writer {
	if len(w.b) > len(header) {
		w.b = append(w.b, '\n')
	}
	return w.raw(s)
}

func (w *writer) raw(s string) *writer {
	w.b = append(w.b, s...)
	return w
}

func (w *writer) text(s string) *writer {
	w.b = strictyaml.AppendText(w.b, s)
	return w
}

func (w *writer) number(n int64) *writer {
	w.b = strconv.AppendInt(w.b, n, 10)
	return w
}

// time is quoted, since plain it would be a date to some readers and text to others.
func (w *writer) time(t time.Time) *writer { return w.text(t.UTC().Format(time.RFC3339)) }

func (w *writer) digest(d digest.Digest) *writer {
	if d.IsZero() {
		return w.raw(`""`)
	}
	return w.text(d.Hex())
}

func (w *writer) words(words []string) *writer {
	w.raw("[")
	for i, s := range words {
		if i > 0 {
			w.raw(", ")
		}
		w.text(s)
	}
	return w.raw("]")
}

// list is ", name: [a, b]", or nothing for an empty list.
func (w *writer) list(name string, words []string) *writer {
	if len(words) == 0 {
		return w
	}
	return w.raw(", ").raw(name).raw(": ").words(words)
}

// word is ", name: s", or nothing for no text.
func (w *writer) word(name, s string) *writer {
	if s == "" {
		return w
	}
	return w.raw(", ").raw(name).raw(": ").text(s)
}

// facts is ", name: {a: b}" in order, or nothing for none.
func (w *writer) facts(name string, f Facts) *writer {
	if len(f) == 0 {
		return w
	}
	w.raw(", ").raw(name).raw(": {")
	for i, k := range slices.Sorted(maps.Keys(f)) {
		if i > 0 {
			w.raw(", ")
		}
		w.text(k).raw(": ").text(f[k])
	}
	return w.raw("}")
}

// flag is ", name: true", or nothing.
func (w *writer) flag(name string, set bool) *writer {
	if !set {
		return w
	}
	return w.raw(", ").raw(name).raw(": true")
}

// Sorted returns a copy of the lock with everything in the order that the types
// promise: the order of bytes, never that of a language.
func Sorted(l *Lock) *Lock {
	c := *l
	c.Requests = l.Requests.sorted()
	c.Archives = slices.Clone(l.Archives)
	for i := range c.Archives {
		c.Archives[i].SignedBy = sortedWords(c.Archives[i].SignedBy)
	}
	slices.SortStableFunc(c.Archives, func(a, b Archive) int { return cmp.Compare(a.Name, b.Name) })
	c.Files = slices.Clone(l.Files)
	slices.SortStableFunc(c.Files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	c.Inputs = slices.Clone(l.Inputs)
	slices.SortStableFunc(c.Inputs, func(a, b Input) int { return cmp.Compare(a.Name, b.Name) })
	c.Pins = slices.Clone(l.Pins)
	slices.SortStableFunc(c.Pins, comparePins)
	c.Platforms = slices.Clone(l.Platforms)
	for i := range c.Platforms {
		c.Platforms[i] = c.Platforms[i].sorted()
	}
	slices.SortStableFunc(c.Platforms, func(a, b Platform) int { return cmp.Compare(a.Platform.String(), b.Platform.String()) })
	return &c
}

func (r Requests) sorted() Requests {
	r.Sets = slices.Clone(r.Sets)
	for i := range r.Sets {
		r.Sets[i].Packages = sortedWords(r.Sets[i].Packages)
		r.Sets[i].Without = sortedWords(r.Sets[i].Without)
	}
	slices.SortStableFunc(r.Sets, func(a, b SetRequest) int { return cmp.Compare(a.Name, b.Name) })
	r.Files = slices.Clone(r.Files)
	slices.SortStableFunc(r.Files, func(a, b FileRequest) int { return cmp.Compare(a.Name, b.Name) })
	r.Inputs = slices.Clone(r.Inputs)
	slices.SortStableFunc(r.Inputs, func(a, b InputRequest) int { return cmp.Compare(a.Name, b.Name) })
	return r
}

func (p Platform) sorted() Platform {
	p.Packages = slices.Clone(p.Packages)
	for i := range p.Packages {
		p.Packages[i].In = slices.Clone(p.Packages[i].In)
		slices.SortStableFunc(p.Packages[i].In, func(a, b Member) int { return cmp.Compare(a.Set, b.Set) })
	}
	slices.SortStableFunc(p.Packages, comparePackages)
	p.Waived = slices.Clone(p.Waived)
	slices.SortStableFunc(p.Waived, compareWaivers)
	p.Held = slices.Clone(p.Held)
	slices.SortStableFunc(p.Held, compareHeld)
	return p
}

func comparePackages(a, b Package) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Version, b.Version))
}

func comparePins(a, b Pin) int {
	return cmp.Or(cmp.Compare(a.Input, b.Input), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.Path, b.Path), cmp.Compare(a.Platform, b.Platform))
}

func compareWaivers(a, b Waiver) int {
	return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.Needs, b.Needs))
}

func compareHeld(a, b Held) int {
	return cmp.Or(cmp.Compare(a.Set, b.Set), cmp.Compare(a.Package, b.Package))
}

func sortedWords(words []string) []string {
	words = slices.Clone(words)
	slices.Sort(words)
	return words
}
