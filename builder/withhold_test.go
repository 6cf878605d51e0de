package builder

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"

	"quorate.dev/builder/tree"
)

func textEntry(p, text string) tree.Entry {
	return inline(tree.Entry{Path: p, Mode: 0o644}, []byte(text))
}

func treeOf(t *testing.T, entries ...tree.Entry) *tree.Tree {
	t.Helper()
	made, err := newTree(entries)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// keyAndCertificate makes a private key and a self-signed certificate, as PEM.
func keyAndCertificate(t *testing.T) (key, cert string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}))
}

func TestWithhold(t *testing.T) {
	key, cert := keyAndCertificate(t)
	otherKey, otherCert := keyAndCertificate(t)
	lower := treeOf(t,
		textEntry("usr/lib/python3/test/key.pem", otherKey),
		textEntry("etc/tool/sample.key.dpkg-new", otherKey),
		textEntry("usr/share/base-files/info.dir", "the first index"),
		tree.Entry{Path: "etc/shipped.pem", Kind: tree.Symlink, Mode: 0o777, Link: "ssl/private/made.key"},
	)
	made := treeOf(t,
		textEntry("usr/lib/python3/test/key.pem", otherKey),
		textEntry("etc/tool/sample.key", otherKey),
		tree.Entry{Path: "etc/shipped.pem", Kind: tree.Symlink, Mode: 0o777, Link: "ssl/private/made.key"},
		textEntry("etc/ssl/private/made.key", key),
		textEntry("etc/ssl/certs/made.pem", "a heading\n"+cert),
		textEntry("etc/ssl/certs/authority.pem", otherCert),
		tree.Entry{Path: "etc/ssl/certs/1234abcd.0", Kind: tree.Symlink, Mode: 0o777, Link: "made.pem"},
		tree.Entry{Path: "etc/ssl/certs/5678abcd.0", Kind: tree.Symlink, Mode: 0o777, Link: "authority.pem"},
		textEntry("etc/ssh/ssh_host_key", "-----BEGIN OPENSSH PRIVATE KEY-----\n"),
		textEntry("etc/ssh/ssh_host_key.pub", "ssh-ed25519 AAAA\n"),
		textEntry("etc/ssh/known.pub", "ssh-ed25519 BBBB\n"),
		textEntry("etc/aliases.db", "\x00"),
		textEntry("usr/share/info/dir", "the first index"),
		textEntry("var/lib/mysql/ibdata1", "\x00"),
		textEntry("var/lib/mysql/sys/table", "\x00"),
		textEntry("etc/motd", "about -----BEGIN PRIVATE KEY-----\n"),
	)
	kept, withheld, err := withhold(made.Entries(), lower)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range withheld {
		got = append(got, w.Path)
	}
	want := []string{"etc/aliases.db", "etc/ssh/ssh_host_key", "etc/ssh/ssh_host_key.pub", "etc/ssl/certs/made.pem", "etc/ssl/private/made.key", "var/lib/mysql/"}
	if !slices.Equal(got, want) {
		t.Errorf("withheld %q, expected %q", got, want)
	}
	var left []string
	for _, e := range kept {
		if e.Kind != tree.Dir {
			left = append(left, e.Path)
		}
	}
	want = []string{
		"etc/motd", "etc/shipped.pem", "etc/ssh/known.pub", "etc/ssl/certs/5678abcd.0", "etc/ssl/certs/authority.pem",
		"etc/tool/sample.key", "usr/lib/python3/test/key.pem", "usr/share/info/dir",
	}
	if !slices.Equal(left, want) {
		t.Errorf("kept %q, expected %q", left, want)
	}
}

// jks makes a Java trust store of two certificates that were added at ms and later.
func jks(ms uint64) []byte {
	body := binary.BigEndian.AppendUint32(nil, jksMagic)
	body = binary.BigEndian.AppendUint32(body, jksVersion)
	body = binary.BigEndian.AppendUint32(body, 2)
	for i, alias := range []string{"debian:one", "debian:two"} {
		body = binary.BigEndian.AppendUint32(body, jksTrusted)
		body = append(binary.BigEndian.AppendUint16(body, uint16(len(alias))), alias...)
		body = binary.BigEndian.AppendUint64(body, ms+uint64(i))
		body = append(binary.BigEndian.AppendUint16(body, 5), "X.509"...)
		body = append(binary.BigEndian.AppendUint32(body, 3), 1, 2, byte(i))
	}
	return append(body, jksSum(body)...)
}

func TestStampJKS(t *testing.T) {
	a, b := jks(1000), jks(777777)
	if !stampJKS(a, 5000) || !stampJKS(b, 5000) || !bytes.Equal(a, b) {
		t.Errorf("two stores of the same certificates differ:\n%x\n%x", a, b)
	}
	if !bytes.Equal(a[len(a)-20:], jksSum(a[:len(a)-20])) {
		t.Error("the checksum is of other bytes")
	}
	spoil := func(change func(body []byte) []byte) []byte {
		body := change(slices.Clone(jks(1000)[:len(jks(1000))-20]))
		return append(body, jksSum(body)...)
	}
	for summary, text := range map[string][]byte{
		"empty":           nil,
		"short":           {0xfe, 0xed, 0xfe, 0xed},
		"wrong checksum":  append(jks(1000)[:100:100], make([]byte, 20)...),
		"more at the end": spoil(func(b []byte) []byte { return append(b, 0) }),
		"cut":             spoil(func(b []byte) []byte { return b[:len(b)-4] }),
		"huge count":      spoil(func(b []byte) []byte { copy(b[8:], "\xff\xff\xff\xff"); return b }),
		"a private key":   spoil(func(b []byte) []byte { b[15] = 1; return b }),
		"another version": spoil(func(b []byte) []byte { b[7] = 1; return b }),
	} {
		before := slices.Clone(text)
		if stampJKS(text, 5000) || !bytes.Equal(text, before) {
			t.Errorf("%s: a store that is none was changed", summary)
		}
	}
}

func FuzzStampJKS(f *testing.F) {
	f.Add(jks(1000)[:len(jks(1000))-20])
	f.Add([]byte("\xfe\xed\xfe\xed\x00\x00\x00\x02\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		text := append(slices.Clone(body), jksSum(body)...)
		if !stampJKS(text, 5000) {
			return
		}
		again := slices.Clone(text)
		if !stampJKS(again, 5000) || !bytes.Equal(again, text) {
			t.Error("stamping twice is not stamping once")
		}
	})
}
