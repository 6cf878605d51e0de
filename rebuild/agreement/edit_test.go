package agreement

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quorate.dev/rebuild/keyfile"
)

// small is a policy as people write it, with two keys to spare (4 and 5).
const small = `# ours
apiVersion: quorate/v1
kind: Policy
name: acme
version: 3  # see CHANGES

threshold: 2
rebuilders:
  - name: ams          # the one in the cellar
    operator: acme
    key: keys/0.pub
    valid: {from: 2026-01-01}
  - {name: osl, operator: umbra, key: keys/1.pub, former: [{key: keys/2.pub, valid: {until: 2026-01-01}}]} # far away
maintainers:
  - {name: alice, key: keys/3.pub}
`

func TestEditPolicy(t *testing.T) {
	for _, test := range []struct {
		summary  string
		change   func(e *PolicyEdit) error
		old, new string
	}{
		{"rotate in a block", func(e *PolicyEdit) error {
			return e.Rotate("", "ams", "keys/4.pub", day("2026-12-01"), day("2027-01-01"))
		},
			"    key: keys/0.pub\n    valid: {from: 2026-01-01}\n",
			"    key: keys/4.pub\n    valid: {from: 2026-12-01}\n    former: [{key: keys/0.pub, valid: {from: 2026-01-01, until: 2027-01-01}}]\n"},
		{"rotate once more", func(e *PolicyEdit) error {
			return e.Rotate(RoleRebuilder, "osl", "keys/4.pub", day("2026-12-01"), day("2026-12-31T12:00:00Z"))
		},
			"key: keys/1.pub, former: [{key: keys/2.pub, valid: {until: 2026-01-01}}]",
			"key: keys/4.pub, valid: {from: 2026-12-01}, former: [{key: keys/2.pub, valid: {until: 2026-01-01}}, {key: keys/1.pub, valid: {until: 2026-12-31T12:00:00Z}}]"},
		{"revoke", func(e *PolicyEdit) error {
			return e.Revoke("", "ams", keyfile.PublicKey{}, day("2026-11-03"), `disk "stolen"`)
		},
			"key: keys/0.pub\n", "key: keys/0.pub\n    revoked: {at: 2026-11-03, reason: \"disk \\\"stolen\\\"\"}\n"},
		{"revoke a former key", func(e *PolicyEdit) error { return e.Revoke("", "osl", testKeys()[2], day("2025-11-03"), "") },
			"{key: keys/2.pub, valid", "{key: keys/2.pub, revoked: {at: 2025-11-03}, valid"},
		{"a rebuilder more", func(e *PolicyEdit) error {
			return e.Add(Newcomer{Role: RoleRebuilder, Name: "1e3", KeyPath: "keys/4.pub", Operator: "null", BuilderID: "https://x.example/b", Until: day("2028-01-01")})
		},
			"# far away\n", "# far away\n  - {name: \"1e3\", operator: \"null\", key: keys/4.pub, builder-id: \"https://x.example/b\", valid: {until: 2028-01-01}}\n"},
		{"a maintainer more", func(e *PolicyEdit) error {
			return e.Add(Newcomer{Role: RoleMaintainer, Name: "bob", KeyPath: "keys/4.pub"})
		},
			"{name: alice, key: keys/3.pub}\n", "{name: alice, key: keys/3.pub}\n  - {name: bob, key: keys/4.pub}\n"},
		{"the first auditor", func(e *PolicyEdit) error {
			return e.Add(Newcomer{Role: RoleAuditor, Name: "cert", KeyPath: "keys/4.pub"})
		},
			"{name: alice, key: keys/3.pub}\n", "{name: alice, key: keys/3.pub}\nauditors:\n  - {name: cert, key: keys/4.pub}\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			e, err := EditPolicy("policy.yaml", []byte(small), keysByPath)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.change(e); err != nil {
				t.Fatal(err)
			}
			got, policy, err := e.Done(4)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Replace(strings.Replace(small, test.old, test.new, 1), "version: 3 ", "version: 4 ", 1)
			if string(got) != want || policy.Version != 4 {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestEditPolicyRefuses(t *testing.T) {
	twice := strings.Replace(small, "name: alice", "name: ams", 1)
	for _, test := range []struct {
		summary, text string
		change        func(e *PolicyEdit) error
		want          string
	}{
		{"nobody", small, func(e *PolicyEdit) error { return e.Revoke("", "ber", keyfile.PublicKey{}, day("2026-01-01"), "") }, `"policy.yaml" names no "ber"`},
		{"nobody in that role", small, func(e *PolicyEdit) error {
			return e.Revoke(RoleAuditor, "ams", keyfile.PublicKey{}, day("2026-01-01"), "")
		}, `"policy.yaml" has no auditor named "ams"`},
		{"two of that name", twice, func(e *PolicyEdit) error { return e.Revoke("", "ams", keyfile.PublicKey{}, day("2026-01-01"), "") },
			`"ams" is a rebuilder and a maintainer in "policy.yaml"; say which: --role`},
		{"another's key", small, func(e *PolicyEdit) error { return e.Revoke("", "ams", testKeys()[1], day("2026-01-01"), "") },
			fmt.Sprintf(`key %.16s… is not one of "ams" in "policy.yaml"`, testKeys()[1].Fingerprint())},
		{"a revocation that would be softened", strings.Replace(small, "operator: acme\n", "operator: acme\n    revoked: {at: 2026-06-01}\n", 1),
			func(e *PolicyEdit) error { return e.Revoke("", "ams", keyfile.PublicKey{}, day("2026-07-01"), "") },
			`that key of "ams" is revoked already, at 2026-06-01`},
		{"a key that is not there", small, func(e *PolicyEdit) error {
			return e.Rotate("", "ams", "keys/9.pub", day("2026-01-01"), day("2026-02-01"))
		},
			`cannot read key "keys/9.pub": file does not exist`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			e, err := EditPolicy("policy.yaml", []byte(test.text), keysByPath)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.change(e); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	// What cannot mean anything is said with its place, and not handed out.
	e, err := EditPolicy("policy.yaml", []byte(small), keysByPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Rotate("", "ams", "keys/1.pub", day("2026-12-01"), day("2027-01-01")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Done(4); err == nil || !strings.Contains(err.Error(), `policy.yaml:14:39: names "ams" and "osl" have the same key; identity is key material`) {
		t.Errorf("a key of two names is handed out: %v", err)
	}
}

// Whatever the policy, an edit of what Format writes means what it should, or is refused.
func TestEditAnyPolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := grownAny().Draw(t, "policy")
		files := p.Format()
		load := func(path string) ([]byte, error) { return files[path], nil }
		e, err := EditPolicy("policy.yaml", files["policy.yaml"], load)
		if err != nil {
			t.Fatal(err)
		}
		spare, err := keyfile.Generate()
		if err != nil {
			t.Fatal(err)
		}
		files["spare.pub"] = spare.Public().PEM()
		at := day("2027-01-01").Add(time.Duration(rapid.IntRange(0, 99).Draw(t, "hours")) * time.Hour)
		name := rapid.SampledFrom([]string{"null", "b"}).Draw(t, "name")
		if err := e.Rotate(RoleRebuilder, name, "spare.pub", at, at.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := e.Revoke(RoleRebuilder, name, keyfile.PublicKey{}, at, "lost: #1"); err != nil {
			t.Fatal(err)
		}
		data, got, err := e.Done(p.Version + 1)
		if err != nil {
			t.Fatalf("%v\n%s", err, files["policy.yaml"])
		}
		r, _ := got.Rebuilder(name)
		if r.Key != spare.Public() || len(r.Former) != 1 || !r.Revoked.Equal(at) || got.Version != p.Version+1 {
			t.Fatalf("%+v\n%s", r, data)
		}
	})
}
