package lockfile

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/strictyaml"
)

// Sets that packages belong to, besides "step/NAME", and reasons to be there,
// besides the name of a package.
const (
	SetImage     = "image"
	SetConfigure = "configure" // the root that runs the image's scripts; not shipped

	ByRequest   = "requested"
	ByEssential = "essential"
)

// StepSet is the name of the set of a step's packages.
func StepSet(step string) string { return "step/" + step }

// InvalidError says which rules a lock breaks.
type InvalidError struct {
	Problems []string
}

func (e *InvalidError) Error() string {
	return "the lock is not valid: " + strings.Join(e.Problems, "; ")
}

// Validate checks all rules that a lock obeys besides its order, which Format
// sees to: every digest and size is there, paths stay inside their archive,
// architectures are Debian's, each package comes from an archive of the lock
// and belongs to sets that were asked for, and no package of one name and
// architecture is there twice in one platform. The error is an *InvalidError.
func (l *Lock) Validate() error {
	var e InvalidError
	for _, p := range Sorted(l).problems() {
		e.Problems = append(e.Problems, p.message)
	}
	if len(e.Problems) == 0 {
		return nil
	}
	return &e
}

// problem is a broken rule and where in the file it is.
type problem struct {
	path    []any // as strictyaml.Document.At takes it
	message string
}

// problems expects a sorted lock.
func (l *Lock) problems() []problem {
	v := validation{lock: l, sets: map[string]bool{SetConfigure: true}, archives: map[string]bool{}}
	v.top()
	v.requests()
	v.inputs()
	for _, p := range l.Platforms {
		v.platform(p)
	}
	return v.found
}

type validation struct {
	lock     *Lock
	sets     map[string]bool
	archives map[string]bool
	found    []problem
}

func (v *validation) add(at []any, format string, args ...any) {
	v.found = append(v.found, problem{at, fmt.Sprintf(format, args...)})
}

func (v *validation) top() {
	l := v.lock
	if l.Format != FormatVersion {
		v.add([]any{"format"}, "lock format is %d, not %d", l.Format, FormatVersion)
	}
	if l.Assembler < 1 {
		v.add([]any{"assembler"}, "assembler version is %d; versions begin at 1", l.Assembler)
	}
	if err := definition.CheckEpoch(l.Epoch); err != nil {
		v.add([]any{"epoch"}, "%v", err)
	}
	if l.Resolver != (Resolver{}) && (!isWord(l.Resolver.Name) || !isWord(l.Resolver.Version)) {
		v.add([]any{"resolver"}, "resolver has no name or no version")
	}
	if len(l.Platforms) == 0 {
		v.add([]any{"platforms"}, "the lock has no platform")
	}
	for i := 1; i < len(l.Platforms); i++ {
		if l.Platforms[i].Platform == l.Platforms[i-1].Platform {
			v.add([]any{"platforms"}, "platform %s is there twice", l.Platforms[i].Platform)
		}
	}
}

func (v *validation) requests() {
	r := v.lock.Requests
	if r.Suite == "" && (len(r.Components) > 0 || len(r.Pockets) > 0 || len(r.Sets) > 0) {
		v.add([]any{"requests"}, "packages were requested from no suite")
	}
	if r.Suite != "" && !isWord(r.Suite) || slices.ContainsFunc(slices.Concat(r.Components, r.Pockets), func(s string) bool { return !isWord(s) }) {
		v.add([]any{"requests", "debian"}, "suite %q has no proper name, component or pocket", r.Suite)
	}
	for i, s := range r.Sets {
		at := []any{"requests", "sets", i}
		if v.sets[s.Name] {
			v.add(at, "set %q is there twice", s.Name)
		}
		v.sets[s.Name] = true
		if step, is := strings.CutPrefix(s.Name, "step/"); s.Name != SetImage && (!is || definition.CheckName(step) != nil) {
			v.add(at, "set %q is neither \"image\" nor \"step/NAME\"", s.Name)
		}
		for _, p := range s.Packages {
			if _, err := definition.ParseRequest(p); err != nil {
				v.add(at, "set %q: %v", s.Name, err)
			}
		}
		for _, p := range s.Without {
			if err := definition.CheckPackageName(p); err != nil {
				v.add(at, "set %q: %v", s.Name, err)
			}
		}
		if s.Base != "" && v.lock.RequestOf(s.Base).Kind != KindImage {
			v.add(at, "set %q is added to %s, which is no image input of the lock", s.Name, strictyaml.Quote(s.Base))
		}
		if s.Scripts != "" && !isWord(s.Scripts) {
			v.add(at, "set %q has scripts %s", s.Name, strictyaml.Quote(s.Scripts))
		}
	}
}

