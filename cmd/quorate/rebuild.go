package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/builder"
	"quorate.dev/builder/image"
	"quorate.dev/diff"
	"quorate.dev/lockfile/definition"
	"quorate.dev/rebuild"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/docker"
	"quorate.dev/rebuild/host/local"
	"quorate.dev/rebuild/keyfile"
	"quorate.dev/rebuild/keyfile/external"
	"quorate.dev/rebuild/serve"
)

// rebuildFlags are the flags of `quorate rebuild`.
type rebuildFlags struct {
	inputs    inputFlags
	count     int    // --rebuilders
	file      string // --rebuilders-file
	policy    string
	as        string
	key       string
	pass      passphraseFlags
	outputs   outputsFlag
	push      string
	staging   string
	registry  registryFlags
	platforms []string
	results   string
	timeout   time.Duration
	asJSON    bool
	sboms     sbomRequest // with --push
	ci        ciFlags
}

func rebuildCmd(ui *terminal) *cobra.Command {
	var f rebuildFlags
	cmd := &cobra.Command{
		Use:   "rebuild [DIR]",
		Short: "Build the image several times, apart, and sign when all got the same bytes",
		Long: `Rebuild asks several rebuilders to build the project in DIR (this folder by
default) from its definition and its lock. Each is a single-use worker with a
work folder of its own that reuses nothing anybody made, and signs a report
with its own key. When enough of them report the same image, the agreement is
signed; otherwise nothing is, and what differs is kept and listed.

--rebuilders-file asks the rebuilders of a file: workers on this machine, in
Docker Engines by socket, TCP with certificates, ssh or context, and services of
other operators (see quorate help rebuilders). An engine gets the locked inputs
from this machine's store; a service fetches them itself.

--rebuilders N asks N workers on this machine, local-1 to local-N. They vary on
purpose what must not matter: CPUs, order of folders, file system, kernel
release, process numbers, address space, time zone. They are one operator,
$QUORATE_OPERATOR or "local", and what is signed says so. Their keys are made at
first use, in quorate/rebuilders of the state folder ($XDG_STATE_HOME).

Without --policy all of them must agree; the policy used is written into the
results. Without --key a release key is made at first use, in the state folder.

The results folder holds, on agreement, the signed bundle, the image and
in-toto's layout and links; otherwise every image, report and log, the list of
files that each step left, a signed record of who answered what (a refusal, which
nobody takes for an agreement), and report.html, .json and .md, which say why the
images differ, and in which step they begin to. It is replaced as a whole. With
--push an agreed image is published as "quorate publish" does, its tag last. The
last line on standard output is the digest of the image's manifest, one line for
each platform.

For CI: --junit and --summary write the outcome for services that show it. On
GitHub Actions (GITHUB_ACTIONS=true) the summary is also added to the job's own,
and each cause of a difference is an annotation of its line of quorate.yaml.

With --progress json every line on standard error is one JSON object:

  {"kind":"progress","time":"2026-11-28T18:48:05.1Z","rebuilder":"ams","attempt":1,
   "key":"ams/1/step/compile","text":"ams: step compile","done":true,"seconds":3.2}
  {"kind":"warning","time":"…","text":"…"}       also "message", "error" and "hint"

key names what goes on while it does; done says that it has ended, after so many
seconds; note says how, when that is worth a word ("cached", "failed", "reported");
current and total say how far it is, in bytes if bytes is true; line is a line of a
step's output. What is empty is left out, and more may be added.` +
			exitStatus(
				"agreed, and the agreement is signed",
				"disagreed: no agreement is signed, what differs is listed",
				"could not tell: too few reports, stale lock, bad input, interrupted"),
		Example: `  quorate rebuild --rebuilders 2
  quorate rebuild examples/greeter --rebuilders 3 --results out/greeter
  quorate rebuild --rebuilders-file rebuilders.yaml --policy policy.yaml --key release.key
  quorate rebuild --rebuilders 2 --push registry.example/app:v1
  quorate rebuild --rebuilders-file rebuilders.yaml --junit junit.xml --summary summary.md
  quorate verify results/agreement.intoto.jsonl --policy results/policy.yaml`,
		Args: takes("[DIR]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (f.count > 0) == (f.file != "") {
				return &usageError{err: errors.New("say who is to rebuild: --rebuilders N or --rebuilders-file FILE"), command: "quorate rebuild"}
			}
			if f.staging != "" && f.push == "" {
				return &usageError{err: errors.New("--staging is a stop on the way to --push REF"), command: "quorate rebuild"}
			}
			return runRebuild(cmd.Context(), ui, folder(args), f)
		},
	}
	f.inputs.register(cmd, true)
	flags := cmd.Flags()
	flags.IntVar(&f.count, "rebuilders", 0, "ask `N` workers on this machine")
	flags.StringVar(&f.file, "rebuilders-file", "", "ask the rebuilders that `FILE` names")
	flags.StringVar(&f.policy, "policy", "", "judge by the policy in `FILE`")
	flags.StringVar(&f.as, "as", "", "`NAME` by which a policy with rules knows the image (default: the repository of --push, else the definition's name); with --push oci:DIR, also the repository that it is for")
	flags.StringVar(&f.key, "key", "", "sign the agreement with the "+keyUse)
	flags.Var(&f.outputs, "output", "on agreement also write the image: oci=DIR, oci-archive=FILE or docker-archive=FILE; may be repeated")
	f.sboms.register(flags)
	flags.StringVar(&f.push, "push", "", "on agreement publish the image, and what proves it, as `REF`, in a registry or as oci:DIR[:TAG]")
	flags.StringVar(&f.staging, "staging", "", "with --push: put everything into `STAGING` first, a repository or oci:DIR, and judge it there")
	f.registry.register(flags)
	f.inputs.registry = &f.registry
	flags.StringSliceVar(&f.platforms, "platform", nil, "build only these of the definition's platforms")
	flags.StringVar(&f.results, "results", "results", "`DIR` for what is found")
	flags.DurationVar(&f.timeout, "timeout", 0, "give each worker so long, as in 90m; 0 for no limit")
	flags.BoolVar(&f.asJSON, "json", false, "answer in JSON")
	flags.StringVar(&f.ci.junit, "junit", "", "write the outcome as JUnit XML to `FILE`")
	flags.StringVar(&f.ci.summary, "summary", "", "write the outcome as Markdown to `FILE`")
	f.pass.add(flags)
	return cmd
}

