package builder

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // SPDX 2.3 asks for it beside sha256
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"

	"quorate.dev/builder/image"
	"quorate.dev/builder/sbom"
	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/deb"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// Contents says what the images of a build are made of and where each of their
// files came from: use is called for one platform after the other, and what it
// is given lasts until it returns. Contents reads what the build left in the
// store; steps whose output is gone run again.
//
// The list of an image's files is never held whole. It is read from the store
// twice, and what belongs to a path is found by sorting, not by looking it up.
func (b *Builder) Contents(ctx context.Context, job Job, r *Result, use func(*sbom.Contents) error) error {
	for i, img := range r.Images {
		if err := b.contents(ctx, job, img, r.Lists[i].Digest, len(r.Images) > 1, use); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) contents(ctx context.Context, job Job, img image.Image, list digest.Digest, several bool, use func(*sbom.Contents) error) error {
	p, err := definition.ParsePlatform(img.Platform.String())
	if err != nil {
		return err
	}
	one := &build{
		Builder: b, job: job, platform: p, several: several, epoch: job.Lock.Epoch.Unix(), log: &buildLog{}, outputs: map[string]*output{},
	}
	defer one.clean()
	if err := one.checkPlatform(ctx); err != nil {
		return err
	}
	dir, done, err := b.Store.Scratch(ctx)
	if err != nil {
		return err
	}
	defer done()
	v := newInventory(one, dir)
	defer v.close()
	if err := v.take(ctx, img, list); err != nil {
		return fmt.Errorf("listing what the image for %s is made of: %w", p, err)
	}
	return use(v.contents)
}

// inventory is the contents of one platform's image while they are gathered.
type inventory struct {
	*build
	contents *sbom.Contents
	copied   map[string]bool // keys of parts that files are copied from
	given    map[string]bool // keys of inputs of steps that reach the image so
	evidence
	list digest.Digest // of the image's list of files

	files int             // how many regular files and hard links the image has
	links []tree.Entry    // its symbolic links
	heads map[string]head // first names of files with several, by path

	claims *sorter // claim: who brings a path
	sums   *sorter // sha256, SHA-1: of every file of every layer
	wanted *sorter // sha256, number, path: of the files of the list
	all    *fileList

	below  *tree.Tree // of the image that packages are added to; nil for none
	inBase basePackages
}

// head is what a hard link takes from the first name of its file.
type head struct {
	size   int64
	digest digest.Digest
}

func newInventory(b *build, dir string) *inventory {
	return &inventory{
		build: b, copied: map[string]bool{}, given: map[string]bool{}, evidence: newEvidence(), heads: map[string]head{},
		claims: &sorter{dir: dir}, sums: &sorter{dir: dir}, wanted: &sorter{dir: dir}, all: newFileList(dir),
		inBase: newBasePackages(dir),
	}
}

func (v *inventory) close() {
	for _, s := range []*sorter{v.claims, v.sums, v.wanted, v.inBase.owners} {
		s.close()
	}
	v.all.close()
}

// What is said of files that no part brought as they are.
const (
	howScripts  = "made by maintainer scripts"
	howChanged  = "changed by maintainer scripts"
	howDatabase = "package database, written by Quorate"
	howQuorate  = "written by Quorate"
)

func (v *inventory) take(ctx context.Context, img image.Image, list digest.Digest) error {
	v.list = list
	v.contents = &sbom.Contents{
		Name: v.job.Definition.Name, Platform: v.platform.String(), Architecture: v.platform.Architecture,
		Image: img.ManifestDigest, Lock: digest.Of(lockfile.Format(v.job.Lock)), Epoch: v.job.Lock.Epoch,
	}
	if err := v.survey(); err != nil {
		return err
	}
	if err := v.runSteps(ctx); err != nil {
		return err
	}
	if err := v.copies(ctx); err != nil {
		return err
	}
	if err := v.weigh(ctx); err != nil {
		return err
	}
	if err := v.packages(ctx); err != nil {
		return err
	}
	if err := v.baseParts(ctx); err != nil {
		return err
	}
	v.others()
	slices.SortFunc(v.contents.Parts, func(a, b sbom.Part) int { return cmp.Compare(a.Key, b.Key) })
	return v.takeFiles(ctx, img)
}

// entries reads the image's list of files.
func (v *inventory) entries() iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		r, err := v.openBlob("list of files", v.list)
		if err != nil {
			yield(tree.Entry{}, err)
			return
		}
		defer r.Close()
		tree.Scan(r)(yield)
	}
}

