package builder

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"

	"quorate.dev/builder/image"
	"quorate.dev/builder/layer"
	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/deb"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// groups is into how many layers the packages beyond the Essential set are
// divided. A package's group depends on its source package's name alone, so a
// new version changes one layer, and a new package one more; with eight, an
// image stays far below the 127 layers that overlay2 can mount.
const groups = 8

// group is the packages of one layer.
type group struct {
	name     string
	packages []*decoded
}

// divide puts packages into groups: the Essential ones, then by source name.
func divide(strategy definition.Layers, set *packageSet) []group {
	if strategy == definition.LayersSingle {
		return nil
	}
	out := make([]group, groups+1)
	out[0].name = "base system"
	for i := range groups {
		out[i+1].name = fmt.Sprintf("packages %d of %d", i+1, groups)
	}
	for _, p := range set.packages {
		n := 0
		if !essential(p.Package) {
			h := fnv.New32a()
			h.Write([]byte(sourceName(p.Package)))
			n = 1 + int(h.Sum32()%groups)
		}
		out[n].packages = append(out[n].packages, p)
	}
	kept := out[:0]
	for _, g := range out {
		if len(g.packages) > 0 {
			kept = append(kept, g)
		}
	}
	return kept
}

// tree is what the group's layer holds: the packages' files and what dpkg
// keeps of each, with the times that layers have. It depends on these packages alone.
func (g group) tree(scripts definition.Scripts, epoch int64) (*tree.Tree, error) {
	set := &packageSet{packages: g.packages}
	entries, err := set.merge()
	if err != nil {
		return nil, err
	}
	for _, p := range g.packages {
		if scripts == definition.ScriptsNone {
			entries = append(entries, deb.StatusD(p.Package)...)
		} else {
			entries = append(entries, deb.InfoFiles(p.Package)...)
		}
	}
	if essential(g.packages[0].Package) {
		entries = append(entries, skeleton(epoch)...)
	}
	t, err := newTree(entries)
	if err != nil {
		return nil, err
	}
	return t.At(epoch), nil
}

// layerNote is what the store remembers of a layer that it holds.
type layerNote struct {
	Digest   digest.Digest
	Size     int64
	DiffID   digest.Digest
	DiffSize int64
}

// cachedLayer finds a layer by everything that it was made from.
func (b *build) cachedLayer(key string) (layerNote, bool) {
	var n layerNote
	raw, ok := b.Store.Note("layer", key)
	if !ok || json.Unmarshal(raw, &n) != nil || !b.Store.Has(n.Digest, n.Size) {
		return n, false
	}
	return n, true
}

// layer writes entries as a layer into the store, unless it is there under key.
// An empty key is not remembered.
func (b *build) layer(ctx context.Context, name, key string, entries func() ([]tree.Entry, error)) (image.Layer, error) {
	if key != "" {
		if n, ok := b.cachedLayer(key); ok {
			b.event(Event{Phase: "layer", Name: name, Done: true, Cached: true})
			return n.ref(name), nil
		}
	}
	done := b.phase("layer", name, 0)
	list, err := entries()
	if err != nil {
		return image.Layer{}, err
	}
	n, err := b.writeLayer(ctx, list)
	if err != nil {
		return image.Layer{}, fmt.Errorf("writing the layer %q: %w", name, err)
	}
	if key != "" {
		raw, err := json.Marshal(n)
		if err != nil {
			return image.Layer{}, err
		}
		if err := b.Store.PutNote("layer", key, raw); err != nil {
			return image.Layer{}, err
		}
	}
	done()
	return n.ref(name), nil
}

func (b *build) writeLayer(ctx context.Context, entries []tree.Entry) (layerNote, error) {
	w, err := b.Store.Create()
	if err != nil {
		return layerNote{}, err
	}
	defer w.Close()
	out := bufio.NewWriterSize(contextWriter{ctx, w}, copyBuffer)
	info, err := layer.Write(out, entries, layer.Options{Epoch: b.epoch})
	if err != nil {
		return layerNote{}, err
	}
	if err := out.Flush(); err != nil {
		return layerNote{}, err
	}
	if _, _, err := w.Commit(); err != nil {
		return layerNote{}, err
	}
	return layerNote{Digest: info.Digest, Size: info.Size, DiffID: info.DiffID, DiffSize: info.DiffSize}, nil
}

func (n layerNote) ref(name string) image.Layer {
	return image.Layer{Name: name, Digest: n.Digest, Size: n.Size, DiffID: n.DiffID}
}

// contextWriter stops a long copy when the build is cancelled.
type contextWriter struct {
	ctx context.Context
	w   interface{ Write([]byte) (int, error) }
}

func (c contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// groupKey is everything that a group's layer is made from.
func (b *build) groupKey(g group) string {
	k := newKey("group").num(b.epoch).str(layer.Compressor).str(string(b.job.Definition.Image.Scripts))
	for _, p := range g.packages {
		k.digest(p.pin.SHA256)
	}
	return k.done()
}
