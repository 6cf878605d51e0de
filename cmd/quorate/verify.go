package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/builder/image"
	"quorate.dev/builder/registry"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/keyfile"
)

// largestBundle is in bytes, a little above what attestation.OpenBundle takes,
// which says more.
const largestBundle = 300 << 20

// verifyAnswer is what `quorate verify --json` answers. Lists are never null.
type verifyAnswer struct {
	Verified             bool              `json:"verified"`
	Decision             string            `json:"decision"` // "agree", "disagree" or "inconclusive"
	Reasons              []string          `json:"reasons"`  // why not verified
	Images               []string          `json:"images"`   // manifest digests that were asked about
	Subjects             []verifiedSubject `json:"subjects"` // what the rebuilders agree on
	Rebuilders           []verifiedOutcome `json:"rebuilders"`
	IndependentOperators int               `json:"independentOperators"`
	Signer               string            `json:"signer,omitempty"` // name of the policy's signer whose agreement the bundle holds
	Lock                 string            `json:"lock,omitempty"`
	Definition           string            `json:"definition,omitempty"`
	Policy               string            `json:"policy"`              // its digest
	PolicySigned         *endorsement      `json:"policySigned"`        // its version and who signed that
	Image                string            `json:"image,omitempty"`     // name by which the policy's rules know it
	At                   string            `json:"at"`                  // as of when it was judged
	Reference            string            `json:"reference,omitempty"` // by digest, of an image in a registry or a folder
	LookedIn             []string          `json:"lookedIn"`            // repositories and folders that were read; none for a bundle
	Statements           []saidStatement   `json:"statements"`          // those that count first
	Summaries            []verifiedSummary `json:"summaries"`           // newest first
	Refusals             []toldRefusal     `json:"refusals"`            // of requests that ended without an agreement
	Notes                []string          `json:"notes"`
}

// verifiedSummary is a SLSA VSA that a signer of the policy signed.
type verifiedSummary struct {
	Signer   string   `json:"signer"`
	Verifier string   `json:"verifier"`
	Time     string   `json:"time"`
	Resource string   `json:"resource"`
	Levels   []string `json:"levels"`
	Inputs   int      `json:"inputs"`
}

// toldRefusal is a signed record that rebuilders did not agree.
type toldRefusal struct {
	Signer   string            `json:"signer,omitempty"`
	Time     string            `json:"time"`
	Request  string            `json:"request"`
	Decision string            `json:"decision"` // "disagree" or "inconclusive"
	Reasons  []string          `json:"reasons"`
	Built    []verifiedSubject `json:"built"`
	Outcomes []verifiedOutcome `json:"outcomes"`
}

func describeRefusal(r *attestation.SignedRefusal) toldRefusal {
	t := toldRefusal{
		Signer: r.Signer, Time: r.RefusedOn.Format(time.RFC3339), Request: r.Job.Nonce, Decision: string(r.Decision),
		Reasons: append([]string{}, r.Reasons...), Built: []verifiedSubject{}, Outcomes: outcomesOf(r.Results),
	}
	for _, s := range r.Built {
		t.Built = append(t.Built, verifiedSubject{Name: s.Name, Platform: s.Platform, Digest: s.Digest.String()})
	}
	return t
}

type verifiedSubject struct {
	Name     string `json:"name"`
	Platform string `json:"platform,omitempty"`
	Digest   string `json:"digest"`
}

type verifiedOutcome struct {
	Rebuilder   string `json:"rebuilder"`
	Operator    string `json:"operator"`
	Fingerprint string `json:"fingerprint"`
	Outcome     string `json:"outcome"`
	Reason      string `json:"reason,omitempty"`
}

// verifyFlags are the flags of `quorate verify`.
type verifyFlags struct {
	reader   readerFlags
	images   []string
	vsa      string
	key      string
	verifier string
	pass     passphraseFlags
	asJSON   bool
}

