// Package builder builds images: locked bytes in, an OCI image out, the same
// bytes on every machine.
//
// A build knows three folders of files and nothing else:
//
//   - the store, which holds every locked input by digest (package store),
//   - roots, which are folders made from packages that steps and maintainer
//     scripts run in (root.go), shown to them as an overlay by the sandbox,
//   - the tree, the canonical list of what will be shipped (package tree).
//
// The order is always the same. Packages are decoded (package unpack/deb).
// Each step gets a root of exactly its locked packages, runs in the sandbox
// and leaves its $OUT (step.go). The image's packages are configured in a root
// of their own, and what their scripts changed is read from the overlay's upper
// folder (base.go, root.go). What is shipped is decided on the tree: logs and
// caches are forgotten (ship.go), secrets that scripts made are left out
// (withhold.go). The rest is divided into layers (layers.go): groups of
// packages, whose bytes depend on those packages alone; the state that scripts
// made; the copies.
//
// An image that is built on another keeps its layers. Packages are unpacked over
// its files as dpkg would do it (deb.Ground), configured by its own dpkg, and
// what came to be is a layer for each group of packages and one of state above
// (system.go).
//
// Nothing here chooses: a build refuses an input that the lock does not hold,
// and it has no network. Whatever is derived from inputs may be cached in the
// store under a key of everything it was made from, and a single-use worker
// simply has a store of its own.
package builder

import (
	"context"
	"time"

	"quorate.dev/builder/image"
	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/store"
	"quorate.dev/builder/unpack"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// AssemblerVersion numbers the rules that decide output bytes: the tar writer,
// the compressor and its level, the file rules of this package. Any change that
// shows in the golden digest test raises it, and so does one of what steps and
// maintainer scripts see. Version 2 fixed the seeds of Perl's and Python's hashes.
const AssemblerVersion = 2

// Job is one build: everything that decides the output's bytes.
type Job struct {
	Definition *definition.Definition
	Lock       *lockfile.Lock
	Platforms  []definition.Platform // which of the definition's; nil for all
	Locals     map[string]Local      // by input name: the local trees, as found
}

// Local is a local input as it was hashed.
type Local struct {
	Tree    digest.Digest // of the canonical list of its files
	Archive digest.Digest // of its canonical tar, which the store holds
}

// Builder builds jobs with one store and one way of isolating.
type Builder struct {
	Store        *store.Store
	Sandbox      sandbox.Runner
	Surroundings Surroundings
	Kinds        map[string]unpack.Kind // what makes files of inputs, by kind of input
	StepLists    bool                   // put the list of what each step left into the store; see StepResult
	Events       func(Event)            // called from several goroutines; nil for silence
}

// Surroundings are the differences that rebuilders on one machine set on
// purpose; none of them may change a byte of the output.
type Surroundings struct {
	Sandbox      sandbox.Surroundings
	ReverseOrder bool // make files in the opposite order, so that directories list differently
}

// Event says what a build is doing. A phase begins with Done false and ends
// with Done true; in between Current of Total may move.
type Event struct {
	Phase          string        // "decode", "root", "scripts", "step", "layer", "image"; "mend" when a file of the store (Name) was damaged and is made again; "withheld" when scripts made a file (Name) that no image holds, with the reason (Line)
	Name           string        // of the step, set or layer; may be empty
	Platform       string        // that it is done for, when the build has several; else ""
	Done           bool          //
	Cached         bool          // with Done: nothing had to be made
	Current, Total int64         // in units of the phase; 0 when unknown
	Line           string        // a line of a step's output, when that is all the event says
	Elapsed        time.Duration // with Done
}

// Result is what a build made. The images' blobs are in the store.
type Result struct {
	Images []image.Image // one per platform, in the job's order
	Steps  []StepResult  // in order of platform and step
	Lists  []FileList    // one per platform
	Logs   digest.Digest // of the steps' and scripts' output, for people; not part of what must agree
}

// StepResult is what one step left in $OUT, or what scripts left in the image's root
// (ScriptsStep). Tree is the digest of its canonical list (package tree), which the store
// holds when Builder.StepLists says so.
type StepResult struct {
	Platform string
	Step     string
	Tree     digest.Digest
}

// ScriptsStep names what maintainer scripts left, beside the steps of the definition.
const ScriptsStep = "scripts"

// FileList names the canonical listing of one platform's files, held in the store.
type FileList struct {
	Platform string
	Digest   digest.Digest
}

// Build builds every platform of the job. Every pin's bytes must be in the
// store. Errors: *MissingError (bytes that the store lacks), *StepError,
// *ScriptError, *PlatformError, *store.DamagedError, *sandbox.LimitError and others.
func (b *Builder) Build(ctx context.Context, job Job) (*Result, error) {
	return b.build(ctx, job)
}
