// Package installed reads what an image that somebody else made says of the
// packages in it: the databases of dpkg and of apk, and os-release.
//
//	var/lib/dpkg/status            dpkg: paragraphs of "Field: value" (deb822(5), dpkg(1))   [Dpkg]
//	var/lib/dpkg/status.d/NAME     distroless: a package's own control paragraph each        [Dpkg]
//	var/lib/dpkg/info/NAME.list    dpkg: the paths of a package, one a line                  [List]
//	status.d/NAME.md5sums          distroless: "SUM  PATH", one a line                       [Checksums]
//	var/lib/dpkg/diversions        dpkg: three lines each (dpkg-divert(1))                   [ParseDiversions]
//	lib/apk/db/installed           apk: paragraphs of "X:value" (wiki.alpinelinux.org, "Apk spec")  [Apk]
//	etc/os-release                 NAME=value, as a shell reads it (os-release(5))           [ParseDistribution]
//
// Package unpack/deb reads the first of these too, as a ground to build on, and
// refuses what is not in order. This one is for telling people what is there: an
// entry that makes no sense is told to the [Visitor] and left out, and the next one
// is read. Nothing is held but one entry, whose values end after 128 KiB, so any
// size can be read; who calls says how much is.
//
//	err := installed.Dpkg(file, installed.StatusFile, visitor)
package installed

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"
)

// Package is a package that a database lists.
type Package struct {
	Kind          string // "deb" or "apk", as package URLs have it
	Name          string // never ""
	Version       string // never ""
	Arch          string // as the database has it; "" where it does not say
	Source        string // source package, or what apk calls origin; Name where it does not say
	SourceVersion string
	Maintainer    string // "Name <address>"
	Homepage      string
	Summary       string // one line
	Licence       string // what apk's database says; "" for dpkg, whose packages have copyright files
	State         string // of dpkg, when it is not "installed": "unpacked", "half-configured" …
	Needs         string // what it depends on, as the database has it: dpkg's Pre-Depends, then Depends; apk's D
	Provides      string // as the database has it
	Unread        string // why Needs and Provides are not read, and so ""; "" when they are
}

// Visitor is told what a database lists, in its order. An error that it returns
// ends the reading, and is what the reader returns.
type Visitor interface {
	Package(Package) error
	File(name string) error             // of the package before; relative and clean. Only apk's database lists files
	Bad(line int, problem string) error // an entry is left out; line is where it begins, from 1
}

// maxLine is how much of a line is read, and of a field. Names of files end at 4096
// bytes (Linux's PATH_MAX). The longest field that is wanted in Debian 12 has 75,639
// bytes: what librust-winapi-dev provides.
const maxLine = 128 << 10

// lines reads a text line by line, and no more of a line than maxLine.
type lines struct {
	r *bufio.Reader
	n int // of the line that was read last, from 1
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, maxLine)} }

// next returns a line without its end, valid until the next call, and io.EOF
// behind the last one. Of a line that is too long, long is true.
func (l *lines) next() (line []byte, long bool, err error) {
	line, err = l.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		long = true
		line = bytes.Clone(line[:80]) // for messages
		for err == bufio.ErrBufferFull {
			_, err = l.r.ReadSlice('\n')
		}
	}
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	l.n++
	return bytes.TrimRight(line, "\r\n"), long, err
}

// entry is a paragraph while it is read.
type entry struct {
	begun  bool
	line   int  // where it begins
	field  bool // one was read, wanted or not
	values map[string]string
	goes   string // field of relations, whose lines go on
	bad    string // what is wrong with it; "" for nothing

	relations map[string][]byte // to other packages, by field
	unread    string            // what is wrong with them, for which no package is left out
}

func (e *entry) begin(line int) {
	if !e.begun {
		*e = entry{begun: true, line: line, values: map[string]string{}, relations: map[string][]byte{}}
	}
}

// spoil notes what is wrong, the first of several.
func (e *entry) spoil(format string, args ...any) {
	if e.bad == "" {
		e.bad = fmt.Sprintf(format, args...)
	}
}

// relate takes a line of relations to other packages.
func (e *entry) relate(field, line string, long bool) {
	was, there := e.relations[field]
	line = strings.TrimSpace(line)
	switch {
	case e.unread != "":
	case there && e.goes != field:
		e.unread = fmt.Sprintf("it has the field %q twice", field)
	case long || len(was)+1+len(line) > maxLine:
		e.unread = fmt.Sprintf("its field %q has more than %d bytes", field, maxLine)
	default:
		if len(was) > 0 {
			was = append(was, ' ')
		}
		e.relations[field] = append(was, line...)
	}
	e.goes = field
}

// related gives the package its relations; those of several fields are joined.
func (e *entry) related(p *Package, between, provides string, needs ...string) {
	if p.Unread = e.unread; p.Unread != "" {
		return
	}
	var all []string
	for _, field := range needs {
		if value := e.relations[field]; len(value) > 0 {
			all = append(all, string(value))
		}
	}
	p.Needs, p.Provides = strings.Join(all, between), string(e.relations[provides])
}

func (e *entry) set(field, value string) {
	if _, there := e.values[field]; there {
		e.spoil("it has the field %q twice", field)
	}
	e.values[field] = strings.TrimSpace(value)
}

// clean is a path as entries of a tree have it; "" for the root itself. What
// leads out of the root ends at it.
func clean(p string) string { return path.Clean("/" + p)[1:] }

// List reads the paths of a package from dpkg's list of them.
func List(r io.Reader, file func(name string) error) error {
	return eachLine(r, func(line string) error { return tell(line, file) })
}

// Checksums reads the paths of a package from its md5sums, as md5sum(1) writes them.
func Checksums(r io.Reader, file func(name string) error) error {
	return eachLine(r, func(line string) error {
		if _, name, ok := strings.Cut(line, "  "); ok {
			return tell(name, file)
		}
		return nil
	})
}

// tell tells a path, unless it is the root.
func tell(name string, file func(name string) error) error {
	if name = clean(name); name == "" {
		return nil
	}
	return file(name)
}

// eachLine calls f for every line that is no longer than maxLine: longer names
// no file has.
func eachLine(r io.Reader, f func(line string) error) error {
	for in := newLines(r); ; {
		line, long, err := in.next()
		if err == io.EOF {
			return nil
		}
		if err == nil && !long {
			err = f(string(line))
		}
		if err != nil {
			return err
		}
	}
}

// Diversion sends a file of every package but one elsewhere.
type Diversion struct {
	To string // relative and clean
	By string // package that keeps the name; ":" for none, which diverts it for all
}

// ParseDiversions reads dpkg's diversions, by the path that is diverted.
func ParseDiversions(text []byte) map[string]Diversion {
	out := map[string]Diversion{}
	all := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := 0; i+2 < len(all); i += 3 {
		out[clean(all[i])] = Diversion{To: clean(all[i+1]), By: all[i+2]}
	}
	return out
}
