package cargo

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// cargoLock is a Cargo.lock of versions 2 to 4, as far as it says what to bring.
type cargoLock struct {
	Version  int            `toml:"version"` // absent in version 2
	Packages []locked       `toml:"package"`
	Metadata toml.Primitive `toml:"metadata"`
}

type locked struct {
	Name         string   `toml:"name"`
	Version      string   `toml:"version"`
	Source       string   `toml:"source"`
	Checksum     string   `toml:"checksum"`
	Dependencies []string `toml:"dependencies"` // "name", "name version" or "name version (source)"
}

// defaultRegistry begins the sources of crates of the default registry, which Cargo.lock
// names by its old git index whatever is asked in its place.
const defaultRegistry = "registry+https://github.com/rust-lang/crates.io-index"

var (
	// crateName is what the public registry allows (The Cargo Book, "The name field").
	crateName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$`)
	crateVersion = regexp.MustCompile(`^[0-9][0-9A-Za-z.+-]*$`)
)

// maxCrates is ten times what the largest workspace that we know of has.
const maxCrates = 20_000

// LockError says what is wrong with a project's Cargo.lock, and where.
type LockError struct {
	File    string
	Line    int
	Problem string
}

func (e *LockError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Problem) }

// parse returns the crates that come from registries, sorted by path.
func parse(file string, text []byte) ([]crate, error) {
	var l cargoLock
	if _, err := toml.Decode(string(text), &l); err != nil {
		line := 1
		var at toml.ParseError
		if errors.As(err, &at) {
			line = max(1, at.Position.Line)
			return nil, &LockError{file, line, "it is not TOML as cargo writes it: " + at.Message}
		}
		return nil, &LockError{file, line, fmt.Sprintf("it is not TOML as cargo writes it: %v", err)}
	}
	switch {
	case l.Version != 0 && (l.Version < 3 || l.Version > 4):
		return nil, &LockError{file, 1, fmt.Sprintf("version is %d, expected at most 4; this Quorate knows no newer one", l.Version)}
	case len(l.Packages) > maxCrates:
		return nil, &LockError{file, 1, fmt.Sprintf("more than %d crates", maxCrates)}
	}
	lines := linesOf(string(text))
	by := needers(l.Packages)
	seen := map[string]int{}
	var crates []crate
	for i, p := range l.Packages {
		line := 1
		if i < len(lines) {
			line = lines[i]
		}
		if p.Source == "" {
			continue // a member of the workspace, or a folder beside it, which the input has
		}
		c, err := p.crate()
		if err != nil {
			return nil, &LockError{file, line, err.Error()}
		}
		if first, twice := seen[c.pin.Path]; twice {
			return nil, &LockError{file, line, fmt.Sprintf("crate %q %s stands in line %d too, from another source; only one of them can be shown", p.Name, p.Version, first)}
		}
		seen[c.pin.Path] = line
		c.line, c.pin.By = line, by[[2]string{p.Name, p.Version}]
		crates = append(crates, c)
	}
	return sorted(crates), nil
}

// linesOf returns the line of each [[package]], which a decoder does not tell.
func linesOf(text string) []int {
	var lines []int
	n := 0
	for line := range strings.Lines(text) {
		n++
		if strings.TrimSpace(line) == "[[package]]" {
			lines = append(lines, n)
		}
	}
	return lines
}

func (p locked) crate() (crate, error) {
	c := crate{pin: lockfile.Pin{Name: p.Name, Version: p.Version, Path: p.Name + "/" + p.Name + "-" + p.Version + ".crate"}}
	switch {
	case !crateName.MatchString(p.Name):
		return c, fmt.Errorf("%q is not the name of a crate", p.Name)
	case !crateVersion.MatchString(p.Version):
		return c, fmt.Errorf("crate %q has the version %q, which is none", p.Name, p.Version)
	case strings.HasPrefix(p.Source, "git+"):
		return c, fmt.Errorf("crate %q comes from a git repository (%s), which Cargo.lock vouches for by nothing but its commit; make it an input of its own under inputs.git and a path dependency", p.Name, p.Source)
	case p.Source == defaultRegistry, p.Source == "sparse+https://index.crates.io/":
	case strings.HasPrefix(p.Source, "sparse+https://"), strings.HasPrefix(p.Source, "sparse+http://"):
		c.registry = p.Source
	default:
		return c, fmt.Errorf("crate %q comes from %q, which is no sparse index; registries with a git index are not asked", p.Name, p.Source)
	}
	sum, err := digest.ParseHex(p.Checksum)
	if p.Checksum == "" {
		return c, fmt.Errorf("crate %q has no checksum, so nothing says which bytes are meant; write Cargo.lock anew with a current cargo: cargo generate-lockfile", p.Name)
	}
	if err != nil {
		return c, fmt.Errorf("crate %q has the checksum %q, which is no sha256", p.Name, p.Checksum)
	}
	c.pin.SHA256 = sum
	return c, nil
}

// needers says of each crate which other brought it in: ByRequest for what the
// project itself needs, else the first by name.
func needers(all []locked) map[[2]string]string {
	byName := map[string][]locked{}
	for _, p := range all {
		byName[p.Name] = append(byName[p.Name], p)
	}
	by := map[[2]string]string{}
	for _, p := range all {
		needer := p.Name
		if p.Source == "" {
			needer = lockfile.ByRequest
		}
		for _, d := range p.Dependencies {
			name, rest, _ := strings.Cut(d, " ")
			version, _, _ := strings.Cut(rest, " ")
			for _, other := range byName[name] {
				if version == "" || other.Version == version {
					key := [2]string{other.Name, other.Version}
					by[key] = nearer(by[key], needer)
				}
			}
		}
	}
	return by
}

// nearer returns the one of two needers that says more; "" is nobody.
func nearer(a, b string) string {
	switch {
	case a == "" || b == lockfile.ByRequest:
		return b
	case a == lockfile.ByRequest:
		return a
	}
	return min(a, b)
}
