package definition

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	y "quorate.dev/lockfile/strictyaml"
)

// Every pattern stands twice in force: the readers below use it, and the
// schema shows it to editors.
const (
	// A path component of an OCI repository name (distribution-spec, "Pulling manifests").
	namePattern = `^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$`
	// Debian policy 5.6.1 (package) and 5.6.12 (version).
	packagePattern = `^[a-z0-9][a-z0-9+.-]+$`
	versionPattern = `^([0-9]+:)?[0-9][A-Za-z0-9.+~-]*$`
	requestPattern = `^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=([0-9]+:)?[0-9][A-Za-z0-9.+~-]*)?$`
	// useradd(8), without the trailing dollar of Samba machine accounts.
	userPattern = `^[a-z_][a-z0-9_-]{0,31}$`
	// POSIX.1-2024 8.1, names that every shell can set.
	envPattern       = `^[A-Za-z_][A-Za-z0-9_]*$`
	labelPattern     = `^[A-Za-z0-9][A-Za-z0-9._/-]*$`
	ownerPattern     = `^[0-9]{1,5}:[0-9]{1,5}$`
	modePattern      = `^0[0-7]{3}$`
	portPattern      = `^[0-9]{1,5}(/(tcp|udp|sctp))?$`
	toolchainPattern = `^go1\.[0-9]+(\.[0-9]+|rc[0-9]+|beta[0-9]+)$`
	pythonPattern    = `^3\.[0-9]{1,3}$`
	signalPattern    = `^SIG(RTMIN(\+[0-9]+)?|RTMAX(-[0-9]+)?|[A-Z0-9]+)$`
)

var (
	nameExp      = regexp.MustCompile(namePattern)
	packageExp   = regexp.MustCompile(packagePattern)
	versionExp   = regexp.MustCompile(versionPattern)
	userExp      = regexp.MustCompile(userPattern)
	envExp       = regexp.MustCompile(envPattern)
	labelExp     = regexp.MustCompile(labelPattern)
	ownerExp     = regexp.MustCompile(ownerPattern)
	modeExp      = regexp.MustCompile(modePattern)
	portExp      = regexp.MustCompile(portPattern)
	toolchainExp = regexp.MustCompile(toolchainPattern)
	pythonExp    = regexp.MustCompile(pythonPattern)
	signalExp    = regexp.MustCompile(signalPattern)
)

// platforms that Debian has an architecture for, with that architecture.
var platforms = []struct {
	Platform
	debian string
}{
	{Platform{OS: "linux", Architecture: "amd64"}, "amd64"},
	{Platform{OS: "linux", Architecture: "arm64"}, "arm64"},
	{Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, "armhf"},
	{Platform{OS: "linux", Architecture: "arm", Variant: "v5"}, "armel"},
	{Platform{OS: "linux", Architecture: "386"}, "i386"},
	{Platform{OS: "linux", Architecture: "mips64le"}, "mips64el"},
	{Platform{OS: "linux", Architecture: "ppc64le"}, "ppc64el"},
	{Platform{OS: "linux", Architecture: "riscv64"}, "riscv64"},
	{Platform{OS: "linux", Architecture: "s390x"}, "s390x"},
}

// String returns "linux/amd64" or "linux/arm/v7".
func (p Platform) String() string {
	if p.Variant == "" {
		return p.OS + "/" + p.Architecture
	}
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}

// DebianArchitecture returns Debian's word for the platform ("armhf" for
// linux/arm/v7), or "" when Debian has none.
func (p Platform) DebianArchitecture() string {
	for _, known := range platforms {
		if known.Platform == p {
			return known.debian
		}
	}
	return ""
}

// ParsePlatform reads what Platform.String writes, for platforms that Debian supports.
func ParsePlatform(s string) (Platform, error) {
	names := make([]string, len(platforms))
	for i, known := range platforms {
		if names[i] = known.String(); names[i] == s {
			return known.Platform, nil
		}
	}
	near := y.DidYouMean(s, names)
	if near == "" {
		near = "; known are " + strings.Join(names, ", ")
	}
	return Platform{}, fmt.Errorf("unknown platform %s%s", y.Quote(s), near)
}

// KnownArchitecture reports whether Debian has packages of the architecture;
// "all" counts.
func KnownArchitecture(arch string) bool {
	if arch == "all" {
		return true
	}
	for _, known := range platforms {
		if known.debian == arch {
			return true
		}
	}
	return false
}

