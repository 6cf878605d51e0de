package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// runQuorate runs the verb that args name and returns the process's exit code.
func runQuorate(ui *terminal, args []string) (code int) {
	defer func() {
		if v := recover(); v != nil {
			ui.panicked(v)
			code = exitUnknown
		}
	}()
	ctx, stop := untilInterrupted(context.Background(), ui)
	defer stop()
	root := newRoot(ui)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // whatever failed, failed because of this
	}
	return exitCode(ui.finish(err))
}

// newRoot is the command line: every verb of Quorate.
func newRoot(ui *terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "quorate",
		Short: "Build container images that others can rebuild to the last byte",
		Long: `Quorate builds container images whose every byte can be rebuilt by someone else,
and signs for them only when rebuilders got the same bytes.

A project is a folder with quorate.yaml, what it asks for, and quorate.lock,
every input of it by digest. "quorate lock" writes the second from the first.` +
			exitStatus(
				"same, agreed, verified: the verb did what it says",
				"different, disagreed, not verified",
				"could not tell: bad input, a host that does not answer, too few reports, interrupted"),
		Example: `  quorate lock                     # choose packages, write quorate.lock
  quorate build --output oci=out   # build the image, print its digest
  quorate rebuild --rebuilders 2   # build it twice, apart; sign when both agree
  quorate verify results/agreement.intoto.jsonl --policy policy.yaml`,
		SilenceUsage:  true,
		SilenceErrors: true, // runQuorate says them
	}
	root.SetOut(ui)
	root.SetErr(ui.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err: err, command: cmd.CommandPath()}
	})
	progress := root.PersistentFlags().String("progress", "auto", "how to show progress: "+strings.Join(progressModes, ", "))
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := ui.setProgress(*progress); err != nil {
			return &usageError{err: err, command: cmd.CommandPath()}
		}
		return nil
	}
	return group(root, verbs(ui)...)
}

// group makes a command of other commands. Without one of them it says which
// there are; that is no answer, and the help goes where the story goes.
func group(cmd *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(verbs...)
	cmd.Args = cobra.ArbitraryArgs // or else cobra says "unknown command" in its own words
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return &usageError{err: unknownVerb(cmd, args[0]), command: cmd.CommandPath()}
		}
		cmd.SetOut(cmd.ErrOrStderr())
		_ = cmd.Help()
		return &exitError{code: exitUnknown}
	}
	return cmd
}

func unknownVerb(cmd *cobra.Command, arg string) error {
	err := fmt.Errorf("unknown command %q for %q", arg, cmd.CommandPath())
	if near := cmd.SuggestionsFor(arg); len(near) > 0 {
		err = fmt.Errorf("%w; did you mean %q?", err, near[0])
	}
	return err
}

// takes says what a verb's arguments are called and that each must be there; a
// name in brackets may be left out, one that ends in "…" may be repeated.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		least, most := 0, len(names)
		for _, n := range names {
			if !strings.HasPrefix(n, "[") {
				least++
			}
			if strings.HasSuffix(strings.TrimSuffix(n, "]"), "…") {
				most = len(args)
			}
		}
		switch {
		case len(args) < least:
			return &usageError{err: fmt.Errorf("missing argument %s", names[len(args)]), command: cmd.CommandPath()}
		case len(args) > most:
			return &usageError{err: fmt.Errorf("unexpected argument %q", args[most]), command: cmd.CommandPath()}
		}
		return nil
	}
}

// exclude refuses two of the flags at once. (cobra has this too, in words that
// nobody understands.)
func exclude(cmd *cobra.Command, flags ...string) error {
	first := ""
	for _, name := range flags {
		switch {
		case !cmd.Flags().Changed(name):
		case first == "":
			first = name
		default:
			return &usageError{err: fmt.Errorf("--%s and --%s exclude each other", first, name), command: cmd.CommandPath()}
		}
	}
	return nil
}

// usageError is a command line that makes no sense.
type usageError struct {
	err     error
	command string // "quorate lock"
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
func (e *usageError) Hint() string  { return fmt.Sprintf("run: %s --help", e.command) }

// exitStatus is the section of a verb's help that says what its exit codes mean.
func exitStatus(zero, one, two string) string {
	var b strings.Builder
	b.WriteString("\n\nEXIT STATUS\n")
	for code, text := range []string{zero, one, two} {
		if text != "" {
			fmt.Fprintf(&b, "  %d  %s\n", code, text)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// interruptedError says that a person or a supervisor stopped us.
type interruptedError struct{ signal os.Signal }

func (e *interruptedError) Error() string { return fmt.Sprintf("interrupted (%s)", e.signal) }

// untilInterrupted returns a context that the first SIGINT or SIGTERM cancels,
// so that sandboxes, workers and temporary files are put away; a second one
// ends the process at once.
//
// SIGPIPE is caught and dropped: a reader that goes away must not kill us with
// mounts and workers left behind; the write fails instead. It is not ignored,
// because children would inherit that, and a step could tell.
func untilInterrupted(ctx context.Context, ui *terminal) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stops := make(chan os.Signal, 2)
	pipes := make(chan os.Signal, 1)
	for _, s := range stopSignals {
		if !signal.Ignored(s) { // nohup(1) ignores SIGHUP, and means it
			signal.Notify(stops, s)
		}
	}
	if len(pipeSignals) > 0 { // without any, Notify would take every signal
		signal.Notify(pipes, pipeSignals...)
	}
	go func() {
		select {
		case s := <-stops:
			signal.Stop(stops) // the next one has its default effect
			cancel(&interruptedError{signal: s})
			ui.say("quorate: stopping (%s); once more to stop at once", s)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(stops)
		cancel(nil)
	}
}

// panicked reports a defect of ours.
func (t *terminal) panicked(v any) {
	fmt.Fprintf(t.err, "quorate: internal error: %s; this is a bug in quorate %s, please report it\n", printable(fmt.Sprint(v)), version)
	if os.Getenv("QUORATE_DEBUG") == "1" {
		fmt.Fprintf(t.err, "%s", debug.Stack())
		return
	}
	fmt.Fprintln(t.err, "hint: QUORATE_DEBUG=1 shows where it happened")
}
