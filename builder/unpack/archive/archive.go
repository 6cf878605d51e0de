// Package archive turns the bytes of tar and zip archives into a list of files
// and one spooled stream of contents. It is where archives from outside are
// met, so it trusts nothing in them.
//
// Nothing is written to a file system: the uncompressed bytes go to one writer
// (usually a blob of the store), and each regular file becomes an [Entry] that
// names a range of them. What could escape a root or surprise an unpacker is
// refused by name: absolute names, "..", entries below a symbolic link that
// the same archive holds, device nodes, sockets, sparse files, hard links to
// nothing, a path twice, and archives that unpack to more than they may.
//
//	a, err := archive.Unpack(file, size, spool, archive.Options{})
//	for _, e := range a.Entries {
//		e.Content = tree.Section{File: spoolPath, Offset: e.Offset, Size: e.Size}
//	}
//
// Package deb builds on [ReadTar] and [NewReader] for the members of a .deb.
package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"quorate.dev/builder/tree"
)

// Entry is one member of an archive.
type Entry struct {
	tree.Entry        // Content is nil
	Name       string // as the archive writes it
	Offset     int64  // of a File's bytes in the spooled stream
}

// Limits bound what an archive may unpack to; zero means the default beside each.
type Limits struct {
	Bytes   int64 // uncompressed, in all; 8 GiB: twenty times the largest package of Debian's main
	Ratio   int64 // uncompressed bytes per compressed byte once past RatioFloor; 1000: above deflate's best of 1032:1 only zeros remain
	Entries int   // members, and folders that only their names tell of; 1,000,000: ten times the largest package of Debian's main
	Name    int   // bytes of a path or a link; 4096: PATH_MAX of Linux
	Listing int64 // bytes of names, links and extended attributes, in all, which are kept in memory; 128 MiB: 128 for each of 1,000,000 members
}

// ratioFloor is the size below which no ratio is called a bomb: small archives
// of zeros are legitimate test data, and 256 MiB on disk harms nobody.
const ratioFloor = 256 << 20

func (l Limits) withDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 8 << 30
	}
	if l.Ratio == 0 {
		l.Ratio = 1000
	}
	if l.Entries == 0 {
		l.Entries = 1_000_000
	}
	if l.Name == 0 {
		l.Name = 4096
	}
	if l.Listing == 0 {
		l.Listing = 128 << 20
	}
	return l
}

// Archive is an unpacked archive.
type Archive struct {
	Format   string  // "tar", "tar.gz", "tar.xz", "tar.zst", "tar.bz2" or "zip"
	Entries  []Entry // in the archive's order; a directory that is written twice is listed once; hard links name the file's first path by sorting
	DataSize int64   // bytes written to the spool
}

// Options bound Unpack; the zero value is right for files from outside.
type Options struct {
	Limits Limits
}

// MemberError says which member of an archive was refused, and why.
type MemberError struct {
	Member string // as the archive writes it
	Reason string
}

func (e *MemberError) Error() string { return fmt.Sprintf("member %q %s", e.Member, e.Reason) }

// LimitError says that an archive unpacks to more than it may.
type LimitError struct {
	What  string // "bytes", "entries", "times its compressed size"
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("archive unpacks to more than %d %s", e.Limit, e.What)
}

// Unpack reads a tar (plain or compressed with gzip, xz, zstd or bzip2) or a
// zip archive of size bytes, recognised by its first bytes, and writes the
// bytes that entries point into to data. Nothing is stripped from names, and
// owners stay as written. Errors: *MemberError, *LimitError, or of r and data.
func Unpack(r io.ReaderAt, size int64, data io.Writer, o Options) (*Archive, error) {
	a, err := unpack(r, size, data, o.Limits.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("cannot unpack archive: %w", err)
	}
	return a, nil
}

func unpack(r io.ReaderAt, size int64, data io.Writer, limits Limits) (*Archive, error) {
	body := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10)
	head, err := body.Peek(512)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte("PK\x05\x06")) {
		return unzip(r, size, data, limits)
	}
	c := Sniff(head)
	if c == None && !looksLikeTar(head) {
		return nil, errors.New("its first bytes are neither tar, gzip, xz, zstd, bzip2 nor zip")
	}
	plain, err := NewReader(c, body)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	entries, written, err := ReadTar(plain, data, Rules{Limits: limits, CompressedSize: size, Canonical: CleanName})
	if err != nil {
		return nil, err
	}
	if n, err := io.Copy(io.Discard, body); err != nil || n > 0 {
		return nil, errors.Join(err, fmt.Errorf("it has %d bytes after its end", n))
	}
	format := "tar"
	if c != None {
		format += "." + string(c)
	}
	relink(entries)
	return &Archive{Format: format, Entries: entries, DataSize: written}, nil
}

// looksLikeTar checks the magic of POSIX and GNU tar; an archive of the
// unmarked form of 1979 is not accepted, since anything could be one.
func looksLikeTar(head []byte) bool {
	return len(head) == 512 && (bytes.Equal(head[257:262], []byte("ustar")) || bytes.Count(head, []byte{0}) == 512)
}
