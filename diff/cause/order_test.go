package cause

import (
	"fmt"
	"path"
	"strings"
	"testing"
)

// heldPaths are what sides hold: paths, and contents of some of them behind "=". With "" they hold everything.
type heldPaths map[string]bool

func (h heldPaths) Holds(p string) bool {
	p = strings.Trim(path.Clean("/"+p), "/")
	for q := range h {
		if q == "" || q == p || strings.HasSuffix(q, "/"+p) {
			return true
		}
	}
	return false
}

func (h heldPaths) Siblings(names []string) (int, bool) {
	children := map[string]int{}
	for q := range h {
		children[path.Dir(q)]++
	}
	for folder, n := range children {
		all := true
		for _, s := range names {
			all = all && h[folder+"/"+s]
		}
		if all {
			return n - len(names), true
		}
	}
	return 0, h[""]
}

func (h heldPaths) HoldsSize(n int64) bool {
	for q := range h {
		if q == "" || len(q) == int(n)+1 && q[0] == '=' {
			return true
		}
	}
	return false
}

func (h heldPaths) HoldsContents(b []byte) bool { return h[""] || h["="+string(b)] }

func held(paths ...string) heldPaths {
	h := heldPaths{}
	for _, p := range paths {
		h[p] = true
	}
	return h
}

