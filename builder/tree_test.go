package builder

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/deb"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
)

// parseList reads entries as tests write them: "d path", "f path text",
// "l path -> target", "h path -> first", "w path".
func parseList(t *testing.T, text string) []tree.Entry {
	t.Helper()
	var out []tree.Entry
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch f[0] {
		case "d":
			out = append(out, tree.Entry{Path: f[1], Kind: tree.Dir, Mode: 0o755})
		case "f":
			out = append(out, tree.NewFile(f[1], 0o644, 7, []byte(strings.Join(f[2:], " "))))
		case "l":
			out = append(out, tree.Entry{Path: f[1], Kind: tree.Symlink, Mode: 0o777, Link: f[3], ModTime: 7})
		case "h":
			out = append(out, tree.Entry{Path: f[1], Kind: tree.Hardlink, Link: f[3]})
		case "w":
			out = append(out, tree.Entry{Path: f[1], Kind: tree.Whiteout})
		default:
			t.Fatalf("bad line %q", line)
		}
	}
	return out
}

// show writes entries as parseList reads them, sorted.
func show(t *testing.T, entries []tree.Entry) string {
	t.Helper()
	sorted := append([]tree.Entry(nil), entries...)
	tree.SortEntries(sorted)
	var b strings.Builder
	for _, e := range sorted {
		switch e.Kind {
		case tree.File:
			text, err := readAll(e)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString(strings.TrimRight("f "+e.Path+" "+string(text), " \n") + "\n")
		case tree.Symlink, tree.Hardlink:
			b.WriteString(string(e.Kind) + " " + e.Path + " -> " + e.Link + "\n")
		default:
			b.WriteString(string(e.Kind) + " " + e.Path + "\n")
		}
	}
	return b.String()
}

func trimmed(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if s := strings.TrimSpace(line); s != "" {
			b.WriteString(s + "\n")
		}
	}
	return b.String()
}

