package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"strings"
	"testing"
	"testing/iotest"

	kgzip "github.com/klauspost/compress/gzip"
)

// contents are bytes of several kinds: long and short matches, far and near ones, none.
func contents() map[string][]byte {
	random := rand.New(rand.NewSource(1))
	noise := make([]byte, 300<<10)
	random.Read(noise)
	var words, rare, far bytes.Buffer
	for words.Len() < 900<<10 {
		fmt.Fprintf(&words, "%s %d\n", strings.Repeat("word", random.Intn(3)), random.Intn(5000))
	}
	for rare.Len() < 600<<10 { // codes of very different lengths
		rare.WriteByte(byte(min(255, random.ExpFloat64()*12)))
	}
	for far.Len() < 700<<10 { // matches at the window's very end
		far.Write(noise[:windowSize-random.Intn(3)])
	}
	return map[string][]byte{
		"nothing": nil, "one": {7}, "zeros": make([]byte, 1<<20), "noise": noise, "words": words.Bytes(), "rare": rare.Bytes(),
		"far": far.Bytes(), "near": bytes.Repeat([]byte("abc"), 200_000), "all": bytesOf(noise[:5000], make([]byte, 99), words.Bytes()[:90000], noise),
	}
}

func bytesOf(all ...[]byte) []byte { return bytes.Join(all, nil) }

// packed packs in all the ways that Go can.
func packed(tb testing.TB, b []byte) map[string][]byte {
	out := map[string][]byte{}
	for _, level := range []int{gzip.HuffmanOnly, gzip.NoCompression, gzip.BestSpeed, 6, gzip.BestCompression} {
		for name, make := range map[string]func(w io.Writer) (io.WriteCloser, error){
			"go":        func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, level) },
			"klauspost": func(w io.Writer) (io.WriteCloser, error) { return kgzip.NewWriterLevel(w, level) },
		} {
			var z bytes.Buffer
			w, err := make(&z)
			if err == nil {
				_, err = w.Write(b)
			}
			if err := errors.Join(err, w.Close()); err != nil {
				tb.Fatal(err)
			}
			out[fmt.Sprintf("%s %d", name, level)] = z.Bytes()
		}
	}
	return out
}

