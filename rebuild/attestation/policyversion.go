package attestation

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

// PolicyPredicate is of a version of a policy that its maintainers sign.
const PolicyPredicate = "https://quorate.dev/attestation/policy/v0.1"

// The policy predicate, field by field. The subject is the policy: its name and
// the sha256 of agreement.Policy.Canonical.
type (
	policyVersion struct {
		Version     int             `json:"version"`
		IssuedOn    string          `json:"issuedOn"`
		Threshold   int             `json:"maintainerThreshold"`
		Maintainers []maintainerKey `json:"maintainers"`
	}
	maintainerKey struct {
		Name    string `json:"name"`
		Key     string `json:"key"` // SubjectPublicKeyInfo, PEM
		From    string `json:"from,omitempty"`
		Until   string `json:"until,omitempty"`
		Revoked string `json:"revoked,omitempty"`
	}
)

const (
	maxVersions  = 1000    // of a history; weekly changes for twenty years
	maxHistory   = 8 << 20 // bytes; a version of five maintainers with their signatures has 4 KB
	maxPolicySig = 64      // signatures of one version
)

// PolicyVersion is a version of a policy as its maintainers signed it.
//
// Versions form a chain, as the roots of TUF do: a version counts when enough
// of its own maintainers signed it and enough of those of the version before,
// whom the reader has reason to trust. The version itself says who its
// maintainers are, so a reader who knows version 5 can follow 6 and 7 in one
// file (see [FollowPolicy]).
type PolicyVersion struct {
	Name        string
	Version     int
	Digest      digest.Digest // agreement.Policy.Digest
	Issued      time.Time     // as whoever drew it up says; all signatures are of that time
	Maintainers []Maintainer
	Threshold   int

	payload []byte
	sigs    [][]byte
}

// Maintainer is one key of somebody who may sign.
type Maintainer struct {
	Name string
	Key  keyfile.PublicKey
	agreement.Term
}

