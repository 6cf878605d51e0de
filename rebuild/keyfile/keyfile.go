// Package keyfile keeps the keys that sign reports and agreements, as PEM files
// on disk.
//
// A private key is ECDSA on P-256, the one kind that every consumer we tried
// takes (cosign refuses P-384 with SHA-384, Rekor 2 refuses plain Ed25519). It
// is a PKCS #8 file of mode 0600:
//
//	-----BEGIN PRIVATE KEY-----                     without a passphrase
//	-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----  with one: scrypt and NaCl secretbox, as cosign keeps its keys
//
// A public key is a "PUBLIC KEY" PEM file (SubjectPublicKeyInfo), beside it.
//
// Identity is key material, never a file name and never a key id that somebody
// chose: [PublicKey.Fingerprint] is the sha256 of the key's DER form, and
// PublicKey values compare with ==.
//
//	key, err := keyfile.Generate()
//	err = key.Save("release.key", passphrase)
//	err = key.Public().Save("release.pub")
//
//	key, err = keyfile.Load("release.key", askPassphrase)
//	sig, err := key.Sign(ctx, message)
//	err = key.Public().Verify(message, sig)
//
// Signatures are ASN.1 ECDSA over the sha256 of the message, or plain Ed25519.
// Everything that signs takes a [Signer], so that a key in a KMS or a token can
// stand where a file stands: [Elsewhere] makes one of a [Holder], which has one
// method. Package external is a holder that runs a program.
package keyfile

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// PEM types of private keys. cosign wrote the older name before 2.0 and reads both, as we do.
const (
	pemPrivate      = "PRIVATE KEY"
	pemEncrypted    = "ENCRYPTED SIGSTORE PRIVATE KEY"
	pemEncryptedOld = "ENCRYPTED COSIGN PRIVATE KEY"
	pemPublic       = "PUBLIC KEY"
)

const (
	maxKeyFile    = 64 << 10 // bytes; a P-256 key file is under 1 KiB, so anything near this is not a key
	privateMode   = 0o600
	publicMode    = 0o644
	othersMayRead = 0o077 // any right of group or world
)

// Signer signs messages with one key. Implementations may keep the key
// elsewhere (KMS, token); ctx bounds the time they take.
type Signer interface {
	// Sign returns a signature that Public().Verify accepts for message.
	Sign(ctx context.Context, message []byte) ([]byte, error)
	// Public returns the key that verifies. It does not change.
	Public() PublicKey
}

// Key is a private key in memory. It is made by Generate and Load.
type Key struct {
	private *ecdsa.PrivateKey
	public  PublicKey
}

// Generate returns a new key.
func Generate() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot generate a key: %w", err)
	}
	return newKey(private)
}

