package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"quorate.dev/builder/installed"
	"quorate.dev/builder/sbom"
	"quorate.dev/builder/tree"
	"quorate.dev/lockfile"
)

// basePackages are the packages that an image which another is built on
// (image.base) says are installed in it, by its own databases of dpkg and apk.
// Nobody locked them: what is locked is the image.
//
// What an image says is believed as far as it can be read, and nothing of it fails
// a build whose image does not depend on it. An entry that makes no sense, a file
// that is too large, a database in another form: each is said in the base's part,
// in words, so that whoever reads the SBOM knows what it does not list. Only bytes
// that are not those of the lock are an error.
type basePackages struct {
	key    string // of the part that the image is
	tree   *tree.Tree
	roads  *resolver // of its links
	distro lockfile.Distribution
	docs   *copyrights
	away   map[string]installed.Diversion // by path
	left   int64                          // bytes that may still be read

	parts  []sbom.Part
	places map[string]int // of parts, by key
	needs  baseNeeds
	owners *sorter  // path, NUL, key of the part of the package that lists it
	notes  []string // what has to be said of the image

	file string  // that is read
	now  *string // key of the package whose files are told of; nil for one that is left out
	bad  trouble // of the database that is read
}

// What is read of an image's databases, in bytes. A machine of 798 packages (bookworm)
// has a status file of 0.7 MB, lists of files of 7.6 MB and copyright files of 19 MB.
const (
	maxBaseFile       = 64 << 20  // each file
	maxBaseSmall      = 1 << 20   // os-release and diversions, which have some hundred bytes
	maxBaseFiles      = 256 << 20 // all of them, without copyright files
	maxBaseCopyrights = 64 << 20  // all of these
	maxBasePackages   = 30_000    // whose parts take 100 MB of memory
)

// The databases of an image. Some distributions of apk have lib merged into usr.
const (
	dpkgFolder    = "var/lib/dpkg"
	dpkgStatus    = dpkgFolder + "/status"
	dpkgStatusD   = dpkgFolder + "/status.d"
	dpkgInfo      = dpkgFolder + "/info"
	dpkgDiverted  = dpkgFolder + "/diversions"
	checksumsName = ".md5sums"
)

var (
	apkFiles   = []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"}
	rpmFolders = []string{"var/lib/rpm", "usr/lib/sysimage/rpm"}
	releases   = []string{"etc/os-release", "usr/lib/os-release"}
)

// limitError says that a file of an image has more bytes than are read.
type limitError struct {
	file       string
	size, most int64
}

func (e *limitError) Error() string {
	return fmt.Sprintf("/%s has %d bytes, and at most %d are read", e.file, e.size, e.most)
}

// trouble counts what is left out of a database.
type trouble struct {
	n     int
	first string
}

func (t *trouble) add(problem string) {
	if t.n++; t.n == 1 {
		t.first = problem
	}
}

func newBasePackages(dir string) basePackages {
	return basePackages{places: map[string]int{}, owners: &sorter{dir: dir}, needs: newBaseNeeds()}
}

// baseParts reads what the image that this one is built on says of its packages.
func (v *inventory) baseParts(ctx context.Context) error {
	name := v.job.Definition.Image.Base
	if name == "" {
		return nil
	}
	t := v.below
	if t == nil {
		in, err := v.input(ctx, name)
		if err != nil {
			return err
		}
		t = in.tree
	}
	v.inBase.key, v.inBase.tree, v.inBase.left = v.keyOf(name), t, maxBaseFiles
	err := v.inBase.read(ctx)
	v.contents.Parts = append(v.contents.Parts, v.inBase.parts...)
	v.inBase.tree, v.inBase.roads, v.inBase.docs, v.inBase.needs = nil, nil, nil, baseNeeds{}
	return err
}

// contain tells the base's part what is in it.
func (s *basePackages) contain(whole *sbom.Part) {
	if whole.Key != s.key {
		return
	}
	for _, p := range s.parts {
		whole.Contains = append(whole.Contains, p.Key)
	}
	slices.Sort(whole.Contains)
	whole.Notes = s.notes
}

