package intoto

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/in-toto/in-toto-golang/in_toto"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

var ctx = context.Background()

func of(s string) digest.Digest { return digest.Of([]byte(s)) }

// team is a policy of three rebuilders, two of which must agree, with all keys.
type team struct {
	policy *agreement.Policy
	keys   map[string]*keyfile.Key // a, b, c and owner
}

func newTeam(t *testing.T) *team {
	t.Helper()
	tm := &team{policy: &agreement.Policy{Threshold: 2, AllowDissent: true}, keys: map[string]*keyfile.Key{}}
	for _, name := range []string{"a", "b", "c", "owner"} {
		key, err := keyfile.Generate()
		if err != nil {
			t.Fatal(err)
		}
		tm.keys[name] = key
		if name == "owner" {
			tm.policy.Signers = []agreement.SignerKey{{Name: name, Key: key.Public()}}
		} else {
			tm.policy.Rebuilders = append(tm.policy.Rebuilders, agreement.Rebuilder{Name: name, Operator: "acme", Key: key.Public()})
		}
	}
	return tm
}

func build(image string) Build {
	return Build{
		Lock: of("lock"), Definition: of("definition"), Nonce: "0123abcd",
		Steps: []agreement.StepDigest{{Platform: "linux/amd64", Step: "compile", Tree: of("out of " + image)}},
		Subjects: []agreement.Subject{
			{Name: "greeter", Platform: "linux/amd64", Digest: of(image)},
			{Name: "greeter", Platform: "linux/arm64", Digest: of(image + " arm64")},
		},
	}
}

func (tm *team) links(t *testing.T, who string, b Build) []byte {
	t.Helper()
	links, err := SignLinks(ctx, b, tm.keys[who])
	if err != nil {
		t.Fatal(err)
	}
	return links
}

// judge has the rebuilders submit what they built: {"a": "x", "b": "y"}.
func (tm *team) judge(t *testing.T, built map[string]string) *agreement.Agreement {
	t.Helper()
	job := agreement.Job{Lock: of("lock"), Definition: of("definition"), Nonce: "0123abcd"}
	var all []agreement.Submission
	for who, image := range built {
		image, steps, _ := strings.Cut(image, " from ")
		made := build(image)
		if steps != "" {
			made.Steps[0].Tree = of(steps)
		}
		all = append(all, agreement.Submission{Rebuilder: who, Report: &agreement.Report{
			Rebuilder: who, KeyFingerprint: tm.keys[who].Public().Fingerprint(), Nonce: job.Nonce, Lock: job.Lock, Definition: job.Definition,
			BuildDefinition: of("inputs"), Subjects: made.Subjects, Steps: made.Steps,
		}})
	}
	verdict, a := agreement.Judge(job, tm.policy, all)
	if a == nil {
		t.Fatal(verdict.Reasons)
	}
	return a
}

var never = time.Now().Add(time.Hour)

// verify is what `in-toto-golang verify` does with the folder.
func (tm *team) verify(t *testing.T, dir string) error {
	t.Helper()
	layout, err := in_toto.LoadMetadata(filepath.Join(dir, LayoutName))
	if err != nil {
		t.Fatal(err)
	}
	owner, err := keyOf(tm.keys["owner"].Public())
	if err != nil {
		t.Fatal(err)
	}
	_, err = in_toto.InTotoVerify(layout, map[string]in_toto.Key{owner.KeyID: owner}, dir, "", map[string]string{}, nil, false)
	return err
}

