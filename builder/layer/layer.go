// Package layer writes a list of files as a layer of an image: a tar stream,
// compressed with gzip, that is always the same bytes for the same files.
//
// The rules, which package tree's entries pass through on the way:
//
//   - entries in the order of their paths, bytewise; names without "./", those
//     of directories with "/" behind;
//   - POSIX ustar headers, and a PAX header before one only for what ustar
//     cannot hold (long names, large numbers, extended attributes), with just
//     those records, sorted by key;
//   - numeric owners, no names of users or groups, no device numbers;
//   - times by [tree.Entry.TimeAt]: directories have the epoch, all else its
//     own time or the epoch, whichever is earlier;
//   - hard links to the first path of the same file;
//   - a removal is an empty file named ".wh." and the name (OCI image-spec,
//     layer.md), opaque directories are not used;
//   - two blocks of zeros at the end and no further padding;
//   - gzip with an empty header (no name, no time, system 255) and [Compressor].
//
// Nothing else reaches the bytes: not the clock, the machine's number of CPUs
// or the sizes of writes. A test holds the digest of a fixed tree; when it
// fails, builder.AssemblerVersion has to change, since old locks would
// otherwise build something else.
package layer

import (
	"bufio"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

// level is the gzip level; see Compressor.
const level = 4

// Compressor names what compresses layers, for the record: builds with another
// one have other bytes.
const Compressor = "klauspost/compress v1.20.3 gzip level 4"

// Compression says how a layer is compressed.
type Compression byte

// The compressions. Uncompressed layers are for tests and for those who measure.
const (
	Gzip Compression = iota
	Uncompressed
)

// Options say how a layer is written.
type Options struct {
	Epoch       int64 // SOURCE_DATE_EPOCH, seconds since 1970
	Compression Compression
}

// Info describes a written layer.
type Info struct {
	Digest   digest.Digest // of the bytes written
	Size     int64         // their number
	DiffID   digest.Digest // of the uncompressed tar stream
	DiffSize int64         // its bytes
}

// OrderError says that entries are not sorted by path, or that one is there twice.
type OrderError struct {
	Before, Path string
}

func (e *OrderError) Error() string {
	return fmt.Sprintf("entry %q does not sort after %q", e.Path, e.Before)
}

// Write writes a layer of the given entries, which must be sorted by path.
// Missing parents are not added: see tree.WithParents. Contents are checked
// while they are copied; a *tree.ContentError means that nothing of what was
// written may be used. Memory does not depend on the size of the layer, and
// several layers may be written at once.
func Write(w io.Writer, entries []tree.Entry, o Options) (Info, error) {
	packed := newMeter(w)
	out := bufio.NewWriterSize(packed, bufferSize)
	var body io.Writer = out
	finish := func() error { return nil }
	if o.Compression == Gzip {
		z, err := gzip.NewWriterLevel(out, level)
		if err != nil {
			return Info{}, err
		}
		// 255: unknown (RFC 1952). The zero time.Time would be written as another number than 0.
		z.Header = gzip.Header{OS: 255, ModTime: time.Unix(0, 0)}
		body, finish = z, z.Close
	}
	plain := newMeter(body)
	t := &tarWriter{w: bufio.NewWriterSize(plain, bufferSize), epoch: o.Epoch, buf: make([]byte, bufferSize)}
	if err := t.all(entries); err != nil {
		return Info{}, fmt.Errorf("cannot write layer: %w", err)
	}
	for _, f := range []func() error{t.w.Flush, finish, out.Flush} {
		if err := f(); err != nil {
			return Info{}, fmt.Errorf("cannot write layer: %w", err)
		}
	}
	return Info{Digest: packed.sum(), Size: packed.n, DiffID: plain.sum(), DiffSize: plain.n}, nil
}

// bufferSize makes writes of one size whatever the entries' sizes are.
const bufferSize = 128 << 10

// meter hashes and counts what is written through it.
type meter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func newMeter(w io.Writer) *meter { return &meter{w: w, h: digest.NewHash()} }

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.h.Write(p[:n])
	m.n += int64(n)
	return n, err
}

func (m *meter) sum() digest.Digest { return digest.Sum(m.h) }
