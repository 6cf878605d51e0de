package external

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/rebuild/keyfile"
)

// kept writes a program that keeps a key made by openssl, and returns its name.
func kept(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, dir, "openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem")
	run(t, dir, "openssl", "ec", "-in", "key.pem", "-pubout", "-out", "sign.pub")
	path := filepath.Join(dir, "sign")
	if err := os.WriteFile(path, []byte("#!/bin/sh\ncd "+dir+"\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return Prefix + path
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// openssl signs as whoever keeps the key, in every form that is taken.
func TestSignWithOpenSSL(t *testing.T) {
	for _, test := range []struct{ summary, script string }{
		{"the message", "openssl dgst -sha256 -sign key.pem\n"},
		{"the message, in base64", "openssl dgst -sha256 -sign key.pem | base64 -w0; echo\n"},
		{"the digest", `printf "$(echo "$QUORATE_SHA256" | sed 's/../\\x&/g')" >digest; openssl pkeyutl -sign -inkey key.pem -in digest` + "\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			script := strings.ReplaceAll(test.script, `printf "$(`, `/usr/bin/printf "$(`)
			signer, err := Open(kept(t, script), nil)
			if err != nil {
				t.Fatal(err)
			}
			message := []byte(strings.Repeat("a message longer than a pipe holds ", 10_000))
			sig, err := signer.Sign(context.Background(), message)
			if err != nil {
				t.Fatal(err)
			}
			if err := signer.Public().Verify(message, sig); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSignRefuses(t *testing.T) {
	for _, test := range []struct{ summary, script, want string }{
		{"fails", "echo 'no token in slot 0' >&2; exit 3", `did not sign: exit status 3: no token in slot 0`},
		{"says nothing", "exit 0", `did not sign: it answered nothing`},
		{"says too much", "head -c 100000 /dev/zero", `did not sign: it answered more than 4096 bytes, which no signature has`},
		{"never ends", "sleep 100", `did not sign: it took longer than 500ms`},
		{"another key", "openssl ecparam -name prime256v1 -genkey -noout -out other.pem; openssl dgst -sha256 -sign other.pem", `is no signature of key `},
		{"another digest", "openssl dgst -sha512 -sign key.pem", `is no signature of key `},
		{"terminal escapes", `/usr/bin/printf '\033[31mred\a' >&2; exit 1`, `did not sign: exit status 1: [31mred`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			name := kept(t, test.script)
			path := strings.TrimPrefix(name, Prefix)
			public, err := keyfile.LoadPublic(path + ".pub")
			if err != nil {
				t.Fatal(err)
			}
			p := &program{path: path, key: public.Fingerprint(), patience: time.Minute}
			if test.summary == "never ends" {
				p.patience = 500 * time.Millisecond
			}
			begin := time.Now()
			_, err = keyfile.Elsewhere(public, p).Sign(context.Background(), []byte("x"))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	signer, err := Open(kept(t, "sleep 100"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(ctx, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("signs when cancelled: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sign")
	key, err := keyfile.Generate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Prefix, nil); err == nil || err.Error() != `"command:" names no program: expected command:PROGRAM` {
		t.Error(err)
	}
	if _, err := Open(Prefix+path, nil); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("the public half of the key that %q keeps: cannot read public key: ", path)) {
		t.Error(err)
	}
	if err := key.Public().Save(path + ".pub"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Prefix+path, nil); err == nil || !strings.HasPrefix(err.Error(), "cannot run the program that keeps the key: ") {
		t.Error(err)
	}
}

// A key in a PKCS #11 token signs, by Debian's SoftHSM and OpenSC.
func TestRealSignWithToken(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("needs softhsm2 and opensc; QUORATE_REAL=1 runs it")
	}
	const module = "/usr/lib/softhsm/libsofthsm2.so"
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	run(t, dir, "softhsm2-util", "--init-token", "--free", "--label", "quorate", "--pin", "1234", "--so-pin", "1234")
	run(t, dir, "pkcs11-tool", "--module", module, "--login", "--pin", "1234", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "release", "--id", "01")
	run(t, dir, "pkcs11-tool", "--module", module, "--read-object", "--type", "pubkey", "--id", "01", "-o", "pub.der")
	run(t, dir, "openssl", "pkey", "-pubin", "-inform", "DER", "-in", "pub.der", "-out", "sign.pub")
	script := `#!/bin/sh
cd ` + dir + `
/usr/bin/printf "$(echo "$QUORATE_SHA256" | sed 's/../\\x&/g')" >digest
pkcs11-tool --module ` + module + ` --login --pin 1234 --sign --mechanism ECDSA --id 01 -i digest -o sig >&2 && cat sig
`
	path := filepath.Join(dir, "sign")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	signer, err := Open(Prefix+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.Sign(context.Background(), []byte("what is signed"))
	if err != nil {
		t.Fatal(err)
	}
	if err := signer.Public().Verify([]byte("what is signed"), sig); err != nil {
		t.Error(err)
	}
}
