// Package external signs by running a program, so that a key may stay in a
// token, an HSM or a KMS that quorate knows nothing about.
//
// A key named "command:PROGRAM" is kept by that program; its public half lies
// beside it, in PROGRAM.pub. For every signature the program is run once,
// without arguments:
//
//	standard input   what is signed, to the last byte (DSSE's pre-authentication encoding)
//	environment      QUORATE_SHA256, its sha256 in hexadecimal, for tools that sign digests
//	                 QUORATE_KEY, the fingerprint of the key
//	standard output  the signature: ECDSA on P-256 as ASN.1 or as r and s of 32 bytes each,
//	                 or Ed25519; in bytes or in base64
//	standard error   goes to the terminal: prompts, "touch your key"
//	exit code        0 when it signed
//
// It may ask for a PIN at /dev/tty. It has two minutes. With OpenSC:
//
//	#!/bin/sh
//	printf %s "$QUORATE_SHA256" | xxd -r -p |
//	  pkcs11-tool --module "$MODULE" --sign --mechanism ECDSA --label release --pin "$PIN"
package external

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"quorate.dev/rebuild/keyfile"
)

// Prefix begins the name of a key that a program keeps.
const Prefix = "command:"

const (
	patience   = 2 * time.Minute // somebody looks for the token and types a PIN
	lastWords  = 2 * time.Second // for pipes that the program's own children hold open
	maxAnswer  = 4 << 10         // bytes; a signature has 72, in base64 96
	maxMutters = 1 << 10         // bytes of standard error that an error message quotes
)

// Named reports whether a key's name is that of a program.
func Named(key string) bool { return strings.HasPrefix(key, Prefix) }

// Error says that a program did not sign.
type Error struct {
	Program string
	Reason  string
}

func (e *Error) Error() string {
	return fmt.Sprintf("program %q did not sign: %s", e.Program, e.Reason)
}

// Open returns the signer of a key named "command:PROGRAM". stderr is where the
// program's own words go; nil for nowhere.
func Open(name string, stderr io.Writer) (keyfile.Signer, error) {
	path := strings.TrimPrefix(name, Prefix)
	if path == "" {
		return nil, fmt.Errorf("%q names no program: expected %sPROGRAM", name, Prefix)
	}
	// A bare name would be looked for in PATH; a key is a certain file.
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	public, err := keyfile.LoadPublic(path + ".pub")
	if err != nil {
		return nil, fmt.Errorf("the public half of the key that %q keeps: %w", path, err)
	}
	if _, err := exec.LookPath(path); err != nil {
		return nil, fmt.Errorf("cannot run the program that keeps the key: %w", err)
	}
	return keyfile.Elsewhere(public, &program{path: path, stderr: stderr, key: public.Fingerprint(), patience: patience}), nil
}

// program is a keyfile.Holder.
type program struct {
	path     string
	stderr   io.Writer
	key      string
	patience time.Duration
}

// Sign runs the program once. It stays in the foreground of the terminal, so
// that it can ask there; therefore only it is killed when its time is over, and
// not its children.
func (p *program) Sign(ctx context.Context, message []byte) ([]byte, error) {
	timed, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	said, mutters := &limited{most: maxAnswer}, &tail{most: maxMutters}
	cmd := exec.CommandContext(timed, p.path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(message), said, io.Writer(mutters)
	if p.stderr != nil {
		cmd.Stderr = io.MultiWriter(p.stderr, mutters)
	}
	cmd.Env = append(os.Environ(), fmt.Sprintf("QUORATE_SHA256=%x", sha256.Sum256(message)), "QUORATE_KEY="+p.key)
	cmd.WaitDelay = lastWords
	err := cmd.Run()
	fail := func(reason string) error { return &Error{Program: p.path, Reason: reason} }
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case timed.Err() != nil:
		return nil, fail(fmt.Sprintf("it took longer than %s", p.patience))
	case said.over:
		return nil, fail(fmt.Sprintf("it answered more than %d bytes, which no signature has", maxAnswer))
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return nil, fail(strings.TrimSuffix(fmt.Sprintf("%v: %s", err, mutters.lastLine()), ": "))
	case len(said.b.Bytes()) == 0:
		return nil, fail("it answered nothing")
	}
	return decode(said.b.Bytes()), nil
}

// decode takes base64 off, if it is on. No signature in bytes is base64 by
// chance: ASN.1 begins with a byte that is not, and is followed by others.
func decode(answer []byte) []byte {
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(answer))); err == nil && len(raw) >= 64 {
		return raw
	}
	return answer
}

// limited keeps the first bytes and notes when there were more.
type limited struct {
	b    bytes.Buffer
	most int
	over bool
}

func (l *limited) Write(b []byte) (int, error) {
	if l.b.Len()+len(b) > l.most {
		l.over = true
		return 0, errors.New("too much")
	}
	return l.b.Write(b)
}

// tail keeps the last bytes.
type tail struct {
	b    []byte
	most int
}

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	t.b = t.b[max(0, len(t.b)-t.most):]
	return len(b), nil
}

// lastLine is what an error message quotes, fit for a terminal.
func (t *tail) lastLine() string {
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, lines[len(lines)-1])
}
