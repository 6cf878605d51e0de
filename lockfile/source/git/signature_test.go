package git

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a program in the upstream's folder.
func (u *upstream) run(name string, args ...string) string {
	u.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = u.dir, u.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// needs skips a test whose signatures nobody here could make.
func (u *upstream) needs(program string) {
	if _, err := exec.LookPath(program); err != nil {
		u.t.Skipf("%s is not installed; make tools installs it", program)
	}
}

// sshKey makes a key with ssh-keygen; its public half lies beside the upstream.
func (u *upstream) sshKey(name, kind string) (private string) {
	u.needs("ssh-keygen")
	private = filepath.Join(u.dir, "..", name)
	u.run("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", private)
	u.t.Cleanup(func() { os.Remove(private); os.Remove(private + ".pub") })
	return private
}

// pgpKey makes a key with gpg; its public half lies beside the upstream.
func (u *upstream) pgpKey(name string) (fingerprint string) {
	u.t.Helper()
	u.needs("gpg")
	u.env = append(u.env, "GNUPGHOME="+u.t.TempDir())
	u.t.Cleanup(func() { u.run("gpgconf", "--kill", "all") })
	u.run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", name+"@example.org", "ed25519", "sign", "never")
	list := u.run("gpg", "--batch", "--with-colons", "--list-keys")
	_, rest, _ := strings.Cut(list, "\nfpr:::::::::")
	fingerprint, _, _ = strings.Cut(rest, ":")
	if err := os.WriteFile(filepath.Join(u.dir, "..", name+".asc"), []byte(u.run("gpg", "--batch", "--armor", "--export")+"\n"), 0o600); err != nil {
		u.t.Fatal(err)
	}
	return fingerprint
}

func TestSSHSignatures(t *testing.T) {
	u := newUpstream(t)
	for _, kind := range []string{"ed25519", "rsa", "ecdsa"} {
		u.sshKey("key-"+kind, kind)
	}
	stranger := u.sshKey("stranger", "ed25519")
	sign := func(key string) {
		u.git("config", "gpg.format", "ssh")
		u.git("config", "user.signingKey", filepath.Join(u.dir, "..", key))
	}
	u.write("a", "1")
	u.commit()
	u.git("tag", "unsigned")
	u.git("tag", "-a", "-m", "only annotated", "annotated")
	sign("key-rsa")
	u.write("a", "2")
	u.commit("-S")
	u.git("tag", "by-commit")
	sign("key-ed25519")
	u.git("tag", "-s", "-m", "release", "by-tag", "unsigned")
	sign("key-ecdsa")
	u.git("tag", "-s", "-m", "release\n\nwith a body", "by-ecdsa", "unsigned")
	sign("stranger")
	u.git("tag", "-s", "-m", "release", "by-stranger", "unsigned")
	u.git("update-ref", "refs/tags/renamed", u.git("rev-parse", "by-tag"))
	// A message changed after signing.
	forged := strings.Replace(u.git("cat-file", "tag", "by-tag"), "release", "nothing", 1) + "\n"
	file := filepath.Join(t.TempDir(), "tag")
	if err := os.WriteFile(file, []byte(forged), 0o600); err != nil {
		t.Fatal(err)
	}
	u.git("update-ref", "refs/tags/forged", u.git("hash-object", "-t", "tag", "-w", "--literally", file))
	// A signature of the same key for another purpose.
	u.run("ssh-keygen", "-Y", "sign", "-n", "file", "-f", filepath.Join(u.dir, "..", "key-ed25519"), "a")
	payload, _, _ := strings.Cut(u.git("cat-file", "tag", "by-tag"), "-----BEGIN SSH")
	other, err := os.ReadFile(filepath.Join(u.dir, "a.sig"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(payload, "tag by-tag", "tag for-files", 1)+string(other)), 0o600); err != nil {
		t.Fatal(err)
	}
	u.git("update-ref", "refs/tags/for-files", u.git("hash-object", "-t", "tag", "-w", "--literally", file))

	const keys = "key-ed25519.pub key-rsa.pub key-ecdsa.pub"
	fingerprint := func(name string) string {
		return strings.Fields(u.run("ssh-keygen", "-l", "-f", filepath.Join(u.dir, "..", name+".pub")))[1]
	}
	for _, test := range []struct{ ref, keys, signed, by, err string }{
		{ref: "by-tag", keys: keys, signed: "tag", by: fingerprint("key-ed25519")},
		{ref: "by-ecdsa", keys: keys, signed: "tag", by: fingerprint("key-ecdsa")},
		{ref: "by-commit", keys: keys, signed: "commit", by: fingerprint("key-rsa")},
		{ref: "main", keys: keys, signed: "commit", by: fingerprint("key-rsa")},
		{ref: "unsigned", keys: keys, err: "the commit has no signature; known are " + fingerprint("key-ed25519")},
		{ref: "annotated", keys: keys, err: "the tag has no signature; the commit has no signature"},
		{ref: "by-stranger", keys: keys, err: "the tag is signed by " + fingerprint("stranger")},
		{ref: "by-tag", keys: "stranger.pub", err: "the tag is signed by " + fingerprint("key-ed25519")},
		{ref: "forged", keys: keys, err: `is shown as tag "forged", but was made under another name`},
		{ref: "renamed", keys: keys, err: `is shown as tag "renamed", but was made under another name`},
		{ref: u.git("rev-parse", "forged"), keys: keys, err: "the tag has an SSH signature that does not hold"},
		{ref: "for-files", keys: keys, err: `the tag has an SSH signature made for "file", not for git`},
		{ref: "by-tag", keys: "stranger", err: `signed-by: "stranger": it holds neither OpenPGP keys nor lines of SSH public keys`},
		{ref: "by-tag", keys: "nothing.pub", err: "signed-by: open "},
	} {
		lock, _, err := u.lock(test.ref, "signed-by", test.keys)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s by %s:\n got %v\nwant %s", test.ref, test.keys, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.ref, err)
			continue
		}
		if f := lock.Inputs[0].Facts; f["signed"] != test.signed || f["signed-by"] != test.by {
			t.Errorf("%s: got %v", test.ref, f)
		}
	}
	_ = stranger
}

