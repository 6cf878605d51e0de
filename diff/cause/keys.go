package cause

import (
	"path"
	"regexp"
	"strings"

	"quorate.dev/diff"
)

// jarKeys are fields of manifests and properties that say who built, when and with what.
// They stand for nothing that a program reads.
var jarKeys = regexp.MustCompile(`(?i)^(?:built-(?:by|jdk|on|at|date|host|os)|build-?(?:by|jdk(?:-spec)?|time(?:stamp)?|date|host|id|number|os|user|machine|tag|job|url|timezone)|created-by|bnd-lastmodified|tool|originally-created-by|hudson-.*|jenkins-.*|implementation-build(?:-.*)?|scm-.*|git[.-].*|gradle-version|maven-version|ant-version|java-version|os-(?:name|version|arch)|x-compile-.*|module-email|last-?modified|dstamp|tstamp|today)$`)

// keyed claims lines whose key alone says what they are.
func (s *search) keyed(n *diff.Node, f *diff.Finding) ([]claim, bool) {
	c := claim{a: f.A, b: f.B, where: fieldLabel(f), confidence: 1}
	if everyLine(f, s.sumOfChanged) {
		c.effect = "digests of other files"
		return []claim{c}, true
	}
	e := n.File()
	switch name := strings.ToLower(n.Name); {
	case strings.HasSuffix(name, "meta-inf/manifest.mf") || strings.HasSuffix(name, ".properties"):
		if !everyLine(f, func(a, b string) bool {
			key, _, ok1 := strings.Cut(a, keySign(a))
			other, _, ok2 := strings.Cut(b, keySign(b))
			return ok1 && ok2 && key == other && jarKeys.MatchString(strings.TrimSpace(key))
		}) {
			return nil, false
		}
		c.entry, c.fact = "11-jar-manifest", "a field that says who built, when or with what"
	case e != nil && path.Base(e.Name) == "shadow" || e != nil && path.Base(e.Name) == "shadow-":
		if !everyLine(f, sameButDay) {
			return nil, false
		}
		c.entry, c.fact = "28-package-state", "day of the last change of the password, in days since 1970"
	default:
		return nil, false
	}
	return []claim{c}, true
}

// keyedValue does so for a value whose key the format tells.
func (s *search) keyedValue(n *diff.Node, f *diff.Finding) ([]claim, bool) {
	if n.Format != "properties" || !jarKeys.MatchString(f.Where) {
		return nil, false
	}
	return []claim{{entry: "11-jar-manifest", a: f.A, b: f.B, where: fieldLabel(f), fact: "a field that says who built, when or with what", confidence: 1}}, true
}

// sumLine is a line of md5sums, SHA256SUMS and the like; recordLine one of a wheel's RECORD.
var (
	sumLine    = regexp.MustCompile(`^([0-9a-f]{32,128})\s+\*?(\S.*)$`)
	recordLine = regexp.MustCompile(`^(.*),sha(?:256|384|512)=[A-Za-z0-9_-]{40,90},\d+$`)
)

// sumOfChanged reports whether two lines of a list of digests are of one file, which differs itself.
func (s *search) sumOfChanged(a, b string) bool {
	if x, y := sumLine.FindStringSubmatch(a), sumLine.FindStringSubmatch(b); x != nil && y != nil {
		return x[2] == y[2] && len(x[1]) == len(y[1]) && s.pair.changed[path.Base(x[2])]
	}
	x, y := recordLine.FindStringSubmatch(a), recordLine.FindStringSubmatch(b)
	return x != nil && y != nil && x[1] == y[1] && s.pair.changed[path.Base(x[1])]
}

func keySign(line string) string {
	if i := strings.IndexAny(line, ":="); i >= 0 {
		return line[i : i+1]
	}
	return ":"
}

// everyLine holds each pair of changed lines to a rule.
func everyLine(f *diff.Finding, rule func(a, b string) bool) bool {
	x, y := splitLines([]byte(f.A)), splitLines([]byte(f.B))
	if len(x) != len(y) || len(f.A) >= maxHunk || len(f.B) >= maxHunk {
		return false
	}
	for i := range x {
		if x[i] != y[i] && !rule(strings.TrimRight(x[i], "\r"), strings.TrimRight(y[i], "\r")) {
			return false
		}
	}
	return true
}

// sameButDay reports whether two lines of shadow(5) differ in their third field only, a number of days.
func sameButDay(a, b string) bool {
	x, y := strings.Split(a, ":"), strings.Split(b, ":")
	if len(x) != 9 || len(y) != 9 {
		return false
	}
	for i := range x {
		if i != 2 && x[i] != y[i] || i == 2 && (!number.MatchString(x[i]) || !number.MatchString(y[i])) {
			return false
		}
	}
	return true
}