func verifyCmd(ui *terminal) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify BUNDLE|REF",
		Short: "Judge the rebuilders' signed reports again",
		Long: `Verify opens the signed reports in BUNDLE with the public keys of your policy and
judges them again, by your policy's rule. It believes neither whoever made the
bundle nor whoever signed the agreement in it, and for a bundle needs only files.

With --image it also reads that image whole, every blob against its digest, and
it must be what the rebuilders agree on. Without, all that is said is that they
agree. The answer is one line for each image they agree on: its manifest digest,
name and platform.

REF is an image in a registry, REGISTRY/REPOSITORY:TAG or …@sha256:…, or in a
folder, oci:DIR[:TAG] or oci:DIR@sha256:…, an OCI image layout. Verify
resolves it once, reads the statements that refer to it and judges them alike:
the image, or every image of an index, must be what the rebuilders agree on.
Statements that nobody of the policy signed change nothing. When a signer of the
policy listed a statement (SLSA VSA) that is gone, the image is not verified.
The answer is the reference by digest, which nobody can move any more. A folder
is all that is read of an image in one, no network is asked, and every blob of
it is held against its digest.

Others may have built the image, too, and keep their reports in repositories of
their own (quorate reproduce --attest-to). --attestations-from REPO reads what
REPO has about the image, which need not be there itself; they count as your
policy says, and at least one report there has to agree.

A policy may have rules for images: who may speak for which, in which role and
as which builder, how many are needed, how old reports may be. The image is the
one that was asked for: the repository of REF, or the name that the reports in
BUNDLE or in a folder give it, or --as NAME. For each statement verify says why it counts or
why not. Times are those that signers claim; they are held against the windows
and revocations of keys, and against --at TIME, which is now by default.

With --vsa what was verified of REF is written to FILE as a SLSA verification
summary in a DSSE envelope, signed with --key, for tools that take those
(slsa-verifier verify-vsa). It says SLSA_BUILD_REPRODUCED only when rebuilders
of two operators agree.` +
			exitStatus(
				"verified: enough rebuilders built the same, and it is this image",
				"not verified: they disagree, it is another image, or the bundle contradicts itself",
				"could not tell: too few reports that count, or a file that cannot be read"),
		Example: `  quorate verify results/agreement.intoto.jsonl --policy policy.yaml
  quorate verify agreement.intoto.jsonl --policy policy.yaml --image oci=results/image
  quorate verify agreement.intoto.jsonl --policy policy.yaml --json
  quorate verify registry.example/app:v1 --policy policy.yaml
  quorate verify oci:/mnt/usb/app:v1 --policy policy.yaml
  quorate verify mirror.example/app:v1 --policy policy.yaml --as registry.example/app
  quorate verify registry.example/app:v1 --policy policy.yaml --attestations-from audit.example/app
  quorate verify registry.example/app:v1 --policy policy.yaml --vsa vsa.json --key auditor.key`,
		Args: takes("BUNDLE|REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.reader.policy == "" {
				return &usageError{err: errors.New("say whom you trust: --policy FILE"), command: cmd.CommandPath()}
			}
			return runVerify(cmd.Context(), ui, args[0], f)
		},
	}
	f.reader.register(cmd.Flags(), "policy `FILE`: whose reports count, and how many must agree")
	cmd.Flags().StringArrayVar(&f.images, "image", nil, "the image to verify, `oci=DIR`; may be repeated")
	cmd.Flags().StringVar(&f.vsa, "vsa", "", "write a signed summary to `FILE` when REF is verified")
	cmd.Flags().StringVar(&f.key, "key", "", "sign the summary with the "+keyUse)
	cmd.Flags().StringVar(&f.verifier, "verifier-id", "", "`URI` that says in the summary who verified")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "answer in JSON")
	f.pass.add(cmd.Flags())
	return cmd
}

func runVerify(ctx context.Context, ui *terminal, what string, f verifyFlags) error {
	if _, err := os.Stat(what); err != nil {
		if _, err := registry.Parse(what); err == nil || strings.HasPrefix(what, registry.LayoutPrefix) {
			return verifyReference(ctx, ui, what, f)
		}
	}
	for flag, given := range map[string]bool{"--vsa": f.vsa != "", "--attestations-from": len(f.reader.from) > 0} {
		if given {
			return &usageError{err: fmt.Errorf("%s is for images in a registry or a folder (oci:DIR), and %q is a file", flag, what), command: "quorate verify"}
		}
	}
	return verifyFile(ui, what, f)
}

// verifyReference judges what a registry keeps beside an image.
func verifyReference(ctx context.Context, ui *terminal, refText string, f verifyFlags) error {
	if len(f.images) > 0 {
		return &usageError{err: errors.New("--image is for bundles in files; a reference names its image"), command: "quorate verify"}
	}
	signer, err := f.summaryKey(ui) // before any work
	if err != nil {
		return err
	}
	p, policy, err := f.reader.open(ctx, ui, refText)
	if err != nil {
		return err
	}
	if err := p.readWhole(ctx); err != nil {
		return err
	}
	opened, err := p.judge(ctx, policy)
	if err != nil {
		return err
	}
	verdict := opened.Verify(p.images...)
	if verdict == nil {
		verdict = p.silent(opened)
	}
	ui.say("looked in %s, and nowhere else", strings.Join(p.places(), " and "))
	if len(p.listed()) == 0 {
		ui.say("nothing refers to %s: it was not published by quorate, or was copied without what lies beside it", p.pinned())
	}
	p.tellStatements(ui, opened)
	tellOutcomes(ui, opened)
	if verdict == nil && signer != nil {
		if err := p.writeSummary(ctx, opened, f, signer); err != nil {
			return err
		}
	}
	if f.asJSON {
		answer := describeVerdict(opened, policy, f.reader.endorsed, p.images, verdict)
		answer.Reference, answer.LookedIn = p.pinned(), p.places()
		for i, s := range answer.Statements {
			if d, err := digest.Parse(s.Referrer); err == nil {
				if in, elsewhere := p.foundIn[d]; elsewhere {
					answer.Statements[i].Repository = in.Repository()
				}
			}
		}
		ui.answerJSON(answer)
	}
	if verdict != nil {
		return codeOfVerdict(verdict)
	}
	if !f.asJSON {
		ui.answer("%s", p.pinned())
	}
	return nil
}

