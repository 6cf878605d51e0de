package attestation

import (
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
)

// Claim is what a statement says, whoever signed it. It is for showing and
// never for deciding: nothing about it was checked but its form.
type Claim struct {
	Kind      Kind
	Digest    digest.Digest // of the payload
	Time      time.Time
	Report    *agreement.Report // of a report; its KeyFingerprint is empty
	Agreement *SignedAgreement  // of an agreement; its Signer is empty
	Summary   *SignedSummary    // of a summary; its Signer is empty
	Refusal   *SignedRefusal    // of a refusal; its Signer is empty
}

// ReadClaim reads what an envelope says without looking at its signature. The
// error is a *StatementError for what is none of ours.
func ReadClaim(envelope []byte) (*Claim, error) {
	s, err := unpack(envelope)
	if err != nil {
		return nil, err
	}
	tree, err := parseTree(s.payload)
	if err != nil {
		return nil, refuse("cannot read statement: %v", err)
	}
	c := &Claim{Digest: s.digest()}
	switch predicate, _ := field(tree, "predicateType").(string); predicate {
	case ProvenancePredicate:
		c.Kind = KindReport
		if c.Report, err = parseReport(s.payload); err == nil {
			c.Time = c.Report.Finished
		}
	case AgreementPredicate:
		c.Kind = KindAgreement
		if c.Agreement, err = parseAgreement(s.payload); err == nil {
			c.Time = c.Agreement.AgreedOn
		}
	case SummaryPredicate:
		c.Kind = KindSummary
		if c.Summary, err = parseSummary(s.payload); err == nil {
			c.Time = c.Summary.Time
		}
	case RefusalPredicate:
		c.Kind = KindRefusal
		if c.Refusal, err = parseRefusal(s.payload); err == nil {
			c.Time = c.Refusal.RefusedOn
		}
	default:
		return nil, refuse("statement has predicate type %.64q, which is none of ours", predicate)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}
