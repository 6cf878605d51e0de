package lockfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// StaleError says that a lock was made for another definition, and in what
// they differ.
type StaleError struct {
	Reasons []string // at least one
}

func (e *StaleError) Error() string {
	return "the lock does not fit the definition:\n  " + strings.Join(e.Reasons, "\n  ") + "\nrun: quorate lock"
}

// AssemblerError says that a lock was made for other rules of output bytes
// than this Quorate's, so that a build would not give the bytes it gave then.
type AssemblerError struct {
	Have int // of the lock
	Want int // of this Quorate
}

func (e *AssemblerError) Error() string {
	if e.Have > e.Want {
		return fmt.Sprintf("the lock is for assembler version %d and this Quorate has version %d: it was written by a newer Quorate", e.Have, e.Want)
	}
	return fmt.Sprintf("the lock is for assembler version %d and this Quorate has version %d, which makes other bytes of the same inputs; run: quorate lock", e.Have, e.Want)
}

// RequestsOf returns what a definition asks a lock for, sorted as in a lock.
func RequestsOf(d *definition.Definition) Requests {
	var r Requests
	for _, f := range d.Inputs.Files {
		r.Files = append(r.Files, FileRequest{Name: f.Name, URL: f.URL, Unpack: f.Unpack})
	}
	r.Inputs = inputRequests(d)
	if debian := d.Inputs.Debian; debian != nil {
		r.Suite, r.Components, r.Pockets = debian.Suite, slices.Clone(debian.Components), slices.Clone(debian.Pockets)
		image := SetRequest{
			Name: SetImage, Packages: d.Image.Packages, Scripts: string(d.Image.Scripts), Essential: d.Image.Essential, Without: d.Image.Without,
		}
		if len(d.Image.Packages) > 0 {
			image.Base = d.Image.Base
		}
		r.Sets = append(r.Sets, image)
		for _, s := range d.Steps {
			if s.Root == "" || len(s.Packages) > 0 {
				r.Sets = append(r.Sets, SetRequest{Name: StepSet(s.Name), Packages: s.Packages, Base: s.Root})
			}
		}
	}
	return r.sorted()
}

// inputRequests is what a definition asks of inputs of all kinds that are
// locked as Input and Pin.
func inputRequests(d *definition.Definition) []InputRequest {
	var all []InputRequest
	for _, s := range d.Inputs.Sources {
		ask := Facts{"package": s.Package, "unpack": string(s.Unpack)}
		ask.word("version", s.Version)
		all = append(all, InputRequest{Name: s.Name, Kind: KindSource, Ask: ask})
	}
	for _, g := range d.Inputs.Git {
		ask := Facts{"url": g.URL, "ref": g.Ref}
		if g.Submodules {
			ask["submodules"] = "true"
		}
		ask.list("signed-by", g.SignedBy)
		all = append(all, InputRequest{Name: g.Name, Kind: KindGit, Ask: ask})
	}
	for _, b := range d.Inputs.Images {
		ask := Facts{"image": b.Image}
		ask.word("policy", b.Policy)
		all = append(all, InputRequest{Name: b.Name, Kind: KindImage, Ask: ask})
	}
	for _, k := range []struct {
		kind string
		list []definition.Project
	}{{KindGo, d.Inputs.Go}, {KindNpm, d.Inputs.Npm}, {KindPython, d.Inputs.Python}, {KindCargo, d.Inputs.Cargo}} {
		for _, p := range k.list {
			ask := Facts{"from": p.From, "path": p.Path}
			ask.word("toolchain", p.Toolchain)
			ask.list("retracted", sortedWords(p.Retracted))
			ask.word("python", p.Python)
			ask.word("signatures", p.Signatures)
			ask.list("signed-by", p.SignedBy)
			all = append(all, InputRequest{Name: p.Name, Kind: k.kind, Ask: ask})
		}
	}
	return all
}

func (f Facts) word(name, value string) {
	if value != "" {
		f[name] = value
	}
}

// list is one fact for words without blanks (paths of keys).
func (f Facts) list(name string, words []string) { f.word(name, strings.Join(words, " ")) }

