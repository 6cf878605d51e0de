package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"quorate.dev/builder"
	"quorate.dev/builder/image"
	"quorate.dev/builder/sbom"
	"quorate.dev/builder/store"
	"quorate.dev/lockfile/definition"
)

// output is one --output: a form and a path.
type output struct {
	kind string // "oci", "oci-archive", "docker-archive"
	path string
}

// outputsFlag is --output, which may be given several times.
type outputsFlag []output

// The forms that images are written in.
var outputKinds = []string{"oci", "oci-archive", "docker-archive"}

func (f *outputsFlag) String() string { return "" }
func (f *outputsFlag) Type() string   { return "KIND=PATH" }

// Set implements pflag.Value.
func (f *outputsFlag) Set(s string) error {
	kind, path, ok := strings.Cut(s, "=")
	if !ok || path == "" {
		return fmt.Errorf("expected KIND=PATH, KIND one of %s", strings.Join(outputKinds, ", "))
	}
	for _, k := range outputKinds {
		if k == kind {
			*f = append(*f, output{kind, path})
			return nil
		}
	}
	near := definition.Nearest(kind, outputKinds)
	if len(near) > 0 {
		return fmt.Errorf("unknown form %q; did you mean %q?", kind, near[0])
	}
	return fmt.Errorf("unknown form %q: expected one of %s", kind, strings.Join(outputKinds, ", "))
}

// check finds out before a long build whether its outputs can be written.
func (f outputsFlag) check(platforms []definition.Platform) error {
	seen := map[string]bool{}
	for _, o := range f {
		if seen[filepath.Clean(o.path)] {
			return fmt.Errorf("--output names %q twice", o.path)
		}
		seen[filepath.Clean(o.path)] = true
		if err := o.check(platforms); err != nil {
			return err
		}
	}
	return nil
}

func (o output) check(platforms []definition.Platform) error {
	if o.kind == "docker-archive" && len(platforms) != 1 {
		return fmt.Errorf("a docker archive holds one platform, not %d; choose one with --platform", len(platforms))
	}
	// Whether a file can be made is known for certain only when one was.
	dir := existingFolder(o.path)
	if err := tryFile(dir); err != nil {
		var why *fs.PathError
		if errors.As(err, &why) {
			err = why.Err // the name is not the user's
		}
		return fmt.Errorf("cannot write image to %q: cannot make files in %q: %w", o.path, dir, err)
	}
	if o.kind == "oci" {
		return image.CheckOCI(o.path)
	}
	return image.CheckArchive(o.path)
}

