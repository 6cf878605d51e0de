package npm

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Config is what a machine's npm is configured with, as far as it says where
// packages come from and who asks for them.
type Config struct {
	Registries Registries
	settings   map[string]string // of single registries: "//host/path/:_authToken" …
	builtIn    func() string     // the default registry where Registries has none, "" for none; nil for none
}

// registry is the one that has a package. It may ask npm, so it is called only
// when something is to be brought: a machine that has all bytes needs no npm.
func (c *Config) registry(name string) (string, error) {
	at, err := c.Registries.of(name)
	if err != nil && c.builtIn != nil {
		if own := c.builtIn(); own != "" {
			return own, nil
		}
	}
	return at, err
}

// Registries is which registry has which packages: by scope ("@types"), "" for all others.
type Registries map[string]string

// errNone says that no registry is configured.
var errNone = errors.New("no npm registry is configured on this machine; set npm_config_registry to its URL, or install npm")

func (r Registries) of(name string) (string, error) {
	if scope, _, ok := strings.Cut(name, "/"); ok && r[scope] != "" {
		return r[scope], nil
	}
	if r[""] == "" {
		return "", errNone
	}
	return r[""], nil
}

// MachineConfig reads npm's own configuration, in npm's order (npm's
// documentation, config): the environment (npm_config_registry), the user's
// .npmrc, the global npmrc; and where none of them names a registry, what the
// npm of this machine has built in. A project's .npmrc is not read: where
// bytes come from is the machine's matter.
func MachineConfig() *Config { return machineConfig() }

var machineConfig = sync.OnceValue(func() *Config {
	environment := os.Environ()
	c := readConfig([]string{
		"/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc", variable(environment, "npm_config_globalconfig"), userConfig(environment),
	}, environment)
	c.builtIn = sync.OnceValue(builtIn)
	return c
})

func userConfig(environment []string) string {
	if v := variable(environment, "npm_config_userconfig"); v != "" {
		return v
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".npmrc")
}

// variable returns a variable whose name npm reads in any case.
func variable(environment []string, name string) string {
	value := ""
	for _, v := range environment {
		if k, s, ok := strings.Cut(v, "="); ok && s != "" && strings.EqualFold(k, name) {
			value = s
		}
	}
	return value
}

// readConfig takes over files, what counts more coming later, and then the environment.
func readConfig(files, environment []string) *Config {
	c := &Config{Registries: Registries{}, settings: map[string]string{}}
	for _, file := range files {
		c.read(file, environment)
	}
	const prefix = "npm_config_"
	for _, v := range environment {
		name, value, ok := strings.Cut(v, "=")
		if !ok || value == "" || len(name) <= len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix) {
			continue
		}
		key := name[len(prefix):]
		if !strings.HasPrefix(key, "//") {
			key = strings.ToLower(key)
		}
		c.set(key, expand(value, environment))
	}
	return c
}

// read takes over an npmrc, an ini file. Of its sections npm reads none.
func (c *Config) read(file string, environment []string) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			return
		}
		key, value, ok := strings.Cut(line, "=")
		if ok && line[0] != ';' && line[0] != '#' {
			c.set(expand(plainText(key), environment), expand(plainText(value), environment))
		}
	}
}

func (c *Config) set(key, value string) {
	switch scope, isScope := strings.CutSuffix(key, ":registry"); {
	case value == "":
	case key == "registry":
		c.Registries[""] = value
	case isScope && strings.HasPrefix(scope, "@"):
		c.Registries[scope] = value
	case strings.HasPrefix(key, "//"):
		c.settings[key] = value
	}
}

// plainText is a key or a value without its quotes, escapes and comment (npm's
// library ini, function unsafe).
func plainText(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 1 && s[0] == s[len(s)-1] && (s[0] == '"' || s[0] == '\'') {
		if s[0] == '\'' {
			s = s[1 : len(s)-1]
		}
		var text string
		if json.Unmarshal([]byte(s), &text) == nil {
			return text
		}
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == ';' || s[i] == '#':
			return strings.TrimSpace(b.String())
		case s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`\;#`, s[i+1]) >= 0:
			i++
		}
		b.WriteByte(s[i])
	}
	return strings.TrimSpace(b.String())
}

