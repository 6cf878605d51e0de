package agreement

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
)

// Judge compares what rebuilders submitted for a job under a policy. The
// Agreement is nil unless the decision is Agree. See the package comment for
// the rules.
func Judge(job Job, policy *Policy, submissions []Submission) (Verdict, *Agreement) {
	if err := policy.Check(); err != nil {
		return Verdict{Decision: Inconclusive, Reasons: []string{err.Error()}}, nil
	}
	if err := policy.ready(); err != nil {
		return Verdict{Decision: Inconclusive, Reasons: []string{err.Error()}}, nil
	}
	reported := slices.ContainsFunc(submissions, func(s Submission) bool { return s.Report != nil })
	if job.isZero() && reported { // without any report there is nothing to hold against the job
		return Verdict{Decision: Inconclusive, Reasons: []string{"the job names no lock or no definition"}}, nil
	}
	sorted := slices.SortedFunc(slices.Values(policy.Rebuilders), func(a, b Rebuilder) int { return strings.Compare(a.Name, b.Name) })
	byName := make(map[string][]Submission)
	for _, s := range submissions {
		byName[s.Rebuilder] = append(byName[s.Rebuilder], s)
	}
	heard := make([]statement, len(sorted))
	for i, r := range sorted {
		heard[i] = hear(job, policy, r, byName[r.Name])
		delete(byName, r.Name)
	}
	verdict, winner := decide(policy, heard)
	verdict.Warnings = posing(heard)
	verdict.Strangers = slices.Sorted(maps.Keys(byName))
	for _, h := range heard {
		verdict.Outcomes = append(verdict.Outcomes, h.outcome)
	}
	if verdict.Decision != Agree {
		return verdict, nil
	}
	agreed := &Agreement{
		job:       job,
		rule:      policy.rule(),
		policy:    policy.Digest(),
		class:     winner.class(),
		outcomes:  cloneOutcomes(verdict.Outcomes),
		operators: len(winner.values("operator")),
	}
	agreed.job.BuildDefinition = winner.build
	return verdict, agreed
}

// Refuse judges as Judge does and returns the proof that there is no agreement.
// It is nil when there is one, and when nothing could be judged at all: a
// policy that cannot be used, a job that names nothing.
func Refuse(job Job, policy *Policy, submissions []Submission) *Refusal {
	verdict, _ := Judge(job, policy, submissions)
	if verdict.Decision == Agree || len(verdict.Outcomes) == 0 || job.isZero() {
		return nil
	}
	return &Refusal{
		job:      job,
		rule:     policy.rule(),
		policy:   policy.Digest(),
		decision: verdict.Decision,
		reasons:  verdict.Reasons,
		outcomes: cloneOutcomes(verdict.Outcomes),
	}
}

func (j Job) isZero() bool { return j.Lock.IsZero() || j.Definition.IsZero() }

// statement is what one rebuilder said, before it is compared with others.
type statement struct {
	rebuilder Rebuilder
	outcome   Outcome
	report    *Report // nil unless it counts; its subjects sorted
	torn      bool    // it said two different things
}

// hear reduces the submissions of one rebuilder to one statement. A report
// that counts outweighs failures before or after it; two that differ are a dissent.
func hear(job Job, policy *Policy, r Rebuilder, submissions []Submission) statement {
	h := statement{rebuilder: r, outcome: Outcome{Rebuilder: r.Name, Operator: r.Operator, Fingerprint: r.Key.Fingerprint()}}
	var reports []*Report
	var faults []string
	committed := make(map[*Report]time.Time)
	late := false
	for _, s := range submissions {
		switch {
		case s.Timeout && s.Report == nil && s.Err == nil:
			late = true
		default:
			if err := admit(job, policy, r, s); err != nil {
				faults = append(faults, err.Error())
				continue
			}
			report := s.Report.clone()
			slices.SortFunc(report.Subjects, Subject.Compare)
			reports, committed[report] = append(reports, report), s.Committed
		}
	}
	switch {
	case len(reports) > 0:
		// Of equal reports (a retry) the first in this order is kept: any would do, but always the same.
		slices.SortFunc(reports, func(a, b *Report) int {
			return cmp.Or(
				bytes.Compare(a.Statement[:], b.Statement[:]),
				bytes.Compare(a.BuildDefinition[:], b.BuildDefinition[:]),
				slices.CompareFunc(a.Subjects, b.Subjects, Subject.Compare),
			)
		})
		h.report = reports[0]
		h.outcome.Report, h.outcome.Committed = reports[0], committed[reports[0]]
		h.outcome.Fingerprint = reports[0].KeyFingerprint
		h.torn = slices.ContainsFunc(reports, func(other *Report) bool { return !same(other, h.report) })
	case len(faults) > 0:
		slices.Sort(faults)
		h.outcome.Result = Errs
		h.outcome.Reason = strings.Join(slices.Compact(faults), "; ")
	case late:
		h.outcome.Result = TimesOut
		h.outcome.Reason = "no report in time"
	default:
		h.outcome.Result = Errs
		h.outcome.Reason = "no report"
	}
	return h
}

