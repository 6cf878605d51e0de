package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"quorate.dev/builder"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/source/deb"
	"quorate.dev/lockfile/strictyaml"
)

// lockAnswer is what `quorate lock --json` answers.
type lockAnswer struct {
	Lock    string            `json:"lock"`    // path
	Written bool              `json:"written"` // the file has new bytes
	Changes []lockfile.Change `json:"changes"` // from the lock that was there; never null
}

// checkAnswer is what `quorate lock --check --json` answers.
type checkAnswer struct {
	UpToDate bool     `json:"upToDate"`
	Reasons  []string `json:"reasons"` // why not; never null
}

func lockCmd(ui *terminal) *cobra.Command {
	var (
		flags       lockFlags
		check, diff bool
		why, format string
		asJSON      bool
	)
	cmd := &cobra.Command{
		Use:   "lock [DIR]",
		Short: "Choose every input of a project and write quorate.lock",
		Long: `Lock chooses every input that the definition in DIR (this folder by default) asks
for, and writes quorate.lock: each package and file by digest, with the reason
why it is there. It is the only verb that chooses. A lock that says the same
already is left as it is. Commit it beside quorate.yaml.

Packages, and source packages, come from signed Debian archives, found in this
order: --mirror, $QUORATE_DEBIAN_MIRROR, the user's configuration, this machine's
own apt configuration, the public snapshot service. Where bytes come from is not
part of the lock; what they are is. No archive may be older than the one locked before,
unless --allow-older says so.

  --check     only say whether the lock still fits the definition; no network
  --diff      choose anew and show what would change; nothing is written
  --update    choose these packages, files or other inputs anew, and what they
              need; keep the rest
  --why       show why a package, a module or an input is in the lock; no network

--format markdown answers with what changed as the body of a pull request, with
and without --diff.` +
			exitStatus(
				"locked, or the lock is up to date; with --diff: nothing would change",
				"--check: the lock does not fit; --diff: something would change; --why: not in the lock",
				"could not tell: bad definition, no such package, archive not reachable or not to be trusted"),
		Example: `  quorate lock
  quorate lock --check
  quorate lock --update openssl,libssl3
  quorate lock --diff
  quorate lock --format markdown >body.md
  quorate lock --why libgcc-s1`,
		Args: takes("[DIR]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			// What only reads takes no flags of choosing.
			for _, group := range [][]string{
				{"check", "diff", "why"},
				{"check", "update"}, {"check", "allow-older"}, {"check", "mirror"},
				{"why", "update"}, {"why", "allow-older"}, {"why", "mirror"},
				{"check", "format"}, {"why", "format"}, {"json", "format"},
			} {
				if err := exclude(cmd, group...); err != nil {
					return err
				}
			}
			if !slices.Contains(lockFormats, format) {
				return &usageError{err: fmt.Errorf("bad --format %q: expected one of %s", format, strings.Join(lockFormats, ", ")), command: "quorate lock"}
			}
			if asJSON {
				format = "json"
			}
			dir := folder(args)
			switch {
			case check:
				return runLockCheck(ui, dir, asJSON)
			case cmd.Flags().Changed("why"):
				return runLockWhy(ui, dir, why, asJSON)
			case diff:
				return runLockDiff(cmd.Context(), ui, dir, flags, format)
			default:
				return runLock(cmd.Context(), ui, dir, flags, format)
			}
		},
	}
	flags.register(cmd, false)
	cmd.Flags().BoolVar(&check, "check", false, "only say whether the lock fits the definition")
	cmd.Flags().BoolVar(&diff, "diff", false, "show what a fresh lock would change, and write nothing")
	cmd.Flags().StringVar(&why, "why", "", "show why the lock holds `NAME`: a package, a module, an input")
	cmd.Flags().StringSliceVar(&flags.update, "update", nil, "choose only `NAME,…` anew, and what they need")
	cmd.Flags().BoolVar(&flags.allowOlder, "allow-older", false, "accept archive indexes older than those of the lock")
	cmd.Flags().StringVar(&format, "format", "text", "how to say what changed: "+strings.Join(lockFormats, ", "))
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

// lockFormats are the forms in which changes are told.
var lockFormats = []string{"text", "json", "markdown"}

// runLock chooses and writes.
func runLock(ctx context.Context, ui *terminal, dir string, flags lockFlags, format string) error {
	p, fresh, err := freshLock(ctx, ui, dir, flags)
	if err != nil {
		return err
	}
	data := lockfile.Format(fresh)
	answer := lockAnswer{Lock: p.lockPath(), Written: !bytes.Equal(data, p.LockBytes), Changes: changes(p.Lock, fresh)}
	if answer.Written {
		if err := replaceFile(p.lockPath(), data); err != nil {
			return fmt.Errorf("cannot write the lock: %w", err)
		}
		ui.say("%s", summary(p.Lock, fresh, answer.Changes))
	} else {
		ui.say("%s is up to date", p.lockPath())
	}
	switch format {
	case "json":
		ui.answerJSON(answer)
	case "markdown":
		ui.answerBytes([]byte(lockfile.Markdown(answer.Changes, len(fresh.Platforms))))
	}
	return nil
}

// runLockDiff chooses and shows.
func runLockDiff(ctx context.Context, ui *terminal, dir string, flags lockFlags, format string) error {
	p, fresh, err := freshLock(ctx, ui, dir, flags)
	if err != nil {
		return err
	}
	list := changes(p.Lock, fresh)
	switch format {
	case "json":
		ui.answerJSON(list)
	case "markdown":
		ui.answerBytes([]byte(lockfile.Markdown(list, len(fresh.Platforms))))
	default:
		ui.answerBytes([]byte(lockfile.Table(list, len(fresh.Platforms))))
	}
	if bytes.Equal(lockfile.Format(fresh), p.LockBytes) {
		ui.say("nothing would change")
		return nil
	}
	ui.say("%s; nothing was written", summary(p.Lock, fresh, list))
	return different(nil)
}

// freshLock chooses every input anew. An old lock that cannot be read is
// replaced, but never one that a newer quorate wrote.
func freshLock(ctx context.Context, ui *terminal, dir string, flags lockFlags) (*project, *lockfile.Lock, error) {
	p, err := openProject(dir)
	if err != nil {
		return nil, nil, err
	}
	if p.LockErr != nil {
		if _, damaged := errors.AsType[*strictyaml.Errors](p.LockErr); !damaged || len(flags.update) > 0 {
			return nil, nil, p.LockErr
		}
		text, _ := located(p.LockErr)
		ui.say("%s", text)
		ui.warn("the lock cannot be read; everything is chosen anew, and nothing says how old the archives were")
	}
	if p.Lock != nil && p.Lock.Assembler > builder.AssemblerVersion {
		return nil, nil, &lockfile.AssemblerError{Have: p.Lock.Assembler, Want: builder.AssemblerVersion}
	}
	m, err := openMachine(ui)
	if err != nil {
		return nil, nil, err
	}
	defer m.close()
	choosing := event{Key: "choose", Text: "choose inputs"} // debEvent adds to it
	ui.report(choosing)
	fresh, err := m.resolveLock(ctx, p, flags)
	choosing.Done = true
	if err != nil {
		choosing.Note = "failed"
	}
	ui.report(choosing)
	if err != nil {
		return nil, nil, p.placed(err)
	}
	return p, fresh, nil
}

// placed says where in the definition something stands that cannot be had.
func (p *project) placed(err error) error {
	missing, ok := errors.AsType[*deb.SourceNotFoundError](err)
	if !ok {
		return err
	}
	field := "package"
	if missing.Version != "" && missing.Problem == "" {
		field = "version"
	}
	return definition.ErrorAt(filepath.Join(p.Dir, definition.FileName), p.DefinitionBytes, missing.Error(), "inputs", "sources", missing.Input, field)
}

// changes is lockfile.Diff, never nil.
func changes(old, new *lockfile.Lock) []lockfile.Change {
	if list := lockfile.Diff(old, new); list != nil {
		return list
	}
	return []lockfile.Change{}
}

// summary says in one line what a new lock brings.
func summary(old, fresh *lockfile.Lock, list []lockfile.Change) string {
	all := holdings(fresh)
	if old == nil {
		if all == "" {
			all = "no package and no file, for nothing from outside is asked for"
		}
		return "locked " + all
	}
	var parts []string
	other := len(list)
	for _, kind := range countedKinds {
		for _, part := range tallies {
			if n := countChanges(list, kind, part.is); n > 0 {
				parts = append(parts, lockfile.Count(n, kind)+" "+part.word)
				other -= n
			}
		}
	}
	if other > 0 {
		parts = append(parts, count(other, "other change"))
	}
	if len(parts) == 0 {
		parts = []string{"the same inputs, written anew"}
	}
	if all == "" {
		return strings.Join(parts, ", ")
	}
	return fmt.Sprintf("%s (%s in all)", strings.Join(parts, ", "), all)
}

// countedKinds are the kinds of change that are counted each by itself.
var countedKinds = append([]string{lockfile.ChangePackage, lockfile.ChangeFile}, lockfile.Kinds...)

// holdings counts what a lock names, "2 packages, 1 file and 3 Go modules".
func holdings(l *lockfile.Lock) string {
	byKind := map[string]int{lockfile.ChangeFile: len(l.Files)}
	for _, p := range l.Platforms {
		byKind[lockfile.ChangePackage] += len(p.Packages)
	}
	for _, in := range l.Inputs {
		switch in.Kind {
		case lockfile.KindGit, lockfile.KindImage, lockfile.KindSource: // one thing, whatever it is made of
			byKind[in.Kind]++
		default:
			for _, p := range l.Pins {
				if p.Input == in.Name {
					byKind[in.Kind]++
				}
			}
		}
	}
	var parts []string
	for _, kind := range countedKinds {
		if n := byKind[kind]; n > 0 {
			parts = append(parts, lockfile.Count(n, kind))
		}
	}
	return lockfile.Enumerate(parts)
}

// tallies are the ways in which something can change.
var tallies = []struct {
	word string
	is   func(lockfile.Change) bool
}{
	{"added", func(c lockfile.Change) bool { return c.Old == "" }},
	{"changed", func(c lockfile.Change) bool { return c.Old != "" && c.New != "" }},
	{"removed", func(c lockfile.Change) bool { return c.New == "" }},
}

func countChanges(list []lockfile.Change, kind string, is func(lockfile.Change) bool) int {
	n := 0
	for _, c := range list {
		if c.Kind == kind && is(c) {
			n++
		}
	}
	return n
}

// count is a number of things: "1 package", "2 packages".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// runLockCheck says whether the lock fits, without choosing.
func runLockCheck(ui *terminal, dir string, asJSON bool) error {
	p, err := openProject(dir)
	if err != nil {
		return err
	}
	err = p.requireLock()
	if err == nil && len(p.Lock.Inputs) > 0 {
		err = checkReads(ui, p)
	}
	reasons, told := staleReasons(err)
	if err != nil && !told {
		return err
	}
	if asJSON {
		ui.answerJSON(checkAnswer{UpToDate: err == nil, Reasons: reasons})
	}
	if err != nil {
		return different(err)
	}
	ui.say("%s is up to date", p.lockPath())
	return nil
}

// checkReads holds what the lock read of local inputs against what they are.
func checkReads(ui *terminal, p *project) error {
	m, err := openMachine(ui)
	if err != nil {
		return err
	}
	defer m.close()
	locals, err := m.packLocals(p)
	if err != nil {
		return err
	}
	for _, in := range p.Definition.Inputs.Local {
		if err := builder.ReadsOf(m.store, p.Lock, in.Name, locals[in.Name].Archive); err != nil {
			return err
		}
	}
	return nil
}

// staleReasons says why a lock does not fit, one reason a line. told is false
// when err does not say so: then nobody can tell.
func staleReasons(err error) (reasons []string, told bool) {
	reasons = []string{}
	if stale, ok := errors.AsType[*lockfile.StaleError](err); ok {
		return stale.Reasons, true
	}
	if a, ok := errors.AsType[*lockfile.AssemblerError](err); ok && a.Have > a.Want {
		return reasons, false
	} else if ok {
		return append(reasons, a.Error()), true
	}
	if _, ok := errors.AsType[*noLockError](err); ok {
		return append(reasons, err.Error()), true
	}
	if all, ok := errors.AsType[*strictyaml.Errors](err); ok { // edited by hand, or a merge left undone
		for _, e := range *all {
			reasons = append(reasons, fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message))
		}
		return reasons, true
	}
	return reasons, false
}

