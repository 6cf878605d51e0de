package inflate

import (
	"compress/flate"
	"encoding/binary"
	"io"
)

const (
	windowSize = 32 << 10 // how far a deflate stream may reach back (RFC 1951, section 2)
	inSize     = 64 << 10
	// outSize is the window and what is unpacked at once: all of it stays in the processor's second cache.
	outSize = windowSize + 224<<10
	// A match has at most 258 bytes and is copied eight bytes at a time, at least sixteen.
	outSlack = 258 + 16
	// fastIn is how many bytes must be there for two symbols to be read without a look at the end.
	fastIn = 16
)

// step is what stands next in the stream.
type step uint8

const (
	atHeader step = iota
	atBlock
	atSymbols
	atStored
	atTrailer
)

// stream is a Reader's deflate side.
type stream struct {
	src    io.Reader
	srcErr error // what src ended with
	in     [inSize]byte
	pos    int   // in[pos:end] are to be read
	end    int   //
	base   int64 // offset of in[0] in the packed stream
	bits   uint64
	n      uint // bits in bits

	out   [outSize + outSlack]byte
	w     int   // out[:w] is unpacked
	low   int   // where in out the member begins, as far as it is there
	start int64 // offset of out[0] in the unpacked stream

	step   step
	final  bool // the block at hand is the member's last
	stored int  // bytes left of a stored block
	codes  *tables
	own    tables
	err    error
}

// load brings more packed bytes, all of them behind those that are there. It is false at the end.
func (s *stream) load() bool {
	if s.srcErr != nil {
		return false
	}
	copy(s.in[:], s.in[s.pos:s.end])
	s.base += int64(s.pos)
	s.end, s.pos = s.end-s.pos, 0
	for tries := 0; ; tries++ {
		n, err := s.src.Read(s.in[s.end:])
		s.end += n
		if s.srcErr = err; n > 0 || err != nil {
			return n > 0
		}
		if tries == 100 { // as bufio has it
			s.srcErr = io.ErrNoProgress
			return false
		}
	}
}

// need brings at least n bits, at most 48, into bits. It is false when there are not so many.
func (s *stream) need(n uint) bool {
	for s.n < n {
		if s.pos == s.end && !s.load() {
			return false
		}
		s.bits |= uint64(s.in[s.pos]) << s.n
		s.pos++
		s.n += 8
	}
	return true
}

func (s *stream) drop(n uint) {
	s.bits >>= n
	s.n -= n
}

// take reads n bits that are there.
func (s *stream) take(n uint) int {
	v := int(s.bits & (1<<n - 1))
	s.drop(n)
	return v
}

// short ends the stream because there is no more of it.
func (s *stream) short() {
	if s.err = s.srcErr; s.err == nil || s.err == io.EOF {
		s.err = io.ErrUnexpectedEOF
	}
}

func (s *stream) corrupt() { s.err = flate.CorruptInputError(s.at() / 8) }

// at is the offset of the next bit in the packed stream.
func (s *stream) at() int64 { return (s.base+int64(s.pos))*8 - int64(s.n) }

// block reads the header of a block (RFC 1951, section 3.2.3).
func (s *stream) block() {
	if !s.need(3) {
		s.short()
		return
	}
	s.final = s.take(1) == 1
	switch s.take(2) {
	case 0:
		s.drop(s.n & 7)
		if !s.need(32) {
			s.short()
			return
		}
		size, check := s.take(16), s.take(16)
		if size != ^check&0xffff {
			s.corrupt()
			return
		}
		s.stored, s.step = size, atStored
	case 1:
		s.codes, s.step = fixed(), atSymbols
	case 2:
		if s.readCodes() {
			s.codes, s.step = &s.own, atSymbols
		}
	default:
		s.corrupt()
	}
}

