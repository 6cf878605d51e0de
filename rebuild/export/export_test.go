package export

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

var now = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// acme is a policy with what exports have to get right: a rebuilder with two
// keys that count, one whose time is over, a builder id, and two rules.
func acme(t *testing.T) *agreement.Policy {
	t.Helper()
	var keys []keyfile.PublicKey
	for range 6 {
		key, err := keyfile.Generate()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.Public())
	}
	p := &agreement.Policy{
		Threshold: 2, Distinct: map[string]int{"operator": 2, "kernel": 2}, MaxAge: time.Hour,
		Rebuilders: []agreement.Rebuilder{
			{Name: "ams", Operator: "acme", Key: keys[0], BuilderID: "https://acme.example/b"},
			{Name: "osl", Operator: "umbra", Key: keys[1], Former: []agreement.FormerKey{{Key: keys[2]}}},
			{Name: "ber", Operator: "acme", Key: keys[3], Term: agreement.Term{Until: now}},
		},
		Signers: []agreement.SignerKey{{Name: "release", Key: keys[4]}, {Name: "old", Key: keys[5], Term: agreement.Term{Revoked: now}}},
		Rules: []agreement.ImageRule{
			{Images: []string{"registry.example/team/*", "greeter"}},
			{Images: []string{"registry.example/**"}, Threshold: 1, Distinct: map[string]int{"operator": 1}},
		},
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestKyverno(t *testing.T) {
	p := acme(t)
	f, err := Kyverno(p, "acme", now)
	if err != nil {
		t.Fatal(err)
	}
	type policy struct {
		APIVersion string
		Metadata   struct{ Name string }
		Spec       struct {
			MatchImageReferences []struct{ Glob string } `yaml:"matchImageReferences"`
			ValidationActions    []string                `yaml:"validationActions"`
			Attestations         []struct{ Intoto struct{ Type string } }
			Attestors            []struct {
				Name   string
				Cosign struct{ Key struct{ Data string } }
			}
			Validations []struct{ Expression, Message string }
		}
	}
	var all []policy
	for dec := yaml.NewDecoder(bytes.NewReader(f.Files["kyverno.yaml"])); ; {
		var one policy
		if err := dec.Decode(&one); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	if len(all) != 2 || all[0].Metadata.Name != "acme-1" || len(all[0].Spec.Attestors) != 3 || len(all[0].Spec.Validations) != 2 || len(all[1].Spec.Validations) != 1 {
		t.Fatalf("%d policies: %+v", len(all), all)
	}
	for i, want := range []keyfile.PublicKey{p.Rebuilders[0].Key, p.Rebuilders[1].Key, p.Rebuilders[1].Former[0].Key} {
		if got, err := keyfile.ParsePublic([]byte(all[0].Spec.Attestors[i].Cosign.Key.Data)); err != nil || got != want {
			t.Errorf("attestor %d has another key (%v)", i, err)
		}
	}
	const each = "(verifyAttestationSignatures(image, attestations.rebuild, [attestors.key0]) >= 1 ? 1 : 0) + (verifyAttestationSignatures(image, attestations.rebuild, [attestors.key1, attestors.key2]) >= 1 ? 1 : 0)"
	if want := "images.containers.map(image, " + each + ").all(n, n >= 2) && images.initContainers.map("; !strings.HasPrefix(all[0].Spec.Validations[0].Expression, want) {
		t.Errorf("expression is\n%s\nexpected\n%s…", all[0].Spec.Validations[0].Expression, want)
	}
	// One key each is counted in one call, the form that was tried.
	p.Rebuilders[1].Former = nil
	if f, err = Kyverno(p, "acme", now); err != nil {
		t.Fatal(err)
	}
	if want := "map(image, verifyAttestationSignatures(image, attestations.rebuild, [attestors.key0, attestors.key1])).all(n, n >= 2)"; !strings.Contains(string(f.Files["kyverno.yaml"]), want) {
		t.Errorf("%s\nis not in\n%s", want, f.Files["kyverno.yaml"])
	}
	if want := "the maximum age of reports is not checked"; !slices.Contains(f.Notes, want) {
		t.Errorf("it does not say that %s", want)
	}
}

func TestExportsRefuse(t *testing.T) {
	late := now.AddDate(1, 0, 0)
	p := acme(t)
	p.Rebuilders[1].Until = now
	p.Rebuilders[1].Former = nil
	p.Signers = p.Signers[1:]
	for what, err := range map[string]error{
		"registry.example/team/*, greeter: the threshold is 2, but the keys of only 1 rebuilder count now": func() error { _, err := Kyverno(p, "x", late); return err }(),
		"registry.example/team/*, greeter: no signer of the policy has a key that counts now, and containers/image knows no other": func() error {
			_, err := Containers(p, late)
			return err
		}(),
	} {
		if err == nil || err.Error() != what {
			t.Errorf("got %v, want %s", err, what)
		}
	}
	if _, err := Cosign(p, late); err == nil {
		t.Error("a script that nothing can fulfil is written")
	}
}

func TestContainers(t *testing.T) {
	p := acme(t)
	f, err := Containers(p, now)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Default    []map[string]any
		Transports map[string]map[string][]struct {
			Type, KeyData  string
			SignedIdentity struct{ Type string }
		}
	}
	if err := json.Unmarshal(f.Files["policy.json"], &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Default) != 1 || got.Default[0]["type"] != "reject" || len(got.Default[0]) != 1 {
		t.Errorf("default is %v", got.Default)
	}
	for _, scope := range []string{"registry.example/team", "registry.example"} {
		rules := got.Transports["docker"][scope]
		if len(rules) != 1 || rules[0].Type != "sigstoreSigned" || rules[0].SignedIdentity.Type != "matchRepository" {
			t.Fatalf("%s: %+v", scope, rules)
		}
		if pem, err := base64.StdEncoding.DecodeString(rules[0].KeyData); err != nil || !bytes.Equal(pem, p.Signers[0].Key.PEM()) {
			t.Errorf("%s has another key (%v)", scope, err)
		}
	}
	if diff := cmp.Diff([]string{
		"registry.example/team/* becomes the namespace registry.example/team, which has deeper names too",
		"greeter is left out: a scope is a registry, a namespace or a repository",
		"it trusts the release key to have counted: rebuilders' own reports are not looked at",
	}, f.Notes); diff != "" {
		t.Error(diff)
	}
}

// The script counts as the policy does, whatever cosign says of each key. Here
// "cosign" knows who has signed from the environment.
func TestCosign(t *testing.T) {
	p := acme(t)
	f, err := Cosign(p, now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range f.Files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fake := filepath.Join(dir, "cosign")
	if err := os.WriteFile(fake, []byte(`#!/bin/sh
[ "$1 $2 $4 $5 $6" = "verify-attestation --key --insecure-ignore-tlog=true --type slsaprovenance1" ] || exit 9
case " $SIGNED " in *" $3 "*) ;; *) exit 1 ;; esac
printf '{"predicate":{"runDetails":{"builder":{"id":"%s"}}}}' "$BUILDER" | base64 -w0 | sed 's/.*/{"payload":"&"}/'
`), 0o755); err != nil {
		t.Fatal(err)
	}
	file := func(name string, key keyfile.PublicKey) string {
		return fmt.Sprintf("keys/%s-%.16s.pub", name, key.Fingerprint())
	}
	ams, osl, oslBefore := file("ams", p.Rebuilders[0].Key), file("osl", p.Rebuilders[1].Key), file("osl", p.Rebuilders[1].Former[0].Key)
	const image, id = "registry.example/team/app@sha256:00", "https://acme.example/b"
	for _, test := range []struct {
		summary, image, signed, builder string
		exit                            int
		says                            string
	}{
		{"both", image, ams + " " + osl, id, 0, ""},
		{"one with its former key", image, ams + " " + oslBefore, id, 0, ""},
		{"one", image, ams, id, 1, "not verified: rebuilders that have signed: 1, expected 2"},
		{"one with two keys", image, osl + " " + oslBefore, id, 1, "not verified: rebuilders that have signed: 1, expected 2"},
		{"nobody", image, "", id, 1, "ams: no provenance by its key"},
		{"as another builder", image, ams + " " + osl, "https://acme.example/other", 1, "ams: signed as another builder than https://acme.example/b"},
		{"another rule", "registry.example/x/y@sha256:00", osl, id, 0, ""},
		{"no rule", "elsewhere.example/x@sha256:00", ams + " " + osl, id, 1, "not verified: the policy has no rule for elsewhere.example/x"},
		{"a dot is a dot", "registryxexample/team/app@sha256:00", ams + " " + osl, id, 1, "the policy has no rule for"},
		{"by tag", "registry.example/team/app:v1", ams + " " + osl, id, 2, "name the image by its digest"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			cmd := exec.Command("sh", filepath.Join(dir, "verify-with-cosign.sh"), test.image)
			cmd.Env = append(os.Environ(), "COSIGN="+fake, "SIGNED="+test.signed, "BUILDER="+test.builder)
			out, _ := cmd.CombinedOutput()
			if got := cmd.ProcessState.ExitCode(); got != test.exit || !strings.Contains(string(out), test.says) {
				t.Errorf("exit code %d, expected %d and %q; it says\n%s", got, test.exit, test.says, out)
			}
		})
	}
}
