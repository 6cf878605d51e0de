// Package docker starts workers in a Docker Engine: on this machine or on
// another one, each in a container that is used once.
//
//	h := &docker.Host{Endpoint: docker.Endpoint{Address: "ssh://build@ams"}}
//	result, err := h.Start(ctx, job, events)
//
// # What happens
//
//  1. The engine is asked who it is ([Endpoint] says how it is reached; the
//     version of its API is negotiated), and leftovers of dead runs are removed.
//  2. The worker's image is made of this very program, which is linked
//     statically, and of nothing else. It is the same bytes for the same program.
//     An engine gets it once, by digest, and keeps it.
//  3. The row of isolation is chosen: the least privilege with which a sandbox
//     works inside a container of that engine ([Row]).
//  4. Locked inputs that the engine lacks are moved there, from the store of verified
//     blobs; it keeps them (inputs.go). The worker holds them against the lock
//     once more; it fetches nothing itself.
//  5. A container is made: no network, a read-only root, no new privileges,
//     limits of memory and processes. All bulk data lies in an anonymous volume,
//     since a sandbox's overlay cannot lie upon the engine's. Local inputs go there.
//  6. The job goes to its standard input, events come from its standard output,
//     and its log from its standard error. The engine keeps no log of its own.
//  7. When it is asked for its answer, what it built and the lists of what its steps left
//     are copied out, and container and volume are removed.
//
// # Who is trusted
//
// Whoever has the engine's socket owns that machine: with it anybody can start a
// privileged container and read or change everything, this host's keys
// included. So an engine at somebody else's socket is somebody else's rebuilder
// only as far as the two trust each other; the policy's "operator" should say
// who holds the socket. Another operator takes part independently by running
// workers themselves and sending reports.
//
// # The key
//
// A worker signs with a key that it made itself and that never leaves the
// engine. It lies in a named volume of the rebuilder, quorate-key-NAME, as
// NAME.key. Host.MakeKey returns the public half. Removing the volume (docker
// volume rm) loses the identity.
//
// # Labels
//
// Everything that is to be removed again carries
//
//	dev.quorate.owner   who started it: machine/boot/pid namespace/pid/start time
//	dev.quorate.until   Unix time after which nobody can want it any more
//
// Start first removes what dead processes of this machine left, and what is
// past its time. A process on another machine cannot be asked whether it
// lives, so its things go only by time. Images have the label
// dev.quorate.program, key volumes dev.quorate.key, and volumes of inputs
// dev.quorate.inputs; they stay. Images of older versions, and all inputs, are
// removed with
//
//	docker image prune --all --filter label=dev.quorate.program
//	docker volume rm $(docker volume ls --quiet --filter label=dev.quorate.inputs)
//
// # What is not promised
//
// A volume has no limit of size; the sandbox limits what steps write. An engine
// that lies can say anything in a worker's name but cannot sign, unless it
// reads the key that lies with it.
package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"quorate.dev/rebuild/host"
)

// Host starts workers in one engine. It may start several at once.
type Host struct {
	Endpoint Endpoint
	// Executable is the program that the worker's image is made of: a static
	// Linux binary for the engine's architecture. "" for the one that runs.
	Executable string
	// Memory is what one container may use, in bytes; 0 for defaultMemory, or all
	// that the engine's machine has when that is less.
	Memory int64

	mu     sync.Mutex
	engine *engine  // nil until the engine was reached
	left   []string // containers of ours that could not be removed yet
}

const (
	// defaultMemory is the sandbox's own default for steps, 8 GiB, and what
	// compressing and the file cache need beside it.
	defaultMemory = 10 << 30
	// maxProcesses: 4096 of steps (the sandbox's default), as many spare threads of ours.
	maxProcesses = 8192
	// prepareTime bounds all that comes before a worker runs, and taking its results: a
	// gigabyte of inputs over a line of 1 MB/s takes 17 minutes.
	prepareTime = 30 * time.Minute
	// cleanTime is for removing a container and its volume: 5 to 28 s were seen for
	// roots in a container's own layer, a tenth of that for volumes.
	cleanTime = 2 * time.Minute
	// drainTime is for the last words of a container that has ended.
	drainTime = 20 * time.Second
)

// The places in a container.
const (
	workVolume = "/build"        // the anonymous volume
	workDir    = "/build/job"    // Job.WorkDir
	inputsDir  = "/inputs/store" // Job.InputStore, in the volume of inputs
	keysDir    = "/keys"         // the key's volume
)

