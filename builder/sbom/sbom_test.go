package sbom

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // as in the package
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
	"pgregory.net/rapid"

	"quorate.dev/lockfile/digest"
)

func file(path, body, part, how string) File {
	return File{Path: path, SHA256: digest.Of([]byte(body)), SHA1: sha1.Sum([]byte(body)), Part: part, How: how} //nolint:gosec // as above
}

// sample has one of everything.
func sample() *Contents {
	return &Contents{
		Name: "greeter", Platform: "linux/amd64", Architecture: "amd64", Epoch: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		Image: digest.Of([]byte("image")), Lock: digest.Of([]byte("lock")), Definition: digest.Of([]byte("definition")),
		Parts: []Part{
			{Key: "deb/gcc:amd64", Kind: "deb", Name: "gcc", Version: "4:12.2", URI: "pkg:deb/debian/gcc@4:12.2?arch=amd64", Digest: digest.Of([]byte("gcc")), Size: 3,
				Supplier: "Debian GCC Maintainers <gcc@example.org>", Source: "gcc-12 12.2", Why: []string{"step/compile: requested"}, UsedBy: []string{"step/compile"}, Archive: true,
				Licence: Licence{Comment: "not machine-readable"}},
			{Key: "deb/hello:amd64", Kind: "deb", Name: "hello", Version: "1.0-1", Digest: digest.Of([]byte("hello")), Shipped: true, Archive: true,
				Supplier: "Ann Other <ann@example.org>", Homepage: "https://example.org/?a=1&b=<2>", Lacks: []string{"debconf"}, Needs: []string{"deb/libhello:amd64"},
				Licence: Licence{Expression: "GPL-2.0-or-later AND LicenseRef-hello-odd", Texts: []LicenceText{{"LicenseRef-hello-odd", "odd", "Do as you like."}}}},
			{Key: "deb/libhello:amd64", Kind: "deb", Name: "libhello", Version: "1", Shipped: true, Archive: true},
			{Key: "go/m/example.org/M", Kind: "go", Name: "example.org/M", Version: "v1.0.0", URI: "pkg:golang/example.org/m@v1.0.0", Shipped: true,
				Found: []string{"linked into /usr/bin/greeter"}, Author: "Ann Other <no address at all>"},
			{Key: "local/app", Kind: "local", Name: "app", Tree: digest.Of([]byte("tree")), Perhaps: true, Archive: true},
			{Key: "step/compile", Kind: "step", Name: "greeter/compile", Tree: digest.Of([]byte("out")), MadeFrom: []string{"local/app"}, Links: []string{"go/m/example.org/M"}, Shipped: true},
		},
		Files: held{
			file("etc/hello.conf", "changed", "deb/hello:amd64", "changed by maintainer scripts"),
			file("etc/state", "", "", "made by maintainer scripts"),
			file("usr/bin/greeter", "binary", "step/compile", ""),
			file("usr/bin/hello", "hello", "deb/hello:amd64", ""),
		},
	}
}

// held is Files in memory; parts are in the order of their keys.
type held []File

func byPath(a, b File) int { return strings.Compare(a.Path, b.Path) }

func byPart(a, b File) int {
	switch {
	case a.Part == b.Part:
		return byPath(a, b)
	case a.Part == "":
		return 1
	case b.Part == "":
		return -1
	}
	return strings.Compare(a.Part, b.Part)
}

func (l held) ByPath() iter.Seq2[*File, error] { return l.sorted(byPath) }
func (l held) ByPart() iter.Seq2[*File, error] { return l.sorted(byPart) }

func (l held) sorted(by func(a, b File) int) iter.Seq2[*File, error] {
	return func(yield func(*File, error) bool) {
		for _, f := range slices.SortedFunc(slices.Values(l), by) {
			if !yield(&f, nil) {
				return
			}
		}
	}
}

