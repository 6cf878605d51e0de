package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host/remote"
)

const (
	// bodyTime is how long no byte of a request may come, and no byte of an answer go.
	bodyTime = time.Minute
	// drainTime is how long the rest of a request is awaited that is refused.
	drainTime = 10 * time.Second
	// cancelTime is how long a submitter is kept waiting while its worker ends.
	cancelTime = 30 * time.Second
	// retryAfter is what a full queue says; jobs end every few minutes, and a look costs nothing.
	retryAfter = 5
)

// refusal is an answer that says no.
type refusal struct {
	remote.Refusal
	status int
	retry  int // seconds; 0 for none
}

func (r *refusal) Error() string { return r.Message }

func refuse(status int, code, hint, format string, args ...any) *refusal {
	return &refusal{status: status, Refusal: remote.Refusal{Code: code, Message: fmt.Sprintf(format, args...), Hint: hint}}
}

// later is a refusal that may be another answer in a while.
func later(status int, code, format string, args ...any) *refusal {
	r := refuse(status, code, "", format, args...)
	r.retry = retryAfter
	return r
}

// asker is a request of somebody who is known.
type asker struct {
	w    http.ResponseWriter
	r    *http.Request
	name string // the submitter
	job  *job   // nil where the path has none
}

// handler answers submitters.
func (s *Service) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, answer func(*Service, *asker) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, answer) })
	}
	handle("GET /v1/about", (*Service).about)
	handle("GET /v1/jobs", (*Service).list)
	handle("PUT /v1/jobs/{id}", (*Service).submit)
	handle("GET /v1/jobs/{id}", ofJob((*Service).status))
	handle("DELETE /v1/jobs/{id}", ofJob((*Service).forget))
	handle("PUT /v1/jobs/{id}/inputs/{digest}", ofJob((*Service).receive))
	handle("GET /v1/jobs/{id}/events", ofJob((*Service).events))
	handle("POST /v1/jobs/{id}/reveal", ofJob((*Service).reveal))
	handle("GET /v1/jobs/{id}/files/{digest}", ofJob((*Service).file))
	handle("GET /healthz", func(s *Service, a *asker) error { s.healthy(a.w, a.r); return nil })
	handle("GET /metrics", func(s *Service, a *asker) error { s.writeMetrics(a.w, a.r); return nil })
	handle("/", func(_ *Service, a *asker) error {
		return refuse(http.StatusNotFound, remote.CodeNotYours, "", "this service knows nothing of %s %s; it speaks version %d of the protocol", a.r.Method, a.r.URL.Path, remote.Version)
	})
	return mux
}

// localHandler answers this machine, without TLS.
func (s *Service) localHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthy)
	mux.HandleFunc("GET /metrics", s.writeMetrics)
	return mux
}

// answer finds out who asks, and says no in the one way there is.
func (s *Service) answer(w http.ResponseWriter, r *http.Request, answer func(*Service, *asker) error) {
	patient(w)
	name, err := s.identify(r.TLS.PeerCertificates)
	if err != nil {
		err = refuse(http.StatusForbidden, remote.CodeDenied, "show a certificate that its operator has enrolled", "%v", err)
	} else {
		err = answer(s, &asker{w: w, r: r, name: name})
	}
	if err == nil {
		return
	}
	var no *refusal
	if !errors.As(err, &no) {
		s.Log.Error("cannot answer", "submitter", name, "method", r.Method, "path", r.URL.Path, "why", err)
		no = refuse(http.StatusInternalServerError, remote.CodeInternal, "its operator finds the reason in the service's log", "the service cannot do that: %v", err)
	}
	s.metrics.refuse(no.Code)
	if no.status != http.StatusNotFound {
		s.Log.Info("refused", "submitter", name, "from", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "code", no.Code, "why", no.Message)
	}
	if no.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(no.retry))
	}
	drain(w, r)
	writeAnswer(w, no.status, no.Refusal)
}

// drain reads the rest of a request that is refused, within bounds: a client that
// still writes when the connection is closed is told of that, and never reads why.
func drain(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTime))
	_, _ = io.CopyN(io.Discard, r.Body, remote.MaxRequest) // whatever comes
	patient(w)
}

// patient gives a request bodyTime from now, and its answer, too. Answers that take long
// ask for it again and again: a read deadline that passes while one is written ends the
// context of every later request on the connection, too (net/http's server waits
// there for the client to hang up).
func patient(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(bodyTime))
	_ = c.SetWriteDeadline(time.Now().Add(bodyTime))
}

