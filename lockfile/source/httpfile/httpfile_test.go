package httpfile

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/fetch/fetchtest"
)

var (
	text  = strings.Repeat("the bytes of a package, ", 10000) // 240 kB: more than any buffer on the way
	want  = digest.Of([]byte(text))
	quick = fetch.Options{Pause: time.Microsecond, Stall: 200 * time.Millisecond}
)

// handler is a server with faults: each request gets the next of its answers,
// and the last one for ever.
type handler struct {
	t       *testing.T
	answers []http.HandlerFunc
	mu      sync.Mutex
	ranges  []string // Range headers seen
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	answer := h.answers[min(len(h.ranges), len(h.answers)-1)]
	h.ranges = append(h.ranges, r.Header.Get("Range"))
	h.mu.Unlock()
	if got := r.Header.Get("User-Agent"); got != "quorate" {
		h.t.Errorf("User-Agent %q", got)
	}
	answer(w, r)
}

func whole(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(w, r, "f", time.Time{}, strings.NewReader(text))
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) }
}

// cut promises the whole file and ends the connection after n bytes; hard
// resets it.
func cut(n int, hard bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: \"v1\"\r\n\r\n%s", len(text), text[:n])
		buf.Flush()
		if hard {
			time.Sleep(10 * time.Millisecond) // or the reset overtakes the bytes
			conn.(*net.TCPConn).SetLinger(0)
		}
	}
}

