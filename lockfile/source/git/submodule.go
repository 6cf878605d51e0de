package git

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/source/local"
	"quorate.dev/lockfile/strictyaml"
)

// submodule is a commit that a tree has in place of a folder.
type submodule struct {
	path   string // of the folder, in the whole tree
	commit string
	url    string
}

// maxSubmodules bounds them, of all depths together: each costs a connection.
const maxSubmodules = 1000

// tree lists the files of a commit, and where the repository is to have them,
// those of its submodules and theirs: each is a commit that the tree names, so
// that one id vouches for all. Their objects go into the same folder.
func (r *repository) tree(ctx context.Context, id string) (*commit, []file, []submodule, error) {
	top, files, open, err := r.listCommit(ctx, submodule{commit: id, url: r.url})
	if err != nil {
		return nil, nil, nil, err
	}
	var all []submodule
	for len(open) > 0 {
		m := open[0]
		open = open[1:]
		if all = append(all, m); len(all) > maxSubmodules {
			return nil, nil, nil, fmt.Errorf("it has more than %d submodules", maxSubmodules)
		}
		from := &repository{dir: r.dir, url: m.url, made: true, apart: len(all)}
		if err := from.fetch(ctx, position{commit: m.commit}); err != nil {
			return nil, nil, nil, fmt.Errorf("submodule %q: %w", m.path, err)
		}
		_, more, links, err := r.listCommit(ctx, m)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("submodule %q: %w", m.path, err)
		}
		if files = append(files, more...); len(files) > local.MaxFiles {
			return nil, nil, nil, fmt.Errorf("the tree has more than %d files", local.MaxFiles)
		}
		open = append(open, links...)
	}
	return top, files, all, nil
}

// listCommit lists one commit's own tree, and its submodules with their URLs.
func (r *repository) listCommit(ctx context.Context, m submodule) (*commit, []file, []submodule, error) {
	o, err := r.objects(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	defer o.close()
	c, err := o.commit(m.commit)
	if err != nil {
		return nil, nil, nil, err
	}
	var files []file
	if err := o.list(c.tree, m.path, 0, &files); err != nil {
		return nil, nil, nil, err
	}
	var links []submodule
	modules := "" // id of .gitmodules
	for i := range files {
		f := &files[i]
		if f.Path == path.Join(m.path, ".gitmodules") && f.Kind == local.File {
			modules = f.id
		}
		if !f.module {
			continue
		}
		if !r.submodules {
			return nil, nil, nil, &ContentError{f.Path, "is a submodule (commit " + f.id + "), whose files would be missing; bring them with submodules: true, or make its repository an input of its own"}
		}
		if strings.Contains(f.Path, " ") || len(f.Path) > 200 || !strictyaml.Printable(f.Path) {
			return nil, nil, nil, &ContentError{f.Path, "is a submodule whose path the lock cannot name: it has blanks, odd characters or more than 200 bytes"}
		}
		links = append(links, submodule{path: f.Path, commit: f.id})
	}
	if len(links) == 0 {
		return c, files, nil, nil
	}
	urls, err := r.moduleURLs(ctx, modules)
	if err != nil {
		return nil, nil, nil, err
	}
	for i := range links {
		l := &links[i]
		written, ok := urls[strings.TrimPrefix(strings.TrimPrefix(l.path, m.path), "/")]
		if !ok {
			return nil, nil, nil, &ContentError{l.path, "is a submodule (commit " + l.commit + ") that .gitmodules has no URL for"}
		}
		if l.url, err = moduleURL(m.url, written); err != nil {
			return nil, nil, nil, &ContentError{l.path, fmt.Sprintf("is a submodule that cannot be brought: %v", err)}
		}
	}
	return c, files, links, nil
}

// moduleURLs reads .gitmodules: URLs by path. What it says decides only where
// commits are asked for, so git may read it.
func (r *repository) moduleURLs(ctx context.Context, id string) (map[string]string, error) {
	if id == "" {
		return nil, nil // each submodule lacks its URL
	}
	out, err := r.run(ctx, "read .gitmodules", "config", "--blob", id, "--null", "--list")
	if err != nil {
		return nil, err
	}
	paths, urls := map[string]string{}, map[string]string{} // by name
	for entry := range strings.SplitSeq(string(out), "\x00") {
		key, value, _ := strings.Cut(entry, "\n")
		name, ok := strings.CutPrefix(key, "submodule.")
		if n, is := strings.CutSuffix(name, ".path"); ok && is {
			paths[n] = path.Clean(value)
		}
		if n, is := strings.CutSuffix(name, ".url"); ok && is {
			urls[n] = value
		}
	}
	byPath := map[string]string{}
	for name, p := range paths {
		if urls[name] == "" {
			continue
		}
		if other, twice := byPath[p]; twice && other != urls[name] {
			return nil, fmt.Errorf(".gitmodules has two URLs for %q", p)
		}
		byPath[p] = urls[name]
	}
	return byPath, nil
}

// short is the form user@host:path, which git takes for ssh (git-clone(1), "Git URLs").
var short = regexp.MustCompile(`^([A-Za-z0-9._-]+@)?([A-Za-z0-9][A-Za-z0-9.-]*):([^/\\:].*)$`)

// moduleURL is the URL that .gitmodules means: relative ones are below that of
// the repository that it is in (gitmodules(5)).
func moduleURL(parent, written string) (string, error) {
	up, err := url.Parse(parent)
	if err != nil {
		return "", err
	}
	at := written
	if m := short.FindStringSubmatch(written); m != nil {
		at = "ssh://" + m[1] + m[2] + "/" + m[3]
	}
	if strings.HasPrefix(written, "./") || strings.HasPrefix(written, "../") {
		joined := *up
		joined.Path, joined.RawPath = path.Join("/", up.Path, written), ""
		at = joined.String()
	}
	if err := definition.CheckGitURL(at); err != nil {
		return "", err
	}
	if strings.HasPrefix(at, "file:") && up.Scheme != "file" {
		return "", fmt.Errorf("url %q is a folder of this machine, and its parent is not", at)
	}
	return at, nil
}

// factsOf are what the lock says of submodules: the commit of each, by path.
func factsOf(all []submodule) map[string]string {
	facts := map[string]string{}
	for _, m := range all {
		facts["submodule/"+m.path] = m.commit
	}
	return facts
}

// refs is below which refs a repository's own are fetched, where all have to
// be: submodules' go apart, so that none hides another.
func (r *repository) refs() string {
	if r.apart == 0 {
		return "refs/"
	}
	return "refs/submodules/" + strconv.Itoa(r.apart) + "/"
}
