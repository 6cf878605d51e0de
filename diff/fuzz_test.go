package diff

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// covers reports an anatomy whose cuts do not cover a file exactly once, in order.
func covers(t *testing.T, a *anatomy, size int64) {
	t.Helper()
	at := int64(0)
	for _, g := range a.groups {
		if len(g.all()) == 0 {
			t.Fatalf("group %q has no cuts", g.key)
		}
		for _, k := range g.all() {
			if k.off != at || k.size <= 0 {
				t.Fatalf("cut %q of group %q is [%d,%d), expected to begin at %d", k.id(), g.key, k.off, k.off+k.size, at)
			}
			at += k.size
		}
	}
	if at != size {
		t.Fatalf("cuts end at %d of %d", at, size)
	}
}

// fuzzTake fuzzes one reader. Nothing is recovered here: a panic is a find.
func fuzzTake(f *testing.F, take func(source) *anatomy, seeds ...string) {
	base := samples(f)
	for _, s := range seeds {
		b := base[s]
		f.Add(b)
		f.Add(b[:len(b)/2])
		f.Add(append(bytes.Clone(b), b...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := take(inMemory(b))
		if a == nil {
			return
		}
		covers(t, a, int64(len(b)))
		for _, g := range a.groups {
			for _, k := range g.all() {
				if k.mode != modePacked || k.how().unpack == nil {
					continue
				}
				if r, err := k.how().unpack(); err == nil {
					io.Copy(io.Discard, io.LimitReader(r, 1<<20))
				}
			}
		}
	})
}

func FuzzGzip(f *testing.F)     { fuzzTake(f, whenBegins(takeGzip, "\x1f\x8b"), "gz.gz") }
func FuzzXz(f *testing.F)       { fuzzTake(f, takeXz, "xz.x") }
func FuzzZstd(f *testing.F)     { fuzzTake(f, takeZstd, "zst.zst") }
func FuzzBzip2(f *testing.F)    { fuzzTake(f, takeBzip2, "bzip2.x") }
func FuzzZip(f *testing.F)      { fuzzTake(f, takeZip, "zip.zip") }
func FuzzAr(f *testing.F)       { fuzzTake(f, takeAr, "ar.a") }
func FuzzCpio(f *testing.F)     { fuzzTake(f, takeCpio, "cpio.cpio") }
func FuzzPyc(f *testing.F)      { fuzzTake(f, takePyc, "pyc.x") }
func FuzzClass(f *testing.F)    { fuzzTake(f, takeClass, "class.class") }
func FuzzPng(f *testing.F)      { fuzzTake(f, takePng, "png.png") }
func FuzzPdf(f *testing.F)      { fuzzTake(f, takePdf, "pdf.pdf") }
func FuzzSquashfs(f *testing.F) { fuzzTake(f, takeSquashfs, "squashfs.x") }

// FuzzSquashFiles holds that no image makes its reader panic or go on for ever, and that what it lists can be read.
func FuzzSquashFiles(f *testing.F) {
	for _, name := range []string{"squashfs-a", "squashfs-b"} {
		b := sample(f, name)
		f.Add(b)
		f.Add(flipped(b, len(b)/2, 0x11))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := openSquash(inMemory(b))
		if err != nil {
			return
		}
		into, err := newSpool(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer into.close()
		tree, err := q.tree(into, nil)
		if err != nil {
			return
		}
		for i := range tree.list.entries {
			e := &tree.list.entries[i]
			if e.kind != '0' {
				continue
			}
			s, err := tree.folder(e)
			if err != nil {
				t.Fatalf("%q was listed and cannot be read: %v", e.path, err)
			}
			h := newHasher128()
			if io.Copy(h, s.reader()); h.sum() != e.dataSum || s.size != e.size {
				t.Fatalf("%q was read in two ways", e.path)
			}
		}
	})
}

func FuzzJSON(f *testing.F)       { fuzzTake(f, takeJSON, "json.json") }
func FuzzYAML(f *testing.F)       { fuzzTake(f, takeYAML, "yaml.yaml", "json.json") }
func FuzzProperties(f *testing.F) { fuzzTake(f, takeProperties, "properties.properties") }

func FuzzElf(f *testing.F) {
	fuzzTake(f, func(s source) *anatomy {
		a := takeElf(s)
		if a != nil {
			a.data.(*elfTaking).symbols(s)
		}
		return a
	}, "elf.x")
}

// FuzzDwarf holds that no program makes the reader of debug information panic, or go on for ever.
func FuzzDwarf(f *testing.F) {
	for _, name := range []string{"elf-a", "elf-b"} {
		b := sample(f, name)
		f.Add(b)
		f.Add(flipped(b, len(b)/2, 0x11))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 {
			debugInfo(&comparer{}, &Node{A: &Part{src: inMemory(b)}, B: &Part{src: inMemory(flipped(b, len(b)/3, 1))}})
		}
	})
}

