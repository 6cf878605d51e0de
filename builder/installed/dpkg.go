package installed

import (
	"io"
	"strings"
)

// Form is how dpkg's paragraphs are kept.
type Form int

const (
	StatusFile Form = iota // of dpkg itself: each paragraph has a Status
	StatusD                // control paragraphs of packages: they are installed, unless a Status says otherwise
)

// dpkgFields are what is read of a paragraph, by the name in lower case.
var dpkgFields = map[string]bool{
	"package": true, "status": true, "version": true, "architecture": true, "source": true,
	"maintainer": true, "homepage": true, "description": true,
}

// dpkgRelations are those that say what other packages have to do with it.
var dpkgRelations = map[string]bool{"pre-depends": true, "depends": true, "provides": true}

// states are dpkg's words for what became of a package (dpkg(1), "Package
// states"), true for those with files. Most images know only the last one.
var states = map[string]bool{
	"not-installed": false, "config-files": false, "half-installed": true, "unpacked": true, "half-configured": true,
	"triggers-awaited": true, "triggers-pending": true, "installed": true,
}

// Dpkg reads paragraphs of dpkg and tells of the packages whose files are there,
// whether dpkg holds them or was not done with them. The error is the reader's or
// the visitor's.
func Dpkg(r io.Reader, form Form, v Visitor) error {
	in := newLines(r)
	var e entry
	for {
		line, long, err := in.next()
		if err != nil && err != io.EOF {
			return err
		}
		if err == io.EOF || len(strings.TrimSpace(string(line))) == 0 {
			if e.begun {
				if err := e.dpkg(form, v); err != nil {
					return err
				}
			}
			if err == io.EOF {
				return nil
			}
			e = entry{}
			continue
		}
		e.begin(in.n)
		e.deb822(string(line), long)
	}
}

// deb822 takes a line of a paragraph (deb822(5)). Of fields with several lines
// only the first one is wanted, but for relations.
func (e *entry) deb822(line string, long bool) {
	if line[0] == ' ' || line[0] == '\t' {
		if !e.field {
			e.spoil("it begins in the middle of a field")
		}
		if e.goes != "" {
			e.relate(e.goes, line, long)
		}
		return
	}
	name, value, ok := strings.Cut(line, ":")
	name = strings.ToLower(name)
	e.field, e.goes = true, ""
	switch {
	case !ok || name == "":
		e.spoil("%.40q is no field", line)
	case dpkgRelations[name]:
		e.relate(name, value, long)
	case !dpkgFields[name]:
	case long:
		e.spoil("its field %q has more than %d bytes", name, maxLine)
	default:
		e.set(name, value)
	}
}

// dpkg tells of a paragraph that was read.
func (e *entry) dpkg(form Form, v Visitor) error {
	p := Package{
		Kind: "deb", Name: e.values["package"], Version: e.values["version"], Arch: e.values["architecture"],
		Maintainer: e.values["maintainer"], Homepage: e.values["homepage"], Summary: e.values["description"],
	}
	if p.Name == "" {
		e.spoil("it has no Package")
	}
	status := strings.Fields(e.values["status"])
	if len(status) == 0 && form == StatusD {
		status = []string{"install", "ok", "installed"}
	}
	if len(status) != 3 {
		e.spoil("the status of %.40q is %.40q, which is none of dpkg's", p.Name, e.values["status"])
		return v.Bad(e.line, e.bad)
	}
	files, known := states[status[2]]
	switch {
	case !known:
		e.spoil("the status of %.40q is %.40q, which is none of dpkg's", p.Name, e.values["status"])
	case e.bad == "" && !files:
		return nil
	case p.Version == "":
		e.spoil("%.40q has no Version", p.Name)
	}
	if e.bad != "" {
		return v.Bad(e.line, e.bad)
	}
	if status[2] != "installed" {
		p.State = status[2]
	}
	p.Source, p.SourceVersion = source(e.values["source"], p)
	e.related(&p, ", ", "provides", "pre-depends", "depends")
	return v.Package(p)
}

// source reads "NAME (VERSION)"; either is the package's own where it is left out.
func source(field string, p Package) (name, version string) {
	name, version, ok := strings.Cut(field, " (")
	if name == "" {
		name = p.Name
	}
	if version = strings.TrimSuffix(version, ")"); !ok || version == "" {
		version = p.Version
	}
	return name, version
}
