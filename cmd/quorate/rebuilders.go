package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/host/docker"
	"quorate.dev/rebuild/keyfile"
)

func rebuildersCmd(ui *terminal) *cobra.Command {
	return group(&cobra.Command{
		Use:   "rebuilders",
		Short: "Prepare the machines that rebuild",
		Long: `Rebuilders prepares machines that rebuild. A file of them, rebuilders.yaml, says
who is asked and where their workers run:

  rebuilders:
    - {name: me,  operator: acme,  host: {local: {}}, key: me.pub}
    - {name: ams, operator: acme,  host: {docker: {endpoint: "ssh://build@ams"}}, key: ams.pub}
    - {name: osl, operator: umbra, host: {docker: {endpoint: "tcp://osl:2376", tls: osl/}}, key: osl.pub}
    - {name: ber, operator: umbra, host: {docker: {context: berlin}}, key: ber.pub}

tls is a folder with ca.pem, cert.pem and key.pem. ssh uses your own keys and
known hosts, and the docker command on the other side.

Whoever has the socket of a Docker Engine owns its machine, and with it the key
that its workers sign with. Name as operator who holds that socket: three
engines that one person reaches are one operator's.`,
	}, rebuildersInitCmd(ui))
}

// initFlags say which engine.
type initFlags struct {
	engine   docker.Endpoint
	operator string
	dir      string
}

func rebuildersInitCmd(ui *terminal) *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init NAME",
		Short: "Make a rebuilder's key in its Docker Engine, and print the entry to enrol",
		Long: `Init has a Docker Engine make the key of the rebuilder NAME, in a volume of that
engine named quorate-key-NAME, and writes the public half to NAME.pub. The
private half never leaves the engine. It prints the entry for rebuilders.yaml. A
key that is there already is kept.` +
			exitStatus("the key is there", "", "it is not: engine not reached, no isolation, bad name"),
		Example: `  quorate rebuilders init ams --docker ssh://build@ams --operator acme
  quorate rebuilders init osl --docker tcp://osl:2376 --tls osl/
  quorate rebuilders init ber --context berlin >> rebuilders.yaml`,
		Args: takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (f.engine.Address == "") == (f.engine.Context == "") {
				return &usageError{err: errors.New("say which engine: --docker ENDPOINT or --context NAME"), command: "quorate rebuilders init"}
			}
			return initRebuilder(cmd.Context(), ui, args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.engine.Address, "docker", "", "the engine's `ENDPOINT`: unix://, tcp:// or ssh://")
	flags.StringVar(&f.engine.TLS, "tls", "", "`DIR` with ca.pem, cert.pem and key.pem, for tcp://")
	flags.StringVar(&f.engine.Context, "context", "", "the engine of the docker command's context `NAME`")
	flags.StringVar(&f.operator, "operator", "local", "who holds the engine's socket")
	flags.StringVarP(&f.dir, "output", "o", ".", "folder for NAME.pub")
	return cmd
}

func initRebuilder(ctx context.Context, ui *terminal, name string, f initFlags) error {
	if err := errors.Join(agreement.CheckName(name), agreement.CheckName(f.operator)); err != nil {
		return err
	}
	h := &docker.Host{Endpoint: f.engine}
	text, err := h.MakeKey(ctx, name)
	if err != nil {
		return err
	}
	key, err := keyfile.ParsePublic(text)
	if err != nil {
		return fmt.Errorf("docker engine %q: %w", f.engine, err)
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(f.dir, name+".pub")
	if err := key.Replace(path); err != nil {
		return err
	}
	ui.say("public key %q, of fingerprint %s; the private one stays in volume quorate-key-%s of that engine", path, key.Fingerprint(), name)
	var where []string
	for _, part := range []struct{ field, value string }{{"endpoint", f.engine.Address}, {"tls", f.engine.TLS}, {"context", f.engine.Context}} {
		if part.value != "" {
			where = append(where, fmt.Sprintf("%s: %q", part.field, part.value))
		}
	}
	ui.answer("  - {name: %q, operator: %q, host: {docker: {%s}}, key: %q}", name, f.operator, strings.Join(where, ", "), path)
	return nil
}
