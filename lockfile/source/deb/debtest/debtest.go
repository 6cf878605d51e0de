// Package debtest builds small signed Debian archives from text, for tests.
//
// An archive is written as one txtar. Each package has a label of its own; a
// label that ends in @updates or @security puts the package into that pocket:
//
//	-- hello/control --
//	Package: hello
//	Version: 1.0-1
//	Architecture: amd64
//	Depends: libhello1
//	-- hello/postinst --
//	#!/bin/sh
//	echo configured >/etc/hello.state
//	-- hello/data/usr/bin/hello --
//	#!/bin/sh
//	echo hello
//	-- hello/link/usr/bin/hi --
//	hello
//	-- libhello1@security/control --
//	…
//
// A label that ends in .src is a source package: "source" has the fields of its
// paragraph, and the rest are files of its tarballs, by part:
//
//	-- hello.src/source --
//	Version: 1.0-1
//	Binary: hello
//	-- hello.src/orig/hello-1.0/configure --     hello_1.0.orig.tar.gz
//	-- hello.src/orig-data/data/words --         hello_1.0.orig-data.tar.gz
//	-- hello.src/debian/control --               hello_1.0-1.debian.tar.gz
//	-- hello.src/native/hello/configure --       hello_1.0-1.tar.gz
//
// With one of them the archive has a Sources index, and each has a signed .dsc.
//
// Every other file of a label ("postinst", "conffiles") becomes a member of
// control.tar. Files of data are executable when they begin with "#!" or lie
// in a bin folder. The result is a real archive: .deb files that dpkg reads,
// Packages in xz and gz with by-hash copies, InRelease signed with a key made
// for the occasion, whose public part lies in KeyFile for use as signed-by.
//
// A [Fault] makes one thing wrong that a careful reader must notice. [Apt]
// stands in for the real apt where there is none: it chooses first
// alternatives, which suffices for what tests write.
//
//	a, err := debtest.Build(dir, text, debtest.Options{Faults: []debtest.Fault{debtest.Expired}})
//	a := debtest.New(t, text, debtest.Options{}) // the same, served over HTTP until the test ends
//	deb.ParseMirror("test", a.URL)
package debtest

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/ulikunitz/xz"

	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// Fault is one thing wrong with an archive. Faults of signed indexes are in
// the suite itself, not in its pockets.
type Fault string

// The faults.
const (
	Expired           Fault = "expired"            // Valid-Until has passed
	Future            Fault = "future"             // Date lies a week ahead
	WrongKey          Fault = "wrong-key"          // signed by a key that nobody knows
	Unsigned          Fault = "unsigned"           // no signature at all
	Tampered          Fault = "tampered"           // text changed after signing
	Truncated         Fault = "truncated"          // InRelease cut in the middle
	Trailing          Fault = "trailing"           // text after the signature
	WrongSuite        Fault = "wrong-suite"        // InRelease of another suite
	WrongHash         Fault = "wrong-hash"         // Packages are not those that InRelease names
	TruncatedPackages Fault = "truncated-packages" // compressed Packages cut in the middle
	BadPackages       Fault = "bad-packages"       // Packages rightly signed, and no Packages file
	WrongPackage      Fault = "wrong-package"      // one bit of every .deb and source file flipped
	MissingPackage    Fault = "missing-package"    // no .deb and no source file is there
	BadSources        Fault = "bad-sources"        // Sources rightly signed, and no Sources file
	WrongControl      Fault = "wrong-control"      // every .dsc lists another tarball than the index
)

// Faults lists all of them.
func Faults() []Fault {
	return []Fault{Expired, Future, WrongKey, Unsigned, Tampered, Truncated, Trailing, WrongSuite,
		WrongHash, TruncatedPackages, BadPackages, WrongPackage, MissingPackage, BadSources, WrongControl}
}

// Options vary an archive; the zero value is a good archive of today.
type Options struct {
	Suite         string    // "bookworm" by default
	Architectures []string  // besides this machine's own and "all"; "amd64" and "arm64" by default
	Pockets       []string  // "updates" and "security" by default
	Date          time.Time // of the signed indexes; an hour ago by default
	AptGet        string    // a static program that becomes /usr/bin/apt-get of package apt (see AptGet); none by default
	Faults        []Fault
}

