package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/builder/layer"
	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

// folder is a BlobSource on disk; with paths it offers hard links.
type folder struct{ dir string }

func (f folder) file(d digest.Digest) string { return filepath.Join(f.dir, d.Hex()) }

func (f folder) Open(d digest.Digest) (io.ReadCloser, error) { return os.Open(f.file(d)) }

type linking struct{ folder }

func (l linking) Path(d digest.Digest) (string, bool) { return l.file(d), true }

var created = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// sample makes two layers in a folder, and an image of them.
func sample(t *testing.T) (Image, folder) {
	t.Helper()
	f := folder{t.TempDir()}
	var layers []Layer
	for i, body := range []string{"base\n", "hello\n"} {
		var b bytes.Buffer
		entries := tree.WithParents([]tree.Entry{tree.NewFile(fmt.Sprintf("usr/share/%d", i), 0o644, 0, []byte(body))})
		info, err := layer.Write(&b, entries, layer.Options{Epoch: created.Unix()})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.file(info.Digest), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, Layer{Name: fmt.Sprint("layer ", i), Digest: info.Digest, Size: info.Size, DiffID: info.DiffID})
	}
	img, err := New(Spec{
		Platform: Platform{OS: "linux", Architecture: "amd64"}, Created: created, Layers: layers,
		Config: Config{
			User: "65532:65532", Entrypoint: []string{"/usr/bin/greeter"}, Cmd: []string{"--to", "<world>"}, Env: []string{"PATH=/usr/bin", "B=1"},
			WorkingDir: "/srv", ExposedPorts: []string{"80/tcp", "443/tcp"}, Volumes: []string{"/data"}, StopSignal: "SIGQUIT",
			Labels: map[string]string{"org.opencontainers.image.title": "greeter", "a": "1"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return *img, f
}

func TestNew(t *testing.T) {
	img, _ := sample(t)
	wantConfig := `{"architecture":"amd64","created":"2026-11-01T00:00:00Z","history":[` +
		`{"created":"2026-11-01T00:00:00Z","created_by":"quorate: layer 0"},{"created":"2026-11-01T00:00:00Z","created_by":"quorate: layer 1"}],` +
		`"os":"linux","rootfs":{"type":"layers","diff_ids":["` + img.Layers[0].DiffID.String() + `","` + img.Layers[1].DiffID.String() + `"]},` +
		`"config":{"Cmd":["--to","\u003cworld\u003e"],"Entrypoint":["/usr/bin/greeter"],"Env":["PATH=/usr/bin","B=1"],` +
		`"Labels":{"a":"1","org.opencontainers.image.title":"greeter"},"User":"65532:65532","Volumes":{"/data":{}},"WorkingDir":"/srv",` +
		`"ExposedPorts":{"443/tcp":{},"80/tcp":{}},"StopSignal":"SIGQUIT"}}`
	if string(img.Config) != wantConfig {
		t.Errorf("configuration\n%s\nexpected\n%s", img.Config, wantConfig)
	}
	wantManifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",`+
		`"size":%d,"digest":"%s"},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":%d,"digest":"%s"},`+
		`{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":%d,"digest":"%s"}]}`,
		len(img.Config), img.ConfigDigest(), img.Layers[0].Size, img.Layers[0].Digest, img.Layers[1].Size, img.Layers[1].Digest)
	if string(img.Manifest) != wantManifest {
		t.Errorf("manifest\n%s\nexpected\n%s", img.Manifest, wantManifest)
	}
	if img.ManifestDigest != digest.Of(img.Manifest) || len(img.Blobs()) != 4 {
		t.Errorf("manifest digest %s, blobs %v", img.ManifestDigest, img.Blobs())
	}
}

// TestGolden fails when the types of go-containerregistry write JSON otherwise.
func TestGolden(t *testing.T) {
	img, _ := sample(t)
	const want = "sha256:2774ff8a47eb825ed705a0fb6992caefcd9c947eb71f38b66089d1362e62c1e7"
	if img.ManifestDigest.String() != want {
		t.Errorf("a fixed image became other bytes: bump builder.AssemblerVersion, then change this test\n%s, expected %s", img.ManifestDigest, want)
	}
}

func TestNewRefuses(t *testing.T) {
	good := Layer{Name: "a", Digest: digest.Of([]byte("a")), DiffID: digest.Of([]byte("b")), Size: 1}
	linux := Platform{OS: "linux", Architecture: "amd64"}
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Layers: []Layer{good}}, `cannot make image: platform "/" is not complete`},
		{Spec{Platform: linux}, "cannot make image for linux/amd64: 0 layers, expected 1 to 127"},
		{Spec{Platform: linux, Layers: make([]Layer, 128)}, "cannot make image for linux/amd64: 128 layers, expected 1 to 127"},
		{Spec{Platform: linux, Layers: []Layer{good, {Name: "b"}}}, `cannot make image for linux/amd64: layer "b" has no digest or no bytes`},
	} {
		if _, err := New(c.spec); err == nil || err.Error() != c.want {
			t.Errorf("%v, expected %s", err, c.want)
		}
	}
}

