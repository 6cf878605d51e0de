package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host/remote"
)

// submit takes a job, or says why not. The same submission again gets the same answer.
func (s *Service) submit(a *asker) error {
	id := a.r.PathValue("id")
	if err := remote.CheckID(id); err != nil {
		return refuse(http.StatusBadRequest, remote.CodeBad, "", "%v", err)
	}
	body, err := s.readJob(a)
	if err != nil {
		return err
	}
	if j := s.sameJob(id, a.name, digest.Of(body)); j != nil {
		a.job = j
		return s.status(a)
	}
	q, err := remote.ReadRequest(bytes.NewReader(body))
	if err != nil {
		return refuse(http.StatusBadRequest, remote.CodeBad, "", "%v", err)
	}
	name, err := s.admit(q)
	if err != nil {
		return err
	}
	if err := s.hasRoom(a.r.Context()); err != nil {
		return err
	}
	if a.job, err = s.take(id, a.name, name, body, q); err != nil {
		return err
	}
	s.Log.Info("submitted", "job", id, "submitter", a.name, "from", a.r.RemoteAddr, "nonce", q.Nonce, "attempt", q.Attempt,
		"definition", name, "definition-digest", digest.Of(q.Definition), "lock-digest", digest.Of(q.Lock), "locals", len(q.Locals))
	return s.status(a)
}

const (
	// readers is how many jobs may arrive at once: they are held in memory while they are read.
	readers = 4
	// requestSpare is for all of a request but definition and lock.
	requestSpare = 1 << 20
)

// readJob reads a job whole, and no more than definition and lock may have, in base64.
func (s *Service) readJob(a *asker) ([]byte, error) {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-a.r.Context().Done():
		return nil, a.r.Context().Err()
	}
	allow := &s.Config.Allow
	limit := min(remote.MaxRequest, (allow.Definition+allow.Lock)/3*4+requestSpare)
	body, err := io.ReadAll(io.LimitReader(&arriving{a, s.metrics}, limit+1))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, remote.CodeBad, "", "the job did not arrive whole")
	}
	if int64(len(body)) > limit {
		return nil, refuse(http.StatusRequestEntityTooLarge, remote.CodeDenied, "ask its operator to allow it in serve.yaml",
			"the job has more than %d bytes (allow.definition-size, allow.lock-size)", limit)
	}
	return body, nil
}

// sameJob returns the job when this very submission was taken before.
func (s *Service) sameJob(id, submitter string, request digest.Digest) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[id]; j != nil && j.Submitter == submitter && j.Request == request {
		j.contact = s.Now()
		return j
	}
	return nil
}

// admit holds a job against what is allowed here, and returns its definition's
// name, "" when nothing needed it to be read.
func (s *Service) admit(q *remote.Request) (string, error) {
	c, a := s.Config, &s.Config.Allow
	mend := fmt.Sprintf("in rebuilders.yaml say {name: %s, operator: %s}", c.Rebuilder, c.Operator)
	denied := func(format string, args ...any) error {
		return refuse(http.StatusForbidden, remote.CodeDenied, "ask its operator to allow it in serve.yaml", format, args...)
	}
	switch {
	case q.Rebuilder != c.Rebuilder || q.Operator != c.Operator:
		return "", refuse(http.StatusForbidden, remote.CodeIdentity, mend, "this is the rebuilder %q of operator %q, and the job is for %q of %q", c.Rebuilder, c.Operator, q.Rebuilder, q.Operator)
	case q.BuilderID != "" && q.BuilderID != c.builderID():
		return "", refuse(http.StatusForbidden, remote.CodeIdentity, "in rebuilders.yaml or the policy say builder-id: "+c.builderID(), "its builder.id is %q, and the job is for %q", c.builderID(), q.BuilderID)
	case int64(len(q.Definition)) > a.Definition:
		return "", denied("the definition has %d bytes, and %d are allowed (allow.definition-size)", len(q.Definition), a.Definition)
	case int64(len(q.Lock)) > a.Lock:
		return "", denied("the lock has %d bytes, and %d are allowed (allow.lock-size)", len(q.Lock), a.Lock)
	}
	left := a.Locals
	for _, l := range q.Locals {
		if l.Size > left {
			return "", denied("the local inputs have more than the %d bytes that are allowed (allow.locals-size)", a.Locals)
		}
		left -= l.Size
	}
	return s.admitDefinition(q, denied)
}

