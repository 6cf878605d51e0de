package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"quorate.dev/lockfile/digest"
)

// documentMax bounds every JSON document: registries refuse manifests above
// 4 MiB (distribution-spec).
const documentMax = 4 << 20

// imagesMax bounds the images of a layout, indexDepth how indexes may nest: every
// known tool writes at most two levels and some dozens of platforms. documentsMax
// bounds all that is read of indexes, manifests and configurations, since an index
// may be named by another one many times.
const (
	imagesMax    = 256
	indexDepth   = 3
	documentsMax = 10_000
)

// Layout is an OCI image layout on disk whose digests hold.
type Layout struct {
	Dir    string
	Index  []byte  // index.json
	Images []Image // in the order of the indexes; Layer.Name is not known

	documents int // read so far
}

// Open opens a blob, so that a Layout is a BlobSource. The caller checks the bytes.
func (l *Layout) Open(d digest.Digest) (io.ReadCloser, error) {
	return os.Open(filepath.Join(l.Dir, filepath.FromSlash(blobPath(d))))
}

// BlobError says which blob of a layout is not what its name promises. Err is
// a *digest.MismatchError, a *digest.SizeError, or an error of reading.
type BlobError struct {
	Dir    string
	What   string // "manifest", "configuration", "layer", "index"
	Digest digest.Digest
	Err    error
}

func (e *BlobError) Error() string {
	return fmt.Sprintf("image layout %q: %s %s: %v", e.Dir, e.What, e.Digest, e.Err)
}

func (e *BlobError) Unwrap() error { return e.Err }

// emptyConfigType is of the configuration of what is no image (image-spec,
// manifest.md, "Guidance for an Empty Descriptor").
const emptyConfigType = "application/vnd.oci.empty.v1+json"

// ReadOCI reads an OCI image layout: its indexes, manifests and
// configurations. Every blob that they name, layers included, is read and held
// against its digest and size. Artifacts that lie beside images are not read.
func ReadOCI(dir string) (*Layout, error) {
	l := &Layout{Dir: dir}
	version, err := readSmall(filepath.Join(dir, "oci-layout"))
	if err != nil {
		return nil, fmt.Errorf("%q is not an OCI image layout: %w", dir, err)
	}
	var v struct{ ImageLayoutVersion string }
	if err := json.Unmarshal(version, &v); err != nil || v.ImageLayoutVersion != "1.0.0" {
		return nil, fmt.Errorf("%q is an image layout of version %q, expected 1.0.0", dir, v.ImageLayoutVersion)
	}
	if l.Index, err = readSmall(filepath.Join(dir, "index.json")); err != nil {
		return nil, fmt.Errorf("image layout %q: %w", dir, err)
	}
	if err := l.readIndex(l.Index, 1, map[digest.Digest]bool{}); err != nil {
		return nil, err
	}
	if len(l.Images) == 0 {
		return nil, fmt.Errorf("image layout %q holds no image", dir)
	}
	return l, nil
}

// readSmall reads a document of limited size.
func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, documentMax+1))
	if err == nil && len(b) > documentMax {
		err = fmt.Errorf("%q has more than %d bytes", file, documentMax)
	}
	return b, err
}

func (l *Layout) readIndex(raw []byte, depth int, checked map[digest.Digest]bool) error {
	if depth > indexDepth {
		return fmt.Errorf("image layout %q: indexes nest more than %d deep", l.Dir, indexDepth)
	}
	m, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("image layout %q: index: %w", l.Dir, err)
	}
	for _, d := range m.Manifests {
		if len(l.Images) >= imagesMax {
			return fmt.Errorf("image layout %q holds more than %d images", l.Dir, imagesMax)
		}
		switch d.MediaType {
		case types.OCIImageIndex:
			b, err := l.document("index", d)
			if err != nil {
				return err
			}
			if err := l.readIndex(b, depth+1, checked); err != nil {
				return err
			}
		case types.OCIManifestSchema1:
			if err := l.readImage(d, checked); err != nil {
				return err
			}
		default:
			return fmt.Errorf("image layout %q: media type %q in an index, expected %q or %q", l.Dir, d.MediaType, IndexMediaType, ManifestMediaType)
		}
	}
	return nil
}

