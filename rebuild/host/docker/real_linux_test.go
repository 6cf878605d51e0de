package docker

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/rebuild/host"
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

// authority signs certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	a := &authority{}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// folder writes ca.pem, cert.pem and key.pem of a new certificate, for 127.0.0.1.
func (a *authority) folder(t *testing.T, until time.Time) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{
		"ca.pem": a.pem, "cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestRealTLS reaches an engine over TCP, with good and bad certificates, and by
// a context that the docker command made.
func TestRealTLS(t *testing.T) {
	real(t)
	ca, stranger := newAuthority(t), newAuthority(t)
	soon := time.Now().Add(time.Hour)
	server, mine := ca.folder(t, soon), ca.folder(t, soon)
	address := "tcp://127.0.0.1:" + freePort(t)
	pem := func(name string) string { return filepath.Join(server, name) }
	e := newEngine(t, "--host", address, "--tlsverify", "--tlscacert", pem("ca.pem"), "--tlscert", pem("cert.pem"), "--tlskey", pem("key.pem"))
	works(t, e, Endpoint{Address: address, TLS: mine})

	refuses(t, e, Endpoint{Address: address, TLS: ca.folder(t, time.Now().Add(-time.Hour))}, "tls: bad certificate", "openssl x509")
	refuses(t, e, Endpoint{Address: address, TLS: stranger.folder(t, soon)}, "signed by unknown authority", "openssl x509")
	refuses(t, e, Endpoint{Address: "tcp://127.0.0.1:" + freePort(t), TLS: mine}, "be reached", "is it running there?")

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
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"hostkey", "otherkey", "id"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file(name)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	public, err := os.ReadFile(file("id.pub"))
	if err != nil {
		t.Fatal(err)
	}
	hostPublic, err := os.ReadFile(file("hostkey.pub"))
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The engine that docker finds on the other side is the test's.
	write("authorized", fmt.Sprintf("environment=%q %s", "DOCKER_HOST="+e.Socket, public))
	write("known", fmt.Sprintf("[127.0.0.1]:%s %s", port, hostPublic))
	daemon := func(hostKey string) *exec.Cmd {
		t.Helper()
		write("sshd_config", fmt.Sprintf("ListenAddress 127.0.0.1:%s\nHostKey %s\nAuthorizedKeysFile %s\nPermitUserEnvironment yes\nPermitRootLogin yes\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n",
			port, file(hostKey), file("authorized")))
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd wants it for its unprivileged part
			t.Fatal(err)
		}
		var complaint bytes.Buffer
		cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", file("sshd_config"))
		cmd.Stderr = &complaint
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
				c.Close()
				return cmd
			}
			if time.Now().After(deadline) {
				t.Fatalf("sshd does not answer: %s", &complaint)
			}
		}
	}
	// ssh reads its user's configuration from the password file's home, so the test's
	// comes first in PATH.
	path, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("ssh"), []byte(fmt.Sprintf("#!/bin/sh\nexec %s -F none -i %s -o IdentitiesOnly=yes -o UserKnownHostsFile=%s -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=yes \"$@\"\n", path, file("id"), file("known"))), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	p := Endpoint{Address: "ssh://" + me.Username + "@127.0.0.1:" + port}
	sshd := daemon("hostkey")
	works(t, e, p)
	_ = sshd.Process.Kill()
	_ = sshd.Wait()
	refuses(t, e, p, "ssh to 127.0.0.1: ", "is it running there?")
	sshd = daemon("otherkey")
	refuses(t, e, p, "Host key verification failed", "ask its operator")
	_ = sshd.Process.Kill()
	_ = sshd.Wait()
}