// maxLocalRebuilders bounds --rebuilders; each needs the build's disk space and a key.
const maxLocalRebuilders = 64

func runRebuild(ctx context.Context, ui *terminal, dir string, f rebuildFlags) error {
	if f.count < 0 || f.count > maxLocalRebuilders {
		return fmt.Errorf("bad --rebuilders %d: expected 1 to %d", f.count, maxLocalRebuilders)
	}
	p, err := openProject(dir)
	if err != nil {
		return err
	}
	if err := p.requireLock(); err != nil {
		return err
	}
	only, err := choosePlatforms(p.Definition, f.platforms)
	if err != nil {
		return err
	}
	if err := f.outputs.check(only); err != nil {
		return err
	}
	if len(f.sboms.formats) > 0 && f.push == "" {
		return errors.New("--sbom attaches to what --push publishes; quorate sbom writes files")
	}
	pub, err := f.openPush(ctx, ui)
	if err != nil {
		return err
	}
	m, err := openMachine(ui)
	if err != nil {
		return err
	}
	defer m.close()
	m.dir = p.Dir
	name := p.Definition.Name
	if pub != nil {
		name = cmp.Or(repositoryName(pub.ref), name)
	}
	o, err := m.rebuildOptions(ctx, f, cmp.Or(f.as, name))
	if err != nil {
		return err
	}
	if err := m.ready(ctx, p, o, only, f.inputs); err != nil {
		return err
	}
	locals, err := m.packLocals(p)
	if err != nil {
		return err
	}
	o.Explain = explainer(p, compareKept(p, f.results))
	o.Definition, o.Lock, o.Locals, o.Platforms = p.DefinitionBytes, p.LockBytes, hostLocals(locals), platformNames(only)
	began := time.Now()
	out, err := rebuild.Run(ctx, *o)
	if err != nil {
		return err
	}
	told := f.ci.tell(ui, storyOf(p, out, began))
	if out.Agreement != nil && len(f.outputs) > 0 {
		if err := writeAgreed(f.outputs, p.Definition.Name, out.Image()); err != nil {
			return err
		}
	}
	var answer *publishAnswer
	if out.Agreement != nil && pub != nil {
		answer, err = pub.publishAgreed(ctx, m, p, o, out, f.as, sbomRequest{f.sboms.formats, &f.inputs}) // told after what was agreed
	}
	if err := answerRebuild(ui, out, o.Policy, answer, f.asJSON); err != nil {
		return err
	}
	return errors.Join(err, told)
}

