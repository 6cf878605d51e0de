package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"quorate.dev/builder/filelock"
	"quorate.dev/lockfile/digest"
)

// layoutVersion is the whole of the file "oci-layout".
const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// Names of a layout's parts (image-spec, image-layout.md).
const (
	versionFile = "oci-layout"
	indexFile   = "index.json"
	blobsFolder = "blobs/sha256"
)

// LayoutError says that a folder is no layout, or not one with what was asked for.
type LayoutError struct {
	Dir, Reason string
	Kind        Kind // NotFound for what is not there
}

func (e *LayoutError) Error() string { return fmt.Sprintf("%q %s", e.Dir, e.Reason) }

// layoutDir is a layout's folder while something is done in it. Nothing is
// reached through it that lies elsewhere.
type layoutDir struct {
	*os.Root
	dir string
}

// openLayoutDir opens a folder that is there; it need not be a layout yet.
func openLayoutDir(dir string) (*layoutDir, error) {
	root, err := os.OpenRoot(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, notLayout(dir)
	case err != nil:
		if fi, serr := os.Stat(dir); serr == nil && !fi.IsDir() {
			return nil, &LayoutError{Dir: dir, Reason: "is there and is not a folder"}
		}
		return nil, err
	}
	return &layoutDir{root, dir}, nil
}

func notLayout(dir string) error {
	return &LayoutError{Dir: dir, Reason: "is no OCI image layout, or not a whole one", Kind: NotFound}
}

