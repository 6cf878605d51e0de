package diff

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"slices"
	"strings"
	"testing"
)

// someText is some bytes of contents that pack well.
func someText(seed, n int) string {
	random := rand.New(rand.NewSource(int64(seed)))
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%d: some line or other, %x\n", b.Len(), random.Intn(99))
	}
	return b.String()[:n]
}

// pointsAt sets how many bytes lie between points while a test runs.
func pointsAt(t testing.TB, every int64) {
	before := pointsEvery
	pointsEvery = every
	t.Cleanup(func() { pointsEvery = before })
}

// testComparer is a comparison without sides.
func testComparer(t testing.TB, dir string) *comparer {
	t.Helper()
	c := &comparer{}
	for _, s := range []**spool{&c.spool, &c.sides[A], &c.sides[B], &c.heads[A], &c.heads[B]} {
		var err error
		if *s, err = newSpool(dir); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *comparer) close() {
	for _, s := range []*spool{c.spool, c.sides[A], c.sides[B], c.heads[A], c.heads[B]} {
		s.close()
	}
}

// testBlob is a layer with the digest that it must have.
func testBlob(b []byte) *blob {
	return &blob{src: inMemory(b), layer: layer{name: "layer", digest: fmt.Sprintf("sha256:%x", sha256.Sum256(b))}, whose: &images{}}
}

// holdTree fails unless a tree is that of the tar b, read from the beginning, and all bytes of it can be had.
func holdTree(t *testing.T, got *tree, b []byte, dir string) {
	want, err := scanSource(inMemory(b), nil)
	if err != nil {
		t.Errorf("%v", err)
		return
	}
	x, y := *got.list, *want.list
	if len(x.entries) != len(y.entries) {
		t.Errorf("%d entries, expected %d", len(x.entries), len(y.entries))
		return
	}
	var wanted []int
	for i := range x.entries {
		e, f := x.entries[i], y.entries[i]
		raw, err := got.raw(&e)
		if err != nil || !bytes.Equal(raw, b[f.start:f.data()]) {
			t.Errorf("entry %d: another header (%v)", i, err)
		}
		pad, err := got.paddingOf(&e)
		if err != nil || !bytes.Equal(pad, b[f.data()+f.size:f.end()]) {
			t.Errorf("entry %d: another padding (%v)", i, err)
		}
		if e.headAt, f.headAt = 0, 0; e != f {
			t.Errorf("entry %d is %+v, expected %+v", i, e, f)
		}
		if i%3 != 1 {
			wanted = append(wanted, i)
		}
	}
	into, err := newSpool(dir)
	if err != nil {
		t.Errorf("%v", err)
		return
	}
	defer into.close()
	files, err := got.fetch(wanted, into, nil)
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, i := range wanted {
		e := y.entries[i]
		if p, err := files[i].load(); err != nil || !bytes.Equal(p, b[e.data():e.data()+e.size]) {
			t.Errorf("entry %d: %d other bytes (%v), expected %d", i, len(p), err, e.size)
		}
	}
	if x.size != y.size || x.sum != y.sum || x.tail != y.tail || x.tailSum != y.tailSum || x.issue != y.issue || x.bytes != y.bytes {
		t.Errorf("listing of %d bytes, %q, expected %d, %q, or other sums", x.size, x.issue, y.size, y.issue)
	}
	if tail, err := got.tailSource().load(); err != nil || !bytes.Equal(tail, b[y.tail:]) {
		t.Errorf("tail of %d bytes (%v), expected %d", len(tail), err, len(b)-int(y.tail))
	}
	for _, off := range []int{len(b) / 2, 0, len(b) / 3, max(0, len(b)-1), len(b)} { // backwards, too
		p := make([]byte, 5000)
		n, err := got.src.ReadAt(p, int64(off))
		if want := b[off:min(len(b), off+len(p))]; !bytes.Equal(p[:n], want) || (err == io.EOF) != (len(want) < len(p)) {
			t.Errorf("%d bytes at %d (%v), expected %d", n, off, err, len(want))
		}
	}
}

// TestLayersThatBeginAlike: whatever two gzip layers share, each is listed as if it had been read alone.
func TestLayersThatBeginAlike(t *testing.T) {
	pointsAt(t, 3000)
	dir := t.TempDir()
	shared := 0
	for seed := range int64(120) {
		random := rand.New(rand.NewSource(seed))
		var list []file
		for i := range random.Intn(30) {
			size := []int{0, 1, 511, 512, 3000, 8000, 30_000}[random.Intn(7)]
			list = append(list, regular(fmt.Sprintf("dir/file%d", random.Intn(20)), someText(i, size))) // some paths twice
		}
		one := tarOf(t, list)
		other := slices.Clone(one)
		for range random.Intn(4) {
			at := len(other)*2/3 + random.Intn(len(other)/3)
			if random.Intn(5) == 0 {
				at = random.Intn(len(other))
			}
			switch random.Intn(4) {
			case 0:
				other[at] ^= 1
			case 1:
				other = slices.Insert(other, at&^511, make([]byte, 512)...)
			case 2:
				other = slices.Insert(other, at, 'x')
			case 3:
				other = other[:at+1]
			}
		}
		level, members := random.Intn(10), random.Intn(3) > 0
		pack := func(b []byte) (z []byte) {
			if !members {
				return gzipOf(b, gzip.Header{}, level)
			}
			for part := range slices.Chunk(b, 5000) { // a point for each
				z = append(z, gzipOf(part, gzip.Header{}, level)...)
			}
			return z
		}
		p := pack(one)
		if random.Intn(6) == 0 {
			level, members = 9-level, !members
		}
		q := pack(other)
		c := testComparer(t, dir)
		a, b := testBlob(p), testBlob(q)
		if err := c.scanBoth(a, b); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if b.tree.fork > 0 {
			shared++
		}
		holdTree(t, a.tree, one, dir)
		holdTree(t, b.tree, other, dir)
		if got, want := a.tree.list.sum == b.tree.list.sum, bytes.Equal(one, other); got != want {
			t.Errorf("seed %d: equal is %v, expected %v", seed, got, want)
		}
		c.close()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if shared < 40 {
		t.Errorf("%d pairs of layers shared their beginning, expected more of 120", shared)
	}
}

// TestDamagedLayers: damage is found, and told of the layer that has it, though it begins as a sound one does.
func TestDamagedLayers(t *testing.T) {
	pointsAt(t, 20_000)
	sound := gzipOf(tarOf(t, []file{regular("one", someText(1, 300_000)), regular("two", someText(2, 300_000))}), gzip.Header{}, 6)
	changed := func(at int, by byte) []byte { return flipped(sound, at, by) }
	tests := []struct {
		summary string
		layer   []byte
		want    string
	}{
		{"cut short", sound[:len(sound)-9], "the packed stream ends early"},
		{"cut short within the last member's sum", sound[:len(sound)-3], "the packed stream ends early"},
		{"another sum", changed(len(sound)-6, 1), "gzip: invalid checksum"},
		{"another size", changed(len(sound)-2, 1), "gzip: invalid checksum"},
		{"bytes behind", append(slices.Clone(sound), "some more of it"...), "gzip: invalid header"},
	}
	for _, tt := range tests {
		for k, name := range []string{"A", "B"} {
			sides := []*blob{testBlob(sound), testBlob(sound)}
			sides[k] = testBlob(tt.layer)
			sides[0].whose, sides[1].whose = &images{side: "A"}, &images{side: "B"}
			c := testComparer(t, t.TempDir())
			err := c.scanBoth(sides[0], sides[1])
			c.close()
			var damaged *InputError
			if !errors.As(err, &damaged) || damaged.Side != name || damaged.Err.Error() != tt.want {
				t.Errorf("%s, side %s: error %v, expected %q of it", tt.summary, name, err, tt.want)
			}
		}
	}
	for at := len(sound) / 2; at < len(sound)/2+40; at++ { // any byte in the midst
		b := testBlob(changed(at, 0x10))
		b.digest = ""
		c := testComparer(t, t.TempDir())
		if err := c.scanBoth(testBlob(sound), b); err == nil {
			t.Errorf("byte %d was changed, and nothing was found", at)
		}
		c.close()
	}
	for k, name := range []string{"A", "B"} {
		sides := []*blob{testBlob(sound), testBlob(append(slices.Clone(sound), sound...))}
		sides[0].whose, sides[1].whose = &images{side: "A"}, &images{side: "B"}
		sides[k].digest = "sha256:" + strings.Repeat("0", 64)
		c := testComparer(t, t.TempDir())
		var lies *InputError
		if err := c.scanBoth(sides[0], sides[1]); !errors.As(err, &lies) || lies.Side != name || !strings.HasPrefix(lies.Err.Error(), "its bytes have digest sha256:") {
			t.Errorf("error %v, expected one of %s's digest", err, name)
		}
		c.close()
	}
}

// TestPoints holds what is kept of a layer to what was promised: a window for each stretch, and nothing else.
func TestPoints(t *testing.T) {
	b := tarOf(t, []file{regular("zeros", string(make([]byte, 40<<20))), regular("lines", someText(1, 2<<20))})
	c := testComparer(t, t.TempDir())
	defer c.close()
	l := testBlob(gzipOf(b, gzip.Header{}, 6))
	if err := c.scanBlob(l, A); err != nil {
		t.Fatal(err)
	}
	points := l.tree.packed.points
	most := int64(len(b)) / pointsEvery
	if n := int64(len(points)); n == 0 || n > most || c.sides[A].size > n*32<<10 {
		t.Errorf("%d points with %d bytes, expected at most %d of 32 KiB each", n, c.sides[A].size, most)
	}
	if !slices.IsSortedFunc(points, func(p, q point) int { return cmp.Compare(p.Out, q.Out) }) {
		t.Error("points are not in order")
	}
}