func TestOpenPGPSignatures(t *testing.T) {
	u := newUpstream(t)
	fingerprint := u.pgpKey("alice")
	u.sshKey("bob", "ed25519")
	u.write("a", "1")
	u.commit()
	u.git("tag", "unsigned")
	u.write("a", "2")
	u.commit("-S"+fingerprint, "-m", "with\n\nbody")
	u.git("tag", "-u", fingerprint, "-m", "release", "v1", "unsigned")
	for _, test := range []struct{ ref, keys, signed, err string }{
		{ref: "v1", keys: "alice.asc", signed: "tag"},
		{ref: "main", keys: "alice.asc", signed: "commit"},
		{ref: "main", keys: "bob.pub alice.asc", signed: "commit"},
		{ref: "unsigned", keys: "alice.asc", err: "the commit has no signature; known are " + fingerprint},
		{ref: "main", keys: "bob.pub", err: "the commit has an OpenPGP signature, and no OpenPGP key is known"},
	} {
		lock, _, err := u.lock(test.ref, "signed-by", test.keys)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s by %s:\n got %v\nwant %s", test.ref, test.keys, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s by %s: %v", test.ref, test.keys, err)
			continue
		}
		if f := lock.Inputs[0].Facts; f["signed"] != test.signed || f["signed-by"] != fingerprint {
			t.Errorf("%s: got %v", test.ref, f)
		}
	}
	other := newUpstream(t)
	other.pgpKey("carol")
	b, err := os.ReadFile(filepath.Join(other.dir, "..", "carol.asc"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(u.dir, "..", "carol.asc"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := u.lock("v1", "signed-by", "carol.asc"); err == nil || !strings.Contains(err.Error(), "the tag has an OpenPGP signature that does not hold") {
		t.Errorf("by another key: %v", err)
	}
}

// Whatever objects and lists of refs say, their readers end, and lose no byte.
func FuzzDivide(f *testing.F) {
	f.Add([]byte("tree a\ngpgsig -----BEGIN SSH SIGNATURE-----\n abc\n -----END SSH SIGNATURE-----\n\nmessage"))
	f.Add([]byte("object a\ntype commit\ntag v1\n\nrelease\n-----BEGIN PGP SIGNATURE-----\nx\n"))
	f.Add([]byte("gpgsig \n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		signed, signature := divideTag(raw)
		if string(signed)+string(signature) != string(raw) {
			t.Errorf("a tag's parts are not the whole: %q + %q", signed, signature)
		}
		signed, signature = divideCommit(raw)
		if len(signature) == 0 && len(signed) != len(raw) {
			t.Errorf("an unsigned commit was changed: %q, %q", raw, signed)
		}
		keys := &signers{}
		if by, err := keys.check(signed, signature); err == nil {
			t.Errorf("signed by %s, and no key is known", by)
		}
		_, _ = parseCommit(raw)
		_, _ = parseTree(raw, 20)
		_, _ = tagged(raw)
		_, _ = find("x", "main", string(raw))
	})
}
