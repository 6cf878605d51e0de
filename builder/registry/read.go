package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile/digest"
)

// Manifest is a manifest or an index, and the descriptor of its bytes.
type Manifest struct {
	Descriptor
	Bytes []byte
}

// Media types of manifests that are asked for and understood. Docker's own are
// there because images that others made are verified too.
var manifestTypes = []string{
	image.ManifestMediaType, image.IndexMediaType,
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
}

// IsIndex reports whether the manifest is one of several platforms.
func (m *Manifest) IsIndex() bool {
	return m.MediaType == manifestTypes[1] || m.MediaType == manifestTypes[3]
}

// Resolve reads the manifest that a reference names. Its digest is that of the
// bytes that came; when the reference has a digest, they are equal.
func (c *Client) Resolve(ctx context.Context, ref Reference) (*Manifest, error) {
	if ref.identifier() == "" {
		d, err := c.keeper(ref).sole(ctx, ref, false)
		if err != nil {
			return nil, fault("pull", ref, err)
		}
		ref = ref.At(d)
	}
	m, err := c.manifest(ctx, ref)
	return m, fault("pull", ref, err)
}

func (c *Client) manifest(ctx context.Context, ref Reference) (*Manifest, error) {
	return c.keeper(ref).manifest(ctx, ref)
}

func readLimited(r io.Reader, limit int64, what string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, &limitError{fmt.Sprintf("the %s has more than %d bytes", what, limit)}
	}
	return b, nil
}

// Blob opens a blob. Reading to its end checks digest and size
// (*digest.MismatchError, *digest.SizeError).
func (c *Client) Blob(ctx context.Context, ref Reference, d digest.Digest, size int64) (io.ReadCloser, error) {
	return c.keeper(ref).blob(ctx, ref, d, size)
}

