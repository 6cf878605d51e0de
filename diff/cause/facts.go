package cause

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"sort"
	"strings"
	"unicode/utf16"

	"quorate.dev/diff"
)

// canary is a value known of both hosts: where A has one and B the other, the
// host is in the output.
type canary struct {
	name  string // of the fact
	entry string // id of the cause it speaks for
	a, b  string
	how   string // "" plain, else "base64", "hex" …
	fact  string // what the values are, when no record says it
}

// searchable says which facts are looked for in text and which cause each
// speaks for. Numbers (cpus, pids, uid) are not: a lone "4" stands everywhere; line.go
// compares them only where two tokens differ.
var searchable = []struct{ fact, entry string }{
	{"workdir", "3-build-path"}, {"tmpdir", "3-build-path"},
	{"email", "18-host-facts"}, {"gecos", "18-host-facts"}, {"home", "18-host-facts"}, {"path", "18-host-facts"},
	{"shell", "18-host-facts"}, {"hostname", "18-host-facts"}, {"user", "18-host-facts"},
	{"kernel-version", "19-kernel"}, {"kernel", "19-kernel"}, {"machine", "19-kernel"},
	{"cpu-model", "21-cpu-features"}, {"locale", "16-locale"}, {"timezone", "17-timezone"},
}

// shortest is the least length of a value that is searched for: shorter ones
// stand in any text by chance.
const shortest = 3

// canaries returns what to look for, most telling first: longer values before
// shorter ones, for a home folder holds the user's name.
func canaries(a, b Facts) []canary {
	var out []canary
	for _, s := range searchable {
		x, y := a.Values[s.fact], b.Values[s.fact]
		if x == y || len(x) < shortest || len(y) < shortest || len(out) >= maxFacts {
			continue
		}
		out = append(out, canary{name: s.fact, entry: s.entry, a: x, b: y})
	}
	sort.SliceStable(out, func(i, j int) bool { return len(out[i].a)+len(out[i].b) > len(out[j].a)+len(out[j].b) })
	plain := out
	for _, d := range disguises {
		for _, c := range plain {
			x, y := d.dress(c.a), d.dress(c.b)
			if x == c.a || y == c.b || x == y || len(x) < shortest || len(y) < shortest {
				continue
			}
			out = append(out, canary{name: c.name, entry: c.entry, a: x, b: y, how: d.name})
		}
	}
	return out
}

// learn takes the folders of the builds from debug information: DW_AT_comp_dir is where
// the compiler was started, wherever that is. What both end in alike is of the sources.
func (p *pair) learn(root *diff.Node) {
	root.Walk(func(n *diff.Node) bool {
		for i := range n.Findings {
			f := &n.Findings[i]
			if f.What != diff.WhatDwarf || !strings.HasPrefix(f.Where, "DW_AT_comp_dir") || !strings.HasPrefix(f.A, "/") || !strings.HasPrefix(f.B, "/") {
				continue
			}
			u, v := ownFolders(f.A, f.B)
			if u == v || slices.ContainsFunc(p.known, func(c canary) bool { return strings.Contains(u, c.a) && strings.Contains(v, c.b) }) || len(p.known) >= 2*maxFacts {
				continue
			}
			p.known = append(p.known, canary{name: "comp_dir", entry: "3-build-path", a: u, b: v, fact: "the folders in which the compiler ran, as debug information says"})
		}
		return true
	})
	sort.SliceStable(p.known, func(i, j int) bool { return len(p.known[i].a)+len(p.known[i].b) > len(p.known[j].a)+len(p.known[j].b) })
}

// disguises are the forms in which builds write such values.
var disguises = []struct {
	name  string
	dress func(string) string
}{
	{"upper case", strings.ToUpper},
	{"upper case, _ for others", macro},
	{"with _ for others", func(s string) string { return strings.ToLower(macro(s)) }},
	{"URL-escaped", url.QueryEscape},
	{"base64", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }},
	{"base64", func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) }},
	{"base64 of the line", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s + "\n")) }},
	{"hex", func(s string) string { return hex.EncodeToString([]byte(s)) }},
	{"hex", func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) }},
	{"UTF-16", func(s string) string { return utf16Bytes(s, false) }},
	{"UTF-16, big end first", func(s string) string { return utf16Bytes(s, true) }},
}

// macro writes a value as the name of a C macro or environment variable.
func macro(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

func utf16Bytes(s string, big bool) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(s)) {
		hi, lo := byte(u>>8), byte(u)
		if big {
			b.WriteByte(hi)
			b.WriteByte(lo)
		} else {
			b.WriteByte(lo)
			b.WriteByte(hi)
		}
	}
	return b.String()
}

// says describes the fact for a reader.
func (c canary) says() string {
	if c.fact != "" {
		return c.fact
	}
	s := "= " + c.name + " of each host"
	if c.how != "" {
		s += " (" + c.how + ")"
	}
	return s
}

// find returns where value stands in text as a word of its own, where it is
// short enough to be a part of another word by chance.
func occurrences(text, value string) []int {
	var at []int
	for from := 0; ; {
		i := strings.Index(text[from:], value)
		if i < 0 {
			return at
		}
		i += from
		if len(value) > 7 || (!wordAt(text, i-1) && !wordAt(text, i+len(value))) {
			at = append(at, i)
		}
		from = i + len(value)
	}
}

func wordAt(s string, i int) bool {
	if i < 0 || i >= len(s) {
		return false
	}
	c := s[i]
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