// Start runs one worker; see host.Host. Errors beside those: *EngineError,
// *IsolationError. The job's timeout counts from the start of the worker.
func (h *Host) Start(ctx context.Context, job host.Job, events func(host.Event)) (host.Result, error) {
	if events == nil {
		events = func(host.Event) {}
	}
	if ctx.Err() != nil {
		return host.Result{}, context.Cause(ctx)
	}
	var mu sync.Mutex // warnings come from here, events from the worker
	say := func(e host.Event) {
		mu.Lock()
		defer mu.Unlock()
		events(e)
	}
	warn := func(format string, args ...any) {
		say(host.Event{Kind: host.KindWarning, Message: fmt.Sprintf(format, args...)})
	}
	prepare, cancel := context.WithTimeout(ctx, prepareTime)
	defer cancel()
	e, err := h.open(prepare, warn)
	if err != nil {
		return host.Result{}, because(ctx, err)
	}
	row, err := e.ready(prepare, job, func(done, total int64) {
		say(host.Event{Kind: host.KindPhase, Phase: "send", Name: "send inputs", Current: done, Total: total, Bytes: true, Done: done == total})
	})
	if err != nil {
		return host.Result{}, because(ctx, err)
	}
	c, err := e.create(prepare, containerSpec{row: row, args: []string{"worker"}, inputs: job.InputStore != "", job: &job, key: job.Rebuilder, memory: h.Memory}, warn)
	if err != nil {
		return host.Result{}, because(ctx, err)
	}
	defer func() {
		if err := c.remove(ctx); err != nil {
			h.remember(c.id)
			warn("cannot remove a worker's container; the next one tries again: %v", err)
		}
	}()
	inside := inContainer(job)
	if err := c.send(prepare, job, row); err != nil {
		return host.Result{}, because(ctx, err)
	}
	result, err := c.work(ctx, inside, say)
	if err != nil {
		return host.Result{}, err
	}
	result.OutputDir = filepath.Join(job.Results, "image")
	taking, cancel := context.WithTimeout(ctx, prepareTime)
	defer cancel()
	if err := c.take(taking, result.OutputDir, time.Second); err != nil {
		return host.Result{}, because(ctx, err)
	}
	lists := host.NewLists(job.Results)
	c.takeLists(taking, lists)
	if ctx.Err() != nil {
		return host.Result{}, context.Cause(ctx)
	}
	lists.Warn(say)
	return result, nil
}

// ready chooses the row and brings the inputs. Each takes a container of its own,
// and a container takes a second to come and go, so both are had at once: inputs go
// where the likeliest row has them, and once more where it turns out to be another one.
func (e *engine) ready(ctx context.Context, job host.Job, moved func(int64, int64)) (Row, error) {
	owners := needsOwners(job)
	likely := rowsFor(owners)[0]
	brought := make(chan error, 1)
	go func() { brought <- e.bring(ctx, job, likely, moved) }()
	row, err := e.row(ctx, owners)
	bringing := <-brought
	switch {
	case err != nil:
		return Row{}, err
	case row.Name != likely.Name:
		bringing = e.bring(ctx, job, row, moved)
	}
	return row, bringing
}

// because returns why ctx ended rather than what went wrong in consequence.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// inContainer is the job with the paths of the container. Surroundings that
// name CPUs or file systems of this machine mean nothing there, and the report
// must say what was.
func inContainer(job host.Job) host.Job {
	job.WorkDir, job.KeyFile = workDir, keysDir+"/"+job.Rebuilder+".key"
	if job.InputStore != "" {
		job.InputStore = inputsDir
	}
	job.Offline = true
	job.Surroundings.CPUs, job.Surroundings.Filesystem = nil, ""
	return job
}

// MakeKey has the engine make the rebuilder's key, if there is none yet, and
// returns the public half as PEM.
func (h *Host) MakeKey(ctx context.Context, rebuilder string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, prepareTime)
	defer cancel()
	e, err := h.open(ctx, func(string, ...any) {})
	if err != nil {
		return nil, err
	}
	out, err := e.ask(ctx, rows[0], rebuilder, "worker", "--make-key", keysDir+"/"+rebuilder+".key")
	if err != nil {
		return nil, e.failed("make the key of "+rebuilder, err)
	}
	return out, nil
}

// open reaches the engine, once: what it is does not change while we run. A
// failure is not remembered.
func (h *Host) open(ctx context.Context, warn func(string, ...any)) (*engine, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine != nil {
		h.retryRemovals(ctx)
		return h.engine, nil
	}
	e, err := connect(ctx, h.Endpoint)
	if err != nil {
		return nil, err
	}
	e.reap(ctx, warn)
	if err := e.loadImage(ctx, h.Executable); err != nil {
		e.close()
		return nil, err
	}
	h.engine = e
	return e, nil
}

// remember keeps the container for retryRemovals.
func (h *Host) remember(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = append(h.left, id)
}

// retryRemovals removes what could not be removed when its worker ended, because the
// engine was down: reap does not, as long as we live.
func (h *Host) retryRemovals(ctx context.Context) {
	var still []string
	for _, id := range h.left {
		if h.engine.removeContainer(ctx, id) != nil {
			still = append(still, id)
		}
	}
	h.left = still
}

// work starts the container, talks with it, and returns when it has ended.
func (c *worker) work(ctx context.Context, job host.Job, events func(host.Event)) (host.Result, error) {
	talk, err := host.NewTalk(ctx, job, events)
	if err != nil {
		return host.Result{}, err
	}
	var ended ending
	err = c.run(talk.Context(), streams{in: talk.Input(), out: talk, log: talk.Log, begun: talk.Begin}, &ended)
	over := context.Cause(talk.Context())
	log := talk.Tail()
	result, failure := talk.End(ended.how())
	switch {
	case over != nil: // it was ended because of that
		return host.Result{}, failure
	case ended.lost != nil:
		return host.Result{}, &host.LostError{How: c.engine.failed("run a worker", ended.lost).Error(), Log: log}
	case err != nil:
		return host.Result{}, err
	}
	return result, failure
}

// errSmall is an answer of a small command that is no answer.
var errSmall = errors.New("its answer is too long")

// limited takes at most so many bytes.
type limited struct {
	bytes.Buffer
	max int
}

func (l *limited) Write(b []byte) (int, error) {
	if l.Len()+len(b) > l.max {
		return 0, errSmall
	}
	return l.Buffer.Write(b)
}

var _ io.Writer = (*limited)(nil)
