package deb

import (
	"fmt"
	"strings"
)

// Relation names packages that would do: "libc6:any (>= 2.36)".
type Relation struct {
	Name    string
	Arch    string // "", "any", "native" or an architecture
	Op      string // "", "<<", "<=", "=", ">=" or ">>"
	Version string // "" exactly when Op is
}

// Clause is a list of alternatives, of which one is enough.
type Clause []Relation

// maxAlternatives and maxClauses bound one field; Debian's largest has about
// 1500 clauses (metapackages and Provides of libraries' ABIs).
const (
	maxAlternatives = 1000
	maxClauses      = 100000
)

// ParseRelations reads a relation field of a binary package (deb-control(5)).
// Build-time restrictions, "[amd64]" and "<!nocheck>", have no place there and
// are refused. An empty field gives no clause.
func ParseRelations(field string) ([]Clause, error) {
	if strings.TrimSpace(field) == "" {
		return nil, nil
	}
	parts := strings.Split(field, ",")
	if len(parts) > maxClauses {
		return nil, fmt.Errorf("field has more than %d clauses", maxClauses)
	}
	clauses := make([]Clause, 0, len(parts))
	for i, part := range parts {
		if i == len(parts)-1 && strings.TrimSpace(part) == "" {
			break // a comma at the end is common and harmless
		}
		alternatives := strings.Split(part, "|")
		if len(alternatives) > maxAlternatives {
			return nil, fmt.Errorf("clause has more than %d alternatives", maxAlternatives)
		}
		c := make(Clause, 0, len(alternatives))
		for _, a := range alternatives {
			r, err := parseRelation(a)
			if err != nil {
				return nil, err
			}
			c = append(c, r)
		}
		clauses = append(clauses, c)
	}
	return clauses, nil
}

func parseRelation(s string) (Relation, error) {
	text := strings.TrimSpace(s)
	bad := func(why string) (Relation, error) {
		return Relation{}, fmt.Errorf("relation %q %s", clip([]byte(text)), why)
	}
	var r Relation
	name, rest, versioned := strings.Cut(text, "(")
	name = strings.TrimSpace(name)
	name, arch, qualified := strings.Cut(name, ":")
	if !validName(name) {
		return bad("does not name a package")
	}
	if qualified && !validArch(arch) {
		return bad("has an architecture that is not one")
	}
	r.Name, r.Arch = name, arch
	if !versioned {
		return r, nil
	}
	inside, ok := strings.CutSuffix(rest, ")")
	if !ok {
		return bad("has text after its version")
	}
	inside = strings.TrimSpace(inside)
	n := 0
	for n < len(inside) && strings.IndexByte("<=>", inside[n]) >= 0 {
		n++
	}
	r.Op, r.Version = inside[:n], strings.TrimSpace(inside[n:])
	switch r.Op {
	case "<<", "<=", "=", ">=", ">>":
	case "<", ">": // ancient spellings of "<=" and ">=" (deb-control(5))
		r.Op += "="
	default:
		return bad("has no comparison")
	}
	if err := checkVersion(r.Version); err != nil {
		return bad("has a bad version: " + err.Error())
	}
	return r, nil
}

// String writes the relation as control files do.
func (r Relation) String() string {
	s := r.Name
	if r.Arch != "" {
		s += ":" + r.Arch
	}
	if r.Op != "" {
		s += " (" + r.Op + " " + r.Version + ")"
	}
	return s
}

// String writes the alternatives as control files do.
func (c Clause) String() string {
	s := make([]string, len(c))
	for i, r := range c {
		s[i] = r.String()
	}
	return strings.Join(s, " | ")
}

// FormatRelations undoes ParseRelations, in canonical spacing.
func FormatRelations(clauses []Clause) string {
	s := make([]string, len(clauses))
	for i, c := range clauses {
		s[i] = c.String()
	}
	return strings.Join(s, ", ")
}

// Allows reports whether a version meets the relation's condition.
func (r Relation) Allows(version string) bool {
	if r.Op == "" {
		return true
	}
	c := CompareVersions(version, r.Version)
	switch r.Op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	}
	return c > 0
}
