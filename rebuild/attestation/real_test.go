package attestation

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sigstoreJudge has @sigstore/verify check each bundle named on its command
// line with the keys of keys.json, and prints a line for each.
const sigstoreJudge = `
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');
const { crypto } = require('@sigstore/core');
const fs = require('fs');
const keys = {};
for (const [hint, pem] of Object.entries(JSON.parse(fs.readFileSync('keys.json')))) {
  keys[hint] = { publicKey: crypto.createPublicKey(pem), validFor: () => true };
}
const trust = toTrustMaterial({ certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] }, (hint) => {
  if (!keys[hint]) throw new Error('no such key');
  return keys[hint];
});
const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });
for (const file of process.argv.slice(2)) {
  try {
    verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(fs.readFileSync(file)))));
    console.log(file + ' accepted');
  } catch (e) {
    console.log(file + ' refused');
    console.error(file + ': ' + e.message);
  }
}
`

// signatureOf is the signature in an envelope, as it is written there.
func signatureOf(t *testing.T, envelope []byte) []byte {
	t.Helper()
	var e struct{ Signatures []struct{ Sig string } }
	if err := json.Unmarshal(envelope, &e); err != nil || len(e.Signatures) != 1 {
		t.Fatal(err)
	}
	return []byte(e.Signatures[0].Sig)
}

// TestRealSigstore has npm's own verifier of Sigstore bundles judge ours.
func TestRealSigstore(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("installs npm packages; QUORATE_REAL=1 runs it")
	}
	dir := t.TempDir()
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("package.json", []byte(`{"name":"judge","version":"1.0.0","private":true}`))
	install := exec.Command("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "@sigstore/verify@3.1.1", "@sigstore/bundle@4.0.0", "@sigstore/core@3.2.1")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("cannot install the judge: %v\n%s", err, out)
	}
	write("judge.js", []byte(sigstoreJudge))

	p := policy(2)
	a, b := signed(t, "a", "x"), signed(t, "b", "x")
	agreed := agreementOf(t, p, "release", map[string][]byte{"a": a, "b": b})
	one := sigstore(t, "a", a)
	summary := sigstore(t, "release", summed(t, p, lines(a, b, agreed), one))
	other := func(old, new string) []byte {
		if !bytes.Contains(one.data, []byte(old)) {
			t.Fatalf("%q is not in the bundle", old)
		}
		return bytes.Replace(one.data, []byte(old), []byte(new), 1)
	}
	bundles := map[string][]byte{
		"report accepted":         one.data,
		"another-report accepted": sigstore(t, "b", b).data,
		"agreement accepted":      sigstore(t, "release", agreed).data,
		"summary accepted":        summary.data,
		"refusal accepted":        sigstore(t, "release", refusalOf(t, p, "release", map[string][]byte{"a": a, "b": signed(t, "b", "y")})).data,
		"another-key refused":     other(keyOf("a").Public().Fingerprint(), keyOf("b").Public().Fingerprint()),
		"unknown-key refused":     other(keyOf("a").Public().Fingerprint(), "somebody"),
		"other-payload refused":   other(`"payload":"eyJ`, `"payload":"eyI`),
		"other-type refused":      other(`"payloadType":"application/vnd.in-toto+json"`, `"payloadType":"application/vnd.other+json"`),
		"other-signature refused": bytes.Replace(one.data, signatureOf(t, a), signatureOf(t, b), 1),
	}
	keys := map[string]string{}
	for _, who := range []string{"a", "b", "release"} {
		keys[keyOf(who).Public().Fingerprint()] = string(keyOf(who).Public().PEM())
	}
	table, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	write("keys.json", table)
	args := []string{"judge.js"}
	for name, data := range bundles {
		file, _, _ := strings.Cut(name, " ")
		write(file, data)
		args = append(args, file)
	}
	node := exec.Command("node", args...)
	node.Dir = dir
	var complaints bytes.Buffer
	node.Stderr = &complaints
	out, err := node.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &complaints)
	}
	for name := range bundles {
		if !strings.Contains(string(out), name+"\n") {
			t.Errorf("expected %q; the judge says\n%s%s", name, out, &complaints)
		}
	}
}
