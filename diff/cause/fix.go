package cause

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// FixError says that a mend cannot be written into a definition.
type FixError struct {
	Number int // of the cause; 0 for none
	Reason string
}

func (e *FixError) Error() string {
	if e.Number == 0 {
		return "cannot mend the definition: " + e.Reason
	}
	return fmt.Sprintf("cannot mend cause %d in the definition: %s", e.Number, e.Reason)
}

// Fix writes the mends of the numbered causes into a definition (the bytes of
// quorate.yaml). It returns the new bytes, which keep everything else as it was,
// comments too, and a unified patch. Error: *FixError for a cause that does not exist,
// whose mend is no change of the definition, or that the definition no longer fits.
func Fix(definition []byte, r *Report, numbers []int) (fixed []byte, patch string, err error) {
	fixed = definition
	for _, n := range numbers {
		i := slices.IndexFunc(r.Causes, func(k *Cause) bool { return k.Number == n })
		if i < 0 {
			return nil, "", &FixError{Number: n, Reason: fmt.Sprintf("the report has causes 1 to %d", len(r.Causes))}
		}
		if len(r.Causes[i].Mend.Edits) == 0 {
			return nil, "", &FixError{Number: n, Reason: "its mend is no change of quorate.yaml: " + strings.Join(r.Causes[i].Mend.Lines, "; ")}
		}
		for _, e := range r.Causes[i].Mend.Edits {
			if fixed, err = e.apply(fixed); err != nil {
				return nil, "", &FixError{Number: n, Reason: err.Error()}
			}
		}
	}
	var check yaml.Node
	if err := yaml.Unmarshal(fixed, &check); err != nil {
		return nil, "", &FixError{Reason: "the result would be no YAML: " + err.Error()}
	}
	return fixed, Unified("quorate.yaml", string(definition), string(fixed)), nil
}

// apply makes one edit. An edit that is there already changes nothing.
func (e Edit) apply(b []byte) ([]byte, error) {
	d := readDefinition(b)
	if d == nil {
		return nil, errors.New("it is no YAML that has steps")
	}
	i := slices.IndexFunc(d.steps, func(s step) bool { return s.name == e.Step })
	if i < 0 || d.steps[i].run == nil {
		return nil, fmt.Errorf("there is no step %q", e.Step)
	}
	lines := strings.Split(string(b), "\n")
	var err error
	switch s := d.steps[i]; {
	case e.Env != "":
		lines, err = e.setEnv(lines, s)
	case e.First:
		lines, err = e.prepend(lines, s)
	case e.Last:
		lines, err = e.extend(lines, s)
	default:
		lines, err = e.replace(lines, s)
	}
	return []byte(strings.Join(lines, "\n")), err
}

// replace changes a line of run in place.
func (e Edit) replace(lines []string, s step) ([]string, error) {
	start := s.run.Line - 1
	end := min(len(lines), start+strings.Count(s.run.Value, "\n")+2+countBlank(lines[start:]))
	for i := start; i < end; i++ {
		at := strings.LastIndex(lines[i], e.From)
		if at < 0 || strings.TrimSpace(lines[i][at+len(e.From):]) != "" {
			continue
		}
		if before := strings.TrimSpace(lines[i][:at]); before != "" && !strings.HasSuffix(before, "run:") {
			continue
		}
		switch {
		case !e.Gone:
			lines[i] = lines[i][:at] + e.To + lines[i][at+len(e.From):]
		case strings.TrimSpace(lines[i][:at]) != "":
			return nil, fmt.Errorf("step %q would be left without a command", e.Step)
		default:
			lines = slices.Delete(lines, i, i+1)
		}
		return lines, nil
	}
	return nil, fmt.Errorf("step %q has no line of its own that is %q", e.Step, e.From)
}

// countBlank allows for comment and blank lines that a scalar's value does not have.
func countBlank(lines []string) int {
	n := 0
	for _, l := range lines {
		if strings.TrimSpace(l) == "" {
			n++
		}
	}
	return n
}

// prepend puts a line before the first of a block scalar.
func (e Edit) prepend(lines []string, s step) ([]string, error) {
	if s.run.Style&yaml.LiteralStyle == 0 {
		return nil, fmt.Errorf("the run of step %q is no block (run: |)", e.Step)
	}
	for i := s.run.Line; i < len(lines); i++ {
		if text := strings.TrimLeft(lines[i], " "); text != "" {
			if strings.TrimSpace(text) == e.To {
				return lines, nil
			}
			return slices.Insert(lines, i, lines[i][:len(lines[i])-len(text)]+e.To), nil
		}
	}
	return nil, fmt.Errorf("the run of step %q is empty", e.Step)
}

// extend puts a line behind the last of a block scalar.
func (e Edit) extend(lines []string, s step) ([]string, error) {
	if s.run.Style&yaml.LiteralStyle == 0 {
		return nil, fmt.Errorf("the run of step %q is no block (run: |)", e.Step)
	}
	text := strings.Split(strings.TrimRight(s.run.Value, " \n"), "\n")
	first := slices.IndexFunc(text, func(l string) bool { return strings.TrimSpace(l) != "" })
	if first < 0 {
		return nil, fmt.Errorf("the run of step %q is empty", e.Step)
	}
	if slices.Contains(text, e.To) {
		return lines, nil
	}
	// Every line of a literal scalar is one of the file, from the one behind "|".
	at := lines[s.run.Line+first]
	return slices.Insert(lines, s.run.Line+len(text), at[:len(at)-len(text[first])]+e.To), nil
}

