package cause

import (
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"quorate.dev/diff"
)

// claim is one detector's word on one differing place.
type claim struct {
	entry      string // id in the catalogue
	a, b       string
	where      string
	fact       string  // what the values are
	why        string  // why it is only likely, or how it is proven beyond the entry's own words
	confidence float64 // 1: of this cause and no other
	confirm    string  // command that decides
	more       int     // so many further places like it
	effect     string  // not "": follows from another difference; folded under this name
}

// pair is what is known while two sides are compared.
type pair struct {
	a, b    Facts
	known   []canary
	digests map[string]string   // hex digest of a differing file's bytes → its path, both sides
	changed map[string]bool     // base names of differing files
	held    holder              // what files the sides hold; nil when that is not known
	written map[*diff.Node]bool // who wrote it is a generator of documents
}

func newPair(a, b Facts) *pair {
	return &pair{a: a, b: b, known: canaries(a, b), digests: map[string]string{}, changed: map[string]bool{}, written: map[*diff.Node]bool{}}
}

// token is a piece of a line. Tokens of equal class stand for one another: a
// date for a date, a host's name for the other host's; any other text for itself.
type token struct {
	text  string
	class string
	mom   *moment
	can   *canary
}

// shapes are values that are made up anew at each run, by their form.
var shapes = []struct {
	class, entry string
	pattern      *regexp.Regexp
	confidence   float64
	fact         string
}{
	{"rust hash", "39-go-rust", regexp.MustCompile(`17h[0-9a-f]{16}E|-[0-9a-f]{16}\.(?:rlib|rmeta|so|o|d)\b`), 0.9, "hashes that rustc makes of crate metadata and paths"},
	{"uuid", "22-random", regexp.MustCompile(`\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b`), 1, "UUIDs"},
	{"temporary name", "22-random", regexp.MustCompile(`(?:/tmp|/var/tmp)/(?:tmp\.?[A-Za-z0-9_]{6,12}|[a-z]+[.-][A-Za-z0-9]{6,12})|\bcc[A-Za-z0-9]{6}\.[sorcl]\w*`), 1, "names of temporary files"},
	{"pointer", "24-address", regexp.MustCompile(`\b0x(?:0000)?(?:7[ef]|5[56])[0-9a-f]{10}\b`), 1, "addresses of a process"},
	{"octets", "22-random", regexp.MustCompile(`\b[0-9a-f]{2}(?:[ :-][0-9a-f]{2}){5,}\b`), 0.85, "random bytes"},
}

// tokens cuts a line. Only canaries that stand as often in the other line count,
// for a value may be in both texts by chance.
func (p *pair) tokens(a, b string) (ta, tb []token) {
	var use []*canary
	for i := range p.known {
		c := &p.known[i]
		if n := len(occurrences(a, c.a)); n > 0 && n == len(occurrences(b, c.b)) {
			use = append(use, c)
		}
	}
	return cut(a, use, true), cut(b, use, false)
}

func cut(text string, use []*canary, first bool) []token {
	taken := make([]bool, len(text))
	type span struct {
		end int
		tok token
	}
	spans := map[int]span{}
	put := func(start, end int, t token) {
		if start == end || anyOf(taken[start:end]) {
			return
		}
		for i := start; i < end; i++ {
			taken[i] = true
		}
		t.text = text[start:end]
		spans[start] = span{end, t}
	}
	for _, c := range use {
		value := c.a
		if !first {
			value = c.b
		}
		for _, at := range occurrences(text, value) {
			put(at, at+len(value), token{class: "fact " + c.name + c.how, can: c})
		}
	}
	for _, s := range shapes {
		for _, m := range s.pattern.FindAllStringIndex(text, -1) {
			put(m[0], m[1], token{class: s.class})
		}
	}
	for _, m := range moments(text) {
		put(m.start, m.end, token{class: "time " + strconv.Itoa(m.form), mom: &m})
	}
	for _, m := range fractions.FindAllStringIndex(text, -1) {
		put(m[0], m[1], token{class: "release"}) // judged as a whole, as those are
	}
	for _, m := range releases.FindAllStringIndex(text, -1) {
		put(m[0], m[1], token{class: "release"})
	}
	var out []token
	for i := 0; i < len(text); {
		if s, ok := spans[i]; ok {
			out = append(out, s.tok)
			i = s.end
			continue
		}
		j := i + 1
		for j < len(text) && !taken[j] && word(text[i]) && word(text[j]) {
			j++
		}
		out = append(out, token{text: text[i:j], class: "=" + text[i:j]})
		i = j
	}
	return out
}

