package python

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"quorate.dev/lockfile/digest"
)

// pylock is a pylock.toml of version 1 (PEP 751), as far as it says what to bring.
type pylock struct {
	Version  string    `toml:"lock-version"`
	Packages []release `toml:"packages"`
}

type release struct {
	Name      string         `toml:"name"`
	Version   string         `toml:"version"`
	Marker    string         `toml:"marker"`
	Wheels    []distribution `toml:"wheels"`
	Sdist     *distribution  `toml:"sdist"`
	VCS       map[string]any `toml:"vcs"`
	Directory map[string]any `toml:"directory"`
	Archive   map[string]any `toml:"archive"`
}

type distribution struct {
	Name   string            `toml:"name"`
	URL    string            `toml:"url"`
	Path   string            `toml:"path"`
	Hashes map[string]string `toml:"hashes"`
}

func parsePylock(name string, text []byte) ([]requirement, error) {
	var l pylock
	if _, err := toml.Decode(string(text), &l); err != nil {
		var at toml.ParseError
		if errors.As(err, &at) {
			return nil, &LockError{name, max(1, at.Position.Line), "it is not TOML as PEP 751 has it: " + at.Message}
		}
		return nil, &LockError{name, 1, fmt.Sprintf("it is not TOML as PEP 751 has it: %v", err)}
	}
	switch {
	case l.Version != "1.0" && !strings.HasPrefix(l.Version, "1."):
		return nil, &LockError{name, 1, fmt.Sprintf("lock-version is %q, expected 1.0", l.Version)}
	case len(l.Packages) > maxRequirements:
		return nil, &LockError{name, 1, fmt.Sprintf("more than %d packages", maxRequirements)}
	}
	lines := linesOf(string(text))
	seen := map[string]int{}
	var all []requirement
	for i, p := range l.Packages {
		line := 1
		if i < len(lines) {
			line = lines[i]
		}
		r, err := p.requirement()
		if err != nil {
			return nil, &LockError{name, line, err.Error()}
		}
		r.File, r.Line = name, line
		key := r.Name + " " + r.Version
		if first, twice := seen[key]; twice {
			return nil, &LockError{name, line, fmt.Sprintf("%s stands in line %d too", key, first)}
		}
		seen[key] = line
		if p.Directory == nil {
			all = append(all, r)
		}
	}
	return all, nil
}

// linesOf returns the line of each [[packages]], which a decoder does not tell.
func linesOf(text string) []int {
	var lines []int
	n := 0
	for line := range strings.Lines(text) {
		n++
		if strings.TrimSpace(line) == "[[packages]]" {
			lines = append(lines, n)
		}
	}
	return lines
}

func (p release) requirement() (requirement, error) {
	r := requirement{Name: normal(p.Name), Version: p.Version, Marked: p.Marker != ""}
	outside, _ := p.Directory["path"].(string)
	switch {
	case p.Name == "" || anyLine.FindString(p.Name) != p.Name:
		return r, fmt.Errorf("%q is not the name of a package", p.Name)
	case p.VCS != nil:
		return r, fmt.Errorf("%s comes from version control; bring it under inputs.git", p.Name)
	case p.Archive != nil:
		return r, fmt.Errorf("%s is an archive from outside of an index; bring it under inputs.files", p.Name)
	case p.Directory != nil && (path.IsAbs(outside) || strings.HasPrefix(path.Clean(outside), "..")):
		return r, fmt.Errorf("%s is the folder %q, which is outside of the input", p.Name, outside)
	case p.Directory != nil:
		return r, nil // part of the project
	case !releaseVersion.MatchString(p.Version):
		return r, fmt.Errorf("%s has the version %q, which is none", p.Name, p.Version)
	}
	files := p.Wheels
	if p.Sdist != nil {
		files = append(slices.Clone(files), *p.Sdist)
	}
	for _, d := range files {
		f, err := d.file(p.Name)
		if err != nil {
			return r, err
		}
		r.Files = append(r.Files, f)
		r.Hashes = append(r.Hashes, f.SHA256)
	}
	if len(r.Files) == 0 {
		return r, fmt.Errorf("%s %s names no file", p.Name, p.Version)
	}
	return r, nil
}

func (d distribution) file(of string) (file, error) {
	f := file{Name: d.Name, URL: d.URL}
	u, err := url.Parse(d.URL)
	switch {
	case d.URL == "":
		return f, fmt.Errorf("a file of %s has no url (path: %q); what lies in the project needs no input", of, d.Path)
	case err != nil || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "file" || u.User != nil:
		return f, fmt.Errorf("a file of %s comes from %q, expected https:// without user and password", of, d.URL)
	case f.Name == "":
		f.Name = path.Base(u.Path)
	}
	if f.Name == "." || f.Name == "/" || f.Name != path.Base(f.Name) || strings.ContainsAny(f.Name, "\\\x00") {
		return f, fmt.Errorf("a file of %s has the name %q, which is none", of, f.Name)
	}
	if f.SHA256, err = digest.ParseHex(d.Hashes["sha256"]); err != nil {
		return f, fmt.Errorf("%s has no sha256, so nothing says which bytes are meant", f.Name)
	}
	return f, nil
}
