package cause

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// moment is a date or time in a text.
type moment struct {
	start, end int // in the text
	form       int // index in forms; equal for both sides of one place
	at         time.Time
	zone       bool // the text names a zone
	weak       bool // a bare number, year or time of day: needs a known window
	grain      time.Duration
}

// form is one way of writing a moment.
type form struct {
	name    string
	pattern *regexp.Regexp
	layouts []string // tried in order on the tidied text
	weak    bool
	grain   time.Duration // what one step of the last digit means
	read    func(string) (time.Time, bool)
}

const (
	month   = `(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`
	longMon = `(?:January|February|March|April|May|June|July|August|September|October|November|December)`
	weekday = `(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)`
	clock   = `\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?[AP]M)?`
	zone    = `(?: ?(?:Z\b|UTC\b|GMT\b|CES?T\b|[ECMP][SD]T\b|IST\b|[+-]\d\d:?\d\d\b))?`
)

// forms are the ways of writing a moment, most telling first; where two begin
// at the same place the earlier one counts.
var forms = []form{
	{name: "PDF date", pattern: regexp.MustCompile(`D:\d{14}(?:Z|[+-]\d\d'\d\d'?)?`), layouts: []string{"D:20060102150405Z07'00'", "D:20060102150405Z07'00", "D:20060102150405"}, grain: time.Second},
	{name: "ISO 8601", pattern: regexp.MustCompile(`\b\d{4}[-/.]\d\d[-/.]\d\d(?:[T _]|, )` + clock + zone), grain: time.Second, layouts: zoned(
		"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02 03:04:05 PM", "2006-01-02 03:04 PM")},
	{name: "RFC 822", pattern: regexp.MustCompile(`\b(?:` + weekday + `[a-z]*,? )?\d{1,2}[ -]` + month + `[ -]\d{4},?(?: ` + clock + zone + `)?`), grain: time.Second, layouts: zoned(
		"2 Jan 2006 15:04:05", "2 Jan 2006 15:04", "2 Jan 2006")},
	{name: "ctime", pattern: regexp.MustCompile(`\b(?:` + weekday + ` )?` + month + ` {1,2}\d{1,2} ` + clock + `(?: [A-Z]{2,5}| [+-]\d{4})? \d{4}\b`), grain: time.Second, layouts: []string{
		"Jan 2 15:04:05 MST 2006", "Jan 2 15:04:05 -0700 2006", "Jan 2 15:04:05 2006", "Jan 2 15:04 2006", "Jan 2 03:04:05 PM MST 2006"}},
	{name: "C's __DATE__", pattern: regexp.MustCompile(`\b` + month + ` [ \d]\d,? \d{4}(?:,? ` + clock + zone + `)?`), grain: time.Second, layouts: zoned(
		"Jan 2 2006 15:04:05", "Jan 2 2006 15:04", "Jan 2 2006")},
	{name: "long date", pattern: regexp.MustCompile(`\b(?:\d{1,2}\.? ` + longMon + `,? \d{4}|` + longMon + ` \d{1,2},? \d{4}|` + longMon + `,? \d{4})\b(?:,? ` + clock + zone + `)?`), grain: 24 * time.Hour, layouts: zoned(
		"2 January 2006 15:04:05", "2 January 2006 15:04", "2 January 2006", "January 2 2006 15:04:05", "January 2 2006 15:04", "January 2 2006", "January 2006")},
	{name: "date", pattern: regexp.MustCompile(`\b\d{4}[-/.]\d\d[-/.]\d\d\b`), layouts: []string{"2006-01-02"}, grain: 24 * time.Hour},
	{name: "date, day first", pattern: regexp.MustCompile(`\b\d{1,2}[-/.]\d{1,2}[-/.]\d{4}\b(?:,? ` + clock + zone + `)?`), grain: 24 * time.Hour, layouts: zoned(
		"2-1-2006 15:04:05", "2-1-2006 15:04", "2-1-2006", "1-2-2006 15:04:05", "1-2-2006")},
	{name: "compact date", pattern: regexp.MustCompile(`\b(?:19|20)\d{6}(?:[T_.-]?\d{6}|[T_.-]\d{4})?Z?\b`), read: compact, grain: time.Second},
	{name: "time of day", pattern: regexp.MustCompile(`\b\d{1,2}:\d\d:\d\d(?:[.,]\d{1,9})?(?: [AP]M)?`), layouts: []string{"15:04:05", "03:04:05 PM"}, weak: true, grain: time.Second},
	{name: "seconds since 1970", pattern: regexp.MustCompile(`\b1\d{9}(?:\.\d{1,9})?\b`), read: since1970, weak: true, grain: time.Second},
	{name: "milliseconds since 1970", pattern: regexp.MustCompile(`\b1\d{12}\b`), read: since1970, weak: true, grain: time.Second},
	{name: "microseconds since 1970", pattern: regexp.MustCompile(`\b1\d{15}\b`), read: since1970, weak: true, grain: time.Second},
	{name: "nanoseconds since 1970", pattern: regexp.MustCompile(`\b1\d{18}\b`), read: since1970, weak: true, grain: time.Second},
	{name: "year", pattern: regexp.MustCompile(`\b(?:19[7-9]|20\d)\d\b`), layouts: []string{"2006"}, weak: true, grain: 366 * 24 * time.Hour},
}