func word(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
}

// line explains two lines (or strings, values) that differ. It is true when every
// differing place is claimed: with those replaced, both are equal.
func (p *pair) line(a, b string) ([]claim, bool) {
	if len(a) > maxLine || len(b) > maxLine {
		return nil, false
	}
	if c, ok := p.paths(a, b); ok {
		return c, true
	}
	ta, tb := p.tokens(a, b)
	blocks, ok := align(ta, tb)
	if !ok {
		return nil, false
	}
	var out []claim
	for _, bl := range blocks {
		if bl.same && bl.a[0].class != "release" {
			out = append(out, p.matched(bl.a[0], bl.b[0], a)...)
			continue
		}
		c, ok := p.block(text(bl.a), text(bl.b), a, b)
		if !ok {
			// Cutting may have hidden what the whole says, such as words in another order.
			if c, ok := p.block(a, b, a, b); ok {
				return c, true
			}
			if c, ok := wholeNames(a, b); ok {
				return []claim{c}, true
			}
			return nil, false
		}
		out = append(out, c...)
	}
	return out, len(out) > 0
}

func text(t []token) string {
	var b strings.Builder
	for _, x := range t {
		b.WriteString(x.text)
	}
	return b.String()
}

// block is a stretch of tokens: one pair of equal class with other values, or what stands for what.
type block struct {
	same bool
	a, b []token
}

// maxTokens bounds the square table of align: 400 × 400 cells are quick.
const maxTokens = 400

// align pairs tokens of equal class by a longest common subsequence and returns
// the places that differ, in order; false when there is too much to align.
func align(a, b []token) ([]block, bool) {
	var head []block
	same := func(x, y token, list []block) []block {
		if x.text != y.text {
			list = append(list, block{same: true, a: []token{x}, b: []token{y}})
		}
		return list
	}
	for len(a) > 0 && len(b) > 0 && a[0].class == b[0].class {
		head = same(a[0], b[0], head)
		a, b = a[1:], b[1:]
	}
	var tail []block
	for len(a) > 0 && len(b) > 0 && a[len(a)-1].class == b[len(b)-1].class {
		tail = same(a[len(a)-1], b[len(b)-1], tail)
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	slices.Reverse(tail)
	if len(a) > maxTokens || len(b) > maxTokens {
		return nil, false
	}
	mid := middle(a, b, same)
	return append(append(head, mid...), tail...), true
}

func middle(a, b []token, same func(token, token, []block) []block) []block {
	if len(a) == 0 && len(b) == 0 {
		return nil
	}
	best := make([][]int16, len(a)+1)
	for i := range best {
		best[i] = make([]int16, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i].class == b[j].class {
				best[i][j] = best[i+1][j+1] + 1
			} else {
				best[i][j] = max(best[i+1][j], best[i][j+1])
			}
		}
	}
	var out []block
	var gap block
	flush := func() {
		if len(gap.a)+len(gap.b) > 0 {
			out = append(out, gap)
		}
		gap = block{}
	}
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i].class == b[j].class:
			flush()
			out = same(a[i], b[j], out)
			i, j = i+1, j+1
		case best[i+1][j] >= best[i][j+1]:
			gap.a = append(gap.a, a[i])
			i++
		default:
			gap.b = append(gap.b, b[j])
			j++
		}
	}
	gap.a, gap.b = append(gap.a, a[i:]...), append(gap.b, b[j:]...)
	flush()
	return out
}

// matched judges two tokens of one class with other values.
func (p *pair) matched(a, b token, line string) []claim {
	c := claim{a: a.text, b: b.text, confidence: 1}
	switch {
	case a.can != nil:
		c.entry, c.fact = a.can.entry, a.can.says()
		return []claim{c}
	case a.mom != nil:
		return []claim{p.time(*a.mom, *b.mom, c)}
	}
	for _, s := range shapes {
		if s.class == a.class {
			c.entry, c.confidence, c.fact = s.entry, s.confidence, s.fact
		}
	}
	if c.entry == "24-address" && a.text[len(a.text)-3:] != b.text[len(b.text)-3:] {
		c.confidence = 0.8
		c.why = "both are addresses of a process, but not of one place in a page"
	}
	if c.confidence < 1 && c.why == "" {
		c.why = "looks made up, and a digest of something would look alike"
		c.confirm = "quorate rebuild --rebuilders 3"
	}
	return []claim{c}
}

