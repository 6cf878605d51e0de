package diff

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sergi/go-diff/diffmatchpatch"
)

const (
	// maxHunks bounds the findings of one text; a screen shows some 30, and one log with a time on
	// each line must not become a hundred thousand.
	maxHunks = 200
	// maxChars bounds what go-diff compares character by character: its cost grows with the square.
	maxChars = 2000
	// maxCharPairs bounds how many pairs of lines go through it; further ones are cut at both ends only.
	maxCharPairs = 2000
)

// text compares two texts: lines first, then characters inside of changed lines.
// It returns findings in the texts' own coordinates.
func text(a, b []byte) []Finding {
	la, lb := lines(a), lines(b)
	ids := map[string]int32{}
	number := func(s []byte, ends []int) []int32 {
		out := make([]int32, len(ends))
		from := 0
		for i, end := range ends {
			id, ok := ids[string(s[from:end])]
			if !ok {
				id = int32(len(ids))
				ids[string(s[from:end])] = id
			}
			out[i], from = id, end
		}
		return out
	}
	var out []Finding
	budget := maxCharPairs
	for _, h := range byLine(sequences(number(a, la), number(b, lb))) {
		x, y := span(la, h.a0, h.a1), span(lb, h.b0, h.b1)
		runs := shift(characters(a[x.Offset:x.End()], b[y.Offset:y.End()], &budget), x.Offset, y.Offset)
		if len(out) >= maxHunks {
			last := &out[len(out)-1]
			last.More++
			last.Runs = append(last.Runs, runs...)
			if len(last.Runs) > 2*maxRuns {
				last.Runs = coalesce(last.Runs, maxRuns)
			}
			continue
		}
		f := Finding{What: WhatText, A: clipBytes(a[x.Offset:x.End()]), B: clipBytes(b[y.Offset:y.End()]), Runs: runs}
		if x.Length > 0 {
			f.Line[A] = h.a0 + 1
		}
		if y.Length > 0 {
			f.Line[B] = h.b0 + 1
		}
		f.Where = lineKey(f.A)
		if f.Where == "" || f.A == "" {
			f.Where = lineKey(f.B)
		}
		out = append(out, f)
	}
	if len(out) > 0 {
		last := &out[len(out)-1]
		last.Runs = coalesce(last.Runs, maxRuns)
	}
	return out
}

// lines are the offsets behind each line's newline.
func lines(s []byte) []int {
	ends := make([]int, 0, bytes.Count(s, []byte{'\n'})+1)
	for at := 0; at < len(s); {
		i := bytes.IndexByte(s[at:], '\n')
		if i < 0 {
			return append(ends, len(s))
		}
		at += i + 1
		ends = append(ends, at)
	}
	return ends
}

func span(ends []int, from, to int) Range {
	start := 0
	if from > 0 {
		start = ends[from-1]
	}
	end := start
	if to > from {
		end = ends[to-1]
	}
	return Range{int64(start), int64(end - start)}
}

// byLine splits hunks with as many lines on either side into pairs of lines.
func byLine(hunks []hunk) []hunk {
	var out []hunk
	for _, h := range hunks {
		if n := h.a1 - h.a0; n == h.b1-h.b0 && n > 1 {
			for i := range n {
				out = append(out, hunk{h.a0 + i, h.a0 + i + 1, h.b0 + i, h.b0 + i + 1})
			}
			continue
		}
		out = append(out, h)
	}
	return out
}