// survey notes what has to be known of the list before its files are gone through.
func (v *inventory) survey() error {
	for e, err := range v.entries() {
		if err != nil {
			return err
		}
		switch e.Kind {
		case tree.Symlink:
			v.links = append(v.links, e)
		case tree.File:
			v.files++
		case tree.Hardlink:
			v.files++
			v.heads[e.Link] = head{}
		}
	}
	return nil
}

// keyOf is the key of the step or input that a definition calls by name.
func (v *inventory) keyOf(name string) string {
	if _, ok := v.outputs[name]; ok {
		return "step/" + name
	}
	if _, ok := v.job.Locals[name]; ok {
		return "local/" + name
	}
	if in, ok := v.job.Lock.Input(name); ok {
		return in.Kind + "/" + name
	}
	return "file/" + name
}

// A claim is a record that says who brings a path. Those of one path come
// together, in the order of its files in the list:
//
//	path, NUL, place among claims (4 bytes), sha256 of what is brought (32), key of the part
//
// The sha256 is zero when the part brings whatever is there.
type claim struct {
	digest digest.Digest
	part   string
}

func (v *inventory) claim(path string, place int, d digest.Digest, part string) error {
	return v.claims.add([]byte(path), []byte{0}, binary.BigEndian.AppendUint32(nil, uint32(place)), d[:], []byte(part))
}

// readClaim reads a record of claim, what is behind its path.
func readClaim(rest []byte) (c claim) {
	rest = rest[4:]
	copy(c.digest[:], rest)
	c.part = string(rest[len(c.digest):])
	return c
}

// alongside goes through records that begin with a path and NUL, beside a list
// that is sorted by path.
type alongside struct {
	next   func() ([]byte, error, bool)
	stop   func()
	record []byte // the next one; nil at the end
	err    error
}

func newAlongside(s *sorter) *alongside {
	a := &alongside{}
	a.next, a.stop = iter.Pull2(s.all())
	a.record, a.err, _ = a.next()
	return a
}

// of returns what is behind the path in the records of a path; those of paths
// before it are passed over.
func (a *alongside) of(path string) (found [][]byte) {
	for a.record != nil && a.err == nil {
		at := bytes.IndexByte(a.record, 0)
		order := cmp.Compare(string(a.record[:at]), path)
		if order > 0 {
			break
		}
		if order == 0 {
			found = append(found, bytes.Clone(a.record[at+1:]))
		}
		a.record, a.err, _ = a.next()
	}
	return found
}

// copies notes which paths the definition copies, the last copy of one counts.
func (v *inventory) copies(ctx context.Context) error {
	resolve := newResolver(v.links)
	for i, c := range v.job.Definition.Image.Copy {
		entries, err := v.build.copied(ctx, c)
		if err != nil {
			return err
		}
		key := v.keyOf(c.From)
		v.copied[key] = true
		for _, e := range entries {
			if e.Kind != tree.File && e.Kind != tree.Hardlink {
				continue
			}
			dir, _ := resolve.follow(path.Dir(e.Path))
			at := path.Join(dir, path.Base(e.Path))
			if err := v.claim(at, i, digest.Digest{}, key); err != nil {
				return err
			}
			if err := v.program(at, e, key); err != nil {
				return err
			}
		}
	}
	base := v.job.Definition.Image.Base
	if base == "" {
		return nil
	}
	v.copied[v.keyOf(base)] = true
	if len(v.job.Definition.Image.Packages) == 0 {
		return nil
	}
	in, err := v.input(ctx, base)
	if err == nil {
		v.below = in.tree
	}
	return err
}

