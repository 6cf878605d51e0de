package deb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// Apt runs apt's programs, unpacked from the named packages, without network, over a folder.
type Apt interface {
	// Run runs one command in an environment of PATH and LC_ALL=C only. When the program ends with another status than 0,
	// the error is one with a method ExitCode() int, of any type; every other
	// error means that it could not be run.
	Run(ctx context.Context, r AptRun) error
}

// AptRun is one run of a program of apt.
type AptRun struct {
	Packages       []lockfile.Package // what apt's root is unpacked from, not configured (native architecture); bytes must be fetched by the implementation
	Archives       []lockfile.Archive // where Packages come from, for Source.Locations
	Dir            string             // host folder, shown writable at AptDir inside
	Args           []string           // Args[0] is "/usr/bin/apt-get"; folders in the others begin with AptDir, and no file in Dir names a folder outside it
	Stdout, Stderr io.Writer
}

// AptDir is where apt sees AptRun.Dir.
const AptDir = "/apt"

// aptRefused is the status with which apt-get says no (apt-get(8), DIAGNOSTICS).
const aptRefused = 100

// maxAptOutput bounds what apt may print: a line of 250 bytes for each of
// Debian's 65 000 packages is 16 MB.
const maxAptOutput = 32 << 20

// aptRoot is apt's private world of one platform: lists of the verified
// indexes, an empty dpkg status, one package cache for all requests.
type aptRoot struct {
	ix       *Index
	dir      string
	apt      Apt
	packages []lockfile.Package
	archives []lockfile.Archive
}

// aptHost is the host name under which apt knows an archive. The name never
// resolves (RFC 2606), and one name for each archive keeps apart equal paths
// of two archives.
func aptHost(archive string) string { return archive + ".invalid" }

