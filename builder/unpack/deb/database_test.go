package deb

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	debversion "github.com/knqyf263/go-deb-version"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/deb/debfile"
)

// made is a package made of a control paragraph's fields and files.
func made(t *testing.T, control string, files ...file) *Package {
	t.Helper()
	if !strings.Contains(control, "Version:") {
		control += "Version: 1\n"
	}
	if !strings.Contains(control, "Architecture:") {
		control += "Architecture: amd64\n"
	}
	p, _ := decode(t, debfile.Package{Control: control, Files: files}.Bytes())
	return p
}

func source(p *Package) Source {
	s := Source{Package: p}
	for _, e := range p.Entries {
		s.Entries = append(s.Entries, e.Entry)
	}
	return s
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		summary  string
		controls []string
		want     string // names in order, or the error
	}{
		{"by name", []string{"Package: cc\n", "Package: aa\n", "Package: bb\n"}, "aa bb cc"},
		{"base-passwd first", []string{"Package: aa\n", "Package: base-passwd\nPre-Depends: libc6\n", "Package: libc6\n"}, "libc6 base-passwd aa"},
		{"pre-depends", []string{"Package: aa\nPre-Depends: zz (>= 1), bb\n", "Package: bb\n", "Package: zz\n"}, "zz bb aa"},
		{"alternatives", []string{"Package: aa\nPre-Depends: gone | zz\n", "Package: zz\n"}, "zz aa"},
		{"provided", []string{"Package: awk-user\nPre-Depends: awk\n", "Package: mawk\nProvides: awk\n"}, "mawk awk-user"},
		{"not in the set", []string{"Package: aa\nPre-Depends: gone\n"}, "aa"},
		{"circle", []string{"Package: aa\nPre-Depends: bb\n", "Package: bb\nPre-Depends: cc\n", "Package: cc\nPre-Depends: bb\n"}, "packages pre-depend on each other: bb → cc → bb"},
		{"twice", []string{"Package: aa\n", "Package: aa\nVersion: 2\n"}, `package "aa" is there twice for "amd64" (1 and 2)`},
		{"two architectures", []string{"Package: aa\n", "Package: aa\nArchitecture: i386\n"}, "aa aa"},
	} {
		var pkgs []*Package
		for _, text := range c.controls {
			pkgs = append(pkgs, made(t, text))
		}
		ordered, err := Order(pkgs)
		var names []string
		for _, p := range ordered {
			names = append(names, p.Name())
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, expected %s", c.summary, got, c.want)
		}
	}
}

