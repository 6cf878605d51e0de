package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quorate.dev/rebuild/keyfile"
	"quorate.dev/rebuild/keyfile/external"
)

func keyCmd(ui *terminal) *cobra.Command {
	return group(&cobra.Command{
		Use:   "key",
		Short: "Make and show the keys that sign reports and agreements",
		Long: `Key makes and shows the keys that sign reports and agreements: ECDSA on P-256, as
PEM files. A key's identity is its fingerprint, the sha256 of the public key in
DER; a policy names public key files, and two names for one key count once.

A key may also stay in a token, an HSM or a KMS: --key command:PROGRAM runs PROGRAM
for each signature. What is signed is on its standard input, the sha256 of that in
$QUORATE_SHA256; it writes the signature to standard output (ECDSA on P-256 as
ASN.1 or as r and s, or Ed25519; in bytes or base64). The public half lies beside
it, in PROGRAM.pub.`,
	}, keyGenerateCmd(ui), keyShowCmd(ui))
}

// shownKey is what the key verbs answer.
type shownKey struct {
	Private     string `json:"private,omitempty"` // path
	Public      string `json:"public,omitempty"`  // path
	Fingerprint string `json:"fingerprint"`
	Encrypted   bool   `json:"encrypted,omitempty"`
}

func keyGenerateCmd(ui *terminal) *cobra.Command {
	var (
		dir    string
		asJSON bool
		pass   passphraseFlags
	)
	cmd := &cobra.Command{
		Use:   "generate NAME",
		Short: "Make a key: NAME.key to sign with, NAME.pub to verify with",
		Long: `Generate makes a key pair: NAME.key, of mode 0600, and NAME.pub. It prints the
key's fingerprint. Files that exist are left alone, and that is an error: a lost
key cannot be made again.

The private key is encrypted when there is a passphrase: from the file
descriptor --passphrase-fd, else from $QUORATE_PASSPHRASE, else asked for, twice,
when a person sits at the terminal. An empty one means none.` +
			exitStatus("the key was made", "", "it was not: bad name, file exists, disk"),
		Example: `  quorate key generate release
  quorate key generate ci --output keys --passphrase-fd 3 3<passphrase.txt`,
		Args: takes("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			k, err := generateKey(ui, args[0], dir, pass)
			if err != nil {
				return err
			}
			ui.say("private key %q: sign with it, show it to nobody", k.Private)
			ui.say("public key %q: give it to those who verify", k.Public)
			if asJSON {
				ui.answerJSON(k)
				return nil
			}
			ui.answer("%s", k.Fingerprint)
			return nil
		},
	}
	cmd.Flags().StringVarP(&dir, "output", "o", ".", "folder for the two files")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	pass.add(cmd.Flags())
	return cmd
}

// keyName is what a key may be called: it becomes a file name on every system.
var keyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func generateKey(ui *terminal, name, dir string, pass passphraseFlags) (*shownKey, error) {
	if !keyName.MatchString(name) {
		return nil, fmt.Errorf("bad key name %q: expected at most 64 letters, digits, %q, beginning with a letter or digit (use --output for the folder)", name, "._-")
	}
	k := &shownKey{Private: filepath.Join(dir, name+".key"), Public: filepath.Join(dir, name+".pub")}
	// Before asking for a passphrase, and so that a private key is not made
	// beside somebody else's public one.
	for _, path := range []string{k.Private, k.Public} {
		if _, err := os.Lstat(path); err == nil {
			return nil, &keyfile.ExistsError{Path: path}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot make key: %w", err)
		}
	}
	secret, err := pass.forNew(ui)
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Generate()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make key: %w", err)
	}
	if err := key.Save(k.Private, secret); err != nil {
		return nil, err
	}
	if err := key.Public().Save(k.Public); err != nil {
		// Half a pair would stand in the way of the next try.
		return nil, errors.Join(err, os.Remove(k.Private))
	}
	k.Fingerprint, k.Encrypted = key.Public().Fingerprint(), len(secret) > 0
	if !k.Encrypted {
		ui.warn("%q is not encrypted; whoever can read it can sign with it", k.Private)
	}
	return k, nil
}

func keyShowCmd(ui *terminal) *cobra.Command {
	var (
		asPEM, asJSON bool
		pass          passphraseFlags
	)
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Print the fingerprint of a key, or its public half",
		Long: `Show prints the fingerprint of a public or private key file: the sha256 of the
public key in DER, which is what reports, verdicts and error messages say.` +
			exitStatus("shown", "", "the file is not a key, or cannot be opened"),
		Example: `  quorate key show release.pub
  quorate key show release.key --pem >release.pub`,
		Args: takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := exclude(cmd, "pem", "json"); err != nil {
				return err
			}
			public, err := publicHalf(ui, args[0], pass)
			switch {
			case err != nil:
				return err
			case asJSON:
				ui.answerJSON(shownKey{Fingerprint: public.Fingerprint()})
			case asPEM:
				ui.answerBytes(public.PEM())
			default:
				ui.answer("%s", public.Fingerprint())
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asPEM, "pem", false, "print the public key as PEM")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	pass.add(cmd.Flags())
	return cmd
}

