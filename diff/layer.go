package diff

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// chunkSize is how finely the first reading remembers contents, so that the second knows
	// where to look: 8 bytes for each 4096 are 2 MiB for each GiB.
	chunkSize = 4096
	// maxTar bounds the bytes of one unpacked layer, and of its files with their holes, against
	// bombs; the largest public images are some 50 GiB.
	maxTar = 64 << 30
	// maxMeta bounds what is kept about the entries of one layer: a million entries of usual size.
	maxMeta = 512 << 20
	// entryCost is what one entry costs in memory beyond its strings, measured with pprof.
	entryCost = 400
)

// seed makes chunk hashes that no maker of an image can collide on purpose.
var seed = maphash.MakeSeed()

// entry is what is kept of one tar entry.
type entry struct {
	path       string
	kind       byte // tar's type flag, with old-style '\x00' turned into '0'
	mode       int64
	uid, gid   int
	names      string // "uname:gname"
	mtime      string // seconds, and nanoseconds when there are any
	times      string // atime and ctime
	link       string
	device     string
	xattrs     string // sorted, quoted
	records    string // other PAX records
	format     tar.Format
	size       int64
	sum        [sha256.Size]byte
	chunks     []uint64
	occurrence int // 0 for the first entry of this path, 1 for the second …
}

// listing is one layer after the first reading.
type listing struct {
	entries []*entry
	diffID  string // digest of the unpacked bytes
}

// blob opens one layer: unpacked bytes that fail at the end unless the blob's digest holds.
type blob struct {
	layout *layout
	desc   descriptor
	done   <-chan struct{}
}

// errEnough is what visit returns to end a reading early.
var errEnough = errors.New("enough")

// again hands entries of a layer that was read before to visit, until that says
// errEnough, without hashing anything a second time.
func (b blob) again(visit func(h *tar.Header, content io.Reader) error) error {
	name := blobName(b.desc.Digest)
	f, err := openRegular(filepath.Join(b.layout.dir, name))
	if err != nil {
		return b.layout.fail(name, err)
	}
	defer f.Close()
	err = readLayer(&watched{r: f, done: b.done}, io.Discard, visit)
	switch {
	case err == nil, errors.Is(err, errEnough):
		return nil
	case errors.Is(err, ErrStopped):
		return ErrStopped
	}
	return b.layout.fail(name, err)
}

// read hands every entry of the layer to visit, in order, and returns the digest of the unpacked bytes.
func (b blob) read(visit func(h *tar.Header, content io.Reader) error) (string, error) {
	name := blobName(b.desc.Digest)
	f, err := openRegular(filepath.Join(b.layout.dir, name))
	if err != nil {
		return "", b.layout.fail(name, err)
	}
	defer f.Close()
	packed := sha256.New()
	source := &watched{r: io.TeeReader(f, packed), done: b.done}
	unpacked := sha256.New()
	err = readLayer(source, unpacked, visit)
	if err == nil {
		// What follows the compressed stream belongs to the blob as well.
		_, err = io.Copy(io.Discard, source)
	}
	switch {
	case errors.Is(err, ErrStopped):
		return "", ErrStopped
	case err != nil:
		return "", b.layout.fail(name, err)
	}
	if got := "sha256:" + hex.EncodeToString(packed.Sum(nil)); got != b.desc.Digest {
		return "", b.layout.fail(name, fmt.Errorf("its bytes have digest %s", got))
	}
	return "sha256:" + hex.EncodeToString(unpacked.Sum(nil)), nil
}

// watched ends a reading when it is no longer wanted.
type watched struct {
	r    io.Reader
	done <-chan struct{}
}

func (w *watched) Read(p []byte) (int, error) {
	select {
	case <-w.done:
		return 0, ErrStopped
	default:
		return w.r.Read(p)
	}
}

// readLayer reads a layer that is a gzip, zstd or plain tar, told apart by its first bytes
// because media types of real images are wrong now and then. unpacked gets the tar's bytes.
func readLayer(r io.Reader, unpacked io.Writer, visit func(*tar.Header, io.Reader) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	magic, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return err
	}
	var plain io.Reader = in
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		defer z.Close()
		plain = z
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// 128 MiB is the largest window that zstd --long makes by default.
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return err
		}
		defer z.Close()
		plain = z
	}
	limited := &limitReader{r: io.TeeReader(plain, unpacked), left: maxTar}
	t := tar.NewReader(limited)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := visit(h, t); err != nil {
			return err
		}
	}
	// Padding after the last entry is part of the layer's bytes.
	_, err = io.Copy(io.Discard, limited)
	return err
}

type limitReader struct {
	r    io.Reader
	left int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("unpacks to more than %d bytes", int64(maxTar))
	}
	return n, err
}

// list is the first reading of a layer.
func (b blob) list() (*listing, error) {
	l := &listing{}
	count := map[string]int{}
	meta, contents := 0, int64(0)
	content := newContentHash()
	diffID, err := b.read(func(h *tar.Header, r io.Reader) error {
		e := newEntry(h)
		e.occurrence = count[e.path]
		count[e.path]++
		if e.kind == tar.TypeReg {
			// A sparse file may claim any size without having the bytes.
			if e.size > maxTar-contents {
				return fmt.Errorf("its files hold more than %d bytes", int64(maxTar))
			}
			contents += e.size
			if err := content.sum(e, r); err != nil {
				return err
			}
		}
		meta += entryCost + len(e.path)*2 + len(e.link) + len(e.xattrs) + len(e.records) + len(e.names) + 8*len(e.chunks)
		if meta > maxMeta {
			return fmt.Errorf("more than %d bytes of names and attributes in one layer", maxMeta)
		}
		l.entries = append(l.entries, e)
		return nil
	})
	l.diffID = diffID
	return l, err
}

func newEntry(h *tar.Header) *entry {
	e := &entry{
		path: cleanPath(h.Name), kind: h.Typeflag, mode: h.Mode, uid: h.Uid, gid: h.Gid,
		mtime: stamp(h.ModTime), link: h.Linkname, format: h.Format, size: h.Size,
	}
	if h.Typeflag == '\x00' {
		e.kind = tar.TypeReg
	}
	if h.Uname != "" || h.Gname != "" {
		e.names = h.Uname + ":" + h.Gname
	}
	if !h.AccessTime.IsZero() || !h.ChangeTime.IsZero() {
		e.times = stamp(h.AccessTime) + " " + stamp(h.ChangeTime)
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		e.device = fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
	}
	e.xattrs, e.records = records(h.PAXRecords)
	return e
}

// cleanPath brings "./usr/bin/" and "usr/bin" to one form; paths that climb stay as they are, visibly.
func cleanPath(name string) string {
	p := strings.TrimPrefix(path.Clean(name), "/")
	if p == "" {
		return "."
	}
	return p
}

// contentHash is the scratch space of reading contents.
type contentHash struct {
	h   hash.Hash
	buf [chunkSize]byte
}

func newContentHash() *contentHash { return &contentHash{h: sha256.New()} }

// sum fills in e's digest and chunk hashes.
func (c *contentHash) sum(e *entry, r io.Reader) error {
	c.h.Reset()
	for {
		n, err := io.ReadFull(r, c.buf[:])
		if n > 0 {
			c.h.Write(c.buf[:n])
			e.chunks = append(e.chunks, maphash.Bytes(seed, c.buf[:n]))
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF && n > 0 && int64(n) == e.size-int64(len(e.chunks)-1)*chunkSize {
			break
		}
		if err != nil {
			return err
		}
	}
	c.h.Sum(e.sum[:0])
	return nil
}
