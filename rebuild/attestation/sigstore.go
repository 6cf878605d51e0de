package attestation

import (
	"bytes"
	"encoding/json"
	"fmt"

	"quorate.dev/rebuild/keyfile"
)

// SigstoreMediaType is of a Sigstore bundle in its version 0.3, the form in
// which registries keep signed statements for cosign, Kyverno and others.
const SigstoreMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// sigstoreBundle is dev.sigstore.bundle.v1.Bundle as far as keys without a
// transparency log need it (sigstore/protobuf-specs, sigstore_bundle.proto).
type sigstoreBundle struct {
	MediaType            string          `json:"mediaType"`
	VerificationMaterial verificationKey `json:"verificationMaterial"`
	Envelope             json.RawMessage `json:"dsseEnvelope"`
}

type verificationKey struct {
	PublicKey struct {
		Hint string `json:"hint"`
	} `json:"publicKey"`
	TlogEntries []struct{} `json:"tlogEntries"`
	Timestamps  struct{}   `json:"timestampVerificationData"`
}

// SigstoreBundle writes an envelope as a Sigstore bundle. Such a bundle has
// exactly one signature, so k rebuilders are k bundles. The hint is the
// fingerprint of the key: readers who have a table of keys find it by that, and
// nobody may trust it. The same envelope gives the same bytes.
func SigstoreBundle(envelope []byte, key keyfile.PublicKey) ([]byte, error) {
	s, err := unpack(envelope)
	if err != nil {
		return nil, err
	}
	if err := s.verify(key); err != nil {
		return nil, fmt.Errorf("cannot make a Sigstore bundle: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, envelope); err != nil {
		return nil, err
	}
	b := sigstoreBundle{MediaType: SigstoreMediaType, Envelope: compact.Bytes()}
	b.VerificationMaterial.PublicKey.Hint = key.Fingerprint()
	b.VerificationMaterial.TlogEntries = []struct{}{}
	return json.Marshal(b)
}

// OpenSigstoreBundle returns the envelope in a bundle. What else the bundle
// brings (a hint, a certificate, log entries) is not looked at: who signed is
// found out with the keys of a policy.
func OpenSigstoreBundle(data []byte) ([]byte, error) {
	if len(data) > maxEnvelope+maxMaterial {
		return nil, refuse("bundle has %d bytes; at most %d are read", len(data), maxEnvelope+maxMaterial)
	}
	tree, err := parseTree(data)
	if err != nil {
		return nil, refuse("cannot read Sigstore bundle: %v", err)
	}
	if got, _ := field(tree, "mediaType").(string); got != SigstoreMediaType {
		return nil, refuse("bundle has media type %.80q, expected %q", got, SigstoreMediaType)
	}
	var b struct {
		Envelope json.RawMessage `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(data, &b); err != nil || len(b.Envelope) == 0 {
		return nil, refuse("Sigstore bundle holds no DSSE envelope")
	}
	return b.Envelope, nil
}

// maxMaterial is what a bundle may have beside its envelope: certificates and
// log entries of cosign's have some 10 KB.
const maxMaterial = 1 << 20

// MaxSigstoreBundle is the size in bytes beyond which OpenSigstoreBundle refuses.
const MaxSigstoreBundle = maxEnvelope + maxMaterial
