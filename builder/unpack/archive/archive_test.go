package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os/exec"
	"strings"
	"testing"
	"time"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/archive"
	"quorate.dev/builder/unpack/deb/debfile"
	"quorate.dev/lockfile/digest"
)

type file = debfile.File

func unpack(b []byte, o archive.Options) (*archive.Archive, []byte, error) {
	var data bytes.Buffer
	a, err := archive.Unpack(bytes.NewReader(b), int64(len(b)), &data, o)
	return a, data.Bytes(), err
}

// listing writes an archive as text, contents included.
func listing(a *archive.Archive, data []byte) string {
	var b strings.Builder
	for _, e := range a.Entries {
		fmt.Fprintf(&b, "%c %04o %d:%d %d %s", e.Kind, e.Mode, e.UID, e.GID, e.ModTime, e.Path)
		if e.Link != "" {
			fmt.Fprintf(&b, " -> %s", e.Link)
		}
		if e.Kind == tree.File {
			body := data[e.Offset : e.Offset+e.Size]
			if digest.Of(body) != e.Digest {
				b.WriteString(" WRONG DIGEST")
			}
			fmt.Fprintf(&b, " %q", body)
		}
		b.WriteString("\n")
	}
	return b.String()
}

var honest = []file{
	{Name: "./"},
	{Name: "./d/", Mode: 0o1777, ModTime: 5},
	{Name: "./d/empty", UID: 1000, GID: 2000},
	{Name: "d/a", Body: "hello", ModTime: 7, Mode: 0o4755},
	{Name: "d/" + strings.Repeat("l", 200), Body: "long"},
	{Name: "d/h", Type: tar.TypeLink, Link: "./d/a"},
	{Name: "d/s", Link: "../../etc/passwd"},
	{Name: "d/p", Type: tar.TypeFifo},
	{Name: "x//y/./z", Body: "odd"},
}

var honestListing = strings.ReplaceAll(`d 1777 0:0 5 d
f 0644 1000:2000 0 d/empty ""
f 4755 0:0 7 d/a "hello"
f 0644 0:0 0 d/LONG "long"
h 4755 0:0 7 d/h -> d/a
l 0777 0:0 0 d/s -> ../../etc/passwd
p 0644 0:0 0 d/p
f 0644 0:0 0 x/y/z "odd"
`, "LONG", strings.Repeat("l", 200))

func TestUnpackTar(t *testing.T) {
	plain := debfile.Tar(honest...)
	for suffix, b := range map[string][]byte{
		"tar": plain, "tar.gz": debfile.Compress(".gz", plain), "tar.xz": debfile.Compress(".xz", plain),
		"tar.zst": debfile.Compress(".zst", plain), "tar.bz2": bzip(t, plain),
	} {
		a, data, err := unpack(b, archive.Options{})
		if err != nil {
			t.Errorf("%s: %v", suffix, err)
			continue
		}
		if a.Format != suffix || a.DataSize != int64(len(plain)) || !bytes.Equal(data, plain) {
			t.Errorf("%s: format %q, %d bytes, expected the %d of the tar", suffix, a.Format, a.DataSize, len(plain))
		}
		if got := listing(a, data); got != honestListing {
			t.Errorf("%s: got\n%s\nexpected\n%s", suffix, got, honestListing)
		}
	}
}

// bzip compresses with bzip2(1): Go has no writer.
func bzip(t *testing.T, b []byte) []byte {
	cmd := exec.Command("bzip2", "-c")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("bzip2(1) is needed: %v", err)
	}
	return out
}

func TestUnpackHardLinks(t *testing.T) {
	a, data, err := unpack(debfile.Tar(
		file{Name: "m", Body: "1", Mode: 0o755}, file{Name: "z", Type: tar.TypeLink, Link: "m"}, file{Name: "a", Type: tar.TypeLink, Link: "z"}, file{Name: "b", Body: "2"},
	), archive.Options{})
	want := `h 0755 0:0 0 m -> a
h 0755 0:0 0 z -> a
f 0755 0:0 0 a "1"
f 0644 0:0 0 b "2"
`
	if err != nil || listing(a, data) != want {
		t.Errorf("%v\n%s\nexpected\n%s", err, listing(a, data), want)
	}
}

