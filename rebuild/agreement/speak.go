package agreement

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/keyfile"
)

// narrowed says what a policy was narrowed to.
type narrowed struct {
	whole *Policy
	image string
	at    time.Time
	rule  int // of whole.Rules; -1 when the policy has none
	allow []Grant
}

// whole returns the policy that p was narrowed from, or p.
func (p *Policy) whole() *Policy {
	if p.narrowed != nil {
		return p.narrowed.whole
	}
	return p
}

// UncoveredError says that no rule of a policy is about an image.
type UncoveredError struct {
	Image    string
	Patterns []string // of all rules, in order
}

func (e *UncoveredError) Error() string {
	if e.Image == "" {
		return "the policy has rules for images, and the name of this one is not known"
	}
	return fmt.Sprintf("no rule of the policy covers image %s: it has rules for %s", strictyaml.Quote(e.Image), strings.Join(e.Patterns, ", "))
}

// For narrows a policy to the image of that name as things stood at a time:
// the threshold, distinctness and age of the rule that covers it, and only the
// rebuilders and signers who may speak for it. The result has the digest of the
// whole, and remembers its other keys to tell whose a statement is.
//
// A zero time means that nobody knows what time it is: then no statement is too
// old, or from the future. The error is a *UncoveredError when the policy has
// rules and none covers the image.
func (p *Policy) For(image string, at time.Time) (*Policy, error) {
	whole := p.whole()
	if err := whole.Check(); err != nil {
		return nil, err
	}
	n := *whole
	n.Rules = nil
	n.narrowed = &narrowed{whole: whole, image: image, at: at, rule: -1}
	if len(whole.Rules) > 0 {
		if err := n.narrow(); err != nil {
			return nil, err
		}
	}
	if n.MaxAge > 0 && at.IsZero() {
		return nil, errNoTime
	}
	return &n, nil
}

// narrow finds the rule that covers the image.
func (p *Policy) narrow() error {
	whole, image := p.narrowed.whole, p.narrowed.image
	covering := slices.IndexFunc(whole.Rules, func(r ImageRule) bool { return r.covers(image) })
	if covering < 0 {
		e := &UncoveredError{Image: image}
		for _, r := range whole.Rules {
			e.Patterns = append(e.Patterns, r.Images...)
		}
		return e
	}
	p.apply(covering)
	return nil
}

// ready says why a policy cannot judge: it has to be narrowed first.
func (p *Policy) ready() error {
	switch {
	case p.narrowed != nil:
		return nil
	case len(p.Rules) > 0:
		return &UncoveredError{}
	case p.MaxAge > 0:
		return errNoTime
	}
	return nil
}

var errNoTime = errors.New("the policy has a maximum age, and the time is not known")

// apply makes rule i of the whole that of the narrowed policy.
func (p *Policy) apply(i int) {
	r := p.narrowed.whole.Rules[i]
	p.narrowed.rule, p.narrowed.allow = i, r.Allow
	if r.Threshold > 0 {
		p.Threshold = r.Threshold
	}
	if r.Distinct != nil {
		p.Distinct = r.Distinct
	}
	if r.MaxAge > 0 {
		p.MaxAge = r.MaxAge
	}
	if r.Allow == nil {
		return
	}
	may := func(role Role, name string) bool {
		return slices.ContainsFunc(r.Allow, func(g Grant) bool { return g.Role == role && g.Name == name })
	}
	signers := func(role Role, all []SignerKey) []SignerKey {
		return slices.DeleteFunc(slices.Clone(all), func(s SignerKey) bool { return !may(role, s.Name) })
	}
	p.Rebuilders = slices.DeleteFunc(slices.Clone(p.Rebuilders), func(r Rebuilder) bool { return !may(RoleRebuilder, r.Name) })
	p.Signers, p.Auditors = signers(RoleRelease, p.Signers), signers(RoleAuditor, p.Auditors)
}

// Image returns the name of the image that the policy was narrowed to, and the
// time; both are zero for a whole policy.
func (p *Policy) Image() (name string, at time.Time) {
	if p.narrowed == nil {
		return "", time.Time{}
	}
	return p.narrowed.image, p.narrowed.at
}

