package tree

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"path"
)

// Diff returns what turns from into to when it is applied as a layer: the
// entries that are new or not [Entry.Same], and a Whiteout for what is gone,
// sorted by path. Both trees are completed by [WithParents] first. Times count:
// compare trees that went through [Tree.At] with the same epoch.
//
// Unpackers differ over hard links into lower layers, so all names of a file
// are returned when one of them is. Nothing below a removed or replaced
// directory gets a whiteout of its own.
func Diff(from, to *Tree) []Entry {
	a, b := complete(from), complete(to)
	changed := map[string]bool{} // by path, and by first path for groups of hard links
	for i := range b.entries {
		e := &b.entries[i]
		if old, ok := a.Lookup(e.Path); !ok || !old.Same(e) {
			changed[e.Path] = true
			if e.Kind == Hardlink {
				changed[e.Link] = true
			}
		}
	}
	var out []Entry
	for i := range b.entries {
		e := &b.entries[i]
		if changed[e.Path] || e.Kind == Hardlink && changed[e.Link] {
			out = append(out, *e)
		}
	}
	out = append(out, removals(a, b)...)
	SortEntries(out)
	return out
}

func removals(a, b *Tree) []Entry {
	var out []Entry
	gone := map[string]bool{} // removed, or below what is
	for i := range a.entries {
		p := a.entries[i].Path
		parent := path.Dir(p)
		if gone[parent] {
			gone[p] = true
			continue
		}
		if above, ok := b.Lookup(parent); ok && above.Kind != Dir {
			gone[p] = true
			continue
		}
		if _, ok := b.Lookup(p); !ok {
			gone[p] = true
			out = append(out, Entry{Path: p, Kind: Whiteout})
		}
	}
	return out
}

// Difference is a path of which two listings say different things. What only one of them
// has is nil in the other.
type Difference struct {
	Path string
	A, B *Entry
}

// Compare reads two listings side by side and returns where they differ, sorted by
// path. It holds one line of each, however long they are, and stops at the first error.
func Compare(a, b io.Reader) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		nextA, stopA := iter.Pull2(Scan(a))
		defer stopA()
		nextB, stopB := iter.Pull2(Scan(b))
		defer stopB()
		x, errA, moreA := nextA()
		y, errB, moreB := nextB()
		for moreA || moreB {
			if err := cmp.Or(errA, errB); err != nil {
				yield(Difference{}, err)
				return
			}
			left, right := x, y // what is handed out stays as it is
			d := Difference{Path: x.Path, A: &left, B: &right}
			switch {
			case !moreB || moreA && x.Path < y.Path:
				d.B = nil
				x, errA, moreA = nextA()
			case !moreA || y.Path < x.Path:
				d.Path, d.A = y.Path, nil
				y, errB, moreB = nextB()
			default:
				x, errA, moreA = nextA()
				y, errB, moreB = nextB()
				if left.Same(&right) {
					continue
				}
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// complete returns the tree with its missing parents.
func complete(t *Tree) *Tree { return &Tree{entries: WithParents(t.entries)} }

// Apply returns base with a layer's entries and whiteouts laid over it, as a
// container runtime would see it. A file in place of a directory hides all
// that was below.
func Apply(base *Tree, layer []Entry) (*Tree, error) {
	over := make(map[string]bool, len(layer))
	hides := map[string]bool{} // what is below these paths in base is gone
	var out []Entry
	for _, e := range layer {
		if over[e.Path] {
			return nil, &EntryError{e.Path, "is there twice"}
		}
		over[e.Path] = true
		if e.Kind != Dir {
			hides[e.Path] = true
		}
		if e.Kind != Whiteout {
			out = append(out, e)
		}
	}
	gone := map[string]bool{}
	for i := range base.entries {
		e := &base.entries[i]
		gone[e.Path] = over[e.Path] || hiddenBy(e.Path, hides)
	}
	t, err := New(append(out, survivors(base, gone)...))
	if err != nil {
		return nil, fmt.Errorf("cannot apply layer: %w", err)
	}
	return t, nil
}

func hiddenBy(p string, hides map[string]bool) bool {
	for p = path.Dir(p); p != "."; p = path.Dir(p) {
		if hides[p] {
			return true
		}
	}
	return false
}

// survivors returns the entries of base that are not gone. A file whose first
// name is gone lives on under the next one.
func survivors(base *Tree, gone map[string]bool) []Entry {
	var out []Entry
	heirs := map[string]string{} // first path → the path that follows it
	for i := range base.entries {
		e := base.entries[i]
		if gone[e.Path] {
			continue
		}
		if e.Kind == Hardlink && gone[e.Link] {
			if heir, ok := heirs[e.Link]; ok {
				e.Link = heir
			} else {
				heirs[e.Link] = e.Path
				file, _ := base.Lookup(e.Link)
				file.Path = e.Path
				e = file
			}
		}
		out = append(out, e)
	}
	return out
}
