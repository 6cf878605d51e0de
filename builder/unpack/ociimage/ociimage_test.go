package ociimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/archive"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// layerOf packs lines: "f PATH TEXT", "d PATH", "l PATH TARGET", "h PATH FIRST", "c PATH" (a device).
// It returns the layer, and its diff id.
func layerOf(t *testing.T, lines string) ([]byte, digest.Digest) {
	t.Helper()
	var b, plain bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(io.MultiWriter(z, &plain))
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		h := &tar.Header{Name: f[1], Mode: 0o644, Uid: 5, Gid: 6}
		text := ""
		switch f[0] {
		case "f":
			text = strings.Join(f[2:], " ")
			h.Typeflag, h.Size = tar.TypeReg, int64(len(text))
		case "d":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "l":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f[2]
		case "h":
			h.Typeflag, h.Linkname = tar.TypeLink, f[2]
		case "c":
			h.Typeflag = tar.TypeChar
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), digest.Of(plain.Bytes())
}

// imageOf is the blobs of an image with these layers.
func imageOf(t *testing.T, layers ...string) []unpack.Blob {
	t.Helper()
	var blobs []unpack.Blob
	var list, ids []string
	for i, l := range layers {
		packed, id := layerOf(t, l)
		b := unpacktest.Blob(t, lockfile.Pin{Name: fmt.Sprintf("layer-%d", i+1)}, packed)
		blobs = append(blobs, b)
		list = append(list, fmt.Sprintf(`{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":%q,"size":%d}`, b.Pin.SHA256, b.Pin.Size))
		ids = append(ids, fmt.Sprintf("%q", id))
	}
	return append(blobs, documentsOf(t, list, ids)...)
}

// documentsOf is the configuration and the manifest of an image.
func documentsOf(t *testing.T, list, ids []string) []unpack.Blob {
	t.Helper()
	config := unpacktest.Blob(t, lockfile.Pin{Name: "config"}, []byte(`{"config":{"User":"7","Env":["A=b"]},"rootfs":{"diff_ids":[`+strings.Join(ids, ",")+`]}}`))
	manifest := unpacktest.Blob(t, lockfile.Pin{Name: "manifest"}, []byte(fmt.Sprintf(`{"config":{"digest":%q},"layers":[%s]}`, config.Pin.SHA256, strings.Join(list, ","))))
	return []unpack.Blob{config, manifest}
}

// shown writes the files of an image, one a line.
func shown(t *testing.T, blobs []unpack.Blob) (string, error) {
	t.Helper()
	entries, err := unpacktest.Show(t, Unpack, lockfile.Input{}, blobs...)
	var b strings.Builder
	for _, e := range entries {
		text := e.Link
		if e.Kind == tree.File {
			text = unpacktest.Text(t, e)
		}
		fmt.Fprintln(&b, strings.TrimSpace(string(e.Kind)+" "+e.Path+" "+text))
	}
	return b.String(), err
}

func TestLayers(t *testing.T) {
	const below = "d etc\nf etc/a old\nf etc/b kept\nd opt\nd opt/x\nf opt/x/deep gone\nf opt/y gone\nf file text\n"
	for _, test := range []struct{ summary, layer, want string }{
		{"nothing", "", "d etc\nf etc/a old\nf etc/b kept\nf file text\nd opt\nd opt/x\nf opt/x/deep gone\nf opt/y gone\n"},
		{"a new file", "f etc/a new\n", "d etc\nf etc/a new\nf etc/b kept\nf file text\nd opt\nd opt/x\nf opt/x/deep gone\nf opt/y gone\n"},
		{"whiteouts", "f etc/.wh.a\nf .wh.opt\n", "d etc\nf etc/b kept\nf file text\n"},
		{"an opaque folder", "d opt\nf opt/.wh..wh..opq\nd opt/x\nf opt/x/other here\n", "d etc\nf etc/a old\nf etc/b kept\nf file text\nd opt\nd opt/x\nf opt/x/other here\n"},
		{"all hidden", "f .wh..wh..opq\nf only this\n", "f only this\n"},
		{"what replaces what it takes away", "f etc/.wh.a\nf etc/a new\nf .wh.opt\nd opt\nf opt/z here\n", "d etc\nf etc/a new\nf etc/b kept\nf file text\nd opt\nf opt/z here\n"},
		{"taken away twice", "f opt/.wh..wh..opq\nf opt/.wh.y\nf .wh.opt\n", "d etc\nf etc/a old\nf etc/b kept\nf file text\n"},
		{"names of AUFS", "f .wh..wh.aufs\nd .wh..wh.plnk\nf etc/.wh..wh.orph\nf opt/.wh..wh..opq\n", "d etc\nf etc/a old\nf etc/b kept\nf file text\nd opt\n"},
		{"a file in place of a folder", "f opt now a file\n", "d etc\nf etc/a old\nf etc/b kept\nf file text\nf opt now a file\n"},
		{"links", "f z/a text\nh z/b z/a\nl z/c ../etc\nf .wh.opt\nf .wh.etc\n", "f file text\nf z/a text\nh z/b z/a\nl z/c ../etc\n"},
	} {
		got, err := shown(t, imageOf(t, below, test.layer))
		if err != nil || got != test.want {
			t.Errorf("%s: %v\ngot\n%s\nwant\n%s", test.summary, err, got, test.want)
		}
	}
}

