package attestation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

// RefusalPredicate is of the record that rebuilders were asked and did not agree.
const RefusalPredicate = "https://quorate.dev/attestation/rebuild-refusal/v0.1"

// The refusal predicate, field by field.
type refused struct {
	Nonce            string   `json:"nonce"`
	LockDigest       string   `json:"lockDigest"`
	DefinitionDigest string   `json:"definitionDigest"`
	PolicyDigest     string   `json:"policyDigest"`
	Rule             rule     `json:"rule"`
	Results          []result `json:"results"`
	Decision         string   `json:"decision"`
	Reasons          []string `json:"reasons"`
	RefusedOn        string   `json:"refusedOn"`
}

// ErrNoRefusal is returned when asked to record a refusal that agreement.Refuse did not make.
var ErrNoRefusal = errors.New("there is no refusal to sign")

// SignRefusal returns the envelope of the signed record that rebuilders did not
// agree, one line of JSON. It takes only what agreement.Refuse made, and no key
// of a rebuilder. now becomes refusedOn.
func SignRefusal(ctx context.Context, r *agreement.Refusal, signer keyfile.Signer, now time.Time) ([]byte, error) {
	if !r.Valid() {
		return nil, ErrNoRefusal
	}
	if err := notJudged(r.Outcomes(), signer, "refusal"); err != nil {
		return nil, err
	}
	job, rules := r.Job(), r.Rule()
	s := statement[refused]{
		Type:          StatementType,
		Subject:       subjectDescriptors(append(r.Built(), agreement.Subject{Name: lockfile.FileName, Digest: job.Lock})),
		PredicateType: RefusalPredicate,
		Predicate: refused{
			Nonce:            job.Nonce,
			LockDigest:       job.Lock.String(),
			DefinitionDigest: job.Definition.String(),
			PolicyDigest:     r.PolicyDigest().String(),
			Rule:             rule{Threshold: rules.Threshold, Distinct: rules.Distinct, AllowDissent: rules.AllowDissent},
			Decision:         string(r.Decision()),
			Reasons:          []string{},
			RefusedOn:        formatTime(now),
		},
	}
	for _, reason := range r.Reasons() {
		s.Predicate.Reasons = append(s.Predicate.Reasons, printable(reason))
	}
	for _, o := range r.Outcomes() {
		s.Predicate.Results = append(s.Predicate.Results, resultOf(o))
	}
	payload, err := encode(s)
	if err == nil {
		_, err = parseRefusal(payload)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot state the refusal: %w", err)
	}
	return sign(ctx, payload, signer)
}

// notJudged refuses the key of a rebuilder: who judges may not be who is judged.
func notJudged(outcomes []agreement.Outcome, signer keyfile.Signer, what string) error {
	for _, o := range outcomes {
		if o.Fingerprint == signer.Public().Fingerprint() {
			return fmt.Errorf("cannot sign the %s with the key of rebuilder %q: who judges may not be who is judged", what, o.Rebuilder)
		}
	}
	return nil
}

// SignedRefusal is what a refusal statement says, which is its signer's word
// and nothing more.
type SignedRefusal struct {
	Signer          string // name in the policy
	Fingerprint     string // of the signer's key
	Job             agreement.Job
	Policy          digest.Digest
	Decision        agreement.Decision // Disagree or Inconclusive
	Reasons         []string
	Built           []agreement.Subject // by whoever reported
	Results         []SignedResult
	RefusedOn       time.Time
	StatementDigest digest.Digest
}

// about reports whether it is of the same request.
func (r *SignedRefusal) about(job agreement.Job) bool {
	return r.Job.Nonce == job.Nonce && r.Job.Lock == job.Lock && r.Job.Definition == job.Definition
}

// say tells it in one line.
func (r *SignedRefusal) say() string {
	var who []string
	for _, one := range r.Results {
		if one.Outcome != agreement.Agrees {
			who = append(who, fmt.Sprintf("%s %s", one.Rebuilder, one.Outcome))
		}
	}
	return fmt.Sprintf("%s signed on %s that request %s ended with %q (%s)",
		r.Signer, r.RefusedOn.Format(time.RFC3339), r.Job.Nonce, r.Decision, strings.Join(who, ", "))
}

