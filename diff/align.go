package diff

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/sergi/go-diff/diffmatchpatch"
)

// maxRuns bounds the runs of one finding or file; further ones are joined with
// the equal bytes between them, the smallest gaps first. A run is 32 bytes.
const maxRuns = 1 << 14

// align returns where two byte strings differ, as runs in order; what lies
// between them is equal. The same input gives the same runs.
func align(a, b []byte) []Run {
	var al aligner
	al.level(a, b, 0, 0, 64)
	return coalesce(al.runs, maxRuns)
}

type aligner struct{ runs []Run }

func (al *aligner) emit(offA, lenA, offB, lenB int) {
	if lenA == 0 && lenB == 0 {
		return
	}
	r := Run{Range{int64(offA), int64(lenA)}, Range{int64(offB), int64(lenB)}}
	if n := len(al.runs); n > 0 && al.runs[n-1].A.End() == r.A.Offset && al.runs[n-1].B.End() == r.B.Offset {
		al.runs[n-1].A.Length += r.A.Length
		al.runs[n-1].B.Length += r.B.Length
		return
	}
	al.runs = append(al.runs, r)
}

// level aligns by common blocks of k bytes, and what lies between them with smaller ones.
func (al *aligner) level(a, b []byte, offA, offB, k int) {
	p := firstDifference(a, b)
	a, b, offA, offB = a[p:], b[p:], offA+p, offB+p
	s := commonSuffix(a, b)
	a, b = a[:len(a)-s], b[:len(b)-s]
	if len(a) == 0 || len(b) == 0 {
		al.emit(offA, len(a), offB, len(b))
		return
	}
	if len(a) == len(b) && mostlyEqual(a, b) {
		al.positional(a, b, offA, offB)
		return
	}
	// Blocks below 8 bytes match by chance and tear what belongs together apart.
	if k < 8 {
		if len(a) == len(b) {
			al.positional(a, b, offA, offB)
		} else {
			al.emit(offA, len(a), offB, len(b))
		}
		return
	}
	x, y := 0, 0
	for _, m := range blockMatches(a, b, k) {
		al.level(a[x:m.a], b[y:m.b], offA+x, offB+y, k/2)
		x, y = m.a+m.n, m.b+m.n
	}
	al.level(a[x:], b[y:], offA+x, offB+y, k/2)
}

// mostlyEqual reports whether byte-by-byte comparison explains two strings of
// one length: at most a third of the places differ.
func mostlyEqual(a, b []byte) bool {
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n*3 <= len(a)
}

// joinGap is how many equal bytes between two differing ones still belong to the
// same run: numbers and addresses share bytes by chance.
const joinGap = 3

func (al *aligner) positional(a, b []byte, offA, offB int) {
	for i := 0; i < len(a); {
		i += firstDifference(a[i:], b[i:])
		if i == len(a) {
			return
		}
		end := i + 1
		for j := end; j < len(a) && j-end <= joinGap; j++ {
			if a[j] != b[j] {
				end = j + 1
			}
		}
		al.emit(offA+i, end-i, offB+i, end-i)
		i = end
	}
}

type match struct{ a, b, n int }

// blockMatches finds stretches that both strings hold, in the same order on both
// sides: blocks of a at multiples of k, wherever they stand in b, grown to both ends.
func blockMatches(a, b []byte, k int) []match {
	if len(a) < k || len(b) < k {
		return nil
	}
	size := 1 << bits.Len(uint(2*(len(a)/k)+1))
	table := make([]int32, size) // number of the block + 1
	const prime = 0x9E3779B97F4A7C15
	hash := func(p []byte) (h uint64) {
		for _, c := range p {
			h = h*prime + uint64(c) + 1
		}
		return h
	}
	slot := func(h uint64) int { return int((h ^ h>>29) * 0xBF58476D1CE4E5B9 >> 33 & uint64(size-1)) }
	for i := 0; i+k <= len(a); i += k {
		block := a[i : i+k]
		if uniform(block) {
			continue // padding would match everywhere
		}
		s := slot(hash(block))
		for n := 0; table[s] != 0 && n < 16; n++ {
			s = (s + 1) & (size - 1)
		}
		if table[s] == 0 {
			table[s] = int32(i/k + 1)
		}
	}
	out := uint64(1)
	for range k {
		out *= prime
	}
	var found []match
	h, fresh, endB := uint64(0), true, 0
	for j := 0; j+k <= len(b); {
		if fresh {
			h, fresh = hash(b[j:j+k]), false
		}
		best := match{}
		s := slot(h)
		for n := 0; table[s] != 0 && n < 16; n++ {
			i := int(table[s]-1) * k
			if bytes.Equal(a[i:i+k], b[j:j+k]) {
				m := match{i, j, k}
				m.n += firstDifference(a[i+k:], b[j+k:])
				back := commonSuffix(a[:i], b[endB:j])
				m.a, m.b, m.n = m.a-back, m.b-back, m.n+back
				if m.n > best.n {
					best = m
				}
			}
			s = (s + 1) & (size - 1)
		}
		if best.n > 0 {
			found = append(found, best)
			j, endB, fresh = best.b+best.n, best.b+best.n, true
			continue
		}
		if j+k < len(b) {
			h = h*prime + uint64(b[j+k]) + 1 - out*(uint64(b[j])+1)
		}
		j++
	}
	return heaviest(found)
}