// makeLayoutDir opens a layout to write to, and makes one of a new or empty folder.
func makeLayoutDir(dir string) (*layoutDir, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l, err := openLayoutDir(dir)
	if err != nil {
		return nil, err
	}
	if err := l.claim(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// claim makes a layout of a folder that holds nothing else.
func (l *layoutDir) claim() error {
	switch _, err := l.Lstat(versionFile); {
	case err == nil:
		return errors.Join(l.checkVersion(), l.MkdirAll(blobsFolder, 0o755))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := l.holdsNothingElse(); err != nil {
		return err
	}
	if err := l.MkdirAll(blobsFolder, 0o755); err != nil {
		return err
	}
	return l.replace(versionFile, strings.NewReader(layoutVersion))
}

// holdsNothingElse refuses a folder with files that are not of a layout.
func (l *layoutDir) holdsNothingElse() error {
	list, err := fs.ReadDir(l.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range list {
		switch name := e.Name(); {
		case name == "blobs", name == versionFile, name == indexFile, strings.HasPrefix(name, asidePrefix):
		default:
			return &LayoutError{Dir: l.dir, Reason: fmt.Sprintf("is there and holds %q, which is not of an OCI image layout", name)}
		}
	}
	return nil
}

// checkVersion refuses layouts that are of another version than 1.0.0.
func (l *layoutDir) checkVersion() error {
	raw, err := l.document(versionFile)
	if errors.Is(err, fs.ErrNotExist) {
		return notLayout(l.dir)
	}
	if err != nil {
		return err
	}
	var v struct{ ImageLayoutVersion string }
	if err := json.Unmarshal(raw, &v); err != nil || v.ImageLayoutVersion != "1.0.0" {
		return &LayoutError{Dir: l.dir, Reason: fmt.Sprintf("is an OCI image layout of version %.64q, expected \"1.0.0\"", v.ImageLayoutVersion)}
	}
	return nil
}

// blobName is where a layout keeps a blob.
func blobName(d digest.Digest) string { return path.Join(blobsFolder, d.Hex()) }

// open opens a regular file: a pipe would make us wait, a device has no end.
func (l *layoutDir) open(name string) (*os.File, error) {
	fi, err := l.Stat(name)
	if err == nil && !fi.Mode().IsRegular() {
		return nil, &LayoutError{Dir: l.dir, Reason: fmt.Sprintf("holds %q, which is no regular file", name)}
	}
	if err == nil {
		return l.Open(name)
	}
	if link, lerr := l.Lstat(name); lerr == nil && link.Mode()&fs.ModeSymlink != 0 {
		return nil, &LayoutError{Dir: l.dir, Reason: fmt.Sprintf("holds %q, a symbolic link that leads out of it or nowhere", name)}
	}
	return nil, err
}

// document reads a file of limited size.
func (l *layoutDir) document(name string) ([]byte, error) {
	f, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, manifestMax, "file "+path.Base(name))
}

// blobDocument reads a document by its digest.
func (l *layoutDir) blobDocument(d Descriptor) ([]byte, error) {
	raw, err := l.document(blobName(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.lacks(d.Digest)
	}
	if err != nil {
		return nil, err
	}
	if got := digest.Of(raw); got != d.Digest {
		return nil, &digest.MismatchError{Want: d.Digest, Got: got}
	}
	if int64(len(raw)) != d.Size {
		return nil, &digest.SizeError{Want: d.Size, Got: int64(len(raw))}
	}
	return raw, nil
}

// lacks says that a blob is missing.
func (l *layoutDir) lacks(d digest.Digest) error {
	return &LayoutError{Dir: l.dir, Reason: "lacks the blob " + d.String(), Kind: NotFound}
}

// openBlob opens a blob; reading to its end checks it.
func (l *layoutDir) openBlob(ctx context.Context, d digest.Digest, size int64) (io.ReadCloser, error) {
	f, err := l.open(blobName(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.lacks(d)
	}
	if err != nil {
		return nil, err
	}
	return readCloser{cancelled{ctx, digest.NewReader(f, d, size)}, f}, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c cancelled) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// fill takes a blob, unless its bytes are there.
func (l *layoutDir) fill(ctx context.Context, c *content) error {
	if there, err := l.openBlob(ctx, c.digest, c.size); err == nil {
		_, err = io.Copy(io.Discard, there)
		there.Close()
		if err == nil {
			return nil
		}
	}
	r, err := c.Compressed()
	if err != nil {
		return err
	}
	defer r.Close()
	return l.replace(blobName(c.digest), cancelled{ctx, r})
}

// asidePrefix begins the names of files that are being written. They are
// locked for as long, so that what a killed process left can be told and removed.
const asidePrefix = ".new-"

// replace writes a file beside its place, syncs it and gives it its name.
func (l *layoutDir) replace(name string, r io.Reader) error {
	f, err := l.aside(path.Dir(name))
	if err != nil {
		return err
	}
	defer f.Close() // not before it has its name: the lock keeps it from being swept
	aside := path.Join(path.Dir(name), filepath.Base(f.Name()))
	defer l.Remove(aside) // fails when all went well
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil && !renamesOpen {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	return l.Rename(aside, name)
}

// renamesOpen says whether a file may get another name while it is open. Where
// it may not, nothing is swept.
const renamesOpen = runtime.GOOS != "windows"

// aside makes a file that nobody else knows. It may be swept away before it is
// locked; then it is made anew.
func (l *layoutDir) aside(folder string) (*os.File, error) {
	for {
		name := path.Join(folder, asidePrefix+rand.Text())
		f, err := l.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return nil, err
		}
		switch err := filelock.Try(f, filelock.Exclusive); {
		case errors.Is(err, filelock.ErrLocked):
			// By a sweeper, which is about to remove it.
		case err != nil:
			return f, nil // a file system without locks: nobody takes it for abandoned either
		default:
			mine, err := f.Stat()
			if err != nil {
				return nil, errors.Join(err, f.Close())
			}
			if now, err := l.Lstat(name); err == nil && os.SameFile(mine, now) {
				return f, nil
			}
		}
		_ = f.Close()
	}
}

// sweep removes what killed writers left.
func (l *layoutDir) sweep() {
	if !renamesOpen {
		return
	}
	for _, folder := range []string{".", blobsFolder} {
		list, err := fs.ReadDir(l.FS(), folder)
		if err != nil {
			continue // writing there will say why
		}
		for _, e := range list {
			name := path.Join(folder, e.Name())
			if !strings.HasPrefix(e.Name(), asidePrefix) || !e.Type().IsRegular() {
				continue
			}
			f, err := l.Open(name)
			if err != nil {
				continue
			}
			if filelock.Try(f, filelock.Exclusive) == nil {
				_ = l.Remove(name)
			}
			_ = f.Close()
		}
	}
}

// sync makes renames in a folder last. Not every system can, which is no error.
func (l *layoutDir) sync(folder string) {
	if f, err := l.Open(folder); err == nil {
		_ = f.Sync()
		_ = f.Close()
	}
}

// lockTime is how long a writer waits for its turn: one turn is one small file
// written, so whoever has it for a minute hangs.
const lockTime = time.Minute

// lock waits for this writer's turn; close the file to end it.
func (l *layoutDir) lock(ctx context.Context) (*os.File, error) {
	for began := time.Now(); ; {
		f, err := l.open(versionFile)
		if err != nil {
			return nil, err
		}
		err = filelock.Try(f, filelock.Exclusive)
		if !errors.Is(err, filelock.ErrLocked) {
			// Another kind of error is a file system without locks. Where the file
			// was replaced meanwhile, the lock is of one that others do not see.
			mine, serr := f.Stat()
			if now, lerr := l.Stat(versionFile); serr == nil && lerr == nil && os.SameFile(mine, now) {
				return f, nil
			}
		}
		_ = f.Close()
		if time.Since(began) > lockTime {
			return nil, &LayoutError{Dir: l.dir, Reason: fmt.Sprintf("is being written to by another process, for more than %s", lockTime)}
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// writeIndex gives the layout its index, which is what makes blobs count.
func (l *layoutDir) writeIndex(raw []byte) error {
	if len(raw) > manifestMax {
		return &limitError{fmt.Sprintf("the index of %q would have %d bytes; at most %d are read", l.dir, len(raw), manifestMax)}
	}
	l.sync(blobsFolder)
	if err := l.replace(indexFile, bytes.NewReader(raw)); err != nil {
		return err
	}
	l.sync(".")
	return nil
}
