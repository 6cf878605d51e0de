package agreement

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"quorate.dev/rebuild/keyfile"
)

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

// lint finds what cannot mean anything, whatever the time.
func (p *Policy) lint() []problem {
	for _, list := range []int{len(p.Rebuilders), len(p.Signers), len(p.Auditors), len(p.Maintainers), len(p.Rules)} {
		if list > MaxRebuilders { // the checks below would take long
			return []problem{{[]any{"rebuilders"}, fmt.Sprintf("more than %d rebuilders, signers or rules", MaxRebuilders)}}
		}
	}
	var l linter
	if len(p.Rebuilders) == 0 {
		l.fault("no rebuilders", "rebuilders")
	}
	l.keys = make(map[keyfile.PublicKey]holder)
	l.rebuilders(p.Rebuilders)
	for _, group := range p.signerGroups() {
		l.signers(group)
	}
	l.version(p)
	if len(p.Rebuilders) > 0 {
		l.rule(p.rule(), p.Rebuilders)
	}
	for i := range p.Rules {
		l.imageRule(p, i)
	}
	return l.problems
}

// holder is who has a key.
type holder struct {
	role Role
	what string // "rebuilder"
	name string
}

// linter gathers what is wrong with a policy.
type linter struct {
	problems []problem
	keys     map[keyfile.PublicKey]holder
}

func (l *linter) fault(message string, path ...any) {
	l.problems = append(l.problems, problem{path, message})
}

func (l *linter) rebuilders(all []Rebuilder) {
	names := make(map[string]bool)
	for i, r := range all {
		l.name("rebuilder", r.Name, names, "rebuilders", i, "name")
		if err := CheckName(r.Operator); err != nil {
			l.fault("operator's "+err.Error(), "rebuilders", i, "operator")
		}
		if r.BuilderID != "" {
			if err := CheckBuilderID(r.BuilderID); err != nil {
				l.fault(err.Error(), "rebuilders", i, "builder-id")
			}
		}
		l.held(holder{RoleRebuilder, "rebuilder", r.Name}, r.Key, r.Term, r.Former, "rebuilders", i)
	}
}

func (l *linter) signers(g signerGroup) {
	names := make(map[string]bool)
	for i, s := range *g.keys {
		l.name(g.one, s.Name, names, g.field, i, "name")
		l.held(holder{g.role, g.one, s.Name}, s.Key, s.Term, s.Former, g.field, i)
	}
}

func (l *linter) name(what, name string, names map[string]bool, path ...any) {
	if err := CheckName(name); err != nil {
		l.fault(err.Error(), path...)
	} else if names[name] {
		l.fault(fmt.Sprintf("two %ss are named %q", what, name), path...)
	}
	names[name] = true
}

// held checks the keys of one entry, and that nobody else has them.
func (l *linter) held(who holder, key keyfile.PublicKey, term Term, former []FormerKey, path ...any) {
	l.key(who, key, append(slices.Clone(path), "key")...)
	l.term(who, term, path...)
	if len(former) > MaxRebuilders {
		l.fault(fmt.Sprintf("more than %d former keys", MaxRebuilders), path...)
		return
	}
	for i, f := range former {
		at := append(slices.Clone(path), "former", i)
		l.key(who, f.Key, append(slices.Clone(at), "key")...)
		l.term(who, f.Term, at...)
	}
}

func (l *linter) key(who holder, key keyfile.PublicKey, path ...any) {
	first, twice := l.keys[key]
	judged := first.role == RoleRebuilder && who.role != RoleMaintainer
	switch {
	case key.IsZero():
		l.fault(fmt.Sprintf("%s %q has no key", who.what, who.name), path...)
		return
	case !twice:
		l.keys[key] = who
	case first == who:
		l.fault(fmt.Sprintf("%s %q has the same key twice", who.what, who.name), path...)
	case first.role == RoleRebuilder && who.role == RoleRebuilder:
		l.fault(fmt.Sprintf("names %q and %q have the same key; identity is key material", first.name, who.name), path...)
	case first.role == who.role:
		l.fault(fmt.Sprintf("%ss %q and %q have the same key; identity is key material", who.what, first.name, who.name), path...)
	case judged:
		l.fault(fmt.Sprintf("%s %q has the key of rebuilder %q; who judges may not be who is judged", who.what, who.name, first.name), path...)
	default:
		l.fault(fmt.Sprintf("%s %q has the key of %s %q; one key has one role", who.what, who.name, first.what, first.name), path...)
	}
}

func (l *linter) term(who holder, t Term, path ...any) {
	if !t.From.IsZero() && !t.Until.IsZero() && !t.From.Before(t.Until) {
		l.fault(fmt.Sprintf("the key of %s %q is valid from %s until %s, which is never", who.what, who.name, timeOr(t.From, ""), timeOr(t.Until, "")),
			append(slices.Clone(path), "valid")...)
	}
	if t.Reason != "" && t.Revoked.IsZero() {
		l.fault(fmt.Sprintf("the key of %s %q has a reason and no time of revocation", who.what, who.name), append(slices.Clone(path), "revoked")...)
	}
}

