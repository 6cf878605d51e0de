package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/builder"
	"quorate.dev/builder/image"
	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/store"
	"quorate.dev/builder/unpack"
	cargofiles "quorate.dev/builder/unpack/cargo"
	sourcefiles "quorate.dev/builder/unpack/debsource"
	gitfiles "quorate.dev/builder/unpack/git"
	gomodfiles "quorate.dev/builder/unpack/gomod"
	npmfiles "quorate.dev/builder/unpack/npm"
	imagefiles "quorate.dev/builder/unpack/ociimage"
	pythonfiles "quorate.dev/builder/unpack/python"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/resolve"
	inputsource "quorate.dev/lockfile/source" // "source" is the checkout to this package's tests
	"quorate.dev/lockfile/source/cargo"
	"quorate.dev/lockfile/source/deb"
	"quorate.dev/lockfile/source/git"
	"quorate.dev/lockfile/source/gomod"
	"quorate.dev/lockfile/source/httpfile"
	"quorate.dev/lockfile/source/local"
	"quorate.dev/lockfile/source/npm"
	"quorate.dev/lockfile/source/python"
)

// project is a definition's folder as every verb sees it.
type project struct {
	Dir             string
	DefinitionBytes []byte
	LockBytes       []byte // nil when there is no lock
	Definition      *definition.Definition
	Lock            *lockfile.Lock // nil when there is none, or none that can be read
	LockErr         error          // why Lock is nil although LockBytes is not
}

// maxDefinition and maxLock bound what is read into memory before it is
// parsed; the parsers have their own, smaller limits.
const maxLock = 64 << 20

// openProject reads a project's definition, and its lock when there is one.
func openProject(dir string) (*project, error) {
	p := &project{Dir: dir}
	var err error
	if p.DefinitionBytes, err = readProjectFile(filepath.Join(dir, definition.FileName), maxLock); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &noDefinitionError{Dir: dir}
		}
		return nil, err
	}
	if p.Definition, err = definition.Parse(filepath.Join(dir, definition.FileName), p.DefinitionBytes); err != nil {
		return nil, err
	}
	p.LockBytes, err = readProjectFile(p.lockPath(), maxLock)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	p.Lock, p.LockErr = lockfile.Parse(p.lockPath(), p.LockBytes)
	return p, nil
}

// readProjectFile reads a definition or a lock; a pipe in its place would hold
// us for ever, beyond the first signal too.
func readProjectFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot read %q: it is not a regular file", path)
	}
	return readSmallFile(path, limit)
}

func (p *project) lockPath() string { return filepath.Join(p.Dir, lockfile.FileName) }

// requireLock returns why the project cannot be built from its lock, or nil.
func (p *project) requireLock() error {
	switch {
	case p.LockErr != nil:
		return p.LockErr
	case p.Lock == nil:
		return &noLockError{Path: p.lockPath()}
	}
	return p.Lock.Covers(p.Definition, builder.AssemblerVersion)
}

// noDefinitionError says that a folder is no project.
type noDefinitionError struct{ Dir string }

func (e *noDefinitionError) Error() string {
	return fmt.Sprintf("there is no %s in %q", definition.FileName, e.Dir)
}

func (e *noDefinitionError) Hint() string {
	return "name the project's folder; a first " + definition.FileName + " is explained in the README, and `quorate schema` describes every field"
}

// noLockError says that a project was never locked.
type noLockError struct{ Path string }

func (e *noLockError) Error() string { return fmt.Sprintf("there is no lock: %s", e.Path) }
func (e *noLockError) Hint() string  { return "run: quorate lock" }

// inputFlags say where locked bytes may come from.
type inputFlags struct {
	mirror   string
	offline  bool
	archive  string         // --inputs: what `quorate archive` wrote
	registry *registryFlags // how the archive's registry is spoken with; nil as usual
}

func (f *inputFlags) register(cmd *cobra.Command, offline bool) {
	cmd.Flags().StringVar(&f.mirror, "mirror", "", "Debian mirror `URL` to use instead of this machine's own")
	if offline {
		cmd.Flags().BoolVar(&f.offline, "offline", false, "use no network: everything must be on this machine")
		cmd.Flags().StringVar(&f.archive, "inputs", "", "take inputs first from the `ARCHIVE` that quorate archive wrote: oci:DIR[:TAG] or a reference")
	}
}

