// Package diff compares container images, whoever made them, and names every
// path that differs.
//
// [Layouts] takes two folders in the OCI image layout (image-layout.md) and
// returns a [OldComparison]: a sorted, complete list of [OldFinding]s. Complete means
// that two sides whose bytes differ have at least one finding, down to padding
// between the entries of a tar file. Words:
//
//   - A side is one of the two layouts, A or B.
//   - Images are paired by platform, then by order.
//   - Layers are paired by digest first and then, between such pairs, by order
//     (pairLayers). Equal digests are not even opened.
//   - A differing pair of layers is read twice. The first reading goes through
//     both sides at once and keeps facts about each entry but no contents
//     (layer.go); what the second reading is for is to look at the first
//     differing bytes of the files that differ (preview.go).
//
// Memory is a few hundred bytes for an entry and 2 MiB for each GiB of contents,
// and does not grow with the size of a file.
//
// How the files divide the work, and where more formats go:
//
//	layout.go   what an OCI layout says: index, manifests, configs, blobs by digest
//	fields.go   two JSON documents → the fields that differ
//	layer.go    one layer → entries (gzip, zstd or plain tar)
//	compare.go  two lists of entries → findings
//	preview.go  two differing contents → first differing offset and a few bytes
//	write.go    a OldComparison → plain text
//
// A further container (docker archive, folder, registry) is one more way to
// make a side; a further format of contents (ELF, zip, gettext …) is one more
// reader beside preview.go which splits the content of one path into parts.
//
// The package stands alone: it imports no other folder of Quorate, so that it
// can judge images that Quorate did not build, and it never uses the network.
package diff

import (
	"fmt"
	"path/filepath"
	"sort"
)

// What a finding is about, as OldFinding.What has it. Fields of JSON documents
// come as "index FIELD", "manifest FIELD" and "config FIELD".
const (
	oldWhatPresence    = "presence"    // an image, layer or path is on one side only
	oldWhatType        = "type"        // file, folder, symlink …
	oldWhatMode        = "mode"        // permission bits
	oldWhatOwner       = "owner"       // uid:gid
	oldWhatOwnerNames  = "owner names" // uname:gname of the tar header
	oldWhatModTime     = "mtime"       //
	oldWhatTimes       = "other times" // atime and ctime of a PAX or GNU header
	oldWhatLink        = "link"        // target of a symlink or hard link
	oldWhatDevice      = "device"      // major:minor
	oldWhatXattrs      = "xattrs"      // extended attributes
	oldWhatRecords     = "pax records" // PAX records other than xattrs
	oldWhatFormat      = "tar format"  // USTAR, PAX, GNU
	oldWhatSize        = "size"        // of a file, in bytes
	oldWhatContent     = "content"     // bytes of a file
	oldWhatOrder       = "order"       // entries stand in another order
	oldWhatTarBytes    = "tar bytes"   // bytes that no entry owns: padding, header details
	oldWhatCompression = "compression" // equal tar, other compressed bytes
	oldWhatBytes       = "bytes"       // a JSON document has equal fields and other bytes
)

// Options change how much is looked at, never the verdict.
type Options struct {
	// Done ends the comparison early with ErrStopped; a context's Done() fits. Nil never does.
	Done <-chan struct{}
	// Context is how many bytes around a difference are shown; 0 means 48, which
	// keeps both sides of a finding within a terminal's line.
	Context int
}

const defaultContext = 48

// OldFinding is one difference.
type OldFinding struct {
	Platform string `json:"platform,omitempty"` // "linux/amd64"; "" for the index itself
	Layer    int    `json:"layer"`              // number of A's layer (B's when A has none), from 0; -1 for index, manifest and config
	Path     string `json:"path,omitempty"`     // inside the layer, as its tar names it, cleaned; "" for the layer or document itself
	What     string `json:"what"`               // one of the constants above, or "config FIELD" …
	A        string `json:"a"`                  // A's value for people, at most about 200 bytes; "" where A has none
	B        string `json:"b"`
	Offset   int64  `json:"offset"` // of content: the first differing byte; -1 for all else
}

// Side is one of two things compared.
type OldSide struct {
	Path      string   `json:"path"`      // as given
	Manifests []string `json:"manifests"` // digests of its images, in order
}

// OldComparison is the answer of Layouts.
type OldComparison struct {
	A        OldSide      `json:"a"`
	B        OldSide      `json:"b"`
	Findings []OldFinding `json:"findings"` // in order of platform, layer, path, what
}

// Same reports whether nothing differs.
func (c *OldComparison) Same() bool { return len(c.Findings) == 0 }

// Paths returns the differing paths inside layers, each once, sorted.
func (c *OldComparison) Paths() []string {
	seen := map[string]bool{}
	var paths []string
	for _, f := range c.Findings {
		if f.Path != "" && !seen[f.Path] {
			seen[f.Path] = true
			paths = append(paths, f.Path)
		}
	}
	sort.Strings(paths)
	return paths
}

// Layouts compares the OCI layouts in the folders a and b. Errors: *InputError
// (a side is damaged, hostile or not a layout; it names the side and the file),
// ErrStopped.
func Layouts(a, b string, o Options) (*OldComparison, error) {
	if o.Context <= 0 {
		o.Context = defaultContext
	}
	left, err := openLayout(a)
	if err != nil {
		return nil, err
	}
	right, err := openLayout(b)
	if err != nil {
		return nil, err
	}
	w := &work{options: o, a: left, b: right}
	if err := w.compare(); err != nil {
		return nil, err
	}
	sortFindings(w.findings)
	return &OldComparison{
		A:        OldSide{Path: a, Manifests: left.digests()},
		B:        OldSide{Path: b, Manifests: right.digests()},
		Findings: w.findings,
	}, nil
}

func sortFindings(f []OldFinding) {
	sort.SliceStable(f, func(i, j int) bool {
		x, y := f[i], f[j]
		switch {
		case x.Platform != y.Platform:
			return x.Platform < y.Platform
		case x.Layer != y.Layer:
			return x.Layer < y.Layer
		case x.Path != y.Path:
			return x.Path < y.Path
		default:
			return x.What < y.What
		}
	})
}

// InputError says that a side cannot be compared.
type InputError struct {
	Side string // the layout's folder
	Name string // the file or blob in it
	Err  error
}

func (e *InputError) Error() string {
	return fmt.Sprintf("cannot compare %q: %v", filepath.Join(e.Side, e.Name), e.Err)
}

func (e *InputError) Unwrap() error { return e.Err }

type stopped struct{}

func (stopped) Error() string { return "comparison stopped" }

// ErrStopped says that Options.Done was closed.
var ErrStopped error = stopped{}
