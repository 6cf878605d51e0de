package sandbox

import (
	"context"
	"io"
	"time"
)

// Mapping says how the ids inside the sandbox relate to those of the host.
type Mapping string

// The mappings, best first.
const (
	Identity Mapping = "identity" // we are root: ids 0 to 65535 are themselves
	Range    Mapping = "range"    // newuidmap gave 65536 subordinate ids
	Single   Mapping = "single"   // only id 0 exists inside; chown answers 0 and is recorded as lost
)

// Root is what a command sees as /: an overlay of Lower, topmost first (at most
// 500, the kernel's OVL_MAX_STACK), whose changes go to Upper. Work is
// overlayfs's own empty folder on Upper's file system; it is empty again after
// Run. An empty Upper means that changes are thrown away with the sandbox, and
// Work must be empty too. All are absolute paths of the host.
//
// The mode and owner of / are Upper's own; an Upper without entries takes those
// of the topmost Lower first, so that a private folder (mode 0700) does not lock
// out the accounts inside.
type Root struct {
	Lower []string
	Upper string
	Work  string
}

// Bind shows a file or folder of the host inside the sandbox. A Target that had
// to be made is removed from Upper again after the command.
type Bind struct {
	Source   string // absolute, on the host
	Target   string // absolute, inside; made when missing
	Writable bool
}

// Limits bound one command; the zero value of each means the default beside it.
// The defaults hold the largest Debian builds we know of (a compiler building
// itself) and still stop a runaway before it takes the machine along.
type Limits struct {
	Time      time.Duration // wall time; 1 h
	Memory    int64         // bytes over all processes; 8 GiB
	Processes int           // at once, threads included; 4096
	Disk      int64         // bytes written to Upper; 16 GiB
}

// Surroundings are facts of the host that must not matter to a build and that
// rebuilders on one machine vary on purpose. The zero value changes nothing.
type Surroundings struct {
	CPUs     []int // CPU affinity: numbers of this machine's CPUs; nil for all
	Uname26  bool  // personality(UNAME26): kernel release reads 2.6.x
	NoASLR   bool  // personality(ADDR_NO_RANDOMIZE)
	FirstPID int   // ns_last_pid: pid of the command's first process; 0 for 100; below 30 our own threads may have it
}

// Command is one isolated run.
type Command struct {
	Root         Root
	Args         []string // Args[0] is an absolute path inside
	Env          []string // exactly these, "NAME=value"
	Dir          string   // working folder inside; "/" when empty
	Binds        []Bind
	Stdout       io.Writer
	Stderr       io.Writer
	Limits       Limits
	Surroundings Surroundings
	Emulator     Emulator // of programs of another architecture; zero for none

	// RefuseLostOwners makes Run fail with *OwnerError when the mapping is Single
	// and the command asked for an owner or an identity other than 0:0, which
	// this mapping can only pretend. Without it such calls just answer 0, and in
	// every mapping so do those that give a file to an id above 65535.
	RefuseLostOwners bool
}

// Options choose how Open isolates. The zero value takes the best Mapping that
// this machine allows.
type Options struct {
	Mapping   Mapping // when set, this one or an error
	Emulators string  // folder of qemu-user's programs; "" for PATH and the usual ones, NoEmulators for none
}

// Runner is what the builder needs of a way of isolating.
type Runner interface {
	// Mapping says which owners a command can set.
	Mapping() Mapping
	// Run runs c and returns when every process of it is gone and every mount
	// undone. Errors: *ExitError, *LimitError, *OwnerError, *SetupError, an error
	// of Stdout or Stderr, or ctx's.
	Run(ctx context.Context, c Command) error
	// Task runs one of the file tasks that were handed to Main, by name, with
	// the ids of the mapping, so that it can make, read and remove files of any
	// mapped owner. It sees the host's files under their own paths, with umask
	// 022. An error of the task reaches the caller as its text.
	Task(ctx context.Context, name string, in io.Reader, out io.Writer) error
	// Emulator finds what runs programs of an architecture (Go's name) that is
	// not the machine's own. The error is an *EmulatorError.
	Emulator(ctx context.Context, arch string) (Emulator, error)
}

// TaskFunc is a file task: it reads its instructions from in and answers on out.
type TaskFunc func(in io.Reader, out io.Writer) error
