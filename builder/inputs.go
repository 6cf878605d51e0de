package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/archive"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// input is what a step or a copy may read: a tree of files, or one file.
type input struct {
	key  digest.Digest
	tree *tree.Tree // nil for a single file
	file lockfile.File
}

// input opens an input of the definition by name.
func (b *build) input(ctx context.Context, name string) (*input, error) {
	if out, ok := b.outputs[name]; ok {
		return &input{key: out.key, tree: out.tree}, nil
	}
	if local, ok := b.job.Locals[name]; ok {
		return b.unpackedInput(ctx, name, local.Archive, local.Tree)
	}
	for _, f := range b.job.Lock.Files {
		if f.Name != name {
			continue
		}
		if b.isUnpacked(name) {
			return b.unpackedInput(ctx, name, f.SHA256, f.SHA256)
		}
		if err := b.checkBlob(f.Name, f.SHA256); err != nil {
			return nil, err
		}
		return &input{key: f.SHA256, file: f}, nil
	}
	return nil, fmt.Errorf("input %q is not locked; run: quorate lock", name)
}

func (b *build) isUnpacked(name string) bool {
	for _, f := range b.job.Definition.Inputs.Files {
		if f.Name == name {
			return f.Unpack
		}
	}
	return false
}

// checkBlob reads a blob whole: what is shown to a step must be what was locked.
func (b *build) checkBlob(name string, d digest.Digest) error {
	r, err := b.openBlob(name, d)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

func (b *build) openBlob(name string, d digest.Digest) (io.ReadCloser, error) {
	r, err := b.Store.Open(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Name: name, Digest: d}
	}
	return r, err
}

func (b *build) unpackedInput(ctx context.Context, name string, blob, key digest.Digest) (*input, error) {
	dir, err := b.Store.Derived(ctx, "input", newKey("input").digest(blob).done(), func(dir string) error {
		// A zip archive is read in any order, so the blob is checked whole before.
		if err := b.checkBlob(name, blob); err != nil {
			return err
		}
		path, ok := b.Store.Path(blob)
		if !ok {
			return &MissingError{Name: name, Digest: blob}
		}
		if err := unpackInput(dir, path); err != nil {
			return fmt.Errorf("input %q: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	t, err := loadSpooled(dir, b.epoch)
	if err != nil {
		return nil, err
	}
	return &input{key: key, tree: t}, nil
}

func unpackInput(dir, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	stream := filepath.Join(dir, "stream")
	data, err := os.Create(stream)
	if err != nil {
		return err
	}
	defer data.Close()
	a, err := archive.Unpack(f, info.Size(), data, archive.Options{})
	if err != nil {
		return err
	}
	return respool(dir, stream, a.Entries)
}

// respool brings an archive's contents, which stand in the archive's own order,
// into the order of the listing.
func respool(dir, stream string, entries []archive.Entry) error {
	sorted := make([]tree.Entry, len(entries))
	for i, e := range entries {
		sorted[i] = e.Entry
		if e.Kind == tree.File && e.Size > 0 {
			sorted[i].Content = tree.Section{File: stream, Offset: e.Offset, Size: e.Size}
		}
	}
	sortStable(sorted, func(a, b tree.Entry) bool { return a.Path < b.Path })
	data, err := os.Create(filepath.Join(dir, spoolData))
	if err != nil {
		return err
	}
	defer data.Close()
	for _, e := range sorted {
		if e.Content == nil {
			continue
		}
		if err := copyContent(data, e); err != nil {
			return err
		}
	}
	if err := saveSpooled(dir, sorted); err != nil {
		return err
	}
	return os.Remove(stream)
}

func copyContent(w io.Writer, e tree.Entry) error {
	r, err := tree.Open(e)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

// inputBinds shows inputs read-only at /inputs/NAME.
func (b *build) inputBinds(ctx context.Context, names []string, inputs []*input) ([]sandbox.Bind, error) {
	var binds []sandbox.Bind
	for i, in := range inputs {
		source, err := b.inputPath(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", names[i], err)
		}
		binds = append(binds, sandbox.Bind{Source: source, Target: stepInputs + "/" + names[i]})
	}
	return binds, nil
}

func (b *build) inputPath(ctx context.Context, in *input) (string, error) {
	if in.tree == nil {
		p, ok := b.Store.Path(in.file.SHA256)
		if !ok {
			return "", &MissingError{Name: in.file.Name, Digest: in.file.SHA256}
		}
		return p, nil
	}
	key := newKey("folder").digest(in.key).num(b.epoch).str(string(b.Sandbox.Mapping())).bool(b.Surroundings.ReverseOrder).done()
	dir, err := b.Store.Derived(ctx, "folder", key, func(dir string) error {
		return b.extract(ctx, filepath.Join(dir, "files"), in.tree)
	})
	return filepath.Join(dir, "files"), err
}

// copied returns what a copy brings, at its places in the image.
func (b *build) copied(ctx context.Context, c definition.Copy) ([]tree.Entry, error) {
	in, err := b.input(ctx, c.From)
	if err != nil {
		return nil, err
	}
	if in.tree == nil {
		return b.copiedFile(c, in)
	}
	return copiedTree(c, in.tree, b.epoch)
}