func TestUnpackHostileTar(t *testing.T) {
	deep := strings.Repeat("a/", 2100) + "b"
	for _, c := range []struct {
		summary string
		files   []file
		want    string
	}{
		{"parent", []file{{Name: "a/../../b"}}, `member "a/../../b" has ".." in its name`},
		{"parent inside", []file{{Name: "a/../b"}}, `member "a/../b" has ".." in its name`},
		{"absolute", []file{{Name: "/etc/passwd"}}, `member "/etc/passwd" has an absolute name`},
		{"below a link", []file{{Name: "s", Link: "/etc"}, {Name: "s/passwd"}}, `member "s/passwd" lies below "s", which is a symbolic link to "/etc"`},
		{"deep below a link", []file{{Name: "s", Link: ".."}, {Name: "s/a/b"}}, `member "s/a/b" lies below "s", which is a symbolic link to ".."`},
		{"below a file", []file{{Name: "s", Body: "x"}, {Name: "s/a"}}, `member "s/a" lies below "s", which is not a directory`},
		{"twice", []file{{Name: "a"}, {Name: "./a"}}, `member "./a" is there twice (first as "a")`},
		{"directory becomes link", []file{{Name: "a/"}, {Name: "a", Link: "/"}}, `member "a" is there twice (first as "a/")`},
		{"unlike directories", []file{{Name: "a/"}, {Name: "a/", Mode: 0o700}}, `member "a/" is a directory that is there twice, with different mode or owner`},
		{"character device", []file{{Name: "null", Type: tar.TypeChar}}, `member "null" is a character device`},
		{"block device", []file{{Name: "sda", Type: tar.TypeBlock}}, `member "sda" is a block device`},
		{"hard link to nothing", []file{{Name: "h", Type: tar.TypeLink, Link: "a"}}, `member "h" is a hard link to "a", which does not come before it`},
		{"hard link forward", []file{{Name: "h", Type: tar.TypeLink, Link: "a"}, {Name: "a"}}, `member "h" is a hard link to "a", which does not come before it`},
		{"hard link out", []file{{Name: "h", Type: tar.TypeLink, Link: "../a"}}, `member "h" is a hard link to "../a", which is refused as a path`},
		{"hard link to a link", []file{{Name: "s", Link: "/etc/shadow"}, {Name: "h", Type: tar.TypeLink, Link: "s"}}, `member "h" is a hard link to "s", which is not a regular file`},
		{"long name", []file{{Name: deep}}, `member "` + deep[:64] + `…" has a name of 4201 bytes; at most 4096 are accepted`},
		{"long part", []file{{Name: strings.Repeat("a", 256)}}, `member "` + strings.Repeat("a", 256) + `" has a part longer than 255 bytes in its name`},
		{"root as a file", []file{{Name: ".", Type: tar.TypeReg, Body: "x"}}, `member "." stands for the root and is not a directory`},
	} {
		_, _, err := unpack(debfile.Tar(c.files...), archive.Options{})
		if err == nil || err.Error() != "cannot unpack archive: "+c.want {
			t.Errorf("%s: %v\nexpected: %s", c.summary, err, c.want)
		}
	}
}

