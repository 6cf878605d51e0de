package diff

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
)

// hash128 tells contents apart within one process. Its seeds are drawn at random, so that
// no maker of files can collide on purpose; it costs a tenth of sha256.
type hash128 [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func sum128(p []byte) hash128 {
	return hash128{maphash.Bytes(seeds[0], p), maphash.Bytes(seeds[1], p)}
}

// blockSize is the bytes that contents are hashed and compared by: what a reading brings at once.
const blockSize = 64 << 10

var zeroBlock [blockSize]byte

// allZero costs a twentieth of hashing, and most bytes are told from zeros by the first of them.
func allZero(p []byte) bool {
	for len(p) > blockSize {
		if !bytes.Equal(p[:blockSize], zeroBlock[:]) {
			return false
		}
		p = p[blockSize:]
	}
	return bytes.Equal(p, zeroBlock[:len(p)])
}

// hasher128 hashes a stream by its blocks. Blocks of zeros are counted instead, so that it is the same
// whether a hole was read or skipped, and the image of a disk costs no more than what is on it.
type hasher128 struct {
	h     [2]maphash.Hash
	take  func(at int64, block []byte) // is given the blocks that are not zeros, when set
	block []byte                       // begun
	zeros uint64                       // blocks since the last that is none of zeros
	size  int64
}

func newHasher128() *hasher128 {
	h := &hasher128{}
	h.h[0].SetSeed(seeds[0])
	h.h[1].SetSeed(seeds[1])
	return h
}

func (h *hasher128) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(h.block) == 0 && len(p) >= blockSize {
			h.full(p[:blockSize])
			p = p[blockSize:]
			continue
		}
		k := min(len(p), blockSize-len(h.block))
		h.block = append(h.block, p[:k]...)
		p = p[k:]
		if len(h.block) == blockSize {
			h.flush()
		}
	}
	return n, nil
}

// skip is Write of n zeros.
func (h *hasher128) skip(n int64) {
	if k := int64(len(h.block)); k > 0 {
		fill := min(n, blockSize-k)
		h.Write(zeroBlock[:fill])
		n -= fill
	}
	h.zeros += uint64(n / blockSize)
	h.size += n / blockSize * blockSize
	h.Write(zeroBlock[:n%blockSize])
}

func (h *hasher128) flush() {
	h.full(h.block)
	h.block = h.block[:0]
}

func (h *hasher128) full(b []byte) {
	at := h.size
	h.size += int64(len(b))
	if allZero(b) {
		h.zeros++
		return
	}
	sum := sum128(b)
	h.numbers(h.zeros, sum[0], sum[1])
	h.zeros = 0
	if h.take != nil {
		h.take(at, b)
	}
}

// numbers hashes three numbers.
func (h *hasher128) numbers(x, y, z uint64) {
	var p [24]byte
	binary.LittleEndian.PutUint64(p[:], x)
	binary.LittleEndian.PutUint64(p[8:], y)
	binary.LittleEndian.PutUint64(p[16:], z)
	h.h[0].Write(p[:])
	h.h[1].Write(p[:])
}

// sums hashes two sums.
func (h *hasher128) sums(x, y hash128) {
	var p [32]byte
	for i, v := range []uint64{x[0], x[1], y[0], y[1]} {
		binary.LittleEndian.PutUint64(p[8*i:], v)
	}
	h.Write(p[:])
}

// sum ends the stream; reset begins another.
func (h *hasher128) sum() hash128 {
	if len(h.block) > 0 {
		h.flush()
	}
	h.numbers(h.zeros, uint64(h.size), 0)
	return hash128{h.h[0].Sum64(), h.h[1].Sum64()}
}

func (h *hasher128) reset() {
	h.h[0].Reset()
	h.h[1].Reset()
	h.block, h.zeros, h.size = h.block[:0], 0, 0
}
