// Package httpfile reads files over https, http and from the local disk, for
// the fetch of what is locked and for the lock of what is not.
//
// A [Source] is one URL as lockfile/fetch wants it: it can begin in the middle
// (Range, RFC 9110 section 14), checks that the server did what it was asked,
// and says which failures may pass. It does not judge the bytes; fetch does.
//
//	src, err := httpfile.New("https://example.org/logo-1.2.tar.gz")
//	item.Sources = []fetch.Source{src}
//
// [Pin] is for `quorate lock`: it brings a file for the first time and records
// its size and digest, with the bytes already in the store.
//
// # Rules
//
// At most 5 redirects are followed, and none from https to http. Proxies come
// from the environment as everywhere (HTTPS_PROXY, NO_PROXY). The User-Agent is
// "quorate", without version, so that servers cannot tell builds apart. User
// and password of a URL are sent to its host and never shown.
package httpfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// Source is the file at one URL.
type Source struct {
	c   *Client
	url *url.URL
	// validator is the strong ETag or the date of the bytes read before, so
	// that a later range is of the same file (If-Range, RFC 9110 section 13.1.5).
	validator string
	size      int64 // of the whole file, as it was said with the validator; -1 when it was not
}

// New returns the file at an https, http or file URL, read with the one
// client that all such sources share.
func New(rawURL string) (*Source, error) { return Default().Source(rawURL) }

// Source returns the file at an https, http or file URL.
func (c *Client) Source(rawURL string) (*Source, error) {
	u, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	return &Source{c: c, url: u, size: -1}, nil
}

func parse(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("cannot read URL: %w", withoutSecrets(err))
	}
	switch {
	case u.Scheme == "file" && (u.Host == "" || u.Host == "localhost") && strings.HasPrefix(u.Path, "/"):
	case u.Scheme == "file":
		return nil, fmt.Errorf("URL %q does not name an absolute path on this machine", u.Redacted())
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("URL %q does not begin with https://, http:// or file://", u.Redacted())
	case u.Host == "":
		return nil, fmt.Errorf("URL %q names no host", u.Redacted())
	}
	return u, nil
}

// String returns the URL without its password.
func (s *Source) String() string { return s.url.Redacted() }

// Host returns the host that the source loads; "" for a local file.
func (s *Source) Host() string { return s.url.Host }

// Local reports whether no network is needed.
func (s *Source) Local() bool { return s.url.Scheme == "file" }

// Same reports whether Open in the middle goes on in the file that was read
// before: only a server that names its bytes can promise that.
func (s *Source) Same() bool { return s.Local() || s.validator != "" }

// Open begins to read at offset, or at 0 where the server does not do ranges
// or has another file by now.
func (s *Source) Open(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	if s.Local() {
		return openLocal(s.url.Path, offset)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url.String(), nil)
	if err != nil {
		return nil, 0, withoutSecrets(err)
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		if s.validator != "" {
			req.Header.Set("If-Range", s.validator)
		}
	}
	resp, err := s.c.do(req)
	if err != nil {
		return nil, 0, err
	}
	body, start, err := s.begin(resp, offset)
	if err != nil {
		resp.Body.Close()
		return nil, 0, err
	}
	return body, start, nil
}

// begin checks the head of an answer and says where its body begins.
func (s *Source) begin(resp *http.Response, offset int64) (body io.ReadCloser, start int64, err error) {
	switch {
	case resp.StatusCode == http.StatusOK:
		s.validator, s.size = validator(resp.Header), resp.ContentLength
		return resp.Body, 0, nil
	case resp.StatusCode == http.StatusPartialContent && offset > 0:
		p, err := parseRange(resp.Header.Get("Content-Range"))
		if err != nil {
			return nil, 0, err
		}
		if p.first != offset {
			return nil, 0, fmt.Errorf("server sent bytes from %d on, asked for %d", p.first, offset)
		}
		if err := s.sameFile(&p, validator(resp.Header)); err != nil {
			s.validator, s.size = "", -1
			return nil, 0, err
		}
		return &partBody{ReadCloser: resp.Body, part: p, at: p.first}, p.first, nil
	}
	return nil, 0, statusError(resp, offset)
}

// sameFile refuses a part of another file than the one whose beginning was read
// before. Where nothing was read by this source, there is nothing to compare.
func (s *Source) sameFile(p *part, now string) error {
	if s.validator == "" {
		return nil
	}
	if p.total < 0 {
		p.total = s.size
	}
	switch {
	case now == "": // RFC 9110 section 15.3.7 has it sent; who does not may not know If-Range either
		return errors.New("server sent a part without saying of which file: it has no ETag and no date any more")
	case now != s.validator:
		return fmt.Errorf("the file changed while it was read: the server called it %s, and now %s", s.validator, now)
	case s.size >= 0 && p.total != s.size:
		return fmt.Errorf("the file changed while it was read: it had %d bytes, and now %d", s.size, p.total)
	case p.total < 0:
		return errors.New("server sent a part without saying how much there is in all")
	}
	return nil
}

// validator picks what If-Range may hold: a strong ETag, else the date.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return h.Get("Last-Modified")
}

// part is what "bytes 100-199/200" says.
type part struct {
	first, last int64
	total       int64 // of the whole file; -1 for "*", not known
}

func parseRange(s string) (part, error) {
	p := part{total: -1}
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, total, slash := strings.Cut(rest, "/")
	a, b, dash := strings.Cut(span, "-")
	var err1, err2, err3 error
	p.first, err1 = parseInt(a)
	p.last, err2 = parseInt(b)
	if total != "*" {
		p.total, err3 = parseInt(total)
	}
	if !ok || !slash || !dash || err1 != nil || err2 != nil || err3 != nil || p.last < p.first || p.total >= 0 && p.last >= p.total {
		return part{}, fmt.Errorf("server sent a part without saying which: Content-Range %q", s)
	}
	return p, nil
}

// partBody holds a body against the part that it was said to be. A server may
// send less than was asked for (RFC 9110 section 15.3.7), and that is not the
// end of the file: whoever does not know its size would take it for that.
type partBody struct {
	io.ReadCloser
	part
	at int64
}

func (b *partBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.at += int64(n)
	switch {
	case b.at > b.last+1:
		return 0, fmt.Errorf("server sent more than bytes %d to %d, which it said it would send", b.first, b.last)
	case err == io.EOF && b.at <= b.last:
		return n, fmt.Errorf("server ended before byte %d of the bytes %d to %d that it said it would send", b.at, b.first, b.last)
	case err == io.EOF && b.total >= 0 && b.at < b.total:
		return n, fmt.Errorf("server sent bytes %d to %d of %d, and not the rest", b.first, b.last, b.total)
	}
	return n, err
}

func openLocal(path string, offset int64) (io.ReadCloser, int64, error) {
	fi, err := os.Stat(path) // before it is opened: opening a named pipe would wait
	if err != nil {
		return nil, 0, err
	}
	if !fi.Mode().IsRegular() {
		return nil, 0, &permanentError{fmt.Errorf("%q is not a regular file", path)}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, offset, nil
}
