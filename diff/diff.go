// Package diff compares outputs of builds, whoever made them, and owns every
// byte in which they differ.
//
// [Compare] takes two or more sides. A side is a folder in the OCI image layout, an
// OCI or docker archive, any other tar archive (plain or packed), a folder, or a
// single file; image references in registries are not, for this package has no
// network ([RemoteError]). It returns a [Result]: sides of equal bytes in one class, and
// for each further class a [Comparison], a tree of [Node]s with [Finding]s.
//
//	res, err := diff.Compare([]string{"one", "two"}, diff.Options{})
//	if err != nil { … }
//	defer res.Close()
//	res.Pairs[0].Root.Walk(func(n *diff.Node) bool { … return true })
//
// Images are compared as images, whatever holds them: how an archive packs an image's
// parts is nothing of the image.
//
// # The account
//
// A node has bytes on two sides. Its findings own stretches of them ([Run]), no byte
// twice, and what no finding owns is equal on both sides and in the same order
// ([Node.Check]). So the findings are complete, and a set of findings can be
// proved to be the only reason of a difference by cutting its bytes out
// ([Node.Without]). What nobody could read is owned by WhatUnexplained.
// Findings marked Effect follow from others: sizes, offsets, checksums, digests, and
// the packed form of what was unpacked.
//
// # How it is done
//
//	side.go      what is a side: layout, archive, folder, file
//	image.go     index, manifest, config; layers paired by digest, then by diff_id, then by entries in common
//	archive.go   one pair of layers: equal when unpacked, or two trees
//	tar.go       one tar, read once as a stream: entries with hashes, header bytes in a scratch file
//	inflated.go  gzip layers: entered again in their middle, and two that begin alike unpacked once (package inflate)
//	sparse.go    files that a tar stores without their holes: what they hold all the same
//	sum.go       hashes of contents, block by block, holes unread
//	tree.go      two lists of entries; renamed ones are found by content and by likeness (alike.go)
//	names.go     what files there are, differing or not, for those who ask what a text lists
//	contents.go  two files, by their format
//	anatomy.go   formats say only where their parts lie; pairing, order and the account are done here for all
//	format.go    the list of formats; one file for each: gzip … squashfs
//	lines.go     where the values of documents stand
//	dwarf.go     what programs say about their sources, attribute by attribute
//	text.go, align.go  the leaves: lines and characters, aligned bytes
//
// A differing pair of layers is read once for hashes; then the files that differ are brought
// into a scratch file, where they can be read anywhere. For that, gzip layers are unpacked once more
// around these files only; what else is packed waits in a scratch file whole.
// Layers of one digest in images that differ are read only when somebody asks what files there
// are (names.go); images that say that they are the same are read and held against their digests. Memory is some 250 bytes for an entry and some
// 60 MiB for the pair of files at hand; it does not grow with the size of a layer.
//
// The package stands alone: it imports no other folder of Quorate, so that it
// can judge images that Quorate did not build.
package diff

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"golang.org/x/sync/errgroup"
)

// Options change how the comparison runs, never what it says.
type Options struct {
	// Done ends the comparison early with ErrStopped; a context's Done() fits. Nil never does.
	Done <-chan struct{}
	// Temp is the folder of the scratch files, "" for the system's. They take as much room
	// as the files that differ, unpacked, a thirtieth of the layers at hand, and all of those that are packed in another way than by gzip.
	Temp string
	// NoIndex leaves index.json of layouts out: a side that was pulled from a registry has none of
	// its own. Images are compared all the same.
	NoIndex bool
	// Progress is called now and then, from several goroutines, with the bytes read of layers and archives so far and
	// how many there are to read. Nil is fine.
	Progress func(done, total int64)
}

