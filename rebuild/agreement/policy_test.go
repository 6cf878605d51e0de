package agreement

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/keyfile"
)

// keysByPath stands for a folder of key files: keys/0.pub to keys/5.pub.
func keysByPath(path string) ([]byte, error) {
	if i := strings.Index("012345", strings.TrimSuffix(strings.TrimPrefix(path, "keys/"), ".pub")); i >= 0 && len(path) == len("keys/0.pub") {
		return testKeys()[i].PEM(), nil
	}
	if path == "keys/broken.pub" {
		return []byte("no key"), nil
	}
	return nil, fs.ErrNotExist
}

// samePolicy compares policies as they were parsed.
var samePolicy = cmp.Options{
	cmp.Comparer(func(a, b keyfile.PublicKey) bool { return a == b }),
	cmpopts.IgnoreUnexported(Policy{}),
}

const goodPolicy = `# who may say that an image is what its lock says
apiVersion: quorate/v1
kind: Policy
threshold: 2
distinct: {operator: 2, kernel: 1}
allow-dissent: true
rebuilders:
  - {name: ams, operator: acme, key: keys/0.pub}
  - {name: osl, operator: umbra, key: keys/1.pub, builder-id: "https://umbra.example/builders/osl"}
signers:
  - {name: release, key: keys/2.pub}
`

func TestParsePolicy(t *testing.T) {
	got, err := ParsePolicy("policy.yaml", []byte(goodPolicy), keysByPath)
	if err != nil {
		t.Fatal(err)
	}
	keys := testKeys()
	want := &Policy{
		Threshold: 2, Distinct: map[string]int{"operator": 2, "kernel": 1}, AllowDissent: true,
		Rebuilders: []Rebuilder{
			{Name: "ams", Operator: "acme", Key: keys[0]},
			{Name: "osl", Operator: "umbra", Key: keys[1], BuilderID: "https://umbra.example/builders/osl"},
		},
		Signers: []SignerKey{{Name: "release", Key: keys[2]}},
	}
	if diff := cmp.Diff(want, got, samePolicy); diff != "" {
		t.Error(diff)
	}
	reordered := strings.Replace(goodPolicy, "{operator: 2, kernel: 1}", "\n  kernel: 1\n  operator: 2", 1)
	again, err := ParsePolicy("policy.yaml", []byte(reordered), keysByPath)
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest() != got.Digest() {
		t.Error("another spelling of one policy has another digest")
	}
	again.Threshold = 1
	if again.Digest() == got.Digest() {
		t.Error("another threshold has the same digest")
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(goodPolicy, old) {
			t.Fatalf("%q is not in the good policy", old)
		}
		return strings.Replace(goodPolicy, old, new, 1)
	}
	for _, test := range []struct {
		summary, text string
		errs          []string // "line:column: message"
	}{
		{"empty", "", []string{"1:1: the file is empty"}},
		{"another kind", change("kind: Policy", "kind: Police"),
			[]string{`3:7: kind cannot be "Police", only "Policy"; did you mean "Policy"?`}},
		{"unknown field", change("threshold: 2", "treshold: 2"),
			[]string{`2:1: missing field "threshold"`, `4:1: unknown field "treshold"; did you mean "threshold"?`}},
		{"threshold 0", change("threshold: 2", "threshold: 0"),
			[]string{"4:12: threshold must be from 1 to 1000, not 0"}},
		{"threshold beyond the keys", change("threshold: 2", "threshold: 3"),
			[]string{"4:12: threshold is 3, but the rebuilders have only 2 distinct keys, so nothing could ever be agreed"}},
		{"more operators than there are", change("umbra, key", "acme, key"),
			[]string{"5:22: distinct operator is 2, but there are only 1 distinct operators, so nothing could ever be agreed"}},
		{"two names with one key", strings.Replace(change("threshold: 2", "threshold: 1"), "keys/1.pub", "keys/0.pub", 1),
			[]string{`9:39: names "ams" and "osl" have the same key; identity is key material`}},
		{"two rebuilders with one name", change("name: osl", "name: ams"),
			[]string{`9:12: two rebuilders are named "ams"`}},
		{"a rebuilder's key signs", change("keys/2.pub", "keys/0.pub"),
			[]string{`11:26: signer "release" has the key of rebuilder "ams"; who judges may not be who is judged`}},
		{"two signers with one key", goodPolicy + "  - {name: spare, key: keys/2.pub}\n",
			[]string{`12:24: signers "release" and "spare" have the same key; identity is key material`}},
		{"missing key file", change("keys/1.pub", "keys/9.pub"),
			[]string{`9:39: cannot read key "keys/9.pub": file does not exist`}},
		{"broken key file", change("keys/1.pub", "keys/broken.pub"),
			[]string{`9:39: key "keys/broken.pub": public key holds no PEM block`}},
		{"no rebuilders", change("rebuilders:\n  - {name: ams, operator: acme, key: keys/0.pub}\n  - {name: osl, operator: umbra, key: keys/1.pub, builder-id: \"https://umbra.example/builders/osl\"}", "rebuilders: []"),
			[]string{"7:13: rebuilders must not be empty"}},
		{"no operator", change("operator: acme, ", ""),
			[]string{`8:5: missing field "operator" in rebuilders[0]`}},
		{"bad name", change("name: ams", "name: ../ams"),
			[]string{`8:12: name "../ams" must be 1 to 64 lower-case letters, digits, ".", "_" or "-", beginning with a letter or digit`}},
		{"bad attribute", change("kernel: 1", "Kernel: 1"),
			[]string{`5:25: attribute "Kernel" must be 1 to 64 lower-case letters, digits, ".", "_" or "-", beginning with a letter`}},
		{"bad builder id", change(`"https://umbra.example/builders/osl"`, "osl"),
			[]string{`9:63: builder id "osl" must be a URI`}},
		{"alias", change("key: keys/0.pub", "key: &k keys/0.pub"),
			[]string{"8:38: an anchor (&k) is not allowed; write the value out where it is needed"}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			_, err := ParsePolicy("policy.yaml", []byte(test.text), keysByPath)
			var errs *strictyaml.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("error %v, expected a *strictyaml.Errors", err)
			}
			var got []string
			for _, e := range *errs {
				head, _, _ := strings.Cut(e.Error(), "\n")
				got = append(got, strings.TrimPrefix(head, "policy.yaml:"))
			}
			if diff := cmp.Diff(test.errs, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(goodPolicy))
	f.Add([]byte("apiVersion: quorate/v1\nkind: Policy\nthreshold: 1\nrebuilders: [{name: a, operator: a, key: keys/0.pub}]\n"))
	f.Add([]byte("distinct: {operator: 99999999999999999999}\n"))
	f.Add([]byte(grownPolicy))
	f.Fuzz(func(t *testing.T, data []byte) {
		policy, err := ParsePolicy("fuzz", data, keysByPath)
		if err == nil && policy.Check() != nil {
			t.Fatalf("accepted a policy that cannot be used: %v", policy.Check())
		}
		if err != nil {
			return
		}
		files := policy.Format()
		again, err := ParsePolicy("again", files["policy.yaml"], func(path string) ([]byte, error) { return files[path], nil })
		if err != nil || again.Digest() != policy.Digest() {
			t.Fatalf("written and read again it is another policy: %v\n%s", err, files["policy.yaml"])
		}
	})
}
