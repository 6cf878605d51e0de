package cause

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate.dev/diff"
)

// The detectors of findings that are fields. Each is named in the catalogue; it
// claims a finding or leaves it to the next.

type detector func(p *pair, n *diff.Node, f *diff.Finding) (claim, bool)

// field makes a claim of a finding's own values.
func field(f *diff.Finding, confidence float64, fact string) (claim, bool) {
	return claim{a: f.A, b: f.B, where: fieldLabel(f), fact: fact, confidence: confidence}, true
}

// fieldLabel is how a field is called in a report.
func fieldLabel(f *diff.Finding) string {
	what := f.What
	if f.Where != "" {
		what += " " + f.Where
	}
	return what
}

func is(f *diff.Finding, whats ...string) bool {
	for _, w := range whats {
		if f.What == w {
			return true
		}
	}
	return false
}

func container(n *diff.Node) string {
	for m := n.Parent; m != nil; m = m.Parent {
		if m.Format != "" || m.Kind == diff.KindLayer {
			if m.Kind == diff.KindLayer || m.Kind == diff.KindRoot {
				return "tar"
			}
			return m.Format
		}
	}
	return ""
}

// seconds reads the number that times begin with.
func seconds(s string) (time.Time, bool) {
	digits, _, _ := strings.Cut(s, " ")
	digits, _, _ = strings.Cut(digits, ".")
	n, err := strconv.ParseInt(digits, 10, 64)
	return time.Unix(n, 0).UTC(), err == nil
}

// headerTime is the time of a file in some archive: a fact of the build, or of its input.
func (p *pair) headerTime(f *diff.Finding, fact string) (claim, bool) {
	c, _ := field(f, 1, fact)
	a, ok1 := seconds(f.A)
	b, ok2 := seconds(f.B)
	if ok1 && ok2 {
		x, y := moment{at: a, form: epochForm}, moment{at: b, form: epochForm}
		if x.inside(p.a.Started, p.a.Finished) && y.inside(p.b.Started, p.b.Finished) {
			c.fact += ", inside each build's time"
		}
	}
	return c, true
}

func tarTime(p *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What != diff.WhatModTime || container(n) == "ar" || container(n) == "zip" || container(n) == "squashfs" {
		return claim{}, false
	}
	return p.headerTime(f, "time of the file")
}

func arHeader(p *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What == diff.WhatArHeader || container(n) == "ar" && is(f, diff.WhatModTime, diff.WhatOwner, diff.WhatMode) {
		return p.headerTime(f, "header of the member")
	}
	return claim{}, false
}

func gzipHeader(p *pair, _ *diff.Node, f *diff.Finding) (claim, bool) {
	switch f.What {
	case diff.WhatGzipTime:
		return p.headerTime(f, "time in the gzip header")
	case diff.WhatGzipName:
		return field(f, 1, "name in the gzip header")
	case diff.WhatGzipOS:
		return field(f, 1, "system in the gzip header")
	case diff.WhatGzipFlags:
		if f.Where == "extra flags" { // XFL says the level: compression
			return claim{}, false
		}
		return field(f, 1, "flags in the gzip header")
	}
	return claim{}, false
}

func compression(_ *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if slices.ContainsFunc(n.Findings, func(g diff.Finding) bool { return g.What == diff.WhatMalformed }) {
		return claim{}, false // fields of what cannot be unpacked say nothing
	}
	if !is(f, diff.WhatCompression, diff.WhatXzHeader, diff.WhatZstdHeader, diff.WhatGzipFlags, diff.WhatZipMethod) {
		return claim{}, false
	}
	c, _ := field(f, 1, f.Note)
	switch {
	case c.fact != "":
	case f.What == diff.WhatCompression:
		c.fact = "the same when unpacked"
	default:
		c.fact = "header of the compressor"
	}
	return c, true
}

func zipTime(p *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if !is(f, diff.WhatZipTime, diff.WhatZipExtra, diff.WhatZipAttrs, diff.WhatZipVersion, diff.WhatZipFlags, diff.WhatZipComment) {
		return claim{}, false
	}
	if f.What == diff.WhatZipAttrs && maskOf(f) != 0 {
		return claim{}, false // umask
	}
	return p.headerTime(f, "header of the member")
}

