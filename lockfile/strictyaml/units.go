package strictyaml

import (
	"math"
	"regexp"
	"strconv"
	"time"
)

const sizePattern = `^[1-9][0-9]*(KiB|MiB|GiB|TiB)$`

var sizeExp = regexp.MustCompile(sizePattern)

// Size is a number of bytes like "512MiB". Powers of ten are not offered, so
// that nobody has to wonder which are meant.
func Size() Shape[int64] {
	return Convert(Text(), parseSize).With(func(c *Schema) { c.Pattern = sizePattern })
}

func parseSize(s string) (int64, error) {
	if !sizeExp.MatchString(s) {
		return 0, Refuse("size %q is not a whole number with KiB, MiB, GiB or TiB", s)
	}
	digits := len(s) - len("KiB")
	n, err := strconv.ParseInt(s[:digits], 10, 64)
	shift := map[byte]int{'K': 10, 'M': 20, 'G': 30, 'T': 40}[s[digits]]
	if err != nil || n > math.MaxInt64>>shift {
		return 0, Refuse("size %q is larger than any machine", s)
	}
	return n << shift, nil
}

// Duration is a time like "10m", within limits that least and most write for people.
func Duration(least, most time.Duration, leastText, mostText string) Shape[time.Duration] {
	return Convert(Text(), func(s string) (time.Duration, error) {
		t, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return 0, Refuse("time %q is not a duration like 90s, 10m or 1h30m", s)
		case t < least || t > most:
			return 0, Refuse("time %q is not from "+leastText+" to "+mostText, s)
		}
		return t, nil
	})
}
