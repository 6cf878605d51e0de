package builder

import (
	"bufio"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

func extract(in io.Reader, out io.Writer) error {
	var plan extractPlan
	dec, err := decodePlan(in, &plan)
	if err != nil {
		return err
	}
	items := make([]extractItem, plan.Count)
	for i := range items {
		if err := dec.Decode(&items[i]); err != nil {
			return fmt.Errorf("reading the task's instructions: %w", err)
		}
	}
	x := &extractor{plan: plan, items: items}
	return x.collision(x.run())
}

type extractor struct {
	plan  extractPlan
	items []extractItem
	data  []*os.File
}

func (x *extractor) run() error {
	defer unix.Umask(unix.Umask(0))
	for _, name := range x.plan.Files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		x.data = append(x.data, f)
	}
	if err := os.MkdirAll(x.plan.Dir, 0o755); err != nil {
		return err
	}
	if err := x.dirs(); err != nil {
		return err
	}
	if err := x.files(); err != nil {
		return err
	}
	if err := x.links(); err != nil {
		return err
	}
	return x.finishDirs()
}

// collision says of a path that was already there which other one stands in
// its place. Linux tells /a/README from /a/Readme, and archives hold such pairs
// (Debian's linux-libc-dev does); a store on a file system that does not, as
// Docker shows folders of a Mac, cannot hold both.
func (x *extractor) collision(err error) error {
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	var at string
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		at = e.Path
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		at = e.New
	}
	at, outside := filepath.Rel(x.plan.Dir, at)
	if outside != nil {
		return err
	}
	for i := range x.items {
		if other := x.items[i].Path; other != at && strings.EqualFold(other, at) {
			return fmt.Errorf("%q and %q differ only in upper and lower case, and the file system of the store cannot hold both: %w; set QUORATE_STORE to a folder on another file system",
				"/"+other, "/"+at, err)
		}
	}
	return err
}

func (x *extractor) path(it *extractItem) string { return filepath.Join(x.plan.Dir, it.Path) }

func (x *extractor) dirs() error {
	for i := range x.items {
		if it := &x.items[i]; it.Kind == tree.Dir {
			if err := os.Mkdir(x.path(it), 0o700); err != nil {
				return err
			}
		}
	}
	return nil
}

// files makes everything that has no other path to wait for, in parallel.
func (x *extractor) files() error {
	var g errgroup.Group
	workers := max(2, runtime.GOMAXPROCS(0))
	next := make(chan *extractItem, 64)
	failed := make(chan struct{})
	var once sync.Once
	for range workers {
		g.Go(func() error {
			buf := make([]byte, copyBuffer)
			for it := range next {
				if err := x.file(it, buf); err != nil {
					once.Do(func() { close(failed) })
					return err
				}
			}
			return nil
		})
	}
	order := make([]int, len(x.items))
	for i := range order {
		order[i] = i
	}
	if x.plan.Reverse {
		slices.Reverse(order)
	}
send:
	for _, i := range order {
		it := &x.items[i]
		if it.Kind == tree.Dir || it.Kind == tree.Hardlink {
			continue
		}
		select {
		case next <- it:
		case <-failed:
			break send
		}
	}
	close(next)
	return g.Wait()
}

func (x *extractor) file(it *extractItem, buf []byte) error {
	p := x.path(it)
	switch it.Kind {
	case tree.File:
		return x.regular(it, p, buf)
	case tree.Symlink:
		if err := os.Symlink(it.Link, p); err != nil {
			return err
		}
		if err := x.own(it, p); err != nil {
			return err
		}
		return setTime(p, min(it.ModTime, x.plan.Epoch))
	case tree.Fifo:
		if err := unix.Mkfifo(p, it.Mode); err != nil {
			return &os.PathError{Op: "mkfifo", Path: p, Err: err}
		}
		return x.own(it, p)
	}
	return fmt.Errorf("cannot make %q: a %q entry is not part of a root", it.Path, it.Kind)
}

