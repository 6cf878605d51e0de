// Package local reads a tree of files beside the definition: what is in it,
// by which digest, and as an archive that a build can take as its input.
//
// # What counts
//
// Two checkouts of one git commit must give the same tree, whoever made them,
// with whatever umask, on whatever file system. So what git records counts and
// nothing else:
//
//   - regular files: their bytes, and whether their owner may execute them
//     (mode 0755 or 0644);
//   - symlinks: their target as it is written. They are never followed, so
//     a target that is absolute or leads out of the tree is only data here;
//   - directories that hold any of these (mode 0755). Empty ones are left out,
//     since git has none.
//
// Times, owners, other permission bits, hard links and extended attributes do
// not count. Names are UTF-8 without NUL. A socket, a device or a named pipe
// is an error, unless it is ignored. What is called ".git" is left out at any
// depth, and so is what a .quorateignore file says (see ignore.go for its syntax)
// and Options.Exclude names. A .quorateignore file itself is part of the tree.
//
// # Tree digest
//
// The digest of a tree is the sha256 of this text: the line "quorate-tree 1",
// and then for each entry, sorted by path bytewise, one of
//
//	d 0755 PATH NUL
//	f MODE SIZE sha256:HEX PATH NUL
//	l PATH NUL TARGET NUL
//
// where NUL is a zero byte, MODE is 0644 or 0755, SIZE is decimal, and fields
// before PATH are separated by one space.
//
// # Archive
//
// The archive is an uncompressed tar: the entries in the same order with owner
// 0:0, no names of owners, and time 0; ustar headers, pax where ustar cannot hold a
// name. Equal trees have equal archives.
//
//	t, err := local.Scan("app", local.Options{}) // is the input as it was?
//	t, err := local.Pack("app", w, local.Options{}) // the same, and its archive into w
package local

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"quorate.dev/lockfile/digest"
)

// Limits of a tree, which catch the folder that was never meant: a home
// directory, a disk. The largest source trees people build (Chromium, 400,000
// files) are within them. See Options to lower them.
const (
	MaxFiles = 1_000_000
	MaxBytes = 16 << 30

	maxPath = 4096 // PATH_MAX of Linux; a longer path could not be unpacked
)

// Kind says what an entry is.
type Kind byte

// The kinds of entries.
const (
	File    Kind = 'f'
	Dir     Kind = 'd'
	Symlink Kind = 'l'
)

// Entry is one path of a tree.
type Entry struct {
	Path   string        // relative, slash-separated
	Kind   Kind          //
	Mode   uint32        // 0644 or 0755; 0777 for a Symlink
	Size   int64         // of a File, in bytes
	Digest digest.Digest // of a File
	Link   string        // target of a Symlink

	info fs.FileInfo // as it was listed
}

// Tree is what a folder held.
type Tree struct {
	Entries []Entry // sorted by Path, bytewise; the root is not listed
	Digest  digest.Digest
	Size    int64 // bytes of all files

	root string
}

// Options says what to leave out.
type Options struct {
	Exclude  []string // paths relative to the root, slash-separated: a build's own output, for instance
	MaxFiles int      // entries, default MaxFiles
	MaxBytes int64    // bytes of all files, default MaxBytes
}

// ChangedError says that a file changed while the tree was being read.
type ChangedError struct {
	Root, Path string
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("file %q in %q changed while it was read; build again when nothing writes there", e.Path, e.Root)
}

// Scan reads the tree under root, all of it: hashing 10 MB takes 10 ms, and a
// cache by time and size would miss edits within one tick of the clock.
func Scan(root string, o Options) (*Tree, error) {
	t, dir, err := list(root, o)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	errs := make([]error, len(t.Entries))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range t.Entries {
		if e := &t.Entries[i]; e.Kind == File {
			g.Go(func() error {
				h := digest.NewHash()
				errs[i] = t.copyFile(h, dir, e)
				e.Digest = digest.Sum(h)
				return nil
			})
		}
	}
	_ = g.Wait()
	for _, err := range errs { // the first by path, so that messages are stable
		if err != nil {
			return nil, err
		}
	}
	t.Digest = digest.Of(t.Text())
	return t, nil
}

// Text returns the text whose sha256 is the tree's digest.
func (t *Tree) Text() []byte {
	var b bytes.Buffer
	b.WriteString("quorate-tree 1\n")
	for _, e := range t.Entries {
		switch e.Kind {
		case Dir:
			fmt.Fprintf(&b, "d %04o %s\x00", e.Mode, e.Path)
		case File:
			fmt.Fprintf(&b, "f %04o %d %s %s\x00", e.Mode, e.Size, e.Digest, e.Path)
		case Symlink:
			fmt.Fprintf(&b, "l %s\x00%s\x00", e.Path, e.Link)
		}
	}
	return b.Bytes()
}

