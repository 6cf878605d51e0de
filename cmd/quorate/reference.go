package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"quorate.dev/builder/registry"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
)

// registryFlags say how registries are spoken with.
type registryFlags struct {
	plainHTTP bool
}

func (f *registryFlags) register(flags *pflag.FlagSet) {
	flags.BoolVar(&f.plainHTTP, "plain-http", false, "also speak plain HTTP with a registry that is not on this machine")
}

// client speaks with registries as this user: Docker's credentials, progress on the terminal.
func (f *registryFlags) client(ui *terminal) *registry.Client {
	verbs := map[string]string{"push": "push layer ", "check": "read back layer "}
	return registry.New(registry.Options{
		PlainHTTP: f.plainHTTP, UserAgent: "quorate/" + version,
		Events: func(e registry.Event) {
			if e.Total < worthShowing {
				return
			}
			ui.report(event{
				Key: e.Action + "/" + e.Digest.Hex(), Text: verbs[e.Action] + e.Digest.Short(),
				Current: e.Current, Total: e.Total, Bytes: true, Done: e.Done,
			})
		},
	})
}

// worthShowing is the size in bytes of a blob whose way is shown: below, it
// takes less than two seconds on any line.
const worthShowing = 1 << 20

// readerFlags are the flags of verbs that read what is published.
type readerFlags struct {
	registry registryFlags
	policy   string
	as       string // name of the image for the policy's rules
	at       timeFlag
	from     []string // --attestations-from

	endorsed *endorsement // of the policy that was read
}

// timeFlag is a time as policies write it; zero is now.
type timeFlag struct{ time.Time }

func (t *timeFlag) String() string {
	if t.IsZero() {
		return ""
	}
	return agreement.FormatTime(t.Time)
}

func (t *timeFlag) Set(text string) (err error) {
	t.Time, err = agreement.ParseTime(text)
	return err
}

func (t *timeFlag) Type() string { return "TIME" }

// orNow is the time given, or the clock's.
func (t *timeFlag) orNow() time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t.Time
}

func (f *readerFlags) register(flags *pflag.FlagSet, policyUse string) {
	f.registry.register(flags)
	flags.StringVar(&f.policy, "policy", "", policyUse)
	flags.StringVar(&f.as, "as", "", "`NAME` by which the policy's rules know the image (default: the repository of REF; for a folder, what its reports call it)")
	flags.Var(&f.at, "at", "judge as of this `TIME`, such as 2026-11-01T00:00:00Z (default now)")
	flags.StringArrayVar(&f.from, "attestations-from", nil, "also read statements about the image in `REPO`, a repository or oci:DIR, where others keep theirs; may be repeated")
}

// open looks an image up, and reads the policy, which is nil without --policy.
func (f *readerFlags) open(ctx context.Context, ui *terminal, refText string) (*published, *agreement.Policy, error) {
	ref, err := registry.Parse(refText)
	if err != nil {
		return nil, nil, err
	}
	var whole, policy *agreement.Policy
	if f.policy != "" {
		if whole, f.endorsed, err = readEndorsed(f.policy); err != nil {
			return nil, nil, err
		}
		tellPolicy(ui, f.endorsed)
	}
	name := cmp.Or(f.as, repositoryName(ref))
	if whole != nil && (name != "" || len(whole.Rules) == 0) { // before any registry is asked
		if policy, err = whole.For(name, f.at.orNow()); err != nil {
			return nil, nil, err
		}
	}
	p, err := lookUp(ctx, f.registry.client(ui), ref)
	if err != nil {
		return nil, nil, changed(err)
	}
	if p.resource == "" && f.as != "" {
		p.resource = resourcePrefix + f.as
	}
	for _, text := range f.from {
		if err := p.lookElsewhere(ctx, text); err != nil {
			return nil, nil, changed(err)
		}
	}
	if whole != nil && policy == nil {
		if name, err = p.claimedName(ctx); err != nil {
			return nil, nil, fmt.Errorf("the policy has rules for images, and which one this is %w; --as NAME says it", err)
		}
		ui.say("judged as image %q, which is what its reports call it", name)
		policy, err = whole.For(name, f.at.orNow())
	}
	return p, policy, err
}

// repositoryName is the name by which policies know what is in a repository;
// "" for a folder, which may be called anything.
func repositoryName(ref registry.Reference) string {
	if ref.Layout() != "" {
		return ""
	}
	return ref.Repository()
}

