package rebuild

import (
	"maps"
	"slices"
	"time"

	"quorate.dev/rebuild/agreement"
)

// Summary is an Outcome for programs: verdict.json, and what `quorate rebuild --json` answers.
type Summary struct {
	Decision    string              `json:"decision"` // "agree", "disagree", "inconclusive"
	Nonce       string              `json:"nonce"`
	Subjects    []SubjectSummary    `json:"subjects,omitempty"` // agreed on
	Rebuilders  []RebuilderSummary  `json:"rebuilders"`         // every one of the policy, sorted by name
	Reasons     []string            `json:"reasons,omitempty"`
	FirstStep   *FirstStep          `json:"firstStep,omitempty"` // whose output differs
	Differences []DifferenceSummary `json:"differences,omitempty"`
	Operators   int                 `json:"independentOperators,omitempty"` // behind the agreement
	Warnings    []string            `json:"warnings,omitempty"`
	Results     string              `json:"results"`           // folder, as it was given
	Bundle      string              `json:"bundle,omitempty"`  // file of the signed agreement
	Refusal     string              `json:"refusal,omitempty"` // file of the signed record that there is none
}

// SubjectSummary is one image manifest.
type SubjectSummary struct {
	Name     string `json:"name"`
	Platform string `json:"platform,omitempty"`
	Digest   string `json:"digest"`
}

// RebuilderSummary is one rebuilder's outcome.
type RebuilderSummary struct {
	Name         string            `json:"name"`
	Operator     string            `json:"operator"`
	Key          string            `json:"keyFingerprint"`
	Outcome      string            `json:"outcome"` // "agree", "dissent", "error", "timeout"
	Reason       string            `json:"reason,omitempty"`
	CommittedAt  string            `json:"committedAt,omitempty"` // to its report, before any was told; RFC 3339
	Subjects     []SubjectSummary  `json:"subjects,omitempty"`    // what it built
	Surroundings map[string]string `json:"surroundings,omitempty"`
	Attempts     []Attempt         `json:"attempts,omitempty"`
}

// DifferenceSummary is how much differs between two rebuilders; differences.json has it all.
type DifferenceSummary struct {
	A     string   `json:"a"`
	B     string   `json:"b"`
	Count int      `json:"count"`
	Paths []string `json:"paths"`
	Error string   `json:"error,omitempty"`
}

// Summary returns the outcome for programs.
func (o *Outcome) Summary() Summary {
	s := Summary{Decision: string(o.Verdict.Decision), Nonce: o.Nonce, Reasons: o.Verdict.Reasons, FirstStep: o.First, Warnings: o.Warnings, Results: o.Results, Bundle: o.Bundle(), Refusal: o.Refusal()}
	if o.Agreement != nil {
		s.Subjects = subjects(o.Agreement.Subjects())
		s.Operators = o.Agreement.IndependentOperators()
	}
	for _, r := range o.Verdict.Outcomes {
		one := RebuilderSummary{Name: r.Rebuilder, Operator: r.Operator, Key: r.Fingerprint, Outcome: string(r.Result), Reason: r.Reason, Attempts: o.Attempts[r.Rebuilder]}
		if r.Report != nil {
			one.Subjects, one.Surroundings = subjects(r.Report.Subjects), maps.Clone(r.Report.Surroundings)
			if !r.Committed.IsZero() {
				one.CommittedAt = r.Committed.UTC().Format(time.RFC3339)
			}
		}
		s.Rebuilders = append(s.Rebuilders, one)
	}
	for _, d := range o.Differences {
		s.Differences = append(s.Differences, DifferenceSummary{A: d.A, B: d.B, Count: d.Count, Paths: d.Paths, Error: d.Err})
	}
	return s
}

func subjects(list []agreement.Subject) []SubjectSummary {
	var all []SubjectSummary
	for _, s := range list {
		all = append(all, SubjectSummary{Name: s.Name, Platform: s.Platform, Digest: s.Digest.String()})
	}
	return all
}

// Elapsed is how long the rebuilder's workers took in all.
func (r RebuilderSummary) Elapsed() time.Duration {
	var d time.Duration
	for a := range slices.Values(r.Attempts) {
		d += a.Elapsed
	}
	return d
}
