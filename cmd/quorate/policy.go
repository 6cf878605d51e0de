package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/keyfile"
)

func policyCmd(ui *terminal) *cobra.Command {
	return group(&cobra.Command{
		Use:   "policy",
		Short: "Check, change, sign and export policies",
		Long: `A policy says whose word counts about which images, and how many must say the
same. One with a name has versions, which its maintainers sign: "quorate policy
sign" writes the signatures beside it, policy.intoto.jsonl for policy.yaml. Each
version is signed by enough maintainers of the one before, so that whoever has
seen an old one can follow; a lower one than seen before is refused.`,
	}, policyLintCmd(ui), policyShowCmd(ui), policySignCmd(ui), policyAddCmd(ui), policyRotateCmd(ui), policyRevokeCmd(ui), policyExportCmd(ui))
}

func policyLintCmd(ui *terminal) *cobra.Command {
	var at timeFlag
	cmd := &cobra.Command{
		Use:   "lint FILE",
		Short: "Find what a policy cannot mean, with line and column",
		Long: `Lint refuses what cannot mean anything: a threshold of nothing or of more than
there are, one key in two names or two roles, windows that are empty, rules that
match nothing. It also says what can no longer come about: thresholds that the
keys still valid cannot reach, maintainers who can no longer sign a version.
(Other verbs take such a policy: what was said before still stands.)` +
			exitStatus("nothing to say against it", "it has faults", "the file cannot be read"),
		Example: `  quorate policy lint policy.yaml
  quorate policy lint policy.yaml --at 2027-06-01   # and in half a year?`,
		Args: takes("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := readSmallFile(args[0], largestPolicy)
			if err != nil {
				return fmt.Errorf("cannot read policy: %w", err)
			}
			policy, err := agreement.LintPolicy(args[0], data, besides(args[0]), at.orNow())
			if err != nil {
				return different(err)
			}
			ui.say("%s: nothing to say against it (%s)", args[0], contents(policy))
			return nil
		},
	}
	cmd.Flags().Var(&at, "at", "what can come about at this `TIME` (default now)")
	return cmd
}

// contents counts what is in a policy.
func contents(p *agreement.Policy) string {
	parts := []string{count(len(p.Rebuilders), "rebuilder")}
	for _, c := range []struct {
		n    int
		what string
	}{{len(p.Signers), "signer"}, {len(p.Auditors), "auditor"}, {len(p.Maintainers), "maintainer"}, {len(p.Rules), "rule"}} {
		if c.n > 0 {
			parts = append(parts, count(c.n, c.what))
		}
	}
	return strings.Join(parts, ", ")
}

// policyAnswer is what the policy verbs answer in JSON.
type policyAnswer struct {
	Name     string         `json:"name,omitempty"`
	Version  int            `json:"version,omitempty"`
	Digest   string         `json:"digest"`
	Keys     []policyKey    `json:"keys"`
	Signed   []string       `json:"signedBy"` // maintainers of this version
	Missing  []string       `json:"missing"`  // sentences; empty when enough have signed
	Versions []policySigned `json:"versions"`
}

