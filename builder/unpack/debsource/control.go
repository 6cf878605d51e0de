package debsource

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/deb"
	"quorate.dev/lockfile/digest"
)

// maxControl bounds a .dsc; Debian's largest in bookworm has 210 kB.
const maxControl = 4 << 20

// Control is what a .dsc says: which files make a source package.
type Control struct {
	Source  string
	Version string
	Files   []File
}

// File is one file of a source package.
type File struct {
	Name   string
	Size   int64
	SHA256 digest.Digest
}

// ParseControl reads a .dsc, clear-signed or not. A signature is not checked:
// it is one of a person whose key nobody here knows, and the archive's own
// signature, which was, covers the .dsc.
func ParseControl(text []byte) (*Control, error) {
	text, err := signedText(text)
	if err != nil {
		return nil, err
	}
	p, err := deb.ParseParagraph(bytes.TrimRight(text, " \t\r\n"), 1)
	if err != nil {
		return nil, err
	}
	c := &Control{Source: p.Get("Source"), Version: p.Get("Version")}
	seen := map[string]bool{}
	for line := range strings.Lines(p.Get("Checksums-Sha256")) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue // of the field's own line
		}
		f, err := parseFile(words)
		if err != nil {
			return nil, fmt.Errorf("field Checksums-Sha256: %w", err)
		}
		if seen[f.Name] {
			return nil, fmt.Errorf("field Checksums-Sha256: file %.60q stands twice", f.Name)
		}
		seen[f.Name] = true
		c.Files = append(c.Files, f)
	}
	if c.Source == "" || c.Version == "" || len(c.Files) == 0 {
		return nil, errors.New("it lacks a field: Source, Version or Checksums-Sha256")
	}
	return c, nil
}

func parseFile(words []string) (File, error) {
	if len(words) != 3 {
		return File{}, fmt.Errorf("a line has %d words, expected digest, size and name", len(words))
	}
	d, err := digest.ParseHex(words[0])
	if err != nil {
		return File{}, err
	}
	size, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil || size < 0 {
		return File{}, fmt.Errorf("size %.60q is not one", words[1])
	}
	return File{words[2], size, d}, nil
}

// signedText returns the text of a clear-signed message (RFC 9580, section 7),
// and of anything else all of it.
func signedText(text []byte) ([]byte, error) {
	const begin, signature = "-----BEGIN PGP SIGNED MESSAGE-----", "-----BEGIN PGP SIGNATURE-----"
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	rest, ok := bytes.CutPrefix(text, []byte(begin+"\n"))
	if !ok {
		return text, nil
	}
	// Names of digests come first, up to an empty line.
	_, rest, ok = bytes.Cut(append([]byte("\n"), rest...), []byte("\n\n"))
	if ok {
		rest, _, ok = bytes.Cut(rest, []byte("\n"+signature+"\n"))
	}
	if !ok {
		return nil, errors.New("it begins like a signed message and does not end like one")
	}
	rest, _ = bytes.CutPrefix(rest, []byte("- ")) // dash-escaped
	return bytes.ReplaceAll(rest, []byte("\n- "), []byte("\n")), nil
}

// checkControl holds a .dsc against the files beside it.
func checkControl(control unpack.Blob, all []unpack.Blob) error {
	text, err := control.Bytes(maxControl)
	if err != nil {
		return err
	}
	c, err := ParseControl(text)
	if err != nil {
		return err
	}
	if c.Source != control.Pin.Name || c.Version != control.Pin.Version {
		return fmt.Errorf("it is of %s %s, the archive's index says %s %s", c.Source, c.Version, control.Pin.Name, control.Pin.Version)
	}
	listed := map[string]File{}
	for _, f := range c.Files {
		listed[f.Name] = f
	}
	for _, b := range all {
		if b.Pin.Path == control.Pin.Path {
			continue
		}
		name := path.Base(b.Pin.Path)
		f, ok := listed[name]
		switch {
		case !ok:
			return fmt.Errorf("it does not list %q, which the archive's index has", name)
		case f.SHA256 != b.Pin.SHA256 || f.Size != b.Pin.Size:
			return fmt.Errorf("it lists %q with %d bytes, %s; the archive's index has %d bytes, %s", name, f.Size, f.SHA256, b.Pin.Size, b.Pin.SHA256)
		}
		delete(listed, name)
	}
	for _, f := range c.Files {
		if _, left := listed[f.Name]; left {
			return fmt.Errorf("it lists %q, which the archive's index does not have", f.Name)
		}
	}
	return nil
}
