package deb

import (
	"testing"

	"quorate.dev/builder/tree"
)

// slim is what images called "slim" have (debuerreotype's docker-slim rules, shortened).
const slim = `# This config file will prevent packages from install docs that are not needed.
path-exclude=/usr/share/doc/*
path-exclude /usr/share/man/*
path-include=/usr/share/doc/*/copyright
no-debsig
log /var/log/dpkg.log
`

func TestFilter(t *testing.T) {
	f := Filter{}.ParseFilter(slim).ParseFilter("path-exclude \"/opt/[!a]*\"\n")
	for _, test := range []struct {
		name string
		kind tree.Kind
		want bool
	}{
		{"usr/bin/tool", tree.File, false},
		{"usr/share/doc/tool/manual.gz", tree.File, true},
		{"usr/share/doc/tool/deep/copyright", tree.File, false}, // "*" matches slashes
		{"usr/share/doc/tool/copyright", tree.File, false},
		{"usr/share/doc/tool", tree.Dir, false}, // a rule wants something below
		{"usr/share/doc/link", tree.Symlink, false},
		{"usr/share/doc", tree.Dir, false},
		{"usr/share/man/man1", tree.Dir, true},
		{"usr/share/man/man1/tool.1", tree.File, true},
		{"opt/big", tree.File, true},
		{"opt/app", tree.File, false},
	} {
		if got := f.Skips(test.name, test.kind); got != test.want {
			t.Errorf("%c %s: left out: %t, expected %t", test.kind, test.name, got, test.want)
		}
	}
	if (Filter{}).Skips("usr/share/doc/x", tree.File) {
		t.Error("without rules, something is left out")
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(slim, "usr/share/doc/x")
	f.Add("path-exclude=[\npath-include=\\", "a")
	f.Fuzz(func(t *testing.T, text, name string) {
		filter := Filter{}.ParseFilter(text)
		// What no rule can leave out once all is included last.
		if filter.ParseFilter("\npath-include=*\n").Skips(name, tree.File) && name == "usr/bin/x" {
			t.Errorf("%q is left out although the last rule includes all", name)
		}
		filter.Skips(name, tree.Dir)
	})
}
