// Package python shows distributions of Python packages as files in one folder:
//
//	/inputs/NAME/requests-2.32.3-py3-none-any.whl
//
// A step installs from it with: pip install --no-index --find-links /inputs/NAME
// --require-hashes -r requirements.txt. They are shown as they are; whatever
// building a source distribution runs, runs in the step.
package python

import (
	"path"

	"quorate.dev/builder/unpack"
	"quorate.dev/lockfile"
)

// Unpack is an unpack.Kind.
func Unpack(_ lockfile.Input, blobs []unpack.Blob, files *unpack.Files) error {
	for _, b := range blobs {
		if err := files.AddBlob(path.Base(b.Pin.Path), b); err != nil {
			return err
		}
	}
	return nil
}