// makeAndRemove makes a file in dir and removes it.
func makeAndRemove(dir string) error {
	f, err := os.CreateTemp(dir, ".quorate-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// existingFolder is the nearest folder above path that there is.
func existingFolder(path string) string {
	for {
		dir := filepath.Dir(path)
		if _, err := os.Lstat(dir); err == nil || dir == path {
			return dir
		}
		path = dir
	}
}

func (o output) write(name string, images []image.Image, blobs image.BlobSource) error {
	if err := os.MkdirAll(filepath.Dir(o.path), 0o777); err != nil { //nolint:gosec // the umask decides
		return fmt.Errorf("cannot write image to %q: %w", o.path, err)
	}
	switch o.kind {
	case "oci":
		return image.WriteOCI(o.path, images, blobs)
	case "oci-archive":
		return image.WriteOCIArchive(o.path, images, blobs)
	}
	return image.WriteDockerArchive(o.path, name, images[0], blobs)
}

// built is what `quorate build --json` answers.
type built struct {
	Name   string       `json:"name"`
	Images []builtImage `json:"images"`
}

type builtImage struct {
	Platform string `json:"platform"`
	Digest   string `json:"digest"`
	Size     int64  `json:"size"` // of all blobs, compressed
}

func buildCmd(ui *terminal) *cobra.Command {
	var (
		f      buildFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "build [DIR]",
		Short: "Build the image that a project's lock describes",
		Long: `Build makes the image of the project in DIR (this folder by default) from its
definition and its lock, on this machine. What the lock names and the store
lacks is fetched first; after that nothing has a network. The same lock gives the
same bytes on every machine.

The last line on standard output is the digest of the image's manifest, one line
for each platform.` +
			exitStatus("the image was built", "", "it was not: stale lock, bad input, a step that fails, no isolation, no network"),
		Example: `  quorate build
  quorate build examples/greeter --output oci=out/greeter
  quorate build --output docker-archive=image.tar && docker load -i image.tar
  quorate build --offline`,
		Args: takes("[DIR]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := runBuild(cmd.Context(), ui, folder(args), f)
			if err != nil {
				return err
			}
			if asJSON {
				ui.answerJSON(describe(r.name, r.Result))
				return nil
			}
			for _, img := range r.Images {
				ui.answer("%s", img.ManifestDigest)
			}
			return nil
		},
	}
	f.inputs.register(cmd, true)
	cmd.Flags().Var(&f.outputs, "output", "also write the image: oci=DIR, oci-archive=FILE or docker-archive=FILE; may be repeated")
	cmd.Flags().Var(&f.sboms, "sbom", "also write what the image is made of: spdx=FILE or cyclonedx=FILE; may be repeated")
	cmd.Flags().StringSliceVar(&f.platforms, "platform", nil, "build only these of the definition's platforms")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

// folder is a verb's optional [DIR].
func folder(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

// buildFlags are the flags of `quorate build`.
type buildFlags struct {
	inputs      inputFlags
	outputs     outputsFlag
	sboms       sbomFlag
	platforms   []string
	contents    func(*machine, *sbom.Contents) error // is told what each image is made of; nil for nobody
	onePlatform bool                                 // contents has room for one only
}

// buildRun is what came of a build.
type buildRun struct {
	*builder.Result
	name string
}

func runBuild(ctx context.Context, ui *terminal, dir string, f buildFlags) (*buildRun, error) {
	p, err := openProject(dir)
	if err != nil {
		return nil, err
	}
	if err := p.requireLock(); err != nil {
		return nil, err
	}
	only, err := choosePlatforms(p.Definition, f.platforms)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.outputs.check(only), f.sboms.check(only)); err != nil {
		return nil, err
	}
	if f.onePlatform && len(only) != 1 {
		return nil, fmt.Errorf("%d platforms have an SBOM each; choose one with --platform", len(only))
	}
	m, err := openMachine(ui)
	if err != nil {
		return nil, err
	}
	defer m.close()
	m.dir = p.Dir
	b, err := m.builder(builder.Surroundings{})
	if err != nil {
		return nil, err
	}
	locals, err := m.packLocals(p)
	if err != nil {
		return nil, err
	}
	if err := m.fetchInputs(ctx, p.Lock, only, f.inputs); err != nil {
		return nil, err
	}
	job := builder.Job{Definition: p.Definition, Lock: p.Lock, Platforms: only, Locals: locals}
	r := &buildRun{name: p.Definition.Name}
	if r.Result, err = m.buildAndWrite(ctx, b, job, f.inputs, f.outputs); err != nil {
		return nil, err
	}
	if f.contents == nil && len(f.sboms) == 0 {
		return r, nil
	}
	return r, m.contents(ctx, p, b, job, r.Result, func(c *sbom.Contents) error {
		if f.contents != nil {
			if err := f.contents(m, c); err != nil {
				return err
			}
		}
		return f.sboms.write(c)
	})
}

// buildAndWrite builds and writes the outputs. A layer that an earlier build
// left is read for the first time when it is written; one that turns out to be
// damaged is made again.
func (m *machine) buildAndWrite(ctx context.Context, b *builder.Builder, job builder.Job, inputs inputFlags, outputs []output) (*builder.Result, error) {
	for try := 0; ; try++ {
		result, err := m.build(ctx, b, job, inputs)
		if err != nil {
			return nil, err
		}
		err = m.writeOutputs(outputs, job.Definition.Name, result.Images)
		var damaged *store.DamagedError
		if err == nil || !errors.As(err, &damaged) || try == damageTries {
			return result, err
		}
		m.ui.warn("a layer was damaged in the store (%s); making it again", damaged.Digest)
	}
}

// damageTries is how many damaged blobs one build mends before it concludes that the disk is broken.
const damageTries = 5

// build builds, and fetches again what turns out to be damaged in the store.
func (m *machine) build(ctx context.Context, b *builder.Builder, job builder.Job, inputs inputFlags) (*builder.Result, error) {
	for try := 0; ; try++ {
		result, err := b.Build(ctx, job)
		var damaged *store.DamagedError
		if !errors.As(err, &damaged) || try == damageTries {
			return result, err
		}
		if err := m.refetch(ctx, job.Lock, damaged.Digest, inputs); err != nil {
			return nil, err
		}
	}
}

// choosePlatforms is what --platform says, in the definition's order.
func choosePlatforms(d *definition.Definition, names []string) ([]definition.Platform, error) {
	if len(names) == 0 {
		return d.Platforms, nil
	}
	var out []definition.Platform
	var have []string
	for _, p := range d.Platforms {
		have = append(have, p.String())
	}
	for _, name := range names {
		p, err := definition.ParsePlatform(name)
		if err != nil {
			return nil, err
		}
		if !wanted(p, d.Platforms) {
			return nil, fmt.Errorf("the definition has no platform %q, only %s", name, strings.Join(have, ", "))
		}
	}
	for _, p := range d.Platforms {
		for _, name := range names {
			if p.String() == name {
				out = append(out, p)
				break
			}
		}
	}
	return out, nil
}

func describe(name string, r *builder.Result) built {
	out := built{Name: name}
	for _, img := range r.Images {
		one := builtImage{Platform: img.Platform.String(), Digest: img.ManifestDigest.String()}
		one.Size = int64(len(img.Manifest) + len(img.Config))
		for _, l := range img.Layers {
			one.Size += l.Size
		}
		out.Images = append(out.Images, one)
	}
	return out
}