// SignedBy returns which maintainers of this version signed a version, sorted;
// of is usually v itself or the one after. Two keys of one name are one voice.
func (v *PolicyVersion) SignedBy(of *PolicyVersion) []string {
	pae := dsse.PAE(PayloadType, of.payload)
	var names []string
	for _, m := range v.Maintainers {
		signed := m.Holds(of.Issued) && slices.ContainsFunc(of.sigs, func(sig []byte) bool { return m.Key.Verify(pae, sig) == nil })
		if signed && !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Missing says in a sentence whose signatures a version still needs of the
// maintainers of v; "" for none.
func (v *PolicyVersion) Missing(of *PolicyVersion) string {
	have := v.SignedBy(of)
	need := v.Threshold - len(have)
	if need <= 0 {
		return ""
	}
	var who []string
	for _, m := range v.Maintainers {
		if m.Holds(of.Issued) && !slices.Contains(have, m.Name) && !slices.Contains(who, m.Name) {
			who = append(who, m.Name)
		}
	}
	return fmt.Sprintf("%d more of the maintainers of version %d: %s", need, v.Version, strings.Join(who, ", "))
}

// PolicyError says why a version of a policy is not accepted.
type PolicyError struct {
	Message string
	// Rollback is set when a policy that was seen signed is offered in a lower
	// version, in another form of the same version, or unsigned.
	Rollback bool
}

func (e *PolicyError) Error() string { return e.Message }

func (v *PolicyVersion) title() string {
	return fmt.Sprintf("policy %q, version %d,", v.Name, v.Version)
}

// FollowPolicy says whether a policy is to be believed: it is the last version
// of a history, signed by enough of its maintainers, and, when an earlier
// version was seen, every version since is signed by enough maintainers of the
// one before. seen is nil for a reader who has seen none and takes this one as
// it is given. It returns the version to remember.
func FollowPolicy(p *agreement.Policy, history []*PolicyVersion, seen *PolicyVersion) (*PolicyVersion, error) {
	fail := func(rollback bool, format string, args ...any) (*PolicyVersion, error) {
		return nil, &PolicyError{Message: fmt.Sprintf(format, args...), Rollback: rollback}
	}
	if len(history) == 0 {
		return fail(false, "policy %q is not signed", p.Name)
	}
	last := history[len(history)-1]
	switch {
	case last.Name != p.Name:
		return fail(false, "the signatures are of policy %q, not %q", last.Name, p.Name)
	case seen != nil && p.Version < seen.Version:
		return fail(true, "policy %q has version %d, but version %d was seen before: somebody may be offering an old one", p.Name, p.Version, seen.Version)
	case last.Version != p.Version:
		return fail(false, "policy %q has version %d, but its signatures are of version %d", p.Name, p.Version, last.Version)
	case last.Digest != p.Digest():
		return fail(false, "policy %q, version %d, is not what its maintainers signed: it was changed since", p.Name, p.Version)
	case seen != nil && seen.Version == last.Version && seen.Digest != last.Digest:
		return fail(true, "policy %q, version %d, is another one than the version %d that was seen before: maintainers signed two, or somebody else did", p.Name, p.Version, seen.Version)
	}
	trusted := seen
	for _, v := range history {
		if seen != nil && v.Version <= seen.Version && v != last {
			continue
		}
		if trusted != nil && v.Version > trusted.Version {
			if missing := trusted.Missing(v); missing != "" {
				return fail(false, "%s is not signed by enough maintainers of version %d, who have to hand over; it needs %s", v.title(), trusted.Version, missing)
			}
		}
		if v == last || seen != nil {
			if missing := v.Missing(v); missing != "" {
				return fail(false, "%s is not signed by enough of its maintainers; it needs %s", v.title(), missing)
			}
		}
		if trusted != nil {
			trusted = v
		}
	}
	return last, nil
}

// SignPolicy adds a maintainer's signature for a policy to its history and
// returns the longer history. A version that is not in it yet begins with this
// signature, and with now as its time. The signer has to be a maintainer of the
// policy, or of the version before.
func SignPolicy(ctx context.Context, p *agreement.Policy, history []*PolicyVersion, signer keyfile.Signer, now time.Time) ([]*PolicyVersion, error) {
	v, before, err := begin(p, history, now)
	if err != nil {
		return nil, err
	}
	may := slices.Clone(v.Maintainers)
	if before != nil {
		may = append(may, before.Maintainers...)
	}
	may = slices.DeleteFunc(may, func(m Maintainer) bool { return m.Key != signer.Public() })
	switch {
	case len(may) == 0:
		return nil, fmt.Errorf("key %.16s… is none of the maintainers of policy %q", signer.Public().Fingerprint(), p.Name)
	case !slices.ContainsFunc(may, func(m Maintainer) bool { return m.Holds(v.Issued) }):
		return nil, fmt.Errorf("the key of maintainer %q does not count at %s, when this version was drawn up", may[0].Name, formatTime(v.Issued))
	}
	pae := dsse.PAE(PayloadType, v.payload)
	if slices.ContainsFunc(v.sigs, func(sig []byte) bool { return signer.Public().Verify(pae, sig) == nil }) {
		return nil, ErrSignedAlready
	}
	sig, err := signer.Sign(ctx, pae)
	if err != nil {
		return nil, fmt.Errorf("cannot sign: %w", err)
	}
	signed := *v
	signed.sigs = append(slices.Clone(v.sigs), sig)
	longer := slices.DeleteFunc(slices.Clone(history), func(h *PolicyVersion) bool { return h.Version == v.Version })
	return append(longer, &signed), nil
}

// ErrSignedAlready is returned by SignPolicy when there is nothing to add.
var ErrSignedAlready = errors.New("this key has signed this version already")

// begin returns the version of a policy to sign, and the one before it.
func begin(p *agreement.Policy, history []*PolicyVersion, now time.Time) (v, before *PolicyVersion, err error) {
	if p.Name == "" {
		return nil, nil, errors.New("only a policy with a name, a version and maintainers can be signed")
	}
	if n := len(history); n > 0 {
		last := history[n-1]
		switch {
		case last.Name != p.Name:
			return nil, nil, fmt.Errorf("the signatures there are of policy %q, not %q", last.Name, p.Name)
		case last.Version > p.Version:
			return nil, nil, fmt.Errorf("the policy has version %d, but version %d is signed already; raise its version", p.Version, last.Version)
		case last.Version == p.Version && last.Digest != p.Digest():
			return nil, nil, fmt.Errorf("version %d was signed with another content; raise the version in the policy: what somebody has signed does not change", p.Version)
		case last.Version == p.Version && n > 1:
			return last, history[n-2], nil
		case last.Version == p.Version:
			return last, nil, nil
		}
		before = last
	}
	v, err = newPolicyVersion(p, now)
	return v, before, err
}

func newPolicyVersion(p *agreement.Policy, now time.Time) (*PolicyVersion, error) {
	st := statement[policyVersion]{
		Type: StatementType, PredicateType: PolicyPredicate,
		Subject:   []descriptor{{Name: p.Name, Digest: sha256Set(p.Digest())}},
		Predicate: policyVersion{Version: p.Version, IssuedOn: formatTime(now), Threshold: p.MaintainersNeeded()},
	}
	optional := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return formatTime(t)
	}
	for _, s := range p.Speakers() {
		if s.Role == agreement.RoleMaintainer {
			st.Predicate.Maintainers = append(st.Predicate.Maintainers, maintainerKey{
				Name: s.Name, Key: string(s.Key.PEM()), From: optional(s.From), Until: optional(s.Until), Revoked: optional(s.Revoked),
			})
		}
	}
	payload, err := encode(st)
	if err != nil {
		return nil, err
	}
	return parsePolicyVersion(payload)
}

// WritePolicyHistory writes versions as JSON Lines, one DSSE envelope each; it
// has a signature for each maintainer who signed.
func WritePolicyHistory(history []*PolicyVersion) ([]byte, error) {
	var b bytes.Buffer
	for _, v := range history {
		e := dsse.Envelope{PayloadType: PayloadType, Payload: base64.StdEncoding.EncodeToString(v.payload)}
		for _, sig := range v.sigs {
			e.Signatures = append(e.Signatures, dsse.Signature{Sig: base64.StdEncoding.EncodeToString(sig)})
		}
		line, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("cannot encode the envelope: %w", err)
		}
		b.Write(append(line, '\n'))
	}
	return b.Bytes(), nil
}

