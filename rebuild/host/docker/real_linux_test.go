package docker

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/docker/dockertest"
)

// orchestratorVar makes the test binary a process that starts workers which hang:
// ENDPOINT|PROGRAM|FILE, the file is made when the worker speaks.
const orchestratorVar = "DOCKER_TEST_ORCHESTRATOR"

// TestOrchestrator is that process.
func TestOrchestrator(t *testing.T) {
	parts := strings.Split(os.Getenv(orchestratorVar), "|")
	if len(parts) != 3 {
		return // the test that starts it says the rest
	}
	h := &Host{Endpoint: Endpoint{Address: parts[0]}, Executable: parts[1]}
	j := job(t, "hang")
	j.Timeout = time.Hour
	_, err := h.Start(t.Context(), j, func(host.Event) { _ = os.WriteFile(parts[2], nil, 0o644) })
	t.Fatal(err)
}

// orchestrator starts the process and waits until its worker speaks.
func orchestrator(t *testing.T, e *testEngine) *exec.Cmd {
	t.Helper()
	begun := filepath.Join(t.TempDir(), "begun")
	c := exec.Command(os.Args[0], "-test.run=^TestOrchestrator$")
	c.Env = append(os.Environ(), orchestratorVar+"="+e.Socket+"|"+e.program+"|"+begun)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(begun); err == nil {
			return c
		}
	}
	t.Fatal("its worker does not speak")
	return nil
}

