package local

import (
	"bytes"
	"strings"
)

// Ignore files have the syntax and the meaning of gitignore(5); tests hold
// them against `git check-ignore`. In short:
//
//	# comment            a line; "\#" begins a pattern with "#"
//	name                 any file or folder of that name, here or below
//	name/                only folders
//	/name  a/name        with a slash that is not the last byte: from this folder on
//	*  ?  [a-z]  [!x]    within one name; [[:alpha:]] and its like too
//	**/name  a/**  a/**/b   over any number of folders
//	!name                brings back what an earlier line left out
//	\                    takes the next byte literally, also a space at the end
//
// The last line that matches decides, lines of deeper folders after those
// above. What is in an ignored folder cannot be brought back. Matching is by
// byte and by case, on every system. Unlike git, there is no list beside the
// tree (info/exclude, core.excludesFile), and tracked files are no exception.

// IgnoreName is the name of ignore files, in any folder of a tree.
const IgnoreName = ".quorateignore"

// maxIgnore bounds an ignore file: a pattern costs time for every path.
const maxIgnore = 1 << 20

// ruleFile is one ignore file.
type ruleFile struct {
	dir   string // where it lies, relative to the tree; "." for the root
	rules []rule
}

type rule struct {
	negated bool
	dirOnly bool
	base    bool // matched against the last name only
	tokens  []token
}

// ignored reports whether the rules leave out a path whose parents they do not.
func ignored(files []ruleFile, p string, isDir bool) bool {
	for i := len(files) - 1; i >= 0; i-- {
		f := files[i]
		rel := p
		if f.dir != "." {
			rel = strings.TrimPrefix(p, f.dir+"/")
		}
		for j := len(f.rules) - 1; j >= 0; j-- {
			if r := f.rules[j]; r.matches(rel, isDir) {
				return !r.negated
			}
		}
	}
	return false
}

func (r rule) matches(rel string, isDir bool) bool {
	if r.dirOnly && !isDir {
		return false
	}
	if r.base {
		rel = rel[strings.LastIndexByte(rel, '/')+1:]
	}
	return match(r.tokens, rel)
}

// parseIgnore reads an ignore file. Nothing is an error: as in git, a pattern
// that means nothing matches nothing.
func parseIgnore(b []byte) []rule {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	var rules []rule
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		if r, ok := parseRule(string(bytes.TrimSuffix(line, []byte("\r")))); ok {
			rules = append(rules, r)
		}
	}
	return rules
}

func parseRule(line string) (r rule, ok bool) {
	if strings.HasPrefix(line, "#") {
		return r, false
	}
	line, _, _ = strings.Cut(line, "\x00")
	line = trimSpaces(line)
	line, r.negated = strings.CutPrefix(line, "!")
	line, r.dirOnly = strings.CutSuffix(line, "/")
	r.base = !strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return r, false
	}
	r.tokens, ok = compile(line, r.base)
	return r, ok
}

// trimSpaces removes spaces at the end that no backslash protects.
func trimSpaces(s string) string {
	end := 0
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
			end = min(i+1, len(s))
		} else if s[i] != ' ' {
			end = i + 1
		}
	}
	return s[:end]
}

// token is one step of a compiled pattern.
type token struct {
	kind tokenKind
	set  *[256]bool // of one: the bytes that match
}

type tokenKind byte

const (
	one     tokenKind = iota // one byte of set
	star                     // any bytes but "/"
	anyDirs                  // nothing, or any bytes and then "/": "**/"
	rest                     // any bytes: "**" at the end, or before an escaped slash
)

// compile turns a pattern into tokens; ok is false if it can never match.
func compile(p string, base bool) (tokens []token, ok bool) {
	for i := 0; i < len(p); {
		switch c := p[i]; c {
		case '*':
			t, n := compileStars(p, i, base)
			// "**/**/" means no more than "**/", and would only slow match down.
			if len(tokens) == 0 || tokens[len(tokens)-1].kind != t {
				tokens = append(tokens, token{kind: t})
			}
			i += n
		case '?':
			all := new([256]bool)
			for b := range all {
				all[b] = b != '/'
			}
			tokens = append(tokens, token{set: all})
			i++
		case '[':
			set, n := compileClass(p[i:])
			if n == 0 {
				return nil, false
			}
			set['/'] = false
			tokens = append(tokens, token{set: set})
			i += n
		case '\\':
			if i+1 == len(p) {
				return nil, false
			}
			tokens = append(tokens, literal(p[i+1]))
			i += 2
		default:
			tokens = append(tokens, literal(c))
			i++
		}
	}
	return tokens, true
}

func literal(c byte) token {
	set := new([256]bool)
	set[c] = true
	return token{set: set}
}