func (s *Service) admitDefinition(q *remote.Request, denied func(string, ...any) error) (string, error) {
	a := &s.Config.Allow
	d, err := definition.Parse(definition.FileName, q.Definition)
	if err != nil {
		if a.Any && len(a.Platforms) == 0 {
			return "", nil // the worker says what is wrong with it
		}
		return "", refuse(http.StatusBadRequest, remote.CodeBad, "", "the definition cannot be read: %v", err)
	}
	if !a.Any && !slices.Contains(a.Names, d.Name) && !slices.Contains(a.Definitions, digest.Of(q.Definition)) {
		return "", denied("the definition %q (%s) is not one that may be built here: %s", d.Name, digest.Of(q.Definition), a.describe())
	}
	wanted := q.Platforms
	if len(wanted) == 0 {
		for _, p := range d.Platforms {
			wanted = append(wanted, p.String())
		}
	}
	for _, p := range wanted {
		if len(a.Platforms) > 0 && !slices.Contains(a.Platforms, p) {
			return "", denied("the platform %q is not one that may be built here: %q", p, a.Platforms)
		}
	}
	return d.Name, nil
}

// take makes the job, unless its nonce was used before or there is no room.
func (s *Service) take(id, submitter, name string, body []byte, q *remote.Request) (*job, error) {
	j := newJob(id, q)
	j.record = record{Submitter: submitter, State: remote.StateWaiting, Request: digest.Of(body), Created: s.Now(), Name: name}
	j.contact = j.Created
	var err error
	if j.Lacks, err = s.lacks(submitter, q); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayTake(id, submitter, q); err != nil {
		return nil, err
	}
	if len(j.Lacks) == 0 {
		j.State, j.Ready = remote.StateQueued, j.Created
	}
	if err := s.state.createJob(id, body, &j.record); err != nil {
		return nil, err
	}
	if err := s.state.spend(&j.record, q, j.Created); err != nil {
		return nil, errors.Join(err, s.state.removeJob(id))
	}
	s.jobs[id] = j
	if len(j.Lacks) == 0 {
		s.enqueue(j)
	}
	return j, nil
}

// mayTake says why a job cannot be taken now, or ever. s.mu is held.
func (s *Service) mayTake(id, submitter string, q *remote.Request) error {
	u, used := s.state.used[q.Nonce]
	own, waiting := 0, 0
	for _, j := range s.jobs {
		if j.Submitter == submitter {
			own++
		}
		if j.State == remote.StateWaiting || j.State == remote.StateQueued || j.State == remote.StateRunning && j.commits {
			waiting++
		}
	}
	c := s.Config.Queue
	switch {
	case s.stopping:
		return later(http.StatusServiceUnavailable, remote.CodeStopping, "the service is shutting down")
	case s.jobs[id] != nil || used && (u.submitter != submitter || q.Attempt <= u.attempt):
		return refuse(http.StatusConflict, remote.CodeReplay, "rebuild anew: every request has a nonce of its own",
			"the nonce %s was used before, for attempt %d; an old request gets no new report", q.Nonce, u.attempt)
	case waiting >= c.Length:
		return later(http.StatusTooManyRequests, remote.CodeBusy, "its queue is full (%d jobs wait)", waiting)
	case own >= c.Each:
		return later(http.StatusTooManyRequests, remote.CodeBusy, "it has %d jobs of yours already, as many as one submitter may have", own)
	}
	return nil
}

