package builder

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"quorate.dev/builder/image"
	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/tree"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// PlatformError says that programs of a platform would have to run on a machine that cannot.
type PlatformError struct {
	Platform, Machine string
	What              string // needs to run them
	Err               error  // why they cannot: *sandbox.EmulatorError
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("cannot build %s on this machine (%s): %s, and %v", e.Platform, e.Machine, e.What, e.Err)
}

func (e *PlatformError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *PlatformError) Hint() string {
	hint := "image.scripts: none only unpacks, on any machine"
	if none, ok := errors.AsType[*sandbox.EmulatorError](e.Err); ok {
		hint = none.Hint() + "; " + hint
	}
	return hint
}

// EmptyError says that an image would hold no file.
type EmptyError struct {
	Platform string
}

func (e *EmptyError) Error() string {
	return fmt.Sprintf("the image for %s would be empty: it has no package, and what it copies holds no file", e.Platform)
}

// build is the work on one platform.
type build struct {
	*Builder
	job      Job
	platform definition.Platform
	several  bool  // platforms are built
	epoch    int64 // SOURCE_DATE_EPOCH
	log      *buildLog
	emulator sandbox.Emulator   // of a platform that is not the machine's
	outputs  map[string]*output // of the steps that have run
	steps    []StepResult

	mu       sync.Mutex
	cleanups []func() // scratch folders whose files the layers are still read from
}

// cleanup runs done when the platform's image is complete.
func (b *build) cleanup(done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cleanups = append(b.cleanups, done)
}

func (b *build) clean() {
	for _, done := range b.cleanups {
		done()
	}
}

func (b *Builder) build(ctx context.Context, job Job) (*Result, error) {
	platforms := job.Platforms
	if len(platforms) == 0 {
		platforms = job.Definition.Platforms
	}
	if err := b.checkReads(job); err != nil {
		return nil, err
	}
	log := &buildLog{}
	result := &Result{}
	for _, p := range platforms {
		one := &build{
			Builder: b, job: job, platform: p, several: len(platforms) > 1, epoch: job.Lock.Epoch.Unix(), log: log,
			outputs: map[string]*output{},
		}
		defer one.clean()
		if err := one.runMending(ctx, result); err != nil {
			return nil, err
		}
	}
	var err error
	result.Logs, err = b.putBlob(log)
	return result, err
}

// mendTries is how many damaged derived folders one build replaces before it
// concludes that the disk is broken.
const mendTries = 5

// runMending runs, and makes anew what turns out to be damaged of what the
// store had derived: the blobs it came from are still there, or are missed then.
func (b *build) runMending(ctx context.Context, result *Result) error {
	for try := 0; ; try++ {
		err := b.run(ctx, result)
		file := damagedFile(err)
		if file == "" || try == mendTries || ctx.Err() != nil {
			return err
		}
		dropped, dropErr := b.Store.DropHolding(file)
		if !dropped || dropErr != nil {
			return errors.Join(err, dropErr)
		}
		b.event(Event{Phase: "mend", Name: file, Done: true})
		b.steps, b.outputs = nil, map[string]*output{}
	}
}

// DerivedError says that a file which the store derived from its blobs cannot be read.
type DerivedError struct {
	File string
	Err  error
}

func (e *DerivedError) Error() string {
	return fmt.Sprintf("cannot read %q, which the store had made: %v", e.File, e.Err)
}

func (e *DerivedError) Unwrap() error { return e.Err }

// damagedFile is the file whose bytes are not what was put there, if that is what err says.
func damagedFile(err error) string {
	var derived *DerivedError
	if errors.As(err, &derived) {
		return derived.File
	}
	var content *tree.ContentError
	if errors.As(err, &content) {
		return content.File
	}
	return ""
}

// made is what the store remembers of a whole image.
type made struct {
	Image   image.Image
	Steps   []StepResult
	List    FileList
	Without []Withheld
}

