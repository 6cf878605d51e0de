package builder

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"quorate.dev/builder/image"
	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/ociimage"
)

// builtOn is the image before copies when it is built on another: the other's
// layers as they are, and the accounts in one more.
func (b *build) builtOn(ctx context.Context, name string) (*baseImage, error) {
	in, err := b.input(ctx, name)
	if err != nil {
		return nil, err
	}
	documents, err := b.imageDocuments(name)
	if err != nil {
		return nil, fmt.Errorf("input %q: %w", name, err)
	}
	base := &baseImage{tree: in.tree, config: inherited(documents.Config)}
	for i, l := range documents.Layers {
		base.layers = append(base.layers, image.Layer{Name: fmt.Sprintf("layer %d of %s", i+1, name), Digest: l.Digest, Size: l.Size, DiffID: l.DiffID, MediaType: l.MediaType})
	}
	if len(b.job.Definition.Image.Packages) > 0 {
		return b.builtWith(ctx, name, base)
	}
	accounts := b.job.Definition.Image.Accounts
	if len(accounts.Users)+len(accounts.Groups) == 0 {
		return base, nil
	}
	entries, err := addAccounts(in.tree.Entries(), accounts, b.epoch)
	if err != nil {
		return nil, err
	}
	t, err := newTree(entries)
	if err != nil {
		return nil, err
	}
	base.tree = t.At(b.epoch)
	l, err := b.layer(ctx, "state", "", func() ([]tree.Entry, error) { return tree.Diff(in.tree, base.tree), nil })
	base.layers = append(base.layers, l)
	return base, err
}

// imageDocuments reads what an image's manifest and configuration say.
func (b *build) imageDocuments(name string) (*ociimage.Base, error) {
	open := &oneOpen{}
	defer open.close()
	var blobs []unpack.Blob
	for _, p := range b.job.Lock.PinsOf(name, b.platform.String()) {
		file, ok := b.Store.Path(p.SHA256)
		if !ok {
			return nil, &MissingError{Name: p.Name, Digest: p.SHA256}
		}
		if p.Name == "manifest" || p.Name == "config" {
			if err := b.checkBlob(p.Name, p.SHA256); err != nil {
				return nil, err
			}
		}
		blobs = append(blobs, unpack.Blob{Pin: p, File: file, ReaderAt: lazyFile{file, open}})
	}
	return ociimage.Read(blobs)
}

// inherited is an image's configuration in our own form.
func inherited(c ociimage.Config) image.Config {
	return image.Config{
		User: c.User, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, StopSignal: c.StopSignal, Labels: c.Labels,
		ExposedPorts: slices.Sorted(maps.Keys(c.ExposedPorts)), Volumes: slices.Sorted(maps.Keys(c.Volumes)),
	}
}
