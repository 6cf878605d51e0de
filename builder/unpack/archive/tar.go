package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

// Rules say how ReadTar reads one tar stream.
type Rules struct {
	Limits         Limits
	CompressedSize int64 // bytes the stream came from, for Limits.Ratio; 0 when not known

	// Canonical turns a member's name into its path, "" for the root itself, or
	// says why it is refused. Directories' names end by "/". Aliases of one path
	// may map to the same one.
	Canonical func(name string) (string, error)
	// KeepAliases lists a directory again for each further name that maps to its path.
	KeepAliases bool

	// Also returns a second hash to run over a file's bytes, or nil. Summed
	// receives it when the file has been read.
	Also   func(path string) hash.Hash
	Summed func(path string, h hash.Hash)
}

// ReadTar copies the tar stream r, which must end with it, to data and returns
// its entries, whose offsets are into the stream, and the stream's length.
// Errors name the member.
func ReadTar(r io.Reader, data io.Writer, rules Rules) ([]Entry, int64, error) {
	rules.Limits = rules.Limits.withDefaults()
	s := newSpool(r, data, rules)
	t := &tarReader{rules: rules, spool: s, tar: tar.NewReader(s), members: newMembers(rules.Limits), hash: digest.NewHash(), buf: make([]byte, 32<<10)}
	t.members.aliases = rules.KeepAliases
	for {
		done, err := t.next()
		if err != nil {
			return nil, s.total, err
		}
		if done {
			break
		}
	}
	if err := s.finish(); err != nil {
		return nil, s.total, err
	}
	return t.members.entries, s.total, nil
}

type tarReader struct {
	rules   Rules
	spool   *spool
	tar     *tar.Reader
	members *members
	hash    hash.Hash // reused for every file
	buf     []byte
	last    string // name of the member read last, for errors of the stream
}

// next reads one member; done is true after the end-of-archive mark.
func (t *tarReader) next() (done bool, err error) {
	t.spool.zeros = 0
	h, err := t.tar.Next()
	if err == io.EOF {
		if t.spool.zeros < 1024 {
			return false, fmt.Errorf("tar stream ends after member %q without its end mark: truncated", t.last)
		}
		return true, nil
	}
	if err != nil {
		return false, t.broken(err)
	}
	t.last = h.Name
	e, keep, err := t.entry(h)
	if err != nil || !keep {
		return false, err
	}
	if e.Kind == tree.File {
		if err := t.read(&e, h); err != nil {
			return false, err
		}
	}
	return false, t.members.add(e)
}

// broken names the member after which the stream could not be read on.
func (t *tarReader) broken(err error) error {
	if err == io.ErrUnexpectedEOF { // tar's own; one of a decoder says more by itself
		return fmt.Errorf("tar stream is truncated after member %q", t.last)
	}
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) {
		return fmt.Errorf("tar stream is damaged after member %q: %w", t.last, err)
	}
	return err
}

// kinds maps tar's types; all others are refused by name.
var kinds = map[byte]tree.Kind{
	tar.TypeReg: tree.File, tar.TypeDir: tree.Dir, tar.TypeSymlink: tree.Symlink, tar.TypeLink: tree.Hardlink, tar.TypeFifo: tree.Fifo,
}

var refused = map[byte]string{
	tar.TypeChar: "is a character device", tar.TypeBlock: "is a block device", tar.TypeGNUSparse: "is a sparse file",
	tar.TypeCont: "is a contiguous file",
}

// entry turns a header into an entry, contents aside.
func (t *tarReader) entry(h *tar.Header) (e Entry, keep bool, err error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return e, false, checkGlobal(h)
	}
	kind, ok := kinds[h.Typeflag]
	if !ok {
		reason := refused[h.Typeflag]
		if reason == "" {
			reason = fmt.Sprintf("has type %q, which images cannot hold", h.Typeflag)
		}
		return e, false, &MemberError{h.Name, reason}
	}
	xattrs, err := attributes(h)
	if err != nil {
		return e, false, err
	}
	name := h.Name
	if kind == tree.Dir && !strings.HasSuffix(name, "/") {
		name += "/" // as all but a few writers do
	}
	p, err := t.path(name)
	if err != nil {
		return e, false, err
	}
	if p == "" && kind != tree.Dir {
		return e, false, &MemberError{h.Name, "stands for the root and is not a directory"}
	}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > maxID || int64(h.Gid) > maxID {
		return e, false, &MemberError{h.Name, fmt.Sprintf("has owner %d:%d, outside of 0 to %d", h.Uid, h.Gid, int64(maxID))}
	}
	e = Entry{Name: h.Name, Entry: tree.Entry{Path: p, Kind: kind, Mode: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid, ModTime: h.ModTime.Unix(), Xattrs: xattrs}}
	switch kind {
	case tree.Symlink:
		e.Link, e.Mode = h.Linkname, 0o777
		err = t.members.checkTarget(e)
	case tree.Hardlink:
		if e.Link, err = t.path(h.Linkname); err != nil {
			err = &MemberError{h.Name, fmt.Sprintf("is a hard link to %q, which is refused as a path", h.Linkname)}
		}
	}
	if kind != tree.File && h.Size != 0 {
		return e, false, &MemberError{h.Name, fmt.Sprintf("is not a regular file and claims %d bytes", h.Size)}
	}
	return e, p != "", err
}

