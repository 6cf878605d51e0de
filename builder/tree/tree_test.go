package tree_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

func dir(p string) tree.Entry { return tree.Entry{Path: p, Kind: tree.Dir, Mode: 0o755} }
func file(p, body string) tree.Entry {
	return tree.NewFile(p, 0o644, 0, []byte(body))
}
func symlink(p, to string) tree.Entry { return tree.Entry{Path: p, Kind: tree.Symlink, Link: to} }
func hardlink(p, to string) tree.Entry {
	return tree.Entry{Path: p, Kind: tree.Hardlink, Link: to}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		summary string
		entries []tree.Entry
		want    string
	}{
		{"empty path", []tree.Entry{file("", "x")}, `"" is empty or the root itself`},
		{"root", []tree.Entry{dir(".")}, `"." is empty or the root itself`},
		{"absolute", []tree.Entry{file("/a", "x")}, `"/a" is absolute`},
		{"unclean", []tree.Entry{file("a//b", "x")}, `"a//b" is not clean`},
		{"slash behind", []tree.Entry{dir("a/")}, `"a/" is not clean`},
		{"parent", []tree.Entry{file("../a", "x")}, `"../a" is not clean`},
		{"NUL", []tree.Entry{file("a\x00", "x")}, `"a\x00" has a NUL byte`},
		{"whiteout name", []tree.Entry{file("a/.wh.b", "x")}, `"a/.wh.b" has a part that begins with ".wh.", which means removal in an image`},
		{"long part", []tree.Entry{file(strings.Repeat("a", 256), "x")}, `"` + strings.Repeat("a", 256) + `" has a part of 256 bytes; at most 255 are possible`},
		{"twice", []tree.Entry{file("a", "x"), dir("a")}, `"a" is there twice`},
		{"below a file", []tree.Entry{file("a", "x"), file("a/b/c", "x")}, `"a/b/c" lies below "a", which is not a directory`},
		{"below a link", []tree.Entry{symlink("a", "/"), file("a/b", "x")}, `"a/b" lies below "a", which is not a directory`},
		{"hard link to nothing", []tree.Entry{hardlink("b", "a")}, `"b" is a hard link to "a", which is no regular file that sorts before it`},
		{"hard link to a later one", []tree.Entry{hardlink("a", "b"), file("b", "x")}, `"a" is a hard link to "b", which is no regular file that sorts before it`},
		{"hard link to a directory", []tree.Entry{dir("a"), hardlink("b", "a")}, `"b" is a hard link to "a", which is no regular file that sorts before it`},
		{"hard link to a hard link", []tree.Entry{file("a", "x"), hardlink("b", "a"), hardlink("c", "b")}, `"c" is a hard link to "b", which is no regular file that sorts before it`},
		{"whiteout", []tree.Entry{{Path: "a", Kind: tree.Whiteout}}, `"a" is a whiteout, which only differences between trees hold`},
		{"unknown kind", []tree.Entry{{Path: "a", Kind: 'x'}}, `"a" is of unknown kind 'x'`},
		{"link to nothing", []tree.Entry{symlink("a", "")}, `"a" is a symbolic link to "", which cannot be`},
		{"mode", []tree.Entry{{Path: "a", Kind: tree.Dir, Mode: 0o10000}}, `"a" has mode 010000, above 07777`},
		{"owner", []tree.Entry{{Path: "a", Kind: tree.Dir, UID: -1}}, `"a" has owner -1:0, outside of 0 to 4294967294`},
		{"directory with bytes", []tree.Entry{{Path: "a", Kind: tree.Dir, Size: 1}}, `"a" has contents and is not a regular file`},
		{"file without digest", []tree.Entry{{Path: "a", Kind: tree.File, Size: 1}}, `"a" has 1 bytes and digest "", which cannot be`},
		{"attribute", []tree.Entry{{Path: "a", Kind: tree.Dir, Xattrs: map[string]string{"user.a=b": ""}}}, `"a" has the extended attribute "user.a=b" of 0 bytes, which cannot be held`},
	} {
		_, err := tree.New(c.entries)
		var typed *tree.EntryError
		if !errors.As(err, &typed) || err.Error() != c.want {
			t.Errorf("%s: %v\nexpected %s", c.summary, err, c.want)
		}
	}
}

