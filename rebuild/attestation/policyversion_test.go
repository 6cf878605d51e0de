package attestation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

var issued = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

var (
	maintainerKeys = map[string]*keyfile.Key{}
	maintainersMu  sync.Mutex
)

// maintainer is the key of that name, made when first asked for.
func maintainer(name string) *keyfile.Key {
	maintainersMu.Lock()
	defer maintainersMu.Unlock()
	if maintainerKeys[name] == nil {
		key, err := keyfile.Generate()
		if err != nil {
			panic(err)
		}
		maintainerKeys[name] = key
	}
	return maintainerKeys[name]
}

// versioned is the policy "acme" in a version, with these maintainers.
func versioned(version, threshold int, maintainers ...string) *agreement.Policy {
	p := policy(2)
	p.Name, p.Version, p.MaintainerThreshold = "acme", version, threshold
	for _, m := range maintainers {
		p.Maintainers = append(p.Maintainers, agreement.SignerKey{Name: m, Key: maintainer(m).Public()})
	}
	return p
}

// signedBy adds signatures to a history.
func signedBy(t testing.TB, history []*PolicyVersion, p *agreement.Policy, who ...string) []*PolicyVersion {
	t.Helper()
	for _, name := range who {
		var err error
		if history, err = SignPolicy(context.Background(), p, history, maintainer(name), issued); err != nil {
			t.Fatalf("%s cannot sign version %d: %v", name, p.Version, err)
		}
	}
	return history
}

// reopened is a history written and read.
func reopened(t testing.TB, history []*PolicyVersion) []*PolicyVersion {
	t.Helper()
	data, err := WritePolicyHistory(history)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenPolicyHistory(data)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := WritePolicyHistory(again)
	if err != nil || !bytes.Equal(data, twice) {
		t.Fatalf("written again it has other bytes (%v)", err)
	}
	return again
}