// Bytes reads a small blob whole.
func (c *Client) Bytes(ctx context.Context, ref Reference, d digest.Digest, size, limit int64) ([]byte, error) {
	if size < 0 || size > limit {
		return nil, fault("pull blob "+d.String()+" of", ref, &limitError{fmt.Sprintf("it has %d bytes; at most %d are read", size, limit)})
	}
	r, err := c.Blob(ctx, ref, d, size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Limits of an index: every known tool writes one level and some dozens of platforms.
const (
	imagesMax = 256
	layersMax = 127 // that Docker's overlay2 mounts
)

// Children returns the descriptors that an index names.
func (m *Manifest) Children() ([]Descriptor, error) {
	if !m.IsIndex() {
		return nil, nil
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(m.Bytes))
	if err != nil {
		return nil, fmt.Errorf("index %s cannot be read: %w", m.Digest, err)
	}
	if len(index.Manifests) > imagesMax {
		return nil, &limitError{fmt.Sprintf("index %s names more than %d images", m.Digest, imagesMax)}
	}
	var all []Descriptor
	for _, d := range index.Manifests {
		one, err := describe(d)
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", m.Digest, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// describe reads a descriptor as go-containerregistry has it.
func describe(d v1.Descriptor) (Descriptor, error) {
	sum, err := digest.Parse(d.Digest.String())
	if err != nil {
		return Descriptor{}, err
	}
	if d.Size < 0 {
		return Descriptor{}, fmt.Errorf("%s has the size %d", sum, d.Size)
	}
	return Descriptor{MediaType: string(d.MediaType), Digest: sum, Size: d.Size, ArtifactType: d.ArtifactType, Annotations: d.Annotations}, nil
}

// Sink takes blobs; a *store.Store is one. Put reads r to its end, or fails.
type Sink interface {
	Put(r io.Reader, want digest.Digest, size int64) error
}

// Pull reads an image, or all images of an index, whole. Layers go to the sink,
// which may be nil when only the documents are wanted. Layer.Name is not known.
func (c *Client) Pull(ctx context.Context, ref Reference, layers Sink) ([]image.Image, error) {
	images, err := c.pull(ctx, ref, layers)
	return images, fault("pull", ref, err)
}

func (c *Client) pull(ctx context.Context, ref Reference, layers Sink) ([]image.Image, error) {
	top, err := c.manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	manifests := []*Manifest{top}
	if top.IsIndex() {
		children, err := top.Children()
		if err != nil {
			return nil, err
		}
		manifests = nil
		for _, d := range children {
			m, err := c.manifest(ctx, ref.At(d.Digest))
			if err != nil {
				return nil, err
			}
			manifests = append(manifests, m)
		}
	}
	var images []image.Image
	for _, m := range manifests {
		img, err := c.readImage(ctx, ref, m)
		if err != nil {
			return nil, err
		}
		images = append(images, *img)
	}
	if layers == nil {
		return images, nil
	}
	return images, c.eachLayer(ctx, images, func(ctx context.Context, l image.Layer) error {
		r, err := c.Blob(ctx, ref, l.Digest, l.Size)
		if err != nil {
			return err
		}
		defer r.Close()
		return layers.Put(r, l.Digest, l.Size)
	})
}

// readImage reads the documents of one image.
func (c *Client) readImage(ctx context.Context, ref Reference, m *Manifest) (*image.Image, error) {
	parsed, err := v1.ParseManifest(bytes.NewReader(m.Bytes))
	if err != nil {
		return nil, fmt.Errorf("manifest %s cannot be read: %w", m.Digest, err)
	}
	config, err := describe(parsed.Config)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", m.Digest, err)
	}
	img := &image.Image{ManifestDigest: m.Digest, Manifest: m.Bytes}
	if img.Config, err = c.Bytes(ctx, ref, config.Digest, config.Size, manifestMax); err != nil {
		return nil, err
	}
	file, err := v1.ParseConfigFile(bytes.NewReader(img.Config))
	if err != nil {
		return nil, fmt.Errorf("configuration %s cannot be read: %w", config.Digest, err)
	}
	if len(parsed.Layers) != len(file.RootFS.DiffIDs) || len(parsed.Layers) > layersMax {
		return nil, fmt.Errorf("manifest %s has %d layers, and its configuration %d", m.Digest, len(parsed.Layers), len(file.RootFS.DiffIDs))
	}
	img.Platform = image.Platform{OS: file.OS, Architecture: file.Architecture, Variant: file.Variant}
	img.Created = file.Created.Time
	for i, l := range parsed.Layers {
		d, err := describe(l)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", m.Digest, err)
		}
		id, err := digest.Parse(file.RootFS.DiffIDs[i].String())
		if err != nil {
			return nil, fmt.Errorf("configuration %s: %w", config.Digest, err)
		}
		img.Layers = append(img.Layers, image.Layer{Digest: d.Digest, Size: d.Size, DiffID: id, MediaType: d.MediaType})
	}
	return img, nil
}

// eachLayer calls f for every layer of the images once, some at a time.
func (c *Client) eachLayer(ctx context.Context, images []image.Image, f func(context.Context, image.Layer) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(blobsAtOnce)
	var seen []digest.Digest
	for _, img := range images {
		for _, l := range img.Layers {
			if slices.Contains(seen, l.Digest) {
				continue
			}
			seen = append(seen, l.Digest)
			g.Go(func() error { return f(ctx, l) })
		}
	}
	return g.Wait()
}

// ReadBack reads images that were pushed out of the registry again, every byte,
// and holds them against what was meant. A registry that keeps something else
// under a digest is found here and not by those who pull.
func (c *Client) ReadBack(ctx context.Context, ref Reference, images []image.Image) error {
	for _, img := range images {
		m, err := c.manifest(ctx, ref.At(img.ManifestDigest))
		if err == nil && !bytes.Equal(m.Bytes, img.Manifest) {
			err = &digest.MismatchError{Want: img.ManifestDigest, Got: m.Digest}
		}
		if err == nil {
			_, err = c.Bytes(ctx, ref, img.ConfigDigest(), int64(len(img.Config)), manifestMax)
		}
		if err != nil {
			return fault("read back", ref.At(img.ManifestDigest), err)
		}
	}
	err := c.eachLayer(ctx, images, func(ctx context.Context, l image.Layer) error {
		r, err := c.Blob(ctx, ref, l.Digest, l.Size)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(c.watch("check", l.Digest, l.Size), r)
		c.event(Event{Action: "check", Digest: l.Digest, Current: l.Size, Total: l.Size, Done: true})
		return err
	})
	return fault("read back", ref, err)
}

// watch is a writer that reports how much went through it.
func (c *Client) watch(action string, d digest.Digest, total int64) io.Writer {
	return &watcher{client: c, event: Event{Action: action, Digest: d, Total: total}}
}

type watcher struct {
	client *Client
	event  Event
}

func (w *watcher) Write(p []byte) (int, error) {
	w.event.Current += int64(len(p))
	w.client.event(w.event)
	return len(p), nil
}

// artifactTypeOf reads a field that go-containerregistry's manifest does not have.
func artifactTypeOf(manifest []byte) string {
	var m struct {
		ArtifactType string `json:"artifactType"`
	}
	if json.Unmarshal(manifest, &m) != nil {
		return ""
	}
	return m.ArtifactType
}
