package builder

import (
	"path"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/deb"
)

// What a configured root leaves behind that says something about the run and
// nothing about the system: logs, caches, backups, identities. Each was seen to
// differ between two runs or to be made anew at need. A name ending in "/"
// stands for what is inside the folder.
var (
	forgotten = map[string]bool{
		"etc/.pwd.lock":                 true,
		"var/cache/ldconfig/aux-cache":  true, // inode numbers and times
		"var/lib/dbus/machine-id":       true, // random
		"var/lib/dpkg/lock":             true,
		"var/lib/dpkg/lock-frontend":    true,
		"var/lib/dpkg/triggers/Lock":    true,
		"var/log/alternatives.log":      true, // times
		"var/log/bootstrap.log":         true,
		"var/log/dpkg.log":              true, // times
		"etc/hostname":                  true, // the host's, never the image's
		"etc/resolv.conf":               true,
		"var/cache/apt/pkgcache.bin":    true,
		"var/cache/apt/srcpkgcache.bin": true,
	}
	forgottenInside = []string{
		"dev/", "proc/", "sys/", "tmp/", "var/tmp/", "build/", "out/", "inputs/",
	}
	forgottenFilesInside = []string{"var/cache/apt/archives/", "var/lib/apt/lists/", "var/log/apt/"}
	emptied              = map[string]bool{"etc/machine-id": true} // systemd fills an empty one at first boot (machine-id(5))
)

// forget applies the rules above to a configured tree.
func forget(t *tree.Tree, epoch int64) []tree.Entry {
	var kept []tree.Entry
	for _, e := range t.Entries() {
		switch {
		case forgotten[e.Path], inside(e.Path, forgottenInside), isBackup(e.Path):
			continue
		case e.Kind == tree.File && inside(e.Path, forgottenFilesInside):
			continue
		case strings.HasPrefix(e.Path, "var/lib/texmf/") && strings.HasSuffix(e.Path, ".log"): // times of TeX's own builds
			continue
		case (e.Path == policyPath || e.Path == hostsPath) && e.Size == 0: // mount points for what only the sandbox shows
			continue
		case stepFolders[e.Path]:
			continue
		case emptied[e.Path] && e.Kind == tree.File:
			e = tree.Entry{Path: e.Path, Kind: tree.File, Mode: e.Mode, UID: e.UID, GID: e.GID, ModTime: epoch, Digest: emptyDigest}
		}
		kept = append(kept, e)
	}
	return kept
}

// stepFolders are the sandbox's own places, which no image has unless it is copied there.
var stepFolders = map[string]bool{"build": true, "out": true, "inputs": true}

func inside(p string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(p, prefix) {
			return true
		}
	}
	return false
}

// isBackup recognises what dpkg and debconf keep of an earlier state.
func isBackup(p string) bool {
	dir := path.Dir(p)
	return strings.HasSuffix(p, "-old") && (dir == "var/lib/dpkg" || dir == "var/cache/debconf")
}

// shipment decides which paths of a configured root are shipped, when packages
// were needed only to configure it. Everything a shipped package ships stays;
// everything that only others ship goes; of what scripts made, all stays but
// what lies in folders of packages that are gone, and links that lead to them.
type shipment struct {
	shipped map[string]bool // path of a shipped package
	other   map[string]bool // path of a package that is not
	keep    map[string]bool // by info name
	over    bool            // an image, with a dpkg of its own
}

func newShipment(shipped, others []*decoded) *shipment {
	s := &shipment{shipped: map[string]bool{}, other: map[string]bool{}, keep: map[string]bool{}}
	for _, p := range shipped {
		s.keep[p.InfoName()] = true
		s.own(p, s.shipped)
	}
	for _, p := range others {
		owned := s.other
		if p.pin.Name == "base-files" {
			owned = nil // its folders are every system's; see keepFolder
		}
		s.own(p, owned)
	}
	for _, e := range skeleton(0) {
		s.shipped[e.Path] = true
	}
	return s
}

func (s *shipment) own(p *decoded, into map[string]bool) {
	for _, e := range p.Entries {
		if into != nil {
			into[e.Path] = true
		} else if e.Kind != tree.Dir {
			s.other[e.Path] = true
		}
	}
}

// filter returns what is shipped of t, a configured root.
func (s *shipment) filter(t []tree.Entry) ([]tree.Entry, error) {
	var kept []tree.Entry
	for _, e := range t {
		if s.keeps(e) {
			kept = append(kept, e)
		}
	}
	kept = dropDangling(t, kept, s.shipped)
	return s.filterDatabase(dropHeirless(dropEmpty(kept, s.shipped)))
}

