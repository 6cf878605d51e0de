package builder

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"

	"quorate.dev/builder/tree"
)

// A spooled tree is a folder with two files: its canonical listing, and the
// contents of its regular files one after the other in the listing's order.
const (
	spoolIndex = "index.mtree"
	spoolData  = "data"
)

// saveSpooled writes the listing beside the data, which scan or unpacking wrote.
func saveSpooled(dir string, entries []tree.Entry) error {
	t, err := newExactTree(entries)
	if err != nil {
		return err
	}
	var list bytes.Buffer
	if err := t.Format(&list); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, spoolIndex), list.Bytes(), 0o644) //nolint:gosec // nothing secret
}

// loadSpooled reads a spooled tree; every entry gets the epoch as its time.
func loadSpooled(dir string, epoch int64) (*tree.Tree, error) {
	index := filepath.Join(dir, spoolIndex)
	f, err := os.Open(index)
	if err != nil {
		return nil, &DerivedError{File: index, Err: err}
	}
	defer f.Close()
	t, err := tree.Parse(f)
	if err != nil {
		return nil, &DerivedError{File: index, Err: err}
	}
	entries := t.Entries()
	data := filepath.Join(dir, spoolData)
	var offset int64
	for i := range entries {
		e := &entries[i]
		e.ModTime = epoch
		if e.Kind == tree.File && e.Size > 0 {
			e.Content = tree.Section{File: data, Offset: offset, Size: e.Size}
			offset += e.Size
		}
	}
	return tree.New(entries)
}

func newExactTree(entries []tree.Entry) (*tree.Tree, error) {
	sorted := append([]tree.Entry(nil), entries...)
	sortStable(sorted, func(a, b tree.Entry) bool { return a.Path < b.Path })
	return tree.New(sorted)
}

func writeJSON(file string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o644) //nolint:gosec // nothing secret
}

func readJSON(file string, v any) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}
