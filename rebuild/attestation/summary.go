package attestation

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

// SummaryPredicate is of a SLSA verification summary attestation (VSA).
const SummaryPredicate = "https://slsa.dev/verification_summary/v1"

const (
	// VerifierID says in a VSA who verified, unless SummaryOptions says otherwise.
	VerifierID = "https://quorate.dev/verifiers/policy/v1"
	// policyURI says what a VSA's policy digest is of: agreement.Policy.Canonical,
	// which is the same for every spelling of a policy file.
	policyURI = "https://quorate.dev/policies/canonical/v2"
	// ReproducedLevel is SLSA's "reproduced by two or more builders", which may
	// only be said of independently operated ones (SLSA 1.2, verified-properties).
	ReproducedLevel = "SLSA_BUILD_REPRODUCED"
	passed          = "PASSED"
	slsaVersion     = "1.2"
)

// The VSA predicate, field by field as SLSA names them.
type (
	summary struct {
		Verifier     verifier     `json:"verifier"`
		TimeVerified string       `json:"timeVerified"`
		ResourceURI  string       `json:"resourceUri"`
		Policy       descriptor   `json:"policy"`
		Inputs       []descriptor `json:"inputAttestations"`
		Result       string       `json:"verificationResult"`
		Levels       []string     `json:"verifiedLevels"`
		SLSAVersion  string       `json:"slsaVersion,omitempty"`
	}
	verifier struct {
		ID      string            `json:"id"`
		Version map[string]string `json:"version,omitempty"`
	}
)

// Input is an attestation that a summary rests on.
type Input struct {
	URI    string        // oci://REPOSITORY@sha256:…
	Digest digest.Digest // of the referrer's manifest
}

// SummaryOptions say what a summary is about.
type SummaryOptions struct {
	VerifierID string // a URI; "" for VerifierID
	Version    string // of Quorate
	Resource   string // oci://REPOSITORY; readers of a VSA compare it with where they found the image
	// Images is what the summary is about: manifests that the rebuilders agree
	// on, and, with Index, the index that names nothing else.
	Images []digest.Digest
	Index  digest.Digest // zero for none
	Inputs []Input       // all that were used
	Time   time.Time
}

// SignSummary returns the envelope of a VSA that says that Opened.Verify is
// content with the images. It refuses what is not verified, and the key of a
// rebuilder. SLSA_BUILD_REPRODUCED is said when rebuilders of two operators,
// as the policy names them, agree; whatever the number of rebuilders, one
// operator is not enough. No SLSA build level is claimed: the policy does not
// say what its rebuilders are worth.
func SignSummary(ctx context.Context, o *Opened, s SummaryOptions, signer keyfile.Signer) ([]byte, error) {
	if len(s.Images) == 0 || len(s.Inputs) == 0 {
		return nil, errors.New("cannot sum up nothing: there is no image, or no attestation of it")
	}
	if err := o.Verify(s.Images...); err != nil {
		return nil, fmt.Errorf("cannot sum up: %w", err)
	}
	if err := notJudged(o.Agreement.Outcomes(), signer, "summary"); err != nil {
		return nil, err
	}
	payload, err := o.summaryPayload(s)
	if err == nil {
		_, err = parseSummary(payload)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot sum up: %w", err)
	}
	return sign(ctx, payload, signer)
}

func (o *Opened) summaryPayload(s SummaryOptions) ([]byte, error) {
	v := verifier{ID: s.VerifierID}
	if v.ID == "" {
		v.ID = VerifierID
	}
	if s.Version != "" {
		v.Version = map[string]string{versionName: s.Version}
	}
	var about []agreement.Subject
	for _, subject := range o.Agreement.Subjects() {
		if slices.Contains(s.Images, subject.Digest) {
			about = append(about, subject)
		}
	}
	if !s.Index.IsZero() {
		about = append(about, agreement.Subject{Name: about[0].Name, Digest: s.Index})
	}
	var inputs []descriptor
	for _, in := range s.Inputs {
		inputs = append(inputs, descriptor{URI: in.URI, Digest: sha256Set(in.Digest)})
	}
	slices.SortFunc(inputs, compareDescriptors)
	return encode(statement[summary]{
		Type: StatementType, Subject: subjectDescriptors(about), PredicateType: SummaryPredicate,
		Predicate: summary{
			Verifier: v, TimeVerified: formatTime(s.Time), ResourceURI: s.Resource,
			Policy: descriptor{URI: policyURI, Digest: sha256Set(o.policy.Digest())},
			Inputs: inputs, Result: passed, Levels: levels(o.Agreement), SLSAVersion: slsaVersion,
		},
	})
}

