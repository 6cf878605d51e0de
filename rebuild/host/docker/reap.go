package docker

import (
	"context"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"quorate.dev/rebuild/host"
)

// The labels of what is to be removed again; see the package comment.
const (
	ownerLabel  = "dev.quorate.owner"
	untilLabel  = "dev.quorate.until"
	keyLabel    = "dev.quorate.key"
	inputsLabel = "dev.quorate.inputs"
)

const (
	// spareTime is what a run may take beside its workers' timeout: preparing, and
	// taking the results.
	spareTime = 2*prepareTime + time.Hour
	// longestRun is for runs without a timeout: nobody waits longer for a build.
	longestRun = 7 * 24 * time.Hour
)

// ownerLabels are those of this process.
func ownerLabels(timeout time.Duration) map[string]string {
	if timeout <= 0 {
		timeout = longestRun
	}
	return map[string]string{
		ownerLabel: host.Self().String(),
		untilLabel: strconv.FormatInt(time.Now().Add(timeout+spareTime).Unix(), 10),
	}
}

// dead says whether the owner of these labels surely wants nothing any more, as
// seen by a process of the owner me. started tells when a process of this pid
// namespace was started, "" when there is none.
func dead(labels map[string]string, me host.Owner, now time.Time, started func(pid string) string) bool {
	if until, err := strconv.ParseInt(labels[untilLabel], 10, 64); err == nil && now.Unix() > until {
		return true
	}
	o, ok := host.ParseOwner(labels[ownerLabel])
	return ok && o.Gone(me, started)
}

// reap removes containers and volumes of dead runs. What cannot be removed is
// told and left for the next time.
func (e *engine) reap(ctx context.Context, warn func(string, ...any)) {
	me, now := host.Self(), time.Now()
	gone := func(labels map[string]string) bool { return dead(labels, me, now, host.ProcessStart) }
	ours := filters.NewArgs(filters.Arg("label", ownerLabel))
	containers, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: ours})
	if err != nil {
		warn("cannot look for what earlier runs left: %v", e.failed("list its containers", err))
		return
	}
	for _, c := range containers {
		if !gone(c.Labels) {
			continue
		}
		if err := e.removeContainer(ctx, c.ID); err != nil {
			warn("cannot remove what an earlier run left: %v", err)
		}
	}
	// A volume without its container: the engine was killed between the two.
	volumes, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: ours})
	if err != nil {
		warn("cannot look for what earlier runs left: %v", e.failed("list its volumes", err))
		return
	}
	for _, v := range volumes.Volumes {
		if v == nil || !gone(v.Labels) {
			continue
		}
		if err := e.api.VolumeRemove(ctx, v.Name, false); err != nil && !errdefs.IsNotFound(err) {
			warn("cannot remove what an earlier run left: %v", e.failed("remove volume "+v.Name, err))
		}
	}
}

// removeContainer kills the container, and removes it and its anonymous volume.
func (e *engine) removeContainer(ctx context.Context, id string) error {
	err := e.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	if errdefs.IsConflict(err) { // somebody else's removal is on its way
		return e.waitGone(ctx, id)
	}
	return e.wrapped("remove container "+id[:min(12, len(id))], err)
}

// waitGone waits for a removal that somebody else began.
func (e *engine) waitGone(ctx context.Context, id string) error {
	gone, failed := e.api.ContainerWait(ctx, id, container.WaitConditionRemoved)
	select {
	case <-gone:
		return nil
	case err := <-failed:
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		return e.failed("remove container "+id[:min(12, len(id))], err)
	}
}
