package attestation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
)

// WriteBundle joins envelopes, the rebuilders' reports first and the agreement
// last, to the bytes of a bundle. The order of reports does not matter to readers.
func WriteBundle(envelopes ...[]byte) ([]byte, error) {
	var b bytes.Buffer
	for i, e := range envelopes {
		if _, err := unpack(e); err != nil {
			return nil, fmt.Errorf("cannot put envelope %d into the bundle: %w", i+1, err)
		}
		if err := json.Compact(&b, e); err != nil {
			return nil, fmt.Errorf("cannot put envelope %d into the bundle: %w", i+1, err)
		}
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}

// Opened is a bundle that was opened and judged again.
type Opened struct {
	// Job is what the reports were judged for: the signed agreement's when one
	// of the policy's signers made one, else the job of the reports themselves.
	Job agreement.Job
	// Verdict is our own, over the reports that verify.
	Verdict agreement.Verdict
	// Agreement is our own too; nil unless the verdict is Agree.
	Agreement *agreement.Agreement
	// Signed is what the policy's signer says; nil without one.
	Signed *SignedAgreement
	// Statements has one entry per line of the bundle, or per referrer.
	Statements []Statement
	// Problems are contradictions between the bundle's parts, or parts that the
	// policy wants and that are missing. A bundle with problems is not verified,
	// whatever the verdict.
	Problems []string
	// Notes are what a reader should know and what changes no verdict.
	Notes []string
	// Summaries are what the policy's signers summed up (SLSA VSA), newest first.
	Summaries []*SignedSummary
	// Refusals are what the policy's signers recorded of requests that ended
	// without an agreement.
	Refusals []*SignedRefusal

	policy *agreement.Policy
}

// Kind is what a line of a bundle is.
type Kind string

// The kinds.
const (
	KindReport    Kind = "report"
	KindAgreement Kind = "agreement"
	KindSummary   Kind = "summary"
	KindRefusal   Kind = "refusal"
	KindUnknown   Kind = "unknown"
)

// Statement is one line of a bundle and what became of it.
type Statement struct {
	Line        int           // of a file, from 1; 0 for a referrer
	Referrer    digest.Digest // its manifest; zero for a line of a file
	Kind        Kind
	Digest      digest.Digest  // of the payload; zero when there is none
	Name        string         // of the rebuilder or signer whose key verifies; else the rebuilder that it claims to be from
	Fingerprint string         // of the key that verifies; "" for none
	Role        agreement.Role // of whoever has that key; "" for none
	Accepted    bool           // signed by a key that counts here and then, and well formed
	Reason      string         // why, or why not
	Code        string         // the same for programs, of what the policy does not hear (agreement.RefusedError)

	// Of accepted ones:
	Predicate string    // its type
	Time      time.Time // when it was made, as it says
	Envelope  []byte    // only of a file's lines: what was signed, to be handed on
}

// Where says where the statement was found.
func (s Statement) Where() string {
	if s.Line > 0 {
		return fmt.Sprintf("line %d of the bundle", s.Line)
	}
	return "referrer " + s.Referrer.String()
}

// OpenBundle opens every statement of a bundle with the keys of the policy and
// judges the reports again. The error says only that there is nothing to
// judge: data is no bundle, or the policy cannot be used. What was found is in
// the result; [Opened.Verify] says whether it will do.
func OpenBundle(data []byte, policy *agreement.Policy) (*Opened, error) {
	if err := policy.Check(); err != nil {
		return nil, err
	}
	if len(data) > MaxBundle {
		return nil, refuse("bundle has %d bytes; at most %d are read", len(data), MaxBundle)
	}
	o := &opener{policy: policy}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if number > maxLines {
			return nil, refuse("bundle has more than %d lines", maxLines)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			o.add(Statement{Line: number}, line)
		}
	}
	if len(o.statements) == 0 {
		return nil, refuse("bundle holds no statement")
	}
	return o.judge(), nil
}

