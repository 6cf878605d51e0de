package gomod

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"

	"quorate.dev/lockfile/source"
)

// sum is what go.sum says of one module version.
type sum struct {
	zip, mod string // "h1:…"; "" for none
	file     string // and line that say so: of the zip, if there is one
	line     int
}

// sums are the lines of all go.sum files of a project.
type sums map[module.Version]sum

func (s sums) sorted() []module.Version {
	list := slices.Collect(maps.Keys(s))
	module.Sort(list)
	return list
}

// readSums adds the lines of a file, which need not be there.
func (p *project) readSums(name string) error {
	text, err := p.tree.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.sums.parse(name, string(text))
}

// parse adds the lines of a go.sum: "MODULE VERSION[/go.mod] h1:HASH". Two files
// may say the same of a module, and not different things.
func (s sums) parse(name, text string) error {
	n := 0
	for line := range strings.Lines(text) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return &LineError{name, n, fmt.Sprintf("has %d words; expected a module, a version and a hash", len(f))}
		}
		version, isMod := strings.CutSuffix(f[1], "/go.mod")
		v := module.Version{Path: f[0], Version: version}
		if err := module.Check(v.Path, v.Version); err != nil {
			return &LineError{name, n, err.Error()}
		}
		if !strings.HasPrefix(f[2], "h1:") {
			continue // of algorithms that the go command does not know either
		}
		if err := s.add(v, isMod, f[2], name, n); err != nil {
			return err
		}
	}
	return nil
}

func (s sums) add(v module.Version, isMod bool, hash, file string, line int) error {
	one := s[v]
	have := &one.zip
	if isMod {
		have = &one.mod
	}
	if *have != "" && *have != hash {
		return &LineError{file, line, fmt.Sprintf("%s %s is %s here, and %s in %s:%d", v.Path, v.Version, hash, *have, one.file, one.line)}
	}
	*have = hash
	if !isMod || one.file == "" {
		one.file, one.line = file, line
	}
	s[v] = one
	return nil
}

// verify returns what holds bytes against go.sum. apart is set when the zip's
// own go.mod is not the one that go.sum means.
func (w wish) verify(apart *bool) func(r io.ReaderAt, size int64) error {
	if w.suffix == ".mod" {
		return func(r io.ReaderAt, size int64) error {
			text, err := io.ReadAll(io.NewSectionReader(r, 0, size))
			if err != nil {
				return err
			}
			return w.compare(hashMod(text))
		}
	}
	return func(r io.ReaderAt, size int64) error {
		*apart = false
		have, mod, err := hashZip(r, size, w.v)
		if err != nil {
			return err
		}
		if err := w.compare(have); err != nil {
			return err
		}
		// go mod tidy leaves the line for a go.mod out where only packages of the module were looked at.
		*apart = w.sum.mod != "" && hashMod(mod) != w.sum.mod
		return checkZip(r, w.v)
	}
}

func (w wish) compare(have string) error {
	if have == w.hash {
		return nil
	}
	return &source.IntegrityError{Name: w.v.Path + " " + w.v.Version, Want: w.hash, Have: have, File: w.sum.file, Line: w.sum.line}
}

// toolchainVerify is verify for what the database vouches for, or nobody.
func (w wish) toolchainVerify(have *string) func(r io.ReaderAt, size int64) error {
	return func(r io.ReaderAt, size int64) error {
		var err error
		if *have, _, err = hashZip(r, size, w.v); err != nil {
			return err
		}
		if w.hash != "" && *have != w.hash {
			return &source.IntegrityError{Name: w.v.Path + " " + w.v.Version, Want: w.hash, Have: *have}
		}
		return checkZip(r, w.v)
	}
}

// hashMod is the h1 hash of a go.mod file.
func hashMod(text []byte) string {
	h, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil })
	if err != nil {
		return "" // only reading could fail
	}
	return h
}

// maxListing bounds what is read to list a module's zip: eight times that of Go's
// own toolchain (15,000 files, 2 MB). The format has no bound but the size of the zip, and
// every member takes memory.
const maxListing = 16 << 20

// list reads a zip's directory.
func list(r io.ReaderAt, size int64) (*zip.Reader, error) {
	listing := &listing{ReaderAt: r, left: maxListing}
	z, err := zip.NewReader(listing, size)
	switch {
	case listing.left <= 0:
		return nil, fmt.Errorf("its zip needs more than %d bytes to list its files", maxListing)
	case err != nil && !errors.Is(err, zip.ErrInsecurePath): // checkZip judges names
		return nil, fmt.Errorf("it is no zip: %w", err)
	}
	listing.open = true
	return z, nil
}

// listing reads so many bytes, and any number once it is open.
type listing struct {
	io.ReaderAt
	left int64
	open bool
}

func (l *listing) ReadAt(b []byte, at int64) (int, error) {
	if l.open {
		return l.ReaderAt.ReadAt(b, at)
	}
	if l.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	l.left -= int64(len(b))
	return l.ReaderAt.ReadAt(b, at)
}

// hashZip is the h1 hash of a module zip, and the text of its go.mod: its own,
// or the one that proxies make up for modules without.
func hashZip(r io.ReaderAt, size int64, v module.Version) (hash string, mod []byte, err error) {
	z, err := list(r, size)
	if err != nil {
		return "", nil, err
	}
	files := make(map[string]*zip.File, len(z.File))
	var names []string
	var total uint64
	for _, f := range z.File {
		if files[f.Name] != nil {
			return "", nil, fmt.Errorf("its zip has %q twice", f.Name)
		}
		if total += f.UncompressedSize64; total > modzip.MaxZipFile {
			return "", nil, fmt.Errorf("it unpacks to more than %d bytes", modzip.MaxZipFile)
		}
		files[f.Name] = f
		names = append(names, f.Name)
	}
	hash, err = dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return files[name].Open() })
	if err != nil {
		return "", nil, fmt.Errorf("it cannot be unpacked: %w", err)
	}
	f := files[v.String()+"/go.mod"]
	if f == nil {
		return hash, []byte("module " + modfile.AutoQuote(v.Path) + "\n"), nil
	}
	if f.UncompressedSize64 > modzip.MaxGoMod {
		return "", nil, fmt.Errorf("its go.mod has more than %d bytes", modzip.MaxGoMod)
	}
	open, err := f.Open()
	if err != nil {
		return "", nil, err
	}
	defer open.Close()
	mod, err = io.ReadAll(open)
	return hash, mod, err
}

// checkZip applies the rules for module zips: names, collisions of case, sizes.
func checkZip(r io.ReaderAt, v module.Version) error {
	f, ok := r.(interface{ Name() string })
	if !ok {
		return errors.New("a zip can only be checked in a file")
	}
	checked, err := modzip.CheckZip(v, f.Name())
	if err != nil {
		return err
	}
	if err := checked.Err(); err != nil {
		return fmt.Errorf("its zip is not one of a module: %w", err)
	}
	return nil
}
