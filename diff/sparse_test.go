package diff

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A hash does not depend on how a stream came in pieces, nor on whether its zeros were read or skipped.
func TestHashOfHoles(t *testing.T) {
	for _, whole := range [][]byte{
		nil, {0}, []byte("x"), make([]byte, blockSize), make([]byte, blockSize+1), make([]byte, 5*blockSize),
		slices.Concat(make([]byte, blockSize-1), []byte("x"), make([]byte, 3*blockSize), []byte("y")),
		slices.Concat([]byte("x"), make([]byte, 3*blockSize)),
	} {
		plain := newHasher128()
		plain.Write(whole)
		want := plain.sum()
		for _, piece := range []int{1, 511, 4096, blockSize + 3} {
			h := newHasher128()
			for p := range slices.Chunk(whole, piece) {
				if len(p) > 1 && allZero(p) {
					h.skip(int64(len(p)))
				} else {
					h.Write(p)
				}
			}
			if h.sum() != want {
				t.Errorf("%d bytes in pieces of %d have another sum", len(whole), piece)
			}
		}
		for _, other := range [][]byte{append(bytes.Clone(whole), 0), append(bytes.Clone(whole), 'x'), append([]byte{'x'}, whole...)} {
			h := newHasher128()
			h.Write(other)
			if h.sum() == want {
				t.Errorf("%d bytes and %d others have one sum", len(whole), len(other))
			}
		}
	}
}

// sparseTar writes one file in one of the forms of sparse files that GNU tar knows; pieces are offset and text.
func sparseTar(t testing.TB, form string, size int64, pieces ...any) []byte {
	var data, places []string
	for i := 0; i < len(pieces); i += 2 {
		data = append(data, pieces[i+1].(string))
		places = append(places, fmt.Sprint(pieces[i]), fmt.Sprint(len(pieces[i+1].(string))))
	}
	content := strings.Join(data, "")
	records := map[string]string{"GNU.sparse.name": "disk"}
	switch form {
	case "old":
		b := tarOf(t, []file{regular("disk", content)})
		copy(b[257:], "ustar  \x00")
		b[156] = 'S'
		for i, p := range places {
			n := 0
			fmt.Sscan(p, &n)
			copy(b[386+12*i:], fmt.Sprintf("%011o\x00", n))
		}
		copy(b[483:], fmt.Sprintf("%011o\x00", size))
		copy(b[148:156], "        ")
		sum := 0
		for _, c := range b[:tarBlock] {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		return b
	case "0.1":
		records["GNU.sparse.size"], records["GNU.sparse.numblocks"] = fmt.Sprint(size), fmt.Sprint(len(data))
		records["GNU.sparse.map"] = strings.Join(places, ",")
	case "1.0":
		records["GNU.sparse.major"], records["GNU.sparse.minor"], records["GNU.sparse.realsize"] = "1", "0", fmt.Sprint(size)
		head := fmt.Sprintf("%d\n%s\n", len(data), strings.Join(places, "\n"))
		content = head + strings.Repeat("\x00", -len(head)&(tarBlock-1)) + content
	}
	return paxTar(records, "GNUSparseFile.77/disk", content)
}

// paxTar writes one file with records that archive/tar refuses to write.
func paxTar(records map[string]string, name, content string) []byte {
	var list string
	for _, k := range keysOf(records, nil) {
		rest := fmt.Sprintf(" %s=%s\n", k, records[k])
		n := len(rest) + 1
		for len(fmt.Sprint(n))+len(rest) != n {
			n = len(fmt.Sprint(n)) + len(rest)
		}
		list += fmt.Sprint(n) + rest
	}
	var out bytes.Buffer
	for _, e := range []struct {
		kind    byte
		name    string
		content string
	}{{'x', "PaxHeaders/disk", list}, {'0', name, content}} {
		var one bytes.Buffer
		w := tar.NewWriter(&one)
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o644, Size: int64(len(e.content)), ModTime: time.Unix(1700000000, 0)})
		w.Write([]byte(e.content))
		w.Flush()
		b := one.Bytes()
		b[156] = e.kind
		copy(b[148:156], "        ")
		sum := 0
		for _, c := range b[:tarBlock] {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		out.Write(b)
	}
	out.Write(make([]byte, 2*tarBlock))
	return out.Bytes()
}