// zipZone claims times that are apart by the zones of the hosts, for ZIP keeps the clock on the wall.
func zipZone(p *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	a, ok1 := seconds(f.A)
	b, ok2 := seconds(f.B)
	if f.What != diff.WhatZipTime || !ok1 || !ok2 {
		return claim{}, false
	}
	delta := b.Sub(a)
	if d, known := zoneDifference(p.a, p.b); known && d != 0 {
		if (delta - d).Abs() <= 2*time.Second {
			return field(f, 1, "apart by exactly the hosts' zones")
		}
		return claim{}, false
	}
	if delta == 0 || delta.Abs() > 14*time.Hour || delta%(15*time.Minute) != 0 {
		return claim{}, false
	}
	c, _ := field(f, 0.8, "apart by whole quarter hours")
	c.why, c.confirm = "ZIP keeps the clock on the wall, and zones differ by quarter hours; the zones of the builds are not known", "TZ=UTC in both builds"
	return c, true
}

func owner(p *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if !is(f, diff.WhatOwner, diff.WhatUser) {
		return claim{}, false
	}
	c, _ := field(f, 1, "")
	if u := p.a.Values["uid"]; u != "" && strings.HasPrefix(f.A, u) && strings.HasPrefix(f.B, p.b.Values["uid"]) {
		c.fact = "= uid of each host"
	} else if u := p.a.Values["user"]; u != "" && strings.HasPrefix(f.A, u) && strings.HasPrefix(f.B, p.b.Values["user"]) {
		c.fact = "= user of each host"
	}
	return c, true
}

// umaskBits reports whether the bits are ones that a umask may take.
func umaskBits(x uint64) bool { return x != 0 && x&^0o077 == 0 }

func maskOf(f *diff.Finding) uint64 {
	a, err1 := strconv.ParseUint(lastOctal(f.A), 8, 32)
	b, err2 := strconv.ParseUint(lastOctal(f.B), 8, 32)
	if err1 != nil || err2 != nil {
		return 0
	}
	x := (a ^ b) & 0o7777
	if !umaskBits(x) || a&b != a && a&b != b { // bits go in one direction only
		return 0
	}
	return x
}

var octal = regexp.MustCompile(`[0-7]{3,6}`)

func lastOctal(s string) string {
	m := octal.FindAllString(s, -1)
	if len(m) == 0 {
		return ""
	}
	return m[len(m)-1]
}

func umask(p *pair, _ *diff.Node, f *diff.Finding) (claim, bool) {
	if !is(f, diff.WhatMode, diff.WhatZipAttrs) {
		return claim{}, false
	}
	x := maskOf(f)
	switch x {
	case 0o022, 0o002, 0o020, 0o077, 0o055, 0o027, 0o007, 0o005, 0o025, 0o066, 0o044, 0o026, 0o006, 0o004:
	default:
		return claim{}, false
	}
	c, _ := field(f, 0.9, "bits "+strconv.FormatUint(x, 8)+" as umasks take them")
	if x == 0o022 || x == 0o002 || x == 0o020 {
		c.confidence = 1
	} else {
		c.why, c.confirm = "a step that sets modes by itself could do the same", "umask 022 in the step"
	}
	return c, true
}

func paxTimes(p *pair, _ *diff.Node, f *diff.Finding) (claim, bool) {
	switch {
	case f.What == diff.WhatPAXName:
		return field(f, 1, "name of the PAX header")
	case f.What == diff.WhatPAX && strings.Contains(f.Where, "time"):
		return p.headerTime(f, "PAX record")
	}
	return claim{}, false
}

// entryKind claims what is the same file stored in another way, and what is lost on the way into an archive.
func entryKind(_ *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	switch f.What {
	case diff.WhatTar, diff.WhatName:
		return field(f, 1, "how the archive was written")
	case diff.WhatSparse:
		return field(f, 1, "how the holes of a sparse file are stored")
	case diff.WhatXattr:
		return xattr(n, f)
	case diff.WhatDevice, diff.WhatPAX:
		c, _ := field(f, 0.8, "how the archive was written")
		c.why, c.confirm = "programs that pack and unpack differ in what they keep", "unpack both with one program on one file system"
		return c, true
	case diff.WhatType, diff.WhatLink:
		if n.A == nil || n.B == nil || n.A.Meta == nil || n.B.Meta == nil || otherContents(n) {
			return claim{}, false // a link to something else, or another file
		}
		switch x, y := n.A.Meta.Type, n.B.Meta.Type; {
		case x == "sparse file" || y == "sparse file":
			return field(f, 1, "with and without its holes; the same contents")
		case (x == "hard link") != (y == "hard link") && (x == "file" || y == "file"):
			return field(f, 1, "a hard link on one side, a file on the other; the same contents")
		}
	}
	return claim{}, false
}

