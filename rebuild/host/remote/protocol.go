package remote

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/host"
)

// Version is the protocol's; it stands in every path. A service of another
// version answers 404 to all of ours but GET /v1/about, which says so.
const Version = 1

// Limits of what goes over the line, on both sides.
const (
	// MaxRequest is for a definition and a lock in base64, as host.ReadJob has it.
	MaxRequest = 64 << 20
	// MaxAnswer is for a status: 10,000 files of an image, some 200 bytes each.
	MaxAnswer = 8 << 20
	// MaxMessage is one line of events; longer lines of a step are cut by the service.
	MaxMessage = 256 << 10
	// MaxFiles: an image has at most 127 layers and three documents for each of a
	// handful of platforms.
	MaxFiles = 10_000
	// MaxDocument is for a report or a link; host.maxLine bounds both together.
	MaxDocument = 32 << 20
	// MaxLog is above what host.Log keeps.
	MaxLog = 17 << 20
	// MaxImage is twice what steps may write in all (the sandbox's default, 16 GiB).
	MaxImage = 32 << 30
	// MaxLocals: far more local inputs than a definition has.
	MaxLocals = 1000
)

// About is what a service says of itself: GET /v1/about.
type About struct {
	Protocol  int       `json:"protocol"`
	Version   string    `json:"version"` // of quorate
	Rebuilder string    `json:"rebuilder"`
	Operator  string    `json:"operator"`
	BuilderID string    `json:"builderId"`
	PublicKey string    `json:"publicKey"` // PEM; for people, and to be compared with the enrolled one
	Submitter string    `json:"submitter"` // what it calls whoever asks
	Time      time.Time `json:"time"`
	Workers   string    `json:"workers"`   // "local, mapping identity"; "docker 20.10.24, isolation root-map"
	Kernel    string    `json:"kernel"`    // release
	Free      int64     `json:"free"`      // bytes on the disk of its state; -1 when not known
	Trouble   string    `json:"trouble"`   // "" or why it cannot build now
	Queue     int       `json:"queue"`     // jobs that wait or run
	QueueSize int       `json:"queueSize"` // and how many may
}

// Request is a job as it is submitted: PUT /v1/jobs/ID.
type Request struct {
	Nonce        string            `json:"nonce"`
	Attempt      int               `json:"attempt"`
	Rebuilder    string            `json:"rebuilder"`
	Operator     string            `json:"operator"`
	BuilderID    string            `json:"builderId,omitempty"`
	Owner        string            `json:"owner,omitempty"` // host.Owner of who asks, to find the jobs of dead ones
	Definition   []byte            `json:"definition"`
	Lock         []byte            `json:"lock"`
	Locals       map[string]Local  `json:"locals,omitempty"`
	Platforms    []string          `json:"platforms,omitempty"`
	Timeout      time.Duration     `json:"timeout,omitempty"` // nanoseconds; 0 for what the service allows
	Surroundings host.Surroundings `json:"surroundings"`
}

// Local is a local input and the size of its archive in bytes.
type Local struct {
	host.Local
	Size int64 `json:"size"`
}

// The states of a job.
const (
	StateWaiting = "waiting" // for local inputs to be sent
	StateQueued  = "queued"
	StateRunning = "running"
	StateEnded   = "ended"
)

// Status is a job's: GET /v1/jobs/ID, and what PUT answers.
type Status struct {
	ID       string    `json:"id"`
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Attempt  int       `json:"attempt"`
	Owner    string    `json:"owner,omitempty"`
	Position int       `json:"position,omitempty"` // in the queue, from 1
	Missing  []Missing `json:"missing,omitempty"`  // what is still to be sent
	Ending   *Ending   `json:"ending,omitempty"`   // with StateEnded
}

// Missing is an archive that a service lacks, and how much of it it has.
type Missing struct {
	Digest digest.Digest `json:"digest"`
	Have   int64         `json:"have"` // bytes; sending goes on from there
}

