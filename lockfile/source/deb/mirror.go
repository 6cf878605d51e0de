package deb

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"quorate.dev/lockfile"
)

// SnapshotService is where every state of the Debian archive is kept, by date
// (https://snapshot.debian.org/). It is slow, and the last place asked.
const SnapshotService = "https://snapshot.debian.org/archive"

// Mirror is a place to get archive bytes from. URLs have scheme http, https or
// file and no trailing slash; "" means that the place lacks that archive.
type Mirror struct {
	Origin   string // who named it: "--mirror", "QUORATE_DEBIAN_MIRROR", "/etc/apt/sources.list" …
	Main     string // holds dists/SUITE and dists/SUITE-updates
	Security string // holds dists/SUITE-security
}

// ParseMirror reads a mirror as users write it: the URL of the main archive,
// "https://example.org/debian", or "main=URL,security=URL". When only the main
// one is given and its path ends in "/debian" or "/debian/", security updates
// are expected beside it in "debian-security", as on Debian's own mirrors;
// under any other path, in the same archive.
func ParseMirror(origin, text string) (Mirror, error) {
	m := Mirror{Origin: origin}
	bad := func(format string, a ...any) (Mirror, error) {
		return Mirror{}, fmt.Errorf("cannot read mirror %q (%s): %s", text, origin, fmt.Sprintf(format, a...))
	}
	for _, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(part)
		field := &m.Main
		if v, ok := strings.CutPrefix(part, "main="); ok {
			part = v
		} else if v, ok := strings.CutPrefix(part, "security="); ok {
			part, field = v, &m.Security
		}
		if *field != "" {
			return bad("one archive is named twice")
		}
		base, err := cleanBase(part)
		if err != nil {
			return bad("%v", err)
		}
		*field = base
	}
	if m.Main == "" {
		return bad("the main archive is not named")
	}
	if m.Security == "" {
		m.Security = deriveSecurity(m.Main)
	}
	return m, nil
}

func cleanBase(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", err
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "file":
		return "", fmt.Errorf("%q is not an http, https or file URL", s)
	case u.Scheme != "file" && u.Host == "":
		return "", fmt.Errorf("%q names no host", s)
	case u.Scheme == "file" && (u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/")):
		return "", fmt.Errorf("%q does not name an absolute path; write file:///PATH", s)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("%q has a query or a fragment", s)
	}
	if u.Scheme == "file" {
		u.Host = ""
		return "file://" + path.Clean(u.EscapedPath()), nil
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func deriveSecurity(main string) string {
	if strings.HasSuffix(main, "/debian") {
		return main + "-security"
	}
	return main
}

// MirrorConfig is what may name a mirror, in order of precedence. The first
// that says anything is the one that indexes are read from.
type MirrorConfig struct {
	Flag    string // --mirror
	Env     string // QUORATE_DEBIAN_MIRROR
	User    string // user's configuration file
	AptRoot string // folder that holds etc/apt; "/" for this machine, "" to look at none
	Suite   string // to choose among apt's entries
}

// Mirrors returns the mirrors of the first place that names one; none at all
// is not an error, for the snapshot service is left. Errors: what cannot be
// read of the place chosen.
func Mirrors(c MirrorConfig) ([]Mirror, error) {
	for _, s := range []struct{ origin, text string }{
		{"--mirror", c.Flag}, {"QUORATE_DEBIAN_MIRROR", c.Env}, {"user configuration", c.User},
	} {
		if s.text != "" {
			m, err := ParseMirror(s.origin, s.text)
			if err != nil {
				return nil, err
			}
			return []Mirror{m}, nil
		}
	}
	if c.AptRoot == "" {
		return nil, nil
	}
	return AptMirrors(c.AptRoot, c.Suite)
}

// snapshot returns the mirror that shows the archives as they were at t. The
// two archives are kept under the names debian and debian-security.
func snapshot(service string, t time.Time) Mirror {
	day := t.UTC().Format("20060102T150405Z")
	return Mirror{
		Origin:   "snapshot",
		Main:     service + "/debian/" + day,
		Security: service + "/debian-security/" + day,
	}
}

func isSecurity(archive string) bool { return strings.HasSuffix(archive, "-security") }

func (m Mirror) base(archive string) string {
	if isSecurity(archive) {
		return m.Security
	}
	return m.Main
}

// Locations lists URLs that may give the bytes of pkg, best first: every
// mirror, then the snapshot service by the date of the archive's index in the
// lock (indexes name only files that were there on that date). URLs may have
// scheme file. What they give must be verified by pkg.SHA256.
func (s *Source) Locations(pkg lockfile.Package, archives []lockfile.Archive) []string {
	return s.locations(pkg.Archive, pkg.Path, archives)
}

// SourceLocations lists URLs of a file of a source package, as Locations does
// of a package. in is the input that the pin is of.
func (s *Source) SourceLocations(in lockfile.Input, pin lockfile.Pin, archives []lockfile.Archive) []string {
	return s.locations(in.Facts[factArchive], pin.Path, archives)
}

func (s *Source) locations(archive, path string, archives []lockfile.Archive) []string {
	var urls []string
	for _, m := range s.opts.Mirrors {
		if base := m.base(archive); base != "" {
			urls = append(urls, join(base, path))
		}
	}
	if s.opts.Snapshot == "" {
		return urls
	}
	for _, a := range archives {
		if a.Name == archive && !a.Date.IsZero() {
			urls = append(urls, join(snapshot(s.opts.Snapshot, a.Date).base(a.Name), path))
		}
	}
	return urls
}

// join appends a clean path of an index, whose characters may mean something
// in a URL ("%" and "+" of versions), to a base URL.
func join(base, p string) string {
	return base + "/" + strings.ReplaceAll((&url.URL{Path: p}).EscapedPath(), "+", "%2B")
}
