// Package registry is all traffic with places that keep images: it resolves
// references, pulls, pushes by digest, and keeps what refers to an image.
//
//	c := registry.New(registry.Options{})
//	ref, err := registry.Parse("registry.example/app:v1")     // or "oci:out/app:v1", a folder
//	top, err := c.PushImages(ctx, ref, layout.Images, layout) // by digest; no tag yet
//	err = c.ReadBack(ctx, ref, layout.Images)                 // every byte, out of the registry again
//	_, err = c.Attach(ctx, ref, top, artifacts...)            // referrers, and they can be listed
//	err = c.Tag(ctx, ref, top)                                // last; and it is asked what the tag says now
//
// A repository is in an OCI registry, or is a folder: an OCI image layout. Which
// one, the reference says. What differs is the interface keeper, of seven
// methods; all else is written once over it, and one suite of tests runs over both.
//
// Neither is trusted. Whatever comes by digest is held against its
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
// # Folders
//
// The specification of layouts (image-spec 1.1, image-layout.md) does not say where
// referrers lie, and tools differ: oras lists their manifests in index.json,
// regclient keeps the list under the tag sha256-HEX, as for old registries, and
// skopeo copies only what has a tag. So both are written, and whatever index.json
// leads to and has the subject is read. Writers take turns, by a lock on the file
// oci-layout; every file is written aside, synced and renamed, and index.json
// comes last. Readers take no lock and write nothing, so a folder may be
// read-only. No symbolic link leads out of it.
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
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

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
	folders  map[string]*folder // by path
}

// keeper is where a repository's bytes are: a registry's server, or a folder.
type keeper interface {
	// manifest reads what the reference's digest, or else its tag, names. By
	// digest the bytes were held against it.
	manifest(ctx context.Context, ref Reference) (*Manifest, error)
	// blob opens a blob; reading to its end checks digest and size.
	blob(ctx context.Context, ref Reference, d digest.Digest, size int64) (io.ReadCloser, error)
	// referrers lists what says that it refers to a manifest, in any order.
	referrers(ctx context.Context, ref Reference, d digest.Digest) ([]Descriptor, error)
	// upload takes a blob, unless it is there.
	upload(ctx context.Context, ref Reference, b *content) error
	// put takes manifests, by digest, or one under the reference's tag. What has
	// a subject is listed among its referrers.
	put(ctx context.Context, ref Reference, documents ...rawManifest) error
	// accepts finds out whether anything may be written.
	accepts(ctx context.Context, ref Reference) error
	// sole finds what a reference without tag and digest means, where it can
	// mean one thing only: the image, or the artifact that refers to nothing.
	sole(ctx context.Context, ref Reference, artifact bool) (digest.Digest, error)
}

// keeper returns who has the repository of a reference.
func (c *Client) keeper(ref Reference) keeper {
	if ref.dir == "" {
		return server{c}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.folders[ref.dir]
	if !ok {
		f = &folder{dir: filepath.Clean(ref.dir)}
		c.folders[ref.dir] = f
	}
	return f
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
		folders:  map[string]*folder{},
	}
}

func (c *Client) event(e Event) {
	if c.options.Events != nil {
		c.options.Events(e)
	}
}
