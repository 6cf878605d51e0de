package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"quorate.dev/lockfile/digest"
)

// A note's file is one line and then its bytes as they are:
//
//	quorate-note sha256:HEX
//
// where the digest is that of "KIND\x00KEY\x00" followed by the bytes, so that a
// note that was torn, altered or moved to another name reads as absent.
const noteMagic = "quorate-note "

// noteLimit bounds what a note may hold: the list of files of the largest
// Debian packages is under 8 MB; 64 MiB leaves room and still fits in memory.
const noteLimit = 64 << 20

// Note returns a small derived record. Whatever is wrong with it, it is absent.
func (s *Store) Note(kind, key string) ([]byte, bool) {
	kind, name, err := names(kind, key)
	if err != nil {
		return nil, false
	}
	path := s.path("notes", kind, name)
	file, err := readLimited(path, noteLimit+256)
	if err != nil {
		return nil, false
	}
	b, ok := parseNote(kind, key, file)
	if fi, err := os.Lstat(path); ok && err == nil && !s.o.ReadOnly {
		touch(path, fi)
	}
	return b, ok
}

// PutNote keeps a small record (at most 64 MiB) that can be made again,
// replacing the one of the same kind and key.
func (s *Store) PutNote(kind, key string, b []byte) error {
	kind, name, err := names(kind, key)
	if err == nil && len(b) > noteLimit {
		err = fmt.Errorf("it has %d bytes, more than the %d that a note may hold", len(b), noteLimit)
	}
	if err == nil && s.o.ReadOnly {
		err = ErrReadOnly
	}
	if err == nil {
		path := s.path("notes", kind, name)
		err = errors.Join(makeDir(filepath.Dir(path)), s.writeFile(path, formatNote(kind, key, b)))
	}
	if err != nil {
		return fmt.Errorf("cannot keep note %s %q: %w", kind, key, s.space(err, 0))
	}
	return nil
}

func noteDigest(kind, key string, b []byte) digest.Digest {
	h := digest.NewHash()
	h.Write([]byte(kind + "\x00" + key + "\x00"))
	h.Write(b)
	return digest.Sum(h)
}

func formatNote(kind, key string, b []byte) []byte {
	return append([]byte(noteMagic+noteDigest(kind, key, b).String()+"\n"), b...)
}

func parseNote(kind, key string, file []byte) ([]byte, bool) {
	head, b, ok := bytes.Cut(file, []byte("\n"))
	if !ok {
		return nil, false
	}
	text, ok := bytes.CutPrefix(head, []byte(noteMagic))
	if !ok {
		return nil, false
	}
	want, err := digest.Parse(string(text))
	return b, err == nil && want == noteDigest(kind, key, b)
}