// run builds the platform's image, or finds it when nothing that decides it has changed.
func (b *build) run(ctx context.Context, result *Result) error {
	if err := b.checkPlatform(ctx); err != nil {
		return err
	}
	key, err := b.imageKey()
	if err != nil {
		return err
	}
	m, ok := b.remembered(key)
	if ok {
		b.event(Event{Phase: "image", Name: b.platform.String(), Done: true, Cached: true})
	} else {
		if m, err = b.make(ctx); err != nil {
			return err
		}
		raw, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := b.Store.PutNote("image", key, raw); err != nil {
			return err
		}
	}
	for _, w := range m.Without { // on every build, cached or not: somebody has to know
		b.event(Event{Phase: "withheld", Name: w.Path, Line: w.Why, Done: true})
	}
	result.Images = append(result.Images, m.Image)
	result.Steps = append(result.Steps, m.Steps...)
	result.Lists = append(result.Lists, m.List)
	return nil
}

func (b *build) checkPlatform(ctx context.Context) error {
	machine := definition.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if b.platform.Architecture == machine.Architecture {
		return nil
	}
	img := b.job.Definition.Image
	what := ""
	switch {
	case len(b.job.Definition.Steps) > 0:
		what = fmt.Sprintf("step %q would have to run there", b.job.Definition.Steps[0].Name)
	case img.Scripts == definition.ScriptsDpkg && len(img.Packages) > 0:
		what = "the packages' maintainer scripts would have to run there"
	default:
		return nil
	}
	var err error
	if b.emulator, err = b.Sandbox.Emulator(ctx, b.platform.Architecture); err != nil {
		return &PlatformError{Platform: b.platform.String(), Machine: machine.String(), What: what, Err: err}
	}
	return nil
}

// imageKey is everything that decides a whole image.
func (b *build) imageKey() (string, error) {
	def, err := json.Marshal(b.job.Definition)
	if err != nil {
		return "", err
	}
	k := newKey("image").str(b.platform.String()).str(string(def)).str(string(lockfile.Format(b.job.Lock)))
	for _, l := range b.job.Definition.Inputs.Local {
		k.str(l.Name).digest(b.job.Locals[l.Name].Tree)
	}
	return k.done(), nil
}

func (b *build) remembered(key string) (made, bool) {
	var m made
	raw, ok := b.Store.Note("image", key)
	if !ok || json.Unmarshal(raw, &m) != nil || !b.Store.Has(m.List.Digest, -1) {
		return m, false
	}
	for _, raw := range [][]byte{m.Image.Config, m.Image.Manifest} {
		if !b.Store.Has(digest.Of(raw), int64(len(raw))) {
			return m, false
		}
	}
	for _, l := range m.Image.Layers {
		if !b.Store.Has(l.Digest, l.Size) {
			return m, false
		}
	}
	return m, true
}

// make builds the image. Its packages and the steps do not need each other, so
// they are worked on side by side; the copies need both.
func (b *build) make(ctx context.Context) (made, error) {
	g, side := errgroup.WithContext(ctx)
	var base *baseImage
	g.Go(func() (err error) {
		base, err = b.base(side)
		return err
	})
	g.Go(func() error { return b.runSteps(side) })
	if err := g.Wait(); err != nil {
		return made{}, err
	}
	final, layers, err := b.withCopies(ctx, base)
	if err != nil {
		return made{}, err
	}
	if len(layers) == 0 {
		return made{}, &EmptyError{Platform: b.platform.String()}
	}
	img, err := image.New(b.imageSpec(layers, base.config))
	if err != nil {
		return made{}, err
	}
	for _, raw := range [][]byte{img.Config, img.Manifest} {
		if err := b.Store.Put(bytes.NewReader(raw), digest.Of(raw), int64(len(raw))); err != nil {
			return made{}, err
		}
	}
	list, err := b.putBlob(formatted{final})
	if err != nil {
		return made{}, err
	}
	b.event(Event{Phase: "image", Name: b.platform.String(), Done: true})
	if base.scripts != nil {
		b.steps = append(b.steps, *base.scripts)
	}
	return made{Image: *img, Steps: b.steps, List: FileList{Platform: b.platform.String(), Digest: list}, Without: base.without}, nil
}

