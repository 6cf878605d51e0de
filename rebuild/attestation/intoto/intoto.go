// Package intoto writes an agreement once more in the older words of in-toto,
// a layout and links, so that in-toto's own verifiers can check thresholds and
// chain without Quorate:
//
//	quorate.layout                              layout: each step needs links of so many of these keys
//	build.0123abcd.link                         one link per rebuilder that agrees, named by its key
//	step-linux-amd64-compile.0123abcd.link      and one for each step of the build
//	signer.json                                 the key that signed the layout, as in-toto's Python tools want keys
//
//	in-toto-golang verify --layout quorate.layout --layout-keys release.pub --link-dir DIR
//	in-toto-verify --layout quorate.layout --layout-keys signer.json --key-types ecdsa --link-dir DIR
//
// Whoever uses signer.json compares it with the key that they trust: it comes
// with what it is to verify.
//
// They are a twin of the bundle and not a replacement: in-toto knows nothing of
// operators, outcomes, or which job a link answers. What it checks is that
// enough keys signed links with equal materials and products, and that what the
// build used of each step is what that step left.
//
// A link's materials and products carry their digest in their name, since
// in-toto's rules can demand a name but not a digest. The layout demands the
// names of exactly the agreed lock, definition, request, steps and images, so
// that links of another job, or of nothing at all, do not pass. What a step
// left is the canonical listing of its files (package tree), and its digest the
// listing's sha256.
//
// Everything is in the form that in-toto calls Metablock: the signature covers
// the content's canonical JSON. Its newer form, DSSE, is not read by Python's
// in-toto before 2.0, which Debian 12 has.
//
// Traps of in-toto-golang 0.11.0 that shape this package:
//
//   - A threshold of 0, or the same key under two ids, makes its verifier panic
//     or count one key twice. agreement.Policy allows neither.
//   - Any validly signed link that differs makes it refuse, so only the agreeing
//     rebuilders' links are written; and one whose signature is bad it drops in
//     silence.
//   - Verifying prints warnings when commands differ, and runs a layout's
//     inspections. Ours have neither.
package intoto

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/in-toto/in-toto-golang/in_toto"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

// LayoutName is the layout's file name in the folder that Write fills.
const LayoutName = "quorate.layout"

const stepName = "build"

// Build is what links tell of a build.
type Build struct {
	Lock       digest.Digest
	Definition digest.Digest
	Nonce      string
	Steps      []agreement.StepDigest
	Subjects   []agreement.Subject
}

// SignLinks returns a rebuilder's links, one a line: of each step, then of the
// build. The worker that holds the key makes them along with its report.
func SignLinks(ctx context.Context, b Build, signer keyfile.Signer) ([]byte, error) {
	if len(b.Subjects) == 0 || b.Lock.IsZero() || b.Definition.IsZero() || b.Nonce == "" {
		return nil, fmt.Errorf("cannot make links: they need a lock, a definition, a nonce and at least one image")
	}
	var all []byte
	for _, link := range b.links() {
		signed, err := seal(ctx, link, signer)
		if err != nil {
			return nil, err
		}
		all = append(append(all, signed...), '\n')
	}
	return all, nil
}

// links are the same for every rebuilder that built the same, to the byte.
func (b Build) links() []in_toto.Link {
	var all []in_toto.Link
	used := b.asked()
	for _, s := range slices.SortedFunc(slices.Values(b.Steps), agreement.StepDigest.Compare) {
		left := stepArtifact(s)
		all = append(all, newLink(nameOf(s), b.asked(), []artifact{left}))
		used = append(used, left)
	}
	return append(all, newLink(stepName, used, b.products()))
}

func newLink(name string, materials, products []artifact) in_toto.Link {
	link := in_toto.Link{
		Type:        "link",
		Name:        name,
		Materials:   map[string]in_toto.HashObj{},
		Products:    map[string]in_toto.HashObj{},
		ByProducts:  map[string]any{},
		Command:     []string{},
		Environment: map[string]any{},
	}
	for _, m := range materials {
		link.Materials[m.name] = in_toto.HashObj{"sha256": m.sum.Hex()}
	}
	for _, p := range products {
		link.Products[p.name] = in_toto.HashObj{"sha256": p.sum.Hex()}
	}
	return link
}

// nameOf is how in-toto calls a step of a platform's build.
func nameOf(s agreement.StepDigest) string { return plain("step-" + s.Platform + "-" + s.Step) }

func stepArtifact(s agreement.StepDigest) artifact { return newArtifact(nameOf(s), s.Tree) }

