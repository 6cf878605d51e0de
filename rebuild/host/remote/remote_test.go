package remote_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/hosttest"
	"quorate.dev/rebuild/host/local"
	"quorate.dev/rebuild/host/remote"
	"quorate.dev/rebuild/serve"
)

func TestMain(m *testing.M) {
	hosttest.Main()
	os.Exit(m.Run())
}

// place is a service of the test's own, and everything around it.
type place struct {
	dir      string
	config   *serve.Config
	hosts    host.Host // of the service
	endpoint string
	stop     func() // ends the service
}

// newPlace makes the certificates and the configuration; nothing runs yet.
func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{dir: t.TempDir()}
	p.certificate(t, "server", time.Now().Add(time.Hour), "127.0.0.1")
	p.certificate(t, "us", time.Now().Add(time.Hour))
	for from, to := range map[string]string{"server/cert.pem": "us/ca.pem"} {
		p.copy(t, from, to)
	}
	text := `
listen: "127.0.0.1:0"
tls: {cert: server/cert.pem, key: server/key.pem}
rebuilder: osl
operator: umbra
key: osl.key
state: state
submitters: [{name: us, certificate: us/cert.pem}]
allow: {definitions: [any]}
queue: {parallel: 4}
`
	c, err := serve.ParseConfig("serve.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c.Cert, c.Key, c.State = p.path("server/cert.pem"), p.path("server/key.pem"), p.path("state")
	c.Submitters[0].Certificate = p.path("us/cert.pem")
	c.Grace = time.Second
	p.config = c
	p.hosts = &local.Host{Scratch: p.path("workers"), Grace: 200 * time.Millisecond}
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

func (p *place) certificate(t *testing.T, name string, until time.Time, hosts ...string) {
	t.Helper()
	c, err := remote.NewCertificate(name, hosts, time.Now().Add(-2*time.Hour), until)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, name+"/cert.pem", c.Cert)
	p.write(t, name+"/key.pem", c.Key)
}

func (p *place) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *place) copy(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(p.path(from))
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, to, data)
}

// testLog is a service's log, shown with a failing test.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// serve runs the service until the test ends or stop is called.
func (p *place) serve(t *testing.T) {
	t.Helper()
	s, err := serve.New(serve.Options{
		Config: p.config, Version: "test", Host: p.hosts, KeyFile: p.path("osl.key"),
		Look: func(context.Context) remote.About { return remote.About{Workers: "local", Free: -1} },
		Log:  slog.New(slog.NewTextHandler(testLog{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", p.config.Listen)
	if err != nil {
		t.Fatal(err)
	}
	p.config.Listen = listener.Addr().String() // the same when it is started again
	p.endpoint = "https://" + p.config.Listen
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, listener, nil) }()
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(p.stop)
}

func (p *place) host() *remote.Host {
	return &remote.Host{Endpoint: p.endpoint, TLS: p.path("us"), Patience: 20 * time.Second}
}

// left names what is there of jobs that have ended.
func (p *place) left(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"workers/*", "state/jobs/*"} {
		found, err := filepath.Glob(p.path(pattern))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		if env, err := os.ReadFile(f); err == nil && strings.Contains(string(env), "TMPDIR="+p.dir) {
			names = append(names, f)
		}
	}
	return names
}

func TestHost(t *testing.T) {
	hosttest.Run(t, func(t *testing.T) hosttest.Place {
		p := newPlace(t)
		p.serve(t)
		return hosttest.Place{Host: p.host(), Left: func() []string { return p.left(t) }}
	})
}
