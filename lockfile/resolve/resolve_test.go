package resolve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/source/deb"
	"quorate.dev/lockfile/source/deb/debtest"
)

const world = `
-- base/control --
Package: base
Version: 1
Essential: yes
-- app/control --
Package: app
Version: 1
Depends: lib
-- lib/control --
Package: lib
Version: 1
-- tool/control --
Package: tool
Version: 1
`

const yaml = `apiVersion: quorate/v1
name: greeter
platforms: [linux/amd64, linux/arm64]
epoch: 2026-01-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
  files: {logo: {url: "https://example.org/logo.png"}}
steps:
  - {name: compile, packages: [tool], run: "true"}
image:
  packages: [app]
  essential: false
`

func define(t *testing.T, text string) *definition.Definition {
	t.Helper()
	d, err := definition.Parse("quorate.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// pinner stands for the https source: what a URL holds changes with each
// generation.
type pinner struct {
	generation int
	asked      []string
}

func (p *pinner) Pin(_ context.Context, name, url string) (lockfile.File, error) {
	p.asked = append(p.asked, name)
	if strings.Contains(url, "gone") {
		return lockfile.File{}, fmt.Errorf("cannot get %q: gone", url)
	}
	return lockfile.File{Name: name, URL: url, Size: 3, SHA256: digest.Of([]byte(fmt.Sprint(url, p.generation)))}, nil
}

func options(t *testing.T, text string, a *debtest.Archive) Options {
	t.Helper()
	o := Options{Definition: define(t, text), Assembler: 1, Files: &pinner{}}
	if a != nil {
		m, err := deb.ParseMirror("test", a.URL)
		if err != nil {
			t.Fatal(err)
		}
		o.Keys = [][]byte{a.Key}
		o.Deb = deb.New(deb.Options{Mirrors: []deb.Mirror{m}, Cache: t.TempDir(), Apt: debtest.Apt{}})
	}
	return o
}

func describe(l *lockfile.Lock) string {
	var b strings.Builder
	for _, p := range l.Platforms {
		fmt.Fprintln(&b, p.Platform)
		for _, k := range p.Packages {
			fmt.Fprintf(&b, "  %s %s %v\n", k.Name, k.Version, k.In)
		}
	}
	for _, f := range l.Files {
		fmt.Fprintln(&b, f.Name, f.SHA256.Short())
	}
	return b.String()
}

func TestResolve(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	o := options(t, yaml, a)
	lock, err := Resolve(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	const packages = `
  app 1 [{image requested}]
  base 1 [{configure essential} {step/compile essential}]
  lib 1 [{image app}]
  tool 1 [{step/compile requested}]
`
	want := "linux/amd64" + packages + "linux/arm64" + packages + "logo " + digest.Of([]byte("https://example.org/logo.png0")).Short() + "\n"
	if diff := cmp.Diff(want, describe(lock)); diff != "" {
		t.Error(diff)
	}
	if lock.Resolver.Name != "apt" || len(lock.Archives) != 3 || lock.Assembler != 1 || lock.Format != lockfile.FormatVersion || !lock.Epoch.Equal(o.Definition.Epoch.Time) {
		t.Errorf("got %+v", lock)
	}
	again, err := Resolve(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(lockfile.Format(lock)), string(lockfile.Format(again))); diff != "" {
		t.Errorf("the same answers make another lock:\n%s", diff)
	}
	if _, err := lockfile.Parse("quorate.lock", lockfile.Format(lock)); err != nil {
		t.Errorf("the lock cannot be read again: %v", err)
	}
}

func TestResolveWithoutPackages(t *testing.T) {
	const files = "apiVersion: quorate/v1\nname: files\nplatforms: [linux/amd64]\nepoch: commit\ninputs: {files: {a: {url: \"https://example.org/a\"}}}\nimage: {copy: [{from: a, path: /, to: /a}]}\n"
	o := options(t, files, nil)
	at := time.Date(2026, 5, 1, 12, 0, 0, 5, time.FixedZone("", 3600))
	o.Epoch = func() (time.Time, error) { return at, nil }
	lock, err := Resolve(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if want := at.UTC().Truncate(time.Second); lock.Epoch != want || len(lock.Platforms) != 1 || len(lock.Files) != 1 {
		t.Errorf("got %+v", lock)
	}
	o.Epoch = func() (time.Time, error) { return time.Time{}, errors.New("no git repository") }
	_, err = Resolve(context.Background(), o)
	if want := "cannot take the epoch from the commit: no git repository"; fmt.Sprint(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestUpdate(t *testing.T) {
	dir := t.TempDir()
	a, err := debtest.Build(dir, world, debtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, yaml, a)
	old, err := Resolve(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	newer := world
	for _, name := range []string{"base", "app", "lib", "tool"} {
		newer += strings.NewReplacer("-- app/", "-- app@updates/", "-- lib/", "-- lib@updates/", "-- tool/", "-- tool@updates/", "-- base/", "-- base@updates/").
			Replace(fmt.Sprintf("-- %s/control --\nPackage: %[1]s\nVersion: 2\nDepends: %s\nEssential: %s\n", name,
				map[string]string{"app": "lib (>= 2)"}[name], map[bool]string{true: "yes", false: "no"}[name == "base"]))
	}
	if _, err := debtest.Build(dir, strings.ReplaceAll(newer, "Depends: \n", ""), debtest.Options{}); err != nil {
		t.Fatal(err)
	}
	o.Previous = old
	for _, test := range []struct {
		summary string
		update  []string
		want    map[string]string // names that are of version 2
		file    int
		moved   []string
	}{
		{"one package", []string{"tool"}, map[string]string{"tool": "2"}, 0, nil},
		{"a package and what it needs", []string{"app"}, map[string]string{"app": "2", "lib": "2"}, 0,
			[]string{"lib moves from 1 to 2: app needs lib (>= 2)"}}, // once, for both platforms
		{"a file", []string{"logo"}, map[string]string{}, 1, nil},
		{"everything", nil, map[string]string{"app": "2", "lib": "2", "tool": "2", "base": "2"}, 1, nil},
	} {
		t.Run(test.summary, func(t *testing.T) {
			o := o
			o.Update, o.Files = test.update, &pinner{generation: 1}
			var moved []string
			o.Events = func(e Event) {
				if e.Kind == "moved" {
					moved = append(moved, e.Text)
				}
			}
			lock, err := Resolve(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range lock.Platforms {
				for _, k := range p.Packages {
					want := "1"
					if v, ok := test.want[k.Name]; ok {
						want = v
					}
					if k.Version != want {
						t.Errorf("%s: %s is %s, expected %s", p.Platform, k.Name, k.Version, want)
					}
				}
			}
			if want := digest.Of([]byte(fmt.Sprint("https://example.org/logo.png", test.file))); lock.Files[0].SHA256 != want {
				t.Errorf("file is of another generation than %d", test.file)
			}
			if diff := cmp.Diff(test.moved, moved); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	good := options(t, yaml, a)
	old, err := Resolve(context.Background(), good)
	if err != nil {
		t.Fatal(err)
	}
	otherSuite := *old
	otherSuite.Requests.Suite = "bullseye"
	for _, test := range []struct {
		summary string
		change  func(*Options)
		want    string
	}{
		{"update without a lock", func(o *Options) { o.Update = []string{"app"} }, "cannot update app alone: there is no lock to update"},
		{"update of another suite", func(o *Options) { o.Update, o.Previous = []string{"app", "logo"}, &otherSuite },
			`cannot update app alone: the definition's suite is "bookworm" and the lock's is "bullseye"`},
		{"update of a name that is not locked", func(o *Options) { o.Update, o.Previous = []string{"apq"}, old },
			`cannot find package "apq" in the lock (linux/amd64); nearest: app`},
		{"a source that fails", func(o *Options) { o.Definition = define(t, strings.Replace(yaml, "logo.png", "gone.png", 1)) },
			`cannot get "https://example.org/gone.png": gone`},
		{"a source that answers nothing", func(o *Options) { o.Deb = empty{} },
			"the sources' answers make no lock: the lock does not fit the definition:\n  platform linux/amd64 is not in the lock\n  platform linux/arm64 is not in the lock\nrun: quorate lock"},
		{"a source that answers half", func(o *Options) { o.Deb = empty{platforms: true} },
			`the sources' answers make no lock: set "image" of linux/amd64 has no package`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			o := good
			test.change(&o)
			_, err := Resolve(context.Background(), o)
			if fmt.Sprint(err) != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// empty is a source whose answers lack what was asked for.
type empty struct{ platforms bool }

func (e empty) Resolve(_ context.Context, q deb.Query) (*deb.Answer, error) {
	a := &deb.Answer{}
	if e.platforms {
		for _, p := range q.Platforms {
			a.Platforms = append(a.Platforms, lockfile.Platform{Platform: p})
		}
	}
	return a, nil
}
