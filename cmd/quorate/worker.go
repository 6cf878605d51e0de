package main

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/spf13/cobra"

	"quorate.dev/builder"
	"quorate.dev/builder/image"
	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/store"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/local"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/attestation/intoto"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/docker"
	"quorate.dev/rebuild/keyfile"
	"quorate.dev/rebuild/keyfile/external"
)

// workerCmd is what `quorate rebuild` starts, once for each build. The protocol
// is package rebuild/host's: a job on standard input, events and a result on
// standard output, a log on standard error.
func workerCmd(ui *terminal) *cobra.Command {
	var makeKey, inputs string
	var check bool
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Build one job for quorate rebuild, and sign a report of it",
		Long: `Worker reads one job from standard input, builds it in a work folder of its own,
signs a report with its own key and ends. People do not type this.` +
			exitStatus("built and reported", "", "could not build, or could not report"),
		Hidden: true,
		Args:   takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check {
				s, err := (&machine{ui: ui}).isolate()
				if err != nil {
					return err
				}
				ui.answer("%s", s.Mapping())
				if free := freeAt("."); free >= 0 {
					ui.answer("free %d", free)
				}
				return nil
			}
			if makeKey != "" {
				key, err := workerKey(makeKey)
				if err != nil {
					return err
				}
				ui.answerBytes(key.Public().PEM())
				return nil
			}
			if inputs != "" {
				return docker.ReceiveInputs(cmd.Context(), inputs, ui.in, ui)
			}
			say := host.NewSpeaker(ui.out)
			err := runWorker(cmd.Context(), ui, ui.in, say)
			if err != nil {
				_ = say.Event(host.Event{Kind: host.KindError, Message: err.Error()}) // if nobody listens, the log has it
			}
			return err
		},
	}
	cmd.Flags().StringVar(&makeKey, "make-key", "", "only make the private key `FILE` if there is none, and print its public half")
	cmd.Flags().StringVar(&inputs, "inputs", "", "only put into the store `DIR` what standard input offers and it lacks")
	cmd.Flags().BoolVar(&check, "check", false, "only make an empty sandbox, and print its mapping of ids and what the disk of this folder has free")
	return cmd
}

// reportKey opens what a worker signs its report with.
func reportKey(ui *terminal, name string) (keyfile.Signer, error) {
	if external.Named(name) {
		return openSigner(ui, name, passphraseFlags{fd: -1})
	}
	return workerKey(name)
}

// workerKey loads a worker's own key, and makes it and the public half beside
// it at first use. Nobody is there to type a passphrase, so it has none.
func workerKey(path string) (key *keyfile.Key, err error) {
	asOwnerOf(filepath.Dir(path), func() { key, err = loadOrMakeKey(path) })
	return key, err
}

func loadOrMakeKey(path string) (*keyfile.Key, error) {
	key, err := keyfile.Load(path, nil)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make key: %w", err)
	}
	if key, err = keyfile.Generate(); err != nil {
		return nil, err
	}
	if err := key.Save(path, nil); err != nil {
		if errors.Is(err, fs.ErrExist) { // another worker was faster
			return keyfile.Load(path, nil)
		}
		return nil, err
	}
	return key, key.Public().Replace(publicPath(path))
}

// publicPath is where the public half of a private key file lies.
func publicPath(private string) string { return strings.TrimSuffix(private, ".key") + ".pub" }

// workerRenderer passes the story on to the orchestrator, and keeps it in the log.
type workerRenderer struct {
	say *host.Speaker
	log renderer
}

func (w *workerRenderer) event(e event) {
	w.log.event(e)
	_ = w.say.Event(hostEvent(e)) // an orchestrator that is gone ends us in other ways
}

// hostEvent is an event as it goes over a line.
func hostEvent(e event) host.Event {
	out := host.Event{
		Kind: host.KindPhase, Phase: e.Key, Name: e.Text, Current: e.Current, Total: e.Total, Bytes: e.Bytes,
		Line: e.Line, Done: e.Done, Cached: e.Note == "cached", Elapsed: e.Elapsed,
	}
	if e.Line != "" {
		out.Kind = host.KindLine
	}
	return out
}

