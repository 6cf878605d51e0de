package diff

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// sample returns a small file of testdata; its recipe is in testdata/README.
func sample(t testing.TB, name string) []byte {
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// member is a file for archives in these tests.
type member struct {
	name    string
	content string
	time    int64
}

func gzipOf(b []byte, h gzip.Header, level int) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, level)
	w.Header = h
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstdOf(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func zipOf(list []member) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i, m := range list {
		h := &zip.FileHeader{Name: m.name, Modified: time.Unix(m.time, 0).UTC(), Method: uint16(8 * (i % 2))}
		h.SetMode(0o644)
		f, _ := w.CreateHeader(h)
		f.Write([]byte(m.content))
	}
	w.SetComment("made by a test")
	w.Close()
	return out.Bytes()
}

func arOf(list []member) []byte {
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	for _, m := range list {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", m.name+"/", m.time, 0, 0, 0o100644, len(m.content), m.content)
		if len(m.content)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

func cpioOf(list []member) []byte {
	var out bytes.Buffer
	pad := func() { out.Write(make([]byte, -out.Len()&3)) }
	for i, m := range append(list, member{name: "TRAILER!!!"}) {
		fmt.Fprintf(&out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", i, 0o100644, 0, 0, 1, m.time, len(m.content), 0, 0, 0, 0, len(m.name)+1, 0, m.name)
		pad()
		out.WriteString(m.content)
		pad()
	}
	return out.Bytes()
}

func pngOf(chunks ...[2]string) []byte {
	var out bytes.Buffer
	out.WriteString("\x89PNG\r\n\x1a\n")
	for _, c := range append(chunks, [2]string{"IEND", ""}) {
		binary.Write(&out, binary.BigEndian, uint32(len(c[1])))
		out.WriteString(c[0] + c[1])
		binary.Write(&out, binary.BigEndian, crc32.ChecksumIEEE([]byte(c[0]+c[1])))
	}
	return out.Bytes()
}

func pdfOf(date, id, text string) []byte {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write([]byte("BT (" + text + ") Tj ET"))
	w.Close()
	return []byte("%PDF-1.4\n1 0 obj <</Length " + fmt.Sprint(z.Len()) + " /Filter /FlateDecode>>\nstream\n" + z.String() +
		"endstream endobj\n2 0 obj <</CreationDate (D:" + date + ") /Producer (test 1)>> endobj\nxref\n0 1\n0000000000 65535 f \ntrailer <</ID [<" + id + "> <" + id + ">]>>\nstartxref\n99\n%%EOF\n")
}

func classOf(constants ...string) []byte {
	var out bytes.Buffer
	out.WriteString("\xca\xfe\xba\xbe\x00\x00\x00\x41")
	binary.Write(&out, binary.BigEndian, uint16(len(constants)+1))
	for _, c := range constants {
		out.WriteByte(1)
		binary.Write(&out, binary.BigEndian, uint16(len(c)))
		out.WriteString(c)
	}
	out.WriteString("\x00\x21\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	return out.Bytes()
}

// file is one entry of a layer in these tests.
type file struct {
	tar.Header
	content string
}

func regular(name, content string) file {
	return file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(1700000000, 0)}, content}
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

// samples are well-formed files of every format, by name.
func samples(t testing.TB) map[string][]byte {
	list := []member{{"a.txt", "one\ntwo\nthree\n", 1700000000}, {"dir/b.json", `{"k":[1,2,{"x":"y"}],"n":null}`, 1700000100}, {"c.bin", strings.Repeat("\x00\x01\x02abc", 50), 1700000200}}
	var files []file
	for _, m := range list {
		files = append(files, regular(m.name, m.content))
	}
	pax := regular("long/"+strings.Repeat("n", 120), "x")
	pax.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": "2"}
	files = append(files, pax, file{tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "a.txt"}, ""})
	text := []byte("alpha\nbeta\ngamma 2024-01-01\nüber\ndelta\n")
	out := map[string][]byte{
		"text.txt": text, "json.json": []byte("{\n  \"created\": \"2024-01-01\",\n  \"list\": [1, 2, 3],\n  \"deep\": {\"a\": {\"b\": true}}\n}\n"),
		"yaml.yaml":             []byte("# made by hand\na: 1\nlist: [x, 'y z', \"q\\\"\"]\nmore:\n  - k: &n v\n    t: |\n      one\n      two\n  - *n\n---\nlast: ü\n"),
		"properties.properties": []byte("#Thu Jan 01 08:00:00 UTC 2026\n! more\n\nversion=1.0\nkey\\ with\\:signs : value \\\n   goes on\nempty=\nü=\\u00fc\n"),
		"gz.gz":                 gzipOf(text, gzip.Header{Name: "text.txt", Comment: "c", ModTime: time.Unix(1700000000, 0), Extra: []byte("ex")}, 6),
		"zst.zst":               zstdOf(text), "zip.zip": zipOf(list), "ar.a": arOf(list), "cpio.cpio": cpioOf(list), "tar.tar": tarOf(t, files),
		"png.png": pngOf([2]string{"IHDR", "0123456789abc"}, [2]string{"tIME", "\x07\xe8\x01\x02\x03\x04\x05"}, [2]string{"tEXt", "Date\x00today"}, [2]string{"IDAT", "zzzz"}),
		"pdf.pdf": pdfOf("20240101000000Z", "00112233", "hello"), "class.class": classOf("Main", "java/lang/Object", "SourceFile"),
		"bytes.bin": []byte("\x00\xff\x10random\x01bytes\x02that are\x03nothing known\xfe\xfd/usr/share/doc\x00"),
	}
	for _, name := range []string{"xz", "bzip2", "elf", "pyc", "mo", "sqlite", "squashfs"} {
		out[name+".x"] = sample(t, name+"-a")
	}
	out["nested.tar.gz"] = gzipOf(tarOf(t, []file{regular("in.zip", string(out["zip.zip"])), regular("lib.a", string(out["ar.a"])), regular("e", string(out["elf.x"]))}), gzip.Header{}, 6)
	return out
}
