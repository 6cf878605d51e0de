package npm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/httpfile"
)

// place is a URL that is asked with what npm's configuration has for it.
type place struct {
	*httpfile.Source
	url    *url.URL
	config *Config
}

func (s *Source) place(rawURL string) (*place, error) {
	src, err := s.client.Source(rawURL)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(rawURL)
	if err != nil { // Source has read it already
		return nil, errors.New("cannot read URL")
	}
	return &place{src, u, s.config}, nil
}

// DeniedError says that a registry wants to know who asks, or will not tell whoever asked.
type DeniedError struct {
	Err     error
	Setting string // of npm's configuration that was, or could not be, used: "//host/path/"; "" where there is none
	Plain   bool   // it was not sent, since the URL is http
	URL     string // without password
}

func (e *DeniedError) Error() string {
	switch {
	case e.Setting == "":
		return fmt.Sprintf("%v: npm's configuration has no token for it", e.Err)
	case e.Plain:
		return fmt.Sprintf("%v: what npm's configuration has for %s is not sent over http", e.Err, e.Setting)
	}
	return fmt.Sprintf("%v: it does not take what npm's configuration has for %s", e.Err, e.Setting)
}

func (e *DeniedError) Unwrap() error { return e.Err }

// Hint says where tokens stand.
func (e *DeniedError) Hint() string {
	if e.Plain {
		return "use the registry over https"
	}
	return "log in as for npm: npm login, or a line in ~/.npmrc: //HOST/PATH/:_authToken=${NAME}"
}

// Open implements fetch.Source.
func (p *place) Open(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	r, start, err := p.Source.Open(ctx, offset)
	var status *httpfile.StatusError
	if errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden) {
		setting, _ := p.config.credential(p.url)
		return nil, 0, &DeniedError{Err: err, Setting: setting, Plain: setting != "" && p.config.authorization(p.url) == "", URL: p.String()}
	}
	return r, start, err
}

// builtInPlace is a tarball in the registry that the npm of this machine has
// built in. npm is asked for it only when the tarball is really to be brought.
type builtInPlace struct {
	s     *Source
	pin   lockfile.Pin
	place *place // once it is known
}

// String names the registry, once it is known.
func (b *builtInPlace) String() string {
	if b.place == nil {
		return "npm's own registry"
	}
	return b.place.String()
}

// Same reports whether Open in the middle goes on in the file that was read before.
func (b *builtInPlace) Same() bool { return b.place != nil && b.place.Same() }

// Open implements fetch.Source.
func (b *builtInPlace) Open(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	if b.place == nil {
		registry, err := b.s.config.registry(b.pin.Name)
		if err != nil {
			return nil, 0, &noRegistryError{err}
		}
		if b.place, err = b.s.place(strings.TrimSuffix(registry, "/") + "/" + b.pin.Path); err != nil {
			return nil, 0, &noRegistryError{err}
		}
	}
	return b.place.Open(ctx, offset)
}

// noRegistryError is a fault of this machine's configuration.
type noRegistryError struct{ err error }

func (e *noRegistryError) Error() string { return e.err.Error() }
func (e *noRegistryError) Unwrap() error { return e.err }

// Permanent says that asking again is useless.
func (e *noRegistryError) Permanent() bool { return true }

const (
	maxKeysFile = 1 << 20   // some hundred bytes for a key
	maxAnswer   = 128 << 20 // about a package of thousands of versions: tens of MB
)

// ask reads what a registry says at a path below it, at most limit bytes. The
// error is fs.ErrNotExist where it says nothing.
func ask[T any](ctx context.Context, s *Source, registry, at string, limit int64, o fetch.Options, read func(io.Reader) (T, error)) (T, error) {
	var none T
	p, err := s.place(strings.TrimSuffix(registry, "/") + at)
	if err != nil {
		return none, err
	}
	if o.Offline && !p.Local() {
		return none, fmt.Errorf("%s: not asked: offline", p)
	}
	answer, err := fetch.Parse(ctx, p, limit, o, read)
	var status *httpfile.StatusError
	if errors.As(err, &status) {
		switch status.Code {
		// 404 and 400 are those that npm takes for "no" (npm audit signatures), the others mean it.
		case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusGone, http.StatusNotImplemented:
			return none, &fs.PathError{Op: "ask", Path: p.String(), Err: fs.ErrNotExist}
		}
	}
	if err != nil {
		return none, fmt.Errorf("%s: %w", p, err)
	}
	return answer, nil
}

// released is what a registry says of one version of a package (npm's
// documentation of registries, "package metadata"), as far as it is signed.
type released struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Dist    struct {
		Integrity  string      `json:"integrity"`
		Signatures []signature `json:"signatures"`
	} `json:"dist"`

	published time.Time // zero when it was not asked for, or is not known
}

// signature is over "NAME@VERSION:INTEGRITY".
type signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"` // base64 of an ECDSA signature in ASN.1
}

func escaped(name string) string { return strings.ReplaceAll(name, "/", "%2f") }

// release asks for one version: itself, or where a registry does not answer
// that, among all of the package.
func (s *Source) release(ctx context.Context, registry, name, version string, o fetch.Options) (*released, error) {
	text, err := ask(ctx, s, registry, "/"+escaped(name)+"/"+url.PathEscape(version), maxVersion, o, io.ReadAll)
	var r released
	if err == nil && json.Unmarshal(text, &r) == nil && r.Name == name && r.Version == version {
		return &r, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return s.fullRelease(ctx, registry, name, version, o)
}

// fullRelease asks for all of a package, which says when each version was published.
func (s *Source) fullRelease(ctx context.Context, registry, name, version string, o fetch.Options) (*released, error) {
	return ask(ctx, s, registry, "/"+escaped(name), maxAnswer, o, func(r io.Reader) (*released, error) { return findRelease(r, name, version) })
}
