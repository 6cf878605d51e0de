package diff

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"regexp"
	"strings"

	"golang.org/x/sync/errgroup"
)

const (
	// maxDocument bounds index.json, manifests and configs. Registries refuse manifests above
	// 4 MiB (distribution-spec, "Pushing Manifests"); configs of real images stay under 100 kB.
	maxDocument = 8 << 20
	// maxImages bounds the images of one layout; the largest public indexes have some 20 platforms.
	maxImages = 1000
	// maxIndexDepth bounds indexes within indexes; the specification knows of one level.
	maxIndexDepth = 4
	// maxLayers bounds the layers of one image; overlay file systems take some 500.
	maxLayers = 5000
)

// descriptor is the part of an OCI descriptor that says where to look.
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *platform `json:"platform"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

func (p *platform) String() string {
	if p == nil || p.OS == "" && p.Architecture == "" {
		return "unknown"
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// files is where the parts of an image lie: a folder or an archive. The error of a
// missing one is fs.ErrNotExist.
type files interface {
	file(name string) (source, error)
}

// images is one side that holds images.
type images struct {
	side   string // its name, for errors
	files  files
	docker bool
	index  []byte // index.json, or docker's manifest.json
	list   []*image
}

// image is one image, but for its layers' bytes.
type image struct {
	platform string
	digest   string // of the manifest; of the config for docker archives
	manifest []byte // nil for docker archives
	config   []byte
	layers   []layer
}

// layer is one layer as an image names it.
type layer struct {
	name   string // digest, or the path in a docker archive
	file   string // where its bytes are
	digest string // what they must have; "" when nothing is promised
	diffID string // as the config claims; "" when it claims none
}

// missing is the error of a part that an image names and that is not there.
func (l *images) missing() error {
	return fmt.Errorf("%w, and the image names it: this copy of the image is not whole", fs.ErrNotExist)
}

func (l *images) fail(name string, err error) error {
	return &InputError{Side: l.side, Name: name, Err: err}
}

// openOCI reads everything of a layout but its layers.
func openOCI(side string, f files) (*images, error) {
	l := &images{side: side, files: f}
	var err error
	if l.index, err = l.small("index.json"); err != nil {
		return nil, err
	}
	if err := l.addIndex("index.json", l.index, 0); err != nil {
		return nil, err
	}
	if len(l.list) == 0 {
		return nil, l.fail("index.json", errors.New("it names no image"))
	}
	return l, nil
}

func (l *images) addIndex(name string, raw []byte, depth int) error {
	if depth >= maxIndexDepth {
		return l.fail(name, fmt.Errorf("more than %d indexes within each other", maxIndexDepth))
	}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return l.fail(name, fmt.Errorf("not a JSON image index: %w", err))
	}
	for _, d := range index.Manifests {
		if err := l.addManifest(d, depth); err != nil {
			return err
		}
	}
	return nil
}

func (l *images) addManifest(d descriptor, depth int) error {
	if len(l.list) >= maxImages {
		return l.fail("index.json", fmt.Errorf("more than %d images", maxImages))
	}
	raw, err := l.document(d)
	if err != nil {
		return err
	}
	var m struct {
		Config    *descriptor     `json:"config"`
		Layers    []descriptor    `json:"layers"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return l.fail(d.Digest, fmt.Errorf("not a JSON manifest: %w", err))
	}
	if m.Manifests != nil {
		return l.addIndex(d.Digest, raw, depth+1)
	}
	if m.Config == nil {
		return l.fail(d.Digest, errors.New("neither an image manifest nor an index: it has no config"))
	}
	config, err := l.document(*m.Config)
	if err != nil {
		return err
	}
	i := &image{digest: d.Digest, manifest: raw, config: config}
	for _, x := range m.Layers {
		if !digestForm.MatchString(x.Digest) {
			return l.fail(d.Digest, fmt.Errorf("layer digest %.80q is not sha256 and 64 hexadecimal digits", x.Digest))
		}
		i.layers = append(i.layers, layer{name: x.Digest, file: blobName(x.Digest), digest: x.Digest})
	}
	return l.addImage(i, d.Platform, m.Config.Digest)
}

