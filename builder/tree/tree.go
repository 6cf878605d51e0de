// Package tree holds the canonical list of files of a root: what an image
// contains, and nothing of the file system that it was built on.
//
// A [Tree] is sorted by path, bytewise; every path is clean, slash-separated
// and relative, and the root itself is not listed. A parent need not be listed
// before its child: what writes a tree adds missing parents by rule (0755,
// 0:0, epoch). Contents are not held but opened on demand, from a store blob
// or from a range of one, and are always checked against the entry's digest
// while they are read ([Open]).
//
//	t, err := tree.New(entries)          // checks, sorts
//	t.Format(w)                          // the canonical listing; t.Digest() is its sha256
//	layer := tree.Diff(base, t.At(epoch)) // what a layer over base has to hold
package tree

import (
	"io"

	"quorate.dev/lockfile/digest"
)

// Kind says what an entry is.
type Kind byte

// The kinds that an image may hold. Devices and sockets are never part of one.
const (
	File     Kind = 'f'
	Dir      Kind = 'd'
	Symlink  Kind = 'l'
	Hardlink Kind = 'h' // Link is the path of the first entry of the same file, which sorts before it
	Fifo     Kind = 'p'
	Whiteout Kind = 'w' // removes what a lower layer holds at Path; only in differences between trees
)

// Entry is one path of a tree.
type Entry struct {
	Path    string            // clean, relative, slash-separated; never "" or "."
	Kind    Kind              //
	Mode    uint32            // permission bits with setuid, setgid, sticky: 0 to 07777
	UID     int               // numeric owner
	GID     int               // numeric group
	ModTime int64             // seconds since 1970 UTC; what writes the layer clamps it to the epoch
	Size    int64             // of a File, in bytes
	Digest  digest.Digest     // of a File's bytes
	Link    string            // target of a Symlink, verbatim; path of the first entry for a Hardlink
	Xattrs  map[string]string // by full name ("security.capability"), raw bytes; nil when none
	Content Content           // opens a File's bytes; nil for all else and for empty files
}

// Content opens the bytes of a file. Implementations are safe for use by
// several goroutines at once.
type Content interface {
	Open() (io.ReadCloser, error)
}

// Bytes is Content that is held in memory, for the small files that Quorate writes itself.
type Bytes []byte
