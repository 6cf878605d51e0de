package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// TestRealReadme types every command of the README's ```console blocks, in
// order, in a folder that holds a copy of the examples, and compares standard
// output and exit code with what the README shows. "…" stands for any text, on
// a line of its own for any lines.
func TestRealReadme(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("builds real images; run: make real")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Parallel() // with all else that it needs of its own: folder, store, registry
	dir := t.TempDir()
	if out, err := exec.Command("cp", "-r", "../../examples", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shell := &readmeShell{t: t, dir: dir, env: append(os.Environ(),
		"PATH="+filepath.Dir(released(t))+":"+os.Getenv("PATH"), "HOME="+dir, "XDG_STATE_HOME="+dir+"/state", "XDG_CACHE_HOME="+dir+"/cache",
		"QUORATE_STORE="+dir+"/store", "QUORATE_PASSPHRASE=correct horse battery staple")}
	shell.registry()
	shell.freshLocks()
	commands := readmeCommands(string(readme))
	if len(commands) < 10 {
		t.Fatalf("found only %d commands in the README; is ```console still how they are marked?", len(commands))
	}
	for _, c := range commands {
		shell.check(c)
	}
}

// readmeCommand is one "$ …" line and what follows it.
type readmeCommand struct {
	line string
	want []string
	exit int
}

func readmeCommands(text string) []readmeCommand {
	var out []readmeCommand
	for _, block := range strings.Split(text, "```console\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			line = strings.TrimSuffix(line, "\n")
			if cmd, ok := strings.CutPrefix(line, "$ "); ok {
				out = append(out, readmeCommand{line: cmd})
				continue
			}
			c := &out[len(out)-1]
			if n, ok := strings.CutPrefix(line, "[exit "); ok {
				c.exit, _ = strconv.Atoi(strings.TrimSuffix(n, "]"))
				continue
			}
			c.want = append(c.want, line)
		}
	}
	return out
}

type readmeShell struct {
	t        *testing.T
	dir      string
	env      []string
	relocked bool // some example has other bytes than its committed lock's
}

func (s *readmeShell) run(line string) (stdout, stderr string, exit int) {
	s.t.Helper()
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir, cmd.Env = s.dir, s.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		s.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// registry starts the registry that the README calls $REGISTRY: with TLS, in
// this process, and with the Referrers API.
func (s *readmeShell) registry() {
	quiet := ggcr.Logger(log.New(io.Discard, "", 0))
	server := httptest.NewTLSServer(ggcr.New(ggcr.WithReferrersSupport(true), quiet))
	s.t.Cleanup(server.Close)
	ca := filepath.Join(s.dir, "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, cert, 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.env = append(s.env, "REGISTRY="+server.Listener.Addr().String(), "SSL_CERT_FILE="+ca)
}

// freshLocks locks the examples anew when the archives have dropped what they
// name: the README's commands must work on that day too, with other digests. The
// index that vouched for the greeter's packages is among that; mirrors have only
// today's.
func (s *readmeShell) freshLocks() {
	for _, example := range []string{"greeter", "nginx", "flaky"} {
		before, stderr, exit := s.run("quorate build examples/" + example)
		if exit == 0 && example == "greeter" {
			_, stderr, exit = s.run("quorate archive examples/greeter --output oci=out/try && rm -r out/try")
		}
		if exit == 0 {
			continue
		}
		s.t.Logf("examples/%s cannot be built or archived from its committed lock; locking a copy afresh:\n%s", example, stderr)
		if _, stderr, exit := s.run("quorate lock examples/" + example); exit != 0 {
			s.t.Fatalf("locking %s afresh: exit %d\n%s", example, exit, stderr)
		}
		if after, _, _ := s.run("quorate build examples/" + example); after != before {
			s.relocked = true
		}
	}
}

func (s *readmeShell) check(c readmeCommand) {
	start := time.Now()
	stdout, stderr, exit := s.run(c.line)
	s.t.Logf("%6.1fs  $ %s", time.Since(start).Seconds(), c.line)
	if exit != c.exit {
		s.t.Errorf("$ %s\nexit %d, the README says %d\n%s", c.line, exit, c.exit, stderr)
	}
	want := strings.Join(c.want, "\n")
	if want != "" {
		want += "\n"
	}
	if !s.pattern(want).MatchString(stdout) {
		s.t.Errorf("$ %s\nprinted\n%s\nthe README shows\n%s\nstandard error:\n%s", c.line, stdout, want, stderr)
	}
}

var digits = regexp.MustCompile(`[0-9a-f]{12,64}`)

// pattern turns what the README shows into a regular expression.
func (s *readmeShell) pattern(want string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for line := range strings.Lines(want) {
		if strings.TrimSpace(line) == "…" {
			b.WriteString(`(.*\n)*`)
			continue
		}
		p := regexp.QuoteMeta(line)
		p = strings.ReplaceAll(p, "…", ".*")
		if s.relocked {
			p = digits.ReplaceAllString(p, "[0-9a-f]+")
		}
		b.WriteString(regexp.MustCompile(` +`).ReplaceAllString(p, " +"))
	}
	return regexp.MustCompile(b.String() + "$")
}
