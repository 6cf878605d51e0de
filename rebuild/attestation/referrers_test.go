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

// bundled is a Sigstore bundle of an envelope, and the manifest that would hold it.
type bundled struct {
	manifest digest.Digest
	data     []byte
}

func sigstore(t testing.TB, who string, envelope []byte) bundled {
	t.Helper()
	b, err := SigstoreBundle(envelope, keyOf(who).Public())
	if err != nil {
		t.Fatal(err)
	}
	return bundled{digest.Of(b), b}
}

const here = "oci://registry.example/app"

// summed signs a summary that lists the bundles, over reports of a and b and an agreement.
func summed(t testing.TB, p *agreement.Policy, bundle []byte, inputs ...bundled) []byte {
	t.Helper()
	opened, err := OpenBundle(bundle, p)
	if err != nil {
		t.Fatal(err)
	}
	o := SummaryOptions{Version: "0.1.0", Resource: here, Images: []digest.Digest{of("x")}, Time: agreedOn.Add(time.Minute)}
	for _, in := range inputs {
		o.Inputs = append(o.Inputs, Input{URI: here + "@" + in.manifest.String(), Digest: in.manifest})
	}
	envelope, err := SignSummary(ctx, opened, o, keyOf("release"))
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

func TestSigstoreBundle(t *testing.T) {
	envelope := signed(t, "a", "x")
	b, err := SigstoreBundle(envelope, keyOf("a").Public())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	var inner map[string]any
	if err := json.Unmarshal(envelope, &inner); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
		"verificationMaterial": map[string]any{
			"publicKey": map[string]any{"hint": keyOf("a").Public().Fingerprint()}, "tlogEntries": []any{}, "timestampVerificationData": map[string]any{},
		},
		"dsseEnvelope": inner,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	back, err := OpenSigstoreBundle(b)
	if err != nil || !bytes.Equal(back, envelope) {
		t.Errorf("came back as %s (%v)", back, err)
	}
	if _, err := SigstoreBundle(envelope, keyOf("b").Public()); err == nil {
		t.Error("a bundle names a key that did not sign")
	}
	for summary, data := range map[string]string{
		"another version":         strings.Replace(string(b), "v0.3+json", "v0.2+json", 1),
		"no envelope":             `{"mediaType":"` + SigstoreMediaType + `"}`,
		"two envelopes":           strings.Replace(string(b), `{"mediaType"`, `{"dsseEnvelope":{},"mediaType"`, 1),
		"cut":                     string(b[:len(b)/2]),
		"nothing":                 "",
		"deep":                    strings.Repeat("[", 100_000),
		"larger than can be":      strings.Repeat(" ", MaxSigstoreBundle+1),
		"the bundle is no object": "[]",
	} {
		if _, err := OpenSigstoreBundle([]byte(data)); err == nil {
			t.Errorf("%s: opened", summary)
		}
	}
}

func TestSummary(t *testing.T) {
	apart := policy(2, func(p *agreement.Policy) { p.Rebuilders[1].Operator = "umbra" })
	together := policy(2)
	for _, test := range []struct {
		summary string
		policy  *agreement.Policy
		levels  []string
	}{
		{"two operators", apart, []string{"QUORATE_REBUILD_AGREE_2_OF_3", "SLSA_BUILD_REPRODUCED"}},
		{"two rebuilders of one", together, []string{"QUORATE_REBUILD_AGREE_2_OF_3"}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			p := test.policy
			a, b := signed(t, "a", "x"), signed(t, "b", "x")
			agreed := agreementOf(t, p, "release", map[string][]byte{"a": a, "b": b})
			one, two := sigstore(t, "a", a), sigstore(t, "b", b)
			envelope := summed(t, p, lines(a, b, agreed), one, two)
			var got map[string]any
			if err := json.Unmarshal(payloadOf(t, envelope), &got); err != nil {
				t.Fatal(err)
			}
			input := func(b bundled) any {
				return map[string]any{"uri": here + "@" + b.manifest.String(), "digest": map[string]any{"sha256": b.manifest.Hex()}}
			}
			inputs := []any{input(one), input(two)}
			if strings.Compare(one.manifest.Hex(), two.manifest.Hex()) > 0 {
				slices.Reverse(inputs)
			}
			var levels []any
			for _, l := range test.levels {
				levels = append(levels, l)
			}
			want := map[string]any{
				"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/verification_summary/v1",
				"subject": []any{map[string]any{"name": "greeter", "annotations": map[string]any{"platform": "linux/amd64"}, "digest": map[string]any{"sha256": of("x").Hex()}}},
				"predicate": map[string]any{
					"verifier":     map[string]any{"id": VerifierID, "version": map[string]any{"quorate": "0.1.0"}},
					"timeVerified": "2026-11-01T03:01:00Z", "resourceUri": here,
					"policy":            map[string]any{"uri": policyURI, "digest": map[string]any{"sha256": p.Digest().Hex()}},
					"inputAttestations": inputs, "verificationResult": "PASSED", "verifiedLevels": levels, "slsaVersion": "1.2",
				},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			v, err := OpenSummary(envelope, keyOf("release").Public())
			if err != nil || !v.Passed || len(v.Inputs) != 2 || v.Reproduced() != (len(levels) == 2) {
				t.Errorf("read again it says %+v (%v)", v, err)
			}
			if _, err := OpenSummary(envelope, keyOf("a").Public()); err == nil {
				t.Error("opened with another key")
			}
		})
	}
}

func TestSignSummaryRefuses(t *testing.T) {
	p := policy(2)
	ax, bx, by := signed(t, "a", "x"), signed(t, "b", "x"), signed(t, "b", "y")
	agreed := agreementOf(t, p, "release", map[string][]byte{"a": ax, "b": bx})
	in := []Input{{URI: here + "@" + of("r").String(), Digest: of("r")}}
	for _, test := range []struct {
		summary string
		bundle  []byte
		signer  string
		o       SummaryOptions
		want    string
	}{
		{"dissent", lines(ax, by), "release", SummaryOptions{Resource: here, Images: []digest.Digest{of("x")}, Inputs: in}, "cannot sum up: not verified: "},
		{"another image", lines(ax, bx, agreed), "release", SummaryOptions{Resource: here, Images: []digest.Digest{of("y")}, Inputs: in}, "is not what the rebuilders built"},
		{"a rebuilder's key", lines(ax, bx, agreed), "b", SummaryOptions{Resource: here, Images: []digest.Digest{of("x")}, Inputs: in}, `with the key of rebuilder "b"`},
		{"no attestation", lines(ax, bx, agreed), "release", SummaryOptions{Resource: here, Images: []digest.Digest{of("x")}}, "cannot sum up nothing"},
		{"no image", lines(ax, bx, agreed), "release", SummaryOptions{Resource: here, Inputs: in}, "cannot sum up nothing"},
		{"no resource", lines(ax, bx, agreed), "release", SummaryOptions{Images: []digest.Digest{of("x")}, Inputs: in}, "resourceUri"},
	} {
		opened, err := OpenBundle(test.bundle, p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := SignSummary(ctx, opened, test.o, keyOf(test.signer)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, expected %q", test.summary, err, test.want)
		}
	}
	if _, err := SignSummary(ctx, nil, SummaryOptions{Images: []digest.Digest{of("x")}, Inputs: in}, keyOf("release")); !errors.Is(err, ErrNoBundle) {
		t.Errorf("summed up nothing: %v", err)
	}
}

func TestReferrers(t *testing.T) {
	p := policy(2)
	ax, bx, by, cx := signed(t, "a", "x"), signed(t, "b", "x"), signed(t, "b", "y"), signed(t, "c", "x")
	agreed := agreementOf(t, p, "release", map[string][]byte{"a": ax, "b": bx})
	A, B, C, agreement1 := sigstore(t, "a", ax), sigstore(t, "b", bx), sigstore(t, "c", cx), sigstore(t, "release", agreed)
	all := []bundled{A, B, agreement1}
	vsa := sigstore(t, "release", summed(t, p, lines(ax, bx, agreed), all...))

	later := func(r *BuildRecord) { r.Nonce = "later" }
	oldDissent := sigstore(t, "b", signed(t, "b", "y", later))
	noise := bundled{of("noise"), []byte("noise")}
	stranger := sigstore(t, "stranger", signed(t, "stranger", "x"))
	spoiled := bundled{of("spoiled"), bytes.Replace(B.data, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1)}
	dissent := sigstore(t, "b", by)

	with := func(list ...[]bundled) []bundled { return slices.Concat(list...) }
	without := func(list []bundled, gone bundled) []bundled {
		return slices.DeleteFunc(slices.Clone(list), func(b bundled) bool { return b.manifest == gone.manifest })
	}
	whole := append(slices.Clone(all), vsa)
	for _, test := range []struct {
		summary  string
		bundles  []bundled
		want     string // of the error; "" for verified
		note     string
		rejected int
	}{
		{"all", whole, "", "", 0},
		{"a third voice", with(whole, []bundled{C}), "", "c agrees too; its report came after the agreement was signed", 0},
		{"noise of all kinds", with([]bundled{noise, stranger, spoiled}, whole), "", "", 3},
		{"a report deleted", without(whole, B), "not verified: the signed agreement counts statement " + digest.Of(payloadOf(t, bx)).Short() + "… of \"b\", which the bundle does not hold; " +
			"the signed agreement says agree for \"b\", but judging again says error; the signed agreement says agree, but judging again by the same policy says inconclusive; " +
			"the summary that release signed on 2026-11-01T03:01:00Z rests on referrer " + B.manifest.String() + ", which is not to be found: it was deleted, or is hidden", "", 0},
		{"the agreement deleted", without(whole, agreement1), "which is not to be found: it was deleted, or is hidden", "", 0},
		{"a dissent in the same request", with(whole, []bundled{dissent}), "the policy does not allow dissent", "", 0},
		{"a dissent in another", with(whole, []bundled{oldDissent}), "", "b built another image from the same inputs for request later", 0},
		{"nothing", nil, "no agreement that a signer of the policy signed", "", 0},
	} {
		t.Run(test.summary, func(t *testing.T) {
			r, err := GatherReferrers(p)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range test.bundles {
				r.Add(b.manifest, b.data)
			}
			o := r.Judge(here, of("x"))
			err = o.Verify(of("x"))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			if notes := strings.Join(o.Notes, "; "); notes != test.note {
				t.Errorf("notes %q, expected %q", notes, test.note)
			}
			rejected := 0
			for _, s := range o.Statements {
				if !s.Accepted {
					rejected++
				}
				if s.Referrer.IsZero() || s.Line != 0 || s.Envelope != nil {
					t.Errorf("statement %+v", s)
				}
			}
			if rejected != test.rejected {
				t.Errorf("%d statements are rejected, expected %d", rejected, test.rejected)
			}
		})
	}

	t.Run("the same a hundred times", func(t *testing.T) {
		r, _ := GatherReferrers(p)
		for i := range 100 {
			for _, b := range whole {
				r.Add(digest.Of(fmt.Appendf(nil, "%d %s", i, b.manifest)), b.data)
			}
		}
		for _, b := range whole {
			r.Add(b.manifest, b.data)
		}
		o := r.Judge(here, of("x"))
		if err := o.Verify(of("x")); err != nil || len(o.Summaries) != 1 || len(r.opener.submissions) != 2 || len(o.Statements) != 101*len(whole) {
			t.Errorf("%v; %d summaries, %d reports, %d statements", err, len(o.Summaries), len(r.opener.submissions), len(o.Statements))
		}
	})
	t.Run("a report that another rebuilder signs too", func(t *testing.T) {
		stolen := sigstore(t, "b", forge(t, "b", payloadOf(t, ax)))
		for _, list := range [][]bundled{append([]bundled{stolen}, whole...), append(slices.Clone(whole), stolen)} {
			r, _ := GatherReferrers(p)
			for _, b := range list {
				r.Add(b.manifest, b.data)
			}
			if err := r.Judge(here, of("x")).Verify(of("x")); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("copied", func(t *testing.T) {
		r, _ := GatherReferrers(p)
		for _, b := range whole {
			r.Add(b.manifest, b.data)
		}
		o := r.Judge("oci://elsewhere.example/app", of("x"))
		if err := o.Verify(of("x")); err != nil || len(o.Notes) != 1 || !strings.Contains(o.Notes[0], "the image was copied") {
			t.Errorf("%v, notes %q", err, o.Notes)
		}
	})
	t.Run("listed and unreadable", func(t *testing.T) {
		r, _ := GatherReferrers(p)
		for _, b := range without(whole, B) {
			r.Add(b.manifest, b.data)
		}
		r.Lose(B.manifest, errors.New("too large"))
		if err := r.Judge(here, of("x")).Verify(of("x")); err == nil || !strings.Contains(err.Error(), "which cannot be read") {
			t.Error(err)
		}
	})
	t.Run("another image", func(t *testing.T) {
		r, _ := GatherReferrers(p)
		for _, b := range whole {
			r.Add(b.manifest, b.data)
		}
		if err := r.Judge(here, of("y")).Verify(of("y")); err == nil {
			t.Error("verified")
		}
	})
}

// What a signer, or somebody with a signer's or a rebuilder's key, could claim.
func TestReferrersOfLiars(t *testing.T) {
	p := policy(2)
	ax, bx := signed(t, "a", "x"), signed(t, "b", "x")
	agreed := agreementOf(t, p, "release", map[string][]byte{"a": ax, "b": bx})
	all := []bundled{sigstore(t, "a", ax), sigstore(t, "b", bx), sigstore(t, "release", agreed)}
	summary := string(payloadOf(t, summed(t, p, lines(ax, bx, agreed), all...)))
	lie := func(who, old, new string) bundled {
		if !strings.Contains(summary, old) {
			t.Fatalf("%q is not in the summary", old)
		}
		return sigstore(t, who, forge(t, who, []byte(strings.Replace(summary, old, new, 1))))
	}
	const level = `"QUORATE_REBUILD_AGREE_2_OF_3"`
	for _, test := range []struct {
		summary  string
		lie      bundled
		image    string
		want     string
		rejected string
	}{
		{"reproduced, by one operator", lie("release", level, level+`,"SLSA_BUILD_REPRODUCED"`), "x", "claims SLSA_BUILD_REPRODUCED, but one operator is behind all that agree", ""},
		{"failed", lie("release", "PASSED", "FAILED"), "x", "says FAILED", ""},
		{"neither", lie("release", "PASSED", "PERHAPS"), "x", "", "verificationResult is"},
		{"of a rebuilder", lie("a", level, level), "x", "", `is signed by rebuilder "a", but needs the role "release" or "auditor"`},
		{"of a stranger", lie("stranger", level, level), "x", "", "not signed by any key of the policy"},
		{"with a field of its own", lie("release", `"slsaVersion"`, `"more":1,"slsaVersion"`), "x", "", `unknown field "more"`},
		{"statements of x beside y", lie("release", level, level), "y", "image " + of("y").String() + " is not what the rebuilders built", ""},
	} {
		t.Run(test.summary, func(t *testing.T) {
			r, _ := GatherReferrers(p)
			for _, b := range append(slices.Clone(all), test.lie) {
				r.Add(b.manifest, b.data)
			}
			o := r.Judge(here, of(test.image))
			err := o.Verify(of(test.image))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, expected %q", err, test.want)
			}
			for _, s := range o.Statements {
				if s.Referrer == test.lie.manifest && (s.Accepted != (test.rejected == "") || !strings.Contains(s.Reason, test.rejected)) {
					t.Errorf("the lie: %+v, expected %q", s, test.rejected)
				}
			}
		})
	}
}

// The same image rebuilt for two requests: each has its own agreement, and the
// order in which they come does not matter.
func TestReferrersOfTwoRequests(t *testing.T) {
	p := policy(2)
	var bundles []bundled
	for i, nonce := range []string{"0123456789abcdef", "later"} {
		change := func(r *BuildRecord) { r.Nonce = nonce }
		a, b := signed(t, "a", "x", change), signed(t, "b", "x", change)
		job := agreement.Job{Lock: of("quorate.lock"), Definition: of("quorate.yaml"), Nonce: nonce}
		_, agreed := agreement.Judge(job, p, []agreement.Submission{OpenSubmission(a, p, "a"), OpenSubmission(b, p, "b")})
		e, err := SignAgreement(ctx, agreed, keyOf("release"), agreedOn.Add(time.Duration(i)*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		bundles = append(bundles, sigstore(t, "a", a), sigstore(t, "b", b), sigstore(t, "release", e))
	}
	for range bundles {
		bundles = append(bundles[1:], bundles[0])
		r, _ := GatherReferrers(p)
		for _, b := range bundles {
			r.Add(b.manifest, b.data)
		}
		o := r.Judge(here, of("x"))
		if err := o.Verify(of("x")); err != nil || o.Job.Nonce != "later" {
			t.Fatalf("%v, for request %s", err, o.Job.Nonce)
		}
	}

	// Without signers in the policy the reports themselves say which requests there were.
	p.Signers = nil
	r, _ := GatherReferrers(p)
	for _, b := range bundles {
		r.Add(b.manifest, b.data)
	}
	o := r.Judge(here, of("x"))
	if err := o.Verify(of("x")); err != nil {
		t.Error(err)
	}
}

func TestLocals(t *testing.T) {
	got, err := Locals(signed(t, "a", "x"))
	if err != nil {
		t.Fatal(err)
	}
	want := record("a", "x").Locals
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// BenchmarkReferrers judges one image with 1000 referrers that say nothing.
func BenchmarkReferrers(b *testing.B) {
	p := policy(2)
	ax, bx := signed(b, "a", "x"), signed(b, "b", "x")
	agreed := agreementOf(b, p, "release", map[string][]byte{"a": ax, "b": bx})
	good := []bundled{sigstore(b, "a", ax), sigstore(b, "b", bx), sigstore(b, "release", agreed)}
	stranger := sigstore(b, "stranger", signed(b, "stranger", "x"))
	for b.Loop() {
		r, _ := GatherReferrers(p)
		for i := range 1000 {
			r.Add(of(fmt.Sprint(i)), stranger.data)
		}
		for _, one := range good {
			r.Add(one.manifest, one.data)
		}
		if err := r.Judge(here, of("x")).Verify(of("x")); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzOpenSigstoreBundle(f *testing.F) {
	f.Add(sigstore(f, "a", signed(f, "a", "x")).data)
	f.Add([]byte(`{"mediaType":"` + SigstoreMediaType + `","dsseEnvelope":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, _ := GatherReferrers(policy(2))
		r.Add(of("fuzz"), data)
		if err := r.Judge(here, of("y")).Verify(of("y")); err == nil {
			t.Error("verified")
		}
	})
}

func FuzzParseSummary(f *testing.F) {
	p := policy(2)
	ax, bx := signed(f, "a", "x"), signed(f, "b", "x")
	agreed := agreementOf(f, p, "release", map[string][]byte{"a": ax, "b": bx})
	f.Add(payloadOf(f, summed(f, p, lines(ax, bx, agreed), sigstore(f, "a", ax))))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/verification_summary/v1"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		v, err := parseSummary(payload)
		if err != nil {
			return
		}
		if len(v.Subjects) == 0 || v.Resource == "" || v.Policy.IsZero() || v.Time.IsZero() {
			t.Errorf("accepted with a gap: %+v", v)
		}
	})
}
