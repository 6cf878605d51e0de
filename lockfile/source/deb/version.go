package deb

import (
	"fmt"
	"strings"
)

// CompareVersions orders two Debian versions as dpkg does (deb-version(7)):
// negative when a is earlier than b, 0 when they are equal, positive when later.
//
// It is ours because the module for it stops at numbers of 63 bits, which
// versions made of dates and hashes pass, and compares with regular
// expressions; a test holds this one against dpkg itself.
func CompareVersions(a, b string) int {
	ae, au, ar := splitVersion(a)
	be, bu, br := splitVersion(b)
	if c := compareNumbers(ae, be); c != 0 {
		return c
	}
	if c := comparePart(au, bu); c != 0 {
		return c
	}
	return comparePart(ar, br)
}

// splitVersion returns epoch, upstream version and revision; a missing epoch
// or revision counts as "0".
func splitVersion(v string) (epoch, upstream, revision string) {
	epoch, revision = "0", "0"
	if e, rest, ok := strings.Cut(v, ":"); ok {
		epoch, v = e, rest
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		v, revision = v[:i], v[i+1:]
	}
	return epoch, v, revision
}

// comparePart compares alternately the longest run of non-digits and the
// longest run of digits.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		i, j := nonDigits(a), nonDigits(b)
		if c := compareText(a[:i], b[:j]); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
		i, j = digits(a), digits(b)
		if c := compareNumbers(a[:i], b[:j]); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
	}
	return 0
}

// compareText: "~" sorts before the end, letters before everything else.
func compareText(a, b string) int {
	for i := 0; i < len(a) || i < len(b); i++ {
		if c := weight(a, i) - weight(b, i); c != 0 {
			return c
		}
	}
	return 0
}

func weight(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case 'A' <= s[i] && s[i] <= 'Z', 'a' <= s[i] && s[i] <= 'z':
		return int(s[i])
	}
	return int(s[i]) + 256
}

// compareNumbers compares decimal numbers of any length; "" is 0.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func digits(s string) int {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

func nonDigits(s string) int {
	i := 0
	for i < len(s) && !isDigit(s[i]) {
		i++
	}
	return i
}

// checkVersion refuses what deb-version(7) does not allow.
func checkVersion(v string) error {
	epoch, upstream, revision := splitVersion(v)
	switch {
	case v == "":
		return fmt.Errorf("version is empty")
	case epoch == "" || digits(epoch) != len(epoch):
		return fmt.Errorf("version %q has an epoch that is not a number", v)
	case upstream == "":
		return fmt.Errorf("version %q has no upstream part", v)
	case revision == "":
		return fmt.Errorf("version %q ends in %q", v, "-")
	}
	for i := 0; i < len(v); i++ {
		if !versionByte(v[i]) {
			return fmt.Errorf("version %q holds the character %q", v, v[i])
		}
	}
	return nil
}

func versionByte(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte(".+-~:", c) >= 0
}
