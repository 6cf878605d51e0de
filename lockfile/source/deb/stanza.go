package deb

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"quorate.dev/lockfile/digest"
)

// Stanza is one paragraph of a Packages index: a binary package that an
// archive offers. Relation fields are as written, folded lines joined by a space.
type Stanza struct {
	Package      string
	Version      string
	Architecture string // the index's architecture, or "all"
	Source       string // "" when the source package has the same name
	Section      string
	Priority     string
	MultiArch    string // "", "no", "same", "foreign" or "allowed"
	Essential    bool

	Depends    string
	PreDepends string
	Conflicts  string
	Breaks     string
	Provides   string

	Filename string // relative to the archive's root, clean: "pool/main/…"
	Size     int64  // of the .deb, in bytes
	SHA256   digest.Digest
}

const (
	// The longest line of Debian's indexes is a Provides of 40 kB (bookworm,
	// librust and golang packages); a line is held in memory whole.
	maxLine = 1 << 20
	// The largest .deb in Debian is 1.6 GB; nothing sane is larger than this.
	maxDeb = 64 << 30
	// Names of packages, versions and files; Debian's longest file name is 160 bytes.
	maxName = 1024
)

// ParsePackages reads a Packages index from r and hands each paragraph to
// each, in order; an error of each ends the reading and is returned as it is.
// Fields that Quorate does not use are skipped unread. Errors: *IndexError
// with a line number and no URL.
func ParsePackages(r io.Reader, each func(Stanza) error) error {
	return readParagraphs(r, &packagesParser{each: each})
}

// paragraphs takes an index apart, for readParagraphs. What it is handed is not
// kept.
type paragraphs interface {
	field(name, value []byte) error // the first line of a field, value without blanks around it
	more(text []byte) error         // a continuation line of the field before, without blanks around it
	end() error                     // of a paragraph that has a field
}

// readParagraphs reads an index of paragraphs (deb822(5)) and hands it over
// line by line.
func readParagraphs(r io.Reader, p paragraphs) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	at := indexPlace{}
	some := false // the paragraph has a field
	for s.Scan() {
		at.line++
		if err := takeLine(s.Bytes(), p, &some); err != nil {
			return at.wrap(err)
		}
	}
	if err := s.Err(); err != nil {
		at.line++
		if err == bufio.ErrTooLong {
			err = fmt.Errorf("line is longer than %d bytes", maxLine)
		}
		return at.wrap(err)
	}
	if some {
		return at.wrap(p.end())
	}
	return nil
}

func takeLine(line []byte, p paragraphs, some *bool) error {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(bytes.TrimRight(line, " \t")) == 0 {
		if !*some {
			return nil
		}
		*some = false
		return p.end()
	}
	if line[0] == ' ' || line[0] == '\t' {
		if !*some {
			return fmt.Errorf("paragraph begins with a continuation line")
		}
		return p.more(bytes.TrimSpace(line))
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return fmt.Errorf("line is neither a field nor a continuation: %q", clip(line))
	}
	*some = true
	return p.field(line[:colon], bytes.TrimSpace(line[colon+1:]))
}

// callerError keeps an error of whom paragraphs are handed to apart from those
// of the parser.
type callerError struct{ error }

// indexPlace says where in an index something is wrong.
type indexPlace struct{ line int }

func (at indexPlace) wrap(err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case callerError:
		return e.error
	}
	return &IndexError{Line: at.line, Err: err}
}

type packagesParser struct {
	each func(Stanza) error
	cur  Stanza
	seen uint32  // bits of the fields present
	last *string // where a continuation line goes; nil to drop it
}

func (p *packagesParser) more(text []byte) error {
	if p.last == nil {
		return nil
	}
	*p.last = strings.TrimSpace(*p.last + " " + string(text))
	if len(*p.last) > maxLine {
		return fmt.Errorf("field is longer than %d bytes", maxLine)
	}
	return nil
}

