package agreement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/keyfile"
)

// limits of a policy file: a thousand rebuilders with long names are some
// 200 KiB and 10,000 keys and values, and nothing nests deeper than the window
// of a former key (6).
var limits = strictyaml.Limits{Bytes: 1 << 20, Depth: 8, Nodes: 20_000}

// file is a policy as it is written.
type file struct {
	policy      Policy
	rebuilders  []entry
	signers     []entry
	auditors    []entry
	maintainers []entry
}

// entry is somebody with a key.
type entry struct {
	name, operator, builderID string
	dated
	former []dated
}

// dated is a key file and when the key counts.
type dated struct {
	key string // path
	Term
}

// ParsePolicy reads a policy file. fileName is only used in messages.
// loadKey returns the public key file of a path as the policy writes it. The error is
// a *strictyaml.Errors, which names every mistake with its place.
func ParsePolicy(fileName string, data []byte, loadKey func(path string) ([]byte, error)) (*Policy, error) {
	_, policy, err := parsePolicy(fileName, data, loadKey)
	return policy, err
}

// LintPolicy is ParsePolicy that also refuses what cannot come about any more at
// that time: a threshold that the keys still valid cannot reach, maintainers
// who can no longer sign the next version.
func LintPolicy(fileName string, data []byte, loadKey func(path string) ([]byte, error), at time.Time) (*Policy, error) {
	doc, policy, err := parsePolicy(fileName, data, loadKey)
	if err != nil {
		return nil, err
	}
	for _, p := range policy.doubts(at) {
		doc.Errorf(doc.At(p.path...), "%s", p.message)
	}
	return policy, doc.Err()
}

func parsePolicy(fileName string, data []byte, loadKey func(path string) ([]byte, error)) (*strictyaml.Document, *Policy, error) {
	doc, err := strictyaml.Open(fileName, data, limits)
	if err != nil {
		return nil, nil, err
	}
	parsed := strictyaml.Read(doc, policyShape())
	if err := doc.Err(); err != nil {
		return nil, nil, err
	}
	policy := &parsed.policy
	load := keyLoader{doc: doc, load: loadKey}
	for i, e := range parsed.rebuilders {
		r := Rebuilder{Name: e.name, Operator: e.operator, BuilderID: e.builderID, Term: e.Term}
		r.Key, r.Former = load.entry(e, "rebuilders", i)
		policy.Rebuilders = append(policy.Rebuilders, r)
	}
	for field, entries := range map[string][]entry{"signers": parsed.signers, "auditors": parsed.auditors, "maintainers": parsed.maintainers} {
		for _, group := range policy.signerGroups() {
			if group.field == field {
				*group.keys = load.signers(entries, field)
			}
		}
	}
	if err := doc.Err(); err != nil {
		return nil, nil, err
	}
	for _, p := range policy.lint() {
		doc.Errorf(doc.At(p.path...), "%s", p.message)
	}
	if err := doc.Err(); err != nil {
		return nil, nil, err
	}
	return doc, policy, nil
}

// keyLoader reads the key files that a policy names.
type keyLoader struct {
	doc  *strictyaml.Document
	load func(path string) ([]byte, error)
}

func (l *keyLoader) signers(entries []entry, field string) []SignerKey {
	var all []SignerKey
	for i, e := range entries {
		s := SignerKey{Name: e.name, Term: e.Term}
		s.Key, s.Former = l.entry(e, field, i)
		all = append(all, s)
	}
	return all
}

func (l *keyLoader) entry(e entry, path ...any) (keyfile.PublicKey, []FormerKey) {
	var former []FormerKey
	for i, f := range e.former {
		at := append(slices.Clone(path), "former", i, "key")
		former = append(former, FormerKey{Key: l.key(f.key, at...), Term: f.Term})
	}
	return l.key(e.key, append(slices.Clone(path), "key")...), former
}

func (l *keyLoader) key(path string, at ...any) keyfile.PublicKey {
	key, err := loadPublic(path, l.load)
	if err != nil {
		l.doc.Errorf(l.doc.At(at...), "%v", err)
	}
	return key
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

// PolicySchema returns the JSON Schema of a policy file, for editors.
func PolicySchema() []byte {
	schema := *policyShape().Schema()
	schema.Dialect = strictyaml.Dialect
	schema.ID = "urn:quorate:policy:v1"
	schema.Title = "policy.yaml"
	schema.Description = "Whose word counts about which images, and how many must say the same."
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		panic(err) // only plain structs and strings are encoded
	}
	return b.Bytes()
}

