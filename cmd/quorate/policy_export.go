package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation/intoto"
	"quorate.dev/rebuild/export"
)

// exportFlags are the flags of `quorate policy export`.
type exportFlags struct {
	to      string
	output  string
	key     string
	expires string
	at      timeFlag
	pass    passphraseFlags
	asJSON  bool
}

// exporters are the tools that a policy can be written for.
var exporters = map[string]func(ctx context.Context, ui *terminal, p *agreement.Policy, f *exportFlags) (*export.Files, error){
	"kyverno": func(_ context.Context, _ *terminal, p *agreement.Policy, f *exportFlags) (*export.Files, error) {
		name := p.Name
		if name == "" {
			name = "quorate"
		}
		return export.Kyverno(p, strings.NewReplacer("_", "-", ".", "-").Replace(name), f.at.orNow())
	},
	"cosign": func(_ context.Context, _ *terminal, p *agreement.Policy, f *exportFlags) (*export.Files, error) {
		return export.Cosign(p, f.at.orNow())
	},
	"containers-policy": func(_ context.Context, _ *terminal, p *agreement.Policy, f *exportFlags) (*export.Files, error) {
		return export.Containers(p, f.at.orNow())
	},
	"in-toto": exportLayouts,
}

// exportAnswer is what `quorate policy export --json` answers.
type exportAnswer struct {
	To    string   `json:"to"`
	Files []string `json:"files"`
	Notes []string `json:"notes"` // what the export cannot say
}

func policyExportCmd(ui *terminal) *cobra.Command {
	var f exportFlags
	names := slices.Sorted(maps.Keys(exporters))
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write a policy in the words of Kyverno, cosign, in-toto or containers/image",
		Long: `Export writes into a folder what tools that people run already need to check the
same images, as far as they can; it tells what they cannot, and "quorate verify"
stays the full judge.

  kyverno            an ImageValidatingPolicy that counts rebuilders' attestations
  cosign             a shell script around cosign verify-attestation that counts them
  containers-policy  policy.json of podman, skopeo and CRI-O: the release key's signature,
                     which quorate publish puts beside images that rebuilders agreed on
  in-toto            a layout that wants so many rebuilders' links; signed with --key

Only keys that count now are written (or at --at TIME), so export again when the
policy changes or a key expires. The file names are the answer.` +
			exitStatus("written", "", "not written: a threshold that the keys cannot reach, or a policy that the tool has no words for"),
		Example: `  quorate policy export policy.yaml --to kyverno --output deploy
  quorate policy export policy.yaml --to containers-policy --output etc-containers
  quorate policy export policy.yaml --to in-toto --key release.key --expires 365d`,
		Args: takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if exporters[f.to] == nil {
				return &usageError{err: fmt.Errorf("say for what: --to %s", strictyaml.Alternatives(names)), command: cmd.CommandPath()}
			}
			if (f.to == "in-toto") != (f.key != "") {
				return &usageError{err: errors.New("--key is for --to in-toto, whose layouts are signed"), command: cmd.CommandPath()}
			}
			return exportPolicy(cmd.Context(), ui, args[0], &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "the tool: "+strings.Join(names, ", "))
	flags.StringVarP(&f.output, "output", "o", ".", "folder for the files")
	flags.StringVar(&f.key, "key", "", "sign the layout with the "+keyUse)
	flags.StringVar(&f.expires, "expires", "90d", "how long in-toto takes the layout, in days or hours")
	flags.Var(&f.at, "at", "write the keys that count at this `TIME` (default now)")
	flags.BoolVar(&f.asJSON, "json", false, "answer in JSON")
	f.pass.add(flags)
	return cmd
}

func exportPolicy(ctx context.Context, ui *terminal, path string, f *exportFlags) error {
	policy, endorsed, err := readEndorsed(path)
	if err != nil {
		return err
	}
	tellPolicy(ui, endorsed)
	files, err := exporters[f.to](ctx, ui, policy, f)
	if err != nil {
		return fmt.Errorf("cannot export %q to %s: %w", path, f.to, err)
	}
	answer := exportAnswer{To: f.to, Files: []string{}, Notes: append([]string{}, files.Notes...)}
	for _, name := range slices.Sorted(maps.Keys(files.Files)) {
		to := filepath.Join(f.output, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := replaceFile(to, files.Files[name]); err != nil {
			return err
		}
		answer.Files = append(answer.Files, to)
	}
	for _, note := range files.Notes {
		ui.say("note: %s", note)
	}
	if f.asJSON {
		ui.answerJSON(answer)
		return nil
	}
	for _, name := range answer.Files {
		ui.answer("%s", name)
	}
	return nil
}

// exportLayouts writes a layout for each rule of a policy.
func exportLayouts(ctx context.Context, ui *terminal, p *agreement.Policy, f *exportFlags) (*export.Files, error) {
	life, err := agreement.ParseAge(f.expires)
	if err != nil {
		return nil, err
	}
	owner, err := openSigner(ui, f.key, f.pass)
	if err != nil {
		return nil, err
	}
	files := &export.Files{Files: map[string][]byte{}, Notes: []string{
		"in-toto compares links with each other: hold the products that it accepts against the image's digest",
		"one rebuilder that differs refuses, whatever allow-dissent says; operators, builder ids and ages are not checked",
	}}
	for i, part := range p.Parts(f.at.orNow()) {
		layout, err := intoto.SignPolicyLayout(ctx, part.Policy, owner, f.at.orNow().Add(life))
		if err != nil {
			return nil, err
		}
		name := intoto.LayoutName
		if len(part.Images) > 0 {
			name = fmt.Sprintf("rule-%d.layout", i+1)
			files.Notes = append(files.Notes, fmt.Sprintf("%s is for %s", name, strings.Join(part.Images, ", ")))
		}
		files.Files[name] = layout
	}
	return files, nil
}
