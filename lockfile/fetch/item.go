package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"quorate.dev/lockfile/digest"
)

// item brings one item. Its error is an *UnavailableError, or one that stops everything.
func (f *fetcher) item(ctx context.Context, it Item) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f.tell(Event{Kind: Start, Item: it.Name, Size: it.Size})
	p, err := f.partial(ctx, it.Digest)
	if err != nil {
		return f.stopped(ctx, it, 0, err)
	}
	defer p.Close()
	counted := &counted{Partial: p, f: f, item: it}
	f.count(p.Size())
	if f.has(it.Digest, it.Size) { // another process brought it while we waited
		f.count(it.Size - p.Size())
		f.tell(Event{Kind: Done, Item: it.Name, Bytes: it.Size, Size: it.Size})
		return nil
	}
	tried, err := f.sources(ctx, it, counted)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			_ = counted.Reset() // a full disk gets its space back
		}
		return f.stopped(ctx, it, p.Size(), err)
	case tried != nil:
		err = &UnavailableError{Item: it, Tried: tried.list}
		f.tell(Event{Kind: Failed, Item: it.Name, Bytes: p.Size(), Size: it.Size, Err: err})
		return err
	}
	f.tell(Event{Kind: Done, Item: it.Name, Bytes: it.Size, Size: it.Size})
	return nil
}

// stopped is the end of an item by something that no other source can mend.
func (f *fetcher) stopped(ctx context.Context, it Item, bytes int64, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = fmt.Errorf("cannot fetch %q: %w", it.Name, err)
	f.tell(Event{Kind: Failed, Item: it.Name, Bytes: bytes, Size: it.Size, Err: err})
	return err
}

// attempts is what was tried in vain.
type attempts struct{ list []Attempt }

// sources asks one source after the other. It returns nil, nil when p is
// finished; attempts when no source had the bytes; an error when something
// else stopped it.
func (f *fetcher) sources(ctx context.Context, it Item, p *counted) (*attempts, error) {
	tried := &attempts{}
	if p.Size() > it.Size { // left by a run that believed in another size
		if err := p.Reset(); err != nil {
			return nil, err
		}
	}
	for i, src := range it.Sources {
		p.source = src.String()
		err := f.source(ctx, it, src, p)
		if err == nil {
			return nil, nil
		}
		var stop *sinkError
		if errors.As(err, &stop) {
			return nil, stop.err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		tried.list = append(tried.list, Attempt{Source: src.String(), Err: err})
		if i+1 < len(it.Sources) {
			f.tell(Event{Kind: NextSource, Item: it.Name, Source: src.String(), Bytes: p.Size(), Size: it.Size, Err: err})
		}
	}
	return tried, nil
}

// source brings an item from one source. When the digest is wrong and the bytes
// are of several answers, of an earlier run, of another source or of a file that was
// changed meanwhile, joining them may be to blame, so the source is asked once
// more, for all of them.
func (f *fetcher) source(ctx context.Context, it Item, src Source, p *counted) error {
	for again := false; ; again = true {
		joined := p.Size() > 0
		if p.Size() < it.Size || it.Size == 0 {
			var err error
			if joined, err = f.stream(ctx, src, p, it); err != nil {
				return err
			}
		}
		err := p.Finish()
		var mismatch *digest.MismatchError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &mismatch):
			return &sinkError{err}
		}
		f.count(-it.Size)
		if again || !joined {
			return mismatch
		}
	}
}

// counted keeps the totals and reports progress.
type counted struct {
	Partial
	f      *fetcher
	item   Item
	source string
	told   time.Time
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Partial.Write(b)
	c.f.count(int64(n))
	if now := time.Now(); now.Sub(c.told) >= 100*time.Millisecond {
		c.told = now
		c.f.tell(Event{Kind: Progress, Item: c.item.Name, Source: c.source, Bytes: c.Size(), Size: c.item.Size})
	}
	return n, err
}

func (c *counted) Reset() error {
	c.f.count(-c.Size())
	return c.Partial.Reset()
}