// The kinds of endings, which are the kinds of errors of a host.Host.
const (
	EndDone     = "done"
	EndError    = "error"    // the worker said no: host.WorkerError
	EndLost     = "lost"     // host.LostError
	EndProtocol = "protocol" // host.ProtocolError
	EndTimeout  = "timeout"  // host.TimeoutError
	EndFailed   = "failed"   // the service could not start a worker, or not keep what it built
	EndStopped  = "stopped"  // whoever asked wants it no more
)

// Ending is how a job ended, and what it left.
type Ending struct {
	Kind      string         `json:"kind"`
	Message   string         `json:"message,omitempty"`
	Log       string         `json:"log,omitempty"`   // the end of the log, with EndLost
	After     time.Duration  `json:"after,omitempty"` // nanoseconds, with EndTimeout
	Salt      []byte         `json:"salt,omitempty"`  // of the commitment to the report
	PublicKey []byte         `json:"publicKey,omitempty"`
	Subjects  []host.Subject `json:"subjects,omitempty"`
	Files     []File         `json:"files,omitempty"` // see checkFiles
	Expires   time.Time      `json:"expires"`         // when the service forgets it
}

// File is one file of the results: GET /v1/jobs/ID/files/DIGEST.
type File struct {
	Path   string        `json:"path"` // "report", "link", "log", below "image/", or "lists/HEX.gz"
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"` // bytes
}

// The files that are not the image's.
const (
	FileReport = "report"
	FileLink   = "link"
	FileLog    = "log"
)

// Message is one line of GET /v1/jobs/ID/events?stream=S&after=N. Exactly one of
// its fields is set, Seq aside; an empty one says only that the line is alive.
type Message struct {
	Stream  string         `json:"stream,omitempty"` // the first line: which run of the service counts
	Seq     int64          `json:"seq,omitempty"`    // from 1, of all that follow but Skipped
	Event   *host.Event    `json:"event,omitempty"`
	State   string         `json:"state,omitempty"`
	Place   int            `json:"place,omitempty"`   // with StateQueued: in the queue, from 1
	Commit  *digest.Digest `json:"commit,omitempty"`  // the worker has its answer, and waits to be asked for it
	Skipped int64          `json:"skipped,omitempty"` // so many messages were forgotten
}

// Refusal is the body of every answer that is an error.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// The codes of refusals.
const (
	CodeBad      = "bad-request"
	CodeNotYours = "no-such-job"  // or it is somebody else's
	CodeIdentity = "identity"     // asked as a rebuilder that it is not
	CodeDenied   = "not-allowed"  // this definition, platform, size
	CodeReplay   = "replay"       // the nonce was used before
	CodeBusy     = "queue-full"   // comes with Retry-After
	CodeFull     = "disk-full"    // comes with Retry-After
	CodeStopping = "shuts-down"   // comes with Retry-After
	CodeSent     = "wrong-bytes"  // what was sent is not what was promised
	CodeState    = "wrong-moment" // the job is not in a state for that
	CodeInternal = "internal"
)

// jobID is what Request.ID and paths have: 128 random bits in hexadecimal.
func validHex128(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16 && strings.ToLower(s) == s
}

// CheckID says whether s can be a job's id.
func CheckID(s string) error {
	if !validHex128(s) {
		return fmt.Errorf("job id %.40q is not 32 lower-case hexadecimal digits", s)
	}
	return nil
}

// errTrailing is something after the JSON value.
var errTrailing = errors.New("something follows the JSON value")

// decode reads exactly one JSON value with no unknown field from at most limit bytes.
func decode(r io.Reader, limit int64, v any) error {
	counted := &io.LimitedReader{R: r, N: limit + 1}
	d := json.NewDecoder(counted)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errTrailing
			if more != nil && !errors.As(more, new(*json.SyntaxError)) {
				err = more
			}
		}
	}
	if counted.N <= 0 {
		return fmt.Errorf("more than %d bytes", limit)
	}
	return err
}

