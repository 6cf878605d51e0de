package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/builder"
	"quorate.dev/builder/image"
	"quorate.dev/builder/registry"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/keyfile"
)

// reproduceFlags are the flags of `quorate reproduce`.
type reproduceFlags struct {
	inputs   inputFlags
	reader   readerFlags
	file     string // --rebuilders-file
	outputs  outputsFlag
	attest   bool
	attestTo string
	key      string
	name     string
	pass     passphraseFlags
	asJSON   bool
}

func reproduceCmd(ui *terminal) *cobra.Command {
	var f reproduceFlags
	cmd := &cobra.Command{
		Use:   "reproduce REF",
		Short: "Build a published image again from its reference alone, and compare",
		Long: `Reproduce fetches the definition, lock and local inputs that "quorate publish"
attached to the image REF, in a registry or in a folder (oci:DIR[:TAG]), builds
them on this machine, and compares the digests of the manifests. It reuses
nothing that was built before. When the digests differ, both images are compared,
and the causes are named.

What was attached has to be what a rebuilder's report of the image names. With
--policy it has to be a report of a rebuilder of that policy; without, anybody
may have attached it, and it is a stranger's definition that is built (in the
sandbox, without network; what its lock names is fetched).

--rebuilders-file has the rebuilders of a file build it instead (quorate help
rebuilders).

With --attest your own report, signed with --key, is published beside the image,
whatever it says: a dissent counts too. With --attest-to it goes to a repository
of your own, or a folder (oci:DIR), where the image need not be. It answers the
request that the image was built for, so that whoever names you in a policy
counts your voice with the others: quorate verify REF --policy policy.yaml
--attestations-from REPO. You go by the name, operator and builder id that
--policy gives your key, else by --name, or the key file's name.` +
			exitStatus(
				"same: the same bytes were built",
				"different: something else was built; what differs is listed",
				"could not tell: nothing is attached to build from, or it cannot be built"),
		Example: `  quorate reproduce registry.example/app:v1
  quorate reproduce registry.example/app@sha256:… --policy policy.yaml --json
  quorate reproduce registry.example/app:v1 --attest-to audit.example/app --key ann.key
  quorate reproduce registry.example/app:v1 --rebuilders-file rebuilders.yaml --attest
  quorate reproduce registry.example/app:v1 --output oci=here
  quorate reproduce oci:/mnt/usb/app:v1 --inputs oci:/mnt/usb/app:inputs --offline
  quorate diff registry.example/app:v1 here`,
		Args: takes("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return &usageError{err: err, command: cmd.CommandPath()}
			}
			return runReproduce(cmd.Context(), ui, args[0], f)
		},
	}
	f.inputs.register(cmd, true)
	f.inputs.registry = &f.reader.registry
	flags := cmd.Flags()
	f.reader.register(flags, "build only what a rebuilder of the policy in `FILE` reported")
	flags.StringVar(&f.file, "rebuilders-file", "", "have the rebuilders that `FILE` names build it")
	flags.Var(&f.outputs, "output", "also write the image that was built here: oci=DIR, oci-archive=FILE or docker-archive=FILE; may be repeated")
	flags.BoolVar(&f.attest, "attest", false, "publish your own signed report beside the image")
	flags.StringVar(&f.attestTo, "attest-to", "", "publish your own signed report in `REPO`, a repository or oci:DIR")
	flags.StringVar(&f.key, "key", "", "sign your report with the "+keyUse)
	flags.StringVar(&f.name, "name", "", "the `NAME` that you go by in policies (default: of the key's file)")
	flags.BoolVar(&f.asJSON, "json", false, "answer in JSON")
	f.pass.add(flags)
	return cmd
}

// check refuses flags that do not go together.
func (f *reproduceFlags) check() error {
	f.attest = f.attest || f.attestTo != ""
	switch {
	case f.file != "" && (f.key != "" || f.name != ""):
		return errors.New("--rebuilders-file names the keys of its rebuilders; --key and --name are for this machine's own report")
	case f.file != "" && len(f.outputs) > 0:
		return errors.New("--output writes what this machine built, and with --rebuilders-file others do")
	case f.attest && f.file == "" && f.key == "":
		return errors.New("--attest needs the key that signs your report: --key FILE")
	case !f.attest && (f.key != "" || f.name != ""):
		return errors.New("--key and --name are for --attest or --attest-to")
	}
	return nil
}

