package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"quorate.dev/builder"
	"quorate.dev/lockfile"
)

// version is Quorate's own. It is a constant and not taken from the checkout,
// so that two checkouts of the same source give the same binary.
const version = "0.1.0-dev"

// versions is what `quorate version` answers.
type versions struct {
	Version   string `json:"version"`
	Assembler int    `json:"assembler"`
	Lock      int    `json:"lock"`
	Go        string `json:"go"`
	Platform  string `json:"platform"`
}

func versionCmd(ui *terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of quorate and of the rules that decide output bytes",
		Long: `Version prints which quorate this is.

The assembler version numbers the rules that decide the bytes of an image: the
tar writer, the compressor, the file rules. A lock records it; two quorates with
the same assembler version build the same bytes from the same lock.` +
			exitStatus("always", "", "the answer could not be written"),
		Example: `  quorate version
  quorate version --json`,
		Args: takes(),
		RunE: func(*cobra.Command, []string) error {
			v := versions{
				Version:   version,
				Assembler: builder.AssemblerVersion,
				Lock:      lockfile.FormatVersion,
				Go:        runtime.Version(),
				Platform:  runtime.GOOS + "/" + runtime.GOARCH,
			}
			if asJSON {
				ui.answerJSON(v)
				return nil
			}
			ui.answer("quorate %s\nassembler %d\nlock format %d\n%s %s", v.Version, v.Assembler, v.Lock, v.Go, v.Platform)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}