// Archive is an archive on disk, laid out as Debian's mirrors are.
type Archive struct {
	Dir     string // holds debian/ and debian-security/
	Suite   string
	URL     string // of the main archive: file://…/debian, or http after Serve
	KeyFile string // public key, armored
	Key     []byte // its content
}

// New builds an archive in a temporary folder and serves it over HTTP until
// the test ends.
func New(t testing.TB, text string, o Options) *Archive {
	t.Helper()
	a, err := Build(t.TempDir(), text, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Serve())
	return a
}

// Serve serves the archive over HTTP on a local port, sets URL to it, and
// returns what stops it.
func (a *Archive) Serve() (stop func()) {
	s := httptest.NewServer(http.FileServer(http.Dir(a.Dir)))
	a.URL = s.URL + "/debian"
	return s.Close
}

// Native is Debian's name of this machine's architecture.
func Native() string {
	p := definition.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if p.Architecture == "arm" {
		p.Variant = "v7"
	}
	return p.DebianArchitecture()
}

// builder builds one archive.
type builder struct {
	Options
	dir      string
	key      *signingKey
	packages []*pkg
	sources  []*src
}

// Build writes an archive into dir. A second Build into the same folder
// replaces the archive and signs it with the same key.
func Build(dir, text string, o Options) (*Archive, error) {
	o.Suite = cmp.Or(o.Suite, "bookworm")
	if o.Architectures == nil {
		o.Architectures = []string{"amd64", "arm64"}
	}
	if o.Pockets == nil {
		o.Pockets = []string{"updates", "security"}
	}
	if o.Date.IsZero() {
		o.Date = time.Now().Add(-time.Hour)
	}
	o.Date = o.Date.UTC().Truncate(time.Second)
	o.Architectures = append(slices.Clone(o.Architectures), Native())
	slices.Sort(o.Architectures)
	o.Architectures = slices.Compact(o.Architectures)
	b := &builder{Options: o, dir: dir}
	if err := b.build(text); err != nil {
		return nil, fmt.Errorf("cannot build a test archive: %w", err)
	}
	keyFile := filepath.Join(dir, "archive-key.asc")
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &Archive{Dir: dir, Suite: o.Suite, URL: "file://" + filepath.ToSlash(abs) + "/debian", KeyFile: keyFile, Key: key}, nil
}

func (b *builder) has(f Fault) bool { return slices.Contains(b.Faults, f) }

func (b *builder) build(text string) (err error) {
	if b.key, err = loadKey(b.dir); err != nil {
		return err
	}
	for _, d := range []string{"debian", "debian-security"} {
		if err := os.RemoveAll(filepath.Join(b.dir, d)); err != nil {
			return err
		}
	}
	if b.packages, b.sources, err = parsePackages(txtar.Parse([]byte(text)), b.Date); err != nil {
		return err
	}
	if err := b.addApt(); err != nil {
		return err
	}
	if err := b.finishSources(); err != nil {
		return err
	}
	for _, p := range b.packages {
		if err := b.writeDeb(p); err != nil {
			return err
		}
	}
	for _, s := range b.sources {
		if err := b.writeSource(s); err != nil {
			return err
		}
	}
	for _, pocket := range append([]string{""}, b.Pockets...) {
		if err := b.writeSuite(pocket); err != nil {
			return err
		}
	}
	return nil
}

// root is the archive that holds a pocket.
func (b *builder) root(pocket string) string {
	if pocket == "security" {
		return filepath.Join(b.dir, "debian-security")
	}
	return filepath.Join(b.dir, "debian")
}

func (b *builder) writeDeb(p *pkg) error {
	data := slices.Clone(p.deb)
	if b.has(MissingPackage) {
		return nil
	}
	if b.has(WrongPackage) {
		data[len(data)/2] ^= 1
	}
	return write(filepath.Join(b.root(p.pocket), filepath.FromSlash(p.path)), data)
}

// writeSuite writes the indexes of the suite or one of its pockets.
func (b *builder) writeSuite(pocket string) error {
	name := b.Suite
	if pocket != "" {
		name += "-" + pocket
	}
	dir := filepath.Join(b.root(pocket), "dists", name)
	var sums strings.Builder
	for _, arch := range b.Architectures {
		if err := b.writeIndex(&sums, dir, pocket, "main/binary-"+arch+"/Packages", b.packagesIndex(pocket, arch)); err != nil {
			return err
		}
	}
	if len(b.sources) > 0 {
		if err := b.writeIndex(&sums, dir, pocket, "main/source/Sources", b.sourcesIndex(pocket)); err != nil {
			return err
		}
	}
	signed, err := b.inRelease(pocket, name, sums.String())
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, "InRelease"), signed)
}

