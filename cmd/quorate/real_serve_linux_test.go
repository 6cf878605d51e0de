package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// waitForPort waits until somebody listens: a service looks at its engine first.
func waitForPort(t *testing.T, port int) {
	t.Helper()
	for range 600 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatalf("nobody listens on %d", port)
}

// TestRealServeDocker has a service start its workers in an engine of its own
// machine: the submitter has nothing of that engine, and gets its report. Then
// the service is told to end by the signal that service managers send.
func TestRealServeDocker(t *testing.T) {
	w := theWorld(t)
	e := startEngine(t)
	dir := enterable(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	quorate := func(args ...string) command {
		cmd := exec.CommandContext(t.Context(), w.quorate, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "QUORATE_STORE="+at("store"), "XDG_STATE_HOME="+at("xdg"))
		return run(t, cmd)
	}
	port, metrics := freePort(t), freePort(t)
	write("app/index.html", "hello\n")
	write("quorate.yaml", "apiVersion: quorate/v1\nname: page\nplatforms: [linux/amd64]\nepoch: 2026-11-01T00:00:00Z\ninputs:\n  local: {app: {path: app}}\nimage:\n  copy: [{from: app, path: /, to: /srv}]\n")
	write("serve.yaml", fmt.Sprintf(`listen: "127.0.0.1:%d"
metrics: "127.0.0.1:%d"
tls: {cert: tls/cert.pem, key: tls/key.pem}
rebuilder: osl
operator: umbra
state: state
submitters: [{name: acme, certificate: osl/cert.pem}]
worker: {docker: {endpoint: %q}}
allow: {definitions: [page]}
`, port, metrics, e.socket))
	for _, args := range [][]string{
		{"lock"},
		{"rebuilders", "init", "osl", "--docker", e.socket, "--operator", "umbra"}, // only for its osl.pub
		{"rebuilders", "init", "tls", "--serve", fmt.Sprintf("127.0.0.1:%d", port)},
		{"rebuilders", "certificate", "acme", "--output", "osl"},
		{"serve", "--check"},
	} {
		if c := quorate(args...); c.code != 0 {
			t.Fatalf("quorate %s: exit code %d\n%s%s", strings.Join(args, " "), c.code, c.stdout, c.stderr)
		}
	}
	ca, err := os.ReadFile(at("tls/cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	write("osl/ca.pem", string(ca))
	write("rebuilders.yaml", fmt.Sprintf("rebuilders:\n  - {name: osl, operator: umbra, host: {remote: {endpoint: \"https://127.0.0.1:%d\", tls: osl}}, key: osl.pub}\npolicy: {threshold: 1}\n", port))
	before := e.run(t, "ps", "--all", "--quiet") + e.run(t, "volume", "ls", "--quiet", "--filter", "label=dev.quorate.owner")

	service := exec.Command(w.quorate, "serve")
	service.Dir = dir
	log, err := os.Create(at("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	service.Stderr = log
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Process.Kill() })
	waitForPort(t, metrics)
	waitForPort(t, port)
	check := quorate("rebuilders", "check")
	if !regexp.MustCompile(`(?m)^osl +umbra +remote \S+ +yes +quorate \S+, docker \S+, isolation \S+, kernel `).MatchString(check.stdout) {
		t.Errorf("check says\n%s%s", check.stdout, check.stderr)
	}
	out := quorate("rebuild", "--rebuilders-file", "rebuilders.yaml")
	if out.code != 0 || !strings.Contains(out.stdout, "AGREED: 1 of 1") {
		text, _ := os.ReadFile(at("log"))
		t.Fatalf("rebuild: exit code %d\n%s%s\nthe service's log:\n%s", out.code, out.stdout, out.stderr, text)
	}
	if built := quorate("build"); lastDigest(t, built) != lastDigest(t, out) {
		t.Errorf("the engine built %s, and quorate build %s", out.stdout, built.stdout)
	}
	if after := e.run(t, "ps", "--all", "--quiet") + e.run(t, "volume", "ls", "--quiet", "--filter", "label=dev.quorate.owner"); after != before {
		t.Errorf("the engine had\n%s\nand has\n%s", before, after)
	}
	for path, want := range map[string]string{"metrics": "quorate_serve_jobs_ended_total{outcome=\"done\"} 1\n", "healthz": "ok\n"} {
		a, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/%s", metrics, path))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(a.Body)
		a.Body.Close()
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("/%s says %s, %v; want %q", path, text, err, want)
		}
	}
	if err := service.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := service.Wait(); err != nil {
		t.Errorf("told to end, the service said %v", err)
	}
	if left, _ := os.ReadDir(at("state/jobs")); len(left) > 0 {
		t.Errorf("jobs are left: %v", left)
	}
}
