package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"quorate.dev/builder"
	"quorate.dev/builder/registry"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/local"
)

// Types of an archive of inputs, beside those of a published project (publish.go).
const (
	archiveType = "application/vnd.quorate.archive.v1"
	indexType   = "application/vnd.quorate.signed-index.v1" // an InRelease file
	keyType     = "application/pgp-keys"
	inputType   = "application/vnd.quorate.input.v1" // a locked input as it was fetched
)

// inputNote is the annotation that says which input a layer is.
const inputNote = "dev.quorate.input"

// archiveFlags are the flags of `quorate archive`.
type archiveFlags struct {
	inputs   inputFlags
	registry registryFlags
	outputs  []string
	push     string
	indexes  bool // --without-indexes
	asJSON   bool
}

// archived is what `quorate archive --json` answers.
type archived struct {
	Digest  string   `json:"digest"` // of the archive's manifest
	Inputs  int      `json:"inputs"`
	Size    int64    `json:"size"` // bytes
	Written []string `json:"written"`
	Pushed  string   `json:"pushed,omitempty"`
}

func archiveCmd(ui *terminal) *cobra.Command {
	var f archiveFlags
	cmd := &cobra.Command{
		Use:   "archive [DIR]",
		Short: "Write everything that a lock names as one artifact that outlives its sources",
		Long: `Archive gathers what the project in DIR (this folder by default) is built from:
the definition, the lock, every locked input, the local inputs, the signed
archive indexes that the packages were chosen from and the keys that the
definition names. It writes them as one OCI artifact, each digest once, into a
folder of its own (an OCI image layout) or with --push a registry, or a folder that
holds more, such as the published image. The same project gives the same
artifact; the same again finishes one that was interrupted.

  quorate build --inputs oci:DIR      builds from it; so do rebuild and reproduce
  quorate archive extract             makes the project's folder again
  quorate archive verify              reads all of it, and says what is missing

An archive is not trusted: every byte of it is held against the lock. The last
line on standard output is the digest of its manifest, or its reference.` +
			exitStatus("archived", "", "it was not: stale lock, an input that cannot be had, no room"),
		Example: `  quorate archive --output oci=/mnt/tape/app-1.4
  quorate archive examples/nginx --push registry.example/archive:nginx
  quorate archive app --push oci:/mnt/usb/app:inputs
  quorate build examples/nginx --inputs oci:/mnt/tape/app-1.4 --offline`,
		Args: takes("[DIR]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runArchive(cmd.Context(), ui, folder(args), f)
		},
	}
	f.inputs.register(cmd, true)
	f.inputs.registry = &f.registry
	f.registry.register(cmd.Flags())
	cmd.Flags().StringArrayVar(&f.outputs, "output", nil, "write it to a folder: `oci=DIR`; may be repeated")
	cmd.Flags().StringVar(&f.push, "push", "", "push it to a registry as `REF`, or add it to a folder as oci:DIR:TAG")
	cmd.Flags().BoolVar(&f.indexes, "without-indexes", false, "leave out the signed indexes, which a build does not need")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "answer in JSON")
	cmd.AddCommand(archiveExtractCmd(ui), archiveVerifyCmd(ui))
	return cmd
}

// folders checks what --output and --push say, before anything is fetched.
func (f *archiveFlags) folders() (dirs []string, ref registry.Reference, err error) {
	if len(f.outputs) == 0 && f.push == "" {
		return nil, ref, &usageError{err: errors.New("say where to: --output oci=DIR or --push REF"), command: "quorate archive"}
	}
	for _, o := range f.outputs {
		dir, ok := strings.CutPrefix(o, "oci=")
		if !ok || dir == "" {
			return nil, ref, &usageError{err: fmt.Errorf("bad --output %q: expected oci=DIR", o), command: "quorate archive"}
		}
		if err := registry.CheckLayout(dir, archiveType); err != nil {
			return nil, ref, fmt.Errorf("cannot write to %q: %w", dir, err)
		}
		dirs = append(dirs, dir)
	}
	if f.push != "" {
		ref, err = publishTarget(f.push)
	}
	return dirs, ref, err
}

