package deb

import (
	"bytes"
	"crypto"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// The keys that sign Debian's own archives; keys/README.md tells where they are from.
//
//go:embed keys/*.gpg
var shippedKeys embed.FS

const (
	// A signed index names every file of a suite; Debian's largest, of
	// unstable, is 250 kB.
	maxInRelease = 8 << 20
	// One key file; debian-archive-keyring.gpg is 60 kB.
	maxKeyFile = 1 << 20
	// Debian signs with three or four keys; each costs a hash over the index.
	maxSignatures = 32
	// How far an index's date may lie ahead of our clock: clocks of build
	// machines are wrong by hours, and mirrors are not days ahead.
	maxAhead = 24 * time.Hour
)

// Keyring is a list of OpenPGP certificates whose signatures are believed.
type Keyring struct {
	entities openpgp.EntityList
}

// ShippedKeys returns the Debian archive keys that are part of Quorate.
func ShippedKeys() (*Keyring, error) {
	names, err := fs.Glob(shippedKeys, "keys/*.gpg")
	if err != nil {
		return nil, err
	}
	var files [][]byte
	for _, n := range names {
		b, err := shippedKeys.ReadFile(n)
		if err != nil {
			return nil, err
		}
		files = append(files, b)
	}
	return ParseKeys(files...)
}

// ParseKeys reads key files, each binary or armored with any number of certificates.
func ParseKeys(files ...[]byte) (*Keyring, error) {
	k := &Keyring{}
	for i, b := range files {
		if len(b) > maxKeyFile {
			return nil, fmt.Errorf("key file %d is larger than %d bytes", i+1, maxKeyFile)
		}
		read := openpgp.ReadKeyRing
		if bytes.Contains(b[:min(len(b), 1024)], []byte("-----BEGIN PGP")) {
			read = openpgp.ReadArmoredKeyRing
		}
		list, err := read(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("key file %d is not an OpenPGP key: %w", i+1, err)
		}
		k.entities = append(k.entities, list...)
	}
	if len(k.entities) == 0 {
		return nil, errors.New("key files hold no OpenPGP key")
	}
	return k, nil
}

// Fingerprints lists the primary keys, 40 upper-case hexadecimal digits each, sorted.
func (k *Keyring) Fingerprints() []string {
	var f []string
	for _, e := range k.entities {
		f = append(f, fingerprint(e))
	}
	slices.Sort(f)
	return slices.Compact(f)
}

func fingerprint(e *openpgp.Entity) string { return fmt.Sprintf("%X", e.PrimaryKey.Fingerprint) }

// verifyClearsigned checks a clear-signed file and returns its text and the
// fingerprints of the keys whose signatures hold, sorted. Every byte of the
// file must belong to the text or to its signature: text before or after
// would be read by some programs as signed. Errors: *SignatureError without URL.
func verifyClearsigned(b []byte, keys *Keyring, now time.Time) (text []byte, signedBy []string, err error) {
	refuse := func(problem string, ids ...string) ([]byte, []string, error) {
		return nil, nil, &SignatureError{Problem: problem, Keys: ids, Known: keys.Fingerprints()}
	}
	if !bytes.HasPrefix(b, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return refuse("it does not begin with a signed message")
	}
	if bytes.Count(b, []byte("\n-----BEGIN PGP SIGNATURE-----")) != 1 {
		return refuse("it is cut off, or does not hold exactly one signature block")
	}
	block, rest := clearsign.Decode(b)
	if block == nil {
		return refuse("its signed message is malformed or cut off")
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return refuse("there is text after the signature")
	}
	if block.ArmoredSignature.Type != openpgp.SignatureType {
		return refuse(fmt.Sprintf("its signature block is a %q", block.ArmoredSignature.Type))
	}
	sigs, err := readSignatures(block.ArmoredSignature)
	if err != nil {
		return refuse(err.Error())
	}
	var ids, reasons []string
	for _, s := range sigs {
		if s.IssuerKeyId == nil {
			continue
		}
		ids = append(ids, fmt.Sprintf("%016X", *s.IssuerKeyId))
		signer, err := checkSignature(block.Bytes, s, keys, now)
		if err != nil {
			reasons = append(reasons, err.Error())
			continue
		}
		if signer != "" {
			signedBy = append(signedBy, signer)
		}
	}
	if len(signedBy) == 0 {
		problem := "none of its signatures is by a known key"
		if len(reasons) > 0 {
			problem = strings.Join(reasons, "; ")
		}
		return refuse(problem, ids...)
	}
	slices.Sort(signedBy)
	return block.Plaintext, slices.Compact(signedBy), nil
}

func readSignatures(block *armor.Block) ([]*packet.Signature, error) {
	var sigs []*packet.Signature
	packets := packet.NewReader(block.Body)
	for {
		p, err := packets.Next()
		if err == io.EOF {
			return sigs, nil
		}
		if err != nil {
			return nil, fmt.Errorf("its signature block is damaged: %w", err)
		}
		s, ok := p.(*packet.Signature)
		if !ok {
			return nil, errors.New("its signature block holds something else than signatures")
		}
		if sigs = append(sigs, s); len(sigs) > maxSignatures {
			return nil, fmt.Errorf("it has more than %d signatures", maxSignatures)
		}
	}
}

// checkSignature returns the fingerprint of the primary key behind one
// signature, "" when the key is unknown. The key must have been valid when it
// signed: archives of past releases stay verifiable after their keys expired.
func checkSignature(signed []byte, s *packet.Signature, keys *Keyring, now time.Time) (string, error) {
	id := fmt.Sprintf("%016X", *s.IssuerKeyId)
	if len(keys.entities.KeysById(*s.IssuerKeyId)) == 0 {
		return "", nil
	}
	switch {
	case s.Hash != crypto.SHA256 && s.Hash != crypto.SHA384 && s.Hash != crypto.SHA512:
		return "", fmt.Errorf("the signature by %s uses a weak hash", id)
	case s.SigType != packet.SigTypeText && s.SigType != packet.SigTypeBinary:
		return "", fmt.Errorf("the signature by %s is not one over a document", id)
	case s.CreationTime.After(now.Add(maxAhead)):
		return "", fmt.Errorf("the signature by %s is dated %s, in the future", id, stamp(s.CreationTime))
	case s.SigExpired(now):
		return "", fmt.Errorf("the signature by %s has expired", id)
	}
	var one bytes.Buffer
	if err := s.Serialize(&one); err != nil {
		return "", fmt.Errorf("the signature by %s cannot be read: %w", id, err)
	}
	made := s.CreationTime
	signer, err := openpgp.CheckDetachedSignature(keys.entities, bytes.NewReader(signed), &one,
		&packet.Config{Time: func() time.Time { return made }})
	if err != nil {
		return "", fmt.Errorf("the signature by %s does not hold: %w", id, err)
	}
	return fingerprint(signer), nil
}