func writeAnswer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// ofJob finds the job of the path. Whether it is not there or somebody else's is not told.
func ofJob(answer func(*Service, *asker) error) func(*Service, *asker) error {
	return func(s *Service, a *asker) error {
		id := a.r.PathValue("id")
		s.mu.Lock()
		j := s.jobs[id]
		if j != nil && j.Submitter == a.name {
			j.contact, a.job = s.Now(), j
		}
		s.mu.Unlock()
		if a.job == nil {
			return refuse(http.StatusNotFound, remote.CodeNotYours, "", "there is no job %.40q; results that nobody fetches are forgotten after %s", id, s.Config.Keep.Results)
		}
		return answer(s, a)
	}
}

// lookAgain is how long what was found out about this machine is good.
const lookAgain = 10 * time.Second

func (s *Service) about(a *asker) error {
	about := s.look(a.r.Context())
	about.Protocol, about.Version, about.PublicKey = remote.Version, s.Version, string(s.PublicKey)
	about.Rebuilder, about.Operator, about.BuilderID = s.Config.Rebuilder, s.Config.Operator, s.Config.builderID()
	about.Submitter = a.name
	s.mu.Lock()
	about.Queue, about.QueueSize = len(s.queue)+s.count(remote.StateRunning), s.Config.Queue.Length
	s.mu.Unlock()
	about.Time = s.Now()
	writeAnswer(a.w, http.StatusOK, about)
	return nil
}

func (s *Service) look(ctx context.Context) remote.About {
	s.mu.Lock()
	about, old := s.looked, time.Since(s.lookedAt) > lookAgain
	s.mu.Unlock()
	if !old {
		return about
	}
	about = s.Look(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked, s.lookedAt = about, time.Now()
	return about
}

func (s *Service) list(a *asker) error {
	s.mu.Lock()
	all := []remote.Status{}
	for _, j := range s.jobs {
		if j.Submitter == a.name {
			st := s.statusOf(j)
			st.Ending = nil // the list is of jobs, and not of their files
			if j.State == remote.StateEnded {
				st.Ending = &remote.Ending{Kind: j.Ending.Kind, Expires: j.Ending.Expires}
			}
			all = append(all, st)
		}
	}
	s.mu.Unlock()
	writeAnswer(a.w, http.StatusOK, all)
	return nil
}

// statusOf is what any submitter may know; some do not know of lists. s.mu is held.
func (s *Service) statusOf(j *job) remote.Status {
	st := remote.Status{ID: j.id, State: j.State, Nonce: j.request.Nonce, Attempt: j.request.Attempt, Owner: j.request.Owner, Ending: j.Ending.WithoutLists()}
	for i, q := range s.queue {
		if q == j {
			st.Position = i + 1
		}
	}
	return st
}

func (s *Service) status(a *asker) error {
	s.mu.Lock()
	st := s.statusOf(a.job)
	if a.r.URL.Query().Has("lists") {
		st.Ending = a.job.Ending
	}
	lacks := a.job.Lacks
	s.mu.Unlock()
	if len(lacks) > 0 {
		inputs, err := s.inputs()
		if err != nil {
			return err
		}
		defer inputs.Close()
		for _, d := range lacks {
			st.Missing = append(st.Missing, remote.Missing{Digest: d, Have: haveOf(inputs.Dir(), d)})
		}
	}
	writeAnswer(a.w, http.StatusOK, st)
	return nil
}

// forget ends a job's worker, and removes what it made.
func (s *Service) forget(a *asker) error {
	j := a.job
	s.mu.Lock()
	switch j.State {
	case remote.StateRunning:
		j.cancel(errStopped)
		s.mu.Unlock()
		select {
		case <-j.done:
		case <-time.After(cancelTime):
			return later(http.StatusServiceUnavailable, remote.CodeState, "its worker has not ended yet")
		case <-a.r.Context().Done():
			return a.r.Context().Err()
		}
		s.mu.Lock()
	case remote.StateQueued:
		s.unqueue(j)
	}
	err := s.drop(j)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.Log.Info("forgotten", "job", j.id, "submitter", a.name, "state", j.State)
	a.w.WriteHeader(http.StatusNoContent)
	return nil
}

// reveal lets a worker tell its answer.
func (s *Service) reveal(a *asker) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.job.commits {
		return refuse(http.StatusConflict, remote.CodeState, "", "the job has no answer yet")
	}
	if !isClosed(a.job.reveal) {
		close(a.job.reveal)
	}
	a.w.WriteHeader(http.StatusNoContent)
	return nil
}

