package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"quorate.dev/diff/cause"
	"quorate.dev/lockfile/definition"
	"quorate.dev/rebuild"
	"quorate.dev/rebuild/agreement"
)

// What `quorate rebuild` tells CI services beside its exit code: a JUnit file, a
// summary in Markdown, and annotations of the definition on GitHub.

// ciFlags say what is written.
type ciFlags struct {
	junit   string
	summary string
}

// ciStory is a rebuild as CI services are told of it.
type ciStory struct {
	name       string // of the image
	definition string // path of quorate.yaml, as the user named its folder
	began      time.Time
	verdict    rebuild.Summary
	notes      []rebuild.Note
	report     []byte // report.md; nil unless rebuilders disagree
}

// storyOf is what became of a rebuild of p.
func storyOf(p *project, out *rebuild.Outcome, began time.Time) ciStory {
	s := ciStory{name: p.Definition.Name, definition: filepath.Join(p.Dir, definition.FileName), began: began, verdict: out.Summary(), notes: out.Notes}
	// None unless rebuilders disagree.
	s.report, _ = readSmallFile(filepath.Join(out.Results, "report.md"), mostSummary)
	return s
}

// tell writes what was asked for, and what GitHub's runners take without being asked.
func (f ciFlags) tell(ui *terminal, s ciStory) error {
	if f.junit != "" {
		b, err := s.junit()
		if err != nil {
			return err
		}
		if err := os.WriteFile(f.junit, b, 0o644); err != nil {
			return fmt.Errorf("cannot write the JUnit file: %w", err)
		}
	}
	if f.summary != "" {
		if err := os.WriteFile(f.summary, s.markdown(), 0o644); err != nil {
			return fmt.Errorf("cannot write the summary: %w", err)
		}
	}
	if os.Getenv("GITHUB_ACTIONS") != "true" {
		return nil
	}
	ui.raw(s.annotations())
	if path := os.Getenv("GITHUB_STEP_SUMMARY"); path != "" {
		if err := appendFile(path, s.markdown()); err != nil {
			ui.warn("cannot add to the job's summary: %v", err) // it is the runner's, and the verdict stands
		}
	}
	return nil
}

func appendFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// headline is the verdict in a line.
func (s *ciStory) headline() string {
	switch s.verdict.Decision {
	case string(agreement.Agree):
		agree := 0
		for _, r := range s.verdict.Rebuilders {
			if r.Outcome == string(agreement.Agrees) {
				agree++
			}
		}
		return fmt.Sprintf("%d of %d rebuilders built the same bytes", agree, len(s.verdict.Rebuilders))
	case string(agreement.Disagree):
		return "not reproducible: rebuilders built different images; nothing is signed"
	}
	return "could not tell: " + strings.Join(s.verdict.Reasons, "; ")
}

// The JUnit format, as the CI services that read it agree on it: the Ant task's
// elements and attributes, times in seconds.
type (
	junitSuites struct {
		XMLName  xml.Name   `xml:"testsuites"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Time     string     `xml:"time,attr"`
		Suite    junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Time      string      `xml:"time,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string     `xml:"classname,attr"`
		Name    string     `xml:"name,attr"`
		File    string     `xml:"file,attr,omitempty"`
		Time    string     `xml:"time,attr"`
		Failure *junitText `xml:"failure"`
		Error   *junitText `xml:"error"`
		Out     string     `xml:"system-out,omitempty"`
	}
	junitText struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// junit has a test for each rebuilder, and one for the agreement: dissent is a
// failure, what could not be told an error.
func (s *ciStory) junit() ([]byte, error) {
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
	suite := junitSuite{Name: s.name, Timestamp: s.began.UTC().Format("2006-01-02T15:04:05")}
	add := func(c junitCase) {
		suite.Tests++
		if c.Failure != nil {
			suite.Failures++
		}
		if c.Error != nil {
			suite.Errors++
		}
		suite.Cases = append(suite.Cases, c)
	}
	var longest time.Duration
	for _, r := range s.verdict.Rebuilders {
		c := junitCase{Class: "quorate." + r.Operator, Name: r.Name, Time: seconds(r.Elapsed()), Out: printable(strings.Join(builtBy(r), "\n"))}
		why := &junitText{Type: r.Outcome, Message: printable(r.Reason)}
		switch r.Outcome {
		case string(agreement.Agrees):
		case string(agreement.Dissents):
			c.Failure = why
		default:
			c.Error = why
		}
		longest = max(longest, r.Elapsed())
		add(c)
	}
	c := junitCase{Class: "quorate", Name: "agreement", File: s.definition, Time: "0.000", Out: s.headline()}
	why := &junitText{Type: s.verdict.Decision, Message: s.headline(), Text: s.causes()}
	switch s.verdict.Decision {
	case string(agreement.Agree):
	case string(agreement.Disagree):
		c.Failure = why
	default:
		c.Error = why
	}
	add(c)
	suite.Time = seconds(longest)
	all := junitSuites{Name: "quorate rebuild", Tests: suite.Tests, Failures: suite.Failures, Errors: suite.Errors, Time: suite.Time, Suite: suite}
	b, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot write the JUnit file: %w", err)
	}
	return append([]byte(xml.Header), append(b, '\n')...), nil
}

