package serve

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/remote"
)

// slowHost is a host whose workers build when they are told to.
type slowHost struct {
	begun chan host.Job
	go_   chan error
	lists []string // names of files that its workers leave as lists
}

func newSlowHost() *slowHost {
	return &slowHost{begun: make(chan host.Job, 10), go_: make(chan error)}
}

func (h *slowHost) Start(ctx context.Context, job host.Job, events func(host.Event)) (host.Result, error) {
	h.begun <- job
	_ = os.WriteFile(filepath.Join(job.Results, "log"), []byte("log\n"), 0o600)
	select {
	case err := <-h.go_:
		if err != nil {
			return host.Result{}, err
		}
	case <-ctx.Done():
		return host.Result{}, context.Cause(ctx)
	}
	if err := os.MkdirAll(filepath.Join(job.Results, "image"), 0o700); err != nil {
		return host.Result{}, err
	}
	if err := os.WriteFile(filepath.Join(job.Results, "image", "index.json"), []byte("{}"), 0o600); err != nil {
		return host.Result{}, err
	}
	for _, name := range h.lists {
		path := filepath.Join(job.Results, host.ListsDir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(name), 0o600)); err != nil {
			return host.Result{}, err
		}
	}
	return host.Result{ReportEnvelope: []byte("report"), LinkEnvelope: []byte("link")}, nil
}

// lab is a service with two submitters, and a clock that can be set.
type lab struct {
	*Service
	t    *testing.T
	dir  string
	host *slowHost
	base string
	log  *logBuffer
	stop func()

	mu    sync.Mutex
	ahead time.Duration
}

type logBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Add(l.ahead)
}

func (l *lab) forward(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ahead += d
}

func certify(t *testing.T, dir, name string, hosts ...string) {
	t.Helper()
	c, err := remote.NewCertificate(name, hosts, time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{"cert.pem": c.Cert, "key.pem": c.Key} {
		if err := os.WriteFile(filepath.Join(dir, name, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// newLab starts a service. change may change its configuration.
func newLab(t *testing.T, change func(*Config)) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir()}
	certify(t, l.dir, "server", "127.0.0.1")
	certify(t, l.dir, "acme")
	certify(t, l.dir, "other")
	l.start(l.path("state"), change)
	return l
}

func (l *lab) start(state string, change func(*Config)) {
	l.t.Helper()
	c, err := ParseConfig("serve.yaml", []byte(`
listen: "127.0.0.1:0"
tls: {cert: server/cert.pem, key: server/key.pem}
rebuilder: osl
operator: umbra
key: osl.key
state: state
submitters: [{name: acme, certificate: acme/cert.pem}, {name: other, certificate: other/cert.pem}]
allow: {definitions: [any]}
grace: 1s
`))
	if err != nil {
		l.t.Fatal(err)
	}
	c.Cert, c.Key, c.State = l.path("server/cert.pem"), l.path("server/key.pem"), state
	for i, s := range c.Submitters {
		c.Submitters[i].Certificate = l.path(s.Name + "/cert.pem")
	}
	if change != nil {
		change(c)
	}
	l.host, l.log = newSlowHost(), &logBuffer{}
	l.Service, err = New(Options{
		Config: c, Version: "1", Host: l.host, KeyFile: "/keys/osl.key", Now: l.now, Log: slog.New(slog.NewTextHandler(l.log, nil)),
		Look: func(context.Context) remote.About { return remote.About{Free: -1} },
	})
	if err != nil {
		l.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	l.base = "https://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s := l.Service
	go func() { ended <- s.Run(ctx, listener, nil) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Error(err)
		}
		if err := s.Close(); err != nil {
			l.t.Error(err)
		}
	})
	l.t.Cleanup(l.stop)
}

// answer is what the service said.
type answer struct {
	status int
	header http.Header
	body   []byte
	remote.Refusal
	st remote.Status
}

// tlsOf shows a submitter's certificate.
func (l *lab) tlsOf(who string) *tls.Config {
	l.t.Helper()
	own, err := tls.LoadX509KeyPair(l.path(who+"/cert.pem"), l.path(who+"/key.pem"))
	if err != nil {
		l.t.Fatal(err)
	}
	ca, err := os.ReadFile(l.path("server/cert.pem"))
	if err != nil {
		l.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}
}

// ask asks as a submitter.
func (l *lab) ask(who, method, path string, body []byte) answer {
	l.t.Helper()
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: l.tlsOf(who)}}
	q, err := http.NewRequest(method, l.base+path, bytes.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	a, err := c.Do(q)
	if err != nil {
		l.t.Fatal(err)
	}
	defer a.Body.Close()
	var got answer
	got.status, got.header = a.StatusCode, a.Header
	if got.body, err = io.ReadAll(a.Body); err != nil {
		l.t.Fatal(err)
	}
	if a.StatusCode >= 400 {
		_ = json.Unmarshal(got.body, &got.Refusal)
	} else {
		_ = json.Unmarshal(got.body, &got.st)
	}
	return got
}

func id() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x", b)
}

