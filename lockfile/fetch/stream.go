package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"time"

	"quorate.dev/lockfile/digest"
)

const (
	// headway is how many bytes further than ever before a broken transfer
	// must have come for its attempt not to count: a line that breaks every
	// few megabytes still brings a large file, one that breaks at once does not.
	headway = 1 << 20

	// stallBytes in Options.Stall is the least that keeps a transfer alive;
	// a single byte now and then could otherwise hold a worker for years.
	stallBytes = 1 << 10

	longestPause = 8 * time.Second  // between two attempts
	longestAsked = 30 * time.Second // of a server's own Retry-After; later is as good as never for someone who waits
)

// sinkError is a failure of the place where bytes go, not of their source.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// TruncatedError says that a source ended before the promised size.
type TruncatedError struct {
	Got, Want int64
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("ended after %d bytes, expected %d", e.Got, e.Want)
}

// LimitError says that a source of unknown size has more than is accepted.
type LimitError struct {
	Limit int64
}

func (e *LimitError) Error() string { return fmt.Sprintf("more than %d bytes", e.Limit) }

// Permanent says that asking again is useless.
func (e *LimitError) Permanent() bool { return true }

// Stream brings what one source has, of a size that is not known beforehand,
// with the same patience as Fetch: it resumes and tries again. More than limit
// bytes are a *LimitError.
func Stream(ctx context.Context, src Source, dst Sink, limit int64, o Options) error {
	f := &fetcher{o: o.withDefaults(), hosts: map[string]chan struct{}{}}
	_, err := f.stream(ctx, src, dst, Item{Name: src.String(), Size: -1 - limit})
	var sink *sinkError
	if errors.As(err, &sink) {
		return sink.err
	}
	return err
}

// Read is Stream into memory, for small files on the way to others: it tells no
// events.
func Read(ctx context.Context, src Source, limit int64, o Options) ([]byte, error) {
	var m memory
	o.Events = nil
	if err := Stream(ctx, src, &m, limit, o); err != nil {
		return nil, err
	}
	return m.Bytes(), nil
}

// Parse is Stream into a function that reads what comes while it comes, for
// answers that are larger than what is wanted of them. When the bytes begin anew,
// so does parse, in another call; what it leaves unread is thrown away. When it
// fails, the rest is not waited for.
func Parse[T any](ctx context.Context, src Source, limit int64, o Options, parse func(io.Reader) (T, error)) (T, error) {
	p := &parsing[T]{parse: parse}
	p.begin()
	o.Events = nil
	err := Stream(ctx, src, p, limit, o)
	got := p.end(err)
	if err == nil || p.failed { // what failed first tells why
		err = got.err
	}
	if err != nil {
		return *new(T), err
	}
	return got.value, nil
}

// parsing is a Sink for Parse.
type parsing[T any] struct {
	parse  func(io.Reader) (T, error)
	w      *io.PipeWriter
	done   chan parsed[T]
	n      int64
	failed bool // parse did
}

type parsed[T any] struct {
	value T
	err   error
}

func (p *parsing[T]) begin() {
	r, w := io.Pipe()
	done := make(chan parsed[T], 1)
	p.w, p.done, p.n = w, done, 0
	go func() {
		v, err := p.parse(r)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		_ = r.CloseWithError(err) // always nil
		done <- parsed[T]{v, err}
	}()
}

// end waits for parse, for which the bytes end with err, or well.
func (p *parsing[T]) end(err error) parsed[T] {
	_ = p.w.CloseWithError(err) // always nil
	return <-p.done
}

func (p *parsing[T]) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.n += int64(n)
	p.failed = p.failed || err != nil
	return n, err
}

func (p *parsing[T]) Size() int64 { return p.n }

func (p *parsing[T]) Reset() error {
	p.end(io.ErrUnexpectedEOF)
	p.failed = false
	p.begin()
	return nil
}

type memory struct{ bytes.Buffer }

func (m *memory) Size() int64 { return int64(m.Len()) }

func (m *memory) Reset() error {
	m.Buffer.Reset()
	return nil
}

