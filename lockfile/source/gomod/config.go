package gomod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"

	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/httpfile"
)

// Config says how this machine reaches modules: the variables of the go
// command (go help environment) that are about that.
type Config struct {
	Proxy   string // GOPROXY
	NoProxy string // GONOPROXY, else GOPRIVATE
	SumDB   string // GOSUMDB
	NoSumDB string // GONOSUMDB, else GOPRIVATE
}

var variables = []string{"GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE"}

// ReadConfig asks the go command for its configuration, which knows all places
// where it is kept. Where there is no go command, the environment and the
// user's file of `go env -w` are read.
func ReadConfig() (*Config, error) {
	values, err := fromGo()
	if errors.Is(err, exec.ErrNotFound) {
		values, err = fromFile()
	}
	if err != nil {
		return nil, err
	}
	c := &Config{Proxy: values["GOPROXY"], NoProxy: values["GONOPROXY"], SumDB: values["GOSUMDB"], NoSumDB: values["GONOSUMDB"]}
	if c.NoProxy == "" {
		c.NoProxy = values["GOPRIVATE"]
	}
	if c.NoSumDB == "" {
		c.NoSumDB = values["GOPRIVATE"]
	}
	return c, nil
}

func fromGo() (map[string]string, error) {
	cmd := exec.Command("go", append([]string{"env", "-json"}, variables...)...)
	cmd.Dir = "/" // no go.mod of a project has a say
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration of the go command: %w", err)
	}
	values := map[string]string{}
	if err := json.Unmarshal(out, &values); err != nil {
		return nil, fmt.Errorf("cannot read the configuration of the go command: %w", err)
	}
	return values, nil
}

// fromFile reads what the go command would: lines NAME=value, the environment above them.
func fromFile() (map[string]string, error) {
	values := map[string]string{}
	name := os.Getenv("GOENV")
	if name == "" {
		if dir, err := os.UserConfigDir(); err == nil {
			name = filepath.Join(dir, "go", "env")
		}
	}
	if name != "" && name != "off" {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
				values[key] = value
			}
		}
	}
	for _, name := range variables {
		if v := os.Getenv(name); v != "" {
			values[name] = v
		}
	}
	return values, nil
}

// NoProxyError says that no proxy is configured that may be asked for a module.
type NoProxyError struct {
	Module string
	Value  string // of GOPROXY, or what made the module one of those brought directly
}

func (e *NoProxyError) Error() string {
	switch e.Value {
	case "":
		return fmt.Sprintf("no proxy is known for %s: GOPROXY is not set, and there is no go command to ask", e.Module)
	case "off":
		return fmt.Sprintf("%s may not be brought: GOPROXY=off", e.Module)
	}
	return fmt.Sprintf("%s would be brought from its repository (%s), which Quorate does not do", e.Module, e.Value)
}

// Permanent says that asking again is useless.
func (e *NoProxyError) Permanent() bool { return true }

// Hint says what to do.
func (e *NoProxyError) Hint() string {
	return "set GOPROXY to a proxy that has it, as for the go command; go help goproxy"
}

// proxy is one of GOPROXY, and whether the next one may be asked after any error.
type proxy struct {
	url string
	any bool
}

// proxies returns those that a module may be asked of.
func (c *Config) proxies(path string) ([]proxy, error) {
	if path != toolchainModule && module.MatchPrefixPatterns(c.NoProxy, path) {
		return nil, &NoProxyError{Module: path, Value: "GONOPROXY or GOPRIVATE=" + c.NoProxy}
	}
	var list []proxy
	rest := c.Proxy
	for rest != "" {
		i := strings.IndexAny(rest, ",|")
		one, separator := rest, byte(0)
		if i >= 0 {
			one, separator = rest[:i], rest[i]
			rest = rest[i+1:]
		} else {
			rest = ""
		}
		switch one = strings.TrimSpace(one); one {
		case "":
			continue
		case "off", "direct":
			if len(list) == 0 {
				return nil, &NoProxyError{Module: path, Value: strings.Replace(one, "direct", "GOPROXY=direct", 1)}
			}
			return list, nil
		}
		if !strings.Contains(one, "://") {
			one = "https://" + one
		}
		list = append(list, proxy{strings.TrimSuffix(one, "/"), separator == '|'})
	}
	if len(list) == 0 {
		return nil, &NoProxyError{Module: path}
	}
	return list, nil
}

// sources are the places of one file of a module.
func (c *Config) sources(module, path string) ([]fetch.Source, error) {
	list, err := c.proxies(module)
	if err != nil {
		return nil, err
	}
	one := &chain{read: -1}
	for _, p := range list {
		src, err := httpfile.New(p.url + "/" + path)
		if err != nil {
			return nil, fmt.Errorf("GOPROXY: %w", err)
		}
		one.list = append(one.list, src)
		one.any = append(one.any, p.any)
	}
	return []fetch.Source{one}, nil
}

// chain asks proxies as GOPROXY wants it: the next one only when the one
// before says that it does not have the module (404, 410), so that names of
// private modules are not told to others because a proxy is down; after "|"
// whatever is wrong.
type chain struct {
	list []*httpfile.Source
	any  []bool
	at   int // who has it
	read int // who had it when it was read before; -1 for nobody yet
}

func (c *chain) String() string { return c.list[c.at].String() }

// Host returns the host that is asked.
func (c *chain) Host() string { return c.list[c.at].Host() }

// Local reports whether no network is needed.
func (c *chain) Local() bool {
	for _, s := range c.list {
		if !s.Local() {
			return false
		}
	}
	return true
}

// Same reports whether Open in the middle goes on in the file that was read before.
func (c *chain) Same() bool { return c.list[c.at].Same() }

// Open implements fetch.Source. What one proxy began, no other one ends: they
// may have different bytes.
func (c *chain) Open(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	for {
		if c.read >= 0 && c.read != c.at {
			offset = 0
		}
		r, start, err := c.list[c.at].Open(ctx, offset)
		if err == nil {
			c.read = c.at
		}
		if err == nil || c.at+1 == len(c.list) || ctx.Err() != nil {
			return r, start, err
		}
		if !c.any[c.at] && !notThere(err) {
			return nil, 0, err
		}
		c.at++
	}
}

func notThere(err error) bool {
	var status *httpfile.StatusError
	if errors.As(err, &status) {
		return status.Code == http.StatusNotFound || status.Code == http.StatusGone
	}
	return errors.Is(err, os.ErrNotExist)
}

// lazy reads the configuration only when a pin is really brought: a worker
// that has all bytes needs none.
type lazy struct {
	k            *Kind
	module, path string
	chain        fetch.Source
}

func (l *lazy) String() string {
	if l.chain == nil {
		return "GOPROXY"
	}
	return l.chain.String()
}

// Open implements fetch.Source.
func (l *lazy) Open(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	if l.chain == nil {
		config, err := l.k.config()
		if err != nil {
			return nil, 0, &permanent{err}
		}
		sources, err := config.sources(l.module, l.path)
		if err != nil {
			return nil, 0, &permanent{err}
		}
		l.chain = sources[0]
	}
	return l.chain.Open(ctx, offset)
}

// permanent is an error of this machine's configuration.
type permanent struct{ err error }

func (e *permanent) Error() string   { return e.err.Error() }
func (e *permanent) Unwrap() error   { return e.err }
func (e *permanent) Permanent() bool { return true }
