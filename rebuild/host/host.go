// Package host starts single-use workers.
//
// A worker is one process that is given one [Job], fetches, builds, hashes and
// signs what it built, and ends. A [Host] is a place where workers can be
// started: this machine (host/local) or a Docker Engine (host/docker), later a cluster.
//
// # What a host promises
//
//   - The worker begins with nothing but the job: an empty work folder, and the
//     shared store of verified input blobs to read from.
//   - When Start returns, every process of the worker has ended and its work
//     folder is gone, whatever happened: success, error, crash, timeout, cancel.
//     Only the job's Results folder keeps something: log (what it wrote to its standard
//     error), and after success image/ (an OCI layout) and, from workers that make them,
//     lists/ (what each step left, ListsDir).
//   - The worker's own private key never passes through the host.
//
// # What a worker says
//
// The worker reads the job as JSON from its standard input. It writes one JSON
// object a line to its standard output:
//
//	{"event":{"kind":"phase","phase":"step","name":"compile"}}
//	{"event":{"kind":"error","message":"…"}}          then it exits with code 2
//	{"commit":"sha256:…"}                             then it waits for the line "reveal" on its standard input
//	{"result":{"report":"…","salt":"…","link":"…",…}}   the last line, then it exits with code 0
//
// [ReadJob], [AwaitReveal] and [Speaker] are the worker's side of it, [Talk] the host's.
// A host believes nothing that a worker says: lines have a limit, and so has
// everything together, paths are not followed, and the report is opened with the
// key that was enrolled before.
//
// # Commit, then reveal
//
// A worker that has signed its report says only a [Commitment] to it, and waits.
// The host calls Job.Reveal with it, which returns when every other rebuilder of
// the request has committed or has failed; only then does the host ask the worker for
// its answer, and take what it built. The orchestrator holds the report against the
// commitment; one that does not fit, or came without, does not count.
//
// A host that reaches workers through a server of somebody else (host/remote)
// keeps the same order over its line: the server sends the commitment when its own
// worker has said it and keeps report and image to itself; the client calls
// Job.Reveal and tells the server when that has returned; the server's own
// Job.Reveal returns then.
//
// What this prevents: a rebuilder that builds nothing cannot wait for another's answer
// and repeat it, since what it committed to was fixed before any answer was told. What
// it does not: the rebuilders see only the orchestrator, which is trusted with the
// order; one that tells a rebuilder the answers of others beforehand is not
// found out by it. Two rebuilders that share their answers behind its back are not either,
// nor is one that asks the network for an image published earlier. Distinct operators
// and machines are against those (package agreement).
package host

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"quorate.dev/lockfile/digest"
)

// Job is what a worker is asked to do. Paths are the worker's.
type Job struct {
	Nonce      string           `json:"nonce"`     // 128 random bits in hexadecimal; new for every request
	Attempt    int              `json:"attempt"`   // from 1
	Rebuilder  string           `json:"rebuilder"` // name in the policy
	Operator   string           `json:"operator"`
	BuilderID  string           `json:"builderId"`
	Definition []byte           `json:"definition"` // quorate.yaml, whole
	Lock       []byte           `json:"lock"`       // quorate.lock, whole
	Locals     map[string]Local `json:"locals,omitempty"`
	Platforms  []string         `json:"platforms,omitempty"` // "linux/amd64"; empty for all of the definition
	InputStore string           `json:"inputStore"`          // store to read verified blobs from
	WorkDir    string           `json:"workDir"`             // the worker's own; the host makes it, empty
	KeyFile    string           `json:"keyFile"`             // the worker's private key; made by the worker at first use
	Mirrors    []string         `json:"mirrors,omitempty"`
	Offline    bool             `json:"offline,omitempty"`
	Timeout    time.Duration    `json:"timeout,omitempty"` // nanoseconds; 0 for none

	Surroundings Surroundings `json:"surroundings"`

	// Reveal is called once the worker has committed to its answer, with the commitment, and
	// returns nil when the answer may be told; see the package comment. ctx ends with the worker. An error
	// of it ends the worker and becomes Start's. Nil tells it at once.
	Reveal func(ctx context.Context, commitment digest.Digest) error `json:"-"`

	// Have returns a file that may hold the bytes of that digest already, on the side of
	// whoever calls Start: another rebuilder has built the same. What is in it is checked
	// before it is used instead of moving the bytes once more. Nil for none.
	Have func(d digest.Digest) (path string, ok bool) `json:"-"`

	// Results is a folder on the side of whoever calls Start; it must exist.
	Results string `json:"-"`
}

// Local is a local input of the job, whose archive the input store holds.
type Local struct {
	Tree    digest.Digest `json:"tree"`
	Archive digest.Digest `json:"archive"`
}

