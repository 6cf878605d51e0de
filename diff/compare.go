package diff

import (
	"archive/tar"
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// work is one comparison while it runs.
type work struct {
	options  Options
	a, b     *layout
	findings []OldFinding
}

func (w *work) add(f OldFinding) {
	f.A, f.B = clip(f.A), clip(f.B)
	if f.What != oldWhatContent {
		f.Offset = -1
	}
	w.findings = append(w.findings, f)
}

func (w *work) compare() error {
	if err := w.documents("", "index", w.a.index, w.b.index, followsFromImages); err != nil {
		return err
	}
	for _, p := range pairImages(w.a.images, w.b.images) {
		switch {
		case p.b == nil:
			w.add(OldFinding{Platform: p.a.platform, Layer: -1, What: oldWhatPresence, A: "image " + p.a.digest})
		case p.a == nil:
			w.add(OldFinding{Platform: p.b.platform, Layer: -1, What: oldWhatPresence, B: "image " + p.b.digest})
		case p.a.digest != p.b.digest:
			if err := w.images(p.a, p.b); err != nil {
				return err
			}
		}
	}
	if len(w.findings) == 0 && !bytes.Equal(w.a.index, w.b.index) {
		w.add(OldFinding{Layer: -1, What: "index " + oldWhatBytes, A: plural(len(w.a.index), "byte"), B: plural(len(w.b.index), "byte")})
	}
	return nil
}

type imagePair struct{ a, b *imageDocs }

// pairImages pairs by platform and, within one platform, by order.
func pairImages(a, b []*imageDocs) []imagePair {
	var pairs []imagePair
	used := make([]bool, len(b))
	for _, x := range a {
		p := imagePair{a: x}
		for i, y := range b {
			if !used[i] && y.platform == x.platform {
				used[i], p.b = true, y
				break
			}
		}
		pairs = append(pairs, p)
	}
	for i, y := range b {
		if !used[i] {
			pairs = append(pairs, imagePair{b: y})
		}
	}
	return pairs
}

// followsFromImages names the fields that differ because images, layers or
// configurations do, which are compared themselves.
func followsFromImages(field string) bool {
	switch {
	case strings.HasPrefix(field, "manifests["), strings.HasPrefix(field, "layers["), strings.HasPrefix(field, "config."):
		return strings.HasSuffix(field, ".digest") || strings.HasSuffix(field, ".size")
	}
	return false
}

// followsFromLayers is the same for the image configuration.
func followsFromLayers(field string) bool { return strings.HasPrefix(field, "rootfs.diff_ids[") }

// documents compares two JSON documents; what follows from something else is left out.
func (w *work) documents(platform, name string, a, b []byte, follows func(string) bool) error {
	if bytes.Equal(a, b) {
		return nil
	}
	list, err := fields(a, b)
	if err != nil {
		return &InputError{Side: w.a.dir, Name: name, Err: err}
	}
	for _, f := range list {
		if !follows(f.name) {
			w.add(OldFinding{Platform: platform, Layer: -1, What: name + " " + f.name, A: f.a, B: f.b})
		}
	}
	if len(list) == 0 {
		at := firstDifference(a, b)
		w.add(OldFinding{Platform: platform, Layer: -1, What: name + " " + oldWhatBytes,
			A: "from byte " + strconv.Itoa(at) + " of " + strconv.Itoa(len(a)), B: "of " + strconv.Itoa(len(b))})
	}
	return nil
}

// images compares two images of one platform whose manifests differ.
func (w *work) images(a, b *imageDocs) error {
	before := len(w.findings)
	if err := w.documents(a.platform, "manifest", a.manifest, b.manifest, followsFromImages); err != nil {
		return err
	}
	if err := w.documents(a.platform, "config", a.config, b.config, followsFromLayers); err != nil {
		return err
	}
	unpackedDiffer := false
	for _, p := range pairLayers(a.layers, b.layers) {
		differ, err := w.layers(a, b, p)
		if err != nil {
			return err
		}
		unpackedDiffer = unpackedDiffer || differ
	}
	if !unpackedDiffer {
		// The configurations claim layers that the layers themselves do not bear out.
		w.diffIDs(a, b)
	}
	if len(w.findings) == before {
		// Only lies about sizes and the like are left; never call different manifests equal.
		w.add(OldFinding{Platform: a.platform, Layer: -1, What: "manifest " + oldWhatBytes, A: a.digest, B: b.digest})
	}
	return nil
}

func (w *work) diffIDs(a, b *imageDocs) {
	for i := 0; i < len(a.diffIDs) || i < len(b.diffIDs); i++ {
		var x, y string
		if i < len(a.diffIDs) {
			x = a.diffIDs[i]
		}
		if i < len(b.diffIDs) {
			y = b.diffIDs[i]
		}
		if x != y {
			w.add(OldFinding{Platform: a.platform, Layer: -1, What: fmt.Sprintf("config rootfs.diff_ids[%d]", i), A: x, B: y})
		}
	}
}

// layerPair holds numbers of layers; -1 where a side has none.
type layerPair struct{ a, b int }

// pairLayers pairs equal digests that stand in the same order on both sides
// (longest common subsequence) and, between them, the rest by order. Equal
// pairs are left out. Images have at most some hundred layers, so that the
// table is small; maxTable keeps hostile manifests from making it large.
func pairLayers(a, b []descriptor) []layerPair {
	const maxTable = 1 << 22
	if len(a)*len(b) > maxTable {
		return pairByOrder(a, b, 0, len(a), 0, len(b))
	}
	best := make([][]int, len(a)+1)
	for i := range best {
		best[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i].Digest == b[j].Digest {
				best[i][j] = best[i+1][j+1] + 1
			} else {
				best[i][j] = max(best[i+1][j], best[i][j+1])
			}
		}
	}
	var pairs []layerPair
	i, j, fromA, fromB := 0, 0, 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i].Digest == b[j].Digest:
			pairs = append(pairs, pairByOrder(a, b, fromA, i, fromB, j)...)
			i, j = i+1, j+1
			fromA, fromB = i, j
		case best[i+1][j] >= best[i][j+1]:
			i++
		default:
			j++
		}
	}
	return append(pairs, pairByOrder(a, b, fromA, len(a), fromB, len(b))...)
}

