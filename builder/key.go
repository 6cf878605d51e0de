package builder

import (
	"encoding/binary"
	"hash"

	"quorate.dev/lockfile/digest"
)

// keyHash names a derived thing by everything that it was made from. Parts are
// written with their lengths, so that no two lists of parts read alike.
type keyHash struct{ h hash.Hash }

func newKey(kind string) keyHash {
	k := keyHash{digest.NewHash()}
	return k.str(kind).num(AssemblerVersion).num(keptVersion)
}

// keptVersion is raised when what an earlier quorate kept in a store may be
// wrong, so that it is made anew. 2: inputs were shown as kept for others of
// another name, and base images not held against their diff ids.
const keptVersion = 2

func (k keyHash) str(s string) keyHash {
	k.num(int64(len(s)))
	k.h.Write([]byte(s))
	return k
}

func (k keyHash) strs(list []string) keyHash {
	k.num(int64(len(list)))
	for _, s := range list {
		k.str(s)
	}
	return k
}

func (k keyHash) num(n int64) keyHash {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	k.h.Write(b[:])
	return k
}

func (k keyHash) bool(v bool) keyHash {
	if v {
		return k.num(1)
	}
	return k.num(0)
}

func (k keyHash) digest(d digest.Digest) keyHash {
	k.h.Write(d[:])
	return k
}

// done returns the key: 64 hexadecimal digits.
func (k keyHash) done() string { return digest.Sum(k.h).Hex() }
