package sandbox

import (
	"fmt"
	"strings"
	"time"
)

// ExitError says that the command ran and did not succeed.
type ExitError struct {
	Code   int    // exit status; 128 + the signal's number when Signal is set, as shells say it
	Signal string // "SIGSEGV"; empty when the command exited by itself
}

func (e *ExitError) Error() string {
	if e.Signal != "" {
		return "the command was killed by " + e.Signal
	}
	return fmt.Sprintf("the command exited with status %d", e.Code)
}

// LimitError says that the command was stopped because it reached a limit.
type LimitError struct {
	What  string // "time", "memory", "processes" or "disk"
	Limit string // what was allowed: "1h0m0s", "512 MiB", "4096"
	Free  bool   // of disk: not the command's own limit, but what must stay free on Upper's file system
}

func (e *LimitError) Error() string {
	switch {
	case e.What == "time":
		return "the command was stopped: it ran longer than " + e.Limit
	case e.What == "memory":
		return "the command was stopped: it used more than " + e.Limit + " of memory"
	case e.What == "processes":
		return "the command was stopped: it had more than " + e.Limit + " processes at once"
	case e.Free:
		return "the command was stopped: it left less than " + e.Limit + " free on the disk that it writes to"
	default:
		return "the command was stopped: it wrote more than " + e.Limit + " to its root"
	}
}

// LostOwner is one request that the single mapping cannot fulfil.
type LostOwner struct {
	Call string // "chown", "setuid", …
	Path string // as the program named it; a file descriptor's path for fchown; empty for set*id
	UID  int    // asked for; -1 when left alone
	GID  int
}

// OwnerError says that a command asked for owners that cannot be represented,
// so that the files would differ from those of a build with a real mapping.
type OwnerError struct {
	Lost []LostOwner // in order of the calls, the first 1000
	More int         // how many further ones there were
}

// Paths are the files named by the lost requests, in order, each once.
func (e *OwnerError) Paths() []string {
	var paths []string
	seen := map[string]bool{}
	for _, l := range e.Lost {
		if l.Path != "" && !seen[l.Path] {
			seen[l.Path] = true
			paths = append(paths, l.Path)
		}
	}
	return paths
}

func (e *OwnerError) Error() string {
	const shown = 5 // enough to recognise the script, short enough for one screen
	var b strings.Builder
	fmt.Fprintf(&b, "the command asked for %d owners that do not exist in a sandbox with a single id:", len(e.Lost)+e.More)
	for i, l := range e.Lost {
		if i == shown {
			fmt.Fprintf(&b, " and %d more", len(e.Lost)+e.More-shown)
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %s", l.Call)
		if l.Path != "" {
			fmt.Fprintf(&b, " %q", l.Path)
		}
		fmt.Fprintf(&b, " to %d:%d", l.UID, l.GID)
	}
	return b.String()
}

// SetupError says that the sandbox itself could not be made; the command never ran.
type SetupError struct {
	Step string // what could not be done: "mount the root", "start \"/bin/sh\""
	Err  error
}

func (e *SetupError) Error() string { return "cannot " + e.Step + ": " + e.Err.Error() }

func (e *SetupError) Unwrap() error { return e.Err }

// UnavailableError says that this machine does not allow isolation.
type UnavailableError struct {
	What string // what is missing
	Hint string // how to get it
}

func (e *UnavailableError) Error() string { return "no isolation here: " + e.What }

// withDefaults fills the limits that were left zero.
func (l Limits) withDefaults() Limits {
	if l.Time == 0 {
		l.Time = time.Hour
	}
	if l.Memory == 0 {
		l.Memory = 8 << 30
	}
	if l.Processes == 0 {
		l.Processes = 4096
	}
	if l.Disk == 0 {
		l.Disk = 16 << 30
	}
	return l
}

// formatBytes writes a size as people give it: the largest binary unit that
// divides it, or a rounded one.
func formatBytes(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for i < len(units)-1 && n >= 1024 && n%1024 == 0 {
		n /= 1024
		i++
	}
	if n < 1<<20 {
		return fmt.Sprintf("%d %s", n, units[i])
	}
	f := float64(n)
	for i < len(units)-1 && f >= 1024 {
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
