package npm

import (
	"encoding/json"
	"fmt"
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
	"quorate.dev/lockfile/source/npm/npmtest"
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
	answer, err := New(Options{Config: MachineConfig()}).Resolve(t.Context(), source.Query{
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

// The real npm audit signatures and we accept and refuse the same, of real
// packages that a registry on this machine signs.
func TestRealSignatures(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("the slow suite, with the real npm: set QUORATE_REAL=1")
	}
	upstream, err := MachineConfig().registry("")
	if err != nil {
		t.Fatal(err)
	}
	r := npmtest.Start()
	defer r.Close()
	key, ended, ending, stranger := r.NewKey(), r.NewKey(), r.NewKey(), npmtest.NewKey()
	ended.Expires, ending.Expires = "2015-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z"
	r.Upstream = upstream
	good := func(rel *npmtest.Release) []npmtest.Signature { return []npmtest.Signature{key.Sign(rel)} }
	r.Sign = good

	dir := t.TempDir()
	project := filepath.Join(dir, "project")
	dependencies := `"debug":"4.4.0","is-odd":"3.0.1"`
	if more := os.Getenv("QUORATE_NPM_DEPENDENCIES"); more != "" { // a larger project, for somebody who looks
		dependencies = more
	}
	write(t, filepath.Join(project, "package.json"), `{"name":"app","version":"1.0.0","dependencies":{`+dependencies+`}}`)
	npm(t, project, "install", "--ignore-scripts", "--registry", r.URL, "--cache", filepath.Join(dir, "cache"))
	text, err := os.ReadFile(filepath.Join(project, FileName))
	if err != nil {
		t.Fatal(err)
	}
	// npm asks TUF for keys first, which has none of this registry; here nobody answers for TUF.
	tuf := filepath.Join(dir, "tuf.js")
	write(t, tuf, `const load = require('module')._load
require('module')._load = function (name, ...rest) {
  if (name !== '@sigstore/tuf') return load.call(this, name, ...rest)
  const none = Object.assign(new Error('no such target'), { code: 'TUF_FIND_TARGET_ERROR' })
  return { initTUF: async () => ({ getTarget: async () => { throw none } }) }
}
`)
	audit := func() (ok bool, out string) {
		cmd := exec.Command("npm", "audit", "signatures", "--registry", r.URL, "--cache", filepath.Join(t.TempDir(), "cache"))
		cmd.Dir = project
		cmd.Env = append(os.Environ(), "NODE_OPTIONS=--require "+tuf)
		b, err := cmd.CombinedOutput()
		return err == nil, string(b)
	}
	ours := func() (*source.Answer, error) {
		return New(Options{Config: &Config{Registries: Registries{"": r.URL}}}).Resolve(t.Context(), source.Query{
			Request:   lockfile.InputRequest{Name: "packages", Kind: lockfile.KindNpm, Ask: lockfile.Facts{"from": "app", "path": "."}},
			Platforms: platforms[:1], Tree: sourcetest.Tree(t, "app", map[string]string{FileName: string(text)}),
			Blobs: sourcetest.NewBlobs(t), Fetch: fetch.Options{Tries: 3, Pause: time.Second},
		})
	}
	changed := func(name string, sign func(*npmtest.Release) []npmtest.Signature) func(*npmtest.Release) []npmtest.Signature {
		return func(rel *npmtest.Release) []npmtest.Signature {
			if rel.Name == name {
				return sign(rel)
			}
			return good(rel)
		}
	}
	for _, test := range []struct {
		summary    string
		sign       func(*npmtest.Release) []npmtest.Signature
		npms, ours string // "" for neither refuses
	}{
		{"all signed", good, "", ""},
		{"one is not", changed("ms", func(*npmtest.Release) []npmtest.Signature { return nil }), "missing", " has no signature in its registry"},
		{"one by another's bytes", changed("ms", func(rel *npmtest.Release) []npmtest.Signature {
			return []npmtest.Signature{key.Sign(&npmtest.Release{Name: rel.Name, Version: rel.Version, Integrity: "sha512-x"})}
		}), "invalid", " has a signature of the key " + key.ID + " that does not hold"},
		{"one by a stranger", changed("ms", func(rel *npmtest.Release) []npmtest.Signature { return []npmtest.Signature{stranger.Sign(rel)} }), "no corresponding public key", " is signed with the key " + stranger.ID},
		{"one published after its key's end", changed("ms", func(rel *npmtest.Release) []npmtest.Signature { return []npmtest.Signature{ended.Sign(rel)} }), "has expired 2015", "which ended on 2015-01-01, and was published after"},
		{"one published before its key's end", changed("ms", func(rel *npmtest.Release) []npmtest.Signature { return []npmtest.Signature{ending.Sign(rel)} }), "", ""},
	} {
		r.Sign = test.sign
		ok, out := audit()
		answer, err := ours()
		switch {
		case test.ours != "":
			if ok || !strings.Contains(out, test.npms) {
				t.Errorf("%s: npm: %t\n%s", test.summary, ok, out)
			}
			if err == nil || !strings.Contains(err.Error(), test.ours) {
				t.Errorf("%s: got %v", test.summary, err)
			}
		case err != nil || !ok:
			t.Errorf("%s: %v; npm: %t\n%s", test.summary, err, ok, out)
		default:
			n := 0
			for _, p := range answer.Pins {
				if p.Signatures != "" {
					n++
				}
			}
			places, packages := installed(t, project)
			if n != len(answer.Pins) || n != packages || !strings.Contains(out, fmt.Sprintf("%d packages have verified registry signatures", places)) {
				t.Errorf("%s: %d of %d pins are signed, %d packages are installed in %d places; npm:\n%s", test.summary, n, len(answer.Pins), packages, places, out)
			}
		}
	}
}

// installed counts the places of node_modules, which npm counts, and the
// packages in them, which we do.
func installed(t *testing.T, project string) (places, packages int) {
	t.Helper()
	var list struct {
		Packages map[string]struct{ Version, Integrity string } `json:"packages"`
	}
	text, err := os.ReadFile(filepath.Join(project, "node_modules", ".package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	unique := map[string]bool{}
	for _, p := range list.Packages {
		unique[p.Integrity] = true
	}
	return len(list.Packages), len(unique)
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
