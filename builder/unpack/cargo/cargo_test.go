package cargo

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

func crate(names ...string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range names {
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 1, Mode: 0o644})
		_, _ = w.Write([]byte("x"))
	}
	_ = w.Close()
	_ = z.Close()
	return b.Bytes()
}

func pin(b []byte) lockfile.Pin {
	return lockfile.Pin{Name: "left", Version: "1.0.0", Size: int64(len(b)), SHA256: digest.Of(b)}
}

func TestUnpack(t *testing.T) {
	b := crate("left-1.0.0/Cargo.toml", "left-1.0.0/.cargo-ok", "left-1.0.0/src/lib.rs", "left-1.0.0/SRC/lib.rs")
	dir := filepath.Join(t.TempDir(), "crates")
	in := lockfile.Input{Name: "crates", Facts: lockfile.Facts{"registries": "sparse+https://a.example/ sparse+https://b.example/"}}
	unpacktest.Write(t, Unpack, in, []lockfile.Pin{pin(b)}, func(digest.Digest) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }, dir)
	for name, want := range map[string]string{
		"vendor/left-1.0.0/Cargo.toml":           "x",
		"vendor/left-1.0.0/src/lib.rs":           "x",
		"vendor/left-1.0.0/.cargo-checksum.json": `{"files":{},"package":"` + digest.Of(b).Hex() + "\"}\n",
		"config.toml": `[source.crates-io]
replace-with = "quorate"

[source.registry-1]
registry = "sparse+https://a.example/"
replace-with = "quorate"

[source.registry-2]
registry = "sparse+https://b.example/"
replace-with = "quorate"

[source.quorate]
directory = "/inputs/crates/vendor"
`,
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "vendor/left-1.0.0/SRC/lib.rs")); err != nil {
		t.Error("names that differ in case are one")
	}
	if _, err := os.Stat(filepath.Join(dir, "vendor/left-1.0.0/.cargo-ok")); err == nil {
		t.Error(".cargo-ok is shown")
	}
}

// bomb is a crate of 320 MiB of zeros in 0.3 MB: gzip members of 16 MiB, one behind the other.
func bomb() []byte {
	var head, zeros bytes.Buffer
	z := gzip.NewWriter(&head)
	w := tar.NewWriter(z)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "left-1.0.0/zeros", Size: 320 << 20, Mode: 0o644})
	_ = w.Flush()
	_ = z.Close()
	z = gzip.NewWriter(&zeros)
	_, _ = z.Write(make([]byte, 16<<20))
	_ = z.Close()
	return append(head.Bytes(), bytes.Repeat(zeros.Bytes(), 21)...)
}

// hostile is a crate with one member that tar allows and nobody should lay down.
func hostile(h tar.Header) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "left-1.0.0/link", Linkname: "/etc"})
	_ = w.WriteHeader(&h)
	_ = w.Close()
	_ = z.Close()
	return b.Bytes()
}

func TestUnpackRefuses(t *testing.T) {
	for _, test := range []struct {
		summary string
		bytes   []byte
		want    string
	}{
		{"another crate's files", crate("left-1.0.0/Cargo.toml", "right-1.0.0/src/lib.rs"), `crate left 1.0.0: it holds "right-1.0.0/src/lib.rs", which is not in its folder "left-1.0.0"`},
		{"a name that begins alike", crate("left-1.0.0-rc/Cargo.toml"), `crate left 1.0.0: it holds "left-1.0.0-rc`},
		{"a way out", crate("left-1.0.0/../../etc/passwd"), "crate left 1.0.0: "},
		{"a bomb", bomb(), "crate left 1.0.0: cannot unpack archive: archive unpacks to more than 1000 times its compressed size"},
		{"below a link", hostile(tar.Header{Typeflag: tar.TypeReg, Name: "left-1.0.0/link/passwd"}), `crate left 1.0.0: cannot unpack archive: member "left-1.0.0/link/passwd" lies below "left-1.0.0/link", which is a symbolic link to "/etc"`},
		{"a link to outside", hostile(tar.Header{Typeflag: tar.TypeLink, Name: "left-1.0.0/h", Linkname: "/etc/passwd"}), `crate left 1.0.0: cannot unpack archive: member "left-1.0.0/h" is a hard link to "/etc/passwd", which is refused as a path`},
		{"a device", hostile(tar.Header{Typeflag: tar.TypeChar, Name: "left-1.0.0/null"}), `crate left 1.0.0: cannot unpack archive: member "left-1.0.0/null" is a character device`},
		{"twice", crate("left-1.0.0/a", "left-1.0.0/a"), `crate left 1.0.0: cannot unpack archive: member "left-1.0.0/a" is there twice`},
		{"no archive", []byte("garbage"), "crate left 1.0.0: "},
	} {
		b := unpack.Blob{Pin: pin(test.bytes), ReaderAt: bytes.NewReader(test.bytes)}
		if err := Unpack(lockfile.Input{Name: "crates"}, []unpack.Blob{b}, unpack.NewFiles(io.Discard, "stream")); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.summary, err, test.want)
		}
	}
}
