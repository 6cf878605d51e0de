package diff

import "sort"

// keyed are the formats whose values have a place that people count: line and column.
var keyed = map[string]bool{"json": true, "yaml": true, "properties": true}

// number notes on which line and in which column the values lie that differ. Columns count bytes, as editors and compilers mostly do.
func (c *comparer) number(n *Node) {
	for _, w := range []Which{A, B} {
		b, err := n.Part(w).src.load()
		if err != nil {
			return
		}
		var list []*Finding
		for i := range n.Findings {
			f := &n.Findings[i]
			if (f.What == WhatValue || f.What == WhatSpacing || f.What == WhatText) && len(f.Runs) > 0 && f.Runs[0].On(w).Length > 0 {
				list = append(list, f)
			}
		}
		sort.SliceStable(list, func(i, j int) bool { return list[i].Runs[0].On(w).Offset < list[j].Runs[0].On(w).Offset })
		line, start, at := 1, 0, 0
		for _, f := range list {
			for off := int(f.Runs[0].On(w).Offset); at < off; at++ {
				if b[at] == '\n' {
					line, start = line+1, at+1
				}
			}
			f.Line[w], f.Column[w] = line, at-start+1
		}
	}
}