// NameIn returns the image's name that the reports of a bundle claim, all the
// same one. Whether they may is for the policy to say, narrowed to that name.
func NameIn(data []byte) (string, error) {
	if len(data) > MaxBundle {
		return "", refuse("bundle has %d bytes; at most %d are read", len(data), MaxBundle)
	}
	name := ""
	for line := range bytes.Lines(data) {
		claim, err := ReadClaim(bytes.TrimSpace(line))
		if err != nil || claim.Report == nil {
			continue
		}
		for _, s := range claim.Report.Subjects {
			if name != "" && s.Name != name {
				return "", refuse("its reports are about %.64q and %.64q", name, s.Name)
			}
			name = s.Name
		}
	}
	if name == "" {
		return "", refuse("it holds no report")
	}
	return name, nil
}

// opener gathers what the statements of a bundle or of referrers say.
type opener struct {
	policy      *agreement.Policy
	statements  []Statement
	submissions []agreement.Submission
	agreements  []*SignedAgreement
	summaries   []*SignedSummary
	refusals    []*SignedRefusal
	only        *agreement.Job // judge for this request; nil to find out which
	late        bool           // reports may have come after the agreement was signed
}

// add opens an envelope that was found where st says.
func (o *opener) add(st Statement, envelope []byte) {
	st.Kind = KindUnknown
	if err := o.open(&st, envelope); err != nil {
		o.refuse(st, err)
		return
	}
	st.Accepted = true
	if st.Line > 0 {
		st.Envelope = envelope
	}
	o.statements = append(o.statements, st)
}

func (o *opener) refuse(st Statement, err error) {
	st.Reason = err.Error()
	if refused, ok := errors.AsType[*agreement.RefusedError](err); ok {
		st.Code = refused.Code
	}
	if st.Kind == KindReport && st.Name != "" {
		o.submissions = append(o.submissions, agreement.Submission{Rebuilder: st.Name, Err: err})
	}
	o.statements = append(o.statements, st)
}

func (o *opener) open(st *Statement, envelope []byte) error {
	s, err := unpack(envelope)
	if err != nil {
		return err
	}
	st.Digest = s.digest()
	tree, err := parseTree(s.payload)
	if err != nil {
		return refuse("cannot read statement: %v", err)
	}
	st.Predicate, _ = field(tree, "predicateType").(string)
	switch st.Predicate {
	case ProvenancePredicate:
		st.Kind = KindReport
		return o.report(st, s, claimedName(tree))
	case AgreementPredicate:
		st.Kind = KindAgreement
		return o.agreement(st, s)
	case SummaryPredicate:
		st.Kind = KindSummary
		return o.summary(st, s)
	case RefusalPredicate:
		st.Kind = KindRefusal
		return o.refusal(st, s)
	default:
		return refuse("statement has predicate type %.64q, which is none of ours", st.Predicate)
	}
}

// claimedName is who an unverified report says it is from, so that a report
// whose signature was spoiled is counted as that rebuilder's failure instead
// of vanishing. A failure helps nobody, so a false claim gains nothing.
func claimedName(tree any) string {
	id, _ := field(tree, "predicate", "runDetails", "metadata", "invocationId").(string)
	parts := strings.Split(id, "/")
	if len(parts) != 3 || agreement.CheckName(parts[1]) != nil {
		return ""
	}
	return parts[1]
}

func (o *opener) report(st *Statement, s *sealed, claimed string) error {
	speaker, err := o.signed(st, s, claimed)
	if err != nil {
		st.Name = claimed
		return err
	}
	report, err := parseReport(s.payload)
	if err != nil {
		return err
	}
	report.KeyFingerprint, st.Time = st.Fingerprint, report.Finished
	if err := o.hears(st, speaker, agreement.Said{Time: report.Finished, BuilderID: report.BuilderID}, agreement.RoleRebuilder); err != nil {
		if speaker.Role != agreement.RoleRebuilder {
			st.Name = claimed
		}
		return err
	}
	o.submissions = append(o.submissions, agreement.Submission{Rebuilder: st.Name, Report: report})
	return nil
}

