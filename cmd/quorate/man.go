package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCmd writes the manual pages; for whoever packages Quorate.
func manCmd(ui *terminal) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages into a folder",
		Long:    "Man writes a manual page for every verb, quorate.1 and quorate-VERB.1, into DIR." + exitStatus("written", "", "could not be written"),
		Example: "  quorate man /usr/share/man/man1",
		Hidden:  true,
		Args:    takes("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("cannot write manual pages: %w", err)
			}
			// A fixed date: the same source gives the same pages.
			date := time.Unix(0, 0).UTC()
			root := cmd.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Title: "QUORATE", Section: "1", Source: "quorate " + version, Date: &date}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("cannot write manual pages: %w", err)
			}
			ui.say("manual pages written to %q", args[0])
			return nil
		},
	}
}
