package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/archive"
	"quorate.dev/builder/unpack/deb/debfile"
	"quorate.dev/lockfile/digest"
)

type file = debfile.File

const hello = "Package: hello\nVersion: 1.0-1\nArchitecture: all\nDescription: greets\n long text\n .\n more\n"

// decode returns the package and its data.
func decode(t *testing.T, b []byte) (*Package, []byte) {
	t.Helper()
	var data bytes.Buffer
	p, err := Decode(bytes.NewReader(b), &data, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p, data.Bytes()
}

func TestDecode(t *testing.T) {
	for _, compression := range []string{"", ".gz", ".xz", ".zst"} {
		p, data := decode(t, debfile.Package{
			Control: hello, Compression: compression,
			ControlFiles: []file{{Name: "./postinst", Mode: 0o755, Body: "#!/bin/sh\n"}, {Name: "./conffiles", Body: "/etc/hello\n/etc/gone\nremove-on-upgrade /etc/old\n"}},
			Files: []file{
				{Name: "./bin/"}, {Name: "./usr/"}, {Name: "./usr/bin/"},
				{Name: "./bin/hello", Mode: 0o755, Body: "hello", ModTime: 12},
				{Name: "./usr/bin/hi", Type: tar.TypeLink, Link: "./bin/hello"},
				{Name: "./lib64", Link: "usr/lib64"},
				{Name: "./etc/"}, {Name: "./etc/hello", Body: "world\n"},
			},
		}.Bytes())
		var got strings.Builder
		for _, e := range p.Entries {
			fmt.Fprintf(&got, "%c %s (%s) %s", e.Kind, e.Path, e.Shipped, e.Link)
			if e.Kind == tree.File {
				body := data[e.Offset : e.Offset+e.Size]
				fmt.Fprintf(&got, "%s %v", body, digest.Of(body) == e.Digest)
			}
			got.WriteByte('\n')
		}
		want := `d usr/bin (bin) 
d usr (usr) 
d usr/bin (usr/bin) 
f usr/bin/hello (bin/hello) hello true
h usr/bin/hi (usr/bin/hi) usr/bin/hello
l lib64 (lib64) usr/lib64
d etc (etc) 
f etc/hello (etc/hello) world
 true
`
		if got.String() != want {
			t.Errorf("%q: got\n%s\nexpected\n%s", compression, got.String(), want)
		}
		if p.Name() != "hello" || p.Version() != "1.0-1" || p.Arch() != "all" || p.Control.Get("description") != "greets\n long text\n .\n more" {
			t.Errorf("%q: control %q", compression, p.Control)
		}
		if len(p.ControlFiles) != 2 || p.ControlFiles[1].Name != "postinst" || p.ControlFiles[1].Mode != 0o755 || string(p.ControlFiles[1].Data) != "#!/bin/sh\n" {
			t.Errorf("%q: control files %v", compression, p.ControlFiles)
		}
		if len(p.Conffiles) != 1 || p.Conffiles[0] != (Conffile{"/etc/hello", "591785b794601e212b260e25925636fd"}) { // md5sum of "world\n"
			t.Errorf("%q: conffiles %q", compression, p.Conffiles)
		}
		if p.DataSize != int64(len(data)) {
			t.Errorf("%q: data of %d bytes, %d written", compression, p.DataSize, len(data))
		}
	}
}

// parts are the members of an honest package, to be spoilt.
func parts() []debfile.Member {
	return []debfile.Member{
		{Name: "debian-binary", Body: []byte("2.0\n")},
		{Name: "control.tar", Body: debfile.Tar(file{Name: "./"}, file{Name: "./control", Body: hello})},
		{Name: "data.tar", Body: debfile.Tar(file{Name: "./"}, file{Name: "./usr/"}, file{Name: "./usr/a", Body: "a"})},
	}
}

// with replaces the contents of member i.
func with(i int, m debfile.Member) []byte {
	p := parts()
	p[i] = m
	return debfile.Ar(p...)
}

func control(text string) []byte {
	return with(1, debfile.Member{Name: "control.tar", Body: debfile.Tar(file{Name: "./control", Body: text})})
}

func controlFiles(files ...file) []byte {
	return with(1, debfile.Member{Name: "control.tar", Body: debfile.Tar(append([]file{{Name: "./control", Body: hello}}, files...)...)})
}

func data(files ...file) []byte {
	return with(2, debfile.Member{Name: "data.tar", Body: debfile.Tar(files...)})
}

// sized has control.tar say another size.
func sized(text string) []byte {
	b := debfile.Ar(parts()...)
	copy(b[8+60+4+48:], fmt.Sprintf("%-10s", text))
	return b
}

func TestDecodeHostile(t *testing.T) {
	whole := debfile.Ar(parts()...)
	long := debfile.Ar(parts()...)
	copy(long[8+60+4+48:], "99999999  ") // control.tar's size
	for _, c := range []struct {
		summary string
		bytes   []byte
		want    string
	}{
		{"empty", nil, "package: is not an ar archive, so not a .deb"},
		{"html", []byte("<!doctype html><html>"), "package: is not an ar archive, so not a .deb"},
		{"no members", whole[:8], `package: ends where member "debian-binary" was expected`},
		{"truncated header", whole[:90], "package: is truncated: 18 of 60 bytes of a member's header"},
		{"truncated control", whole[:1000], "package: control.tar: is truncated: 1692 of 2560 bytes are missing"},
		{"no data", debfile.Ar(parts()[:2]...), `package "hello": ends where member "data.tar" was expected`},
		{"truncated data", whole[:len(whole)-600], `package "hello": data.tar: is truncated: 600 of 3072 bytes are missing`},
		{"lying size", long, `package: control.tar: is truncated: 99994307 of 99999999 bytes are missing`},
		{"wrong order", debfile.Ar(parts()[0], parts()[2], parts()[1]), `package: member "data.tar" found where "control.tar" was expected`},
		{"unknown compression", with(2, debfile.Member{Name: "data.tar.lz4"}), `package "hello": member "data.tar.lz4" found where "data.tar" was expected`},
		{"other version", with(0, debfile.Member{Name: "debian-binary", Body: []byte("3.0\n")}), `package: debian-binary: says format "3.0", expected 2.0`},
		{"fourth member", debfile.Ar(append(parts(), debfile.Member{Name: "data.tar", Body: nil})...), `package "hello": has an unexpected member "data.tar" after data.tar`},
		{"garbage behind", append(bytes.Clone(whole), "garbage"...), `package "hello": after data.tar: is truncated: 7 of 60 bytes of a member's header`},
		{"bytes behind the compressed data", with(2, debfile.Member{Name: "data.tar.xz", Body: append(debfile.Compress(".xz", parts()[2].Body), "garbage"...)}), `package "hello": data.tar.xz: xz stream: xz: data is truncated or corrupt`},
		{"wrong compression", with(2, debfile.Member{Name: "data.tar.xz", Body: parts()[2].Body}), `package "hello": data.tar.xz: xz stream: xz: file format not recognized`},

		{"size below zero", sized("-1"), `package: member "control.tar" has the invalid size "-1        "`},
		{"size with a sign", sized("+2560"), `package: member "control.tar" has the invalid size "+2560     "`},
		{"size in hexadecimal", sized("0xa00"), `package: member "control.tar" has the invalid size "0xa00     "`},
		{"size of nothing", sized(""), `package: member "control.tar" has the invalid size "          "`},
		{"size with a blank before it", sized("  2560"), `package: member "control.tar" has the invalid size "  2560    "`},
		{"size that is zero and negative", sized("-0"), `package: member "control.tar" has the invalid size "-0        "`},
		{"size that ends inside", sized("1000"), `package: control.tar: tar stream is truncated after member "./"`},
		{"size that ends behind", sized("2562"), `package: control.tar: tar stream has other bytes than zeros after its end mark`},
		{"GNU's table of names", debfile.Ar(parts()[0], debfile.Member{Name: "//", Body: []byte("control.tar/\n")}, parts()[1], parts()[2]), `package: member "/" found where "control.tar" was expected`},
		{"GNU's name in a table", with(1, debfile.Member{Name: "/0"}), `package: member "/0" found where "control.tar" was expected`},
		{"BSD's name before the bytes", with(1, debfile.Member{Name: "#1/11", Body: []byte("control.tar")}), `package: member "#1/11" found where "control.tar" was expected`},
		{"a table of symbols", debfile.Ar(append([]debfile.Member{{Name: "/", Body: []byte("\x00\x00\x00\x00")}}, parts()...)...), `package: member "" found where "debian-binary" was expected`},
		{"name with a path", with(1, debfile.Member{Name: "a/control.tar"}), `package: member "a/control.tar" found where "control.tar" was expected`},
		{"name with a NUL", with(1, debfile.Member{Name: "control.tar\x00.xz"}), `package: member "control.tar\x00.xz" found where "control.tar" was expected`},
		{"control twice", debfile.Ar(parts()[0], parts()[1], parts()[1], parts()[2]), `package "hello": member "control.tar" found where "data.tar" was expected`},
		{"control of two compressions", debfile.Ar(parts()[0], parts()[1], debfile.Member{Name: "control.tar.gz", Body: debfile.Compress(".gz", parts()[1].Body)}, parts()[2]), `package "hello": member "control.tar.gz" found where "data.tar" was expected`},
		{"padding that is none", func() []byte {
			b := with(0, debfile.Member{Name: "debian-binary", Body: []byte("2.0")})
			b[8+60+3] = 'x'
			return b
		}(), `package: debian-binary: is not followed by padding`},
		{"member of others that lies", append(bytes.Clone(whole), fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n", "_x", 0, 0, 0, "100644", 9999999999)...), `package "hello": member "_x" is truncated: 9999999999 of 9999999999 bytes are missing`},
		{"no control", with(1, debfile.Member{Name: "control.tar", Body: debfile.Tar()}), `package: control.tar: has no "control" file`},
		{"control is a link", with(1, debfile.Member{Name: "control.tar", Body: debfile.Tar(file{Name: "./control", Link: "/etc/passwd"})}), `package: control.tar: member "./control" is not a regular file`},
		{"folder in control", controlFiles(file{Name: "./a/b"}), `package: control.tar: member "./a/b" lies in a folder`},
		{"own list", controlFiles(file{Name: "./list", Body: "/etc/shadow\n"}), `package: control.tar: member "./list" has a name that is no control file's`},
		{"newline in control name", controlFiles(file{Name: "./a\nb"}), `package: control.tar: member "./a\nb" has a name that is no control file's`},
		{"no package", control("Version: 1\nArchitecture: all\n"), `package: control.tar: control: field "Package" is missing`},
		{"package with a path", control("Package: ../etc\nVersion: 1\nArchitecture: all\n"), `package: control.tar: control: field "Package" has the invalid value "../etc"`},
		{"no version", control("Package: aa\nArchitecture: all\n"), `package: control.tar: control: field "Version" is missing`},
		{"bad version", control("Package: aa\nVersion: 1/2\nArchitecture: all\n"), `package: control.tar: control: field "Version" has the invalid value "1/2"`},
		{"bad architecture", control("Package: aa\nVersion: 1\nArchitecture: ..\n"), `package: control.tar: control: field "Architecture" has the invalid value ".."`},
		{"bad multi-arch", control("Package: aa\nVersion: 1\nArchitecture: all\nMulti-Arch: maybe\n"), `package: control.tar: control: field "Multi-Arch" has the invalid value "maybe"`},
		{"two paragraphs", control(hello + "\nPackage: other\n"), `package: control.tar: control: line 8: blank line inside of a paragraph`},
		{"field twice", control(hello + "version: 2\n"), `package: control.tar: control: line 8: field "version" is there twice`},
		{"no field", control("garbage\n"), `package: control.tar: control: line 1: "garbage" is not a field`},
		{"conffile outside", controlFiles(file{Name: "./conffiles", Body: "/etc/../../x\n"}), `package "hello": data.tar: conffiles: "/etc/../../x" is not a path`},

		{"parent", data(file{Name: "./../x"}), `package "hello": data.tar: member "./../x" has ".." in its name`},
		{"absolute", data(file{Name: "/x"}), `package "hello": data.tar: member "/x" has an absolute name`},
		{"not canonical", data(file{Name: "./usr//x"}), `package "hello": data.tar: member "./usr//x" has a name that is not canonical, expected "./usr/x"`},
		{"newline", data(file{Name: "./a\n/etc/shadow"}), `package "hello": data.tar: member "./a\n/etc/shadow" has a line end in its name, which dpkg's lists cannot hold`},
		{"device", data(file{Name: "./null", Type: tar.TypeChar}), `package "hello": data.tar: member "./null" is a character device`},
		{"below a link", data(file{Name: "./a", Link: "/etc"}, file{Name: "./a/x"}), `package "hello": data.tar: member "./a/x" lies below "./a", which is a symbolic link to "/etc"`},
		{"usr-merge link elsewhere", data(file{Name: "./bin", Link: "etc"}), `package "hello": data.tar: member "./bin" stands where the link to "usr/bin" must be`},
		{"usr-merge file", data(file{Name: "./lib", Body: "x"}), `package "hello": data.tar: member "./lib" stands where the link to "usr/lib" must be`},
		{"twice by another name", data(file{Name: "./bin/a"}, file{Name: "./usr/bin/a"}), `package "hello": data.tar: member "./usr/bin/a" is there twice (first as "./bin/a")`},
	} {
		var w bytes.Buffer
		_, err := Decode(bytes.NewReader(c.bytes), &w, Options{})
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n  %v\nexpected\n  %s", c.summary, err, c.want)
		}
		var typed *Error
		if !errors.As(err, &typed) {
			t.Errorf("%s: %T, expected *Error", c.summary, err)
		}
	}
}

func TestDecodeAllowed(t *testing.T) {
	for _, c := range []struct {
		summary string
		bytes   []byte
	}{
		{"member of others", debfile.Ar(append(parts(), debfile.Member{Name: "_gpgorigin", Body: []byte("x")})...)},
		{"names without dot", data(file{Name: "usr/"}, file{Name: "usr/a"})},
		{"usr-merge links and folders below", data(file{Name: "./bin", Link: "usr/bin"}, file{Name: "./bin/a"}, file{Name: "./lib", Link: "/usr/lib"})},
		{"link that leads out", data(file{Name: "./a", Link: "../../../etc/shadow"})},
		{"GNU slash in ar", func() []byte { p := parts(); p[0].Name = "debian-binary/"; return debfile.Ar(p...) }()},
	} {
		if _, err := Decode(bytes.NewReader(c.bytes), io.Discard, Options{}); err != nil {
			t.Errorf("%s: %v", c.summary, err)
		}
	}
}

func TestDecodeExpects(t *testing.T) {
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{Name: "hello", Version: "1.0-1", Arch: "all"}, ""},
		{Options{Name: "other"}, `package "other": control.tar: control: field "Package" is "hello", expected "other"`},
		{Options{Name: "hello", Version: "2"}, `package "hello": control.tar: control: field "Version" is "1.0-1", expected "2"`},
		{Options{Arch: "amd64"}, `package "hello": control.tar: control: field "Architecture" is "all", expected "amd64"`},
		{Options{Limits: archive.Limits{Bytes: 100}}, `package "hello": data.tar: archive unpacks to more than 100 bytes`},
	} {
		_, err := Decode(bytes.NewReader(debfile.Ar(parts()...)), io.Discard, c.options)
		if got := fmt.Sprint(err); got != c.want && !(err == nil && c.want == "") {
			t.Errorf("%+v: %v, expected %q", c.options, err, c.want)
		}
	}
}