func request(change func(*remote.Request)) []byte {
	q := &remote.Request{Nonce: id(), Attempt: 1, Rebuilder: "osl", Operator: "umbra", Definition: []byte("definition"), Lock: []byte("lock")}
	if change != nil {
		change(q)
	}
	b, _ := json.Marshal(q)
	return b
}

// submit submits a job that must be taken.
func (l *lab) submit(who string, change func(*remote.Request)) string {
	l.t.Helper()
	job := id()
	if a := l.ask(who, "PUT", "/v1/jobs/"+job, request(change)); a.status != 200 {
		l.t.Fatalf("submission: %d %s", a.status, a.body)
	}
	return job
}

// until waits for a state.
func (l *lab) until(who, job, state string) remote.Status {
	l.t.Helper()
	for range 500 {
		if a := l.ask(who, "GET", "/v1/jobs/"+job, nil); a.st.State == state {
			return a.st
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.t.Fatalf("job did not become %s", state)
	return remote.Status{}
}

// refused checks an answer.
func (l *lab) refused(a answer, status int, code, part string) {
	l.t.Helper()
	if a.status != status || a.Code != code || !strings.Contains(a.Message, part) {
		l.t.Errorf("got %d %s; want %d, %s with …%s…", a.status, a.body, status, code, part)
	}
}

func TestAdmit(t *testing.T) {
	const definition = "apiVersion: quorate/v1\nname: %s\nplatforms: [linux/amd64]\nepoch: 2026-11-01T00:00:00Z\ninputs:\n  debian: {suite: bookworm}\nimage:\n  packages: [hello]\n"
	good := []byte(fmt.Sprintf(definition, "greeter"))
	pinned := []byte(fmt.Sprintf(definition, "pinned"))
	l := newLab(t, func(c *Config) {
		c.Allow = Allow{Names: []string{"greeter"}, Definitions: []digest.Digest{digest.Of(pinned)}, Platforms: []string{"linux/amd64"},
			Definition: 1000, Lock: 1000, Locals: 1000, Result: 1000, Time: time.Hour}
		c.Queue.Length, c.Queue.Each = 100, 100
	})
	for _, test := range []struct {
		summary string
		change  func(*remote.Request)
		status  int
		code    string
		want    string
	}{
		{"by name", nil, 200, "", ""},
		{"by digest", func(q *remote.Request) { q.Definition = pinned }, 200, "", ""},
		{"another name", func(q *remote.Request) { q.Definition = []byte(fmt.Sprintf(definition, "elsewhere")) }, 403, remote.CodeDenied, `the definition "elsewhere" (sha256:`},
		{"no definition", func(q *remote.Request) { q.Definition = nil }, 400, remote.CodeBad, "job has no definition"},
		{"a definition that is none", func(q *remote.Request) { q.Definition = []byte("x: 1") }, 400, remote.CodeBad, "the definition cannot be read: quorate.yaml:1:1: "},
		{"a large definition", func(q *remote.Request) { q.Definition = make([]byte, 1001) }, 403, remote.CodeDenied, "the definition has 1001 bytes, and 1000 are allowed"},
		{"a large lock", func(q *remote.Request) { q.Lock = make([]byte, 1001) }, 403, remote.CodeDenied, "the lock has 1001 bytes"},
		{"large local inputs", func(q *remote.Request) {
			d := digest.Of([]byte("x"))
			q.Locals = map[string]remote.Local{"a": {Local: host.Local{Tree: d, Archive: d}, Size: 600}, "b": {Local: host.Local{Tree: d, Archive: d}, Size: 600}}
		}, 403, remote.CodeDenied, "the local inputs have more than the 1000 bytes"},
		{"local inputs that overflow", func(q *remote.Request) {
			d := digest.Of([]byte("x"))
			q.Locals = map[string]remote.Local{"a": {Local: host.Local{Tree: d, Archive: d}, Size: 1 << 62}, "b": {Local: host.Local{Tree: d, Archive: d}, Size: 1 << 62}}
		}, 403, remote.CodeDenied, "the local inputs have more than the 1000 bytes"},
		{"another platform", func(q *remote.Request) { q.Platforms = []string{"linux/arm64"} }, 403, remote.CodeDenied, `the platform "linux/arm64" is not one`},
		{"another rebuilder", func(q *remote.Request) { q.Rebuilder = "ams" }, 403, remote.CodeIdentity, `this is the rebuilder "osl" of operator "umbra", and the job is for "ams" of "umbra"`},
		{"another operator", func(q *remote.Request) { q.Operator = "acme" }, 403, remote.CodeIdentity, `and the job is for "osl" of "acme"`},
		{"another builder.id", func(q *remote.Request) { q.BuilderID = "https://x" }, 403, remote.CodeIdentity, `and the job is for "https://x"`},
		{"a variable that loads code", func(q *remote.Request) {
			q.Surroundings.Environment = map[string]string{"LD_PRELOAD": "/tmp/x.so"}
		}, 400, remote.CodeBad, `job sets the environment variable "LD_PRELOAD"`},
		{"a time zone that is a file", func(q *remote.Request) { q.Surroundings.Environment = map[string]string{"TZ": "../../etc/shadow"} }, 400, remote.CodeBad, `job sets the environment variable "TZ"`},
		{"a time zone", func(q *remote.Request) {
			q.Surroundings.Environment = map[string]string{"TZ": "America/St_Johns", "LC_ALL": "fr_CH.UTF-8"}
		}, 200, "", ""},
		{"CPUs of this machine", func(q *remote.Request) { q.Surroundings.CPUs = []int{0} }, 400, remote.CodeBad, "job asks for CPUs"},
		{"a nonce that is none", func(q *remote.Request) { q.Nonce = "n" }, 400, remote.CodeBad, `job has the nonce "n"`},
		{"a name that leads out", func(q *remote.Request) { q.Rebuilder = "../x" }, 400, remote.CodeBad, `name "../x"`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			body := request(func(q *remote.Request) {
				q.Definition = good
				if test.change != nil {
					test.change(q)
				}
			})
			a := l.ask("acme", "PUT", "/v1/jobs/"+id(), body)
			if a.status != test.status || a.Code != test.code || !strings.Contains(a.Message, test.want) {
				t.Errorf("got %d %s\nwant %d, %s with …%s…", a.status, a.body, test.status, test.code, test.want)
			}
			if a.status >= 400 && a.Code != remote.CodeBad && a.Hint == "" {
				t.Errorf("%s has no hint", a.body)
			}
		})
	}
	l.refused(l.ask("acme", "PUT", "/v1/jobs/"+id(), make([]byte, 2<<20)), 413, remote.CodeDenied, "the job has more than 1051240 bytes")
	l.refused(l.ask("acme", "PUT", "/v1/jobs/x", request(nil)), 400, remote.CodeBad, `job id "x"`)
	l.refused(l.ask("acme", "PUT", "/v1/jobs/"+id(), []byte(`{"nonce": 1}`)), 400, remote.CodeBad, "job is not as expected")
	l.refused(l.ask("acme", "PUT", "/v1/jobs/"+id(), append(request(nil), "{}"...)), 400, remote.CodeBad, "something follows")
	l.refused(l.ask("acme", "PUT", "/v1/jobs/"+id(), []byte(`{"keyFile": "/etc/shadow"}`)), 400, remote.CodeBad, `unknown field "keyFile"`)
	l.refused(l.ask("acme", "GET", "/v2/jobs", nil), 404, remote.CodeNotYours, "it speaks version 1 of the protocol")
}

// A client that sends all of a job before it reads is told why it is refused.
func TestRefusedWhileWriting(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Allow.Definition, c.Allow.Lock = 1000, 1000 })
	c, err := tls.Dial("tcp", strings.TrimPrefix(l.base, "https://"), l.tlsOf("acme"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const size = 8 << 20
	if _, err := fmt.Fprintf(c, "PUT /v1/jobs/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", id(), size); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if i == 4 {
			time.Sleep(time.Second) // longer than net/http waits before it closes
		}
		if _, err := c.Write(make([]byte, size/8)); err != nil {
			t.Fatalf("piece %d: %v", i, err)
		}
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %v, %v", answer, err)
	}
}

