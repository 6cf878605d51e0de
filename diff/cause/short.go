package cause

import (
	"bytes"
	"fmt"
	"slices"

	"quorate.dev/diff"
)

// cutShort claims files that are damaged on one side, and there the beginning of the other's: everything else that
// was found in them follows from that.
func (s *search) cutShort(root *diff.Node) {
	root.Walk(func(n *diff.Node) bool {
		if n.Kind != diff.KindEntry && n.Kind != diff.KindLayer {
			return true
		}
		if !damaged(n) || !prefix(n) {
			return n.Kind == diff.KindLayer
		}
		c := claim{entry: "36-race", confidence: 0.8, where: "size", a: fmt.Sprintf("%d bytes", n.A.Size), b: fmt.Sprintf("%d bytes", n.B.Size), fact: "one side is the beginning of the other, and damaged",
			why: "a file cut short looks like a step that did not wait for another, or that was stopped", confirm: "make -j1 in the step"}
		list := []claim{c}
		n.Walk(func(m *diff.Node) bool {
			for i := range m.Findings {
				if f := &m.Findings[i]; !f.Effect && !s.handled[f] && !(m == n && f.Outer) {
					s.handled[f] = true
					s.claim(m, f, list...)
					list = nil // evidence once
				}
			}
			return true
		})
		return false
	})
}

// damaged reports whether something in a file breaks the rules of its format on one side only.
func damaged(n *diff.Node) bool {
	found := false
	n.Walk(func(m *diff.Node) bool {
		found = found || slices.ContainsFunc(m.Findings, func(f diff.Finding) bool {
			return f.What == diff.WhatMalformed && (f.A == "") != (f.B == "")
		})
		return !found
	})
	return found
}

// maxPrefix bounds what is read to see that one file is the beginning of another.
const maxPrefix = 1 << 30

// prefix reports whether one side's bytes are the beginning of the other's.
func prefix(n *diff.Node) bool {
	if n.A == nil || n.B == nil || n.A.Size == n.B.Size {
		return false
	}
	size := min(n.A.Size, n.B.Size)
	if size == 0 || size > maxPrefix {
		return false
	}
	a, b := make([]byte, 256<<10), make([]byte, 256<<10)
	for off := int64(0); off < size; off += int64(len(a)) {
		k := min(size-off, int64(len(a)))
		if _, err := n.ReadAt(diff.A, a[:k], off); err != nil {
			return false
		}
		if _, err := n.ReadAt(diff.B, b[:k], off); err != nil || !bytes.Equal(a[:k], b[:k]) {
			return false
		}
	}
	return true
}