// Event says what a worker is doing. Fields not of its kind are zero.
type Event struct {
	Kind    string        `json:"kind"` // one of the constants below
	Phase   string        `json:"phase,omitempty"`
	Name    string        `json:"name,omitempty"`
	Done    bool          `json:"done,omitempty"`
	Cached  bool          `json:"cached,omitempty"`
	Current int64         `json:"current,omitempty"`
	Total   int64         `json:"total,omitempty"`
	Bytes   bool          `json:"bytes,omitempty"` // Current and Total count bytes
	Line    string        `json:"line,omitempty"`
	Elapsed time.Duration `json:"elapsed,omitempty"` // nanoseconds
	Message string        `json:"message,omitempty"` // of a warning or an error
}

// The kinds of events.
const (
	KindPhase   = "phase"   // a phase begins, moves or ends
	KindLine    = "line"    // a line of a step's output
	KindWarning = "warning" //
	KindError   = "error"   // why the worker gives up; its last word
)

// Result is a worker's last word after a build.
type Result struct {
	ReportEnvelope []byte    `json:"report"`    // DSSE envelope of the in-toto Statement
	LinkEnvelope   []byte    `json:"link"`      // in-toto links, one a line
	Salt           []byte    `json:"salt"`      // of the commitment to the report
	PublicKey      []byte    `json:"publicKey"` // PEM; for people, never for verifying
	Subjects       []Subject `json:"subjects"`
	OutputDir      string    `json:"outputDir"` // WorkDir/output; Start replaces it by Results/image
}

// Subject is one image that a worker made.
type Subject struct {
	Platform string        `json:"platform"`
	Digest   digest.Digest `json:"digest"`
}

// Host starts workers.
type Host interface {
	// Start runs a worker for the job to its end; see the package comment for what it
	// leaves. It sets the job's WorkDir. events, if not nil, is called by one goroutine at a time.
	// Errors: *WorkerError, *LostError, *ProtocolError, *TimeoutError, ctx's own, or why the
	// worker could not be started.
	Start(ctx context.Context, job Job, events func(Event)) (Result, error)
}

// WorkerError is a worker that said no.
type WorkerError struct {
	Message string
}

func (e *WorkerError) Error() string { return e.Message }

// LostError is a worker that ended without saying why: killed, crashed, its machine gone.
// The same job may well succeed at another attempt.
type LostError struct {
	How string // "killed (signal: killed)"
	Log string // the end of its log, if any
}

func (e *LostError) Error() string {
	if e.Log == "" {
		return "worker was lost: " + e.How
	}
	return fmt.Sprintf("worker was lost: %s; the end of its log: %q", e.How, e.Log)
}

// ProtocolError is a worker that does not speak like one.
type ProtocolError struct {
	Reason string
}

func (e *ProtocolError) Error() string { return "worker's answer makes no sense: " + e.Reason }

// TimeoutError is a worker that took longer than it had. It is context.DeadlineExceeded.
type TimeoutError struct {
	After time.Duration
}

func (e *TimeoutError) Error() string { return fmt.Sprintf("worker did not end within %s", e.After) }

// Is makes errors.Is(err, context.DeadlineExceeded) hold.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// IsolationVar is the environment variable in which a host tells its worker how
// it is contained, for the report. Hosts that contain nothing leave it unset.
const IsolationVar = "QUORATE_ISOLATION_ROW"

// EngineVar is the environment variable in which a host tells its worker the id of
// the container engine that it runs in, for the report. Others leave it unset.
const EngineVar = "QUORATE_ENGINE_ID"

const (
	// maxJob bounds a job: a lock of 10,000 packages is some 4 MB, a third more in base64.
	maxJob = 64 << 20
	// maxLine bounds one line of a worker: the report of 10,000 packages is some 4 MB,
	// in base64 twice (DSSE, JSON), and its link is smaller.
	maxLine = 32 << 20
	// maxSaid bounds all lines of a worker together: a million lines of a step's output
	// are some 200 MB as events.
	maxSaid = 1 << 30
)

// ReadJob reads a job, as workers do at their start. What follows it stays in r.
func ReadJob(r *bufio.Reader) (Job, error) {
	raw, err := readLine(r, maxJob)
	if errors.Is(err, errLong) {
		return Job{}, fmt.Errorf("job is larger than %d bytes", maxJob)
	}
	if err != nil {
		return Job{}, fmt.Errorf("cannot read the job: %w", err)
	}
	var j Job
	if err := json.Unmarshal(raw, &j); err != nil {
		return Job{}, fmt.Errorf("job is not JSON as expected: %w", err)
	}
	switch {
	case j.Nonce == "" || j.Rebuilder == "" || j.WorkDir == "" || j.KeyFile == "":
		return Job{}, errors.New("job lacks its nonce, rebuilder, work folder or key file")
	case j.Attempt < 1:
		return Job{}, fmt.Errorf("job has attempt %d, expected at least 1", j.Attempt)
	}
	return j, nil
}
