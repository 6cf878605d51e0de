package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"runtime"
	"strings"
	"testing"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

const epoch = 1_700_000_000

// zoo has one of everything that a layer can hold, and what makes PAX headers needed.
func zoo() []tree.Entry {
	text := func(p, body string) tree.Entry { return tree.NewFile(p, 0o644, epoch-100, []byte(body)) }
	tool := text("usr/bin/tool", strings.Repeat("tool", 1000))
	tool.Mode, tool.UID, tool.GID = 0o4755, 1000, 65534
	tool.Xattrs = map[string]string{"user.note": "a=b\nc", "security.capability": "\x01\x00\x00\x02\x00"}
	big := text("var/owner", "x")
	big.UID, big.GID = 4_000_000_000, 2_097_152
	late := text("var/late", "x")
	late.ModTime = epoch + 5
	early := text("var/early", "x")
	early.ModTime = -1
	list := []tree.Entry{
		{Path: "tmp", Kind: tree.Dir, Mode: 0o1777, ModTime: 5},
		tool,
		{Path: "usr/bin/tool2", Kind: tree.Hardlink, Link: "usr/bin/tool", Mode: 0o4755, UID: 1000, GID: 65534, ModTime: epoch - 100},
		{Path: "usr/bin/link", Kind: tree.Symlink, Mode: 0o777, Link: "../" + strings.Repeat("l", 100)},
		{Path: "usr/fifo", Kind: tree.Fifo, Mode: 0o600},
		{Path: "usr/share/gone", Kind: tree.Whiteout},
		text("usr/share/"+strings.Repeat("p", 90)+"/"+strings.Repeat("n", 99), "prefix"),
		text("usr/share/"+strings.Repeat("q", 120)+"/"+strings.Repeat("n", 120), "pax"),
		text("usr/share/ümlaut ‽", "utf8"), text("usr/share/latin\xe9", "raw"), text("usr/empty", ""), text("usr/block", strings.Repeat("b", 512)),
		big, late, early,
	}
	tree.SortEntries(list)
	return tree.WithParents(list)
}

func write(t testing.TB, entries []tree.Entry, o Options) ([]byte, Info) {
	t.Helper()
	var b bytes.Buffer
	info, err := Write(&b, entries, o)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), info
}

// TestGolden fails on any change of the tar writer, the compressor or its
// level. Locks name the rules that they were made with, so such a change needs
// another number.
func TestGolden(t *testing.T) {
	const (
		wantTar  = "sha256:6452f4182bb6ec84e80e77aa23f068c88ee8b0015c504bf87d354db9213850a8"
		wantGzip = "sha256:87f9a2e94449405e606053f889e8b0eabff49ec9c9e3e53d1f09f11c313b612c"
	)
	entries := append(zoo(), tree.NewFile("zzz", 0o644, 0, compressible(3<<20)))
	_, info := write(t, entries, Options{Epoch: epoch})
	if info.DiffID.String() != wantTar || info.Digest.String() != wantGzip {
		t.Errorf("a fixed tree became other bytes: bump builder.AssemblerVersion, then change this test\ntar  %s, expected %s\ngzip %s, expected %s",
			info.DiffID, wantTar, info.Digest, wantGzip)
	}
}

// TestCompressorIsNamed holds the record's words against what is linked.
func TestCompressorIsNamed(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(Compressor) // "klauspost/compress v1.20.3 gzip level 4"
	if want := "github.com/" + words[0] + " " + words[1]; !strings.Contains(string(mod), want) {
		t.Errorf("go.mod does not require %q", want)
	}
	if want := fmt.Sprintf("gzip level %d", level); !strings.HasSuffix(Compressor, want) {
		t.Errorf("Compressor %q does not end by %q", Compressor, want)
	}
}

// compressible is text that looks somewhat like programs do to a compressor.
func compressible(n int) []byte {
	r := rand.New(rand.NewSource(1)) // its sequence is promised by Go 1
	b := make([]byte, 0, n+64)
	for len(b) < n {
		if len(b) > 1000 && r.Intn(3) > 0 {
			at := r.Intn(len(b) - 100)
			b = append(b, b[at:at+4+r.Intn(60)]...)
			continue
		}
		for range 1 + r.Intn(20) {
			b = append(b, byte(r.Intn(256)))
		}
	}
	return b[:n]
}