func (x *extractor) regular(it *extractItem, p string, buf []byte) (err error) {
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if err := x.copy(f, it, buf); err != nil {
		return err
	}
	fd := int(f.Fd())
	if x.plan.Owners && (it.UID != 0 || it.GID != 0) {
		if err := unix.Fchown(fd, it.UID, it.GID); err != nil {
			return &os.PathError{Op: "chown", Path: p, Err: err}
		}
	}
	if err := unix.Fchmod(fd, it.Mode); err != nil {
		return &os.PathError{Op: "chmod", Path: p, Err: err}
	}
	for name, value := range it.Xattrs {
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil && x.plan.Owners {
			return &os.PathError{Op: "setxattr " + name, Path: p, Err: err}
		}
	}
	return setTime(p, min(it.ModTime, x.plan.Epoch))
}

func (x *extractor) copy(f *os.File, it *extractItem, buf []byte) error {
	if it.Size == 0 {
		return nil
	}
	if it.File < 0 {
		_, err := f.Write(it.Inline)
		return err
	}
	h := sha256.New()
	src := io.NewSectionReader(x.data[it.File], it.Offset, it.Size)
	for {
		n, err := src.Read(buf)
		h.Write(buf[:n])
		if _, werr := f.Write(buf[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if got := digest.Sum(h); got != it.Digest {
		return fmt.Errorf("%q was damaged in the store after it was decoded: %w", it.Path,
			&digest.MismatchError{Want: it.Digest, Got: got})
	}
	return nil
}

func (x *extractor) own(it *extractItem, p string) error {
	if !x.plan.Owners || it.UID == 0 && it.GID == 0 {
		return nil
	}
	return os.Lchown(p, it.UID, it.GID)
}

func (x *extractor) links() error {
	for i := range x.items {
		if it := &x.items[i]; it.Kind == tree.Hardlink {
			if err := os.Link(filepath.Join(x.plan.Dir, it.Link), x.path(it)); err != nil {
				return err
			}
		}
	}
	return nil
}

// finishDirs gives directories their modes and times last, children before
// parents, since making files changes both what is allowed and the times.
func (x *extractor) finishDirs() error {
	for i := len(x.items) - 1; i >= 0; i-- {
		it := &x.items[i]
		if it.Kind != tree.Dir {
			continue
		}
		p := x.path(it)
		if err := x.own(it, p); err != nil {
			return err
		}
		if err := unix.Chmod(p, it.Mode); err != nil {
			return &os.PathError{Op: "chmod", Path: p, Err: err}
		}
		if err := setTime(p, x.plan.Epoch); err != nil {
			return err
		}
	}
	if err := unix.Chmod(x.plan.Dir, 0o755); err != nil {
		return err
	}
	return setTime(x.plan.Dir, x.plan.Epoch)
}

func setTime(p string, unixTime int64) error {
	ts := []unix.Timespec{{Sec: unixTime}, {Sec: unixTime}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimens", Path: p, Err: err}
	}
	return nil
}

func scan(in io.Reader, out io.Writer) error {
	var plan scanPlan
	if _, err := decodePlan(in, &plan); err != nil {
		return err
	}
	data, err := os.Create(plan.Data)
	if err != nil {
		return err
	}
	defer data.Close()
	s := &scanner{plan: plan, data: bufio.NewWriterSize(data, copyBuffer), seen: map[inode]string{}, buf: make([]byte, copyBuffer)}
	if err := s.walk(); err != nil {
		return err
	}
	if err := s.data.Flush(); err != nil {
		return err
	}
	return gob.NewEncoder(out).Encode(s.answer)
}

type inode struct{ dev, ino uint64 }

type scanner struct {
	plan   scanPlan
	data   *bufio.Writer
	offset int64
	seen   map[inode]string
	buf    []byte
	answer scanAnswer
}

func (s *scanner) walk() error {
	var paths []string
	err := filepath.WalkDir(s.plan.Dir, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, unix.ENAMETOOLONG) {
			return fmt.Errorf("folders are nested deeper than a path can say (%d bytes, beginning with %.60q)", unix.PathMax, p[len(s.plan.Dir):])
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.plan.Dir, p)
		if err != nil || rel == "." {
			return err
		}
		if slices.Contains(s.plan.Skip, rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		paths = append(paths, rel)
		return nil
	})
	if err != nil {
		return err
	}
	sort.Strings(paths) // bytewise by whole path, as a tree is; WalkDir sorts by component
	for _, p := range paths {
		if err := s.entry(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) entry(rel string) error {
	p := filepath.Join(s.plan.Dir, rel)
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: p, Err: err}
	}
	e := tree.Entry{Path: rel, Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), ModTime: st.Mtim.Sec}
	xattrs, err := listXattrs(p)
	if err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Kind = tree.Dir
		if xattrs["trusted.overlay.opaque"] == "y" || xattrs["user.overlay.opaque"] == "y" {
			s.answer.Opaque = append(s.answer.Opaque, rel)
		}
	case unix.S_IFLNK:
		e.Kind, e.Mode = tree.Symlink, 0o777
		if e.Link, err = os.Readlink(p); err != nil {
			return err
		}
	case unix.S_IFIFO:
		e.Kind = tree.Fifo
	case unix.S_IFCHR:
		if st.Rdev != 0 {
			return fmt.Errorf("%q is a device, which no image may hold", "/"+rel)
		}
		e = tree.Entry{Path: rel, Kind: tree.Whiteout}
	case unix.S_IFREG:
		return s.regular(p, e, st, keepXattrs(xattrs))
	case unix.S_IFSOCK:
		return nil // a socket's file means nothing once its process is gone
	default:
		return fmt.Errorf("%q is a device, which no image may hold", "/"+rel)
	}
	if e.Kind != tree.Whiteout {
		e.Xattrs = keepXattrs(xattrs)
	}
	s.add(e, 0)
	return nil
}

