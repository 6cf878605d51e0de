package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"quorate.dev/builder"
	"quorate.dev/builder/image"
	"quorate.dev/builder/registry"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
)

// reproduceFlags are the flags of `quorate reproduce`.
type reproduceFlags struct {
	inputs inputFlags
	reader readerFlags
	asJSON bool
}

func reproduceCmd(ui *terminal) *cobra.Command {
	var f reproduceFlags
	cmd := &cobra.Command{
		Use:   "reproduce REF",
		Short: "Build a published image again from its reference alone, and compare",
		Long: `Reproduce fetches the definition, lock and local inputs that "quorate publish"
attached to the image REF, builds them on this machine, and compares the digests
of the manifests. Whose word that is does not matter: that the bytes are the same
is found out here. When they differ, both images are compared path by path.

What was attached has to be what a rebuilder's report of the image names. With
--policy it has to be a report of a rebuilder of that policy; without, anybody
may have attached it, and it is a stranger's definition that is built (in the
sandbox, without network; what its lock names is fetched).` +
			exitStatus(
				"same: this machine built the same bytes",
				"different: it built something else; what differs is listed",
				"could not tell: nothing is attached to build from, or it cannot be built"),
		Example: `  quorate reproduce registry.example/app:v1
  quorate reproduce registry.example/app@sha256:… --policy policy.yaml --json`,
		Args: takes("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runReproduce(cmd.Context(), ui, args[0], f)
		},
	}
	f.inputs.register(cmd, true)
	f.reader.register(cmd.Flags(), "build only what a rebuilder of the policy in `FILE` reported")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "answer in JSON")
	return cmd
}

// reproduced is what `quorate reproduce --json` answers.
type reproduced struct {
	Reference string            `json:"reference"`
	Same      bool              `json:"same"`
	Images    []reproducedImage `json:"images"`
}

type reproducedImage struct {
	Platform  string `json:"platform"`
	Published string `json:"published"`
	Built     string `json:"built"`
}

