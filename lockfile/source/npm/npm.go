// Package npm locks the packages that a project's package-lock.json names, and
// says where their tarballs may be had.
//
//	inputs:
//	  local: {app: {path: ./app}}
//	  npm:   {packages: {from: app}}
//	steps:
//	  - name: install
//	    packages: [npm]
//	    inputs: [app, packages]
//	    env: {npm_config_cache: /inputs/packages}
//	    run: cp -r /inputs/app . && cd app && npm ci --offline …
//
// package-lock.json has chosen already (npm did, when the maintainer ran it);
// what is left is to bring each tarball once, to hold it against the lock's
// sha512, and to write down its sha256 and size. Packages for other systems
// than the definition's platforms (fields os and cpu) are left out, as npm
// leaves them out. Links and workspaces are part of the project, and what is
// bundled lies in another package's tarball. Git dependencies, tarballs without
// sha512 and lock files before version 2 are refused by name and line.
//
// # Where tarballs are
//
// A pin's path is what every npm registry has the tarball under, NAME/-/FILE.tgz.
// Which registry is asked is this machine's configuration, in npm's own order
// ([Registries]). A lock file holds whole URLs unless omit-lockfile-registry-resolved
// is set. Those of the host that most of them name are taken to be "the
// registry"; the URL of any other is kept in the pin, and asked after the registry.
//
// Tokens and passwords of that configuration (_authToken, _auth, username and
// _password of single registries, with ${NAME} from the environment) go to the
// paths that they are set for and nowhere else: not to other hosts that a
// registry redirects to, and not over http unless the registry is configured so.
// They are never in a lock, a store, a message or a build. Client certificates
// (certfile, keyfile) and tokens that are for no registry in particular are not
// used, and ways and roots of trust (proxy, cafile) are not npm's but those of
// all our traffic: HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE.
//
// # What registries sign
//
// A registry may offer keys at /-/npm/v1/keys and have a signature of each
// version, over "NAME@VERSION:INTEGRITY". Where it does, every package of it is
// held against them, as npm audit signatures does: a signature that is missing, of
// an unknown key, or that does not hold, is an error, as is an integrity in
// package-lock.json that the registry does not stand for. What was published
// after a key's end is not taken from it. An input says how much it wants:
//
//	npm: {packages: {from: app}}                              # signatures: when-offered
//	npm: {packages: {from: app, signatures: required}}        # a registry without keys is an error
//	npm: {packages: {from: app, signed-by: [npm-keys.json]}}  # by these keys alone; no registry is asked for its own
//	npm: {packages: {from: app, signatures: off}}
//
// A key that is only offered is believed when it is first seen. So the lock has
// the keys that stand for something, in one line; a key
// that takes part from now on is a changed line, one that changed under its name
// is an error, and so is a registry that had keys and offers none any more. A
// file under signed-by is what a registry has at /-/npm/v1/keys, kept beside the
// definition; with it a mirror that passes signatures on needs no keys. (npm
// itself has the public registry's keys from TUF; we do not.)
//
// A key's end is judged once, when the package is locked. The lock has the
// signatures and the keys, so they are judged again without a network whenever
// it is locked anew and when it is built (builder/unpack/npm): a line of the lock
// that nobody signed cannot say that somebody did. What comes from the URL of a
// tarball, and not from a registry, nobody signs.
package npm

import (
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/httpfile"
)

// FileName is npm's own lock file.
const FileName = "package-lock.json"

// maxTarball is twice the largest package that the public registry lets in by default.
const maxTarball = 1 << 30

// Options say how a machine reaches registries.
type Options struct {
	Config *Config                           // MachineConfig, or another
	Key    func(name string) ([]byte, error) // a file that signed-by names; may be nil where no input does
}

// Source is npm's registries as a machine is configured for them.
type Source struct {
	config *Config
	key    func(name string) ([]byte, error)
	client *httpfile.Client
}

// New returns a source.
func New(o Options) *Source {
	return &Source{o.Config, o.Key, httpfile.Default().WithAuthorization(o.Config.authorization)}
}

// Resolve implements source.Kind.
func (s *Source) Resolve(ctx context.Context, q source.Query) (*source.Answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	file := path.Join(q.Request.Ask["path"], FileName)
	text, err := q.Tree.ReadFile(file)
	if err != nil {
		return nil, missing(q.Tree, file, err)
	}
	lock, err := parse(file, text)
	if err != nil {
		return nil, err
	}
	pins, lines, err := lock.pins(q.Platforms)
	if err != nil {
		return nil, err
	}
	return s.bring(ctx, q, file, pins, lines)
}

// missing says how to come by a package-lock.json, from another's lock file where there is one.
func missing(tree *source.Tree, file string, err error) error {
	if _, ok := err.(*fs.PathError); !ok {
		return err
	}
	names, _ := tree.Folder(path.Dir(file)) // where there is no folder, there is no other lock file
	for _, other := range []struct{ name, way string }{
		{"npm-shrinkwrap.json", "it has the same form; rename it"},
		{"yarn.lock", "npm takes over what it says with: npm install --package-lock-only"},
		{"pnpm-lock.yaml", "npm writes one of its own with: npm install --package-lock-only"},
		{"bun.lock", "npm writes one of its own with: npm install --package-lock-only"},
	} {
		if slices.Contains(names, other.name) {
			return fmt.Errorf("there is no %s in input %q, only %s, which is not read; %s", file, tree.Name, other.name, other.way)
		}
	}
	return fmt.Errorf("there is no %s in input %q; npm writes one with: npm install --package-lock-only", file, tree.Name)
}