// addImage reads the config and takes the image in.
func (l *images) addImage(i *image, p *platform, name string) error {
	var c struct {
		platform
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(i.config, &c); err != nil {
		return l.fail(name, fmt.Errorf("not a JSON image configuration: %w", err))
	}
	if len(i.layers) > maxLayers {
		return l.fail(name, fmt.Errorf("more than %d layers", maxLayers))
	}
	if p == nil {
		p = &c.platform
	}
	i.platform = p.String()
	for k := range i.layers {
		if k < len(c.RootFS.DiffIDs) {
			i.layers[k].diffID = c.RootFS.DiffIDs[k]
		}
	}
	l.list = append(l.list, i)
	return nil
}

// openDocker reads what `docker save` writes.
func openDocker(side string, f files) (*images, error) {
	l := &images{side: side, files: f, docker: true}
	var err error
	if l.index, err = l.small("manifest.json"); err != nil {
		return nil, err
	}
	var list []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(l.index, &list); err != nil {
		return nil, l.fail("manifest.json", fmt.Errorf("not a JSON list of images: %w", err))
	}
	if len(list) == 0 || len(list) > maxImages {
		return nil, l.fail("manifest.json", fmt.Errorf("it names %d images", len(list)))
	}
	for _, m := range list {
		config, err := l.small(m.Config)
		if err != nil {
			return nil, err
		}
		i := &image{config: config, digest: fmt.Sprintf("sha256:%x", sha256.Sum256(config))}
		for _, name := range m.Layers {
			i.layers = append(i.layers, layer{name: name, file: name})
		}
		if err := l.addImage(i, nil, m.Config); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// digestForm also keeps a hostile layout from naming files outside its own folder.
var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func blobName(digest string) string { return "blobs/sha256/" + digest[len("sha256:"):] }

// document reads a small blob whole and checks it.
func (l *images) document(d descriptor) ([]byte, error) {
	if !digestForm.MatchString(d.Digest) {
		return nil, l.fail("index.json", fmt.Errorf("digest %.80q is not sha256 and 64 hexadecimal digits", d.Digest))
	}
	raw, err := l.small(blobName(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.fail(blobName(d.Digest), l.missing())
	}
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); "sha256:"+hex.EncodeToString(sum[:]) != d.Digest {
		return nil, l.fail(blobName(d.Digest), fmt.Errorf("its bytes have digest sha256:%x", sum))
	}
	return raw, nil
}

func (l *images) small(name string) ([]byte, error) {
	s, err := l.files.file(name)
	if err != nil {
		return nil, l.fail(name, err)
	}
	defer s.close()
	if s.size > maxDocument {
		return nil, l.fail(name, fmt.Errorf("larger than %d bytes", maxDocument))
	}
	b, err := s.load()
	if err != nil {
		return nil, l.fail(name, err)
	}
	return b, nil
}

func (l *images) digests() []string {
	var d []string
	for _, i := range l.list {
		d = append(d, i.digest)
	}
	return d
}

// images compares two sides that hold images.
func (c *comparer) images(root *Node, a, b *images) error {
	// Docker archives hold layers unpacked by their nature; that is nothing of the image.
	c.looseForm = a.docker != b.docker
	if a.docker == b.docker && !c.o.NoIndex {
		what := WhatIndex
		if err := c.document(root, "index", a.index, b.index, what, func(path string) bool {
			return strings.HasPrefix(path, "manifests[") && (strings.HasSuffix(path, ".digest") || strings.HasSuffix(path, ".size")) ||
				a.docker && (strings.HasSuffix(path, ".Config") || strings.Contains(path, ".Layers["))
		}); err != nil {
			return err
		}
	}
	used := make([]bool, len(b.list))
	for _, x := range a.list {
		var y *image
		for j, z := range b.list {
			if !used[j] && z.platform == x.platform {
				used[j], y = true, z
				break
			}
		}
		if y != nil && x.digest == y.digest {
			continue
		}
		n := &Node{Name: x.platform, Kind: KindImage, Parent: root, A: &Part{Offset: -1, Digest: x.digest}}
		if y == nil {
			c.add(n, Finding{What: WhatPresence, A: "image " + x.digest})
		} else {
			n.B = &Part{Offset: -1, Digest: y.digest}
			if err := c.image(n, a, b, x, y); err != nil {
				return err
			}
		}
		if len(n.Findings)+len(n.Children) > 0 {
			root.Children = append(root.Children, n)
		}
	}
	for j, y := range b.list {
		if !used[j] {
			n := &Node{Name: y.platform, Kind: KindImage, Parent: root, B: &Part{Offset: -1, Digest: y.digest}}
			c.add(n, Finding{What: WhatPresence, B: "image " + y.digest})
			root.Children = append(root.Children, n)
		}
	}
	return nil
}

// image compares two images of one platform whose digests differ.
func (c *comparer) image(n *Node, a, b *images, x, y *image) error {
	if x.manifest != nil && y.manifest != nil {
		if err := c.document(n, "manifest", x.manifest, y.manifest, WhatManifest, func(path string) bool {
			return path == "config.digest" || path == "config.size" ||
				strings.HasPrefix(path, "layers[") && (strings.HasSuffix(path, ".digest") || strings.HasSuffix(path, ".size"))
		}); err != nil {
			return err
		}
	}
	if err := c.document(n, "config", x.config, y.config, WhatConfig, func(path string) bool {
		return strings.HasPrefix(path, "rootfs.diff_ids[")
	}); err != nil {
		return err
	}
	if err := c.layers(n, a, b, x, y); err != nil {
		return err
	}
	// Digests follow from layers only when a layer differs; else they lie.
	for _, m := range n.Children {
		if m.Kind == KindLayer {
			return nil
		}
	}
	for _, f := range n.Findings {
		if f.What == WhatLayers {
			return nil
		}
	}
	for _, m := range n.Children {
		for i := range m.Findings {
			if f := &m.Findings[i]; strings.HasPrefix(f.Where, "rootfs.diff_ids[") || strings.HasPrefix(f.Where, "layers[") {
				f.Effect = false
			}
		}
	}
	return nil
}

// document compares two JSON documents by their leaves.
func (c *comparer) document(parent *Node, name string, a, b []byte, what string, follows func(path string) bool) error {
	if bytes.Equal(a, b) {
		return nil
	}
	n := &Node{Name: name, Kind: KindDocument, Format: "json", Parent: parent}
	x, err := c.keep(bytes.NewReader(a))
	if err != nil {
		return err
	}
	y, err := c.keep(bytes.NewReader(b))
	if err != nil {
		return err
	}
	n.A, n.B = &Part{Offset: -1, Size: x.size, src: x}, &Part{Offset: -1, Size: y.size, src: y}
	parent.Children = append(parent.Children, n)
	x.mem, y.mem = a, b
	p, q := takeJSON(x), takeJSON(y)
	if p == nil || q == nil {
		return c.plain(n, x, y)
	}
	if err := c.anatomies(n, x, y, p, q); err != nil {
		return err
	}
	for i := range n.Findings {
		f := &n.Findings[i]
		if f.What != WhatValue {
			continue
		}
		if f.What = what; what == WhatConfig && strings.HasPrefix(f.Where, "history[") {
			f.What = WhatHistory
		}
		f.Effect = follows(f.Where)
	}
	return nil
}

// blob is one layer's bytes while it is compared.
type blob struct {
	layer
	src    source
	number int
	tree   *tree
	whose  *images
}

// layers pairs layers by content and compares the pairs.
func (c *comparer) layers(n *Node, a, b *images, x, y *image) error {
	left, err := c.blobs(a, x)
	if err != nil {
		return err
	}
	right, err := c.blobs(b, y)
	if err != nil {
		return err
	}
	p := pairing{a: fill(len(left)), b: fill(len(right))}
	marryLayers := func(i, j int) { p.a[i], p.b[j] = j, i }
	for _, equal := range []func(l, r *layer) bool{
		func(l, r *layer) bool { return l.digest != "" && l.digest == r.digest },
		func(l, r *layer) bool { return l.diffID != "" && l.diffID == r.diffID },
	} {
		for i := range left {
			for j := range right {
				if p.a[i] < 0 && p.b[j] < 0 && equal(&left[i].layer, &right[j].layer) {
					marryLayers(i, j)
				}
			}
		}
	}
	if err := c.byEntries(left, right, &p); err != nil {
		return err
	}
	p.order()
	c.layerOrder(n, left, right, &p)
	for i := range left {
		l := &left[i]
		m := &Node{Name: fmt.Sprintf("layer %d", i), Kind: KindLayer, Parent: n, A: &Part{Offset: -1, Digest: l.digest}}
		if j := p.a[i]; j < 0 {
			c.add(m, Finding{What: WhatPresence, A: "layer " + l.name})
		} else {
			r := &right[j]
			if l.digest != "" && l.digest == r.digest {
				c.names.later = append(c.names.later, l.src)
				continue
			}
			m.B = &Part{Offset: -1, Digest: r.digest}
			if i != j {
				m.B.Name = fmt.Sprintf("layer %d", j)
			}
			if err := c.archives(m, l, r); err != nil {
				return err
			}
			l.tree.rest()
			r.tree.rest()
			l.tree, r.tree = nil, nil
		}
		if len(m.Findings)+len(m.Children) > 0 {
			n.Children = append(n.Children, m)
		}
	}
	for j := range right {
		if p.b[j] < 0 {
			m := &Node{Name: fmt.Sprintf("layer %d", j), Kind: KindLayer, Parent: n, B: &Part{Offset: -1, Digest: right[j].digest}}
			c.add(m, Finding{What: WhatPresence, B: "layer " + right[j].name})
			n.Children = append(n.Children, m)
		}
	}
	return nil
}

func fill(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = -1
	}
	return s
}

// layerOrder says that equal layers stand in another order.
func (c *comparer) layerOrder(n *Node, left, right []blob, p *pairing) {
	var la, lb []string
	for i, moved := range p.moved {
		if moved {
			la = append(la, fmt.Sprintf("layer %d", i))
			lb = append(lb, fmt.Sprintf("layer %d", p.a[i]))
		}
	}
	if len(la) > 0 {
		c.add(n, Finding{What: WhatLayers, Where: "order", A: list(la), B: list(lb)})
	}
	if len(left) != len(right) {
		c.add(n, Finding{What: WhatLayers, Where: "number", A: fmt.Sprint(len(left)), B: fmt.Sprint(len(right))})
	}
}

func (c *comparer) blobs(l *images, i *image) ([]blob, error) {
	out := make([]blob, len(i.layers))
	for k, x := range i.layers {
		s, err := l.files.file(x.file)
		if errors.Is(err, fs.ErrNotExist) {
			err = l.missing()
		}
		if err != nil {
			return nil, l.fail(x.file, err)
		}
		*c.closers = append(*c.closers, s) // nodes read from it
		out[k] = blob{layer: x, src: s, number: k, whose: l}
	}
	return out, nil
}

// whole reads the layers of two sides that say that they are the same, and holds them
// against what their images say: that sides are the same has to be true of the bytes
// that are there.
func (op *opener) whole(a, b *input) error {
	if a.images == nil {
		return nil // the digest is of the bytes
	}
	c := &comparer{o: op.o}
	c.willRead(a, b)
	var two errgroup.Group
	errs := make([]error, 2)
	for w, in := range []*input{a, b} {
		two.Go(func() error {
			errs[w] = c.wholeSide(in, Which(w))
			return nil
		})
	}
	_ = two.Wait() // the errors are in errs
	return cmp.Or(errs[0], errs[1])
}

func (c *comparer) wholeSide(in *input, w Which) error {
	if in.whole {
		return nil
	}
	l := in.images
	read := map[layer]bool{}
	for _, i := range l.list {
		for _, x := range i.layers {
			if read[x] {
				continue
			}
			read[x] = true
			s, err := l.files.file(x.file)
			if errors.Is(err, fs.ErrNotExist) {
				err = l.missing()
			}
			if err == nil {
				err = errors.Join(c.wholeLayer(x, s, w), s.close())
			}
			if errors.Is(err, ErrStopped) {
				return ErrStopped
			}
			if err != nil {
				return l.fail(x.file, err)
			}
		}
	}
	in.whole = true
	return nil
}

// wholeLayer holds a layer against its digest or, in docker archives, its diff_id.
func (c *comparer) wholeLayer(x layer, s source, w Which) error {
	var in io.Reader = &watched{r: s.reader(), done: c.o.Done, step: func(n int) { c.progress(w, n) }}
	want := x.digest
	if want == "" {
		if want = x.diffID; want == "" {
			return errors.New("the image does not say what its bytes are: it has no diff_id for this layer")
		}
		if packer := packerOf(s.head(headSize)); packer != nil {
			r, err := packer.open(in)
			if err != nil {
				return fmt.Errorf("it begins like %s and cannot be unpacked: %w", packer.name, err)
			}
			defer r.Close()
			in = &limitReader{r: r, left: maxTar}
		}
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return err
	}
	return hasDigest(sum, want)
}

// byEntries pairs the layers that are left by how many bytes of entries they share.
func (c *comparer) byEntries(left, right []blob, p *pairing) error {
	var la, lb []int
	for i, j := range p.a {
		if j < 0 {
			la = append(la, i)
		}
	}
	for j, i := range p.b {
		if i < 0 {
			lb = append(lb, j)
		}
	}
	if len(la) > 1 || len(lb) > 1 {
		// Layers at the same place mostly belong together.
		both := min(len(la), len(lb))
		for k := range both {
			if err := c.scanBoth(&left[la[k]], &right[lb[k]]); err != nil {
				return err
			}
		}
		for _, i := range la[both:] {
			if err := c.scanBlob(&left[i], A); err != nil {
				return err
			}
		}
		for _, j := range lb[both:] {
			if err := c.scanBlob(&right[j], B); err != nil {
				return err
			}
		}
	}
	for len(la) > 0 && len(lb) > 0 {
		// The best pair first; the number of layers is small.
		bi, bj, best := 0, 0, -1.0
		for i := range la {
			for j := range lb {
				if len(la) == 1 && len(lb) == 1 {
					continue
				}
				if s := shareOf(left[la[i]].tree, right[lb[j]].tree); s > best {
					bi, bj, best = i, j, s
				}
			}
		}
		p.a[la[bi]], p.b[lb[bj]] = lb[bj], la[bi]
		la, lb = append(la[:bi:bi], la[bi+1:]...), append(lb[:bj:bj], lb[bj+1:]...)
	}
	return nil
}

// shareOf is the share of entries that two layers have in common: by path half, by contents half.
func shareOf(a, b *tree) float64 {
	seen := make(map[string]hash128, len(a.list.entries))
	for i := range a.list.entries {
		e := &a.list.entries[i]
		seen[e.path] = e.dataSum
	}
	points := 0
	for i := range b.list.entries {
		e := &b.list.entries[i]
		if sum, ok := seen[e.path]; ok {
			points++
			if sum == e.dataSum {
				points++
			}
		}
	}
	return float64(points) / float64(len(a.list.entries)+len(b.list.entries)+1)
}

// scanBlob lists a layer and verifies its digest.
func (c *comparer) scanBlob(b *blob, w Which) error {
	if b.tree != nil {
		return nil
	}
	t, err := c.scanPacked(b.src, b.digest, w)
	return b.scanned(t, err)
}

// scanned keeps what a layer was found to hold.
func (b *blob) scanned(t *tree, err error) error {
	if err == nil {
		b.tree = t
		return nil
	}
	if err == ErrStopped {
		return err
	}
	return b.whose.fail(b.file, err)
}

// scanBoth lists two layers at once. Of packed ones that begin alike, the beginning is unpacked once: where
// they part, the second one goes on from the last point at which the first one can be entered. Of two errors it is the first layer's.
func (c *comparer) scanBoth(a, b *blob) error {
	if a.tree != nil || b.tree != nil || !isGzip(a.src) || !isGzip(b.src) {
		return atOnce(func() error { return c.scanBlob(a, A) }, func() error { return c.scanBlob(b, B) })
	}
	g := beginningOf(a.src, b.src, c.o.Done)
	parted := make(chan *fork, 1)
	return atOnce(func() error {
		s := &inflating{src: a.src, digest: a.digest, side: A, fork: &fork{beginning: g}, parted: parted}
		t, err := c.scanGzip(s)
		s.part()
		return a.scanned(t, err)
	}, func() error {
		t, err := c.scanGzip(&inflating{src: b.src, digest: b.digest, side: B, fork: <-parted})
		return b.scanned(t, err)
	})
}

// atOnce runs two functions and returns the first one's error, or else the second one's.
func atOnce(first, second func() error) error {
	done := make(chan error, 1)
	go func() { done <- second() }()
	err := first()
	if other := <-done; err == nil {
		err = other
	}
	return err
}

// scanPacked lists a tar, which may be packed. digest is what the bytes must have, "" for no demand.
func (c *comparer) scanPacked(s source, digest string, w Which) (*tree, error) {
	if isGzip(s) {
		return c.scanGzip(&inflating{src: s, digest: digest, side: w, fork: &fork{}})
	}
	sum := sha256.New()
	var in io.Reader = &watched{r: s.reader(), done: c.o.Done, step: func(n int) { c.progress(w, n) }}
	if digest != "" {
		in = io.TeeReader(in, sum)
	}
	packer := packerOf(s.head(headSize))
	open := func(in io.Reader) (io.ReadCloser, error) {
		if packer == nil {
			return io.NopCloser(bufio.NewReaderSize(in, tarBuffer)), nil
		}
		return packer.open(in)
	}
	r, err := open(in)
	if err == ErrStopped {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("it begins like %s and cannot be unpacked: %w", packer.name, err)
	}
	defer r.Close()
	heads := c.heads[w]
	if packer == nil {
		heads = nil
	}
	tr := newTarReader(&limitReader{r: r, left: maxTar}, heads)
	var kept *keeper
	if packer != nil {
		kept = newKeeper(c.sides[w])
		tr.all = kept
	}
	l, err := tr.scan()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	if err := hasDigest(sum, digest); err != nil {
		return nil, err
	}
	if packer == nil {
		return &tree{list: l, src: s}, nil
	}
	if src, ok := kept.done(); ok {
		return &tree{list: l, src: src}, nil
	}
	return &tree{list: l, reopen: func() (io.ReadCloser, error) { return open(s.reader()) }, heads: heads.all()}, nil
}

// hasDigest verifies a digest, "" for no demand.
func hasDigest(sum hash.Hash, digest string) error {
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); digest != "" && got != digest {
		return fmt.Errorf("its bytes have digest %s", got)
	}
	return nil
}

// maxKept is up to which size an unpacked layer is kept in the scratch file, so that it
// need not be unpacked twice: writing costs a tenth of that. Larger ones are read again, and
// those of gzip need not be kept (inflated.go).
// (A variable so that a test can go the other way.)
var maxKept int64 = 3 << 30

// keeper writes a layer into the spool as long as it is not too large.
type keeper struct {
	s    *spool
	mark int64
	buf  *bufio.Writer
	n    int64
	gone bool
}

func newKeeper(s *spool) *keeper {
	return &keeper{s: s, mark: s.size, buf: bufio.NewWriterSize(s, 256<<10)}
}

func (k *keeper) Write(p []byte) (int, error) {
	if k.gone {
		return len(p), nil
	}
	if k.n += int64(len(p)); k.n > maxKept {
		k.gone = true
		k.s.size = k.mark // what follows is written over it
		return len(p), nil
	}
	if _, err := k.buf.Write(p); err != nil {
		// No room is no reason to give up: there is another way.
		k.gone, k.s.size = true, k.mark
	}
	return len(p), nil
}

// done returns what was kept.
func (k *keeper) done() (source, bool) {
	if k.gone || k.buf.Flush() != nil {
		return source{}, false
	}
	return k.s.since(k.mark), true
}

// maxTar bounds the bytes of one unpacked layer against bombs; the largest public images are some 50 GiB.
const maxTar = 64 << 30

var errCutShort = errors.New("the packed stream ends early")

type limitReader struct {
	r    io.Reader
	left int64
}

// lendLimit is a limitReader of what lends its memory.
type lendLimit struct {
	limitReader
	z lender
}

// Next implements lender.
func (l *lendLimit) Next(n int) ([]byte, error) {
	p, err := l.z.Next(n)
	if err := l.took(len(p), err); err != nil {
		return nil, err
	}
	return p, nil
}

func (l *limitReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err = l.took(n, err); l.left < 0 {
		return 0, err
	}
	return n, err
}

// took counts what was read.
func (l *limitReader) took(n int, err error) error {
	if l.left -= int64(n); l.left < 0 {
		return fmt.Errorf("unpacks to more than %d bytes", int64(maxTar))
	}
	if err == io.ErrUnexpectedEOF {
		return errCutShort // of the packed stream, not of the tar in it
	}
	return err
}
