package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
)

// Wanted is a blob whose sha256 is not known yet.
type Wanted struct {
	Name    string         // for people: "golang.org/x/text v0.14.0"
	File    string         // of the project, that asks for it, and its line; "" for none
	Line    int            //
	Key     string         // names the very bytes, by what the ecosystem vouches with ("go h1:…"): what was brought under it before is not brought again; "" for nothing that can be believed
	Sources []fetch.Source // best first
	Limit   int64          // bytes; more are refused
	// Verify reads what came, in any order, and says why it is not what was
	// wanted; nil when any bytes are. What it refuses, the next source may have.
	Verify func(r io.ReaderAt, size int64) error
}

// Got is a blob that the store now has.
type Got struct {
	SHA256 digest.Digest
	Size   int64
}

// UnavailableError says that no source had what was wanted.
type UnavailableError struct {
	Name  string
	File  string // that asks for it, and its line; "" for none
	Line  int
	Tried []fetch.Attempt
}

func (e *UnavailableError) Error() string {
	s := ""
	if e.File != "" {
		s = fmt.Sprintf("%s:%d: ", e.File, e.Line)
	}
	if len(e.Tried) == 0 {
		return s + fmt.Sprintf("cannot lock %s: no place is known that has it", e.Name)
	}
	s += fmt.Sprintf("cannot lock %s:", e.Name)
	for _, a := range e.Tried {
		s += fmt.Sprintf("\n  %s: %v", a.Source, a.Err)
	}
	return s
}

// Unwrap returns why each source did not have it.
func (e *UnavailableError) Unwrap() []error {
	errs := make([]error, len(e.Tried))
	for i, a := range e.Tried {
		errs[i] = a.Err
	}
	return errs
}

// IntegrityError says that bytes came which are not those that the project's
// lock file vouches for.
type IntegrityError struct {
	Name       string
	Want, Have string // in the ecosystem's own form, "h1:…"
	File       string // that says what is wanted, and its line; "" for none
	Line       int
}

func (e *IntegrityError) Error() string {
	where := ""
	if e.File != "" {
		where = fmt.Sprintf("%s:%d: ", e.File, e.Line)
	}
	return fmt.Sprintf("%s%s is %s there, and should be %s: the bytes were changed on their way, or published anew under the same name", where, e.Name, e.Have, e.Want)
}

// Permanent says that asking the same place again is useless.
func (e *IntegrityError) Permanent() bool { return true }

const noteKind = "brought"

