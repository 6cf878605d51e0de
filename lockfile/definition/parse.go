package definition

import (
	"quorate.dev/lockfile/strictyaml"
)

// Errors is every mistake of a definition, in the file's order.
type Errors = strictyaml.Errors

// Error is one mistake at one place.
type Error = strictyaml.Error

// limits of a definition. The largest that we know of is 9 KiB, 300 nodes and
// six deep; these leave two orders of magnitude and keep a hostile file from
// costing more than a few milliseconds per mistake.
var limits = strictyaml.Limits{Bytes: 1 << 20, Depth: 50, Nodes: 10_000}

// Parse reads a whole quorate.yaml; file is its name for messages. The error
// is always an *Errors and the definition is then nil.
func Parse(file string, data []byte) (*Definition, error) {
	doc, err := strictyaml.Open(file, data, limits)
	if err != nil {
		return nil, err
	}
	d := strictyaml.Read(doc, root())
	c := checker{doc: doc, def: &d}
	c.check()
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return &d, nil
}

// ErrorAt makes an error of something that turned out to be wrong with a
// definition that was read before: at the value that path leads to (names of
// fields and indexes), or at the nearest thing above it that is there. The error
// is an *Errors.
func ErrorAt(file string, data []byte, message string, path ...any) error {
	doc, err := strictyaml.Open(file, data, limits)
	if err != nil {
		return err
	}
	doc.Errorf(doc.At(path...), "%s", message)
	return doc.Err()
}

// Nearest returns up to three of the candidates that a mistyped word was
// probably meant to be, best first.
func Nearest(word string, candidates []string) []string {
	return strictyaml.Nearest(word, candidates)
}
