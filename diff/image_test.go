package diff

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// imageSide makes layouts and archives; its fields may be changed before it is written.
type imageSide struct {
	config map[string]any
	layers [][]byte // as stored
	plain  [][]byte
	index  map[string]any

	damaged map[string][]byte // what is written instead of blobs
}

func imageOf(t testing.TB, layers ...[]file) *imageSide {
	s := &imageSide{
		config: map[string]any{"os": "linux", "architecture": "amd64", "created": "2026-11-01T00:00:00Z",
			"config": map[string]any{"Env": []any{"PATH=/bin"}}, "history": []any{map[string]any{"created_by": "one"}}},
		index: map[string]any{"schemaVersion": 2},
	}
	for _, l := range layers {
		plain := tarOf(t, l)
		s.plain = append(s.plain, plain)
		s.layers = append(s.layers, gzipOf6(plain))
	}
	return s
}

// blobs are the files of the layout.
func (s *imageSide) blobs() map[string][]byte {
	if s.damaged != nil {
		return s.damaged
	}
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	put := func(b []byte) map[string]any {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		files["blobs/sha256/"+sum] = b
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
	files["index.json"] = toJSON(s.index)
	return files
}

func (s *imageSide) write(t testing.TB) string {
	dir := t.TempDir()
	for name, b := range s.blobs() {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (s *imageSide) archive(t testing.TB, pack bool) string {
	files := []file{{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, ""}}
	all := s.blobs()
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range all {
			if !yield(n) {
				return
			}
		}
	}) {
		files = append(files, regular(name, string(all[name])))
	}
	b := tarOf(t, files)
	if pack {
		b = gzipOf(b, gzip.Header{}, 6)
	}
	return writeFile(t, "image.tar", b)
}

// docker writes what `docker save` does.
func (s *imageSide) docker(t testing.TB) string {
	s.blobs()
	config, _ := json.Marshal(s.config)
	files := []file{regular(strings.Repeat("a", 64)+".json", string(config))}
	var names []string
	for i, p := range s.plain {
		name := fmt.Sprintf("%064d/layer.tar", i)
		names = append(names, name)
		files = append(files, regular(name, string(p)))
	}
	list, _ := json.Marshal([]any{map[string]any{"Config": strings.Repeat("a", 64) + ".json", "RepoTags": []string{"x:1"}, "Layers": names}})
	return writeFile(t, "docker.tar", tarOf(t, append(files, regular("manifest.json", string(list)))))
}

func writeFile(t testing.TB, name string, b []byte) string {
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// briefs are the findings that do not follow from others, one line each: "PATH: WHAT WHERE A|B".
func briefs(t testing.TB, sides ...string) []string {
	t.Helper()
	res, err := Compare(sides, Options{Temp: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	var out []string
	for _, p := range res.Pairs {
		p.Root.Walk(func(n *Node) bool {
			if err := n.Check(); err != nil {
				t.Error(err)
			}
			for _, f := range n.Findings {
				if !f.Effect {
					out = append(out, strings.TrimSpace(strings.TrimPrefix(n.Path(), "linux/amd64 → "))+": "+strings.TrimSpace(f.What+" "+f.Where)+" "+f.A+"|"+f.B)
				}
			}
			return true
		})
	}
	return out
}

func base() []file {
	t := time.Unix(1700000000, 0)
	return []file{
		{tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755, ModTime: t}, ""},
		{tar.Header{Typeflag: tar.TypeReg, Name: "etc/motd", Mode: 0o644, ModTime: t}, "one\ntwo\nthree\n"},
		{tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/ping", Mode: 0o755, ModTime: t}, "\x7fNOT\x00\x01\x02" + strings.Repeat("\x00code", 2000)},
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/bin/sh", Linkname: "dash", Mode: 0o777, ModTime: t}, ""},
	}
}

func TestLayers(t *testing.T) {
	tests := []struct {
		summary string
		files   func(f []file) []file // of side B's only layer
		want    []string
	}{{
		summary: "equal sides",
	}, {
		summary: "a line of text",
		files:   func(f []file) []file { f[1].content = "one\ntwx\nthree\n"; return f },
		want:    []string{"layer 0 → etc/motd: text two\n|twx\n"},
	}, {
		summary: "a byte of a binary",
		files: func(f []file) []file {
			b := []byte(f[2].content)
			b[9001] = 0xff
			f[2].content = string(b)
			return f
		},
		want: []string{"layer 0 → usr/bin/ping: bytes 65|ff"},
	}, {
		summary: "every field of a header at once",
		files: func(f []file) []file {
			h := &f[1].Header
			h.Mode, h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime = 0o600, 5, 6, "u", "g", h.ModTime.Add(time.Hour)
			return f
		},
		want: []string{
			"layer 0 → etc/motd: mode 0644|0600", "layer 0 → etc/motd: owner 0:0|5:6",
			"layer 0 → etc/motd: mtime 1700000000 (2023-11-14 22:13:20)|1700003600 (2023-11-14 23:13:20)",
			"layer 0 → etc/motd: user :|u:g",
		},
	}, {
		summary: "an extended attribute and a time finer than seconds",
		files: func(f []file) []file {
			f[1].PAXRecords = map[string]string{"SCHILY.xattr.user.x": "v"}
			f[1].Format, f[1].ModTime = tar.FormatPAX, f[1].ModTime.Add(5)
			return f
		},
		want: []string{
			"layer 0 → etc/motd: xattr user.x |v", "layer 0 → etc/motd: mtime 1700000000 (2023-11-14 22:13:20)|1700000000.000000005 (2023-11-14 22:13:20)",
			"layer 0 → etc/motd: tar ustar|pax",
		},
	}, {
		summary: "a link that leads elsewhere, and one that became a file",
		files: func(f []file) []file {
			f[3].Linkname = "bash"
			f[0] = file{tar.Header{Typeflag: tar.TypeReg, Name: "etc", Mode: 0o755, ModTime: f[0].ModTime}, "now a file"}
			return f
		},
		want: []string{
			"layer 0 → etc: content 0 bytes|10 bytes", "layer 0 → etc: name etc/|etc", "layer 0 → etc: type folder|file",
			"layer 0 → usr/bin/sh: link dash|bash",
		},
	}, {
		summary: "a hard link instead of a copy",
		files: func(f []file) []file {
			return append(f, file{tar.Header{Typeflag: tar.TypeLink, Name: "etc/copy", Linkname: "etc/motd", ModTime: f[0].ModTime}, ""})
		},
		want: []string{`layer 0 → etc/copy: presence |hard link 0000 0:0 to "etc/motd"`},
	}, {
		summary: "a whiteout",
		files:   func(f []file) []file { return append(f, regular("etc/.wh.passwd", "")) },
		want:    []string{"layer 0 → etc/.wh.passwd: presence |whiteout 0644 0:0"},
	}, {
		summary: "renamed with equal contents",
		files:   func(f []file) []file { f[1].Name = "etc/other"; return f },
		want:    []string{"layer 0 → etc/motd: renamed etc/motd|etc/other"},
	}, {
		summary: "renamed and changed",
		files: func(f []file) []file {
			f[2].Name = "usr/sbin/pong"
			b := []byte(f[2].content)
			b[30] = 'X'
			f[2].content = string(b)
			return f
		},
		want: []string{"layer 0 → usr/bin/ping: renamed usr/bin/ping|usr/sbin/pong", "layer 0 → usr/bin/ping: bytes code|coXe"},
	}, {
		summary: "entries in another order",
		files:   func(f []file) []file { f[1], f[2] = f[2], f[1]; return f },
		want:    []string{"layer 0: order etc/motd|etc/motd"},
	}, {
		summary: "one path twice",
		files:   func(f []file) []file { return append(f, f[1]) },
		want:    []string{"layer 0 → etc/motd: presence |file 0644 0:0, 14 bytes"},
	}}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) { testLayers(t, gzipOf6, tt.files, tt.want) })
		t.Run(tt.summary+", zstd", func(t *testing.T) { testLayers(t, zstdOf, tt.files, tt.want) })
		t.Run(tt.summary+", zstd, layers unpacked twice", func(t *testing.T) {
			before := maxKept
			maxKept = 0
			defer func() { maxKept = before }()
			testLayers(t, zstdOf, tt.files, tt.want)
		})
	}
}

func gzipOf6(b []byte) []byte { return gzipOf(b, gzip.Header{}, 6) }

func testLayers(t *testing.T, pack func([]byte) []byte, change func([]file) []file, want []string) {
	files := base()
	if change != nil {
		files = change(files)
	}
	var got []string
	image := func(files []file) string {
		s := imageOf(t, files)
		s.layers[0] = pack(s.plain[0])
		return s.write(t)
	}
	for _, s := range briefs(t, image(base()), image(files)) {
		if !strings.HasPrefix(s, "layer 0: padding after the last entry") {
			got = append(got, s)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestImages(t *testing.T) {
	other := []file{regular("opt/x", "x\n"), regular("opt/y", "y\n")}
	changed := []file{regular("opt/x", "x\n"), regular("opt/y", "z\n")}
	tests := []struct {
		summary string
		a, b    *imageSide
		change  func(a, b *imageSide)
		want    []string
	}{{
		summary: "config and history",
		a:       imageOf(t, base()), b: imageOf(t, base()),
		change: func(_, b *imageSide) {
			b.config["created"] = "2026-11-02T00:00:00Z"
			b.config["history"] = []any{map[string]any{"created_by": "two"}}
		},
		want: []string{"config: oci.config created 2026-11-01T00:00:00Z|2026-11-02T00:00:00Z", "config: oci.history history[0].created_by one|two"},
	}, {
		summary: "annotation of the index",
		a:       imageOf(t, base()), b: imageOf(t, base()),
		change: func(_, b *imageSide) { b.index["annotations"] = map[string]any{"run": "17"} },
		want:   []string{"index: oci.index annotations.run |17"},
	}, {
		summary: "only the compression differs: Go's levels are named",
		a:       imageOf(t, base()), b: imageOf(t, base()),
		change: func(_, b *imageSide) { b.layers[0] = gzipOf(b.plain[0], gzip.Header{}, 9) },
		want:   []string{"layer 0: gzip.flags extra flags 0|2 (best)", "layer 0: compression 233 bytes|216 bytes"},
	}, {
		summary: "gzip's time",
		a:       imageOf(t, base()), b: imageOf(t, base()),
		change: func(_, b *imageSide) {
			b.layers[0] = gzipOf(b.plain[0], gzip.Header{ModTime: time.Unix(1700000000, 0)}, 6)
		},
		want: []string{"layer 0: gzip.mtime 0 (1970-01-01 00:00:00)|1700000000 (2023-11-14 22:13:20)"},
	}, {
		summary: "gzip or zstd",
		a:       imageOf(t, base()), b: imageOf(t, base()),
		change: func(_, b *imageSide) { b.layers[0] = zstdOf(b.plain[0]) },
		want:   []string{"layer 0: compression gzip|zstd"},
	}, {
		summary: "layers pair by content, not by position",
		a:       imageOf(t, base(), other), b: imageOf(t, changed, base()),
		want: []string{": oci.layers order layer 0|layer 1", "layer 1 → opt/y: text y\n|z\n"},
	}, {
		summary: "a layer more",
		a:       imageOf(t, base()), b: imageOf(t, base(), other),
		want: []string{": oci.layers number 1|2", "layer 1: presence |layer DIGEST"},
	}}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			if tt.change != nil {
				tt.change(tt.a, tt.b)
			}
			var got []string
			for _, s := range briefs(t, tt.a.write(t), tt.b.write(t)) {
				s = strings.TrimPrefix(s, "linux/amd64")
				if i := strings.Index(s, "|layer sha256:"); i >= 0 {
					s = s[:i] + "|layer DIGEST"
				}
				got = append(got, s)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// One image is the same in a folder, an archive and a packed archive; a docker archive of it
// has the same config and layers.
func TestContainers(t *testing.T) {
	s := imageOf(t, base(), []file{regular("x", "y")})
	sides := []string{s.write(t), s.archive(t, false), s.archive(t, true), s.docker(t)}
	res, err := Compare(sides, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	var kinds []SideKind
	for _, s := range res.Sides {
		kinds = append(kinds, s.Kind)
	}
	if d := cmp.Diff([]SideKind{KindLayout, KindArchive, KindArchive, KindDocker}, kinds); d != "" {
		t.Errorf("kinds (-want +got)\n%s", d)
	}
	if d := cmp.Diff([][]int{{0, 1, 2, 3}}, res.Classes); d != "" {
		t.Errorf("classes (-want +got)\n%s", d)
	}
	other := imageOf(t, base(), []file{regular("x", "z")})
	if got := briefs(t, s.write(t), other.docker(t)); len(got) != 1 || got[0] != "layer 1 → x: text y|z" {
		t.Errorf("findings are %q", got)
	}
}

// A tar and the folder it is unpacked to differ in what both can say, and that is nothing.
func TestClasses(t *testing.T) {
	dir := t.TempDir()
	var sides []string
	for i, content := range []string{"a", "b", "a", "c", "b"} {
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		sides = append(sides, name)
	}
	res, err := Compare(sides, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if d := cmp.Diff([][]int{{0, 2}, {1, 4}, {3}}, res.Classes); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if len(res.Pairs) != 2 || res.Pairs[0].B != 1 || res.Pairs[1].B != 3 {
		t.Errorf("pairs are %+v", res.Pairs)
	}
}

func TestHostileSides(t *testing.T) {
	good := imageOf(t, base()).write(t)
	different := imageOf(t, []file{regular("x", "y")}).write(t)
	damage := func(change func(dir string)) string {
		dir := imageOf(t, base()).write(t)
		change(dir)
		return dir
	}
	layerFile := func(dir string) string {
		name := ""
		filepath.WalkDir(dir, func(p string, d os.DirEntry, _ error) error {
			if b, err := os.ReadFile(p); err == nil && bytes.HasPrefix(b, []byte("\x1f\x8b")) {
				name = p
			}
			return nil
		})
		return name
	}
	tests := []struct {
		summary string
		dir     string
		want    string
	}{{
		summary: "no such side", dir: filepath.Join(good, "none"),
		want: `cannot compare "DIR/none": no such file or directory`,
	}, {
		summary: "index leads out", dir: damage(func(dir string) {
			os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[{"digest":"sha256:../../../../etc/passwd"}]}`), 0o644)
		}),
		want: `cannot compare "DIR/index.json": digest "sha256:../../../../etc/passwd" is not sha256 and 64 hexadecimal digits`,
	}, {
		summary: "a layer is missing", dir: damage(func(dir string) { os.Remove(layerFile(dir)) }),
		want: `cannot compare "DIR/blobs/sha256/DIGEST": file does not exist, and the image names it: this copy of the image is not whole`,
	}, {
		summary: "an empty image", dir: damage(func(dir string) {
			os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[]}`), 0o644)
		}),
		want: `cannot compare "DIR/index.json": it names no image`,
	}, {
		summary: "a document of another digest", dir: damage(func(dir string) {
			filepath.WalkDir(filepath.Join(dir, "blobs"), func(p string, d os.DirEntry, _ error) error {
				if b, err := os.ReadFile(p); err == nil && bytes.HasPrefix(b, []byte("{")) {
					os.WriteFile(p, append(b, ' '), 0o644)
				}
				return nil
			})
		}),
		want: `cannot compare "DIR/blobs/sha256/DIGEST": its bytes have digest sha256:DIGEST`,
	}}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			_, err := Compare([]string{tt.dir, different}, Options{})
			if err == nil {
				t.Fatal("no error")
			}
			var input *InputError
			if !errors.As(err, &input) {
				t.Errorf("error is a %T", err)
			}
			got := strings.ReplaceAll(err.Error(), tt.dir, "DIR")
			if strings.HasSuffix(tt.dir, "/none") {
				got = strings.ReplaceAll(err.Error(), good, "DIR")
			}
			for i := 0; i+64 <= len(got); i++ {
				if strings.Trim(got[i:i+64], "0123456789abcdef") == "" {
					got = got[:i] + "DIGEST" + got[i+64:]
				}
			}
			if got != tt.want {
				t.Errorf("error is %q, expected %q", got, tt.want)
			}
		})
	}
	// A layer whose bytes are not what its digest says, against an image with another layer.
	dir := damage(func(dir string) {
		p := layerFile(dir)
		b, _ := os.ReadFile(p)
		b[9] ^= 1 // gzip's operating system: it still unpacks
		os.WriteFile(p, b, 0o644)
	})
	if _, err := Compare([]string{dir, imageOf(t, []file{regular("x", "y")}).write(t)}, Options{}); err == nil || !strings.Contains(err.Error(), "its bytes have digest") {
		t.Errorf("error is %v", err)
	}
}

// Images that say that they are the same are the same only if their bytes say so, too.
func TestSameInWordsOnly(t *testing.T) {
	image := imageOf(t, base(), []file{regular("x", "y")})
	forms := []struct {
		name  string
		write func() string
		part  string // of the name of a layer
	}{
		{"layout", func() string { return image.write(t) }, "blobs/sha256/"},
		{"archive", func() string { return image.archive(t, false) }, "blobs/sha256/"},
		{"packed archive", func() string { return image.archive(t, true) }, "blobs/sha256/"},
		{"docker archive", func() string { return image.docker(t) }, "/layer.tar"},
	}
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			a, b := form.write(), form.write()
			res, err := Compare([]string{a, b, a}, Options{})
			if err != nil || !res.Same() {
				t.Fatalf("the same image: %v", err)
			}
			res.Close()

			// Every layer is damaged in turn, where nothing but its digest tells.
			for i := range image.layers {
				layers, plain := slices.Clone(image.layers), slices.Clone(image.plain)
				all := image.blobs()
				digest := func(b []byte) string { return fmt.Sprintf("blobs/sha256/%x", sha256.Sum256(b)) }
				name := digest(layers[i])
				all[name] = slices.Clone(all[name])
				all[name][9] ^= 1 // gzip's operating system
				image.damaged = all
				image.plain[i] = bytes.Replace(plain[i], []byte("ustar"), []byte("uster"), 1)
				bad := form.write()
				image.plain, image.damaged = plain, nil
				for _, sides := range [][]string{{a, bad}, {bad, a}, {a, b, bad}} {
					_, err := Compare(sides, Options{})
					var input *InputError
					if !errors.As(err, &input) || input.Side != bad || !strings.Contains(input.Name, form.part) || !strings.HasPrefix(input.Err.Error(), "its bytes have digest sha256:") {
						t.Errorf("layer %d is damaged: error is %v", i, err)
					}
				}
			}
		})
	}
}