var fingerprint = regexp.MustCompile(`^[0-9A-F]{40}$`)

func (v *validation) inputs() {
	for i, a := range v.lock.Archives {
		at := []any{"archives", i}
		if !isWord(a.Name) || v.archives[a.Name] {
			v.add(at, "archive %q has no name of its own", a.Name)
		}
		if !isWord(a.Suite) {
			v.add(at, "archive %q has suite %s", a.Name, strictyaml.Quote(a.Suite))
		}
		v.archives[a.Name] = true
		if a.InRelease.IsZero() {
			v.add(at, "archive %q has no digest", a.Name)
		}
		if a.Date.IsZero() || a.Date.Nanosecond() != 0 || a.Date.Year() < 1970 || a.Date.Year() > 9999 {
			v.add(at, "archive %q has the impossible date %s", a.Name, a.Date.UTC().Format(time.RFC3339Nano))
		}
		if len(a.SignedBy) == 0 {
			v.add(at, "archive %q was signed by nobody", a.Name)
		}
		for j, f := range a.SignedBy {
			if !fingerprint.MatchString(f) || j > 0 && f == a.SignedBy[j-1] {
				v.add(at, "archive %q: %s is not one more fingerprint of 40 upper-case hexadecimal digits", a.Name, strictyaml.Quote(f))
			}
		}
	}
	v.files()
	v.kinds()
	v.pins()
	v.sources()
}

// kinds holds what was found against what was asked for.
func (v *validation) kinds() {
	asked := map[string]string{}
	for i, r := range v.lock.Requests.Inputs {
		at := []any{"requests", "inputs", i}
		if err := definition.CheckName(r.Name); err != nil {
			v.add(at, "input %v", err)
		}
		if !isWord(r.Kind) || asked[r.Name] != "" {
			v.add(at, "input %q is asked for twice, or has no kind", r.Name)
		}
		asked[r.Name] = r.Kind
		v.facts(at, r.Name, r.Ask)
	}
	found := map[string]bool{}
	for i, in := range v.lock.Inputs {
		at := []any{"inputs", i}
		if asked[in.Name] == "" || asked[in.Name] != in.Kind || found[in.Name] {
			v.add(at, "input %q of kind %q was not asked for, or is there twice", in.Name, in.Kind)
		}
		found[in.Name] = true
		v.facts(at, in.Name, in.Facts)
		for file, sum := range in.Reads {
			if _, err := digest.ParseHex(sum); err != nil && sum != Absent || !insidePath(file) && file != "." {
				v.add(at, "input %q says that it read %s, with digest %s", in.Name, strictyaml.Quote(file), strictyaml.Quote(sum))
			}
		}
	}
	for i, r := range v.lock.Requests.Inputs {
		if !found[r.Name] {
			v.add([]any{"requests", "inputs", i}, "input %q was asked for and is not locked", r.Name)
		}
	}
}

func (v *validation) facts(at []any, name string, f Facts) {
	for _, k := range slices.Sorted(maps.Keys(f)) {
		if !isWord(k) || !isLine(f[k]) {
			v.add(at, "input %q has the improper fact %s: %s", name, strictyaml.Quote(k), strictyaml.Quote(f[k]))
		}
	}
}