// inputKind is everything that Quorate knows of one kind of input.
type inputKind struct {
	source func(m *machine) inputsource.Kind // how it is chosen and brought
	files  unpack.Kind                       // what steps see of it
}

// inputKinds is the list of all kinds, Debian's packages, files and local trees
// aside. Source packages are chosen and brought as packages are.
var inputKinds = map[string]inputKind{
	lockfile.KindGit:    {func(m *machine) inputsource.Kind { return git.New(git.Options{Key: m.keyFile, Scratch: m.scratch}) }, gitfiles.Unpack},
	lockfile.KindCargo:  {func(m *machine) inputsource.Kind { return cargo.New(cargo.MachineIndex()) }, cargofiles.Unpack},
	lockfile.KindNpm:    {npmSource, npmfiles.Unpack},
	lockfile.KindPython: {func(*machine) inputsource.Kind { return python.New(python.MachineIndexes()...) }, pythonfiles.Unpack},
	lockfile.KindImage:  {imageSource, imagefiles.Unpack},
	lockfile.KindGo:     {func(*machine) inputsource.Kind { return gomod.New(goConfig) }, gomodfiles.Unpack},
	lockfile.KindSource: {nil, sourcefiles.Unpack},
}

func npmSource(m *machine) inputsource.Kind {
	return npm.New(npm.Options{Config: npm.MachineConfig(), Key: m.keyFile})
}

// goConfig is read at most once: it may start the go command.
var goConfig = sync.OnceValues(gomod.ReadConfig)

// keyFile reads a file of keys beside the definition.
func (m *machine) keyFile(name string) ([]byte, error) {
	return readSmallFile(filepath.Join(m.dir, name), maxKeyFile)
}

// scratch is a folder that is gone after the process is, whatever happens.
func (m *machine) scratch() (string, func(), error) { return m.store.Scratch(context.Background()) }

// kinds returns how inputs are chosen and brought, by kind.
func (m *machine) kinds() map[string]inputsource.Kind {
	all := make(map[string]inputsource.Kind, len(inputKinds))
	for name, k := range inputKinds {
		if k.source != nil {
			all[name] = k.source(m)
		}
	}
	return all
}

// fileKinds returns how inputs become files, by kind.
func fileKinds() map[string]unpack.Kind {
	all := make(map[string]unpack.Kind, len(inputKinds))
	for name, k := range inputKinds {
		all[name] = k.files
	}
	return all
}

// storeBlobs is a store as sources see it.
type storeBlobs struct{ *store.Store }

// Create implements inputsource.Blobs.
func (s storeBlobs) Create() (inputsource.Writer, error) { return s.Store.Create() }

// machine is what this machine builds with: a store, a way of isolating, and
// ways to bring bytes. Parts are made when they are first asked for.
type machine struct {
	ui    *terminal
	store *store.Store
	dir   string // of the project, for inputs that lie beside the definition; "" where there is none

	opened *inputArchive // of --inputs, once it was asked for

	once    sync.Once
	sandbox *sandbox.Native
	err     error
}

// openMachine opens this user's store.
func openMachine(ui *terminal) (*machine, error) {
	dir, err := storeDir()
	if err != nil {
		return nil, err
	}
	m := &machine{ui: ui}
	m.store, err = store.Open(dir, store.Options{Remove: m.remove, Leave: leaveFolder})
	return m, err
}

// openWorkerMachine opens a store of a worker, which leaves nothing behind when
// it ends; blobs that it lacks are read from inputs, when that is given.
func openWorkerMachine(ui *terminal, dir string, inputs *store.Store) (*machine, error) {
	m := &machine{ui: ui}
	var err error
	m.store, err = store.Open(dir, store.Options{Remove: m.remove, Inputs: inputs})
	return m, err
}

func (m *machine) close() error { return m.store.Close() }

