package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/rebuild"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/host/docker"
	"quorate.dev/rebuild/host/remote"
	"quorate.dev/rebuild/keyfile"
	"quorate.dev/rebuild/keyfile/external"
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
    - {name: sto, operator: nordic, host: {remote: {endpoint: "https://sto:7443", tls: sto/}}, key: sto.pub}

tls is a folder with ca.pem, cert.pem and key.pem. ssh uses your own keys and
known hosts, and the docker command on the other side. remote is a machine where
its operator runs quorate serve.

Whoever has the socket of a Docker Engine owns its machine, and with it the key
that its workers sign with. Name as operator who holds that socket: three
engines that one person reaches are one operator's. Another operator takes part
with quorate serve, which gives away neither machine nor key.`,
	}, rebuildersCheckCmd(ui), rebuildersInitCmd(ui), rebuildersCertificateCmd(ui))
}

func rebuildersCheckCmd(ui *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "See whether every rebuilder is ready",
		Long: `Check asks every rebuilder of FILE, by default rebuilders.yaml, whether it is
ready: whether it can be reached and what it is, which row of isolation its
workers get, whether its key is the enrolled one, what its disk has left and how
far its clock is off. Nothing is built.` +
			exitStatus("all are ready", "", "one is not, or the file is bad"),
		Example: `  quorate rebuilders check
  quorate rebuilders check ci/rebuilders.yaml`,
		Args: takes("[FILE]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := rebuild.FileName
			if len(args) > 0 {
				path = args[0]
			}
			return checkRebuilders(cmd.Context(), ui, path)
		},
	}
}

// checked is one line of the table.
type checked struct {
	where   string
	what    string // engine and isolation, when it could be asked
	trouble string // "" when it is ready
	err     error  // what the trouble is, where it is an error
}

func (c *checked) fail(err error) { c.trouble, c.err = err.Error(), err }

func checkRebuilders(ctx context.Context, ui *terminal, path string) error {
	asked, _, err := readRebuilders(path)
	if err != nil {
		return err
	}
	m := &machine{ui: ui}
	found := make([]checked, len(asked))
	var all sync.WaitGroup
	for i, r := range asked {
		all.Go(func() {
			switch {
			case r.Docker != nil:
				found[i] = checkEngine(ctx, r)
			case r.Remote != nil:
				found[i] = checkService(ctx, r)
			default:
				found[i] = m.checkHere(r)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	bad := 0
	w := tabwriter.NewWriter(ui, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REBUILDER\tOPERATOR\tHOST\tREADY\tWHAT")
	for i, r := range asked {
		ready, what := "yes", found[i].what
		if found[i].trouble != "" {
			bad++
			ready, what = "no", found[i].trouble
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.Operator, printable(found[i].where), ready, printable(what))
	}
	_ = w.Flush() // the terminal keeps its own errors
	for i, r := range asked {
		m.hintsOf(r.Name, found[i].err)
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d rebuilders are not ready", bad, len(asked))
	}
	return nil
}

// checkHere checks a rebuilder on this machine. It reads public keys only.
func (m *machine) checkHere(r rebuild.FileRebuilder) checked {
	c := checked{where: "local"}
	s, err := m.isolate()
	if err != nil {
		c.fail(err)
		return c
	}
	if _, err := os.Stat(strings.TrimPrefix(r.KeyFile, external.Prefix)); err != nil {
		c.trouble = fmt.Sprintf("cannot find the key that it signs with: %v", err)
		return c
	}
	if key, err := keyfile.LoadPublic(publicPath(r.KeyFile)); err == nil && key != r.Key {
		c.trouble = otherKey(key, r.Key)
		return c
	}
	facts, dir := hostFacts("."), "."
	if store, err := storeDir(); err == nil {
		dir = store // it may not be there yet; then its disk is not known
	}
	free := freeAt(dir)
	if free >= 0 && free < docker.LeastFree {
		c.trouble = fmt.Sprintf("the disk of %q has %.1f GiB left, expected %d", dir, float64(free)/(1<<30), docker.LeastFree>>30)
		return c
	}
	c.what = fmt.Sprintf("mapping %s, kernel %s%s", s.Mapping(), facts["kernel"], freeText(free))
	return c
}

// freeText is what a disk has left, for a line of the table; "" when that is not known.
func freeText(free int64) string {
	if free < 0 {
		return ""
	}
	return fmt.Sprintf(", %d GiB free", free>>30)
}

func otherKey(has, enrolled keyfile.PublicKey) string {
	return fmt.Sprintf("its key is %.16s…, but %.16s… is enrolled", has.Fingerprint(), enrolled.Fingerprint())
}

// checkEngine checks a rebuilder in a Docker Engine.
func checkEngine(ctx context.Context, r rebuild.FileRebuilder) checked {
	h := &docker.Host{Endpoint: endpointOf(r.Docker)}
	c := checked{where: "docker " + h.Endpoint.String()}
	facts, err := h.Check(ctx, r.Name)
	if err != nil {
		c.fail(err)
		return c
	}
	key, err := keyfile.ParsePublic(facts.Key)
	switch {
	case err != nil:
		c.trouble = "its key is none: " + err.Error()
	case key != r.Key:
		c.trouble = otherKey(key, r.Key)
	case facts.Trouble != "":
		c.trouble = facts.Trouble
	default:
		c.what = fmt.Sprintf("engine %s, API %s, kernel %s, isolation %s, clock off by %s%s, engine id %.12s…",
			facts.Engine, facts.API, facts.Kernel, facts.Row, facts.Skew.Abs().Round(10*time.Millisecond), freeText(facts.Free), facts.ID)
	}
	return c
}

// checkService checks a rebuilder behind another operator's service.
func checkService(ctx context.Context, r rebuild.FileRebuilder) checked {
	c := checked{where: "remote " + r.Remote.Endpoint}
	asked := time.Now()
	a, err := serviceOf(r.Remote).Ask(ctx, r.Name)
	if err != nil {
		c.fail(err)
		return c
	}
	skew := a.Time.Sub(asked.Add(time.Since(asked) / 2))
	key, err := keyfile.ParsePublic([]byte(a.PublicKey))
	switch {
	case a.Rebuilder != r.Name || a.Operator != r.Operator:
		c.trouble = fmt.Sprintf("it is the rebuilder %q of operator %q", a.Rebuilder, a.Operator)
	case r.BuilderID != "" && a.BuilderID != r.BuilderID:
		c.trouble = fmt.Sprintf("its builder.id is %q", a.BuilderID)
	case err != nil:
		c.trouble = "its key is none: " + err.Error()
	case key != r.Key:
		c.trouble = otherKey(key, r.Key)
	case a.Trouble != "":
		c.trouble = a.Trouble
	case skew.Abs() > docker.MaxSkew:
		c.trouble = fmt.Sprintf("its clock is off by %s", skew.Abs().Round(time.Second))
	case a.Free >= 0 && a.Free < docker.LeastFree:
		c.trouble = fmt.Sprintf("its disk has %.1f GiB left, expected %d", float64(a.Free)/(1<<30), docker.LeastFree>>30)
	default:
		c.what = fmt.Sprintf("quorate %s, %s, kernel %s, clock off by %s, %d GiB free, %d of %d jobs; it calls us %q",
			a.Version, a.Workers, a.Kernel, skew.Abs().Round(10*time.Millisecond), a.Free>>30, a.Queue, a.QueueSize, a.Submitter)
	}
	return c
}

// serviceOf is the service of a file.
func serviceOf(r *rebuild.FileRemote) *remote.Host {
	return &remote.Host{Endpoint: r.Endpoint, TLS: r.TLS}
}

// endpointOf is where the engine of a file is.
func endpointOf(d *rebuild.FileDocker) docker.Endpoint {
	return docker.Endpoint{Address: d.Endpoint, TLS: d.TLS, Context: d.Context}
}

// initFlags say which engine, or where this machine will serve.
type initFlags struct {
	engine   docker.Endpoint
	serve    string
	operator string
	dir      string
}

func rebuildersInitCmd(ui *terminal) *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init NAME",
		Short: "Make a rebuilder's key where it will sign, and print the entry to enrol",
		Long: `Init has a Docker Engine make the key of the rebuilder NAME, in a volume of that