func written(t interface{ Fatal(...any) }, format string, c *Contents) []byte {
	var b bytes.Buffer
	if err := Write(&b, format, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readSPDX has the document read and checked by SPDX's own library.
func readSPDX(t interface{ Fatalf(string, ...any) }, raw []byte) *spdx.Document {
	doc, err := spdxjson.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("SPDX's library cannot read it: %v", err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Fatalf("SPDX's library refuses it: %v", err)
	}
	return doc
}

func TestSPDX(t *testing.T) {
	doc := readSPDX(t, written(t, "spdx", sample()))
	if len(doc.Packages) != 7 || len(doc.Files) != 4 || len(doc.OtherLicenses) != 1 {
		t.Errorf("%d packages, %d files, %d licences", len(doc.Packages), len(doc.Files), len(doc.OtherLicenses))
	}
	var all []string
	for _, r := range doc.Relationships {
		all = append(all, fmt.Sprintf("%s %s %s", short(string(r.RefA.ElementRefID)), r.Relationship, short(string(r.RefB.ElementRefID))))
	}
	for _, want := range []string{
		"DOCUMENT DESCRIBES Image", "Image CONTAINS Part-deb-hello.3aamd64", "Part-deb-gcc.3aamd64 BUILD_TOOL_OF Part-step-compile",
		"Part-deb-hello.3aamd64 DEPENDS_ON Part-deb-libhello.3aamd64", "Part-step-compile GENERATED_FROM Part-local-app",
		"Part-step-compile STATIC_LINK Part-go-m.2fexample.2eorg.2fM", "Image CONTAINS Part-go-m.2fexample.2eorg.2fM",
	} {
		if !slices.Contains(all, want) {
			t.Errorf("lacks %q of\n%s", want, strings.Join(all, "\n"))
		}
	}
	for _, not := range []string{"Image CONTAINS Part-deb-gcc.3aamd64", "Image CONTAINS Part-local-app", "Part-local-app BUILD_TOOL_OF Part-step-compile"} {
		if slices.Contains(all, not) {
			t.Errorf("says %q", not)
		}
	}
	if m := doc.Packages[4]; m.PackageOriginator.Originator != "Ann Other (no address at all)" || !strings.Contains(m.PackageComment, "shipped in the image; linked into /usr/bin/greeter") {
		t.Errorf("the module is %+v", m)
	}
	if app := doc.Packages[5]; !strings.HasPrefix(app.PackageComment, perhaps) {
		t.Errorf("app is %+v", app)
	}
	gcc := doc.Packages[1]
	if gcc.PackageSupplier.SupplierType != "Organization" || gcc.PackageLicenseDeclared != none || !strings.Contains(gcc.PackageComment, "not shipped") {
		t.Errorf("gcc is %+v", gcc)
	}
	if hello := doc.Packages[2]; hello.PackageSupplier.SupplierType != "Person" || !strings.Contains(hello.PackageComment, "debconf is left out on purpose") {
		t.Errorf("hello is %+v", hello)
	}
}

// short drops the digest of an identifier.
func short(id string) string { return regexp.MustCompile(`-[0-9a-f]{16,32}$`).ReplaceAllString(id, "") }

func readCycloneDX(t interface{ Fatalf(string, ...any) }, raw []byte) *cdx.BOM {
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(raw), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatalf("CycloneDX's library cannot read it: %v", err)
	}
	return &bom
}

func TestCycloneDX(t *testing.T) {
	bom := readCycloneDX(t, written(t, "cyclonedx", sample()))
	var all []string
	for _, c := range *bom.Components {
		line := fmt.Sprintf("%s %s %s", c.BOMRef, c.Type, c.Scope)
		if c.Components != nil {
			for _, f := range *c.Components {
				line += " " + f.Name
			}
		}
		all = append(all, line)
	}
	want := []string{
		"part/deb/gcc:amd64 library excluded",
		"part/deb/hello:amd64 library required /etc/hello.conf /usr/bin/hello",
		"part/deb/libhello:amd64 library required",
		"part/go/m/example.org/M library required",
		"part/local/app file ",
		"part/step/compile application required /usr/bin/greeter",
		"file/etc/state file ",
	}
	if !slices.Equal(all, want) {
		t.Errorf("got\n%s", strings.Join(all, "\n"))
	}
	for _, d := range *bom.Dependencies {
		if d.Ref == "part/step/compile" && !slices.Equal(*d.Dependencies, []string{"part/local/app", "part/go/m/example.org/M"}) {
			t.Errorf("the step depends on %q", *d.Dependencies)
		}
	}
	if authors := *(*bom.Components)[3].Authors; authors[0].Name != "Ann Other" || authors[0].Email != "" {
		t.Errorf("the module's authors are %+v", authors)
	}
	if whole := (*bom.Compositions)[0].Aggregate; whole != cdx.CompositionAggregateComplete {
		t.Errorf("the image's composition is %s", whole)
	}
	if bom.SerialNumber != "" || bom.Metadata.Timestamp != "2026-11-01T00:00:00Z" {
		t.Errorf("not the same each time: %q %q", bom.SerialNumber, bom.Metadata.Timestamp)
	}
}

// An image that another is built on contains what it says of itself, which nobody
// locked and need not be all.
func TestOnAnotherImage(t *testing.T) {
	c := sample()
	said := Part{Key: "image/base/deb/libc:amd64", Kind: "deb", Name: "libc", Version: "1", Shipped: true, Found: []string{"listed in its database"}, Archive: true}
	base := Part{Key: "image/base", Kind: "image", Name: "base", Shipped: true, Contains: []string{said.Key}, Notes: []string{"one more is not listed"}, Archive: true}
	c.Parts = append(c.Parts[:4:4], base, said, c.Parts[4], c.Parts[5])
	c.Files = append(c.Files.(held), file("usr/lib/libc", "libc", said.Key, ""))
	bom := readCycloneDX(t, written(t, "cyclonedx", c))
	if whole := (*bom.Compositions)[0].Aggregate; whole != cdx.CompositionAggregateIncomplete {
		t.Errorf("the image's composition is %s", whole)
	}
	if p := *(*bom.Components)[4].Properties; p[1] != (cdx.Property{Name: "quorate:note", Value: "one more is not listed"}) {
		t.Errorf("the base's properties are %v", p)
	}
	if libc := (*bom.Components)[5]; libc.Hashes != nil || (*libc.Components)[0].Name != "/usr/lib/libc" {
		t.Errorf("the package is %+v", libc)
	}
	if !slices.ContainsFunc(*bom.Dependencies, func(d cdx.Dependency) bool {
		return d.Ref == "part/image/base" && slices.Equal(*d.Dependencies, []string{"part/image/base/deb/libc:amd64"})
	}) {
		t.Errorf("the base depends on nothing: %v", *bom.Dependencies)
	}
	raw := written(t, "spdx", c)
	doc := readSPDX(t, raw)
	id := func(n int) string { return string(doc.Packages[n].PackageSPDXIdentifier) }
	if !slices.ContainsFunc(doc.Relationships, func(r *spdx.Relationship) bool {
		return string(r.RefA.ElementRefID) == id(5) && r.Relationship == "CONTAINS" && string(r.RefB.ElementRefID) == id(6)
	}) {
		t.Error("the base contains nothing")
	}
	if p := doc.Packages[5]; p.PackageComment != "shipped in the image; one more is not listed" {
		t.Errorf("of the base it is said %q", p.PackageComment)
	}
	if p := doc.Packages[6]; len(p.PackageChecksums) != 0 || p.PackageComment != "shipped in the image; listed in its database" {
		t.Errorf("the package is %+v", p)
	}
	if !strings.HasSuffix(doc.DocumentComment, " Packages of the base image are those that its own databases list.") {
		t.Errorf("of the document it is said %q", doc.DocumentComment)
	}
}

func TestWeb(t *testing.T) {
	for in, want := range map[string]string{
		"https://example.org/~x?a=1#b":  "https://example.org/~x?a=1#b",
		"http://example.org/a b<c>\xff": "http://example.org/a%20b%3Cc%3E%FF",
		"https://":                      "",
		"example.org":                   "",
		"javascript:alert(1)":           "",
	} {
		if got := web(in); got != want {
			t.Errorf("%q is %q, expected %q", in, got, want)
		}
	}
}

// Whatever names are: both documents can be read by the libraries of their
// makers, say every name, keep apart what is apart, and are the same bytes again.
func TestHostileNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			`"},{"name":"x`, "</script>", "\x00\x1b[31m", "a\xffb", "a%FFb", "../../etc", "ü", "a b", "pkg:deb/x@1", "SPDXRef-DOCUMENT", "\u2028", strings.Repeat("long", 300),
		}), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		c := sample()
		names := rapid.SliceOfNDistinct(name, 1, 5, rapid.ID[string]).Draw(t, "names")
		c.Name = name.Draw(t, "image")
		for _, n := range names {
			c.Parts = append(c.Parts, Part{Key: "npm/" + n, Kind: "npm", Name: n, Version: n, Supplier: n, Author: n, Found: []string{n}, Source: n, Homepage: n, Summary: n, Shipped: true, Why: []string{n}, Lacks: []string{n}, Notes: []string{n}})
			c.Files = append(c.Files.(held), file("x/"+n, n, "npm/"+n, ""))
		}
		slices.SortFunc(c.Parts, func(a, b Part) int { return strings.Compare(a.Key, b.Key) })
		for _, format := range Formats {
			raw := written(t, format, c)
			if !bytes.Equal(raw, written(t, format, c)) {
				t.Fatalf("%s is not the same again", format)
			}
			if !json.Valid(raw) {
				t.Fatalf("%s is no JSON", format)
			}
		}
		doc := readSPDX(t, written(t, "spdx", c))
		ids := map[string]bool{}
		for _, p := range doc.Packages {
			id := string(p.PackageSPDXIdentifier)
			if ids[id] || !regexp.MustCompile(`^[a-zA-Z0-9.-]+$`).MatchString(id) {
				t.Fatalf("bad identifier %q", id)
			}
			ids[id] = true
		}
		if len(doc.Packages) != 7+len(names) || len(doc.Files) != 4+len(names) {
			t.Fatalf("%d packages and %d files of %d names", len(doc.Packages), len(doc.Files), len(names))
		}
		refs := map[string]bool{}
		for _, comp := range *readCycloneDX(t, written(t, "cyclonedx", c)).Components {
			if refs[comp.BOMRef] {
				t.Fatalf("bom-ref %q is there twice", comp.BOMRef)
			}
			refs[comp.BOMRef] = true
			if comp.Components != nil {
				for _, f := range *comp.Components {
					if refs[f.BOMRef] {
						t.Fatalf("bom-ref %q is there twice", f.BOMRef)
					}
					refs[f.BOMRef] = true
				}
			}
		}
	})
}