// cutOf is cut of another file.
func cutOf(tag, text string, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+tag+`"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		io.WriteString(w, text[:n])
	}
}

func stall(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		io.WriteString(w, text[:n])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

func sends(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }
}

func contentRange(value string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", value)
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, text[5:])
	}
}

func TestFetch(t *testing.T) {
	rest := func(from int) string { return fmt.Sprintf("bytes=%d-", from) }
	const k100 = 100 << 10
	tests := []struct {
		summary string
		partial int
		answers []http.HandlerFunc
		ranges  []string
		err     string // of the source; "" means success
	}{
		{"at once", 0, []http.HandlerFunc{whole}, []string{""}, ""},
		{"resumed", 1000, []http.HandlerFunc{whole}, []string{rest(1000)}, ""},
		{"ended early", 0, []http.HandlerFunc{cut(k100, false), whole}, []string{"", rest(k100)}, ""},
		{"reset midway", 0, []http.HandlerFunc{cut(k100, true), whole}, []string{"", rest(k100)}, ""},
		{"stalled midway", 0, []http.HandlerFunc{stall(k100), whole}, []string{"", rest(k100)}, ""},
		{"range ignored", 1000, []http.HandlerFunc{sends(text)}, []string{rest(1000)}, ""},
		{"500, then well", 0, []http.HandlerFunc{status(500), status(503), whole}, []string{"", "", ""}, ""},
		{"500 for ever", 0, []http.HandlerFunc{status(500)}, []string{"", "", "", ""}, "server answered 500 Internal Server Error"},
		{"404", 0, []http.HandlerFunc{status(404)}, []string{""}, "server answered 404 Not Found"},
		{"410", 0, []http.HandlerFunc{status(410)}, []string{""}, "server answered 410 Gone"},
		{"429, then well", 0, []http.HandlerFunc{status(429), whole}, []string{"", ""}, ""},
		{"204", 0, []http.HandlerFunc{status(204)}, []string{""}, "server answered 204 No Content"},
		{"206 unasked", 0, []http.HandlerFunc{status(206)}, []string{""}, "server answered 206 Partial Content"},
		{"416", 1000, []http.HandlerFunc{status(416)}, []string{rest(1000)}, "server has no bytes from 1000 on (416)"},
		{"wrong bytes", 0, []http.HandlerFunc{sends(strings.ToUpper(text))}, []string{""}, "bytes have digest " + digest.Of([]byte(strings.ToUpper(text))).String() + ", expected " + want.String()},
		{"a page instead of the file", 0, []http.HandlerFunc{sends("<html>log in</html>")}, []string{"", rest(19), rest(19), rest(19)}, "?"},
		{"too long", 0, []http.HandlerFunc{sends(text + "!")}, []string{""}, "more than the expected 240000 bytes"},
		{"changed after a break", 0, []http.HandlerFunc{cutOf("v0", strings.ToUpper(text), k100), whole, whole}, []string{"", rest(k100)}, ""},
		{"changed after a break, and the server does not know If-Range", 0, []http.HandlerFunc{cutOf("v0", strings.ToUpper(text), k100), nameless(text, -1), nameless(text, -1), whole}, []string{"", rest(k100), rest(k100), ""}, ""},
		{"part that is less than asked", 5, []http.HandlerFunc{says("5-99/240000", text[5:100]), whole}, []string{rest(5), rest(100)}, ""},
		{"part that ends behind the end", 5, []http.HandlerFunc{says("5-240000/240000", text[5:]+"!"), whole}, []string{rest(5), rest(5)}, ""},
		{"part that is longer than said", 5, []http.HandlerFunc{says("5-99/240000", text[5:200]), whole}, []string{rest(5), rest(5)}, ""},
		{"part of another total", 5, []http.HandlerFunc{says("5-999999/1000000", text[5:]), whole}, []string{rest(5)}, ""},
		{"other part than asked", 5, []http.HandlerFunc{contentRange("bytes 6-239999/240000"), whole}, []string{rest(5), rest(5)}, ""},
		{"part without saying which", 5, []http.HandlerFunc{contentRange(""), contentRange("bytes 5-"), contentRange("bytes -5-9/9"), contentRange("bytes 5-239999/*")}, []string{rest(5), rest(5), rest(5), rest(5)}, ""},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			h := &handler{t: t, answers: test.answers}
			server := httptest.NewServer(h)
			defer server.Close()
			src, err := NewClient(nil).Source(server.URL + "/f")
			if err != nil {
				t.Fatal(err)
			}
			s := fetchtest.New()
			if test.partial > 0 {
				s.Begin(want, text[:test.partial])
			}
			err = fetch.Fetch(t.Context(), []fetch.Item{{Name: "f", Size: int64(len(text)), Digest: want, Sources: []fetch.Source{src}}}, s, quick)
			if !slices.Equal(h.ranges, test.ranges) {
				t.Errorf("ranges %q, expected %q", h.ranges, test.ranges)
			}
			if test.err == "" {
				if err != nil || !s.Has(want, int64(len(text))) {
					t.Errorf("got %v", err)
				}
				return
			}
			var u *fetch.UnavailableError
			if !errors.As(err, &u) || len(u.Tried) != 1 || test.err != "?" && u.Tried[0].Err.Error() != test.err {
				t.Errorf("got %v\nexpected %s", err, test.err)
			}
		})
	}
}

// Within a run, a file that changed on the server is not continued.
func TestIfRange(t *testing.T) {
	tests := []struct {
		summary, tag, date, want string
	}{
		{"strong tag", `"abc"`, "Mon, 02 Jan 2006 15:04:05 GMT", `"abc"`},
		{"weak tag", `W/"abc"`, "Mon, 02 Jan 2006 15:04:05 GMT", "Mon, 02 Jan 2006 15:04:05 GMT"},
		{"neither", "", "", ""},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			var got []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = append(got, r.Header.Get("If-Range"))
				w.Header().Set("ETag", test.tag)
				w.Header().Set("Last-Modified", test.date)
				io.WriteString(w, "x")
			}))
			defer server.Close()
			src, _ := NewClient(nil).Source(server.URL)
			for _, offset := range []int64{0, 1} {
				r, start, err := src.Open(t.Context(), offset)
				if err != nil || start != 0 {
					t.Fatalf("start %d, %v", start, err)
				}
				r.Close()
			}
			if !slices.Equal(got, []string{"", test.want}) {
				t.Errorf("If-Range %q", got)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	plain := httptest.NewServer(http.HandlerFunc(sends("text")))
	defer plain.Close()
	mux := http.NewServeMux()
	for i := 1; i < 20; i++ {
		mux.HandleFunc(fmt.Sprint("/", i), func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, fmt.Sprint("/", i-1), http.StatusFound)
		})
	}
	mux.HandleFunc("/0", sends("text"))
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "file:///etc/passwd")
		w.WriteHeader(http.StatusFound)
	})
	secure.Config.Handler = mux
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	c := NewClient(&tls.Config{RootCAs: roots})
	for path, want := range map[string]string{
		"/5":    "",
		"/6":    "more than 5 redirects",
		"/loop": "more than 5 redirects",
		"/down": `redirect from https to "` + plain.URL + `", which is not protected`,
		"/file": `redirect to "file:///etc/passwd", which is no http`,
	} {
		src, err := c.Source(secure.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := src.Open(t.Context(), 0)
		if err == nil {
			r.Close()
		}
		var permanent interface{ Permanent() bool }
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want || !errors.As(err, &permanent) || !permanent.Permanent()) {
			t.Errorf("%s: got %v, expected %q", path, err, want)
		}
	}
	src, _ := NewClient(nil).Source(secure.URL + "/0")
	_, _, err := src.Open(t.Context(), 0)
	var permanent interface{ Permanent() bool }
	if !errors.As(err, &permanent) || !permanent.Permanent() {
		t.Errorf("unknown certificate: %v", err)
	}
}

func TestLocalFile(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "a b"), []byte("0123"), 0o644)
	src, err := New((&url.URL{Scheme: "file", Path: filepath.Join(dir, "a b")}).String())
	if err != nil || !src.Local() || src.Host() != "" {
		t.Fatalf("%v", err)
	}
	r, start, err := src.Open(t.Context(), 2)
	if err != nil || start != 2 {
		t.Fatalf("%d, %v", start, err)
	}
	if b, _ := io.ReadAll(r); string(b) != "23" {
		t.Errorf("got %q", b)
	}
	r.Close()
	src, _ = New("file://" + dir + "/none")
	if _, _, err := src.Open(t.Context(), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	src, _ = New("file://" + dir)
	if _, _, err := src.Open(t.Context(), 0); err == nil || err.Error() != fmt.Sprintf("%q is not a regular file", dir) {
		t.Errorf("got %v", err)
	}
}

func TestURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"ftp://h/x":             `URL "ftp://h/x" does not begin with https://, http:// or file://`,
		"/etc/passwd":           `URL "/etc/passwd" does not begin with https://, http:// or file://`,
		"https:///x":            `URL "https:///x" names no host`,
		"file://host/x":         `URL "file://host/x" does not name an absolute path on this machine`,
		"file:x":                `URL "file:x" does not name an absolute path on this machine`,
		"https://u:pw@h/\x7f":   `cannot read URL: net/url: invalid control character in URL`,
		"ftp://user:secret@h/x": `URL "ftp://user:xxxxx@h/x" does not begin with https://, http:// or file://`,
	} {
		if _, err := New(raw); err == nil || err.Error() != want {
			t.Errorf("%q: got %v\nexpected %s", raw, err, want)
		}
	}
	src, _ := New("https://user:secret@h/x")
	if src.String() != "https://user:xxxxx@h/x" || src.Host() != "h" || src.Local() {
		t.Errorf("got %s at %s", src, src.Host())
	}
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close() // connection refused from now on
	u := strings.Replace(server.URL, "://", "://user:secret@", 1) + "/f?token=secret"
	src, _ := NewClient(nil).Source(u)
	_, _, err := src.Open(t.Context(), 0)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

