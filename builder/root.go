package builder

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/tree"
)

// root is a set of packages made into folders that commands can run over.
//
//	lower/  the packages' files, unpacked, never written to again
//	state/  what preinst and postinst scripts changed: an overlay's upper folder
type root struct {
	dir string
}

func (r root) lower() string { return filepath.Join(r.dir, "lower") }
func (r root) state() string { return filepath.Join(r.dir, "state") }

// configured returns the root of a package set whose scripts have run, making
// it when the store has none.
func (b *build) configured(ctx context.Context, name string, set *packageSet) (root, error) {
	key := newKey("root").str(string(b.Sandbox.Mapping())).num(b.epoch).bool(b.Surroundings.ReverseOrder).digest(set.key()).done()
	made := false
	dir, err := b.Store.Derived(ctx, "root", key, func(dir string) error {
		made = true
		return b.makeRoot(ctx, name, set, root{dir})
	})
	if err != nil {
		return root{}, err
	}
	if !made {
		b.event(Event{Phase: "scripts", Name: name, Done: true, Cached: true})
	}
	return root{dir}, nil
}

func (b *build) makeRoot(ctx context.Context, name string, set *packageSet, r root) error {
	if err := b.load(ctx, set); err != nil {
		return err
	}
	if err := b.complete(name, set, nil); err != nil {
		return err
	}
	done := b.phase("root", name, 0)
	t, err := set.unconfigured(b.platform.DebianArchitecture(), b.epoch)
	if err != nil {
		return err
	}
	if err := b.extract(ctx, r.lower(), t); err != nil {
		return err
	}
	done()
	done = b.phase("scripts", name, 0)
	if err := os.Mkdir(r.state(), 0o755); err != nil {
		return err
	}
	if err := b.runScripts(ctx, name, set, r); err != nil {
		return err
	}
	if err := b.stamp(ctx, r.state()); err != nil {
		return err
	}
	done()
	return nil
}

// stamp gives what scripts left times by rule and removes what tells of their
// run, so that a step sees the same root on every host: one that packs parts of
// /etc with their times would differ otherwise.
func (b *build) stamp(ctx context.Context, dir string) error {
	plan := stampPlan{Dir: dir, Epoch: b.epoch}
	for p := range forgotten {
		plan.Forget = append(plan.Forget, p)
	}
	for p := range emptied {
		plan.Empty = append(plan.Empty, p)
	}
	var in bytes.Buffer
	if err := gob.NewEncoder(&in).Encode(plan); err != nil {
		return err
	}
	if err := b.Sandbox.Task(ctx, taskStamp, &in, io.Discard); err != nil {
		return fmt.Errorf("after maintainer scripts: %w", err)
	}
	return nil
}

// extract makes a tree's files below dir.
func (b *build) extract(ctx context.Context, dir string, t *tree.Tree) error {
	plan := extractPlan{
		Dir: dir, Epoch: b.epoch, Reverse: b.Surroundings.ReverseOrder,
		Owners: b.Sandbox.Mapping() != sandbox.Single,
	}
	entries := t.Entries()
	plan.Count = len(entries)
	files := map[string]int{}
	items := make([]extractItem, len(entries))
	for i, e := range entries {
		it, err := newExtractItem(e)
		if err != nil {
			return err
		}
		if s, ok := e.Content.(tree.Section); ok && e.Size > 0 {
			n, known := files[s.File]
			if !known {
				n = len(plan.Files)
				files[s.File] = n
				plan.Files = append(plan.Files, s.File)
			}
			it.File, it.Offset = n, s.Offset
		}
		items[i] = it
	}
	pr, pw := io.Pipe()
	go func() {
		enc := gob.NewEncoder(pw)
		err := enc.Encode(plan)
		for i := 0; err == nil && i < len(items); i++ {
			err = enc.Encode(items[i])
		}
		pw.CloseWithError(err)
	}()
	defer pr.Close()
	if err := b.Sandbox.Task(ctx, taskExtract, pr, io.Discard); err != nil {
		if damage := firstDamage(ctx, entries); damage != nil {
			return damage // a task's error is only text
		}
		return fmt.Errorf("unpacking files into a root: %w", err)
	}
	return nil
}

// firstDamage reads contents until some are not what they should be.
func firstDamage(ctx context.Context, entries []tree.Entry) error {
	for _, e := range entries {
		if e.Kind != tree.File || ctx.Err() != nil {
			continue
		}
		if err := copyContent(io.Discard, e); err != nil {
			return err
		}
	}
	return nil
}

