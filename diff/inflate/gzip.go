// Package inflate unpacks gzip streams (RFC 1952, with deflate of RFC 1951) that can be entered
// again in their middle.
//
//	r, err := inflate.NewReader(packed)
//	r.Marks(1<<20, func(p inflate.Point, window []byte) error { … })  // about once for each MiB
//	io.Copy(w, r)
//	again := inflate.Resume(packed from byte p.In/8 on, p, window)    // goes on at byte p.Out
//
// A comparison of two layers reads the most of them once, and of the few files that differ
// a second time; of two packed streams that begin alike it unpacks the beginning once. Both need
// the places where deflate's blocks begin, which compress/flate and its kin do not tell; that is why this
// package exists. It is also twice as fast as they are, for it reads eight bytes at a time
// and hands out what it unpacked without a copy.
//
// What is taken and what is refused is the same as with compress/gzip, with the same errors; a fuzz test holds
// them against each other. Memory is some 350 kB for a Reader, whatever the stream says.
package inflate

import (
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Reader unpacks a gzip stream of one or more members. It reads ahead of what it needs.
type Reader struct {
	stream
	given  int    // out[:given] was handed out
	summed int    // out[:summed] is in sum
	sum    uint32 // of the member
	member int64  // offset of the member in the unpacked stream
	every  int64
	next   int64 // the offset from where on the next point is wanted
	mark   func(Point, []byte) error
}

// Point is a place where a stream can be entered: the beginning of a block.
type Point struct {
	In     int64 // offset in the packed stream, in bits
	Out    int64 // offset in the unpacked stream
	member int64
	sum    uint32
}

// NewReader reads the header of a stream. Errors: io.EOF, io.ErrUnexpectedEOF, gzip.ErrHeader, those of r.
func NewReader(r io.Reader) (*Reader, error) {
	z := &Reader{stream: stream{src: r}}
	if z.header(); z.err != nil {
		return nil, z.err
	}
	return z, nil
}

// Resume goes on at a point: r reads the packed stream from byte p.In/8 on, and window is what was
// told with the point.
func Resume(r io.Reader, p Point, window []byte) *Reader {
	z := &Reader{stream: stream{src: r, base: p.In / 8, step: atBlock}, member: p.member, sum: p.sum}
	z.w = copy(z.out[:], window)
	z.given, z.summed = z.w, z.w
	z.start = p.Out - int64(z.w)
	if skip := uint(p.In % 8); !z.need(skip) {
		z.short()
	} else {
		z.drop(skip)
	}
	return z
}

// Marks has mark told of points, at least every bytes of the unpacked stream from each other; streams of
// long blocks have fewer. The window is good until mark returns.
func (z *Reader) Marks(every int64, mark func(p Point, window []byte) error) {
	z.every, z.mark = every, mark
	z.next = z.start + int64(z.given) + every
}

// Next returns the next bytes, at most n of them and at least one, which are good until the next call. Errors: io.EOF
// behind the last member; io.ErrUnexpectedEOF, gzip.ErrHeader, gzip.ErrChecksum,
// flate.CorruptInputError, those of the stream below and of mark.
func (z *Reader) Next(n int) ([]byte, error) {
	for z.given == z.w {
		if z.err != nil {
			return nil, z.err
		}
		z.more()
	}
	p := z.out[z.given:min(z.w, z.given+n)]
	z.given += len(p)
	return p, nil
}

// Read implements io.Reader.
func (z *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	q, err := z.Next(len(p))
	return copy(p, q), err
}

// Close implements io.Closer; it has nothing to do.
func (z *Reader) Close() error { return nil }

// more unpacks until out is full or the stream ends. All that was there before has been handed out.
func (z *Reader) more() {
	z.slide()
	for z.err == nil && z.w < outSize {
		switch z.step {
		case atHeader:
			z.header()
		case atBlock:
			if z.point(); z.err == nil {
				z.block()
			}
		case atSymbols:
			z.symbols()
		case atStored:
			z.copyStored()
		case atTrailer:
			z.trailer()
		}
	}
	z.check()
}

// slide keeps no more than the window of what was handed out.
func (z *Reader) slide() {
	if over := z.w - windowSize; over > 0 {
		copy(z.out[:], z.out[over:z.w])
		z.start += int64(over)
		z.w, z.given, z.summed, z.low = windowSize, windowSize, windowSize, max(0, z.low-over)
	}
}

// check brings the sum up to what was unpacked.
func (z *Reader) check() {
	z.sum = crc32.Update(z.sum, crc32.IEEETable, z.out[z.summed:z.w])
	z.summed = z.w
}

// point tells of the block that begins here, when one is wanted.
func (z *Reader) point() {
	at := z.start + int64(z.w)
	if z.mark == nil || at < z.next {
		return
	}
	z.check()
	z.next = at + z.every
	p := Point{In: z.at(), Out: at, member: z.member, sum: z.sum}
	if err := z.mark(p, z.out[max(z.low, z.w-windowSize):z.w]); err != nil {
		z.err = err
	}
}

// trailer reads what stands behind a member (RFC 1952, section 2.3.1).
func (z *Reader) trailer() {
	z.check()
	z.drop(z.n & 7)
	var b [8]byte
	for i := range b {
		if !z.need(8) {
			z.short()
			return
		}
		b[i] = byte(z.take(8))
	}
	size := uint32(z.start + int64(z.w) - z.member)
	if binary.LittleEndian.Uint32(b[:]) != z.sum || binary.LittleEndian.Uint32(b[4:]) != size {
		z.err = gzip.ErrChecksum
		return
	}
	z.step = atHeader
}

// header reads the header of a member (RFC 1952, section 2.3).
func (z *Reader) header() {
	sum := uint32(0)
	read := func() byte {
		if z.err != nil || !z.need(8) {
			if z.err == nil {
				z.short()
			}
			return 0
		}
		b := byte(z.take(8))
		sum = crc32.Update(sum, crc32.IEEETable, []byte{b})
		return b
	}
	if !z.need(8) { // the end, between members
		if z.err = z.srcErr; z.err == nil {
			z.err = io.EOF
		}
		return
	}
	var b [10]byte
	for i := range b {
		b[i] = read()
	}
	if z.err != nil {
		return
	}
	if b[0] != 0x1f || b[1] != 0x8b || b[2] != 8 {
		z.err = gzip.ErrHeader
		return
	}
	if flags := b[3]; flags != 0 {
		const withSum, withExtra, withName, withComment = 2, 4, 8, 16
		if flags&withExtra != 0 {
			n := int(read()) | int(read())<<8
			for ; n > 0 && z.err == nil; n-- {
				read()
			}
		}
		for _, flag := range []byte{withName, withComment} {
			if flags&flag == 0 {
				continue
			}
			// As compress/gzip has it, they are text of Latin-1 and end within 512 bytes.
			for n := 1; z.err == nil && read() != 0; n++ {
				if n == 512 {
					z.err = gzip.ErrHeader
				}
			}
		}
		if want := uint16(sum); flags&withSum != 0 && z.err == nil {
			if got := uint16(read()) | uint16(read())<<8; z.err == nil && got != want {
				z.err = gzip.ErrHeader
			}
		}
		if z.err != nil {
			return
		}
	}
	z.member, z.low, z.sum, z.summed = z.start+int64(z.w), z.w, 0, z.w
	z.step = atBlock
}