func (s *shipment) keeps(e tree.Entry) bool {
	switch {
	case s.shipped[e.Path]:
		return true
	case s.other[e.Path]:
		return e.Kind == tree.Dir // until it is known whether anything is left inside
	case strings.HasPrefix(e.Path, "var/lib/dpkg/"):
		return s.keepsDatabase(e.Path)
	case e.Kind == tree.Symlink, e.Kind == tree.Dir:
		return true // dropDangling and dropEmpty decide
	}
	parent := path.Dir(e.Path)
	return s.shipped[parent] || !s.other[parent]
}

// keepsDatabase decides on paths of dpkg's own database.
func (s *shipment) keepsDatabase(p string) bool {
	rest := strings.TrimPrefix(p, "var/lib/dpkg/")
	switch dir, name, nested := strings.Cut(rest, "/"); {
	case !nested:
		return true
	case dir == "info" && name != "format":
		return s.keep[strings.TrimSuffix(name, path.Ext(name))]
	case dir == "alternatives", dir == "triggers":
		return s.over // update-alternatives and dpkg-trigger have nothing left to act on
	}
	return true
}

// dropDangling removes links that led somewhere in the whole root and lead
// nowhere in what is kept, until none is left.
func dropDangling(whole, kept []tree.Entry, shipped map[string]bool) []tree.Entry {
	before := newResolver(whole)
	for {
		after := newResolver(kept)
		next := kept[:0:0]
		for _, e := range kept {
			if e.Kind == tree.Symlink && !shipped[e.Path] && before.leads(e) && !after.leads(e) {
				continue
			}
			next = append(next, e)
		}
		if len(next) == len(kept) {
			return kept
		}
		kept = next
	}
}

// dropEmpty removes folders that no shipped package asks for and that hold nothing.
func dropEmpty(kept []tree.Entry, shipped map[string]bool) []tree.Entry {
	used := map[string]bool{}
	for i := len(kept) - 1; i >= 0; i-- {
		e := kept[i]
		if e.Kind == tree.Dir && !used[e.Path] && !shipped[e.Path] {
			continue
		}
		used[path.Dir(e.Path)] = true
	}
	next := kept[:0:0]
	for _, e := range kept {
		if e.Kind != tree.Dir || used[e.Path] || shipped[e.Path] {
			next = append(next, e)
		}
	}
	return next
}

// dropHeirless removes hard links whose file is not shipped.
func dropHeirless(kept []tree.Entry) []tree.Entry {
	files := map[string]bool{}
	for _, e := range kept {
		if e.Kind == tree.File {
			files[e.Path] = true
		}
	}
	next := kept[:0:0]
	for _, e := range kept {
		if e.Kind != tree.Hardlink || files[e.Link] {
			next = append(next, e)
		}
	}
	return next
}

// filterDatabase cuts the status file down to the shipped packages.
func (s *shipment) filterDatabase(kept []tree.Entry) ([]tree.Entry, error) {
	for i, e := range kept {
		if e.Path != statusPath {
			continue
		}
		status, err := readAll(e)
		if err != nil {
			return nil, err
		}
		status, err = deb.FilterStatus(status, func(name, arch string) bool {
			return s.keep[name] || s.keep[name+":"+arch]
		})
		if err != nil {
			return nil, err
		}
		kept[i] = inline(e, status)
	}
	return kept, nil
}

// resolver follows symbolic links inside a list of entries.
type resolver struct{ entries map[string]tree.Entry }

func newResolver(entries []tree.Entry) *resolver {
	r := &resolver{entries: make(map[string]tree.Entry, len(entries))}
	for _, e := range entries {
		r.entries[e.Path] = e
	}
	return r
}

// leads reports whether link e reaches something that exists.
func (r *resolver) leads(e tree.Entry) bool {
	_, ok := r.follow(e.Path)
	return ok
}

// maxLinks is how many links one path may go through: Linux's own limit (path_resolution(7)).
const maxLinks = 40

// follow resolves a path through links, inside the root only, and reports
// whether something is there. What does not exist is resolved as far as its parents do.
func (r *resolver) follow(p string) (string, bool) {
	links := 0
	todo := strings.Split(p, "/")
	var at string
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if at = path.Dir(at); at == "." {
				at = ""
			}
			continue
		}
		next := path.Join(at, name)
		e, ok := r.entries[next]
		if !ok || e.Kind != tree.Symlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return at, false
		}
		if strings.HasPrefix(e.Link, "/") {
			at = ""
		}
		todo = append(strings.Split(e.Link, "/"), todo...)
	}
	if at == "" {
		return at, true
	}
	_, ok := r.entries[at]
	return at, ok
}
