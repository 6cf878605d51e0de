// Package ociimage shows the files of an image that somebody else made: its
// layers laid one over the other, as a container runtime does. It also reads
// what a build on that image needs of its documents ([Read]).
package ociimage

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/archive"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// maxDocument bounds a manifest or configuration (distribution-spec).
const maxDocument = 4 << 20

// Base is an image as its documents describe it.
type Base struct {
	Layers []Layer // lowest first
	Config Config
}

// Layer is one layer of an image.
type Layer struct {
	MediaType string
	Digest    digest.Digest
	Size      int64
	DiffID    digest.Digest
}

// Config is the part of an image's configuration that images built on it
// inherit (OCI image-spec, config.md).
type Config struct {
	User         string              `json:"User"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts"`
	Env          []string            `json:"Env"`
	Entrypoint   []string            `json:"Entrypoint"`
	Cmd          []string            `json:"Cmd"`
	Volumes      map[string]struct{} `json:"Volumes"`
	WorkingDir   string              `json:"WorkingDir"`
	Labels       map[string]string   `json:"Labels"`
	StopSignal   string              `json:"StopSignal"`
}

// Read reads manifest and configuration of the one image that blobs are.
func Read(blobs []unpack.Blob) (*Base, error) {
	byDigest, top, err := find(blobs)
	if err != nil {
		return nil, err
	}
	var m struct {
		Config struct {
			Digest digest.Digest `json:"digest"`
		} `json:"config"`
		Layers []struct {
			MediaType string        `json:"mediaType"`
			Digest    digest.Digest `json:"digest"`
			Size      int64         `json:"size"`
		} `json:"layers"`
	}
	if err := document(top, &m); err != nil {
		return nil, err
	}
	var c struct {
		Config Config `json:"config"`
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	config, ok := byDigest[m.Config.Digest]
	if !ok {
		return nil, fmt.Errorf("the lock does not have the configuration %s", m.Config.Digest)
	}
	if err := document(config, &c); err != nil {
		return nil, err
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("the image has %d layers, and its configuration %d", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	base := &Base{Config: c.Config}
	for i, l := range m.Layers {
		if b, ok := byDigest[l.Digest]; !ok || b.Pin.Size != l.Size {
			return nil, fmt.Errorf("the lock does not have layer %d (%s) with its %d bytes", i+1, l.Digest, l.Size)
		}
		base.Layers = append(base.Layers, Layer{ociType(l.MediaType), l.Digest, l.Size, c.RootFS.DiffIDs[i]})
	}
	return base, nil
}

// ociType is a layer's type in the words of OCI; the bytes are the same.
func ociType(mediaType string) string {
	if mediaType == "application/vnd.docker.image.rootfs.diff.tar.gzip" {
		return "application/vnd.oci.image.layer.v1.tar+gzip"
	}
	return mediaType
}

func find(blobs []unpack.Blob) (byDigest map[digest.Digest]unpack.Blob, manifest unpack.Blob, err error) {
	byDigest = map[digest.Digest]unpack.Blob{}
	manifests := 0
	for _, b := range blobs {
		byDigest[b.Pin.SHA256] = b
		if b.Pin.Name == "manifest" {
			manifest = b
			manifests++
		}
	}
	if manifests != 1 {
		return nil, manifest, fmt.Errorf("the lock has %d manifests of the image for one platform", manifests)
	}
	return byDigest, manifest, nil
}

func document(b unpack.Blob, v any) error {
	raw, err := b.Bytes(maxDocument)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s %s cannot be read: %w", b.Pin.Name, b.Pin.SHA256, err)
	}
	return nil
}

// Unpack is an unpack.Kind.
func Unpack(_ lockfile.Input, blobs []unpack.Blob, files *unpack.Files) error {
	base, err := Read(blobs)
	if err != nil {
		return err
	}
	byDigest, _, err := find(blobs)
	if err != nil {
		return err
	}
	all, err := tree.New(nil)
	if err != nil {
		return err
	}
	for i, l := range base.Layers {
		entries, err := files.SpoolLayer(byDigest[l.Digest], l.DiffID)
		if err == nil {
			all, err = over(all, entries)
		}
		if err != nil {
			return fmt.Errorf("layer %d (%s): %w", i+1, l.Digest, err)
		}
	}
	for _, e := range all.Entries() {
		if err := files.AddEntry(e); err != nil {
			return err
		}
	}
	return nil
}

// Names that take away what lower layers hold (OCI image-spec, layer.md, "Whiteouts").
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// over lays a layer over what is below it. What a layer takes away is of the
// layers below alone: a file that it brings under the same name stays.
func over(below *tree.Tree, layer []archive.Entry) (*tree.Tree, error) {
	var entries []tree.Entry
	present := map[string]bool{}
	for _, e := range layer {
		if !strings.HasPrefix(path.Base(e.Path), whiteout) {
			entries = append(entries, e.Entry)
			present[e.Path] = true
		}
	}
	gone := func(p string) {
		if !present[p] {
			present[p] = true
			entries = append(entries, tree.Entry{Path: p, Kind: tree.Whiteout})
		}
	}
	emptied := map[string]bool{} // folders of which nothing from below is left
	for _, e := range layer {
		dir, name := path.Dir(e.Path), path.Base(e.Path)
		hidden, is := strings.CutPrefix(name, whiteout)
		switch {
		case !is:
		case name == opaque:
			emptied[dir] = true
		case strings.HasPrefix(hidden, whiteout): // AUFS keeps such names for itself
		case hidden == "" || hidden == "." || hidden == "..":
			return nil, &archive.MemberError{Member: e.Name, Reason: "takes away a file without saying which"}
		default:
			emptied[path.Join(dir, hidden)] = true
			gone(path.Join(dir, hidden))
		}
	}
	for _, e := range below.Entries() {
		if inside(e.Path, emptied) {
			gone(e.Path)
		}
	}
	return tree.Apply(below, entries)
}

// inside reports whether a path lies below one of some folders.
func inside(p string, folders map[string]bool) bool {
	for p != "." && len(folders) > 0 {
		if p = path.Dir(p); folders[p] {
			return true
		}
	}
	return false
}
