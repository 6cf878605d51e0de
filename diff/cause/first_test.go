package cause_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/diff"
	"quorate.dev/diff/cause"
)

// foldersOf writes a folder for each map of files and compares them.
func foldersOf(t *testing.T, folders ...map[string]string) *diff.Result {
	t.Helper()
	var sides []string
	for _, files := range folders {
		dir := t.TempDir()
		sides = append(sides, dir)
		for name, text := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, dir := range sides {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chtimes(path, time.Unix(0, 0), time.Unix(0, 0)))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := diff.Compare(sides, diff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func stepFile(text string) *cause.StepEntry {
	return &cause.StepEntry{Type: "file", Mode: "0644", Owner: "0:0", Size: int64(len(text)), Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text)))}
}

// record is two builds of which each step left another tree, from the given one on.
func record(from int, names ...string) []cause.Facts {
	var a, b cause.Facts
	for i, name := range names {
		x, y := fmt.Sprint("tree ", i), fmt.Sprint("tree ", i)
		if i >= from {
			y = "another " + y
		}
		a.Steps = append(a.Steps, cause.Step{Name: name, Platform: "linux/amd64", Tree: x})
		b.Steps = append(b.Steps, cause.Step{Name: name, Platform: "linux/amd64", Tree: y})
	}
	return []cause.Facts{a, b}
}

func pathsOf(paths ...cause.StepPath) iter.Seq2[cause.StepPath, error] {
	return func(yield func(cause.StepPath, error) bool) {
		for _, p := range paths {
			if !yield(p, nil) {
				return
			}
		}
	}
}

const threeSteps = `name: x
steps:
  - name: compile
    run: cc
  - name: stamp
    inputs: [compile]
    run: |
      head -c 16 /dev/urandom | od -An -tx1 >$OUT/token
      echo fixed >$OUT/fixed
  - name: pack
    inputs: [stamp]
    run: |
      cp /inputs/stamp/token $OUT/id
      sha256sum /inputs/stamp/token >$OUT/sum
image:
  copy: [{from: pack, to: /srv}]
`

// A file that a later step only copied is of the step that wrote it; what it made of it
// follows from that step.
func TestRoots(t *testing.T) {
	x, y := "5a1f77c0902be4d3\n", "c3d08817aa4e62b9\n"
	r := foldersOf(t,
		map[string]string{"srv/id": x, "srv/fixed": "fixed\n"},
		map[string]string{"srv/id": y, "srv/fixed": "fixed\n"})
	var asked []int
	c := &cause.Context{Sides: record(1, "compile", "stamp", "pack"), Definition: []byte(threeSteps)}
	c.Lists = func(step, a, b int) iter.Seq2[cause.StepPath, error] {
		asked = append(asked, step, a, b)
		return pathsOf(cause.StepPath{Path: "token", A: stepFile(x), B: stepFile(y)})
	}
	got := cause.Find(r, c)
	if fmt.Sprint(asked) != "[1 0 1]" || got.First == nil || got.First.Says() != `2/3 "stamp"` {
		t.Fatalf("asked for %v, got %+v", asked, got.First)
	}
	if p := got.First.Pairs[0]; p.Differ != 1 || fmt.Sprint(p.Paths[0].What) != "[content]" || p.Unknown != "" {
		t.Errorf("got %+v", p)
	}
	if got, want := saysOf(got), `srv/id: 22-random stamp after "" (head -c 16 /dev/urandom | od -An -tx1 >$OUT/token) proven`; got != want {
		t.Errorf("the copy: %s\nexpected %s", got, want)
	}
	derived := foldersOf(t, map[string]string{"srv/sum": strings.Repeat("1f", 32) + "\n"}, map[string]string{"srv/sum": strings.Repeat("a7", 32) + "\n"})
	if got, want := saysOf(cause.Find(derived, c)), `srv/sum: 22-random pack after "stamp" (sha256sum /inputs/stamp/token >$OUT/sum) likely`; got != want {
		t.Errorf("the derived file: %s\nexpected %s", got, want)
	}
	// Without lists the copy is of the step that copied it, and follows the other.
	c.Lists = nil
	for _, k := range cause.Find(r, c).Causes {
		if k.Step != "pack" || k.After != "stamp" {
			t.Errorf("%s: step %q after %q", k.ID, k.Step, k.After)
		}
	}
}

