package cause

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// What a file system gives unsorted is names of files: a list of them, with columns or without, as `ls -R` writes
// it, or the contents of files one after another. That is told from the order of a hash by the
// names alone, so they must be those of files that the sides hold. A list that merely looks like one is likely.

// holder knows what files the sides hold; diff.Comparison does.
type holder interface {
	Holds(path string) bool
	Siblings(names []string) (more int, ok bool)
	HoldsSize(bytes int64) bool
	HoldsContents([]byte) bool
}

const inTree = "all of files that are here"

// Facts of file order that mends go by.
const (
	factSections = "the same folders and names in another order, as ls -R writes them"
	factJoined   = "the same contents of files in another order"
)

var (
	fileLine = regexp.MustCompile(`^(?:[0-9a-f]{32,128}  ?\*?)?[^\s=:]*(?:/|\.[A-Za-z0-9]{1,8}$|\.so\.)[^\s=]*$|^[^\s=:]+$`)
	keyLine  = regexp.MustCompile(`^\s*["']?[\w.-]+["']?\s*[=:]`)
)

// sameLines judges two texts of equal lines in another order.
func (p *pair) sameLines(a, b []byte) (claim, bool) {
	x, y := splitLines(a), splitLines(b)
	if len(a) != len(b) || len(x) != len(y) || len(x) < 2 || slices.Equal(x, y) {
		return claim{}, false
	}
	sx, sy := slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	if !slices.Equal(sx, sy) {
		return claim{}, false
	}
	c := claim{confidence: 1, a: firstLines(x, y), b: firstLines(y, x)}
	if byLocale(x, y) || byLocale(y, x) {
		c.entry, c.fact = "16-locale", "the same lines, sorted by bytes on one side and by a locale's rules on the other"
		return c, true
	}
	if p.sections(x, y, &c) || p.joined(x, y, &c) || p.list(x, y, &c) {
		return c, true
	}
	keys := 0
	for _, l := range x {
		if keyLine.MatchString(l) {
			keys++
		}
	}
	if c.entry = "7-hash-order"; most(keys, len(x)) {
		c.fact = "the same keys and values in another order"
		return c, true
	}
	c.fact, c.confidence = "the same lines in another order", 0.7
	c.why = "the lines are no names of files that are here, so a hash or set is likelier than the file system; jobs run in parallel could do it too"
	c.confirm = "run the step twice on one host with one CPU"
	return c, true
}

// most is nine of ten: lists have headings, and name what was removed since.
func most(n, of int) bool { return of > 0 && n*10 >= of*9 }

// byLocale reports whether x is sorted by bytes, and y by a locale's rules.
func byLocale(x, y []string) bool {
	return slices.IsSorted(x) && slices.IsSortedFunc(y, collate)
}

// moved are the lines of x that stand at another place in y.
func moved(x, y []string) []string {
	var out []string
	for i := range x {
		if x[i] != y[i] {
			out = append(out, x[i])
		}
	}
	return out
}

// list judges a flat list of names of files, perhaps with sums, modes or sizes beside them.
func (p *pair) list(x, y []string, c *claim) bool {
	lines := moved(x, y)
	keys, files, paths := 0, 0, 0
	for _, l := range lines {
		switch {
		case keyLine.MatchString(l):
			keys++
		case fileLine.MatchString(l):
			files++
			if strings.Contains(l, "/") || sumLead.MatchString(l) { // an ending alone may be of a module, a host, a version
				paths++
			}
		}
	}
	switch {
	case most(keys, len(lines)):
		return false // names of files may be keys or values of a hash
	case p.areFiles(lines):
		c.fact = "the same names in another order; " + inTree
	case !most(files, len(lines)) || paths*2 < len(lines):
		return false
	default:
		c.fact, c.confidence = "what looks like names of files, in another order", 0.8
		c.why = "no such files are here, so that it could be the order of a hash as well; sorted, both are identical"
		c.confirm = "run the step twice on one host, once with TMPDIR and the source on another file system"
	}
	c.entry = "6-file-order"
	if !slices.IsSorted(x) && !slices.IsSorted(y) {
		c.fact += ", sorted on neither side"
	}
	return true
}