func uniform(p []byte) bool {
	for _, c := range p {
		if c != p[0] {
			return false
		}
	}
	return true
}

// heaviest keeps the matches that rise on both sides and cover the most bytes,
// and trims what overlaps on side a. The matches come in the order of b.
func heaviest(found []match) []match {
	if len(found) == 0 {
		return nil
	}
	// A Fenwick tree over the ends on side a holds the best weight of a chain that ends there.
	ends := make([]int, 0, len(found))
	for _, m := range found {
		ends = append(ends, m.a+m.n)
	}
	sort.Ints(ends)
	ends = slices.Compact(ends)
	best := make([]int, len(ends)+1) // number of match + 1
	weight := make([]int, len(found))
	before := make([]int, len(found))
	top := 0
	for i, m := range found {
		before[i] = -1
		weight[i] = m.n
		for e := sort.SearchInts(ends, m.a+1); e > 0; e &= e - 1 {
			if c := best[e] - 1; c >= 0 && weight[c]+m.n > weight[i] {
				weight[i], before[i] = weight[c]+m.n, c
			}
		}
		for e := sort.SearchInts(ends, m.a+m.n) + 1; e <= len(ends); e += e & -e {
			if c := best[e] - 1; c < 0 || weight[c] < weight[i] {
				best[e] = i + 1
			}
		}
		if weight[i] > weight[top] {
			top = i
		}
	}
	var chain []match
	for i := top; i >= 0; i = before[i] {
		chain = append(chain, found[i])
	}
	slices.Reverse(chain)
	return chain
}

// firstDifference is the number of equal bytes at the beginning.
func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for ; i < n && a[i] == b[i]; i++ {
	}
	return i
}

// commonSuffix is the number of equal bytes at the end.
func commonSuffix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for i+8 <= n && binary.LittleEndian.Uint64(a[len(a)-i-8:]) == binary.LittleEndian.Uint64(b[len(b)-i-8:]) {
		i += 8
	}
	for i < n && a[len(a)-1-i] == b[len(b)-1-i] {
		i++
	}
	return i
}

// coalesce joins runs until at most n are left. The bytes between two joined runs are
// equal on both sides and of one length, so that what is left unowned stays equal.
func coalesce(runs []Run, n int) []Run {
	if len(runs) <= n {
		return runs
	}
	gaps := make([]int64, 0, len(runs)-1)
	for i := 1; i < len(runs); i++ {
		gaps = append(gaps, runs[i].A.Offset-runs[i-1].A.End())
	}
	sorted := slices.Clone(gaps)
	slices.Sort(sorted)
	limit, join := sorted[len(runs)-n-1], len(runs)-n // join so many, in order, none above limit
	out := runs[:1:1]
	for i, r := range runs[1:] {
		last := &out[len(out)-1]
		if gaps[i] <= limit && join > 0 {
			join--
			last.A.Length, last.B.Length = r.A.End()-last.A.Offset, r.B.End()-last.B.Offset
			continue
		}
		out = append(out, r)
	}
	return out
}

// shift moves runs from a stretch's coordinates to those of the whole.
func shift(runs []Run, a, b int64) []Run {
	out := make([]Run, len(runs))
	for i, r := range runs {
		r.A.Offset += a
		r.B.Offset += b
		out[i] = r
	}
	return out
}

// sound reports whether the bytes outside of the runs are equal on both sides.
func sound(a, b []byte, runs []Run) bool {
	x, y := int64(0), int64(0)
	for _, r := range runs {
		if r.A.Offset < x || r.B.Offset < y || r.A.End() > int64(len(a)) || r.B.End() > int64(len(b)) ||
			!bytes.Equal(a[x:r.A.Offset], b[y:r.B.Offset]) {
			return false
		}
		x, y = r.A.End(), r.B.End()
	}
	return bytes.Equal(a[x:], b[y:])
}