// A sparse file is the same file in every form, and as a whole one; and another file when its pieces stand elsewhere.
func TestSparseForms(t *testing.T) {
	const size = 200_000
	whole := make([]byte, size)
	copy(whole[70_000:], "first")
	copy(whole[199_000:], "second")
	forms := map[string][]byte{"whole": tarOf(t, []file{regular("disk", string(whole))})}
	for _, form := range []string{"old", "0.1", "1.0"} {
		forms[form] = sparseTar(t, form, size, 70_000, "first", 199_000, "second", size, "")
	}
	for x, a := range forms {
		for y, b := range forms {
			if x >= y {
				continue
			}
			says := briefs(t, writeFile(t, "x.tar", a), writeFile(t, "x.tar", b))
			if !slices.ContainsFunc(says, func(s string) bool { return strings.Contains(s, ": sparse ") }) ||
				slices.ContainsFunc(says, func(s string) bool {
					return strings.Contains(s, ": content ") || strings.Contains(s, ": bytes ") || strings.Contains(s, ": presence") || strings.Contains(s, ": renamed")
				}) {
				t.Errorf("%s and %s: %q", x, y, says)
			}
		}
		moved := sparseTar(t, "1.0", size, 70_001, "first", 199_000, "second")
		if says := briefs(t, writeFile(t, "x.tar", a), writeFile(t, "x.tar", moved)); slices.ContainsFunc(says, func(s string) bool { return strings.Contains(s, ": sparse contents ") }) {
			t.Errorf("%s and one with other contents: %q", x, says)
		}
	}
	dir := filepath.Join(t.TempDir(), "folder")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "disk"), whole, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "disk"), time.Time{}, time.Unix(1700000000, 0)); err != nil {
		t.Fatal(err)
	}
	if says := briefs(t, dir, writeFile(t, "x.tar", forms["1.0"])); slices.ContainsFunc(says, func(s string) bool { return strings.HasPrefix(s, "disk: ") && !strings.Contains(s, "owner") }) {
		t.Errorf("a folder and a tar of it: %q", says)
	}
}

// Maps that lie name no other contents: the file is what is stored.
func TestSparseLies(t *testing.T) {
	for _, pieces := range [][]any{{100, "x", 50, "y"}, {-5, "x"}, {1 << 40, "x"}, {0, "x", 0, "y"}} {
		for _, form := range []string{"0.1", "1.0"} {
			b := sparseTar(t, form, 1000, pieces...)
			tree, err := scanSource(inMemory(b), nil)
			if err != nil || len(tree.list.entries) != 1 {
				t.Fatal(err, tree.list.entries)
			}
			if e := tree.list.entries[0]; e.sparse != nil {
				t.Errorf("%s %v: taken for %d bytes", form, pieces, e.sparse.size)
			}
		}
	}
	// Terabytes of nothing cost nothing.
	huge, err := scanSource(inMemory(sparseTar(t, "1.0", 1<<49, 1<<48, "x")), nil)
	if err != nil || huge.list.entries[0].sparse == nil {
		t.Fatal(err, huge.list.entries)
	}
}

