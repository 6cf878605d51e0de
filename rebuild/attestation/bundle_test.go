package attestation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
)

// job is what the reports of these tests answer.
var job = agreement.Job{Lock: of("quorate.lock"), Definition: of("quorate.yaml"), Nonce: "0123456789abcdef"}

var agreedOn = time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC)

// judged opens envelopes as an orchestrator does and judges them.
func judged(t testing.TB, p *agreement.Policy, envelopes map[string][]byte) (agreement.Verdict, *agreement.Agreement) {
	t.Helper()
	var all []agreement.Submission
	for who, e := range envelopes {
		all = append(all, OpenSubmission(e, p, who))
	}
	return agreement.Judge(job, p, all)
}

// agreementOf signs what the reports of the policy's rebuilders agree on.
func agreementOf(t testing.TB, p *agreement.Policy, signer string, envelopes map[string][]byte) []byte {
	t.Helper()
	verdict, a := judged(t, p, envelopes)
	envelope, err := SignAgreement(ctx, a, keyOf(signer), agreedOn)
	if err != nil {
		t.Fatalf("%v: %v", verdict.Reasons, err)
	}
	return envelope
}

// lines joins envelopes without looking at them, as an attacker does.
func lines(envelopes ...[]byte) []byte { return append(bytes.Join(envelopes, []byte("\n")), '\n') }

func TestSignAgreementRefuses(t *testing.T) {
	for _, none := range []*agreement.Agreement{nil, {}, new(agreement.Agreement)} {
		if _, err := SignAgreement(ctx, none, keyOf("release"), agreedOn); !errors.Is(err, ErrNoAgreement) {
			t.Errorf("signed what nobody judged: %v", err)
		}
	}
	p := policy(2)
	if _, a := judged(t, p, map[string][]byte{"a": signed(t, "a", "x"), "b": signed(t, "b", "y")}); a != nil {
		t.Error("a disagreement can be signed")
	}
	_, a := judged(t, p, map[string][]byte{"a": signed(t, "a", "x"), "b": signed(t, "b", "x")})
	_, err := SignAgreement(ctx, a, keyOf("b"), agreedOn)
	if want := `cannot sign the agreement with the key of rebuilder "b": who judges may not be who is judged`; err == nil || err.Error() != want {
		t.Errorf("error %v, expected %s", err, want)
	}
}

