package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate.dev/builder"
	"quorate.dev/builder/tree"
	"quorate.dev/diff"
	"quorate.dev/diff/cause"
	reports "quorate.dev/diff/report"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/keyfile"
)

// explainer says why rebuilders of a project disagree: package diff and its
// causes, with what the reports say of hosts, times and steps. command is what a reader
// types to compare the same again.
func explainer(p *project, command func([]rebuild.Built) string) func(context.Context, []rebuild.Built) (*rebuild.Explanation, error) {
	return func(ctx context.Context, built []rebuild.Built) (*rebuild.Explanation, error) {
		c := &cause.Context{Title: p.Definition.Name, Definition: p.DefinitionBytes, Epoch: p.Lock.Epoch, Locked: true, Inputs: inputCount(p.Lock)}
		var sides []string
		var steps []stepsLeft
		for _, b := range built {
			sides = append(sides, b.Image)
			facts, left := cause.Facts{}, stepsLeft{who: b.Rebuilder, dir: b.Steps}
			if b.Report != nil {
				left.steps = stepsInOrder(b.Report, stepNames(p.Definition))
				facts = reportFacts(b.Report, left.steps)
			}
			facts.Name = b.Rebuilder
			c.Sides, steps = append(c.Sides, facts), append(steps, left)
		}
		c.Command, c.Lists = command(built), compareLists(steps)
		res, err := diff.Compare(sides, diff.Options{Done: ctx.Done()})
		if err != nil {
			return nil, err
		}
		defer res.Close()
		for i := range res.Sides {
			res.Sides[i].Name = built[i].Rebuilder // they do not lie where they will be kept
		}
		found := cause.Find(res, c)
		e, err := explanation(res, found)
		if err == nil {
			e.Notes, e.First = notesOf(found, p.DefinitionBytes), firstStepOf(found)
		}
		return e, err
	}
}

// compareKept compares what a results folder keeps, which is named as the user named it.
func compareKept(p *project, results string) func([]rebuild.Built) string {
	return func(built []rebuild.Built) string {
		var kept []string
		for _, b := range built {
			kept = append(kept, filepath.Join(results, "rebuilders", b.Rebuilder, "image"))
		}
		return diffCommand(kept, filepath.Join(p.Dir, definition.FileName))
	}
}

func explanation(res *diff.Result, found *cause.Report) (*rebuild.Explanation, error) {
	e := &rebuild.Explanation{Files: map[string][]byte{}}
	for format, name := range map[string]string{"html": "report.html", "json": "report.json", "markdown": "report.md"} {
		var b bytes.Buffer
		if err := reports.Write(&b, format, found); err != nil {
			return nil, err
		}
		e.Files[name] = b.Bytes()
	}
	var screen bytes.Buffer
	if err := reports.Text(&screen, found); err != nil {
		return nil, err
	}
	e.Text = screen.Bytes()
	for _, c := range res.Pairs {
		one := *res
		one.Pairs = []*diff.Comparison{c}
		var text bytes.Buffer
		if err := one.WriteText(&text, nil); err != nil {
			return nil, err
		}
		e.Differences = append(e.Differences, rebuild.Differences{
			A: res.Sides[c.A].Name, B: res.Sides[c.B].Name, Paths: c.Paths(), Count: c.Total.Findings, Text: text.Bytes(), All: c,
		})
	}
	return e, nil
}

// inputCount is how many inputs a lock pins.
func inputCount(l *lockfile.Lock) int {
	n := 0
	for _, p := range l.Platforms {
		n += len(p.Packages)
	}
	return n + len(l.Files)
}

func stepNames(d *definition.Definition) []string {
	var names []string
	for _, s := range d.Steps {
		names = append(names, s.Name)
	}
	return names
}

