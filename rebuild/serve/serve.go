// Package serve lends this machine to other people's rebuilds: an HTTPS service
// that takes jobs from enrolled submitters, has each built by one single-use
// worker, and hands out its signed report. `quorate serve` runs it; package
// rebuild/host/remote is the other end of the line and describes it.
//
// It is a trust boundary, and not a scheduler. On this side of it are the
// operator's machine, mirrors and key; on the other, people who may be mistaken,
// robbed of their certificate, or lying. What they send decides what is built,
// within what [Allow] says, and nothing else:
//
//   - a report names this rebuilder, its operator and its builder.id, or none is
//     made: a job that says others is refused, not obeyed;
//   - where the key lies, where inputs come from, CPUs, file systems and environment
//     of the worker are this side's matter; of a job's surroundings only what is
//     harmless goes through;
//   - inputs that the lock names are fetched here, from mirrors of this machine;
//     only local inputs come from outside, held against their digests;
//   - a nonce is good once for each attempt, for ever after, so that an old request
//     gets no new signature;
//   - nobody sees or touches the jobs of another submitter, nor learns what another has sent.
//
// # serve.yaml
//
//	listen: "0.0.0.0:7443"
//	metrics: "127.0.0.1:7444"            # optional: /metrics and /healthz without TLS, for this machine
//	tls: {cert: tls/cert.pem, key: tls/key.pem}
//	rebuilder: osl
//	operator: umbra
//	key: osl.key                         # made by a worker at first use; never leaves this machine
//	state: state
//	submitters:
//	  - {name: acme, fingerprint: "sha256:…"}
//	  - {name: cncf, ca: cncf.pem, common-name: release}
//	worker: {local: {}}                  # or {docker: {}}: this machine's engine
//	allow: {definitions: [greeter, nginx], platforms: [linux/amd64], time: 1h, result-size: 2GiB}
//	queue: {length: 8, parallel: 1}
//	keep: {results: 24h, disk: 50GiB}
//
// # The state folder
//
//	STATE/
//	    lock                      locked by the service that runs
//	    nonces                    one line "NONCE ATTEMPT SUBMITTER TIME" for each job ever taken
//	    store/                    inputs by digest (package builder/store)
//	    workers/                  work folders of local workers
//	    sent/SUBMITTER/HEX        empty: the submitter has sent these bytes, and may name them
//	    jobs/ID/request.json      the job as it came
//	    jobs/ID/status.json       how far it is; replaced at every change
//	    jobs/ID/results/          report, link, log, image/, lists/
//
// A service that is killed and started again goes on: jobs that waited wait,
// results can be fetched, and what was running is "lost", which an orchestrator
// asks for again as another attempt. Told to end, it takes no more jobs, lets the
// running ones end within Config.Grace, and marks the others lost.
package serve

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"quorate.dev/builder/store"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/remote"
)

// Options are what a service is made of. Paths in Config are absolute.
type Options struct {
	Config  *Config
	Version string    // of quorate
	Host    host.Host // where workers run
	KeyFile string    // job's KeyFile
	// PublicKey is the public half of the key that workers sign with, as PEM.
	PublicKey []byte
	// Prepare brings what a worker cannot fetch itself into the input store; nil for nothing.
	Prepare func(ctx context.Context, job host.Job, events func(host.Event)) error
	// Look finds out how this machine is, for About: Workers, Kernel, Free and Trouble.
	Look func(ctx context.Context) remote.About
	// Remove removes a tree, as os.RemoveAll does; nil for that.
	Remove func(path string) error
	Log    *slog.Logger
	Now    func() time.Time // nil for the real clock
}

// Service is a service with its state open.
type Service struct {
	Options
	certificate tls.Certificate
	submitters  []known
	state       *state
	metrics     *metrics
	stream      string        // of events: this run
	reading     chan struct{} // places of those whose job is just arriving

	mu       sync.Mutex
	changed  chan struct{} // closed, and made anew, when queue or stopping change
	jobs     map[string]*job
	queue    []*job // in the order in which they became ready
	building int    // jobs that run and have no answer yet
	stopping bool
	running  sync.WaitGroup
	looked   remote.About
	lookedAt time.Time
}

