// Package ociimage locks images that somebody else made: for each platform the
// manifest, the configuration and the layers, every one by its digest.
//
// An image is named by a reference in a registry, or by "oci:PATH", an image
// layout beside the definition, with the tag or the digest where it holds more
// than one image. A tag is asked once, when it is locked; from
// then on the digest counts, and a tag that moves is only seen by the next
// `quorate lock`. With a policy, the image is verified by it before anything
// of it is taken, as `quorate verify` does, and whenever it is locked anew: the
// policy may have changed.
//
// The fact "digest" is what the reference named: an index of several platforms
// or the manifest of one. Pins are called "manifest", "config" and "layer-1" and
// have the paths that an image layout gives blobs.
package ociimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
)

// Registry is what is asked of a registry; builder/registry's client is made
// one by cmd/quorate.
type Registry interface {
	// Manifest reads what a reference names, at most 4 MiB. Bytes that came by
	// digest were held against it.
	Manifest(ctx context.Context, ref string) (mediaType string, b []byte, err error)
	// Blob opens a blob of the repository that a reference is in.
	Blob(ctx context.Context, ref string, d digest.Digest, size int64) (io.ReadCloser, error)
}

// Options say how this machine reaches images.
type Options struct {
	Registry Registry
	Dir      string // of the project, where layouts lie; "" where there is none
	// Verify judges an image of a registry or of a layout (oci:DIR), given by
	// digest, by a policy beside the definition; nil when it is verified.
	Verify func(ctx context.Context, ref, policy string) error
}

// Kind implements source.Kind.
type Kind struct{ o Options }

// New returns how images are locked on this machine.
func New(o Options) *Kind { return &Kind{o} }

const (
	factDigest   = "digest"
	layoutPrefix = "oci:"

	maxDocument = 4 << 20 // bytes; registries refuse larger manifests (distribution-spec)
	maxLayers   = 127     // that Docker's overlay2 mounts
	maxChildren = 256     // manifests in an index; every known tool writes some dozens
)

