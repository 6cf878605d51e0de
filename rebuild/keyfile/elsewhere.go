package keyfile

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// Holder signs with a key that is kept elsewhere: in a token, a KMS, on another
// machine. It is all that such a place has to offer.
type Holder interface {
	// Sign returns a signature over the sha256 of message (ECDSA on P-256: ASN.1,
	// or the 64 bytes of r and s as PKCS #11 gives them), or over message itself
	// (Ed25519).
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

// Elsewhere returns the signer whose key a holder keeps. Every signature is
// checked before it is handed on: a holder that signs with another key, or
// something else, is an error here and not at whoever verifies.
func Elsewhere(public PublicKey, holder Holder) Signer { return &elsewhere{public, holder} }

type elsewhere struct {
	public PublicKey
	holder Holder
}

func (e *elsewhere) Public() PublicKey { return e.public }

func (e *elsewhere) Sign(ctx context.Context, message []byte) ([]byte, error) {
	sig, err := e.holder.Sign(ctx, message)
	if err != nil {
		return nil, err
	}
	if e.public.Verify(message, sig) == nil {
		return sig, nil
	}
	if der, err := fromRaw(sig); err == nil && e.public.Verify(message, der) == nil {
		return der, nil
	}
	return nil, fmt.Errorf("what came back (%d bytes) is no signature of key %.16s… over what was to be signed: is it the right key, and is the sha256 signed?", len(sig), e.public.Fingerprint())
}

// fromRaw writes r and s, of 32 bytes each, as ASN.1.
func fromRaw(sig []byte) ([]byte, error) {
	if len(sig) != 64 {
		return nil, errors.New("not 64 bytes")
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
}
