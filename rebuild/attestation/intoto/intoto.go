// Package intoto writes an agreement once more in the older words of in-toto,
// a layout and links, so that `in-toto-golang verify` and whoever builds on it
// can check the threshold without Quorate:
//
//	quorate.layout         layout: step "build" needs links of so many of these keys
//	build.0123abcd.link    one link per rebuilder that agrees, named by its key
//
//	in-toto-golang verify --layout quorate.layout --layout-keys release.pub --link-dir DIR
//
// It is a twin of the bundle and not a replacement: in-toto knows nothing of
// operators, outcomes, or which job a link answers. What it checks is that
// enough keys signed links with equal materials and products.
//
// A link's materials and products carry their digest in their name, since
// in-toto's rules can demand a name but not a digest. The layout demands the
// names of exactly the agreed lock, definition, request and images, so that
// links of another job, or of nothing at all, do not pass.
//
// Traps of in-toto-golang 0.11.0 that shape this package:
//
//   - A threshold of 0, or the same key under two ids, makes its verifier panic
//     or count one key twice. agreement.Policy allows neither.
//   - Any validly signed link that differs makes it refuse, so only the agreeing
//     rebuilders' links are written.
//   - Its Envelope.SetPayload writes "canonical JSON" with raw newlines inside
//     strings, which is no JSON as soon as an ECDSA key in PEM is among them.
//     Payloads here are plain JSON; DSSE signs bytes, whatever they are.
//   - Verifying prints warnings when commands differ, and runs a layout's
//     inspections. Ours have neither.
package intoto

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/in-toto/in-toto-golang/in_toto"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

// LayoutName is the layout's file name in the folder that Write fills.
const LayoutName = "quorate.layout"

const stepName = "build"

// Build is what a link tells of a build.
type Build struct {
	Lock       digest.Digest
	Definition digest.Digest
	Nonce      string
	Subjects   []agreement.Subject
}

// SignLink returns the envelope of a rebuilder's link. The worker that holds
// the key makes it along with its report.
func SignLink(ctx context.Context, b Build, signer keyfile.Signer) ([]byte, error) {
	if len(b.Subjects) == 0 || b.Lock.IsZero() || b.Definition.IsZero() || b.Nonce == "" {
		return nil, fmt.Errorf("cannot make a link: it needs a lock, a definition, a nonce and at least one image")
	}
	return seal(ctx, b.link(), signer)
}

// link is the same for every rebuilder that built the same, to the byte.
func (b Build) link() in_toto.Link {
	link := in_toto.Link{
		Type:        "link",
		Name:        stepName,
		Materials:   map[string]in_toto.HashObj{},
		Products:    map[string]in_toto.HashObj{},
		ByProducts:  map[string]any{},
		Command:     []string{},
		Environment: map[string]any{},
	}
	for _, m := range b.materials() {
		link.Materials[m.name] = in_toto.HashObj{"sha256": m.sum.Hex()}
	}
	for _, p := range b.products() {
		link.Products[p.name] = in_toto.HashObj{"sha256": p.sum.Hex()}
	}
	return link
}

// buildOf is the build that was agreed on.
func buildOf(a *agreement.Agreement) Build {
	job := a.Job()
	return Build{Lock: job.Lock, Definition: job.Definition, Nonce: job.Nonce, Subjects: a.Subjects()}
}

// artifact is a material or product; its name ends in its digest.
type artifact struct {
	name string
	sum  digest.Digest
}

func newArtifact(name string, sum digest.Digest) artifact {
	return artifact{name: plain(name) + "@" + sum.String(), sum: sum}
}

// plain keeps what in-toto's patterns and path cleaning leave alone.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '-'
	}, s)
}

func (b Build) materials() []artifact {
	return []artifact{
		newArtifact("definition", b.Definition),
		newArtifact("lock", b.Lock),
		newArtifact("request-"+b.Nonce, digest.Of([]byte(b.Nonce))),
	}
}

func (b Build) products() []artifact {
	var all []artifact
	for _, s := range b.Subjects {
		name := s.Name
		if s.Platform != "" {
			name += "-" + s.Platform
		}
		all = append(all, newArtifact(name, s.Digest))
	}
	return all
}

// SignLayout returns the envelope of a layout that demands the policy's
// threshold of links for exactly what was agreed. expires bounds how long
// in-toto accepts it.
func SignLayout(ctx context.Context, a *agreement.Agreement, policy *agreement.Policy, owner keyfile.Signer, expires time.Time) ([]byte, error) {
	if !a.Valid() {
		return nil, fmt.Errorf("cannot make a layout: there is no agreement")
	}
	if a.PolicyDigest() != policy.Digest() {
		return nil, fmt.Errorf("cannot make a layout: the agreement was judged by another policy")
	}
	build := buildOf(a)
	step := in_toto.Step{
		Type:            "step",
		ExpectedCommand: []string{},
		Threshold:       policy.Threshold,
		SupplyChainItem: in_toto.SupplyChainItem{
			Name:              stepName,
			ExpectedMaterials: exactly(build.materials()),
			ExpectedProducts:  exactly(build.products()),
		},
	}
	layout := in_toto.Layout{
		Type:    "layout",
		Inspect: []in_toto.Inspection{},
		Keys:    map[string]in_toto.Key{},
		Expires: expires.UTC().Format(in_toto.ISO8601DateSchema),
		Readme:  "Rebuilders of this image and how many of them must have built the same. The bundle beside this file says more.",
	}
	for _, r := range policy.Rebuilders {
		key, err := keyOf(r.Key)
		if err != nil {
			return nil, fmt.Errorf("cannot make a layout: key of %q: %w", r.Name, err)
		}
		layout.Keys[key.KeyID] = key
		step.PubKeys = append(step.PubKeys, key.KeyID)
	}
	slices.Sort(step.PubKeys)
	layout.Steps = []in_toto.Step{step}
	return seal(ctx, layout, owner)
}

