package deb

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"sort"
	"strings"

	"quorate.dev/builder/tree"
)

// Ground is a root that packages are unpacked over, as dpkg would in it: the
// files of an image that somebody else made, and what its dpkg database says.
//
//	g, err := deb.NewGround(files)
//	laid, err := g.Lay(sources)       // which files are new, and which replace the ground's
//	database, err := g.Database(laid, deb.DatabaseOptions{State: deb.Unpacked, Architecture: "amd64"})
type Ground struct {
	Installed []Paragraph // of installed packages, sorted by name and architecture

	tree       *tree.Tree
	status     []byte // the status file as it is; nil when packages are in status.d alone
	owners     map[string]*Paragraph
	diversions []diversion
	filter     Filter
}

// diversion sends a file of every package but one elsewhere (dpkg-divert(1)).
type diversion struct {
	from, to string // absolute
	by       string // package that keeps the name
}

// GroundError says why no package can be laid over a root.
type GroundError struct {
	Problem string
	Err     error // may be nil
}

func (e *GroundError) Error() string {
	if e.Err == nil {
		return e.Problem
	}
	return e.Problem + ": " + e.Err.Error()
}

func (e *GroundError) Unwrap() error { return e.Err }

const (
	statusFile = databaseDir + "status"
	statusDir  = databaseDir + "status.d/"
	configFile = "etc/dpkg/dpkg.cfg"
)

// maxDatabase bounds a file of a database; the status file of a desktop with
// all of TeX has 8 MB.
const maxDatabase = 64 << 20

// NewGround reads the database of a root: the status file, and the folder
// status.d that images without dpkg have. A root with neither is refused, and so
// is one with a package whose installation was left unfinished.
func NewGround(t *tree.Tree) (*Ground, error) {
	g := &Ground{tree: t}
	found, err := g.readStatus()
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &GroundError{Problem: "it has no dpkg database (/var/lib/dpkg/status or /var/lib/dpkg/status.d), so nobody can tell which packages are in it"}
	}
	slices.SortStableFunc(g.Installed, func(a, b Paragraph) int {
		return cmp.Or(strings.Compare(a.Get("Package"), b.Get("Package")), strings.Compare(a.Get("Architecture"), b.Get("Architecture")))
	})
	// One package may be in both forms.
	g.Installed = slices.CompactFunc(g.Installed, func(a, b Paragraph) bool {
		return a.Get("Package") == b.Get("Package") && a.Get("Architecture") == b.Get("Architecture")
	})
	if err := g.readConfig(); err != nil {
		return nil, err
	}
	return g, g.readOwners()
}

// HasDpkg reports whether dpkg itself is one of the ground's packages.
func (g *Ground) HasDpkg() bool { return g.Version("dpkg") != "" }

// Version returns the version of an installed package, "" when there is none of that name.
func (g *Ground) Version(name string) string {
	for _, p := range g.Installed {
		if p.Get("Package") == name {
			return p.Get("Version")
		}
	}
	return ""
}

// StatusD reports whether packages are listed in status.d alone.
func (g *Ground) StatusD() bool { return g.status == nil }

// Release is the code name that the root's os-release has, or "" (os-release(5)).
func (g *Ground) Release() string {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		text, ok, err := g.read(name)
		if !ok || err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
				return strings.Trim(v, `"'`)
			}
		}
		return ""
	}
	return ""
}

// Status writes the installed packages as a status file.
func (g *Ground) Status() []byte {
	var b []byte
	for _, p := range g.Installed {
		b = append(p.append(b), '\n')
	}
	return b
}

