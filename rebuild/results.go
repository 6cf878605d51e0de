package rebuild

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"quorate.dev/builder/filelock"
	"quorate.dev/rebuild/host"
)

// marker is the file by which a results folder is known as ours; while one is
// being made it is also what its maker locks.
const marker = ".quorate-results"

// ResultsError says that a results folder cannot be used.
type ResultsError struct {
	Path   string
	Reason string
}

func (e *ResultsError) Error() string {
	return fmt.Sprintf("cannot write results to %q: %s", e.Path, e.Reason)
}

// results is a results folder that is being made.
type results struct {
	place string // where it goes
	aside string // where it is made
	lock  *os.File
	done  bool
}

// openResults checks that the place is free or ours, and makes a folder beside
// it. What a killed run left there is removed.
func openResults(path string) (*results, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkPlace(path); err != nil {
		return nil, err
	}
	r := &results{place: path, aside: filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")}
	if err := os.MkdirAll(r.aside, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make results folder: %w", err)
	}
	r.lock, err = os.OpenFile(filepath.Join(r.aside, marker), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot make results folder: %w", err)
	}
	err = filelock.Try(r.lock, filelock.Exclusive)
	if errors.Is(err, filelock.ErrLocked) {
		err = &ResultsError{Path: path, Reason: "another rebuild is writing there"}
	}
	if err == nil {
		err = r.empty()
	}
	if err != nil {
		r.lock.Close()
		return nil, err
	}
	return r, nil
}

// checkPlace refuses to replace anything that is not a results folder.
func checkPlace(path string) error {
	list, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &ResultsError{Path: path, Reason: "it is there and is no folder"}
	case len(list) == 0:
		return nil
	}
	if info, err := os.Lstat(filepath.Join(path, marker)); err != nil || !info.Mode().IsRegular() {
		return &ResultsError{Path: path, Reason: "it holds something else; name another folder, or an empty one"}
	}
	return nil
}

// old is where the results that are being replaced lie for a moment.
func (r *results) old() string { return r.aside + ".old" }

// empty removes what a killed run left in the folder that we have just locked,
// and brings back results that it had only half replaced.
func (r *results) empty() error {
	if _, err := os.Lstat(r.place); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(r.old(), r.place); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot bring back the old results: %w", err)
		}
	}
	list, err := os.ReadDir(r.aside)
	if err != nil {
		return err
	}
	for _, d := range list {
		if d.Name() != marker {
			if err := os.RemoveAll(filepath.Join(r.aside, d.Name())); err != nil {
				return fmt.Errorf("cannot remove what an earlier run left: %w", err)
			}
		}
	}
	return nil
}

func (r *results) path(parts ...string) string {
	return filepath.Join(append([]string{r.aside}, parts...)...)
}

// rebuilder makes the folder of one rebuilder.
func (r *results) rebuilder(name string) (string, error) {
	dir := r.path("rebuilders", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make results folder: %w", err)
	}
	return dir, nil
}

// clearAttempt puts the log of a lost attempt aside and removes the rest of it.
func clearAttempt(folder string, number int) error {
	for _, name := range []string{"image", host.ListsDir} {
		if err := os.RemoveAll(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	err := os.Rename(filepath.Join(folder, "log"), filepath.Join(folder, fmt.Sprintf("log.%d", number)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// write writes a file, whose slash-separated name may not leave the folder.
func (r *results) write(name string, b []byte) error {
	name = filepath.FromSlash(name)
	if !filepath.IsLocal(name) {
		return fmt.Errorf("%q is no name for a file of the results", name)
	}
	path := r.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot write results: %w", err)
	}
	return writeFile(path, b)
}

func (r *results) writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write results: %w", err)
	}
	return r.write(name, append(b, '\n'))
}

// writeFile writes and syncs: the rename of the whole folder must not outrun it.
func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write results: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot write results: %w", err)
	}
	return nil
}

// publish puts the folder in its place. A folder cannot be renamed over a full
// one, so the old one steps back first.
func (r *results) publish() error {
	if err := checkPlace(r.place); err != nil {
		return err
	}
	old := r.old()
	if err := os.RemoveAll(old); err != nil {
		return fmt.Errorf("cannot replace the old results: %w", err)
	}
	if err := os.Rename(r.place, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot replace the old results: %w", err)
	}
	if err := os.Rename(r.aside, r.place); err != nil {
		back := os.Rename(old, r.place)
		if errors.Is(back, fs.ErrNotExist) {
			back = nil
		}
		return errors.Join(fmt.Errorf("cannot put the results in place: %w", err), back)
	}
	r.done = true
	if err := os.RemoveAll(old); err != nil {
		return fmt.Errorf("cannot remove the old results: %w", err)
	}
	return nil
}

// discard removes what was not published and lets go of the lock.
func (r *results) discard() {
	if !r.done {
		_ = os.RemoveAll(r.aside) // what stays is removed by the next run
	}
	r.lock.Close()
}
