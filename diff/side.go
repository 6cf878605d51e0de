package diff

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// input is a side, opened.
type input struct {
	Side
	images *images
	whole  bool     // the layers of images were held against their digests
	src    source   // of a file or tar
	tree   *tree    // of a folder
	read   []*entry // of it, whose contents were looked into
	done   <-chan struct{}
	spool  *spool // what a packed archive unpacked to
	closes []io.Closer
}

func (in *input) close() error {
	var all error
	for _, c := range in.closes {
		all = errors.Join(all, c.Close())
	}
	return errors.Join(all, in.spool.close())
}

// openInput finds out what a side is. The sources it opens live until close.
func (c *opener) openInput(name string) (in *input, err error) {
	in = &input{Side: Side{Name: name}, done: c.o.Done}
	defer func() {
		if err != nil {
			in.close()
			var known *InputError
			var remote *RemoteError
			if err != ErrStopped && !errors.As(err, &known) && !errors.As(err, &remote) {
				err = &InputError{Side: name, Err: err}
			}
		}
	}()
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) && looksRemote(name) {
		return in, &RemoteError{Side: name}
	}
	if err != nil {
		return in, short(err)
	}
	switch {
	case info.IsDir():
		if isLayout(name) {
			in.Kind = KindLayout
			in.images, err = openOCI(name, folderFiles{name})
			return in, errOr(err, func() error { return in.imageSide(c.o) })
		}
		in.Kind = KindFolder
		return in, c.folder(in, name)
	case !info.Mode().IsRegular():
		return in, errors.New("neither a regular file nor a folder")
	}
	s, err := openSource(name)
	if err != nil {
		return in, err
	}
	in.closes = append(in.closes, s)
	in.src, in.Size = s, s.size
	return in, c.archive(in)
}