// Compare tells two or more sides apart. Errors: *InputError (a side is missing, damaged,
// hostile, or cannot be compared with the others), *RemoteError, ErrStopped.
func Compare(sides []string, o Options) (_ *Result, err error) {
	if len(sides) < 2 {
		return nil, fmt.Errorf("cannot compare %d sides, it takes two or more", len(sides))
	}
	r := &Result{}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	op := &opener{o: o}
	inputs, err := op.openAll(sides)
	for _, in := range inputs {
		r.closers = append(r.closers, in)
		r.Sides = append(r.Sides, in.Side)
	}
	if err != nil {
		return nil, err
	}
	if err := comparable(inputs); err != nil {
		return nil, err
	}
	for i, in := range inputs {
		if err := r.classify(op, inputs, i, in); err != nil {
			return nil, err
		}
	}
	r.order()
	return r, nil
}

// classify puts a side into the class of its equals, or compares it with the first side.
func (r *Result) classify(op *opener, inputs []*input, i int, in *input) error {
	for k, class := range r.Classes {
		if first := inputs[class[0]]; first.Digest == in.Digest && first.Kind == in.Kind {
			if err := op.whole(first, in); err != nil {
				return err
			}
			r.Classes[k] = append(class, i)
			return nil
		}
	}
	if i == 0 {
		r.Classes = [][]int{{0}}
		return nil
	}
	c, err := op.compare(r, inputs[0], in)
	if err != nil {
		return err
	}
	c.A, c.B = 0, i
	if len(c.Root.Findings)+len(c.Root.Children) == 0 {
		r.Classes[0] = append(r.Classes[0], i)
		return nil
	}
	r.Classes = append(r.Classes, []int{i})
	r.Pairs = append(r.Pairs, c)
	return nil
}

func (r *Result) order() {
	for _, c := range r.Classes {
		slices.Sort(c)
	}
	sort.SliceStable(r.Classes, func(i, j int) bool { return r.Classes[i][0] < r.Classes[j][0] })
}

// comparable reports whether all sides are of kinds that can be held against each other.
func comparable(inputs []*input) error {
	for _, in := range inputs[1:] {
		x, y := inputs[0], in
		if (x.images != nil) != (y.images != nil) || (x.Kind == KindFolder) != (y.Kind == KindFolder) &&
			x.Kind != KindTar && y.Kind != KindTar {
			return &InputError{Side: y.Name, Err: fmt.Errorf("it is %s, and %q is %s", article(y.Kind), x.Name, article(x.Kind))}
		}
	}
	return nil
}

func article(k SideKind) string {
	if k == KindLayout || k == KindArchive {
		return "an " + string(k)
	}
	return "a " + string(k)
}

// opener opens sides and runs comparisons.
type opener struct {
	o Options
}

// openAll opens the sides, two at once: most of it is hashing. The error is that of the first side that has one;
// what was opened comes with it.
func (c *opener) openAll(sides []string) ([]*input, error) {
	for _, name := range sides {
		if _, err := os.Stat(name); err != nil { // is known before any is read
			if _, err := c.openInput(name); err != nil {
				return nil, err
			}
		}
	}
	all, errs := make([]*input, len(sides)), make([]error, len(sides))
	var two errgroup.Group
	two.SetLimit(2)
	for i, name := range sides {
		two.Go(func() error {
			all[i], errs[i] = c.openInput(name)
			return nil
		})
	}
	_ = two.Wait() // the errors are in errs
	var opened []*input
	var first error
	for i, in := range all {
		if errs[i] == nil {
			opened = append(opened, in)
		} else if first == nil {
			first = errs[i]
		}
	}
	return opened, first
}

