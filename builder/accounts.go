package builder

import (
	"fmt"
	"path"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/definition"
)

// AccountError says that the definition asks for an account that the image's packages already have otherwise.
type AccountError struct {
	File, Line, Name string
}

func (e *AccountError) Error() string {
	return fmt.Sprintf("cannot add account %q: /%s already has the line %q", e.Name, e.File, e.Line)
}

// addAccounts writes the definition's users and groups, and root and nobody
// where no package did. The shadow files are only extended, never made: without
// one there are no passwords at all.
func addAccounts(entries []tree.Entry, a definition.Accounts, epoch int64) ([]tree.Entry, error) {
	r := newResolver(entries)
	passwd, group, shadow, gshadow := newLines("etc/passwd"), newLines("etc/group"), newLines("etc/shadow"), newLines("etc/gshadow")
	for _, f := range []*lines{passwd, group, shadow, gshadow} {
		if err := f.read(r); err != nil {
			return nil, err
		}
	}
	if !passwd.exists {
		passwd.text = "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	}
	if !group.exists {
		group.text = "root:x:0:\nnogroup:x:65534:\n"
	}
	var homes []tree.Entry
	for _, g := range allGroups(a, group) {
		if err := group.add(g.Name, g.GID, fmt.Sprintf("%s:x:%d:%s", g.Name, g.GID, strings.Join(g.Members, ","))); err != nil {
			return nil, err
		}
		if gshadow.exists {
			gshadow.text += fmt.Sprintf("%s:!::%s\n", g.Name, strings.Join(g.Members, ","))
		}
	}
	for _, u := range a.Users {
		if err := passwd.add(u.Name, u.UID, fmt.Sprintf("%s:x:%d:%d::%s:%s", u.Name, u.UID, u.GID, u.Home, u.Shell)); err != nil {
			return nil, err
		}
		if shadow.exists {
			shadow.text += fmt.Sprintf("%s:!:%d::::::\n", u.Name, epoch/86400)
		}
		if u.Home != "/nonexistent" && u.Home != "/" {
			homes = append(homes, tree.Entry{Path: strings.Trim(path.Clean(u.Home), "/"), Kind: tree.Dir, Mode: 0o755, UID: u.UID, GID: u.GID, ModTime: epoch})
		}
	}
	var changed []tree.Entry
	for _, f := range []*lines{passwd, group, shadow, gshadow} {
		if e, ok := f.changed(epoch); ok {
			changed = append(changed, e)
		}
	}
	return place(entries, append(changed, homes...)), nil
}

// allGroups returns the declared groups, and one of the same name for each
// user whose group nobody declared and no package made.
func allGroups(a definition.Accounts, have *lines) []definition.Group {
	groups := append([]definition.Group(nil), a.Groups...)
	known := map[int]bool{}
	for _, g := range groups {
		known[g.GID] = true
	}
	for _, u := range a.Users {
		if known[u.GID] || have.hasID(u.GID) {
			continue
		}
		known[u.GID] = true
		groups = append(groups, definition.Group{Name: u.Name, GID: u.GID})
	}
	return groups
}

// lines is one account file while it is edited.
type lines struct {
	entry  tree.Entry
	exists bool
	before string
	text   string
}

func newLines(p string) *lines {
	return &lines{entry: tree.Entry{Path: p, Kind: tree.File, Mode: 0o644}}
}

func (l *lines) read(r *resolver) error {
	e, ok := r.entries[l.entry.Path]
	if !ok || e.Kind != tree.File {
		return nil
	}
	b, err := readAll(e)
	if err != nil {
		return err
	}
	l.entry, l.exists, l.before, l.text = e, true, string(b), string(b)
	return nil
}

// add appends a line unless the very same account is there; another account of
// that name or number is an error.
func (l *lines) add(name string, id int, line string) error {
	for have := range strings.Lines(l.text) {
		have = strings.TrimSuffix(have, "\n")
		f := strings.Split(have, ":")
		if len(f) < 3 || f[0] != name && f[2] != fmt.Sprint(id) {
			continue
		}
		if f[0] == name && f[2] == fmt.Sprint(id) {
			return nil
		}
		return &AccountError{File: l.entry.Path, Line: have, Name: name}
	}
	l.text += line + "\n"
	return nil
}

func (l *lines) hasID(id int) bool {
	for have := range strings.Lines(l.text) {
		if f := strings.Split(have, ":"); len(f) > 2 && f[2] == fmt.Sprint(id) {
			return true
		}
	}
	return false
}

func (l *lines) changed(epoch int64) (tree.Entry, bool) {
	if l.text == l.before {
		return tree.Entry{}, false
	}
	e := inline(l.entry, []byte(l.text))
	e.ModTime = epoch
	return e, true
}
