// Package agreement judges whether independent rebuilders built the same thing.
//
// A [Report] is what one rebuilder says: from this lock I built these image
// manifests. A [Policy] says whose word counts, how many of them must say the
// same, and how distinct they must be. [Judge] compares them and is pure: no
// clock, network, file or randomness, and no dependence on the order in which
// reports arrive.
//
//	verdict, agreed := agreement.Judge(job, policy, submissions)
//	switch verdict.Decision {
//	case agreement.Agree:        // agreed is not nil and may be signed
//	case agreement.Disagree:     // somebody built something else
//	case agreement.Inconclusive: // too few, or not distinct enough
//	}
//
// # What is compared
//
// Two reports say the same when the sha256 of the canonical JSON of their
// buildDefinition (all inputs) and their sorted subjects (name, platform,
// manifest digest) are equal: bit for bit, nothing is normalised. Reports that
// do so form a [Class].
//
// # How it is judged
//
// Every rebuilder of the policy ends with exactly one [Outcome]:
//
//   - agree: its report is in the class that won;
//   - dissent: it built, from the same inputs, something else; or it said two
//     different things about one job;
//   - error: it has no report that counts: it failed, its report does not
//     verify, answers another job, is signed with another key than the one
//     enrolled, names nothing, or was built from other inputs;
//   - timeout: it said nothing in time.
//
// The winning class is the one with the most distinct keys. It must be the
// only largest, hold at least Threshold distinct keys, and fulfil every
// Distinct rule; otherwise the verdict is inconclusive. Any dissent makes it
// disagree, unless the policy allows dissent; then it still disagrees when two
// classes are equally large or a second one fulfils the rule too. Errors and
// timeouts never count for anything: k failures are not agreement.
//
// Distinctness is counted over key material and over operators as the policy
// names them, never as reports claim. Other attributes ("cpu-vendor",
// "kernel", "architecture") are taken from the environment that reports claim, and
// are worth what the rebuilders' word is worth.
//
// # One machine that poses as several
//
// Reports tell of their machine what containers cannot hide from an honest worker:
// the kernel's boot id, the machine's id (hashed), the Docker Engine's id
// ([MachineFacts]). Operators whose rebuilders share one of them count as one, and
// the verdict warns; "machine" in a distinct rule counts different machines, of those
// that say where they are.
//
// This catches carelessness: two names for one server, a worker on the engine that
// another one already stands for, an operator who moved onto the machine of another. It does
// not catch a lie. Whoever owns a machine can have a changed worker claim any id; a virtual
// machine has a kernel and an id of its own, so two of them on one server look like
// two machines; and one that claims somebody else's id makes an agreement fail, which is seen,
// and never succeed. Nothing here is hardware attestation: who operates what is for
// the policy's author to know.
//
// # The gate
//
// An [Agreement] has only unexported fields, which only Judge fills, and
// attestation.SignAgreement accepts nothing else and refuses the zero value. A
// program that wants a signature has to get past Judge.
//
// That there is no agreement is worth a signature too, so that a dissent cannot
// be forgotten: a [Refusal] is the same kind of proof of the other two
// decisions, filled by [Refuse] only, and it is no Agreement to anybody.
package agreement

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
)

// Report is what one rebuilder says, taken from a statement whose signature
// was verified (attestation.OpenReport).
type Report struct {
	Rebuilder      string // name it goes by in the policy
	KeyFingerprint string // of the key that verified the statement (keyfile.PublicKey.Fingerprint)
	BuilderID      string // SLSA builder.id
	Operator       string // as the rebuilder claims; the policy's word counts
	Nonce          string // of the job it answers
	Attempt        int    // from 1

	Lock            digest.Digest // of the lock file's bytes
	Definition      digest.Digest // of the definition file's bytes
	BuildDefinition digest.Digest // of the canonical JSON of buildDefinition: every input
	Subjects        []Subject     // what was built, sorted

	Steps       []StepDigest // what each step left in $OUT, sorted
	FileList    digest.Digest
	Log         digest.Digest
	Environment map[string]string // facts of the host, as claimed
	// Surroundings is what was varied on purpose for this build.
	Surroundings map[string]string

	Started, Finished time.Time
	Statement         digest.Digest // of the signed payload
}

// Subject is one image manifest.
type Subject struct {
	Name     string
	Platform string // "linux/amd64"; "" for an index
	Digest   digest.Digest
}

// Compare orders subjects by name, platform and digest.
func (s Subject) Compare(t Subject) int {
	return cmp.Or(
		strings.Compare(s.Name, t.Name),
		strings.Compare(s.Platform, t.Platform),
		bytes.Compare(s.Digest[:], t.Digest[:]),
	)
}

// StepDigest is the canonical tree that one step left.
type StepDigest struct {
	Platform, Step string
	Tree           digest.Digest
}

// Compare orders by platform, step and digest.
func (s StepDigest) Compare(t StepDigest) int {
	return cmp.Or(
		strings.Compare(s.Platform, t.Platform),
		strings.Compare(s.Step, t.Step),
		bytes.Compare(s.Tree[:], t.Tree[:]),
	)
}

// Job is what rebuilders were asked to do.
type Job struct {
	Lock       digest.Digest
	Definition digest.Digest
	// Nonce is new for every request, so that an old report answers none. Empty
	// means that reports of any request count, for a judge who asked nobody.
	Nonce string
	// BuildDefinition is what every report's must be, when it is known
	// beforehand; zero means that reports are only compared with each other.
	BuildDefinition digest.Digest
}

