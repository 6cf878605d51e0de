package installed

import (
	"cmp"
	"io"
	"iter"
	"strings"
)

// apkFields are what is read of a paragraph of apk's: name, version,
// architecture, summary, page, licence, source package, maintainer.
const apkFields = "PVATULom"

// apkRelations are what it depends on and what it provides.
const apkRelations = "Dp"

// Apk reads apk's database and tells of each package, then of its files. A
// paragraph describes the package first; F begins a folder, R names a file in it.
// The error is the reader's or the visitor's.
func Apk(r io.Reader, v Visitor) error {
	in := newLines(r)
	var e entry
	var folder string
	told := false // of the package
	for {
		line, long, err := in.next()
		if err != nil && err != io.EOF {
			return err
		}
		text := string(line)
		end := err == io.EOF || strings.TrimSpace(text) == ""
		if e.begun && !told && (end || strings.HasPrefix(text, "F:")) {
			if err := e.apk(v); err != nil {
				return err
			}
			told = true
		}
		switch {
		case err == io.EOF:
			return nil
		case end:
			e, folder, told = entry{}, "", false
			continue
		}
		e.begin(in.n)
		switch {
		case !told:
			e.letter(text, long)
		case e.bad != "":
		case long:
			e.spoil("a name has more than %d bytes", maxLine) // in which folder the next files are, nobody knows
		case strings.HasPrefix(text, "F:"):
			folder = text[2:]
		case strings.HasPrefix(text, "R:"):
			if err := tell(folder+"/"+text[2:], v.File); err != nil {
				return err
			}
		}
	}
}

// letter takes a line "X:value"; letters that are not known are apk's own affair.
func (e *entry) letter(line string, long bool) {
	name, value, ok := strings.Cut(line, ":")
	e.goes = ""
	switch {
	case !ok || len(name) != 1:
		e.spoil("%.40q is no field", line)
	case strings.Contains(apkRelations, name):
		e.relate(name, value, long)
	case !strings.Contains(apkFields, name):
	case long:
		e.spoil("its field %q has more than %d bytes", name, maxLine)
	default:
		e.set(name, value)
	}
}

// apk tells of what a paragraph says of its package.
func (e *entry) apk(v Visitor) error {
	p := Package{
		Kind: "apk", Name: e.values["P"], Version: e.values["V"], Arch: e.values["A"], Summary: e.values["T"],
		Homepage: e.values["U"], Licence: e.values["L"], Maintainer: e.values["m"],
	}
	p.Source, p.SourceVersion = cmp.Or(e.values["o"], p.Name), p.Version
	if p.Name == "" {
		e.spoil("it has no name (P)")
	}
	if p.Version == "" {
		e.spoil("%.40q has no version (V)", p.Name)
	}
	if e.bad != "" {
		return v.Bad(e.line, e.bad)
	}
	e.related(&p, " ", "p", "D")
	return v.Package(p)
}

// ApkNames are the names in what a package of apk's needs or provides: "musl",
// "so:libc.so.1", "cmd:sh", without versions and repositories. What must not be
// installed beside it ("!NAME") is not needed.
func ApkNames(relations string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for word := range strings.FieldsSeq(relations) {
			if i := strings.IndexAny(word, "<>=~@"); i >= 0 {
				word = word[:i]
			}
			if word != "" && word[0] != '!' && !yield(word) {
				return
			}
		}
	}
}