// TestUnpackHeaders has what archive/tar does not write.
func TestUnpackHeaders(t *testing.T) {
	a := debfile.Tar(file{Name: "a", Body: "x"})
	old := bytes.Clone(a)
	old[156] = 'S'
	copy(old[257:265], "ustar  \x00") // GNU's magic
	for _, c := range []struct {
		summary string
		bytes   []byte
		want    string
	}{
		{"PAX sparse", append(headerOf('x', "GNU.sparse.size", "10"), a...), `member "a" is a sparse file`},
		{"GNU sparse", fixSum(old), `member "a" is a sparse file`},
		{"global path", append(headerOf('g', "path", "/etc/passwd"), a...), `member "/etc/passwd" is a global header that sets "path"`},
		{"unknown type", fixSum(append(append([]byte{}, a[:156]...), append([]byte{'Z'}, a[157:]...)...)), `member "a" has type 'Z', which images cannot hold`},
	} {
		_, _, err := unpack(c.bytes, archive.Options{})
		if err == nil || err.Error() != "cannot unpack archive: "+c.want {
			t.Errorf("%s: %v\nexpected: %s", c.summary, err, c.want)
		}
	}
	if _, _, err := unpack(append(headerOf('g', "comment", "0123456"), a...), archive.Options{}); err != nil {
		t.Errorf("git's comment: %v", err)
	}
}

// headerOf is a PAX header of the given type with one record.
func headerOf(kind byte, key, value string) []byte {
	r := fmt.Sprintf(" %s=%s\n", key, value)
	b := debfile.Tar(file{Name: "pax_global_header", Body: fmt.Sprintf("%d%s", len(r)+2, r)})
	b[156] = kind
	return fixSum(b[:len(b)-1024])
}

// fixSum makes the checksum of the first header right.
func fixSum(b []byte) []byte {
	copy(b[148:156], "        ")
	var sum int
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func TestUnpackDamage(t *testing.T) {
	plain := debfile.Tar(honest...)
	for _, c := range []struct {
		summary string
		bytes   []byte
		want    string
	}{
		{"empty", nil, "its first bytes are neither tar, gzip, xz, zstd, bzip2 nor zip"},
		{"text", bytes.Repeat([]byte("hello "), 1000), "its first bytes are neither tar, gzip, xz, zstd, bzip2 nor zip"},
		{"no end mark", plain[:len(plain)-1024], `tar stream ends after member "x//y/./z" without its end mark: truncated`},
		{"half an end mark", plain[:len(plain)-512], `tar stream ends after member "x//y/./z" without its end mark: truncated`},
		{"truncated file", debfile.Tar(file{Name: "a", Body: strings.Repeat("x", 2000)})[:1000], `member "a" is truncated: 488 of 2000 bytes`},
		{"truncated header", plain[:700], `tar stream is truncated after member "./"`},
		{"bytes behind", append(bytes.Clone(plain), "more"...), "tar stream has other bytes than zeros after its end mark"},
		{"second archive behind", append(bytes.Clone(plain), plain...), "tar stream has other bytes than zeros after its end mark"},
		{"truncated gzip", cut(debfile.Compress(".gz", plain), 12), "gzip stream: unexpected EOF"},
		{"truncated xz", cut(debfile.Compress(".xz", plain), 40), "xz stream: xz: data is truncated or corrupt"},
		{"bad checksum", flip(debfile.Compress(".gz", plain), 8), "gzip stream: gzip: invalid checksum"},
		{"bytes behind gzip", append(debfile.Compress(".gz", plain), "garbage, more of it than a header"...), "gzip stream: gzip: invalid header"},
	} {
		_, _, err := unpack(c.bytes, archive.Options{})
		if err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %v\nexpected: %s", c.summary, err, c.want)
		}
	}
}

func cut(b []byte, n int) []byte { return b[:len(b)-n] }

// flip changes the byte n before the end.
func flip(b []byte, n int) []byte {
	b = bytes.Clone(b)
	b[len(b)-n] ^= 0xff
	return b
}

