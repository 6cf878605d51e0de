package deb

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mikelolasagasti/xz"
	"golang.org/x/sync/errgroup"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

const (
	// Compressed and decompressed index; Debian's largest, of unstable, are 11 and 60 MB.
	maxPackages     = 256 << 20
	maxPackagesText = 1 << 30
	// xz's own largest preset (-9) has a dictionary of 64 MiB.
	maxXZDictionary = 64 << 20
	// Debian has updates, security, backports, backports-sloppy and proposed-updates.
	maxPockets = 16
	// How long an index that no lock was made from any more stays in the cache.
	keepIndexes = 30 * 24 * time.Hour
)

// archive is one suite of a Debian archive whose signed index was verified.
type archive struct {
	lockfile.Archive
	url       string // of the InRelease
	base      string // of the archive
	inRelease []byte
	rel       *release
}

// archiveNames lists the suites behind a query: the suite itself first.
func archiveNames(suite string, pockets []string) ([]string, error) {
	if !validName(suite) {
		return nil, fmt.Errorf("cannot use suite %q: it is not a suite's name", suite)
	}
	if len(pockets) > maxPockets {
		return nil, fmt.Errorf("cannot use %d pockets: %d are enough", len(pockets), maxPockets)
	}
	names := []string{suite}
	for i, p := range pockets {
		if slices.Contains(pockets[:i], p) {
			return nil, fmt.Errorf("cannot use pocket %q: it is named twice", p)
		}
		if !validName(p) {
			return nil, fmt.Errorf("cannot use pocket %q: it is not a pocket's name", p)
		}
		names = append(names, suite+"-"+p)
	}
	return names, nil
}

// archives brings and verifies the signed indexes of a query, all at once.
func (s *Source) archives(ctx context.Context, q Query, keys *Keyring) ([]*archive, error) {
	names, err := archiveNames(q.Suite, q.Pockets)
	if err != nil {
		return nil, err
	}
	out, errs := make([]*archive, len(names)), make([]error, len(names))
	var g errgroup.Group
	for i, name := range names {
		g.Go(func() error {
			out[i], errs[i] = s.archive(ctx, name, q, keys)
			return nil
		})
	}
	_ = g.Wait()
	return out, firstError(errs)
}