// compileStars reads the run of stars at p[i:] and returns how many bytes it
// took. Only two or more that fill the place between slashes go over folders;
// but git compares what stands before the first wildcard by itself, and then takes
// the stars for the beginning: "d**/a" matches "d/e/a". So do we.
func compileStars(p string, i int, base bool) (tokenKind, int) {
	n := len(p[i:]) - len(strings.TrimLeft(p[i:], "*"))
	after := p[i+n:]
	first := !strings.ContainsAny(p[:i], `*?[\`)
	if n < 2 || base || !first && p[i-1] != '/' {
		return star, n
	}
	switch {
	case after == "":
		return rest, n
	case strings.HasPrefix(after, "/"):
		return anyDirs, n + 1
	case strings.HasPrefix(after, `\/`):
		return rest, n
	}
	return star, n
}

// compileClass reads "[…]" and returns how many bytes it took; 0 if it does not end.
func compileClass(p string) (*[256]bool, int) {
	set := new([256]bool)
	i := 1
	negated := i < len(p) && (p[i] == '!' || p[i] == '^')
	if negated {
		i++
	}
	first := i
	prev := -1 // the byte that a "-" would begin a range with
	for ; i < len(p) && (p[i] != ']' || i == first); i++ {
		c := p[i]
		switch {
		case c == '\\':
			if i++; i == len(p) {
				return nil, 0
			}
			set[p[i]], prev = true, int(p[i])
		case c == '-' && prev >= 0 && i+1 < len(p) && p[i+1] != ']':
			if i++; p[i] == '\\' {
				i++
			}
			if i == len(p) {
				return nil, 0
			}
			for b := prev; b <= int(p[i]); b++ {
				set[b] = true
			}
			prev = -1
		case c == '[' && i+1 < len(p) && p[i+1] == ':':
			n, ok := addNamed(set, p[i:])
			if !ok {
				return nil, 0
			}
			prev = -1
			if n == 1 {
				prev = '['
			}
			i += n - 1
		default:
			set[c], prev = true, int(c)
		}
	}
	if i >= len(p) {
		return nil, 0
	}
	if negated {
		for b := range set {
			set[b] = !set[b]
		}
	}
	return set, i + 1
}

// addNamed reads "[:name:]" and returns how many bytes it took: 1, for a
// literal "[", if there is no ":]" before the next "]".
func addNamed(set *[256]bool, p string) (n int, ok bool) {
	end := strings.IndexByte(p[2:], ']')
	if end < 0 {
		return 0, false
	}
	name, colon := strings.CutSuffix(p[2:2+end], ":")
	if !colon {
		set['['] = true
		return 1, true
	}
	in, ok := named[name]
	if !ok {
		return 0, false
	}
	for b := range 128 {
		if in(byte(b)) {
			set[b] = true
		}
	}
	return 2 + end + 1, true
}

func between(from, to byte) func(byte) bool { return func(b byte) bool { return from <= b && b <= to } }

func oneOf(fs ...func(byte) bool) func(byte) bool {
	return func(b byte) bool {
		for _, f := range fs {
			if f(b) {
				return true
			}
		}
		return false
	}
}

// named holds the classes of POSIX in the C locale.
var named = func() map[string]func(byte) bool {
	lower, upper, digits := between('a', 'z'), between('A', 'Z'), between('0', '9')
	alnum := oneOf(lower, upper, digits)
	graph := between('!', '~')
	return map[string]func(byte) bool{
		"alnum":  alnum,
		"alpha":  oneOf(lower, upper),
		"blank":  func(b byte) bool { return b == ' ' || b == '\t' },
		"cntrl":  func(b byte) bool { return b < ' ' || b == 0x7f },
		"digit":  digits,
		"graph":  graph,
		"lower":  lower,
		"print":  between(' ', '~'),
		"punct":  func(b byte) bool { return graph(b) && !alnum(b) },
		"space":  oneOf(between('\t', '\r'), between(' ', ' ')),
		"upper":  upper,
		"xdigit": oneOf(digits, between('a', 'f'), between('A', 'F')),
	}
}()

// match reports whether all of s matches. It follows every way at once, so
// its time is at most about len(tokens)×len(s) whatever the pattern.
func match(tokens []token, s string) bool {
	now, next := make(places, len(tokens)+1), make(places, len(tokens)+1)
	now.enter(tokens, 0)
	for i := range len(s) {
		clear(next)
		for j, t := range tokens {
			switch {
			case !now[j]:
			case t.kind == one && t.set[s[i]]:
				next.enter(tokens, j+1)
			case t.kind == star && s[i] != '/', t.kind == rest:
				next.enter(tokens, j)
			case t.kind == anyDirs:
				next[j] = true // not entered: it cannot end in the middle of a name
				if s[i] == '/' {
					next.enter(tokens, j+1)
				}
			}
		}
		now, next = next, now
	}
	return now[len(tokens)]
}

// places holds, for each token, whether the bytes so far may have brought us before it.
type places []bool

// enter arrives before a token, and before the next one if it may be empty.
func (p places) enter(tokens []token, j int) {
	p[j] = true
	for ; j < len(tokens) && tokens[j].kind != one; j++ {
		p[j+1] = true
	}
}
