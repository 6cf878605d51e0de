package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quorate.dev/builder"
	"quorate.dev/builder/registry"
	"quorate.dev/builder/sbom"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// sbomFile is one --sbom of build: a form and a path.
type sbomFile struct {
	format, path string
}

// sbomFlag is --sbom, which may be given several times.
type sbomFlag []sbomFile

func (f *sbomFlag) String() string { return "" }
func (f *sbomFlag) Type() string   { return "FORMAT=FILE" }

// Set implements pflag.Value.
func (f *sbomFlag) Set(s string) error {
	format, path, ok := strings.Cut(s, "=")
	if !ok || path == "" {
		return fmt.Errorf("expected FORMAT=FILE, FORMAT one of %s", strings.Join(sbom.Formats, ", "))
	}
	if err := checkSBOMFormat(format); err != nil {
		return err
	}
	*f = append(*f, sbomFile{format, path})
	return nil
}

func checkSBOMFormat(format string) error {
	if slices.Contains(sbom.Formats, format) {
		return nil
	}
	if near := definition.Nearest(format, sbom.Formats); len(near) > 0 {
		return fmt.Errorf("unknown form of an SBOM %q; did you mean %q?", format, near[0])
	}
	return fmt.Errorf("unknown form of an SBOM %q: expected one of %s", format, strings.Join(sbom.Formats, ", "))
}

// platformMark stands in a file's name for the platform, "linux-arm64".
const platformMark = "{platform}"

// check finds out before a long build whether each platform has a file of its own.
func (f sbomFlag) check(platforms []definition.Platform) error {
	seen := map[string]bool{}
	for _, one := range f {
		if len(platforms) > 1 && !strings.Contains(one.path, platformMark) {
			return fmt.Errorf("--sbom %s=%s: %d platforms have an SBOM each; write %s in the file's name, or choose one with --platform", one.format, one.path, len(platforms), platformMark)
		}
		if seen[filepath.Clean(one.path)] {
			return fmt.Errorf("--sbom names %q twice", one.path)
		}
		seen[filepath.Clean(one.path)] = true
	}
	return nil
}

// write writes each SBOM of one platform.
func (f sbomFlag) write(c *sbom.Contents) error {
	for _, one := range f {
		path := strings.ReplaceAll(one.path, platformMark, strings.ReplaceAll(c.Platform, "/", "-"))
		if err := replaceWith(path, func(w io.Writer) error { return sbom.Write(w, one.format, c) }); err != nil {
			return fmt.Errorf("cannot write SBOM: %w", err)
		}
	}
	return nil
}

// contents says what built images are made of, one after the other.
func (m *machine) contents(ctx context.Context, p *project, b *builder.Builder, job builder.Job, r *builder.Result, use func(*sbom.Contents) error) error {
	return b.Contents(ctx, job, r, func(c *sbom.Contents) error {
		c.Definition = digest.Of(p.DefinitionBytes)
		return use(c)
	})
}

func sbomCmd(ui *terminal) *cobra.Command {
	var f buildFlags
	var format, output, attach string
	cmd := &cobra.Command{
		Use:   "sbom [DIR]",
		Short: "Say what the image is made of, as SPDX or CycloneDX",
		Long: `Sbom writes a bill of materials of the image that "quorate build" makes of the
project in DIR (this folder by default), and builds it first where the store has
not got it. Nothing is guessed: every part is a pin of the lock with its digest,
every file has the part that it came from, what only the build needed is told from
what is shipped, and dependencies that are left out on purpose are named. What
steps put into the image is told by Go programs, which name the modules that are
linked into them, and by packages of npm and Python, which are installed with their
package.json or METADATA; of other inputs of a step the SBOM says that it is not
known. Of an image that this one is built on (image.base) it lists the packages
that the image's own databases of dpkg or apk have, each with the files that they
list. Nobody locked those, so they have no digest; what cannot be listed (packages
of rpm, whose database is binary, entries that are broken, files that are too
large) is said of the image, in words. The licence of a package is what it declares
in machine-readable form (Debian's copyright files by DEP-5, apk's database,
package.json, METADATA, Cargo.toml), else NOASSERTION. The same image has the same
bytes of an SBOM.

With --attach it is put into an image layout that holds the image ("quorate build
--output oci=DIR"), as an artifact that refers to it, and the answer is the
artifact's digest. "quorate publish --sbom" does so in a registry.` +
			exitStatus("the SBOM was written", "", "it was not: the image cannot be built, bad input"),
		Example: `  quorate sbom
  quorate sbom examples/nginx --format cyclonedx --output nginx.cdx.json
  quorate sbom --attach oci:out/nginx
  quorate build --sbom spdx=app.spdx.json --sbom cyclonedx=app.cdx.json`,
		Args: takes("[DIR]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSBOMFormat(format); err != nil {
				return &usageError{err: err, command: cmd.CommandPath()}
			}
			layout, err := attachTarget(attach)
			if err != nil {
				return &usageError{err: err, command: cmd.CommandPath()}
			}
			switch {
			case layout != nil:
				f.contents = func(m *machine, c *sbom.Contents) error { return m.attachSBOM(cmd.Context(), *layout, format, c) }
			case output == "":
				f.onePlatform = true
				f.contents = func(_ *machine, c *sbom.Contents) error { return sbom.Write(ui, format, c) }
			}
			if output != "" {
				f.sboms = sbomFlag{{format, output}}
			}
			_, err = runBuild(cmd.Context(), ui, folder(args), f)
			return err
		},
	}
	f.inputs.register(cmd, true)
	cmd.Flags().StringVar(&format, "format", "spdx", "which form: "+strings.Join(sbom.Formats, ", "))
	cmd.Flags().StringVar(&output, "output", "", "write to `FILE`; "+platformMark+" in its name stands for the platform")
	cmd.Flags().StringVar(&attach, "attach", "", "attach to the image in the layout `oci:DIR`")
	cmd.Flags().StringSliceVar(&f.platforms, "platform", nil, "only these of the definition's platforms")
	return cmd
}