type policyKey struct {
	Role        string `json:"role"`
	Name        string `json:"name"`
	Operator    string `json:"operator,omitempty"`
	Fingerprint string `json:"fingerprint"`
	From        string `json:"from,omitempty"`
	Until       string `json:"until,omitempty"`
	Revoked     string `json:"revoked,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Counts      bool   `json:"countsNow"`
}

type policySigned struct {
	Version  int      `json:"version"`
	Digest   string   `json:"digest"`
	Issued   string   `json:"issued"`
	SignedBy []string `json:"signedBy"`
}

// openPolicy reads a policy to look at or to sign, with its signatures, whatever they are worth.
func openPolicy(path string) (*agreement.Policy, []*attestation.PolicyVersion, error) {
	data, err := readSmallFile(path, largestPolicy)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read policy: %w", err)
	}
	policy, err := agreement.ParsePolicy(path, data, besides(path))
	if err != nil {
		return nil, nil, err
	}
	history, err := readHistory(path)
	return policy, history, err
}

func describePolicy(p *agreement.Policy, history []*attestation.PolicyVersion, now time.Time) policyAnswer {
	a := policyAnswer{Name: p.Name, Version: p.Version, Digest: p.Digest().String(), Keys: []policyKey{}, Signed: []string{}, Missing: []string{}, Versions: []policySigned{}}
	text := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return agreement.FormatTime(t)
	}
	for _, s := range p.Speakers() {
		a.Keys = append(a.Keys, policyKey{
			Role: string(s.Role), Name: s.Name, Operator: s.Operator, Fingerprint: s.Key.Fingerprint(),
			From: text(s.From), Until: text(s.Until), Revoked: text(s.Revoked), Reason: s.Reason, Counts: s.Holds(now),
		})
	}
	for i, v := range history {
		a.Versions = append(a.Versions, policySigned{Version: v.Version, Digest: v.Digest.String(), Issued: v.Issued.Format(time.RFC3339), SignedBy: append([]string{}, v.SignedBy(v)...)})
		if v.Version == p.Version && v.Digest == p.Digest() {
			a.Signed = append(a.Signed, v.SignedBy(v)...)
			a.Missing = missing(history[:i+1])
		}
	}
	if p.Name != "" && len(a.Signed) == 0 && len(a.Missing) == 0 {
		a.Missing = []string{"nobody has signed this version"}
		if n := len(history); n > 0 && history[n-1].Version >= p.Version {
			a.Missing = []string{fmt.Sprintf("it is not the version %d that was signed; raise its version", history[n-1].Version)}
		}
	}
	return a
}

// missing says whose signatures the last version still needs.
func missing(history []*attestation.PolicyVersion) []string {
	all := []string{}
	last := history[len(history)-1]
	if m := last.Missing(last); m != "" {
		all = append(all, m)
	}
	if n := len(history); n > 1 {
		if m := history[n-2].Missing(last); m != "" {
			all = append(all, m)
		}
	}
	return all
}

func policyShowCmd(ui *terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Tell whose keys a policy names, and who has signed it",
		Long: `Show tells on one screen what a policy says: its version and digest, every key with
its role and the times for which it counts, the rules for images, and which
maintainers have signed it or still must.` +
			exitStatus("shown", "", "the file cannot be read"),
		Example: `  quorate policy show policy.yaml
  quorate policy show policy.yaml --json`,
		Args: takes("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			policy, history, err := openPolicy(args[0])
			if err != nil {
				return err
			}
			a := describePolicy(policy, history, time.Now())
			if asJSON {
				ui.answerJSON(a)
				return nil
			}
			showPolicy(ui, policy, a)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

func showPolicy(ui *terminal, p *agreement.Policy, a policyAnswer) {
	if a.Name != "" {
		ui.answer("policy   %s, version %d", a.Name, a.Version)
	}
	ui.answer("digest   %s", a.Digest)
	ui.answer("rule     %s", ruleText(p.Threshold, p.Distinct, p.MaxAge))
	for _, r := range p.Rules {
		ui.answer("images   %s: %s%s", strings.Join(r.Images, ", "), ruleText(cmp.Or(r.Threshold, p.Threshold), r.Distinct, r.MaxAge), allowText(r.Allow))
	}
	for _, k := range a.Keys {
		ui.answer("%-10s %-12s %.16s…%s", k.Role, k.Name, k.Fingerprint, termText(k))
	}
	switch {
	case a.Name == "":
		ui.answer("signed   not at all: it has no name and no version")
	case len(a.Signed) > 0:
		ui.answer("signed   by %s", strings.Join(a.Signed, ", "))
	}
	for _, m := range a.Missing {
		ui.answer("needs    %s", m)
	}
}

func ruleText(threshold int, distinct map[string]int, age time.Duration) string {
	text := fmt.Sprintf("%d must say the same", threshold)
	var more []string
	for attribute, n := range distinct {
		more = append(more, fmt.Sprintf("%d distinct by %s", n, attribute))
	}
	slices.Sort(more)
	if age > 0 {
		more = append(more, "no report older than "+agreement.FormatAge(age))
	}
	return strings.Join(append([]string{text}, more...), ", ")
}

func allowText(allow []agreement.Grant) string {
	if allow == nil {
		return ""
	}
	var all []string
	for _, g := range allow {
		one := fmt.Sprintf("%s %s", g.Role, g.Name)
		if g.BuilderID != "" {
			one += " as " + g.BuilderID
		}
		all = append(all, one)
	}
	return "; only " + strings.Join(all, ", ")
}

func termText(k policyKey) string {
	var parts []string
	if k.Operator != "" {
		parts = append(parts, "operator "+k.Operator)
	}
	if k.From != "" {
		parts = append(parts, "from "+k.From)
	}
	if k.Until != "" {
		parts = append(parts, "until "+k.Until)
	}
	if k.Revoked != "" {
		parts = append(parts, "revoked at "+k.Revoked)
	}
	if k.Reason != "" {
		parts = append(parts, "("+k.Reason+")")
	}
	if len(parts) == 0 {
		return ""
	}
	return "  " + strings.Join(parts, ", ")
}

func policySignCmd(ui *terminal) *cobra.Command {
	var (
		key  string
		pass passphraseFlags
	)
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a version of a policy, as one of its maintainers",
		Long: `Sign adds a maintainer's signature for the version of the policy in FILE to the
file beside it (policy.intoto.jsonl for policy.yaml), which holds all versions.
What is signed is the meaning of the policy with the keys themselves, not the
spelling of the file. Of this version as many maintainers must sign as its
maintainer-threshold says, and of the version before as many as that says.` +
			exitStatus("signed; it may need more signatures, which are named", "", "not signed"),
		Example: `  quorate policy sign policy.yaml --key alice.key
  git add policy.yaml policy.intoto.jsonl`,
		Args: takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return &usageError{err: errors.New("say who signs: --key FILE"), command: cmd.CommandPath()}
			}
			return signPolicy(cmd.Context(), ui, args[0], key, pass)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "a maintainer's "+keyUse)
	pass.add(cmd.Flags())
	return cmd
}

func signPolicy(ctx context.Context, ui *terminal, path, keyPath string, pass passphraseFlags) error {
	policy, history, err := openPolicy(path)
	if err != nil {
		return err
	}
	signer, err := openSigner(ui, keyPath, pass)
	if err != nil {
		return err
	}
	longer, err := attestation.SignPolicy(ctx, policy, history, signer, time.Now())
	switch {
	case errors.Is(err, attestation.ErrSignedAlready):
		longer = history
		ui.say("%v", err)
	case err != nil:
		return fmt.Errorf("cannot sign %q: %w", path, err)
	default:
		data, err := attestation.WritePolicyHistory(longer)
		if err != nil {
			return err
		}
		if err := replaceFile(historyPath(path), data); err != nil {
			return err
		}
		ui.say("signed version %d of policy %s; the signatures are in %q", policy.Version, policy.Name, historyPath(path))
	}
	lacking := missing(longer)
	for _, m := range lacking {
		ui.say("it still needs %s", m)
	}
	if len(lacking) == 0 {
		ui.say("enough maintainers have signed: it counts")
	}
	ui.answer("%s", policy.Digest())
	return nil
}

// policyChange is what the verbs that change a policy share.
type policyChange struct {
	ui   *terminal
	path string
	edit *agreement.PolicyEdit
}

func changePolicy(ui *terminal, path string) (*policyChange, error) {
	data, err := readSmallFile(path, largestPolicy)
	if err != nil {
		return nil, fmt.Errorf("cannot read policy: %w", err)
	}
	edit, err := agreement.EditPolicy(path, data, besides(path))
	return &policyChange{ui: ui, path: path, edit: edit}, err
}

// done writes the changed policy and says what has to follow.
func (c *policyChange) done() error {
	history, err := readHistory(c.path)
	if err != nil {
		return err
	}
	// A draft that nobody has signed takes more than one change.
	version := c.edit.Policy().Version
	if n := len(history); n == 0 || history[n-1].Version >= version {
		version++
	}
	data, policy, err := c.edit.Done(version)
	if err != nil {
		return err
	}
	if err := replaceFile(c.path, data); err != nil {
		return err
	}
	if _, err := agreement.LintPolicy(c.path, data, besides(c.path), time.Now()); err != nil {
		c.ui.warn("written, but look at it again: %v", err)
	}
	if policy.Name != "" {
		c.ui.say("version %d of policy %s counts when its maintainers have signed it: %s", policy.Version, policy.Name, c.mustSign(policy, history))
		c.ui.say("hint: quorate policy sign %s --key KEY", c.path)
	}
	c.ui.answer("%s", policy.Digest())
	return nil
}

// mustSign says whose signatures a changed policy needs.
func (c *policyChange) mustSign(p *agreement.Policy, history []*attestation.PolicyVersion) string {
	names := func(all []string) string {
		return strings.Join(slices.Compact(slices.Sorted(slices.Values(all))), ", ")
	}
	var ours []string
	for _, m := range p.Maintainers {
		ours = append(ours, m.Name)
	}
	text := fmt.Sprintf("%d of %s", p.MaintainersNeeded(), names(ours))
	if n := len(history); n > 0 {
		var theirs []string
		for _, m := range history[n-1].Maintainers {
			theirs = append(theirs, m.Name)
		}
		text += fmt.Sprintf(", and %d of those of version %d: %s", history[n-1].Threshold, history[n-1].Version, names(theirs))
	}
	return text
}

// roleFlag is a role of a policy; empty is any.
type roleFlag struct{ agreement.Role }

var roleNames = []string{string(agreement.RoleRebuilder), string(agreement.RoleRelease), string(agreement.RoleAuditor), string(agreement.RoleMaintainer)}

func (r *roleFlag) String() string { return string(r.Role) }
func (r *roleFlag) Type() string   { return "ROLE" }
func (r *roleFlag) Set(text string) error {
	if !slices.Contains(roleNames, text) {
		return fmt.Errorf("expected one of %s", strings.Join(roleNames, ", "))
	}
	r.Role = agreement.Role(text)
	return nil
}

func (r *roleFlag) add(flags *pflag.FlagSet, use string) { flags.Var(r, "role", use) }

const stillSigned = "\n\nThe file keeps its comments; its version is raised when the one before was signed."

func policyAddCmd(ui *terminal) *cobra.Command {
	var (
		role        roleFlag
		n           agreement.Newcomer
		from, until timeFlag
	)
	cmd := &cobra.Command{
		Use:   "add FILE NAME",
		Short: "Enrol somebody in a policy",
		Long: `Add enrols NAME in a role: rebuilder (signs reports), release (signs agreements and
summaries), auditor (signs summaries), maintainer (signs policies). --key names
the public key file, relative to the policy.` + stillSigned +
			exitStatus("written", "", "not written: the file would mean nothing, or cannot be read"),
		Example: `  quorate policy add policy.yaml ber --role rebuilder --operator umbra --key keys/ber.pub
  quorate policy add policy.yaml carol --role maintainer --key keys/carol.pub --from 2027-01-01`,
		Args: takes("FILE", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.Name, n.Role, n.From, n.Until = args[1], role.Role, from.Time, until.Time
			switch {
			case n.Role == "" || n.KeyPath == "":
				return &usageError{err: errors.New("say in which role and with which key: --role ROLE --key FILE"), command: cmd.CommandPath()}
			case (n.Role == agreement.RoleRebuilder) != (n.Operator != ""):
				return &usageError{err: errors.New("--operator NAME is for rebuilders, who must have one"), command: cmd.CommandPath()}
			}
			c, err := changePolicy(ui, args[0])
			if err != nil {
				return err
			}
			if err := c.edit.Add(n); err != nil {
				return err
			}
			return c.done()
		},
	}
	role.add(cmd.Flags(), "`ROLE`: "+strings.Join(roleNames, ", "))
	cmd.Flags().StringVar(&n.KeyPath, "key", "", "public key `FILE`, relative to the policy")
	cmd.Flags().StringVar(&n.Operator, "operator", "", "who runs the rebuilder")
	cmd.Flags().StringVar(&n.BuilderID, "builder-id", "", "`URI` that the rebuilder's reports must have as builder.id")
	cmd.Flags().Var(&from, "from", "statements of this `TIME` and later count")
	cmd.Flags().Var(&until, "until", "statements before this `TIME` count")
	return cmd
}

func policyRotateCmd(ui *terminal) *cobra.Command {
	var (
		role         roleFlag
		key, overlap string
		from         timeFlag
	)
	cmd := &cobra.Command{
		Use:   "rotate FILE NAME",
		Short: "Give somebody in a policy a new key",
		Long: `Rotate gives NAME a new key, which counts from --from on. The key before becomes a
former one: what it signed stays, and it counts for --overlap longer, so that
machines can change over one by one.` + stillSigned +
			exitStatus("written", "", "not written: the file would mean nothing, or cannot be read"),
		Example: `  quorate policy rotate policy.yaml ams --key keys/ams-2027.pub
  quorate policy rotate policy.yaml alice --role maintainer --key keys/alice-2.pub --overlap 7d`,
		Args: takes("FILE", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return &usageError{err: errors.New("say which key is new: --key FILE"), command: cmd.CommandPath()}
			}
			age, err := agreement.ParseAge(overlap)
			if err != nil {
				return &usageError{err: fmt.Errorf("bad --overlap: %w", err), command: cmd.CommandPath()}
			}
			c, err := changePolicy(ui, args[0])
			if err != nil {
				return err
			}
			begin := from.orNow().UTC().Truncate(time.Second)
			if err := c.edit.Rotate(role.Role, args[1], key, begin, begin.Add(age)); err != nil {
				return err
			}
			ui.say("%s signs with %q from %s; the key before counts until %s", args[1], key, agreement.FormatTime(begin), agreement.FormatTime(begin.Add(age)))
			return c.done()
		},
	}
	role.add(cmd.Flags(), "`ROLE` of NAME, when there are two")
	cmd.Flags().StringVar(&key, "key", "", "new public key `FILE`, relative to the policy")
	cmd.Flags().Var(&from, "from", "when the new key begins to count, a `TIME` (default now)")
	cmd.Flags().StringVar(&overlap, "overlap", "30d", "how long the key before still counts, in days or hours")
	return cmd
}

func policyRevokeCmd(ui *terminal) *cobra.Command {
	var (
		role        roleFlag
		key, reason string
		at          timeFlag
	)
	cmd := &cobra.Command{
		Use:   "revoke FILE NAME",
		Short: "Say that a key no longer counts, and since when",
		Long: `Revoke says that statements of a key of NAME no longer count if they are of --at or
later. What it signed before still counts, by the time that the statement claims:
whoever holds a stolen key can claim an earlier one, so give the last time at
which the key was certainly in the right hands.` + stillSigned +
			exitStatus("written", "", "not written: the file would mean nothing, or cannot be read"),
		Example: `  quorate policy revoke policy.yaml osl --at 2026-11-03 --reason "disk stolen"
  quorate policy revoke policy.yaml osl --key keys/osl-2025.pub   # a former key`,
		Args: takes("FILE", "NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := changePolicy(ui, args[0])
			if err != nil {
				return err
			}
			var which keyfile.PublicKey
			if key != "" {
				data, err := besides(args[0])(key)
				if err != nil {
					return fmt.Errorf("cannot read key: %w", err)
				}
				if which, err = keyfile.ParsePublic(data); err != nil {
					return fmt.Errorf("%q: %w", key, err)
				}
			}
			when := at.orNow().UTC().Truncate(time.Second)
			if err := c.edit.Revoke(role.Role, args[1], which, when, reason); err != nil {
				return err
			}
			ui.say("what %s signed before %s still counts, and nothing from then on", args[1], agreement.FormatTime(when))
			return c.done()
		},
	}
	role.add(cmd.Flags(), "`ROLE` of NAME, when there are two")
	cmd.Flags().StringVar(&key, "key", "", "public key `FILE` to revoke, relative to the policy (default the current one)")
	cmd.Flags().Var(&at, "at", "since when, a `TIME` (default now)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people")
	return cmd
}