// writers is a store's Create, in memory.
type writers struct{ all []*writer }

type writer struct {
	bytes.Buffer
	committed, closed bool
}

func (s *writers) Create() (*writer, error) {
	w := &writer{}
	s.all = append(s.all, w)
	return w, nil
}

func (w *writer) Reopen() (*os.File, error) { return nil, errors.New("nobody reads it before") }

func (w *writer) Commit() (digest.Digest, int64, error) {
	w.committed = true
	return digest.Of(w.Bytes()), int64(w.Len()), nil
}

func (w *writer) Close() error { w.closed = true; return nil }

func TestPin(t *testing.T) {
	tests := []struct {
		summary string
		answers []http.HandlerFunc
		err     string
	}{
		{"at once", []http.HandlerFunc{whole}, ""},
		{"resumed", []http.HandlerFunc{cut(1000, false), whole}, ""},
		{"begun anew", []http.HandlerFunc{cut(1000, false), sends(text)}, ""},
		{"changed midway", []http.HandlerFunc{cut(1000, false), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v2"`)
			http.ServeContent(w, r, "f", time.Time{}, strings.NewReader(text))
		}}, ""},
		{"changed midway, and the server has no names for its bytes", []http.HandlerFunc{nameless(strings.ToUpper(text), 1000), nameless(text, -1)}, ""},
		{"changed midway, and the server does not know If-Range", []http.HandlerFunc{cut(1000, false), tagged(`"v2"`, strings.ToUpper(text)), whole}, ""},
		{"gone", []http.HandlerFunc{status(404)}, "server answered 404 Not Found"},
		// Nobody knows the size yet: the end of a part must not pass for the end of the file.
		{"a part that is less than asked for", []http.HandlerFunc{cut(1000, false), says("1000-1999/240000", text[1000:2000]), says("2000-239999/240000", text[2000:])}, ""},
		{"a part that is always less", []http.HandlerFunc{cut(1000, false), dribble}, "server sent bytes 1002 to 1002 of 240000, and not the rest"},
		{"a part that is shorter than said", []http.HandlerFunc{cut(1000, false), says("1000-239999/240000", text[1000:2000]), whole}, ""},
		{"a part that is longer than said", []http.HandlerFunc{cut(1000, false), says("1000-239999/240000", text[1000:]+"!"), whole}, ""},
		{"a part of fewer bytes in all", []http.HandlerFunc{cut(1000, false), says("1000-1999/2000", text[1000:2000]), whole}, ""},
		{"a part of more bytes in all", []http.HandlerFunc{cut(1000, false), says("1000-240000/240001", text[1000:]+"!"), whole}, ""},
		{"a part of nobody knows how many", []http.HandlerFunc{cut(1000, false), says("1000-1999/*", text[1000:2000]), says("2000-239999/*", text[2000:])}, ""},
		{"a part of nobody ever knew how many", []http.HandlerFunc{chunked(1000), says("1000-1999/*", text[1000:2000]), whole}, ""},
		{"a part that ends behind the end", []http.HandlerFunc{cut(1000, false), says("1000-240000/240000", text[1000:]+"!"), whole}, ""},
		{"a part without the name of its file", []http.HandlerFunc{cut(1000, false), nameless(strings.ToUpper(text), -1), whole}, ""},
		{"an endless part", []http.HandlerFunc{cut(1000, false), endlessPart, whole}, ""},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			server := httptest.NewServer(&handler{t: t, answers: test.answers})
			defer server.Close()
			s := &writers{}
			got, err := PinWith(t.Context(), NewClient(nil), "logo", server.URL, s, quick)
			for _, w := range s.all {
				if !w.closed || w.committed != (test.err == "" && w == s.all[len(s.all)-1]) {
					t.Errorf("a writer is left: %v %v", w.closed, w.committed)
				}
			}
			if test.err != "" {
				if want := fmt.Sprintf("cannot lock file \"logo\" from %q: %s", server.URL, test.err); err == nil || err.Error() != want {
					t.Errorf("got %v\nexpected %s", err, want)
				}
				return
			}
			if want := (lockfile.File{Name: "logo", URL: server.URL, Size: 240000, SHA256: want}); err != nil || got != want {
				t.Errorf("got %+v %v", got, err)
			}
		})
	}
}

