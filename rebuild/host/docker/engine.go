package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/client"
)

// Endpoint says where an engine is. The zero value is the engine that the
// docker command would use: $DOCKER_HOST, or its usual socket.
type Endpoint struct {
	// Address is unix:///path/docker.sock, tcp://host:2376 (with TLS) or
	// ssh://[user@]host[:port], where the docker command must be installed.
	Address string
	// TLS is a folder with ca.pem, cert.pem and key.pem, for tcp.
	TLS string
	// Context names one of the docker command's contexts, instead of the others.
	Context string
}

// String is the endpoint as messages name it.
func (p Endpoint) String() string {
	switch {
	case p.Context != "":
		return "context " + p.Context
	case p.Address != "":
		return p.Address
	}
	return client.DefaultDockerHost
}

// engine is an engine that was reached.
type engine struct {
	endpoint Endpoint
	api      *client.Client
	id       string // its own, letters, digits and dashes (colons in 20.10)
	memory   int64  // of its machine, in bytes
	apparmor bool
	image    string // the worker image's id, as this engine names it

	mu     sync.Mutex
	chosen map[bool]Row // by whether real owners are needed
}

// dialTime is how long an engine may take to answer at all; a name's look-up,
// a TCP connection, and a login by ssh lie in it.
const dialTime = 45 * time.Second

// connect finds the engine and asks who it is.
func connect(ctx context.Context, p Endpoint) (*engine, error) {
	e := &engine{endpoint: p, chosen: map[bool]Row{}}
	found, err := p.resolve()
	if err != nil {
		return nil, err
	}
	options, err := found.options()
	if err != nil {
		return nil, err
	}
	if e.api, err = client.NewClientWithOpts(options...); err != nil {
		return nil, e.failed("be used", err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	info, err := e.api.Info(ctx)
	if err != nil {
		e.close()
		return nil, e.failed("be reached", err)
	}
	version, err := e.api.ServerVersion(ctx)
	if err != nil {
		e.close()
		return nil, e.failed("say its version", err)
	}
	if version.Os != "linux" || version.Arch != runtime.GOARCH {
		e.close()
		return nil, e.failed("run this program", fmt.Errorf("it is for %s/%s, and this is quorate for %s/%s", version.Os, version.Arch, runtime.GOOS, runtime.GOARCH))
	}
	e.id, e.memory = info.ID, info.MemTotal
	for _, option := range info.SecurityOptions {
		e.apparmor = e.apparmor || strings.HasPrefix(option, "name=apparmor")
	}
	return e, nil
}

func (e *engine) close() { _ = e.api.Close() }

// resolve follows a context, and fills in what the docker command would.
func (p Endpoint) resolve() (Endpoint, error) {
	if p.Context != "" && p.Address != "" {
		return p, fmt.Errorf("docker host has both an endpoint, %q, and a context, %q; say one", p.Address, p.Context)
	}
	if p.Context != "" && p.Context != "default" {
		return readContext(configDir(), p.Context)
	}
	if p.Address == "" {
		p.Address = os.Getenv("DOCKER_HOST")
		if p.TLS == "" && os.Getenv("DOCKER_TLS_VERIFY") != "" {
			if p.TLS = os.Getenv("DOCKER_CERT_PATH"); p.TLS == "" {
				p.TLS = configDir()
			}
		}
	}
	if p.Address == "" {
		p.Address = client.DefaultDockerHost
	}
	return p, nil
}

// configDir is where the docker command keeps its configuration.
func configDir() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker")
}

// options are the client's. Nothing is read from the environment here: a file
// of rebuilders means the same wherever it is used.
func (p Endpoint) options() ([]client.Opt, error) {
	u, err := url.Parse(p.Address)
	if err != nil {
		return nil, fmt.Errorf("docker endpoint: %w", err)
	}
	if p.TLS != "" && u.Scheme != "tcp" {
		return nil, fmt.Errorf("docker endpoint %q: certificates are for tcp:// only", p.Address)
	}
	options := []client.Opt{client.WithAPIVersionNegotiation(), client.WithUserAgent("quorate")}
	switch u.Scheme {
	case "unix":
		return append(options, client.WithHost(p.Address)), nil
	case "tcp":
		if p.TLS == "" {
			return nil, fmt.Errorf("docker endpoint %q: without certificates anybody on the way owns that machine; name the folder of ca.pem, cert.pem and key.pem as tls", p.Address)
		}
		file := func(name string) string { return filepath.Join(p.TLS, name) }
		// The order matters: TLS goes into the transport that WithHost has set up.
		return append(options, client.WithHost(p.Address), client.WithTLSClientConfig(file("ca.pem"), file("cert.pem"), file("key.pem"))), nil
	case "ssh":
		args, err := sshArguments(u)
		if err != nil {
			return nil, fmt.Errorf("docker endpoint %q: %w", p.Address, err)
		}
		// The name is only for the header; the connection is whatever ssh makes.
		transport := &http.Client{Transport: &http.Transport{DialContext: sshDialer(args)}}
		return append(options, client.WithHTTPClient(transport), client.WithHost("http://docker.example.com"), client.WithDialContext(sshDialer(args))), nil
	}
	return nil, fmt.Errorf("docker endpoint %q: expected unix://, tcp:// or ssh://", p.Address)
}

// EngineError is an engine that did not do what it was asked.
type EngineError struct {
	Endpoint string
	What     string // what it could not: "be reached", "load the worker's image"
	Err      error
}

func (e *EngineError) Error() string {
	return fmt.Sprintf("docker engine %q cannot %s: %v", e.Endpoint, e.What, e.Err)
}

func (e *EngineError) Unwrap() error { return e.Err }

// MayPass says whether asking again may help: not against what somebody has to mend.
func (e *EngineError) MayPass() bool {
	text := e.Err.Error()
	for _, lasting := range []string{"permission denied", "x509", "certificate", "tls:", "Host key verification failed", "Permission denied", "not what was made here"} {
		if strings.Contains(text, lasting) {
			return false
		}
	}
	return e.What != "run this program" && e.What != "be used"
}

// Hint says what to do about it.
func (e *EngineError) Hint() string {
	switch text := e.Err.Error(); {
	case strings.Contains(text, "no space left on device"):
		return "make room on that machine; docker system df shows what its engine keeps"
	case strings.Contains(text, "permission denied"):
		return "your account may not use that engine's socket; whoever may owns that machine"
	case strings.Contains(text, "x509") || strings.Contains(text, "certificate") || strings.Contains(text, "tls:"):
		return "compare the certificates on both sides: openssl x509 -noout -subject -dates -in cert.pem"
	case strings.Contains(text, "Host key verification failed"):
		return "that machine's ssh key is new or has changed; ask its operator before you accept it"
	case e.What == "be reached":
		return "is it running there? try: docker --host " + e.Endpoint + " version"
	}
	return ""
}

func (e *engine) failed(what string, err error) error {
	var same *EngineError
	if errors.As(err, &same) {
		return err
	}
	return &EngineError{Endpoint: e.endpoint.String(), What: what, Err: err}
}