var reference = regexp.MustCompile(`(\\*)\$\{([^${}?]+)(\?)?\}`)

// expand puts in variables, ${NAME} or ${NAME?}, as npm does (its library
// config, env-replace): one that is not set stays as it is, or with "?" is
// nothing. $NAME is no variable: passwords have such.
func expand(s string, environment []string) string {
	return reference.ReplaceAllStringFunc(s, func(found string) string {
		m := reference.FindStringSubmatch(found)
		slashes, name := m[1], m[2]
		if len(slashes)%2 == 1 {
			return found[(len(slashes)+1)/2:]
		}
		value := "${" + name + "}"
		if m[3] != "" {
			value = ""
		}
		for _, v := range environment {
			if k, is, _ := strings.Cut(v, "="); k == name {
				value = is
			}
		}
		return slashes[:len(slashes)/2] + value
	})
}

// builtIn asks the npm of this machine, away from any project.
func builtIn() string {
	cmd := exec.Command("npm", "config", "get", "registry")
	cmd.Dir = os.TempDir()
	out, err := cmd.Output()
	if v := strings.TrimSpace(string(out)); err == nil && strings.Contains(v, "://") {
		return v
	}
	return ""
}

// Default is the registry of packages without a scope, without its password.
func (c *Config) Default() (string, error) {
	at, err := c.registry("")
	if err != nil {
		return "", err
	}
	u, err := url.Parse(at)
	if err != nil {
		return "", errors.New("npm's configuration has a registry that is no URL")
	}
	return u.Redacted(), nil
}

// authorization is the header that goes with a request for a URL, "" for none:
// what the settings have for the nearest path above it, as npm looks it up (its
// library npm-registry-fetch, auth.js). Unlike npm, what belongs to one path is
// not sent to others of the same host, and over http only to a registry that is
// itself configured so, or to this machine.
func (c *Config) authorization(u *url.URL) string {
	if u.Scheme != "https" && !(u.Scheme == "http" && c.plain(u)) {
		return ""
	}
	_, value := c.credential(u)
	return value
}

// credential returns the key of the settings that a URL falls under, and the header made of them.
func (c *Config) credential(u *url.URL) (key, header string) {
	for part := range strings.SplitSeq(u.Path, "/") {
		if part == "." || part == ".." {
			return "", "" // the server may take it for another path than the one that is compared here
		}
	}
	for at := "//" + host(u) + u.EscapedPath(); len(at) > len("//"); at = shorter(at) {
		if header := c.header(at); header != "" {
			return at, header
		}
	}
	return "", ""
}

// shorter takes off the last name of a path, or the slash that is its end.
func shorter(at string) string {
	if strings.HasSuffix(at, "/") {
		return at[:len(at)-1]
	}
	return at[:strings.LastIndexByte(at, '/')+1]
}

// host is a URL's host as npm writes it: in small letters, without the scheme's own port.
func host(u *url.URL) string {
	h := strings.ToLower(u.Host)
	if p := u.Port(); p == "443" && u.Scheme == "https" || p == "80" && u.Scheme == "http" {
		h = strings.TrimSuffix(h, ":"+p)
	}
	return h
}

func (c *Config) header(at string) string {
	if token := c.settings[at+":_authToken"]; token != "" {
		return "Bearer " + token
	}
	if auth := c.settings[at+":_auth"]; auth != "" {
		return "Basic " + auth
	}
	user, password := c.settings[at+":username"], c.settings[at+":_password"]
	if user == "" || password == "" {
		return ""
	}
	plain, err := base64.StdEncoding.DecodeString(password)
	if err != nil {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+string(plain)))
}

// plain reports whether secrets may go to a URL without encryption.
func (c *Config) plain(u *url.URL) bool {
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return true
	}
	own, _ := c.registry("")
	for _, registry := range append(slices.Collect(maps.Values(c.Registries)), own) {
		if r, err := url.Parse(registry); err == nil && r.Scheme == "http" && host(r) == host(u) {
			return true
		}
	}
	return false
}
