package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/definition/draft"
)

// ignoreFile is what a local input leaves out by (package lockfile/source/local).
const ignoreFile = ".quorateignore"

func initCmd(ui *terminal) *cobra.Command {
	var o draft.Options
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a first quorate.yaml for a project",
		Long: `Init looks at a project (go.mod, Cargo.toml, package.json, requirements.txt,
meson.build, CMakeLists.txt, configure.ac, Makefile) and writes a first quorate.yaml
for it, and a .quorateignore where there is none. What a Dockerfile or a Procfile says
of the command and its ports is taken over. It runs nothing of the project
and asks no network. Read what it wrote: comments say what was assumed, and the
terminal what is missing. A quorate.yaml that is there is left alone.` +
			exitStatus("written", "", "there is a quorate.yaml already, or the project cannot be read"),
		Example: `  quorate init
  quorate init ../service --name service --suite trixie
  quorate init && quorate lock && quorate build`,
		Args: takes("[DIR]"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			return runInit(ui, dir, o)
		},
	}
	cmd.Flags().StringVar(&o.Name, "name", "", "`NAME` of the image (default: the folder's)")
	cmd.Flags().StringVar(&o.Suite, "suite", "", "`SUITE` of Debian that packages come from (default: bookworm, or trixie when the project needs a newer Node, Python or Rust)")
	return cmd
}

func runInit(ui *terminal, dir string, o draft.Options) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if o.Name == "" {
		o.Name = draft.ImageName(filepath.Base(abs))
	}
	o.Platform = "linux/" + runtime.GOARCH
	if o.Epoch = "commit"; !committed(dir) {
		o.Epoch = time.Now().UTC().Truncate(24 * time.Hour).Format(time.RFC3339)
	}
	d, err := draft.Write(os.DirFS(dir), o)
	if err != nil {
		return fmt.Errorf("cannot draft a definition for %q: %w", dir, err)
	}
	path := filepath.Join(dir, definition.FileName)
	if _, err := definition.Parse(path, d.Text); err != nil {
		return err // of --name or --suite, with their place in what would have been written
	}
	if made, err := writeNew(path, d.Text, 0o644); err != nil {
		return err
	} else if !made {
		return &existsError{path}
	}
	ui.say("%q looks like %s", dir, d.Kind)
	lacks, err := ignore(dir, d.Ignore)
	if err != nil {
		return err
	}
	if len(lacks) > 0 {
		ui.warn("%s is there already; it should leave out %s", ignoreFile, strings.Join(lacks, ", "))
	}
	for _, note := range d.Notes {
		ui.warn("%s", note)
	}
	ui.say("read %s, then run: quorate lock %s", path, dir)
	ui.answer("%s", path)
	return nil
}

// ignore writes what is to be left out of the folder; where somebody has said that
// already, it returns the lines that are not said.
func ignore(dir string, text []byte) (lacks []string, err error) {
	path := filepath.Join(dir, ignoreFile)
	if made, err := writeNew(path, text, 0o644); made || err != nil {
		return nil, err
	}
	there, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	has := strings.Fields(string(there))
	return slices.DeleteFunc(strings.Fields(string(text)), func(line string) bool { return slices.Contains(has, line) }), nil
}

// committed reports whether the folder is in a git checkout that has a commit.
func committed(dir string) bool {
	_, err := commitTime(dir)
	return err == nil
}

// existsError says that init would have to overwrite something.
type existsError struct{ Path string }

func (e *existsError) Error() string {
	return fmt.Sprintf("%q is there already, and is left as it is", e.Path)
}

func (e *existsError) Hint() string { return "delete it first to have a new one drafted" }