// lengthOrder is the order in which the lengths of the code of code lengths stand (RFC 1951, section 3.2.7).
var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// readCodes reads the codes of a block.
func (s *stream) readCodes() bool {
	if !s.need(14) {
		s.short()
		return false
	}
	bytes, distances, lengths := s.take(5)+257, s.take(5)+1, s.take(4)+4
	if bytes > 286 || distances > 30 {
		s.corrupt()
		return false
	}
	var of [286 + 30]uint8
	var ofLengths [19]uint8
	for _, i := range lengthOrder[:lengths] {
		if !s.need(3) {
			s.short()
			return false
		}
		ofLengths[i] = uint8(s.take(3))
	}
	var table [lengthTable]uint32
	if !fill(table[:], lengthBits, ofLengths[:], lengthSymbols[:]) {
		s.corrupt()
		return false
	}
	for i := 0; i < bytes+distances; {
		s.need(lengthBits + 7) // at the end there may be fewer
		e := table[s.bits&(lengthTable-1)]
		if e&entryRare != 0 {
			s.corrupt()
			return false
		}
		symbol, size := uint8(e>>16), uint(e&63)
		extra, repeat, length := uint(0), 1, symbol
		switch symbol {
		case 16:
			if i == 0 {
				s.corrupt()
				return false
			}
			extra, repeat, length = 2, 3, of[i-1]
		case 17:
			extra, repeat, length = 3, 3, 0
		case 18:
			extra, repeat, length = 7, 11, 0
		}
		if s.n < size+extra {
			s.short()
			return false
		}
		s.drop(size)
		repeat += s.take(extra)
		if repeat > bytes+distances-i {
			s.corrupt()
			return false
		}
		for ; repeat > 0; repeat-- {
			of[i] = length
			i++
		}
	}
	if !fill(s.own.bytes[:], byteBits, of[:bytes], byteSymbols[:]) ||
		!fill(s.own.distances[:], distanceBits, of[bytes:bytes+distances], distanceSymbols[:]) {
		s.corrupt()
		return false
	}
	return true
}

// copyStored copies of a stored block what there is room for.
func (s *stream) copyStored() {
	for s.n > 0 && s.stored > 0 && s.w < outSize { // what need has brought already
		s.out[s.w] = byte(s.take(8))
		s.w++
		s.stored--
	}
	for s.stored > 0 && s.w < outSize {
		if s.pos == s.end && !s.load() {
			s.short()
			return
		}
		n := copy(s.out[s.w:outSize], s.in[s.pos:min(s.end, s.pos+s.stored)])
		s.w, s.pos, s.stored = s.w+n, s.pos+n, s.stored-n
	}
	if s.stored == 0 {
		s.ended()
	}
}

// ended goes to what stands behind a block.
func (s *stream) ended() {
	if s.step = atBlock; s.final {
		s.step = atTrailer
	}
}

// symbols unpacks what there is room for.
func (s *stream) symbols() {
	for s.step == atSymbols && s.err == nil && s.w < outSize {
		if s.end-s.pos < fastIn {
			s.load()
		}
		if s.end-s.pos >= fastIn {
			s.fast()
		} else {
			s.slow()
		}
	}
}

