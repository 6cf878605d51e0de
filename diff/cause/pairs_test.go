package cause_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"quorate.dev/diff"
	"quorate.dev/diff/cause"
	"quorate.dev/diff/report"
)

var update = flag.Bool("update", false, "keep what the recipes of testdata/pairs made")

const pairs = "../../testdata/pairs"

// expectation is expect.json of a pair.
type expectation struct {
	Causes []struct {
		ID    string
		Paths []string
		Proof string
		Mend  string // a part of it
	}
	Inputs      []string
	Unexplained []string
	Inside      string // the folder of the archives that is compared, unpacked
	Error       string // the comparison fails, and says this
}

func TestPairs(t *testing.T) {
	names := pairNames(t)
	if len(names) < 39 {
		t.Fatalf("%d pairs, expected one for each cause", len(names))
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			holdPair(t, filepath.Join(pairs, name), filepath.Join(pairs, name))
		})
	}
}

func pairNames(t *testing.T) []string {
	list, err := filepath.Glob(filepath.Join(pairs, "*", "expect.json"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range list {
		names = append(names, filepath.Base(filepath.Dir(l)))
	}
	return names
}

// holdPair compares the archives in dir and holds the report to what is expected.
func holdPair(t *testing.T, expectDir, dir string) {
	var want expectation
	b, err := os.ReadFile(filepath.Join(expectDir, "expect.json"))
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		err = d.Decode(&want)
	}
	if err != nil {
		t.Fatal(err)
	}
	a, bb := filepath.Join(dir, "a.tar"), filepath.Join(dir, "b.tar")
	if want.Inside != "" {
		a, bb = unpack(t, a, want.Inside), unpack(t, bb, want.Inside)
	}
	begin := time.Now()
	r, err := diff.Compare([]string{a, bb}, diff.Options{})
	if want.Error != "" {
		if err == nil || !strings.Contains(err.Error(), want.Error) {
			t.Fatalf("error %v, expected %q", err, want.Error)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := cause.Find(r, &cause.Context{Sides: pairFacts(t, dir)})
	// Bombs unpack to 2 GB before they are given up, on a machine that may have other things to do.
	if d := time.Since(begin); d > 90*time.Second {
		t.Errorf("took %v", d)
	}
	defer func() {
		if t.Failed() {
			var text bytes.Buffer
			_ = report.Text(&text, got)
			t.Log("\n" + text.String() + dump(r))
		}
	}()
	if r.Same() {
		t.Error("the sides are said to be the same")
	}
	compareCauses(t, got, &want)
}

// dump lists a result's findings, for a test that fails.
func dump(r *diff.Result) string {
	var b strings.Builder
	for _, p := range r.Pairs {
		p.Root.Walk(func(n *diff.Node) bool {
			fmt.Fprintf(&b, "%s (%s %s)\n", n.Path(), n.Kind, n.Format)
			for i, f := range n.Findings {
				if i == 12 {
					fmt.Fprintf(&b, "   … %d more\n", len(n.Findings)-i)
					break
				}
				fmt.Fprintf(&b, "   %s %q effect=%v outer=%v %.80q | %.80q %.60q runs=%d\n", f.What, f.Where, f.Effect, f.Outer, f.A, f.B, f.Note, len(f.Runs))
			}
			return true
		})
	}
	return b.String()
}

func compareCauses(t *testing.T, got *cause.Report, want *expectation) {
	var ids []string
	byID := map[string]*cause.Cause{}
	for _, k := range got.Causes {
		ids = append(ids, k.ID)
		byID[k.ID] = k
	}
	for _, w := range want.Causes {
		i := slices.Index(ids, w.ID)
		if i < 0 {
			t.Errorf("no cause %q among %q", w.ID, ids)
			continue
		}
		k := byID[w.ID]
		ids = slices.Delete(slices.Clone(ids), i, i+1)
		for _, p := range w.Paths {
			if !slices.Contains(k.Files, p) {
				t.Errorf("%s does not name %q, only %q", w.ID, p, k.Files)
			}
		}
		if string(k.Proof) != w.Proof && !(w.Proof == "likely" && k.Proof == cause.Proven) {
			t.Errorf("%s is %s (%s), expected %s", w.ID, k.Proof, k.How, w.Proof)
		}
		if k.Proof == cause.Likely && k.How == "" {
			t.Errorf("%s is likely and does not say why", w.ID)
		}
		if !strings.Contains(strings.Join(k.Mend.Lines, "\n"), w.Mend) {
			t.Errorf("the mend of %s does not say %q: %q", w.ID, w.Mend, k.Mend.Lines)
		}
	}
	if len(want.Inputs) == 0 && len(ids) > 0 {
		t.Errorf("further causes are named: %q", ids)
	}
	var inputs, unexplained []string
	for _, i := range got.Inputs {
		inputs = append(inputs, i.Name)
	}
	if !slices.Equal(inputs, want.Inputs) {
		t.Errorf("inputs %q, expected %q", inputs, want.Inputs)
	}
	for _, u := range got.Unexplained {
		unexplained = append(unexplained, u.Path)
	}
	if !slices.Equal(unexplained, want.Unexplained) && len(want.Inputs) == 0 {
		t.Errorf("unexplained %q, expected %q", unexplained, want.Unexplained)
	}
}

// pairFacts reads the facts that all pairs share, and those of one pair: lines "a hostname NAME".
func pairFacts(t *testing.T, dir string) []cause.Facts {
	sides := []cause.Facts{{Name: "h1", Host: "1", Values: map[string]string{}}, {Name: "h2", Host: "2", Values: map[string]string{}}}
	for _, file := range []string{filepath.Join(pairs, "facts"), filepath.Join(dir, "facts")} {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			side, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			name, value, ok := strings.Cut(rest, " ")
			if !ok || side != "a" && side != "b" {
				t.Fatalf("%s: bad line %q", file, line)
			}
			f := &sides[side[0]-'a']
			at, err := time.Parse(time.RFC3339, value)
			switch {
			case name == "started" && err == nil:
				f.Started = at
			case name == "finished" && err == nil:
				f.Finished = at
			default:
				f.Values[name] = value
			}
		}
	}
	return sides
}

// unpack writes a folder of an archive to a place of the test's own.
func unpack(t *testing.T, archive, folder string) string {
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return filepath.Join(dir, folder)
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(path, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRealPairs runs the recipes again, with the tools of this machine.
func TestRealPairs(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("QUORATE_REAL is not set")
	}
	recipes, err := filepath.Glob(filepath.Join(pairs, "*", "recipe.sh"))
	if err != nil || len(recipes) == 0 {
		t.Fatalf("no recipes: %v", err)
	}
	lib, err := os.ReadFile(filepath.Join(pairs, "lib.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, recipe := range recipes {
		dir := filepath.Dir(recipe)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			made := runRecipe(t, recipe, lib)
			holdPair(t, dir, made)
			if *update && !t.Failed() {
				for _, name := range []string{"a.tar", "b.tar", "facts"} {
					b, err := os.ReadFile(filepath.Join(made, name))
					if errors.Is(err, fs.ErrNotExist) {
						continue
					}
					if err == nil {
						err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

func runRecipe(t *testing.T, recipe string, lib []byte) string {
	top := t.TempDir()
	work := filepath.Join(top, "pair")
	script, err := filepath.Abs(recipe)
	if err == nil {
		err = os.WriteFile(filepath.Join(top, "lib.sh"), lib, 0o644)
	}
	if err == nil {
		err = os.Mkdir(work, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", script)
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return work
}