// Submission is what came back from one rebuilder: a report, or the reason why
// there is none. One rebuilder may submit more than once.
type Submission struct {
	Rebuilder string
	Report    *Report // nil when Err is set or Timeout
	Err       error
	Timeout   bool
	// Committed is when the rebuilder committed to its report, before others told
	// theirs; zero when that is not known. It is passed on and decides nothing here.
	Committed time.Time
}

// Decision is a verdict in one word.
type Decision string

// The decisions.
const (
	Agree        Decision = "agree"
	Disagree     Decision = "disagree"
	Inconclusive Decision = "inconclusive"
)

// Result is what became of one rebuilder.
type Result string

// The results.
const (
	Agrees   Result = "agree"
	Dissents Result = "dissent"
	Errs     Result = "error"
	TimesOut Result = "timeout"
)

// Outcome is the result of one rebuilder of the policy.
type Outcome struct {
	Rebuilder   string
	Operator    string // the policy's word
	Fingerprint string // of the key enrolled
	Result      Result
	Reason      string    // a sentence for people; "" when it agrees
	Report      *Report   // the report that counts; nil for most errors and for timeouts
	Committed   time.Time // Submission.Committed of that report
}

// Class is a set of rebuilders that say the same.
type Class struct {
	BuildDefinition digest.Digest
	Subjects        []Subject // sorted
	Rebuilders      []string  // sorted
}

// Verdict is what Judge found.
type Verdict struct {
	Decision Decision
	Outcomes []Outcome // one per rebuilder of the policy, sorted by name
	Classes  []Class   // largest first
	Reasons  []string  // why the decision is what it is; sentences for people
	// Warnings are what a reader should know besides: operators that are one machine.
	Warnings []string
	// Strangers are names that submitted something and are not in the policy, sorted.
	Strangers []string
}

// Agreement is the proof that Judge decided Agree. Its zero value is none.
type Agreement struct {
	job       Job
	rule      Rule
	policy    digest.Digest
	class     Class
	outcomes  []Outcome
	operators int
}

// Refusal is the proof that Judge decided Disagree or Inconclusive, with every
// outcome. Its zero value is none.
type Refusal struct {
	job      Job
	rule     Rule
	policy   digest.Digest
	decision Decision
	reasons  []string
	outcomes []Outcome
}

// Valid reports whether r came from Refuse.
func (r *Refusal) Valid() bool { return r != nil && len(r.outcomes) > 0 }

// Job returns what was asked.
func (r *Refusal) Job() Job { return r.job }

// Rule returns how many were needed and how distinct.
func (r *Refusal) Rule() Rule { return r.rule.clone() }

// PolicyDigest returns Policy.Digest of the policy it was judged by.
func (r *Refusal) PolicyDigest() digest.Digest { return r.policy }

// Decision returns Disagree or Inconclusive.
func (r *Refusal) Decision() Decision { return r.decision }

// Reasons returns why, in sentences for people.
func (r *Refusal) Reasons() []string { return slices.Clone(r.reasons) }

// Outcomes returns the result of every rebuilder of the policy, sorted by name.
func (r *Refusal) Outcomes() []Outcome { return cloneOutcomes(r.outcomes) }

// Built returns every image that a report which counts names, sorted, each once.
func (r *Refusal) Built() []Subject {
	var all []Subject
	for _, o := range r.outcomes {
		if o.Report != nil {
			all = append(all, o.Report.Subjects...)
		}
	}
	slices.SortFunc(all, Subject.Compare)
	return slices.Compact(all)
}

// Rule is the part of a policy that says how many and how distinct.
type Rule struct {
	Threshold    int
	Distinct     map[string]int
	AllowDissent bool
}

// Valid reports whether a came from Judge.
func (a *Agreement) Valid() bool { return a != nil && len(a.outcomes) > 0 && len(a.class.Subjects) > 0 }

// Job returns what was asked; its BuildDefinition is the agreed one.
func (a *Agreement) Job() Job { return a.job }

// Rule returns how many were needed and how distinct.
func (a *Agreement) Rule() Rule { return a.rule.clone() }

// PolicyDigest returns Policy.Digest of the policy it was judged by.
func (a *Agreement) PolicyDigest() digest.Digest { return a.policy }

// Subjects returns what was agreed on, sorted.
func (a *Agreement) Subjects() []Subject { return slices.Clone(a.class.Subjects) }

// Outcomes returns the result of every rebuilder of the policy, sorted by name.
func (a *Agreement) Outcomes() []Outcome { return cloneOutcomes(a.outcomes) }

// IndependentOperators returns how many operators, as the policy names them,
// are behind the rebuilders that agree. Rebuilders of one operator, however
// many, are one.
func (a *Agreement) IndependentOperators() int { return a.operators }

func (r Rule) clone() Rule {
	r.Distinct = maps.Clone(r.Distinct)
	return r
}

func cloneOutcomes(in []Outcome) []Outcome {
	out := slices.Clone(in)
	for i := range out {
		out[i].Report = out[i].Report.clone()
	}
	return out
}

// clone copies r whole, so that what was judged cannot be changed afterwards.
func (r *Report) clone() *Report {
	if r == nil {
		return nil
	}
	c := *r
	c.Subjects = slices.Clone(r.Subjects)
	c.Steps = slices.Clone(r.Steps)
	c.Environment = maps.Clone(r.Environment)
	c.Surroundings = maps.Clone(r.Surroundings)
	return &c
}