func runReproduce(ctx context.Context, ui *terminal, refText string, f reproduceFlags) error {
	p, policy, err := f.reader.open(ctx, ui, refText)
	if err != nil {
		return err
	}
	m, err := openMachine(ui)
	if err != nil {
		return err
	}
	defer m.close()
	r := &reproduction{published: p, machine: m, inputs: f.inputs}
	if r.theirs, err = p.client.Pull(ctx, p.ref.At(p.top.Digest), nil); err != nil {
		return changed(err)
	}
	if err := r.findProject(ctx, policy); err != nil {
		return err
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	answer := r.compare()
	if f.asJSON {
		ui.answerJSON(answer)
	}
	switch {
	case answer.Same && !f.asJSON:
		ui.answer("%s", answer.Reference)
	case !answer.Same && !f.asJSON:
		if err := r.tellDifferences(ctx, ui, answer); err != nil {
			return err
		}
	}
	if !answer.Same {
		return different(nil)
	}
	return nil
}

// reproduction is a published image while it is built again.
type reproduction struct {
	*published
	machine *machine
	inputs  inputFlags
	project *project
	locals  map[string]builder.Local
	theirs  []image.Image
	ours    []image.Image
}

// maxProjects is how many attached projects are looked at: each was attached by
// somebody who may push, and one is what we want.
const maxProjects = 100

// findProject finds the attached project that a report of the image names.
func (r *reproduction) findProject(ctx context.Context, policy *agreement.Policy) error {
	reported, err := r.reported(ctx, policy)
	if err != nil {
		return err
	}
	found := 0
	for _, d := range r.beside {
		if !slices.Contains([]string{projectType, registry.EmptyMediaType, ""}, d.ArtifactType) || d.Annotations["dev.sigstore.bundle.predicateType"] != "" {
			continue
		}
		a, err := r.client.Artifact(ctx, r.ref, d.Digest, r.top.Digest)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || a.Type != projectType {
			continue
		}
		if found++; found > maxProjects {
			break
		}
		definition, lock := layerOf(a, definitionType), layerOf(a, lockType)
		if definition != nil && lock != nil && slices.Contains(reported, [2]digest.Digest{definition.Digest, lock.Digest}) {
			return r.open(ctx, a, definition, lock)
		}
	}
	whose := "a report of it"
	if policy != nil {
		whose = "a report of it by a rebuilder of the policy"
	}
	return fmt.Errorf("%s cannot be rebuilt from its reference: no attached project is what %s names (%d are attached)", r.pinned(), whose, found)
}

// reported lists the definitions and locks that reports of the image name.
func (r *reproduction) reported(ctx context.Context, policy *agreement.Policy) ([][2]digest.Digest, error) {
	judge := &attestation.Referrers{}
	if policy != nil {
		var err error
		if judge, err = attestation.GatherReferrers(policy); err != nil {
			return nil, err
		}
	}
	claims := map[digest.Digest]*attestation.Claim{}
	err := r.statements(ctx, func(manifest digest.Digest, bundle []byte) {
		if policy != nil {
			judge.Add(manifest, bundle)
		}
		if envelope, err := attestation.OpenSigstoreBundle(bundle); err == nil {
			if c, err := attestation.ReadClaim(envelope); err == nil && c.Report != nil {
				claims[manifest] = c
			}
		}
	}, func(digest.Digest, error) {}) // what cannot be read names nothing
	if err != nil {
		return nil, err
	}
	if policy != nil {
		for _, s := range judge.Judge(resource(r.ref), r.images...).Statements {
			if !s.Accepted {
				delete(claims, s.Referrer)
			}
		}
	}
	var all [][2]digest.Digest
	for _, c := range claims {
		names := func(d digest.Digest) bool {
			return slices.ContainsFunc(c.Report.Subjects, func(s agreement.Subject) bool { return s.Digest == d })
		}
		if !slices.ContainsFunc(r.images, func(d digest.Digest) bool { return !names(d) }) {
			all = append(all, [2]digest.Digest{c.Report.Definition, c.Report.Lock})
		}
	}
	return all, nil
}

func layerOf(a *registry.Artifact, mediaType string) *registry.ArtifactLayer {
	i := slices.IndexFunc(a.Layers, func(l registry.ArtifactLayer) bool { return l.MediaType == mediaType })
	if i < 0 {
		return nil
	}
	return &a.Layers[i]
}

// open reads a project into memory and its local inputs into the store.
func (r *reproduction) open(ctx context.Context, a *registry.Artifact, def, lock *registry.ArtifactLayer) error {
	p := &project{Dir: r.pinned()}
	var err error
	if p.DefinitionBytes, err = r.client.Bytes(ctx, r.ref, def.Digest, def.Size, maxLock); err != nil {
		return changed(err)
	}
	if p.LockBytes, err = r.client.Bytes(ctx, r.ref, lock.Digest, lock.Size, maxLock); err != nil {
		return changed(err)
	}
	if p.Definition, err = definition.Parse(definition.FileName, p.DefinitionBytes); err != nil {
		return err
	}
	if p.Lock, err = lockfile.Parse(lockfile.FileName, p.LockBytes); err != nil {
		return err
	}
	if err := p.requireLock(); err != nil {
		return err
	}
	r.project, r.locals = p, map[string]builder.Local{}
	for _, in := range p.Definition.Inputs.Local {
		i := slices.IndexFunc(a.Layers, func(l registry.ArtifactLayer) bool {
			return l.MediaType == localType && l.Title() == localTitle(in.Name)
		})
		if i < 0 {
			return fmt.Errorf("%s cannot be rebuilt from its reference: local input %q is not attached", r.pinned(), in.Name)
		}
		if r.locals[in.Name], err = r.local(ctx, a.Layers[i]); err != nil {
			return fmt.Errorf("local input %q: %w", in.Name, err)
		}
	}
	return nil
}

// localTitle is the file name by which an attached local input goes.
func localTitle(name string) string { return "local/" + name + ".tar" }

// local brings the archive of a local input into the store.
func (r *reproduction) local(ctx context.Context, l registry.ArtifactLayer) (builder.Local, error) {
	blob, err := r.client.Blob(ctx, r.ref, l.Digest, l.Size)
	if err != nil {
		return builder.Local{}, err
	}
	defer blob.Close()
	if err := r.machine.store.Put(blob, l.Digest, l.Size); err != nil {
		return builder.Local{}, err
	}
	archive, err := r.machine.store.Open(l.Digest)
	if err != nil {
		return builder.Local{}, err
	}
	defer archive.Close()
	tree, err := treeDigest(archive)
	return builder.Local{Tree: tree, Archive: l.Digest}, err
}

// build builds the platforms that were published.
func (r *reproduction) build(ctx context.Context) error {
	var names []string
	for _, img := range r.theirs {
		names = append(names, img.Platform.String())
	}
	only, err := choosePlatforms(r.project.Definition, names)
	if err != nil {
		return err
	}
	b, err := r.machine.builder(builder.Surroundings{})
	if err != nil {
		return err
	}
	if err := r.machine.fetchInputs(ctx, r.project.Lock, only, r.inputs); err != nil {
		return err
	}
	job := builder.Job{Definition: r.project.Definition, Lock: r.project.Lock, Platforms: only, Locals: r.locals}
	result, err := r.machine.buildAndWrite(ctx, b, job, r.inputs, nil)
	if err != nil {
		return err
	}
	r.ours = result.Images
	return nil
}

func (r *reproduction) compare() reproduced {
	answer := reproduced{Reference: r.pinned(), Same: len(r.ours) == len(r.theirs), Images: []reproducedImage{}}
	for _, theirs := range r.theirs {
		one := reproducedImage{Platform: theirs.Platform.String(), Published: theirs.ManifestDigest.String()}
		for _, ours := range r.ours {
			if ours.Platform == theirs.Platform {
				one.Built = ours.ManifestDigest.String()
			}
		}
		answer.Same = answer.Same && one.Built == one.Published
		answer.Images = append(answer.Images, one)
	}
	return answer
}

// tellDifferences pulls the published image whole and compares it with ours.
func (r *reproduction) tellDifferences(ctx context.Context, ui *terminal, answer reproduced) error {
	ui.answer("NOT REPRODUCED: this machine built another image than %s", answer.Reference)
	for _, i := range answer.Images {
		if i.Built != i.Published {
			ui.answer("%s: published %s, built %s", printable(i.Platform), i.Published, i.Built)
		}
	}
	dir, done, err := r.machine.store.Scratch(ctx)
	if err != nil {
		return err
	}
	defer done()
	if _, err := r.client.Pull(ctx, r.ref.At(r.top.Digest), r.machine.store); err != nil {
		return err
	}
	published, here := filepath.Join(dir, "published", "image"), filepath.Join(dir, "here", "image")
	for _, one := range []struct {
		path   string
		images []image.Image
	}{{published, r.theirs}, {here, r.ours}} {
		o := output{kind: "oci", path: one.path}
		if err := o.write(r.project.Definition.Name, one.images, r.machine.store); err != nil {
			return err
		}
	}
	d, err := compareLayouts(ctx, published, here)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		ui.answer("they cannot be compared: %s", printable(err.Error()))
		return nil
	}
	lines := strings.Split(strings.TrimRight(string(d.Text), "\n"), "\n")
	ui.answer("\n%s", strings.Join(lines[:min(len(lines), shownLines)], "\n"))
	if more := len(lines) - shownLines; more > 0 {
		ui.answer("… and %d more lines about %s", more, count(d.Count, "difference"))
	}
	return nil
}

// shownLines is how much of a comparison is told: what differs first says what
// is wrong, and a report of thousands of files buries it.
const shownLines = 200
