package deb

import (
	"fmt"
	"testing"

	"quorate.dev/lockfile"
)

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		summary string
		text    string
		waived  []lockfile.Waiver
		want    string
	}{
		{summary: "a need met by name", text: "Package: aa\nDepends: bb\n\nPackage: bb"},
		{summary: "a need met by the second alternative", text: "Package: aa\nDepends: cc | bb (>= 1)\n\nPackage: bb"},
		{summary: "a need met by itself", text: "Package: aa\nDepends: vv\nProvides: vv"},
		{summary: "a need that is missing", text: "Package: aa\nDepends: bb, cc | dd\n\nPackage: bb",
			want: `packages do not fit together: "aa": Depends "cc | dd" is missing`},
		{summary: "a Pre-Depends of another version", text: "Package: aa\nPre-Depends: bb (>> 1)\n\nPackage: bb",
			want: `packages do not fit together: "aa": Pre-Depends "bb (>> 1)" is missing`},
		{summary: "a virtual need", text: "Package: aa\nDepends: vv\n\nPackage: bb\nProvides: vv"},
		{summary: "a versioned virtual need", text: "Package: aa\nDepends: vv (>= 2)\n\nPackage: bb\nProvides: vv (= 2.1)"},
		{summary: "a versioned need and a Provides without version", text: "Package: aa\nDepends: vv (>= 2)\n\nPackage: bb\nProvides: vv",
			want: `packages do not fit together: "aa": Depends "vv (>= 2)" is missing`},
		{summary: "a Conflicts", text: "Package: aa\nConflicts: bb\n\nPackage: bb",
			want: `packages do not fit together: "aa": Conflicts "bb", and "bb" is there`},
		{summary: "a Conflicts with other versions", text: "Package: aa\nConflicts: bb (<< 1)\n\nPackage: bb"},
		{summary: "a Conflicts with what it provides itself", text: "Package: aa\nConflicts: mta\nProvides: mta"},
		{summary: "a Conflicts with what another provides", text: "Package: aa\nConflicts: mta\nProvides: mta\n\nPackage: bb\nProvides: mta",
			want: `packages do not fit together: "aa": Conflicts "mta", and "bb" is there`},
		{summary: "a Breaks by version", text: "Package: aa\nBreaks: bb (<= 1)\n\nPackage: bb",
			want: `packages do not fit together: "aa": Breaks "bb (<= 1)", and "bb" is there`},
		{summary: "a Breaks by provided version", text: "Package: aa\nBreaks: vv (<< 3)\n\nPackage: bb\nProvides: vv (= 2)",
			want: `packages do not fit together: "aa": Breaks "vv (<< 3)", and "bb" is there`},
		{summary: "two versions of a name", text: "Package: aa\n\nPackage: aa\nVersion: 2",
			want: `packages do not fit together: "aa": chosen as 1, and as 2`},
		{summary: "two architectures of a library", text: "Package: aa\nMulti-Arch: same\n\nPackage: aa\nMulti-Arch: same\nArchitecture: i386"},
		{summary: "two architectures of a program", text: "Package: aa\n\nPackage: aa\nArchitecture: i386",
			want: `packages do not fit together: "aa": chosen for amd64, and for i386`},
		{summary: "two versions of a library's architectures", text: "Package: aa\nMulti-Arch: same\n\nPackage: aa\nVersion: 2\nMulti-Arch: same\nArchitecture: i386",
			want: `packages do not fit together: "aa": chosen as 1, and as 2`},
		{summary: "a need of another architecture", text: "Package: aa\nArchitecture: i386\nDepends: bb\n\nPackage: bb",
			want: `packages do not fit together: "aa": Depends "bb" is missing`},
		{summary: "a need that any architecture meets", text: "Package: aa\nArchitecture: i386\nDepends: bb\n\nPackage: bb\nMulti-Arch: foreign"},
		{summary: "a need of any architecture, allowed", text: "Package: aa\nArchitecture: i386\nDepends: bb:any\n\nPackage: bb\nMulti-Arch: allowed"},
		{summary: "a need of any architecture, not allowed", text: "Package: aa\nArchitecture: i386\nDepends: bb:any\n\nPackage: bb",
			want: `packages do not fit together: "aa": Depends "bb:any" is missing`},
		{summary: "a need of a named architecture", text: "Package: aa\nDepends: bb:i386\n\nPackage: bb\nArchitecture: i386"},
		{summary: "all counts as native", text: "Package: aa\nArchitecture: all\nDepends: bb\n\nPackage: bb"},
		{summary: "a Conflicts over architectures", text: "Package: aa\nConflicts: bb\n\nPackage: bb\nArchitecture: i386",
			want: `packages do not fit together: "aa": Conflicts "bb", and "bb" is there`},
		{summary: "a waived need", text: "Package: aa\nDepends: bb (>= 1)\n\nPackage: bb\nX-Absent: yes",
			waived: []lockfile.Waiver{{Package: "aa", Needs: "bb"}}},
		{summary: "another need than the waived", text: "Package: aa\nDepends: bb, cc\n\nPackage: bb\nX-Absent: yes\n\nPackage: cc\nX-Absent: yes",
			waived: []lockfile.Waiver{{Package: "aa", Needs: "bb"}},
			want:   `packages do not fit together: "aa": Depends "cc" is missing`},
		{summary: "a waiver of another package", text: "Package: aa\nDepends: bb\n\nPackage: bb\nX-Absent: yes",
			waived: []lockfile.Waiver{{Package: "dd", Needs: "bb"}},
			want:   `packages do not fit together: "aa": Depends "bb" is missing`},
		{summary: "many problems", text: "Package: aa\nDepends: b1, b2, b3, b4, b5, b6, b7",
			want: `packages do not fit together: "aa": Depends "b1" is missing; "aa": Depends "b2" is missing; "aa": Depends "b3" is missing; "aa": Depends "b4" is missing; "aa": Depends "b5" is missing and 2 more`},
		{summary: "a field that cannot be read", text: "Package: aa\nDepends: ?",
			want: `: package "aa", field Depends: relation "?" does not name a package`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			ix := testIndex(t, "amd64", test.text)
			var pkgs []lockfile.Package
			for i, s := range ix.stanzas {
				if (s.Package != "bb" && s.Package != "cc") || len(test.waived) == 0 {
					pkgs = append(pkgs, ix.pin(int32(i)))
				}
			}
			got := ""
			if err := Check(pkgs, ix, test.waived); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestCheckOfUnknownPackage(t *testing.T) {
	ix := testIndex(t, "amd64", "Package: aa")
	err := Check([]lockfile.Package{{Name: "aa", Version: "2", Arch: "amd64"}}, ix, nil)
	if want := `packages do not fit together: "aa": version 2 is asked for, the index does not have it`; fmt.Sprint(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
