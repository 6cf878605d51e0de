package agreement

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/keyfile"
)

// testKeys makes keys once; generating is not what these tests are about.
var testKeys = sync.OnceValue(func() []keyfile.PublicKey {
	var keys []keyfile.PublicKey
	for range 6 {
		key, err := keyfile.Generate()
		if err != nil {
			panic(err)
		}
		keys = append(keys, key.Public())
	}
	return keys
})

func of(s string) digest.Digest { return digest.Of([]byte(s)) }

var job = Job{Lock: of("lock"), Definition: of("definition"), Nonce: "n1"}

// threeOf is a policy over a (acme), b (acme) and c (umbra).
func threeOf(threshold int, change ...func(*Policy)) *Policy {
	keys := testKeys()
	p := &Policy{Threshold: threshold, Rebuilders: []Rebuilder{
		{Name: "a", Operator: "acme", Key: keys[0]},
		{Name: "b", Operator: "acme", Key: keys[1]},
		{Name: "c", Operator: "umbra", Key: keys[2]},
	}}
	for _, c := range change {
		c(p)
	}
	return p
}

func distinct(attribute string, n int) func(*Policy) {
	return func(p *Policy) { p.Distinct = map[string]int{attribute: n} }
}

func allowDissent(p *Policy) { p.AllowDissent = true }

// says is a report of the rebuilder that it built the image.
func says(p *Policy, who, image string, change ...func(*Report)) Submission {
	r, ok := p.Rebuilder(who)
	if !ok {
		r = Rebuilder{Name: who}
	}
	report := &Report{
		Rebuilder: who, KeyFingerprint: r.Key.Fingerprint(), Nonce: job.Nonce, Attempt: 1,
		Lock: job.Lock, Definition: job.Definition, BuildDefinition: of("inputs"),
		Subjects: []Subject{{Name: "greeter", Platform: "linux/amd64", Digest: of(image)}},
	}
	for _, c := range change {
		c(report)
	}
	if report.Statement.IsZero() {
		report.Statement = of(fmt.Sprint(*report))
	}
	return Submission{Rebuilder: who, Report: report}
}

// tell is a verdict in one line: "agree: a=agree b=agree c=error(no report)".
func tell(v Verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", v.Decision)
	for _, o := range v.Outcomes {
		fmt.Fprintf(&b, " %s=%s", o.Rebuilder, o.Result)
	}
	return b.String()
}

