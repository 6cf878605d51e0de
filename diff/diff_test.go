package diff

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// file is one entry of a layer in these tests.
type file struct {
	tar.Header
	content string
}

func base() []file {
	t := time.Unix(1700000000, 0)
	return []file{
		{tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755, ModTime: t}, ""},
		{tar.Header{Typeflag: tar.TypeReg, Name: "etc/motd", Mode: 0o644, ModTime: t}, "one\ntwo\nthree\n"},
		{tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/ping", Mode: 0o755, ModTime: t}, "\x7fELF\x00\x01\x02" + strings.Repeat("\x00code", 2000)},
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/bin/sh", Linkname: "dash", Mode: 0o777, ModTime: t}, ""},
	}
}

func tarOf(t testing.TB, files []file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		f.Size = int64(len(f.content))
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pack(b []byte, level int) []byte {
	var z bytes.Buffer
	w, _ := gzip.NewWriterLevel(&z, level)
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// side makes layouts; its fields may be changed before write.
type side struct {
	config map[string]any
	layers [][]byte // as stored
	plain  [][]byte
	index  map[string]any
}

func sideOf(t testing.TB, layers ...[]file) *side {
	s := &side{
		config: map[string]any{"os": "linux", "architecture": "amd64", "created": "2026-11-01T00:00:00Z",
			"config": map[string]any{"Env": []any{"PATH=/bin"}}},
		index: map[string]any{"schemaVersion": 2},
	}
	for _, l := range layers {
		plain := tarOf(t, l)
		s.plain = append(s.plain, plain)
		s.layers = append(s.layers, pack(plain, 6))
	}
	return s
}

func (s *side) write(t testing.TB) string {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(b []byte) map[string]any {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", sum), b, 0o644); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"digest": "sha256:" + sum, "size": len(b)}
	}
	toJSON := func(v any) []byte { b, _ := json.Marshal(v); return b }
	var ids, layers []any
	for i, l := range s.layers {
		ids = append(ids, fmt.Sprintf("sha256:%x", sha256.Sum256(s.plain[i])))
		layers = append(layers, put(l))
	}
	s.config["rootfs"] = map[string]any{"type": "layers", "diff_ids": ids}
	manifest := put(toJSON(map[string]any{"schemaVersion": 2, "config": put(toJSON(s.config)), "layers": layers}))
	s.index["manifests"] = []any{manifest}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), toJSON(s.index), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// brief is what a test says about a finding.
type brief struct {
	Layer      int
	Path, What string
	A, B       string
	Offset     int64
}

func briefs(c *OldComparison) []brief {
	var out []brief
	for _, f := range c.Findings {
		out = append(out, brief{f.Layer, f.Path, f.What, f.A, f.B, f.Offset})
	}
	return out
}

func TestLayouts(t *testing.T) {
	tests := []struct {
		summary string
		change  func(t *testing.T, s *side) // of side B
		files   func(f []file) []file       // of side B's only layer
		want    []brief
	}{{
		summary: "equal sides",
	}, {
		summary: "text content: line, both values, offset",
		files:   func(f []file) []file { f[1].content = "one\ntwx\nthree\n"; return f },
		want:    []brief{{0, "etc/motd", oldWhatContent, `line 2: "two"`, `line 2: "twx"`, 6}},
	}, {
		summary: "binary content beyond the first chunk",
		files: func(f []file) []file {
			b := []byte(f[2].content)
			b[9001] = 0xff
			f[2].content = string(b)
			return f
		},
		want: []brief{{0, "usr/bin/ping", oldWhatContent,
			"0x2329: 65 00 63 6f 64 65 00 63 6f 64 65 00 63 6f 64 65", "0x2329: ff 00 63 6f 64 65 00 63 6f 64 65 00 63 6f 64 65", 9001}},
	}, {
		summary: "content that goes on on one side",
		files:   func(f []file) []file { f[1].content += "four\n"; return f },
		want: []brief{
			{0, "etc/motd", oldWhatContent, "line 4: end of file", `line 4: "four"`, 14},
			{0, "etc/motd", oldWhatSize, "14", "19", -1}},
	}, {
		summary: "mode, owner, time, link of several entries",
		files: func(f []file) []file {
			f[0].Mode, f[1].Uid, f[2].ModTime, f[3].Linkname = 0o700, 33, time.Unix(1700000001, 0), "bash"
			return f
		},
		want: []brief{
			{0, "etc", oldWhatMode, "0755", "0700", -1},
			{0, "etc/motd", oldWhatOwner, "0:0", "33:0", -1},
			{0, "usr/bin/ping", oldWhatModTime, "1700000000 (2023-11-14 22:13:20)", "1700000001 (2023-11-14 22:13:21)", -1},
			{0, "usr/bin/sh", oldWhatLink, "dash", "bash", -1}},
	}, {
		summary: "extended attributes and the tar format they need",
		files: func(f []file) []file {
			f[2].PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00"}
			return f
		},
		want: []brief{
			{0, "usr/bin/ping", oldWhatFormat, "USTAR", "PAX", -1},
			{0, "usr/bin/ping", oldWhatXattrs, "", `security.capability="\x01\x00"`, -1}},
	}, {
		summary: "type",
		files: func(f []file) []file {
			f[3].Typeflag = tar.TypeLink
			return f
		},
		want: []brief{{0, "usr/bin/sh", oldWhatType, "symlink", "hard link", -1}},
	}, {
		summary: "path on one side only",
		files:   func(f []file) []file { return append(f[:1], f[2:]...) },
		want: []brief{{0, "etc/motd", oldWhatPresence,
			"file 0644 0:0, 14 bytes, sha256:" + fmt.Sprintf("%x", sha256.Sum256([]byte("one\ntwo\nthree\n"))), "", -1}},
	}, {
		summary: "order of entries alone",
		files:   func(f []file) []file { f[1], f[2] = f[2], f[1]; return f },
		want:    []brief{{0, "", oldWhatOrder, `entry 1 is "etc/motd"`, `entry 1 is "usr/bin/ping"`, -1}},
	}, {
		summary: "the second entry of one path",
		files: func(f []file) []file {
			return append(f, file{tar.Header{Typeflag: tar.TypeReg, Name: "./etc/motd", Mode: 0o600, ModTime: time.Unix(1700000000, 0)}, ""})
		},
		want: []brief{{0, "etc/motd", oldWhatPresence, "", fmt.Sprintf("file 0600 0:0, 0 bytes, sha256:%x", sha256.Sum256(nil)), -1}},
	}, {
		summary: "compression alone",
		change:  func(t *testing.T, s *side) { s.layers[0] = pack(s.plain[0], 1) },
		want:    []brief{{0, "", oldWhatCompression, "*", "*", -1}},
	}, {
		summary: "padding alone",
		change: func(t *testing.T, s *side) {
			s.plain[0] = append(bytes.Clone(s.plain[0]), make([]byte, 512)...)
			s.layers[0] = s.plain[0]
		},
		want: []brief{{0, "", oldWhatTarBytes, "*", "*", -1}},
	}, {
		summary: "configuration and index",
		change: func(t *testing.T, s *side) {
			s.config["config"] = map[string]any{"Env": []any{"PATH=/bin", "X=1"}}
			s.config["created"] = "2026-11-02T00:00:00Z"
			s.index["annotations"] = map[string]any{"a": "b"}
		},
		want: []brief{
			{-1, "", "index annotations.a", "", `"b"`, -1},
			{-1, "", "config config.Env[1]", "", `"X=1"`, -1},
			{-1, "", "config created", `"2026-11-01T00:00:00Z"`, `"2026-11-02T00:00:00Z"`, -1}},
	}, {
		summary: "a layer more",
		change: func(t *testing.T, s *side) {
			s.plain = append([][]byte{tarOf(t, nil)}, s.plain...)
			s.layers = append([][]byte{pack(s.plain[0], 6)}, s.layers...)
		},
		want: []brief{{0, "", oldWhatPresence, "", "*", -1}},
	}}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			a := sideOf(t, base()).write(t)
			files := base()
			if test.files != nil {
				files = test.files(files)
			}
			s := sideOf(t, files)
			if test.change != nil {
				test.change(t, s)
			}
			c, err := Layouts(a, s.write(t), Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := briefs(c)
			for i := range got {
				if i < len(test.want) && test.want[i].A == "*" {
					got[i].A = "*"
				}
				if i < len(test.want) && test.want[i].B == "*" {
					got[i].B = "*"
				}
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("findings (-want +got):\n%s", d)
			}
			if c.Same() != (len(test.want) == 0) {
				t.Errorf("Same() = %v", c.Same())
			}
		})
	}
}

