package attestation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

// The agreement predicate, field by field. Digests are "sha256:…".
type (
	agreed struct {
		Nonce                 string   `json:"nonce"`
		LockDigest            string   `json:"lockDigest"`
		DefinitionDigest      string   `json:"definitionDigest"`
		BuildDefinitionDigest string   `json:"buildDefinitionDigest"`
		PolicyDigest          string   `json:"policyDigest"`
		Rule                  rule     `json:"rule"`
		Results               []result `json:"results"`
		IndependentOperators  int      `json:"independentOperators"`
		Decision              string   `json:"decision"`
		AgreedOn              string   `json:"agreedOn"`
	}
	rule struct {
		Threshold    int            `json:"threshold"`
		Distinct     map[string]int `json:"distinct,omitempty"`
		AllowDissent bool           `json:"allowDissent"`
	}
	result struct {
		Rebuilder       string            `json:"rebuilder"`
		Operator        string            `json:"operator"`
		KeyFingerprint  string            `json:"keyFingerprint"`
		Outcome         string            `json:"outcome"`
		Reason          string            `json:"reason,omitempty"`
		StatementDigest string            `json:"statementDigest,omitempty"`
		CommittedAt     string            `json:"committedAt,omitempty"` // before any report was told
		BuilderID       string            `json:"builderId,omitempty"`
		Subjects        []descriptor      `json:"subjects,omitempty"`
		Environment     map[string]string `json:"environment,omitempty"`
		Surroundings    map[string]string `json:"surroundings,omitempty"`
	}
)

// ErrNoAgreement is returned when asked to sign something that agreement.Judge did not agree to.
var ErrNoAgreement = errors.New("there is no agreement to sign")

// SignAgreement returns the envelope of the signed agreement, one line of JSON.
// It takes only what agreement.Judge made, and no key of a rebuilder: who
// judges may not be who is judged. now becomes agreedOn.
func SignAgreement(ctx context.Context, a *agreement.Agreement, signer keyfile.Signer, now time.Time) ([]byte, error) {
	if !a.Valid() {
		return nil, ErrNoAgreement
	}
	if err := notJudged(a.Outcomes(), signer, "agreement"); err != nil {
		return nil, err
	}
	job, r := a.Job(), a.Rule()
	s := statement[agreed]{
		Type:          StatementType,
		Subject:       subjectDescriptors(a.Subjects()),
		PredicateType: AgreementPredicate,
		Predicate: agreed{
			Nonce:                 job.Nonce,
			LockDigest:            job.Lock.String(),
			DefinitionDigest:      job.Definition.String(),
			BuildDefinitionDigest: job.BuildDefinition.String(),
			PolicyDigest:          a.PolicyDigest().String(),
			Rule:                  rule{Threshold: r.Threshold, Distinct: r.Distinct, AllowDissent: r.AllowDissent},
			IndependentOperators:  a.IndependentOperators(),
			Decision:              string(agreement.Agree),
			AgreedOn:              formatTime(now),
		},
	}
	for _, o := range a.Outcomes() {
		s.Predicate.Results = append(s.Predicate.Results, resultOf(o))
	}
	payload, err := encode(s)
	if err == nil {
		_, err = parseAgreement(payload)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot state the agreement: %w", err)
	}
	return sign(ctx, payload, signer)
}

func resultOf(o agreement.Outcome) result {
	r := result{
		Rebuilder:      o.Rebuilder,
		Operator:       o.Operator,
		KeyFingerprint: o.Fingerprint,
		Outcome:        string(o.Result),
		Reason:         printable(o.Reason),
	}
	if o.Report != nil {
		r.StatementDigest = o.Report.Statement.String()
		r.BuilderID = o.Report.BuilderID
		r.Subjects = subjectDescriptors(o.Report.Subjects)
		r.Environment = o.Report.Environment
		r.Surroundings = o.Report.Surroundings
		if !o.Committed.IsZero() {
			r.CommittedAt = formatTime(o.Committed)
		}
	}
	return r
}

// printable cuts a reason, which may quote what a failing worker printed, to
// one line that a terminal can show.
func printable(s string) string {
	const most = 1000 // characters; enough for a worker's last words
	var clean []rune
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			r = ' '
		}
		clean = append(clean, r)
	}
	if len(clean) > most {
		clean = append(clean[:most-1], '…')
	}
	return string(clean)
}

// SignedAgreement is what an agreement statement says, which is its signer's
// word and nothing more.
type SignedAgreement struct {
	Signer               string // name in the policy
	Fingerprint          string // of the signer's key
	Job                  agreement.Job
	Policy               digest.Digest
	Rule                 agreement.Rule
	Subjects             []agreement.Subject
	Results              []SignedResult
	IndependentOperators int // behind those who agree
	AgreedOn             time.Time
	StatementDigest      digest.Digest
}

