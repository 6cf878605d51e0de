package archive

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"quorate.dev/builder/tree"
)

// members collects entries and refuses those that do not go together.
type members struct {
	limits  Limits
	entries []Entry
	seen    map[string]int  // path → index in entries
	implied map[string]bool // folders that are no members, and have some
	listing int64           // bytes of what is listed
	aliases bool            // keep a directory again for each further name it has
}

func newMembers(l Limits) *members {
	return &members{limits: l, seen: make(map[string]int, 1024), implied: map[string]bool{}}
}

// add takes e unless it conflicts with an earlier member.
func (m *members) add(e Entry) error {
	if len(m.entries)+len(m.implied) >= m.limits.Entries {
		return m.tooMany()
	}
	m.listing += int64(len(e.Name) + len(e.Link))
	for k, v := range e.Xattrs {
		m.listing += int64(len(k) + len(v))
	}
	if m.listing > m.limits.Listing {
		return &LimitError{"bytes of names, links and attributes", m.limits.Listing}
	}
	if i, ok := m.seen[e.Path]; ok {
		if err := m.again(m.entries[i], e); err != nil || !m.aliases || m.entries[i].Name == e.Name {
			return err
		}
		m.entries = append(m.entries, e)
		return nil
	}
	if err := m.checkParents(e); err != nil {
		return err
	}
	if e.Kind == tree.Hardlink {
		i, ok := m.seen[e.Link]
		if !ok {
			return &MemberError{e.Name, fmt.Sprintf("is a hard link to %q, which does not come before it", e.Link)}
		}
		if k := m.entries[i].Kind; k != tree.File && k != tree.Hardlink {
			return &MemberError{e.Name, fmt.Sprintf("is a hard link to %q, which is not a regular file", e.Link)}
		}
	}
	if m.implied[e.Path] {
		if e.Kind != tree.Dir {
			return &MemberError{e.Name, "is not a directory, and members before it lie below it"}
		}
		delete(m.implied, e.Path)
	}
	m.seen[e.Path] = len(m.entries)
	m.entries = append(m.entries, e)
	return nil
}

func (m *members) tooMany() error { return &LimitError{"entries", int64(m.limits.Entries)} }

// again allows a directory twice. Under two names (./bin and ./usr/bin) the
// first one's mode stands, as when dpkg finds a directory that is there already.
func (m *members) again(first, second Entry) error {
	if first.Kind != tree.Dir || second.Kind != tree.Dir {
		return &MemberError{second.Name, fmt.Sprintf("is there twice (first as %q)", first.Name)}
	}
	same := first.Mode == second.Mode && first.UID == second.UID && first.GID == second.GID
	if !same && first.Name == second.Name {
		return &MemberError{second.Name, "is a directory that is there twice, with different mode or owner"}
	}
	return nil
}

// checkParents refuses members below something that is not a directory. An
// unpacker that follows links would write them elsewhere. Folders that are no
// members are counted: one name of 4 KiB can be of 2,000.
func (m *members) checkParents(e Entry) error {
	for p := path.Dir(e.Path); p != "."; p = path.Dir(p) {
		i, ok := m.seen[p]
		if !ok {
			if m.implied[p] {
				return nil // so are those above, or they were checked
			}
			m.implied[p] = true
			if len(m.entries)+len(m.implied) > m.limits.Entries {
				return m.tooMany()
			}
			continue
		}
		switch m.entries[i].Kind {
		case tree.Dir:
			// Its own parents were checked when it came.
			return nil
		case tree.Symlink:
			return &MemberError{e.Name, fmt.Sprintf("lies below %q, which is a symbolic link to %q", m.entries[i].Name, m.entries[i].Link)}
		default:
			return &MemberError{e.Name, fmt.Sprintf("lies below %q, which is not a directory", m.entries[i].Name)}
		}
	}
	return nil
}

// checkTarget refuses targets of symbolic links that no file system could
// hold. Where they point is not our matter: nothing here follows them.
func (m *members) checkTarget(e Entry) error {
	switch {
	case e.Link == "":
		return &MemberError{e.Name, "is a symbolic link to nothing"}
	case len(e.Link) > m.limits.Name:
		return &MemberError{e.Name, fmt.Sprintf("is a symbolic link with a target of %d bytes; at most %d are accepted", len(e.Link), m.limits.Name)}
	case strings.ContainsRune(e.Link, 0):
		return &MemberError{e.Name, "is a symbolic link with a NUL byte in its target"}
	}
	return nil
}

// relink makes the first path of each file, bytewise, its File and the others
// hard links to that one, as trees want it: an archive may have written any of
// them first, and links to links.
func relink(entries []Entry) {
	files := map[string]int{}   // path → index of the file that it names
	names := map[int][]int{}    // index of the file → indexes of its hard links
	for i, e := range entries { // links come behind what they name
		switch e.Kind {
		case tree.File:
			files[e.Path] = i
		case tree.Hardlink:
			f := files[e.Link]
			files[e.Path] = f
			names[f] = append(names[f], i)
		}
	}
	for f, links := range names {
		file, first := entries[f], f
		for _, i := range links {
			if entries[i].Path < entries[first].Path {
				first = i
			}
		}
		for _, i := range append(links, f) {
			e := file
			e.Path, e.Name = entries[i].Path, entries[i].Name
			if i != first {
				e.Entry, e.Offset = e.LinkTo(entries[first].Path), 0
			}
			entries[i] = e
		}
	}
}

// CleanName turns the name of a member into a path: "./" before and "/" behind
// are removed, repeated slashes and "." joined. Names that leave the root,
// absolute names and names with NUL are refused.
func CleanName(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("has no name")
	case name[0] == '/':
		return "", errors.New("has an absolute name")
	case strings.ContainsRune(name, 0):
		return "", errors.New("has a NUL byte in its name")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", errors.New(`has ".." in its name`)
		}
		if len(part) > 255 { // NAME_MAX of Linux
			return "", errors.New("has a part longer than 255 bytes in its name")
		}
	}
	if p := path.Clean(name); p != "." {
		return p, nil
	}
	return "", nil
}

// clip shortens a name for an error.
func clip(name string) string {
	if len(name) <= 64 {
		return name
	}
	return name[:64] + "…"
}
