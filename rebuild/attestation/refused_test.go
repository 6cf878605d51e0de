package attestation

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/rebuild/agreement"
)

// refusalOf signs that the rebuilders of these envelopes do not agree.
func refusalOf(t testing.TB, p *agreement.Policy, signer string, envelopes map[string][]byte) []byte {
	t.Helper()
	var all []agreement.Submission
	for name, e := range envelopes {
		all = append(all, OpenSubmission(e, p, name))
	}
	envelope, err := SignRefusal(ctx, agreement.Refuse(job, p, all), keyOf(signer), agreedOn)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

func TestSignRefusalRefuses(t *testing.T) {
	for _, none := range []*agreement.Refusal{nil, {}, new(agreement.Refusal)} {
		if _, err := SignRefusal(ctx, none, keyOf("release"), agreedOn); !errors.Is(err, ErrNoRefusal) {
			t.Errorf("signed what nobody judged: %v", err)
		}
	}
	p := policy(2)
	same := []agreement.Submission{OpenSubmission(signed(t, "a", "x"), p, "a"), OpenSubmission(signed(t, "b", "x"), p, "b")}
	if agreement.Refuse(job, p, same) != nil {
		t.Error("an agreement can be signed as a refusal")
	}
	if agreement.Refuse(agreement.Job{}, p, same) != nil {
		t.Error("a job that names nothing can be refused")
	}
	_, err := SignRefusal(ctx, agreement.Refuse(job, p, same[:1]), keyOf("a"), agreedOn)
	if want := `cannot sign the refusal with the key of rebuilder "a": who judges may not be who is judged`; err == nil || err.Error() != want {
		t.Errorf("error %v, expected %s", err, want)
	}
}

func TestRefusalBytes(t *testing.T) {
	p := policy(2)
	a, b := signed(t, "a", "x"), signed(t, "b", "y")
	envelope := refusalOf(t, p, "release", map[string][]byte{"a": a, "b": b})
	var got struct {
		PredicateType string
		Subject       []struct {
			Name   string
			Digest map[string]string
		}
		Predicate struct {
			Decision string
			Reasons  []string
			Results  []struct{ Rebuilder, Outcome, Reason string }
		}
	}
	if err := json.Unmarshal(payloadOf(t, envelope), &got); err != nil {
		t.Fatal(err)
	}
	digests := map[string]bool{}
	for _, s := range got.Subject {
		digests[s.Digest["sha256"]] = true
	}
	want := map[string]bool{of("x").Hex(): true, of("y").Hex(): true, of("quorate.lock").Hex(): true}
	if diff := cmp.Diff(want, digests); diff != "" || got.PredicateType != RefusalPredicate || got.Predicate.Decision != "disagree" || len(got.Predicate.Reasons) != 1 {
		t.Errorf("%s\n%+v", diff, got)
	}
	var outcomes []string
	for _, r := range got.Predicate.Results {
		outcomes = append(outcomes, r.Rebuilder+" "+r.Outcome)
	}
	if diff := cmp.Diff([]string{"a dissent", "b dissent", "c error"}, outcomes); diff != "" {
		t.Error(diff)
	}
}

// A refusal is never an agreement: not by its type, not by its decision, not
// with reports that would agree without what it tells of.
func TestRefusalIsNoAgreement(t *testing.T) {
	p := policy(2)
	ax, bx, cy := signed(t, "a", "x"), signed(t, "b", "x"), signed(t, "c", "y")
	refusal := refusalOf(t, p, "release", map[string][]byte{"a": ax, "b": bx, "c": cy})
	agreed := agreementOf(t, p, "release", map[string][]byte{"a": ax, "b": bx})
	if _, err := OpenAgreement(refusal, keyOf("release").Public()); err == nil || !strings.Contains(err.Error(), "expected \""+AgreementPredicate+"\"") {
		t.Errorf("opened as an agreement: %v", err)
	}
	change := func(envelope []byte, old, new string) []byte {
		t.Helper()
		payload := string(payloadOf(t, envelope))
		if !strings.Contains(payload, old) {
			t.Fatalf("no %s in %s", old, payload)
		}
		return forge(t, "release", []byte(strings.Replace(payload, old, new, 1)))
	}
	noSigners := policy(2, func(p *agreement.Policy) { p.Signers = nil })
	for _, test := range []struct {
		summary string
		policy  *agreement.Policy
		bundle  []byte
		want    string
		exit    agreement.Decision
	}{
		{"what rebuild leaves", p, lines(ax, bx, cy, refusal), "the policy does not allow dissent", agreement.Disagree},
		{"the dissent taken out", p, lines(ax, bx, refusal), `release signed on 2026-11-01T03:00:00Z that request 0123456789abcdef ended with "disagree" (c dissent): what dissented then is not here`, agreement.Disagree},
		{"beside an agreement on the rest", p, lines(ax, bx, agreed, refusal), "what dissented then is not here", agreement.Disagree},
		{"too few", p, lines(ax, refusalOf(t, p, "release", map[string][]byte{"a": ax})), "below the threshold", agreement.Inconclusive},
		{"alone", p, lines(refusal), "no rebuilder has a report that counts", agreement.Inconclusive},
		{"the words of a refusal as an agreement", p, lines(ax, bx, change(refusal, RefusalPredicate, AgreementPredicate)), "no agreement that a signer of the policy signed", agreement.Disagree},
		{"a refusal that says agree", p, lines(ax, bx, change(refusal, `"decision":"disagree"`, `"decision":"agree"`)), "no agreement that a signer of the policy signed", agreement.Disagree},
		{"an agreement that says disagree", p, lines(ax, bx, change(agreed, `"decision":"agree"`, `"decision":"disagree"`)), "no agreement that a signer of the policy signed", agreement.Disagree},
		{"a refusal of the policy's nobody", noSigners, lines(ax, bx, refusal), "", ""},
	} {
		t.Run(test.summary, func(t *testing.T) {
			opened, err := OpenBundle(test.bundle, test.policy)
			if err != nil {
				t.Fatal(err)
			}
			err = opened.Verify()
			var wrong *VerifyError
			if test.want == "" && err != nil || test.want != "" && (!errors.As(err, &wrong) || !strings.Contains(err.Error(), test.want) || wrong.Decision != test.exit) {
				t.Errorf("got %v, expected %s: %s", err, test.exit, test.want)
			}
		})
	}
}

// Beside an image a refusal of its own request undoes an agreement; one of
// another request is told.
func TestReferrersWithRefusals(t *testing.T) {
	p := policy(2)
	ax, bx, cy := signed(t, "a", "x"), signed(t, "b", "x"), signed(t, "c", "y")
	agreed := agreementOf(t, p, "release", map[string][]byte{"a": ax, "b": bx})
	for _, test := range []struct{ summary, nonce, want, note string }{
		{"the same request", "0123456789abcdef", "what dissented then is not here", ""},
		{"another request", "fedcba9876543210", "", `release signed on 2026-11-01T03:00:00Z that request fedcba9876543210 ended with "disagree" (c dissent)`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			refusal := forge(t, "release", []byte(strings.ReplaceAll(string(payloadOf(t, refusalOf(t, p, "release", map[string][]byte{"a": ax, "b": bx, "c": cy}))), job.Nonce, test.nonce)))
			r, err := GatherReferrers(p)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range []bundled{sigstore(t, "a", ax), sigstore(t, "b", bx), sigstore(t, "release", agreed), sigstore(t, "release", refusal)} {
				r.Add(b.manifest, b.data)
			}
			o := r.Judge(here, of("x"))
			err = o.Verify(of("x"))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, expected %q", err, test.want)
			}
			if got := strings.Join(o.Notes, "; "); got != test.note {
				t.Errorf("notes %q, expected %q", got, test.note)
			}
		})
	}
}