// hunk is where two sequences differ: [A0,A1) stands where [B0,B1) does.
type hunk struct{ a0, a1, b0, b1 int }

// smallSequence bounds the sequences that are handed to go-diff without a time
// limit (a limit would make the output depend on the machine); its cost grows
// with the square of the differences, and this many take some milliseconds.
const smallSequence = 1500

// sequences returns the hunks of two sequences of numbers, in order: things that
// stand once on either side are anchors, and between them go-diff decides.
func sequences(a, b []int32) []hunk {
	var out []hunk
	type piece struct {
		hunk
		deep int
	}
	stack := []piece{{hunk{0, len(a), 0, len(b)}, 0}}
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for p.a0 < p.a1 && p.b0 < p.b1 && a[p.a0] == b[p.b0] {
			p.a0, p.b0 = p.a0+1, p.b0+1
		}
		for p.a0 < p.a1 && p.b0 < p.b1 && a[p.a1-1] == b[p.b1-1] {
			p.a1, p.b1 = p.a1-1, p.b1-1
		}
		switch {
		case p.a0 == p.a1 && p.b0 == p.b1:
			continue
		case p.a0 == p.a1 || p.b0 == p.b1:
			out = append(out, p.hunk)
			continue
		}
		// Each level splits at least once; the bound keeps hostile input from many passes over all of it.
		if p.deep < 32 {
			if anchors := uniques(a, b, p.hunk); len(anchors) > 0 {
				x, y := p.a1, p.b1
				for i := len(anchors) - 1; i >= 0; i-- {
					stack = append(stack, piece{hunk{anchors[i][0] + 1, x, anchors[i][1] + 1, y}, p.deep + 1})
					x, y = anchors[i][0], anchors[i][1]
				}
				stack = append(stack, piece{hunk{p.a0, x, p.b0, y}, p.deep + 1})
				continue
			}
		}
		if p.a1-p.a0+p.b1-p.b0 <= smallSequence {
			out = append(out, smallDiff(a, b, p.hunk)...)
		} else {
			out = append(out, p.hunk)
		}
	}
	return out
}

// uniques are the places of what stands exactly once on both sides, as far as they rise together.
func uniques(a, b []int32, h hunk) [][2]int {
	count := map[int32][3]int{} // times in a, times in b, place in b
	for _, v := range a[h.a0:h.a1] {
		c := count[v]
		c[0]++
		count[v] = c
	}
	for j := h.b0; j < h.b1; j++ {
		if c, ok := count[b[j]]; ok {
			c[1]++
			c[2] = j
			count[b[j]] = c
		}
	}
	var places [][2]int
	for i := h.a0; i < h.a1; i++ {
		if c := count[a[i]]; c[0] == 1 && c[1] == 1 {
			places = append(places, [2]int{i, c[2]})
		}
	}
	second := make([]int, len(places))
	for i, p := range places {
		second[i] = p[1]
	}
	var out [][2]int
	for i, keep := range increasing(second) {
		if keep {
			out = append(out, places[i])
		}
	}
	return out
}

// increasing marks a longest increasing subsequence.
func increasing(s []int) []bool {
	keep := make([]bool, len(s))
	tails, before := []int{}, make([]int, len(s))
	for i, v := range s {
		at := sort.Search(len(tails), func(k int) bool { return s[tails[k]] >= v })
		before[i] = -1
		if at > 0 {
			before[i] = tails[at-1]
		}
		if at == len(tails) {
			tails = append(tails, i)
		} else {
			tails[at] = i
		}
	}
	if len(tails) > 0 {
		for i := tails[len(tails)-1]; i >= 0; i = before[i] {
			keep[i] = true
		}
	}
	return keep
}

func smallDiff(a, b []int32, h hunk) []hunk {
	names := map[int32]rune{}
	runes := func(s []int32) []rune {
		out := make([]rune, len(s))
		for i, v := range s {
			r, ok := names[v]
			if !ok {
				r = rune(0x100 + len(names)) // below the surrogates, as smallSequence is
				names[v] = r
			}
			out[i] = r
		}
		return out
	}
	dmp := diffmatchpatch.New()
	dmp.DiffTimeout = 0
	var out []hunk
	x, y := h.a0, h.b0
	now := hunk{x, x, y, y}
	for _, d := range dmp.DiffMainRunes(runes(a[h.a0:h.a1]), runes(b[h.b0:h.b1]), false) {
		n := len([]rune(d.Text))
		switch d.Type {
		case diffmatchpatch.DiffDelete:
			x += n
		case diffmatchpatch.DiffInsert:
			y += n
		default:
			if now.a1, now.b1 = x, y; now.a0 < x || now.b0 < y {
				out = append(out, now)
			}
			x, y = x+n, y+n
			now = hunk{x, x, y, y}
		}
	}
	if now.a1, now.b1 = x, y; now.a0 < x || now.b0 < y {
		out = append(out, now)
	}
	return out
}