func TestInputErrors(t *testing.T) {
	good := sideOf(t, base()).write(t)
	tests := []struct {
		summary string
		spoil   func(dir string)
		want    string // after the folder's name
	}{
		{"no index", func(d string) { os.Remove(filepath.Join(d, "index.json")) }, `index.json": no such file or directory`},
		{"empty index", func(d string) { os.WriteFile(filepath.Join(d, "index.json"), []byte(`{}`), 0o644) }, `index.json": it names no image`},
		{"climbing digest", func(d string) {
			os.WriteFile(filepath.Join(d, "index.json"), []byte(`{"manifests":[{"digest":"sha256:../../../etc/passwd"}]}`), 0o644)
		}, `index.json": digest "sha256:../../../etc/passwd" is not sha256 and 64 hexadecimal digits`},
		{"fifo for index", func(d string) {
			os.Remove(filepath.Join(d, "index.json"))
			os.Mkdir(filepath.Join(d, "index.json"), 0o755)
		}, `index.json": not a regular file`},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			s := sideOf(t, base())
			dir := s.write(t)
			test.spoil(dir)
			_, err := Layouts(good, dir, Options{})
			var input *InputError
			if !errors.As(err, &input) {
				t.Fatalf("got %v, want an *InputError", err)
			}
			if want := "cannot compare \"" + dir + "/" + test.want; err.Error() != want {
				t.Errorf("got  %s\nwant %s", err, want)
			}
		})
	}
}

