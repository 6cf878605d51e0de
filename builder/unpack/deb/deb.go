// Package deb turns the bytes of Debian binary packages into files and into
// the dpkg database that describes them.
//
// A .deb is an ar archive of three members: debian-binary ("2.0"), control.tar
// (the control paragraph, checksums, maintainer scripts) and data.tar (the
// files), both tars usually compressed. [Decode] reads one in a single pass
// with bounded memory: it writes the uncompressed data.tar to a spool, which
// the builder keeps in its store, and returns a [Package] whose entries are
// ranges of that spool. MarshalBinary keeps the Package beside it, so that a
// package is decoded once per machine and never again.
//
//	p, err := deb.Decode(file, spool, deb.Options{Name: "bash", Version: "5.2.15-2+b13", Arch: "amd64"})
//	for _, f := range placed {              // of deb.Merge(packages)
//		f.Content = tree.Section{File: spoolPath, Offset: f.Offset, Size: f.Size}
//	}
//
// Paths are canonical: what a package ships below /bin, /sbin or /lib* is
// listed below /usr, where the merged-/usr links lead (see [Canonical]). The
// name as shipped is kept, because dpkg's own .list files hold that one.
//
// Nothing of a package is trusted, although its sha256 is in the lock: an
// archive may have signed something hostile, and a lock may name any archive.
package deb

import (
	"quorate.dev/builder/tree"
)

// Field is one field of a control paragraph, value as written with continuation lines joined by "\n".
// Continuation lines keep the blank that they begin with.
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

// Conffile is a configuration file of a package, as dpkg's status lists it.
type Conffile struct {
	Path string // absolute, as the package's conffiles writes it
	MD5  string // of the bytes shipped, 32 lower-case hexadecimal digits
}

// Package is one decoded .deb; the bytes of its files are ranges of the
// uncompressed data.tar that Decode wrote out.
type Package struct {
	Control      Paragraph
	ControlFiles []ControlFile // sorted by Name
	Conffiles    []Conffile    // those that are shipped, in the order of the control file
	ModTime      int64         // of the control file; files made from the package carry it
	Entries      []Entry       // in the order of data.tar; the root itself is not listed
	DataSize     int64         // bytes of the uncompressed data.tar
}

// Name returns the package's name.
func (p *Package) Name() string { return p.Control.Get("Package") }

// Version returns the package's version.
func (p *Package) Version() string { return p.Control.Get("Version") }

// Arch returns the package's architecture, "all" included.
func (p *Package) Arch() string { return p.Control.Get("Architecture") }

// Provides reports whether the package provides a name.
func (p *Package) Provides(name string) bool {
	for _, group := range parseRelations(p.Control.Get("Provides")) {
		for _, r := range group {
			if r.name == name {
				return true
			}
		}
	}
	return false
}

// InfoName is the name that dpkg's info files have: with the architecture for
// packages that can be installed for several at once (dpkg, info format 1).
func (p *Package) InfoName() string {
	if p.Control.Get("Multi-Arch") == "same" {
		return p.Name() + ":" + p.Arch()
	}
	return p.Name()
}

// ControlFile returns a member of control.tar, or nil.
func (p *Package) ControlFile(name string) *ControlFile {
	for i := range p.ControlFiles {
		if p.ControlFiles[i].Name == name {
			return &p.ControlFiles[i]
		}
	}
	return nil
}