// many is a list that nobody holds: every file is of the part hello.
type many int

func (n many) ByPart() iter.Seq2[*File, error] { return n.ByPath() }

func (n many) ByPath() iter.Seq2[*File, error] {
	return func(yield func(*File, error) bool) {
		for i := range int(n) {
			f := file(fmt.Sprintf("usr/share/a/rather/long/path/as/there/are/%09d", i), "x", "deb/hello:amd64", "")
			if !yield(&f, nil) {
				return
			}
		}
	}
}

// The list of files is written as it is made: what is held grows by the 20 bytes
// of a verification code for each, and the slice's room to grow.
func TestMemory(t *testing.T) {
	c := sample()
	c.Files = many(200_000)
	for _, format := range Formats {
		var before runtime.MemStats
		peak := &peakWriter{}
		runtime.GC()
		runtime.ReadMemStats(&before)
		peak.start = before.HeapAlloc
		if err := Write(peak, format, c); err != nil {
			t.Fatal(err)
		}
		if peak.most > 12<<20 {
			t.Errorf("%s: %d MB held while %d MB were written", format, peak.most>>20, peak.bytes>>20)
		}
		if peak.bytes < 50<<20 {
			t.Errorf("%s: only %d bytes were written", format, peak.bytes)
		}
	}
}

