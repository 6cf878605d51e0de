// Package image makes the documents of an OCI image out of layers and a
// definition's configuration, and writes images to files.
//
// An image of one platform is a configuration (what to run, and the digests of
// the uncompressed layers) and a manifest that names it and the layers, both
// JSON. The sha256 of the manifest is the image's canonical digest: what
// rebuilders must agree on. So every byte here follows from the arguments: keys
// in the order of go-containerregistry's types, maps sorted, no time but the
// epoch, no word about the machine.
//
//	img, err := image.New(image.Spec{Platform: p, Created: epoch, Layers: layers, Config: c})
//	err = image.WriteOCI("out", []image.Image{*img}, store)
//
// [WriteOCI], [WriteOCIArchive] and [WriteDockerArchive] are the outputs;
// [ReadOCI] reads an image layout back and holds every digest against its bytes.
package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"quorate.dev/lockfile/digest"
)

// Platform is what an image runs on.
type Platform struct {
	OS           string
	Architecture string // as GOARCH writes it
	Variant      string
}

// String writes "linux/arm64/v8".
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Layer is a layer whose bytes lie elsewhere.
type Layer struct {
	Name      string // constant text for the image's history: "base", "packages python3.11", "copies"
	Digest    digest.Digest
	Size      int64 // bytes, compressed
	DiffID    digest.Digest
	MediaType string // LayerMediaType when empty
}

// The media types that are written (OCI image-spec, media-types.md).
const (
	LayerMediaType    = string(types.OCILayer)
	ConfigMediaType   = string(types.OCIConfigJSON)
	ManifestMediaType = string(types.OCIManifestSchema1)
	IndexMediaType    = string(types.OCIImageIndex)
)

// Config is what to run, and how.
type Config struct {
	User         string
	Entrypoint   []string
	Cmd          []string
	Env          []string // "NAME=value"
	WorkingDir   string
	ExposedPorts []string
	Volumes      []string
	StopSignal   string
	Labels       map[string]string
}

// Spec is everything that an image is made of.
type Spec struct {
	Platform    Platform
	Created     time.Time // the epoch
	Layers      []Layer   // lowest first
	Config      Config
	Annotations map[string]string // of the manifest; none by default
}

// Image is the image of one platform.
type Image struct {
	Platform       Platform
	ManifestDigest digest.Digest // the canonical digest
	Manifest       []byte
	Config         []byte
	Layers         []Layer // lowest first
	Created        time.Time
}

// ConfigDigest returns the digest of the configuration, which Docker calls the image id.
func (i *Image) ConfigDigest() digest.Digest { return digest.Of(i.Config) }

// Blob is one of the blobs that an image is made of.
type Blob struct {
	MediaType string
	Digest    digest.Digest
	Size      int64
}

// Blobs returns everything that an image needs: manifest, configuration, layers.
func (i *Image) Blobs() []Blob {
	out := []Blob{
		{ManifestMediaType, i.ManifestDigest, int64(len(i.Manifest))},
		{ConfigMediaType, i.ConfigDigest(), int64(len(i.Config))},
	}
	for _, l := range i.Layers {
		out = append(out, Blob{l.MediaType, l.Digest, l.Size})
	}
	return out
}

// layersMax is the most layers that Docker's overlay2 mounts.
const layersMax = 127

// New makes the configuration and the manifest.
func New(s Spec) (*Image, error) {
	if s.Platform.OS == "" || s.Platform.Architecture == "" {
		return nil, fmt.Errorf("cannot make image: platform %q is not complete", s.Platform)
	}
	if len(s.Layers) == 0 || len(s.Layers) > layersMax {
		return nil, fmt.Errorf("cannot make image for %s: %d layers, expected 1 to %d", s.Platform, len(s.Layers), layersMax)
	}
	img := &Image{Platform: s.Platform, Layers: slices.Clone(s.Layers), Created: s.Created.UTC().Truncate(time.Second)}
	for i := range img.Layers {
		l := &img.Layers[i]
		if l.Digest.IsZero() || l.DiffID.IsZero() || l.Size <= 0 {
			return nil, fmt.Errorf("cannot make image for %s: layer %q has no digest or no bytes", s.Platform, l.Name)
		}
		if l.MediaType == "" {
			l.MediaType = LayerMediaType
		}
	}
	var err error
	if img.Config, err = json.Marshal(img.configFile(s.Config)); err != nil {
		return nil, fmt.Errorf("cannot write image configuration: %w", err)
	}
	if img.Manifest, err = json.Marshal(img.manifest(s.Annotations)); err != nil {
		return nil, fmt.Errorf("cannot write image manifest: %w", err)
	}
	img.ManifestDigest = digest.Of(img.Manifest)
	return img, nil
}

