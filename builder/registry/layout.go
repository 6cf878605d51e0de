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

// An artifact is carried where no registry reaches as a folder, an OCI image
// layout (image-spec, image-layout.md) whose index lists that one manifest.

// layoutVersion is the whole of the file "oci-layout".
const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// LayoutError says that a folder is no layout of an artifact.
type LayoutError struct {
	Dir, Reason string
}

func (e *LayoutError) Error() string { return fmt.Sprintf("%q %s", e.Dir, e.Reason) }

// blobFile is where a layout keeps a blob.
func blobFile(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", "sha256", d.Hex())
}

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
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return top, err
	}
	if err := replace(filepath.Join(dir, "oci-layout"), bytes.NewReader([]byte(layoutVersion))); err != nil {
		return top, err
	}
	if err := fillBlobs(ctx, dir, a, raw, done); err != nil {
		return top, err
	}
	if err := sweepBlobs(dir, a, top.Digest); err != nil {
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
	return top, replace(filepath.Join(dir, "index.json"), bytes.NewReader(index))
}

// fillBlobs writes the layers that are not there yet, the manifest last.
func fillBlobs(ctx context.Context, dir string, a *Artifact, manifest []byte, done func(size int64)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(blobsAtOnce)
	contents := []*content{inMemory(EmptyMediaType, []byte(emptyConfig))}
	for _, l := range a.Layers {
		contents = append(contents, &content{mediaType: l.MediaType, digest: l.Digest, size: l.Size, open: l.Open})
	}
	for _, c := range contents {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if checkBlob(dir, c.digest, c.size) != nil {
				if err := fillBlob(ctx, dir, c); err != nil {
					return err
				}
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
	return replace(blobFile(dir, digest.Of(manifest)), bytes.NewReader(manifest))
}

func fillBlob(ctx context.Context, dir string, c *content) error {
	r, err := c.open()
	if err != nil {
		return err
	}
	defer r.Close()
	return replace(blobFile(dir, c.digest), cancelled{ctx, digest.NewReader(r, c.digest, c.size)})
}

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c cancelled) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

func checkBlob(dir string, d digest.Digest, size int64) error {
	f, err := openRegular(blobFile(dir, d))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, digest.NewReader(f, d, size))
	return err
}

// replace writes a file beside its place, syncs it and gives it its name.
func replace(path string, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails when all went well
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// sweepBlobs removes what is not of the artifact: older versions of it, and
// files that a killed run left.
func sweepBlobs(dir string, a *Artifact, manifest digest.Digest) error {
	keep := map[string]bool{manifest.Hex(): true, digest.Of([]byte(emptyConfig)).Hex(): true}
	for _, l := range a.Layers {
		keep[l.Digest.Hex()] = true
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	list, err := os.ReadDir(blobs)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !keep[e.Name()] {
			if err := os.Remove(filepath.Join(blobs, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckLayout reports what WriteLayout would refuse about dir: anything but
// nothing, an empty folder, or a layout of an artifact of the type, whole or begun.
func CheckLayout(dir, artifactType string) error {
	list, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0:
		return nil
	case err != nil:
		return &LayoutError{dir, "is there and is not a folder"}
	}
	for _, e := range list {
		if name := e.Name(); name != "blobs" && name != "oci-layout" && name != "index.json" {
			return &LayoutError{dir, fmt.Sprintf("is there and holds %q, which is not of an OCI image layout", name)}
		}
	}
	_, top, err := layoutManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // begun
	}
	if err == nil && top.ArtifactType != artifactType {
		return &LayoutError{dir, "is there and is the layout of something else"}
	}
	return err
}

// layoutManifest reads the one manifest that a layout lists; fs.ErrNotExist
// when it has no index or lacks the manifest.
func layoutManifest(dir string) ([]byte, Descriptor, error) {
	var none Descriptor
	raw, err := readFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, none, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil || len(index.Manifests) != 1 {
		return nil, none, &LayoutError{dir, "has no index that lists one manifest"}
	}
	top, err := describe(index.Manifests[0])
	if err != nil {
		return nil, none, &LayoutError{dir, err.Error()}
	}
	m, err := readFile(blobFile(dir, top.Digest))
	if err != nil {
		return nil, none, err
	}
	if got := digest.Of(m); got != top.Digest {
		return nil, none, fmt.Errorf("the manifest in %q is not what its index names: %w", dir, &digest.MismatchError{Want: top.Digest, Got: got})
	}
	top.ArtifactType = artifactType(m)
	return m, top, nil
}

func readFile(path string) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, manifestMax, "file "+filepath.Base(path))
}

// openRegular opens a file, and no pipe, on which a reader would wait for ever:
// a folder may have come from anybody.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file", path)
	}
	return os.Open(path)
}

// OpenLayout reads the artifact of a layout. Its layers are opened as files and
// checked while they are read to their end.
func OpenLayout(dir string) (*Artifact, Descriptor, error) {
	raw, top, err := layoutManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = &LayoutError{dir, "is no OCI image layout, or not a whole one"}
	}
	if err != nil {
		return nil, top, err
	}
	a, _, err := parseArtifact(raw, func(d Descriptor) (io.ReadCloser, error) {
		f, err := openRegular(blobFile(dir, d.Digest))
		if err != nil {
			return nil, err
		}
		return readCloser{digest.NewReader(f, d.Digest, d.Size), f}, nil
	})
	return a, top, err
}

type readCloser struct {
	io.Reader
	io.Closer
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
	a := &Artifact{Type: artifactType(raw), Annotations: parsed.Annotations}
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
		err = c.pushArtifact(ctx, ref, Descriptor{}, a)
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
