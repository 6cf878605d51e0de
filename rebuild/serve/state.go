package serve

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate.dev/builder/filelock"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host/remote"
)

// state is the state folder; the package comment shows it.
type state struct {
	dir    string
	remove func(string) error
	lock   *os.File
	nonces *os.File
	used   map[string]use // by nonce
}

// use is what became of a nonce.
type use struct {
	attempt   int // the last one
	submitter string
}

func openState(dir string, remove func(string) error) (*state, error) {
	s := &state{dir: dir, remove: remove, used: map[string]use{}}
	if s.remove == nil {
		s.remove = os.RemoveAll
	}
	// 0755: folders for other ids of a user namespace must be reachable through it.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the state folder: %w", err)
	}
	for _, private := range []string{"jobs", "sent"} {
		if err := os.MkdirAll(s.path(private), 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the state folder: %w", err)
		}
	}
	var err error
	if s.lock, err = os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("cannot open the state folder: %w", err)
	}
	err = filelock.Try(s.lock, filelock.Exclusive)
	if errors.Is(err, filelock.ErrLocked) {
		err = fmt.Errorf("another service has the state folder %q open", dir)
	}
	if err == nil {
		err = s.openNonces()
	}
	if err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	return s, nil
}

func (s *state) close() error {
	return errors.Join(s.nonces.Close(), s.lock.Close())
}

func (s *state) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// openNonces reads the ledger. A last line without its end was being written when the
// machine stopped, and its job was not taken; it is cut off.
func (s *state) openNonces() error {
	f, err := os.OpenFile(s.path("nonces"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the list of nonces: %w", err)
	}
	whole, err := s.readNonces(f)
	if err == nil {
		err = f.Truncate(whole)
	}
	if err == nil {
		_, err = f.Seek(whole, io.SeekStart)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot read the list of nonces %q: %w", f.Name(), err), f.Close())
	}
	s.nonces = f
	return nil
}

// readNonces returns how many bytes of whole lines there are.
func (s *state) readNonces(r io.Reader) (int64, error) {
	whole := int64(0)
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return whole, nil
		}
		if err != nil {
			return 0, err
		}
		f := strings.Fields(line)
		attempt := 0
		if len(f) == 4 {
			attempt, err = strconv.Atoi(f[1])
		}
		if err != nil || attempt < 1 || remote.CheckID(f[0]) != nil {
			// To forget a nonce is to sign an old request again, so nothing is guessed.
			return 0, fmt.Errorf("line %.80q is not one of ours", line)
		}
		s.used[f[0]] = use{attempt: max(attempt, s.used[f[0]].attempt), submitter: f[2]}
		whole += int64(len(line))
	}
}

// spend notes that a nonce was used. It is on the disk when spend returns.
func (s *state) spend(r *record, q *remote.Request, now time.Time) error {
	_, err := fmt.Fprintf(s.nonces, "%s %d %s %s\n", q.Nonce, q.Attempt, r.Submitter, now.UTC().Format(time.RFC3339))
	if err == nil {
		err = s.nonces.Sync()
	}
	if err != nil {
		return fmt.Errorf("cannot note the nonce: %w", err)
	}
	s.used[q.Nonce] = use{attempt: q.Attempt, submitter: r.Submitter}
	return nil
}

// record is what status.json says of a job.
type record struct {
	Submitter string          `json:"submitter"`
	State     string          `json:"state"`
	Request   digest.Digest   `json:"request"` // of the body as it came
	Created   time.Time       `json:"created"`
	Ready     time.Time       `json:"ready,omitzero"` // when it came into the queue
	Started   time.Time       `json:"started,omitzero"`
	Ended     time.Time       `json:"ended,omitzero"`
	Name      string          `json:"name,omitempty"` // of the definition, when it could be read
	Ending    *remote.Ending  `json:"ending,omitempty"`
	Lacks     []digest.Digest `json:"-"` // local inputs that have not come yet
}

// createJob makes a job's folder, whole or not at all.
func (s *state) createJob(id string, request []byte, r *record) error {
	aside := s.path("jobs", ".new-"+id)
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	err := writeFile(filepath.Join(aside, "request.json"), request)
	if err == nil {
		err = writeJSON(filepath.Join(aside, "status.json"), r)
	}
	if err == nil {
		err = os.Rename(aside, s.path("jobs", id))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(aside))
	}
	return syncDir(s.path("jobs"))
}

func (s *state) saveJob(id string, r *record) error {
	return writeJSON(s.path("jobs", id, "status.json"), r)
}

func (s *state) removeJob(id string) error { return s.remove(s.path("jobs", id)) }

// loadJobs reads every job, the oldest first. One that cannot be read is removed: its
// submitter is told that there is none, and asks again.
func (s *state) loadJobs(bad func(id string, err error)) ([]*job, error) {
	list, err := os.ReadDir(s.path("jobs"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the jobs: %w", err)
	}
	var all []*job
	for _, d := range list {
		j, err := s.loadJob(d.Name())
		if err != nil {
			bad(d.Name(), err)
			if err := s.removeJob(d.Name()); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, j)
	}
	slices.SortFunc(all, func(a, b *job) int { return a.Created.Compare(b.Created) })
	return all, nil
}

func (s *state) loadJob(id string) (*job, error) {
	if err := remote.CheckID(id); err != nil {
		return nil, err
	}
	f, err := os.Open(s.path("jobs", id, "request.json"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	q, err := remote.ReadRequest(f)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(s.path("jobs", id, "status.json"))
	if err != nil {
		return nil, err
	}
	j := newJob(id, q)
	if err := json.Unmarshal(data, &j.record); err != nil {
		return nil, err
	}
	return j, nil
}

// marker is the file that says that a submitter has sent these bytes.
func (s *state) marker(submitter string, d digest.Digest) string {
	return s.path("sent", submitter, d.Hex())
}

func (s *state) hasSent(submitter string, d digest.Digest) bool {
	_, err := os.Stat(s.marker(submitter, d))
	return err == nil
}

func (s *state) markSent(submitter string, d digest.Digest) error {
	path := s.marker(submitter, d)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o600)
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'))
}

// writeFile puts the whole file in place at once, on the disk.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sizeOf is the bytes of all files under a folder, by what they hold.
func sizeOf(dir string) int64 {
	total := int64(0)
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it went away while we looked
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total
}