// stepsInOrder are the steps of a report as they ran: by platform, those of the definition in its
// order, then the maintainer scripts, which run beside them. A report sorts them by name, so that of two
// of one name (a step may be called "scripts", too) nobody knows which is which.
func stepsInOrder(r *agreement.Report, names []string) []agreement.StepDigest {
	if !slices.Contains(names, builder.ScriptsStep) {
		names = append(slices.Clone(names), builder.ScriptsStep)
	}
	platforms := map[string]bool{}
	for _, s := range r.Steps {
		platforms[s.Platform] = true
	}
	var all []agreement.StepDigest
	for _, platform := range slices.Sorted(maps.Keys(platforms)) {
		for _, name := range names {
			var found []agreement.StepDigest
			for _, s := range r.Steps {
				if s.Platform == platform && s.Step == name {
					found = append(found, s)
				}
			}
			if len(found) == 1 {
				all = append(all, found...)
			}
		}
	}
	return all
}

// summaryPaths is how many paths of the first step a summary names: report.json has them all.
const summaryPaths = 100

// firstStepOf is the first step that differs in short, with what the first pair that differs there has.
func firstStepOf(found *cause.Report) *rebuild.FirstStep {
	f := found.First
	if f == nil {
		return nil
	}
	first := &rebuild.FirstStep{Name: f.Name, Platform: f.Platform, Number: f.Number, Of: f.Of}
	if len(f.Pairs) > 0 {
		first.Differ, first.Unknown = f.Pairs[0].Differ, f.Pairs[0].Unknown
		for _, p := range f.Pairs[0].Paths[:min(summaryPaths, len(f.Pairs[0].Paths))] {
			first.Paths = append(first.Paths, p.Path)
		}
	}
	return first
}

// stepsLeft is what one side's steps left: by digest, and where their lists are kept.
type stepsLeft struct {
	who   string
	steps []agreement.StepDigest // in order
	dir   string                 // for rebuild.OpenList; "" for none
}

// sideList is a list while it is read. It keeps why it cannot be read any further.
type sideList struct {
	io.ReadCloser
	who string
	err error
}

func (l *sideList) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		l.err = fmt.Errorf("%s: %w", l.who, err)
	}
	return n, err
}

func (l stepsLeft) open(step int) (*sideList, error) {
	if l.dir == "" {
		return nil, fmt.Errorf("%s gave no list of them", l.who)
	}
	list, err := rebuild.OpenList(l.dir, l.steps[step])
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s gave no list of them, or one that was not to be trusted", l.who)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", l.who, err)
	}
	return &sideList{ReadCloser: list, who: l.who}, nil
}

// compareLists compares what a step left on two sides, line by line.
func compareLists(sides []stepsLeft) func(step, a, b int) iter.Seq2[cause.StepPath, error] {
	return func(step, a, b int) iter.Seq2[cause.StepPath, error] {
		return func(yield func(cause.StepPath, error) bool) {
			x, err := sides[a].open(step)
			if err != nil {
				yield(cause.StepPath{}, err)
				return
			}
			defer x.Close()
			y, err := sides[b].open(step)
			if err != nil {
				yield(cause.StepPath{}, err)
				return
			}
			defer y.Close()
			for d, err := range tree.Compare(x, y) {
				if err != nil {
					yield(cause.StepPath{}, cmp.Or(x.err, y.err, err))
					return
				}
				if !yield(cause.StepPath{Path: d.Path, A: stepEntry(d.A), B: stepEntry(d.B)}, nil) {
					return
				}
			}
		}
	}
}

// stepEntry is an entry of a list as causes are told of it.
func stepEntry(e *tree.Entry) *cause.StepEntry {
	if e == nil {
		return nil
	}
	types := map[tree.Kind]string{tree.File: "file", tree.Dir: "folder", tree.Symlink: "symlink", tree.Hardlink: "hard link", tree.Fifo: "fifo"}
	s := &cause.StepEntry{Type: types[e.Kind], Size: e.Size, Digest: e.Digest.String(), Link: e.Link}
	if e.Kind == tree.Hardlink {
		return s // the rest is its file's
	}
	s.Mode, s.Owner = fmt.Sprintf("%04o", e.Mode), fmt.Sprintf("%d:%d", e.UID, e.GID)
	for name, value := range e.Xattrs {
		if s.Attributes == nil {
			s.Attributes = map[string]string{}
		}
		s.Attributes[name] = hex.EncodeToString([]byte(value))
	}
	return s
}

