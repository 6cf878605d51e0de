package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"quorate.dev/builder/layer"
	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

// BlobSource opens the layers of images by digest. When it also has a method
// Path(digest.Digest) (string, bool), layouts on the same file system get hard
// links instead of copies.
type BlobSource interface {
	Open(digest.Digest) (io.ReadCloser, error)
}

// pathSource is the other method of a BlobSource.
type pathSource interface {
	Path(digest.Digest) (string, bool)
}

// layoutVersion is the whole of the file "oci-layout" (OCI image-spec, image-layout.md).
const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// TargetError says that an output's place holds something that is not ours to replace.
type TargetError struct {
	Path string
}

func (e *TargetError) Error() string {
	return fmt.Sprintf("cannot write image to %q: it is there and is not an OCI image layout", e.Path)
}

// layout is the list of files of an OCI image layout, every one with contents.
func layout(images []Image, blobs BlobSource) ([]tree.Entry, error) {
	if len(images) == 0 {
		return nil, errors.New("no image to write")
	}
	top, nested, err := topIndex(images)
	if err != nil {
		return nil, err
	}
	created := images[0].Created.Unix()
	files := map[string]tree.Entry{}
	add := func(e tree.Entry) { files[e.Path] = e }
	add(tree.NewFile("oci-layout", 0o644, created, []byte(layoutVersion)))
	add(tree.NewFile("index.json", 0o644, created, top))
	if nested != nil {
		add(tree.NewFile(blobPath(digest.Of(nested)), 0o644, created, nested))
	}
	for i := range images {
		img := &images[i]
		add(tree.NewFile(blobPath(img.ManifestDigest), 0o644, created, img.Manifest))
		add(tree.NewFile(blobPath(img.ConfigDigest()), 0o644, created, img.Config))
		for _, l := range img.Layers {
			add(tree.Entry{
				Path: blobPath(l.Digest), Kind: tree.File, Mode: 0o644, ModTime: created,
				Size: l.Size, Digest: l.Digest, Content: blob{blobs, l.Digest},
			})
		}
	}
	list := make([]tree.Entry, 0, len(files))
	for _, e := range files {
		list = append(list, e)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Path < list[j].Path })
	return list, nil
}

func blobPath(d digest.Digest) string { return "blobs/sha256/" + d.Hex() }

// blob is the Content of a layer.
type blob struct {
	source BlobSource
	digest digest.Digest
}

func (b blob) Open() (io.ReadCloser, error) { return b.source.Open(b.digest) }

// WriteOCI writes an OCI image layout to dir, its reference named "latest";
// several images, of different platforms, are put under one image index. An
// image layout that is there is replaced; anything else but an empty folder is
// left alone with a *TargetError. The layout is made beside dir and renamed,
// so that dir never holds half of one.
func WriteOCI(dir string, images []Image, blobs BlobSource) error {
	files, err := layout(images, blobs)
	if err != nil {
		return fmt.Errorf("cannot write image to %q: %w", dir, err)
	}
	dir = filepath.Clean(dir)
	if err := checkTarget(dir); err != nil {
		return err
	}
	aside, err := makeAside(dir, true)
	if err != nil {
		return fmt.Errorf("cannot write image to %q: %w", dir, err)
	}
	defer aside.Close()
	defer os.RemoveAll(aside.Name())
	if err := fillLayout(aside.Name(), files); err != nil {
		return fmt.Errorf("cannot write image to %q: %w", dir, err)
	}
	if err := replaceDir(dir, aside.Name()); err != nil {
		return fmt.Errorf("cannot write image to %q: %w", dir, err)
	}
	return nil
}

// CheckOCI reports what WriteOCI would refuse about dir, before there is an image to write.
func CheckOCI(dir string) error { return checkTarget(filepath.Clean(dir)) }

// CheckArchive is the same for WriteOCIArchive and WriteDockerArchive.
func CheckArchive(file string) error {
	if fi, err := os.Stat(file); err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("cannot write image to %q: it is there and is not a regular file", file)
	}
	return nil
}

func checkTarget(dir string) error {
	list, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0:
		return nil
	case err != nil:
		if fi, serr := os.Stat(dir); serr == nil && !fi.IsDir() {
			return &TargetError{dir}
		}
		return fmt.Errorf("cannot write image to %q: %w", dir, err)
	}
	if _, err := readSmall(filepath.Join(dir, "oci-layout")); err != nil {
		return &TargetError{dir}
	}
	return nil
}