// both unpacks with this package and with the standard library.
func both(b []byte, shape func(io.Reader) io.Reader) (ours, theirs []byte, our, their error) {
	read := func(r io.Reader, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	z, err := NewReader(shape(bytes.NewReader(b)))
	ours, our = read(z, err)
	g, err := gzip.NewReader(bytes.NewReader(b))
	theirs, their = read(g, err)
	return ours, theirs, our, their
}

func whole(r io.Reader) io.Reader { return r }

// agree fails when the two say different things.
func agree(tb testing.TB, b []byte, shape func(io.Reader) io.Reader) {
	tb.Helper()
	ours, theirs, our, their := both(b, shape)
	if !sameBytes(ours, theirs, their) {
		tb.Errorf("unpacked %d bytes, compress/gzip %d, or others", len(ours), len(theirs))
	}
	var x, y flate.CorruptInputError
	if !errors.Is(our, their) && !(errors.As(our, &x) && errors.As(their, &y)) {
		tb.Errorf("error %v, compress/gzip has %v", our, their)
	}
}

// sameBytes reports whether both unpacked the same. Before a stream's early end the library wants as many bits
// as the end of a block would have, and may stop before the last symbols that are there.
func sameBytes(ours, theirs []byte, their error) bool {
	if their == io.ErrUnexpectedEOF {
		return bytes.HasPrefix(ours, theirs) && len(ours)-len(theirs) <= maxCode*258
	}
	return bytes.Equal(ours, theirs)
}

func TestUnpacks(t *testing.T) {
	for name, b := range contents() {
		for how, z := range packed(t, b) {
			for shape, of := range map[string]func(io.Reader) io.Reader{"whole": whole, "half": iotest.HalfReader, "with EOF": iotest.DataErrReader} {
				ours, _, err, _ := both(z, of)
				if err != nil || !bytes.Equal(ours, b) {
					t.Errorf("%s, %s, %s: %d bytes (%v), expected %d", name, how, shape, len(ours), err, len(b))
				}
			}
			agree(t, z[:len(z)*2/3], whole)
		}
		members := packed(t, b)
		agree(t, bytesOf(members["go 1"], members["klauspost 6"], members["go 0"]), whole)
		agree(t, bytesOf(members["go 1"], []byte("what stands behind")), whole)
		agree(t, bytesOf(members["go 1"], []byte{0}), iotest.OneByteReader)
	}
}

// Every point that is told leads to the rest of the stream.
func TestResume(t *testing.T) {
	for name, b := range contents() {
		all := packed(t, b)
		all["members"] = bytesOf(all["go 6"], all["klauspost 1"], all["go 9"])
		all["small members"] = bytes.Repeat(packed(t, b[:min(len(b), 70)])["go 9"], 50)
		for how, z := range all {
			want, _, _, err := both(z, whole)
			if err != nil {
				t.Fatal(err)
			}
			r, err := NewReader(bytes.NewReader(z))
			if err != nil {
				t.Fatal(err)
			}
			last := int64(0)
			points := 0
			r.Marks(50, func(p Point, window []byte) error {
				if points++; p.Out < last+50 || !bytes.Equal(window, want[max(p.member, p.Out-windowSize):p.Out]) {
					t.Fatalf("%s, %s: point %+v with %d bytes, expected those of the stream", name, how, p, len(window))
				}
				last = p.Out
				if points%7 == 0 || points == 1 {
					rest, err := io.ReadAll(Resume(bytes.NewReader(z[p.In/8:]), p, window))
					if err != nil || !bytes.Equal(rest, want[p.Out:]) {
						t.Errorf("%s, %s: from %+v %d bytes (%v), expected %d", name, how, p, len(rest), err, len(want)-int(p.Out))
					}
				}
				return nil
			})
			if _, err := io.Copy(io.Discard, r); err != nil {
				t.Errorf("%s, %s: %v", name, how, err)
			}
			if len(want) > 1<<20 && points == 0 {
				t.Errorf("%s, %s: no point in %d bytes", name, how, len(want))
			}
		}
	}
}

func TestMarkStops(t *testing.T) {
	z := packed(t, contents()["words"])["go 1"]
	r, err := NewReader(bytes.NewReader(z))
	if err != nil {
		t.Fatal(err)
	}
	no := errors.New("no room")
	r.Marks(1000, func(Point, []byte) error { return no })
	if _, err := io.Copy(io.Discard, r); err != no {
		t.Errorf("error %v, expected that of mark", err)
	}
}

func FuzzAgree(f *testing.F) {
	for _, b := range contents() {
		for _, z := range packed(f, b[:min(len(b), 3000)]) {
			f.Add(z, uint16(0))
			f.Add(append(z, z...), uint16(7))
		}
	}
	named := []byte("\x1f\x8b\x08\x1e\x00\x00\x00\x00\x00\x03\x02\x00ab" + "name\x00" + "comment\x00" + "\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	f.Add(named, uint16(3))
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		agree(t, b, whole)
		agree(t, b, func(r io.Reader) io.Reader { return &pieces{r, int(n%100) + 1} })
		// Sums are wrong in nearly all that a fuzzer makes, so the same as bare deflate.
		z := &Reader{stream: stream{src: bytes.NewReader(b), step: atBlock}}
		var ours []byte
		for z.err == nil && z.step != atTrailer {
			switch z.step {
			case atBlock:
				z.block()
			case atSymbols:
				z.symbols()
			case atStored:
				z.copyStored()
			}
			ours = append(ours, z.out[z.given:z.w]...)
			if z.given = z.w; z.w >= outSize {
				z.slide()
			}
		}
		our := z.err
		theirs, their := io.ReadAll(flate.NewReader(bytes.NewReader(b)))
		if !sameBytes(ours, theirs, their) || (our == nil) != (their == nil) || (our == io.ErrUnexpectedEOF) != (their == io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes (%v), compress/flate has %d (%v)", len(ours), our, len(theirs), their)
		}
	})
}

type pieces struct {
	r io.Reader
	n int
}

func (p *pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }

func BenchmarkReader(b *testing.B) {
	all := contents()
	for _, name := range []string{"words", "rare", "zeros", "noise", "all"} {
		z := packed(b, all[name])["go 1"]
		for how, open := range map[string]func() (io.Reader, error){
			"ours":      func() (io.Reader, error) { return NewReader(bytes.NewReader(z)) },
			"go":        func() (io.Reader, error) { return gzip.NewReader(bytes.NewReader(z)) },
			"klauspost": func() (io.Reader, error) { return kgzip.NewReader(bytes.NewReader(z)) },
		} {
			b.Run(name+"/"+how, func(b *testing.B) {
				b.SetBytes(int64(len(all[name])))
				for b.Loop() {
					r, err := open()
					if err == nil {
						_, err = io.Copy(io.Discard, r)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
