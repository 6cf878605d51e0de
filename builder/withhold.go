package builder

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"path"
	"regexp"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

// Withheld is a file that maintainer scripts made and that no image holds.
type Withheld struct {
	Path string // without the leading slash
	Why  string // and who makes it again
}

const (
	whySecret = "it is a private key made at installation: in an image it would be the same for everybody and known to all; make it where the container starts"
	whyPublic = "it belongs to a private key made at installation, which is left out too"
)

// chance are other things that scripts make anew for each installation and that
// their program makes again: dated, or secret in a form of their own. Each was
// seen to differ between two builds. A name ending in "/" stands for all that
// is in the folder, which itself stays.
var chance = map[string]string{
	"etc/aliases.db":       "it holds the time it was made; newaliases makes it where the container starts",
	"etc/bind/rndc.key":    "it is a secret made at installation; rndc-confgen -a makes it where the container starts",
	"etc/xrdp/rsakeys.ini": "it is a private key made at installation; xrdp-keygen makes it where the container starts",
	"etc/ldap/slapd.d/":    "it holds a database with random and dated entries; dpkg-reconfigure slapd makes it where the container starts",
	"usr/share/info/dir":   "the order of its lines is that in which a file system lists folders; update-info-dir makes it",
	"var/lib/ldap/":        "it holds a database with random and dated entries; dpkg-reconfigure slapd makes it where the container starts",
	"var/lib/mysql/":       "it holds a database with random and dated entries; mariadb-install-db makes it where the container starts",
}

// privateKey is how every textual private key begins (RFC 7468, OpenSSH's PROTOCOL.key, RFC 9580).
var privateKey = regexp.MustCompile(`(?m)^-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----`)

// maxKeySize bounds the files that are looked into for keys; an RSA key of
// 16384 bits with its certificate has 20 kB.
const maxKeySize = 64 << 10

// withhold takes out of a configured root what scripts made that must differ
// from one installation to the next: private keys, recognised by what is in
// them, wherever a package puts them; their public halves; what chance lists; and
// the links that led to any of those. What a package itself ships stays.
func withhold(entries []tree.Entry, lower *tree.Tree) ([]tree.Entry, []Withheld, error) {
	texts, err := madeTexts(entries, lower)
	if err != nil {
		return nil, nil, err
	}
	why := map[string]string{}
	keys := map[string]bool{} // PKIX forms of the public halves
	for p, text := range texts {
		if privateKey.Match(text) {
			why[p] = whySecret
			if _, made := texts[p+".pub"]; made { // ssh-keygen(1)
				why[p+".pub"] = whyPublic
			}
			addPublicHalves(keys, text)
		}
	}
	for p, text := range texts {
		if why[p] == "" && certifies(text, keys) {
			why[p] = whyPublic
		}
	}
	shipped := map[string]bool{}
	copies := map[digest.Digest]bool{} // of files that packages ship: base-files' first info index is one
	for _, e := range lower.Entries() {
		shipped[e.Path] = true
		if e.Kind == tree.File {
			copies[e.Digest] = true
		}
	}
	var kept []tree.Entry
	var withheld []Withheld
	told := map[string]bool{}
	for _, e := range entries {
		name, reason := byChance(e.Path)
		if reason == "" || shipped[e.Path] || e.Kind == tree.File && copies[e.Digest] {
			name, reason = e.Path, why[e.Path]
		}
		switch {
		case reason == "":
			kept = append(kept, e)
		case !told[name]: // a folder once
			told[name] = true
			withheld = append(withheld, Withheld{name, reason})
		}
	}
	if len(withheld) == 0 {
		return entries, nil, nil
	}
	return dropDangling(entries, kept, shipped), withheld, nil
}

// byChance returns the name under which chance has a path, and the reason.
func byChance(p string) (name, why string) {
	if why, ok := chance[p]; ok {
		return p, why
	}
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if why, ok := chance[dir+"/"]; ok {
			return dir + "/", why
		}
	}
	return "", ""
}

// madeTexts reads the files that scripts made or changed and that are small enough for keys.
func madeTexts(entries []tree.Entry, lower *tree.Tree) (map[string][]byte, error) {
	texts := map[string][]byte{}
	for _, e := range entries {
		if e.Kind != tree.File || e.Size == 0 || e.Size > maxKeySize {
			continue
		}
		if ships(lower, e.Path, e) || ships(lower, e.Path+".dpkg-new", e) {
			continue
		}
		text, err := readAll(e)
		if err != nil {
			return nil, err
		}
		if bytes.Contains(text, []byte("-----BEGIN ")) || bytes.HasPrefix(text, []byte("ssh-")) || bytes.HasPrefix(text, []byte("ecdsa-")) {
			texts[e.Path] = text
		}
	}
	return texts, nil
}

// ships reports whether a package ships what e holds as p: a conffile lies
// beside its place until dpkg configures its package.
func ships(lower *tree.Tree, p string, e tree.Entry) bool {
	l, ok := lower.Lookup(p)
	return ok && l.Kind == tree.File && l.Digest == e.Digest
}

// addPublicHalves notes the public half of every private key in PEM text that
// an X.509 certificate could belong to.
func addPublicHalves(keys map[string]bool, text []byte) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		for _, parse := range []func([]byte) (any, error){
			x509.ParsePKCS8PrivateKey,
			func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
			func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
		} {
			key, err := parse(block.Bytes)
			if err != nil {
				continue
			}
			if signer, ok := key.(crypto.Signer); ok {
				if der, err := x509.MarshalPKIXPublicKey(signer.Public()); err == nil {
					keys[string(der)] = true
				}
			}
		}
	}
}

// certifies reports whether text holds a certificate of one of the keys.
func certifies(text []byte, keys map[string]bool) bool {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && keys[string(cert.RawSubjectPublicKeyInfo)] {
			return true
		}
	}
	return false
}
