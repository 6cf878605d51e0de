package lockfile

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/strictyaml"
)

var amd64 = definition.Platform{OS: "linux", Architecture: "amd64"}

// pkg makes a package whose digest and path follow from its name and version.
func pkg(name, version string, in ...string) Package {
	p := Package{
		Name: name, Version: version, Arch: "amd64", Size: 1000 + int64(len(name)),
		SHA256:  digest.Of([]byte(name + version)),
		Path:    "pool/main/" + name[:1] + "/" + name + "/" + name + "_" + version + "_amd64.deb",
		Archive: "bookworm",
	}
	for i := 0; i < len(in); i += 2 {
		p.In = append(p.In, Member{Set: in[i], By: in[i+1]})
	}
	return p
}

// sample is a small lock with one of everything.
func sample() *Lock {
	return &Lock{
		Format: 1, Assembler: 1, Epoch: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		Requests: Requests{
			Suite: "bookworm", Components: []string{"main"}, Pockets: []string{"updates", "security"},
			Sets: []SetRequest{
				{Name: "image", Packages: []string{"nginx"}, Scripts: "dpkg", Without: []string{"debconf"}},
				{Name: "step/compile", Packages: []string{"gcc", "nginx=1.22.1-9"}},
			},
			Files: []FileRequest{{Name: "logo", URL: "https://example.org/logo-1.2.tar.gz", Unpack: true}},
		},
		Resolver: Resolver{Name: "apt", Version: "2.6.1"},
		Archives: []Archive{{
			Name: "bookworm", Suite: "oldstable", Date: time.Date(2026, 9, 5, 9, 23, 17, 0, time.UTC),
			InRelease: digest.Of([]byte("InRelease")), SignedBy: []string{"4CB50190207B4758A3F73A796ED0E7B82643E131"},
		}},
		Files: []File{{Name: "logo", URL: "https://example.org/logo-1.2.tar.gz", Size: 12, SHA256: digest.Of([]byte("logo"))}},
		Platforms: []Platform{{
			Platform: amd64,
			Packages: []Package{
				pkg("dpkg", "1.21.22", "configure", "essential", "step/compile", "essential"),
				pkg("gcc", "4:12.2.0-3", "step/compile", "requested"),
				pkg("iproute2", "6.1.0-3", "image", "nginx-common"),
				pkg("libc6", "2.36-9+deb12u10", "image", "nginx", "step/compile", "gcc"),
				pkg("nginx", "1.22.1-9", "image", "requested", "step/compile", "requested"),
				pkg("nginx-common", "1.22.1-9", "image", "nginx"),
				pkg("perl-base", "5.36.0-7", "configure", "iproute2"),
			},
			Waived: []Waiver{{Package: "nginx-common", Needs: "debconf"}},
		}},
	}
}

// shortened names digests and the hex of the one file, to keep tests readable.
var shorten = strings.NewReplacer(
	digest.Of([]byte("InRelease")).Hex(), "<InRelease>",
	digest.Of([]byte("logo")).Hex(), "<logo>",
)