// maxName bounds names of inputs, steps and images: they become folder names,
// and ten of them must fit a path of 4096 bytes.
const maxName = 128

// CheckName refuses what cannot name an image, an input or a step.
func CheckName(s string) error {
	if !nameExp.MatchString(s) || len(s) > maxName {
		return y.Refuse("%q is not a name: lower-case letters and digits, with single \".\", \"_\" or \"-\" between them, at most %d", s, maxName)
	}
	return nil
}

// Request is one asked-for package, divided.
type Request struct {
	Name    string
	Arch    string // "" for the platform's own
	Version string // "" for the archive's newest
}

// ParseRequest reads "gcc", "gcc:arm64", "gcc=4:12.2.0-3" or both.
func ParseRequest(s string) (Request, error) {
	rest, version, versioned := strings.Cut(s, "=")
	name, arch, foreign := strings.Cut(rest, ":")
	switch {
	case strings.ContainsAny(s, " \t"):
		return Request{}, y.Refuse("package %q contains a blank; write name[:architecture][=version]", s)
	case CheckPackageName(name) != nil:
		return Request{}, CheckPackageName(name)
	case foreign && !KnownArchitecture(arch):
		return Request{}, y.Refuse("package %q: unknown architecture %q", s, arch)
	case versioned && !versionExp.MatchString(version):
		return Request{}, y.Refuse("package %q: %q is not a Debian version", s, version)
	}
	return Request{name, arch, version}, nil
}

// CheckPackageName refuses what cannot name a Debian package (policy 5.6.1).
func CheckPackageName(name string) error {
	const most = 128 // the longest in Debian 12 has 73 characters
	if !packageExp.MatchString(name) || len(name) > most {
		return y.Refuse("%q is not a package name: lower-case letters, digits, \"+\", \"-\" and \".\", at least two", name)
	}
	return nil
}

// CheckVersion refuses what is not a Debian version (policy 5.6.12).
func CheckVersion(version string) error {
	const most = 256 // file names end there
	if !versionExp.MatchString(version) || len(version) > most {
		return y.Refuse("%q is not a Debian version", version)
	}
	return nil
}

func checkRequest(s string) error {
	_, err := ParseRequest(s)
	return err
}

// oldest is the start of 1980, before which zip and some tools cannot go.
var oldest = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// newest is the end of the year that four digits can write.
var newest = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

// CheckEpoch refuses times that cannot be the SOURCE_DATE_EPOCH of an image.
func CheckEpoch(t time.Time) error {
	switch {
	case t.Before(oldest):
		return fmt.Errorf("epoch %s is before 1980-01-01, which zip files cannot write", t.UTC().Format(time.RFC3339))
	case !t.Before(newest):
		return fmt.Errorf("epoch %s is after the year 9999", t.UTC().Format(time.RFC3339))
	case t.Nanosecond() != 0:
		return fmt.Errorf("epoch %s has a part of a second; SOURCE_DATE_EPOCH counts whole seconds", t.UTC().Format(time.RFC3339Nano))
	}
	return nil
}

func parseEpoch(s string, _ bool) (Epoch, error) {
	if s == "commit" {
		return Epoch{FromCommit: true}, nil
	}
	if name, ok := strings.CutPrefix(s, "commit:"); ok {
		if err := CheckName(name); err != nil {
			return Epoch{}, y.Refuse("epoch %q names no git input; write commit:NAME", s)
		}
		return Epoch{FromCommit: true, CommitOf: name}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return Epoch{}, y.Refuse("epoch %q is neither a time like 2026-11-01T00:00:00Z nor \"commit\"", s)
	}
	if err := CheckEpoch(t); err != nil {
		return Epoch{}, err
	}
	return Epoch{Time: t.UTC()}, nil
}

// CheckURL refuses URLs that files may not come from: anything but https, and
// plain http to this machine itself, which is for trying things out.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || !y.Printable(s) || strings.Contains(s, " "):
		return y.Refuse("%q is not a URL", s)
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	case u.Scheme != "https":
		return y.Refuse("url %q does not begin with https://", s)
	case u.Hostname() == "":
		return y.Refuse("url %q names no host", s)
	}
	if u.User != nil {
		return errors.New("the url holds a user name or password, which everyone could read here")
	}
	if u.Fragment != "" || strings.HasSuffix(s, "#") {
		return y.Refuse("url %q has a fragment (#…), which no server sees", s)
	}
	return nil
}