const (
	// maxLoad is how much of one side of a file is held in memory; larger files are compared in chunks.
	maxLoad = 12 << 20
	// Chunks of large files end where a rolling hash says so, so that they are found again after an insertion.
	chunkLeast, chunkMost = 16 << 10, 256 << 10
	chunkMask             = 1<<16 - 1
)

type chunk struct {
	off, size int64
	sum       hash128
}

// maxChunks bounds the chunks of one side at 40 MB. They are of some 80 kB: what is behind the first 80 GB of a file
// that changed its size is not looked for elsewhere.
const maxChunks = 1 << 20

// chunks cuts a source into content-defined chunks. Those of a hole are known without reading it.
func chunks(s source, done <-chan struct{}) ([]chunk, error) {
	var out []chunk
	buf, have := make([]byte, chunkMost), 0
	for at := int64(0); at < s.size; {
		if err := ended(done); err != nil {
			return nil, err
		}
		if len(out) == maxChunks {
			return append(out, chunk{at, s.size - at, hash128{rand.Uint64(), rand.Uint64()}}), nil // equal to none
		}
		want := int(min(int64(len(buf)), s.size-at))
		if k, err := s.ReadAt(buf[have:want], at+int64(have)); have+k < want {
			return nil, broken(err)
		}
		n := cutPoint(buf[:want])
		c := chunk{at, int64(n), sum128(buf[:n])}
		out = append(out, c)
		at, have = at+int64(n), copy(buf, buf[n:want])
		if n < len(buf) || !allZero(buf[:n]) {
			continue
		}
		for end := s.data(at); at+int64(n) <= end && len(out) < maxChunks; at += int64(n) {
			c.off = at
			out = append(out, c)
		}
	}
	return out, nil
}

// cutPoint is the length of the chunk that begins p.
func cutPoint(p []byte) int {
	if len(p) <= chunkLeast {
		return len(p)
	}
	var h uint64
	for i := chunkLeast - 64; i < len(p); i++ {
		h = h<<1 + gear[p[i]]
		if i >= chunkLeast && h>>40&chunkMask == 0 {
			return i + 1
		}
	}
	return len(p)
}

// gear spreads a byte over 64 bits.
var gear = func() (g [256]uint64) {
	for c := range g {
		x := (uint64(c) + 1) * 0x9E3779B97F4A7C15
		x ^= x >> 30
		g[c] = x * 0xBF58476D1CE4E5B9
	}
	return g
}()

// alignSources is align for sources of any size.
func alignSources(a, b source, done <-chan struct{}) ([]Run, error) {
	if a.size <= maxLoad && b.size <= maxLoad {
		x, err := a.load()
		if err != nil {
			return nil, err
		}
		y, err := b.load()
		if err != nil {
			return nil, err
		}
		return align(x, y), nil
	}
	var out []Run
	lost := int64(0)
	err := unequal(a, b, done, func(ra, rb Range) error {
		if max(ra.Length, rb.Length) <= alignWindow {
			runs, err := alignRange(a, b, ra, rb, &lost)
			out = coalesce(append(out, runs...), 4*maxRuns)
			return err
		}
		runs, err := alignChunks(a.sub(ra.Offset, ra.Length), b.sub(rb.Offset, rb.Length), done, &lost)
		out = coalesce(append(out, shift(runs, ra.Offset, rb.Offset)...), 4*maxRuns)
		return err
	})
	return coalesce(out, maxRuns), err
}

// farApart is the equal bytes from which two differing stretches of large files are aligned each by itself.
const farApart = alignWindow

