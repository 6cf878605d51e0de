package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"quorate.dev/builder/image"
	"quorate.dev/builder/registry"
	"quorate.dev/lockfile/digest"
)

// localSides replaces sides that are image references by layouts below a new
// folder, for package diff has no network. Files and folders go before references of the
// same name. done removes the folder.
func localSides(ctx context.Context, ui *terminal, flags *registryFlags, sides []string) (local []string, done func(), err error) {
	dir := ""
	done = func() { _ = os.RemoveAll(dir) } // "" is no folder and no error
	for i, side := range sides {
		ref, bad := registry.Parse(side)
		_, err := os.Lstat(side)
		there := !errors.Is(err, fs.ErrNotExist)
		if bad != nil && !there && strings.HasPrefix(side, registry.LayoutPrefix) {
			return nil, done, bad
		}
		if bad != nil || there {
			local = append(local, side)
			continue
		}
		if dir == "" {
			if dir, err = os.MkdirTemp("", "quorate-diff-*"); err != nil {
				return nil, done, err
			}
		}
		into := filepath.Join(dir, fmt.Sprint(i))
		if err := pullLayout(ctx, flags.client(ui), ref, into); err != nil {
			return nil, done, err
		}
		local = append(local, into)
	}
	return local, done, nil
}

// pullLayout brings an image, or all images of an index, into a new layout.
func pullLayout(ctx context.Context, client *registry.Client, ref registry.Reference, dir string) error {
	if err := namesImage(ref); err != nil {
		return err
	}
	top, err := client.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	blobs := blobFolder(filepath.Join(dir, "blobs", "sha256"))
	if err := os.MkdirAll(string(blobs), 0o700); err != nil {
		return err
	}
	images, err := client.Pull(ctx, ref.At(top.Digest), blobs)
	if err != nil {
		return err
	}
	documents := [][]byte{top.Bytes}
	for _, i := range images {
		documents = append(documents, i.Manifest, i.Config)
	}
	for _, d := range documents {
		if err := os.WriteFile(blobs.file(digest.Of(d)), d, 0o600); err != nil {
			return err
		}
	}
	index, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": image.IndexMediaType,
		"manifests": []any{map[string]any{"mediaType": top.MediaType, "digest": top.Digest.String(), "size": len(top.Bytes)}},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "index.json"), index, 0o600)
}

// blobFolder takes the layers of a pull. The client verifies what it reads, and diff
// reads it against its digest once more.
type blobFolder string

func (b blobFolder) file(d digest.Digest) string { return filepath.Join(string(b), d.Hex()) }

// Put implements registry.Sink.
func (b blobFolder) Put(r io.Reader, want digest.Digest, _ int64) error {
	f, err := os.OpenFile(b.file(want), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