// areFiles reports whether lines (or words) each name another file that is here: by a path or a name with an ending, or
// all by what lies in one folder, of which they leave out little. Beside the name a line may have what is said of files, or what
// all lines have; words of its own make it a record, of which TeX's language.def, the order of a hash, has many.
func (p *pair) areFiles(lines []string) bool {
	if p.held == nil || len(lines) < 2 {
		return false
	}
	seen, lone := map[string]bool{}, true
	bare, rest := make([]string, len(lines)), make([]string, len(lines))
	for i, l := range lines {
		if len(l) > maxLine {
			return false
		}
		if name, ok := p.fileIn(l); ok {
			seen[name] = true
			rest[i] = strings.Replace(l, name, "\x00", 1)
		}
		bare[i] = strings.Trim(l, `"'`)
		lone = lone && bare[i] != "" && !strings.ContainsAny(bare[i], "/ \t:=")
		if i == 100 && len(seen) < 50 && !lone {
			return false // there would have to be a lot to come
		}
	}
	if most(len(seen), len(lines)) {
		return onlyFacts(rest)
	}
	if !lone {
		return false
	}
	more, ok := p.held.Siblings(bare)
	return ok && more*4 <= len(lines)
}

// ofFiles are words that listings say of files: sums, sizes and numbers, modes, days and times, keywords of mtree, and where a link leads.
var ofFiles = regexp.MustCompile(`^(?:|\x00|-|->|[0-9a-f]{32,128}|[0-9][0-9.,:+TZKMG-]*|[bcdlps-][-rwxsStT]{9}[.+@]?|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)|[a-z0-9]+=\S+|\./\S*)$`)

// onlyFacts reports whether what lines have beside names of files is said of files, or of many of them (an owner): a hash has
// another key in each.
func onlyFacts(rest []string) bool {
	count := map[string]int{}
	for _, l := range rest {
		for _, w := range strings.Fields(l) {
			count[strings.Trim(w, `"'(),;`)]++
		}
	}
	for w, n := range count {
		if (n == 1 || n*10 < len(rest)) && !ofFiles.MatchString(w) {
			return false
		}
	}
	return true
}

// fileIn finds the file that a line names.
func (p *pair) fileIn(line string) (string, bool) {
	for _, w := range strings.FieldsFunc(line, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`"'`+"`"+`,;:()<>[]{}|=*`, r) }) {
		if named, ok := p.file(w); ok {
			return named, true
		}
	}
	return p.file(sumLead.ReplaceAllString(strings.TrimSpace(line), "")) // names may have spaces
}

var sumLead = regexp.MustCompile(`^[0-9a-f]{32,128} [ *]?`)

// file is a path of a file that is here: one with folders, or an ending that is no number.
func (p *pair) file(s string) (string, bool) {
	s = strings.TrimRight(strings.TrimSpace(s), "/")
	base := path.Base(s)
	ending := path.Ext(base)
	if len(s) < 3 || !strings.Contains(s, "/") && (len(ending) < 2 || ending == base || number.MatchString(ending[1:])) || strings.IndexFunc(base, unicode.IsLetter) < 0 {
		return "", false
	}
	return s, p.held.Holds(s)
}

// section is a folder in what ls -R writes.
type section struct {
	folder string
	names  []string
}

// sectionsOf reads what ls -R writes: folders with a colon, their names below, and an empty line between.
func sectionsOf(x []string) (head []string, out []section, ok bool) {
	first := slices.IndexFunc(x, func(l string) bool { return strings.HasSuffix(l, ":") && len(l) > 1 })
	if first < 0 {
		return nil, nil, false
	}
	head = x[:first]
	begins := true
	for _, l := range x[first:] {
		switch {
		case l == "":
			begins = true
		case begins && !strings.HasSuffix(l, ":"):
			return nil, nil, false
		case begins:
			out = append(out, section{folder: strings.TrimSuffix(l, ":")})
			begins = false
		default:
			s := &out[len(out)-1]
			s.names = append(s.names, l)
		}
	}
	return head, out, len(out) > 0
}

