package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/host/remote"
	"quorate.dev/rebuild/serve"
)

// certificateLife is long enough to be forgotten and short enough to be noticed:
// both sides say what to do when one is over.
const certificateLife = 2 * 365 * 24 * time.Hour

// initServe prepares this machine for quorate serve.
func initServe(ctx context.Context, ui *terminal, name string, f initFlags) error {
	hostName, port, err := net.SplitHostPort(f.serve)
	if err != nil || hostName == "" || port == "" {
		return fmt.Errorf("bad --serve %q: expected HOST:PORT, as others reach this machine", f.serve)
	}
	if err := os.MkdirAll(filepath.Join(f.dir, "tls"), 0o755); err != nil {
		return err
	}
	key, err := enrol(ctx, filepath.Join(f.dir, name+".key"))
	if err != nil {
		return fmt.Errorf("cannot make the key that reports are signed with: %w", err)
	}
	cert, err := keepCertificate(filepath.Join(f.dir, "tls"), name, []string{hostName})
	if err != nil {
		return err
	}
	file := filepath.Join(f.dir, serve.FileName)
	if made, err := writeNew(file, firstServe(name, f.operator, port), 0o644); err != nil {
		return err
	} else if made {
		ui.say("made %q: say there who may ask and what may be built, then run: quorate serve %s", file, file)
	} else {
		ui.say("%q is there already, and is left as it is", file)
	}
	ui.say("public key %q, of fingerprint %s; the private one stays here", filepath.Join(f.dir, name+".pub"), key.Fingerprint())
	ui.say("give to whoever may ask: %q, for them to put beside their rebuilders.yaml as %s/ca.pem, and %q", cert, name, filepath.Join(f.dir, name+".pub"))
	ui.answer("  - {name: %q, operator: %q, host: {remote: {endpoint: %q, tls: %q}}, key: %q}", name, f.operator, "https://"+f.serve, name, name+".pub")
	return nil
}

// firstServe is a serve.yaml that lets nobody in yet: its one submitter is a blank.
func firstServe(name, operator, port string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Who may have this machine rebuild what; see: quorate help serve
listen: "0.0.0.0:%s"
metrics: "127.0.0.1:9464"
tls: {cert: tls/cert.pem, key: tls/key.pem}
rebuilder: %q
operator: %q
key: %q
state: state
worker: {local: {}}
# quorate rebuilders certificate prints a submitter's entry; no certificate has the key 000…
submitters:
  - {name: nobody, fingerprint: "sha256:0000000000000000000000000000000000000000000000000000000000000001"}
allow:
  definitions: [greeter]
  time: 1h
  result-size: 2GiB
queue: {length: 8, parallel: 1}
keep: {results: 24h, disk: 50GiB}
`, port, name, operator, name+".key")
	return b.Bytes()
}

// keepCertificate makes cert.pem and key.pem in a folder, unless they are there.
func keepCertificate(dir, name string, hosts []string) (path string, err error) {
	path, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// An hour back, for clocks that are behind ours.
	c, err := remote.NewCertificate(name, hosts, time.Now().Add(-time.Hour), time.Now().Add(certificateLife))
	if err != nil {
		return "", err
	}
	if _, err := writeNew(key, c.Key, 0o600); err != nil {
		return "", err
	}
	_, err = writeNew(path, c.Cert, 0o644)
	return path, err
}

// writeNew writes a file that is not there, whole or not at all, and says whether it did.
func writeNew(path string, data []byte, mode fs.FileMode) (bool, error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".quorate-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return false, fmt.Errorf("cannot write %q: %w", path, err)
	}
	err = os.Link(f.Name(), path) // unlike a rename, it overwrites nothing
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

func rebuildersCertificateCmd(ui *terminal) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "certificate NAME",
		Short: "Make the certificate that services know us by, and print the entry for their serve.yaml",
		Long: `Certificate makes cert.pem and key.pem, a certificate that signs itself, in the
folder that rebuilders.yaml names as tls, and prints the entry for the submitters
of that service's serve.yaml, where NAME is what its log calls us. It is good for
two years. One that is there already is kept, and its entry printed. ca.pem comes
from the service's operator.

One certificate may be shown to many services. openssl makes them as well:

  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 730 \\
      -subj /CN=NAME -addext extendedKeyUsage=clientAuth -keyout key.pem -out cert.pem` +
			exitStatus("the certificate is there", "", "it is not: bad name, folder cannot be written"),
		Example: `  quorate rebuilders certificate acme --output sto/
  quorate rebuilders certificate acme --output sto/ | mail -s "please enrol" operator@sto.example`,
		Args: takes("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := agreement.CheckName(args[0]); err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			path, err := keepCertificate(dir, args[0], nil)
			if err != nil {
				return err
			}
			print := remote.Fingerprint(path)
			if print == "" {
				return fmt.Errorf("%q is no certificate", path)
			}
			ui.say("certificate %q; the private key beside it is for nobody else", path)
			ui.answer("  - {name: %q, fingerprint: %q}", args[0], print)
			return nil
		},
	}
	cmd.Flags().StringVarP(&dir, "output", "o", ".", "`DIR` for cert.pem and key.pem")
	return cmd
}