// TestRealOrchestratorKilled kills one of two orchestrators: the next start removes what
// that one left, and leaves the other's alone.
func TestRealOrchestratorKilled(t *testing.T) {
	real(t)
	e := newEngine(t)
	victim, bystander := orchestrator(t, e), orchestrator(t, e)
	_ = victim.Process.Kill()
	_ = victim.Wait()
	count := func() (containers, volumes int) {
		return len(strings.Fields(e.docker(t, "ps", "--quiet"))), len(strings.Fields(e.docker(t, "volume", "ls", "--quiet", "--filter", "label="+ownerLabel)))
	}
	if c, v := count(); c != 2 || v != 2 {
		t.Errorf("after the kill there are %d containers and %d volumes, want 2 and 2", c, v)
	}
	start := func() {
		t.Helper()
		if _, err := e.host().Start(t.Context(), job(t, "ok"), nil); err != nil {
			t.Fatal(err)
		}
	}
	start()
	if c, v := count(); c != 1 || v != 1 {
		t.Errorf("after the next start there are %d containers and %d volumes, want the bystander's", c, v)
	}
	_ = bystander.Process.Kill()
	_ = bystander.Wait()
	start()
	if left := e.left(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestRealContainerKilled kills a worker's container from outside.
func TestRealContainerKilled(t *testing.T) {
	real(t)
	e := newEngine(t)
	_, err := e.host().Start(t.Context(), job(t, "hang"), func(host.Event) { e.docker(t, "kill", e.docker(t, "ps", "--quiet")) })
	var lost *host.LostError
	if !errors.As(err, &lost) || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("got %v, want a *host.LostError", err)
	}
	if left := e.left(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestRealEngineKilled kills an engine in the middle of a job, and starts it again.
func TestRealEngineKilled(t *testing.T) {
	real(t)
	e := newEngine(t)
	h := e.host()
	var warnings []string
	_, err := h.Start(t.Context(), job(t, "hang"), func(ev host.Event) {
		if ev.Kind == host.KindWarning {
			warnings = append(warnings, ev.Message)
			return
		}
		e.Crash(t)
	})
	var lost *host.LostError
	if !errors.As(err, &lost) || !strings.Contains(err.Error(), "docker engine ") {
		t.Errorf("got %v, want a *host.LostError", err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "cannot remove a worker's container") {
		t.Errorf("warnings %q", warnings)
	}
	if _, err := e.host().Start(t.Context(), job(t, "ok"), nil); err == nil || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("while the engine is down: %v", err)
	}
	e.Again(t)
	if _, err := h.Start(t.Context(), job(t, "ok"), nil); err != nil {
		t.Fatal(err)
	}
	if left := e.left(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestRealDiskFull gives an engine a disk that the worker's image does not fit on.
func TestRealDiskFull(t *testing.T) {
	real(t)
	e := newEngine(t)
	e.Stop(t)
	data := filepath.Join(e.Dir, "data")
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", data).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		e.Stop(t)
		if out, err := exec.Command("umount", data).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	e.Again(t)
	_, err := e.host().Start(t.Context(), job(t, "ok"), nil)
	var failed *EngineError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(failed.Hint(), "make room") {
		t.Errorf("got %v, want an *EngineError", err)
	}
}

// TestRealKey makes a key twice, as the user of every row.
func TestRealKey(t *testing.T) {
	real(t)
	e := newEngine(t)
	h := e.host()
	for _, want := range []string{"made\n", "there already\n"} {
		if got, err := h.MakeKey(t.Context(), "osl"); err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	if got := e.docker(t, "volume", "inspect", "--format", `{{index .Labels "dev.quorate.key"}}`, "quorate-key-osl"); got != "osl" {
		t.Errorf("the key's volume is labelled %q", got)
	}
	if left := e.left(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// works starts a worker at an endpoint.
func works(t *testing.T, e *testEngine, p Endpoint) {
	t.Helper()
	h := &Host{Endpoint: p, Executable: e.program}
	var spoke int
	if _, err := h.Start(t.Context(), job(t, "ok"), func(host.Event) { spoke++ }); err != nil || spoke != 1 {
		t.Errorf("%s: %d events, %v", p, spoke, err)
	}
	if left := e.left(t); len(left) > 0 {
		t.Errorf("%s: left behind: %q", p, left)
	}
	h.engine.close()
}

// refuses expects that an engine cannot be reached, and why.
func refuses(t *testing.T, e *testEngine, p Endpoint, why, hint string) {
	t.Helper()
	_, err := (&Host{Endpoint: p, Executable: e.program}).Start(t.Context(), job(t, "ok"), nil)
	var failed *EngineError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), why) || !strings.Contains(failed.Hint(), hint) {
		t.Errorf("%s: got %v, want an *EngineError with %q and the hint %q", p, err, why, hint)
	}
}

// TestRealTLS reaches an engine over TCP, with good and bad certificates, and by
// a context that the docker command made.
func TestRealTLS(t *testing.T) {
	real(t)
	ca, stranger := dockertest.NewAuthority(t), dockertest.NewAuthority(t)
	soon := time.Now().Add(time.Hour)
	server, mine := ca.Folder(t, soon), ca.Folder(t, soon)
	address := "tcp://127.0.0.1:" + dockertest.FreePort(t)
	pem := func(name string) string { return filepath.Join(server, name) }
	e := newEngine(t, "--host", address, "--tlsverify", "--tlscacert", pem("ca.pem"), "--tlscert", pem("cert.pem"), "--tlskey", pem("key.pem"))
	works(t, e, Endpoint{Address: address, TLS: mine})

	refuses(t, e, Endpoint{Address: address, TLS: ca.Folder(t, time.Now().Add(-time.Hour))}, "tls: bad certificate", "openssl x509")
	refuses(t, e, Endpoint{Address: address, TLS: stranger.Folder(t, soon)}, "signed by unknown authority", "openssl x509")
	refuses(t, e, Endpoint{Address: "tcp://127.0.0.1:" + dockertest.FreePort(t), TLS: mine}, "be reached", "is it running there?")

	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	cmd := exec.Command("docker", "context", "create", "osl", "--docker",
		fmt.Sprintf("host=%s,ca=%s,cert=%s,key=%s", address, filepath.Join(mine, "ca.pem"), filepath.Join(mine, "cert.pem"), filepath.Join(mine, "key.pem")))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	works(t, e, Endpoint{Context: "osl"})
}

// TestRealSSH reaches an engine through an OpenSSH server of the test's own.
func TestRealSSH(t *testing.T) {
	real(t)
	e := newEngine(t)
	ssh := dockertest.NewSSH(t, nil, "127.0.0.1", e.Socket)
	ssh.Start(t, "hostkey")
	p := Endpoint{Address: ssh.Endpoint}
	works(t, e, p)
	ssh.Stop()
	refuses(t, e, p, "ssh to 127.0.0.1: ", "is it running there?")
	ssh.Start(t, "otherkey")
	refuses(t, e, p, "Host key verification failed", "ask its operator")
}

// TestRealNetworkCut pulls the plug of an engine's network in the middle of sending
// inputs, and again in the middle of the job, and puts it back.
func TestRealNetworkCut(t *testing.T) {
	real(t)
	network := dockertest.NewNetwork(t)
	ca, soon := dockertest.NewAuthority(t), time.Now().Add(time.Hour)
	server := ca.Folder(t, soon, network.Address)
	pem := func(name string) string { return filepath.Join(server, name) }
	address := "tcp://" + network.Address + ":2376"
	e := newEngineIn(t, network, "--host", address, "--tlsverify", "--tlscacert", pem("ca.pem"), "--tlscert", pem("cert.pem"), "--tlskey", pem("key.pem"))
	cut := func() {
		network.Cut(t)
		time.AfterFunc(3*time.Second, func() { network.Heal(t) })
	}

	// Random bytes, so that nothing on the way makes them fewer.
	inputs := blobStore(t)
	lock := &lockfile.Lock{Format: lockfile.FormatVersion, Assembler: 1, Epoch: time.Unix(1793491200, 0).UTC(),
		Platforms: []lockfile.Platform{{Platform: definition.Platform{OS: "linux", Architecture: "amd64"}}}}
	for i := range 4 {
		blob := make([]byte, 16<<20)
		if _, err := rand.Read(blob); err != nil {
			t.Fatal(err)
		}
		d := digest.Of(blob)
		if err := inputs.Put(bytes.NewReader(blob), d, int64(len(blob))); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint("f", i)
		lock.Files = append(lock.Files, lockfile.File{Name: name, URL: "https://files.example/f", Size: int64(len(blob)), SHA256: d})
		lock.Requests.Files = append(lock.Requests.Files, lockfile.FileRequest{Name: name, URL: "https://files.example/f"})
	}
	j := job(t, "ok")
	j.InputStore, j.Lock = inputs.Dir(), lockfile.Format(lock)
	h := &Host{Endpoint: Endpoint{Address: address, TLS: ca.Folder(t, soon)}, Executable: e.program}
	sent, cuts := int64(0), 0
	_, err := h.Start(t.Context(), j, func(ev host.Event) {
		switch {
		case ev.Phase == "send":
			if sent = ev.Current; cuts == 0 {
				cuts++
				cut()
			}
		case ev.Kind == host.KindPhase && cuts == 1:
			cuts++
			cut()
		}
	})
	if err != nil || sent != 64<<20 || cuts != 2 {
		t.Errorf("%v; sent %d bytes, cut %d times", err, sent, cuts)
	}
	if left := e.left(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	h.engine.close()

	// While it is cut, the engine cannot be reached.
	network.Cut(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := h.Check(ctx, "osl"); err == nil {
		t.Error("an engine was reached over a line that is cut")
	}
	network.Heal(t)
}
