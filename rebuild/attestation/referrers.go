package attestation

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
)

// Referrers gathers the statements that a registry keeps beside an image and
// judges them. It remembers what they say and not their bytes, so it may be
// handed thousands.
//
// A registry differs from a bundle in a file. Whoever may push adds statements,
// so what nobody of the policy signed is told and changes nothing. Whoever may
// delete takes some away, so what signers say was there is compared with what
// is (a summary's list, an agreement's counted reports). And the same image may
// have been rebuilt for several requests, each with its own reports and
// agreement: they are judged one request at a time, newest first, and one that
// verifies is enough.
type Referrers struct {
	opener opener
	there  map[digest.Digest]bool // manifests that were read
	lost   map[digest.Digest]bool // listed, and cannot be read
}

// GatherReferrers makes a collection for a policy, which has to be usable.
func GatherReferrers(policy *agreement.Policy) (*Referrers, error) {
	if err := policy.Check(); err != nil {
		return nil, err
	}
	return &Referrers{opener: opener{policy: policy}, there: map[digest.Digest]bool{}, lost: map[digest.Digest]bool{}}, nil
}

// Add opens the Sigstore bundle of a referrer. What it is worth is in
// Opened.Statements afterwards. Not for several goroutines at once.
func (r *Referrers) Add(manifest digest.Digest, bundle []byte) {
	r.there[manifest] = true
	st := Statement{Referrer: manifest, Kind: KindUnknown}
	envelope, err := OpenSigstoreBundle(bundle)
	if err != nil {
		r.opener.refuse(st, err)
		return
	}
	r.opener.add(st, envelope)
}

// Lose notes a referrer that the registry lists and that cannot be read.
func (r *Referrers) Lose(manifest digest.Digest, err error) {
	r.lost[manifest] = true
	r.opener.refuse(Statement{Referrer: manifest, Kind: KindUnknown}, err)
}

// maxRequests is how many requests for one image are judged: a signer's or
// rebuilder's key is needed to add one, and nobody rebuilds one image so often.
const maxRequests = 64

// Judge judges what was gathered for an image, or all images of an index.
// resource is where it was found (oci://REPOSITORY), "" for where nothing stays,
// such as a folder that is carried about.
func (r *Referrers) Judge(resource string, images ...digest.Digest) *Opened {
	o := &r.opener
	r.dropCopies()
	slices.SortStableFunc(o.statements, func(a, b Statement) int { return bytes.Compare(a.Referrer[:], b.Referrer[:]) })
	var best *Opened
	for _, view := range r.requests(images) {
		opened := view.judge()
		if err := opened.Verify(images...); err == nil {
			best = opened
			break
		}
		if best == nil {
			best = opened
		}
	}
	best.Statements, best.Summaries = o.statements, o.summaries
	r.checkSummaries(best, resource, images)
	r.noteOthers(best)
	return best
}

// dropCopies keeps one of each statement: whoever may push can attach a true
// one a thousand times, in a thousand wrappings.
func (r *Referrers) dropCopies() {
	o := &r.opener
	type said struct { // one statement may be signed by two, one of them wrongly
		by   string
		what digest.Digest
	}
	seen := map[said]bool{}
	again := func(by string, what digest.Digest) bool {
		was := seen[said{by, what}]
		seen[said{by, what}] = true
		return was
	}
	o.submissions = slices.DeleteFunc(o.submissions, func(s agreement.Submission) bool { return s.Report != nil && again(s.Rebuilder, s.Report.Statement) })
	o.agreements = slices.DeleteFunc(o.agreements, func(a *SignedAgreement) bool { return again(a.Signer, a.StatementDigest) })
	o.refusals = slices.DeleteFunc(o.refusals, func(f *SignedRefusal) bool { return again(f.Signer, f.StatementDigest) })
	o.summaries = slices.DeleteFunc(o.summaries, func(s *SignedSummary) bool { return again(s.Signer, s.Statement) })
}

