package deb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
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

// sources is a small distribution with a source package of every shape.
const sources = `
-- base/control --
Package: base
Version: 1
Essential: yes
-- hello.src/source --
Version: 1.0-1
Binary: hello, libhello1
-- hello.src/orig/hello-1.0/configure --
#!/bin/sh
-- hello.src/orig-data/words/list --
one
-- hello.src/debian/rules --
#!/usr/bin/make -f
-- hello.src@security/source --
Version: 1.0-1+deb12u1
Binary: hello
-- hello.src@security/orig/hello-1.0/configure --
#!/bin/sh
-- hello.src@security/debian/rules --
#!/usr/bin/make -f
# mended
-- native.src/source --
Version: 1:3
Format: 3.0 (native)
-- native.src/native/native-3/debian/rules --
#!/usr/bin/make -f
-- old.src/source --
Version: 2-1
Format: 1.0
-- old.src/orig/old-2/README --
old
-- strange.src/source --
Version: 1
Format: 3.0 (git)
-- strange.src/debian/control --
no tarball
-- kept.src/source --
Version: 7-1
Extra-Source-Only: yes
-- kept.src/orig/kept-7/x --
x
`

func wanted(input, pkg, version string, unpack definition.Unpack) deb.SourceRequest {
	return deb.SourceRequest{Input: input, Package: pkg, Version: version, Unpack: unpack}
}

func sourceQuery(a *debtest.Archive, requests ...deb.SourceRequest) deb.Query {
	q := query(a)
	q.Sources = requests
	return q
}

// describeSources writes what was answered as lines.
func describeSources(a *deb.Answer) string {
	var b strings.Builder
	for _, in := range a.Inputs {
		fmt.Fprintf(&b, "%s: %s, %s, %s, %s\n", in.Name, in.Kind, in.Facts["archive"], in.Facts["format"], in.Facts["unpack"])
		for _, p := range a.Pins {
			if p.Input == in.Name {
				fmt.Fprintf(&b, "  %s %s %s (%s)\n", p.Name, p.Version, p.Path, p.By)
			}
		}
	}
	return b.String()
}

func TestSources(t *testing.T) {
	a := debtest.New(t, sources, debtest.Options{})
	answer, err := source(t, a).Resolve(context.Background(), sourceQuery(a,
		wanted("all", "hello", "1.0-1", definition.UnpackNone),
		wanted("both", "hello", "1.0-1", definition.UnpackDebian),
		wanted("kept", "kept", "7-1", definition.UnpackUpstream),
		wanted("native", "native", "", definition.UnpackDebian),
		wanted("newest", "hello", "", definition.UnpackUpstream),
		wanted("old", "old", "", definition.UnpackUpstream),
	))
	if err != nil {
		t.Fatal(err)
	}
	const shown = `all: source, bookworm, 3.0 (quilt), none
  hello 1.0-1 pool/main/h/hello/hello_1.0-1.dsc (requested)
  hello 1.0-1 pool/main/h/hello/hello_1.0-1.debian.tar.gz (requested)
  hello 1.0-1 pool/main/h/hello/hello_1.0.orig.tar.gz (requested)
  hello 1.0-1 pool/main/h/hello/hello_1.0.orig-data.tar.gz (requested)
both: source, bookworm, 3.0 (quilt), debian
  hello 1.0-1 pool/main/h/hello/hello_1.0-1.debian.tar.gz (requested)
  hello 1.0-1 pool/main/h/hello/hello_1.0.orig.tar.gz (requested)
  hello 1.0-1 pool/main/h/hello/hello_1.0.orig-data.tar.gz (requested)
kept: source, bookworm, 3.0 (quilt), upstream
  kept 7-1 pool/main/k/kept/kept_7.orig.tar.gz (requested)
native: source, bookworm, 3.0 (native), debian
  native 1:3 pool/main/n/native/native_3.tar.gz (requested)
newest: source, bookworm-security, 3.0 (quilt), upstream
  hello 1.0-1+deb12u1 pool/main/h/hello/hello_1.0.orig.tar.gz (requested)
old: source, bookworm, 1.0, upstream
  old 2-1 pool/main/o/old/old_2.orig.tar.gz (requested)
`
	if diff := cmp.Diff(shown, describeSources(answer)); diff != "" {
		t.Error(diff)
	}
	for _, p := range answer.Pins { // the bytes that the pins name are there
		root := map[bool]string{true: "debian-security", false: "debian"}[strings.Contains(p.Version, "deb12u1")]
		b, err := os.ReadFile(filepath.Join(a.Dir, root, p.Path))
		if err != nil || digest.Of(b) != p.SHA256 || int64(len(b)) != p.Size {
			t.Errorf("%s is not what is pinned: %v", p.Path, err)
		}
	}
}

func TestSourcesThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		summary string
		request deb.SourceRequest
		want    string
	}{
		{"unknown", wanted("x", "helo", "", definition.UnpackUpstream), `cannot find source package "helo" in bookworm; nearest: hello`},
		{"nothing like it", wanted("x", "zzzzzzzzzz", "", definition.UnpackUpstream), `cannot find source package "zzzzzzzzzz" in bookworm`},
		{"a binary package's name", wanted("x", "libhello1", "", definition.UnpackUpstream), `cannot find source package "libhello1" in bookworm: a binary package has that name, and its source package is "hello"`},
		{"another version", wanted("x", "hello", "2.0-1", definition.UnpackUpstream), `cannot find version "2.0-1" of source package "hello" in bookworm; there is: 1.0-1+deb12u1, 1.0-1`},
		{"only kept for others", wanted("x", "kept", "", definition.UnpackUpstream), `cannot use source package "kept" of bookworm: it has none that it offers unasked; name one with version: 7-1`},
		{"no tarball", wanted("x", "strange", "", definition.UnpackUpstream), `cannot use source package "strange 1" of bookworm: it has no upstream tarball (its format is "3.0 (git)"); write unpack: none, and run dpkg-source (of the package dpkg-dev) in a step`},
		{"debian/ in a patch", wanted("x", "old", "", definition.UnpackDebian), `cannot use source package "old 2-1" of bookworm: its folder debian/ is in a patch (its format is "1.0"); write unpack: none, and run dpkg-source (of the package dpkg-dev) in a step`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			a := debtest.New(t, sources, debtest.Options{})
			_, err := source(t, a).Resolve(context.Background(), sourceQuery(a, test.request))
			var missing *deb.SourceNotFoundError
			if !errors.As(err, &missing) || missing.Input != "x" || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// What is wrong with indexes is told as for lists of packages: the same code
// reads both.
func TestSourceFaults(t *testing.T) {
	for _, test := range []struct {
		fault debtest.Fault
		want  string
	}{
		{debtest.Expired, `URL/debian/dists/bookworm/InRelease was valid until TIME, and it is TIME`},
		{debtest.Tampered, `cannot trust URL/debian/dists/bookworm/InRelease: the signature by KEY does not hold: openpgp: invalid signature: EdDSA verification failure (signed by KEY)`},
		{debtest.WrongHash, `URL/debian/dists/bookworm/main/source/by-hash/HASH: bytes have digest DIGEST, expected DIGEST`},
		{debtest.BadSources, `URL/debian/dists/bookworm/main/source/Sources:1: line is neither a field nor a continuation: "this is no index"`},
	} {
		t.Run(string(test.fault), func(t *testing.T) {
			a := debtest.New(t, sources, debtest.Options{Faults: []debtest.Fault{test.fault}})
			_, err := source(t, a).Resolve(context.Background(), sourceQuery(a, wanted("x", "hello", "", definition.UnpackUpstream)))
			if err == nil || plain(err, a) != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	a := debtest.New(t, world, debtest.Options{})
	_, err := source(t, a).Resolve(context.Background(), sourceQuery(a, wanted("x", "hello", "", definition.UnpackUpstream)))
	if want := `URL/debian/dists/bookworm/InRelease: it names no "main/source/Sources": this archive offers no source packages`; err == nil || plain(err, a) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// An index older than the lock's is refused with source packages alone, too.
func TestSourcesNoRollback(t *testing.T) {
	dir := t.TempDir()
	a, err := debtest.Build(dir, sources, debtest.Options{Date: time.Now().Add(-48 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	q := sourceQuery(a, wanted("x", "hello", "", definition.UnpackUpstream))
	q.Previous = deb.Previous{Archives: []lockfile.Archive{{Name: "bookworm", Date: time.Now().Add(-time.Hour)}}}
	_, err = source(t, a).Resolve(context.Background(), q)
	var rollback *deb.RollbackError
	if !errors.As(err, &rollback) {
		t.Errorf("got %v, expected a RollbackError", err)
	}
}

// Sources are listed when source packages are asked for, read once for one state
// of the archive, and not otherwise.
func TestSourcesAreReadWhenAskedFor(t *testing.T) {
	a, err := debtest.Build(t.TempDir(), sources, debtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var read []string
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "InRelease") {
			read = append(read, path.Dir(strings.TrimPrefix(r.URL.Path, "/debian/dists/")))
		}
		b, err := os.ReadFile(filepath.Join(a.Dir, r.URL.Path))
		if err != nil {
			return &http.Response{StatusCode: 404, Body: http.NoBody}, nil
		}
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(string(b)))}, nil
	})}
	cache := t.TempDir()
	ask := func(q deb.Query) string {
		t.Helper()
		read = nil
		m := deb.Mirror{Main: "http://archive.example/debian", Security: "http://archive.example/debian-security"}
		q.Pockets = nil // requests come in order
		if _, err := deb.New(deb.Options{Mirrors: []deb.Mirror{m}, Cache: cache, Rules: "rules", Apt: debtest.Apt{}, Client: client}).Resolve(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		return strings.Join(read, " ")
	}
	const native = "bookworm/main/binary-amd64/by-hash/SHA256"
	const listed = "bookworm/main/source/by-hash/SHA256"
	for _, test := range []struct {
		summary string
		q       deb.Query
		want    string
	}{
		{"packages alone", query(a, step()), native},
		{"a source package", sourceQuery(a, wanted("x", "hello", "", definition.UnpackUpstream)), listed},
		{"the same again", sourceQuery(a, wanted("x", "hello", "", definition.UnpackUpstream)), ""},
		{"another one", sourceQuery(a, wanted("x", "native", "", definition.UnpackUpstream)), ""},
	} {
		if got := ask(test.q); got != test.want && debtest.Native() == "amd64" {
			t.Errorf("%s: read %q, expected %q", test.summary, got, test.want)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An update of something else leaves a source package at its version for as
// long as the archive has that.
func TestSourcesStay(t *testing.T) {
	a := debtest.New(t, sources, debtest.Options{})
	for _, test := range []struct{ asked, stay, version, moved string }{
		{"", "1.0-1", "1.0-1", ""},
		{"", "", "1.0-1+deb12u1", ""},
		{"1.0-1", "1.0-1+deb12u1", "1.0-1", ""}, // the definition says so
		{"", "0.9-1", "1.0-1+deb12u1", "hello moves from 0.9-1 to 1.0-1+deb12u1: the archive no longer has that version"},
	} {
		q := sourceQuery(a, deb.SourceRequest{Input: "x", Package: "hello", Version: test.asked, Unpack: definition.UnpackUpstream, Stay: test.stay})
		q.Keep = true
		answer, err := source(t, a).Resolve(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		moved := ""
		for _, m := range answer.Moved {
			moved += m.String()
		}
		if got := answer.Pins[0].Version; got != test.version || moved != test.moved {
			t.Errorf("staying at %q: got %s, %q", test.stay, got, moved)
		}
	}
}

func TestSourceLocations(t *testing.T) {
	s := deb.New(deb.Options{
		Mirrors:  []deb.Mirror{{Main: "https://one.example/debian", Security: "https://one.example/sec"}},
		Snapshot: deb.SnapshotService,
	})
	in := lockfile.Input{Name: "hello", Kind: lockfile.KindSource, Facts: lockfile.Facts{"archive": "bookworm-security"}}
	pin := lockfile.Pin{Input: "hello", Path: "pool/main/h/hello/hello_1.0+dfsg.orig.tar.gz"}
	archives := []lockfile.Archive{{Name: "bookworm-security", Date: time.Date(2026, 11, 20, 0, 12, 41, 0, time.UTC)}}
	want := []string{
		"https://one.example/sec/pool/main/h/hello/hello_1.0%2Bdfsg.orig.tar.gz",
		"https://snapshot.debian.org/archive/debian-security/20261120T001241Z/pool/main/h/hello/hello_1.0%2Bdfsg.orig.tar.gz",
	}
	if diff := cmp.Diff(want, s.SourceLocations(in, pin, archives)); diff != "" {
		t.Error(diff)
	}
}
