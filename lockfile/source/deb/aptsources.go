package deb

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// SourceEntry is one archive that an apt configuration names (sources.list(5)).
type SourceEntry struct {
	URI        string
	Suite      string
	Components []string
}

// maxSources bounds one file of apt's configuration; real ones have a few hundred bytes.
const maxSources = 1 << 20

// ParseSources reads the text of a file of apt's sources: deb822 when its name
// ends in ".sources", else one line an entry. Disabled entries, those for
// sources ("deb-src"), and whatever apt would ignore are left out. Options
// ("[signed-by=…]") are not used: Quorate trusts its own keys.
func ParseSources(name, text string) ([]SourceEntry, error) {
	if len(text) > maxSources {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxSources)
	}
	if strings.HasSuffix(name, ".sources") {
		return parseDeb822Sources(name, text)
	}
	return parseListSources(name, text)
}

func parseListSources(name, text string) ([]SourceEntry, error) {
	var out []SourceEntry
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "deb-src" {
			continue
		}
		if words[0] != "deb" {
			return nil, fmt.Errorf("%s:%d: entry begins with %q, expected %q", name, i+1, words[0], "deb")
		}
		words = words[1:]
		if len(words) > 0 && strings.HasPrefix(words[0], "[") {
			end := slices.IndexFunc(words, func(w string) bool { return strings.HasSuffix(w, "]") })
			if end < 0 {
				return nil, fmt.Errorf("%s:%d: options have no closing %q", name, i+1, "]")
			}
			words = words[end+1:]
		}
		if len(words) < 2 {
			return nil, fmt.Errorf("%s:%d: entry names no URI and suite", name, i+1)
		}
		out = append(out, SourceEntry{URI: words[0], Suite: words[1], Components: words[2:]})
	}
	return out, nil
}

func parseDeb822Sources(name, text string) ([]SourceEntry, error) {
	var out []SourceEntry
	fields := map[string]string{}
	last := ""
	flush := func() {
		if strings.EqualFold(fields["enabled"], "no") || !slices.Contains(strings.Fields(fields["types"]), "deb") {
			fields = map[string]string{}
			return
		}
		for _, uri := range strings.Fields(fields["uris"]) {
			for _, suite := range strings.Fields(fields["suites"]) {
				out = append(out, SourceEntry{URI: uri, Suite: suite, Components: strings.Fields(fields["components"])})
			}
		}
		fields = map[string]string{}
	}
	s := bufio.NewScanner(strings.NewReader(text))
	s.Buffer(nil, maxSources+1)
	for n := 1; s.Scan(); n++ {
		line := s.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
			last = ""
		case line[0] == ' ' || line[0] == '\t':
			if last == "" {
				return nil, fmt.Errorf("%s:%d: entry begins with a continuation line", name, n)
			}
			fields[last] += " " + strings.TrimSpace(line)
		default:
			k, v, ok := strings.Cut(line, ":")
			if !ok {
				return nil, fmt.Errorf("%s:%d: line is neither a field nor a continuation", name, n)
			}
			last = strings.ToLower(strings.TrimSpace(k))
			fields[last] = strings.TrimSpace(v)
		}
	}
	flush()
	return out, s.Err()
}

// AptMirrors finds the mirrors of a suite in the apt configuration under root
// ("/" for this machine's own). Entries for the very suite come first; when
// there is none, those of other Debian suites do, because one mirror nearly
// always carries all of them, and what it gives is verified by signature. A
// file that cannot be read as apt's is passed over, as somebody else's business.
func AptMirrors(root, suite string) ([]Mirror, error) {
	dir := filepath.Join(root, "etc", "apt")
	files := []string{filepath.Join(dir, "sources.list")}
	for _, glob := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(dir, "sources.list.d", glob))
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	var exact, other []Mirror
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read apt's configuration: %w", err)
		}
		entries, err := ParseSources(file, string(text))
		if err != nil {
			continue
		}
		exact = addMirrors(exact, file, entries, func(s string) bool { return s == suite || s == suite+"-security" })
		other = addMirrors(other, file, entries, nil)
	}
	if len(exact) > 0 {
		return pairUp(exact), nil
	}
	return pairUp(other), nil
}

// addMirrors turns entries into mirrors of one archive each. Without want, it
// goes by Debian's customary folder names.
func addMirrors(list []Mirror, file string, entries []SourceEntry, want func(suite string) bool) []Mirror {
	for _, e := range entries {
		base, err := cleanBase(e.URI)
		if err != nil {
			continue // cdrom:, mirror+file: and others that only apt can read
		}
		m := Mirror{Origin: file}
		switch {
		case want != nil && !want(e.Suite):
			continue
		case want == nil && !strings.HasSuffix(base, "/debian") && !strings.HasSuffix(base, "/debian-security"):
			continue
		case want != nil && isSecurity(e.Suite), want == nil && strings.HasSuffix(base, "/debian-security"):
			m.Security = base
		default:
			m.Main = base
		}
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// pairUp makes whole mirrors of single archives: the n-th main with the n-th
// security archive. A main archive without a partner gets the customary one.
func pairUp(list []Mirror) []Mirror {
	var main, security []Mirror
	for _, m := range list {
		if m.Main != "" {
			main = append(main, m)
		} else {
			security = append(security, m)
		}
	}
	var out []Mirror
	for i, m := range main {
		if i < len(security) {
			m.Security = security[i].Security
		} else if len(security) > 0 {
			m.Security = security[0].Security
		} else {
			m.Security = deriveSecurity(m.Main)
		}
		out = append(out, m)
	}
	return out
}
