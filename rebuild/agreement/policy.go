package agreement

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/keyfile"
)

// Policy says whose word counts and how many must say the same:
//
//	apiVersion: quorate/v1
//	kind: Policy
//	threshold: 2                 # distinct keys that must say the same
//	distinct: {operator: 2}      # and how distinct they must be; optional
//	allow-dissent: false         # the default: any dissent blocks
//	rebuilders:
//	  - {name: ams, operator: acme,  key: keys/ams.pub}
//	  - {name: osl, operator: umbra, key: keys/osl.pub, builder-id: "https://umbra.example/builders/osl"}
//	signers:                     # whose agreements count
//	  - {name: release, key: keys/release.pub}
//
// The attributes of distinct are "operator" and "key", which come from the
// policy itself, "machine" (see the package comment), or names from the environment that reports claim, such as
// "cpu-vendor" and "kernel".
type Policy struct {
	Threshold    int
	Distinct     map[string]int // attribute → how many distinct values at least
	AllowDissent bool
	Rebuilders   []Rebuilder
	Signers      []SignerKey
}

// Rebuilder is someone whose reports count.
type Rebuilder struct {
	Name      string
	Operator  string // who runs it; rebuilders of one operator are not independent
	Key       keyfile.PublicKey
	BuilderID string // SLSA builder.id that its reports must have; "" accepts any
}

// SignerKey is someone whose signature on an agreement counts.
type SignerKey struct {
	Name string
	Key  keyfile.PublicKey
}

// MaxRebuilders bounds rebuilders and signers of a policy. Verifying tries keys
// one by one; nobody runs a thousand builds of one image, and 1000 of 1000
// signatures still take only a tenth of a second.
const MaxRebuilders = 1000