func TestStopped(t *testing.T) {
	done := make(chan struct{})
	close(done)
	_, err := Compare([]string{imageOf(t, base()).write(t), imageOf(t, nil).write(t)}, Options{Done: done})
	if err != ErrStopped {
		t.Errorf("error is %v", err)
	}
}

// TestLayerAccount holds the account of layers with random entries, in random order.
func TestLayerAccount(t *testing.T) {
	entry := rapid.Custom(func(t *rapid.T) file {
		f := regular(rapid.SampledFrom([]string{"a", "b", "c", "dir/d", "dir/e", "long/" + strings.Repeat("n", 110)}).Draw(t, "name"),
			rapid.SampledFrom([]string{"", "one\n", "one\ntwo\n", strings.Repeat("long\n", 300), "\x00\x01\x02"}).Draw(t, "content"))
		f.Mode = int64(rapid.SampledFrom([]int{0o644, 0o755}).Draw(t, "mode"))
		f.ModTime = time.Unix(1700000000+int64(rapid.IntRange(0, 1).Draw(t, "time")), int64(rapid.IntRange(0, 1).Draw(t, "nanos"))*1000)
		if rapid.Bool().Draw(t, "pax") {
			f.Format = tar.FormatPAX
			f.PAXRecords = map[string]string{"SCHILY.xattr.user.k": rapid.SampledFrom([]string{"1", "22"}).Draw(t, "xattr")}
		}
		return f
	})
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		files := rapid.SliceOfN(entry, 0, 8)
		checkPair(rt, dir, "x.tar", tarOf(t, files.Draw(rt, "a")), tarOf(t, files.Draw(rt, "b")))
	})
}