func TestMerge(t *testing.T) {
	usr := []file{{Name: "./usr/"}, {Name: "./usr/bin/"}}
	in := func(files ...file) []file { return append(slices.Clone(usr), files...) }
	for _, c := range []struct {
		summary string
		a, b    *Package
		want    string
	}{
		{"directories merge, the first one's mode stands",
			made(t, "Package: aa\n", file{Name: "./d/", Mode: 0o700}), made(t, "Package: bb\n", file{Name: "./d/"}, file{Name: "./d/f"}),
			"d d 0700\nf d/f 0644\n"},
		{"same file", made(t, "Package: aa\n", in(file{Name: "./usr/bin/x", Body: "x"})...), made(t, "Package: bb\n", in(file{Name: "./bin/x", Body: "x", ModTime: 9})...),
			"d usr 0755\nd usr/bin 0755\nf usr/bin/x 0644 aa\n"},
		{"other file", made(t, "Package: aa\n", file{Name: "./x", Body: "1"}), made(t, "Package: bb\n", file{Name: "./x", Body: "2"}),
			`packages "aa" and "bb" both ship "x": with different contents, and neither replaces the other`},
		{"other mode", made(t, "Package: aa\n", file{Name: "./x", Body: "1"}), made(t, "Package: bb\n", file{Name: "./x", Body: "1", Mode: 0o600}),
			`packages "aa" and "bb" both ship "x": with different contents, and neither replaces the other`},
		{"replaced by the second", made(t, "Package: aa\nVersion: 1\n", file{Name: "./x", Body: "1"}), made(t, "Package: bb\nReplaces: aa (<< 2)\n", file{Name: "./x", Body: "2"}),
			"f x 0644 bb\n"},
		{"replaced by the first", made(t, "Package: aa\nReplaces: bb\n", file{Name: "./x", Body: "1"}), made(t, "Package: bb\n", file{Name: "./x", Body: "2"}),
			"f x 0644 aa\n"},
		{"not in this version", made(t, "Package: aa\nVersion: 2\n", file{Name: "./x", Body: "1"}), made(t, "Package: bb\nReplaces: aa (<< 2)\n", file{Name: "./x", Body: "2"}),
			`packages "aa" and "bb" both ship "x": with different contents, and neither replaces the other`},
		{"file and directory", made(t, "Package: aa\n", file{Name: "./x/"}), made(t, "Package: bb\nReplaces: aa\n", file{Name: "./x", Body: "2"}),
			`packages "aa" and "bb" both ship "x": once as a directory, once as something else`},
		{"below another's link", made(t, "Package: aa\n", file{Name: "./d/"}, file{Name: "./l", Link: "/d"}), made(t, "Package: bb\n", file{Name: "./l/"}, file{Name: "./l/x", Body: "2"}),
			"d d 0755\nf d/x 0644 bb\nl l 0777\n"},
		{"links stay inside", made(t, "Package: aa\n", file{Name: "./l", Link: "../../../d"}), made(t, "Package: bb\n", file{Name: "./l/x", Body: "2"}),
			"f d/x 0644 bb\nl l 0777\n"},
		{"loop", made(t, "Package: aa\n", file{Name: "./l", Link: "m"}, file{Name: "./m", Link: "l"}), made(t, "Package: bb\n", file{Name: "./l/x", Body: "2"}),
			`package "bb" ships "l/x" below a loop of symbolic links`},
		{"same link", made(t, "Package: aa\n", file{Name: "./l", Link: "m"}), made(t, "Package: bb\n", file{Name: "./l", Link: "m"}), "l l 0777\n"},
		{"hard links sorted", made(t, "Package: aa\n", file{Name: "./z", Body: "1"}, file{Name: "./a", Type: '1', Link: "./z"}), made(t, "Package: bb\n"),
			"f a 0644 aa\nh z 0644 a\n"},
		{"hard link's file replaced", made(t, "Package: aa\n", file{Name: "./a", Body: "1"}, file{Name: "./m", Type: '1', Link: "./a"}, file{Name: "./z", Type: '1', Link: "./m"}),
			made(t, "Package: bb\nReplaces: aa\n", file{Name: "./a", Body: "2"}),
			"f a 0644 bb\nf m 0644 aa\nh z 0644 m\n"},
	} {
		merged, err := Merge([]Source{source(c.a), source(c.b)})
		var got strings.Builder
		for _, e := range merged {
			fmt.Fprintf(&got, "%c %s %04o", e.Kind, e.Path, e.Mode)
			if e.Kind == tree.Hardlink {
				got.WriteString(" " + e.Link)
			}
			if e.Kind == tree.File && e.Size > 0 {
				for _, p := range []*Package{c.a, c.b} {
					if slices.ContainsFunc(p.Entries, func(o Entry) bool { return o.Digest == e.Digest && o.ModTime == e.ModTime }) {
						got.WriteString(" " + p.Name())
						break
					}
				}
			}
			got.WriteByte('\n')
		}
		if err != nil {
			got.Reset()
			got.WriteString(err.Error())
		} else if _, err := tree.New(merged); err != nil {
			t.Errorf("%s: no tree: %v", c.summary, err)
		}
		if got.String() != c.want {
			t.Errorf("%s:\n%s\nexpected\n%s", c.summary, got.String(), c.want)
		}
	}
}

func TestReplacedLeavesList(t *testing.T) {
	a := made(t, "Package: aa\n", file{Name: "./bin/"}, file{Name: "./bin/x", Body: "1"}, file{Name: "./y"})
	b := made(t, "Package: bb\nReplaces: aa\n", file{Name: "./usr/bin/x", Body: "2"})
	replaced, err := Replaced([]Source{source(a), source(b)})
	if err != nil {
		t.Fatal(err)
	}
	db := Database([]*Package{a, b}, DatabaseOptions{Replaced: replaced})
	if got, want := contents(db, "var/lib/dpkg/info/aa.list"), "/.\n/bin\n/y\n"; got != want {
		t.Errorf("aa.list %q, expected %q", got, want)
	}
	if got, want := contents(db, "var/lib/dpkg/info/bb.list"), "/.\n/usr/bin/x\n"; got != want {
		t.Errorf("bb.list %q, expected %q", got, want)
	}
}

// contents returns the bytes of a path, "(none)" when it is not there.
func contents(entries []tree.Entry, path string) string {
	for _, e := range entries {
		if e.Path == path {
			b, _ := e.Content.(tree.Bytes)
			return string(b)
		}
	}
	return "(none)"
}

