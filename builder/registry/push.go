package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile/digest"
)

// PushImages pushes images by digest, layers first, and returns the descriptor
// of the manifest, or of the index when there are several. No tag points at
// them yet. What the registry has already is not sent again.
func (c *Client) PushImages(ctx context.Context, ref Reference, images []image.Image, blobs image.BlobSource) (Descriptor, error) {
	top, err := c.pushImages(ctx, ref, images, blobs)
	return top, fault("push to", ref, err)
}

func (c *Client) pushImages(ctx context.Context, ref Reference, images []image.Image, blobs image.BlobSource) (Descriptor, error) {
	if len(images) == 0 {
		return Descriptor{}, fmt.Errorf("there is no image")
	}
	err := c.eachLayer(ctx, images, func(ctx context.Context, l image.Layer) error {
		return c.upload(ctx, ref, &content{
			mediaType: l.MediaType, digest: l.Digest, size: l.Size,
			open: func() (io.ReadCloser, error) { return blobs.Open(l.Digest) },
		})
	})
	if err != nil {
		return Descriptor{}, err
	}
	var last Descriptor
	for _, img := range images {
		if err := c.upload(ctx, ref, inMemory(image.ConfigMediaType, img.Config)); err != nil {
			return Descriptor{}, err
		}
		if last, err = c.put(ctx, ref.At(img.ManifestDigest), image.ManifestMediaType, img.Manifest); err != nil {
			return Descriptor{}, err
		}
	}
	if len(images) == 1 {
		return last, nil
	}
	index, err := image.Index(images)
	if err != nil {
		return Descriptor{}, err
	}
	return c.put(ctx, ref.At(digest.Of(index)), image.IndexMediaType, index)
}

// CanPush finds out whether anything may be pushed to the repository, before
// there is something to push.
func (c *Client) CanPush(ctx context.Context, ref Reference) error {
	return fault("push to", ref, c.keeper(ref).accepts(ctx, ref))
}

// upload sends one blob, unless it is there.
func (c *Client) upload(ctx context.Context, ref Reference, b *content) error {
	b.client = c
	if err := c.keeper(ref).upload(ctx, ref, b); err != nil {
		return fmt.Errorf("blob %s: %w", b.digest, err)
	}
	c.event(Event{Action: "push", Digest: b.digest, Current: b.size, Total: b.size, Done: true})
	return nil
}

// put writes a manifest under a tag or a digest.
func (c *Client) put(ctx context.Context, ref Reference, mediaType string, b []byte) (Descriptor, error) {
	d := Descriptor{MediaType: mediaType, Digest: digest.Of(b), Size: int64(len(b))}
	if len(b) > manifestMax {
		return d, &limitError{fmt.Sprintf("the manifest has %d bytes; registries take %d", len(b), manifestMax)}
	}
	return d, c.keeper(ref).put(ctx, ref, rawManifest{mediaType, b})
}

// rawManifest is a remote.Taggable whose bytes stay as they are.
type rawManifest struct {
	mediaType string
	bytes     []byte
}

// RawManifest implements remote.Taggable.
func (m rawManifest) RawManifest() ([]byte, error) { return m.bytes, nil }

// MediaType is asked for by package remote.
func (m rawManifest) MediaType() (types.MediaType, error) { return types.MediaType(m.mediaType), nil }

var _ remote.Taggable = rawManifest{}

// Tag makes the tag of the reference name a manifest of the same repository,
// which is read by its digest first, and asks what the tag says afterwards.
func (c *Client) Tag(ctx context.Context, ref Reference, d digest.Digest) error {
	m, err := c.manifest(ctx, ref.At(d))
	if err != nil {
		return fault("tag", ref, err)
	}
	to := ref.WithTag(ref.tag)
	if _, err := c.put(ctx, to, m.MediaType, m.Bytes); err != nil {
		return fault("tag", ref, err)
	}
	now, err := c.manifest(ctx, to)
	if err != nil {
		return fault("check the tag of", to, err)
	}
	if now.Digest != d {
		return fault("tag", to, &digest.MismatchError{Want: d, Got: now.Digest})
	}
	return nil
}

// Artifact is a manifest that is no image (image-spec, manifest.md, "Guidelines
// for Artifact Usage"): its configuration is the empty object, its layers are
// documents.
type Artifact struct {
	Type        string
	Annotations map[string]string
	Layers      []ArtifactLayer
}

// ArtifactLayer is one document of an artifact.
type ArtifactLayer struct {
	MediaType   string
	Digest      digest.Digest
	Size        int64
	Annotations map[string]string
	Open        func() (io.ReadCloser, error)
}

