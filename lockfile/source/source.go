// Package source is the contract of everything that inputs come from, Debian's
// archive and plain files aside (packages deb, httpfile and local, which came
// first and have contracts of their own).
//
// A kind of input is two promises, each a method of [Kind]:
//
//   - Resolve chooses: from what the definition asks ([Query]) it finds which
//     blobs are meant, brings them into the store to know their sha256, checks
//     them by what their ecosystem vouches with, and answers with an input and
//     its pins, whole or not at all. Only `quorate lock` calls it.
//   - Open says where a pin's bytes may be had on this machine, best first. It
//     chooses nothing: whatever those places send is held against the pin.
//
// What a pinned input looks like to a step is not a source's matter, but that
// of the pure package builder/unpack/KIND.
//
// # Rules that every kind keeps
//
// The answer depends on the query and on what the world says, never on maps or
// goroutines: the same world gives the same answer. Files of the project are
// read through Query.Tree alone, which writes down what was read, so that a
// lock can be told to be stale. A pin whose integrity Query.Previous has, in the
// same place, is taken from there and not brought again; so locking anew with
// nothing changed needs no bytes. Location is not identity: pins hold paths,
// and what they are relative to is each machine's configuration.
//
// Package sourcetest is this contract as a suite; every kind passes it.
package source

import (
	"context"
	"io"
	"os"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
)

// Kind is one kind of input.
type Kind interface {
	// Resolve answers a query whole or not at all. Errors name what could not
	// be had, with file and line where the project's own lock file is to blame.
	Resolve(ctx context.Context, q Query) (*Answer, error)

	// Open returns the places that may have a pin of an input that Resolve
	// answered with, here or on another machine.
	Open(in lockfile.InputRequest, pin lockfile.Pin) ([]fetch.Source, error)
}

// Query asks for one input.
type Query struct {
	Request   lockfile.InputRequest
	Platforms []definition.Platform
	Tree      *Tree           // of the input that Request.Ask["from"] names; nil without one
	Previous  *lockfile.Input // as locked before for the same request; nil for none
	Pins      []lockfile.Pin  // of Previous
	Blobs     Blobs           // where what is brought goes
	Fetch     fetch.Options   // patience, and whom to tell of progress
}

// Answer is what was found.
type Answer struct {
	Facts lockfile.Facts
	Pins  []lockfile.Pin // Input may be left empty
}

// Blobs is where bytes go; a store is one.
type Blobs interface {
	Create() (Writer, error)
	Has(d digest.Digest, size int64) bool
	Open(d digest.Digest) (io.ReadCloser, error) // reads and checks
	Path(d digest.Digest) (string, bool)

	// Note and PutNote remember, by kind and key, what can be found out again.
	Note(kind, key string) ([]byte, bool)
	PutNote(kind, key string, b []byte) error
}

// Checked is an event of Query.Fetch: a signature was looked at (Items,
// ItemsDone), of a kind that asks for each one.
const Checked fetch.EventKind = "checked"

// Writer takes bytes of unknown digest; *store.Writer is one.
type Writer interface {
	io.Writer
	Reopen() (*os.File, error) // what was written, for reading; only before Commit and Close
	Commit() (digest.Digest, int64, error)
	Close() error
}

// OpenFile opens a blob that is there for reading in any order. It does not
// check the bytes; Bring has, and a build does again.
func OpenFile(b Blobs, d digest.Digest) (*os.File, error) {
	p, ok := b.Path(d)
	if !ok {
		return nil, os.ErrNotExist
	}
	return os.Open(p)
}
