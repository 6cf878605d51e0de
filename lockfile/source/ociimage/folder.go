package ociimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"quorate.dev/lockfile/digest"
)

// folder is an OCI image layout as a registry (OCI image-spec, image-layout.md).
type folder struct{ dir string }

// Manifest reads the image or index of a tag, the layout's only one, or a
// manifest by digest. A digest that is not held against the bytes here is by whoever asks.
func (f *folder) Manifest(_ context.Context, ref string) (string, []byte, error) {
	if _, sum, ok := strings.Cut(ref, "@"); ok {
		d, err := digest.Parse(sum)
		if err != nil {
			return "", nil, err
		}
		return f.document(descriptor{Digest: d})
	}
	var version struct{ ImageLayoutVersion string }
	if err := f.read("oci-layout", &version); err != nil || version.ImageLayoutVersion != "1.0.0" {
		return "", nil, errors.Join(fmt.Errorf("%q is not an OCI image layout of version 1.0.0", f.dir), err)
	}
	var top index
	if err := f.read("index.json", &top); err != nil {
		return "", nil, err
	}
	_, tag, tagged := strings.Cut(ref, ":")
	images := slices.DeleteFunc(top.Manifests, func(d descriptor) bool {
		return tagged && d.Annotations[refName] != tag || !tagged && f.isArtifact(d)
	})
	slices.SortFunc(images, func(a, b descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	images = slices.CompactFunc(images, func(a, b descriptor) bool { return a.Digest == b.Digest }) // two names of one
	switch {
	case len(images) == 1:
		return f.document(images[0])
	case tagged:
		return "", nil, fmt.Errorf("image layout %q names %d images %q", f.dir, len(images), tag)
	}
	return "", nil, fmt.Errorf("image layout %q names %d images; name one by its tag, %sPATH:TAG", f.dir, len(images), layoutPrefix)
}

// refName is the annotation by which a layout names an image, listTag what it
// calls the list of what refers to one (image-spec, annotations.md;
// distribution-spec, "Referrers Tag Schema").
const refName = "org.opencontainers.image.ref.name"

var listTag = regexp.MustCompile(`^sha256-[0-9a-f]{64}(\.[a-z]+)?$`)

// isArtifact reports whether a manifest is of no image, but of what refers to
// one, as an SBOM does: its configuration is empty (image-spec, manifest.md).
func (f *folder) isArtifact(d descriptor) bool {
	if listTag.MatchString(d.Annotations[refName]) {
		return true
	}
	if d.ArtifactType == "" {
		return false
	}
	var m manifest
	_, raw, err := f.document(d)
	return err == nil && json.Unmarshal(raw, &m) == nil && m.Config.MediaType == "application/vnd.oci.empty.v1+json"
}

// document reads a manifest or an index. Its own bytes say what it is, where
// no descriptor does.
func (f *folder) document(d descriptor) (string, []byte, error) {
	raw, err := readSmall(f.blob(d.Digest))
	if err != nil {
		return "", nil, err
	}
	if got := digest.Of(raw); got != d.Digest {
		return "", nil, &digest.MismatchError{Want: d.Digest, Got: got}
	}
	if d.MediaType == "" {
		var typed struct {
			MediaType string          `json:"mediaType"`
			Manifests json.RawMessage `json:"manifests"`
		}
		if err := json.Unmarshal(raw, &typed); err != nil {
			return "", nil, err
		}
		d.MediaType = typed.MediaType
		if d.MediaType == "" { // optional in OCI's own documents
			d.MediaType = "application/vnd.oci.image.manifest.v1+json"
			if typed.Manifests != nil {
				d.MediaType = "application/vnd.oci.image.index.v1+json"
			}
		}
	}
	return d.MediaType, raw, nil
}

func (f *folder) blob(d digest.Digest) string {
	return filepath.Join(f.dir, "blobs", "sha256", d.Hex())
}

// Blob opens a blob; fetch holds it against its digest.
func (f *folder) Blob(_ context.Context, _ string, d digest.Digest, _ int64) (io.ReadCloser, error) {
	return openRegular(f.blob(d))
}

func (f *folder) read(name string, v any) error {
	raw, err := readSmall(filepath.Join(f.dir, name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s of image layout %q: %w", name, f.dir, err)
	}
	return nil
}

func readSmall(name string) ([]byte, error) {
	r, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(raw) > maxDocument {
		err = fmt.Errorf("%q has more than %d bytes", name, maxDocument)
	}
	return raw, err
}

// openRegular opens no pipe, which would wait for ever.
func openRegular(name string) (io.ReadCloser, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file", name)
	}
	return os.Open(name)
}
