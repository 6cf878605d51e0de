package cause_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"quorate.dev/diff"
	"quorate.dev/diff/cause"
)

// TestRealOthers holds us against other people's tools on every pair: whatever
// diffoscope sees, we must see. With -v it prints the comparison as a table in
// Markdown; diffoci has its columns there when it and crane are in PATH. An image's tar
// is what diffoci compares, so a pair becomes an image of one layer for it.
func TestRealOthers(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("QUORATE_REAL is not set")
	}
	if _, err := exec.LookPath("diffoscope"); err != nil {
		t.Fatalf("diffoscope is what we are held against: %v (make tools)", err)
	}
	var rows []othersRow
	for _, name := range pairNames(t) {
		t.Run(name, func(t *testing.T) { rows = append(rows, compareOthers(t, name)) })
	}
	t.Log("\n" + othersTable(rows))
}

// othersRow is what three programs say of one pair.
type othersRow struct {
	pair          string
	bare, full    string // causes, without and with the hosts' facts
	paths         []string
	scope, oci    others
	unseen, extra []string // seen by diffoscope and not by us; the other way round
}

// others is what a program that names no cause says.
type others struct {
	ran   bool
	lines int
	paths []string // in which it sees a difference
	words []string // what it says of a difference beyond showing it
}

func compareOthers(t *testing.T, name string) othersRow {
	a, b := pairSides(t, name)
	row := othersRow{pair: name}
	r, err := diff.Compare([]string{a, b}, diff.Options{})
	if err != nil {
		return row // a damaged side: told so, and nothing to compare
	}
	defer r.Close()
	row.bare = namedCauses(cause.Find(r, nil))
	row.full = namedCauses(cause.Find(r, &cause.Context{Sides: pairFacts(t, filepath.Join(pairs, name))}))
	root := r.Pairs[0].Root
	row.paths = r.Pairs[0].Paths()
	tree := row.scope.diffoscope(t, a, b)
	// Of an image it compares the files that hold it, we what they hold. Hostile archives nest deeper
	// than we look, on purpose.
	if r.Sides[0].Kind == diff.KindTar && !strings.HasPrefix(name, "hostile-") {
		for _, d := range tree.Details {
			unseen(root, d, &row.scope.paths, &row.unseen)
		}
	}
	for _, missing := range row.unseen {
		t.Errorf("diffoscope sees a difference in %s, and we do not", missing)
	}
	slices.Sort(row.scope.paths)
	row.scope.paths = slices.Compact(row.scope.paths)
	for _, p := range row.paths {
		if !slices.Contains(row.scope.paths, p) {
			row.extra = append(row.extra, p)
		}
	}
	row.oci.diffoci(t, a, b)
	return row
}

// pairSides are what is compared of a pair: two archives, or folders in them.
func pairSides(t *testing.T, name string) (a, b string) {
	dir := filepath.Join(pairs, name)
	a, b = filepath.Join(dir, "a.tar"), filepath.Join(dir, "b.tar")
	var want expectation
	text, err := os.ReadFile(filepath.Join(dir, "expect.json"))
	if err == nil {
		err = json.Unmarshal(text, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	if want.Inside != "" {
		a, b = unpack(t, a, want.Inside), unpack(t, b, want.Inside)
	}
	return a, b
}

func namedCauses(r *cause.Report) string {
	var out []string
	for _, k := range r.Causes {
		out = append(out, k.ID)
	}
	if n := len(r.Inputs); n > 0 {
		out = append(out, fmt.Sprintf("inputs differ (%d)", n))
	}
	if n := len(r.Unexplained); n > 0 {
		out = append(out, fmt.Sprintf("%d unexplained", n))
	}
	return strings.Join(out, ", ")
}

// scopeNode is a part of diffoscope's JSON.
type scopeNode struct {
	Source1  string       `json:"source1"`
	Source2  string       `json:"source2"`
	Diff     string       `json:"unified_diff"`
	Comments []string     `json:"comments"`
	Details  []*scopeNode `json:"details"`
}

// othersTime is what a pair may cost another program: the slowest honest pair takes 10 s
// on a busy machine, and some hostile ones have no end.
const othersTime = 20 * time.Second

func (o *others) diffoscope(t *testing.T, a, b string) *scopeNode {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), othersTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "diffoscope", "--no-progress", "--json", "-", a, b)
	cmd.WaitDelay = time.Second // its own children may hold the pipes
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		o.words = append(o.words, fmt.Sprintf("nothing in %v", othersTime))
	case err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1):
		o.words = append(o.words, fmt.Sprintf("fails: %v", err))
	}
	var root scopeNode
	if out.Len() > 0 && len(o.words) == 0 {
		if err := json.Unmarshal(out.Bytes(), &root); err != nil {
			t.Fatalf("diffoscope: %v", err)
		}
	}
	o.count(&root)
	return &root
}

func (o *others) count(n *scopeNode) {
	o.lines += strings.Count(n.Diff, "\n")
	for _, c := range n.Comments {
		if strings.Contains(c, "rdering differences") && !slices.Contains(o.words, "order") {
			o.words = append(o.words, "order")
		}
	}
	for _, d := range n.Details {
		o.count(d)
	}
}

