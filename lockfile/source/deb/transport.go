package deb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	// A network error is often gone a second later; three tries with growing
	// pauses cover a restart of a proxy, and do not hide a mirror that is down.
	tries      = 3
	firstPause = 500 * time.Millisecond
	// One file, whole: an index of 10 MB at 12 kB/s.
	maxTransfer = 15 * time.Minute
)

// get calls use with the bytes at url, again after an error that may pass.
// What use did with a body that broke off must not count. Errors: *FetchError
// for the place; errors of use as they are.
func (s *Source) get(ctx context.Context, url string, use func(io.Reader) error) error {
	pause := firstPause
	for try := 1; ; try++ {
		err := s.getOnce(ctx, url, use)
		var f *FetchError
		if err == nil || try == tries || !errors.As(err, &f) || !f.mayPass() || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
			pause *= 4
		}
	}
}

// mayPass reports whether asking again may help.
func (e *FetchError) mayPass() bool {
	return e.Status == 0 && !errors.Is(e.Err, os.ErrNotExist) || e.Status == 429 || e.Status >= 500
}

func (s *Source) getOnce(ctx context.Context, from string, use func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, maxTransfer)
	defer cancel()
	body, err := s.open(ctx, from)
	if err != nil {
		return err
	}
	defer body.Close()
	b := &brokenReader{r: body}
	if err := use(b); b.err == nil {
		return err
	}
	return &FetchError{URL: from, Err: b.err}
}

func (s *Source) open(ctx context.Context, from string) (io.ReadCloser, error) {
	u, err := url.Parse(from)
	if err != nil {
		return nil, &FetchError{URL: from, Err: err}
	}
	if u.Scheme == "file" {
		f, err := os.Open(u.Path)
		if err != nil {
			status := 0
			if errors.Is(err, os.ErrNotExist) {
				status = http.StatusNotFound
			}
			return nil, &FetchError{URL: from, Status: status, Err: err}
		}
		return f, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, &FetchError{URL: from, Err: err}
	}
	req.Header.Set("User-Agent", "quorate")
	resp, err := s.opts.Client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL is said once
		}
		return nil, &FetchError{URL: from, Err: err}
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, &FetchError{URL: from, Status: resp.StatusCode}
	}
	return resp.Body, nil
}

// brokenReader remembers an error of the transport, so that it can be told
// from an error of what reads.
type brokenReader struct {
	r   io.Reader
	err error
}

func (b *brokenReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// readAll reads a small file whole.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("it is larger than %d bytes", limit)
	}
	return b, nil
}