// compare compares two sides that are not known to be equal.
func (op *opener) compare(r *Result, a, b *input) (*Comparison, error) {
	c := &comparer{o: op.o}
	for _, s := range []**spool{&c.spool, &c.sides[A], &c.sides[B], &c.heads[A], &c.heads[B]} {
		var err error
		if *s, err = newSpool(op.o.Temp); err != nil {
			return nil, err
		}
		r.closers = append(r.closers, *s)
	}
	root := &Node{Kind: KindRoot, A: &Part{Offset: -1}, B: &Part{Offset: -1}}
	var err error
	switch {
	case a.images != nil:
		c.willRead(a, b)
		c.closers = &r.closers
		err = c.images(root, a.images, b.images)
	case a.Kind == KindFolder && b.Kind == KindFolder:
		err = c.trees(root, a.tree, b.tree, KindEntry)
	case a.Kind == KindFolder || b.Kind == KindFolder:
		err = c.folderAndTar(root, a, b)
	case a.Kind == KindTar && b.Kind == KindTar:
		n := &Node{Name: "archive", Kind: KindLayer, Parent: root, A: &Part{Offset: -1, Digest: a.Digest}, B: &Part{Offset: -1, Digest: b.Digest}}
		c.toRead = a.Size + b.Size
		if err = c.archives(n, a.blob(), b.blob()); len(n.Findings)+len(n.Children) > 0 {
			root.Children = append(root.Children, n)
		}
	default:
		n := &Node{Name: filepath.Base(a.Name), Kind: KindEntry, Parent: root, A: &Part{Offset: -1, Digest: a.Digest}, B: &Part{Offset: -1, Digest: b.Digest}}
		if other := filepath.Base(b.Name); other != n.Name {
			n.B.Name = other
		}
		root.Children = append(root.Children, n)
		c.total.Files = 1
		err = c.files(n, a.src, b.src)
	}
	if err == ErrStopped {
		return nil, err
	}
	for _, in := range []*input{a, b} { // before the error, which may be of that
		if err := in.stayed(); err != nil {
			return nil, err
		}
	}
	if err != nil {
		if known, ok := err.(*InputError); ok {
			return nil, known
		}
		return nil, &InputError{Side: b.Name, Err: fmt.Errorf("with %q: %w", a.Name, err)}
	}
	return c.finish(root), nil
}

// blob is a tar archive that was given as a side, in the form of a layer.
func (in *input) blob() *blob {
	return &blob{src: in.src, layer: layer{name: in.Name, file: ""}, whose: &images{side: in.Name}}
}

// files compares two files that differ.
func (c *comparer) files(n *Node, a, b source) error {
	if a.size == 0 || b.size == 0 {
		n.A.Size, n.A.src, n.B.Size, n.B.src = a.size, a, b.size, b
		c.add(n, Finding{What: WhatContent, A: fmt.Sprintf("%d bytes", a.size), B: fmt.Sprintf("%d bytes", b.size),
			Runs: []Run{{Range{0, a.size}, Range{0, b.size}}}})
		return nil
	}
	return c.contents(n, a, b, n.Name)
}

// folderAndTar compares what both can say: a tar's headers lie in no folder.
func (c *comparer) folderAndTar(root *Node, a, b *input) error {
	tree := func(in *input, w Which) (*tree, error) {
		if in.tree != nil {
			return in.tree, nil
		}
		return c.scanPacked(in.src, "", w)
	}
	x, err := tree(a, A)
	if err != nil {
		return err
	}
	y, err := tree(b, B)
	if err != nil {
		return err
	}
	return c.trees(root, x, y, KindEntry)
}

// finish fills in what follows from the findings: parents, accounts, totals.
func (c *comparer) finish(root *Node) *Comparison {
	settle(root)
	adopt(root)
	t := &c.total
	root.Walk(func(n *Node) bool {
		n.Account = accountOf(n)
		t.Findings += len(n.Findings)
		for i := range n.Findings {
			t.Findings += n.Findings[i].More
			if n.Findings[i].What == WhatUnexplained {
				t.Unexplained += lengths(n.Findings[i].Runs)
			}
		}
		if n.Kind == KindEntry {
			t.Differing++
		}
		if n.Kind == KindEntry || n.Kind == KindDocument {
			t.Bytes += n.Account.A.Differing + n.Account.B.Differing
			for i := range n.Findings {
				if n.Findings[i].Outer {
					t.Bytes += lengths(n.Findings[i].Runs)
				}
			}
		}
		return true
	})
	t.Files = max(t.Files, t.Differing)
	return &Comparison{Root: root, Total: *t, names: &c.names}
}