func TestJudge(t *testing.T) {
	x, y := name(of("x")), name(of("y"))
	for _, test := range []struct {
		summary string
		policy  *Policy
		from    func(p *Policy) []Submission
		want    string
		reasons string // of the verdict
		outcome string // reason of the last outcome that has one
	}{
		{"all say the same", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x"), says(p, "c", "x")}
		}, "agree: a=agree b=agree c=agree", "3 of 3 rebuilders say the same, threshold 2", ""},
		{"enough say the same, one is silent", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "c", "x")}
		}, "agree: a=agree b=error c=agree", "2 of 3 rebuilders say the same, threshold 2", "no report"},
		{"enough say the same, one is late", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x"), {Rebuilder: "c", Timeout: true}}
		}, "agree: a=agree b=agree c=timeout", "2 of 3 rebuilders say the same, threshold 2", "no report in time"},
		{"below the threshold", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), {Rebuilder: "b", Err: errors.New("host down")}}
		}, "inconclusive: a=agree b=error c=error", "1 rebuilder says the same, below the threshold of 2", "no report"},
		{"failures are not agreement", threeOf(2), func(p *Policy) []Submission {
			boom := errors.New("step \"compile\" failed")
			return []Submission{{Rebuilder: "a", Err: boom}, {Rebuilder: "b", Err: boom}, {Rebuilder: "c", Err: boom}}
		}, "inconclusive: a=error b=error c=error", "no rebuilder has a report that counts", `step "compile" failed`},
		{"nobody says anything", threeOf(1), func(*Policy) []Submission { return nil },
			"inconclusive: a=error b=error c=error", "no rebuilder has a report that counts", "no report"},
		{"one dissents", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x"), says(p, "c", "y")}
		}, "disagree: a=agree b=agree c=dissent", "1 rebuilder differs from the others, and the policy does not allow dissent", "built " + y + " for linux/amd64, expected " + x + " for linux/amd64"},
		{"one dissents and may", threeOf(2, allowDissent), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x"), says(p, "c", "y")}
		}, "agree: a=agree b=agree c=dissent", "2 of 3 rebuilders say the same, threshold 2", "built " + y + " for linux/amd64, expected " + x + " for linux/amd64"},
		{"one against one", threeOf(1), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "y")}
		}, "disagree: a=dissent b=dissent c=error", "rebuilders built different images, and no result has more of them behind it than any other", "no report"},
		{"one against one, dissent allowed", threeOf(1, allowDissent), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "y")}
		}, "disagree: a=dissent b=dissent c=error", "rebuilders built different images, and no result has more of them behind it than any other", "no report"},
		{"two results fulfil the rule", threeOf(1, allowDissent), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x"), says(p, "c", "y")}
		}, "disagree: a=agree b=agree c=dissent", "two different results fulfil the policy's rule", "built " + y + " for linux/amd64, expected " + x + " for linux/amd64"},
		{"all of one operator", threeOf(2, distinct("operator", 2)), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x")}
		}, "inconclusive: a=agree b=agree c=error", `those who say the same have 1 distinct value of "operator", expected at least 2`, "no report"},
		{"an operator claimed in the report does not count", threeOf(2, distinct("operator", 2)), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x", func(r *Report) { r.Operator = "umbra" })}
		}, "inconclusive: a=agree b=agree c=error", `those who say the same have 1 distinct value of "operator", expected at least 2`, "no report"},
		{"two operators", threeOf(2, distinct("operator", 2)), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "c", "x")}
		}, "agree: a=agree b=error c=agree", "2 of 3 rebuilders say the same, threshold 2", "no report"},
		{"the same kernel", threeOf(2, distinct("kernel", 2)), func(p *Policy) []Submission {
			on := func(r *Report) { r.Environment = map[string]string{"kernel": "6.1"} }
			return []Submission{says(p, "a", "x", on), says(p, "b", "x", on)}
		}, "inconclusive: a=agree b=agree c=error", `those who say the same have 1 distinct value of "kernel", expected at least 2`, "no report"},
		{"an unknown kernel is not a distinct one", threeOf(2, distinct("kernel", 2)), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x", func(r *Report) { r.Environment = map[string]string{"kernel": "6.1"} }), says(p, "b", "x")}
		}, "inconclusive: a=agree b=agree c=error", `those who say the same have 1 distinct value of "kernel", expected at least 2`, "no report"},
		{"a retry counts once", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "a", "x", func(r *Report) { r.Attempt = 2; r.Statement = of("again") })}
		}, "inconclusive: a=agree b=error c=error", "1 rebuilder says the same, below the threshold of 2", "no report"},
		{"a retry after a failure counts", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "b", "x"), {Rebuilder: "a", Err: errors.New("killed")}, says(p, "a", "x")}
		}, "agree: a=agree b=agree c=error", "2 of 3 rebuilders say the same, threshold 2", "no report"},
		{"a rebuilder contradicts itself", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x"), says(p, "c", "x"), says(p, "c", "y")}
		}, "disagree: a=agree b=agree c=dissent", "1 rebuilder differs from the others, and the policy does not allow dissent", "it reported different results for one job"},
		{"an image of nothing", threeOf(2), func(p *Policy) []Submission {
			nothing := func(r *Report) { r.Subjects = nil }
			return []Submission{says(p, "a", "x", nothing), says(p, "b", "x", nothing), says(p, "c", "x", nothing)}
		}, "inconclusive: a=error b=error c=error", "no rebuilder has a report that counts", "report names no image: nothing was built"},
		{"an image without a digest", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x", func(r *Report) { r.Subjects[0].Digest = digest.Digest{} })}
		}, "inconclusive: a=error b=error c=error", "no rebuilder has a report that counts", "no report"},
		{"wrong lock", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "c", "x", func(r *Report) { r.Lock = of("other") })}
		}, "inconclusive: a=error b=error c=error", "no rebuilder has a report that counts", "report is about lock " + name(of("other")) + ", expected " + name(of("lock"))},
		{"wrong definition", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "c", "x", func(r *Report) { r.Definition = of("other") })}
		}, "inconclusive: a=error b=error c=error", "no rebuilder has a report that counts", "report is about definition " + name(of("other")) + ", expected " + name(of("definition"))},
		{"an old report", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "c", "x", func(r *Report) { r.Nonce = "n0" })}
		}, "inconclusive: a=error b=error c=error", "no rebuilder has a report that counts", `report answers request "n0", expected "n1": it may be an old one`},
		{"a report that names no inputs", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "c", "x", func(r *Report) { r.BuildDefinition = digest.Digest{} })}
		}, "inconclusive: a=error b=error c=error", "no rebuilder has a report that counts", "report does not say what it was built from"},
		{"key of another rebuilder", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "c", "x", func(r *Report) { r.KeyFingerprint = testKeys()[0].Fingerprint() })}
		}, "inconclusive: a=agree b=error c=error", "1 rebuilder says the same, below the threshold of 2",
			fmt.Sprintf("report is signed with key %.16s…, but the policy enrols %.16s… for \"c\"", testKeys()[0].Fingerprint(), testKeys()[2].Fingerprint())},
		{"report under another's name", threeOf(2), func(p *Policy) []Submission {
			copied := says(p, "a", "x")
			copied.Rebuilder = "b"
			return []Submission{says(p, "a", "x"), copied}
		}, "inconclusive: a=agree b=error c=error", "1 rebuilder says the same, below the threshold of 2", "no report"},
		{"name in the report is another's", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "c", "x", func(r *Report) { r.Rebuilder = "a" })}
		}, "inconclusive: a=error b=error c=error", "no rebuilder has a report that counts", `report says it is from "a", but its key is enrolled for "c"`},
		{"wrong builder id", threeOf(2, func(p *Policy) { p.Rebuilders[2].BuilderID = "https://c.example" }), func(p *Policy) []Submission {
			return []Submission{says(p, "c", "x", func(r *Report) { r.BuilderID = "https://a.example" })}
		}, "inconclusive: a=error b=error c=error", "no rebuilder has a report that counts", `report has builder id "https://a.example", expected "https://c.example"`},
		{"same image from other inputs", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x"), says(p, "c", "x", func(r *Report) { r.BuildDefinition = of("others") })}
		}, "agree: a=agree b=agree c=error", "2 of 3 rebuilders say the same, threshold 2", "built from other inputs: build definition " + name(of("others")) + ", expected " + name(of("inputs"))},
		{"same image from two sets of inputs", threeOf(1), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "c", "x", func(r *Report) { r.BuildDefinition = of("others") })}
		}, "inconclusive: a=error b=error c=error", "rebuilders built the same image from different inputs, and no set of inputs has more of them behind it than any other",
			"built from other inputs than others: build definition " + name(of("others"))},
		{"other image from other inputs", threeOf(2), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x"), says(p, "c", "y", func(r *Report) { r.BuildDefinition = of("others") })}
		}, "disagree: a=agree b=agree c=dissent", "1 rebuilder differs from the others, and the policy does not allow dissent",
			"built " + y + " for linux/amd64, expected " + x + " for linux/amd64; it also used other inputs: build definition " + name(of("others")) + ", expected " + name(of("inputs"))},
		{"one platform differs", threeOf(2), func(p *Policy) []Submission {
			arm := func(image string) func(*Report) {
				return func(r *Report) {
					r.Subjects = append(r.Subjects, Subject{Name: "greeter", Platform: "linux/arm64", Digest: of(image)})
				}
			}
			return []Submission{says(p, "a", "x", arm("v")), says(p, "b", "x", arm("v")), says(p, "c", "x", arm("w"))}
		}, "disagree: a=agree b=agree c=dissent", "1 rebuilder differs from the others, and the policy does not allow dissent",
			"built " + x + " for linux/amd64, " + name(of("w")) + " for linux/arm64, expected " + x + " for linux/amd64, " + name(of("v")) + " for linux/arm64"},
		{"threshold beyond the keys", threeOf(4), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x"), says(p, "c", "x")}
		}, "inconclusive:", "policy cannot be used: threshold is 4, but the rebuilders have only 3 distinct keys, so nothing could ever be agreed", ""},
		{"two names with one key", threeOf(1, func(p *Policy) { p.Rebuilders[1].Key = p.Rebuilders[0].Key }), func(p *Policy) []Submission {
			return []Submission{says(p, "a", "x"), says(p, "b", "x")}
		}, "inconclusive:", `policy cannot be used: names "a" and "b" have the same key; identity is key material`, ""},
	} {
		t.Run(test.summary, func(t *testing.T) {
			verdict, agreed := Judge(job, test.policy, test.from(test.policy))
			if got := tell(verdict); got != test.want {
				t.Errorf("verdict %q, expected %q", got, test.want)
			}
			if got := strings.Join(verdict.Reasons, "; "); got != test.reasons {
				t.Errorf("reasons\n%s\nexpected\n%s", got, test.reasons)
			}
			last := ""
			for _, o := range verdict.Outcomes {
				if o.Reason != "" {
					last = o.Reason
				}
			}
			if last != test.outcome {
				t.Errorf("last outcome's reason\n%s\nexpected\n%s", last, test.outcome)
			}
			if (verdict.Decision == Agree) != agreed.Valid() {
				t.Errorf("decision %s, but agreement valid: %t", verdict.Decision, agreed.Valid())
			}
		})
	}
}

