package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// sweepCmd is what a verb starts for a scratch folder of very many files, which
// nobody wants to wait for (store.Options.Leave). It has the folder's lock from
// its parent, so that until its end nobody takes the folder for a dead process's.
func sweepCmd(ui *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "sweep FOLDER LOCK",
		Short: "Remove a folder that a build no longer needs",
		Long: `Sweep removes FOLDER and then the lock file LOCK, which it holds as file 3. A
build starts it for a step that left very many files, and ends without waiting
for it. People do not type this.` +
			exitStatus("removed", "", "could not be removed; the next command that opens the store tries again"),
		Hidden: true,
		Args:   takes("FOLDER", "LOCK"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := holds(os.NewFile(3, args[1]), args[1]); err != nil {
				return fmt.Errorf("cannot remove %q: %w", args[0], err)
			}
			standBack()
			if err := (&machine{ui: ui}).remove(args[0]); err != nil {
				return fmt.Errorf("cannot remove %q: %w", args[0], err)
			}
			return os.Remove(args[1])
		},
	}
}

// holds says whether f is the open file that path names.
func holds(f *os.File, path string) error {
	open, err := f.Stat()
	if err != nil {
		return errors.New("file 3 is not the lock that it goes with")
	}
	named, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(open, named) {
		return fmt.Errorf("file 3 is not %q", path)
	}
	return nil
}
