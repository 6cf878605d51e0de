package deb

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// SourceRequest asks for the files of one source package.
type SourceRequest struct {
	Input   string // name of the input
	Package string
	Version string            // "" for the newest
	Unpack  definition.Unpack // which of its files are wanted
	Stay    string            // with Query.Keep: the version to stay at as long as an archive has it; "" to choose anew
}

// Facts of a source input, as package lockfile says what they are.
const (
	factVersion = "version"
	factArchive = "archive"
	factFormat  = "format"
	factUnpack  = "unpack"
)

// SourceStanza is one paragraph of a Sources index: a source package that an
// archive offers.
type SourceStanza struct {
	Package   string
	Version   string
	Format    string   // "3.0 (quilt)"
	Binary    []string // names of the binary packages that are made from it
	Directory string   // relative to the archive's root, clean
	Extra     bool     // only kept because a package was built with it (Extra-Source-Only)
	Files     []SourceFile
}

// SourceFile is one file of a source package.
type SourceFile struct {
	Name   string
	Size   int64
	SHA256 digest.Digest
}

// maxSourceFiles bounds one source package; Debian's largest in bookworm has 96.
const maxSourceFiles = 10_000

// ParseSourceIndex reads a Sources index from r and hands each paragraph to each,
// as ParsePackages does. Fields that Quorate does not use are skipped unread.
func ParseSourceIndex(r io.Reader, each func(SourceStanza) error) error {
	return readParagraphs(r, &sourcesParser{each: each})
}

type sourcesParser struct {
	each func(SourceStanza) error
	cur  SourceStanza
	seen map[string]bool
	last string // field that a continuation line belongs to
}

func (p *sourcesParser) field(name, value []byte) error {
	c := &p.cur
	p.last = ""
	text := func(to *string) error {
		*to = string(value)
		if len(value) > maxName {
			return fmt.Errorf("field %s is longer than %d bytes", name, maxName)
		}
		return nil
	}
	var err error
	switch string(name) {
	case "Package":
		err = text(&c.Package)
	case "Version":
		err = text(&c.Version)
	case "Format":
		err = text(&c.Format)
	case "Directory":
		err = text(&c.Directory)
	case "Extra-Source-Only":
		c.Extra = string(value) == "yes"
	case "Binary":
		p.binaries(value)
	case "Checksums-Sha256":
		if len(value) > 0 {
			err = p.file(value)
		}
	default:
		return nil
	}
	p.last = string(name)
	if p.seen == nil {
		p.seen = map[string]bool{}
	}
	if p.seen[p.last] {
		return fmt.Errorf("field %s stands twice", name)
	}
	p.seen[p.last] = true
	return err
}

func (p *sourcesParser) more(text []byte) error {
	switch p.last {
	case "Checksums-Sha256":
		return p.file(text)
	case "Binary":
		p.binaries(text)
	case "", "Extra-Source-Only":
	default:
		return fmt.Errorf("field %s has more than one line", p.last)
	}
	return nil
}

func (p *sourcesParser) binaries(list []byte) {
	for name := range bytes.SplitSeq(list, []byte(",")) {
		if name = bytes.TrimSpace(name); len(name) > 0 {
			p.cur.Binary = append(p.cur.Binary, string(name))
		}
	}
}

// file reads a line of digests: sha256, size in bytes, name.
func (p *sourcesParser) file(line []byte) error {
	f := strings.Fields(string(line))
	if len(f) != 3 {
		return fmt.Errorf("digest line has %d words, expected digest, size and name", len(f))
	}
	d, err := digest.ParseHex(f[0])
	if err != nil {
		return fmt.Errorf("field Checksums-Sha256: %w", err)
	}
	size, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || size <= 0 || size > maxDeb {
		return fmt.Errorf("file %q has size %q, not one from 1 to %d", clip([]byte(f[2])), clip([]byte(f[1])), int64(maxDeb))
	}
	if len(p.cur.Files) == maxSourceFiles {
		return fmt.Errorf("package %q has more than %d files", p.cur.Package, maxSourceFiles)
	}
	p.cur.Files = append(p.cur.Files, SourceFile{f[2], size, d})
	return nil
}