func TestJudgeStrangers(t *testing.T) {
	p := threeOf(2)
	verdict, _ := Judge(job, p, []Submission{says(p, "a", "x"), says(p, "zed", "x"), says(p, "mallory", "x")})
	if got := tell(verdict); got != "inconclusive: a=agree b=error c=error" {
		t.Errorf("strangers count: %s", got)
	}
	if diff := cmp.Diff([]string{"mallory", "zed"}, verdict.Strangers); diff != "" {
		t.Error(diff)
	}
}

func TestJudgeUnknownJob(t *testing.T) {
	p := threeOf(1)
	verdict, agreed := Judge(Job{}, p, []Submission{says(p, "a", "x")})
	if verdict.Decision != Inconclusive || agreed != nil {
		t.Errorf("a job without a lock was decided: %s", verdict.Decision)
	}
	anyNonce := job
	anyNonce.Nonce = ""
	if verdict, _ := Judge(anyNonce, p, []Submission{says(p, "a", "x")}); verdict.Decision != Agree {
		t.Errorf("a judge who asked nobody cannot judge: %v", verdict.Reasons)
	}
	wrong := job
	wrong.BuildDefinition = of("others")
	verdict, _ = Judge(wrong, p, []Submission{says(p, "a", "x")})
	if want := "built from other inputs: build definition " + name(of("inputs")) + ", expected " + name(of("others")); verdict.Outcomes[0].Reason != want {
		t.Errorf("reason %q, expected %q", verdict.Outcomes[0].Reason, want)
	}
}

