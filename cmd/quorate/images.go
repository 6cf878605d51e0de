package main

import (
	"context"
	"io"
	"path/filepath"

	"quorate.dev/builder/registry"
	"quorate.dev/lockfile/digest"
	inputsource "quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/ociimage"
)

// imageSource returns images as this machine reaches them: registries with
// Docker's credentials, layouts beside the definition.
func imageSource(m *machine) inputsource.Kind {
	flags := registryFlags{}
	return ociimage.New(ociimage.Options{Registry: imageRegistry{flags.client(m.ui)}, Dir: m.dir, Verify: m.verifyBase})
}

// imageRegistry is a registry's client as package ociimage wants it.
type imageRegistry struct{ client *registry.Client }

// Manifest implements ociimage.Registry.
func (r imageRegistry) Manifest(ctx context.Context, text string) (string, []byte, error) {
	ref, err := registry.Parse(text)
	if err != nil {
		return "", nil, err
	}
	m, err := r.client.Resolve(ctx, ref)
	if err != nil {
		return "", nil, err
	}
	return m.MediaType, m.Bytes, nil
}

// Blob implements ociimage.Registry.
func (r imageRegistry) Blob(ctx context.Context, text string, d digest.Digest, size int64) (io.ReadCloser, error) {
	ref, err := registry.Parse(text)
	if err != nil {
		return nil, err
	}
	return r.client.Blob(ctx, ref, d, size)
}

// verifyBase judges an image as `quorate verify` does, by a policy of the project.
func (m *machine) verifyBase(ctx context.Context, ref, policy string) error {
	f := readerFlags{policy: filepath.Join(m.dir, policy)}
	p, rules, err := f.open(ctx, m.ui, ref)
	if err != nil {
		return err
	}
	if err := p.readWhole(ctx); err != nil {
		return err
	}
	opened, err := p.judge(ctx, rules)
	if err != nil {
		return err
	}
	verdict := opened.Verify(p.images...)
	if verdict == nil {
		verdict = p.silent(opened)
	}
	p.tellStatements(m.ui, opened)
	tellOutcomes(m.ui, opened)
	return verdict
}