func newExtractItem(e tree.Entry) (extractItem, error) {
	it := extractItem{
		Path: e.Path, Kind: e.Kind, Mode: e.Mode, UID: e.UID, GID: e.GID, ModTime: e.ModTime,
		Size: e.Size, Digest: e.Digest, Link: e.Link, Xattrs: e.Xattrs, File: -1,
	}
	switch c := e.Content.(type) {
	case nil, tree.Section:
	case tree.Bytes:
		it.Inline = c
	default:
		return it, fmt.Errorf("cannot unpack %q: its bytes are neither in a file nor in memory", e.Path)
	}
	return it, nil
}

// removeTree deletes a folder that may hold files of any mapped owner.
func removeTree(ctx context.Context, r sandbox.Runner, dir string) error {
	var in bytes.Buffer
	if err := gob.NewEncoder(&in).Encode(dir); err != nil {
		return err
	}
	return r.Task(ctx, taskRemove, &in, io.Discard)
}

// Remover returns what a store needs to delete roots (store.Options.Remove).
func Remover(r sandbox.Runner) func(dir string) error {
	return func(dir string) error { return removeTree(context.Background(), r, dir) }
}

// scanned is what a folder holds, with contents as ranges of one file.
type scanned struct {
	entries []tree.Entry
	opaque  []string
}

// scan lists dir; contents go to the new file data.
func (b *build) scan(ctx context.Context, dir, data string, skip ...string) (*scanned, error) {
	var in, out bytes.Buffer
	if err := gob.NewEncoder(&in).Encode(scanPlan{Dir: dir, Data: data, Skip: skip}); err != nil {
		return nil, err
	}
	if err := b.Sandbox.Task(ctx, taskScan, &in, &out); err != nil {
		return nil, fmt.Errorf("listing what was left: %w", err)
	}
	var answer scanAnswer
	if err := gob.NewDecoder(&out).Decode(&answer); err != nil {
		return nil, fmt.Errorf("listing what was left: %w", err)
	}
	for i := range answer.Entries {
		e := &answer.Entries[i]
		e.ModTime = b.epoch // the mtime rule: all that a step or script wrote has the epoch
		if e.Kind == tree.File && e.Size > 0 {
			e.Content = tree.Section{File: data, Offset: answer.Offsets[i], Size: e.Size}
		}
	}
	return &scanned{entries: answer.Entries, opaque: answer.Opaque}, nil
}

// overlay turns what the kernel left in an upper folder into the tree that a
// process saw: lower with the upper's entries over it, its whiteouts and
// opaque folders honoured. Files that were only copied up, same in all that an
// image holds, keep the lower's mtime.
func (s *scanned) overlay(lower *tree.Tree) (*tree.Tree, error) {
	over := make(map[string]tree.Entry, len(s.entries))
	gone := map[string]bool{} // whiteouts, and folders whose lower contents are hidden
	for _, e := range s.entries {
		if e.Kind == tree.Whiteout {
			gone[e.Path] = true
			continue
		}
		over[e.Path] = e
		if e.Kind != tree.Dir {
			gone[e.Path] = true // a file in place of a folder hides what was below
		}
	}
	for _, p := range s.opaque {
		gone[p] = true
	}
	var all []tree.Entry
	kept := map[string]bool{}
	for _, e := range lower.Entries() {
		if o, ok := over[e.Path]; ok {
			if sameButTime(e, o) {
				all = append(all, e)
				kept[e.Path] = true
				delete(over, e.Path)
			}
			continue
		}
		if !hidden(e.Path, gone) {
			all = append(all, e)
			kept[e.Path] = true
		}
	}
	relink(all, lower, kept)
	for _, e := range over {
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Path < all[j].Path })
	return tree.New(all)
}

// relink mends the hard links whose first name was changed or removed:
// overlayfs breaks a link when it copies one of its names up, so the remaining
// names go on as the file that lower holds.
func relink(entries []tree.Entry, lower *tree.Tree, kept map[string]bool) {
	heir := map[string]string{}
	for i, e := range entries {
		if e.Kind != tree.Hardlink || kept[e.Link] {
			continue
		}
		if h, ok := heir[e.Link]; ok {
			entries[i].Link = h
			continue
		}
		first, _ := lower.Lookup(e.Link)
		heir[e.Link] = e.Path
		first.Path = e.Path
		entries[i] = first
	}
}

func hidden(p string, gone map[string]bool) bool {
	for {
		if gone[p] {
			return true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			return false
		}
		p = p[:i]
	}
}

func sameButTime(a, b tree.Entry) bool {
	if a.Kind != b.Kind || a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.Size != b.Size ||
		a.Digest != b.Digest || a.Link != b.Link || len(a.Xattrs) != len(b.Xattrs) {
		return false
	}
	for k, v := range a.Xattrs {
		if b.Xattrs[k] != v {
			return false
		}
	}
	return true
}