var (
	nameShape      = strictyaml.Matching(namePattern.String(), CheckName)
	attributeShape = strictyaml.Matching(attributePattern.String(), CheckAttribute)
	builderShape   = strictyaml.Matching("", CheckBuilderID)
	imageShape     = strictyaml.Matching(imagePattern.String(), CheckImagePattern)
	keyShape       = strictyaml.Matching("", func(s string) error {
		if s == "" || !strictyaml.Printable(s) {
			return strictyaml.Refuse("key %q is not a path of a public key file", s)
		}
		return nil
	})
	reasonShape = strictyaml.Matching("", func(s string) error {
		const most = 200 // characters: it is said in one line
		if s == "" || len(s) > most || !strictyaml.Printable(s) {
			return strictyaml.Refuse("reason %q must be one line of at most 200 characters", s)
		}
		return nil
	})
	timeShape = strictyaml.Scalar(&strictyaml.Schema{Type: "string", Pattern: `^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?$`},
		func(text string, _ bool) (time.Time, error) { return ParseTime(text) })
	ageShape = strictyaml.Scalar(&strictyaml.Schema{Type: "string", Pattern: agePattern.String()},
		func(text string, _ bool) (time.Duration, error) { return ParseAge(text) })
)

func policyShape() strictyaml.Shape[file] {
	count := strictyaml.Integer(1, MaxRebuilders)
	distinct := strictyaml.Rearrange(strictyaml.Dict("attribute", attributeShape, count), func(v []strictyaml.Entry[int64]) map[string]int {
		m := make(map[string]int)
		for _, e := range v {
			m[e.Key] = int(e.Value)
		}
		return m
	})
	signers := strictyaml.List(strictyaml.Object(entryFields()...))
	rebuilder := strictyaml.Object(append(entryFields(),
		strictyaml.Required("operator", "Who runs it. Rebuilders of one operator are not independent.", nameShape, func(e *entry, v string) { e.operator = v }),
		strictyaml.Optional("builder-id", "SLSA builder.id that its reports must have.", builderShape, func(e *entry, v string) { e.builderID = v }),
	)...)
	return strictyaml.Object(
		strictyaml.Required("apiVersion", "Version of this format.", strictyaml.Word("quorate/v1"), func(*file, string) {}),
		strictyaml.Required("kind", "What this file is.", strictyaml.Word("Policy"), func(*file, string) {}),
		strictyaml.Optional("name", "Of a policy that maintainers sign.", nameShape, func(f *file, v string) { f.policy.Name = v }),
		strictyaml.Optional("version", "Of a policy that maintainers sign; a lower one than seen before is refused.", strictyaml.Integer(1, 1<<31-1), func(f *file, v int64) { f.policy.Version = int(v) }),
		strictyaml.Required("threshold", "How many rebuilders with distinct keys must say the same.", count, func(f *file, v int64) { f.policy.Threshold = int(v) }),
		strictyaml.Optional("distinct", "How distinct those must be: attribute and number of values.", distinct, func(f *file, v map[string]int) { f.policy.Distinct = v }),
		strictyaml.Optional("allow-dissent", "Sign although some rebuilders built something else.", strictyaml.Boolean(), func(f *file, v bool) { f.policy.AllowDissent = v }),
		strictyaml.Optional("maximum-age", "Older reports do not count, such as 90d.", ageShape, func(f *file, v time.Duration) { f.policy.MaxAge = v }),
		strictyaml.Required("rebuilders", "Whose reports count.", strictyaml.NonEmpty(strictyaml.List(rebuilder)), func(f *file, v []entry) { f.rebuilders = v }),
		strictyaml.Optional("signers", "Whose agreements and summaries count: role release.", signers, func(f *file, v []entry) { f.signers = v }),
		strictyaml.Optional("auditors", "Whose summaries count, and whose agreements do not.", signers, func(f *file, v []entry) { f.auditors = v }),
		strictyaml.Optional("maintainers", "Who may change this policy.", signers, func(f *file, v []entry) { f.maintainers = v }),
		strictyaml.Optional("maintainer-threshold", "How many maintainers must sign a version; 1 when not given.", count, func(f *file, v int64) { f.policy.MaintainerThreshold = int(v) }),
		strictyaml.Optional("rules", "What holds for which images; the first that matches decides.", strictyaml.List(ruleShape(distinct)), func(f *file, v []ImageRule) { f.policy.Rules = v }),
	)
}

// entryFields are what everybody with a key has.
func entryFields() []strictyaml.Field[entry] {
	former := strictyaml.Object(append(termFields(func(d *dated) *Term { return &d.Term }),
		strictyaml.Required("key", "Public key file, PEM; relative to this file.", keyShape, func(d *dated, v string) { d.key = v }),
	)...)
	return append(termFields(func(e *entry) *Term { return &e.Term }),
		strictyaml.Required("name", "What it is called in outcomes and file names.", nameShape, func(e *entry, v string) { e.name = v }),
		strictyaml.Required("key", "Public key file, PEM; relative to this file.", keyShape, func(e *entry, v string) { e.key = v }),
		strictyaml.Optional("former", "Keys that it signed with before.", strictyaml.List(former), func(e *entry, v []dated) { e.former = v }),
	)
}