// packages makes a part of each locked package of the platform.
func (v *inventory) packages(ctx context.Context) error {
	var pins []lockfile.Package
	var waived []lockfile.Waiver
	for _, p := range v.job.Lock.Platforms {
		if p.Platform == v.platform {
			pins, waived = p.Packages, p.Waived
		}
	}
	needs := map[string][]string{} // of shipped packages, by name: keys of what the lock says they brought
	for _, p := range pins {
		if by, ok := p.InSet(lockfile.SetImage); ok {
			needs[by] = append(needs[by], packageKey(p))
		}
	}
	parts := make([]sbom.Part, len(pins))
	docs := newCopyrights()
	if v.below != nil {
		docs.addTree(v.below)
	}
	var mu sync.Mutex
	err := v.decodeEach(ctx, pins, func(i int, d *decoded) error {
		part := packagePart(d, v.job.Lock.Requests.Suite)
		mu.Lock()
		defer mu.Unlock()
		parts[i] = part
		docs.add(d)
		if _, ships := d.pin.InSet(lockfile.SetImage); !ships {
			return nil
		}
		return v.own(d, i, part.Key)
	})
	if err != nil {
		return err
	}
	for i, p := range pins {
		part := &parts[i]
		_, part.Shipped = p.InSet(lockfile.SetImage)
		if part.Shipped {
			part.Needs = needs[p.Name]
			for _, w := range waived {
				if w.Package == p.Name {
					part.Lacks = append(part.Lacks, w.Needs)
				}
			}
		}
		if part.Licence, err = docs.licence(p.Name); err != nil {
			return err
		}
	}
	v.contents.Parts = append(v.contents.Parts, parts...)
	return nil
}

// own notes the files of a shipped package.
func (v *inventory) own(d *decoded, place int, key string) error {
	for _, e := range d.Entries {
		if e.Kind != tree.File && e.Kind != tree.Hardlink {
			continue
		}
		sum := e.Digest
		if e.Kind == tree.Hardlink {
			if first, ok := d.lookup(e.Link); ok {
				sum = first.Digest
			}
		}
		if err := v.claim(e.Path, place, sum, key); err != nil {
			return err
		}
	}
	return nil
}

// ownerOf says who brought the file e, of those who claim its path. What is copied
// lies over all else, the last copy on top. Two packages may ship one path
// (Replaces); the last one whose bytes are there owns it, else the first.
func ownerOf(e tree.Entry, claims []claim) (origin claim, ok bool) {
	for _, c := range claims {
		switch {
		case c.digest.IsZero():
			origin, ok = c, true
		case ok && origin.digest.IsZero():
		case !ok || c.digest == e.Digest:
			origin, ok = c, true
		}
	}
	return origin, ok
}

func packageKey(p lockfile.Package) string { return "deb/" + p.Name + ":" + p.Arch }

func packagePart(d *decoded, suite string) sbom.Part {
	get := func(field string) string { return strings.Clone(d.Control.Get(field)) } // the paragraph shares its memory with the list of files
	summary, _, _ := strings.Cut(get("Description"), "\n")
	source := get("Source")
	name, version, ok := strings.Cut(source, " (")
	if name == "" {
		name = d.pin.Name
	}
	if version = strings.TrimSuffix(version, ")"); !ok {
		version = d.pin.Version
	}
	part := sbom.Part{
		Key: packageKey(d.pin), Kind: "deb", Name: d.pin.Name, Version: d.pin.Version, URI: d.pin.URI(suite, name),
		Digest: d.pin.SHA256, Size: d.pin.Size, Supplier: get("Maintainer"), Source: name + " " + version,
		Homepage: get("Homepage"), Summary: summary, Archive: true,
	}
	for _, m := range d.pin.In {
		part.Why = append(part.Why, m.Set+": "+m.By)
		if step, ok := strings.CutPrefix(m.Set, lockfile.StepSet("")); ok {
			part.UsedBy = append(part.UsedBy, "step/"+step)
		} else if m.Set == lockfile.SetConfigure {
			part.UsedBy = append(part.UsedBy, "")
		}
	}
	return part
}

