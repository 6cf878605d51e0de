package deb

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"reflect"
	"strings"
	"testing"

	"quorate.dev/lockfile/digest"
)

var goodSource = `Package: jansson
Binary: libjansson4, libjansson-dev,
 libjansson-doc
Version: 2.14-2
Maintainer: Somebody <s@example.org>
Format: 3.0 (quilt)
Files:
 d41d8cd98f00b204e9800998ecf8427e 1980 jansson_2.14-2.dsc
Checksums-Sha256:
 ` + zeroes + ` 1980 jansson_2.14-2.dsc
 ` + zeroes + ` 141500 jansson_2.14.orig.tar.gz
 ` + zeroes + ` 5428 jansson_2.14-2.debian.tar.xz
Directory: pool/main/j/jansson
Priority: source
`

func TestParseSourceIndex(t *testing.T) {
	zero, _ := digest.ParseHex(zeroes)
	want := []SourceStanza{
		{
			Package: "jansson", Version: "2.14-2", Format: "3.0 (quilt)", Binary: []string{"libjansson4", "libjansson-dev", "libjansson-doc"},
			Directory: "pool/main/j/jansson",
			Files:     []SourceFile{{"jansson_2.14-2.dsc", 1980, zero}, {"jansson_2.14.orig.tar.gz", 141500, zero}, {"jansson_2.14-2.debian.tar.xz", 5428, zero}},
		},
		{
			Package: "old", Version: "1:0.9", Extra: true, Directory: "pool/main/o/old", Format: "1.0",
			Files: []SourceFile{{"old_0.9.tar.gz", 7, zero}},
		},
	}
	text := "\n" + goodSource + "\n \n\nPackage: old\nVersion: 1:0.9\nExtra-Source-Only: yes\nFormat: 1.0\nDirectory: pool/main/o/old\nChecksums-Sha256:\n " + zeroes + " 7 old_0.9.tar.gz"
	for _, form := range []string{text, strings.ReplaceAll(text, "\n", "\r\n")} {
		var got []SourceStanza
		if err := ParseSourceIndex(strings.NewReader(form), func(s SourceStanza) error { got = append(got, s); return nil }); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestParseSourceIndexRefuses(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(goodSource, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(goodSource, old, new, 1)
	}
	for _, test := range []struct{ summary, text, want string }{
		{"continuation first", " x\n", `:1: paragraph begins with a continuation line`},
		{"no colon", "Package\n", `:1: line is neither a field nor a continuation: "Package"`},
		{"field twice", change("Priority: source", "Version: 1"), `:14: field Version stands twice`},
		{"digests twice", change("Priority: source", "Checksums-Sha256:"), `:14: field Checksums-Sha256 stands twice`},
		{"a version of two lines", change("2.14-2\nMain", "2.14-2\n 3\nMain"), `:5: field Version has more than one line`},
		{"no name", change("Package: jansson\n", ""), `:13: paragraph has no Package`},
		{"option as name", change("Package: jansson", "Package: -rf"), `:14: package name "-rf" is not one`},
		{"bad version", change("Version: 2.14-2", "Version: 2 14"), `:14: package "jansson": version "2 14" holds the character ' '`},
		{"no version", change("Version: 2.14-2\n", ""), `:13: package "jansson": version is empty`},
		{"a format like markup", change("3.0 (quilt)", "3.0 {quilt}"), `:14: package "jansson": format "3.0 {quilt}" is not one`},
		{"absolute folder", change("pool/main", "/main"), `:14: package "jansson": path "/main/j/jansson/jansson_2.14-2.dsc" is not a clean relative path`},
		{"folder that climbs", change("pool/main", "../main"), `:14: package "jansson": path "../main/j/jansson/jansson_2.14-2.dsc" is not a clean relative path`},
		{"folder not clean", change("pool/main", "pool/./main"), `:14: package "jansson": path "pool/./main/j/jansson" is not a clean relative path`},
		{"no folder", change("Directory", "Otherfolder"), `:14: package "jansson" has no Directory`},
		{"file that climbs", change("141500 jansson", "141500 ../jansson"), `:14: package "jansson": "../jansson_2.14.orig.tar.gz" is not the name of a file`},
		{"file in a folder", change("141500 jansson", "141500 x/jansson"), `:14: package "jansson": "x/jansson_2.14.orig.tar.gz" is not the name of a file`},
		{"file twice", change("jansson_2.14.orig.tar.gz", "jansson_2.14-2.dsc"), `:14: package "jansson": file "jansson_2.14-2.dsc" stands twice`},
		{"file name with a blank", change("jansson_2.14.orig.tar.gz", "jansson 2.14.orig.tar.gz"), `:11: digest line has 4 words, expected digest, size and name`},
		{"no files", "Package: xx\nVersion: 1\nDirectory: p\nChecksums-Sha256:\n", `:4: package "xx" has no Checksums-Sha256`},
		{"size negative", change("141500", "-1"), `:11: file "jansson_2.14.orig.tar.gz" has size "-1", not one from 1 to 68719476736`},
		{"digest too short", change(zeroes+" 141500", "12 141500"), `:11: field Checksums-Sha256: digest "12" is not 64 lower-case hexadecimal digits`},
		{"too many files", "Package: xx\nChecksums-Sha256:\n" + strings.Repeat(" "+zeroes+" 1 x\n", maxSourceFiles+1), `:10003: package "xx" has more than 10000 files`},
		{"endless name", "Package: " + strings.Repeat("x", maxName+1), `:1: field Package is longer than 1024 bytes`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			err := ParseSourceIndex(strings.NewReader(test.text), func(SourceStanza) error { return nil })
			var bad *IndexError
			if !errors.As(err, &bad) || bad.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// writeSource is the canonical form of a paragraph.
func writeSource(s SourceStanza) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Package: %s\nBinary: %s\nVersion: %s\nFormat: %s\nDirectory: %s\n", s.Package, strings.Join(s.Binary, ", "), s.Version, s.Format, s.Directory)
	if s.Extra {
		b.WriteString("Extra-Source-Only: yes\n")
	}
	b.WriteString("Checksums-Sha256:\n")
	for _, f := range s.Files {
		fmt.Fprintf(&b, " %s %d %s\n", f.SHA256.Hex(), f.Size, f.Name)
	}
	return b.String() + "\n"
}

func FuzzParseSourceIndex(f *testing.F) {
	f.Add([]byte(goodSource))
	f.Add([]byte("Package: a\n\tb\n\n"))
	f.Add([]byte(strings.ReplaceAll(goodSource, "\n", "\r\n")))
	f.Add([]byte(strings.Replace(goodSource, "pool/main", "../..", 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		var all []SourceStanza
		if ParseSourceIndex(bytes.NewReader(text), func(s SourceStanza) error { all = append(all, s); return nil }) != nil {
			return
		}
		for _, s := range all {
			for _, f := range s.Files {
				p := path.Join(s.Directory, f.Name)
				if path.Clean("/"+p) != "/"+p || path.Dir(p) != s.Directory {
					t.Errorf("path %q leaves the archive", p)
				}
			}
			var again []SourceStanza
			err := ParseSourceIndex(strings.NewReader(writeSource(s)), func(s SourceStanza) error { again = append(again, s); return nil })
			if err != nil || len(again) != 1 || !reflect.DeepEqual(again[0], s) {
				t.Errorf("written and read again, %+v is %+v, %v", s, again, err)
			}
		}
	})
}

func BenchmarkParseSourceIndex(b *testing.B) {
	text := strings.Repeat(goodSource+"\n", 1000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := ParseSourceIndex(strings.NewReader(text), func(SourceStanza) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
