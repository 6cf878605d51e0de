package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/builder/image"
	"quorate.dev/builder/registry"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/keyfile"
)

// Types of the artifact that an image can be rebuilt from: the definition, the
// lock, and one archive (package source/local) for each local input.
const (
	projectType    = "application/vnd.quorate.project.v1"
	definitionType = "application/vnd.quorate.definition.v1+yaml"
	lockType       = "application/vnd.quorate.lock.v1+yaml"
	localType      = "application/vnd.quorate.local.v1.tar"
)

// publishFlags are the flags of `quorate publish`.
type publishFlags struct {
	registry registryFlags
	project  string
	policy   string
	as       string // name of the image for the policy's rules
	key      string
	verifier string
	pass     passphraseFlags
	asJSON   bool
	refusal  bool
	staging  string
	sboms    sbomRequest
}

func publishCmd(ui *terminal) *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "publish RESULTS REF",
		Short: "Push an agreed image with everything that proves it",
		Long: `Publish judges the reports in RESULTS, the folder that "quorate rebuild" left, once
more, and only when they agree pushes the image to REF, a reference
REGISTRY/REPOSITORY[:TAG], or oci:DIR[:TAG] for a folder that may be carried where
no registry is (an OCI image layout; what else it holds stays):

  1. the image goes there by digest and is read back, every byte;
  2. each rebuilder's report and the signed agreement are attached to it as
     Sigstore bundles, and so are the definition, the lock and the local inputs
     of the project, so that the image can be rebuilt from its reference;
  3. a summary (SLSA VSA) that lists all of them is signed and attached, so that
     it is noticed when one is deleted;
  4. what the registry now has is read and judged as "quorate verify" does;
  5. the tag is written last, and read again.

With --staging steps 1, 2 and 4 are done in the repository STAGING first, which
may belong to a registry that only builders write to. What goes to REF then is
what was judged there: its bytes come from STAGING and not from RESULTS.

The same again changes nothing, and an interrupted run is finished by the next.
The answer is the image's reference by digest. Credentials are Docker's ("docker
login"). Without a tag in REF none is written.

A folder has no name that means anything elsewhere. --as says which repository it
is for: the policy's rules know the image by it, the summary names it, and
podman's signature is for it. Without, it is what the reports call the image, and
there is no signature for podman. "oras cp -r --from-oci-layout DIR:TAG REF" copies
it to a registry with everything beside it; so does "skopeo copy" of two tags, TAG
and, with --all, the one of sha256- and the image's digest, which lists the rest.

With --refusal RESULTS holds the signed record of rebuilders that did not agree.
It and their reports are attached, in the repository REF, to every image that one
of them built, so that nobody finds such an image there without it. The images
themselves are not pushed, and no tag is written.` +
			exitStatus(
				"published, and what is there verifies",
				"the reports do not agree, or what was read back is not what was pushed",
				"could not be published: bad input, a registry that does not answer or refuses"),
		Example: `  quorate publish results registry.example/app:v1 --key release.key
  quorate publish results registry.example/app --policy policy.yaml --project app
  quorate publish results release.example/app:v1 --staging staging.example/app
  quorate publish results oci:/mnt/usb/app:v1 --as registry.example/app --key release.key
  quorate publish results registry.example/app --refusal`,
		Args: takes("RESULTS", "REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.refusal {
				return runPublishRefusal(cmd.Context(), ui, args[0], args[1], f)
			}
			return runPublish(cmd.Context(), ui, args[0], args[1], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.project, "project", ".", "the project's `DIR`, with the definition, lock and local inputs that were built")
	flags.StringVar(&f.policy, "policy", "", "judge by the policy in `FILE` (default RESULTS/policy.yaml)")
	flags.StringVar(&f.as, "as", "", "`NAME` by which the policy's rules know the image (default: the repository of REF); for a folder, also the repository that it is for")
	flags.StringVar(&f.key, "key", "", "sign the summary as a signer of the policy, with the "+keyUse)
	flags.StringVar(&f.verifier, "verifier-id", "", "`URI` that says in the summary who verified")
	flags.StringVar(&f.staging, "staging", "", "put everything into `STAGING` first, a repository or oci:DIR, judge it there, and publish it from there")
	f.sboms.register(flags)
	flags.BoolVar(&f.refusal, "refusal", false, "publish the record that rebuilders did not agree, and no image")
	flags.BoolVar(&f.asJSON, "json", false, "answer in JSON")
	f.registry.register(flags)
	f.pass.add(flags)
	return cmd
}

