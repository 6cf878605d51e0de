package agreement

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"quorate.dev/lockfile/strictyaml"
)

const grownPolicy = `# what acme releases
apiVersion: quorate/v1
kind: Policy
name: acme
version: 7
threshold: 2
maximum-age: 90d
rebuilders:
  - name: ams
    operator: acme
    key: keys/0.pub
    valid: {from: 2026-12-01}
    former:
      - {key: keys/1.pub, valid: {until: 2027-01-01}}
  - {name: osl, operator: umbra, key: keys/2.pub, revoked: {at: 2027-06-01T10:00:00Z, reason: "disk \"stolen\""}}
signers:
  - {name: release, key: keys/3.pub}
auditors:
  - {name: cert, key: keys/4.pub}
maintainers:
  - {name: alice, key: keys/5.pub}
rules:
  - images: [registry.example/team/*, greeter]
    allow:
      - {role: rebuilder, name: ams, builder-id: "https://acme.example/b"}
      - {role: release, name: release}
    threshold: 1
  - images: ["registry.example/**"]
    distinct: {operator: 2}
    maximum-age: 36h
`

func day(text string) time.Time {
	t, err := ParseTime(text)
	if err != nil {
		panic(err)
	}
	return t
}

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := ParsePolicy("policy.yaml", []byte(text), keysByPath)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseGrownPolicy(t *testing.T) {
	keys := testKeys()
	want := &Policy{
		Name: "acme", Version: 7, Threshold: 2, MaxAge: 90 * 24 * time.Hour,
		Rebuilders: []Rebuilder{
			{Name: "ams", Operator: "acme", Key: keys[0], Term: Term{From: day("2026-12-01")}, Former: []FormerKey{{Key: keys[1], Term: Term{Until: day("2027-01-01")}}}},
			{Name: "osl", Operator: "umbra", Key: keys[2], Term: Term{Revoked: day("2027-06-01T10:00:00Z"), Reason: `disk "stolen"`}},
		},
		Signers:     []SignerKey{{Name: "release", Key: keys[3]}},
		Auditors:    []SignerKey{{Name: "cert", Key: keys[4]}},
		Maintainers: []SignerKey{{Name: "alice", Key: keys[5]}},
		Rules: []ImageRule{
			{
				Images:    []string{"registry.example/team/*", "greeter"},
				Allow:     []Grant{{RoleRebuilder, "ams", "https://acme.example/b"}, {RoleRelease, "release", ""}},
				Threshold: 1,
			},
			{Images: []string{"registry.example/**"}, Distinct: map[string]int{"operator": 2}, MaxAge: 36 * time.Hour},
		},
	}
	got := parse(t, grownPolicy)
	if diff := cmp.Diff(want, got, samePolicy); diff != "" {
		t.Error(diff)
	}
	if narrow, err := got.For("greeter", day("2026-12-02")); err != nil || narrow.Digest() != got.Digest() {
		t.Errorf("narrowed, it has another digest (%v)", err)
	}
}

// What no change of a policy's meaning may leave as it was.
func TestDigestCoversEverything(t *testing.T) {
	seen := map[string]string{}
	for _, change := range [][2]string{
		{"", ""}, {"name: acme", "name: other"}, {"version: 7", "version: 8"}, {"threshold: 2", "threshold: 1"}, {"90d", "91d"},
		{"operator: acme", "operator: other"}, {"from: 2026-12-01", "from: 2026-12-02"}, {"until: 2027-01-01", "until: 2027-01-02"},
		{"T10:00:00Z", "T10:00:01Z"}, {"stolen", "lost"}, {"name: cert", "name: bsi"}, {"name: alice", "name: bob"}, {"team/*", "team/a*"},
		{"role: release, name: release}", `role: auditor, name: cert}`}, {"https://acme.example/b", "https://acme.example/c"},
		{"threshold: 1", "threshold: 1\n    maximum-age: 1d"}, {"distinct: {operator: 2}", "distinct: {operator: 1}"}, {"36h", "37h"},
		{"kind: Policy", "kind: Policy\nmaintainer-threshold: 1"}, {"kind: Policy", "kind: Policy\nallow-dissent: true"},
	} {
		text := strings.Replace(grownPolicy, change[0], change[1], 1)
		if change[0] != "" && text == grownPolicy {
			t.Fatalf("%q is not in the policy", change[0])
		}
		d := parse(t, text).Digest().String()
		if change[1] == "kind: Policy\nmaintainer-threshold: 1" { // the same, said aloud
			if seen[d] != "" {
				t.Errorf("a default that is written out changes the digest")
			}
			continue
		}
		if first, twice := seen[d]; twice {
			t.Errorf("%q has the digest of %q", change, first)
		}
		seen[d] = change[1]
	}
}

