package diff

import (
	"path"
	"slices"
	"strings"
)

const (
	// maxAlike bounds the unpaired files of one side that are compared with those of
	// the other by likeness: each with each.
	maxAlike = 300
	// sketchSize is how many hashes stand for a file; their overlap estimates the share of
	// common pieces within some 10 %.
	sketchSize = 64
	// alikeEnough is the estimated share of common pieces from which two files are taken for one that was renamed.
	alikeEnough = 0.4
	// maxSketched bounds the bytes of a file that its likeness is taken from.
	maxSketched = 4 << 20
)

// likeness is what is kept of a file to find it under another name.
type likeness struct {
	name   string
	size   int64
	sum    hash128
	sketch []uint64 // the smallest hashes of its pieces, sorted
}

func likenessOf(name string, s source) likeness {
	l := likeness{name: name, size: s.size}
	b := s.head(maxSketched)
	l.sum = sum128(b)
	// Pieces are lines, or what lies between two zero bytes; long ones are cut every 64 bytes.
	for len(b) > 0 {
		n := slices.IndexFunc(b[:min(len(b), 64)], func(c byte) bool { return c == '\n' || c == 0 })
		if n < 0 {
			n = min(len(b), 64) - 1
		}
		if n > 2 {
			l.sketch = append(l.sketch, sum64(b[:n]))
		}
		b = b[n+1:]
		if len(l.sketch) > 64*sketchSize {
			l.sketch = smallest(l.sketch)
		}
	}
	l.sketch = smallest(l.sketch)
	return l
}

// sum64 is a fixed hash (FNV-1a with a finish): which files are taken for alike must be the same at every run.
func sum64(p []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range p {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 32
	return h * 0x9E3779B97F4A7C15
}

func smallest(s []uint64) []uint64 {
	slices.Sort(s)
	s = slices.Compact(s)
	return s[:min(len(s), sketchSize)]
}

// share estimates how many of both files' pieces are common.
func (l likeness) share(m likeness) float64 {
	if len(l.sketch) == 0 || len(m.sketch) == 0 {
		return 0
	}
	union := smallest(append(slices.Clone(l.sketch), m.sketch...))
	common := 0
	for _, h := range union {
		if _, ok := slices.BinarySearch(l.sketch, h); ok {
			if _, ok := slices.BinarySearch(m.sketch, h); ok {
				common++
			}
		}
	}
	return float64(common) / float64(len(union))
}

// shape is a name with what tools make up replaced: digits, hexadecimal, random
// suffixes. "tmp/ccXyZ12a.s" and "tmp/ccAb09Qr.s" have one shape only by their length and folder.
func shape(name string) string {
	dir, base := path.Split(name)
	return dir + strings.Map(func(r rune) rune {
		switch {
		case '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
			return 'x'
		}
		return r
	}, base)
}

// marry pairs files of two sides: equal contents first (equal base names before
// others), then likely ones, best first, then lone files of one shape.
func marry(a, b []likeness) [][2]int {
	var out [][2]int
	usedA, usedB := make([]bool, len(a)), make([]bool, len(b))
	take := func(i, j int) {
		usedA[i], usedB[j] = true, true
		out = append(out, [2]int{i, j})
	}
	for _, sameName := range []bool{true, false} {
		for i := range a {
			for j := range b {
				if !usedA[i] && !usedB[j] && a[i].size > 0 && a[i].size == b[j].size && a[i].sum == b[j].sum &&
					(!sameName || path.Base(a[i].name) == path.Base(b[j].name)) {
					take(i, j)
				}
			}
		}
	}
	type couple struct {
		i, j  int
		share float64
	}
	var couples []couple
	for i := range a {
		for j := range b {
			if usedA[i] || usedB[j] {
				continue
			}
			s := a[i].share(b[j])
			if path.Ext(a[i].name) != path.Ext(b[j].name) {
				s /= 2
			}
			if shape(a[i].name) == shape(b[j].name) {
				s += 0.3
			}
			if s >= alikeEnough {
				couples = append(couples, couple{i, j, s})
			}
		}
	}
	slices.SortStableFunc(couples, func(x, y couple) int {
		switch {
		case x.share > y.share:
			return -1
		case x.share < y.share:
			return 1
		}
		return 0
	})
	for _, k := range couples {
		if !usedA[k.i] && !usedB[k.j] {
			take(k.i, k.j)
		}
	}
	alone := func(l []likeness, used []bool) map[string]int {
		m := map[string]int{}
		for i := range l {
			if !used[i] && l[i].name != "" {
				if _, twice := m[shape(l[i].name)]; twice {
					m[shape(l[i].name)] = -1
				} else {
					m[shape(l[i].name)] = i
				}
			}
		}
		return m
	}
	others := alone(b, usedB)
	mine := alone(a, usedA)
	for i := range a {
		if s := shape(a[i].name); !usedA[i] && mine[s] == i {
			// Names of a letter or two have the shape of any other.
			if j, ok := others[s]; ok && j >= 0 && len(path.Base(a[i].name)) >= 6 {
				take(i, j)
			}
		}
	}
	return out
}