func saysOf(r *cause.Report) string {
	var all []string
	for _, k := range r.Causes {
		all = append(all, fmt.Sprintf("%s: %s %s after %q (%s) %s", strings.Join(k.Files, " "), k.ID, k.Step, k.After, k.Line, k.Proof))
	}
	for _, u := range r.Unexplained {
		all = append(all, fmt.Sprintf("%s: unexplained %s", u.Path, u.Step))
	}
	return strings.Join(all, "\n")
}

func TestFirstStepPaths(t *testing.T) {
	r := sidesOf(t, "x\n", "y\n", "z\n", "y\n")
	mode, link := stepFile("x"), &cause.StepEntry{Type: "symlink", Link: "b"}
	mode.Mode = "0755"
	facts := record(0, "make")
	third, fourth := record(0, "make")[1], record(0, "make")[1]
	third.Steps[0].Tree = "a third one"
	c := &cause.Context{Sides: append(facts, third, fourth)}
	c.Lists = func(_, a, b int) iter.Seq2[cause.StepPath, error] {
		if b == 2 {
			return func(yield func(cause.StepPath, error) bool) {
				_ = yield(cause.StepPath{Path: "lie", A: stepFile("x")}, nil) && yield(cause.StepPath{}, errors.New("not to be trusted"))
			}
		}
		return pathsOf(
			cause.StepPath{Path: "a", A: stepFile("x"), B: mode}, cause.StepPath{Path: "b", B: link},
			cause.StepPath{Path: "c", A: stepFile("x"), B: link}, cause.StepPath{Path: "d", A: stepFile("x"), B: stepFile("yy")})
	}
	first := cause.Find(r, c).First
	if len(first.Pairs) != 2 { // the fourth has the second's tree
		t.Fatalf("got %+v", first)
	}
	var what []string
	for _, p := range first.Pairs[0].Paths {
		what = append(what, fmt.Sprint(p.Path, p.What))
	}
	if got, want := strings.Join(what, " "), "a[mode] b[presence] c[type link mode owner] d[content]"; got != want || first.Pairs[0].Differ != 4 {
		t.Errorf("got %s, expected %s; %d differ", got, want, first.Pairs[0].Differ)
	}
	if p := first.Pairs[1]; p.Unknown != "not to be trusted" || p.Differ != 0 || p.Paths != nil || p.Sides != [2]int{0, 2} {
		t.Errorf("got %+v", p)
	}
}

// Of several platforms a step is counted on its own, and of very many paths only the first stay.
func TestFirstStepLarge(t *testing.T) {
	sides := record(3, "one", "two", "one", "two")
	for _, f := range sides {
		f.Steps[2].Platform, f.Steps[3].Platform = "linux/arm64", "linux/arm64"
	}
	c := &cause.Context{Sides: sides}
	c.Lists = func(step, a, b int) iter.Seq2[cause.StepPath, error] {
		return func(yield func(cause.StepPath, error) bool) {
			for i := range 20_000 {
				if !yield(cause.StepPath{Path: fmt.Sprintf("%05d", i), A: stepFile("x")}, nil) {
					return
				}
			}
		}
	}
	first := cause.Find(sidesOf(t, "x\n", "y\n"), c).First
	if first.Says() != `2/2 "two" (linux/arm64)` || first.Pairs[0].Differ != 20_000 || len(first.Pairs[0].Paths) != 10_000 {
		t.Errorf("got %s, %d and %d", first.Says(), first.Pairs[0].Differ, len(first.Pairs[0].Paths))
	}
}
