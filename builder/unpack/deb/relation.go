package deb

import "strings"

// relation is one alternative of a dependency field: "libc6:any (>= 2.36)".
type relation struct {
	name, arch  string // arch is what follows a colon, or ""
	op, version string // "" without a version
}

// operators by how they are written; "<" and ">" are the old forms of "<=" and
// ">=" (deb-control(5)), which dpkg still reads.
var operators = map[string]string{"<<": "<<", "<=": "<=", "<": "<=", "=": "=", ">=": ">=", ">": ">=", ">>": ">>"}

// parseRelations reads a dependency field: alternatives of each group in
// order. It returns nil when any part cannot be read.
func parseRelations(field string) [][]relation {
	var groups [][]relation
	if strings.TrimSpace(field) == "" {
		return nil
	}
	for group := range strings.SplitSeq(field, ",") {
		var alternatives []relation
		for text := range strings.SplitSeq(group, "|") {
			r, ok := parseRelation(strings.TrimSpace(text))
			if !ok {
				return nil
			}
			alternatives = append(alternatives, r)
		}
		groups = append(groups, alternatives)
	}
	return groups
}

func parseRelation(text string) (r relation, ok bool) {
	name, rest, versioned := strings.Cut(text, "(")
	r.name, r.arch, _ = strings.Cut(strings.TrimSpace(name), ":")
	if !validName(r.name) || r.arch != "" && !validArch(r.arch) {
		return r, false
	}
	if !versioned {
		return r, true
	}
	inside, ok := strings.CutSuffix(rest, ")")
	if !ok {
		return r, false
	}
	inside = strings.TrimSpace(inside)
	n := 0
	for n < len(inside) && strings.ContainsRune("<=>", rune(inside[n])) {
		n++
	}
	r.op, ok = operators[inside[:n]]
	r.version = strings.TrimSpace(inside[n:])
	return r, ok && validVersion(r.version)
}

// String writes the relation as dpkg does in its status file.
func (r relation) String() string {
	s := r.name
	if r.arch != "" {
		s += ":" + r.arch
	}
	if r.op != "" {
		s += " (" + r.op + " " + strings.TrimPrefix(r.version, "0:") + ")"
	}
	return s
}

// formatRelations writes a dependency field as dpkg does; what cannot be read stays as it is.
func formatRelations(field string) string {
	groups := parseRelations(field)
	if groups == nil {
		return field
	}
	out := make([]string, len(groups))
	for i, group := range groups {
		alternatives := make([]string, len(group))
		for j, r := range group {
			alternatives[j] = r.String()
		}
		out[i] = strings.Join(alternatives, " | ")
	}
	return strings.Join(out, ", ")
}
