package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"quorate.dev/builder"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/docker"
	"quorate.dev/rebuild/host/local"
	"quorate.dev/rebuild/host/remote"
	"quorate.dev/rebuild/serve"
)

func serveCmd(ui *terminal) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "serve [FILE]",
		Short: "Lend this machine to other people's rebuilds",
		Long: `Serve answers quorate rebuild on other machines, over HTTPS with certificates on
both sides, as FILE says (by default serve.yaml): who may ask, and what may be
built. Each job is built by one single-use worker, from inputs that this machine
fetches itself, and signed with a key that never leaves it. "quorate rebuilders
init NAME --serve HOST:PORT" makes a first FILE, its certificate and the key.

  listen: "0.0.0.0:7443"
  metrics: "127.0.0.1:7444"      # /metrics and /healthz, for this machine alone
  tls: {cert: tls/cert.pem, key: tls/key.pem}
  rebuilder: osl
  operator: umbra
  key: osl.key
  state: state
  submitters:                    # one by the key of its certificate, many by their CA
    - {name: acme, fingerprint: "sha256:…"}
    - {name: cncf, ca: cncf.pem, common-name: release}
  worker: {local: {}}            # or {docker: {}}
  allow: {definitions: [greeter], platforms: [linux/amd64], time: 1h, result-size: 2GiB}
  queue: {length: 8, parallel: 1}
  keep: {results: 24h, disk: 50GiB}
  grace: 1m

Standard error is the log: who asked for what, and what became of it. Told to end
(SIGTERM), it takes no more jobs, lets running ones end for so long as grace says,
and keeps the rest for its next start; a second signal ends it at once. It is a
trust boundary, and not a scheduler.` +
			exitStatus("it was told to end, or --check found nothing wrong", "", "it cannot serve: bad file, certificate or key, address in use, no isolation"),
		Example: `  quorate serve
  quorate serve /etc/quorate/serve.yaml
  quorate serve --check`,
		Args: takes("[FILE]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := serve.FileName
			if len(args) > 0 {
				path = args[0]
			}
			return runServe(cmd.Context(), ui, path, check)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "only see whether it could serve: read FILE and what it names, and try the worker's isolation")
	return cmd
}

func runServe(ctx context.Context, ui *terminal, path string, check bool) error {
	c, err := readServe(path)
	if err != nil {
		return err
	}
	lent := &lentMachine{machine: &machine{ui: ui}, config: c}
	o, err := lent.options(ctx)
	if err != nil {
		return err
	}
	about := o.Look(ctx)
	if about.Trouble != "" {
		return fmt.Errorf("this machine is not ready: %s", about.Trouble)
	}
	if check {
		if err := serve.Check(c); err != nil {
			return err
		}
		ui.answer("%s of %s: workers in %s; would listen on %s", c.Rebuilder, c.Operator, about.Workers, c.Listen)
		return nil
	}
	o.Log = slog.New(slog.NewTextHandler(ui.err, nil))
	s, err := serve.New(*o)
	if err != nil {
		return err
	}
	defer s.Close()
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %q: %w", c.Listen, err)
	}
	var plain net.Listener
	if c.Metrics != "" {
		if plain, err = net.Listen("tcp", c.Metrics); err != nil {
			listener.Close()
			return fmt.Errorf("cannot listen on %q: %w", c.Metrics, err)
		}
		o.Log.Info("metrics", "address", plain.Addr())
	}
	o.Log.Info("serving", "version", version, "rebuilder", c.Rebuilder, "operator", c.Operator, "address", listener.Addr())
	return s.Run(ctx, listener, plain)
}

// readServe reads the file; what it names lies beside it.
func readServe(path string) (*serve.Config, error) {
	data, err := readSmallFile(path, largestPolicy)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &noServeError{Path: path}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the service's file: %w", err)
	}
	c, err := serve.ParseConfig(path, data)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	names := []*string{&c.Cert, &c.Key, &c.SigningKey, &c.State, &c.Worker.TLS}
	for i := range c.Submitters {
		names = append(names, &c.Submitters[i].Certificate, &c.Submitters[i].CA)
	}
	for _, name := range names {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
	return c, nil
}

