package npm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
)

// packageLock is a package-lock.json of version 2 or 3, as far as it says what
// to bring (npm's documentation, package-lock.json).
type packageLock struct {
	file     string
	packages map[string]*entry // by place: "" is the project, "node_modules/a/node_modules/b" a package
}

// entry is one place of node_modules.
type entry struct {
	line int

	Name      string `json:"name"` // where it differs from the place's: an alias
	Version   string `json:"version"`
	Resolved  string `json:"resolved"`
	Integrity string `json:"integrity"`
	Link      bool   `json:"link"`
	InBundle  bool   `json:"inBundle"`
	OS        words  `json:"os"`
	CPU       words  `json:"cpu"`

	Dependencies         map[string]string `json:"dependencies"`
	DevDependencies      map[string]string `json:"devDependencies"`
	OptionalDependencies map[string]string `json:"optionalDependencies"`
	PeerDependencies     map[string]string `json:"peerDependencies"`
}

// words is a list of words, which old packages write as one.
type words []string

func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

var (
	// packageName is npm's rule for names (validate-npm-package-name), capitals included, which old packages have.
	packageName = regexp.MustCompile(`^(@[A-Za-z0-9~-][A-Za-z0-9._~-]*/)?[A-Za-z0-9~_-][A-Za-z0-9._~-]*$`)
	// versionPattern is Semantic Versioning 2.0.0, loosely: what may stand in a path.
	versionPattern = regexp.MustCompile(`^[0-9][0-9A-Za-z.+-]*$`)
)

// maxPackages is ten times what the largest project that we know of has.
const maxPackages = 100_000

// LockError says what is wrong with a project's package-lock.json, and where.
type LockError struct {
	File    string
	Line    int
	Problem string
}

func (e *LockError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Problem) }

func (l *packageLock) fault(e *entry, format string, args ...any) error {
	return &LockError{l.file, e.line, fmt.Sprintf(format, args...)}
}

// parse reads a package-lock.json token by token, for the lines of its entries.
func parse(file string, text []byte) (*packageLock, error) {
	p := &parser{file: file, text: text, dec: json.NewDecoder(bytes.NewReader(text))}
	l := &packageLock{file: file, packages: map[string]*entry{}}
	version := 0
	err := p.object(func(key string) error {
		switch key {
		case "lockfileVersion":
			return p.dec.Decode(&version)
		case "packages":
			return p.object(func(where string) error { return p.entry(l, where) })
		}
		var rest json.RawMessage
		return p.dec.Decode(&rest)
	})
	if err == nil {
		if _, more := p.dec.Token(); more == nil {
			err = fmt.Errorf("more text after the end")
		}
	}
	if err != nil {
		return nil, p.fault(err)
	}
	if version != 2 && version != 3 {
		return nil, &LockError{file, 1, fmt.Sprintf("lockfileVersion is %d, expected 2 or 3; run: npm install --package-lock-only --lockfile-version 3", version)}
	}
	if _, ok := l.packages[""]; !ok {
		return nil, &LockError{file, 1, `it has no entry "" in "packages", which stands for the project itself`}
	}
	return l, nil
}

type parser struct {
	file string
	text []byte
	dec  *json.Decoder

	counted int64 // bytes of text whose lines are counted
	lines   int   // of them
}

// line is where the decoder is, counted on from where it was asked last.
func (p *parser) line() int {
	now := p.dec.InputOffset()
	p.lines += bytes.Count(p.text[p.counted:now], []byte("\n"))
	p.counted = now
	return 1 + p.lines
}

func (p *parser) fault(err error) error {
	if already, ok := err.(*LockError); ok {
		return already
	}
	return &LockError{p.file, p.line(), fmt.Sprintf("it is not JSON as npm writes it: %v", err)}
}

// object calls visit for each key of the next value, which has to be an object.
func (p *parser) object(visit func(key string) error) error {
	if t, err := p.dec.Token(); err != nil {
		return err
	} else if t != json.Delim('{') {
		return fmt.Errorf("%v instead of an object", t)
	}
	seen := map[string]bool{}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		if seen[key] {
			return &LockError{p.file, p.line(), fmt.Sprintf("%q stands twice", key)}
		}
		seen[key] = true
		if err := visit(key); err != nil {
			return err
		}
	}
	_, err := p.dec.Token()
	return err
}