// SignedResult is one rebuilder's outcome as an agreement statement tells it.
type SignedResult struct {
	Rebuilder   string
	Operator    string
	Fingerprint string
	Outcome     agreement.Result
	Reason      string
	Statement   digest.Digest // zero for none
	BuilderID   string
	Committed   time.Time // to its report, before any was told; zero when that is not known
}

// OpenAgreement checks that the envelope is signed with the key, and reads its
// agreement. Errors are as OpenReport's.
func OpenAgreement(envelope []byte, key keyfile.PublicKey) (*SignedAgreement, error) {
	s, err := unpack(envelope)
	if err != nil {
		return nil, err
	}
	if err := s.verify(key); err != nil {
		return nil, err
	}
	a, err := parseAgreement(s.payload)
	if err != nil {
		return nil, err
	}
	a.Fingerprint = key.Fingerprint()
	return a, nil
}

func parseAgreement(payload []byte) (*SignedAgreement, error) {
	s := &sealed{payload: payload}
	tree, err := s.head(AgreementPredicate)
	if err != nil {
		return nil, err
	}
	var st statement[agreed]
	if err := decode(payload, tree, &st); err != nil {
		return nil, refuse("cannot read agreement: %v", err)
	}
	if err := validate(payload); err != nil {
		return nil, err
	}
	p := &st.Predicate
	if p.Decision != string(agreement.Agree) {
		return nil, refuse("agreement has decision %.64q, expected %q", p.Decision, agreement.Agree)
	}
	if err := agreement.CheckName(p.Nonce); err != nil {
		return nil, refuse("nonce's %v", err)
	}
	a := &SignedAgreement{
		Job:                  agreement.Job{Nonce: p.Nonce},
		Rule:                 agreement.Rule{Threshold: p.Rule.Threshold, Distinct: p.Rule.Distinct, AllowDissent: p.Rule.AllowDissent},
		IndependentOperators: p.IndependentOperators,
		StatementDigest:      s.digest(),
	}
	for _, d := range []struct {
		text string
		to   *digest.Digest
	}{{p.LockDigest, &a.Job.Lock}, {p.DefinitionDigest, &a.Job.Definition}, {p.BuildDefinitionDigest, &a.Job.BuildDefinition}, {p.PolicyDigest, &a.Policy}} {
		if *d.to, err = digest.Parse(d.text); err != nil {
			return nil, refuse("agreement: %v", err)
		}
	}
	if a.AgreedOn, err = parseTime("agreedOn", p.AgreedOn); err != nil {
		return nil, err
	}
	if a.Subjects, err = parseSubjects(st.Subject); err != nil {
		return nil, err
	}
	a.Results, err = parseResults(p.Results)
	return a, err
}

func parseResults(results []result) ([]SignedResult, error) {
	var all []SignedResult
	outcomes := []agreement.Result{agreement.Agrees, agreement.Dissents, agreement.Errs, agreement.TimesOut}
	for _, r := range results {
		if err := agreement.CheckName(r.Rebuilder); err != nil {
			return nil, refuse("rebuilder's %v", err)
		}
		if err := agreement.CheckName(r.Operator); err != nil {
			return nil, refuse("operator's %v", err)
		}
		if _, err := digest.ParseHex(r.KeyFingerprint); err != nil {
			return nil, refuse("key fingerprint of %q: %v", r.Rebuilder, err)
		}
		if !slices.Contains(outcomes, agreement.Result(r.Outcome)) {
			return nil, refuse("%q has the unknown outcome %.64q", r.Rebuilder, r.Outcome)
		}
		if printable(r.Reason) != r.Reason {
			return nil, refuse("reason for %q is long or not printable", r.Rebuilder)
		}
		one := SignedResult{Rebuilder: r.Rebuilder, Operator: r.Operator, Fingerprint: r.KeyFingerprint, Outcome: agreement.Result(r.Outcome), Reason: r.Reason, BuilderID: r.BuilderID}
		if r.StatementDigest != "" {
			d, err := digest.Parse(r.StatementDigest)
			if err != nil {
				return nil, refuse("statement of %q: %v", r.Rebuilder, err)
			}
			one.Statement = d
		}
		if r.CommittedAt != "" {
			at, err := parseTime("committedAt", r.CommittedAt)
			if err != nil {
				return nil, err
			}
			one.Committed = at
		}
		all = append(all, one)
	}
	return all, nil
}