const sampleText = `# Written by "quorate lock". Commit it; do not edit it.
format: 1
assembler: 1
epoch: "2026-11-01T00:00:00Z"
requests:
  debian: {suite: bookworm, components: [main], pockets: [updates, security]}
  sets:
    - {name: image, packages: [nginx], scripts: dpkg, without: [debconf]}
    - {name: step/compile, packages: [gcc, "nginx=1.22.1-9"]}
  files:
    - {name: logo, url: "https://example.org/logo-1.2.tar.gz", unpack: true}
resolver: {name: apt, version: "2.6.1"}
archives:
  - {name: bookworm, suite: oldstable, date: "2026-09-05T09:23:17Z", in-release: <InRelease>, signed-by: [4CB50190207B4758A3F73A796ED0E7B82643E131]}
files:
  - {name: logo, url: "https://example.org/logo-1.2.tar.gz", size: 12, sha256: <logo>}
platforms:
  linux/amd64:
    packages:
      - {name: dpkg, version: "1.21.22", arch: amd64, size: 1004, sha256: 1912eaa9f0ae58a4d8e6b24636626795649b576a0db8d57f42daca75a4ea2a91, path: pool/main/d/dpkg/dpkg_1.21.22_amd64.deb, from: bookworm, in: {configure: essential, step/compile: essential}}
      - {name: gcc, version: "4:12.2.0-3", arch: amd64, size: 1003, sha256: ea4a67bde72ca163328a9ac0e375fe5b756d3d07d63666698288c6544aff1e08, path: "pool/main/g/gcc/gcc_4:12.2.0-3_amd64.deb", from: bookworm, in: {step/compile: requested}}
      - {name: iproute2, version: "6.1.0-3", arch: amd64, size: 1008, sha256: cda1bf126fccff5dcc7cf78f71926f037cdd9891806bd25b490c384e44291935, path: pool/main/i/iproute2/iproute2_6.1.0-3_amd64.deb, from: bookworm, in: {image: nginx-common}}
      - {name: libc6, version: 2.36-9+deb12u10, arch: amd64, size: 1005, sha256: 405220dc37d3b3da6907b55dd1c45241a66ee31f2f5008f60bb6916ff8f06d67, path: pool/main/l/libc6/libc6_2.36-9+deb12u10_amd64.deb, from: bookworm, in: {image: nginx, step/compile: gcc}}
      - {name: nginx, version: "1.22.1-9", arch: amd64, size: 1005, sha256: 6478ee5ef08bd9122e0c75a63eef421e9eb9f8b2f9cacf21a6111e58eb092dde, path: pool/main/n/nginx/nginx_1.22.1-9_amd64.deb, from: bookworm, in: {image: requested, step/compile: requested}}
      - {name: nginx-common, version: "1.22.1-9", arch: amd64, size: 1012, sha256: 6949d45d4374f19113c2d6289876b327621b84e64b0d6b43569bd63e5ce7cc60, path: pool/main/n/nginx-common/nginx-common_1.22.1-9_amd64.deb, from: bookworm, in: {image: nginx}}
      - {name: perl-base, version: "5.36.0-7", arch: amd64, size: 1009, sha256: 7e24b2cdfbb7dae02fc9c17b57d4d779da9a911beaf5ad042c9bc180b6b60aa6, path: pool/main/p/perl-base/perl-base_5.36.0-7_amd64.deb, from: bookworm, in: {configure: iproute2}}
    waived:
      - {package: nginx-common, needs: debconf}
`

func TestFormat(t *testing.T) {
	if got := shorten.Replace(string(Format(sample()))); got != sampleText {
		t.Errorf("got:\n%s\nwant:\n%s", got, sampleText)
	}
	shuffled := sample()
	p := &shuffled.Platforms[0]
	slices.Reverse(p.Packages)
	slices.Reverse(p.Packages[0].In)
	slices.Reverse(shuffled.Requests.Sets)
	slices.Reverse(shuffled.Requests.Sets[0].Packages)
	before := fmt.Sprint(shuffled)
	if got := shorten.Replace(string(Format(shuffled))); got != sampleText {
		t.Errorf("of a lock in another order, got:\n%s", got)
	}
	if fmt.Sprint(shuffled) != before {
		t.Error("Format changed the lock")
	}
}

func TestParse(t *testing.T) {
	got, err := Parse("quorate.lock", Format(sample()))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, sample()) {
		t.Errorf("got  %+v\nwant %+v", got, sample())
	}
	empty := &Lock{Format: 1, Assembler: 3, Epoch: sample().Epoch, Platforms: []Platform{{Platform: amd64}}}
	if got, err := Parse("quorate.lock", Format(empty)); err != nil || !reflect.DeepEqual(got, empty) {
		t.Errorf("got %+v, %v of an empty lock", got, err)
	}
}

