package cause

import (
	"bytes"
	"debug/elf"

	"quorate.dev/diff"
)

// slackOf is the length of an emptied RPATH in .dynstr: strip and install tools
// write NUL over it but cannot take its room.
func slackOf(n *diff.Node, w diff.Which) int {
	r, err := n.Open(w)
	if err != nil {
		return 0
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return 0
	}
	defer f.Close()
	s := f.Section(".dynstr")
	if s == nil || s.Size > 1<<20 || s.Type == elf.SHT_NOBITS { // a megabyte of names is more than any program has
		return 0
	}
	b, err := s.Data()
	if err != nil || len(b) < 2 {
		return 0
	}
	longest := 0
	for i := 1; i < len(b); { // the table begins with one NUL
		if b[i] != 0 {
			next := bytes.IndexByte(b[i:], 0)
			if next < 0 {
				break
			}
			i += next + 1 // behind the name's own NUL
			continue
		}
		j := i
		for j < len(b) && b[j] == 0 {
			j++
		}
		longest = max(longest, j-i)
		i = j
	}
	if longest < 4 { // alignment leaves up to three
		return 0
	}
	return longest
}
