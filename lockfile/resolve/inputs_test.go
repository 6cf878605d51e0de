package resolve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/deb/debtest"
	"quorate.dev/lockfile/source/sourcetest"
)

const inputsYAML = `apiVersion: quorate/v1
name: greeter
platforms: [linux/amd64]
epoch: commit:src
inputs:
  git: {src: {url: "https://example.org/src.git"}}
  go: {modules: {from: src}}
image: {copy: [{from: src, to: /}]}
`

// toy stands for a kind: it answers with one pin that names its version.
type toy struct {
	version string
	reads   []string
	asked   int
	err     error
}

func (k *toy) Resolve(_ context.Context, q source.Query) (*source.Answer, error) {
	k.asked++
	for _, file := range k.reads {
		if _, err := q.Tree.ReadFile(file); err != nil && file == "go.mod" {
			return nil, err
		}
	}
	return &source.Answer{
		Facts: lockfile.Facts{"time": "2026-01-02T03:04:05Z"},
		Pins:  []lockfile.Pin{{Name: q.Request.Name, Version: k.version, Size: 1, SHA256: digest.Of([]byte(k.version)), Path: "blob"}},
	}, k.err
}

func (k *toy) Open(lockfile.InputRequest, lockfile.Pin) ([]fetch.Source, error) { return nil, nil }

func TestInputs(t *testing.T) {
	git, modules := &toy{version: "1"}, &toy{version: "1", reads: []string{"go.mod", "go.work"}}
	files := map[string]string{"go.mod": "module m"}
	var opened []string
	o := Options{
		Definition: define(t, inputsYAML), Assembler: 1,
		Kinds: map[string]source.Kind{lockfile.KindGit: git, lockfile.KindGo: modules},
		Tree: func(_ context.Context, name string, pin *lockfile.Pin) (*source.Tree, error) {
			opened = append(opened, fmt.Sprint(name, " ", pin.Version))
			return sourcetest.Tree(t, name, files), nil
		},
	}
	lock, err := Resolve(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := lock.Epoch.String(); got != "2026-01-02 03:04:05 +0000 UTC" {
		t.Errorf("epoch %s is not the commit's", got)
	}
	want := []lockfile.Input{
		{Name: "modules", Kind: "go", Facts: lockfile.Facts{"time": "2026-01-02T03:04:05Z"}, Reads: lockfile.Facts{"go.mod": digest.Of([]byte("module m")).Hex(), "go.work": lockfile.Absent}},
		{Name: "src", Kind: "git", Facts: lockfile.Facts{"time": "2026-01-02T03:04:05Z"}},
	}
	if d := cmp.Diff(want, lock.Inputs); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"src 1"}, opened); d != "" {
		t.Errorf("trees opened: %s", d)
	}

	// An update of one keeps the other, unless the files it was chosen from changed.
	git.version, modules.version = "2", "2"
	o.Previous, o.Update = lock, []string{"src"}
	if got := versions(t, o); got != "modules 1, src 2" {
		t.Errorf("updating src: %s", got)
	}
	o.Update = []string{"modules"}
	if got := versions(t, o); got != "modules 2, src 1" {
		t.Errorf("updating modules: %s", got)
	}
	o.Update = []string{"src"}
	files["go.mod"] = "module n"
	if got := versions(t, o); got != "modules 2, src 2" {
		t.Errorf("after go.mod changed: %s", got)
	}
	o.Update = nil
	if got := versions(t, o); got != "modules 2, src 2" {
		t.Errorf("all anew: %s", got)
	}
}

func versions(t *testing.T, o Options) string {
	t.Helper()
	lock, err := Resolve(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range lock.Pins {
		all = append(all, p.Name+" "+p.Version)
	}
	return strings.Join(all, ", ")
}

func TestInputsFail(t *testing.T) {
	o := Options{Definition: define(t, inputsYAML), Assembler: 1, Kinds: map[string]source.Kind{lockfile.KindGit: &toy{version: "1", err: errors.New("no such commit")}}}
	if _, err := Resolve(t.Context(), o); err == nil || err.Error() != `cannot lock input "src": no such commit` {
		t.Errorf("got %v", err)
	}
	o.Kinds = nil
	if _, err := Resolve(t.Context(), o); err == nil || err.Error() != `input "src" is of kind "git", which this quorate cannot lock` {
		t.Errorf("got %v", err)
	}
}

// A source package is chosen with the packages, from the same signed indexes;
// what an update does not name stays.
func TestResolveSources(t *testing.T) {
	const text = `
-- base/control --
Package: base
Version: 1
Essential: yes
-- hello.src/source --
Version: 1.0-1
-- hello.src/orig/hello-1.0/configure --
#!/bin/sh
`
	const newer = text + `
-- more.src@updates/source --
Package: hello
Version: 1.1-1
-- more.src@updates/orig/hello-1.1/configure --
#!/bin/sh
`
	dir := t.TempDir()
	a, err := debtest.Build(dir, text, debtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, `apiVersion: quorate/v1
name: greeter
platforms: [linux/amd64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
  sources: {hello: {package: hello}, other: {package: hello}}
image: {scripts: none, copy: [{from: hello, to: /}]}
`, a)
	versions := func(l *lockfile.Lock) string {
		var b strings.Builder
		for _, p := range l.Pins {
			fmt.Fprintf(&b, "%s %s %s; ", p.Input, p.Name, p.Version)
		}
		return b.String()
	}
	old, err := Resolve(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := versions(old), "hello hello 1.0-1; other hello 1.0-1; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := debtest.Build(dir, newer, debtest.Options{}); err != nil {
		t.Fatal(err)
	}
	o.Previous = old
	for _, test := range []struct {
		update []string
		want   string
	}{
		{nil, "hello hello 1.1-1; other hello 1.1-1; "},
		{[]string{"other"}, "hello hello 1.0-1; other hello 1.1-1; "},
		{[]string{"hello", "other"}, "hello hello 1.1-1; other hello 1.1-1; "},
	} {
		o.Update = test.update
		lock, err := Resolve(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := versions(lock); got != test.want {
			t.Errorf("update of %v: got %s, want %s", test.update, got, test.want)
		}
	}
}
