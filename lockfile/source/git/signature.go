package git

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/crypto/ssh"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/source"
)

// SignatureError says that nobody whom the definition trusts signed.
type SignatureError struct {
	Commit string
	Reason []string // of the tag and of the commit
	Known  []string // fingerprints of the keys that may sign
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("commit %s is not signed by a key that signed-by names: %s; known are %s", e.Commit, strings.Join(e.Reason, "; "), strings.Join(e.Known, ", "))
}

// Hint says what to do.
func (e *SignatureError) Hint() string {
	return "either somebody else pushed there, or it is signed with a key of its own; name that under signed-by if you trust it"
}

// signers are the keys of a definition.
type signers struct {
	pgp openpgp.EntityList
	ssh []ssh.PublicKey
}

// known reports whether who signed what was locked before is still among those
// who may: their files may have changed under the same names.
func (k *Kind) known(q source.Query) (bool, error) {
	files := q.Request.Ask["signed-by"]
	if files == "" {
		return true, nil
	}
	keys, err := k.keys(strings.Fields(files))
	if err != nil {
		return false, err
	}
	return slices.Contains(keys.fingerprints(), q.Previous.Facts[factSignedBy]), nil
}

// verify checks the tag's signature, or else the commit's, and records who signed.
func (k *Kind) verify(ctx context.Context, files []string, repo *repository, at position, c *commit, facts lockfile.Facts) error {
	keys, err := k.keys(files)
	if err != nil {
		return err
	}
	failed := &SignatureError{Commit: at.commit, Known: keys.fingerprints()}
	try := func(what string, raw []byte, divide func([]byte) (signed, signature []byte)) bool {
		signed, signature := divide(raw)
		by, err := keys.check(signed, signature)
		if err != nil {
			failed.Reason = append(failed.Reason, fmt.Sprintf("the %s %v", what, err))
			return false
		}
		facts[factSigned], facts[factSignedBy] = what, by
		return true
	}
	if at.tag != "" {
		raw, err := repo.tag(ctx, at)
		if err != nil {
			return err
		}
		if try("tag", raw, divideTag) {
			return nil
		}
	}
	if try("commit", c.raw, divideCommit) {
		return nil
	}
	return failed
}

// tag reads the annotated tag, which has to name the commit and the ref.
func (r *repository) tag(ctx context.Context, at position) ([]byte, error) {
	o, err := r.objects(ctx)
	if err != nil {
		return nil, err
	}
	defer o.close()
	kind, raw, err := o.read(at.tag, maxCommit)
	if err != nil {
		return nil, err
	}
	if named, err := tagged(raw); kind != "tag" || err != nil || named != at.commit {
		return nil, &DamagedError{at.tag, "is not the tag of commit " + at.commit}
	}
	// A signed tag may not be shown under another name: an old release as a new one.
	name, ok := strings.CutPrefix(at.fullName, "refs/tags/")
	head, _, _ := bytes.Cut(raw, []byte("\n\n")) // what a message says is no name
	if ok && !slices.Contains(strings.Split(string(head), "\n"), "tag "+name) {
		return nil, &DamagedError{at.tag, fmt.Sprintf("is shown as tag %q, but was made under another name", name)}
	}
	return raw, nil
}

// keys reads the key files: OpenPGP, armored or binary, or lines as in
// authorized_keys and allowed_signers of ssh.
func (k *Kind) keys(files []string) (*signers, error) {
	s := &signers{}
	for _, name := range files {
		if k.o.Key == nil {
			return nil, fmt.Errorf("signed-by: cannot read %q here", name)
		}
		b, err := k.o.Key(name)
		if err != nil {
			return nil, fmt.Errorf("signed-by: %w", err)
		}
		if err := s.add(b); err != nil {
			return nil, fmt.Errorf("signed-by: %q: %w", name, err)
		}
	}
	return s, nil
}

func (s *signers) add(b []byte) error {
	if list, err := readPGP(b); err == nil && len(list) > 0 {
		s.pgp = append(s.pgp, list...)
		return nil
	}
	before := len(s.ssh)
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, err := sshKey(line)
		if err != nil {
			return errors.New("it holds neither OpenPGP keys nor lines of SSH public keys")
		}
		s.ssh = append(s.ssh, key)
	}
	if len(s.ssh) == before {
		return errors.New("it holds no key")
	}
	return nil
}

func readPGP(b []byte) (openpgp.EntityList, error) {
	if bytes.Contains(b, []byte("-----BEGIN PGP")) {
		return openpgp.ReadArmoredKeyRing(bytes.NewReader(b))
	}
	return openpgp.ReadKeyRing(bytes.NewReader(b))
}

// sshKey reads a line of a .pub file, or of allowed_signers, which has names before the key.
func sshKey(line []byte) (ssh.PublicKey, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err == nil {
		return key, nil
	}
	if _, rest, ok := bytes.Cut(line, []byte(" ")); ok {
		key, _, _, _, err = ssh.ParseAuthorizedKey(rest)
	}
	return key, err
}

func (s *signers) fingerprints() []string {
	var all []string
	for _, e := range s.pgp {
		all = append(all, fmt.Sprintf("%X", e.PrimaryKey.Fingerprint))
	}
	for _, k := range s.ssh {
		all = append(all, ssh.FingerprintSHA256(k))
	}
	return all
}

