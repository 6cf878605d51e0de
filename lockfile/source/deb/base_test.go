package deb

import (
	"fmt"
	"strings"
	"testing"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// indexOf is an index of packages written as control paragraphs.
func indexOf(t *testing.T, text string) *Index {
	t.Helper()
	ix := newIndex("bookworm", "amd64", nil, []*archive{{rel: &release{}}})
	n := 0
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		n++
		paragraph = fmt.Sprintf("%s\nFilename: pool/%d.deb\nSize: 1\nSHA256: %s\n", strings.TrimSpace(paragraph), n, digest.Of([]byte(paragraph)).Hex())
		if err := ParsePackages(strings.NewReader(paragraph), func(s Stanza) error { return ix.add(0, s) }); err != nil {
			t.Fatal(err)
		}
	}
	ix.finish()
	return ix
}

const baseArchive = `Package: app
Version: 2
Architecture: amd64
Depends: libone (>= 2), libtwo

Package: libone
Version: 2
Architecture: amd64
Depends: libtwo (>= 2)

Package: libtwo
Version: 2
Architecture: amd64

Package: devel
Version: 2
Architecture: amd64
Depends: libtwo (= 2)

Package: rival
Version: 1
Architecture: amd64
Conflicts: mail

Package: outdated
Version: 1
Architecture: amd64`

func installed(name, version, more string) string {
	return fmt.Sprintf("Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\n%s\n", name, version, more)
}