// reproduced is what `quorate reproduce --json` answers.
type reproduced struct {
	Reference  string            `json:"reference"`
	Same       bool              `json:"same"`       // everybody built what was published
	Rebuilders []reproducedVoice `json:"rebuilders"` // "here" is this machine
	Attested   []string          `json:"attested"`   // references of published reports
}

type reproducedVoice struct {
	Name   string            `json:"name"`
	Same   bool              `json:"same"`
	Reason string            `json:"reason,omitempty"` // why there is no image
	Images []reproducedImage `json:"images"`
}

type reproducedImage struct {
	Platform  string `json:"platform"`
	Published string `json:"published"`
	Built     string `json:"built,omitempty"`
}

func runReproduce(ctx context.Context, ui *terminal, refText string, f reproduceFlags) error {
	p, policy, err := f.reader.open(ctx, ui, refText)
	if err != nil {
		return err
	}
	r := &reproduction{published: p, ui: ui, flags: f}
	if err := r.prepare(ctx, policy); err != nil {
		return err
	}
	if r.machine, err = openMachine(ui); err != nil {
		return err
	}
	defer r.machine.close()
	dir, done, err := r.machine.store.Scratch(ctx)
	if err != nil {
		return err
	}
	defer done()
	r.scratch = dir
	if r.theirs, err = p.client.Pull(ctx, p.ref.At(p.top.Digest), nil); err != nil {
		return changed(err)
	}
	if err := r.findProject(ctx, policy); err != nil {
		return err
	}
	if f.file != "" {
		err = r.ask(ctx)
	} else {
		err = r.build(ctx)
	}
	if err != nil {
		return err
	}
	return r.answer(ctx)
}

// reproduction is a published image while it is built again.
type reproduction struct {
	*published
	ui      *terminal
	flags   reproduceFlags
	machine *machine
	scratch string // folder for all that is made

	who     rebuild.FileRebuilder // this machine, as its report names it
	signer  keyfile.Signer        // of its report
	voiceTo registry.Reference    // repository that reports are published in

	report  *agreement.Report // of the image, by which it is built
	project *project
	locals  map[string]builder.Local
	theirs  []image.Image
	voices  []voice
}

// voice is what one rebuilder built and says of it.
type voice struct {
	name     string
	report   *agreement.Report // nil when there is none
	reason   string            // why
	envelope []byte
	key      keyfile.PublicKey
	layout   string // OCI layout of what it built
}

// prepare finds out before a long build who speaks, and whether the registry
// takes what is said.
func (r *reproduction) prepare(ctx context.Context, policy *agreement.Policy) error {
	f := &r.flags
	if f.attest {
		var err error
		if r.voiceTo = r.ref; f.attestTo != "" {
			if r.voiceTo, err = repositoryIn(f.attestTo); err != nil {
				return err
			}
		}
		if err := r.client.CanPush(ctx, r.voiceTo); err != nil {
			return err
		}
	}
	if f.key == "" { // nobody sees this signature
		key, err := keyfile.Generate()
		r.signer, r.who = key, rebuild.FileRebuilder{Name: here, Operator: "local"}
		r.who.BuilderID = localBuilder + "local/" + here
		return err
	}
	signer, err := openSigner(r.ui, f.key, f.pass)
	if err != nil {
		return err
	}
	r.signer = signer
	r.who, err = speaker(f, signer.Public(), policy)
	return err
}

// here is the name of this machine when it does not speak for anybody.
const here = "here"

// speaker is who a key speaks for: what the policy says, else the flags.
func speaker(f *reproduceFlags, key keyfile.PublicKey, policy *agreement.Policy) (rebuild.FileRebuilder, error) {
	r := rebuild.FileRebuilder{Name: f.name, Key: key, KeyFile: f.key}
	if policy != nil {
		i := slices.IndexFunc(policy.Rebuilders, func(p agreement.Rebuilder) bool { return p.Key == key })
		if i < 0 {
			return r, fmt.Errorf("the policy enrols the key in %q (%.16s…) for no rebuilder, so your report would count for nothing", f.key, key.Fingerprint())
		}
		enrolled := policy.Rebuilders[i]
		if f.name != "" && f.name != enrolled.Name {
			return r, fmt.Errorf("the policy enrols the key in %q for %q, and --name says %q", f.key, enrolled.Name, f.name)
		}
		r.Name, r.Operator, r.BuilderID = enrolled.Name, enrolled.Operator, enrolled.BuilderID
	}
	r.Name = cmp.Or(r.Name, strings.TrimSuffix(filepath.Base(f.key), ".key"))
	if err := agreement.CheckName(r.Name); err != nil {
		return r, fmt.Errorf("%w; --name gives another", err)
	}
	r.Operator = cmp.Or(r.Operator, os.Getenv(operatorVar), r.Name)
	if err := agreement.CheckName(r.Operator); err != nil {
		return r, fmt.Errorf("%s: %w", operatorVar, err)
	}
	r.BuilderID = cmp.Or(r.BuilderID, localBuilder+r.Operator+"/"+r.Name)
	return r, nil
}

