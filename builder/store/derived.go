package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"quorate.dev/builder/filelock"
	"quorate.dev/lockfile/digest"
)

// plain is what may stand as a file name anywhere, also where "A" and "a" are one file.
var plain = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)

// names checks a kind and turns a key, which may be any text, into a file name.
func names(kind, key string) (string, string, error) {
	if !plain.MatchString(kind) {
		return "", "", fmt.Errorf("kind %q must match %s", kind, plain)
	}
	if key == "" {
		return "", "", fmt.Errorf("key of kind %q is empty", kind)
	}
	if !plain.MatchString(key) {
		key = "_" + digest.Of([]byte(key)).Hex() // "_" begins no plain key
	}
	return kind, key, nil
}

const (
	treeName = "tree" // what the maker filled
	madeName = "made" // its time says when (looked at by dropTorn), its text how many files and folders
	usedName = "used" // its time says when it was last asked for; looked at by GC
)

// Derived returns the folder that is derived from key by the rules of kind,
// and has fill make it if it is not there. fill gets an empty folder (0755) and
// what it leaves there is kept, with its times and owners, once it returns nil;
// after an error or a crash nothing stays. One maker works at a time over all
// processes, the others wait for it. The key must name everything that the
// folder depends on, the version of the rules included. Callers must not
// change the folder.
//
// The result lives in its own subfolder so that marking its use changes no
// time inside it.
func (s *Store) Derived(ctx context.Context, kind, key string, fill func(dir string) error) (string, error) {
	kind, name, err := names(kind, key)
	if err != nil {
		return "", fmt.Errorf("cannot derive: %w", err)
	}
	final := s.path("derived", kind, name)
	if s.useDerived(final) {
		return filepath.Join(final, treeName), nil
	}
	if s.o.ReadOnly {
		return "", fmt.Errorf("cannot make %s %q: %w", kind, key, ErrReadOnly)
	}
	lock, err := lockContext(ctx, s.path("locks", "derived-"+kind+"-"+name), filelock.Exclusive)
	if err != nil {
		return "", fmt.Errorf("cannot make %s %q: %w", kind, key, s.space(err, 0))
	}
	defer lock.remove()
	if s.useDerived(final) {
		return filepath.Join(final, treeName), nil
	}
	if err := s.makeDerived(ctx, final, fill); err != nil {
		return "", s.space(err, 0) // fill says what it made, in better words than a key
	}
	return filepath.Join(final, treeName), nil
}

// HasDerived reports whether Derived would find the folder made, and where.
func (s *Store) HasDerived(kind, key string) (string, bool) {
	kind, name, err := names(kind, key)
	if err != nil {
		return "", false
	}
	final := s.path("derived", kind, name)
	return filepath.Join(final, treeName), s.useDerived(final)
}

func (s *Store) useDerived(final string) bool {
	used := filepath.Join(final, usedName)
	fi, err := os.Lstat(used)
	if err != nil || !isWhole(final) {
		return false
	}
	touch(used, fi)
	return true
}

// isWhole reports whether a derived folder still has as many files as were
// made. Somebody who removes a store with "rm -r" and changes their mind leaves
// folders with the marks of a whole one, and a build over half a root would
// make another image without saying so. Listing 10,000 files takes some 15 ms.
func isWhole(final string) bool {
	made, err := readLimited(filepath.Join(final, madeName), 32)
	return err == nil && string(made) == countFiles(filepath.Join(final, treeName))
}

// countFiles counts what is below dir. A folder that this user may not list
// counts as one, now as when it was made.
func countFiles(dir string) string {
	n := 0
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			n++
		}
		return nil
	})
	return strconv.Itoa(n)
}

func (s *Store) makeDerived(ctx context.Context, final string, fill func(string) error) error {
	if err := makeDir(filepath.Dir(final)); err != nil {
		return err
	}
	aside, done, err := s.Scratch(ctx)
	if err != nil {
		return err
	}
	defer done()
	tree := filepath.Join(aside, treeName)
	if err := makeDir(tree); err != nil {
		return err
	}
	if err := fill(tree); err != nil {
		return err
	}
	for mark, text := range map[string]string{madeName: countFiles(tree), usedName: ""} {
		if err := os.WriteFile(filepath.Join(aside, mark), []byte(text), fileMode); err != nil {
			return err
		}
	}
	if err := os.Rename(aside, final); err == nil {
		return nil
	}
	// What stands there is not whole, or it would be in use.
	if err := s.dropFolder(final); err != nil {
		return err
	}
	return os.Rename(aside, final)
}