func (v *validation) pins() {
	type place struct{ input, platform, path string }
	taken := map[place]bool{}
	names := map[string]map[string]bool{} // by input
	for _, in := range v.lock.Inputs {
		names[in.Name] = map[string]bool{ByRequest: true, "": true}
	}
	for _, p := range v.lock.Pins {
		if n := names[p.Input]; n != nil {
			n[p.Name] = true
		}
	}
	for i, p := range v.lock.Pins {
		at := []any{"pins", i}
		switch {
		case names[p.Input] == nil:
			v.add(at, "pin %q is of input %q, which the lock does not have", p.Name, p.Input)
			continue
		case !names[p.Input][p.By]:
			v.add(at, "pin %q is there because of %q, which is not in the lock", p.Name, p.By)
		}
		if !isLine(p.Name) || p.Name == "" || !isLine(p.Version) || !isLine(p.Integrity) || !isLine(p.URL) || !isLine(p.Signatures) {
			v.add(at, "pin %s has an improper name, version, integrity, url or signatures", strictyaml.Quote(p.Name))
		}
		if p.Platform != "" && !v.hasPlatform(p.Platform) {
			v.add(at, "pin %q is for platform %q, which the lock does not have", p.Name, p.Platform)
		}
		if p.Size <= 0 || p.SHA256.IsZero() {
			v.add(at, "pin %q has size %d or no digest", p.Name, p.Size)
		}
		if !insidePath(p.Path) {
			v.add(at, "pin %q has path %s, which is not a clean relative path", p.Name, strictyaml.Quote(p.Path))
		}
		own := place{p.Input, p.Platform, p.Path}
		if taken[own] || p.Platform != "" && taken[place{p.Input, "", p.Path}] {
			v.add(at, "pin %q has the path of another one, %s", p.Name, strictyaml.Quote(p.Path))
		}
		taken[own] = true
	}
}

// sources holds source inputs against the archives that they come from.
func (v *validation) sources() {
	for i, in := range v.lock.Inputs {
		if in.Kind != KindSource {
			continue
		}
		at := []any{"inputs", i}
		asked := v.lock.RequestOf(in.Name).Ask
		if !v.archives[in.Facts["archive"]] {
			v.add(at, "source package %q comes from archive %q, which the lock does not have", in.Name, in.Facts["archive"])
		}
		if in.Facts["unpack"] != asked["unpack"] {
			v.add(at, "source package %q is unpacked as %q, and %q was asked for", in.Name, in.Facts["unpack"], asked["unpack"])
		}
		pins := v.lock.PinsOf(in.Name, "")
		if len(pins) == 0 {
			v.add(at, "source package %q has no file", in.Name)
		}
		for _, p := range pins {
			if p.Name != asked["package"] || p.Version != in.Facts["version"] || asked["version"] != "" && p.Version != asked["version"] || definition.CheckVersion(p.Version) != nil {
				v.add(at, "source package %q has a file of %s %s, which was not asked for", in.Name, p.Name, p.Version)
			}
		}
	}
}

func (v *validation) hasPlatform(name string) bool {
	return slices.ContainsFunc(v.lock.Platforms, func(p Platform) bool { return p.Platform.String() == name })
}

func (v *validation) files() {
	for i, f := range v.lock.Files {
		at := []any{"files", i}
		if i > 0 && f.Name == v.lock.Files[i-1].Name {
			v.add(at, "file %q is there twice", f.Name)
		}
		if err := definition.CheckURL(f.URL); err != nil {
			v.add(at, "file %q: %v", f.Name, err)
		}
		if err := definition.CheckName(f.Name); err != nil {
			v.add(at, "file %v", err)
		}
		if f.Size <= 0 {
			v.add(at, "file %q has size %d", f.Name, f.Size)
		}
		if f.SHA256.IsZero() {
			v.add(at, "file %q has no digest", f.Name)
		}
		if !slices.ContainsFunc(v.lock.Requests.Files, func(r FileRequest) bool { return r.Name == f.Name && r.URL == f.URL }) {
			v.add(at, "file %q from %s was not asked for", f.Name, f.URL)
		}
	}
	for i, r := range v.lock.Requests.Files {
		if i > 0 && r.Name == v.lock.Requests.Files[i-1].Name {
			v.add([]any{"requests", "files", i}, "file %q is asked for twice", r.Name)
		}
		if !slices.ContainsFunc(v.lock.Files, func(f File) bool { return r.Name == f.Name }) {
			v.add([]any{"requests", "files", i}, "file %q was asked for and is not locked", r.Name)
		}
	}
}