// findProject finds the attached project that a report of the image names.
func (r *reproduction) findProject(ctx context.Context, policy *agreement.Policy) error {
	reports, err := r.reports(ctx, policy)
	if err != nil {
		return err
	}
	var opened error
	found, err := r.projects(ctx, func(_ digest.Digest, a *registry.Artifact) bool {
		def, lock := layerOf(a, definitionType), layerOf(a, lockType)
		if def == nil || lock == nil {
			return false
		}
		i := slices.IndexFunc(reports, func(p *agreement.Report) bool { return p.Definition == def.Digest && p.Lock == lock.Digest })
		if i < 0 {
			return false
		}
		r.report = reports[i]
		opened = r.open(ctx, a, def, lock)
		return true
	})
	switch {
	case err != nil:
		return err
	case r.report != nil:
		return opened
	}
	whose := "a report of it"
	if policy != nil {
		whose = "a report of it by a rebuilder of the policy"
	}
	return fmt.Errorf("%s cannot be rebuilt from its reference: no attached project is what %s names (%d are attached)", r.pinned(), whose, found)
}

// reports lists reports of the image: those of the newest request that was
// agreed on first, for that is the one to add a voice to.
func (r *reproduction) reports(ctx context.Context, policy *agreement.Policy) ([]*agreement.Report, error) {
	claims, opened, _, err := r.claims(ctx, policy)
	if err != nil {
		return nil, err
	}
	if policy != nil {
		for _, s := range opened.Statements {
			if !s.Accepted {
				delete(claims, s.Referrer)
			}
		}
	}
	about := func(subjects []agreement.Subject) bool {
		return !slices.ContainsFunc(r.images, func(d digest.Digest) bool {
			return !slices.ContainsFunc(subjects, func(s agreement.Subject) bool { return s.Digest == d })
		})
	}
	agreedOn := map[string]time.Time{} // by request
	var all []*agreement.Report
	for _, c := range claims {
		switch {
		case c.Agreement != nil && about(c.Agreement.Subjects) && c.Agreement.AgreedOn.After(agreedOn[c.Agreement.Job.Nonce]):
			agreedOn[c.Agreement.Job.Nonce] = c.Agreement.AgreedOn
		case c.Report != nil && about(c.Report.Subjects):
			all = append(all, c.Report)
		}
	}
	slices.SortFunc(all, func(a, b *agreement.Report) int {
		return cmp.Or(agreedOn[b.Nonce].Compare(agreedOn[a.Nonce]), b.Finished.Compare(a.Finished), bytes.Compare(a.Statement[:], b.Statement[:]))
	})
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

// platforms are those of the report: an image of an index is built with the
// others, since the report's inputs are those of all of them.
func (r *reproduction) platforms() ([]definition.Platform, error) {
	var names []string
	for _, s := range r.report.Subjects {
		if s.Platform != "" {
			names = append(names, s.Platform)
		}
	}
	return choosePlatforms(r.project.Definition, names)
}

// build builds on this machine as a worker does: in a folder of its own, from
// locked bytes and nothing that was made of them before.
func (r *reproduction) build(ctx context.Context) error {
	only, err := r.platforms()
	if err != nil {
		return err
	}
	if err := r.flags.outputs.check(only); err != nil {
		return err
	}
	if r.flags.inputs.archive != "" { // a worker knows no archives; it finds what came from one in this machine's store
		if err := r.machine.fetchInputs(ctx, r.project.Lock, only, r.flags.inputs); err != nil {
			return err
		}
	}
	job := host.Job{
		Nonce: r.report.Nonce, Attempt: 1, Rebuilder: r.who.Name, Operator: r.who.Operator, BuilderID: r.who.BuilderID,
		Definition: r.project.DefinitionBytes, Lock: r.project.LockBytes, Locals: hostLocals(r.locals), Platforms: platformNames(only),
		InputStore: r.machine.store.Dir(), WorkDir: filepath.Join(r.scratch, "work"), Offline: r.flags.inputs.offline, Mirrors: mirrors(r.flags.inputs),
	}
	w, err := openWorker(r.ui, job)
	if err != nil {
		return err
	}
	defer w.close()
	started := time.Now()
	result, err := w.build(ctx)
	if err != nil {
		return err
	}
	v := voice{name: r.who.Name, key: r.signer.Public(), layout: filepath.Join(r.scratch, here, "image")}
	if err := (output{kind: "oci", path: v.layout}).write(r.project.Definition.Name, result.Images, w.machine.store); err != nil {
		return err
	}
	for _, o := range r.flags.outputs {
		if err := o.write(r.project.Definition.Name, result.Images, w.machine.store); err != nil {
			return fmt.Errorf("writing %s: %w", o, err)
		}
	}
	if v.envelope, err = attestation.SignReport(ctx, w.record(result, started), r.signer); err != nil {
		return err
	}
	if v.report, err = attestation.OpenReport(v.envelope, v.key); err != nil {
		return err
	}
	r.voices = append(r.voices, v)
	return nil
}

// ask has the rebuilders of a file build it, and judges nothing: each is
// compared with what was published.
func (r *reproduction) ask(ctx context.Context) error {
	only, err := r.platforms()
	if err != nil {
		return err
	}
	asked, _, err := readRebuilders(r.flags.file)
	if err != nil {
		return err
	}
	key, err := keyfile.Generate() // rebuild signs what they agree on among each other, which nobody keeps
	if err != nil {
		return err
	}
	o := rebuild.Options{
		Policy: rebuild.NewPolicy(asked, 1, nil), Signer: key, Nonce: r.report.Nonce, InputStore: r.machine.store.Dir(),
		Definition: r.project.DefinitionBytes, Lock: r.project.LockBytes, Locals: hostLocals(r.locals), Platforms: platformNames(only),
		Offline: r.flags.inputs.offline, Mirrors: mirrors(r.flags.inputs), Results: filepath.Join(r.scratch, "results"), Events: r.machine.rebuildEvent(),
	}
	if o.Rebuilders, err = r.machine.toAsk(asked, o.Policy, false); err != nil {
		return err
	}
	if err := r.machine.ready(ctx, r.project, &o, only, r.flags.inputs); err != nil {
		return err
	}
	out, err := rebuild.Run(ctx, o)
	if err != nil {
		return err
	}
	for _, outcome := range out.Verdict.Outcomes {
		v := voice{name: outcome.Rebuilder, report: outcome.Report, reason: outcome.Reason, layout: filepath.Join(o.Results, "rebuilders", outcome.Rebuilder, "image")}
		if _, err := os.Stat(v.layout); err != nil { // equal images are kept once
			v.layout = filepath.Join(o.Results, "image")
		}
		if v.report != nil {
			enrolled, _ := o.Policy.Rebuilder(v.name)
			v.key = enrolled.Key
			if v.envelope, err = readSmallFile(filepath.Join(o.Results, "rebuilders", v.name, "report.intoto.json"), largestReport); err != nil {
				return err
			}
		}
		r.voices = append(r.voices, v)
	}
	return nil
}

// answer tells what came out, publishes reports if asked to, and returns what
// decides the exit code.
func (r *reproduction) answer(ctx context.Context) error {
	answer := reproduced{Reference: r.pinned(), Same: true, Rebuilders: []reproducedVoice{}, Attested: []string{}}
	var silent []string
	for _, v := range r.voices {
		one := r.compare(v)
		if v.report == nil {
			silent = append(silent, fmt.Sprintf("%s: %s", v.name, v.reason))
		}
		answer.Same = answer.Same && one.Same
		answer.Rebuilders = append(answer.Rebuilders, one)
	}
	if r.flags.attest {
		var err error
		if answer.Attested, err = r.attest(ctx); err != nil {
			return err
		}
	}
	dissent := slices.ContainsFunc(answer.Rebuilders, func(v reproducedVoice) bool { return !v.Same && v.Reason == "" })
	switch {
	case r.flags.asJSON:
		r.ui.answerJSON(answer)
	case dissent:
		if err := r.tellDifferences(ctx, answer); err != nil {
			return err
		}
	case answer.Same:
		r.ui.answer("%s", answer.Reference)
	}
	switch {
	case dissent:
		return different(nil)
	case !answer.Same:
		return fmt.Errorf("could not tell: %s", strings.Join(silent, "; "))
	}
	return nil
}

func (r *reproduction) compare(v voice) reproducedVoice {
	one := reproducedVoice{Name: v.name, Images: []reproducedImage{}}
	if v.report == nil {
		one.Reason = v.reason
		return one
	}
	one.Same = true
	for _, theirs := range r.theirs {
		i := reproducedImage{Platform: theirs.Platform.String(), Published: theirs.ManifestDigest.String()}
		for _, s := range v.report.Subjects {
			if s.Platform == i.Platform {
				i.Built = s.Digest.String()
			}
		}
		one.Same = one.Same && i.Built == i.Published
		one.Images = append(one.Images, i)
	}
	return one
}

// attest publishes the reports, whatever they say, and returns their references.
func (r *reproduction) attest(ctx context.Context) ([]string, error) {
	var parts []*registry.Artifact
	for _, v := range r.voices {
		if v.report == nil {
			continue
		}
		if v.report.BuildDefinition != r.report.BuildDefinition {
			r.ui.warn("%s built from other inputs than %s reports; its voice will not be counted with the others", v.name, r.report.Rebuilder)
		}
		a, err := bundleArtifact(v.envelope, v.key, attestation.ProvenancePredicate, v.report.Finished)
		if err != nil {
			return nil, err
		}
		parts = append(parts, a)
	}
	about := []registry.Descriptor{r.top.Descriptor}
	if r.top.IsIndex() {
		children, err := r.top.Children()
		if err != nil {
			return nil, err
		}
		about = append(children, r.top.Descriptor)
	}
	references := []string{}
	for _, subject := range about {
		there, err := r.client.Attach(ctx, r.voiceTo, subject, parts...)
		if err != nil {
			return nil, err
		}
		for _, d := range there {
			references = append(references, r.voiceTo.At(d.Digest).String())
		}
	}
	r.ui.say("published %s about %s in %s", count(len(parts), "report"), r.pinned(), r.voiceTo.Repository())
	return references, nil
}

// tellDifferences pulls the published image whole and says why the first one
// that was built here differs from it.
func (r *reproduction) tellDifferences(ctx context.Context, answer reproduced) error {
	var first voice
	for i, one := range answer.Rebuilders {
		if one.Same || one.Reason != "" {
			continue
		}
		who := "this machine"
		if r.flags.file != "" {
			who = one.Name
		}
		r.ui.answer("NOT REPRODUCED: %s built another image than %s", who, answer.Reference)
		for _, i := range one.Images {
			if i.Built != i.Published {
				r.ui.answer("%s: published %s, built %s", printable(i.Platform), i.Published, cmp.Or(i.Built, "none"))
			}
		}
		if first.report == nil {
			first = r.voices[i]
		}
	}
	if _, err := r.client.Pull(ctx, r.ref.At(r.top.Digest), r.machine.store); err != nil {
		return err
	}
	published := filepath.Join(r.scratch, "published", "image")
	if err := (output{kind: "oci", path: published}).write(r.project.Definition.Name, r.theirs, r.machine.store); err != nil {
		return err
	}
	e, err := explainer(r.project, r.compareAgain)(ctx, []rebuild.Built{{Rebuilder: "published", Image: published, Report: r.report}, {Rebuilder: first.name, Image: first.layout, Report: first.report}})
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.ui.answer("they cannot be compared: %s", printable(err.Error()))
		return nil
	}
	r.ui.answer("")
	r.ui.answerBytes(e.Text)
	return nil
}

// compareAgain is what a reader types to look closer: nothing of this is kept
// but what --output wrote. The definition to mend is that of a checkout.
func (r *reproduction) compareAgain([]rebuild.Built) string {
	for _, o := range r.flags.outputs {
		if o.kind == "oci" {
			return diffCommand([]string{r.pinned(), o.path}, definition.FileName)
		}
	}
	return fmt.Sprintf("quorate reproduce %s --output oci=here; ", r.pinned()) + diffCommand([]string{r.pinned(), "here"}, definition.FileName)
}
