package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorate.dev/diff/cause"
	"quorate.dev/diff/report"
)

// hostile is a value that would reach a terminal, a page or a comment.
const hostile = "\x1b[31m<script>alert(1)</script> `|@all` \u202e </pre> ]]> &amp; \xff \n## x"

// sample is a report of n causes with m pairs of evidence each.
func sample(n, m int) *cause.Report {
	r := &cause.Report{
		Title: hostile, Sides: []cause.SideReport{{Name: hostile, Label: hostile, Digest: "sha256:" + strings.Repeat("a", 64), Facts: map[string]string{"cpus": "4", hostile: hostile}},
			{Name: "h2", Label: "h2", Class: 1, Digest: "sha256:" + strings.Repeat("b", 64), Facts: map[string]string{"cpus": "16"}}},
		Classes: [][]int{{0}, {1}}, Depends: cause.Depends{Says: "depends on " + "the HOST"},
		First: &cause.FirstStep{Number: 1, Of: 2, Name: hostile, Platform: hostile, Pairs: []cause.StepPair{
			{Differ: 30_000, Sides: [2]int{0, 1}, Paths: stepPaths()}, {Sides: [2]int{1, 0}, Unknown: hostile}, {Sides: [2]int{0, 1}, Differ: 1}}}, Total: cause.Total{Files: 16571, Differing: n + 1, Explained: n, Bytes: 1_000_000, ExplainedBytes: 999_999},
		Unexplained: []cause.Unexplained{{Path: hostile, Inside: hostile, Step: hostile, Bytes: 1, Of: 8 << 20, Offset: 4000000, What: hostile, A: hostile, B: hostile}},
		Predicted:   []string{hostile}, Next: []string{"quorate diff " + hostile},
	}
	for i := range n {
		k := &cause.Cause{Number: i + 1, ID: fmt.Sprintf("%d-x", i), Title: "A CAUSE", Proof: cause.Proven, Confidence: 1, How: hostile, Step: hostile, Line: hostile,
			Folded: []cause.Fold{{What: hostile, Count: 3}}, Mend: cause.Mend{Lines: []string{hostile, hostile}}, Confirm: hostile, Sites: m}
		if i%2 == 1 {
			k.Proof, k.Confidence = cause.Likely, 0.9
		}
		for j := range m {
			path := fmt.Sprintf("opt/%d/%d%s", i, j, hostile)
			k.Files = append(k.Files, path)
			k.Evidence = append(k.Evidence, cause.Evidence{Path: path, Inside: hostile, Where: "line 3", A: hostile + " one", B: hostile + " two", Fact: hostile, Sides: [2]int{0, 1}})
			r.Areas = append(r.Areas, cause.Area{Layer: hostile, Path: path, Bytes: int64(j*j + 1), Causes: []int{i + 1}})
		}
		r.Causes = append(r.Causes, k)
	}
	return r
}

// stepPaths are 40 paths of which a hostile step left other things on each side.
func stepPaths() []cause.StepPath {
	e := &cause.StepEntry{Type: "file", Size: 12345, Digest: hostile, Mode: "0644", Owner: "0:0", Link: hostile}
	other := &cause.StepEntry{Type: hostile, Mode: hostile, Owner: hostile, Link: hostile + "x", Attributes: map[string]string{hostile: "00"}}
	paths := []cause.StepPath{
		{Path: "only-a" + hostile, What: []string{"presence"}, A: e}, {Path: "only-b", What: []string{"presence"}, B: other},
		{Path: "all", What: []string{"type", "content", "link", "mode", "owner", "attributes"}, A: e, B: other}, {Path: "nothing", What: []string{"presence"}},
	}
	for i := range 36 {
		paths = append(paths, cause.StepPath{Path: fmt.Sprint("more", i), What: []string{"content"}, A: e, B: e})
	}
	return paths
}

