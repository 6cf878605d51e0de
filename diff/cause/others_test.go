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
	"strconv"
	"strings"
	"testing"
	"time"

	"quorate.dev/diff"
	"quorate.dev/diff/cause"
)

// TestRealOthers holds us against other people's tools on every pair: whatever
// diffoscope or diffoci see, we must see. With -v it prints the comparison as a table in
// Markdown; diffoci has its columns there when it and crane are in PATH (see the README of the pairs). An image is
// what diffoci compares, so a pair of archives becomes two images of one layer for it.
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
	pair       string
	refused    string // why we compare nothing
	bare, full string // causes, without and with the hosts' facts
	all        []string
	paths      []string // that differ, as we see it
	scope, oci others
}

// others is what a program that names no cause says.
type others struct {
	ran    bool // and said something about paths
	lines  int
	paths  []string // in which it sees a difference
	words  []string // what it says of a difference beyond showing it
	failed string
}

func compareOthers(t *testing.T, name string) othersRow {
	a, b := pairSides(t, name)
	row := othersRow{pair: name}
	r, err := diff.Compare([]string{a, b}, diff.Options{})
	if err != nil { // a damaged side: told so, and nothing to compare
		row.refused = err.Error()
		return row
	}
	defer r.Close()
	row.bare = namedCauses(cause.Find(r, nil))
	row.full = namedCauses(cause.Find(r, &cause.Context{Sides: pairFacts(t, filepath.Join(pairs, name))}))
	root := r.Pairs[0].Root
	row.paths = r.Pairs[0].Paths()
	tree := row.scope.diffoscope(t, a, b)
	// Of an image it compares the files that hold it, we what they hold.
	if r.Sides[0].Kind == diff.KindTar && row.scope.failed == "" {
		if len(tree.Details) == 0 {
			row.scope.words = append(row.scope.words, "bytes of the archive only")
		}
		var missing []string
		for _, d := range tree.Details {
			unseen(root, d, &row.scope.paths, &missing)
		}
		row.scope.ran = true
		// Hostile archives nest deeper than we look, on purpose.
		for _, m := range missing {
			if !strings.HasPrefix(name, "hostile-") {
				t.Errorf("diffoscope sees a difference in %s, and we do not", m)
			}
		}
	}
	row.oci.diffoci(t, a, b)
	for _, o := range []*others{&row.scope, &row.oci} {
		slices.Sort(o.paths)
		o.paths = slices.Compact(o.paths)
		row.all = append(row.all, o.paths...)
	}
	for _, p := range row.oci.paths {
		if !slices.Contains(row.paths, p) {
			t.Errorf("diffoci sees a difference in %s, and we do not", p)
		}
	}
	row.all = append(row.all, row.paths...)
	slices.Sort(row.all)
	row.all = slices.Compact(row.all)
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
		o.failed = fmt.Sprintf("nothing in %v", othersTime)
	case err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1):
		o.failed = fmt.Sprintf("fails: %v", err)
	}
	var root scopeNode
	if out.Len() > 0 && o.failed == "" {
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

// diffoci compares images, byte for byte; without it in PATH its columns stay empty.
func (o *others) diffoci(t *testing.T, a, b string) {
	t.Helper()
	for _, name := range []string{"diffoci", "crane"} {
		if _, err := exec.LookPath(name); err != nil {
			return
		}
	}
	dir := t.TempDir()
	for side, file := range map[string]string{"a": a, "b": b} {
		image := filepath.Join(dir, side+".tar")
		pack := exec.Command("crane", "append", "--platform", "linux/amd64", "-f", file, "-t", "quorate.test/pair-"+side+":1", "-o", image)
		if info, err := os.Stat(file); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			named := filepath.Join(dir, side)
			nameImage(t, file, named, "quorate.test/pair-"+side+":1")
			pack = exec.Command("tar", "-C", named, "-cf", image, ".")
		}
		if out, err := pack.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		load := exec.Command("diffoci", "load", "--backend", "local", "--local-cache", filepath.Join(dir, "cache"))
		in, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		load.Stdin = in
		_ = load.Run() // what it cannot load it cannot compare: see below
		in.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), othersTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "diffoci", "diff", "--backend", "local", "--local-cache", filepath.Join(dir, "cache"), "--pull", "never", "quorate.test/pair-a:1", "quorate.test/pair-b:1")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		o.failed = fmt.Sprintf("fails: %v", err)
		return
	}
	o.ran = bytes.HasPrefix(out, []byte("TYPE"))
	for line := range strings.Lines(string(out)) {
		o.lines++
		if m := ociOnly.FindStringSubmatch(line); m != nil {
			if name, err := strconv.Unquote(m[1]); err == nil {
				o.paths = append(o.paths, path.Clean(name))
			}
		} else if m := ociFile.FindStringSubmatch(line); m != nil && !strings.HasPrefix(m[2], "Index ") {
			o.paths = append(o.paths, path.Clean(m[1]))
		}
	}
}

