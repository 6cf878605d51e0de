// Package sbom writes down what an image is made of, as SPDX 2.3 or CycloneDX
// 1.6, both JSON. Nothing is guessed: a [Contents] is put together by the builder
// from the lock and from the list of files, which say what every byte is and where
// it came from, and from what programs, installed packages and a base image say of
// themselves.
//
// A [Part] is something with a name that the image came from: a Debian package,
// a file brought by https, a local tree, a pin of another kind, a step. Parts
// that end up in the image are Shipped; some were given to a step, which leaves
// no trace of what it took; the rest was only there to build. Both documents keep
// the three apart:
//
//	                  SPDX                              CycloneDX
//	shipped           image CONTAINS part               scope required
//	perhaps           step GENERATED_FROM part          no scope, which readers take for required
//	build only        part BUILD_TOOL_OF image or step  scope excluded
//	Go module         step STATIC_LINK part             step depends on it
//	of a base image   base CONTAINS part                base depends on it
//	file of a part    file EXPANDED_FROM_ARCHIVE part   nested in the part's component
//	file of a step    file GENERATED_FROM part          the same
//	changed file      with a comment                    property quorate:how
//
// Packages of an image that this one is built on are those that its own databases
// list (package installed), with what they need of each other. Nobody locked them,
// so they have no digest; what is locked is the image. What of it cannot be listed,
// and why, the base's part says.
//
// A licence is what a package itself declares in a form that machines read
// (licence.go, declared.go); everything else is NOASSERTION, which is the truth.
//
// The same contents are the same bytes: no random number, no clock but the
// epoch, no version of a program. Names come from outside. What JSON or
// a package URL would take for its own syntax is escaped, identifiers are made
// of a digest, and bytes that are no UTF-8 are written as %XX.
//
// Documents are written as they are made, and the list of files is an iterator
// ([Files]): what a document holds of each file is the 20 bytes that SPDX's
// verification code is made of, and an image of a million files needs no more
// memory than that.
//
//	err := sbom.SPDX(w, contents)
//	err = sbom.CycloneDX(w, contents)
package sbom

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // SPDX 2.3 asks for it beside sha256
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"quorate.dev/lockfile/digest"
)

// Formats are the forms that Write knows.
var Formats = []string{"spdx", "cyclonedx"}

// The media types of the two (IANA).
const (
	SPDXMediaType      = "application/spdx+json"
	CycloneDXMediaType = "application/vnd.cyclonedx+json"
)

// MediaType is that of a format.
func MediaType(format string) string {
	if format == "spdx" {
		return SPDXMediaType
	}
	return CycloneDXMediaType
}

// Write writes contents in one of Formats.
func Write(w io.Writer, format string, c *Contents) error {
	switch format {
	case "spdx":
		return SPDX(w, c)
	case "cyclonedx":
		return CycloneDX(w, c)
	}
	return fmt.Errorf("unknown form of an SBOM %q: expected one of %s", format, strings.Join(Formats, ", "))
}

// Contents is what the image of one platform is made of.
type Contents struct {
	Name         string        // of the image
	Platform     string        // "linux/amd64"
	Architecture string        // "amd64", as OCI names it
	Image        digest.Digest // of the manifest
	Lock         digest.Digest // of quorate.lock
	Definition   digest.Digest // of quorate.yaml
	Epoch        time.Time
	Parts        []Part // sorted by Key, each once
	Files        Files
}

// Files is the list of an image's regular files and hard links. It may be longer
// than memory holds: it is gone through as often as a document needs it. A File
// is the receiver's until the next one, and an error comes last, with none.
type Files interface {
	ByPath() iter.Seq2[*File, error] // sorted by Path
	ByPart() iter.Seq2[*File, error] // those of one part together, in the order of Parts, then those of none; sorted by Path among themselves
}

