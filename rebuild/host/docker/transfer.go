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

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"quorate.dev/builder/store"
	"quorate.dev/rebuild/host"
)

// send makes the work folder in the container's volume, with the local inputs
// in the store that will be the worker's own. What is sent is held against its digest
// while it is read; the worker does the same.
func (c *worker) send(ctx context.Context, job host.Job, row Row) error {
	var inputs []input
	var from *store.Store
	if len(job.Locals) > 0 && job.InputStore != "" {
		for name, l := range job.Locals {
			inputs = append(inputs, input{name: "input " + name, digest: l.Archive})
		}
		var err error
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

// pack writes the volume's first content as tar: folders of the worker's user,
// and blobs as a store has them.
func pack(w io.Writer, inputs []input, from *store.Store, uid int) error {
	t := tar.NewWriter(w)
	job := path.Base(workDir)
	folders := []string{job}
	if len(inputs) > 0 {
		folders = append(folders, job+"/store", job+"/store/blobs", job+"/store/blobs/sha256")
	}
	for _, name := range folders {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, Uid: uid, Gid: uid, ModTime: time.Unix(0, 0)}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
	}
	for _, in := range inputs {
		if err := packBlob(t, job+"/store/blobs/sha256/"+in.digest.Hex(), in, from, uid); err != nil {
			return err
		}
	}
	return t.Close()
}

const (
	// maxOutput is twice what steps may write in all (the sandbox's default, 16 GiB).
	maxOutput = 32 << 30
	// maxOutputFiles: an image has at most 127 layers and three documents for each of
	// a handful of platforms.
	maxOutputFiles = 10_000
)

// takes of the output in all; the container has it until it is removed, so that a line that
// was cut costs no build.
const takes = 3

// take copies the worker's output into the new folder to.
func (c *worker) take(ctx context.Context, to string, pause time.Duration) error {
	for n := 1; ; n++ {
		err := c.takeOnce(ctx, to)
		var failed *EngineError
		if err == nil || n == takes || ctx.Err() != nil || !errors.As(err, &failed) || !failed.MayPass() {
			return err
		}
		select {
		case <-time.After(time.Duration(n) * pause):
		case <-ctx.Done():
		}
	}
}

func (c *worker) takeOnce(ctx context.Context, to string) error {
	from := path.Join(workDir, "output")
	r, _, err := c.engine.api.CopyFromContainer(ctx, c.id, from)
	if err != nil {
		return c.engine.failed("give what a worker built", err)
	}
	defer r.Close()
	source := &readError{r: r}
	err = unpack(source, path.Base(from), to)
	if err == nil {
		return nil
	}
	err = errors.Join(err, os.RemoveAll(to))
	if source.err != nil {
		return c.engine.failed("give what a worker built", source.err)
	}
	return fmt.Errorf("cannot keep the worker's output: %w", err)
}

// takeLists copies the lists of what the worker's steps left. None of what goes wrong costs
// the answer.
func (c *worker) takeLists(ctx context.Context, lists *host.Lists) {
	r, _, err := c.engine.api.CopyFromContainer(ctx, c.id, path.Join(workDir, host.ListsDir))
	if errdefs.IsNotFound(err) {
		return // it made none
	}
	if err != nil {
		lists.Refuse("%v", c.engine.failed("give the lists", err))
		return
	}
	defer r.Close()
	unpackLists(r, lists)
}

func unpackLists(r io.Reader, lists *host.Lists) {
	t := tar.NewReader(r)
	for more := true; more; {
		h, err := t.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			lists.Refuse("they come in no archive: %v", err)
			return
		}
		name, inside := strings.CutPrefix(path.Clean(h.Name), host.ListsDir+"/")
		switch {
		case !inside && h.Typeflag == tar.TypeDir:
		case !inside || h.Typeflag != tar.TypeReg:
			more = lists.RefuseFile(h.Name)
		default:
			more = lists.Take(name, h.Size, t)
		}
	}
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