// Bring brings blobs into the store, several at once, and returns them in the
// order of the list. All are tried before it gives up, so that one run names
// all that is missing; but when nothing comes for long (fetch.Vain), the rest is left.
func Bring(ctx context.Context, wanted []Wanted, blobs Blobs, o fetch.Options) ([]Got, error) {
	b := &bringing{blobs: blobs, options: o, total: len(wanted)}
	got := make([]Got, len(wanted))
	errs := make([]error, len(wanted))
	var vain fetch.Vain
	var g errgroup.Group
	// As many as a fetch has at once by default; a proxy answers small files slowly.
	parallel := o.Parallel
	if parallel == 0 {
		parallel = 8
	}
	g.SetLimit(parallel)
	for i, w := range wanted {
		g.Go(func() error {
			if ctx.Err() != nil {
				errs[i] = context.Cause(ctx)
				return nil
			}
			if errs[i] = vain.Skip(w.Name); errs[i] == nil {
				got[i], errs[i] = b.one(ctx, w)
				vain.Note(errs[i])
			}
			b.finished(w)
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := Several(errs, len(wanted)); err != nil {
		return nil, err
	}
	return got, nil
}

// Several is one error of those that are not nil, of so many things that were
// tried; nil for none. When nothing can be had, as when a registry is out of
// reach, a few stand for all: a screen of the same sentence hides what it says.
func Several(errs []error, total int) error {
	failed := fetch.SkippedLast(errs)
	if len(failed) == 0 {
		return nil
	}
	return &severalError{failed, total}
}

type severalError struct {
	errs  []error
	total int
}

// mostShown is how many are told in full; more are only counted.
const mostShown = 8

func (e *severalError) Error() string {
	s := errors.Join(e.errs[:min(len(e.errs), mostShown)]...).Error()
	if more := len(e.errs) - mostShown; more > 0 {
		s += fmt.Sprintf("\n… and %d more, of %d", more, e.total)
	}
	return s
}

// Unwrap returns all of them, also those that are not shown.
func (e *severalError) Unwrap() []error { return e.errs }

type bringing struct {
	blobs   Blobs
	options fetch.Options
	total   int
	mu      sync.Mutex
	done    int
	bytes   int64
}

func (b *bringing) finished(w Wanted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done++
	if b.options.Events != nil {
		b.options.Events(fetch.Event{Kind: fetch.Done, Item: w.Name, Items: b.total, ItemsDone: b.done, TotalDone: b.bytes})
	}
}

func (b *bringing) one(ctx context.Context, w Wanted) (Got, error) {
	if got, ok := b.known(w); ok {
		return got, nil
	}
	failed := &UnavailableError{Name: w.Name, File: w.File, Line: w.Line}
	for _, src := range w.Sources {
		if local, ok := src.(interface{ Local() bool }); b.options.Offline && !(ok && local.Local()) {
			failed.Tried = append(failed.Tried, fetch.Attempt{Source: src.String(), Err: errOffline{}})
			continue
		}
		got, err := b.from(ctx, w, src)
		if err == nil {
			return got, b.remember(w, got)
		}
		var stop *storeError
		if errors.As(err, &stop) {
			return Got{}, fmt.Errorf("cannot lock %s: %w", w.Name, stop.err)
		}
		if ctx.Err() != nil {
			return Got{}, context.Cause(ctx)
		}
		failed.Tried = append(failed.Tried, fetch.Attempt{Source: src.String(), Err: err})
	}
	return Got{}, failed
}

// errOffline is why a place on the network is not asked.
type errOffline struct{}

func (errOffline) Error() string   { return "not asked: offline" }
func (errOffline) Permanent() bool { return true }

// from brings a blob from one source and has it verified. What is refused never
// gets into the store: a source could fill the disk with it.
func (b *bringing) from(ctx context.Context, w Wanted, src fetch.Source) (Got, error) {
	sink := NewSink(b.blobs.Create)
	defer sink.Close()
	if err := sink.Reset(); err != nil {
		return Got{}, &storeError{err}
	}
	o := b.options
	o.Events = b.retries
	if err := fetch.Stream(ctx, src, sink, w.Limit, o); err != nil {
		if sink.broken != nil {
			return Got{}, &storeError{sink.broken}
		}
		return Got{}, err
	}
	if err := w.verify(sink.w.Reopen); err != nil {
		return Got{}, err
	}
	d, n, err := sink.Commit()
	if err != nil {
		return Got{}, &storeError{err}
	}
	b.mu.Lock()
	b.bytes += n
	b.mu.Unlock()
	return Got{d, n}, nil
}

// retries passes on what went wrong on the way; how far each transfer has come
// is told as one number.
func (b *bringing) retries(e fetch.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Kind == fetch.Retry && b.options.Events != nil {
		b.options.Events(e)
	}
}

func (w Wanted) verify(open func() (*os.File, error)) error {
	if w.Verify == nil {
		return nil
	}
	f, err := open()
	if err != nil {
		return &storeError{err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return &storeError{err}
	}
	return w.Verify(f, info.Size())
}

// known finds what was brought before under the same key.
func (b *bringing) known(w Wanted) (Got, bool) {
	var got Got
	if w.Key == "" {
		return got, false
	}
	raw, ok := b.blobs.Note(noteKind, w.Key)
	if !ok || json.Unmarshal(raw, &got) != nil || !b.blobs.Has(got.SHA256, got.Size) {
		return Got{}, false
	}
	return got, w.verify(func() (*os.File, error) { return OpenFile(b.blobs, got.SHA256) }) == nil
}

func (b *bringing) remember(w Wanted, got Got) error {
	if w.Key == "" {
		return nil
	}
	raw, err := json.Marshal(got)
	if err != nil {
		return err
	}
	return b.blobs.PutNote(noteKind, w.Key, raw)
}

// storeError is a failure of the store, not of a source.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// Sink makes a store's writer something that can begin anew, for fetch.Stream.
type Sink struct {
	create func() (Writer, error)
	w      Writer
	n      int64
	broken error // of the store
}

// NewSink returns a sink of blobs that create begins. Reset it before use.
func NewSink(create func() (Writer, error)) *Sink { return &Sink{create: create} }

func (s *Sink) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.n += int64(n)
	if err != nil {
		s.broken = err
	}
	return n, err
}

// Size returns how many bytes were taken since Reset.
func (s *Sink) Size() int64 { return s.n }

// Reset forgets what was taken.
func (s *Sink) Reset() error {
	s.Close()
	w, err := s.create()
	if err != nil {
		s.broken = err
		return err
	}
	s.w, s.n = w, 0
	return nil
}

// Commit makes a blob of what was taken.
func (s *Sink) Commit() (digest.Digest, int64, error) { return s.w.Commit() }

// Close forgets what was taken and not committed.
func (s *Sink) Close() {
	if s.w != nil {
		_ = s.w.Close()
		s.w = nil
	}
}

var _ io.Writer = (*Sink)(nil)
