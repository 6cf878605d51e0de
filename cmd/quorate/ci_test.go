package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"gopkg.in/yaml.v3"

	"quorate.dev/rebuild"
)

// disputed is a rebuild that found a difference, with text that CI services must not take for theirs.
func disputed() ciStory {
	attempts := []rebuild.Attempt{{Number: 1, Elapsed: 1500 * time.Millisecond}}
	digest := func(c string) []rebuild.SubjectSummary {
		return []rebuild.SubjectSummary{{Name: "flaky", Platform: "linux/amd64", Digest: "sha256:" + strings.Repeat(c, 64)}}
	}
	return ciStory{
		name: "flaky", definition: "app/quorate.yaml", began: time.Date(2026, 11, 28, 18, 0, 0, 0, time.UTC),
		verdict: rebuild.Summary{Decision: "disagree", Reasons: []string{"x"}, Rebuilders: []rebuild.RebuilderSummary{
			{Name: "ams", Operator: "acme", Outcome: "agree", Subjects: digest("a"), Attempts: attempts},
			{Name: "osl", Operator: "umbra", Outcome: "dissent", Reason: "built b|b, 100%", Subjects: digest("b"), Attempts: attempts},
			{Name: "rix", Operator: "umbra", Outcome: "timeout", Reason: "no report\x1b[31m\n::error::in time"},
		}},
		notes: []rebuild.Note{
			{Title: "time of the build", Text: "step embed: proven, at 50%,\nthen", Line: 14},
			{Title: "a, b: c", Text: "likely"},
		},
		report: []byte("## report\n"),
	}
}

func TestAnnotations(t *testing.T) {
	s := disputed()
	want := `::error file=app/quorate.yaml,line=14,title=time of the build::step embed: proven, at 50%25,%0Athen
::error file=app/quorate.yaml,title=a%2C b%3A c::likely
::error title=rebuilder rix::timeout: no report`
	got := string(s.annotations())
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s…", got, want)
	}
	if n := strings.Count(got, "\n"); n != 3 || strings.Contains(got, "\x1b") || strings.Contains(got, "\n::error::in time") {
		t.Errorf("what a rebuilder says became a command of its own:\n%q", got)
	}
	s = ciStory{name: "x", verdict: rebuild.Summary{Decision: "agree", Rebuilders: []rebuild.RebuilderSummary{{Name: "a", Outcome: "agree"}, {Name: "b", Outcome: "error", Reason: "down"}}}}
	if d := cmp.Diff("::warning title=rebuilder b::error: down\n::notice title=x::1 of 2 rebuilders built the same bytes\n", string(s.annotations())); d != "" {
		t.Error(d)
	}
}

func TestJUnit(t *testing.T) {
	s := disputed()
	b, err := s.junit()
	if err != nil {
		t.Fatal(err)
	}
	var back junitSuites
	if err := xml.Unmarshal(b, &back); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if back.Tests != 4 || back.Failures != 2 || back.Errors != 1 || len(back.Suite.Cases) != 4 {
		t.Errorf("got\n%s", b)
	}
	if c := back.Suite.Cases[3]; c.Failure == nil || !strings.Contains(c.Failure.Text, "app/quorate.yaml:14: time of the build") {
		t.Errorf("the agreement's case is %+v", c)
	}
	if c := back.Suite.Cases[2]; c.Error == nil || c.Error.Type != "timeout" {
		t.Errorf("rix's case is %+v", c)
	}
}

func TestSummaryIsATable(t *testing.T) {
	s := disputed()
	got := string(s.markdown())
	for _, want := range []string{
		"## Not reproducible: flaky\n", "\n| osl | umbra | dissent | 1.5s | `bbbbbbbbbbbb` built b\\|b, 100% |\n", "\n## report\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "|") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 6 {
			t.Errorf("line %q is no row", line)
		}
	}
}

func TestLineOf(t *testing.T) {
	const text = "name: embed\nsteps:\n  - name: \"other\"\n    run: date\n  - {name: embed, run: |\n      x\n      date >y\n"
	for _, test := range []struct {
		step, run string
		want      int
	}{{"embed", "date >y", 7}, {"embed", "", 5}, {"embed", "gone", 5}, {"none", "date", 0}, {"", "date", 0}, {"other", "date", 4}} {
		if got := lineOf([]byte(text), test.step, test.run); got != test.want {
			t.Errorf("%q %q: got %d, want %d", test.step, test.run, got, test.want)
		}
	}
}

// workflowStep writes what a step of a workflow in examples/ci runs into a file,
// as a runner does: `workflow FILE STEP SCRIPT`.
func workflowStep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: workflow FILE STEP SCRIPT")
	}
	text, err := os.ReadFile(filepath.Join(source, "examples", "ci", args[0]))
	ts.Check(err)
	var w struct {
		Jobs map[string]struct {
			Steps []struct{ Name, Run string }
		}
	}
	ts.Check(yaml.Unmarshal(text, &w))
	for _, job := range w.Jobs {
		for _, step := range job.Steps {
			if step.Name == args[1] {
				ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(step.Run), 0o644))
				return
			}
		}
	}
	ts.Fatalf("%s has no step %q", args[0], args[1])
}

var typed = regexp.MustCompile(`quorate ((?:[a-z]+ )*[a-z]+)([^#]*)`)

// TestTemplates holds the commands of examples/ci against the command line: every verb and every flag is there.
func TestTemplates(t *testing.T) {
	files, err := filepath.Glob("../../examples/ci/*")
	if err != nil || len(files) != 4 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".yml") {
			var tree map[string]any
			if err := yaml.Unmarshal(text, &tree); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		seen := 0
		flat := strings.ReplaceAll(string(text), "\\\n", " ")
		flat = regexp.MustCompile(`\n +(--|"\$)`).ReplaceAllString(flat, " $1")
		for line := range strings.Lines(flat) {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			for _, m := range typed.FindAllStringSubmatch(line, -1) {
				cmd, _, err := newRoot(newTerminal()).Find(strings.Fields(m[1]))
				if err != nil || cmd.Name() == "quorate" {
					continue // prose
				}
				seen++
				for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(m[2], -1) {
					if cmd.Flags().Lookup(flag[1]) == nil && cmd.InheritedFlags().Lookup(flag[1]) == nil {
						t.Errorf("%s: %q has no flag --%s", filepath.Base(name), cmd.CommandPath(), flag[1])
					}
				}
			}
		}
		if seen < 2 {
			t.Errorf("%s: %d commands were found in it", name, seen)
		}
	}
}
