package git

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // git's own ids; the lock's sha256 is what protects
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"quorate.dev/lockfile/source/local"
)

// Limits of what is read into memory.
const (
	maxCommit = 1 << 20  // a commit or tag with its message and signature
	maxFolder = 64 << 20 // one folder's list: 1,000,000 names of 64 bytes
	maxLink   = 4096     // PATH_MAX of Linux
	maxDepth  = 200      // folders in each other; PATH_MAX allows 2,000 of one letter, nobody has 50
)

// objects reads raw objects through one `git cat-file --batch`, and hashes
// each to see that it is the one asked for.
type objects struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	said bytes.Buffer
}

func (r *repository) objects(ctx context.Context) (*objects, error) {
	o := &objects{cmd: r.command(ctx, "cat-file", "--batch")}
	in, err := o.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	o.in, o.out, o.cmd.Stderr = in, bufio.NewReaderSize(out, 256<<10), &o.said
	if err := o.cmd.Start(); err != nil {
		return nil, &NoGitError{err}
	}
	return o, nil
}

func (o *objects) close() {
	_ = o.in.Close()
	_, _ = io.Copy(io.Discard, o.out)
	_ = o.cmd.Wait()
}

// DamagedError says that an object is not what its id promises.
type DamagedError struct{ ID, Why string }

func (e *DamagedError) Error() string { return fmt.Sprintf("git object %s %s", e.ID, e.Why) }

// begin asks for an object and reads the line that comes before its bytes.
func (o *objects) begin(id string) (kind string, size int64, err error) {
	if !isObjectID(id) {
		return "", 0, fmt.Errorf("%q is no id of a git object", id)
	}
	if _, err := io.WriteString(o.in, id+"\n"); err != nil {
		return "", 0, o.broken(err)
	}
	line, err := o.out.ReadString('\n')
	if err != nil {
		return "", 0, o.broken(err)
	}
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != id {
		return "", 0, &DamagedError{id, "is missing"}
	}
	size, err = strconv.ParseInt(f[2], 10, 64)
	if err != nil || size < 0 {
		return "", 0, &DamagedError{id, "has no size"}
	}
	return f[1], size, nil
}

func (o *objects) broken(err error) error {
	return fmt.Errorf("git stopped giving objects: %w", errors.Join(err, errors.New(lastWords(o.said.String()))))
}