// termFields say when a key counts.
func termFields[T any](term func(*T) *Term) []strictyaml.Field[T] {
	window := strictyaml.Object(
		strictyaml.Optional("from", "Statements of this time and later count.", timeShape, func(t *Term, v time.Time) { t.From = v }),
		strictyaml.Optional("until", "Statements before this time count.", timeShape, func(t *Term, v time.Time) { t.Until = v }),
	)
	revoked := strictyaml.Object(
		strictyaml.Required("at", "Statements of this time and later do not count.", timeShape, func(t *Term, v time.Time) { t.Revoked = v }),
		strictyaml.Optional("reason", "Why, for people.", reasonShape, func(t *Term, v string) { t.Reason = v }),
	)
	return []strictyaml.Field[T]{
		strictyaml.Optional("valid", "For which times its statements count.", window, func(to *T, v Term) { term(to).From, term(to).Until = v.From, v.Until }),
		strictyaml.Optional("revoked", "That it no longer counts, and since when.", revoked, func(to *T, v Term) { term(to).Revoked, term(to).Reason = v.Revoked, v.Reason }),
	}
}

func ruleShape(distinct strictyaml.Shape[map[string]int]) strictyaml.Shape[ImageRule] {
	grant := strictyaml.Object(
		strictyaml.Required("role", "In which role.", strictyaml.Word(RoleRebuilder, RoleRelease, RoleAuditor), func(g *Grant, v Role) { g.Role = v }),
		strictyaml.Required("name", "Who, by name in this policy.", nameShape, func(g *Grant, v string) { g.Name = v }),
		strictyaml.Optional("builder-id", "SLSA builder.id that a rebuilder's reports must have.", builderShape, func(g *Grant, v string) { g.BuilderID = v }),
	)
	return strictyaml.Object(
		strictyaml.Required("images", "Patterns of image names: * within a segment, ** for whole segments.", strictyaml.NonEmpty(strictyaml.Unique("image pattern", imageShape, func(s string) string { return s })),
			func(r *ImageRule, v []string) { r.Images = v }),
		strictyaml.Optional("allow", "All who may speak for them; when absent, everybody in their role.", strictyaml.NonEmpty(strictyaml.List(grant)), func(r *ImageRule, v []Grant) { r.Allow = v }),
		strictyaml.Optional("threshold", "Instead of the policy's.", strictyaml.Integer(1, MaxRebuilders), func(r *ImageRule, v int64) { r.Threshold = int(v) }),
		strictyaml.Optional("distinct", "Instead of the policy's.", distinct, func(r *ImageRule, v map[string]int) { r.Distinct = v }),
		strictyaml.Optional("maximum-age", "Instead of the policy's.", ageShape, func(r *ImageRule, v time.Duration) { r.MaxAge = v }),
	)
}

// ParseTime reads a time as policies write it: 2026-11-01T00:00:00Z, or
// 2026-11-01 for the beginning of that day, UTC.
func ParseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && t.UTC().Format(layout) == s && t.Year() > 0 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, strictyaml.Refuse("%q is not a time such as 2026-11-01T00:00:00Z or 2026-11-01 (UTC)", s)
}

// FormatTime is the short form that ParseTime reads.
func FormatTime(t time.Time) string {
	if day := t.UTC().Truncate(24 * time.Hour); day.Equal(t) {
		return day.Format(time.DateOnly)
	}
	return t.UTC().Format(time.RFC3339)
}

// agePattern bounds ages to 11 years, which is for ever.
var agePattern = regexp.MustCompile(`^([1-9][0-9]{0,3}d|[1-9][0-9]{0,4}h)$`)

// ParseAge reads days ("90d") or hours ("36h").
func ParseAge(s string) (time.Duration, error) {
	if !agePattern.MatchString(s) {
		return 0, strictyaml.Refuse("%q is not an age in days or hours such as 90d or 36h", s)
	}
	n, _ := strconv.Atoi(s[:len(s)-1])
	if s[len(s)-1] == 'd' {
		n *= 24
	}
	return time.Duration(n) * time.Hour, nil
}

