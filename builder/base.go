package builder

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"quorate.dev/builder/image"
	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/deb"
	"quorate.dev/lockfile/definition"
)

// The sets of the lock that an image is made from (lockfile.Member.Set).
const (
	setImage     = "image"
	setConfigure = "configure"
)

// baseImage is the image before copies: packages, what their scripts made, accounts.
type baseImage struct {
	tree    *tree.Tree
	layers  []image.Layer
	scripts *StepResult  // nil when no scripts ran
	without []Withheld   // what scripts made and the image does not hold
	config  image.Config // of the image that this one is built on
}

// base makes the package layers and the state layer.
func (b *build) base(ctx context.Context) (*baseImage, error) {
	if name := b.job.Definition.Image.Base; name != "" {
		return b.builtOn(ctx, name)
	}
	shipped, err := b.set(setImage)
	if err != nil {
		return nil, err
	}
	all, err := b.set(setImage, setConfigure)
	if err != nil {
		return nil, err
	}
	if len(shipped.pins) == 0 {
		return b.packageless(ctx)
	}
	single := b.job.Definition.Image.Layers == definition.LayersSingle
	key := b.stateKey(shipped, all)
	if base, ok := b.cachedBase(shipped, key); ok && !single {
		return base, nil
	}
	if err := b.load(ctx, all); err != nil {
		return nil, err
	}
	shipped.adopt(all)
	if err := b.complete(setImage, shipped, b.waived()); err != nil {
		return nil, err
	}
	parts := divide(b.job.Definition.Image.Layers, shipped)
	base := &baseImage{layers: make([]image.Layer, len(parts))}
	trees := make([]*tree.Tree, len(parts))
	g, side := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	g.Go(func() (err error) {
		base.tree, err = b.finalTree(side, base, shipped, all)
		return err
	})
	for i, part := range parts {
		g.Go(func() (err error) {
			if trees[i], err = part.tree(b.job.Definition.Image.Scripts, b.epoch); err != nil {
				return err
			}
			base.layers[i], err = b.layer(side, part.name, b.groupKey(part), func() ([]tree.Entry, error) { return trees[i].Entries(), nil })
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if single {
		return base, nil
	}
	return b.withState(ctx, base, trees, key)
}

// withState adds the layer that turns the packages' layers, one over the
// other, into the final tree, and remembers the whole.
func (b *build) withState(ctx context.Context, base *baseImage, trees []*tree.Tree, key string) (*baseImage, error) {
	below, err := tree.New(nil)
	if err != nil {
		return nil, err
	}
	layers := make([][]tree.Entry, len(trees))
	for i, t := range trees {
		layers[i] = t.Entries()
	}
	return b.withStateOver(ctx, below, base, layers, key)
}

// withStateOver is withState over an image that is there already.
func (b *build) withStateOver(ctx context.Context, below *tree.Tree, base *baseImage, layers [][]tree.Entry, key string) (*baseImage, error) {
	var err error
	for _, entries := range layers {
		if below, err = tree.Apply(below, entries); err != nil {
			return nil, err
		}
	}
	state := tree.Diff(below, base.tree)
	if len(state) > 0 {
		l, err := b.layer(ctx, "state", "", func() ([]tree.Entry, error) { return state, nil })
		if err != nil {
			return nil, err
		}
		base.layers = append(base.layers, l)
	}
	return base, b.rememberBase(ctx, base, key)
}

// packageless is an image of copies and accounts alone.
func (b *build) packageless(ctx context.Context) (*baseImage, error) {
	accounts := b.job.Definition.Image.Accounts
	var entries []tree.Entry
	if len(accounts.Users)+len(accounts.Groups) > 0 {
		var err error
		if entries, err = addAccounts(nil, accounts, b.epoch); err != nil {
			return nil, err
		}
	}
	t, err := newTree(entries)
	if err != nil {
		return nil, err
	}
	t = t.At(b.epoch)
	base := &baseImage{tree: t}
	if len(entries) == 0 || b.job.Definition.Image.Layers == definition.LayersSingle {
		return base, nil
	}
	l, err := b.layer(ctx, "state", "", func() ([]tree.Entry, error) { return t.Entries(), nil })
	base.layers = []image.Layer{l}
	return base, err
}

// finalTree is what the image holds before copies. What the scripts did besides is written to base.
func (b *build) finalTree(ctx context.Context, base *baseImage, shipped, all *packageSet) (*tree.Tree, error) {
	img := b.job.Definition.Image
	var entries []tree.Entry
	var err error
	if shipped.on != nil && (img.Scripts == definition.ScriptsNone || len(all.pins) == 0) {
		entries, err = b.unpackedOver(shipped)
	} else if img.Scripts == definition.ScriptsNone {
		entries, err = b.distroless(shipped)
	} else {
		entries, err = b.configuredEntries(ctx, base, shipped, all)
	}
	if err != nil {
		return nil, err
	}
	if shipped.on == nil || len(img.Accounts.Users)+len(img.Accounts.Groups) > 0 { // whose accounts an image has is its maker's to say
		if entries, err = addAccounts(entries, img.Accounts, b.epoch); err != nil {
			return nil, err
		}
	}
	t, err := newTree(entries)
	if err != nil {
		return nil, err
	}
	return t.At(b.epoch), nil
}

// configuredEntries is what scripts left of the packages' root, without what no image holds.
func (b *build) configuredEntries(ctx context.Context, base *baseImage, shipped, all *packageSet) ([]tree.Entry, error) {
	t, lower, err := b.installed(ctx, all)
	if err != nil {
		return nil, err
	}
	entries := forget(t, b.epoch)
	if all.on != nil {
		entries = all.on.restore(t, entries)
	}
	entries, without, err := withhold(entries, lower)
	if err != nil {
		return nil, err
	}
	if err := stampKeystore(entries, b.epoch); err != nil {
		return nil, err
	}
	if all.on != nil {
		all.on.untouched(t, entries)
	}
	made, err := newTree(entries)
	if err != nil {
		return nil, err
	}
	made = made.At(b.epoch)
	base.scripts = &StepResult{Platform: b.platform.String(), Step: ScriptsStep, Tree: made.Digest()}
	if err := b.keepList(made); err != nil {
		return nil, err
	}
	base.without = without
	if len(all.packages) == len(shipped.packages) {
		return entries, nil
	}
	if all.on != nil {
		return all.on.shipment(shipped.packages, all.without(shipped)).filter(entries)
	}
	return newShipment(shipped.packages, all.without(shipped)).filter(entries)
}

// unpackedOver only unpacks, over an image; packages count as installed, as
// they do without dpkg.
func (b *build) unpackedOver(shipped *packageSet) ([]tree.Entry, error) {
	if len(shipped.pins) == 0 {
		return shipped.on.in.tree.Entries(), nil
	}
	t, err := shipped.unpackedOver(deb.DatabaseOptions{State: deb.Installed, Architecture: b.platform.DebianArchitecture()}, b.epoch)
	if err != nil {
		return nil, err
	}
	return t.Entries(), nil
}

// distroless only unpacks: no scripts, no dpkg, and metadata where scanners look for it.
func (b *build) distroless(shipped *packageSet) ([]tree.Entry, error) {
	t, err := group{packages: shipped.packages}.tree(definition.ScriptsNone, b.epoch)
	if err != nil {
		return nil, err
	}
	whole, err := newTree(append(t.Entries(), skeleton(b.epoch)...))
	if err != nil {
		return nil, err
	}
	return whole.Entries(), nil
}

// installed runs the scripts and returns the root as they left it, and as it was before.
func (b *build) installed(ctx context.Context, all *packageSet) (t, lower *tree.Tree, err error) {
	r, err := b.configured(ctx, setImage, all)
	if err != nil {
		return nil, nil, err
	}
	if err := b.load(ctx, all); err != nil {
		return nil, nil, err
	}
	lower, err = all.unconfigured(b.platform.DebianArchitecture(), b.epoch)
	if err != nil {
		return nil, nil, err
	}
	dir, done, err := b.Store.Scratch(ctx)
	if err != nil {
		return nil, nil, err
	}
	b.cleanup(done)
	left, err := b.scan(ctx, r.state(), filepath.Join(dir, spoolData))
	if err != nil {
		return nil, nil, fmt.Errorf("after maintainer scripts: %w", err)
	}
	if t, err = left.overlay(lower); err != nil {
		return nil, nil, err
	}
	t, err = all.settle(t)
	return t, lower, err
}

// stateKey is everything that decides the image before copies.
func (b *build) stateKey(shipped, all *packageSet) string {
	img := b.job.Definition.Image
	k := newKey("state").num(b.epoch).digest(shipped.key()).digest(all.key()).str(string(img.Scripts)).str(string(img.Layers))
	k.num(int64(len(img.Accounts.Users)))
	for _, u := range img.Accounts.Users {
		k.str(u.Name).num(int64(u.UID)).num(int64(u.GID)).str(u.Home).str(u.Shell)
	}
	k.num(int64(len(img.Accounts.Groups)))
	for _, g := range img.Accounts.Groups {
		k.str(g.Name).num(int64(g.GID)).strs(g.Members)
	}
	return k.done()
}

// baseIndex is what rememberBase keeps beside the listing.
type baseIndex struct {
	Layers  []image.Layer
	Scripts *StepResult
	Without []Withheld
}

const (
	baseListing = "tree.mtree"
	baseLayers  = "layers.json"
)

func (b *build) rememberBase(ctx context.Context, base *baseImage, key string) error {
	_, err := b.Store.Derived(ctx, "state", key, func(dir string) error {
		var list bytes.Buffer
		if err := base.tree.Format(&list); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, baseListing), list.Bytes(), 0o644); err != nil { //nolint:gosec // nothing secret
			return err
		}
		return writeJSON(filepath.Join(dir, baseLayers), baseIndex{base.layers, base.scripts, base.without})
	})
	return err
}

// cachedBase finds the image before copies. Its tree has no contents, which
// the copies' layer does not need.
func (b *build) cachedBase(shipped *packageSet, key string) (*baseImage, bool) {
	dir, ok := b.Store.HasDerived("state", key)
	if !ok {
		return nil, false
	}
	var index baseIndex
	if readJSON(filepath.Join(dir, baseLayers), &index) != nil {
		return nil, false
	}
	for _, l := range index.Layers {
		if !b.Store.Has(l.Digest, l.Size) {
			return nil, false
		}
	}
	f, err := os.Open(filepath.Join(dir, baseListing))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	t, err := tree.Parse(f)
	if err != nil {
		return nil, false
	}
	b.event(Event{Phase: "layer", Name: setImage, Done: true, Cached: true})
	return &baseImage{tree: t, layers: index.Layers, scripts: index.Scripts, without: index.Without}, true
}