// bring fills in sizes and digests, of pins locked before without asking anybody.
func (s *Source) bring(ctx context.Context, q source.Query, file string, pins []lockfile.Pin, lines []int) (*source.Answer, error) {
	old := map[[2]string]lockfile.Pin{}
	for _, p := range q.Pins {
		old[[2]string{p.Path, p.Integrity}] = p
	}
	first := map[string]int{} // path → place in wanted: one tarball may be pinned for several platforms
	var wanted []source.Wanted
	for i := range pins {
		p := &pins[i]
		if was, ok := old[[2]string{p.Path, p.Integrity}]; ok {
			p.Size, p.SHA256 = was.Size, was.SHA256
			continue
		}
		if _, ok := first[p.Path]; ok {
			continue
		}
		sources, err := s.Open(q.Request, *p)
		if err != nil {
			return nil, err
		}
		first[p.Path] = len(wanted)
		name := p.Name + " " + p.Version
		wanted = append(wanted, source.Wanted{
			Name: name, File: file, Line: lines[i], Key: "npm " + p.Integrity, Sources: sources, Limit: maxTarball, Verify: holds(name, p.Integrity, file, lines[i]),
		})
	}
	got, err := source.Bring(ctx, wanted, q.Blobs, q.Fetch)
	if err != nil {
		return nil, err
	}
	for i := range pins {
		if j, ok := first[pins[i].Path]; ok && pins[i].SHA256.IsZero() {
			pins[i].Size, pins[i].SHA256 = got[j].Size, got[j].SHA256
		}
	}
	facts, err := s.check(ctx, q, file, pins, lines)
	if err != nil {
		return nil, err
	}
	return &source.Answer{Facts: facts, Pins: pins}, nil
}

// holds compares a tarball against the sha512 of package-lock.json, in the form
// of Subresource Integrity (W3C), section 3.1.
func holds(name, want, file string, line int) func(io.ReaderAt, int64) error {
	return func(r io.ReaderAt, size int64) error {
		h := sha512.New()
		if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
			return err
		}
		have := "sha512-" + base64.StdEncoding.EncodeToString(h.Sum(nil))
		if have != want {
			return &source.IntegrityError{Name: name, Want: want, Have: have, File: file, Line: line}
		}
		return nil
	}
}

// Open implements source.Kind.
func (s *Source) Open(_ lockfile.InputRequest, pin lockfile.Pin) ([]fetch.Source, error) {
	var places []string
	var all []fetch.Source
	if registry, err := s.config.Registries.of(pin.Name); err == nil {
		places = append(places, strings.TrimSuffix(registry, "/")+"/"+pin.Path)
	} else {
		all = append(all, &builtInPlace{s: s, pin: pin})
	}
	if pin.URL != "" && !slices.Contains(places, pin.URL) {
		places = append(places, pin.URL)
	}
	for _, place := range places {
		src, err := s.place(place)
		if err != nil {
			return nil, fmt.Errorf("npm package %q: %w", pin.Name, err)
		}
		all = append(all, src)
	}
	return all, nil
}

// pins returns what has to be brought, sorted, and the line of each in the lock file.
func (l *packageLock) pins(platforms []definition.Platform) ([]lockfile.Pin, []int, error) {
	type pinned struct {
		lockfile.Pin
		line int
	}
	by := l.needers(platforms)
	registry := l.registry()
	byPlace := map[[2]string]pinned{} // path and platform
	for _, where := range slices.Sorted(maps.Keys(l.packages)) {
		e := l.packages[where]
		if !e.brought(where) {
			continue
		}
		pin, err := l.pin(where, e, registry)
		if err != nil {
			return nil, nil, err
		}
		for _, platform := range e.platforms(platforms) {
			pin.Platform, pin.By = platform, by[where]
			at := [2]string{pin.Path, platform}
			if before, twice := byPlace[at]; twice {
				if before.Integrity != pin.Integrity {
					return nil, nil, l.fault(e, "%s is to be %s here and %s in line %d; they cannot be the same tarball", pin.Path, pin.Integrity, before.Integrity, before.line)
				}
				pin.By = nearer(before.By, pin.By) // the same tarball at another place of node_modules
			}
			byPlace[at] = pinned{pin, e.line}
		}
	}
	for at, p := range byPlace {
		all, twice := byPlace[[2]string{at[0], ""}]
		if at[1] == "" || !twice {
			continue
		}
		if all.Integrity != p.Integrity {
			return nil, nil, &LockError{l.file, p.line, fmt.Sprintf("%s is to be %s here and %s in line %d; they cannot be the same tarball", p.Path, p.Integrity, all.Integrity, all.line)}
		}
		all.By = nearer(all.By, p.By)
		byPlace[[2]string{at[0], ""}] = all
		delete(byPlace, at)
	}
	sorted := slices.SortedFunc(maps.Values(byPlace), func(a, b pinned) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Platform, b.Platform))
	})
	pins, lines := make([]lockfile.Pin, len(sorted)), make([]int, len(sorted))
	for i, p := range sorted {
		pins[i], lines[i] = p.Pin, p.line
	}
	return pins, lines, nil
}