func (i *Image) configFile(c Config) *v1.ConfigFile {
	f := &v1.ConfigFile{
		Architecture: i.Platform.Architecture, OS: i.Platform.OS, Variant: i.Platform.Variant,
		Created: v1.Time{Time: i.Created},
		RootFS:  v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User: c.User, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir,
			ExposedPorts: set(c.ExposedPorts), Volumes: set(c.Volumes), StopSignal: c.StopSignal, Labels: c.Labels,
		},
	}
	for _, l := range i.Layers {
		f.RootFS.DiffIDs = append(f.RootFS.DiffIDs, hash(l.DiffID))
		f.History = append(f.History, v1.History{Created: v1.Time{Time: i.Created}, CreatedBy: "quorate: " + l.Name})
	}
	return f
}

func set(names []string) map[string]struct{} {
	if len(names) == 0 {
		return nil
	}
	m := make(map[string]struct{}, len(names))
	for _, name := range names {
		m[name] = struct{}{}
	}
	return m
}

func (i *Image) manifest(annotations map[string]string) *v1.Manifest {
	m := &v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Annotations: annotations,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(i.Config)), Digest: hash(i.ConfigDigest())},
	}
	for _, l := range i.Layers {
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: types.MediaType(l.MediaType), Size: l.Size, Digest: hash(l.Digest)})
	}
	return m
}

// hash writes a digest as go-containerregistry has it.
func hash(d digest.Digest) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: d.Hex()} }

// Index returns the image index of several platforms, in the order given.
func Index(images []Image) ([]byte, error) {
	return index(images, nil)
}

func index(images []Image, annotations map[string]string) ([]byte, error) {
	m := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	seen := map[Platform]bool{}
	for i := range images {
		img := &images[i]
		if seen[img.Platform] {
			return nil, fmt.Errorf("cannot make image index: platform %s is there twice", img.Platform)
		}
		seen[img.Platform] = true
		d := img.descriptor()
		d.Annotations = annotations
		m.Manifests = append(m.Manifests, d)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("cannot write image index: %w", err)
	}
	return b, nil
}

func (i *Image) descriptor() v1.Descriptor {
	return v1.Descriptor{
		MediaType: types.OCIManifestSchema1, Size: int64(len(i.Manifest)), Digest: hash(i.ManifestDigest),
		Platform: &v1.Platform{OS: i.Platform.OS, Architecture: i.Platform.Architecture, Variant: i.Platform.Variant},
	}
}

// tag is the reference that every layout has: umoci and podman want one, and
// what an image is called is for those who push it to say.
const tag = "latest"

// refName is the annotation by which layouts name an image (OCI image-spec, annotations.md).
const refName = "org.opencontainers.image.ref.name"

// topIndex returns a layout's index.json, and the blob of a nested index when
// there are several platforms.
func topIndex(images []Image) (top, nested []byte, err error) {
	named := map[string]string{refName: tag}
	if len(images) == 1 {
		top, err = index(images, named)
		return top, nil, err
	}
	if nested, err = Index(images); err != nil {
		return nil, nil, err
	}
	top, err = json.Marshal(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{{MediaType: types.OCIImageIndex, Size: int64(len(nested)), Digest: hash(digest.Of(nested)), Annotations: named}},
	})
	return top, nested, err
}

// ParsePlatform reads "linux/amd64" or "linux/arm64/v8".
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return Platform{}, fmt.Errorf("platform %q is not of the form OS/ARCHITECTURE[/VARIANT]", s)
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}