// Part is something with a name that the image came from.
type Part struct {
	Key      string        // "deb/nginx:amd64", "step/compile", "local/app"
	Kind     string        // "deb", "file", "local", "step", or the kind of a pin
	Name     string        //
	Version  string        // "" for none
	URI      string        // a package URL, or another one that locates it; "" for none
	Digest   digest.Digest // of the bytes that were locked; zero for local trees, steps and packages of a base image
	Tree     digest.Digest // of a local tree, or of what a step left
	Size     int64         // bytes
	Supplier string        // "Name <address>" of who distributes it
	Author   string        // the same of who made it
	Source   string        // source package and its version
	Homepage string
	Summary  string
	Licence  Licence
	Shipped  bool
	Perhaps  bool     // not known to be shipped: a step whose output is was given it
	Found    []string // how it is known to be in the image: "linked into /usr/bin/web", "listed in /var/lib/dpkg/status of the base image"
	Why      []string // "image: requested", "step/compile: gcc"
	UsedBy   []string // of build-only parts: keys of steps; "" is the image itself
	Needs    []string // keys of parts that it depends on, as far as the lock or a base image's database says
	MadeFrom []string // of steps: keys of its inputs
	Contains []string // of an image: keys of the packages that it says are installed in it
	Links    []string // keys of parts that are linked into programs of it
	Lacks    []string // names of dependencies that are left out on purpose
	Notes    []string // what else is to be said: what of it is not listed, and why
	Archive  bool     // its files are unpacked from it
}

// File is one file of the image.
type File struct {
	Path   string // without the leading slash
	SHA256 digest.Digest
	SHA1   [sha1.Size]byte
	Part   string // Key; "" for what scripts or Quorate itself made
	How    string // what else is to be said: "changed by maintainer scripts"; "" for as it came
}

// text makes a JSON text of any bytes: what is no UTF-8 is written as %XX.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, "%%%02X", s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// person divides "Name <address>".
func person(s string) (name, address string) {
	name, rest, ok := strings.Cut(s, "<")
	if ok {
		address = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), ">"))
	}
	return text(strings.TrimSpace(strings.Trim(strings.TrimSpace(name), `"`))), text(address)
}

// organisation guesses whether a maintainer is several people, by the words
// that Debian's teams have in their names.
func organisation(name string) bool {
	lower := strings.ToLower(name)
	return slices.ContainsFunc([]string{"team", "maintainers", "developers", "group", "project", "debian", "packagers"}, func(w string) bool {
		return strings.Contains(lower, w)
	})
}

// verificationCode is SPDX's digest of a list of files (SPDX 2.3, 7.9): the
// SHA-1 of all their SHA-1 in hexadecimal digits, sorted, one after the other.
func verificationCode(files iter.Seq2[*File, error]) (string, error) {
	var sums [][sha1.Size]byte // sort as their digits do
	for f, err := range files {
		if err != nil {
			return "", err
		}
		sums = append(sums, f.SHA1)
	}
	slices.SortFunc(sums, func(a, b [sha1.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	h := sha1.New() //nolint:gosec // as above
	var digits [2 * sha1.Size]byte
	for i := range sums {
		hex.Encode(digits[:], sums[i][:])
		h.Write(digits[:]) //nolint:errcheck // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// stream writes one JSON object field by field, each element of a list on a line.
type stream struct {
	w     *bufio.Writer
	line  bytes.Buffer // the value that is being made
	err   error
	begun bool
}

func newStream(w io.Writer) *stream { return &stream{w: bufio.NewWriterSize(w, 64<<10)} }

func (s *stream) raw(text string) {
	if s.err == nil {
		_, s.err = s.w.WriteString(text)
	}
}

// bytes writes what is JSON already.
func (s *stream) bytes(b []byte) {
	if s.err == nil {
		_, s.err = s.w.Write(b)
	}
}

func (s *stream) value(v any) { s.bytes(s.encode(v)) }

// encode is a value as JSON on one line, until the next one.
func (s *stream) encode(v any) []byte {
	s.line.Reset()
	enc := json.NewEncoder(&s.line)
	enc.SetEscapeHTML(false) // people read these files
	s.fail(enc.Encode(v))
	return bytes.TrimRight(s.line.Bytes(), "\n")
}

// fail makes an error the document's, unless it has one.
func (s *stream) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// name begins a field.
func (s *stream) name(name string) {
	if s.begun {
		s.raw(",\n")
	} else {
		s.raw("{\n")
	}
	s.begun = true
	s.value(name)
	s.raw(": ")
}

func (s *stream) field(name string, v any) {
	s.name(name)
	s.value(v)
}

func (s *stream) list(name string, values iter.Seq[any]) {
	s.name(name)
	s.raw("[")
	comma := "\n"
	for v := range values {
		if s.err != nil {
			return
		}
		s.raw(comma)
		comma = ",\n"
		if open, ok := v.(func(*stream)); ok {
			open(s)
		} else {
			s.value(v)
		}
	}
	s.raw("\n]")
}

func (s *stream) end() error {
	s.raw("\n}\n")
	if s.err == nil {
		s.err = s.w.Flush()
	}
	return s.err
}
