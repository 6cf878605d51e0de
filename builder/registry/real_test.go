package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// TestRealDistribution runs the suite against distribution, the registry that
// most others are made of: by plain HTTP, and with TLS and a password. It has no
// Referrers API.
func TestRealDistribution(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("builds a registry of somebody else's; QUORATE_REAL=1 runs it")
	}
	program := filepath.Join(t.TempDir(), "registry")
	// It is not optimised, which saves a third of the compiler's time; the standard library is, since the cache has it so.
	build := exec.Command("go", "install", "-trimpath", "-ldflags", "-s -w", "-gcflags", "all=-N -l", "-gcflags", "std=", "github.com/distribution/distribution/v3/cmd/registry@v3.1.2")
	build.Dir = t.TempDir() // outside of our module
	build.Env = append(os.Environ(), "GOBIN="+filepath.Dir(program), "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build distribution: %v\n%s", err, out)
	}
	t.Run("plain", func(t *testing.T) {
		host := distribution(t, program, "")
		c := New(Options{})
		suite(t, c, mustParse(t, host+"/some/app:v1"))
		if _, err := c.Resolve(context.Background(), mustParse(t, host+"/some/app:v1")); err != nil {
			t.Error(err)
		}
	})
	t.Run("TLS and a password", func(t *testing.T) {
		dir := t.TempDir()
		pool := certify(t, dir)
		hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "htpasswd"), fmt.Appendf(nil, "ann:%s\n", hash))
		host := distribution(t, program, fmt.Sprintf(
			", tls: {certificate: %[1]s/cert.pem, key: %[1]s/key.pem}}\nauth: {htpasswd: {realm: here, path: %[1]s/htpasswd}", dir))
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		c := New(Options{Transport: transport})
		credentialHelper(t, host, "ann", "wrong")
		images, store := makeImages(t, "amd64")
		_, err = c.PushImages(context.Background(), mustParse(t, host+"/some/app:v1"), images, store)
		wantKind(t, err, Denied, "some/app")
		if _, err := New(Options{}).Resolve(context.Background(), mustParse(t, host+"/some/app:v1")); err == nil {
			t.Error("a certificate that nobody vouches for is accepted")
		}
		credentialHelper(t, host, "ann", "secret")
		suite(t, New(Options{Transport: transport}), mustParse(t, host+"/some/app:v1"))
	})
}

// distribution starts the registry and returns its address once it answers.
// more continues the section http of its configuration.
func distribution(t *testing.T, program, more string) string {
	t.Helper()
	host := freeAddress(t)
	config := filepath.Join(t.TempDir(), "config.yml")
	write(t, config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q%s}\n", t.TempDir(), host, more))
	server := exec.Command(program, "serve", config)
	var said bytes.Buffer // read when it has ended
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if t.Failed() {
			t.Logf("the registry says\n%s", &said)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", host)
		if err == nil {
			c.Close()
			return host
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// certify writes cert.pem and key.pem for this machine, and returns who vouches for them.
func certify(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	write(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return pool
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
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