// receive takes an archive that a job lacks, from where it stopped before.
func (s *Service) receive(a *asker) error {
	d, err := digest.Parse(a.r.PathValue("digest"))
	if err != nil {
		return refuse(http.StatusBadRequest, remote.CodeBad, "", "%v", err)
	}
	offset, err := strconv.ParseInt(a.r.URL.Query().Get("offset"), 10, 64)
	if err != nil || offset < 0 {
		return refuse(http.StatusBadRequest, remote.CodeBad, "", "offset=%.40q is no number of bytes", a.r.URL.Query().Get("offset"))
	}
	size, err := s.beginReceiving(a.job, d)
	if err != nil {
		return err
	}
	err = s.receiveBytes(a, d, offset, size)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(a.job.sending, d)
	if err != nil {
		return err
	}
	if err := s.state.markSent(a.name, d); err != nil {
		return err
	}
	j := a.job
	j.Lacks = slices.DeleteFunc(j.Lacks, func(l digest.Digest) bool { return l == d })
	if len(j.Lacks) == 0 && j.State == remote.StateWaiting {
		s.enqueue(j)
		if err := s.state.saveJob(j.id, &j.record); err != nil {
			return err
		}
	}
	a.w.WriteHeader(http.StatusNoContent)
	return nil
}

// beginReceiving returns how large the archive is to be.
func (s *Service) beginReceiving(j *job, d digest.Digest) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !slices.Contains(j.Lacks, d):
		return 0, refuse(http.StatusConflict, remote.CodeState, "", "the job does not lack %s", d)
	case j.sending[d]:
		return 0, later(http.StatusServiceUnavailable, remote.CodeState, "%s is just being sent", d)
	}
	j.sending[d] = true
	for _, l := range j.request.Locals {
		if l.Archive == d {
			return l.Size, nil
		}
	}
	return 0, fmt.Errorf("job %s lacks %s, which is none of its inputs", j.id, d)
}

// receiveBytes writes what comes into the store, and holds it against its digest.
func (s *Service) receiveBytes(a *asker, d digest.Digest, offset, size int64) error {
	inputs, err := s.inputs()
	if err != nil {
		return err
	}
	defer inputs.Close()
	wrong := func(err error) error {
		return refuse(http.StatusUnprocessableEntity, remote.CodeSent, "the archive changed, or it was changed on its way", "what was sent is not %s: %v", d, err)
	}
	body := &arriving{a, s.metrics}
	if inputs.Has(d, size) {
		// Somebody else has sent it. Whoever may use it must have it, too.
		if offset != 0 {
			return refuse(http.StatusConflict, remote.CodeState, "", "send %s from the beginning", d)
		}
		if _, err := io.Copy(io.Discard, digest.NewReader(body, d, size)); err != nil {
			return wrong(err)
		}
		return nil
	}
	p, err := inputs.Partial(a.r.Context(), d)
	if err != nil {
		return err
	}
	defer p.Close()
	if offset != p.Size() {
		return refuse(http.StatusConflict, remote.CodeState, "", "%d bytes of %s are there, and %d were skipped", p.Size(), d, offset)
	}
	n, err := io.Copy(p, io.LimitReader(body, size-offset+1))
	var mismatch *digest.MismatchError
	switch {
	case offset+n > size:
		return errors.Join(p.Reset(), wrong(&digest.SizeError{Want: size, Got: size + 1}))
	case err != nil || offset+n < size:
		// What came is kept for the next try; after a cut nobody reads this answer.
		return later(http.StatusServiceUnavailable, remote.CodeSent, "only %d of %d bytes of %s have come", offset+n, size, d)
	}
	if err := p.Finish(); errors.As(err, &mismatch) {
		return wrong(err)
	} else if err != nil {
		return err
	}
	return nil
}

// haveOf is how much of a blob has come so far.
func haveOf(store string, d digest.Digest) int64 {
	info, err := os.Stat(filepath.Join(store, "partial", d.Hex()))
	if err != nil {
		return 0
	}
	return info.Size()
}

// hasRoom says whether the state folder has room for another job, after making some.
func (s *Service) hasRoom(ctx context.Context) error {
	used := s.used(ctx)
	if used <= s.Config.Keep.Disk {
		return nil
	}
	r := later(http.StatusServiceUnavailable, remote.CodeFull, "its disk is full: %d bytes are used, and %d may be (keep.disk)", used, s.Config.Keep.Disk)
	r.retry = 60
	return r
}
