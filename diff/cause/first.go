package cause

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"quorate.dev/diff"
)

// FirstStep is the first step whose output differs: it, and what differs there, are the roots
// of what differs later.
type FirstStep struct {
	Number   int        `json:"number"` // from 1
	Of       int        `json:"of"`
	Name     string     `json:"name"`
	Platform string     `json:"platform,omitempty"` // where the builds have several
	Pairs    []StepPair `json:"pairs,omitempty"`    // of sides whose outputs of the step differ; none when nobody was asked (Context.Lists)
}

// StepPair is what the first step left otherwise on two sides.
type StepPair struct {
	Sides   [2]int     `json:"sides"`             // numbers of the sides
	Differ  int        `json:"differ"`            // paths
	Paths   []StepPath `json:"paths,omitempty"`   // of them, sorted, at most maxStepPaths
	Unknown string     `json:"unknown,omitempty"` // why nothing is known of paths
}

// StepPath is a path of which two sides have different things after a step.
type StepPath struct {
	Path string     `json:"path"` // below $OUT
	What []string   `json:"what"` // "presence", "type", "content", "link", "mode", "owner", "attributes"
	A    *StepEntry `json:"a,omitempty"`
	B    *StepEntry `json:"b,omitempty"`
}

// StepEntry is what one side has there.
type StepEntry struct {
	Type       string            `json:"type"`           // "file", "folder", "symlink", "hard link", "fifo"
	Mode       string            `json:"mode,omitempty"` // "0644"
	Owner      string            `json:"owner,omitempty"`
	Size       int64             `json:"size,omitempty"`   // bytes
	Digest     string            `json:"digest,omitempty"` // "sha256:…"
	Link       string            `json:"link,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"` // extended; values in hexadecimal
}

// differs fills in what is different.
func (p *StepPath) differs() {
	a, b := p.A, p.B
	switch {
	case a == nil || b == nil:
		p.What = []string{"presence"}
		return
	case a.Type != b.Type:
		p.What = append(p.What, "type")
	case a.Digest != b.Digest || a.Size != b.Size:
		p.What = append(p.What, "content")
	}
	for _, field := range []struct {
		what string
		same bool
	}{{"link", a.Link == b.Link}, {"mode", a.Mode == b.Mode}, {"owner", a.Owner == b.Owner}, {"attributes", maps.Equal(a.Attributes, b.Attributes)}} {
		if !field.same {
			p.What = append(p.What, field.what)
		}
	}
}

const (
	// maxStepPaths bounds the paths of a pair that a report has: one of 10,000 takes some 4 MB.
	maxStepPaths = 10_000
	// maxRooted bounds the bytes that are read to find a step's files again in the image.
	maxRooted = 1 << 30
)

// firstStep compares what each step left, over all sides that recorded it, and
// asks for the paths that differ there.
func (s *search) firstStep() *FirstStep {
	var known []int
	for i, f := range s.context.Sides {
		if len(f.Steps) > 0 {
			known = append(known, i)
		}
	}
	if len(known) < 2 {
		return nil
	}
	steps := s.context.Sides[known[0]].Steps
	for i, step := range steps {
		differs := false
		for _, side := range known[1:] {
			theirs := s.context.Sides[side].Steps
			if i >= len(theirs) || theirs[i].Name != step.Name || theirs[i].Platform != step.Platform {
				return nil // not the same steps: nothing to compare
			}
			differs = differs || theirs[i].Tree != step.Tree
		}
		if differs {
			first := placeStep(steps, i)
			first.Pairs = s.stepPairs(i, known)
			return first
		}
	}
	return nil
}

// placeStep numbers a step among those of its platform.
func placeStep(steps []Step, at int) *FirstStep {
	f := &FirstStep{Name: steps[at].Name}
	several := false
	for i, step := range steps {
		if step.Platform != steps[at].Platform {
			several = true
			continue
		}
		f.Of++
		if i <= at {
			f.Number++
		}
	}
	if several {
		f.Platform = steps[at].Platform
	}
	return f
}

// stepPairs compares the first side with the first of those that differ from it, for each output of the step.
func (s *search) stepPairs(step int, known []int) []StepPair {
	if s.context.Lists == nil {
		return nil
	}
	tree := func(side int) string { return s.context.Sides[side].Steps[step].Tree }
	seen := []string{tree(known[0])}
	var pairs []StepPair
	for _, side := range known[1:] {
		if slices.Contains(seen, tree(side)) {
			continue
		}
		seen = append(seen, tree(side))
		pairs = append(pairs, stepPair([2]int{known[0], side}, s.context.Lists(step, known[0], side)))
	}
	return pairs
}

