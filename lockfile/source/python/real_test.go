package python

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pythonfiles "quorate.dev/builder/unpack/python"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/sourcetest"
)

// The real pip installs from what we lock of a small index, without network
// and with the hashes required, and refuses a changed wheel.
func TestRealPip(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("the slow suite, with the real pip: set QUORATE_REAL=1")
	}
	i := newIndex(t, false)
	dir := t.TempDir()
	text := "left==1.0.0" + hashes("left") + "\n"
	blobs := sourcetest.NewBlobs(t)
	answer, err := New(i.URL+"/simple/").Resolve(t.Context(), source.Query{
		Request:   lockfile.InputRequest{Name: "wheels", Kind: lockfile.KindPython, Ask: lockfile.Facts{"from": "app", "path": "requirements.txt"}},
		Platforms: both[:1], Tree: sourcetest.Tree(t, "app", map[string]string{"requirements.txt": text}), Blobs: blobs, Fetch: fetch.Options{Tries: 1, Pause: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	i.Close()
	wheels, requirements := filepath.Join(dir, "wheels"), filepath.Join(dir, "requirements.txt")
	unpacktest.Write(t, pythonfiles.Unpack, lockfile.Input{Name: "wheels"}, answer.Pins, blobs.Open, wheels)
	if err := os.WriteFile(requirements, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	install := func(target string) (string, error) {
		cmd := exec.Command("pip3", "install", "--no-index", "--find-links", wheels, "--require-hashes", "-r", requirements, "--target", filepath.Join(dir, target), "--no-cache-dir", "--disable-pip-version-check")
		cmd.Env = append(os.Environ(), "PIP_CONFIG_FILE="+os.DevNull)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := install("good"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "good", "left.py")); err != nil || !strings.Contains(string(b), "left-1.0.0-py3-none-any.whl") {
		t.Errorf("installed %q, %v", b, err)
	}
	if err := os.WriteFile(filepath.Join(wheels, "left-1.0.0-py3-none-any.whl"), wheel("left-1.0.0-py3-none-any.whl-changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := install("bad"); err == nil || !strings.Contains(out, "DO NOT MATCH THE HASHES") {
		t.Errorf("pip took a changed wheel: %v\n%s", err, out)
	}
}
