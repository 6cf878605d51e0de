package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorate.dev/rebuild/host/docker/dockertest"
)

// TestRealHosts rebuilds two examples on four hosts, as a team does that has them: Docker
// Engines at a socket, over TCP with certificates in a network namespace, and over
// ssh in another, and another operator's service. All are this machine, which is noticed.
func TestRealHosts(t *testing.T) {
	w := theWorld(t)
	h := newHosts(t, w)
	ready := h.run(t, "rebuilders", "check", h.path("rebuilders.yaml")).stdout
	for _, line := range []string{
		`ams +acme +docker unix:\S+ +yes +engine \S+, API 1\.\d+, kernel \S+, isolation root-map, clock off by \S+, [1-9]\d* GiB free, engine id \S+`,
		`osl +acme +docker tcp:\S+ +yes +engine .*`, `ber +acme +docker ssh:\S+ +yes +engine .*`, `rix +umbra +remote https:\S+ +yes +quorate .*`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(ready) {
			t.Errorf("check lacks %s:\n%s", line, ready)
		}
	}
	before := h.there(t)
	for _, example := range []string{"greeter", "nginx"} {
		out := h.run(t, h.arguments(t, example, "rebuilders.yaml")...)
		if !strings.Contains(out.stdout, "AGREED: 4 of 4 rebuilders, of one operator") {
			t.Fatalf("no agreement:\n%s%s", out.stdout, out.stderr)
		}
		if got, want := lastDigest(t, out), w.example(t, example).digest; got != want {
			t.Errorf("rebuilders agree on %s, but quorate build made %s", got, want)
		}
		if want := `"ams" of acme and "rix" of umbra are one machine: both have the boot-id `; !strings.Contains(out.stderr, want) {
			t.Errorf("lacks the warning %q:\n%s", want, out.stderr)
		}
		if got := h.there(t); got != before {
			t.Errorf("before the rebuild there was\n%s\nand afterwards\n%s", before, got)
		}
	}
	engines := map[string]bool{}
	for _, name := range []string{"ams", "osl", "ber"} {
		facts := h.facts(t, name)
		engines[facts["engine-id"]] = true
		for fact, want := range map[string]string{
			// CAP_SETGID, CAP_SETUID, CAP_SETFCAP: the scripts of the packages need real owners.
			"isolation-row": "root-map", "capabilities": "00000000800000c0", "seccomp": "2", "sandbox-mapping": "identity", "work-folder": "/build/job",
		} {
			if facts[fact] != want {
				t.Errorf("the report of %s says %s is %q, want %q", name, fact, facts[fact], want)
			}
		}
	}
	// Engines before 23 take theirs from /etc/docker/key.json, so that those of one machine share it.
	if engines[""] {
		t.Errorf("engine ids are %v; one is not told", engines)
	}
	t.Run("killed", h.testKilled)
}

// hosts is a folder with rebuilders.yaml, and what it names.
type hosts struct {
	*world
	quorate string // a copy of the world's own, whose processes are told from other tests'
	engines []*dockertest.Engine
	dir     string
}

// on makes a folder of a test's own for the hosts that it has.
func (w *world) on(t *testing.T) *hosts {
	t.Helper()
	h := &hosts{world: w, dir: enterable(t)}
	h.quorate = h.path("quorate")
	must(t, "cp", w.quorate, h.quorate)
	return h
}

func newHosts(t *testing.T, w *world) *hosts {
	t.Helper()
	h := w.on(t)
	ca, soon := dockertest.NewAuthority(t), time.Now().Add(time.Hour)
	wire, tunnel := dockertest.NewNetwork(t), dockertest.NewNetwork(t)
	address := "tcp://" + wire.Address + ":2376"
	server := ca.Folder(t, soon, wire.Address)
	pem := func(name string) string { return filepath.Join(server, name) }
	h.engines = []*dockertest.Engine{
		dockertest.Start(t),
		dockertest.StartIn(t, wire, "--host", address, "--tlsverify", "--tlscacert", pem("ca.pem"), "--tlscert", pem("cert.pem"), "--tlskey", pem("key.pem")),
		dockertest.StartIn(t, tunnel),
	}
	ssh := dockertest.NewSSH(t, tunnel, tunnel.Address, h.engines[2].Socket)
	ssh.Start(t, "hostkey")
	ber := h.run(t, "rebuilders", "init", "ber", "--docker", ssh.Endpoint, "--operator", "acme", "--output", h.dir).stdout
	entries := h.run(t, "rebuilders", "init", "ams", "--docker", h.engines[0].Socket, "--operator", "acme", "--output", h.dir).stdout +
		h.run(t, "rebuilders", "init", "osl", "--docker", address, "--tls", ca.Folder(t, soon), "--operator", "acme", "--output", h.dir).stdout + ber
	again := h.run(t, "rebuilders", "init", "ams", "--docker", h.engines[0].Socket, "--operator", "acme", "--output", h.dir).stdout
	if !strings.HasPrefix(entries, again) {
		t.Errorf("the second time init printed\n%s\nand the first time\n%s", again, entries)
	}
	entries += h.serve(t)
	h.write(t, "rebuilders.yaml", "rebuilders:\n"+entries+"policy: {threshold: 4, distinct: {key: 4}}\n")
	h.write(t, "ber.yaml", "rebuilders:\n"+ber+"policy: {threshold: 1}\n")
	return h
}