func (w *workerRenderer) line(kind, prefix, text string) {
	w.log.line(kind, prefix, text)
	if kind == "warning" {
		_ = w.say.Event(host.Event{Kind: host.KindWarning, Message: text})
	}
}

func (w *workerRenderer) close() { w.log.close() }

// clock is this machine's, for the times in a rebuilder's report. Stories set it wrong.
var clock = func(string) time.Time { return time.Now() }

// runWorker fetches, builds, hashes and signs one job.
func runWorker(ctx context.Context, ui *terminal, stdin io.Reader, say *host.Speaker) error {
	in := bufio.NewReader(stdin)
	job, err := host.ReadJob(in)
	if err != nil {
		return err
	}
	ui.mu.Lock()
	ui.renderer = &workerRenderer{say: say, log: newPlain(ui.err)}
	ui.mu.Unlock()
	if n := len(job.Surroundings.CPUs); n > 0 {
		runtime.GOMAXPROCS(n) // steps see so many CPUs, and what compresses layers has so many threads
	}
	key, err := reportKey(ui, job.KeyFile)
	if err != nil {
		return err
	}
	w, err := openWorker(ui, job)
	if err != nil {
		return err
	}
	defer w.close()
	started := clock(job.Rebuilder)
	result, err := w.build(ctx)
	if err != nil {
		return err
	}
	output := filepath.Join(job.WorkDir, "output")
	if err := image.WriteOCI(output, result.Images, w.machine.store); err != nil {
		return err
	}
	record := w.record(result, started)
	report, err := attestation.SignReport(ctx, record, key)
	if err != nil {
		return err
	}
	links, err := intoto.SignLinks(ctx, intoto.Build{Lock: record.LockDigest, Definition: record.Definition, Nonce: job.Nonce, Steps: record.Steps, Subjects: record.Subjects}, key)
	if err != nil {
		return err
	}
	answer := host.Result{ReportEnvelope: report, LinkEnvelope: links, Salt: make([]byte, host.SaltSize), PublicKey: key.Public().PEM(), OutputDir: output}
	if _, err := rand.Read(answer.Salt); err != nil {
		return err
	}
	for _, s := range record.Subjects {
		answer.Subjects = append(answer.Subjects, host.Subject{Platform: s.Platform, Digest: s.Digest})
	}
	if err := say.Commit(host.Commitment(job.Nonce, job.Rebuilder, report, answer.Salt)); err != nil {
		return err
	}
	w.writeLists(ctx, result) // nobody waits for this but who committed last
	if err := host.AwaitReveal(ctx, in); err != nil {
		return err
	}
	return say.Result(answer)
}

// worker is one job while it is built.
type worker struct {
	job        host.Job
	machine    *machine
	shared     *store.Store // nil without one
	definition *definition.Definition
	lock       *lockfile.Lock
	platforms  []definition.Platform
	locals     map[string]builder.Local
}

// openWorker parses what the job brings, trusting none of it, and opens a store
// of the worker's own: it reads verified blobs from the shared one, and nothing that anybody derived.
func openWorker(ui *terminal, job host.Job) (*worker, error) {
	w := &worker{job: job, locals: map[string]builder.Local{}}
	var err error
	if w.definition, err = definition.Parse(definition.FileName, job.Definition); err != nil {
		return nil, err
	}
	if w.lock, err = lockfile.Parse(lockfile.FileName, job.Lock); err != nil {
		return nil, err
	}
	if err := w.lock.Covers(w.definition, builder.AssemblerVersion); err != nil {
		return nil, err
	}
	if w.platforms, err = choosePlatforms(w.definition, job.Platforms); err != nil {
		return nil, err
	}
	if job.InputStore != "" {
		if w.shared, err = store.Open(job.InputStore, store.Options{}); err != nil {
			return nil, err
		}
	}
	if w.machine, err = openWorkerMachine(ui, filepath.Join(job.WorkDir, "store"), w.shared); err != nil {
		return nil, errors.Join(err, w.close())
	}
	for name, l := range job.Locals {
		if err := w.checkLocal(name, l); err != nil {
			return nil, errors.Join(err, w.close())
		}
		w.locals[name] = builder.Local{Tree: l.Tree, Archive: l.Archive}
	}
	return w, nil
}

