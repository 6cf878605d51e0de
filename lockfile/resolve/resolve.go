// Package resolve makes a lock from a definition: it asks each source for what
// the definition names, and puts the answers into one canonical Lock.
//
// Choosing happens here and nowhere else. A build, and even a fetch, can only
// bring what a lock names; so whatever this package writes down is what every
// rebuilder will use. Its answers depend on the definition, on the earlier lock
// (no archive may go back behind it, and --update keeps what it can), and on
// what the sources say today; never on the order of maps or goroutines. The
// same answers give the same Lock.
package resolve

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/deb"
	"quorate.dev/lockfile/strictyaml"
)

// DebSource chooses Debian packages; *deb.Source is one.
type DebSource interface {
	// Resolve answers a query whole or not at all.
	Resolve(ctx context.Context, q deb.Query) (*deb.Answer, error)
}

// FileSource pins files that are brought by https.
type FileSource interface {
	// Pin reads the file once and returns it with its size and digest.
	Pin(ctx context.Context, name, url string) (lockfile.File, error)
}

// Options are what a lock is made from.
type Options struct {
	Definition *definition.Definition
	Previous   *lockfile.Lock                                                                  // the lock to be replaced; nil for none
	Update     []string                                                                        // when not empty, only these packages or files, and what they need, may change against Previous
	AllowOlder bool                                                                            // accept archive indexes older than Previous's
	Assembler  int                                                                             // builder.AssemblerVersion
	Keys       [][]byte                                                                        // contents of the key files that Definition.Inputs.Debian.SignedBy names; nil when it names none
	Deb        DebSource                                                                       // may be nil when no Debian input is asked for
	Files      FileSource                                                                      // may be nil when no file is asked for
	Kinds      map[string]source.Kind                                                          // by kind; may lack those that are not asked for
	Tree       func(ctx context.Context, name string, pin *lockfile.Pin) (*source.Tree, error) // a local input, or the git input that pin is of, opened
	// Base reads the package database of an image input of the lock. It is asked
	// of images that packages are added to, once for each platform.
	Base   func(ctx context.Context, lock *lockfile.Lock, name string, p definition.Platform) (*deb.Base, error)
	Blobs  source.Blobs              // where Kinds bring bytes to
	Fetch  fetch.Options             // of Kinds
	Epoch  func() (time.Time, error) // the commit's time; called only for "epoch: commit"
	Events func(Event)               // nil for none
}

// Event tells what takes its time, and what changed unasked.
type Event struct {
	Kind string // "file": a file is being pinned; "input": an input of the kind Text is; "moved": a package changes although Update does not name it
	Name string
	Text string // for people
}

// Resolve asks every source and returns the lock. Errors are those of the
// sources, each naming what could not be had, *UpdateError,
// or *IncompleteError.
func Resolve(ctx context.Context, o Options) (*lockfile.Lock, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	epoch, err := o.epoch()
	if err != nil {
		return nil, err
	}
	lock := &lockfile.Lock{
		Format:    lockfile.FormatVersion,
		Assembler: o.Assembler,
		Epoch:     epoch,
		Requests:  lockfile.RequestsOf(o.Definition),
	}
	if err := o.bases(ctx, lock); err != nil {
		return nil, err
	}
	if err := o.packages(ctx, lock); err != nil {
		return nil, err
	}
	if err := o.files(ctx, lock); err != nil {
		return nil, err
	}
	if err := o.inputs(ctx, lock); err != nil {
		return nil, err
	}
	if name := o.Definition.Epoch.CommitOf; name != "" {
		in, _ := lock.Input(name)
		if lock.Epoch, err = time.Parse(time.RFC3339, in.Facts["time"]); err != nil {
			return nil, fmt.Errorf("cannot take the epoch from the commit of input %q: %w", name, err)
		}
	}
	lock = lockfile.Sorted(lock)
	if err := o.complete(lock); err != nil {
		return nil, err
	}
	return lock, nil
}

func (o Options) event(e Event) {
	if o.Events != nil {
		o.Events(e)
	}
}

func (o Options) epoch() (time.Time, error) {
	if !o.Definition.Epoch.FromCommit || o.Definition.Epoch.CommitOf != "" {
		return o.Definition.Epoch.Time, nil
	}
	t, err := o.Epoch()
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot take the epoch from the commit: %w", err)
	}
	return t.UTC().Truncate(time.Second), nil
}