// Covers returns nil when the lock was made for what the definition asks for
// and for the assembler version. The error is a *StaleError, or else an
// *AssemblerError. A definition whose epoch is "commit" accepts the lock's:
// the commit that a lock was made at is always older than the one that holds it.
func (l *Lock) Covers(d *definition.Definition, assembler int) error {
	var s staleness
	s.platforms(l.Platforms, d.Platforms)
	if !d.Epoch.FromCommit && !d.Epoch.Time.Equal(l.Epoch) {
		s.add("epoch is %s, the lock has %s", d.Epoch.Time.Format(time.RFC3339), l.Epoch.Format(time.RFC3339))
	}
	want := RequestsOf(d)
	s.debian(l.Requests, want)
	s.files(l.Requests.Files, want.Files)
	s.inputs(l.Requests.Inputs, want.Inputs)
	s.epochOf(l, d)
	switch {
	case len(s.reasons) > 0:
		return &StaleError{Reasons: s.reasons}
	case l.Assembler != assembler:
		return &AssemblerError{Have: l.Assembler, Want: assembler}
	}
	return nil
}

// staleness gathers in what a lock (have) differs from a definition (want).
type staleness struct{ reasons []string }

func (s *staleness) add(format string, args ...any) {
	s.reasons = append(s.reasons, fmt.Sprintf(format, args...))
}

func (s *staleness) platforms(have []Platform, want []definition.Platform) {
	locked := map[definition.Platform]bool{}
	for _, p := range have {
		locked[p.Platform] = true
		if !slices.Contains(want, p.Platform) {
			s.add("platform %s is no longer asked for", p.Platform)
		}
	}
	for _, p := range want {
		if !locked[p] {
			s.add("platform %s is not in the lock", p)
		}
	}
}

func (s *staleness) debian(have, want Requests) {
	switch {
	case have.Suite == want.Suite:
	case have.Suite == "":
		s.add("inputs.debian is new, the lock has no packages")
		return
	case want.Suite == "":
		s.add("inputs.debian is gone, the lock has packages of %s", have.Suite)
		return
	default:
		s.add("suite is %s, the lock has %s", want.Suite, have.Suite)
	}
	s.words("components are", have.Components, want.Components)
	s.words("pockets are", have.Pockets, want.Pockets)
	locked := map[string]SetRequest{}
	for _, set := range have.Sets {
		locked[set.Name] = set
		if !slices.ContainsFunc(want.Sets, func(w SetRequest) bool { return w.Name == set.Name }) {
			s.add("%s is gone", describeSet(set.Name))
		}
	}
	for _, set := range want.Sets {
		if old, ok := locked[set.Name]; ok {
			s.set(old, set)
		} else {
			s.add("%s is new", describeSet(set.Name))
		}
	}
}

// words compares lists in which order means nothing.
func (s *staleness) words(what string, have, want []string) {
	if !slices.Equal(sortedWords(have), sortedWords(want)) {
		s.add("%s [%s], the lock has [%s]", what, strings.Join(want, ", "), strings.Join(have, ", "))
	}
}

func (s *staleness) set(have, want SetRequest) {
	who := describeSet(want.Name)
	more, less := apart(have.Packages, want.Packages)
	for _, p := range more {
		s.add("%s asks for package %q, which the lock was not made for", who, p)
	}
	for _, p := range less {
		s.add("%s no longer asks for package %q", who, p)
	}
	more, less = apart(have.Without, want.Without)
	for _, p := range more {
		s.add("%s leaves out package %q, which the lock does not", who, p)
	}
	for _, p := range less {
		s.add("%s no longer leaves out package %q", who, p)
	}
	if have.Scripts != want.Scripts {
		s.add("%s has scripts: %s, the lock has %s", who, want.Scripts, have.Scripts)
	}
	if have.Base != want.Base {
		s.add("%s is built on image %s, the lock has %s", who, orNone(want.Base), orNone(have.Base))
	}
	if have.Essential != want.Essential {
		s.add("%s has essential: %t, the lock has %t", who, want.Essential, have.Essential)
	}
}

// apart returns what want has more and less than have.
func apart(have, want []string) (more, less []string) {
	for _, w := range want {
		if !slices.Contains(have, w) {
			more = append(more, w)
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			less = append(less, h)
		}
	}
	return more, less
}

