package httpfile

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"sync"

	"quorate.dev/lockfile/fetch"
)

// Late is a file whose URL another file tells, such as an index. That is read
// when the file is opened, and not before: opening sources asks no network.
type Late struct {
	name string
	find func(ctx context.Context) (string, error)

	mu  sync.Mutex
	src *Source
}

var _ fetch.Source = (*Late)(nil)

// NewLate returns a source that find, called until it succeeds once, tells the URL of. It goes by the name until then.
func NewLate(name string, find func(ctx context.Context) (string, error)) *Late {
	return &Late{name: name, find: find}
}

// String returns the URL, or before it is known, the name.
func (l *Late) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.src == nil {
		return l.name
	}
	return l.src.String()
}

// Open implements fetch.Source.
func (l *Late) Open(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	src, err := l.source(ctx)
	if err != nil {
		return nil, 0, err
	}
	return src.Open(ctx, offset)
}

// Same reports whether Open in the middle goes on in the file that was read before.
func (l *Late) Same() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.src != nil && l.src.Same()
}

func (l *Late) source(ctx context.Context) (*Source, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.src != nil {
		return l.src, nil
	}
	url, err := l.find(ctx)
	if err != nil {
		return nil, err
	}
	l.src, err = New(url)
	return l.src, err
}

// Told returns a URL that another place told of, if it may: a place on the network
// must not make us read files of this machine.
func Told(by, rawURL string) (string, error) {
	to, err := parse(rawURL)
	if err != nil {
		return "", &permanentError{err}
	}
	from, err := url.Parse(by)
	if err != nil || to.Scheme == "file" && from.Scheme != "file" {
		return "", &permanentError{fmt.Errorf("%s leads to %q, which is a file of this machine", Redacted(by), to.Redacted())}
	}
	return rawURL, nil
}

// Read returns a whole file, which may have at most limit bytes, as patiently as
// o says: of it, Tries, Pause and Stall count.
func Read(ctx context.Context, rawURL string, limit int64, o fetch.Options) ([]byte, error) {
	src, err := New(rawURL)
	if err != nil {
		return nil, err
	}
	b, err := fetch.Read(ctx, src, limit, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src, err)
	}
	return b, nil
}

// Redacted is a URL for messages: without its password, and nothing of what is no URL.
func Redacted(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}
