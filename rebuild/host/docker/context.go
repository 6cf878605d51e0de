package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"quorate.dev/lockfile/digest"
)

// A context of the docker command, NAME, is
//
//	CONFIG/contexts/meta/SHA256(NAME)/meta.json
//	CONFIG/contexts/tls/SHA256(NAME)/docker/{ca,cert,key}.pem
type contextFile struct {
	Name      string
	Endpoints map[string]struct {
		Host          string
		SkipTLSVerify bool
	}
}

// maxContext is a thousand times what the docker command writes.
const maxContext = 1 << 20

// readContext finds the engine that a context names.
func readContext(config, name string) (Endpoint, error) {
	id := digest.Of([]byte(name)).Hex()
	f, err := os.Open(filepath.Join(config, "contexts", "meta", id, "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Endpoint{}, fmt.Errorf("there is no docker context %q in %q", name, config)
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("docker context %q: %w", name, err)
	}
	defer f.Close()
	var c contextFile
	if err := json.NewDecoder(io.LimitReader(f, maxContext)).Decode(&c); err != nil {
		return Endpoint{}, fmt.Errorf("docker context %q: %w", name, err)
	}
	d, ok := c.Endpoints["docker"]
	switch {
	case c.Name != name:
		return Endpoint{}, fmt.Errorf("docker context %q: its file is of %q", name, c.Name)
	case !ok || d.Host == "":
		return Endpoint{}, fmt.Errorf("docker context %q names no engine", name)
	case d.SkipTLSVerify:
		return Endpoint{}, fmt.Errorf("docker context %q does not check who answers (SkipTLSVerify); that is no way to reach a rebuilder", name)
	}
	p := Endpoint{Address: d.Host}
	tls := filepath.Join(config, "contexts", "tls", id, "docker")
	if _, err := os.Stat(tls); err == nil {
		p.TLS = tls
	}
	return p, nil
}