func TestUnpackLimits(t *testing.T) {
	many := make([]file, 20)
	for i := range many {
		many[i] = file{Name: fmt.Sprint("f", i), Body: strings.Repeat("x", 1000)}
	}
	b := debfile.Compress(".gz", debfile.Tar(many...))
	for _, c := range []struct {
		limits archive.Limits
		want   string
	}{
		{archive.Limits{Entries: 19}, "archive unpacks to more than 19 entries"},
		{archive.Limits{Bytes: 10000}, "archive unpacks to more than 10000 bytes"},
		{archive.Limits{Name: 2}, `member "f10" has a name of 3 bytes; at most 2 are accepted`},
	} {
		_, _, err := unpack(b, archive.Options{Limits: c.limits})
		if err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%+v: %v, expected %s", c.limits, err, c.want)
		}
	}
	if _, _, err := unpack(b, archive.Options{Limits: archive.Limits{Entries: 20, Bytes: 1 << 20, Name: 3}}); err != nil {
		t.Errorf("at the limits: %v", err)
	}
}

// TestBomb unpacks 400 MiB of zeros from 2 MB of zeros' zstd.
func TestBomb(t *testing.T) {
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	const size = 400 << 20
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	r := io.MultiReader(&head, io.LimitReader(zeros{}, size+1024))
	_, n, err := archive.ReadTar(r, io.Discard, archive.Rules{CompressedSize: 10 << 10, Canonical: archive.CleanName})
	var limit *archive.LimitError
	if !errors.As(err, &limit) || limit.Limit != 1000 || n > 257<<20 {
		t.Errorf("after %d bytes: %v, expected a ratio of at most 1000 from 256 MiB on", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestUnpackXattrs(t *testing.T) {
	a, _, err := unpack(debfile.Tar(file{Name: "ping", PAX: map[string]string{
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "SCHILY.xattr.user.note": "n",
		"SCHILY.xattr.security.selinux": "label", "SCHILY.xattr.trusted.overlay.opaque": "y",
	}}), archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := a.Entries[0].Xattrs
	if len(got) != 2 || got["security.capability"] != "\x01\x00\x00\x02" || got["user.note"] != "n" {
		t.Errorf("attributes %q, expected security.capability and user.note", got)
	}
}

// zipFile writes one member by hand-made header.
func zipOf(t *testing.T, headers ...*zip.FileHeader) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, h := range headers {
		body := h.Comment
		h.Comment = ""
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// member is a header whose contents travel in Comment until zipOf writes them.
func member(name string, mode fs.FileMode, body string) *zip.FileHeader {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Comment: body, Modified: time.Unix(1700000000, 0).UTC()}
	if mode != 0 {
		h.SetMode(mode)
	}
	return h
}

func TestUnpackZip(t *testing.T) {
	a, data, err := unpack(zipOf(t,
		member("d/", fs.ModeDir|0o750, ""), member("d/a", 0o755, "hello"), member("dos", 0, "x"), member("s", fs.ModeSymlink|0o777, "d/a"),
	), archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := `d 0750 0:0 1700000000 d
f 0755 0:0 1700000000 d/a "hello"
f 0644 0:0 1700000000 dos "x"
l 0777 0:0 1700000000 s -> d/a
`
	if got := listing(a, data); got != want || a.Format != "zip" || a.DataSize != 6 {
		t.Errorf("%s, %d bytes\n%s\nexpected\n%s", a.Format, a.DataSize, got, want)
	}
}

func TestUnpackHostileZip(t *testing.T) {
	lying := zipOf(t, member("a", 0o644, strings.Repeat("x", 1000)))
	at := bytes.Index(lying, []byte("PK\x01\x02"))
	copy(lying[at+24:], []byte{10, 0, 0, 0}) // the directory says 10 bytes
	for _, c := range []struct {
		summary string
		bytes   []byte
		want    string
	}{
		{"parent", zipOf(t, member("../a", 0o644, "x")), `member "../a" has ".." in its name`},
		{"absolute", zipOf(t, member("/a", 0o644, "x")), `member "/a" has an absolute name`},
		{"backslash", zipOf(t, member(`a\b`, 0o644, "x")), `member "a\\b" has a backslash in its name`},
		{"below a link", zipOf(t, member("s", fs.ModeSymlink|0o777, "/etc"), member("s/a", 0o644, "x")), `member "s/a" lies below "s", which is a symbolic link to "/etc"`},
		{"twice", zipOf(t, member("a", 0o644, "x"), member("a", 0o644, "y")), `member "a" is there twice (first as "a")`},
		{"device", zipOf(t, member("a", fs.ModeDevice|0o644, "")), `member "a" is neither file, directory nor symbolic link (mode Drw-r--r--)`},
		{"link to nothing", zipOf(t, member("a", fs.ModeSymlink|0o777, "")), `member "a" is a symbolic link to nothing`},
		{"lying size", lying, `member "a" cannot be read: zip: not a valid zip file`},
		{"truncated", zipOf(t, member("a", 0o644, "x"))[:40], "zip: not a valid zip file"},
	} {
		_, _, err := unpack(c.bytes, archive.Options{})
		if err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %v\nexpected: %s", c.summary, err, c.want)
		}
	}
}

func TestReaderIsReused(t *testing.T) {
	for i := range 3 {
		body := bytes.Repeat([]byte{byte('a' + i)}, 100000)
		r, err := archive.NewReader(archive.XZ, bytes.NewReader(debfile.Compress(".xz", body)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("round %d: %d bytes, %v", i, len(got), err)
		}
		r.Close()
		leaveBroken(t)
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Fatalf("read after close: %v", err)
		}
	}
}

// leaveBroken gives a decoder back in the middle of a damaged stream.
func leaveBroken(t *testing.T) {
	t.Helper()
	b := debfile.Compress(".xz", bytes.Repeat([]byte("0123456789"), 50000))
	r, err := archive.NewReader(archive.XZ, bytes.NewReader(flip(b, len(b)/2)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err == nil {
		t.Fatal("a damaged stream is accepted")
	}
}

// FuzzUnpack checks that whatever is accepted is safe to lay down.
func FuzzUnpack(f *testing.F) {
	plain := debfile.Tar(honest...)
	f.Add(plain)
	f.Add(debfile.Compress(".gz", plain))
	f.Add(debfile.Compress(".xz", debfile.Tar(file{Name: "a/b", Body: "x"})))
	f.Add(debfile.Tar(file{Name: "s", Link: "/etc"}, file{Name: "s2/a"}))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, data, err := unpack(b, archive.Options{Limits: archive.Limits{Bytes: 8 << 20, Entries: 1000}})
		if err != nil {
			return
		}
		var entries []tree.Entry
		for _, e := range a.Entries {
			if e.Kind == tree.File && digest.Of(data[e.Offset:e.Offset+e.Size]) != e.Digest {
				t.Fatalf("%q: digest does not hold", e.Path)
			}
			if strings.Contains("/"+e.Path, "/.wh.") {
				return // an archive may have such names, a tree may not
			}
			entries = append(entries, e.Entry)
		}
		if _, err := tree.New(entries); err != nil {
			t.Fatalf("accepted, but no tree: %v", err)
		}
	})
}

// littleEndian returns a function that writes numbers and bytes as zips have them.
func littleEndian(t *testing.T, b *bytes.Buffer) func(fields ...any) {
	return func(fields ...any) {
		t.Helper()
		for _, f := range fields {
			if err := binary.Write(b, binary.LittleEndian, f); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// forged is a zip whose directory names one packed member many times, which no
// program writes: header and directory say that it has size bytes.
func forged(t *testing.T, packed []byte, size uint32, crc uint32, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	put := littleEndian(t, &b)
	const version, deflate = 20, 8
	put(uint32(0x04034b50), uint16(version), uint16(0), uint16(deflate), uint32(0), crc, uint32(len(packed)), size, uint16(1), uint16(0), []byte("x"))
	b.Write(packed)
	at := b.Len()
	for _, name := range names {
		put(uint32(0x02014b50), uint16(version), uint16(version), uint16(0), uint16(deflate), uint32(0), crc, uint32(len(packed)), size,
			uint16(len(name)), uint16(0), uint16(0), uint16(0), uint16(0), uint32(0), uint32(0), []byte(name))
	}
	put(uint32(0x06054b50), uint16(0), uint16(0), uint16(len(names)), uint16(len(names)), uint32(b.Len()-at), uint32(at), uint16(0))
	return b.Bytes()
}

// deflated packs zeros.
func deflated(t *testing.T, size int64) (packed []byte, crc uint32) {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	h := crc32.NewIEEE()
	if _, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(zeros{}, size)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), h.Sum32()
}

// counting throws away and counts.
type counting struct{ n int64 }

func (c *counting) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// Zips that are small and become large: none may cost more than its limit.
func TestZipBombs(t *testing.T) {
	packed, crc := deflated(t, 64<<20)
	var overlapping []string
	for i := range 1000 {
		overlapping = append(overlapping, fmt.Sprint("f", i))
	}
	var many bytes.Buffer // of empty files with long names
	{
		w := zip.NewWriter(&many)
		long := strings.Repeat("n", 200)
		for i := range 300_000 {
			if _, err := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprint(long, i)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	inner := zipOf(t, member("deep", 0o644, strings.Repeat("\x00", 1<<20)))
	for _, c := range []struct {
		summary string
		bytes   []byte
		limits  archive.Limits
		want    string
		most    int64 // bytes that may be written before it is noticed
	}{
		{"one file under many names", forged(t, packed, 64<<20, crc, overlapping...), archive.Limits{}, "archive unpacks to more than 268435456 bytes", 256 << 20},
		{"a size that is claimed too small", forged(t, packed, 10, crc, "a"), archive.Limits{}, `member "a" cannot be read: zip: not a valid zip file`, 64 << 10},
		{"a size that is claimed too large", forged(t, packed, 1<<31, crc, "a"), archive.Limits{}, "archive unpacks to more than 268435456 bytes", 0},
		{"a size that is claimed and not there", forged(t, packed, 65<<20, crc, "a"), archive.Limits{}, `member "a" cannot be read: unexpected EOF`, 64 << 20},
		{"a directory that is large", many.Bytes(), archive.Limits{}, "archive unpacks to more than 67108864 bytes of listing", 0},
		{"more members than may be", zipOf(t, member("a", 0, ""), member("b", 0, "")), archive.Limits{Entries: 1}, "archive unpacks to more than 1 entries", 0},
		{"an archive in an archive stays one", zipOf(t, member("inner.zip", 0o644, string(inner))), archive.Limits{}, "", int64(len(inner))},
	} {
		var written counting
		a, err := archive.Unpack(bytes.NewReader(c.bytes), int64(len(c.bytes)), &written, archive.Options{Limits: c.limits})
		switch {
		case c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), c.want)):
			t.Errorf("%s: %v\nexpected: %s", c.summary, err, c.want)
		case c.want == "" && (err != nil || len(a.Entries) != 1):
			t.Errorf("%s: %v", c.summary, err)
		case written.n > c.most:
			t.Errorf("%s: %d bytes were unpacked before it was noticed, at most %d are allowed", c.summary, written.n, c.most)
		}
	}
}

// Names that differ in case are two files, as on every file system that images are made for.
func TestCaseIsKept(t *testing.T) {
	for summary, b := range map[string][]byte{
		"tar": debfile.Tar(file{Name: "Readme", Body: "1"}, file{Name: "README", Body: "2"}),
		"zip": zipOf(t, member("Readme", 0o644, "1"), member("README", 0o644, "2")),
	} {
		a, data, err := unpack(b, archive.Options{})
		if err != nil || len(a.Entries) != 2 {
			t.Errorf("%s: %v", summary, err)
			continue
		}
		for i, want := range []string{"Readme 1", "README 2"} {
			if e := a.Entries[i]; e.Path+" "+string(data[e.Offset:e.Offset+e.Size]) != want {
				t.Errorf("%s: %s, expected %s", summary, e.Path, want)
			}
		}
	}
}