func (l *Layout) readImage(d v1.Descriptor, checked map[digest.Digest]bool) error {
	raw, err := l.document("manifest", d)
	if err != nil {
		return err
	}
	img := Image{Manifest: raw, ManifestDigest: digest.Of(raw)}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return l.broken("manifest", img.ManifestDigest, err)
	}
	if m.Config.MediaType == emptyConfigType {
		return nil // an artifact, which refers to an image: an SBOM, say
	}
	if img.Config, err = l.document("configuration", m.Config); err != nil {
		return err
	}
	c, err := v1.ParseConfigFile(bytes.NewReader(img.Config))
	if err != nil {
		return l.broken("configuration", img.ConfigDigest(), err)
	}
	img.Platform = Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}
	img.Created = c.Created.Time
	if d.Platform != nil && (d.Platform.OS != c.OS || d.Platform.Architecture != c.Architecture || d.Platform.Variant != c.Variant) {
		return l.broken("configuration", img.ConfigDigest(), fmt.Errorf("is for %s, but the index says %s/%s", img.Platform, d.Platform.OS, d.Platform.Architecture))
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) || len(m.Layers) > layersMax {
		return l.broken("manifest", img.ManifestDigest, fmt.Errorf("has %d layers, and its configuration %d", len(m.Layers), len(c.RootFS.DiffIDs)))
	}
	for i, d := range m.Layers {
		layer, err := l.readLayer(d, c.RootFS.DiffIDs[i], checked)
		if err != nil {
			return err
		}
		img.Layers = append(img.Layers, layer)
	}
	l.Images = append(l.Images, img)
	return nil
}

func (l *Layout) broken(what string, d digest.Digest, err error) error {
	return &BlobError{Dir: l.Dir, What: what, Digest: d, Err: err}
}

func (l *Layout) readLayer(d v1.Descriptor, diffID v1.Hash, checked map[digest.Digest]bool) (Layer, error) {
	sum, err := digest.Parse(d.Digest.String())
	if err != nil {
		return Layer{}, fmt.Errorf("image layout %q: layer: %w", l.Dir, err)
	}
	id, err := digest.Parse(diffID.String())
	if err != nil {
		return Layer{}, l.broken("layer", sum, err)
	}
	if !checked[sum] {
		r, err := l.Open(sum)
		if err != nil {
			return Layer{}, l.broken("layer", sum, err)
		}
		defer r.Close()
		if _, err := io.Copy(io.Discard, digest.NewReader(r, sum, d.Size)); err != nil {
			return Layer{}, l.broken("layer", sum, err)
		}
		checked[sum] = true
	}
	return Layer{Digest: sum, Size: d.Size, DiffID: id, MediaType: string(d.MediaType)}, nil
}

// document reads the JSON blob that a descriptor names and checks it.
func (l *Layout) document(what string, d v1.Descriptor) ([]byte, error) {
	sum, err := digest.Parse(d.Digest.String())
	if err != nil {
		return nil, fmt.Errorf("image layout %q: %s: %w", l.Dir, what, err)
	}
	if d.Size < 0 || d.Size > documentMax {
		return nil, l.broken(what, sum, fmt.Errorf("has %d bytes; at most %d are accepted", d.Size, documentMax))
	}
	if l.documents++; l.documents > documentsMax {
		return nil, fmt.Errorf("image layout %q names more than %d manifests and indexes", l.Dir, documentsMax)
	}
	r, err := l.Open(sum)
	if err != nil {
		return nil, l.broken(what, sum, err)
	}
	defer r.Close()
	b, err := io.ReadAll(digest.NewReader(r, sum, d.Size))
	if err != nil {
		return nil, l.broken(what, sum, err)
	}
	return b, nil
}

// Validate is ReadOCI, and also uncompresses every layer and holds it against
// the digest in its image's configuration.
func Validate(dir string) (*Layout, error) {
	l, err := ReadOCI(dir)
	if err != nil {
		return nil, err
	}
	checked := map[[2]digest.Digest]bool{}
	for _, img := range l.Images {
		for _, layer := range img.Layers {
			key := [2]digest.Digest{layer.Digest, layer.DiffID}
			if checked[key] {
				continue
			}
			checked[key] = true
			if err := l.checkDiffID(layer); err != nil {
				return nil, l.broken("layer", layer.Digest, err)
			}
		}
	}
	return l, nil
}

// uncompressedMax bounds what a layer may unpack to: an image of 32 GiB is
// beyond what registries serve, and well below what a bomb asks for.
const uncompressedMax = 32 << 30

func (l *Layout) checkDiffID(layer Layer) error {
	f, err := l.Open(layer.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader = f
	switch layer.MediaType {
	case LayerMediaType:
		z, err := gzip.NewReader(f)
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	case string(types.OCIUncompressedLayer):
	default:
		return fmt.Errorf("media type %q is not known", layer.MediaType)
	}
	h := digest.NewHash()
	n, err := io.Copy(h, io.LimitReader(r, uncompressedMax+1))
	if err != nil {
		return err
	}
	if n > uncompressedMax {
		return errors.New("unpacks to more than 32 GiB")
	}
	if got := digest.Sum(h); got != layer.DiffID {
		return fmt.Errorf("uncompressed %w", &digest.MismatchError{Want: layer.DiffID, Got: got})
	}
	return nil
}