// exactly demands every artifact and allows no other.
func exactly(artifacts []artifact) [][]string {
	var rules [][]string
	for _, a := range artifacts {
		rules = append(rules, []string{"REQUIRE", a.name})
	}
	for _, a := range artifacts {
		rules = append(rules, []string{"ALLOW", a.name})
	}
	return append(rules, []string{"DISALLOW", "*"})
}

// keyOf returns the key as in-toto knows it. Its id is the sha256 of a
// canonical form of the key, and the same for everyone who has the key.
func keyOf(key keyfile.PublicKey) (in_toto.Key, error) {
	var k in_toto.Key
	err := k.LoadKeyReaderDefaults(bytes.NewReader(key.PEM()))
	return k, err
}

// seal signs a layout or link. Unlike our statements its envelope has a key id:
// in-toto finds links by it.
func seal(ctx context.Context, content any, signer keyfile.Signer) ([]byte, error) {
	key, err := keyOf(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("cannot sign for in-toto: %w", err)
	}
	payload, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("cannot encode for in-toto: %w", err)
	}
	sig, err := signer.Sign(ctx, dsse.PAE(in_toto.PayloadType, payload))
	if err != nil {
		return nil, fmt.Errorf("cannot sign for in-toto: %w", err)
	}
	return json.Marshal(dsse.Envelope{
		PayloadType: in_toto.PayloadType,
		Payload:     base64.StdEncoding.EncodeToString(payload),
		Signatures:  []dsse.Signature{{KeyID: key.KeyID, Sig: base64.StdEncoding.EncodeToString(sig)}},
	})
}

// linkName is the file name under which in-toto looks for a key's link.
func linkName(key keyfile.PublicKey) (string, error) {
	k, err := keyOf(key)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(in_toto.LinkNameFormat, stepName, k.KeyID), nil
}

// Write signs a layout (SignLayout) and puts it with the links of the
// rebuilders that agree into dir, which must exist. links are by rebuilder
// name, as SignLink made them; those of rebuilders that do not agree are left
// out. One that is missing, not signed by its rebuilder or that tells something
// else than the agreement is an error, and nothing is written.
func Write(ctx context.Context, dir string, a *agreement.Agreement, policy *agreement.Policy, links map[string][]byte, owner keyfile.Signer, expires time.Time) error {
	layout, err := SignLayout(ctx, a, policy, owner, expires)
	if err != nil {
		return err
	}
	files := map[string][]byte{LayoutName: layout}
	for _, o := range a.Outcomes() {
		if o.Result != agreement.Agrees {
			continue
		}
		r, _ := policy.Rebuilder(o.Rebuilder)
		if err := checkLink(links[r.Name], r.Key, buildOf(a)); err != nil {
			return fmt.Errorf("cannot write in-toto metadata: link of %q %w", r.Name, err)
		}
		name, err := linkName(r.Key)
		if err != nil {
			return fmt.Errorf("cannot write in-toto metadata: key of %q: %w", r.Name, err)
		}
		if files[name] != nil { // in-toto names links by 32 bits of the key id
			return fmt.Errorf("cannot write in-toto metadata: the key of %q has the same file name %q as another's; give it a new key", r.Name, name)
		}
		files[name] = links[r.Name]
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := writeFile(filepath.Join(dir, name), files[name]); err != nil {
			return fmt.Errorf("cannot write in-toto metadata: %w", err)
		}
	}
	return nil
}

// maxLink bounds what is read: a link of a hundred platforms is under 64 KiB.
const maxLink = 1 << 20 // bytes

// checkLink checks that a link is what the key's holder would make of the build.
func checkLink(envelope []byte, key keyfile.PublicKey, b Build) error {
	if len(envelope) == 0 || len(envelope) > maxLink {
		return fmt.Errorf("has %d bytes, expected 1 to %d", len(envelope), maxLink)
	}
	var e dsse.Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	id, err := keyOf(key)
	if err != nil {
		return err
	}
	if e.PayloadType != in_toto.PayloadType || len(e.Signatures) != 1 || e.Signatures[0].KeyID != id.KeyID {
		return fmt.Errorf("is not signed once, with the key of its rebuilder")
	}
	payload, err := e.DecodeB64Payload()
	if err != nil {
		return err
	}
	sig, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	if err != nil {
		return err
	}
	if err := key.Verify(dsse.PAE(e.PayloadType, payload), sig); err != nil {
		return err
	}
	want, err := json.Marshal(b.link())
	if err != nil {
		return err
	}
	if !bytes.Equal(payload, want) {
		return fmt.Errorf("tells of another build than the agreement")
	}
	return nil
}

// writeFile makes the whole file appear at once.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".intoto-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644) // public, and read by other programs
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