func (p *parser) entry(l *packageLock, where string) error {
	e := &entry{line: p.line()}
	if len(l.packages) >= maxPackages {
		return &LockError{p.file, e.line, fmt.Sprintf("more than %d packages", maxPackages)}
	}
	if err := p.dec.Decode(e); err != nil {
		return err
	}
	if where != "" && (path.IsAbs(where) || path.Clean(where) != where || strings.ContainsAny(where, "\\\x00")) {
		return l.fault(e, "%q is no place in a project", where)
	}
	if e.Link && outside(e.Resolved) {
		return l.fault(e, "%q is a link to %q, which is outside of the project's folder; only what the input holds can be built", where, e.Resolved)
	}
	if outside(where) {
		return l.fault(e, "%q lies outside of the project's folder; only what the input holds can be built", where)
	}
	l.packages[where] = e
	return nil
}

func outside(p string) bool {
	clean := path.Clean(p)
	return path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../")
}

// brought reports whether an entry is a tarball of its own that comes from outside.
func (e *entry) brought(where string) bool {
	inside := strings.HasPrefix(e.Resolved, "file:") && !outside(strings.TrimPrefix(e.Resolved, "file:"))
	installed := strings.HasPrefix(where, "node_modules/") || strings.Contains(where, "/node_modules/")
	return installed && !e.Link && !e.InBundle && !inside
}

// cpus are Node's names of processors (process.arch) by GOARCH.
var cpus = map[string]string{"amd64": "x64", "386": "ia32", "ppc64le": "ppc64", "mips64le": "mips64el", "mipsle": "mipsel"}

// platforms returns the platforms that need the package: [""] when all do.
func (e *entry) platforms(all []definition.Platform) []string {
	var fit []string
	for _, p := range all {
		cpu := p.Architecture
		if c, ok := cpus[cpu]; ok {
			cpu = c
		}
		if allows(e.OS, p.OS) && allows(e.CPU, cpu) {
			fit = append(fit, p.String())
		}
	}
	if len(fit) == len(all) {
		return []string{""}
	}
	return fit
}

// allows is npm's rule for os and cpu: none of the words that begin with "!", and one of the others, if there are any.
func allows(list words, value string) bool {
	if len(list) == 0 || len(list) == 1 && list[0] == "any" {
		return true
	}
	named, fits := false, false
	for _, w := range list {
		if not, ok := strings.CutPrefix(w, "!"); ok {
			if not == value {
				return false
			}
			continue
		}
		named, fits = true, fits || w == value
	}
	return fits || !named
}

// needers says of each place which package brought it there: ByRequest for
// what the project or a workspace asks for, else the first by name. What is for
// none of the platforms needs nothing here.
func (l *packageLock) needers(platforms []definition.Platform) map[string]string {
	by := map[string]string{}
	for from, e := range l.packages {
		needer := lockfile.ByRequest
		if i := strings.LastIndex(from, "node_modules/"); i >= 0 {
			if !e.brought(from) || len(e.platforms(platforms)) == 0 {
				continue
			}
			needer = cmp.Or(e.Name, from[i+len("node_modules/"):])
		}
		for _, list := range []map[string]string{e.Dependencies, e.DevDependencies, e.OptionalDependencies, e.PeerDependencies} {
			for name := range list {
				if to, ok := l.find(from, name); ok {
					by[to] = nearer(by[to], needer)
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
	case b == "" || a == lockfile.ByRequest:
		return a
	}
	return min(a, b)
}

// find returns the place that require(name) finds from a place: the nearest
// node_modules on the way up (Node's documentation, "Loading from node_modules folders").
func (l *packageLock) find(from, name string) (string, bool) {
	for dir := from; ; dir = parent(dir) {
		at := path.Join(dir, "node_modules", name)
		if _, ok := l.packages[at]; ok {
			return at, true
		}
		if dir == "" {
			return "", false
		}
	}
}

func parent(dir string) string {
	dir = path.Dir(dir)
	for path.Base(dir) == "node_modules" {
		dir = path.Dir(dir)
	}
	if dir == "." {
		return ""
	}
	return dir
}