// Large files with holes are compared by what is in them; a test that read a terabyte would not end.
func TestLargeHoles(t *testing.T) {
	const size, at = 1 << 40, 1<<39 + 12345
	side := func(size int64, text string) string {
		dir := t.TempDir()
		f, err := os.Create(filepath.Join(dir, "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size); err != nil {
			t.Skipf("no file of a terabyte here: %v", err)
		}
		if s := (source{r: f, size: size}); s.data(0) < size {
			t.Skip("no holes here")
		}
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{f.Name(), dir} {
			if err := os.Chtimes(p, time.Time{}, time.Unix(5, 0)); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	a := side(size, "hello")
	res, err := Compare([]string{a, side(size, "hallo"), side(size, "hello")}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if len(res.Classes) != 2 || !slices.Equal(res.Classes[0], []int{0, 2}) {
		t.Errorf("classes %v", res.Classes)
	}
	var runs []Run
	res.Pairs[0].Root.Walk(func(n *Node) bool {
		for _, f := range n.Findings {
			if n.Name == "disk" && f.What == WhatBytes {
				runs = append(runs, f.Runs...)
			}
		}
		return true
	})
	if want := []Run{{Range{at + 1, 1}, Range{at + 1, 1}}}; !slices.Equal(runs, want) {
		t.Errorf("runs %v, expected %v", runs, want)
	}
}

// What moved within a large file is found again, and what did not is not looked for.
func TestLargeFiles(t *testing.T) {
	base := make([]byte, 20<<20)
	x := uint64(1)
	for i := range base {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		base[i] = byte(x)
	}
	few := bytes.Clone(base)
	few[5], few[9<<20], few[len(few)-1] = ^few[5], ^few[9<<20], ^few[len(few)-1]
	for name, c := range map[string]struct {
		b    []byte
		most int64
	}{
		"few bytes":        {few, 3},
		"more in the end":  {append(bytes.Clone(base), "more"...), 4},
		"more in between":  {slices.Insert(bytes.Clone(base), 7<<20, []byte("inserted")...), 8},
		"less in between":  {slices.Delete(bytes.Clone(base), 7<<20, 7<<20+100), 100},
		"moved in between": {slices.Concat(base[:1<<20], []byte("inserted"), base[1<<20:8<<20], base[8<<20+8:]), 40},
	} {
		runs, err := alignSources(inMemory(base), inMemory(c.b), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !sound(base, c.b, runs) {
			t.Errorf("%s: unsound", name)
		}
		n := int64(0)
		for _, r := range runs {
			n += max(r.A.Length, r.B.Length)
		}
		if n > c.most {
			t.Errorf("%s: %d bytes differ, expected %d at most: %v", name, n, c.most, runs[:min(9, len(runs))])
		}
	}
}

// Large files that have nothing in common are not aligned to their end, and those that have all but one stretch are.
func TestNothingInCommon(t *testing.T) {
	noise := func(x uint64, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			b[i] = byte(x >> 8)
		}
		return b
	}
	a, b := noise(1, 24<<20), noise(2, 24<<20)
	a[23<<20], b[23<<20] = 'x', 'y'
	lost := int64(0)
	runs, err := alignRange(inMemory(a), inMemory(b), Range{0, int64(len(a))}, Range{0, int64(len(b))}, &lost)
	if err != nil || !sound(a, b, runs) {
		t.Error("unsound", err)
	}
	if lost <= maxLost || lost > maxLost+alignWindow {
		t.Errorf("%d bytes were aligned in vain, expected %d", lost, maxLost)
	}
}

// A hard link is the file that it leads to, and no other.
func TestHardLinkOrCopy(t *testing.T) {
	link := func(name, to string) file {
		f := regular(name, "")
		f.Typeflag, f.Linkname = tar.TypeLink, to
		return f
	}
	for _, c := range []struct {
		summary string
		b       []file
		same    bool
	}{
		{"a copy", []file{regular("one", "text\n"), regular("two", "text\n")}, true},
		{"the other way round", []file{regular("two", "text\n"), link("one", "two")}, true},
		{"another file", []file{regular("one", "text\n"), regular("two", "other\n")}, false},
	} {
		a := []file{regular("one", "text\n"), link("two", "one")}
		says := briefs(t, writeFile(t, "x.tar", tarOf(t, a)), writeFile(t, "x.tar", tarOf(t, c.b)))
		if got := !slices.ContainsFunc(says, func(s string) bool { return strings.Contains(s, ": content ") }); got != c.same {
			t.Errorf("%s: %q", c.summary, says)
		}
	}
}
