package python

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// LockError says what is wrong with a project's own lock file, and where.
type LockError struct {
	File    string
	Line    int
	Problem string
}

func (e *LockError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Problem) }

var (
	// pinnedLine is a requirement with an exact version (PEP 508, PEP 440): name, extras, version, marker.
	pinnedLine = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*===?\s*([^\s;,]+)\s*(;.*)?$`)
	// anyLine is the name that a requirement begins with.
	anyLine        = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*`)
	separators     = regexp.MustCompile(`[-_.]+`)
	releaseVersion = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.!+_-]*$`)
	hashOption     = regexp.MustCompile(`\s--hash[= ]([a-z0-9]+):([^\s]+)`)
	viaComment     = regexp.MustCompile(`^\s+#\s*(?:via\s+)?(.*)$`)
)

// normal is the form of a name that indexes go by (PEP 503).
func normal(name string) string {
	return separators.ReplaceAllString(strings.ToLower(name), "-")
}

const (
	// maxRequirements is ten times what the largest project that we know of has.
	maxRequirements = 20_000
	// maxIncludes bounds files that name files; nobody splits in more than a few.
	maxIncludes = 16
)

// reader reads requirements.txt (pip's documentation, "Requirements File Format").
type reader struct {
	read  func(string) ([]byte, error)
	files []string // read already
	all   []requirement
}

// parseRequirements reads a requirements file and those that it includes, by read.
func parseRequirements(name string, text []byte, read func(string) ([]byte, error)) ([]requirement, error) {
	r := &reader{read: read}
	if err := r.file(name, text); err != nil {
		return nil, err
	}
	seen := map[string]requirement{}
	for _, q := range r.all {
		first, twice := seen[q.Name]
		// Tools that lock for every system write a version for each, told apart by markers.
		if twice && (!q.Marked || !first.Marked || q.Version == first.Version) {
			return nil, &LockError{q.File, q.Line, fmt.Sprintf("%s stands in %s:%d too", q.Name, first.File, first.Line)}
		}
		seen[q.Name] = q
	}
	return r.all, nil
}

func (r *reader) file(name string, text []byte) error {
	if slices.Contains(r.files, name) {
		return nil
	}
	if r.files = append(r.files, name); len(r.files) > maxIncludes {
		return &LockError{name, 1, fmt.Sprintf("more than %d files include each other", maxIncludes)}
	}
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		first := i + 1
		line := cutComment(lines[i])
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(cutComment(lines[i]))
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := r.line(name, first, line, lines[i+1:]); err != nil {
			return err
		}
	}
	return nil
}

// cutComment takes a comment away: "#" at the beginning or after a blank.
func cutComment(s string) string {
	s = strings.TrimRight(s, "\r")
	for i := range len(s) {
		if s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
			return strings.TrimRight(s[:i], " \t")
		}
	}
	return s
}

// line reads one logical line; below are the physical ones after it.
func (r *reader) line(name string, n int, line string, below []string) error {
	fault := func(format string, args ...any) error { return &LockError{name, n, fmt.Sprintf(format, args...)} }
	option, value, _ := strings.Cut(strings.Replace(line, "=", " ", 1), " ")
	if short := line[:min(2, len(line))]; (short == "-r" || short == "-e") && option != short { // -rFILE, as pip reads it
		option, value = short, line[2:]
	}
	switch option {
	case "-r", "--requirement":
		return r.include(name, n, strings.TrimSpace(value))
	case "-e", "--editable":
		return fault("%q is a folder that is installed in place; only releases with hashes are locked", strings.TrimSpace(value))
	}
	if strings.HasPrefix(line, "-") {
		return nil // where to look, how to install: the machine's and the step's matter; constraints choose nothing when all is pinned
	}
	head, _, _ := strings.Cut(line, " --")
	m := pinnedLine.FindStringSubmatch(strings.TrimSpace(head))
	switch {
	case strings.Contains(head, "://") || strings.Contains(head, " @ "):
		return fault("%q comes from a URL or a repository, not from an index; bring it under inputs.files or inputs.git", strings.TrimSpace(head))
	case m == nil && anyLine.MatchString(head):
		return fault("%s is not pinned to one version, expected %s==VERSION; pip-compile --generate-hashes writes that", strings.TrimSpace(head), anyLine.FindString(head))
	case m == nil:
		return fault("%q is no requirement", strings.TrimSpace(head))
	case !releaseVersion.MatchString(m[2]):
		return fault("%s has the version %q, which is none", m[1], m[2])
	case len(r.all) >= maxRequirements:
		return fault("more than %d requirements", maxRequirements)
	}
	q := requirement{Name: normal(m[1]), Version: m[2], Marked: m[3] != "", File: name, Line: n, By: via(below)}
	for _, h := range hashOption.FindAllStringSubmatch(line, -1) {
		if h[1] != "sha256" {
			continue
		}
		d, err := digest.ParseHex(h[2])
		if err != nil {
			return fault("%s has the hash %q, which is no sha256", m[1], h[2])
		}
		q.Hashes = append(q.Hashes, d)
	}
	if len(q.Hashes) == 0 {
		return fault("%s has no --hash=sha256:…, so nothing says which bytes are meant; pip-compile --generate-hashes writes them", m[1])
	}
	r.all = append(r.all, q)
	return nil
}

func (r *reader) include(name string, n int, other string) error {
	at := path.Join(path.Dir(name), other)
	if other == "" || path.IsAbs(other) || strings.HasPrefix(at, "../") {
		return &LockError{name, n, fmt.Sprintf("it includes %q, which is outside of the input", other)}
	}
	text, err := r.read(at)
	if err != nil {
		return &LockError{name, n, fmt.Sprintf("it includes %q: %v", other, err)}
	}
	return r.file(at, text)
}

// via is who needs a requirement, as pip-compile writes it in comments below:
// "# via flask" or "# via" and a line for each.
func via(below []string) string {
	by := ""
	for _, l := range below {
		m := viaComment.FindStringSubmatch(l)
		if m == nil {
			break
		}
		for _, word := range strings.Split(m[1], ",") {
			word = strings.TrimSpace(word)
			switch {
			case strings.HasPrefix(word, "-r ") || strings.HasSuffix(word, ")"): // "-r requirements.in", "app (pyproject.toml)"
				return lockfile.ByRequest
			case anyLine.FindString(word) == word && word != "" && (by == "" || normal(word) < by):
				by = normal(word)
			}
		}
	}
	return by
}
