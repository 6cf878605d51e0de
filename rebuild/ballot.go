package rebuild

import (
	"context"
	"sync"
)

// ballot keeps the order of committing and revealing: no rebuilder is asked for
// its answer before every one has committed to its own, or has failed for good
// (package host, "Commit, then reveal").
type ballot struct {
	mu      sync.Mutex
	waiting map[string]bool // rebuilders that are not heard from yet
	open    chan struct{}   // closed when answers may be told
}

func newBallot(rebuilders []Rebuilder) *ballot {
	b := &ballot{waiting: map[string]bool{}, open: make(chan struct{})}
	for _, r := range rebuilders {
		b.waiting[r.Name] = true
	}
	return b
}

// settle says that a rebuilder has committed, or will say nothing more.
func (b *ballot) settle(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if delete(b.waiting, name); len(b.waiting) == 0 && !b.isOpen() {
		close(b.open)
	}
}

// unsettle takes that back, because the rebuilder's worker is lost and another one
// is to be asked. It is too late once answers may have been told.
func (b *ballot) unsettle(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isOpen() {
		return false
	}
	b.waiting[name] = true
	return true
}

func (b *ballot) isOpen() bool {
	select {
	case <-b.open:
		return true
	default:
		return false
	}
}

// wait returns when answers may be told.
func (b *ballot) wait(ctx context.Context) error {
	select {
	case <-b.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// places are how many workers run at once, on each machine for itself.
type places struct {
	mu   sync.Mutex
	each int
	free map[string]chan struct{}
}

func newPlaces(each int) *places { return &places{each: each, free: map[string]chan struct{}{}} }

// take waits for a place on a machine, and returns what gives it back, which may
// be called more than once.
func (p *places) take(ctx context.Context, machine string) (leave func(), err error) {
	p.mu.Lock()
	if p.free[machine] == nil {
		p.free[machine] = make(chan struct{}, p.each)
	}
	taken := p.free[machine]
	p.mu.Unlock()
	select {
	case taken <- struct{}{}:
		return sync.OnceFunc(func() { <-taken }), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
