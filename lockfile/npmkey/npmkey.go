// Package npmkey reads the keys of npm registries, and holds what they signed
// against them: the message "NAME@VERSION:INTEGRITY" of each version of a package
// (npm's documentation, "About ECDSA registry signatures"). It is pure.
//
// A registry has its keys at /-/npm/v1/keys ([Parse]). A lock has those that
// stand for something in the fact "keys" of an input ([Format], [ParseFact]), and
// with each pin the signatures themselves, so that whoever has the lock can
// judge them again ([Ring.VerifyPin]) and nobody can claim one.
package npmkey

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
)

// Type is the one kind of keys that registries sign with (npm's
// documentation, "About ECDSA registry signatures").
const Type = "ecdsa-sha2-nistp256"

// Ring is keys by the name that signatures call them.
type Ring map[string]Key

// Key is one of a registry.
type Key struct {
	Expires time.Time // zero for never

	der    []byte
	public *ecdsa.PublicKey
}

// maxKeys is far above what a registry goes through in its life: npm's has had two.
const maxKeys = 100

// Parse reads what a registry has at /-/npm/v1/keys. Keys of other types
// are left out; who signs with one is an unknown.
func Parse(text []byte) (Ring, error) {
	var doc struct {
		Keys []struct {
			ID      string     `json:"keyid"`
			Type    string     `json:"keytype"`
			Scheme  string     `json:"scheme"`
			Key     string     `json:"key"`
			Expires *time.Time `json:"expires"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("they are not JSON as registries write it: %w", err)
	}
	if len(doc.Keys) > maxKeys {
		return nil, fmt.Errorf("there are %d of them; at most %d are read", len(doc.Keys), maxKeys)
	}
	ring := Ring{}
	for _, k := range doc.Keys {
		if k.Type != Type || cmp.Or(k.Scheme, Type) != Type {
			continue
		}
		if k.ID == "" || len(k.ID) > 100 || strings.Contains(k.ID, "=") || strings.ContainsFunc(k.ID, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("one has the keyid %q, which is none", k.ID)
		}
		if _, twice := ring[k.ID]; twice {
			return nil, fmt.Errorf("there are two with the keyid %s", k.ID)
		}
		one, err := parse(k.Key)
		if err != nil {
			return nil, fmt.Errorf("%s %w", k.ID, err)
		}
		if k.Expires != nil {
			one.Expires = *k.Expires
		}
		ring[k.ID] = one
	}
	return ring, nil
}

// parse reads a key's DER form in base64.
func parse(text string) (Key, error) {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Key{}, errors.New("is not base64")
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Key{}, fmt.Errorf("cannot be read: %w", err)
	}
	ec, ok := public.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return Key{}, errors.New("is not an ECDSA key over P-256")
	}
	return Key{der: der, public: ec}, nil
}

// Fingerprint is the sha256 of the key's DER form, in hexadecimal digits.
func (k Key) Fingerprint() string { return digest.Of(k.der).Hex() }

// Same reports whether two names are of one key.
func (k Key) Same(other Key) bool { return bytes.Equal(k.der, other.der) }

// Holds reports whether the key signed a version; sig is base64 of ASN.1.
func (k Key) Holds(name, version, integrity, sig string) bool {
	message := sha256.Sum256([]byte(name + "@" + version + ":" + integrity))
	b, err := base64.StdEncoding.DecodeString(sig)
	return err == nil && k.public != nil && ecdsa.VerifyASN1(k.public, message[:], b)
}

// IDs lists the keys' names.
func (r Ring) IDs() string { return strings.Join(slices.Sorted(maps.Keys(r)), ", ") }

// Format is the fact: KEYID=KEY, the DER form in base64, with a blank between.
func Format(r Ring) string {
	var words []string
	for _, id := range slices.Sorted(maps.Keys(r)) {
		words = append(words, id+"="+base64.StdEncoding.EncodeToString(r[id].der))
	}
	return strings.Join(words, " ")
}

// ParseFact reads what Format wrote.
func ParseFact(fact string) (Ring, error) {
	r := Ring{}
	for word := range strings.FieldsSeq(fact) {
		id, text, _ := strings.Cut(word, "=")
		k, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("the key %s of the lock %w", id, err)
		}
		r[id] = k
	}
	return r, nil
}

// VerifyPin judges the signatures of a pin, KEYID=SIGNATURE with a blank between,
// and returns the keys' names. Whether a key had ended is judged when it is locked.
func (r Ring) VerifyPin(name, version, integrity, signatures string) ([]string, error) {
	var by []string
	for word := range strings.FieldsSeq(signatures) {
		id, sig, _ := strings.Cut(word, "=")
		k, ok := r[id]
		if !ok {
			return nil, fmt.Errorf("is signed with the key %s, which is not known; known: %s", id, r.IDs())
		}
		if !k.Holds(name, version, integrity, sig) {
			return nil, fmt.Errorf("has a signature of the key %s that does not hold: that key never stood for these bytes under this name", id)
		}
		by = append(by, id)
	}
	return by, nil
}
