package deb

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ascending versions, each later than those before it: from Debian's archive
// and from the corners of deb-version(7).
var ascending = []string{
	"0~~", "0~", "0", "0.0~git20200101.abc", "0.0~git20200102.0", "0.1-1", "0.1-1+b1", "0.1-1.1", "0.1a", "0.1b", "0.1+b1",
	"0.9-99999999999999999999999", "0.9-100000000000000000000000", "1~rc1-1", "1~rc1-1+deb12u1", "1-1", "1a", "1+b", "1.0-1", "1.0-1+deb12u1",
	"1.0-1+deb12u2", "1.0-1+deb12u10", "1.0.0", "1.00.1", "1.1-0ubuntu1", "1.1-1", "1.10", "2.36-9+deb12u10", "2.40-2",
	"3.0.22-1~deb12u2", "20220101", "1:0", "1:0.5", "1:1.0-1", "2:0~", "2:1", "10:0",
}

func TestCompareVersionsIsAscending(t *testing.T) {
	for i, a := range ascending {
		for j, b := range ascending {
			got := CompareVersions(a, b)
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("CompareVersions(%q, %q) = %d, expected the order of the list", a, b, got)
			}
		}
	}
}

func TestEqualVersions(t *testing.T) {
	for _, p := range [][2]string{{"1", "1-0"}, {"0:1", "1"}, {"1.01", "1.1"}, {"1.0~", "1.00~"}, {"00:1-00", "1"}} {
		if c := CompareVersions(p[0], p[1]); c != 0 {
			t.Errorf("CompareVersions(%q, %q) = %d, expected 0", p[0], p[1], c)
		}
	}
}

var someVersion = rapid.Custom(func(t *rapid.T) string {
	v := rapid.StringMatching(`([0-9]{1,2}:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-c+.~]{1,4})?`).Draw(t, "version")
	return v
})

// dpkg itself is the judge: several hundred random pairs in one shell.
func TestCompareVersionsAgainstDpkg(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Logf("not held against dpkg: %v", err)
		return
	}
	var pairs [][2]string
	for i := range 400 {
		pairs = append(pairs, [2]string{someVersion.Example(2 * i), someVersion.Example(2*i + 1)})
	}
	for i := 1; i < len(ascending); i++ {
		pairs = append(pairs, [2]string{ascending[i-1], ascending[i]})
	}
	var script strings.Builder
	for _, p := range pairs {
		fmt.Fprintf(&script, "if dpkg --compare-versions '%s' lt '%s'; then echo -1; elif dpkg --compare-versions '%[1]s' eq '%[2]s'; then echo 0; else echo 1; fi\n", p[0], p[1])
	}
	cmd := exec.Command("sh")
	cmd.Stdin = strings.NewReader(script.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := strings.Fields(string(out))
	if len(answers) != len(pairs) {
		t.Fatalf("dpkg gave %d answers to %d questions", len(answers), len(pairs))
	}
	for i, p := range pairs {
		if got := fmt.Sprint(sign(CompareVersions(p[0], p[1]))); got != answers[i] {
			t.Errorf("CompareVersions(%q, %q) = %s, dpkg says %s", p[0], p[1], got, answers[i])
		}
	}
}

func sign(n int) int { return min(1, max(-1, n)) }

func TestCompareVersionsIsAnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(someVersion, 3, 3).Draw(t, "versions")
		a, b := list[0], list[1]
		if sign(CompareVersions(a, b)) != -sign(CompareVersions(b, a)) {
			t.Fatalf("%q and %q have no order", a, b)
		}
		slices.SortFunc(list, CompareVersions)
		if CompareVersions(list[0], list[2]) > 0 {
			t.Fatalf("%q: not transitive", list)
		}
	})
}

func TestCheckVersion(t *testing.T) {
	for v, want := range map[string]string{
		"":      `version is empty`,
		":1":    `version ":1" has an epoch that is not a number`,
		"a:1":   `version "a:1" has an epoch that is not a number`,
		"1:":    `version "1:" has no upstream part`,
		"-1":    `version "-1" has no upstream part`,
		"1-":    `version "1-" ends in "-"`,
		"1/2":   `version "1/2" holds the character '/'`,
		"1 2":   `version "1 2" holds the character ' '`,
		"1_2":   `version "1_2" holds the character '_'`,
		"1:2-3": "",
	} {
		got := ""
		if err := checkVersion(v); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("checkVersion(%q): got %q, expected %q", v, got, want)
		}
	}
}