func runArchive(ctx context.Context, ui *terminal, dir string, f archiveFlags) error {
	dirs, ref, err := f.folders()
	if err != nil {
		return err
	}
	p, err := openProject(dir)
	if err != nil {
		return err
	}
	if err := p.requireLock(); err != nil {
		return err
	}
	m, err := openMachine(ui)
	if err != nil {
		return err
	}
	defer m.close()
	m.dir = p.Dir
	c := &collection{machine: m, project: p}
	if err := c.gather(ctx, f); err != nil {
		return err
	}
	answer := archived{Inputs: len(c.artifact.Layers), Size: c.size(), Written: []string{}}
	for _, dir := range dirs {
		top, err := registry.WriteLayout(ctx, dir, c.artifact, c.progress("archive "+dir))
		if err != nil {
			return err
		}
		answer.Digest = top.Digest.String()
		answer.Written = append(answer.Written, dir)
	}
	if f.push != "" {
		top, err := f.registry.client(ui).PushArtifact(ctx, ref, c.artifact)
		if err != nil {
			return changed(err)
		}
		answer.Digest, answer.Pushed = top.Digest.String(), ref.At(top.Digest).String()
	}
	ui.say("archived %s, %s", count(answer.Inputs, "part"), size(answer.Size))
	switch {
	case f.asJSON:
		ui.answerJSON(answer)
	case answer.Pushed != "":
		ui.answer("%s", answer.Pushed)
	default:
		ui.answer("%s", answer.Digest)
	}
	return nil
}

// collection is an archive while it is put together.
type collection struct {
	machine  *machine
	project  *project
	artifact *registry.Artifact
	seen     map[digest.Digest]bool
}