// What was judged cannot be changed afterwards, and the rest of the agreement is what was judged.
func TestAgreement(t *testing.T) {
	p := threeOf(2, distinct("key", 2))
	from := []Submission{says(p, "a", "x"), says(p, "b", "x")}
	_, agreed := Judge(job, p, from)
	from[0].Report.Subjects[0].Digest = of("evil")
	from[0].Report.Lock = of("evil")
	agreed.Subjects()[0].Digest = of("evil")
	agreed.Rule().Distinct["key"] = 0
	agreed.Outcomes()[0].Report.Subjects[0].Digest = of("evil")

	if got := agreed.Subjects(); len(got) != 1 || got[0].Digest != of("x") {
		t.Errorf("subjects are %v", got)
	}
	if got := agreed.Outcomes()[0].Report; got.Subjects[0].Digest != of("x") || got.Lock != of("lock") {
		t.Errorf("report is %v", got)
	}
	if got := agreed.Rule(); got.Distinct["key"] != 2 || got.Threshold != 2 {
		t.Errorf("rule is %v", got)
	}
	if agreed.IndependentOperators() != 1 {
		t.Errorf("%d independent operators, expected 1: two rebuilders of one operator", agreed.IndependentOperators())
	}
	if agreed.Job().BuildDefinition != of("inputs") || agreed.PolicyDigest() != p.Digest() {
		t.Error("job or policy is not what was judged")
	}
	for _, none := range []*Agreement{nil, {}} {
		if none.Valid() {
			t.Error("an agreement that Judge did not make is valid")
		}
	}
}

