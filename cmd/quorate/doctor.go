package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"quorate.dev/builder/sandbox"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/source/cargo"
	"quorate.dev/lockfile/source/deb"
	"quorate.dev/lockfile/source/npm"
	"quorate.dev/lockfile/source/python"
)

// finding is what doctor says of one thing.
type finding struct {
	Name   string `json:"name"`         // "isolation"
	Status string `json:"status"`       // one of the constants below
	Found  string `json:"found"`        // or why not
	Do     string `json:"do,omitempty"` // a line for each thing that may help
}

const (
	healthy  = "ok"
	limited  = "limited"  // works, but not for everything
	optional = "optional" // is not there, and only some projects need it
	lacking  = "lacking"  // is not there, and is needed
)

func doctorCmd(ui *terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [DIR]",
		Short: "Say what this machine lacks for building",
		Long: `Doctor looks at this machine and says what is there for building and what is
not, with what to do: isolation, the store and its disk, where packages come from,
git, emulators of other architectures. With DIR it looks only for what the project there
needs, and what is missing counts. It makes one empty sandbox, and uses no network;
"quorate rebuilders check" asks other hosts.` +
			exitStatus("all that is needed is there", "something that is needed is missing", "this machine or the project could not be looked at"),
		Example: `  quorate doctor
  quorate doctor examples/greeter
  quorate doctor --json | jq '.[] | select(.status == "lacking")'`,
		Args: takes("[DIR]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var p *project
			if len(args) > 0 {
				var err error
				if p, err = openProject(args[0]); err != nil {
					return err
				}
			}
			return runDoctor(cmd.Context(), ui, p, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

func runDoctor(ctx context.Context, ui *terminal, p *project, asJSON bool) error {
	findings := examine(ctx, ui, p)
	if asJSON {
		ui.answerJSON(findings)
	} else {
		w := tabwriter.NewWriter(ui, 0, 0, 2, ' ', 0)
		for _, f := range findings {
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.Status, f.Name, printable(f.Found))
			if f.Do != "" {
				for line := range strings.SplitSeq(f.Do, "\n") {
					fmt.Fprintf(w, "\t\t  → %s\n", printable(line))
				}
			}
		}
		_ = w.Flush() // the terminal keeps its own errors
	}
	var missing []string
	for _, f := range findings {
		if f.Status == lacking {
			missing = append(missing, f.Name)
		}
	}
	if len(missing) > 0 {
		return different(fmt.Errorf("this machine lacks: %s", strings.Join(missing, ", ")))
	}
	return nil
}

// doctor examines one machine, for one project or for none in particular.
type doctor struct {
	ctx context.Context
	ui  *terminal
	p   *project // nil for none

	machine  *machine // without a store when none can be opened
	findings []finding
}

func examine(ctx context.Context, ui *terminal, p *project) []finding {
	d := &doctor{ctx: ctx, ui: ui, p: p}
	d.store()
	d.isolation()
	d.debian()
	d.git()
	d.registries()
	d.platforms()
	if d.machine.store != nil {
		_ = d.machine.close()
	}
	return d.findings
}

// say adds a finding. What only some projects need is optional without a project.
func (d *doctor) say(f finding) { d.findings = append(d.findings, f) }

func (d *doctor) fail(name string, err error, needed bool) {
	f := finding{Name: name, Status: optional, Found: err.Error()}
	if needed {
		f.Status = lacking
	}
	if all := hintsFor(err); len(all) > 0 {
		f.Do = strings.Join(all, "\n")
	}
	d.say(f)
}

// leastRoom is what a build of a middling image takes in the store: its
// packages, once packed and once unpacked, and its layers.
const leastRoom = 2 << 30

// noRoom is what a lock of 62 packages of bookworm takes, measured in an empty store: the
// indexes of the suite, and apt with what it needs. With less nothing can be begun.
const noRoom = 184 << 20

func (d *doctor) store() {
	m, err := openMachine(d.ui)
	if err != nil {
		d.machine = &machine{ui: d.ui}
		d.fail("store", err, true)
		return
	}
	d.machine = m
	free := freeAt(m.store.Dir())
	f := finding{Name: "store", Status: healthy, Found: m.store.Dir()}
	if free >= 0 {
		f.Found += ", " + size(free) + " free"
	}
	switch {
	case free < 0 || free >= leastRoom:
	case free < noRoom:
		f.Status, f.Do = lacking, makeRoom
	default:
		f.Status, f.Do = limited, makeRoom
	}
	d.say(f)
}

func (d *doctor) isolation() {
	s, err := d.machine.isolate()
	if err != nil {
		d.fail("isolation", err, true)
		return
	}
	switch s.Mapping() {
	case sandbox.Single:
		d.say(finding{"isolation", limited, "a sandbox with one user id: images whose scripts give files to other users cannot be built", "install the package uidmap, or build as root"})
	case sandbox.Range:
		d.say(finding{"isolation", healthy, "a sandbox with this user's range of ids", ""})
	default:
		d.say(finding{"isolation", healthy, "a sandbox with all ids, as root", ""})
	}
}

func (d *doctor) debian() {
	if d.p != nil && d.p.Definition.Inputs.Debian == nil {
		return
	}
	suite := "bookworm"
	if d.p != nil {
		suite = d.p.Definition.Inputs.Debian.Suite
	}
	mirrors, err := deb.Mirrors(deb.MirrorConfig{Env: os.Getenv("QUORATE_DEBIAN_MIRROR"), User: userMirror(), AptRoot: aptRoot(), Suite: suite})
	switch {
	case err != nil:
		d.fail("Debian archive", err, d.p != nil)
	case len(mirrors) > 0:
		d.say(finding{"Debian archive", healthy, fmt.Sprintf("%s, of %s", mirrors[0].Main, mirrors[0].Origin), ""})
	case snapshotService() != "":
		d.say(finding{"Debian archive", limited, "no mirror is configured; " + snapshotService() + " has what is locked, and is slow", "set QUORATE_DEBIAN_MIRROR to the URL of a mirror"})
	default:
		d.fail("Debian archive", errNoMirror, d.p != nil)
	}
}

func (d *doctor) git() {
	needed := d.p != nil && (len(d.p.Definition.Inputs.Git) > 0 || d.p.Definition.Epoch.FromCommit)
	if d.p != nil && !needed {
		return
	}
	out, err := exec.CommandContext(d.ctx, "git", "--version").Output()
	if err != nil {
		d.say(finding{"git", map[bool]string{true: lacking, false: optional}[needed], "there is no git, which inputs.git and epoch: commit need", "install the package git"})
		return
	}
	d.say(finding{"git", healthy, strings.TrimSpace(string(out)), ""})
}

var (
	errNoMirror = errors.New("no mirror is configured; set QUORATE_DEBIAN_MIRROR to the URL of one")
	errNoProxy  = errors.New("no module proxy is configured; set GOPROXY to its URL, or install Go")
)

// registries are where the ecosystems' own tools look.
func (d *doctor) registries() {
	in := definition.Inputs{}
	if d.p != nil {
		in = d.p.Definition.Inputs
	}
	ask := func(name string, wanted int, where func() (string, error)) {
		if d.p != nil && wanted == 0 {
			return
		}
		place, err := where()
		if err != nil {
			d.fail(name, err, wanted > 0)
			return
		}
		d.say(finding{name, healthy, place, ""})
	}
	ask("Go modules", len(in.Go), func() (string, error) {
		c, err := goConfig()
		if err != nil {
			return "", err
		}
		if c.Proxy == "" {
			return "", errNoProxy
		}
		return c.Proxy, nil
	})
	ask("npm registry", len(in.Npm), func() (string, error) { return npm.MachineConfig().Default() })
	ask("Python index", len(in.Python), func() (string, error) { return strings.Join(redactedAll(python.MachineIndexes()), " "), nil })
	ask("Rust index", len(in.Cargo), func() (string, error) { return cargo.MachineIndex(), nil })
}

func redactedAll(urls []string) []string {
	out := slices.Clone(urls)
	for i, u := range out {
		if at := strings.LastIndexByte(u, '@'); at >= 0 { // a user and password, as pip takes them
			scheme, _, _ := strings.Cut(u, "://")
			out[i] = scheme + "://…" + u[at:]
		}
	}
	return out
}

// platforms looks for what runs programs of other architectures.
func (d *doctor) platforms() {
	s, err := d.machine.isolate()
	if err != nil {
		return // said already
	}
	foreign := []definition.Platform{{OS: "linux", Architecture: map[string]string{"amd64": "arm64"}[runtime.GOARCH]}}
	if d.p != nil {
		foreign = d.p.Definition.Platforms
	}
	for _, p := range foreign {
		if p.Architecture == runtime.GOARCH || p.Architecture == "" {
			continue
		}
		needed := d.p != nil && (len(d.p.Definition.Steps) > 0 || d.p.Definition.Image.Scripts == definition.ScriptsDpkg)
		if d.p != nil && !needed {
			continue // only unpacked, which any machine can
		}
		e, err := s.Emulator(d.ctx, p.Architecture)
		if err != nil {
			d.fail("steps for "+p.String(), err, needed)
			continue
		}
		d.say(finding{"steps for " + p.String(), healthy, "run by " + filepath.Base(e.String()), ""})
	}
}
