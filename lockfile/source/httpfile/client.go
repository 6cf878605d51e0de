package httpfile

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// maxRedirects is what a download page behind a mirror chooser and a CDN
// needs, with room; browsers allow 20.
const maxRedirects = 5

// Client asks servers. Its zero value is not ready; see NewClient.
type Client struct {
	http http.Client
}

// Default returns the client that New and Pin use.
var Default = sync.OnceValue(func() *Client { return NewClient(nil) })

// NewClient returns a client with the package's rules. config, which may be
// nil, is for roots of trust other than the system's.
func NewClient(config *tls.Config) *Client {
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	return &Client{http: http.Client{
		CheckRedirect: checkRedirect,
		// No timeout for the whole: a file may be large. Who reads the body
		// watches that it keeps coming.
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        config,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    15 * time.Second,
			ResponseHeaderTimeout:  30 * time.Second,
			IdleConnTimeout:        30 * time.Second,
			MaxIdleConnsPerHost:    8,       // as many as fetch uses at once
			MaxResponseHeaderBytes: 1 << 18, // 256 KiB; Go's own 10 MiB is for browsers' cookies
			DisableCompression:     true,    // a digest is of the bytes as they are stored
		},
	}}
}

// WithAuthorization returns a client over the same connections that sends with
// each request, redirected ones too, the Authorization header that belongs to
// its very URL; "" for none. So nothing that belongs to one place is sent to another.
func (c *Client) WithAuthorization(of func(*url.URL) string) *Client {
	return &Client{http: http.Client{CheckRedirect: c.http.CheckRedirect, Transport: &authorizing{c.http.Transport, of}}}
}

type authorizing struct {
	next http.RoundTripper
	of   func(*url.URL) string
}

// RoundTrip sets the header on a copy: the request itself is what a client
// takes the headers of a redirected one from.
func (a *authorizing) RoundTrip(req *http.Request) (*http.Response, error) {
	if header := a.of(req.URL); header != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", header)
	}
	return a.next.RoundTrip(req)
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	last := via[len(via)-1]
	switch {
	case len(via) > maxRedirects:
		return &permanentError{fmt.Errorf("more than %d redirects", maxRedirects)}
	case req.URL.Scheme != "https" && req.URL.Scheme != "http":
		return &permanentError{fmt.Errorf("redirect to %q, which is no http", req.URL.Redacted())}
	case last.URL.Scheme == "https" && req.URL.Scheme == "http":
		return &permanentError{fmt.Errorf("redirect from https to %q, which is not protected", req.URL.Redacted())}
	}
	return nil
}

// do sends a request and turns failures into errors that say whether they may pass.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "quorate")
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := c.http.Do(req)
	if err == nil {
		return resp, nil
	}
	err = withoutSecrets(err)
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	if errors.As(err, &certificate) || errors.As(err, &name) && name.IsNotFound {
		err = &permanentError{err}
	}
	return nil, err
}

// withoutSecrets takes the URL, and with it any password or token, out of an error.
func withoutSecrets(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// permanentError will come again however often one asks.
type permanentError struct{ err error }

func (e *permanentError) Error() string   { return e.err.Error() }
func (e *permanentError) Unwrap() error   { return e.err }
func (e *permanentError) Permanent() bool { return true }

// StatusError is an answer other than the file.
type StatusError struct {
	Code   int           // HTTP status
	After  time.Duration // Retry-After; 0 when not said
	Offset int64         // where reading was to begin
}

func (e *StatusError) Error() string {
	if e.Code == http.StatusRequestedRangeNotSatisfiable {
		return fmt.Sprintf("server has no bytes from %d on (416)", e.Offset)
	}
	return fmt.Sprintf("server answered %d %s", e.Code, http.StatusText(e.Code))
}

// Permanent reports whether asking again is useless: not for 5xx and the
// three of 4xx that mean "later" (408 timeout, 425 too early, 429 too many).
func (e *StatusError) Permanent() bool {
	switch e.Code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return e.Code < 500
}

// RetryAfter returns how long the server asks to wait.
func (e *StatusError) RetryAfter() time.Duration { return e.After }

func statusError(resp *http.Response, offset int64) error {
	e := &StatusError{Code: resp.StatusCode, Offset: offset}
	// The other form of Retry-After is a date; it would need the clocks to agree.
	if s, err := parseInt(resp.Header.Get("Retry-After")); err == nil && s < 1<<20 {
		e.After = time.Duration(s) * time.Second
	}
	return e
}

// parseInt reads decimal digits alone.
func parseInt(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}
