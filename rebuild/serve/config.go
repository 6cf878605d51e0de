package serve

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/agreement"
)

// FileName is what the file of a service is usually called.
const FileName = "serve.yaml"

// Config is a serve.yaml. The package comment shows one; paths are as written,
// relative to the file.
type Config struct {
	Listen     string // HOST:PORT of the service
	Metrics    string // HOST:PORT on loopback for /metrics and /healthz without TLS; "" for none
	Cert, Key  string // PEM files of the service's certificate
	Rebuilder  string
	Operator   string
	BuilderID  string // "" for the default of operator and name
	SigningKey string // private key of reports; made by a worker at first use. "" in a Docker Engine
	State      string // folder
	Mirror     string // Debian mirror of this machine; "" for its own
	Submitters []Submitter
	Worker     Worker
	Allow      Allow
	Queue      Queue
	Keep       Keep
	Grace      time.Duration // how long running jobs may take to end when the service is told to
}

// Submitter is somebody who may ask. Exactly one of Certificate, Fingerprint and
// CA is set.
type Submitter struct {
	Name        string
	Certificate string        // PEM file of the certificate
	Fingerprint digest.Digest // of its key (SubjectPublicKeyInfo), or of the whole certificate
	CA          string        // PEM file: every certificate that it signed for TLS clients …
	CommonName  string        // … and that has this common name; "" for any
}

// Worker is where workers run: on this machine, or in its Docker Engine.
type Worker struct {
	Docker   bool
	Endpoint string // of the engine; "" for the one that the docker command would use
	TLS      string // folder
	Context  string
}

// Allow says what may be built.
type Allow struct {
	Any         bool            // every definition
	Names       []string        // definitions by name
	Definitions []digest.Digest // definitions by the digest of their file
	Platforms   []string        // "linux/amd64"; empty for all
	Definition  int64           // bytes of a definition
	Lock        int64           // bytes of a lock
	Locals      int64           // bytes of all local inputs of a job
	Result      int64           // bytes of an image
	Time        time.Duration   // of one build
}

// Queue bounds what waits and runs.
type Queue struct {
	Length   int // jobs that wait, those that still send inputs included
	Parallel int // jobs that run at once
	Each     int // jobs of one submitter, waiting, running or not fetched yet
}

// Keep bounds what stays.
type Keep struct {
	Results time.Duration // that nobody has fetched
	Disk    int64         // bytes of the state folder
}

// configLimits: a file of a hundred submitters has some 20 kB.
var configLimits = strictyaml.Limits{Bytes: 1 << 20, Depth: 8, Nodes: 20_000}

// ParseConfig reads a serve.yaml. fileName is only used in messages. The error is
// a *strictyaml.Errors, which names every mistake with its place.
func ParseConfig(fileName string, data []byte) (*Config, error) {
	doc, err := strictyaml.Open(fileName, data, configLimits)
	if err != nil {
		return nil, err
	}
	c := strictyaml.Read(doc, configShape())
	if err := doc.Err(); err != nil {
		return nil, err
	}
	c.check(doc)
	return &c, doc.Err()
}

