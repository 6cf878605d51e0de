package dockertest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
	"time"
)

// SSH is an OpenSSH server of a test's own, on whose other side docker finds an
// engine. The test's own ssh comes first in PATH: it knows the server by the key "hostkey", and nothing
// of the user's configuration.
type SSH struct {
	Endpoint string // ssh://USER@ADDRESS:PORT

	dir     string
	network *Network
	address string // with the port
	daemon  *exec.Cmd
}

// NewSSH makes keys and configuration; Start starts the server.
func NewSSH(t testing.TB, network *Network, address, engine string) *SSH {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &SSH{dir: t.TempDir(), network: network, address: net.JoinHostPort(address, FreePort(t))}
	s.Endpoint = "ssh://" + me.Username + "@" + s.address
	for _, name := range []string{"hostkey", "otherkey", "id"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.file(name)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	_, port, _ := net.SplitHostPort(s.address)
	s.write(t, "authorized", fmt.Sprintf("environment=%q %s", "DOCKER_HOST="+engine, s.read(t, "id.pub")), 0o600)
	s.write(t, "known", fmt.Sprintf("[%s]:%s %s", address, port, s.read(t, "hostkey.pub")), 0o600)
	// ssh reads its user's configuration from the password file's home, whatever HOME says.
	path, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "ssh", fmt.Sprintf("#!/bin/sh\nexec %s -F none -i %s -o IdentitiesOnly=yes -o UserKnownHostsFile=%s -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=yes \"$@\"\n",
		path, s.file("id"), s.file("known")), 0o755)
	if err := os.Setenv("PATH", s.dir+":"+os.Getenv("PATH")); err != nil {
		t.Fatal(err)
	}
	before := os.Getenv("PATH")[len(s.dir)+1:]
	t.Cleanup(func() { _ = os.Setenv("PATH", before) })
	return s
}

func (s *SSH) file(name string) string { return filepath.Join(s.dir, name) }

func (s *SSH) read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(s.file(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s *SSH) write(t testing.TB, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(s.file(name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// Start starts the server, which shows the host key of that name: "hostkey" or "otherkey".
func (s *SSH) Start(t testing.TB, hostKey string) {
	t.Helper()
	s.write(t, "sshd_config", fmt.Sprintf("ListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nPermitUserEnvironment yes\nPermitRootLogin yes\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n",
		s.address, s.file(hostKey), s.file("authorized")), 0o600)
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd wants it for its unprivileged part
		t.Fatal(err)
	}
	// A file, since sessions outlive the server and keep what they write to: the end
	// of a pipe would be theirs. One to an engine goes on until the engine ends when its
	// client was killed in a moment that Docker 20.10 does not expect.
	complaint, err := os.Create(s.file("sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer complaint.Close()
	s.daemon = s.network.inside("/usr/sbin/sshd", "-D", "-e", "-f", s.file("sshd_config"))
	s.daemon.Stderr = complaint
	if err := s.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.address); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not answer: %s", s.read(t, "sshd.log"))
		}
	}
}

// Stop ends the server; sessions that go on are not ended by it.
func (s *SSH) Stop() {
	_ = s.daemon.Process.Kill()
	_ = s.daemon.Wait()
}

// FreePort is a TCP port that nobody listens on.
func FreePort(t testing.TB) string {
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
