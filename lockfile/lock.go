// Package lockfile reads and writes quorate.lock, which pins every byte that
// comes into a build from outside. It is pure: it asks no network and reads no
// file. Package resolve makes locks, package fetch brings what they name.
//
// A [Lock] holds pins, each by sha256: the Debian packages of each platform,
// the files brought by https, the signed archive indexes that packages
// were chosen from, and for every other kind of input (git, images, Go modules,
// npm packages, Debian source packages …) an [Input] with the [Pin]s that it is made of. Beside them it keeps the [Requests] they answer, so that
// [Lock.Covers] can tell whether the lock still fits the definition, and if
// not, why. [Diff] says what changed between two locks and [Why] by which
// chain of needs a package came in.
//
// The file is YAML with one line per pin, so that a pull request shows one
// changed line per changed package:
//
//	# Written by "quorate lock". Commit it; do not edit it.
//	format: 1
//	assembler: 1
//	epoch: "2026-11-01T00:00:00Z"
//	requests:
//	  debian: {suite: bookworm, components: [main], pockets: [updates, security]}
//	  sets:
//	    - {name: image, packages: [tzdata], scripts: dpkg, essential: true}
//	resolver: {name: apt, version: "2.6.1"}
//	archives:
//	  - {name: bookworm, suite: oldstable, date: "2026-09-05T09:23:17Z", in-release: 4ab0…, signed-by: [4CB50190207B4758A3F73A796ED0E7B82643E131]}
//	inputs:
//	  - {name: modules, kind: go, reads: {go.mod: 71ab…, go.sum: 0c1d…}}
//	pins:
//	  - {input: modules, name: golang.org/x/text, version: v0.14.0, size: 8985323, sha256: 1a6c…, integrity: "h1:Scx…", path: golang.org/x/text/@v/v0.14.0.zip}
//	platforms:
//	  linux/amd64:
//	    packages:
//	      - {name: tzdata, version: 2026b-0+deb12u1, arch: all, size: 250644, sha256: 65d8…, path: pool/main/t/tzdata/…, from: bookworm, in: {image: requested}}
//
// A set that is added to an image (base: os in its request) has only what the
// image lacks; requests that the image meets by itself are listed under held.
//
// [Format] writes one form only and [Parse] accepts no other: a lock that was
// edited is refused, because its Requests and reasons could no longer be
// believed. Equal locks have equal bytes.
//
//	l, err := lockfile.Parse("quorate.lock", data)
//	if err == nil {
//		err = l.Covers(def, builder.AssemblerVersion)
//	}
package lockfile

import (
	"slices"
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
	Inputs    []Input   // of all other kinds, sorted by Name
	Pins      []Pin     // what Inputs are made of, sorted by Input, Name, Version, Path, Platform
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
	Inputs     []InputRequest // of all other kinds, sorted by Name
}

// SetRequest asks for one set of packages.
type SetRequest struct {
	Name      string   // "image" or "step/NAME"
	Packages  []string // sorted
	Scripts   string   // of the image: "dpkg" or "none"; "" for steps
	Essential bool     // of the image; steps always have the Essential set
	Without   []string // of the image, sorted
	Base      string   // image input that they are added to, whose own packages count; "" for a root of packages alone
}

// AddsTo reports whether packages are added to an image input.
func (r Requests) AddsTo(input string) bool {
	return slices.ContainsFunc(r.Sets, func(s SetRequest) bool { return s.Base == input })
}

// FileRequest asks for one file.
type FileRequest struct {
	Name, URL string
	Unpack    bool
}

// Kinds of inputs that are locked as Input and Pin.
const (
	KindGit    = "git"
	KindImage  = "image"
	KindGo     = "go"
	KindNpm    = "npm"
	KindPython = "python"
	KindCargo  = "cargo"
	KindSource = "source" // a Debian source package
)

// Kinds are all of them.
var Kinds = []string{KindGit, KindImage, KindGo, KindNpm, KindPython, KindCargo, KindSource}

// Facts are short texts by name: what is asked of an input of some kind, or
// what was found. Each kind says in its package which there are.
type Facts map[string]string

// InputRequest asks for one input of a kind.
type InputRequest struct {
	Name, Kind string
	Ask        Facts // "url", "ref", "from" …
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
	Held     []Held    // sorted
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

// Held is a request that a set's base image (SetRequest.Base) meets by itself.
type Held struct {
	Set     string
	Package string
	Version string // that the image has
}

// File is one file brought by https.
type File struct {
	Name   string
	URL    string
	Size   int64
	SHA256 digest.Digest
}

// Input is what was found of one InputRequest.
type Input struct {
	Name  string
	Kind  string
	Facts Facts // what the kind records beside its pins: of git, "commit", "tree", "time"
	Reads Facts // files of the tree that Ask's "from" names which decided the answer: path to sha256 as hexadecimal digits, or Absent
}

// Absent stands in Input.Reads for a file that was looked for and was not there.
const Absent = "absent"

// Pin is one blob of an input.
type Pin struct {
	Input      string // Name of the Input
	Name       string // as its ecosystem writes it: "golang.org/x/text", "@types/node"
	Version    string // "" where there is none
	Platform   string // "linux/amd64" when only that platform's build needs it; "" for all
	Size       int64  // in bytes
	SHA256     digest.Digest
	Integrity  string // what the ecosystem itself vouches for it by: "h1:…", "sha512-…"; "" when that is the sha256
	Path       string // where its bytes are found, relative to a place that each machine configures; no two pins of an input and platform share one
	URL        string // where else they were found; "" for nowhere
	Signatures string // what registries signed it with, KEYID=SIGNATURE of keys that Input.Facts has, with a blank between; "" for nothing
	By         string // ByRequest, or the name of the pin that needs it; "" when the ecosystem's lock file does not say
}

// PinsOf returns the pins of an input for a platform.
func (l *Lock) PinsOf(input, platform string) []Pin {
	var pins []Pin
	for _, p := range l.Pins {
		if p.Input == input && (p.Platform == "" || p.Platform == platform) {
			pins = append(pins, p)
		}
	}
	return pins
}

// Input returns the input of a name.
func (l *Lock) Input(name string) (Input, bool) {
	for _, in := range l.Inputs {
		if in.Name == name {
			return in, true
		}
	}
	return Input{}, false
}

// InSet reports whether p belongs to the set, and why.
func (p Package) InSet(set string) (by string, ok bool) {
	for _, m := range p.In {
		if m.Set == set {
			return m.By, true
		}
	}
	return "", false
}