// admit says why a submission does not count, or nil.
func admit(job Job, policy *Policy, r Rebuilder, s Submission) error {
	report := s.Report
	switch {
	case s.Err != nil:
		return s.Err
	case report == nil:
		return errors.New("no report")
	}
	speakers := r.speakers()
	signed := slices.IndexFunc(speakers, func(s Speaker) bool { return s.Key.Fingerprint() == report.KeyFingerprint })
	switch {
	case signed < 0:
		return fmt.Errorf("report is signed with key %.16s…, but the policy enrols %.16s… for %q", report.KeyFingerprint, r.Key.Fingerprint(), r.Name)
	case report.Rebuilder != r.Name:
		return fmt.Errorf("report says it is from %q, but its key is enrolled for %q", report.Rebuilder, r.Name)
	}
	if err := policy.Hears(speakers[signed], Said{Time: report.Finished, BuilderID: report.BuilderID}, RoleRebuilder); err != nil {
		return err
	}
	switch {
	case job.Nonce != "" && report.Nonce != job.Nonce:
		return fmt.Errorf("report answers request %q, expected %q: it may be an old one", report.Nonce, job.Nonce)
	case report.Lock != job.Lock:
		return fmt.Errorf("report is about lock %s, expected %s", name(report.Lock), name(job.Lock))
	case report.Definition != job.Definition:
		return fmt.Errorf("report is about definition %s, expected %s", name(report.Definition), name(job.Definition))
	case report.BuildDefinition.IsZero():
		return errors.New("report does not say what it was built from")
	case !job.BuildDefinition.IsZero() && report.BuildDefinition != job.BuildDefinition:
		return fmt.Errorf("built from other inputs: build definition %s, expected %s", name(report.BuildDefinition), name(job.BuildDefinition))
	case len(report.Subjects) == 0:
		return errors.New("report names no image: nothing was built")
	}
	return checkSubjects(report.Subjects)
}

func checkSubjects(subjects []Subject) error {
	type key struct{ name, platform string }
	seen := make(map[key]bool)
	for _, s := range subjects {
		if s.Digest.IsZero() {
			return fmt.Errorf("report names image %q of %q without a digest", s.Name, s.Platform)
		}
		k := key{s.Name, s.Platform}
		if seen[k] {
			return fmt.Errorf("report names image %q of %q twice", s.Name, s.Platform)
		}
		seen[k] = true
	}
	return nil
}

func name(d digest.Digest) string {
	if d.IsZero() {
		return "none"
	}
	return "sha256:" + d.Short() + "…"
}

// same reports whether two reports, subjects sorted, agree.
func same(a, b *Report) bool {
	return a.BuildDefinition == b.BuildDefinition && slices.Equal(a.Subjects, b.Subjects)
}

// group is a Class while it is being judged.
type group struct {
	build    digest.Digest
	subjects []Subject
	members  []*statement
}

func (g *group) class() Class {
	c := Class{BuildDefinition: g.build, Subjects: slices.Clone(g.subjects)}
	for _, m := range g.members {
		c.Rebuilders = append(c.Rebuilders, m.rebuilder.Name)
	}
	return c
}

// values returns the distinct values of an attribute among the members.
// Operators and keys come from the policy. A member that does not tell an
// attribute of its environment adds none: unknown is not distinct.
func (g *group) values(attribute string) map[string]bool {
	switch attribute {
	case "operator":
		return operators(g.members)
	case "machine":
		return machines(g.members)
	}
	set := make(map[string]bool)
	for _, m := range g.members {
		switch attribute {
		case "key":
			set[m.report.KeyFingerprint] = true
		default:
			if v := m.report.Environment[attribute]; v != "" {
				set[v] = true
			}
		}
	}
	return set
}