// OpenPolicyHistory reads what WritePolicyHistory writes. It checks the form
// only; who signed what is for SignedBy and FollowPolicy to say. The error is a
// *StatementError.
func OpenPolicyHistory(data []byte) ([]*PolicyVersion, error) {
	if len(data) > maxHistory {
		return nil, refuse("the history has %d bytes; at most %d are read", len(data), maxHistory)
	}
	var history []*PolicyVersion
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(history) == maxVersions {
			return nil, refuse("the history has more than %d versions", maxVersions)
		}
		v, err := openPolicyVersion(line)
		if err != nil {
			return nil, refuse("line %d: %v", number, err)
		}
		if n := len(history); n > 0 && (history[n-1].Version >= v.Version || history[n-1].Name != v.Name) {
			return nil, refuse("line %d: version %d of policy %q follows version %d of policy %q", number, v.Version, v.Name, history[n-1].Version, history[n-1].Name)
		}
		history = append(history, v)
	}
	if len(history) == 0 {
		return nil, refuse("the history is empty")
	}
	return history, nil
}

func openPolicyVersion(envelope []byte) (*PolicyVersion, error) {
	payload, sigs, err := unseal(envelope)
	if err != nil {
		return nil, err
	}
	if len(sigs) == 0 || len(sigs) > maxPolicySig {
		return nil, refuse("envelope has %d signatures, expected 1 to %d", len(sigs), maxPolicySig)
	}
	v, err := parsePolicyVersion(payload)
	if err != nil {
		return nil, err
	}
	v.sigs = sigs
	return v, nil
}

func parsePolicyVersion(payload []byte) (*PolicyVersion, error) {
	s := &sealed{payload: payload}
	tree, err := s.head(PolicyPredicate)
	if err != nil {
		return nil, err
	}
	var st statement[policyVersion]
	if err := decode(payload, tree, &st); err != nil {
		return nil, refuse("cannot read policy version: %v", err)
	}
	if err := validate(payload); err != nil {
		return nil, err
	}
	p := &st.Predicate
	if len(st.Subject) != 1 || p.Version < 1 || p.Threshold < 1 || len(p.Maintainers) > maxPolicySig {
		return nil, refuse("it is of %d policies, in version %d, with %d maintainers of whom %d must sign", len(st.Subject), p.Version, len(p.Maintainers), p.Threshold)
	}
	v := &PolicyVersion{Name: st.Subject[0].Name, Version: p.Version, Threshold: p.Threshold, payload: payload}
	if err := agreement.CheckName(v.Name); err != nil {
		return nil, refuse("policy's %v", err)
	}
	if v.Digest, err = digestOf(st.Subject[0], "sha256"); err != nil {
		return nil, err
	}
	if v.Issued, err = parseTime("issuedOn", p.IssuedOn); err != nil {
		return nil, err
	}
	for _, m := range p.Maintainers {
		one, err := parseMaintainer(m)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(v.Maintainers, func(other Maintainer) bool { return other.Key == one.Key }) {
			return nil, refuse("maintainer %q has a key that is there already", m.Name)
		}
		v.Maintainers = append(v.Maintainers, *one)
	}
	return v, nil
}

func parseMaintainer(m maintainerKey) (*Maintainer, error) {
	if err := agreement.CheckName(m.Name); err != nil {
		return nil, refuse("maintainer's %v", err)
	}
	key, err := keyfile.ParsePublic([]byte(m.Key))
	if err != nil {
		return nil, refuse("key of maintainer %q: %v", m.Name, err)
	}
	one := &Maintainer{Name: m.Name, Key: key}
	for _, t := range []struct {
		text string
		to   *time.Time
	}{{m.From, &one.From}, {m.Until, &one.Until}, {m.Revoked, &one.Revoked}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = parseTime("time", t.text); err != nil {
			return nil, err
		}
	}
	return one, nil
}
