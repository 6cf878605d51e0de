package keyfile

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func generate(t *testing.T) *Key {
	t.Helper()
	key, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func answer(s string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(s), nil }
}

func TestSaveAndLoad(t *testing.T) {
	for _, test := range []struct {
		summary, passphrase, firstLine string
	}{
		{"without a passphrase", "", "-----BEGIN PRIVATE KEY-----"},
		{"with a passphrase, in cosign's form", "correct horse", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "release.key")
			key := generate(t)
			if err := key.Save(path, []byte(test.passphrase)); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if line, _, _ := strings.Cut(string(data), "\n"); line != test.firstLine {
				t.Errorf("file begins with %q, expected %q", line, test.firstLine)
			}
			if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
				t.Errorf("mode is %v, expected 0600", info.Mode())
			}
			got, err := Load(path, answer(test.passphrase))
			if err != nil {
				t.Fatal(err)
			}
			if got.Public() != key.Public() {
				t.Error("another key came back")
			}
			sig, err := got.Sign(context.Background(), []byte("message"))
			if err != nil {
				t.Fatal(err)
			}
			if err := key.Public().Verify([]byte("message"), sig); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSaveNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.key")
	first, second := generate(t), generate(t)
	if err := first.Save(path, nil); err != nil {
		t.Fatal(err)
	}
	err := second.Save(path, nil)
	var exists *ExistsError
	if !errors.As(err, &exists) || !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second Save: %v, expected an *ExistsError", err)
	}
	if want := fmt.Sprintf("cannot write private key: %q exists already, and a key that is overwritten is lost", path); err.Error() != want {
		t.Errorf("error %q, expected %q", err, want)
	}
	if got, err := Load(path, nil); err != nil || got.Public() != first.Public() {
		t.Errorf("the first key is gone: %v", err)
	}
	if err := second.Replace(path, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(path, nil); err != nil || got.Public() != second.Public() {
		t.Errorf("Replace did not replace: %v", err)
	}
	if err := first.Public().Save(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a public key may overwrite a private one: %v", err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("files left beside the key: %v", left)
	}
}

// A race between two Saves has one winner, whose file is whole.
func TestSaveRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.key")
	keys := []*Key{generate(t), generate(t), generate(t), generate(t)}
	errs := make(chan error, len(keys))
	for _, key := range keys {
		go func() { errs <- key.Save(path, nil) }()
	}
	won := 0
	for range keys {
		if err := <-errs; err == nil {
			won++
		} else if !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of them say they wrote the file, expected 1", won)
	}
	if _, err := Load(path, nil); err != nil {
		t.Error(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode fs.FileMode, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := generate(t)
	plain, _ := key.encode(nil)
	locked, _ := key.encode([]byte("right"))
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p384DER, _ := x509.MarshalPKCS8PrivateKey(p384)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	edDER, _ := x509.MarshalPKCS8PrivateKey(ed)

	for _, test := range []struct {
		summary    string
		path       string
		passphrase func() ([]byte, error)
		err        string
	}{
		{"world may read", write("world", 0o644, plain), nil,
			`private key "DIR/world" has mode 0644: others may read it, expected 0600`},
		{"group may write", write("group", 0o620, plain), nil,
			`private key "DIR/group" has mode 0620: others may read it, expected 0600`},
		{"wrong passphrase", write("locked", 0o600, locked), answer("wrong"),
			`cannot decrypt private key "DIR/locked": wrong passphrase, or the file is damaged`},
		{"no passphrase", write("locked2", 0o600, locked), nil,
			`"DIR/locked2": private key is encrypted and no passphrase was given`},
		{"passphrase cannot be asked for", write("locked3", 0o600, locked), func() ([]byte, error) { return nil, errors.New("no terminal") },
			`cannot ask for the passphrase of "DIR/locked3": no terminal`},
		{"empty file", write("empty", 0o600, nil), nil,
			`private key "DIR/empty" holds no PEM block`},
		{"two keys in one file", write("two", 0o600, append(bytes.Clone(plain), plain...)), nil,
			`private key "DIR/two" holds more than one PEM block`},
		{"public key", write("public", 0o600, key.Public().PEM()), nil,
			`"DIR/public" holds a public key, expected a private key`},
		{"another PEM type", write("ssh", 0o600, pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY"})), nil,
			`private key "DIR/ssh" has PEM type "OPENSSH PRIVATE KEY", expected "PRIVATE KEY" or "ENCRYPTED SIGSTORE PRIVATE KEY"`},
		{"another curve", write("p384", 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p384DER})), nil,
			`"DIR/p384": private key is on curve P-384, expected P-256`},
		{"another algorithm", write("ed", 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: edDER})), nil,
			`private key "DIR/ed" is a ed25519.PrivateKey, expected ECDSA on P-256`},
		{"huge file", write("huge", 0o600, make([]byte, maxKeyFile+1)), nil,
			`cannot read private key: "DIR/huge" is larger than 65536 bytes, which no key file is`},
		{"missing file", filepath.Join(dir, "missing"), nil,
			`cannot read private key: open DIR/missing: no such file or directory`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			_, err := Load(test.path, test.passphrase)
			if err == nil {
				t.Fatal("accepted")
			}
			if got := strings.ReplaceAll(err.Error(), dir, "DIR"); got != test.err {
				t.Errorf("error\n%s\nexpected\n%s", got, test.err)
			}
		})
	}
}