// ReadRequest reads a job and checks it for itself; whether it is allowed is the
// service's to say.
func ReadRequest(r io.Reader) (*Request, error) {
	var q Request
	if err := decode(r, MaxRequest, &q); err != nil {
		return nil, fmt.Errorf("job is not as expected: %w", err)
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	return &q, nil
}

// platformExp is OS/ARCHITECTURE[/VARIANT], as the OCI's image index has them.
var platformExp = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?$`)

func (q *Request) check() error {
	switch {
	case !validHex128(q.Nonce):
		return fmt.Errorf("job has the nonce %.40q, expected 32 lower-case hexadecimal digits", q.Nonce)
	case q.Attempt < 1 || q.Attempt > 1000:
		return fmt.Errorf("job has attempt %d, expected 1 to 1000", q.Attempt)
	case len(q.Definition) == 0:
		return errors.New("job has no definition")
	case q.Timeout < 0:
		return errors.New("job has a timeout below zero")
	case len(q.Owner) > 300 || len(q.BuilderID) > 1000:
		return errors.New("job's owner or builder id is longer than any is")
	case len(q.Locals) > MaxLocals:
		return fmt.Errorf("job has more than %d local inputs", MaxLocals)
	case len(q.Platforms) > 20:
		return errors.New("job has more than 20 platforms")
	}
	for _, name := range []string{q.Rebuilder, q.Operator} {
		if err := agreement.CheckName(name); err != nil {
			return err
		}
	}
	for _, p := range q.Platforms {
		if !platformExp.MatchString(p) {
			return fmt.Errorf("job has the platform %.40q", p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(q.Locals)) {
		l := q.Locals[name]
		if l.Tree.IsZero() || l.Archive.IsZero() || l.Size < 0 {
			return fmt.Errorf("job's input %.40q lacks its digests or size", name)
		}
	}
	return checkSurroundings(q.Surroundings)
}

// zoneExp is the name of a time zone or a locale. An environment variable reaches
// a process on somebody else's machine, so nothing that could name a file
// outside the system's own, a library or a proxy goes through.
var zoneExp = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+-]*([/.][A-Za-z0-9][A-Za-z0-9_+-]*){0,3}$`)

// surroundingVariables are those that a request may set.
var surroundingVariables = []string{"TZ", "LC_ALL"}

// portable are the surroundings that mean something on any machine: CPUs and
// file systems are the other machine's own matter.
func portable(s host.Surroundings) host.Surroundings {
	s.CPUs, s.Filesystem = nil, ""
	s.Environment = maps.Clone(s.Environment)
	maps.DeleteFunc(s.Environment, func(name, _ string) bool { return !slices.Contains(surroundingVariables, name) })
	if len(s.Environment) == 0 {
		s.Environment = nil
	}
	return s
}

func checkSurroundings(s host.Surroundings) error {
	if len(s.CPUs) > 0 || s.Filesystem != "" {
		return errors.New("job asks for CPUs or a file system, which are this machine's own matter")
	}
	// The smallest pid_max is 32768 (proc(5)).
	if s.FirstPID < 0 || s.FirstPID > 32_000 {
		return fmt.Errorf("job asks for the first process number %d", s.FirstPID)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		if value := s.Environment[name]; !slices.Contains(surroundingVariables, name) || len(value) > 64 || !zoneExp.MatchString(value) {
			return fmt.Errorf("job sets the environment variable %.40q to %.80q, which no job may", name, value)
		}
	}
	return nil
}