// descriptor and the documents below are of the OCI image specification, as
// far as we read them.
type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
	Platform  *platform     `json:"platform"`

	ArtifactType string            `json:"artifactType"` // of what is no image; some tools give images one
	Annotations  map[string]string `json:"annotations"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

type index struct {
	Manifests []descriptor `json:"manifests"`
}

type manifest struct {
	Config descriptor   `json:"config"`
	Layers []descriptor `json:"layers"`
}

type config struct {
	platform
	RootFS struct {
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
}

// isIndex knows both names of a list of several platforms.
func isIndex(mediaType string) bool {
	return mediaType == "application/vnd.oci.image.index.v1+json" || mediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

func isManifest(mediaType string) bool {
	return mediaType == "application/vnd.oci.image.manifest.v1+json" || mediaType == "application/vnd.docker.distribution.manifest.v2+json"
}

// layerTypes are those that a build can ship and unpack.
var layerTypes = map[string]bool{
	"application/vnd.oci.image.layer.v1.tar": true, "application/vnd.oci.image.layer.v1.tar+gzip": true, "application/vnd.oci.image.layer.v1.tar+zstd": true,
	"application/vnd.docker.image.rootfs.diff.tar.gzip": true,
}

// ImageError says that an image is not one that can be built on.
type ImageError struct {
	Image, Reason string
}

func (e *ImageError) Error() string { return fmt.Sprintf("image %q %s", e.Image, e.Reason) }

// place is where an image is: a reference of a registry, or a layout.
type place struct {
	Registry
	ref string
}

// at is the same place, by digest.
func (p place) at(d digest.Digest) string {
	base, _, _ := strings.Cut(p.ref, "@")
	if i := strings.LastIndexByte(base, ':'); i > strings.LastIndexByte(base, '/') {
		base = base[:i]
	}
	return base + "@" + d.String()
}

func (k *Kind) place(image string) (place, error) {
	path, ok := strings.CutPrefix(image, layoutPrefix)
	if !ok {
		if k.o.Registry == nil {
			return place{}, errors.New("no registry can be asked here")
		}
		return place{k.o.Registry, image}, nil
	}
	if k.o.Dir == "" {
		return place{}, fmt.Errorf("image layout %q lies beside the definition, and only the lock is here", path)
	}
	path, rest := splitLayout(path)
	return place{&folder{filepath.Join(k.o.Dir, filepath.FromSlash(path))}, layoutName + rest}, nil
}

// layoutName stands in references for the repository that a layout is.
const layoutName = "layout"

// splitLayout parts the path of a layout from its tag and digest, "" for none.
// The path of a folder whose name has a colon ends in a slash.
func splitLayout(s string) (path, rest string) {
	path = s
	if at := strings.LastIndex(path, "@sha256:"); at >= 0 {
		path = path[:at]
	}
	if colon := strings.LastIndexByte(path, ':'); colon > strings.LastIndexByte(path, '/') {
		path = path[:colon]
	}
	return path, s[len(path):]
}

// reference is how others name the image, by digest.
func (p place) reference(d digest.Digest) string {
	f, ok := p.Registry.(*folder)
	if !ok {
		return p.at(d)
	}
	dir := f.dir
	if strings.Contains(filepath.Base(dir), ":") {
		dir += "/"
	}
	return layoutPrefix + dir + "@" + d.String()
}

// Resolve finds what the reference names today.
func (k *Kind) Resolve(ctx context.Context, q source.Query) (*source.Answer, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	image, policy := q.Request.Ask["image"], q.Request.Ask["policy"]
	at, err := k.place(image)
	if err != nil {
		return nil, err
	}
	mediaType, top, err := at.Manifest(ctx, at.ref)
	if err != nil {
		return nil, err
	}
	sum := digest.Of(top)
	if policy != "" {
		if err := k.o.Verify(ctx, at.reference(sum), policy); err != nil {
			return nil, fmt.Errorf("image %q (%s) is not verified by %q: %w", image, sum, policy, err)
		}
	}
	if q.Previous != nil && q.Previous.Facts[factDigest] == sum.String() && covers(q) {
		return &source.Answer{Facts: q.Previous.Facts, Pins: q.Pins}, nil
	}
	answer := &source.Answer{Facts: lockfile.Facts{factDigest: sum.String()}}
	for _, p := range q.Platforms {
		pins, err := k.lock(ctx, q, at, image, mediaType, top, p)
		if err != nil {
			return nil, err
		}
		answer.Pins = append(answer.Pins, pins...)
	}
	return answer, nil
}

// covers reports whether the pins before are for all platforms.
func covers(q source.Query) bool {
	have := map[string]bool{}
	for _, p := range q.Pins {
		have[p.Platform] = true
	}
	for _, p := range q.Platforms {
		if !have[p.String()] {
			return false
		}
	}
	return len(have) == len(q.Platforms)
}

// lock pins the image of one platform.
func (k *Kind) lock(ctx context.Context, q source.Query, at place, image, mediaType string, top []byte, p definition.Platform) ([]lockfile.Pin, error) {
	raw := top
	if isIndex(mediaType) {
		d, err := choose(image, top, p)
		if err != nil {
			return nil, err
		}
		if mediaType, raw, err = at.Manifest(ctx, at.at(d.Digest)); err != nil {
			return nil, err
		}
	}
	if !isManifest(mediaType) {
		return nil, &ImageError{image, fmt.Sprintf("has a manifest of type %q", mediaType)}
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, &ImageError{image, fmt.Sprintf("has a manifest that cannot be read: %v", err)}
	}
	if err := check(image, m); err != nil {
		return nil, err
	}
	pins := []lockfile.Pin{{Name: "manifest", Size: int64(len(raw)), SHA256: digest.Of(raw), By: lockfile.ByRequest}, pin("config", m.Config)}
	for i, l := range m.Layers {
		if !seen(pins, l.Digest) { // some images have an empty layer twice
			pins = append(pins, pin(fmt.Sprintf("layer-%d", i+1), l))
		}
	}
	for i := range pins {
		pins[i].Platform, pins[i].Path = p.String(), "blobs/sha256/"+pins[i].SHA256.Hex()
	}
	if err := k.bring(ctx, q, at, pins); err != nil {
		return nil, err
	}
	return pins, checkConfig(image, q.Blobs, m, p)
}

func pin(name string, d descriptor) lockfile.Pin {
	return lockfile.Pin{Name: name, Size: d.Size, SHA256: d.Digest, By: "manifest"}
}

func seen(pins []lockfile.Pin, d digest.Digest) bool {
	for _, p := range pins {
		if p.SHA256 == d {
			return true
		}
	}
	return false
}

// choose picks the one manifest of a platform.
func choose(image string, top []byte, want definition.Platform) (descriptor, error) {
	var list index
	if err := json.Unmarshal(top, &list); err != nil {
		return descriptor{}, &ImageError{image, fmt.Sprintf("has an index that cannot be read: %v", err)}
	}
	if len(list.Manifests) > maxChildren {
		return descriptor{}, &ImageError{image, fmt.Sprintf("has an index of more than %d manifests", maxChildren)}
	}
	var has []string
	for _, d := range list.Manifests {
		if d.Platform == nil || d.Platform.OS == "unknown" { // attestations beside the images
			continue
		}
		if d.Platform.is(want) {
			return d, nil
		}
		has = append(has, d.Platform.String())
	}
	return descriptor{}, &ImageError{image, fmt.Sprintf("is not there for %s; it is for %s", want, strings.Join(has, ", "))}
}

// is compares platforms. The one variant of arm64 that there is may be left out
// (OCI image-spec, image-index.md, "Platform Variants").
func (p platform) is(want definition.Platform) bool {
	variant := p.Variant
	if p.Architecture == "arm64" && variant == "v8" {
		variant = ""
	}
	return p.OS == want.OS && p.Architecture == want.Architecture && variant == want.Variant
}

func (p platform) String() string {
	return definition.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}.String()
}

// check refuses what a build could not ship or unpack.
func check(image string, m manifest) error {
	if len(m.Layers) == 0 || len(m.Layers) > maxLayers {
		return &ImageError{image, fmt.Sprintf("has %d layers; 1 to %d can be built on", len(m.Layers), maxLayers)}
	}
	if m.Config.Size <= 0 || m.Config.Size > maxDocument || m.Config.Digest.IsZero() {
		return &ImageError{image, fmt.Sprintf("has a configuration of %d bytes", m.Config.Size)}
	}
	for i, l := range m.Layers {
		if !layerTypes[l.MediaType] {
			return &ImageError{image, fmt.Sprintf("has a layer %d of type %q, which cannot be unpacked", i+1, l.MediaType)}
		}
		if l.Size <= 0 || l.Digest.IsZero() {
			return &ImageError{image, fmt.Sprintf("has a layer %d without size or digest", i+1)}
		}
	}
	return nil
}

// checkConfig holds the configuration against the manifest and the platform.
func checkConfig(image string, blobs source.Blobs, m manifest, want definition.Platform) error {
	r, err := blobs.Open(m.Config.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	var c config
	if err := json.NewDecoder(io.LimitReader(r, maxDocument)).Decode(&c); err != nil {
		return &ImageError{image, fmt.Sprintf("has a configuration that cannot be read: %v", err)}
	}
	if !c.is(want) {
		return &ImageError{image, fmt.Sprintf("is for %s, not for %s", c.platform, want)}
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return &ImageError{image, fmt.Sprintf("has %d layers, and its configuration %d", len(m.Layers), len(c.RootFS.DiffIDs))}
	}
	return nil
}

// bring brings blobs whose digests are known.
func (k *Kind) bring(ctx context.Context, q source.Query, at place, pins []lockfile.Pin) error {
	var wanted []source.Wanted
	for _, p := range pins {
		if q.Blobs.Has(p.SHA256, p.Size) {
			continue
		}
		wanted = append(wanted, source.Wanted{
			Name: p.Name + " " + p.SHA256.Short() + " of " + q.Request.Ask["image"], Limit: p.Size,
			Sources: []fetch.Source{&blob{place: at, pin: p}},
			Verify: func(r io.ReaderAt, size int64) error {
				_, err := io.Copy(io.Discard, digest.NewReader(io.NewSectionReader(r, 0, size), p.SHA256, p.Size))
				return err
			},
		})
	}
	_, err := source.Bring(ctx, wanted, q.Blobs, q.Fetch)
	return err
}

// Open returns the image's own place.
func (k *Kind) Open(in lockfile.InputRequest, pin lockfile.Pin) ([]fetch.Source, error) {
	at, err := k.place(in.Ask["image"])
	if err != nil {
		return []fetch.Source{nowhere{err}}, nil
	}
	return []fetch.Source{&blob{place: at, pin: pin}}, nil
}

// blob is one blob of an image as fetch wants it.
type blob struct {
	place
	pin lockfile.Pin
}

func (b *blob) String() string { return b.at(b.pin.SHA256) }

// Host returns the registry; "" for a layout.
func (b *blob) Host() string {
	if b.Local() {
		return ""
	}
	host, _, _ := strings.Cut(b.ref, "/")
	return host
}

// Local reports whether no network is needed.
func (b *blob) Local() bool {
	_, ok := b.Registry.(*folder)
	return ok
}

// Open begins at the start: few registries do ranges of blobs.
func (b *blob) Open(ctx context.Context, _ int64) (io.ReadCloser, int64, error) {
	if b.pin.Name != "manifest" {
		r, err := b.Blob(ctx, b.ref, b.pin.SHA256, b.pin.Size)
		return r, 0, err
	}
	_, raw, err := b.Manifest(ctx, b.at(b.pin.SHA256))
	if err != nil {
		return nil, 0, err
	}
	return io.NopCloser(strings.NewReader(string(raw))), 0, nil
}

// nowhere is the place of what cannot be had from here.
type nowhere struct{ err error }

func (n nowhere) String() string { return "nowhere" }

// Open implements fetch.Source.
func (n nowhere) Open(context.Context, int64) (io.ReadCloser, int64, error) {
	return nil, 0, &permanent{n.err}
}

type permanent struct{ err error }

func (e *permanent) Error() string   { return e.err.Error() }
func (e *permanent) Unwrap() error   { return e.err }
func (e *permanent) Permanent() bool { return true }
