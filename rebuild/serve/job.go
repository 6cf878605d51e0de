package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/host/remote"
)

// job is one job, from when it was taken until it is forgotten. The service's
// mutex guards what can change.
type job struct {
	record
	id      string
	request *remote.Request
	journal *journal
	cancel  context.CancelCauseFunc // of its worker, while it runs
	done    chan struct{}           // closed when it has ended
	reveal  chan struct{}           // closed when its answer may be told
	commits bool                    // it has its answer, and builds no more
	contact time.Time               // when its submitter was last heard of it
	sending map[digest.Digest]bool  // inputs that are just coming
}

func newJob(id string, q *remote.Request) *job {
	return &job{id: id, request: q, journal: newJournal(), done: make(chan struct{}), reveal: make(chan struct{}), sending: map[digest.Digest]bool{}}
}

// lighten lets go of what only a worker needs.
func (j *job) lighten() { j.request.Definition, j.request.Lock = nil, nil }

// recover takes up what an earlier run of the service left.
func (s *Service) recover() error {
	all, err := s.state.loadJobs(func(id string, err error) { s.Log.Warn("cannot read a job; it is gone", "job", id, "why", err) })
	if err != nil {
		return err
	}
	for _, j := range all {
		s.jobs[j.id], j.contact = j, s.Now()
		if u := s.state.used[j.request.Nonce]; u.attempt < j.request.Attempt { // it stopped between the two
			if err := s.state.spend(&j.record, j.request, j.Created); err != nil {
				return err
			}
		}
		switch j.State {
		case remote.StateRunning:
			s.Log.Warn("lost: the service was killed while it built", "job", j.id, "submitter", j.Submitter)
			s.metrics.end(remote.EndLost, 0)
			if err := s.end(j, &remote.Ending{Kind: remote.EndLost, Message: "the service was killed while it built, and has been started again"}); err != nil {
				return err
			}
		case remote.StateEnded:
			j.lighten()
			close(j.done)
			j.journal.say(remote.Message{State: remote.StateEnded})
		case remote.StateWaiting, remote.StateQueued:
			if j.Lacks, err = s.lacks(j.Submitter, j.request); err != nil {
				return err
			}
			if len(j.Lacks) == 0 {
				s.enqueue(j)
			}
		}
	}
	return nil
}

// lacks lists the local inputs that a submitter still has to send.
func (s *Service) lacks(submitter string, q *remote.Request) ([]digest.Digest, error) {
	if len(q.Locals) == 0 {
		return nil, nil
	}
	inputs, err := s.inputs()
	if err != nil {
		return nil, err
	}
	defer inputs.Close()
	var all []digest.Digest
	seen := map[digest.Digest]bool{}
	for _, l := range q.Locals {
		if d := l.Archive; !seen[d] && !(s.state.hasSent(submitter, d) && inputs.Has(d, l.Size)) {
			all = append(all, d)
		}
		seen[l.Archive] = true
	}
	return all, nil
}

// enqueue lets a job wait for its turn. s.mu is held.
func (s *Service) enqueue(j *job) {
	j.State = remote.StateQueued
	if j.Ready.IsZero() {
		j.Ready = s.Now()
	}
	s.queue = append(s.queue, j)
	s.tellPlaces()
	s.wake()
}

// tellPlaces tells every job in the queue where it stands.
func (s *Service) tellPlaces() {
	for i, j := range s.queue {
		j.journal.say(remote.Message{State: remote.StateQueued, Place: i + 1})
	}
}

// work starts one job after the other until the service stops. Those that only
// wait to be asked for their answer take nobody's place: two orchestrators that each wait for
// the other's job would wait for ever.
func (s *Service) work(ctx context.Context) {
	for {
		s.mu.Lock()
		changed := s.changed
		if s.stopping {
			s.mu.Unlock()
			return
		}
		if len(s.queue) == 0 || s.building >= s.Config.Queue.Parallel {
			s.mu.Unlock()
			<-changed
			continue
		}
		j := s.queue[0]
		s.queue = s.queue[1:]
		s.building++
		s.tellPlaces()
		var own context.Context
		own, j.cancel = context.WithCancelCause(ctx)
		j.State, j.Started = remote.StateRunning, s.Now()
		err := s.state.saveJob(j.id, &j.record)
		s.mu.Unlock()
		s.running.Go(func() {
			s.one(own, j, err)
			j.cancel(nil)
		})
	}
}

