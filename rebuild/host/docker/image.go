package docker

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"quorate.dev/builder/image"
	"quorate.dev/builder/layer"
	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

// program is where the worker's image has its only file.
const program = "/quorate"

// programLabel is the image's label with the digest of its program.
const programLabel = "dev.quorate.program"

// workerImage is the image of a program, its layer in a file.
type workerImage struct {
	image.Image
	name  string // of the repository
	layer string // file
	mark  string // value of programLabel
}

// Open is image.BlobSource.
func (w *workerImage) Open(d digest.Digest) (io.ReadCloser, error) {
	if d != w.Layers[0].Digest {
		return nil, fmt.Errorf("the worker's image has no blob %s", d)
	}
	return os.Open(w.layer)
}

// makeImage makes the image of a program in the folder dir. The same program
// makes the same bytes.
func makeImage(executable, dir string) (*workerImage, error) {
	if err := checkStatic(executable); err != nil {
		return nil, err
	}
	content := programFile(executable)
	sum, size, err := content.digest()
	if err != nil {
		return nil, err
	}
	folder := func(name string, mode uint32, id int) tree.Entry {
		return tree.Entry{Path: name, Kind: tree.Dir, Mode: mode, UID: id, GID: id}
	}
	// /tmp, /inputs and /build are for whichever user the row has; the key belongs to user 1000
	// in every row, so that it stays the same when the row changes.
	entries := []tree.Entry{
		folder("build", 0o777, 0),
		folder("inputs", 0o777, 0),
		folder("keys", 0o700, 1000),
		{Path: program[1:], Kind: tree.File, Mode: 0o755, Size: size, Digest: sum, Content: content},
		folder("tmp", 0o1777, 0),
	}
	file := filepath.Join(dir, "layer")
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	info, err := layer.Write(f, entries, layer.Options{})
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	img, err := image.New(image.Spec{
		Platform: image.Platform{OS: "linux", Architecture: runtime.GOARCH}, Created: time.Unix(0, 0),
		Layers: []image.Layer{{Name: "quorate", Digest: info.Digest, Size: info.Size, DiffID: info.DiffID}},
		Config: image.Config{Entrypoint: []string{program}, Labels: map[string]string{
			programLabel: sum.String(), "org.opencontainers.image.title": "quorate worker",
		}},
	})
	if err != nil {
		return nil, err
	}
	return &workerImage{Image: *img, name: "quorate-worker-" + img.ConfigDigest().Hex()[:16], layer: file, mark: sum.String()}, nil
}

// programFile is tree.Content of a file of this machine.
type programFile string

func (p programFile) Open() (io.ReadCloser, error) { return os.Open(string(p)) }

func (p programFile) digest() (digest.Digest, int64, error) {
	f, err := os.Open(string(p))
	if err != nil {
		return digest.Digest{}, 0, err
	}
	defer f.Close()
	h := digest.NewHash()
	n, err := io.Copy(h, f)
	return digest.Sum(h), n, err
}

// checkStatic refuses a program that an empty image cannot run.
func checkStatic(executable string) error {
	f, err := elf.Open(executable)
	if err != nil {
		return fmt.Errorf("%q is no program for Linux: %w", executable, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%q needs shared libraries, which a worker's container does not have; build it with CGO_ENABLED=0", executable)
		}
	}
	return nil
}

// loadImage sees to it that the engine has the image of a program.
func (e *engine) loadImage(ctx context.Context, executable string) error {
	const what = "get the worker's image"
	if executable == "" {
		self, err := os.Executable()
		if err != nil {
			return e.failed(what, err)
		}
		executable = self
	}
	dir, err := os.MkdirTemp("", "quorate-image-")
	if err != nil {
		return e.failed(what, err)
	}
	defer os.RemoveAll(dir)
	img, err := makeImage(executable, dir)
	if err != nil {
		return e.failed(what, err)
	}
	if err := e.findImage(ctx, img); err == nil || !errdefs.IsNotFound(err) {
		return e.wrapped(what, err)
	}
	archive := filepath.Join(dir, "image.tar")
	if err := image.WriteDockerArchive(archive, img.name, img.Image, img); err != nil {
		return e.failed(what, err)
	}
	if err := e.load(ctx, archive); err != nil {
		return e.failed(what, err)
	}
	return e.wrapped(what, e.findImage(ctx, img))
}

func (e *engine) wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return e.failed(what, err)
}

// findImage finds the image by digest. Engines name an image by its
// configuration, or, with containerd's store, by its manifest or by an index of
// their own making; then the repository's name, which is a digest too, finds it.
func (e *engine) findImage(ctx context.Context, img *workerImage) error {
	var last error
	for _, id := range []string{img.ConfigDigest().String(), img.ManifestDigest.String(), img.name} {
		info, err := e.api.ImageInspect(ctx, id)
		if err != nil {
			last = err
			if errdefs.IsNotFound(err) {
				continue
			}
			return err
		}
		if info.Config == nil || info.Config.Labels[programLabel] != img.mark || !slices.Equal(info.RootFS.Layers, []string{img.Layers[0].DiffID.String()}) {
			return fmt.Errorf("its image %s is not what was made here; remove it there", id)
		}
		e.image = info.ID
		return nil
	}
	return last
}

// loadMessage is one line of what an engine says while it loads an image.
type loadMessage struct {
	Error string `json:"error"`
}

// load sends the archive. The engine says what went wrong in its answer's body.
func (e *engine) load(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	answer, err := e.api.ImageLoad(ctx, f)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	// An engine says a few hundred lines at most; one that goes on for ever is not listened to.
	for d := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)); ; {
		var m loadMessage
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("its answer makes no sense: %w", err)
		case m.Error != "":
			return errors.New(m.Error)
		}
	}
}