func (b *build) runSteps(ctx context.Context) error {
	for _, step := range b.job.Definition.Steps {
		set, err := b.set("step/" + step.Name)
		if err != nil {
			return err
		}
		var inputs []*input
		for _, name := range step.Inputs {
			in, err := b.input(ctx, name)
			if err != nil {
				return err
			}
			inputs = append(inputs, in)
		}
		var base *input
		if step.Root != "" {
			if base, err = b.input(ctx, step.Root); err != nil {
				return err
			}
			if err := b.onRoot(ctx, step, set); err != nil {
				return err
			}
		}
		out, err := b.runStep(ctx, step, stepRoot{set: set, image: base}, inputs)
		if err != nil {
			return err
		}
		b.outputs[step.Name] = out
		if err := b.keepList(out.tree); err != nil {
			return err
		}
		b.steps = append(b.steps, StepResult{Platform: b.platform.String(), Step: step.Name, Tree: out.key})
	}
	return nil
}

// onRoot puts a step's packages on the image that its root is.
func (b *build) onRoot(ctx context.Context, step definition.Step, set *packageSet) (err error) {
	if len(step.Packages) == 0 {
		return nil
	}
	if set.on, err = b.system(ctx, step.Root); err != nil || len(set.pins) > 0 {
		return err // makeRoot checks that the two go together
	}
	return b.complete(lockfile.StepSet(step.Name), set, nil)
}

// keepList puts the list of what a step left into the store, where that is wanted.
func (b *build) keepList(left *tree.Tree) error {
	if !b.StepLists {
		return nil
	}
	_, err := b.putBlob(formatted{left})
	return err
}

// set returns the locked packages of the named sets.
func (b *build) set(names ...string) (*packageSet, error) {
	set := &packageSet{}
	for _, p := range b.job.Lock.Platforms {
		if p.Platform != b.platform {
			continue
		}
		for _, pin := range p.Packages {
			for _, name := range names {
				if _, in := pin.InSet(name); in {
					set.pins = append(set.pins, pin)
					break
				}
			}
		}
		return set, nil
	}
	return nil, fmt.Errorf("the lock has no packages for %s; run: quorate lock", b.platform)
}

