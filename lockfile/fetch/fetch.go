// Package fetch brings the bytes that a lock names into a store.
//
// It may not choose: an [Item] says the digest and size of what is wanted, and
// a list of [Source] where it may be found, best first. Whatever a source
// sends, only those very bytes end up in the store, so a source need not be
// trusted and its order is a matter of speed alone. This package knows no
// protocol; sources are handed in (lockfile/source/httpfile speaks http).
//
//	err := fetch.Fetch(ctx, items, store, fetch.Options{Events: show})
//
// # How
//
// Items that the store has (by name and size; reading finds damage later, see
// [Refetch]) are left alone, and equal digests are fetched once. The rest is
// fetched by several workers, largest first so that no big file is left for
// the end. A transfer that breaks is resumed where it stopped, now or in a
// later run: what has come stays in the store as a partial blob. A source is
// tried again after failures that may pass (resets, timeouts, 5xx), with
// growing pauses; after one that will not (404, more bytes than promised,
// wrong digest) the next source is asked at once.
//
// # Errors
//
// Every item is tried before Fetch gives up, so that one run names all that is
// missing: an [*UnavailableError] each, in one [*Errors] when there are
// several. Only when nothing comes for long ([Vain]) the rest is left, with a
// [*SkippedError] each. A store that cannot be written (disk full) and the end of ctx stop
// everything at once. With Options.Offline the error is an [*OfflineError].
package fetch

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"quorate.dev/lockfile/digest"
)

// Item is something to bring.
type Item struct {
	Name    string        // for people: "nginx 1.22.1-9 amd64"
	Size    int64         // in bytes, exactly
	Digest  digest.Digest // of the bytes
	Sources []Source      // best first
}

// Source is one place that may have the bytes of one item. Implementations
// are used by one goroutine at a time.
//
// Open begins to read at offset, or earlier where that is not possible: start
// says where r begins, and is offset or 0. An error with a method
// Permanent() bool that returns true, and fs.ErrNotExist, mean that asking
// again is useless; one with RetryAfter() time.Duration (positive) says when it
// is not. String names the place in messages; it holds no secrets.
//
// A Source may also have these methods: Host() string names what it loads
// ("" for none), so that no host gets more than Options.PerHost requests at once;
// Local() bool says that reading it needs no network; Same() bool says whether
// what is read from the middle on is sure to be of what was read before: where it
// is not and nothing is known of the bytes (Stream), they are read from the start.
type Source interface {
	Open(ctx context.Context, offset int64) (r io.ReadCloser, start int64, err error)
	String() string
}

// Sink takes the bytes of one item in order.
type Sink interface {
	io.Writer
	Size() int64  // bytes taken so far
	Reset() error // forget them
}

// Partial is the beginning of a blob in a store; see store.Partial. Finish
// makes it a blob if it has the right digest, and otherwise resets it and
// returns an error that wraps *digest.MismatchError. Close keeps what there is.
type Partial interface {
	Sink
	Finish() error
	Close() error
}

// Store is where bytes go; *store.Store is one. Partial waits while another
// process writes the same blob, which may be there afterwards. All methods are
// called by several goroutines at once.
type Store[P Partial] interface {
	Has(d digest.Digest, size int64) bool
	Partial(ctx context.Context, d digest.Digest) (P, error)
	SetAside(d digest.Digest) error
}

// Options says how to fetch. The zero value is good.
type Options struct {
	Offline  bool          // use no source but local ones
	Parallel int           // transfers at once; default 8
	PerHost  int           // transfers at once from one host; default 6, as browsers do
	Tries    int           // attempts at one source that make no headway; default 4
	Pause    time.Duration // before the second attempt, doubled for each further one; default 500 ms
	Stall    time.Duration // a transfer that brings less than 1 KiB in this time is broken off; default 30 s
	Events   func(Event)   // told what happens, by one goroutine at a time; must not block; may be nil
}

func (o Options) withDefaults() Options {
	o.Parallel = cmp.Or(o.Parallel, 8)
	o.PerHost = cmp.Or(o.PerHost, 6)
	o.Tries = cmp.Or(o.Tries, 4)
	o.Pause = cmp.Or(o.Pause, 500*time.Millisecond)
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	return o
}

// EventKind says what an Event tells.
type EventKind string

// The kinds of events. Begin comes once, if anything is to be fetched; then
// for each item Start, any number of Progress, Retry and NextSource, and at last Done or Failed.
const (
	Begin      EventKind = "begin"
	Start      EventKind = "start"
	Progress   EventKind = "progress"    // at most ten a second for one item
	Retry      EventKind = "retry"       // Err happened; Source is tried again after Wait
	NextSource EventKind = "next-source" // Err happened; Source is given up and another one tried
	Done       EventKind = "done"
	Failed     EventKind = "failed"
)

// Event is news of a fetch.
type Event struct {
	Kind   EventKind
	Item   string // Name of the item; "" for Begin
	Source string // where it comes from; "" for Begin, Start, Done and Failed
	Bytes  int64  // of the item, so far
	Size   int64  // of the item
	Err    error
	Wait   time.Duration

	Items, ItemsDone int   // of the whole fetch, what was there already left out
	Total, TotalDone int64 // bytes of the whole fetch
}

