package docker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"

	"quorate.dev/rebuild/host"
)

// containerSpec says what a container is for.
type containerSpec struct {
	row    Row
	args   []string
	job    *host.Job // nil for a small command
	key    string    // rebuilder whose key's volume is shown; "" for none
	inputs bool      // the volume of inputs is shown
	memory int64
}

// worker is one container, from its creation to its removal.
type worker struct {
	engine *engine
	id     string
	row    Row
}

// create makes a container that is not started yet.
func (e *engine) create(ctx context.Context, s containerSpec, warn func(string, ...any)) (*worker, error) {
	profile, err := seccompProfile()
	if err != nil {
		return nil, e.failed("start workers", err)
	}
	timeout := smallTime
	if s.job != nil {
		timeout = s.job.Timeout
	}
	labels := ownerLabels(timeout)
	hostConfig := &container.HostConfig{
		NetworkMode: "none", CapDrop: []string{"ALL"}, CapAdd: s.row.Capabilities, ReadonlyRootfs: true,
		SecurityOpt: []string{"no-new-privileges", "seccomp=" + profile},
		// Empty and not nil, which would mean the engine's defaults.
		MaskedPaths: []string{}, ReadonlyPaths: []string{},
		// The engine's own small first process: it reaps what a worker orphans, and
		// lets a worker die of signals, which pid 1 does not.
		Init:      pointer(true),
		Resources: container.Resources{Memory: e.memoryFor(s.memory), PidsLimit: pointer(int64(maxProcesses))},
		LogConfig: container.LogConfig{Type: "none"}, // what workers write comes to us; it must not fill that disk
	}
	if e.apparmor { // its default profile forbids mounts (Docker's documentation)
		hostConfig.SecurityOpt = append(hostConfig.SecurityOpt, "apparmor=unconfined")
	}
	env := []string{"PATH=/", "HOME=" + workDir, "TMPDIR=" + workDir, host.IsolationVar + "=" + s.row.Name, host.EngineVar + "=" + e.id}
	if s.job != nil {
		// Without a name it is an anonymous one, which goes with its container.
		hostConfig.Mounts = append(hostConfig.Mounts, mount.Mount{Type: mount.TypeVolume, Target: workVolume, VolumeOptions: &mount.VolumeOptions{Labels: labels}})
		for name, value := range s.job.Surroundings.Environment {
			env = append(env, name+"="+value)
		}
	}
	if s.key != "" {
		name, err := e.keyVolume(ctx, s.key)
		if err != nil {
			return nil, err
		}
		hostConfig.Mounts = append(hostConfig.Mounts, mount.Mount{Type: mount.TypeVolume, Source: name, Target: keysDir})
	}
	if s.inputs {
		name, err := e.inputsVolume(ctx, s.row)
		if err != nil {
			return nil, err
		}
		hostConfig.Mounts = append(hostConfig.Mounts, mount.Mount{Type: mount.TypeVolume, Source: name, Target: path.Dir(inputsDir)})
	}
	made, err := e.api.ContainerCreate(ctx, &container.Config{
		Image: e.image, User: s.row.User, Entrypoint: []string{program}, Cmd: s.args, Env: env, Labels: labels,
		AttachStdin: true, AttachStdout: true, AttachStderr: true, OpenStdin: true, StdinOnce: true,
	}, hostConfig, nil, nil, "")
	if err != nil {
		return nil, e.failed("make a worker's container", err)
	}
	for _, w := range made.Warnings {
		warn("docker engine %q: %s", e.endpoint, w)
	}
	return &worker{engine: e, id: made.ID, row: s.row}, nil
}

func pointer[T any](v T) *T { return &v }

// memoryFor is the limit of one container, in bytes.
func (e *engine) memoryFor(want int64) int64 {
	if want == 0 {
		want = defaultMemory
	}
	if e.memory > 0 {
		want = min(want, e.memory)
	}
	return want
}

// keyVolume makes the volume of a rebuilder's key, if there is none. Its root
// takes the owner and mode of the image's folder when it is first used.
func (e *engine) keyVolume(ctx context.Context, rebuilder string) (string, error) {
	name := "quorate-key-" + rebuilder
	if _, err := e.api.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: map[string]string{keyLabel: rebuilder}}); err != nil {
		return "", e.failed("make the volume of the key", err)
	}
	return name, nil
}

// remove removes the container and its anonymous volume, running or not, also
// when ctx has ended.
func (c *worker) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	return c.engine.removeContainer(ctx, c.id)
}

// ending is how a container's run ended.
type ending struct {
	code int
	oom  bool
	lost error // the engine went away, or the container did
}

// how is in the words that host.LostError wants; "" for a good end.
func (e *ending) how() string {
	switch {
	case e.oom:
		return "it ended with signal: killed (its container had used all the memory that it may)"
	case e.code == 0:
		return ""
	case e.code > 128 && e.code < 128+65: // as shells and the engine's init say it; 64 is the last signal
		return "it ended with signal: " + syscall.Signal(e.code-128).String()
	}
	return "it ended with exit status " + strconv.Itoa(e.code)
}

// streams are what a container reads and writes.
type streams struct {
	in       io.Reader
	out, log io.Writer
	begun    func() // called when it runs; nil for nothing
}

// complaint is why a small command failed: the first line of its log.
func (e *ending) complaint(log *limited) error {
	first, _, _ := strings.Cut(strings.TrimSpace(log.String()), "\n")
	if first == "" {
		first = e.how()
	}
	return errors.New(strings.TrimPrefix(first, "quorate: "))
}

