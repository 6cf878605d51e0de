package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"quorate.dev/lockfile/definition"
	"quorate.dev/rebuild/host"
)

// Row is one way of containing a worker so that it can still make sandboxes. All
// of them drop every capability that is not listed, forbid new privileges, have
// a system call filter, no network and a read-only root, and show /proc
// unmasked, which a sandbox's own /proc needs (the kernel mounts none that
// would reveal more than there is).
type Row struct {
	Name         string // in the report's environment, as isolation-row
	User         string // uid:gid
	uid          int
	Capabilities []string
	owners       bool // sandboxes have real owners: the identity mapping
}

// rows are what was measured to work, least privilege first. With the engine's
// default profile and no capabilities there are no namespaces, so that every
// row allows their system calls. Rows that give up pivot_root or a pid
// namespace of the sandbox's own are not here: the sandbox has no lesser form.
var rows = []Row{
	{Name: "user-1000", User: "1000:1000", uid: 1000},
	{Name: "root-map", User: "0:0", Capabilities: []string{"SETUID", "SETGID", "SETFCAP"}, owners: true},
	// Kernels that let only CAP_SYS_ADMIN make user namespaces. It opens many doors;
	// the filter and no_new_privs remain.
	{Name: "root-admin", User: "0:0", Capabilities: []string{"SETUID", "SETGID", "SETFCAP", "SYS_ADMIN"}, owners: true},
}

// needsOwners says whether the build runs scripts that give files to accounts:
// with a single id those owners would be lost, and the builder refuses.
func needsOwners(job host.Job) bool {
	d, err := definition.Parse(definition.FileName, job.Definition)
	return err == nil && d.Inputs.Debian != nil && d.Image.Scripts == definition.ScriptsDpkg
}

// IsolationError is an engine in whose containers no sandbox can be made.
type IsolationError struct {
	Endpoint string
	Tried    []string // "user-1000: …"
}

func (e *IsolationError) Error() string {
	return fmt.Sprintf("docker engine %q isolates no worker: %s", e.Endpoint, strings.Join(e.Tried, "; "))
}

// Hint says what to do about it.
func (e *IsolationError) Hint() string {
	return "that machine's kernel must allow user namespaces: sysctl user.max_user_namespaces kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns"
}

// rowsFor are the rows that may do, with real owners or without, least privilege first.
func rowsFor(owners bool) []Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return owners && !r.owners })
}

// row chooses the first row in which an empty sandbox can be made.
func (e *engine) row(ctx context.Context, owners bool) (Row, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r, ok := e.chosen[owners]; ok {
		return r, nil
	}
	failed := &IsolationError{Endpoint: e.endpoint.String()}
	for _, r := range rowsFor(owners) {
		_, err := e.ask(ctx, r, "", "worker", "--check")
		if err == nil {
			e.chosen[owners] = r
			return r, nil
		}
		if ctx.Err() != nil {
			return Row{}, e.failed("isolate a worker", err)
		}
		failed.Tried = append(failed.Tried, fmt.Sprintf("%s: %v", r.Name, err))
	}
	return Row{}, failed
}
