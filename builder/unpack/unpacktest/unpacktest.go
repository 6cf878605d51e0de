// Package unpacktest writes what an input of some kind shows to a folder, so
// that the ecosystem's own tools can judge it:
//
//	unpacktest.Write(t, npm.Unpack, lockfile.Input{Name: "packages"}, pins, blobs.Open, dir)
package unpacktest

import (
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
	stream, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	check(t, err)
	defer stream.Close()
	files := unpack.NewFiles(stream, stream.Name())
	check(t, kind(in, blobs(t, pins, open), files))
	for _, e := range files.Entries() {
		at := filepath.Join(dir, filepath.FromSlash(e.Path))
		check(t, os.MkdirAll(filepath.Dir(at), 0o755))
		switch e.Kind {
		case tree.Dir:
			check(t, os.MkdirAll(at, 0o755))
		case tree.Symlink:
			check(t, os.Symlink(e.Link, at))
		default:
			check(t, os.WriteFile(at, content(t, e), os.FileMode(e.Mode)))
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

func content(t *testing.T, e tree.Entry) []byte {
	t.Helper()
	section, ok := e.Content.(tree.Section)
	if !ok { // empty
		return nil
	}
	f, err := os.Open(section.File)
	check(t, err)
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, section.Offset, section.Size))
	check(t, err)
	return b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