func TestParseGrownPolicyRefuses(t *testing.T) {
	change := func(pairs ...string) string {
		text := grownPolicy
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(text, pairs[i]) {
				t.Fatalf("%q is not in the policy", pairs[i])
			}
			text = strings.Replace(text, pairs[i], pairs[i+1], 1)
		}
		return text
	}
	for _, test := range []struct {
		summary, text string
		errs          []string
	}{
		{"an empty window", change("{from: 2026-12-01}", "{from: 2026-12-01, until: 2026-12-01}"),
			[]string{`12:12: the key of rebuilder "ams" is valid from 2026-12-01T00:00:00Z until 2026-12-01T00:00:00Z, which is never`}},
		{"a bad time", change("2027-06-01T10:00:00Z", "2027-06-01 10:00"),
			[]string{`15:65: "2027-06-01 10:00" is not a time such as 2026-11-01T00:00:00Z or 2026-11-01 (UTC)`}},
		{"a bad age", change("90d", "3months"), []string{`7:14: "3months" is not an age in days or hours such as 90d or 36h`}},
		{"a name without a version", change("version: 7\n", ""), []string{`2:1: a policy with a name needs a version from 1`}},
		{"a version without a name", change("name: acme\n", ""), []string{`2:1: a policy with a version or maintainers needs a name: a lower version of that name is refused later`}},
		{"a name without maintainers", change("maintainers:\n  - {name: alice, key: keys/5.pub}\n", ""), []string{`4:7: a policy with a name needs maintainers, who sign its versions`}},
		{"more maintainers than there are", change("version: 7", "version: 7\nmaintainer-threshold: 2"),
			[]string{`6:23: maintainer-threshold is 2, but there is 1 maintainer, so nobody could ever change this policy`}},
		{"one key twice for one name", change("keys/1.pub", "keys/0.pub"), []string{`14:15: rebuilder "ams" has the same key twice`}},
		{"a former key of somebody else", change("keys/1.pub", "keys/2.pub"), []string{`15:39: names "ams" and "osl" have the same key; identity is key material`}},
		{"roles that overlap", change("keys/4.pub", "keys/3.pub"), []string{`19:23: auditor "cert" has the key of signer "release"; one key has one role`}},
		{"a maintainer who rebuilds", change("keys/5.pub", "keys/2.pub"), []string{`21:24: maintainer "alice" has the key of rebuilder "osl"; one key has one role`}},
		{"a rule that matches nothing", change("registry.example/**", "registry.example/team/app-*"),
			[]string{`28:14: image pattern "registry.example/team/app-*" matches nothing that "registry.example/team/*" before it does not match first`}},
		{"a pattern that is a reference", change("greeter]", `"greeter@sha256:00"]`),
			[]string{`23:39: image pattern "greeter@sha256:00" must be a name such as "registry.example/team/*": no scheme, tag or digest`}},
		{"stars in a segment", change("team/*,", "te**am/*,"), []string{`23:14: image pattern "registry.example/te**am/*": "**" must be a whole segment`}},
		{"two deep stars", change(`"registry.example/**"`, `"**/x/**"`), []string{`28:14: image pattern "**/x/**" has more than one "**"`}},
		{"somebody unknown", change("rebuilder, name: ams", "rebuilder, name: ber"), []string{`25:33: the policy has no rebuilder named "ber"`}},
		{"somebody in another role", change("role: release, name: release", "role: auditor, name: release"), []string{`26:31: the policy has no auditor named "release"`}},
		{"a signer with a builder", change("role: release, name: release", "role: release, name: release, builder-id: \"a:b\""),
			[]string{`26:52: only reports have a builder id, and the role "release" signs none`}},
		{"a maintainer speaks for an image", change("role: release", "role: maintainer"),
			[]string{`26:16: rules[0].allow[1].role cannot be "maintainer", only "rebuilder", "release" or "auditor"`}},
		{"another builder than the entry's", change("operator: umbra", `operator: umbra, builder-id: "a:b"`, `rebuilder, name: ams`, `rebuilder, name: osl`),
			[]string{`25:50: builder id "https://acme.example/b" is not that of rebuilder "osl", "a:b"`}},
		{"nobody builds", change(`      - {role: rebuilder, name: ams, builder-id: "https://acme.example/b"}`+"\n", ""),
			[]string{`25:7: a rule allows no rebuilder, so nothing could ever be agreed`}},
		{"a rule that nobody can fulfil", change("threshold: 1", "threshold: 2"),
			[]string{`27:16: threshold is 2, but the rebuilders have only 1 distinct key, so nothing could ever be agreed`}},
		{"a rule that inherits too much", change("    threshold: 1\n", ""),
			[]string{`23:5: threshold is 2, but the rebuilders have only 1 distinct key, so nothing could ever be agreed`}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			_, err := ParsePolicy("policy.yaml", []byte(test.text), keysByPath)
			if diff := cmp.Diff(test.errs, heads(t, err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// heads are the first lines of the mistakes of a file, without its name.
func heads(t *testing.T, err error) []string {
	t.Helper()
	var errs *strictyaml.Errors
	if !errors.As(err, &errs) {
		t.Fatalf("error %v, expected a *strictyaml.Errors", err)
	}
	var all []string
	for _, e := range *errs {
		head, _, _ := strings.Cut(e.Error(), "\n")
		all = append(all, strings.TrimPrefix(head, "policy.yaml:"))
	}
	return all
}

// What is right for old statements and leaves no way to make new ones.
func TestLintPolicy(t *testing.T) {
	for _, test := range []struct {
		summary, at string
		errs        []string
	}{
		{"all is well", "2026-12-02", nil},
		{"before anybody", "2020-01-01", nil}, // the former key has no beginning
		{"one is revoked", "2027-06-01T10:00:00Z", []string{
			`6:12: threshold is 2, but only one has a key that counts now (ams): osl is revoked, so nothing new can be agreed`,
			`28:5: threshold is 2, but only one has a key that counts now (ams): osl is revoked, so nothing new can be agreed`,
		}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			_, err := LintPolicy("policy.yaml", []byte(grownPolicy), keysByPath, day(test.at))
			if test.errs == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if diff := cmp.Diff(test.errs, heads(t, err)); diff != "" {
				t.Error(diff)
			}
		})
	}
	expired := strings.NewReplacer("name: alice, key: keys/5.pub", "name: alice, key: keys/5.pub, valid: {until: 2026-01-01}",
		"name: release, key: keys/3.pub", "name: release, key: keys/3.pub, valid: {from: 2027-01-01}").Replace(grownPolicy)
	_, err := LintPolicy("policy.yaml", []byte(expired), keysByPath, day("2026-12-02"))
	if diff := cmp.Diff([]string{
		`17:3: no agreement can be signed any more: nobody has a key that counts now: release is not valid yet`,
		`21:3: 1 maintainer must sign the next version, but nobody has a key that counts now: alice is expired`,
		`23:5: no agreement can be signed any more: nobody has a key that counts now: release is not valid yet`,
		`28:5: no agreement can be signed any more: nobody has a key that counts now: release is not valid yet`,
	}, heads(t, err)); diff != "" {
		t.Error(diff)
	}
}

func TestMatchImage(t *testing.T) {
	for _, test := range []struct {
		pattern string
		yes, no []string
	}{
		{"greeter", []string{"greeter"}, []string{"", "greete", "a/greeter", "greeter/a"}},
		{"registry.example/team/*", []string{"registry.example/team/app"}, []string{"registry.example/team", "registry.example/team/app/sub", "registry.example/other/app", "registryxexample/team/app"}},
		{"registry.example/team/app-*", []string{"registry.example/team/app-", "registry.example/team/app-1"}, []string{"registry.example/team/app"}},
		{"registry.example/**", []string{"registry.example/a", "registry.example/a/b/c"}, []string{"registry.example", "registry.examples/a", "evil/registry.example/a"}},
		{"**", []string{"a", "a/b"}, []string{""}},
		{"a/**/z", []string{"a/b/z", "a/b/c/z"}, []string{"a/z", "a/b/c", "b/b/z"}},
		{"127.0.0.1:5000/*", []string{"127.0.0.1:5000/app"}, []string{"127.0.0.1:5001/app"}},
	} {
		if err := CheckImagePattern(test.pattern); err != nil {
			t.Error(err)
		}
		for _, image := range test.yes {
			if !MatchImage(test.pattern, image) {
				t.Errorf("%s does not match %s", test.pattern, image)
			}
		}
		for _, image := range test.no {
			if MatchImage(test.pattern, image) {
				t.Errorf("%s matches %s", test.pattern, image)
			}
		}
	}
}

// A pattern that is said to cover another one matches all that it matches.
func TestCoversPattern(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "*", "a*", "*b", "a*b", "**"})
	pattern := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(segment, 1, 4).Draw(t, "segments"), "/") }).
		Filter(func(s string) bool { return CheckImagePattern(s) == nil })
	image := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "aab", "c"}), 1, 5).Draw(t, "segments"), "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		outer, inner, name := pattern.Draw(t, "outer"), pattern.Draw(t, "inner"), image.Draw(t, "image")
		if !coversPattern(outer, outer) {
			t.Fatalf("%s does not cover itself", outer)
		}
		if coversPattern(outer, inner) && MatchImage(inner, name) && !MatchImage(outer, name) {
			t.Fatalf("%s covers %s, but does not match %s", outer, inner, name)
		}
	})
}

