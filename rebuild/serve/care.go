package serve

import (
	"context"
	"errors"
	"time"

	"quorate.dev/builder/store"
	"quorate.dev/rebuild/host/remote"
)

const (
	// careEvery is how often the caretaker goes round.
	careEvery = 30 * time.Second
	// abandonedAfter is how long nothing may be heard of a job that has not ended: who
	// waits for one listens, and comes back within minutes when the line is cut.
	abandonedAfter = 15 * time.Minute
)

// care ends what nobody waits for any more, and forgets what nobody fetched.
func (s *Service) care(ctx context.Context) {
	for {
		s.goRound()
		select {
		case <-ctx.Done():
			return
		case <-time.After(careEvery):
		}
	}
}

func (s *Service) goRound() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	for _, j := range s.jobs {
		quiet := now.Sub(j.contact) > abandonedAfter
		why := ""
		switch {
		case j.State == remote.StateEnded && now.After(j.Ending.Expires):
			why = "nobody has fetched it"
		case j.State == remote.StateRunning && quiet:
			s.Log.Info("abandoned", "job", j.id, "submitter", j.Submitter, "quiet", now.Sub(j.contact).Round(time.Second))
			j.cancel(errStopped)
		case j.State != remote.StateEnded && quiet:
			why = "nothing was heard of its submitter"
			s.unqueue(j)
		}
		if why == "" {
			continue
		}
		s.Log.Info("forgotten", "job", j.id, "submitter", j.Submitter, "state", j.State, "why", why)
		if err := s.drop(j); err != nil {
			s.Log.Error("cannot remove a job", "job", j.id, "why", err)
		}
	}
}

// used is how many bytes the state folder has, after inputs were removed that
// nobody has used for longest, if it had too many.
func (s *Service) used(ctx context.Context) int64 {
	all := sizeOf(s.state.dir)
	if all <= s.Config.Keep.Disk {
		return all
	}
	inputs, err := s.inputs()
	if err != nil {
		return all
	}
	defer inputs.Close()
	kept := sizeOf(inputs.Dir())
	// Half of what is allowed, so that this is not done for every job.
	room := max(0, s.Config.Keep.Disk/2-(all-kept))
	report, err := inputs.GC(ctx, store.GCOptions{MaxBytes: max(1, room)})
	var busy *store.InUseError
	if err != nil && !errors.As(err, &busy) {
		s.Log.Warn("cannot make room in the store of inputs", "why", err)
	}
	if report.Freed > 0 {
		s.Log.Info("made room", "freed", report.Freed)
	}
	return sizeOf(s.state.dir)
}
