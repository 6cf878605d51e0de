package rebuild

import (
	"context"
	"fmt"

	"quorate.dev/rebuild/agreement"
)

// Built is what one rebuilder built and said of it, for Options.Explain.
type Built struct {
	Rebuilder string
	Image     string            // an OCI layout
	Steps     string            // folder of the lists of what its steps left, for OpenList; "" for none
	Report    *agreement.Report // opened and verified
}

// Explanation is the answer of Options.Explain.
type Explanation struct {
	Differences []Differences     // first of the first class against the first of every other, by name
	Text        []byte            // the first screen, for a terminal
	Files       map[string][]byte // further files of the results folder, by slash-separated path
	Notes       []Note            // the causes, for whoever shows them beside the definition
	First       *FirstStep        // nil when it is not known
}

// FirstStep is the first step whose output differs.
type FirstStep struct {
	Name     string   `json:"name"`
	Platform string   `json:"platform,omitempty"` // where the images have several
	Number   int      `json:"number"`             // from 1
	Of       int      `json:"of"`
	Differ   int      `json:"differ,omitempty"`  // paths of what it left that differ
	Paths    []string `json:"paths,omitempty"`   // the first of them; report.json says more
	Unknown  string   `json:"unknown,omitempty"` // why no path is known
}

// Note is one cause of a difference, in a line.
type Note struct {
	Title string
	Text  string
	Line  int // of the definition, from 1; 0 when no line is to blame
}

// explain asks for the causes. It is false when there are none to be had; the
// verdict stands without them, and compare says then what can be said.
func (r *run) explain(ctx context.Context, out *Outcome) (bool, error) {
	if r.options.Explain == nil {
		return false, nil
	}
	reports := map[string]*agreement.Report{}
	for i, a := range r.answers {
		reports[r.options.Rebuilders[i].Name] = a.submission.Report
	}
	var built []Built
	for _, class := range out.Verdict.Classes {
		for _, name := range class.Rebuilders {
			built = append(built, Built{
				Rebuilder: name, Image: r.results.path("rebuilders", name, "image"), Steps: r.results.path("rebuilders", name, StepsDir), Report: reports[name],
			})
		}
	}
	e, err := r.options.Explain(ctx, built)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		out.Warnings = append(out.Warnings, fmt.Sprintf("cannot explain what differs: %v", err))
		return false, nil
	}
	out.Differences, out.Explanation, out.Notes, out.First = e.Differences, e.Text, e.Notes, e.First
	for name, b := range e.Files {
		if err := r.results.write(name, b); err != nil {
			return false, err
		}
	}
	return true, nil
}

// keepDifferences writes them for people and for programs.
func (r *run) keepDifferences(out *Outcome) error {
	var texts []byte
	for _, d := range out.Differences {
		texts = append(texts, fmt.Sprintf("# %s (A) and %s (B)\n\n%s\n", d.A, d.B, d.Text)...)
	}
	if err := r.results.write("differences.txt", texts); err != nil {
		return err
	}
	return r.results.writeJSON("differences.json", out.Differences)
}
