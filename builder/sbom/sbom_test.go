package sbom

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // as in the package
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	spdxjson "github.com/spdx/tools-golang/json"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
	"pgregory.net/rapid"

	"quorate.dev/lockfile/digest"
)

func file(path, body, part, how string) File {
	return File{Path: path, Size: int64(len(body)), SHA256: digest.Of([]byte(body)), SHA1: sha1.Sum([]byte(body)), Part: part, How: how} //nolint:gosec // as above
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
			{Key: "local/app", Kind: "local", Name: "app", Tree: digest.Of([]byte("tree")), UsedBy: []string{"step/compile"}, Archive: true},
			{Key: "step/compile", Kind: "step", Name: "greeter/compile", Tree: digest.Of([]byte("out")), MadeFrom: []string{"local/app"}, Shipped: true},
		},
		Files: []File{
			file("etc/hello.conf", "changed", "deb/hello:amd64", "changed by maintainer scripts"),
			file("etc/state", "", "", "made by maintainer scripts"),
			file("usr/bin/greeter", "binary", "step/compile", ""),
			file("usr/bin/hello", "hello", "deb/hello:amd64", ""),
		},
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
	if len(doc.Packages) != 6 || len(doc.Files) != 4 || len(doc.OtherLicenses) != 1 {
		t.Errorf("%d packages, %d files, %d licences", len(doc.Packages), len(doc.Files), len(doc.OtherLicenses))
	}
	var all []string
	for _, r := range doc.Relationships {
		all = append(all, fmt.Sprintf("%s %s %s", short(string(r.RefA.ElementRefID)), r.Relationship, short(string(r.RefB.ElementRefID))))
	}
	for _, want := range []string{
		"DOCUMENT DESCRIBES Image", "Image CONTAINS Part-deb-hello.3aamd64", "Part-deb-gcc.3aamd64 BUILD_TOOL_OF Part-step-compile",
		"Part-deb-hello.3aamd64 DEPENDS_ON Part-deb-libhello.3aamd64", "Part-step-compile GENERATED_FROM Part-local-app",
	} {
		if !slices.Contains(all, want) {
			t.Errorf("lacks %q of\n%s", want, strings.Join(all, "\n"))
		}
	}
	if slices.Contains(all, "Image CONTAINS Part-deb-gcc.3aamd64") {
		t.Error("what only the build needs is shipped")
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
		"part/local/app file excluded",
		"part/step/compile application required /usr/bin/greeter",
		"file/etc/state file ",
	}
	if !slices.Equal(all, want) {
		t.Errorf("got\n%s", strings.Join(all, "\n"))
	}
	if bom.SerialNumber != "" || bom.Metadata.Timestamp != "2026-11-01T00:00:00Z" {
		t.Errorf("not the same each time: %q %q", bom.SerialNumber, bom.Metadata.Timestamp)
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
			c.Parts = append(c.Parts, Part{Key: "npm/" + n, Kind: "npm", Name: n, Version: n, Supplier: n, Source: n, Homepage: n, Summary: n, Shipped: true, Why: []string{n}, Lacks: []string{n}})
			c.Files = append(c.Files, file("x/"+n, n, "npm/"+n, ""))
		}
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
		if len(doc.Packages) != 6+len(names) || len(doc.Files) != 4+len(names) {
			t.Fatalf("%d packages and %d files of %d names", len(doc.Packages), len(doc.Files), len(names))
		}
		refs := map[string]bool{}
		for _, comp := range *readCycloneDX(t, written(t, "cyclonedx", c)).Components {
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

// The list of files is written as it is made: what is held does not grow with it.
func TestMemory(t *testing.T) {
	c := sample()
	for i := range 200_000 {
		c.Files = append(c.Files, file(fmt.Sprintf("usr/share/a/rather/long/path/as/there/are/%09d", i), "x", "deb/hello:amd64", ""))
	}
	for _, format := range Formats {
		var before, after runtime.MemStats
		peak := &peakWriter{}
		runtime.GC()
		runtime.ReadMemStats(&before)
		peak.start = before.HeapAlloc
		if err := Write(peak, format, c); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		// A document of 200,000 files has about 100 MB; the sums of the
		// verification code and the list of each part's files are some 20 MB.
		if peak.most > 64<<20 {
			t.Errorf("%s: %d MB held while %d MB were written", format, peak.most>>20, peak.bytes>>20)
		}
		if peak.bytes < 50<<20 {
			t.Errorf("%s: only %d bytes were written", format, peak.bytes)
		}
	}
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
	if got, want := verificationCode([]File{file("a", "", "", "")}), fmt.Sprintf("%x", sha1.Sum([]byte("da39a3ee5e6b4b0d3255bfef95601890afd80709"))); got != want { //nolint:gosec // as above
		t.Errorf("got %s, want %s", got, want)
	}
	a, b := file("a", "1", "", ""), file("b", "2", "", "")
	if verificationCode([]File{a, b}) != verificationCode([]File{b, a}) {
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