func TestFor(t *testing.T) {
	p := parse(t, grownPolicy)
	at := day("2026-12-20")
	team, err := p.For("registry.example/team/app", at)
	if err != nil {
		t.Fatal(err)
	}
	if team.Threshold != 1 || len(team.Rebuilders) != 1 || team.Rebuilders[0].Name != "ams" || len(team.Signers) != 1 || team.MaxAge != 90*24*time.Hour {
		t.Errorf("team: %+v", team)
	}
	other, err := team.For("registry.example/other/deep/app", at)
	if err != nil {
		t.Fatal(err)
	}
	if other.Threshold != 2 || len(other.Rebuilders) != 2 || other.Distinct["operator"] != 2 || other.MaxAge != 36*time.Hour {
		t.Errorf("narrowing a narrowed policy does not begin with the whole: %+v", other)
	}
	for image, want := range map[string]string{
		"elsewhere.example/app": `no rule of the policy covers image "elsewhere.example/app": it has rules for registry.example/team/*, greeter, registry.example/**`,
		"":                      "the policy has rules for images, and the name of this one is not known",
	} {
		if _, err := p.For(image, at); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", image, err, want)
		}
	}
	if _, err := p.For("greeter", time.Time{}); !errors.Is(err, errNoTime) {
		t.Errorf("a maximum age without a time: %v", err)
	}
	// The whole policy cannot judge: it would not know by which rule.
	if v, agreed := Judge(job, p, nil); agreed != nil || v.Decision != Inconclusive || v.Reasons[0] != "the policy has rules for images, and the name of this one is not known" {
		t.Errorf("judged without a name: %+v", v)
	}
}