// CheckGitURL refuses what git may not be asked to clone: other protocols run
// programs, or let anybody on the way choose the bytes.
func CheckGitURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || !y.Printable(s) || strings.Contains(s, " "):
		return y.Refuse("%q is not a URL", s)
	case u.Scheme == "file" && u.Host == "" && path.IsAbs(u.Path):
	case u.Scheme != "https" && u.Scheme != "ssh":
		return y.Refuse("url %q does not begin with https:// or ssh://", s)
	case u.Hostname() == "":
		return y.Refuse("url %q names no host", s)
	case strings.HasPrefix(u.Hostname(), "-"):
		return y.Refuse("url %q names a host that programs would take for an option", s)
	}
	if _, secret := u.User.Password(); secret || u.User != nil && u.Scheme == "https" {
		return errors.New("the url holds a user name or password, which everyone could read here; ~/.netrc, which git reads, is the place for it")
	}
	if u.Fragment != "" || u.RawQuery != "" || strings.HasSuffix(s, "#") {
		return y.Refuse("url %q has a query or a fragment; name the commit with ref:", s)
	}
	return nil
}

// CheckGitRef refuses what git-check-ref-format(1) does, and what programs
// would take for an option.
func CheckGitRef(s string) error {
	bad := s == "" || s == "@" || len(s) > 255 || !y.Printable(s) || s[0] == '-' || s[0] == '/' ||
		strings.ContainsAny(s, " ~^:?*[\\") || strings.HasSuffix(s, "/") || strings.HasSuffix(s, ".") ||
		strings.Contains(s, "..") || strings.Contains(s, "//") || strings.Contains(s, "@{")
	for part := range strings.SplitSeq(s, "/") {
		bad = bad || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return y.Refuse("%q is not the name of a branch, a tag or a commit", s)
	}
	return nil
}

