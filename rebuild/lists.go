package rebuild

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/host"
)

// StepsDir is the folder of a rebuilder's lists in the results.
const StepsDir = "steps"

// Limits of the lists that one rebuilder hands in. They were packed by somebody else's
// machine, and what is signed of them is a digest, which says nothing of their size.
const (
	// maxListing bounds one list, unpacked: a line of a real one takes some 170 bytes, so
	// that a million files have room. It is read line by line, and kept nowhere.
	maxListing = 256 << 20
	// maxListings bounds all of them together: some ten seconds of unpacking and hashing.
	maxListings = 1 << 30
)

// ListError says that a list of what a step left is not the one that the rebuilder's report
// names, or is none.
type ListError struct {
	Platform, Step string
	Err            error
}

func (e *ListError) Error() string {
	return fmt.Sprintf("the list of what step %q left for %s is not to be trusted: %v", e.Step, e.Platform, e.Err)
}

func (e *ListError) Unwrap() error { return e.Err }

// listPath is where a list is kept below steps/: PLATFORM/STEP.list.gz, a platform's
// slashes as dashes. It is false for names that no definition has.
func listPath(s agreement.StepDigest) (string, bool) {
	platform := strings.ReplaceAll(s.Platform, "/", "-")
	if definition.CheckName(platform) != nil || definition.CheckName(s.Step) != nil {
		return "", false
	}
	return filepath.Join(platform, s.Step+".list.gz"), true
}

// OpenList opens the list that a results folder keeps of what a step of one rebuilder left, as package
// tree's listing; dir is RESULTS/rebuilders/NAME/steps. What is read is the list that the report
// names only when io.EOF has come; a *ListError comes instead when it is not. A list
// that is not there is fs.ErrNotExist.
func OpenList(dir string, s agreement.StepDigest) (io.ReadCloser, error) {
	name, ok := listPath(s)
	if !ok {
		return nil, fmt.Errorf("step %.80q for %.80q: %w", s.Step, s.Platform, fs.ErrNotExist)
	}
	return openList(filepath.Join(dir, name), s, maxListing)
}

// openList opens a packed list that may have so many bytes when it is unpacked.
func openList(path string, s agreement.StepDigest, most int64) (*listReader, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	l := &listReader{step: s, left: most}
	if !info.Mode().IsRegular() {
		return nil, l.fail(errors.New("it is no regular file"))
	}
	if l.file, err = os.Open(path); err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(l.file)
	if err != nil {
		return nil, errors.Join(l.fail(err), l.file.Close())
	}
	l.r = digest.NewReader(z, s.Tree, -1)
	return l, nil
}

// listReader unpacks a list and holds it against its digest.
type listReader struct {
	step agreement.StepDigest
	file *os.File
	r    io.Reader
	left int64 // bytes that may still come
}

func (l *listReader) fail(err error) error {
	return &ListError{Platform: l.step.Platform, Step: l.step.Step, Err: err}
}

func (l *listReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	switch l.left -= int64(n); {
	case l.left < 0:
		err = l.fail(errors.New("it is longer than any that is read"))
	case err != nil && err != io.EOF:
		err = l.fail(err)
	}
	return n, err
}

func (l *listReader) Close() error { return l.file.Close() }

// keepLists moves the lists that rebuilders handed in to where the results have them, each held
// against the signed report; those that are not what it names are left out, with a warning.
// Where all say the same there is nothing to explain, and none is read or kept.
func (r *run) keepLists(out *Outcome) error {
	explain := out.Verdict.Decision != agreement.Agree
	for _, o := range out.Verdict.Outcomes {
		explain = explain || o.Result == agreement.Dissents
	}
	for _, a := range r.answers {
		who := a.submission.Rebuilder
		folder := r.results.path("rebuilders", who)
		if report := a.submission.Report; report != nil && explain {
			for _, err := range keepLists(folder, report.Steps) {
				out.Warnings = append(out.Warnings, fmt.Sprintf("%s: %v; it is not used", who, err))
			}
		}
		if err := os.RemoveAll(filepath.Join(folder, host.ListsDir)); err != nil {
			return fmt.Errorf("cannot write results: %w", err)
		}
	}
	return nil
}

// keepLists keeps the lists of one rebuilder, and returns what is wrong with others. One that did not come is no
// mistake: its quorate may be older.
func keepLists(folder string, steps []agreement.StepDigest) []error {
	var wrong []error
	left := int64(maxListings)
	for _, s := range steps {
		name, ok := listPath(s)
		from := filepath.Join(folder, host.ListsDir, host.ListName(s.Tree))
		if _, err := os.Lstat(from); !ok || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		size, err := checkList(from, s, min(left, maxListing))
		left -= size
		if err == nil {
			err = copyList(from, filepath.Join(folder, StepsDir, name))
		}
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	return wrong
}

// checkList reads a whole list, and returns how many bytes were unpacked: it is the one that the report names,
// and a list of files.
func checkList(path string, s agreement.StepDigest, most int64) (int64, error) {
	l, err := openList(path, s, most)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	for _, err := range tree.Scan(l) {
		if err != nil {
			var known *ListError // of l itself; the line that it broke off at says nothing
			if !errors.As(err, &known) {
				return most - l.left, l.fail(err)
			}
			return most - l.left, known
		}
	}
	return most - l.left, nil
}

// copyList copies a packed list to its place; steps that left the same share one.
func copyList(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	b, err := os.ReadFile(from) // host.MaxList at most
	if err != nil {
		return err
	}
	return writeFile(to, b)
}