// New reads the certificates and opens the state, which nobody else may have open.
func New(o Options) (*Service, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{Options: o, changed: make(chan struct{}), jobs: map[string]*job{}, metrics: newMetrics(), stream: rand.Text(), reading: make(chan struct{}, readers)}
	var err error
	if s.certificate, s.submitters, err = load(o.Config, o.Now()); err != nil {
		return nil, err
	}
	if s.state, err = openState(o.Config.State, o.Remove); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(err, s.state.close())
	}
	return s, nil
}

// Check reads the certificates that a configuration names.
func Check(c *Config) error {
	_, _, err := load(c, time.Now())
	return err
}

func load(c *Config, now time.Time) (own tls.Certificate, submitters []known, err error) {
	if own, err = loadCertificate(c, now); err != nil {
		return own, nil, err
	}
	submitters, err = loadSubmitters(c)
	return own, submitters, err
}

// Close lets go of the state.
func (s *Service) Close() error { return s.state.close() }

const (
	// headerTime bounds the handshake and the head of a request: nobody honest takes
	// longer to say what they want (slow clients would hold connections for nothing).
	headerTime = 15 * time.Second
	// idleTime is for connections between requests; clients pause at most five seconds.
	idleTime = time.Minute
	// maxHeader: our own clients send some 300 bytes.
	maxHeader = 16 << 10
	// maxConnections bounds what strangers can hold open: a submitter has a handful.
	maxConnections = 256
	// shutdownTime is for answers that are on their way when all jobs have ended.
	shutdownTime = 5 * time.Second
)

// Run serves until ctx ends, and returns when no worker runs any more. local, which may
// be nil, is where /metrics and /healthz answer without TLS.
func (s *Service) Run(ctx context.Context, listener, local net.Listener) error {
	quiet := slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn)
	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: quiet,
		ConnState: handshakeDone,
	}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true) // a handful of connections needs no multiplexing, and it has had its own attacks
	failed := make(chan error, 2)
	go func() {
		failed <- server.Serve(tls.NewListener(&boundedListener{Listener: listener, places: make(chan struct{}, maxConnections)}, s.tlsConfig()))
	}()
	var plain *http.Server
	if local != nil {
		plain = &http.Server{Handler: s.localHandler(), ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: headerTime, MaxHeaderBytes: maxHeader, ErrorLog: quiet}
		go func() { failed <- plain.Serve(local) }()
	}
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(nil)
	s.running.Go(func() { s.work(work) })
	caretaker, dismiss := context.WithCancel(ctx)
	defer dismiss()
	go s.care(caretaker)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("cannot serve: %w", err)
	}
	s.stop(stopWork)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if server.Shutdown(last) != nil {
		_ = server.Close()
	}
	if plain != nil {
		_ = plain.Close()
	}
	return err
}

// errServiceStops ends workers when the time of grace is over.
var errServiceStops = errors.New("the service was stopped while it built")

// stop takes no more jobs, and returns when no worker runs any more.
func (s *Service) stop(stopWork context.CancelCauseFunc) {
	s.mu.Lock()
	s.stopping = true
	waiting, running := len(s.queue), s.count(remote.StateRunning)
	s.wake()
	s.mu.Unlock()
	s.Log.Info("stopping", "running", running, "queued", waiting, "grace", s.Config.Grace)
	grace := time.AfterFunc(s.Config.Grace, func() { stopWork(errServiceStops) })
	defer grace.Stop()
	s.running.Wait()
}

// wake tells everybody who waits for a change. s.mu is held.
func (s *Service) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// count is how many jobs are in a state. s.mu is held.
func (s *Service) count(state string) int {
	n := 0
	for _, j := range s.jobs {
		if j.State == state {
			n++
		}
	}
	return n
}

// inputs opens the store of inputs for as long as it is used: while nobody has it
// open, the caretaker can make room in it.
func (s *Service) inputs() (*store.Store, error) {
	return store.Open(s.state.path("store"), store.Options{Remove: s.Remove})
}