// fillLayout writes the files below dir, which is empty.
func fillLayout(dir string, files []tree.Entry) error {
	// Explicit modes: an image does not depend on the umask.
	for _, sub := range []string{"", "blobs", "blobs/sha256"} {
		p := filepath.Join(dir, filepath.FromSlash(sub))
		if err := os.MkdirAll(p, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(p, 0o755); err != nil {
			return err
		}
	}
	for _, e := range files {
		to := filepath.Join(dir, filepath.FromSlash(e.Path))
		linked, err := link(e, to)
		if err == nil && !linked {
			err = copyFile(e, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// link makes to a hard link of the blob's own file, when that can be, and
// checks its bytes: a damaged store must not become an image.
func link(e tree.Entry, to string) (bool, error) {
	b, ok := e.Content.(blob)
	if !ok {
		return false, nil
	}
	source, ok := b.source.(pathSource)
	if !ok {
		return false, nil
	}
	from, ok := source.Path(b.digest)
	if !ok {
		return false, nil
	}
	if os.Link(from, to) != nil {
		return false, nil // another file system, or a file of somebody else's
	}
	r, err := tree.Open(e)
	if err != nil {
		return false, err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return true, err
}

func copyFile(e tree.Entry, to string) error {
	r, err := tree.Open(e)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return finishFile(f, func() error { _, err := io.Copy(f, r); return err })
}

// finishFile runs write, then makes f's mode and bytes last.
func finishFile(f *os.File, write func() error) error {
	err := write()
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// replaceDir puts the folder aside in the place of dir, and what was there
// aside. A folder cannot be renamed over a full one; where the system cannot
// exchange the two, the old one steps back first and returns if that fails.
func replaceDir(dir, aside string) error {
	if err := os.Rename(aside, dir); err == nil {
		return syncDir(filepath.Dir(dir))
	}
	if err := exchange(aside, dir); err == nil {
		return syncDir(filepath.Dir(dir))
	}
	old := aside + ".old"
	if err := os.Rename(dir, old); err != nil {
		return err
	}
	if err := os.Rename(aside, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return errors.Join(syncDir(filepath.Dir(dir)), os.RemoveAll(old))
}

// syncDir makes a rename last. Not every system can, which is no error.
func syncDir(dir string) error {
	if f, err := os.Open(dir); err == nil {
		_ = f.Sync()
		_ = f.Close()
	}
	return nil
}

// WriteOCIArchive writes the layout of WriteOCI as one tar file, always the
// same bytes for the same images. A file that is there is replaced.
func WriteOCIArchive(file string, images []Image, blobs BlobSource) error {
	files, err := layout(images, blobs)
	if err != nil {
		return fmt.Errorf("cannot write image to %q: %w", file, err)
	}
	return writeTar(file, images[0].Created.Unix(), files)
}

// dockerManifest is the file manifest.json of "docker save", one for each image.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// WriteDockerArchive writes one image as a tar file that "docker load" takes
// and names name:latest. It holds an OCI layout too, as archives of docker save
// do since version 25, for engines that keep images in containerd.
func WriteDockerArchive(file, name string, img Image, blobs BlobSource) error {
	files, err := layout([]Image{img}, blobs)
	if err != nil {
		return fmt.Errorf("cannot write image to %q: %w", file, err)
	}
	m := dockerManifest{Config: blobPath(img.ConfigDigest()), RepoTags: []string{name + ":" + tag}}
	for _, l := range img.Layers {
		m.Layers = append(m.Layers, blobPath(l.Digest))
	}
	b, err := json.Marshal([]dockerManifest{m})
	if err != nil {
		return fmt.Errorf("cannot write image to %q: %w", file, err)
	}
	top, err := index([]Image{img}, map[string]string{refName: tag, "io.containerd.image.name": "docker.io/library/" + name + ":" + tag})
	if err != nil {
		return fmt.Errorf("cannot write image to %q: %w", file, err)
	}
	created := img.Created.Unix()
	for i := range files {
		if files[i].Path == "index.json" {
			files[i] = tree.NewFile("index.json", 0o644, created, top)
		}
	}
	files = append(files, tree.NewFile("manifest.json", 0o644, created, b))
	return writeTar(file, created, files)
}

// writeTar writes the files as a tar beside its place and renames it.
func writeTar(file string, epoch int64, files []tree.Entry) (err error) {
	if err := CheckArchive(file); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write image to %q: %w", file, err)
		}
	}()
	aside, err := makeAside(file, false)
	if err != nil {
		return err
	}
	defer aside.Close()           // it holds the lock until the file has its name
	defer os.Remove(aside.Name()) // fails when all went well
	f, err := os.OpenFile(aside.Name(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = finishFile(f, func() error {
		_, err := layer.Write(f, tree.WithParents(files), layer.Options{Epoch: epoch, Compression: layer.Uncompressed})
		return err
	})
	if err != nil {
		return err
	}
	if err := os.Rename(aside.Name(), file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}