func FuzzMo(f *testing.F) {
	fuzzTake(f, func(s source) *anatomy {
		if s.size < 28 {
			return nil
		}
		return takeMo(s)
	}, "mo.x")
}

func FuzzSqlite(f *testing.F) {
	fuzzTake(f, func(s source) *anatomy {
		rows, err := readSqlite(s)
		if err == nil {
			for i := range rows {
				rows[i].values()
			}
		}
		return takeSqlite(s)
	}, "sqlite.x")
}

// whenBegins gives a reader only what it is given in earnest: files with the right magic.
func whenBegins(take func(source) *anatomy, magic string) func(source) *anatomy {
	return func(s source) *anatomy {
		if !bytes.HasPrefix(s.mem, []byte(magic)) {
			return nil
		}
		return take(s)
	}
}

// FuzzTar holds that entries and tail cover the archive, and each header its blocks.
func FuzzTar(f *testing.F) {
	b := samples(f)["tar.tar"]
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add(bytes.Repeat(b[:512], 3))
	for _, form := range []string{"old", "0.1", "1.0"} {
		f.Add(sparseTar(f, form, 2000, 700, "first", 1999, "second"[:1]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := inMemory(b)
		tree, err := scanSource(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		at := int64(0)
		for i := range tree.list.entries {
			e := &tree.list.entries[i]
			if e.start != at {
				t.Fatalf("entry %q begins at %d, expected %d", e.path, e.start, at)
			}
			h, err := tree.parse(e)
			if err != nil {
				t.Fatal(err)
			}
			off := int64(0)
			for _, k := range h.cuts {
				if k.off != off {
					t.Fatalf("cut %q of %q begins at %d, expected %d", k.id(), e.path, k.off, off)
				}
				off += k.size
			}
			if off != e.head {
				t.Fatalf("cuts of %q end at %d of %d", e.path, off, e.head)
			}
			at = e.end()
		}
		if tree.list.tail != at || tree.list.size != s.size {
			t.Fatalf("tail begins at %d of %d, expected %d of %d", tree.list.tail, tree.list.size, at, s.size)
		}
		tarIndex(s)
	})
}

// FuzzCompare holds the account of any two files.
func FuzzCompare(f *testing.F) {
	base := samples(f)
	for _, name := range []string{"zip.zip", "tar.tar", "json.json", "text.txt", "elf.x", "sqlite.x", "ar.a"} {
		b := bytes.Clone(base[name])
		b[len(b)/2] ^= 0x41
		f.Add(base[name], b)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, a, b []byte) {
		left, right := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		os.WriteFile(left, a, 0o600)
		os.WriteFile(right, b, 0o600)
		res, err := Compare([]string{left, right}, Options{Temp: dir})
		if err != nil {
			return
		}
		defer res.Close()
		if res.Same() != bytes.Equal(a, b) {
			t.Fatalf("same is %v", res.Same())
		}
		for _, p := range res.Pairs {
			p.Root.Walk(func(n *Node) bool {
				if err := n.Check(); err != nil {
					t.Error(err)
				}
				return true
			})
		}
	})
}

// FuzzAlign holds that what lies between runs is equal.
func FuzzAlign(f *testing.F) {
	f.Add([]byte("the quick brown fox"), []byte("the slow brown dog"))
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 40), bytes.Repeat([]byte("123456789abcdef0"), 40))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if runs := align(a, b); !sound(a, b, runs) {
			t.Errorf("%q and %q: %v", a, b, runs)
		}
		for _, list := range [][]Finding{text(a, b), stringsOf(a, b, terminated, joined)} {
			var runs []Run
			for _, g := range list {
				runs = append(runs, g.Runs...)
			}
			if !sound(a, b, runs) {
				t.Errorf("%q and %q: %v", a, b, runs)
			}
		}
		if runs := coalesce(align(a, b), 2); !sound(a, b, runs) || len(runs) > 2 {
			t.Errorf("joined: %v", runs)
		}
	})
}
