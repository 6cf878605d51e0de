package debsource

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

func sortedKeys(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }

var sum = digest.Of([]byte("tarball")).Hex()

var plainControl = `Format: 3.0 (quilt)
Source: hello
Version: 1.0-1
Checksums-Sha256:
 ` + sum + ` 7 hello_1.0.orig.tar.gz
Files:
 d41d8cd98f00b204e9800998ecf8427e 7 hello_1.0.orig.tar.gz
`

// signed is a clear-signed message as gpg writes it; what the signature says
// is nobody's business here.
func signed(text string) string {
	return "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + text + "\n-----BEGIN PGP SIGNATURE-----\n\niQ\n-----END PGP SIGNATURE-----\n"
}

func TestParseControl(t *testing.T) {
	d, _ := digest.ParseHex(sum)
	want := &Control{Source: "hello", Version: "1.0-1", Files: []File{{"hello_1.0.orig.tar.gz", 7, d}}}
	for summary, text := range map[string]string{
		"plain":           plainControl,
		"signed":          signed(plainControl),
		"no digests":      strings.Replace(signed(plainControl), "Hash: SHA512\n", "", 1),
		"lines of CR LF":  strings.ReplaceAll(signed(plainControl), "\n", "\r\n"),
		"escaped dashes":  strings.Replace(signed(plainControl), "Files:", "- Files:", 1),
		"escaped at once": strings.Replace(signed(plainControl), "Format:", "- Format:", 1),
	} {
		if got, err := ParseControl([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", summary, got, err)
		}
	}
	for _, test := range []struct{ summary, text, want string }{
		{"nothing", "", "it lacks a field: Source, Version or Checksums-Sha256"},
		{"no version", strings.Replace(plainControl, "Version", "Verzion", 1), "it lacks a field: Source, Version or Checksums-Sha256"},
		{"no digests", strings.Replace(plainControl, "Sha256", "Sha1", 1), "it lacks a field: Source, Version or Checksums-Sha256"},
		{"two paragraphs", plainControl + "\n" + plainControl, "line 8: blank line inside of a paragraph"},
		{"a field twice", plainControl + "Source: other\n", `line 8: field "Source" is there twice`},
		{"a file twice", strings.Replace(plainControl, "Files:", " "+sum+" 7 hello_1.0.orig.tar.gz\nFiles:", 1), `field Checksums-Sha256: file "hello_1.0.orig.tar.gz" stands twice`},
		{"a digest cut short", strings.Replace(plainControl, sum, "12", 1), `field Checksums-Sha256: digest "12" is not 64 lower-case hexadecimal digits`},
		{"a size of words", strings.Replace(plainControl, " 7 ", " seven ", 1), `field Checksums-Sha256: size "seven" is not one`},
		{"a line of two words", strings.Replace(plainControl, " 7 ", " ", 1), `field Checksums-Sha256: a line has 2 words, expected digest, size and name`},
		{"a message without end", signed(plainControl)[:200], "it begins like a signed message and does not end like one"},
	} {
		if c, err := ParseControl([]byte(test.text)); err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %+v, %v\nwant %s", test.summary, c, err, test.want)
		}
	}
}

func TestAsTheyAre(t *testing.T) {
	blob := func(name, text string) unpack.Blob {
		return unpacktest.Blob(t, lockfile.Pin{Name: "hello", Version: "1.0-1", Path: "pool/main/h/hello/" + name}, []byte(text))
	}
	dsc := func(text string) unpack.Blob { return blob("hello_1.0-1.dsc", text) }
	tar := blob(orig, "tarball")
	entries, err := unpacktest.Show(t, Unpack, input(quilt, "none"), tar, dsc(signed(plainControl)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, entries), "hello_1.0-1.dsc: "+signed(plainControl)+"\nhello_1.0.orig.tar.gz: tarball\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, test := range []struct {
		summary string
		blobs   []unpack.Blob
		want    string
	}{
		{"other bytes", []unpack.Blob{blob(orig, "Tarball"), dsc(plainControl)}, `hello_1.0-1.dsc: it lists "hello_1.0.orig.tar.gz" with 7 bytes, ` + digest.Of([]byte("tarball")).String() + `; the archive's index has 7 bytes, ` + digest.Of([]byte("Tarball")).String()},
		{"a file that is not listed", []unpack.Blob{tar, blob(debian, "x"), dsc(plainControl)}, `hello_1.0-1.dsc: it does not list "hello_1.0-1.debian.tar.gz", which the archive's index has`},
		{"a file that is not there", []unpack.Blob{dsc(plainControl)}, `hello_1.0-1.dsc: it lists "hello_1.0.orig.tar.gz", which the archive's index does not have`},
		{"of another version", []unpack.Blob{tar, dsc(strings.Replace(plainControl, "1.0-1", "1.0-2", 1))}, `hello_1.0-1.dsc: it is of hello 1.0-2, the archive's index says hello 1.0-1`},
		{"no paragraph", []unpack.Blob{tar, dsc("no")}, `hello_1.0-1.dsc: line 1: "no" is not a field`},
	} {
		if _, err := unpacktest.Show(t, Unpack, input(quilt, "none"), test.blobs...); err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.summary, err, test.want)
		}
	}
}

func FuzzParseControl(f *testing.F) {
	f.Add([]byte(plainControl))
	f.Add([]byte(signed(plainControl)))
	f.Add([]byte(signed("- " + plainControl)))
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\n\n\n-----BEGIN PGP SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseControl(text)
		if err != nil {
			return
		}
		if c.Source == "" || c.Version == "" || len(c.Files) == 0 {
			t.Errorf("accepted %+v", c)
		}
		seen := map[string]bool{}
		for _, f := range c.Files {
			if seen[f.Name] || f.Size < 0 || f.SHA256.IsZero() {
				t.Errorf("accepted %+v", c)
			}
			seen[f.Name] = true
		}
	})
}