// published is an image in a registry, or in a folder, with what lies beside it.
type published struct {
	client    *registry.Client
	resource  string             // the repository as summaries name it; "" for a folder that stands for none
	ref       registry.Reference // as it was asked for
	top       *registry.Manifest // image or index that it names now
	images    []digest.Digest    // the image's manifest, or those of the index
	beside    []registry.Descriptor
	elsewhere []place                              // other repositories with statements about it
	foundIn   map[digest.Digest]registry.Reference // where statements read elsewhere came from
}

// place is a repository in which statements about an image lie.
type place struct {
	ref    registry.Reference
	beside []registry.Descriptor
}

// lookUp resolves a reference, once: everything after goes by the digest.
func lookUp(ctx context.Context, client *registry.Client, ref registry.Reference) (*published, error) {
	if err := namesImage(ref); err != nil {
		return nil, err
	}
	top, err := client.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	p := &published{client: client, resource: resource(ref), ref: ref, top: top, images: []digest.Digest{top.Digest}}
	if top.IsIndex() {
		children, err := top.Children()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.pinned(), err)
		}
		if p.images = nil; len(children) == 0 {
			return nil, fmt.Errorf("%s is an index without images", p.pinned())
		}
		for _, d := range children {
			p.images = append(p.images, d.Digest)
		}
	}
	p.beside, err = client.Referrers(ctx, ref, top.Digest)
	return p, err
}

// namesImage refuses a repository in a registry. A folder may hold one image only.
func namesImage(ref registry.Reference) error {
	if ref.Layout() == "" && ref.Tag() == "" && ref.Digest().IsZero() {
		return fmt.Errorf("%s names no image: add a tag, or @ and a digest", ref)
	}
	return nil
}

// lookElsewhere lists what another repository has about the image, which itself
// need not be there.
func (p *published) lookElsewhere(ctx context.Context, text string) error {
	ref, err := repositoryIn(text)
	if err != nil {
		return err
	}
	beside, err := p.client.Referrers(ctx, ref, p.top.Digest)
	if err != nil {
		return err
	}
	p.elsewhere = append(p.elsewhere, place{ref, beside})
	return nil
}

// repositoryIn reads the name of a repository.
func repositoryIn(text string) (registry.Reference, error) {
	ref, err := registry.Parse(text)
	if err == nil && (ref.Tag() != "" || !ref.Digest().IsZero()) {
		err = &registry.ReferenceError{Text: text, Reason: "this names a repository, which has neither tag nor digest: what is put there is found by digest"}
	}
	return ref, err
}

// pinned names the image by its digest, which nobody can move.
func (p *published) pinned() string { return p.ref.At(p.top.Digest).String() }

// resourcePrefix begins the names of repositories in summaries.
const resourcePrefix = "oci://"

// resource names the repository as summaries do. The path of a folder says
// nothing to anybody else, and is not told: it has none.
func resource(ref registry.Reference) string {
	if ref.Layout() != "" {
		return ""
	}
	return resourcePrefix + ref.Repository()
}

// places are the repositories that were read, as a person names them.
func (p *published) places() []string {
	all := []string{p.ref.Repository()}
	for _, in := range p.elsewhere {
		all = append(all, in.ref.Repository())
	}
	return all
}