// version checks what makes a policy one that is signed.
func (l *linter) version(p *Policy) {
	switch {
	case p.Name == "" && p.Version == 0 && len(p.Maintainers) == 0:
		if p.MaintainerThreshold > 0 {
			l.fault("maintainer-threshold is given, but there are no maintainers", "maintainer-threshold")
		}
		return
	case p.Name == "":
		l.fault("a policy with a version or maintainers needs a name: a lower version of that name is refused later", "name")
	case CheckName(p.Name) != nil:
		l.fault("policy's "+CheckName(p.Name).Error(), "name")
	case p.Version < 1:
		l.fault("a policy with a name needs a version from 1", "version")
	case len(p.Maintainers) == 0:
		l.fault("a policy with a name needs maintainers, who sign its versions", "name")
	}
	if n := len(p.Maintainers); n > 0 && p.MaintainersNeeded() > n {
		l.fault(fmt.Sprintf("maintainer-threshold is %d, but there %s, so nobody could ever change this policy", p.MaintainerThreshold, there(n)), "maintainer-threshold")
	}
}

// rule checks that rebuilders could fulfil a rule. path is of the mapping that holds it.
func (l *linter) rule(r Rule, rebuilders []Rebuilder, path ...any) {
	at := func(more ...any) []any { return append(slices.Clone(path), more...) }
	keys, operators := make(map[keyfile.PublicKey]bool), make(map[string]bool)
	for _, one := range rebuilders {
		keys[one.Key], operators[one.Operator] = true, true
	}
	switch {
	case r.Threshold < 1:
		l.fault(fmt.Sprintf("threshold is %d, expected at least 1", r.Threshold), at("threshold")...)
	case r.Threshold > len(keys):
		l.fault(fmt.Sprintf("threshold is %d, but the rebuilders have only %s, so nothing could ever be agreed", r.Threshold, count(len(keys), "distinct key", "distinct keys")), at("threshold")...)
	}
	for _, attribute := range slices.Sorted(maps.Keys(r.Distinct)) {
		most, what := len(rebuilders), "rebuilders"
		switch attribute {
		case "operator":
			most, what = len(operators), "distinct operators"
		case "key":
			most, what = len(keys), "distinct keys"
		}
		n, nameErr := r.Distinct[attribute], CheckAttribute(attribute)
		switch {
		case nameErr != nil:
			l.fault(nameErr.Error(), at("distinct", attribute)...)
		case n < 1:
			l.fault(fmt.Sprintf("distinct %s is %d, expected at least 1", attribute, n), at("distinct", attribute)...)
		case n > most:
			l.fault(fmt.Sprintf("distinct %s is %d, but there are only %d %s, so nothing could ever be agreed", attribute, n, most, what), at("distinct", attribute)...)
		}
	}
}

// imageRule checks rule i by itself and against those before it.
func (l *linter) imageRule(p *Policy, i int) {
	r := p.Rules[i]
	if len(r.Images) == 0 {
		l.fault("a rule is about no image", "rules", i, "images")
	}
	hidden := 0
	for j, pattern := range r.Images {
		if err := CheckImagePattern(pattern); err != nil {
			l.fault(err.Error(), "rules", i, "images", j)
			continue
		}
		if by := p.hiddenBy(i, j); by != "" {
			hidden++
			l.fault(fmt.Sprintf("image pattern %q matches nothing that %q before it does not match first", pattern, by), "rules", i, "images", j)
		}
	}
	before := len(l.problems)
	for j, g := range r.Allow {
		l.grant(p, g, "rules", i, "allow", j)
		if slices.Contains(r.Allow[:j], g) {
			l.fault(fmt.Sprintf("%s %q is allowed twice", g.Role, g.Name), "rules", i, "allow", j)
		}
	}
	if len(l.problems) > before {
		return // what follows would only repeat it
	}
	n := Policy{narrowed: &narrowed{whole: p}, Threshold: p.Threshold, Distinct: p.Distinct, Rebuilders: p.Rebuilders}
	n.apply(i)
	if len(n.Rebuilders) == 0 {
		l.fault("a rule allows no rebuilder, so nothing could ever be agreed", "rules", i, "allow")
		return
	}
	l.rule(n.rule(), n.Rebuilders, "rules", i)
}

// hiddenBy returns the pattern that takes every image from pattern j of rule i.
func (p *Policy) hiddenBy(i, j int) string {
	for k := 0; k <= i; k++ {
		for m, earlier := range p.Rules[k].Images {
			if k == i && m >= j {
				break
			}
			if CheckImagePattern(earlier) == nil && coversPattern(earlier, p.Rules[i].Images[j]) {
				return earlier
			}
		}
	}
	return ""
}