func TestQueue(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Queue.Length, c.Queue.Each = 1, 3 })
	one := l.submit("acme", nil)
	work := <-l.host.begun
	if work.KeyFile != "/keys/osl.key" || work.Rebuilder != "osl" || work.BuilderID != "https://quorate.dev/builders/serve/v1/umbra/osl" || work.Timeout != 2*time.Hour {
		t.Errorf("the worker's job is %+v", work)
	}
	two := l.submit("acme", nil)
	if s := l.until("acme", two, remote.StateQueued); s.Position != 1 {
		t.Errorf("the second job has place %d", s.Position)
	}
	full := l.ask("acme", "PUT", "/v1/jobs/"+id(), request(nil))
	l.refused(full, 429, remote.CodeBusy, "its queue is full (1 jobs wait)")
	if full.header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After is %q", full.header.Get("Retry-After"))
	}
	l.host.go_ <- nil
	s := l.until("acme", one, remote.StateEnded)
	if s.Ending.Kind != remote.EndDone || len(s.Ending.Files) != 4 {
		t.Errorf("ending is %+v", s.Ending)
	}
	<-l.host.begun
	l.submit("acme", nil)
	// Three of one submitter are its share, but another has room … when the queue has.
	l.refused(l.ask("acme", "PUT", "/v1/jobs/"+id(), request(nil)), 429, remote.CodeBusy, "its queue is full")
	if a := l.ask("acme", "DELETE", "/v1/jobs/"+two, nil); a.status != 204 { // it runs
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	l.refused(l.ask("acme", "GET", "/v1/jobs/"+two, nil), 404, remote.CodeNotYours, "there is no job")
	if _, err := os.Stat(l.path("state/jobs/" + two)); err == nil {
		t.Error("its folder is still there")
	}
}