func (o *opener) agreement(st *Statement, s *sealed) error {
	speaker, err := o.signed(st, s, "")
	if err != nil {
		return err
	}
	a, err := parseAgreement(s.payload)
	if err != nil {
		return err
	}
	a.Signer, a.Fingerprint, st.Time = st.Name, st.Fingerprint, a.AgreedOn
	if err := o.hears(st, speaker, agreement.Said{Time: a.AgreedOn}, agreement.RoleRelease); err != nil {
		return err
	}
	o.agreements = append(o.agreements, a)
	return nil
}

// hears asks the policy, and notes why the statement counts if it does.
func (o *opener) hears(st *Statement, speaker agreement.Speaker, said agreement.Said, roles ...agreement.Role) error {
	err := o.policy.Hears(speaker, said, roles...)
	if err == nil {
		st.Reason = o.policy.Grounds(speaker, said)
	}
	return err
}

// signed finds whose key of the policy signed, in whatever role.
func (o *opener) signed(st *Statement, s *sealed, likely string) (agreement.Speaker, error) {
	speaker, ok := s.speaker(o.policy, likely)
	if !ok {
		return speaker, &SignatureError{}
	}
	st.Name, st.Role, st.Fingerprint = speaker.Name, speaker.Role, speaker.Key.Fingerprint()
	return speaker, nil
}

func (o *opener) judge() *Opened {
	opened := &Opened{Statements: o.statements, Job: o.job(), Summaries: o.summaries, Refusals: o.refusals, policy: o.policy}
	opened.Verdict, opened.Agreement = agreement.Judge(opened.Job, o.policy, o.submissions)
	opened.Notes = append(opened.Notes, opened.Verdict.Warnings...)
	if len(o.agreements) > 0 {
		opened.Signed = o.agreements[0]
	} else if !o.refused(opened) && len(o.policy.Signers) > 0 {
		opened.Problems = append(opened.Problems, "bundle holds no agreement that a signer of the policy signed")
	}
	for _, a := range o.agreements {
		opened.Problems = append(opened.Problems, o.contradictions(a, opened)...)
	}
	o.heed(opened)
	return opened
}

// refused reports whether a signer recorded that there is no agreement, so that
// nobody misses one.
func (o *opener) refused(opened *Opened) bool {
	return slices.ContainsFunc(o.refusals, func(r *SignedRefusal) bool { return r.about(opened.Job) })
}

// job returns what the reports are judged for. Without a signed agreement the
// reports themselves decide, the one with the least digest first; those about
// something else become errors, as they would for any other job.
func (o *opener) job() agreement.Job {
	if len(o.agreements) > 0 {
		job := o.agreements[0].Job
		// What was built from what is ours to find out.
		job.BuildDefinition = digest.Digest{}
		return job
	}
	if o.only != nil {
		return *o.only
	}
	if len(o.refusals) > 0 {
		return o.refusals[0].Job
	}
	var first *agreement.Report
	for _, s := range o.submissions {
		if r := s.Report; r != nil && (first == nil || bytes.Compare(r.Statement[:], first.Statement[:]) < 0) {
			first = r
		}
	}
	if first == nil {
		return agreement.Job{}
	}
	return agreement.Job{Nonce: first.Nonce, Lock: first.Lock, Definition: first.Definition}
}

