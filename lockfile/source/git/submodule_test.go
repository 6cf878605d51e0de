package git

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/source/local"
	"quorate.dev/lockfile/source/sourcetest"
)

// module adds another repository at a path, as git submodule add would.
func (u *upstream) module(at, url, commit string) {
	u.t.Helper()
	u.git("config", "--file", ".gitmodules", "submodule."+at+".path", at)
	u.git("config", "--file", ".gitmodules", "submodule."+at+".url", url)
	u.git("add", ".gitmodules")
	u.git("update-index", "--add", "--cacheinfo", "160000,"+commit+","+at)
	u.git("commit", "-q", "-m", "add "+at)
}

// family is three repositories, each in the next: deep in lib in app.
func family(t *testing.T) (app, lib, deep *upstream) {
	app, lib, deep = newUpstream(t), newUpstream(t), newUpstream(t)
	deep.write("deep.txt", "deep")
	inner := deep.commit()
	lib.write("lib.txt", "lib")
	lib.commit()
	lib.module("vendor/deep", deep.url(), inner)
	outer := lib.git("rev-parse", "HEAD")
	app.write("main.txt", "main")
	app.write("libs/own.txt", "own")
	app.commit()
	app.module("libs/x", lib.url(), outer)
	return app, lib, deep
}

func TestSubmodulesContract(t *testing.T) {
	sourcetest.Test(t, func(t *testing.T) *sourcetest.World {
		app, lib, _ := family(t)
		r := app.request("main")
		r.Ask["submodules"] = "true"
		return &sourcetest.World{
			Kind: app.kind(), Request: r,
			Spoil: func() { // the submodule's history is rewritten, and app follows
				lib.write("lib.txt", "other")
				lib.commit("--amend")
				lib.git("reflog", "expire", "--expire=now", "--all")
				lib.git("gc", "-q", "--prune=now")
				app.module("libs/x", lib.url(), lib.git("rev-parse", "HEAD"))
			},
			Down: func() { _ = os.RemoveAll(lib.dir); _ = os.RemoveAll(app.dir) },
		}
	})
}

// The tree is that of a clone with all submodules, and the lock names each.
func TestSubmodules(t *testing.T) {
	app, lib, deep := family(t)
	lock, _, err := app.lock("main", "submodules", "true")
	if err != nil {
		t.Fatal(err)
	}
	f := lock.Inputs[0].Facts
	if f["submodule/libs/x"] != lib.git("rev-parse", "HEAD") || f["submodule/libs/x/vendor/deep"] != deep.git("rev-parse", "HEAD") || f["commit"] != app.git("rev-parse", "HEAD") {
		t.Errorf("got %v", f)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	cmd := exec.Command("git", "-c", "protocol.file.allow=always", "clone", "-q", "--recurse-submodules", app.url(), clone)
	cmd.Env = app.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := filepath.WalkDir(clone, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != ".git" {
			return err
		}
		if err := os.RemoveAll(p); err != nil || !d.IsDir() {
			return err
		}
		return filepath.SkipDir
	}); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	tree, err := local.Pack(clone, &packed, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if f["tree"] != tree.Digest.Hex() || lock.Pins[0].SHA256 != digest.Of(packed.Bytes()) {
		t.Errorf("the tree is %s, that of a clone %s", f["tree"], tree.Digest.Hex())
	}
	for _, name := range []string{"main.txt", "libs/own.txt", "libs/x/lib.txt", "libs/x/vendor/deep/deep.txt"} {
		if !strings.Contains(string(tree.Text()), name) {
			t.Errorf("%s is missing", name)
		}
	}
}

// A submodule's branches go on; what is locked is brought from behind them.
func TestSubmoduleMovesOn(t *testing.T) {
	app, lib, _ := family(t)
	lock, _, err := app.lock("main", "submodules", "true")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		lib.write("lib.txt", "newer")
		lib.commit()
	}
	sources, _ := app.kind().Open(lock.Requests.Inputs[0], lock.Pins[0])
	r, _, err := sources[0].Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || digest.Of(b) != lock.Pins[0].SHA256 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if l, ok := sources[0].(interface{ Local() bool }); !ok || l.Local() {
		t.Error("submodules may need the network, and it says that it does not")
	}
}