// breaking is a list that cannot be read to its end.
type breaking struct{ held }

var errDisk = errors.New("the disk is gone")

func (b breaking) ByPath() iter.Seq2[*File, error] { return b.cut(b.held.ByPath()) }
func (b breaking) ByPart() iter.Seq2[*File, error] { return b.cut(b.held.ByPart()) }

func (breaking) cut(files iter.Seq2[*File, error]) iter.Seq2[*File, error] {
	return func(yield func(*File, error) bool) {
		n := 0
		for f := range files {
			if n++; n == 3 {
				yield(nil, errDisk)
				return
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

// A list that breaks off makes no document that looks whole.
func TestListBreaks(t *testing.T) {
	c := sample()
	c.Files = breaking{c.Files.(held)}
	for _, format := range Formats {
		if err := Write(io.Discard, format, c); err != errDisk {
			t.Errorf("%s: %v", format, err)
		}
	}
	c = sample()
	c.Files = append(c.Files.(held), file("usr/x", "x", "deb/nobody", ""))
	want := `"usr/x" is said to come from "deb/nobody", which is no part of the image, or not in its order`
	if err := CycloneDX(io.Discard, c); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// What the libraries of the forms' makers read of a document is all that is in
// it: written by them, it is the same JSON.
func TestSameAsLibraries(t *testing.T) {
	same := func(t *testing.T, ours, theirs []byte) {
		t.Helper()
		var a, b any
		if err := errors.Join(json.Unmarshal(ours, &a), json.Unmarshal(theirs, &b)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b, a); diff != "" {
			t.Errorf("the library writes (-), we write (+):\n%s", diff)
		}
	}
	t.Run("spdx", func(t *testing.T) {
		ours := written(t, "spdx", sample())
		theirs, err := json.Marshal(readSPDX(t, ours))
		if err != nil {
			t.Fatal(err)
		}
		same(t, ours, theirs)
	})
	t.Run("cyclonedx", func(t *testing.T) {
		ours := written(t, "cyclonedx", sample())
		var theirs bytes.Buffer
		if err := cdx.NewBOMEncoder(&theirs, cdx.BOMFileFormatJSON).Encode(readCycloneDX(t, ours)); err != nil {
			t.Fatal(err)
		}
		same(t, ours, theirs.Bytes())
	})
}

// peakWriter looks at the heap now and then.
type peakWriter struct {
	bytes int64
	looks int
	start uint64
	most  uint64
}

func (w *peakWriter) Write(p []byte) (int, error) {
	w.bytes += int64(len(p))
	if w.looks++; w.looks%100 == 0 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		w.most = max(w.most, m.HeapAlloc-min(m.HeapAlloc, w.start))
	}
	return len(p), nil
}

func TestVerificationCode(t *testing.T) {
	// SPDX 2.3, 7.9: of one file, the SHA-1 of its SHA-1 in hexadecimal digits.
	code := func(files ...File) string {
		code, err := verificationCode(held(files).ByPath())
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if got, want := code(file("a", "", "", "")), fmt.Sprintf("%x", sha1.Sum([]byte("da39a3ee5e6b4b0d3255bfef95601890afd80709"))); got != want { //nolint:gosec // as above
		t.Errorf("got %s, want %s", got, want)
	}
	if code(file("a", "1", "", ""), file("b", "2", "", "")) != code(file("a", "2", "", ""), file("b", "1", "", "")) {
		t.Error("the order of files matters")
	}
}

func TestWriteFails(t *testing.T) {
	for _, format := range Formats {
		if err := Write(failing{}, format, sample()); err != io.ErrShortWrite {
			t.Errorf("%s: %v", format, err)
		}
	}
	if err := Write(io.Discard, "swid", sample()); err == nil || err.Error() != `unknown form of an SBOM "swid": expected one of spdx, cyclonedx` {
		t.Errorf("got %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