func TestFollowPolicy(t *testing.T) {
	p5 := versioned(5, 2, "alice", "bob", "carol")
	p6 := versioned(6, 2, "alice", "bob", "dave") // carol hands over to dave
	p7 := versioned(7, 1, "dave", "erin")         // and alice and bob leave
	changed := versioned(7, 1, "dave", "erin")
	changed.Threshold = 1
	h5 := signedBy(t, nil, p5, "alice", "bob")
	h6 := signedBy(t, h5, p6, "alice", "bob")
	h7 := signedBy(t, h6, p7, "alice", "bob", "dave")
	seen5, seen6, seen7 := h5[0], h6[1], h7[2]
	stolen := signedBy(t, h6, p7, "dave", "erin") // enough of the new, and of the old only dave
	own := signedBy(t, nil, versioned(7, 1, "mallory"), "mallory")

	for _, test := range []struct {
		summary  string
		policy   *agreement.Policy
		history  []*PolicyVersion
		seen     *PolicyVersion
		want     string
		rollback bool
	}{
		{"the first time", p7, h7, nil, "", false},
		{"the first time, without its past", p7, h7[2:], nil, "", false},
		{"the same again", p7, h7, seen7, "", false},
		{"the next one", p6, h6, seen5, "", false},
		{"two versions later", p7, h7, seen5, "", false},
		{"two versions later, one left out", p7, []*PolicyVersion{h7[0], h7[2]}, seen5, "", false}, // alice and bob signed, who are two of version 5 as well
		{"without any past", p7, h7[2:], seen6, "", false},
		{"below the threshold", p5, signedBy(t, nil, p5, "alice"), nil,
			`policy "acme", version 5, is not signed by enough of its maintainers; it needs 1 more of the maintainers of version 5: bob, carol`, false},
		{"the old ones did not hand over", p7, stolen, seen6,
			`policy "acme", version 7, is not signed by enough maintainers of version 6, who have to hand over; it needs 1 more of the maintainers of version 6: alice, bob`, false},
		{"somebody else's policy of the same name", versioned(7, 1, "mallory"), own, seen6,
			`policy "acme", version 7, is not signed by enough maintainers of version 6, who have to hand over; it needs 2 more of the maintainers of version 6: alice, bob, dave`, false},
		{"a lower version", p5, h5, seen6, `policy "acme" has version 5, but version 6 was seen before: somebody may be offering an old one`, true},
		{"another one of the same version", versioned(7, 1, "mallory"), own, seen7,
			`policy "acme", version 7, is another one than the version 7 that was seen before: maintainers signed two, or somebody else did`, true},
		{"changed after signing", changed, h7, seen7, `policy "acme", version 7, is not what its maintainers signed: it was changed since`, false},
		{"signatures of an older version", p7, h6, nil, `policy "acme" has version 7, but its signatures are of version 6`, false},
		{"signatures of another policy", func() *agreement.Policy { p := versioned(7, 1, "dave"); p.Name = "other"; return p }(), h7, nil,
			`the signatures are of policy "acme", not "other"`, false},
		{"no signatures", p7, nil, nil, `policy "acme" is not signed`, false},
	} {
		t.Run(test.summary, func(t *testing.T) {
			history := test.history
			if history != nil {
				history = reopened(t, history)
			}
			got, err := FollowPolicy(test.policy, history, test.seen)
			if test.want == "" {
				if err != nil || got.Version != test.policy.Version {
					t.Fatalf("got %v", err)
				}
				return
			}
			var e *PolicyError
			if !errors.As(err, &e) || e.Message != test.want || e.Rollback != test.rollback {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// Keys of maintainers have windows, too, and one maintainer with two keys is one.
func TestMaintainersTerms(t *testing.T) {
	p := versioned(1, 2, "alice", "bob")
	p.Maintainers[1].Former = []agreement.FormerKey{{Key: maintainer("bob-old").Public()}}
	h := signedBy(t, nil, p, "bob", "bob-old")
	if got := h[0].SignedBy(h[0]); !slices.Equal(got, []string{"bob"}) {
		t.Errorf("two keys of bob are %q", got)
	}
	p.Maintainers[0].Until = issued
	if _, err := SignPolicy(context.Background(), p, nil, maintainer("alice"), issued); err == nil || err.Error() != `the key of maintainer "alice" does not count at 2026-11-01T00:00:00Z, when this version was drawn up` {
		t.Errorf("an expired maintainer signs: %v", err)
	}
}

func TestSignPolicyRefuses(t *testing.T) {
	p := versioned(3, 1, "alice")
	h := signedBy(t, nil, p, "alice")
	other := versioned(3, 1, "alice", "bob")
	anonymous := policy(1)
	for _, test := range []struct {
		summary string
		policy  *agreement.Policy
		who     string
		want    string
	}{
		{"twice", p, "alice", ErrSignedAlready.Error()},
		{"a stranger", p, "mallory", `key ` + maintainer("mallory").Public().Fingerprint()[:16] + `… is none of the maintainers of policy "acme"`},
		{"a lower version", versioned(2, 1, "alice"), "alice", "the policy has version 2, but version 3 is signed already; raise its version"},
		{"another content", other, "alice", "version 3 was signed with another content; raise the version in the policy: what somebody has signed does not change"},
		{"a policy without a name", anonymous, "alice", "only a policy with a name, a version and maintainers can be signed"},
	} {
		if _, err := SignPolicy(context.Background(), test.policy, h, maintainer(test.who), issued); err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", test.summary, err, test.want)
		}
	}
}

func FuzzOpenPolicyHistory(f *testing.F) {
	p5, p6 := versioned(5, 2, "alice", "bob"), versioned(6, 1, "alice")
	good, err := WritePolicyHistory(signedBy(f, signedBy(f, nil, p5, "alice", "bob"), p6, "alice"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.ReplaceAll(good, []byte(`"sig"`), []byte(`"keyid":"x","sig"`)))
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"","signatures":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		history, err := OpenPolicyHistory(data)
		if err != nil {
			return
		}
		again, err := WritePolicyHistory(history)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenPolicyHistory(again); err != nil {
			t.Fatalf("what was read cannot be read again: %v\n%s", err, again)
		}
		if v, err := FollowPolicy(p6, history, nil); err == nil && len(v.SignedBy(v)) == 0 {
			t.Fatal("followed without a signature")
		}
	})
}

// Nothing in a signed version can be changed without its signatures noticing.
func TestPolicyVersionIsSealed(t *testing.T) {
	p := versioned(5, 1, "alice")
	h := signedBy(t, nil, p, "alice")
	for old, new := range map[string]string{
		`"version":5`: `"version":4`, "2026-11-01": "2026-11-02", `"maintainerThreshold":1`: `"maintainerThreshold":2`, `"name":"alice"`: `"name":"bob"`,
	} {
		forged := strings.Replace(string(h[0].payload), old, new, 1)
		if forged == string(h[0].payload) {
			t.Fatalf("%s is not in the payload", old)
		}
		v, err := parsePolicyVersion([]byte(forged))
		if err != nil {
			t.Fatal(err)
		}
		v.sigs = h[0].sigs
		if got := v.SignedBy(v); len(got) > 0 {
			t.Errorf("%s: signed by %s", fmt.Sprint(new), got)
		}
	}
}
