package main

import (
	"context"
	"fmt"
	"slices"

	"quorate.dev/builder/registry"
	"quorate.dev/rebuild/attestation"
)

// mostSignatures bounds what is kept of signatures that others put beside an
// image; whoever may push can add more.
const mostSignatures = 64

// signImage puts the signature beside an image that podman, skopeo and CRI-O
// look for (`quorate policy export --to containers-policy`), unless it is there.
// Others' signatures under the same tag stay.
func (p *publication) signImage(ctx context.Context, t target) error {
	if p.signedFor == "" {
		return nil
	}
	ref := p.ref.WithTag(attestation.ImageSignatureTag(t.Digest))
	payload, signature, err := attestation.SignImage(ctx, p.opened, p.signedFor, t.Digest, t.images, p.signer)
	if err != nil {
		return err
	}
	layer := registry.Document(attestation.ImageSignatureMediaType, "", payload)
	layer.Annotations = map[string]string{attestation.ImageSignatureNote: signature}
	a := &registry.Artifact{Type: attestation.ImageSignatureType}
	there, _, err := p.client.PullArtifact(ctx, ref)
	switch {
	case registry.IsNotFound(err):
	case err != nil:
		return err
	default:
		ours := func(l registry.ArtifactLayer) bool {
			return l.Digest == layer.Digest && attestation.SignsImage(payload, l.Annotations[attestation.ImageSignatureNote], p.signedFor, t.Digest, p.signer.Public())
		}
		if slices.ContainsFunc(there.Layers, ours) {
			return nil
		}
		if len(there.Layers) >= mostSignatures {
			return fmt.Errorf("%s has %d signatures already, which is more than anybody needs; look who put them there", ref, len(there.Layers))
		}
		a.Layers = there.Layers
	}
	a.Layers = append(a.Layers, layer)
	_, err = p.client.PushArtifact(ctx, ref, a)
	return changed(err)
}
