package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

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

// published is an image in a registry with what lies beside it.
type published struct {
	client *registry.Client
	ref    registry.Reference // as it was asked for
	top    *registry.Manifest // image or index that it names now
	images []digest.Digest    // the image's manifest, or those of the index
	beside []registry.Descriptor
}

// lookUp resolves a reference, once: everything after goes by the digest.
func lookUp(ctx context.Context, client *registry.Client, ref registry.Reference) (*published, error) {
	if ref.Tag() == "" && ref.Digest().IsZero() {
		return nil, fmt.Errorf("%s names no image: add a tag, or @ and a digest", ref)
	}
	top, err := client.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	p := &published{client: client, ref: ref, top: top, images: []digest.Digest{top.Digest}}
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

// pinned names the image by its digest, which nobody can move.
func (p *published) pinned() string { return p.ref.At(p.top.Digest).String() }

// resource names the repository as summaries do.
func resource(ref registry.Reference) string { return "oci://" + ref.Repository() }

// Limits of what is read of referrers at once.
const (
	readers   = 8        // two small requests each; more do not help one registry
	inFlight  = 64 << 20 // bytes of bundles: some hundred reports, or two as large as they may be
	manyFacts = 20       // rejected statements shown on a terminal; --json has all
)

// statements reads every Sigstore bundle beside the image. take is called for
// each, lose for those that cannot be had, never both at once. The error is for
// a registry that does not answer.
func (p *published) statements(ctx context.Context, take func(manifest digest.Digest, bundle []byte), lose func(digest.Digest, error)) error {
	var mu sync.Mutex
	room := semaphore.NewWeighted(inFlight)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, d := range p.beside {
		if !maybeBundle(d) {
			continue
		}
		g.Go(func() error {
			err := p.bundle(ctx, d.Digest, room, func(b []byte) {
				mu.Lock()
				defer mu.Unlock()
				take(d.Digest, b)
			})
			if err == nil || errors.Is(err, errNoBundle) {
				return nil
			}
			if e, ok := errors.AsType[*registry.Error](err); ok && e.Kind == registry.Unreachable || ctx.Err() != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			lose(d.Digest, err)
			return nil
		})
	}
	return g.Wait()
}

// maybeBundle leaves out what says that it is something else. Some registries
// tell the type of the configuration in the place of the artifact's.
func maybeBundle(d registry.Descriptor) bool {
	return slices.Contains([]string{"", registry.EmptyMediaType, attestation.SigstoreMediaType}, d.ArtifactType)
}

var errNoBundle = errors.New("not a Sigstore bundle")

// bundle reads one referrer, whose single layer is the bundle.
func (p *published) bundle(ctx context.Context, d digest.Digest, room *semaphore.Weighted, take func([]byte)) error {
	a, err := p.client.Artifact(ctx, p.ref, d, p.top.Digest)
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
	b, err := p.client.Bytes(ctx, p.ref, a.Layers[0].Digest, a.Layers[0].Size, attestation.MaxSigstoreBundle)
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
	return r.Judge(resource(p.ref), p.images...), nil
}

// tellStatements tells what became of every statement, and why.
func tellStatements(ui *terminal, o *attestation.Opened) {
	rejected := 0
	for _, s := range o.Statements {
		if s.Accepted {
			ui.say("%s: %s of %s counts: signed with the key %.16s… of the policy, %s",
				s.Where(), s.Kind, s.Name, s.Fingerprint, s.Time.Format("2006-01-02 15:04:05Z"))
			continue
		}
		if rejected++; rejected <= manyFacts {
			ui.warn("%s (%s) does not count: %s", s.Where(), s.Kind, s.Reason)
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
	Referrer    string `json:"referrer,omitempty"` // digest of its manifest
	Line        int    `json:"line,omitempty"`     // of a bundle in a file
	Kind        string `json:"kind"`
	Name        string `json:"name,omitempty"` // in the policy; for what is not accepted, as it claims
	Fingerprint string `json:"fingerprint,omitempty"`
	Time        string `json:"time,omitempty"`
	Accepted    bool   `json:"accepted"`
	Reason      string `json:"reason,omitempty"` // why not
}

func describeStatements(o *attestation.Opened) []saidStatement {
	all := []saidStatement{}
	for _, s := range o.Statements {
		one := saidStatement{Line: s.Line, Kind: string(s.Kind), Name: s.Name, Fingerprint: s.Fingerprint, Accepted: s.Accepted, Reason: s.Reason}
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
