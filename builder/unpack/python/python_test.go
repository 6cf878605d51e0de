package python

import (
	"io"
	"testing"

	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
)

func blob(t *testing.T, path, text string) unpack.Blob {
	t.Helper()
	return unpacktest.Blob(t, lockfile.Pin{Name: "left", Version: "1.0.0", Path: path}, []byte(text))
}

// Distributions are shown as they are: what is in one, a bomb too, is opened by
// the step that installs it, within its limits.
func TestUnpack(t *testing.T) {
	entries, err := unpacktest.Show(t, Unpack, lockfile.Input{}, blob(t, "left/left-1.0.0-py3-none-any.whl", "PK\x03\x04 half a zip"), blob(t, "right/right-2.0.tar.gz", "\x1f\x8b half a tar"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		got[e.Path] = unpacktest.Text(t, e)
	}
	if len(got) != 2 || got["left-1.0.0-py3-none-any.whl"] != "PK\x03\x04 half a zip" || got["right-2.0.tar.gz"] != "\x1f\x8b half a tar" {
		t.Errorf("got %q", got)
	}
}

func TestUnpackRefuses(t *testing.T) {
	for _, test := range []struct {
		summary string
		blobs   []unpack.Blob
		want    string
	}{
		{"one name twice", []unpack.Blob{blob(t, "left/a.whl", "1"), blob(t, "right/a.whl", "2")}, `file "a.whl" is there twice`},
		{"a way out", []unpack.Blob{blob(t, "left/..", "1")}, `file ".." has ".." in its name`},
	} {
		if err := Unpack(lockfile.Input{}, test.blobs, unpack.NewFiles(io.Discard, "stream")); err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", test.summary, err, test.want)
		}
	}
}