// fast unpacks as long as there is no end in sight, neither of what is read nor of where it goes.
func (s *stream) fast() {
	in, out := s.in[:s.end], &s.out
	byteTable, distanceTable := &s.codes.bytes, &s.codes.distances
	pos, w, low, bits, n := s.pos, s.w, s.low, s.bits, s.n
	last := len(in) - fastIn
	bad := false
loop:
	for pos <= last && w < outSize {
		// At least 56 bits. Those above n are what the next bytes bring again.
		bits |= binary.LittleEndian.Uint64(in[pos:]) << (n & 63)
		pos += int(63-n) >> 3
		n |= 56
		e := byteTable[bits&(1<<byteBits-1)]
		if e&entryByte != 0 {
			bits >>= e & 63
			n -= uint(e & 63)
			out[w] = byte(e >> 16)
			w++
			e = byteTable[bits&(1<<byteBits-1)]
			if e&entryByte != 0 {
				bits >>= e & 63
				n -= uint(e & 63)
				out[w] = byte(e >> 16)
				w++
				e = byteTable[bits&(1<<byteBits-1)]
				if e&entryByte != 0 {
					bits >>= e & 63
					n -= uint(e & 63)
					out[w] = byte(e >> 16)
					w++
					continue
				}
			}
		}
		if e&entryRare != 0 {
			if e&entryPointer != 0 {
				e = byteTable[e>>16+uint32(bits>>byteBits)&(1<<(e>>8&15)-1)]
			}
			if e&entryByte != 0 {
				bits >>= e & 63
				n -= uint(e & 63)
				out[w] = byte(e >> 16)
				w++
				continue
			}
			if e&entryRare != 0 {
				bits >>= e & 63
				n -= uint(e & 63)
				if e&entryEnd != 0 {
					s.ended()
				} else {
					bad = true
				}
				break loop
			}
		}
		length := int(e>>16) + int(bits&(1<<(e&63)-1)>>(e>>8&15))
		bits >>= e & 63
		n -= uint(e & 63)
		// Two bytes and a length took at most 42 bits, a distance takes at most 28.
		bits |= binary.LittleEndian.Uint64(in[pos:]) << (n & 63)
		pos += int(63-n) >> 3
		n |= 56
		e = distanceTable[bits&(1<<distanceBits-1)]
		if e&entryRare != 0 {
			if e&entryPointer != 0 {
				e = distanceTable[e>>16+uint32(bits>>distanceBits)&(1<<(e>>8&15)-1)]
			}
			if e&entryRare != 0 {
				bad = true
				break loop
			}
		}
		distance := int(e>>16) + int(bits&(1<<(e&63)-1)>>(e>>8&15))
		bits >>= e & 63
		n -= uint(e & 63)
		from := w - distance
		if from < low {
			bad = true
			break loop
		}
		if distance >= 8 {
			src, dst := out[from:from+length+16], out[w:w+length+16]
			binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src))
			binary.LittleEndian.PutUint64(dst[8:], binary.LittleEndian.Uint64(src[8:]))
			for i := 16; i < length; i += 8 {
				binary.LittleEndian.PutUint64(dst[i:], binary.LittleEndian.Uint64(src[i:]))
			}
		} else {
			near(out[from:w+length], distance)
		}
		w += length
	}
	s.pos, s.w, s.bits, s.n = pos, w, bits&(1<<(n&63)-1), n
	if bad {
		s.corrupt()
	}
}

// near repeats the first bytes of p, so many as distance says, until p is full.
func near(p []byte, distance int) {
	for n := distance; n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
}

// slow unpacks one symbol, which may be the last for which there are bits.
func (s *stream) slow() {
	s.need(48) // at the end there may be fewer
	e := s.codes.bytes[s.bits&(1<<byteBits-1)]
	if e&entryPointer != 0 && e&entryByte == 0 {
		e = s.codes.bytes[e>>16+uint32(s.bits>>byteBits)&(1<<(e>>8&15)-1)]
	}
	size := uint(e & 63)
	if size > s.n {
		s.short()
		return
	}
	switch {
	case e&entryByte != 0:
		s.drop(size)
		s.out[s.w] = byte(e >> 16)
		s.w++
		return
	case e&entryEnd != 0:
		s.drop(size)
		s.ended()
		return
	case e&entryRare != 0:
		s.corrupt()
		return
	}
	rest := s.bits >> size
	length := int(e>>16) + int(s.bits&(1<<size-1)>>(e>>8&15))
	d := s.codes.distances[rest&(1<<distanceBits-1)]
	if d&entryPointer != 0 {
		d = s.codes.distances[d>>16+uint32(rest>>distanceBits)&(1<<(d>>8&15)-1)]
	}
	if d&entryRare != 0 {
		s.corrupt()
		return
	}
	if size+uint(d&63) > s.n {
		s.short()
		return
	}
	distance := int(d>>16) + int(rest&(1<<(d&63)-1)>>(d>>8&15))
	s.drop(size + uint(d&63))
	if s.w-distance < s.low {
		s.corrupt()
		return
	}
	for range length {
		s.out[s.w] = s.out[s.w-distance]
		s.w++
	}
}