const sample = `#quorate-tree 1
bin type=l mode=0777 uid=0 gid=0 time=9 link=usr/bin
tmp type=d mode=1777 uid=0 gid=0 time=0
tmp/a\040\134\303\244 type=p mode=0600 uid=0 gid=0 time=-1
usr/bin/hello type=f mode=4755 uid=1 gid=2 time=1700000000 size=5 sha256=2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 xattr.security.capability=0001 xattr.user.a=
usr/bin/hi type=h link=usr/bin/hello
usr/empty type=f mode=0644 uid=0 gid=0 time=0 size=0 sha256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
`

func sampleTree(t *testing.T) *tree.Tree {
	t.Helper()
	hello := file("usr/bin/hello", "hello")
	hello.Mode, hello.UID, hello.GID, hello.ModTime = 0o4755, 1, 2, 1700000000
	hello.Xattrs = map[string]string{"user.a": "", "security.capability": "\x00\x01"}
	s := symlink("bin", "usr/bin")
	s.ModTime = 9
	made, err := tree.New([]tree.Entry{
		hardlink("usr/bin/hi", "usr/bin/hello"), hello, s, file("usr/empty", ""),
		{Path: "tmp", Kind: tree.Dir, Mode: 0o1777}, {Path: `tmp/a \ä`, Kind: tree.Fifo, Mode: 0o600, ModTime: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func format(t *tree.Tree) string {
	var b bytes.Buffer
	if err := t.Format(&b); err != nil {
		panic(err)
	}
	return b.String()
}

func TestFormat(t *testing.T) {
	made := sampleTree(t)
	if got := format(made); got != sample {
		t.Errorf("got\n%s\nexpected\n%s", got, sample)
	}
	if made.Digest() != digest.Of([]byte(sample)) {
		t.Error("the digest is not that of the listing")
	}
	again, err := tree.Parse(strings.NewReader(sample))
	if err != nil || format(again) != sample {
		t.Errorf("read again: %v\n%s", err, format(again))
	}
	hi, ok := again.Lookup("usr/bin/hi")
	if !ok || hi.Mode != 0o4755 || hi.UID != 1 || hi.Link != "usr/bin/hello" {
		t.Errorf("hard link %+v", hi)
	}
}

func TestParseRefuses(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(sample, old, new, 1) }
	for _, c := range []struct{ summary, text, want string }{
		{"empty", "", `cannot parse listing: line 1: "" found, expected "#quorate-tree 1"`},
		{"other version", "#quorate-tree 2\n", `cannot parse listing: line 1: "#quorate-tree 2" found, expected "#quorate-tree 1"`},
		{"truncated", sample[:len(sample)-1], `cannot parse listing: line 7: the last line is not ended: truncated`},
		{"unknown key", replace("tmp type=d", "tmp type=d nlink=1"), `cannot parse listing: line 3: key "nlink": is not known`},
		{"order of keys", replace("uid=1 gid=2", "gid=2 uid=1"), `cannot parse listing: line 5: not in canonical form, expected`},
		{"leading zero", replace("uid=1", "uid=01"), `cannot parse listing: line 5: not in canonical form, expected`},
		{"needless escape", replace("tmp type=d", `t\155p type=d`), `cannot parse listing: line 3: not in canonical form, expected`},
		{"bad escape", replace(`\040`, `\04`), `cannot parse listing: line 4: invalid escape "\\04\\"`},
		{"order", replace("tmp type=d", "zzz type=d"), `cannot parse listing: line 4: "tmp/a \\ä" does not sort after "zzz"`},
		{"below a link", replace("tmp/a", "bin/a"), `cannot parse listing: line 4: "bin/a \\ä" does not sort after "tmp"`},
		{"blank line", replace("tmp type=d", "\ntmp type=d"), `cannot parse listing: line 3: "" is not of the form key=value`},
		{"escape of the tree", replace("bin type=l", "../bin type=l"), `cannot parse listing: line 2: "../bin" is not clean`},
	} {
		_, err := tree.Parse(strings.NewReader(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v\nexpected %s", c.summary, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("#quorate-tree 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		made, err := tree.Parse(bytes.NewReader(b))
		if err == nil && format(made) != string(b) {
			t.Fatalf("%q is written again as %q", b, format(made))
		}
	})
}

func TestAt(t *testing.T) {
	late := file("b", "x")
	late.ModTime = 300
	early := file("a", "x")
	early.ModTime = 100
	d := dir("d")
	d.ModTime = 100
	made, err := tree.New([]tree.Entry{late, early, d})
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, e := range made.At(200).Entries() {
		got = append(got, e.ModTime)
	}
	if !slices.Equal(got, []int64{100, 200, 200}) {
		t.Errorf("times %v, expected 100 (its own), 200 (the epoch), 200 (a directory)", got)
	}
	if e, _ := made.Lookup("b"); e.ModTime != 300 {
		t.Error("the tree itself was changed")
	}
}

func TestWithParents(t *testing.T) {
	got := tree.WithParents([]tree.Entry{file("a/b/c", "x"), {Path: "a/b-d", Kind: tree.Whiteout}, {Path: "z", Kind: tree.Dir, Mode: 0o700}, file("z/y", "")})
	var lines []string
	for _, e := range got {
		lines = append(lines, fmt.Sprintf("%c %s %o", e.Kind, e.Path, e.Mode))
	}
	if want := "d a 755,d a/b 755,w a/b-d 0,f a/b/c 644,d z 700,f z/y 644"; strings.Join(lines, ",") != want {
		t.Errorf("%v, expected %s", lines, want)
	}
}

func TestOpen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(name, []byte("..hello.."), 0o644); err != nil {
		t.Fatal(err)
	}
	good := file("usr/hello", "hello")
	good.Content = tree.Section{File: name, Offset: 2, Size: 5}
	for _, c := range []struct {
		summary string
		change  func(*tree.Entry)
		want    string // error; "" when it reads well
	}{
		{"section", func(*tree.Entry) {}, ""},
		{"bytes", func(e *tree.Entry) { e.Content = tree.Bytes("hello") }, ""},
		{"other bytes", func(e *tree.Entry) { e.Content = tree.Section{File: name, Offset: 1, Size: 5} },
			`contents of "usr/hello": bytes have digest ` + digest.Of([]byte(".hell")).String() + `, expected ` + digest.Of([]byte("hello")).String()},
		{"too short", func(e *tree.Entry) { e.Content = tree.Section{File: name, Offset: 2, Size: 4} }, `contents of "usr/hello": ended after 4 bytes, expected 5`},
		{"too long", func(e *tree.Entry) { e.Content = tree.Section{File: name, Offset: 2, Size: 6} }, `contents of "usr/hello": more than the expected 5 bytes`},
		{"behind the end", func(e *tree.Entry) { e.Content = tree.Section{File: name, Offset: 100, Size: 5} }, `contents of "usr/hello": ended after 0 bytes, expected 5`},
		{"no content", func(e *tree.Entry) { e.Content = nil }, `contents of "usr/hello": no content to open`},
		{"directory", func(e *tree.Entry) { e.Kind = tree.Dir }, `contents of "usr/hello": is not a regular file`},
	} {
		e := good
		c.change(&e)
		got, err := readAll(e)
		var typed *tree.ContentError
		if c.want == "" {
			if err != nil || got != "hello" {
				t.Errorf("%s: %q, %v", c.summary, got, err)
			}
		} else if !errors.As(err, &typed) || err.Error() != c.want {
			t.Errorf("%s: %v\nexpected %s", c.summary, err, c.want)
		}
	}
}

func readAll(e tree.Entry) (string, error) {
	r, err := tree.Open(e)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestDiff(t *testing.T) {
	for _, c := range []struct {
		summary  string
		from, to []tree.Entry
		want     string
	}{
		{"same", []tree.Entry{file("a", "1")}, []tree.Entry{file("a", "1")}, ""},
		{"new with its parents", nil, []tree.Entry{file("a/b", "1")}, "d a, f a/b"},
		{"changed", []tree.Entry{file("a/b", "1")}, []tree.Entry{file("a/b", "2")}, "f a/b"},
		{"removed folder", []tree.Entry{file("a/b", "1"), file("a/c/d", "1")}, nil, "w a"},
		{"removed file", []tree.Entry{file("a/b", "1"), file("a/c", "1")}, []tree.Entry{file("a/c", "1")}, "w a/b"},
		{"folder becomes file", []tree.Entry{file("a/b", "1")}, []tree.Entry{file("a", "1")}, "f a"},
		{"file becomes folder", []tree.Entry{file("a", "1")}, []tree.Entry{file("a/b", "1")}, "d a, f a/b"},
		{"folder becomes link", []tree.Entry{file("a/b", "1"), dir("c")}, []tree.Entry{symlink("a", "c"), dir("c")}, "l a"},
		{"one name more", []tree.Entry{file("a", "1")}, []tree.Entry{file("a", "1"), hardlink("b", "a")}, "f a, h b"},
		{"all names of a changed file", []tree.Entry{file("a", "1"), hardlink("b", "a")}, []tree.Entry{file("a", "2"), hardlink("b", "a")}, "f a, h b"},
		{"first name gone", []tree.Entry{file("a", "1"), hardlink("b", "a"), hardlink("c", "a")}, []tree.Entry{file("b", "1"), hardlink("c", "b")}, "w a, f b, h c"},
		{"link broken", []tree.Entry{file("a", "1"), hardlink("b", "a")}, []tree.Entry{file("a", "1"), file("b", "1")}, "f b"},
	} {
		from, to := mustNew(t, c.from), mustNew(t, c.to)
		var got []string
		for _, e := range tree.Diff(from, to) {
			got = append(got, fmt.Sprintf("%c %s", e.Kind, e.Path))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %s, expected %s", c.summary, s, c.want)
		}
	}
}

func mustNew(t interface{ Fatalf(string, ...any) }, entries []tree.Entry) *tree.Tree {
	made, err := tree.New(entries)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return made
}

// anyTree draws a small tree over few names, so that two of them collide often.
func anyTree(t *rapid.T, label string) *tree.Tree {
	paths := rapid.SliceOfDistinct(rapid.SampledFrom([]string{
		"a", "a-b", "a/a", "a/b", "a/b/c", "b", "b/a", "b/a/a", "c", "c/d", "d",
	}), rapid.ID).Draw(t, label)
	slices.Sort(paths)
	kinds := map[string]tree.Kind{}
	var out []tree.Entry
	var files []string
	for _, p := range paths {
		if blocked(p, kinds) {
			continue
		}
		e := dir(p)
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			e = file(p, rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "body"))
			e.Mode = rapid.SampledFrom([]uint32{0o644, 0o755}).Draw(t, "mode")
		case 1:
			e = symlink(p, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "to"))
		case 2:
			if len(files) > 0 {
				e = hardlink(p, rapid.SampledFrom(files).Draw(t, "file"))
			}
		case 3:
			e.UID = rapid.IntRange(0, 1).Draw(t, "uid")
		}
		if e.Kind == tree.File {
			files = append(files, p)
		}
		kinds[p] = e.Kind
		out = append(out, e)
	}
	return mustNew(t, tree.WithParents(out))
}

func blocked(p string, kinds map[string]tree.Kind) bool {
	for p = path.Dir(p); p != "."; p = path.Dir(p) {
		if k, ok := kinds[p]; ok && k != tree.Dir {
			return true
		}
	}
	return false
}

func TestDiffThenApply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyTree(t, "from"), anyTree(t, "to")
		layer := tree.Diff(a, b)
		got, err := tree.Apply(a, layer)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if format(got) != format(b) {
			t.Fatalf("from\n%s\nwith %v\nbecomes\n%s\nexpected\n%s", format(a), layer, format(got), format(b))
		}
		if rest := tree.Diff(b, got); len(rest) != 0 {
			t.Fatalf("then differs by %v", rest)
		}
	})
}

func TestFormatThenParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := anyTree(t, "tree")
		b, err := tree.Parse(strings.NewReader(format(a)))
		if err != nil || b.Digest() != a.Digest() {
			t.Fatalf("%v: %s", err, format(a))
		}
	})
}

// TestApplyKeepsOtherNames: a layer that replaces one name of a file leaves the others.
func TestApplyKeepsOtherNames(t *testing.T) {
	base := mustNew(t, []tree.Entry{file("a", "1"), hardlink("b", "a"), hardlink("c", "a")})
	got, err := tree.Apply(base, []tree.Entry{file("a", "2")})
	if err != nil {
		t.Fatal(err)
	}
	if want := format(mustNew(t, []tree.Entry{file("a", "2"), file("b", "1"), hardlink("c", "b")})); format(got) != want {
		t.Errorf("got\n%s\nexpected\n%s", format(got), want)
	}
}

// TestCompare holds what comparing line by line says against the trees as wholes.
func TestCompare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyTree(t, "a"), anyTree(t, "b")
		var want, got []string
		say := func(x, y *tree.Entry) string { return fmt.Sprintf("%v | %v", x, y) }
		for _, p := range slices.Compact(slices.Sorted(func(yield func(string) bool) {
			for _, e := range append(a.Entries(), b.Entries()...) {
				if !yield(e.Path) {
					return
				}
			}
		})) {
			x, inA := bare(a, p)
			y, inB := bare(b, p)
			switch {
			case !inB:
				want = append(want, say(&x, nil))
			case !inA:
				want = append(want, say(nil, &y))
			case !x.Same(&y):
				want = append(want, say(&x, &y))
			}
		}
		for d, err := range tree.Compare(strings.NewReader(format(a)), strings.NewReader(format(b))) {
			if err != nil {
				t.Fatalf("%v", err)
			}
			got = append(got, say(d.A, d.B))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s\n%s\ngot\n%s\nexpected\n%s", format(a), format(b), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// bare is an entry as its line alone has it: hard links take nothing from their files.
func bare(t *tree.Tree, p string) (tree.Entry, bool) {
	e, ok := t.Lookup(p)
	e.Content = nil
	if e.Kind == tree.Hardlink {
		e = tree.Entry{Path: e.Path, Kind: e.Kind, Link: e.Link}
	}
	return e, ok
}

func TestCompareStops(t *testing.T) {
	other := strings.Replace(sample, "mode=1777", "mode=0755", 1)
	broken := strings.Replace(sample, "usr/bin/hi type=h", "../hi type=h", 1)
	for _, c := range []struct{ summary, a, b, want string }{
		{"mode", sample, other, "tmp"},
		{"first broken", broken, sample, `cannot parse listing: line 6: "../hi" is not clean`},
		{"second broken", sample, broken, `cannot parse listing: line 6: "../hi" is not clean`},
		{"a difference, then an error", other, broken, `tmp, cannot parse listing: line 6: "../hi" is not clean`},
		{"no list", "", sample, `cannot parse listing: line 1: "" found, expected "#quorate-tree 1"`},
		{"truncated", sample, sample[:len(sample)-1], "cannot parse listing: line 7: the last line is not ended: truncated"},
	} {
		var got []string
		for d, err := range tree.Compare(strings.NewReader(c.a), strings.NewReader(c.b)) {
			if err != nil {
				got = append(got, err.Error())
				continue
			}
			got = append(got, d.Path)
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %s\nexpected %s", c.summary, s, c.want)
		}
	}
	for d := range tree.Compare(strings.NewReader("#quorate-tree 1\n"), strings.NewReader(sample)) {
		if d.A != nil || d.B.Path != "bin" {
			t.Errorf("got %+v", d)
		}
		break // reads no further
	}
}