engine named quorate-key-NAME, and writes the public half to NAME.pub. The
private half never leaves the engine. It prints the entry for rebuilders.yaml. A
key that is there already is kept.

With --serve it prepares this machine for quorate serve: in the folder that
--output names it makes the signing key NAME.key and NAME.pub, a certificate that
signs itself (tls/cert.pem, tls/key.pem) for the host of --serve, and a first
serve.yaml. What is there already is kept. Whoever is to ask needs tls/cert.pem,
as ca.pem, NAME.pub, and the entry that is printed.` +
			exitStatus("the key is there", "", "it is not: engine not reached, no isolation, bad name"),
		Example: `  quorate rebuilders init ams --docker ssh://build@ams --operator acme
  quorate rebuilders init osl --docker tcp://osl:2376 --tls osl/
  quorate rebuilders init ber --context berlin >> rebuilders.yaml
  quorate rebuilders init sto --serve sto.example:7443 --operator nordic --output /etc/quorate`,
		Args: takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ways := 0
			for _, way := range []string{f.engine.Address, f.engine.Context, f.serve} {
				if way != "" {
					ways++
				}
			}
			if ways != 1 {
				return &usageError{err: errors.New("say which engine, --docker ENDPOINT or --context NAME, or where this machine will serve, --serve HOST:PORT"), command: "quorate rebuilders init"}
			}
			if err := errors.Join(agreement.CheckName(args[0]), agreement.CheckName(f.operator)); err != nil {
				return err
			}
			if f.serve != "" {
				return initServe(cmd.Context(), ui, args[0], f)
			}
			return initRebuilder(cmd.Context(), ui, args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.engine.Address, "docker", "", "the engine's `ENDPOINT`: unix://, tcp:// or ssh://")
	flags.StringVar(&f.engine.TLS, "tls", "", "`DIR` with ca.pem, cert.pem and key.pem, for tcp://")
	flags.StringVar(&f.engine.Context, "context", "", "the engine of the docker command's context `NAME`")
	flags.StringVar(&f.serve, "serve", "", "this machine, which will be reached at `HOST:PORT`")
	flags.StringVar(&f.operator, "operator", "local", "who holds the engine's socket, or runs this machine")
	flags.StringVarP(&f.dir, "output", "o", ".", "folder for what is made")
	return cmd
}

func initRebuilder(ctx context.Context, ui *terminal, name string, f initFlags) error {
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