func TestOrder(t *testing.T) {
	const first, second = "first of two files, whole\nx 1\n", "second of two files, whole\nx 2\n"
	sources := held("src/main.c", "src/eta.c", "src/beta.c", "src/README")
	tests := []struct {
		summary    string
		held       holder
		a, b       string
		want       string
		confidence float64
	}{
		{"names of files that are here", sources, "main.c\neta.c\nbeta.c\n", "beta.c\nmain.c\neta.c\n", "6-file-order", 1},
		{"paths that end in such", sources, "./src/main.c\n./src/eta.c\n", "./src/eta.c\n./src/main.c\n", "6-file-order", 1},
		{"paths of another folder", sources, "./lib/main.c\n./lib/eta.c\n", "./lib/eta.c\n./lib/main.c\n", "6-file-order", 0.8},
		{"paths, and nothing is known", nil, "./src/main.c\n./src/eta.c\n", "./src/eta.c\n./src/main.c\n", "6-file-order", 0.8},
		{"a heading that stays", sources, "two files of many:\nmain.c\neta.c\n", "two files of many:\neta.c\nmain.c\n", "6-file-order", 1},
		{"all of a folder, without endings", held("d/red", "d/green", "d/blue"), "red\nblue\ngreen\n", "green\nred\nblue\n", "6-file-order", 1},
		{"a few of a folder, without endings", held("d/red", "d/green", "d/blue", "d/a", "d/b", "d/c"), "red\nblue\ngreen\n", "green\nred\nblue\n", "7-hash-order", 0.7},
		{"names of modules", sources, "os.path\njson.decoder\nast.main\n", "json.decoder\nast.main\nos.path\n", "7-hash-order", 0.7},
		{"versions", held("lib/1.2"), "1.2\n1.3\n1.4\n", "1.3\n1.4\n1.2\n", "7-hash-order", 0.7},
		{"sentences", sources, "a word\nthe word\nno word\n", "no word\na word\nthe word\n", "7-hash-order", 0.7},
		{"sentences that name one file all", sources, "a main.c\nthe main.c\nno main.c\n", "no main.c\na main.c\nthe main.c\n", "7-hash-order", 0.7},
		{"sums", sources, strings.Repeat("b", 64) + "  main.c\n" + strings.Repeat("a", 64) + "  eta.c\n", strings.Repeat("a", 64) + "  eta.c\n" + strings.Repeat("b", 64) + "  main.c\n", "6-file-order", 1},
		{"sums as BSD writes them", sources, "SHA256 (main.c) = " + strings.Repeat("b", 64) + "\nSHA256 (eta.c) = " + strings.Repeat("a", 64) + "\n", "SHA256 (eta.c) = " + strings.Repeat("a", 64) + "\nSHA256 (main.c) = " + strings.Repeat("b", 64) + "\n", "6-file-order", 1},
		{"mtree", sources, "#mtree\n./src/main.c mode=644 size=7\n./src/eta.c mode=644 size=6\n", "#mtree\n./src/eta.c mode=644 size=6\n./src/main.c mode=644 size=7\n", "6-file-order", 1},
		{"find -ls", sources, "12 4 -rw-r--r-- 1 root root 7 Jan  1 08:00 ./src/main.c\n13 4 -rw-r--r-- 1 root root 6 Jan  1 08:00 ./src/eta.c\n", "13 4 -rw-r--r-- 1 root root 6 Jan  1 08:00 ./src/eta.c\n12 4 -rw-r--r-- 1 root root 7 Jan  1 08:00 ./src/main.c\n", "6-file-order", 1},
		{"records that have a file", sources, "\\addlanguage{english}{main.c}{}{2}{3}\n\\addlanguage{german}{eta.c}{}{2}{2}\n\\addlanguage{latin}{beta.c}{}{2}{2}\n", "\\addlanguage{latin}{beta.c}{}{2}{2}\n\\addlanguage{german}{eta.c}{}{2}{2}\n\\addlanguage{english}{main.c}{}{2}{3}\n", "7-hash-order", 0.7},
		{"records that begin with a word", sources, "english main.c\ngerman eta.c\nlatin beta.c\n", "latin beta.c\ngerman eta.c\nenglish main.c\n", "7-hash-order", 0.7},
		{"files with the same around each", sources, "  <file>main.c</file>\n  <file>eta.c</file>\n  <file>beta.c</file>\n", "  <file>beta.c</file>\n  <file>main.c</file>\n  <file>eta.c</file>\n", "6-file-order", 1},
		{"properties of files", sources, "main.c=1\neta.c=2\nbeta.c=3\n", "eta.c=2\nmain.c=1\nbeta.c=3\n", "7-hash-order", 1},
		{"properties whose values are files", sources, "a=main.c\nb=eta.c\n", "b=eta.c\na=main.c\n", "7-hash-order", 1},
		{"JSON by files", sources, "{\n \"src/main.c\": 1,\n \"src/eta.c\": 2,\n \"x\": 3\n}\n", "{\n \"src/eta.c\": 2,\n \"src/main.c\": 1,\n \"x\": 3\n}\n", "7-hash-order", 1},
		{"JSON lists of files", sources, `{"files": ["main.c", "eta.c"]}`, `{"files": ["eta.c", "main.c"]}`, "6-file-order", 1},
		{"JSON lists of words", sources, `{"words": ["main", "eta"]}`, `{"words": ["eta", "main"]}`, "7-hash-order", 1},
		{"JSON keys and lists of files", sources, `{"a": 1, "files": ["main.c", "eta.c"]}`, `{"files": ["eta.c", "main.c"], "a": 1}`, "7-hash-order", 1},
		{"ls -R", held("d/x/one", "d/x/two", "d/y/one", "d/y/three"), "d/x:\ntwo\none\n\nd/y:\nthree\none\n", "d/y:\none\nthree\n\nd/x:\none\ntwo\n", "6-file-order", 1},
		{"ls -lR", held("x/one", "x/two", "y/one"), "./x:\ntotal 8\n-rw-r--r-- 1 root root 1 Jan  1 08:00 two\n-rw-r--r-- 1 root root 1 Jan  1 08:00 one\n\n./y:\ntotal 4\n-rw-r--r-- 1 root root 1 Jan  1 08:00 one\n", "./y:\ntotal 4\n-rw-r--r-- 1 root root 1 Jan  1 08:00 one\n\n./x:\ntotal 8\n-rw-r--r-- 1 root root 1 Jan  1 08:00 one\n-rw-r--r-- 1 root root 1 Jan  1 08:00 two\n", "6-file-order", 1},
		{"ls -R of what is not here", sources, "./x:\ntwo\none\n\n./y:\nthree\none\n", "./y:\none\nthree\n\n./x:\none\ntwo\n", "6-file-order", 0.8},
		{"names that moved to another folder", held("x/one", "x/two", "y/three"), "./x:\ntwo\none\n\n./y:\nthree\n", "./x:\none\n\n./y:\ntwo\nthree\n", "7-hash-order", 0.7},
		{"headings of no folders", sources, "fruits:\nplum\npear\n\nroots:\nbeet\n", "roots:\nbeet\n\nfruits:\npear\nplum\n", "7-hash-order", 0.7},
		{"ls -R by a locale", held("x/one", "x/Two", "x/three"), "./x:\nTwo\none\nthree\n", "./x:\none\nthree\nTwo\n", "16-locale", 1},
		{"parts with a heading", held("etc/d/10.cnf", "etc/d/20.cnf"), "# made\n## From: /etc/d/20.cnf\nx\ny\n## From: /etc/d/10.cnf\nz\n# end\n", "# made\n## From: /etc/d/10.cnf\nz\n## From: /etc/d/20.cnf\nx\ny\n# end\n", "6-file-order", 1},
		{"parts with a heading and an end, and an empty line between", held("etc/d/10.cnf", "etc/d/20.cnf"), "# made\n\n# From: /etc/d/20.cnf\nx\ny\n# End of: /etc/d/20.cnf\n\n# From: /etc/d/10.cnf\nz\n# End of: /etc/d/10.cnf\n", "# made\n\n# From: /etc/d/10.cnf\nz\n# End of: /etc/d/10.cnf\n\n# From: /etc/d/20.cnf\nx\ny\n# End of: /etc/d/20.cnf\n", "6-file-order", 1},
		{"parts with a heading of no file", sources, "# made\n## From: /etc/d/20.cnf\nx\ny\n## From: /etc/d/10.cnf\nz\n", "# made\n## From: /etc/d/10.cnf\nz\n## From: /etc/d/20.cnf\nx\ny\n", "7-hash-order", 0.7},
		{"whole files", held("="+first, "="+second), "# all\n" + first + second, "# all\n" + second + first, "6-file-order", 1},
		{"whole files and as much of others", held("=" + first), first + second, second + first, "7-hash-order", 0.7},
		{"one end of line less", sources, "main.c\neta.c\n", "eta.c\nmain.c", "", 0},
		{"a file that another side lacks", sources, "main.c\neta.c\n", "beta.c\nmain.c\n", "", 0},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			p := newPair(Facts{}, Facts{})
			p.held = test.held
			list, _ := p.whole("x", []byte(test.a), []byte(test.b))
			if len(list) == 0 {
				if test.want != "" {
					t.Errorf("nothing, expected %q", test.want)
				}
				return
			}
			if c := list[0]; c.entry != test.want || c.confidence != test.confidence {
				t.Errorf("got %q (%v: %s), expected %q (%v)", c.entry, c.confidence, c.fact+c.why, test.want, test.confidence)
			}
		})
	}
}

