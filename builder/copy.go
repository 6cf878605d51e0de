package builder

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

const statusPath = "var/lib/dpkg/status"

var emptyDigest = digest.Of(nil)

// copiedFile brings one locked file: to the path itself, or into the folder
// when To ends in a slash, under the name that the URL ends in.
func (b *build) copiedFile(c definition.Copy, in *input) ([]tree.Entry, error) {
	to := strings.TrimPrefix(c.To, "/")
	if strings.HasSuffix(c.To, "/") {
		to += path.Base(in.file.URL)
	}
	p, ok := b.Store.Path(in.file.SHA256)
	if !ok {
		return nil, &MissingError{Name: in.file.Name, Digest: in.file.SHA256}
	}
	uid, gid, err := owner(c.Owner)
	if err != nil {
		return nil, err
	}
	mode := c.Mode
	if mode == 0 {
		mode = 0o644
	}
	return []tree.Entry{{
		Path: path.Clean(to), Kind: tree.File, Mode: mode, UID: uid, GID: gid, ModTime: b.epoch,
		Size: in.file.Size, Digest: in.file.SHA256,
		Content: tree.Section{File: p, Offset: 0, Size: in.file.Size},
	}}, nil
}

// copiedTree brings a part of a tree. A folder's contents go to To, as with
// `cp -a PATH/. TO`; a file goes to To itself, or into it when To ends in a slash.
func copiedTree(c definition.Copy, t *tree.Tree, epoch int64) ([]tree.Entry, error) {
	from := strings.Trim(path.Clean(c.Path), "/")
	to := strings.Trim(path.Clean(c.To), "/")
	uid, gid, err := owner(c.Owner)
	if err != nil {
		return nil, err
	}
	single := false
	if from != "" {
		e, ok := t.Lookup(from)
		if !ok {
			return nil, &CopyError{From: c.From, Path: c.Path, Has: topLevel(t)}
		}
		single = e.Kind != tree.Dir
	}
	if single && strings.HasSuffix(c.To, "/") {
		to = path.Join(to, path.Base(from))
	}
	move := func(p string) (string, bool) {
		rest, inside := cutPath(p, from)
		if !inside {
			return "", false
		}
		return path.Join(to, rest), true
	}
	var out []tree.Entry
	for _, e := range t.Entries() {
		p, ok := move(e.Path)
		if !ok || p == "" || p == "." {
			continue
		}
		if e, err = moved(t, e, p, move); err != nil {
			return nil, err
		}
		if c.Owner != "" {
			e.UID, e.GID = uid, gid
		}
		if c.Mode != 0 && e.Kind == tree.File {
			e.Mode = c.Mode
		}
		e.ModTime = epoch
		out = append(out, e)
	}
	return out, nil
}

// moved gives an entry its new path; a hard link whose file stays behind becomes the file.
func moved(t *tree.Tree, e tree.Entry, p string, move func(string) (string, bool)) (tree.Entry, error) {
	if e.Kind == tree.Hardlink {
		if link, ok := move(e.Link); ok && link < p {
			e.Link = link
		} else if first, ok := t.Lookup(e.Link); ok {
			e = first
		} else {
			return e, fmt.Errorf("hard link %q names %q, which is not there", e.Path, e.Link)
		}
	}
	e.Path = p
	return e, nil
}

// CopyError says that a copy names a path that its source does not have.
type CopyError struct {
	From, Path string
	Has        []string // what is there at the top
}

func (e *CopyError) Error() string {
	has := "nothing"
	if len(e.Has) > 0 {
		has = strings.Join(e.Has, ", ")
	}
	return fmt.Sprintf("cannot copy %q from %q: it is not there; %q holds %s", e.Path, e.From, e.From, has)
}

// topLevel lists the first few names of a tree, two levels deep.
func topLevel(t *tree.Tree) []string {
	var names []string
	for _, e := range t.Entries() {
		if strings.Count(e.Path, "/") < 2 && len(names) < 12 {
			names = append(names, "/"+e.Path)
		}
	}
	return names
}

func cutPath(p, dir string) (rest string, inside bool) {
	if dir == "" || p == dir {
		return strings.TrimPrefix(p, dir), true
	}
	return strings.CutPrefix(p, dir+"/")
}

// owner reads "UID:GID", which the definition's parser has checked.
func owner(s string) (uid, gid int, err error) {
	if s == "" {
		return 0, 0, nil
	}
	u, g, _ := strings.Cut(s, ":")
	if uid, err = strconv.Atoi(u); err != nil {
		return 0, 0, fmt.Errorf("owner %q is not UID:GID", s)
	}
	if gid, err = strconv.Atoi(g); err != nil {
		return 0, 0, fmt.Errorf("owner %q is not UID:GID", s)
	}
	return uid, gid, nil
}

// place lays entries over a tree as a copy does: paths go through the tree's
// links, so that a file for /bin lands in /usr/bin; folders that exist keep
// their mode and owner.
func place(base []tree.Entry, over []tree.Entry) []tree.Entry {
	r := newResolver(base)
	index := make(map[string]int, len(base))
	for i, e := range base {
		index[e.Path] = i
	}
	out := append(make([]tree.Entry, 0, len(base)+len(over)), base...)
	replaced := map[string]bool{}
	for _, e := range over {
		dir, _ := r.follow(path.Dir(e.Path))
		if at := path.Join(dir, path.Base(e.Path)); at != e.Path { // else the name is held twice
			e.Path = at
		}
		if e.Kind == tree.Dir {
			if at, ok := r.follow(e.Path); ok && r.entries[at].Kind == tree.Dir {
				continue
			}
		}
		if e.Kind == tree.Hardlink {
			dir, _ := r.follow(path.Dir(e.Link))
			e.Link = path.Join(dir, path.Base(e.Link))
		}
		if i, ok := index[e.Path]; ok {
			if out[i].Kind == tree.Dir {
				replaced[e.Path] = true
			}
			out[i] = e
		} else {
			index[e.Path] = len(out)
			out = append(out, e)
		}
		r.entries[e.Path] = e
	}
	if len(replaced) == 0 {
		return out
	}
	kept := out[:0]
	for _, e := range out {
		if parent := path.Dir(e.Path); parent == "." || !hidden(parent, replaced) {
			kept = append(kept, e)
		}
	}
	return kept
}

// inline replaces an entry's bytes by ones in memory.
func inline(e tree.Entry, b []byte) tree.Entry {
	e.Kind, e.Link = tree.File, ""
	e.Size, e.Digest, e.Content = int64(len(b)), digest.Of(b), tree.Bytes(b)
	return e
}

// maxInline bounds files of a root that are edited in memory: passwd, group, status.
const maxInline = 64 << 20

func readAll(e tree.Entry) ([]byte, error) {
	if e.Size > maxInline {
		return nil, fmt.Errorf("%q has %d bytes; more than %d cannot be right", e.Path, e.Size, maxInline)
	}
	if e.Size == 0 {
		return nil, nil
	}
	r, err := tree.Open(e)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var buf bytes.Buffer
	_, err = io.Copy(&buf, r)
	return buf.Bytes(), err
}