// withCopies adds what the definition copies, as the last layer.
func (b *build) withCopies(ctx context.Context, base *baseImage) (*tree.Tree, []image.Layer, error) {
	var copies []tree.Entry
	for _, c := range b.job.Definition.Image.Copy {
		entries, err := b.copied(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		copies = place(copies, entries)
	}
	if b.job.Definition.Image.Layers == definition.LayersSingle {
		return b.singleLayer(ctx, base, copies)
	}
	if len(copies) == 0 {
		return base.tree, base.layers, nil
	}
	final, err := b.over(base.tree, copies)
	if err != nil {
		return nil, nil, err
	}
	l, err := b.layer(ctx, "copies", "", func() ([]tree.Entry, error) { return tree.Diff(base.tree, final), nil })
	return final, append(base.layers, l), err
}

// over is the image with copies laid over it.
func (b *build) over(below *tree.Tree, copies []tree.Entry) (*tree.Tree, error) {
	t, err := newTree(place(below.Entries(), tree.WithParents(copies)))
	if err != nil {
		return nil, fmt.Errorf("copying into the image: %w", err)
	}
	return t.At(b.epoch), nil
}

func (b *build) singleLayer(ctx context.Context, base *baseImage, copies []tree.Entry) (*tree.Tree, []image.Layer, error) {
	final, err := b.over(base.tree, copies)
	if err != nil {
		return nil, nil, err
	}
	l, err := b.layer(ctx, "everything", "", func() ([]tree.Entry, error) { return final.Entries(), nil })
	return final, []image.Layer{l}, err
}

// imageSpec is the part of the image configuration that is not layers. What the
// definition does not say comes from the image that this one is built on.
func (b *build) imageSpec(layers []image.Layer, inherited image.Config) image.Spec {
	d := b.job.Definition
	c := d.Image.Config
	spec := image.Spec{
		Platform: image.Platform{OS: b.platform.OS, Architecture: b.platform.Architecture, Variant: b.platform.Variant},
		Created:  time.Unix(b.epoch, 0).UTC(),
		Layers:   layers,
		Config: image.Config{
			User:       inherited.User,
			Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: cmp.Or(c.WorkingDir, inherited.WorkingDir),
			ExposedPorts: union(inherited.ExposedPorts, c.ExposedPorts), Volumes: union(inherited.Volumes, c.Volumes),
			StopSignal: cmp.Or(c.StopSignal, inherited.StopSignal),
			Env:        environment(inherited.Env, c.Env), Labels: map[string]string{},
		},
	}
	// A command belongs to its entry point: whoever sets one anew sets both, as with a Dockerfile.
	if len(c.Entrypoint) == 0 {
		spec.Config.Entrypoint = inherited.Entrypoint
		if len(c.Cmd) == 0 {
			spec.Config.Cmd = inherited.Cmd
		}
	}
	maps.Copy(spec.Config.Labels, inherited.Labels)
	for _, l := range c.Labels {
		spec.Config.Labels[l.Name] = l.Value
	}
	for _, u := range d.Image.Accounts.Users {
		if u.Name == d.Image.Accounts.RunAs {
			spec.Config.User = fmt.Sprintf("%d:%d", u.UID, u.GID) // numeric, so that runtimes can see that it is not root
		}
	}
	return spec
}

// union is both lists, each word once; the second alone stays as it is.
func union(a, b []string) []string {
	if len(a) == 0 {
		return b
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// environment is the inherited one, or the usual PATH alone, with the
// definition's variables over it.
func environment(inherited []string, vars []definition.Var) []string {
	out := slices.Clone(inherited)
	if !slices.ContainsFunc(out, func(v string) bool { return strings.HasPrefix(v, "PATH=") }) {
		out = append([]string{"PATH=" + searchPath}, out...)
	}
	for _, v := range vars {
		i := slices.IndexFunc(out, func(old string) bool { return strings.HasPrefix(old, v.Name+"=") })
		if i < 0 {
			out = append(out, v.Name+"="+v.Value)
			continue
		}
		out[i] = v.Name + "=" + v.Value
	}
	return out
}

// putBlob writes what w writes into the store.
func (b *Builder) putBlob(from io.WriterTo) (digest.Digest, error) {
	w, err := b.Store.Create()
	if err != nil {
		return digest.Digest{}, err
	}
	defer w.Close()
	if _, err := from.WriteTo(w); err != nil {
		return digest.Digest{}, err
	}
	d, _, err := w.Commit()
	return d, err
}

// formatted is a tree as io.WriterTo of its listing.
type formatted struct{ t *tree.Tree }

func (f formatted) WriteTo(w io.Writer) (int64, error) { return 0, f.t.Format(w) }

func (b *build) event(e Event) {
	if b.several {
		e.Platform = b.platform.String()
	}
	if b.Events != nil {
		b.Events(e)
	}
}

// phase announces that a phase begins and returns what announces its end.
func (b *build) phase(phase, name string, total int64) (done func()) {
	start := time.Now()
	b.event(Event{Phase: phase, Name: name, Total: total})
	return func() {
		b.event(Event{Phase: phase, Name: name, Total: total, Current: total, Done: true, Elapsed: time.Since(start)})
	}
}

// String names the step as a result line does.
func (s StepResult) String() string {
	return strings.Join([]string{s.Platform, s.Step, s.Tree.String()}, " ")
}