func (o *opener) refusal(st *Statement, s *sealed) error {
	speaker, err := o.signed(st, s, "")
	if err != nil {
		return err
	}
	r, err := parseRefusal(s.payload)
	if err != nil {
		return err
	}
	r.Signer, r.Fingerprint, st.Time = st.Name, st.Fingerprint, r.RefusedOn
	if err := o.hears(st, speaker, agreement.Said{Time: r.RefusedOn}, agreement.RoleRelease); err != nil {
		return err
	}
	o.refusals = append(o.refusals, r)
	return nil
}

// heed weighs refusals that a signer of the policy signed. Of the request that
// is judged, one means that something was seen which is not here any more, so
// that an agreement we still find does not stand. Of other requests, one is
// worth knowing.
func (o *opener) heed(opened *Opened) {
	for _, r := range o.refusals {
		if r.about(opened.Job) && opened.Verdict.Decision == agreement.Agree {
			opened.Problems = append(opened.Problems, r.say()+": what dissented then is not here, or was taken away")
			continue
		}
		opened.Notes = append(opened.Notes, r.say())
	}
}

func parseRefusal(payload []byte) (*SignedRefusal, error) {
	s := &sealed{payload: payload}
	tree, err := s.head(RefusalPredicate)
	if err != nil {
		return nil, err
	}
	var st statement[refused]
	if err := decode(payload, tree, &st); err != nil {
		return nil, refuse("cannot read refusal: %v", err)
	}
	if err := validate(payload); err != nil {
		return nil, err
	}
	p := &st.Predicate
	r := &SignedRefusal{
		Job: agreement.Job{Nonce: p.Nonce}, Decision: agreement.Decision(p.Decision), Reasons: p.Reasons, StatementDigest: s.digest(),
	}
	if r.Decision != agreement.Disagree && r.Decision != agreement.Inconclusive {
		return nil, refuse("refusal has decision %.64q, expected %q or %q", p.Decision, agreement.Disagree, agreement.Inconclusive)
	}
	if err := agreement.CheckName(p.Nonce); err != nil {
		return nil, refuse("nonce's %v", err)
	}
	for _, reason := range p.Reasons {
		if printable(reason) != reason {
			return nil, refuse("reason of the refusal is long or not printable")
		}
	}
	for _, d := range []struct {
		text string
		to   *digest.Digest
	}{{p.LockDigest, &r.Job.Lock}, {p.DefinitionDigest, &r.Job.Definition}, {p.PolicyDigest, &r.Policy}} {
		if *d.to, err = digest.Parse(d.text); err != nil {
			return nil, refuse("refusal: %v", err)
		}
	}
	if r.RefusedOn, err = parseTime("refusedOn", p.RefusedOn); err != nil {
		return nil, err
	}
	if r.Built, err = parseBuilt(st.Subject, r.Job.Lock); err != nil {
		return nil, err
	}
	r.Results, err = parseResults(p.Results)
	return r, err
}

// parseBuilt reads the subjects of a refusal: the lock, without which nobody
// would have been asked, and images, of which there may be several for one platform.
func parseBuilt(descriptors []descriptor, lock digest.Digest) ([]agreement.Subject, error) {
	var built []agreement.Subject
	found := false
	for _, d := range descriptors {
		s, err := parseSubject(d)
		if err != nil {
			return nil, err
		}
		if s == (agreement.Subject{Name: lockfile.FileName, Digest: lock}) {
			found = true
			continue
		}
		built = append(built, s)
	}
	if !found {
		return nil, refuse("refusal does not have its lock among its subjects")
	}
	if !slices.IsSortedFunc(built, agreement.Subject.Compare) || len(slices.Compact(slices.Clone(built))) != len(built) {
		return nil, refuse("images are not sorted, or named twice")
	}
	return built, nil
}