func TestPermissionsHint(t *testing.T) {
	err := &PermissionsError{Path: "keys/a.key", Mode: 0o644}
	if got, want := err.Hint(), `run: chmod 600 "keys/a.key"`; got != want {
		t.Errorf("hint %q, expected %q", got, want)
	}
}

func TestPublicKey(t *testing.T) {
	key := generate(t)
	path := filepath.Join(t.TempDir(), "a.pub")
	if err := key.Public().Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := LoadPublic(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != key.Public() {
		t.Error("another key came back")
	}
	der, _ := x509.MarshalPKIXPublicKey(&key.private.PublicKey)
	sum := sha256.Sum256(der)
	if got.Fingerprint() != hex.EncodeToString(sum[:]) {
		t.Errorf("fingerprint %s is not the sha256 of the DER form", got.Fingerprint())
	}
	if (PublicKey{}).Fingerprint() != "" || (PublicKey{}).Verify(nil, nil) == nil {
		t.Error("the zero key has an identity or verifies something")
	}
	raw, err := key.private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	secret := new(big.Int).SetBytes(raw).String()
	if s := fmt.Sprintf("%v %+v %#v %s", key, key, key, key); strings.Contains(s, secret) || strings.Count(s, got.Fingerprint()) != 4 {
		t.Errorf("printing a private key shows %q", s)
	}
}

func TestParsePublicRefuses(t *testing.T) {
	encode := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	plain, _ := generate(t).encode(nil)
	for _, test := range []struct {
		summary string
		data    []byte
		err     string
	}{
		{"empty", nil, "public key holds no PEM block"},
		{"private key", plain, `public key has PEM type "PRIVATE KEY", expected "PUBLIC KEY"`},
		{"RSA", encode(&rsaKey.PublicKey), "public key is a *rsa.PublicKey, expected ECDSA on P-256 or Ed25519"},
		{"another curve", encode(&p521.PublicKey), "public key is on curve P-521, expected P-256"},
		{"two keys", append(generate(t).Public().PEM(), generate(t).Public().PEM()...), "public key holds more than one PEM block"},
		{"huge", make([]byte, maxKeyFile+1), "public key is larger than 65536 bytes, which no key is"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			if _, err := ParsePublic(test.data); err == nil || err.Error() != test.err {
				t.Errorf("error %v, expected %s", err, test.err)
			}
		})
	}
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	key, err := ParsePublic(encode(public))
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Verify([]byte("message"), ed25519.Sign(private, []byte("message"))); err != nil {
		t.Errorf("an Ed25519 key does not verify: %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	key, other := generate(t), generate(t)
	sig, err := key.Sign(context.Background(), []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(sig)
	flipped[len(flipped)-1] ^= 1
	for _, test := range []struct {
		summary string
		key     PublicKey
		message string
		sig     []byte
	}{
		{"another message", key.Public(), "massage", sig},
		{"another key", other.Public(), "message", sig},
		{"a flipped bit", key.Public(), "message", flipped},
		{"no signature", key.Public(), "message", nil},
		{"trailing bytes", key.Public(), "message", append(bytes.Clone(sig), 0)},
	} {
		if err := test.key.Verify([]byte(test.message), test.sig); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v, expected ErrSignature", test.summary, err)
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := key.Sign(cancelled, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Sign after the end of its context: %v", err)
	}
}

func FuzzParsePublic(f *testing.F) {
	key, err := Generate()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key.Public().PEM())
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := ParsePublic(data)
		if err != nil {
			return
		}
		again, err := ParsePublic(key.PEM())
		if err != nil || again != key {
			t.Fatalf("what was accepted is not read again: %v", err)
		}
	})
}

// Hostile scrypt parameters or truncated boxes may fail, never panic.
func FuzzDecode(f *testing.F) {
	key, err := Generate()
	if err != nil {
		f.Fatal(err)
	}
	plain, _ := key.encode(nil)
	f.Add(plain)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: []byte(`{"kdf":{"name":"scrypt","params":{"N":99999999,"r":8,"p":1}},"cipher":{"name":"nacl/secretbox","nonce":""}}`)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = decode("fuzz", data, answer("x"))
	})
}