// FormatAge undoes ParseAge.
func FormatAge(d time.Duration) string {
	if h := int(d.Hours()); h%24 != 0 {
		return fmt.Sprintf("%dh", h)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// Format writes a whole policy as ParsePolicy reads it, and the key files that
// it names, by path relative to it:
//
//	policy.yaml
//	keys/NAME.pub                   of rebuilders
//	keys/signers/NAME.pub           of signers; auditors and maintainers likewise
//	keys/former/FINGERPRINT.pub     of all, the first 16 digits
func (p *Policy) Format() map[string][]byte {
	p = p.whole()
	w := writer{files: map[string][]byte{}}
	w.line("apiVersion: quorate/v1\nkind: Policy")
	if p.Name != "" {
		w.line("name: %q\nversion: %d", p.Name, p.Version)
	}
	w.line("threshold: %d", p.Threshold)
	w.distinct("", p.Distinct)
	if p.AllowDissent {
		w.line("allow-dissent: true")
	}
	if p.MaxAge > 0 {
		w.line("maximum-age: %s", FormatAge(p.MaxAge))
	}
	w.line("rebuilders:")
	for _, r := range p.Rebuilders {
		more := fmt.Sprintf(", operator: %q", r.Operator)
		if r.BuilderID != "" {
			more += fmt.Sprintf(", builder-id: %q", r.BuilderID)
		}
		w.entry(r.Name, "keys/"+r.Name+".pub", more, r.Key, r.Term, r.Former)
	}
	for _, group := range p.signerGroups() {
		if len(*group.keys) > 0 {
			w.line("%s:", group.field)
		}
		for _, s := range *group.keys {
			w.entry(s.Name, "keys/"+group.field+"/"+s.Name+".pub", "", s.Key, s.Term, s.Former)
		}
	}
	if p.MaintainerThreshold > 0 {
		w.line("maintainer-threshold: %d", p.MaintainerThreshold)
	}
	if len(p.Rules) > 0 {
		w.line("rules:")
	}
	for _, r := range p.Rules {
		w.rule(r)
	}
	w.files["policy.yaml"] = []byte(w.b.String())
	return w.files
}

// writer writes a policy. Names are quoted, because one may look like a number.
type writer struct {
	b     strings.Builder
	files map[string][]byte
}

func (w *writer) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

func (w *writer) distinct(indent string, distinct map[string]int) {
	if distinct == nil {
		return
	}
	var rules []string
	for _, attribute := range slices.Sorted(maps.Keys(distinct)) {
		rules = append(rules, fmt.Sprintf("%q: %d", attribute, distinct[attribute]))
	}
	w.line("%sdistinct: {%s}", indent, strings.Join(rules, ", "))
}

func (w *writer) entry(name, path, more string, key keyfile.PublicKey, term Term, former []FormerKey) {
	w.files[path] = key.PEM()
	text := fmt.Sprintf("  - {name: %q%s, key: %q%s", name, more, path, term.format())
	var olds []string
	for _, f := range former {
		old := fmt.Sprintf("keys/former/%.16s.pub", f.Key.Fingerprint())
		w.files[old] = f.Key.PEM()
		olds = append(olds, fmt.Sprintf("{key: %q%s}", old, f.Term.format()))
	}
	if len(olds) > 0 {
		text += ", former: [" + strings.Join(olds, ", ") + "]"
	}
	w.line("%s}", text)
}

// format writes the term as fields of a flow mapping, after others.
func (t Term) format() string {
	var b strings.Builder
	var window []string
	if !t.From.IsZero() {
		window = append(window, "from: "+FormatTime(t.From))
	}
	if !t.Until.IsZero() {
		window = append(window, "until: "+FormatTime(t.Until))
	}
	if len(window) > 0 {
		fmt.Fprintf(&b, ", valid: {%s}", strings.Join(window, ", "))
	}
	if !t.Revoked.IsZero() {
		fmt.Fprintf(&b, ", revoked: {at: %s", FormatTime(t.Revoked))
		if t.Reason != "" {
			fmt.Fprintf(&b, ", reason: %s", strictyaml.AppendText(nil, t.Reason))
		}
		b.WriteString("}")
	}
	return b.String()
}

func (w *writer) rule(r ImageRule) {
	var images []string
	for _, i := range r.Images {
		images = append(images, fmt.Sprintf("%q", i))
	}
	w.line("  - images: [%s]", strings.Join(images, ", "))
	if len(r.Allow) > 0 {
		w.line("    allow:")
	}
	for _, g := range r.Allow {
		id := ""
		if g.BuilderID != "" {
			id = fmt.Sprintf(", builder-id: %q", g.BuilderID)
		}
		w.line("      - {role: %s, name: %q%s}", g.Role, g.Name, id)
	}
	if r.Threshold > 0 {
		w.line("    threshold: %d", r.Threshold)
	}
	w.distinct("    ", r.Distinct)
	if r.MaxAge > 0 {
		w.line("    maximum-age: %s", FormatAge(r.MaxAge))
	}
}
