package deb

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile/digest"
)

const zeroes = "0000000000000000000000000000000000000000000000000000000000000001"

const goodStanza = `Package: libc6
Source: glibc
Version: 2.36-9+deb12u10
Architecture: amd64
Essential: yes
Multi-Arch: same
Section: libs
Priority: optional
Depends: libgcc-s1,
 libcrypt1 (>= 1:4.4.10-10~)
Description: GNU C Library
 Size: this is text
Filename: pool/main/g/glibc/libc6_2.36-9+deb12u10_amd64.deb
Size: 2758636
SHA256: ` + zeroes + "\n"

func TestParsePackages(t *testing.T) {
	var got []Stanza
	err := ParsePackages(strings.NewReader("\n"+goodStanza+"\n\n"+strings.Replace(goodStanza, "libc6", "libc7", 1)), func(s Stanza) error {
		got = append(got, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sum, err := digest.ParseHex(zeroes)
	if err != nil {
		t.Fatal(err)
	}
	want := Stanza{Package: "libc6", Source: "glibc", Version: "2.36-9+deb12u10", Architecture: "amd64", Essential: true,
		MultiArch: "same", Section: "libs", Priority: "optional", Depends: "libgcc-s1, libcrypt1 (>= 1:4.4.10-10~)",
		Filename: "pool/main/g/glibc/libc6_2.36-9+deb12u10_amd64.deb", Size: 2758636, SHA256: sum}
	second := want
	second.Package = "libc7"
	if diff := cmp.Diff([]Stanza{want, second}, got); diff != "" {
		t.Error(diff)
	}
}

func TestParsePackagesRefuses(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(goodStanza, old, new, 1) }
	for _, test := range []struct{ summary, text, want string }{
		{"continuation first", " x\n", `:1: paragraph begins with a continuation line`},
		{"no colon", "Package\n", `:1: line is neither a field nor a continuation: "Package"`},
		{"field twice", change("Section: libs", "Version: 1"), `:7: field Version stands twice`},
		{"no name", change("Package: libc6\n", ""), `:14: paragraph has no Package`},
		{"option as name", change("Package: libc6", "Package: -rf"), `:15: package name "-rf" is not one`},
		{"bad version", change("2.36-9+deb12u10", "2 36"), `:15: package "libc6": version "2 36" holds the character ' '`},
		{"bad architecture", change("amd64", "../x"), `:15: package "libc6": architecture "../x" is not one`},
		{"absolute path", change("pool/main", "/main"), `:15: package "libc6": path "/main/g/glibc/libc6_2.36-9+deb12u10_amd64.deb" is not a clean relative path`},
		{"path that climbs", change("pool/main", "../main"), `:15: package "libc6": path "../main/g/glibc/libc6_2.36-9+deb12u10_amd64.deb" is not a clean relative path`},
		{"path not clean", change("pool/main", "pool/./main"), `:15: package "libc6": path "pool/./main/g/glibc/libc6_2.36-9+deb12u10_amd64.deb" is not a clean relative path`},
		{"path with a blank", change("pool/main", "pool/ma in"), `:15: package "libc6": path "pool/ma in/g/glibc/libc6_2.36-9+deb12u10_amd64.deb" holds the character ' '`},
		{"no path", change("Filename", "Otherfile"), `:15: package "libc6": no Filename`},
		{"size negative", change("2758636", "-1"), `:14: field Size is "-1", not a size from 1 to 68719476736`},
		{"no size", change("Size: 2758636\n", ""), `:14: package "libc6" has no Size`},
		{"digest too short", change(zeroes, "12"), `:15: field SHA256: digest "12" is not 64 lower-case hexadecimal digits`},
		{"no digest", change("SHA256", "SHA512"), `:15: package "libc6" has no SHA256`},
		{"unknown Multi-Arch", change("same", "perhaps"), `:15: package "libc6": Multi-Arch is "perhaps"`},
		{"endless line", "Package: " + strings.Repeat("x", maxLine), `:1: line is longer than 1048576 bytes`},
		{"endless field", "Package: x\n" + strings.Repeat(" "+strings.Repeat("y", 1<<19)+"\n", 3), `:3: field is longer than 1048576 bytes`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			err := ParsePackages(strings.NewReader(test.text), func(Stanza) error { return nil })
			var bad *IndexError
			if !errors.As(err, &bad) || bad.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestParsePackagesReturnsTheCallersError(t *testing.T) {
	stop := errors.New("stop")
	if err := ParsePackages(strings.NewReader(goodStanza), func(Stanza) error { return stop }); err != stop {
		t.Errorf("got %v, expected the caller's own error", err)
	}
}

// writeStanza is the canonical form of a paragraph.
func writeStanza(s Stanza) string {
	var b strings.Builder
	for _, f := range []struct{ name, value string }{
		{"Package", s.Package}, {"Version", s.Version}, {"Architecture", s.Architecture}, {"Source", s.Source}, {"Section", s.Section},
		{"Priority", s.Priority}, {"Multi-Arch", s.MultiArch}, {"Depends", s.Depends}, {"Pre-Depends", s.PreDepends},
		{"Conflicts", s.Conflicts}, {"Breaks", s.Breaks}, {"Provides", s.Provides}, {"Filename", s.Filename},
		{"Size", fmt.Sprint(s.Size)}, {"SHA256", s.SHA256.Hex()},
	} {
		if f.value != "" {
			b.WriteString(f.name + ": " + f.value + "\n")
		}
	}
	if s.Essential {
		b.WriteString("Essential: yes\n")
	}
	return b.String() + "\n"
}

func FuzzParsePackages(f *testing.F) {
	f.Add([]byte(goodStanza))
	f.Add([]byte("Package: a\n\tb\n\n"))
	f.Add([]byte(strings.ReplaceAll(goodStanza, "\n", "\r\n")))
	f.Fuzz(func(t *testing.T, text []byte) {
		var all []Stanza
		if ParsePackages(bytes.NewReader(text), func(s Stanza) error { all = append(all, s); return nil }) != nil {
			return
		}
		for _, s := range all {
			if path.Clean("/"+s.Filename) != "/"+s.Filename {
				t.Errorf("path %q leaves the archive", s.Filename)
			}
			var again []Stanza
			err := ParsePackages(strings.NewReader(writeStanza(s)), func(s Stanza) error { again = append(again, s); return nil })
			if err != nil || len(again) != 1 || again[0] != s {
				t.Errorf("written and read again, %+v is %+v, %v", s, again, err)
			}
		}
	})
}

func TestParseRelations(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{" libc6 (>= 2.36) ,  libgcc-s1", "libc6 (>= 2.36), libgcc-s1"},
		{"a0|b0 (<<1)|c0:any(=2:1-1)", "a0 | b0 (<< 1) | c0:any (= 2:1-1)"},
		{"old (< 1), older (> 2),", "old (<= 1), older (>= 2)"},
	} {
		clauses, err := ParseRelations(test.text)
		if got := FormatRelations(clauses); err != nil || got != test.want {
			t.Errorf("ParseRelations(%q) = %q, %v; expected %q", test.text, got, err, test.want)
		}
	}
	for text, want := range map[string]string{
		"a0,,b0":               `relation "" does not name a package`,
		"a0 | ":                `relation "" does not name a package`,
		"Upper":                `relation "Upper" does not name a package`,
		"a0 (1.0)":             `relation "a0 (1.0)" has no comparison`,
		"a0 (>< 1.0)":          `relation "a0 (>< 1.0)" has no comparison`,
		"a0 (>= )":             `relation "a0 (>= )" has a bad version: version is empty`,
		"a0 (>= 1":             `relation "a0 (>= 1" has text after its version`,
		"a0 (>= 1) [amd64]":    `relation "a0 (>= 1) [amd64]" has text after its version`,
		"a0 [amd64]":           `relation "a0 [amd64]" does not name a package`,
		"a0:":                  `relation "a0:" has an architecture that is not one`,
		strings.Repeat("a", 2): "",
	} {
		_, err := ParseRelations(text)
		if got := fmt.Sprint(err); got != want && !(err == nil && want == "") {
			t.Errorf("ParseRelations(%q): got %s, expected %s", text, got, want)
		}
	}
}

func FuzzParseRelations(f *testing.F) {
	f.Add("libc6 (>= 2.36), a0 | b0:any (<< 1~)")
	f.Add(" x0 (< 1),")
	f.Fuzz(func(t *testing.T, text string) {
		clauses, err := ParseRelations(text)
		if err != nil {
			return
		}
		once := FormatRelations(clauses)
		again, err := ParseRelations(once)
		if err != nil || FormatRelations(again) != once {
			t.Errorf("%q is written %q and read as %v, %v", text, once, again, err)
		}
	})
}

func TestParseRelease(t *testing.T) {
	const good = "Suite: stable\nCodename: bookworm\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nComponents: updates/main\nArchitectures: all amd64\n" +
		"MD5Sum:\n broken line here really\nSHA256:\n " + zeroes + "  7 main/binary-amd64/Packages\n"
	r, err := parseRelease([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if !r.has("main", "amd64") || r.Files["main/binary-amd64/Packages"].Size != 7 || r.Codename != "bookworm" || r.Date.Year() != 2026 {
		t.Errorf("got %+v", r)
	}
	for _, test := range []struct{ summary, text, want string }{
		{"two paragraphs", good + "\nSuite: other\n", `:10: an empty line: a Release file is one paragraph`},
		{"field twice", good + "Suite: other\n", `:10: field Suite stands twice`},
		{"bad date", strings.Replace(good, "Sat, 11 Jul", "11 July", 1), `:3: field Date is "11 July 2026 10:16:37 UTC", not a time like "Sat, 11 Jul 2026 10:16:37 UTC"`},
		{"no date", strings.Replace(good, "Date:", "Data:", 1), `: no Date`},
		{"no digests", strings.Replace(good, "SHA256:", "SHA1:", 1), `: no SHA256 digests`},
		{"digest line of four words", strings.Replace(good, "  7 main", "  7 8 main", 1), `:9: digest line has 4 words, expected digest, size and path`},
		{"two digests of a file", good + " " + strings.Replace(zeroes, "01", "02", 1) + " 7 main/binary-amd64/Packages\n",
			`:10: file "main/binary-amd64/Packages" stands twice, with different digests`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			if _, err := parseRelease([]byte(test.text)); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte("Suite: s\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nSHA256:\n " + zeroes + " 7 x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRelease(text)
		if err == nil && (r.Date.IsZero() || len(r.Files) == 0) {
			t.Errorf("accepted without date or digests: %+v", r)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	ix := testIndex(f, "amd64", goodStanza)
	f.Add("'http://test.invalid/pool/main/g/glibc/libc6_2.36-9%2bdeb12u10_amd64.deb' libc6_2.36-9+deb12u10_amd64.deb 2758636 SHA256:" + zeroes + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		answer, err := ix.parseAnswer(text)
		if err == nil && len(answer) > 1 {
			t.Errorf("%q names %d packages of an index of one", text, len(answer))
		}
	})
}

func TestParseAnswer(t *testing.T) {
	ix := testIndex(t, "amd64", goodStanza)
	const good = "'http://test.invalid/pool/main/g/glibc/libc6_2.36-9%2bdeb12u10_amd64.deb' libc6_2.36-9+deb12u10_amd64.deb 2758636 SHA256:" + zeroes + "\n"
	if answer, err := ix.parseAnswer(good); err != nil || len(answer) != 1 {
		t.Fatalf("got %v, %v", answer, err)
	}
	for _, test := range []struct{ summary, text, want string }{
		{"something else", "Reading package lists...\n", `it holds the line "Reading package lists..."`},
		{"other hash", strings.Replace(good, "SHA256", "MD5Sum", 1), `it holds the line "'http://test.invalid/pool/main/g/glibc/libc6_2.36-9%2bdeb12u10_amd64.deb' libc6_…"`},
		{"twice", good + good, `it names "libc6_2.36-9+deb12u10_amd64.deb" twice`},
		{"unknown path", strings.Replace(good, "/libc6_", "/libc7_", 1), `it names "pool/main/g/glibc/libc7_2.36-9+deb12u10_amd64.deb" of "test", which the verified index does not have`},
		{"unknown archive", strings.Replace(good, "//test", "//other", 1), `it names "pool/main/g/glibc/libc6_2.36-9+deb12u10_amd64.deb" of "other", which the verified index does not have`},
		{"other size", strings.Replace(good, "2758636", "2758637", 1),
			`it says libc6_2.36-9+deb12u10_amd64.deb, 2758637 bytes, 000000000000 of "pool/main/g/glibc/libc6_2.36-9+deb12u10_amd64.deb"; the verified index says libc6_2.36-9+deb12u10_amd64.deb, 2758636 bytes, 000000000000`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			if _, err := ix.parseAnswer(test.text); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	for _, test := range []struct{ summary, stdout, stderr, want string }{
		{"classic solver", "Reading package lists...\nThe following packages have unmet dependencies:\n exim4-config :  Conflicts: postfix\n b : Depends: c\nMore text\n x\n",
			"W: a warning\nE: Unable to correct problems, you have held broken packages.\n", "exim4-config : Conflicts: postfix\nb : Depends: c"},
		{"solver3 adds lines", "The following packages have unmet dependencies:\n b : Depends: c\n",
			"E: Unable to correct problems, you have held broken packages.\nE: The following information may provide context:\n   Unable to satisfy:\n   1. b\nW: x\n  y\n",
			"b : Depends: c\nThe following information may provide context:\nUnable to satisfy:\n1. b"},
		{"nothing but an error", "", "E: Unable to correct problems, you have held broken packages.\n", "Unable to correct problems, you have held broken packages."},
		{"nothing", "", "", ""},
	} {
		if got := explain(test.stdout, test.stderr); got != test.want {
			t.Errorf("%s: got %q\nwant %q", test.summary, got, test.want)
		}
	}
}

// testIndex makes an index of one archive, "test". Paragraphs may leave out
// what every package has.
func testIndex(t testing.TB, arch, text string) *Index {
	t.Helper()
	var full strings.Builder
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		for _, f := range []string{"Version: 1", "Architecture: " + arch, fmt.Sprintf("Filename: pool/%d.deb", i), "Size: 1", "SHA256: " + zeroes} {
			name, _, _ := strings.Cut(f, ":")
			if !strings.Contains("\n"+p, "\n"+name+":") {
				p += "\n" + f
			}
		}
		full.WriteString(p + "\n\n")
	}
	a := &archive{rel: &release{}}
	a.Name = "test"
	ix := newIndex("test", arch, nil, []*archive{a})
	if err := ParsePackages(strings.NewReader(full.String()), func(s Stanza) error { return ix.add(0, s) }); err != nil {
		t.Fatal(err)
	}
	ix.finish()
	return ix
}

func BenchmarkParsePackages(b *testing.B) {
	var text bytes.Buffer
	for range 10000 {
		text.WriteString(goodStanza + "Tag: role::shared-lib\nMD5sum: 0123\n\n")
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if err := ParsePackages(bytes.NewReader(text.Bytes()), func(Stanza) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