func (s *scanner) add(e tree.Entry, offset int64) {
	s.answer.Entries = append(s.answer.Entries, e)
	s.answer.Offsets = append(s.answer.Offsets, offset)
}

func (s *scanner) regular(p string, e tree.Entry, st unix.Stat_t, xattrs map[string]string) error {
	e.Kind, e.Xattrs = tree.File, xattrs
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := s.seen[id]; ok {
			s.add(tree.Entry{Path: e.Path, Kind: tree.Hardlink, Link: first}, 0)
			return nil
		}
		s.seen[id] = e.Path
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	start := s.offset
	n, err := io.CopyBuffer(io.MultiWriter(h, s.data), struct{ io.Reader }{f}, s.buf)
	if err != nil {
		return err
	}
	s.offset += n
	e.Size, e.Digest = n, digest.Sum(h)
	s.add(e, start)
	return nil
}

// keepXattrs drops what overlayfs and the host's security modules add.
func keepXattrs(all map[string]string) map[string]string {
	var kept map[string]string
	for name, value := range all {
		if name != "security.capability" && (!strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.overlay.")) {
			continue
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[name] = value
	}
	return kept
}

func listXattrs(p string) (map[string]string, error) {
	n, err := unix.Llistxattr(p, nil)
	if err != nil || n == 0 {
		if errors.Is(err, unix.ENOTSUP) {
			err = nil
		}
		return nil, err
	}
	names := make([]byte, n)
	if n, err = unix.Llistxattr(p, names); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		size, err := unix.Lgetxattr(p, name, nil)
		if err != nil {
			return nil, &os.PathError{Op: "getxattr " + name, Path: p, Err: err}
		}
		value := make([]byte, size)
		if size > 0 {
			if size, err = unix.Lgetxattr(p, name, value); err != nil {
				return nil, &os.PathError{Op: "getxattr " + name, Path: p, Err: err}
			}
		}
		out[name] = string(value[:size])
	}
	return out, nil
}

// stamp takes the traces of their own run from what scripts left.
func stamp(in io.Reader, _ io.Writer) error {
	var plan stampPlan
	if _, err := decodePlan(in, &plan); err != nil {
		return err
	}
	for _, p := range slices.Concat(plan.Forget, plan.Empty) {
		name := filepath.Join(plan.Dir, p)
		info, err := os.Lstat(name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if slices.Contains(plan.Empty, p) {
			err = os.Truncate(name, 0)
		} else {
			err = os.Remove(name)
		}
		if err != nil {
			return err
		}
	}
	return filepath.WalkDir(plan.Dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeDevice != 0 {
			return nil // a whiteout
		}
		return setTime(p, plan.Epoch) // reading a folder does not change its time
	})
}

// remove deletes the tree whose path it reads. Folders that forbid it are
// opened first; the kernel has none of their files in use any more.
func remove(in io.Reader, out io.Writer) error {
	var dir string
	if _, err := decodePlan(in, &dir); err != nil {
		return err
	}
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	deadline := time.Now().Add(5 * time.Second) // a dying process may still add files
	for {
		if err = os.RemoveAll(dir); err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
