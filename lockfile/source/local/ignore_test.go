package local

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// git is asked about every path of a tree: `git check-ignore` judges us.
type judge struct{ dir string }

func newJudge(t testing.TB) judge {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v: %s", err, out)
	}
	os.RemoveAll(filepath.Join(dir, ".git", "info", "exclude"))
	return judge{dir}
}

var judged = []string{
	"a", "b", "ab", "abc", "foo", "foo.o", "a.o", "foo bar", "foo ", "#x", "!x", "\\x", "x", "-", "]", "[", "a-b", "^", "é", "A", "z.", ".z", "1", "a]", "[a]", "*", "**",
	"d/a", "d/b", "d/foo", "d/foo.o", "d/e/a", "d/e/foo", "d/e/f/a", "d/e/f/foo.o", "foo.d/a", "foo.d/foo/b", "e/d/foo", "x.d/d/e/a",
}

// ignoredByGit returns which of the judged paths git leaves out, with ignore files by folder.
func (j judge) ignoredByGit(t testing.TB, ignores map[string]string) map[string]bool {
	t.Helper()
	for _, p := range judged {
		p = filepath.Join(j.dir, p)
		os.MkdirAll(filepath.Dir(p), 0o755)
		if _, err := os.Lstat(p); err != nil {
			if err := os.WriteFile(p, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for dir, text := range ignores {
		os.WriteFile(filepath.Join(j.dir, dir, ".gitignore"), []byte(text), 0o644)
		defer os.Remove(filepath.Join(j.dir, dir, ".gitignore"))
	}
	cmd := exec.Command("git", "-C", j.dir, "-c", "core.excludesFile=/dev/null", "check-ignore", "-z", "--stdin", "--no-index")
	cmd.Stdin = strings.NewReader(strings.Join(judged, "\x00") + "\x00")
	out, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1) {
		t.Fatalf("git check-ignore: %v", err)
	}
	set := map[string]bool{}
	for p := range strings.SplitSeq(string(out), "\x00") {
		if p != "" {
			set[p] = true
		}
	}
	return set
}

// ignoredByUs walks down to a path as Scan does.
func ignoredByUs(ignores map[string]string, p string) bool {
	var rules []ruleFile
	names := strings.Split(p, "/")
	for i := range names {
		dir := path.Join(append([]string{"."}, names[:i]...)...)
		if text, ok := ignores[dir]; ok {
			rules = append(rules, ruleFile{dir: dir, rules: parseIgnore([]byte(text))})
		}
		if ignored(rules, path.Join(names[:i+1]...), i+1 < len(names)) {
			return true
		}
	}
	return false
}

func (j judge) compare(t testing.TB, ignores map[string]string) {
	t.Helper()
	git := j.ignoredByGit(t, ignores)
	for _, p := range judged {
		if us := ignoredByUs(ignores, p); us != git[p] {
			t.Errorf("%q with %q: git says %v, we %v", p, ignores, git[p], us)
		}
	}
}

func TestIgnoreAgreesWithGit(t *testing.T) {
	j := newJudge(t)
	for _, text := range []string{
		"foo", "foo/", "/foo", "/d/foo", "d/foo", "d/", "d/*", "d/**", "d/**/foo", "**/foo", "**/foo/b", "**", "*", "/*", "*/", "*.o", "*.d/", "d/*.o", "d/*/foo",
		"# comment\nfoo", "\\#x", "!x", "\\!x", "*\n!foo", "*\n!*/\n!foo.o", "d/\n!d/a", "d/*\n!d/a", "foo \n", "foo\\ ", "foo\\ \\ ", "foo bar", "foo\t", "foo\r\n*.o\r\n", "foo\r",
		"\xef\xbb\xbffoo", "[a-c]", "[!a-c]", "[^a]", "[]]", "[]-]", "[a-]", "[-a]", "[a", "[", "[[]", "[[:alpha:]]", "[[:nope:]]", "[[:alpha]", "[[:alpha:", "[\\]]", "[\\a-c]", "[a\\-c]", "[z-a]",
		"?", "??", "???", "[é]", "\\f\\o\\o", "foo\\", "\\", "\\\\x", "/", "//", "!", "!/", "", " ", "foo//", "//foo", "a/**", "/**", "/**/a", "d/**/", "d/**/a", "d/e**", "d/**a", "d**/a", "**a", "a**",
		"***", "d/***/a", "***/foo", "d/**/**/a", "**/**", "**/*", "*/**", "**\\/foo", "d\\/a", "*a*", "*.*", ".*", "a*b*c", "[/]", "d[/]a", "d?a", "d*a", "/d/e/f", "e/f", "/e/f", "d/e/f/", "[[:space:]x]", "[a[:digit:]-]",
		"foo\x00bar", "[a-c-e]", "[--a]", "[!]]", "[!]", "[^]a]", "[[:upper:][:digit:]]", "[[:]", "[[:]]", "[[::]]", "[[a]]", "*/foo", "**/d/**/a", "/**/foo/**", "\\*", "\\*\\*", "\\[a]", "!!x", "!\\!x",
	} {
		j.compare(t, map[string]string{".": text})
	}
	j.compare(t, map[string]string{".": "*.o\nfoo\n", "d": "!foo.o\n/foo\n", "d/e": "!foo\n*\n!f\n"})
	j.compare(t, map[string]string{".": "/d/e", "d/e": "!*"})
	j.compare(t, map[string]string{".": "!a\n", "d": "a\n", "d/e/f": "!a\n"})
}

func TestIgnoreAgreesWithGitOnAnything(t *testing.T) {
	j := newJudge(t)
	piece := rapid.SampledFrom([]string{"*", "**", "/", "a", "b", "d", "e", "foo", ".o", "?", "[a-f]", "[!a]", "\\", " ", "!", "#", "[", "]", "-", ":", "\n", "[[:alpha:]]", "**/", "/**", "/**/", "\\ ", "^"})
	deadline := time.Now().Add(3 * time.Second) // each check starts git
	rapid.Check(t, func(rt *rapid.T) {
		if time.Now().After(deadline) {
			return
		}
		text := strings.Join(rapid.SliceOfN(piece, 1, 8).Draw(rt, "pattern"), "")
		j.compare(rt2t{t, rt}, map[string]string{".": text})
	})
}

// rt2t lets rapid shrink what fails.
type rt2t struct {
	testing.TB
	rt *rapid.T
}

func (t rt2t) Errorf(format string, args ...any) { t.rt.Fatalf(format, args...) }

// No pattern takes long, however it is made.
func TestIgnoreIsLinear(t *testing.T) {
	rules := parseIgnore([]byte(strings.Repeat("a*", 2000) + "b\n" + "/" + strings.Repeat("**/", 2000) + "b\n"))
	start := time.Now()
	if ignored([]ruleFile{{dir: ".", rules: rules}}, strings.Repeat("a", 2000)+"/"+strings.Repeat("a/", 900)+"a", false) {
		t.Error("ignored")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func FuzzIgnore(f *testing.F) {
	for _, s := range []string{"*.o\n!a/**/b\n", "[[:alpha:]x-z]\\", "/d/***/", "[!]-]\n#\n\\#"} {
		f.Add([]byte(s), "d/e/foo.o", true)
	}
	f.Fuzz(func(t *testing.T, text []byte, p string, isDir bool) {
		if len(p) > 4096 || len(text) > 4096 {
			return
		}
		rules := parseIgnore(text)
		got := ignored([]ruleFile{{dir: ".", rules: rules}}, p, isDir)
		again := parseIgnore(append(text, "\n# a comment changes nothing\n"...))
		if !strings.HasSuffix(string(text), "\r") && ignored([]ruleFile{{dir: ".", rules: again}}, p, isDir) != got {
			t.Errorf("a comment changed whether %q ignores %q", text, p)
		}
	})
}