// pin says what an entry of the lock file is, as far as the file tells.
func (l *packageLock) pin(where string, e *entry, registry string) (lockfile.Pin, error) {
	name := e.Name
	if name == "" {
		name = where[strings.LastIndex(where, "node_modules/")+len("node_modules/"):]
	}
	switch {
	case !packageName.MatchString(name):
		return lockfile.Pin{}, l.fault(e, "%q is not the name of a package", name)
	case !versionPattern.MatchString(e.Version):
		return lockfile.Pin{}, l.fault(e, "package %q has the version %q, which is none", name, e.Version)
	}
	pin := lockfile.Pin{Name: name, Version: e.Version, Path: tarball(name, e.Version)}
	if err := l.place(e, &pin, registry); err != nil {
		return lockfile.Pin{}, err
	}
	for hash := range strings.FieldsSeq(e.Integrity) {
		if sum, ok := strings.CutPrefix(hash, "sha512-"); ok {
			sum, _, _ = strings.Cut(sum, "?")
			if b, err := base64.StdEncoding.DecodeString(sum); err == nil && len(b) == sha512.Size {
				pin.Integrity = "sha512-" + sum
				return pin, nil
			}
		}
	}
	if e.Integrity == "" {
		return pin, l.fault(e, "package %q has no integrity, so nothing says which bytes are meant; delete node_modules and its entry, then run: npm install", name)
	}
	return pin, l.weak(e, name)
}

// weak says that a package has no sha512, as in lock files that were begun before
// npm 5 and kept ever since, and how all of them get one.
func (l *packageLock) weak(e *entry, name string) error {
	algorithm, _, _ := strings.Cut(e.Integrity, "-")
	more, count := "", 0
	for where, other := range l.packages {
		if other != e && other.brought(where) && strings.HasPrefix(other.Integrity, algorithm+"-") {
			count++
		}
	}
	if count > 0 {
		more = fmt.Sprintf(", as have %d more", count)
	}
	if !packageName.MatchString(algorithm) {
		return l.fault(e, "package %q has the integrity %q, expected one by sha512; delete its entry, then run: npm install", name, e.Integrity)
	}
	return l.fault(e, "package %q has the integrity %q%s, expected one by sha512; npm asks the registry for it again after: sed -i '/\"integrity\": \"%s-/d' %s && npm install --package-lock-only",
		name, e.Integrity, more, algorithm, path.Base(l.file))
}

// tarball is the path that every registry has a package's tarball under.
func tarball(name, version string) string {
	return name + "/-/" + path.Base(name) + "-" + version + ".tgz"
}

// place reads where the lock file found the tarball. Paths of the registry's
// own form are the registry's, whichever that is here; others keep their URL.
func (l *packageLock) place(e *entry, pin *lockfile.Pin, registry string) error {
	if e.Resolved == "" {
		return nil
	}
	u, err := url.Parse(e.Resolved)
	switch {
	case err != nil:
		return l.fault(e, "package %q comes from %q, which is no URL", pin.Name, e.Resolved)
	case strings.HasPrefix(u.Scheme, "git"):
		return l.fault(e, "package %q comes from a git repository (%s), which package-lock.json vouches for by nothing but its commit; publish it, or make it a workspace in a git input", pin.Name, u.Redacted())
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return l.fault(e, "package %q comes from %q, expected https://", pin.Name, u.Redacted())
	case u.User != nil:
		return l.fault(e, "the URL of package %q holds a user name or password, which everyone could read", pin.Name)
	}
	own := strings.HasSuffix(u.EscapedPath(), "/"+pin.Path) || strings.HasSuffix(u.Path, "/"+pin.Path)
	if own && u.Host == registry {
		return nil
	}
	if !own {
		pin.Path = "url/" + u.Host + u.Path
	}
	if path.Clean(pin.Path) != pin.Path || strings.ContainsAny(pin.Path, "\\?#") {
		return l.fault(e, "package %q comes from %q, whose path is not one that a file can have", pin.Name, u.Redacted())
	}
	pin.URL = e.Resolved
	return nil
}

// registry is the host that most URLs of the registry's own form name; of equals the first by name.
func (l *packageLock) registry() string {
	count := map[string]int{}
	for where, e := range l.packages {
		if u, err := url.Parse(e.Resolved); e.brought(where) && err == nil && strings.Contains(u.Path, "/-/") {
			count[u.Host]++
		}
	}
	most := ""
	for _, host := range slices.Sorted(maps.Keys(count)) {
		if most == "" || count[host] > count[most] {
			most = host
		}
	}
	return most
}