func (p *sourcesParser) end() error {
	s := p.cur
	p.cur, p.last = SourceStanza{}, ""
	clear(p.seen)
	if err := s.check(); err != nil {
		return err
	}
	if err := p.each(s); err != nil {
		return callerError{err}
	}
	return nil
}

// check refuses a paragraph whose values could mean something else elsewhere:
// as a path, a URL, or a line of the lock.
func (s *SourceStanza) check() error {
	switch {
	case s.Package == "":
		return fmt.Errorf("paragraph has no Package")
	case !validName(s.Package):
		return fmt.Errorf("package name %q is not one", clip([]byte(s.Package)))
	case !plainText(s.Format):
		return fmt.Errorf("package %q: format %q is not one", s.Package, clip([]byte(s.Format)))
	case len(s.Files) == 0:
		return fmt.Errorf("package %q has no Checksums-Sha256", s.Package)
	}
	if err := checkVersion(s.Version); err != nil {
		return fmt.Errorf("package %q: %w", s.Package, err)
	}
	names := make(map[string]bool, len(s.Files))
	for _, f := range s.Files {
		switch err := checkFilename(path.Join(s.Directory, f.Name)); {
		case err != nil:
			return fmt.Errorf("package %q: %w", s.Package, err)
		case strings.Contains(f.Name, "/") || path.Base(f.Name) != f.Name:
			return fmt.Errorf("package %q: %q is not the name of a file", s.Package, clip([]byte(f.Name)))
		case names[f.Name]:
			return fmt.Errorf("package %q: file %q stands twice", s.Package, f.Name)
		}
		names[f.Name] = true
	}
	if s.Directory == "" {
		return fmt.Errorf("package %q has no Directory", s.Package)
	}
	if err := checkFilename(s.Directory); err != nil {
		return fmt.Errorf("package %q: %w", s.Package, err)
	}
	return nil
}

// plainText accepts what dpkg-source(1) writes as a format: "3.0 (quilt)".
func plainText(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !versionByte(c) && c != ' ' && c != '(' && c != ')' {
			return false
		}
	}
	return true
}

// sourceView is what the archives of a query offer of the source packages that
// were asked for.
type sourceView struct {
	suite    string
	archives []*archive
	asked    map[string]bool
	found    map[string][]sourceFound // by name, newest first
	makers   map[string]string        // source packages by the names of their binaries, of names that were asked for
	names    []string                 // of all source packages
}

type sourceFound struct {
	SourceStanza
	archive int
}

// sources answers the query's requests for source packages. Lists of them are
// brought only for that.
func (r *resolution) sources(ctx context.Context) error {
	if len(r.q.Sources) == 0 {
		return nil
	}
	v, err := r.viewSources(ctx)
	if err != nil {
		return err
	}
	for _, q := range r.q.Sources {
		s, err := v.choose(q)
		if err != nil {
			return err
		}
		if q.Version == "" && q.Stay != "" && s.Version != q.Stay {
			r.answer.Moved = append(r.answer.Moved, Move{Package: q.Package, From: q.Stay, To: s.Version, Why: "the archive no longer has that version"})
		}
		files, err := v.wanted(q, s)
		if err != nil {
			return err
		}
		r.answer.Inputs = append(r.answer.Inputs, lockfile.Input{Name: q.Input, Kind: lockfile.KindSource, Facts: lockfile.Facts{
			factVersion: s.Version, factArchive: v.archives[s.archive].Name, factFormat: s.Format, factUnpack: string(q.Unpack),
		}})
		for _, f := range files {
			r.answer.Pins = append(r.answer.Pins, lockfile.Pin{
				Input: q.Input, Name: s.Package, Version: s.Version, Size: f.Size, SHA256: f.SHA256,
				Path: path.Join(s.Directory, f.Name), By: lockfile.ByRequest,
			})
		}
	}
	return nil
}