// time judges two moments in the same place.
func (p *pair) time(a, b moment, c claim) claim {
	delta := b.at.Sub(a.at)
	kind := forms[a.form].name
	clocked := kind != "year" && a.grain < time.Hour
	c.entry = "1-build-time"
	if d, known := zoneDifference(p.a, p.b); known && d != 0 && clocked && delta == d {
		c.entry, c.fact = "17-timezone", "one moment; apart by exactly the hosts' zones"
		return c
	}
	if a.zone && b.zone && delta == 0 {
		c.entry, c.fact = "17-timezone", "one moment, written in two zones"
		return c
	}
	switch {
	case a.inside(p.a.Started, p.a.Finished) && b.inside(p.b.Started, p.b.Finished):
		c.fact = kind + ", inside each build's time"
	case !p.a.Started.IsZero() && !p.b.Started.IsZero():
		c.fact, c.confidence = kind, 0.7
		c.why = "both are times, but not within each build's own: perhaps of a file that the build read"
		c.confirm = "quorate diff --file PATH"
	case clocked && delta != 0 && delta.Abs() <= 14*time.Hour && delta%(15*time.Minute) == 0 && kind != "seconds since 1970":
		c.entry, c.fact, c.confidence = "17-timezone", kind, 0.8
		c.why = "apart by a whole number of quarter hours, as zones are; the zones of the builds are not known"
		c.confirm = "TZ=UTC in both builds"
	case a.weak:
		c.fact, c.confidence = kind, 0.8
		c.why = "when the builds ran is not known"
		c.confirm = "quorate rebuild, which records it"
	default:
		c.fact = kind
	}
	return c
}

// zoneDifference is how far B's clock on the wall is ahead of A's.
func zoneDifference(a, b Facts) (time.Duration, bool) {
	x, ok1 := utcOffset(a)
	y, ok2 := utcOffset(b)
	return y - x, ok1 && ok2
}

func utcOffset(f Facts) (time.Duration, bool) {
	v := f.Values["utc-offset"]
	if v == "" && f.Values["timezone"] == "UTC" {
		return 0, true
	}
	t, err := time.Parse("-0700", v)
	if err != nil {
		return 0, false
	}
	_, s := t.Zone()
	return time.Duration(s) * time.Second, true
}

var (
	number   = regexp.MustCompile(`^\d+$`)
	hexRun   = regexp.MustCompile(`^(?:[0-9a-f]+|[0-9A-F]+)$`)
	base64ly = regexp.MustCompile(`^[A-Za-z0-9+/_-]{16,}={0,2}$`)
	cpuWords = regexp.MustCompile(`(?i)\b(?:cpus?|n?proc|processors?|cores?|jobs?|threads?|parallel|workers?|ncpu)|-j ?$|MAKEFLAGS`)
	pidWords = regexp.MustCompile(`(?i)\b(?:pid|process|lock|session)\b`)
	archName = regexp.MustCompile(`^(?:nocona|core2|nehalem|westmere|sandybridge|ivybridge|haswell|broadwell|skylake(?:-avx512)?|cascadelake|cooperlake|cannonlake|icelake(?:-client|-server)?|tigerlake|alderlake|sapphirerapids|graniterapids|silvermont|goldmont|tremont|k8|barcelona|amdfam10|bdver[1-4]|btver[12]|znver[1-5]|x86|64|v[234]|neoverse|cortex|-)+$`)
	optimise = regexp.MustCompile(`^O[0-3sgz]$|^O?fast$`)
	versions = regexp.MustCompile(`(?i)(?:gcc|clang|rustc|javac?|jdk|go|python|ld|binutils|GNU C\d*|GNU AS|llvm)\b[^\n]{0,24}$`)
)