// reportFacts turns what a report says of its host into what causes are told from: what
// steps really saw comes first, for surroundings are varied on purpose. steps are those of the report, in order.
func reportFacts(r *agreement.Report, steps []agreement.StepDigest) cause.Facts {
	values := map[string]string{}
	for name, v := range r.Environment {
		switch name {
		case "work-folder":
			values["workdir"] = v
		case "time-zone":
			name, offset, _ := strings.Cut(v, " ")
			values["timezone"] = name
			if s, err := strconv.Atoi(offset); err == nil {
				values["utc-offset"] = time.Unix(0, 0).In(time.FixedZone("", s)).Format("-0700")
			}
		default:
			values[name] = v
		}
	}
	values["first-pid"] = "100" // of a step's command, unless it is varied (package sandbox)
	for name, v := range r.Surroundings {
		switch {
		case name == "cpus":
			values["cpus"] = strconv.Itoa(strings.Count(v, ",") + 1)
		case name == "kernel-release":
			values["kernel"] = uname26(values["kernel"])
		case name == "environment-lc-all":
			values["locale"] = v
		case strings.HasPrefix(name, "environment-"):
		default:
			values[name] = v
		}
	}
	f := cause.Facts{Name: r.Rebuilder, Host: values["hostname"], Values: values, Started: r.Started, Finished: r.Finished}
	for _, s := range steps {
		f.Steps = append(f.Steps, cause.Step{Name: s.Step, Platform: s.Platform, Tree: s.Tree.String()})
	}
	return f
}

// uname26 is what a kernel calls itself under personality(UNAME26): 2.6 and its
// second number and 60, then what follows its first three numbers (kernel/sys.c, override_release).
func uname26(release string) string {
	end, dots := 0, 0
	for end < len(release) && (release[end] == '.' || release[end] >= '0' && release[end] <= '9') {
		if release[end] == '.' {
			if dots++; dots >= 3 {
				break
			}
		}
		end++
	}
	numbers := strings.SplitN(release[:end], ".", 3)
	if len(numbers) < 2 {
		return release
	}
	minor, err := strconv.Atoi(numbers[1])
	if err != nil {
		return release
	}
	return fmt.Sprintf("2.6.%d%s", minor+60, release[end:])
}

// largestReport bounds a signed report: one of ten thousand inputs has some megabytes.
const largestReport = 64 << 20

// recordedContext finds what was recorded of sides that lie in a results folder of rebuild:
// RESULTS/rebuilders/NAME/image, with its report and the lists of its steps beside it and its
// key in RESULTS/keys. It is nil when a side has no record that can be opened. The steps are told
// only of the definition, text, that the sides were built from.
func recordedContext(sides []string, text []byte) *cause.Context {
	c := &cause.Context{Definition: text, Locked: true}
	var lock digest.Digest
	var names []string
	if d, err := definition.Parse(definition.FileName, text); err == nil {
		names = stepNames(d)
	}
	var lists []stepsLeft
	for i, side := range sides {
		dir, err := filepath.Abs(side)
		if err != nil || filepath.Base(dir) != "image" {
			return nil
		}
		folder := filepath.Dir(dir)
		results := filepath.Dir(filepath.Dir(folder))
		envelope, err := readSmallFile(filepath.Join(folder, "report.intoto.json"), largestReport)
		if err != nil {
			return nil
		}
		key, err := keyfile.LoadPublic(filepath.Join(results, "keys", filepath.Base(folder)+".pub"))
		if err != nil {
			return nil
		}
		r, err := attestation.OpenReport(envelope, key)
		if err != nil {
			return nil
		}
		left := stepsLeft{who: filepath.Base(folder), dir: filepath.Join(folder, rebuild.StepsDir)}
		if r.Definition == digest.Of(text) {
			left.steps = stepsInOrder(r, names)
		}
		lists = append(lists, left)
		c.Sides = append(c.Sides, reportFacts(r, left.steps))
		if i == 0 {
			lock = r.Lock
		}
		c.Locked = c.Locked && r.Lock == lock
	}
	c.Lists = compareLists(lists)
	return c
}
