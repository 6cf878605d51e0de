package npm

import (
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

// KeyType is the one kind of keys that registries sign with (npm's
// documentation, "About ECDSA registry signatures").
const keyType = "ecdsa-sha2-nistp256"

// keyring is keys by the name that signatures call them.
type keyring map[string]key

type key struct {
	public      *ecdsa.PublicKey
	fingerprint string    // sha256 of the DER form, in hexadecimal digits
	expires     time.Time // zero for never
}

// maxKeys is far above what a registry goes through in its life: npm's has had two.
const maxKeys = 100

// parseKeys reads what a registry has at /-/npm/v1/keys. Keys of other types
// are left out; who signs with one is an unknown.
func parseKeys(text []byte) (keyring, error) {
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
	ring := keyring{}
	for _, k := range doc.Keys {
		if k.Type != keyType || cmp.Or(k.Scheme, keyType) != keyType {
			continue
		}
		if k.ID == "" || len(k.ID) > 100 || strings.ContainsFunc(k.ID, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("one has the keyid %q, which is none", k.ID)
		}
		if _, twice := ring[k.ID]; twice {
			return nil, fmt.Errorf("there are two with the keyid %s", k.ID)
		}
		der, err := base64.StdEncoding.DecodeString(k.Key)
		if err != nil {
			return nil, fmt.Errorf("%s is not base64", k.ID)
		}
		public, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.ID, err)
		}
		ec, ok := public.(*ecdsa.PublicKey)
		if !ok || ec.Curve != elliptic.P256() {
			return nil, fmt.Errorf("%s is not an ECDSA key over P-256", k.ID)
		}
		one := key{public: ec, fingerprint: digest.Of(der).Hex()}
		if k.Expires != nil {
			one.expires = *k.Expires
		}
		ring[k.ID] = one
	}
	return ring, nil
}

func (r keyring) ids() string { return strings.Join(slices.Sorted(maps.Keys(r)), ", ") }

// errExpired says that it takes the time of publishing to judge a signature.
var errExpired = errors.New("the key has expired")

// verify holds all signatures against the message "NAME@VERSION:INTEGRITY", as
// npm audit signatures does: every one has to be by a known key and to hold, and
// a key that has an end must have signed before: what counts is when the version
// was published, and one whose time nobody knows is taken to be old. It returns
// the keys' names, sorted.
func (r keyring) verify(rel *released, timeKnown bool) ([]string, error) {
	message := sha256.Sum256([]byte(rel.Name + "@" + rel.Version + ":" + rel.Dist.Integrity))
	var by []string
	for _, s := range rel.Dist.Signatures {
		k, ok := r[s.KeyID]
		if !ok {
			return nil, fmt.Errorf("is signed with the key %s, which is not known; known: %s", s.KeyID, r.ids())
		}
		if !k.expires.IsZero() && !timeKnown {
			return nil, errExpired
		}
		if !k.expires.IsZero() && !rel.published.Before(k.expires) {
			return nil, fmt.Errorf("is signed with the key %s, which ended on %s, and was published after, on %s",
				s.KeyID, k.expires.UTC().Format(time.DateOnly), rel.published.UTC().Format(time.DateOnly))
		}
		sig, err := base64.StdEncoding.DecodeString(s.Sig)
		if err != nil || !ecdsa.VerifyASN1(k.public, message[:], sig) {
			return nil, fmt.Errorf("has a signature of the key %s that does not hold: that key never stood for these bytes under this name", s.KeyID)
		}
		by = append(by, s.KeyID)
	}
	slices.Sort(by)
	return slices.Compact(by), nil
}
