package tree

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"quorate.dev/lockfile/digest"
)

// Limits of one entry, all Linux's own: PATH_MAX, NAME_MAX, XATTR_NAME_MAX and XATTR_SIZE_MAX.
const (
	pathMax       = 4096
	nameMax       = 255
	xattrNameMax  = 255
	xattrValueMax = 64 << 10
)

// idMax is the largest owner that can be set; 2^32-1 stands for "no change".
const idMax = math.MaxUint32 - 1

// whiteoutPrefix begins the names that mean removal in a layer (OCI image-spec,
// layer.md), which no file of a tree can have.
const whiteoutPrefix = ".wh."

// emptyDigest is the sha256 of no bytes.
var emptyDigest = digest.Of(nil)

// Tree is a checked list of entries, sorted by path, each path once. It does not change.
type Tree struct {
	entries []Entry
}

// EntryError says which entry does not fit into a tree, and why.
type EntryError struct {
	Path   string
	Reason string
}

func (e *EntryError) Error() string { return fmt.Sprintf("%q %s", e.Path, e.Reason) }

// New checks entries, in any order, and makes a tree of them. What cannot vary
// is set: mode 0777 for symbolic links; the owner, mode, time and attributes of
// its file for a hard link; the digest of an empty file. Refused with an
// *EntryError: paths that are not clean, twice there or below something other
// than a directory, hard links to anything but a File that sorts before them,
// whiteouts, and values that Linux cannot hold.
func New(entries []Entry) (*Tree, error) {
	list := slices.Clone(entries)
	SortEntries(list)
	t := &Tree{entries: list}
	for i := range list {
		e := &list[i]
		if err := e.normalize(); err != nil {
			return nil, err
		}
		if e.Kind == Whiteout {
			return nil, &EntryError{e.Path, "is a whiteout, which only differences between trees hold"}
		}
		if i > 0 && list[i-1].Path == e.Path {
			return nil, &EntryError{e.Path, "is there twice"}
		}
		if err := t.place(i); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// SortEntries sorts by path, bytewise, keeping the order of equal ones.
func SortEntries(list []Entry) {
	slices.SortStableFunc(list, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
}

// place checks entry i against those before it.
func (t *Tree) place(i int) error {
	e := &t.entries[i]
	before := Tree{entries: t.entries[:i]}
	for p := path.Dir(e.Path); p != "."; p = path.Dir(p) {
		parent, ok := before.Lookup(p)
		if ok && parent.Kind != Dir {
			return &EntryError{e.Path, fmt.Sprintf("lies below %q, which is not a directory", p)}
		}
		if ok {
			break // its own parents were checked when it was placed
		}
	}
	if e.Kind != Hardlink {
		return nil
	}
	first, ok := before.Lookup(e.Link)
	if !ok || first.Kind != File {
		return &EntryError{e.Path, fmt.Sprintf("is a hard link to %q, which is no regular file that sorts before it", e.Link)}
	}
	e.Mode, e.UID, e.GID, e.ModTime, e.Xattrs = first.Mode, first.UID, first.GID, first.ModTime, first.Xattrs
	return nil
}

// normalize checks one entry by itself and sets what its kind decides.
func (e *Entry) normalize() error {
	if reason := badPath(e.Path); reason != "" {
		return &EntryError{e.Path, reason}
	}
	if e.Mode > 0o7777 {
		return &EntryError{e.Path, fmt.Sprintf("has mode %#o, above 07777", e.Mode)}
	}
	if e.UID < 0 || e.GID < 0 || int64(e.UID) > idMax || int64(e.GID) > idMax {
		return &EntryError{e.Path, fmt.Sprintf("has owner %d:%d, outside of 0 to %d", e.UID, e.GID, int64(idMax))}
	}
	for name, value := range e.Xattrs {
		if name == "" || len(name) > xattrNameMax || len(value) > xattrValueMax || strings.ContainsAny(name, "=\x00") {
			return &EntryError{e.Path, fmt.Sprintf("has the extended attribute %.64q of %d bytes, which cannot be held", name, len(value))}
		}
	}
	if len(e.Xattrs) == 0 {
		e.Xattrs = nil
	}
	return e.normalizeKind()
}

func (e *Entry) normalizeKind() error {
	if e.Kind != File && (e.Size != 0 || !e.Digest.IsZero() || e.Content != nil) {
		return &EntryError{e.Path, "has contents and is not a regular file"}
	}
	if e.Kind != Symlink && e.Kind != Hardlink && e.Link != "" {
		return &EntryError{e.Path, "has a link target and is not a link"}
	}
	switch e.Kind {
	case File:
		if e.Size == 0 && e.Digest.IsZero() {
			e.Digest = emptyDigest
		}
		if e.Size < 0 || e.Digest.IsZero() || (e.Size == 0) != (e.Digest == emptyDigest) {
			return &EntryError{e.Path, fmt.Sprintf("has %d bytes and digest %q, which cannot be", e.Size, e.Digest)}
		}
	case Symlink:
		if e.Link == "" || len(e.Link) > pathMax || strings.ContainsRune(e.Link, 0) {
			return &EntryError{e.Path, fmt.Sprintf("is a symbolic link to %.64q, which cannot be", e.Link)}
		}
		e.Mode = 0o777
	case Hardlink:
		if reason := badPath(e.Link); reason != "" {
			return &EntryError{e.Path, fmt.Sprintf("is a hard link to %.64q, which %s", e.Link, reason)}
		}
	case Dir, Fifo:
	case Whiteout:
		*e = Entry{Path: e.Path, Kind: Whiteout}
	default:
		return &EntryError{e.Path, fmt.Sprintf("is of unknown kind %q", e.Kind)}
	}
	return nil
}

// badPath says why p is no path of a tree, or "".
func badPath(p string) string {
	switch {
	case p == "" || p == ".":
		return "is empty or the root itself"
	case p[0] == '/':
		return "is absolute"
	case path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../"):
		return "is not clean"
	case len(p) > pathMax:
		return fmt.Sprintf("has %d bytes; at most %d are possible", len(p), pathMax)
	case strings.ContainsRune(p, 0):
		return "has a NUL byte"
	}
	for part := range strings.SplitSeq(p, "/") {
		if len(part) > nameMax {
			return fmt.Sprintf("has a part of %d bytes; at most %d are possible", len(part), nameMax)
		}
		if strings.HasPrefix(part, whiteoutPrefix) {
			return `has a part that begins with ".wh.", which means removal in an image`
		}
	}
	return ""
}

// Entries returns the entries, sorted by path. The slice is the caller's; the
// maps of attributes are shared and are not to be changed.
func (t *Tree) Entries() []Entry { return slices.Clone(t.entries) }

// Len returns the number of entries.
func (t *Tree) Len() int { return len(t.entries) }

// Lookup returns the entry of a path.
func (t *Tree) Lookup(p string) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(t.entries, p, func(e Entry, p string) int { return strings.Compare(e.Path, p) })
	if !ok {
		return Entry{}, false
	}
	return t.entries[i], true
}

// At returns the tree with its times set by the rule of layers: directories to
// the epoch, all else to its own time or the epoch, whichever is earlier.
func (t *Tree) At(epoch int64) *Tree {
	list := slices.Clone(t.entries)
	for i := range list {
		list[i].ModTime = list[i].TimeAt(epoch)
	}
	return &Tree{entries: list}
}

// TimeAt returns the time that an entry has in a layer. Directories shared by
// packages would otherwise carry the time of whichever was unpacked last.
func (e *Entry) TimeAt(epoch int64) int64 {
	if e.Kind == Dir || e.Kind == Whiteout {
		return epoch
	}
	return min(e.ModTime, epoch)
}

// Same reports whether two entries stand for the same thing; how their
// contents are opened does not matter.
func (e *Entry) Same(o *Entry) bool {
	return e.Path == o.Path && e.Kind == o.Kind && e.Mode == o.Mode && e.UID == o.UID && e.GID == o.GID &&
		e.ModTime == o.ModTime && e.Size == o.Size && e.Digest == o.Digest && e.Link == o.Link && maps.Equal(e.Xattrs, o.Xattrs)
}

// LinkTo returns the entry of a file as a hard link to first, with the file's
// owner, mode, time and attributes: some unpackers set them again for each name.
func (e Entry) LinkTo(first string) Entry {
	e.Kind, e.Link = Hardlink, first
	e.Size, e.Digest, e.Content = 0, digest.Digest{}, nil
	return e
}

// WithParents returns the entries with every missing parent added as a
// directory of mode 0755, owner 0:0 and time 0, sorted by path. Whiteouts get
// parents too.
func WithParents(entries []Entry) []Entry {
	have := make(map[string]bool, len(entries))
	for i := range entries {
		have[entries[i].Path] = true
	}
	list := slices.Clone(entries)
	for i := range entries {
		for p := path.Dir(entries[i].Path); p != "." && p != "/" && !have[p]; p = path.Dir(p) {
			have[p] = true
			list = append(list, Entry{Path: p, Kind: Dir, Mode: 0o755})
		}
	}
	SortEntries(list)
	return list
}

// NewFile returns a File with bytes in memory.
func NewFile(p string, mode uint32, modTime int64, data []byte) Entry {
	e := Entry{Path: p, Kind: File, Mode: mode, ModTime: modTime, Size: int64(len(data)), Digest: digest.Of(data)}
	if len(data) > 0 {
		e.Content = Bytes(data)
	}
	return e
}

// errNoContent is for entries that say they have bytes and bring no way to open them.
var errNoContent = errors.New("no content to open")