func TestOverlay(t *testing.T) {
	lower := `
		d etc
		f etc/a one
		f etc/b two
		f etc/c three
		h etc/d -> etc/c
		h etc/e -> etc/c
		d old
		f old/x x
		d var
		f var/log log`
	for _, tc := range []struct{ summary, upper, opaque, want string }{{
		summary: "nothing changed",
		upper:   "d etc\nf etc/a one",
		want:    lower,
	}, {
		summary: "a file changed, one removed, one added",
		upper:   "d etc\nf etc/a ONE\nw etc/b\nf etc/new n",
		want:    "d etc\nf etc/a ONE\nf etc/c three\nh etc/d -> etc/c\nh etc/e -> etc/c\nf etc/new n\nd old\nf old/x x\nd var\nf var/log log",
	}, {
		summary: "the first name of hard links changed: the others keep the old file",
		upper:   "d etc\nf etc/c THREE",
		want:    "d etc\nf etc/a one\nf etc/b two\nf etc/c THREE\nf etc/d three\nh etc/e -> etc/d\nd old\nf old/x x\nd var\nf var/log log",
	}, {
		summary: "a folder removed, with all below it",
		upper:   "w old",
		want:    "d etc\nf etc/a one\nf etc/b two\nf etc/c three\nh etc/d -> etc/c\nh etc/e -> etc/c\nd var\nf var/log log",
	}, {
		summary: "a folder removed and made again hides what was in it",
		upper:   "d old\nf old/y y",
		opaque:  "old",
		want:    "d etc\nf etc/a one\nf etc/b two\nf etc/c three\nh etc/d -> etc/c\nh etc/e -> etc/c\nd old\nf old/y y\nd var\nf var/log log",
	}, {
		summary: "a folder replaced by a link",
		upper:   "l old -> var",
		want:    "d etc\nf etc/a one\nf etc/b two\nf etc/c three\nh etc/d -> etc/c\nh etc/e -> etc/c\nl old -> var\nd var\nf var/log log",
	}} {
		t.Run(tc.summary, func(t *testing.T) {
			below, err := tree.New(parseList(t, lower))
			if err != nil {
				t.Fatal(err)
			}
			s := &scanned{entries: parseList(t, tc.upper)}
			if tc.opaque != "" {
				s.opaque = []string{tc.opaque}
			}
			got, err := s.overlay(below)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(trimmed(tc.want), show(t, got.Entries())); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestPlace(t *testing.T) {
	base := "l bin -> usr/bin\nd etc\nf etc/motd hello\nd usr\nd usr/bin\nf usr/bin/sh shell"
	for _, tc := range []struct{ summary, over, want string }{{
		summary: "through the usr-merge link",
		over:    "d bin\nf bin/tool t",
		want:    "l bin -> usr/bin\nd etc\nf etc/motd hello\nd usr\nd usr/bin\nf usr/bin/sh shell\nf usr/bin/tool t",
	}, {
		summary: "over an existing file",
		over:    "f etc/motd bye",
		want:    "l bin -> usr/bin\nd etc\nf etc/motd bye\nd usr\nd usr/bin\nf usr/bin/sh shell",
	}, {
		summary: "a file in place of a folder takes what was in it away",
		over:    "f usr/bin text",
		want:    "l bin -> usr/bin\nd etc\nf etc/motd hello\nd usr\nf usr/bin text",
	}, {
		summary: "hard links move along",
		over:    "d bin\nf bin/a x\nh bin/b -> bin/a",
		want:    "l bin -> usr/bin\nd etc\nf etc/motd hello\nd usr\nd usr/bin\nf usr/bin/a x\nh usr/bin/b -> usr/bin/a\nf usr/bin/sh shell",
	}} {
		t.Run(tc.summary, func(t *testing.T) {
			got := place(parseList(t, base), parseList(t, tc.over))
			if d := cmp.Diff(trimmed(tc.want), show(t, got)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestCopiedTree(t *testing.T) {
	source := "d usr\nd usr/bin\nf usr/bin/a x\nh usr/bin/b -> usr/bin/a\nd usr/share\nf usr/share/doc text"
	for _, tc := range []struct{ summary, path, to, want, err string }{
		{summary: "everything", path: "/", to: "/", want: source},
		{summary: "a folder's contents", path: "/usr/bin", to: "/opt/x", want: "d opt/x\nf opt/x/a x\nh opt/x/b -> opt/x/a"},
		{summary: "one file to a name", path: "/usr/bin/a", to: "/bin/tool", want: "f bin/tool x"},
		{summary: "one file into a folder", path: "/usr/bin/a", to: "/opt/", want: "f opt/a x"},
		{summary: "a hard link alone is the file", path: "/usr/bin/b", to: "/b", want: "f b x"},
		{
			summary: "what is not there", path: "/usr/sbin", to: "/",
			err: `cannot copy "/usr/sbin" from "build": it is not there; "build" holds /usr, /usr/bin, /usr/share`,
		},
	} {
		t.Run(tc.summary, func(t *testing.T) {
			src, err := tree.New(parseList(t, source))
			if err != nil {
				t.Fatal(err)
			}
			got, err := copiedTree(definition.Copy{From: "build", Path: tc.path, To: tc.to}, src, 7)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(trimmed(tc.want), show(t, got)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// pack makes a decoded package of the given files, as shipment sees it.
func pack(t *testing.T, name, files string) *decoded {
	t.Helper()
	p := &deb.Package{Control: deb.Paragraph{{Name: "Package", Value: name}, {Name: "Version", Value: "1"}, {Name: "Architecture", Value: "all"}}}
	for _, e := range parseList(t, files) {
		p.Entries = append(p.Entries, deb.Entry{Entry: e, Shipped: e.Path})
	}
	return &decoded{Package: p, pin: lockfile.Package{Name: name}}
}

func TestShipment(t *testing.T) {
	app := pack(t, "app", "d usr\nd usr/lib\nf usr/lib/app x\nd etc\nd etc/ssl\nf etc/ssl/cert c")
	tool := pack(t, "tool", "d usr\nd usr/bin\nf usr/bin/tool x\nd var\nd var/lib\nd var/lib/tool\nd etc\nf etc/tool.conf x")
	root := `
		d etc
		d etc/alternatives
		l etc/alternatives/t -> /usr/bin/tool
		l etc/alternatives/a -> /usr/lib/app
		f etc/ld.so.cache cache
		d etc/ssl
		f etc/ssl/cert c
		f etc/ssl/bundle made
		f etc/tool.conf changed
		d usr
		d usr/bin
		f usr/bin/tool x
		l usr/bin/t -> /etc/alternatives/t
		d usr/lib
		f usr/lib/app x
		d var
		d var/lib
		d var/lib/dpkg
		d var/lib/dpkg/info
		f var/lib/dpkg/info/app.list .
		f var/lib/dpkg/info/format 1
		f var/lib/dpkg/info/tool.list .
		d var/lib/tool
		f var/lib/tool/state made`
	want := `
		d etc
		d etc/alternatives
		l etc/alternatives/a -> /usr/lib/app
		f etc/ld.so.cache cache
		d etc/ssl
		f etc/ssl/bundle made
		f etc/ssl/cert c
		d usr
		d usr/bin
		d usr/lib
		f usr/lib/app x
		d var
		d var/lib
		d var/lib/dpkg
		d var/lib/dpkg/info
		f var/lib/dpkg/info/app.list .
		f var/lib/dpkg/info/format 1`
	got, err := newShipment([]*decoded{app}, []*decoded{tool}).filter(sorted(parseList(t, root)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(trimmed(want), show(t, got)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func sorted(entries []tree.Entry) []tree.Entry {
	tree.SortEntries(entries)
	return entries
}

func TestAccounts(t *testing.T) {
	user := definition.User{Name: "app", UID: 65532, GID: 65532, Home: "/nonexistent", Shell: "/usr/sbin/nologin"}
	for _, tc := range []struct {
		summary, base string
		accounts      definition.Accounts
		want, err     string
	}{{
		summary:  "without any package",
		accounts: definition.Accounts{Users: []definition.User{user}},
		want: "f etc/group root:x:0:\nnogroup:x:65534:\napp:x:65532:\n" +
			"f etc/passwd root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\napp:x:65532:65532::/nonexistent:/usr/sbin/nologin\n",
	}, {
		summary:  "with shadow files and a home",
		base:     "d etc\nf etc/passwd root:x:0:0::/:/bin/sh\nf etc/group root:x:0:\nf etc/shadow root:*:1:\nf etc/gshadow root:*::",
		accounts: definition.Accounts{Users: []definition.User{{Name: "app", UID: 9, GID: 0, Home: "/home/app", Shell: "/bin/sh"}}},
		want: "d etc\nf etc/group root:x:0:\nf etc/gshadow root:*::\nf etc/passwd root:x:0:0::/:/bin/sh\napp:x:9:0::/home/app:/bin/sh\n" +
			"f etc/shadow root:*:1:\napp:!:0::::::\nd home/app\n",
	}, {
		summary:  "a number that is taken",
		base:     "d etc\nf etc/passwd www:x:65532:65532::/:/bin/sh\nf etc/group root:x:0:",
		accounts: definition.Accounts{Users: []definition.User{user}},
		err:      `cannot add account "app": /etc/passwd already has the line "www:x:65532:65532::/:/bin/sh"`,
	}} {
		t.Run(tc.summary, func(t *testing.T) {
			base := parseList(t, tc.base)
			for i := range base { // fields stand for whole lines here
				if base[i].Kind == tree.File {
					text, _ := readAll(base[i])
					base[i] = inline(base[i], append(text, '\n'))
				}
			}
			got, err := addAccounts(base, tc.accounts, 7)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, show(t, got)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestDivideDependsOnThePackageAlone(t *testing.T) {
	names := []string{"curl", "git", "nginx", "perl", "python3", "zlib1g"}
	where := map[string]string{}
	for n := len(names); n > 0; n-- { // each time one package fewer
		set := &packageSet{}
		for _, name := range names[:n] {
			set.packages = append(set.packages, pack(t, name, ""))
		}
		for _, g := range divide(definition.LayersGrouped, set) {
			for _, p := range g.packages {
				name := p.Control.Get("Package")
				if was, ok := where[name]; ok && was != g.name {
					t.Errorf("%s moved from %q to %q", name, was, g.name)
				}
				where[name] = g.name
			}
		}
	}
}