// What apt would change in an image is told by package: version there, version
// needed, and who needs it.
func TestBaseChanges(t *testing.T) {
	ix := indexOf(t, baseArchive)
	for _, test := range []struct {
		summary string
		status  string
		answer  string // names, newest versions
		want    string
	}{
		{"only additions", installed("libtwo", "2", ""), "app libone", ""},
		{"an upgrade, and one that it brings", installed("libone", "1", "") + installed("libtwo", "1", ""), "app libone libtwo",
			"libone: the image has 1, and 2 is needed: app depends on libone (>= 2); libtwo: the image has 1, and 2 is needed: libone depends on libtwo (>= 2)"},
		{"a newer one than the archive's", installed("libtwo", "3", ""), "devel libtwo", "libtwo: the image has 3, and 2 is needed: devel depends on libtwo (= 2)"},
		{"something that would go", installed("postfix", "1", "Provides: mail\n"), "rival", "postfix: the image has 1; rival conflicts with mail"},
		{"something that the image does not bear", installed("strict", "1", "Breaks: outdated (<< 2)\n"), "outdated", "strict: the image has 1; it breaks outdated (<< 2), and outdated 1 would be added"},
		{"no reason at all", installed("libtwo", "1", ""), "libtwo", "libtwo: the image has 1, and 2 is needed: apt would take it"},
	} {
		g, err := newGround(ix, &Base{Input: "os", Status: []byte(test.status)}, lockfile.SetImage)
		if err != nil {
			t.Fatal(err)
		}
		var members []int32
		for name := range strings.FieldsSeq(test.answer) {
			i, _ := ix.newest(name)
			members = append(members, i)
		}
		changes, err := g.changes(members)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range changes {
			got = append(got, c.String())
		}
		if got := strings.Join(got, "; "); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

// apt is shown an image as whole: what it lacks, it lacks on purpose.
func TestBaseStatus(t *testing.T) {
	g, err := newGround(indexOf(t, baseArchive), &Base{Input: "os", Status: []byte(
		installed("one", "1", "Multi-Arch: same\nDepends: two, debconf (>= 1) | gone\nPre-Depends: never\nEssential: yes\nDescription: words\n more\n") +
			installed("two", "1", "Breaks: one, other\nProvides: second (= 2)\n"))}, lockfile.SetImage)
	if err != nil {
		t.Fatal(err)
	}
	const want = "Package: one\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nMulti-Arch: same\nEssential: yes\nDepends: two\n\n" +
		"Package: two\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nBreaks: other\nProvides: second (= 2)\n\n"
	if string(g.status) != want {
		t.Errorf("got\n%swant\n%s", g.status, want)
	}
}

func TestBaseRefuses(t *testing.T) {
	ix := indexOf(t, baseArchive)
	for _, test := range []struct {
		summary string
		base    Base
		set     lockfile.SetRequest
		want    string
	}{
		{"another release", Base{Status: []byte(installed("one", "1", "")), Release: "trixie"}, lockfile.SetRequest{},
			`cannot add the packages of "image" to image "os" (amd64): it is a system of trixie, and the packages are of bookworm`},
		{"another architecture", Base{Status: []byte("Package: one\nArchitecture: arm64\nVersion: 1\n")}, lockfile.SetRequest{},
			`cannot add the packages of "image" to image "os" (amd64): its packages are of architecture arm64`},
		{"a package twice", Base{Status: []byte(installed("one", "1", "") + installed("one", "2", ""))}, lockfile.SetRequest{},
			`cannot add the packages of "image" to image "os" (amd64): its dpkg database cannot be read: package "one" is there twice`},
		{"a relation that is none", Base{Status: []byte(installed("one", "1", "Depends: two (about 1)\n"))}, lockfile.SetRequest{},
			`cannot add the packages of "image" to image "os" (amd64): its dpkg database cannot be read: :6: package "one", field Depends: relation "two (about 1)" has no comparison`},
		{"another version asked for", Base{Status: []byte(installed("one", "1", ""))}, lockfile.SetRequest{Packages: []string{"one=2"}},
			"cannot add the packages of \"image\" to image \"os\" (amd64): packages are only added to what an image has, and these would have to change in it\n\tone: the image has 1, and 2 is needed: it was asked for as one=2"},
		{"left out, and there", Base{Status: []byte(installed("one", "1", ""))}, lockfile.SetRequest{Packages: []string{"app"}, Without: []string{"one"}},
			`cannot add the packages of "image" to image "os" (amd64): "without" leaves out package "one", which the image has (1), and its layers are shipped as they are`},
		{"scripts, and no dpkg", Base{Status: []byte(installed("one", "1", ""))}, lockfile.SetRequest{Packages: []string{"app"}, Scripts: "dpkg"},
			`cannot add the packages of "image" to image "os" (amd64): it has no package dpkg, which runs the packages' maintainer scripts; write scripts: none, which only unpacks`},
		{"nothing to say against", Base{Status: []byte(installed("dpkg", "1", "") + installed("one", "1", ""))}, lockfile.SetRequest{Packages: []string{"one=1"}, Scripts: "dpkg"}, "<nil>"},
	} {
		test.set.Name, test.base.Input = lockfile.SetImage, "os"
		g, err := newGround(ix, &test.base, test.set.Name)
		if err == nil {
			_, _, err = g.meets(test.set)
		}
		if err == nil {
			err = g.runs(test.set)
		}
		if got := fmt.Sprint(err); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

// What was read of a database can be shown to apt, and is read again as it was.
func FuzzParseInstalled(f *testing.F) {
	f.Add(installed("one", "1", "Depends: two | three (>= 1)\nBreaks: four (<< 2)\nProvides: five (= 1)\n"))
	f.Add("Package: a\n\nPackage: a\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseInstalled([]byte(text))
		if err != nil || len(list) == 0 {
			return
		}
		ix := newIndex("bookworm", list[0].Architecture, nil, []*archive{{rel: &release{}}})
		g, err := newGround(ix, &Base{Input: "os", Status: []byte(text)}, lockfile.SetImage)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseInstalled(g.status)
		if err != nil || len(again) != len(list) {
			t.Fatalf("%d packages were read, and %d of what apt is shown: %v\n%s", len(list), len(again), err, g.status)
		}
		for i := range list {
			if again[i].Package != list[i].Package || again[i].Version != list[i].Version || again[i].Architecture != list[i].Architecture {
				t.Errorf("got %+v, expected %+v", again[i], list[i])
			}
		}
	})
}
