package archive

import (
	"archive/zip"
	"bufio"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

// zipDirectory bounds what is read to list a zip, in bytes: a member takes 46
// and its name (APPNOTE 4.3.12), so that this is room for 700,000 with names of
// 50, and what a listing takes in memory stays under 400 MB.
const zipDirectory = 64 << 20

// OpenZip lists a zip. Unlike zip.NewReader, which believes whatever number of
// members an archive has and keeps them all in memory, it gives up at 64 MiB of
// listing. Names that leave a root are the caller's matter.
func OpenZip(r io.ReaderAt, size int64) (*zip.Reader, error) {
	listing := &limitedReaderAt{ReaderAt: r, left: zipDirectory}
	z, err := zip.NewReader(listing, size)
	switch {
	case listing.left <= 0:
		return nil, &LimitError{"bytes of listing", zipDirectory}
	case err != nil && !errors.Is(err, zip.ErrInsecurePath):
		return nil, err
	}
	listing.open = true
	return z, nil
}

// limitedReaderAt reads so many bytes, and any number once it is open.
type limitedReaderAt struct {
	io.ReaderAt
	left int64
	open bool
}

func (l *limitedReaderAt) ReadAt(b []byte, at int64) (int, error) {
	if l.open {
		return l.ReaderAt.ReadAt(b, at)
	}
	if l.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	l.left -= int64(len(b))
	return l.ReaderAt.ReadAt(b, at)
}

// unzip spools the contents of a zip archive's files one after the other.
func unzip(r io.ReaderAt, size int64, data io.Writer, limits Limits) (*Archive, error) {
	z, err := OpenZip(r, size)
	if err != nil {
		return nil, err
	}
	u := &unzipper{limits: limits, packed: size, members: newMembers(limits), out: bufio.NewWriterSize(data, spoolBuffer), hash: digest.NewHash()}
	for _, f := range z.File {
		if err := u.add(f); err != nil {
			return nil, err
		}
	}
	if err := u.out.Flush(); err != nil {
		return nil, fmt.Errorf("cannot write unpacked bytes: %w", err)
	}
	return &Archive{Format: "zip", Entries: u.members.entries, DataSize: u.total}, nil
}

type unzipper struct {
	limits  Limits
	packed  int64
	members *members
	out     *bufio.Writer
	hash    hash.Hash
	total   int64
}

// Bits of the general purpose flag (APPNOTE 4.4.4) and hosts (4.4.2).
const (
	zipEncrypted  = 1 << 0
	zipHostUnix   = 3
	zipHostDarwin = 19
)

func (u *unzipper) add(f *zip.File) error {
	if f.Flags&zipEncrypted != 0 {
		return &MemberError{f.Name, "is encrypted"}
	}
	if f.Method != zip.Store && f.Method != zip.Deflate {
		return &MemberError{f.Name, fmt.Sprintf("is compressed by method %d; only 0 (stored) and 8 (deflate) are read", f.Method)}
	}
	if strings.Contains(f.Name, `\`) {
		return &MemberError{f.Name, "has a backslash in its name"}
	}
	p, err := CleanName(f.Name)
	if err != nil {
		return &MemberError{f.Name, err.Error()}
	}
	if len(p) > u.limits.Name {
		return &MemberError{clip(f.Name), fmt.Sprintf("has a name of %d bytes; at most %d are accepted", len(p), u.limits.Name)}
	}
	if p == "" {
		return nil
	}
	e := Entry{Name: f.Name, Entry: tree.Entry{Path: p, ModTime: f.Modified.Unix()}}
	if e.Kind, e.Mode, err = zipMode(f); err != nil {
		return err
	}
	switch e.Kind {
	case tree.Dir:
		if f.UncompressedSize64 != 0 {
			return &MemberError{f.Name, fmt.Sprintf("is a directory and claims %d bytes", f.UncompressedSize64)}
		}
	case tree.Symlink:
		if err := u.link(f, &e); err != nil {
			return err
		}
	default:
		if err := u.file(f, &e); err != nil {
			return err
		}
	}
	return u.members.add(e)
}

// zipMode reads the kind and mode. Archives of other systems than Unix carry
// no mode worth keeping and get what a checkout would have: 0644 and 0755.
func zipMode(f *zip.File) (tree.Kind, uint32, error) {
	mode := f.Mode()
	host := byte(f.CreatorVersion >> 8)
	plain := host != zipHostUnix && host != zipHostDarwin || f.ExternalAttrs>>16 == 0
	switch {
	case mode.IsDir() || strings.HasSuffix(f.Name, "/"):
		if plain {
			return tree.Dir, 0o755, nil
		}
		return tree.Dir, zipPermissions(mode), nil
	case plain:
		return tree.File, 0o644, nil
	case mode.IsRegular():
		return tree.File, zipPermissions(mode), nil
	case mode.Type() == fs.ModeSymlink:
		return tree.Symlink, 0o777, nil
	}
	return 0, 0, &MemberError{f.Name, fmt.Sprintf("is neither file, directory nor symbolic link (mode %v)", mode)}
}

func zipPermissions(mode fs.FileMode) uint32 {
	m := uint32(mode.Perm())
	for bit, value := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if mode&bit != 0 {
			m |= value
		}
	}
	return m
}

func (u *unzipper) link(f *zip.File, e *Entry) error {
	if f.UncompressedSize64 > uint64(u.limits.Name) {
		return &MemberError{f.Name, fmt.Sprintf("is a symbolic link with a target of %d bytes; at most %d are accepted", f.UncompressedSize64, u.limits.Name)}
	}
	var target strings.Builder
	if err := u.copy(&target, f, int64(u.limits.Name)); err != nil {
		return err
	}
	e.Link = target.String()
	return u.members.checkTarget(*e)
}

func (u *unzipper) file(f *zip.File, e *Entry) error {
	room := min(u.limits.Bytes, max(ratioFloor, u.packed*u.limits.Ratio)) - u.total
	if f.UncompressedSize64 > uint64(room) {
		return &LimitError{"bytes", u.total + room}
	}
	u.hash.Reset()
	e.Offset, e.Size = u.total, int64(f.UncompressedSize64)
	if err := u.copy(io.MultiWriter(u.out, u.hash), f, room); err != nil {
		return err
	}
	u.total += e.Size
	e.Digest = digest.Sum(u.hash)
	return nil
}

// copy brings a member's bytes, which archive/zip holds against the size and
// CRC of the directory at the end of the archive.
func (u *unzipper) copy(w io.Writer, f *zip.File, room int64) error {
	r, err := f.Open()
	if err != nil {
		return &MemberError{f.Name, "cannot be read: " + err.Error()}
	}
	defer r.Close()
	n, err := io.Copy(w, io.LimitReader(r, room+1))
	switch {
	case err != nil:
		return &MemberError{f.Name, "cannot be read: " + err.Error()}
	case n != int64(f.UncompressedSize64):
		return &MemberError{f.Name, fmt.Sprintf("has %d bytes or more, expected %d", n, f.UncompressedSize64)}
	}
	return nil
}