// block judges two stretches of text that nothing in common was found in.
// before and after give what stands around them.
func (p *pair) block(a, b, lineA, lineB string) ([]claim, bool) {
	c := claim{a: a, b: b}
	if e, ok := rounded(a, b); ok {
		return []claim{e}, true
	}
	x, y := stripCommon(a, b)
	if e, ok := p.numbers(x, y, lineA, a); ok {
		e.a, e.b = a, b
		return []claim{e}, true
	}
	switch {
	case archName.MatchString(a) && archName.MatchString(b):
		c.entry, c.confidence, c.fact = "21-cpu-features", 1, "names of processors"
		return []claim{c}, true
	case optimise.MatchString(a) && optimise.MatchString(b):
		c.entry, c.confidence, c.fact = "38-toolchain", 1, "compiler flags"
		return []claim{c}, true
	}
	if e, ok := p.digest(a, b); ok {
		return []claim{e}, true
	}
	if list, ok := p.encoded(a, b); ok {
		return list, true
	}
	if e, ok := named(a, b, lineA); ok {
		return []claim{e}, true
	}
	if e, ok := random(a, b); ok && !sumLine.MatchString(lineA) { // a digest of a file that is equal is no chance
		return []claim{e}, true
	}
	if permutedWords(a, b) {
		c.entry, c.confidence = "7-hash-order", 1
		c.fact = "the same words in another order"
		if p.areFiles(movedWords(a, b)) {
			c.entry, c.fact = "6-file-order", "the same names in another order; "+inTree
		}
		return []claim{c}, true
	}
	if at := strings.Index(lineA, a); at >= 0 && a != "" && b != "" && versions.MatchString(lineA[:at]) && dotted(a) && dotted(b) {
		c.entry, c.confidence, c.fact = "38-toolchain", 0.9, "versions of a tool"
		c.why = "a version behind a tool's name"
		c.confirm = "quorate lock --diff"
		return []claim{c}, true
	}
	return nil, false
}

// fractions are numbers with many digits, as programs print them.
var fractions = regexp.MustCompile(`\b\d+\.\d{8,}(?:[eE][-+]?\d+)?\b`)

// releases are numbers of versions as a whole: "6.1.0-28-amd64".
var releases = regexp.MustCompile(`\b\d+\.\d+(?:\.\d+)*(?:[-+~][A-Za-z0-9.]+)*\b`)

var (
	hostWords   = regexp.MustCompile(`(?i)(?:^|[^a-z])(?:(?:build|built)?[ _-]?(?:host(?:name)?|node(?:name)?|machine|user(?:name)?)|builder|(?:built|compiled?|packaged|made|prepared)[ _-]by|packager|whoami|logname)["']?\s*[:=@]?\s*["']?$`)
	kernelWords = regexp.MustCompile(`(?i)(?:^|[^a-z])(?:linux|kernel(?:[ _-]?(?:release|version))?|uname|osrelease)["']?\s*[:=]?\s*["']?(?:linux )?["']?$`)
	plainName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	release     = regexp.MustCompile(`^\d+\.\d+(?:\.\d+)?[A-Za-z0-9._+-]*$`)
)

// named judges values by the word before them, when nothing is known of the hosts.
func named(a, b, line string) (claim, bool) {
	x, y := wholeWord(line, a), b
	if x == "" || !plainName.MatchString(a) || !plainName.MatchString(y) {
		return claim{}, false
	}
	before := line[:strings.Index(line, a)]
	c := claim{a: a, b: b, confidence: 0.7, why: "named so in the text; what the hosts' were is not known", confirm: "quorate rebuild, which records it"}
	switch {
	case kernelWords.MatchString(before) && release.MatchString(a) && release.MatchString(b):
		c.entry, c.fact = "19-kernel", "releases of a kernel"
	case hostWords.MatchString(before):
		c.entry, c.fact = "18-host-facts", "names of hosts or users"
	default:
		return claim{}, false
	}
	return c, true
}

// wholeNames judges lines that differ in one name, whatever the name has in it.
func wholeNames(a, b string) (claim, bool) {
	start, ex, ey := difference([]byte(a), []byte(b))
	for start > 0 && nameByte(a[start-1]) {
		start--
	}
	for ex < len(a) && nameByte(a[ex]) {
		ex++
	}
	for ey < len(b) && nameByte(b[ey]) {
		ey++
	}
	return named(a[start:ex], b[start:ey], a)
}

func nameByte(c byte) bool {
	return word(c) && c < 0x80 || c == '.' || c == '-' || c == '_' || c == '+' || c == '~'
}