// read goes through the databases.
func (s *basePackages) read(ctx context.Context) error {
	statusD, rpm := s.look()
	for _, name := range releases {
		if text, err := s.small(name); err != nil {
			return err
		} else if text != nil {
			s.distro = installed.ParseDistribution(text)
			break
		}
	}
	diversions, err := s.small(dpkgDiverted)
	if err != nil {
		return err
	}
	s.away = installed.ParseDiversions(diversions)
	dpkg, err := s.dpkg(ctx, statusD)
	if err != nil {
		return err
	}
	apk, err := s.apk(ctx)
	if err != nil {
		return err
	}
	if rpm != "" {
		s.notes = append(s.notes, "packages of rpm in it are not listed: Quorate does not read /"+rpm+", which is binary")
	}
	if !dpkg && !apk && rpm == "" {
		s.notes = append(s.notes, "packages in it are not listed: it has no database of dpkg or apk")
	}
	return nil
}

// look goes once through the image's files, for what has to be known before: its
// links and copyright files, the names in status.d, and whose folder of rpm has
// something in it.
func (s *basePackages) look() (statusD []string, rpm string) {
	var links []tree.Entry
	s.docs = newCopyrights()
	s.docs.most = maxBaseCopyrights
	entries := s.tree.Entries()
	for _, e := range entries {
		s.docs.addEntry(e)
		if e.Kind == tree.Symlink {
			links = append(links, e)
		}
	}
	s.roads = newResolver(links)
	folder := s.follow(dpkgStatusD)
	var folders []string
	for _, f := range rpmFolders {
		folders = append(folders, s.follow(f))
	}
	for _, e := range entries {
		dir := path.Dir(e.Path)
		if dir == folder && !strings.HasSuffix(e.Path, checksumsName) {
			statusD = append(statusD, path.Base(e.Path))
		}
		if i := slices.Index(folders, dir); i >= 0 && rpm == "" && e.Kind != tree.Dir {
			rpm = rpmFolders[i]
		}
	}
	return statusD, rpm
}

// follow resolves the links in a path, its last name included.
func (s *basePackages) follow(name string) string {
	at, _ := s.roads.follow(name)
	return at
}

// open opens a regular file of the image, through links. It is nil when there is
// none; the error is a *limitError or one of reading.
func (s *basePackages) open(name string, most int64) (io.ReadCloser, error) {
	e, ok := s.tree.Lookup(s.follow(name))
	if ok && e.Kind == tree.Hardlink {
		e, ok = s.tree.Lookup(e.Link)
	}
	if !ok || e.Kind != tree.File {
		return nil, nil
	}
	if most = min(most, s.left); e.Size > most {
		return nil, &limitError{file: name, size: e.Size, most: most}
	}
	s.left -= e.Size
	return tree.Open(e)
}

// with has a file of the image read, if there is one. One that is too large is
// noted as trouble.
func (s *basePackages) with(name string, read func(io.Reader) error) (there bool, err error) {
	r, err := s.open(name, maxBaseFile)
	if limit := (*limitError)(nil); errors.As(err, &limit) {
		s.bad.add(limit.Error())
		return true, nil
	}
	if r == nil || err != nil {
		return false, err
	}
	defer r.Close()
	s.file = name
	return true, read(r)
}

// small reads a small file of the image; it is nil when there is none, or one
// that is too large to be right.
func (s *basePackages) small(name string) ([]byte, error) {
	r, err := s.open(name, maxBaseSmall)
	if limit := (*limitError)(nil); errors.As(err, &limit) {
		s.notes = append(s.notes, "not read: "+limit.Error())
		return nil, nil
	}
	if r == nil || err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if text == nil {
		text = []byte{}
	}
	return text, err
}

// dpkg reads dpkg's databases, and reports whether there is one.
func (s *basePackages) dpkg(ctx context.Context, statusD []string) (bool, error) {
	found, err := s.with(dpkgStatus, func(r io.Reader) error { return installed.Dpkg(r, installed.StatusFile, s) })
	if err != nil {
		return false, err
	}
	first := len(s.parts)
	for _, p := range s.parts[:first] {
		if err := s.listed(ctx, p); err != nil {
			return false, err
		}
	}
	for _, name := range statusD {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		before := len(s.parts)
		there, err := s.with(dpkgStatusD+"/"+name, func(r io.Reader) error { return installed.Dpkg(r, installed.StatusD, s) })
		if err != nil {
			return false, err
		}
		found = found || there
		if len(s.parts) != before+1 { // whose sums these are, nobody says
			continue
		}
		s.now = &s.parts[before].Key
		if _, err := s.with(dpkgStatusD+"/"+name+checksumsName, func(r io.Reader) error { return installed.Checksums(r, s.File) }); err != nil {
			return false, err
		}
	}
	return found, s.settle(ctx, "dpkg", "deb")
}