// others makes parts of steps and of all inputs that are no packages.
func (v *inventory) others() {
	tools := map[string][]string{} // keys of steps by the key of the image that is their root
	v.giveTo()
	for _, s := range v.job.Definition.Steps {
		if s.Root != "" {
			tools[v.keyOf(s.Root)] = append(tools[v.keyOf(s.Root)], "step/"+s.Name)
		}
	}
	for _, s := range v.job.Definition.Steps {
		p := sbom.Part{Key: "step/" + s.Name, Kind: "step", Name: v.job.Definition.Name + "/" + s.Name, Tree: v.outputs[s.Name].key}
		for _, name := range s.Inputs {
			p.MadeFrom = append(p.MadeFrom, v.keyOf(name))
		}
		v.add(p, tools)
	}
	for _, in := range v.job.Definition.Inputs.Local {
		v.add(sbom.Part{Key: "local/" + in.Name, Kind: "local", Name: in.Name, Tree: v.job.Locals[in.Name].Tree, Archive: true}, tools)
	}
	for _, f := range v.job.Lock.Files {
		v.add(sbom.Part{Key: "file/" + f.Name, Kind: "file", Name: f.Name, URI: f.URL, Digest: f.SHA256, Size: f.Size, Archive: v.isUnpacked(f.Name)}, tools)
	}
	for _, in := range v.job.Lock.Inputs {
		v.pinned(in, tools)
	}
	for _, m := range v.modules {
		m.Found = v.found[m.Key]
		v.contents.Parts = append(v.contents.Parts, m)
	}
}

// giveTo notes what was given to steps whose output is in the image, through
// however many steps.
func (v *inventory) giveTo() {
	for _, s := range slices.Backward(v.job.Definition.Steps) { // a step reads those before it
		if key := "step/" + s.Name; v.copied[key] || v.given[key] {
			for _, name := range s.Inputs {
				v.given[v.keyOf(name)] = true
			}
		}
	}
}

// pinned makes a part of an input of any other kind, and one of each of its pins.
func (v *inventory) pinned(in lockfile.Input, tools map[string][]string) {
	request := v.job.Lock.RequestOf(in.Name)
	whole := sbom.Part{Key: in.Kind + "/" + in.Name, Kind: in.Kind, Name: in.Name, Archive: true}
	v.inBase.contain(&whole)
	pins := v.job.Lock.PinsOf(in.Name, v.platform.String())
	if in.Kind == lockfile.KindSource && len(pins) > 0 { // people know it by its own name
		whole.Name, whole.Version = pins[0].Name, pins[0].Version
	}
	single := in.Kind == lockfile.KindGit || in.Kind == lockfile.KindImage || in.Kind == lockfile.KindSource
	if single && len(pins) == 1 { // the input is its pin
		p := pins[0]
		whole.Version, whole.URI, whole.Digest, whole.Size = p.Version, p.URI(request), p.SHA256, p.Size
		v.add(whole, tools)
		return
	}
	from := v.keyOf(request.Ask["from"])
	if request.Ask["from"] != "" {
		whole.MadeFrom = append(whole.MadeFrom, from)
	}
	byName := map[string]string{}
	for _, p := range pins {
		byName[p.Name] = pinKey(in, p)
	}
	needs := map[string][]string{}
	for _, p := range pins {
		if by := byName[p.By]; by != "" {
			needs[by] = append(needs[by], pinKey(in, p))
		}
	}
	told := v.told(in, pins)
	for _, p := range pins {
		key := pinKey(in, p)
		whole.MadeFrom = append(whole.MadeFrom, key)
		v.copied[key] = v.copied[whole.Key] || len(v.found[key]) > 0
		said := v.declared[key]
		part := sbom.Part{
			Key: key, Kind: in.Kind, Name: p.Name, Version: p.Version, URI: pinURI(p, request), Digest: p.SHA256, Size: p.Size,
			Licence: said.Licence, Author: said.Supplier, Homepage: said.Homepage, Summary: said.Summary,
			Why: []string{cmp.Or(p.By, lockfile.ByRequest)}, Needs: needs[key], Found: v.found[key], Archive: true,
		}
		switch {
		case in.Kind == lockfile.KindGo && p.Name == toolchainModule:
			if v.given[whole.Key] {
				part.UsedBy = v.readers(in.Name)
			}
		case in.Kind == lockfile.KindGo && strings.HasSuffix(p.Path, ".mod"):
			part.Summary = "only its go.mod, which the go command reads to choose versions"
		default:
			part.Perhaps = v.given[whole.Key] && !told && !v.copied[key]
		}
		part.Shipped = v.copied[key]
		v.contents.Parts = append(v.contents.Parts, part)
	}
	whole.Perhaps = v.given[whole.Key] && !told
	whole.Shipped = v.copied[whole.Key]
	v.contents.Parts = append(v.contents.Parts, whole)
}

