package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile/digest"
)

// An artifact is carried where no registry reaches as a folder of its own, an
// OCI image layout (image-spec, image-layout.md) whose index lists that one
// manifest. Client reads it as any layout.

// WriteLayout writes an artifact to dir as a layout; the same artifact is the
// same files. What an earlier, interrupted run left is taken over when its
// bytes are right, so the same again finishes it. The index is written last: a
// folder without one is not whole. What is not the artifact's is removed from
// the folder; one that holds something else than such an artifact is refused.
// done is called for each blob, from several goroutines; it may be nil.
func WriteLayout(ctx context.Context, dir string, a *Artifact, done func(size int64)) (Descriptor, error) {
	top, err := writeLayout(ctx, filepath.Clean(dir), a, done)
	if err != nil {
		return Descriptor{}, fmt.Errorf("cannot write to %q: %w", dir, err)
	}
	return top, nil
}

func writeLayout(ctx context.Context, dir string, a *Artifact, done func(size int64)) (Descriptor, error) {
	top, err := a.Describe(Descriptor{})
	if err != nil {
		return top, err
	}
	raw, err := a.manifest(Descriptor{})
	if err != nil {
		return top, err
	}
	if len(raw) > manifestMax {
		return top, &limitError{fmt.Sprintf("the manifest has %d bytes; registries take %d", len(raw), manifestMax)}
	}
	if err := CheckLayout(dir, a.Type); err != nil {
		return top, err
	}
	l, err := makeLayoutDir(dir)
	if err != nil {
		return top, err
	}
	defer l.Close()
	turn, err := l.lock(ctx) // to the end: what others write would be swept
	if err != nil {
		return top, err
	}
	defer turn.Close()
	l.sweep()
	if err := fillArtifact(ctx, l, a, raw, done); err != nil {
		return top, err
	}
	if err := l.keepOnly(a, top.Digest); err != nil {
		return top, err
	}
	index, err := json.Marshal(struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []Descriptor `json:"manifests"`
	}{2, image.IndexMediaType, []Descriptor{top}})
	if err != nil {
		return top, err
	}
	return top, l.writeIndex(index)
}

// fillArtifact writes the layers that are not there yet, the manifest last.
func fillArtifact(ctx context.Context, l *layoutDir, a *Artifact, manifest []byte, done func(size int64)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(blobsAtOnce)
	contents := []*content{inMemory(EmptyMediaType, []byte(emptyConfig))}
	for _, layer := range a.Layers {
		contents = append(contents, &content{mediaType: layer.MediaType, digest: layer.Digest, size: layer.Size, open: layer.Open})
	}
	for _, c := range contents {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := l.fill(ctx, c); err != nil {
				return err
			}
			if done != nil {
				done(c.size)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return l.replace(blobName(digest.Of(manifest)), bytes.NewReader(manifest))
}

// keepOnly removes blobs that are not of the artifact: older versions of it,
// and files that a killed run left.
func (l *layoutDir) keepOnly(a *Artifact, manifest digest.Digest) error {
	keep := map[string]bool{manifest.Hex(): true, digest.Of([]byte(emptyConfig)).Hex(): true}
	for _, layer := range a.Layers {
		keep[layer.Digest.Hex()] = true
	}
	list, err := fs.ReadDir(l.FS(), blobsFolder)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !keep[e.Name()] {
			if err := l.Remove(blobsFolder + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckLayout reports what WriteLayout would refuse about dir: anything but
// nothing, an empty folder, or a layout of an artifact of the type, whole or begun.
func CheckLayout(dir, artifactType string) error {
	l, err := openLayoutDir(dir)
	if err != nil {
		if kindOf(err) == NotFound {
			return nil
		}
		return err
	}
	defer l.Close()
	if err := l.holdsNothingElse(); err != nil {
		return err
	}
	manifest, err := l.onlyManifest()
	if errors.Is(err, fs.ErrNotExist) || kindOf(err) == NotFound {
		return nil // begun
	}
	if err == nil && artifactTypeOf(manifest) != artifactType {
		return &LayoutError{Dir: dir, Reason: "is there and is the layout of something else"}
	}
	return err
}

// onlyManifest reads the one manifest that a layout lists.
func (l *layoutDir) onlyManifest() ([]byte, error) {
	raw, err := l.document(indexFile)
	if err != nil {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil || len(index.Manifests) != 1 {
		return nil, &LayoutError{Dir: l.dir, Reason: "is there and has no index that lists one manifest"}
	}
	top, err := describe(index.Manifests[0])
	if err != nil {
		return nil, &LayoutError{Dir: l.dir, Reason: err.Error()}
	}
	return l.blobDocument(top)
}

// parseArtifact reads the manifest of an artifact, and its subject, if it has one.
func parseArtifact(raw []byte, open func(Descriptor) (io.ReadCloser, error)) (*Artifact, digest.Digest, error) {
	parsed, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, digest.Digest{}, fmt.Errorf("the manifest cannot be read: %w", err)
	}
	var subject digest.Digest
	if parsed.Subject != nil {
		if subject, err = digest.Parse(parsed.Subject.Digest.String()); err != nil {
			return nil, subject, fmt.Errorf("the manifest cannot be read: %w", err)
		}
	}
	a := &Artifact{Type: artifactTypeOf(raw), Annotations: parsed.Annotations}
	for _, l := range parsed.Layers {
		d, err := describe(l)
		if err != nil {
			return nil, subject, err
		}
		a.Layers = append(a.Layers, ArtifactLayer{
			MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Annotations: d.Annotations,
			Open: func() (io.ReadCloser, error) { return open(d) },
		})
	}
	return a, subject, nil
}

// PushArtifact pushes an artifact that refers to nothing, by digest, and gives
// it the reference's tag when that has one. What is there already is not sent again.
func (c *Client) PushArtifact(ctx context.Context, ref Reference, a *Artifact) (Descriptor, error) {
	top, err := a.Describe(Descriptor{})
	if err == nil {
		err = c.pushArtifacts(ctx, ref, Descriptor{}, a)
	}
	if err != nil {
		return top, fault("push to", ref, err)
	}
	if ref.Tag() != "" {
		err = c.Tag(ctx, ref, top.Digest)
	}
	return top, err
}

// PullArtifact reads the manifest that a reference names as an artifact.
func (c *Client) PullArtifact(ctx context.Context, ref Reference) (*Artifact, Descriptor, error) {
	if ref.identifier() == "" {
		d, err := c.keeper(ref).sole(ctx, ref, true)
		if err != nil {
			return nil, Descriptor{}, fault("pull", ref, err)
		}
		ref = ref.At(d)
	}
	m, err := c.Resolve(ctx, ref)
	if err != nil {
		return nil, Descriptor{}, err
	}
	at := ref.At(m.Digest)
	a, _, err := parseArtifact(m.Bytes, func(d Descriptor) (io.ReadCloser, error) { return c.Blob(ctx, at, d.Digest, d.Size) })
	if err != nil {
		return nil, Descriptor{}, fault("pull", at, err)
	}
	return a, Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Bytes)), ArtifactType: a.Type}, nil
}

// probe finds out whether files can be made in a folder, or in the nearest one
// above it that is there.
func probe(dir string) error {
	for {
		aside, err := os.MkdirTemp(dir, asidePrefix+"*")
		if err == nil {
			return os.Remove(aside)
		}
		above := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || above == dir {
			return err
		}
		dir = above
	}
}
