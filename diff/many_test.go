package diff

import (
	"fmt"
	"testing"
	"time"
)

// More entries than nodes: what differs in all headers is said once and counts them all; contents
// are owned in one go. Every byte is accounted for.
func TestMoreEntriesThanNodes(t *testing.T) {
	const n = maxNodes + 100
	var a, b []file
	for i := range n {
		x := regular(fmt.Sprintf("f%d", i), "text")
		y := x
		y.ModTime = y.ModTime.Add(time.Second)
		switch {
		case i == n-1:
			y.content = "other"
		case i == n-2:
			y.Mode = 0o600
		}
		a, b = append(a, x), append(b, y)
	}
	res, err := Compare([]string{writeFile(t, "x.tar", tarOf(t, a)), writeFile(t, "x.tar", tarOf(t, b))}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	p := res.Pairs[0]
	if p.Total.Differing != n || p.Total.Files != n {
		t.Errorf("%d of %d files differ, expected %d of them", p.Total.Differing, p.Total.Files, n)
	}
	said := map[string]int{}
	p.Root.Walk(func(m *Node) bool {
		if err := m.Check(); err != nil {
			t.Error(err)
		}
		if m.Kind == KindLayer {
			for _, f := range m.Findings {
				said[f.What] += f.Entries
			}
		}
		return true
	})
	if said[WhatModTime] != 100 || said[WhatMode] != 1 || said[WhatSum] != 100 || said[WhatFolded] != 1 {
		t.Errorf("of the entries without a node it is said: %v", said)
	}
}