func TestWriteIsStable(t *testing.T) {
	entries := append(zoo(), tree.NewFile("zzz", 0o644, 0, compressible(1<<20)))
	want, _ := write(t, entries, Options{Epoch: epoch})
	for _, procs := range []int{1, 2, 7} {
		old := runtime.GOMAXPROCS(procs)
		got, _ := write(t, entries, Options{Epoch: epoch})
		runtime.GOMAXPROCS(old)
		if !bytes.Equal(got, want) {
			t.Errorf("with %d processors other bytes come out", procs)
		}
	}
	small := entries
	small[len(small)-1].Content = dripping{small[len(small)-1].Content}
	if got, _ := write(t, small, Options{Epoch: epoch}); !bytes.Equal(got, want) {
		t.Error("when contents come in small pieces other bytes come out")
	}
}

// dripping is Content that comes in pieces of 7 bytes.
type dripping struct{ tree.Content }

func (d dripping) Open() (io.ReadCloser, error) {
	r, err := d.Content.Open()
	return struct {
		io.Reader
		io.Closer
	}{iotestSmall{r}, r}, err
}

type iotestSmall struct{ r io.Reader }

func (s iotestSmall) Read(p []byte) (int, error) { return s.r.Read(p[:min(7, len(p))]) }

func TestInfo(t *testing.T) {
	packed, info := write(t, zoo(), Options{Epoch: epoch})
	if info.Digest != digest.Of(packed) || info.Size != int64(len(packed)) {
		t.Errorf("%+v does not describe the %d bytes written", info, len(packed))
	}
	if !bytes.Equal(packed[:10], []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}) {
		t.Errorf("gzip header % x has something in it", packed[:10])
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if info.DiffID != digest.Of(plain) || info.DiffSize != int64(len(plain)) {
		t.Errorf("%+v does not describe the %d bytes of the tar", info, len(plain))
	}
	same, _ := write(t, zoo(), Options{Epoch: epoch, Compression: Uncompressed})
	if !bytes.Equal(same, plain) {
		t.Error("uncompressed, other bytes are written")
	}
}

// TestReadBack has archive/tar say what was written.
func TestReadBack(t *testing.T) {
	plain, _ := write(t, zoo(), Options{Epoch: epoch, Compression: Uncompressed})
	var got strings.Builder
	r := tar.NewReader(bytes.NewReader(plain))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.NewReplacer(strings.Repeat("p", 90), "P", strings.Repeat("q", 120), "Q", strings.Repeat("n", 120), "N120", strings.Repeat("n", 99), "N99").Replace(h.Name)
		fmt.Fprintf(&got, "%c %04o %d:%d %d %q", h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.Unix()-epoch, name)
		if h.Linkname != "" {
			fmt.Fprintf(&got, " -> %s", strings.ReplaceAll(h.Linkname, strings.Repeat("l", 100), "L"))
		}
		if len(body) > 0 {
			fmt.Fprintf(&got, " %d", len(body))
		}
		for _, k := range []string{"path", "linkpath", "uid", "gid", "mtime", "size", "SCHILY.xattr.security.capability", "SCHILY.xattr.user.note"} {
			if v, ok := h.PAXRecords[k]; ok && len(v) < 50 {
				fmt.Fprintf(&got, " %s=%q", k, v)
			} else if ok {
				fmt.Fprintf(&got, " %s", k)
			}
		}
		if h.Uname != "" || h.Gname != "" || h.Devmajor != 0 {
			t.Errorf("%q has names of its owner or a device number", h.Name)
		}
		got.WriteByte('\n')
	}
	want := `5 1777 0:0 0 "tmp/"
5 0755 0:0 0 "usr/"
5 0755 0:0 0 "usr/bin/"
2 0777 0:0 -1700000000 "usr/bin/link" -> ../L linkpath
0 4755 1000:65534 -100 "usr/bin/tool" 4000 SCHILY.xattr.security.capability="\x01\x00\x00\x02\x00" SCHILY.xattr.user.note="a=b\nc"
1 4755 1000:65534 -100 "usr/bin/tool2" -> usr/bin/tool
0 0644 0:0 -100 "usr/block" 512
0 0644 0:0 -100 "usr/empty"
6 0600 0:0 -1700000000 "usr/fifo"
5 0755 0:0 0 "usr/share/"
0 0000 0:0 0 "usr/share/.wh.gone"
0 0644 0:0 -100 "usr/share/latin\xe9" 3
5 0755 0:0 0 "usr/share/P/"
0 0644 0:0 -100 "usr/share/P/N99" 6
5 0755 0:0 0 "usr/share/Q/" path
0 0644 0:0 -100 "usr/share/Q/N120" 3 path
0 0644 0:0 -100 "usr/share/ümlaut ‽" 4
5 0755 0:0 0 "var/"
0 0644 0:0 -1700000001 "var/early" 1 mtime="-1"
0 0644 0:0 0 "var/late" 1
0 0644 4000000000:2097152 -100 "var/owner" 1 uid="4000000000" gid="2097152"
`
	if got.String() != want {
		t.Errorf("got\n%s\nexpected\n%s", got.String(), want)
	}
	if len(plain)%512 != 0 || !bytes.Equal(plain[len(plain)-1024:], make([]byte, 1024)) || bytes.Equal(plain[len(plain)-1536:len(plain)-1024], make([]byte, 512)) {
		t.Error("the tar does not end by two blocks of zeros and no more")
	}
}

