package debtest

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"quorate.dev/lockfile/source/deb"
)

// Apt stands in for the real apt, in the process itself.
type Apt struct{}

// Run is deb.Apt's.
func (Apt) Run(_ context.Context, r deb.AptRun) error {
	if code := AptGet(r.Args, r.Dir, r.Stdout, r.Stderr); code != 0 {
		return exitError(code)
	}
	return nil
}

type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func (e exitError) ExitCode() int { return int(e) }

// AptGet answers "apt-get --print-uris install NAME…" as Quorate asks it, over
// the folder dir, in which it reads state/lists, state/status and
// etc/preferences. It takes the newest versions and, of each need, an alternative
// already chosen or installed, or else the first there is, which may be a newer
// version of what is installed; what conflicts with that would be removed. It knows versioned needs, Provides and Conflicts, and
// never goes back on a choice. A test's binary can be put into an archive as
// package apt's program (Options.AptGet) when its main calls
//
//	os.Exit(debtest.AptGet(os.Args, "/apt", os.Stdout, os.Stderr))
func AptGet(args []string, dir string, stdout, stderr io.Writer) int {
	c := &chooser{newest: map[string]*candidate{}, all: map[string][]*candidate{}, chosen: map[string]*candidate{}, installed: map[string]*candidate{}}
	names, err := c.read(args, dir)
	if err == nil {
		err = c.choose(names)
	}
	if err != nil {
		fmt.Fprintf(stdout, "The following packages have unmet dependencies:\n %v\n", err)
		fmt.Fprintln(stderr, "E: Unable to correct problems, you have held broken packages.")
		return 100
	}
	for _, p := range c.order {
		version := strings.ReplaceAll(p.Version, ":", "%3a")
		fmt.Fprintf(stdout, "'http://%s.invalid/%s' %s_%s_%s.deb %d SHA256:%s\n", p.archive,
			(&url.URL{Path: p.Filename}).EscapedPath(), p.Package, version, p.Architecture, p.Size, p.SHA256.Hex())
	}
	return 0
}

type candidate struct {
	deb.Stanza
	archive string
}

type chooser struct {
	arch      string
	newest    map[string]*candidate
	all       map[string][]*candidate
	chosen    map[string]*candidate
	installed map[string]*candidate
	order     []*candidate
}

func (c *chooser) read(args []string, dir string) (names []string, err error) {
	install := slices.Index(args, "install")
	if install < 0 {
		return nil, fmt.Errorf("not asked to install")
	}
	for _, a := range args[:install] {
		if v, ok := strings.CutPrefix(a, "APT::Architecture="); ok {
			c.arch = v
		}
	}
	lists, err := filepath.Glob(filepath.Join(dir, "state", "lists", "*_Packages"))
	if err != nil {
		return nil, err
	}
	for _, l := range lists {
		archive, _, _ := strings.Cut(path.Base(filepath.ToSlash(l)), ".invalid_")
		if err := c.readList(l, archive); err != nil {
			return nil, err
		}
	}
	if err := c.readStatus(filepath.Join(dir, "state", "status")); err != nil {
		return nil, err
	}
	return args[install+1:], c.readPreferences(filepath.Join(dir, "etc", "preferences"))
}

func (c *chooser) readList(file, archive string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return deb.ParsePackages(f, func(s deb.Stanza) error {
		p := &candidate{s, archive}
		c.all[s.Package] = append(c.all[s.Package], p)
		if old := c.newest[s.Package]; old == nil || deb.CompareVersions(s.Version, old.Version) > 0 {
			c.newest[s.Package] = p
		}
		return nil
	})
}

func (c *chooser) readStatus(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	list, err := deb.ParseInstalled(text)
	for _, s := range list {
		c.installed[s.Package] = &candidate{Stanza: s}
	}
	return err
}

func (c *chooser) readPreferences(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	name := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "Package: "); ok {
			name = v
		}
		if v, ok := strings.CutPrefix(line, "Pin: version "); ok {
			c.prefer(name, v)
		}
	}
	return nil
}

func (c *chooser) prefer(name, version string) {
	for _, p := range c.all[name] {
		if p.Version == version {
			c.newest[name] = p
		}
	}
}

func (c *chooser) choose(names []string) error {
	for _, n := range names {
		name, version, versioned := strings.Cut(n, "=")
		if versioned {
			c.prefer(name, version)
		}
		p := c.newest[name]
		if p == nil {
			return fmt.Errorf("%s is not there", n)
		}
		c.take(p)
	}
	for i := 0; i < len(c.order); i++ {
		if err := c.satisfy(c.order[i]); err != nil {
			return err
		}
	}
	return c.conflicts()
}

func (c *chooser) take(p *candidate) {
	if c.chosen[p.Package] == nil {
		c.chosen[p.Package] = p
		c.order = append(c.order, p)
	}
}

func (c *chooser) satisfy(p *candidate) error {
	for _, text := range []string{p.PreDepends, p.Depends} {
		clauses, err := deb.ParseRelations(text)
		if err != nil {
			return err
		}
		for _, clause := range clauses {
			if slices.ContainsFunc(clause, func(r deb.Relation) bool { return find(c.chosen, r) != nil || c.stays(find(c.installed, r)) }) {
				continue
			}
			i := slices.IndexFunc(clause, func(r deb.Relation) bool { return find(c.newest, r) != nil })
			if i < 0 {
				return fmt.Errorf("%s : Depends: %s but it is not installable", p.Package, clause)
			}
			c.take(find(c.newest, clause[i]))
		}
	}
	return nil
}

// stays reports whether an installed package is there and no other version of it was chosen.
func (c *chooser) stays(p *candidate) bool { return p != nil && c.chosen[p.Package] == nil }

// find returns what meets a relation: the package of that name, or the first
// by name that provides it.
func find(from map[string]*candidate, r deb.Relation) *candidate {
	if p := from[r.Name]; p != nil && r.Allows(p.Version) {
		return p
	}
	var best *candidate
	for _, p := range from {
		if provides(p, r) && (best == nil || p.Package < best.Package) {
			best = p
		}
	}
	return best
}

func meets(p *candidate, r deb.Relation) bool {
	return p.Package == r.Name && r.Allows(p.Version) || provides(p, r)
}

func provides(p *candidate, r deb.Relation) bool {
	clauses, err := deb.ParseRelations(p.Provides)
	return err == nil && slices.ContainsFunc(clauses, func(c deb.Clause) bool {
		return c[0].Name == r.Name && (r.Op == "" || c[0].Version != "" && r.Allows(c[0].Version))
	})
}

func (c *chooser) conflicts() error {
	for _, p := range c.order {
		for _, text := range []string{p.Conflicts, p.Breaks} {
			clauses, err := deb.ParseRelations(text)
			if err != nil {
				return err
			}
			for _, clause := range clauses {
				if slices.ContainsFunc(c.order, func(q *candidate) bool { return q != p && meets(q, clause[0]) }) {
					return fmt.Errorf("%s : Conflicts: %s", p.Package, clause)
				}
			}
		}
	}
	return nil
}
