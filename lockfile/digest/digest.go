// Package digest holds the one kind of digest that Quorate speaks of, sha256,
// as a checked type, and readers that refuse bytes of another digest.
//
// A [Digest] is an array, so it compares with == and works as a map key; its
// zero value means "none" and never equals the digest of any bytes that occur
// in practice. In text it is always written as OCI writes it,
// "sha256:" and 64 lower-case hexadecimal digits (image-spec, descriptor.md).
//
//	want, err := digest.Parse("sha256:9f86d0…")
//	r := digest.NewReader(body, want, size) // fails at the end unless the bytes are those
package digest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"
)

const prefix = "sha256:"

// Digest is the sha256 of some bytes. The zero value means "no digest".
type Digest [sha256.Size]byte

// Parse reads "sha256:" followed by 64 lower-case hexadecimal digits.
func Parse(s string) (Digest, error) {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return Digest{}, fmt.Errorf("digest %q does not begin with %q", s, prefix)
	}
	return ParseHex(rest)
}

// ParseHex reads 64 lower-case hexadecimal digits, as Debian's indexes and sha256sum(1) write them.
func ParseHex(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*len(d) || strings.ToLower(s) != s {
		return Digest{}, fmt.Errorf("digest %q is not %d lower-case hexadecimal digits", s, 2*len(d))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest %q is not hexadecimal", s)
	}
	if d.IsZero() {
		return Digest{}, fmt.Errorf("digest %q is all zeros, which stands for none", s)
	}
	return d, nil
}

// MustParse is Parse for constants in tests and tables; it panics on a bad digest.
func MustParse(s string) Digest {
	d, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return d
}

// Of returns the digest of b.
func Of(b []byte) Digest { return sha256.Sum256(b) }

// Sum returns the digest of what was written to h, which NewHash made.
func Sum(h hash.Hash) Digest {
	var d Digest
	h.Sum(d[:0])
	return d
}

// NewHash returns a running sha256 for Sum.
func NewHash() hash.Hash { return sha256.New() }

// String returns the digest as OCI writes it, or "" for the zero value.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return prefix + d.Hex()
}

// Hex returns the 64 hexadecimal digits alone.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// Short returns the first twelve digits, for people.
func (d Digest) Short() string { return d.Hex()[:12] }

// IsZero reports whether d names no bytes.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText writes the OCI form; the zero value becomes empty text.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the OCI form; empty text becomes the zero value.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	v, err := Parse(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// MismatchError says that bytes were read whole and are not the ones asked for.
type MismatchError struct {
	Want, Got Digest
}

func (e *MismatchError) Error() string {
	if e.Want.IsZero() {
		return fmt.Sprintf("bytes have digest %s, and none was given to hold them against", e.Got)
	}
	return fmt.Sprintf("bytes have digest %s, expected %s", e.Got, e.Want)
}

// SizeError says that there were more or fewer bytes than promised. Got is
// Want+1 when reading stopped at the first byte too many.
type SizeError struct {
	Want, Got int64
}

func (e *SizeError) Error() string {
	if e.Got > e.Want {
		return fmt.Sprintf("more than the expected %d bytes", e.Want)
	}
	return fmt.Sprintf("ended after %d bytes, expected %d", e.Got, e.Want)
}

// Reader passes bytes through and replaces io.EOF by a *SizeError or a
// *MismatchError unless exactly the promised bytes went by. Never use what was
// read before io.EOF arrived for anything that cannot be thrown away.
type Reader struct {
	r    io.Reader
	h    hash.Hash
	want Digest
	size int64
	n    int64
	err  error
}

// NewReader returns a Reader over r that ends well only after exactly size
// bytes with digest want. A negative size accepts any length.
func NewReader(r io.Reader, want Digest, size int64) *Reader {
	return &Reader{r: r, h: sha256.New(), want: want, size: size}
}

func (v *Reader) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	// One byte more than promised is asked for, to see that there is none; it
	// is never passed on, so a caller's buffer or file cannot outgrow the promise.
	if rest := v.size - v.n; v.size >= 0 && int64(len(p)) > rest+1 {
		p = p[:rest+1]
	}
	n, err := v.r.Read(p)
	v.n += int64(n)
	v.h.Write(p[:n])
	switch {
	case v.size >= 0 && v.n > v.size:
		n--
		err = &SizeError{Want: v.size, Got: v.n}
	case err == io.EOF && v.size >= 0 && v.n < v.size:
		err = &SizeError{Want: v.size, Got: v.n}
	case err == io.EOF:
		if got := Sum(v.h); got != v.want {
			err = &MismatchError{Want: v.want, Got: got}
		}
	}
	v.err = err
	return n, err
}
