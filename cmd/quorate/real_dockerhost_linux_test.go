package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestRealDockerHost rebuilds greeter on this machine and in a Docker Engine of
// the test's own, as a user does who has two rebuilders.
func TestRealDockerHost(t *testing.T) {
	w := newWorld(t)
	e := startEngine(t)
	d := &dockerRebuild{world: w, engine: e, dir: enterable(t)}
	d.enrol(t)
	before := d.there(t)
	ready := d.run(t, "rebuilders", "check", d.path("rebuilders.yaml")).stdout
	if !regexp.MustCompile(`(?m)^there +acme +docker unix:\S+ +yes +engine \S+, API 1\.\d+, kernel \S+, isolation root-map, clock off by \S+, [1-9]\d* GiB free, engine id \S+$`).MatchString(ready) {
		t.Errorf("check says\n%s", ready)
	}
	out := d.rebuild(t)
	if !strings.Contains(out.stdout, "AGREED: 2 of 2 rebuilders, of one operator") {
		t.Fatalf("no agreement:\n%s%s", out.stdout, out.stderr)
	}
	if got, want := lastDigest(t, out), w.example(t, "greeter").digest; got != want {
		t.Errorf("rebuilders agree on %s, but quorate build made %s", got, want)
	}
	if got := d.there(t); got != before {
		t.Errorf("before the rebuild the engine had\n%s\nand afterwards\n%s", before, got)
	}
	facts, here := d.facts(t, "there"), d.facts(t, "here")
	if facts["boot-id"] == "" || facts["boot-id"] != here["boot-id"] {
		t.Errorf("boot ids %q and %q do not tell that both rebuilders are one machine", facts["boot-id"], here["boot-id"])
	}
	for name, want := range map[string]string{
		// CAP_SETGID, CAP_SETUID, CAP_SETFCAP: the scripts of greeter's packages need real owners.
		"isolation-row": "root-map", "capabilities": "00000000800000c0", "seccomp": "2", "sandbox-mapping": "identity", "work-folder": "/build/job",
	} {
		if facts[name] != want {
			t.Errorf("the report says %s is %q, want %q", name, facts[name], want)
		}
	}
	t.Run("killed", d.testKilled)
}

// dockerRebuild is a folder with rebuilders.yaml: one here, one in the engine.
type dockerRebuild struct {
	*world
	engine *engine
	dir    string
}

func (d *dockerRebuild) path(name string) string { return filepath.Join(d.dir, name) }

func (d *dockerRebuild) enrol(t *testing.T) {
	t.Helper()
	d.run(t, "worker", "--make-key", d.path("here.key"))
	entry := d.run(t, "rebuilders", "init", "there", "--docker", d.engine.socket, "--operator", "acme", "--output", d.dir).stdout
	if again := d.run(t, "rebuilders", "init", "there", "--docker", d.engine.socket, "--operator", "acme", "--output", d.dir).stdout; again != entry {
		t.Errorf("the second time init printed\n%s\nand the first time\n%s", again, entry)
	}
	text := "rebuilders:\n  - {name: here, operator: acme, host: {local: {}}, key: here.pub}\n" + entry + "policy: {threshold: 2, distinct: {key: 2}}\n"
	if err := os.WriteFile(d.path("rebuilders.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command is quorate with a state folder of the test's own.
func (d *dockerRebuild) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.quorate, args...)
	cmd.Env = append(os.Environ(), "QUORATE_STORE="+d.store, "XDG_STATE_HOME="+d.path("state"))
	return cmd
}

func (d *dockerRebuild) run(t *testing.T, args ...string) command {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolTime)
	defer cancel()
	out := run(t, d.command(ctx, args...))
	if out.code != 0 {
		t.Fatalf("quorate %s: exit code %d\n%s%s", strings.Join(args, " "), out.code, out.stdout, out.stderr)
	}
	return out
}

func (d *dockerRebuild) arguments(t *testing.T) []string {
	return []string{"rebuild", d.example(t, "greeter").project, "--rebuilders-file", d.path("rebuilders.yaml"), "--results", d.path("results")}
}

func (d *dockerRebuild) rebuild(t *testing.T) command {
	t.Helper()
	return d.run(t, d.arguments(t)...)
}

// there is what the engine has, and what it has mounted.
func (d *dockerRebuild) there(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, args := range [][]string{{"ps", "--all", "--quiet"}, {"images", "--all", "--quiet", "--no-trunc"}, {"volume", "ls"}, {"network", "ls", "--no-trunc"}} {
		for line := range strings.Lines(d.engine.run(t, args...)) {
			if !strings.Contains(line, "quorate-inputs-") { // kept, as the worker's image is
				b.WriteString(line)
			}
		}
	}
	data := filepath.Join(filepath.Dir(strings.TrimPrefix(d.engine.socket, "unix://")), "data")
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, data) {
			b.WriteString(line)
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, p := range processes {
		if text, _ := os.ReadFile(p); strings.Contains(string(text), "lowerdir="+data) {
			b.WriteString("a process in a container\n")
		}
	}
	return b.String()
}

// facts are the environment in a rebuilder's report.
func (d *dockerRebuild) facts(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(d.path("results/rebuilders/" + name + "/report.intoto.json"))
	if err != nil {
		t.Fatal(err)
	}
	var envelope struct{ Payload string }
	if err := json.Unmarshal(text, &envelope); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(envelope.Payload)
	if err != nil {
		t.Fatal(err)
	}
	var statement struct {
		Predicate struct {
			RunDetails struct {
				Environment map[string]string `json:"quorate_environment"`
			}
		}
	}
	if err := json.Unmarshal(payload, &statement); err != nil {
		t.Fatal(err)
	}
	return statement.Predicate.RunDetails.Environment
}

// testKilled kills quorate while a step's packages are configured in the engine,
// and asks again.
func (d *dockerRebuild) testKilled(t *testing.T) {
	before := d.there(t)
	cmd := d.command(t.Context(), d.arguments(t)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(toolTime); ; time.Sleep(50 * time.Millisecond) {
		if id := strings.TrimSpace(d.engine.run(t, "ps", "--quiet")); id != "" {
			// The worker's own processes and the sandbox's first one.
			if top, err := exec.Command(d.engine.docker, "--host", d.engine.socket, "top", id).Output(); err == nil && strings.Contains(string(top), "quorate-sandbox init") {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no sandbox was seen in the engine")
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if d.there(t) == before {
		t.Error("nothing is left after the kill, so the rest of this test would show nothing")
	}
	d.rebuild(t)
	if got := d.there(t); got != before {
		t.Errorf("before the kill the engine had\n%s\nafter the next rebuild\n%s", before, got)
	}
}