// isolate returns this machine's sandbox.
func (m *machine) isolate() (*sandbox.Native, error) {
	m.once.Do(func() {
		m.sandbox, m.err = sandbox.Open(sandbox.Options{Mapping: sandbox.Mapping(os.Getenv("QUORATE_MAPPING")), Emulators: os.Getenv("QUORATE_EMULATORS")})
	})
	return m.sandbox, m.err
}

// remove deletes roots, whose files may belong to ids that only the sandbox can use.
func (m *machine) remove(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	s, err := m.isolate()
	if err != nil {
		return err
	}
	return builder.Remover(s)(dir)
}

// builder returns what builds on this machine.
func (m *machine) builder(s builder.Surroundings) (*builder.Builder, error) {
	runner, err := m.isolate()
	if err != nil {
		return nil, err
	}
	return &builder.Builder{Store: m.store, Sandbox: runner, Surroundings: s, Kinds: fileKinds(), Events: m.ui.buildEvent}, nil
}

// storeDir is $QUORATE_STORE, else quorate/store in the user's cache folder.
func storeDir() (string, error) {
	if dir := os.Getenv("QUORATE_STORE"); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find a folder for the store: %w; set QUORATE_STORE", err)
	}
	return filepath.Join(cache, "quorate", "store"), nil
}

// debianSource returns Debian's archives as this machine reaches them.
func (m *machine) debianSource(suite string, f inputFlags) (*deb.Source, error) {
	mirrors, err := deb.Mirrors(deb.MirrorConfig{
		Flag: f.mirror, Env: os.Getenv("QUORATE_DEBIAN_MIRROR"), User: userMirror(), AptRoot: aptRoot(), Suite: suite,
	})
	if err != nil {
		return nil, err
	}
	return deb.New(deb.Options{
		Mirrors: mirrors, Snapshot: snapshotService(), Cache: filepath.Join(m.store.Dir(), "indexes"),
		Apt: &sandboxedApt{machine: m, flags: f, suite: suite}, Events: m.ui.debEvent, Rules: ownDigest(),
	}), nil
}

// ownDigest names this very program, "" where it cannot be read. What it chose
// is remembered under it, so that no other version's choices count.
var ownDigest = sync.OnceValue(func() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := os.Open(self)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := digest.NewHash()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return digest.Sum(h).Hex()
})

// snapshotService is the public one unless QUORATE_SNAPSHOT names another, or "none".
func snapshotService() string {
	switch s := os.Getenv("QUORATE_SNAPSHOT"); s {
	case "":
		return deb.SnapshotService
	case "none":
		return ""
	default:
		return s
	}
}

// aptRoot is where apt's configuration is read; QUORATE_APT_ROOT names another
// folder than this machine's own, for tests.
func aptRoot() string {
	if root, ok := os.LookupEnv("QUORATE_APT_ROOT"); ok {
		return root
	}
	return "/"
}

// userMirror is the first line of quorate/debian-mirror in the user's configuration folder.
func userMirror() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(dir, "quorate", "debian-mirror"))
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// items lists everything that a lock names, with the places that may have it.
func (m *machine) items(lock *lockfile.Lock, platforms []definition.Platform, f inputFlags) ([]fetch.Item, error) {
	var items []fetch.Item
	if len(lock.Archives) > 0 {
		source, err := m.debianSource(lock.Requests.Suite, f)
		if err != nil {
			return nil, err
		}
		for _, p := range lock.Platforms {
			if !wanted(p.Platform, platforms) {
				continue
			}
			list, err := packageItems(source, p.Packages, lock.Archives)
			if err != nil {
				return nil, err
			}
			items = append(items, list...)
		}
		list, err := sourceItems(source, lock)
		if err != nil {
			return nil, err
		}
		items = append(items, list...)
	}
	for _, file := range lock.Files {
		src, err := httpfile.New(file.URL)
		if err != nil {
			return nil, err
		}
		items = append(items, fetch.Item{Name: "file " + file.Name, Size: file.Size, Digest: file.SHA256, Sources: []fetch.Source{src}})
	}
	list, err := m.pinItems(lock, lock.Pins, platforms)
	return append(items, list...), err
}

