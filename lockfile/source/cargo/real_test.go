package cargo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cargofiles "quorate.dev/builder/unpack/cargo"
	"quorate.dev/builder/unpack/unpacktest"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/sourcetest"
)

// The real cargo (Debian's 1.65 or newer) builds from what we lock of a small
// registry, without network, and refuses crates that are not those of Cargo.lock.
func TestRealCargo(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("the slow suite, with the real cargo: set QUORATE_REAL=1")
	}
	r := newRegistry(t)
	dir := t.TempDir()
	text := strings.Replace(lockText(plain("app", "0.1.0", "", "left"), plain("left", "1.0.0", usual)), "version = 4", "version = 3", 1)
	for name, content := range map[string]string{
		"Cargo.toml":  "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nleft = \"1\"\n",
		"src/main.rs": "fn main() { println!(\"{}\", left::name()) }\n",
		FileName:      text,
	} {
		at := filepath.Join(dir, "app", name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	blobs := sourcetest.NewBlobs(t)
	answer, err := New(r.URL+"/index/").Resolve(t.Context(), source.Query{
		Request: lockfile.InputRequest{Name: "crates", Kind: lockfile.KindCargo, Ask: lockfile.Facts{"from": "app", "path": "."}},
		Tree:    sourcetest.Tree(t, "app", map[string]string{FileName: text}), Blobs: blobs, Fetch: fetch.Options{Tries: 1, Pause: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	shown := filepath.Join(dir, "crates")
	unpacktest.Write(t, cargofiles.Unpack, lockfile.Input{Name: "crates", Facts: answer.Facts}, answer.Pins, blobs.Open, shown)
	config := filepath.Join(shown, "config.toml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(string(b), "/inputs/crates", shown)), 0o644); err != nil {
		t.Fatal(err)
	}

	out, err := cargo(dir, "--config", config, "run", "--offline", "--locked", "--quiet")
	if err != nil || out != "left\n" {
		t.Fatalf("cargo run: %v\n%s", err, out)
	}
	changed := strings.ReplaceAll(text, checksum("left", "1.0.0"), checksum("left", "1.0.1"))
	if err := os.WriteFile(filepath.Join(dir, "app", FileName), []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := cargo(dir, "--config", config, "build", "--offline", "--locked"); err == nil || !strings.Contains(out, "checksum for `left v1.0.0` changed between lock files") {
		t.Errorf("cargo took a crate of another checksum: %v\n%s", err, out)
	}
}

func cargo(dir string, args ...string) (string, error) {
	cmd := exec.Command("cargo", args...)
	cmd.Dir = filepath.Join(dir, "app")
	cmd.Env = append(os.Environ(), fmt.Sprintf("CARGO_HOME=%s/home", dir), fmt.Sprintf("CARGO_TARGET_DIR=%s/target", dir))
	out, err := cmd.CombinedOutput()
	return string(out), err
}