// readWhole reads an image in a folder, every blob against its digest, as --image
// does. From a registry nobody gets a blob without doing so.
func (p *published) readWhole(ctx context.Context) error {
	if p.ref.Layout() == "" {
		return nil
	}
	_, err := p.client.Pull(ctx, p.ref.At(p.top.Digest), discard{})
	return changed(err)
}

// discard is a registry.Sink that only reads.
type discard struct{}

// Put implements registry.Sink.
func (discard) Put(r io.Reader, _ digest.Digest, _ int64) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// summaryKey loads the key for --vsa; nil without that.
func (f *verifyFlags) summaryKey(ui *terminal) (keyfile.Signer, error) {
	switch {
	case (f.vsa == "") != (f.key == ""):
		return nil, &usageError{err: errors.New("--vsa FILE and --key FILE go together: a summary is signed"), command: "quorate verify"}
	case f.vsa == "":
		return nil, nil
	}
	return openSigner(ui, f.key, f.pass)
}

// writeSummary signs what was found. It rests on every statement that counts.
func (p *published) writeSummary(ctx context.Context, o *attestation.Opened, f verifyFlags, signer keyfile.Signer) error {
	if p.resource == "" {
		name, err := p.claimedName(ctx)
		if err != nil {
			return fmt.Errorf("a summary names a repository, and which one %w; --as NAME says it", err)
		}
		p.resource = resourcePrefix + name
	}
	s := attestation.SummaryOptions{VerifierID: f.verifier, Version: version, Resource: p.resource, Images: p.images, Time: time.Now()}
	if p.top.IsIndex() {
		s.Index = p.top.Digest
	}
	for _, st := range o.Statements {
		if st.Accepted {
			s.Inputs = append(s.Inputs, attestation.Input{URI: p.where(st.Referrer) + "@" + st.Referrer.String(), Digest: st.Referrer})
		}
	}
	envelope, err := attestation.SignSummary(ctx, o, s, signer)
	if err != nil {
		return err
	}
	return replaceFile(f.vsa, append(envelope, '\n'))
}

// verifyFile judges a bundle in a file.
func verifyFile(ui *terminal, bundlePath string, f verifyFlags) error {
	whole, endorsed, err := readEndorsed(f.reader.policy)
	if err != nil {
		return err
	}
	tellPolicy(ui, endorsed)
	f.reader.endorsed = endorsed
	data, err := readSmallFile(bundlePath, largestBundle)
	if err != nil {
		return fmt.Errorf("cannot read bundle: %w", err)
	}
	name := f.reader.as
	if name == "" && len(whole.Rules) > 0 {
		if name, err = attestation.NameIn(data); err != nil {
			return fmt.Errorf("the policy has rules for images, and %q does not say which one it is about: %w", bundlePath, err)
		}
	}
	policy, err := whole.For(name, f.reader.at.orNow())
	if err != nil {
		return err
	}
	opened, err := attestation.OpenBundle(data, policy)
	if err != nil {
		return fmt.Errorf("cannot open bundle %q: %w", bundlePath, err)
	}
	if !slices.ContainsFunc(opened.Statements, func(s attestation.Statement) bool { return s.Kind != attestation.KindUnknown }) {
		first := opened.Statements[0]
		return fmt.Errorf("%q is no bundle: it holds neither reports nor an agreement; line %d: %s", bundlePath, first.Line, first.Reason)
	}
	digests, err := imageDigests(f.images)
	if err != nil {
		return err
	}
	verdict := opened.Verify(digests...)
	tellVerdict(ui, opened, len(digests))
	if f.asJSON {
		ui.answerJSON(describeVerdict(opened, policy, f.reader.endorsed, digests, verdict))
	}
	if verdict != nil {
		return codeOfVerdict(verdict)
	}
	if !f.asJSON {
		for _, s := range opened.Agreement.Subjects() {
			ui.answer("%s", strings.TrimSpace(fmt.Sprintf("%s %s %s", s.Digest, s.Name, s.Platform)))
		}
	}
	return nil
}

