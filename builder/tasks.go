package builder

import (
	"encoding/gob"
	"fmt"
	"io"

	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
)

// File tasks are the only code of ours that touches roots on disk. They run
// with the ids of the sandbox's mapping (sandbox.Runner.Task), so that a build
// by root, one with subordinate ids and one with a single id share this code.
// Instructions and answers are gob streams: both ends are this very binary.

// The names of the tasks.
const (
	taskExtract = "extract"
	taskScan    = "scan"
	taskRemove  = "remove"
	taskStamp   = "stamp"
)

// Tasks returns the file tasks that main hands to sandbox.Main.
func Tasks() map[string]sandbox.TaskFunc {
	return map[string]sandbox.TaskFunc{
		taskExtract: extract,
		taskScan:    scan,
		taskRemove:  remove,
		taskStamp:   stamp,
	}
}

// copyBuffer is the unit in which file contents move; larger gains nothing, as
// most files of a Debian root are smaller.
const copyBuffer = 128 << 10

// extractPlan says which files to make below Dir, which is empty or missing.
// As many Items follow it in the stream as Count says.
type extractPlan struct {
	Dir     string
	Epoch   int64 // mtime of directories and the latest of any file
	Owners  bool  // set owners; false where the mapping has only one id
	Reverse bool  // make files in the opposite order
	Files   []string
	Count   int
}

// extractItem is one path; entries come in tree order, parents first.
type extractItem struct {
	Path     string
	Kind     tree.Kind
	Mode     uint32
	UID, GID int
	ModTime  int64
	Size     int64
	Digest   digest.Digest
	Link     string
	Xattrs   map[string]string
	File     int   // index into extractPlan.Files; -1 when Inline holds the bytes
	Offset   int64 // in that file
	Inline   []byte
}

// scanPlan says which folder to list, and where its files' bytes go, one after
// the other.
type scanPlan struct {
	Dir  string
	Data string   // made; holds the contents of all regular files
	Skip []string // paths that are left out with all below them
}

// scanAnswer is what a folder holds, sorted by path. Content is nil everywhere.
type scanAnswer struct {
	Entries []tree.Entry
	Offsets []int64  // of each File's bytes in scanPlan.Data
	Opaque  []string // folders that hide everything below them in lower layers
}

// stampPlan says which folder's files get which time, and which of them go or are emptied.
type stampPlan struct {
	Dir           string
	Epoch         int64
	Forget, Empty []string // paths of files; most are not there
}

func decodePlan(in io.Reader, plan any) (*gob.Decoder, error) {
	dec := gob.NewDecoder(in)
	if err := dec.Decode(plan); err != nil {
		return nil, fmt.Errorf("reading the task's instructions: %w", err)
	}
	return dec, nil
}