// committed passes on that a worker has its answer, and returns when it may be told.
func (s *Service) committed(ctx context.Context, j *job, d digest.Digest) error {
	s.mu.Lock()
	j.commits = true
	s.building--
	s.wake()
	s.mu.Unlock()
	j.journal.say(remote.Message{Commit: &d})
	select {
	case <-j.reveal:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// one runs one job. saved is why its state could not be noted, in which case it is not begun.
func (s *Service) one(ctx context.Context, j *job, saved error) {
	s.Log.Info("started", "job", j.id, "submitter", j.Submitter, "definition", j.Name)
	j.journal.say(remote.Message{State: remote.StateRunning})
	ending := &remote.Ending{Kind: remote.EndFailed}
	if saved != nil {
		ending.Message = "cannot note that it begins: " + saved.Error()
	} else {
		ending = s.build(ctx, j)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !j.commits {
		s.building--
		s.wake()
	}
	took := s.Now().Sub(j.Started)
	s.metrics.end(ending.Kind, took)
	var built []string
	for _, i := range ending.Subjects {
		built = append(built, i.Digest.String())
	}
	s.Log.Info("ended", "job", j.id, "submitter", j.Submitter, "definition", j.Name, "outcome", ending.Kind,
		"seconds", int(took.Seconds()), "built", strings.Join(built, " "), "why", firstLine(ending.Message))
	if err := s.end(j, ending); err != nil {
		s.Log.Error("cannot note how a job ended", "job", j.id, "why", err)
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// end notes how a job ended, and tells whoever listens. s.mu is held, or nobody else is there yet.
func (s *Service) end(j *job, ending *remote.Ending) error {
	j.State, j.Ended, j.Ending = remote.StateEnded, s.Now(), ending
	ending.Expires = j.Ended.Add(s.Config.Keep.Results)
	err := s.state.saveJob(j.id, &j.record)
	j.lighten()
	close(j.done)
	j.journal.say(remote.Message{State: remote.StateEnded})
	return err
}

// errStopped ends a worker whose submitter does not want it any more.
var errStopped = errors.New("whoever asked for it wants it no more")

// build has one worker build the job, and says how it ended.
func (s *Service) build(ctx context.Context, j *job) *remote.Ending {
	results := s.state.path("jobs", j.id, "results")
	if err := errors.Join(s.state.remove(results), os.Mkdir(results, 0o700)); err != nil {
		return &remote.Ending{Kind: remote.EndFailed, Message: err.Error()}
	}
	work := s.jobOf(j, results)
	events := func(e host.Event) { j.journal.say(remote.Message{Event: &e}) }
	var result host.Result
	err := s.prepare(ctx, work, events)
	if err == nil {
		result, err = s.Host.Start(ctx, work, events)
	}
	ending := remote.EndingOf(err)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errStopped):
		ending = &remote.Ending{Kind: remote.EndStopped, Message: errStopped.Error()}
	case err != nil && errors.Is(context.Cause(ctx), errServiceStops):
		ending = &remote.Ending{Kind: remote.EndLost, Message: errServiceStops.Error()}
	case err == nil:
		ending.Salt, ending.PublicKey, ending.Subjects = result.Salt, result.PublicKey, result.Subjects
		err = errors.Join(
			os.WriteFile(filepath.Join(results, remote.FileReport), result.ReportEnvelope, 0o600),
			os.WriteFile(filepath.Join(results, remote.FileLink), result.LinkEnvelope, 0o600))
		if err != nil {
			ending = &remote.Ending{Kind: remote.EndFailed, Message: err.Error()}
		}
	}
	return s.listResults(results, ending)
}

func (s *Service) prepare(ctx context.Context, work host.Job, events func(host.Event)) error {
	if s.Prepare == nil {
		return nil
	}
	if err := s.Prepare(ctx, work, events); err != nil {
		return &host.WorkerError{Message: err.Error()} // an input that cannot be had, a lock that cannot be read
	}
	return nil
}

// jobOf is what the worker is asked: the submitter's definition and lock, and all else ours.
func (s *Service) jobOf(j *job, results string) host.Job {
	q, c := j.request, s.Config
	work := host.Job{
		Nonce: q.Nonce, Attempt: q.Attempt, Rebuilder: c.Rebuilder, Operator: c.Operator, BuilderID: c.builderID(),
		Definition: q.Definition, Lock: q.Lock, Platforms: q.Platforms, InputStore: s.state.path("store"), KeyFile: s.KeyFile,
		Timeout: s.timeFor(q), Surroundings: q.Surroundings, Results: results,
	}
	work.Reveal = func(ctx context.Context, d digest.Digest) error { return s.committed(ctx, j, d) }
	if c.Mirror != "" {
		work.Mirrors = []string{c.Mirror}
	}
	if len(q.Locals) > 0 {
		work.Locals = map[string]host.Local{}
		for name, l := range q.Locals {
			work.Locals[name] = l.Local
		}
	}
	return work
}

func (s *Service) timeFor(q *remote.Request) time.Duration {
	if q.Timeout > 0 {
		return min(q.Timeout, s.Config.Allow.Time)
	}
	return s.Config.Allow.Time
}

// listResults lists and hashes what there is to fetch. What has no place in results,
// or is too much, makes the ending another one.
func (s *Service) listResults(results string, ending *remote.Ending) *remote.Ending {
	left := s.Config.Allow.Result
	err := filepath.WalkDir(results, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(results, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		isImage, isList := strings.HasPrefix(name, "image/"), remote.IsList(name)
		if (isImage || isList) && ending.Kind != remote.EndDone {
			return nil // half an image is of no use to anybody
		}
		if !d.Type().IsRegular() || !isImage && !isList && name != remote.FileReport && name != remote.FileLink && name != remote.FileLog {
			return fmt.Errorf("the worker left %q, which is no result", name)
		}
		file, err := hashFile(path)
		if err != nil {
			return err
		}
		if isImage {
			if left -= file.Size; left < 0 {
				return fmt.Errorf("the image has more than the %d bytes that this service hands out (allow.result-size)", s.Config.Allow.Result)
			}
		}
		file.Path = name
		if ending.Files = append(ending.Files, file); len(ending.Files) > remote.MaxFiles {
			return fmt.Errorf("the image has more than %d files", remote.MaxFiles)
		}
		return nil
	})
	if err != nil {
		return &remote.Ending{Kind: remote.EndFailed, Message: err.Error()}
	}
	return ending
}

func hashFile(path string) (remote.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return remote.File{}, err
	}
	defer f.Close()
	sum := digest.NewHash()
	n, err := f.WriteTo(sum)
	return remote.File{Digest: digest.Sum(sum), Size: n}, err
}

const (
	// journalSize is how much of what a worker says is kept for a submitter who cannot
	// be heard just now: an hour of a talkative build.
	journalSize = 4 << 20
	// maxWords is what stays of one line of a step's output.
	maxWords = 16 << 10
)

// journal is what was said of a job, by number.
type journal struct {
	mu      sync.Mutex
	lines   [][]byte
	first   int64 // number of lines[0]
	size    int
	changed chan struct{}
}

func newJournal() *journal { return &journal{first: 1, changed: make(chan struct{})} }

// say adds a message.
func (j *journal) say(m remote.Message) {
	if m.Event != nil {
		e := *m.Event
		e.Line, e.Message, e.Name = clip(e.Line), clip(e.Message), clip(e.Name)
		m.Event = &e
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	m.Seq = j.first + int64(len(j.lines))
	line, err := json.Marshal(m)
	if err != nil {
		return // a Message is always JSON
	}
	j.lines = append(j.lines, append(line, '\n'))
	for j.size += len(line) + 1; j.size > journalSize && len(j.lines) > 1; {
		j.size -= len(j.lines[0])
		j.lines, j.first = j.lines[1:], j.first+1
	}
	close(j.changed)
	j.changed = make(chan struct{})
}

func clip(s string) string {
	if len(s) <= maxWords {
		return s
	}
	return strings.ToValidUTF8(s[:maxWords], "") + "…"
}

// after returns the messages that follow number n, how many of them are
// forgotten, and what is closed when there are more.
func (j *journal) after(n int64) (lines [][]byte, forgotten int64, changed <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	from := n + 1 - j.first
	if from < 0 {
		forgotten, from = -from, 0
	}
	if from < int64(len(j.lines)) {
		lines = j.lines[from:len(j.lines):len(j.lines)]
	}
	return lines, forgotten, j.changed
}