// maxID is the largest owner that Linux and OCI runtimes can set; 2^32-1 means "no change".
const maxID = 1<<32 - 2

func (t *tarReader) path(name string) (string, error) {
	p, err := t.rules.Canonical(name)
	if err != nil {
		return "", &MemberError{name, err.Error()}
	}
	if len(p) > t.rules.Limits.Name {
		return "", &MemberError{clip(name), fmt.Sprintf("has a name of %d bytes; at most %d are accepted", len(p), t.rules.Limits.Name)}
	}
	return p, nil
}

// checkGlobal accepts the comment that git-archive writes and refuses all
// other global headers, since they would change the meaning of every member.
func checkGlobal(h *tar.Header) error {
	for k := range h.PAXRecords {
		if k != "comment" {
			return &MemberError{h.Name, fmt.Sprintf("is a global header that sets %q", k)}
		}
	}
	return nil
}

// attributes returns the extended attributes that images keep.
// security.capability is what a file may do; user.* is the packager's own.
// Labels of a security module and ACLs belong to a host and are dropped.
func attributes(h *tar.Header) (map[string]string, error) {
	var kept map[string]string
	names := 0
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return nil, &MemberError{h.Name, "is a sparse file"}
		}
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok || name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		if strings.ContainsAny(name, "=\x00") || len(name) > 255 || len(v) > 64<<10 { // XATTR_NAME_MAX, XATTR_SIZE_MAX
			return nil, &MemberError{h.Name, fmt.Sprintf("has an extended attribute %.64q that Linux cannot hold", name)}
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[name] = v
		if names += len(name) + 1; names > 64<<10 { // XATTR_LIST_MAX
			return nil, &MemberError{h.Name, "has more extended attributes than Linux can list"}
		}
	}
	return kept, nil
}

// read hashes the bytes of the current member.
func (t *tarReader) read(e *Entry, h *tar.Header) error {
	e.Offset, e.Size = t.spool.total-int64(t.spool.w-t.spool.r), h.Size
	if h.Size > t.rules.Limits.Bytes {
		return &LimitError{"bytes", t.rules.Limits.Bytes}
	}
	t.hash.Reset()
	var w io.Writer = t.hash
	var also hash.Hash
	if t.rules.Also != nil {
		if also = t.rules.Also(e.Path); also != nil {
			w = io.MultiWriter(w, also)
		}
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{t.tar}, t.buf)
	if err != nil {
		if err == io.ErrUnexpectedEOF {
			return &MemberError{h.Name, fmt.Sprintf("is truncated: %d of %d bytes", n, h.Size)}
		}
		return err
	}
	e.Digest = digest.Sum(t.hash)
	if also != nil {
		t.rules.Summed(e.Path, also)
	}
	return nil
}

// spool passes a stream to its reader and copies every byte of it to dst, in
// large writes, counting.
type spool struct {
	src    io.Reader
	dst    io.Writer
	limits Limits
	packed int64
	buf    []byte
	r, w   int   // unread part of buf
	total  int64 // bytes taken from src
	zeros  int   // length of the run of zero bytes read last
	err    error
}

// spoolBuffer is the size of one write: large enough that system calls do not
// show in a profile, small enough to stay in a core's cache.
const spoolBuffer = 256 << 10

func newSpool(src io.Reader, dst io.Writer, rules Rules) *spool {
	return &spool{src: src, dst: dst, limits: rules.Limits, packed: rules.CompressedSize, buf: make([]byte, spoolBuffer)}
}

func (s *spool) fill() error {
	if s.err != nil {
		return s.err
	}
	n, err := io.ReadFull(s.src, s.buf)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	s.r, s.w, s.err = 0, n, err
	s.total += int64(n)
	if s.total > s.limits.Bytes {
		s.err = &LimitError{"bytes", s.limits.Bytes}
	} else if s.packed > 0 && s.total > ratioFloor && s.total/s.packed > s.limits.Ratio {
		s.err = &LimitError{"times its compressed size", s.limits.Ratio}
	} else if _, werr := s.dst.Write(s.buf[:n]); werr != nil {
		s.err = fmt.Errorf("cannot write unpacked bytes: %w", werr)
	} else if n > 0 {
		return nil
	}
	s.w = 0
	return s.err
}

func (s *spool) Read(p []byte) (int, error) {
	if s.r == s.w {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.buf[s.r:s.w])
	s.r += n
	if len(p) <= 512 { // a header: the end mark is two of zeros
		s.countZeros(p[:n])
	}
	return n, nil
}

func (s *spool) countZeros(b []byte) {
	for _, c := range b {
		if c != 0 {
			s.zeros = 0
			return
		}
	}
	s.zeros += len(b)
}

// finish reads the stream's end: only zeros may follow the end mark.
func (s *spool) finish() error {
	for {
		for _, c := range s.buf[s.r:s.w] {
			if c != 0 {
				return errors.New("tar stream has other bytes than zeros after its end mark")
			}
		}
		s.r = s.w
		if err := s.fill(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