// readStatus reads a status and checks what a client relies on: an answer comes
// from somebody else's machine.
func readStatus(r io.Reader) (*Status, error) {
	var s Status
	if err := decode(r, MaxAnswer, &s); err != nil {
		return nil, fmt.Errorf("its answer is no status: %w", err)
	}
	if !slices.Contains([]string{StateWaiting, StateQueued, StateRunning, StateEnded}, s.State) || (s.State == StateEnded) != (s.Ending != nil) {
		return nil, fmt.Errorf("its answer has the state %.40q", s.State)
	}
	if s.Ending != nil {
		if err := s.Ending.checkFiles(); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

// checkFiles holds the list of files against the limits, before any is fetched:
// names stay inside, none comes twice, and all of them together have room.
func (e *Ending) checkFiles() error {
	if len(e.Files) > MaxFiles {
		return fmt.Errorf("its results have more than %d files", MaxFiles)
	}
	seen := map[string]bool{}
	left, lists, listed := int64(MaxImage), 0, int64(host.MaxAllLists)
	for _, f := range e.Files {
		limit := int64(MaxDocument)
		inside, isImage := strings.CutPrefix(f.Path, "image/")
		switch {
		case isImage:
			limit = left
		case IsList(f.Path):
			limit = min(host.MaxList, listed)
		case f.Path == FileLog:
			limit = MaxLog
		case f.Path != FileReport && f.Path != FileLink:
			return fmt.Errorf("its results hold %.80q", f.Path)
		}
		switch {
		case isImage && (inside == "" || path.Clean(f.Path) != f.Path || !path.IsAbs("/"+inside) || strings.ContainsAny(inside, "\\\x00") || hasDots(inside)):
			return fmt.Errorf("its results hold %.80q", f.Path)
		case seen[f.Path]:
			return fmt.Errorf("its results hold %.80q twice", f.Path)
		case f.Digest.IsZero():
			return fmt.Errorf("its result %.80q has no digest", f.Path)
		case f.Size < 0 || f.Size > limit:
			return fmt.Errorf("its result %.80q has %d bytes, more than the %d that are left for it", f.Path, f.Size, limit)
		}
		seen[f.Path] = true
		switch {
		case isImage:
			left -= f.Size
		case IsList(f.Path):
			listed -= f.Size
			if lists++; lists > host.MaxLists {
				return fmt.Errorf("its results have more than %d lists", host.MaxLists)
			}
		}
	}
	return nil
}

// IsList says whether a file of the results is a list of what a step left.
func IsList(path string) bool {
	name, ok := strings.CutPrefix(path, host.ListsDir+"/")
	return ok && host.IsListName(name)
}

// WithoutLists is the ending for those who do not know of lists.
func (e *Ending) WithoutLists() *Ending {
	if e == nil {
		return nil
	}
	plain := *e
	plain.Files = slices.DeleteFunc(slices.Clone(e.Files), func(f File) bool { return IsList(f.Path) })
	return &plain
}

func hasDots(p string) bool {
	return slices.ContainsFunc(strings.Split(p, "/"), func(part string) bool { return part == ".." || part == "." || part == "" })
}

// file returns the file of that path.
func (e *Ending) file(path string) (File, bool) {
	i := slices.IndexFunc(e.Files, func(f File) bool { return f.Path == path })
	if i < 0 {
		return File{}, false
	}
	return e.Files[i], true
}

// err is the ending as a host.Host tells it; nil when it is done.
func (e *Ending) err(timeout time.Duration) error {
	switch e.Kind {
	case EndDone:
		return nil
	case EndError:
		return &host.WorkerError{Message: e.Message}
	case EndLost:
		return &host.LostError{How: e.Message, Log: e.Log}
	case EndProtocol:
		return &host.ProtocolError{Reason: e.Message}
	case EndTimeout:
		after := e.After
		if timeout > 0 && after <= 0 {
			after = timeout
		}
		return &host.TimeoutError{After: after}
	}
	return errors.New(e.Message)
}

// EndingOf is how a host's error is told over the line.
func EndingOf(err error) *Ending {
	var worker *host.WorkerError
	var lost *host.LostError
	var protocol *host.ProtocolError
	var late *host.TimeoutError
	switch {
	case err == nil:
		return &Ending{Kind: EndDone}
	case errors.As(err, &worker):
		return &Ending{Kind: EndError, Message: worker.Message}
	case errors.As(err, &lost):
		return &Ending{Kind: EndLost, Message: lost.How, Log: lost.Log}
	case errors.As(err, &protocol):
		return &Ending{Kind: EndProtocol, Message: protocol.Reason}
	case errors.As(err, &late):
		return &Ending{Kind: EndTimeout, Message: late.Error(), After: late.After}
	}
	return &Ending{Kind: EndFailed, Message: err.Error()}
}