func errOr(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// looksRemote reports whether a name that is no file could be an image reference.
func looksRemote(name string) bool {
	for _, scheme := range []string{"docker://", "oci://", "http://", "https://"} {
		if strings.HasPrefix(name, scheme) {
			return true
		}
	}
	first, rest, ok := strings.Cut(name, "/")
	return ok && rest != "" && (strings.ContainsAny(first, ".:") && first != "." && first != ".." || first == "localhost") ||
		strings.Contains(path.Base(name), ":") || strings.Contains(name, "@sha256:")
}

// RemoteError says that a side looks like an image in a registry. This package
// has no network; a caller that has pulls the image into a layout first.
type RemoteError struct{ Side string }

func (e *RemoteError) Error() string {
	return fmt.Sprintf("cannot compare %q: no such file or folder; an image from elsewhere has to be brought here first", e.Side)
}

// Hint says what to do about it.
func (e *RemoteError) Hint() string {
	if scheme, rest, ok := strings.Cut(e.Side, "://"); ok {
		return fmt.Sprintf("name it without %q: %s", scheme+"://", rest)
	}
	if _, digest, ok := strings.Cut(e.Side, "@"); ok && !digestForm.MatchString(digest) {
		return fmt.Sprintf("%q is no digest: expected sha256: and 64 hexadecimal digits", clip(digest))
	}
	return "name the image's registry, as in registry.example/app:1, or save the image: `docker save " + e.Side + " -o image.tar`"
}

func isLayout(dir string) bool {
	index, err := os.Stat(filepath.Join(dir, "index.json"))
	if err != nil || !index.Mode().IsRegular() {
		return false
	}
	for _, name := range []string{"oci-layout", "blobs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// imageSide fills in what a side with images says of itself.
func (in *input) imageSide(o Options) error {
	h := sha256.New()
	if o.NoIndex {
		fmt.Fprintln(h, in.images.digests())
	} else {
		h.Write(in.images.index)
	}
	if in.images.docker {
		for _, i := range in.images.list {
			h.Write(i.config)
		}
	}
	in.Images = in.images.digests()
	in.Digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
	return nil
}

// archive tells OCI and docker archives from other files.
func (c *opener) archive(in *input) error {
	s := in.src
	packer := packerOf(s.head(headSize))
	packed := s
	var plain io.ReadCloser = io.NopCloser(s.reader())
	if packer != nil {
		var err error
		if plain, err = packer.open(s.reader()); err != nil {
			in.Kind = KindFile
			return in.sum()
		}
	}
	first := firstName(plain)
	plain.Close()
	if first == "" {
		in.Kind = KindFile
		return in.sum()
	}
	in.Kind = KindTar
	if !imageName(first) {
		return in.sum()
	}
	if packer != nil {
		// Parts of an image are read in any order.
		var err error
		if in.spool, err = newSpool(c.o.Temp); err != nil {
			return err
		}
		r, err := packer.open(s.reader())
		if err != nil {
			return err
		}
		defer r.Close()
		if _, err := io.Copy(in.spool, &limitReader{r: &watched{r: r, done: c.o.Done}, left: maxTar}); err != nil {
			return err
		}
		packed = in.spool.since(0)
	}
	members, err := tarIndex(packed)
	if err != nil {
		return err
	}
	f := archiveFiles{packed, members}
	switch {
	case members["index.json"] != (Range{}) && (members["oci-layout"] != (Range{}) || members["manifest.json"] == (Range{})):
		if _, blobs := members["oci-layout"]; !blobs && !hasBlobs(members) {
			return in.sum()
		}
		in.Kind = KindArchive
		in.images, err = openOCI(in.Name, f)
	case members["manifest.json"] != (Range{}) && isDockerManifest(f):
		in.Kind = KindDocker
		in.images, err = openDocker(in.Name, f)
	default:
		return in.sum()
	}
	return errOr(err, func() error { return in.imageSide(c.o) })
}

func hasBlobs(members map[string]Range) bool {
	for name := range members {
		if strings.HasPrefix(name, "blobs/sha256/") {
			return true
		}
	}
	return false
}

func isDockerManifest(f files) bool {
	s, err := f.file("manifest.json")
	if err != nil || s.size > maxDocument {
		return false
	}
	b, err := s.load()
	return err == nil && bytes.Contains(b, []byte(`"Layers"`)) && bytes.Contains(b, []byte(`"Config"`))
}

// firstName is the first name in a tar, "" for what is none. "." stands before
// everything else when a folder was packed whole.
func firstName(r io.Reader) string {
	t := newTarReader(r, nil)
	name := ""
	for range 3 {
		e, err := t.next()
		if err != nil {
			return name
		}
		if name = e.path; name != "." || e.size != 0 {
			return name
		}
	}
	return name
}

// imageName reports whether an archive that begins with this name may hold an image.
func imageName(name string) bool {
	if name == "index.json" || name == "manifest.json" || name == "oci-layout" || name == "repositories" || name == "blobs" || strings.HasPrefix(name, "blobs/") {
		return true
	}
	stem := strings.TrimPrefix(name, "sha256:") // docker save, and other writers of its format
	if i := strings.IndexAny(stem, "./"); i >= 0 {
		stem = stem[:i]
	}
	_, err := hex.DecodeString(stem)
	return err == nil && len(stem) == 64
}

// sum fills in the digest of a file.
func (in *input) sum() error {
	h := sha256.New()
	if _, err := io.Copy(h, &watched{r: in.src.reader(), done: in.done}); err != nil {
		return err
	}
	in.Digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
	return nil
}

// tarIndex finds the files of a tar without reading them. Later entries replace
// earlier ones, as they do when unpacked. What breaks the format ends it.
func tarIndex(s source) (map[string]Range, error) {
	out := map[string]Range{}
	at := int64(0)
	t := newTarReader(nil, nil)
	for len(out) < maxEntries && at < s.size {
		t.r, t.at = s.sub(at, s.size-at).reader(), 0
		e, err := t.next()
		if err != nil {
			return out, nil
		}
		size := e.size
		data := at + e.head
		if size > s.size-data {
			return out, nil
		}
		if e.kind == '0' && size > 0 {
			out[e.path] = Range{data, size}
		}
		at = data + (size+tarBlock-1)/tarBlock*tarBlock
	}
	return out, nil
}

// archiveFiles are the members of a tar.
type archiveFiles struct {
	src     source
	members map[string]Range
}

func (f archiveFiles) file(name string) (source, error) {
	r, ok := f.members[cleanPath(name)]
	if !ok {
		return source{}, fs.ErrNotExist
	}
	return f.src.sub(r.Offset, r.Length), nil
}

// folderFiles are the files of a folder.
type folderFiles struct{ dir string }

func (f folderFiles) file(name string) (source, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return source{}, errors.New("leads out of the folder")
	}
	return openSource(filepath.Join(f.dir, filepath.FromSlash(name)))
}

// openSource opens a regular file; opening a fifo would wait for ever.
func openSource(name string) (source, error) {
	info, err := os.Stat(name)
	if err != nil {
		return source{}, short(err)
	}
	if !info.Mode().IsRegular() {
		return source{}, errors.New("not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return source{}, short(err)
	}
	// The file may have changed its size since; this one counts.
	if info, err = f.Stat(); err != nil {
		f.Close()
		return source{}, short(err)
	}
	return source{r: f, size: info.Size(), file: f}, nil
}

// short drops the path of a *fs.PathError, which an InputError gives already.
func short(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
