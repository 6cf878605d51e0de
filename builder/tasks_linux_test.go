package builder

import (
	"bytes"
	"encoding/gob"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/builder/tree"
)

// Both of two paths that differ only in case are made; where the file system
// takes one for the other, which is told from a file that is there already, the
// error names both.
func TestExtractTellsCase(t *testing.T) {
	file := func(p string) extractItem { return extractItem{Path: p, Kind: tree.File, Mode: 0o644, File: -1} }
	dir := func(p string) extractItem { return extractItem{Path: p, Kind: tree.Dir, Mode: 0o755} }
	link := func(p string) extractItem { return extractItem{Path: p, Kind: tree.Symlink, Link: "x", File: -1} }
	for _, c := range []struct {
		name  string
		items []extractItem
		there string // "" for a file system that tells case
		want  string // of the error; "" for none
	}{
		{"files", []extractItem{file("README"), file("Readme")}, "", ""},
		{"files that collide", []extractItem{file("README"), file("Readme")}, "Readme", `"/README" and "/Readme" differ only in upper and lower case`},
		{"a folder and a link that collide", []extractItem{dir("Lib"), link("lib")}, "lib", `"/Lib" and "/lib" differ only in upper and lower case`},
		{"folders that collide", []extractItem{dir("Lib"), dir("lib")}, "lib", `"/Lib" and "/lib" differ only in upper and lower case`},
		{"what is there for another reason", []extractItem{file("one"), file("two")}, "two", "file exists"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			if c.there != "" {
				if err := os.WriteFile(filepath.Join(root, c.there), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var in bytes.Buffer
			enc := gob.NewEncoder(&in)
			if err := enc.Encode(extractPlan{Dir: root, Count: len(c.items)}); err != nil {
				t.Fatal(err)
			}
			for _, it := range c.items {
				if err := enc.Encode(it); err != nil {
					t.Fatal(err)
				}
			}
			err := extract(&in, io.Discard)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v; expected an error with %s", err, c.want)
			}
			for _, it := range c.items {
				if _, err := os.Lstat(filepath.Join(root, it.Path)); c.want == "" && err != nil {
					t.Error(err)
				}
			}
		})
	}
}