// bases locks the images that packages are added to, before the packages: what
// an image has is not chosen again.
func (o Options) bases(ctx context.Context, lock *lockfile.Lock) error {
	for _, r := range lock.Requests.Inputs {
		if lock.Requests.AddsTo(r.Name) {
			if err := o.input(ctx, lock, r, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// databases reads what those images have.
func (o Options) databases(ctx context.Context, lock *lockfile.Lock) ([]deb.Base, error) {
	var all []deb.Base
	for _, r := range lock.Requests.Inputs {
		if !lock.Requests.AddsTo(r.Name) {
			continue
		}
		for _, p := range o.Definition.Platforms {
			base, err := o.Base(ctx, lock, r.Name, p)
			if err != nil {
				return nil, err
			}
			all = append(all, *base)
		}
	}
	return all, nil
}

// packages asks the Debian source for all sets of all platforms.
func (o Options) packages(ctx context.Context, lock *lockfile.Lock) error {
	platforms := o.Definition.Platforms
	if lock.Requests.Suite == "" {
		for _, p := range platforms {
			lock.Platforms = append(lock.Platforms, lockfile.Platform{Platform: p})
		}
		return nil
	}
	q := deb.Query{
		Suite:      lock.Requests.Suite,
		Components: lock.Requests.Components,
		Pockets:    lock.Requests.Pockets,
		SignedBy:   o.Keys,
		Platforms:  platforms,
		Sets:       lock.Requests.Sets,
		AllowOlder: o.AllowOlder,
	}
	for _, r := range sourceRequests(lock) {
		q.Sources = append(q.Sources, deb.SourceRequest{
			Input: r.Name, Package: r.Ask["package"], Version: r.Ask["version"], Unpack: definition.Unpack(r.Ask["unpack"]), Stay: o.stay(r),
		})
	}
	var err error
	if q.Bases, err = o.databases(ctx, lock); err != nil {
		return err
	}
	// What was locked of another suite says nothing about this one.
	if p := o.Previous; p != nil && p.Requests.Suite == q.Suite {
		q.Previous = deb.Previous{Archives: p.Archives, Platforms: p.Platforms}
		q.Keep = len(o.Update) > 0
		q.Update = o.updates(func(name string) bool { return !o.isInput(name) })
	}
	answer, err := o.Deb.Resolve(ctx, q)
	if err != nil {
		return err
	}
	lock.Resolver, lock.Archives, lock.Platforms = answer.Resolver, answer.Archives, answer.Platforms
	lock.Inputs, lock.Pins = append(lock.Inputs, answer.Inputs...), append(lock.Pins, answer.Pins...)
	told := map[string]bool{} // platforms nearly always move alike
	for _, m := range answer.Moved {
		if text := m.String(); !told[text] {
			told[text] = true
			o.event(Event{Kind: "moved", Name: m.Package, Text: text})
		}
	}
	return nil
}

// sourceRequests are the requests for source packages, which the Debian source
// answers with the packages, from the same signed indexes.
func sourceRequests(lock *lockfile.Lock) []lockfile.InputRequest {
	var all []lockfile.InputRequest
	for _, r := range lock.Requests.Inputs {
		if r.Kind == lockfile.KindSource {
			all = append(all, r)
		}
	}
	return all
}

// stay returns the version at which a source package stays when Update names
// other things; "" when it is to be chosen anew.
func (o Options) stay(r lockfile.InputRequest) string {
	if len(o.Update) == 0 || slices.Contains(o.Update, r.Name) || o.Previous.Requests.Suite != o.Definition.Inputs.Debian.Suite {
		return ""
	}
	was := o.Previous.RequestOf(r.Name)
	pins := o.Previous.PinsOf(r.Name, "")
	if was.Kind != r.Kind || was.Ask["package"] != r.Ask["package"] || len(pins) == 0 {
		return ""
	}
	return pins[0].Version
}

// files pins every file, or with Update, those that it names or that the
// earlier lock does not have.
func (o Options) files(ctx context.Context, lock *lockfile.Lock) error {
	for _, f := range lock.Requests.Files {
		if old, ok := o.kept(f); ok {
			lock.Files = append(lock.Files, old)
			continue
		}
		o.event(Event{Kind: "file", Name: f.Name, Text: f.URL})
		pin, err := o.Files.Pin(ctx, f.Name, f.URL)
		if err != nil {
			return err
		}
		lock.Files = append(lock.Files, pin)
	}
	return nil
}

func (o Options) kept(f lockfile.FileRequest) (lockfile.File, bool) {
	if len(o.Update) == 0 || o.Previous == nil || slices.Contains(o.Update, f.Name) {
		return lockfile.File{}, false
	}
	i := slices.IndexFunc(o.Previous.Files, func(old lockfile.File) bool { return old.Name == f.Name && old.URL == f.URL })
	if i < 0 {
		return lockfile.File{}, false
	}
	return o.Previous.Files[i], true
}

// inputs asks the kinds: first for what needs no other input, then for what
// reads files of one.
func (o Options) inputs(ctx context.Context, lock *lockfile.Lock) error {
	trees := map[string]*source.Tree{}
	for _, second := range []bool{false, true} {
		for _, r := range lock.Requests.Inputs {
			from := r.Ask["from"]
			if (from != "") != second || r.Kind == lockfile.KindSource || lock.Requests.AddsTo(r.Name) {
				continue
			}
			if from != "" && trees[from] == nil {
				t, err := o.tree(ctx, lock, from)
				if err != nil {
					return err
				}
				trees[from] = t
			}
			if err := o.input(ctx, lock, r, trees[from]); err != nil {
				return err
			}
		}
	}
	return nil
}

// tree opens the input that others are locked from.
func (o Options) tree(ctx context.Context, lock *lockfile.Lock, name string) (*source.Tree, error) {
	if pins := lock.PinsOf(name, ""); len(pins) > 0 {
		return o.Tree(ctx, name, &pins[0])
	}
	return o.Tree(ctx, name, nil)
}

// input asks one kind, or keeps what was locked when Update names other things.
func (o Options) input(ctx context.Context, lock *lockfile.Lock, r lockfile.InputRequest, tree *source.Tree) error {
	kind := o.Kinds[r.Kind]
	if kind == nil {
		return fmt.Errorf("input %q is of kind %q, which this quorate cannot lock", r.Name, r.Kind)
	}
	q := source.Query{Request: r, Platforms: o.Definition.Platforms, Tree: tree, Blobs: o.Blobs, Fetch: o.Fetch}
	old, pins, ok := o.before(r)
	if ok {
		q.Previous, q.Pins = old, pins
	}
	if ok && len(o.Update) > 0 && !slices.Contains(o.Update, r.Name) && o.stillReads(*old, tree) {
		lock.Inputs, lock.Pins = append(lock.Inputs, *old), append(lock.Pins, pins...)
		return nil
	}
	o.event(Event{Kind: "input", Name: r.Name, Text: r.Kind})
	answer, err := kind.Resolve(ctx, q)
	if err != nil {
		return fmt.Errorf("cannot lock input %q: %w", r.Name, err)
	}
	in := lockfile.Input{Name: r.Name, Kind: r.Kind, Facts: answer.Facts}
	if tree != nil {
		in.Reads = tree.Reads()
	}
	for _, p := range answer.Pins {
		p.Input = r.Name
		lock.Pins = append(lock.Pins, p)
	}
	lock.Inputs = append(lock.Inputs, in)
	return nil
}

// before is what was locked for the same request.
func (o Options) before(r lockfile.InputRequest) (*lockfile.Input, []lockfile.Pin, bool) {
	if o.Previous == nil {
		return nil, nil, false
	}
	was := o.Previous.RequestOf(r.Name)
	in, ok := o.Previous.Input(r.Name)
	if !ok || was.Kind != r.Kind || !maps.Equal(was.Ask, r.Ask) {
		return nil, nil, false
	}
	var pins []lockfile.Pin
	for _, p := range o.Previous.Pins {
		if p.Input == r.Name {
			pins = append(pins, p)
		}
	}
	return &in, pins, true
}

// stillReads reports whether the files that decided an input are as they were,
// and for the platforms that are asked for.
func (o Options) stillReads(in lockfile.Input, tree *source.Tree) bool {
	for _, p := range o.Definition.Platforms {
		if !slices.ContainsFunc(o.Previous.Platforms, func(old lockfile.Platform) bool { return old.Platform == p }) {
			return false
		}
	}
	return tree == nil || tree.Still(in.Reads)
}

func (o Options) updates(want func(string) bool) []string {
	var out []string
	for _, u := range o.Update {
		if want(u) {
			out = append(out, u)
		}
	}
	return out
}

// isInput reports whether a name is that of an input, and not of a package.
func (o Options) isInput(name string) bool {
	if slices.ContainsFunc(lockfile.RequestsOf(o.Definition).Inputs, func(r lockfile.InputRequest) bool { return r.Name == name }) {
		return true
	}
	return slices.ContainsFunc(o.Definition.Inputs.Files, func(f definition.File) bool { return f.Name == name })
}

// check refuses options that cannot lead to a lock.
func (o Options) check() error {
	if len(o.Update) == 0 {
		return nil
	}
	if o.Previous == nil {
		return &UpdateError{Names: o.Update, Problem: "there is no lock to update"}
	}
	packages := o.updates(func(name string) bool { return !o.isInput(name) })
	if len(packages) == 0 {
		return nil
	}
	for _, name := range packages {
		if err := o.notAlone(name); err != nil {
			return err
		}
	}
	suite := lockfile.RequestsOf(o.Definition).Suite
	switch {
	case suite == "":
		return &UpdateError{Names: packages, Problem: "the definition has no input of that name" + o.nearest(packages[0])}
	case suite != o.Previous.Requests.Suite:
		return &UpdateError{Names: packages, Problem: fmt.Sprintf("the definition's suite is %q and the lock's is %q", suite, o.Previous.Requests.Suite)}
	}
	return nil
}

// notAlone says of what is no Debian package why it is not updated by itself.
func (o Options) notAlone(name string) error {
	if slices.ContainsFunc(o.Definition.Inputs.Local, func(l definition.Local) bool { return l.Name == name }) {
		return &UpdateError{Names: []string{name}, Problem: "it is a local input, which no lock holds: each build hashes what lies in its folder then"}
	}
	for _, p := range o.Previous.Platforms {
		if slices.ContainsFunc(p.Packages, func(p lockfile.Package) bool { return p.Name == name }) {
			return nil
		}
	}
	for _, p := range o.Previous.Platforms {
		for _, h := range p.Held {
			if base := o.Previous.Requests.BaseOf(h.Set); h.Package == name {
				return &UpdateError{Names: []string{name}, Problem: fmt.Sprintf("it is in image %q; run: quorate lock --update %s", base, base)}
			}
		}
	}
	i := slices.IndexFunc(o.Previous.Pins, func(p lockfile.Pin) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	in, _ := o.Previous.Input(o.Previous.Pins[i].Input)
	problem := fmt.Sprintf("it is part of %s input %q; ", in.Kind, in.Name)
	if from := o.Previous.RequestOf(in.Name).Ask["from"]; from != "" {
		problem += fmt.Sprintf("its version is chosen in input %q; change it there%s, then ", from, tools[in.Kind])
	}
	return &UpdateError{Names: []string{name}, Problem: problem + "run: quorate lock --update " + in.Name}
}

// tools are what people change the versions of a project's modules with.
var tools = map[string]string{
	lockfile.KindGo: " with go get", lockfile.KindNpm: " with npm install", lockfile.KindCargo: " with cargo update",
}

// nearest suggests inputs by whose name there could be an update.
func (o Options) nearest(name string) string {
	var known []string
	for _, r := range lockfile.RequestsOf(o.Definition).Inputs {
		known = append(known, r.Name)
	}
	for _, f := range o.Definition.Inputs.Files {
		known = append(known, f.Name)
	}
	if near := strictyaml.Nearest(name, known); len(near) > 0 {
		return "; did you mean " + strictyaml.Alternatives(near) + "?"
	}
	return ""
}

// UpdateError says that an update of single inputs is not possible.
type UpdateError struct {
	Names   []string
	Problem string
}

func (e *UpdateError) Error() string {
	return fmt.Sprintf("cannot update %s alone: %s", strings.Join(e.Names, ", "), e.Problem)
}

// IncompleteError says that a source's answers do not make a whole lock: a
// fault of a source, for sources answer whole or not at all.
type IncompleteError struct {
	Err error
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("the sources' answers make no lock: %v", e.Err)
}

func (e *IncompleteError) Unwrap() error { return e.Err }

// complete checks that every request has its answer and that the lock is one
// that can be read again.
func (o Options) complete(lock *lockfile.Lock) error {
	if err := lock.Covers(o.Definition, o.Assembler); err != nil {
		return &IncompleteError{err}
	}
	if err := lock.Validate(); err != nil {
		return &IncompleteError{err}
	}
	for _, p := range lock.Platforms {
		for _, set := range lock.Requests.Sets {
			if err := holds(p, set); err != nil {
				return &IncompleteError{err}
			}
		}
	}
	return nil
}

// holds checks that a platform has, in the set's name, something for each
// package asked for. A virtual name is answered by another package, so
// requested members are counted, not compared by name.
func holds(p lockfile.Platform, set lockfile.SetRequest) error {
	members, requested := 0, 0
	for _, pkg := range p.Packages {
		if by, ok := pkg.InSet(set.Name); ok {
			members++
			if by == lockfile.ByRequest {
				requested++
			}
		}
	}
	for _, h := range p.Held {
		if h.Set == set.Name {
			members, requested = members+1, requested+1
		}
	}
	step := set.Name != lockfile.SetImage
	if (step || set.Essential) && members == 0 || len(set.Packages) > 0 && requested == 0 {
		return fmt.Errorf("set %q of %s has no package", set.Name, p.Platform)
	}
	return nil
}
