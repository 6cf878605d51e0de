// Package unpacktest runs kinds of inputs over blobs for tests: Show lists what
// a kind makes of them, and Write writes it to a folder, so that the
// ecosystem's own tools can judge it:
//
//	unpacktest.Write(t, npm.Unpack, lockfile.Input{Name: "packages"}, pins, blobs.Open, dir)
package unpacktest

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// Write makes dir, with the files of an input in it. open returns the bytes of a pin.
func Write(t *testing.T, kind unpack.Kind, in lockfile.Input, pins []lockfile.Pin, open func(digest.Digest) (io.ReadCloser, error), dir string) {
	t.Helper()
	entries, err := Show(t, kind, in, blobs(t, pins, open)...)
	check(t, err)
	for _, e := range entries {
		at := filepath.Join(dir, filepath.FromSlash(e.Path))
		check(t, os.MkdirAll(filepath.Dir(at), 0o755))
		switch e.Kind {
		case tree.Dir:
			check(t, os.MkdirAll(at, 0o755))
		case tree.Symlink:
			check(t, os.Symlink(e.Link, at))
		default:
			check(t, os.WriteFile(at, []byte(Text(t, e)), os.FileMode(e.Mode)))
		}
	}
}

func blobs(t *testing.T, pins []lockfile.Pin, open func(digest.Digest) (io.ReadCloser, error)) []unpack.Blob {
	t.Helper()
	dir := t.TempDir()
	var all []unpack.Blob
	for _, p := range pins {
		r, err := open(p.SHA256)
		check(t, err)
		f, err := os.Create(filepath.Join(dir, p.SHA256.Hex()))
		check(t, err)
		t.Cleanup(func() { f.Close() })
		_, err = io.Copy(f, r)
		r.Close()
		check(t, err)
		all = append(all, unpack.Blob{Pin: p, File: f.Name(), ReaderAt: f})
	}
	return all
}

// Show runs a kind and returns the files that it makes, sorted. They can be
// read until the test ends.
func Show(t *testing.T, kind unpack.Kind, in lockfile.Input, blobs ...unpack.Blob) ([]tree.Entry, error) {
	t.Helper()
	stream, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	check(t, err)
	defer stream.Close()
	files := unpack.NewFiles(stream, stream.Name())
	if err := kind(in, blobs, files); err != nil {
		return nil, err
	}
	_, err = tree.New(files.Entries())
	check(t, err)
	return files.Entries(), nil
}

// Blob is a pin with bytes in a file, as a build hands it over. Size and digest
// of the pin are set.
func Blob(t *testing.T, pin lockfile.Pin, b []byte) unpack.Blob {
	t.Helper()
	file := filepath.Join(t.TempDir(), "blob")
	check(t, os.WriteFile(file, b, 0o600))
	pin.Size, pin.SHA256 = int64(len(b)), digest.Of(b)
	return unpack.Blob{Pin: pin, File: file, ReaderAt: bytes.NewReader(b)}
}

// Text reads a regular file, and checks it.
func Text(t *testing.T, e tree.Entry) string {
	t.Helper()
	r, err := tree.Open(e)
	check(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	check(t, err)
	return string(b)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