// TestHears is the table of who may say what, about what, when.
func TestHears(t *testing.T) {
	p := parse(t, grownPolicy)
	const image, builder = "registry.example/team/app", "https://acme.example/b"
	who := func(i int) string { return fmt.Sprintf("the key %.16s…", testKeys()[i].Fingerprint()) }
	for _, test := range []struct {
		summary          string
		key              int
		image, at        string
		builder, said    string
		roles            []Role
		code, wantSuffix string
	}{
		{"all fits", 0, image, "2026-12-20", builder, "2026-12-10", []Role{RoleRebuilder}, "", ""},
		{"the old key in the overlap", 1, image, "2026-12-20", builder, "2026-12-10", []Role{RoleRebuilder}, "", ""},
		{"before the window", 0, image, "2026-12-20", builder, "2026-11-30T23:59:59Z", []Role{RoleRebuilder}, NotYetValid,
			who(0) + ` of rebuilder "ams" is valid from 2026-12-01T00:00:00Z, and the statement is of 2026-11-30T23:59:59Z`},
		{"the window's first second", 0, image, "2026-12-20", builder, "2026-12-01", []Role{RoleRebuilder}, "", ""},
		{"the last second of the old key", 1, image, "2027-01-02", builder, "2026-12-31T23:59:59Z", []Role{RoleRebuilder}, "", ""},
		{"after the window", 1, image, "2027-01-02", builder, "2027-01-01", []Role{RoleRebuilder}, Expired,
			who(1) + ` of rebuilder "ams" was valid until 2027-01-01T00:00:00Z, and the statement is of 2027-01-01T00:00:00Z`},
		{"before the revocation", 2, "registry.example/other", "2027-06-01", "x:y", "2027-06-01", []Role{RoleRebuilder}, "", ""},
		{"from the revocation on", 2, "registry.example/other", "2027-06-01T12:00:00Z", "x:y", "2027-06-01T10:00:00Z", []Role{RoleRebuilder}, Revoked,
			who(2) + ` of rebuilder "osl" was revoked at 2027-06-01T10:00:00Z (disk "stolen"), and the statement is of 2027-06-01T10:00:00Z`},
		{"another builder", 0, image, "2026-12-20", "https://acme.example/other", "2026-12-10", []Role{RoleRebuilder}, WrongBuilder,
			`report has builder id "https://acme.example/other", expected "https://acme.example/b"`},
		{"another image", 2, image, "2026-12-20", builder, "2026-12-10", []Role{RoleRebuilder}, WrongImage,
			`rebuilder "osl" may not speak for image "registry.example/team/app": rule 1 (registry.example/team/*, greeter) does not allow it`},
		{"another rule allows it", 2, "registry.example/other", "2026-12-20", "x:y", "2026-12-20", []Role{RoleRebuilder}, "", ""},
		{"a signer reports", 3, image, "2026-12-20", builder, "2026-12-10", []Role{RoleRebuilder}, WrongRole,
			`is signed by release "release", but needs the role "rebuilder"`},
		{"an auditor agrees", 4, "registry.example/other", "2026-12-20", "", "2026-12-10", []Role{RoleRelease}, WrongRole,
			`is signed by auditor "cert", but needs the role "release"`},
		{"an auditor sums up", 4, "registry.example/other", "2026-12-20", "", "2026-12-10", []Role{RoleRelease, RoleAuditor}, "", ""},
		{"an auditor whom the rule does not name", 4, image, "2026-12-20", "", "2026-12-10", []Role{RoleRelease, RoleAuditor}, WrongImage,
			`auditor "cert" may not speak for image "registry.example/team/app": rule 1 (registry.example/team/*, greeter) does not allow it`},
		{"a maintainer is not bound to images", 5, image, "2026-12-20", "", "2026-12-10", []Role{RoleMaintainer}, "", ""},
		{"too old", 2, "registry.example/other", "2026-12-20", "x:y", "2026-12-18T11:59:59Z", []Role{RoleRebuilder}, TooOld,
			`the report is of 2026-12-18T11:59:59Z, more than 36h before 2026-12-20T00:00:00Z`},
		{"just not too old", 2, "registry.example/other", "2026-12-20", "x:y", "2026-12-18T12:00:00Z", []Role{RoleRebuilder}, "", ""},
		{"a clock that is ahead", 0, image, "2026-12-20", builder, "2026-12-20T00:05:00Z", []Role{RoleRebuilder}, "", ""},
		{"from the future", 0, image, "2026-12-20", builder, "2026-12-20T00:05:01Z", []Role{RoleRebuilder}, FromFuture,
			`the statement is of 2026-12-20T00:05:01Z, and it is judged as of 2026-12-20T00:00:00Z`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			n, err := p.For(test.image, day(test.at))
			if err != nil {
				t.Fatal(err)
			}
			all := n.Speakers()
			i := slices.IndexFunc(all, func(s Speaker) bool { return s.Key == testKeys()[test.key] })
			err = n.Hears(all[i], Said{Time: day(test.said), BuilderID: test.builder}, test.roles...)
			if test.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Code != test.code || refused.Message != test.wantSuffix {
				t.Errorf("got  %v\nwant %s: %s", err, test.code, test.wantSuffix)
			}
		})
	}
}

