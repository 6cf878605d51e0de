package ociimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/source/sourcetest"
)

var quiet = registry.Logger(log.New(io.Discard, "", 0))

// someImage is an image of somebody else's tools for a platform.
func someImage(t *testing.T, layers int64, os, arch string) v1.Image {
	t.Helper()
	img, err := random.Image(1024, layers)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = os, arch
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// someIndex has an image for amd64, one for arm64 and an attestation, as BuildKit writes.
func someIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	add := func(img v1.Image, os, arch string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch}}}
	}
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		add(someImage(t, 1, "linux", "arm64"), "linux", "arm64"), add(someImage(t, 2, "linux", "amd64"), "linux", "amd64"), add(someImage(t, 1, "", ""), "unknown", "unknown"))
}

// client is go-containerregistry's own, as the registry that is asked.
type client struct{}

func (client) Manifest(ctx context.Context, ref string) (string, []byte, error) {
	r, err := name.ParseReference(ref)
	if err != nil {
		return "", nil, err
	}
	d, err := remote.Get(r, remote.WithContext(ctx))
	if err != nil {
		return "", nil, err
	}
	return string(d.MediaType), d.Manifest, nil
}

func (client) Blob(ctx context.Context, ref string, d digest.Digest, _ int64) (io.ReadCloser, error) {
	r, err := name.ParseReference(ref)
	if err != nil {
		return nil, err
	}
	l, err := remote.Layer(r.Context().Digest(d.String()), remote.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return l.Compressed()
}

func request(image string) lockfile.InputRequest {
	return lockfile.InputRequest{Name: "os", Kind: lockfile.KindImage, Ask: lockfile.Facts{"image": image}}
}

func TestContractRegistry(t *testing.T) {
	sourcetest.Test(t, func(t *testing.T) *sourcetest.World {
		server := httptest.NewServer(registry.New(quiet))
		t.Cleanup(server.Close)
		ref := strings.TrimPrefix(server.URL, "http://") + "/os:v1"
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(tag, someIndex(t)); err != nil {
			t.Fatal(err)
		}
		return &sourcetest.World{
			Kind: New(Options{Registry: client{}}), Request: request(ref),
			Spoil: func() { // the tag moves, and what was there is gone
				old, err := remote.Get(tag)
				if err != nil {
					t.Fatal(err)
				}
				if err := remote.WriteIndex(tag, someIndex(t)); err != nil {
					t.Fatal(err)
				}
				list, err := old.ImageIndex()
				if err != nil {
					t.Fatal(err)
				}
				m, _ := list.IndexManifest()
				for _, d := range m.Manifests {
					if err := remote.Delete(tag.Context().Digest(d.Digest.String())); err != nil {
						t.Fatal(err)
					}
				}
			},
			Down: server.Close,
		}
	})
}

// writeLayout writes an index as an image layout below a project's folder.
func writeLayout(t *testing.T, dir string, list ...mutate.Appendable) string {
	t.Helper()
	top := v1.ImageIndex(empty.Index)
	for _, l := range list {
		top = mutate.AppendManifests(top, mutate.IndexAddendum{Add: l})
	}
	if _, err := layout.Write(filepath.Join(dir, "os"), top); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestContractLayout(t *testing.T) {
	sourcetest.Test(t, func(t *testing.T) *sourcetest.World {
		dir := writeLayout(t, t.TempDir(), someIndex(t))
		return &sourcetest.World{
			Kind: New(Options{Dir: dir}), Request: request("oci:os"),
			Spoil: func() {
				if err := os.RemoveAll(filepath.Join(dir, "os")); err != nil {
					t.Fatal(err)
				}
				writeLayout(t, dir, someIndex(t))
			},
			Down: func() { _ = os.RemoveAll(dir) },
		}
	})
}

// Docker's own media types mean the same.
func TestDockerTypes(t *testing.T) {
	img := mutate.MediaType(someImage(t, 2, "linux", "amd64"), types.DockerManifestSchema2)
	lock, err := (&sourcetest.World{Kind: New(Options{Dir: writeLayout(t, t.TempDir(), img)}), Request: request("oci:os")}).Resolve(t, sourcetest.NewBlobs(t), nil)
	if err != nil || len(lock.Pins) != 4 {
		t.Errorf("%v", err)
	}
}

func TestRefused(t *testing.T) {
	manifestOf := func(layers ...string) string {
		var list []string
		for i, l := range layers {
			list = append(list, fmt.Sprintf(`{"mediaType":%q,"size":%d,"digest":"sha256:%064d"}`, l, i+1, i+1))
		}
		return `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"size":2,"digest":"sha256:` +
			digest.Of([]byte("{}")).Hex() + `"},"layers":[` + strings.Join(list, ",") + `]}`
	}
	const tar = "application/vnd.oci.image.layer.v1.tar"
	for _, test := range []struct {
		summary, document, want string
	}{
		{"no layout", "", `is not an OCI image layout of version 1.0.0`},
		{"not JSON", "{", "unexpected end of JSON input"},
		{"another kind of thing", `{"mediaType":"application/x"}`, `image "oci:os" has a manifest of type "application/x"`},
		{"no layers", manifestOf(), `image "oci:os" has 0 layers; 1 to 127 can be built on`},
		{"too many layers", manifestOf(strings.Split(strings.Repeat(tar+" ", 128), " ")[:128]...), `image "oci:os" has 128 layers; 1 to 127 can be built on`},
		{"a foreign layer", manifestOf("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), `image "oci:os" has a layer 1 of type "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", which cannot be unpacked`},
		{"not for this platform", `{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"digest":"sha256:` + strings.Repeat("1", 64) + `","platform":{"os":"linux","architecture":"arm64","variant":"v8"}}]}`,
			`image "oci:os" is not there for linux/amd64; it is for linux/arm64/v8`},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "-"), func(t *testing.T) {
			dir := t.TempDir()
			if test.document != "" {
				if err := plainLayout(filepath.Join(dir, "os"), test.document, "{}"); err != nil {
					t.Fatal(err)
				}
			}
			_, err := (&sourcetest.World{Kind: New(Options{Dir: dir}), Request: request("oci:os")}).Resolve(t, sourcetest.NewBlobs(t), nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// plainLayout writes a layout whose one manifest is any text.
func plainLayout(dir, document string, blobs ...string) error {
	folder := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, b := range append(blobs, document) {
		if err := os.WriteFile(filepath.Join(folder, digest.Of([]byte(b)).Hex()), []byte(b), 0o600); err != nil {
			return err
		}
	}
	top := fmt.Sprintf(`{"manifests":[{"digest":%q}]}`, digest.Of([]byte(document)))
	return errors.Join(os.WriteFile(filepath.Join(dir, "index.json"), []byte(top), 0o600), os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600))
}

// A policy is asked with the digest, before anything is taken.
func TestPolicy(t *testing.T) {
	server := httptest.NewServer(registry.New(quiet))
	defer server.Close()
	ref := strings.TrimPrefix(server.URL, "http://") + "/os:v1"
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	img := someImage(t, 1, "linux", "amd64")
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	sum, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	var asked string
	refuse := errors.New("nobody signed it")
	k := New(Options{Registry: client{}, Verify: func(_ context.Context, ref, policy string) error {
		asked = ref + " " + policy
		return refuse
	}})
	w := &sourcetest.World{Kind: k, Request: request(ref)}
	w.Request.Ask["policy"] = "os.yaml"
	blobs := sourcetest.NewBlobs(t)
	_, err = w.Resolve(t, blobs, nil)
	if !errors.Is(err, refuse) || blobs.Created() != 0 || asked != strings.TrimSuffix(ref, ":v1")+"@"+sum.String()+" os.yaml" {
		t.Errorf("got %v after %d blobs, asked for %s", err, blobs.Created(), asked)
	}
	refuse = nil
	if _, err := w.Resolve(t, blobs, nil); err != nil {
		t.Error(err)
	}
	dir := writeLayout(t, t.TempDir(), img)
	w.Request.Ask["image"] = "oci:os"
	w.Kind = New(Options{Dir: dir, Verify: func(_ context.Context, ref, policy string) error {
		asked = ref + " " + policy
		return errors.New("nobody signed it")
	}})
	if _, err := w.Resolve(t, blobs, nil); err == nil || asked != "oci:"+filepath.Join(dir, "os")+"@"+sum.String()+" os.yaml" {
		t.Errorf("got %v, asked for %s", err, asked)
	}
}

// In a layout of several images a tag says which; lists of what refers to an
// image are none.
func TestLayoutTag(t *testing.T) {
	dir := t.TempDir()
	one, two := someImage(t, 1, "linux", "amd64"), someImage(t, 2, "linux", "amd64")
	named := func(name string) layout.Option {
		return layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name})
	}
	path, err := layout.Write(filepath.Join(dir, "os"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	list := "sha256-" + strings.Repeat("0", 64)
	if err := errors.Join(path.AppendImage(one, named("v1")), path.AppendImage(one, named("latest")), path.AppendIndex(empty.Index, named(list))); err != nil {
		t.Fatal(err)
	}
	resolve := func(image string) error {
		_, err := (&sourcetest.World{Kind: New(Options{Dir: dir}), Request: request(image)}).Resolve(t, sourcetest.NewBlobs(t), nil)
		return err
	}
	sum, err := two.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := resolve("oci:os"); err != nil { // two names of one image
		t.Error(err)
	}
	if err := path.AppendImage(two, named("v2")); err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{
		"oci:os": "names 2 images; name one by its tag, oci:PATH:TAG", "oci:os:v1": "", "oci:os:v2": "", "oci:os/:v2": "", "oci:os@" + sum.String(): "",
		"oci:os:v2@" + sum.String(): "", "oci:os:v3": `names 0 images "v3"`,
	} {
		if err := resolve(image); (err == nil) != (want == "") || err != nil && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: got %v, expected %q", image, err, want)
		}
	}
}

var amd64 = definition.Platform{OS: "linux", Architecture: "amd64"}

func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"config":{"digest":"sha256:00","size":1},"layers":[{"mediaType":"x","size":-1}],"manifests":[{"platform":null}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m manifest
		if json.Unmarshal(raw, &m) == nil && check("x", m) == nil {
			for _, l := range m.Layers {
				if l.Size <= 0 || l.Digest.IsZero() || !layerTypes[l.MediaType] {
					t.Errorf("accepted %+v", l)
				}
			}
		}
		if d, err := choose("x", raw, amd64); err == nil && (d.Platform == nil || d.Platform.Architecture != "amd64") {
			t.Errorf("chose %+v", d)
		}
	})
}