// firstError returns the error of the first thing in order that has one, so
// that what is said does not depend on which answer came first.
func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// archive asks one mirror after the other for a signed index. Only a mirror
// that has none is passed over: one whose index does not verify is an error,
// so that an attack or a stale mirror is never silent.
func (s *Source) archive(ctx context.Context, name string, q Query, keys *Keyring) (*archive, error) {
	var tried []error
	for _, m := range s.indexMirrors() {
		base := m.base(name)
		if base == "" {
			continue
		}
		a, err := s.archiveFrom(ctx, name, base, keys)
		var f *FetchError
		if errors.As(err, &f) && ctx.Err() == nil {
			tried = append(tried, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		return a, checkRollback(a, q)
	}
	return nil, &UnavailableError{What: fmt.Sprintf("the signed index of suite %q", name), Tried: tried}
}

// indexMirrors is where indexes may come from: the mirrors, or today's snapshot.
func (s *Source) indexMirrors() []Mirror {
	if len(s.opts.Mirrors) == 0 && s.opts.Snapshot != "" {
		return []Mirror{snapshot(s.opts.Snapshot, s.opts.Now())}
	}
	return s.opts.Mirrors
}

func (s *Source) archiveFrom(ctx context.Context, name, base string, keys *Keyring) (*archive, error) {
	a := &archive{url: base + "/dists/" + name + "/InRelease", base: base}
	s.event(Event{Kind: "index", Name: name, Text: a.url})
	err := s.get(ctx, a.url, func(r io.Reader) (err error) {
		a.inRelease, err = readAll(r, maxInRelease)
		return err
	})
	var f *FetchError
	if errors.As(err, &f) {
		return nil, err
	}
	if err != nil {
		return nil, &IndexError{URL: a.url, Err: err}
	}
	text, signedBy, err := verifyClearsigned(a.inRelease, keys, s.opts.Now())
	if err != nil {
		var sig *SignatureError
		if errors.As(err, &sig) {
			sig.URL = a.url
		}
		return nil, err
	}
	if a.rel, err = parseRelease(text); err != nil {
		return nil, atURL(err, a.url)
	}
	a.Archive = lockfile.Archive{
		Name: name, Suite: a.rel.Suite, Date: a.rel.Date,
		InRelease: digest.Of(a.inRelease), SignedBy: signedBy,
	}
	if err := a.rel.check(a.url, name, s.opts.Now()); err != nil {
		return nil, err
	}
	return a, s.keepIndex(a)
}

// keepIndex puts a verified signed index into the cache, for SignedIndex.
func (s *Source) keepIndex(a *archive) error {
	file := filepath.Join(s.opts.Cache, a.InRelease.Hex())
	if _, err := os.Stat(file); err == nil {
		now := s.opts.Now()
		return os.Chtimes(file, now, now) // in use: tidy keeps it
	}
	tmp, err := os.CreateTemp(s.opts.Cache, ".index-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails when all went well
	_, err = tmp.Write(a.inRelease)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// SignedIndex returns the signed index (InRelease) that a lock names: from the
// cache, where making the lock left it, from a mirror that still has that one,
// or from the snapshot service. With offline, from the cache only. The error is
// an *UnavailableError when none has it.
func (s *Source) SignedIndex(ctx context.Context, a lockfile.Archive, offline bool) ([]byte, error) {
	read := func(r io.Reader) ([]byte, error) {
		b, err := readAll(r, maxInRelease)
		if err == nil && digest.Of(b) != a.InRelease {
			err = &digest.MismatchError{Want: a.InRelease, Got: digest.Of(b)}
		}
		return b, err
	}
	if f, err := os.Open(filepath.Join(s.opts.Cache, a.InRelease.Hex())); err == nil {
		defer f.Close()
		if b, err := read(f); err == nil {
			return b, nil
		}
	}
	places := s.opts.Mirrors
	if s.opts.Snapshot != "" {
		places = append(slices.Clone(places), snapshot(s.opts.Snapshot, a.Date))
	}
	var tried []error
	for _, m := range places {
		base := m.base(a.Name)
		if base == "" || offline && !strings.HasPrefix(base, "file:") {
			continue
		}
		url := base + "/dists/" + a.Name + "/InRelease"
		var b []byte
		err := s.get(ctx, url, func(r io.Reader) (err error) {
			b, err = read(r)
			return err
		})
		if err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		tried = append(tried, fmt.Errorf("%s: %w", url, err))
	}
	return nil, &UnavailableError{What: fmt.Sprintf("the signed index of %q of %s (%s)", a.Name, a.Date.Format(time.RFC3339), a.InRelease), Tried: tried}
}

func atURL(err error, url string) error {
	var i *IndexError
	if errors.As(err, &i) && i.URL == "" {
		i.URL = url
	}
	return err
}

func checkRollback(a *archive, q Query) error {
	for _, old := range q.Previous.Archives {
		if old.Name == a.Name && a.Date.Before(old.Date) && !q.AllowOlder {
			return &RollbackError{URL: a.url, Archive: a.Name, Date: a.Date, Locked: old.Date}
		}
	}
	return nil
}

// packages brings the Packages index of a component and architecture into the
// cache and returns its file and what it must hold. The file's bytes must be
// verified again as they are used. A pocket that lacks the component or the
// architecture offers nothing of it, which is no error: ok is false.
func (s *Source) packages(ctx context.Context, a *archive, component, arch string) (file string, want fileRef, ok bool, err error) {
	if !a.rel.has(component, arch) {
		return "", fileRef{}, false, nil
	}
	return s.listing(ctx, a, component+"/binary-"+arch+"/Packages")
}

// listing brings an index that InRelease names, as packages does; ok is false
// where it names none.
func (s *Source) listing(ctx context.Context, a *archive, name string) (file string, want fileRef, ok bool, err error) {
	want, ok = a.rel.Files[name]
	if !ok {
		return "", fileRef{}, false, nil
	}
	if want.Size > maxPackagesText {
		return "", fileRef{}, false, &IndexError{URL: a.url, Err: fmt.Errorf("%q has %d bytes, more than %d", name, want.Size, int64(maxPackagesText))}
	}
	file = filepath.Join(s.opts.Cache, want.SHA256.Hex())
	if verifyFile(file, want) == nil {
		now := s.opts.Now()
		_ = os.Chtimes(file, now, now) // in use: tidy keeps it
		return file, want, true, nil
	}
	return file, want, true, s.download(ctx, a, name, want, file)
}

func verifyFile(file string, want fileRef) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, digest.NewReader(f, want.SHA256, want.Size))
	return err
}

// download writes the decompressed index name to file, when every byte is verified.
func (s *Source) download(ctx context.Context, a *archive, name string, want fileRef, file string) error {
	suffix := ""
	for _, try := range []string{".xz", ".gz", ""} {
		if _, ok := a.rel.Files[name+try]; ok {
			suffix = try
			break
		}
	}
	ref := a.rel.Files[name+suffix]
	if ref.Size > maxPackages {
		return &IndexError{URL: a.url, Err: fmt.Errorf("%q has %d bytes, more than %d", name+suffix, ref.Size, int64(maxPackages))}
	}
	dir := a.base + "/dists/" + a.Name + "/"
	urls := []string{dir + name + suffix}
	if a.rel.ByHash { // survives a mirror that is updated while we read
		urls = []string{dir + filepath.ToSlash(filepath.Dir(name)) + "/by-hash/SHA256/" + ref.SHA256.Hex(), urls[0]}
	}
	var err error
	for _, u := range urls {
		s.event(Event{Kind: "index", Name: a.Name, Text: u, Total: ref.Size})
		err = s.get(ctx, u, func(r io.Reader) error { return unpackIndex(r, suffix, ref, want, file) })
		var f *FetchError
		if errors.As(err, &f) && f.NotThere() {
			continue
		}
		if err != nil && !errors.As(err, &f) {
			return &IndexError{URL: u, Err: err}
		}
		return err
	}
	return &UnavailableError{What: fmt.Sprintf("%q of suite %q", name+suffix, a.Name), Tried: []error{err}}
}

// unpackIndex decompresses r into file, atomically, and only if both the
// compressed and the decompressed bytes are those promised.
func unpackIndex(r io.Reader, suffix string, packed, want fileRef, file string) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".index-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	outer := digest.NewReader(r, packed.SHA256, packed.Size)
	plain, err := decompress(outer, suffix)
	if err == nil {
		_, err = io.Copy(tmp, digest.NewReader(plain, want.SHA256, want.Size))
	}
	// What is wrong with the compressed bytes explains what is wrong inside.
	if _, packedErr := io.Copy(io.Discard, outer); packedErr != nil {
		err = packedErr
	}
	if err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

func decompress(r io.Reader, suffix string) (io.Reader, error) {
	switch suffix {
	case ".xz":
		return xz.NewReader(r, maxXZDictionary)
	case ".gz":
		return gzip.NewReader(r)
	}
	return r, nil
}

// tidy removes indexes that have not been used for a long time, and what a
// killed process left behind.
func (s *Source) tidy() {
	entries, err := os.ReadDir(s.opts.Cache)
	if err != nil {
		return // a cache that cannot be tidied is still a cache
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && s.opts.Now().Sub(info.ModTime()) > keepIndexes {
			_ = os.Remove(filepath.Join(s.opts.Cache, e.Name()))
		}
	}
}