// read returns a file of the root, through links.
func (g *Ground) read(name string) ([]byte, bool, error) {
	e, ok := g.tree.Lookup(g.follow(name))
	if !ok || e.Kind == tree.Hardlink {
		e, ok = g.tree.Lookup(e.Link)
	}
	if !ok || e.Kind != tree.File {
		return nil, false, nil
	}
	if e.Size > maxDatabase {
		return nil, true, &GroundError{Problem: fmt.Sprintf("/%s has %d bytes; at most %d are read", name, e.Size, int64(maxDatabase))}
	}
	if e.Size == 0 {
		return []byte{}, true, nil
	}
	r, err := tree.Open(e)
	if err != nil {
		return nil, true, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return b, true, err
}

func (g *Ground) readStatus() (found bool, err error) {
	text, _, err := g.read(statusFile)
	if err != nil {
		return false, err
	}
	list, err := ParseStatus(text)
	if err != nil {
		return false, &GroundError{"its /" + statusFile + " cannot be read", err}
	}
	if found = len(list) > 0; found {
		g.status = text
	}
	for _, p := range list {
		if err := g.install(p); err != nil {
			return false, err
		}
	}
	for _, e := range g.tree.Entries() {
		name, in := strings.CutPrefix(e.Path, statusDir)
		if !in || e.Kind != tree.File || strings.HasSuffix(name, ".md5sums") || strings.Contains(name, "/") {
			continue
		}
		found = true
		text, _, err := g.read(e.Path)
		if err != nil {
			return false, err
		}
		list, err := ParseStatus(append(bytes.TrimRight(text, "\n"), '\n'))
		if err != nil {
			return false, &GroundError{"its /" + e.Path + " cannot be read", err}
		}
		for _, p := range list {
			if p.Get("Status") == "" { // a control file as its package has it
				p = append(p, Field{"Status", string(Installed)})
			}
			if err := g.install(p); err != nil {
				return false, err
			}
		}
	}
	return found, nil
}

// install notes a package by its state (dpkg(1), "Package states").
func (g *Ground) install(p Paragraph) error {
	name := p.Get("Package")
	words := strings.Fields(p.Get("Status"))
	if len(words) != 3 {
		return &GroundError{Problem: fmt.Sprintf("its package %q has the status %q, which is none of dpkg's", name, p.Get("Status"))}
	}
	switch {
	case words[2] == "not-installed" || words[2] == "config-files":
		return nil
	case words[2] != "installed" || words[1] != "ok":
		return &GroundError{Problem: fmt.Sprintf("its package %q is %q: whoever made the image did not finish the installation", name, p.Get("Status"))}
	}
	if !validName(name) || !validVersion(p.Get("Version")) || p.Get("Architecture") == "" || !validArch(p.Get("Architecture")) {
		return &GroundError{Problem: fmt.Sprintf("its dpkg database has a package %.60q %.60q for %.60q, which is none", name, p.Get("Version"), p.Get("Architecture"))}
	}
	g.Installed = append(g.Installed, p)
	return nil
}

// readConfig reads what decides where files go: diversions, and filters of paths.
func (g *Ground) readConfig() error {
	text, _, err := g.read(databaseDir + "diversions")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := 0; i+2 < len(lines); i += 3 {
		g.diversions = append(g.diversions, diversion{lines[i], lines[i+1], lines[i+2]})
	}
	files := []string{configFile}
	for _, e := range g.tree.Entries() {
		if path.Dir(e.Path) == configFile+".d" {
			files = append(files, e.Path)
		}
	}
	for _, name := range files {
		text, _, err := g.read(name)
		if err != nil {
			return err
		}
		g.filter = g.filter.ParseFilter(string(text))
	}
	return nil
}

// infoName is what dpkg's info files of an installed package are called.
func infoName(p Paragraph) string {
	if p.Get("Multi-Arch") == "same" {
		return p.Get("Package") + ":" + p.Get("Architecture")
	}
	return p.Get("Package")
}

// States are the words that the status file has for each of its packages, by
// NAME:ARCHITECTURE: some may be removed, or held.
func (g *Ground) States() map[string]string {
	states := map[string]string{}
	list, err := ParseStatus(g.status)
	if err != nil {
		return states // NewGround has read it
	}
	for _, p := range list {
		states[p.Get("Package")+":"+p.Get("Architecture")] = p.Get("Status")
	}
	return states
}

// InfoNames are those of all installed packages.
func (g *Ground) InfoNames() []string {
	names := make([]string, len(g.Installed))
	for i, p := range g.Installed {
		names[i] = infoName(p)
	}
	return names
}

// readOwners finds whose each file is: in dpkg's lists, and where there is no
// dpkg, in the lists of checksums.
func (g *Ground) readOwners() error {
	g.owners = map[string]*Paragraph{}
	for i := range g.Installed {
		p := &g.Installed[i]
		text, ok, err := g.read(infoDir + infoName(*p) + ".list")
		if !ok && err == nil {
			text, _, err = g.read(statusDir + p.Get("Package") + ".md5sums")
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			if !ok { // "SUM  PATH"
				_, line, _ = strings.Cut(line, "  ")
			}
			shipped := strings.TrimPrefix(line, "/")
			if shipped == "" || shipped == "." {
				continue
			}
			at := g.at(shipped, canonical(shipped), p.Get("Package"))
			if e, there := g.tree.Lookup(at); there && e.Kind != tree.Dir {
				g.owners[at] = p
			}
		}
	}
	return nil
}

// at is where a file of a package lies in the root: diverted where somebody
// diverted it, and through the root's links. A root whose /bin or /lib is a
// folder, not merged into /usr, keeps its way.
func (g *Ground) at(shipped, merged, pkg string) string {
	for _, d := range g.diversions {
		if d.from == "/"+shipped && d.by != pkg {
			shipped = strings.TrimPrefix(path.Clean("/"+d.to), "/")
			merged = canonical(shipped)
		}
	}
	p := merged
	if shipped != merged {
		top, _, _ := strings.Cut(shipped, "/")
		if e, ok := g.tree.Lookup(top); ok && e.Kind == tree.Dir {
			p = shipped
		}
	}
	dir, name := path.Split(p)
	return path.Join(g.follow(path.Clean(dir)), name)
}

// canonical is Canonical of a path that dpkg's lists hold.
func canonical(shipped string) string {
	top, _, below := strings.Cut(shipped, "/")
	if merged[top] && below {
		return "usr/" + shipped
	}
	return shipped
}

// follow resolves the symbolic links in a path, its last name included, inside the root.
func (g *Ground) follow(p string) string {
	todo, at := strings.Split(p, "/"), ""
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = strings.TrimPrefix(path.Dir("/"+at), "/")
			continue
		}
		next := path.Join(at, name)
		e, ok := g.tree.Lookup(next)
		if !ok || e.Kind != tree.Symlink || links == linksMax {
			at = next
			continue
		}
		links++
		if strings.HasPrefix(e.Link, "/") {
			at = ""
		}
		todo = append(strings.Split(e.Link, "/"), todo...)
	}
	return at
}

