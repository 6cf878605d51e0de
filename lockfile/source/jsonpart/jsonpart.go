// Package jsonpart reads JSON of which little is wanted.
//
// What a registry or an index says of one package can have tens of MB, and as much
// as it likes if it lies. Decoded whole, 128 MiB take gigabytes, for each of eight
// packages that are asked for at once. A [Reader] is encoding/json's, token by
// token: it passes over what nobody asked for, and decodes only the values that are
// wanted, each up to a limit:
//
//	r := jsonpart.New(body, 1<<20)
//	err := r.Object(func(name string) error {
//		if name != "dist" {
//			return r.Skip()
//		}
//		return r.Decode(&dist)
//	})
//
// What comes after the value that is read is nobody's matter.
package jsonpart

import (
	"encoding/json"
	"fmt"
	"io"
)

// maxDepth is how deep a value that is passed over may be: as deep as encoding/json goes.
const maxDepth = 10_000

// Reader reads one value. Its methods read what comes next; errors are those of
// the underlying reader, of encoding/json, io.ErrUnexpectedEOF when it ends too
// early, and what visit returned.
type Reader struct {
	dec *json.Decoder
	in  *bounded
}

// New returns a reader; no single text, number or value that is decoded may have
// more than about so many bytes.
func New(r io.Reader, most int) *Reader {
	in := &bounded{r: r, most: most}
	dec := json.NewDecoder(in)
	dec.UseNumber() // any number is one, also those that are too large for a float64
	return &Reader{dec, in}
}

// bounded reads on as long as no single value is too long.
type bounded struct {
	r          io.Reader
	most, left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("one value in it has more than %d bytes", b.most)
	}
	n, err := b.r.Read(p)
	b.left -= n
	return n, err
}

// Object calls visit, which has to read the value, for each name in an object;
// null is one without.
func (r *Reader) Object(visit func(name string) error) error {
	return r.list('{', "object", func() error {
		name, err := r.token()
		if err != nil {
			return err
		}
		return visit(name.(string)) // encoding/json has seen to it
	})
}

// Array calls visit, which has to read it, for each value of an array; null is one
// without.
func (r *Reader) Array(visit func() error) error { return r.list('[', "array", visit) }

func (r *Reader) list(first json.Delim, kind string, visit func() error) error {
	switch t, err := r.token(); {
	case err != nil || t == nil:
		return err
	case t != first:
		return fmt.Errorf("%.100q is where an %s should be", fmt.Sprint(t), kind)
	}
	for r.dec.More() {
		if err := visit(); err != nil {
			return err
		}
	}
	_, err := r.token()
	return err
}

// Skip passes over a value, whatever it is.
func (r *Reader) Skip() error {
	for depth := 0; ; {
		t, err := r.token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > maxDepth {
			return fmt.Errorf("it is nested deeper than %d", maxDepth)
		}
		if depth == 0 {
			return nil
		}
	}
}

// Decode decodes a value as encoding/json does.
func (r *Reader) Decode(v any) error {
	r.in.left = r.in.most
	return ended(r.dec.Decode(v))
}

func (r *Reader) token() (json.Token, error) {
	r.in.left = r.in.most
	t, err := r.dec.Token()
	return t, ended(err)
}

func ended(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