// stepPair collects what differs. Nothing of it counts until all of it was read.
func stepPair(sides [2]int, differences iter.Seq2[StepPath, error]) StepPair {
	p := StepPair{Sides: sides}
	for d, err := range differences {
		if err != nil {
			return StepPair{Sides: sides, Unknown: err.Error()}
		}
		if p.Differ++; p.Differ <= maxStepPaths {
			d.differs()
			p.Paths = append(p.Paths, d)
		}
	}
	return p
}

// roots finds files of the image again among those that differ after the first step: by their
// contents, for later steps may have copied them to any place.
type roots struct {
	step  string
	sizes map[int64]bool
	paths map[string]string // by digest
	left  int64             // bytes that may still be read
	found map[string]string // by path of the image: the path in what the step left
}

func newRoots(f *FirstStep) *roots {
	r := &roots{sizes: map[int64]bool{}, paths: map[string]string{}, left: maxRooted, found: map[string]string{}}
	if f == nil {
		return r
	}
	r.step = f.Name
	for _, pair := range f.Pairs {
		for _, p := range pair.Paths {
			if !slices.Contains(p.What, "content") && !slices.Contains(p.What, "presence") {
				continue
			}
			for _, e := range []*StepEntry{p.A, p.B} {
				if e == nil || e.Size == 0 { // empty files are everywhere
					continue
				}
				r.sizes[e.Size] = true
				if _, ok := r.paths[e.Digest]; !ok {
					r.paths[e.Digest] = p.Path
				}
			}
		}
	}
	return r
}

// find looks at all files of a comparison.
func (r *roots) find(root *diff.Node) {
	if len(r.paths) == 0 {
		return
	}
	root.Walk(func(n *diff.Node) bool {
		if n.Kind != diff.KindEntry {
			return true
		}
		if _, ok := r.found[n.Name]; !ok {
			if from, ok := r.of(n); ok {
				r.found[n.Name] = from
			}
		}
		return false // what is inside of a file is of its step
	})
}

// of returns the path in what the step left that has the contents of both sides of a file.
func (r *roots) of(n *diff.Node) (string, bool) {
	from := ""
	for _, w := range []diff.Which{diff.A, diff.B} {
		part := n.Part(w)
		if part == nil {
			continue
		}
		if !r.sizes[part.Size] || part.Size > r.left {
			return "", false
		}
		r.left -= part.Size
		path, ok := r.paths[digestOf(n, w)]
		if !ok || from != "" && path != from {
			return "", false
		}
		from = path
	}
	return from, from != ""
}

func digestOf(n *diff.Node, w diff.Which) string {
	r, err := n.Open(w)
	if err != nil {
		return ""
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return ""
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// origin returns the step that a path of the image comes from, and the path within its output:
// the first step that differs, where the file differs there already, else the one that it is
// copied from. The step is nil when it is none of the definition's.
func (s *search) origin(file string) (*step, string) {
	st, rest := s.definition.origin(file)
	if from, ok := s.roots.found[file]; ok && (st == nil || st.name != s.roots.step) {
		return s.definition.step(s.roots.step), "/" + from
	}
	return st, rest
}

// stepName names the step that a path of the image comes from, "" when that is not known.
func (s *search) stepName(file string) string {
	if _, ok := s.roots.found[file]; ok {
		return s.roots.step
	}
	if st, _ := s.origin(file); st != nil {
		return st.name
	}
	return ""
}

// follows says whether a step reads, by way of others or not, what the first step that differs left.
func (s *search) follows(st *step) bool {
	first := s.report.First
	if first == nil || st == nil || st.name == first.Name {
		return false
	}
	seen := map[string]bool{}
	var reads func(st *step) bool
	reads = func(st *step) bool {
		for _, name := range st.inputs() {
			if name == first.Name {
				return true
			}
			if from := s.definition.step(name); from != nil && !seen[name] {
				seen[name] = true
				if reads(from) {
					return true
				}
			}
		}
		return false
	}
	return reads(st)
}

// locate says which step made the cause's files, and which line: the first that differs, if
// one of them is its.
func (s *search) locate(k *Cause) {
	files := slices.DeleteFunc(slices.Clone(k.Files), func(f string) bool { _, ok := s.roots.found[f]; return !ok })
	if len(files) == 0 {
		files = k.Files
	}
	for _, f := range files {
		name := s.stepName(f)
		if name == "" {
			continue
		}
		st, rest := s.origin(f)
		k.Step, k.Line, k.After = name, st.line(rest), ""
		if s.follows(st) {
			k.After = s.report.First.Name
		}
		if k.Line != "" {
			return
		}
	}
}

// Says is the step as a reader is told of it: `2/3 "stamp" (linux/arm64)`.
func (f *FirstStep) Says() string {
	s := fmt.Sprintf("%d/%d %q", f.Number, f.Of, f.Name)
	if f.Platform != "" {
		s += " (" + f.Platform + ")"
	}
	return s
}
