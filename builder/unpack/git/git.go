// Package git shows the tree of a git commit. The pin is its canonical archive,
// which holds what git recorded: files, their execute bit, symbolic links.
package git

import (
	"fmt"

	"quorate.dev/builder/unpack"
	"quorate.dev/lockfile"
)

// Unpack is an unpack.Kind.
func Unpack(in lockfile.Input, blobs []unpack.Blob, files *unpack.Files) error {
	if len(blobs) != 1 || blobs[0].Pin.Version != in.Facts["commit"] {
		return fmt.Errorf("the lock has not exactly one archive of commit %s", in.Facts["commit"])
	}
	return files.AddArchive("", blobs[0], nil)
}