// list writes every file below dir, with its mode and digest.
func list(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&b, "%v %s", fi.Mode(), rel)
		if !d.IsDir() {
			raw, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %s", digest.Of(raw).Short())
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWriteOCI(t *testing.T) {
	img, blobs := sample(t)
	parent := t.TempDir()
	copied, linked := filepath.Join(parent, "copied"), filepath.Join(parent, "linked")
	if err := WriteOCI(copied, []Image{img}, blobs); err != nil {
		t.Fatal(err)
	}
	if err := WriteOCI(linked, []Image{img}, linking{blobs}); err != nil {
		t.Fatal(err)
	}
	if a, b := list(t, copied), list(t, linked); a != b || strings.Count(a, "\n") != 9 {
		t.Errorf("copied\n%s\nlinked\n%s", a, b)
	}
	if err := WriteOCI(copied, []Image{img}, blobs); err != nil {
		t.Errorf("over itself: %v", err)
	}
	l, err := Validate(copied)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Images) != 1 || l.Images[0].ManifestDigest != img.ManifestDigest || l.Images[0].Platform != img.Platform ||
		!bytes.Equal(l.Images[0].Config, img.Config) || len(l.Images[0].Layers) != 2 || !l.Images[0].Created.Equal(created) {
		t.Errorf("read back: %+v", l.Images)
	}
	if left, _ := os.ReadDir(parent); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWriteOCIPlatforms(t *testing.T) {
	amd, blobs := sample(t)
	arm, err := New(Spec{Platform: Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, Created: created, Layers: amd.Layers})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if err := WriteOCI(dir, []Image{amd, *arm}, blobs); err != nil {
		t.Fatal(err)
	}
	l, err := Validate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Images) != 2 || l.Images[1].Platform.String() != "linux/arm64/v8" {
		t.Errorf("read back: %+v", l.Images)
	}
	if err := WriteOCI(dir, []Image{amd, amd}, blobs); err == nil || !strings.HasSuffix(err.Error(), "platform linux/amd64 is there twice") {
		t.Errorf("one platform twice: %v", err)
	}
	if err := WriteOCI(dir, nil, blobs); err == nil {
		t.Error("no image is written")
	}
}

func TestWriteOCIRefuses(t *testing.T) {
	img, blobs := sample(t)
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := list(t, dir)
	var target *TargetError
	for _, p := range []string{dir, precious} {
		if err := WriteOCI(p, []Image{img}, blobs); !errors.As(err, &target) {
			t.Errorf("%s: %v, expected a *TargetError", p, err)
		}
	}
	if err := WriteOCI(filepath.Join(dir, "no", "where"), []Image{img}, blobs); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	damaged := img
	damaged.Layers = append([]Layer{}, img.Layers...)
	if err := os.WriteFile(blobs.file(img.Layers[1].Digest), []byte("damage"), 0o644); err != nil {
		t.Fatal(err)
	}
	var content *tree.ContentError
	for _, source := range []BlobSource{blobs, linking{blobs}} {
		if err := WriteOCI(filepath.Join(dir, "out"), []Image{img}, source); !errors.As(err, &content) {
			t.Errorf("damaged blob: %v", err)
		}
	}
	if err := WriteOCIArchive(filepath.Join(dir, "out.tar"), []Image{img}, blobs); !errors.As(err, &content) {
		t.Errorf("damaged blob in an archive: %v", err)
	}
	if after := list(t, dir); after != before {
		t.Errorf("left behind\n%s\nexpected\n%s", after, before)
	}
}

