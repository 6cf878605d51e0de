package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile/digest"
)

// server is the keeper of repositories in registries, spoken with by HTTP
// (distribution-spec 1.1).
type server struct{ *Client }

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
func (c server) session(ctx context.Context, repo name.Repository) (*http.Client, error) {
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
func (c server) push() (*remote.Pusher, error) {
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

// get asks for a path below /v2/REPOSITORY/. The answer's status is one of those named.
func (c server) get(ctx context.Context, ref Reference, path string, accept []string, statuses ...int) (*http.Response, error) {
	s, err := c.session(ctx, ref.repo)
	if err != nil {
		return nil, err
	}
	url := fmt.Sprintf("%s://%s/v2/%s/%s", ref.repo.Scheme(), ref.repo.RegistryStr(), ref.repo.RepositoryStr(), path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	for _, a := range accept {
		req.Header.Add("Accept", a)
	}
	resp, err := s.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, statuses...); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// sole is for folders: a repository may hold anything, and no name means the
// tag "latest" to some.
func (c server) sole(context.Context, Reference, bool) (digest.Digest, error) {
	return digest.Digest{}, errNoName
}

var errNoName = errors.New("the reference has neither a tag nor a digest")

func (c server) manifest(ctx context.Context, ref Reference) (*Manifest, error) {
	if ref.identifier() == "" {
		return nil, errNoName
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	resp, err := c.get(ctx, ref, "manifests/"+ref.identifier(), manifestTypes, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := readLimited(resp.Body, manifestMax, "manifest")
	if err != nil {
		return nil, err
	}
	m := &Manifest{Bytes: b, Descriptor: Descriptor{Digest: digest.Of(b), Size: int64(len(b))}}
	if want := ref.digest; !want.IsZero() && m.Digest != want {
		return nil, &digest.MismatchError{Want: want, Got: m.Digest}
	}
	if m.MediaType, _, err = mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil {
		return nil, fmt.Errorf("its media type %.64q cannot be read", resp.Header.Get("Content-Type"))
	}
	return m, nil
}

// blob fails when no byte comes for a minute.
func (c server) blob(ctx context.Context, ref Reference, d digest.Digest, size int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stalled := time.AfterFunc(stallTime, func() { cancel(fmt.Errorf("no byte came for %s", stallTime)) })
	resp, err := c.get(ctx, ref, "blobs/"+d.String(), nil, http.StatusOK)
	if err != nil {
		stalled.Stop()
		cancel(nil)
		return nil, fault("pull blob "+d.String()+" of", ref, err)
	}
	return &blobReader{ctx: ctx, cancel: cancel, stalled: stalled, body: resp.Body, checked: digest.NewReader(resp.Body, d, size), ref: ref, digest: d}, nil
}

type blobReader struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stalled *time.Timer
	body    io.Closer
	checked *digest.Reader
	ref     Reference
	digest  digest.Digest
}

func (r *blobReader) Read(p []byte) (int, error) {
	r.stalled.Reset(stallTime)
	n, err := r.checked.Read(p)
	if err != nil && err != io.EOF {
		if cause := context.Cause(r.ctx); cause != nil {
			err = cause
		}
		err = fault("pull blob "+r.digest.String()+" of", r.ref, err)
	}
	return n, err
}

func (r *blobReader) Close() error {
	r.stalled.Stop()
	r.cancel(nil)
	return r.body.Close()
}

func (c server) referrers(ctx context.Context, ref Reference, d digest.Digest) ([]Descriptor, error) {
	var all []Descriptor
	path := "referrers/" + d.String()
	for page := 0; path != ""; page++ {
		if page == pagesMax {
			return nil, &limitError{fmt.Sprintf("the list has more than %d pages", pagesMax)}
		}
		b, next, err := c.referrersPage(ctx, ref, path)
		if err != nil {
			return nil, err
		}
		if b == nil && page == 0 {
			return c.fallbackReferrers(ctx, ref, d)
		}
		if all, err = appendIndex(all, b); err != nil {
			return nil, err
		}
		path = next
	}
	return all, nil
}

// referrersPage returns one page and the path of the next; nil when the
// registry has no Referrers API. Codes other than 404 are what some registries
// answer to paths that they do not know.
func (c server) referrersPage(ctx context.Context, ref Reference, path string) (b []byte, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	resp, err := c.get(ctx, ref, path, []string{image.IndexMediaType},
		http.StatusOK, http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); resp.StatusCode != http.StatusOK || mediaType != image.IndexMediaType {
		return nil, "", nil
	}
	next, err = nextPage(ref, resp)
	if err != nil {
		return nil, "", err
	}
	b, err = readLimited(resp.Body, manifestMax, "list of referrers")
	return b, next, err
}

// nextPage reads the Link header (RFC 8288) of a page: the next one must lie
// at the same place, so that a registry cannot send us and our credentials elsewhere.
func nextPage(ref Reference, resp *http.Response) (string, error) {
	for link := range strings.SplitSeq(resp.Header.Get("Link"), ",") {
		target, parameters, _ := strings.Cut(strings.TrimSpace(link), ">")
		target, ok := strings.CutPrefix(target, "<")
		if !ok || !strings.Contains(strings.ReplaceAll(parameters, `"`, ""), "rel=next") {
			continue
		}
		u, err := url.Parse(target)
		if err != nil {
			return "", fmt.Errorf("the list's next page %.64q cannot be read", target)
		}
		u = resp.Request.URL.ResolveReference(u)
		path, ok := strings.CutPrefix(u.Path, "/v2/"+ref.repo.RepositoryStr()+"/")
		if !ok || u.Host != resp.Request.URL.Host || !strings.HasPrefix(path, "referrers/") {
			return "", fmt.Errorf("the list's next page %.64q is elsewhere", target)
		}
		if u.RawQuery != "" {
			path += "?" + u.RawQuery
		}
		return path, nil
	}
	return "", nil
}

func (c server) fallbackReferrers(ctx context.Context, ref Reference, d digest.Digest) ([]Descriptor, error) {
	m, err := c.manifest(ctx, ref.WithTag(fallbackTag(d)))
	if kindOf(err) == NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if m.MediaType != image.IndexMediaType {
		return nil, nil // an old signature of somebody's, not a list
	}
	return appendIndex(nil, m.Bytes)
}

func (c server) upload(ctx context.Context, ref Reference, b *content) error {
	p, err := c.push()
	if err != nil {
		return err
	}
	return p.Upload(ctx, ref.repo, b)
}

// accepts gives the registry the empty document that every artifact needs.
func (c server) accepts(ctx context.Context, ref Reference) error {
	return c.Client.upload(ctx, ref, inMemory(EmptyMediaType, []byte(emptyConfig)))
}

func (c server) put(ctx context.Context, ref Reference, documents ...rawManifest) error {
	p, err := c.push()
	if err != nil {
		return err
	}
	for _, m := range documents {
		var target name.Reference = ref.repo.Digest(digest.Of(m.bytes).String())
		if ref.tag != "" && ref.digest.IsZero() {
			target = ref.repo.Tag(ref.tag)
		}
		if err := p.Put(ctx, target, m); err != nil {
			return err
		}
	}
	return nil
}