func (v *validation) platform(p Platform) {
	names := map[string]bool{ByRequest: true, ByEssential: true}
	for _, pkg := range p.Packages {
		names[pkg.Name] = true
	}
	top := []any{"platforms", p.Platform.String()}
	if p.Platform.DebianArchitecture() == "" {
		v.add(top, "unknown platform %q", p.Platform)
	}
	for i, pkg := range p.Packages {
		at := append(slices.Clone(top), "packages", i)
		v.pin(at, pkg)
		if i > 0 && pkg.Name == p.Packages[i-1].Name && pkg.Arch == p.Packages[i-1].Arch {
			v.add(at, "package %s:%s is there twice, as %s and %s; one platform has one version of a package", pkg.Name, pkg.Arch, p.Packages[i-1].Version, pkg.Version)
		}
		for j, m := range pkg.In {
			switch {
			case !v.sets[m.Set]:
				v.add(at, "package %q is in set %q, which was not asked for", pkg.Name, m.Set)
			case !names[m.By]:
				v.add(at, "package %q is in set %q because of %q, which is not in the lock", pkg.Name, m.Set, m.By)
			case j > 0 && m.Set == pkg.In[j-1].Set:
				v.add(at, "package %q is in set %q twice", pkg.Name, m.Set)
			}
		}
	}
	for i, w := range p.Waived {
		if !names[w.Package] || definition.CheckPackageName(w.Needs) != nil || i > 0 && w == p.Waived[i-1] {
			v.add(append(slices.Clone(top), "waived", i), "waiver of %q for %q is not about a package of the lock, or is there twice", w.Needs, w.Package)
		}
	}
	for i, h := range p.Held {
		at := append(slices.Clone(top), "held", i)
		if v.lock.Requests.BaseOf(h.Set) == "" || !v.asked(h) || definition.CheckPackageName(h.Package) != nil || definition.CheckVersion(h.Version) != nil || i > 0 && compareHeld(h, p.Held[i-1]) == 0 {
			v.add(at, "%s %s is held for set %q, which is added to no image or has not asked for it, or is there twice", strictyaml.Quote(h.Package), strictyaml.Quote(h.Version), h.Set)
		}
	}
}

// asked reports whether what a base holds was asked for.
func (v *validation) asked(h Held) bool {
	return slices.ContainsFunc(v.lock.Requests.Sets, func(s SetRequest) bool {
		return s.Name == h.Set && slices.ContainsFunc(s.Packages, func(text string) bool {
			r, err := definition.ParseRequest(text)
			return err == nil && r.Name == h.Package
		})
	})
}

// pin checks one package by itself.
func (v *validation) pin(at []any, p Package) {
	if err := definition.CheckPackageName(p.Name); err != nil {
		v.add(at, "%v", err)
	}
	if err := definition.CheckVersion(p.Version); err != nil {
		v.add(at, "package %q: %v", p.Name, err)
	}
	if !definition.KnownArchitecture(p.Arch) {
		v.add(at, "package %q has unknown architecture %q", p.Name, p.Arch)
	}
	if p.Size <= 0 {
		v.add(at, "package %q has size %d", p.Name, p.Size)
	}
	if p.SHA256.IsZero() {
		v.add(at, "package %q has no digest", p.Name)
	}
	if !insidePath(p.Path) {
		v.add(at, "package %q has path %s, which is not a clean path inside its archive", p.Name, strictyaml.Quote(p.Path))
	}
	if !v.archives[p.Archive] {
		v.add(at, "package %q comes from archive %q, which the lock does not have", p.Name, p.Archive)
	}
	if len(p.In) == 0 {
		v.add(at, "package %q is in no set", p.Name)
	}
}

// insidePath accepts relative paths in their shortest form that go nowhere
// else on any system: they become URLs and file names.
func insidePath(s string) bool {
	return s != "" && s != "." && s[0] != '/' && path.Clean(s) == s && s != ".." && !strings.HasPrefix(s, "../") &&
		!strings.ContainsAny(s, "\\?#") && strictyaml.Printable(s)
}

// isLine accepts printable text of one line, and none.
func isLine(s string) bool {
	const most = 4096 // as long as a path; a sha512 in base64 has 95 bytes
	return len(s) <= most && strictyaml.Printable(s)
}

// isWord accepts short printable text without blanks: names that others chose.
func isWord(s string) bool {
	const most = 256 // as long as a file name; ours have a dozen letters
	return s != "" && len(s) <= most && strictyaml.Printable(s) && !strings.Contains(s, " ")
}