// openPush finds out before a long build whether the registry takes anything
// from us. It returns nil without --push.
func (f *rebuildFlags) openPush(ctx context.Context, ui *terminal) (*publication, error) {
	if f.push == "" {
		return nil, nil
	}
	ref, err := publishTarget(f.push)
	if err != nil {
		return nil, err
	}
	p := &publication{ui: ui, client: f.registry.client(ui), ref: ref}
	if p.staging, err = stagingIn(f.staging); err != nil {
		return nil, err
	}
	if p.staging != nil {
		if err := p.client.CanPush(ctx, *p.staging); err != nil {
			return nil, err
		}
	}
	return p, p.client.CanPush(ctx, ref)
}

// publishAgreed publishes what was just agreed on.
func (p *publication) publishAgreed(ctx context.Context, m *machine, project *project, o *rebuild.Options, out *rebuild.Outcome, as string, sboms sbomRequest) (*publishAnswer, error) {
	p.policy = o.Policy
	if slices.ContainsFunc(o.Policy.Signers, func(s agreement.SignerKey) bool { return s.Key == o.Signer.Public() }) {
		p.signer = o.Signer
	}
	if err := p.readResults(out.Results); err != nil {
		return nil, err
	}
	p.isFor(as)
	if err := p.addProject(m, project); err != nil {
		return nil, err
	}
	var err error
	if p.bills, err = m.sbomArtifacts(ctx, project, sboms, p.images()); err != nil {
		return nil, err
	}
	return p.run(ctx)
}

// ready sees to what workers need of this machine: isolation, where they run
// here, and every input, where they cannot fetch for themselves.
func (m *machine) ready(ctx context.Context, p *project, o *rebuild.Options, only []definition.Platform, inputs inputFlags) error {
	var here, engine bool
	for _, r := range o.Rebuilders {
		_, isLocal := r.Host.(*local.Host)
		_, isDocker := r.Host.(*docker.Host)
		here, engine = here || isLocal, engine || isDocker
	}
	if here {
		if _, err := m.isolate(); err != nil { // workers would all say the same, without the hint
			return err
		}
	}
	if !engine && inputs.archive == "" {
		return nil // a service of another operator fetches for itself
	}
	return m.fetchInputs(ctx, p.Lock, only, inputs)
}

// writeAgreed writes the agreed image in other forms, reading it from the results.
func writeAgreed(outputs []output, name, dir string) error {
	layout, err := image.ReadOCI(dir)
	if err != nil {
		return err
	}
	for _, o := range outputs {
		if err := o.write(name, layout.Images, layout); err != nil {
			return fmt.Errorf("writing %s: %w", o, err)
		}
	}
	return nil
}

// rebuildOptions says who is asked, how they are judged and who signs. image is
// the name by which the policy has to cover the image.
func (m *machine) rebuildOptions(ctx context.Context, f rebuildFlags, image string) (*rebuild.Options, error) {
	results, err := filepath.Abs(f.results)
	if err != nil {
		return nil, err
	}
	asked, own, err := m.rebuilders(ctx, f)
	if err != nil {
		return nil, err
	}
	signer, err := m.releaseKey(f)
	if err != nil {
		return nil, err
	}
	policy, err := m.rebuildPolicy(f, asked, own, signer)
	if err != nil {
		return nil, err
	}
	if policy, err = policy.For(image, time.Now()); err != nil {
		return nil, err
	}
	o := &rebuild.Options{
		Policy: policy, Signer: signer, InputStore: m.store.Dir(), Offline: f.inputs.offline, Results: results, Timeout: f.timeout,
		Files: policy.Format(), Compare: compareLayouts, Events: m.rebuildEvent(),
	}
	if f.policy != "" && policy.Name != "" {
		if history, err := readSmallFile(historyPath(f.policy), largestHistory); err == nil {
			o.Files[historyPath("policy.yaml")] = history // the results' copy means the same, and is signed alike
		}
	}
	o.Mirrors = mirrors(f.inputs)
	o.Rebuilders, err = m.toAsk(asked, policy, f.file == "" && os.Getenv(operatorVar) == "")
	return o, err
}