// Laid is what packages bring to a ground.
type Laid struct {
	Entries  []tree.Entry                 // new paths and those that replace the ground's, sorted by path
	From     []int                        // of each of Entries: index of its package
	Packages []*Package                   //
	Replaced map[*Package]map[string]bool // see the function of that name
	taken    map[string]map[string]bool   // by info name of the ground's packages: absolute paths that are theirs no longer
}

// TakenError says that a package ships what a package of the ground has already.
type TakenError struct {
	Path    string
	Package string // that is added
	Holder  string // package of the ground, "" when it is a folder of nobody's
	Version string // of Holder
}

func (e *TakenError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("package %q ships the file %q, which is a folder there", e.Package, "/"+e.Path)
	}
	return fmt.Sprintf("package %q ships %q, which is of package %q (%s) there, and does not replace it", e.Package, "/"+e.Path, e.Holder, e.Version)
}

// Lay lays packages over the ground, as dpkg does: a folder that is there stays
// as it is, and so does a link to one; a file of nobody's is replaced, but a
// configuration file is not; a file of another package is refused, unless one of
// the two says that it replaces the other.
func (g *Ground) Lay(sources []Source) (*Laid, error) {
	moved := make([]Source, len(sources))
	for i, s := range sources {
		moved[i] = g.moved(s)
	}
	m, err := merge(moved)
	if err != nil {
		return nil, err
	}
	laid := &Laid{Replaced: m.replaced, taken: map[string]map[string]bool{}}
	for _, s := range sources {
		laid.Packages = append(laid.Packages, s.Package)
	}
	list := m.sorted()
	kept := list[:0:0]
	for _, p := range list {
		shipped := sources[p.source].Package.Entries[p.index].Shipped
		if g.filter.Skips(shipped, p.entry.Kind) {
			continue
		}
		stays, err := g.over(m, p, shipped, laid)
		if err != nil {
			return nil, err
		}
		if stays {
			kept = append(kept, p)
		}
	}
	laid.Entries = m.entries(kept)
	for _, p := range kept {
		laid.From = append(laid.From, p.source)
	}
	g.addAliases(laid, sources)
	return laid, nil
}

// moved gives a package's entries the paths that they have in the root.
func (g *Ground) moved(s Source) Source {
	at := map[string]string{}
	out := Source{Package: s.Package, Entries: slices.Clone(s.Entries)}
	for i := range out.Entries {
		e := &out.Entries[i]
		was := s.Package.Entries[i].Path
		set := strings.TrimPrefix(e.Path, was) // ".dpkg-new" of a conffile that stands aside
		e.Path = g.at(s.Package.Entries[i].Shipped, was, s.Package.Name()) + set
		at[was] = e.Path
		if e.Kind == tree.Hardlink {
			e.Link = cmp.Or(at[e.Link], e.Link)
		}
	}
	return out
}