func (s *staleness) files(have, want []FileRequest) {
	locked := map[string]FileRequest{}
	for _, f := range have {
		locked[f.Name] = f
		if !slices.ContainsFunc(want, func(w FileRequest) bool { return w.Name == f.Name }) {
			s.add("file %q is gone", f.Name)
		}
	}
	for _, f := range want {
		old, ok := locked[f.Name]
		switch {
		case !ok:
			s.add("file %q is new", f.Name)
		case old.URL != f.URL:
			s.add("file %q has url %s, the lock has %s", f.Name, f.URL, old.URL)
		case old.Unpack != f.Unpack:
			s.add("file %q has unpack: %t, the lock has %t", f.Name, f.Unpack, old.Unpack)
		}
	}
}

func (s *staleness) inputs(have, want []InputRequest) {
	pairs(have, want, func(a, b InputRequest) int { return strings.Compare(a.Name, b.Name) }, func(old, fresh *InputRequest) {
		switch {
		case old == nil:
			s.add("%s input %q is new", fresh.Kind, fresh.Name)
		case fresh == nil:
			s.add("%s input %q is gone", old.Kind, old.Name)
		case old.Kind != fresh.Kind:
			s.add("input %q is of kind %s, the lock has %s", fresh.Name, fresh.Kind, old.Kind)
		default:
			for _, k := range factNames(old.Ask, fresh.Ask) {
				if a, b := old.Ask[k], fresh.Ask[k]; a != b {
					s.add("%s input %q has %s: %s, the lock has %s", fresh.Kind, fresh.Name, k, orNone(b), orNone(a))
				}
			}
		}
	})
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// factNames lists the names of both, sorted, each once.
func factNames(a, b Facts) []string {
	all := maps.Clone(a)
	if all == nil {
		all = Facts{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// epochOf compares the epoch with the time of the commit that it is to be of.
func (s *staleness) epochOf(l *Lock, d *definition.Definition) {
	in, ok := l.Input(d.Epoch.CommitOf)
	if have := l.Epoch.Format(time.RFC3339); ok && in.Facts["time"] != have {
		s.add("epoch is that of the commit of %q, %s, the lock has %s", in.Name, in.Facts["time"], have)
	}
}

// CoversTree returns nil when the files of a local or git input that decided
// what is locked of others are still what they were. found has the digests, as
// Input.Reads does, of the paths that ReadOf names and that are there. The
// error is a *StaleError.
func (l *Lock) CoversTree(tree string, found Facts) error {
	var s staleness
	for _, in := range l.readers(tree) {
		for _, file := range slices.Sorted(maps.Keys(in.Reads)) {
			was, is := in.Reads[file], found[file]
			switch {
			case is == was || is == "" && was == Absent:
			case is == "":
				s.add("%s of input %q is gone, from which input %q was locked", file, tree, in.Name)
			case was == Absent:
				s.add("%s of input %q is new since input %q was locked", file, tree, in.Name)
			default:
				s.add("%s of input %q has changed since input %q was locked from it", file, tree, in.Name)
			}
		}
	}
	if len(s.reasons) == 0 {
		return nil
	}
	return &StaleError{Reasons: s.reasons}
}

// ReadOf names the files of a local or git input that decided what is locked.
func (l *Lock) ReadOf(tree string) map[string]bool {
	all := map[string]bool{}
	for _, in := range l.readers(tree) {
		for file := range in.Reads {
			all[file] = true
		}
	}
	return all
}

// readers are the inputs that were locked from files of another.
func (l *Lock) readers(tree string) []Input {
	var all []Input
	for _, r := range l.Requests.Inputs {
		if in, ok := l.Input(r.Name); ok && r.Ask["from"] == tree {
			all = append(all, in)
		}
	}
	return all
}

// FolderDigest is what Input.Reads has for a folder whose names were listed;
// those of folders in it end in "/".
func FolderDigest(names []string) digest.Digest {
	names = sortedWords(names)
	return digest.Of([]byte(strings.Join(names, "\x00")))
}

// describeSet returns `image` or `step "compile"`.
func describeSet(set string) string {
	if step, ok := strings.CutPrefix(set, "step/"); ok {
		return fmt.Sprintf("step %q", step)
	}
	return set
}
