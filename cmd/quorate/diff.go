package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/diff"
	"quorate.dev/diff/cause"
	reports "quorate.dev/diff/report"
	"quorate.dev/lockfile/definition"
)

// largestDefinition is what package definition takes.
const largestDefinition = 1 << 20

// diffFlags are what `quorate diff` is asked for.
type diffFlags struct {
	format   string
	output   string
	file     string
	findings bool
	registry registryFlags
	only     []string
	ignore   []string
	fix      []int
	write    bool
	project  string // quorate.yaml
}

func diffCmd(ui *terminal) *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff A B [C…]",
		Short: "Say why outputs differ, and own every differing byte",
		Long: `Diff compares two or more outputs of builds, whoever made them: folders in the OCI
image layout (oci:DIR:TAG for one of several images), OCI and docker archives,
images in registries, other tar archives (also packed with gzip, zstd, xz or
bzip2), folders, and single files. Three or more are split into classes of equal
outputs.

The answer names the causes, each with evidence and how to mend it. --findings
lists the differences themselves instead, and --file shows one path in depth,
with the bytes around each difference. --only and --ignore choose what is listed,
by a finding's name (mtime, gzip.mtime, text …) or a path (usr/bin/*); they never
change the verdict. Findings own every byte that differs; what could not be read
is listed as unexplained.

--fix mends causes in quorate.yaml by their number in the answer: it shows the
patch, and --write applies it. Sides in a results folder of quorate rebuild are
explained with what their signed reports say of hosts, times and, when the
definition is the one they were built from, steps.` +
			exitStatus(
				"identical",
				"different",
				"could not tell: a side is missing, damaged, or cannot be compared with the others"),
		Example: `  quorate diff results/rebuilders/local-1/image results/rebuilders/local-2/image
  quorate diff one.tar two.tar --format html --output report.html
  quorate diff build1 build2 build3 --findings --ignore mtime
  quorate diff a.deb b.deb --file usr/bin/tool
  quorate diff results/rebuilders/local-*/image --fix 1,2 --write`,
		Args: takes("A", "B", "[C…]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return &usageError{err: err, command: cmd.CommandPath()}
			}
			return runDiff(cmd, ui, args, &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "text", "how to answer: "+strings.Join(reports.Formats, ", "))
	flags.StringVarP(&f.output, "output", "o", "", "write the answer to `FILE`")
	flags.StringVar(&f.file, "file", "", "show one `PATH` in depth")
	flags.BoolVar(&f.findings, "findings", false, "list every difference instead of the causes")
	flags.StringSliceVar(&f.only, "only", nil, "list only findings of this name or path `PATTERN`; may be repeated")
	flags.StringSliceVar(&f.ignore, "ignore", nil, "do not list findings of this name or path `PATTERN`; may be repeated")
	flags.IntSliceVar(&f.fix, "fix", nil, "mend the causes of these `NUMBERS` in quorate.yaml: shows the patch")
	flags.BoolVar(&f.write, "write", false, "with --fix, write the patch into quorate.yaml")
	flags.StringVar(&f.project, "definition", definition.FileName, "the definition that the sides were built from, in `FILE`")
	f.registry.register(flags)
	return cmd
}

func (f *diffFlags) check() error {
	if len(f.fix) > 0 && (f.file != "" || f.findings || len(f.only)+len(f.ignore) > 0 || f.format != "text" || f.output != "") {
		return errors.New("--fix shows a patch and nothing else; leave out the other flags")
	}
	if f.write && len(f.fix) == 0 {
		return errors.New("--write writes what --fix shows; say which causes to mend: --fix 1,3")
	}
	if !slices.Contains(reports.Formats, f.format) {
		return fmt.Errorf("bad --format %q: expected one of %s", f.format, strings.Join(reports.Formats, ", "))
	}
	if len(f.only)+len(f.ignore) > 0 {
		f.findings = true
	}
	if f.findings && f.format != "text" && f.format != "json" {
		return fmt.Errorf("findings are listed as text or json, not as %s", f.format)
	}
	if f.file != "" && f.format != "text" {
		return fmt.Errorf("--file shows text, not %s", f.format)
	}
	for _, p := range append(slices.Clone(f.only), f.ignore...) {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("bad pattern %q", p)
		}
	}
	return nil
}

