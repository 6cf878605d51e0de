package builder

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the format's own checksum, no protection
	"encoding/binary"
	"unicode/utf16"

	"quorate.dev/builder/tree"
)

// Java's key stores record when each certificate was added, which for the
// system's trust store is when its package's trigger happened to run. Times by
// rule are the epoch in every file of an image, in here too.

// javaTrust is the store that package ca-certificates-java makes, with its published password.
const (
	javaTrust         = "etc/ssl/certs/java/cacerts"
	javaTrustPassword = "changeit"
)

// The JKS format as written by sun.security.provider.JavaKeyStore (OpenJDK),
// big-endian: magic, version, count; entries of tag, alias, milliseconds and, for
// a trusted certificate, its type and DER bytes; then
// SHA-1(password in UTF-16, "Mighty Aphrodite", all of the above).
const (
	jksMagic   = 0xfeedfeed
	jksVersion = 2
	jksTrusted = 2 // the tag of an entry that is a certificate alone
	jksSalt    = "Mighty Aphrodite"
)

// stampKeystore gives the certificates in Java's trust store the epoch as their
// date. A store of another form, or with another password, is left as it is.
func stampKeystore(entries []tree.Entry, epoch int64) error {
	for i, e := range entries {
		if e.Path != javaTrust || e.Kind != tree.File || e.Size > maxInline {
			continue
		}
		text, err := readAll(e)
		if err != nil {
			return err
		}
		if stampJKS(text, epoch*1000) {
			entries[i] = inline(e, text)
		}
	}
	return nil
}

// stampJKS sets every date in a JKS store to ms and renews its checksum; false
// says that text is no such store and was not touched.
func stampJKS(text []byte, ms int64) bool {
	body := len(text) - sha1.Size
	if body < 12 || !bytes.Equal(jksSum(text[:body]), text[body:]) {
		return false
	}
	dates, ok := jksDates(text[:body])
	if !ok {
		return false
	}
	for _, at := range dates {
		binary.BigEndian.PutUint64(text[at:], uint64(ms))
	}
	copy(text[body:], jksSum(text[:body]))
	return true
}

func jksSum(body []byte) []byte {
	h := sha1.New() //nolint:gosec // see the import
	for _, c := range utf16.Encode([]rune(javaTrustPassword)) {
		h.Write([]byte{byte(c >> 8), byte(c)})
	}
	h.Write([]byte(jksSalt))
	h.Write(body)
	return h.Sum(nil)
}

// jksDates finds where the dates are; ok is false when body is not exactly a
// store of trusted certificates.
func jksDates(body []byte) (dates []int, ok bool) {
	at := 0
	number := func(size int) (n uint64) {
		if at < 0 || len(body)-at < size {
			at = -1
			return 0
		}
		for _, b := range body[at : at+size] {
			n = n<<8 | uint64(b)
		}
		at += size
		return n
	}
	skip := func(n uint64) {
		if at < 0 || n > uint64(len(body)-at) {
			at = -1
			return
		}
		at += int(n)
	}
	if number(4) != jksMagic || number(4) != jksVersion {
		return nil, false
	}
	for range number(4) {
		if number(4) != jksTrusted {
			return nil, false
		}
		skip(number(2)) // alias
		dates = append(dates, at)
		number(8)
		skip(number(2)) // type
		skip(number(4)) // certificate
		if at < 0 {
			return nil, false
		}
	}
	return dates, at == len(body)
}
