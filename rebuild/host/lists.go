package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"quorate.dev/lockfile/digest"
)

// ListsDir is the folder of the lists of files that a worker's steps left, in its work
// folder and then in the job's Results. Each is a file HEX.gz: the gzipped canonical list
// (package builder/tree) of which HEX is the sha256, and which the worker's report names.
//
// They explain where builds part and decide nothing: a host leaves out what is too large or
// is no such file, with a warning, and looks into none of them. Whoever opens one holds
// it against the signed report.
const ListsDir = "lists"

// Limits of the lists of one worker.
const (
	// MaxLists: far more steps than a definition has, on every platform.
	MaxLists = 1000
	// MaxList bounds one of them: a line of a real list takes some 60 bytes when it is
	// packed, 32 of which are the file's digest, so that 250,000 files have room.
	MaxList = 16 << 20
	// MaxAllLists bounds all of them together.
	MaxAllLists = 64 << 20
)

const listSuffix = ".gz"

// ListName is the name of the file of the list with that digest.
func ListName(d digest.Digest) string { return d.Hex() + listSuffix }

// IsListName says whether a file of that name can be a list.
func IsListName(name string) bool {
	hex, ok := strings.CutSuffix(name, listSuffix)
	d, err := digest.ParseHex(hex)
	return ok && err == nil && ListName(d) == name
}

// Lists takes the lists of one worker into the job's Results, and warns of those that it does not take.
type Lists struct {
	dir     string
	taken   int
	left    int64 // bytes
	refused int
	first   string // why the first of them was
	full    bool
}

// NewLists returns a Lists for a job's Results folder, where there are none yet.
func NewLists(results string) *Lists {
	return &Lists{dir: filepath.Join(results, ListsDir), left: MaxAllLists}
}

// Take copies a list of so many bytes. It returns false when there is no use in
// offering more.
func (l *Lists) Take(name string, size int64, r io.Reader) bool {
	switch {
	case l.full:
	case !IsListName(name):
		l.Refuse("%.80q is not the name of one", name)
	case size < 0 || size > MaxList || size > l.left:
		l.Refuse("%.80q has %d bytes, and at most %d are taken", name, size, min(MaxList, l.left))
		l.full = true
	case l.taken+l.refused >= MaxLists:
		l.Refuse("there are more than %d of them", MaxLists)
		l.full = true
	default:
		if err := l.copy(name, size, r); err != nil {
			l.Refuse("%v", err)
			break
		}
		l.taken, l.left = l.taken+1, l.left-size
	}
	return !l.full
}

// Refuse notes that a list is left out.
func (l *Lists) Refuse(format string, args ...any) {
	if l.refused++; l.refused == 1 {
		l.first = fmt.Sprintf(format, args...)
	}
	l.full = l.full || l.refused >= MaxLists
}

// RefuseFile notes that something that bytes cannot be read from was offered. Like Take it returns
// whether more may be.
func (l *Lists) RefuseFile(name string) bool {
	l.Refuse("%.80q is no regular file", name)
	return !l.full
}

func (l *Lists) copy(name string, size int64, r io.Reader) error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(r, size))
	if err == nil && n < size {
		err = fmt.Errorf("%q ended after %d of %d bytes", name, n, size)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// TakeFolder takes all lists of a folder on this machine, which the worker made and nobody changes
// any more. Links are not followed. A worker of an older version has no such folder.
func (l *Lists) TakeFolder(dir string) {
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return
	case err == nil && !info.IsDir():
		err = fmt.Errorf("%q is not a folder", dir)
	}
	var root *os.Root
	if err == nil {
		root, err = os.OpenRoot(dir)
	}
	if err != nil {
		l.Refuse("%v", err)
		return
	}
	defer root.Close()
	d, err := root.Open(".")
	if err != nil {
		l.Refuse("%v", err)
		return
	}
	defer d.Close()
	for {
		some, err := d.ReadDir(100)
		for _, entry := range some {
			if !l.takeFile(root, entry) {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				l.Refuse("%v", err)
			}
			return
		}
	}
}

func (l *Lists) takeFile(root *os.Root, entry os.DirEntry) bool {
	if !entry.Type().IsRegular() {
		return l.RefuseFile(entry.Name())
	}
	f, err := root.Open(entry.Name())
	if err != nil {
		l.Refuse("%v", err)
		return !l.full
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return l.RefuseFile(entry.Name())
	}
	return l.Take(entry.Name(), info.Size(), f)
}

// Warn tells, in one event, that lists were left out, if any were.
func (l *Lists) Warn(events func(Event)) {
	if l.refused == 0 || events == nil {
		return
	}
	what := "a list of what its steps left is not kept"
	if l.refused > 1 {
		what = fmt.Sprintf("%d lists of what its steps left are not kept; the first", l.refused)
	}
	events(Event{Kind: KindWarning, Message: what + ": " + l.first})
}