// hostLocals are local inputs as a job names them.
func hostLocals(locals map[string]builder.Local) map[string]host.Local {
	all := map[string]host.Local{}
	for name, l := range locals {
		all[name] = host.Local{Tree: l.Tree, Archive: l.Archive}
	}
	return all
}

func platformNames(platforms []definition.Platform) []string {
	var names []string
	for _, p := range platforms {
		names = append(names, p.String())
	}
	return names
}

// mirrors are what a job is told of --mirror.
func mirrors(f inputFlags) []string {
	if f.mirror == "" {
		return nil
	}
	return []string{f.mirror}
}

// toAsk turns rebuilders of a file or of this machine into those that rebuild.Run asks.
func (m *machine) toAsk(asked []rebuild.FileRebuilder, policy *agreement.Policy, anyOperator bool) ([]rebuild.Rebuilder, error) {
	var all []rebuild.Rebuilder
	hosts := m.hosts()
	for i, r := range asked {
		r, err := enrolled(policy, r, anyOperator)
		if err != nil {
			return nil, err
		}
		all = append(all, rebuild.Rebuilder{
			Name: r.Name, Operator: r.Operator, BuilderID: r.BuilderID, Host: hosts(r), Surroundings: local.Vary(i), KeyFile: r.KeyFile,
			Machine: machineOf(r),
		})
	}
	return all, nil
}

// hosts returns where a rebuilder's workers are started: on this machine, in the
// Docker Engine or behind the service that its file names. Rebuilders of one
// engine share its connection.
func (m *machine) hosts() func(rebuild.FileRebuilder) host.Host {
	here := &local.Host{Scratch: filepath.Join(m.store.Dir(), "workers"), Remove: m.remove}
	engines := map[rebuild.FileDocker]*docker.Host{}
	return func(r rebuild.FileRebuilder) host.Host {
		switch {
		case r.Remote != nil:
			return serviceOf(r.Remote)
		case r.Docker == nil:
			return here
		}
		if engines[*r.Docker] == nil {
			engines[*r.Docker] = &docker.Host{Endpoint: endpointOf(r.Docker)}
		}
		return engines[*r.Docker]
	}
}

// machineOf names the machine of a rebuilder: "" for this one, where engines at sockets are, too.
func machineOf(r rebuild.FileRebuilder) string {
	if r.Remote != nil {
		return r.Remote.Endpoint
	}
	d := r.Docker
	switch {
	case d == nil, d.Context == "" && (d.Endpoint == "" || strings.HasPrefix(d.Endpoint, "unix:")):
		return ""
	case d.Context != "":
		return "context " + d.Context
	}
	return d.Endpoint
}

// operatorVar names the environment variable that says who operates local rebuilders.
const operatorVar = "QUORATE_OPERATOR"

// enrolled holds a rebuilder against the policy before anything is built, and
// fills in what only the policy says. rebuild.Run says who is missing in it.
func enrolled(policy *agreement.Policy, r rebuild.FileRebuilder, anyOperator bool) (rebuild.FileRebuilder, error) {
	if p, ok := policy.Rebuilder(r.Name); ok {
		if p.Key != r.Key {
			return r, fmt.Errorf("the policy enrols the key %.16s… for %q, but its key is %.16s… (%s)", p.Key, r.Name, r.Key, r.KeyFile)
		}
		if anyOperator {
			r.Operator = p.Operator
		}
		if r.BuilderID == "" {
			r.BuilderID = p.BuilderID
		}
	}
	if r.BuilderID == "" {
		switch {
		case r.Docker != nil:
			r.BuilderID = dockerBuilder + r.Operator + "/" + r.Name
		case r.Remote != nil:
			r.BuilderID = serve.DefaultBuilderID(r.Operator, r.Name)
		default:
			r.BuilderID = localBuilder + r.Operator + "/" + r.Name
		}
	}
	return r, nil
}

// These begin the SLSA builder.id of a worker, one for each mode of building and
// who is trusted with it: on the operator's own machine, and in a container of a
// Docker Engine, which whoever has its socket owns.
const (
	localBuilder  = "https://quorate.dev/builders/local/v1/"
	dockerBuilder = "https://quorate.dev/builders/docker/v1/"
)