// listed reads dpkg's list of a package's files, whose name has the architecture
// when the package may be installed for several.
func (s *basePackages) listed(ctx context.Context, p sbom.Part) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.now = &p.Key
	arch := strings.TrimPrefix(p.Key, s.key+"/deb/"+p.Name)
	for _, name := range []string{p.Name + arch, p.Name} {
		there, err := s.with(dpkgInfo+"/"+name+".list", func(r io.Reader) error { return installed.List(r, s.File) })
		if there || err != nil {
			return err
		}
	}
	return nil
}

// apk reads apk's database, and reports whether there is one.
func (s *basePackages) apk(ctx context.Context) (found bool, err error) {
	for _, name := range apkFiles {
		if found, err = s.with(name, func(r io.Reader) error { return installed.Apk(&cancelled{ctx, r}, s) }); found || err != nil {
			break
		}
	}
	if err != nil {
		return found, err
	}
	return found, s.settle(ctx, "apk", "apk")
}

// cancelled reads until somebody gives up.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelled) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// settle finds which packages of a database need which, and says what was left out
// of it.
func (s *basePackages) settle(ctx context.Context, database, kind string) error {
	if err := s.needs.meet(ctx, kind, s.parts, s.unrelated); err != nil {
		return err
	}
	switch {
	case s.bad.n == 1:
		s.notes = append(s.notes, "left out of what its database of "+database+" lists: "+s.bad.first)
	case s.bad.n > 1:
		s.notes = append(s.notes, fmt.Sprintf("left out of what its database of %s lists: %s; and %d more", database, s.bad.first, s.bad.n-1))
	}
	s.bad = trouble{}
	return nil
}

// unrelated notes that it is not known what a package needs, or what it provides.
func (s *basePackages) unrelated(p *sbom.Part, problem string) {
	s.bad.add(fmt.Sprintf("how %.80q %.80q depends on others: %s", p.Name, p.Version, problem))
}

// Package implements installed.Visitor.
func (s *basePackages) Package(p installed.Package) error {
	s.now = nil
	key := s.key + "/" + p.Kind + "/" + p.Name + ":" + p.Arch
	if i, there := s.places[key]; there {
		if was := s.parts[i]; was.Version != p.Version {
			s.bad.add(fmt.Sprintf("%.80q %.80q in /%s, of which it lists %.80q as well", p.Name, p.Version, s.file, was.Version))
		}
		return nil
	}
	if len(s.parts) == maxBasePackages {
		s.bad.add(fmt.Sprintf("%.80q in /%s: at most %d packages are listed", p.Name, s.file, maxBasePackages))
		return nil
	}
	part := s.part(key, p)
	if p.Kind == "deb" {
		var err error
		if part.Licence, err = s.docs.licence(p.Name); err != nil {
			return err
		}
	}
	if problem := s.needs.add(len(s.parts), p); problem != "" {
		s.unrelated(&part, problem)
	}
	s.places[key] = len(s.parts)
	s.parts = append(s.parts, part)
	s.now = &key
	return nil
}

func (s *basePackages) part(key string, p installed.Package) sbom.Part {
	part := sbom.Part{
		Key: key, Kind: p.Kind, Name: p.Name, Version: p.Version,
		URI: s.distro.URI(p.Kind, p.Name, p.Version, p.Arch, p.Source), Supplier: p.Maintainer, Source: p.Source + " " + p.SourceVersion,
		Homepage: p.Homepage, Summary: p.Summary, Shipped: true, Archive: true,
		Found: []string{"listed in /" + s.file + " of the base image"},
	}
	if p.State != "" {
		part.Found[0] += ", as " + p.State
	}
	if p.Kind == "apk" {
		part.Licence = sbom.DeclaredLicence(s.file, p.Licence)
	}
	return part
}

// File implements installed.Visitor: it notes whose a file of the image is.
func (s *basePackages) File(name string) error {
	if s.now == nil {
		return nil
	}
	if d, ok := s.away[name]; ok && !strings.HasPrefix(*s.now, s.key+"/deb/"+d.By+":") {
		name = d.To
	}
	at := path.Join(s.follow(path.Dir(name)), path.Base(name))
	if e, ok := s.tree.Lookup(at); !ok || e.Kind != tree.File && e.Kind != tree.Hardlink {
		return nil
	}
	return s.owners.add([]byte(at), []byte{0}, []byte(*s.now))
}

// Bad implements installed.Visitor.
func (s *basePackages) Bad(line int, problem string) error {
	s.now = nil
	s.bad.add(fmt.Sprintf("an entry of /%s, line %d: %s", s.file, line, problem))
	return nil
}
