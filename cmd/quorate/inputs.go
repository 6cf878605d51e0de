package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

	"quorate.dev/builder/registry"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/httpfile"
)

// inputArchive is what `quorate archive` wrote, as a place to get inputs from:
// a folder (oci:DIR) or an artifact in a registry. It is not trusted: what
// comes from it is held against the lock, like everything that is fetched.
type inputArchive struct {
	name     string // as the user says it
	dir      string // of a folder, absolute; "" for a registry's
	host     string // of the registry
	top      registry.Descriptor
	artifact *registry.Artifact
	layers   map[digest.Digest]registry.ArtifactLayer
}

// openArchive reads the manifest of an archive.
func openArchive(ctx context.Context, client *registry.Client, name string) (*inputArchive, error) {
	a := &inputArchive{name: name, layers: map[digest.Digest]registry.ArtifactLayer{}}
	ref, err := registry.Parse(name)
	if err != nil {
		return nil, fmt.Errorf("%w; a folder is named %sDIR", err, registry.LayoutPrefix)
	}
	if ref.Layout() != "" {
		if a.dir, err = filepath.Abs(ref.Layout()); err != nil {
			return nil, err
		}
	}
	a.host = ref.Registry()
	if a.artifact, a.top, err = client.PullArtifact(ctx, ref); err != nil {
		return nil, fmt.Errorf("cannot open archive %q: %w", name, err)
	}
	if a.artifact.Type != archiveType {
		return nil, fmt.Errorf("cannot open archive %q: it is of type %q, expected %q, which `quorate archive` writes", name, a.artifact.Type, archiveType)
	}
	for _, l := range a.artifact.Layers {
		a.layers[l.Digest] = l
	}
	return a, nil
}

// source returns the archive as a place of one blob.
func (a *inputArchive) source(d digest.Digest) (fetch.Source, bool) {
	l, ok := a.layers[d]
	if !ok {
		return nil, false
	}
	if a.dir == "" {
		return &archivedBlob{a, l}, true
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(a.dir, "blobs", "sha256", d.Hex()))}
	src, err := httpfile.New(u.String())
	return src, err == nil
}

// document reads a small layer by its title; ok is false when there is none.
func (a *inputArchive) document(title string, limit int64) (b []byte, ok bool, err error) {
	for _, l := range a.artifact.Layers {
		if l.Title() != title {
			continue
		}
		if l.Size > limit {
			return nil, true, fmt.Errorf("%q in archive %q has %d bytes; at most %d are read", title, a.name, l.Size, limit)
		}
		r, err := l.Open()
		if err != nil {
			return nil, true, a.fault(title, err)
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		return b, true, a.fault(title, err)
	}
	return nil, false, nil
}

// fault names what of the archive is missing or changed.
func (a *inputArchive) fault(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%q in archive %q: %w", what, a.name, err)
}

// archivedBlob is a blob of an archive in a registry; it implements fetch.Source.
type archivedBlob struct {
	archive *inputArchive
	layer   registry.ArtifactLayer
}

// Open implements fetch.Source, from the beginning.
func (b *archivedBlob) Open(context.Context, int64) (io.ReadCloser, int64, error) {
	r, err := b.layer.Open()
	if err != nil {
		return nil, 0, lasting(err)
	}
	return lastingReader{r}, 0, nil
}

// String names the archive.
func (b *archivedBlob) String() string { return "archive " + b.archive.name }

// Host is the registry, so that it is not asked for everything at once.
func (b *archivedBlob) Host() string { return b.archive.host }

type lastingReader struct{ io.ReadCloser }

func (r lastingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	return n, lasting(err)
}

// lastingError tells package fetch that asking again is useless.
type lastingError struct{ error }

func (lastingError) Permanent() bool { return true }
func (e lastingError) Unwrap() error { return e.error }

// lasting marks what a registry answers, unlike that it does not answer.
func lasting(err error) error {
	if e, ok := errors.AsType[*registry.Error](err); ok && e.Kind != registry.Unreachable {
		return lastingError{err}
	}
	return err
}

// archive opens the archive that --inputs names, once; nil without the flag.
func (m *machine) archive(ctx context.Context, f inputFlags) (*inputArchive, error) {
	if f.archive == "" {
		return nil, nil
	}
	if m.opened == nil {
		r := f.registry
		if r == nil {
			r = &registryFlags{}
		}
		a, err := openArchive(ctx, r.client(m.ui), f.archive)
		if err != nil {
			return nil, err
		}
		m.opened = a
	}
	return m.opened, nil
}

// located lists everything that a lock names, with the archive of --inputs as
// the first place of what it has.
func (m *machine) located(ctx context.Context, lock *lockfile.Lock, platforms []definition.Platform, f inputFlags) ([]fetch.Item, error) {
	items, err := m.items(lock, platforms, f)
	if err != nil {
		return nil, err
	}
	a, err := m.archive(ctx, f)
	if a == nil {
		return items, err
	}
	var lacks []string
	for i, it := range items {
		src, ok := a.source(it.Digest)
		if !ok {
			lacks = append(lacks, it.Name)
			continue
		}
		items[i].Sources = append([]fetch.Source{src}, it.Sources...)
	}
	if len(lacks) > 0 {
		m.ui.warn("archive %q has only %d of the lock's %s; the first that it lacks: %s", f.archive, len(items)-len(lacks), count(len(items), "input"), lacks[0])
	}
	return items, nil
}