func FuzzParseRefusal(f *testing.F) {
	p := policy(2)
	f.Add(payloadOf(f, refusalOf(f, p, "release", map[string][]byte{"a": signed(f, "a", "x"), "b": signed(f, "b", "y")})))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"` + RefusalPredicate + `"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := parseRefusal(payload)
		if err != nil {
			return
		}
		if r.Decision == agreement.Agree || r.Job.Lock.IsZero() || r.RefusedOn.IsZero() {
			t.Errorf("accepted %+v", r)
		}
		tree, _ := parseTree(payload)
		if _, err := canonical(tree); err != nil {
			t.Errorf("accepted what cannot be written again: %v", err)
		}
	})
}

// FuzzReadClaim: what anybody may have written is shown only when it is one of
// the four kinds, whole, and nothing of it counts as signed.
func FuzzReadClaim(f *testing.F) {
	p := policy(2)
	a, b := signed(f, "a", "x"), signed(f, "b", "x")
	agreed := agreementOf(f, p, "release", map[string][]byte{"a": a, "b": b})
	for _, e := range [][]byte{a, agreed, refusalOf(f, p, "release", map[string][]byte{"a": a, "b": signed(f, "b", "y")}), summed(f, p, lines(a, b, agreed), sigstore(f, "a", a))} {
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, envelope []byte) {
		c, err := ReadClaim(envelope)
		if err != nil {
			return
		}
		kinds := 0
		for _, is := range []bool{c.Report != nil, c.Agreement != nil, c.Summary != nil, c.Refusal != nil} {
			if is {
				kinds++
			}
		}
		if kinds != 1 || c.Kind == KindUnknown || c.Digest.IsZero() || c.Time.IsZero() {
			t.Errorf("read %+v", c)
		}
		if c.Report != nil && c.Report.KeyFingerprint != "" || c.Agreement != nil && c.Agreement.Signer != "" || c.Summary != nil && c.Summary.Signer != "" || c.Refusal != nil && c.Refusal.Signer != "" {
			t.Errorf("a claim names who signed it: %+v", c)
		}
	})
}