// stream copies a source to its end, over as many attempts as are worth it. A
// negative it.Size is an unknown one, of at most -1-Size bytes. joined is true
// when what came is of more than one answer.
func (f *fetcher) stream(ctx context.Context, src Source, dst Sink, it Item) (joined bool, err error) {
	furthest := dst.Size()
	for try := 1; ; try++ {
		joined, err = f.transfer(ctx, src, dst, it.Size)
		if err == nil {
			return joined, nil
		}
		if ctx.Err() != nil {
			return joined, context.Cause(ctx)
		}
		if final(err) {
			return joined, err
		}
		if dst.Size() >= furthest+headway {
			furthest, try = dst.Size(), 0
		}
		if try >= f.o.Tries {
			return joined, err
		}
		wait := f.pause(max(try, 1), err)
		f.tell(Event{Kind: Retry, Item: it.Name, Source: src.String(), Bytes: dst.Size(), Size: max(it.Size, -1), Err: err, Wait: wait})
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return joined, context.Cause(ctx)
		}
	}
}

// final reports whether trying the source again is useless.
func final(err error) bool {
	var sink *sinkError
	var permanent interface{ Permanent() bool }
	var size *digest.SizeError
	return errors.As(err, &sink) || errors.As(err, &size) || errors.Is(err, fs.ErrNotExist) ||
		errors.As(err, &permanent) && permanent.Permanent()
}

// pause is how long to wait after the given failed attempt: twice as long each
// time, and by chance up to a half less, so that many clients of a struggling
// server do not come back in step.
func (f *fetcher) pause(try int, err error) time.Duration {
	var asked interface{ RetryAfter() time.Duration }
	if errors.As(err, &asked) && asked.RetryAfter() > 0 {
		return min(asked.RetryAfter(), longestAsked)
	}
	d := min(f.o.Pause<<min(try-1, 10), longestPause)
	return d - rand.N(d/2+1)
}

// transfer is one attempt: it opens the source where dst ends and copies. joined
// is true when it went on where other answers had ended.
func (f *fetcher) transfer(ctx context.Context, src Source, dst Sink, size int64) (joined bool, err error) {
	release, err := f.acquire(ctx, src)
	if err != nil {
		return false, err
	}
	defer release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &watch{stall: f.o.Stall}
	w.timer = time.AfterFunc(w.stall, func() { cancel(&StallError{After: w.stall}) })
	defer w.timer.Stop()

	if same, ok := src.(interface{ Same() bool }); ok && size < 0 && dst.Size() > 0 && !same.Same() {
		if err := dst.Reset(); err != nil {
			return false, &sinkError{err}
		}
	}
	r, start, err := src.Open(ctx, dst.Size())
	if err != nil {
		return false, causeOr(ctx, err)
	}
	defer context.AfterFunc(ctx, func() { r.Close() })() // ends a Read that hangs
	defer r.Close()
	switch {
	case start == dst.Size():
	case start == 0:
		if err := dst.Reset(); err != nil {
			return false, &sinkError{err}
		}
	default:
		return false, fmt.Errorf("began at byte %d, asked for %d", start, dst.Size())
	}
	return start > 0, causeOr(ctx, copyTo(dst, r, size, w))
}

// causeOr prefers the reason for which we broke a transfer off to what breaking it off looked like.
func causeOr(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// copyTo appends r to dst and checks the size, see stream.
func copyTo(dst Sink, r io.Reader, size int64, w *watch) error {
	limit := size
	if size < 0 {
		limit = -1 - size
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		w.got(n)
		if dst.Size()+int64(n) > limit {
			return tooLong(dst, size, limit)
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return &sinkError{err}
		}
		switch {
		case err == io.EOF && dst.Size() < size:
			return &TruncatedError{Got: dst.Size(), Want: size}
		case err == io.EOF:
			return nil
		case err != nil && dst.Size() == size: // all came before the line broke; its digest tells whether it is right
			return nil
		case err != nil:
			return err
		}
	}
}

// tooLong forgets what cannot be the beginning of the right bytes.
func tooLong(dst Sink, size, limit int64) error {
	if err := dst.Reset(); err != nil {
		return &sinkError{err}
	}
	if size < 0 {
		return &LimitError{Limit: limit}
	}
	return &digest.SizeError{Want: size, Got: size + 1}
}

// StallError says that a source sent next to nothing for long.
type StallError struct {
	After time.Duration
}

func (e *StallError) Error() string {
	return fmt.Sprintf("stalled: less than %d bytes came in %v", stallBytes, e.After)
}

// watch winds its timer up whenever enough bytes have come.
type watch struct {
	timer *time.Timer
	stall time.Duration
	n     int
}

func (w *watch) got(n int) {
	if w.n += n; w.n >= stallBytes {
		w.n = 0
		w.timer.Reset(w.stall)
	}
}