// stateDir is a folder for what lasts and is not configuration: keys made at first use.
func stateDir(parts ...string) (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" || !filepath.IsAbs(dir) { // relative ones are to be ignored (XDG Base Directory Specification)
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("cannot find a folder for keys: %w; set XDG_STATE_HOME", err)
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(append([]string{dir, "quorate"}, parts...)...), nil
}

// releaseKey is the key that signs agreements.
func (m *machine) releaseKey(f rebuildFlags) (keyfile.Signer, error) {
	if f.key != "" {
		return openSigner(m.ui, f.key, f.pass)
	}
	path, err := stateDir("release.key")
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Load(path, f.pass.forOpening(m.ui, path))
	if err == nil {
		m.ui.say("no --key: signing with %q", path)
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if key, err = workerKey(path); err != nil {
		return nil, err
	}
	m.ui.say("no --key: made a release key, %q; give its public half %q to those who verify", path, publicPath(path))
	return key, nil
}

// rebuilders says who is asked, and the policy that their file brings, if any.
func (m *machine) rebuilders(ctx context.Context, f rebuildFlags) ([]rebuild.FileRebuilder, *agreement.Policy, error) {
	if f.file != "" {
		return readRebuilders(f.file)
	}
	operator := os.Getenv(operatorVar)
	if operator == "" {
		operator = "local"
	}
	if err := agreement.CheckName(operator); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", operatorVar, err)
	}
	var asked []rebuild.FileRebuilder
	for i := range f.count {
		r := rebuild.FileRebuilder{Name: fmt.Sprintf("local-%d", i+1), Operator: operator}
		path, err := stateDir("rebuilders", r.Name+".key")
		if err != nil {
			return nil, nil, err
		}
		r.KeyFile = path
		if r.Key, err = enrol(ctx, path); err != nil {
			return nil, nil, fmt.Errorf("cannot enrol %s: %w", r.Name, err)
		}
		asked = append(asked, r)
	}
	return asked, nil, nil
}

// readRebuilders reads a rebuilders file; keys that it names lie beside it.
func readRebuilders(path string) ([]rebuild.FileRebuilder, *agreement.Policy, error) {
	data, err := readSmallFile(path, largestPolicy)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read rebuilders: %w", err)
	}
	beside := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(filepath.Dir(path), name)
	}
	file, err := rebuild.ParseFile(path, data, func(key string) ([]byte, error) { return readSmallFile(beside(key), largestKey) })
	if err != nil {
		return nil, nil, err
	}
	for i := range file.Rebuilders {
		if s := file.Rebuilders[i].Remote; s != nil {
			s.TLS = beside(s.TLS)
			continue // its key is where nobody reads it
		}
		if d := file.Rebuilders[i].Docker; d != nil {
			if d.TLS != "" {
				d.TLS = beside(d.TLS)
			}
			continue
		}
		prefix, key := "", file.Rebuilders[i].KeyFile
		if external.Named(key) {
			prefix, key = external.Prefix, strings.TrimPrefix(key, external.Prefix)
		}
		abs, err := filepath.Abs(beside(key))
		if err != nil {
			return nil, nil, err
		}
		file.Rebuilders[i].KeyFile = prefix + abs
	}
	return file.Rebuilders, file.Policy, nil
}

// enrol returns the public key of a local rebuilder. The private one is made by
// a worker process; this one never reads it.
func enrol(ctx context.Context, private string) (keyfile.PublicKey, error) {
	if _, err := os.Stat(private); err == nil {
		if key, err := keyfile.LoadPublic(publicPath(private)); err == nil {
			return key, nil
		}
	}
	self, err := os.Executable()
	if err != nil {
		return keyfile.PublicKey{}, err
	}
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, self, "worker", "--make-key", private)
	cmd.Args[0] = os.Args[0] // by which the program may know what it is
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return keyfile.PublicKey{}, fmt.Errorf("%w: %s", err, strings.TrimSpace(complaint.String()))
	}
	key, err := keyfile.ParsePublic(out)
	if err != nil {
		return keyfile.PublicKey{}, err
	}
	return key, key.Replace(publicPath(private))
}