// A list of what is here, in another order, where lines differ as well: each cause is claimed.
func TestOrderOfChanged(t *testing.T) {
	p := newPair(hostA, hostB)
	p.held = held("src/main.c", "src/eta.c")
	a, b := "./src/main.c 2026-01-01T08:01:02Z\n./src/eta.c -\n", "./src/eta.c -\n./src/main.c 2026-01-02T02:05:06Z\n"
	list, ok := p.whole("x", []byte(a), []byte(b))
	if !ok || len(list) != 2 || list[0].entry != "6-file-order" || list[1].entry != "1-build-time" {
		t.Errorf("%v %+v", ok, list)
	}
	if list, ok := p.whole("x", []byte(a), []byte(strings.Replace(b, "-\n", "other\n", 1))); ok {
		t.Errorf("a word that nothing is known of is explained: %+v", list)
	}
}

// manySizes has a file of every size, none with the contents asked for.
type manySizes struct {
	heldPaths
	asked int
}

func (m *manySizes) HoldsSize(int64) bool        { m.asked++; return true }
func (m *manySizes) HoldsContents(b []byte) bool { m.asked += len(b); return false }

// A text of many lines does not take the square of them.
func TestJoinedIsBounded(t *testing.T) {
	var lines []string
	for i := range 100_000 {
		lines = append(lines, fmt.Sprintf("line %d of a long text", i))
	}
	m := &manySizes{}
	p := newPair(Facts{}, Facts{})
	p.held = m
	if found, _ := p.wholeFiles(lines); found != nil || m.asked > maxTried+2*maxSizes {
		t.Errorf("%d files, %d asked", len(found), m.asked)
	}
}

func TestWordsOfFiles(t *testing.T) {
	p := newPair(Facts{}, Facts{})
	p.held = held("src/main.c", "src/eta.c", "src/beta.c")
	for line, want := range map[[2]string]string{
		{"SRCS = main.c eta.c beta.c", "SRCS = beta.c main.c eta.c"}:                         "6-file-order",
		{"colours = red green blue", "colours = blue red green"}:                             "7-hash-order",
		{`"files": ["main.c", "eta.c", "beta.c"]`, `"files": ["beta.c", "eta.c", "main.c"]`}: "6-file-order",
	} {
		list, ok := p.line(line[0], line[1])
		if !ok || len(list) != 1 || list[0].entry != want {
			t.Errorf("%q: %v %+v, expected %q", line, ok, list, want)
		}
	}
}

func TestMendOrder(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"find opt -type f >list", "find opt -type f | LC_ALL=C sort >list"},
		{"find d -type f -exec cat {} + >all", "find d -type f -print0 | LC_ALL=C sort -z | xargs -0 cat >all"},
		{`find d -name '*.cnf' -exec cat {} \; >all`, `find d -name '*.cnf' -print0 | LC_ALL=C sort -z | xargs -0 cat >all`},
		{`find "$d" -maxdepth 1 -exec cat '{}' \; >> "$all"`, `find "$d" -maxdepth 1 -print0 | LC_ALL=C sort -z | xargs -0 cat >> "$all"`},
		{"cd t && ls -LARU ./ >ls-R", "cd t && LC_ALL=C ls -LAR ./ >ls-R"},
		{"ls -U >list", "LC_ALL=C ls >list"},
		{"ls -l -f d", "LC_ALL=C ls -l d"},
		{"ls -R >list", "ls -R >list"},
		{"tools -U x", "tools -U x"},
	} {
		if got := sortedLs(sortedFind(test.line)); got != test.want {
			t.Errorf("%q became %q, expected %q", test.line, got, test.want)
		}
	}
}