// viewSources brings and reads the Sources indexes of a query's components.
func (r *resolution) viewSources(ctx context.Context) (*sourceView, error) {
	v := &sourceView{
		suite: r.q.Suite, archives: r.archives,
		asked: map[string]bool{}, found: map[string][]sourceFound{}, makers: map[string]string{},
	}
	for _, q := range r.q.Sources {
		v.asked[q.Package] = true
	}
	var files []indexFile
	for i := range r.archives {
		for _, c := range r.q.Components {
			files = append(files, indexFile{archive: i, component: c})
		}
	}
	err := atOnce(len(files), func(i int) error {
		f := &files[i]
		file, want, ok, err := r.listing(ctx, r.archives[f.archive], sourcesName(f.component))
		if ok {
			f.path, f.want = file, want
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	files = slices.DeleteFunc(files, func(f indexFile) bool { return f.path == "" })
	if len(files) == 0 {
		return nil, &IndexError{URL: r.archives[0].url, Err: fmt.Errorf("it names no %q: this archive offers no source packages", sourcesName(r.q.Components[0]))}
	}
	for _, f := range files {
		if err := v.readFile(f); err != nil {
			a := r.archives[f.archive]
			return nil, atURL(err, a.base+"/dists/"+a.Name+"/"+sourcesName(f.component))
		}
	}
	for _, list := range v.found {
		slices.SortStableFunc(list, func(a, b sourceFound) int { return CompareVersions(b.Version, a.Version) })
	}
	return v, nil
}

func sourcesName(component string) string { return component + "/source/Sources" }

func (v *sourceView) readFile(f indexFile) error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	return ParseSourceIndex(digest.NewReader(file, f.want.SHA256, f.want.Size), func(s SourceStanza) error {
		v.names = append(v.names, s.Package)
		for _, b := range s.Binary {
			if v.asked[b] {
				v.makers[b] = s.Package
			}
		}
		if v.asked[s.Package] {
			v.found[s.Package] = append(v.found[s.Package], sourceFound{s, f.archive})
		}
		return nil
	})
}

// choose finds the version that is asked for, else the one to stay at, else the
// newest of archives that are not opt-in and of packages that the suite still has.
func (v *sourceView) choose(q SourceRequest) (sourceFound, error) {
	list := v.found[q.Package]
	missing := &SourceNotFoundError{Input: q.Input, Package: q.Package, Suite: v.suite}
	var versions []string
	for _, s := range list {
		if s.Version == cmp.Or(q.Version, q.Stay) {
			return s, nil
		}
		versions = append(versions, s.Version)
	}
	for _, s := range list {
		if q.Version == "" && !s.Extra && !v.archives[s.archive].rel.Manual {
			return s, nil
		}
	}
	versions = slices.Compact(versions)
	switch {
	case q.Version != "" && len(list) > 0:
		missing.Version, missing.Nearest = q.Version, versions
		return sourceFound{}, missing
	case len(list) > 0:
		missing.Problem = "it has none that it offers unasked; name one with version: " + strings.Join(versions, " or ")
		return sourceFound{}, missing
	}
	if missing.Maker = v.makers[q.Package]; missing.Maker == "" {
		slices.Sort(v.names)
		missing.Nearest = definition.Nearest(q.Package, slices.Compact(v.names))
	}
	return sourceFound{}, missing
}

// wanted picks the files that an input shows.
func (v *sourceView) wanted(q SourceRequest, s sourceFound) ([]SourceFile, error) {
	if q.Unpack == definition.UnpackNone {
		return s.Files, nil
	}
	var files []SourceFile
	has := map[lockfile.SourcePart]bool{}
	for _, f := range s.Files {
		part, _ := lockfile.SourcePartOf(f.Name)
		switch part {
		case lockfile.SourceUpstream, lockfile.SourceComponent, lockfile.SourceNative:
		case lockfile.SourceDebian:
			if q.Unpack != definition.UnpackDebian {
				continue
			}
		default:
			continue
		}
		has[part] = true
		files = append(files, f)
	}
	problem := ""
	switch {
	case has[lockfile.SourceUpstream] == has[lockfile.SourceNative]:
		problem = fmt.Sprintf("it has no upstream tarball (its format is %q)", s.Format)
	case q.Unpack == definition.UnpackDebian && !has[lockfile.SourceDebian] && !has[lockfile.SourceNative]:
		problem = fmt.Sprintf("its folder debian/ is in a patch (its format is %q)", s.Format)
	default:
		return files, nil
	}
	return nil, &SourceNotFoundError{Input: q.Input, Package: s.Package, Version: s.Version, Suite: v.suite,
		Problem: problem + "; write unpack: none, and run dpkg-source (of the package dpkg-dev) in a step"}
}
