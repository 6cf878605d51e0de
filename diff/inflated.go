package diff

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"slices"
	"sync"

	"quorate.dev/diff/inflate"
)

// pointsEvery is how many unpacked bytes lie between two places where a gzip layer can be
// entered again. Each takes 32 KiB of the scratch file; unpacking one stretch takes some two milliseconds.
// (A variable so that a test can have more of them.)
var pointsEvery int64 = 1 << 20

// inflated is an unpacked gzip layer that can be read anywhere, though it is kept nowhere: a stretch
// of it is unpacked again from the last point before it.
type inflated struct {
	packed source
	done   <-chan struct{}
	points []point
	into   *spool // of windows

	mu sync.Mutex
	r  *inflate.Reader // where the last reading stopped
	at int64
}

// point is a place to enter at, with its window in a scratch file.
type point struct {
	inflate.Point
	window source
}

// add keeps a point.
func (x *inflated) add(p inflate.Point, window []byte) error {
	mark := x.into.size
	if _, err := x.into.Write(window); err != nil {
		return err
	}
	x.points = append(x.points, point{p, x.into.since(mark)})
	return nil
}

// before is the index of the last point at or before an offset, -1 for none.
func (x *inflated) before(off int64) int { return lastBefore(x.points, off) }

func lastBefore(points []point, off int64) int {
	i, found := slices.BinarySearchFunc(points, off, func(p point, off int64) int {
		return int(min(max(p.Out-off, -1), 1))
	})
	if found {
		return i
	}
	return i - 1
}

// enter returns a reader of packed, the stream from byte p.In/8 on.
func (p *point) enter(packed io.Reader) (*inflate.Reader, error) {
	window, err := p.window.load()
	if err != nil {
		return nil, err
	}
	return inflate.Resume(packed, p.Point, window), nil
}

// seek returns a reader that stands at an offset: r, which stands at at, when there is no nearer point.
func (x *inflated) seek(r *inflate.Reader, at, off int64) (*inflate.Reader, error) {
	i := x.before(off)
	switch {
	case i >= 0 && (r == nil || at > off || x.points[i].Out > at):
		p := &x.points[i]
		var err error
		if r, err = p.enter(x.stretch(p.In / 8)); err != nil {
			return nil, err
		}
		at = p.Out
	case r == nil || at > off:
		var err error
		if r, err = inflate.NewReader(x.stretch(0)); err != nil {
			return nil, err
		}
		at = 0
	}
	return r, skip(r, off-at)
}

// stretch reads the packed stream from an offset on.
func (x *inflated) stretch(off int64) io.Reader {
	return &watched{r: x.packed.sub(off, x.packed.size-off).reader(), done: x.done}
}