func written(t *testing.T, format string, r *cause.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.Write(&b, format, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFirstScreen(t *testing.T) {
	for _, n := range []int{0, 1, 4, 12, 40, 200} {
		text := written(t, "text", sample(n, 5))
		if lines := strings.Count(text, "\n"); lines > 60 || lines < 5 {
			t.Errorf("%d causes take %d lines", n, lines)
		}
		if strings.ContainsAny(text, "\x1b\x07\u202e") {
			t.Errorf("control characters reach the terminal: %q", text)
		}
		if n == 4 && (!strings.Contains(text, "proof:") || !strings.Contains(text, "fix:") || !strings.Contains(text, "UNEXPLAINED")) {
			t.Errorf("the screen lacks something:\n%s", text)
		}
	}
}

func TestJSON(t *testing.T) {
	r := sample(3, 2)
	var got cause.Report
	if err := json.Unmarshal([]byte(written(t, "json", r)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Causes[1].ID != "1-x" || got.Causes[1].Number != 2 || len(got.Causes[1].Evidence) != 2 || got.Unexplained[0].Offset != 4000000 {
		t.Errorf("got %+v", got)
	}
}

func TestMarkdown(t *testing.T) {
	text := written(t, "markdown", sample(3, 2))
	// What stands between backquotes is code, and shown as it is.
	text = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`").ReplaceAllString(text, "")
	for _, bad := range []string{"<script", "</pre>", "`", "\x1b", "@all ", "\n## x"} {
		if strings.Contains(text, bad) {
			t.Errorf("the comment holds %q", bad)
		}
	}
	for _, good := range []string{"## NOT REPRODUCIBLE", "| # | cause |", "<details>", "### Unexplained", "First step that differs, 1/2 ", ": only h2 has it, ", ": only A has it, file of 12,345 bytes", "- … and 29,980 more", "… and 1 more pair of builds in report.html."} {
		if !strings.Contains(text, good) {
			t.Errorf("the comment lacks %q", good)
		}
	}
	if n := len(written(t, "markdown", sample(100, 60))); n > 60_000 {
		t.Errorf("a large comment has %d bytes", n)
	}
}

func TestHTML(t *testing.T) {
	page := written(t, "html", sample(3, 6))
	for _, bad := range []string{"<script>alert", "http://", "https://", " src=", "@import", "url(", "\x1b", "\u202e", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, good := range []string{`id="cause-3"`, `id="first-step"`, "<summary>20 more paths</summary>", "… and 29,960 more, in the lists beside the report", `id="unexplained"`, "<svg", "<del>one</del>", "<ins>two</ins>", "prefers-color-scheme:dark", `name="viewport"`} {
		if !strings.Contains(page, good) {
			t.Errorf("the page lacks %q", good)
		}
	}
	if n := strings.Count(page, "<script"); n != 1 {
		t.Errorf("the page has %d scripts", n)
	}
}

func TestHTMLIsQuick(t *testing.T) {
	begin := time.Now()
	page := written(t, "html", sample(300, 60))
	if len(page) < 10<<20 {
		t.Fatalf("the page has %d bytes only", len(page))
	}
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("%d MB took %v", len(page)>>20, d)
	}
}

func TestUnknownFormat(t *testing.T) {
	err := report.Write(&bytes.Buffer{}, "pdf", sample(0, 0))
	if err == nil || err.Error() != `no report format "pdf": expected one of text, json, markdown, html` {
		t.Errorf("got %v", err)
	}
}

// TestRealClicks opens the page in a browser and types on it. The page's own policy
// allows no script but its own, so the copy that is typed on has none.
func TestRealClicks(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("QUORATE_REAL is not set")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v; apt-get install chromium", err)
	}
	page := written(t, "html", sample(4, 6))
	policy := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`)
	if !policy.MatchString(page) {
		t.Fatal("the page has no policy")
	}
	typist := `<script>
const said = [];
const say = (what) => said.push(what + "=" + (document.activeElement.id || document.activeElement.tagName));
const type = (key) => { document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true})); say(key); };
type("j"); type("j"); type("k"); type("4"); type("G"); type("g");
type("Enter"); said.push("open=" + document.querySelectorAll("#cause-1 details[open]").length);
type("Enter"); said.push("open=" + document.querySelectorAll("#cause-1 details[open]").length);
type("e"); said.push("all=" + (document.querySelectorAll("details[open]").length === document.querySelectorAll("details").length));
type("?"); said.push("help=" + document.getElementById("help").open);
type("?"); said.push("help=" + document.getElementById("help").open);
said.push("maps=" + [...document.querySelectorAll("svg")].filter((s) => getComputedStyle(s).display !== "none").map((s) => s.getAttribute("class")));
said.push("ground=" + getComputedStyle(document.body).backgroundColor);
document.querySelector("svg a").dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
said.push("wide=" + (document.documentElement.scrollWidth <= window.innerWidth));
document.title = said.join(" ");
</script></body>`
	for _, screen := range []struct {
		width           int
		picture, ground string // which map is to be seen, and what ground the page has
		flags           []string
	}{
		{500, "maps=tall ", "ground=rgb(255, 255, 255)", nil},
		{1280, "maps=broad ", "ground=rgb(14, 17, 22)", []string{"--blink-settings=preferredColorScheme=0"}},
	} {
		width := screen.width
		title := dump(t, chromium, strings.Replace(policy.ReplaceAllString(page, ""), "</body>", typist, 1), width, screen.flags...)
		if !strings.Contains(title, screen.picture) || !strings.Contains(title, screen.ground) {
			t.Errorf("at %d pixels the page says %q, expected %q and %q", width, title, screen.picture, screen.ground)
		}
		want := "j=cause-1 j=cause-2 k=cause-1 4=cause-4 G=builds g=cause-1 Enter=cause-1 open=2 Enter=cause-1 open=0 e=cause-1 all=true"
		if !strings.HasPrefix(title, want) || !strings.Contains(title, "help=true") || !strings.Contains(title, "help=false") || !strings.HasSuffix(title, "wide=true") {
			t.Errorf("at %d pixels the page says %q, expected %q …", width, title, want)
		}
	}
	// With its policy in force, the page's own script still runs, and nothing else does.
	if title := dump(t, chromium, strings.Replace(page, "</body>", typist, 1), 1280); !strings.HasPrefix(title, "NOT REPRODUCIBLE") {
		t.Errorf("a foreign script ran: %q", title)
	}
}

// dump opens a page and returns its title afterwards.
func dump(t *testing.T, chromium, page string, width int, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "page.html")
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir=" + filepath.Join(dir, "profile"),
		fmt.Sprintf("--window-size=%d,900", width), "--virtual-time-budget=3000", "--dump-dom"}, flags...)
	cmd := exec.CommandContext(t.Context(), chromium, append(args, "file://"+file)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := regexp.MustCompile(`(?s)<title>(.*?)</title>`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no title in %.500s", out)
	}
	return string(m[1])
}