// nameless sends text from its middle when that is asked for, without anything
// that tells one text from another; at most n bytes, -1 for all.
func nameless(text string, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { ranged(w, r, text, n) }
}

// tagged does so under a tag of its own, whatever If-Range says.
func tagged(tag, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		ranged(w, r, text, -1)
	}
}

func ranged(w http.ResponseWriter, r *http.Request, text string, n int) {
	from := 0
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(text)-1, len(text)))
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(text)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	if n < 0 {
		n = len(text) - from
	}
	io.WriteString(w, text[from:from+n])
}

// raw sends begin, and then more without an end; "" for nothing more.
func raw(begin, more string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, err = io.WriteString(conn, begin)
		for many := strings.Repeat(more, 1000); err == nil && more != ""; {
			_, err = io.WriteString(conn, many)
		}
	}
}

// says that it sends a part of the file "v1", and sends a body without a length.
func says(contentRange, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Range", "bytes "+contentRange)
		w.WriteHeader(http.StatusPartialContent)
		w.(http.Flusher).Flush()
		io.WriteString(w, body)
	}
}

// dribble sends one byte of what it is asked for.
func dribble(w http.ResponseWriter, r *http.Request) {
	from := 0
	fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
	says(fmt.Sprintf("%d-%d/%d", from, from, len(text)), text[from:from+1])(w, r)
}