// publishAnswer is what `quorate publish --json` answers.
type publishAnswer struct {
	Reference string            `json:"reference"` // by digest
	Tag       string            `json:"tag,omitempty"`
	Images    []verifiedSubject `json:"images"`
	Referrers []publishedPart   `json:"referrers"` // of the reference
}

type publishedPart struct {
	Digest    string `json:"digest"`
	Type      string `json:"type"`
	Predicate string `json:"predicate,omitempty"`
}

func runPublish(ctx context.Context, ui *terminal, results, refText string, f publishFlags) error {
	ref, err := publishTarget(refText)
	if err != nil {
		return err
	}
	p := &publication{ui: ui, client: f.registry.client(ui), ref: ref, verifier: f.verifier}
	if p.staging, err = stagingIn(f.staging); err != nil {
		return err
	}
	if p.policy, err = f.readPolicy(results, ref, agreementFile); err != nil {
		return err
	}
	if err := p.readResults(results); err != nil {
		return err
	}
	p.isFor(f.as)
	m, err := openMachine(ui)
	if err != nil {
		return err
	}
	defer m.close()
	project, err := openProject(f.project)
	if err != nil {
		return err
	}
	if err := p.addProject(m, project); err != nil {
		return err
	}
	if p.bills, err = m.sbomArtifacts(ctx, project, f.sboms, p.images()); err != nil {
		return err
	}
	if p.signer, err = m.summaryKey(f, p.policy); err != nil {
		return err
	}
	answer, err := p.run(ctx)
	switch {
	case err != nil:
		return err
	case f.asJSON:
		ui.answerJSON(answer)
	default:
		ui.answer("%s", answer.Reference)
	}
	return nil
}

// readPolicy reads the policy given, else the one that the results were judged
// by, as it is for the repository; for a folder, for what the bundle's reports
// call the image.
func (f *publishFlags) readPolicy(results string, ref registry.Reference, bundle string) (*agreement.Policy, error) {
	whole, err := readPolicy(cmp.Or(f.policy, filepath.Join(results, "policy.yaml")))
	if err != nil {
		return nil, err
	}
	name := cmp.Or(f.as, repositoryName(ref))
	if name == "" && len(whole.Rules) > 0 {
		data, err := readSmallFile(filepath.Join(results, bundle), largestBundle)
		if errors.Is(err, fs.ErrNotExist) && bundle == agreementFile {
			return nil, &noAgreementError{dir: results}
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read what the rebuilders said: %w", err)
		}
		if name, err = attestation.NameIn(data); err != nil {
			return nil, fmt.Errorf("the policy has rules for images, and %q does not say which one it is about: %w; --as NAME says it", filepath.Join(results, bundle), err)
		}
	}
	return whole.For(name, time.Now())
}

// isFor settles by which name summaries speak of the place, and for which
// repository the image is signed. A folder is for whichever as says.
func (p *publication) isFor(as string) {
	p.resource, p.signedFor = resource(p.ref), p.ref.Repository()
	if p.ref.Layout() == "" {
		return
	}
	p.resource, p.signedFor = resourcePrefix+cmp.Or(as, p.opened.Agreement.Subjects()[0].Name), ""
	if ref, err := registry.Parse(as); err == nil && ref.Repository() == as {
		p.signedFor = as
	}
}

// agreementFile is the bundle of an agreement in a results folder.
const agreementFile = "agreement" + attestation.BundleSuffix

// publishTarget reads where to publish. What is published has its own digest.
func publishTarget(text string) (registry.Reference, error) {
	ref, err := registry.Parse(text)
	if err == nil && !ref.Digest().IsZero() {
		err = &registry.ReferenceError{Text: text, Reason: "where to publish is named by a tag, or by the repository alone; the digest is the image's own"}
	}
	return ref, err
}