// list finds all entries; files have no digest yet. The caller closes dir.
func list(root string, o Options) (t *Tree, dir *os.Root, err error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read local tree %q: %w", root, err)
	}
	if dir, err = os.OpenRoot(abs); err != nil {
		return nil, nil, fmt.Errorf("cannot read local tree %q: %w", root, err)
	}
	w := &walk{dir: dir, t: &Tree{root: root}, exclude: map[string]bool{}, maxFiles: MaxFiles, maxBytes: MaxBytes}
	if o.MaxFiles > 0 {
		w.maxFiles = o.MaxFiles
	}
	if o.MaxBytes > 0 {
		w.maxBytes = o.MaxBytes
	}
	for _, p := range o.Exclude {
		w.exclude[path.Clean(p)] = true
	}
	if err := w.folder(".", nil); err != nil {
		dir.Close()
		return nil, nil, fmt.Errorf("cannot read local tree %q: %w", root, err)
	}
	slices.SortFunc(w.t.Entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return w.t, dir, nil
}

type walk struct {
	dir      *os.Root
	t        *Tree
	exclude  map[string]bool
	maxFiles int
	maxBytes int64
}

// folder adds what is in one folder. rules are those of the folders above.
func (w *walk) folder(name string, rules []ruleFile) error {
	f, err := w.dir.Open(name)
	if err != nil {
		return err
	}
	names, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		return err
	}
	if rules, err = w.withIgnore(name, rules); err != nil {
		return err
	}
	for _, d := range names {
		p := path.Join(name, d.Name())
		if d.Name() == ".git" || w.exclude[p] {
			continue
		}
		if !ignored(rules, p, d.IsDir()) {
			if err := w.entry(p, rules); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry adds one path, and for a folder what is in it.
func (w *walk) entry(p string, rules []ruleFile) error {
	switch {
	case !utf8.ValidString(p):
		return fmt.Errorf("name %q is not UTF-8", p)
	case len(p) > maxPath:
		return fmt.Errorf("path %q… is longer than %d bytes", p[:60], maxPath)
	}
	fi, err := w.dir.Lstat(p)
	if err != nil {
		return err
	}
	e := Entry{Path: p, info: fi}
	switch fi.Mode().Type() {
	case 0:
		e.Kind, e.Mode, e.Size = File, 0o644, fi.Size()
		if fi.Mode()&0o100 != 0 {
			e.Mode = 0o755
		}
	case fs.ModeSymlink:
		e.Kind, e.Mode = Symlink, 0o777
		if e.Link, err = w.dir.Readlink(p); err == nil && (e.Link == "" || !utf8.ValidString(e.Link)) {
			err = fmt.Errorf("symlink %q has target %q, which is not UTF-8", p, e.Link)
		}
	case fs.ModeDir:
		return w.nonEmpty(p, e, rules)
	default:
		err = fmt.Errorf("%q is a %s; only files, folders and symlinks can be an input (name it in %s to leave it out)", p, special(fi.Mode()), IgnoreName)
	}
	if err != nil {
		return err
	}
	return w.add(e)
}

// nonEmpty adds a folder after what is in it, if there is anything.
func (w *walk) nonEmpty(p string, e Entry, rules []ruleFile) error {
	before := len(w.t.Entries)
	if err := w.folder(p, rules); err != nil || len(w.t.Entries) == before {
		return err
	}
	e.Kind, e.Mode = Dir, 0o755
	return w.add(e)
}

func (w *walk) add(e Entry) error {
	w.t.Entries = append(w.t.Entries, e)
	w.t.Size += e.Size
	if len(w.t.Entries) > w.maxFiles {
		return fmt.Errorf("it has more than %d files; name what is not needed in %s", w.maxFiles, IgnoreName)
	}
	if w.t.Size > w.maxBytes {
		return fmt.Errorf("its files have more than %d bytes; name what is not needed in %s", w.maxBytes, IgnoreName)
	}
	return nil
}

// withIgnore adds the rules of a folder's own ignore file.
func (w *walk) withIgnore(name string, rules []ruleFile) ([]ruleFile, error) {
	p := path.Join(name, IgnoreName)
	fi, err := w.dir.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return rules, nil
	}
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxIgnore {
		return nil, fmt.Errorf("%q is not a regular file of at most %d bytes", p, maxIgnore)
	}
	b, err := w.dir.ReadFile(p)
	if err != nil {
		return nil, err
	}
	// A new slice each time: folders side by side share what is above them.
	return append(slices.Clip(rules), ruleFile{dir: name, rules: parseIgnore(b)}), nil
}

func special(m fs.FileMode) string {
	switch {
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}