// Document is an ArtifactLayer of bytes in memory; title may be "".
func Document(mediaType, title string, b []byte) ArtifactLayer {
	l := ArtifactLayer{MediaType: mediaType, Digest: digest.Of(b), Size: int64(len(b)), Open: inMemory(mediaType, b).open}
	if title != "" {
		l.Annotations = map[string]string{titleNote: title}
	}
	return l
}

// titleNote is the annotation that names a layer's file (image-spec, annotations.md).
const titleNote = "org.opencontainers.image.title"

// EmptyMediaType is of the configuration that every Artifact has, and emptyConfig all of it.
const (
	EmptyMediaType = "application/vnd.oci.empty.v1+json"
	emptyConfig    = "{}"
)

type artifactManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// manifest is the same bytes for the same artifact and subject; without a
// subject the artifact stands for itself.
func (a *Artifact) manifest(subject Descriptor) ([]byte, error) {
	m := artifactManifest{
		SchemaVersion: 2, MediaType: image.ManifestMediaType, ArtifactType: a.Type, Annotations: a.Annotations,
		Config: Descriptor{MediaType: EmptyMediaType, Digest: digest.Of([]byte(emptyConfig)), Size: int64(len(emptyConfig))},
	}
	if !subject.Digest.IsZero() {
		m.Subject = &Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	}
	for _, l := range a.Layers {
		m.Layers = append(m.Layers, Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size, Annotations: l.Annotations})
	}
	return json.Marshal(m)
}

// Describe returns the descriptor that an artifact has once it is attached to
// the subject, as a list of referrers tells it.
func (a *Artifact) Describe(subject Descriptor) (Descriptor, error) {
	b, err := a.manifest(subject)
	return Descriptor{
		MediaType: image.ManifestMediaType, Digest: digest.Of(b), Size: int64(len(b)),
		ArtifactType: a.Type, Annotations: maps.Clone(a.Annotations),
	}, err
}

// pushArtifacts pushes the documents of artifacts, then their manifests, by digest.
func (c *Client) pushArtifacts(ctx context.Context, ref Reference, subject Descriptor, artifacts ...*Artifact) error {
	var manifests []rawManifest
	g, ctx2 := errgroup.WithContext(ctx)
	g.SetLimit(blobsAtOnce)
	g.Go(func() error { return c.upload(ctx2, ref, inMemory(EmptyMediaType, []byte(emptyConfig))) })
	for _, a := range artifacts {
		b, err := a.manifest(subject)
		if err == nil && len(b) > manifestMax {
			err = &limitError{fmt.Sprintf("the manifest has %d bytes; registries take %d", len(b), manifestMax)}
		}
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		manifests = append(manifests, rawManifest{image.ManifestMediaType, b})
		for _, l := range a.Layers {
			g.Go(func() error {
				return c.upload(ctx2, ref, &content{mediaType: l.MediaType, digest: l.Digest, size: l.Size, open: l.Open})
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.keeper(ref).put(ctx, ref.WithTag(""), manifests...)
}

// content is a blob to be sent; it implements v1.Layer for package remote.
type content struct {
	mediaType string
	digest    digest.Digest
	size      int64
	open      func() (io.ReadCloser, error)
	client    *Client // hears how far it is; may be nil
}

var _ v1.Layer = (*content)(nil)

// Digest implements v1.Layer.
func (c *content) Digest() (v1.Hash, error) {
	return v1.Hash{Algorithm: "sha256", Hex: c.digest.Hex()}, nil
}

// DiffID implements v1.Layer. Sending does not ask for it.
func (c *content) DiffID() (v1.Hash, error) { return c.Digest() }

// Compressed implements v1.Layer. What is read is held against the digest, so
// that a damaged disk is not published.
func (c *content) Compressed() (io.ReadCloser, error) {
	r, err := c.open()
	if err != nil {
		return nil, err
	}
	checked := io.Reader(digest.NewReader(r, c.digest, c.size))
	if c.client != nil {
		checked = io.TeeReader(checked, c.client.watch("push", c.digest, c.size))
	}
	return readCloser{checked, r}, nil
}

// Uncompressed implements v1.Layer. Sending does not ask for it.
func (c *content) Uncompressed() (io.ReadCloser, error) { return c.Compressed() }

// Size implements v1.Layer.
func (c *content) Size() (int64, error) { return c.size, nil }

// MediaType implements v1.Layer.
func (c *content) MediaType() (types.MediaType, error) { return types.MediaType(c.mediaType), nil }