// runLockWhy shows the chains of needs that brought a package.
func runLockWhy(ui *terminal, dir, name string, asJSON bool) error {
	p, err := openProject(dir)
	if err != nil {
		return err
	}
	if err := p.requireLock(); err != nil {
		if p.Lock == nil {
			return err
		}
		ui.warn("this is about the lock as it is: %s", err)
	}
	chains, err := lockfile.Why(p.Lock, name)
	if err != nil && p.hasLocal(name) {
		err = fmt.Errorf("%q is a local input, which no lock holds: each build hashes what lies in its folder then", name)
	}
	if err != nil {
		return different(err)
	}
	if asJSON {
		ui.answerJSON(chains)
		return nil
	}
	for _, c := range chains {
		if len(p.Lock.Platforms) > 1 && c.Platform != "" {
			ui.answer("%s %s", c.Platform, c)
		} else {
			ui.answer("%s", c)
		}
		if strings.HasPrefix(c.Set, lockfile.KindGo+"/") && c.Reason == "" {
			ui.say("go.sum does not say what needs it; in the project's folder, run: go mod why -m %s", name)
		}
	}
	return nil
}

// hasLocal reports whether a name is that of a local input.
func (p *project) hasLocal(name string) bool {
	return slices.ContainsFunc(p.Definition.Inputs.Local, func(l definition.Local) bool { return l.Name == name })
}