// serve starts the service of another operator, and returns its entry.
func (h *hosts) serve(t *testing.T) string {
	t.Helper()
	address := "127.0.0.1:" + dockertest.FreePort(t)
	entry := h.run(t, "rebuilders", "init", "rix", "--serve", address, "--operator", "umbra", "--output", h.path("rix-machine")).stdout
	submitter := h.run(t, "rebuilders", "certificate", "acme", "--output", h.path("rix")).stdout
	for from, to := range map[string]string{"rix-machine/tls/cert.pem": "rix/ca.pem", "rix-machine/rix.pub": "rix.pub"} {
		text, err := os.ReadFile(h.path(from))
		if err != nil {
			t.Fatal(err)
		}
		h.write(t, to, string(text))
	}
	h.write(t, "rix-machine/serve.yaml", "listen: \""+address+"\"\ntls: {cert: tls/cert.pem, key: tls/key.pem}\nrebuilder: rix\noperator: umbra\nkey: rix.key\nstate: state\nsubmitters:\n"+
		submitter+"allow: {definitions: [greeter, nginx], platforms: [linux/amd64]}\n")
	cmd := h.command(context.Background(), "serve", h.path("rix-machine/serve.yaml"))
	log, err := os.Create(h.path("serve.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil || t.Failed() {
			text, _ := os.ReadFile(h.path("serve.log"))
			t.Logf("quorate serve: %v\n%s", err, text)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return entry
		}
		if time.Now().After(deadline) {
			t.Fatal("quorate serve does not listen")
		}
	}
}

func (h *hosts) path(name string) string { return filepath.Join(h.dir, name) }

func (h *hosts) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command is quorate with a state folder of the test's own.
func (h *hosts) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, h.quorate, args...)
	cmd.Env = append(os.Environ(), "QUORATE_STORE="+h.store, "XDG_STATE_HOME="+h.path("state"))
	return cmd
}

func (h *hosts) run(t *testing.T, args ...string) command {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*toolTime) // four builds of each example, on two processors
	defer cancel()
	out := run(t, h.command(ctx, args...))
	if out.code != 0 {
		t.Fatalf("quorate %s: exit code %d\n%s%s", strings.Join(args, " "), out.code, out.stdout, out.stderr)
	}
	return out
}

func (h *hosts) arguments(t *testing.T, example, file string) []string {
	return []string{"rebuild", h.example(t, example).project, "--rebuilders-file", h.path(file), "--results", h.path("results")}
}

// there is what the hosts have: containers, images, volumes, networks, mounts,
// processes, and files of jobs.
func (h *hosts) there(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, e := range h.engines {
		for _, args := range [][]string{{"ps", "--all", "--quiet"}, {"images", "--all", "--quiet", "--no-trunc"}, {"volume", "ls"}, {"network", "ls", "--no-trunc"}} {
			for line := range strings.Lines(e.Docker(t, args...)) {
				if !strings.Contains(line, "quorate-inputs-") { // kept, as the worker's image is
					b.WriteString(line)
				}
			}
		}
		for _, used := range e.Used() {
			b.WriteString(used + "\n")
		}
		for _, folder := range []string{"data/tmp", "data/containers", "data/overlay2"} {
			list, err := os.ReadDir(filepath.Join(e.Dir, folder))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range list {
				b.WriteString(folder + "/" + d.Name() + "\n")
			}
		}
	}
	for _, folder := range []string{"rix-machine/state/jobs", "rix-machine/state/workers"} {
		list, _ := os.ReadDir(h.path(folder)) // it is made for the first job, and may go with the last
		for _, d := range list {
			b.WriteString(folder + "/" + d.Name() + "\n")
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, h.dir) || strings.Contains(line, h.store) {
			b.WriteString(line)
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if program, _ := os.Readlink(p + "/exe"); program == h.quorate {
			line, _ := os.ReadFile(p + "/cmdline")
			b.WriteString("process " + strings.ReplaceAll(string(line), "\x00", " ") + "\n")
		}
	}
	return b.String()
}

// facts are the environment in a rebuilder's report.
func (h *hosts) facts(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(h.path("results/rebuilders/" + name + "/report.intoto.json"))
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

// testKilled kills quorate while a step's packages are configured in an engine, and
// asks again.
func (h *hosts) testKilled(t *testing.T) {
	before := h.there(t)
	cmd := h.command(t.Context(), h.arguments(t, "greeter", "ber.yaml")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	e := h.engines[2]
	for deadline := time.Now().Add(toolTime); ; time.Sleep(50 * time.Millisecond) {
		if id, _, _ := strings.Cut(e.Docker(t, "ps", "--quiet"), "\n"); id != "" {
			// The worker's own processes and the sandbox's first one.
			if top, err := exec.Command("docker", "--host", e.Socket, "top", id).Output(); err == nil && strings.Contains(string(top), "quorate-sandbox init") {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no sandbox was seen in the engine")
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if h.there(t) == before {
		t.Error("nothing is left after the kill, so the rest of this test would show nothing")
	}
	h.run(t, h.arguments(t, "greeter", "ber.yaml")...)
	if got := h.there(t); got != before {
		t.Errorf("before the kill there was\n%s\nafter the next rebuild\n%s", before, got)
	}
}
