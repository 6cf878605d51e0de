package npm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// A registry's answer about a package has all of its versions, for some tens of
// MB, of which one is wanted. Decoded whole, 128 MiB of versions that somebody made
// up take gigabytes, for each of eight packages at once. So an answer is read
// past, and only the version that was asked for is kept.

const (
	maxVersion = 4 << 20 // of one version; those that we know have some kB
	maxKeyName = 4 << 10 // of a name in it
	maxDepth   = 10_000  // as deep as encoding/json goes
)

// findRelease reads what a registry says of a package, and returns one version of it.
func findRelease(r io.Reader, name, version string) (*released, error) {
	s := &scanner{r: bufio.NewReaderSize(r, 64<<10)}
	var text, published []byte
	err := s.object(func(key string) error {
		switch key {
		case "versions":
			return s.find(version, &text)
		case "time":
			return s.find(version, &published)
		}
		return s.value()
	})
	if err != nil {
		return nil, fmt.Errorf("what the registry says of %s is no package metadata: %w", name, err)
	}
	var rel released
	if text == nil {
		return nil, &fs.PathError{Op: "find", Path: name + "@" + version, Err: fs.ErrNotExist}
	}
	if err := json.Unmarshal(text, &rel); err != nil {
		return nil, fmt.Errorf("what the registry says of %s %s is no package metadata: %w", name, version, err)
	}
	if rel.Name != name || rel.Version != version {
		return nil, &fs.PathError{Op: "find", Path: name + "@" + version, Err: fs.ErrNotExist}
	}
	var at time.Time
	if published != nil && json.Unmarshal(published, &at) == nil {
		rel.published = at
	}
	return &rel, nil
}

// scanner reads JSON without keeping it. It does not check all of the grammar in
// what it passes over: nobody looks at that.
type scanner struct {
	r    *bufio.Reader
	kept *bytes.Buffer // what is read goes there too; nil for nowhere
}

var errJSON = errors.New("it is not JSON")

func (s *scanner) byte() (byte, error) {
	c, err := s.r.ReadByte()
	if err == io.EOF {
		return 0, io.ErrUnexpectedEOF
	}
	if s.kept != nil {
		if s.kept.Len() >= maxVersion {
			return 0, fmt.Errorf("one version has more than %d bytes", maxVersion)
		}
		s.kept.WriteByte(c)
	}
	return c, err
}

// next returns the next byte that is no blank.
func (s *scanner) next() (byte, error) {
	for {
		c, err := s.byte()
		if err != nil || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c, err
		}
	}
}

// value reads a value, whatever it is.
func (s *scanner) value() error {
	for depth := 0; ; {
		c, err := s.next()
		if err != nil {
			return err
		}
		switch c {
		case '"':
			err = s.text(nil)
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',', ':':
			if depth == 0 {
				return errJSON
			}
		default:
			err = s.word(c)
		}
		switch {
		case err != nil:
			return err
		case depth < 0:
			return errJSON
		case depth > maxDepth:
			return fmt.Errorf("it is nested deeper than %d", maxDepth)
		case depth == 0:
			return nil
		}
	}
}

// text reads a text up to its end, the quote before it having been read, and
// gives it to key, which may be nil.
func (s *scanner) text(key *[]byte) error {
	for escaped := false; ; {
		c, err := s.byte()
		if err != nil {
			return err
		}
		if c == '"' && !escaped {
			return nil
		}
		escaped = c == '\\' && !escaped
		if key != nil {
			if len(*key) >= maxKeyName {
				return fmt.Errorf("a name in it has more than %d bytes", maxKeyName)
			}
			*key = append(*key, c)
		}
	}
}

// word reads the rest of a number, true, false or null.
func (s *scanner) word(c byte) error {
	for {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == 'E' || c == '+' || c == '-' || c == '.') {
			return errJSON
		}
		b, err := s.r.Peek(1)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch b[0] {
		case ' ', '\n', '\t', '\r', ',', ':', '}', ']':
			return nil
		}
		if c, err = s.byte(); err != nil {
			return err
		}
	}
}

// object calls visit, which has to read the value, for each key of an object.
func (s *scanner) object(visit func(key string) error) error {
	c, err := s.next()
	if err != nil {
		return err
	}
	if c != '{' {
		return errJSON
	}
	var raw []byte
	for c, err = s.next(); err == nil && c != '}'; {
		if c != '"' {
			return errJSON
		}
		raw = raw[:0]
		if err := s.text(&raw); err != nil {
			return err
		}
		key := string(raw)
		if bytes.IndexByte(raw, '\\') >= 0 && json.Unmarshal(append(append([]byte{'"'}, raw...), '"'), &key) != nil {
			return errJSON
		}
		if c, err = s.next(); err != nil || c != ':' {
			return errors.Join(err, errJSON)
		}
		if err := visit(key); err != nil {
			return err
		}
		if c, err = s.next(); err != nil || c == '}' {
			break
		}
		if c != ',' {
			return errJSON
		}
		c, err = s.next()
	}
	return err
}

// find reads an object, or passes over another value, and keeps the value of one key.
func (s *scanner) find(name string, value *[]byte) error {
	c, err := s.next()
	if err != nil {
		return err
	}
	if err := s.r.UnreadByte(); err != nil {
		return err
	}
	if c != '{' {
		return s.value()
	}
	return s.object(func(key string) error {
		if key != name {
			return s.value()
		}
		if *value != nil {
			return fmt.Errorf("%q stands twice", name)
		}
		s.kept = &bytes.Buffer{}
		defer func() { s.kept = nil }()
		err := s.value()
		*value = s.kept.Bytes()
		return err
	})
}