// rebuildPolicy is the policy that is given, or one that wants everybody asked to agree.
func (m *machine) rebuildPolicy(f rebuildFlags, asked []rebuild.FileRebuilder, own *agreement.Policy, signer keyfile.Signer) (*agreement.Policy, error) {
	release := agreement.SignerKey{Name: "release", Key: signer.Public()}
	switch {
	case f.policy != "" && own != nil:
		return nil, fmt.Errorf("%q has a policy and --policy names another; which one counts?", f.file)
	case f.policy != "":
		return readPolicy(f.policy)
	case own != nil:
		own.Signers = append(own.Signers, release)
		return own, nil
	}
	n := len(asked)
	policy := rebuild.NewPolicy(asked, n, map[string]int{"key": n, "operator": 1})
	policy.Signers = []agreement.SignerKey{release}
	m.ui.say("no --policy: all %d rebuilders must agree, whoever operates them; written to %q", n, filepath.Join(f.results, "policy.yaml"))
	if n == 1 {
		m.ui.warn("one rebuilder agrees with itself always; use --rebuilders 2 or more")
	}
	return policy, nil
}

// rebuildEvent shows what each rebuilder's worker does.
func (m *machine) rebuildEvent() func(rebuild.Event) {
	report := func(of rebuild.Event, e event) {
		e.Rebuilder, e.Attempt = of.Rebuilder, of.Attempt
		m.ui.report(e)
	}
	return func(e rebuild.Event) {
		key := fmt.Sprintf("%s/%d", e.Rebuilder, e.Attempt)
		switch {
		case e.State == "begin": // its phases follow at once
		case e.State == "committed":
			report(e, event{Key: key, Text: e.Rebuilder, Done: true, Note: "committed to its answer", Elapsed: e.Elapsed})
		case e.State == "end" && e.Retry:
			m.ui.warn("%s: %v; trying again", e.Rebuilder, e.Err)
		case e.State == "end":
			note := "reported"
			if e.Err != nil {
				note = "failed"
			}
			report(e, event{Key: key, Text: e.Rebuilder, Done: true, Note: note, Elapsed: e.Elapsed})
			m.hintsOf(e.Rebuilder, e.Err)
		case e.Worker.Kind == host.KindWarning:
			m.ui.warn("%s: %s", e.Rebuilder, e.Worker.Message)
		case e.Worker.Kind == host.KindPhase || e.Worker.Kind == host.KindLine:
			w := e.Worker
			note := ""
			if w.Cached {
				note = "cached"
			}
			report(e, event{
				Key: key + "/" + w.Phase, Text: e.Rebuilder + ": " + w.Name, Current: w.Current, Total: w.Total, Bytes: w.Bytes,
				Line: w.Line, Done: w.Done, Note: note, Elapsed: w.Elapsed,
			})
		}
	}
}

// hintsOf tells what to do about a rebuilder that failed; what went wrong stands in the table.
func (m *machine) hintsOf(rebuilder string, err error) {
	if err == nil {
		return
	}
	for _, h := range hintsFor(err) {
		m.ui.hint("%s: %s", rebuilder, h)
	}
}

// compareLayouts is package diff in the form that rebuild asks for.
func compareLayouts(ctx context.Context, a, b string) (*rebuild.Differences, error) {
	res, err := diff.Compare([]string{a, b}, diff.Options{Done: ctx.Done()})
	if err != nil {
		return nil, err
	}
	defer res.Close()
	// They lie in rebuilders/NAME/image, and not where they will be kept.
	res.Sides[0].Name, res.Sides[1].Name = filepath.Base(filepath.Dir(a)), filepath.Base(filepath.Dir(b))
	var text bytes.Buffer
	if err := res.WriteText(&text, nil); err != nil {
		return nil, err
	}
	d := &rebuild.Differences{Text: text.Bytes(), All: res}
	for _, c := range res.Pairs {
		d.Paths, d.Count = append(d.Paths, c.Paths()...), d.Count+c.Total.Findings
	}
	return d, nil
}

// rebuildAnswer is what `quorate rebuild --json` answers.
type rebuildAnswer struct {
	rebuild.Summary
	Published *publishAnswer `json:"published,omitempty"`
}