// wholeWord returns word when it begins where another does in line.
func wholeWord(line, word string) string {
	i := strings.Index(line, word)
	if i < 0 || word == "" || wordAt(line, i-1) {
		return ""
	}
	return word
}

func dotted(s string) bool {
	return s != "" && strings.ContainsAny(s, "0123456789") && strings.Trim(s, "0123456789.-+~abcrdp") == ""
}

// stripCommon takes equal letters from both ends, but never from within a number.
func stripCommon(a, b string) (string, string) {
	for a != "" && b != "" && a[0] == b[0] && !(a[0] >= '0' && a[0] <= '9') {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] && !(a[len(a)-1] >= '0' && a[len(a)-1] <= '9') {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}

// numbers judges two whole numbers by what is known of the hosts and by the words around.
func (p *pair) numbers(x, y, line, inside string) (claim, bool) {
	if !number.MatchString(x) || !number.MatchString(y) || x == y || len(x) > 9 || len(y) > 9 {
		return claim{}, false
	}
	before, _, _ := strings.Cut(line, inside)
	lead := inside[:strings.Index(inside, x)]
	m, _ := strconv.Atoi(x)
	n, _ := strconv.Atoi(y)
	cpuA, cpuB := p.a.Values["cpus"], p.b.Values["cpus"]
	worded := cpuWords.MatchString(before) || lead == "j" || lead == "J"
	switch {
	case cpuA != cpuB && cpuA == x && cpuB == y:
		c := claim{entry: "20-cpu-count", confidence: 0.9, fact: "= cpus of each host", why: "the numbers equal the hosts' CPU counts; another number could"}
		if worded {
			c.confidence, c.why = 1, ""
		}
		c.confirm = "quorate rebuild with the same CPUs on both hosts"
		return c, true
	case p.a.Values["uid"] == x && p.b.Values["uid"] == y && x != y:
		return claim{entry: "18-host-facts", confidence: 0.9, fact: "= uid of each host", why: "the numbers equal the builders' user ids"}, true
	case worded && m > 0 && n > 0 && m <= 4096 && n <= 4096 && cpuA == "":
		return claim{entry: "20-cpu-count", confidence: 0.8, fact: "a number of processors", why: "named so in the text; the hosts' CPU counts are not known"}, true
	}
	return p.pid(m, n, line)
}

// pidReach is how far past the first process number a build is believed to
// count: builds start some thousands of processes, rarely more.
const pidReach = 200_000

func (p *pair) pid(m, n int, line string) (claim, bool) {
	c := claim{entry: "23-pid", fact: "process numbers", confidence: 0.8, why: "within the numbers that processes had in each build"}
	worded := pidWords.MatchString(line)
	fa, errA := strconv.Atoi(p.a.Values["first-pid"])
	fb, errB := strconv.Atoi(p.b.Values["first-pid"])
	alone := strings.Trim(line, "0123456789 \n") == ""
	switch {
	case errA == nil && errB == nil && m >= fa && m < fa+pidReach && n >= fb && n < fb+pidReach && (worded || alone):
		if worded {
			c.confidence, c.why = 1, ""
		}
		return c, true
	case worded && m > 1 && n > 1 && m < 1<<22 && n < 1<<22: // PID_MAX_LIMIT
		c.why = "named so in the text"
		return c, true
	}
	return claim{}, false
}

// digest judges two hex digests: of differing files they are effects.
func (p *pair) digest(a, b string) (claim, bool) {
	x, y := strings.ToLower(a), strings.ToLower(b)
	if len(x) != len(y) || !hexRun.MatchString(x) || !hexRun.MatchString(y) {
		return claim{}, false
	}
	pa, pb := p.digests[x], p.digests[y]
	if pa == "" || pb == "" {
		return claim{}, false
	}
	return claim{a: a, b: b, effect: "digests of other files", confidence: 1, fact: "digest of " + pa}, true
}

// encoded looks into base64 and hex.
func (p *pair) encoded(a, b string) ([]claim, bool) {
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
	} {
		x, err1 := decode(a)
		y, err2 := decode(b)
		if err1 != nil || err2 != nil || len(x) < 6 || len(y) < 6 || !printable(x) || !printable(y) {
			continue
		}
		if list, ok := p.line(string(x), string(y)); ok {
			return list, true
		}
	}
	return nil, false
}

