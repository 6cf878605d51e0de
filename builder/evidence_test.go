package builder

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// goProgram builds a program of three modules from its folder vendor: one that
// is linked into it, one that is the folder beside, and one that is only there.
func goProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                         "module example.org/app\n\ngo 1.24\n\nrequire (\n\texample.org/Linked v1.0.0\n\texample.org/beside v0.0.0\n\texample.org/unused v1.2.0\n)\n\nreplace example.org/beside => ./beside\n",
		"main.go":                        "package main\n\nimport (\n\t_ \"example.org/Linked\"\n\t_ \"example.org/beside\"\n)\n\nfunc main() {}\n",
		"beside/go.mod":                  "module example.org/beside\n\ngo 1.24\n",
		"vendor/example.org/beside/x.go": "package beside\n",
		"vendor/example.org/Linked/x.go": "package linked\n",
		"vendor/modules.txt":             "# example.org/Linked v1.0.0\n## explicit; go 1.24\nexample.org/Linked\n# example.org/beside v0.0.0 => ./beside\n## explicit; go 1.24\nexample.org/beside\n# example.org/unused v1.2.0\n## explicit; go 1.24\n# example.org/beside => ./beside\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-mod=vendor", "-trimpath", "-buildvcs=false", "-o", "program", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GO111MODULE=on")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "program")
}

func TestProgramTells(t *testing.T) {
	file := goProgram(t)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := lockfile.Input{Name: "modules", Kind: lockfile.KindGo}
	pin := lockfile.Pin{Input: "modules", Name: "example.org/Linked", Version: "v1.0.0", Path: "linked.zip"}
	e := tree.Entry{Path: "bin/x", Kind: tree.File, Mode: 0o755, Size: int64(len(raw)), Digest: digest.Of(raw), Content: tree.Section{File: file, Size: int64(len(raw))}}
	look := func(t *testing.T, pins ...lockfile.Pin) *inventory {
		t.Helper()
		b := &build{
			platform: definition.Platform{OS: "linux", Architecture: "amd64"},
			job:      Job{Definition: &definition.Definition{}, Lock: &lockfile.Lock{Inputs: []lockfile.Input{in}, Pins: pins}},
		}
		v := newInventory(b, t.TempDir())
		if err := v.program("usr/bin/x", e, "step/compile"); err != nil {
			t.Fatal(err)
		}
		v.link("usr/bin/x", v.programs["usr/bin/x"])
		return v
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(runtime.Version(), "go"), " ")
	stdlib, linked := "module/stdlib@"+version, "module/example.org/Linked@v1.0.0"

	t.Run("pinned", func(t *testing.T) {
		onlyMod, unused := pin, pin
		onlyMod.Path, unused.Name = "linked.mod", "example.org/unused"
		v := look(t, pin, onlyMod, unused)
		want := map[string][]string{pinKey(in, pin): {"linked into /usr/bin/x"}, stdlib: {"linked into /usr/bin/x"}}
		if diff := cmp.Diff(want, v.found); diff != "" {
			t.Error(diff)
		}
		if got := v.linked["step/compile"]; !slices.Equal(got, []string{stdlib, pinKey(in, pin)}) {
			t.Errorf("linked: %q", got)
		}
	})
	t.Run("vendored", func(t *testing.T) {
		v := look(t)
		var got []string
		for _, m := range v.modules {
			got = append(got, m.Key+" "+m.URI)
		}
		if want := []string{stdlib + " pkg:golang/stdlib@" + version, linked + " pkg:golang/example.org/linked@v1.0.0"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("no program", func(t *testing.T) {
		v := look(t)
		if err := v.program("usr/bin/x", tree.NewFile("x", 0o755, 0, []byte("#!/bin/sh")), "local/app"); err != nil || len(v.programs) != 0 {
			t.Errorf("a script in its place: %v, %d programs", err, len(v.programs))
		}
		other := e
		other.Digest = digest.Of(nil)
		if err := v.program("usr/bin/x", other, "step/compile"); err == nil {
			t.Error("a program with other bytes than its entry says is read")
		}
	})
}

func TestManifests(t *testing.T) {
	names := []string{"x/src/package.json", "x/package.json", "x/Cargo.toml", "x/vendor/y/Cargo.toml", "x-1/PKG-INFO", "x.egg-info/PKG-INFO", "x-1.dist-info/METADATA", "METADATA", "package.json"}
	var tgz, whl bytes.Buffer
	z := gzip.NewWriter(&tgz)
	tw := tar.NewWriter(z)
	zw := zip.NewWriter(&whl)
	for _, name := range names {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(name)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		f, err := zw.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		tw.Write([]byte(name)) //nolint:errcheck // to memory
		f.Write([]byte(name))  //nolint:errcheck // to memory
	}
	tw.Close() //nolint:errcheck // to memory
	z.Close()  //nolint:errcheck // to memory
	zw.Close() //nolint:errcheck // to memory
	file := filepath.Join(t.TempDir(), "x.whl")
	if err := os.WriteFile(file, whl.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]string{lockfile.KindNpm: "x/package.json", lockfile.KindCargo: "x/Cargo.toml", lockfile.KindPython: "x-1/PKG-INFO"} {
		got, err := tarManifest(bytes.NewReader(tgz.Bytes()), manifests[kind].is)
		if err != nil || string(got) != want {
			t.Errorf("%s in a tar: %q %v, want %q", kind, got, err, want)
		}
		if got, err = zipManifest(file, manifests[kind].is); err != nil || string(got) != want {
			t.Errorf("%s in a zip: %q %v, want %q", kind, got, err, want)
		}
	}
	if _, err := tarManifest(bytes.NewReader(tgz.Bytes()), func(string, string) bool { return false }); err != errNoManifest {
		t.Errorf("nothing found: %v", err)
	}
	if _, err := tarManifest(strings.NewReader("no archive"), nil); err == nil {
		t.Error("what is no archive can be read")
	}
}

// Of two packages with one path, that whose bytes are there owns it; what is copied lies over both.
func TestOwnerOf(t *testing.T) {
	a, b, c := digest.Of([]byte("a")), digest.Of([]byte("b")), digest.Of([]byte("c"))
	one, other, copied := claim{a, "deb/one"}, claim{b, "deb/other"}, claim{part: "step/x"}
	for _, test := range []struct {
		summary string
		is      digest.Digest
		claims  []claim
		want    string
	}{
		{"nobody", a, nil, ""},
		{"the only one", a, []claim{one}, "deb/one"},
		{"the only one, changed since", c, []claim{one}, "deb/one"},
		{"the one whose bytes are there", b, []claim{one, other}, "deb/other"},
		{"the same the other way round", b, []claim{other, one}, "deb/other"},
		{"the first, when it is neither", c, []claim{one, other}, "deb/one"},
		{"a copy over all", a, []claim{one, copied, other}, "step/x"},
		{"the last copy", a, []claim{copied, {part: "local/y"}}, "local/y"},
	} {
		if got, _ := ownerOf(tree.Entry{Digest: test.is}, test.claims); got.part != test.want {
			t.Errorf("%s: %q, expected %q", test.summary, got.part, test.want)
		}
	}
}
