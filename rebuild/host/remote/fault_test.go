package remote_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorate.dev/builder/store"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/remote"
)

// builder is a host that makes a given image, without a process. wait, if not nil,
// holds it up until it is closed.
type builder struct {
	image []byte
	wait  chan struct{}
	lines int // of output
}

func (b *builder) Start(ctx context.Context, job host.Job, events func(host.Event)) (host.Result, error) {
	events(host.Event{Kind: host.KindPhase, Phase: "step"})
	for i := range b.lines {
		events(host.Event{Kind: host.KindLine, Line: strings.Repeat("x", 1000) + strconv.Itoa(i)})
	}
	if err := os.WriteFile(filepath.Join(job.Results, "log"), []byte("log of "+job.Rebuilder+"\n"), 0o644); err != nil {
		return host.Result{}, err
	}
	if b.wait != nil {
		select {
		case <-b.wait:
		case <-ctx.Done():
			return host.Result{}, context.Cause(ctx)
		}
	}
	dir := filepath.Join(job.Results, "image", "blobs", "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return host.Result{}, err
	}
	d := digest.Of(b.image)
	if err := os.WriteFile(filepath.Join(dir, d.Hex()), b.image, 0o644); err != nil {
		return host.Result{}, err
	}
	if err := os.WriteFile(filepath.Join(job.Results, "image", "index.json"), []byte("{}"), 0o644); err != nil {
		return host.Result{}, err
	}
	report, salt := []byte("report "+job.Nonce), []byte("salt")
	if err := job.Reveal(ctx, host.Commitment(job.Nonce, job.Rebuilder, report, salt)); err != nil {
		return host.Result{}, err
	}
	return host.Result{ReportEnvelope: report, LinkEnvelope: []byte("link"), Salt: salt, Subjects: []host.Subject{{Platform: "linux/amd64", Digest: d}}}, nil
}

// randomBytes are what no compression or coincidence makes smaller.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func newJob(t *testing.T) host.Job {
	nonce := fmt.Sprintf("%x", randomBytes(16))
	return host.Job{Nonce: nonce, Attempt: 1, Rebuilder: "osl", Operator: "umbra", Definition: []byte("ok"), Lock: []byte("lock"), Results: t.TempDir(), Timeout: time.Minute}
}

// checkResult holds a result against what the builder made.
func checkResult(t *testing.T, j host.Job, got host.Result, image []byte) {
	t.Helper()
	if string(got.ReportEnvelope) != "report "+j.Nonce || string(got.LinkEnvelope) != "link" || string(got.Salt) != "salt" {
		t.Errorf("result is %q, %q, %q", got.ReportEnvelope, got.LinkEnvelope, got.Salt)
	}
	b, err := os.ReadFile(filepath.Join(j.Results, "image", "blobs", "sha256", digest.Of(image).Hex()))
	if err != nil || !bytes.Equal(b, image) {
		t.Errorf("image has %d bytes, %v; want the %d that were built", len(b), err, len(image))
	}
}

// cutter is a proxy that cuts every connection after a number of bytes from the
// service, until it has done so a number of times.
type cutter struct {
	net.Listener
	after int64
	left  atomic.Int64

	mu   sync.Mutex
	open []net.Conn
}

// Close ends every connection, too: clients keep them for a while.
func (c *cutter) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.open {
		one.Close()
	}
	return c.Listener.Close()
}

func (p *place) cutter(t *testing.T, after int64, times int64) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, after: after}
	c.left.Store(times)
	to := strings.TrimPrefix(p.endpoint, "https://")
	var all sync.WaitGroup
	all.Go(func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { c.pass(down, to) })
		}
	})
	t.Cleanup(func() { c.Close(); all.Wait() })
	p.endpoint = "https://" + l.Addr().String()
	return c
}

func (c *cutter) pass(down net.Conn, to string) {
	c.mu.Lock()
	c.open = append(c.open, down)
	c.mu.Unlock()
	up, err := net.Dial("tcp", to)
	if err != nil {
		down.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(up, down); up.Close() })
	both.Go(func() {
		defer down.Close()
		defer up.Close()
		if c.left.Load() <= 0 {
			_, _ = io.Copy(down, up)
			return
		}
		if n, _ := io.CopyN(down, up, c.after); n == c.after {
			c.left.Add(-1)
		}
	})
	both.Wait()
}