func TestShare(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Queue.Each = 1 })
	l.submit("acme", nil)
	l.refused(l.ask("acme", "PUT", "/v1/jobs/"+id(), request(nil)), 429, remote.CodeBusy, "it has 1 jobs of yours already")
	l.submit("other", nil)
}

func TestReplay(t *testing.T) {
	l := newLab(t, nil)
	nonce, job := id(), id()
	as := func(attempt int) []byte {
		return request(func(q *remote.Request) { q.Nonce, q.Attempt = nonce, attempt })
	}
	first := as(1)
	for range 2 { // a lost answer is asked for again
		if a := l.ask("acme", "PUT", "/v1/jobs/"+job, first); a.status != 200 || a.st.ID != job {
			t.Fatalf("got %d %s", a.status, a.body)
		}
	}
	replay := "the nonce " + nonce + " was used before"
	l.refused(l.ask("acme", "PUT", "/v1/jobs/"+id(), first), 409, remote.CodeReplay, replay)
	l.refused(l.ask("acme", "PUT", "/v1/jobs/"+job, as(2)), 409, remote.CodeReplay, replay) // the id is taken
	l.refused(l.ask("other", "PUT", "/v1/jobs/"+id(), as(2)), 409, remote.CodeReplay, replay)
	if a := l.ask("acme", "PUT", "/v1/jobs/"+id(), as(2)); a.status != 200 {
		t.Errorf("another attempt: %d %s", a.status, a.body)
	}
	l.ask("acme", "DELETE", "/v1/jobs/"+job, nil)
	l.stop()
	l.start(l.path("state"), nil)
	l.refused(l.ask("acme", "PUT", "/v1/jobs/"+id(), first), 409, remote.CodeReplay, replay)
	l.refused(l.ask("acme", "PUT", "/v1/jobs/"+id(), as(2)), 409, remote.CodeReplay, replay)
}

