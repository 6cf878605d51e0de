// Package registry is all traffic with OCI registries: it resolves references,
// pulls, pushes by digest, and keeps what refers to an image.
//
//	c := registry.New(registry.Options{})
//	ref, err := registry.Parse("registry.example/app:v1")
//	top, err := c.PushImages(ctx, ref, layout.Images, layout) // by digest; no tag yet
//	err = c.ReadBack(ctx, ref, layout.Images)                 // every byte, out of the registry again
//	_, err = c.Attach(ctx, ref, top, artifacts...)            // referrers, and they can be listed
//	err = c.Tag(ctx, ref, top)                                // last; and it is asked what the tag says now
//
// A registry is not trusted. Whatever comes by digest is held against its
// digest and size while it is read; a tag says only what the registry says
// today, so Resolve returns the digest of the bytes that came and everything
// after goes by that digest. Answers have limits; a registry that exceeds them
// gets an *Error.
//
// # Referrers
//
// Artifacts that have the image as their subject are listed by the Referrers
// API (distribution-spec 1.1). Where a registry has none (it answers 404), the
// list is an image index under the tag sha256-HEX, which clients keep
// themselves. Two clients that write it at once may lose each other's entry,
// so Attach lists again what it attached and repeats what is missing. That
// a list is whole can never be known from the registry; a signed list of what
// should be there (attestation.Referrers) tells.
//
// # Credentials and TLS
//
// Credentials are Docker's: $DOCKER_CONFIG/config.json with its credential
// helpers, or Podman's auth.json. HTTPS is checked against the system's
// certificates ($SSL_CERT_FILE adds others). Plain HTTP is spoken with this
// machine itself (localhost, 127.0.0.1, [::1]) and with nobody else unless
// Options.PlainHTTP says so.
package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"quorate.dev/lockfile/digest"
)

// Options say how registries are spoken with. The zero value is what people want.
type Options struct {
	Keychain  authn.Keychain    // nil: Docker's configuration and helpers
	Transport http.RoundTripper // nil: one with time limits
	PlainHTTP bool              // also with other machines
	UserAgent string
	// Events is called from several goroutines while blobs go to or come from
	// a registry; nil for silence.
	Events func(Event)
}

// Event is progress with one blob.
type Event struct {
	Action         string // "push" or "check"
	Digest         digest.Digest
	Current, Total int64 // bytes
	Done           bool
}

// Descriptor is an OCI content descriptor.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Limits of what is read.
const (
	manifestMax  = 4 << 20 // bytes; registries refuse larger manifests (distribution-spec)
	pagesMax     = 100     // of a list of referrers
	referrersMax = 20_000  // ten times what a release with a thousand rebuilders has
	answerTime   = time.Minute
	stallTime    = time.Minute // without one byte of a blob
	blobsAtOnce  = 4           // as docker and crane do; more does not help one registry
)

// Client speaks with registries. It is safe for use by several goroutines.
type Client struct {
	options Options
	base    http.RoundTripper

	mu       sync.Mutex
	sessions map[string]*http.Client // by repository: pinged and authenticated, for reading
	pusher   *remote.Pusher
}

// New makes a client. Nothing is asked before its first use.
func New(o Options) *Client {
	if o.Keychain == nil {
		o.Keychain = authn.DefaultKeychain
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:     true,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: answerTime,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   16, // verify reads referrers eight at a time
		}
	}
	if o.UserAgent == "" {
		o.UserAgent = "quorate"
	}
	return &Client{
		options:  o,
		base:     &guard{inner: o.Transport, plain: o.PlainHTTP},
		sessions: map[string]*http.Client{},
	}
}

// guard keeps credentials and answers off the open network.
type guard struct {
	inner http.RoundTripper
	plain bool
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.plain && !loopback(r.URL.Hostname()) {
		return nil, &PlainHTTPError{Host: r.URL.Host}
	}
	return g.inner.RoundTrip(r)
}

// PlainHTTPError says that a registry, or where it sends us, does not speak HTTPS.
type PlainHTTPError struct{ Host string }

func (e *PlainHTTPError) Error() string {
	return fmt.Sprintf("%q does not answer by HTTPS, and plain HTTP is not allowed with other machines", e.Host)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// session returns a client that may read a repository.
func (c *Client) session(ctx context.Context, repo name.Repository) (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.sessions[repo.Name()]; ok {
		return s, nil
	}
	auth, err := authn.Resolve(ctx, c.options.Keychain, repo)
	if err != nil {
		return nil, fmt.Errorf("cannot get credentials: %w", err)
	}
	inner := transport.NewUserAgent(transport.NewRetry(c.base), c.options.UserAgent)
	t, err := transport.NewWithContext(ctx, repo.Registry, auth, inner, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	s := &http.Client{Transport: t}
	c.sessions[repo.Name()] = s
	return s, nil
}

// push returns what writes to repositories. It asks for its own, wider scope.
func (c *Client) push() (*remote.Pusher, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pusher != nil {
		return c.pusher, nil
	}
	p, err := remote.NewPusher(
		remote.WithTransport(c.base), remote.WithAuthFromKeychain(c.options.Keychain),
		remote.WithUserAgent(c.options.UserAgent), remote.WithJobs(blobsAtOnce))
	c.pusher = p
	return p, err
}

func (c *Client) event(e Event) {
	if c.options.Events != nil {
		c.options.Events(e)
	}
}
