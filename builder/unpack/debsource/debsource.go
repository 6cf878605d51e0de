// Package debsource shows Debian source packages: what upstream authors
// published, as Debian's archive keeps it.
//
// An input is shown in one of three ways (definition.Unpack), none of which
// runs anything:
//
//	upstream  the upstream tarball, unpacked: /inputs/NAME/configure …
//	debian    the same, with Debian's folder debian/ in place of its own. The
//	          patches in debian/patches are not applied; a step does that, with
//	          quilt or patch(1), in the order of debian/patches/series
//	none      all files as they are: /inputs/NAME/jansson_2.14-2.dsc …, for
//	          dpkg-source in a step
//
// The rules are those of dpkg-source(1), held against the program itself by a
// test: upstream is what `dpkg-source --skip-debianization -x` makes and debian
// what `dpkg-source --skip-patches -x` does, but for two files that it mends: it
// writes debian/source/format where there is none, and makes debian/rules a
// program. A tarball that holds exactly one
// folder at its top is shown without it; one named NAME_VERSION.orig-COMPONENT
// becomes the folder COMPONENT, in place of what was there.
//
// Owners, times and modes are ours, as of every input: the same files are the
// same tree on every machine.
package debsource

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/archive"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
)

// Unpack is an unpack.Kind.
func Unpack(in lockfile.Input, blobs []unpack.Blob, files *unpack.Files) error {
	if in.Facts["unpack"] == string(definition.UnpackNone) {
		return asTheyAre(blobs, files)
	}
	if len(blobs) == 0 {
		return errors.New("there is no tarball to unpack")
	}
	// Upstream's own comes first, then its components, then Debian's.
	order := map[lockfile.SourcePart]int{lockfile.SourceNative: 1, lockfile.SourceUpstream: 1, lockfile.SourceComponent: 2, lockfile.SourceDebian: 3}
	blobs = slices.SortedStableFunc(slices.Values(blobs), func(a, b unpack.Blob) int {
		x, _ := part(a)
		y, _ := part(b)
		return cmp.Compare(order[x], order[y])
	})
	s := source{files: files, quilt: in.Facts["format"] == "3.0 (quilt)", members: map[string]archive.Entry{}}
	for i, b := range blobs {
		kind, component := part(b)
		if order[kind] == 0 || (order[kind] == 1) != (i == 0) {
			return fmt.Errorf("%s is not what can be unpacked here, or not all of it", path.Base(b.Pin.Path))
		}
		if err := s.add(kind, component, b); err != nil {
			return fmt.Errorf("%s: %w", path.Base(b.Pin.Path), err)
		}
	}
	return s.finish()
}

func part(b unpack.Blob) (lockfile.SourcePart, string) {
	return lockfile.SourcePartOf(path.Base(b.Pin.Path))
}

// source is a source package that is being put together.
type source struct {
	files   *unpack.Files
	quilt   bool
	members map[string]archive.Entry // by path
}

func (s *source) add(part lockfile.SourcePart, component string, b unpack.Blob) error {
	members, err := s.files.Members(b)
	if err != nil {
		return err
	}
	switch part {
	case lockfile.SourceDebian:
		s.remove("debian")
		return s.lay("", members)
	case lockfile.SourceComponent:
		s.remove(component)
		s.members[component] = archive.Entry{Entry: tree.Entry{Kind: tree.Dir}}
		return s.lay(component, withoutTop(members))
	}
	if s.quilt { // where quilt keeps what it did: dpkg-source does not take it from outside
		members = slices.DeleteFunc(members, func(e archive.Entry) bool {
			first, rest, _ := strings.Cut(e.Path, "/")
			second, _, _ := strings.Cut(rest, "/")
			return first == ".pc" || second == ".pc"
		})
	}
	return s.lay("", withoutTop(members))
}

// withoutTop leaves out the one folder that everything is in, if there is one.
func withoutTop(members []archive.Entry) []archive.Entry {
	top := ""
	for i, e := range members {
		first, _, below := strings.Cut(e.Path, "/")
		if i == 0 {
			top = first
		}
		if first != top || !below && e.Kind != tree.Dir {
			return members
		}
	}
	inner := make([]archive.Entry, 0, len(members))
	for _, e := range members {
		if _, rest, below := strings.Cut(e.Path, "/"); below {
			e.Path = rest
			inner = append(inner, e)
		}
	}
	return inner
}

// remove forgets a path and all below it.
func (s *source) remove(name string) {
	maps.DeleteFunc(s.members, func(p string, _ archive.Entry) bool { return p == name || strings.HasPrefix(p, name+"/") })
}

// lay puts members below a folder, over what is there: files over files.
func (s *source) lay(folder string, members []archive.Entry) error {
	for _, e := range members {
		name := path.Join(folder, e.Path)
		if old, there := s.members[name]; there && (old.Kind == tree.Dir) != (e.Kind == tree.Dir) {
			return &unpack.PathError{Path: name, Reason: "is a folder in one tarball and none in another"}
		}
		s.members[name] = e
	}
	return nil
}

// finish adds what came of it, parents first, so that a file below a symbolic
// link of another tarball is refused.
func (s *source) finish() error {
	for _, name := range slices.Sorted(maps.Keys(s.members)) {
		if err := s.files.AddMember(name, s.members[name]); err != nil {
			return err
		}
	}
	return nil
}

// asTheyAre shows the files of a source package, if they are what its .dsc lists.
func asTheyAre(blobs []unpack.Blob, files *unpack.Files) error {
	control := slices.IndexFunc(blobs, func(b unpack.Blob) bool {
		kind, _ := part(b)
		return kind == lockfile.SourceControl
	})
	if control < 0 {
		return errors.New("the lock has no .dsc of it")
	}
	if err := checkControl(blobs[control], blobs); err != nil {
		return fmt.Errorf("%s: %w", path.Base(blobs[control].Pin.Path), err)
	}
	for _, b := range blobs {
		if err := files.AddBlob(path.Base(b.Pin.Path), b); err != nil {
			return err
		}
	}
	return nil
}