// skip passes over n bytes.
func skip(r *inflate.Reader, n int64) error {
	for n > 0 {
		p, err := r.Next(int(min(n, 1<<20)))
		if err != nil {
			return err
		}
		n -= int64(len(p))
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (x *inflated) ReadAt(p []byte, off int64) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r, err := x.seek(x.r, x.at, off)
	n := 0
	if err == nil {
		n, err = io.ReadFull(r, p)
	}
	if x.r, x.at = r, off+int64(n); err != nil {
		x.r = nil
	}
	if err == io.ErrUnexpectedEOF && n > 0 {
		err = io.EOF
	}
	return n, err
}

// rest gives the memory back that the next reading takes again.
func (x *inflated) rest() {
	x.mu.Lock()
	x.r = nil
	x.mu.Unlock()
}

// fetch copies the contents of entries (numbers, rising) into the spool.
func (x *inflated) fetch(entries []entry, wanted []int, into *spool) (map[int]source, error) {
	out := make(map[int]source, len(wanted))
	var r *inflate.Reader
	at := int64(0)
	for _, i := range wanted {
		e := &entries[i]
		if e.size > maxSpool-into.size {
			continue // no room: its bytes stay unexplained
		}
		var err error
		if r, err = x.seek(r, at, e.data()); err != nil {
			return nil, err
		}
		mark := into.size
		for left := e.size; left > 0; {
			p, err := r.Next(int(min(left, 1<<20)))
			if err != nil {
				return nil, err
			}
			if _, err := into.Write(p); err != nil {
				return nil, err
			}
			left -= int64(len(p))
		}
		at = e.data() + e.size
		out[i] = into.since(mark)
	}
	return out, nil
}

// beginning is what two packed layers begin with.
type beginning struct {
	size int64
	sum  hash.Hash // sha256 of it
}

// beginningOf finds out what two sources have in common. Who cannot be read ends it; that is told when
// the layer is listed.
func beginningOf(a, b source, done <-chan struct{}) beginning {
	g := beginning{sum: sha256.New()}
	p, q := make([]byte, 4*blockSize), make([]byte, 4*blockSize)
	ra, rb := &watched{r: a.reader(), done: done}, b.reader()
	for {
		n, _ := io.ReadFull(ra, p)
		m, _ := io.ReadFull(rb, q[:n])
		k := m
		if !bytes.Equal(p[:m], q[:m]) {
			for k = 0; p[k] == q[k]; {
				k++
			}
		}
		g.sum.Write(p[:k])
		g.size += int64(k)
		if k < len(p) {
			return g
		}
	}
}

// inflating is one reading of a gzip layer.
type inflating struct {
	src    source
	digest string // what the bytes must have; "" when nothing is promised
	side   Which
	fork   *fork
	parted chan<- *fork // is told once what another layer shares of this one, in time; nil: there is none

	x     *inflated
	tr    *tarReader
	apart bool // the packed stream was read to behind what is shared
}

// scanGzip lists a gzip layer, from the fork on.
func (c *comparer) scanGzip(s *inflating) (*tree, error) {
	f := s.fork
	s.x = &inflated{packed: s.src, done: c.o.Done, into: c.sides[s.side], points: f.points}
	from := int64(0)
	if k := len(f.points); k > 0 {
		from = f.points[k-1].In / 8
	}
	c.progress(s.side, int(from))
	in := io.Reader(&watched{r: s.src.sub(from, s.src.size-from).reader(), done: c.o.Done, step: func(n int) { c.progress(s.side, n) }})
	sum := sha256.New()
	if s.digest != "" {
		var known int64
		if f.sum != nil {
			again, err := f.sum.(hash.Cloner).Clone()
			if err != nil {
				return nil, err
			}
			sum, known = again, f.size-from
		}
		in = io.TeeReader(in, &behind{w: sum, skip: known})
	}
	z, err := s.enter(in)
	if err != nil {
		return nil, err
	}
	z.Marks(pointsEvery, func(p inflate.Point, window []byte) error {
		s.apart = s.apart || p.In > f.size*8
		return s.x.add(p, window)
	})
	s.tr = newTarReader(&lendLimit{limitReader{r: z, left: maxTar - f.at}, z}, c.heads[s.side])
	s.tr.goOn(f.entries, f.at)
	s.tr.behind = func() {
		if s.apart && s.tr.at >= s.shared() {
			s.part()
		}
	}
	l, err := s.tr.scan()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	if err := hasDigest(sum, s.digest); err != nil {
		return nil, err
	}
	t := &tree{list: l, packed: s.x, src: source{r: s.x, size: l.size}, heads: c.heads[s.side].all(), fork: f.at}
	if f.at > 0 {
		t.before = f.heads.all()
	}
	return t, nil
}

// enter begins to unpack, at the fork.
func (s *inflating) enter(in io.Reader) (*inflate.Reader, error) {
	f := s.fork
	if len(f.points) == 0 {
		return inflate.NewReader(in)
	}
	p := &f.points[len(f.points)-1]
	z, err := p.enter(in)
	if err == nil {
		err = skip(z, f.at-p.Out)
	}
	return z, err
}

// shared is where the last point lies that the other layer has, too.
func (s *inflating) shared() int64 {
	if i := lastShared(s.fork.beginning, s.x.points); i >= 0 {
		return s.x.points[i].Out
	}
	return 0
}

// part tells the other layer, which waits for it, what they share.
func (s *inflating) part() {
	if s.parted == nil {
		return
	}
	f := &fork{beginning: s.fork.beginning}
	if s.tr != nil {
		f = forkAt(f.beginning, s.x.points, s.tr.list, s.tr.heads)
	}
	s.parted <- f
	s.parted = nil
}

// behind writes what stands behind the first bytes.
type behind struct {
	w    io.Writer
	skip int64
}

func (b *behind) Write(p []byte) (int, error) {
	n := min(b.skip, int64(len(p)))
	b.skip -= n
	b.w.Write(p[n:])
	return len(p), nil
}

// fork is what a layer is known to begin with because another one does.
type fork struct {
	beginning
	entries []entry
	heads   *spool // of these entries
	points  []point
	at      int64 // where they end
}

// lastShared is the index of the last point that lies within a beginning, -1 for none.
func lastShared(g beginning, points []point) int {
	i, _ := slices.BinarySearchFunc(points, g.size*8+1, func(p point, in int64) int { return int(min(max(p.In-in, -1), 1)) })
	return i - 1
}

// forkAt is what a layer, read to the last point within a beginning or farther, has of it for another one. It
// is of use when there is a point at or before the end of the entries that are known whole.
func forkAt(g beginning, points []point, l *tarListing, heads *spool) *fork {
	f := &fork{beginning: g, heads: heads}
	i := lastShared(g, points)
	if i < 0 {
		return f
	}
	known := points[i].Out
	n, _ := slices.BinarySearchFunc(l.entries, known+1, func(e entry, off int64) int { return int(min(max(e.end()-off, -1), 1)) })
	if n == 0 {
		return f
	}
	at := l.entries[n-1].end()
	k := lastBefore(points, at)
	if k < 0 {
		return f
	}
	f.entries, f.at, f.points = l.entries[:n:n], at, points[:k+1:k+1]
	return f
}