func TestAgreementBytes(t *testing.T) {
	p := policy(2, func(p *agreement.Policy) { p.Distinct = map[string]int{"operator": 1} })
	a, b := signed(t, "a", "x"), signed(t, "b", "x")
	envelope := agreementOf(t, p, "release", map[string][]byte{"a": a, "b": b})
	var got map[string]any
	if err := json.Unmarshal(payloadOf(t, envelope), &got); err != nil {
		t.Fatal(err)
	}
	report, _ := OpenReport(a, keyOf("a").Public())
	subject := []any{map[string]any{"name": "greeter", "annotations": map[string]any{"platform": "linux/amd64"}, "digest": map[string]any{"sha256": of("x").Hex()}}}
	result := func(who string, envelope []byte) map[string]any {
		return map[string]any{
			"rebuilder": who, "operator": "acme", "keyFingerprint": keyOf(who).Public().Fingerprint(), "outcome": "agree",
			"statementDigest": digest.Of(payloadOf(t, envelope)).String(), "builderId": "https://acme.example/builders/" + who, "subjects": subject,
			"environment": map[string]any{"kernel": "6.1.0-" + who, "cpu-vendor": "GenuineIntel"}, "surroundings": map[string]any{"cpus": "1"},
		}
	}
	want := map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://quorate.dev/attestation/rebuild-agreement/v0.1", "subject": subject,
		"predicate": map[string]any{
			"nonce": "0123456789abcdef", "lockDigest": of("quorate.lock").String(), "definitionDigest": of("quorate.yaml").String(),
			"buildDefinitionDigest": report.BuildDefinition.String(), "policyDigest": p.Digest().String(),
			"rule":                 map[string]any{"threshold": 2.0, "distinct": map[string]any{"operator": 1.0}, "allowDissent": false},
			"independentOperators": 1.0, "decision": "agree", "agreedOn": "2026-11-01T03:00:00Z",
			"results": []any{result("a", a), result("b", b), map[string]any{
				"rebuilder": "c", "operator": "umbra", "keyFingerprint": keyOf("c").Public().Fingerprint(), "outcome": "error", "reason": "no report",
			}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	opened, err := OpenAgreement(envelope, keyOf("release").Public())
	if err != nil {
		t.Fatal(err)
	}
	if opened.IndependentOperators != 1 || len(opened.Results) != 3 || !opened.AgreedOn.Equal(agreedOn) {
		t.Errorf("read again it says %+v", opened)
	}
	var bad *SignatureError
	if _, err := OpenAgreement(envelope, keyOf("a").Public()); !errors.As(err, &bad) {
		t.Errorf("opened with another key: %v", err)
	}
}

func TestOpenBundle(t *testing.T) {
	ax, bx, cx, cy := signed(t, "a", "x"), signed(t, "b", "x"), signed(t, "c", "x"), signed(t, "c", "y")
	old := func(r *BuildRecord) { r.Nonce = "fedcba9876543210" }
	two := policy(2)
	laxer := policy(2, func(p *agreement.Policy) { p.AllowDissent = true })
	of2 := map[string][]byte{"a": ax, "b": bx}
	agreed := agreementOf(t, two, "release", of2)
	spoil := func(e []byte) []byte { return bytes.Replace(e, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1) }
	lie := func(old, new string) []byte {
		payload := string(payloadOf(t, agreed))
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in the agreement", old)
		}
		return forge(t, "release", []byte(strings.Replace(payload, old, new, 1)))
	}
	for _, test := range []struct {
		summary string
		policy  *agreement.Policy
		bundle  []byte
		want    string   // of Verify
		refused []string // "line: reason"
	}{
		{"two of three agree", two, lines(ax, bx, agreed), "", nil},
		{"in any order", two, lines(agreed, bx, ax), "", nil},
		{"the same line twice", two, lines(ax, ax, bx, agreed, agreed), "", nil},
		{"all three agree", two, lines(ax, bx, cx, agreementOf(t, two, "release", map[string][]byte{"a": ax, "b": bx, "c": cx})), "", nil},
		{"one report only", two, lines(ax, agreed),
			`not verified: the signed agreement counts statement ` + digest.Of(payloadOf(t, bx)).Short() + `… of "b", which the bundle does not hold; the signed agreement says agree for "b", but judging again says error; the signed agreement says agree, but judging again by the same policy says inconclusive`, nil},
		{"one report twice", two, lines(ax, ax, agreementOf(t, policy(1), "release", map[string][]byte{"a": ax})),
			"inconclusive: not verified: 1 rebuilder says the same, below the threshold of 2", nil},
		{"no agreement", two, lines(ax, bx), "not verified: bundle holds no agreement that a signer of the policy signed", nil},
		{"no agreement and none wanted", policy(2, func(p *agreement.Policy) { p.Signers = nil }), lines(ax, bx), "", nil},
		{"agreement of a stranger", two, lines(ax, bx, agreementOf(t, two, "stranger", of2)),
			"not verified: bundle holds no agreement that a signer of the policy signed", []string{"3: statement is not signed by any key of the policy, or was changed afterwards"}},
		{"dissent kept from the judge", two, lines(ax, bx, cy, agreed),
			`not verified: 1 rebuilder differs from the others, and the policy does not allow dissent; the signed agreement says error for "c", but judging again says dissent; the signed agreement says agree, but judging again by the same policy says disagree`, nil},
		{"dissent that the policy allows", laxer, lines(ax, bx, cy, agreementOf(t, laxer, "release", map[string][]byte{"a": ax, "b": bx, "c": cy})), "", nil},
		{"allowed dissent taken out", laxer, lines(ax, bx, agreementOf(t, laxer, "release", map[string][]byte{"a": ax, "b": bx, "c": cy})),
			`not verified: the signed agreement counts statement ` + digest.Of(payloadOf(t, cy)).Short() + `… of "c", which the bundle does not hold; the signed agreement says dissent for "c", but judging again says error`, nil},
		{"dissent that our policy does not allow", two, lines(ax, bx, cy, agreementOf(t, laxer, "release", map[string][]byte{"a": ax, "b": bx, "c": cy})),
			"not verified: 1 rebuilder differs from the others, and the policy does not allow dissent", nil},
		{"bad signature on a report", two, lines(ax, spoil(bx), agreed),
			`not verified: the signed agreement says agree for "b", but judging again says error; the signed agreement says agree, but judging again by the same policy says inconclusive`,
			[]string{"2: statement is not signed by any key of the policy, or was changed afterwards"}},
		{"a spoiled copy beside the good one", two, lines(ax, bx, spoil(bx), agreed), "",
			[]string{"3: statement is not signed by any key of the policy, or was changed afterwards"}},
		{"report for another lock", policy(2, func(p *agreement.Policy) { p.Signers = nil }), lines(ax, signed(t, "b", "x", func(r *BuildRecord) { r.LockDigest = of("other") })),
			"inconclusive: not verified: 1 rebuilder says the same, below the threshold of 2", nil},
		{"report of an old request", two, lines(ax, signed(t, "b", "x", old), agreementOf(t, policy(1), "release", map[string][]byte{"a": ax})),
			"inconclusive: not verified: 1 rebuilder says the same, below the threshold of 2", nil},
		{"report by a key we do not know", two, lines(ax, forge(t, "stranger", payloadOf(t, bx)), agreementOf(t, policy(1), "release", map[string][]byte{"a": ax})),
			"inconclusive: not verified: 1 rebuilder says the same, below the threshold of 2", []string{"2: statement is not signed by any key of the policy, or was changed afterwards"}},
		{"one rebuilder in another's name", two, lines(ax, forge(t, "a", payloadOf(t, bx)), agreementOf(t, policy(1), "release", map[string][]byte{"a": ax})),
			"inconclusive: not verified: 1 rebuilder says the same, below the threshold of 2", nil},
		{"agreement about other images", two, lines(ax, bx, lie(of("x").Hex()+`"},"name":"greeter"}]}`, of("y").Hex()+`"},"name":"greeter"}]}`)),
			"not verified: the signed agreement is about other images or inputs than the reports", nil},
		{"agreement claims more operators", two, lines(ax, bx, lie(`"independentOperators":1`, `"independentOperators":2`)),
			"not verified: the signed agreement claims 2 independent operators, but there are 1", nil},
		{"agreement about another request", two, lines(ax, bx, lie(`"nonce":"0123456789abcdef"`, `"nonce":"other"`)),
			"not verified: the signed agreement says agree for \"a\", but judging again says error; the signed agreement says agree for \"b\", but judging again says error; the signed agreement says agree, but judging again by the same policy says inconclusive", nil},
		{"two agreements about different requests", two, lines(ax, bx, agreed, lie(`"nonce":"0123456789abcdef"`, `"nonce":"other"`)),
			"not verified: bundle holds agreements about different jobs", nil},
		{"agreement that decides something else", two, lines(ax, bx, lie(`"decision":"agree"`, `"decision":"disagree"`)),
			"not verified: bundle holds no agreement that a signer of the policy signed", []string{`3: agreement has decision "disagree", expected "agree"`}},
		{"our policy wants two operators", policy(2, func(p *agreement.Policy) { p.Distinct = map[string]int{"operator": 2} }), lines(ax, bx, agreed),
			`inconclusive: not verified: those who say the same have 1 distinct value of "operator", expected at least 2`, nil},
		{"a foreign statement", two, lines(ax, bx, agreed, forge(t, "a", []byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://example.org/x"}`))), "",
			[]string{`4: statement has predicate type "https://example.org/x", which is none of ours`}},
		{"noise", two, lines(ax, bx, []byte("noise"), agreed), "",
			[]string{"3: cannot read envelope: it is not JSON: invalid character 'o' in literal null (expecting 'u')"}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			opened, err := OpenBundle(test.bundle, test.policy)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			var verr *VerifyError
			if err := opened.Verify(of("x")); errors.As(err, &verr) {
				got = err.Error()
				if verr.Decision != agreement.Disagree {
					got = string(verr.Decision) + ": " + got
				}
			} else if err != nil {
				t.Fatalf("error is a %T", err)
			}
			if got != test.want {
				t.Errorf("Verify says\n%s\nexpected\n%s", got, test.want)
			}
			var refused []string
			for _, s := range opened.Statements {
				if !s.Accepted {
					refused = append(refused, fmt.Sprintf("%d: %s", s.Line, s.Reason))
				}
			}
			if diff := cmp.Diff(test.refused, refused); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestVerifyImages(t *testing.T) {
	p := policy(2)
	ax, bx := signed(t, "a", "x"), signed(t, "b", "x")
	opened, err := OpenBundle(lines(ax, bx, agreementOf(t, p, "release", map[string][]byte{"a": ax, "b": bx})), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Verify(); err != nil {
		t.Errorf("without images: %v", err)
	}
	err = opened.Verify(of("x"), of("evil"))
	if want := "not verified: image " + of("evil").String() + " is not what the rebuilders built"; err == nil || err.Error() != want {
		t.Errorf("error %v, expected %s", err, want)
	}
	if err := (*Opened)(nil).Verify(); err == nil {
		t.Error("nothing at all is verified")
	}
	if err := (&Opened{Verdict: agreement.Verdict{Decision: agreement.Agree}}).Verify(); err == nil {
		t.Error("a made-up verdict is verified")
	}
}

func TestOpenBundleRefuses(t *testing.T) {
	for _, test := range []struct {
		summary string
		data    []byte
		policy  *agreement.Policy
		err     string
	}{
		{"empty", nil, policy(1), "bundle holds no statement"},
		{"blank lines", []byte("\n\n \n"), policy(1), "bundle holds no statement"},
		{"no policy", []byte("{}"), nil, "there is no policy"},
		{"two names with one key", []byte("{}"), policy(1, func(p *agreement.Policy) { p.Rebuilders[1].Key = p.Rebuilders[0].Key }),
			`policy cannot be used: names "a" and "b" have the same key; identity is key material`},
		{"too many lines", bytes.Repeat([]byte("{}\n"), maxLines+1), policy(1), "bundle has more than 4000 lines"},
	} {
		if _, err := OpenBundle(test.data, test.policy); err == nil || err.Error() != test.err {
			t.Errorf("%s: error %v, expected %s", test.summary, err, test.err)
		}
	}
}

func TestWriteBundle(t *testing.T) {
	a := signed(t, "a", "x")
	var spread bytes.Buffer
	if err := json.Indent(&spread, a, "", "  "); err != nil {
		t.Fatal(err)
	}
	got, err := WriteBundle(a, spread.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if want := lines(a, a); !bytes.Equal(got, want) {
		t.Errorf("bundle is\n%s\nexpected\n%s", got, want)
	}
	if _, err := WriteBundle(a, []byte("{}")); err == nil {
		t.Error("an empty envelope was put into a bundle")
	}
}

func FuzzOpenBundle(f *testing.F) {
	p := policy(2)
	ax, bx := signed(f, "a", "x"), signed(f, "b", "x")
	agreed := agreementOf(f, p, "release", map[string][]byte{"a": ax, "b": bx})
	f.Add(lines(ax, bx, agreed))
	f.Add(lines(ax))
	f.Fuzz(func(t *testing.T, data []byte) {
		opened, err := OpenBundle(data, p)
		if err != nil {
			return
		}
		// Nobody but the holders of keys a and b can make a bundle that verifies.
		holds := func(envelope []byte) bool {
			return slices.ContainsFunc(opened.Statements, func(s Statement) bool { return s.Accepted && s.Digest == digest.Of(payloadOf(t, envelope)) })
		}
		if opened.Verify() == nil && (!holds(ax) || !holds(bx)) {
			t.Fatalf("verified: %q", data)
		}
	})
}

func FuzzOpenAgreement(f *testing.F) {
	p := policy(2)
	ax, bx := signed(f, "a", "x"), signed(f, "b", "x")
	f.Add(payloadOf(f, agreementOf(f, p, "release", map[string][]byte{"a": ax, "b": bx})))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if a, err := parseAgreement(payload); err == nil && len(a.Subjects) == 0 {
			t.Fatal("an agreement on nothing was read")
		}
	})
}
