package rebuild

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"quorate.dev/rebuild/agreement"
)

func TestExplain(t *testing.T) {
	x := newTeam(t)
	x.fakes[1].builds = "other"
	var asked []string
	x.options.Explain = func(_ context.Context, built []Built) (*Explanation, error) {
		for _, b := range built {
			asked = append(asked, b.Rebuilder)
			if _, err := os.Stat(filepath.Join(b.Image, "index.json")); err != nil || b.Report == nil {
				t.Errorf("%s: %v, report %v", b.Rebuilder, err, b.Report)
			}
		}
		return &Explanation{
			First: &FirstStep{Name: "make", Number: 2, Of: 3, Differ: 1, Paths: []string{"token"}},
			Text:  []byte("because\n"), Files: map[string][]byte{"report.html": []byte("page")},
			Differences: []Differences{{A: built[0].Rebuilder, B: built[1].Rebuilder, Paths: []string{"x"}, Text: []byte("x differs")}},
		}, nil
	}
	out, err := Run(t.Context(), x.options)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(asked); len(asked) < 2 || string(out.Explanation) != "because\n" || len(out.Differences) != 1 {
		t.Errorf("asked of %q, got %q, %+v", asked, out.Explanation, out.Differences)
	}
	for name, want := range map[string]string{"report.html": "page", "differences.txt": "x differs", "verdict.json": `"firstStep": {
    "name": "make",
    "number": 2,
    "of": 3,
    "differ": 1,
    "paths": [
      "token"
    ]
  },`} {
		if b, err := os.ReadFile(filepath.Join(out.Results, name)); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
}

// The verdict stands, and the plain comparison is left, when nothing can be explained.
func TestExplainFails(t *testing.T) {
	x := newTeam(t)
	x.fakes[1].builds = "other"
	x.options.Explain = func(context.Context, []Built) (*Explanation, error) { return nil, errors.New("no idea") }
	out, err := Run(t.Context(), x.options)
	if err != nil {
		t.Fatal(err)
	}
	if out.Verdict.Decision != agreement.Disagree || len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], "no idea") || len(out.Differences) == 0 || out.Explanation != nil {
		t.Errorf("got %+v", out)
	}
}
