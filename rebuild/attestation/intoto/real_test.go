package intoto

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/rebuild/keyfile"
)

// TestRealInToto has in-toto's own commands judge what Write writes: the one of
// its Go implementation, and Debian's in Python.
func TestRealInToto(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("runs other people's commands, which `make tools` installs; QUORATE_REAL=1 runs it")
	}
	tm := newTeam(t)
	agreed := tm.judge(t, map[string]string{"a": "x", "b": "x", "c": "y"})
	links := map[string][]byte{"a": tm.links(t, "a", build("x")), "b": tm.links(t, "b", build("x"))}
	dissent := tm.links(t, "c", build("y"))
	stranger, err := keyfile.Generate()
	if err != nil {
		t.Fatal(err)
	}
	for _, judge := range []struct {
		command string
		args    func(layout, dir, key string) []string
	}{
		{"in-toto-golang", func(layout, dir, key string) []string {
			return []string{"verify", "--layout", layout, "--layout-keys", key + ".pub", "--link-dir", dir}
		}},
		{"in-toto-verify", func(layout, dir, key string) []string {
			return []string{"--layout", layout, "--layout-keys", key + ".json", "--key-types", "ecdsa", "--link-dir", dir}
		}},
	} {
		for _, test := range []struct {
			summary string
			change  func(dir string)
			key     *keyfile.Key
			accepts bool
		}{
			{"the agreeing set", func(string) {}, tm.keys["owner"], true},
			{"another owner's key", func(string) {}, stranger, false},
			{"a link of the build is missing", func(dir string) { remove(t, dir, names(t, tm.keys["a"])[1]) }, tm.keys["owner"], false},
			{"a link of a step is missing", func(dir string) { remove(t, dir, names(t, tm.keys["b"])[0]) }, tm.keys["owner"], false},
			{"a link was changed", func(dir string) {
				alter(t, dir, names(t, tm.keys["a"])[1], "greeter-linux-amd64", "greeter-linux-amd65")
			}, tm.keys["owner"], false},
			{"a link of a step was changed", func(dir string) {
				alter(t, dir, names(t, tm.keys["a"])[0], of("out of x").Hex(), of("out of y").Hex())
			}, tm.keys["owner"], false},
			{"the layout was changed", func(dir string) { alter(t, dir, LayoutName, `"threshold":2`, `"threshold":1`) }, tm.keys["owner"], false},
			{"a dissenting rebuilder's links", func(dir string) { put(t, dir, tm.keys["c"], dissent) }, tm.keys["owner"], false},
			{"one rebuilder's links under another's name", func(dir string) { put(t, dir, tm.keys["a"], links["b"]) }, tm.keys["owner"], false},
			{"a stranger's links", func(dir string) {
				put(t, dir, tm.keys["a"], tm.links(t, "b", build("x")))
				put(t, dir, stranger, links["a"])
			}, tm.keys["owner"], false},
		} {
			t.Run(judge.command+"/"+test.summary, func(t *testing.T) {
				dir := t.TempDir()
				if err := Write(ctx, dir, agreed, tm.policy, links, tm.keys["owner"], never); err != nil {
					t.Fatal(err)
				}
				test.change(dir)
				key := filepath.Join(t.TempDir(), "key")
				saveKey(t, key, test.key)
				out, err := exec.Command(judge.command, judge.args(filepath.Join(dir, LayoutName), dir, key)...).CombinedOutput()
				if _, exited := err.(*exec.ExitError); err != nil && !exited {
					t.Fatalf("%v; `make tools` installs it", err)
				}
				if (err == nil) != test.accepts {
					t.Errorf("accepts: %t, expected %t; it says\n%s", err == nil, test.accepts, out)
				}
				if strings.Contains(string(out), "Traceback") || strings.Contains(string(out), "panic:") {
					t.Errorf("the judge broke down instead of judging:\n%s", out)
				}
			})
		}
	}
}

// TestRealPolicyLayout has Debian's in-toto judge by a layout that a policy alone made.
func TestRealPolicyLayout(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("runs other people's commands, which `make tools` installs; QUORATE_REAL=1 runs it")
	}
	for _, test := range policyLayoutCases {
		t.Run(test.summary, func(t *testing.T) {
			tm, dir := newTeam(t), t.TempDir()
			tm.putPolicyLayout(t, dir, test.built)
			key := filepath.Join(t.TempDir(), "key")
			saveKey(t, key, tm.keys["owner"])
			out, err := exec.Command("in-toto-verify", "--layout", filepath.Join(dir, LayoutName), "--layout-keys", key+".json", "--key-types", "ecdsa", "--link-dir", dir).CombinedOutput()
			if _, exited := err.(*exec.ExitError); err != nil && !exited {
				t.Fatalf("%v; `make tools` installs it", err)
			}
			if (err == nil) != (test.err == "") || strings.Contains(string(out), "Traceback") {
				t.Errorf("accepts: %t, expected %t; it says\n%s", err == nil, test.err == "", out)
			}
		})
	}
}

// saveKey writes a public key in the forms that the judges read.
func saveKey(t *testing.T, path string, key *keyfile.Key) {
	t.Helper()
	if err := key.Public().Save(path + ".pub"); err != nil {
		t.Fatal(err)
	}
	b, err := pythonKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".json", b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// alter changes words of a file, which must be there.
func alter(t *testing.T, dir, name, old, new string) {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%q is not in %s:\n%s", old, name, b)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(old), []byte(new), 1), 0o644); err != nil {
		t.Fatal(err)
	}
}
