package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/builder/sbom"
	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

// inRoot reads the databases of a root of these files. A path whose text begins
// with "-> " is a link, with "= " another name of a file.
func inRoot(t *testing.T, files map[string]string, more ...tree.Entry) (*basePackages, error) {
	t.Helper()
	entries := more
	for name, text := range files {
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			entries = append(entries, tree.Entry{Path: name, Kind: tree.Symlink, Mode: 0o777, Link: to})
		} else if to, ok := strings.CutPrefix(text, "= "); ok {
			entries = append(entries, tree.Entry{Path: name, Kind: tree.Hardlink, Link: to})
		} else {
			entries = append(entries, tree.NewFile(name, 0o644, 0, []byte(text)))
		}
	}
	root, err := newTree(entries)
	if err != nil {
		t.Fatal(err)
	}
	s := newBasePackages(t.TempDir())
	t.Cleanup(s.owners.close)
	s.key, s.tree, s.left = "image/os", root, maxBaseFiles
	err = s.read(t.Context())
	return &s, err
}

// told is what became of it: parts, files with their packages, and notes.
func told(t *testing.T, s *basePackages) []string {
	t.Helper()
	var out []string
	for _, p := range s.parts {
		out = append(out, strings.Join(append([]string{p.Key, p.Version, p.URI}, p.Needs...), " "))
	}
	slices.Sort(out)
	for record, err := range s.owners.all() {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, "  "+strings.ReplaceAll(string(record), "\x00", " of "))
	}
	return append(out, s.notes...)
}

func paragraph(name, version string) string {
	return fmt.Sprintf("Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\n\n", name, version)
}

