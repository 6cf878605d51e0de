package cause

import (
	"regexp"

	"quorate.dev/diff"
)

// commands are those whose output is a cause by itself. Where the definition is
// known, the line that writes a file is the best witness of what is in it.
var commands = []struct {
	pattern *regexp.Regexp
	entry   string
	name    string
}{
	{regexp.MustCompile(`/dev/u?random|\$RANDOM|\b(?:uuidgen|mktemp|shuf|pwgen|ssh-keygen|openssl (?:rand|genrsa|genpkey|req)|mcookie)\b`), "22-random", "a source of chance"},
	{regexp.MustCompile(`\$\$|\$PPID|\$BASHPID`), "23-pid", "$$"},
	{regexp.MustCompile(`\b(?:nproc|lscpu|getconf _NPROCESSORS_ONLN)\b|/proc/cpuinfo`), "20-cpu-count", "nproc or the like"},
	{regexp.MustCompile(`\buname\b|/proc/(?:version|sys/kernel/osrelease)`), "19-kernel", "uname or the like"},
	{regexp.MustCompile(`\b(?:hostname|whoami|id|logname|hostid)\b|\$(?:HOME|USER|HOSTNAME|LOGNAME)\b|/etc/hostname`), "18-host-facts", "hostname, whoami or the like"},
	{regexp.MustCompile(`\bdate\b`), "1-build-time", "date"},
	{regexp.MustCompile(`\bpwd\b|\$PWD\b`), "3-build-path", "pwd"},
}

// source returns the cause that the one command of a file's line speaks for; lines
// with several such commands speak for none.
func (s *search) source(n *diff.Node) (entry, name, line string) {
	e := n.File()
	if e == nil {
		return "", "", ""
	}
	st, rest := s.origin(e.Name)
	line = st.line(rest)
	if line == "" || dateSet.MatchString(line) {
		return "", "", ""
	}
	for _, c := range commands {
		if !c.pattern.MatchString(line) {
			continue
		}
		if entry != "" {
			return "", "", ""
		}
		entry, name = c.entry, c.name
	}
	return entry, name, line
}

// corroborate makes a likely claim sure when the line that wrote the file runs
// the command whose output this is.
func (s *search) corroborate(n *diff.Node, c *claim) {
	if c.confidence >= 1 {
		return
	}
	if entry, name, _ := s.source(n); entry == c.entry && entry != "" {
		c.confidence, c.why, c.confirm = 1, "", ""
		c.fact += "; the line that writes the file runs " + name
	}
}

// byCommand claims text that no detector knew for the command that wrote it.
func (s *search) byCommand(n *diff.Node, f *diff.Finding) ([]claim, bool) {
	entry, name, line := s.source(n)
	if entry == "" || f.Outer || !redirect.MatchString(line) || f.What != diff.WhatText {
		return nil, false
	}
	return []claim{{
		entry: entry, a: f.A, b: f.B, where: fieldLabel(f), confidence: 0.9, fact: "the line that writes the file runs " + name,
		why: "what it wrote could not be read as its usual output", confirm: "run that line twice",
	}}, true
}
