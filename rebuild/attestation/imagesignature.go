package attestation

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/keyfile"
)

// Cosign's older form of a signature, which containers/image (podman, skopeo,
// CRI-O) checks by policy.json: the payload is a layer of the manifest under
// the tag sha256-HEX.sig, and its signature an annotation of that layer
// (sigstore/cosign, specs/SIGNATURE_SPEC.md).
const (
	ImageSignatureType      = "application/vnd.dev.cosign.artifact.sig.v1+json" // of the artifact
	ImageSignatureMediaType = "application/vnd.dev.cosign.simplesigning.v1+json"
	ImageSignatureNote      = "dev.cosignproject.cosign/signature"
)

// ImageSignatureTag is the tag under which signatures of a manifest lie.
func ImageSignatureTag(d digest.Digest) string { return "sha256-" + d.Hex() + ".sig" }

// SignImage signs that a manifest is what a repository serves, with the key
// that signed the agreement and after Opened.Verify was content with it: it
// takes the same proof as SignSummary.
func SignImage(ctx context.Context, o *Opened, repository string, manifest digest.Digest, images []digest.Digest, signer keyfile.Signer) (payload []byte, signature string, err error) {
	if err := o.Verify(images...); err != nil || len(images) == 0 {
		return nil, "", fmt.Errorf("cannot sign the image: %w", err)
	}
	if payload, err = imagePayload(repository, manifest); err != nil {
		return nil, "", err
	}
	sig, err := signer.Sign(ctx, payload)
	if err != nil {
		return nil, "", fmt.Errorf("cannot sign the image: %w", err)
	}
	return payload, base64.StdEncoding.EncodeToString(sig), nil
}

// SignsImage reports whether a payload and its signature are what SignImage
// returns for the repository, manifest and key.
func SignsImage(payload []byte, signature, repository string, manifest digest.Digest, key keyfile.PublicKey) bool {
	want, err := imagePayload(repository, manifest)
	if err != nil || !bytes.Equal(payload, want) {
		return false
	}
	sig, err := base64.StdEncoding.DecodeString(signature)
	return err == nil && key.Verify(payload, sig) == nil
}

// imagePayload is the same for every signer.
func imagePayload(repository string, manifest digest.Digest) ([]byte, error) {
	type identity struct {
		Reference string `json:"docker-reference"`
	}
	type signedImage struct {
		Digest string `json:"docker-manifest-digest"`
	}
	type critical struct {
		Identity identity    `json:"identity"`
		Image    signedImage `json:"image"`
		Type     string      `json:"type"`
	}
	return json.Marshal(struct {
		Critical critical `json:"critical"`
		Optional *string  `json:"optional"`
	}{Critical: critical{Identity: identity{repository}, Image: signedImage{manifest.String()}, Type: "cosign container image signature"}})
}