// otherContents reports whether the contents of an entry differ, too.
func otherContents(n *diff.Node) bool {
	for i := range n.Findings {
		if f := &n.Findings[i]; !f.Outer && len(f.Runs) > 0 || is(f, diff.WhatContent) && !f.Effect {
			return true
		}
	}
	return len(n.Children) > 0
}

// xattr claims extended attributes that one side has and the other has not: a step that sets them sets them on both sides.
func xattr(n *diff.Node, f *diff.Finding) (claim, bool) {
	fact, lost := "extended attribute", f.A == "" || f.B == ""
	value := func(m *diff.Meta, shown string) string { return shown }
	if f.Where == "security.capability" {
		fact = "file capability"
		value = func(m *diff.Meta, shown string) string {
			if m != nil {
				if text := capabilityText(m.Xattrs[f.Where]); text != "" {
					return text
				}
			}
			return shown
		}
	}
	told := func(confidence float64, fact string) claim {
		c, _ := field(f, confidence, fact)
		if n.A != nil && n.B != nil {
			c.a, c.b = value(n.A.Meta, f.A), value(n.B.Meta, f.B)
		}
		return c
	}
	if !lost {
		c := told(0.7, fact+" of another value")
		c.why, c.confirm = "attributes are written by steps and by security modules of the host", "getfattr -d -m - FILE on both hosts"
		return c, true
	}
	c := told(0.8, fact+" kept on one side and lost on the other")
	c.why, c.confirm = "file systems, and programs that copy, pack and unpack, differ in what they keep; a step that ran on one side only would look the same", "getcap -r and getfattr -d -m - after each step"
	return c, true
}

func memberOrder(_ *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What != diff.WhatOrder || n.Format == "ar" || n.Format == "elf" || n.Format == "sqlite" || documents[n.Format] || n.Format == "text" || n.Kind == diff.KindDocument {
		return claim{}, false
	}
	return field(f, 1, "the same members in another order")
}

func linkOrder(_ *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What != diff.WhatOrder || n.Format != "ar" && n.Format != "elf" && container(n) != "elf" {
		return claim{}, false
	}
	return field(f, 1, "the same members in another order")
}

// documents are formats of keys and values.
var documents = map[string]bool{"json": true, "yaml": true, "properties": true}

func keyOrder(_ *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What != diff.WhatOrder || !documents[n.Format] {
		return claim{}, false
	}
	return field(f, 1, "the same keys and values in another order")
}

func pycTime(p *pair, _ *diff.Node, f *diff.Finding) (claim, bool) {
	switch f.What {
	case diff.WhatPycTime:
		return p.headerTime(f, "time of the source in the header")
	case diff.WhatPycSize:
		return field(f, 1, "size of the source in the header")
	}
	return claim{}, false
}

func pycRefs(_ *pair, _ *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What != diff.WhatPycRef {
		return claim{}, false
	}
	return field(f, 1, "only marshal's FLAG_REF bits (0x80): who else held the object")
}

func sqlite(_ *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if !is(f, diff.WhatSqlite, diff.WhatSqlitePage, diff.WhatSqliteFree) && !(f.What == diff.WhatOrder && n.Format == "sqlite") {
		return claim{}, false
	}
	if strings.Contains(f.Where, "VERSION_NUMBER") {
		return claim{}, false // another library: toolchain
	}
	for m := n; m != nil; m = m.Parent {
		if rowsDiffer(m) {
			c, _ := field(f, 0.7, "rows differ as well")
			c.why, c.confirm = "the rows differ too; see their cause first", "sqlite3 FILE .dump"
			return c, true
		}
	}
	database := n
	for database.Parent != nil && database.Format != "sqlite" {
		database = database.Parent
	}
	for i := range database.Findings {
		switch g := &database.Findings[i]; {
		case g.What == diff.WhatMalformed:
			return claim{}, false
		case g.What == diff.WhatSqlitePage && g.Note != diff.RowsEqual:
			c, _ := field(f, 0.6, "pages of a database")
			c.why, c.confirm = "the rows could not be compared", "sqlite3 FILE .dump"
			return c, true
		}
	}
	return field(f, 1, "layout of pages; the rows are equal")
}