// imageExp is a reference with a tag, a digest or both (distribution-spec,
// "Pulling manifests"). A host must be named: what a name without one means
// differs between tools.
var imageExp = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$`)

// CheckImage refuses what names no image: neither HOST/NAME:TAG (or with @sha256:…) nor oci:PATH.
func CheckImage(s string) error {
	if p, ok := strings.CutPrefix(s, "oci:"); ok {
		_, err := relativePath(p)
		return err
	}
	host, rest, _ := strings.Cut(s, "/")
	switch {
	case !imageExp.MatchString(s):
		return y.Refuse("%q is not an image; write HOST/NAME:TAG, HOST/NAME@sha256:… or oci:PATH", s)
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		return y.Refuse("image %q does not say which registry; write HOST/%s", s, s)
	case !strings.ContainsAny(rest, ":@"):
		return y.Refuse("image %q has neither tag nor digest; write %s:TAG", s, s)
	}
	return nil
}

func checkPython(s string) error {
	if !pythonExp.MatchString(s) {
		return y.Refuse("%q is not a version of Python, like 3.11", s)
	}
	return nil
}

func checkToolchain(s string) error {
	if !toolchainExp.MatchString(s) {
		return y.Refuse("%q is not a version of Go's toolchain, like go1.26.0", s)
	}
	return nil
}

// checkModule refuses what names no version of a Go module.
func checkModule(s string) error {
	path, version, ok := strings.Cut(s, "@")
	if !ok || path == "" || !strings.HasPrefix(version, "v") || strings.ContainsAny(s, " \t") || strings.Contains(version, "@") || !y.Printable(s) {
		return y.Refuse("%q is not a version of a Go module, like example.org/m@v1.2.0", s)
	}
	return nil
}

func isLoopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// relativePath cleans a path that starts in the definition's folder.
func relativePath(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("the path is empty; write . for the folder of the definition")
	case !y.Printable(s):
		return "", y.Refuse("path %q contains a control character", s)
	case path.IsAbs(s) || strings.HasPrefix(s, `\`) || len(s) > 1 && s[1] == ':':
		return "", y.Refuse("path %q is absolute; write it relative to the definition", s)
	case strings.HasPrefix(s, "~"):
		return "", y.Refuse("path %q: ~ is not expanded; write it relative to the definition", s)
	case hasDotDot(s):
		return "", y.Refuse("path %q leaves the folder of the definition (\"..\")", s)
	case len(s) > maxPath:
		return "", y.Refuse("path %q is longer than %d bytes", s, maxPath)
	}
	return path.Clean(s), nil
}

// maxPath is PATH_MAX of Linux, less its NUL.
const maxPath = 4095

// absolutePath cleans a path inside the image or a step.
func absolutePath(s string) (string, error) {
	switch {
	case !y.Printable(s):
		return "", y.Refuse("path %q contains a control character", s)
	case !path.IsAbs(s):
		return "", y.Refuse("path %q is not absolute; write %q", s, "/"+path.Clean(s))
	case hasDotDot(s):
		return "", y.Refuse("path %q contains \"..\"", s)
	case len(s) > maxPath:
		return "", y.Refuse("path %q is longer than %d bytes", s, maxPath)
	}
	return path.Clean(s), nil
}

// hasDotDot looks at elements of the path as written: a/../b may leave its
// folder too when a is a symbolic link.
func hasDotDot(s string) bool {
	for _, element := range strings.FieldsFunc(s, func(r rune) bool { return r == '/' || r == '\\' }) {
		if element == ".." {
			return true
		}
	}
	return false
}

// accountPath is an absolute path that can stand in /etc/passwd.
func accountPath(s string) (string, error) {
	if strings.Contains(s, ":") {
		return "", y.Refuse("path %q contains a colon, which divides the fields of /etc/passwd", s)
	}
	return absolutePath(s)
}

func checkUserName(s string) error {
	if !userExp.MatchString(s) {
		return y.Refuse("%q is not an account name: lower-case letters, digits, \"_\" and \"-\", at most 32, not beginning with a digit", s)
	}
	return nil
}

func checkEnvName(s string) error {
	if !envExp.MatchString(s) {
		return y.Refuse("%q cannot name an environment variable: letters, digits and \"_\", not beginning with a digit", s)
	}
	return nil
}

func checkLabel(s string) error {
	if !labelExp.MatchString(s) {
		return y.Refuse("%q is not a label: letters, digits, \".\", \"_\", \"-\" and \"/\"", s)
	}
	return nil
}

// maxID is the last id before nobody's 65534 has twins: 65535 is -1 in 16 bits.
const maxID = 65534

func checkOwner(s string) error {
	if ownerExp.MatchString(s) {
		uid, gid, _ := strings.Cut(s, ":")
		u, _ := strconv.Atoi(uid)
		g, _ := strconv.Atoi(gid)
		if u <= maxID && g <= maxID && s == fmt.Sprintf("%d:%d", u, g) {
			return nil
		}
	}
	return y.Refuse("owner %q is not \"UID:GID\" with numbers from 0 to %d", s, maxID)
}

// parseMode reads permission bits. YAML 1.1 reads 0644 as octal and YAML 1.2 as
// 644, so the digits are taken as they stand and must look octal.
func parseMode(s string, _ bool) (uint32, error) {
	if !modeExp.MatchString(s) {
		return 0, y.Refuse("mode %q is not octal permission bits; write them like 0644", s)
	}
	m, _ := strconv.ParseUint(s, 8, 32)
	if m == 0 {
		return 0, errors.New("mode 0000 would make files that nobody can read; leave mode out to keep each file's own")
	}
	return uint32(m), nil
}

// parsePort reads 80, 80/tcp or 53/udp and writes the protocol out.
func parsePort(s string, _ bool) (string, error) {
	number, protocol, given := strings.Cut(s, "/")
	n, err := strconv.Atoi(number)
	if !portExp.MatchString(s) || err != nil || n < 1 || n > math.MaxUint16 {
		return "", y.Refuse("port %q is not a number from 1 to 65535, alone or with /tcp, /udp or /sctp", s)
	}
	if !given {
		protocol = "tcp"
	}
	return fmt.Sprintf("%d/%s", n, protocol), nil
}

var signals = []string{"SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV",
	"SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG",
	"SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS"} // signal(7), Linux

func checkSignal(s string) error {
	if strings.HasPrefix(s, "SIGRT") && signalExp.MatchString(s) {
		return nil
	}
	for _, known := range signals {
		if s == known {
			return nil
		}
	}
	near := y.DidYouMean(s, signals)
	if near == "" {
		near = "; write it like SIGTERM"
	}
	return fmt.Errorf("unknown signal %s%s", y.Quote(s), near)
}

func notBlank(script string) (string, error) {
	if strings.TrimSpace(script) == "" {
		return "", errors.New("run is empty; say what the step does")
	}
	return script, nil
}
