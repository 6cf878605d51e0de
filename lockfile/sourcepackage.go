package lockfile

import (
	"regexp"
	"strings"
)

// A source input is a Debian source package: one [Pin] for each of its files
// that the input shows, named as the package and with its version, and found at
// a path in the archive. The input's facts are "version", "archive", the name of
// the [Archive] whose index lists the files, "format", as that index has it
// ("3.0 (quilt)"), and "unpack", how the files are shown (definition.Unpack).

// SourcePart says what a file of a source package is for.
type SourcePart string

// The parts (dpkg-source(1), "Source package formats").
const (
	SourceUpstream  SourcePart = "upstream"  // NAME_VERSION.orig.tar.EXT: what its authors published
	SourceComponent SourcePart = "component" // NAME_VERSION.orig-COMPONENT.tar.EXT: more of it, in a folder of that name
	SourceDebian    SourcePart = "debian"    // NAME_VERSION-REVISION.debian.tar.EXT: the folder debian/
	SourceNative    SourcePart = "native"    // NAME_VERSION.tar.EXT: all of it, of a package whose authors are Debian's
	SourceControl   SourcePart = "control"   // NAME_VERSION-REVISION.dsc: the list of the others
	SourceOther     SourcePart = "other"     // signatures of tarballs, patches of format 1.0
)

// sourceTar matches names of tarballs, with what stands before "tar". The
// extensions are those that package builder/unpack/archive reads.
var sourceTar = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*_[A-Za-z0-9.+~:-]+?(\.orig|\.orig-([A-Za-z0-9][A-Za-z0-9-]*)|\.debian|)\.tar\.(gz|xz|bz2|zst)$`)

// SourcePartOf says what a file is by its name. Of a component, the folder that
// it is unpacked to is returned too.
func SourcePartOf(name string) (part SourcePart, component string) {
	if strings.HasSuffix(name, ".dsc") {
		return SourceControl, ""
	}
	m := sourceTar.FindStringSubmatch(name)
	switch {
	case m == nil:
		return SourceOther, ""
	case m[2] != "":
		return SourceComponent, m[2]
	case m[1] == ".orig":
		return SourceUpstream, ""
	case m[1] == ".debian":
		return SourceDebian, ""
	}
	return SourceNative, ""
}
