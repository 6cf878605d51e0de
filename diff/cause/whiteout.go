package cause

import (
	"path"
	"strings"

	"quorate.dev/diff"
)

// deletion is an entry by which a layer takes something away from those below it.
type deletion struct {
	node    *diff.Node
	finding *diff.Finding
	layer   *diff.Node
	side    diff.Which
	path    string // what is deleted; the folder whose former contents are
	opaque  bool
}

// whiteouts claims deletions that stand in a layer of one side in the form of OCI layers (".wh.NAME", ".wh..wh..opq"), and in
// the other side's in that of overlay file systems: the char device 0:0, an attribute of the folder, or name by name.
func (s *search) whiteouts(root *diff.Node) {
	var all []deletion
	root.Walk(func(n *diff.Node) bool {
		if n.Kind != diff.KindEntry {
			return true
		}
		for i := range n.Findings {
			if d, ok := deletionOf(n, &n.Findings[i]); ok {
				all = append(all, d)
			}
		}
		return false
	})
	type key struct {
		layer *diff.Node
		side  diff.Which
		path  string
	}
	at, within := map[key]*deletion{}, map[key][]*deletion{}
	for i := range all {
		d := &all[i]
		at[key{d.layer, d.side, d.path}] = d
		if !d.opaque {
			k := key{d.layer, d.side, path.Dir(d.path)}
			within[k] = append(within[k], d)
		}
	}
	for i := range all {
		d := &all[i]
		other := at[key{d.layer, 1 - d.side, d.path}]
		switch {
		case s.handled[d.finding]:
		case other != nil && d.opaque == other.opaque:
			s.deleted(d, other.finding, claim{confidence: 1, fact: "a deletion in another form"})
			s.deleted(other, d.finding, claim{confidence: 1, fact: "a deletion in another form"})
		case d.opaque && len(within[key{d.layer, 1 - d.side, d.path}]) > 0:
			list := within[key{d.layer, 1 - d.side, d.path}]
			c := claim{confidence: 0.7, fact: "an opaque folder on one side, whiteouts of its files on the other",
				why: "an opaque folder hides whatever lies below it, and whiteouts hide what they name: the same only when they name all of it", confirm: "quorate diff of both images, unpacked by one program"}
			s.deleted(d, list[0].finding, c)
			for _, w := range list {
				s.deleted(w, d.finding, c)
			}
		}
	}
}

// deleted claims a finding; its other side's value is that of another entry.
func (s *search) deleted(d *deletion, other *diff.Finding, c claim) {
	if s.handled[d.finding] {
		return
	}
	s.handled[d.finding] = true
	c.entry, c.where = "34-entry-kind", "whiteout"
	if d.opaque {
		c.where = "opaque folder"
	}
	c.a, c.b = d.finding.Value(d.side), other.Value(1-d.side)
	if d.side == diff.B {
		c.a, c.b = c.b, c.a
	}
	s.claim(d.node, d.finding, c)
}

func deletionOf(n *diff.Node, f *diff.Finding) (deletion, bool) {
	d := deletion{node: n, finding: f, layer: n.Parent, path: n.Name}
	if f.What == diff.WhatXattr && strings.HasSuffix(f.Where, ".overlay.opaque") && (f.A == "") != (f.B == "") {
		if d.opaque = true; f.A == "" {
			d.side = diff.B
		}
		return d, true
	}
	if f.What != diff.WhatPresence {
		return d, false
	}
	if n.A == nil {
		d.side = diff.B
	}
	m := n.Part(d.side).Meta
	if m == nil {
		return d, false
	}
	switch {
	case m.Type == "opaque":
		d.path, d.opaque = path.Dir(n.Name), true
	case m.Type == "whiteout":
		d.path = path.Join(path.Dir(n.Name), strings.TrimPrefix(path.Base(n.Name), ".wh."))
	case m.Type == "char device" && m.Device == "0:0":
	default:
		return d, false
	}
	return d, true
}