// Refetch brings items whose blobs turned out to be damaged: it takes the
// blobs out of use and fetches them anew.
func Refetch[P Partial](ctx context.Context, items []Item, dst Store[P], o Options) error {
	for _, it := range items {
		if err := dst.SetAside(it.Digest); err != nil {
			return fmt.Errorf("cannot fetch %q again: %w", it.Name, err)
		}
	}
	return Fetch(ctx, items, dst, o)
}

// Fetch returns nil once dst has every item. The package comment says how and
// with which errors.
func Fetch[P Partial](ctx context.Context, items []Item, dst Store[P], o Options) error {
	missing, err := missing(items, dst.Has)
	if err != nil || len(missing) == 0 {
		return err
	}
	o = o.withDefaults()
	if o.Offline {
		if missing, err = onlyLocal(missing); err != nil {
			return err
		}
	}
	f := &fetcher{o: o, has: dst.Has, hosts: map[string]chan struct{}{}}
	f.partial = func(ctx context.Context, d digest.Digest) (Partial, error) { return dst.Partial(ctx, d) }
	return f.all(ctx, missing)
}

// missing returns the items that are not there, each digest once.
func missing(items []Item, has func(digest.Digest, int64) bool) ([]Item, error) {
	seen := make(map[digest.Digest]Item, len(items))
	var list []Item
	for _, it := range items {
		if it.Digest.IsZero() || it.Size < 0 {
			return nil, fmt.Errorf("cannot fetch %q: its digest or size is not known", it.Name)
		}
		if first, ok := seen[it.Digest]; ok {
			if first.Size != it.Size {
				return nil, fmt.Errorf("cannot fetch %q and %q: both have digest %s, but sizes %d and %d", first.Name, it.Name, it.Digest, first.Size, it.Size)
			}
			continue
		}
		seen[it.Digest] = it
		if !has(it.Digest, it.Size) {
			list = append(list, it)
		}
	}
	return list, nil
}

// onlyLocal leaves each item its local sources, or fails with all items that have none.
func onlyLocal(items []Item) ([]Item, error) {
	var without []string
	list := slices.Clone(items)
	for i, it := range list {
		list[i].Sources = nil
		for _, src := range it.Sources {
			if l, ok := src.(interface{ Local() bool }); ok && l.Local() {
				list[i].Sources = append(list[i].Sources, src)
			}
		}
		if len(list[i].Sources) == 0 {
			without = append(without, it.Name)
		}
	}
	if len(without) > 0 {
		return nil, &OfflineError{Missing: without}
	}
	return list, nil
}

// fetcher is one run of Fetch.
type fetcher struct {
	o       Options
	has     func(digest.Digest, int64) bool
	partial func(context.Context, digest.Digest) (Partial, error)

	mu    sync.Mutex // guards what follows, and calls of Events
	hosts map[string]chan struct{}
	sum   Event // the running totals
}

func (f *fetcher) all(ctx context.Context, items []Item) error {
	f.sum.Items = len(items)
	for _, it := range items {
		f.sum.Total += it.Size
	}
	f.tell(Event{Kind: Begin})
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(items[b].Size, items[a].Size) })

	failed := make([]error, len(items)) // in the order of items, so that messages are stable
	var vain Vain
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(f.o.Parallel)
	for _, i := range order {
		g.Go(func() error {
			if failed[i] = vain.Skip(items[i].Name); failed[i] != nil {
				f.tell(Event{Kind: Failed, Item: items[i].Name, Size: items[i].Size, Err: failed[i]})
				return nil
			}
			err := f.item(gctx, items[i])
			vain.Note(err)
			if _, ok := err.(*UnavailableError); ok {
				failed[i] = err
				return nil
			}
			return err
		})
	}
	err := g.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("fetching was interrupted: %w", context.Cause(ctx))
	}
	if err != nil {
		return err
	}
	return joined(failed)
}

// tell completes an event and hands it on.
func (f *fetcher) tell(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Kind == Done {
		f.sum.ItemsDone++
	}
	e.Items, e.ItemsDone, e.Total, e.TotalDone = f.sum.Items, f.sum.ItemsDone, f.sum.Total, f.sum.TotalDone
	if f.o.Events != nil {
		f.o.Events(e)
	}
}

func (f *fetcher) count(bytes int64) {
	f.mu.Lock()
	f.sum.TotalDone += bytes
	f.mu.Unlock()
}

// acquire waits for a place at the source's host.
func (f *fetcher) acquire(ctx context.Context, src Source) (release func(), err error) {
	h, ok := src.(interface{ Host() string })
	if !ok || h.Host() == "" {
		return func() {}, nil
	}
	f.mu.Lock()
	places := f.hosts[h.Host()]
	if places == nil {
		places = make(chan struct{}, f.o.PerHost)
		f.hosts[h.Host()] = places
	}
	f.mu.Unlock()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