// toolchainModule is the module whose pin is a Go toolchain (go.dev/doc/toolchain).
const toolchainModule = "golang.org/toolchain"

// readers are the keys of the steps that read an input.
func (v *inventory) readers(name string) []string {
	var keys []string
	for _, s := range v.job.Definition.Steps {
		if slices.Contains(s.Inputs, name) {
			keys = append(keys, "step/"+s.Name)
		}
	}
	return keys
}

// told reports whether the image tells which of an input's pins are in it: of Go
// modules, a program of every step that was given them does; of npm's packages
// and Python's, those that are installed do.
func (v *inventory) told(in lockfile.Input, pins []lockfile.Pin) bool {
	switch in.Kind {
	case lockfile.KindGo:
		steps := v.readers(in.Name)
		return !slices.ContainsFunc(steps, func(key string) bool {
			return (v.copied[key] || v.given[key]) && !v.linkedBy[key]
		})
	case lockfile.KindNpm, lockfile.KindPython:
		return slices.ContainsFunc(pins, func(p lockfile.Pin) bool { return len(v.found[pinKey(in, p)]) > 0 })
	}
	return false
}

// add completes a part: it is shipped when files of it were copied, and perhaps
// when a step that reaches the image was given it.
func (v *inventory) add(p sbom.Part, tools map[string][]string) {
	p.Shipped = v.copied[p.Key]
	p.Perhaps = v.given[p.Key] && !p.Shipped
	p.UsedBy = tools[p.Key]
	p.Links = v.linked[p.Key]
	v.contents.Parts = append(v.contents.Parts, p)
}

// takeFiles lists the image's files with their origins.
func (v *inventory) takeFiles(ctx context.Context, img image.Image) error {
	if err := v.sumLayers(ctx, img); err != nil {
		return err
	}
	number := uint32(0)
	for e, err := range v.regular() {
		if err == nil {
			err = v.wanted.add(e.Digest[:], binary.BigEndian.AppendUint32(nil, number), []byte(e.Path))
		}
		if err != nil {
			return err
		}
		number++
	}
	sums, err := v.join()
	if err != nil {
		return err
	}
	claimed, listed := newAlongside(v.claims), newAlongside(v.inBase.owners)
	defer claimed.stop()
	defer listed.stop()
	number = 0
	v.all.parts = v.contents.Parts
	for e, err := range v.regular() {
		if err != nil {
			return err
		}
		var claims []claim
		for _, record := range claimed.of(e.Path) {
			claims = append(claims, readClaim(record))
		}
		below := v.inBase.key
		if lists := listed.of(e.Path); len(lists) > 0 {
			below = string(lists[0]) // of several packages, that whose key is first
		}
		if err := cmp.Or(claimed.err, listed.err); err != nil {
			return err
		}
		f := sbom.File{Path: e.Path, SHA256: e.Digest, SHA1: sums[number]}
		f.Part, f.How = v.origin(e, claims, below)
		if err := v.all.add(&f); err != nil {
			return err
		}
		number++
	}
	v.contents.Files = v.all
	return nil
}

