package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"
)

// The terminal policy, all of it.
//
// Standard output carries the answer and nothing else: a digest, a table, a
// schema, JSON. It is the same whether it goes to a terminal, a pipe or a file,
// and it is written when it is true, so that nobody has to take lines back.
//
// Standard error carries the story: what is being done, how far it is, warnings
// ("quorate: warning: …"), and at the end, when a verb fails, one error
// ("quorate: …") and what to do about it ("hint: …", hints.go). An error that
// points into a file begins with file:line:column, as editors like it. The
// story may be thrown away; a standard error that cannot be written to stops
// nothing. A standard output that cannot be written to is an error (exit 2),
// because then the answer was not given.
//
// Errors are for the person at the keyboard: what could not be done, to which
// named thing, what was expected and found. No names of Go types, no traces. A
// panic is a defect of ours and says so in one line; QUORATE_DEBUG=1 adds the
// trace.
//
// Whatever came from outside (names in a lock, the output of a step, an answer
// of a server) is printed without control characters, so that it cannot move
// the cursor, recolour the screen or forge a line of ours.
//
// Colour means nothing that the words do not say too. It is used only when
// standard error is a terminal, NO_COLOR is not set and TERM is not "dumb".
//
// Progress is a stream of events shown in one of three ways (progress.go), and
// nothing that takes longer than two seconds is silent. We ask questions only
// on a terminal, and only for passphrases; everything else is a flag.
//
// The exit code is the verdict, as in cmp(1): 0 same, agreed, verified; 1
// different, disagreed, not verified; 2 could not tell. Being interrupted is
// "could not tell".
type terminal struct {
	in     *os.File
	out    io.Writer
	err    io.Writer
	isTTY  bool // standard error is a terminal
	sized  bool // and it knows its size, without which there is no place for bars
	colour bool

	mu       sync.Mutex // guards what follows
	renderer renderer   // how progress is shown; nil until the first use
	mode     string     // of --progress
	outErr   error      // the first failure to write an answer
}

// newTerminal is the terminal of this process.
func newTerminal() *terminal {
	isTTY := term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb"
	columns, rows, err := term.GetSize(int(os.Stderr.Fd()))
	return &terminal{
		in:     os.Stdin,
		out:    os.Stdout,
		err:    os.Stderr,
		isTTY:  isTTY,
		sized:  isTTY && err == nil && columns > 0 && rows > 0,
		colour: isTTY && os.Getenv("NO_COLOR") == "",
		mode:   "auto",
	}
}

// Exit codes, as in cmp(1).
const (
	exitSame      = 0
	exitDifferent = 1
	exitUnknown   = 2
)

