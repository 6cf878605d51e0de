package deb

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"quorate.dev/builder/tree"
)

// rootOf is a root of files written as lines: "f PATH TEXT", "d PATH", "l PATH TARGET".
// Lines that begin otherwise continue the file before.
func rootOf(t *testing.T, lines string) *tree.Tree {
	t.Helper()
	var entries []tree.Entry
	for line := range strings.Lines(lines) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		switch f[0] {
		case "d":
			entries = append(entries, tree.Entry{Path: f[1], Kind: tree.Dir, Mode: 0o2775, GID: 50})
		case "l":
			entries = append(entries, tree.Entry{Path: f[1], Kind: tree.Symlink, Mode: 0o777, Link: f[2]})
		case "f":
			entries = append(entries, tree.NewFile(f[1], 0o644, 0, []byte(strings.ReplaceAll(f[2], `\n`, "\n"))))
		}
	}
	root, err := tree.New(tree.WithParents(entries))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

const merged13 = "d usr\nd usr/bin\nd usr/lib\nl bin usr/bin\nl lib usr/lib\n"

// holder has one package that ships usr/share/thing and the folder of it.
const holder = merged13 +
	`f var/lib/dpkg/status Package: holder\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n` + "\n" +
	`f var/lib/dpkg/info/holder.list /.\n/usr\n/usr/share\n/usr/share/thing\n` + "\n" +
	"f usr/share/thing theirs\n"