// pinItems lists pins of inputs with the places that may have them.
func (m *machine) pinItems(lock *lockfile.Lock, pins []lockfile.Pin, platforms []definition.Platform) ([]fetch.Item, error) {
	if len(pins) == 0 {
		return nil, nil
	}
	kinds := m.kinds()
	var items []fetch.Item
	for _, pin := range pins {
		if !wantedName(pin.Platform, platforms) {
			continue
		}
		request := lock.RequestOf(pin.Input)
		if request.Kind == lockfile.KindSource {
			continue // sourceItems
		}
		kind := kinds[request.Kind]
		if kind == nil {
			return nil, fmt.Errorf("input %q is of kind %q, which this quorate cannot fetch", pin.Input, request.Kind)
		}
		sources, err := kind.Open(request, pin)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", pin.Input, err)
		}
		name := strings.TrimSpace(pin.Name + " " + pin.Version)
		items = append(items, fetch.Item{Name: name, Size: pin.Size, Digest: pin.SHA256, Sources: sources})
	}
	return items, nil
}

// wantedName is wanted for the platform of a pin, where none means all.
func wantedName(name string, platforms []definition.Platform) bool {
	if name == "" {
		return true
	}
	p, err := definition.ParsePlatform(name)
	return err == nil && wanted(p, platforms)
}

func wanted(p definition.Platform, platforms []definition.Platform) bool {
	for _, w := range platforms {
		if w == p {
			return true
		}
	}
	return len(platforms) == 0
}

