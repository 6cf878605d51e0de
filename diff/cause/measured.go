package cause

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math"
	"regexp"
	"strconv"
	"strings"

	"quorate.dev/diff"
)

// What a build measures is of the moment: how often code ran, how long a plan
// took, and what sums come to when they are added up in another order. Such
// differences have no normaliser for code, so that they are likely at most.

// profiled claims programs whose code differs and whose compiler went by a profile. Whoever finds
// the flag in the debug information, in the notes of the compiler or in the step's own lines knows that
// the profile decides what the code is; other reasons are ruled out only by building twice from one profile.
func (s *search) profiled(p *program) bool {
	if p.code() == "" {
		return false
	}
	flag := ""
	a, b := profileFlag(p.node, diff.A), profileFlag(p.node, diff.B)
	switch st := s.stepOf(p.node); {
	case a != "" && b != "":
		flag = "both were compiled with " + a
	case st != nil && st.run != nil && profileFlags.MatchString(st.run.Value):
		flag = "the step says " + profileFlags.FindString(st.run.Value)
	default:
		return false
	}
	at := p.own[0]
	for _, l := range p.own {
		if strings.HasPrefix(l.node.Name, ".text") {
			at = l
			break
		}
	}
	s.take(at, claim{entry: "37-measured", a: at.finding.A, b: at.finding.B, where: fieldLabel(at.finding), fact: flag, confidence: 0.85,
		why: "the profile decides what the code is; whether all of the code differs for that alone is not proven", confirm: "build twice from one profile"})
	s.follow(p)
	return true
}

func (s *search) stepOf(n *diff.Node) *step {
	e := n.File()
	if e == nil {
		return nil
	}
	st, _ := s.origin(e.Name)
	return st
}

// profileFlags are what makes GCC, Clang and builds of Python go by a profile (GCC manual, 3.12; Clang's
// user manual, "Profile Guided Optimization").
var profileFlags = regexp.MustCompile(`-fprofile-(?:use|instr-use|sample-use)\b|-fauto-profile\b|-fbranch-probabilities\b|-Cprofile-use|-pgo=|--enable-optimizations\b`)

// maxNotes bounds the sections that are searched for the compiler's flags.
const maxNotes = 16 << 20

// profileFlag finds such a flag where compilers write their command lines.
func profileFlag(n *diff.Node, w diff.Which) (flag string) {
	defer func() { // debug/elf is not made for hostile files
		if recover() != nil {
			flag = ""
		}
	}()
	r, err := n.Open(w)
	if err != nil {
		return ""
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return ""
	}
	for _, name := range []string{".GCC.command.line", ".debug_str", ".debug_line_str", ".debug_info", ".go.buildinfo"} {
		x := f.Section(name)
		if x == nil || x.Size > maxNotes {
			continue
		}
		b, err := x.Data()
		if err != nil {
			continue
		}
		if flag := profileFlags.Find(b); flag != nil {
			return string(flag)
		}
	}
	return ""
}

// measuredFiles are files that hold nothing but what was measured, by how they begin.
var measuredFiles = []struct{ begin, fact string }{
	{"adcg", "counts of gcov: how often the code ran"}, // 0x67636461, little end first (gcov-io.h)
	{"gcda", "counts of gcov: how often the code ran"},
	{"\xfflprofi\x81", "profile of LLVM: how often the code ran"},
	{"\x81rforpl\xff", "raw profile of LLVM: how often the code ran"},
	{"(fftw-", "wisdom of FFTW: which plan was the fastest when it was tried"},
}

func measuredFile(a, b []byte) (claim, bool) {
	for _, m := range measuredFiles {
		if bytes.HasPrefix(a, []byte(m.begin)) && bytes.HasPrefix(b, []byte(m.begin)) {
			return claim{entry: "37-measured", a: clip(beginningText(a)), b: clip(beginningText(b)), fact: m.fact, confidence: 0.95,
				why: "the whole file is such a record; no two runs count or time alike", confirm: "leave the file out and compare again"}, true
		}
	}
	return claim{}, false
}

// beginningText shows the first bytes: as text when they are, else in hexadecimal.
func beginningText(b []byte) string {
	b = b[:min(len(b), 40)]
	if printable(b) {
		return string(b)
	}
	return hexText(b)
}

// rounding is how far apart two results of one sum may be, relative to it, when it is added up in another
// order or by other instructions: a double has 53 bits, 1.1e-16, and a sum of a thousand terms loses some ten of them.
const rounding = 1e-11

// decimals are numbers with so many digits that they were not chosen by a person.
var decimals = regexp.MustCompile(`^[-+]?\d*\.\d+(?:[eE][-+]?\d+)?$`)

// rounded judges two decimal numbers that differ in their last digits only.
func rounded(a, b string) (claim, bool) {
	if !decimals.MatchString(a) || !decimals.MatchString(b) || max(len(a), len(b)) < 14 {
		return claim{}, false
	}
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	if err1 != nil || err2 != nil || !nearlySame(x, y) {
		return claim{}, false
	}
	return claim{entry: "37-measured", a: a, b: b, confidence: 0.9, fact: "one number, apart by rounding",
		why: "sums that are added up in another order, or by other instructions, differ so", confirm: "one thread, -ffp-contract=off and one -march on both hosts"}, true
}

func nearlySame(x, y float64) bool {
	return x != y && math.Abs(x-y) <= rounding*max(math.Abs(x), math.Abs(y))
}

// doubles judges bytes that are eight-byte numbers apart by rounding. Integers, times and addresses are far outside
// of the range when read so.
func doubles(a, b stretch) ([]claim, bool) {
	if a.length() > 512 || b.length() > 512 {
		return nil, false
	}
	lead := a.start % 8
	if b.start%8 != lead {
		return nil, false
	}
	x, _ := stretch{a.n, a.w, a.start - lead, a.end + (8-a.end%8)%8}.wide(0, 0)
	y, _ := stretch{b.n, b.w, b.start - lead, b.end + (8-b.end%8)%8}.wide(0, 0)
	if len(x) != len(y) || len(x) < 8 || len(x)%8 != 0 {
		return nil, false
	}
	var out []claim
	for i := 0; i < len(x); i += 8 {
		u, v := math.Float64frombits(binary.LittleEndian.Uint64(x[i:])), math.Float64frombits(binary.LittleEndian.Uint64(y[i:]))
		if u == v {
			continue
		}
		if math.Abs(u) < 1e-9 || math.Abs(u) > 1e15 || !nearlySame(u, v) {
			return nil, false
		}
		out = append(out, claim{entry: "37-measured", a: strconv.FormatFloat(u, 'g', -1, 64), b: strconv.FormatFloat(v, 'g', -1, 64), confidence: 0.85,
			fact: "one number in eight bytes, apart by rounding", why: "sums that are added up in another order, or by other instructions, differ so",
			confirm: "one thread, -ffp-contract=off and one -march on both hosts"})
	}
	return out, len(out) > 0
}

func mendMeasured(m *mender, k *Cause) {
	m.rewrite(k, func(l string) string { return strings.ReplaceAll(l, " --enable-optimizations", "") })
	k.say("ship the profile as an input and compile from it (-fprofile-use=/inputs/profile), or build without one; leave .gcda files and tuned plans out")
	k.say("numbers: one order of adding up (one thread), -ffp-contract=off, and one -march; or write fewer digits")
}