// writeIndex writes an index in the forms that a mirror has, and the lines that
// InRelease names them by.
func (b *builder) writeIndex(sums *strings.Builder, dir, pocket, name string, text []byte) error {
	for _, suffix := range []string{"", ".xz", ".gz"} {
		data, err := compress(text, suffix)
		if err != nil {
			return err
		}
		sum := digest.Of(data)
		fmt.Fprintf(sums, " %s %8d %s\n", sum.Hex(), len(data), name+suffix)
		if suffix == "" {
			continue // named, and not there: as on Debian's mirrors
		}
		if pocket == "" {
			data = b.spoil(data)
		}
		if err := write(filepath.Join(dir, filepath.FromSlash(name+suffix)), data); err != nil {
			return err
		}
		byHash := filepath.Join(dir, filepath.FromSlash(path.Dir(name)), "by-hash", "SHA256", sum.Hex())
		if err := write(byHash, data); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) spoil(packed []byte) []byte {
	packed = slices.Clone(packed)
	if b.has(WrongHash) {
		packed[len(packed)-1] ^= 1
	}
	if b.has(TruncatedPackages) {
		packed = packed[:len(packed)/2]
	}
	return packed
}

func (b *builder) packagesIndex(pocket, arch string) []byte {
	var out bytes.Buffer
	if pocket == "" && b.has(BadPackages) {
		out.WriteString("this is no index\n")
	}
	for _, p := range b.packages {
		if p.pocket != pocket || p.arch != arch && p.arch != "all" {
			continue
		}
		fmt.Fprintf(&out, "%s\nFilename: %s\nSize: %d\nSHA256: %s\n\n", p.control, p.path, len(p.deb), digest.Of(p.deb).Hex())
	}
	return out.Bytes()
}

// inRelease writes and signs the text that names the indexes.
func (b *builder) inRelease(pocket, name, sums string) ([]byte, error) {
	date, validUntil, key := b.Date, b.Date.AddDate(1, 0, 0), b.key
	main := pocket == ""
	if main && b.has(Expired) {
		validUntil = b.Date.Add(time.Minute)
	}
	if main && b.has(Future) {
		date = time.Now().UTC().AddDate(0, 0, 7)
		validUntil = date.AddDate(1, 0, 0)
	}
	if main && b.has(WrongSuite) {
		name = "sarge"
	}
	const layout = "Mon, 02 Jan 2006 15:04:05 UTC"
	text := fmt.Sprintf("Origin: Test\nLabel: Test\nSuite: %s\nCodename: %s\nDate: %s\nValid-Until: %s\nAcquire-By-Hash: yes\nArchitectures: all %s\nComponents: main\nDescription: archive of a test\nSHA256:\n%s",
		name, name, date.Format(layout), validUntil.Format(layout), strings.Join(b.Architectures, " "), sums)
	if main && b.has(Unsigned) {
		return []byte(text), nil
	}
	if main && b.has(WrongKey) {
		other, err := newKey()
		if err != nil {
			return nil, err
		}
		key = other
	}
	signed, err := key.clearsign([]byte(text), b.Date, true)
	if err != nil || !main {
		return signed, err
	}
	if b.has(Tampered) {
		signed = bytes.Replace(signed, []byte("Label: Test"), []byte("Label: Best"), 1)
	}
	if b.has(Truncated) {
		signed = signed[:len(signed)/2]
	}
	if b.has(Trailing) {
		signed = append(signed, "Origin: somebody else\n"...)
	}
	return signed, nil
}

func compress(text []byte, suffix string) ([]byte, error) {
	var out bytes.Buffer
	switch suffix {
	case ".gz":
		w := gzip.NewWriter(&out)
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
		err := w.Close()
		return out.Bytes(), err
	case ".xz":
		w, err := xz.NewWriter(&out)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
		err = w.Close()
		return out.Bytes(), err
	}
	return text, nil
}

func write(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}
