package httpfile

import (
	"context"
	"errors"
	"fmt"
	"net"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
)

// PinLimit is the largest file that Pin accepts, in bytes (4 GiB): above any
// source archive we know of, below what fills a disk by mistake.
const PinLimit = 4 << 30

// Creator begins blobs; *store.Store is one.
type Creator[W source.Writer] interface {
	Create() (W, error)
}

// Pin brings the file at an https URL into dst and returns what the lock
// records of it. Since nothing vouches for the bytes yet, plain http is
// refused, but for this machine itself (localhost), where there is no line to tap.
func Pin[W source.Writer](ctx context.Context, name, rawURL string, dst Creator[W]) (lockfile.File, error) {
	return PinWith(ctx, Default(), name, rawURL, dst, fetch.Options{})
}

// PinWith is Pin with another client and other patience; of o, Tries, Pause,
// Stall and Events count.
func PinWith[W source.Writer](ctx context.Context, c *Client, name, rawURL string, dst Creator[W], o fetch.Options) (lockfile.File, error) {
	f, err := pin(ctx, c, rawURL, func() (source.Writer, error) { return dst.Create() }, o)
	if err != nil {
		return lockfile.File{}, fmt.Errorf("cannot lock file %q from %q: %w", name, Redacted(rawURL), err)
	}
	f.Name = name
	return f, nil
}

func pin(ctx context.Context, c *Client, rawURL string, create func() (source.Writer, error), o fetch.Options) (lockfile.File, error) {
	src, err := c.Source(rawURL)
	if err != nil {
		return lockfile.File{}, err
	}
	if src.url.Scheme == "http" && !loopback(src.url.Hostname()) {
		return lockfile.File{}, errors.New("a file is locked over https only: over http, anybody on the way could choose its bytes")
	}
	if src.url.User != nil {
		return lockfile.File{}, errors.New("its URL holds a user or password, which the lock would show to everybody")
	}
	s := source.NewSink(create)
	defer s.Close()
	if err := s.Reset(); err != nil {
		return lockfile.File{}, err
	}
	if err := fetch.Stream(ctx, src, s, PinLimit, o); err != nil {
		return lockfile.File{}, err
	}
	d, n, err := s.Commit()
	return lockfile.File{URL: rawURL, Size: n, SHA256: d}, err
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