// unequal visits the stretches in which two large sources differ. In sources of one size most of it stands in one place, and
// finding that costs a tenth of cutting all into chunks; in others only what is before the first difference is left out.
func unequal(a, b source, done <-chan struct{}, visit func(a, b Range) error) error {
	begun, end := int64(-1), int64(0) // of the stretch at hand
	both := min(a.size, b.size)
	x, y := make([]byte, 4*blockSize), make([]byte, 4*blockSize)
	for off := int64(0); off < both; {
		if err := ended(done); err != nil {
			return err
		}
		n := min(both-off, int64(len(x)))
		for _, s := range []struct {
			source
			into []byte
		}{{a, x}, {b, y}} {
			if k, err := s.ReadAt(s.into[:n], off); int64(k) < n {
				return broken(err)
			}
		}
		if bytes.Equal(x[:n], y[:n]) {
			off += n
			if allZero(x[:n]) {
				off = min(max(off, min(a.data(off), b.data(off))), both)
			}
			if begun >= 0 && off-end >= farApart && a.size == b.size {
				if err := visit(Range{begun, end - begun}, Range{begun, end - begun}); err != nil {
					return err
				}
				begun = -1
			}
			continue
		}
		if begun < 0 {
			begun = off
		}
		if off, end = off+n, off+n; a.size != b.size {
			break
		}
	}
	switch {
	case a.size != b.size:
		if begun < 0 {
			begun = both
		}
		return visit(Range{begun, a.size - begun}, Range{begun, b.size - begun})
	case begun >= 0:
		return visit(Range{begun, end - begun}, Range{begun, end - begun})
	}
	return nil
}

// alignChunks is align for large stretches that begin with a difference: it finds what moved by
// chunks that both hold.
func alignChunks(a, b source, done <-chan struct{}, lost *int64) ([]Run, error) {
	x, err := chunks(a, done)
	if err != nil {
		return nil, err
	}
	y, err := chunks(b, done)
	if err != nil {
		return nil, err
	}
	ids := map[hash128]int32{}
	number := func(c []chunk) []int32 {
		out := make([]int32, len(c))
		for i := range c {
			id, ok := ids[c[i].sum]
			if !ok {
				id = int32(len(ids))
				ids[c[i].sum] = id
			}
			out[i] = id
		}
		return out
	}
	at := func(c []chunk, i int, s source) int64 {
		if i < len(c) {
			return c[i].off
		}
		return s.size
	}
	var out []Run
	for _, h := range sequences(number(x), number(y)) {
		ra := Range{at(x, h.a0, a), at(x, h.a1, a) - at(x, h.a0, a)}
		rb := Range{at(y, h.b0, b), at(y, h.b1, b) - at(y, h.b0, b)}
		if err := ended(done); err != nil {
			return nil, err
		}
		runs, err := alignRange(a, b, ra, rb, lost)
		if err != nil {
			return nil, err
		}
		out = coalesce(append(out, runs...), 4*maxRuns)
	}
	return out, nil
}

// alignWindow is up to which size stretches of large files are aligned byte by byte.
const alignWindow = 4 << 20

// maxLost is after how many bytes that were aligned in vain, some 200 ns each, what is left of two large files
// is not aligned any more: they have little in common, as encrypted or compressed ones.
const maxLost = 8 << 20

// alignRange aligns two stretches, window by window when they are large and of one length.
func alignRange(a, b source, ra, rb Range, lost *int64) ([]Run, error) {
	const window = alignWindow
	if ra.Length > window || rb.Length > window {
		if ra.Length != rb.Length {
			return []Run{{ra, rb}}, nil
		}
		var out []Run
		for off := int64(0); off < ra.Length; off += window {
			n := min(window, ra.Length-off)
			runs, err := alignRange(a, b, Range{ra.Offset + off, n}, Range{rb.Offset + off, n}, lost)
			if err != nil {
				return nil, err
			}
			out = coalesce(append(out, runs...), 4*maxRuns)
		}
		return out, nil
	}
	x, err := a.slice(ra.Offset, ra.Length)
	if err != nil {
		return nil, err
	}
	y, err := b.slice(rb.Offset, rb.Length)
	if err != nil {
		return nil, err
	}
	if *lost > maxLost {
		if p, s := int64(firstDifference(x, y)), int64(0); p < min(ra.Length, rb.Length) {
			s = min(int64(commonSuffix(x[p:], y[p:])), ra.Length-p, rb.Length-p)
			return []Run{{Range{ra.Offset + p, ra.Length - p - s}, Range{rb.Offset + p, rb.Length - p - s}}}, nil
		} else if ra.Length != rb.Length {
			return []Run{{Range{ra.Offset + p, ra.Length - p}, Range{rb.Offset + p, rb.Length - p}}}, nil
		}
		return nil, nil
	}
	runs := align(x, y)
	covered := int64(0)
	for _, r := range runs {
		covered += max(r.A.Length, r.B.Length)
	}
	if n := max(ra.Length, rb.Length); covered > n/2 {
		*lost += n
	}
	return shift(runs, ra.Offset, rb.Offset), nil
}

// ended returns ErrStopped when nobody waits any longer.
func ended(done <-chan struct{}) error {
	select {
	case <-done:
		return ErrStopped
	default:
		return nil
	}
}