// shortfalls says what the group lacks to fulfil the rule; empty when nothing.
func (g *group) shortfalls(rule Rule) []string {
	var lacks []string
	if keys := len(g.values("key")); keys < rule.Threshold {
		lacks = append(lacks, fmt.Sprintf("%s the same, below the threshold of %d", count(keys, "rebuilder says", "rebuilders say"), rule.Threshold))
	}
	for _, attribute := range slices.Sorted(maps.Keys(rule.Distinct)) {
		if have, want := len(g.values(attribute)), rule.Distinct[attribute]; have < want {
			lacks = append(lacks, fmt.Sprintf("those who say the same have %s of %q, expected at least %d", count(have, "distinct value", "distinct values"), attribute, want))
		}
	}
	return lacks
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// gather divides the statements that count into groups, largest first. Torn
// ones belong to none.
func gather(heard []statement) []*group {
	var groups []*group
	for i := range heard {
		h := &heard[i]
		if h.report == nil || h.torn {
			continue
		}
		at := slices.IndexFunc(groups, func(g *group) bool {
			return g.build == h.report.BuildDefinition && slices.Equal(g.subjects, h.report.Subjects)
		})
		if at < 0 {
			groups = append(groups, &group{build: h.report.BuildDefinition, subjects: h.report.Subjects})
			at = len(groups) - 1
		}
		groups[at].members = append(groups[at].members, h)
	}
	slices.SortFunc(groups, func(a, b *group) int {
		return cmp.Or(
			-cmp.Compare(len(a.members), len(b.members)),
			slices.CompareFunc(a.subjects, b.subjects, Subject.Compare),
			bytes.Compare(a.build[:], b.build[:]),
		)
	})
	return groups
}

// decide fills the outcomes that hear left open and returns the verdict with
// the group that won, nil unless Agree.
func decide(policy *Policy, heard []statement) (Verdict, *group) {
	groups := gather(heard)
	var verdict Verdict
	for _, g := range groups {
		verdict.Classes = append(verdict.Classes, g.class())
	}
	leader := lead(groups)
	dissents := settle(heard, groups, leader)

	rule := policy.rule()
	var contested *group
	for _, g := range groups {
		if g != leader && leader != nil && !slices.Equal(g.subjects, leader.subjects) && len(g.shortfalls(rule)) == 0 {
			contested = g
		}
	}
	switch {
	case dissents > 0 && !policy.AllowDissent:
		verdict.Decision = Disagree
		verdict.Reasons = []string{fmt.Sprintf("%s from the others, and the policy does not allow dissent", count(dissents, "rebuilder differs", "rebuilders differ"))}
		if leader == nil {
			verdict.Reasons = []string{"rebuilders built different images, and no result has more of them behind it than any other"}
		}
	case leader == nil && dissents > 0:
		verdict.Decision = Disagree
		verdict.Reasons = []string{"rebuilders built different images, and no result has more of them behind it than any other"}
	case contested != nil:
		verdict.Decision = Disagree
		verdict.Reasons = []string{"two different results fulfil the policy's rule"}
	case leader == nil && len(groups) > 0:
		verdict.Decision = Inconclusive
		verdict.Reasons = []string{"rebuilders built the same image from different inputs, and no set of inputs has more of them behind it than any other"}
	case leader == nil:
		verdict.Decision = Inconclusive
		verdict.Reasons = []string{"no rebuilder has a report that counts"}
	default:
		if verdict.Reasons = leader.shortfalls(rule); len(verdict.Reasons) > 0 {
			verdict.Decision = Inconclusive
			break
		}
		verdict.Decision = Agree
		verdict.Reasons = []string{fmt.Sprintf("%d of %d rebuilders say the same, threshold %d", len(leader.members), len(heard), rule.Threshold)}
		return verdict, leader
	}
	return verdict, nil
}

// lead returns the only largest group, or nil.
func lead(groups []*group) *group {
	if len(groups) == 0 || len(groups) > 1 && len(groups[0].members) == len(groups[1].members) {
		return nil
	}
	return groups[0]
}

// settle gives every statement that counts its result, against the leading
// group, and returns how many dissent.
func settle(heard []statement, groups []*group, leader *group) int {
	dissents := 0
	dissent := func(o *Outcome, reason string) {
		o.Result, o.Reason = Dissents, reason
		dissents++
	}
	oneImage := len(groups) > 0 && !slices.ContainsFunc(groups, func(g *group) bool { return !slices.Equal(g.subjects, groups[0].subjects) })
	for i := range heard {
		h := &heard[i]
		o := &h.outcome
		switch {
		case h.report == nil:
		case h.torn:
			dissent(o, "it reported different results for one job")
		case leader == nil && oneImage:
			o.Result, o.Reason = Errs, "built from other inputs than others: build definition "+name(h.report.BuildDefinition)
		case leader == nil:
			dissent(o, "built "+list(h.report.Subjects)+"; no output has a majority")
		case leader.build == h.report.BuildDefinition && slices.Equal(leader.subjects, h.report.Subjects):
			o.Result = Agrees
		case slices.Equal(leader.subjects, h.report.Subjects):
			o.Result, o.Reason = Errs, fmt.Sprintf("built from other inputs: build definition %s, expected %s", name(h.report.BuildDefinition), name(leader.build))
		case leader.build != h.report.BuildDefinition:
			dissent(o, fmt.Sprintf("built %s, expected %s; it also used other inputs: build definition %s, expected %s",
				list(h.report.Subjects), list(leader.subjects), name(h.report.BuildDefinition), name(leader.build)))
		default:
			dissent(o, fmt.Sprintf("built %s, expected %s", list(h.report.Subjects), list(leader.subjects)))
		}
	}
	return dissents
}

// list names subjects in a sentence.
func list(subjects []Subject) string {
	var parts []string
	for _, s := range subjects {
		where := ""
		if s.Platform != "" {
			where = " for " + s.Platform
		}
		parts = append(parts, name(s.Digest)+where)
	}
	return strings.Join(parts, ", ")
}