// run starts the container, and returns when it has ended. When ctx ends, or out
// takes no more, it is killed. The error is that of starting it or of out.
func (c *worker) run(ctx context.Context, s streams, end *ending) error {
	e := c.engine
	stream, err := e.api.ContainerAttach(ctx, c.id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return e.failed("listen to a worker", err)
	}
	done := make(chan struct{})
	close(done)
	defer func() {
		stream.Close()
		<-done // out and log are the caller's again
	}()
	// Asked before the start, so that no end is missed, and not ended by ctx, so that
	// what a killed worker said last is still heard.
	waiting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	waited, waitFailed := e.api.ContainerWait(waiting, c.id, container.WaitConditionNextExit)
	if err := e.api.ContainerStart(ctx, c.id, container.StartOptions{}); err != nil {
		return e.failed("start a worker", err)
	}
	if s.begun != nil {
		s.begun()
	}
	go func() {
		_, _ = io.Copy(stream.Conn, s.in) // a worker that does not read says so itself
		_ = stream.CloseWrite()
	}()
	broken := make(chan error, 1)
	heard := make(chan error, 1)
	done = make(chan struct{})
	go func() {
		defer close(done)
		heard <- demultiplex(stream.Reader, &breaker{w: s.out, broken: broken}, s.log)
	}()
	select {
	case answer := <-waited:
		return c.ended(waiting, answer, heard, end)
	case err := <-waitFailed:
		end.lost = err
		return nil
	case err := <-broken:
		c.kill(heard)
		return err
	case <-ctx.Done():
		c.kill(heard)
	}
	return nil
}

// ended notes how the container ended, once all is heard that it said.
func (c *worker) ended(ctx context.Context, answer container.WaitResponse, heard <-chan error, end *ending) error {
	end.code = int(answer.StatusCode)
	if answer.Error != nil && answer.Error.Message != "" {
		end.lost = errors.New(answer.Error.Message)
		return nil
	}
	if end.code != 0 {
		end.oom = c.outOfMemory(ctx)
	}
	return c.drain(heard)
}

const (
	// killTime is for the engine to kill a container.
	killTime = 10 * time.Second
	// lastTime is for the last words of one that was killed, which are on their way.
	lastTime = 2 * time.Second
)

// kill ends the container at once. If that fails, its removal tries again.
func (c *worker) kill(heard <-chan error) {
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	if c.engine.api.ContainerKill(ctx, c.id, "KILL") != nil {
		return
	}
	select {
	case <-heard:
	case <-time.After(lastTime):
	}
}

// breaker tells the first error of a writer, and takes everything.
type breaker struct {
	w      io.Writer
	broken chan<- error
	done   bool
}

func (b *breaker) Write(p []byte) (int, error) {
	if b.done {
		return len(p), nil
	}
	if _, err := b.w.Write(p); err != nil {
		b.done = true
		b.broken <- err
	}
	return len(p), nil
}

// drain takes the last words.
func (c *worker) drain(heard <-chan error) error {
	select {
	case err := <-heard:
		return err
	case <-time.After(drainTime):
		return c.engine.failed("pass on what a worker says", errors.New("the stream does not end although the container has"))
	}
}

// outOfMemory says whether the kernel ended the container for its use of memory.
func (c *worker) outOfMemory(ctx context.Context) bool {
	info, err := c.engine.api.ContainerInspect(ctx, c.id)
	return err == nil && info.State != nil && info.State.OOMKilled
}

// demultiplex divides the engine's stream (Engine API, "Attach to a container":
// a byte for the stream, three of nothing, four of length, the bytes). The
// lengths are not believed: nothing is held in memory.
func demultiplex(r io.Reader, out, log io.Writer) error {
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil // the end, or the line is cut; how the container ended is asked elsewhere
		}
		to := out
		switch head[0] {
		case 1:
		case 2:
			to = log
		default:
			return fmt.Errorf("the engine's stream has a part of kind %d", head[0])
		}
		n := int64(binary.BigEndian.Uint32(head[4:]))
		copied, err := io.Copy(writerOnly{to}, io.LimitReader(r, n))
		switch {
		case err != nil:
			return err
		case copied < n:
			return nil
		}
	}
}

// writerOnly hides everything of a writer but Write.
type writerOnly struct{ io.Writer }

const (
	// smallTime is for commands that make a key or an empty sandbox: some 100 ms, and
	// a busy machine.
	smallTime = 2 * time.Minute
	// maxSmall is far above a public key or a word.
	maxSmall = 16 << 10
)

// ask runs a small command of the worker's image and returns what it answers.
func (e *engine) ask(ctx context.Context, row Row, key string, args ...string) (answer []byte, err error) {
	c, err := e.create(ctx, containerSpec{row: row, args: args, key: key}, func(string, ...any) {})
	if err != nil {
		return nil, err
	}
	defer func() {
		if removed := c.remove(ctx); err == nil && removed != nil {
			err = removed
		}
	}()
	out, log := &limited{max: maxSmall}, &limited{max: maxSmall}
	var end ending
	ctx, cancel := context.WithTimeoutCause(ctx, smallTime, fmt.Errorf("no answer within %s", smallTime))
	defer cancel()
	err = c.run(ctx, streams{in: strings.NewReader(""), out: out, log: log}, &end)
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case end.lost != nil:
		return nil, end.lost
	case end.how() != "":
		return nil, end.complaint(log)
	}
	return out.Bytes(), nil
}