// Judge hears what Hears hears: a report that the policy refuses is no voice.
func TestJudgeUnderRules(t *testing.T) {
	p := parse(t, grownPolicy)
	n, err := p.For("registry.example/other", day("2026-12-20"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) func(*Report) { return func(r *Report) { r.Finished = day(text) } }
	old := func(r *Report) { r.KeyFingerprint = testKeys()[1].Fingerprint() }
	v, agreed := Judge(job, n, []Submission{says(n, "ams", "x", at("2026-12-19"), old), says(n, "osl", "x", at("2026-12-19"))})
	if agreed == nil || v.Outcomes[0].Fingerprint != testKeys()[1].Fingerprint() {
		t.Errorf("a former key in its window does not count: %+v", v)
	}
	// Both keys of one rebuilder are one voice.
	v, agreed = Judge(job, n, []Submission{says(n, "ams", "x", at("2026-12-19"), old), says(n, "ams", "x", at("2026-12-19"))})
	if agreed != nil || v.Decision != Inconclusive {
		t.Errorf("two keys of one rebuilder are two voices: %+v", v)
	}
	v, agreed = Judge(job, n, []Submission{says(n, "ams", "x", at("2026-12-01")), says(n, "osl", "x", at("2026-12-19"))})
	if agreed != nil || tell(v) != "inconclusive: ams=error osl=agree" || !strings.HasPrefix(v.Outcomes[0].Reason, "the report is of 2026-12-01T00:00:00Z, more than 36h") {
		t.Errorf("an old report counts: %+v", v)
	}
}

// grownAny draws policies of every form.
func grownAny() *rapid.Generator[*Policy] {
	when := rapid.Custom(func(t *rapid.T) time.Time {
		return day("2026-01-01").Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "hours")) * time.Hour)
	})
	term := rapid.Custom(func(t *rapid.T) Term {
		var m Term
		if rapid.Bool().Draw(t, "from") {
			m.From = when.Draw(t, "from")
		}
		if rapid.Bool().Draw(t, "until") {
			m.Until = when.Draw(t, "until").Add(time.Second)
		}
		if rapid.Bool().Draw(t, "revoked") {
			m.Revoked = when.Draw(t, "at")
			m.Reason = rapid.SampledFrom([]string{"", "lost", `a "b" \c: #d`, "geklaut — ü"}).Draw(t, "reason")
		}
		return m
	})
	return rapid.Custom(func(t *rapid.T) *Policy {
		keys := rapid.Permutation(testKeys()).Draw(t, "keys")
		p := &Policy{
			Name: "1e3", Version: rapid.IntRange(1, 9).Draw(t, "version"), Threshold: 1,
			MaxAge: time.Duration(rapid.IntRange(0, 100).Draw(t, "age")) * time.Hour, AllowDissent: rapid.Bool().Draw(t, "dissent"),
			Rebuilders: []Rebuilder{
				{Name: "null", Operator: "true", Key: keys[0], BuilderID: "https://a.example/o'x", Term: term.Draw(t, "term")},
				{Name: "b", Operator: "0x1", Key: keys[1], Term: term.Draw(t, "term")},
			},
			Signers:             []SignerKey{{Name: "b", Key: keys[2], Term: term.Draw(t, "term"), Former: []FormerKey{{keys[3], term.Draw(t, "former")}}}},
			Maintainers:         []SignerKey{{Name: "m", Key: keys[4]}},
			Auditors:            []SignerKey{{Name: "m", Key: keys[5]}},
			MaintainerThreshold: rapid.IntRange(0, 1).Draw(t, "maintainers"),
		}
		if rapid.Bool().Draw(t, "distinct") {
			p.Distinct = map[string]int{"operator": rapid.IntRange(1, 2).Draw(t, "operators"), "y": 1}
		}
		images := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b/*", "c/**", "1", "~"}), 0, 3, rapid.ID).Draw(t, "images")
		for _, i := range images {
			r := ImageRule{Images: []string{i}, Threshold: rapid.IntRange(0, 2).Draw(t, "threshold"), MaxAge: time.Duration(rapid.IntRange(0, 50).Draw(t, "age")) * time.Hour}
			if rapid.Bool().Draw(t, "allow") {
				r.Allow = []Grant{{RoleRebuilder, "null", ""}, {RoleRebuilder, "b", "x:y"}, {RoleAuditor, "m", ""}}
			}
			p.Rules = append(p.Rules, r)
		}
		return p
	}).Filter(func(p *Policy) bool { return p.Check() == nil })
}

// What is written is read as the same policy, and written again as the same bytes.
func TestFormatAndParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := grownAny().Draw(t, "policy")
		files := p.Format()
		got, err := ParsePolicy("policy.yaml", files["policy.yaml"], func(path string) ([]byte, error) {
			if b, ok := files[path]; ok {
				return b, nil
			}
			return nil, fs.ErrNotExist
		})
		if err != nil {
			t.Fatalf("%v\n%s", err, files["policy.yaml"])
		}
		if string(got.Canonical()) != string(p.Canonical()) {
			t.Fatalf("got\n%s\nwant\n%s", got.Canonical(), p.Canonical())
		}
		if again := got.Format(); !maps.EqualFunc(files, again, func(a, b []byte) bool { return string(a) == string(b) }) {
			t.Fatalf("written again:\n%s\nfirst:\n%s", again["policy.yaml"], files["policy.yaml"])
		}
	})
}
