package diff

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// folder lists a folder of any files and hashes their contents.
func (c *opener) folder(in *input, root string) error {
	l := &tarListing{}
	h, own := sha256.New(), newListingSum()
	content := newHasher128()
	content.take = own.block
	links := map[fileID]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return gone(root, name, err)
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return gone(root, name, err)
		}
		meta := metaOf(name, info)
		e := entry{path: filepath.ToSlash(rel), kind: '0', meta: meta, size: info.Size()}
		if id, many := idOf(info); many && info.Mode().IsRegular() {
			if first, seen := links[id]; seen {
				meta.Type, meta.Link = "hard link", first
			} else {
				links[id] = e.path
			}
		}
		content.reset()
		own.reset()
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			e.kind, e.size = '2', 0
			if meta.Link, err = os.Readlink(name); err != nil {
				return gone(root, name, err)
			}
		case !info.Mode().IsRegular():
			e.kind, e.size = '5', 0
		case meta.Type == "hard link":
			e.kind, e.size = '1', 0
		default:
			if err := c.sumFile(name, &e, content); err != nil {
				return gone(root, name, err)
			}
			if now, err := os.Lstat(name); err != nil || !unchanged(info, now) || e.size != now.Size() {
				return changed(e.path)
			}
			in.Size += e.size
		}
		e.dataSum = content.sum() // which ends own, too
		fmt.Fprintf(h, "%q %s %o %d %d %s %q %q %d %x\n", e.path, meta.Type, meta.Mode, meta.UID, meta.GID, stamp(meta.ModTime), meta.Link, meta.Xattrs, e.size, own.sum())
		l.entries = append(l.entries, e)
		if len(l.entries) > maxEntries {
			return fmt.Errorf("more than %d entries", maxEntries)
		}
		return nil
	})
	if err != nil {
		return err
	}
	in.Digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
	in.tree = &tree{list: l, folder: func(e *entry) (source, error) {
		name := filepath.Join(root, filepath.FromSlash(e.path))
		in.read = append(in.read, e)
		return source{r: pathReader(name), size: e.size}, in.still(root, e)
	}}
	return nil
}

// stayed reports a file of a folder that changed after it was listed: what was said of it may be
// of neither state. Only files that were read again are looked at.
func (in *input) stayed() error {
	for _, e := range in.read {
		if err := in.still(in.Name, e); err != nil {
			return &InputError{Side: in.Name, Err: err}
		}
	}
	return nil
}

func (in *input) still(root string, e *entry) error {
	info, err := os.Lstat(filepath.Join(root, filepath.FromSlash(e.path)))
	if err != nil {
		return changed(e.path)
	}
	t := info.ModTime()
	if m := e.meta.ModTime; m.Seconds != t.Unix() || m.Nanos != int64(t.Nanosecond()) || info.Mode().IsRegular() && e.kind == '0' && info.Size() != e.size {
		return changed(e.path)
	}
	return nil
}

func unchanged(a, b fs.FileInfo) bool {
	return a.Mode() == b.Mode() && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// changed says that a folder did not stay as it was.
func changed(path string) error {
	return fmt.Errorf("it changed while it was read: %q is another file now; compare a copy, or stop what writes there", path)
}

// gone is the error of what was there a moment ago.
func gone(root, name string, err error) error {
	if name == root || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	rel, _ := filepath.Rel(root, name)
	return fmt.Errorf("it changed while it was read: %q is gone; compare a copy, or stop what writes there", filepath.ToSlash(rel))
}

// sumFile hashes one file, holes without reading them; its size is what was read.
func (c *opener) sumFile(name string, e *entry, into *hasher128) error {
	s, err := openSource(name)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer s.close()
	buf := make([]byte, min(s.size, blockSize))
	for e.size = 0; e.size < s.size; {
		if err := ended(c.o.Done); err != nil {
			return err
		}
		n, err := s.ReadAt(buf[:min(s.size-e.size, blockSize)], e.size)
		into.Write(buf[:n])
		e.size += int64(n)
		switch {
		case err != nil && err != io.EOF:
			return err
		case n == 0:
			return nil // shorter than it was
		case allZero(buf[:n]):
			data := s.data(e.size)
			into.skip(data - e.size)
			e.size = data
		}
	}
	return nil
}

// listingSum is a file's part of the digest of a folder: the sha256 of its contents, or, when it has whole
// blocks of zeros, of what else it has and where.
type listingSum struct {
	data, gaps hash.Hash
	end        int64 // of the last block
	any        bool
}

func newListingSum() *listingSum { return &listingSum{data: sha256.New(), gaps: sha256.New()} }

func (l *listingSum) block(at int64, b []byte) {
	if at != l.end {
		l.any = true
		fmt.Fprintf(l.gaps, "%d %d\n", l.end, at)
	}
	l.data.Write(b)
	l.end = at + int64(len(b))
}

func (l *listingSum) sum() []byte {
	if !l.any {
		return l.data.Sum(nil)
	}
	return l.data.Sum(l.gaps.Sum(nil))
}

func (l *listingSum) reset() {
	l.data.Reset()
	l.gaps.Reset()
	l.end, l.any = 0, false
}

// pathReader opens its file for each reading: a folder may hold more differing files
// than a process may have open.
type pathReader string

func (p pathReader) ReadAt(b []byte, off int64) (int, error) {
	f, err := os.Open(string(p))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(b, off)
}

// metaOf says what the file system says.
func metaOf(name string, info fs.FileInfo) *Meta {
	t := info.ModTime()
	m := &Meta{Mode: uint32(info.Mode().Perm()), ModTime: Time{Seconds: t.Unix(), Nanos: int64(t.Nanosecond()), Set: true}}
	for bit, octal := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if info.Mode()&bit != 0 {
			m.Mode |= octal
		}
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		m.Type = kindName('0', name)
	case mode.IsDir():
		m.Type = "folder"
	case mode&fs.ModeSymlink != 0:
		m.Type = "symlink"
	case mode&fs.ModeNamedPipe != 0:
		m.Type = "fifo"
	case mode&fs.ModeCharDevice != 0:
		m.Type = "char device"
	case mode&fs.ModeDevice != 0:
		m.Type = "block device"
	default:
		m.Type = mode.Type().String()
	}
	system(name, info, m)
	return m
}

// fileID tells hard links of one file.
type fileID struct{ device, inode uint64 }
