package builder

import (
	"context"
	"fmt"
	"slices"

	"quorate.dev/builder/layer"
	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/deb"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
)

// system is an image that packages are added to: its files, and what dpkg says of them.
type system struct {
	name   string // of the input
	in     *input
	ground *deb.Ground
}

// SystemError says why packages cannot be added to an image.
type SystemError struct {
	Set   string // "image", "step/compile"; "" where it is the same for all
	Image string // input
	Err   error
}

func (e *SystemError) Error() string {
	to := ""
	if e.Set != "" {
		to = fmt.Sprintf(" of %q", e.Set)
	}
	return fmt.Sprintf("cannot add the packages%s to image %q: %v", to, e.Image, e.Err)
}

func (e *SystemError) Unwrap() error { return e.Err }

// Database is what an image says of the packages in it, for choosing others.
type Database struct {
	Status  []byte // paragraphs of dpkg's status file, all of installed packages
	Release string // code name of the suite that it is a system of; "" when it does not say
}

// Database reads the dpkg database of an image input of a lock. The image's
// bytes must be in the store. Errors: *SystemError, *MissingError.
func (b *Builder) Database(ctx context.Context, lock *lockfile.Lock, name string, p definition.Platform) (*Database, error) {
	one := &build{Builder: b, job: Job{Lock: lock}, platform: p, log: &buildLog{}}
	defer one.clean()
	s, err := one.system(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Database{Status: s.ground.Status(), Release: s.ground.Release()}, nil
}

func (b *build) system(ctx context.Context, name string) (*system, error) {
	in, err := b.input(ctx, name)
	if err != nil {
		return nil, err
	}
	ground, err := deb.NewGround(in.tree)
	if err != nil {
		return nil, &SystemError{Image: name, Err: err}
	}
	return &system{name: name, in: in, ground: ground}, nil
}

// request is what the lock was asked for a set.
func (b *build) request(set string) lockfile.SetRequest {
	for _, r := range b.job.Lock.Requests.Sets {
		if r.Name == set {
			return r
		}
	}
	return lockfile.SetRequest{Name: set}
}

// setOn is set, of packages that are added to an image.
func (b *build) setOn(ctx context.Context, image string, names ...string) (*packageSet, error) {
	s, err := b.set(names...)
	if err != nil {
		return nil, err
	}
	s.on, err = b.system(ctx, image)
	return s, err
}

// addable holds a locked set against the image that it is to be added to: the
// lock was made for this one, nothing is in it twice, and all that was asked for
// is in one of the two.
func (b *build) addable(name string, s *packageSet) error {
	refuse := func(format string, args ...any) error {
		return &SystemError{Set: name, Image: s.on.name, Err: fmt.Errorf(format, args...)}
	}
	runs := name != setImage || b.job.Definition.Image.Scripts == definition.ScriptsDpkg
	if runs && len(s.pins) > 0 && !s.on.ground.HasDpkg() {
		return refuse("it has no package dpkg, which runs maintainer scripts")
	}
	for _, p := range s.pins {
		for _, have := range s.on.ground.Installed {
			if have.Get("Package") == p.Name && (have.Get("Architecture") == p.Arch || p.Arch == "all" || have.Get("Architecture") == "all") {
				return refuse("the lock adds %s %s, and the image has %s; run: quorate lock", p.Name, p.Version, have.Get("Version"))
			}
		}
	}
	asked := b.request(name)
	for _, text := range asked.Packages {
		r, err := definition.ParseRequest(text)
		if err != nil {
			return err
		}
		if have := s.on.ground.Version(r.Name); have == "" && !s.provides(r.Name) || have != "" && r.Version != "" && r.Version != have && r.Arch == "" {
			return refuse("neither the lock nor the image has %q, which was asked for; run: quorate lock", text)
		}
	}
	for _, h := range b.held(name) {
		if have := s.on.ground.Version(h.Package); have != h.Version {
			return refuse("the lock says that it has %s %s, and it has %q; run: quorate lock", h.Package, h.Version, have)
		}
	}
	if clash := deb.Clash(s.debs(), s.on.ground.Installed); clash != "" {
		return refuse("%s; run: quorate lock", clash)
	}
	return nil
}

// held is what the lock says that a set's image meets by itself.
func (b *build) held(set string) []lockfile.Held {
	var all []lockfile.Held
	for _, p := range b.job.Lock.Platforms {
		if p.Platform != b.platform {
			continue
		}
		for _, h := range p.Held {
			if h.Set == set {
				all = append(all, h)
			}
		}
	}
	return all
}

// stateKeyOn is stateKey, with what addable holds against the image.
func (b *build) stateKeyOn(shipped, all *packageSet) string {
	k := newKey("state on").str(b.stateKey(shipped, all)).strs(b.request(setImage).Packages)
	for _, h := range b.held(setImage) {
		k.str(h.Package).str(h.Version)
	}
	return k.done()
}

// provides reports whether a package of the set has a name, or provides it.
func (s *packageSet) provides(name string) bool {
	return slices.ContainsFunc(s.packages, func(p *decoded) bool { return p.Name() == name || p.Provides(name) })
}

// lay lays the set's packages over the image; aside is for what dpkg is still to configure.
func (s *packageSet) lay(aside bool) (*deb.Laid, error) {
	sources := s.sources()
	if aside {
		for i := range sources {
			setAside(sources[i])
		}
	}
	laid, err := s.on.ground.Lay(sources)
	if err != nil {
		return nil, &SystemError{Image: s.on.name, Err: err}
	}
	return laid, nil
}

// unpackedOver is unconfigured over an image.
func (s *packageSet) unpackedOver(o deb.DatabaseOptions, epoch int64) (*tree.Tree, error) {
	laid, err := s.lay(o.State == deb.Unpacked)
	if err != nil {
		return nil, err
	}
	database, err := s.on.ground.Database(laid, o)
	if err != nil {
		return nil, &SystemError{Image: s.on.name, Err: err}
	}
	t, err := tree.Apply(s.on.in.tree, slices.Concat(laid.Entries, database))
	if err != nil {
		return nil, &SystemError{Image: s.on.name, Err: err}
	}
	if o.State != deb.Unpacked {
		return newTree(t.Entries())
	}
	return newTree(slices.Concat(t.Entries(), skeleton(epoch), []tree.Entry{mountPoint(epoch)}))
}

// restore undoes what [forget] did to the image's own files: what it drops says
// something about the run, or was in the image before. left is the root after
// the run.
func (s *system) restore(left *tree.Tree, kept []tree.Entry) []tree.Entry {
	at := make(map[string]int, len(kept))
	for i, e := range kept {
		at[e.Path] = i
	}
	for _, e := range s.in.tree.Entries() {
		now, ok := left.Lookup(e.Path)
		i, is := at[e.Path]
		switch {
		case !ok: // scripts removed it
		case !is:
			kept = append(kept, e)
		case !sameButTime(now, kept[i]):
			kept[i] = e
		}
	}
	tree.SortEntries(kept)
	return kept
}

// untouched gives the image's own files back that scripts left as they were,
// whatever rule for made files changed them since.
func (s *system) untouched(left *tree.Tree, entries []tree.Entry) {
	for i, e := range entries {
		was, ok := s.in.tree.Lookup(e.Path)
		if now, there := left.Lookup(e.Path); ok && there && sameButTime(now, was) {
			entries[i] = was
		}
	}
}

// builtWith is the image before copies when packages are added to another: the
// other's layers as they are, then one for each group of packages, and what
// scripts and accounts changed.
func (b *build) builtWith(ctx context.Context, name string, below *baseImage) (*baseImage, error) {
	all, err := b.setOn(ctx, name, setImage, setConfigure)
	if err != nil {
		return nil, err
	}
	shipped, err := b.set(setImage)
	if err != nil {
		return nil, err
	}
	shipped.on = all.on
	key := b.stateKeyOn(shipped, all)
	single := b.job.Definition.Image.Layers == definition.LayersSingle
	if base, ok := b.cachedBase(shipped, key); ok && !single {
		base.config, base.layers = below.config, slices.Concat(below.layers, base.layers)
		return base, nil
	}
	if err := b.load(ctx, all); err != nil {
		return nil, err
	}
	shipped.adopt(all)
	if err := b.complete(setImage, shipped, b.waived()); err != nil {
		return nil, err
	}
	base := &baseImage{config: below.config}
	if base.tree, err = b.finalTree(ctx, base, shipped, all); err != nil {
		return nil, err
	}
	if single {
		base.layers = below.layers
		return base, nil
	}
	groups, err := b.groupsOver(ctx, shipped, base)
	if err != nil {
		return nil, err
	}
	if base, err = b.withStateOver(ctx, shipped.on.in.tree, base, groups, key); err != nil {
		return nil, err
	}
	base.layers = slices.Concat(below.layers, base.layers)
	return base, nil
}

// groupsOver makes a layer of each group of packages, and returns what is in them.
func (b *build) groupsOver(ctx context.Context, shipped *packageSet, base *baseImage) ([][]tree.Entry, error) {
	laid, err := shipped.lay(false)
	if err != nil {
		return nil, err
	}
	groupOf := make([]int, len(shipped.packages))
	parts := divide(b.job.Definition.Image.Layers, shipped)
	contents := make([][]tree.Entry, len(parts))
	for n, part := range parts {
		for _, p := range part.packages {
			groupOf[slices.Index(shipped.packages, p)] = n
			contents[n] = append(contents[n], shipped.on.ground.InfoFiles(p.Package, laid)...)
		}
	}
	for i, e := range laid.Entries {
		contents[groupOf[laid.From[i]]] = append(contents[groupOf[laid.From[i]]], e)
	}
	for n, part := range parts {
		t, err := tree.New(contents[n])
		if err != nil {
			return nil, err
		}
		contents[n] = t.At(b.epoch).Entries()
		key := newKey("group on").str(b.groupKey(part)).digest(shipped.key()).str(layer.Compressor).done()
		l, err := b.layer(ctx, part.name, key, func() ([]tree.Entry, error) { return contents[n], nil })
		if err != nil {
			return nil, err
		}
		base.layers = append(base.layers, l)
	}
	return contents, nil
}

// shipment is newShipment over an image, all of which is shipped.
func (s *system) shipment(shipped, others []*decoded) *shipment {
	m := newShipment(shipped, others)
	m.over = true
	for _, e := range s.in.tree.Entries() {
		m.shipped[e.Path] = true
	}
	for _, name := range s.ground.InfoNames() {
		m.keep[name] = true
	}
	return m
}