// levels says what was found in the words of a VSA. Names of our own may not
// begin with SLSA_.
func levels(a *agreement.Agreement) []string {
	agree := 0
	for _, o := range a.Outcomes() {
		if o.Result == agreement.Agrees {
			agree++
		}
	}
	all := []string{fmt.Sprintf("QUORATE_REBUILD_AGREE_%d_OF_%d", agree, len(a.Outcomes()))}
	if a.IndependentOperators() >= 2 {
		all = append(all, ReproducedLevel)
	}
	return all
}

// SignedSummary is what a VSA says, which is its signer's word and nothing more.
type SignedSummary struct {
	Signer    string // name in the policy
	Verifier  string
	Time      time.Time
	Resource  string
	Policy    digest.Digest
	Subjects  []agreement.Subject
	Inputs    []Input
	Passed    bool
	Levels    []string
	Statement digest.Digest
}

// Reproduced reports whether it claims SLSA_BUILD_REPRODUCED.
func (s *SignedSummary) Reproduced() bool { return slices.Contains(s.Levels, ReproducedLevel) }

func (o *opener) summary(st *Statement, s *sealed) error {
	speaker, err := o.signed(st, s, "")
	if err != nil {
		return err
	}
	v, err := parseSummary(s.payload)
	if err != nil {
		return err
	}
	v.Signer, st.Time = st.Name, v.Time
	if err := o.hears(st, speaker, agreement.Said{Time: v.Time}, agreement.RoleRelease, agreement.RoleAuditor); err != nil {
		return err
	}
	o.summaries = append(o.summaries, v)
	slices.SortStableFunc(o.summaries, func(a, b *SignedSummary) int { return b.Time.Compare(a.Time) })
	return nil
}

// OpenSummary checks that the envelope is signed with the key, and reads its VSA.
func OpenSummary(envelope []byte, key keyfile.PublicKey) (*SignedSummary, error) {
	s, err := unpack(envelope)
	if err != nil {
		return nil, err
	}
	if err := s.verify(key); err != nil {
		return nil, err
	}
	return parseSummary(s.payload)
}

func parseSummary(payload []byte) (*SignedSummary, error) {
	s := &sealed{payload: payload}
	tree, err := s.head(SummaryPredicate)
	if err != nil {
		return nil, err
	}
	var st statement[summary]
	if err := decode(payload, tree, &st); err != nil {
		return nil, refuse("cannot read summary: %v", err)
	}
	if err := validate(payload); err != nil {
		return nil, err
	}
	p := &st.Predicate
	v := &SignedSummary{Verifier: p.Verifier.ID, Resource: p.ResourceURI, Levels: p.Levels, Passed: p.Result == passed, Statement: s.digest()}
	for what, uri := range map[string]string{"verifier.id": p.Verifier.ID, "resourceUri": p.ResourceURI} {
		if u, err := url.Parse(uri); err != nil || !u.IsAbs() || !strictyaml.Printable(uri) || len(uri) > maxURI {
			return nil, refuse("%s %.64q is no URI", what, uri)
		}
	}
	if p.Result != passed && p.Result != "FAILED" {
		return nil, refuse("verificationResult is %.64q, expected PASSED or FAILED", p.Result)
	}
	for _, level := range p.Levels {
		if err := checkText("level", level); err != nil {
			return nil, err
		}
	}
	if v.Time, err = parseTime("timeVerified", p.TimeVerified); err != nil {
		return nil, err
	}
	if v.Policy, err = digestOf(p.Policy, "sha256"); err != nil {
		return nil, err
	}
	if v.Subjects, err = parseSubjects(st.Subject); err != nil {
		return nil, err
	}
	for _, in := range p.Inputs {
		d, err := digestOf(in, "sha256")
		if err != nil {
			return nil, err
		}
		if len(in.URI) > maxURI || !strictyaml.Printable(in.URI) || !strings.HasPrefix(in.URI, "oci://") {
			return nil, refuse("input %.64q is no oci:// URI", in.URI)
		}
		v.Inputs = append(v.Inputs, Input{URI: in.URI, Digest: d})
	}
	return v, nil
}

// maxURI is in bytes: a reference of a registry has at most 1024.
const maxURI = 2048