// publicHalf reads the public key of a file that may hold either half.
func publicHalf(ui *terminal, path string, pass passphraseFlags) (keyfile.PublicKey, error) {
	if external.Named(path) {
		signer, err := external.Open(path, ui.err)
		if err != nil {
			return keyfile.PublicKey{}, err
		}
		return signer.Public(), nil
	}
	data, err := readSmallFile(path, largestKey)
	if err != nil {
		return keyfile.PublicKey{}, fmt.Errorf("cannot read key: %w", err)
	}
	if !bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return keyfile.LoadPublic(path)
	}
	key, err := keyfile.Load(path, pass.forOpening(ui, path))
	if err != nil {
		return keyfile.PublicKey{}, err
	}
	return key.Public(), nil
}

// openSigner opens the key that --key names: a private key file, or
// "command:PROGRAM" for one that a program keeps.
func openSigner(ui *terminal, name string, pass passphraseFlags) (keyfile.Signer, error) {
	if external.Named(name) {
		return external.Open(name, ui.err)
	}
	key, err := keyfile.Load(name, pass.forOpening(ui, name))
	if err != nil {
		return nil, err // and no Signer that holds a nil Key
	}
	return key, nil
}

// keyUse is the help of --key wherever something is signed.
const keyUse = "private key in `FILE`, or command:PROGRAM for one that a program keeps"

// largestKey bounds a key file, which has less than 1 KiB.
const largestKey = 64 << 10

// readSmallFile reads a file that a person wrote, up to limit bytes. Whatever
// is larger is not what was meant: a wrong path, or a trap.
func readSmallFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%q is larger than %s, the most that is read here", path, size(limit))
	}
	return data, nil
}

// passphraseFlags say where a passphrase comes from, the first of these: a file
// descriptor, the environment, the person at the terminal.
type passphraseFlags struct {
	fd int // -1 when not given
}

// passphraseVar names the environment variable that holds a passphrase.
const passphraseVar = "QUORATE_PASSPHRASE"

// maxPassphrase bounds what is read from a descriptor; nobody types 4 KiB.
const maxPassphrase = 4 << 10

func (p *passphraseFlags) add(flags *pflag.FlagSet) {
	flags.IntVar(&p.fd, "passphrase-fd", -1, "read the key's passphrase from this file descriptor")
}

// given is the passphrase that needs no asking.
func (p passphraseFlags) given() (secret []byte, ok bool, err error) {
	if p.fd < 0 {
		env, ok := os.LookupEnv(passphraseVar)
		return []byte(env), ok, nil
	}
	f := os.NewFile(uintptr(p.fd), "passphrase")
	if f == nil {
		return nil, false, fmt.Errorf("cannot read the passphrase: there is no file descriptor %d", p.fd)
	}
	defer f.Close()
	secret, err = io.ReadAll(io.LimitReader(f, maxPassphrase+1))
	if err != nil {
		return nil, false, fmt.Errorf("cannot read the passphrase from file descriptor %d: %w", p.fd, errors.Unwrap(err))
	}
	if len(secret) > maxPassphrase {
		return nil, false, fmt.Errorf("the passphrase on file descriptor %d is longer than %d bytes", p.fd, maxPassphrase)
	}
	return bytes.TrimRight(secret, "\r\n"), true, nil
}

// forNew returns the passphrase for a new key, asking twice; empty for none.
func (p passphraseFlags) forNew(ui *terminal) ([]byte, error) {
	secret, ok, err := p.given()
	if ok || err != nil || !ui.canAsk() {
		return secret, err
	}
	first, err := ui.askPassphrase("Passphrase for the new key (empty for none): ")
	if err != nil || len(first) == 0 {
		return nil, err
	}
	second, err := ui.askPassphrase("The same again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passphrases differ; no key was made")
	}
	return first, nil
}

// forOpening returns what keyfile.Load asks for the passphrase of the key at path.
func (p passphraseFlags) forOpening(ui *terminal, path string) func() ([]byte, error) {
	return func() ([]byte, error) {
		secret, ok, err := p.given()
		if ok || err != nil {
			return secret, err
		}
		if !ui.canAsk() {
			return nil, keyfile.ErrNoPassphrase
		}
		return ui.askPassphrase(fmt.Sprintf("Passphrase for %q: ", path))
	}
}