func groundOf(t *testing.T, lines string) *Ground {
	t.Helper()
	g, err := NewGround(rootOf(t, lines))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// shownLaid writes what packages bring, one entry a line.
func shownLaid(l *Laid) string {
	var b strings.Builder
	for i, e := range l.Entries {
		fmt.Fprintf(&b, "%c %s of %s", e.Kind, e.Path, l.Packages[l.From[i]].Name())
		if e.Link != "" {
			b.WriteString(" → " + e.Link)
		}
		b.WriteString("; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestLay(t *testing.T) {
	for _, test := range []struct {
		summary string
		ground  string
		control string
		files   []file
		want    string // of shownLaid, or the error
	}{
		{"a new file, and folders that are there", holder, "Package: new\n",
			[]file{{Name: "./usr/"}, {Name: "./usr/share/"}, {Name: "./usr/share/new", Body: "mine"}}, "f usr/share/new of new"},
		{"through the root's links", holder + "d run\nl var/run /run\n", "Package: new\n",
			[]file{{Name: "./bin/"}, {Name: "./bin/new", Body: "x"}, {Name: "./var/run/"}, {Name: "./var/run/new", Body: "x"}}, "f run/new of new; f usr/bin/new of new"},
		{"a root whose /lib is a folder", "d lib\n" + strings.Replace(holder, "l lib usr/lib\n", "", 1), "Package: new\n",
			[]file{{Name: "./lib/new", Body: "x"}, {Name: "./bin/new", Body: "x"}}, "f lib/new of new; f usr/bin/new of new"},
		{"a root without the links", "f var/lib/dpkg/status.d/one Package: one\\nVersion: 1\\nArchitecture: all\\n\n", "Package: new\n",
			[]file{{Name: "./lib64/ld", Body: "x"}}, "l lib64 of new → usr/lib64; f usr/lib64/ld of new"},
		{"a file of nobody's", holder + "f usr/share/mine old\n", "Package: new\n",
			[]file{{Name: "./usr/share/mine", Body: "new"}}, "f usr/share/mine of new"},
		{"a file of another", holder, "Package: new\n",
			[]file{{Name: "./usr/share/thing", Body: "mine"}}, `package "new" ships "/usr/share/thing", which is of package "holder" (1) there, and does not replace it`},
		{"the same file of another", holder, "Package: new\n", // dpkg refuses that too
			[]file{{Name: "./usr/share/thing", Body: "theirs"}}, `package "new" ships "/usr/share/thing", which is of package "holder" (1) there, and does not replace it`},
		{"a file that it replaces", holder, "Package: new\nReplaces: holder (<< 2)\n",
			[]file{{Name: "./usr/share/thing", Body: "mine"}}, "f usr/share/thing of new"},
		{"a file that it would replace of an older one", holder, "Package: new\nReplaces: holder (<< 1)\n",
			[]file{{Name: "./usr/share/thing", Body: "mine"}}, `package "new" ships "/usr/share/thing", which is of package "holder" (1) there, and does not replace it`},
		{"a file that the other replaces", strings.Replace(holder, `Version: 1\n`, `Version: 1\nReplaces: new\n`, 1), "Package: new\n",
			[]file{{Name: "./usr/share/thing", Body: "mine"}}, ""},
		{"another architecture of the same package", strings.Replace(strings.Replace(holder, `Version: 1\n`, `Version: 1\nMulti-Arch: same\n`, 1), "info/holder.list", "info/holder:amd64.list", 1),
			"Package: holder\nArchitecture: i386\nMulti-Arch: same\n", []file{{Name: "./usr/share/thing", Body: "theirs"}}, ""},
		{"a file for a folder", holder + "d usr/share/dir\n", "Package: new\n",
			[]file{{Name: "./usr/share/dir", Body: "x"}}, `package "new" ships the file "/usr/share/dir", which is a folder there`},
		{"a link for a folder", holder + "d usr/share/dir\n", "Package: new\n", []file{{Name: "./usr/share/dir", Link: "elsewhere"}}, ""},
		{"a folder for a link to one", holder + "d opt\nl usr/share/dir /opt\n", "Package: new\n",
			[]file{{Name: "./usr/share/dir/"}, {Name: "./usr/share/dir/x", Body: "x"}}, "f opt/x of new"},
		{"a file that is diverted", holder + `f var/lib/dpkg/diversions /usr/bin/sh\n/usr/bin/sh.distrib\nother\n` + "\n", "Package: new\n",
			[]file{{Name: "./usr/bin/sh", Body: "x"}}, "f usr/bin/sh.distrib of new"},
		{"a file that it diverted itself", holder + `f var/lib/dpkg/diversions /usr/bin/sh\n/usr/bin/sh.distrib\nnew\n` + "\n", "Package: new\n",
			[]file{{Name: "./usr/bin/sh", Body: "x"}}, "f usr/bin/sh of new"},
		{"hostile diversion", holder + `f var/lib/dpkg/diversions /usr/bin/sh\n/../../etc/passwd\nother\n` + "\n", "Package: new\n",
			[]file{{Name: "./usr/bin/sh", Body: "x"}}, "f etc/passwd of new"},
		{"documentation that the root does not want", holder + `f etc/dpkg/dpkg.cfg.d/slim path-exclude=/usr/share/doc/*\n` + "\n", "Package: new\n",
			[]file{{Name: "./usr/share/doc/"}, {Name: "./usr/share/doc/new/"}, {Name: "./usr/share/doc/new/x", Body: "x"}, {Name: "./usr/x", Body: "x"}}, "d usr/share/doc of new; f usr/x of new"},
		{"hard links", holder, "Package: new\n",
			[]file{{Name: "./bin/b", Body: "x"}, {Name: "./bin/a", Type: '1', Link: "./bin/b"}}, "f usr/bin/a of new; h usr/bin/b of new → usr/bin/a"},
		{"owners by checksums", "f var/lib/dpkg/status.d/one Package: one\\nVersion: 1\\nArchitecture: all\\n\nf var/lib/dpkg/status.d/one.md5sums 0cc175b9c0f1b6a831c399e269772661  usr/x\\n\nf usr/x a\n", "Package: new\n",
			[]file{{Name: "./usr/x", Body: "b"}}, `package "new" ships "/usr/x", which is of package "one" (1) there, and does not replace it`},
	} {
		laid, err := groundOf(t, test.ground).Lay([]Source{source(made(t, test.control, test.files...))})
		got := fmt.Sprint(err)
		if err == nil {
			got = shownLaid(laid)
		}
		if got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

// What a package takes over is no longer in the other's list, and what it
// leaves to the other is not in its own.
func TestLayReplaces(t *testing.T) {
	taker := made(t, "Package: taker\nReplaces: holder\n", file{Name: "./usr/share/thing", Body: "mine"})
	g := groundOf(t, holder)
	laid, err := g.Lay([]Source{source(taker)})
	if err != nil {
		t.Fatal(err)
	}
	database, err := g.Database(laid, DatabaseOptions{State: Installed, Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := contents(database, "var/lib/dpkg/info/holder.list"), "/.\n/usr\n/usr/share\n"; got != want {
		t.Errorf("the holder's list is %q, expected %q", got, want)
	}
	if got, want := contents(database, "var/lib/dpkg/info/taker.list"), "/.\n/usr/share/thing\n"; got != want {
		t.Errorf("the taker's list is %q, expected %q", got, want)
	}
	g = groundOf(t, strings.Replace(holder, `Version: 1\n`, `Version: 1\nReplaces: taker\n`, 1))
	taker = made(t, "Package: taker\n", file{Name: "./usr/share/thing", Body: "mine"})
	if laid, err = g.Lay([]Source{source(taker)}); err != nil {
		t.Fatal(err)
	}
	if database, err = g.Database(laid, DatabaseOptions{State: Installed}); err != nil {
		t.Fatal(err)
	}
	if got, want := contents(database, "var/lib/dpkg/info/taker.list"), "/.\n"; got != want {
		t.Errorf("what is left to the holder: the list is %q, expected %q", got, want)
	}
}

func TestGroundDatabase(t *testing.T) {
	g := groundOf(t, holder+`f var/lib/dpkg/triggers/File /usr/share/man holder\n`+"\n"+`f var/lib/dpkg/triggers/ldconfig holder/noawait\n`+"\n")
	laid, err := g.Lay([]Source{source(decodedWith(t, "Package: aaa\nVersion: 2\nArchitecture: i386\n", "interest-noawait ldconfig\ninterest /usr/lib/aaa\n",
		file{Name: "./usr/lib/aaa/"}, file{Name: "./usr/lib/aaa/x", Body: "x"}, file{Name: "./usr/share/man/man1/"}, file{Name: "./usr/share/man/man1/a.1", Body: "x"}))})
	if err != nil {
		t.Fatal(err)
	}
	database, err := g.Database(laid, DatabaseOptions{State: Unpacked, Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"var/lib/dpkg/status": "Package: aaa\nStatus: install ok unpacked\nArchitecture: i386\nVersion: 2\n\n" +
			"Package: holder\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n",
		"var/lib/dpkg/triggers/File":     "/usr/share/man holder\n/usr/lib/aaa aaa\n",
		"var/lib/dpkg/triggers/ldconfig": "holder/noawait\naaa/noawait\n",
		"var/lib/dpkg/triggers/Unincorp": "/usr/lib/aaa -\n/usr/share/man -\n",
		"var/lib/dpkg/arch":              "amd64\ni386\n",
	} {
		if got := contents(database, path); got != want {
			t.Errorf("%s is\n%q, expected\n%q", path, got, want)
		}
	}
	if slices.ContainsFunc(database, func(e tree.Entry) bool { return e.Path == "var/lib/dpkg/info/holder.list" }) {
		t.Error("the list of a package that lost nothing is written")
	}
}

// decodedWith is made, with triggers.
func decodedWith(t *testing.T, control, triggers string, files ...file) *Package {
	t.Helper()
	p := made(t, control, files...)
	p.ControlFiles = append(p.ControlFiles, ControlFile{Name: "triggers", Mode: 0o644, Data: []byte(triggers)})
	return p
}

func TestGroundRefuses(t *testing.T) {
	status := func(text string) string {
		return "f var/lib/dpkg/status " + strings.ReplaceAll(text, "\n", `\n`) + "\n"
	}
	for _, test := range []struct{ summary, root, want string }{
		{"no database", "d usr\n", "it has no dpkg database (/var/lib/dpkg/status or /var/lib/dpkg/status.d), so nobody can tell which packages are in it"},
		{"half configured", status("Package: bash\nStatus: install ok half-configured\nVersion: 1\nArchitecture: all\n"), `its package "bash" is "install ok half-configured": whoever made the image did not finish the installation`},
		{"a status of two words", status("Package: bash\nStatus: install installed\nVersion: 1\nArchitecture: all\n"), `its package "bash" has the status "install installed", which is none of dpkg's`},
		{"no version", status("Package: bash\nStatus: install ok installed\nArchitecture: all\n"), `its dpkg database has a package "bash" "" for "all", which is none`},
		{"not a database", status("hello\n"), `its /var/lib/dpkg/status cannot be read: cannot parse dpkg status: line 1: "hello" is not a field`},
	} {
		_, err := NewGround(rootOf(t, test.root))
		if got := fmt.Sprint(err); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
	g := groundOf(t, status("Package: gone\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n\nPackage: kept\nStatus: hold ok installed\nVersion: 2\nArchitecture: all\n")+
		"f var/lib/dpkg/status.d/kept Package: kept\\nVersion: 2\\nArchitecture: all\\n\nf usr/lib/os-release VERSION_CODENAME=\"trixie\"\\n\n")
	if g.Version("gone") != "" || g.Version("kept") != "2" || len(g.Installed) != 1 || g.Release() != "trixie" || g.StatusD() || g.HasDpkg() {
		t.Errorf("got %q, release %q", g.Installed, g.Release())
	}
}

func TestClash(t *testing.T) {
	installed, err := ParseStatus([]byte("Package: mta\nVersion: 1\nArchitecture: amd64\nProvides: mail\nBreaks: old (<< 2)\n"))
	if err != nil {
		t.Fatal(err)
	}
	for control, want := range map[string]string{
		"Package: aa\n":                                      "",
		"Package: aa\nConflicts: mail\n":                     "aa 1 has Conflicts with mta 1",
		"Package: aa\nConflicts: mta (>> 1)\n":               "",
		"Package: old\nVersion: 1\n":                         "mta 1 has Breaks with old 1",
		"Package: old\nVersion: 2\n":                         "",
		"Package: aa\nBreaks: mta:i386\n":                    "",
		"Package: aa\nProvides: old (= 1)\nDescription: x\n": "mta 1 has Breaks with aa 1",
	} {
		if got := Clash([]*Package{made(t, control)}, installed); got != want {
			t.Errorf("%q: got %q, expected %q", control, got, want)
		}
	}
}

// Whatever a database says, laying a package over the root gives a tree or an error.
func FuzzGround(f *testing.F) {
	f.Add("Package: holder\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n", "/usr/share/thing\n", "/usr/bin/sh\n/usr/bin/sh.distrib\nother\n", slim)
	f.Add("Package: a\n", "/../..\n//\n/.\n", "/..\n/../..\n\n", "path-exclude=[")
	f.Fuzz(func(t *testing.T, status, list, diversions, config string) {
		root, err := tree.New(tree.WithParents([]tree.Entry{
			{Path: "bin", Kind: tree.Symlink, Link: "usr/bin"}, {Path: "loop", Kind: tree.Symlink, Link: "loop"},
			tree.NewFile("usr/share/thing", 0o644, 0, []byte("theirs")),
			tree.NewFile("var/lib/dpkg/status", 0o644, 0, []byte(status)), tree.NewFile("var/lib/dpkg/info/holder.list", 0o644, 0, []byte(list)),
			tree.NewFile("var/lib/dpkg/diversions", 0o644, 0, []byte(diversions)), tree.NewFile("etc/dpkg/dpkg.cfg", 0o644, 0, []byte(config)),
		}))
		if err != nil {
			t.Fatal(err)
		}
		g, err := NewGround(root)
		if err != nil {
			return
		}
		p := &Package{Control: Paragraph{{"Package", "new"}, {"Version", "1"}, {"Architecture", "all"}}, Entries: []Entry{
			{Entry: tree.NewFile("usr/bin/sh", 0o755, 0, []byte("x")), Shipped: "bin/sh"},
			{Entry: tree.NewFile("loop/x", 0o755, 0, []byte("x")), Shipped: "loop/x"},
			{Entry: tree.NewFile("usr/share/new", 0o755, 0, []byte("x")), Shipped: "usr/share/new"},
		}}
		laid, err := g.Lay([]Source{source(p)})
		if err != nil {
			return
		}
		database, err := g.Database(laid, DatabaseOptions{State: Unpacked, Architecture: "amd64"})
		if err != nil {
			return
		}
		if got := contents(database, "var/lib/dpkg/status"); !strings.Contains(got, "Package: new\nStatus: install ok unpacked\n") {
			t.Errorf("the package is not in the status file: %q", got)
		}
		_, _ = tree.Apply(root, slices.Concat(laid.Entries, database))
	})
}