func packageItems(source *deb.Source, pins []lockfile.Package, archives []lockfile.Archive) ([]fetch.Item, error) {
	var items []fetch.Item
	for _, pin := range pins {
		it, err := archiveItem(pin.Name+" "+pin.Version+" "+pin.Arch, pin.Size, pin.SHA256, source.Locations(pin, archives))
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

// sourceItems lists the files of a lock's source packages.
func sourceItems(source *deb.Source, lock *lockfile.Lock) ([]fetch.Item, error) {
	var items []fetch.Item
	for _, pin := range lock.Pins {
		in, _ := lock.Input(pin.Input)
		if in.Kind != lockfile.KindSource {
			continue
		}
		it, err := archiveItem(pin.Name+" "+pin.Version+" "+path.Base(pin.Path), pin.Size, pin.SHA256, source.SourceLocations(in, pin, lock.Archives))
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

func archiveItem(name string, size int64, sum digest.Digest, urls []string) (fetch.Item, error) {
	it := fetch.Item{Name: name, Size: size, Digest: sum}
	for _, url := range urls {
		src, err := httpfile.New(url)
		if err != nil {
			return it, err
		}
		it.Sources = append(it.Sources, src)
	}
	return it, nil
}

// fetchInputs brings everything that a lock names into the store.
func (m *machine) fetchInputs(ctx context.Context, lock *lockfile.Lock, platforms []definition.Platform, f inputFlags) error {
	items, err := m.located(ctx, lock, platforms, f)
	if err != nil {
		return err
	}
	return m.fetchItems(ctx, items, f)
}

func (m *machine) fetchItems(ctx context.Context, items []fetch.Item, f inputFlags) error {
	return fetch.Fetch(ctx, items, m.store.Inputs(), fetch.Options{Offline: f.offline, Events: m.ui.fetchEvent})
}

// refetch brings what turned out to be damaged again.
func (m *machine) refetch(ctx context.Context, lock *lockfile.Lock, d digest.Digest, f inputFlags) error {
	items, err := m.located(ctx, lock, nil, f)
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.Digest != d {
			continue
		}
		if !f.offline {
			m.ui.warn("%s was damaged in the store; fetching it again", it.Name)
		}
		if err := fetch.Refetch(ctx, []fetch.Item{it}, m.store.Inputs(), fetch.Options{Offline: f.offline, Events: m.ui.fetchEvent}); err != nil {
			return fmt.Errorf("%s was damaged in the store and has been set aside: %w", it.Name, err)
		}
		return nil
	}
	return fmt.Errorf("blob %s is damaged, and the lock does not name it", d)
}

// packLocals hashes the local inputs and puts their canonical archives into the store.
func (m *machine) packLocals(p *project) (map[string]builder.Local, error) {
	out := map[string]builder.Local{}
	for _, in := range p.Definition.Inputs.Local {
		if err := staysInside(p.Dir, in.Path); err != nil {
			return nil, fmt.Errorf("input %q: %w", in.Name, err)
		}
		w, err := m.store.Create()
		if err != nil {
			return nil, err
		}
		t, err := local.Pack(filepath.Join(p.Dir, in.Path), w, local.Options{})
		if err != nil {
			_ = w.Close()
			return nil, fmt.Errorf("input %q: %w", in.Name, err)
		}
		archive, _, err := w.Commit()
		if err != nil {
			return nil, err
		}
		out[in.Name] = builder.Local{Tree: t.Digest, Archive: archive}
	}
	return out, nil
}

// staysInside refuses a path that symlinks lead out of the project: what a
// checkout of somebody else's project brings in must be part of it.
func staysInside(dir, path string) error {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(filepath.Join(dir, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // said in better words when it is read
	}
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(root, real)
	if err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("path %q leads out of the project, to %q", path, real)
	}
	return nil
}

// sandboxedApt runs apt, unpacked from locked packages, in the sandbox.
type sandboxedApt struct {
	machine *machine
	flags   inputFlags
	suite   string
}

// Run implements deb.Apt.
func (a *sandboxedApt) Run(ctx context.Context, r deb.AptRun) error {
	source, err := a.machine.debianSource(a.suite, a.flags)
	if err != nil {
		return err
	}
	items, err := packageItems(source, r.Packages, r.Archives)
	if err != nil {
		return err
	}
	if err := fetch.Fetch(ctx, items, a.machine.store.Inputs(), fetch.Options{Events: a.machine.ui.fetchEvent}); err != nil {
		return err
	}
	b, err := a.machine.builder(builder.Surroundings{})
	if err != nil {
		return err
	}
	err = b.RunTool(ctx, builder.Tool{Packages: r.Packages, Args: r.Args, Folder: r.Dir, At: deb.AptDir, Stdout: r.Stdout, Stderr: r.Stderr})
	var exit *sandbox.ExitError
	if errors.As(err, &exit) {
		return &aptExit{exit}
	}
	return err
}

// aptExit is apt's own exit status in the form that deb.Apt promises.
type aptExit struct{ *sandbox.ExitError }

func (e *aptExit) ExitCode() int { return e.Code }
func (e *aptExit) Unwrap() error { return e.ExitError }

// lockFlags say how a lock may change.
type lockFlags struct {
	inputFlags
	update     []string
	allowOlder bool
}

// resolveLock chooses every input of a project anew.
func (m *machine) resolveLock(ctx context.Context, p *project, f lockFlags) (*lockfile.Lock, error) {
	m.dir = p.Dir
	trees := &projectTrees{machine: m, project: p, flags: f.inputFlags}
	defer trees.close()
	o := resolve.Options{
		Definition: p.Definition, Previous: p.Lock, Update: f.update, AllowOlder: f.allowOlder,
		Assembler: builder.AssemblerVersion,
		Epoch:     func() (time.Time, error) { return commitTime(p.Dir) },
		Files:     filePinner{m},
		Kinds:     m.kinds(),
		Tree:      trees.open,
		Base: func(ctx context.Context, lock *lockfile.Lock, name string, platform definition.Platform) (*deb.Base, error) {
			return m.baseDatabase(ctx, lock, name, platform, f.inputFlags)
		},
		Blobs:  storeBlobs{m.store},
		Fetch:  fetch.Options{Events: m.ui.lockEvent},
		Events: m.ui.resolveEvent,
	}
	if d := p.Definition.Inputs.Debian; d != nil {
		source, err := m.debianSource(d.Suite, f.inputFlags)
		if err != nil {
			return nil, err
		}
		o.Deb = source
		for _, name := range d.SignedBy {
			key, err := readSmallFile(filepath.Join(p.Dir, name), maxKeyFile)
			if err != nil {
				return nil, fmt.Errorf("signed-by: %w", err)
			}
			o.Keys = append(o.Keys, key)
		}
	}
	return resolve.Resolve(ctx, o)
}

// baseDatabase reads what an image that packages are added to says of its own,
// and brings the image where the store has lost it.
func (m *machine) baseDatabase(ctx context.Context, lock *lockfile.Lock, name string, p definition.Platform, f inputFlags) (*deb.Base, error) {
	items, err := m.pinItems(lock, lock.PinsOf(name, p.String()), nil)
	if err != nil {
		return nil, err
	}
	if err := m.fetchItems(ctx, items, f); err != nil {
		return nil, err
	}
	b := &builder.Builder{Store: m.store, Kinds: fileKinds(), Events: m.ui.buildEvent}
	have, err := b.Database(ctx, lock, name, p)
	if err != nil {
		return nil, err
	}
	return &deb.Base{Input: name, Platform: p, Status: have.Status, Release: have.Release}, nil
}

// projectTrees opens the inputs that others are locked from, as a build would see them.
type projectTrees struct {
	machine *machine
	project *project
	flags   inputFlags
	locals  map[string]builder.Local // once one was asked for
	files   []*os.File
}

func (t *projectTrees) close() {
	for _, f := range t.files {
		_ = f.Close()
	}
}

// open opens a local input, or the git input that pin is of.
func (t *projectTrees) open(ctx context.Context, name string, pin *lockfile.Pin) (*inputsource.Tree, error) {
	var archive digest.Digest
	if pin != nil {
		archive = pin.SHA256
		if err := t.bring(ctx, name, *pin); err != nil {
			return nil, err
		}
	} else {
		if t.locals == nil {
			var err error
			if t.locals, err = t.machine.packLocals(t.project); err != nil {
				return nil, err
			}
		}
		archive = t.locals[name].Archive
	}
	f, err := inputsource.OpenFile(storeBlobs{t.machine.store}, archive)
	if err != nil {
		return nil, fmt.Errorf("input %q: %w", name, err)
	}
	t.files = append(t.files, f)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return inputsource.NewTree(name, f, info.Size())
}

// bring fetches a git input that was locked before, and whose bytes the store
// no longer has.
func (t *projectTrees) bring(ctx context.Context, name string, pin lockfile.Pin) error {
	asked := &lockfile.Lock{Requests: lockfile.RequestsOf(t.project.Definition)}
	items, err := t.machine.pinItems(asked, []lockfile.Pin{pin}, nil)
	if err != nil {
		return err
	}
	return fetch.Fetch(ctx, items, t.machine.store.Inputs(), fetch.Options{Events: t.machine.ui.fetchEvent})
}

// maxKeyFile is far above the size of all of Debian's archive keys together (60 kB).
const maxKeyFile = 4 << 20

// filePinner records files that the definition names by URL.
type filePinner struct{ m *machine }

// Pin implements resolve.FileSource.
func (f filePinner) Pin(ctx context.Context, name, url string) (lockfile.File, error) {
	return httpfile.Pin(ctx, name, url, f.m.store)
}

// commitTime is the committer time of the HEAD of the git checkout that dir is
// in. The object is read as it is: "git log" would run what the checkout's own
// configuration names (gpg.program with log.showSignature), and a checkout may
// have come as an archive from anybody.
func commitTime(dir string) (time.Time, error) {
	cmd := exec.Command("git", "-C", dir, "-c", "core.fsmonitor=false", "cat-file", "commit", "HEAD")
	// No object is brought from elsewhere, which could run a program, too.
	cmd.Env = append(os.Environ(), "GIT_ALLOW_PROTOCOL=none", "GIT_NO_LAZY_FETCH=1", "GIT_NO_REPLACE_OBJECTS=1", "GIT_OPTIONAL_LOCKS=0")
	out, err := cmd.Output()
	if err != nil {
		why := err.Error()
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			why = strings.TrimSpace(string(exit.Stderr))
		}
		return time.Time{}, fmt.Errorf("epoch: commit: cannot read the time of the last commit of %q: %s", dir, why)
	}
	t, err := git.CommitTime(out)
	if err != nil {
		return time.Time{}, fmt.Errorf("epoch: commit: the last commit of %q %w", dir, err)
	}
	return t, nil
}

// writeOutputs writes images where --output says.
func (m *machine) writeOutputs(outputs []output, name string, images []image.Image) error {
	for _, o := range outputs {
		err := o.write(name, images, m.store)
		if errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("cannot write image to %q: no space left on its file system", o.path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