// newAptRoot writes the folder that apt reads.
func newAptRoot(dir string, ix *Index, files []indexFile, components []string) (*aptRoot, error) {
	lists := filepath.Join(dir, "state", "lists")
	for _, d := range []string{
		filepath.Join(lists, "partial"), filepath.Join(dir, "cache", "archives", "partial"),
		filepath.Join(dir, "etc", "preferences.d"), filepath.Join(dir, "etc", "apt.conf.d"), filepath.Join(dir, "log"),
	} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	var sources strings.Builder
	for _, a := range ix.archives {
		// What apt would verify, we have: the files below are already the verified ones.
		fmt.Fprintf(&sources, "deb [trusted=yes] http://%s %s %s\n", aptHost(a.Name), a.Name, strings.Join(components, " "))
		if err := os.WriteFile(filepath.Join(lists, listName(a.Name, "InRelease")), a.inRelease, 0o644); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		name := listName(ix.archives[f.archive].Name, f.component+"_binary-"+f.arch+"_Packages")
		if err := copyVerified(f, filepath.Join(lists, name)); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{
		"state/status": "", "state/extended_states": "", "etc/sources.list": sources.String(), "etc/apt.conf": "", "etc/preferences": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return &aptRoot{ix: ix, dir: dir}, nil
}

// listName is apt's own name for an index: its URL without the scheme, "/" as "_".
func listName(archive, rest string) string {
	return aptHost(archive) + "_dists_" + archive + "_" + rest
}

// prefer makes apt take exactly these packages where it takes them at all.
func (a *aptRoot) prefer(pins []lockfile.Package) error {
	var b strings.Builder
	for _, p := range pins {
		// Above 1000, apt goes back to an older version for it (apt_preferences(5)).
		fmt.Fprintf(&b, "Package: %s\nPin: version %s\nPin-Priority: 1001\n\n", p.Name, p.Version)
	}
	return os.WriteFile(filepath.Join(a.dir, "etc", "preferences"), []byte(b.String()), 0o644)
}

// options are given on the command line, which apt reads last, so that nothing
// of a configuration file anywhere can undo them.
func (a *aptRoot) options() []string {
	opts := []string{
		"Dir=" + AptDir + "/", "Dir::State=state/", "Dir::State::lists=lists/",
		"Dir::State::status=" + AptDir + "/state/status", "Dir::State::extended_states=extended_states",
		"Dir::Cache=cache/", "Dir::Cache::archives=archives/",
		"Dir::Cache::pkgcache=pkgcache.bin", "Dir::Cache::srcpkgcache=srcpkgcache.bin",
		"Dir::Etc=etc/", "Dir::Etc::sourcelist=sources.list", "Dir::Etc::sourceparts=-", "Dir::Etc::trusted=-", "Dir::Etc::trustedparts=-",
		"Dir::Etc::preferences=preferences", "Dir::Etc::preferencesparts=preferences.d", "Dir::Log=log/",
		"APT::Sandbox::User=root", // no user _apt, and the sandbox is tighter
		"Debug::NoLocking=1",      // nobody else knows the folder
		"APT::Install-Recommends=0", "APT::Install-Suggests=0",
		"Acquire::ForceHash=SHA256", // apt prints MD5 sums otherwise
		"Acquire::Languages=none",
		"APT::Architecture=" + a.ix.Arch, "APT::Architectures::=" + a.ix.Arch,
	}
	for _, f := range a.ix.Foreign {
		opts = append(opts, "APT::Architectures::="+f)
	}
	var args []string
	for _, o := range opts {
		args = append(args, "-o", o)
	}
	return args
}

func (a *aptRoot) run(ctx context.Context, quiet string, names []string) (stdout, stderr string, err error) {
	out, errs := &limitedBuffer{left: maxAptOutput}, &limitedBuffer{left: maxAptOutput}
	args := slices.Concat([]string{"/usr/bin/apt-get", quiet, "--print-uris", "-y"}, a.options(), []string{"install"}, names)
	err = a.apt.Run(ctx, AptRun{Packages: a.packages, Archives: a.archives, Dir: a.dir, Args: args, Stdout: out, Stderr: errs})
	return out.b.String(), errs.b.String(), err
}

// install asks apt which packages an empty root, or the base, needs to hold the
// named ones.
// Errors: *UnsatisfiableError (without Set), *AnswerError, or those of Apt.
func (a *aptRoot) install(ctx context.Context, set lockfile.SetRequest, g *ground, names []string) ([]int32, error) {
	var status []byte
	if g != nil {
		status = g.status
	}
	if err := os.WriteFile(filepath.Join(a.dir, "state", "status"), status, 0o644); err != nil {
		return nil, err
	}
	stdout, stderr, err := a.run(ctx, "-qq", names)
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) && exit.ExitCode() == aptRefused && ctx.Err() == nil {
		// Asked quietly it answers in lines that can be parsed strictly, but
		// explains nothing.
		stdout, stderr, _ := a.run(ctx, "-q", names)
		return nil, &UnsatisfiableError{Set: set.Name, Arch: a.ix.Arch, Request: set.Packages, Explanation: explain(stdout, stderr)}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot run apt: %w%s", err, said(stderr))
	}
	answer, err := a.ix.parseAnswer(stdout)
	if err != nil {
		return nil, &AnswerError{Set: set.Name, Problem: err.Error()}
	}
	return answer, nil
}

var answerLine = regexp.MustCompile(`^'http://([a-z0-9.+-]+)\.invalid/([^' ]+)' ([^ ]+) ([0-9]+) SHA256:([0-9a-f]{64})$`)

// parseAnswer reads apt-get's --print-uris and finds every line in our own index.
func (ix *Index) parseAnswer(text string) ([]int32, error) {
	var out []int32
	seen := map[int32]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		m := answerLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("it holds the line %q", clip([]byte(line)))
		}
		i, err := ix.lookUp(m[1], m[2], m[3], m[4], m[5])
		if err != nil {
			return nil, err
		}
		if seen[i] {
			return nil, fmt.Errorf("it names %q twice", m[3])
		}
		seen[i] = true
		out = append(out, i)
	}
	return out, nil
}

