package draft

import "strings"

// release is what a suite of Debian has of the languages whose projects say which version they need.
type release struct{ suite, node, python, cargo string }

// releases, oldest first (packages nodejs, python3 and cargo of each, as of 2026-11; they change by patches only).
var releases = []release{
	{"bookworm", "18.20.4", "3.11.2", "1.63.0"},
	{"trixie", "20.19.2", "3.13.5", "1.85.0"},
}

// choose returns the suite to take packages from: the oldest that is new enough for
// the project, and why it is not the first; else the newest, and what that lacks.
func (p project) choose() (r release, why, lacks string) {
	for _, r = range releases {
		lacks = p.lacks(r)
		if lacks == "" {
			return r, why, ""
		}
		why = lacks
	}
	return r, "", why
}

// lacks says what the project wants of a language that a release does not have; "" for nothing.
func (p project) lacks(r release) string {
	if wanted := p.nodeWanted(r.node); wanted != "" {
		return wanted + ", and " + r.suite + " has " + r.node
	}
	if p.has(goModFile, goWorkFile) {
		return "" // Go comes with the toolchain
	}
	if wanted := p.cargoWanted(); less(triple(strings.Split(r.cargo, ".")), triple(strings.Split(wanted, "."))) {
		return "Cargo wants Rust " + wanted + ", and " + r.suite + " has " + r.cargo
	}
	if wanted := p.pythonWanted(); !accepts(wanted, r.python) {
		return "pyproject.toml wants Python " + wanted + ", and " + r.suite + " has " + r.python
	}
	return ""
}

// find returns a release by the name that the user gave; one that is not known has nothing known.
func find(suite string) release {
	for _, r := range releases {
		if r.suite == suite {
			return r
		}
	}
	return release{suite: suite}
}
