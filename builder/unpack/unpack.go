// Package unpack is what a kind of input is to a build: a pure function from
// pinned blobs to files. Each kind has a folder of its own below this one, with
// one exported [Kind], and cmd/quorate/wire.go lists them.
//
// A kind decides which files are shown at /inputs/NAME and from which bytes; it
// is handed blobs that were checked, and gives paths, modes and contents to
// [Files], which refuses what could leave the root. Owners are always root's and
// times always the epoch, so neither can be said. Equal pins give equal files.
//
//	func Unpack(in lockfile.Input, blobs []unpack.Blob, files *unpack.Files) error {
//		for _, b := range blobs {
//			if err := files.AddBlob("cache/"+b.Pin.Path, b); err != nil {
//				return err
//			}
//		}
//		return nil
//	}
package unpack

import (
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/archive"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// Kind makes the files of an input of one kind.
type Kind func(in lockfile.Input, blobs []Blob, files *Files) error

// Blob is a pin with its bytes, which were held against the pin's digest.
type Blob struct {
	Pin  lockfile.Pin
	File string // that holds the bytes
	io.ReaderAt
}

// Bytes returns all bytes of a blob, of which there must be at most limit.
func (b Blob) Bytes(limit int64) ([]byte, error) {
	if b.Pin.Size > limit {
		return nil, fmt.Errorf("%s %s has %d bytes; at most %d are read", b.Pin.Name, b.Pin.Version, b.Pin.Size, limit)
	}
	out := make([]byte, b.Pin.Size)
	_, err := io.ReadFull(io.NewSectionReader(b, 0, b.Pin.Size), out)
	return out, err
}

// Limits of what one input may unpack to, as for archives (package archive).
const (
	MaxBytes = 16 << 30  // a base image with a CUDA toolkit has 10 GB
	MaxFiles = 2_000_000 // and folders, also those that only a path tells of
)

// Files collects what an input shows. Folders above a file need not be added.
type Files struct {
	stream io.Writer // contents that no blob holds as they are
	name   string    // of the file that stream writes
	offset int64
	bytes  int64
	hash   hash.Hash

	entries []tree.Entry
	paths   map[string]tree.Kind // also of the folders above
	max     int                  // of paths
}

// NewFiles returns an empty list; contents go to stream, which writes the file name.
func NewFiles(stream io.Writer, name string) *Files {
	return &Files{stream: stream, name: name, hash: digest.NewHash(), paths: map[string]tree.Kind{}, max: MaxFiles}
}

// Entries returns what was added, sorted by path. The folders above are for
// whoever makes files of it.
func (f *Files) Entries() []tree.Entry {
	sorted := slices.Clone(f.entries)
	tree.SortEntries(sorted)
	return sorted
}

// PathError says which path of an input was refused, and why.
type PathError struct {
	Path, Reason string
}

func (e *PathError) Error() string { return fmt.Sprintf("file %q %s", e.Path, e.Reason) }

// Add adds a regular file. Mode is 0644 or 0755, or what an image says.
func (f *Files) Add(name string, mode uint32, r io.Reader) error {
	f.hash.Reset()
	n, err := io.Copy(io.MultiWriter(f.stream, f.hash), io.LimitReader(r, MaxBytes-f.bytes+1))
	start := f.offset
	f.offset += n
	if err != nil {
		return err
	}
	return f.add(tree.Entry{Path: name, Kind: tree.File, Mode: mode, Size: n, Digest: digest.Sum(f.hash), Content: tree.Section{File: f.name, Offset: start, Size: n}})
}

// AddBlob adds a regular file that is a blob as it is.
func (f *Files) AddBlob(name string, b Blob) error {
	return f.add(tree.Entry{Path: name, Kind: tree.File, Mode: 0o644, Size: b.Pin.Size, Digest: b.Pin.SHA256, Content: tree.Section{File: b.File, Size: b.Pin.Size}})
}

// AddDir adds a folder, for one that is empty or has a mode of its own.
func (f *Files) AddDir(name string, mode uint32) error {
	return f.add(tree.Entry{Path: name, Kind: tree.Dir, Mode: mode})
}

// AddSymlink adds a symbolic link. Where it leads is data, and never followed here.
func (f *Files) AddSymlink(name, target string) error {
	if target == "" || strings.ContainsRune(target, 0) || len(target) > 4096 {
		return &PathError{name, "is a symbolic link to nothing that could be"}
	}
	return f.add(tree.Entry{Path: name, Kind: tree.Symlink, Mode: 0o777, Link: target})
}

// Spool unpacks a tar or zip blob and returns its members, whose contents can
// be opened; none is added yet.
func (f *Files) Spool(b Blob) ([]archive.Entry, error) { return f.spool(b, f.stream) }

// SpoolLayer is Spool for a layer of an image, whose uncompressed bytes have a
// digest of their own: the diff id that the image's configuration names.
func (f *Files) SpoolLayer(b Blob, plain digest.Digest) ([]archive.Entry, error) {
	h := digest.NewHash()
	entries, err := f.spool(b, io.MultiWriter(f.stream, h))
	if err != nil {
		return nil, err
	}
	if got := digest.Sum(h); got != plain {
		return nil, fmt.Errorf("it unpacks to bytes of digest %s, and the image's configuration names %s: no container runtime would take it", got, plain)
	}
	return entries, nil
}

func (f *Files) spool(b Blob, stream io.Writer) ([]archive.Entry, error) {
	start := f.offset
	a, err := archive.Unpack(b, b.Pin.Size, stream, archive.Options{Limits: archive.Limits{Bytes: max(1, MaxBytes-max(f.bytes, f.offset))}})
	if err != nil {
		return nil, err
	}
	f.offset += a.DataSize
	for i := range a.Entries {
		if e := &a.Entries[i]; e.Kind == tree.File && e.Size > 0 {
			e.Content = tree.Section{File: f.name, Offset: start + e.Offset, Size: e.Size}
		}
	}
	return a.Entries, nil
}

// Members is Spool for those who take files only: hard links are files of their own.
func (f *Files) Members(b Blob) ([]archive.Entry, error) {
	entries, err := f.Spool(b)
	if err != nil {
		return nil, err
	}
	byPath := make(map[string]archive.Entry, len(entries))
	for _, e := range entries {
		byPath[e.Path] = e
	}
	for i, e := range entries {
		if e.Kind == tree.Hardlink {
			entries[i] = byPath[e.Link]
			entries[i].Path = e.Path
		}
	}
	return entries, nil
}

// AddArchive unpacks a tar or zip blob below a folder, "" for the top. rename
// turns a member's path into one below the folder, or says that it is left out;
// nil keeps all. Hard links become files of their own.
func (f *Files) AddArchive(folder string, b Blob, rename func(string) (string, bool)) error {
	entries, err := f.Members(b)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := e.Path, true
		if rename != nil {
			name, ok = rename(e.Path)
		}
		if !ok || name == "" {
			continue
		}
		if err := f.AddMember(path.Join(folder, name), e); err != nil {
			return err
		}
	}
	return nil
}

