package docker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"quorate.dev/builder/store"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
)

// input is a blob that a job needs.
type input struct {
	name   string
	digest digest.Digest
}

// inputsOf lists the blobs of a job, each once: what the lock names for the
// wanted platforms, and local inputs.
func inputsOf(job host.Job) ([]input, error) {
	var list []input
	seen := map[digest.Digest]bool{}
	add := func(name string, d digest.Digest) {
		if !seen[d] {
			seen[d] = true
			list = append(list, input{name, d})
		}
	}
	lock, err := lockfile.Parse(lockfile.FileName, job.Lock)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, p := range job.Platforms {
		wanted[p] = true
	}
	for _, p := range lock.Platforms {
		if len(wanted) > 0 && !wanted[p.Platform.String()] {
			continue
		}
		for _, pin := range p.Packages {
			add(pin.Name+" "+pin.Version, pin.SHA256)
		}
	}
	for _, f := range lock.Files {
		add("file "+f.Name, f.SHA256)
	}
	for _, pin := range lock.Pins {
		if pin.Platform == "" || len(wanted) == 0 || wanted[pin.Platform] {
			add(pin.Name+" "+pin.Version, pin.SHA256)
		}
	}
	for name, l := range job.Locals {
		add("input "+name, l.Archive)
	}
	return list, nil
}

// send copies the work folder and the inputs into the container's volume. What
// is sent is held against its digest while it is read; the worker does the same.
func (c *worker) send(ctx context.Context, job host.Job, row Row) error {
	var inputs []input
	var from *store.Store
	if job.InputStore != "" {
		var err error
		if inputs, err = inputsOf(job); err != nil {
			return err
		}
		if from, err = store.Open(job.InputStore, store.Options{ReadOnly: true}); err != nil {
			return err
		}
		defer from.Close()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(w, inputs, from, row.uid)
		w.CloseWithError(err)
		packed <- err
	}()
	err := c.engine.api.CopyToContainer(ctx, c.id, workVolume, r, container.CopyToContainerOptions{})
	r.CloseWithError(errors.New("the engine takes no more")) // ends pack, which would wait for ever
	ours := <-packed
	var missing *inputError
	if errors.As(ours, &missing) {
		return ours
	}
	if err != nil {
		return c.engine.failed("take the inputs", err)
	}
	return nil
}

// inputError is an input that cannot be read on this side.
type inputError struct {
	name string
	err  error
}

func (e *inputError) Error() string { return fmt.Sprintf("cannot send %s: %v", e.name, e.err) }
func (e *inputError) Unwrap() error { return e.err }

// pack writes the volume's first content as tar: folders of the worker's user,
// and the blobs as a store has them.
func pack(w io.Writer, inputs []input, from *store.Store, uid int) error {
	t := tar.NewWriter(w)
	folder := func(name string) error {
		return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, Uid: uid, Gid: uid, ModTime: time.Unix(0, 0)})
	}
	folders := []string{path.Base(workDir)}
	if from != nil {
		base := path.Base(inputsDir)
		folders = append(folders, base, base+"/blobs", base+"/blobs/sha256")
	}
	for _, f := range folders {
		if err := folder(f); err != nil {
			return err
		}
	}
	for _, in := range inputs {
		if err := packBlob(t, in, from, uid); err != nil {
			return err
		}
	}
	return t.Close()
}

func packBlob(t *tar.Writer, in input, from *store.Store, uid int) error {
	file, ok := from.Path(in.digest)
	if !ok {
		return &inputError{in.name, errors.New("the store does not have it")}
	}
	info, err := os.Stat(file)
	if err != nil {
		return &inputError{in.name, err}
	}
	r, err := from.Open(in.digest)
	if err != nil {
		return &inputError{in.name, err}
	}
	defer r.Close()
	h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Base(inputsDir) + "/blobs/sha256/" + in.digest.Hex(), Mode: 0o644, Size: info.Size(), Uid: uid, Gid: uid, ModTime: time.Unix(0, 0)}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	var source readError
	source.r = r
	if _, err := io.Copy(t, &source); err != nil {
		if source.err != nil {
			return &inputError{in.name, source.err}
		}
		return err
	}
	return nil
}

// readError remembers that it was reading that failed, and not writing.
type readError struct {
	r   io.Reader
	err error
}

func (e *readError) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}

const (
	// maxOutput is twice what steps may write in all (the sandbox's default, 16 GiB).
	maxOutput = 32 << 30
	// maxOutputFiles: an image has at most 127 layers and three documents for each of
	// a handful of platforms.
	maxOutputFiles = 10_000
)

// take copies the worker's output into the new folder to.
func (c *worker) take(ctx context.Context, to string) error {
	from := path.Join(workDir, "output")
	r, _, err := c.engine.api.CopyFromContainer(ctx, c.id, from)
	if err != nil {
		return c.engine.failed("give what a worker built", err)
	}
	defer r.Close()
	if err := unpack(r, path.Base(from), to); err != nil {
		return fmt.Errorf("cannot keep the worker's output: %w", errors.Join(err, os.RemoveAll(to)))
	}
	return nil
}

// unpack writes the folder base of a tar to the new folder to: folders and
// regular files alone, so that no link of a worker leads anywhere.
func unpack(r io.Reader, base, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(r)
	left, files := int64(maxOutput), 0
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &host.ProtocolError{Reason: fmt.Sprintf("its output is no archive: %v", err)}
		}
		name := path.Clean(h.Name)
		if name == base && h.Typeflag == tar.TypeDir {
			continue // the folder itself
		}
		inside, ok := strings.CutPrefix(name, base+"/")
		if !ok {
			return &host.ProtocolError{Reason: fmt.Sprintf("its output holds %q", h.Name)}
		}
		if files++; files > maxOutputFiles {
			return &host.ProtocolError{Reason: fmt.Sprintf("its output has more than %d files", maxOutputFiles)}
		}
		if left -= h.Size; left < 0 {
			return &host.ProtocolError{Reason: fmt.Sprintf("its output has more than %d bytes", int64(maxOutput))}
		}
		if err := unpackOne(root, inside, h, t); err != nil {
			return err
		}
	}
}

func unpackOne(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return root.Mkdir(name, 0o755)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	}
	return &host.ProtocolError{Reason: fmt.Sprintf("its output holds %q, which is neither a file nor a folder", h.Name)}
}
