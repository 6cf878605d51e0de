package builder

import (
	"context"
	"io"
	"path/filepath"

	"quorate.dev/builder/sandbox"
	"quorate.dev/lockfile"
)

// Tool is a program run from packages that are only unpacked, as apt is to
// resolve dependencies: no scripts have run, and nothing it writes is kept but
// what goes to its writable folder.
type Tool struct {
	Packages       []lockfile.Package
	Args           []string
	Folder         string // of the host, shown writable at At
	At             string
	Stdout, Stderr io.Writer
}

// RunTool runs t in the sandbox. Errors are Build's; *sandbox.ExitError when
// the program itself failed.
func (b *Builder) RunTool(ctx context.Context, t Tool) error {
	w := &build{Builder: b, log: &buildLog{}}
	set := &packageSet{pins: t.Packages}
	key := newKey("tool").str(string(b.Sandbox.Mapping())).digest(set.key()).done()
	dir, err := b.Store.Derived(ctx, "tool", key, func(dir string) error {
		if err := w.load(ctx, set); err != nil {
			return err
		}
		entries, err := set.merge()
		if err != nil {
			return err
		}
		tree, err := newTree(append(entries, skeleton(0)...))
		if err != nil {
			return err
		}
		return w.extract(ctx, filepath.Join(dir, "files"), tree)
	})
	if err != nil {
		return err
	}
	return b.Sandbox.Run(ctx, sandbox.Command{
		Root:   sandbox.Root{Lower: []string{filepath.Join(dir, "files")}},
		Args:   t.Args,
		Env:    []string{"PATH=" + searchPath, "LC_ALL=C"},
		Binds:  []sandbox.Bind{{Source: t.Folder, Target: t.At, Writable: true}},
		Stdout: t.Stdout,
		Stderr: t.Stderr,
	})
}
