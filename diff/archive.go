package diff

import "io"

// archives compares two layers or tar archives, which may be packed, and differ in bytes.
func (c *comparer) archives(n *Node, a, b *blob) error {
	if err := c.scanBoth(a, b); err != nil {
		return err
	}
	x, y := a.tree, b.tree
	n.A.Size, n.B.Size = x.list.size, y.list.size
	pa, pb := packerOf(a.src.head(headSize)), packerOf(b.src.head(headSize))
	if x.list.sum == y.list.sum && x.list.size == y.list.size {
		c.names.tree(x.list, func(int) bool { return false })
		if c.looseForm {
			return nil
		}
		return c.repacked(n, a, b, pa, pb)
	}
	n.Format = "tar"
	n.A.src, n.B.src = x.src, y.src
	switch {
	case c.looseForm:
	case pa != pb:
		c.add(n, Finding{What: WhatFormat, A: pa.String(), B: pb.String()})
	case pa != nil:
		c.packHeads(n, pa, a.src, b.src)
	}
	return c.trees(n, x, y, KindEntry)
}

// repacked compares two packed forms of one tar.
func (c *comparer) repacked(n *Node, a, b *blob, pa, pb *packer) error {
	equal, err := same(a.src, b.src)
	if equal || err != nil {
		return err
	}
	n.A.Size, n.A.src, n.B.Size, n.B.src = a.src.size, a.src, b.src.size, b.src
	if pa != pb || pa == nil {
		n.Format = "bytes"
		c.add(n, Finding{What: WhatCompression, A: pa.String(), B: pb.String(), Note: "equal when unpacked",
			Runs: []Run{{Range{0, a.src.size}, Range{0, b.src.size}}}})
		return nil
	}
	n.Format = pa.name
	p, q := c.take(pa.format, a.src), c.take(pa.format, b.src)
	if p == nil || q == nil {
		c.add(n, unexplained(Range{0, a.src.size}, Range{0, b.src.size}))
		return nil
	}
	c.equal = func() (io.ReadCloser, error) { return pa.open(a.src.reader()) }
	defer func() { c.equal = nil }()
	return c.anatomies(n, a.src, b.src, p, q)
}

// packHeads says what else differs in the packed form of tars that differ themselves.
// The node's bytes are the unpacked ones, so that these findings own none.
func (c *comparer) packHeads(n *Node, p *packer, a, b source) {
	x, y := c.take(p.format, a), c.take(p.format, b)
	if x == nil || y == nil || len(x.groups) == 0 || len(y.groups) == 0 {
		return
	}
	shadow := &Node{A: &Part{}, B: &Part{}}
	strip := func(g group) group {
		var kept []cut
		for _, k := range g.all() {
			if k.mode == modeField && !k.effect {
				kept = append(kept, k)
			}
		}
		g.cuts, g.open = kept, nil
		return g
	}
	g, h := strip(x.groups[0]), strip(y.groups[0])
	if c.groups(shadow, shadow, a, b, &g, &h) != nil {
		return
	}
	for _, f := range shadow.Findings {
		f.Runs = nil
		c.add(n, f)
	}
}