// gather brings everything and lists it: documents first, then trees, then
// inputs by digest, so that the list does not depend on the order of anything.
func (c *collection) gather(ctx context.Context, f archiveFlags) error {
	c.artifact, c.seen = &registry.Artifact{Type: archiveType}, map[digest.Digest]bool{}
	c.add(registry.Document(definitionType, definition.FileName, c.project.DefinitionBytes))
	c.add(registry.Document(lockType, lockfile.FileName, c.project.LockBytes))
	if err := c.keys(f); err != nil {
		return err
	}
	if !f.indexes {
		if err := c.indexes(ctx, f.inputs); err != nil {
			return err
		}
	}
	packed, err := c.machine.packLocals(c.project)
	if err != nil {
		return err
	}
	for _, in := range c.project.Definition.Inputs.Local {
		l, err := c.machine.localLayer(in.Name, packed[in.Name].Archive)
		if err != nil {
			return err
		}
		c.add(l)
	}
	items, err := c.machine.located(ctx, c.project.Lock, nil, f.inputs)
	if err != nil {
		return err
	}
	if err := c.machine.fetchItems(ctx, items, f.inputs); err != nil {
		return err
	}
	slices.SortStableFunc(items, func(a, b fetch.Item) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	for _, it := range items {
		c.add(registry.ArtifactLayer{
			MediaType: inputType, Digest: it.Digest, Size: it.Size, Annotations: map[string]string{inputNote: it.Name},
			Open: func() (io.ReadCloser, error) { return c.machine.store.Open(it.Digest) },
		})
	}
	return nil
}

// add adds a layer, each digest once.
func (c *collection) add(l registry.ArtifactLayer) {
	if !c.seen[l.Digest] {
		c.seen[l.Digest] = true
		c.artifact.Layers = append(c.artifact.Layers, l)
	}
}

// keyTitle and indexTitle are the names by which keys and signed indexes go.
func keyTitle(name string) string   { return "keys/" + name }
func indexTitle(name string) string { return "indexes/" + name + "/InRelease" }

// keyFiles are the files of keys that a definition names, each once.
func keyFiles(d *definition.Definition) []string {
	var all []string
	if d.Inputs.Debian != nil {
		all = append(all, d.Inputs.Debian.SignedBy...)
	}
	for _, g := range d.Inputs.Git {
		all = append(all, g.SignedBy...)
	}
	for _, p := range d.Inputs.Npm {
		all = append(all, p.SignedBy...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// keys adds the keys that the definition names, which are needed to lock again.
func (c *collection) keys(f archiveFlags) error {
	for _, name := range keyFiles(c.project.Definition) {
		key, err := readSmallFile(filepath.Join(c.project.Dir, name), maxKeyFile)
		if err != nil {
			return fmt.Errorf("signed-by: %w", err)
		}
		c.add(registry.Document(keyType, keyTitle(name), key))
	}
	return nil
}

// indexes adds the signed indexes: what an archive's owner said of its packages on that day.
func (c *collection) indexes(ctx context.Context, f inputFlags) error {
	lock := c.project.Lock
	if len(lock.Archives) == 0 {
		return nil
	}
	from, err := c.machine.archive(ctx, f)
	if err != nil {
		return err
	}
	source, err := c.machine.debianSource(lock.Requests.Suite, f)
	if err != nil {
		return err
	}
	for _, a := range lock.Archives {
		var b []byte
		found := false
		if from != nil {
			if b, found, err = from.document(indexTitle(a.Name), maxKeyFile); err != nil {
				return err
			}
		}
		if !found || digest.Of(b) != a.InRelease {
			if b, err = source.SignedIndex(ctx, a, f.offline); err != nil {
				return &noIndexError{err}
			}
		}
		c.add(registry.Document(indexType, indexTitle(a.Name), b))
	}
	return nil
}

// noIndexError says that a signed index of a lock is nowhere any more.
type noIndexError struct{ error }

func (e *noIndexError) Unwrap() error { return e.error }
func (e *noIndexError) Hint() string {
	return "mirrors have only today's index; archive where and when the lock is made, or leave the indexes out: --without-indexes"
}

func (c *collection) size() int64 {
	var n int64
	for _, l := range c.artifact.Layers {
		n += l.Size
	}
	return n
}

// progress counts bytes that were written.
func (c *collection) progress(what string) func(int64) {
	var done atomic.Int64
	total := c.size()
	return func(n int64) {
		now := done.Add(n)
		c.machine.ui.report(event{Key: what, Text: what, Current: now, Total: total, Bytes: true, Done: now >= total})
	}
}

func archiveVerifyCmd(ui *terminal) *cobra.Command {
	var r registryFlags
	cmd := &cobra.Command{
		Use:   "verify ARCHIVE",
		Short: "Read an archive whole, and say whether it holds all that its lock names",
		Long: `Verify reads every byte of the archive of inputs ARCHIVE (oci:DIR[:TAG], or a
reference in a registry), holds it against its digest, and says what its lock names and it
lacks.` +
			exitStatus("whole: every byte is what its digest says, and nothing is missing", "damaged, or not whole; what is wrong is named", "could not tell: no archive there, or a registry that does not answer"),
		Example: `  quorate archive verify oci:/mnt/tape/app-1.4
  quorate archive verify registry.example/archive:nginx`,
		Args: takes("ARCHIVE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := openMachine(ui)
			if err != nil {
				return err
			}
			defer m.close()
			a, err := openArchive(cmd.Context(), r.client(ui), args[0])
			if _, ok := errors.AsType[*digest.MismatchError](err); ok {
				return different(err)
			}
			if err != nil {
				return err
			}
			return m.verifyArchive(cmd.Context(), a)
		},
	}
	r.register(cmd.Flags())
	return cmd
}

// verifyArchive reads everything and compares with the lock inside.
func (m *machine) verifyArchive(ctx context.Context, a *inputArchive) error {
	bad := 0
	wrong := func(format string, args ...any) {
		bad++
		m.ui.warn(format, args...)
	}
	for _, l := range a.artifact.Layers {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := readLayer(l); err != nil {
			if e, ok := errors.AsType[*registry.Error](err); ok && e.Kind == registry.Unreachable {
				return err
			}
			wrong("%s: %v", layerName(l), err)
		}
	}
	lacks, err := m.missing(a)
	if err != nil {
		return different(err)
	}
	for _, name := range lacks {
		wrong("%s is missing", name)
	}
	if bad > 0 {
		return different(fmt.Errorf("archive %q is not whole: %s", a.name, count(bad, "fault")))
	}
	m.ui.say("%s, every byte as its digest says", count(len(a.artifact.Layers), "part"))
	m.ui.answer("%s", a.top.Digest)
	return nil
}

func readLayer(l registry.ArtifactLayer) error {
	r, err := l.Open()
	if registry.IsNotFound(err) {
		return errors.New("its blob is missing")
	}
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// layerName is what people call a layer.
func layerName(l registry.ArtifactLayer) string {
	for _, name := range []string{l.Title(), l.Annotations[inputNote]} {
		if name != "" {
			return fmt.Sprintf("%q (%s)", name, l.Digest)
		}
	}
	return l.Digest.String()
}

// missing lists what an archive's own lock and definition name and it lacks.
func (m *machine) missing(a *inputArchive) ([]string, error) {
	p, err := a.project()
	if err != nil {
		return nil, err
	}
	items, err := m.items(p.Lock, nil, inputFlags{})
	if err != nil {
		return nil, err
	}
	var lacks []string
	for _, it := range items {
		if l, ok := a.layers[it.Digest]; !ok || l.Size != it.Size {
			lacks = append(lacks, fmt.Sprintf("%q (%s)", it.Name, it.Digest))
		}
	}
	for _, in := range p.Definition.Inputs.Local {
		if !slices.ContainsFunc(a.artifact.Layers, func(l registry.ArtifactLayer) bool { return l.Title() == localTitle(in.Name) }) {
			lacks = append(lacks, fmt.Sprintf("local input %q", in.Name))
		}
	}
	return lacks, nil
}

// project reads the definition and the lock of an archive.
func (a *inputArchive) project() (*project, error) {
	p := &project{Dir: a.name}
	for _, doc := range []struct {
		title string
		to    *[]byte
	}{{definition.FileName, &p.DefinitionBytes}, {lockfile.FileName, &p.LockBytes}} {
		b, ok, err := a.document(doc.title, maxLock)
		if err == nil && !ok {
			err = fmt.Errorf("archive %q has no %s", a.name, doc.title)
		}
		if err != nil {
			return nil, err
		}
		*doc.to = b
	}
	var err error
	if p.Definition, err = definition.Parse(path.Join(a.name, definition.FileName), p.DefinitionBytes); err != nil {
		return nil, err
	}
	if p.Lock, err = lockfile.Parse(path.Join(a.name, lockfile.FileName), p.LockBytes); err != nil {
		return nil, err
	}
	if err := p.Lock.Covers(p.Definition, builder.AssemblerVersion); err != nil {
		if _, stale := errors.AsType[*lockfile.StaleError](err); stale {
			return nil, fmt.Errorf("archive %q: %w", a.name, err)
		}
	}
	return p, nil
}

func archiveExtractCmd(ui *terminal) *cobra.Command {
	var r registryFlags
	cmd := &cobra.Command{
		Use:   "extract ARCHIVE DIR",
		Short: "Make a project's folder again from an archive of its inputs",
		Long: `Extract writes the definition, the lock, the keys and the local inputs of the
archive ARCHIVE (oci:DIR[:TAG], or a reference in a registry) to the new folder DIR, so
that it can be built there with --inputs ARCHIVE. Whoever made the archive decides
what that project is: name it by a digest that you trust, or compare the lock.` +
			exitStatus("DIR holds the project", "", "it was not made: no archive there, it is not whole, DIR is in use"),
		Example: `  quorate archive extract oci:/mnt/tape/app-1.4 app
  quorate build app --inputs oci:/mnt/tape/app-1.4 --offline`,
		Args: takes("ARCHIVE", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := openArchive(cmd.Context(), r.client(ui), args[0])
			if err != nil {
				return err
			}
			if err := a.extract(args[1]); err != nil {
				return err
			}
			ui.say("the project %s is in %q", a.top.Digest.Short(), args[1])
			return nil
		},
	}
	r.register(cmd.Flags())
	return cmd
}

// extract makes the folder beside its place and gives it its name at the end.
func (a *inputArchive) extract(dir string) error {
	fail := func(err error) error { return fmt.Errorf("cannot extract to %q: %w", dir, err) }
	dir = filepath.Clean(dir)
	switch list, err := os.ReadDir(dir); {
	case err == nil && len(list) > 0:
		return fail(errors.New("it is there and is not empty"))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fail(err)
	}
	p, err := a.project()
	if err != nil {
		return err
	}
	aside, err := os.MkdirTemp(filepath.Dir(dir), ".quorate-*")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(aside) // is gone when all went well
	root, err := os.OpenRoot(aside)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	if err := a.fill(root, p); err != nil {
		return fail(err)
	}
	if err := os.Chmod(aside, 0o755); err != nil {
		return fail(err)
	}
	if err := os.Rename(aside, dir); err != nil { // over an empty folder, too
		return fail(err)
	}
	return nil
}

func (a *inputArchive) fill(root *os.Root, p *project) error {
	files := map[string][]byte{definition.FileName: p.DefinitionBytes, lockfile.FileName: p.LockBytes}
	for _, name := range keyFiles(p.Definition) {
		key, ok, err := a.document(keyTitle(name), maxKeyFile)
		if err != nil {
			return err
		}
		if ok {
			files[name] = key
		}
	}
	for name, b := range files {
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(name, b, 0o644); err != nil {
			return err
		}
	}
	for _, in := range p.Definition.Inputs.Local {
		i := slices.IndexFunc(a.artifact.Layers, func(l registry.ArtifactLayer) bool { return l.Title() == localTitle(in.Name) })
		if i < 0 {
			return fmt.Errorf("local input %q is missing from archive %q", in.Name, a.name)
		}
		if err := unpackLocal(root, in.Path, a.artifact.Layers[i]); err != nil {
			return a.fault(localTitle(in.Name), err)
		}
	}
	return nil
}

// unpackLocal writes the archive of a local input below dir. It is a stranger's
// until its end says otherwise: nothing is followed out of the root, and
// nothing but what local.Pack writes is taken.
func unpackLocal(root *os.Root, dir string, l registry.ArtifactLayer) error {
	r, err := l.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	archive := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if n == local.MaxFiles {
			return fmt.Errorf("more than %d files", local.MaxFiles)
		}
		if !filepath.IsLocal(filepath.FromSlash(h.Name)) {
			return fmt.Errorf("entry %q leads out of the tree", h.Name)
		}
		if err := unpackEntry(root, filepath.Join(dir, filepath.FromSlash(h.Name)), h, archive); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, r) // the digest is checked at the end
	return err
}

// unpackEntry writes one entry. Local inputs may lie in each other, and hold the
// definition and the lock: what is there already has to be the same.
func unpackEntry(root *os.Root, name string, h *tar.Header, body io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		err := root.Symlink(h.Linkname, name)
		if errors.Is(err, fs.ErrExist) {
			if target, err := root.Readlink(name); err != nil || target != h.Linkname {
				return fmt.Errorf("%q is there already, and other than here: no link to %q", name, h.Linkname)
			}
			return nil
		}
		return err
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			return sameFile(root, name, h, body)
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(f, body)
		if h.Mode&0o111 != 0 {
			err = errors.Join(err, f.Chmod(0o755))
		}
		return errors.Join(err, f.Close())
	}
	return fmt.Errorf("entry %q is of type %q, which no local input has", h.Name, h.Typeflag)
}

// sameFile holds an entry against the file that is there, and lets it be executed.
func sameFile(root *os.Root, name string, h *tar.Header, body io.Reader) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is there already, and is not a file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	was, is := digest.NewHash(), digest.NewHash()
	if _, err := io.Copy(was, f); err != nil {
		return err
	}
	if _, err := io.Copy(is, body); err != nil {
		return err
	}
	if digest.Sum(was) != digest.Sum(is) {
		return fmt.Errorf("%q is there already, with other bytes than here", name)
	}
	if h.Mode&0o111 != 0 {
		return f.Chmod(0o755)
	}
	return nil
}
