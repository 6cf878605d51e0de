package npm

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"quorate.dev/builder/unpack"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/npmkey"
	"quorate.dev/lockfile/source/npm/npmtest"
)

func blob(name, text string) unpack.Blob {
	sum := sha512.Sum512([]byte(text))
	return unpack.Blob{
		Pin:      lockfile.Pin{Name: name, Version: "1.0.0", Path: name + "/-/" + name + "-1.0.0.tgz", Size: int64(len(text)), SHA256: digest.Of([]byte(text)), Integrity: "sha512-" + base64.StdEncoding.EncodeToString(sum[:])},
		ReaderAt: strings.NewReader(text),
	}
}

func TestUnpack(t *testing.T) {
	files := unpack.NewFiles(&bytes.Buffer{}, "stream")
	if err := Unpack(lockfile.Input{}, []unpack.Blob{blob("a", "one"), blob("b", "two"), blob("alias", "one")}, files); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, e := range files.Entries() {
		got[e.Path] = e.Size
	}
	for _, text := range []string{"one", "two"} {
		sum := sha512.Sum512([]byte(text))
		h := hex.EncodeToString(sum[:])
		if at := "_cacache/content-v2/sha512/" + h[:2] + "/" + h[2:4] + "/" + h[4:]; got[at] != 3 {
			t.Errorf("%q is not at %s: %v", text, at, got)
		}
	}
	index, answers := 0, 0
	for at := range got {
		if strings.HasPrefix(at, "_cacache/index-v5/") {
			index++
		} else {
			answers++
		}
	}
	if index != 2*3 || answers != 2+3 {
		t.Errorf("got %d lines of index and %d contents, want two for each package, and two tarballs and three answers: %v", index, answers, got)
	}
}

func TestUnpackRefuses(t *testing.T) {
	for _, integrity := range []string{"", "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "sha512-", "sha512-AAAA", "sha512-!"} {
		b := blob("a", "one")
		b.Pin.Integrity = integrity
		if err := Unpack(lockfile.Input{}, []unpack.Blob{b}, unpack.NewFiles(&bytes.Buffer{}, "stream")); err == nil || !strings.Contains(err.Error(), "npm package a 1.0.0 is pinned with the integrity") {
			t.Errorf("integrity %q: %v", integrity, err)
		}
	}
}

// A pin that says that it is signed has to be, by a key of the lock.
func TestUnpackSigned(t *testing.T) {
	key := npmtest.NewKey()
	ring, err := npmkey.Parse(npmtest.Document(key))
	if err != nil {
		t.Fatal(err)
	}
	in := lockfile.Input{Facts: lockfile.Facts{"keys": npmkey.Format(ring)}}
	b := blob("a", "one")
	s := key.Sign(&npmtest.Release{Name: "a", Version: "1.0.0", Integrity: b.Pin.Integrity})
	b.Pin.Signatures = s.KeyID + "=" + s.Sig
	other := b
	other.Pin.Version = "1.0.1"
	for _, test := range []struct {
		summary string
		in      lockfile.Input
		blob    unpack.Blob
		want    string
	}{
		{"signed", in, b, ""},
		{"another version", in, other, "npm package a 1.0.1 has a signature of the key " + key.ID + " that does not hold"},
		{"no key", lockfile.Input{}, b, "npm package a 1.0.0 is signed with the key " + key.ID + ", which is not known"},
		{"half a key", lockfile.Input{Facts: lockfile.Facts{"keys": "a=MFkw"}}, b, "the key a of the lock cannot be read: "},
	} {
		err := Unpack(test.in, []unpack.Blob{test.blob}, unpack.NewFiles(&bytes.Buffer{}, "stream"))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %s", test.summary, err, test.want)
		}
	}
}
