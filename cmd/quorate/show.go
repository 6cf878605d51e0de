package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/builder/registry"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
)

// showAnswer is what `quorate show --json` answers. Lists are never null.
type showAnswer struct {
	Reference  string            `json:"reference"` // by digest
	Images     []verifiedSubject `json:"images"`    // without names
	Project    string            `json:"project,omitempty"`
	Checked    bool              `json:"checked"` // whether signatures were checked, with a policy
	Verified   bool              `json:"verified"`
	Reasons    []string          `json:"reasons"` // why not
	Reports    []shownReport     `json:"reports"`
	Agreements []shownAgreement  `json:"agreements"`
	Summaries  []shownSummary    `json:"summaries"`
	Refusals   []shownRefusal    `json:"refusals"`   // requests for it that ended without an agreement
	Unreadable int               `json:"unreadable"` // Sigstore bundles that hold none of our statements
	Others     int               `json:"others"`     // referrers of other tools
}

// shownStatement is what every statement has.
type shownStatement struct {
	Referrer string `json:"referrer"`
	Time     string `json:"time"`
	Signer   string `json:"signer,omitempty"` // name in the policy of the key that signed; "" for none, or unchecked
}

type shownReport struct {
	shownStatement
	Rebuilder  string            `json:"rebuilder"`
	Operator   string            `json:"operator,omitempty"`
	BuilderID  string            `json:"builderId"`
	Request    string            `json:"request"`
	Definition string            `json:"definition"`
	Lock       string            `json:"lock"`
	Subjects   []verifiedSubject `json:"subjects"`
	Same       bool              `json:"same"` // it built this image
}

type shownAgreement struct {
	shownStatement
	Request   string            `json:"request"`
	Threshold int               `json:"threshold"`
	Operators int               `json:"independentOperators"`
	Outcomes  []verifiedOutcome `json:"outcomes"`
}

type shownSummary struct {
	shownStatement
	Verifier string   `json:"verifier"`
	Resource string   `json:"resource"`
	Levels   []string `json:"levels"`
	Inputs   int      `json:"inputs"`
	Missing  int      `json:"missing"` // of the inputs, in the registry's list
}

type shownRefusal struct {
	Referrer string `json:"referrer"`
	toldRefusal
}