// ruleName names the rule that a policy was narrowed by, for people.
func (n *narrowed) ruleName() string {
	return fmt.Sprintf("rule %d (%s)", n.rule+1, strings.Join(n.whole.Rules[n.rule].Images, ", "))
}

func (r *ImageRule) covers(image string) bool {
	return slices.ContainsFunc(r.Images, func(pattern string) bool { return MatchImage(pattern, image) })
}

// imagePattern is what a pattern may hold: names of registries, repositories
// and images, and stars.
var imagePattern = regexp.MustCompile(`^[A-Za-z0-9._:*-]+(/[A-Za-z0-9._*-]+)*$`)

// CheckImagePattern says whether s is a pattern of image names.
func CheckImagePattern(s string) error {
	const most = 512 // bytes; a repository's name has at most 255, and its registry's 253
	deep := 0
	for segment := range strings.SplitSeq(s, "/") {
		switch {
		case segment == "**":
			deep++
		case strings.Contains(segment, "**"):
			return strictyaml.Refuse("image pattern %q: \"**\" must be a whole segment", s)
		}
	}
	switch {
	case len(s) > most || !imagePattern.MatchString(s):
		return strictyaml.Refuse("image pattern %q must be a name such as \"registry.example/team/*\": no scheme, tag or digest", s)
	case deep > 1:
		return strictyaml.Refuse("image pattern %q has more than one \"**\"", s)
	}
	return nil
}

// MatchImage reports whether a pattern that CheckImagePattern accepts is about
// the image of that name.
func MatchImage(pattern, image string) bool {
	if image == "" {
		return false
	}
	want, have := strings.Split(pattern, "/"), strings.Split(image, "/")
	deep := slices.Index(want, "**")
	if deep < 0 {
		return len(want) == len(have) && matchSegments(want, have)
	}
	before, after := want[:deep], want[deep+1:]
	if len(have) <= len(before)+len(after) { // "**" is one segment at least
		return false
	}
	return matchSegments(before, have[:len(before)]) && matchSegments(after, have[len(have)-len(after):])
}