func (l *linter) grant(p *Policy, g Grant, path ...any) {
	at := func(field string) []any { return append(slices.Clone(path), field) }
	var known []string
	entry := ""
	switch g.Role {
	case RoleRebuilder:
		for _, r := range p.Rebuilders {
			known = append(known, r.Name)
			if r.Name == g.Name {
				entry = r.BuilderID
			}
		}
	case RoleRelease, RoleAuditor:
		for _, group := range p.signerGroups() {
			if group.role == g.Role {
				for _, s := range *group.keys {
					known = append(known, s.Name)
				}
			}
		}
	default:
		l.fault(fmt.Sprintf("role %q cannot speak for an image", g.Role), at("role")...)
		return
	}
	if !slices.Contains(known, g.Name) {
		l.fault(fmt.Sprintf("the policy has no %s named %q", g.Role, g.Name), at("name")...)
	}
	switch {
	case g.BuilderID == "":
	case g.Role != RoleRebuilder:
		l.fault(fmt.Sprintf("only reports have a builder id, and the role %q signs none", g.Role), at("builder-id")...)
	case CheckBuilderID(g.BuilderID) != nil:
		l.fault(CheckBuilderID(g.BuilderID).Error(), at("builder-id")...)
	case entry != "" && entry != g.BuilderID:
		l.fault(fmt.Sprintf("builder id %q is not that of rebuilder %q, %q", g.BuilderID, g.Name, entry), at("builder-id")...)
	}
}

// doubts finds what can no longer come about at a time: not wrong for what was
// said before, but nothing new can be agreed, or no new version signed.
func (p *Policy) doubts(at time.Time) []problem {
	var l linter
	l.reach(p, at)
	for i := range p.Rules {
		n := *p
		n.narrowed = &narrowed{whole: p}
		n.apply(i)
		l.reach(&n, at, "rules", i)
	}
	if len(p.Maintainers) > 0 {
		able, silent := able(p.speakersIn(RoleMaintainer), at)
		if len(able) < p.MaintainersNeeded() {
			l.fault(fmt.Sprintf("%s must sign the next version, but %s", count(p.MaintainersNeeded(), "maintainer", "maintainers"), tellAble(able, silent)), "maintainers")
		}
	}
	return l.problems
}

// reach says which part of a rule nobody is left to fulfil.
func (l *linter) reach(p *Policy, at time.Time, path ...any) {
	here := func(field string) []any { return append(slices.Clone(path), field) }
	may := func(role Role, all []string) []Speaker {
		return slices.DeleteFunc(p.speakersIn(role), func(s Speaker) bool { return !slices.Contains(all, s.Name) })
	}
	var rebuilders, signers []string
	for _, r := range p.Rebuilders {
		rebuilders = append(rebuilders, r.Name)
	}
	for _, s := range p.Signers {
		signers = append(signers, s.Name)
	}
	names, silent := able(may(RoleRebuilder, rebuilders), at)
	if len(names) < p.Threshold {
		l.fault(fmt.Sprintf("threshold is %d, but %s, so nothing new can be agreed", p.Threshold, tellAble(names, silent)), here("threshold")...)
	}
	operators := make(map[string]bool)
	for _, r := range p.Rebuilders {
		if slices.Contains(names, r.Name) {
			operators[r.Operator] = true
		}
	}
	if want := p.Distinct["operator"]; len(names) >= p.Threshold && len(operators) < want {
		l.fault(fmt.Sprintf("distinct operator is %d, but those of only %d can speak now, so nothing new can be agreed", want, len(operators)), here("distinct")...)
	}
	if names, silent := able(may(RoleRelease, signers), at); len(signers) > 0 && len(names) == 0 {
		l.fault(fmt.Sprintf("no agreement can be signed any more: %s", tellAble(names, silent)), here("signers")...)
	}
}

func (p *Policy) speakersIn(role Role) []Speaker {
	return slices.DeleteFunc(p.Speakers(), func(s Speaker) bool { return s.Role != role })
}

// able divides names into those with a key that counts at a time and, with the
// reason, those without.
func able(all []Speaker, at time.Time) (names, silent []string) {
	var order []string
	can, why := map[string]bool{}, map[string]string{}
	for _, s := range all {
		if !slices.Contains(order, s.Name) {
			order = append(order, s.Name)
		}
		switch {
		case !s.Revoked.IsZero() && !at.Before(s.Revoked):
			why[s.Name] = "revoked"
		case !s.Until.IsZero() && !at.Before(s.Until):
			why[s.Name] = "expired"
		case !s.From.IsZero() && at.Before(s.From):
			why[s.Name] = "not valid yet"
		default:
			can[s.Name] = true
		}
	}
	for _, name := range order {
		if can[name] {
			names = append(names, name)
		} else {
			silent = append(silent, fmt.Sprintf("%s is %s", name, why[name]))
		}
	}
	return names, silent
}

func tellAble(names, silent []string) string {
	text := "nobody has a key that counts now"
	if len(names) > 0 {
		text = fmt.Sprintf("only %s a key that counts now (%s)", count(len(names), "has", "have"), strings.Join(names, ", "))
		text = strings.Replace(text, "only 1 has", "only one has", 1)
	}
	if len(silent) > 0 {
		text += ": " + strings.Join(silent, ", ")
	}
	return text
}

func there(maintainers int) string {
	if maintainers == 1 {
		return "is 1 maintainer"
	}
	return fmt.Sprintf("are %d maintainers", maintainers)
}