// names are the files of a rebuilder's links, in the order of SignLinks.
func names(t *testing.T, key *keyfile.Key) []string {
	t.Helper()
	var all []string
	for _, step := range []string{"step-linux-amd64-compile", stepName} {
		name, err := linkName(step, key.Public())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	return all
}

func put(t *testing.T, dir string, key *keyfile.Key, links []byte) {
	t.Helper()
	for i, link := range bytes.Split(bytes.TrimSpace(links), []byte("\n")) {
		if err := os.WriteFile(filepath.Join(dir, names(t, key)[i]), link, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInTotoVerify(t *testing.T) {
	tm := newTeam(t)
	links := map[string][]byte{"a": tm.links(t, "a", build("x")), "b": tm.links(t, "b", build("x")), "c": tm.links(t, "c", build("y"))}
	agreed := tm.judge(t, map[string]string{"a": "x", "b": "x", "c": "y"})
	old := build("x")
	old.Nonce = "fedc9876"
	for _, test := range []struct {
		summary string
		change  func(dir string)
		err     string // what in-toto says; "" when it accepts
	}{
		{"the agreeing set", func(string) {}, ""},
		{"the link of the build is missing", func(dir string) {
			os.Remove(filepath.Join(dir, names(t, tm.keys["a"])[1]))
		}, "requires '2' link metadata file(s), found '1'"},
		{"the link of a step is missing", func(dir string) {
			os.Remove(filepath.Join(dir, names(t, tm.keys["a"])[0]))
		}, "requires '2' link metadata file(s), found '1'"},
		{"a dissenting link added", func(dir string) { put(t, dir, tm.keys["c"], links["c"]) }, "have different artifacts"},
		{"links of another image", func(dir string) {
			put(t, dir, tm.keys["a"], tm.links(t, "a", build("y")))
			put(t, dir, tm.keys["b"], tm.links(t, "b", build("y")))
		}, "artifact verification failed for products in REQUIRE"},
		{"links of an old request", func(dir string) {
			put(t, dir, tm.keys["a"], tm.links(t, "a", old))
			put(t, dir, tm.keys["b"], tm.links(t, "b", old))
		}, "artifact verification failed for materials in REQUIRE"},
		{"one link under two names", func(dir string) { put(t, dir, tm.keys["a"], links["b"]) }, "found '1'"},
		{"a link signed by a stranger", func(dir string) {
			stranger, _ := keyfile.Generate()
			links, _ := SignLinks(ctx, build("x"), stranger)
			for _, name := range names(t, tm.keys["a"]) {
				os.Remove(filepath.Join(dir, name))
			}
			put(t, dir, stranger, links)
		}, "requires '2' link metadata file(s)"},
		{"a layout signed by a stranger", func(dir string) {
			layout, err := SignLayout(ctx, agreed, tm.policy, tm.keys["a"], never)
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(filepath.Join(dir, LayoutName), layout, 0o644)
		}, "no signature found for key"},
		{"an expired layout", func(dir string) {
			layout, err := SignLayout(ctx, agreed, tm.policy, tm.keys["owner"], time.Unix(1700000000, 0))
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(filepath.Join(dir, LayoutName), layout, 0o644)
		}, "layout has expired"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			dir := t.TempDir()
			if err := Write(ctx, dir, agreed, tm.policy, links, tm.keys["owner"], never); err != nil {
				t.Fatal(err)
			}
			test.change(dir)
			err := tm.verify(t, dir)
			switch {
			case test.err == "" && err != nil:
				t.Errorf("in-toto refuses: %v", err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("in-toto says %v, expected %q", err, test.err)
			}
		})
	}
}

// policyLayoutCases are who built what, and what in-toto says under a layout
// that a policy alone made.
var policyLayoutCases = []struct {
	summary string
	built   map[string]string
	err     string
}{
	{"two of three", map[string]string{"a": "x", "b": "x"}, ""},
	{"another image, and agreed", map[string]string{"a": "y", "b": "y"}, ""},
	{"only one", map[string]string{"a": "x"}, "requires '2' link metadata file(s), found '1'"},
	{"two that differ", map[string]string{"a": "x", "b": "y"}, "have different artifacts"},
	{"a third that differs", map[string]string{"a": "x", "b": "x", "c": "y"}, "have different artifacts"},
	{"a stranger", map[string]string{"a": "x", "stranger": "x"}, "requires '2' link metadata file(s)"},
}

// putPolicyLayout writes a layout of the team's policy, and links of the build.
func (tm *team) putPolicyLayout(t *testing.T, dir string, built map[string]string) {
	t.Helper()
	layout, err := SignPolicyLayout(ctx, tm.policy.Parts(time.Now())[0].Policy, tm.keys["owner"], never)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, LayoutName), layout, 0o644); err != nil {
		t.Fatal(err)
	}
	for who, image := range built {
		if tm.keys[who] == nil {
			tm.keys[who], _ = keyfile.Generate()
		}
		put(t, dir, tm.keys[who], tm.links(t, who, build(image)))
	}
}

func TestSignPolicyLayout(t *testing.T) {
	for _, test := range policyLayoutCases {
		t.Run(test.summary, func(t *testing.T) {
			tm, dir := newTeam(t), t.TempDir()
			tm.putPolicyLayout(t, dir, test.built)
			err := tm.verify(t, dir)
			switch {
			case test.err == "" && err != nil:
				t.Errorf("in-toto refuses: %v", err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("in-toto says %v, expected %q", err, test.err)
			}
		})
	}
	tm := newTeam(t)
	p := *tm.policy
	p.Rebuilders = slices.Clone(p.Rebuilders)
	spare, _ := keyfile.Generate()
	p.Rebuilders[0].Former = []agreement.FormerKey{{Key: spare.Public()}}
	if _, err := SignPolicyLayout(ctx, p.Parts(time.Now())[0].Policy, tm.keys["owner"], never); err == nil || !strings.Contains(err.Error(), "has two keys that count now") {
		t.Errorf("a rebuilder with two keys is counted twice: %v", err)
	}
	for i := range p.Rebuilders {
		p.Rebuilders[i].Former, p.Rebuilders[i].Until = nil, time.Unix(0, 1)
	}
	if _, err := SignPolicyLayout(ctx, p.Parts(time.Now())[0].Policy, tm.keys["owner"], never); err == nil || !strings.Contains(err.Error(), "only 0 rebuilders have a key that counts now") {
		t.Errorf("expired keys are in the layout: %v", err)
	}
}

func TestWriteLeavesOthersOut(t *testing.T) {
	tm := newTeam(t)
	links := map[string][]byte{"a": tm.links(t, "a", build("x")), "b": tm.links(t, "b", build("x")), "c": tm.links(t, "c", build("y"))}
	dir := t.TempDir()
	if err := Write(ctx, dir, tm.judge(t, map[string]string{"a": "x", "b": "x", "c": "y"}), tm.policy, links, tm.keys["owner"], never); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{LayoutName: true, signerName: true}
	for _, who := range []string{"a", "b"} {
		for _, name := range names(t, tm.keys[who]) {
			want[name] = true
		}
	}
	entries, _ := os.ReadDir(dir)
	got := map[string]bool{}
	for _, e := range entries {
		got[e.Name()] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A verifier of in-toto's runs what a layout has as inspections.
func TestLayoutRunsNothing(t *testing.T) {
	tm := newTeam(t)
	layout, err := SignLayout(ctx, tm.judge(t, map[string]string{"a": "x", "b": "x"}), tm.policy, tm.keys["owner"], never)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Signed struct {
			Inspect []any `json:"inspect"`
			Steps   []struct {
				Command []string `json:"expected_command"`
			} `json:"steps"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(layout, &read); err != nil {
		t.Fatal(err)
	}
	if len(read.Signed.Inspect) > 0 || len(read.Signed.Steps) != 2 {
		t.Errorf("in-toto would run commands of the layout: %+v", read.Signed)
	}
}

func TestWriteRefuses(t *testing.T) {
	tm := newTeam(t)
	agreed := tm.judge(t, map[string]string{"a": "x", "b": "x"})
	good := tm.links(t, "a", build("x"))
	idOf := func(who string) []byte {
		k, err := keyOf(tm.keys[who].Public())
		if err != nil {
			t.Fatal(err)
		}
		return []byte(k.KeyID)
	}
	stolen := bytes.ReplaceAll(good, idOf("a"), idOf("b"))
	other := newTeam(t)
	for _, test := range []struct {
		summary string
		agreed  *agreement.Agreement
		policy  *agreement.Policy
		links   []byte // of b
		err     string
	}{
		{"no agreement", nil, tm.policy, nil, "cannot make a layout: there is no agreement"},
		{"an agreement by nobody", new(agreement.Agreement), tm.policy, nil, "cannot make a layout: there is no agreement"},
		{"another policy", agreed, other.policy, nil, "cannot make a layout: the agreement was judged by another policy"},
		{"no links", agreed, tm.policy, nil, `cannot write in-toto metadata: links of "b" have 0 bytes, expected 1 to 8388608`},
		{"one link", agreed, tm.policy, good[:bytes.IndexByte(good, '\n')], `cannot write in-toto metadata: "b" has 1 links, expected 2: one for each step, and the build`},
		{"junk", agreed, tm.policy, []byte("x\ny"), `cannot write in-toto metadata: link "step-linux-amd64-compile" of "b" cannot be read: invalid character 'x' looking for beginning of value`},
		{"another's links", agreed, tm.policy, good, `cannot write in-toto metadata: link "step-linux-amd64-compile" of "b" is not signed once, with the key of its rebuilder`},
		{"another's links under its own key id", agreed, tm.policy, stolen, `cannot write in-toto metadata: link "step-linux-amd64-compile" of "b" is not signed with the key of its rebuilder: signature does not verify`},
		{"links of another build", agreed, tm.policy, tm.links(t, "b", build("y")), `cannot write in-toto metadata: link "step-linux-amd64-compile" of "b" tells of another build than the agreement`},
		{
			"steps that differ where images do not", tm.judge(t, map[string]string{"a": "x", "b": "x from other steps"}), tm.policy, nil,
			"cannot make a layout: a and b built the same image, but steps of theirs left different files: compile for linux/amd64",
		},
	} {
		dir := t.TempDir()
		err := Write(ctx, dir, test.agreed, test.policy, map[string][]byte{"a": good, "b": test.links}, tm.keys["owner"], never)
		if err == nil || err.Error() != test.err {
			t.Errorf("%s: error %v, expected %s", test.summary, err, test.err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: files were written: %v", test.summary, left)
		}
	}
	if _, err := SignLinks(ctx, Build{Lock: of("lock"), Definition: of("definition"), Nonce: "n"}, tm.keys["a"]); err == nil {
		t.Error("a link of nothing was signed")
	}
}

// FuzzLinks: whatever a rebuilder hands in as links, what is written are the
// links that the agreement wants, signed by it.
func FuzzLinks(f *testing.F) {
	key, err := keyfile.Generate()
	if err != nil {
		f.Fatal(err)
	}
	good, err := SignLinks(ctx, build("x"), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}\n{}"))
	f.Add(bytes.ToUpper(good))
	f.Fuzz(func(t *testing.T, lines []byte) {
		files := map[string][]byte{}
		if addLinks(files, lines, agreement.Rebuilder{Name: "a", Key: key.Public()}, build("x")) != nil {
			return
		}
		for i, want := range build("x").links() {
			name, _ := linkName(want.Name, key.Public())
			if err := checkLink(files[name], key.Public(), want); err != nil {
				t.Errorf("link %d was accepted, and %v", i, err)
			}
		}
		if len(files) != 2 {
			t.Errorf("%d files", len(files))
		}
	})
}
