package builder

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"quorate.dev/builder/store"
	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/deb"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// MissingError says that the store lacks locked bytes; whoever started the
// build fetches them first.
type MissingError struct {
	Name   string // "nginx 1.22.1-9 amd64"
	Digest digest.Digest
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s (%s) is not in the store", e.Name, e.Digest)
}

// decoded is a package whose files are ranges of an uncompressed data.tar on disk.
type decoded struct {
	*deb.Package
	pin  lockfile.Package
	data string // path of the uncompressed data.tar
}

// decodeIndex and decodeData are the two files of a decoded package.
const (
	decodeIndex = "index"
	decodeData  = "data.tar"
)

// decodeAll decodes every package once.
func (b *build) decodeAll(ctx context.Context, pins []lockfile.Package) ([]*decoded, error) {
	out := make([]*decoded, len(pins))
	err := b.decodeEach(ctx, pins, func(i int, d *decoded) error {
		out[i] = d
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// decodeEach decodes every package once, in parallel: packages are the natural
// unit, since xz decodes on one CPU only. Each goes to use with its place among
// pins, several at once and in any order.
func (b *build) decodeEach(ctx context.Context, pins []lockfile.Package, use func(i int, d *decoded) error) error {
	done := b.phase("decode", "", int64(len(pins)))
	var count atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range bySize(pins) {
		g.Go(func() error {
			d, err := b.decode(ctx, pins[i])
			b.event(Event{Phase: "decode", Current: count.Add(1), Total: int64(len(pins))})
			if err != nil {
				return err
			}
			return use(i, d)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	done()
	return nil
}

// bySize returns the indexes of pins, largest first, so that no CPU is left
// with the largest package at the end.
func bySize(pins []lockfile.Package) []int {
	order := make([]int, len(pins))
	for i := range order {
		order[i] = i
	}
	sortStable(order, func(a, b int) bool { return pins[a].Size > pins[b].Size })
	return order
}

func (b *build) decode(ctx context.Context, pin lockfile.Package) (*decoded, error) {
	key := newKey("deb").digest(pin.SHA256).done()
	var fresh *deb.Package
	dir, err := b.Store.Derived(ctx, "deb", key, func(dir string) (err error) {
		fresh, err = b.decodeInto(dir, pin)
		return err
	})
	if err != nil {
		return nil, err
	}
	d := &decoded{Package: fresh, pin: pin, data: filepath.Join(dir, decodeData)}
	if d.Package == nil {
		d.Package = new(deb.Package)
		index, err := os.ReadFile(filepath.Join(dir, decodeIndex))
		if err == nil {
			err = d.Package.UnmarshalBinary(index)
		}
		if err != nil {
			return nil, &DerivedError{File: filepath.Join(dir, decodeIndex), Err: err}
		}
	}
	return d, nil
}

func (b *build) decodeInto(dir string, pin lockfile.Package) (*deb.Package, error) {
	r, err := b.Store.Open(pin.SHA256)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Name: pinName(pin), Digest: pin.SHA256}
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := os.Create(filepath.Join(dir, decodeData))
	if err != nil {
		return nil, err
	}
	defer data.Close()
	// Decode reads to the end of r, so a damaged blob is noticed before anything of it is used.
	p, err := deb.Decode(bufio.NewReaderSize(r, copyBuffer), data, deb.Options{})
	if err != nil {
		return nil, fmt.Errorf("cannot unpack %s: %w", pinName(pin), damageOr(err, r))
	}
	if err := matchesPin(p, pin); err != nil {
		return nil, err
	}
	index, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(filepath.Join(dir, decodeIndex), index, 0o644)
}

// damageOr returns why a blob could not be read: that its bytes are not the
// promised ones, which only its end tells, or else what they said to the reader
// that gave up before.
func damageOr(err error, blob io.Reader) error {
	var damaged *store.DamagedError
	if _, end := io.Copy(io.Discard, blob); errors.As(end, &damaged) {
		return damaged
	}
	return err
}

// matchesPin refuses a package that says it is another one than the lock does.
func matchesPin(p *deb.Package, pin lockfile.Package) error {
	for _, f := range []struct{ field, want string }{
		{"Package", pin.Name}, {"Version", pin.Version}, {"Architecture", pin.Arch},
	} {
		if got := p.Control.Get(f.field); got != f.want {
			return fmt.Errorf("package %s says %s: %q, the lock has %q", pin.Path, f.field, got, f.want)
		}
	}
	return nil
}

func pinName(p lockfile.Package) string { return p.Name + " " + p.Version + " " + p.Arch }

// entries returns the package's files with contents that can be opened.
func (d *decoded) entries() []tree.Entry {
	out := make([]tree.Entry, len(d.Entries))
	for i, e := range d.Entries {
		out[i] = e.Entry
		if e.Kind == tree.File && e.Size > 0 {
			out[i].Content = tree.Section{File: d.data, Offset: e.Offset, Size: e.Size}
		}
	}
	return out
}
