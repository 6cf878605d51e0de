package gomod

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
)

type memory struct{ name, text string }

func (m memory) Path() string                 { return m.name }
func (m memory) Lstat() (fs.FileInfo, error)  { return m, nil }
func (m memory) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(m.text)), nil }
func (m memory) Name() string                 { return path.Base(m.name) }
func (m memory) Size() int64                  { return int64(len(m.text)) }
func (m memory) Mode() fs.FileMode            { return 0o644 }
func (m memory) ModTime() time.Time           { return time.Time{} }
func (m memory) IsDir() bool                  { return false }
func (m memory) Sys() any                     { return nil }

// blob is a pin of a module's file.
func blob(t *testing.T, v module.Version, suffix string, b []byte) unpack.Blob {
	t.Helper()
	name, err := module.EscapePath(v.Path)
	if err != nil {
		t.Fatal(err)
	}
	return unpacktest.Blob(t, lockfile.Pin{Name: v.Path, Version: v.Version, Path: name + "/@v/" + v.Version + suffix}, b)
}

// zipped makes a module's zip as the go command does.
func zipped(t *testing.T, v module.Version, files ...string) unpack.Blob {
	t.Helper()
	var list []modzip.File
	for i := 0; i < len(files); i += 2 {
		list = append(list, memory{files[i], files[i+1]})
	}
	var b bytes.Buffer
	if err := modzip.Create(&b, v, list); err != nil {
		t.Fatal(err)
	}
	return blob(t, v, ".zip", b.Bytes())
}

func version(s string) module.Version {
	p, v, _ := strings.Cut(s, "@")
	return module.Version{Path: p, Version: v}
}

// shown unpacks blobs and returns the files by path.
func shown(t *testing.T, blobs ...unpack.Blob) map[string]tree.Entry {
	t.Helper()
	entries, err := unpacktest.Show(t, Unpack, lockfile.Input{}, blobs...)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]tree.Entry{}
	for _, e := range entries {
		if e.Kind != tree.Dir {
			all[e.Path] = e
		}
	}
	return all
}

func world(t *testing.T) []unpack.Blob {
	return []unpack.Blob{
		zipped(t, version("example.org/Text@v1.0.0"), "go.mod", "module example.org/Text\ngo 1.18\nrequire example.org/deep v0.1.0\n", "text.go", "package text\nimport \"example.org/deep\"\nconst Hello = \"hello, \" + deep.World\n"),
		zipped(t, version("example.org/deep@v0.1.0"), "go.mod", "module example.org/deep\n", "deep.go", "package deep\nconst World = \"world\"\n"),
		blob(t, version("example.org/deep@v0.0.9"), ".mod", []byte("module example.org/deep\n")),
		zipped(t, version("example.org/old@v2.0.0+incompatible"), "old.go", "package old\n"),
		zipped(t, version("example.org/odd@v1.0.0"), "go.mod", "module example.org/odd\n// in the zip\n"),
		blob(t, version("example.org/odd@v1.0.0"), ".mod", []byte("module example.org/odd\n// apart\n")),
	}
}

func TestUnpack(t *testing.T) {
	files := shown(t, world(t)...)
	for name, want := range map[string]string{
		"example.org/!text/@v/list": "v1.0.0\n", "example.org/!text/@v/v1.0.0.info": `{"Version":"v1.0.0"}`,
		"example.org/!text/@v/v1.0.0.mod":             "module example.org/Text\ngo 1.18\nrequire example.org/deep v0.1.0\n",
		"example.org/deep/@v/list":                    "v0.0.9\nv0.1.0\n",
		"example.org/deep/@v/v0.0.9.mod":              "module example.org/deep\n",
		"example.org/old/@v/v2.0.0+incompatible.mod":  "module example.org/old\n",
		"example.org/odd/@v/v1.0.0.mod":               "module example.org/odd\n// apart\n",
		"example.org/old/@v/v2.0.0+incompatible.info": `{"Version":"v2.0.0+incompatible"}`,
	} {
		if got := unpacktest.Text(t, files[name]); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if len(files) != 18 {
		t.Errorf("%d files are shown", len(files))
	}
}

func TestToolchain(t *testing.T) {
	v := version("golang.org/toolchain@v0.0.1-go1.99.0.linux-amd64")
	files := shown(t, zipped(t, v, "bin/go", "#!", "pkg/tool/linux_amd64/compile", "x", "src/a.go", "package a\n"))
	for name, mode := range map[string]uint32{"goroot/bin/go": 0o755, "goroot/pkg/tool/linux_amd64/compile": 0o755, "goroot/src/a.go": 0o644} {
		if e := files[name]; e.Mode != mode {
			t.Errorf("%s has mode %o", name, e.Mode)
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	other := blob(t, version("example.org/a@v1.0.0"), ".mod", []byte("module example.org/a\n"))
	other.Pin.Path = "example.org/b/@v/v1.0.0.mod"
	for _, test := range []struct {
		summary string
		blob    unpack.Blob
		want    string
	}{
		{"one module as another", other, `module example.org/a v1.0.0 has path "example.org/b/@v/v1.0.0.mod"`},
		{"no zip", blob(t, version("example.org/a@v1.0.0"), ".zip", []byte("PK?")), "module example.org/a v1.0.0: zip: not a valid zip file"},
	} {
		err := Unpack(lockfile.Input{}, []unpack.Blob{test.blob}, unpack.NewFiles(io.Discard, ""))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.summary, err, test.want)
		}
	}
}

// The go command builds from what is shown, with nothing else to ask.
func TestGoCommandBuilds(t *testing.T) {
	dir := t.TempDir()
	for name, e := range shown(t, world(t)...) {
		file := filepath.Join(dir, "proxy", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(unpacktest.Text(t, e)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	app := filepath.Join(dir, "app")
	for name, text := range map[string]string{
		"go.mod": "module example.org/app\n\ngo 1.21\n", "main.go": "package main\n\nimport (\n\t\"example.org/Text\"\n\t_ \"example.org/old\"\n)\n\nfunc main() { println(text.Hello) }\n",
	} {
		if err := os.MkdirAll(app, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(app, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = app
		cmd.Env = append(os.Environ(), "GOPROXY=file://"+dir+"/proxy", "GOSUMDB=off", "GOFLAGS=-modcacherw -buildvcs=false", "GOTOOLCHAIN=local", "CGO_ENABLED=0", "GOPRIVATE=", "GOMODCACHE="+filepath.Join(dir, "cache"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("go", "mod", "tidy") // makes go.sum; the zips and go.mod files hash as it wants
	if err := os.RemoveAll(filepath.Join(dir, "cache")); err != nil {
		t.Fatal(err)
	}
	run("go", "build", "-mod=readonly", "-o", "app", ".")
	if got := run("./app"); got != "hello, world\n" {
		t.Errorf("it says %q", got)
	}
	run("go", "mod", "verify")
}
