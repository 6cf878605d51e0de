package installed

import (
	"cmp"
	"strings"

	"quorate.dev/lockfile"
)

// ParseDistribution reads os-release: ID, and the code name or, where there is
// none, the version. What it does not say is "".
func ParseDistribution(text []byte) lockfile.Distribution {
	said := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(name, "#") {
			said[name] = unquoted(value)
		}
	}
	return lockfile.Distribution{ID: said["ID"], Release: cmp.Or(said["VERSION_CODENAME"], said["VERSION_ID"])}
}

// unquoted takes a shell's quotes from a value. What os-release escapes in them
// has no place in a name or version.
func unquoted(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}