// setEnv adds a variable to the step, or changes it.
func (e Edit) setEnv(lines []string, s step) ([]string, error) {
	pair := fmt.Sprintf("%s: %q", e.Env, e.To)
	if s.env == nil {
		key := keyOf(s.node, "run")
		i := key.Line - 1
		indent := strings.Repeat(" ", key.Column-1)
		if strings.TrimSpace(lines[i][:min(len(lines[i]), key.Column-1)]) != "" {
			return nil, fmt.Errorf("step %q begins with run; add env: {%s} by hand", e.Step, pair)
		}
		return slices.Insert(lines, i, indent+"env: {"+pair+"}"), nil
	}
	if v := child(s.env, e.Env); v != nil {
		if v.Value == e.To {
			return lines, nil
		}
		return nil, fmt.Errorf("step %q sets %s to %q already", e.Step, e.Env, v.Value)
	}
	i := s.env.Line - 1
	if s.env.Style&yaml.FlowStyle != 0 {
		at := s.env.Column // the column counts from 1, so this is behind the brace
		if len(s.env.Content) > 0 {
			pair += ", "
		}
		lines[i] = lines[i][:at] + pair + lines[i][at:]
		return lines, nil
	}
	return slices.Insert(lines, i, strings.Repeat(" ", s.env.Column-1)+pair), nil
}

func keyOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i]
		}
	}
	return n
}

// context lines of a patch, as diff -u has them.
const patchContext = 3

// Unified is the patch from a to b in the form of diff -u; "" when they are equal. It is
// meant for texts of at most some thousand lines.
func Unified(name, a, b string) string {
	if a == b {
		return ""
	}
	x, y := strings.SplitAfter(a, "\n"), strings.SplitAfter(b, "\n")
	ops := script(x, y)
	var out strings.Builder
	fmt.Fprintf(&out, "--- a/%s\n+++ b/%s\n", name, name)
	for i := 0; i < len(ops); {
		if ops[i].kind == ' ' {
			i++
			continue
		}
		start := max(0, i-patchContext)
		end, quiet := i, 0
		for j := i; j < len(ops) && quiet <= 2*patchContext; j++ {
			if ops[j].kind == ' ' {
				quiet++
			} else {
				quiet, end = 0, j+1
			}
		}
		end = min(len(ops), end+patchContext)
		hunk(&out, ops[start:end])
		i = end
	}
	return out.String()
}

type op struct {
	kind byte // ' ', '-', '+'
	line string
	a, b int // line numbers before it
}

func hunk(out *strings.Builder, ops []op) {
	na, nb := 0, 0
	for _, o := range ops {
		if o.line == "" {
			continue
		}
		if o.kind != '+' {
			na++
		}
		if o.kind != '-' {
			nb++
		}
	}
	fmt.Fprintf(out, "@@ -%d,%d +%d,%d @@\n", ops[0].a+1, na, ops[0].b+1, nb)
	for _, o := range ops {
		if o.line == "" {
			continue
		}
		out.WriteByte(o.kind)
		out.WriteString(o.line)
		if !strings.HasSuffix(o.line, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// script is a shortest list of kept, removed and added lines.
func script(x, y []string) []op {
	pre := 0
	for pre < len(x) && pre < len(y) && x[pre] == y[pre] {
		pre++
	}
	post := 0
	for post < len(x)-pre && post < len(y)-pre && x[len(x)-1-post] == y[len(y)-1-post] {
		post++
	}
	var ops []op
	for i := range pre {
		ops = append(ops, op{' ', x[i], i, i})
	}
	mx, my := x[pre:len(x)-post], y[pre:len(y)-post]
	best := make([][]int32, len(mx)+1)
	for i := range best {
		best[i] = make([]int32, len(my)+1)
	}
	for i := len(mx) - 1; i >= 0; i-- {
		for j := len(my) - 1; j >= 0; j-- {
			if mx[i] == my[j] {
				best[i][j] = best[i+1][j+1] + 1
			} else {
				best[i][j] = max(best[i+1][j], best[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(mx) || j < len(my) {
		switch {
		case i < len(mx) && j < len(my) && mx[i] == my[j]:
			ops = append(ops, op{' ', mx[i], pre + i, pre + j})
			i, j = i+1, j+1
		case j == len(my) || i < len(mx) && best[i+1][j] >= best[i][j+1]:
			ops = append(ops, op{'-', mx[i], pre + i, pre + j})
			i++
		default:
			ops = append(ops, op{'+', my[j], pre + i, pre + j})
			j++
		}
	}
	for k := range post {
		ops = append(ops, op{' ', x[len(x)-post+k], len(x) - post + k, len(y) - post + k})
	}
	return ops
}
