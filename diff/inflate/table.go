package inflate

import (
	"math/bits"
	"sync"
)

// A table says for the next bits of a stream which symbol begins there. An entry is
//
//	bits 0–5    bits to consume: the code and, of a length or distance, its extra bits
//	bits 8–11   bits of the code alone; of a pointer, how many bits choose in the second table
//	bit 13      a pointer: the code is longer than the first table's index
//	bit 14      the end of the block
//	bit 15      none of the usual: a pointer, the end, or no symbol at all
//	bits 16–30  the byte, what a length or distance begins at, or where the second table begins
//	bit 31      a byte
const (
	entryByte    = 1 << 31
	entryRare    = 1 << 15
	entryEnd     = 1 << 14
	entryPointer = 1 << 13

	maxCode = 15 // bits (RFC 1951, section 3.2.7)

	// First tables of eleven and nine bits hold nearly all codes that are met, and stay in the
	// processor's nearest cache together.
	byteBits, distanceBits = 11, 9
	// Codes of more bits than the first table's index share its entry with at least one more, so that
	// there are at most half as many second tables as symbols.
	byteTable     = 1<<byteBits + 288/2<<(maxCode-byteBits)
	distanceTable = 1<<distanceBits + 32/2<<(maxCode-distanceBits)
	// The code of code lengths has at most seven bits.
	lengthBits  = 7
	lengthTable = 1 << lengthBits
)

type tables struct {
	bytes     [byteTable]uint32
	distances [distanceTable]uint32
}

// symbols are the entries of bytes and lengths, of distances and of code lengths, yet without their codes.
var byteSymbols, distanceSymbols, lengthSymbols = func() (b [288]uint32, d [32]uint32, l [19]uint32) {
	for i := range 256 {
		b[i] = entryByte | uint32(i)<<16
	}
	b[256] = entryRare | entryEnd
	base, extra := uint32(3), uint32(0)
	for i := 257; i < 285; i++ {
		if i >= 265 && (i-265)%4 == 0 {
			extra++
		}
		b[i] = base<<16 | extra
		base += 1 << extra
	}
	b[285] = 258 << 16
	b[286], b[287] = entryRare, entryRare
	base, extra = 1, 0
	for i := range 30 {
		if i >= 4 && i%2 == 0 {
			extra++
		}
		d[i] = base<<16 | extra
		base += 1 << extra
	}
	d[30], d[31] = entryRare, entryRare
	for i := range l {
		l[i] = uint32(i) << 16
	}
	return b, d, l
}()

// fill makes the table of a canonical code (RFC 1951, section 3.2.2) from the lengths of its
// codes. It reports false for lengths that make none. As compress/flate has it, a code may be
// empty, or have one symbol of one bit.
func fill(table []uint32, first uint, lengths []uint8, symbols []uint32) bool {
	var count, next [maxCode + 1]int
	for _, l := range lengths {
		count[l]++
	}
	count[0] = 0
	code, most := 0, uint(0)
	for l := 1; l <= maxCode; l++ {
		code <<= 1
		next[l] = code
		if code += count[l]; count[l] > 0 {
			most = uint(l)
		}
	}
	code >>= maxCode - most // what the codes of the greatest length end at
	if most > 0 && code != 1<<most || most <= 1 {
		if most > 1 || code > 1<<most {
			return false
		}
		for i := range table[:1<<first] {
			table[i] = entryRare
		}
	}
	second := 0 // bits that choose in a second table
	if most > first {
		second = int(most - first)
		at := 1 << first
		for i := next[first+1] >> 1; i < 1<<first; i++ {
			table[bits.Reverse16(uint16(i))>>(16-first)] = entryRare | entryPointer | uint32(at)<<16 | uint32(second)<<8
			at += 1 << second
		}
	}
	for s, l := range lengths {
		if l == 0 {
			continue
		}
		e := symbols[s] + uint32(l)*0x101
		at := int(bits.Reverse16(uint16(next[l])) >> (16 - l))
		next[l]++
		if uint(l) <= first {
			for i := at; i < 1<<first; i += 1 << l {
				table[i] = e
			}
			continue
		}
		sub := table[at&(1<<first-1)] >> 16
		for i := at >> first; i < 1<<second; i += 1 << (uint(l) - first) {
			table[int(sub)+i] = e
		}
	}
	return true
}

// fixed is the code of blocks that bring none (RFC 1951, section 3.2.6).
var fixed = sync.OnceValue(func() *tables {
	var b [288]uint8
	for i := range b {
		switch {
		case i < 144, i >= 280:
			b[i] = 8
		case i < 256:
			b[i] = 9
		default:
			b[i] = 7
		}
	}
	var d [32]uint8
	for i := range d {
		d[i] = 5
	}
	t := &tables{}
	fill(t.bytes[:], byteBits, b[:], byteSymbols[:])
	fill(t.distances[:], distanceBits, d[:], distanceSymbols[:])
	return t
})