// Each change of the text, and the complaint.
func TestParseRefuses(t *testing.T) {
	text := string(Format(sample()))
	const edited = "the lock was edited by hand; run: quorate lock"
	tests := []struct{ summary, old, new, want string }{
		{"nothing", text, "", "1:1: the file is empty"},
		{"cut short in a word", text[len(text)-40:], "", "28:8: platforms.linux/amd64.waived[0] must be a mapping with package, needs, not nothing"},
		{"cut short at a line", "    waived:\n      - {package: nginx-common, needs: debconf}\n", "    waived:\n", "27:12: platforms.linux/amd64.waived must be a list, not nothing"},
		{"a million commas", text, "format: [" + strings.Repeat(",", 1_000_001) + "]", "1:1: the file has more than 1000000 keys and values"},
		{"gigantic", text, strings.Repeat(" ", 8<<20+1), "1:1: the file has 8388609 bytes; at most 8388608 are read"},
		{"no comment", "# Written", "# written", "1:3: " + edited},
		{"own comment", "format: 1\n", "format: 1 # hello\n", "2:10: " + edited},
		{"blank line", "assembler: 1\n", "\nassembler: 1\n", "3:1: " + edited},
		{"no last line end", "debconf}\n", "debconf}", "28:48: " + edited},
		{"CR LF", "format: 1\n", "format: 1\r\n", "2:10: " + edited},
		{"quotes where none are needed", "{name: gcc,", `{name: "gcc",`, "21:16: " + edited},
		{"another order", "{name: dpkg,", "{name: zsh,", "20:16: " + edited},
		{"another order of fields", "size: 12, ", "", `16:5: missing field "size" in files[0]`},
		{"flow turned into lines", "resolver: {name: apt, version: \"2.6.1\"}", "resolver:\n  name: apt\n  version: \"2.6.1\"", "12:10: " + edited},
		{"leading zero", "size: 12,", "size: 012,", "16:68: files[0].size must be a plain decimal number, not 012"},
		{"epoch in another zone", "2026-11-01T00:00:00Z", "2026-11-01T01:00:00+01:00", "4:21: " + edited},
		{"unknown field", "{package: nginx-common, needs", "{package: nginx-common, need", `28:9: missing field "needs" in platforms.linux/amd64.waived[0]
28:33: unknown field "need" in platforms.linux/amd64.waived[0]; did you mean "needs"?`},
		{"digest cut short", digest.Of([]byte("logo")).Hex(), "3598ce", `16:80: digest "3598ce" is not 64 lower-case hexadecimal digits`},
		{"merge undone", "assembler: 1\n", "<<<<<<< HEAD\nassembler: 1\n=======\nassembler: 2\n>>>>>>> b\n", "3:1: a merge was left undone here; take either side, then run: quorate lock"},
		{"merge undone at the top", "# Written", "<<<<<<< HEAD\n# Written", "1:1: a merge was left undone here; take either side, then run: quorate lock"},
		{"no format", "format: 1\n", "", `2:1: missing field "format"`},
		{"format zero", "format: 1\n", "format: 0\n", "2:9: format must be from 1 to 1, not 0"},
		{"unknown platform", "  linux/amd64:", "  linux/amd46:", `18:3: unknown platform "linux/amd46"; did you mean "linux/amd64"?`},
		{"path that escapes", "path: pool/main/d/dpkg/dpkg_1.21.22_amd64.deb", `path: "../x"`, `20:9: package "dpkg" has path "../x", which is not a clean path inside its archive`},
		{"archive that is not there", "from: bookworm, in: {configure: iproute2}", "from: sid, in: {configure: iproute2}", `26:9: package "perl-base" comes from archive "sid", which the lock does not have`},
		{"set nobody asked for", "{configure: iproute2}", "{step/x: iproute2}", `26:9: package "perl-base" is in set "step/x", which was not asked for`},
		{"aliases", "resolver: {name: apt", "resolver: {name: &x apt", "12:18: an anchor (&x) is not allowed; write the value out where it is needed"},
	}
	for _, test := range tests {
		if !strings.Contains(text, test.old) {
			t.Errorf("%s: no %q", test.summary, test.old)
			continue
		}
		l, err := Parse("quorate.lock", []byte(strings.Replace(text, test.old, test.new, 1)))
		if got := heads(err); got != test.want || l != nil {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

// heads returns place and message of every error, one a line.
func heads(err error) string {
	var all *strictyaml.Errors
	if !errors.As(err, &all) {
		return fmt.Sprintf("no *Errors: %v", err)
	}
	var lines []string
	for _, e := range *all {
		first, _, _ := strings.Cut(e.Error(), "\n")
		lines = append(lines, strings.TrimPrefix(first, "quorate.lock:"))
	}
	return strings.Join(lines, "\n")
}

func TestNewerFormat(t *testing.T) {
	_, err := Parse("quorate.lock", []byte("format: 2\nnews: [1]\n"))
	var newer *VersionError
	if !errors.As(err, &newer) || err.Error() != "quorate.lock was written by a newer Quorate: it has lock format 2, this one reads up to 1" {
		t.Errorf("got %v", err)
	}
}

func TestValidate(t *testing.T) {
	if err := sample().Validate(); err != nil {
		t.Fatal(err)
	}
	p := func(l *Lock) *Package { return &l.Platforms[0].Packages[3] } // libc6
	tests := []struct {
		summary string
		change  func(*Lock)
		want    string
	}{
		{"format", func(l *Lock) { l.Format = 0 }, "lock format is 0, not 1"},
		{"assembler", func(l *Lock) { l.Assembler = 0 }, "assembler version is 0; versions begin at 1"},
		{"epoch", func(l *Lock) { l.Epoch = time.Time{} }, "epoch 0001-01-01T00:00:00Z is before 1980-01-01, which zip files cannot write"},
		{"no platform", func(l *Lock) { l.Platforms = nil }, "the lock has no platform"},
		{"platform twice", func(l *Lock) { l.Platforms = append(l.Platforms, Platform{Platform: amd64}) }, "platform linux/amd64 is there twice"},
		{"platform unknown", func(l *Lock) { l.Platforms[0].Platform.OS = "plan9" }, `unknown platform "plan9/amd64"`},
		{"resolver without version", func(l *Lock) { l.Resolver.Version = "" }, "resolver has no name or no version"},
		{"sets of no suite", func(l *Lock) { l.Requests.Suite = "" }, "packages were requested from no suite"},
		{"set of a bad name", func(l *Lock) { l.Requests.Sets = append(l.Requests.Sets, SetRequest{Name: "steps/x"}) }, `set "steps/x" is neither "image" nor "step/NAME"`},
		{"bad request", func(l *Lock) { l.Requests.Sets[0].Packages[0] = "NGINX" }, `set "image": "NGINX" is not a package name: lower-case letters, digits, "+", "-" and ".", at least two`},
		{"archive without digest", func(l *Lock) { l.Archives[0].InRelease = digest.Digest{} }, `archive "bookworm" has no digest`},
		{"archive of no date", func(l *Lock) { l.Archives[0].Date = time.Time{} }, `archive "bookworm" has the impossible date 0001-01-01T00:00:00Z`},
		{"archive of no key", func(l *Lock) { l.Archives[0].SignedBy = nil }, `archive "bookworm" was signed by nobody`},
		{"archive of a short key", func(l *Lock) { l.Archives[0].SignedBy = []string{"82643E131"} }, `archive "bookworm": "82643E131" is not one more fingerprint of 40 upper-case hexadecimal digits`},
		{"file without digest", func(l *Lock) { l.Files[0].SHA256 = digest.Digest{} }, `file "logo" has no digest`},
		{"file of no size", func(l *Lock) { l.Files[0].Size = 0 }, `file "logo" has size 0`},
		{"file from elsewhere", func(l *Lock) { l.Files[0].URL = "https://example.com/x" }, `file "logo" from https://example.com/x was not asked for`},
		{"file not locked", func(l *Lock) { l.Files = nil }, `file "logo" was asked for and is not locked`},
		{"two versions of one package", func(l *Lock) {
			other := *p(l)
			other.Version, other.SHA256 = "2.37-1", digest.Of(nil)
			l.Platforms[0].Packages = append(l.Platforms[0].Packages, other)
		}, "package libc6:amd64 is there twice, as 2.36-9+deb12u10 and 2.37-1; one platform has one version of a package"},
		{"bad package name", func(l *Lock) { p(l).Name = "li bc" }, `"li bc" is not a package name: lower-case letters, digits, "+", "-" and ".", at least two`},
		{"bad version", func(l *Lock) { p(l).Version = "v2" }, `package "libc6": "v2" is not a Debian version`},
		{"bad architecture", func(l *Lock) { p(l).Arch = "x86_64" }, `package "libc6" has unknown architecture "x86_64"`},
		{"no size", func(l *Lock) { p(l).Size = 0 }, `package "libc6" has size 0`},
		{"no digest", func(l *Lock) { p(l).SHA256 = digest.Digest{} }, `package "libc6" has no digest`},
		{"absolute path", func(l *Lock) { p(l).Path = "/etc/passwd" }, `package "libc6" has path "/etc/passwd", which is not a clean path inside its archive`},
		{"path that escapes", func(l *Lock) { p(l).Path = "pool/../../x" }, `package "libc6" has path "pool/../../x", which is not a clean path inside its archive`},
		{"path with a query", func(l *Lock) { p(l).Path = "pool/x?y" }, `package "libc6" has path "pool/x?y", which is not a clean path inside its archive`},
		{"no path", func(l *Lock) { p(l).Path = "" }, `package "libc6" has path "", which is not a clean path inside its archive`},
		{"unknown archive", func(l *Lock) { p(l).Archive = "sid" }, `package "libc6" comes from archive "sid", which the lock does not have`},
		{"no set", func(l *Lock) { p(l).In = nil }, `package "libc6" is in no set`},
		{"unknown set", func(l *Lock) { p(l).In[0].Set = "step/x" }, `package "libc6" is in set "step/x", which was not asked for`},
		{"set twice", func(l *Lock) { p(l).In[0].Set = "step/compile" }, `package "libc6" is in set "step/compile" twice`},
		{"needed by nobody", func(l *Lock) { p(l).In[0].By = "vim" }, `package "libc6" is in set "image" because of "vim", which is not in the lock`},
		{"waiver of nobody", func(l *Lock) { l.Platforms[0].Waived[0].Package = "vim" }, `waiver of "debconf" for "vim" is not about a package of the lock, or is there twice`},
	}
	for _, test := range tests {
		l := sample()
		test.change(l)
		err := l.Validate()
		var invalid *InvalidError
		if !errors.As(err, &invalid) || !slices.Contains(invalid.Problems, test.want) {
			t.Errorf("%s:\n got %v\nwant %s", test.summary, err, test.want)
		}
		if _, err := Parse("quorate.lock", Format(l)); err == nil {
			t.Errorf("%s: Parse accepts it", test.summary)
		}
	}
}

// drawLock makes any valid lock.
func drawLock(t *rapid.T) *Lock {
	name := rapid.StringMatching(`[a-z0-9][a-z0-9+.-]{1,12}`)
	word := rapid.StringMatching(`[!-~\x{e9}\x{1F600}]{1,20}`)
	version := rapid.StringMatching(`([0-9]{1,2}:)?[0-9][A-Za-z0-9.+~-]{0,12}`)
	epoch := func(label string) time.Time {
		return time.Unix(rapid.Int64Range(315532800, 253402300799).Draw(t, label), 0).UTC()
	}
	sum := func(label string) digest.Digest { return digest.Of([]byte(rapid.String().Draw(t, label))) }
	l := &Lock{Format: 1, Assembler: rapid.IntRange(1, 99).Draw(t, "assembler"), Epoch: epoch("epoch")}
	if rapid.Bool().Draw(t, "debian") {
		l.Requests.Suite = word.Draw(t, "suite")
		l.Requests.Components = rapid.SliceOfN(word, 1, 3).Draw(t, "components")
		l.Requests.Sets = []SetRequest{
			{Name: "image", Packages: rapid.SliceOfN(name, 1, 3).Draw(t, "packages"), Scripts: "dpkg", Essential: rapid.Bool().Draw(t, "essential")},
			{Name: "step/" + rapid.StringMatching(`[a-z0-9]{1,9}`).Draw(t, "step"), Packages: rapid.SliceOfN(name, 1, 3).Draw(t, "packages")},
		}
		l.Resolver = Resolver{word.Draw(t, "resolver"), word.Draw(t, "resolver version")}
		l.Archives = []Archive{{
			Name: word.Draw(t, "archive"), Suite: word.Draw(t, "suite"), Date: epoch("date"), InRelease: sum("in-release"),
			SignedBy: []string{rapid.StringMatching(`[0-9A-F]{40}`).Draw(t, "key")},
		}}
	}
	for _, n := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9]{1,9}`), 0, 3, rapid.ID).Draw(t, "files") {
		url := "https://example.org/" + rapid.StringMatching(`[A-Za-z0-9._/~-]{0,20}`).Draw(t, "url")
		l.Requests.Files = append(l.Requests.Files, FileRequest{n, url, rapid.Bool().Draw(t, "unpack")})
		l.Files = append(l.Files, File{n, url, rapid.Int64Range(1, 1<<40).Draw(t, "size"), sum("sha256")})
	}
	for _, arch := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"amd64", "arm64", "386"}), 1, 3, rapid.ID).Draw(t, "platforms") {
		p := Platform{Platform: definition.Platform{OS: "linux", Architecture: arch}}
		if l.Requests.Suite != "" {
			for _, n := range rapid.SliceOfNDistinct(name, 0, 8, rapid.ID).Draw(t, "names") {
				p.Packages = append(p.Packages, Package{
					Name: n, Version: version.Draw(t, "version"), Arch: rapid.SampledFrom([]string{"all", "amd64", "i386"}).Draw(t, "arch"),
					Size: rapid.Int64Range(1, 1<<40).Draw(t, "size"), SHA256: sum("sha256"), Path: "pool/" + n, Archive: l.Archives[0].Name,
					In: []Member{{"configure", "essential"}, {"image", rapid.SampledFrom([]string{"requested", n}).Draw(t, "by")}},
				})
			}
		}
		l.Platforms = append(l.Platforms, p)
	}
	return Sorted(l)
}

func TestFormatAndParseUndoEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLock(t)
		if err := l.Validate(); err != nil {
			t.Fatalf("drew a bad lock: %v", err)
		}
		text := Format(l)
		got, err := Parse("quorate.lock", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(got, l) {
			t.Fatalf("got  %#v\nwant %#v\n%s", got, l, text)
		}
		if c := Diff(l, got); c != nil {
			t.Fatalf("differs from itself: %v", c)
		}
	})
}

// Whatever is accepted is written back byte for byte.
func FuzzParse(f *testing.F) {
	f.Add(Format(sample()))
	f.Add([]byte("format: 1\n"))
	f.Add(Format(&Lock{Format: 1, Assembler: 1, Epoch: sample().Epoch, Platforms: []Platform{{Platform: amd64}}}))
	f.Add(bytes.ReplaceAll(Format(sample()), []byte("\n"), []byte("\r\n")))
	f.Add(bytes.ReplaceAll(Format(sample()), []byte("step/compile"), []byte("? ")))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse("f", data)
		if err != nil {
			return
		}
		if !bytes.Equal(Format(l), data) {
			t.Fatalf("accepted %q, which is written %q", data, Format(l))
		}
		if err := l.Validate(); err != nil {
			t.Fatalf("accepted an invalid lock: %v", err)
		}
		for _, p := range l.Platforms {
			for _, pkg := range p.Packages {
				if _, err := Why(l, pkg.Name); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func large(n int) *Lock {
	l := sample()
	l.Platforms[0].Packages, l.Platforms[0].Waived = nil, nil
	for i := range n {
		l.Platforms[0].Packages = append(l.Platforms[0].Packages, pkg(fmt.Sprintf("package-%06d", i), "1:2.3-4+deb12u1", "image", "package-000000", "step/compile", "requested"))
	}
	return l
}

func BenchmarkParse5000(b *testing.B) {
	text := Format(large(5000))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("quorate.lock", text); err != nil {
			b.Fatal(err)
		}
	}
}
