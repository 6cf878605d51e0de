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
	escape := func(s string) string {
		return strings.NewReplacer("+", "%2B", "@", "%40", ":", ":").Replace(url.PathEscape(s))
	}
	switch typ {
	case "pypi": // purl-spec, "types/pypi": lower case, dashes for underscores
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	}
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = escape(parts[i])
	}
	s := "pkg:" + typ + "/" + strings.Join(parts, "/")
	if version != "" {
		s += "@" + escape(version)
	}
	return s
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
	q := "?arch=" + url.QueryEscape(p.Arch)
	if suite != "" {
		q += "&distro=" + url.QueryEscape(suite)
	}
	if source != "" && source != p.Name {
		q += "&upstream=" + url.QueryEscape(source)
	}
	return packageURL("deb", "debian/"+p.Name, p.Version) + q
}