func runDiff(cmd *cobra.Command, ui *terminal, sides []string, f *diffFlags) error {
	local, done, err := localSides(cmd.Context(), ui, &f.registry, sides)
	defer done()
	if err != nil {
		return err
	}
	comparing := beginPhase(ui, "compare")
	res, err := diff.Compare(local, diff.Options{
		Done: cmd.Context().Done(),
		// A pulled image has no index.json of its own that one on disk could differ from.
		NoIndex:  !slices.Equal(local, sides),
		Progress: comparing.progress,
	})
	comparing.end()
	if err != nil {
		return err
	}
	defer res.Close()
	for i := range res.Sides { // what was pulled keeps its name
		res.Sides[i].Name = sides[i]
	}
	if res.Same() && f.format == "text" && f.output == "" {
		return nil // silent, as cmp(1) is
	}
	explaining := beginPhase(ui, "explain")
	found, text, err := f.explain(sides, res)
	explaining.end()
	if err != nil {
		return err
	}
	if len(f.fix) > 0 {
		return f.mend(ui, found, text)
	}
	answer := func(w io.Writer) error { return f.answer(w, ui, res, found) }
	if f.output != "" {
		err = replaceWith(f.output, answer)
	} else {
		err = ui.answerWith(answer)
	}
	if err != nil || res.Same() {
		return err
	}
	return different(nil)
}

// phase is a part of the work that is told of when it takes longer than anyone likes to wait
// in silence. Most sides are compared before anyone could look, and nothing is said.
type phase struct {
	ui    *terminal
	text  string
	timer *time.Timer
	mu    sync.Mutex
	shown bool
	ended bool
}

// quietPhase is how long a phase may be silent: less than the two seconds after which people wonder.
const quietPhase = time.Second

func beginPhase(ui *terminal, text string) *phase {
	p := &phase{ui: ui, text: text}
	p.timer = time.AfterFunc(quietPhase, func() { p.say(event{}) })
	return p
}

// progress tells how many of the bytes were read.
func (p *phase) progress(done, total int64) { p.say(event{Current: done, Total: total, Bytes: true}) }

func (p *phase) say(e event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.shown = true
		e.Key, e.Text = "diff "+p.text, p.text
		p.ui.report(e)
	}
}

func (p *phase) end() {
	p.timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended = true; p.shown {
		p.ui.report(event{Key: "diff " + p.text, Text: p.text, Done: true})
	}
}

// explain names the causes, with what is recorded of the sides and the definition
// beside us where there is one. The definition is nil when there is none, and must be there to be mended.
func (f *diffFlags) explain(sides []string, res *diff.Result) (*cause.Report, []byte, error) {
	if f.file != "" || f.findings {
		return nil, nil, nil
	}
	text, err := readSmallFile(f.project, largestDefinition)
	if err != nil && (len(f.fix) > 0 || f.project != definition.FileName || !errors.Is(err, fs.ErrNotExist)) {
		return nil, nil, fmt.Errorf("cannot read the definition: %w", err)
	}
	c := recordedContext(sides, text)
	if c == nil {
		c = &cause.Context{Definition: text}
	}
	c.Command = diffCommand(sides, f.project)
	return cause.Find(res, c), text, nil
}

// diffCommand is what a reader types to compare the same sides again.
func diffCommand(sides []string, project string) string {
	words := []string{"quorate", "diff"}
	for _, s := range sides {
		words = append(words, cause.ShellQuote(s))
	}
	if project != definition.FileName {
		words = append(words, "--definition", cause.ShellQuote(project))
	}
	return strings.Join(words, " ")
}

// mend shows the patch of a definition, and writes it when asked to.
func (f *diffFlags) mend(ui *terminal, found *cause.Report, text []byte) error {
	fixed, patch, err := cause.Fix(text, found, f.fix)
	if err != nil {
		return err
	}
	if patch == "" {
		ui.say("%q says so already", f.project)
		return nil
	}
	ui.answerBytes([]byte(patch))
	if !f.write {
		ui.say("nothing is written; add --write to change %q", f.project)
		return nil
	}
	if err := replaceFile(f.project, fixed); err != nil {
		return err
	}
	ui.say("wrote %q; next: quorate rebuild", f.project)
	return nil
}

// answer writes what was asked for.
func (f *diffFlags) answer(w io.Writer, ui *terminal, res *diff.Result, found *cause.Report) error {
	switch {
	case f.file != "":
		found, err := res.WriteDepth(w, f.file)
		if !found && err == nil {
			ui.warn("%q does not differ, or is on no side", f.file)
		}
		return err
	case f.findings && f.format == "json":
		return res.WriteJSON(w, f.shown)
	case f.findings:
		return res.WriteText(w, f.shown)
	}
	return reports.Write(w, f.format, found)
}

// shown reports whether a finding is listed.
func (f *diffFlags) shown(n *diff.Node, d *diff.Finding) bool {
	matches := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			if ok, _ := path.Match(p, d.What); ok {
				return true
			}
			file := n.File()
			if file == nil {
				return false
			}
			ok, _ := path.Match(p, file.Name)
			return ok || file.Name == p || strings.HasPrefix(file.Name, strings.TrimSuffix(p, "/")+"/")
		})
	}
	return (len(f.only) == 0 || matches(f.only)) && !matches(f.ignore)
}
