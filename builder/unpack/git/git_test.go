package git

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
)

// packed is an archive as lockfile/source/git writes it.
func packed(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, strings.NewReader("text"), h.Size); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	tree1 := packed(t,
		&tar.Header{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755},
		&tar.Header{Typeflag: tar.TypeReg, Name: "bin/run", Mode: 0o755, Size: 4},
		&tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "../outside", Mode: 0o777},
	)
	in := lockfile.Input{Name: "src", Facts: lockfile.Facts{"commit": "aa"}}
	entries, err := unpacktest.Show(t, Unpack, in, unpacktest.Blob(t, lockfile.Pin{Version: "aa"}, tree1))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		text := e.Link
		if e.Kind == tree.File {
			text = unpacktest.Text(t, e)
		}
		got = append(got, strings.TrimSpace(string(e.Kind)+" "+e.Path+" "+text))
	}
	if list := strings.Join(got, "\n"); list != "d bin\nf bin/run text\nl link ../outside" || entries[1].Mode != 0o755 {
		t.Errorf("got\n%s", list)
	}
}

func TestUnpackRefuses(t *testing.T) {
	in := lockfile.Input{Name: "src", Facts: lockfile.Facts{"commit": "aa"}}
	good := unpacktest.Blob(t, lockfile.Pin{Version: "aa"}, packed(t))
	for _, test := range []struct {
		summary, version string
		archive          []byte
		want             string
	}{
		{"another commit", "bb", packed(t), "the lock has not exactly one archive of commit aa"},
		{"a path that leaves", "aa", packed(t, &tar.Header{Typeflag: tar.TypeReg, Name: "../x", Size: 4}), `cannot unpack archive: member "../x" has ".." in its name`},
		{"no archive", "aa", []byte("text"), "cannot unpack archive: its first bytes are neither tar, gzip, xz, zstd, bzip2 nor zip"},
	} {
		_, err := unpacktest.Show(t, Unpack, in, unpacktest.Blob(t, lockfile.Pin{Version: test.version}, test.archive))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.summary, err, test.want)
		}
	}
	if _, err := unpacktest.Show(t, Unpack, in, good, good); err == nil {
		t.Error("two archives are one commit")
	}
}
