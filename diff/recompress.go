package diff

import (
	"compress/flate"
	"fmt"
	"io"

	kflate "github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// maxTried bounds the packed bytes that are made again to name a compressor: a
// quarter of a megabyte tells all of them apart.
const maxTried = 256 << 10

// compressors names the compressor and level of both sides of one content,
// where they can be made again; "" where neither can.
//
// zlib itself (gzip(1), Python, Java) is not among those that Go can run. Its
// output is told by exclusion only, so nothing is claimed for it.
func compressors(k, l *cut, plain func() (io.ReadCloser, error)) string {
	if k.how().method != l.how().method {
		return fmt.Sprintf("A: %s, B: %s", k.how().method, l.how().method)
	}
	a, b := nameCompressor(k, plain), nameCompressor(l, plain)
	if a == "" && b == "" {
		return ""
	}
	if a == "" {
		a = "another implementation or level"
	}
	if b == "" {
		b = "another implementation or level"
	}
	return "A: " + a + ", B: " + b
}

func nameCompressor(k *cut, plain func() (io.ReadCloser, error)) string {
	if k.how().raw == nil {
		return ""
	}
	want, whole := k.how().raw()
	if len(want) == 0 {
		return ""
	}
	for _, t := range attempts(k.how().method) {
		r, err := plain()
		if err != nil {
			return ""
		}
		m := &matcher{want: want, whole: whole}
		w, err := t.make(m)
		if err == nil {
			if _, err = io.Copy(w, r); err == nil {
				err = w.Close()
			}
		}
		r.Close()
		if err == errEnough || err == nil && !m.wrong && m.at == len(want) {
			return t.name
		}
	}
	return ""
}

type attempt struct {
	name string
	make func(io.Writer) (io.WriteCloser, error)
}

func attempts(method string) []attempt {
	var out []attempt
	switch method {
	case "gzip", "deflate":
		// Small contents come out equal at several levels; the usual ones are asked first.
		for _, level := range []int{6, 9, 1, 5, 2, 3, 4, 7, 8} {
			out = append(out,
				attempt{fmt.Sprintf("Go compress/flate level %d", level), func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, level) }},
				attempt{fmt.Sprintf("klauspost level %d", level), func(w io.Writer) (io.WriteCloser, error) { return kflate.NewWriter(w, level) }})
		}
		out = append(out, attempt{"stored", func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 0) }})
	case "zstd":
		for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression, zstd.SpeedBestCompression} {
			out = append(out, attempt{"klauspost zstd " + level.String(), func(w io.Writer) (io.WriteCloser, error) {
				return zstd.NewWriter(w, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
			}})
		}
	}
	return out
}

// matcher compares what is written with what is wanted and stops early.
type matcher struct {
	want  []byte
	whole bool // want is all; else its beginning is enough
	at    int
	wrong bool
}

type enough struct{}

func (enough) Error() string { return "enough" }

var (
	errEnough    error = enough{}
	errOtherwise       = io.ErrShortWrite
)

func (m *matcher) Write(p []byte) (int, error) {
	n := min(len(p), len(m.want)-m.at)
	if string(p[:n]) != string(m.want[m.at:m.at+n]) || m.whole && n < len(p) {
		m.wrong = true
		return 0, errOtherwise
	}
	if m.at += n; n < len(p) || !m.whole && m.at == len(m.want) {
		return len(p), errEnough
	}
	return len(p), nil
}
