package builder

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // SPDX 2.3 asks for it beside sha256
	"fmt"
	"io"
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
// files came from, one for each platform. It reads what the build left in the
// store; steps whose output is gone run again.
func (b *Builder) Contents(ctx context.Context, job Job, r *Result) ([]*sbom.Contents, error) {
	var all []*sbom.Contents
	for i, img := range r.Images {
		p, err := definition.ParsePlatform(img.Platform.String())
		if err != nil {
			return nil, err
		}
		one := &build{Builder: b, job: job, platform: p, epoch: job.Lock.Epoch.Unix(), log: &buildLog{event: b.Events}, outputs: map[string]*output{}}
		defer one.clean()
		if err := one.checkPlatform(ctx); err != nil {
			return nil, err
		}
		c, err := (&inventory{build: one, owners: map[string]origin{}}).take(ctx, img, r.Lists[i].Digest)
		if err != nil {
			return nil, fmt.Errorf("listing what the image for %s is made of: %w", p, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// inventory is the contents of one platform's image while they are gathered.
type inventory struct {
	*build
	contents *sbom.Contents
	owners   map[string]origin // by path
	copied   map[string]bool   // keys of parts that files are copied from
	final    *tree.Tree
}

// origin is where a path comes from.
type origin struct {
	part   string
	digest digest.Digest // of a package's file; zero when whatever is there is the part's
}

// What is said of files that no part brought as they are.
const (
	howScripts  = "made by maintainer scripts"
	howChanged  = "changed by maintainer scripts"
	howDatabase = "package database, written by Quorate"
	howQuorate  = "written by Quorate"
)

func (v *inventory) take(ctx context.Context, img image.Image, list digest.Digest) (*sbom.Contents, error) {
	r, err := v.openBlob("list of files", list)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if v.final, err = tree.Parse(r); err != nil {
		return nil, err
	}
	v.contents = &sbom.Contents{
		Name: v.job.Definition.Name, Platform: v.platform.String(), Architecture: v.platform.Architecture,
		Image: img.ManifestDigest, Lock: digest.Of(lockfile.Format(v.job.Lock)), Epoch: v.job.Lock.Epoch,
	}
	v.copied = map[string]bool{}
	if err := v.runSteps(ctx); err != nil {
		return nil, err
	}
	if err := v.copies(ctx); err != nil {
		return nil, err
	}
	if err := v.packages(ctx); err != nil {
		return nil, err
	}
	v.others()
	slices.SortFunc(v.contents.Parts, func(a, b sbom.Part) int { return cmp.Compare(a.Key, b.Key) })
	return v.contents, v.files(ctx, img)
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

// copies notes which paths the definition copies, the last copy of one counts.
func (v *inventory) copies(ctx context.Context) error {
	resolve := newResolver(v.final.Entries())
	for _, c := range v.job.Definition.Image.Copy {
		entries, err := v.build.copied(ctx, c)
		if err != nil {
			return err
		}
		key := v.keyOf(c.From)
		v.copied[key] = true
		for _, e := range entries {
			if e.Kind == tree.File || e.Kind == tree.Hardlink {
				dir, _ := resolve.follow(path.Dir(e.Path))
				v.owners[path.Join(dir, path.Base(e.Path))] = origin{part: key}
			}
		}
	}
	if base := v.job.Definition.Image.Base; base != "" {
		v.copied[v.keyOf(base)] = true
	}
	return nil
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
	decoded, err := v.decodeAll(ctx, pins)
	if err != nil {
		return err
	}
	needs := map[string][]string{} // of shipped packages, by name: keys of what the lock says they brought
	for _, p := range pins {
		if by, ok := p.InSet(lockfile.SetImage); ok {
			needs[by] = append(needs[by], packageKey(p))
		}
	}
	docs := newCopyrights(decoded)
	for _, d := range decoded {
		part := packagePart(d, v.job.Lock.Requests.Suite)
		_, ships := d.pin.InSet(lockfile.SetImage)
		part.Shipped = ships
		if ships {
			part.Needs = needs[d.pin.Name]
		}
		for _, w := range waived {
			if w.Package == d.pin.Name && ships {
				part.Lacks = append(part.Lacks, w.Needs)
			}
		}
		if part.Licence, err = docs.licence(d); err != nil {
			return err
		}
		v.contents.Parts = append(v.contents.Parts, part)
		if ships {
			v.own(d, part.Key)
		}
	}
	return nil
}

// own notes the files of a shipped package, but those that were copied over.
func (v *inventory) own(d *decoded, key string) {
	for _, e := range d.Entries {
		if e.Kind != tree.File && e.Kind != tree.Hardlink {
			continue
		}
		old, taken := v.owners[e.Path]
		if taken && old.digest.IsZero() {
			continue // copied
		}
		sum := e.Digest
		if e.Kind == tree.Hardlink {
			if first, ok := d.lookup(e.Link); ok {
				sum = first.Digest
			}
		}
		// Two packages may ship one path (Replaces); the one whose bytes are there owns it.
		if is, ok := v.final.Lookup(e.Path); taken && (!ok || is.Digest != sum) {
			continue
		}
		v.owners[e.Path] = origin{key, sum}
	}
}

func packageKey(p lockfile.Package) string { return "deb/" + p.Name + ":" + p.Arch }

func packagePart(d *decoded, suite string) sbom.Part {
	get := d.Control.Get
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
	users := map[string][]string{} // keys of steps by the key of what they use
	for _, s := range v.job.Definition.Steps {
		p := sbom.Part{Key: "step/" + s.Name, Kind: "step", Name: v.job.Definition.Name + "/" + s.Name, Tree: v.outputs[s.Name].key}
		for _, name := range slices.Compact(append([]string{s.Root}, s.Inputs...)) {
			if name != "" {
				p.MadeFrom = append(p.MadeFrom, v.keyOf(name))
				users[v.keyOf(name)] = append(users[v.keyOf(name)], p.Key)
			}
		}
		v.add(p, users)
	}
	for _, in := range v.job.Definition.Inputs.Local {
		v.add(sbom.Part{Key: "local/" + in.Name, Kind: "local", Name: in.Name, Tree: v.job.Locals[in.Name].Tree, Archive: true}, users)
	}
	for _, f := range v.job.Lock.Files {
		v.add(sbom.Part{Key: "file/" + f.Name, Kind: "file", Name: f.Name, URI: f.URL, Digest: f.SHA256, Size: f.Size, Archive: v.isUnpacked(f.Name)}, users)
	}
	for _, in := range v.job.Lock.Inputs {
		v.pinned(in, users)
	}
}

// pinned makes a part of an input of any other kind, and one of each of its pins.
func (v *inventory) pinned(in lockfile.Input, users map[string][]string) {
	request := v.job.Lock.RequestOf(in.Name)
	whole := sbom.Part{Key: in.Kind + "/" + in.Name, Kind: in.Kind, Name: in.Name, Archive: true}
	pins := v.job.Lock.PinsOf(in.Name, v.platform.String())
	if in.Kind == lockfile.KindSource && len(pins) > 0 { // people know it by its own name
		whole.Name, whole.Version = pins[0].Name, pins[0].Version
	}
	if len(pins) == 1 { // git, images, upstream tarballs: the input is its pin
		p := pins[0]
		whole.Version, whole.URI, whole.Digest, whole.Size = p.Version, p.URI(request), p.SHA256, p.Size
		v.add(whole, users)
		return
	}
	from := v.keyOf(request.Ask["from"])
	if request.Ask["from"] != "" {
		whole.MadeFrom = append(whole.MadeFrom, from)
	}
	key := func(p lockfile.Pin) string { return whole.Key + "/" + p.Name + "@" + p.Version + "/" + p.Path }
	byName := map[string]string{}
	for _, p := range pins {
		byName[p.Name] = key(p)
	}
	needs := map[string][]string{}
	for _, p := range pins {
		if by := byName[p.By]; by != "" {
			needs[by] = append(needs[by], key(p))
		}
	}
	for _, p := range pins {
		whole.MadeFrom = append(whole.MadeFrom, key(p))
		v.copied[key(p)] = v.copied[whole.Key]
		users[key(p)] = users[whole.Key]
		v.add(sbom.Part{
			Key: key(p), Kind: in.Kind, Name: p.Name, Version: p.Version, URI: p.URI(request), Digest: p.SHA256, Size: p.Size,
			Why: []string{cmp.Or(p.By, lockfile.ByRequest)}, Needs: needs[key(p)], Archive: true,
		}, users)
	}
	v.add(whole, users)
}

// add completes a part: it is shipped when files of it were copied.
func (v *inventory) add(p sbom.Part, users map[string][]string) {
	p.Shipped = v.copied[p.Key]
	p.UsedBy = users[p.Key]
	v.contents.Parts = append(v.contents.Parts, p)
}

// files lists the image's files with their origins.
func (v *inventory) files(ctx context.Context, img image.Image) error {
	sums, err := v.sums(ctx, img)
	if err != nil {
		return err
	}
	for _, e := range v.final.Entries() {
		if e.Kind == tree.Hardlink {
			first, ok := v.final.Lookup(e.Link)
			if !ok {
				return fmt.Errorf("%q is a link to nothing", e.Path)
			}
			e.Size, e.Digest = first.Size, first.Digest
		} else if e.Kind != tree.File {
			continue
		}
		f := sbom.File{Path: e.Path, Size: e.Size, SHA256: e.Digest}
		var ok bool
		if f.SHA1, ok = sums[e.Digest]; !ok {
			return fmt.Errorf("%q (%s) is in no layer of the image", e.Path, e.Digest)
		}
		f.Part, f.How = v.origin(e)
		v.contents.Files = append(v.contents.Files, f)
	}
	return nil
}

func (v *inventory) origin(e tree.Entry) (part, how string) {
	o, ok := v.owners[e.Path]
	switch {
	case ok && (o.digest.IsZero() || o.digest == e.Digest):
		return o.part, ""
	case ok:
		return o.part, howChanged
	case v.job.Definition.Image.Base != "":
		return v.keyOf(v.job.Definition.Image.Base), ""
	case strings.HasPrefix(e.Path, "var/lib/dpkg/"):
		return "", howDatabase
	case v.job.Definition.Image.Scripts == definition.ScriptsDpkg && len(v.job.Definition.Image.Packages) > 0:
		return "", howScripts
	}
	return "", howQuorate
}

// sums reads the layers and returns the SHA-1 of every file by its sha256:
// that these are what the list says is found out on the way.
func (v *inventory) sums(ctx context.Context, img image.Image) (map[digest.Digest][sha1.Size]byte, error) {
	sums := map[digest.Digest][sha1.Size]byte{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, l := range img.Layers {
		g.Go(func() error {
			err := v.sumLayer(ctx, l, func(d digest.Digest, s [sha1.Size]byte) {
				mu.Lock()
				sums[d] = s
				mu.Unlock()
			})
			if err != nil {
				return fmt.Errorf("layer %q: %w", l.Name, err)
			}
			return nil
		})
	}
	return sums, g.Wait()
}

func (v *inventory) sumLayer(ctx context.Context, l image.Layer, found func(digest.Digest, [sha1.Size]byte)) error {
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
		found(digest.Sum(one), [sha1.Size]byte(other.Sum(nil)))
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
	files map[string]*decodedFile
	links map[string]string // from a folder or file to where it leads
}

type decodedFile struct {
	from  *decoded
	entry deb.Entry
}

const docFolder = "usr/share/doc"

func newCopyrights(all []*decoded) *copyrights {
	c := &copyrights{files: map[string]*decodedFile{}, links: map[string]string{}}
	for _, d := range all {
		for _, e := range d.Entries {
			if !strings.HasPrefix(e.Path, docFolder+"/") {
				continue
			}
			switch name := path.Base(e.Path); {
			case e.Kind == tree.Symlink && (name == "copyright" || path.Dir(e.Path) == docFolder):
				c.links[e.Path] = e.Link
			case e.Kind == tree.File && name == "copyright":
				c.files[e.Path] = &decodedFile{d, e}
			}
		}
	}
	return c
}

// licence is what a package's copyright file declares.
func (c *copyrights) licence(d *decoded) (sbom.Licence, error) {
	at := docFolder + "/" + d.pin.Name + "/copyright"
	for range maxLinks {
		if f := c.files[at]; f != nil {
			e := f.entry.Entry
			if e.Size > 0 {
				e.Content = tree.Section{File: f.from.data, Offset: f.entry.Offset, Size: e.Size}
			}
			text, err := readAll(e)
			if err != nil {
				return sbom.Licence{}, err
			}
			return sbom.DebianLicence(d.pin.Name, at, text), nil
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

// lookup finds an entry of a package by its path.
func (d *decoded) lookup(p string) (deb.Entry, bool) {
	for _, e := range d.Entries {
		if e.Path == p {
			return e, true
		}
	}
	return deb.Entry{}, false
}