// failing is a writer that is full, and a reader that breaks.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
func (f failing) Read([]byte) (int, error)  { return 0, f.err }

func TestDecodePassesErrors(t *testing.T) {
	full := errors.New("no space left on device")
	if _, err := Decode(bytes.NewReader(debfile.Ar(parts()...)), failing{full}, Options{}); !errors.Is(err, full) {
		t.Errorf("writing: %v", err)
	}
	broken := errors.New("connection reset")
	whole := debfile.Ar(parts()...)
	for _, at := range []int{0, 30, 1000, len(whole) - 100} {
		r := io.MultiReader(bytes.NewReader(whole[:at]), failing{broken})
		if _, err := Decode(r, io.Discard, Options{}); !errors.Is(err, broken) {
			t.Errorf("reading at %d: %v", at, err)
		}
	}
}

func TestIndex(t *testing.T) {
	p, _ := decode(t, debfile.Package{Control: hello, Compression: ".gz",
		ControlFiles: []file{{Name: "./conffiles", Body: "/etc/a\n"}},
		Files: []file{{Name: "./etc/"}, {Name: "./etc/a", Body: "x", PAX: map[string]string{"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "1"}},
			{Name: "./s", Link: "etc"}, {Name: "./h", Type: tar.TypeLink, Link: "./etc/a"}}}.Bytes())
	b, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var q Package
	if err := q.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*p, q) {
		t.Errorf("got  %+v\nwant %+v", q, *p)
	}
	for i := range b {
		if err := q.UnmarshalBinary(b[:i]); err == nil {
			t.Fatalf("first %d of %d bytes are accepted", i, len(b))
		}
	}
	if err := q.UnmarshalBinary(append(bytes.Clone(b), 0)); err == nil {
		t.Error("a byte too many is accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(debfile.Ar(parts()...))
	f.Add(debfile.Build(hello, file{Name: "./usr/"}, file{Name: "./usr/a", Body: "x"}))
	f.Add(debfile.Package{Control: hello, Compression: ".xz", Files: []file{{Name: "./bin", Link: "usr/bin"}, {Name: "./bin/a"}}}.Bytes())
	f.Add(data(file{Name: "./a", Body: "x"}, file{Name: "./h", Type: tar.TypeLink, Link: "./a"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var spool bytes.Buffer
		p, err := Decode(bytes.NewReader(b), &spool, Options{Limits: archive.Limits{Bytes: 8 << 20}})
		if err != nil {
			return
		}
		s := Source{Package: p}
		for _, e := range p.Entries {
			if e.Kind == tree.File && digest.Of(spool.Bytes()[e.Offset:e.Offset+e.Size]) != e.Digest {
				t.Fatalf("%q: digest does not hold", e.Path)
			}
			s.Entries = append(s.Entries, e.Entry)
		}
		raw, err := p.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var again Package
		if err := again.UnmarshalBinary(raw); err != nil {
			t.Fatal(err)
		}
		Database([]*Package{p}, DatabaseOptions{})
		if merged, err := Merge([]Source{s}); err == nil {
			if _, err := tree.New(tree.WithParents(merged)); err != nil && !strings.Contains(err.Error(), ".wh.") {
				t.Fatalf("accepted, but no tree: %v", err)
			}
		}
	})
}

func FuzzIndex(f *testing.F) {
	p, err := Decode(bytes.NewReader(debfile.Ar(parts()...)), io.Discard, Options{})
	if err != nil {
		f.Fatal(err)
	}
	b, _ := p.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Package
		if p.UnmarshalBinary(b) != nil {
			return
		}
		again, err := p.MarshalBinary()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is written again as %q (%v)", b, again, err)
		}
	})
}

// BenchmarkDecode decodes a package of 8 MiB, compressed as Debian's are.
func BenchmarkDecode(b *testing.B) {
	var body strings.Builder
	for i := 0; body.Len() < 8<<20; i++ {
		fmt.Fprintf(&body, "line %d of a file that compresses %x\n", i, digest.Of([]byte{byte(i), byte(i >> 8)}).Short())
	}
	raw := debfile.Package{Control: hello, Compression: ".xz", Files: []file{{Name: "./usr/"}, {Name: "./usr/a", Body: body.String()}}}.Bytes()
	b.SetBytes(int64(body.Len()))
	for b.Loop() {
		if _, err := Decode(bytes.NewReader(raw), io.Discard, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
