package deb

import (
	"strings"
	"testing"
)

// packages reads control paragraphs written as "Field=value; Field=value".
func packages(fields ...string) []*Package {
	var out []*Package
	for _, f := range fields {
		p := &Package{}
		for _, pair := range strings.Split(f, "; ") {
			name, value, _ := strings.Cut(pair, "=")
			p.Control = append(p.Control, Field{Name: name, Value: value})
		}
		out = append(out, p)
	}
	return out
}

func TestUnmet(t *testing.T) {
	for _, tc := range []struct {
		summary string
		pkgs    []*Package
		want    string
	}{
		{"all there", packages("Package=app; Depends=lib (>= 2), awk", "Package=lib; Version=2.1", "Package=mawk; Provides=awk"), ""},
		{"one missing", packages("Package=app; Depends=lib, gone | also-gone"), "app: lib; app: gone | also-gone"},
		{"too old", packages("Package=app; Pre-Depends=lib (>= 2)", "Package=lib; Version=1.9"), "app: lib (>= 2)"},
		{"one alternative is enough", packages("Package=app; Depends=gone | lib", "Package=lib"), ""},
		{"provided without a version", packages("Package=app; Depends=api (= 3)", "Package=lib; Provides=api"), "app: api (= 3)"},
		{"provided in the version", packages("Package=app; Depends=api (= 3)", "Package=lib; Provides=api (= 3)"), ""},
		{"of another architecture", packages("Package=app; Depends=lib:any", "Package=lib"), ""},
	} {
		t.Run(tc.summary, func(t *testing.T) {
			var got []string
			for _, n := range Unmet(tc.pkgs) {
				got = append(got, n.Package+": "+strings.Join(n.Needs, " | "))
			}
			if s := strings.Join(got, "; "); s != tc.want {
				t.Errorf("got %q, want %q", s, tc.want)
			}
		})
	}
}

func TestEssential(t *testing.T) {
	for _, tc := range []struct {
		summary string
		pkgs    []*Package
		want    string
	}{
		{"none", packages("Package=a"), ""},
		{"with dependencies of both kinds, and theirs", packages(
			"Package=sh; Essential=yes; Pre-Depends=libc (>= 2); Depends=data",
			"Package=libc; Depends=gcc-base", "Package=gcc-base", "Package=data", "Package=other; Depends=sh"), "data gcc-base libc sh"},
		{"through what is provided, every alternative", packages(
			"Package=dpkg; Essential=yes; Depends=awk | tar", "Package=mawk; Provides=awk", "Package=tar", "Package=gawk"), "dpkg mawk tar"},
		{"in a circle", packages("Package=aa; Essential=yes; Depends=bb", "Package=bb; Depends=aa"), "aa bb"},
		{"what is not in the set is passed over", packages("Package=aa; Essential=yes; Depends=gone"), "aa"},
	} {
		t.Run(tc.summary, func(t *testing.T) {
			var got []string
			for _, p := range Essential(tc.pkgs) {
				got = append(got, p.Name())
			}
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("got %q, want %q", s, tc.want)
			}
		})
	}
}

func TestPreDepended(t *testing.T) {
	pkg := func(name, preDepends, depends string, preinst bool) *Package {
		p := &Package{}
		p.Control = append(p.Control, Field{Name: "Package", Value: name}, Field{Name: "Pre-Depends", Value: preDepends}, Field{Name: "Depends", Value: depends})
		if preinst {
			p.ControlFiles = append(p.ControlFiles, ControlFile{Name: "preinst"})
		}
		return p
	}
	var got []string
	for _, p := range PreDepended([]*Package{
		pkg("server", "adduser, common", "perl", true), pkg("adduser", "", "passwd", false), pkg("common", "", "", false),
		pkg("passwd", "libpam", "", false), pkg("libpam", "", "", false), pkg("perl", "", "", false), pkg("tool", "perl", "", false),
	}) {
		got = append(got, p.Name())
	}
	if s, want := strings.Join(got, " "), "adduser common libpam passwd"; s != want {
		t.Errorf("got %q, want %q", s, want)
	}
}
