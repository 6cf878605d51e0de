// Package debfile makes small Debian packages for tests, good and hostile
// ones, without a tool of Debian's.
//
//	b := debfile.Build("Package: hello\nVersion: 1\nArchitecture: all\n",
//		debfile.File{Name: "./usr/"}, debfile.File{Name: "./usr/bin/"},
//		debfile.File{Name: "./usr/bin/hello", Mode: 0o755, Body: "#!/bin/sh\n"})
//
// For what no honest writer makes, put [Tar] and [Ar] together by hand.
package debfile

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// File is one member of a tar.
type File struct {
	Name     string // as written: "./usr/bin/hello"; a "/" behind makes a directory
	Type     byte   // tar's typeflag; by Name and Link when 0
	Mode     int64  // 0644, 0755 for directories, when 0
	UID, GID int
	ModTime  int64
	Link     string // makes a symbolic link when Type is 0
	Body     string
	PAX      map[string]string
}

// Package is a .deb in parts.
type Package struct {
	Control      string // the control paragraph
	ControlFiles []File
	Files        []File
	Compression  string // ".xz", ".gz", ".zst" or "" of both tars
}

// Member is one member of an ar archive.
type Member struct {
	Name string
	Body []byte
}

// Build returns a .deb with the files, compressed with gzip.
func Build(control string, files ...File) []byte {
	return Package{Control: control, Files: files, Compression: ".gz"}.Bytes()
}

// Bytes returns the .deb.
func (p Package) Bytes() []byte {
	control := append([]File{{Name: "./"}, {Name: "./control", Body: p.Control}}, p.ControlFiles...)
	return Ar(
		Member{"debian-binary", []byte("2.0\n")},
		Member{"control.tar" + p.Compression, Compress(p.Compression, Tar(control...))},
		Member{"data.tar" + p.Compression, Compress(p.Compression, Tar(append([]File{{Name: "./"}}, p.Files...)...))},
	)
}

// Ar returns an ar archive as dpkg-deb writes it.
func Ar(members ...Member) []byte {
	b := []byte("!<arch>\n")
	for _, m := range members {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.Name, 0, 0, 0, "100644", len(m.Body))
		b = append(b, m.Body...)
		if len(m.Body)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

// Tar returns a tar of the files. It panics on files that archive/tar cannot
// write, which only a test's own mistake brings.
func Tar(files ...File) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{
			Name: f.Name, Typeflag: f.Type, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Linkname: f.Link,
			Size: int64(len(f.Body)), ModTime: time.Unix(f.ModTime, 0), PAXRecords: f.PAX,
		}
		if h.Typeflag == 0 {
			h.Typeflag = typeOf(f)
		}
		if h.Mode == 0 {
			h.Mode = map[bool]int64{true: 0o755, false: 0o644}[h.Typeflag == tar.TypeDir]
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write([]byte(f.Body)); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func typeOf(f File) byte {
	switch {
	case strings.HasSuffix(f.Name, "/"):
		return tar.TypeDir
	case f.Link != "":
		return tar.TypeSymlink
	}
	return tar.TypeReg
}

// Compress compresses b by the suffix of a member's name: ".xz", ".gz", ".zst" or "".
func Compress(suffix string, b []byte) []byte {
	var out bytes.Buffer
	var err error
	switch suffix {
	case "":
		return b
	case ".gz":
		w := gzip.NewWriter(&out)
		_, err = w.Write(b)
		err = firstOf(err, w.Close())
	case ".xz":
		w, werr := xz.NewWriter(&out)
		if werr != nil {
			panic(werr)
		}
		_, err = w.Write(b)
		err = firstOf(err, w.Close())
	case ".zst":
		w, werr := zstd.NewWriter(&out)
		if werr != nil {
			panic(werr)
		}
		_, err = w.Write(b)
		err = firstOf(err, w.Close())
	default:
		panic("unknown compression " + suffix)
	}
	if err != nil {
		panic(err)
	}
	return out.Bytes()
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
