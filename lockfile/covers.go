package lockfile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/definition"
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
	if debian := d.Inputs.Debian; debian != nil {
		r.Suite, r.Components, r.Pockets = debian.Suite, slices.Clone(debian.Components), slices.Clone(debian.Pockets)
		r.Sets = append(r.Sets, SetRequest{
			Name: SetImage, Packages: d.Image.Packages, Scripts: string(d.Image.Scripts), Essential: d.Image.Essential, Without: d.Image.Without,
		})
		for _, s := range d.Steps {
			r.Sets = append(r.Sets, SetRequest{Name: StepSet(s.Name), Packages: s.Packages})
		}
	}
	return r.sorted()
}

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

// describeSet returns `image` or `step "compile"`.
func describeSet(set string) string {
	if step, ok := strings.CutPrefix(set, "step/"); ok {
		return fmt.Sprintf("step %q", step)
	}
	return set
}
