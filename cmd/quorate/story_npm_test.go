package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"quorate.dev/lockfile/source/npm/npmtest"
)

// The commands of stories about npm registries that sign and ask who is there.
//
//	npm-registry NAME [token=TOKEN] [no-keys] PACKAGE@VERSION…
//	    start a registry that has and signs the packages, set the variable NAME
//	    to its URL, and write its key to NAME.json; it demands the token, or
//	    offers no keys
//	npm-lock NAME PACKAGE@VERSION…
//	    write an app/package-lock.json of packages of the registry, from line 5 on
//	npm-sign NAME PACKAGE@VERSION good|none|new|forged
//	    have the package signed by its key, by nobody, by a new key that the
//	    registry offers from now on, or by a stranger who says to be that key
var npmCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"npm-registry": startNpmRegistry,
	"npm-lock":     lockNpm,
	"npm-sign":     signNpm,
}

// npmWorld is a registry of a story, with what it has by PACKAGE@VERSION.
type npmWorld struct {
	*npmtest.Registry
	key      *npmtest.Key
	releases map[string]*npmtest.Release
}

var npmWorlds sync.Map // by URL

func startNpmRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: npm-registry NAME [token=TOKEN] [no-keys] PACKAGE@VERSION…")
	}
	w := &npmWorld{npmtest.Start(), npmtest.NewKey(), map[string]*npmtest.Release{}}
	ts.Defer(w.Close)
	w.Keys = []*npmtest.Key{w.key}
	for _, arg := range args[1:] {
		at := strings.LastIndexByte(arg, '@')
		token, isToken := strings.CutPrefix(arg, "token=")
		switch {
		case isToken:
			w.Token = token
		case arg == "no-keys":
			w.Keys = nil
		case at <= 0:
			ts.Fatalf("%q is not PACKAGE@VERSION", arg)
		default:
			w.releases[arg] = w.Publish(arg[:at], arg[at+1:], w.key)
		}
	}
	npmWorlds.Store(w.URL, w)
	ts.Setenv(args[0], w.URL)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".json"), npmtest.Document(w.key), 0o644))
}

// npmWorldOf finds a registry that the story started, and what it has of a list.
func npmWorldOf(ts *testscript.TestScript, name string, packages ...string) (*npmWorld, []*npmtest.Release) {
	found, ok := npmWorlds.Load(ts.Getenv(name))
	if !ok {
		ts.Fatalf("there is no npm registry %s", name)
	}
	w := found.(*npmWorld)
	var list []*npmtest.Release
	for _, p := range packages {
		if w.releases[p] == nil {
			ts.Fatalf("%s has no %s", name, p)
		}
		list = append(list, w.releases[p])
	}
	return w, list
}

func lockNpm(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: npm-lock NAME PACKAGE@VERSION…")
	}
	_, list := npmWorldOf(ts, args[0], args[1:]...)
	entries := []string{`"": {"name": "web"}`}
	for _, rel := range list {
		entries = append(entries, rel.LockEntry())
	}
	lock := ts.MkAbs("app/package-lock.json")
	ts.Check(os.MkdirAll(filepath.Dir(lock), 0o755))
	ts.Check(os.WriteFile(lock, []byte("{\n  \"lockfileVersion\": 3,\n  \"packages\": {\n    "+strings.Join(entries, ",\n    ")+"\n  }\n}\n"), 0o644))
}

func signNpm(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: npm-sign NAME PACKAGE@VERSION good|none|new|forged")
	}
	w, list := npmWorldOf(ts, args[0], args[1])
	rel := list[0]
	switch args[2] {
	case "good":
		rel.Signatures = []npmtest.Signature{w.key.Sign(rel)}
	case "none":
		rel.Signatures = nil
	case "new":
		rel.Signatures = []npmtest.Signature{w.NewKey().Sign(rel)}
	case "forged":
		forged := npmtest.NewKey().Sign(rel)
		forged.KeyID = w.key.ID
		rel.Signatures = []npmtest.Signature{forged}
	default:
		ts.Fatalf("unknown signature %q", args[2])
	}
}