// unseen holds one node of diffoscope's against ours: each file, member and line of a
// list that it shows must be a node here, or lie in one that is packed. What it
// shows of one file by other programs (readelf, zipinfo, strings) is of that file.
func unseen(ours *diff.Node, d *scopeNode, top, missing *[]string) {
	here := ours.Kind == diff.KindRoot || ours.Kind == diff.KindLayer
	switch {
	case d.Source1 == "file list" && here:
		for _, p := range listed(d.Diff) {
			*top = append(*top, p)
			if find(ours, p) == nil {
				*missing = append(*missing, p)
			}
		}
		return
	case strings.Contains(d.Source1, "{}") || slices.Contains(scopeViews, d.Source1):
		return
	}
	n := find(ours, d.Source1)
	if n == nil {
		n = find(ours, d.Source2)
	}
	if here {
		*top = append(*top, strings.TrimPrefix(d.Source1, "./"))
	}
	if n == nil && here {
		*missing = append(*missing, d.Source1)
		return
	}
	if n == nil {
		n = ours
		if !hasStream(ours) {
			*missing = append(*missing, ours.Path()+" → "+d.Source1)
			return
		}
	}
	for _, c := range d.Details {
		unseen(n, c, top, missing)
	}
}

// scopeViews are ways in which diffoscope shows one file, beside commands with {} in its place.
var scopeViews = []string{"file list", "filetype from file(1)", "Pretty-printed", "Python bytecode", "sng"}

// find returns the node below n that is called so on either side.
func find(n *diff.Node, name string) *diff.Node {
	name = path.Clean(strings.TrimPrefix(name, "./"))
	var found *diff.Node
	n.Walk(func(m *diff.Node) bool {
		if found == nil && m != n {
			for _, w := range []diff.Which{diff.A, diff.B} {
				if p := m.Part(w); p != nil && (path.Clean(m.Name) == name || p.Name == name) {
					found = m
				}
			}
		}
		return found == nil
	})
	return found
}

// hasStream reports whether the node is packed, or a section of a larger whole: diffoscope
// calls the parts of such files by names of its own.
func hasStream(n *diff.Node) bool {
	found := false
	n.Walk(func(m *diff.Node) bool {
		found = found || m.Kind == diff.KindStream || m.Kind == diff.KindSection || m.Kind == diff.KindDocument
		return !found
	})
	return found
}

// listed are the names in the changed lines of a listing, as tar tv prints them. A line that is
// on both sides only stands elsewhere.
var listClock = regexp.MustCompile(` \d\d:\d\d:\d\d\.\d+ `)

func listed(unified string) []string {
	lines := map[string]int{}
	for line := range strings.Lines(unified) {
		switch {
		case strings.HasPrefix(line, "+"):
			lines[line[1:]]++
		case strings.HasPrefix(line, "-"):
			lines[line[1:]]--
		}
	}
	var out []string
	for line, n := range lines {
		at := listClock.FindStringIndex(line)
		if n == 0 || at == nil {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimSpace(line[at[1]:]), " -> ")
		out = append(out, strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/"))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// diffoci compares images of one layer; without it in PATH its columns stay empty.
func (o *others) diffoci(t *testing.T, a, b string) {
	t.Helper()
	for _, name := range []string{"diffoci", "crane"} {
		if _, err := exec.LookPath(name); err != nil {
			return
		}
	}
	dir := t.TempDir()
	script := `
wrap() { # SIDE FILE
	if [ -d "$2" ]; then tar -C "$2" -cf "$1-image.tar" .; else crane append --platform linux/amd64 -f "$2" -t "quorate.test/$1:1" -o "$1-image.tar" 2>/dev/null; fi
	diffoci load --backend local --local-cache cache <"$1-image.tar" >/dev/null 2>&1
}
wrap a "$1"; wrap b "$2"`
	load := exec.Command("bash", "-c", script, "wrap", absolute(t, a), absolute(t, b))
	load.Dir = dir
	_ = load.Run() // what it cannot load it cannot compare: see below
	cmd := exec.Command("diffoci", "diff", "--semantic", "--backend", "local", "--local-cache", "cache", "--pull", "never", "quorate.test/a:1", "quorate.test/b:1")
	cmd.Dir = dir
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatal(err)
	}
	o.ran = bytes.HasPrefix(out, []byte("TYPE"))
	for line := range strings.Lines(string(out)) {
		o.lines++
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "File" || f[0] == "Dir" || f[0] == "Symlink" || f[0] == "Hardlink" || f[0] == "Layer") {
			o.paths = append(o.paths, f[1])
		}
	}
	slices.Sort(o.paths)
	o.paths = slices.Compact(o.paths)
}

func absolute(t *testing.T, name string) string {
	t.Helper()
	p, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func othersTable(rows []othersRow) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| pair | paths that differ | quorate names, bare | with the hosts' facts | diffoscope sees | lines | says | diffoci sees |\n|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		oci := "–"
		if r.oci.ran {
			oci = fmt.Sprintf("%d", len(r.oci.paths))
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %d | %d | %s | %s |\n", r.pair, len(r.paths), r.bare, r.full, len(r.paths)-len(r.extra), r.scope.lines, strings.Join(r.scope.words, ", "), oci)
	}
	for _, r := range rows {
		if len(r.extra) > 0 {
			fmt.Fprintf(&b, "\n%s: diffoscope does not see %s", r.pair, strings.Join(r.extra, ", "))
		}
		for _, p := range r.paths {
			if r.oci.ran && !slices.Contains(r.oci.paths, p) {
				fmt.Fprintf(&b, "\n%s: diffoci does not see %s", r.pair, p)
			}
		}
	}
	return b.String()
}
