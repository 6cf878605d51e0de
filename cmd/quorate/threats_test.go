package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// threats are the attacks on signing, policy, registry and keys that Quorate has
// to refuse, and where each is tried: a story or a test, and the words in it
// that name the attack to whoever is attacked. Attacks on fetching and building
// are tried in the packages that do those.
var threats = []struct {
	threat string
	tried  []tried
}{
	{"the orchestrator lies: it signs an agreement that nobody's reports support", []tried{
		{"testdata/script/verify_forged.txtar", "no agreement that a signer of the policy signed"},
		{"rebuild/attestation/referrers_test.go", "func TestReferrersOfLiars"},
		{"rebuild/attestation/bundle_test.go", "func TestSignAgreementRefuses"},
	}},
	{"one rebuilder is compromised: it reports another image", []tried{
		{"testdata/script/verify_dissent.txtar", `sfo \(operator acme\): dissent`},
		{"testdata/script/publish_refused.txtar", `sfo \(operator acme\): dissent`},
	}},
	{"rebuilders collude: all of them report the same wrong image", []tried{
		{"testdata/script/reproduce.txtar", "NOT REPRODUCED: this machine built another image than"},
		{"testdata/script/reproduce_attest.txtar", `ann \(operator ann\): dissent`},
		{"rebuild/agreement/judge_test.go", "distinct"},
	}},
	{"a rebuilder builds nothing and repeats another's answer", []tried{
		{"rebuild/ballot_test.go", "its report is not the one that it committed to before others told theirs"},
	}},
	{"an old statement is replayed for another request", []tried{
		{"rebuild/rebuild_test.go", "replayed report of an old request"},
		{"rebuild/attestation/intoto/intoto_test.go", "links of an old request"},
	}},
	{"statements of one image are attached to another", []tried{
		{"testdata/script/verify_ref_replayed.txtar", "is not what the rebuilders built"},
		{"testdata/script/verify_ref_replayed.txtar", "is about another image"},
	}},
	{"the lock, the definition or a local input is swapped", []tried{
		{"testdata/script/verify_forged.txtar", "report is about lock"},
		{"testdata/script/publish_refused.txtar", "is not what was rebuilt"},
		{"testdata/script/publish_rebuild.txtar", "is not what was rebuilt"},
	}},
	{"who may delete from the registry removes or hides a statement", []tried{
		{"testdata/script/verify_ref_deleted.txtar", "it was deleted, or is hidden"},
		{"rebuild/attestation/referrers_test.go", "which cannot be read"},
	}},
	{"who may push to the registry adds statements of their own, or thousands", []tried{
		{"testdata/script/verify_ref_noise.txtar", "statement is not signed by any key of the policy"},
	}},
	{"the registry serves other bytes than it was given", []tried{
		{"testdata/script/publish_interrupted.txtar", "serves other bytes than were asked for"},
		{"builder/registry/registry_test.go", "func TestReadBackNotices"},
	}},
	{"the tag moves between judging and deploying, or while it is written", []tried{
		{"testdata/script/verify_ref_replayed.txtar", "what was verified is what was pinned"},
		{"builder/registry/registry_test.go", "func TestTagNotices"},
	}},
	{"what is pushed is not what was judged", []tried{
		{"testdata/script/publish_refused.txtar", "is not what the rebuilders built"},
		{"testdata/script/publish_staging.txtar", "bytes have digest"},
	}},
	{"a key was stolen: it signs after it was revoked", []tried{
		{"testdata/script/verify_revoked.txtar", "was revoked at"},
	}},
	{"a key is used outside of its time", []tried{
		{"testdata/script/verify_expired_key.txtar", "was valid until"},
		{"testdata/script/verify_expired_key.txtar", "is valid from"},
	}},
	{"a statement is too old to say anything about today, or of a clock that is wrong", []tried{
		{"testdata/script/verify_age.txtar", "more than 30d before"},
		{"rebuild/ballot_test.go", "or the report is an old one; set that machine's clock"},
	}},
	{"one rebuilder poses as two: one key under two names", []tried{
		{"testdata/script/verify_bad_policy.txtar", "identity is key material"},
		{"testdata/script/verify_forged.txtar", "one key is one voice"},
	}},
	{"one machine poses as two operators", []tried{
		{"rebuild/agreement/machine_test.go", "func TestMachines"},
	}},
	{"a dissent is hidden by spoiling its signature", []tried{
		{"testdata/script/verify_forged.txtar", "was changed afterwards"},
		{"testdata/script/publish_refusal.txtar", "what dissented then is not here, or was taken away"},
	}},
	{"a record of a disagreement is passed off as an agreement", []tried{
		{"rebuild/attestation/refused_test.go", "func TestRefusalIsNoAgreement"},
		{"testdata/script/publish_refusal.txtar", "quorate: not verified"},
	}},
	{"images that only look alike are taken for the same", []tried{
		{"rebuild/agreement/judge_test.go", "func TestJudge"},
		{"testdata/script/verify_bad_image.txtar", "exits 1"},
	}},
	{"a verifier is made to run commands", []tried{
		{"rebuild/attestation/intoto/intoto_test.go", "in-toto would run commands of the layout"},
	}},
	{"a statement claims somebody else's builder id", []tried{
		{"testdata/script/verify_rules.txtar", "report has builder id"},
	}},
	{"a signer speaks for an image or in a role that is not theirs", []tried{
		{"testdata/script/verify_rules.txtar", "may not speak for image"},
		{"testdata/script/verify_revoked.txtar", `but needs the role "release"`},
		{"rebuild/attestation/bundle_test.go", "who judges may not be who is judged"},
	}},
	{"an agreement about nothing", []tried{
		{"testdata/script/verify_forged.txtar", "ams=empty osl=empty"},
		{"rebuild/agreement/judge_test.go", "report names no image: nothing was built"},
	}},
	{"a policy that means nothing is taken for one that is content", []tried{
		{"testdata/script/verify_bad_policy.txtar", "threshold must be"},
	}},
	{"a password goes over an open line, or to somebody else's host", []tried{
		{"builder/registry/registry_test.go", "func TestPlainHTTP"},
		{"builder/registry/registry_test.go", "the next page elsewhere"},
	}},
}

// tried is where an attack is tried, by file, and the words to be found there.
type tried struct{ file, words string }

// The list is kept true: what it names exists, and says what the list says.
func TestThreatsAreTried(t *testing.T) {
	for _, one := range threats {
		if len(one.tried) == 0 {
			t.Errorf("nothing tries: %s", one.threat)
		}
		for _, where := range one.tried {
			text, err := os.ReadFile(filepath.Join(source, where.file))
			if err != nil {
				t.Errorf("%s: %v", one.threat, err)
				continue
			}
			if !strings.Contains(string(text), where.words) {
				t.Errorf("%s: %s does not say %q", one.threat, where.file, where.words)
			}
		}
	}
}