func TestDamagedLayer(t *testing.T) {
	a := sideOf(t, base()).write(t)
	f := base()
	f[1].content = "other"
	s := sideOf(t, f)
	b := s.write(t)
	for _, damage := range []struct {
		summary string
		bytes   []byte
	}{
		{"truncated", s.layers[0][:len(s.layers[0])/2]},
		{"flipped", func() []byte { c := bytes.Clone(s.layers[0]); c[len(c)/2] ^= 1; return c }()},
		{"another", pack(s.plain[0], 1)},
		{"empty", nil},
	} {
		name := filepath.Join(b, "blobs", "sha256", fmt.Sprintf("%x", sha256.Sum256(s.layers[0])))
		if err := os.WriteFile(name, damage.bytes, 0o644); err != nil {
			t.Fatal(err)
		}
		var input *InputError
		if _, err := Layouts(a, b, Options{}); !errors.As(err, &input) || input.Side != b {
			t.Errorf("%s layer: got %v, want an *InputError of side B", damage.summary, err)
		}
	}
}

func TestStopped(t *testing.T) {
	f := base()
	f[1].content = "x"
	done := make(chan struct{})
	close(done)
	_, err := Layouts(sideOf(t, base()).write(t), sideOf(t, f).write(t), Options{Done: done})
	if !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
}

func TestPairLayers(t *testing.T) {
	tests := []struct {
		a, b string // one letter for each layer's digest
		want []layerPair
	}{
		{"xyz", "xyz", nil},
		{"xyz", "xqz", []layerPair{{1, 1}}},
		{"xyz", "xz", []layerPair{{1, -1}}},
		{"xz", "xyz", []layerPair{{-1, 1}}},
		{"abxc", "dxe", []layerPair{{0, 0}, {1, -1}, {3, 2}}},
		{"", "x", []layerPair{{-1, 0}}},
	}
	letters := func(s string) (d []descriptor) {
		for _, r := range s {
			d = append(d, descriptor{Digest: string(r)})
		}
		return d
	}
	for _, test := range tests {
		if got := pairLayers(letters(test.a), letters(test.b)); !cmp.Equal(got, test.want, cmp.AllowUnexported(layerPair{})) {
			t.Errorf("pairLayers(%q, %q) = %v, want %v", test.a, test.b, got, test.want)
		}
	}
}

