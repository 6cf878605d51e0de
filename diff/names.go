package diff

import (
	"hash/maphash"
	"io"
	"path"
	"slices"
	"strings"
)

// names knows what files the sides of a comparison hold, differing or not: a text that lists them is
// told from another by that. It keeps hashes, some 60 bytes for an entry.
type names struct {
	list   []named
	sizes  map[int64]struct{}
	sums   map[hash128]struct{}
	later  []source // layers that are equal on both sides, and are listed when somebody asks
	folder string   // of the path that was added last
	sorted bool
}

// named is one path, by hashes.
type named struct {
	base   uint64 // of its last step
	pair   uint64 // of its last two steps
	folder uint64 // of all but the last
}

const (
	// maxNamed bounds the paths that are known; the largest images have some 300,000.
	maxNamed = 1_000_000
	// maxNamedPath is Linux's PATH_MAX: longer ones are none of files that programs list.
	maxNamedPath = 4096
	// maxLater bounds the bytes of equal layers, as they are packed, that are read for their names: some ten seconds.
	maxLater = 1 << 30
)

func hashName(s string) uint64 { return maphash.String(seeds[0], s) }

func (n *names) add(p string) {
	if p == "" || p == "." || len(p) > maxNamedPath || len(n.list) >= maxNamed {
		return
	}
	folder, base := path.Split(p)
	folder = strings.TrimRight(folder, "/")
	if folder != n.folder { // which archives need not have entries of
		n.add(folder)
		n.folder = folder
	}
	x := named{base: hashName(base), folder: hashName(folder)}
	x.pair = x.base
	if folder != "" {
		x.pair = hashName(path.Base(folder) + "/" + base)
	}
	n.list, n.sorted = append(n.list, x), false
}

// contents takes what a file has in it.
func (n *names) contents(size int64, sum hash128) {
	if n.sums == nil {
		n.sizes, n.sums = map[int64]struct{}{}, map[hash128]struct{}{}
	}
	if size > 0 && len(n.sums) < maxNamed {
		n.sizes[size], n.sums[sum] = struct{}{}, struct{}{}
	}
}

// tree takes the entries of one side, names without those that skip says.
func (n *names) tree(l *tarListing, skip func(i int) bool) {
	for i := range l.entries {
		e := &l.entries[i]
		n.contents(e.size, e.dataSum)
		if !skip(i) {
			n.add(e.path)
		}
	}
}

// members takes the members of archives that are no tar.
func (n *names) members(a *anatomy, kind Kind) {
	for i := range a.groups {
		if g := &a.groups[i]; g.member != "" && g.kind == kind {
			n.add(g.member)
		}
	}
}

// ready lists what was left for later, and sorts.
func (n *names) ready() {
	left := int64(maxLater)
	for _, s := range n.later {
		if left -= s.size; left >= 0 {
			n.layer(s)
		}
	}
	n.later = nil
	if n.sorted {
		return
	}
	slices.SortFunc(n.list, func(x, y named) int {
		switch {
		case x.base != y.base:
			return less(x.base, y.base)
		case x.pair != y.pair:
			return less(x.pair, y.pair)
		}
		return less(x.folder, y.folder)
	})
	n.list = slices.Compact(n.list) // folders, and members of jars, come several times
	n.sorted = true
}

func less(x, y uint64) int {
	if x < y {
		return -1
	}
	return 1
}

// layer lists a layer that may be packed. One that cannot be read says nothing; who compares reads it no more.
func (n *names) layer(s source) {
	var in io.ReadCloser = io.NopCloser(s.reader())
	if p := packerOf(s.head(headSize)); p != nil {
		var err error
		if in, err = p.open(s.reader()); err != nil {
			return
		}
	}
	defer in.Close()
	t, sum := newTarReader(&limitReader{r: in, left: maxTar}, nil), newHasher128()
	for len(n.list) < maxNamed {
		e, err := t.next()
		if err != nil {
			return
		}
		n.add(e.path)
		sum.reset()
		if short, err := t.pass(e.size, sum, nil); short || err != nil {
			return
		}
		n.contents(e.size, sum.sum())
		if short, err := t.pass(e.padding(), sum, nil); short || err != nil {
			return
		}
	}
}

// called are the paths with this last step.
func (n *names) called(base string) []named {
	n.ready()
	h := hashName(base)
	i, _ := slices.BinarySearchFunc(n.list, h, func(x named, h uint64) int {
		if x.base == h {
			return 0
		}
		return less(x.base, h)
	})
	j := i
	for j < len(n.list) && n.list[j].base == h {
		j++
	}
	return n.list[i:j]
}

// Holds reports whether a side has a file, folder or member of an archive that is called so: whose
// path ends in the last two steps of p, or in its only one.
func (c *Comparison) Holds(p string) bool {
	p = strings.Trim(path.Clean("/"+p), "/")
	if p == "" || c.names == nil {
		return false
	}
	folder, base := path.Split(p)
	list := c.names.called(base)
	if folder == "" {
		return len(list) > 0
	}
	h := hashName(path.Base(folder) + "/" + base)
	return slices.ContainsFunc(list, func(x named) bool { return x.pair == h })
}

// Siblings looks for a folder that holds all of the names, each one step. It returns how many more it
// holds, of those with the fewest; false when there is none.
func (c *Comparison) Siblings(list []string) (more int, ok bool) {
	if c.names == nil || len(list) == 0 {
		return 0, false
	}
	folders, twice := map[uint64]int{}, map[string]bool{}
	for i, s := range list {
		if twice[s] { // no folder has a name twice
			return 0, false
		}
		twice[s] = true
		seen := map[uint64]bool{}
		for _, x := range c.names.called(s) {
			if folders[x.folder] == i && !seen[x.folder] {
				seen[x.folder] = true
				folders[x.folder]++
			}
		}
		for f, n := range folders {
			if n <= i {
				delete(folders, f)
			}
		}
		if len(folders) == 0 {
			return 0, false
		}
	}
	children := map[uint64]int{}
	for _, x := range c.names.list {
		if _, ok := folders[x.folder]; ok {
			children[x.folder]++
		}
	}
	more = -1
	for f := range folders {
		if n := children[f] - len(list); more < 0 || n < more {
			more = n
		}
	}
	return max(more, 0), true
}

// HoldsSize reports whether a file of either side has so many bytes: cheap to ask before HoldsContents.
func (c *Comparison) HoldsSize(n int64) bool {
	if c.names == nil {
		return false
	}
	c.names.ready()
	_, ok := c.names.sizes[n]
	return ok
}

// HoldsContents reports whether a file of either side has these contents.
func (c *Comparison) HoldsContents(b []byte) bool {
	if c.names == nil {
		return false
	}
	c.names.ready()
	h := newHasher128()
	h.Write(b)
	_, ok := c.names.sums[h.sum()]
	return ok
}
