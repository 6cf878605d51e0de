package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// Where a step finds things. They are the same on every host, because paths end up in outputs.
const (
	stepDir    = "/build"  // working folder, empty at first
	stepOut    = "/out"    // $OUT, what the step leaves
	stepInputs = "/inputs" // read-only
)

// StepError says that a step's command failed, with the end of what it printed.
type StepError struct {
	Step   string
	Output string
	Err    error // *sandbox.ExitError, *sandbox.LimitError, *sandbox.OwnerError …
}

func (e *StepError) Error() string {
	return fmt.Sprintf("step %q failed: %v\n%s", e.Step, e.Err, indent(e.Output))
}

func (e *StepError) Unwrap() error { return e.Err }

// output is what a step left in $OUT.
type output struct {
	tree *tree.Tree
	key  digest.Digest // of tree
}

// runStep runs one step, or finds what it left when everything that decides it is the same.
func (b *build) runStep(ctx context.Context, step definition.Step, from stepRoot, inputs []*input) (*output, error) {
	k := newKey("step").digest(from.key()).str(step.Run).num(b.epoch).str(string(b.Sandbox.Mapping()))
	for _, v := range step.Env {
		k.str(v.Name).str(v.Value)
	}
	for i, in := range inputs {
		k.str(step.Inputs[i]).digest(in.key)
	}
	made := false
	dir, err := b.Store.Derived(ctx, "step", k.done(), func(dir string) error {
		made = true
		return b.makeStep(ctx, step, from, inputs, dir)
	})
	if err != nil {
		return nil, err
	}
	if !made {
		b.event(Event{Phase: "step", Name: step.Name, Done: true, Cached: true})
	}
	t, err := loadSpooled(dir, b.epoch)
	if err != nil {
		return nil, err
	}
	return &output{tree: t, key: t.Digest()}, nil
}

// stepRoot is what a step's root is made of: packages, or the files of an image,
// or packages added to those.
type stepRoot struct {
	set   *packageSet
	image *input // nil for packages alone
}

// plain reports whether it is an image as it is.
func (s stepRoot) plain() bool { return s.image != nil && len(s.set.pins) == 0 }

func (s stepRoot) key() digest.Digest {
	if s.plain() {
		return s.image.key
	}
	return s.set.key()
}

// stepRoot makes the folders that a step runs over.
func (b *build) stepRoot(ctx context.Context, name string, from stepRoot) (root, error) {
	if !from.plain() {
		return b.configured(ctx, name, from.set)
	}
	key := newKey("image root").str(string(b.Sandbox.Mapping())).num(b.epoch).bool(b.Surroundings.ReverseOrder).digest(from.image.key).done()
	dir, err := b.Store.Derived(ctx, "root", key, func(dir string) error {
		defer b.phase("root", name, 0)()
		r := root{dir}
		if err := b.extract(ctx, r.lower(), from.image.tree); err != nil {
			return err
		}
		return os.Mkdir(r.state(), 0o755)
	})
	return root{dir}, err
}

func (b *build) makeStep(ctx context.Context, step definition.Step, from stepRoot, inputs []*input, dir string) error {
	r, err := b.stepRoot(ctx, "step/"+step.Name, from)
	if err != nil {
		return err
	}
	work, done, err := b.Store.Scratch(ctx)
	if err != nil {
		return err
	}
	defer done()
	upper := filepath.Join(work, "upper")
	for _, d := range []string{upper, filepath.Join(work, "work"), filepath.Join(upper, stepDir), filepath.Join(upper, stepOut)} {
		if err := mkdirExact(d); err != nil {
			return err
		}
	}
	binds, err := b.inputBinds(ctx, step.Inputs, inputs)
	if err != nil {
		return err
	}
	names, err := b.constantFile(work, hostsPath, hosts, 0o644)
	if err != nil {
		return err
	}
	finished := b.phase("step", step.Name, 0)
	log := b.log.writer("step", step.Name, b.event)
	defer log.Close()
	err = b.Sandbox.Run(ctx, sandbox.Command{
		Root:         sandbox.Root{Lower: []string{r.state(), r.lower()}, Upper: upper, Work: filepath.Join(work, "work")},
		Args:         []string{"/bin/sh", "-euc", step.Run},
		Env:          b.stepEnv(step),
		Dir:          stepDir,
		Binds:        append(binds, names),
		Stdout:       log,
		Stderr:       log,
		Limits:       sandbox.Limits(step.Limits),
		Surroundings: b.Surroundings.Sandbox,
		Emulator:     b.emulator,
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var setup *sandbox.SetupError
	if errors.As(err, &setup) {
		return err
	}
	if err != nil {
		return &StepError{Step: step.Name, Output: log.tail(), Err: err}
	}
	out := filepath.Join(upper, stepOut)
	if info, err := os.Lstat(out); err != nil || !info.IsDir() {
		return fmt.Errorf("step %q removed or replaced the folder $OUT (%s); it has to write into the one that is there", step.Name, stepOut)
	}
	left, err := b.scan(ctx, out, filepath.Join(dir, spoolData))
	if err != nil {
		return fmt.Errorf("step %q: %w", step.Name, err)
	}
	disown(left.entries, log)
	finished()
	return saveSpooled(dir, left.entries)
}

// disown gives what a step left to root. Owners cannot be set by every mapping
// of ids, so those that a tarball or "cp -a" brought along must not reach an
// image by accident; image.copy sets them where they are meant. The log says so.
func disown(entries []tree.Entry, log io.Writer) {
	foreign, first := 0, tree.Entry{}
	for i := range entries {
		e := &entries[i]
		if e.UID == 0 && e.GID == 0 || e.Kind == tree.Hardlink {
			continue
		}
		if foreign++; foreign == 1 {
			first = *e
		}
		e.UID, e.GID = 0, 0
	}
	if foreign > 0 {
		paths := "path"
		if foreign > 1 {
			paths = "paths"
		}
		fmt.Fprintf(log, "note: %d %s in $OUT had other owners (first: /%s, %d:%d); what a step leaves is root's, image.copy can set an owner\n",
			foreign, paths, first.Path, first.UID, first.GID)
	}
}

func (b *build) stepEnv(step definition.Step) []string {
	env := append(b.constantEnv(), "HOME="+stepDir, "OUT="+stepOut)
	for _, v := range step.Env {
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}

func mkdirExact(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755) //nolint:gosec // whatever the umask
}