func newKey(private *ecdsa.PrivateKey) (*Key, error) {
	if private.Curve != elliptic.P256() {
		return nil, fmt.Errorf("private key is on curve %s, expected P-256", private.Curve.Params().Name)
	}
	public, err := newPublicKey(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Key{private: private, public: public}, nil
}

// Public returns the public half.
func (k *Key) Public() PublicKey { return k.public }

// Sign returns an ASN.1 ECDSA signature over the sha256 of message.
func (k *Key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(message)
	return ecdsa.SignASN1(rand.Reader, k.private, sum[:])
}

// String names the key by its public half, so that printing a Key shows no secret.
func (k *Key) String() string { return "private key of " + k.public.Fingerprint() }

// GoString is String, for %#v.
func (k *Key) GoString() string { return k.String() }

// Save writes the key to path, which must not exist yet (the error is then an
// *ExistsError), encrypted unless the passphrase is empty.
func (k *Key) Save(path string, passphrase []byte) error {
	return k.write(path, passphrase, createNew)
}

// Replace is Save over whatever is at path. The old key is gone for ever.
func (k *Key) Replace(path string, passphrase []byte) error {
	return k.write(path, passphrase, replace)
}

func (k *Key) write(path string, passphrase []byte, place placing) error {
	data, err := k.encode(passphrase)
	if err != nil {
		return err
	}
	if err := writeFile(path, data, privateMode, place); err != nil {
		return fmt.Errorf("cannot write private key: %w", err)
	}
	return nil
}

func (k *Key) encode(passphrase []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("cannot encode private key: %w", err)
	}
	if len(passphrase) == 0 {
		return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil
	}
	box, err := encrypted.Encrypt(der, passphrase)
	if err != nil {
		return nil, fmt.Errorf("cannot encrypt private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: box}), nil
}

// PermissionsError says that others than the owner may read a private key.
type PermissionsError struct {
	Path string
	Mode fs.FileMode
}

func (e *PermissionsError) Error() string {
	return fmt.Sprintf("private key %q has mode %#o: others may read it, expected 0600", e.Path, e.Mode.Perm())
}

// Hint is the command that mends it.
func (e *PermissionsError) Hint() string { return fmt.Sprintf("run: chmod 600 %q", e.Path) }

// PassphraseError says that an encrypted key could not be opened with the passphrase given.
type PassphraseError struct {
	Path string
}

func (e *PassphraseError) Error() string {
	return fmt.Sprintf("cannot decrypt private key %q: wrong passphrase, or the file is damaged", e.Path)
}

// ErrNoPassphrase is returned by Load for an encrypted key when it has no way to ask.
var ErrNoPassphrase = errors.New("private key is encrypted and no passphrase was given")

// Load reads a private key. It refuses a file that group or world may touch
// with a *PermissionsError. passphrase is called once, and only for an
// encrypted key; it may be nil.
func Load(path string, passphrase func() ([]byte, error)) (*Key, error) {
	data, info, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read private key: %w", err)
	}
	// A pipe has no meaningful mode, and on Windows access lists decide.
	if runtime.GOOS != "windows" && info.Mode().IsRegular() && info.Mode().Perm()&othersMayRead != 0 {
		return nil, &PermissionsError{Path: path, Mode: info.Mode()}
	}
	return decode(path, data, passphrase)
}

func decode(path string, data []byte, passphrase func() ([]byte, error)) (*Key, error) {
	block, err := onlyBlock(data)
	if err != nil {
		return nil, fmt.Errorf("private key %q %w", path, err)
	}
	der := block.Bytes
	switch block.Type {
	case pemPrivate:
	case pemEncrypted, pemEncryptedOld:
		if der, err = decrypt(path, der, passphrase); err != nil {
			return nil, err
		}
	case pemPublic:
		return nil, fmt.Errorf("%q holds a public key, expected a private key", path)
	default:
		return nil, fmt.Errorf("private key %q has PEM type %q, expected %q or %q", path, block.Type, pemPrivate, pemEncrypted)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("private key %q is not PKCS #8: %w", path, err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key %q is a %T, expected ECDSA on P-256", path, parsed)
	}
	key, err := newKey(private)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return key, nil
}

func decrypt(path string, box []byte, passphrase func() ([]byte, error)) ([]byte, error) {
	if passphrase == nil {
		return nil, fmt.Errorf("%q: %w", path, ErrNoPassphrase)
	}
	secret, err := passphrase()
	if err != nil {
		return nil, fmt.Errorf("cannot ask for the passphrase of %q: %w", path, err)
	}
	der, err := encrypted.Decrypt(box, secret)
	if err != nil {
		return nil, &PassphraseError{Path: path}
	}
	return der, nil
}

// onlyBlock returns the one PEM block of a file. Two blocks are refused: tools
// differ in which of them they use. Text around it is allowed, as RFC 7468 has it.
func onlyBlock(data []byte) (*pem.Block, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New("holds no PEM block")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("holds more than one PEM block")
	}
	return block, nil
}

func readFile(path string) ([]byte, fs.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxKeyFile {
		return nil, nil, fmt.Errorf("%q is larger than %d bytes, which no key file is", path, maxKeyFile)
	}
	return data, info, nil
}
