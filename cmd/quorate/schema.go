package main

import (
	"github.com/spf13/cobra"

	"quorate.dev/lockfile/definition"
)

func schemaCmd(ui *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of quorate.yaml, for editors",
		Long: `Schema prints the JSON Schema (2020-12) of quorate.yaml. Editors complete and
check a definition with it; quorate itself checks more.` +
			exitStatus("printed", "", "the answer could not be written"),
		Example: `  quorate schema >quorate.schema.json
  # first line of quorate.yaml, for editors with a YAML language server:
  # yaml-language-server: $schema=quorate.schema.json`,
		Args: takes(),
		RunE: func(*cobra.Command, []string) error {
			ui.answerBytes(definition.Schema())
			return nil
		},
	}
}
