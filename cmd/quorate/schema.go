package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/agreement"
)

// schemas are the files that a person writes and quorate has a schema of.
var schemas = map[string]func() []byte{"definition": definition.Schema, "policy": agreement.PolicySchema}

func schemaCmd(ui *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "schema [KIND]",
		Short: "Print the JSON Schema of quorate.yaml or of a policy, for editors",
		Long: `Schema prints the JSON Schema (2020-12) of quorate.yaml, or with "policy" that of
policy.yaml. Editors complete and check the files with it; quorate itself checks
more.` +
			exitStatus("printed", "", "there is no such schema, or the answer could not be written"),
		Example: `  quorate schema >quorate.schema.json
  quorate schema policy >policy.schema.json
  # first line of quorate.yaml, for editors with a YAML language server:
  # yaml-language-server: $schema=quorate.schema.json`,
		Args:      takes("[KIND]"),
		ValidArgs: []string{"definition", "policy"},
		RunE: func(cmd *cobra.Command, args []string) error {
			kind := "definition"
			if len(args) > 0 {
				kind = args[0]
			}
			schema, ok := schemas[kind]
			if !ok {
				return &usageError{err: fmt.Errorf("there is no schema %q, only %s", kind, strictyaml.Alternatives([]string{"definition", "policy"})), command: cmd.CommandPath()}
			}
			ui.answerBytes(schema())
			return nil
		},
	}
}
