// Package lockfile reads and writes quorate.lock: every external input of a
// build, by digest.
package lockfile

import (
	"time"

	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// FileName is the lock's name in a project folder, beside quorate.yaml.
const FileName = "quorate.lock"

// FormatVersion is the version of the lock's own format.
const FormatVersion = 1

// Lock is a whole quorate.lock.
type Lock struct {
	Format    int       // FormatVersion
	Assembler int       // version of the rules that decide output bytes (builder.AssemblerVersion)
	Epoch     time.Time // SOURCE_DATE_EPOCH, UTC, whole seconds
	Requests  Requests  // what the definition asked for when the lock was made
	Resolver  Resolver  // who chose the packages; zero without a debian input
	Archives  []Archive // sorted by Name
	Files     []File    // sorted by Name
	Platforms []Platform
}

// Requests is the input-relevant content of a definition, kept whole so that a
// stale lock can say which input changed.
type Requests struct {
	Suite      string   // "" without a debian input
	Components []string // as in the definition
	Pockets    []string
	Sets       []SetRequest // sorted by Name; "image" and "step/NAME"
	Files      []FileRequest
}

// SetRequest asks for one set of packages.
type SetRequest struct {
	Name      string   // "image" or "step/NAME"
	Packages  []string // sorted
	Scripts   string   // of the image: "dpkg" or "none"; "" for steps
	Essential bool     // of the image; steps always have the Essential set
	Without   []string // of the image, sorted
}

// FileRequest asks for one file.
type FileRequest struct {
	Name, URL string
	Unpack    bool
}

// Resolver is the program that chose the packages.
type Resolver struct {
	Name    string // "apt"
	Version string // "2.6.1"
}

// Archive is one signed index that packages were chosen from.
type Archive struct {
	Name      string        // "bookworm", "bookworm-updates", "bookworm-security"
	Suite     string        // as the Release file names it
	Date      time.Time     // Date field of the Release file, UTC
	InRelease digest.Digest // of the signed file, whole
	SignedBy  []string      // fingerprints of the keys whose signatures hold, 40 upper-case hexadecimal digits, sorted
}

// Platform holds the packages of one platform.
type Platform struct {
	Platform definition.Platform
	Packages []Package // sorted by Name, then Arch
	Waived   []Waiver  // sorted
}

// Package is one Debian binary package.
type Package struct {
	Name    string
	Version string
	Arch    string // "amd64", "all"
	Size    int64  // of the .deb, in bytes
	SHA256  digest.Digest
	Path    string   // relative to the archive's root: "pool/main/…"
	Archive string   // Name of the Archive whose index lists it
	In      []Member // sorted by Set
}

// Member says that a package belongs to a set, and why.
type Member struct {
	Set string // "image", "configure" (in the root that runs the image's scripts, not shipped) or "step/NAME"
	By  string // "requested", "essential", or the name of the package that needs it
}

// Waiver is a dependency that `image.without` leaves unfulfilled.
type Waiver struct {
	Package string // shipped package
	Needs   string // name of the package left out
}

// File is one file brought by https.
type File struct {
	Name   string
	URL    string
	Size   int64
	SHA256 digest.Digest
}

// In reports whether p belongs to the set, and why.
func (p Package) InSet(set string) (by string, ok bool) {
	for _, m := range p.In {
		if m.Set == set {
			return m.By, true
		}
	}
	return "", false
}