func pairByOrder(a, b []descriptor, fromA, toA, fromB, toB int) []layerPair {
	var pairs []layerPair
	for fromA < toA || fromB < toB {
		p := layerPair{-1, -1}
		if fromA < toA {
			p.a = fromA
			fromA++
		}
		if fromB < toB {
			p.b = fromB
			fromB++
		}
		if p.a >= 0 && p.b >= 0 && a[p.a].Digest == b[p.b].Digest {
			continue
		}
		pairs = append(pairs, p)
	}
	return pairs
}

// layers compares one pair and reports whether their unpacked bytes differ.
func (w *work) layers(a, b *imageDocs, p layerPair) (bool, error) {
	platform := a.platform
	if p.b < 0 {
		w.add(OldFinding{Platform: platform, Layer: p.a, What: oldWhatPresence, A: "layer " + a.layers[p.a].Digest})
		return true, nil
	}
	if p.a < 0 {
		w.add(OldFinding{Platform: platform, Layer: p.b, What: oldWhatPresence, B: "layer " + b.layers[p.b].Digest})
		return true, nil
	}
	left := blob{layout: w.a, desc: a.layers[p.a], done: w.options.Done}
	right := blob{layout: w.b, desc: b.layers[p.b], done: w.options.Done}
	var x, y *listing
	var both errgroup.Group
	both.Go(func() (err error) { x, err = left.list(); return err })
	both.Go(func() (err error) { y, err = right.list(); return err })
	if err := both.Wait(); err != nil {
		return false, err
	}
	if x.diffID == y.diffID {
		w.add(OldFinding{Platform: platform, Layer: p.a, What: oldWhatCompression,
			A: fmt.Sprintf("%d bytes, %s", left.desc.Size, left.desc.Digest), B: fmt.Sprintf("%d bytes, %s", right.desc.Size, right.desc.Digest)})
		return false, nil
	}
	before := len(w.findings)
	contents := w.listings(platform, p.a, x, y)
	if err := w.previews(left, right, contents); err != nil {
		return false, err
	}
	for _, c := range contents {
		w.add(c.finding)
	}
	if len(w.findings) == before {
		w.add(OldFinding{Platform: platform, Layer: p.a, What: oldWhatTarBytes, A: x.diffID, B: y.diffID})
	}
	return true, nil
}

// key names an entry across the sides: a tar may hold one path several times.
type key struct {
	path       string
	occurrence int
}