// TestKilled opens a copy of the state of a running service: what SIGKILL leaves.
func TestKilled(t *testing.T) {
	l := newLab(t, nil)
	done := l.submit("acme", nil)
	<-l.host.begun
	l.host.go_ <- nil
	l.until("acme", done, remote.StateEnded)
	running := l.submit("acme", nil)
	<-l.host.begun
	queued := l.submit("acme", nil)
	archive := []byte("archive")
	d := digest.Of(archive)
	waiting := l.submit("acme", func(q *remote.Request) {
		q.Locals = map[string]remote.Local{"app": {Local: host.Local{Tree: d, Archive: d}, Size: int64(len(archive))}}
	})
	if err := os.CopyFS(l.path("copy"), os.DirFS(l.path("state"))); err != nil {
		t.Fatal(err)
	}
	l.stop()
	if err := os.WriteFile(l.path("copy/nonces"), append(must(os.ReadFile(l.path("copy/nonces"))), "0011"...), 0o600); err != nil { // torn
		t.Fatal(err)
	}
	if err := os.MkdirAll(l.path("copy/jobs/.new-x"), 0o700); err != nil { // half made
		t.Fatal(err)
	}
	l.start(l.path("copy"), nil)
	if s := l.until("acme", done, remote.StateEnded); s.Ending.Kind != remote.EndDone {
		t.Errorf("what had ended is %+v", s.Ending)
	} else if a := l.ask("acme", "GET", "/v1/jobs/"+done+"/files/"+digest.Of([]byte("report")).String(), nil); string(a.body) != "report" {
		t.Errorf("its report is %d %q", a.status, a.body)
	}
	if s := l.until("acme", running, remote.StateEnded); s.Ending.Kind != remote.EndLost {
		t.Errorf("what ran is %+v", s.Ending)
	}
	if w := <-l.host.begun; w.Nonce != l.until("acme", queued, remote.StateRunning).Nonce {
		t.Errorf("what was queued does not run, but %+v", w)
	}
	if s := l.until("acme", waiting, remote.StateWaiting); len(s.Missing) != 1 || s.Missing[0].Digest != d {
		t.Errorf("what waited lacks %+v", s.Missing)
	}
	if a := l.ask("acme", "PUT", "/v1/jobs/"+waiting+"/inputs/"+d.String()+"?offset=0", archive); a.status != 204 {
		t.Errorf("sending: %d %s", a.status, a.body)
	}
	l.until("acme", waiting, remote.StateQueued)
	if _, err := os.Stat(l.path("copy/jobs/.new-x")); err == nil {
		t.Error("what was half made is still there")
	}
	// Told to end, it ends what runs after its time of grace, and keeps what waits.
	l.stop()
	l.start(l.path("copy"), nil)
	if s := l.until("acme", queued, remote.StateEnded); s.Ending.Kind != remote.EndLost || s.Ending.Message != "the service was stopped while it built" {
		t.Errorf("what ran when it was told to end is %+v", s.Ending)
	}
	l.until("acme", waiting, remote.StateRunning)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestNoncesAreNotGuessed(t *testing.T) {
	l := newLab(t, nil)
	l.stop()
	if err := os.WriteFile(l.path("state/nonces"), []byte("what is this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openState(l.path("state"), nil); err == nil || !strings.Contains(err.Error(), `line "what is this\n" is not one of ours`) {
		t.Errorf("got %v", err)
	}
}

func TestForgotten(t *testing.T) {
	l := newLab(t, nil)
	ended := l.submit("acme", nil)
	<-l.host.begun
	l.host.go_ <- nil
	l.until("acme", ended, remote.StateEnded)
	running := l.submit("acme", nil)
	<-l.host.begun
	queued := l.submit("acme", nil)
	l.forward(abandonedAfter - time.Second)
	l.goRound()
	for job, state := range map[string]string{ended: remote.StateEnded, running: remote.StateRunning, queued: remote.StateQueued} {
		l.until("acme", job, state) // which is also hearing of it
	}
	l.forward(abandonedAfter + time.Second)
	l.goRound()
	if s := l.until("acme", running, remote.StateEnded); s.Ending.Kind != remote.EndStopped {
		t.Errorf("what nobody waits for is %+v", s.Ending)
	}
	l.refused(l.ask("acme", "GET", "/v1/jobs/"+queued, nil), 404, remote.CodeNotYours, "results that nobody fetches are forgotten after 24h")
	l.until("acme", ended, remote.StateEnded)
	l.forward(24 * time.Hour)
	l.goRound()
	l.refused(l.ask("acme", "GET", "/v1/jobs/"+ended, nil), 404, remote.CodeNotYours, "there is no job")
	if list := must(os.ReadDir(l.path("state/jobs"))); len(list) != 0 {
		t.Errorf("left: %v", list)
	}
}

// TestOthers: nobody sees or touches what is another's.
func TestOthers(t *testing.T) {
	l := newLab(t, nil)
	archive := []byte("secret archive")
	d := digest.Of(archive)
	local := func(q *remote.Request) {
		q.Locals = map[string]remote.Local{"app": {Local: host.Local{Tree: d, Archive: d}, Size: int64(len(archive))}}
	}
	job := l.submit("acme", local)
	send := "/v1/jobs/" + job + "/inputs/" + d.String()
	for _, q := range []struct{ method, path string }{
		{"GET", ""}, {"DELETE", ""}, {"GET", "/events?after=0"}, {"GET", "/files/" + d.String()}, {"PUT", "/inputs/" + d.String() + "?offset=0"}, {"POST", "/reveal"},
	} {
		l.refused(l.ask("other", q.method, "/v1/jobs/"+job+q.path, nil), 404, remote.CodeNotYours, "there is no job")
	}
	if a := l.ask("other", "GET", "/v1/jobs", nil); strings.TrimSpace(string(a.body)) != "[]" {
		t.Errorf("another's list is %s", a.body)
	}
	if a := l.ask("acme", "GET", "/v1/jobs", nil); !strings.Contains(string(a.body), job) {
		t.Errorf("one's own list is %s", a.body)
	}
	l.refused(l.ask("acme", "POST", "/v1/jobs/"+job+"/reveal", nil), 409, remote.CodeState, "the job has no answer yet")
	l.refused(l.ask("acme", "GET", "/v1/jobs/"+job+"/files/"+d.String(), nil), 409, remote.CodeState, "the job has not ended yet")

	// What is sent must be what was promised, and goes on where it was cut.
	l.refused(l.ask("acme", "PUT", send+"?offset=5", archive[5:]), 409, remote.CodeState, "0 bytes of sha256:")
	l.refused(l.ask("acme", "PUT", send+"?offset=0", append(bytes.Clone(archive), 'x')), 422, remote.CodeSent, "what was sent is not sha256:")
	l.refused(l.ask("acme", "PUT", send+"?offset=0", []byte("Secret archive")), 422, remote.CodeSent, "what was sent is not sha256:")
	l.refused(l.ask("acme", "PUT", send+"?offset=0", archive[:6]), 503, remote.CodeSent, "only 6 of 14 bytes")
	if s := l.until("acme", job, remote.StateWaiting); s.Missing[0].Have != 6 {
		t.Errorf("it has %d bytes", s.Missing[0].Have)
	}
	if a := l.ask("acme", "PUT", send+"?offset=6", archive[6:]); a.status != 204 {
		t.Fatalf("the rest: %d %s", a.status, a.body)
	}
	<-l.host.begun
	// It is not asked for again, but another submitter must show that it has it.
	again := l.submit("acme", local)
	if s := l.until("acme", again, remote.StateQueued); len(s.Missing) != 0 {
		t.Errorf("it is asked for again: %+v", s.Missing)
	}
	others := l.submit("other", local)
	if s := l.until("other", others, remote.StateWaiting); len(s.Missing) != 1 || s.Missing[0].Have != 0 {
		t.Errorf("another lacks %+v", s.Missing)
	}
	send = "/v1/jobs/" + others + "/inputs/" + d.String() + "?offset=0"
	l.refused(l.ask("other", "PUT", send, []byte("Secret archive")), 422, remote.CodeSent, "what was sent is not sha256:")
	if a := l.ask("other", "PUT", send, archive); a.status != 204 {
		t.Errorf("another sends it: %d %s", a.status, a.body)
	}
}

// TestLists: lists of what steps left are told of only to those who ask for them, since older clients
// refuse files that they do not know; and nothing else passes for one.
func TestLists(t *testing.T) {
	l := newLab(t, nil)
	name := host.ListName(digest.Of([]byte("tree")))
	l.host.lists = []string{name}
	job := l.submit("acme", nil)
	<-l.host.begun
	l.host.go_ <- nil
	paths := func(s remote.Status) string {
		var all []string
		for _, f := range s.Ending.Files {
			all = append(all, f.Path)
		}
		return strings.Join(all, " ")
	}
	if got, want := paths(l.until("acme", job, remote.StateEnded)), "image/index.json link log report"; got != want {
		t.Errorf("who does not ask is told of %s, expected %s", got, want)
	}
	all := l.ask("acme", "GET", "/v1/jobs/"+job+"?lists=1", nil)
	if got, want := paths(all.st), "image/index.json link lists/"+name+" log report"; got != want {
		t.Errorf("who asks is told of %s, expected %s", got, want)
	}
	if a := l.ask("acme", "GET", "/v1/jobs/"+job+"/files/"+digest.Of([]byte(name)).String(), nil); a.status != 200 || string(a.body) != name {
		t.Errorf("the list is %d %s", a.status, a.body)
	}
	for _, bad := range []string{"x.gz", "deep/" + name, strings.ToUpper(name)} {
		l.host.lists = []string{bad}
		job := l.submit("acme", nil)
		<-l.host.begun
		l.host.go_ <- nil
		if s := l.until("acme", job, remote.StateEnded); s.Ending.Kind != remote.EndFailed || !strings.Contains(s.Ending.Message, "which is no result") {
			t.Errorf("%s: %+v", bad, s.Ending)
		}
	}
}

func TestResultTooLarge(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Allow.Result = 1 })
	job := l.submit("acme", nil)
	<-l.host.begun
	l.host.go_ <- nil
	s := l.until("acme", job, remote.StateEnded)
	if s.Ending.Kind != remote.EndFailed || s.Ending.Message != "the image has more than the 1 bytes that this service hands out (allow.result-size)" {
		t.Errorf("ending is %+v", s.Ending)
	}
}