func showCmd(ui *terminal) *cobra.Command {
	var (
		reader readerFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "show REF",
		Short: "Tell who built a published image, from what, who agreed and who dissented",
		Long: `Show reads what lies beside the image REF, in a registry or in a folder
(oci:DIR[:TAG]), and tells it on one screen: the image by digest, what it was
built from, every rebuilder's report, the agreement with each rebuilder's outcome,
and the summary.

Without --policy no signature is checked: what is told is what the statements
say, which anybody may have written. With --policy the name of the key's owner
in your policy stands beside each statement, and the verdict below; "quorate
verify" is the same as an exit code.` +
			exitStatus("shown", "", "could not tell: there is no such image, or a registry that does not answer"),
		Example: `  quorate show registry.example/app:v1
  quorate show registry.example/app:v1 --policy policy.yaml --json
  quorate show oci:/mnt/usb/app`,
		Args: takes("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runShow(cmd.Context(), ui, args[0], reader, asJSON)
		},
	}
	reader.register(cmd.Flags(), "check signatures with the keys of the policy in `FILE`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

func runShow(ctx context.Context, ui *terminal, refText string, reader readerFlags, asJSON bool) error {
	p, policy, err := reader.open(ctx, ui, refText)
	if err != nil {
		return err
	}
	s := &showing{published: p, answer: showAnswer{
		Reference: p.pinned(), Images: []verifiedSubject{}, Reasons: []string{},
		Reports: []shownReport{}, Agreements: []shownAgreement{}, Summaries: []shownSummary{}, Refusals: []shownRefusal{},
	}}
	if err := s.read(ctx, policy); err != nil {
		return err
	}
	if asJSON {
		ui.answerJSON(s.answer)
		return nil
	}
	s.tell(ui)
	return nil
}

// showing gathers what is shown.
type showing struct {
	*published
	answer showAnswer
	signer map[digest.Digest]string // referrer → name in the policy
}

func (s *showing) read(ctx context.Context, policy *agreement.Policy) error {
	images, err := s.client.Pull(ctx, s.ref.At(s.top.Digest), nil)
	if err != nil {
		return err
	}
	for _, img := range images {
		s.answer.Images = append(s.answer.Images, verifiedSubject{Platform: img.Platform.String(), Digest: img.ManifestDigest.String()})
	}
	_, err = s.projects(ctx, func(manifest digest.Digest, _ *registry.Artifact) bool {
		s.answer.Project = manifest.String()
		return true
	})
	if err != nil {
		return err
	}
	claims, opened, read, err := s.claims(ctx, policy)
	if err != nil {
		return err
	}
	s.answer.Unreadable, s.answer.Others = read-len(claims), len(s.listed())-read
	if s.answer.Project != "" {
		s.answer.Others--
	}
	if policy != nil {
		s.check(opened)
	}
	s.add(claims)
	return nil
}

func (s *showing) check(o *attestation.Opened) {
	s.answer.Checked = true
	s.signer = map[digest.Digest]string{}
	for _, st := range o.Statements {
		if st.Accepted {
			s.signer[st.Referrer] = st.Name
		}
	}
	if err := o.Verify(s.images...); err != nil {
		s.answer.Reasons = append(s.answer.Reasons, strings.TrimPrefix(err.Error(), "not verified: "))
		return
	}
	s.answer.Verified = true
}

// add sorts the claims into the answer, newest first.
func (s *showing) add(claims map[digest.Digest]*attestation.Claim) {
	listed := s.listed()
	for manifest, c := range claims {
		st := shownStatement{Referrer: manifest.String(), Time: c.Time.Format(time.RFC3339), Signer: s.signer[manifest]}
		switch c.Kind {
		case attestation.KindReport:
			s.answer.Reports = append(s.answer.Reports, s.report(st, c.Report))
		case attestation.KindAgreement:
			s.answer.Agreements = append(s.answer.Agreements, shownAgreement{
				shownStatement: st, Request: c.Agreement.Job.Nonce, Threshold: c.Agreement.Rule.Threshold,
				Operators: c.Agreement.IndependentOperators, Outcomes: outcomesOf(c.Agreement.Results),
			})
		case attestation.KindRefusal:
			told := describeRefusal(c.Refusal)
			told.Signer = st.Signer
			s.answer.Refusals = append(s.answer.Refusals, shownRefusal{st.Referrer, told})
		case attestation.KindSummary:
			missing := 0
			for _, in := range c.Summary.Inputs {
				if !listed[in.Digest] {
					missing++
				}
			}
			s.answer.Summaries = append(s.answer.Summaries, shownSummary{
				shownStatement: st, Verifier: c.Summary.Verifier, Resource: c.Summary.Resource, Levels: append([]string{}, c.Summary.Levels...),
				Inputs: len(c.Summary.Inputs), Missing: missing,
			})
		}
	}
	newest := func(a, b shownStatement) int {
		return cmp.Or(strings.Compare(b.Time, a.Time), strings.Compare(a.Referrer, b.Referrer))
	}
	slices.SortFunc(s.answer.Reports, func(a, b shownReport) int {
		return cmp.Or(-cmp.Compare(b2i(a.Signer != ""), b2i(b.Signer != "")), strings.Compare(b.Time, a.Time), strings.Compare(a.Rebuilder, b.Rebuilder), strings.Compare(a.Referrer, b.Referrer))
	})
	slices.SortFunc(s.answer.Agreements, func(a, b shownAgreement) int { return newest(a.shownStatement, b.shownStatement) })
	slices.SortFunc(s.answer.Refusals, func(a, b shownRefusal) int {
		return cmp.Or(strings.Compare(b.Time, a.Time), strings.Compare(a.Referrer, b.Referrer))
	})
	slices.SortFunc(s.answer.Summaries, func(a, b shownSummary) int { return newest(a.shownStatement, b.shownStatement) })
}

func (s *showing) report(st shownStatement, r *agreement.Report) shownReport {
	out := shownReport{
		shownStatement: st, Rebuilder: r.Rebuilder, Operator: r.Operator, BuilderID: r.BuilderID, Request: r.Nonce,
		Definition: r.Definition.String(), Lock: r.Lock.String(), Subjects: []verifiedSubject{},
	}
	same := 0
	for _, one := range r.Subjects {
		out.Subjects = append(out.Subjects, verifiedSubject{Name: one.Name, Platform: one.Platform, Digest: one.Digest.String()})
		if slices.Contains(s.images, one.Digest) {
			same++
		}
	}
	out.Same = same == len(s.images)
	return out
}

func outcomesOf(results []attestation.SignedResult) []verifiedOutcome {
	all := []verifiedOutcome{}
	for _, r := range results {
		all = append(all, verifiedOutcome{Rebuilder: r.Rebuilder, Operator: r.Operator, Fingerprint: r.Fingerprint, Outcome: string(r.Outcome), Reason: r.Reason})
	}
	return all
}

// shownRows bounds what is told of each kind, so that it stays one screen.
const shownRows = 12

func (s *showing) tell(ui *terminal) {
	a := &s.answer
	var platforms []string
	for _, i := range a.Images {
		platforms = append(platforms, i.Platform)
	}
	ui.answer("%s  %s", a.Reference, printable(strings.Join(platforms, " ")))
	if len(a.Reports) > 0 {
		ui.answer("from        definition %s\n            lock       %s", a.Reports[0].Definition, a.Reports[0].Lock)
	}
	if a.Project != "" {
		ui.answer("            both, with local inputs, are attached: %s", a.Project)
	}
	s.tellReports(ui)
	for _, g := range firstOf(ui, a.Agreements, "agreements") {
		ui.answer("\nagreement   %s%s: threshold %d, operators %d", g.Time, s.by(g.Signer), g.Threshold, g.Operators)
		tellAnswers(ui, g.Outcomes)
	}
	for _, g := range firstOf(ui, a.Refusals, "refusals") {
		ui.answer("\nrefusal     %s%s: request %s ended with %q", g.Time, s.by(g.Signer), g.Request, g.Decision)
		tellAnswers(ui, g.Outcomes)
	}
	for _, v := range firstOf(ui, a.Summaries, "summaries") {
		missing := ""
		if v.Missing > 0 {
			missing = fmt.Sprintf(", %d of them missing", v.Missing)
		}
		ui.answer("\nsummary     %s%s: %s; rests on %s%s", v.Time, s.by(v.Signer), printable(strings.Join(v.Levels, " ")), count(v.Inputs, "statement"), missing)
	}
	if n := a.Unreadable + a.Others; n > 0 {
		ui.answer("\nand %s that %s nothing to Quorate", count(n, "referrer"), map[bool]string{true: "says", false: "say"}[n == 1])
	}
	switch {
	case !a.Checked:
		ui.answer("\nsignatures  not checked; --policy FILE does that")
	case a.Verified:
		ui.answer("\nverified    by the policy given")
	default:
		ui.answer("\nNOT VERIFIED: %s", strings.Join(a.Reasons, "; "))
	}
}

// tellAnswers tells what became of each rebuilder, as a signer says.
func tellAnswers(ui *terminal, outcomes []verifiedOutcome) {
	for _, o := range firstOf(ui, outcomes, "outcomes") {
		reason := ""
		if o.Reason != "" {
			reason = ": " + o.Reason
		}
		ui.answer("            %s (%s) %s%s", o.Rebuilder, o.Operator, o.Outcome, printable(reason))
	}
}

func (s *showing) by(signer string) string {
	switch {
	case !s.answer.Checked:
		return ""
	case signer == "":
		return ", signed by nobody of the policy"
	}
	return ", signed by " + signer
}

func (s *showing) tellReports(ui *terminal) {
	if len(s.answer.Reports) == 0 {
		return
	}
	ui.answer("")
	w := tabwriter.NewWriter(ui, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REBUILDER\tOPERATOR\tBUILT\tON\tSIGNED BY")
	for _, r := range firstOf(ui, s.answer.Reports, "reports") {
		built := "this image"
		if !r.Same {
			built = "ANOTHER IMAGE"
		}
		signer := cmp.Or(r.Signer, "nobody of the policy")
		if !s.answer.Checked {
			signer = "not checked"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Rebuilder, cmp.Or(r.Operator, "-"), built, r.Time, signer)
	}
	_ = w.Flush() // the terminal keeps its own errors
}

// firstOf cuts a list to what fits on a screen, and says so.
func firstOf[T any](ui *terminal, list []T, what string) []T {
	if len(list) <= shownRows {
		return list
	}
	ui.say("%d more %s are not shown; --json has all", len(list)-shownRows, what)
	return list[:shownRows]
}