// copy writes the bytes of an object that begin announced, and checks its id.
func (o *objects) copy(w io.Writer, id, kind string, size int64) error {
	var h hash.Hash = sha1.New() //nolint:gosec // see the import
	if len(id) == 64 {
		h = sha256.New()
	}
	fmt.Fprintf(h, "%s %d\x00", kind, size)
	if _, err := io.CopyN(io.MultiWriter(w, h), o.out, size); err != nil {
		return err
	}
	if end, err := o.out.ReadByte(); err != nil || end != '\n' {
		return o.broken(io.ErrUnexpectedEOF)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != id {
		return &DamagedError{id, "has bytes of id " + got + "; the repository is damaged, or git is not to be trusted"}
	}
	return nil
}

// read returns an object of at most limit bytes.
func (o *objects) read(id string, limit int64) (kind string, b []byte, err error) {
	kind, size, err := o.begin(id)
	if err != nil {
		return "", nil, err
	}
	if size > limit {
		return "", nil, &DamagedError{id, fmt.Sprintf("has %d bytes; at most %d are read", size, limit)}
	}
	var buf bytes.Buffer
	buf.Grow(int(size))
	err = o.copy(&buf, id, kind, size)
	return kind, buf.Bytes(), err
}

// commit is what a commit object says.
type commit struct {
	tree string
	time time.Time // of the committer, whole seconds, UTC
	raw  []byte
}

// parseCommit reads the part of a commit object that we need (gitformat of
// "git cat-file commit"): its tree and when it was committed.
func parseCommit(raw []byte) (*commit, error) {
	c := &commit{raw: raw}
	head, _, _ := bytes.Cut(raw, []byte("\n\n"))
	for line := range bytes.SplitSeq(head, []byte("\n")) {
		if v, ok := bytes.CutPrefix(line, []byte("tree ")); ok && c.tree == "" {
			c.tree = string(v)
		}
		if v, ok := bytes.CutPrefix(line, []byte("committer ")); ok && c.time.IsZero() {
			f := strings.Fields(string(v[bytes.LastIndexByte(v, '>')+1:]))
			if len(f) != 2 {
				return nil, errors.New("has no time of its committer")
			}
			seconds, err := strconv.ParseInt(f[0], 10, 64)
			if err != nil {
				return nil, errors.New("has no time of its committer")
			}
			c.time = time.Unix(seconds, 0).UTC()
		}
	}
	if !isObjectID(c.tree) || c.time.IsZero() {
		return nil, errors.New("is no commit that can be read")
	}
	return c, nil
}

// CommitTime returns when a commit was committed, given the bytes of its object.
func CommitTime(raw []byte) (time.Time, error) {
	c, err := parseCommit(raw)
	if err != nil {
		return time.Time{}, err
	}
	return c.time, nil
}

// commit reads a commit.
func (o *objects) commit(id string) (*commit, error) {
	kind, raw, err := o.read(id, maxCommit)
	if err != nil {
		return nil, err
	}
	if kind != "commit" {
		return nil, &DamagedError{id, "is a " + kind + ", not a commit"}
	}
	c, err := parseCommit(raw)
	if err != nil {
		return nil, &DamagedError{id, err.Error()}
	}
	return c, nil
}

// file is one path of a tree.
type file struct {
	local.Entry
	id     string
	module bool // id is a commit, of a submodule
}

// ContentError says that a tree holds what cannot be locked.
type ContentError struct {
	Path, Reason string
}

func (e *ContentError) Error() string { return fmt.Sprintf("%q %s", e.Path, e.Reason) }

// list reads a tree and all below it.
func (o *objects) list(id, dir string, depth int, all *[]file) error {
	if depth > maxDepth {
		return &ContentError{dir, fmt.Sprintf("lies below more than %d folders", maxDepth)}
	}
	kind, body, err := o.read(id, maxFolder)
	if err != nil {
		return err
	}
	if kind != "tree" {
		return &DamagedError{id, "is a " + kind + " where a tree should be"}
	}
	entries, err := parseTree(body, len(id)/2)
	if err != nil {
		return &DamagedError{id, err.Error()}
	}
	for _, e := range entries {
		name := path.Join(dir, e.name)
		if err := checkName(name, e.name); err != nil {
			return err
		}
		f := file{Entry: local.Entry{Path: name}, id: e.id}
		switch e.mode {
		case "100644", "100664": // the second was written by early versions of git
			f.Kind, f.Mode = local.File, 0o644
		case "100755":
			f.Kind, f.Mode = local.File, 0o755
		case "120000":
			f.Kind, f.Mode = local.Symlink, 0o777
		case "40000":
			f.Kind, f.Mode = local.Dir, 0o755
			if err := o.list(e.id, name, depth+1, all); err != nil {
				return err
			}
		case "160000":
			f.Kind, f.Mode, f.module = local.Dir, 0o755, true
		default:
			return &ContentError{name, "has mode " + e.mode + ", which is neither a file, a folder nor a symbolic link"}
		}
		if *all = append(*all, f); len(*all) > local.MaxFiles {
			return fmt.Errorf("the tree has more than %d files", local.MaxFiles)
		}
	}
	return nil
}

func checkName(whole, name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.Contains(name, "/"):
		return &ContentError{whole, "is a name that leads elsewhere"}
	case strings.EqualFold(name, ".git"):
		return &ContentError{whole, "is a name that git keeps for itself"}
	case !utf8.ValidString(name):
		return &ContentError{whole, "is not UTF-8"}
	case len(name) > 255 || len(whole) > 4096:
		return &ContentError{whole, "is longer than a path may be"}
	}
	return nil
}

type treeEntry struct{ mode, name, id string }

// parseTree reads the body of a tree object: "MODE NAME\0ID" again and again.
func parseTree(body []byte, idSize int) ([]treeEntry, error) {
	var all []treeEntry
	for len(body) > 0 {
		head, rest, ok := bytes.Cut(body, []byte{0})
		mode, name, two := bytes.Cut(head, []byte(" "))
		if !ok || !two || len(rest) < idSize {
			return nil, errors.New("is cut off")
		}
		all = append(all, treeEntry{string(mode), string(name), hex.EncodeToString(rest[:idSize])})
		body = rest[idSize:]
	}
	seen := map[string]bool{}
	for _, e := range all {
		if seen[e.name] {
			return nil, fmt.Errorf("has %q twice", e.name)
		}
		seen[e.name] = true
	}
	slices.SortFunc(all, func(a, b treeEntry) int { return strings.Compare(a.name, b.name) })
	return all, nil
}