// zoned adds the ways of naming a zone to layouts that have a clock.
func zoned(layouts ...string) []string {
	var out []string
	for _, l := range layouts {
		if strings.Contains(l, ":") {
			out = append(out, l+" -0700", l+" -07:00", l+" MST", l+"Z07:00", l+"Z0700", l+"MST")
		}
		out = append(out, l)
	}
	return out
}

func compact(s string) (time.Time, bool) {
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
	for _, l := range []string{"20060102150405", "200601021504", "20060102"} {
		if len(l) == len(digits) {
			t, err := time.Parse(l, digits)
			return t, err == nil
		}
	}
	return time.Time{}, false
}

func since1970(s string) (time.Time, bool) {
	whole, _, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	for range (len(whole) - 10) / 3 {
		n /= 1000
	}
	return time.Unix(n, 0).UTC(), true
}

var (
	daysName = regexp.MustCompile(`^` + weekday + `[a-z]*,? `)
	comma    = regexp.MustCompile(`(:\d\d),(\d)`)
	ymd      = regexp.MustCompile(`^(\d{4})[/.](\d\d)[/.](\d\d)`)
	dmy      = regexp.MustCompile(`^(\d{1,2})[/.](\d{1,2})[/.](\d{4})`)
	dayMonth = regexp.MustCompile(`^(\d{1,2})-(` + month + `)-(\d{4})`)
)

// tidy brings spellings together: separators, weekdays, double spaces.
func tidy(s string) string {
	s = daysName.ReplaceAllString(s, "")
	s = comma.ReplaceAllString(s, "$1.$2")
	s = ymd.ReplaceAllString(s, "$1-$2-$3")
	s = dmy.ReplaceAllString(s, "$1-$2-$3")
	s = dayMonth.ReplaceAllString(s, "$1 $2 $3")
	if len(s) > 10 && s[10] == 'T' {
		s = s[:10] + " " + s[11:]
	}
	s = strings.ReplaceAll(s, ", ", " ")
	s = strings.ReplaceAll(s, "_", " ")
	for strings.Contains(s, "  ") {
		s = strings.ReplaceAll(s, "  ", " ")
	}
	return strings.TrimRight(s, ", ")
}

func (f *form) parse(s string) (t time.Time, zone, ok bool) {
	if f.read != nil {
		t, ok = f.read(s)
		return t, false, ok
	}
	s = tidy(s)
	for _, l := range f.layouts {
		if t, err := time.Parse(l, s); err == nil {
			return t, strings.Contains(l, "-07") || strings.Contains(l, "Z07") || strings.Contains(l, "MST"), true
		}
	}
	return time.Time{}, false, false
}

// moments finds the dates and times in a text, not overlapping, in order.
func moments(text string) []moment {
	if !strings.ContainsAny(text, "0123456789") {
		return nil
	}
	taken := make([]bool, len(text))
	var out []moment
	for i := range forms {
		f := &forms[i]
		for _, m := range f.pattern.FindAllStringIndex(text, -1) {
			if anyOf(taken[m[0]:m[1]]) {
				continue
			}
			t, zone, ok := f.parse(text[m[0]:m[1]])
			if !ok {
				continue
			}
			for j := m[0]; j < m[1]; j++ {
				taken[j] = true
			}
			out = append(out, moment{start: m[0], end: m[1], form: i, at: t, zone: zone, weak: f.weak, grain: f.grain})
		}
	}
	return out
}

func anyOf(b []bool) bool {
	for _, x := range b {
		if x {
			return true
		}
	}
	return false
}

// slack is how far a written time may lie outside its build: 26 hours hold any
// zone (UTC-12 to UTC+14) that the text does not name.
const slack = 26 * time.Hour

// inside reports whether the moment lies within a build that ran from start to end.
func (m moment) inside(start, end time.Time) bool {
	if start.IsZero() {
		return false
	}
	if end.Before(start) {
		end = start
	}
	switch forms[m.form].name {
	case "time of day": // any day; within the zone's quarter hours
		day := 24 * time.Hour
		for at := start.Add(-time.Minute).Truncate(time.Minute); !at.After(end.Add(time.Minute)); at = at.Add(time.Minute) {
			d := (m.at.Sub(m.at.Truncate(day)) - at.Sub(at.Truncate(day))).Truncate(time.Minute) % (15 * time.Minute)
			if d.Abs() < 2*time.Minute {
				return true
			}
			if at.Sub(start) > day {
				return true
			}
		}
		return false
	case "year":
		return m.at.Year() >= start.Add(-slack).Year() && m.at.Year() <= end.Add(slack).Year()
	}
	pad := slack
	if m.grain > time.Hour {
		pad += m.grain
	}
	if forms[m.form].name == "long date" { // a month may stand without its day
		pad += 31 * 24 * time.Hour
	}
	return !m.at.Before(start.Add(-pad)) && !m.at.After(end.Add(pad))
}
