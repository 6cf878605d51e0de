package deb

import (
	"slices"
	"sort"
	"strings"

	"quorate.dev/builder/tree"
)

// State is what the dpkg database says of a package.
type State string

// The states that a root can be in before and after maintainer scripts ran.
const (
	Unpacked  State = "install ok unpacked"
	Installed State = "install ok installed"
)

// Where dpkg keeps its database.
const (
	databaseDir = "var/lib/dpkg/"
	infoDir     = databaseDir + "info/"
)

// DatabaseOptions shape Database.
type DatabaseOptions struct {
	State        State // Unpacked when empty
	Architecture string
	ConffileMD5  func(p *Package, path string) string // see Status
	Replaced     map[*Package]map[string]bool         // from the function of that name; may be nil
}

// Database returns the whole dpkg database of a root that holds these packages
// and no others, files only, sorted by path: each package's InfoFiles and the
// CommonFiles.
func Database(pkgs []*Package, o DatabaseOptions) []tree.Entry {
	if o.State == "" {
		o.State = Unpacked
	}
	out := CommonFiles(pkgs, Status(pkgs, o.State, o.ConffileMD5))
	if f := foreignArchitectures(pkgs, o.Architecture); f != "" {
		out = append(out, tree.NewFile(databaseDir+"arch", 0o644, newest(pkgs), []byte(f)))
	}
	for _, p := range pkgs {
		out = append(out, infoFiles(p, o.Replaced[p])...)
	}
	tree.SortEntries(out)
	return out
}

// InfoFiles returns the files of one package below var/lib/dpkg/info: .list,
// and everything that its control.tar holds. They depend on the package alone
// and carry the time of its control file.
func InfoFiles(p *Package) []tree.Entry { return infoFiles(p, nil) }

// InfoFilesWithout is InfoFiles with files left out of .list that other
// packages replaced (see Replaced).
func InfoFilesWithout(p *Package, replaced map[string]bool) []tree.Entry {
	return infoFiles(p, replaced)
}

func infoFiles(p *Package, replaced map[string]bool) []tree.Entry {
	base := infoDir + p.InfoName() + "."
	out := []tree.Entry{tree.NewFile(base+"list", 0o644, p.ModTime, list(p, replaced))}
	for _, f := range p.ControlFiles {
		out = append(out, tree.NewFile(base+f.Name, f.Mode&0o777, p.ModTime, f.Data))
	}
	tree.SortEntries(out)
	return out
}

// list writes what dpkg does: "/." for the root, then every path as shipped.
func list(p *Package, replaced map[string]bool) []byte {
	b := []byte("/.\n")
	for i := range p.Entries {
		if s := p.Entries[i].Shipped; !replaced[s] {
			b = append(append(append(b, '/'), s...), '\n')
		}
	}
	return b
}

// CommonFiles returns the files of the dpkg database that are not of one
// package: the given status, info/format, the empty available, diversions and
// statoverride, and the lists of who is interested in which trigger. They
// carry the newest time of the packages.
func CommonFiles(pkgs []*Package, status []byte) []tree.Entry {
	t := newest(pkgs)
	out := []tree.Entry{
		tree.NewFile(databaseDir+"available", 0o644, t, nil),
		tree.NewFile(databaseDir+"diversions", 0o644, t, nil),
		tree.NewFile(databaseDir+"statoverride", 0o644, t, nil),
		tree.NewFile(databaseDir+"status", 0o644, t, status),
		tree.NewFile(infoDir+"format", 0o644, t, []byte("1\n")),
		tree.NewFile(databaseDir+"triggers/Unincorp", 0o644, t, nil),
	}
	out = append(out, triggerFiles(pkgs, t)...)
	for _, dir := range []string{"", "alternatives", "info", "parts", "triggers", "updates"} {
		out = append(out, tree.Entry{Path: strings.TrimSuffix(databaseDir+dir, "/"), Kind: tree.Dir, Mode: 0o755, ModTime: t})
	}
	tree.SortEntries(out)
	return out
}

func newest(pkgs []*Package) int64 {
	var t int64
	for _, p := range pkgs {
		t = max(t, p.ModTime)
	}
	return t
}

// triggerFiles writes triggers/File ("PATH PACKAGE" for each interest in a
// path) and triggers/NAME ("PACKAGE" for each interest in a name), as dpkg
// does when it unpacks a package (deb-triggers(5), dpkg's doc/triggers.txt).
func triggerFiles(pkgs []*Package, modTime int64) []tree.Entry {
	lines := map[string][]string{}
	for _, p := range byName(pkgs) {
		f := p.ControlFile("triggers")
		if f == nil {
			continue
		}
		for line := range strings.Lines(string(f.Data)) {
			line, _, _ = strings.Cut(line, "#")
			words := strings.Fields(line)
			if len(words) != 2 || !strings.HasPrefix(words[0], "interest") {
				continue
			}
			who := p.InfoName()
			if words[0] == "interest-noawait" {
				who += "/noawait"
			}
			if strings.HasPrefix(words[1], "/") {
				lines["File"] = append(lines["File"], words[1]+" "+who)
			} else if validTrigger(words[1]) {
				lines[words[1]] = append(lines[words[1]], who)
			}
		}
	}
	var out []tree.Entry
	for name, l := range lines {
		out = append(out, tree.NewFile(databaseDir+"triggers/"+name, 0o644, modTime, []byte(strings.Join(l, "\n")+"\n")))
	}
	return out
}