func TestWrite(t *testing.T) {
	c := &OldComparison{A: OldSide{"a", []string{"sha256:1"}}, B: OldSide{"b", []string{"sha256:2"}}, Findings: []OldFinding{
		{"linux/amd64", -1, "", "config created", "x", "y", -1},
		{"linux/amd64", 0, "etc/\x1b[2Jmotd", oldWhatContent, `line 2: "two"`, `line 2: "twx"`, 6},
		{"linux/amd64", 0, "etc/\x1b[2Jmotd", oldWhatSize, "1", "", -1},
	}}
	var b strings.Builder
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := `A  a
   sha256:1
B  b
   sha256:2

3 differences in 1 path

image, linux/amd64
  config created
    A x
    B y

"etc/\x1b[2Jmotd", layer 0, linux/amd64
  content from byte 6
    A line 2: "two"
    B line 2: "twx"
  size
    A 1
    B -
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
}

// TestEveryContentDifferenceIsFound changes random bytes of random files and
// expects the exact paths and first differing offsets back.
func TestEveryContentDifferenceIsFound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		var a, b []file
		want := map[string]int64{}
		for i := range rapid.IntRange(1, 12).Draw(rt, "files") {
			content := make([]byte, r.IntN(3*chunkSize))
			for j := range content {
				content[j] = byte(r.IntN(256))
			}
			f := file{tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint("f", i), Mode: 0o644}, string(content)}
			a = append(a, f)
			if len(content) > 0 && r.IntN(2) == 0 {
				at := r.IntN(len(content))
				content[at] ^= 1
				want[f.Name] = int64(at)
				for k := at + 1; k < len(content); k++ {
					content[k] ^= byte(r.IntN(2))
				}
				f.content = string(content)
			}
			b = append(b, f)
		}
		c, err := Layouts(sideOf(t, a).write(t), sideOf(t, b).write(t), Options{})
		if err != nil {
			rt.Fatal(err)
		}
		got := map[string]int64{}
		for _, f := range c.Findings {
			got[f.Path] = f.Offset
		}
		if d := cmp.Diff(want, got); d != "" {
			rt.Errorf("offsets (-want +got):\n%s", d)
		}
	})
}

func FuzzReadLayer(f *testing.F) {
	plain := tarOf(f, base())
	f.Add(plain)
	f.Add(pack(plain, 6))
	f.Add(pack(plain, 6)[:40])
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := newContentHash()
		readLayer(bytes.NewReader(raw), io.Discard, func(h *tar.Header, r io.Reader) error {
			if h.Size > 1<<20 {
				return errors.New("too slow for fuzzing")
			}
			e := newEntry(h)
			if e.kind != tar.TypeReg {
				return nil
			}
			return c.sum(e, r)
		})
	})
}

func FuzzFields(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}]}`), []byte(`{"a":[2]}`))
	f.Add([]byte(`[[[[]]]]`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, err := fields(a, b)
		y, errBack := fields(b, a)
		if (err == nil) != (errBack == nil) || len(x) != len(y) {
			t.Errorf("fields(a, b) gives %d, %v and fields(b, a) gives %d, %v", len(x), err, len(y), errBack)
		}
	})
}

// BenchmarkLayouts compares two layers of 64 MiB in 2000 files, 40 of which differ.
func BenchmarkLayouts(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	var files, other []file
	for i := range 2000 {
		content := make([]byte, 32<<10)
		for j := range content {
			content[j] = "abcdefgh"[r.IntN(8)]
		}
		f := file{tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint("f", i), Mode: 0o644}, string(content)}
		files = append(files, f)
		if i%50 == 0 {
			content[20000] ^= 1
			f.content = string(content)
		}
		other = append(other, f)
	}
	x, y := sideOf(b, files).write(b), sideOf(b, other).write(b)
	b.SetBytes(2 * 64 << 20)
	b.ReportAllocs()
	for b.Loop() {
		c, err := Layouts(x, y, Options{})
		if err != nil || len(c.Findings) != 40 {
			b.Fatalf("%d findings, %v", len(c.Findings), err)
		}
	}
}
