package npm

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	npmfiles "quorate.dev/builder/unpack/npm"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/sourcetest"
)

// The real npm installs from what we lock of the real registry, without
// network, and gets what it installs
// online; from a cache with one changed byte it installs nothing.
func TestRealNpm(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("the slow suite, with the real registry: set QUORATE_REAL=1")
	}
	dir := t.TempDir()
	project := filepath.Join(dir, "project")
	write(t, filepath.Join(project, "package.json"), `{"name":"app","version":"1.0.0","dependencies":{"express":"4.21.2","esbuild":"0.25.0"},"devDependencies":{"numbers":"npm:is-number@7.0.0"}}`)
	npm(t, project, "install", "--package-lock-only", "--ignore-scripts", "--cache", filepath.Join(dir, "first"))
	text, err := os.ReadFile(filepath.Join(project, FileName))
	if err != nil {
		t.Fatal(err)
	}

	blobs := sourcetest.NewBlobs(t)
	answer, err := New(MachineRegistries()).Resolve(t.Context(), source.Query{
		Request:   lockfile.InputRequest{Name: "packages", Kind: lockfile.KindNpm, Ask: lockfile.Facts{"from": "app", "path": "."}},
		Platforms: platforms[:1], Tree: sourcetest.Tree(t, "app", map[string]string{FileName: string(text)}),
		Blobs: blobs, Fetch: fetch.Options{Tries: 3, Pause: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(answer.Pins, func(p lockfile.Pin) bool { return p.Name == "is-number" && p.By == lockfile.ByRequest }) {
		t.Error("the alias is not pinned under its own name")
	}
	shown, cache := filepath.Join(dir, "shown"), filepath.Join(dir, "cache")
	unpacktest.Write(t, npmfiles.Unpack, lockfile.Input{Name: "packages"}, answer.Pins, blobs.Open, shown)
	if out, err := exec.Command("cp", "-r", shown, cache).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	offline := []string{"ci", "--offline", "--ignore-scripts", "--registry", npmfiles.Registry, "--cache", cache}
	npm(t, project, offline...)
	installed := filepath.Join(dir, "installed")
	if err := os.Rename(filepath.Join(project, "node_modules"), installed); err != nil {
		t.Fatal(err)
	}
	npm(t, project, "ci", "--ignore-scripts", "--cache", filepath.Join(dir, "first"))
	if out, err := exec.Command("diff", "-r", installed, filepath.Join(project, "node_modules")).CombinedOutput(); err != nil {
		t.Errorf("offline and online differ: %v\n%s", err, out)
	}

	spoil(t, cache)
	cmd := exec.Command("npm", offline...)
	cmd.Dir = project
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("npm took a changed tarball\n%s", out)
	}
}

func npm(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("npm", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// spoil changes a byte of every file.
func spoil(t *testing.T, dir string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		b[len(b)/2]++
		return os.WriteFile(p, b, 0o644)
	}); err != nil {
		t.Fatal(err)
	}
}
