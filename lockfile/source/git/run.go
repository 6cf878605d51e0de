package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// passed are the only variables of this machine's environment that git sees:
// where programs are, whose keys ssh may use, and how the network is reached.
var passed = []string{
	"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK",
	"https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO",
}

// constant is what git is told whatever the machine says: no configuration, no
// prompt, no replaced objects, no protocol that runs a program of the URL's choice.
var constant = []string{
	"LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=true", "SSH_ASKPASS=true",
	"GIT_ALLOW_PROTOCOL=https:ssh:file", "GIT_NO_REPLACE_OBJECTS=1", "GIT_OPTIONAL_LOCKS=0", "GIT_ATTR_NOSYSTEM=1", "GIT_NO_LAZY_FETCH=1",
	"GIT_SSH_COMMAND=ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=15",
}

// settings go on every command line, above whatever a fetched repository could say.
var settings = []string{
	"-c", "core.hooksPath=" + os.DevNull, "-c", "core.fsmonitor=false", "-c", "core.attributesFile=" + os.DevNull,
	"-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "fetch.recurseSubmodules=false", "-c", "protocol.version=2", "-c", "credential.helper=",
	"-c", "http.followRedirects=initial", "-c", "safe.bareRepository=all",
	// As for any transfer (fetch.Options.Stall): less than 1 KiB in 30 s is none.
	"-c", "http.lowSpeedLimit=1024", "-c", "http.lowSpeedTime=30",
}

// NoGitError says that this machine has no git.
type NoGitError struct{ Err error }

func (e *NoGitError) Error() string {
	return fmt.Sprintf("cannot start git, which brings git inputs: %v", e.Err)
}
func (e *NoGitError) Unwrap() error   { return e.Err }
func (e *NoGitError) Permanent() bool { return true }

// Hint says what to do.
func (e *NoGitError) Hint() string { return "install git (apt-get install git)" }

// CommandError says that git could not do what it was asked.
type CommandError struct {
	What string // "list refs of https://…"
	Text string // what git said
}

func (e *CommandError) Error() string { return fmt.Sprintf("cannot %s: %s", e.What, e.Text) }

// command returns a git command in the repository's folder.
func (r *repository) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", append(append([]string{}, settings...), args...)...)
	cmd.Dir = r.dir
	for _, name := range passed {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, constant...)
	cmd.Env = append(cmd.Env, "GIT_CEILING_DIRECTORIES="+filepath.Dir(r.dir))
	cmd.WaitDelay = 5 * time.Second // for helpers that hold the pipe after git was killed
	return cmd
}

// run runs git and returns what it printed.
func (r *repository) run(ctx context.Context, what string, args ...string) ([]byte, error) {
	cmd := r.command(ctx, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out.Bytes(), nil
	case errors.As(err, &exit):
		return nil, &CommandError{What: what, Text: lastWords(said.String())}
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrPermission):
		return nil, &NoGitError{err}
	}
	return nil, fmt.Errorf("cannot %s: %w", what, err)
}

// lastWords is what git says was wrong, without its advice: the lines that
// begin as errors do, else the last one.
func lastWords(text string) string {
	var errs []string
	last := "git ended without a word"
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		last = line
		for _, mark := range []string{"fatal: ", "error: ", "remote: ", "ssh: "} {
			if rest, ok := strings.CutPrefix(line, mark); ok && len(errs) < 4 {
				errs = append(errs, rest)
			}
		}
	}
	if len(errs) == 0 {
		return last
	}
	return strings.Join(errs, "; ")
}
