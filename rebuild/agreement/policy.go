package agreement

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/keyfile"
)

// Policy says whose word counts, about which images, and how many must say the
// same. The small form, which `quorate rebuild` writes:
//
//	apiVersion: quorate/v1
//	kind: Policy
//	threshold: 2                 # distinct rebuilders that must say the same
//	distinct: {operator: 2}      # and how distinct they must be; optional
//	allow-dissent: false         # the default: any dissent blocks
//	rebuilders:
//	  - {name: ams, operator: acme,  key: keys/ams.pub}
//	  - {name: osl, operator: umbra, key: keys/osl.pub, builder-id: "https://umbra.example/builders/osl"}
//	signers:                     # role "release": whose agreements count
//	  - {name: release, key: keys/release.pub}
//
// and what a team adds to it over the years:
//
//	name: acme                   # with version: a policy that maintainers sign
//	version: 7
//	maximum-age: 90d             # reports older than that do not count
//	rebuilders:
//	  - name: ams
//	    operator: acme
//	    key: keys/ams-2027.pub
//	    valid: {from: 2026-12-01}                      # from included, until excluded
//	    former:                                        # what it signed with before
//	      - {key: keys/ams.pub, valid: {until: 2027-01-01}}
//	  - name: osl
//	    operator: umbra
//	    key: keys/osl.pub
//	    revoked: {at: 2026-11-03T10:00:00Z, reason: "disk stolen"}   # statements from then on do not count
//	auditors:                    # whose summaries count, and whose agreements do not
//	  - {name: cert, key: keys/cert.pub}
//	maintainers:                 # who may change this policy
//	  - {name: alice, key: keys/alice.pub}
//	  - {name: bob, key: keys/bob.pub}
//	maintainer-threshold: 2      # how many of them must sign a version
//	rules:                       # the first that matches an image decides; none: not covered
//	  - images: [registry.example/team/*]
//	    allow:                   # all who may speak for it; without allow, everybody in their role
//	      - {role: rebuilder, name: ams, builder-id: "https://acme.example/builders/ams"}
//	      - {role: rebuilder, name: osl}
//	      - {role: release, name: release}
//	    threshold: 2             # instead of the policy's own, as are distinct and maximum-age
//
// The attributes of distinct are "operator" and "key", which come from the
// policy itself, "machine" (see the package comment), or names from the environment that reports claim, such as
// "cpu-vendor" and "kernel".
//
// # Images
//
// An image is known by the name under which it is asked for: its repository
// without the tag (registry.example/team/app), or, for files, the name that the
// definition gives it. That is the reader's word and nobody's claim. A pattern
// is such a name whose segments may hold "*" (any characters but "/"); a
// segment "**" stands for one or more whole segments. [Policy.For] narrows a
// policy to one image.
//
// # Time
//
// The time of a statement is what its signer says: when the build finished, the
// agreement was signed, the image was verified. A key counts for times in its
// window and before its revocation, so that what was said honestly stays said.
// Whoever stole a key can claim an earlier time: revoke it at the last time at
// which it was certainly yours. "Now" is handed to For; nothing here has a clock.
type Policy struct {
	Name         string         // "" for a policy that nobody signs
	Version      int            // from 1; 0 with no name
	Threshold    int            // rebuilders with distinct keys that must say the same
	Distinct     map[string]int // attribute → how many distinct values at least
	AllowDissent bool
	MaxAge       time.Duration // of reports, in whole hours; 0 for any
	Rebuilders   []Rebuilder
	Signers      []SignerKey // role release
	Auditors     []SignerKey
	Maintainers  []SignerKey
	// MaintainerThreshold is how many maintainers must sign a version; 0 is 1.
	MaintainerThreshold int
	Rules               []ImageRule // in the order in which they are tried

	narrowed *narrowed // nil as it was parsed; see For
}

// Rebuilder is someone whose reports count.
type Rebuilder struct {
	Name      string
	Operator  string // who runs it; rebuilders of one operator are not independent
	Key       keyfile.PublicKey
	BuilderID string // SLSA builder.id that its reports must have; "" accepts any
	Term
	Former []FormerKey
}

// SignerKey is someone in one of the other roles.
type SignerKey struct {
	Name string
	Key  keyfile.PublicKey
	Term
	Former []FormerKey
}

// FormerKey is a key that somebody signed with before.
type FormerKey struct {
	Key keyfile.PublicKey
	Term
}

// Term says for which times a key counts. The zero value is: for ever.
type Term struct {
	From, Until time.Time // from included, until excluded; zero is open
	Revoked     time.Time // from then on it does not count; zero for never
	Reason      string    // of the revocation, for people
}

// Role is what somebody may do.
type Role string