// noServeError says that there is no file of a service.
type noServeError struct{ Path string }

func (e *noServeError) Error() string { return fmt.Sprintf("there is no %q", e.Path) }
func (e *noServeError) Hint() string {
	return "make one, with a certificate and the key: quorate rebuilders init NAME --serve HOST:PORT"
}

// lentMachine is this machine as a service uses it.
type lentMachine struct {
	*machine
	config *serve.Config
	engine *docker.Host // nil where workers are processes of this machine
}

// options makes the key at first use, and clears what a killed service left.
func (m *lentMachine) options(ctx context.Context) (*serve.Options, error) {
	c := m.config
	o := &serve.Options{Config: c, Version: version, KeyFile: c.SigningKey, Look: m.look, Remove: m.remove}
	if c.Worker.Docker {
		m.engine = &docker.Host{Endpoint: docker.Endpoint{Address: c.Worker.Endpoint, TLS: c.Worker.TLS, Context: c.Worker.Context}}
		o.Host, o.Prepare = m.engine, m.fetchFor
		var err error
		o.PublicKey, err = m.engine.MakeKey(ctx, c.Rebuilder)
		return o, err
	}
	if _, err := m.isolate(); err != nil {
		return nil, err
	}
	here := &local.Host{Scratch: filepath.Join(c.State, "workers"), Remove: m.remove}
	if err := here.Reap(); err != nil {
		m.ui.warn("cannot remove what an earlier run left: %v", err)
	}
	o.Host = here
	key, err := enrol(ctx, c.SigningKey)
	if err != nil {
		return nil, fmt.Errorf("cannot make the key that reports are signed with: %w", err)
	}
	o.PublicKey = key.PEM()
	return o, nil
}

// look finds out how this machine is.
func (m *lentMachine) look(ctx context.Context) remote.About {
	a := remote.About{Free: freeAt(m.config.State), Kernel: hostFacts(m.config.State)["kernel"]}
	if m.engine == nil {
		s, err := m.isolate()
		if err != nil {
			a.Trouble = err.Error()
			return a
		}
		a.Workers = "local, mapping " + string(s.Mapping())
		return a
	}
	facts, err := m.engine.Check(ctx, m.config.Rebuilder)
	if err != nil {
		a.Trouble = err.Error()
		return a
	}
	a.Workers, a.Trouble = fmt.Sprintf("docker %s, isolation %s", facts.Engine, facts.Row), facts.Trouble
	if facts.Free >= 0 && (a.Free < 0 || facts.Free < a.Free) {
		a.Free = facts.Free
	}
	return a
}

// fetchFor brings the inputs of a job into its store: a worker in an engine has no network.
func (m *lentMachine) fetchFor(ctx context.Context, job host.Job, events func(host.Event)) error {
	d, err := definition.Parse(definition.FileName, job.Definition)
	if err != nil {
		return err
	}
	lock, err := lockfile.Parse(lockfile.FileName, job.Lock)
	if err != nil {
		return err
	}
	if err := lock.Covers(d, builder.AssemblerVersion); err != nil {
		return err
	}
	only, err := choosePlatforms(d, job.Platforms)
	if err != nil {
		return err
	}
	own, err := openWorkerMachine(&terminal{err: m.ui.err, out: m.ui.err, renderer: passOn(events)}, job.InputStore, nil)
	if err != nil {
		return err
	}
	defer own.close()
	return own.fetchInputs(ctx, lock, only, inputFlags{mirror: m.config.Mirror})
}

// passOn is a renderer that tells the story to whoever asked for the job.
type passOn func(host.Event)

func (p passOn) event(e event) { p(hostEvent(e)) }

func (p passOn) line(kind, _, text string) {
	if kind == "warning" {
		p(host.Event{Kind: host.KindWarning, Message: text})
	}
}

func (p passOn) close() {}