// exitError ends the process with another code than 2.
type exitError struct {
	code int
	err  error // nil when the answer says it all
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// different makes err, which may be nil, end the process with code 1: we could
// tell, and the answer is no.
func different(err error) error { return &exitError{code: exitDifferent, err: err} }

// exitCode is the process's exit code for what a verb returned.
func exitCode(err error) int {
	if err == nil {
		return exitSame
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return exitUnknown
}

// answer writes one line, or several, to standard output.
func (t *terminal) answer(format string, args ...any) {
	t.answerBytes(fmt.Appendf(nil, format+"\n", args...))
}

// answerJSON writes v to standard output as indented JSON.
func (t *terminal) answerJSON(v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.noteOutErr(err)
		return
	}
	t.answerBytes(b.Bytes())
}

// answerBytes writes b to standard output as it is.
func (t *terminal) answerBytes(b []byte) {
	_, err := t.out.Write(b)
	t.noteOutErr(err)
}

// answerWith has an answer written piece by piece. Its error is that of write, not of standard output.
func (t *terminal) answerWith(write func(io.Writer) error) error {
	out := &noted{w: t.out}
	buffered := bufio.NewWriter(out)
	err := write(buffered)
	_ = buffered.Flush() // its error is out's
	if out.err != nil {
		t.noteOutErr(out.err)
		return nil
	}
	return err
}

// noted remembers the first error of writing.
type noted struct {
	w   io.Writer
	err error
}

func (n *noted) Write(p []byte) (int, error) {
	m, err := n.w.Write(p)
	if n.err == nil {
		n.err = err
	}
	return m, err
}

// raw writes b to standard error as it is, for programs that listen there.
func (t *terminal) raw(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.err.Write(b)
}

func (t *terminal) noteOutErr(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.outErr == nil {
		t.outErr = err
	}
}

// Write makes the terminal an io.Writer for answers, for tabwriter and cobra.
func (t *terminal) Write(b []byte) (int, error) {
	t.answerBytes(b)
	return len(b), nil
}

// say tells a line of the story.
func (t *terminal) say(format string, args ...any) {
	t.line("message", "", fmt.Sprintf(format, args...))
}

// warn tells what the user should know though the work goes on.
func (t *terminal) warn(format string, args ...any) {
	t.line("warning", t.paint(yellow, "quorate: warning: "), fmt.Sprintf(format, args...))
}

// line writes text, which may be several lines, through the renderer, so that
// bars stay below it.
func (t *terminal) line(kind, prefix, text string) {
	t.show().line(kind, prefix, printable(text))
}

// fail says why a verb failed, and what to do about it.
func (t *terminal) fail(err error) {
	if e, ok := errors.AsType[*exitError](err); ok {
		if e.err == nil {
			return
		}
		err = e.err
	}
	if errors.Is(err, syscall.EPIPE) && t.outErr != nil {
		return // whoever read the answer has gone away; there is nobody to tell
	}
	if text, ok := located(err); ok {
		t.line("error", "", text)
	} else {
		t.line("error", t.paint(red, "quorate: "), err.Error())
	}
	for _, h := range hintsFor(err) {
		t.hint("%s", h)
	}
}

// hint tells what to do about something that went wrong.
func (t *terminal) hint(format string, args ...any) {
	t.line("hint", t.paint(cyan, "hint: "), fmt.Sprintf(format, args...))
}

// finish ends the showing of progress and returns the error that the process
// ends with: err, or else the failure to write an answer.
func (t *terminal) finish(err error) error {
	if err == nil || exitCode(err) != exitUnknown {
		if t.outErr != nil {
			err = fmt.Errorf("cannot write the answer: %w", t.outErr)
		}
	}
	if err != nil {
		t.fail(err)
	}
	t.mu.Lock()
	r := t.renderer
	t.mu.Unlock()
	if r != nil {
		r.close()
	}
	return err
}

// report shows an event.
func (t *terminal) report(e event) { t.show().event(e.printable()) }

// show is the renderer, made at the first use.
func (t *terminal) show() renderer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.renderer == nil {
		t.renderer = newRenderer(t.mode, t.err, t.sized)
	}
	return t.renderer
}

// Colours, by their ANSI numbers.
const (
	red    = 31
	yellow = 33
	cyan   = 36
)

func (t *terminal) paint(colour int, s string) string {
	if !t.colour {
		return s
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, s)
}

// printable is s with control characters written as Go writes them ("\x1b");
// only line feeds and tabs stay. Carriage returns at the end of a line, as
// progress of other programs leaves them, vanish.
func printable(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	clean := func(r rune) bool { return (r < ' ' && r != '\n' && r != '\t') || (0x7f <= r && r < 0xa0) || isBidi(r) }
	if strings.IndexFunc(s, clean) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !clean(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// isBidi reports whether r changes the direction of text, which can make a line
// read as another one (CVE-2021-42574).
func isBidi(r rune) bool {
	return (0x202a <= r && r <= 0x202e) || (0x2066 <= r && r <= 0x2069)
}

// askPassphrase asks for a passphrase on the terminal, without showing it.
func (t *terminal) askPassphrase(prompt string) ([]byte, error) {
	fmt.Fprint(t.err, prompt)
	p, err := term.ReadPassword(int(t.in.Fd()))
	fmt.Fprintln(t.err)
	if err != nil {
		return nil, fmt.Errorf("cannot read the passphrase: %w", err)
	}
	return p, nil
}

// canAsk reports whether somebody is there to be asked.
func (t *terminal) canAsk() bool {
	return t.isTTY && term.IsTerminal(int(t.in.Fd()))
}