// anySubmission draws what hostile and honest rebuilders may send.
func anySubmission(p *Policy) *rapid.Generator[Submission] {
	return rapid.Custom(func(t *rapid.T) Submission {
		who := rapid.SampledFrom([]string{"a", "b", "c", "stranger"}).Draw(t, "who")
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			return Submission{Rebuilder: who, Err: errors.New(rapid.SampledFrom([]string{"boom", "bang"}).Draw(t, "error"))}
		case 1:
			return Submission{Rebuilder: who, Timeout: true}
		case 2:
			return says(p, who, "x", func(r *Report) { r.Nonce = "old" })
		case 3:
			return says(p, who, "x", func(r *Report) { r.BuildDefinition = of("others") })
		default:
			return says(p, who, rapid.SampledFrom([]string{"x", "x", "x", "y"}).Draw(t, "image"))
		}
	})
}

func anyPolicy() *rapid.Generator[*Policy] {
	return rapid.Custom(func(t *rapid.T) *Policy {
		p := threeOf(rapid.IntRange(1, 3).Draw(t, "threshold"))
		p.AllowDissent = rapid.Bool().Draw(t, "allow dissent")
		if rapid.Bool().Draw(t, "distinct") {
			p.Distinct = map[string]int{"operator": rapid.IntRange(1, 2).Draw(t, "operators")}
		}
		return p
	})
}

func TestJudgeIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy().Draw(t, "policy")
		from := rapid.SliceOfN(anySubmission(p), 0, 8).Draw(t, "submissions")
		first, _ := Judge(job, p, from)
		shuffled := rapid.Permutation(from).Draw(t, "shuffled")
		q := *p
		q.Rebuilders = rapid.Permutation(p.Rebuilders).Draw(t, "rebuilders")
		second, _ := Judge(job, &q, shuffled)
		if diff := cmp.Diff(first, second); diff != "" {
			t.Fatalf("another order, another verdict:\n%s", diff)
		}
	})
}

func TestJudgeRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy().Draw(t, "policy")
		from := rapid.SliceOfN(anySubmission(p), 0, 8).Draw(t, "submissions")
		verdict, agreed := Judge(job, p, from)

		if len(verdict.Outcomes) != len(p.Rebuilders) {
			t.Fatalf("%d outcomes for %d rebuilders", len(verdict.Outcomes), len(p.Rebuilders))
		}
		keys, operators, dissents := map[string]bool{}, map[string]bool{}, 0
		for _, o := range verdict.Outcomes {
			switch o.Result {
			case Agrees:
				keys[o.Fingerprint], operators[o.Operator] = true, true
			case Dissents:
				dissents++
			case Errs, TimesOut:
			default:
				t.Fatalf("%s has result %q", o.Rebuilder, o.Result)
			}
			if (o.Result == Agrees) != (o.Reason == "") {
				t.Fatalf("%s: %s for reason %q", o.Rebuilder, o.Result, o.Reason)
			}
		}
		switch {
		case len(verdict.Reasons) == 0:
			t.Fatal("no reason given")
		case (verdict.Decision == Agree) != agreed.Valid():
			t.Fatal("decision and agreement differ")
		case verdict.Decision == Agree && (len(keys) < p.Threshold || len(operators) < p.Distinct["operator"]):
			t.Fatalf("agreed with %d keys and %d operators", len(keys), len(operators))
		case verdict.Decision == Agree && dissents > 0 && !p.AllowDissent:
			t.Fatal("agreed over a dissent")
		case verdict.Decision == Inconclusive && dissents > 0 && !p.AllowDissent:
			t.Fatal("a dissent was not decisive")
		}

		worse := slices.Clone(from)
		worse = append(worse, Submission{Rebuilder: "b", Err: errors.New("late failure")}, Submission{Rebuilder: "a", Timeout: true},
			says(p, "c", "x", func(r *Report) { r.KeyFingerprint = "" }))
		if after, _ := Judge(job, p, worse); after.Decision != verdict.Decision {
			t.Fatalf("failures changed %s into %s", verdict.Decision, after.Decision)
		}
		doubled, _ := Judge(job, p, append(slices.Clone(from), from...))
		if diff := cmp.Diff(verdict, doubled); diff != "" {
			t.Fatalf("saying it twice changes the verdict:\n%s", diff)
		}
		laxer := *p
		laxer.Threshold, laxer.Distinct = 1, nil
		if after, _ := Judge(job, &laxer, from); !p.AllowDissent && verdict.Decision == Agree && after.Decision != Agree {
			t.Fatalf("a laxer policy does not agree where a stricter one does: %v", after.Reasons)
		}
	})
}