// answerRebuild tells the outcome and returns what decides the exit code.
func answerRebuild(ui *terminal, out *rebuild.Outcome, policy *agreement.Policy, published *publishAnswer, asJSON bool) error {
	for _, w := range out.Warnings {
		ui.warn("%s", w)
	}
	summary := out.Summary()
	if asJSON {
		ui.answerJSON(rebuildAnswer{summary, published})
	} else {
		tableOfRebuilders(ui, summary)
	}
	switch out.Verdict.Decision {
	case agreement.Agree:
		if !asJSON {
			tellAgreement(ui, out, policy)
		}
		return nil
	case agreement.Disagree:
		if !asJSON {
			tellDifferences(ui, out)
		}
		return different(nil)
	}
	return fmt.Errorf("could not tell: %s; logs are in %s", strings.Join(out.Verdict.Reasons, "; "), filepath.Join(out.Results, "rebuilders"))
}

// tableOfRebuilders is one line for each rebuilder.
func tableOfRebuilders(ui *terminal, s rebuild.Summary) {
	w := tabwriter.NewWriter(ui, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REBUILDER\tOPERATOR\tOUTCOME\tTIME\tBUILT")
	for _, r := range s.Rebuilders {
		var built []string
		for _, i := range r.Subjects {
			built = append(built, strings.TrimPrefix(i.Digest, "sha256:")[:12])
		}
		last := strings.Join(built, " ")
		if r.Reason != "" {
			first, _, more := strings.Cut(r.Reason, "\n")
			if more {
				first += " …"
			}
			last = strings.TrimSpace(last + " " + first)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.Operator, r.Outcome, r.Elapsed().Round(100*time.Millisecond), printable(last))
	}
	_ = w.Flush() // the terminal keeps its own errors
}

func tellAgreement(ui *terminal, out *rebuild.Outcome, policy *agreement.Policy) {
	agree := 0
	for _, o := range out.Verdict.Outcomes {
		if o.Result == agreement.Agrees {
			agree++
		}
	}
	operators := "one operator"
	if n := out.Agreement.IndependentOperators(); n > 1 {
		operators = fmt.Sprintf("%d operators", n)
	}
	ui.answer("\nAGREED: %d of %d rebuilders, of %s, built the same bytes", agree, len(policy.Rebuilders), operators)
	ui.answer("signed: %s", out.Bundle())
	for _, s := range out.Agreement.Subjects() {
		ui.answer("%s", s.Digest)
	}
}

// shownPaths is how many differing paths the terminal lists: a screen, with room for the table.
const shownPaths = 40

// quotedPath is a path of an image as it is, or in quotes when it could be
// taken for something else on a terminal.
func quotedPath(p string) string {
	if q := strconv.Quote(p); q != `"`+p+`"` {
		return q
	}
	return p
}

func tellDifferences(ui *terminal, out *rebuild.Outcome) {
	var reasons []string
	for _, c := range out.Verdict.Classes {
		reasons = append(reasons, strings.Join(c.Rebuilders, ", "))
	}
	ui.answer("\nNOT REPRODUCIBLE: %s built different images; no agreement is signed", strings.Join(reasons, " | "))
	defer ui.answer("signed record of who built what: %s", out.Refusal())
	if out.Explanation != nil {
		_, rest, _ := bytes.Cut(out.Explanation, []byte("\n")) // the headline is said already
		ui.answerBytes(rest)
		ui.answer("\nfull: %s, report.json, report.md", filepath.Join(out.Results, "report.html"))
		ui.answer("images, reports and logs: %s", filepath.Join(out.Results, "rebuilders"))
		return
	}
	for _, d := range out.Differences {
		ui.answer("\n%s and %s:", d.A, d.B)
		if d.Err != "" {
			ui.answer("  cannot be compared: %s", printable(d.Err))
			continue
		}
		if len(d.Paths) == 0 {
			ui.answer("  no path differs, but the image's own documents do")
		}
		for i, p := range d.Paths {
			if i == shownPaths {
				ui.answer("  … and %d more", len(d.Paths)-shownPaths)
				break
			}
			ui.answer("  %s", quotedPath("/"+p))
		}
	}
	if len(out.Differences) > 0 {
		ui.answer("\nwhat differs in them: %s", filepath.Join(out.Results, "differences.txt"))
	}
	ui.answer("images, reports and logs: %s", filepath.Join(out.Results, "rebuilders"))
}
