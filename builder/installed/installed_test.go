package installed

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile"
)

// notes is a Visitor that writes down what it is told.
type notes []string

func (n *notes) Package(p Package) error {
	s := fmt.Sprintf("%s %s %s %s of %s %s", p.Kind, p.Name, p.Version, p.Arch, p.Source, p.SourceVersion)
	for _, more := range []string{p.Maintainer, p.Homepage, p.Summary, p.Licence, p.State} {
		if more != "" {
			s += " | " + more
		}
	}
	for word, more := range map[string]string{" needs: ": p.Needs, " provides: ": p.Provides, " unread: ": p.Unread} { // no test has two
		if more != "" {
			s += word + more
		}
	}
	*n = append(*n, s)
	return nil
}

func (n *notes) File(name string) error { *n = append(*n, "  "+name); return nil }

func (n *notes) Bad(line int, problem string) error {
	*n = append(*n, fmt.Sprintf("line %d: %s", line, problem))
	return nil
}

const ok = "Status: install ok installed\n"

func TestDpkg(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, test := range []struct {
		summary string
		form    Form
		text    string
		want    []string
	}{
		{"nothing", StatusFile, "", nil},
		{"empty lines", StatusFile, "\n\n \n", nil},
		{
			"a package", StatusFile,
			"Package: bash\n" + ok + "Maintainer: Ann Other <ann@example.org>\nArchitecture: amd64\nVersion: 5.2-1+b1\nSource: bash-src (5.2-1)\nDescription: GNU shell\n for all\n .\n of us\nHomepage: https://example.org\n",
			[]string{"deb bash 5.2-1+b1 amd64 of bash-src 5.2-1 | Ann Other <ann@example.org> | https://example.org | GNU shell"},
		},
		{"fields in another case, ended as on Windows", StatusFile, "PACKAGE: a\r\nstatus: install ok installed\r\nVERSION: 1\r\n\r\n", []string{"deb a 1  of a 1"}},
		{"a source of the same version", StatusFile, "Package: a\n" + ok + "Version: 1\nSource: b", []string{"deb a 1  of b 1"}},
		{"held", StatusFile, "Package: a\nStatus: hold ok installed\nVersion: 1\n", []string{"deb a 1  of a 1"}},
		{"not done", StatusFile, "Package: a\nStatus: install ok triggers-pending\nVersion: 1\n", []string{"deb a 1  of a 1 | triggers-pending"}},
		{"gone", StatusFile, "Package: a\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: b\nStatus: unknown ok not-installed\n", nil},
		{"a state that dpkg has not", StatusFile, "Package: a\nStatus: install ok well\nVersion: 1\n", []string{`line 1: the status of "a" is "install ok well", which is none of dpkg's`}},
		{"no status", StatusFile, "Package: a\nVersion: 1\n", []string{`line 1: the status of "a" is "", which is none of dpkg's`}},
		{"no status, and none needed", StatusD, "Package: a\nVersion: 1\n", []string{"deb a 1  of a 1"}},
		{"a status all the same", StatusD, "Package: a\nVersion: 1\nStatus: deinstall ok config-files\n", nil},
		{"no name", StatusFile, ok + "Version: 1\n", []string{"line 1: it has no Package"}},
		{"no version", StatusFile, "Package: a\n" + ok, []string{`line 1: "a" has no Version`}},
		{"no fields at all", StatusFile, "\nELF\x00\x01\n", []string{`line 2: "ELF\x00\x01" is no field`}},
		{"the middle of a field", StatusFile, " more\nPackage: a\n", []string{"line 1: it begins in the middle of a field"}},
		{"a field twice", StatusFile, "Package: a\nPackage: b\n" + ok + "Version: 1\n", []string{`line 1: it has the field "package" twice`}},
		{
			"what is broken is left out, and no more", StatusFile, "Package: a\n" + ok + "Version: 1\n\nwhat\n\n\nPackage: b\n" + ok + "Version: 2\n",
			[]string{"deb a 1  of a 1", `line 5: "what" is no field`, "deb b 2  of b 2"},
		},
		{"a name without end", StatusFile, "Package: " + long + "\n" + ok + "Version: 1\n", []string{`line 1: its field "package" has more than 131072 bytes`}},
		{"a list without end that nobody reads", StatusFile, "Package: a\nReplaces: " + long + long + "\n" + ok + "Version: 1\n", []string{"deb a 1  of a 1"}},
		{"what it needs", StatusFile, "Package: a\n" + ok + "Version: 1\nDepends: b | c, d (>= 2)\nPre-Depends: e\n", []string{"deb a 1  of a 1 needs: e, b | c, d (>= 2)"}},
		{"in several lines", StatusD, "Package: a\nVersion: 1\nDepends:\n b,\n\tc\nRecommends: d,\n e\n", []string{"deb a 1  of a 1 needs: b, c"}},
		{"what it provides", StatusFile, "Package: a\n" + ok + "Version: 1\nProvides: b (= 2), c\n", []string{"deb a 1  of a 1 provides: b (= 2), c"}},
		{"needs without end", StatusFile, "Package: a\nDepends: " + long + long + "\n" + ok + "Version: 1\n", []string{`deb a 1  of a 1 unread: its field "depends" has more than 131072 bytes`}},
		{"needs without end in many lines", StatusD, "Package: a\nDepends: b\n" + strings.Repeat(" "+long[:1000]+"\n", 200) + "Version: 1\n", []string{`deb a 1  of a 1 unread: its field "depends" has more than 131072 bytes`}},
		{"needs that are said twice", StatusFile, "Package: a\nDepends: b\nDepends: c\n" + ok + "Version: 1\n", []string{`deb a 1  of a 1 unread: it has the field "depends" twice`}},
		{"a name of any bytes", StatusFile, "Package: ../\x1b\xff\"\n" + ok + "Version: /\n", []string{"deb ../\x1b\xff\" /  of ../\x1b\xff\" /"}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			var got notes
			if err := Dpkg(strings.NewReader(test.text), test.form, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, []string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestApk(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, test := range []struct {
		summary, text string
		want          []string
	}{
		{"nothing", "", nil},
		{
			"a package", "C:Q1=\nP:musl\nV:1.2-r0\nA:x86_64\nT:the library\nU:https://example.org\nL:MIT\no:libc\nm:Ann Other <ann@example.org>\nF:\nR:top\nF:lib\nM:0:0:755\nR:ld.so\na:0:0:755\nZ:Q1=\nR:libc.so\n",
			[]string{"apk musl 1.2-r0 x86_64 of libc 1.2-r0 | Ann Other <ann@example.org> | https://example.org | the library | MIT", "  top", "  lib/ld.so", "  lib/libc.so"},
		},
		{"what it needs", "P:a\nV:1\nD:so:libc.so.1 b>=2 !c\n", []string{"apk a 1  of a 1 needs: so:libc.so.1 b>=2 !c"}},
		{"what it provides", "P:a\nV:1\np:so:libc.so.1=1 cmd:a=1\n", []string{"apk a 1  of a 1 provides: so:libc.so.1=1 cmd:a=1"}},
		{"needs without end", "P:a\nD:" + long + "\nV:1\n", []string{`apk a 1  of a 1 unread: its field "D" has more than 131072 bytes`}},
		{"two", "P:a\nV:1\nF:x\n\nP:b\nV:2\n", []string{"apk a 1  of a 1", "apk b 2  of b 2"}},
		{"a folder is one package's", "P:a\nV:1\nF:x\n\nP:b\nV:2\nF:\nR:y\n", []string{"apk a 1  of a 1", "apk b 2  of b 2", "  y"}},
		{"a file before any folder", "P:a\nV:1\nR:y\n", []string{"apk a 1  of a 1"}},
		{"no name", "V:1\nF:x\nR:y\n", []string{"line 1: it has no name (P)"}},
		{"no version", "P:a\nF:x\nR:y\n\nP:b\nV:2", []string{`line 1: "a" has no version (V)`, "apk b 2  of b 2"}},
		{"a name behind the files", "V:1\nF:x\nR:y\nP:a\n", []string{"line 1: it has no name (P)"}},
		{"no fields", "P:a\nwhat\nV:1\n", []string{`line 1: "what" is no field`}},
		{"a field twice", "P:a\nP:b\nV:1\n", []string{`line 1: it has the field "P" twice`}},
		{"a name without end", "P:" + long + "\nV:1\n", []string{`line 1: its field "P" has more than 131072 bytes`}},
		{"a folder without end", "P:a\nV:1\nF:x\nR:y\nF:" + long + "\nR:z\n", []string{"apk a 1  of a 1", "  x/y"}},
		{"out of the root", "P:a\nV:1\nF:../../etc\nR:../passwd\n", []string{"apk a 1  of a 1", "  passwd"}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			var got notes
			if err := Apk(strings.NewReader(test.text), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, []string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestApkNames(t *testing.T) {
	got := slices.Collect(ApkNames("musl so:libc.musl-x86_64.so.1=1  b>=2 c~1.2 d><Q1x e@edge !f /bin/sh pc:g<3 =1"))
	if diff := cmp.Diff([]string{"musl", "so:libc.musl-x86_64.so.1", "b", "c", "d", "e", "/bin/sh", "pc:g"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLists(t *testing.T) {
	var got notes
	if err := List(strings.NewReader("/.\n/usr\n/usr/bin/x\n\n/"+strings.Repeat("y", maxLine)+"\n//usr/../../etc\n/last"), got.File); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(notes{"  usr", "  usr/bin/x", "  etc", "  last"}, got); diff != "" {
		t.Error(diff)
	}
	got = nil
	if err := Checksums(strings.NewReader("d41d8  usr/bin/a b\nwhat\nd41d8  ./usr/c\nd41d8  \n"), got.File); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(notes{"  usr/bin/a b", "  usr/c"}, got); diff != "" {
		t.Error(diff)
	}
	diversions := ParseDiversions([]byte("/bin/sh\n/bin/sh.real\ndash\n/x\n/y\n:\n/half\n"))
	if diff := cmp.Diff(map[string]Diversion{"bin/sh": {"bin/sh.real", "dash"}, "x": {"y", ":"}}, diversions); diff != "" {
		t.Error(diff)
	}
}

func TestParseDistribution(t *testing.T) {
	for text, want := range map[string]lockfile.Distribution{
		"ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n": {ID: "debian", Release: "bookworm"},
		"NAME='Alpine Linux'\nID='alpine'\nVERSION_ID=3.20.3":       {ID: "alpine", Release: "3.20.3"},
		"#ID=no\n\nID=\nwhat\nVERSION_CODENAME=\"\n":                {Release: `"`},
		"": {},
	} {
		if got := ParseDistribution([]byte(text)); got != want {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}

// stubborn is a Visitor that wants no more.
type stubborn struct{ notes }

var errEnough = errors.New("enough")

func (stubborn) Package(Package) error { return errEnough }
func (stubborn) Bad(int, string) error { return errEnough }

// What goes wrong while reading is the caller's to judge, and so is when to end.
func TestReadingEnds(t *testing.T) {
	disk := errors.New("the disk is gone")
	for name, read := range map[string]func(io.Reader, Visitor) error{
		"dpkg": func(r io.Reader, v Visitor) error { return Dpkg(r, StatusFile, v) },
		"apk":  Apk,
		"list": func(r io.Reader, v Visitor) error { return List(r, v.File) },
	} {
		if err := read(iotest.ErrReader(disk), &notes{}); err != disk {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"P:a\nV:1\n", "what\n"} {
		if err := Apk(strings.NewReader(text), &stubborn{}); err != errEnough {
			t.Errorf("apk %q: %v", text, err)
		}
	}
	for _, text := range []string{"Package: a\n" + ok + "Version: 1\n", "what\n", "Package: a\nStatus: x\n"} {
		if err := Dpkg(strings.NewReader(text), StatusFile, &stubborn{}); err != errEnough {
			t.Errorf("dpkg %q: %v", text, err)
		}
	}
}

// strict is a Visitor that holds what it is told against what is promised.
type strict struct {
	t       *testing.T
	packed  bool // a package was told of, and files may follow
	entries int
}

func (s *strict) Package(p Package) error {
	s.packed = true
	s.entries++
	if p.Name == "" || p.Version == "" || p.Source == "" || p.SourceVersion == "" {
		s.t.Fatalf("half a package: %+v", p)
	}
	if p.Unread != "" && p.Needs+p.Provides != "" {
		s.t.Fatalf("half of what it needs: %+v", p)
	}
	for _, v := range []string{p.Name, p.Version, p.Arch, p.Maintainer, p.Homepage, p.Summary, p.Licence, p.Provides, p.Unread} {
		if strings.ContainsRune(v, '\n') || strings.TrimSpace(v) != v || len(v) > maxLine {
			s.t.Fatalf("bad value %q", v)
		}
	}
	return nil
}

func (s *strict) File(name string) error {
	if !s.packed {
		s.t.Fatalf("%q is nobody's", name)
	}
	return cleanName(s.t, name)
}

func (s *strict) Bad(line int, problem string) error {
	s.packed = false
	s.entries++
	if line < 1 || problem == "" || len(problem) > 400 {
		s.t.Fatalf("line %d: %q", line, problem)
	}
	return nil
}

func cleanName(t *testing.T, name string) error {
	t.Helper()
	if name == "" || name != clean(name) || strings.HasPrefix(name, "../") || name == ".." {
		t.Fatalf("%q is no clean path", name)
	}
	return nil
}

func FuzzDpkg(f *testing.F) {
	f.Add("Package: a\n"+ok+"Version: 1\nDescription: x\n y\n\nwhat\n", false)
	f.Add("Package: a\nSource:  (\nVersion: 1\n", true)
	f.Add("Package: a\nVersion: 1\nDepends:\n b,\n c\nPre-Depends: d\nDepends: e\n", true)
	f.Fuzz(func(t *testing.T, text string, bare bool) {
		form := StatusFile
		if bare {
			form = StatusD
		}
		v := &strict{t: t}
		if err := Dpkg(strings.NewReader(text), form, v); err != nil {
			t.Fatal(err)
		}
		if most := strings.Count(text, "\n") + 1; v.entries > most {
			t.Fatalf("%d entries of %d lines", v.entries, most)
		}
	})
}

func FuzzApk(f *testing.F) {
	f.Add("P:a\nV:1\nF:x\nR:y\n\nV:1\n")
	f.Add("P:a\nF:\nR:../../x\r\n\n\nP:b\nV:2\nR:z")
	f.Fuzz(func(t *testing.T, text string) {
		if err := Apk(strings.NewReader(text), &strict{t: t}); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzLists(f *testing.F) {
	f.Add("/.\n/usr/bin/x\n")
	f.Add("d41d8cd9  usr/x\nID=\"debian\"\n/a\n/b\n:\n")
	f.Fuzz(func(t *testing.T, text string) {
		each := func(name string) error { return cleanName(t, name) }
		if err := errors.Join(List(strings.NewReader(text), each), Checksums(strings.NewReader(text), each)); err != nil {
			t.Fatal(err)
		}
		for from, d := range ParseDiversions([]byte(text)) {
			if from != clean(from) || d.To != clean(d.To) {
				t.Fatalf("%q goes to %q", from, d.To)
			}
		}
		ParseDistribution([]byte(text))
	})
}