// replaceFile gives a file new bytes at once: whoever reads it sees the old
// ones or the new ones, also after a power cut. A failure leaves nothing behind.
func replaceFile(path string, data []byte) error {
	return replaceWith(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// replaceWith does so for a file that is written piece by piece. What is there
// and is no file, as /dev/null and /dev/stdout are, is written to: root could
// replace it, and nothing on the machine would find it any more.
func replaceWith(path string, write func(io.Writer) error) (err error) {
	mode := fs.FileMode(0o666) // less the umask, as for any file that people write
	if info, err := os.Stat(path); err == nil {
		if !info.Mode().IsRegular() && !info.IsDir() {
			return writeInto(path, write)
		}
		mode = info.Mode().Perm()
	}
	dir := filepath.Dir(path)
	aside := filepath.Join(dir, fmt.Sprintf(".%s.%d.new", filepath.Base(path), os.Getpid()))
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(aside)
		}
	}()
	out := bufio.NewWriter(f)
	if err = write(out); err != nil {
		return err
	}
	if err = out.Flush(); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(aside, path); err != nil {
		return err
	}
	if d, err := os.Open(dir); err == nil { // not every system can sync a folder; the rename stands anyway
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

// writeInto writes to a device or a pipe.
func writeInto(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f)
	return errors.Join(write(out), out.Flush(), f.Close())
}
