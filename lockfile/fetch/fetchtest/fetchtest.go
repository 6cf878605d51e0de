// Package fetchtest holds a store in memory and sources that fail as told, for
// tests of what fetches.
package fetchtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"quorate.dev/lockfile/digest"
)

// Store keeps blobs in memory. It is what fetch.Store asks for.
type Store struct {
	mu       sync.Mutex
	blobs    map[digest.Digest][]byte
	partials map[digest.Digest]*Partial

	// WriteErr, if not nil, is asked before every write of a partial blob
	// that holds size bytes.
	WriteErr func(size int64) error
}

// New returns a store that has these blobs.
func New(blobs ...string) *Store {
	s := &Store{blobs: map[digest.Digest][]byte{}, partials: map[digest.Digest]*Partial{}}
	for _, b := range blobs {
		s.blobs[digest.Of([]byte(b))] = []byte(b)
	}
	return s
}

// Has reports whether the blob is there with that size.
func (s *Store) Has(d digest.Digest, size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[d]
	return ok && (size < 0 || int64(len(b)) == size)
}

// SetAside forgets a blob.
func (s *Store) SetAside(d digest.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, d)
	return nil
}

// Partial returns the beginning of a blob.
func (s *Store) Partial(_ context.Context, d digest.Digest) (*Partial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.partials[d] == nil {
		s.partials[d] = &Partial{s: s, d: d}
	}
	return s.partials[d], nil
}

// Begin leaves a partial blob as an earlier run would have.
func (s *Store) Begin(d digest.Digest, b string) {
	s.partials[d] = &Partial{s: s, d: d, b: []byte(b)}
}

// Left returns what a partial blob holds.
func (s *Store) Left(d digest.Digest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.partials[d] == nil {
		return ""
	}
	return string(s.partials[d].b)
}

// Partial is a blob that is still growing.
type Partial struct {
	s *Store
	d digest.Digest
	b []byte
}

func (p *Partial) Write(b []byte) (int, error) {
	if p.s.WriteErr != nil {
		if err := p.s.WriteErr(int64(len(p.b))); err != nil {
			return 0, err
		}
	}
	p.b = append(p.b, b...)
	return len(b), nil
}

// Size returns how many bytes there are.
func (p *Partial) Size() int64 { return int64(len(p.b)) }

// Reset forgets them.
func (p *Partial) Reset() error { p.b = nil; return nil }

// Close keeps them.
func (p *Partial) Close() error { return nil }

// Finish makes them a blob.
func (p *Partial) Finish() error {
	if got := digest.Of(p.b); got != p.d {
		p.b = nil
		return &digest.MismatchError{Want: p.d, Got: got}
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.blobs[p.d] = p.b
	delete(p.s.partials, p.d)
	return nil
}

// Answer is what a Source does when it is opened once.
type Answer struct {
	Text   string        // the whole file as it is this time
	Err    error         // instead of opening
	Cut    int           // if positive, Break comes after so many bytes
	Break  error         // io.EOF by default
	Whole  bool          // begins at 0 whatever was asked
	Skew   int64         // begins so much later than asked
	Stall  bool          // hangs instead of Break, until it is closed
	Before func()        // runs first
	Gate   chan struct{} // if not nil, opening waits until it is closed
}

// Source gives one answer after the other, and the last one for ever. Its
// exported fields must be set before use.
type Source struct {
	Name    string
	At      string // Host
	Near    bool   // Local
	Answers []Answer

	mu      sync.Mutex
	Offsets []int64 // it was asked for
}

func (s *Source) String() string { return s.Name }

// Host returns At.
func (s *Source) Host() string { return s.At }

// Local returns Near.
func (s *Source) Local() bool { return s.Near }

// Open gives the next answer.
func (s *Source) Open(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	s.mu.Lock()
	a := s.Answers[min(len(s.Offsets), len(s.Answers)-1)]
	s.Offsets = append(s.Offsets, offset)
	s.mu.Unlock()
	if a.Before != nil {
		a.Before()
	}
	if a.Gate != nil {
		select {
		case <-a.Gate:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	if a.Err != nil {
		return nil, 0, a.Err
	}
	if a.Whole {
		offset = 0
	}
	offset += a.Skew
	if offset > int64(len(a.Text)) {
		return nil, 0, fmt.Errorf("%s has no bytes from %d on", s.Name, offset)
	}
	b := &body{Reader: bytes.NewReader([]byte(a.Text[offset:])), left: -1, end: a.Break, closed: make(chan struct{}), stall: a.Stall}
	if a.Cut > 0 || a.Stall {
		b.left = a.Cut
	}
	return b, offset, nil
}

type body struct {
	*bytes.Reader
	left   int // -1: no end but the reader's
	end    error
	stall  bool
	once   sync.Once
	closed chan struct{}
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		if b.stall {
			<-b.closed
			return 0, errors.New("closed")
		}
		if b.end != nil {
			return 0, b.end
		}
		return 0, io.EOF
	}
	if b.left > 0 && len(p) > b.left {
		p = p[:b.left]
	}
	n, err := b.Reader.Read(p)
	if b.left > 0 {
		b.left -= n
	}
	return n, err
}

func (b *body) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}
