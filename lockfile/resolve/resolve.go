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
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/source/deb"
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
	Previous   *lockfile.Lock            // the lock to be replaced; nil for none
	Update     []string                  // when not empty, only these packages or files, and what they need, may change against Previous
	AllowOlder bool                      // accept archive indexes older than Previous's
	Assembler  int                       // builder.AssemblerVersion
	Keys       [][]byte                  // contents of the key files that Definition.Inputs.Debian.SignedBy names; nil when it names none
	Deb        DebSource                 // may be nil when no Debian input is asked for
	Files      FileSource                // may be nil when no file is asked for
	Epoch      func() (time.Time, error) // the commit's time; called only for "epoch: commit"
	Events     func(Event)               // nil for none
}

// Event tells what takes its time, and what changed unasked.
type Event struct {
	Kind string // "file": a file is being pinned; "moved": a package changes although Update does not name it
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
	if err := o.packages(ctx, lock); err != nil {
		return nil, err
	}
	if err := o.files(ctx, lock); err != nil {
		return nil, err
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
	if !o.Definition.Epoch.FromCommit {
		return o.Definition.Epoch.Time, nil
	}
	t, err := o.Epoch()
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot take the epoch from the commit: %w", err)
	}
	return t.UTC().Truncate(time.Second), nil
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
	// What was locked of another suite says nothing about this one.
	if p := o.Previous; p != nil && p.Requests.Suite == q.Suite {
		q.Previous = deb.Previous{Archives: p.Archives, Platforms: p.Platforms}
		q.Keep = len(o.Update) > 0
		q.Update = o.updates(func(name string) bool { return !o.isFile(name) })
	}
	answer, err := o.Deb.Resolve(ctx, q)
	if err != nil {
		return err
	}
	lock.Resolver, lock.Archives, lock.Platforms = answer.Resolver, answer.Archives, answer.Platforms
	told := map[string]bool{} // platforms nearly always move alike
	for _, m := range answer.Moved {
		if text := m.String(); !told[text] {
			told[text] = true
			o.event(Event{Kind: "moved", Name: m.Package, Text: text})
		}
	}
	return nil
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

func (o Options) updates(want func(string) bool) []string {
	var out []string
	for _, u := range o.Update {
		if want(u) {
			out = append(out, u)
		}
	}
	return out
}

func (o Options) isFile(name string) bool {
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
	packages := o.updates(func(name string) bool { return !o.isFile(name) })
	if len(packages) == 0 {
		return nil
	}
	suite := lockfile.RequestsOf(o.Definition).Suite
	if suite == "" || suite != o.Previous.Requests.Suite {
		return &UpdateError{Names: packages, Problem: fmt.Sprintf("the definition's suite is %q and the lock's is %q", suite, o.Previous.Requests.Suite)}
	}
	return nil
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
	step := set.Name != lockfile.SetImage
	if (step || set.Essential) && members == 0 || len(set.Packages) > 0 && requested == 0 {
		return fmt.Errorf("set %q of %s has no package", set.Name, p.Platform)
	}
	return nil
}