// field stores one field. Names are compared as Debian's archive writes them:
// the archive software never varies the case, and a field in other case is
// one that we do not use.
func (p *packagesParser) field(name, value []byte) error {
	c := &p.cur
	p.last = nil
	bit := 0
	switch string(name) {
	case "Package":
		bit, p.last = 1, &c.Package
	case "Version":
		bit, p.last = 2, &c.Version
	case "Architecture":
		bit, p.last = 3, &c.Architecture
	case "Source":
		bit, p.last = 4, &c.Source
	case "Section":
		bit, p.last = 5, &c.Section
	case "Priority":
		bit, p.last = 6, &c.Priority
	case "Multi-Arch":
		bit, p.last = 7, &c.MultiArch
	case "Depends":
		bit, p.last = 8, &c.Depends
	case "Pre-Depends":
		bit, p.last = 9, &c.PreDepends
	case "Conflicts":
		bit, p.last = 10, &c.Conflicts
	case "Breaks":
		bit, p.last = 11, &c.Breaks
	case "Provides":
		bit, p.last = 12, &c.Provides
	case "Filename":
		bit, p.last = 13, &c.Filename
	case "Essential":
		bit = 14
		c.Essential = string(value) == "yes"
	case "Size":
		bit = 15
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || n <= 0 || n > maxDeb {
			return fmt.Errorf("field Size is %q, not a size from 1 to %d", clip(value), int64(maxDeb))
		}
		c.Size = n
	case "SHA256":
		bit = 16
		d, err := digest.ParseHex(string(value))
		if err != nil {
			return fmt.Errorf("field SHA256: %w", err)
		}
		c.SHA256 = d
	default:
		return nil
	}
	if p.seen&(1<<bit) != 0 {
		return fmt.Errorf("field %s stands twice", name)
	}
	p.seen |= 1 << bit
	if p.last != nil {
		*p.last = string(value)
	}
	return nil
}

func (p *packagesParser) end() error {
	s := p.cur
	p.cur, p.seen, p.last = Stanza{}, 0, nil
	if err := s.check(); err != nil {
		return err
	}
	if err := p.each(s); err != nil {
		return callerError{err}
	}
	return nil
}

// check refuses a paragraph whose values could mean something else elsewhere:
// as a path, a URL, or an argument of apt.
func (s *Stanza) check() error {
	switch {
	case s.Package == "":
		return fmt.Errorf("paragraph has no Package")
	case !validName(s.Package):
		return fmt.Errorf("package name %q is not one", clip([]byte(s.Package)))
	case len(s.Version) > maxName:
		return fmt.Errorf("package %q: version is longer than %d bytes", s.Package, maxName)
	case !validArch(s.Architecture):
		return fmt.Errorf("package %q: architecture %q is not one", s.Package, s.Architecture)
	case s.Size == 0:
		return fmt.Errorf("package %q has no Size", s.Package)
	case s.SHA256.IsZero():
		return fmt.Errorf("package %q has no SHA256", s.Package)
	case s.MultiArch != "" && s.MultiArch != "no" && s.MultiArch != "same" && s.MultiArch != "foreign" && s.MultiArch != "allowed":
		return fmt.Errorf("package %q: Multi-Arch is %q", s.Package, s.MultiArch)
	}
	if err := checkVersion(s.Version); err != nil {
		return fmt.Errorf("package %q: %w", s.Package, err)
	}
	if err := checkFilename(s.Filename); err != nil {
		return fmt.Errorf("package %q: %w", s.Package, err)
	}
	return nil
}

// checkFilename accepts clean relative paths of plain characters only, for
// they become parts of URLs and of lines of the lock.
func checkFilename(name string) error {
	if name == "" {
		return fmt.Errorf("no Filename")
	}
	if len(name) > maxName || path.Clean(name) != name || name[0] == '/' || name == "." || name == ".." || strings.HasPrefix(name, "../") {
		return fmt.Errorf("path %q is not a clean relative path", clip([]byte(name)))
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; !versionByte(c) && c != '/' && c != '_' && c != '%' && c != '@' && c != ',' && c != '=' {
			return fmt.Errorf("path %q holds the character %q", clip([]byte(name)), c)
		}
	}
	return nil
}

// validName follows Debian Policy 5.6.1.
func validName(s string) bool {
	if len(s) < 2 || len(s) > maxName {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', isDigit(c):
		case i > 0 && (c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return true
}

func validArch(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !('a' <= c && c <= 'z' || isDigit(c) || i > 0 && c == '-') {
			return false
		}
	}
	return true
}

// clip shortens what an error quotes.
func clip(b []byte) string {
	const most = 80 // a line of a terminal
	if len(b) > most {
		return string(b[:most]) + "…"
	}
	return string(b)
}
