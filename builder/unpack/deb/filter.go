package deb

import (
	"path"
	"strings"

	"quorate.dev/builder/tree"
)

// Filter is what dpkg's own configuration leaves out of packages as it unpacks
// them (dpkg(1), --path-exclude and --path-include): images called "slim" have
// one for documentation. The zero value leaves out nothing.
type Filter struct {
	rules []filterRule
}

type filterRule struct {
	include bool
	pattern string // of fnmatch(3), without flags: "*" matches slashes too
}

// ParseFilter reads the rules of one file of dpkg's configuration (dpkg.cfg(5))
// and appends them; all other options are passed over.
func (f Filter) ParseFilter(text string) Filter {
	rules := f.rules[:len(f.rules):len(f.rules)]
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		option, value, ok := strings.Cut(line, "=")
		if !ok || strings.ContainsAny(option, " \t") {
			at := strings.IndexAny(line, " \t")
			if at < 0 {
				continue
			}
			option, value = line[:at], line[at:]
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch option {
		case "path-exclude", "path-include":
			rules = append(rules, filterRule{option == "path-include", value})
		}
	}
	return Filter{rules}
}

// Skips reports whether a member of a package is left out; name is as shipped,
// without a slash before it. The last rule that matches counts. Folders, and
// links that may lead to some, stay where a rule may want something below them
// (dpkg, src/main/filters.c).
func (f Filter) Skips(name string, kind tree.Kind) bool {
	name = "/" + name
	skip := false
	for _, r := range f.rules {
		if matches(r.pattern, name) {
			skip = !r.include
		}
	}
	if !skip || kind != tree.Dir && kind != tree.Symlink {
		return skip
	}
	for _, r := range f.rules {
		fixed := r.pattern
		if i := strings.IndexAny(fixed, `*?[\`); i >= 0 {
			fixed = fixed[:i]
		}
		if fixed = strings.TrimRight(fixed, "/"); r.include && strings.HasPrefix(name, fixed) {
			return false
		}
	}
	return true
}

// matches is fnmatch(3) without flags. It is path.Match with slashes made one
// character among others, which no name of a file holds.
func matches(pattern, name string) bool {
	plain := strings.NewReplacer("/", "\x01")
	pattern = strings.ReplaceAll(pattern, "[!", "[^")
	ok, err := path.Match(plain.Replace(pattern), plain.Replace(name))
	return ok && err == nil
}