// over decides between a package's entry and what the ground has in its place;
// it returns whether the package's counts.
func (g *Ground) over(m *merger, p *place, shipped string, laid *Laid) (bool, error) {
	e := p.entry
	old, there := g.tree.Lookup(e.Path)
	if !there {
		return true, nil
	}
	pkg := m.sources[p.source].Package
	oldDir, newDir := old.Kind == tree.Dir, e.Kind == tree.Dir
	if old.Kind == tree.Symlink && newDir {
		to, there := g.tree.Lookup(g.follow(e.Path))
		oldDir = !there || to.Kind == tree.Dir
	}
	switch {
	case oldDir && (newDir || e.Kind == tree.Symlink):
		return false, nil
	case oldDir:
		return false, &TakenError{Path: e.Path, Package: pkg.Name()}
	}
	holder := g.owners[e.Path]
	if holder == nil {
		return !slices.ContainsFunc(pkg.Conffiles, func(c Conffile) bool { return c.Path == "/"+shipped }), nil
	}
	was := &Package{Control: *holder}
	switch {
	case holder.Get("Package") == pkg.Name(): // another architecture of a Multi-Arch: same package
		return false, nil
	case replaces(pkg, was):
		laid.take(infoName(*holder), g, e.Path)
		return true, nil
	case replaces(was, pkg):
		m.lose(p.source, shipped)
		return false, nil
	}
	return false, &TakenError{Path: e.Path, Package: pkg.Name(), Holder: was.Name(), Version: was.Version()}
}

func (l *Laid) take(info string, g *Ground, at string) {
	if l.taken[info] == nil {
		l.taken[info] = map[string]bool{}
	}
	l.taken[info][at] = true
}

// addAliases adds the links of a merged /usr that packages rely on, where the
// ground has nothing of the name: what they ship for /lib is in /usr/lib.
func (g *Ground) addAliases(laid *Laid, sources []Source) {
	needed := map[string]int{}
	for i, s := range sources {
		for _, e := range s.Package.Entries {
			top, _, _ := strings.Cut(e.Shipped, "/")
			if _, there := g.tree.Lookup(top); !there && e.Path != e.Shipped {
				if _, known := needed[top]; !known {
					needed[top] = i
				}
			}
		}
	}
	for top, from := range needed {
		at, found := slices.BinarySearchFunc(laid.Entries, top, func(e tree.Entry, p string) int { return strings.Compare(e.Path, p) })
		if found {
			continue
		}
		laid.Entries = slices.Insert(laid.Entries, at, tree.Entry{Path: top, Kind: tree.Symlink, Mode: 0o777, Link: "usr/" + top, ModTime: laid.Packages[from].ModTime})
		laid.From = slices.Insert(laid.From, at, from)
	}
}

// Database returns the files of the dpkg database that change when packages are
// laid over the ground, sorted by path: those of the packages, and of the
// ground's own the ones that tell of all.
func (g *Ground) Database(laid *Laid, o DatabaseOptions) ([]tree.Entry, error) {
	if g.StatusD() {
		var out []tree.Entry
		for _, p := range laid.Packages {
			out = append(out, StatusD(p)...)
		}
		tree.SortEntries(out)
		return out, nil
	}
	t := newest(laid.Packages)
	status, err := g.extended(laid, o)
	if err != nil {
		return nil, err
	}
	out := []tree.Entry{tree.NewFile(statusFile, 0o644, t, status)}
	for _, p := range laid.Packages {
		out = append(out, infoFiles(p, laid.Replaced[p])...)
	}
	lists, err := g.shortened(laid, t)
	if err != nil {
		return nil, err
	}
	triggers, err := g.triggers(laid, o.State, t)
	if err != nil {
		return nil, err
	}
	out = append(append(out, lists...), triggers...)
	if arch, err := g.architectures(laid, o.Architecture); err != nil {
		return nil, err
	} else if arch != "" {
		out = append(out, tree.NewFile(databaseDir+"arch", 0o644, t, []byte(arch)))
	}
	tree.SortEntries(out)
	return out, nil
}

// InfoFiles returns what the database keeps of one package that was laid.
func (g *Ground) InfoFiles(p *Package, laid *Laid) []tree.Entry {
	if g.StatusD() {
		return StatusD(p)
	}
	return infoFiles(p, laid.Replaced[p])
}

