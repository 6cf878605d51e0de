package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack"
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
	if in, ok := b.job.Lock.Input(name); ok {
		return b.pinnedInput(ctx, in)
	}
	return nil, fmt.Errorf("input %q is not locked; run: quorate lock", name)
}

// checkReads refuses a lock whose inputs were chosen from files of a local tree
// that say something else by now.
func (b *Builder) checkReads(job Job) error {
	for _, name := range slices.Sorted(maps.Keys(job.Locals)) {
		if !slices.ContainsFunc(job.Lock.Requests.Inputs, func(r lockfile.InputRequest) bool { return r.Ask["from"] == name }) {
			continue
		}
		if err := ReadsOf(b.Store, job.Lock, name, job.Locals[name].Archive); err != nil {
			return err
		}
	}
	return nil
}

// ReadsOf holds what a lock says it read of a local input against the input's
// packed archive. The error is a *lockfile.StaleError when they differ.
func ReadsOf(blobs interface {
	Open(d digest.Digest) (io.ReadCloser, error)
}, lock *lockfile.Lock, name string, packed digest.Digest) error {
	wanted := lock.ReadOf(name)
	if len(wanted) == 0 {
		return nil
	}
	r, err := blobs.Open(packed)
	if err != nil {
		return fmt.Errorf("input %q: %w", name, err)
	}
	defer r.Close()
	found, err := digests(r, wanted)
	if err != nil {
		return fmt.Errorf("input %q: %w", name, err)
	}
	return lock.CoversTree(name, found)
}

// digests reads a packed tree and returns the digests of the files and lists of
// folders that are wanted.
func digests(packed io.Reader, wanted map[string]bool) (lockfile.Facts, error) {
	found := lockfile.Facts{}
	folders := map[string][]string{}
	archive := tar.NewReader(packed)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		p := path.Clean(h.Name)
		if wanted[path.Dir(p)] {
			base := path.Base(p)
			if h.Typeflag == tar.TypeDir {
				base += "/"
			}
			folders[path.Dir(p)] = append(folders[path.Dir(p)], base)
		}
		if wanted[p] && h.Typeflag == tar.TypeReg {
			sum := digest.NewHash()
			if _, err := io.Copy(sum, archive); err != nil {
				return nil, err
			}
			found[p] = digest.Sum(sum).Hex()
		}
	}
	for dir, names := range folders {
		found[dir] = lockfile.FolderDigest(names).Hex()
	}
	_, err := io.Copy(io.Discard, packed) // the blob itself is checked at its end
	return found, err
}

// pinnedInput is an input of a kind that package unpack's folders know.
func (b *build) pinnedInput(ctx context.Context, in lockfile.Input) (*input, error) {
	kind := b.Kinds[in.Kind]
	if kind == nil {
		return nil, fmt.Errorf("input %q is of kind %q, which this build knows nothing of", in.Name, in.Kind)
	}
	pins := b.job.Lock.PinsOf(in.Name, b.platform.String())
	k := newKey("pinned").str(in.Kind).str(in.Name) // cargo's configuration says where the input is
	for _, name := range slices.Sorted(maps.Keys(in.Facts)) {
		k.str(name).str(in.Facts[name])
	}
	k.num(int64(len(pins)))
	for _, p := range pins {
		k.str(p.Name).str(p.Version).str(p.Path).str(p.Integrity).str(p.URL).str(p.Signatures).digest(p.SHA256)
	}
	key := k.done()
	dir, err := b.Store.Derived(ctx, "input", key, func(dir string) error {
		if err := b.unpackPins(ctx, kind, in, pins, dir); err != nil {
			return fmt.Errorf("input %q: %w", in.Name, err)
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
	return &input{key: t.Digest(), tree: t}, nil
}

// unpackPins has a kind make its files, from blobs that are read whole before.
func (b *build) unpackPins(ctx context.Context, kind unpack.Kind, in lockfile.Input, pins []lockfile.Pin, dir string) error {
	stream := filepath.Join(dir, "stream")
	data, err := os.Create(stream)
	if err != nil {
		return err
	}
	defer data.Close()
	open := &oneOpen{}
	defer open.close()
	blobs := make([]unpack.Blob, len(pins))
	for i, p := range pins {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := b.checkBlob(p.Name+" "+p.Version, p.SHA256); err != nil {
			return err
		}
		file, ok := b.Store.Path(p.SHA256)
		if !ok {
			return &MissingError{Name: p.Name, Digest: p.SHA256}
		}
		blobs[i] = unpack.Blob{Pin: p, File: file, ReaderAt: lazyFile{file, open}}
	}
	files := unpack.NewFiles(data, stream)
	if err := kind(in, blobs, files); err != nil {
		return err
	}
	return spool(dir, stream, tree.WithParents(files.Entries()))
}

// oneOpen keeps one of many files open: an input may have more blobs than a
// process may have open files, and they are read one after the other.
type oneOpen struct {
	path string
	f    *os.File
}

func (o *oneOpen) close() {
	if o.f != nil {
		_ = o.f.Close()
		o.f = nil
	}
}

func (o *oneOpen) file(path string) (*os.File, error) {
	if o.f == nil || o.path != path {
		o.close()
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		o.path, o.f = path, f
	}
	return o.f, nil
}

// lazyFile is a file that is opened when it is read.
type lazyFile struct {
	path string
	open *oneOpen
}

func (l lazyFile) ReadAt(p []byte, off int64) (int, error) {
	f, err := l.open.file(l.path)
	if err != nil {
		return 0, err
	}
	return f.ReadAt(p, off)
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
	return spool(dir, stream, sorted)
}

// spool writes sorted entries as a spooled tree, and removes the stream that
// some of their contents stood in. Contents are those of blobs that were just
// checked, or were hashed as they were made, and whoever reads the spooled tree
// holds them against their digests; so the kernel may copy them here, unseen.
func spool(dir, stream string, sorted []tree.Entry) error {
	data, err := os.Create(filepath.Join(dir, spoolData))
	if err != nil {
		return err
	}
	defer data.Close()
	var from oneOpen
	defer from.close()
	for _, e := range sorted {
		if e.Content == nil {
			continue
		}
		if s, ok := e.Content.(tree.Section); ok {
			err = copySection(data, s, &from)
		} else {
			err = copyContent(data, e)
		}
		if err != nil {
			return err
		}
	}
	if err := saveSpooled(dir, sorted); err != nil {
		return err
	}
	return os.Remove(stream)
}

// copySection copies a range of a file. Both ends are files to io.Copy, for
// which it asks copy_file_range(2).
func copySection(w *os.File, s tree.Section, from *oneOpen) error {
	f, err := from.file(s.File)
	if err != nil {
		return err
	}
	if _, err := f.Seek(s.Offset, io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(f, s.Size))
	if err == nil && n != s.Size {
		err = fmt.Errorf("%q: %w", s.File, io.ErrUnexpectedEOF)
	}
	return err
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
