package deb

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"testing"

	"quorate.dev/builder/unpack/debsource"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/httpfile"
	"quorate.dev/lockfile/source/sourcetest"
)

// realSources are small packages: a repacked xz with configure, tarballs of gzip
// and xz. Shapes that these have not are held against dpkg-source by the tests
// of package debsource.
var realSources = []string{"popt", "libyaml", "attr"}

// TestRealSources holds what steps see of source packages of the real archive
// against what dpkg-source makes of the same files.
func TestRealSources(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("the slow suite, with the real archive: set QUORATE_REAL=1")
	}
	mirrors, err := AptMirrors("/", "bookworm")
	if err != nil || len(mirrors) == 0 {
		t.Fatalf("this machine's apt configuration names no mirror: %v", err)
	}
	q := Query{Suite: "bookworm", Components: []string{"main"}, Pockets: []string{"updates", "security"}}
	for _, name := range realSources {
		for _, how := range []definition.Unpack{definition.UnpackNone, definition.UnpackUpstream, definition.UnpackDebian} {
			q.Sources = append(q.Sources, SourceRequest{Input: name + "-" + string(how), Package: name, Unpack: how})
		}
	}
	s := New(Options{Mirrors: mirrors, Cache: t.TempDir()})
	answer, err := s.Resolve(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	lock := &lockfile.Lock{Inputs: answer.Inputs, Pins: answer.Pins, Archives: answer.Archives}
	blobs := sourcetest.NewBlobs(t)
	var items []fetch.Item
	for _, p := range answer.Pins {
		in, _ := lock.Input(p.Input)
		it := fetch.Item{Name: path.Base(p.Path), Size: p.Size, Digest: p.SHA256}
		for _, url := range s.SourceLocations(in, p, answer.Archives) {
			src, err := httpfile.New(url)
			if err != nil {
				t.Fatal(err)
			}
			it.Sources = append(it.Sources, src)
		}
		items = append(items, it)
	}
	if err := fetch.Fetch(t.Context(), items, blobs, fetch.Options{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, in := range answer.Inputs {
		unpacktest.Write(t, debsource.Unpack, in, lock.PinsOf(in.Name, ""), blobs.Open, filepath.Join(dir, in.Name))
	}
	for _, name := range realSources {
		controls, err := filepath.Glob(filepath.Join(dir, name+"-none", "*.dsc"))
		if err != nil || len(controls) != 1 {
			t.Fatalf("%s has %d lists of its files: %v", name, len(controls), err)
		}
		for _, in := range answer.Inputs {
			how := in.Facts[factUnpack]
			if in.Name != name+"-"+how || how == string(definition.UnpackNone) {
				continue
			}
			option := "--skip-patches"
			if how == string(definition.UnpackUpstream) {
				option = "--skip-debianization"
			}
			theirs := filepath.Join(dir, name+"-"+how+"-theirs")
			if out, err := exec.Command("dpkg-source", "--no-check", "--no-copy", option, "-x", controls[0], theirs).CombinedOutput(); err != nil {
				t.Fatalf("dpkg-source of %s: %v\n%s", name, err, out)
			}
			if out, err := exec.Command("diff", "-r", "--no-dereference", theirs, filepath.Join(dir, name+"-"+how)).CombinedOutput(); err != nil {
				t.Errorf("%s, %s: dpkg-source's < and ours > differ:\n%s", name, how, out)
			}
		}
	}
	t.Logf("%d source packages, %d files", len(realSources), len(items))
}
