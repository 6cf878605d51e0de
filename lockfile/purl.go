package lockfile

import (
	"net/url"
	"strings"
)

// purlTypes are the types of package URLs by kind of input
// (package-url/purl-spec, "types").
var purlTypes = map[string]string{KindGo: "golang", KindNpm: "npm", KindPython: "pypi", KindCargo: "cargo"}

// URI names a pin to people and scanners: a package URL where its ecosystem has
// one, "git+URL@COMMIT" for git, the reference of an image; else "". The
// request is that of the pin's input.
func (p Pin) URI(in InputRequest) string {
	switch in.Kind {
	case KindGit:
		return "git+" + in.Ask["url"] + "@" + p.Version
	case KindImage:
		name, _, _ := strings.Cut(in.Ask["image"], "@")
		if strings.HasPrefix(name, "oci:") {
			return ""
		}
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			name = name[:i]
		}
		return "oci://" + name + "@" + p.SHA256.String()
	case KindSource: // purl-spec, "types/deb"
		return packageURL("deb", "debian/"+p.Name, p.Version) + "?arch=source"
	}
	typ := purlTypes[in.Kind]
	if typ == "" {
		return ""
	}
	return packageURL(typ, p.Name, p.Version)
}

// packageURL writes a package URL; the parts of a name between slashes are
// namespaces. A plus is escaped, as the specification wants.
func packageURL(typ, name, version string) string {
	switch typ {
	case "pypi": // purl-spec, "types/pypi": lower case, dashes for underscores
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	}
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = escapeURL(parts[i])
	}
	s := "pkg:" + typ + "/" + strings.Join(parts, "/")
	if version != "" {
		s += "@" + escapeURL(version)
	}
	return s
}

func escapeURL(s string) string {
	return strings.NewReplacer("+", "%2B", "@", "%40", ":", ":").Replace(url.PathEscape(s))
}

// lower is strings.ToLower for names of any bytes, of which it loses none.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// RequestOf returns the request that the input of a name answers.
func (l *Lock) RequestOf(input string) InputRequest {
	for _, r := range l.Requests.Inputs {
		if r.Name == input {
			return r
		}
	}
	return InputRequest{}
}

// URI is the package URL of a Debian package (purl-spec, "types/deb"). suite is
// that of the lock, source the name of its source package.
func (p Package) URI(suite, source string) string {
	return Distribution{ID: "debian", Release: suite}.URI("deb", p.Name, p.Version, p.Arch, source)
}

// Distribution is whose packages those of a system are.
type Distribution struct {
	ID      string // "debian", "alpine" (os-release(5)); "" for unknown
	Release string // "bookworm", "3.20.3"; "" for unknown
}

// URI is the package URL of a package of a distribution (purl-spec, "types/deb",
// "types/apk"): typ is "deb" or "apk", source the name of its source package. An
// arch, a source or a part of the distribution that is "" is left out. Names are
// in lower case there. They may be any bytes; a slash in one divides nothing.
func (d Distribution) URI(typ, name, version, arch, source string) string {
	uri := "pkg:" + typ + "/"
	if d.ID != "" {
		uri += escapeURL(lower(d.ID)) + "/"
	}
	uri += escapeURL(lower(name)) + "@" + escapeURL(version)
	if source == name {
		source = ""
	}
	sign := "?"
	for _, q := range [][2]string{{"arch", arch}, {"distro", d.Release}, {"upstream", source}} {
		if q[1] != "" {
			uri += sign + q[0] + "=" + url.QueryEscape(q[1])
			sign = "&"
		}
	}
	return uri
}