// characters are the runs in which two stretches of text differ.
func characters(a, b []byte, budget *int) []Run {
	p := firstDifference(a, b)
	for p > 0 && (p < len(a) && !utf8.RuneStart(a[p]) || p < len(b) && !utf8.RuneStart(b[p])) {
		p--
	}
	s := commonSuffix(a[p:], b[p:])
	for s > 0 && !utf8.RuneStart(a[len(a)-s]) {
		s--
	}
	x, y := a[p:len(a)-s], b[p:len(b)-s]
	whole := []Run{{Range{int64(p), int64(len(x))}, Range{int64(p), int64(len(y))}}}
	if len(x)+len(y) == 0 {
		return nil
	}
	if len(x) == 0 || len(y) == 0 || len(x)+len(y) > maxChars || *budget <= 0 || !utf8.Valid(x) || !utf8.Valid(y) {
		if len(x)+len(y) > maxChars {
			return shift(align(x, y), int64(p), int64(p))
		}
		return whole
	}
	*budget--
	dmp := diffmatchpatch.New()
	dmp.DiffTimeout = 0
	// The clean-up joins changes that share a character or two by chance, for people's sake.
	diffs := dmp.DiffCleanupSemantic(dmp.DiffMainRunes([]rune(string(x)), []rune(string(y)), false))
	var out aligner
	i, j := 0, 0
	for _, d := range diffs {
		n := len(d.Text)
		switch d.Type {
		case diffmatchpatch.DiffDelete:
			out.emit(i, n, j, 0)
			i += n
		case diffmatchpatch.DiffInsert:
			out.emit(i, 0, j, n)
			j += n
		default:
			i, j = i+n, j+n
		}
	}
	// go-diff is not ours: what it says is believed only as far as it can be checked.
	if !sound(x, y, out.runs) {
		return whole
	}
	return shift(out.runs, int64(p), int64(p))
}

// lineKey is what a line of a manifest, properties or INI file gives a value to.
func lineKey(line string) string {
	line, _, _ = strings.Cut(line, "\n")
	line = strings.TrimLeft(line, " \t-\"'")
	i := strings.IndexAny(line, ":=\"' \t")
	if i <= 0 || i > 60 {
		return ""
	}
	key, rest := line[:i], strings.TrimLeft(line[i:], "\"' \t")
	if rest == "" || rest[0] != ':' && rest[0] != '=' {
		return ""
	}
	for _, c := range key {
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("._-", c) {
			return ""
		}
	}
	return key
}

// isText reports whether bytes read as UTF-8 text; the ends may cut a rune.
func isText(b []byte) bool {
	if bytes.IndexByte(b, 0) >= 0 {
		return false
	}
	for i := 0; i < utf8.UTFMax && len(b) > 0 && !utf8.RuneStart(b[0]); i++ {
		b = b[1:]
	}
	for len(b) > 0 {
		if b[0] < utf8.RuneSelf {
			if b[0] < ' ' && b[0] != '\n' && b[0] != '\t' && b[0] != '\r' && b[0] != '\f' && b[0] != '\x1b' && b[0] != '\b' || b[0] == 0x7f {
				return false
			}
			b = b[1:]
			continue
		}
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 {
			return len(b) < utf8.UTFMax && !utf8.FullRune(b)
		}
		b = b[n:]
	}
	return true
}

// isLatin reports whether bytes read as text of an 8-bit character set: mostly
// ASCII, no control characters.
func isLatin(b []byte) bool {
	high := 0
	for _, c := range b {
		switch {
		case c >= 0xa0:
			high++
		case c >= 0x7f, c < ' ' && c != '\n' && c != '\t' && c != '\r' && c != '\f':
			return false
		}
	}
	return len(b) > 0 && high*4 <= len(b)
}

// maxValue bounds a value of a finding; what is cut is still in the node's bytes.
const maxValue = 4096

// clip shortens a value to maxValue bytes, at a rune's border.
func clip(s string) string {
	// What was clipped before may be a little longer than the bound.
	if len(s) <= maxValue+40 {
		return s
	}
	cut := maxValue
	for cut > maxValue-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "… (" + strconv.Itoa(len(s)) + " bytes)"
}

// clipBytes is clip without a copy of all that is cut off.
func clipBytes(b []byte) string {
	if len(b) <= maxValue {
		return string(b)
	}
	cut := maxValue
	for cut > maxValue-utf8.UTFMax && !utf8.RuneStart(b[cut]) {
		cut--
	}
	return string(b[:cut]) + "… (" + strconv.Itoa(len(b)) + " bytes)"
}

// show writes bytes for people: as they are when they are text, quoted when they
// almost are, hexadecimal otherwise.
func show(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if isText(b) && utf8.Valid(b) {
		return clip(string(b))
	}
	const most = 64 // bytes in hexadecimal: two lines of a terminal
	if len(b) > most {
		return hexOf(b[:most]) + "… (" + strconv.Itoa(len(b)) + " bytes)"
	}
	return hexOf(b)
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for i, c := range b {
		if i > 0 {
			s.WriteByte(' ')
		}
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}