// regular yields the regular files of the image's list, and hard links with the
// size and digest of their files.
func (v *inventory) regular() iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		for e, err := range v.entries() {
			if err != nil {
				yield(e, err)
				return
			}
			switch e.Kind {
			case tree.File:
				if _, ok := v.heads[e.Path]; ok {
					v.heads[e.Path] = head{e.Size, e.Digest}
				}
			case tree.Hardlink:
				first := v.heads[e.Link]
				if first.digest.IsZero() {
					yield(e, fmt.Errorf("%q is a link to nothing", e.Path))
					return
				}
				e.Size, e.Digest = first.size, first.digest
			default:
				continue
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// join finds the SHA-1 of every file of the list, by its number there, by going
// through both lists side by side. It holds 20 bytes for each.
func (v *inventory) join() ([][sha1.Size]byte, error) {
	out := make([][sha1.Size]byte, v.files)
	next, stop := iter.Pull2(v.sums.all())
	defer stop()
	sum, err, more := next()
	for record, wrong := range v.wanted.all() {
		for more && err == nil && wrong == nil && bytes.Compare(sum[:sha256.Size], record[:sha256.Size]) < 0 {
			sum, err, more = next()
		}
		if err := cmp.Or(wrong, err); err != nil {
			return nil, err
		}
		if !more || !bytes.Equal(sum[:sha256.Size], record[:sha256.Size]) {
			var d digest.Digest
			copy(d[:], record)
			return nil, fmt.Errorf("%q (%s) is in no layer of the image", record[sha256.Size+4:], d)
		}
		copy(out[binary.BigEndian.Uint32(record[sha256.Size:])][:], sum[sha256.Size:])
	}
	return out, nil
}

// origin says what part brought a file, and what else is to be said of it. below
// is the part that it is of when the image that this one is built on brought it.
func (v *inventory) origin(e tree.Entry, claims []claim, below string) (part, how string) {
	o, ok := ownerOf(e, claims)
	switch {
	case ok && (o.digest.IsZero() || o.digest == e.Digest):
		return o.part, ""
	case ok:
		return o.part, howChanged
	case v.below != nil && v.changedBelow(e):
		return below, v.howBelow(e.Path)
	case below != "" && !v.addedBelow(e.Path):
		return below, ""
	case strings.HasPrefix(e.Path, "var/lib/dpkg/"):
		return "", howDatabase
	case v.job.Definition.Image.Scripts == definition.ScriptsDpkg && len(v.job.Definition.Image.Packages) > 0:
		return "", howScripts
	}
	return "", howQuorate
}

// addedBelow reports whether a path is new to the image that packages are added to.
func (v *inventory) addedBelow(p string) bool {
	if v.below == nil {
		return false
	}
	_, there := v.below.Lookup(p)
	return !there
}

// howBelow says who changed a file of that image.
func (v *inventory) howBelow(p string) string {
	switch {
	case strings.HasPrefix(p, "var/lib/dpkg/"):
		return howDatabase
	case v.job.Definition.Image.Scripts == definition.ScriptsDpkg:
		return howChanged
	}
	return howQuorate
}

// changedBelow reports whether a file of that image has other bytes now.
func (v *inventory) changedBelow(e tree.Entry) bool {
	was, there := v.below.Lookup(e.Path)
	if there && was.Kind == tree.Hardlink {
		was, there = v.below.Lookup(was.Link)
	}
	return there && was.Digest != e.Digest
}

// sumLayers reads the layers and notes the SHA-1 of every file by its sha256:
// that these are what the list says is found out on the way.
func (v *inventory) sumLayers(ctx context.Context, img image.Image) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, l := range img.Layers {
		g.Go(func() error {
			err := v.sumLayer(ctx, l, func(d digest.Digest, s [sha1.Size]byte) error {
				mu.Lock()
				defer mu.Unlock()
				return v.sums.add(d[:], s[:])
			})
			if err != nil {
				return fmt.Errorf("layer %q: %w", l.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (v *inventory) sumLayer(ctx context.Context, l image.Layer, found func(digest.Digest, [sha1.Size]byte) error) error {
	blob, err := v.openBlob("layer", l.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	plain, err := gzip.NewReader(blob)
	if err != nil {
		return damageOr(err, blob)
	}
	buffer := make([]byte, copyBuffer)
	archive := tar.NewReader(plain)
	for ctx.Err() == nil {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return damageOr(err, blob)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		one, other := digest.NewHash(), sha1.New() //nolint:gosec // as above
		if _, err := io.CopyBuffer(io.MultiWriter(one, other), archive, buffer); err != nil {
			return damageOr(err, blob)
		}
		if err := found(digest.Sum(one), [sha1.Size]byte(other.Sum(nil))); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err = io.Copy(io.Discard, blob) // its digest is checked at the end
	return err
}

// copyrights finds the copyright files of packages, which may be links into the
// documentation of another one.
type copyrights struct {
	files map[string]tree.Entry
	links map[string]string // from a folder or file to where it leads
	most  int64             // bytes that are read of all together; 0 for as many as there are
	spent int64             // bytes that were read
}

const docFolder = "usr/share/doc"

func newCopyrights() *copyrights {
	return &copyrights{files: map[string]tree.Entry{}, links: map[string]string{}}
}

// add notes what is in a package.
func (c *copyrights) add(d *decoded) {
	for _, e := range d.Entries {
		if !strings.HasPrefix(e.Path, docFolder+"/") {
			continue
		}
		at := strings.Clone(e.Path) // the list of files shares its memory
		switch name := path.Base(at); {
		case e.Kind == tree.Symlink && (name == "copyright" || path.Dir(at) == docFolder):
			c.links[at] = strings.Clone(e.Link)
		case e.Kind == tree.File && name == "copyright":
			file := tree.Entry{Path: at, Kind: tree.File, Size: e.Size, Digest: e.Digest}
			if e.Size > 0 {
				file.Content = tree.Section{File: d.data, Offset: e.Offset, Size: e.Size}
			}
			c.files[at] = file
		}
	}
}

// addTree notes what is in the image that packages are added to.
func (c *copyrights) addTree(t *tree.Tree) {
	for _, e := range t.Entries() {
		c.addEntry(e)
	}
}

func (c *copyrights) addEntry(e tree.Entry) {
	switch name := path.Base(e.Path); {
	case !strings.HasPrefix(e.Path, docFolder+"/"):
	case e.Kind == tree.Symlink && (name == "copyright" || path.Dir(e.Path) == docFolder):
		c.links[e.Path] = e.Link
	case e.Kind == tree.File && name == "copyright":
		c.files[e.Path] = e
	}
}

// licence is what the copyright file of a package declares.
func (c *copyrights) licence(pkg string) (sbom.Licence, error) {
	at := docFolder + "/" + pkg + "/copyright"
	for range maxLinks {
		if e, ok := c.files[at]; ok {
			if !c.affords(e) {
				return sbom.Licence{Comment: fmt.Sprintf("%s is not read: copyright files have more than %d bytes together", at, c.most)}, nil
			}
			text, err := readAll(e)
			if err != nil {
				return sbom.Licence{}, err
			}
			return sbom.DebianLicence(pkg, at, text), nil
		}
		dir := path.Dir(at)
		switch {
		case c.links[at] != "":
			at = path.Join(dir, c.links[at])
		case c.links[dir] != "":
			at = path.Join(path.Dir(dir), c.links[dir], "copyright")
		default:
			return sbom.Licence{Comment: "the package has no copyright file"}, nil
		}
		at = strings.TrimPrefix(at, "/")
	}
	return sbom.Licence{Comment: "the package's copyright file is a link in a circle"}, nil
}

// affords reports whether a file is within what is read of all together.
func (c *copyrights) affords(e tree.Entry) bool {
	if c.most > 0 && e.Size > c.most-c.spent {
		return false
	}
	c.spent += e.Size
	return true
}

// lookup finds an entry of a package by its path.
func (d *decoded) lookup(p string) (deb.Entry, bool) {
	for _, e := range d.Entries {
		if e.Path == p {
			return e, true
		}
	}
	return deb.Entry{}, false
}