// sections judges two outputs of ls -R: with folders and names sorted, both are the same.
func (p *pair) sections(x, y []string, c *claim) bool {
	headX, sx, ok1 := sectionsOf(x)
	headY, sy, ok2 := sectionsOf(y)
	if !ok1 || !ok2 || !slices.Equal(headX, headY) || len(sx) != len(sy) {
		return false
	}
	locale := localeSections(sx, sy) || localeSections(sy, sx)
	byFolder := func(a, b section) int { return strings.Compare(a.folder, b.folder) }
	slices.SortStableFunc(sx, byFolder)
	slices.SortStableFunc(sy, byFolder)
	names, here, paths := 0, 0, 0
	for i, s := range sx {
		u, v := slices.Sorted(slices.Values(s.names)), slices.Sorted(slices.Values(sy[i].names))
		if s.folder != sy[i].folder || !slices.Equal(u, v) {
			return false
		}
		if strings.Contains(s.folder, "/") {
			paths++
		}
		for _, l := range s.names {
			f := strings.Fields(l) // columns of ls -l stand before
			if len(f) == 0 || f[0] == "total" && len(f) == 2 {
				continue
			}
			names++
			if p.held != nil && (p.held.Holds(s.folder+"/"+l) || p.held.Holds(s.folder+"/"+f[len(f)-1])) {
				here++
			}
		}
	}
	c.entry, c.fact = "6-file-order", factSections
	switch {
	case locale && most(here, names):
		c.entry, c.fact = "16-locale", "folders and names as ls -R writes them, sorted by bytes on one side and by a locale's rules on the other"
	case most(here, names):
		c.fact += "; " + inTree
	case paths*2 >= len(sx) && names > 0:
		c.confidence = 0.8
		c.why = fmt.Sprintf("of its %d names %d are of files that are here; sorted, both are identical", names, here)
		c.confirm = "run the step twice on one host, once with the listed folder on another file system"
	default:
		return false
	}
	return true
}

func localeSections(x, y []section) bool {
	folders := func(s []section) []string {
		out := make([]string, len(s))
		for i := range s {
			out[i] = s[i].folder
		}
		return out
	}
	if !slices.IsSorted(folders(x)) || !slices.IsSortedFunc(folders(y), collate) {
		return false
	}
	for i := range x {
		if !slices.IsSorted(x[i].names) || !slices.IsSortedFunc(y[i].names, collate) {
			return false
		}
	}
	return true
}

// joined judges contents of files one after another: parts that begin with a line that names a file, or that are files as they are.
func (p *pair) joined(x, y []string, c *claim) bool {
	if p.held == nil {
		return false
	}
	n := p.parts(x, y)
	if n == 0 {
		if n = p.files(x, y); n == 0 {
			return false
		}
		c.fact = fmt.Sprintf("%s: %d files, whole", factJoined, n)
	} else {
		c.fact = fmt.Sprintf("%s: %d parts, each with the name of one", factJoined, n)
	}
	c.entry = "6-file-order"
	return true
}

// parts counts the parts that begin with the name of a file, when these are the same on both sides.
func (p *pair) parts(x, y []string) int {
	heads := map[string]string{} // a line that stands once and names a file → that
	count := map[string]int{}
	for _, l := range x {
		count[l]++
	}
	for _, l := range x {
		if count[l] != 1 || len(l) > maxLine {
			continue
		}
		if name, ok := p.fileIn(l); ok {
			heads[l] = name
		}
	}
	// Parts may name further files: only lines of one form are heads, that of the first part that moved.
	form := ""
	for i := range x {
		if x[i] == y[i] {
			continue
		}
		if name := heads[x[i]]; name != "" {
			form = strings.Replace(x[i], name, "\x00", 1)
		}
		break
	}
	if form == "" {
		return 0
	}
	head := func(l string) bool { return heads[l] != "" && strings.Replace(l, heads[l], "\x00", 1) == form }
	cut := func(lines []string) (before string, parts []string) {
		at := -1
		for i := 0; i <= len(lines); i++ {
			if i < len(lines) && !head(lines[i]) {
				continue
			}
			if at < 0 {
				before = strings.Join(lines[:i], "\n")
			} else {
				parts = append(parts, strings.TrimRight(strings.Join(lines[at:i], "\n"), "\n")) // empty lines may stand between them
			}
			at = i
		}
		slices.Sort(parts)
		return before, parts
	}
	// What stands behind the last part, on both sides alike, is of none.
	behind := 0
	for behind < len(x) && x[len(x)-1-behind] == y[len(y)-1-behind] && !head(x[len(x)-1-behind]) {
		behind++
	}
	for end := 0; end <= min(behind, maxBehind); end++ {
		bx, px := cut(x[:len(x)-end])
		by, py := cut(y[:len(y)-end])
		if bx == by && len(px) > 1 && slices.Equal(px, py) && len(px)*2 <= len(x) { // a part has more than its name
			return len(px)
		}
	}
	return 0
}