// listings compares entries and returns the files whose contents differ, for a second look.
func (w *work) listings(platform string, layer int, x, y *listing) []*contentPair {
	right := make(map[key]*entry, len(y.entries))
	for _, e := range y.entries {
		right[key{e.path, e.occurrence}] = e
	}
	var contents []*contentPair
	var common []key // in A's order
	for _, e := range x.entries {
		k := key{e.path, e.occurrence}
		f := right[k]
		if f == nil {
			w.add(OldFinding{Platform: platform, Layer: layer, Path: e.path, What: oldWhatPresence, A: e.describe()})
			continue
		}
		delete(right, k)
		common = append(common, k)
		if c := w.entries(platform, layer, e, f); c != nil {
			contents = append(contents, c)
		}
	}
	for _, e := range y.entries {
		if right[key{e.path, e.occurrence}] == e {
			w.add(OldFinding{Platform: platform, Layer: layer, Path: e.path, What: oldWhatPresence, B: e.describe()})
		}
	}
	w.order(platform, layer, common, y, right)
	return contents
}

// order says where the common entries first stand in another order.
func (w *work) order(platform string, layer int, common []key, y *listing, onlyB map[key]*entry) {
	i := 0
	for _, e := range y.entries {
		k := key{e.path, e.occurrence}
		if onlyB[k] == e {
			continue
		}
		if common[i] != k {
			w.add(OldFinding{Platform: platform, Layer: layer, What: oldWhatOrder,
				A: fmt.Sprintf("entry %d is %q", i, common[i].path), B: fmt.Sprintf("entry %d is %q", i, e.path)})
			return
		}
		i++
	}
}

// entries compares two entries of one path. A difference of contents is returned instead of added.
func (w *work) entries(platform string, layer int, a, b *entry) *contentPair {
	say := func(what, x, y string) {
		if x != y {
			w.add(OldFinding{Platform: platform, Layer: layer, Path: a.path, What: what, A: x, B: y})
		}
	}
	say(oldWhatType, kindName(a.kind), kindName(b.kind))
	say(oldWhatMode, fmt.Sprintf("%04o", a.mode), fmt.Sprintf("%04o", b.mode))
	say(oldWhatOwner, fmt.Sprintf("%d:%d", a.uid, a.gid), fmt.Sprintf("%d:%d", b.uid, b.gid))
	say(oldWhatOwnerNames, a.names, b.names)
	say(oldWhatModTime, a.mtime, b.mtime)
	say(oldWhatTimes, a.times, b.times)
	say(oldWhatLink, a.link, b.link)
	say(oldWhatDevice, a.device, b.device)
	say(oldWhatXattrs, a.xattrs, b.xattrs)
	say(oldWhatRecords, a.records, b.records)
	say(oldWhatFormat, a.format.String(), b.format.String())
	say(oldWhatSize, strconv.FormatInt(a.size, 10), strconv.FormatInt(b.size, 10))
	if a.kind != tar.TypeReg || b.kind != tar.TypeReg || a.sum == b.sum {
		return nil
	}
	return newContentPair(OldFinding{Platform: platform, Layer: layer, Path: a.path, What: oldWhatContent}, a, b)
}

// describe is an entry that only one side has, in a few words.
func (e *entry) describe() string {
	s := fmt.Sprintf("%s %04o %d:%d", kindName(e.kind), e.mode, e.uid, e.gid)
	switch e.kind {
	case tar.TypeReg:
		return fmt.Sprintf("%s, %d bytes, sha256:%x", s, e.size, e.sum)
	case tar.TypeSymlink, tar.TypeLink:
		return s + " to " + strconv.Quote(e.link)
	}
	return s
}

func kindName(k byte) string {
	switch k {
	case tar.TypeReg:
		return "file"
	case tar.TypeLink:
		return "hard link"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeChar:
		return "character device"
	case tar.TypeBlock:
		return "block device"
	case tar.TypeDir:
		return "folder"
	case tar.TypeFifo:
		return "fifo"
	}
	return fmt.Sprintf("type %q", k)
}

// stamp writes a time of a header: seconds since 1970 and, in brackets, for people.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	s := strconv.FormatInt(t.Unix(), 10)
	if n := t.Nanosecond(); n != 0 {
		s += fmt.Sprintf(".%09d", n)
	}
	return s + " (" + t.UTC().Format("2006-01-02 15:04:05") + ")"
}

// records splits PAX records into xattrs and others; those that archive/tar
// turns into header fields, which are compared as such, are left out.
func records(pax map[string]string) (xattrs, others string) {
	var names []string
	for k := range pax {
		names = append(names, k)
	}
	sort.Strings(names)
	var x, o []string
	for _, k := range names {
		v := pax[k]
		switch k {
		case "path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "atime", "ctime":
			continue
		}
		if n, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			x = append(x, fmt.Sprintf("%s=%q", n, v))
			continue
		}
		o = append(o, fmt.Sprintf("%s=%q", k, v))
	}
	return strings.Join(x, " "), strings.Join(o, " ")
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