func TestSubmodulesRefused(t *testing.T) {
	const commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for _, test := range []struct {
		summary string
		make    func(app, lib *upstream)
		want    string
	}{
		{"no URL", func(app, _ *upstream) {
			app.git("update-index", "--add", "--cacheinfo", "160000,"+commit+",libs/y")
			app.git("commit", "-q", "-m", "y")
		}, `"libs/y" is a submodule (commit ` + commit + `) that .gitmodules has no URL for`},
		{"a commit that is not there", func(app, lib *upstream) { app.module("libs/y", lib.url(), commit) }, `submodule "libs/y": cannot fetch from file://`},
		{"a repository that is not there", func(app, _ *upstream) { app.module("libs/y", "file:///nowhere/at/all", commit) }, `submodule "libs/y": cannot fetch from file:///nowhere/at/all: `},
		{"another protocol", func(app, _ *upstream) { app.module("libs/y", "git://example.org/y.git", commit) }, `"libs/y" is a submodule that cannot be brought: url "git://example.org/y.git" does not begin with https:// or ssh://`},
		{"a program", func(app, _ *upstream) { app.module("libs/y", "ext::sh -c id", commit) }, `"libs/y" is a submodule that cannot be brought: "ext::sh -c id" is not a URL`},
		{"an option", func(app, _ *upstream) { app.module("libs/y", "ssh://-oProxyCommand=id/y", commit) }, `names a host that programs would take for an option`},
		{"a password", func(app, _ *upstream) { app.module("libs/y", "https://me:secret@example.org/y", commit) }, `"libs/y" is a submodule that cannot be brought: the url holds a user name or password`},
		{"a blank in its path", func(app, lib *upstream) { app.module("libs/y z", lib.url(), commit) }, `"libs/y z" is a submodule whose path the lock cannot name`},
		{"LFS in it", func(app, lib *upstream) {
			lib.write("big", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
			lib.git("add", "big")
			lib.git("commit", "-q", "-m", "big")
			app.module("libs/y", lib.url(), lib.git("rev-parse", "HEAD"))
		}, `"libs/y/big" is only a pointer to a file in Git LFS`},
		{"a path of git's own in it", func(app, lib *upstream) {
			lib.raw(".GiT")
			app.module("libs/y", lib.url(), lib.git("rev-parse", "main"))
		}, `submodule "libs/y": "libs/y/.GiT" is a name that git keeps for itself`},
		{"not asked for", nil, `"libs/x" is a submodule (commit `},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "-"), func(t *testing.T) {
			app, lib, _ := family(t)
			ask := []string{"submodules", "true"}
			if test.make == nil {
				ask = nil
			} else {
				test.make(app, lib)
			}
			_, _, err := app.lock("main", ask...)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestModuleURL(t *testing.T) {
	for _, test := range []struct{ parent, written, want string }{
		{"https://example.org/team/app.git", "../lib.git", "https://example.org/team/lib.git"},
		{"https://example.org/team/app.git", "./lib.git", "https://example.org/team/app.git/lib.git"},
		{"https://example.org/team/app.git/", "../../other/lib", "https://example.org/other/lib"},
		{"https://example.org/app", "../../../lib", "https://example.org/lib"},
		{"ssh://git@example.org/team/app", "../lib", "ssh://git@example.org/team/lib"},
		{"https://example.org/app", "git@example.net:team/lib.git", "ssh://git@example.net/team/lib.git"},
		{"https://example.org/app", "example.net:lib", "ssh://example.net/lib"},
		{"https://example.org/app", "https://example.net/lib", "https://example.net/lib"},
		{"file:///srv/app", "../lib", "file:///srv/lib"},
		{"https://example.org/app", "file:///etc", `url "file:///etc" is a folder of this machine, and its parent is not`},
		{"https://example.org/app", "/srv/lib", `url "/srv/lib" does not begin with https:// or ssh://`},
		{"https://example.org/app", "http://example.net/lib", `url "http://example.net/lib" does not begin with https:// or ssh://`},
		{"https://example.org/app", "", `url "" does not begin with https:// or ssh://`},
	} {
		got, err := moduleURL(test.parent, test.written)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%q in %s:\n got %s\nwant %s", test.written, test.parent, got, test.want)
		}
	}
}