func printable(b []byte) bool {
	for _, c := range b {
		if (c < ' ' || c > '~') && c != '\n' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}

// random judges two strings that look made up: as long, of one alphabet, and
// equal in hardly any place.
func random(a, b string) (claim, bool) {
	c := claim{entry: "22-random", a: a, b: b, fact: "random characters"}
	if len(a) != len(b) || len(a) < 6 {
		return c, false
	}
	equal := 0
	for i := range len(a) {
		if a[i] == b[i] {
			equal++
		}
	}
	mixed := func(s string) bool {
		var digit, letter bool
		for _, r := range s {
			digit, letter = digit || unicode.IsDigit(r), letter || unicode.IsLetter(r)
		}
		return digit && letter
	}
	switch {
	case equal*3 > len(a):
		return c, false
	case hexRun.MatchString(a) && hexRun.MatchString(b) && len(a) >= 8 && (len(a) >= 24 || mixed(a) && mixed(b)):
		c.confidence = 0.8
		if n := len(a); n == 32 || n == 40 || n == 64 || n == 96 || n == 128 {
			c.confidence = 0.6 // as long as a digest is
		}
	case base64ly.MatchString(a) && base64ly.MatchString(b) && mixed(a) && mixed(b):
		c.confidence = 0.7
	default:
		return c, false
	}
	c.why = "looks made up; a digest of something would look alike"
	c.confirm = "quorate rebuild --rebuilders 3 (chance differs on every run, a host's fact does not)"
	return c, true
}

// permutedWords reports whether both texts are the same words, at least three,
// in another order, separators aside.
func permutedWords(a, b string) bool {
	x, y := words(a), words(b)
	if len(x) != len(y) || len(x) < 3 || slices.Equal(x, y) {
		return false
	}
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\n,;|:{}[]()", r) })
}

// paths judges two texts that differ only in a folder: "/tmp/a/src/x.c" and "/tmp/b/src/x.c".
// With no fact to hold them against it wants a place where builds are made.
func (p *pair) paths(a, b string) ([]claim, bool) {
	if !strings.Contains(a, "/") || !strings.Contains(b, "/") {
		return nil, false
	}
	ta, tb := p.tokens(a, b)
	for i := range ta { // known values are told from the facts, not from looks
		if ta[i].can != nil {
			return nil, false
		}
		if i < len(tb) && ta[i].class == "temporary name" && tb[i].class == ta[i].class && (i+1 == len(ta) || ta[i+1].text != "/") {
			return nil, false
		}
	}
	if len(ta) == 0 || len(tb) == 0 {
		return nil, false
	}
	fa, fb := folders.FindAllString(a, -1), folders.FindAllString(b, -1)
	if len(fa) != len(fb) || len(fa) == 0 {
		return nil, false
	}
	x, y := a, b
	var out []claim
	for i := range fa {
		u, v := ownFolders(fa[i], fb[i])
		if u == v {
			continue
		}
		x, y = strings.Replace(x, u, "\x00", 1), strings.Replace(y, v, "\x00", 1)
		c := claim{entry: "3-build-path", a: u, b: v, confidence: 0.95, fact: "folders where builds are made",
			why: "the folders of the builds are not known", confirm: "build twice in one folder"}
		if strings.HasPrefix(u, "/home/") && u == fa[i] && strings.Count(u, "/") == 2 {
			c.entry, c.confidence, c.fact, c.why = "18-host-facts", 0.8, "home folders", "what the hosts' were is not known"
		}
		out = append(out, c)
	}
	return out, len(out) > 0 && x == y
}

// ownFolders cuts off the steps that two paths end in alike.
func ownFolders(a, b string) (string, string) {
	for a != b {
		i, j := strings.LastIndexByte(a, '/'), strings.LastIndexByte(b, '/')
		if i <= 0 || j <= 0 || a[i:] != b[j:] || strings.Count(a, "/") < 3 || strings.Count(b, "/") < 3 {
			break
		}
		a, b = a[:i], b[:j]
	}
	return a, b
}

// folders are paths in places where builds are usually made.
var folders = regexp.MustCompile(`/(?:tmp|var/tmp|dev/shm|build|builds|scratch|srv|var/lib/jenkins|work|workspace|home|root|src|usr/src|mnt|run/build|github/workspace|__w)(?:/[A-Za-z0-9._+~@%-]+)+`)