// requests returns what there is to judge: one view for each agreement, newest
// first, those about the images before others; without any, one for each
// request that the reports answer, the most answered first. There is always one.
func (r *Referrers) requests(images []digest.Digest) []*opener {
	o := &r.opener
	var views []*opener
	about := slices.Clone(o.agreements)
	other := func(a *SignedAgreement) int { // sorts last
		if namesAll(a.Subjects, images) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(about, func(a, b *SignedAgreement) int {
		return cmp.Or(cmp.Compare(other(a), other(b)), b.AgreedOn.Compare(a.AgreedOn), bytes.Compare(a.StatementDigest[:], b.StatementDigest[:]))
	})
	for _, a := range about {
		views = append(views, &opener{policy: o.policy, statements: o.statements, submissions: o.submissions, refusals: o.refusals, agreements: []*SignedAgreement{a}, late: true})
	}
	if len(views) == 0 {
		for _, job := range r.jobs(images) {
			views = append(views, &opener{policy: o.policy, statements: o.statements, submissions: o.submissions, refusals: o.refusals, only: &job})
		}
	}
	if len(views) == 0 {
		views = append(views, &opener{policy: o.policy, statements: o.statements, submissions: o.submissions, refusals: o.refusals})
	}
	return views[:min(len(views), maxRequests)]
}

func namesAll(subjects []agreement.Subject, images []digest.Digest) bool {
	return !slices.ContainsFunc(images, func(d digest.Digest) bool {
		return !slices.ContainsFunc(subjects, func(s agreement.Subject) bool { return s.Digest == d })
	})
}

// jobs lists the requests that reports of the images answer.
func (r *Referrers) jobs(images []digest.Digest) []agreement.Job {
	voices := map[agreement.Job]map[string]bool{}
	for _, s := range r.opener.submissions {
		if s.Report == nil || !namesAll(s.Report.Subjects, images) {
			continue
		}
		job := agreement.Job{Nonce: s.Report.Nonce, Lock: s.Report.Lock, Definition: s.Report.Definition}
		if voices[job] == nil {
			voices[job] = map[string]bool{}
		}
		voices[job][s.Rebuilder] = true
	}
	var all []agreement.Job
	for job := range voices {
		all = append(all, job)
	}
	slices.SortFunc(all, func(a, b agreement.Job) int {
		return cmp.Or(
			-cmp.Compare(len(voices[a]), len(voices[b])), strings.Compare(a.Nonce, b.Nonce),
			bytes.Compare(a.Lock[:], b.Lock[:]), bytes.Compare(a.Definition[:], b.Definition[:]))
	})
	return all
}

// checkSummaries compares what signers say they saw with what is there.
func (r *Referrers) checkSummaries(o *Opened, resource string, images []digest.Digest) {
	problem := func(format string, args ...any) { o.Problems = append(o.Problems, fmt.Sprintf(format, args...)) }
	for _, s := range o.Summaries {
		when := fmt.Sprintf("the summary that %s signed on %s", s.Signer, s.Time.Format(time.RFC3339))
		switch {
		case !slices.ContainsFunc(s.Subjects, func(one agreement.Subject) bool { return slices.Contains(images, one.Digest) }):
			o.Notes = append(o.Notes, when+" is about another image")
			continue
		case resource != "" && s.Resource != resource:
			o.Notes = append(o.Notes, fmt.Sprintf("%s is about %s, not %s; the image was copied, or moved", when, s.Resource, resource))
		}
		for _, in := range s.Inputs {
			switch {
			case r.lost[in.Digest]:
				problem("%s rests on referrer %s, which cannot be read", when, in.Digest)
			case !r.there[in.Digest]:
				problem("%s rests on referrer %s, which is not to be found: it was deleted, or is hidden", when, in.Digest)
			}
		}
		if !s.Passed {
			problem("%s says FAILED", when)
		}
		if same := s.Policy == o.policy.Digest(); same && s.Reproduced() && o.Agreement.Valid() && o.Agreement.IndependentOperators() < 2 {
			problem("%s claims %s, but one operator is behind all that agree", when, ReproducedLevel)
		}
	}
}

// noteOthers tells of rebuilders that built something else from the same
// inputs for another request: no dissent in this one, but worth knowing.
func (r *Referrers) noteOthers(o *Opened) {
	if !o.Agreement.Valid() {
		return
	}
	job, subjects := o.Agreement.Job(), o.Agreement.Subjects()
	for _, s := range r.opener.submissions {
		p := s.Report
		if p == nil || p.Nonce == job.Nonce || p.BuildDefinition != job.BuildDefinition || slices.Equal(p.Subjects, subjects) {
			continue
		}
		o.Notes = append(o.Notes, fmt.Sprintf("%s built another image from the same inputs for request %s", s.Rebuilder, p.Nonce))
	}
}

// Locals returns the local inputs that a report was built from, sorted by name.
// The signature is not checked: it is for envelopes that OpenBundle accepted.
func Locals(envelope []byte) ([]Local, error) {
	s, err := unpack(envelope)
	if err != nil {
		return nil, err
	}
	tree, err := s.head(ProvenancePredicate)
	if err != nil {
		return nil, err
	}
	list, _ := field(tree, "predicate", "buildDefinition", "resolvedDependencies").([]any)
	var all []Local
	for _, one := range list {
		name, _ := field(one, "name").(string)
		name, ok := strings.CutPrefix(name, "local/")
		if !ok {
			continue
		}
		sum, _ := field(one, "digest", treeAlgorithm).(string)
		d, err := digest.ParseHex(sum)
		if err != nil {
			return nil, refuse("local input %.64q: %v", name, err)
		}
		all = append(all, Local{Name: name, Tree: d})
	}
	return all, nil
}