// extended is the status file with the packages in it: sorted, and the ground's
// paragraphs byte for byte.
func (g *Ground) extended(laid *Laid, o DatabaseOptions) ([]byte, error) {
	type paragraph struct{ key, text string }
	var all []paragraph
	key := func(name, arch string) string { return name + "\x00" + arch }
	err := eachStanza(g.status, func(text []byte, line int) error {
		p, err := ParseParagraph(text, line)
		all = append(all, paragraph{key(p.Get("Package"), p.Get("Architecture")), string(text)})
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, p := range laid.Packages {
		k := key(p.Name(), p.Arch())
		// What was removed and left its configuration is installed again.
		all = slices.DeleteFunc(all, func(old paragraph) bool { return old.key == k })
		all = append(all, paragraph{k, string(stanza(p, cmp.Or(o.State, Unpacked), o.ConffileMD5).append(nil))})
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].key < all[j].key })
	var b strings.Builder
	for _, p := range all {
		b.WriteString(p.text)
		b.WriteByte('\n')
	}
	return []byte(b.String()), nil
}

// shortened are the lists of the ground's packages that lost files to others.
func (g *Ground) shortened(laid *Laid, modTime int64) ([]tree.Entry, error) {
	var out []tree.Entry
	for i := range g.Installed {
		p := &g.Installed[i]
		taken := laid.taken[infoName(*p)]
		if len(taken) == 0 {
			continue
		}
		name := infoDir + infoName(*p) + ".list"
		text, _, err := g.read(name)
		if err != nil {
			return nil, err
		}
		var b []byte
		for line := range strings.Lines(string(text)) {
			shipped := strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "/")
			if !taken[g.at(shipped, canonical(shipped), p.Get("Package"))] {
				b = append(b, line...)
			}
		}
		out = append(out, tree.NewFile(name, 0o644, modTime, b))
	}
	return out, nil
}

// triggers are the lists of interests with those of the packages added, and,
// when they are still to be configured, the triggers that their files activate:
// dpkg notes those as it unpacks (deb-triggers(5)).
func (g *Ground) triggers(laid *Laid, state State, modTime int64) ([]tree.Entry, error) {
	var out []tree.Entry
	for _, e := range triggerFiles(laid.Packages, modTime) {
		text, err := tree.Open(e)
		if err != nil {
			return nil, err
		}
		added, err := io.ReadAll(text)
		_ = text.Close()
		if err != nil {
			return nil, err
		}
		have, _, err := g.read(e.Path)
		if err != nil {
			return nil, err
		}
		out = append(out, tree.NewFile(e.Path, 0o644, modTime, append(have, added...)))
	}
	if state == Installed {
		return out, nil
	}
	interests, _, err := g.read(databaseDir + "triggers/File")
	if err != nil {
		return nil, err
	}
	for _, e := range out {
		if e.Path == databaseDir+"triggers/File" {
			interests = e.Content.(tree.Bytes)
		}
	}
	pending, _, err := g.read(databaseDir + "triggers/Unincorp")
	if err != nil {
		return nil, err
	}
	if pending = append(pending, activated(laid, string(interests))...); len(pending) > 0 {
		out = append(out, tree.NewFile(databaseDir+"triggers/Unincorp", 0o644, modTime, pending))
	}
	return out, nil
}

// activated writes the triggers of paths that the packages ship, or ship
// something below, as dpkg-trigger --no-await leaves them for dpkg.
func activated(laid *Laid, interests string) []byte {
	wanted := map[string]bool{}
	for line := range strings.Lines(interests) {
		if at := strings.LastIndexByte(line, ' '); at > 0 {
			wanted[line[:at]] = true
		}
	}
	hit := map[string]bool{}
	for _, p := range laid.Packages {
		for _, e := range p.Entries {
			for at := "/" + e.Shipped; at != "/"; at = path.Dir(at) {
				if wanted[at] {
					hit[at] = true
				}
			}
		}
	}
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(hit)) {
		b = append(b, name+" -\n"...)
	}
	return b
}

// architectures is dpkg's list of them when the packages add one, or "".
func (g *Ground) architectures(laid *Laid, native string) (string, error) {
	more := foreignArchitectures(laid.Packages, native)
	if more == "" {
		return "", nil
	}
	have, _, err := g.read(databaseDir + "arch")
	if err != nil {
		return "", err
	}
	lines := strings.Fields(string(have))
	for _, a := range strings.Fields(more) {
		if !slices.Contains(lines, a) {
			lines = append(lines, a)
		}
	}
	if len(lines) == len(strings.Fields(string(have))) {
		return "", nil
	}
	return strings.Join(lines, "\n") + "\n", nil
}
