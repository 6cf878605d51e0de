package npm

import (
	"fmt"
	"io"
	"io/fs"
	"time"

	"quorate.dev/lockfile/source/jsonpart"
)

// maxVersion bounds what a registry says of one version: some kB, where it is true.
const maxVersion = 4 << 20

// findRelease reads what a registry says of a package, of all its versions, and
// returns one of them.
func findRelease(answer io.Reader, name, version string) (*released, error) {
	r := jsonpart.New(answer, maxVersion)
	var rel *released
	var published any
	var seen [2]bool
	err := r.Object(func(key string) error {
		switch key {
		case "versions":
			return find(r, version, &rel, &seen[0])
		case "time":
			return find(r, version, &published, &seen[1])
		}
		return r.Skip()
	})
	if err != nil {
		return nil, fmt.Errorf("what the registry says of %s is no package metadata: %w", name, err)
	}
	if rel == nil || rel.Name != name || rel.Version != version {
		return nil, &fs.PathError{Op: "find", Path: name + "@" + version, Err: fs.ErrNotExist}
	}
	if text, ok := published.(string); ok {
		rel.published, _ = time.Parse(time.RFC3339, text) // zero when it is none
	}
	return rel, nil
}

// find reads an object, and decodes the value of one name, which may stand once.
func find(r *jsonpart.Reader, name string, value any, seen *bool) error {
	return r.Object(func(key string) error {
		if key != name {
			return r.Skip()
		}
		if *seen {
			return fmt.Errorf("%q stands twice", name)
		}
		*seen = true
		return r.Decode(value)
	})
}