// buildOf is the build that was agreed on. Steps may differ although images do
// not, when nothing of the difference is shipped; in-toto could not tell that
// from a dissent.
func buildOf(a *agreement.Agreement) (Build, error) {
	job := a.Job()
	b := Build{Lock: job.Lock, Definition: job.Definition, Nonce: job.Nonce, Subjects: a.Subjects()}
	var first string
	for _, o := range a.Outcomes() {
		if o.Result != agreement.Agrees {
			continue
		}
		if first == "" {
			first, b.Steps = o.Rebuilder, o.Report.Steps
		}
		if !slices.Equal(o.Report.Steps, b.Steps) {
			return b, fmt.Errorf("%s and %s built the same image, but steps of theirs left different files: %s", first, o.Rebuilder, differing(b.Steps, o.Report.Steps))
		}
	}
	names := map[string]bool{stepName: true}
	for _, s := range b.Steps {
		if names[nameOf(s)] {
			return b, fmt.Errorf("two steps would be called %q", nameOf(s))
		}
		names[nameOf(s)] = true
	}
	return b, nil
}

// differing names the steps that are not in both lists.
func differing(a, b []agreement.StepDigest) string {
	var names []string
	for _, s := range append(slices.Clone(a), b...) {
		if !slices.Contains(a, s) || !slices.Contains(b, s) {
			names = append(names, s.Step+" for "+s.Platform)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
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

// asked is what every step was given.
func (b Build) asked() []artifact {
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
	build, err := buildOf(a)
	if err != nil {
		return nil, fmt.Errorf("cannot make a layout: %w", err)
	}
	layout := newLayout(expires, "Rebuilders of this image and how many of them must have built the same. The bundle beside this file says more.")
	for _, r := range policy.Rebuilders {
		if err := enrol(layout, r.Name, r.Key); err != nil {
			return nil, err
		}
	}
	keys := slices.Sorted(maps.Keys(layout.Keys))
	materials := exactly(build.asked())
	for _, s := range build.Steps {
		layout.Steps = append(layout.Steps, newStep(nameOf(s), keys, policy.Threshold, exactly(build.asked()), exactly([]artifact{stepArtifact(s)})))
		materials = append(from(s), materials...)
	}
	layout.Steps = append(layout.Steps, newStep(stepName, keys, policy.Threshold, materials, exactly(build.products())))
	return seal(ctx, *layout, owner)
}

// SignPolicyLayout returns the envelope of a layout that a policy alone makes,
// for whichever build links tell of: enough rebuilders' links of the build must
// be there and equal. The policy has to be narrowed (agreement.Policy.Parts), and
// only keys that count at its time are in it. in-toto cannot demand an image
// that it does not know the name of: whoever verifies compares the products with
// the image, and links of nothing at all would be equal, too.
//
// in-toto compares all links that are validly signed, so one dissent of a
// rebuilder refuses; and it counts keys, so a rebuilder with two keys that count
// is an error.
func SignPolicyLayout(ctx context.Context, policy *agreement.Policy, owner keyfile.Signer, expires time.Time) ([]byte, error) {
	layout := newLayout(expires, "Rebuilders of a policy and how many of them must have built the same, whatever it is: compare the products with the image.")
	names := map[string]bool{}
	for _, s := range policy.Counting(agreement.RoleRebuilder) {
		if names[s.Name] {
			return nil, fmt.Errorf("cannot make a layout: rebuilder %q has two keys that count now, and in-toto would count it twice", s.Name)
		}
		names[s.Name] = true
		if err := enrol(layout, s.Name, s.Key); err != nil {
			return nil, err
		}
	}
	if len(names) < policy.Threshold {
		return nil, fmt.Errorf("cannot make a layout: the threshold is %d, but only %d rebuilders have a key that counts now", policy.Threshold, len(names))
	}
	anything := [][]string{{"ALLOW", "*@sha256:*"}, {"DISALLOW", "*"}}
	layout.Steps = []in_toto.Step{newStep(stepName, slices.Sorted(maps.Keys(layout.Keys)), policy.Threshold, anything, anything)}
	return seal(ctx, *layout, owner)
}

func newLayout(expires time.Time, readme string) *in_toto.Layout {
	return &in_toto.Layout{
		Type:    "layout",
		Inspect: []in_toto.Inspection{},
		Keys:    map[string]in_toto.Key{},
		Expires: expires.UTC().Format(in_toto.ISO8601DateSchema),
		Readme:  readme,
	}
}

// enrol puts a rebuilder's key into a layout.
func enrol(layout *in_toto.Layout, name string, public keyfile.PublicKey) error {
	key, err := keyOf(public)
	if err != nil {
		return fmt.Errorf("cannot make a layout: key of %q: %w", name, err)
	}
	layout.Keys[key.KeyID] = key
	return nil
}

func newStep(name string, keys []string, threshold int, materials, products [][]string) in_toto.Step {
	return in_toto.Step{
		Type:            "step",
		PubKeys:         keys,
		ExpectedCommand: []string{},
		Threshold:       threshold,
		SupplyChainItem: in_toto.SupplyChainItem{Name: name, ExpectedMaterials: materials, ExpectedProducts: products},
	}
}

// from demands that a step's files are used, as that step left them.
func from(s agreement.StepDigest) [][]string {
	name := stepArtifact(s).name
	return [][]string{{"REQUIRE", name}, {"MATCH", name, "WITH", "PRODUCTS", "FROM", nameOf(s)}}
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

// seal signs a layout or link.
func seal(ctx context.Context, content any, signer keyfile.Signer) ([]byte, error) {
	key, err := keyOf(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("cannot sign for in-toto: %w", err)
	}
	block := in_toto.Metablock{Signed: content}
	signable, err := block.GetSignableRepresentation()
	if err != nil {
		return nil, fmt.Errorf("cannot encode for in-toto: %w", err)
	}
	sig, err := signer.Sign(ctx, signable)
	if err != nil {
		return nil, fmt.Errorf("cannot sign for in-toto: %w", err)
	}
	block.Signatures = []in_toto.Signature{{KeyID: key.KeyID, Sig: hex.EncodeToString(sig)}}
	return json.Marshal(block)
}

// linkName is the file name under which in-toto looks for a key's link.
func linkName(step string, key keyfile.PublicKey) (string, error) {
	k, err := keyOf(key)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(in_toto.LinkNameFormat, step, k.KeyID), nil
}

// Write signs a layout (SignLayout) and puts it with the links of the
// rebuilders that agree into dir, which must exist. links are by rebuilder
// name, as SignLinks made them; those of rebuilders that do not agree are left
// out. One that is missing, not signed by its rebuilder or that tells something
// else than the agreement is an error, and nothing is written.
func Write(ctx context.Context, dir string, a *agreement.Agreement, policy *agreement.Policy, links map[string][]byte, owner keyfile.Signer, expires time.Time) error {
	layout, err := SignLayout(ctx, a, policy, owner, expires)
	if err != nil {
		return err
	}
	signer, err := pythonKey(owner.Public())
	if err != nil {
		return fmt.Errorf("cannot write in-toto metadata: %w", err)
	}
	files := map[string][]byte{LayoutName: layout, signerName: signer}
	build, err := buildOf(a)
	if err != nil {
		return err
	}
	for _, o := range a.Outcomes() {
		if o.Result != agreement.Agrees {
			continue
		}
		r, _ := policy.Rebuilder(o.Rebuilder)
		if err := addLinks(files, links[r.Name], r, build); err != nil {
			return fmt.Errorf("cannot write in-toto metadata: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := writeFile(filepath.Join(dir, name), files[name]); err != nil {
			return fmt.Errorf("cannot write in-toto metadata: %w", err)
		}
	}
	return nil
}

const signerName = "signer.json"

// pythonKey writes a public key as in-toto's Python tools read them.
func pythonKey(key keyfile.PublicKey) ([]byte, error) {
	k, err := keyOf(key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"keytype": k.KeyType, "scheme": k.Scheme, "keyid_hash_algorithms": k.KeyIDHashAlgorithms,
		"keyval": map[string]string{"public": k.KeyVal.Public, "private": ""},
	})
}

// maxLinks bounds what is read: the links of a hundred steps and platforms are under 1 MiB.
const maxLinks = 8 << 20 // bytes

// addLinks checks that a rebuilder's links are what it would make of the build,
// and adds a file for each.
func addLinks(files map[string][]byte, lines []byte, r agreement.Rebuilder, b Build) error {
	want := b.links()
	if len(lines) == 0 || len(lines) > maxLinks {
		return fmt.Errorf("links of %q have %d bytes, expected 1 to %d", r.Name, len(lines), maxLinks)
	}
	got := bytes.Split(bytes.TrimSuffix(lines, []byte("\n")), []byte("\n"))
	if len(got) != len(want) {
		return fmt.Errorf("%q has %d links, expected %d: one for each step, and the build", r.Name, len(got), len(want))
	}
	for i, link := range want {
		if err := checkLink(got[i], r.Key, link); err != nil {
			return fmt.Errorf("link %q of %q %w", link.Name, r.Name, err)
		}
		name, err := linkName(link.Name, r.Key)
		if err != nil {
			return fmt.Errorf("key of %q: %w", r.Name, err)
		}
		if files[name] != nil { // in-toto names links by 32 bits of the key id
			return fmt.Errorf("the key of %q has the same file name %q as another's; give it a new key", r.Name, name)
		}
		files[name] = got[i]
	}
	return nil
}

// checkLink checks that a link is what the key's holder would make of a build.
func checkLink(data []byte, key keyfile.PublicKey, want in_toto.Link) error {
	var block in_toto.Metablock
	if err := json.Unmarshal(data, &block); err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	id, err := keyOf(key)
	if err != nil {
		return err
	}
	if len(block.Signatures) != 1 || block.Signatures[0].KeyID != id.KeyID {
		return fmt.Errorf("is not signed once, with the key of its rebuilder")
	}
	got, err := block.GetSignableRepresentation()
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	expected, err := (&in_toto.Metablock{Signed: want}).GetSignableRepresentation()
	if err != nil {
		return err
	}
	if !bytes.Equal(got, expected) {
		return fmt.Errorf("tells of another build than the agreement")
	}
	sig, err := hex.DecodeString(block.Signatures[0].Sig)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if err := key.Verify(expected, sig); err != nil {
		return fmt.Errorf("is not signed with the key of its rebuilder: %w", err)
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