// imageDigests reads images whole and returns the digests of their manifests.
// An image whose bytes are not what it says is a verdict, not a failure.
func imageDigests(images []string) ([]digest.Digest, error) {
	var all []digest.Digest
	for _, text := range images {
		kind, dir, ok := strings.Cut(text, "=")
		if !ok || kind != "oci" || dir == "" {
			return nil, &usageError{err: fmt.Errorf("bad --image %q: expected oci=DIR, the folder of an OCI image layout", text), command: "quorate verify"}
		}
		layout, err := image.ReadOCI(dir)
		if changed := (*digest.MismatchError)(nil); errors.As(err, &changed) {
			return nil, different(err)
		}
		if short := (*digest.SizeError)(nil); errors.As(err, &short) {
			return nil, different(err)
		}
		if err != nil {
			return nil, err
		}
		for _, img := range layout.Images {
			all = append(all, img.ManifestDigest)
		}
	}
	return all, nil
}

// tellPolicy tells which version of a policy it is, and who signed it.
func tellPolicy(ui *terminal, e *endorsement) {
	if text := e.say(); text != "" {
		ui.say("%s", text)
	}
}

// codeOfVerdict makes "not verified" exit 1 and "could not tell" exit 2.
func codeOfVerdict(err error) error {
	if e, ok := errors.AsType[*attestation.VerifyError](err); ok && e.Decision == agreement.Disagree {
		return different(err)
	}
	return err
}

// tellVerdict tells what became of every statement and every rebuilder.
func tellVerdict(ui *terminal, o *attestation.Opened, images int) {
	for _, s := range o.Statements {
		if s.Accepted {
			ui.say("%s: %s of %s counts: %s", s.Where(), s.Kind, s.Name, s.Reason)
		} else {
			ui.warn("%s (%s) does not count: %s", s.Where(), s.Kind, s.Reason)
		}
	}
	tellOutcomes(ui, o)
	if o.Agreement.Valid() && images == 0 {
		ui.say("no image was compared; --image oci=DIR does that")
	}
}

// tellOutcomes tells what became of every rebuilder of the policy.
func tellOutcomes(ui *terminal, o *attestation.Opened) {
	for _, r := range o.Verdict.Outcomes {
		text := fmt.Sprintf("%s (operator %s): %s", r.Rebuilder, r.Operator, r.Result)
		if r.Reason != "" {
			text += ": " + r.Reason
		}
		ui.say("%s", text)
	}
	if !o.Agreement.Valid() {
		return
	}
	if n := o.Agreement.IndependentOperators(); n == 1 {
		ui.say("all of them have one operator: nobody independent says the same")
	}
}

func describeVerdict(o *attestation.Opened, policy *agreement.Policy, endorsed *endorsement, images []digest.Digest, verdict error) verifyAnswer {
	name, at := policy.Image()
	a := verifyAnswer{
		Verified: verdict == nil, Decision: string(o.Verdict.Decision), Policy: policy.Digest().String(),
		PolicySigned: endorsed, Image: name, At: at.UTC().Format(time.RFC3339),
		Lock: o.Job.Lock.String(), Definition: o.Job.Definition.String(),
		LookedIn: []string{}, Reasons: []string{}, Images: []string{}, Subjects: []verifiedSubject{}, Rebuilders: []verifiedOutcome{},
		Statements: describeStatements(o), Summaries: []verifiedSummary{}, Refusals: []toldRefusal{}, Notes: append([]string{}, o.Notes...),
	}
	for _, s := range o.Summaries {
		a.Summaries = append(a.Summaries, verifiedSummary{
			Signer: s.Signer, Verifier: s.Verifier, Time: s.Time.Format(time.RFC3339), Resource: s.Resource, Levels: s.Levels, Inputs: len(s.Inputs),
		})
	}
	for _, r := range o.Refusals {
		a.Refusals = append(a.Refusals, describeRefusal(r))
	}
	if e, ok := errors.AsType[*attestation.VerifyError](verdict); ok {
		a.Reasons = append(a.Reasons, e.Reasons...)
	}
	for _, d := range images {
		a.Images = append(a.Images, d.String())
	}
	for _, r := range o.Verdict.Outcomes {
		a.Rebuilders = append(a.Rebuilders, verifiedOutcome{
			Rebuilder: r.Rebuilder, Operator: r.Operator, Fingerprint: r.Fingerprint, Outcome: string(r.Result), Reason: r.Reason,
		})
	}
	if o.Signed != nil {
		a.Signer = o.Signed.Signer
	}
	if o.Agreement.Valid() {
		a.IndependentOperators = o.Agreement.IndependentOperators()
		for _, s := range o.Agreement.Subjects() {
			a.Subjects = append(a.Subjects, verifiedSubject{Name: s.Name, Platform: s.Platform, Digest: s.Digest.String()})
		}
	}
	return a
}
