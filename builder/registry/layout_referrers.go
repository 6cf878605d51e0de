package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"quorate.dev/lockfile/digest"
)

// A layout has no list of referrers. What refers to one of its images is a
// manifest with that subject, listed in index.json beside the image (image-spec,
// image-layout.md, "index.json file": "MAY contain any"); tools that copy a
// layout to a registry with its referrers look there.

// nestedMost is how many indexes a layout may have below each other.
const nestedMost = 4

// AttachLayout adds artifacts that refer to an image, or to an image index, in
// the layout of dir, and returns their descriptors, in order. What is there
// already stays as it is; the index is written last. The error is a
// *LayoutError when the layout has no such image.
func AttachLayout(ctx context.Context, dir string, subject digest.Digest, artifacts ...*Artifact) ([]Descriptor, error) {
	added, err := attachLayout(ctx, filepath.Clean(dir), subject, artifacts)
	if err != nil {
		return nil, fmt.Errorf("cannot attach to the image in %q: %w", dir, err)
	}
	return added, nil
}

// layoutIndex is an index.json, whose entries keep their bytes.
type layoutIndex struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	Manifests     []json.RawMessage `json:"manifests"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

func attachLayout(ctx context.Context, dir string, subject digest.Digest, artifacts []*Artifact) ([]Descriptor, error) {
	name := filepath.Join(dir, "index.json")
	raw, err := readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = &LayoutError{dir, "is no OCI image layout, or not a whole one"}
	}
	if err != nil {
		return nil, err
	}
	var index layoutIndex
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, &LayoutError{dir, fmt.Sprintf("has an index that cannot be read: %v", err)}
	}
	of, err := findManifest(dir, raw, subject, 1)
	if err != nil {
		return nil, err
	}
	var listed []digest.Digest
	for _, m := range index.Manifests {
		var d struct{ Digest digest.Digest }
		if json.Unmarshal(m, &d) == nil {
			listed = append(listed, d.Digest)
		}
	}
	var added []Descriptor
	for _, a := range artifacts {
		d, err := a.Describe(of)
		if err != nil {
			return nil, err
		}
		manifest, err := a.manifest(of)
		if err != nil {
			return nil, err
		}
		if err := fillBlobs(ctx, dir, a, manifest, nil); err != nil {
			return nil, err
		}
		added = append(added, d)
		if slices.Contains(listed, d.Digest) {
			continue
		}
		entry, err := json.Marshal(d)
		if err != nil {
			return nil, err
		}
		index.Manifests = append(index.Manifests, entry)
	}
	fresh, err := json.Marshal(index)
	if err != nil || len(index.Manifests) == len(listed) {
		return added, err
	}
	return added, replace(name, bytes.NewReader(fresh))
}

// findManifest looks for a manifest in an index and in those below it.
func findManifest(dir string, raw []byte, want digest.Digest, depth int) (Descriptor, error) {
	none := &LayoutError{dir, fmt.Sprintf("has no image %s", want)}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return Descriptor{}, &LayoutError{dir, fmt.Sprintf("has an index that cannot be read: %v", err)}
	}
	for _, m := range index.Manifests {
		d, err := describe(m)
		if err != nil {
			return Descriptor{}, &LayoutError{dir, err.Error()}
		}
		if d.Digest == want {
			return d, nil
		}
	}
	for _, m := range index.Manifests {
		if m.MediaType != types.OCIImageIndex || depth == nestedMost {
			continue
		}
		d, err := describe(m)
		if err != nil {
			return Descriptor{}, err
		}
		below, err := readFile(blobFile(dir, d.Digest))
		if err != nil {
			return Descriptor{}, err
		}
		if got := digest.Of(below); got != d.Digest {
			return Descriptor{}, &digest.MismatchError{Want: d.Digest, Got: got}
		}
		found, err := findManifest(dir, below, want, depth+1)
		if _, lacks := errors.AsType[*LayoutError](err); !lacks {
			return found, err
		}
	}
	return Descriptor{}, none
}