func (w *worker) close() error {
	var err error
	if w.machine != nil && w.machine.store != nil {
		err = w.machine.close()
	}
	if w.shared != nil {
		err = errors.Join(err, w.shared.Close())
	}
	return err
}

// checkLocal holds the archive of a local input against the tree digest that
// the report will name: the orchestrator's word is not enough for a signature.
func (w *worker) checkLocal(name string, l host.Local) error {
	r, err := w.machine.store.Open(l.Archive)
	if err != nil {
		return fmt.Errorf("input %q: %w", name, err)
	}
	defer r.Close()
	got, err := treeDigest(r)
	if err != nil {
		return fmt.Errorf("input %q: %w", name, err)
	}
	if got != l.Tree {
		return fmt.Errorf("input %q is the tree %s, but the job says %s", name, got, l.Tree)
	}
	return nil
}

// treeDigest is the tree digest of an archive that local.Pack wrote.
func treeDigest(r io.Reader) (digest.Digest, error) {
	var t local.Tree
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return digest.Digest{}, err
		}
		if len(t.Entries) == local.MaxFiles {
			return digest.Digest{}, fmt.Errorf("more than %d files", local.MaxFiles)
		}
		e := local.Entry{Path: strings.TrimSuffix(h.Name, "/"), Mode: uint32(h.Mode), Link: h.Linkname}
		switch h.Typeflag {
		case tar.TypeDir:
			e.Kind = local.Dir
		case tar.TypeSymlink:
			e.Kind = local.Symlink
		case tar.TypeReg:
			e.Kind, e.Size = local.File, h.Size
			sum := digest.NewHash()
			if _, err := io.Copy(sum, archive); err != nil {
				return digest.Digest{}, err
			}
			e.Digest = digest.Sum(sum)
		default:
			return digest.Digest{}, fmt.Errorf("archive holds %q of type %q", h.Name, h.Typeflag)
		}
		t.Entries = append(t.Entries, e)
	}
	// The digest of the blob itself is checked at its end.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return digest.Digest{}, err
	}
	return digest.Of(t.Text()), nil
}

// build fetches what is missing and builds.
func (w *worker) build(ctx context.Context) (*builder.Result, error) {
	inputs := inputFlags{offline: w.job.Offline}
	if len(w.job.Mirrors) > 0 {
		inputs.mirror = w.job.Mirrors[0]
	}
	items, err := w.machine.items(w.lock, w.platforms, inputs)
	if err != nil {
		return nil, err
	}
	// Into the shared store where that can be: fetched bytes have a digest in the lock, so
	// that the next worker may have them, too.
	err = fetch.Fetch(ctx, items, w.machine.store.Inputs(), fetch.Options{Offline: inputs.offline, Events: w.machine.ui.fetchEvent})
	if err != nil {
		return nil, err
	}
	s := w.job.Surroundings
	b, err := w.machine.builder(builder.Surroundings{
		Sandbox:      sandbox.Surroundings{CPUs: s.CPUs, Uname26: s.Uname26, NoASLR: s.NoASLR, FirstPID: s.FirstPID},
		ReverseOrder: s.ReverseOrder,
	})
	if err != nil {
		return nil, err
	}
	b.StepLists = true
	return w.machine.build(ctx, b, builder.Job{Definition: w.definition, Lock: w.lock, Platforms: w.platforms, Locals: w.locals}, inputs)
}

// writeLists writes the lists of what the steps left where the host takes them. They explain
// and prove nothing, so that what goes wrong costs a warning and not the answer.
func (w *worker) writeLists(ctx context.Context, result *builder.Result) {
	dir := filepath.Join(w.job.WorkDir, host.ListsDir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		w.machine.ui.warn("cannot keep the lists of what steps left: %v", err)
		return
	}
	for _, s := range result.Steps {
		if ctx.Err() != nil {
			return
		}
		if err := w.writeList(filepath.Join(dir, host.ListName(s.Tree)), s.Tree); err != nil {
			w.machine.ui.warn("cannot keep the list of what step %q left: %v", s.Step, err)
		}
	}
}