func (c *Config) check(doc *strictyaml.Document) {
	names := map[string]bool{}
	for i, s := range c.Submitters {
		if names[s.Name] {
			doc.Errorf(doc.At("submitters", i, "name"), "two submitters are named %q", s.Name)
		}
		names[s.Name] = true
		ways := 0
		for _, set := range []bool{s.Certificate != "", !s.Fingerprint.IsZero(), s.CA != ""} {
			if set {
				ways++
			}
		}
		switch {
		case ways != 1:
			doc.Errorf(doc.At("submitters", i), "submitter %q: say one of certificate, fingerprint and ca", s.Name)
		case s.CommonName != "" && s.CA == "":
			doc.Errorf(doc.At("submitters", i, "common-name"), "common-name is for certificates of a ca; a certificate or fingerprint is one already")
		}
	}
	if host, _, err := net.SplitHostPort(c.Metrics); c.Metrics != "" && (err != nil || !isLoopback(host)) {
		doc.Errorf(doc.At("metrics"), "metrics %s: without TLS it is for this machine alone: 127.0.0.1:PORT or [::1]:PORT", strictyaml.Quote(c.Metrics))
	}
	if c.Worker.Docker && c.SigningKey != "" {
		doc.Errorf(doc.At("key"), "key is for local workers; one in a Docker Engine signs with the key in its volume quorate-key-%s", c.Rebuilder)
	}
	if !c.Worker.Docker && c.SigningKey == "" {
		doc.Errorf(doc.At(), "key is missing: the file of the private key that reports are signed with, made at first use")
	}
	if a := c.Allow; !a.Any && len(a.Names) == 0 && len(a.Definitions) == 0 {
		doc.Errorf(doc.At("allow", "definitions"), "definitions is empty: nothing could be built; name some, or say any")
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// allowed is one entry of allow.definitions.
type allowed struct {
	any    bool
	name   string
	digest digest.Digest
}

func configShape() strictyaml.Shape[Config] {
	name := strictyaml.Matching("", agreement.CheckName)
	path := strictyaml.Matching("", func(s string) error {
		if s == "" || !strictyaml.Printable(s) {
			return strictyaml.Refuse("%q is not a path", s)
		}
		return nil
	})
	text := strictyaml.Matching("", func(s string) error {
		if s == "" || !strictyaml.Printable(s) || strings.ContainsAny(s, " \t") {
			return strictyaml.Refuse("%q is not one word", s)
		}
		return nil
	})
	address := strictyaml.Matching("", func(s string) error {
		if _, port, err := net.SplitHostPort(s); err != nil || port == "" || !strictyaml.Printable(s) {
			return strictyaml.Refuse("%q is not HOST:PORT, like 0.0.0.0:7443", s)
		}
		return nil
	})
	uri := strictyaml.Matching("", func(s string) error {
		if !strings.Contains(s, ":") || !strictyaml.Printable(s) || strings.Contains(s, " ") {
			return strictyaml.Refuse("builder id %q must be a URI", s)
		}
		return nil
	})
	// A day is more than any build that somebody would still wait for.
	day := strictyaml.Duration(time.Second, 24*time.Hour, "1s", "24h")
	tls := strictyaml.Object(
		strictyaml.Required("cert", "The service's certificate, with those that signed it.", path, func(c *Config, v string) { c.Cert = v }),
		strictyaml.Required("key", "Its private key.", path, func(c *Config, v string) { c.Key = v }),
	)
	return strictyaml.Object(
		strictyaml.Required("listen", "Where the service answers, as HOST:PORT.", address, func(c *Config, v string) { c.Listen = v }),
		strictyaml.Optional("metrics", "Where /metrics and /healthz answer without TLS: on loopback, as HOST:PORT.", address, func(c *Config, v string) { c.Metrics = v }),
		strictyaml.Required("tls", "The service's certificate.", tls, func(c *Config, v Config) { c.Cert, c.Key = v.Cert, v.Key }),
		strictyaml.Required("rebuilder", "What this machine is called in rebuilders.yaml; its reports say so.", name, func(c *Config, v string) { c.Rebuilder = v }),
		strictyaml.Required("operator", "Who runs it; its reports say so.", name, func(c *Config, v string) { c.Operator = v }),
		strictyaml.Optional("builder-id", "SLSA builder.id of its reports.", uri, func(c *Config, v string) { c.BuilderID = v }),
		strictyaml.Optional("key", "Private key that local workers sign with; made at first use.", path, func(c *Config, v string) { c.SigningKey = v }),
		strictyaml.Required("state", "Folder for jobs, results and the store of inputs.", path, func(c *Config, v string) { c.State = v }),
		strictyaml.Optional("mirror", "Debian mirror to fetch from; by default this machine's own.", text, func(c *Config, v string) { c.Mirror = v }),
		strictyaml.Required("submitters", "Who may ask.", strictyaml.NonEmpty(strictyaml.List(submitterShape(name, path))), func(c *Config, v []Submitter) { c.Submitters = v }),
		strictyaml.Default("worker", "Where workers run.", workerShape(path, text), "{local: {}}", func(c *Config, v Worker) { c.Worker = v }),
		strictyaml.Required("allow", "What may be built.", allowShape(), func(c *Config, v Allow) { c.Allow = v }),
		strictyaml.Default("queue", "How much waits and runs.", queueShape(), "{}", func(c *Config, v Queue) { c.Queue = v }),
		strictyaml.Default("keep", "How much stays.", keepShape(), "{}", func(c *Config, v Keep) { c.Keep = v }),
		strictyaml.Default("grace", "How long running jobs may go on when the service is told to end.", day, "1m", func(c *Config, v time.Duration) { c.Grace = v }),
	)
}

func submitterShape(name, path strictyaml.Shape[string]) strictyaml.Shape[Submitter] {
	return strictyaml.Object(
		strictyaml.Required("name", "What it is called in the log.", name, func(s *Submitter, v string) { s.Name = v }),
		strictyaml.Optional("certificate", "File of its certificate.", path, func(s *Submitter, v string) { s.Certificate = v }),
		strictyaml.Optional("fingerprint", "sha256 of its key (SubjectPublicKeyInfo) or of its certificate.", digestShape(), func(s *Submitter, v digest.Digest) { s.Fingerprint = v }),
		strictyaml.Optional("ca", "File of a CA: whoever it signed a certificate for.", path, func(s *Submitter, v string) { s.CA = v }),
		strictyaml.Optional("common-name", "Common name that a certificate of the ca must have.", strictyaml.Text(), func(s *Submitter, v string) { s.CommonName = v }),
	)
}

func digestShape() strictyaml.Shape[digest.Digest] {
	return strictyaml.Convert(strictyaml.Text(), func(s string) (digest.Digest, error) {
		d, err := digest.Parse(s)
		if err != nil {
			return d, strictyaml.Refuse("%q is not sha256: and 64 hexadecimal digits", s)
		}
		return d, nil
	})
}

func workerShape(path, text strictyaml.Shape[string]) strictyaml.Shape[Worker] {
	docker := strictyaml.Object(
		strictyaml.Optional("endpoint", "Where the engine is: unix://, tcp:// or ssh://.", text, func(w *Worker, v string) { w.Endpoint = v }),
		strictyaml.Optional("tls", "Folder with ca.pem, cert.pem and key.pem.", path, func(w *Worker, v string) { w.TLS = v }),
		strictyaml.Optional("context", "Context of the docker command, instead of an endpoint.", text, func(w *Worker, v string) { w.Context = v }),
	)
	type where struct{ local, docker *Worker }
	both := strictyaml.Object(
		strictyaml.Optional("local", "On this machine.", strictyaml.Object[Worker](), func(w *where, v Worker) { w.local = &v }),
		strictyaml.Optional("docker", "In its Docker Engine.", docker, func(w *where, v Worker) { v.Docker = true; w.docker = &v }),
	)
	return strictyaml.Convert(both, func(w where) (Worker, error) {
		switch {
		case (w.local == nil) == (w.docker == nil):
			return Worker{}, strictyaml.Refuse("expected one of \"local\" and \"docker\"")
		case w.docker != nil:
			return *w.docker, nil
		}
		return *w.local, nil
	})
}

func allowShape() strictyaml.Shape[Allow] {
	definition := strictyaml.Convert(strictyaml.Text(), func(s string) (allowed, error) {
		if d, err := digest.Parse(s); err == nil {
			return allowed{digest: d}, nil
		}
		if s == "any" {
			return allowed{any: true}, nil
		}
		if s == "" || strings.ContainsAny(s, " \t:") || !strictyaml.Printable(s) {
			return allowed{}, strictyaml.Refuse("%q is neither a definition's name, nor the sha256:… of its file, nor any", s)
		}
		return allowed{name: s}, nil
	})
	platform := strictyaml.Matching("", func(s string) error {
		if !strings.Contains(s, "/") || !strictyaml.Printable(s) {
			return strictyaml.Refuse("%q is not a platform like linux/amd64", s)
		}
		return nil
	})
	return strictyaml.Object(
		strictyaml.Required("definitions", "Definitions that may be built: names, sha256:… of their files, or any.", strictyaml.NonEmpty(strictyaml.List(definition)), func(a *Allow, v []allowed) {
			for _, d := range v {
				switch {
				case d.any:
					a.Any = true
				case d.name != "":
					a.Names = append(a.Names, d.name)
				case !d.digest.IsZero():
					a.Definitions = append(a.Definitions, d.digest)
				}
			}
		}),
		strictyaml.Optional("platforms", "Platforms that may be built; by default all.", strictyaml.List(platform), func(a *Allow, v []string) { a.Platforms = v }),
		strictyaml.Default("definition-size", "Largest definition.", strictyaml.Size(), "1MiB", func(a *Allow, v int64) { a.Definition = v }),
		strictyaml.Default("lock-size", "Largest lock.", strictyaml.Size(), "16MiB", func(a *Allow, v int64) { a.Lock = v }),
		strictyaml.Default("locals-size", "All local inputs of a job together.", strictyaml.Size(), "1GiB", func(a *Allow, v int64) { a.Locals = v }),
		strictyaml.Default("result-size", "Largest image.", strictyaml.Size(), "8GiB", func(a *Allow, v int64) { a.Result = v }),
		strictyaml.Default("time", "Longest build.", strictyaml.Duration(time.Second, 7*24*time.Hour, "1s", "168h"), "2h", func(a *Allow, v time.Duration) { a.Time = v }),
	)
}

func queueShape() strictyaml.Shape[Queue] {
	return strictyaml.Object(
		strictyaml.Default("length", "How many jobs may wait.", strictyaml.Integer(1, 1000), "8", func(q *Queue, v int64) { q.Length = int(v) }),
		strictyaml.Default("parallel", "How many run at once.", strictyaml.Integer(1, 64), "1", func(q *Queue, v int64) { q.Parallel = int(v) }),
		strictyaml.Default("each", "How many jobs of one submitter there may be, fetched ones aside.", strictyaml.Integer(1, 1000), "8", func(q *Queue, v int64) { q.Each = int(v) }),
	)
}

func keepShape() strictyaml.Shape[Keep] {
	return strictyaml.Object(
		strictyaml.Default("results", "How long results wait to be fetched.", strictyaml.Duration(time.Minute, 30*24*time.Hour, "1m", "720h"), "24h", func(k *Keep, v time.Duration) { k.Results = v }),
		strictyaml.Default("disk", "How large the state folder may become.", strictyaml.Size(), "50GiB", func(k *Keep, v int64) { k.Disk = v }),
	)
}

// builderPrefix begins the SLSA builder.id of workers behind a service: who is trusted is its
// operator alone.
const builderPrefix = "https://quorate.dev/builders/serve/v1/"

// DefaultBuilderID is the builder.id of a rebuilder behind a service.
func DefaultBuilderID(operator, rebuilder string) string {
	return builderPrefix + operator + "/" + rebuilder
}

func (c *Config) builderID() string {
	if c.BuilderID != "" {
		return c.BuilderID
	}
	return DefaultBuilderID(c.Operator, c.Rebuilder)
}

// allows says why a definition or its platforms may not be built, or "".
func (a *Allow) describe() string {
	var all []string
	all = append(all, a.Names...)
	for _, d := range a.Definitions {
		all = append(all, d.String()[:19]+"…")
	}
	slices.Sort(all)
	return fmt.Sprint(strings.Join(all, ", "))
}