// contradictions compares what a signer says with what we found. A reader's
// policy may differ from the signer's, so outcomes are compared for the
// rebuilders that both know, and the decision only under the same policy.
func (o *opener) contradictions(a *SignedAgreement, opened *Opened) []string {
	var all []string
	fault := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }

	job := a.Job
	job.BuildDefinition = digest.Digest{}
	if job != opened.Job {
		fault("bundle holds agreements about different jobs")
		return all
	}
	for _, r := range a.Results {
		there := slices.ContainsFunc(o.statements, func(s Statement) bool { return s.Digest == r.Statement && s.Kind == KindReport })
		if !r.Statement.IsZero() && !there {
			fault("the signed agreement counts statement %s… of %q, which the bundle does not hold", r.Statement.Short(), r.Rebuilder)
		}
	}
	for _, outcome := range opened.Verdict.Outcomes {
		at := slices.IndexFunc(a.Results, func(r SignedResult) bool { return r.Fingerprint == outcome.Fingerprint })
		switch {
		case at < 0 && a.Policy == o.policy.Digest():
			fault("the signed agreement has no outcome for %q", outcome.Rebuilder)
		case at >= 0 && o.late && outcome.Result == agreement.Agrees && a.Results[at].Statement.IsZero():
			opened.Notes = append(opened.Notes, fmt.Sprintf("%s agrees too; its report came after the agreement was signed", outcome.Rebuilder))
		case at >= 0 && !tellsSame(a.Results[at], outcome):
			fault("the signed agreement says %s for %q, but judging again says %s", a.Results[at].Outcome, outcome.Rebuilder, outcome.Result)
		}
	}
	if ours := opened.Agreement; ours.Valid() {
		if !slices.Equal(ours.Subjects(), a.Subjects) || ours.Job().BuildDefinition != a.Job.BuildDefinition {
			fault("the signed agreement is about other images or inputs than the reports")
		}
		n := ours.IndependentOperators()
		if a.Policy == o.policy.Digest() && n != a.IndependentOperators && !(o.late && n > a.IndependentOperators) {
			fault("the signed agreement claims %d independent operators, but there are %d", a.IndependentOperators, n)
		}
	} else if a.Policy == o.policy.Digest() {
		fault("the signed agreement says agree, but judging again by the same policy says %s", opened.Verdict.Decision)
	}
	return all
}

// tellsSame reports whether a signed result and our own say the same of a
// rebuilder. We cannot tell a failure from a silence: both leave no report.
func tellsSame(r SignedResult, o agreement.Outcome) bool {
	quiet := func(r agreement.Result) bool { return r == agreement.Errs || r == agreement.TimesOut }
	return r.Outcome == o.Result || quiet(r.Outcome) && quiet(o.Result)
}

// VerifyError says why a bundle does not prove what it should.
type VerifyError struct {
	// Decision is Disagree when the bundle proves something else or contradicts
	// itself, and Inconclusive when it only proves too little.
	Decision agreement.Decision
	Reasons  []string
}

func (e *VerifyError) Error() string { return "not verified: " + strings.Join(e.Reasons, "; ") }

// ErrNoBundle is returned by Verify on nil.
var ErrNoBundle = errors.New("no bundle was opened")

// Verify returns nil when enough rebuilders of the policy built the same and
// every image is among what they built. Without images it says only that they
// agree. The error is a *VerifyError.
func (o *Opened) Verify(images ...digest.Digest) error {
	if o == nil {
		return ErrNoBundle
	}
	switch {
	case o.Verdict.Decision == agreement.Disagree:
		return &VerifyError{Decision: agreement.Disagree, Reasons: append(slices.Clone(o.Verdict.Reasons), o.Problems...)}
	case len(o.Problems) > 0:
		return &VerifyError{Decision: agreement.Disagree, Reasons: o.Problems}
	case o.Verdict.Decision != agreement.Agree || !o.Agreement.Valid():
		return &VerifyError{Decision: agreement.Inconclusive, Reasons: o.Verdict.Reasons}
	}
	var missing []string
	for _, d := range images {
		if !slices.ContainsFunc(o.Agreement.Subjects(), func(s agreement.Subject) bool { return s.Digest == d }) {
			missing = append(missing, fmt.Sprintf("image %s is not what the rebuilders built", d))
		}
	}
	if len(missing) > 0 {
		return &VerifyError{Decision: agreement.Disagree, Reasons: missing}
	}
	return nil
}
