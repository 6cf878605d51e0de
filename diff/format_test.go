package diff

import (
	"compress/gzip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// formatBriefs compares two files of one name.
func formatBriefs(t *testing.T, name string, a, b []byte) []string {
	t.Helper()
	got := briefs(t, writeFile(t, name, a), writeFile(t, name, b))
	for i := range got {
		got[i] = strings.TrimPrefix(strings.TrimPrefix(got[i], name), " → ")
	}
	return got
}

func TestFormats(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	one := []member{{"a.txt", "one\n", 1700000000}, {"b.txt", "two\n", 1700000000}}
	two := []member{{"a.txt", "one\n", 1700000000}, {"b.txt", "too\n", 1700000100}}
	turned := []member{one[1], one[0]}
	const t1, t2 = "1700000000 (2023-11-14 22:13:20)", "1700000100 (2023-11-14 22:15:00)"
	pix := [2]string{"IDAT", "zzzz"}
	tests := []struct {
		summary, name string
		a, b          []byte
		want          []string
	}{
		{"gzip: time, name and system", "x.gz", gzipOf([]byte("same"), gzip.Header{ModTime: at(1700000000), Name: "n", OS: 3}, 6),
			gzipOf([]byte("same"), gzip.Header{ModTime: at(1700000100), Name: "m", OS: 0}, 6),
			[]string{": gzip.mtime " + t1 + "|" + t2, ": gzip.os 3 (Unix)|0 (FAT)", ": gzip.name n|m"}},
		{"gzip: contents", "x.gz", gzipOf([]byte("one\ntwo\n"), gzip.Header{}, 6), gzipOf([]byte("one\ntoo\n"), gzip.Header{}, 6),
			[]string{"content: text two\n|too\n"}},
		{"zstd: contents", "x.zst", zstdOf([]byte("one\ntwo\n")), zstdOf([]byte("one\ntoo\n")), []string{"content: text two\n|too\n"}},
		{"xz: contents", "x.xz", sample(t, "xz-a"), sample(t, "xz-b"), []string{
			"content: text POT-Creation-Date \"POT-Creation-Date: 2024-01\\n\"\n|\"POT-Creation-Date: 2025-11\\n\"\n", "content: text msgstr \"hoa\"\n|msgstr \"hob\"\n"}},
		{"bzip2: contents", "x.bz2", sample(t, "bzip2-a"), sample(t, "bzip2-b"), []string{
			"content: text POT-Creation-Date \"POT-Creation-Date: 2024-01\\n\"\n|\"POT-Creation-Date: 2025-11\\n\"\n", "content: text msgstr \"hoa\"\n|msgstr \"hob\"\n"}},
		{"zip: time and contents", "x.zip", zipOf(one), zipOf(two), []string{
			"b.txt: zip.time " + t1 + "|" + t2 + "", "b.txt: zip.extra 5455 " + t1 + "|" + t2, "b.txt: text two\n|too\n"}},
		{"ar: time and contents", "x.a", arOf(one), arOf(two), []string{"b.txt: mtime " + t1 + "|" + t2, "b.txt: text two\n|too\n"}},
		{"ar: order", "x.a", arOf(one), arOf(turned), []string{": order a.txt|a.txt"}},
		{"ar: a member renamed", "x.a", arOf(one), arOf([]member{one[0], {"c.txt", "two\n", 1700000000}}), []string{"b.txt: renamed b.txt|c.txt"}},
		{"cpio: time and contents", "x.cpio", cpioOf(one), cpioOf(two), []string{"b.txt: mtime " + t1 + "|" + t2, "b.txt: text two\n|too\n"}},
		{"elf: paths in debug information and constants", "x.o", sample(t, "elf-a"), sample(t, "elf-b"), []string{
			": dwarf DW_AT_name of unit m.c /tmp/dd/x/e/a/longaa/m.c|/tmp/dd/x/e/b/longbb/m.c",
			": dwarf DW_AT_comp_dir of unit m.c /tmp/dd/x/e/a|/tmp/dd/x/e/b",
			".rodata: bytes /tmp/dd/x/e/a/longaa/m.c|/tmp/dd/x/e/b/longbb/m.c"}},
		{"pyc: time and a constant", "x.pyc", sample(t, "pyc-a"), sample(t, "pyc-b"), []string{
			": pyc.mtime 1000 (1970-01-01 00:16:40)|1077 (1970-01-01 00:17:57)", ": pyc.value /build/a|/build/b"}},
		{"pyc: reference flags", "x.pyc", sample(t, "pyc-a"), flipped(sample(t, "pyc-a"), 16, 0x80), []string{": pyc.flagref e3|63"}},
		{"class: version and a constant more", "x.class", classOf("Main", "java/lang/Object"), classOf("Main", "between", "java/lang/Object"),
			[]string{": class.constant pool |between"}},
		{"sqlite: rows", "x.db", sample(t, "sqlite-a"), sample(t, "sqlite-b"), []string{": sqlite.row t rowid 1 1 | xa|1 | xb", ": sqlite.row t rowid 2 ROW"}},
		{"sqlite: change counter", "x.db", sample(t, "sqlite-a"), flipped(sample(t, "sqlite-a"), 27, 8), []string{": sqlite.header change counter 6|14"}},
		{"png: time and text", "x.png", pngOf([2]string{"tIME", "\x07\xe8\x01\x02\x03\x04\x05"}, [2]string{"tEXt", "Date\x00today"}, pix),
			pngOf([2]string{"tIME", "\x07\xe9\x01\x02\x03\x04\x05"}, [2]string{"tEXt", "Date\x00later"}, pix),
			[]string{": png.chunk tIME 2024-01-02 03:04:05|2025-01-02 03:04:05", ": png.chunk tEXt Date today|later"}},
		{"pdf: date, id and a packed stream", "x.pdf", pdfOf("20240101000000Z", "0011", "hello"), pdfOf("20250101000000Z", "0022", "hallo"), []string{
			": pdf.date CreationDate D:20240101000000Z|D:20250101000000Z", ": pdf.id ID <0011> <0011>|<0022> <0022>", "stream 0: text BT (hello) Tj ET|BT (hallo) Tj ET"}},
		{"mo: a translation", "x.mo", sample(t, "mo-a"), sample(t, "mo-b"), []string{": mo.message hi hoa|hob"}},
		{"squashfs: time", "x.sqfs", sample(t, "squashfs-a"), sample(t, "squashfs-b"), []string{": squashfs mkfs time 1000 (1970-01-01 00:16:40)|2000 (1970-01-01 00:33:20)"}},
		{"json: a leaf, and order alone", "x.json", []byte(`{"a":1,"b":[true,"x"]}`), []byte(`{"a":2,"b":[true,"y"]}`), []string{": value a 1|2", ": value b[1] x|y"}},
		{"json: keys in another order", "x.json", []byte(`{"a":1,"b":2}`), []byte(`{"b":2,"a":1}`), []string{": order a|a"}},
		{"json: white space alone", "x.json", []byte(`{"a": 1}`), []byte(`{"a":1}`), []string{`: spacing a {"a": |{"a":`}},
		{"properties: a comment and a value", "x.properties", []byte("#Mon Jan 1\nbuilt.by=me\n"), []byte("#Tue Jan 2\nbuilt.by=you\n"),
			[]string{": text comment #Mon Jan 1\n|#Tue Jan 2\n", ": value built.by me|you"}},
		{"properties: lines that go on, and escapes", "x.properties", []byte("a\\ b : one \\\n   two\nc=\\u00e9\n"), []byte("a\\ b : one \\\n   too\nc=e\n"),
			[]string{": value a b one two|one too", ": value c é|e"}},
		{"properties: another order", "x.properties", []byte("a=1\nb=2\n"), []byte("b=2\na=1\n"), []string{": order a|a"}},
		{"properties: another sign", "x.properties", []byte("a=1\n"), []byte("a = 1\n"), []string{": spacing a a=|a = "}},
		{"yaml: a value, a quoted one and one in a list", "x.yaml", []byte("a: {b: 1, c: 'x y'} # why\nlist:\n  - k: v\n  - \"é\"\n"),
			[]byte("a: {b: 2, c: 'x z'} # why\nlist:\n  - k: w\n  - \"e\"\n"), []string{": value a.b 1|2", ": value a.c x y|x z", ": value list[0].k v|w", ": value list[1] é|e"}},
		{"yaml: another order of keys", "x.yml", []byte("a: 1\nb: 2\n"), []byte("b: 2\na: 1\n"), []string{": order a|a"}},
		{"yaml: a comment", "x.yaml", []byte("# made on Monday\na: 1\nb: 2\n"), []byte("# made on Tuesday\na: 1\nb: 2\n"), []string{": text comment # made on Monday\n|# made on Tuesday\n"}},
		{"yaml: a key more and a block", "x.yaml", []byte("a: |\n  one\n  two\nb: 2\n"), []byte("a: |\n  one\n  too\nb: 2\nc: 3\n"), []string{": value a one\ntwo\n|one\ntoo\n", ": value c |3"}},
		{"yaml: spacing alone", "x.yaml", []byte("a: 1\nb: 2\n"), []byte("a:   1\nb: 2\n"), []string{": spacing a a: |a:   "}},
		{"yaml: several documents", "x.yaml", []byte("a: 1\n---\na: 2\n"), []byte("a: 1\n---\na: 3\n"), []string{": value document 2: a 2|3"}},
		{"yaml: what is none is text", "x.yaml", []byte("a: b: c\n"), []byte("a: b: d\n"), []string{": text a a: b: c\n|a: b: d\n"}},
		{"text: lines moved", "x.txt", []byte("a\nb\nc\n"), []byte("b\nc\na\n"), []string{": text a\n|", ": text |a\n"}},
		{"text against gzip", "x.gz", []byte("text\n"), gzipOf([]byte("text\n"), gzip.Header{}, 6), nil},
		{"bytes: shifted by an insertion", "x.bin", []byte(strings.Repeat("\x00\x01\x02\x03unit\xff", 40)),
			[]byte(strings.Repeat("\x00\x01\x02\x03unit\xff", 20) + "\xee\xee" + strings.Repeat("\x00\x01\x02\x03unit\xff", 20)), []string{": bytes |ee ee"}},
	}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			got := formatBriefs(t, tt.name, tt.a, tt.b)
			for i := range got { // a row of 900 zeros is not for reading
				if j := strings.Index(got[i], "rowid 2 "); j >= 0 {
					got[i] = got[i][:j] + "rowid 2 ROW"
				}
			}
			if tt.want == nil && len(got) > 0 {
				return
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func flipped(b []byte, at int, bits byte) []byte {
	b = slices.Clone(b)
	b[at] ^= bits
	return b
}

// Values of documents have a line and a column, on each side its own.
func TestPlaces(t *testing.T) {
	for name, sides := range map[string][2]string{
		"x.yaml":       {"a: 1\nlist:\n  - k: v\n", "# more\na: 1\nlist:\n  - k: w\n"},
		"x.json":       {"{\n \"k\":  1}", "{\n\n \"k\": 2}"},
		"x.properties": {"a=1\n  k = 1\n", "a=1\n\nk=2\n"},
	} {
		res, err := Compare([]string{writeFile(t, name, []byte(sides[0])), writeFile(t, name, []byte(sides[1]))}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := res.WriteText(&out, func(_ *Node, f *Finding) bool { return f.What == WhatValue }); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"x.yaml": "line 3:8 | 4:8", "x.json": "line 2:8 | 3:7", "x.properties": "line 2:7 | 3:3"}[name]
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: no %q in\n%s", name, want, &out)
		}
		res.Close()
	}
}

// The compressor is named where Go can make the same bytes again.
func TestCompressors(t *testing.T) {
	content := []byte(strings.Repeat("some words that repeat, and some that do not: ", 50) + "x")
	res, err := Compare([]string{writeFile(t, "x.gz", gzipOf(content, gzip.Header{}, 1)), writeFile(t, "x.gz", gzipOf(content, gzip.Header{}, 6))}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	note := ""
	res.Pairs[0].Root.Walk(func(n *Node) bool {
		for _, f := range n.Findings {
			note += f.Note
		}
		return true
	})
	if want := "A: Go compress/flate level 1, B: Go compress/flate level 6"; note != want {
		t.Errorf("note is %q, expected %q", note, want)
	}
}

// A file in depth shows the differing byte between brackets, nested members by their way.
func TestWriteDepth(t *testing.T) {
	a := zipOf([]member{{"in/a.txt", "one\n", 5}})
	b := zipOf([]member{{"in/a.txt", "two\n", 5}})
	res, err := Compare([]string{writeFile(t, "x.zip", a), writeFile(t, "x.zip", b)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	for _, name := range []string{"x.zip", "in/a.txt", "x.zip → in/a.txt"} {
		var out strings.Builder
		found, err := res.WriteDepth(&out, name)
		if err != nil || !found {
			t.Fatalf("%s: found %v, error %v", name, found, err)
		}
		if want := "A 00000000 [6f 6e 65]0a"; !strings.Contains(out.String(), want) {
			t.Errorf("%s: no %q in\n%s", name, want, &out)
		}
	}
	if found, _ := res.WriteDepth(&strings.Builder{}, filepath.Join("in", "b.txt")); found {
		t.Error("found what is not there")
	}
}

// Files within files end at a depth, archives that lie end with a finding; both keep the account.
func TestHostileFiles(t *testing.T) {
	deep := func(b []byte) []byte {
		for range maxNesting + 5 {
			b = gzipOf(b, gzip.Header{}, 1)
		}
		return b
	}
	lie := zipOf([]member{{"a", "a", 1}, {"b", strings.Repeat("b", 100), 2}})
	lied := slices.Clone(lie)
	copy(lied[len(lied)-22-14-4:], "\xff\xff\xff\x7f") // the offset of the last member, from its name and the end record back
	tests := []struct {
		summary, name string
		a, b          []byte
		want          string
	}{
		{"nested too deep", "x.gz", deep([]byte("one")), deep([]byte("two")), "nested too deep"},
		{"a stream cut short", "x.gz", gzipOf([]byte("one"), gzip.Header{}, 1), gzipOf([]byte("one"), gzip.Header{}, 1)[:20], "cannot be unpacked"},
		{"an ar that claims too much", "x.a", arOf([]member{{"a", "aaaa", 1}}), []byte(strings.Replace(string(arOf([]member{{"a", "aaaa", 1}})), "4         `", "9999      `", 1)), "broken member header at offset 8"},
	}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			got := strings.Join(formatBriefs(t, tt.name, tt.a, tt.b), "\n")
			if !strings.Contains(got, "malformed") || !strings.Contains(got, tt.want) {
				t.Errorf("no %q in\n%s", tt.want, got)
			}
		})
	}
	if got := formatBriefs(t, "x.zip", lie, lied); len(got) == 0 {
		t.Error("a lying directory is no difference")
	}
}
