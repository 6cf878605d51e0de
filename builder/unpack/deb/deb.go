// Package deb turns the bytes of Debian binary packages into files.
package deb

import (
	"quorate.dev/builder/tree"
)

// Field is one field of a control paragraph, value as written with continuation lines joined by "\n".
type Field struct {
	Name, Value string
}

// Paragraph is a control paragraph: fields in the order of the file.
type Paragraph []Field

// ControlFile is one member of control.tar besides "control": a script, md5sums, conffiles, triggers, shlibs …
type ControlFile struct {
	Name string // no slash
	Mode uint32
	Data []byte
}

// Entry is one member of data.tar.
type Entry struct {
	tree.Entry        // Path is canonical: /bin, /sbin, /lib… are followed into /usr; Content is nil
	Shipped    string // path as the package writes it, "./" removed: for info/PKG.list
	Offset     int64  // of a File's bytes in the decoded data.tar
}

// Package is one decoded .deb; the bytes of its files are ranges of the
// uncompressed data.tar that Decode wrote out.
type Package struct {
	Control      Paragraph
	ControlFiles []ControlFile // sorted by Name
	Entries      []Entry       // in the order of data.tar
	DataSize     int64         // bytes of the uncompressed data.tar
}