func lengths(runs []Run) (n int64) {
	for _, r := range runs {
		n += r.A.Length + r.B.Length
	}
	return n
}

func adopt(n *Node) {
	for _, c := range n.Children {
		c.Parent = n
		adopt(c)
	}
}

// settle takes Effect from findings that have nothing to follow from: a file whose
// checksum alone differs has a wrong checksum.
func settle(n *Node) {
	for _, c := range n.Children {
		settle(c)
	}
	if n.Kind != KindEntry && n.Kind != KindRoot && n.Kind != KindLayer && n.Kind != KindDocument || hasReason(n) {
		return
	}
	if n.Kind == KindDocument && slices.ContainsFunc(n.Findings, func(f Finding) bool { return f.What != WhatSpacing }) {
		return // its digests follow from layers
	}
	n.Walk(func(m *Node) bool {
		for i := range m.Findings {
			m.Findings[i].Effect = false
		}
		return true
	})
}

func hasReason(n *Node) bool {
	found := false
	n.Walk(func(m *Node) bool {
		for i := range m.Findings {
			found = found || !m.Findings[i].Effect
		}
		return !found
	})
	return found
}

// accountOf sums a node up.
func accountOf(n *Node) Account {
	var a Account
	for _, w := range []Which{A, B} {
		p, c := n.Part(w), a.on(w)
		if p == nil {
			continue
		}
		c.Size = p.Size
		n.each(w, func(f *Finding) {
			for _, r := range f.Runs {
				size := r.On(w).Length
				c.Differing += size
				if f.Effect {
					c.Effect += size
				}
				if f.What == WhatUnexplained {
					c.Unexplained += size
				}
			}
		})
	}
	return a
}

// each visits the findings that own bytes of the node.
func (n *Node) each(w Which, visit func(*Finding)) {
	for i := range n.Findings {
		if f := &n.Findings[i]; !f.Outer {
			visit(f)
		}
	}
	for _, c := range n.Children {
		for i := range c.Findings {
			if f := &c.Findings[i]; f.Outer {
				visit(f)
			}
		}
		if p := c.Part(w); p != nil && p.Offset >= 0 {
			c.each(w, visit)
		}
	}
}

// Paths returns the differing paths inside of layers, archives and folders, each once, sorted.
func (c *Comparison) Paths() []string {
	seen := map[string]bool{}
	c.Root.Walk(func(n *Node) bool {
		if n.Kind == KindEntry {
			seen[n.Name] = true
		}
		return n.Kind != KindEntry
	})
	paths := make([]string, 0, len(seen))
	for p := range seen {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	return paths
}

// InputError says that a side cannot be compared.
type InputError struct {
	Side string // as given
	Name string // the file or blob in it, "" for the side itself
	Err  error
}

func (e *InputError) Error() string {
	return fmt.Sprintf("cannot compare %q: %v", filepath.Join(e.Side, e.Name), e.Err)
}

func (e *InputError) Unwrap() error { return e.Err }

type stopped struct{}

func (stopped) Error() string { return "comparison stopped" }

// ErrStopped says that Options.Done was closed.
var ErrStopped error = stopped{}

// willRead counts the bytes that progress is measured by.
func (c *comparer) willRead(a, b *input) {
	for _, in := range []*input{a, b} {
		for _, i := range in.images.list {
			for _, l := range i.layers {
				if s, err := in.images.files.file(l.file); err == nil {
					c.toRead += s.size
					s.close()
				}
			}
		}
	}
}

// progress counts bytes that were read of one side.
func (c *comparer) progress(_ Which, n int) {
	if c.o.Progress == nil {
		return
	}
	const step = 1 << 20
	before := c.read.Add(int64(n)) - int64(n)
	if before/step != (before+int64(n))/step {
		c.o.Progress(before+int64(n), c.toRead)
	}
}

var _ io.Closer = (*Result)(nil)