func rowsDiffer(n *diff.Node) bool {
	if n.Format != "sqlite" {
		return false
	}
	found := false
	n.Walk(func(m *diff.Node) bool {
		for i := range m.Findings {
			found = found || m.Findings[i].What == diff.WhatSqliteRow
		}
		return !found
	})
	return found
}

func pdf(p *pair, _ *diff.Node, f *diff.Finding) (claim, bool) {
	switch f.What {
	case diff.WhatPdfID:
		return field(f, 1, "the document's /ID")
	case diff.WhatPdfDate:
		return p.dated(f, "29-docs")
	}
	return claim{}, false
}

// dated claims a finding whose values are dates for another cause than text has.
func (p *pair) dated(f *diff.Finding, entry string) (claim, bool) {
	if list, ok := p.line(f.A, f.B); ok && len(list) > 0 {
		c := list[0]
		c.entry, c.a, c.b, c.where = entry, f.A, f.B, fieldLabel(f)
		return c, true
	}
	c, _ := field(f, 0.9, "a date field")
	c.why = "the field holds dates; these cannot be read"
	return c, true
}

func gettext(p *pair, _ *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What != diff.WhatMoHeader || !strings.Contains(f.Where, "Date") {
		return claim{}, false
	}
	return p.dated(f, "30-gettext")
}

func picture(p *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What != diff.WhatPngChunk {
		return claim{}, false
	}
	w := strings.ToLower(f.Where)
	if strings.Contains(w, "time") || strings.Contains(w, "date") {
		c, _ := p.dated(f, "31-picture-time")
		return c, true
	}
	return claim{}, false
}

func fileSystem(p *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What == diff.WhatModTime && container(n) == "squashfs" {
		return p.headerTime(f, "time of a file in the image")
	}
	if f.What != diff.WhatSquashfs {
		return claim{}, false
	}
	if f.Where != "mkfs time" { // compressor, block size, flags
		c, ok := field(f, 1, "how the image was packed")
		c.entry = "9-compression"
		return c, ok
	}
	return p.headerTime(f, "superblock")
}

func toolchain(_ *pair, _ *diff.Node, f *diff.Finding) (claim, bool) {
	switch {
	case is(f, diff.WhatElfComment, diff.WhatClass, diff.WhatPycMagic), f.What == diff.WhatGoBuildInfo && f.Where == "go",
		f.What == diff.WhatSqlite && strings.Contains(f.Where, "VERSION_NUMBER"):
		return field(f, 1, "what the tools write of themselves")
	}
	return claim{}, false
}

func goBuild(_ *pair, _ *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What != diff.WhatGoBuildInfo || f.Where == "go" || strings.HasPrefix(f.Where, "dep") {
		return claim{}, false
	}
	return field(f, 1, "Go's build information")
}

func inputField(_ *pair, _ *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What != diff.WhatGoBuildInfo || !strings.HasPrefix(f.Where, "dep") {
		return claim{}, false
	}
	return field(f, 1, "version of a module")
}

// imageDocument claims fields of index, manifest and config: dates and made-up names by what they
// are, other fields by being there.
func imageDocument(p *pair, n *diff.Node, f *diff.Finding) (claim, bool) {
	if f.What == diff.WhatLayers {
		return field(f, 1, "the same layers in another order")
	}
	if !is(f, diff.WhatIndex, diff.WhatManifest, diff.WhatConfig, diff.WhatHistory) {
		return claim{}, false
	}
	w := strings.ToLower(f.Where)
	if strings.Contains(w, "mediatype") || strings.Contains(w, "schemaversion") {
		return field(f, 1, "written by another tool")
	}
	if list, ok := p.line(f.A, f.B); ok {
		c := list[0]
		c.a, c.b, c.where = f.A, f.B, fieldLabel(f)
		if c.effect == "" && (c.entry == "1-build-time" || c.entry == "22-random") {
			c.entry = "40-image-documents"
		}
		return c, true
	}
	if strings.Contains(w, "created") {
		c, _ := field(f, 0.9, "a date field")
		c.why = "the field holds a date; these cannot be compared"
		return c, true
	}
	if f.A == "" || f.B == "" {
		c, _ := field(f, 0.7, "a field that one tool writes and another leaves out")
		c.why, c.confirm = "optional fields depend on the tool and its flags", "build both with one version of one tool"
		return c, true
	}
	return claim{}, false
}