// attachTarget reads --attach; nil when it is not given.
func attachTarget(text string) (*registry.Reference, error) {
	if text == "" {
		return nil, nil
	}
	ref, err := repositoryIn(text)
	if err != nil || ref.Layout() == "" {
		return nil, fmt.Errorf("bad --attach %q: expected %sDIR; in a registry, publish --sbom attaches", text, registry.LayoutPrefix)
	}
	return &ref, nil
}

// attachSBOM puts an SBOM of an image beside it in a layout.
func (m *machine) attachSBOM(ctx context.Context, layout registry.Reference, format string, c *sbom.Contents) error {
	a, err := m.sbomArtifact(format, c)
	if err != nil {
		return err
	}
	client := (&registryFlags{}).client(m.ui)
	there, err := client.Resolve(ctx, layout.At(c.Image))
	if err != nil {
		return changed(err)
	}
	added, err := client.Attach(ctx, layout, there.Descriptor, a)
	if err != nil {
		return changed(err)
	}
	m.ui.say("attached to %s of %s", c.Image, c.Platform)
	m.ui.answer("%s", added[0].Digest)
	return nil
}

// sbomRequest is --sbom of publish and of rebuild --push: which forms to attach.
type sbomRequest struct {
	formats []string
	inputs  *inputFlags // nil for the usual
}

func (r *sbomRequest) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&r.formats, "sbom", nil, "also attach what the image is made of, as this machine builds it: `FORMAT,…` of "+strings.Join(sbom.Formats, ", "))
}

// sbomArtifacts makes referrers of the SBOMs of published images, by manifest.
// They are made here from what this machine builds, which has to be what is
// published.
func (m *machine) sbomArtifacts(ctx context.Context, p *project, r sbomRequest, images []digest.Digest) (map[digest.Digest][]*registry.Artifact, error) {
	for _, format := range r.formats {
		if err := checkSBOMFormat(format); err != nil {
			return nil, err
		}
	}
	if len(r.formats) == 0 {
		return nil, nil
	}
	var inputs inputFlags
	if r.inputs != nil {
		inputs = *r.inputs
	}
	m.dir = p.Dir
	b, err := m.builder(builder.Surroundings{})
	if err != nil {
		return nil, err
	}
	locals, err := m.packLocals(p)
	if err != nil {
		return nil, err
	}
	if err := m.fetchInputs(ctx, p.Lock, nil, inputs); err != nil {
		return nil, err
	}
	job := builder.Job{Definition: p.Definition, Lock: p.Lock, Locals: locals}
	result, err := m.build(ctx, b, job, inputs)
	if err != nil {
		return nil, err
	}
	out := map[digest.Digest][]*registry.Artifact{}
	err = m.contents(ctx, p, b, job, result, func(c *sbom.Contents) error {
		if !slices.Contains(images, c.Image) {
			return nil
		}
		for _, format := range slices.Compact(slices.Sorted(slices.Values(r.formats))) {
			a, err := m.sbomArtifact(format, c)
			if err != nil {
				return err
			}
			out[c.Image] = append(out[c.Image], a)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(out) != len(images) {
		return nil, errors.New("no SBOM can be attached: this machine builds another image than the one that is published")
	}
	return out, nil
}

// sbomArtifact keeps the document in the store while it is pushed.
func (m *machine) sbomArtifact(format string, c *sbom.Contents) (*registry.Artifact, error) {
	w, err := m.store.Create()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if err := sbom.Write(w, format, c); err != nil {
		return nil, err
	}
	d, size, err := w.Commit()
	if err != nil {
		return nil, err
	}
	l := registry.Document(sbom.MediaType(format), "sbom."+format+".json", nil)
	l.Digest, l.Size, l.Open = d, size, func() (io.ReadCloser, error) { return m.store.Open(d) }
	return &registry.Artifact{
		Type: sbom.MediaType(format), Layers: []registry.ArtifactLayer{l},
		Annotations: map[string]string{"org.opencontainers.image.created": c.Epoch.UTC().Format("2006-01-02T15:04:05Z")},
	}, nil
}