// Names of rebuilders, operators and attributes appear in file names and
// statements, so they are plain.
var (
	namePattern      = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	attributePattern = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,63}$`)
)

// CheckName says whether s may name a rebuilder, an operator or a signer.
func CheckName(s string) error {
	if !namePattern.MatchString(s) {
		return strictyaml.Refuse("name %q must be 1 to 64 lower-case letters, digits, \".\", \"_\" or \"-\", beginning with a letter or digit", s)
	}
	return nil
}

// CheckAttribute says whether s may name a fact of an environment.
func CheckAttribute(s string) error {
	if !attributePattern.MatchString(s) {
		return strictyaml.Refuse("attribute %q must be 1 to 64 lower-case letters, digits, \".\", \"_\" or \"-\", beginning with a letter", s)
	}
	return nil
}

// problem is one fault of a policy and where it is in the file.
type problem struct {
	path    []any // for strictyaml's Document.At
	message string
}

// Check returns an error that lists every fault, or nil. Judge uses no policy
// that has one.
func (p *Policy) Check() error {
	if p == nil {
		return errors.New("there is no policy")
	}
	problems := p.lint()
	if len(problems) == 0 {
		return nil
	}
	messages := make([]string, len(problems))
	for i, one := range problems {
		messages[i] = one.message
	}
	return fmt.Errorf("policy cannot be used: %s", strings.Join(messages, "; "))
}

func (p *Policy) lint() []problem {
	var problems []problem
	fault := func(message string, path ...any) { problems = append(problems, problem{path, message}) }

	if len(p.Rebuilders) == 0 {
		fault("no rebuilders", "rebuilders")
	}
	if len(p.Rebuilders) > MaxRebuilders || len(p.Signers) > MaxRebuilders {
		fault(fmt.Sprintf("more than %d rebuilders or signers", MaxRebuilders), "rebuilders")
		return problems // the checks below would take long
	}
	owner := make(map[keyfile.PublicKey]string) // key → name of the rebuilder
	names := make(map[string]bool)
	operators := make(map[string]bool)
	for i, r := range p.Rebuilders {
		if err := CheckName(r.Name); err != nil {
			fault(err.Error(), "rebuilders", i, "name")
		} else if names[r.Name] {
			fault(fmt.Sprintf("two rebuilders are named %q", r.Name), "rebuilders", i, "name")
		}
		if err := CheckName(r.Operator); err != nil {
			fault("operator's "+err.Error(), "rebuilders", i, "operator")
		}
		names[r.Name], operators[r.Operator] = true, true
		if r.Key.IsZero() {
			fault(fmt.Sprintf("rebuilder %q has no key", r.Name), "rebuilders", i, "key")
		} else if first, twice := owner[r.Key]; twice {
			fault(fmt.Sprintf("names %q and %q have the same key; identity is key material", first, r.Name), "rebuilders", i, "key")
		} else {
			owner[r.Key] = r.Name
		}
	}
	problems = append(problems, p.lintSigners(owner)...)
	return append(problems, p.lintRule(len(owner), len(operators))...)
}

func (p *Policy) lintSigners(owner map[keyfile.PublicKey]string) []problem {
	var problems []problem
	fault := func(i int, field, message string) {
		problems = append(problems, problem{[]any{"signers", i, field}, message})
	}
	signer := make(map[keyfile.PublicKey]string)
	names := make(map[string]bool)
	for i, s := range p.Signers {
		if err := CheckName(s.Name); err != nil {
			fault(i, "name", err.Error())
		} else if names[s.Name] {
			fault(i, "name", fmt.Sprintf("two signers are named %q", s.Name))
		}
		names[s.Name] = true
		switch first, twice := signer[s.Key]; {
		case s.Key.IsZero():
			fault(i, "key", fmt.Sprintf("signer %q has no key", s.Name))
		case owner[s.Key] != "":
			fault(i, "key", fmt.Sprintf("signer %q has the key of rebuilder %q; who judges may not be who is judged", s.Name, owner[s.Key]))
		case twice:
			fault(i, "key", fmt.Sprintf("signers %q and %q have the same key; identity is key material", first, s.Name))
		}
		signer[s.Key] = s.Name
	}
	return problems
}

func (p *Policy) lintRule(keys, operators int) []problem {
	var problems []problem
	fault := func(message string, path ...any) { problems = append(problems, problem{path, message}) }
	switch {
	case p.Threshold < 1:
		fault(fmt.Sprintf("threshold is %d, expected at least 1", p.Threshold), "threshold")
	case p.Threshold > keys && len(p.Rebuilders) > 0:
		fault(fmt.Sprintf("threshold is %d, but the rebuilders have only %s, so nothing could ever be agreed", p.Threshold, count(keys, "distinct key", "distinct keys")), "threshold")
	}
	for _, attribute := range slices.Sorted(maps.Keys(p.Distinct)) {
		most, what := len(p.Rebuilders), "rebuilders"
		switch attribute {
		case "operator":
			most, what = operators, "distinct operators"
		case "key":
			most, what = keys, "distinct keys"
		}
		n, nameErr := p.Distinct[attribute], CheckAttribute(attribute)
		switch {
		case nameErr != nil:
			fault(nameErr.Error(), "distinct", attribute)
		case n < 1:
			fault(fmt.Sprintf("distinct %s is %d, expected at least 1", attribute, n), "distinct", attribute)
		case n > most && len(p.Rebuilders) > 0:
			fault(fmt.Sprintf("distinct %s is %d, but there are only %d %s, so nothing could ever be agreed", attribute, n, most, what), "distinct", attribute)
		}
	}
	return problems
}

func (p *Policy) rule() Rule {
	return Rule{Threshold: p.Threshold, Distinct: p.Distinct, AllowDissent: p.AllowDissent}.clone()
}

// Rebuilder returns the rebuilder of that name.
func (p *Policy) Rebuilder(name string) (Rebuilder, bool) {
	i := slices.IndexFunc(p.Rebuilders, func(r Rebuilder) bool { return r.Name == name })
	if i < 0 {
		return Rebuilder{}, false
	}
	return p.Rebuilders[i], true
}

// Canonical returns the policy's meaning as text, with key fingerprints in the
// place of key files, the same for every order and spelling of the same policy:
//
//	quorate policy v1
//	threshold 2
//	allow-dissent false
//	distinct "operator" 2
//	rebuilder "ams" "acme" "9f86d0…" ""
//	signer "release" "60303a…"
func (p *Policy) Canonical() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "quorate policy v1\nthreshold %d\nallow-dissent %t\n", p.Threshold, p.AllowDissent)
	for _, attribute := range slices.Sorted(maps.Keys(p.Distinct)) {
		fmt.Fprintf(&b, "distinct %q %d\n", attribute, p.Distinct[attribute])
	}
	var lines []string
	for _, r := range p.Rebuilders {
		lines = append(lines, fmt.Sprintf("rebuilder %q %q %q %q\n", r.Name, r.Operator, r.Key.Fingerprint(), r.BuilderID))
	}
	for _, s := range p.Signers {
		lines = append(lines, fmt.Sprintf("signer %q %q\n", s.Name, s.Key.Fingerprint()))
	}
	slices.Sort(lines)
	for _, l := range lines {
		b.WriteString(l)
	}
	return []byte(b.String())
}

// Digest returns the sha256 of Canonical.
func (p *Policy) Digest() digest.Digest { return digest.Of(p.Canonical()) }

// limits of a policy file: a thousand rebuilders with long names are some
// 200 KiB and 10,000 keys and values, and nothing nests deeper than a
// rebuilder's field (4).
var limits = strictyaml.Limits{Bytes: 1 << 20, Depth: 8, Nodes: 20_000}

// file is a policy as it is written.
type file struct {
	apiVersion, kind string
	policy           Policy
	keys             []string // paths; of the rebuilders, then of the signers
}

type entry struct {
	name, operator, key, builderID string
}

// ParsePolicy reads a policy file. fileName is only used in messages.
// loadKey returns the public key file of a path as the policy writes it. The error is
// a *strictyaml.Errors, which names every mistake with its place.
func ParsePolicy(fileName string, data []byte, loadKey func(path string) ([]byte, error)) (*Policy, error) {
	doc, err := strictyaml.Open(fileName, data, limits)
	if err != nil {
		return nil, err
	}
	parsed := strictyaml.Read(doc, policyShape())
	if err := doc.Err(); err != nil {
		return nil, err
	}
	policy := &parsed.policy
	load := func(path, list string, i int) keyfile.PublicKey {
		key, err := loadPublic(path, loadKey)
		if err != nil {
			doc.Errorf(doc.At(list, i, "key"), "%v", err)
		}
		return key
	}
	for i := range policy.Rebuilders {
		policy.Rebuilders[i].Key = load(parsed.keys[i], "rebuilders", i)
	}
	for i := range policy.Signers {
		policy.Signers[i].Key = load(parsed.keys[len(policy.Rebuilders)+i], "signers", i)
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	for _, p := range policy.lint() {
		doc.Errorf(doc.At(p.path...), "%s", p.message)
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return policy, nil
}

func loadPublic(path string, loadKey func(string) ([]byte, error)) (keyfile.PublicKey, error) {
	data, err := loadKey(path)
	if err != nil {
		return keyfile.PublicKey{}, fmt.Errorf("cannot read key %s: %w", strictyaml.Quote(path), err)
	}
	key, err := keyfile.ParsePublic(data)
	if err != nil {
		return keyfile.PublicKey{}, fmt.Errorf("key %s: %w", strictyaml.Quote(path), err)
	}
	return key, nil
}

func policyShape() strictyaml.Shape[file] {
	nameShape := strictyaml.Matching(namePattern.String(), CheckName)
	attribute := strictyaml.Matching(attributePattern.String(), CheckAttribute)
	path := strictyaml.Matching("", func(s string) error {
		if s == "" || !strictyaml.Printable(s) {
			return strictyaml.Refuse("key %q is not a path of a public key file", s)
		}
		return nil
	})
	uri := strictyaml.Matching("", CheckBuilderID)
	name := strictyaml.Required("name", "What it is called in outcomes and file names.", nameShape, func(e *entry, v string) { e.name = v })
	key := strictyaml.Required("key", "Public key file, PEM; relative to this file.", path, func(e *entry, v string) { e.key = v })
	rebuilder := strictyaml.Object(name, key,
		strictyaml.Required("operator", "Who runs it. Rebuilders of one operator are not independent.", nameShape, func(e *entry, v string) { e.operator = v }),
		strictyaml.Optional("builder-id", "SLSA builder.id that its reports must have.", uri, func(e *entry, v string) { e.builderID = v }),
	)
	signer := strictyaml.Object(name, key)

	return strictyaml.Object(
		strictyaml.Required("apiVersion", "Version of this format.", strictyaml.Word("quorate/v1"), func(f *file, v string) { f.apiVersion = v }),
		strictyaml.Required("kind", "What this file is.", strictyaml.Word("Policy"), func(f *file, v string) { f.kind = v }),
		strictyaml.Required("threshold", "How many distinct keys must say the same.", strictyaml.Integer(1, MaxRebuilders), func(f *file, v int64) { f.policy.Threshold = int(v) }),
		strictyaml.Optional("distinct", "How distinct those must be: attribute and number of values.", strictyaml.Dict("attribute", attribute, strictyaml.Integer(1, MaxRebuilders)),
			func(f *file, v []strictyaml.Entry[int64]) {
				f.policy.Distinct = make(map[string]int)
				for _, e := range v {
					f.policy.Distinct[e.Key] = int(e.Value)
				}
			}),
		strictyaml.Optional("allow-dissent", "Sign although some rebuilders built something else.", strictyaml.Boolean(), func(f *file, v bool) { f.policy.AllowDissent = v }),
		strictyaml.Required("rebuilders", "Whose reports count.", strictyaml.NonEmpty(strictyaml.List(rebuilder)), func(f *file, v []entry) {
			keys := make([]string, 0, len(v))
			for _, e := range v {
				f.policy.Rebuilders = append(f.policy.Rebuilders, Rebuilder{Name: e.name, Operator: e.operator, BuilderID: e.builderID})
				keys = append(keys, e.key)
			}
			f.keys = append(keys, f.keys...)
		}),
		strictyaml.Optional("signers", "Whose agreements count.", strictyaml.List(signer), func(f *file, v []entry) {
			for _, e := range v {
				f.policy.Signers = append(f.policy.Signers, SignerKey{Name: e.name})
				f.keys = append(f.keys, e.key)
			}
		}),
	)
}

// CheckBuilderID says whether s may be a builder.id, which SLSA wants to be a URI: absolute, printable, short enough to read.
func CheckBuilderID(s string) error {
	const most = 256 // characters; the longest in use, GitHub's reusable workflows, have about 150
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || rest == "" || len(s) > most || !strictyaml.Printable(s) || strings.ContainsAny(s, " \"<>\\^`{|}") {
		return strictyaml.Refuse("builder id %q must be a URI", s)
	}
	return nil
}
