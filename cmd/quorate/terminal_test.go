package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/builder/sandbox"
	"quorate.dev/lockfile/strictyaml"
)

func testTerminal() (ui *terminal, stdout, stderr *lockedBuffer) {
	stdout, stderr = &lockedBuffer{}, &lockedBuffer{}
	return &terminal{out: stdout, err: stderr, mode: "plain"}, stdout, stderr
}

func TestFinish(t *testing.T) {
	mistakes := strictyaml.Errors{
		{File: "quorate.yaml", Line: 2, Column: 3, Message: `unknown field "nam"`, Source: "  nam: x"},
		{File: "quorate.yaml", Line: 9, Column: 1, Message: "missing"},
	}
	for _, test := range []struct {
		summary string
		err     error
		code    int
		stderr  string
	}{
		{"nothing wrong", nil, 0, ""},
		{"could not tell", errors.New("no such thing"), 2, "quorate: no such thing\n"},
		{"the answer says it all", different(nil), 1, ""},
		{"different, with words", fmt.Errorf("verify: %w", different(errors.New("bad signature"))), 1, "quorate: bad signature\n"},
		{
			"a hint from the error", fmt.Errorf("build: %w", &sandbox.UnavailableError{What: "no user namespaces", Hint: "sysctl them"}), 2,
			"quorate: build: no isolation here: no user namespaces\nhint: sysctl them\n",
		},
		{
			"mistakes in a file, at the start of their lines", fmt.Errorf("cannot read: %w", &mistakes), 2,
			"quorate.yaml:2:3: unknown field \"nam\"\n   2 |   nam: x\n     |   ^\nquorate.yaml:9:1: missing\n",
		},
		{"hostile text stays text", errors.New("server says \x1b[2J\u202eevil\r\nnext"), 2, "quorate: server says \\x1b[2J\\u202eevil\nnext\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			ui, stdout, stderr := testTerminal()
			if code := exitCode(ui.finish(test.err)); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if stderr.String() != test.stderr {
				t.Errorf("standard error\n%s\nwant\n%s", stderr, test.stderr)
			}
			if stdout.String() != "" {
				t.Errorf("standard output %q", stdout)
			}
		})
	}
}

func TestAnswerThatCannotBeWritten(t *testing.T) {
	ui, _, stderr := testTerminal()
	ui.out = brokenWriter{}
	ui.answer("sha256:…")
	if code := exitCode(ui.finish(nil)); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	if want := "quorate: cannot write the answer: disk full\n"; stderr.String() != want {
		t.Errorf("got %q, want %q", stderr, want)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestPanicIsABug(t *testing.T) {
	for _, debug := range []string{"", "1"} {
		t.Setenv("QUORATE_DEBUG", debug)
		ui, _, stderr := testTerminal()
		ui.panicked("index out of range")
		got := stderr.String()
		if !strings.HasPrefix(got, "quorate: internal error: index out of range; this is a bug in quorate "+version+", please report it\n") {
			t.Errorf("got %q", got)
		}
		if trace := strings.Contains(got, "goroutine"); trace != (debug == "1") {
			t.Errorf("QUORATE_DEBUG=%q: trace %v", debug, trace)
		}
	}
}

// Every verb says what it does, shows how, and what its exit codes mean.
func TestEveryVerbIsExplained(t *testing.T) {
	ui, _, _ := testTerminal()
	seen := 0
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			look(c)
		}
		if cmd.HasSubCommands() || cmd.Hidden {
			return
		}
		seen++
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%q lacks Short, Long or Example", cmd.CommandPath())
		}
		if !strings.Contains(cmd.Long, "\n\nEXIT STATUS\n  0  ") {
			t.Errorf("%q does not say what its exit codes mean", cmd.CommandPath())
		}
		if strings.HasSuffix(cmd.Short, ".") || strings.ToUpper(cmd.Short[:1]) != cmd.Short[:1] {
			t.Errorf("%q: Short %q is not written like the others", cmd.CommandPath(), cmd.Short)
		}
		for _, line := range strings.Split(cmd.Long+"\n"+cmd.Example, "\n") {
			if len(line) > 100 {
				t.Errorf("%q: line of %d characters in its help: %q", cmd.CommandPath(), len(line), line)
			}
		}
	}
	look(newRoot(ui))
	if seen < 4 {
		t.Errorf("only %d verbs", seen)
	}
}

func TestTakes(t *testing.T) {
	for _, test := range []struct {
		names, args []string
		want        string
	}{
		{nil, nil, ""},
		{nil, []string{"x"}, `unexpected argument "x"`},
		{[]string{"NAME"}, nil, "missing argument NAME"},
		{[]string{"NAME"}, []string{"a"}, ""},
		{[]string{"NAME"}, []string{"a", "b"}, `unexpected argument "b"`},
		{[]string{"[DIR]"}, nil, ""},
		{[]string{"[DIR]"}, []string{"a", "b"}, `unexpected argument "b"`},
		{[]string{"FILE…"}, nil, "missing argument FILE…"},
		{[]string{"FILE…"}, []string{"a", "b", "c"}, ""},
		{[]string{"A", "[B…]"}, []string{"a", "b", "c"}, ""},
	} {
		got := ""
		if err := takes(test.names...)(&cobra.Command{Use: "x"}, test.args); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("takes(%q) of %q: %q, want %q", test.names, test.args, got, test.want)
		}
	}
}

var _ io.Writer = (*terminal)(nil)

func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{"30d": 720 * time.Hour, "1.5d": 36 * time.Hour, "12h30m": 750 * time.Minute, "0": 1, "0d": 1} {
		if got, err := parseAge(text); err != nil || got != want {
			t.Errorf("parseAge(%q) = %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "soon", "-1d", "-1h", "NaNd", "Infd", "1e300d", "999999h999999h", "d"} {
		if got, err := parseAge(text); err == nil {
			t.Errorf("parseAge(%q) = %s, want an error", text, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "4096": 4096, "20GB": 20e9, "1.5 GiB": 3 << 29, "1kB": 1000, "1KiB": 1024, "7B": 7, "0.1B": 1} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"lots", "-1", "0", "1PB", "GB", "NaN", "1e30", "9223372036854775807kB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}
