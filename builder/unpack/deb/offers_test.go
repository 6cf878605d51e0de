package deb

import (
	"fmt"
	"strings"
	"testing"
)

func TestOffers(t *testing.T) {
	for _, tc := range []struct {
		summary string
		offers  string // "NAME[:ARCH] [VERSION] [provides …]", numbered from 0
		arch    string
		field   string
		want    string
	}{
		{"nothing", "lib", "amd64", "", "[]"},
		{"each group", "lib 1; awk; other", "amd64", "awk, lib (>= 1)", "[1 0]"},
		{"nobody", "lib 1", "amd64", "gone, lib (>> 1), lib", "[0]"},
		{"the first alternative that is there", "aa; bb; cc", "amd64", "gone | bb | aa", "[1]"},
		{"in a version that fits", "perl 5.36; libfoo-perl 2", "amd64", "perl (>= 5.40) | libfoo-perl", "[1]"},
		{"a name before what is provided", "mawk 1 provides awk; awk 1", "amd64", "awk", "[1]"},
		{"an alternative that is provided before the next", "postfix 3 provides mta; exim 4", "amd64", "mta | exim", "[0]"},
		{"the first who provides it", "gawk 1 provides sh, awk; mawk 1 provides awk", "amd64", "awk", "[0]"},
		{"provided without a version", "lib 9 provides api", "amd64", "api (>= 1), api", "[0]"},
		{"provided in a version", "lib 9 provides api (= 2); new 9 provides api (= 3)", "amd64", "api (>= 3)", "[1]"},
		{"of its own architecture", "libc:i386 1; libc:amd64 1", "amd64", "libc", "[1]"},
		{"of all architectures", "data:i386 1; data:all 1", "amd64", "data", "[1]"},
		{"of another one, when there is no other", "libc:i386 1", "amd64", "libc", "[0]"},
		{"of any, for what has none", "libc:amd64 1; libc:i386 1", "all", "libc", "[0]"},
		{"asked for by architecture", "libc:amd64 1; libc:i386 1", "amd64", "libc:i386, libc:s390x, libc:any", "[1 0]"},
		{"a version that is none", "lib what", "amd64", "lib (>= 1) | lib", "[0]"},
		{"a field that cannot be read", "lib 1", "amd64", "lib, ${shlibs:Depends}", "false"},
		{"what is provided cannot be read", "lib 1 provides ${x}", "amd64", "lib", "false [0]"},
	} {
		t.Run(tc.summary, func(t *testing.T) {
			var o Offers
			var out []string
			for i, text := range strings.Split(tc.offers, "; ") {
				text, provides, _ := strings.Cut(text, " provides ")
				name, version, _ := strings.Cut(text, " ")
				name, arch, _ := strings.Cut(name, ":")
				if !o.Add(i, name, arch, version, provides) {
					out = append(out, "false")
				}
			}
			if who, ok := o.Meet(tc.field, tc.arch); ok {
				out = append(out, fmt.Sprint(who))
			} else {
				out = append(out, "false")
			}
			if got := strings.Join(out, " "); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// However many packages have one name, asking for it takes no longer.
func TestOffersBounded(t *testing.T) {
	var o Offers
	for i := range 40_000 {
		o.Add(i, "lib", fmt.Sprint("a", i), "1", "api (= 1)")
	}
	field := strings.TrimSuffix(strings.Repeat("lib (>= 2), api (>= 2), lib, ", 20_000), ", ")
	if who, ok := o.Meet(field, "all"); !ok || len(who) != 20_000 {
		t.Errorf("%d, %v", len(who), ok)
	}
}

// What whoever makes an image writes into its database is read or refused, and
// answers name only who was added.
func FuzzOffers(f *testing.F) {
	f.Add("lib", "1", "api (= 1), sh", "lib (>= 1) | api, sh:any")
	f.Fuzz(func(t *testing.T, name, version, provides, field string) {
		var o Offers
		o.Add(7, name, "amd64", version, provides)
		who, ok := o.Meet(field, "all")
		if !ok && who != nil || len(who) > strings.Count(field, ",")+1 {
			t.Fatalf("%v, %v", who, ok)
		}
		for _, w := range who {
			if w != 7 {
				t.Fatalf("%d was not added", w)
			}
		}
	})
}
