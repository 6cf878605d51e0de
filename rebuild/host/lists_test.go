package host

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/lockfile/digest"
)

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestIsListName(t *testing.T) {
	good := ListName(digest.Of([]byte("x")))
	for name, want := range map[string]bool{
		good: true, strings.ToUpper(good): false, good[1:]: false, good + ".gz": false, "../" + good: false, "a/" + good: false, ".gz": false, "": false,
		strings.TrimSuffix(good, ".gz"): false,
	} {
		if IsListName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestListsLimits(t *testing.T) {
	name := func(s string) string { return ListName(digest.Of([]byte(s))) }
	offer := func(l *Lists, s string, size int64, r io.Reader) bool { return l.Take(name(s), size, r) }
	for _, test := range []struct {
		summary string
		offer   func(l *Lists) bool // whether more may come
		more    bool
		kept    int
		warning string
	}{
		{"one", func(l *Lists) bool { return offer(l, "a", 3, strings.NewReader("abc")) }, true, 1, ""},
		{"longer than it says", func(l *Lists) bool { return offer(l, "a", 2, strings.NewReader("abc")) }, true, 1, ""},
		{"shorter than it says", func(l *Lists) bool { return offer(l, "a", 4, strings.NewReader("abc")) }, true, 0, `a list of what its steps left is not kept: "` + name("a") + `" ended after 3 of 4 bytes`},
		{"twice", func(l *Lists) bool {
			return offer(l, "a", 1, strings.NewReader("a")) && offer(l, "a", 1, strings.NewReader("b"))
		}, true, 1, "a list of what its steps left is not kept: open "},
		{"too large", func(l *Lists) bool { return offer(l, "a", MaxList+1, zeros{}) }, false, 0, `a list of what its steps left is not kept: "` + name("a") + `" has 16777217 bytes, and at most 16777216 are taken`},
		{"all together", func(l *Lists) bool {
			for _, s := range []string{"a", "b", "c", "d"} {
				if !offer(l, s, MaxList, zeros{}) {
					return true
				}
			}
			return offer(l, "e", 1, zeros{}) || offer(l, "f", 0, zeros{}) // nothing after the first that has no room
		}, false, 4, `a list of what its steps left is not kept: "` + name("e") + `" has 1 bytes, and at most 0 are taken`},
		{"no names", func(l *Lists) bool { return l.Take("../x", 1, zeros{}) && l.RefuseFile("y") }, true, 0, `2 lists of what its steps left are not kept; the first: "../x" is not the name of one`},
		{"no end of them", func(l *Lists) bool {
			for range MaxLists {
				l.Take("x", 1, zeros{})
			}
			return l.Take(name("a"), 1, zeros{})
		}, false, 0, `1000 lists of what its steps left are not kept; the first: "x" is not the name of one`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			dir := t.TempDir()
			l := NewLists(dir)
			if more := test.offer(l); more != test.more {
				t.Errorf("more may come: %v", more)
			}
			kept, _ := os.ReadDir(filepath.Join(dir, ListsDir))
			if len(kept) != test.kept {
				t.Errorf("kept %v, want %d", kept, test.kept)
			}
			said := ""
			l.Warn(func(e Event) { said += e.Message })
			if !strings.HasPrefix(said, test.warning) || (said == "") != (test.warning == "") {
				t.Errorf("warned %q, want %q", said, test.warning)
			}
		})
	}
}