func TestDatabase(t *testing.T) {
	a, _ := decode(t, debfile.Package{
		Control: "Package: libz\nArchitecture: amd64\nVersion: 0:1.2-1\nMulti-Arch: same\nHomepage: https://example.org/\nDepends: libc6 (>=2.36),  foo|bar:any\nEssential: no\nPriority: optional\nDescription: short\n long\n",
		ControlFiles: []file{
			{Name: "./postinst", Mode: 0o755, Body: "#!/bin/sh\n"}, {Name: "./conffiles", Body: "/etc/z\n"},
			{Name: "./triggers", Body: "# comment\ninterest-noawait /usr/share/z\nactivate-noawait ldconfig\ninterest z-cache\n"},
		},
		Files: []file{{Name: "./etc/"}, {Name: "./etc/z", Body: "z"}},
	}.Bytes())
	b := made(t, "Package: aa\nArchitecture: i386\n")
	db := Database([]*Package{a, b}, DatabaseOptions{Architecture: "amd64"})
	for path, want := range map[string]string{
		"var/lib/dpkg/status": "Package: aa\nStatus: install ok unpacked\nArchitecture: i386\nVersion: 1\n\n" +
			"Package: libz\nStatus: install ok unpacked\nPriority: optional\nArchitecture: amd64\nMulti-Arch: same\nVersion: 1.2-1\n" +
			"Depends: libc6 (>= 2.36), foo | bar:any\nConffiles:\n /etc/z fbade9e36a3f36d3d676c1b808451dd7\nDescription: short\n long\nHomepage: https://example.org/\n\n",
		"var/lib/dpkg/info/format":              "1\n",
		"var/lib/dpkg/available":                "",
		"var/lib/dpkg/diversions":               "",
		"var/lib/dpkg/statoverride":             "",
		"var/lib/dpkg/arch":                     "amd64\ni386\n",
		"var/lib/dpkg/info/libz:amd64.list":     "/.\n/etc\n/etc/z\n",
		"var/lib/dpkg/info/libz:amd64.postinst": "#!/bin/sh\n",
		"var/lib/dpkg/info/aa.list":             "/.\n",
		"var/lib/dpkg/triggers/File":            "/usr/share/z libz:amd64/noawait\n",
		"var/lib/dpkg/triggers/z-cache":         "libz:amd64\n",
		"var/lib/dpkg/triggers/ldconfig":        "(none)",
		"var/lib/dpkg/lock":                     "(none)",
	} {
		if got := contents(db, path); got != want {
			t.Errorf("%s:\n%q\nexpected\n%q", path, got, want)
		}
	}
	if _, err := tree.New(db); err != nil {
		t.Errorf("no tree: %v", err)
	}
	d := StatusD(a)
	if got := contents(d, "var/lib/dpkg/status.d/libz"); !strings.HasPrefix(got, "Package: libz\nStatus: install ok installed\n") {
		t.Errorf("status.d %q", got)
	}
}

func TestFilterStatus(t *testing.T) {
	status := Status([]*Package{made(t, "Package: aa\n"), made(t, "Package: bb\nDescription: x\n .\n y\n"), made(t, "Package: bb\nArchitecture: i386\n")}, Installed, nil)
	kept, err := FilterStatus(status, func(name, arch string) bool { return name == "bb" && arch == "amd64" })
	if want := "Package: bb\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDescription: x\n .\n y\n\n"; err != nil || string(kept) != want {
		t.Errorf("%q, %v, expected %q", kept, err, want)
	}
	all, err := FilterStatus(status, func(string, string) bool { return true })
	if err != nil || string(all) != string(status) {
		t.Errorf("everything kept: %q, %v", all, err)
	}
	list, err := ParseStatus(status)
	if err != nil || len(list) != 3 || list[1].Get("Description") != "x\n .\n y" {
		t.Errorf("%q, %v", list, err)
	}
	for bad, want := range map[string]string{
		"Package: a":                "cannot parse dpkg status: last line is not ended",
		"\n\nStatus: x\n":           "cannot parse dpkg status: line 3: paragraph without a Package field",
		"Package: aa\n\n lost\n":    "cannot parse dpkg status: line 3: continuation line without a field",
		"Package: aa\nPackage: b\n": `cannot parse dpkg status: line 2: field "Package" is there twice`,
	} {
		if _, err := ParseStatus([]byte(bad)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, expected %s", bad, err, want)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte("Package: aa\nVersion: 1\nConffiles:\n /etc/x 0123\nDescription: x\n .\n y\n\nPackage: bb\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseStatus(b)
		if err != nil {
			return
		}
		var text []byte
		for _, p := range list {
			text = append(p.append(text), '\n')
		}
		again, err := ParseStatus(text)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(list) {
			t.Fatalf("%q is read again as %q (%v)", list, again, err)
		}
	})
}

// TestHolds asks go-deb-version the questions that Replaces brings.
func TestHolds(t *testing.T) {
	for _, c := range []struct {
		op, have, want string
		holds          bool
	}{
		{"<<", "1.0~rc1", "1.0", true}, {"<<", "1.0", "1.0", false}, {"<=", "1.0-1", "1.0-1", true}, {"=", "1:1", "1", false},
		{">=", "2.36-9+deb12u7", "2.36", true}, {">>", "1", "1", false}, {"", "anything", "", true}, {">=", "1", "", false},
	} {
		if got := (relation{op: c.op, version: c.want}).holds(c.have); got != c.holds {
			t.Errorf("%s %s %s: %v", c.have, c.op, c.want, got)
		}
	}
	if _, err := debversion.NewVersion(""); err == nil {
		t.Error("an empty version is compared")
	}
}