// maxBehind are the lines behind the last part that are looked at: a closing bracket, a mark of the end.
const maxBehind = 20

// Bounds of the search for whole files in a text.
const (
	leastFile = 16       // bytes; shorter contents are equal by chance
	maxTried  = 64 << 20 // bytes that are hashed
	maxSizes  = 10 << 20 // sizes that are asked for, half a second's worth: of all pairs of lines among some 4,500
)

// files counts the files whose whole contents two texts consist of, in another order; 0 when more than a fifth is of none.
func (p *pair) files(x, y []string) int {
	u, restX := p.wholeFiles(x)
	v, restY := p.wholeFiles(y)
	if len(u) < 2 || len(u) != len(v) || slices.Equal(u, v) || restX != restY {
		return 0
	}
	total := 0
	for _, f := range u {
		total += len(f)
	}
	slices.Sort(u)
	slices.Sort(v)
	if !slices.Equal(u, v) || restX*4 > total {
		return 0
	}
	return len(u)
}

// wholeFiles finds the files that stand whole in a text, in order, and how many bytes are of none.
func (p *pair) wholeFiles(x []string) (found []string, rest int) {
	tried, sizes := 0, 0
	for i := 0; i < len(x); {
		size, next := 0, 0
		for j := i; j < len(x); j++ {
			if sizes++; sizes > maxSizes || tried > maxTried {
				return nil, 0
			}
			if size += len(x[j]) + 1; size < leastFile || !p.held.HoldsSize(int64(size)) || j-i+1 == len(x) { // itself
				continue
			}
			tried += size
			if text := strings.Join(x[i:j+1], "\n") + "\n"; p.held.HoldsContents([]byte(text)) {
				found, next = append(found, text), j+1
				break
			}
		}
		if next == 0 {
			rest += len(x[i]) + 1
			next = i + 1
		}
		i = next
	}
	return found, rest
}

// listing judges two lists of the same files in another order whose lines differ as well, as a list of digests does when a file
// differs: line by line, each with that of the same file.
func (p *pair) listing(x, y []string) ([]claim, bool) {
	if p.held == nil || len(x) != len(y) || len(x) < 2 || len(x) > maxListing {
		return nil, false
	}
	at := make(map[string]int, len(y))
	for j, l := range y {
		if name, ok := p.fileIn(l); ok && len(l) <= maxLine {
			at[name] = j
		} else {
			at["\x00"+l] = j
		}
	}
	if len(at) != len(y) {
		return nil, false
	}
	var out []claim
	order := false
	for i, l := range x {
		name, ok := p.fileIn(l)
		if !ok {
			name = "\x00" + l
		}
		j, ok := at[name]
		if !ok {
			return nil, false
		}
		delete(at, name)
		order = order || i != j
		if l == y[j] {
			continue
		}
		list, ok := p.line(l, y[j])
		if !ok {
			return nil, false
		}
		for _, c := range list {
			c.where = fmt.Sprintf("line %d", i+1)
			if c.effect == "" && len(l)+len(y[j]) < 2*maxValue {
				c.a, c.b = l, y[j]
			}
			out = append(out, c)
		}
	}
	if !order || len(out) == 0 || !p.areFiles(moved(x, y)) {
		return nil, false
	}
	return append([]claim{{entry: "6-file-order", confidence: 1, a: firstLines(x, y), b: firstLines(y, x), fact: "the same names in another order; " + inTree}}, out...), true
}

// maxListing bounds the lines of such a list: the largest images have so many files.
const maxListing = 300_000

// movedWords are the words of a that stand at another place in b.
func movedWords(a, b string) []string {
	return moved(words(a), words(b))
}

// collate compares as locales do in the first place: letters without case,
// punctuation not at all, lower case first among equals.
func collate(a, b string) int {
	strip := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < 0x80 && !word(byte(r)) {
				return -1
			}
			return r
		}, strings.ToLower(s))
	}
	return strings.Compare(strip(a), strip(b))
}

func firstLines(x, y []string) string {
	for i := range x {
		if x[i] != y[i] {
			return clip(strings.Join(x[i:min(i+3, len(x))], " ⏎ "))
		}
	}
	return ""
}