func matchSegments(want, have []string) bool {
	for i, w := range want {
		if ok, err := path.Match(w, have[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

// coversPattern reports whether everything that inner matches, outer matches
// too. What stands for any text is tried as a text that no pattern spells, and
// "**" as one segment and as two.
func coversPattern(outer, inner string) bool {
	const any = "\x01"
	for _, deep := range []string{any, any + "/" + any} {
		example := strings.ReplaceAll(strings.ReplaceAll(inner, "**", deep), "*", any)
		if !MatchImage(outer, example) {
			return false
		}
	}
	return true
}

// Speaker is one key of a policy and whose it is.
type Speaker struct {
	Role     Role
	Name     string
	Operator string // of a rebuilder
	Key      keyfile.PublicKey
	Term
	builderID string // that the rebuilder's entry asks for
}

// Speakers returns every key of the whole policy, those of rebuilders first and
// current ones before former ones. A narrowed policy returns all of them too,
// so that a statement that does not count can be laid to somebody.
func (p *Policy) Speakers() []Speaker {
	p = p.whole()
	var all []Speaker
	for _, r := range p.Rebuilders {
		all = append(all, r.speakers()...)
	}
	for _, group := range p.signerGroups() {
		for _, s := range *group.keys {
			all = append(all, Speaker{Role: group.role, Name: s.Name, Key: s.Key, Term: s.Term}.withFormer(s.Former)...)
		}
	}
	return all
}

func (r Rebuilder) speakers() []Speaker {
	return Speaker{Role: RoleRebuilder, Name: r.Name, Operator: r.Operator, Key: r.Key, Term: r.Term, builderID: r.BuilderID}.withFormer(r.Former)
}

// withFormer is one speaker for each key that somebody has or had.
func (s Speaker) withFormer(former []FormerKey) []Speaker {
	all := []Speaker{s}
	for _, f := range former {
		s.Key, s.Term = f.Key, f.Term
		all = append(all, s)
	}
	return all
}

// signerGroup is one of the lists of signers.
type signerGroup struct {
	role  Role
	field string // in the file
	one   string // what a member is called in messages
	keys  *[]SignerKey
}

func (p *Policy) signerGroups() []signerGroup {
	return []signerGroup{
		{RoleRelease, "signers", "signer", &p.Signers},
		{RoleAuditor, "auditors", "auditor", &p.Auditors},
		{RoleMaintainer, "maintainers", "maintainer", &p.Maintainers},
	}
}

// Why a statement does not count, for programs.
const (
	WrongRole    = "wrong-role"
	WrongImage   = "wrong-image"
	WrongBuilder = "wrong-builder"
	NotYetValid  = "not-yet-valid"
	Expired      = "expired"
	Revoked      = "revoked"
	TooOld       = "too-old"
	FromFuture   = "from-the-future"
)

// RefusedError says why the policy does not hear a statement whose signature verifies.
type RefusedError struct {
	Code    string // one of the constants above
	Message string
}

func (e *RefusedError) Error() string { return e.Message }

// Said is what a statement claims of itself, as far as it decides whether the
// policy hears it.
type Said struct {
	Time      time.Time // when it was made
	BuilderID string    // of a report
}

// maxSkew is how far the clock of a rebuilder may be ahead of the reader's.
// Machines that keep time at all keep it to seconds; SPIFFE and Kerberos allow
// five minutes.
const maxSkew = 5 * time.Minute

// Hears says whether a statement that the speaker's key signed counts, when it
// has to be made in one of the roles. Speaker, role, image, builder and time
// must all fit. The error is a *RefusedError.
func (p *Policy) Hears(s Speaker, said Said, roles ...Role) error {
	refuse := func(code, format string, args ...any) error {
		return &RefusedError{Code: code, Message: fmt.Sprintf(format, args...)}
	}
	who := fmt.Sprintf("%s %q", s.Role, s.Name)
	if !slices.Contains(roles, s.Role) {
		return refuse(WrongRole, "is signed by %s, but needs the role %s", who, alternatives(roles))
	}
	if err := p.mayBuild(s, said.BuilderID); err != nil {
		return err
	}
	day := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case !s.Revoked.IsZero() && !said.Time.Before(s.Revoked):
		why := ""
		if s.Reason != "" {
			why = " (" + s.Reason + ")"
		}
		return refuse(Revoked, "the key %.16s… of %s was revoked at %s%s, and the statement is of %s", s.Key.Fingerprint(), who, day(s.Revoked), why, day(said.Time))
	case !s.From.IsZero() && said.Time.Before(s.From):
		return refuse(NotYetValid, "the key %.16s… of %s is valid from %s, and the statement is of %s", s.Key.Fingerprint(), who, day(s.From), day(said.Time))
	case !s.Until.IsZero() && !said.Time.Before(s.Until):
		return refuse(Expired, "the key %.16s… of %s was valid until %s, and the statement is of %s", s.Key.Fingerprint(), who, day(s.Until), day(said.Time))
	case p.narrowed == nil || p.narrowed.at.IsZero():
	case said.Time.After(p.narrowed.at.Add(maxSkew)):
		return refuse(FromFuture, "the statement is of %s, and it is judged as of %s", day(said.Time), day(p.narrowed.at))
	case s.Role == RoleRebuilder && p.MaxAge > 0 && said.Time.Before(p.narrowed.at.Add(-p.MaxAge)):
		return refuse(TooOld, "the report is of %s, more than %s before %s", day(said.Time), FormatAge(p.MaxAge), day(p.narrowed.at))
	}
	return nil
}

// Holds reports whether what was signed at a time counts.
func (t Term) Holds(at time.Time) bool {
	return (t.Revoked.IsZero() || at.Before(t.Revoked)) && (t.From.IsZero() || !at.Before(t.From)) && (t.Until.IsZero() || at.Before(t.Until))
}

// Grounds says in a sentence why a statement that is heard counts.
func (p *Policy) Grounds(s Speaker, said Said) string {
	text := fmt.Sprintf("signed on %s with the key %.16s… of %s %q", timeOr(said.Time, ""), s.Key.Fingerprint(), s.Role, s.Name)
	if s.Operator != "" {
		text += ", operator " + s.Operator
	}
	if n := p.narrowed; n != nil && n.rule >= 0 && s.Role != RoleMaintainer {
		text += fmt.Sprintf("; for image %s by %s", strictyaml.Quote(n.image), n.ruleName())
	}
	return text
}

// mayBuild says whether a speaker may speak for the image, as that builder.
func (p *Policy) mayBuild(s Speaker, builderID string) error {
	if n := p.narrowed; n != nil && n.allow != nil && s.Role != RoleMaintainer && len(p.granted(s)) == 0 {
		return &RefusedError{WrongImage, fmt.Sprintf("%s %q may not speak for image %s: %s does not allow it", s.Role, s.Name, strictyaml.Quote(n.image), n.ruleName())}
	}
	ids := p.BuilderIDs(s)
	if s.Role == RoleRebuilder && len(ids) > 0 && !slices.Contains(ids, builderID) {
		return &RefusedError{WrongBuilder, fmt.Sprintf("report has builder id %q, expected %s", builderID, quoted(ids))}
	}
	return nil
}

// granted is what the rule of a narrowed policy allows a speaker.
func (p *Policy) granted(s Speaker) []Grant {
	if p.narrowed == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.narrowed.allow), func(g Grant) bool { return g.Role != s.Role || g.Name != s.Name })
}

// BuilderIDs returns which builder.id the reports of a rebuilder must have,
// any of them; nil for any at all.
func (p *Policy) BuilderIDs(s Speaker) []string {
	granted := p.granted(s)
	if len(granted) == 0 || slices.ContainsFunc(granted, func(g Grant) bool { return g.BuilderID == "" }) {
		if s.builderID == "" {
			return nil
		}
		return []string{s.builderID}
	}
	var ids []string
	for _, g := range granted {
		ids = append(ids, g.BuilderID)
	}
	return ids
}

func alternatives(roles []Role) string {
	words := make([]string, len(roles))
	for i, r := range roles {
		words[i] = string(r)
	}
	return strictyaml.Alternatives(words)
}

func quoted(texts []string) string {
	all := make([]string, len(texts))
	for i, t := range texts {
		all[i] = fmt.Sprintf("%q", t)
	}
	return strings.Join(all, " or ")
}

// Part is what a policy says about the images that some patterns match.
type Part struct {
	Images []string // patterns, in order; nil for a policy without rules, which is about every image
	Policy *Policy  // narrowed to them
}

// Parts returns what a policy says, one rule after another, as things stand at
// a time. It is for writing the policy down in other words.
func (p *Policy) Parts(at time.Time) []Part {
	whole := p.whole()
	var parts []Part
	for i := range whole.Rules {
		n := *whole
		n.Rules, n.narrowed = nil, &narrowed{whole: whole, at: at, rule: -1}
		n.apply(i)
		parts = append(parts, Part{Images: slices.Clone(whole.Rules[i].Images), Policy: &n})
	}
	if len(parts) == 0 {
		n := *whole
		n.narrowed = &narrowed{whole: whole, at: at, rule: -1}
		parts = append(parts, Part{Policy: &n})
	}
	return parts
}

// Counting returns the keys of a narrowed policy that count for what is signed
// at its time, in one of the roles of images.
func (p *Policy) Counting(role Role) []Speaker {
	var names []string
	for _, r := range p.Rebuilders {
		if role == RoleRebuilder {
			names = append(names, r.Name)
		}
	}
	for _, g := range p.signerGroups() {
		for _, s := range *g.keys {
			if g.role == role {
				names = append(names, s.Name)
			}
		}
	}
	_, at := p.Image()
	return slices.DeleteFunc(p.speakersIn(role), func(s Speaker) bool { return !slices.Contains(names, s.Name) || !s.Holds(at) })
}
