package diff

import (
	"encoding/binary"
	"fmt"
)

// squashFields are the fields of a squashfs 4.0 superblock (the kernel's squashfs_fs.h).
var squashFields = []struct {
	size   int64
	name   string
	effect bool
}{
	{4, "magic", false}, {4, "inodes", true}, {4, "mkfs time", false}, {4, "block size", false}, {4, "fragments", true}, {2, "compression", false},
	{2, "block log", true}, {2, "flags", false}, {2, "ids", true}, {2, "major", false}, {2, "minor", false}, {8, "root inode", true}, {8, "bytes used", true},
	{8, "id table", true}, {8, "xattr table", true}, {8, "inode table", true}, {8, "directory table", true}, {8, "fragment table", true}, {8, "export table", true},
}

// takeSquashfs cuts the superblock; what follows is compared as bytes, between the tables that it names,
// and by the files that it holds (squashtree.go).
func takeSquashfs(s source) *anatomy {
	if s.size < 96 {
		return nil
	}
	b := s.head(96)
	t := &scattered{s: s}
	at := int64(0)
	values := map[string]int64{}
	for _, f := range squashFields {
		v := int64(0)
		switch p := b[at : at+f.size]; f.size {
		case 2:
			v = int64(binary.LittleEndian.Uint16(p))
		case 4:
			v = int64(binary.LittleEndian.Uint32(p))
		default:
			v = int64(binary.LittleEndian.Uint64(p))
		}
		values[f.name] = v
		says := fmt.Sprint(v)
		if f.name == "mkfs time" {
			says = stampUnix(v)
		}
		t.add("superblock", "", "", at, f.size, cut{what: WhatSquashfs, where: f.name, value: says, effect: f.effect})
		at += f.size
	}
	// The tables stand in this order behind the data; each ends where the next begins.
	names := []string{"inode table", "directory table", "fragment table", "export table", "id table", "xattr table"}
	ends := []int64{}
	for _, n := range names {
		ends = append(ends, values[n])
	}
	end := func(from int64) int64 {
		next := min(values["bytes used"], s.size)
		for _, e := range ends {
			if e > from && e < next {
				next = e
			}
		}
		return next
	}
	if from := end(96); from > 96 {
		t.add("data", "data", KindSection, 96, from-96, cut{what: WhatBytes, mode: modeBytes, inside: true})
	}
	for _, n := range names {
		if off := values[n]; off >= 96 && off < s.size {
			t.add(n, n, KindSection, off, end(off)-off, cut{what: WhatBytes, mode: modeBytes, inside: true})
		}
	}
	if used := values["bytes used"]; used >= 96 && used < s.size { // to a whole number of pages
		t.add("end", "", "", used, s.size-used, cut{what: WhatPadding, where: "after the end", mode: modeBytes, fold: true})
	}
	a := t.done()
	a.image = true
	return a
}