// The roles.
const (
	RoleRebuilder  Role = "rebuilder"  // signs reports
	RoleRelease    Role = "release"    // signs agreements and summaries
	RoleAuditor    Role = "auditor"    // signs summaries
	RoleMaintainer Role = "maintainer" // signs policies
)

// ImageRule is what holds for some images.
type ImageRule struct {
	Images []string // patterns
	Allow  []Grant  // nil: everybody in their role
	// What is zero or nil is as the policy has it.
	Threshold int
	Distinct  map[string]int
	MaxAge    time.Duration
}

// Grant lets somebody speak in a role.
type Grant struct {
	Role      Role
	Name      string
	BuilderID string // that a rebuilder's reports must have; "" for what the rebuilder's entry says
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
// place of key files, the same for every order and spelling of the same policy
// (the order of rules has a meaning and stays). A narrowed policy has the text
// of the whole:
//
//	quorate policy v2
//	name "acme" version 7
//	threshold 2
//	allow-dissent false
//	maximum-age 2160h
//	maintainer-threshold 2
//	distinct "operator" 2
//	rebuilder "ams" "acme" ""
//	key rebuilder "ams" "9f86d0…" 2026-12-01T00:00:00Z - -
//	key release "release" "60303a…" - - 2026-11-03T10:00:00Z "disk stolen"
//	rule threshold 2 maximum-age 0h
//	rule image "registry.example/team/*"
//	rule allow rebuilder "ams" "https://acme.example/builders/ams"
func (p *Policy) Canonical() []byte {
	p = p.whole()
	var b strings.Builder
	fmt.Fprintf(&b, "quorate policy v2\nname %q version %d\nthreshold %d\nallow-dissent %t\nmaximum-age %dh\nmaintainer-threshold %d\n",
		p.Name, p.Version, p.Threshold, p.AllowDissent, int(p.MaxAge.Hours()), p.MaintainersNeeded())
	writeDistinct(&b, "", p.Distinct)
	var lines []string
	for _, r := range p.Rebuilders {
		lines = append(lines, fmt.Sprintf("rebuilder %q %q %q\n", r.Name, r.Operator, r.BuilderID))
	}
	for _, s := range p.Speakers() {
		lines = append(lines, fmt.Sprintf("key %s %q %q %s\n", s.Role, s.Name, s.Key.Fingerprint(), s.Term.canonical()))
	}
	slices.Sort(lines)
	for _, l := range lines {
		b.WriteString(l)
	}
	for _, r := range p.Rules {
		r.canonical(&b)
	}
	return []byte(b.String())
}

func (r *ImageRule) canonical(b *strings.Builder) {
	fmt.Fprintf(b, "rule threshold %d maximum-age %dh\n", r.Threshold, int(r.MaxAge.Hours()))
	writeDistinct(b, "rule ", r.Distinct)
	for _, pattern := range slices.Sorted(slices.Values(r.Images)) {
		fmt.Fprintf(b, "rule image %q\n", pattern)
	}
	for _, g := range slices.SortedFunc(slices.Values(r.Allow), Grant.compare) {
		fmt.Fprintf(b, "rule allow %s %q %q\n", g.Role, g.Name, g.BuilderID)
	}
}

func writeDistinct(b *strings.Builder, prefix string, distinct map[string]int) {
	for _, attribute := range slices.Sorted(maps.Keys(distinct)) {
		fmt.Fprintf(b, "%sdistinct %q %d\n", prefix, attribute, distinct[attribute])
	}
}

func (t Term) canonical() string {
	text := fmt.Sprintf("%s %s %s", timeOr(t.From, "-"), timeOr(t.Until, "-"), timeOr(t.Revoked, "-"))
	if t.Reason != "" {
		text += fmt.Sprintf(" %q", t.Reason)
	}
	return text
}

func timeOr(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return t.UTC().Format(time.RFC3339)
}

func (g Grant) compare(h Grant) int {
	return cmp.Or(strings.Compare(string(g.Role), string(h.Role)), strings.Compare(g.Name, h.Name), strings.Compare(g.BuilderID, h.BuilderID))
}

// MaintainersNeeded is how many must sign a version.
func (p *Policy) MaintainersNeeded() int { return max(p.MaintainerThreshold, 1) }

// Digest returns the sha256 of Canonical.
func (p *Policy) Digest() digest.Digest { return digest.Of(p.Canonical()) }

// CheckBuilderID says whether s may be a builder.id, which SLSA wants to be a URI: absolute, printable, short enough to read.
func CheckBuilderID(s string) error {
	const most = 256 // characters; the longest in use, GitHub's reusable workflows, have about 150
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || rest == "" || len(s) > most || !strictyaml.Printable(s) || strings.ContainsAny(s, " \"<>\\^`{|}") {
		return strictyaml.Refuse("builder id %q must be a URI", s)
	}
	return nil
}
