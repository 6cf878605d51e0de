package keyfile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// PublicKey is key material: ECDSA on P-256, or Ed25519 for signers that have
// nothing else. Values compare with == and work as map keys; the zero value is
// no key and verifies nothing.
type PublicKey struct {
	der string // SubjectPublicKeyInfo as x509.MarshalPKIXPublicKey writes it, so that one key has one form
}

// ErrSignature is returned by Verify when the signature is not one of this key over the message.
var ErrSignature = errors.New("signature does not verify")

// ParsePublic reads one PEM block of type "PUBLIC KEY".
func ParsePublic(data []byte) (PublicKey, error) {
	if len(data) > maxKeyFile {
		return PublicKey{}, fmt.Errorf("public key is larger than %d bytes, which no key is", maxKeyFile)
	}
	block, err := onlyBlock(data)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key %w", err)
	}
	if block.Type != pemPublic {
		return PublicKey{}, fmt.Errorf("public key has PEM type %q, expected %q", block.Type, pemPublic)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key is malformed: %w", err)
	}
	return newPublicKey(parsed)
}

// LoadPublic reads a public key file.
func LoadPublic(path string) (PublicKey, error) {
	data, _, err := readFile(path)
	if err != nil {
		return PublicKey{}, fmt.Errorf("cannot read public key: %w", err)
	}
	key, err := ParsePublic(data)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%q: %w", path, err)
	}
	return key, nil
}

func newPublicKey(key crypto.PublicKey) (PublicKey, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return PublicKey{}, fmt.Errorf("public key is on curve %s, expected P-256", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return PublicKey{}, fmt.Errorf("public key is a %T, expected ECDSA on P-256 or Ed25519", key)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("cannot encode public key: %w", err)
	}
	return PublicKey{der: string(der)}, nil
}

// IsZero reports whether k is no key.
func (k PublicKey) IsZero() bool { return k.der == "" }

// Fingerprint is the key's identity: 64 hexadecimal digits, the sha256 of its
// SubjectPublicKeyInfo in DER. The zero value has none ("").
// `openssl pkey -pubin -in KEY -outform DER | sha256sum` prints the same.
func (k PublicKey) Fingerprint() string {
	if k.IsZero() {
		return ""
	}
	sum := sha256.Sum256([]byte(k.der))
	return hex.EncodeToString(sum[:])
}

// String is Fingerprint.
func (k PublicKey) String() string { return k.Fingerprint() }

// PEM returns the key as ParsePublic reads it.
func (k PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: []byte(k.der)})
}

// Save writes the key to path, which must not exist yet (the error is then an *ExistsError).
func (k PublicKey) Save(path string) error { return k.write(path, createNew) }

// Replace is Save over whatever is at path.
func (k PublicKey) Replace(path string) error { return k.write(path, replace) }

func (k PublicKey) write(path string, place placing) error {
	if k.IsZero() {
		return fmt.Errorf("cannot write public key %q: there is no key", path)
	}
	if err := writeFile(path, k.PEM(), publicMode, place); err != nil {
		return fmt.Errorf("cannot write public key: %w", err)
	}
	return nil
}

// Verify returns nil when sig is a signature of this key over message, else
// ErrSignature.
func (k PublicKey) Verify(message, sig []byte) error {
	if k.IsZero() {
		return fmt.Errorf("no key: %w", ErrSignature)
	}
	parsed, err := x509.ParsePKIXPublicKey([]byte(k.der))
	if err != nil {
		return fmt.Errorf("cannot read the key: %w", err)
	}
	valid := false
	switch key := parsed.(type) {
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		valid = ecdsa.VerifyASN1(key, sum[:], sig)
	case ed25519.PublicKey:
		valid = ed25519.Verify(key, message, sig)
	}
	if !valid {
		return ErrSignature
	}
	return nil
}