func (ix *Index) lookUp(suite, escaped, file, size, sum string) (int32, error) {
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return 0, fmt.Errorf("it holds the path %q", clip([]byte(escaped)))
	}
	which := slices.IndexFunc(ix.archives, func(a *archive) bool { return a.Name == suite })
	i, ok := ix.byPath[archivePath{uint8(max(0, which)), path}]
	if which < 0 || !ok {
		return 0, fmt.Errorf("it names %q of %q, which the verified index does not have", path, suite)
	}
	s := &ix.stanzas[i]
	// apt names the file after the package, with ":" and "_" of versions escaped.
	name := s.Package + "_" + strings.NewReplacer(":", "%3a", "_", "%5f").Replace(s.Version) + "_" + s.Architecture + ".deb"
	want, err := digest.ParseHex(sum)
	if err != nil {
		return 0, err
	}
	if name != file || strconv.FormatInt(s.Size, 10) != size || want != s.SHA256 {
		return 0, fmt.Errorf("it says %s, %s bytes, %s of %q; the verified index says %s, %d bytes, %s",
			file, size, want.Short(), path, name, s.Size, s.SHA256.Short())
	}
	return i, nil
}

func said(stderr string) string {
	if stderr = strings.TrimSpace(stderr); stderr == "" {
		return ""
	}
	return "; it said: " + clip([]byte(stderr))
}

// explain keeps of apt's words those that say why, one fact a line.
func explain(stdout, stderr string) string {
	var out []string
	keep := false
	for line := range strings.Lines(stdout) {
		line = strings.TrimRight(line, "\n ")
		switch {
		case strings.HasPrefix(line, "The following packages have unmet dependencies"):
			keep = true
		case keep && strings.HasPrefix(line, " "):
			out = append(out, strings.Join(strings.Fields(line), " "))
		default:
			keep = false
		}
	}
	keep = false
	for line := range strings.Lines(stderr) {
		e, isError := strings.CutPrefix(line, "E: ")
		switch {
		case isError:
			// Says nothing once the reasons are known.
			keep = len(out) == 0 || !strings.Contains(e, "held broken packages")
		case !strings.HasPrefix(line, " "):
			keep = false // a warning
		}
		if keep { // solver3 explains in lines below its error
			out = append(out, strings.Join(strings.Fields(e), " "))
		}
	}
	return strings.Join(out, "\n")
}

// limitedBuffer keeps the first bytes written to it and refuses more.
type limitedBuffer struct {
	b    bytes.Buffer
	left int
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, fmt.Errorf("apt printed more than %d bytes", maxAptOutput)
	}
	l.left -= len(p)
	return l.b.Write(p)
}

// aptClosure chooses what apt itself needs to run, by first alternatives: it
// is small, and there is no apt yet to ask. Packages are taken as newest.
func (ix *Index) aptClosure() ([]int32, error) {
	start, ok := ix.newest("apt")
	if !ok {
		return nil, &NotFoundError{Name: "apt", Suite: ix.Suite, Arch: ix.Arch}
	}
	in := map[int32]bool{start: true}
	queue := []int32{start}
	// apt reads dpkg's table of architectures (usr/share/dpkg/cputable), and
	// does not depend on dpkg, which is Essential.
	if i, ok := ix.newest("dpkg"); ok {
		in[i] = true
		queue = append(queue, i)
	}
	for ; len(queue) > 0; queue = queue[1:] {
		clauses, err := ix.needs(queue[0])
		if err != nil {
			return nil, err
		}
		for _, c := range clauses {
			i, ok := ix.firstAlternative(c)
			if !ok {
				return nil, &UnsatisfiableError{Set: "apt", Arch: ix.Arch, Request: []string{"apt"},
					Explanation: fmt.Sprintf("%s needs %s, which is not there", ix.stanzas[queue[0]].Package, c)}
			}
			if !in[i] {
				in[i] = true
				queue = append(queue, i)
			}
		}
	}
	out := make([]int32, 0, len(in))
	for i := range in {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b int32) int { return strings.Compare(ix.stanzas[a].Package, ix.stanzas[b].Package) })
	return out, nil
}

func (ix *Index) firstAlternative(c Clause) (int32, bool) {
	for _, r := range c {
		if i, ok := ix.newest(r.Name); ok && r.Allows(ix.stanzas[i].Version) {
			return i, true
		}
		for _, p := range ix.providers(r.Name, ix.Arch) {
			if i, ok := ix.newest(p); ok {
				return i, true
			}
		}
	}
	return 0, false
}
