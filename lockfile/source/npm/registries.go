package npm

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

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

// MachineRegistries reads npm's own configuration, in npm's order (npm's
// documentation, config): the environment (npm_config_registry), the user's
// .npmrc, the global npmrc; and where none of them names a registry, what the
// npm of this machine has built in. A project's .npmrc is not read: where
// bytes come from is the machine's matter.
func MachineRegistries() Registries {
	return machineRegistries()
}

var machineRegistries = sync.OnceValue(func() Registries {
	r := Registries{}
	for _, file := range []string{
		"/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc", os.Getenv("NPM_CONFIG_GLOBALCONFIG"), os.Getenv("npm_config_globalconfig"),
		userConfig(),
	} {
		r.read(file)
	}
	for _, name := range []string{"NPM_CONFIG_REGISTRY", "npm_config_registry"} {
		if v := os.Getenv(name); v != "" {
			r[""] = v
		}
	}
	if r[""] == "" {
		r[""] = builtIn()
	}
	return r
})

func userConfig() string {
	for _, name := range []string{"npm_config_userconfig", "NPM_CONFIG_USERCONFIG"} {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".npmrc")
}

// read takes over the registries that an npmrc names: an ini file of which we need two kinds of lines.
func (r Registries) read(file string) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), "=")
		key, value = strings.TrimSpace(key), os.Expand(strings.Trim(strings.TrimSpace(value), `"'`), os.Getenv)
		if !ok || value == "" {
			continue
		}
		if key == "registry" {
			r[""] = value
		} else if scope, ok := strings.CutSuffix(key, ":registry"); ok && strings.HasPrefix(scope, "@") {
			r[scope] = value
		}
	}
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

// Default is the registry of packages without a scope.
func (r Registries) Default() (string, error) { return r.of("") }