func TestHostileLayers(t *testing.T) {
	for _, test := range []struct{ summary, layer, want string }{
		{"out of the root", "f ../x text\n", `layer 2 (sha256:`},
		{"absolute", "f /x text\n", `has an absolute name`},
		{"a device", "c dev/null\n", `member "dev/null" is a character device`},
		{"a whiteout of no name", "f opt/.wh.\n", `member "opt/.wh." takes away a file without saying which`},
		{"a whiteout of its folder", "f opt/.wh..\n", `takes away a file without saying which`},
		{"a whiteout of the folder above", "f opt/.wh...\n", `takes away a file without saying which`},
		{"through a link of another layer", "f link/x text\n", `"link/x" lies below "link", which is not a directory`},
	} {
		_, err := shown(t, imageOf(t, "l link /etc\n", test.layer))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.summary, err, test.want)
		}
	}
}

// A runtime refuses an image whose configuration lies about its layers; a build
// on it would make one that cannot be started.
func TestDiffID(t *testing.T) {
	packed, _ := layerOf(t, "f a text\n")
	layer := unpacktest.Blob(t, lockfile.Pin{Name: "layer-1"}, packed)
	list := []string{fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":%q,"size":%d}`, layer.Pin.SHA256, layer.Pin.Size)}
	_, err := shown(t, append(documentsOf(t, list, []string{fmt.Sprintf("%q", layer.Pin.SHA256)}), layer))
	want := fmt.Sprintf("layer 1 (%s): it unpacks to bytes of digest ", layer.Pin.SHA256)
	if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "the image's configuration names "+layer.Pin.SHA256.String()) {
		t.Errorf("got %v, want %s…", err, want)
	}
}

// Many folders that are emptied cost no more than there are files: with each
// held against each, this would take minutes.
func TestManyEmptied(t *testing.T) {
	const n = 100_000
	var below []tree.Entry
	var layer []archive.Entry
	for i := range n {
		below = append(below, tree.Entry{Path: fmt.Sprintf("d%d/f", i), Kind: tree.Symlink, Mode: 0o777, Link: "x"})
		name := fmt.Sprintf("d%d/.wh..wh..opq", i)
		layer = append(layer, archive.Entry{Name: name, Entry: tree.Entry{Path: name, Kind: tree.File}})
	}
	t1, err := tree.New(below)
	if err != nil {
		t.Fatal(err)
	}
	got, err := over(t1, layer)
	if err != nil || len(got.Entries()) != 0 {
		t.Fatalf("%d left, %v", len(got.Entries()), err)
	}
}

func TestRead(t *testing.T) {
	blobs := imageOf(t, "f a b\n", "f c d\n")
	_, second := layerOf(t, "f c d\n")
	base, err := Read(blobs)
	if err != nil {
		t.Fatal(err)
	}
	if len(base.Layers) != 2 || base.Layers[0].MediaType != "application/vnd.oci.image.layer.v1.tar+gzip" || base.Layers[1].DiffID != second || base.Config.User != "7" {
		t.Errorf("got %+v", base)
	}
	for _, test := range []struct {
		summary string
		blobs   []unpack.Blob
		want    string
	}{
		{"a layer that is not locked", blobs[1:], "the lock does not have layer 1 (sha256:"},
		{"no configuration", append([]unpack.Blob{blobs[0], blobs[1]}, blobs[3]), "the lock does not have the configuration sha256:"},
		{"no manifest", blobs[:3], "the lock has 0 manifests of the image for one platform"},
		{"two manifests", append(imageOf(t, "f x y\n"), blobs...), "the lock has 2 manifests of the image for one platform"},
	} {
		if _, err := Read(test.blobs); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.summary, err, test.want)
		}
	}
}