func TestArchives(t *testing.T) {
	img, blobs := sample(t)
	dir := t.TempDir()
	oci, docker := filepath.Join(dir, "oci.tar"), filepath.Join(dir, "docker.tar")
	for range 2 { // the second time over the first
		if err := WriteOCIArchive(oci, []Image{img}, blobs); err != nil {
			t.Fatal(err)
		}
		if err := WriteDockerArchive(docker, "greeter", img, blobs); err != nil {
			t.Fatal(err)
		}
	}
	sum := func(p string) digest.Digest {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		return digest.Of(b)
	}
	a, b := sum(oci), sum(docker)
	if err := WriteOCIArchive(oci, []Image{img}, linking{blobs}); err != nil || sum(oci) != a {
		t.Errorf("OCI archive differs (%v)", err)
	}
	if err := WriteDockerArchive(docker, "greeter", img, blobs); err != nil || sum(docker) != b {
		t.Errorf("docker archive differs (%v)", err)
	}
	files := untar(t, docker)
	var m []dockerManifest
	if err := json.Unmarshal(files["manifest.json"], &m); err != nil || len(m) != 1 || m[0].RepoTags[0] != "greeter:latest" {
		t.Fatalf("manifest.json %s (%v)", files["manifest.json"], err)
	}
	if !bytes.Equal(files[m[0].Config], img.Config) || digest.Of(files[m[0].Layers[1]]) != img.Layers[1].Digest {
		t.Error("manifest.json names other blobs than the image's")
	}
	into := filepath.Join(dir, "layout")
	for name, body := range untar(t, oci) {
		p := filepath.Join(into, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Validate(into); err != nil {
		t.Errorf("unpacked archive: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 3 {
		t.Errorf("left behind: %v", left)
	}
	if err := WriteOCIArchive(dir, []Image{img}, blobs); err == nil || !strings.HasSuffix(err.Error(), "it is there and is not a regular file") {
		t.Errorf("over a folder: %v", err)
	}
}

func untar(t *testing.T, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string][]byte{}
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if files[h.Name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestReadOCIRefuses(t *testing.T) {
	img, blobs := sample(t)
	layerBlob := blobPath(img.Layers[0].Digest)
	for _, c := range []struct {
		summary string
		spoil   func(dir string) error
		want    string // part of the error
	}{
		{"no layout", func(dir string) error { return os.Remove(filepath.Join(dir, "oci-layout")) }, "is not an OCI image layout"},
		{"other version", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"9"}`), 0o644)
		}, `of version "9", expected 1.0.0`},
		{"no index", func(dir string) error { return os.Remove(filepath.Join(dir, "index.json")) }, "index.json"},
		{"empty index", func(dir string) error { return os.WriteFile(filepath.Join(dir, "index.json"), []byte("{}"), 0o644) }, "holds no image"},
		{"index of indexes", func(dir string) error { return multiply(dir, 200, 200) }, "names more than 10000 manifests and indexes"},
		{"huge index", func(dir string) error { return os.Truncate(filepath.Join(dir, "index.json"), documentMax+1) }, "has more than 4194304 bytes"},
		{"changed manifest", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, blobPath(img.ManifestDigest)), bytes.Replace(img.Manifest, []byte("schemaVersion"), []byte("schemaversion"), 1), 0o644)
		}, "manifest " + img.ManifestDigest.String() + ": bytes have digest"},
		{"no configuration", func(dir string) error { return os.Remove(filepath.Join(dir, blobPath(img.ConfigDigest()))) }, "configuration " + img.ConfigDigest().String() + ": open"},
		{"truncated layer", func(dir string) error { return os.Truncate(filepath.Join(dir, layerBlob), 10) }, "layer " + img.Layers[0].Digest.String() + ": ended after 10 bytes"},
		{"longer layer", func(dir string) error { return os.Truncate(filepath.Join(dir, layerBlob), 1<<20) }, "layer " + img.Layers[0].Digest.String() + ": more than the expected"},
		{"unknown media type", func(dir string) error {
			return edit(filepath.Join(dir, "index.json"), ManifestMediaType, "text/plain")
		}, `media type "text/plain" in an index`},
		{"escaping digest", func(dir string) error {
			return edit(filepath.Join(dir, "index.json"), img.ManifestDigest.Hex(), "../../../../etc/passwd")
		}, "index: "},
		{"other platform", func(dir string) error { return edit(filepath.Join(dir, "index.json"), "amd64", "arm64") }, "is for linux/amd64, but the index says linux/arm64"},
	} {
		dir := filepath.Join(t.TempDir(), "layout")
		if err := WriteOCI(dir, []Image{img}, blobs); err != nil {
			t.Fatal(err)
		}
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadOCI(dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nexpected %s", c.summary, err, c.want)
		}
	}
}

func edit(file, old, new string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, bytes.Replace(b, []byte(old), []byte(new), 1), 0o644)
}

// multiply makes the index name another one so many times, that one a third, and
// so on; the last one is empty.
func multiply(dir string, times ...int) error {
	index := []byte(`{"schemaVersion": 2, "manifests": []}`)
	for _, n := range times {
		d := digest.Of(index)
		if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", d.Hex()), index, 0o644); err != nil {
			return err
		}
		one := fmt.Sprintf(`{"mediaType": %q, "digest": %q, "size": %d}`, IndexMediaType, d, len(index))
		index = []byte(`{"schemaVersion": 2, "manifests": [` + strings.Repeat(one+",", n-1) + one + `]}`)
	}
	return os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644)
}

func TestValidateDiffID(t *testing.T) {
	img, blobs := sample(t)
	layers := append([]Layer{}, img.Layers...)
	layers[0].DiffID = layers[1].DiffID
	lying, err := New(Spec{Platform: img.Platform, Created: created, Layers: layers})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	if err := WriteOCI(dir, []Image{*lying}, blobs); err != nil {
		t.Fatal(err)
	}
	var broken *BlobError
	var mismatch *digest.MismatchError
	if _, err := Validate(dir); !errors.As(err, &broken) || !errors.As(err, &mismatch) || mismatch.Want != layers[1].DiffID {
		t.Errorf("%v, expected a mismatch", err)
	}
}

// TestRealTools has tools that we did not write read the outputs. It runs where QUORATE_REAL is set.
func TestRealTools(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("QUORATE_REAL is not set")
	}
	img, blobs := sample(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		WriteOCI(at("oci"), []Image{img}, blobs), WriteOCIArchive(at("oci.tar"), []Image{img}, blobs), WriteDockerArchive(at("docker.tar"), "greeter", img, blobs),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range [][]string{
		{"skopeo", "inspect", "oci:" + at("oci") + ":latest"},
		{"skopeo", "inspect", "oci-archive:" + at("oci.tar")},
		{"skopeo", "inspect", "docker-archive:" + at("docker.tar")},
		{"skopeo", "copy", "--insecure-policy", "docker-archive:" + at("docker.tar") + ":greeter:latest", "oci:" + at("copy") + ":latest"},
		{"umoci", "unpack", "--rootless", "--image", at("oci") + ":latest", at("bundle")},
		{"go", "run", "github.com/google/go-containerregistry/cmd/crane@v0.22.1", "validate", "--tarball", at("docker.tar")},
	} {
		out, err := exec.Command(c[0], c[1:]...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(c, " "), err, out)
		}
		if c[1] == "inspect" && !strings.Contains(string(out), img.Layers[0].Digest.String()) && !strings.Contains(c[2], "docker-archive") {
			t.Errorf("%s does not name the layer:\n%s", strings.Join(c, " "), out)
		}
	}
	if b, err := os.ReadFile(at("bundle/rootfs/usr/share/1")); err != nil || string(b) != "hello\n" {
		t.Errorf("umoci unpacked %q, %v", b, err)
	}
}
