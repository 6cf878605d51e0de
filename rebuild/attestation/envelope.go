package attestation

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/keyfile"
)

// sign returns the envelope of a payload as one line of JSON, without its end.
func sign(ctx context.Context, payload []byte, signer keyfile.Signer) ([]byte, error) {
	sig, err := signer.Sign(ctx, dsse.PAE(PayloadType, payload))
	if err != nil {
		return nil, fmt.Errorf("cannot sign: %w", err)
	}
	envelope, err := json.Marshal(dsse.Envelope{
		PayloadType: PayloadType,
		Payload:     base64.StdEncoding.EncodeToString(payload),
		Signatures:  []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(sig)}},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot encode the envelope: %w", err)
	}
	if len(envelope) > maxEnvelope {
		return nil, fmt.Errorf("statement has %d bytes in its envelope; at most %d are read", len(envelope), maxEnvelope)
	}
	return envelope, nil
}

// sealed is an envelope that was read but whose signature was not checked.
type sealed struct {
	payload []byte
	pae     []byte
	sig     []byte
}

// unpack reads an envelope with exactly one signature. Its key id is not
// looked at: it is a hint that anybody may have written.
func unpack(envelope []byte) (*sealed, error) {
	payload, sigs, err := unseal(envelope)
	if err != nil {
		return nil, err
	}
	if len(sigs) != 1 {
		return nil, refuse("envelope has %d signatures, expected exactly one", len(sigs))
	}
	return &sealed{payload: payload, pae: dsse.PAE(PayloadType, payload), sig: sigs[0]}, nil
}

// unseal reads an envelope with any number of signatures.
func unseal(envelope []byte) (payload []byte, sigs [][]byte, err error) {
	if len(envelope) > maxEnvelope {
		return nil, nil, refuse("envelope has %d bytes; at most %d are read", len(envelope), maxEnvelope)
	}
	if _, err := parseTree(envelope); err != nil {
		return nil, nil, refuse("cannot read envelope: %v", err)
	}
	var e dsse.Envelope
	dec := json.NewDecoder(bytes.NewReader(envelope))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, nil, refuse("cannot read envelope: %v", err)
	}
	if e.PayloadType != PayloadType {
		return nil, nil, refuse("envelope has payload type %.64q, expected %q", e.PayloadType, PayloadType)
	}
	if payload, err = base64.StdEncoding.Strict().DecodeString(e.Payload); err != nil {
		return nil, nil, refuse("payload is not base64: %v", err)
	}
	for _, s := range e.Signatures {
		sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
		if err != nil {
			return nil, nil, refuse("signature is not base64: %v", err)
		}
		sigs = append(sigs, sig)
	}
	return payload, sigs, nil
}

// digest names the statement, whoever signed it.
func (s *sealed) digest() digest.Digest { return digest.Of(s.payload) }

func (s *sealed) verify(key keyfile.PublicKey) error {
	if err := key.Verify(s.pae, s.sig); err != nil {
		return &SignatureError{Want: key.Fingerprint()}
	}
	return nil
}

// head reads the payload as a tree and checks that it is a Statement v1 with
// this predicate. DSSE's payload type is shared by links, layouts and older
// statements, so nothing may be trusted before.
func (s *sealed) head(predicateType string) (any, error) {
	tree, err := parseTree(s.payload)
	if err != nil {
		return nil, refuse("cannot read statement: %v", err)
	}
	if got := field(tree, "_type"); got != StatementType {
		return nil, refuse("payload has type %.64q, expected %q", fmt.Sprint(got), StatementType)
	}
	if got := field(tree, "predicateType"); got != predicateType {
		return nil, refuse("statement has predicate type %.64q, expected %q", fmt.Sprint(got), predicateType)
	}
	return tree, nil
}