// summaryKey is the key that signs the summary: the one named, else the release
// key that `quorate rebuild` made; nil when there is none.
func (m *machine) summaryKey(f publishFlags, policy *agreement.Policy) (keyfile.Signer, error) {
	path := f.key
	if path == "" {
		var err error
		if path, err = stateDir("release.key"); err != nil {
			return nil, err
		}
	}
	key, err := openSigner(m.ui, path, f.pass)
	if f.key == "" && errors.Is(err, fs.ErrNotExist) {
		m.ui.warn("no --key: no summary is signed, and nobody will notice a report that is deleted from the registry")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	known := slices.ContainsFunc(policy.Signers, func(s agreement.SignerKey) bool { return s.Key == key.Public() })
	if !known {
		return nil, fmt.Errorf("the key to sign the summary with (%q, %.16s…) is none of the policy's signers", path, key.Public().Fingerprint())
	}
	return key, nil
}

// publication is what is published while that goes on.
type publication struct {
	ui       *terminal
	client   *registry.Client
	ref      registry.Reference
	policy   *agreement.Policy
	signer   keyfile.Signer // of the summary; nil for none
	verifier string
	staging  *registry.Reference // repository where it is judged first; nil for none

	resource  string // the repository as summaries name it
	signedFor string // the repository that podman's signature is for; "" for no signature

	layout *image.Layout
	opened *attestation.Opened
	parts  []*registry.Artifact                   // bundles of reports and of the agreement, then the project
	bundle int                                    // how many of the parts are bundles
	bills  map[digest.Digest][]*registry.Artifact // SBOMs, by the image's manifest
}

// noAgreementError says that there is nothing to publish.
type noAgreementError struct{ dir string }

func (e *noAgreementError) Error() string {
	return fmt.Sprintf("there is no agreement in %q: only what rebuilders agree on is published", e.dir)
}

// Hint names what could be published instead.
func (e *noAgreementError) Hint() string {
	if _, err := os.Stat(filepath.Join(e.dir, refusalFile)); err != nil {
		return ""
	}
	return "--refusal publishes the signed record that they did not agree"
}

// readResults opens what a rebuild left. Only an agreement over exactly the
// image that lies there gets further.
func (p *publication) readResults(dir string) error {
	data, err := readSmallFile(filepath.Join(dir, agreementFile), largestBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return &noAgreementError{dir: dir}
	}
	if err != nil {
		return fmt.Errorf("cannot read agreement: %w", err)
	}
	if p.opened, err = attestation.OpenBundle(data, p.policy); err != nil {
		return fmt.Errorf("cannot open the agreement in %q: %w", dir, err)
	}
	if p.layout, err = image.ReadOCI(filepath.Join(dir, "image")); err != nil {
		return err
	}
	if err := p.opened.Verify(p.images()...); err != nil {
		tellVerdict(p.ui, p.opened, len(p.images()))
		return codeOfVerdict(err)
	}
	return p.addBundles()
}

func (p *publication) images() []digest.Digest {
	var all []digest.Digest
	for _, img := range p.layout.Images {
		all = append(all, img.ManifestDigest)
	}
	return all
}

// addBundles makes an artifact of every statement that counts.
func (p *publication) addBundles() error {
	for _, s := range p.opened.Statements {
		if !s.Accepted {
			p.ui.warn("%s (%s) does not count and is not published: %s", s.Where(), s.Kind, s.Reason)
			continue
		}
		if s.Kind != attestation.KindReport && s.Kind != attestation.KindAgreement && s.Kind != attestation.KindRefusal {
			continue
		}
		a, err := bundleArtifact(s.Envelope, p.keyOf(s), s.Predicate, s.Time)
		if err != nil {
			return err
		}
		p.parts = append(p.parts, a)
	}
	p.bundle = len(p.parts)
	return nil
}

// keyOf returns the policy's key by which a statement was accepted.
func (p *publication) keyOf(s attestation.Statement) keyfile.PublicKey {
	for _, k := range p.policy.Speakers() {
		if k.Key.Fingerprint() == s.Fingerprint {
			return k.Key
		}
	}
	return keyfile.PublicKey{}
}

// bundleArtifact is a referrer as cosign's specification of bundles in
// registries wants it. Its time is the statement's own, so that the same
// statement is the same referrer.
func bundleArtifact(envelope []byte, key keyfile.PublicKey, predicate string, at time.Time) (*registry.Artifact, error) {
	b, err := attestation.SigstoreBundle(envelope, key)
	if err != nil {
		return nil, err
	}
	return &registry.Artifact{
		Type: attestation.SigstoreMediaType,
		Annotations: map[string]string{
			"dev.sigstore.bundle.content":       "dsse-envelope",
			"dev.sigstore.bundle.predicateType": predicate,
			"org.opencontainers.image.created":  at.UTC().Format(time.RFC3339),
		},
		Layers: []registry.ArtifactLayer{registry.Document(attestation.SigstoreMediaType, "", b)},
	}, nil
}

// addProject makes the artifact that the image can be rebuilt from. It must be
// what was rebuilt.
func (p *publication) addProject(m *machine, project *project) error {
	other := func(what string) error {
		return fmt.Errorf("%s in %q is not what was rebuilt; it changed, or --project names another folder", what, project.Dir)
	}
	switch job := p.opened.Job; {
	case digest.Of(project.DefinitionBytes) != job.Definition:
		return other(definition.FileName)
	case digest.Of(project.LockBytes) != job.Lock:
		return other(lockfile.FileName)
	}
	a := &registry.Artifact{Type: projectType, Layers: []registry.ArtifactLayer{
		registry.Document(definitionType, definition.FileName, project.DefinitionBytes),
		registry.Document(lockType, lockfile.FileName, project.LockBytes),
	}}
	packed, err := m.packLocals(project)
	if err != nil {
		return err
	}
	built, err := p.builtLocals()
	if err != nil {
		return err
	}
	for _, l := range built {
		mine, ok := packed[l.Name]
		if !ok || mine.Tree != l.Tree {
			return other(fmt.Sprintf("local input %q", l.Name))
		}
		layer, err := m.localLayer(l.Name, mine.Archive)
		if err != nil {
			return err
		}
		a.Layers = append(a.Layers, layer)
	}
	p.parts = append(p.parts, a)
	return nil
}

// builtLocals says from which local inputs the agreeing rebuilders built; equal
// build definitions are part of agreeing, so any of them will do.
func (p *publication) builtLocals() ([]attestation.Local, error) {
	for _, o := range p.opened.Agreement.Outcomes() {
		if o.Result != agreement.Agrees {
			continue
		}
		for _, s := range p.opened.Statements {
			if s.Accepted && s.Kind == attestation.KindReport && s.Digest == o.Report.Statement {
				return attestation.Locals(s.Envelope)
			}
		}
	}
	return nil, errors.New("no report of the agreement is at hand") // Verify was content, so one is
}

// localLayer is the archive of a local input, out of the store.
func (m *machine) localLayer(name string, archive digest.Digest) (registry.ArtifactLayer, error) {
	r, err := m.store.Open(archive)
	if err != nil {
		return registry.ArtifactLayer{}, err
	}
	defer r.Close()
	size, err := io.Copy(io.Discard, r)
	return registry.ArtifactLayer{
		MediaType: localType, Digest: archive, Size: size,
		Annotations: map[string]string{"org.opencontainers.image.title": localTitle(name)},
		Open:        func() (io.ReadCloser, error) { return m.store.Open(archive) },
	}, err
}

// target is a manifest that statements are attached to.
type target struct {
	registry.Descriptor
	images []digest.Digest // the manifest, or those of the index
	index  digest.Digest   // zero unless it is one
}

// run publishes. The tag is written when everything else is there and verifies.
func (p *publication) run(ctx context.Context) (*publishAnswer, error) {
	var blobs image.BlobSource = p.layout
	if p.staging != nil {
		staged := *p
		staged.ref, staged.signer, staged.resource = *p.staging, nil, resource(*p.staging) // a summary names the place that readers find the image in
		if _, _, err := staged.place(ctx, p.layout); err != nil {
			return nil, err
		}
		p.ui.say("staged in %s, and judged there", p.staging.Repository())
		blobs = newStagedBlobs(ctx, p.client, *p.staging, p.layout.Images)
	}
	top, attached, err := p.place(ctx, blobs)
	if err != nil {
		return nil, err
	}
	if p.ref.Tag() != "" {
		if err := p.client.Tag(ctx, p.ref, top.Digest); err != nil {
			return nil, changed(err)
		}
		if err := p.check(ctx, top); err != nil {
			return nil, err
		}
	}
	p.ui.say("published %s, with %s", p.ref, count(len(attached), "referrer"))
	answer := &publishAnswer{Reference: p.ref.At(top.Digest).String(), Tag: p.ref.Tag(), Images: []verifiedSubject{}, Referrers: attached}
	for _, s := range p.opened.Agreement.Subjects() {
		answer.Images = append(answer.Images, verifiedSubject{Name: s.Name, Platform: s.Platform, Digest: s.Digest.String()})
	}
	return answer, nil
}

// place puts image and statements into the repository by digest, reads every
// byte back, and judges what is there as a reader would.
func (p *publication) place(ctx context.Context, blobs image.BlobSource) (top registry.Descriptor, attached []publishedPart, err error) {
	if top, err = p.client.PushImages(ctx, p.ref, p.layout.Images, blobs); err != nil {
		return top, nil, err
	}
	if err := p.client.ReadBack(ctx, p.ref, p.layout.Images); err != nil {
		return top, nil, changed(err)
	}
	all, err := targets(p.layout.Images)
	if err != nil {
		return top, nil, err
	}
	for _, t := range all { // the one that REF names comes last
		if attached, err = p.attach(ctx, t); err != nil {
			return top, nil, err
		}
	}
	return top, attached, p.check(ctx, top)
}

// stagedBlobs are the layers of images as a registry has them.
type stagedBlobs struct {
	ctx    context.Context
	client *registry.Client
	ref    registry.Reference
	sizes  map[digest.Digest]int64
}

func newStagedBlobs(ctx context.Context, client *registry.Client, ref registry.Reference, images []image.Image) *stagedBlobs {
	s := &stagedBlobs{ctx: ctx, client: client, ref: ref, sizes: map[digest.Digest]int64{}}
	for _, img := range images {
		for _, l := range img.Layers {
			s.sizes[l.Digest] = l.Size
		}
	}
	return s
}

// Open implements image.BlobSource.
func (s *stagedBlobs) Open(d digest.Digest) (io.ReadCloser, error) {
	return s.client.Blob(s.ctx, s.ref, d, s.sizes[d])
}

// stagingIn reads --staging; nil when it is not given.
func stagingIn(text string) (*registry.Reference, error) {
	if text == "" {
		return nil, nil
	}
	ref, err := repositoryIn(text)
	return &ref, err
}

// changed makes bytes that came back as others exit 1.
func changed(err error) error {
	if e, ok := errors.AsType[*registry.Error](err); ok && e.Kind == registry.Changed {
		return different(err)
	}
	return err
}

// targets are the manifests of all platforms and their index: whoever verifies
// one platform by its digest finds the statements there too.
func targets(images []image.Image) ([]target, error) {
	var all []target
	var digests []digest.Digest
	for _, img := range images {
		d := registry.Descriptor{MediaType: image.ManifestMediaType, Digest: img.ManifestDigest, Size: int64(len(img.Manifest))}
		all = append(all, target{Descriptor: d, images: []digest.Digest{img.ManifestDigest}})
		digests = append(digests, img.ManifestDigest)
	}
	if len(images) == 1 {
		return all, nil
	}
	index, err := image.Index(images)
	if err != nil {
		return nil, err
	}
	d := registry.Descriptor{MediaType: image.IndexMediaType, Digest: digest.Of(index), Size: int64(len(index))}
	return append(all, target{Descriptor: d, images: digests, index: d.Digest}), nil
}

// attach attaches everything to one manifest, the summary last.
func (p *publication) attach(ctx context.Context, t target) ([]publishedPart, error) {
	descriptors, err := p.client.Attach(ctx, p.ref, t.Descriptor, append(slices.Clone(p.parts), p.bills[t.Digest]...)...)
	if err != nil {
		return nil, err
	}
	if p.signer != nil {
		summary, err := p.summary(ctx, t, descriptors[:p.bundle])
		if err != nil {
			return nil, err
		}
		descriptors = append(descriptors, summary)
		if err := p.signImage(ctx, t); err != nil {
			return nil, err
		}
	}
	var all []publishedPart
	for _, d := range descriptors {
		all = append(all, publishedPart{Digest: d.Digest.String(), Type: d.ArtifactType, Predicate: d.Annotations["dev.sigstore.bundle.predicateType"]})
	}
	return all, nil
}

// summary signs and attaches a summary that rests on the inputs, unless the
// registry has one that says the same.
func (p *publication) summary(ctx context.Context, t target, inputs []registry.Descriptor) (registry.Descriptor, error) {
	o := attestation.SummaryOptions{
		VerifierID: p.verifier, Version: version, Resource: p.resource, Images: t.images, Index: t.index, Time: time.Now(),
	}
	for _, d := range inputs {
		o.Inputs = append(o.Inputs, attestation.Input{URI: o.Resource + "@" + d.Digest.String(), Digest: d.Digest})
	}
	there, err := lookUp(ctx, p.client, p.ref.At(t.Digest))
	if err != nil {
		return registry.Descriptor{}, err
	}
	there.resource = p.resource
	opened, err := there.judge(ctx, p.policy)
	if err != nil {
		return registry.Descriptor{}, err
	}
	for _, s := range opened.Summaries {
		if !p.saysSame(s, o) {
			continue
		}
		at := slices.IndexFunc(opened.Statements, func(st attestation.Statement) bool { return st.Digest == s.Statement && st.Accepted })
		i := slices.IndexFunc(there.beside, func(d registry.Descriptor) bool { return d.Digest == opened.Statements[at].Referrer })
		d := there.beside[i]
		d.ArtifactType = attestation.SigstoreMediaType
		return d, nil
	}
	envelope, err := attestation.SignSummary(ctx, p.opened, o, p.signer)
	if err != nil {
		return registry.Descriptor{}, err
	}
	a, err := bundleArtifact(envelope, p.signer.Public(), attestation.SummaryPredicate, o.Time)
	if err != nil {
		return registry.Descriptor{}, err
	}
	all, err := p.client.Attach(ctx, p.ref, t.Descriptor, a)
	if err != nil {
		return registry.Descriptor{}, err
	}
	return all[0], nil
}

// saysSame reports whether a summary is the one that would be signed now, but
// for its time.
func (p *publication) saysSame(s *attestation.SignedSummary, o attestation.SummaryOptions) bool {
	if !s.Passed || s.Resource != o.Resource || s.Policy != p.policy.Digest() || len(s.Inputs) != len(o.Inputs) {
		return false
	}
	if o.VerifierID != "" && s.Verifier != o.VerifierID || o.VerifierID == "" && s.Verifier != attestation.VerifierID {
		return false
	}
	for _, in := range o.Inputs {
		if !slices.Contains(s.Inputs, in) {
			return false
		}
	}
	return true
}

// check reads what the registry has now and judges it as a reader would.
func (p *publication) check(ctx context.Context, top registry.Descriptor) error {
	there, err := lookUp(ctx, p.client, p.ref.At(top.Digest))
	if err != nil {
		return changed(err)
	}
	there.resource = p.resource
	opened, err := there.judge(ctx, p.policy)
	if err != nil {
		return err
	}
	if err := opened.Verify(there.images...); err != nil {
		there.tellStatements(p.ui, opened)
		return fmt.Errorf("what %s has now: %w", strings.TrimSpace(p.ref.Repository()), codeOfVerdict(err))
	}
	return nil
}