func TestDiskFull(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Keep.Disk = 100 << 10 })
	store := must(l.inputs())
	big := bytes.Repeat([]byte("x"), 80<<10)
	if err := store.Put(bytes.NewReader(big), digest.Of(big), int64(len(big))); err != nil {
		t.Fatal(err)
	}
	// While somebody uses the store, nothing can go.
	if err := os.WriteFile(l.path("state/ballast"), make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	full := l.ask("acme", "PUT", "/v1/jobs/"+id(), request(nil))
	l.refused(full, 503, remote.CodeFull, "its disk is full: ")
	if full.header.Get("Retry-After") != "60" {
		t.Errorf("Retry-After is %q", full.header.Get("Retry-After"))
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	l.submit("acme", nil) // what nobody uses has gone
	if s := must(l.inputs()); s.Has(digest.Of(big), -1) {
		t.Error("the old input is still there")
	}
}

func TestCertificateAuthority(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir, "server", "127.0.0.1")
	ca, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, dir: dir}
	for name, c := range map[string]struct {
		common string
		until  time.Duration
	}{"release": {"release", time.Hour}, "intern": {"intern", time.Hour}, "late": {"release", -time.Minute}} {
		cert, key := must2(ca.sign(c.common, time.Now().Add(c.until)))
		if err := os.MkdirAll(l.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l.path(name+"/cert.pem"), cert, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l.path(name+"/key.pem"), key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(l.path("ca.pem"), ca.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	l.start(l.path("state"), func(c *Config) {
		c.Submitters = []Submitter{{Name: "cncf", CA: l.path("ca.pem"), CommonName: "release"}}
	})
	job := l.submit("release", nil)
	if !strings.Contains(l.log.String(), "submitter=cncf") || job == "" {
		t.Errorf("log is %s", l.log)
	}
	for name, want := range map[string]string{
		"intern": "certificate CN=intern with the key sha256:[0-9a-f]+ is enrolled for nobody", "late": "certificate CN=release is good from",
	} {
		own := must(tls.LoadX509KeyPair(l.path(name+"/cert.pem"), l.path(name+"/key.pem")))
		conn, err := tls.Dial("tcp", strings.TrimPrefix(l.base, "https://"), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{own}})
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "bad certificate") {
			t.Errorf("%s: got %v", name, err)
		}
		waitFor(t, func() bool { return regexp.MustCompile(want).MatchString(l.log.String()) })
	}
	// No certificate, and an older TLS.
	for _, c := range []*tls.Config{{InsecureSkipVerify: true}, {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(l.base, "https://"), c)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || err == io.EOF {
			t.Errorf("got %v, want an alert", err)
		}
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 200 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it did not come to pass")
}

// TestMetrics reads what is written as Prometheus does (its text format, line by line).
func TestMetrics(t *testing.T) {
	l := newLab(t, nil)
	job := l.submit("acme", nil)
	<-l.host.begun
	l.host.go_ <- &host.WorkerError{Message: "no"}
	l.until("acme", job, remote.StateEnded)
	l.ask("acme", "PUT", "/v1/jobs/x", nil)
	text := string(l.ask("acme", "GET", "/metrics", nil).body)
	line := regexp.MustCompile(`^(# (HELP|TYPE) quorate_serve_[a-z_]+ .+|quorate_serve_[a-z_]+(\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\})? [0-9.]+)$`)
	for _, s := range strings.Split(strings.TrimSpace(text), "\n") {
		if !line.MatchString(s) {
			t.Errorf("line %q is none of the format", s)
		}
	}
	for _, want := range []string{`quorate_serve_jobs_ended_total{outcome="error"} 1`, `quorate_serve_jobs{state="ended"} 1`, `quorate_serve_refused_total{code="bad-request"} 1`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if a := l.ask("acme", "GET", "/healthz", nil); a.status != 200 || string(a.body) != "ok\n" {
		t.Errorf("health is %d %q", a.status, a.body)
	}
}

func TestJournal(t *testing.T) {
	j := newJournal()
	for i := range 10_000 {
		j.say(remote.Message{Event: &host.Event{Kind: host.KindLine, Line: strings.Repeat("ä", 400) + fmt.Sprint(i)}})
	}
	lines, forgotten, _ := j.after(0)
	if forgotten == 0 || int(forgotten)+len(lines) != 10_000 || j.size > journalSize {
		t.Errorf("%d forgotten, %d kept, %d bytes", forgotten, len(lines), j.size)
	}
	if lines, forgotten, _ := j.after(9_999); len(lines) != 1 || forgotten != 0 || !strings.Contains(string(lines[0]), `"seq":10000,`) {
		t.Errorf("the last is %s, %d forgotten", lines, forgotten)
	}
	j.say(remote.Message{Event: &host.Event{Line: strings.Repeat("ä", maxWords)}})
	if lines, _, _ := j.after(10_000); len(lines[0]) > remote.MaxMessage || !strings.Contains(string(lines[0]), "ä…") {
		t.Errorf("a long line has %d bytes", len(lines[0]))
	}
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}