// divideTag splits a tag object: its signature stands at its end.
func divideTag(raw []byte) (signed, signature []byte) {
	for _, mark := range []string{"-----BEGIN PGP SIGNATURE-----", "-----BEGIN SSH SIGNATURE-----"} {
		if i := bytes.LastIndex(raw, []byte("\n"+mark)); i >= 0 {
			return raw[:i+1], raw[i+1:]
		}
	}
	return raw, nil
}

// divideCommit splits a commit object: its signature is the header gpgsig, or
// gpgsig-sha256, with a blank before each further line.
func divideCommit(raw []byte) (signed, signature []byte) {
	head, message, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		return raw, nil
	}
	inside := false
	for line := range bytes.SplitSeq(head, []byte("\n")) {
		name, value, _ := bytes.Cut(line, []byte(" "))
		switch {
		case string(name) == "gpgsig" || string(name) == "gpgsig-sha256":
			inside = true
			signature = append(append(signature, value...), '\n')
		case inside && len(line) > 0 && line[0] == ' ':
			signature = append(append(signature, line[1:]...), '\n')
		default:
			inside = false
			signed = append(append(signed, line...), '\n')
		}
	}
	return append(append(signed, '\n'), message...), signature
}

// check returns the fingerprint of the key that signed.
func (s *signers) check(signed, signature []byte) (string, error) {
	switch {
	case len(signature) == 0:
		return "", errors.New("has no signature")
	case bytes.HasPrefix(signature, []byte("-----BEGIN SSH")):
		return s.checkSSH(signed, signature)
	}
	return s.checkPGP(signed, signature)
}

func (s *signers) checkPGP(signed, signature []byte) (string, error) {
	if len(s.pgp) == 0 {
		return "", errors.New("has an OpenPGP signature, and no OpenPGP key is known")
	}
	// The key must have been valid when it signed, as for archives of past releases.
	block, err := pgpSignature(signature)
	if err != nil {
		return "", fmt.Errorf("has a signature that cannot be read: %w", err)
	}
	if block.Hash != crypto.SHA256 && block.Hash != crypto.SHA384 && block.Hash != crypto.SHA512 {
		return "", errors.New("has a signature over a weak hash")
	}
	made := block.CreationTime
	by, err := openpgp.CheckArmoredDetachedSignature(s.pgp, bytes.NewReader(signed), bytes.NewReader(signature), &packet.Config{Time: func() time.Time { return made }})
	if err != nil {
		return "", fmt.Errorf("has an OpenPGP signature that does not hold: %w", err)
	}
	return fmt.Sprintf("%X", by.PrimaryKey.Fingerprint), nil
}

// sshSignature is the blob of PROTOCOL.sshsig of OpenSSH, after its magic.
type sshSignature struct {
	Version   uint32
	PublicKey string
	Namespace string
	Reserved  string
	HashAlg   string
	Signature string
}

const (
	sshMagic     = "SSHSIG"
	sshNamespace = "git"
	sshDSA       = "ssh-dss" // RFC 4253, section 6.6; the library names it only to warn
)

func (s *signers) checkSSH(signed, signature []byte) (string, error) {
	block, rest := pem.Decode(signature)
	if block == nil || block.Type != "SSH SIGNATURE" || len(bytes.TrimSpace(rest)) > 0 {
		return "", errors.New("has an SSH signature that cannot be read")
	}
	body, ok := bytes.CutPrefix(block.Bytes, []byte(sshMagic))
	var sig sshSignature
	if !ok || ssh.Unmarshal(body, &sig) != nil || sig.Version != 1 {
		return "", errors.New("has an SSH signature that cannot be read")
	}
	if sig.Namespace != sshNamespace {
		return "", fmt.Errorf("has an SSH signature made for %q, not for git", sig.Namespace)
	}
	var inner ssh.Signature
	if err := ssh.Unmarshal([]byte(sig.Signature), &inner); err != nil {
		return "", errors.New("has an SSH signature that cannot be read")
	}
	if inner.Format == ssh.KeyAlgoRSA || inner.Format == sshDSA {
		return "", errors.New("has an SSH signature over SHA-1")
	}
	var sum []byte
	switch sig.HashAlg {
	case "sha256":
		h := sha256.Sum256(signed)
		sum = h[:]
	case "sha512":
		h := sha512.Sum512(signed)
		sum = h[:]
	default:
		return "", fmt.Errorf("has an SSH signature over the unknown hash %q", sig.HashAlg)
	}
	message := append([]byte(sshMagic), ssh.Marshal(struct{ Namespace, Reserved, HashAlg, Hash string }{sig.Namespace, sig.Reserved, sig.HashAlg, string(sum)})...)
	for _, key := range s.ssh {
		if string(key.Marshal()) != sig.PublicKey {
			continue
		}
		if err := key.Verify(message, &inner); err != nil {
			return "", errors.New("has an SSH signature that does not hold")
		}
		return ssh.FingerprintSHA256(key), nil
	}
	who := "an unknown key"
	if key, err := ssh.ParsePublicKey([]byte(sig.PublicKey)); err == nil {
		who = ssh.FingerprintSHA256(key)
	}
	return "", fmt.Errorf("is signed by %s", who)
}

// pgpSignature reads the one signature packet of an armored block.
func pgpSignature(armored []byte) (*packet.Signature, error) {
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil {
		return nil, err
	}
	p, err := packet.NewReader(block.Body).Next()
	if err != nil {
		return nil, err
	}
	s, ok := p.(*packet.Signature)
	if !ok {
		return nil, errors.New("it is no signature")
	}
	return s, nil
}
