package registry

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestRealDistribution runs the suite against distribution, the registry that
// most others are made of. It has no Referrers API.
func TestRealDistribution(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("builds a registry of somebody else's; QUORATE_REAL=1 runs it")
	}
	program := filepath.Join(t.TempDir(), "registry")
	build := exec.Command("go", "install", "github.com/distribution/distribution/v3/cmd/registry@v3.1.2")
	build.Dir = t.TempDir() // outside of our module
	build.Env = append(os.Environ(), "GOBIN="+filepath.Dir(program), "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build distribution: %v\n%s", err, out)
	}
	host := freeAddress(t)
	config := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", t.TempDir(), host)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(program, "serve", config)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", host)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	c := New(Options{})
	suite(t, c, mustParse(t, host+"/some/app:v1"))
	if _, err := c.Resolve(context.Background(), mustParse(t, host+"/some/app:v1")); err != nil {
		t.Error(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