// How diffoci says that one side has an entry, and that an entry differs in something. That it is the fifth on
// one side and the sixth on the other ("Index 5") is no difference of the entry.
var (
	ociOnly = regexp.MustCompile(`^Layer .* name ("(?:[^"\\]|\\.)*") only appears in input`)
	ociFile = regexp.MustCompile(`^File {4,}(\S.*?) {4,}(\S.*)`)
)

// nameImage copies an image layout and gives its image a name, by which diffoci finds it.
func nameImage(t *testing.T, from, to, name string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(to, "index.json")
	b, err := os.ReadFile(index)
	var doc struct {
		SchemaVersion int              `json:"schemaVersion"`
		Manifests     []map[string]any `json:"manifests"`
	}
	if err == nil {
		err = json.Unmarshal(b, &doc)
	}
	if err != nil || len(doc.Manifests) == 0 {
		t.Fatalf("%s: %v", index, err)
	}
	doc.Manifests[0]["annotations"] = map[string]string{"io.containerd.image.name": name}
	if b, err = json.Marshal(doc); err == nil {
		err = os.WriteFile(index, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// othersTable has a row for each pair: of the files that any of the three finds to differ, how many each finds and
// which it misses, and what we name. The others name no cause.
func othersTable(rows []othersRow) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| pair | files | quorate | diffoscope | diffoci | quorate names, bare | with the hosts' facts | diffoscope's lines | says |\n|---|---|---|---|---|---|---|---|---|")
	var found [3]int
	var of [3]int
	for _, r := range rows {
		if r.refused != "" {
			fmt.Fprintf(&b, "| %s | – | refused: %s |\n", r.pair, r.refused)
			continue
		}
		cells := []string{}
		for i, o := range []others{{ran: true, paths: r.paths}, r.scope, r.oci} {
			switch {
			case o.failed != "":
				cells = append(cells, o.failed)
				continue
			case !o.ran:
				cells = append(cells, "–")
				continue
			}
			var missed []string
			for _, p := range r.all {
				if !slices.Contains(o.paths, p) {
					missed = append(missed, p)
				}
			}
			found[i] += len(r.all) - len(missed)
			of[i] += len(r.all)
			cell := fmt.Sprint(len(r.all) - len(missed))
			if n := len(missed); n > 4 {
				cell += fmt.Sprintf(", misses %d", n)
			} else if n > 0 {
				cell += fmt.Sprintf(", misses %q", missed)
			}
			cells = append(cells, cell)
		}
		full := r.full
		if full == r.bare {
			full = "the same"
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %d | %s |\n", r.pair, len(r.all), strings.Join(cells, " | "), r.bare, full, r.scope.lines, strings.Join(r.scope.words, ", "))
	}
	fmt.Fprintf(&b, "| all | | %d of %d | %d of %d | %d of %d | | | | |\n", found[0], of[0], found[1], of[1], found[2], of[2])
	return b.String()
}