// AddMember adds a member of an archive, as Members lists it, under a name of
// its own. Of its mode, only whether it can be executed is kept.
func (f *Files) AddMember(name string, e archive.Entry) error {
	switch e.Kind {
	case tree.Dir:
		if _, there := f.paths[name]; there {
			return nil
		}
		return f.AddDir(name, 0o755)
	case tree.Symlink:
		return f.AddSymlink(name, e.Link)
	case tree.File:
		mode := uint32(0o644)
		if e.Mode&0o111 != 0 {
			mode = 0o755
		}
		return f.add(tree.Entry{Path: name, Kind: tree.File, Mode: mode, Size: e.Size, Digest: e.Digest, Content: e.Content})
	}
	return &PathError{name, "is neither a file, a folder nor a symbolic link"}
}

// AddEntry adds what an image's layer holds, with owner and mode as they are.
func (f *Files) AddEntry(e tree.Entry) error { return f.add(e) }

func (f *Files) tooMany() error {
	return fmt.Errorf("it has more than %d files and folders", f.max)
}

func (f *Files) add(e tree.Entry) error {
	clean, err := archive.CleanName(e.Path)
	switch {
	case err != nil:
		return &PathError{e.Path, err.Error()}
	case clean == "" || clean != e.Path:
		return &PathError{e.Path, "is not written in its shortest form"}
	case len(f.paths) >= f.max:
		return f.tooMany()
	}
	if f.bytes += e.Size; f.bytes > MaxBytes {
		return fmt.Errorf("its files have more than %d bytes", int64(MaxBytes))
	}
	if k, there := f.paths[e.Path]; there && (k != tree.Dir || e.Kind != tree.Dir) {
		return &PathError{e.Path, "is there twice"}
	}
	for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
		if k, there := f.paths[dir]; there && k != tree.Dir {
			return &PathError{e.Path, fmt.Sprintf("lies below %q, which is not a folder", dir)}
		} else if there {
			break
		}
		if f.paths[dir] = tree.Dir; len(f.paths) >= f.max {
			return f.tooMany()
		}
	}
	f.paths[e.Path] = e.Kind
	if e.Size == 0 {
		e.Content = nil
	}
	f.entries = append(f.entries, e)
	return nil
}