func TestCut(t *testing.T) {
	for _, after := range []int64{1, 2500, 5000, 300_000, 1_500_000} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			b := &builder{image: randomBytes(3 << 20), lines: 100}
			p.hosts = b
			p.serve(t)
			times := int64(6)
			if after > 100_000 {
				times = 2 // so often there is enough to cut
			}
			c := p.cutter(t, after, times)
			j := newJob(t)
			h := p.host()
			lines := 0
			// The inputs are cut, too: their way is not counted, but its answers are lost.
			archive := randomBytes(2 << 20)
			j.InputStore, j.Locals = localStore(t, archive)
			got, err := h.Start(t.Context(), j, func(e host.Event) {
				if e.Kind == host.KindLine {
					if want := strconv.Itoa(lines); !strings.HasSuffix(e.Line, "x"+want) {
						t.Errorf("line %s… came instead of %s", e.Line[len(e.Line)-6:], want)
					}
					lines++
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			checkResult(t, j, got, b.image)
			if lines != b.lines {
				t.Errorf("got %d lines of output, want %d", lines, b.lines)
			}
			if c.left.Load() > 0 {
				t.Errorf("the line was to be cut %d times more", c.left.Load())
			}
			if left := p.left(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// localStore is a store with one local input.
func localStore(t *testing.T, archive []byte) (string, map[string]host.Local) {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := digest.Of(archive)
	if err := s.Put(bytes.NewReader(archive), d, int64(len(archive))); err != nil {
		t.Fatal(err)
	}
	return dir, map[string]host.Local{"app": {Tree: digest.Of([]byte("tree")), Archive: d}}
}

// TestOnlyMissing: bytes that are here already are not moved, unless they are others.
func TestOnlyMissing(t *testing.T) {
	image := randomBytes(50_000)
	other := bytes.Clone(image)
	other[7] ^= 1
	for _, test := range []struct {
		summary string
		here    []byte // nil for nothing
		moved   bool
	}{{"nothing here", nil, true}, {"the same", image, false}, {"half of it", image[:1000], true}, {"other bytes", other, true}} {
		t.Run(test.summary, func(t *testing.T) {
			p := newPlace(t)
			p.hosts = &builder{image: image}
			p.serve(t)
			var asked atomic.Bool
			p.liar(t, func(path string, a *http.Response) error {
				if strings.HasSuffix(path, "/files/"+digest.Of(image).String()) {
					asked.Store(true)
				}
				return nil
			})
			j := newJob(t)
			p.write(t, "here", test.here)
			j.Have = func(d digest.Digest) (string, bool) {
				return p.path("here"), test.here != nil && d == digest.Of(image)
			}
			got, err := p.host().Start(t.Context(), j, nil)
			if err != nil {
				t.Fatal(err)
			}
			checkResult(t, j, got, image)
			if asked.Load() != test.moved {
				t.Errorf("moved: %v, want %v", asked.Load(), test.moved)
			}
		})
	}
}

// TestGone asks a service that goes away for good in the middle.
func TestGone(t *testing.T) {
	p := newPlace(t)
	b := &builder{image: []byte("image"), wait: make(chan struct{})}
	p.hosts = b
	p.serve(t)
	h := p.host()
	h.Patience = 500 * time.Millisecond
	_, err := h.Start(t.Context(), newJob(t), func(e host.Event) {
		if e.Phase == "step" {
			go p.stop()
		}
	})
	var lost *host.LostError
	if !errors.As(err, &lost) || !strings.HasPrefix(lost.How, `rebuilder "osl" at https://127.0.0.1:`) && !strings.Contains(lost.How, "stopped while it built") {
		t.Errorf("got %T %v, want a *LostError that names the rebuilder", err, err)
	}
}

// liar is a service between us and the real one: it has its certificate, and changes answers.
func (p *place) liar(t *testing.T, change func(path string, a *http.Response) error) {
	t.Helper()
	target, err := url.Parse(p.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	own, err := tls.LoadX509KeyPair(p.path("us/cert.pem"), p.path("us/key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(p.path("us/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}}
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(a *http.Response) error { return change(a.Request.URL.Path, a) }
	proxy.ErrorLog = nil
	s := httptest.NewUnstartedServer(proxy)
	cert, err := tls.LoadX509KeyPair(p.path("server/cert.pem"), p.path("server/key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	p.endpoint = s.URL
}

// endless is a body without an end.
type endless struct{ line []byte }

func (e endless) Read(b []byte) (int, error) { return copy(b, e.line), nil }
func (endless) Close() error                 { return nil }

// body replaces a body.
func body(a *http.Response, b []byte) {
	a.Body.Close()
	a.Body, a.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	a.Header.Set("Content-Length", strconv.Itoa(len(b)))
}

// ending changes the ending in a status.
func ending(a *http.Response, change func(*remote.Ending)) error {
	b, err := io.ReadAll(a.Body)
	if err != nil {
		return err
	}
	var s remote.Status
	if json.Unmarshal(b, &s) == nil && s.Ending != nil {
		change(s.Ending)
		if b, err = json.Marshal(s); err != nil {
			return err
		}
	}
	body(a, b)
	return nil
}

func TestLies(t *testing.T) {
	image := randomBytes(100_000)
	blob := "/files/" + digest.Of(image).String()
	status := func(path string) bool { return strings.Count(path, "/") == 3 }
	file := func(change func(*remote.File)) func(string, *http.Response) error {
		return func(path string, a *http.Response) error {
			if !status(path) {
				return nil
			}
			return ending(a, func(e *remote.Ending) {
				for i := range e.Files {
					if strings.HasPrefix(e.Files[i].Path, "image/blobs/") {
						change(&e.Files[i])
					}
				}
			})
		}
	}
	for _, test := range []struct {
		summary string
		change  func(path string, a *http.Response) error
		want    string // of the error
	}{
		{"an altered blob", func(path string, a *http.Response) error {
			if strings.HasSuffix(path, blob) {
				other := bytes.Clone(image)
				other[500] ^= 1
				body(a, other)
			}
			return nil
		}, "worker's answer makes no sense: image/blobs/sha256/" + digest.Of(image).Hex() + " was promised as " + digest.Of(image).String() + ", and what came is sha256:"},
		{"a truncated blob", func(path string, a *http.Response) error {
			if strings.HasSuffix(path, blob) {
				body(a, image[:1000])
			}
			return nil
		}, " of 100000 bytes of image/blobs/sha256/"},
		{"a blob that is too long", func(path string, a *http.Response) error {
			if strings.HasSuffix(path, blob) {
				body(a, append(bytes.Clone(image), 'x'))
			}
			return nil
		}, "has more than the 100000 bytes that were promised"},
		{"100 GB of log", func(path string, a *http.Response) error {
			if strings.HasSuffix(path, "/files/"+digest.Of([]byte("log of osl\n")).String()) {
				a.Body, a.ContentLength = endless{[]byte("log\n")}, 100<<30
				a.Header.Set("Content-Length", strconv.Itoa(100<<30))
			}
			return nil
		}, "log has more than the 11 bytes that were promised"},
		{"a list that promises 100 GB", file(func(f *remote.File) { f.Size = 100 << 30 }), "has 107374182400 bytes, more than the"},
		{"a name that leads out", file(func(f *remote.File) { f.Path = "image/../../../escaped" }), `its results hold "image/../../../escaped"`},
		{"an absolute name", file(func(f *remote.File) { f.Path = "/etc/escaped" }), `its results hold "/etc/escaped"`},
		{"a name with a backslash", file(func(f *remote.File) { f.Path = `image/..\..\escaped` }), `its results hold "image/..`},
		{"a wrong digest in the list", file(func(f *remote.File) { f.Digest = digest.Of([]byte("x")) }), "the job has no result sha256:"},
		{"a file twice", func(path string, a *http.Response) error {
			if !status(path) {
				return nil
			}
			return ending(a, func(e *remote.Ending) { e.Files = append(e.Files, e.Files[0]) })
		}, "twice"},
		{"no report", func(path string, a *http.Response) error {
			if !status(path) {
				return nil
			}
			return ending(a, func(e *remote.Ending) {
				for i, f := range e.Files {
					if f.Path == remote.FileReport {
						e.Files = append(e.Files[:i:i], e.Files[i+1:]...)
						return
					}
				}
			})
		}, "worker's answer makes no sense: its results have no report"},
		{"an endless status", func(path string, a *http.Response) error {
			if status(path) && a.Request.Method == http.MethodGet {
				a.Body, a.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(`{"id":"`), endless{bytes.Repeat([]byte("x"), 32<<10)})), -1
				a.Header.Del("Content-Length")
			}
			return nil
		}, "more than 8388608 bytes"},
		{"an endless line of events", func(path string, a *http.Response) error {
			if strings.HasSuffix(path, "/events") {
				a.Body = endless{bytes.Repeat([]byte("x"), 32<<10)}
			}
			return nil
		}, "worker's answer makes no sense: a line of more than 262144 bytes"},
		{"garbage", func(path string, a *http.Response) error {
			if strings.HasSuffix(path, "/events") {
				body(a, []byte("<html>\n"))
			}
			return nil
		}, `worker's answer makes no sense: line "<html>"`},
		{"two commitments", func(path string, a *http.Response) error {
			if strings.HasSuffix(path, "/reveal") {
				<-a.Request.Context().Done() // after the first one the client asks, and must not hear of this before it read the second
				return a.Request.Context().Err()
			}
			if strings.HasSuffix(path, "/events") {
				one, two := digest.Of([]byte("1")), digest.Of([]byte("2"))
				body(a, fmt.Appendf(nil, "{\"stream\":\"x\"}\n{\"seq\":1,\"commit\":%q}\n{\"seq\":2,\"commit\":%q}\n", one, two))
			}
			return nil
		}, "worker's answer makes no sense: a second commitment"},
		{"somebody else's page", func(path string, a *http.Response) error {
			a.StatusCode = http.StatusForbidden
			body(a, []byte("<html>proxy</html>"))
			return nil
		}, `rebuilder "osl" at https://127.0.0.1:`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.hosts = &builder{image: image}
			p.serve(t)
			p.liar(t, test.change)
			j := newJob(t)
			h := p.host()
			h.Patience = 300 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := h.Start(ctx, j, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v\nwant …%s…", err, test.want)
			}
			if _, err := os.Stat(filepath.Join(j.Results, "image")); err == nil {
				t.Error("something of the image was kept")
			}
			for _, escaped := range []string{filepath.Join(filepath.Dir(j.Results), "escaped"), "/etc/escaped"} {
				if _, err := os.Stat(escaped); err == nil {
					t.Errorf("%q was written", escaped)
				}
			}
		})
	}
}

// TestCertificates holds what is said of certificates that do not fit.
func TestCertificates(t *testing.T) {
	p := newPlace(t)
	p.hosts = &builder{image: []byte("image")}
	p.serve(t)
	p.certificate(t, "stranger", time.Now().Add(time.Hour))
	p.copy(t, "us/ca.pem", "stranger/ca.pem")
	p.certificate(t, "old", time.Now().Add(-time.Hour))
	p.copy(t, "us/ca.pem", "old/ca.pem")
	p.certificate(t, "imposter", time.Now().Add(time.Hour), "127.0.0.1")
	p.copy(t, "imposter/cert.pem", "imposter/ca.pem")
	for _, test := range []struct{ folder, want, hint string }{
		{"us", "", ""},
		{"stranger", "it does not accept the certificate", "ask the operator to write in serve.yaml: submitters: [{name: YOU, fingerprint: \"sha256:"},
		{"old", "is good from ", "make a new one (quorate rebuilders certificate)"},
		{"imposter", "certificate signed by unknown authority", "ask its operator for the right one, or somebody sits in between"},
		{"nowhere", "cannot read the certificate that the service is checked against", ""},
	} {
		t.Run(test.folder, func(t *testing.T) {
			h := &remote.Host{Endpoint: p.endpoint, TLS: p.path(test.folder), Patience: 5 * time.Second}
			_, err := h.Start(t.Context(), newJob(t), nil)
			var ours *remote.Error
			switch {
			case test.want == "":
				if err != nil {
					t.Error(err)
				}
			case !errors.As(err, &ours) || ours.Rebuilder != "osl" || ours.MayPass():
				t.Errorf("got %T %v, want an *Error that does not pass", err, err)
			case !strings.Contains(err.Error(), test.want) || !strings.Contains(ours.Hint(), test.hint):
				t.Errorf("got %v\nhint %s\nwant …%s…\nhint …%s…", err, ours.Hint(), test.want, test.hint)
			}
		})
	}
}
