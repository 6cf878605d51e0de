package tree

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"quorate.dev/lockfile/digest"
)

// header is the first line of a listing; the number changes with the format.
const header = "#quorate-tree 1"

// lineMax bounds one line of a listing. The longest that a tree of real files
// needs holds 64 KiB of attributes in hexadecimal and two escaped paths.
const lineMax = 1 << 20

// Format writes the tree's canonical listing: a header, then one line for each
// entry in order. After the path come the same keys in the same order, those
// that do not apply left out; bytes of names outside of "!" to "~", and
// backslashes, are written as three octal digits behind a backslash.
//
//	#quorate-tree 1
//	usr/bin/hello type=f mode=0755 uid=0 gid=0 time=1700000000 size=5 sha256=2cf24d…
//	usr/bin/hi type=h link=usr/bin/hello
//	usr/bin/ping type=f mode=0755 uid=0 gid=0 time=0 size=1 sha256=… xattr.security.capability=0100…
//	usr/lib type=d mode=0755 uid=0 gid=0 time=0
//	usr/share/a\040b type=l mode=0777 uid=0 gid=0 time=0 link=../c
//
// There is one listing for a tree and one tree for a listing, up to how
// contents are opened.
func (t *Tree) Format(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	b.WriteString(header + "\n")
	var line []byte
	for i := range t.entries {
		line = t.entries[i].appendLine(line[:0])
		b.Write(append(line, '\n'))
	}
	return b.Flush()
}

// Digest returns the sha256 of the canonical listing. Times count as they are:
// ask for t.At(epoch).Digest() to compare what layers will hold.
func (t *Tree) Digest() digest.Digest {
	h := digest.NewHash()
	if err := t.Format(h); err != nil {
		panic(err) // a hash never fails
	}
	return digest.Sum(h)
}

func (e *Entry) appendLine(b []byte) []byte {
	b = appendEscaped(b, e.Path)
	b = append(b, " type="...)
	b = append(b, byte(e.Kind))
	if e.Kind != Hardlink {
		b = append(b, " mode="...)
		b = append(b, '0'+byte(e.Mode>>9), '0'+byte(e.Mode>>6&7), '0'+byte(e.Mode>>3&7), '0'+byte(e.Mode&7))
		b = strconv.AppendInt(append(b, " uid="...), int64(e.UID), 10)
		b = strconv.AppendInt(append(b, " gid="...), int64(e.GID), 10)
		b = strconv.AppendInt(append(b, " time="...), e.ModTime, 10)
	}
	if e.Kind == File {
		b = strconv.AppendInt(append(b, " size="...), e.Size, 10)
		b = hex.AppendEncode(append(b, " sha256="...), e.Digest[:])
	}
	if e.Link != "" {
		b = appendEscaped(append(b, " link="...), e.Link)
	}
	if e.Kind == Hardlink {
		return b // its attributes are those of its file
	}
	for _, name := range sortedNames(e.Xattrs) {
		b = appendEscaped(append(b, " xattr."...), name)
		b = hex.AppendEncode(append(b, '='), []byte(e.Xattrs[name]))
	}
	return b
}

func sortedNames(m map[string]string) []string {
	if len(m) == 0 {
		return nil
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c > ' ' && c < 0x7f && c != '\\' {
			b = append(b, c)
		} else {
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		}
	}
	return b
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if len(s) < i+4 {
			return "", errors.New("unfinished escape")
		}
		n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return "", fmt.Errorf("invalid escape %q", s[i:i+4])
		}
		b.WriteByte(byte(n))
		i += 3
	}
	return b.String(), nil
}

// Parse reads what Format wrote and nothing else: a listing that would be
// written otherwise is refused, with the line's number. Contents stay closed.
func Parse(r io.Reader) (*Tree, error) {
	var entries []Entry
	for e, err := range Scan(r) {
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	t, err := New(entries)
	if err != nil {
		return nil, fmt.Errorf("cannot parse listing: %w", err)
	}
	return t, nil
}

// Scan reads a listing entry by entry, for lists of which nobody knows how long they are.
// It refuses what Parse refuses, but for what needs the entries before: a path below
// something other than a directory, and a hard link to what is no file before it, whose mode,
// owner, time and attributes stay zero. An error comes last, with a zero Entry.
func Scan(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		line := 1
		fail := func(err error) { yield(Entry{}, fmt.Errorf("cannot parse listing: line %d: %w", line, err)) }
		s := bufio.NewScanner(r)
		s.Buffer(make([]byte, 0, 64<<10), lineMax)
		s.Split(scanEnded)
		if !s.Scan() || s.Text() != header {
			err := s.Err()
			if err == nil {
				err = fmt.Errorf("%.40q found, expected %q", s.Text(), header)
			}
			fail(err)
			return
		}
		before := ""
		var again []byte
		for s.Scan() {
			line++
			e, err := parseLine(s.Text())
			if err == nil {
				if again = e.appendLine(again[:0]); string(again) != s.Text() {
					err = fmt.Errorf("not in canonical form, expected %.200q", again)
				}
			}
			if err == nil && e.Kind == Whiteout {
				err = &EntryError{e.Path, "is a whiteout, which only differences between trees hold"}
			}
			if err == nil && before >= e.Path {
				err = fmt.Errorf("%q does not sort after %q", e.Path, before)
			}
			if err != nil {
				fail(err)
				return
			}
			if before = e.Path; !yield(e, nil) {
				return
			}
		}
		if line++; s.Err() != nil {
			fail(s.Err())
		}
	}
}

// scanEnded splits into lines and refuses a last one that is not ended.
func scanEnded(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, errors.New("the last line is not ended: truncated")
	}
	return 0, nil, nil
}

func parseLine(line string) (Entry, error) {
	name, rest, _ := strings.Cut(line, " ")
	p, err := unescape(name)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Path: p}
	for field := range strings.SplitSeq(rest, " ") {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return Entry{}, fmt.Errorf("%.40q is not of the form key=value", field)
		}
		if err := e.set(key, value); err != nil {
			return Entry{}, fmt.Errorf("key %.40q: %w", key, err)
		}
	}
	return e, e.normalize()
}

func (e *Entry) set(key, value string) (err error) {
	var n uint64
	switch key {
	case "type":
		if len(value) != 1 {
			return fmt.Errorf("%.40q is no kind", value)
		}
		e.Kind = Kind(value[0])
	case "mode":
		n, err = strconv.ParseUint(value, 8, 32)
		e.Mode = uint32(n)
	case "uid":
		e.UID, err = strconv.Atoi(value)
	case "gid":
		e.GID, err = strconv.Atoi(value)
	case "time":
		e.ModTime, err = strconv.ParseInt(value, 10, 64)
	case "size":
		e.Size, err = strconv.ParseInt(value, 10, 64)
	case "sha256":
		e.Digest, err = digest.ParseHex(value)
	case "link":
		e.Link, err = unescape(value)
	default:
		return e.setXattr(key, value)
	}
	return err
}

func (e *Entry) setXattr(key, value string) error {
	escaped, ok := strings.CutPrefix(key, "xattr.")
	if !ok {
		return errors.New("is not known")
	}
	name, err := unescape(escaped)
	if err != nil {
		return err
	}
	raw, err := hex.DecodeString(value)
	if err != nil {
		return err
	}
	if e.Xattrs == nil {
		e.Xattrs = map[string]string{}
	}
	e.Xattrs[name] = string(raw)
	return nil
}