func TestHugeFile(t *testing.T) {
	h := header{name: "huge", size: 8 << 30}
	var field [12]byte
	h.octal(field[:], h.size, "size")
	if len(h.records) != 1 || h.records[0] != (record{"size", "8589934592"}) {
		t.Errorf("a file of 8 GiB gets the records %v", h.records)
	}
	for _, c := range []struct {
		r    record
		want string
	}{{record{"a", "b"}, "6 a=b\n"}, {record{"path", "1234"}, "13 path=1234\n"}, {record{"k", strings.Repeat("v", 93)}, "99 k=" + strings.Repeat("v", 93) + "\n"}, {record{"k", strings.Repeat("v", 94)}, "101 k=" + strings.Repeat("v", 94) + "\n"}} {
		if got := string(appendRecord(nil, c.r)); got != c.want || fmt.Sprint(len(got)) != strings.SplitN(got, " ", 2)[0] {
			t.Errorf("record %q, expected %q", got, c.want)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	bad := tree.NewFile("a", 0o644, 0, []byte("hello"))
	bad.Content = tree.Bytes("jello")
	var content *tree.ContentError
	if _, err := Write(io.Discard, []tree.Entry{bad}, Options{}); !errors.As(err, &content) || content.Path != "a" {
		t.Errorf("other contents: %v", err)
	}
	var order *OrderError
	if _, err := Write(io.Discard, []tree.Entry{{Path: "b", Kind: tree.Dir}, {Path: "a", Kind: tree.Dir}}, Options{}); !errors.As(err, &order) || err.Error() != `cannot write layer: entry "a" does not sort after "b"` {
		t.Errorf("order: %v", err)
	}
	if _, err := Write(io.Discard, []tree.Entry{{Path: "a", Kind: tree.Dir}, {Path: "a", Kind: tree.Dir}}, Options{}); !errors.As(err, &order) {
		t.Errorf("twice: %v", err)
	}
	full := errors.New("no space left on device")
	if _, err := Write(failing{full}, []tree.Entry{tree.NewFile("a", 0o644, 0, compressible(1<<20))}, Options{}); !errors.Is(err, full) {
		t.Errorf("full disk: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// BenchmarkWrite writes one layer of 16 MiB.
func BenchmarkWrite(b *testing.B) {
	entries := []tree.Entry{tree.NewFile("a", 0o644, 0, compressible(16<<20))}
	b.SetBytes(16 << 20)
	for b.Loop() {
		if _, err := Write(io.Discard, entries, Options{Epoch: epoch}); err != nil {
			b.Fatal(err)
		}
	}
}