// Drop removes a derived folder and the note of the same kind and key, for
// when they turned out to be wrong. Nobody may be using them.
func (s *Store) Drop(kind, key string) error {
	kind, name, err := names(kind, key)
	if err != nil {
		return fmt.Errorf("cannot drop: %w", err)
	}
	if s.o.ReadOnly {
		return fmt.Errorf("cannot drop %s %q: %w", kind, key, ErrReadOnly)
	}
	if err := os.Remove(s.path("notes", kind, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot drop %s %q: %w", kind, key, err)
	}
	if err := s.dropFolder(s.path("derived", kind, name)); err != nil {
		return fmt.Errorf("cannot drop %s %q: %w", kind, key, err)
	}
	return nil
}

// DropHolding removes the derived folder that the file lies in, for when the
// file's bytes turned out to be wrong, and reports whether it lies in one.
// Others who use the folder fail to open its files, and can have it made again.
func (s *Store) DropHolding(file string) (bool, error) {
	rel, err := filepath.Rel(s.path("derived"), file)
	if err != nil || !filepath.IsLocal(rel) {
		return false, nil
	}
	parts := strings.Split(filepath.ToSlash(rel), "/")
	if len(parts) < 3 || s.o.ReadOnly {
		return false, nil
	}
	if err := s.dropFolder(s.path("derived", parts[0], parts[1])); err != nil {
		return false, fmt.Errorf("cannot drop what was derived: %w", err)
	}
	return true, nil
}

// dropFolder renames a folder into scratch before it removes it, so that half
// of it is never taken for the whole.
func (s *Store) dropFolder(path string) error {
	sess, err := s.sessionDir()
	if err != nil {
		return err
	}
	aside, err := makeTemp(sess)
	if err != nil {
		return err
	}
	err = os.Rename(path, filepath.Join(aside, "gone"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, s.o.Remove(aside))
}

// tornWindow is how long before the last sign of life a derived folder may
// have been made and still not be on disk. Linux writes dirty pages back after
// 30 s (vm.dirty_expire_centisecs), later under load; 10 min is generous.
const tornWindow = 10 * time.Minute

// dropTorn removes derived folders that a power failure may have torn. They
// are not synced when made, because 100 packages would wait for the disk 100
// times. Instead, the first Open after the machine was started anew drops what
// was made within tornWindow before the newest folder: the failure cannot have
// come before that one was made, so all older ones had time to reach the disk.
// The caller holds the use lock alone.
func (s *Store) dropTorn() {
	now := bootID()
	file := s.path("locks", "boot")
	before, err := readLimited(file, 4096)
	if now == "" || (err == nil && string(before) == now) {
		return
	}
	if err == nil {
		made := s.derivedFolders(madeName)
		var newest time.Time
		for _, t := range made {
			if t.After(newest) {
				newest = t
			}
		}
		for path, t := range made {
			if newest.Sub(t) <= tornWindow && s.dropFolder(path) != nil {
				return // without the new boot id, the next Open tries again
			}
		}
	}
	_ = s.writeFile(file, []byte(now))
}

// derivedFolders lists derived/KIND/KEY with the time of one of its marks.
func (s *Store) derivedFolders(mark string) map[string]time.Time {
	times := make(map[string]time.Time)
	for _, folder := range s.twoDeep("derived") {
		if fi, err := os.Lstat(filepath.Join(folder, mark)); err == nil {
			times[folder] = fi.ModTime()
		}
	}
	return times
}

// twoDeep lists what lies in the subfolders of one of the store's folders. (Not
// by filepath.Glob, which would read the store's own path as a pattern.)
func (s *Store) twoDeep(in string) []string {
	var list []string
	kinds, _ := os.ReadDir(s.path(in))
	for _, kind := range kinds {
		keys, _ := os.ReadDir(s.path(in, kind.Name()))
		for _, key := range keys {
			list = append(list, s.path(in, kind.Name(), key.Name()))
		}
	}
	return list
}