// builtBy lists what a rebuilder built, a line for each image.
func builtBy(r rebuild.RebuilderSummary) []string {
	var lines []string
	for _, i := range r.Subjects {
		lines = append(lines, strings.TrimSpace(i.Platform+" "+i.Digest))
	}
	return lines
}

// causes are the notes in lines.
func (s *ciStory) causes() string {
	var b strings.Builder
	for _, n := range s.notes {
		fmt.Fprintf(&b, "%s: %s\n", s.at(n), printable(n.Title+": "+n.Text))
	}
	return b.String()
}

func (s *ciStory) at(n rebuild.Note) string {
	if n.Line == 0 {
		return s.definition
	}
	return fmt.Sprintf("%s:%d", s.definition, n.Line)
}

// mostSummary is what GitHub takes for the summary of a step: 1 MiB, of which this leaves
// room for other steps' output.
const mostSummary = 512 << 10

// markdown is the job's summary.
func (s *ciStory) markdown() []byte {
	var b bytes.Buffer
	title := map[string]string{"agree": "Agreed", "disagree": "Not reproducible"}[s.verdict.Decision]
	if title == "" {
		title = "Could not tell"
	}
	fmt.Fprintf(&b, "## %s: %s\n\n%s.\n\n", title, cell(s.name), cell(s.headline()))
	b.WriteString("| rebuilder | operator | outcome | time | built |\n|---|---|---|--:|---|\n")
	for _, r := range s.verdict.Rebuilders {
		var built []string
		for _, i := range r.Subjects {
			built = append(built, "`"+strings.TrimPrefix(i.Digest, "sha256:")[:12]+"`")
		}
		last := strings.TrimSpace(strings.Join(built, " ") + " " + cell(r.Reason))
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", cell(r.Name), cell(r.Operator), r.Outcome, r.Elapsed().Round(100*time.Millisecond), last)
	}
	b.WriteString("\n")
	for _, i := range s.verdict.Subjects {
		fmt.Fprintf(&b, "%s `%s`\n\n", cell(i.Platform), i.Digest)
	}
	for _, w := range s.verdict.Warnings {
		fmt.Fprintf(&b, "> **Warning**: %s\n\n", cell(w))
	}
	if b.Len()+len(s.report) <= mostSummary {
		b.Write(s.report)
	}
	return b.Bytes()
}

// cell is text as a cell of a table of Markdown shows it, whatever it holds.
func cell(s string) string {
	const most = 300 // characters
	r := []rune(printable(strings.Join(strings.Fields(s), " ")))
	if len(r) > most {
		r = append(r[:most-1], '…')
	}
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`).Replace(string(r))
}

// annotations are GitHub's workflow commands: one for each cause, at its line of
// the definition; for rebuilders that failed; or one for the verdict.
func (s *ciStory) annotations() []byte {
	var b bytes.Buffer
	for _, n := range s.notes {
		annotate(&b, "error", s.definition, n.Line, n.Title, n.Text)
	}
	for _, r := range s.verdict.Rebuilders {
		switch r.Outcome {
		case string(agreement.Errs), string(agreement.TimesOut):
			level := "warning" // the others may do without it
			if s.verdict.Decision != string(agreement.Agree) {
				level = "error"
			}
			annotate(&b, level, "", 0, "rebuilder "+r.Name, r.Outcome+": "+r.Reason)
		}
	}
	switch {
	case s.verdict.Decision == string(agreement.Agree):
		annotate(&b, "notice", "", 0, s.name, s.headline())
	case len(s.notes) == 0:
		annotate(&b, "error", s.definition, 0, s.name, s.headline())
	}
	return b.Bytes()
}

// annotate writes one workflow command, escaped as GitHub's toolkit does
// (actions/toolkit, packages/core/src/command.ts).
func annotate(b *bytes.Buffer, level, file string, line int, title, text string) {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	var with []string
	if file != "" {
		with = append(with, "file="+property.Replace(filepath.ToSlash(file)))
	}
	if line > 0 {
		with = append(with, fmt.Sprintf("line=%d", line))
	}
	with = append(with, "title="+property.Replace(printable(title)))
	fmt.Fprintf(b, "::%s %s::%s\n", level, strings.Join(with, ","), data.Replace(printable(text)))
}

// notesOf are the causes found, with their places in the definition.
func notesOf(found *cause.Report, text []byte) []rebuild.Note {
	var notes []rebuild.Note
	for _, k := range found.Causes {
		n := rebuild.Note{Title: k.Title, Line: lineOf(text, k.Step, k.Line), Text: k.How}
		if k.Step != "" {
			n.Text = strings.TrimSuffix("step "+k.Step+": "+k.How, ": ")
		}
		notes = append(notes, n)
	}
	return notes
}

// lineOf finds a line of a step's run in the definition, or the step's name; 0 for neither.
func lineOf(text []byte, step, run string) int {
	if step == "" {
		return 0
	}
	named, steps := 0, false
	for i, line := range strings.Split(string(text), "\n") {
		steps = steps || strings.HasPrefix(line, "steps:")
		_, value, ok := strings.Cut(line, "name:")
		value, _, _ = strings.Cut(value, ",") // {name: compile, run: …}; names have no comma
		if steps && ok && named == 0 && strings.Trim(value, " \t\"'{},") == step {
			named = i + 1
		}
		if named > 0 && run != "" && strings.Contains(line, strings.TrimSpace(run)) {
			return i + 1
		}
	}
	return named
}