// validTrigger accepts names that are file names, "File" and "Unincorp" aside, which are dpkg's own.
func validTrigger(s string) bool {
	return len(s) <= 128 && s != "File" && s != "Unincorp" && s != "Lock" && s[0] != '.' && !strings.ContainsAny(s, "/\x00")
}

// foreignArchitectures returns the content of dpkg's "arch" file: the native
// one and the others, or "" when there are no others.
func foreignArchitectures(pkgs []*Package, native string) string {
	if native == "" {
		return ""
	}
	var others []string
	for _, p := range byName(pkgs) {
		if a := p.Arch(); a != "all" && a != native && !slices.Contains(others, a) {
			others = append(others, a)
		}
	}
	if len(others) == 0 {
		return ""
	}
	sort.Strings(others)
	return native + "\n" + strings.Join(others, "\n") + "\n"
}

func byName(pkgs []*Package) []*Package {
	sorted := slices.Clone(pkgs)
	sort.SliceStable(sorted, func(i, j int) bool { return orderKey(sorted[i]) < orderKey(sorted[j]) })
	return sorted
}

// statusFields is the order in which dpkg writes the fields that it knows
// (lib/dpkg/parse.c, fieldinfos); all others follow as the package has them.
// Status and Conffiles are ours to fill in.
var statusFields = []string{
	"Package", "Essential", "Protected", "Status", "Priority", "Section", "Installed-Size", "Origin", "Maintainer", "Bugs",
	"Architecture", "Multi-Arch", "Source", "Version", "Replaces", "Provides", "Depends", "Pre-Depends", "Recommends",
	"Suggests", "Breaks", "Conflicts", "Enhances", "Conffiles", "Description",
}

// relationFields are written in dpkg's own form.
var relationFields = map[string]bool{
	"Replaces": true, "Provides": true, "Depends": true, "Pre-Depends": true, "Recommends": true,
	"Suggests": true, "Breaks": true, "Conflicts": true, "Enhances": true,
}

// Status writes dpkg's status file: one paragraph for each package, sorted by
// name and architecture. conffileMD5 returns the MD5 of a conffile (absolute
// path) in the root, "newconffile" when dpkg is still to put it there; nil
// takes those of the bytes shipped.
func Status(pkgs []*Package, state State, conffileMD5 func(p *Package, path string) string) []byte {
	var b []byte
	for i, p := range byName(pkgs) {
		if i > 0 {
			b = append(b, '\n')
		}
		b = stanza(p, state, conffileMD5).append(b)
	}
	if len(b) > 0 {
		b = append(b, '\n')
	}
	return b
}

// stanza is a package's paragraph of the status file; without a state, of status.d.
func stanza(p *Package, state State, conffileMD5 func(*Package, string) string) Paragraph {
	var out Paragraph
	for _, name := range statusFields {
		value := p.Control.Get(name)
		switch name {
		case "Status":
			value = string(state)
		case "Conffiles":
			value = conffiles(p, conffileMD5)
		case "Essential", "Protected", "Multi-Arch":
			if value == "no" {
				value = "" // the default, which dpkg does not write
			}
		case "Version":
			value = strings.TrimPrefix(value, "0:")
		}
		if relationFields[name] {
			value = formatRelations(value)
		}
		if value != "" {
			out = append(out, Field{name, value})
		}
	}
	for _, f := range p.Control {
		known := slices.ContainsFunc(statusFields, func(s string) bool { return strings.EqualFold(s, f.Name) })
		if !known && f.Value != "" {
			out = append(out, f)
		}
	}
	return out
}

func conffiles(p *Package, md5 func(*Package, string) string) string {
	var b strings.Builder
	for _, c := range p.Conffiles {
		sum := c.MD5
		if md5 != nil {
			sum = md5(p, c.Path)
		}
		b.WriteString("\n " + c.Path + " " + sum)
	}
	return b.String()
}

// StatusD returns the metadata of a package in an image without dpkg, in the
// form that distroless images have and scanners read: var/lib/dpkg/status.d/PKG
// (the control paragraph with its status) and PKG.md5sums.
func StatusD(p *Package) []tree.Entry {
	base := databaseDir + "status.d/" + p.Name()
	out := []tree.Entry{tree.NewFile(base, 0o644, p.ModTime, stanza(p, Installed, nil).append(nil))}
	if f := p.ControlFile("md5sums"); f != nil {
		out = append(out, tree.NewFile(base+".md5sums", 0o644, p.ModTime, f.Data))
	}
	return out
}