// writeList packs a list of the store. Steps that left the same have one list.
func (w *worker) writeList(path string, list digest.Digest) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	from, err := w.machine.store.Open(list)
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed) // most of a list are digests, which nothing makes smaller
	if err == nil {
		_, err = io.Copy(z, from)
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		var size int64
		if size, err = f.Seek(0, io.SeekCurrent); err == nil && size > host.MaxList {
			err = fmt.Errorf("it has %d bytes when it is packed; at most %d are kept", size, host.MaxList)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// record is all that the report will say.
func (w *worker) record(r *builder.Result, started time.Time) attestation.BuildRecord {
	b := attestation.BuildRecord{
		Rebuilder: w.job.Rebuilder, BuilderID: w.job.BuilderID, Operator: w.job.Operator, Nonce: w.job.Nonce, Attempt: w.job.Attempt,
		Version: version, Name: w.definition.Name, Platforms: w.platforms, Epoch: w.lock.Epoch, Assembler: builder.AssemblerVersion,
		Definition: digest.Of(w.job.Definition), LockDigest: digest.Of(w.job.Lock), Lock: w.lock,
		Log: r.Logs, FileList: fileList(r.Lists),
		Environment: w.environment(), Surroundings: w.job.Surroundings.Map(), Started: started, Finished: clock(w.job.Rebuilder),
	}
	for name, l := range w.locals {
		b.Locals = append(b.Locals, attestation.Local{Name: name, Tree: l.Tree})
	}
	for _, img := range r.Images {
		b.Subjects = append(b.Subjects, agreement.Subject{Name: w.definition.Name, Platform: img.Platform.String(), Digest: img.ManifestDigest})
	}
	for _, s := range r.Steps {
		b.Steps = append(b.Steps, agreement.StepDigest{Platform: s.Platform, Step: s.Step, Tree: s.Tree})
	}
	return b
}

// fileList is one digest for the lists of all platforms: the list's own when
// there is one, else of a line "PLATFORM DIGEST" for each.
func fileList(lists []builder.FileList) digest.Digest {
	if len(lists) == 0 {
		return digest.Digest{}
	}
	if len(lists) == 1 {
		return lists[0].Digest
	}
	var b strings.Builder
	for _, l := range lists {
		fmt.Fprintf(&b, "%s %s\n", l.Platform, l.Digest)
	}
	return digest.Of([]byte(b.String()))
}

// environment is what the report tells of this machine. None of it may matter;
// when two images differ, it is the first place to look.
func (w *worker) environment() map[string]string {
	facts := hostFacts(w.job.WorkDir)
	facts["os"], facts["architecture"] = runtime.GOOS, runtime.GOARCH
	facts["cpus"] = strconv.Itoa(runtime.NumCPU())
	facts["go"] = runtime.Version()
	facts["uid"] = strconv.Itoa(os.Getuid())
	facts["work-folder"] = w.job.WorkDir
	if zone, offset := time.Now().Zone(); zone != "" {
		facts["time-zone"] = fmt.Sprintf("%s %+d", zone, offset)
	}
	if name, err := os.Hostname(); err == nil {
		facts["hostname"] = name
	}
	if s, err := w.machine.isolate(); err == nil {
		facts["sandbox-mapping"] = string(s.Mapping())
		for _, p := range w.platforms {
			if e, err := s.Emulator(context.Background(), p.Architecture); err == nil && p.Architecture != runtime.GOARCH {
				facts["emulator-"+p.Architecture] = e.String()
			}
		}
	}
	facts["isolation-row"], facts["engine-id"] = os.Getenv(host.IsolationVar), os.Getenv(host.EngineVar)
	for name, value := range facts {
		if value == "" {
			delete(facts, name)
		}
	}
	return facts
}
