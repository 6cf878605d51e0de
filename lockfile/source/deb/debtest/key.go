package debtest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// signingKey signs the indexes of test archives.
type signingKey struct{ entity *openpgp.Entity }

// born is when test keys were made, so that archives of any later date can be signed.
var born = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func newKey() (*signingKey, error) {
	e, err := openpgp.NewEntity("Test archive", "", "archive@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, // quick to make
		Time:      func() time.Time { return born },
	})
	if err != nil {
		return nil, err
	}
	return &signingKey{e}, nil
}

// loadKey reads the folder's key, or makes one.
func loadKey(dir string) (*signingKey, error) {
	file := filepath.Join(dir, "private-key.gpg")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return storeKey(dir, file)
	}
	if err != nil {
		return nil, err
	}
	list, err := openpgp.ReadKeyRing(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return &signingKey{list[0]}, nil
}

func storeKey(dir, file string) (*signingKey, error) {
	k, err := newKey()
	if err != nil {
		return nil, err
	}
	var private bytes.Buffer
	if err := k.entity.SerializePrivate(&private, &packet.Config{Time: func() time.Time { return born }}); err != nil {
		return nil, err
	}
	public, err := k.public()
	if err != nil {
		return nil, err
	}
	if err := write(file, private.Bytes()); err != nil {
		return nil, err
	}
	return k, write(filepath.Join(dir, "archive-key.asc"), public)
}

func (k *signingKey) public() ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		return nil, err
	}
	if err := k.entity.Serialize(w); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// clearsign signs a text. Signatures of one text are salted, and so never the
// same; without salt they are, as those of files that nobody signs again.
func (k *signingKey) clearsign(text []byte, at time.Time, salted bool) ([]byte, error) {
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, k.entity.PrivateKey, &packet.Config{Time: func() time.Time { return at }, NonDeterministicSignaturesViaNotation: &salted})
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return append(out.Bytes(), '\n'), nil
}