func TestBasePackages(t *testing.T) {
	huge := tree.Entry{Path: "var/lib/dpkg/status", Kind: tree.File, Size: maxBaseFile + 1, Digest: digest.Of([]byte("x"))}
	for _, test := range []struct {
		summary string
		files   map[string]string
		more    []tree.Entry
		want    []string
	}{
		{
			"nothing", nil, nil,
			[]string{"packages in it are not listed: it has no database of dpkg or apk"},
		},
		{
			"a database without packages is one", map[string]string{"var/lib/dpkg/status": ""}, nil,
			nil,
		},
		{
			"files are found through the links of a merged /usr", map[string]string{
				"var/lib/dpkg/status": paragraph("libc", "1"), "var/lib/dpkg/info/libc:amd64.list": "/.\n/lib\n/lib/libc.so\n/lib/libc.so.6\n/lib/other\n/lib/gone\n",
				"lib": "-> usr/lib", "usr/lib/libc.so": "x", "usr/lib/libc.so.6": "-> libc.so", "usr/lib/other": "= usr/lib/libc.so",
			}, nil,
			[]string{"image/os/deb/libc:amd64 1 pkg:deb/libc@1?arch=amd64", "  usr/lib/libc.so of image/os/deb/libc:amd64", "  usr/lib/other of image/os/deb/libc:amd64"},
		},
		{
			"the database lies elsewhere", map[string]string{
				"var/lib/dpkg": "-> ../../usr/lib/dpkg", "usr/lib/dpkg/status": "-> status-now", "usr/lib/dpkg/status-now": paragraph("a", "1"),
				"usr/lib/dpkg/status.d/b": "Package: b\nVersion: 2\n", "etc/os-release": "-> ../usr/lib/os-release", "usr/lib/os-release": "ID=Debian\nVERSION_CODENAME=sid\n",
			}, nil,
			[]string{"image/os/deb/a:amd64 1 pkg:deb/debian/a@1?arch=amd64&distro=sid", "image/os/deb/b: 2 pkg:deb/debian/b@2?distro=sid"},
		},
		{
			"in two forms", map[string]string{
				"var/lib/dpkg/status":     paragraph("a", "1") + paragraph("b", "1") + paragraph("b", "1"),
				"var/lib/dpkg/status.d/a": paragraph("a", "1"), "var/lib/dpkg/status.d/b": paragraph("b", "2"),
			}, nil,
			[]string{
				"image/os/deb/a:amd64 1 pkg:deb/a@1?arch=amd64", "image/os/deb/b:amd64 1 pkg:deb/b@1?arch=amd64",
				`left out of what its database of dpkg lists: "b" "2" in /var/lib/dpkg/status.d/b, of which it lists "1" as well`,
			},
		},
		{
			"dpkg and apk, one broken", map[string]string{
				"var/lib/dpkg/status": "what\n\nwhat\n", "usr/lib/apk/db/installed": "P:a\nV:1\nF:bin\nR:a\n\nP:b\nF:bin\nR:b\n", "bin/a": "a", "bin/b": "b", "etc/os-release": "ID=wolfi\n",
			}, nil,
			[]string{
				"image/os/apk/a: 1 pkg:apk/wolfi/a@1", "  bin/a of image/os/apk/a:",
				`left out of what its database of dpkg lists: an entry of /var/lib/dpkg/status, line 1: "what" is no field; and 1 more`,
				`left out of what its database of apk lists: an entry of /usr/lib/apk/db/installed, line 6: "b" has no version (V)`,
			},
		},
		{
			"files of what is there twice are the first one's", map[string]string{"lib/apk/db/installed": "P:a\nV:1\n\nP:a\nV:2\nF:\nR:x\n", "x": "x"}, nil,
			[]string{"image/os/apk/a: 1 pkg:apk/a@1", `left out of what its database of apk lists: "a" "2" in /lib/apk/db/installed, of which it lists "1" as well`},
		},
		{
			"too large", map[string]string{"var/lib/dpkg/status.d/a": paragraph("a", "1")}, []tree.Entry{huge},
			[]string{"image/os/deb/a:amd64 1 pkg:deb/a@1?arch=amd64", "left out of what its database of dpkg lists: /var/lib/dpkg/status has 67108865 bytes, and at most 67108864 are read"},
		},
		{
			"a release that is too large", map[string]string{"lib/apk/db/installed": "", "usr/lib/os-release": "ID=x"}, []tree.Entry{{Path: "etc/os-release", Kind: tree.File, Size: 2 << 20, Digest: huge.Digest}},
			[]string{"not read: /etc/os-release has 2097152 bytes, and at most 1048576 are read"},
		},
		{
			"who needs whom, of dpkg's", map[string]string{
				"var/lib/dpkg/status": "Pre-Depends: cc\nDepends: aa, gone | dd (>= 2), virtual, bb | ee\n" + paragraph("aa", "1") + "Depends: aa\n" + paragraph("bb", "1") +
					"Depends: aa:any (= 1)\nProvides: virtual\n" + paragraph("cc", "1") + paragraph("dd", "2"),
				"var/lib/dpkg/status.d/ee": "Package: ee\nVersion: 1\nDepends:\n dd (>> 2) | cc,\n virtual\n",
			}, nil,
			[]string{
				"image/os/deb/aa:amd64 1 pkg:deb/aa@1?arch=amd64 image/os/deb/bb:amd64 image/os/deb/cc:amd64 image/os/deb/dd:amd64",
				"image/os/deb/bb:amd64 1 pkg:deb/bb@1?arch=amd64 image/os/deb/aa:amd64",
				"image/os/deb/cc:amd64 1 pkg:deb/cc@1?arch=amd64 image/os/deb/aa:amd64",
				"image/os/deb/dd:amd64 2 pkg:deb/dd@2?arch=amd64",
				"image/os/deb/ee: 1 pkg:deb/ee@1 image/os/deb/cc:amd64",
			},
		},
		{
			"who needs whom, of apk's", map[string]string{
				"lib/apk/db/installed": "P:a\nV:1\nD:so:x.so.1 cmd:sh !d b<2 gone\np:cmd:sh\n\nP:b\nV:1\np:so:x.so.1=1 c\n\nP:c\nV:1\nD:c a\n\nP:d\nV:1\nD:c\n",
			}, nil,
			[]string{
				"image/os/apk/a: 1 pkg:apk/a@1 image/os/apk/b:", "image/os/apk/b: 1 pkg:apk/b@1",
				"image/os/apk/c: 1 pkg:apk/c@1 image/os/apk/a:", "image/os/apk/d: 1 pkg:apk/d@1 image/os/apk/c:",
			},
		},
		{
			"apk's and dpkg's are strangers", map[string]string{"var/lib/dpkg/status": paragraph("bb", "1"), "lib/apk/db/installed": "P:a\nV:1\nD:bb\n"}, nil,
			[]string{"image/os/apk/a: 1 pkg:apk/a@1", "image/os/deb/bb:amd64 1 pkg:deb/bb@1?arch=amd64"},
		},
		{
			"needs that cannot be read", map[string]string{"var/lib/dpkg/status": "Depends: bb, ${misc:Depends}\n" + paragraph("aa", "1") + "Depends: aa\n" + paragraph("bb", "1")}, nil,
			[]string{
				"image/os/deb/aa:amd64 1 pkg:deb/aa@1?arch=amd64", "image/os/deb/bb:amd64 1 pkg:deb/bb@1?arch=amd64 image/os/deb/aa:amd64",
				`left out of what its database of dpkg lists: how "aa" "1" depends on others: what it depends on is "bb, ${misc:Depends}"`,
			},
		},
		{
			"offers that cannot be read, and needs that are said twice", map[string]string{
				"var/lib/dpkg/status": "Provides: v (>\n" + paragraph("aa", "1") + "Depends: aa\nDepends: aa\n" + paragraph("bb", "1"),
			}, nil,
			[]string{
				"image/os/deb/aa:amd64 1 pkg:deb/aa@1?arch=amd64", "image/os/deb/bb:amd64 1 pkg:deb/bb@1?arch=amd64",
				`left out of what its database of dpkg lists: how "aa" "1" depends on others: what it provides is "v (>"; and 1 more`,
			},
		},
		{
			"a database that is a folder", map[string]string{"var/lib/dpkg/status/x": "x"}, nil,
			[]string{"packages in it are not listed: it has no database of dpkg or apk"},
		},
		{
			"a link in a circle", map[string]string{"var/lib/dpkg/status": "-> status"}, nil,
			[]string{"packages in it are not listed: it has no database of dpkg or apk"},
		},
		{
			"rpm's, through a link", map[string]string{"var/lib/rpm": "-> ../../usr/lib/sysimage/rpm", "usr/lib/sysimage/rpm/rpmdb.sqlite": "x"}, nil,
			[]string{"packages of rpm in it are not listed: Quorate does not read /var/lib/rpm, which is binary"},
		},
		{
			"an empty folder of rpm's", map[string]string{"lib/apk/db/installed": "P:a\nV:1\n"}, []tree.Entry{{Path: "var/lib/rpm", Kind: tree.Dir, Mode: 0o755}},
			[]string{"image/os/apk/a: 1 pkg:apk/a@1"},
		},
	} {
		t.Run(test.summary, func(t *testing.T) {
			s, err := inRoot(t, test.files, test.more...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, told(t, s)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is not locked bytes is no word of the image's, and an error.
func TestBasePackagesDamaged(t *testing.T) {
	damaged := tree.NewFile("var/lib/dpkg/status", 0o644, 0, []byte(paragraph("a", "1")))
	damaged.Digest = digest.Of([]byte("what was locked"))
	_, err := inRoot(t, nil, damaged)
	var content *tree.ContentError
	if !errors.As(err, &content) || content.Path != damaged.Path {
		t.Errorf("got %v", err)
	}
}

// However often an image has one large file read, an end comes.
func TestBasePackagesBounded(t *testing.T) {
	var status strings.Builder
	for i := range 10 {
		fmt.Fprintf(&status, "Package: a\nStatus: install ok installed\nArchitecture: a%d\nVersion: 1\n\n", i)
	}
	root, err := newTree([]tree.Entry{
		tree.NewFile("var/lib/dpkg/info/a.list", 0o644, 0, []byte(strings.Repeat("/x\n", 1000))),
		tree.NewFile("var/lib/dpkg/status", 0o644, 0, []byte(status.String())),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newBasePackages(t.TempDir())
	s.key, s.tree, s.left = "image/os", root, int64(status.Len())+3500
	if err := s.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"left out of what its database of dpkg lists: /var/lib/dpkg/info/a.list has 3000 bytes, and at most 500 are read; and 8 more"}
	if diff := cmp.Diff(want, s.notes); diff != "" || len(s.parts) != 10 {
		t.Errorf("%d parts\n%s", len(s.parts), diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.read(ctx); err != context.Canceled {
		t.Errorf("given up: %v", err)
	}
}

// More relations than any image has are not read, and nothing is without a word.
func TestBaseNeedsTooMany(t *testing.T) {
	var status strings.Builder
	long := "Depends: " + strings.Repeat("p0, ", 25_000) + "p0\n"
	for i := range maxBaseRelations/len(long) + 3 {
		status.WriteString(long + paragraph(fmt.Sprintf("p%d", i), "1"))
	}
	s, err := inRoot(t, map[string]string{"var/lib/dpkg/status": status.String()})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`left out of what its database of dpkg lists: how "p41" "1" depends on others: at most 4194304 bytes of relations are read; and 2 more`}
	if diff := cmp.Diff(want, s.notes); diff != "" {
		t.Error(diff)
	}
	for i, p := range s.parts {
		var want []string
		if i > 0 && i < 41 {
			want = []string{"image/os/deb/p0:amd64"}
		}
		if !slices.Equal(p.Needs, want) {
			t.Errorf("%s needs %v", p.Name, p.Needs)
		}
	}
}

// More packages than any image has are not listed, and nothing is without a word.
func TestBasePackagesTooMany(t *testing.T) {
	var status strings.Builder
	for i := range maxBasePackages + 2 {
		status.WriteString(paragraph(fmt.Sprintf("p%d", i), "1"))
	}
	s, err := inRoot(t, map[string]string{"var/lib/dpkg/status": status.String()})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`left out of what its database of dpkg lists: "p30000" in /var/lib/dpkg/status: at most 30000 packages are listed; and 1 more`}
	if diff := cmp.Diff(want, s.notes); diff != "" || len(s.parts) != maxBasePackages {
		t.Errorf("%d parts\n%s", len(s.parts), diff)
	}
}

// A copyright file that is too large says nothing, and fails nothing.
func TestBaseCopyright(t *testing.T) {
	large := tree.Entry{Path: "usr/share/doc/a/copyright", Kind: tree.File, Size: maxBaseCopyrights + 1, Digest: digest.Of([]byte("x"))}
	s, err := inRoot(t, map[string]string{
		"var/lib/dpkg/status":       paragraph("a", "1") + paragraph("b", "1") + paragraph("c", "1"),
		"usr/share/doc/b/copyright": "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: Expat\n",
		"usr/share/doc/c":           "-> b",
	}, large)
	if err != nil {
		t.Fatal(err)
	}
	var got []sbom.Licence
	for _, p := range s.parts {
		got = append(got, p.Licence)
	}
	mit := sbom.Licence{Expression: "MIT", Comment: "declared in usr/share/doc/b/copyright"}
	want := []sbom.Licence{{Comment: "usr/share/doc/a/copyright is not read: copyright files have more than 67108864 bytes together"}, mit, mit}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