// chunked sends the beginning of the file without saying how long that is, and breaks off.
func chunked(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		io.WriteString(w, text[:n])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// endlessPart says that it sends the rest, and does not stop.
func endlessPart(w http.ResponseWriter, r *http.Request) {
	says("1000-239999/240000", text[1000:])(w, r)
	for r.Context().Err() == nil {
		io.WriteString(w, text)
	}
}

// A source of which only the name is known beforehand joins no more than others do.
func TestLateJoinsNothing(t *testing.T) {
	server := httptest.NewServer(&handler{t: t, answers: []http.HandlerFunc{nameless(strings.ToUpper(text), 1000), nameless(text, -1)}})
	defer server.Close()
	late := NewLate("f", func(context.Context) (string, error) { return server.URL, nil })
	if got, err := fetch.Read(t.Context(), late, 1<<20, quick); err != nil || string(got) != text {
		t.Errorf("got %d bytes that begin with %.9q, %v", len(got), got, err)
	}
}

func TestRead(t *testing.T) {
	drip := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			io.WriteString(w, " ")
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}
	const broken = "net/http: HTTP/1.x transport connection broken: "
	for _, test := range []struct {
		summary string
		answers []http.HandlerFunc
		limit   int64
		err     string
	}{
		{"at once", []http.HandlerFunc{whole}, 1 << 20, ""},
		{"500, then well", []http.HandlerFunc{status(500), whole}, 1 << 20, ""},
		{"cut, then well", []http.HandlerFunc{cut(1000, false), whole}, 1 << 20, ""},
		{"too long", []http.HandlerFunc{whole}, 1000, "more than 1000 bytes"},
		{"not there", []http.HandlerFunc{status(404)}, 1 << 20, "server answered 404 Not Found"},
		{"endless head", []http.HandlerFunc{raw("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n")}, 1 << 20, broken + "net/http: server response headers exceeded 262144 bytes; aborted"},
		{"endless line of the head", []http.HandlerFunc{raw("HTTP/1.1 200 OK\r\nX-More: ", "and more ")}, 1 << 20, broken + "net/http: server response headers exceeded 262144 bytes; aborted"},
		{"endless promises", []http.HandlerFunc{raw("", "HTTP/1.1 103 Early Hints\r\nLink: more\r\n\r\n")}, 1 << 20, broken + "net/http: server response headers exceeded 262144 bytes; aborted"},
		{"endless trailer", []http.HandlerFunc{raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X-More: and more\r\n")}, 1 << 20, "http: suspiciously long trailer after chunked body"},
		{"endless length of a chunk", []http.HandlerFunc{raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0")}, 1 << 20, "header line too long"},
		{"endless words behind the length of a chunk", []http.HandlerFunc{raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;"+strings.Repeat("x", 1000)+"\r\nx\r\n")}, 1 << 20, "chunked encoding contains too much non-data"},
		{"two lengths", []http.HandlerFunc{raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "")}, 1 << 20, broken + `http: message cannot contain multiple Content-Length headers; got ["1" "2"]`},
		{"no HTTP", []http.HandlerFunc{raw("", "SSH-2.0-nobody\r\n")}, 1 << 20, broken + `malformed HTTP response "SSH-2.0-nobody"`},
		{"a byte now and then, for ever", []http.HandlerFunc{drip}, 1 << 20, "stalled: less than 1024 bytes came in 200ms"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			server := httptest.NewServer(&handler{t: t, answers: test.answers})
			defer server.Close()
			at := strings.Replace(server.URL, "://", "://user:secret@", 1) + "/f"
			got, err := Read(t.Context(), at, test.limit, quick)
			if test.err == "" {
				if err != nil || string(got) != text {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				return
			}
			if want := strings.Replace(at, "secret", "xxxxx", 1) + ": " + test.err; err == nil || err.Error() != want {
				t.Errorf("got %v\nexpected %s", err, want)
			}
		})
	}
}

func TestPinRefuses(t *testing.T) {
	for raw, want := range map[string]string{
		"http://example.org/f":         `cannot lock file "logo" from "http://example.org/f": a file is locked over https only: over http, anybody on the way could choose its bytes`,
		"https://u:secret@example.org": `cannot lock file "logo" from "https://u:xxxxx@example.org": its URL holds a user or password, which the lock would show to everybody`,
		"://":                          `cannot lock file "logo" from "(not a URL)": cannot read URL: missing protocol scheme`,
	} {
		if _, err := Pin(context.Background(), "logo", raw, &writers{}); err == nil || err.Error() != want {
			t.Errorf("got %v\nexpected %s", err, want)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes 0-1/2", "bytes 5-9/*", "bytes 5-", "bytes */5", "bytes 99999999999999999999-1/1", "bytes 5-4/9", "bytes 5-9/9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseRange(s)
		if err == nil && (p.first < 0 || p.last < p.first || p.total >= 0 && p.total <= p.last || !strings.HasPrefix(s, "bytes ")) {
			t.Errorf("%q gave %+v", s, p)
		}
	})
}