// unqueue takes a job out of the queue. s.mu is held.
func (s *Service) unqueue(j *job) {
	for i, q := range s.queue {
		if q == j {
			s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
			s.tellPlaces()
			return
		}
	}
}

// drop removes a job that does not run. s.mu is held.
func (s *Service) drop(j *job) error {
	if s.jobs[j.id] != j {
		return nil
	}
	delete(s.jobs, j.id)
	select {
	case <-j.done:
	default:
		j.State = remote.StateEnded
		close(j.done)
		j.journal.say(remote.Message{State: remote.StateEnded})
	}
	return s.state.removeJob(j.id)
}

// events passes on what is said of the job, until it has ended or the line is cut.
func (s *Service) events(a *asker) error {
	after, err := strconv.ParseInt(a.r.URL.Query().Get("after"), 10, 64)
	if err != nil || after < 0 {
		return refuse(http.StatusBadRequest, remote.CodeBad, "", "after=%.40q is no number of a message", a.r.URL.Query().Get("after"))
	}
	if a.r.URL.Query().Get("stream") != s.stream {
		after = 0
	}
	c := http.NewResponseController(a.w)
	a.w.Header().Set("Content-Type", "application/x-ndjson")
	first, err := json.Marshal(remote.Message{Stream: s.stream})
	if err != nil {
		return err
	}
	out := append(first, '\n')
	for {
		lines, forgotten, changed := a.job.journal.after(after)
		if forgotten > 0 {
			out = fmt.Appendf(out, "{\"skipped\":%d}\n", forgotten)
		}
		after += forgotten + int64(len(lines))
		out = append(out, bytes.Join(lines, nil)...)
		patient(a.w)
		if _, err := a.w.Write(out); err != nil || c.Flush() != nil {
			return nil // nobody listens any more
		}
		out = nil
		if len(lines) == 0 && isClosed(a.job.done) {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(remote.Heartbeat):
			out = []byte("{}\n")
		case <-a.r.Context().Done():
			return nil
		}
		s.mu.Lock()
		a.job.contact = s.Now()
		s.mu.Unlock()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// file hands out a file of the results.
func (s *Service) file(a *asker) error {
	d, err := digest.Parse(a.r.PathValue("digest"))
	if err != nil {
		return refuse(http.StatusBadRequest, remote.CodeBad, "", "%v", err)
	}
	s.mu.Lock()
	ending := a.job.Ending
	s.mu.Unlock()
	if ending == nil {
		return refuse(http.StatusConflict, remote.CodeState, "", "the job has not ended yet")
	}
	for _, f := range ending.Files {
		if f.Digest == d {
			return s.serveFile(a, f)
		}
	}
	return refuse(http.StatusNotFound, remote.CodeNotYours, "", "the job has no result %s", d)
}

func (s *Service) serveFile(a *asker, f remote.File) error {
	// The list was made here, by walking the folder; its paths are names of files in it.
	file, err := os.Open(s.state.path("jobs", a.job.id, "results", f.Path))
	if err != nil {
		return err
	}
	defer file.Close()
	a.w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(&steady{ResponseWriter: a.w, metrics: s.metrics}, a.r, "", time.Time{}, file)
	return nil
}

// steady lets an answer take as long as it likes, while it moves.
type steady struct {
	http.ResponseWriter
	metrics *metrics
}

func (w *steady) Write(b []byte) (int, error) {
	patient(w.ResponseWriter)
	n, err := w.ResponseWriter.Write(b)
	w.metrics.sent.Add(int64(n))
	return n, err
}

// arriving lets a request take as long as it likes, while it moves.
type arriving struct {
	a       *asker
	metrics *metrics
}

func (r *arriving) Read(b []byte) (int, error) {
	_ = http.NewResponseController(r.a.w).SetReadDeadline(time.Now().Add(bodyTime))
	n, err := r.a.r.Body.Read(b)
	r.metrics.received.Add(int64(n))
	return n, err
}

var _ io.Reader = (*arriving)(nil)