// claimedName is what the reports about exactly these images call them, all the
// same. The error continues a sentence.
func (p *published) claimedName(ctx context.Context) (string, error) {
	claims, _, _, err := p.claims(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	var names []string
	for _, c := range claims {
		if c.Report == nil {
			continue
		}
		for _, s := range c.Report.Subjects {
			if slices.Contains(p.images, s.Digest) {
				names = append(names, s.Name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch len(names) {
	case 0:
		return "", errors.New("no report says")
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("its reports do not agree on (%q, %q)", names[0], names[1])
}

// Limits of what is read of referrers at once.
const (
	readers   = 8        // two small requests each; more do not help one registry
	inFlight  = 64 << 20 // bytes of bundles: some hundred reports, or two as large as they may be
	manyFacts = 20       // rejected statements shown on a terminal; --json has all
)

// statements reads every Sigstore bundle about the image, here and elsewhere.
// take is called for each, lose for those that cannot be had, never both at
// once. The error is for a registry that does not answer.
func (p *published) statements(ctx context.Context, take func(manifest digest.Digest, bundle []byte), lose func(digest.Digest, error)) error {
	var mu sync.Mutex
	room := semaphore.NewWeighted(inFlight)
	p.foundIn = map[digest.Digest]registry.Reference{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, r := range p.referrers() {
		g.Go(func() error {
			var at registry.Reference
			err := tryEach(r.in, func(ref registry.Reference) error {
				at = ref
				return p.bundle(ctx, ref, r.digest, room, func(b []byte) {
					mu.Lock()
					defer mu.Unlock()
					take(r.digest, b)
				})
			})
			if err != nil && ctx.Err() != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			switch e, unreachable := errors.AsType[*registry.Error](err); {
			case errors.Is(err, errNoBundle):
			case unreachable && e.Kind == registry.Unreachable:
				return err
			case err != nil:
				lose(r.digest, err)
			case at.Repository() != p.ref.Repository():
				p.foundIn[r.digest] = at
			}
			return nil
		})
	}
	return g.Wait()
}

// referrer is a manifest that refers to the image, and the repositories that list it.
type referrer struct {
	digest digest.Digest
	in     []registry.Reference
}

// referrers lists what may be a Sigstore bundle, each once: the same statement
// may lie in several repositories.
func (p *published) referrers() []referrer {
	var all []referrer
	at := map[digest.Digest]int{}
	for _, in := range append([]place{{p.ref, p.beside}}, p.elsewhere...) {
		for _, d := range in.beside {
			if !maybeBundle(d) {
				continue
			}
			i, seen := at[d.Digest]
			if !seen {
				i = len(all)
				at[d.Digest] = i
				all = append(all, referrer{digest: d.Digest})
			}
			all[i].in = append(all[i].in, in.ref)
		}
	}
	return all
}

// listed is what refers to the image in any of the repositories.
func (p *published) listed() map[digest.Digest]bool {
	all := map[digest.Digest]bool{}
	for _, in := range append([]place{{p.ref, p.beside}}, p.elsewhere...) {
		for _, d := range in.beside {
			all[d.Digest] = true
		}
	}
	return all
}

// tryEach tries repositories until one has what is wanted; the error is the first one's.
func tryEach(refs []registry.Reference, try func(registry.Reference) error) error {
	var first error
	for _, ref := range refs {
		err := try(ref)
		if err == nil {
			return nil
		}
		first = cmp.Or(first, err)
	}
	return first
}

// where is the repository of a statement, as summaries name it.
func (p *published) where(d digest.Digest) string {
	if ref, ok := p.foundIn[d]; ok {
		return cmp.Or(resource(ref), p.resource)
	}
	return p.resource
}

// maybeBundle leaves out what says that it is something else. Some registries
// tell the type of the configuration in the place of the artifact's.
func maybeBundle(d registry.Descriptor) bool {
	return slices.Contains([]string{"", registry.EmptyMediaType, attestation.SigstoreMediaType}, d.ArtifactType)
}

var errNoBundle = errors.New("not a Sigstore bundle")

// bundle reads one referrer, whose single layer is the bundle.
func (p *published) bundle(ctx context.Context, in registry.Reference, d digest.Digest, room *semaphore.Weighted, take func([]byte)) error {
	a, err := p.client.Artifact(ctx, in, d, p.top.Digest)
	if err != nil {
		return err
	}
	if a.Type != attestation.SigstoreMediaType {
		return errNoBundle
	}
	if len(a.Layers) != 1 || a.Layers[0].MediaType != attestation.SigstoreMediaType {
		return fmt.Errorf("its one layer must be a Sigstore bundle, but it has %s", count(len(a.Layers), "layer"))
	}
	size := min(max(a.Layers[0].Size, 0), attestation.MaxSigstoreBundle)
	if err := room.Acquire(ctx, size); err != nil {
		return err
	}
	defer room.Release(size)
	b, err := p.client.Bytes(ctx, in, a.Layers[0].Digest, a.Layers[0].Size, attestation.MaxSigstoreBundle)
	if err != nil {
		return err
	}
	take(b)
	return nil
}

// judge opens what lies beside the image with the policy's keys and judges it.
func (p *published) judge(ctx context.Context, policy *agreement.Policy) (*attestation.Opened, error) {
	r, err := attestation.GatherReferrers(policy)
	if err != nil {
		return nil, err
	}
	if err := p.statements(ctx, r.Add, r.Lose); err != nil {
		return nil, err
	}
	return r.Judge(p.resource, p.images...), nil
}

// claims reads what the statements say, by referrer, whoever signed them; with a
// policy also what they are worth by it. read is how many bundles there are.
func (p *published) claims(ctx context.Context, policy *agreement.Policy) (all map[digest.Digest]*attestation.Claim, o *attestation.Opened, read int, err error) {
	judge := &attestation.Referrers{}
	if policy != nil {
		if judge, err = attestation.GatherReferrers(policy); err != nil {
			return nil, nil, 0, err
		}
	}
	all = map[digest.Digest]*attestation.Claim{}
	err = p.statements(ctx, func(manifest digest.Digest, bundle []byte) {
		read++
		if policy != nil {
			judge.Add(manifest, bundle)
		}
		if envelope, err := attestation.OpenSigstoreBundle(bundle); err == nil {
			if claim, err := attestation.ReadClaim(envelope); err == nil {
				all[manifest] = claim
			}
		}
	}, func(manifest digest.Digest, err error) {
		read++
		if policy != nil {
			judge.Lose(manifest, err)
		}
	})
	if err == nil && policy != nil {
		o = judge.Judge(p.resource, p.images...)
	}
	return all, o, read, err
}

// maxProjects is how many attached projects are looked at: each was attached by
// somebody who may push, and one is what we want.
const maxProjects = 100

// projects calls look with everything attached that the image could be rebuilt
// from, until that is content. It returns how many it looked at.
func (p *published) projects(ctx context.Context, look func(manifest digest.Digest, a *registry.Artifact) (found bool)) (int, error) {
	looked := 0
	for _, d := range p.beside {
		if !slices.Contains([]string{projectType, registry.EmptyMediaType, ""}, d.ArtifactType) || d.Annotations["dev.sigstore.bundle.predicateType"] != "" {
			continue
		}
		a, err := p.client.Artifact(ctx, p.ref, d.Digest, p.top.Digest)
		if ctx.Err() != nil {
			return looked, context.Cause(ctx)
		}
		if err != nil || a.Type != projectType { // listed, and not to be had, or something else
			continue
		}
		if looked++; looked > maxProjects || look(d.Digest, a) {
			break
		}
	}
	return looked, nil
}

// silent says of the first repository named by --attestations-from that has no
// report that agrees: whoever names one wants to hear it.
func (p *published) silent(o *attestation.Opened) error {
	agrees := map[digest.Digest]bool{}
	for _, r := range o.Verdict.Outcomes {
		for _, s := range o.Statements {
			if r.Result == agreement.Agrees && s.Accepted && s.Kind == attestation.KindReport && s.Name == r.Rebuilder {
				agrees[s.Referrer] = true
			}
		}
	}
	for _, in := range p.elsewhere {
		if !slices.ContainsFunc(in.beside, func(d registry.Descriptor) bool { return agrees[d.Digest] }) {
			return &attestation.VerifyError{Decision: agreement.Inconclusive, Reasons: []string{
				fmt.Sprintf("%s has no report that agrees, of a rebuilder of the policy, and --attestations-from asks for one", in.ref.Repository()),
			}}
		}
	}
	return nil
}

// tellStatements tells what became of every statement, and why.
func (p *published) tellStatements(ui *terminal, o *attestation.Opened) {
	rejected := 0
	for _, s := range o.Statements {
		where := s.Where()
		if in, ok := p.foundIn[s.Referrer]; ok {
			where += " in " + in.Repository()
		}
		if s.Accepted {
			ui.say("%s: %s of %s counts: %s", where, s.Kind, s.Name, s.Reason)
			continue
		}
		if rejected++; rejected <= manyFacts {
			ui.warn("%s (%s) does not count: %s", where, s.Kind, s.Reason)
		}
	}
	if rejected > manyFacts {
		ui.warn("… and %d more referrers do not count; --json has all of them", rejected-manyFacts)
	}
	for _, note := range o.Notes {
		ui.say("note: %s", note)
	}
}

// saidStatement is one statement in JSON.
type saidStatement struct {
	Referrer    string `json:"referrer,omitempty"`   // digest of its manifest
	Repository  string `json:"repository,omitempty"` // of --attestations-from, when it was read there
	Line        int    `json:"line,omitempty"`       // of a bundle in a file
	Kind        string `json:"kind"`
	Name        string `json:"name,omitempty"` // in the policy; for what is not accepted, as it claims
	Role        string `json:"role,omitempty"` // of whoever signed it, in the policy
	Fingerprint string `json:"fingerprint,omitempty"`
	Time        string `json:"time,omitempty"`
	Accepted    bool   `json:"accepted"`
	Reason      string `json:"reason"`         // why, or why not
	Code        string `json:"code,omitempty"` // the same in a word, where the policy does not hear it
}

func describeStatements(o *attestation.Opened) []saidStatement {
	all := []saidStatement{}
	for _, s := range o.Statements {
		one := saidStatement{Line: s.Line, Kind: string(s.Kind), Name: s.Name, Role: string(s.Role), Fingerprint: s.Fingerprint, Accepted: s.Accepted, Reason: s.Reason, Code: s.Code}
		if !s.Referrer.IsZero() {
			one.Referrer = s.Referrer.String()
		}
		if s.Accepted {
			one.Time = s.Time.Format("2006-01-02T15:04:05Z07:00")
		}
		all = append(all, one)
	}
	slices.SortStableFunc(all, func(a, b saidStatement) int { return cmp.Compare(b2i(b.Accepted), b2i(a.Accepted)) })
	return all
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
